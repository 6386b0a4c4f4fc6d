package push

import (
	"context"
	"strings"
	"testing"
	"time"
)

// hanging is a ringer whose push services of one company do not answer.
type hanging struct {
	company string
	begun   chan struct{}
	rang    chan string
}

func (h hanging) Ring(ctx context.Context, subscription, _ []byte, _ time.Duration) error {
	if strings.Contains(string(subscription), h.company) {
		h.begun <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}
	h.rang <- string(subscription)
	return nil
}

func within(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(time.Minute):
		t.Fatal("not in time: " + what)
	}
}

// TestOnePushServiceThatHangsHoldsUpNoOther: Apple's is down, and Android's phones
// ring at once. Whoever waits for it when the login is over is not rung.
func TestOnePushServiceThatHangsHoldsUpNoOther(t *testing.T) {
	h := hanging{"push.apple.com", make(chan struct{}, 1000), make(chan string, 1000)}
	s := New(Options{Ringer: h})
	apple := []byte(`{"endpoint":"https://web.push.apple.com/x"}`)
	for range ringsAtOnce {
		s.ring(nil, apple, nil, time.Hour)
	}
	for range ringsAtOnce {
		within(t, "a message to Apple", h.begun)
	}
	// Another name of the same company's is no other.
	s.ring(nil, []byte(`{"endpoint":"https://other.push.apple.com/x"}`), nil, 0)
	s.ring(nil, []byte(`{"endpoint":"https://fcm.googleapis.com/x"}`), nil, time.Hour)
	select {
	case <-h.rang:
	case <-time.After(time.Minute):
		t.Fatal("Android's phone does not ring")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Wait()
	}()
	s.end() // as Wait does after a while
	within(t, "the end", done)
	if n := len(h.begun); n != 0 {
		t.Errorf("%d messages were sent that were too late", n)
	}
	// What is no subscription, or one of many services, has a place as well.
	for i := range 2 * maxServices {
		s.slotsOf([]byte(`{"endpoint":"https://x` + strings.Repeat("y", i) + `.example"}`))
	}
	if s.slotsOf([]byte(`?`)) == nil || len(s.slots) > maxServices+1 {
		t.Errorf("%d services", len(s.slots))
	}
}
