// Package approver is the phone's page and its API: a person enrols a phone with
// a passkey, sees who wants to log in as them and where, and signs an answer. The
// page shows what it parsed from the bytes that it signs; the endpoint verifies
// (internal/factor/push). Nothing here decides about a login.
//
// # The API
//
// JSON over HTTPS below /api/v1. Bytes are base64 with padding, times seconds
// since 1970. A body is at most 16 KiB of application/json, without unknown fields.
// There are no cookies: a session's token travels as "Authorization: Bearer". An
// error is {"error": code, "text": for a person}; codes: bad_request, too_large,
// signed_out, bad_passkey, bad_subscription, not_found, used, rate_limited,
// forbidden_origin, unavailable, internal. An id that is another's looks like one that
// does not exist.
//
//	GET    enrolment/{id}          {expires}: a key may be posted for this enrolment
//	POST   enrolment/{id}          {credential_id, public_key, authenticator_data, phone, mac, token}
//	                               -> 202. token: 32 random bytes of the page, a session's once accepted.
//	                               Posting the same again is harmless.
//	GET    enrolment/{id}/result   (token) {state: waiting | accepted | refused, text, session}
//	POST   session/begin           {} -> {nonce}: good for two minutes, once
//	POST   session                 {nonce, credential_id, authenticator_data, client_data, signature}
//	                               -> {token, session}: the assertion is over push.SessionDigest(nonce)
//	GET    session                 {user, computer, phone, credential_id, rings, unsigned}
//	DELETE session                 signs out
//	GET    challenges              {now, challenges: [{id, challenge}], last}: those that this phone may answer
//	GET    challenges/{id}         {state: open | answered | ended | expired, outcome}
//	POST   challenges/{id}/answer  {decision, credential_id, authenticator_data, client_data, signature}
//	                               -> 202. The assertion is over push.Digest; the number is not sent.
//	GET    history                 {logins: [{challenge, outcome, ended}]}
//	PUT    subscription            {endpoint, expirationTime, keys: {p256dh, auth}}
//	DELETE subscription
//
// A session opens the list and lets the phone be rung. It approves nothing: that
// takes the passkey, each time. Sessions end when they are signed out, 90 days after they were
// last used, or with the phone's approver.
//
// # Where the page lies
//
// Settings.Origin is where the page is loaded from and Settings.API where it
// talks to. Where they are the same, Handler serves the page; where they differ,
// the page is hosted elsewhere (Export writes its files), Handler serves none, and
// the API answers scripts of Settings.Origin only.
package approver

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"sallyport/authority/rate"
	"sallyport/authority/store"
	"sallyport/internal/factor/push"
	"sallyport/internal/organisation"
)

const (
	prefix  = "/api/v1/"
	maxBody = 16 << 10
	// maxIdle is how long a session lasts without being used.
	maxIdle = 90 * 24 * time.Hour
	// seenEvery is how often using a session is written down.
	seenEvery = time.Hour
	// maxSessions an approver may have; one more ends the one not used for longest.
	maxSessions = 8
	// lastLogins is how many the history has.
	lastLogins = 20
)

// Options are what the page needs of the rest of the authority. All but Address
// are required.
type Options struct {
	Store    store.Store
	Settings func() organisation.Settings
	// VAPIDPublicKey is the key that push services know this authority by, base64url.
	VAPIDPublicKey string
	// CheckSubscription says whether the authority would post to a PushSubscription.
	CheckSubscription func(subscription []byte) error
	// Complete checks the key posted for one of the authority's own enrolments and
	// ends it. It may be called again for the same.
	Complete func(ctx context.Context, enrolmentID string) error
	// Answer records what the approver answered, of whom it is known that the
	// challenge is theirs, and tells the device. The first answer wins: store.ErrUsed.
	Answer func(ctx context.Context, by store.Approver, challengeID string, a push.Answer) error
	// Address is where a request comes from, for limits; nil: the connection's other
	// end, which is wrong behind a proxy.
	Address func(*http.Request) string
	Now     func() time.Time
	Log     *slog.Logger
}

// server is the handler's state.
type server struct {
	Options
	strangers *rate.Limiter // by address: whoever has no session
	lookups   *rate.Limiter // by address: tokens that nobody here has seen lately
	sessions  *rate.Limiter // by session
	nonceKey  store.SharedKey
}

