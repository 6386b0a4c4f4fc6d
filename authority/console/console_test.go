package console

import (
	"net/url"
	"testing"
)

func TestAnOperatorLogsInAndHelps(t *testing.T) {
	w := newWorld(t)
	c := w.in("anna", Helpdesk)
	if r := c.get("/people"); r.status != 200 {
		t.Fatalf("%+v", r)
	}
	r := c.submits("bypass", url.Values{"user": {"alice"}, "device": {laptop}}, url.Values{"life": {"1h"}, "reason": {"lost phone"}})
	t.Logf("%d %s", r.status, r.body)
	for _, p := range []string{"/person?name=alice", "/devices", "/device?id=" + laptop, "/events", "/requests", "/act/phone?user=alice"} {
		if r := c.get(p); r.status != 200 {
			t.Errorf("%s: %+v", p, r)
		}
	}
	t.Log(w.log.String())
}
