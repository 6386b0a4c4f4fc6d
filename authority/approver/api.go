package approver

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"slices"

	"sallyport/authority/store"
	"sallyport/internal/factor/push"
)

// Bounds of what the page posts.
const (
	tokenSize = 32
	macSize   = 32
	maxPhone  = 64
)

// enrolment says whether a phone may enrol, before its person is bothered.
func (s *server) enrolment(r *http.Request) (int, any, error) {
	var e store.Enrolment
	err := s.Store.View(r.Context(), func(tx store.Tx) (err error) {
		e, err = tx.Enrolment(r.PathValue("id"))
		return err
	})
	if err == nil && (e.Done || e.Registration != nil || !s.Now().Before(e.Expires)) {
		err = errNotFound
	}
	return http.StatusOK, struct {
		Expires int64 `json:"expires"`
	}{e.Expires.Unix()}, err
}

// postKey takes the key of a phone and passes it on to whoever decides: the
// device that asked for it, or the authority's own enrolment.
func (s *server) postKey(r *http.Request) (int, any, error) {
	var in struct {
		CredentialID      []byte `json:"credential_id"`
		PublicKey         []byte `json:"public_key"`
		AuthenticatorData []byte `json:"authenticator_data"`
		Phone             string `json:"phone"`
		MAC               []byte `json:"mac"`
		Token             []byte `json:"token"`
	}
	if err := decode(r, &in); err != nil {
		return 0, nil, err
	}
	switch {
	case len(in.MAC) != macSize, len(in.Token) != tokenSize:
		return 0, nil, badRequest("The request is malformed.")
	case in.Phone == "", len(in.Phone) > maxPhone:
		return 0, nil, badRequest("The phone's name has 1 to 64 characters.")
	}
	reg := push.Registration{CredentialID: in.CredentialID, PublicKey: in.PublicKey, AuthenticatorData: in.AuthenticatorData, Phone: in.Phone}
	settings := s.Settings()
	if _, err := reg.Approver(push.RelyingParty{ID: settings.RPID, Origin: settings.Origin}); err != nil {
		return 0, nil, &apiError{http.StatusBadRequest, "bad_passkey", "This passkey cannot be used: " + err.Error() + "."}
	}
	session := sha256.Sum256(in.Token)

	id := r.PathValue("id")
	var e store.Enrolment
	read := func(tx store.Tx) (err error) {
		e, err = tx.Enrolment(id)
		return err
	}
	// Nothing is written for whoever knows no enrolment.
	if err := s.Store.View(r.Context(), read); err != nil {
		return 0, nil, err
	}
	err := s.Store.Update(r.Context(), func(tx store.Tx) error {
		if err := read(tx); err != nil {
			return err
		}
		// The page may not have heard that this was taken.
		if e.Registration != nil && hmac.Equal(e.Session, session[:]) && hmac.Equal(e.MAC, in.MAC) {
			return nil
		}
		// The session's token must be new.
		if _, err := tx.Session(session[:]); err == nil {
			return badRequest("The request is malformed.")
		}
		if err := tx.PostKey(id, reg, in.MAC, session[:], s.Now()); err != nil || e.Device == "" {
			return err
		}
		return tx.Notify(store.Notice{Topic: store.TopicEnrolment, Device: e.Device, ID: id})
	})
	if err == nil && e.Device == "" && !e.Done {
		err = s.Complete(r.Context(), id)
	}
	return http.StatusAccepted, nil, err
}

// result is what came of an enrolment.
type result struct {
	State   string   `json:"state"`
	Text    string   `json:"text,omitempty"`
	Session *account `json:"session,omitempty"`
}

// account is whose session it is, as the page shows it.
type account struct {
	User     string `json:"user"`
	Computer string `json:"computer"` // "" = every one
	Phone    string `json:"phone"`
	// CredentialID is the passkey that answers.
	CredentialID []byte `json:"credential_id"`
	Rings        bool   `json:"rings"`    // there is a subscription
	Unsigned     bool   `json:"unsigned"` // the organisation has not signed the phone yet
}

func (c caller) account() *account {
	return &account{User: c.approver.User, Computer: c.computer, Phone: c.approver.Phone, CredentialID: c.approver.CredentialID,
		Rings: c.Subscription != nil, Unsigned: c.approver.Pending}
}

