// Package server is the running authority: it opens what the configuration names,
// wires the parts, serves the computers, the phones and monitoring, and ends in
// order. The commands open the same database by Open.
package server

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"sallyport/authority/config"
	"sallyport/authority/enrol"
	"sallyport/authority/push"
	"sallyport/authority/store"
	"sallyport/authority/webpush"
	"sallyport/internal/organisation"
)

// Authority is what a configuration names, opened.
type Authority struct {
	Config config.Config
	Keys   *enrol.Keys
	Store  store.Store
	Enrol  *enrol.Service
	now    func() time.Time
	log    *slog.Logger
}

// Settings are what the organisation key signs of a configuration.
func Settings(c *config.Config) organisation.Settings {
	return organisation.Settings{Name: c.Organisation, RPID: c.Web.RPID, Origin: c.Web.Origin, API: c.Web.API}
}

// Open opens keys and database for a program of that version. A command that opens them beside a running server
// changes the database, and the store tells the server.
func Open(ctx context.Context, c config.Config, version string, log *slog.Logger) (*Authority, error) {
	return open(ctx, c, version, log, time.Now, nil)
}

func open(ctx context.Context, c config.Config, version string, log *slog.Logger, now func() time.Time, meter func(store.Store) store.Store) (*Authority, error) {
	keys, err := enrol.LoadKeys(c.KeyDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the keys are not in %s (%w): make them with 'sallyport-authority init', or put back the backup", c.KeyDir(), err)
	}
	if err != nil {
		return nil, err
	}
	url, err := c.DatabaseURL()
	if err != nil {
		return nil, err
	}
	o := store.Options{PostgreSQL: url, Node: c.Name, Log: log, Now: now}
	if url == "" {
		o.SQLite = c.Database()
		// Made by init, and by nothing else: an empty one would mean that nobody is
		// enrolled, and every device would be refused.
		if _, err := os.Stat(o.SQLite); err != nil {
			return nil, fmt.Errorf("there is no database at %s (%w): make it with 'sallyport-authority init', or put back the backup", o.SQLite, err)
		}
	}
	s, err := store.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	if meter != nil {
		s = meter(s)
	}
	return &Authority{Config: c, Keys: keys, Store: s, now: now, log: log,
		Enrol: enrol.New(enrol.Options{Store: s, Keys: keys, Settings: Settings(&c), Version: version, Now: now, Log: log})}, nil
}

// Close closes the database.
func (a *Authority) Close() error { return a.Store.Close() }

// Push returns the part that limits and relays.
func (a *Authority) Push(ringer push.Ringer) *push.Service {
	return push.New(push.Options{Store: a.Store, Limits: a.Config.Limits.Push(), Life: time.Duration(a.Config.Limits.Life), Ringer: ringer, Now: a.now, Log: a.log})
}

// WebPushKey reads the key that push services know the authority by.
func WebPushKey(c *config.Config) (*ecdsa.PrivateKey, error) {
	st, err := os.Stat(c.WebPushKey())
	if err != nil {
		return nil, err
	}
	if st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others (mode %#o): chmod 600 it", c.WebPushKey(), st.Mode().Perm())
	}
	text, err := os.ReadFile(c.WebPushKey())
	if err != nil {
		return nil, err
	}
	key, err := webpush.ParseKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.WebPushKey(), err)
	}
	return key, nil
}

// WebPush returns the sender of messages to phones.
func WebPush(c *config.Config, log *slog.Logger) (*webpush.Sender, error) {
	key, err := WebPushKey(c)
	if err != nil {
		return nil, err
	}
	return webpush.New(webpush.Options{Key: key, Subject: c.PushServices.Contact, Hosts: c.PushServices.Hosts, UnsafeLocal: c.PushServices.UnsafeLocal, Log: log})
}

// Init makes what a configuration names: the state directory, the keys and the
// database, with the settings signed. It replaces nothing. With keyFile the
// private half of the organisation key is moved there.
func Init(ctx context.Context, c config.Config, keyFile string) (err error) {
	if err := os.MkdirAll(c.StateDir, 0o700); err != nil {
		return err
	}
	if _, err := os.Lstat(c.Database()); c.DatabaseURLFile == "" && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is there already: an authority is never made over another", c.Database())
	}
	if keyFile != "" {
		if _, err := os.Lstat(keyFile); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s is there already: the organisation key never replaces another", keyFile)
		}
	}
	if err := enrol.CreateKeys(c.KeyDir()); err != nil {
		return err
	}
	// What was made here goes again when the rest fails: a half-made authority is
	// neither usable nor replaceable.
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(c.KeyDir()))
		}
	}()
	key, err := webpush.NewKey()
	if err != nil {
		return err
	}
	if err := WriteNew(c.WebPushKey(), key, 0o600); err != nil {
		return err
	}
	keys, err := enrol.LoadKeys(c.KeyDir())
	if err != nil {
		return err
	}
	url, err := c.DatabaseURL()
	if err != nil {
		return err
	}
	o := store.Options{PostgreSQL: url, Node: c.Name}
	if url == "" {
		o.SQLite = c.Database()
	}
	s, err := store.Open(ctx, o)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, s.Close())
		if err != nil && o.SQLite != "" {
			for _, suffix := range []string{"", "-wal", "-shm"} {
				_ = os.Remove(o.SQLite + suffix) // it was made above
			}
		}
	}()
	if err := s.View(ctx, func(tx store.Tx) error {
		_, err := tx.Item(organisation.KindSettings, "", "")
		return err
	}); err == nil {
		return errors.New("the database holds an authority already: another node takes its keys and configuration from the first, and needs no init")
	} else if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if _, err := enrol.New(enrol.Options{Store: s, Keys: keys, Settings: Settings(&c)}).EnsureSettings(ctx); err != nil {
		return err
	}
	if keyFile == "" {
		return nil
	}
	return moveKey(filepath.Join(c.KeyDir(), "organisation.key"), keyFile)
}

// moveKey moves a key, also to another file system. It is whole on disk at the
// new place before it ends at the old one.
func moveKey(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := WriteNew(to, text, 0o600); err != nil {
		return err
	}
	return os.Remove(from)
}

// WriteNew writes a file that must not be there, and has it on disk.
func WriteNew(path string, content []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
