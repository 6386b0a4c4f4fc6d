// Package store is the authority's database: devices, users, phones, challenges,
// what the organisation key signed, and events. It runs on SQLite (one node) or
// PostgreSQL (several), with the same behaviour: one set of tests runs on both.
//
// Whatever Update has returned without an error is on disk.
package store

import (
	"context"
	"errors"
	"time"

	"sallyport/internal/factor/push"
	"sallyport/internal/organisation"
)

// Errors that callers tell apart.
var (
	ErrNotFound = errors.New("store: not found")
	ErrExists   = errors.New("store: exists already")
	// ErrUsed: a token, a challenge or an enrolment was used already, or has expired.
	ErrUsed = errors.New("store: used or expired")
	// ErrUnavailable: the database cannot be reached or written now.
	ErrUnavailable = errors.New("store: the database is not available")
)

// Device is a computer that has joined.
type Device struct {
	ID         string // 26 characters of base32
	Name       string
	Serial     string // as it said itself
	Platform   string
	Version    string // of its agent
	SealingKey []byte // X25519
	// Users are who is allowed on it; "*" alone is everyone.
	Users      []string
	KeyHash    []byte    // SHA-256 of the SubjectPublicKeyInfo of its current certificate
	Expires    time.Time // of its current certificate
	Created    time.Time
	Seen       time.Time // when its stream last opened or closed
	Revoked    time.Time // zero: it is not
	Why        string    // of the revocation
	VaultID    string
	Generation uint64 // the highest of its vault
}

// Token is an enrolment token; only its hash is kept.
type Token struct {
	Hash    []byte // SHA-256 of the secret
	Users   []string
	Serial  string // "" = any computer
	Created time.Time
	Expires time.Time
	By      string // who made it
	Device  string // that used it; "" = nobody yet
	Used    time.Time
}

// User is a person who may log in somewhere.
type User struct {
	Name    string // as the devices' directory spells it
	Created time.Time
}

// Approver is a phone's passkey.
type Approver struct {
	ID string // 22 characters of base64url
	push.Approver
	User string
	// Device: the one endpoint that pinned it itself; "" = it is for the manifest.
	Device string
	// Pending: the organisation key has not signed it yet (Device is "").
	Pending bool
	Counter uint32 // of the passkey, for opening the page
	Created time.Time
}

// Session is an approver's page, open in some browser.
type Session struct {
	Hash         []byte // SHA-256 of its token
	Approver     string
	Subscription []byte // PushSubscription as JSON; nil: cannot be rung
	Created      time.Time
	Seen         time.Time
}

// Challenge is one request to approve a login.
type Challenge struct {
	ID            string
	Device        string
	User          string
	Resource      string
	Bytes         []byte   // push.Challenge
	CredentialIDs [][]byte // that the device takes an answer from
	Created       time.Time
	Expires       time.Time
	Answer        *push.Answer
	Answered      time.Time
	Outcome       string // as PushEnd says; "" while it is open
	Ended         time.Time
}

// Enrolment waits for one phone.
type Enrolment struct {
	ID     string
	User   string
	Device string // that asked for it; "" = the authority's own
	// Secret keys the MAC; only of the authority's own.
	Secret  []byte
	Created time.Time
	Expires time.Time
	// Registration and MAC as the page posted them; nil: not yet.
	Registration *push.Registration
	MAC          []byte
	Session      []byte // hash of the session's token that the page gets once accepted
	Done         bool
	Accepted     bool
	Reason       string
}

// Item is a signed envelope.
type Item struct {
	Kind     organisation.Kind
	Device   string
	User     string
	Version  uint64
	Envelope []byte
	Refused  string // what a device said last of it, when it did not take it
}

// Event is one event, of a device or (Device "") of the authority itself.
type Event struct {
	Device  string
	VaultID string
	Seq     uint64
	Time    time.Time // of the device
	Kept    time.Time
	Name    string
	User    string
	JSON    []byte
	Pos     uint64 // where it lies among Events: of what is read
}

// Counts is how much there is.
type Counts struct {
	Devices       int // that are not revoked
	Online        int
	Users         int
	Phones        int
	PhonesPending int
	TokensOpen    int
}

// Notice tells a node that something changed in the database: read it there.
type Notice struct {
	Topic Topic
	// Device concerned; "" with Resync.
	Device string
	// ID of the challenge, enrolment or item.
	ID string
}

// Topic says what a Notice is about.
type Topic string

