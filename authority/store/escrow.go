package store

import "time"

// Escrow is the key of a device's offline bypasses, as the authority keeps it.
type Escrow struct {
	Device  string
	Sealed  []byte // with a key that is not in the database
	Created time.Time
	// Answers were given since Began.
	Began   time.Time
	Answers int
}

// EscrowTx is what can be done with keys in escrow.
type EscrowTx interface {
	// PutEscrow keeps it in the place of the one before; its device is there.
	PutEscrow(Escrow) error
	Escrow(device string) (Escrow, error)
}

func (t *tx) PutEscrow(e Escrow) error {
	return t.exec(`INSERT INTO escrow (device, sealed, created, began, answers) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (device) DO UPDATE SET sealed = excluded.sealed, created = excluded.created, began = excluded.began, answers = excluded.answers`,
		e.Device, blob(e.Sealed), nano(e.Created), nano(e.Began), e.Answers)
}

func (t *tx) Escrow(device string) (e Escrow, err error) {
	return e, t.one([]any{&e.Device, &e.Sealed, when{&e.Created}, when{&e.Began}, &e.Answers},
		`SELECT device, sealed, created, began, answers FROM escrow WHERE device = $1`, device)
}
