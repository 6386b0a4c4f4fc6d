package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"sallyport/internal/factor/push"
)

// fresh is a new database, and another connection to it.
func fresh(t *testing.T) (*sqliteStore, *sqliteConn) {
	t.Helper()
	s, err := Open(t.Context(), Options{SQLite: filepath.Join(t.TempDir(), "authority.db"), Node: "a"})
	if err != nil {
		t.Fatal(err)
	}
	lite := s.(*sqliteStore)
	c, err := newSQLiteConn(t.Context(), lite.db, `PRAGMA busy_timeout = 0`)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(c.close(), s.Close()); err != nil {
			t.Error(err)
		}
	})
	return lite, c
}

// TestCommitsReachTheDisk: what SQLite is told about the log and fsync.
func TestCommitsReachTheDisk(t *testing.T) {
	_, c := fresh(t)
	for pragma, wanted := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1"} {
		var got string
		if err := c.query(func(r scanner) error { return r.Scan(&got) }, `PRAGMA `+pragma); err != nil || got != wanted {
			t.Errorf("%s is %q, want %q (%v)", pragma, got, wanted, err)
		}
	}
}

// planned notes each statement that a transaction runs.
type planned struct {
	querier
	statements []string
}

func (p *planned) exec(sql string, args ...any) (int64, error) {
	p.statements = append(p.statements, sql)
	return p.querier.exec(sql, args...)
}

func (p *planned) later(sql string, args ...any) error {
	p.statements = append(p.statements, sql)
	return p.querier.later(sql, args...)
}

func (p *planned) query(row func(scanner) error, sql string, args ...any) error {
	p.statements = append(p.statements, sql)
	return p.querier.query(row, sql, args...)
}

// TestWhatIsQueriedIsIndexed: no call that a device or a phone can cause reads a
// whole table.
func TestWhatIsQueriedIsIndexed(t *testing.T) {
	s, c := fresh(t)
	p := &planned{querier: c}
	x := &tx{core: s.core, q: p}
	if err := c.begin(); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	x.beating.Store(true)
	for i, err := range []error{
		x.PutSetting("k", nil), second(x.Setting("k")),
		x.CreateToken(Token{Hash: []byte{1}, Expires: now.Add(time.Hour)}), second(x.UseToken([]byte{1}, "d", now)),
		x.PutDevice(Device{ID: "d", Users: []string{"u"}}), second(x.Device("d")), second(x.Devices("u")),
		x.PutDevice(Device{ID: "e", Users: []string{"*"}}),
		x.CreateUser(User{Name: "u"}), second(x.User("u")),
		x.PutApprover(Approver{ID: "a", User: "u", Approver: push.Approver{CredentialID: []byte{1}}}), second(x.Approver("a")), second(x.Approvers("u")),
		x.PutSession(Session{Hash: []byte{1}, Approver: "a"}), second(x.Session([]byte{1})), second(x.Sessions("a")),
		x.CreateChallenge(Challenge{ID: "c", User: "u", Device: "d", Expires: now.Add(time.Hour)}), second(x.Challenge("c")),
		second(x.OpenChallenges("u", now)), second(x.LastChallenges("u", 3, now)), x.Answer("c", push.Answer{}, now), second(x.Undelivered("d", now)), x.EndChallenge("c", "code", now),
		second(x.PushState("u", "d")), x.PutPushState("u", "d", push.State{}),
		x.CreateEnrolment(Enrolment{ID: "e", Device: "d", Expires: now.Add(time.Hour)}), x.PostKey("e", push.Registration{}, nil, nil, now), second(x.OpenEnrolments("d", now)), x.EndEnrolment("e", true, ""),
		x.PutItem(Item{Kind: "k", Version: 1}), second(x.Items("d")), second(x.Item("k", "", "")), x.ItemRefused("k", "", "", 1, ""),
		second(x.AddEvents([]Event{{Device: "d", Seq: 1}})),
		second(x.Attach("d", now)), second(x.StreamNode("d", now)), second(x.StreamsHere()), second(x.DevicesNamed("d")), second(x.DevicesNaming("u")), x.Notify(Notice{Device: "d"}), x.Detach("d", now), x.beat(), x.ping(),
		x.RemoveSession([]byte{1}), x.RemoveApprover("a"), x.RemoveUser("u"), x.Sweep(now),
	} {
		if err != nil {
			t.Errorf("call %d: %v", i, err)
		}
	}
	for _, after := range []uint64{0, 1} {
		for _, device := range []string{"", "d"} {
			for _, user := range []string{"", "u"} {
				if _, _, err := x.Events(after, device, user, 10); err != nil {
					t.Error(err)
				}
			}
		}
	}
	if _, err := c.exec(`ROLLBACK`); err != nil {
		t.Fatal(err)
	}
	scans := []string{
		// A handful of rows: one a node.
		"DELETE FROM nodes WHERE seen", "DELETE FROM nodes WHERE run",
		// At most every node's, and only its index.
		"DELETE FROM streams WHERE run IN",
	}
	uses := map[string]string{"answered <> 0 ORDER BY": "challenges_device", "answered = 0 AND ended = 0 ORDER BY": "challenges_user",
		"(ended <> 0 OR expires": "challenges_user", "registration IS NOT NULL": "enrolments_device", "FROM approvers WHERE user_name": "approvers_user"}
	slices.Sort(p.statements)
	for _, sql := range slices.Compact(p.statements) {
		if slices.ContainsFunc(scans, func(s string) bool { return strings.HasPrefix(sql, s) }) {
			continue
		}
		var args []any
		for i := range 20 {
			if strings.Contains(sql, fmt.Sprintf("$%d", i+1)) {
				args = append(args, nil)
			}
		}
		err := c.query(func(r scanner) error {
			var a, b, x any
			var detail string
			err := r.Scan(&a, &b, &x, &detail)
			if strings.HasPrefix(detail, "SCAN ") && detail != "SCAN n" && !strings.Contains(detail, "CONSTANT ROW") {
				t.Errorf("%s\n\t%s", sql, detail)
			}
			for part, index := range uses {
				if strings.Contains(sql, part) && strings.Contains(detail, index) {
					delete(uses, part)
				}
			}
			return err
		}, `EXPLAIN QUERY PLAN `+sql, args...)
		if err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
	if len(uses) > 0 {
		t.Errorf("not used: %v", uses)
	}
	if len(p.statements) < 60 {
		t.Errorf("%d statements", len(p.statements))
	}
}

func second[T any](_ T, err error) error { return err }

// TestANewerDatabaseIsRefused: an older program would not know what is in it.
func TestANewerDatabaseIsRefused(t *testing.T) {
	s, c := fresh(t)
	if _, err := c.exec(`INSERT INTO sallyport_schema (version) VALUES (99)`); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), Options{SQLite: s.path, Node: "b"})
	if !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), "version 99") || !strings.Contains(err.Error(), s.path) {
		t.Errorf("%v", err)
	}
}

