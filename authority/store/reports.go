package store

import (
	"slices"
	"strings"
	"time"

	"sallyport/internal/organisation"
)

// Report is what a device said last of itself. It is a device's word: it decides
// nothing.
type Report struct {
	Device   string
	At       time.Time // when it came to be so
	OS       string
	State    string // "ok", or the code of what is wrong
	Problems []Problem
	People   []Person // by name; Reports leaves them out
	// Counted are the people of the report, OfflineReady those of them who can log in
	// without a network, LeftOut whom the report had no room for, Locked who is locked
	// now; only Reports fills that in.
	Counted, OfflineReady, LeftOut, Locked int
	EventsWaiting, EventsDropped           uint64
	PolicyVersion                          uint64 // of the organisation's in force there; 0: none
}

// Problem is something on a device that needs attention.
type Problem struct {
	Code   string `json:"code"`
	Text   string `json:"text"`
	Remedy string `json:"remedy,omitempty"`
}

// Person is what somebody can log in with on one device.
type Person struct {
	User          string    `json:"user"` // as the device resolves it
	Key           string    `json:"key"`  // "uid:1000"
	TOTP          bool      `json:"totp"`
	RecoveryLeft  int       `json:"recovery_left"`
	Phones        int       `json:"phones"`
	PushState     string    `json:"push_state"` // as 'sallyport user show' has it
	LockedUntil   time.Time `json:"locked_until,omitzero"`
	BypassUntil   time.Time `json:"bypass_until,omitzero"`
	LastSuccess   time.Time `json:"last_success,omitzero"`
	LastFactor    string    `json:"last_factor,omitempty"`
	OfflineReady  bool      `json:"offline_ready"`
	Failures      int       `json:"failures"`
	OfflineLogins int       `json:"offline_logins"` // without contact since the last one
	// OfflineLeft are how many such logins are left; nil: nothing limits them.
	OfflineLeft *int `json:"offline_left,omitempty"`
}

// Reported is what a device says of a person.
type Reported struct {
	Device string
	At     time.Time // of the report
	Person
}

// ItemAnswer is what a device said last of what was signed for it.
type ItemAnswer struct {
	Device  string
	Kind    organisation.Kind
	User    string
	Version uint64
	Refused string // why not; "" = it is in force there
	At      time.Time
}

// ReportTx is what can be done with what devices say of themselves.
type ReportTx interface {
	// PutReport keeps a device's report in the place of the one before. It writes only
	// what changed; nothing but its time is no change.
	PutReport(Report) (changed bool, err error)
	Report(device string) (Report, error)
	// Reports are those of every device, by its id, without the people.
	Reports(now time.Time) ([]Report, error)
	// DroppedEvents is how many events of each device never came, of those that miss any.
	DroppedEvents() (map[string]uint64, error)
	// ReportedOf is what each device says of the person of that name.
	ReportedOf(user string) ([]Reported, error)

	PutItemAnswer(ItemAnswer) error
	// ItemAnswer returns ErrNotFound where the device has said nothing yet.
	ItemAnswer(device string, kind organisation.Kind, user string) (ItemAnswer, error)
	// ItemsRefused are the answers of devices that do not take the newest of something;
	// "" = every device.
	ItemsRefused(device string) ([]ItemAnswer, error)
}

const reportColumns = `device, at, os, state, problems, people, offline_ready, left_out, events_waiting, events_dropped, policy_version`

func reportFields(r *Report) []any {
	return []any{&r.Device, when{&r.At}, &r.OS, &r.State, from{&r.Problems}, &r.Counted, &r.OfflineReady, &r.LeftOut, &r.EventsWaiting, &r.EventsDropped, &r.PolicyVersion}
}