// The topics.
const (
	TopicAnswer    Topic = "answer"    // ID: of the challenge
	TopicEnrolment Topic = "enrolment" // ID: of the enrolment whose key was posted
	TopicSync      Topic = "sync"      // items, or the users allowed on the device, changed
	TopicRevoked   Topic = "revoked"
	TopicReplaced  Topic = "replaced" // its stream is on another node now
	// TopicResync: notices may have been lost (the connection to the database
	// broke): read everything that this node's devices wait for.
	TopicResync Topic = "resync"
)

// Store is a database. Safe for concurrent use.
type Store interface {
	// Update runs fn in one transaction; when it returns nil, all of it is on disk.
	// fn may run more than once, and must do nothing but call tx: others wait for it.
	// What it has read nobody else has changed by the time it commits. An error of
	// the database ends the transaction even if fn keeps it to itself. A caller whose
	// ctx ends does not know whether it happened.
	Update(ctx context.Context, fn func(tx Tx) error) error
	// Change is Update for what happens often and decides by rows that it writes
	// itself: others may by the time it commits have changed what it has only read,
	// as if it had committed before them. Whatever it writes, and PushState, nobody
	// else has changed. On PostgreSQL transactions then meet only over the same rows,
	// and not over whatever is next to them in an index.
	Change(ctx context.Context, fn func(tx Tx) error) error
	// View runs fn on a snapshot.
	View(ctx context.Context, fn func(tx Tx) error) error
	// Listen returns the notices for this node until ctx ends, beginning with a
	// TopicResync. The node's heart beats from then on (or from its first Attach);
	// Close ends its streams.
	Listen(ctx context.Context) <-chan Notice
	// Node is this node's id.
	Node() string
	// Backup writes a copy that can be restored to the file at path, which must not
	// exist. On PostgreSQL it says to use pg_dump.
	Backup(ctx context.Context, path string) error
	// Ping says whether the database answers and can be written.
	Ping(ctx context.Context) error
	// Kind is "sqlite" or "postgresql".
	Kind() string
	Close() error
}

