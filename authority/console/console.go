// Package console is the helpdesk's page: who can log in where and with what, what
// happened, and what an operator may do about it. It decides nothing about a login
// and writes nothing but its operators: every action is one of authority/enrol.
//
// # Who may do what
//
// An operator has one of three roles: read, helpdesk, admin. The table of routes
// (routes) and the table of actions (actions) say which role each needs; what is in
// neither is refused. Actions that the configuration names in console.second_person
// are kept as requests, which another operator approves; whoever asked then carries
// it out, and only then is made what is handed out.
//
// # What keeps others out
//
// Operators log in with a passkey that verifies the person; there is no password.
// A session is a random cookie of which only the hash is kept. Whatever changes
// something is a POST that names the page's own origin and carries a form's token,
// which is bound to the session and to that form, and good once: a reload does
// nothing twice, and shows nothing again. Pages run no script but those of
// this package, sit in no frame, and are kept by no cache.
package console

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"sallyport/authority/enrol"
	"sallyport/authority/rate"
	"sallyport/authority/store"
	"sallyport/internal/event"
	"sallyport/internal/factor/push"
)

// Options are what the console needs of the rest of the authority. All but
// SecondPerson and Address are required.
type Options struct {
	Store        store.Store
	Enrol        *enrol.Service
	Organisation string // its name
	// RelyingParty is the console's own, not that of the phones.
	RelyingParty push.RelyingParty
	Idle, Life   time.Duration // of a session
	SecondPerson []string      // actions that take two operators
	// Address is where a request comes from, for limits; nil: the connection's other end.
	Address func(*http.Request) string
	Now     func() time.Time
	Log     *slog.Logger
}

// server is the handler's state.
type server struct {
	Options
	operators Operators
	strangers *rate.Limiter // by address: whoever has no session
	sessions  *rate.Limiter // by session
	nonceKey  store.SharedKey
}

const maxBody = 16 << 10

// route is one line of the table of what there is.
type route struct {
	pattern string
	role    Role // the least; public: nobody has to be logged in
	// passive: a page that asks by itself keeps no session alive.
	passive bool
	do      func(*server, *visit) error
}

// routes is everything that the console answers, but for the files of the page. What
// changes something is a POST, and nothing else is.
var routes = []route{
	{pattern: "GET /{$}", role: Read, do: (*server).start},
	{pattern: "GET /login", role: public, do: (*server).loginPage},
	{pattern: "POST /login/begin", role: public, do: (*server).beginLogin},
	{pattern: "POST /login", role: public, do: (*server).login},
	{pattern: "GET /invite", role: public, do: (*server).invitePage},
	{pattern: "POST /invite/begin", role: public, do: (*server).beginInvite},
	{pattern: "POST /invite", role: public, do: (*server).invite},
	{pattern: "POST /logout", role: Read, do: (*server).logout},

	{pattern: "GET /people", role: Read, do: (*server).people},
	{pattern: "GET /person", role: Read, do: (*server).person},
	{pattern: "GET /devices", role: Read, do: (*server).devices},
	{pattern: "GET /device", role: Read, do: (*server).device},
	{pattern: "GET /events", role: Read, do: (*server).events},
	{pattern: "GET /events/new", role: Read, passive: true, do: (*server).newEvents},
	{pattern: "GET /requests", role: Helpdesk, do: (*server).requests},
	{pattern: "GET /operators", role: Admin, do: (*server).operatorList},

	// The action's own role is checked behind these.
	{pattern: "GET /act/{action}", role: Helpdesk, do: (*server).form},
	{pattern: "POST /act/{action}", role: Helpdesk, do: (*server).act},
	{pattern: "POST /request/{step}", role: Helpdesk, do: (*server).step},
}

