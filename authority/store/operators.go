package store

import (
	"strings"
	"time"
)

// Operator is somebody who uses the console.
type Operator struct {
	Name    string
	Role    string
	Created time.Time
}

// OperatorKey is a passkey of an operator.
type OperatorKey struct {
	CredentialID []byte
	Operator     string
	PublicKey    []byte // SubjectPublicKeyInfo, DER
	Label        string // what the operator called it
	Synced       bool
	Counter      uint32
	Created      time.Time
	Used         time.Time // last; zero: never
}

// OperatorInvitation lets an operator add a passkey, once; only its hash is kept.
type OperatorInvitation struct {
	Hash     []byte // SHA-256 of its secret
	Operator string
	Created  time.Time
	Expires  time.Time
}

// OperatorSession is a console that is open in some browser.
type OperatorSession struct {
	Hash     []byte // SHA-256 of its cookie
	Operator string
	Created  time.Time
	Seen     time.Time
}

// OperatorRequest is an action that waits for a second operator.
type OperatorRequest struct {
	ID       string
	Operator string // who asks
	Action   string
	Input    []byte // JSON; no secret
	Created  time.Time
	Expires  time.Time
	Approver string // "" = nobody yet
}

// OperatorTx is what can be done with the operators of the console.
type OperatorTx interface {
	CreateOperator(Operator) error // ErrExists
	Operator(name string) (Operator, error)
	Operators() ([]Operator, error)
	// SetOperatorRole ends the operator's sessions and requests as well, and what they
	// approved for others.
	SetOperatorRole(name, role string) error
	// RemoveOperator removes the operator with keys, invitations, sessions and requests,
	// and what they approved for others.
	RemoveOperator(name string) error

	// AddOperatorKey returns ErrExists when the credential is known already.
	AddOperatorKey(OperatorKey) error
	OperatorKey(credentialID []byte) (OperatorKey, error)
	OperatorKeys(operator string) ([]OperatorKey, error) // "" = all
	OperatorKeyUsed(credentialID []byte, counter uint32, now time.Time) error
	// RemoveOperatorKey ends the operator's sessions, invitations and requests as well,
	// and what they approved for others: whoever stole the passkey may have made them.
	RemoveOperatorKey(credentialID []byte) error

	// InviteOperator ends the invitations before.
	InviteOperator(OperatorInvitation) error
	// OperatorInvitation returns ErrUsed when it has expired by now.
	OperatorInvitation(hash []byte, now time.Time) (OperatorInvitation, error)
	// UseOperatorInvitation returns it once, and then ErrNotFound.
	UseOperatorInvitation(hash []byte, now time.Time) (OperatorInvitation, error)
	OperatorInvitations() ([]OperatorInvitation, error)

	PutOperatorSession(OperatorSession) error
	OperatorSession(hash []byte) (OperatorSession, error)
	RemoveOperatorSession(hash []byte) error

	// UseOnce returns ErrUsed the second time. It is forgotten once ends has passed.
	UseOnce(id []byte, ends time.Time) error

	CreateOperatorRequest(OperatorRequest) error
	OperatorRequest(id string) (OperatorRequest, error)
	// OperatorRequests are those that have not expired by now, the oldest first.
	OperatorRequests(now time.Time) ([]OperatorRequest, error)
	// ApproveOperatorRequest returns ErrUsed when it is approved already, has expired
	// by now, or is the approver's own.
	ApproveOperatorRequest(id, approver string, now time.Time) error
	// TakeOperatorRequest removes a request that is approved and has not expired by now;
	// else ErrUsed.
	TakeOperatorRequest(id string, now time.Time) (OperatorRequest, error)
	RemoveOperatorRequest(id string) error

	// FindUsers are the users behind a name, in order, in whose name the text is;
	// at most n.
	FindUsers(text, after string, n int) ([]User, error)
	// FindDevices are the same of devices, by name, id and serial number, behind the
	// device of that name and id.
	FindDevices(text, afterName, afterID string, n int) ([]Device, error)

	// SweepOperators removes what has expired before, and sessions not seen since.
	SweepOperators(before time.Time) error
}

func (t *tx) CreateOperator(o Operator) error {
	return t.change(ErrExists, `INSERT INTO operators (name, role, created) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING`, o.Name, o.Role, nano(o.Created))
}

func operatorFields(o *Operator) []any { return []any{&o.Name, &o.Role, when{&o.Created}} }

func (t *tx) Operator(name string) (o Operator, err error) {
	return o, t.one(operatorFields(&o), `SELECT name, role, created FROM operators WHERE name = $1`, name)
}

