//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// postgres is a PostgreSQL server of our own, with the package's settings: it
// flushes each commit.
type postgres struct {
	*process
	url     string
	version string
}

// postgresBin is where the newest server of the system is.
func postgresBin() (string, error) {
	// Debian's place, then Fedora's.
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		return "", err
	}
	slices.Sort(found)
	if len(found) == 0 {
		path, err := exec.LookPath("initdb")
		if err != nil {
			return "", errors.New("there is no PostgreSQL server: run ./build.sh deps")
		}
		found = append(found, path)
	}
	return filepath.Dir(found[len(found)-1]), nil
}

// unprivileged is who PostgreSQL runs as: it refuses to be root.
func unprivileged() (*syscall.Credential, error) {
	u, err := user.Lookup("postgres")
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			return nil, err
		}
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.Atoi(u.Gid)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, err
}

// startPostgres makes a database below dir and starts it, reached by a socket.
func startPostgres(ctx context.Context, dir string) (*postgres, error) {
	bin, err := postgresBin()
	if err != nil {
		return nil, err
	}
	as, err := unprivileged()
	if err != nil {
		return nil, err
	}
	if err := errors.Join(os.Mkdir(dir, 0o700), os.Chown(dir, int(as.Uid), int(as.Gid))); err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "data")
	initdb := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "-D", data, "-U", "sallyport", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8")
	initdb.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	initdb.Dir = "/"
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w: %s", err, out)
	}
	p := &postgres{url: "postgres://sallyport@/postgres?host=" + dir}
	p.process, err = startProcess("postgres", filepath.Join(filepath.Dir(dir), "postgres.log"), as,
		filepath.Join(bin, "postgres"), "-D", data, "-k", dir, "-c", "listen_addresses=")
	if err != nil {
		return nil, err
	}
	err = p.ready(func() bool { return p.row(ctx, "SHOW server_version", &p.version) == nil })
	if err != nil {
		return nil, errors.Join(err, p.stop(syscall.SIGQUIT))
	}
	return p, nil
}

// row runs a query that has one row.
func (p *postgres) row(ctx context.Context, query string, to ...any) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	c, err := pgx.Connect(ctx, p.url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close(ctx)) }()
	return c.QueryRow(ctx, query).Scan(to...)
}

// work is what the database has done so far.
type work struct {
	transactions, wal, size int64 // count, bytes, bytes
}

func (w work) minus(o work) work {
	return work{w.transactions - o.transactions, w.wal - o.wal, w.size - o.size}
}

func (p *postgres) work(ctx context.Context) (w work, err error) {
	err = p.row(ctx, `SELECT xact_commit, pg_current_wal_insert_lsn() - '0/0'::pg_lsn, pg_database_size(current_database())
		FROM pg_stat_database WHERE datname = current_database()`, &w.transactions, &w.wal, &w.size)
	return w, err
}

// settledWork is work, once the server's processes have reported theirs: they do
// so within a second after they became idle.
func (p *postgres) settledWork(ctx context.Context) (work, error) {
	select {
	case <-time.After(1100 * time.Millisecond):
		return p.work(ctx)
	case <-ctx.Done():
		return work{}, context.Cause(ctx)
	}
}
