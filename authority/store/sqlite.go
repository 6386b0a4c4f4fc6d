package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

const (
	readers      = 4
	maxBatch     = 128
	queueLength  = 1024
	lookEvery    = 100 * time.Millisecond // for what other processes wrote
	busyTimeout  = 10 * time.Second       // that another process may keep the file
	busyPause    = 200 * time.Microsecond // see begin
	journalLimit = 64 << 20
)

// sqliteStore is one file. One goroutine owns the connection that writes, and
// lends it to the callers of Update, one after the other; it commits those that
// wait together, so that they share one fsync.
type sqliteStore struct {
	*core
	path    string
	db      *sql.DB
	writer  *sqliteConn
	readers chan *sqliteConn
	queue   chan *job
	mu      sync.RWMutex // of closed, against queue
	closed  bool
	written chan struct{} // closed when the writer has ended
	// Of the writer goroutine:
	version int64 // data_version, which other processes' commits change
	seen    int64 // id of the last notice
}

// job is one call of Update.
type job struct {
	state atomic.Int32 // queued, running or withdrawn
	turn  chan *tx     // the writer lends its connection
	ran   chan error   // the caller gives it back
	done  chan error   // of one: what the commit came to
	tx    *tx          // that ran, for what is due after the commit
}

const (
	queued int32 = iota
	running
	withdrawn
)

var errPanicked = errors.New("store: the function of Update did not return")

// openSQLite opens the file at path.
func openSQLite(ctx context.Context, path string, c *core) (Store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	fresh, err := checkFile(path)
	if err != nil {
		return nil, err
	}
	c.eventID = `(SELECT COALESCE(MAX(id), 0) + 1 FROM events)`
	c.eventPos = `n.id`
	c.addEvent = (*tx).exec
	c.notify = notifySQLite
	c.notifyDevice = notifyDeviceSQLite
	c.clock = func(t *tx) (time.Time, error) { return t.now(), nil }
	c.sweepNotices = func(t *tx, before time.Time) error {
		return t.exec(`DELETE FROM notices WHERE id IN (SELECT id FROM notices WHERE at < $1 ORDER BY at LIMIT $2)`, nano(before), int64(sweepAtOnce))
	}
	if fresh {
		if err := createFile(ctx, path); err != nil {
			return nil, err
		}
	}
	s := &sqliteStore{core: c, path: path, readers: make(chan *sqliteConn, readers), queue: make(chan *job, queueLength), written: make(chan struct{})}
	if s.db, err = openFile(path); err != nil {
		return nil, err
	}
	fail := func(err error) (Store, error) {
		_ = s.db.Close()
		return nil, s.explain(err)
	}
	if s.writer, err = newSQLiteConn(ctx, s.db, `PRAGMA busy_timeout = 0`); err != nil { // see begin
		return fail(err)
	}
	if list, _, err := pending(s.writer, migrations); err != nil {
		return fail(fmt.Errorf("store: %s is no database of sallyport-authority: %w", path, err))
	} else if len(list) > 0 {
		if err := migrateSQLite(ctx, s.writer); err != nil {
			return fail(err)
		}
	}
	for range readers {
		r, err := newSQLiteConn(ctx, s.db, `PRAGMA query_only = ON`)
		if err != nil {
			return fail(err)
		}
		s.readers <- r
	}
	if err := s.look(); err != nil {
		return fail(err)
	}
	c.hub.ready = true
	go s.write()
	return s, nil
}

// checkFile says whether there is none yet, and refuses one that others can
// read or replace. It opens nothing: closing the file would end SQLite's locks
// on it in this whole process.
func checkFile(path string) (fresh bool, err error) {
	dir := filepath.Dir(path)
	info, err := os.Stat(dir)
	if err != nil {
		return false, fmt.Errorf("store: %w", err)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o022 != 0 && info.Mode()&fs.ModeSticky == 0 {
		return false, fmt.Errorf("store: others can write to the directory %s (mode %04o): run chmod go-w %s", dir, info.Mode().Perm(), dir)
	}
	for _, suffix := range []string{"-wal", "-shm", ""} {
		info, err = os.Lstat(path + suffix)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return false, fmt.Errorf("store: %w", err)
		case !info.Mode().IsRegular():
			return false, fmt.Errorf("store: %s is no regular file", path+suffix)
		case runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0:
			return false, fmt.Errorf("store: others can read or write %s (mode %04o): run chmod 600 %s", path+suffix, info.Mode().Perm(), path+suffix)
		}
	}
	if err == nil && info.Size() == 0 {
		return false, fmt.Errorf("store: the database %s is empty: restore a backup, or remove the file for a new database", path)
	}
	return err != nil, nil
}

