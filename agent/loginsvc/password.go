package loginsvc

import (
	"context"
	"errors"
	"time"

	"sallyport/internal/accounts"
	"sallyport/internal/engine"
	"sallyport/internal/factor"
	"sallyport/internal/identity"
	"sallyport/internal/password"
	loginv1 "sallyport/proto/sallyport/login/v1"
)

const textNotNow = "This computer cannot check your password right now."

// agreeTime is how long the look-up of a name may take whose owner is known by the
// password: a laptop out of reach of its domain is not to wait for it at each step.
const agreeTime = time.Second

// proof is what the check of the password said.
type proof struct {
	right  bool
	user   accounts.User // zero: the system did not say
	groups []identity.ID // nil: the system did not say
}

// firstFactor has the system check the password, which a credential provider asks
// for before the system does. It comes before everything else: whoever does not
// have it learns nothing of the account, counts against nobody and has no phone
// rung. A reason ends the login. The name is not in its event: it may be anything
// that was typed.
//
// A process that is not the system's may guess passwords by this, as it may by
// LogonUserW itself; admission bounds it.
func (l *login) firstFactor() (reason factor.Reason, text string) {
	typed := l.begin.GetPassword()
	defer clear(typed)
	provider := l.begin.GetHook() == loginv1.HookKind_HOOK_KIND_CREDENTIAL_PROVIDER
	switch {
	case l.Password == nil && provider:
		l.event.Text = "the hook says that it is a credential provider, and this system has none"
		return engine.ReasonProtocol, ""
	case l.Password == nil:
		return "", ""
	case !provider || l.begin.GetStage() != loginv1.Stage_STAGE_AUTHENTICATE:
		// It would come by without a password.
		l.event.Text = "the hook is no credential provider that logs somebody in, and this system has nothing else"
		return engine.ReasonProtocol, ""
	}
	r := l.Password(l.ctx, string(l.begin.GetUser()), typed)
	l.event.Text = r.Detail
	switch {
	case r.Verdict == password.Right:
		l.proof = proof{right: true, user: r.User, groups: r.Groups}
		return "", ""
	case r.Reason == "": // must not read as "go on"
		return password.ReasonFailed, textNotNow
	}
	return factor.Reason(r.Reason), r.Text
}

var errNotTheOwner = errors.New("the name is another account's than the password")

// who finds out whose login this is. The password's owner needs no directory; one
// that answers must agree.
func (l *login) who() (accounts.User, error) {
	owner := l.proof.user
	if owner.ID == "" {
		return l.Names.Lookup(l.ctx, string(l.begin.GetUser()))
	}
	ctx, cancel := context.WithTimeout(l.ctx, agreeTime)
	defer cancel()
	if named, err := l.Names.Lookup(ctx, string(l.begin.GetUser())); err == nil && named.ID != owner.ID {
		return accounts.User{}, errNotTheOwner
	}
	return owner, nil
}

// mayAsk says whether the hook may have this account logged in at all: root's hooks
// anybody, another caller only itself, and whose password it gave.
func (l *login) mayAsk() bool {
	return l.peer.IsRoot() || l.proof.right || l.resolved && l.user.ID == l.peer.ID
}

// admitted tells who watches the sessions that this one comes by us. Only of
// logins at the login screen: anybody may say that they are one.
func (l *login) admitted(v engine.Verdict) {
	if v.Decision != engine.Deny && l.proof.right && l.peer.IsOwner() && l.Admitted != nil {
		l.Admitted(l.user.ID)
	}
}
