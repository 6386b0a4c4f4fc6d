package console

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"sallyport/authority/enrol"
	"sallyport/authority/store"
	"sallyport/internal/event"
	"sallyport/internal/factor/offline"
	"sallyport/internal/factor/push"
	"sallyport/internal/qr"
)

const (
	// requestLife is how long a request waits for a second operator, and for being
	// carried out.
	requestLife = time.Hour
	// maxRequests that one operator may have open.
	maxRequests = 20
	maxField    = 320
	maxReason   = 200
)

// chosen is the action that an address names, where the operator may do it.
func (s *server) chosen(v *visit) (action, error) {
	a, ok := findAction(v.r.PathValue("action"))
	if !ok {
		return a, errNotFound
	}
	return a, s.permit(v, a.role, a.name)
}

// fields are those of an action's form.
func (s *server) fields(a action) []string {
	if s.takesTwo(a) && !slices.Contains(a.needs, fieldReason) {
		return append(slices.Clone(a.needs), fieldReason)
	}
	return a.needs
}

// about is what a form shows of whom and what it is about; given is what the address
// says, and is not asked for.
type about struct {
	Given []given
	back  string
}

type given struct{ Field, Label, Text, Value string }

// describe looks up what an input names. What is not there is no form.
func (s *server) describe(v *visit, a action, in input) (of about, err error) {
	err = s.Store.View(v.ctx(), func(tx store.Tx) error {
		of = about{back: "/people"}
		if a.role == Admin {
			of.back = "/operators"
		}
		add := func(field, label, text string) {
			of.Given = append(of.Given, given{field, label, text, in[field]})
		}
		if name := in[fieldUser]; name != "" {
			if _, err := tx.User(name); err != nil {
				return err
			}
			add(fieldUser, "Person", name)
			of.back = "/person?" + url.Values{"name": {name}}.Encode()
		}
		if id := in[fieldDevice]; id != "" {
			d, err := tx.Device(id)
			if err != nil {
				return err
			}
			text := d.Name
			if twins, err := tx.DevicesNamed(d.Name); err != nil {
				return err
			} else if len(twins) > 1 { // computers say themselves what they are called
				text += ", id " + d.ID
			}
			add(fieldDevice, "Computer", text)
			if in[fieldUser] == "" {
				of.back = "/device?" + url.Values{"id": {id}}.Encode()
			}
		}
		if id := in[fieldPhone]; id != "" {
			p, err := tx.Approver(id)
			if err == nil && p.User != in[fieldUser] {
				err = store.ErrNotFound
			}
			if err != nil {
				return err
			}
			add(fieldPhone, "Phone", p.Phone)
		}
		if name := in[fieldOperator]; name != "" {
			if _, err := tx.Operator(name); err != nil && a.name != addOperator {
				return err
			}
			add(fieldOperator, "Operator", name)
		}
		if id := in[fieldKey]; id != "" {
			credential, _ := b64.DecodeString(id)
			k, err := tx.OperatorKey(credential)
			if err == nil && k.Operator != in[fieldOperator] {
				err = store.ErrNotFound
			}
			if err != nil {
				return err
			}
			add(fieldKey, "Passkey", k.Label)
		}
		return nil
	})
	return of, err
}

// namedFields are those that a form's address may fill in.
var namedFields = []string{fieldUser, fieldDevice, fieldPhone, fieldOperator, fieldKey}

// form shows what an action will do, and asks for what it needs.
func (s *server) form(v *visit) error {
	a, err := s.chosen(v)
	if err != nil {
		return err
	}
	in := input{}
	for name, values := range v.r.URL.Query() {
		if !slices.Contains(namedFields, name) || !slices.Contains(a.needs, name) || len(values) != 1 {
			return malformed("The address is malformed.")
		}
		in[name] = values[0]
	}
	return s.showForm(v, http.StatusOK, a, in, "")
}

type ask struct {
	Field, Label, Hint, Value string
	Choices                   [][2]string // value and text; none: it is typed
}

