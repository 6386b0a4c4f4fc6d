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

// pgStore is a PostgreSQL database. Everything is SERIALIZABLE: what holds for
// SQLite's one writer holds here, and whoever got in another's way runs again.
type pgStore struct {
	*core
	pool      *pgxpool.Pool
	config    *pgx.ConnConfig
	name      string // of the server, for errors
	listening chan struct{}
}

// openPostgreSQL connects to a server.
func openPostgreSQL(ctx context.Context, address string, c *core) (Store, error) {
	config, err := pgxpool.ParseConfig(address) // its errors hide the password
	if err != nil {
		return nil, fmt.Errorf("store: the PostgreSQL address: %w", err)
	}
	if !strings.Contains(address, "sslmode=") && !isLocal(config.ConnConfig.Host) {
		separator := " sslmode=verify-full"
		if strings.Contains(address, "://") {
			separator = "?sslmode=verify-full"
			if strings.Contains(address, "?") {
				separator = "&sslmode=verify-full"
			}
		}
		if config, err = pgxpool.ParseConfig(address + separator); err != nil {
			return nil, fmt.Errorf("store: the PostgreSQL address: %w", err)
		}
	}
	if !strings.Contains(address, "pool_max_conns=") {
		config.MaxConns = poolSize
	}
	if config.ConnConfig.ConnectTimeout == 0 || config.ConnConfig.ConnectTimeout > connectTimeout {
		config.ConnConfig.ConnectTimeout = connectTimeout
	}
	for k, v := range map[string]string{
		"application_name":                    "sallyport-authority " + c.node,
		"default_transaction_isolation":       "serializable",
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
	c.pushState = `SELECT state FROM push_states WHERE user_name = $1 AND device = $2`
	c.eventID = `nextval('events_id_seq')`
	c.eventPos = `NULL` // finish gives it
	c.notify = notifyPostgreSQL
	c.sweepNotices = func(*tx, time.Time) error { return nil }
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

// isLocal says whether no network lies between.
func isLocal(host string) bool {
	if strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@") || host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

// migrate brings the schema up to date; of several nodes that start at once one
// does it, and the others wait.
func (s *pgStore) migrate(ctx context.Context) error {
	return s.transact(ctx, "BEGIN ISOLATION LEVEL READ COMMITTED", func(ctx context.Context, conn *pgx.Conn) (*guarded, error) {
		g := &guarded{ctx: ctx, q: &pgQuerier{ctx, conn}}
		if _, err := g.exec(`SELECT pg_advisory_xact_lock($1)`, int64(migrationLock)); err != nil {
			return g, err
		}
		if _, err := g.exec(schemaTable); err != nil {
			return g, err
		}
		return g, migrate(g, kindPostgreSQL, migrations)
	})
}

func (s *pgStore) Node() string { return s.node }
func (s *pgStore) Kind() string { return kindPostgreSQL }

func (s *pgStore) Update(ctx context.Context, fn func(Tx) error) error {
	var t *tx
	err := s.transact(ctx, "BEGIN ISOLATION LEVEL SERIALIZABLE", func(ctx context.Context, conn *pgx.Conn) (*guarded, error) {
		g := &guarded{ctx: ctx, q: &pgQuerier{ctx, conn}}
		t = &tx{core: s.core, q: g}
		err := fn(t)
		if err == nil && g.err == nil {
			err = t.finish()
		}
		return g, err
	})
	if err == nil && t.attached {
		s.live(s)
	}
	return err
}

func (s *pgStore) View(ctx context.Context, fn func(Tx) error) error {
	return s.transact(ctx, "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY", func(ctx context.Context, conn *pgx.Conn) (*guarded, error) {
		g := &guarded{ctx: ctx, q: &pgQuerier{ctx, conn}, readOnly: true}
		return g, fn(&tx{core: s.core, q: g})
	})
}

// finish gives the events their positions, in the order in which transactions
// commit: else a reader would pass by one that came to be seen after a later
// one. The lock is the last that a transaction takes.
func (t *tx) finish() error {
	if len(t.events) == 0 {
		return nil
	}
	if _, err := t.q.exec(`SELECT pg_advisory_xact_lock($1)`, int64(positionsLock)); err != nil {
		return err
	}
	var rows [][]any
	for _, id := range t.events {
		rows = append(rows, []any{id})
	}
	return t.q.many(nil, `UPDATE events SET pos = nextval('event_positions') WHERE id = $1`, rows)
}

// transact runs a transaction until it gets through without a conflict.
func (s *pgStore) transact(ctx context.Context, begin string, fn func(context.Context, *pgx.Conn) (*guarded, error)) error {
	bounded, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for attempt := 0; ; attempt++ {
		err := s.attempt(bounded, begin, fn)
		var again conflict
		if !errors.As(err, &again) {
			if err != nil && bounded.Err() != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				return fmt.Errorf("%w: %s did not answer within %v", ErrUnavailable, s.name, within)
			}
			return err
		}
		if err := pause(bounded, attempt); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("%w: %s: transactions conflicted for %v (%w)", ErrUnavailable, s.name, within, again)
		}
	}
}

// pause waits a little, and longer the more attempts there were, so that those
// who conflict come apart.
func pause(ctx context.Context, attempt int) error {
	var b [1]byte
	_, _ = rand.Read(b[:])
	d := time.Duration(min(attempt+1, 16)) * time.Duration(b[0]) * 4 * time.Microsecond // up to 16 ms
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// conflict: PostgreSQL gave the transaction up for another's sake.
type conflict struct{ error }

// attempt runs a transaction once.
func (s *pgStore) attempt(ctx context.Context, begin string, fn func(context.Context, *pgx.Conn) (*guarded, error)) error {
	c, err := s.begin(ctx, begin)
	if err != nil {
		return err
	}
	defer c.Release() // closes one that is left within a transaction
	conn := c.Conn()
	committed := false
	defer func() {
		if !committed && !conn.IsClosed() {
			_, _ = conn.Exec(ctx, "ROLLBACK")
		}
	}()
	g, err := fn(ctx, conn)
	first := g.err
	g.err = errEnded // a Tx that outlives its function
	if first != nil && (err == nil || errors.Is(err, first) || isConflict(first)) {
		return s.explain(ctx, first, conn.IsClosed())
	}
	if err != nil {
		return err
	}
	tag, err := conn.Exec(ctx, "COMMIT")
	if err != nil {
		return s.explain(ctx, err, conn.IsClosed())
	}
	committed = true
	if tag.String() != "COMMIT" {
		return fmt.Errorf("%w: %s: the transaction did not commit", ErrUnavailable, s.name)
	}
	return nil
}

// begin gets a connection. One that broke while it lay in the pool is replaced:
// nothing was done on it yet.
func (s *pgStore) begin(ctx context.Context, begin string) (*pgxpool.Conn, error) {
	for attempt := 0; ; attempt++ {
		c, err := s.pool.Acquire(ctx)
		if err != nil {
			return nil, s.explain(ctx, err, true)
		}
		if _, err = c.Exec(ctx, begin); err == nil {
			return c, nil
		}
		broken := c.Conn().IsClosed()
		c.Release()
		if !broken || attempt > 0 || ctx.Err() != nil {
			return nil, s.explain(ctx, err, broken)
		}
		s.pool.Reset()
	}
}

func isConflict(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && (e.Code == "40001" || e.Code == "40P01")
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
	_, err := t.q.exec(`SELECT pg_notify($1, $2)`, to, text(n))
	return err
}

func (s *pgStore) Listen(ctx context.Context) <-chan Notice {
	s.live(s)
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

// pgQuerier is one connection within a transaction.
type pgQuerier struct {
	ctx  context.Context
	conn *pgx.Conn
}

func (q *pgQuerier) exec(sql string, args ...any) (int64, error) {
	tag, err := q.conn.Exec(q.ctx, sql, args...)
	return tag.RowsAffected(), err
}

func (q *pgQuerier) query(row func(scanner) error, sql string, args ...any) error {
	rows, err := q.conn.Query(q.ctx, sql, args...)
	if err != nil {
		return err
	}
	return each(rows, row)
}

func each(rows pgx.Rows, row func(scanner) error) error {
	defer rows.Close()
	for rows.Next() {
		if err := row(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// many sends all at once and waits for the answers.
func (q *pgQuerier) many(row func(scanner) error, sql string, args [][]any) (err error) {
	batch := new(pgx.Batch)
	for _, a := range args {
		batch.Queue(sql, a...)
	}
	results := q.conn.SendBatch(q.ctx, batch)
	defer func() {
		if cerr := results.Close(); err == nil {
			err = cerr
		}
	}()
	for range args {
		if row == nil {
			if _, err := results.Exec(); err != nil {
				return err
			}
			continue
		}
		rows, err := results.Query()
		if err != nil {
			return err
		}
		if err := each(rows, row); err != nil {
			return err
		}
	}
	return nil
}
