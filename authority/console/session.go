package console

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"time"

	"sallyport/authority/enrol"
	"sallyport/authority/store"
	"sallyport/internal/event"
	"sallyport/internal/factor/push"
)

const (
	// cookieName: a browser takes it only over https, from this very host and for all of it
	// (RFC 6265bis, 4.1.3.2).
	cookieName = "__Host-console"
	cookieSize = 32
	// seenEvery is how often using a session is written down.
	seenEvery = 30 * time.Second
	nonceLife = 2 * time.Minute
)

var b64 = base64.RawURLEncoding

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: crypto/rand
	return b
}

func setCookie(w http.ResponseWriter, value string, age int) {
	http.SetCookie(w, &http.Cookie{Name: cookieName, Value: value, Path: "/", MaxAge: age, Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode})
}

// cookieOf is the session's cookie as it came; nil: there is none, or more than one.
func cookieOf(r *http.Request) []byte {
	list := r.CookiesNamed(cookieName)
	if len(list) != 1 {
		return nil
	}
	b, err := b64.Strict().DecodeString(list[0].Value)
	if err != nil || len(b) != cookieSize {
		return nil
	}
	return b
}

// authenticate says whose session a request has. passive: it does not count as use.
func (s *server) authenticate(v *visit, passive bool) error {
	v.cookie = cookieOf(v.r)
	if v.cookie == nil {
		if err := s.limitStranger(v.r); err != nil {
			return err
		}
		return errSignedOut
	}
	hash := sha256.Sum256(v.cookie)
	now := s.Now()
	read := func(tx store.Tx) (err error) {
		if v.session, err = tx.OperatorSession(hash[:]); err != nil {
			return err
		}
		v.operator, err = tx.Operator(v.session.Operator)
		return err
	}
	err := s.Store.View(v.ctx(), read)
	over := err == nil && (now.Sub(v.session.Seen) >= s.Idle || now.Sub(v.session.Created) >= s.Life)
	switch {
	case errors.Is(err, store.ErrNotFound) || over:
		if err := s.limitStranger(v.r); err != nil {
			return err
		}
		if over {
			if err := s.Store.Update(v.ctx(), func(tx store.Tx) error { return tx.RemoveOperatorSession(hash[:]) }); err != nil {
				return err
			}
		}
		v.operator = store.Operator{}
		return errSignedOut
	case err != nil:
		return err
	case !s.sessions.Allow(string(hash[:]), now):
		return errLimited
	case passive || now.Sub(v.session.Seen) < seenEvery:
		return nil
	}
	// It may have ended meanwhile: it is not made anew.
	err = s.Store.Update(v.ctx(), func(tx store.Tx) error {
		if err := read(tx); err != nil {
			return err
		}
		v.session.Seen = now
		return tx.PutOperatorSession(v.session)
	})
	if errors.Is(err, store.ErrNotFound) {
		return errSignedOut
	}
	return err
}

// change is Store.Update for whoever is logged in still: a session that ended since the
// request was let in, as it does with every change of role, changes nothing any more.
func (s *server) change(v *visit, fn func(tx store.Tx) error) error {
	return s.Store.Update(v.ctx(), func(tx store.Tx) error {
		if err := loggedIn(tx, v); err != nil {
			return err
		}
		return fn(tx)
	})
}

func loggedIn(tx store.Tx, v *visit) error {
	_, err := tx.OperatorSession(v.session.Hash)
	if errors.Is(err, store.ErrNotFound) {
		return errSignedOut
	}
	return err
}

// Nonces are what logins are signed over. One says itself until when it is good,
// under a key that all nodes share: whoever begins and goes away leaves nothing in
// the database. That it was used is kept there.
const (
	nonceSize       = 8 + 16 + sha256.Size // its end, random bytes, the MAC
	nonceKeySetting = "console/nonce-key"
)

func mac(key []byte, domain string, parts ...[]byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(domain + "\x00"))
	for _, p := range parts {
		m.Write(binary.BigEndian.AppendUint32(nil, uint32(len(p))))
		m.Write(p)
	}
	return m.Sum(nil)
}