func (s *server) showForm(v *visit, status int, a action, in input, wrong string) error {
	named := maps.Clone(in)
	if a.name == addOperator {
		delete(named, fieldOperator) // it is typed
	}
	of, err := s.describe(v, a, named)
	if err != nil {
		return err
	}
	var asks []ask
	for _, f := range s.fields(a) {
		if named[f] != "" && slices.Contains(namedFields, f) {
			continue
		}
		q := ask{Field: f, Value: in[f], Label: f}
		switch f {
		case fieldReason:
			q.Label, q.Hint = "Reason", "How you know who is asking, and the ticket. It is kept with the event."
		case fieldLife:
			q.Label, q.Value = "Good for", cmp.Or(in[f], "1h")
			q.Choices = [][2]string{{"15m", "15 minutes"}, {"1h", "1 hour"}, {"4h", "4 hours"}, {"24h", "24 hours"}}
		case fieldChallenge:
			q.Label, q.Hint = "What the screen shows", "The person types ? where the code is asked for; the screen then shows 8 letters and digits."
		case fieldOperator:
			q.Label, q.Hint = "Name", "As colleagues know them: a-z 0-9 . _ @ -"
		case fieldRole:
			q.Label, q.Value = "Role", cmp.Or(in[f], string(Read))
			q.Choices = [][2]string{{"read", "read: sees everything"}, {"helpdesk", "helpdesk: helps people log in"}, {"admin", "admin: and says who is an operator"}}
		default: // what the form is about is said by its address
			return errNotFound
		}
		asks = append(asks, q)
	}
	return s.render(v, status, "form", screen{Title: a.title, Error: wrong, Data: map[string]any{
		"Action": a.name, "Says": a.says, "Given": of.Given, "Asks": asks, "Back": of.back, "Two": s.takesTwo(a), "Form": s.token(v, "act/"+a.name),
		"Danger": slices.Contains([]string{"revoke", "operator_remove", "phone_remove", "passkey_remove"}, a.name),
	}})
}

// act does what a form asks for, or keeps it for a second operator.
func (s *server) act(v *visit) error {
	a, err := s.chosen(v)
	if err != nil {
		return err
	}
	use, err := s.checkForm(v, "act/"+a.name)
	if err != nil {
		return err
	}
	in, wrong := input{}, ""
	for name, values := range v.r.PostForm {
		switch text := strings.TrimSpace(values[0]); {
		case name == "form":
		case !slices.Contains(s.fields(a), name):
			return malformed("The form has a field %q.", name)
		default:
			in[name] = text
		}
	}
	for _, f := range s.fields(a) {
		switch text := in[f]; {
		case text == "":
			wrong = cmp.Or(wrong, map[string]string{fieldReason: "Say why.", fieldChallenge: "Type what the screen shows."}[f], "Fill in everything.")
		case len(text) > maxField || !printable(text) || f == fieldReason && len(text) > maxReason:
			wrong = cmp.Or(wrong, "That is too long, or has characters in it that cannot be shown.")
		}
	}
	if slices.Contains([]string{"operator_role", "operator_remove"}, a.name) && in[fieldOperator] == v.operator.Name {
		wrong = cmp.Or(wrong, "Nobody changes what they may do themselves: ask another admin.")
	}
	if wrong != "" {
		return s.showForm(v, http.StatusUnprocessableEntity, a, in, wrong)
	}
	if err := use(); err != nil {
		return err
	}
	if s.takesTwo(a) {
		err = s.request(v, a, in)
	} else {
		err = s.carryOut(v, a, in, func(store.Tx) error { return nil })
	}
	// What the person can mend, the form says.
	if p := known(err); err != nil && (p.status == http.StatusUnprocessableEntity || p.status == http.StatusBadRequest || p.status == http.StatusConflict) {
		return s.showForm(v, p.status, a, in, p.Text)
	}
	return err
}

// together is a store whose every change begins with another one: both are done, or
// neither is.
type together struct {
	store.Store
	first func(tx store.Tx) error
}

func (t together) Update(ctx context.Context, fn func(tx store.Tx) error) error {
	return t.Store.Update(ctx, func(tx store.Tx) error {
		if err := t.first(tx); err != nil {
			return err
		}
		return fn(tx)
	})
}

// Change is Update: there is no way around what comes first.
func (t together) Change(ctx context.Context, fn func(tx store.Tx) error) error {
	return t.Update(ctx, fn)
}

// acting is the server for what an operator does who is logged in still, where first
// is done with it.
func (s *server) acting(v *visit, first func(tx store.Tx) error) *server {
	o := s.Options
	o.Store = together{s.Store, func(tx store.Tx) error {
		if err := loggedIn(tx, v); err != nil {
			return err
		}
		return first(tx)
	}}
	o.Enrol = o.Enrol.On(o.Store)
	operators := s.operators
	operators.Store = o.Store
	return &server{Options: o, operators: operators}
}