// enrolmentResult tells the page that posted the key, and nobody else. Whoever
// accepted the enrolment has made its token a session's.
func (s *server) enrolmentResult(r *http.Request) (int, any, error) {
	hash, ok := bearer(r)
	if !ok {
		return 0, nil, errNotFound
	}
	id := r.PathValue("id")
	var e store.Enrolment
	var who caller
	read := func(tx store.Tx) (err error) {
		if e, err = tx.Enrolment(id); err != nil {
			return err
		}
		if e.Registration == nil || !hmac.Equal(e.Session, hash) {
			return errNotFound
		}
		if !e.Done || !e.Accepted {
			return nil
		}
		if who, err = s.caller(tx, hash); errors.Is(err, store.ErrNotFound) {
			err = nil
		}
		return err
	}
	err := s.Store.View(r.Context(), read)
	if err == nil && e.Device == "" && !e.Done && s.Now().Before(e.Expires) {
		// What was posted was not dealt with yet: the server stopped, say.
		if err = s.Complete(r.Context(), id); err == nil {
			err = s.Store.View(r.Context(), read)
		}
	}
	switch {
	case err != nil:
		return 0, nil, err
	case e.Done && !e.Accepted:
		return http.StatusOK, result{State: "refused", Text: e.Reason}, nil
	case !e.Done && s.Now().Before(e.Expires):
		return http.StatusOK, result{State: "waiting"}, nil
	case !e.Done:
		return http.StatusOK, result{State: "refused", Text: "The computer did not answer in time."}, nil
	case who.approver.ID == "": // signed out, or removed by now
		return 0, nil, errNotFound
	}
	return http.StatusOK, result{State: "accepted", Text: e.Reason, Session: who.account()}, nil
}

// putSession opens a session and ends the oldest where there are too many.
func (s *server) putSession(tx store.Tx, hash []byte, a store.Approver) error {
	list, err := tx.Sessions(a.ID)
	if err != nil {
		return err
	}
	slices.SortFunc(list, func(x, y store.Session) int { return y.Seen.Compare(x.Seen) })
	for _, old := range list[min(len(list), maxSessions-1):] {
		if err := tx.RemoveSession(old.Hash); err != nil {
			return err
		}
	}
	return tx.PutSession(store.Session{Hash: hash, Approver: a.ID, Created: s.Now(), Seen: s.Now()})
}

func (s *server) showSession(_ *http.Request, who caller) (int, any, error) {
	return http.StatusOK, who.account(), nil
}

func (s *server) signOut(r *http.Request, who caller) (int, any, error) {
	return http.StatusNoContent, nil, s.Store.Update(r.Context(), func(tx store.Tx) error { return tx.RemoveSession(who.Hash) })
}

// waiting is a challenge that can be answered.
type waiting struct {
	ID        string `json:"id"`
	Challenge []byte `json:"challenge"` // the bytes to show and to sign
}

// login is one that is over.
type login struct {
	Challenge []byte `json:"challenge"`
	Outcome   string `json:"outcome"` // "" = it expired
	Ended     int64  `json:"ended"`
}

func (s *server) pending(r *http.Request, who caller) (int, any, error) {
	out := struct {
		Now        int64     `json:"now"` // a phone's clock may be wrong
		Challenges []waiting `json:"challenges"`
		Last       *login    `json:"last"` // the newest that was approved
	}{Now: s.Now().Unix(), Challenges: []waiting{}}
	err := s.Store.View(r.Context(), func(tx store.Tx) error {
		out.Challenges, out.Last = []waiting{}, nil
		open, err := tx.OpenChallenges(who.approver.User, s.Now())
		if err != nil {
			return err
		}
		for _, c := range open {
			if who.mayAnswer(c) {
				out.Challenges = append(out.Challenges, waiting{ID: c.ID, Challenge: c.Bytes})
			}
		}
		past, err := s.past(tx, who)
		if i := slices.IndexFunc(past, func(l login) bool { return l.Outcome == "approved" }); i >= 0 {
			out.Last = &past[i]
		}
		return err
	})
	return http.StatusOK, out, err
}

// past are the last logins that this phone was asked about. Others of the user's
// are not told: a phone that one computer pinned has no business with them.
func (s *server) past(tx store.Tx, who caller) ([]login, error) {
	list, err := tx.LastChallenges(who.approver.User, 2*lastLogins, s.Now())
	past := []login{}
	for _, c := range list {
		if !who.mayAnswer(c) || len(past) == lastLogins {
			continue
		}
		l := login{Challenge: c.Bytes, Outcome: c.Outcome, Ended: c.Expires.Unix()}
		if !c.Ended.IsZero() {
			l.Ended = c.Ended.Unix()
		}
		past = append(past, l)
	}
	return past, err
}

func (s *server) history(r *http.Request, who caller) (int, any, error) {
	var past []login
	err := s.Store.View(r.Context(), func(tx store.Tx) (err error) {
		past, err = s.past(tx, who)
		return err
	})
	return http.StatusOK, struct {
		Logins []login `json:"logins"`
	}{past}, err
}

