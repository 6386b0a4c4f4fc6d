package console

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sallyport/authority/store"
)

// FuzzConsole: whatever an operator's browser sends, there is no error of the server's,
// and a GET changes nothing.
func FuzzConsole(f *testing.F) {
	w := newWorld(f, "bypass")
	c := w.in("anna", Admin)
	cookie := c.cookie
	f.Add("GET", "people", "q=alice&after=%00", "")
	f.Add("GET", "person", `name=corp%5Czo%C3%AB&done=waits`, "")
	f.Add("GET", "device", "id="+laptop, "")
	f.Add("GET", "events", "user=alice&device=x&name=login_attempt&verdict=deny&text=a&from=2026-01-01&to=9999-12-31&cursor=AAAA", "")
	f.Add("GET", "events/new", "after=18446744073709551615", "")
	f.Add("GET", "act/phone_remove", "user=alice&phone=x", "")
	f.Add("POST", "act/bypass", "", "user=alice&device="+laptop+"&life=1h&reason=x")
	f.Add("POST", "act/operator_role", "", "operator=anna&role=read")
	f.Add("POST", "request/approve", "", "id=x")
	f.Fuzz(func(t *testing.T, method, path, query, body string) {
		for _, b := range []byte(path + query) {
			if b <= ' ' || b > '~' {
				return
			}
		}
		if method != "GET" && method != "POST" || strings.ContainsAny(path, "?#%") || strings.Contains(query, "#") || strings.HasPrefix(path, "log") {
			return
		}
		w.t = t
		w.pass(200 * time.Millisecond) // fills the bucket; the session lasts
		c.cookie = cookie
		last := func() (n uint64) {
			w.view(func(tx store.Tx) (err error) { n, err = tx.LastEvent(); return err })
			return n
		}
		before := last()
		r := httptest.NewRequest(method, "/"+strings.TrimLeft(path, "/")+"?"+query, strings.NewReader(body+"&form="+w.formToken(c, strings.TrimLeft(path, "/"))))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", w.origin)
		got := c.send(r)
		if got.status >= 500 {
			t.Errorf("%s %s?%s: %d %s", method, path, query, got.status, w.log.String())
		}
		if method == "GET" && last() != before {
			t.Errorf("GET %s?%s changed something", path, query)
		}
	})
}