// carryOut does an action together with first, and shows what it made.
func (s *server) carryOut(v *visit, a action, in input, first func(tx store.Tx) error) error {
	of, err := s.describe(v, a, in) // as long as it is there
	if err != nil {
		return err
	}
	h, err := a.run(s.acting(v, first), v.ctx(), v.by(), in)
	if err != nil {
		return err
	}
	if h == nil || h.Waits && len(h.Codes) == 0 && h.Link.Empty() {
		to, _ := url.Parse(of.back)
		q := to.Query()
		q.Set("done", a.name)
		if h != nil {
			q.Set("done", "waits")
		}
		to.RawQuery = q.Encode()
		http.Redirect(v, v.r, to.String(), http.StatusSeeOther)
		return nil
	}
	data := map[string]any{"Given": of.Given, "Tell": a.tell, "Back": of.back, "Waits": h.Waits, "Expires": h.Expires}
	// From here it goes onto the screen, and nowhere else.
	var codes []string
	for _, c := range h.Codes {
		codes = append(codes, c.Reveal())
	}
	data["Codes"] = codes
	if !h.Link.Empty() {
		d, size, err := qr.Path(h.Link.Reveal())
		if err != nil {
			return err
		}
		data["Link"], data["QR"], data["Size"] = h.Link.Reveal(), d, size
	}
	return s.render(v, http.StatusOK, "handout", screen{Title: a.title, Data: data})
}

// request keeps what takes two.
func (s *server) request(v *visit, a action, in input) error {
	kept, err := json.Marshal(in)
	if err != nil {
		return err
	}
	of, err := s.describeRequest(v, a, in)
	if err != nil {
		return err
	}
	if err := s.possible(v, a, in); err != nil {
		return err
	}
	now := s.Now()
	err = s.change(v, func(tx store.Tx) error {
		list, err := tx.OperatorRequests(now)
		if err != nil {
			return err
		}
		mine := 0
		for _, r := range list {
			if r.Operator == v.operator.Name {
				mine++
			}
		}
		if mine >= maxRequests {
			return malformed("You have %d requests open already.", mine)
		}
		return errors.Join(
			tx.CreateOperatorRequest(store.OperatorRequest{ID: push.NewID(), Operator: v.operator.Name, Action: a.name, Input: kept, Created: now, Expires: now.Add(requestLife)}),
			enrol.Record(tx, now, event.Event{Name: enrol.ApprovalRequested, User: in[fieldUser], By: v.by(), Text: of + ": " + in[fieldReason]}))
	})
	if err != nil {
		return err
	}
	http.Redirect(v, v.r, "/requests?done=requested", http.StatusSeeOther)
	return nil
}

// possible says what is wrong with a request that could not be carried out: before
// somebody approves it, not after.
func (s *server) possible(v *visit, a action, in input) error {
	if slices.Contains(a.needs, fieldLife) {
		if _, err := lifeOf(in); err != nil {
			return err
		}
	}
	if slices.Contains(a.needs, fieldChallenge) {
		if _, err := offline.ParseChallenge(in[fieldChallenge], in[fieldDevice], in[fieldUser]); err != nil {
			return invalid("%v", err)
		}
	}
	return s.Store.View(v.ctx(), func(tx store.Tx) error {
		if a.name == addOperator {
			return newOperator(tx, in[fieldOperator], Role(in[fieldRole]))
		}
		if role, ok := in[fieldRole]; ok && !Role(role).Known() {
			return unknownRole(Role(role))
		}
		if in[fieldDevice] == "" {
			return nil
		}
		d, err := tx.Device(in[fieldDevice])
		switch {
		case err != nil:
			return err
		case !d.Revoked.IsZero():
			return invalid("the computer %s is revoked", d.Name)
		case in[fieldUser] != "" && !enrol.Allowed(d, in[fieldUser]):
			return invalid("%s is not allowed on %s", in[fieldUser], d.Name)
		}
		return nil
	})
}

// describeRequest is one line that says what a request is about.
func (s *server) describeRequest(v *visit, a action, in input) (string, error) {
	of, err := s.describe(v, a, in)
	if err != nil {
		return "", err
	}
	text := a.title
	for _, g := range of.Given {
		text += ", " + strings.ToLower(g.Label) + " " + g.Text
	}
	if in[fieldRole] != "" {
		text += ", role " + in[fieldRole]
	}
	if in[fieldLife] != "" {
		text += ", for " + in[fieldLife]
	}
	return text, nil
}

// waiting is a request as the list shows it.
type waiting struct {
	store.OperatorRequest
	Text, Reason string
	Mine         bool
	MayApprove   bool
}

func (s *server) requests(v *visit) error { return s.showRequests(v, http.StatusOK, "") }

