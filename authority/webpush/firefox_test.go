package webpush

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sallyport/internal/testkit/firefox"
)

// The page subscribes, its worker says what came.
const (
	testPage = `<!doctype html><meta charset="utf-8"><title>t</title><script>
const got = [];
new BroadcastChannel("t").onmessage = e => got.push(e.data);
async function subscribe(key) {
	await navigator.serviceWorker.register("/worker.js");
	const r = await navigator.serviceWorker.ready;
	return JSON.stringify(await r.pushManager.subscribe({userVisibleOnly: true, applicationServerKey: key}));
}
</script>`
	testWorker = `
self.onpush = e => {
	const text = e.data ? e.data.text() : "(nothing)";
	if (text === "fail") return e.waitUntil(Promise.reject(new Error("as asked")));
	e.waitUntil((async () => {
		await self.registration.showNotification("Sallyport", {body: text});
		const shown = (await self.registration.getNotifications()).map(n => n.body);
		new BroadcastChannel("t").postMessage({text, shown});
	})());
};`
)

// A real browser is the judge of the encryption and the token.
func TestARealFirefoxIsRung(t *testing.T) {
	if err := firefox.Installed(); err != nil {
		t.Skip(err)
	}
	service, err := firefox.NewPushService()
	if err != nil {
		t.Fatal(err)
	}
	defer service.Close()
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/worker.js" {
			w.Header().Set("Content-Type", "text/javascript")
			_, _ = fmt.Fprint(w, testWorker)
			return
		}
		w.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprint(w, testPage)
	}))
	defer web.Close()
	browser, err := firefox.Start(t.Context(), service)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := browser.Close(); err != nil {
			t.Error(err)
		}
	}()
	tab, err := browser.Open(strings.Replace(web.URL, "127.0.0.1", "localhost", 1) + "/")
	if err != nil {
		t.Fatal(err)
	}
	s := newSender(t, Options{UnsafeLocal: []string{service.Host()}})
	s.now = time.Now // the push service looks at its own clock
	key, _ := json.Marshal(s.PublicKey())
	var subscription string
	if err := tab.Eval(fmt.Sprintf("subscribe(%s)", key), &subscription); err != nil {
		t.Fatal(err)
	}
	if err := s.Check([]byte(subscription)); err != nil {
		t.Fatalf("%v: %s", err, subscription)
	}

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	longest := strings.Repeat("ü", MaxPayload/2)
	for i, text := range []string{"maya wants to log in", longest, "fail"} {
		began := time.Now()
		if err := s.Ring(ctx, []byte(subscription), []byte(text), time.Minute); err != nil {
			t.Fatal(err)
		}
		acks, err := service.Acked(ctx, i+1)
		if err != nil {
			t.Fatal(err)
		}
		if acks[i].Code != firefox.Delivered {
			t.Errorf("message %d was acknowledged with %d", i, acks[i].Code)
		}
		// The acknowledgement says that the worker began, not that it is done: two of
		// its messages may overtake each other.
		if text != "fail" {
			if err := tab.Wait(fmt.Sprintf("got.length == %d", i+1)); err != nil {
				t.Fatal(err)
			}
		}
		t.Logf("message %d: %v", i, time.Since(began).Round(time.Millisecond))
	}
	// What a worker fails at is told as well: so silence above means something.
	if acks, err := service.Acked(ctx, 4); err != nil || acks[3].Code != firefox.Rejected {
		t.Errorf("the worker that failed: %v %v", acks, err)
	}
	var got []struct {
		Text  string
		Shown []string
	}
	if err := tab.Eval("got", &got); err != nil {
		t.Fatal(err)
	}
	if got[0].Text != "maya wants to log in" || len(got[0].Shown) != 1 || got[0].Shown[0] != got[0].Text || got[1].Text != longest {
		t.Errorf("the worker got %.300v", got)
	}

	// Another authority cannot use the subscription, and one that is gone is told so.
	other := newSender(t, Options{UnsafeLocal: []string{service.Host()}})
	other.now = time.Now
	if err := other.Ring(ctx, []byte(subscription), nil, time.Minute); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("another sender: %v", err)
	}
	service.Forget()
	if err := s.Ring(ctx, []byte(subscription), nil, time.Minute); !errors.Is(err, ErrGone) {
		t.Errorf("a subscription that is gone: %v", err)
	}
}