func (t *tx) Operators() ([]Operator, error) {
	return all(t, operatorFields, `SELECT name, role, created FROM operators ORDER BY name`)
}

func (t *tx) SetOperatorRole(name, role string) error {
	if err := t.change(ErrNotFound, `UPDATE operators SET role = $2 WHERE name = $1`, name, role); err != nil {
		return err
	}
	if err := t.exec(`DELETE FROM operator_sessions WHERE operator = $1`, name); err != nil {
		return err
	}
	return t.exec(`DELETE FROM operator_requests WHERE operator = $1 OR approver = $1`, name)
}

func (t *tx) RemoveOperator(name string) error {
	if err := t.exec(`DELETE FROM operator_requests WHERE approver = $1`, name); err != nil {
		return err
	}
	return t.change(ErrNotFound, `DELETE FROM operators WHERE name = $1`, name)
}

const operatorKeyColumns = `credential_id, operator, public_key, label, synced, counter, created, used`

func operatorKeyFields(k *OperatorKey) []any {
	return []any{&k.CredentialID, &k.Operator, &k.PublicKey, &k.Label, &k.Synced, &k.Counter, when{&k.Created}, when{&k.Used}}
}

func (t *tx) AddOperatorKey(k OperatorKey) error {
	return t.change(ErrExists, `INSERT INTO operator_keys (`+operatorKeyColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (credential_id) DO NOTHING`,
		k.CredentialID, k.Operator, k.PublicKey, k.Label, k.Synced, int64(k.Counter), nano(k.Created), nano(k.Used))
}

func (t *tx) OperatorKey(credentialID []byte) (k OperatorKey, err error) {
	return k, t.one(operatorKeyFields(&k), `SELECT `+operatorKeyColumns+` FROM operator_keys WHERE credential_id = $1`, credentialID)
}

func (t *tx) OperatorKeys(operator string) ([]OperatorKey, error) {
	return all(t, operatorKeyFields, `SELECT `+operatorKeyColumns+` FROM operator_keys WHERE operator = $1 OR $1 = '' ORDER BY operator, created, credential_id`, operator)
}

func (t *tx) OperatorKeyUsed(credentialID []byte, counter uint32, now time.Time) error {
	return t.change(ErrNotFound, `UPDATE operator_keys SET counter = $2, used = $3 WHERE credential_id = $1`, credentialID, int64(counter), nano(now))
}

func (t *tx) RemoveOperatorKey(credentialID []byte) error {
	k, err := t.OperatorKey(credentialID)
	if err != nil {
		return err
	}
	for _, sql := range []string{
		`DELETE FROM operator_sessions WHERE operator = $1`,
		`DELETE FROM operator_invitations WHERE operator = $1`,
		`DELETE FROM operator_requests WHERE operator = $1 OR approver = $1`,
	} {
		if err := t.exec(sql, k.Operator); err != nil {
			return err
		}
	}
	return t.change(ErrNotFound, `DELETE FROM operator_keys WHERE credential_id = $1`, credentialID)
}

func invitationFields(i *OperatorInvitation) []any {
	return []any{&i.Hash, &i.Operator, when{&i.Created}, when{&i.Expires}}
}

func (t *tx) InviteOperator(i OperatorInvitation) error {
	if err := t.exec(`DELETE FROM operator_invitations WHERE operator = $1`, i.Operator); err != nil {
		return err
	}
	return t.change(ErrExists, `INSERT INTO operator_invitations (hash, operator, created, expires) VALUES ($1, $2, $3, $4) ON CONFLICT (hash) DO NOTHING`,
		i.Hash, i.Operator, nano(i.Created), nano(i.Expires))
}

func (t *tx) OperatorInvitation(hash []byte, now time.Time) (i OperatorInvitation, err error) {
	err = t.one(invitationFields(&i), `SELECT hash, operator, created, expires FROM operator_invitations WHERE hash = $1`, hash)
	if err == nil && !now.Before(i.Expires) {
		err = ErrUsed
	}
	if err != nil {
		return OperatorInvitation{}, err
	}
	return i, nil
}

func (t *tx) UseOperatorInvitation(hash []byte, now time.Time) (OperatorInvitation, error) {
	i, err := t.OperatorInvitation(hash, now)
	if err == nil {
		err = t.change(ErrNotFound, `DELETE FROM operator_invitations WHERE hash = $1`, hash)
	}
	return i, err
}

func (t *tx) OperatorInvitations() ([]OperatorInvitation, error) {
	return all(t, invitationFields, `SELECT hash, operator, created, expires FROM operator_invitations ORDER BY operator`)
}

func (t *tx) PutOperatorSession(s OperatorSession) error {
	return t.exec(`INSERT INTO operator_sessions (hash, operator, created, seen) VALUES ($1, $2, $3, $4) ON CONFLICT (hash) DO UPDATE SET seen = excluded.seen`,
		s.Hash, s.Operator, nano(s.Created), nano(s.Seen))
}

func (t *tx) OperatorSession(hash []byte) (s OperatorSession, err error) {
	return s, t.one([]any{&s.Hash, &s.Operator, when{&s.Created}, when{&s.Seen}}, `SELECT hash, operator, created, seen FROM operator_sessions WHERE hash = $1`, hash)
}

func (t *tx) RemoveOperatorSession(hash []byte) error {
	return t.exec(`DELETE FROM operator_sessions WHERE hash = $1`, hash)
}

func (t *tx) UseOnce(id []byte, ends time.Time) error {
	return t.change(ErrUsed, `INSERT INTO operator_used (id, ends) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING`, id, nano(ends))
}

const requestColumns = `id, operator, action, input, created, expires, approver`

func requestFields(r *OperatorRequest) []any {
	return []any{&r.ID, &r.Operator, &r.Action, &r.Input, when{&r.Created}, when{&r.Expires}, &r.Approver}
}

func (t *tx) CreateOperatorRequest(r OperatorRequest) error {
	return t.change(ErrExists, `INSERT INTO operator_requests (`+requestColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO NOTHING`,
		r.ID, r.Operator, r.Action, blob(r.Input), nano(r.Created), nano(r.Expires), r.Approver)
}

func (t *tx) OperatorRequest(id string) (r OperatorRequest, err error) {
	return r, t.one(requestFields(&r), `SELECT `+requestColumns+` FROM operator_requests WHERE id = $1`, id)
}

func (t *tx) OperatorRequests(now time.Time) ([]OperatorRequest, error) {
	return all(t, requestFields, `SELECT `+requestColumns+` FROM operator_requests WHERE expires > $1 ORDER BY created, id`, nano(now))
}

func (t *tx) ApproveOperatorRequest(id, approver string, now time.Time) error {
	return t.change(ErrUsed, `UPDATE operator_requests SET approver = $2 WHERE id = $1 AND approver = '' AND operator <> $2 AND expires > $3`, id, approver, nano(now))
}

func (t *tx) TakeOperatorRequest(id string, now time.Time) (OperatorRequest, error) {
	r, err := t.OperatorRequest(id)
	if err == nil {
		err = t.change(ErrUsed, `DELETE FROM operator_requests WHERE id = $1 AND approver <> '' AND expires > $2`, id, nano(now))
	}
	return r, err
}

func (t *tx) RemoveOperatorRequest(id string) error {
	return t.change(ErrNotFound, `DELETE FROM operator_requests WHERE id = $1`, id)
}

// like is a pattern that finds a text anywhere, in any case of ASCII and no other: so
// both databases lower what it is compared with (PostgreSQL by the columns' collation).
func like(text string) string {
	return "%" + strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, likeEscape.Replace(text)) + "%"
}