func (s *server) showRequests(v *visit, status int, wrong string) error {
	var kept []store.OperatorRequest
	err := s.Store.View(v.ctx(), func(tx store.Tx) (err error) {
		kept, err = tx.OperatorRequests(s.Now())
		return err
	})
	if err != nil {
		return err
	}
	var list []waiting
	for _, r := range kept {
		w, a, err := s.read(v, r)
		if errors.Is(err, store.ErrNotFound) { // whom or what it was about is gone
			continue
		}
		if err != nil {
			return err
		}
		if v.role().may(a.role) {
			list = append(list, w)
		}
	}
	return s.render(v, status, "requests", screen{Title: "Requests", Error: wrong, Data: map[string]any{"List": list,
		"Approve": func() string { return s.token(v, "request/approve") }, "Refuse": func() string { return s.token(v, "request/refuse") },
		"CarryOut": func() string { return s.token(v, "request/carry-out") }}})
}

// read is a request that was kept.
func (s *server) read(v *visit, r store.OperatorRequest) (w waiting, a action, err error) {
	a, ok := findAction(r.Action)
	var in input
	if err := json.Unmarshal(r.Input, &in); err != nil || !ok {
		return w, a, errors.Join(errors.New("the request "+r.ID+" is damaged"), err)
	}
	w = waiting{OperatorRequest: r, Reason: in[fieldReason], Mine: r.Operator == v.operator.Name}
	w.MayApprove = !w.Mine && r.Approver == "" && v.role().may(a.role)
	w.Text, err = s.describeRequest(v, a, in)
	return w, a, err
}

// step approves a request, refuses it or takes it back, or carries it out. Where that
// could not be done the list says why: somebody may have been faster, or it can be
// tried again.
func (s *server) step(v *visit) error {
	step := v.r.PathValue("step")
	if !slices.Contains([]string{"approve", "refuse", "carry-out"}, step) {
		return errNotFound
	}
	if err := s.useForm(v, "request/"+step); err != nil {
		return err
	}
	err := s.takeStep(v, step)
	if p := known(err); err != nil && slices.Contains([]int{http.StatusNotFound, http.StatusConflict, http.StatusUnprocessableEntity}, p.status) {
		return s.showRequests(v, p.status, p.Text)
	}
	return err
}

func (s *server) takeStep(v *visit, step string) error {
	var r store.OperatorRequest
	err := s.Store.View(v.ctx(), func(tx store.Tx) (err error) {
		r, err = tx.OperatorRequest(v.r.PostForm.Get("id"))
		return err
	})
	if err != nil {
		return err
	}
	w, a, err := s.read(v, r)
	if err != nil {
		return err
	}
	// Nobody approves, or carries out, what they may not do themselves.
	if err := s.permit(v, a.role, a.name); err != nil {
		return err
	}
	now := s.Now()
	var in input
	if err := json.Unmarshal(r.Input, &in); err != nil {
		return err
	}
	e := event.Event{User: in[fieldUser], By: v.by(), Text: w.Text + ", asked by " + r.Operator + ": " + w.Reason}
	switch step {
	case "approve":
		if w.Mine {
			return &problem{http.StatusForbidden, "Somebody else has to approve what you asked for."}
		}
		e.Name = enrol.ApprovalGiven
		err = s.change(v, func(tx store.Tx) error {
			return errors.Join(tx.ApproveOperatorRequest(r.ID, v.operator.Name, now), enrol.Record(tx, now, e))
		})
	case "refuse":
		e.Name = enrol.ApprovalRefused
		err = s.change(v, func(tx store.Tx) error {
			return errors.Join(tx.RemoveOperatorRequest(r.ID), enrol.Record(tx, now, e))
		})
	case "carry-out":
		if !w.Mine {
			return &problem{http.StatusForbidden, "Only who asked for it carries it out."}
		}
		// What could not be done leaves the approval; what may have been done does not.
		return s.carryOut(v, a, in, func(tx store.Tx) error {
			taken, err := tx.TakeOperatorRequest(r.ID, now)
			if err != nil {
				return err
			}
			by, err := tx.Operator(taken.Approver)
			if err == nil && !Role(by.Role).may(a.role) || errors.Is(err, store.ErrNotFound) {
				return &problem{http.StatusForbidden, "Who approved this may not do it any more: ask for it anew."}
			}
			return err
		})
	}
	if err != nil {
		return err
	}
	http.Redirect(v, v.r, "/requests?done="+step, http.StatusSeeOther)
	return nil
}
