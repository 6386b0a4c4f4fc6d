package store

import (
	"context"
	"sync"
)

// maxNotices is how many notices wait for a listener that is slow; then they
// become one TopicResync.
const maxNotices = 4096

// hub hands notices to the listeners of this process.
type hub struct {
	mu        sync.Mutex
	listeners map[*listener]struct{}
	// ready: nothing is being missed now. Who begins to listen before waits for its
	// first TopicResync.
	ready bool
}

// listener is one call of Listen.
type listener struct {
	mu    sync.Mutex
	queue []Notice
	wake  chan struct{} // of one
}

func newHub() *hub { return &hub{listeners: make(map[*listener]struct{})} }

func (l *listener) put(list ...Notice) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.queue = append(l.queue, list...); len(l.queue) > maxNotices {
		l.queue = []Notice{{Topic: TopicResync}}
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (h *hub) publish(list ...Notice) {
	if len(list) == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for l := range h.listeners {
		l.put(list...)
	}
}

// resync says that from now on nothing is missed, and that something may have
// been until now.
func (h *hub) resync() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ready = true
	for l := range h.listeners {
		l.put(Notice{Topic: TopicResync})
	}
}

func (h *hub) notReady() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ready = false
}

func (h *hub) listened() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.listeners) > 0
}

// listen adds a listener until ctx ends or stop closes.
func (h *hub) listen(ctx context.Context, stop <-chan struct{}) <-chan Notice {
	l := &listener{wake: make(chan struct{}, 1)}
	h.mu.Lock()
	h.listeners[l] = struct{}{}
	if h.ready {
		l.put(Notice{Topic: TopicResync})
	}
	h.mu.Unlock()
	to := make(chan Notice)
	go func() {
		defer close(to)
		defer func() {
			h.mu.Lock()
			defer h.mu.Unlock()
			delete(h.listeners, l)
		}()
		for {
			select {
			case <-l.wake:
			case <-ctx.Done():
				return
			case <-stop:
				return
			}
			l.mu.Lock()
			list := l.queue
			l.queue = nil
			l.mu.Unlock()
			for _, n := range list {
				select {
				case to <- n:
				case <-ctx.Done():
					return
				case <-stop:
					return
				}
			}
		}
	}()
	return to
}