// Handler serves the page's API, and the page itself where Settings say that it
// lies here.
func Handler(o Options) http.Handler {
	if o.Address == nil {
		o.Address = rate.Peer
	}
	s := &server{Options: o, strangers: rate.New(10, 100), lookups: rate.New(200, 1000), sessions: rate.New(5, 60),
		nonceKey: store.SharedKey{Setting: nonceKeySetting}}
	mux := http.NewServeMux()
	stranger := func(route string, do func(r *http.Request) (int, any, error)) {
		method, path, _ := strings.Cut(route, " ")
		mux.HandleFunc(method+" "+prefix+path, func(w http.ResponseWriter, r *http.Request) {
			if err := s.limitStranger(r); err != nil {
				s.fail(w, r, err)
				return
			}
			s.reply(w, r)(do(r))
		})
	}
	session := func(route string, do func(r *http.Request, who caller) (int, any, error)) {
		method, path, _ := strings.Cut(route, " ")
		mux.HandleFunc(method+" "+prefix+path, func(w http.ResponseWriter, r *http.Request) {
			who, err := s.authenticate(r)
			if err != nil {
				s.fail(w, r, err)
				return
			}
			s.reply(w, r)(do(r, who))
		})
	}
	stranger("GET enrolment/{id}", s.enrolment)
	stranger("POST enrolment/{id}", s.postKey)
	stranger("GET enrolment/{id}/result", s.enrolmentResult)
	stranger("POST session/begin", s.beginSession)
	stranger("POST session", s.openSession)
	session("GET session", s.showSession)
	session("DELETE session", s.signOut)
	session("GET challenges", s.pending)
	session("GET challenges/{id}", s.challengeState)
	session("POST challenges/{id}/answer", s.answer)
	session("GET history", s.history)
	session("PUT subscription", s.subscribe)
	session("DELETE subscription", s.unsubscribe)
	mux.HandleFunc(prefix, func(w http.ResponseWriter, r *http.Request) { s.fail(w, r, errNotFound) })
	mux.HandleFunc("/", s.page)

	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		settings := s.Settings()
		setHeaders(w.Header(), settings)
		if !strings.HasPrefix(r.URL.Path, "/api/") {
			mux.ServeHTTP(w, r)
			return
		}
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Add("Vary", "Origin")
		if origin := r.Header.Get("Origin"); origin != "" {
			if origin != settings.Origin {
				s.fail(w, r, &apiError{http.StatusForbidden, "forbidden_origin", "This page may not use this server."})
				return
			}
			h.Set("Access-Control-Allow-Origin", origin)
			h.Set("Access-Control-Expose-Headers", "Retry-After")
			if r.Method == http.MethodOptions {
				h.Set("Access-Control-Allow-Methods", "GET, POST, PUT, DELETE")
				h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type")
				h.Set("Access-Control-Max-Age", "600")
				w.WriteHeader(http.StatusNoContent)
				return
			}
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		mux.ServeHTTP(w, r)
	})
}

// apiError is an error that the page may see.
type apiError struct {
	status int
	Code   string `json:"error"`
	Text   string `json:"text"`
}

func (e *apiError) Error() string { return e.Code }

var (
	errNotFound  = &apiError{http.StatusNotFound, "not_found", "That is not here, or not any more."}
	errSignedOut = &apiError{http.StatusUnauthorized, "signed_out", "Open this page with your passkey."}
	errUsed      = &apiError{http.StatusConflict, "used", "This was answered already, or it has ended."}
	errLimited   = &apiError{http.StatusTooManyRequests, "rate_limited", "That was too much at once. Wait a moment, then try again."}
	errDown      = &apiError{http.StatusServiceUnavailable, "unavailable", "The server cannot do this right now. Try again in a moment."}
	errInternal  = &apiError{http.StatusInternalServerError, "internal", "Something went wrong on the server. Tell your helpdesk."}
	errMalformed = &apiError{http.StatusBadRequest, "bad_request", "The request is malformed."}
	errPasskey   = &apiError{http.StatusForbidden, "bad_passkey", "This passkey is not enrolled here, or not any more. Ask your helpdesk to enrol this phone again."}
)

func badRequest(text string) error { return &apiError{http.StatusBadRequest, "bad_request", text} }

// known are the errors of the store that a person can be told of.
func known(err error) *apiError {
	var e *apiError
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, store.ErrNotFound):
		return errNotFound
	case errors.Is(err, store.ErrUsed):
		return errUsed
	case errors.Is(err, store.ErrInvalid): // an id with a NUL in it, say
		return errMalformed
	case errors.Is(err, store.ErrUnavailable):
		return errDown
	}
	return errInternal
}

