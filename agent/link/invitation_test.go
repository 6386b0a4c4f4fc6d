package link

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"sallyport/agent/store"
	"sallyport/internal/event"
	"sallyport/internal/vault"
	authorityv1 "sallyport/proto/sallyport/authority/v1"
)

func (c *computer) invited() (i *store.Invitation) {
	c.t.Helper()
	if err := c.store.View(func(tx *vault.Tx) (err error) { i, err = store.Invited(tx); return err }); err != nil {
		c.t.Fatal(err)
	}
	return i
}

// invite has the computer join an authority that cannot be reached.
func (c *computer) invite(a *authority) {
	c.t.Helper()
	a.server.Stop()
	if now, err := c.link.JoinLater(c.t.Context(), "sid:S-1-5-18", a.url(), a.token().String(), "laptop"); now || err != nil {
		c.t.Fatalf("it joined: %v, %v", now, err)
	}
}

func TestAnInvitationWaitsUntilTheAuthorityIsReached(t *testing.T) {
	c := newComputer(t)
	a := newAuthority(t, c.clock)
	c.invite(a)
	c.run()
	c.eventually("it tries", func() bool {
		s := c.link.State()
		return s.Joining == a.url() && s.LastError != ""
	})
	c.stop()
	if i := c.invited(); i == nil || i.URL != a.url() {
		t.Fatalf("after a stop the invitation is %+v", i)
	}

	a.listen(a.addr)
	c.run()
	c.until("connected", func() bool { return c.link.State().Connected })
	if e := c.event(event.AuthorityJoined, a.url()); e.By != "sid:S-1-5-18" {
		t.Errorf("the event is %+v", e)
	}
	if i := c.invited(); i != nil || c.link.State().Joining != "" || c.authorityKept().DeviceName != "laptop" {
		t.Errorf("left are the invitation %+v, the state %+v, the authority %+v", i, c.link.State(), c.authorityKept())
	}
	if strings.Contains(c.log.String(), a.token().String()) {
		t.Error("the token is in the log")
	}
}

func TestAnInvitationThatIsRefusedIsForgotten(t *testing.T) {
	c := newComputer(t)
	a := newAuthority(t, c.clock)
	c.invite(a)
	a.register = func(*authorityv1.RegisterRequest) (*authorityv1.RegisterResponse, error) {
		return nil, status.Error(codes.Unauthenticated, "it is used up")
	}
	a.listen(a.addr)
	c.run()
	e := c.event(event.AuthorityRefused, "could not join "+a.url())
	if !strings.Contains(e.Text, "it is used up") || strings.Contains(e.Text, a.token().String()) {
		t.Errorf("the event is %+v", e)
	}
	c.eventually("forgotten", func() bool { return c.link.State().Joining == "" })
	c.stop()
	if i := c.invited(); i != nil || a.count(&a.registers) != 1 {
		t.Errorf("the invitation is %+v, after %d attempts", i, a.count(&a.registers))
	}
}

func TestJoinLaterJoinsAtOnceOrSaysWhatIsWrong(t *testing.T) {
	c := newComputer(t)
	a := newAuthority(t, c.clock)
	for _, token := range []string{"", a.token().String()[:40]} {
		if _, err := c.link.JoinLater(t.Context(), "uid:0", a.url(), token, ""); err == nil || c.invited() != nil {
			t.Errorf("the token %q: %v; the invitation is %+v", token, err, c.invited())
		}
	}
	if now, err := c.link.JoinLater(t.Context(), "uid:0", a.url(), a.token().String(), "laptop"); !now || err != nil || c.authorityKept() == nil {
		t.Errorf("it joined: %v, %v", now, err)
	}
}
