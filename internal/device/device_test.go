package device

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Nothing at a login hangs on what the system does not say.
func TestASystemThatDoesNotSayHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := make(chan Facts)
		var asked atomic.Int32
		r := Reader{Read: func(context.Context) Facts { asked.Add(1); return <-answer }}
		boot := time.Hour
		want := func(name string, known, encrypted bool, waited time.Duration) {
			t.Helper()
			start := time.Now()
			got := r.Facts(boot).Encrypted
			if got.Known != known || got.Yes != encrypted || time.Since(start) != waited {
				t.Errorf("%s: %+v after %s", name, got, time.Since(start))
			}
		}
		want("it has not said yet", false, false, patience)
		want("nor the second time", false, false, patience)
		if n := asked.Load(); n != 1 {
			t.Errorf("asked %d times at once", n)
		}
		answer <- Facts{Encrypted: yes(true), OS: osName}
		synctest.Wait()
		want("it said so", true, true, 0)
		boot += fresh - 1
		want("a moment before it is asked again", true, true, 0)
		boot++
		want("while it is asked again", true, true, 0)
		boot += good
		want("what it said long ago is not known any more", false, false, patience)
		answer <- Facts{Encrypted: yes(false), OS: osName}
		synctest.Wait()
		boot -= good
		want("another answer", true, false, 0)
		if n := asked.Load(); n != 2 {
			t.Errorf("asked %d times, want 2", n)
		}
	})
}

func TestThisComputer(t *testing.T) {
	f := system(t.Context())
	if f.OS != osName || !f.Encrypted.Known && f.Encrypted.Why == "" || !f.TPM.Known && f.TPM.Why == "" {
		t.Errorf("%+v", f)
	}
}

func TestTheNetworksOfThisComputer(t *testing.T) {
	first, err := Networks()
	if err != nil && runtime.GOOS == "windows" {
		t.Skipf("this system does not say, as Wine's does not: %v", err)
	}
	if again, err2 := Networks(); err != nil || err2 != nil || first == "" || again != first {
		t.Errorf("%q, %v, and then %q, %v", first, err, again, err2)
	}
}