// timed is a token that says until when it is good: end, random bytes, and a MAC
// over both and what it is for.
func timed(key []byte, domain, what string, ends time.Time) []byte {
	t := append(binary.BigEndian.AppendUint64(nil, uint64(ends.UnixMilli())), random(16)...)
	return append(t, mac(key, domain, t, []byte(what))...)
}

// checkTimed returns what is kept of such a token once it is used; ok is false when it
// is not one for this, or not any more.
func checkTimed(token, key []byte, domain, what string, now time.Time) (id []byte, ends time.Time, ok bool) {
	if len(token) != nonceSize || !hmac.Equal(token[24:], mac(key, domain, token[:24], []byte(what))) {
		return nil, ends, false
	}
	ends = time.UnixMilli(int64(binary.BigEndian.Uint64(token)))
	return token[8:24], ends, now.Before(ends)
}

const (
	loginDomain = "sallyport.console.login.v1"
	formDomain  = "sallyport.console.form.v1"
)

// challenge is what a passkey signs for a login. The domain keeps it apart from
// whatever else a passkey may sign.
func challenge(nonce []byte) [32]byte { return [32]byte(mac(nonce, loginDomain)) }

func (s *server) loginPage(v *visit) error {
	return s.render(v, http.StatusOK, "login", screen{Title: "Log in"})
}

func (s *server) beginLogin(v *visit) error {
	if err := decode(v.r, &struct{}{}); err != nil {
		return err
	}
	key, err := s.nonceKey.Get(v.ctx(), s.Store)
	if err != nil {
		return err
	}
	nonce := timed(key, loginDomain, "", s.Now().Add(nonceLife))
	c := challenge(nonce)
	writeJSON(v, http.StatusOK, map[string]string{"nonce": b64.EncodeToString(nonce), "challenge": b64.EncodeToString(c[:]), "rp_id": s.RelyingParty.ID})
	return nil
}

