package store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	poolSize = 16
	// within bounds a whole Update or View, with its retries: a server that does not
	// answer is not available.
	within         = 10 * time.Second
	connectTimeout = 5 * time.Second
	// The connection for notices is asked this often whether it is still there.
	probeEvery   = 10 * time.Second
	reconnectMin = 50 * time.Millisecond
	reconnectMax = 2 * time.Second
	everyNode    = "sallyport_every_node"
)

// Advisory locks, of the whole database.
const (
	migrationLock = 0x73616c6c79000001
	positionsLock = 0x73616c6c79000002
)

// pgStore is a PostgreSQL database. Every Update is SERIALIZABLE: what holds for
// SQLite's one writer holds here, and whoever got in another's way runs again. That
// is also who read next to where another wrote, so what there is most of is Changes,
// which lock rows; and a View is a snapshot that nobody has to mind.
type pgStore struct {
	*core
	pool      *pgxpool.Pool
	config    *pgx.ConnConfig
	name      string // of the server, for errors
	listening chan struct{}
}

// openPostgreSQL connects to a server.
func openPostgreSQL(ctx context.Context, address string, c *core) (Store, error) {
	config, err := poolConfig(address, c.node)
	if err != nil {
		return nil, err
	}
	c.eventID = `nextval('events_id_seq')`
	c.eventPos = `nextval('event_positions')`
	c.addEvent = func(t *tx, sql string, args ...any) error {
		t.events = append(t.events, func() error { return t.exec(sql, args...) })
		return nil
	}
	c.notify = notifyPostgreSQL
	c.notifyDevice = notifyDevicePostgreSQL
	c.sweepNotices = func(*tx, time.Time) error { return nil }
	c.clock = func(t *tx) (at time.Time, err error) {
		return at, t.one([]any{when{&at}}, `SELECT (extract(epoch FROM clock_timestamp()) * 1000000000)::bigint`)
	}
	s := &pgStore{core: c, config: config.ConnConfig, listening: make(chan struct{}, 1)}
	s.name = fmt.Sprintf("PostgreSQL at %s:%d, database %s", s.config.Host, s.config.Port, s.config.Database)
	if s.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, s.explain(ctx, err, true)
	}
	if err := s.migrate(ctx); err != nil {
		s.pool.Close()
		return nil, err
	}
	return s, nil
}

// poolConfig reads an address.
func poolConfig(address, node string) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(address)
	if err != nil {
		return nil, errors.New("store: the PostgreSQL address is malformed, or names a file that cannot be read (it is not shown here: it may hold a password)")
	}
	if !isLocal(config.ConnConfig) && os.Getenv("PGSSLMODE") == "" && !says(address, "sslmode") {
		// The library's own default takes a server that speaks no TLS.
		if config, err = pgxpool.ParseConfig(with(address, "sslmode", "verify-full")); err != nil {
			return nil, errors.New("store: the PostgreSQL address cannot be used with sslmode=verify-full: give sslmode")
		}
	}
	if !says(address, "pool_max_conns") {
		config.MaxConns = poolSize
	}
	if t := config.ConnConfig.ConnectTimeout; t == 0 || t > connectTimeout {
		config.ConnConfig.ConnectTimeout = connectTimeout
	}
	for k, v := range map[string]string{
		"application_name":                    "sallyport-authority " + node,
		"idle_in_transaction_session_timeout": "15s", // of a node that is gone, with its locks
		// A scan of a whole table makes a transaction conflict with every other.
		"enable_seqscan": "off",
	} {
		config.ConnConfig.RuntimeParams[k] = v
	}
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'`)
		return err
	}
	return config, nil
}

// says whether an address gives a parameter itself.
func says(address, key string) bool {
	if !isURL(address) {
		return strings.Contains(address, key+"=") || strings.Contains(address, key+" ")
	}
	_, query, _ := strings.Cut(address, "?") // url.Parse knows one host only
	q, err := url.ParseQuery(query)
	return err == nil && q.Has(key)
}

func isURL(address string) bool {
	return strings.HasPrefix(address, "postgres://") || strings.HasPrefix(address, "postgresql://")
}