func TestMigrationsAreMadeOnceAndWhole(t *testing.T) {
	_, c := fresh(t)
	files := fstest.MapFS{}
	list, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil || len(list) < 3 {
		t.Fatal(list, err)
	}
	for _, name := range list {
		text, err := migrations.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = &fstest.MapFile{Data: text}
	}
	n := len(list)
	name := func(i int, what string) string { return fmt.Sprintf("migrations/%04d_%s.sql", n+i, what) }
	run := func() error {
		if err := c.begin(); err != nil {
			return err
		}
		if err := migrate(c, kindSQLite, files); err != nil {
			return errors.Join(err, second(c.exec(`ROLLBACK`)))
		}
		return second(c.exec(`COMMIT`))
	}
	tables := func() (text string) {
		err := c.query(func(r scanner) error {
			var s string
			err := r.Scan(&s)
			text += s + " "
			return err
		}, `SELECT name FROM sqlite_schema WHERE name LIKE 'new_%' ORDER BY name`)
		if err != nil {
			t.Error(err)
		}
		return text
	}
	if err := run(); err != nil || tables() != "" {
		t.Errorf("nothing to do: %v %s", err, tables())
	}
	files[name(1, "one")] = &fstest.MapFile{Data: []byte("CREATE TABLE new_one (x BYTEA);\n-- two\nCREATE TABLE new_two (\n  x TEXT NOT NULL\n);\n")}
	files[name(2, "three.postgresql")] = &fstest.MapFile{Data: []byte("CREATE TABLE new_three (x BYTEA);\n")}
	files[name(3, "broken")] = &fstest.MapFile{Data: []byte("CREATE TABLE new_four (x BYTEA);\nCREATE TABLE new_four (x BYTEA);\n")}
	if err := run(); err == nil || !strings.Contains(err.Error(), "broken") || tables() != "" {
		t.Errorf("a broken one: %v %s", err, tables())
	}
	delete(files, name(3, "broken"))
	for range 2 {
		if err := run(); err != nil || tables() != "new_one new_two " {
			t.Errorf("%v %s", err, tables())
		}
	}
	files[name(5, "gap")] = &fstest.MapFile{Data: []byte("CREATE TABLE new_five (x BYTEA);\n")}
	if err := run(); err == nil || !strings.Contains(err.Error(), "gap") {
		t.Errorf("a gap in the numbers: %v", err)
	}
}

