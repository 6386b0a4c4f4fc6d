package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
)

// Raise adds the organisation's rules to those that root set on this computer.
// What is local is a floor: the central rules can only require more. Exemptions
// of theirs count only where root lets them (allowExemptions); root's own always
// do, or the organisation could lock out the account that repairs the computer.
func Raise(local, central Rules, allowExemptions bool) Rules {
	raised := local
	if central.Ask != AskEnrolled { // what it asks for that is not known here is more, not less
		raised.Ask = AskRequired
	}
	raised.Required = local.Required.and(central.Required)
	if allowExemptions {
		raised.Exempt = local.Exempt.and(central.Exempt)
	}
	return raised
}

func (m Match) and(o Match) Match {
	return Match{Users: slices.Concat(m.Users, o.Users), UIDs: slices.Concat(m.UIDs, o.UIDs), SIDs: slices.Concat(m.SIDs, o.SIDs),
		Groups:   slices.Concat(m.Groups, o.Groups),
		Services: slices.Concat(m.Services, o.Services), Remote: slices.Concat(m.Remote, o.Remote)}
}

// Unreadable stands for central rules that cannot be read, or say something that
// this version does not know: everybody who is not exempt is required, as whom
// they would have named cannot be told.
func Unreadable() Rules { return Rules{Ask: askUnreadable} }

// Parse reads the organisation's rules, JSON. Members that are not known are an
// error: they may require something.
func Parse(text []byte) (Rules, error) {
	var r Rules
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	err := d.Decode(&r)
	if err == nil {
		if _, more := d.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("something follows the rules")
		}
	}
	if err == nil {
		err = r.Validate()
	}
	if err != nil {
		return Unreadable(), fmt.Errorf("the organisation's policy: %w", err)
	}
	return r, nil
}