// Handler serves the console.
func Handler(o Options) http.Handler {
	if o.Address == nil {
		o.Address = rate.Peer
	}
	s := &server{Options: o, strangers: rate.New(2, 60), sessions: rate.New(10, 100), nonceKey: store.SharedKey{Setting: nonceKeySetting},
		operators: Operators{Store: o.Store, Origin: o.RelyingParty.Origin, Now: o.Now, Log: o.Log}}
	mux := http.NewServeMux()
	for _, r := range routes {
		mux.HandleFunc(r.pattern, func(w http.ResponseWriter, req *http.Request) { s.serve(r, w, req) })
	}
	mux.HandleFunc("GET /static/{name}", static)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.fail(&visit{ResponseWriter: w, r: r}, errNotFound)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		setHeaders(w.Header())
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		mux.ServeHTTP(w, r)
	})
}

// setHeaders is for every answer.
func setHeaders(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "+
		"form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	// Not no-referrer: browsers then say "Origin: null" with a form of the page's own.
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "publickey-credentials-get=(self), publickey-credentials-create=(self), camera=(), geolocation=(), microphone=(), payment=(), usb=()")
	h.Set("Strict-Transport-Security", "max-age=31536000")
	h.Set("Cache-Control", "no-store")
}

// visit is one request and whose it is.
type visit struct {
	http.ResponseWriter
	r        *http.Request
	operator store.Operator // of a route that is not public
	session  store.OperatorSession
	cookie   []byte // the session's, from which the tokens of forms are made
}

func (v *visit) role() Role { return Role(v.operator.Role) }

// by is the operator as events name them.
func (v *visit) by() string { return "operator:" + v.operator.Name }

func (v *visit) ctx() context.Context { return v.r.Context() }

// serve answers a request of the table: first whose it is, then whether they may.
func (s *server) serve(r route, w http.ResponseWriter, req *http.Request) {
	v := &visit{ResponseWriter: w, r: req}
	err := s.admit(r, v)
	if err == nil {
		err = r.do(s, v)
	}
	if err != nil {
		s.fail(v, err)
	}
}

func (s *server) admit(r route, v *visit) error {
	if v.r.Method != http.MethodGet && v.r.Method != http.MethodHead {
		if err := s.sameOrigin(v.r); err != nil {
			return err
		}
	}
	if r.role == public {
		return s.limitStranger(v.r)
	}
	if err := s.authenticate(v, r.passive); err != nil {
		return err
	}
	what := r.pattern
	if a, ok := findAction(v.r.PathValue("action")); ok {
		what = a.name
	}
	return s.permit(v, r.role, what)
}

// permit says whether the operator's role is enough; where it is not, somebody wants
// to know.
func (s *server) permit(v *visit, least Role, what string) error {
	if v.role().may(least) {
		return nil
	}
	err := s.Store.Update(v.ctx(), func(tx store.Tx) error {
		return enrol.Record(tx, s.Now(), event.Event{Name: enrol.OperatorRefused, By: v.by(), Remote: s.Address(v.r),
			Text: what + " needs the role " + string(least) + ", and not " + v.operator.Role})
	})
	if err != nil {
		return err
	}
	return errRole
}

// sameOrigin wants a request that a page of the console made: browsers say so, and
// nobody else's page can make them say it (Fetch Metadata, RFC 6454).
func (s *server) sameOrigin(r *http.Request) error {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" || r.Header.Get("Origin") != s.RelyingParty.Origin {
		return errOrigin
	}
	return nil
}

func (s *server) limitStranger(r *http.Request) error {
	if !s.strangers.Allow(rate.Key(s.Address(r)), s.Now()) {
		return errLimited
	}
	return nil
}

// problem is an error that an operator may see.
type problem struct {
	status int
	Text   string `json:"text"`
}

func (p *problem) Error() string { return p.Text }

