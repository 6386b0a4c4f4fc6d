package link

import (
	"sync"
	"testing"
	"time"

	"sallyport/authority/enrol"
	"sallyport/authority/store"
	"sallyport/authority/store/storetest"
)

// TestManyComputersJoinAtOnce: none of them is in another's way for long.
func TestManyComputersJoinAtOnce(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open func(string) store.Store) {
		w := newNode(t, open("a"), makeKeys(t), new(clockwork))
		const n = 256
		secrets := make([][]byte, n)
		for i := range secrets {
			token := w.token([]string{enrol.Everyone}, "")
			secrets[i] = token.Secret[:]
		}
		key := newKey(t)
		csr := csrOf(t, key)
		var all sync.WaitGroup
		var next = make(chan int, n)
		for i := range n {
			next <- i
		}
		close(next)
		began := time.Now()
		for range 64 {
			all.Go(func() {
				for i := range next {
					if _, err := w.enrol.Register(t.Context(), enrol.JoinRequest{Token: secrets[i], CSR: csr, Name: "laptop", SealingKey: make([]byte, 32), Version: "1", Platform: "linux/amd64"}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		t.Logf("%d joined in %v", n, time.Since(began))
	})
}
