package accounts

import (
	"context"
	"errors"
	"testing"
	"time"

	"sallyport/internal/identity"
)

func TestWhatIsRememberedOfAListedName(t *testing.T) {
	const alice = identity.ID("sid:S-1-5-21-1-2-3-1001")
	hangs := errors.New("the directory does not answer")
	begin := time.Unix(1e9, 0)
	type step struct {
		at    time.Duration
		id    identity.ID // what a look-up would say
		err   error
		want  identity.ID
		fails error
		asked bool
	}
	for name, c := range map[string]struct {
		failures bool
		steps    []step
	}{
		"who it is, for a minute": {false, []step{
			{0, alice, nil, alice, nil, true},
			{59 * time.Second, "", hangs, alice, nil, false},
			{60 * time.Second, "", hangs, "", hangs, true},
		}},
		"no failure, where asking again costs nothing": {false, []step{
			{0, "", ErrUnknown, "", ErrUnknown, true},
			{0, "", hangs, "", hangs, true},
			{0, alice, nil, alice, nil, true},
		}},
		"a failure, for half a minute": {true, []step{
			{0, "", hangs, "", hangs, true},
			{29 * time.Second, alice, nil, "", hangs, false},
			{30 * time.Second, alice, nil, alice, nil, true},
		}},
		"that it is nobody's, for half a minute": {true, []step{
			{0, "", ErrUnknown, "", ErrUnknown, true},
			{29 * time.Second, alice, nil, "", ErrUnknown, false},
			{30 * time.Second, alice, nil, alice, nil, true},
		}},
		"who it was, while the directory is out of reach": {true, []step{
			{0, alice, nil, alice, nil, true},
			{60 * time.Second, "", hangs, alice, nil, true},
			{89 * time.Second, "", ErrUnknown, alice, nil, false},
			{90 * time.Second, "", ErrUnknown, "", ErrUnknown, true},
		}},
		"nothing, of what nobody waited for": {true, []step{
			{0, "", context.Canceled, "", context.Canceled, true},
			{0, "", context.DeadlineExceeded, "", context.DeadlineExceeded, true},
			{0, alice, nil, alice, nil, true},
		}},
	} {
		var l listed
		for i, s := range c.steps {
			asked := false
			id, err := l.ask(begin.Add(s.at), "alice", c.failures, func() (identity.ID, error) { asked = true; return s.id, s.err })
			if id != s.want || !errors.Is(err, s.fails) || (err == nil) != (s.fails == nil) || asked != s.asked {
				t.Errorf("%s, %d: %q, %v (asked %v); want %q, %v (%v)", name, i, id, err, asked, s.want, s.fails, s.asked)
			}
		}
		if id, err := l.ask(begin, "bob", c.failures, func() (identity.ID, error) { return "sid:S-1-5-21-1-2-3-1002", nil }); err != nil || id == alice {
			t.Errorf("%s: bob is %q, %v", name, id, err)
		}
	}
}
