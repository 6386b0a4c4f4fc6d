package console

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"sallyport/authority/enrol"
	"sallyport/authority/store"
	"sallyport/internal/event"
)

const (
	pageSize  = 50
	maxSearch = 100
)

// page says which part of a list is shown.
type paging struct {
	Q    string // what is searched for
	Next string // the query of the next page; "" = there is none
	More bool   // this is not the first page
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
			p.Next = url.Values{"q": {q}, "after": {users[pageSize-1].Name}}.Encode()
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
	store.Device
	Online   bool
	Everyone bool
	Problems []store.Problem
	Report   *store.Report   // nil: it has said nothing of itself yet
	Person   *store.Reported // of a person's page; nil: it has said nothing of them
}

// computer reads what a page shows of a device.
func (s *server) computer(tx store.Tx, d store.Device) (computer, error) {
	c := computer{Device: d, Everyone: slices.Equal(d.Users, []string{enrol.Everyone})}
	now := s.Now()
	node, err := tx.StreamNode(d.ID, now)
	if err != nil {
		return c, err
	}
	c.Online = node != ""
	switch r, err := tx.Report(d.ID); {
	case err == nil:
		c.Report, c.Problems = &r, r.Problems
	case !errors.Is(err, store.ErrNotFound):
		return c, err
	}
	add := func(code, text string) { c.Problems = append(c.Problems, store.Problem{Code: code, Text: text}) }
	switch {
	case !d.Revoked.IsZero():
		c.Problems = nil
	case now.After(d.Expires):
		add("certificate_ended", "Its certificate has ended: it has to join anew.")
	case !c.Online && !d.Seen.IsZero() && now.Sub(d.Seen) > 30*24*time.Hour:
		add("not_seen", "It was not seen for over 30 days.")
	}
	return c, nil
}

func (s *server) person(v *visit) error {
	name := v.r.URL.Query().Get("name")
	var user store.User
	var computers []computer
	var phones []store.Approver
	more := false
	names := map[string]string{}
	err := s.Store.View(v.ctx(), func(tx store.Tx) (err error) {
		if user, err = tx.User(name); err != nil {
			return err
		}
		devices, err := tx.Devices(name)
		if err != nil {
			return err
		}
		devices = slices.DeleteFunc(devices, func(d store.Device) bool { return !d.Revoked.IsZero() })
		if more = len(devices) > pageSize; more {
			devices = devices[:pageSize]
		}
		computers = nil
		reported, err := tx.ReportedOf(name)
		if err != nil {
			return err
		}
		for _, d := range devices {
			c, err := s.computer(tx, d)
			if err != nil {
				return err
			}
			if i := slices.IndexFunc(reported, func(r store.Reported) bool { return r.Device == d.ID }); i >= 0 {
				c.Person = &reported[i]
			}
			computers = append(computers, c)
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
	last, err := s.lastEvents(v, store.EventQuery{User: name, Limit: 15})
	if err != nil {
		return err
	}
	return s.render(v, http.StatusOK, "person", screen{Title: name, Data: map[string]any{
		"User": user, "Computers": computers, "More": more, "Now": s.Now(), "Phones": phones, "Names": names, "Events": last}})
}

func (s *server) devices(v *visit) error {
	q, err := search(v)
	if err != nil {
		return err
	}
	query := v.r.URL.Query()
	p := paging{Q: q, More: query.Has("after")}
	var list []computer
	err = s.Store.View(v.ctx(), func(tx store.Tx) error {
		found, err := tx.FindDevices(q, query.Get("after"), query.Get("id"), pageSize+1)
		if err != nil {
			return err
		}
		list = nil
		if len(found) > pageSize {
			found = found[:pageSize]
			last := found[pageSize-1]
			p.Next = url.Values{"q": {q}, "after": {last.Name}, "id": {last.ID}}.Encode()
		}
		for _, d := range found {
			c, err := s.computer(tx, d)
			if err != nil {
				return err
			}
			list = append(list, c)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return s.render(v, http.StatusOK, "devices", screen{Title: "Computers", Data: map[string]any{"List": list, "Page": p}})
}

func (s *server) device(v *visit) error {
	id := v.r.URL.Query().Get("id")
	var c computer
	err := s.Store.View(v.ctx(), func(tx store.Tx) error {
		d, err := tx.Device(id)
		if err != nil {
			return err
		}
		c, err = s.computer(tx, d)
		return err
	})
	if err != nil {
		return err
	}
	last, err := s.lastEvents(v, store.EventQuery{Device: id, Limit: 15})
	if err != nil {
		return err
	}
	return s.render(v, http.StatusOK, "device", screen{Title: c.Name, Data: map[string]any{"Computer": c, "Events": last}})
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
		"List": list, "Filter": f, "Next": next, "After": after, "Live": f.empty() && q.Cursor == ""}})
}

// newEvents are those since the page was made, for the live view.
func (s *server) newEvents(v *visit) error {
	after, err := strconv.ParseUint(v.r.URL.Query().Get("after"), 10, 64)
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
	type operator struct {
		store.Operator
		Keys    []store.OperatorKey
		Invited time.Time // until when; zero: not
		Me      bool
	}
	var list []operator
	err := s.Store.View(v.ctx(), func(tx store.Tx) error {
		list = nil
		all, err := tx.Operators()
		if err != nil {
			return err
		}
		keys, err := tx.OperatorKeys("")
		if err != nil {
			return err
		}
		invitations, err := tx.OperatorInvitations()
		if err != nil {
			return err
		}
		for _, o := range all {
			one := operator{Operator: o, Me: o.Name == v.operator.Name}
			for _, k := range keys {
				if k.Operator == o.Name {
					one.Keys = append(one.Keys, k)
				}
			}
			for _, i := range invitations {
				if i.Operator == o.Name && s.Now().Before(i.Expires) {
					one.Invited = i.Expires
				}
			}
			list = append(list, one)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return s.render(v, http.StatusOK, "operators", screen{Title: "Operators", Data: map[string]any{"List": list, "KeyID": b64.EncodeToString}})
}