// createFile makes a new database beside path and gives it its name when it is
// whole, so that an empty or half-made one is never taken for a database.
func createFile(ctx context.Context, path string) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*.db") // 0600
	if err != nil {
		return fmt.Errorf("%w: the database %s cannot be made: %w", ErrUnavailable, path, err)
	}
	name := f.Name()
	defer func() {
		for _, suffix := range []string{"", "-wal", "-shm"} {
			_ = os.Remove(name + suffix)
		}
	}()
	if err := f.Close(); err != nil {
		return err
	}
	db, err := openFile(name)
	if err != nil {
		return err
	}
	conn, err := newSQLiteConn(ctx, db, `PRAGMA busy_timeout = 0`)
	if err == nil {
		err = migrateSQLite(ctx, conn)
	}
	if err == nil { // the last connection leaves no log behind
		err = conn.close()
	}
	if cerr := db.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = syncFile(name)
	}
	if err == nil {
		// Another process may have been faster; its database is as good.
		if err = os.Link(name, path); errors.Is(err, fs.ErrExist) {
			err = nil
		}
	}
	if err == nil {
		err = syncFile(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("%w: the database %s cannot be made: %w", ErrUnavailable, path, err)
	}
	return nil
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	return f.Sync()
}

// openFile prepares connections to a file; none is opened yet.
func openFile(path string) (*sql.DB, error) {
	q := url.Values{"mode": {"rw"}, "_txlock": {"immediate"}, "_error_rc": {"1"}, "_dqs": {"0"}, "_pragma": {
		fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()), "journal_mode(wal)", "synchronous(full)", "foreign_keys(on)",
		"temp_store(memory)", "trusted_schema(off)", "wal_autocheckpoint(4000)", fmt.Sprintf("journal_size_limit(%d)", journalLimit),
	}}
	u := url.URL{Scheme: "file", Path: filepath.ToSlash(path), RawQuery: q.Encode()}
	db, err := sql.Open("sqlite", u.String())
	if err == nil {
		db.SetMaxIdleConns(readers + 2)
	}
	return db, err
}

func migrateSQLite(ctx context.Context, c *sqliteConn) error {
	if err := c.begin(); err != nil {
		return err
	}
	_, err := c.exec(schemaTable)
	if err == nil {
		err = migrate(&guarded{ctx: ctx, q: c}, kindSQLite, migrations)
	}
	if err == nil {
		_, err = c.exec(`COMMIT`)
	}
	if err != nil {
		_, _ = c.exec(`ROLLBACK`)
	}
	return err
}

func (s *sqliteStore) Node() string { return s.node }
func (s *sqliteStore) Kind() string { return kindSQLite }

