//go:build linux

package e2e

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"sallyport/authority/store/storetest"
	"sallyport/internal/event"
	"sallyport/internal/factor/push"
	"sallyport/internal/testkit/sandbox"
)

// TestTwoNodesOnPostgreSQL: the computer is at one, the phone at the other; a node
// dies, and the database does.
func TestTwoNodesOnPostgreSQL(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	database := storetest.PostgreSQL(t)
	dir := t.TempDir()
	url := filepath.Join(dir, "database.url")
	ok(t, os.WriteFile(url, []byte(database.URL()+"\n"), 0o600))
	s := newSite(t, allowAtOnce, "--database-url-file", url, "--node", "a")
	a := s.authority
	b, err := a.Node(filepath.Join(dir, "b"), "b")
	ok(t, err)
	watch(t, "node b", b.Daemon)
	laptop := s.computer("laptop", append([]string{"[push]", "concurrent = 0", "per_service = 0"}, often...)...)
	p := s.phone("Pixel")
	p.Via(b.Pages)
	laptop.pin(p, maya) // enrolled at the one, by the other
	q := s.phone("Nokia")
	q.Via(b.Pages)
	s.enrol(q, zoe)
	laptop.event(0, event.SyncApplied, "1 phones may approve")
	laptop.byPhone(p, maya)
	laptop.byPhone(q, zoe)

	t.Log("the computer's node dies while a phone rings")
	l := laptop.rings(maya)
	ok(t, a.Kill())
	began := time.Now()
	laptop.codeOnly(zoe).types(laptop.codes[zoe].Next(), true, "code_accepted")
	if took := time.Since(began); took > codeTime {
		t.Errorf("a login without the node took %v", took)
	}
	laptop.replugged(b.Devices) // as a load balancer does
	answers(t, p, push.Approve, l.Number)
	l.ends(true, "push_approved")
	laptop.byPhone(q, zoe)

	t.Log("the database stops while a phone rings")
	l = laptop.rings(maya)
	w, err := p.Rings(soon(t))
	ok(t, err)
	database.Kill()
	began = time.Now()
	laptop.byCode(zoe)
	if took := time.Since(began); took > codeTime {
		t.Errorf("a login without the database took %v", took)
	}
	if !laptop.status().Authority.Connected {
		t.Error("the stream ended with the database")
	}
	approval := p.Key.Answer(w.Challenge, push.Approve, l.Number)
	if err := p.Post(soon(t), w.ID, approval); refused(t, err) != 503 {
		t.Errorf("the phone was told %v: what was not kept must not look sent", err)
	}
	database.Start(t)
	eventually(t, "the approval is taken", func() bool { return p.Post(soon(t), w.ID, approval) == nil })
	l.ends(true, "push_approved")
	if err := p.Post(soon(t), w.ID, approval); refused(t, err) < 400 {
		t.Error("it was taken twice")
	}
	eventually(t, "push works again", func() bool { return laptop.person(maya).PushState == "ready" })
	laptop.byPhone(p, maya)
	if n := laptop.count(event.LoginAttempt, "push_approved"); n != 6 {
		t.Errorf("%d logins were approved, want 6: each once", n)
	}

	t.Log("the first node is back")
	ok(t, a.Start())
	watch(t, "authority", a.Daemon)
	laptop.cable.Plug(a.Devices)
	laptop.event(0, event.AgentStarted, "") // still the same agent
	eventually(t, "a login is approved by way of both", func() bool {
		l := laptop.login(zoe)
		if l.Number == "" {
			l.Close()
			return false
		}
		alone(t, q)
		answers(t, q, push.Approve, l.Number)
		l.ends(true, "push_approved")
		return true
	})
}
