package store

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"sallyport/internal/factor/push"
	"sallyport/internal/organisation"
)

// Bounds of what a call returns or keeps.
const (
	// MaxList is how many entries a list can have; a longer one is an error, and
	// never cut short without a word.
	MaxList = 100_000
	// MaxUsers is how many users may be named for one device or token.
	MaxUsers = 1000
	// MaxSessions is how many pages of one approver may be open; opening one more
	// closes the one not seen for longest.
	MaxSessions = 16
	// MaxEvents is how many events are taken or returned at once.
	MaxEvents = 1000
	// maxRecent bounds lists of what is open or was lately.
	maxRecent = 100
	// maxUndelivered is more than one device can have answered within a challenge's
	// life, by the rates of its stream as they come.
	maxUndelivered = 2000
	// sweepAtOnce bounds how long Sweep keeps others waiting.
	sweepAtOnce = 2000
	// aliveFor is how long after its last heartbeat a node counts.
	aliveFor = time.Minute
)

// tx is what both databases do alike.
type tx struct {
	*core
	q    querier
	lock string // what keeps others off a row that is read
	// What is to be done when it commits.
	notices  []Notice       // to this process's listeners
	events   []func() error // that add one
	attached bool
}

var _ Tx = (*tx)(nil)

// one scans a single row.
func (t *tx) one(to []any, sql string, args ...any) error {
	found := false
	err := t.q.query(func(r scanner) error { found = true; return r.Scan(to...) }, sql, args...)
	if err == nil && !found {
		return ErrNotFound
	}
	return err
}

// change runs a statement that changes one row, or otherwise fails with none.
func (t *tx) change(none error, sql string, args ...any) error {
	n, err := t.q.exec(sql, args...)
	if err == nil && n == 0 {
		return none
	}
	return err
}

func (t *tx) exec(sql string, args ...any) error { return t.q.later(sql, args...) }

// all collects rows; columns says where they go.
func all[T any](t *tx, columns func(*T) []any, sql string, args ...any) (list []T, err error) {
	err = t.q.query(func(r scanner) error {
		if len(list) == t.maxList {
			return fmt.Errorf("%w: the list has more than %d entries", ErrInvalid, t.maxList)
		}
		var v T
		err := r.Scan(columns(&v)...)
		list = append(list, v)
		return err
	}, sql, args...)
	if err != nil {
		return nil, err
	}
	return list, nil
}

// Settings.

func (t *tx) Setting(key string) (value []byte, err error) {
	return value, t.one([]any{&value}, `SELECT value FROM settings WHERE key = $1`, key)
}

func (t *tx) PutSetting(key string, value []byte) error {
	return t.exec(`INSERT INTO settings (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value`, key, blob(value))
}

// Tokens.

const tokenColumns = `hash, users, serial, created, expires, by_name, device, used`

func tokenFields(k *Token) []any {
	return []any{&k.Hash, from{&k.Users}, &k.Serial, when{&k.Created}, when{&k.Expires}, &k.By, &k.Device, when{&k.Used}}
}

func checkUsers(users []string) error {
	if len(users) > MaxUsers {
		return fmt.Errorf("%w: %d users are over %d", ErrInvalid, len(users), MaxUsers)
	}
	return nil
}

