package console

import (
	"encoding/json"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/authority/enrol"
	"sallyport/authority/store"
	"sallyport/internal/event"
	"sallyport/internal/organisation"
)

const (
	pageSize  = 50
	maxSearch = 100
	// maxComputers are shown on a person's page.
	maxComputers = 20
	lastEvents   = 15
)

// page says which part of a list is shown.
type paging struct {
	Q    string       // what is searched for
	Next template.URL // the query of the next page, which is escaped already; "" = there is none
	More bool         // this is not the first page
}

// search is the text that a list is searched for.
func search(v *visit) (string, error) {
	q := v.r.URL.Query().Get("q")
	if len(q) > maxSearch {
		return "", malformed("Search for at most %d characters.", maxSearch)
	}
	return q, nil
}

func (s *server) start(v *visit) error {
	http.Redirect(v, v.r, "/people", http.StatusSeeOther)
	return nil
}

func (s *server) people(v *visit) error {
	q, err := search(v)
	if err != nil {
		return err
	}
	after := v.r.URL.Query().Get("after")
	p := paging{Q: q, More: after != ""}
	type person struct {
		store.User
		Phones int
	}
	var list []person
	err = s.Store.View(v.ctx(), func(tx store.Tx) error {
		users, err := tx.FindUsers(q, after, pageSize+1)
		if err != nil {
			return err
		}
		list = nil
		if len(users) > pageSize {
			users = users[:pageSize]
			p.Next = template.URL(url.Values{"q": {q}, "after": {users[pageSize-1].Name}}.Encode())
		}
		for _, u := range users {
			phones, err := tx.Approvers(u.Name)
			if err != nil {
				return err
			}
			list = append(list, person{u, len(phones)})
		}
		return nil
	})
	if err != nil {
		return err
	}
	return s.render(v, http.StatusOK, "people", screen{Title: "People", Data: map[string]any{"List": list, "Page": p}})
}

// computer is a device as the pages show it.
type computer struct {
	enrol.DeviceStatus
	Everyone bool
	Twin     bool            // on a person's page: another there has the same name
	Person   *store.Reported // on a person's page: what it said of them; nil: nothing yet
	Remote   []remote
}

// remote is what a computer made of the last unlock and the like.
type remote struct {
	Title, State, Why string
	At                time.Time
}

func shownComputer(d enrol.DeviceStatus) computer {
	return computer{DeviceStatus: d, Everyone: slices.Equal(d.Users, []string{enrol.Everyone})}
}

