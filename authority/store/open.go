package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// The kinds.
const (
	kindSQLite     = "sqlite"
	kindPostgreSQL = "postgresql"
)

// Options say which database, and who opens it.
type Options struct {
	// SQLite is the path of the file, which is made if there is none.
	SQLite string
	// PostgreSQL is a URL or a list of key=value; instead of SQLite. To another
	// host it goes over TLS with the server's name verified, unless it says sslmode
	// itself.
	PostgreSQL string
	// Node names this node among those of the database; at most 64 bytes.
	Node string
	Log  *slog.Logger
	// Now is the clock of heartbeats; time.Now if nil.
	Now func() time.Time
}

// Open opens a database, makes it if it is new, and migrates it if it is older
// than this program. Errors name the file or the server, and never a password.
func Open(ctx context.Context, o Options) (Store, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Node == "" || len(o.Node) > 64 || !utf8.ValidString(o.Node) || strings.IndexByte(o.Node, 0) >= 0 {
		return nil, fmt.Errorf("store: the node needs a name of at most 64 bytes, not %q", o.Node)
	}
	c := &core{node: o.Node, run: rand.Text(), now: o.Now, log: o.Log, hub: newHub(), maxList: MaxList, maxLooked: maxLooked, stop: make(chan struct{})}
	switch {
	case o.SQLite != "" && o.PostgreSQL != "":
		return nil, errors.New("store: both SQLite and PostgreSQL are given: choose one")
	case o.SQLite != "":
		return openSQLite(ctx, o.SQLite, c)
	case o.PostgreSQL != "":
		return openPostgreSQL(ctx, o.PostgreSQL, c)
	}
	return nil, errors.New("store: neither SQLite nor PostgreSQL is given")
}

// core is what both databases have.
type core struct {
	node string
	run  string // of this process: a restarted node has lost its streams
	now  func() time.Time
	log  *slog.Logger
	hub  *hub
	// The constants; a test has less, and so needs no hundred thousand rows.
	maxList, maxLooked int

	// What is said differently.
	eventID  string // the next id
	eventPos string // the next position; n.id is the id
	// addEvent adds one now, or when the transaction commits.
	addEvent func(t *tx, sql string, args ...any) error
	// notify tells one run of a node when the transaction commits; "" = all nodes.
	notify       func(t *tx, node, run string, n Notice) error
	notifyDevice func(t *tx, n Notice) error // the node that has its stream
	sweepNotices func(t *tx, before time.Time) error
	clock        func(t *tx) (time.Time, error)

	beating  atomic.Bool
	stop     chan struct{} // closed by Close
	stopping sync.Mutex    // against tasks that begin while Close waits for them
	tasks    sync.WaitGroup
}
