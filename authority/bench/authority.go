//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"sallyport/authority/config"
	"sallyport/authority/enrol"
	"sallyport/authority/server"
	"sallyport/authority/store"
	"sallyport/internal/clock"
	"sallyport/internal/factor/push"
	"sallyport/internal/organisation"
	"sallyport/internal/testkit/port"
)

// authority is one `sallyport-authority run` with a database of its own.
type authority struct {
	kind    string // of the database
	program string
	config  string
	loaded  *config.Loaded
	db      *postgres // nil: SQLite
	*process

	identity *identity
	phones   []*person
	devices  []*device
}

// newAuthority makes an authority below dir, which does not run yet. Nothing
// limits how often phones ring: the bench's people log in all the time.
func newAuthority(ctx context.Context, dist, dir string, db *postgres, pushService string) (*authority, error) {
	program, err := filepath.Abs(filepath.Join(dist, "sallyport-authority"))
	if err != nil {
		return nil, err
	}
	a := &authority{kind: "sqlite", program: program, config: filepath.Join(dir, "authority.toml"), db: db}
	var ports [3]int
	for i := range ports {
		if ports[i], err = port.Free(); err != nil {
			return nil, err
		}
	}
	database := ""
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	if db != nil {
		a.kind = "postgresql"
		file := filepath.Join(dir, "database.url")
		if err := os.WriteFile(file, []byte(db.url), 0o600); err != nil {
			return nil, err
		}
		database = fmt.Sprintf("database_url_file = %q\n", file)
	}
	text := fmt.Sprintf(`organisation = "Bench"
name = "bench"
state_dir = %q
%slisten_devices = "127.0.0.1:%d"
device_hosts = ["127.0.0.1"]
listen_web = "127.0.0.1:%d"
listen_metrics = "127.0.0.1:%d"
[web]
origin = "https://localhost:%[4]d"
[tls]
mode = "self-signed"
[limits]
concurrent = 0
per_service = 0
in_five_minutes = 0
in_an_hour = 0
misses = 0
per_second = 10000
[push_services]
unsafe_local = [%[6]q]
`, filepath.Join(dir, "state"), database, ports[0], ports[1], ports[2], pushService)
	if err := os.WriteFile(a.config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	if a.loaded, err = config.Load(a.config); err != nil {
		return nil, err
	}
	if a.identity, err = newIdentity(); err != nil {
		return nil, err
	}
	return a, server.Init(ctx, a.loaded.Config, "")
}

func (a *authority) rp() push.RelyingParty {
	return push.RelyingParty{ID: a.loaded.Config.Web.RPID, Origin: a.loaded.Config.Web.Origin}
}

// run starts the server and returns how long it took to be ready.
func (a *authority) run() (time.Duration, error) {
	began := time.Now()
	var err error
	a.process, err = startProcess("sallyport-authority", filepath.Join(filepath.Dir(a.config), "log"), nil, a.program, "run", "--config", a.config)
	if err != nil {
		return 0, err
	}
	err = a.ready(func() bool {
		resp, err := http.Get("http://" + a.loaded.Config.ListenMetrics + "/readyz")
		if err != nil {
			return false
		}
		return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
	})
	return time.Since(began), err
}

// halt stops the server, if it runs.
func (a *authority) halt() error {
	if a == nil || a.process == nil {
		return nil
	}
	err := a.stop(syscall.SIGTERM)
	a.process = nil
	return err
}

// command runs one of the program's commands.
func (a *authority) command(ctx context.Context, stdin string, args ...string) error {
	cmd := exec.CommandContext(ctx, a.program, append(args, "--config", a.config)...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("sallyport-authority %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// metric reads one number of the server's.
func (a *authority) metric(name string) (float64, error) {
	resp, err := http.Get("http://" + a.loaded.Config.ListenMetrics + "/metrics")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if value, found := strings.CutPrefix(lines.Text(), name+" "); found {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, errors.Join(fmt.Errorf("there is no metric %s", name), lines.Err())
}

// seed puts people with phones, and computers, into the database, so that there
// are as many. What can be had through the services is: computers join. The
// server must not run.
func (a *authority) seed(ctx context.Context, people, computers int) (err error) {
	open, err := server.Open(ctx, a.loaded.Config, "bench", slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, open.Close()) }()
	now := time.Now()
	err = open.Store.Update(ctx, func(tx store.Tx) error {
		for len(a.phones) < people {
			p := newPerson(fmt.Sprintf("bench%05d", len(a.phones)), a.rp())
			if err := tx.CreateUser(store.User{Name: p.user, Created: now}); err != nil {
				return err
			}
			approver, hash := store.Approver{ID: push.NewID(), Approver: p.Key.Approver("bench"), User: p.user, Created: now}, sha256.Sum256(p.Token)
			if err := errors.Join(tx.PutApprover(approver), tx.PutSession(store.Session{Hash: hash[:], Approver: approver.ID, Created: now, Seen: now})); err != nil {
				return err
			}
			a.phones = append(a.phones, p)
		}
		return nil
	})
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AddCert(open.Keys.CA)
	had := len(a.devices)
	a.devices = append(a.devices, make([]*device, computers-had)...)
	atOnce := 64 // they share SQLite's flushes; on PostgreSQL they would only get into each other's way
	if a.db != nil {
		atOnce = 4
	}
	return each(ctx, computers-had, atOnce, func(ctx context.Context, i int) error {
		i += had
		token, _, err := open.Enrol.CreateToken(ctx, "bench", enrol.TokenRequest{Users: []string{enrol.Everyone}})
		if err != nil {
			return err
		}
		joined, err := open.Enrol.Register(ctx, enrol.JoinRequest{Token: token.Secret[:], CSR: a.identity.csr, Name: fmt.Sprintf("bench%05d", i),
			SealingKey: make([]byte, 32), Version: "bench", Platform: "linux/amd64"})
		if err != nil {
			return err
		}
		own := tls.Certificate{Certificate: joined.Chain, PrivateKey: a.identity.key}
		d := &device{id: joined.Device, target: a.loaded.Config.ListenDevices, rp: a.rp(), clock: clock.System(), vaultID: push.NewID(),
			source: net.IPv4(127, 0, 1, byte(1+i%sources)), have: map[string]*have{}, tls: &tls.Config{MinVersion: tls.VersionTLS13,
				ServerName: "127.0.0.1", RootCAs: roots, Certificates: []tls.Certificate{own}}}
		a.devices[i] = d
		return d.keep(joined.Settings) // as join does
	})
}

// admit lets the agent join: it makes its user known, and returns a token.
func (a *authority) admit(ctx context.Context, user string) (token organisation.Token, err error) {
	open, err := server.Open(ctx, a.loaded.Config, "bench", slog.New(slog.DiscardHandler))
	if err != nil {
		return token, err
	}
	defer func() { err = errors.Join(err, open.Close()) }()
	if err := open.Enrol.AddUser(ctx, "bench", user); err != nil {
		return token, err
	}
	token, _, err = open.Enrol.CreateToken(ctx, "bench", enrol.TokenRequest{Users: []string{user}})
	return token, err
}