// with is an address with one parameter more.
func with(address, key, value string) string {
	switch {
	case !isURL(address):
		return address + " " + key + "=" + value
	case strings.Contains(address, "?"):
		return address + "&" + key + "=" + value
	}
	return address + "?" + key + "=" + value
}

// isLocal says whether no network lies between.
func isLocal(c *pgx.ConnConfig) bool {
	hosts := []string{c.Host}
	for _, f := range c.Fallbacks {
		hosts = append(hosts, f.Host)
	}
	return !slices.ContainsFunc(hosts, func(host string) bool {
		a, err := netip.ParseAddr(host)
		return !strings.HasPrefix(host, "/") && host != "localhost" && (err != nil || !a.IsLoopback())
	})
}

// migrate brings the schema up to date; of several nodes that start at once one
// does it, and the others wait.
func (s *pgStore) migrate(ctx context.Context) error {
	return s.transact(ctx, "BEGIN ISOLATION LEVEL READ COMMITTED", func(g *guarded) error {
		if _, err := g.exec(`SELECT pg_advisory_xact_lock($1)`, int64(migrationLock)); err != nil {
			return err
		}
		if _, err := g.exec(schemaTable); err != nil {
			return err
		}
		return migrate(g, kindPostgreSQL, migrations)
	})
}

func (s *pgStore) Node() string { return s.node }
func (s *pgStore) Kind() string { return kindPostgreSQL }

func (s *pgStore) Update(ctx context.Context, fn func(Tx) error) error {
	return s.write(ctx, "BEGIN ISOLATION LEVEL SERIALIZABLE", fn)
}

func (s *pgStore) Change(ctx context.Context, fn func(Tx) error) error {
	return s.write(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ", fn)
}

func (s *pgStore) write(ctx context.Context, begin string, fn func(Tx) error) error {
	var t *tx
	err := s.transact(ctx, begin, func(g *guarded) error {
		t = &tx{core: s.core, q: g, lock: " FOR UPDATE"}
		if err := fn(t); err != nil || g.err != nil {
			return err
		}
		return t.finish()
	})
	if err == nil && t.attached {
		s.live(s, false)
	}
	return err
}

func (s *pgStore) View(ctx context.Context, fn func(Tx) error) error {
	return s.transact(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", func(g *guarded) error {
		g.readOnly = true
		return fn(&tx{core: s.core, q: g})
	})
}

// finish adds the events, so that they get their positions in the order in which
// transactions commit: else a reader would pass by one that came to be seen after
// a later one. The lock is the last that a transaction takes.
func (t *tx) finish() error {
	if len(t.events) == 0 {
		return nil
	}
	if err := t.exec(`SELECT pg_advisory_xact_lock($1)`, int64(positionsLock)); err != nil {
		return err
	}
	for _, add := range t.events {
		if err := add(); err != nil {
			return err
		}
	}
	t.events = nil
	return nil
}

// transact runs a transaction until it gets through without a conflict.
func (s *pgStore) transact(ctx context.Context, begin string, fn func(*guarded) error) error {
	bounded, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	stale := 0
	for attempt := 0; ; attempt++ {
		err := s.attempt(bounded, begin, fn)
		var again conflict
		switch {
		case ctx.Err() != nil && err != nil:
			return ctx.Err()
		case errors.Is(err, errStale) && stale == 0:
			// It broke while it lay in the pool; so did the others, perhaps.
			stale++
			s.pool.Reset()
			continue
		case bounded.Err() != nil && err != nil:
			return fmt.Errorf("%w: %s did not answer within %v (%w)", ErrUnavailable, s.name, within, err)
		case !errors.As(err, &again):
			return err
		}
		pause(bounded, attempt)
	}
}

