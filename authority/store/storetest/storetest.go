//go:build linux

package storetest

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"sallyport/authority/store"
)

// patience is how long anything here may take before the test fails.
const patience = 60 * time.Second

// Each runs a test on SQLite and on PostgreSQL, each time on an empty database.
// open opens it as the node of that name, in the test's log; the stores are
// closed when the test ends.
func Each(t *testing.T, test func(t *testing.T, open func(node string) store.Store)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "authority.db")
		test(t, func(node string) store.Store { return Open(t, store.Options{SQLite: path, Node: node}) })
	})
	t.Run("postgresql", func(t *testing.T) {
		url := Database(t)
		test(t, func(node string) store.Store { return Open(t, store.Options{PostgreSQL: url, Node: node}) })
	})
}

// Open opens a database for a test, with the test's log if the options have none.
func Open(t testing.TB, o store.Options) store.Store {
	t.Helper()
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	s, err := store.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("closing the store: %v", err)
		}
	})
	return s
}

var (
	shared      = sync.OnceValues(func() (*Server, error) { return start(false) })
	sharedCount atomic.Int64
)

// Database makes an empty database on the server that the tests of this binary
// share, and returns its URL. The server does not flush to disk: for tests that
// stop it or measure it there is PostgreSQL.
func Database(t testing.TB) string {
	t.Helper()
	s, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return s.database(t, fmt.Sprintf("test%d", sharedCount.Add(1)))
}

// PostgreSQL starts a server of the test's own, set up as in production, with
// an empty database. It is gone when the test ends.
func PostgreSQL(t testing.TB) *Server {
	t.Helper()
	s, err := start(true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.end)
	s.database(t, "authority")
	return s
}

func (s *Server) database(t testing.TB, name string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.url("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+name+" TEMPLATE template0"); err != nil {
		t.Fatal(err)
	}
	return s.url(name)
}

// URL is that of the server's empty database.
func (s *Server) URL() string { return s.url("authority") }

func (s *Server) url(database string) string {
	return "postgres://sallyport@/" + database + "?host=" + s.dir
}

// Start starts the server again after Kill.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
}

// tail is the end of the server's log.
func (s *Server) tail() string {
	b, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	if len(b) > 2000 {
		b = b[len(b)-2000:]
	}
	return strings.TrimSpace(string(b))
}