// PutReport implements Tx.
func (t *tx) PutReport(r Report) (changed bool, err error) {
	r.Counted, r.OfflineReady = len(r.People), 0
	people := map[string]string{}
	for _, p := range r.People {
		people[p.Key] = text(p)
		if p.OfflineReady {
			r.OfflineReady++
		}
	}
	var old Report
	err = t.one(reportFields(&old), `SELECT `+reportColumns+` FROM reports WHERE device = $1`, r.Device)
	if err != nil && err != ErrNotFound {
		return false, err
	}
	changed = err == ErrNotFound
	type row struct{ key, facts string }
	rows, err := all(t, func(x *row) []any { return []any{&x.key, &x.facts} }, `SELECT id, facts FROM report_people WHERE device = $1`, r.Device)
	if err != nil {
		return false, err
	}
	before := make(map[string]string, len(rows))
	for _, x := range rows {
		before[x.key] = x.facts
	}
	same := old.OS == r.OS && old.State == r.State && slices.Equal(old.Problems, r.Problems) && old.Counted == r.Counted && old.OfflineReady == r.OfflineReady &&
		old.LeftOut == r.LeftOut && old.EventsWaiting == r.EventsWaiting && old.EventsDropped == r.EventsDropped && old.PolicyVersion == r.PolicyVersion
	for key, facts := range before {
		same = same && people[key] == facts
	}
	if !changed && same && len(before) == len(people) {
		return false, nil
	}
	err = t.exec(`INSERT INTO reports (`+reportColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
		ON CONFLICT (device) DO UPDATE SET at = excluded.at, os = excluded.os, state = excluded.state, problems = excluded.problems, people = excluded.people,
		offline_ready = excluded.offline_ready, left_out = excluded.left_out, events_waiting = excluded.events_waiting,
		events_dropped = excluded.events_dropped, policy_version = excluded.policy_version`,
		r.Device, nano(r.At), r.OS, r.State, text(r.Problems), r.Counted, r.OfflineReady, r.LeftOut, r.EventsWaiting, r.EventsDropped, r.PolicyVersion)
	if err != nil {
		return false, err
	}
	for _, p := range r.People {
		if before[p.Key] == people[p.Key] {
			continue
		}
		err := t.exec(`INSERT INTO report_people (device, id, user_name, locked_until, facts) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (device, id) DO UPDATE SET user_name = excluded.user_name, locked_until = excluded.locked_until, facts = excluded.facts`,
			r.Device, p.Key, p.User, nano(p.LockedUntil), people[p.Key])
		if err != nil {
			return false, err
		}
	}
	for key := range before {
		if _, there := people[key]; !there {
			if err := t.exec(`DELETE FROM report_people WHERE device = $1 AND id = $2`, r.Device, key); err != nil {
				return false, err
			}
		}
	}
	return true, nil
}

// Report implements Tx.
func (t *tx) Report(device string) (r Report, err error) {
	if err := t.one(reportFields(&r), `SELECT `+reportColumns+` FROM reports WHERE device = $1`, device); err != nil {
		return Report{}, err
	}
	r.People, err = all(t, func(p *Person) []any { return []any{from{p}} }, `SELECT facts FROM report_people WHERE device = $1`, device)
	slices.SortFunc(r.People, func(a, b Person) int { return strings.Compare(a.User+"\x00"+a.Key, b.User+"\x00"+b.Key) })
	return r, err
}

// Reports implements Tx.
func (t *tx) Reports(now time.Time) ([]Report, error) {
	return all(t, func(r *Report) []any { return append(reportFields(r), &r.Locked) },
		`SELECT `+reportColumns+`, (SELECT COUNT(*) FROM report_people p WHERE p.device = reports.device AND p.locked_until > 0 AND p.locked_until > $1) FROM reports ORDER BY device`, nano(now))
}

// DroppedEvents implements Tx.
func (t *tx) DroppedEvents() (map[string]uint64, error) {
	type row struct {
		device string
		n      uint64
	}
	list, err := all(t, func(r *row) []any { return []any{&r.device, &r.n} },
		`SELECT device, CAST(SUM(dropped) AS BIGINT) FROM event_heads GROUP BY device HAVING SUM(dropped) > 0`)
	if err != nil {
		return nil, err
	}
	dropped := make(map[string]uint64, len(list))
	for _, r := range list {
		dropped[r.device] = r.n
	}
	return dropped, nil
}

// ReportedOf implements Tx.
func (t *tx) ReportedOf(user string) ([]Reported, error) {
	return all(t, func(r *Reported) []any { return []any{&r.Device, when{&r.At}, from{&r.Person}} },
		`SELECT p.device, r.at, p.facts FROM report_people p JOIN reports r ON r.device = p.device WHERE p.user_name = $1 ORDER BY p.device, p.id`, user)
}

const answerColumns = `a.device, a.kind, a.user_name, a.version, a.refused, a.at`

func itemAnswerFields(a *ItemAnswer) []any {
	return []any{&a.Device, (*string)(&a.Kind), &a.User, &a.Version, &a.Refused, when{&a.At}}
}

// PutItemAnswer implements Tx.
func (t *tx) PutItemAnswer(a ItemAnswer) error {
	return t.exec(`INSERT INTO item_answers (device, kind, user_name, version, refused, at) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (device, kind, user_name) DO UPDATE SET version = excluded.version, refused = excluded.refused, at = excluded.at`,
		a.Device, string(a.Kind), a.User, a.Version, a.Refused, nano(a.At))
}

// ItemAnswer implements Tx.
func (t *tx) ItemAnswer(device string, kind organisation.Kind, user string) (a ItemAnswer, err error) {
	return a, t.one(itemAnswerFields(&a), `SELECT `+answerColumns+` FROM item_answers a WHERE device = $1 AND kind = $2 AND user_name = $3`, device, string(kind), user)
}

// ItemsRefused implements Tx.
func (t *tx) ItemsRefused(device string) ([]ItemAnswer, error) {
	return all(t, itemAnswerFields, `SELECT `+answerColumns+` FROM item_answers a
		JOIN items i ON i.kind = a.kind AND i.user_name = a.user_name AND i.version = a.version AND (i.device = a.device OR i.device = '')
		WHERE a.refused <> '' AND ($1 = '' OR a.device = $1) ORDER BY a.device, a.kind, a.user_name`, device)
}