func (t *tx) CreateToken(k Token) error {
	if err := checkUsers(k.Users); err != nil {
		return err
	}
	return t.change(ErrExists, `INSERT INTO tokens (`+tokenColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (hash) DO NOTHING`,
		k.Hash, text(k.Users), k.Serial, nano(k.Created), nano(k.Expires), k.By, k.Device, nano(k.Used))
}

func (t *tx) UseToken(hash []byte, device string, now time.Time) (k Token, err error) {
	n, err := t.q.exec(`UPDATE tokens SET device = $2, used = $3 WHERE hash = $1 AND used = 0 AND expires > $3`, hash, device, nano(now))
	if err != nil {
		return Token{}, err
	}
	err = t.one(tokenFields(&k), `SELECT `+tokenColumns+` FROM tokens WHERE hash = $1`, hash)
	if err == nil && n == 0 {
		err = ErrUsed
	}
	if err != nil {
		return Token{}, err
	}
	return k, nil
}

func (t *tx) Tokens() ([]Token, error) {
	return all(t, tokenFields, `SELECT `+tokenColumns+` FROM tokens ORDER BY created, hash`)
}

// Devices.

const deviceColumns = `id, name, serial, platform, version, sealing_key, users, key_hash, expires, created, seen, revoked, why, vault_id, generation`

func deviceFields(d *Device) []any {
	return []any{&d.ID, &d.Name, &d.Serial, &d.Platform, &d.Version, &d.SealingKey, from{&d.Users}, &d.KeyHash,
		when{&d.Expires}, when{&d.Created}, when{&d.Seen}, when{&d.Revoked}, &d.Why, &d.VaultID, &d.Generation}
}

func (t *tx) PutDevice(d Device) error {
	if err := checkUsers(d.Users); err != nil {
		return err
	}
	before, err := t.Device(d.ID)
	if err != nil && err != ErrNotFound {
		return err
	}
	err = t.exec(`INSERT INTO devices (`+deviceColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
		ON CONFLICT (id) DO UPDATE SET name = excluded.name, serial = excluded.serial, platform = excluded.platform, version = excluded.version,
		sealing_key = excluded.sealing_key, users = excluded.users, key_hash = excluded.key_hash, expires = excluded.expires, created = excluded.created,
		seen = excluded.seen, revoked = excluded.revoked, why = excluded.why, vault_id = excluded.vault_id, generation = excluded.generation`,
		d.ID, d.Name, d.Serial, d.Platform, d.Version, blob(d.SealingKey), text(d.Users), blob(d.KeyHash),
		nano(d.Expires), nano(d.Created), nano(d.Seen), nano(d.Revoked), d.Why, d.VaultID, d.Generation)
	if err != nil || slices.Equal(before.Users, d.Users) {
		return err
	}
	if err := t.exec(`DELETE FROM device_users WHERE device = $1`, d.ID); err != nil {
		return err
	}
	for _, u := range d.Users {
		if err := t.exec(`INSERT INTO device_users (device, user_name) VALUES ($1, $2) ON CONFLICT DO NOTHING`, d.ID, u); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) Device(id string) (d Device, err error) {
	return d, t.one(deviceFields(&d), `SELECT `+deviceColumns+` FROM devices WHERE id = $1`, id)
}

func (t *tx) Devices(user string) ([]Device, error) {
	if user == "" {
		return all(t, deviceFields, `SELECT `+deviceColumns+` FROM devices ORDER BY name, id`)
	}
	return all(t, deviceFields, `SELECT `+deviceColumns+` FROM devices
		WHERE id IN (SELECT device FROM device_users WHERE user_name = $1 OR user_name = '*') ORDER BY name, id`, user)
}

func (t *tx) DevicesNamed(name string) ([]Device, error) {
	return all(t, deviceFields, `SELECT `+deviceColumns+` FROM devices WHERE name = $1 ORDER BY id`, name)
}

func (t *tx) DevicesNaming(user string) ([]Device, error) {
	return all(t, deviceFields, `SELECT `+deviceColumns+` FROM devices WHERE id IN (SELECT device FROM device_users WHERE user_name = $1) ORDER BY name, id`, user)
}

// Users.

func userFields(u *User) []any { return []any{&u.Name, when{&u.Created}} }

func (t *tx) CreateUser(u User) error {
	return t.change(ErrExists, `INSERT INTO users (name, created) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING`, u.Name, nano(u.Created))
}

func (t *tx) User(name string) (u User, err error) {
	return u, t.one(userFields(&u), `SELECT name, created FROM users WHERE name = $1`, name)
}

func (t *tx) Users() ([]User, error) {
	return all(t, userFields, `SELECT name, created FROM users ORDER BY name`)
}

func (t *tx) RemoveUser(name string) error {
	removed := int64(0)
	for _, sql := range []string{
		`DELETE FROM users WHERE name = $1`,
		`DELETE FROM approvers WHERE user_name = $1`, // and their sessions
		`DELETE FROM challenges WHERE user_name = $1 AND ended = 0`,
		// A phone that is just enrolling would come after.
		`DELETE FROM enrolments WHERE user_name = $1 AND NOT done`,
	} {
		n, err := t.q.exec(sql, name)
		if err != nil {
			return err
		}
		removed += n
	}
	if removed == 0 {
		return ErrNotFound
	}
	return nil
}

// Approvers and their sessions.

const approverColumns = `id, credential_id, public_key, phone, synced, user_name, device, pending, counter, created`

func approverFields(a *Approver) []any {
	return []any{&a.ID, &a.CredentialID, &a.PublicKey, &a.Phone, &a.Synced, &a.User, &a.Device, &a.Pending, &a.Counter, when{&a.Created}}
}

func (t *tx) PutApprover(a Approver) error {
	other, err := t.ApproverByCredential(a.CredentialID)
	if err == nil && other.ID != a.ID {
		return ErrExists
	}
	if err != nil && err != ErrNotFound {
		return err
	}
	return t.exec(`INSERT INTO approvers (`+approverColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
		ON CONFLICT (id) DO UPDATE SET credential_id = excluded.credential_id, public_key = excluded.public_key, phone = excluded.phone,
		synced = excluded.synced, user_name = excluded.user_name, device = excluded.device, pending = excluded.pending,
		counter = excluded.counter, created = excluded.created`,
		a.ID, a.CredentialID, blob(a.PublicKey), a.Phone, a.Synced, a.User, a.Device, a.Pending, int64(a.Counter), nano(a.Created))
}

func (t *tx) Approver(id string) (a Approver, err error) {
	return a, t.one(approverFields(&a), `SELECT `+approverColumns+` FROM approvers WHERE id = $1`, id)
}

func (t *tx) ApproverByCredential(credentialID []byte) (a Approver, err error) {
	return a, t.one(approverFields(&a), `SELECT `+approverColumns+` FROM approvers WHERE credential_id = $1`, credentialID)
}

func (t *tx) Approvers(user string) ([]Approver, error) {
	if user == "" {
		return all(t, approverFields, `SELECT `+approverColumns+` FROM approvers ORDER BY user_name, created, id`)
	}
	return all(t, approverFields, `SELECT `+approverColumns+` FROM approvers WHERE user_name = $1 ORDER BY created, id`, user)
}

func (t *tx) RemoveApprover(id string) error {
	return t.change(ErrNotFound, `DELETE FROM approvers WHERE id = $1`, id)
}

const sessionColumns = `hash, approver, subscription, created, seen`

func sessionFields(s *Session) []any {
	return []any{&s.Hash, &s.Approver, &s.Subscription, when{&s.Created}, when{&s.Seen}}
}

func (t *tx) PutSession(s Session) error {
	if _, err := t.Approver(s.Approver); err != nil {
		return err
	}
	err := t.exec(`INSERT INTO sessions (`+sessionColumns+`) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (hash) DO UPDATE SET approver = excluded.approver, subscription = excluded.subscription, created = excluded.created, seen = excluded.seen`,
		s.Hash, s.Approver, blob(s.Subscription), nano(s.Created), nano(s.Seen))
	if err != nil {
		return err
	}
	return t.exec(`DELETE FROM sessions WHERE approver = $1 AND hash <> $2 AND hash NOT IN
		(SELECT hash FROM sessions WHERE approver = $1 AND hash <> $2 ORDER BY seen DESC, hash LIMIT $3)`, s.Approver, s.Hash, int64(MaxSessions-1))
}

func (t *tx) Session(hash []byte) (s Session, err error) {
	return s, t.one(sessionFields(&s), `SELECT `+sessionColumns+` FROM sessions WHERE hash = $1`, hash)
}

func (t *tx) Sessions(approver string) ([]Session, error) {
	return all(t, sessionFields, `SELECT `+sessionColumns+` FROM sessions WHERE approver = $1 ORDER BY created, hash`, approver)
}

func (t *tx) RemoveSession(hash []byte) error {
	return t.change(ErrNotFound, `DELETE FROM sessions WHERE hash = $1`, hash)
}

// Challenges.

const challengeColumns = `id, device, user_name, resource, bytes, credential_ids, created, expires, answer, answered, outcome, ended`

func challengeFields(c *Challenge) []any {
	return []any{&c.ID, &c.Device, &c.User, &c.Resource, &c.Bytes, from{&c.CredentialIDs}, when{&c.Created}, when{&c.Expires},
		from{&c.Answer}, when{&c.Answered}, &c.Outcome, when{&c.Ended}}
}

func (t *tx) CreateChallenge(c Challenge) error {
	return t.change(ErrExists, `INSERT INTO challenges (`+challengeColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, NULL, 0, '', 0) ON CONFLICT (id) DO NOTHING`,
		c.ID, c.Device, c.User, c.Resource, blob(c.Bytes), text(c.CredentialIDs), nano(c.Created), nano(c.Expires))
}

func (t *tx) Challenge(id string) (c Challenge, err error) {
	return c, t.one(challengeFields(&c), `SELECT `+challengeColumns+` FROM challenges WHERE id = $1`, id)
}

func (t *tx) OpenChallenges(user string, now time.Time) ([]Challenge, error) {
	return all(t, challengeFields, `SELECT `+challengeColumns+` FROM challenges
		WHERE user_name = $1 AND expires > $2 AND answered = 0 AND ended = 0 ORDER BY expires DESC, id LIMIT $3`, user, nano(now), int64(maxRecent))
}

func (t *tx) LastChallenges(user string, n int, now time.Time) ([]Challenge, error) {
	return all(t, challengeFields, `SELECT `+challengeColumns+` FROM challenges
		WHERE user_name = $1 AND (ended <> 0 OR expires <= $2) ORDER BY expires DESC, id LIMIT $3`, user, nano(now), int64(min(max(n, 0), maxRecent)))
}

func (t *tx) Answer(id string, a push.Answer, now time.Time) error {
	n, err := t.q.exec(`UPDATE challenges SET answer = $2, answered = $3 WHERE id = $1 AND answered = 0 AND ended = 0 AND expires > $3`,
		id, []byte(text(a)), nano(now))
	if err != nil || n > 0 {
		return err
	}
	return t.usedOr(`SELECT 1 FROM challenges WHERE id = $1`, id)
}

// usedOr is ErrUsed when there is such a row, else ErrNotFound.
func (t *tx) usedOr(sql, id string) error {
	var n int64
	if err := t.one([]any{&n}, sql, id); err != nil {
		return err
	}
	return ErrUsed
}

func (t *tx) Undelivered(device string, now time.Time) ([]Challenge, error) {
	return all(t, challengeFields, `SELECT `+challengeColumns+` FROM challenges
		WHERE device = $1 AND expires > $2 AND ended = 0 AND answered <> 0 ORDER BY expires DESC, id LIMIT $3`, device, nano(now), int64(maxUndelivered))
}

func (t *tx) EndChallenge(id, outcome string, now time.Time) error {
	n, err := t.q.exec(`UPDATE challenges SET outcome = $2, ended = $3 WHERE id = $1 AND ended = 0`, id, outcome, nano(now))
	if err != nil || n > 0 {
		return err
	}
	if err := t.usedOr(`SELECT 1 FROM challenges WHERE id = $1`, id); err != ErrUsed {
		return err
	}
	return nil
}

// What limits count by.

func (t *tx) PushState(user, device string) (s push.State, err error) {
	err = t.one([]any{from{&s}}, `SELECT state FROM push_states WHERE user_name = $1 AND device = $2`+t.lock, user, device)
	if err == ErrNotFound {
		err = nil
	}
	return s, err
}

func (t *tx) PutPushState(user, device string, s push.State) error {
	return t.exec(`INSERT INTO push_states (user_name, device, state) VALUES ($1, $2, $3)
		ON CONFLICT (user_name, device) DO UPDATE SET state = excluded.state`, user, device, []byte(text(s)))
}

// Enrolments.

const enrolmentColumns = `id, user_name, device, secret, created, expires, registration, mac, session, done, accepted, reason`

func enrolmentFields(e *Enrolment) []any {
	return []any{&e.ID, &e.User, &e.Device, &e.Secret, when{&e.Created}, when{&e.Expires}, from{&e.Registration}, &e.MAC, &e.Session,
		&e.Done, &e.Accepted, &e.Reason}
}

func (t *tx) CreateEnrolment(e Enrolment) error {
	return t.change(ErrExists, `INSERT INTO enrolments (`+enrolmentColumns+`) VALUES ($1, $2, $3, $4, $5, $6, NULL, NULL, NULL, FALSE, FALSE, '') ON CONFLICT (id) DO NOTHING`,
		e.ID, e.User, e.Device, blob(e.Secret), nano(e.Created), nano(e.Expires))
}

func (t *tx) Enrolment(id string) (e Enrolment, err error) {
	return e, t.one(enrolmentFields(&e), `SELECT `+enrolmentColumns+` FROM enrolments WHERE id = $1`, id)
}

func (t *tx) PostKey(id string, r push.Registration, mac, session []byte, now time.Time) error {
	n, err := t.q.exec(`UPDATE enrolments SET registration = $2, mac = $3, session = $4 WHERE id = $1 AND registration IS NULL AND NOT done AND expires > $5`,
		id, []byte(text(r)), blob(mac), blob(session), nano(now))
	if err != nil || n > 0 {
		return err
	}
	return t.usedOr(`SELECT 1 FROM enrolments WHERE id = $1`, id)
}

func (t *tx) EndEnrolment(id string, accepted bool, reason string) error {
	n, err := t.q.exec(`UPDATE enrolments SET done = TRUE, accepted = $2, reason = $3, secret = NULL WHERE id = $1 AND NOT done`, id, accepted, reason)
	if err != nil || n > 0 {
		return err
	}
	return t.usedOr(`SELECT 1 FROM enrolments WHERE id = $1`, id)
}

func (t *tx) OpenEnrolments(device string, now time.Time) ([]Enrolment, error) {
	return all(t, enrolmentFields, `SELECT `+enrolmentColumns+` FROM enrolments
		WHERE device = $1 AND expires > $2 AND NOT done AND registration IS NOT NULL ORDER BY created, id LIMIT $3`, device, nano(now), int64(maxRecent))
}

// What the organisation key signed.

const itemColumns = `kind, device, user_name, version, envelope, refused`

func itemFields(i *Item) []any {
	return []any{&i.Kind, &i.Device, &i.User, &i.Version, &i.Envelope, &i.Refused}
}

func (t *tx) PutItem(i Item) error {
	return t.change(ErrExists, `INSERT INTO items (`+itemColumns+`) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (device, user_name, kind) DO UPDATE SET version = excluded.version, envelope = excluded.envelope, refused = excluded.refused
		WHERE items.version < excluded.version`, string(i.Kind), i.Device, i.User, i.Version, blob(i.Envelope), i.Refused)
}

func (t *tx) Items(device string) ([]Item, error) {
	d, err := t.Device(device)
	if err != nil {
		return nil, err
	}
	const its = `device = $1 OR device = '' AND (user_name = ''`
	users := ` OR user_name IN (SELECT user_name FROM device_users WHERE device = $1))`
	if slices.Contains(d.Users, "*") {
		users = ` OR TRUE)`
	}
	return all(t, itemFields, `SELECT `+itemColumns+` FROM items WHERE `+its+users+` ORDER BY kind, user_name, device`, device)
}

func (t *tx) Item(kind organisation.Kind, device, user string) (i Item, err error) {
	return i, t.one(itemFields(&i), `SELECT `+itemColumns+` FROM items WHERE device = $1 AND user_name = $2 AND kind = $3`, device, user, string(kind))
}

func (t *tx) ItemRefused(kind organisation.Kind, device, user string, version uint64, why string) error {
	return t.exec(`UPDATE items SET refused = $5 WHERE device = $1 AND user_name = $2 AND kind = $3 AND version = $4`, device, user, string(kind), version, why)
}

// Events.

func (t *tx) AddEvents(events []Event) (last uint64, err error) {
	if len(events) > MaxEvents {
		return 0, fmt.Errorf("%w: %d events are over %d", ErrInvalid, len(events), MaxEvents)
	}
	for _, e := range events {
		if e.Device != events[0].Device || e.VaultID != events[0].VaultID {
			return 0, fmt.Errorf("%w: events of several vaults at once", ErrInvalid)
		}
		once := ` ON CONFLICT (device, vault_id, seq) DO NOTHING`
		if e.Seq == 0 {
			once = ""
			if err := t.one([]any{&e.Seq}, `SELECT `+t.eventID); err != nil {
				return 0, err
			}
		}
		last = max(last, e.Seq)
		verdict, reason := verdictOf(e.JSON)
		// WHERE TRUE: without it SQLite takes ON for a join's.
		err := t.addEvent(t, `INSERT INTO events (id, pos, device, vault_id, seq, at, kept, name, user_name, json, verdict, reason)
			SELECT n.id, `+t.eventPos+`, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10 FROM (SELECT `+t.eventID+` AS id) n WHERE TRUE`+once,
			e.Device, e.VaultID, e.Seq, nano(e.Time), nano(e.Kept), e.Name, e.User, blob(e.JSON), verdict, reason)
		if err != nil {
			return 0, err
		}
	}
	return last, nil
}

// verdictOf are the two fields that are searched for and are words of ours.
func verdictOf(b []byte) (verdict, reason string) {
	var f struct{ Verdict, Reason string }
	_ = json.Unmarshal(b, &f) // what is none is found by neither
	for _, s := range []*string{&f.Verdict, &f.Reason} {
		if len(*s) > 64 || strings.Trim(*s, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
			*s = ""
		}
	}
	return f.Verdict, f.Reason
}

func (t *tx) Events(after uint64, device, user string, n int) (list []Event, next uint64, err error) {
	sql, args := `SELECT pos, device, vault_id, seq, at, kept, name, user_name, json FROM events WHERE pos > $1`, []any{after}
	for _, f := range []struct{ column, value string }{{"device", device}, {"user_name", user}} {
		if f.value != "" {
			args = append(args, f.value)
			sql += fmt.Sprintf(` AND %s = $%d`, f.column, len(args))
		}
	}
	args = append(args, int64(min(max(n, 0), MaxEvents)))
	list, err = all(t, func(e *Event) []any {
		return []any{&e.Pos, &e.Device, &e.VaultID, &e.Seq, when{&e.Time}, when{&e.Kept}, &e.Name, &e.User, &e.JSON}
	}, sql+fmt.Sprintf(` ORDER BY pos LIMIT $%d`, len(args)), args...)
	if err != nil || len(list) == 0 {
		return nil, after, err
	}
	return list, list[len(list)-1].Pos, nil
}

// Streams.

func (t *tx) Attach(device string, now time.Time) (before string, err error) {
	if err := t.change(ErrNotFound, `UPDATE devices SET seen = $2 WHERE id = $1`, device, nano(now)); err != nil {
		return "", err
	}
	var run string
	err = t.one([]any{&before, &run}, `SELECT node, run FROM streams WHERE device = $1`, device)
	switch {
	case err == ErrNotFound:
	case err != nil:
		return "", err
	case run == t.run:
	case before == t.node: // before this node's restart
		before = ""
	default:
		if err := t.core.notify(t, before, run, Notice{Topic: TopicReplaced, Device: device}); err != nil {
			return "", err
		}
	}
	err = t.exec(`INSERT INTO streams (device, node, run, since) VALUES ($1, $2, $3, $4)
		ON CONFLICT (device) DO UPDATE SET node = excluded.node, run = excluded.run, since = excluded.since`, device, t.node, t.run, nano(now))
	if err == nil && !t.beating.Load() {
		t.attached = true
		err = t.beat()
	}
	if err != nil {
		return "", err
	}
	return before, nil
}

func (t *tx) Detach(device string, now time.Time) error {
	n, err := t.q.exec(`DELETE FROM streams WHERE device = $1 AND run = $2`, device, t.run)
	if err != nil || n == 0 {
		return err
	}
	return t.exec(`UPDATE devices SET seen = $2 WHERE id = $1`, device, nano(now))
}

// beat is this node's heartbeat.
func (t *tx) beat() error {
	return t.exec(`INSERT INTO nodes (node, run, seen) VALUES ($1, $2, $3) ON CONFLICT (node) DO UPDATE SET run = excluded.run, seen = excluded.seen`,
		t.node, t.run, nano(t.now()))
}

// leave ends this node's streams: it stops.
func (t *tx) leave() error {
	if err := t.exec(`DELETE FROM streams WHERE run = $1`, t.run); err != nil {
		return err
	}
	return t.exec(`DELETE FROM nodes WHERE run = $1`, t.run)
}

func (t *tx) Notify(n Notice) error {
	if n.Device == "" {
		return t.core.notify(t, "", "", n)
	}
	return t.notifyDevice(t, n)
}

func (t *tx) ping() error {
	return t.exec(`INSERT INTO pings (node, at) VALUES ($1, $2) ON CONFLICT (node) DO UPDATE SET at = excluded.at`, t.node, nano(t.now()))
}

func (t *tx) Sweep(before time.Time) error {
	const limit = int64(sweepAtOnce)
	b := nano(before)
	for _, sql := range []string{
		`DELETE FROM challenges WHERE id IN (SELECT id FROM challenges WHERE expires < $1 ORDER BY expires LIMIT $2)`,
		`DELETE FROM enrolments WHERE id IN (SELECT id FROM enrolments WHERE expires < $1 ORDER BY expires LIMIT $2)`,
		`DELETE FROM tokens WHERE hash IN (SELECT hash FROM tokens WHERE expires < $1 ORDER BY expires LIMIT $2)`,
	} {
		if err := t.exec(sql, b, limit); err != nil {
			return err
		}
	}
	if err := t.exec(`DELETE FROM nodes WHERE seen < $1 AND run <> $2`, b, t.run); err != nil {
		return err
	}
	if err := t.exec(`DELETE FROM streams WHERE run IN
		(SELECT s.run FROM streams s WHERE NOT EXISTS (SELECT 1 FROM nodes n WHERE n.node = s.node AND n.run = s.run) LIMIT $1)`, limit); err != nil {
		return err
	}
	return t.sweepNotices(t, before)
}

func (t *tx) Clock() (time.Time, error) { return t.clock(t) }

// SweepEvents looks at the oldest only, in the order they are read in: most often
// none of them is old.
func (t *tx) SweepEvents(before time.Time) error {
	const old = ` FROM (SELECT id, pos, kept FROM events WHERE pos < (SELECT MAX(pos) FROM events) ORDER BY pos LIMIT $2) oldest WHERE kept < $1`
	b, limit := nano(before), int64(sweepAtOnce)
	var last uint64
	if err := t.one([]any{&last}, `SELECT COALESCE(MAX(pos), 0)`+old, b, limit); err != nil || last == 0 {
		return err
	}
	if err := t.exec(`UPDATE deliveries SET missed_at = $4, missed = missed + (SELECT COUNT(*)`+old+` AND oldest.pos > deliveries.pos) WHERE deliveries.pos < $3`,
		b, limit, last, nano(t.now())); err != nil {
		return err
	}
	return t.exec(`DELETE FROM events WHERE id IN (SELECT id`+old+`)`, b, limit)
}