var likeEscape = strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`)

func (t *tx) FindUsers(text, after string, n int) ([]User, error) {
	return all(t, func(u *User) []any { return []any{&u.Name, when{&u.Created}} },
		`SELECT name, created FROM users WHERE name > $1 AND lower(name) LIKE $2 ESCAPE '\' ORDER BY name LIMIT $3`, after, like(text), int64(n))
}

func (t *tx) FindDevices(text, afterName, afterID string, n int) ([]Device, error) {
	return all(t, deviceFields, `SELECT `+deviceColumns+` FROM devices WHERE (name > $1 OR name = $1 AND id > $2)
		AND (lower(name) LIKE $3 ESCAPE '\' OR lower(id) LIKE $3 ESCAPE '\' OR lower(serial) LIKE $3 ESCAPE '\') ORDER BY name, id LIMIT $4`,
		afterName, afterID, like(text), int64(n))
}

func (t *tx) SweepOperators(before time.Time) error {
	b := nano(before)
	for _, sql := range []string{
		`DELETE FROM operator_invitations WHERE expires < $1`,
		`DELETE FROM operator_sessions WHERE seen < $1`,
		`DELETE FROM operator_used WHERE ends < $1`,
		`DELETE FROM operator_requests WHERE expires < $1`,
	} {
		if err := t.exec(sql, b); err != nil {
			return err
		}
	}
	return nil
}