func (s *server) person(v *visit) error {
	name := v.r.URL.Query().Get("name")
	q, err := search(v)
	if err != nil {
		return err
	}
	var user store.User
	var phones []store.Approver
	names := map[string]string{}
	err = s.Store.View(v.ctx(), func(tx store.Tx) (err error) {
		if user, err = tx.User(name); err != nil {
			return err
		}
		if phones, err = tx.Approvers(name); err != nil {
			return err
		}
		for _, p := range phones {
			if p.Device == "" {
				continue
			}
			if d, err := tx.Device(p.Device); err == nil {
				names[p.Device] = d.Name
			} else if !errors.Is(err, store.ErrNotFound) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	fleet, err := s.Enrol.Fleet(v.ctx(), name)
	if err != nil {
		return err
	}
	reported, err := s.Enrol.ReportedOf(v.ctx(), name)
	if err != nil {
		return err
	}
	said := func(d enrol.DeviceStatus) *store.Reported {
		i := slices.IndexFunc(reported, func(r store.Reported) bool { return r.Device == d.ID })
		if i < 0 {
			return nil
		}
		return &reported[i]
	}
	// Where somebody may log in anywhere, what matters is where they do: those computers come first.
	slices.SortStableFunc(fleet, func(a, b enrol.DeviceStatus) int {
		x, y := said(a), said(b)
		switch {
		case (x != nil) != (y != nil):
			return map[bool]int{true: -1, false: 1}[x != nil]
		case x == nil:
			return 0
		}
		return y.LastSuccess.Compare(x.LastSuccess)
	})
	called := map[string]int{}
	for _, d := range fleet {
		called[d.Name]++
	}
	if q != "" {
		low := strings.ToLower(q)
		fleet = slices.DeleteFunc(fleet, func(d enrol.DeviceStatus) bool {
			return !strings.Contains(strings.ToLower(d.Name+"\n"+d.Serial+"\n"+d.ID), low)
		})
	}
	more := len(fleet) > maxComputers
	if more {
		fleet = fleet[:maxComputers]
	}
	var computers []computer
	for _, d := range fleet {
		c := shownComputer(d)
		c.Person, c.Twin = said(d), called[d.Name] > 1
		if c.Remote, err = s.remotes(v, name, d.ID); err != nil {
			return err
		}
		computers = append(computers, c)
	}
	last, err := s.lastEvents(v, store.EventQuery{User: name, Limit: lastEvents})
	if err != nil {
		return err
	}
	return s.render(v, http.StatusOK, "person", screen{Title: name, Data: map[string]any{
		"User": user, "Computers": computers, "More": more, "Q": q, "Phones": phones, "Names": names, "Events": last, "Now": s.Now()}})
}

// remotes says what became of what the computer was told to do for somebody.
func (s *server) remotes(v *visit, user, device string) (list []remote, err error) {
	for kind, title := range map[organisation.Kind]string{organisation.KindUnlock: "Unlock", organisation.KindPushClear: "Clearing the push lock"} {
		a, err := s.Enrol.RemoteState(v.ctx(), kind, user, device)
		if err != nil {
			return nil, err
		}
		state := map[enrol.RemoteState]string{enrol.RemoteWaits: "waits for the organisation's key", enrol.RemoteSent: "the computer has not answered yet",
			enrol.RemoteDone: "done", enrol.RemoteRefused: "the computer does not take it", enrol.RemoteExpired: "the computer was not there in time"}[a.State]
		if state != "" {
			list = append(list, remote{title, state, a.Why, a.At})
		}
	}
	slices.SortFunc(list, func(a, b remote) int { return strings.Compare(b.Title, a.Title) })
	return list, nil
}

func (s *server) devices(v *visit) error {
	q, err := search(v)
	if err != nil {
		return err
	}
	query := v.r.URL.Query()
	p := paging{Q: q, More: query.Has("after")}
	var found []store.Device
	err = s.Store.View(v.ctx(), func(tx store.Tx) (err error) {
		found, err = tx.FindDevices(q, query.Get("after"), query.Get("id"), pageSize+1)
		return err
	})
	if err != nil {
		return err
	}
	if len(found) > pageSize {
		found = found[:pageSize]
		last := found[pageSize-1]
		p.Next = template.URL(url.Values{"q": {q}, "after": {last.Name}, "id": {last.ID}}.Encode())
	}
	var list []computer
	for _, d := range found {
		st, err := s.Enrol.DeviceStatus(v.ctx(), d.ID)
		if err != nil {
			return err
		}
		list = append(list, shownComputer(st))
	}
	return s.render(v, http.StatusOK, "devices", screen{Title: "Computers", Data: map[string]any{"List": list, "Page": p}})
}

func (s *server) device(v *visit) error {
	id := v.r.URL.Query().Get("id")
	st, err := s.Enrol.DeviceStatus(v.ctx(), id)
	if err != nil {
		return err
	}
	last, err := s.lastEvents(v, store.EventQuery{Device: id, Limit: lastEvents})
	if err != nil {
		return err
	}
	return s.render(v, http.StatusOK, "device", screen{Title: st.Name, Data: map[string]any{"Computer": shownComputer(st), "Events": last}})
}

// shownEvent is an event as the pages show it.
type shownEvent struct {
	event.Event
	Kept   store.Event
	Device string // its computer's name; "" = the authority's own
	Own    bool
}

// shown reads the events' names of computers.
func shown(tx store.Tx, list []store.Event, names map[string]string) ([]shownEvent, error) {
	var out []shownEvent
	for _, e := range list {
		one := shownEvent{Kept: e, Own: e.Device == ""}
		if json.Unmarshal(e.JSON, &one.Event) != nil {
			one.Event = event.Event{Name: event.Name(e.Name), User: e.User, Text: "This event cannot be read."}
		}
		one.Time = e.Time
		if e.Device != "" {
			if _, ok := names[e.Device]; !ok {
				d, err := tx.Device(e.Device)
				if err != nil && !errors.Is(err, store.ErrNotFound) {
					return nil, err
				}
				names[e.Device] = d.Name
				if err != nil {
					names[e.Device] = e.Device
				}
			}
			one.Device = names[e.Device]
		}
		out = append(out, one)
	}
	return out, nil
}

func (s *server) lastEvents(v *visit, q store.EventQuery) (list []shownEvent, err error) {
	list, _, err = s.findEvents(v, q)
	return list, err
}

func (s *server) findEvents(v *visit, q store.EventQuery) (list []shownEvent, next string, err error) {
	err = s.Store.View(v.ctx(), func(tx store.Tx) error {
		found, err := tx.SearchEvents(q)
		if err != nil {
			return err
		}
		next = found.Next
		list, err = shown(tx, found.Events, map[string]string{})
		return err
	})
	return list, next, err
}

// eventFilter is the search form of the events, as it was sent.
type eventFilter struct {
	User, Device, Name, Verdict, Text, From, To string
}

func (f eventFilter) empty() bool { return f == eventFilter{} }

func (f eventFilter) values() url.Values {
	q := url.Values{}
	for name, text := range map[string]string{"user": f.User, "device": f.Device, "name": f.Name, "verdict": f.Verdict, "text": f.Text, "from": f.From, "to": f.To} {
		if text != "" {
			q.Set(name, text)
		}
	}
	return q
}

func day(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return t, malformed("%q is no day, such as 2026-11-22.", s)
	}
	return t, nil
}

func (s *server) events(v *visit) error {
	query := v.r.URL.Query()
	f := eventFilter{query.Get("user"), query.Get("device"), query.Get("name"), query.Get("verdict"), query.Get("text"), query.Get("from"), query.Get("to")}
	q := store.EventQuery{User: f.User, Verdict: f.Verdict, Text: f.Text, Cursor: query.Get("cursor"), Limit: pageSize}
	if !slices.Contains([]string{"", "allow", "deny", "skip"}, f.Verdict) {
		return malformed("A verdict is allow, deny or skip.")
	}
	var err error
	if q.Since, err = day(f.From); err != nil {
		return err
	}
	if q.Until, err = day(f.To); err != nil {
		return err
	}
	if !q.Until.IsZero() {
		q.Until = q.Until.AddDate(0, 0, 1) // the day itself is included
	}
	if f.Name != "" {
		q.Names = []string{f.Name}
	}
	var after uint64
	wrong := ""
	err = s.Store.View(v.ctx(), func(tx store.Tx) (err error) {
		wrong = ""
		if f.Device != "" {
			// By the name that people know, or by its id.
			list, err := tx.DevicesNamed(f.Device)
			if err != nil {
				return err
			}
			switch len(list) {
			case 0:
				q.Device = f.Device
			case 1:
				q.Device = list[0].ID
			default:
				wrong = "Several computers have this name: open the one you mean under Computers, and come from there."
			}
		}
		after, err = tx.LastEvent()
		return err
	})
	if err != nil {
		return err
	}
	var list []shownEvent
	next := ""
	if wrong == "" {
		if list, next, err = s.findEvents(v, q); err != nil {
			return err
		}
	}
	if next != "" {
		values := f.values()
		values.Set("cursor", next)
		next = values.Encode()
	}
	return s.render(v, http.StatusOK, "events", screen{Title: "Events", Error: wrong, Data: map[string]any{
		"List": list, "Filter": f, "Next": template.URL(next), "After": after, "Live": f.empty() && q.Cursor == ""}})
}

// newEvents are those since the page was made, for the live view.
func (s *server) newEvents(v *visit) error {
	after, err := strconv.ParseUint(v.r.URL.Query().Get("after"), 10, 63)
	if err != nil {
		return malformed("The address is malformed.")
	}
	var list []shownEvent
	next := after
	err = s.Store.View(v.ctx(), func(tx store.Tx) error {
		var found []store.Event
		if found, next, err = tx.Events(after, "", "", pageSize); err != nil {
			return err
		}
		list, err = shown(tx, found, map[string]string{})
		return err
	})
	if err != nil {
		return err
	}
	if len(list) == 0 {
		v.WriteHeader(http.StatusNoContent)
		return nil
	}
	slices.Reverse(list)
	return s.part(v, "events", "live", map[string]any{"After": next, "List": list, "New": len(list)})
}

func (s *server) operatorList(v *visit) error {
	list, err := s.operators.List(v.ctx())
	if err != nil {
		return err
	}
	return s.render(v, http.StatusOK, "operators", screen{Title: "Operators", Data: map[string]any{"List": list, "Me": v.operator.Name, "KeyID": b64.EncodeToString}})
}