// pause waits a little, and longer the more attempts there were, so that those
// who conflict come apart.
func pause(ctx context.Context, attempt int) {
	var b [1]byte
	_, _ = rand.Read(b[:])
	t := time.NewTimer(time.Duration(min(attempt+1, 16)) * time.Duration(b[0]) * 4 * time.Microsecond) // up to 16 ms
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// conflict: PostgreSQL gave the transaction up for another's sake.
type conflict struct{ error }

// errStale: the connection was broken before anything was done on it.
var errStale = errors.New("the connection was closed")

// attempt runs a transaction once.
func (s *pgStore) attempt(ctx context.Context, begin string, fn func(*guarded) error) error {
	c, err := s.pool.Acquire(ctx)
	if err != nil {
		return s.explain(ctx, err, true)
	}
	defer c.Release() // closes one that is left within a transaction
	conn := c.Conn()
	q := &pgQuerier{ctx: ctx, conn: conn, batch: new(pgx.Batch)}
	_ = q.later(begin)
	defer func() {
		if !conn.IsClosed() && conn.PgConn().TxStatus() != 'I' {
			_, _ = conn.Exec(ctx, "ROLLBACK")
		}
	}()
	g := &guarded{ctx: ctx, q: q}
	err = fn(g)
	first := g.err
	g.err = errEnded // a Tx that outlives its function
	switch {
	case first != nil && !q.begun && conn.IsClosed():
		return fmt.Errorf("%w (%w)", s.explain(ctx, first, true), errStale)
	case first != nil && (err == nil || errors.Is(err, first) || isConflict(first)):
		return s.explain(ctx, first, conn.IsClosed())
	case err != nil:
		return err
	case !q.begun && q.batch.Len() == 1: // nothing was asked
		return nil
	}
	tag, err := q.run("COMMIT")
	if err != nil {
		return s.explain(ctx, err, conn.IsClosed())
	}
	if tag.String() != "COMMIT" {
		return fmt.Errorf("%w: %s: the transaction did not commit", ErrUnavailable, s.name)
	}
	return nil
}

// isConflict says whether to run again: it conflicted, or the server had no more
// room to note who conflicts with whom, which passes when the slowest has ended.
func isConflict(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && slices.Contains([]string{"40001", "40P01", "53200"}, e.Code)
}

// explain says conflict or ErrUnavailable where that is what happened. broken:
// there is no connection any more.
func (s *pgStore) explain(ctx context.Context, err error, broken bool) error {
	var e *pgconn.PgError
	switch is := errors.As(err, &e); {
	case isConflict(err):
		return conflict{err}
	case is && e.Code == "23503": // a foreign key
		return fmt.Errorf("%w (%w)", ErrNotFound, err)
	case is && e.Code == "53100":
		return fmt.Errorf("%w: %s: the disk is full (%w)", ErrUnavailable, s.name, err)
	case is && (e.Code == "25006" || strings.Contains("08 28 3D 53 57 58 F0 XX", e.Code[:2])), broken, ctx.Err() != nil:
		return fmt.Errorf("%w: %s: %w", ErrUnavailable, s.name, err)
	case is:
		return fmt.Errorf("store: %s: %w", s.name, err)
	}
	return err
}

// channel is where a node listens; of any name, and no longer than PostgreSQL's
// names may be.
func channel(node string) string {
	h := sha256.Sum256([]byte(node))
	return "sallyport_" + hex.EncodeToString(h[:16])
}

// notifyPostgreSQL sends with the commit.
func notifyPostgreSQL(t *tx, node, _ string, n Notice) error {
	to := everyNode
	if node != "" {
		to = channel(node)
	}
	return t.exec(`SELECT pg_notify($1, $2)`, to, text(n))
}

// notifyDevicePostgreSQL locks where the device's stream is until the commit: whoever
// attaches it elsewhere does so after, and sees what the notice is about. A stream that
// is nowhere cannot be locked, and may be anywhere by then: all nodes are told.
func notifyDevicePostgreSQL(t *tx, n Notice) error {
	return t.exec(`SELECT pg_notify(COALESCE((SELECT 'sallyport_' || substr(encode(sha256(convert_to(node, 'UTF8')), 'hex'), 1, 32)
		FROM streams WHERE device = $1 FOR SHARE), $2), $3)`, n.Device, everyNode, text(n))
}

func (s *pgStore) Listen(ctx context.Context) <-chan Notice {
	s.live(s, true)
	select {
	case s.listening <- struct{}{}: // the first
		if s.mayBegin() {
			s.tasks.Go(s.receive)
			s.stopping.Unlock()
		}
	default:
	}
	return s.hub.listen(ctx, s.stop)
}

// receive keeps one connection for notices, until Close.
func (s *pgStore) receive() {
	ctx, cancel := s.untilStop()
	defer cancel()
	for wait := reconnectMin; ; wait = min(2*wait, reconnectMax) {
		err := s.receiveOnce(ctx, func() { wait = reconnectMin })
		s.hub.notReady()
		if ctx.Err() != nil {
			return
		}
		s.log.Warn("notices from the database are cut off; connecting again", "error", s.explain(ctx, err, true))
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}

func (s *pgStore) receiveOnce(ctx context.Context, connected func()) error {
	conn, err := pgx.ConnectConfig(ctx, s.config.Copy())
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = conn.Close(ctx)
	}()
	for _, name := range []string{channel(s.node), everyNode} {
		if _, err := conn.Exec(ctx, "LISTEN "+name); err != nil {
			return err
		}
	}
	connected()
	s.hub.resync()
	for {
		bounded, cancel := context.WithTimeout(ctx, probeEvery)
		m, err := conn.WaitForNotification(bounded)
		cancel()
		switch {
		case err == nil:
			var n Notice
			if err := json.Unmarshal([]byte(m.Payload), &n); err != nil {
				s.log.Warn("a notice is malformed", "error", err)
				continue
			}
			s.hub.publish(n)
		case ctx.Err() != nil:
			return ctx.Err()
		case conn.IsClosed():
			return err
		default: // nothing came: is it there?
			bounded, cancel := context.WithTimeout(ctx, connectTimeout)
			err := conn.Ping(bounded)
			cancel()
			if err != nil {
				return err
			}
		}
	}
}

func (s *pgStore) Ping(ctx context.Context) error {
	return s.Update(ctx, func(t Tx) error { return t.(*tx).ping() })
}

// Backup is pg_dump's.
func (s *pgStore) Backup(context.Context, string) error {
	return errors.New("store: PostgreSQL is backed up with its own tools, such as pg_dump")
}

func (s *pgStore) Close() error {
	if s.end() {
		s.part(s)
		s.pool.Close()
	}
	return nil
}

// pgQuerier is one connection within a transaction. What can wait is sent with
// what cannot: each round trip is time that others wait for its locks.
type pgQuerier struct {
	ctx   context.Context
	conn  *pgx.Conn
	batch *pgx.Batch // what waits
	begun bool       // BEGIN was answered
}

func (q *pgQuerier) later(sql string, args ...any) error {
	q.batch.Queue(sql, args...)
	return nil
}

// send sends the batch and has last read the results that come after the first
// ones, of what waited.
func (q *pgQuerier) send(waited int, last func(pgx.BatchResults) error) (err error) {
	results := q.conn.SendBatch(q.ctx, q.batch)
	q.batch = new(pgx.Batch)
	defer func() {
		if cerr := results.Close(); err == nil {
			err = cerr
		}
	}()
	for range waited {
		if _, err := results.Exec(); err != nil {
			return err
		}
		q.begun = true
	}
	return last(results)
}

// run is exec, with what the server calls what it did.
func (q *pgQuerier) run(sql string, args ...any) (tag pgconn.CommandTag, err error) {
	waited := q.batch.Len()
	q.batch.Queue(sql, args...)
	err = q.send(waited, func(r pgx.BatchResults) (err error) { tag, err = r.Exec(); return err })
	return tag, err
}

func (q *pgQuerier) exec(sql string, args ...any) (int64, error) {
	tag, err := q.run(sql, args...)
	return tag.RowsAffected(), err
}

func (q *pgQuerier) query(row func(scanner) error, sql string, args ...any) error {
	waited := q.batch.Len()
	q.batch.Queue(sql, args...)
	return q.send(waited, func(results pgx.BatchResults) error {
		rows, err := results.Query()
		if err != nil {
			return err
		}
		for rows.Next() && err == nil {
			err = row(rows)
		}
		rows.Close()
		return errors.Join(err, rows.Err())
	})
}
