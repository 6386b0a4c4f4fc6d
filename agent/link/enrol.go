package link

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"sallyport/agent/store"
	"sallyport/internal/event"
	"sallyport/internal/factor/push"
	"sallyport/internal/organisation"
	"sallyport/internal/textout"
	"sallyport/internal/vault"
	authorityv1 "sallyport/proto/sallyport/authority/v1"
)

const (
	// enrolmentLife is how long a link to enrol with is good.
	enrolmentLife = 10 * time.Minute
	// startTime is how long the authority may take to open an enrolment.
	startTime = 10 * time.Second
	// maxEnrolments bounds those that are open.
	maxEnrolments = 16
)

// enrolment waits for one phone.
type enrolment struct {
	started chan *authorityv1.EnrolmentStarted
	key     chan *authorityv1.EnrolmentKey // the first that comes; there is no second
}

var errNobodyCame = errors.New("no phone enrolled within the time that the link was good for; try again")

// EnrolPhone lets one phone enrol to approve the user's logins. It calls show with
// the link, whose fragment is a secret that is nowhere but here and there. The
// first key that comes is taken when it proves to be of whoever has that secret;
// pin then keeps it, and only after that the phone is told. The end of ctx
// withdraws the link.
func (l *Link) EnrolPhone(ctx context.Context, user string, show func(url string, expires time.Time) error, pin func(push.Approver) error) error {
	if err := checkUser(user); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, enrolmentLife, errNobodyCame)
	defer cancel()
	var a *store.Authority
	var settings store.Item
	err := l.o.Store.View(func(tx *vault.Tx) (err error) {
		if a, err = store.JoinedTo(tx); err == nil {
			settings, err = store.Signed(tx, organisation.KindSettings, "")
		}
		return err
	})
	switch {
	case err != nil:
		return err
	case a == nil:
		return errNotJoined
	case settings.Settings == nil:
		return errors.New("the organisation has not said where its page is")
	}
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails: crypto/rand
	now := l.o.Clock.Now()
	id, expires, until := push.NewID(), now.Wall.Add(enrolmentLife), now.In(enrolmentLife)
	n := &enrolment{started: make(chan *authorityv1.EnrolmentStarted, 1), key: make(chan *authorityv1.EnrolmentKey, 1)}
	l.mu.Lock()
	full := len(l.enrolments) >= maxEnrolments
	if !full {
		l.enrolments[id] = n
	}
	l.mu.Unlock()
	if full {
		return errors.New("too many phones are being enrolled at once")
	}
	end := &authorityv1.EnrolmentEnd{Id: id, Reason: "it was withdrawn at the computer"}
	begun := false
	defer func() {
		l.mu.Lock()
		delete(l.enrolments, id)
		l.mu.Unlock()
		if begun {
			l.deliver(id, &authorityv1.DeviceMessage{Message: &authorityv1.DeviceMessage_EnrolmentEnd{EnrolmentEnd: end}}, until)
		}
	}()

	page, err := l.beginEnrolment(ctx, n, &authorityv1.EnrolmentBegin{Id: id, User: user, Expires: timestamppb.New(expires)}, &begun)
	if err != nil {
		return err
	}
	if page, err = checkPage(page, settings.Settings.Origin); err != nil {
		return err
	}
	if err := show(page+fragment(id, secret, a, user), expires); err != nil {
		return err
	}
	var key *authorityv1.EnrolmentKey
	select {
	case key = <-n.key:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	pinned, err := l.checkKey(ctx, key, secret, id, a, user, settings.Settings)
	if err == nil {
		err = pin(pinned)
	}
	if err != nil {
		end.Reason = clean(err.Error(), maxText)
		return err
	}
	end.Accepted, end.Reason, end.CredentialId = true, "", pinned.CredentialID
	return nil
}