var (
	errNotFound  = &problem{http.StatusNotFound, "That is not here, or not any more."}
	errSignedOut = &problem{http.StatusUnauthorized, "Log in with your passkey."}
	errRole      = &problem{http.StatusForbidden, "Your role may not do this."}
	errOrigin    = &problem{http.StatusForbidden, "This did not come from a page of the console."}
	errForm      = &problem{http.StatusForbidden, "This form was used already, or it is too old. Go back to where you came from, and begin anew. What was shown once is not shown again."}
	errPasskey   = &problem{http.StatusForbidden, "This passkey is not one of the console, or not any more."}
	errInvite    = &problem{http.StatusForbidden, "This invitation was used already, or it has expired. Ask whoever sent it for another."}
	errLimited   = &problem{http.StatusTooManyRequests, "That was too much at once. Wait a moment, then try again."}
	errDown      = &problem{http.StatusServiceUnavailable, "The database cannot be reached right now. Try again in a moment."}
	errInternal  = &problem{http.StatusInternalServerError, "Something went wrong on the server; its log says what."}
)

func malformed(format string, a ...any) error {
	return &problem{http.StatusBadRequest, fmt.Sprintf(format, a...)}
}

// known are the errors that an operator can be told of.
func known(err error) *problem {
	var p *problem
	var long *http.MaxBytesError
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &long):
		return &problem{http.StatusRequestEntityTooLarge, "The request is too long."}
	case errors.Is(err, enrol.ErrInvalid):
		text := strings.TrimPrefix(err.Error(), enrol.ErrInvalid.Error()+": ")
		// Remedies of the command line are none here.
		text, _, _ = strings.Cut(text, ": --")
		text, _, _ = strings.Cut(text, ": sallyport-authority")
		return &problem{http.StatusUnprocessableEntity, "Not done: " + text + "."}
	case errors.Is(err, enrol.ErrNotSigned):
		return &problem{http.StatusUnprocessableEntity, "The organisation's key has not signed the settings yet."}
	case errors.Is(err, enrol.ErrEscrowKey):
		return &problem{http.StatusUnprocessableEntity, "This server cannot answer: its escrow.key is missing or not the right one. Tell whoever runs the authority; sallyport-authority status says what to do."}
	case errors.Is(err, enrol.ErrNoEscrow):
		return &problem{http.StatusUnprocessableEntity, "This computer has not deposited its key for offline answers yet; it does so when it is next online."}
	case errors.Is(err, enrol.ErrTooManyAnswers):
		return &problem{http.StatusUnprocessableEntity, "This computer got too many answers lately. Wait, and find out why."}
	case errors.Is(err, store.ErrNotFound):
		return errNotFound
	case errors.Is(err, store.ErrUsed):
		return &problem{http.StatusConflict, "This was done already, or it has expired."}
	case errors.Is(err, store.ErrExists):
		return &problem{http.StatusConflict, "There is one of that name already."}
	case errors.Is(err, store.ErrInvalid):
		return &problem{http.StatusBadRequest, "The request is malformed."}
	case errors.Is(err, store.ErrUnavailable):
		return errDown
	}
	return errInternal
}

// fail answers with what went wrong: as JSON to a script, as a page to a person.
func (s *server) fail(v *visit, err error) {
	p := known(err)
	if p == errSignedOut { // it may have ended after it was let in
		v.operator = store.Operator{}
	}
	if p.status >= 500 && v.ctx().Err() == nil {
		// The pattern, not the address: it may name people.
		s.Log.Error("the console could not answer", "request", v.r.Pattern, "error", err)
	}
	htmx := v.r.Header.Get("HX-Request") != ""
	switch {
	case p == errSignedOut && htmx:
		v.Header().Set("HX-Redirect", "/login")
		v.WriteHeader(http.StatusUnauthorized)
	case p == errSignedOut && v.r.Method == http.MethodGet:
		http.Redirect(v, v.r, "/login", http.StatusSeeOther)
	case strings.HasPrefix(v.r.Header.Get("Content-Type"), "application/json"):
		writeJSON(v, p.status, p)
	case htmx:
		http.Error(v, p.Text, p.status)
	default:
		// The page has a menu, for which the database is asked: it may be what is down.
		if s.render(v, p.status, "problem", screen{Title: "Not done", Data: p.Text}) != nil {
			http.Error(v, p.Text, p.status)
		}
	}
}
