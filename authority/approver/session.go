package approver

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"sallyport/authority/store"
	"sallyport/internal/factor/push"
)

// A nonce says itself until when it is good, under a key that all nodes share:
// whoever begins and goes away leaves nothing in the database. That it was used
// is kept with the approver, until it would have ended.
const (
	nonceLife = 2 * time.Minute
	nonceSize = 8 + 16 + sha256.Size // its end, random bytes, the MAC
	// maxNonces that an approver may use within their life.
	maxNonces = 16

	nonceKeySetting = "approver/nonce-key"
	nonceSetting    = "approver/nonces/" // + the approver's id
)

func nonceMAC(key, nonce []byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte("sallyport.approver.nonce.v1\x00"))
	m.Write(nonce)
	return m.Sum(nil)
}

func (s *server) beginSession(r *http.Request) (int, any, error) {
	if err := decode(r, &struct{}{}); err != nil {
		return 0, nil, err
	}
	key, err := s.nonceKey.Get(r.Context(), s.Store)
	if err != nil {
		return 0, nil, err
	}
	nonce := make([]byte, 8+16, nonceSize)
	_, _ = rand.Read(nonce) // never fails: crypto/rand
	binary.BigEndian.PutUint64(nonce, uint64(s.Now().Add(nonceLife).UnixMilli()))
	return http.StatusOK, struct {
		Nonce []byte `json:"nonce"`
	}{append(nonce, nonceMAC(key, nonce)...)}, nil
}

// nonceEnds checks a nonce and returns when it ends.
func (s *server) nonceEnds(key, nonce []byte) (time.Time, error) {
	if len(nonce) != nonceSize || !hmac.Equal(nonce[24:], nonceMAC(key, nonce[:24])) {
		return time.Time{}, errUsed
	}
	ends := time.UnixMilli(int64(binary.BigEndian.Uint64(nonce)))
	if !s.Now().Before(ends) {
		return time.Time{}, errUsed
	}
	return ends, nil
}

// openSession opens the page for whoever has an enrolled passkey: on another
// browser of the phone, or after a Home Screen launch that knows nothing.
func (s *server) openSession(r *http.Request) (int, any, error) {
	var in struct {
		Nonce []byte `json:"nonce"`
		assertion
	}
	if err := decode(r, &in); err != nil {
		return 0, nil, err
	}
	if err := in.check(); err != nil {
		return 0, nil, err
	}
	key, err := s.nonceKey.Get(r.Context(), s.Store)
	if err != nil {
		return 0, nil, err
	}
	ends, err := s.nonceEnds(key, in.Nonce)
	if err != nil {
		return 0, nil, err
	}
	// Verified before anything is written: strangers get no further.
	var a store.Approver
	err = s.Store.View(r.Context(), func(tx store.Tx) (err error) {
		a, err = tx.ApproverByCredential(in.CredentialID)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return 0, nil, errPasskey
	}
	if err != nil {
		return 0, nil, err
	}
	settings := s.Settings()
	rp := push.RelyingParty{ID: settings.RPID, Origin: settings.Origin}
	counter, err := push.VerifyAssertion(push.Assertion(in.assertion), a.Approver, rp, push.SessionDigest(in.Nonce))
	if err != nil {
		return 0, nil, errPasskey
	}
	token := make([]byte, tokenSize)
	_, _ = rand.Read(token) // never fails: crypto/rand
	hash := sha256.Sum256(token)
	var who caller
	err = s.Store.Update(r.Context(), func(tx store.Tx) error {
		a, err := tx.Approver(a.ID)
		if errors.Is(err, store.ErrNotFound) {
			return errPasskey
		}
		if err != nil {
			return err
		}
		// A counter that does not rise is a copy of the key. Zero: there is none.
		if (a.Counter != 0 || counter != 0) && counter <= a.Counter {
			return errPasskey
		}
		if err := s.useNonce(tx, a.ID, in.Nonce[8:24], ends); err != nil {
			return err
		}
		a.Counter = counter
		if err := tx.PutApprover(a); err != nil {
			return err
		}
		if err := s.putSession(tx, hash[:], a); err != nil {
			return err
		}
		who, err = s.caller(tx, hash[:])
		return err
	})
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, struct {
		Token   string   `json:"token"`
		Session *account `json:"session"`
	}{base64.StdEncoding.EncodeToString(token), who.account()}, nil
}

// useNonce marks a nonce as used by an approver: errUsed when it was.
func (s *server) useNonce(tx store.Tx, approver string, nonce []byte, ends time.Time) error {
	used := map[string]int64{} // end in milliseconds, by nonce
	b, err := tx.Setting(nonceSetting + approver)
	if err == nil {
		err = json.Unmarshal(b, &used)
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	for n, ends := range used {
		if ends <= s.Now().UnixMilli() {
			delete(used, n)
		}
	}
	name := base64.RawURLEncoding.EncodeToString(nonce)
	if _, ok := used[name]; ok {
		return errUsed
	}
	if len(used) >= maxNonces {
		return errLimited
	}
	used[name] = ends.UnixMilli()
	if b, err = json.Marshal(used); err != nil {
		return err
	}
	return tx.PutSetting(nonceSetting+approver, b)
}