// beginEnrolment tells the authority, and returns the page's URL.
func (l *Link) beginEnrolment(ctx context.Context, n *enrolment, m *authorityv1.EnrolmentBegin, begun *bool) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, startTime, errTooLate)
	defer cancel()
	s, err := l.await(ctx)
	if err != nil {
		return "", err
	}
	*begun = s.send(&authorityv1.DeviceMessage{Message: &authorityv1.DeviceMessage_EnrolmentBegin{EnrolmentBegin: m}})
	select {
	case r := <-n.started:
		switch r.GetRefused() {
		case "":
		case "user_not_allowed": // nobody is, or not any more
			return "", fmt.Errorf("the authority does not list %s for this computer; there: sallyport-authority device allow %s %s", m.GetUser(), s.a.DeviceID, textout.QuoteArg(m.GetUser()))
		default:
			return "", fmt.Errorf("the authority refuses: %s", clean(r.GetRefused(), maxText))
		}
		return r.GetUrl(), nil
	case <-s.ctx.Done():
		return "", errors.New("the connection to the authority broke; try again")
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

// checkPage sees to it that the fragment goes to the page that the organisation
// signed, and not to one of the authority's choice.
func checkPage(page, origin string) (string, error) {
	u, err := url.Parse(page)
	if err != nil || len(page) > 500 || u.User != nil || u.Fragment != "" || strings.ContainsAny(page, "#\\ \t\r\n") || u.Scheme+"://"+u.Host != origin {
		return "", fmt.Errorf("the authority names a page to enrol at that is not of %s, as the organisation signed: nothing was shown", origin)
	}
	return u.String(), nil
}

// fragment is what the phone's page gets to know and no server does.
func fragment(id string, secret []byte, a *store.Authority, user string) string {
	escape := func(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }
	return "#e=" + escape(id) + "&s=" + base64.RawURLEncoding.EncodeToString(secret) + "&d=" + escape(a.DeviceID) + "&n=" + escape(a.DeviceName) + "&u=" + escape(user)
}

// checkKey says whether a key is of whoever scanned the code, and returns what to
// pin.
func (l *Link) checkKey(ctx context.Context, m *authorityv1.EnrolmentKey, secret []byte, id string, a *store.Authority, user string, s *organisation.Settings) (push.Approver, error) {
	r := push.Registration{CredentialID: m.GetCredentialId(), PublicKey: m.GetPublicKey(), AuthenticatorData: m.GetAuthenticatorData(), Phone: m.GetPhone()}
	if !hmac.Equal(m.GetMac(), push.EnrolmentMAC(secret, id, a.DeviceID, user, r)) || len(m.GetMac()) != sha256.Size {
		l.o.Store.Record(ctx, event.Event{Name: event.PushFailed, User: user, Reason: "push_enrolment_forged", By: "authority",
			Text: "a key with a wrong proof came for an enrolment: it was not made by whoever scanned the code"})
		return push.Approver{}, errors.New("a key came whose proof is wrong: it was not made by whoever scanned the code, and is not taken; begin again, and tell security if it happens twice")
	}
	pinned, err := r.Approver(push.RelyingParty{ID: s.RPID, Origin: s.Origin})
	if err != nil {
		return push.Approver{}, fmt.Errorf("the phone's key is not taken: %w", err)
	}
	if pinned.Synced && !l.o.Settings().Push.AllowSynced {
		return push.Approver{}, errors.New("the phone's passkey is copied to other devices, which push.allow_synced = false refuses")
	}
	return pinned, nil
}

// enrolmentStarted takes the authority's answer to EnrolmentBegin.
func (l *Link) enrolmentStarted(m *authorityv1.EnrolmentStarted) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := l.enrolments[m.GetId()]; n != nil {
		select {
		case n.started <- m:
		default:
		}
	}
}

// enrolmentKey takes the first key of an enrolment. After the end the authority is
// told again what came of it.
func (l *Link) enrolmentKey(s *session, m *authorityv1.EnrolmentKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := l.enrolments[m.GetId()]; n != nil {
		select {
		case n.key <- m:
		default:
		}
	} else if e, ok := l.ends[m.GetId()]; ok {
		s.send(e.message)
	}
}
