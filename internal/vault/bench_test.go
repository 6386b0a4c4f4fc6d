package vault

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"sallyport/internal/event"
)

// fill stores n users, as they look in the agent.
func fill(t testing.TB, v *Vault, n int) {
	t.Helper()
	for at := 0; at < n; at += 10000 {
		if err := v.Update(context.Background(), func(tx *Tx) error {
			for i := at; i < min(at+10000, n); i++ {
				if err := tx.Put(Users, fmt.Sprint("uid:", i), benchUser(i)); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
}

type benchRecord struct {
	Name, Secret string
	Step         int64
	Recovery     [10]string
}

func benchUser(i int) benchRecord {
	r := benchRecord{Name: fmt.Sprint("user", i), Secret: "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ", Step: int64(i)}
	for n := range r.Recovery {
		r.Recovery[n] = "c2FsbHlwb3J0c2FsbHlwb3J0c2Fs"
	}
	return r
}

// login is what a TOTP login does to the vault.
func login(v *Vault, key string) error {
	return v.Update(context.Background(), func(tx *Tx) error {
		var r benchRecord
		if _, err := tx.Get(Users, key, &r); err != nil {
			return err
		}
		r.Step++
		tx.Append(event.Event{Name: event.LoginAttempt, User: r.Name, Key: key, Service: "sshd", Verdict: "allow", Factor: "totp"})
		return tx.Put(Users, key, r)
	})
}

func BenchmarkUpdate(b *testing.B) {
	for _, users := range []int{1, 1000, 100000} {
		o := options(b)
		v := mustOpen(b, o)
		fill(b, v, users)
		for _, at := range []int{1, 64} {
			b.Run(fmt.Sprintf("users=%d/at-once=%d", users, at), func(b *testing.B) {
				var mu sync.Mutex
				var took []time.Duration
				var wg sync.WaitGroup
				next := make(chan int, b.N)
				for i := range b.N {
					next <- i
				}
				close(next)
				b.ResetTimer()
				for range at {
					wg.Go(func() {
						for i := range next {
							begun := time.Now()
							if err := login(v, fmt.Sprint("uid:", i*7919%users)); err != nil {
								b.Error(err)
								return
							}
							mu.Lock()
							took = append(took, time.Since(begun))
							mu.Unlock()
						}
					})
				}
				wg.Wait()
				b.StopTimer()
				slices.Sort(took)
				b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
				b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
			})
		}
		mustClose(b, v)
		begun := time.Now()
		v = mustOpen(b, o)
		b.Logf("opened with %d users in %v", users, time.Since(begun))
		mustClose(b, v)
	}
}