func (s *sqliteStore) Update(ctx context.Context, fn func(Tx) error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	j := &job{turn: make(chan *tx), ran: make(chan error), done: make(chan error, 1)}
	s.mu.RLock()
	if s.closed {
		s.mu.RUnlock()
		return errClosed
	}
	select {
	case s.queue <- j:
		s.mu.RUnlock()
	case <-ctx.Done():
		s.mu.RUnlock()
		return ctx.Err()
	}
	var t *tx
	select {
	case t = <-j.turn:
	case err := <-j.done:
		return err
	case <-ctx.Done():
		if j.state.CompareAndSwap(queued, withdrawn) {
			return ctx.Err()
		}
		select {
		case t = <-j.turn:
		case err := <-j.done:
			return err
		}
	}
	func() {
		err := errPanicked // or its goroutine ends: a test's Fatal
		defer func() { j.ran <- err }()
		err = fn(t)
	}()
	select {
	case err := <-j.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

var errClosed = fmt.Errorf("%w: it is closed", ErrUnavailable)

// write is the writer goroutine. It ends when the queue is closed and empty.
func (s *sqliteStore) write() {
	defer close(s.written)
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	batch := make([]*job, 0, maxBatch)
	for {
		batch = batch[:0]
		select {
		case j, ok := <-s.queue:
			if !ok {
				return
			}
			batch = append(batch, j)
		case <-tick.C:
			if s.hub.listened() {
				if err := s.look(); err != nil {
					s.log.Warn("the database does not say what other processes changed", "path", s.path, "error", s.explain(err))
				}
			}
			continue
		}
		s.commit(batch)
	}
}

// commit runs the first job and those that wait by the time it has run, in one
// transaction. Those whose function succeeded share the fate of the commit.
func (s *sqliteStore) commit(batch []*job) {
	err := s.explain(s.writer.begin())
	var waiting []*job
	for i := 0; ; i++ {
		if i == len(batch) {
			if i == maxBatch || err != nil {
				break
			}
			select {
			case j, ok := <-s.queue:
				if ok {
					batch = append(batch, j)
				}
			default:
			}
			if i == len(batch) {
				break
			}
		}
		j := batch[i]
		if !j.state.CompareAndSwap(queued, running) {
			continue
		}
		if err == nil {
			var kept bool
			if kept, err = s.lend(j); !kept && err == nil {
				continue
			}
		}
		waiting = append(waiting, j)
	}
	if err == nil {
		_, err = s.writer.exec(`COMMIT`)
		err = s.explain(err)
	}
	if err != nil {
		_, _ = s.writer.exec(`ROLLBACK`) // unless SQLite has
	}
	for _, j := range waiting {
		if err == nil {
			s.hub.publish(j.tx.notices...)
			if j.tx.attached {
				s.live(s, false)
			}
		}
		j.done <- err
	}
}

// lend lends the connection to one job, within a savepoint: if its function
// fails, only what it did is undone. The error is that of the transaction.
func (s *sqliteStore) lend(j *job) (kept bool, err error) {
	if _, err := s.writer.exec(`SAVEPOINT job`); err != nil {
		return false, s.explain(err)
	}
	g := &guarded{ctx: context.Background(), q: s.writer}
	j.tx = &tx{core: s.core, q: g}
	j.turn <- j.tx
	ferr := <-j.ran
	if g.err != nil && (ferr == nil || errors.Is(ferr, g.err)) {
		ferr = s.explain(g.err)
	}
	g.err = errEnded // a Tx that outlives its function
	if ferr == nil {
		if _, err := s.writer.exec(`RELEASE job`); err != nil {
			return false, s.explain(err)
		}
		return true, nil
	}
	if _, err := s.writer.exec(`ROLLBACK TO job`); err != nil {
		// SQLite gave the whole transaction up, say for a full disk.
		return false, s.explain(errors.Join(ferr, err))
	}
	if _, err := s.writer.exec(`RELEASE job`); err != nil {
		return false, s.explain(err)
	}
	j.done <- ferr
	return false, nil
}

var errEnded = errors.New("store: the transaction has ended")

// Change is Update: there is one writer.
func (s *sqliteStore) Change(ctx context.Context, fn func(Tx) error) error { return s.Update(ctx, fn) }

func (s *sqliteStore) View(ctx context.Context, fn func(Tx) error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var c *sqliteConn
	select {
	case c = <-s.readers:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.stop:
		return errClosed
	}
	defer func() { s.readers <- c }()
	if _, err := c.exec(`BEGIN DEFERRED`); err != nil {
		return s.explain(err)
	}
	defer func() { _, _ = c.exec(`ROLLBACK`) }()
	g := &guarded{ctx: ctx, q: c, readOnly: true}
	err := fn(&tx{core: s.core, q: g})
	if g.err != nil && (err == nil || errors.Is(err, g.err)) {
		err = s.explain(g.err)
	}
	g.err = errEnded
	return err
}

func (s *sqliteStore) Listen(ctx context.Context) <-chan Notice {
	s.live(s, true)
	return s.hub.listen(ctx, s.stop)
}

// notifyDeviceSQLite tells the node that has the stream. Whoever gets it later reads
// what there is.
func notifyDeviceSQLite(t *tx, n Notice) error {
	var node, run string
	switch err := t.one([]any{&node, &run}, `SELECT node, run FROM streams WHERE device = $1`, n.Device); err {
	case nil:
		return t.core.notify(t, node, run, n)
	case ErrNotFound:
		return nil
	default:
		return err
	}
}

// notifySQLite keeps a notice for other processes in a table, where they look
// whenever they see that the file has changed.
func notifySQLite(t *tx, _, run string, n Notice) error {
	if run == "" || run == t.run {
		t.notices = append(t.notices, n)
	}
	if run == t.run {
		return nil
	}
	return t.exec(`INSERT INTO notices (at, run, sender, topic, device, ref) VALUES ($1, $2, $3, $4, $5, $6)`,
		nano(t.now()), run, t.run, string(n.Topic), n.Device, n.ID)
}

// look publishes what other processes have noted since it looked last.
func (s *sqliteStore) look() error {
	var version int64
	err := s.writer.query(func(r scanner) error { return r.Scan(&version) }, `PRAGMA data_version`)
	if err != nil || version == s.version {
		return err
	}
	first := s.version == 0
	var list []Notice
	err = s.writer.query(func(r scanner) error {
		var n Notice
		var topic string
		err := r.Scan(&s.seen, &topic, &n.Device, &n.ID)
		n.Topic = Topic(topic)
		list = append(list, n)
		return err
	}, `SELECT id, topic, device, ref FROM notices WHERE id > $1 AND (run = $2 OR run = '' AND sender <> $2) ORDER BY id`, s.seen, s.run)
	if err != nil {
		return err
	}
	s.version = version
	if !first {
		s.hub.publish(list...)
	}
	return nil
}

func (s *sqliteStore) Ping(ctx context.Context) error {
	return s.Update(ctx, func(t Tx) error { return t.(*tx).ping() })
}

// Backup copies a snapshot; logins go on meanwhile.
func (s *sqliteStore) Backup(ctx context.Context, path string) (err error) {
	path, err = filepath.Abs(path)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			err = fs.ErrExist
		}
		return fmt.Errorf("store: the backup %s: %w", path, err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".backup-*") // 0600; VACUUM INTO takes an empty file
	if err != nil {
		return fmt.Errorf("store: the backup: %w", err)
	}
	name := f.Name()
	defer func() { _ = os.Remove(name) }() // gone when all went well
	if err := f.Close(); err != nil {
		return err
	}
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return s.explain(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.ExecContext(ctx, `VACUUM INTO ?1`, name); err != nil {
		return fmt.Errorf("store: the backup to %s: %w", path, err)
	}
	if err := syncFile(name); err != nil {
		return fmt.Errorf("store: the backup: %w", err)
	}
	if err := os.Link(name, path); err != nil { // never over another file
		return fmt.Errorf("store: the backup: %w", err)
	}
	return syncFile(filepath.Dir(path))
}

func (s *sqliteStore) Close() (err error) {
	if !s.end() {
		return nil
	}
	s.part(s)
	s.mu.Lock()
	s.closed = true
	close(s.queue)
	s.mu.Unlock()
	<-s.written
	for range readers {
		err = errors.Join(err, (<-s.readers).close())
	}
	return errors.Join(err, s.writer.close(), s.db.Close())
}

// explain gives an error of SQLite the words that help, and says ErrUnavailable
// where it is the file or the disk that failed.
func (s *sqliteStore) explain(err error) error {
	var e *sqlite.Error
	if !errors.As(err, &e) || errors.Is(err, ErrUnavailable) {
		return err
	}
	what := ""
	switch code := e.Code() & 0xff; code {
	case sqlite3.SQLITE_FULL:
		what = "the disk is full"
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM:
		what = "the file cannot be written"
	case sqlite3.SQLITE_CANTOPEN:
		what = "the file cannot be opened"
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		what = "the file is damaged, or no database: restore a backup"
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL:
		what = "another process keeps the file locked"
	case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM:
		what = "reading or writing failed"
	case sqlite3.SQLITE_CONSTRAINT:
		if e.Code() == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY {
			return fmt.Errorf("%w (%w)", ErrNotFound, err)
		}
	}
	if what == "" {
		return fmt.Errorf("store: %w", err)
	}
	return fmt.Errorf("%w: %s: %s (%w)", ErrUnavailable, s.path, what, err)
}

// sqliteConn is one connection with its prepared statements. One goroutine uses
// it at a time.
type sqliteConn struct {
	conn  *sql.Conn
	stmts map[string]*sql.Stmt
}

func newSQLiteConn(ctx context.Context, db *sql.DB, pragma string) (*sqliteConn, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := conn.ExecContext(ctx, pragma); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &sqliteConn{conn, make(map[string]*sql.Stmt)}, nil
}

func (c *sqliteConn) close() error {
	for _, s := range c.stmts {
		_ = s.Close()
	}
	return c.conn.Close()
}

// begin begins to write. While another process does, it asks often: SQLite's own
// waiting asks ever less often, and would seldom meet the gaps of a busy server.
func (c *sqliteConn) begin() error {
	for left := busyTimeout; ; left -= busyPause {
		_, err := c.exec(`BEGIN IMMEDIATE`)
		var e *sqlite.Error
		if left <= 0 || !errors.As(err, &e) || e.Code()&0xff != sqlite3.SQLITE_BUSY {
			return err
		}
		time.Sleep(busyPause)
	}
}

// Statements run to their end: a context that can end costs a goroutine each.
var noContext = context.Background()

func (c *sqliteConn) stmt(text string) (*sql.Stmt, error) {
	if s, ok := c.stmts[text]; ok {
		return s, nil
	}
	s, err := c.conn.PrepareContext(noContext, strings.ReplaceAll(text, "$", "?")) // SQLite's $1 is a name, its ?1 a number
	if err == nil {
		c.stmts[text] = s
	}
	return s, err
}

func (c *sqliteConn) exec(text string, args ...any) (int64, error) {
	s, err := c.stmt(text)
	if err != nil {
		return 0, err
	}
	r, err := s.ExecContext(noContext, args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

func (c *sqliteConn) later(text string, args ...any) error {
	_, err := c.exec(text, args...)
	return err
}

func (c *sqliteConn) query(row func(scanner) error, text string, args ...any) error {
	s, err := c.stmt(text)
	if err != nil {
		return err
	}
	rows, err := s.QueryContext(noContext, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if err := row(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}
