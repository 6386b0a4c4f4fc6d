package accounts

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestADomainOutOfReachIsAskedForOnce(t *testing.T) { synctest.Test(t, outOfReach) }

func outOfReach(t *testing.T) {
	answer := make(chan bool)
	asked := 0
	r := reach{ask: func(domain string) bool { asked++; return <-answer && domain == "CORP" }}
	// Nothing answers: whoever asks waits for a while, and together.
	begin := time.Now()
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			if r.answer("CORP") {
				t.Error("it is there")
			}
		})
	}
	all.Wait()
	if waited := time.Since(begin); waited != reachPatience || r.answer("CORP") {
		t.Errorf("ten names waited %s", waited)
	}
	// The answer, however late, is everybody's.
	late := r.asking
	answer <- true
	<-late
	if !r.answer("CORP") || asked != 1 {
		t.Errorf("asked %d times", asked)
	}
	r.until = time.Now()
	go func() { answer <- false }()
	for range 2 {
		if r.answer("CORP") || asked != 2 {
			t.Errorf("a no: asked %d times", asked)
		}
	}
	if left := time.Until(r.until); left != noTTL {
		t.Errorf("a no counts for %s", left)
	}
}