func (s *server) fail(w http.ResponseWriter, r *http.Request, err error) {
	e := known(err)
	if e.status >= 500 && r.Context().Err() == nil {
		// The pattern, not the path: ids stay out of the log.
		s.Log.Error("the approver's page was not served", "request", r.Pattern, "error", err)
	}
	if e == errLimited {
		w.Header().Set("Retry-After", "2")
	}
	writeJSON(w, e.status, e)
}

// reply writes what a handler returned.
func (s *server) reply(w http.ResponseWriter, r *http.Request) func(status int, v any, err error) {
	return func(status int, v any, err error) {
		if err != nil {
			s.fail(w, r, err)
			return
		}
		if v == nil {
			w.WriteHeader(status)
			return
		}
		writeJSON(w, status, v)
	}
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // whoever asked is gone
}

// decode reads a body strictly.
func decode(r *http.Request, v any) error {
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return badRequest("The request is not JSON.")
	}
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		if _, err = d.Token(); err == io.EOF {
			return nil
		}
	}
	var long *http.MaxBytesError
	if errors.As(err, &long) {
		return &apiError{http.StatusRequestEntityTooLarge, "too_large", "The request is too long."}
	}
	return badRequest("The request is malformed.")
}

// bearer is the hash of the request's token.
func bearer(r *http.Request) ([]byte, bool) {
	text, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	token, err := base64.StdEncoding.Strict().DecodeString(text)
	if !ok || err != nil || len(token) != tokenSize {
		return nil, false
	}
	h := sha256.Sum256(token)
	return h[:], true
}

// caller is who has a session.
type caller struct {
	store.Session
	approver store.Approver
	computer string // that the approver is for; "" = every one
}

func (s *server) limitStranger(r *http.Request) error {
	if !s.strangers.Allow(rate.Key(s.Address(r)), s.Now()) {
		return errLimited
	}
	return nil
}

// authenticate says whose session the request is. Only one that has none counts
// against its address: behind one address there may be a whole company.
func (s *server) authenticate(r *http.Request) (caller, error) {
	hash, ok := bearer(r)
	if !ok {
		return caller{}, cmp.Or(s.limitStranger(r), error(errSignedOut))
	}
	// The database is not asked as often as somebody makes tokens up.
	if !s.sessions.Knows(string(hash)) && !s.lookups.Allow(rate.Key(s.Address(r)), s.Now()) {
		return caller{}, errLimited
	}
	var who caller
	err := s.Store.View(r.Context(), func(tx store.Tx) (err error) {
		who, err = s.caller(tx, hash)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return caller{}, cmp.Or(s.limitStranger(r), error(errSignedOut))
	}
	if err == nil && !s.sessions.Allow(string(hash), s.Now()) {
		err = errLimited
	}
	if err == nil && s.Now().Sub(who.Seen) > seenEvery {
		err = s.Store.Update(r.Context(), func(tx store.Tx) error {
			sess, err := tx.Session(hash)
			if err != nil {
				return err
			}
			sess.Seen = s.Now()
			return tx.PutSession(sess)
		})
		if errors.Is(err, store.ErrNotFound) {
			err = errSignedOut
		}
	}
	return who, err
}

// caller reads a session and whose it is.
func (s *server) caller(tx store.Tx, hash []byte) (who caller, err error) {
	if who.Session, err = tx.Session(hash); err != nil {
		return caller{}, err
	}
	if s.Now().Sub(who.Seen) > maxIdle {
		return caller{}, store.ErrNotFound
	}
	if who.approver, err = tx.Approver(who.Session.Approver); err != nil {
		return caller{}, err
	}
	if who.approver.Device == "" {
		return who, nil
	}
	d, err := tx.Device(who.approver.Device)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return caller{}, err
	}
	who.computer = d.Name
	return who, nil
}

// mayAnswer says whether a challenge is one for this phone: its user's, and of a
// device that takes this passkey.
func (c caller) mayAnswer(ch store.Challenge) bool {
	a := c.approver
	return ch.User == a.User && (a.Device == "" && !a.Pending || a.Device == ch.Device && a.Device != "") &&
		slices.ContainsFunc(ch.CredentialIDs, func(id []byte) bool { return bytes.Equal(id, a.CredentialID) })
}