// challenge is one that the caller may see.
func (s *server) challenge(r *http.Request, who caller) (c store.Challenge, err error) {
	err = s.Store.View(r.Context(), func(tx store.Tx) (err error) {
		if c, err = tx.Challenge(r.PathValue("id")); err == nil && !who.mayAnswer(c) {
			err = store.ErrNotFound
		}
		return err
	})
	return c, err
}

func (s *server) challengeState(r *http.Request, who caller) (int, any, error) {
	c, err := s.challenge(r, who)
	state := "open"
	switch {
	case c.Outcome != "":
		state = "ended"
	case !s.Now().Before(c.Expires):
		state = "expired"
	case c.Answer != nil:
		state = "answered"
	}
	return http.StatusOK, struct {
		State   string `json:"state"`
		Outcome string `json:"outcome"`
	}{state, c.Outcome}, err
}

// assertion is a passkey's signature as the page posts it.
type assertion struct {
	CredentialID      []byte `json:"credential_id"`
	AuthenticatorData []byte `json:"authenticator_data"`
	ClientData        []byte `json:"client_data"`
	Signature         []byte `json:"signature"`
}

// check bounds it as the wire to the devices does.
func (a assertion) check() error {
	for _, f := range []struct {
		b   []byte
		max int
	}{{a.CredentialID, push.MaxCredentialID}, {a.AuthenticatorData, 1024}, {a.ClientData, 2048}, {a.Signature, 1024}} {
		if len(f.b) == 0 || len(f.b) > f.max {
			return badRequest("The request is malformed.")
		}
	}
	return nil
}

func (s *server) answer(r *http.Request, who caller) (int, any, error) {
	var in struct {
		Decision push.Decision `json:"decision"`
		assertion
	}
	if err := decode(r, &in); err != nil {
		return 0, nil, err
	}
	if err := in.check(); err != nil {
		return 0, nil, err
	}
	if in.Decision != push.Approve && in.Decision != push.Deny && in.Decision != push.Report {
		return 0, nil, badRequest("The request is malformed.")
	}
	if !hmac.Equal(in.CredentialID, who.approver.CredentialID) {
		return 0, nil, errPasskey
	}
	c, err := s.challenge(r, who)
	if err != nil {
		return 0, nil, err
	}
	if !s.signed(push.Assertion(in.assertion), in.Decision, c.Bytes, who.approver.Approver) {
		return 0, nil, errPasskey
	}
	return http.StatusAccepted, nil, s.Answer(r.Context(), who.approver, c.ID, push.Answer{Decision: in.Decision, Assertion: push.Assertion(in.assertion)})
}

// signed says whether an answer is one that the passkey signed, so that whoever has
// no more than a session's token cannot use up the one answer that a login takes.
// What was approved only the device can tell: it has the number.
func (s *server) signed(a push.Assertion, d push.Decision, challenge []byte, key push.Approver) bool {
	digest := push.Digest(challenge, d, "")
	if d == push.Approve {
		var c struct {
			Challenge string `json:"challenge"`
		}
		if json.Unmarshal(a.ClientData, &c) != nil {
			return false
		}
		b, err := base64.RawURLEncoding.DecodeString(c.Challenge)
		if err != nil || copy(digest[:], b) != len(digest) {
			return false
		}
	}
	settings := s.Settings()
	_, err := push.VerifyAssertion(a, key, push.RelyingParty{ID: settings.RPID, Origin: settings.Origin}, digest)
	return err == nil
}

func (s *server) subscribe(r *http.Request, who caller) (int, any, error) {
	var in struct {
		Endpoint       string   `json:"endpoint"`
		ExpirationTime *float64 `json:"expirationTime"`
		Keys           struct {
			P256dh string `json:"p256dh"`
			Auth   string `json:"auth"`
		} `json:"keys"`
	}
	if err := decode(r, &in); err != nil {
		return 0, nil, err
	}
	b, err := json.Marshal(in)
	if err != nil {
		return 0, nil, err
	}
	if err := s.CheckSubscription(b); err != nil {
		return 0, nil, &apiError{http.StatusBadRequest, "bad_subscription", "This browser's push service is not one that your organisation uses."}
	}
	return http.StatusNoContent, nil, s.setSubscription(r, who, b)
}

func (s *server) unsubscribe(r *http.Request, who caller) (int, any, error) {
	return http.StatusNoContent, nil, s.setSubscription(r, who, nil)
}

func (s *server) setSubscription(r *http.Request, who caller, subscription []byte) error {
	return s.Store.Update(r.Context(), func(tx store.Tx) error {
		sess, err := tx.Session(who.Hash)
		if err != nil {
			return err
		}
		sess.Subscription, sess.Seen = subscription, s.Now()
		return tx.PutSession(sess)
	})
}