// login opens a session for whoever has a passkey of an operator.
func (s *server) login(v *visit) error {
	var in struct {
		Nonce             bytes64 `json:"nonce"`
		CredentialID      bytes64 `json:"credential_id"`
		AuthenticatorData bytes64 `json:"authenticator_data"`
		ClientData        bytes64 `json:"client_data"`
		Signature         bytes64 `json:"signature"`
	}
	if err := decode(v.r, &in); err != nil {
		return err
	}
	key, err := s.nonceKey.Get(v.ctx(), s.Store)
	if err != nil {
		return err
	}
	now := s.Now()
	once, ends, ok := checkTimed(in.Nonce, key, loginDomain, "", now)
	if !ok {
		return errForm
	}
	var k store.OperatorKey
	err = s.Store.View(v.ctx(), func(tx store.Tx) (err error) {
		k, err = tx.OperatorKey(in.CredentialID)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return errPasskey
	}
	if err != nil {
		return err
	}
	who := "operator:" + k.Operator
	// refused: somebody who has begun to know something; an event, and no more to them.
	refused := func(why string) error {
		err := s.Store.Update(v.ctx(), func(tx store.Tx) error {
			return enrol.Record(tx, now, event.Event{Name: enrol.OperatorLoginRefused, By: who, Remote: s.Address(v.r), Text: why})
		})
		if err != nil {
			return err
		}
		return errPasskey
	}
	counter, err := push.VerifyAssertion(
		push.Assertion{CredentialID: in.CredentialID, AuthenticatorData: in.AuthenticatorData, ClientData: in.ClientData, Signature: in.Signature},
		push.Approver{CredentialID: k.CredentialID, PublicKey: k.PublicKey, Synced: k.Synced}, s.RelyingParty, challenge(in.Nonce))
	if err != nil {
		return refused(err.Error())
	}
	cookie := random(cookieSize)
	hash := sha256.Sum256(cookie)
	e := event.Event{Name: enrol.OperatorLogin, By: who, Remote: s.Address(v.r), Text: "with the passkey " + k.Label}
	why := ""
	err = s.Store.Update(v.ctx(), func(tx store.Tx) error {
		why = ""
		k, err := tx.OperatorKey(in.CredentialID)
		if errors.Is(err, store.ErrNotFound) {
			return errPasskey
		}
		if err != nil {
			return err
		}
		// A counter that does not rise is a copy of the key. Zero: there is none.
		if (k.Counter != 0 || counter != 0) && counter <= k.Counter {
			why = "the passkey's counter did not rise: there may be a copy of it"
			return errPasskey
		}
		// Whatever session this browser had is over: the new one has a new cookie.
		if old := cookieOf(v.r); old != nil {
			h := sha256.Sum256(old)
			if err := tx.RemoveOperatorSession(h[:]); err != nil {
				return err
			}
		}
		return errors.Join(tx.UseOnce(once, ends), tx.OperatorKeyUsed(k.CredentialID, counter, now),
			tx.PutOperatorSession(store.OperatorSession{Hash: hash[:], Operator: k.Operator, Created: now, Seen: now}), enrol.Record(tx, now, e))
	})
	if why != "" {
		return refused(why)
	}
	if errors.Is(err, store.ErrUsed) {
		return errForm
	}
	if err != nil {
		return err
	}
	s.Log.Info("an operator logged in", "", e)
	setCookie(v, b64.EncodeToString(cookie), 0)
	writeJSON(v, http.StatusOK, map[string]string{"to": "/"})
	return nil
}

func (s *server) logout(v *visit) error {
	if err := s.useForm(v, "logout"); err != nil {
		return err
	}
	err := s.Store.Update(v.ctx(), func(tx store.Tx) error {
		return errors.Join(tx.RemoveOperatorSession(v.session.Hash),
			enrol.Record(tx, s.Now(), event.Event{Name: enrol.OperatorLogout, By: v.by(), Remote: s.Address(v.r)}))
	})
	if err != nil {
		return err
	}
	setCookie(v, "", -1)
	http.Redirect(v, v.r, "/login", http.StatusSeeOther)
	return nil
}

// token is what a form carries: bound to the session and to what the form does.
func (s *server) token(v *visit, what string) string {
	if v.cookie == nil {
		return ""
	}
	return b64.EncodeToString(timed(v.cookie, formDomain, what, s.Now().Add(s.Life)))
}

// checkForm says whether the form is one of this session, and parses it.
func (s *server) checkForm(v *visit, what string) (use func() error, err error) {
	if t, _, err := mime.ParseMediaType(v.r.Header.Get("Content-Type")); err != nil || t != "application/x-www-form-urlencoded" {
		return nil, malformed("The request is no form.")
	}
	if err := v.r.ParseForm(); err != nil {
		var long *http.MaxBytesError
		if errors.As(err, &long) {
			return nil, err
		}
		return nil, malformed("The form is malformed.")
	}
	for name, values := range v.r.PostForm {
		if len(values) != 1 {
			return nil, malformed("The form has %q more than once.", name)
		}
	}
	token, err := b64.DecodeString(v.r.PostForm.Get("form"))
	if err != nil {
		return nil, errForm
	}
	id, ends, ok := checkTimed(token, v.cookie, formDomain, what, s.Now())
	if !ok {
		return nil, errForm
	}
	return func() error {
		err := s.change(v, func(tx store.Tx) error { return tx.UseOnce(id, ends) })
		if errors.Is(err, store.ErrUsed) {
			return errForm
		}
		return err
	}, nil
}

// useForm is checkForm for forms without anything that could be wrong in them.
func (s *server) useForm(v *visit, what string) error {
	use, err := s.checkForm(v, what)
	if err != nil {
		return err
	}
	return use()
}

// bytes64 are bytes as the page writes them: base64url without padding.
type bytes64 []byte

// UnmarshalText implements encoding.TextUnmarshaler.
func (b *bytes64) UnmarshalText(text []byte) (err error) {
	*b, err = b64.Strict().DecodeString(string(text))
	return err
}

// decode reads a body of JSON strictly.
func decode(r *http.Request, v any) error {
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return malformed("The request is not JSON.")
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return malformed("The request is malformed.")
	}
	if _, err := d.Token(); err != io.EOF {
		return malformed("The request is malformed.")
	}
	return nil
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // whoever asked is gone
}