// TestNodesThatStartAtOnce make one database.
func TestNodesThatStartAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "authority.db")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			s, err := Open(t.Context(), Options{SQLite: path, Node: fmt.Sprint(i)})
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = s.Close() }()
			if err := s.Update(t.Context(), func(x Tx) error { return x.CreateUser(User{Name: fmt.Sprint(i)}) }); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	s, err := Open(t.Context(), Options{SQLite: path, Node: "a"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	err = s.View(t.Context(), func(x Tx) error {
		if l, err := x.Users(); err != nil || len(l) != 8 {
			t.Errorf("%v %v", l, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if l, err := os.ReadDir(filepath.Dir(path)); err != nil || len(l) != 3 {
		t.Errorf("%v %v", l, err)
	}
}

// TestListsAreBounded: one that is too long is an error, not half a list.
func TestListsAreBounded(t *testing.T) {
	s, c := fresh(t)
	if s.maxList != MaxList {
		t.Errorf("a list ends at %d", s.maxList)
	}
	s.maxList = 1000
	if _, err := c.exec(`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1) INSERT INTO users (name, created) SELECT i, 0 FROM n`, s.maxList+1); err != nil {
		t.Fatal(err)
	}
	if err := s.View(t.Context(), func(x Tx) error { return second(x.Users()) }); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "1000") {
		t.Errorf("%v", err)
	}
	if err := s.Update(t.Context(), func(x Tx) error { return x.PutDevice(Device{ID: "d", Users: make([]string, MaxUsers+1)}) }); !errors.Is(err, ErrInvalid) {
		t.Errorf("%v", err)
	}
	if err := s.Update(t.Context(), func(x Tx) error { return x.CreateToken(Token{Hash: []byte{1}, Users: make([]string, MaxUsers+1)}) }); !errors.Is(err, ErrInvalid) {
		t.Errorf("%v", err)
	}
	if err := s.Update(t.Context(), func(x Tx) error {
		for i := range maxRecent + 1 {
			if err := x.CreateChallenge(Challenge{ID: fmt.Sprint(i), User: "u", Device: "d", Expires: time.Unix(100, 0)}); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	err := s.View(t.Context(), func(x Tx) error {
		list, err := x.OpenChallenges("u", time.Unix(1, 0))
		last, err2 := x.LastChallenges("u", 1<<30, time.Unix(1000, 0))
		if len(list) != maxRecent || len(last) != maxRecent {
			t.Errorf("%d open, %d last", len(list), len(last))
		}
		return errors.Join(err, err2)
	})
	if err != nil {
		t.Error(err)
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{
		{Node: "a"}, {SQLite: "x", PostgreSQL: "y", Node: "a"}, {SQLite: filepath.Join(t.TempDir(), "x")},
		{SQLite: filepath.Join(t.TempDir(), "x"), Node: strings.Repeat("n", 65)}, {SQLite: filepath.Join(t.TempDir(), "none", "x"), Node: "a"},
		{PostgreSQL: "postgres://x:%zz", Node: "a"},
	} {
		if s, err := Open(t.Context(), o); err == nil {
			_ = s.Close()
			t.Errorf("%+v opened", o)
		}
	}
}

// TestPasswordsAreInNoError: neither of an address that is malformed, nor of a
// server that is not there.
func TestPasswordsAreInNoError(t *testing.T) {
	const canary = "c4nary"
	for _, address := range []string{
		"postgres://maya:" + canary + "@127.0.0.1:1/db", "postgres://maya:" + canary + "@127.0.0.1:x/db", "host=127.0.0.1 port=1 user=maya password=" + canary,
		"host=127.0.0.1 port=x user=maya password=" + canary, "postgres://maya:" + canary + "@127.0.0.1:1/db?sslmode=nonsense", "host=/nonexistent password='" + canary,
		"postgres://maya@127.0.0.1:1/db?password=" + canary + "&sslrootcert=/nonexistent", "postgres://maya:" + canary + "@127.0.0.1:1/%zz",
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		s, err := Open(ctx, Options{PostgreSQL: address, Node: "a"})
		cancel()
		if err == nil {
			_ = s.Close()
			t.Fatalf("%s opened", address)
		}
		if strings.Contains(err.Error(), canary) {
			t.Errorf("%v", err)
		}
	}
}

// TestRemoteServersAreVerified unless the address says that they need not be.
func TestRemoteServersAreVerified(t *testing.T) {
	for address, verified := range map[string]bool{
		"postgres://db.example.com/x":                             true,
		"postgres://db.example.com/x?connect_timeout=3":           true,
		"postgres://db.example.com/x?sslmode=disable":             false,
		"host=db.example.com dbname=x":                            true,
		"host=db.example.com dbname=x sslmode=require":            false,
		"postgres://10.0.0.1/x":                                   true,
		"postgres:///x?host=/run/postgresql":                      false,
		"postgres://127.0.0.1/x":                                  false,
		"postgres://[::1]/x":                                      false,
		"postgres://localhost/x":                                  false,
		"postgres://localhost,db.example.com/x":                   true,
		"postgres://a:1,b:2/x":                                    true,
		"postgres://a:1,b:2/x?sslmode=disable":                    false,
		"postgres://maya:sslmode=disable@db.example.com/x":        true,
		"postgres://db.example.com/x?application_name=sslmode%3D": true,
	} {
		c, err := poolConfig(address, "a")
		if err != nil {
			t.Errorf("%s: %v", address, err)
			continue
		}
		got := c.ConnConfig.TLSConfig != nil && !c.ConnConfig.TLSConfig.InsecureSkipVerify
		for _, f := range c.ConnConfig.Fallbacks {
			if f.TLSConfig == nil || f.TLSConfig.InsecureSkipVerify {
				got = false
			}
		}
		if got != verified {
			t.Errorf("%s: verified %v, want %v", address, got, verified)
		}
	}
}