// Tx is what can be done in a transaction. Get methods return ErrNotFound; Put
// methods insert or replace.
type Tx interface {
	EscrowTx
	OperatorTx
	ReportTx

	Setting(key string) ([]byte, error)
	PutSetting(key string, value []byte) error

	CreateToken(Token) error
	// UseToken marks the token with that hash as used by device and returns it, or
	// ErrNotFound, or ErrUsed when it was used or has expired by now.
	UseToken(hash []byte, device string, now time.Time) (Token, error)
	Tokens() ([]Token, error)

	PutDevice(Device) error
	Device(id string) (Device, error)
	// Devices lists them by name; with user, only those it is allowed on.
	Devices(user string) ([]Device, error)
	// DevicesNamed are those that people call by this name.
	DevicesNamed(name string) ([]Device, error)
	// DevicesNaming are those whose list has this very entry: not those of everyone.
	DevicesNaming(user string) ([]Device, error)

	CreateUser(User) error // ErrExists
	User(name string) (User, error)
	Users() ([]User, error)
	// RemoveUser removes the user, its approvers and sessions, and its open challenges.
	RemoveUser(name string) error

	// PutApprover returns ErrExists when another has the credential.
	PutApprover(Approver) error
	Approver(id string) (Approver, error)
	ApproverByCredential(credentialID []byte) (Approver, error)
	Approvers(user string) ([]Approver, error) // "" = all
	RemoveApprover(id string) error

	// PutSession returns ErrNotFound without its approver.
	PutSession(Session) error
	Session(hash []byte) (Session, error)
	Sessions(approver string) ([]Session, error)
	RemoveSession(hash []byte) error

	CreateChallenge(Challenge) error // ErrExists
	Challenge(id string) (Challenge, error)
	// OpenChallenges are those of a user that are neither answered, ended nor
	// expired by now.
	OpenChallenges(user string, now time.Time) ([]Challenge, error)
	// LastChallenges are the newest that have ended or expired, at most n.
	LastChallenges(user string, n int, now time.Time) ([]Challenge, error)
	// Answer records the first answer; ErrUsed when there is one, or it has ended
	// or expired by now.
	Answer(id string, a push.Answer, now time.Time) error
	// Undelivered are the answered challenges of a device that have not ended or
	// expired by now.
	Undelivered(device string, now time.Time) ([]Challenge, error)
	// EndChallenge records the first outcome; a later one changes nothing.
	EndChallenge(id, outcome string, now time.Time) error

	// PushState is what limits count by; the zero State when there is none. Within
	// Update nobody else changes it until the transaction's end.
	PushState(user, device string) (push.State, error)
	PutPushState(user, device string, s push.State) error

	CreateEnrolment(Enrolment) error
	Enrolment(id string) (Enrolment, error)
	// PostKey records the first registration; ErrUsed when there is one, or it is
	// done or expired.
	PostKey(id string, r push.Registration, mac, session []byte, now time.Time) error
	// EndEnrolment forgets the secret; ErrUsed when it is done already.
	EndEnrolment(id string, accepted bool, reason string) error
	// OpenEnrolments of a device have a key posted and are not done.
	OpenEnrolments(device string, now time.Time) ([]Enrolment, error)

	// PutItem keeps a signed item unless one of the same or a higher version of its
	// kind, device and user is there: ErrExists.
	PutItem(Item) error
	// Items for a device: those addressed to it, and the newest of those for every
	// device whose user is allowed on it or empty.
	Items(device string) ([]Item, error)
	// Item returns the newest; ErrNotFound.
	Item(kind organisation.Kind, device, user string) (Item, error)
	// ItemRefused does nothing when that version is not the newest any more.
	ItemRefused(kind organisation.Kind, device, user string, version uint64, why string) error

	// AddEvents keeps each event once, by device, vault id and seq, and returns their
	// highest seq. They are of one vault, at most MaxEvents; seq 0 is given the next
	// number.
	AddEvents(events []Event) (last uint64, err error)
	// TakeEvents keeps the events of one device's vault, in order, each once, after
	// dropped of which the device says that they are gone. last is how far the device's
	// events are here, missing how many of those dropped had not come before.
	TakeEvents(events []Event, dropped uint64) (last, missing uint64, err error)
	// EventsDropped is how many of a device's events never came.
	EventsDropped(device string) (uint64, error)
	// SearchEvents finds events by what they say, a page at a time, in the order of
	// their own time.
	SearchEvents(q EventQuery) (EventPage, error)
	// LastEvent is the cursor at the end of Events.
	LastEvent() (pos uint64, err error)
	// Events are those after the cursor, in the order in which they came to be seen, at
	// most n; "" = every device or user. It passes by none, and reads all that came
	// since: to find some there is SearchEvents.
	Events(after uint64, device, user string, n int) (list []Event, next uint64, err error)

	// Attach says that the device's stream is on this node now. It returns the node
	// that had it, or "", and sends another node TopicReplaced. ErrNotFound: there is
	// no such device.
	Attach(device string, now time.Time) (before string, err error)
	// Detach says that the stream ended, unless it is on another node by now. Whether
	// this node has another stream of the device is for the node to know.
	Detach(device string, now time.Time) error
	// StreamNode is the node that has the device's stream, or "". A node that has not
	// been heard of for a minute has none.
	StreamNode(device string, now time.Time) (string, error)
	// StreamsHere are the devices of whose stream the database says that this node
	// has it.
	StreamsHere() ([]string, error)
	// Online says which devices have a stream: device -> node. It is for lists of
	// devices, and fails with them when they are too long.
	Online(now time.Time) (map[string]string, error)
	// Counts counts what there is, however much it is.
	Counts(now time.Time) (Counts, error)

	// Notify sends a notice to the node that has the device's stream, when and if
	// the transaction commits. With Device "" it goes to every node. Whoever attaches
	// the stream meanwhile either hears the notice or sees what it is about in the
	// next View.
	Notify(n Notice) error

	// Sweep removes challenges, enrolments and tokens that expired before, and nodes
	// that are gone. It takes at most 2000 of each, so that nobody waits long for it:
	// call it every minute.
	Sweep(before time.Time) error
	// LeaseDelivery has this node be the one that delivers to an outlet, which is new
	// with the first lease, until then, unless another node is (one whose lease is hours
	// ahead has a wrong clock, and counts for none); and says how far it is.
	// An earlier run of this node is none other: it is over.
	LeaseDelivery(sink string, now, until time.Time) (d Delivery, ours bool, err error)
	// Delivered says that the outlet has n events more, up to pos. missed are those that
	// SweepEvents removed before it had them, once. ErrNotFound: another node delivers.
	Delivered(sink string, pos uint64, n int, now time.Time) (missed uint64, err error)
	// DeliveryFailed says why the outlet does not take them.
	DeliveryFailed(sink, why string, now time.Time) error
	// Deliveries are those of every outlet there ever was.
	Deliveries() ([]Delivery, error)

	// Clock is the time by PostgreSQL's server, which all nodes have in common; with
	// SQLite there is one node, and it is that one's.
	Clock() (time.Time, error)
	// SweepEvents removes events kept before, at most 2000: call it every minute. The
	// newest event stays, as the next is numbered after it. It counts those that an
	// outlet has not got; one that is on its way is counted as well.
	SweepEvents(before time.Time) error
}
