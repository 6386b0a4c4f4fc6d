package config

import (
	"context"
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/internal/policy"
	"sallyport/internal/winreg"
)

// A registry at moments of a refresh: the values are deleted, and written anew.
func required() *winreg.Key {
	return key(sub("Policy", sz("ask", "required"), sub("Required", multi("groups", "staff"))), sub("Push", dword("enabled", 0)))
}
func halfDeleted() *winreg.Key { return key(sub("Policy", sub("Required", multi("groups", "staff")))) }
func stricter() *winreg.Key {
	return key(sub("Policy", sz("ask", "required"), sub("Required", multi("groups", "staff", "guests"))))
}

// at is what is there from a moment on.
type at struct {
	after time.Duration
	k     *winreg.Key
}

// playRegistry has the registry change as time goes by.
func playRegistry(t *testing.T, moments ...at) {
	t.Helper()
	was, began := readKey, time.Now()
	t.Cleanup(func() { readKey = was })
	readKey = func(path string) (k *winreg.Key, err error) {
		for _, m := range moments {
			if path == PoliciesKey && time.Since(began) >= m.after {
				k = m.k
			}
		}
		return k, nil
	}
}

func policies(k *winreg.Key) *Policies { return &Policies{Managed: k} }

func TestPoliciesAreTakenOnceTheyHaveSettled(t *testing.T) {
	for name, c := range map[string]struct {
		known   *Policies
		moments []at
		want    *winreg.Key
		within  time.Duration
	}{
		"nothing has changed": {policies(required()), []at{{0, required()}}, required(), 0},
		"a refresh that changes nothing": {policies(required()),
			[]at{{0, nil}, {time.Second / 2, halfDeleted()}, {time.Second, required()}}, required(), settle},
		"a refresh in steps slower than that": {policies(required()),
			[]at{{0, nil}, {3 * time.Second / 2, halfDeleted()}, {3 * time.Second, required()}}, required(), 2 * settle},
		"another policy": {policies(required()),
			[]at{{0, nil}, {time.Second, halfDeleted()}, {3 * time.Second, stricter()}}, stricter(), 3 * settle},
		"the policies are taken back":    {policies(required()), []at{{0, nil}}, nil, settle},
		"the first policies":             {policies(nil), []at{{0, required()}}, required(), settle},
		"nothing was known":              {nil, []at{{0, required()}}, required(), settle},
		"nothing was known, and changes": {nil, []at{{0, nil}, {time.Second, required()}}, required(), 2 * settle},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				playRegistry(t, c.moments...)
				began := time.Now()
				got, err := Settled(t.Context(), c.known)
				if err != nil || !got.Same(policies(c.want)) || time.Since(began) != c.within {
					t.Errorf("%+v, %v, after %s", got, err, time.Since(began))
				}
			})
		})
	}
}

func TestPoliciesThatNeverSettleAreNotTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n uint32
		was := readKey
		t.Cleanup(func() { readKey = was })
		readKey = func(string) (*winreg.Key, error) { n++; return key(dword("events", n)), nil }
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute+settle/2) // in between two looks
		defer cancel()
		if got, err := Settled(ctx, policies(required())); got != nil || !errors.Is(err, winreg.ErrBusy) {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

// TestAStartAmidARefresh goes by what was in force when the agent last ran.
func TestAStartAmidARefresh(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if got := kept(dir); got != nil {
		t.Fatalf("before any were kept: %+v", got)
	}
	for _, p := range []*Policies{policies(nil), policies(required()), {Local: everyPolicy(), Managed: everyPolicy(), Preferences: []byte{1}}} {
		for range 2 {
			if err := p.keep(dir); err != nil {
				t.Fatal(err)
			}
			if got := kept(dir); !got.Same(p) {
				t.Errorf("%+v is kept as %+v", p, got)
			}
		}
	}
	if err := policies(required()).keep(dir); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		moments []at
		want    *winreg.Key
	}{
		"nothing changes":              {[]at{{0, required()}}, required()},
		"deleted, and written anew":    {[]at{{0, nil}, {time.Second, required()}}, required()},
		"changed while it did not run": {[]at{{0, stricter()}}, stricter()},
		"taken back while it did not":  {[]at{{0, nil}}, nil},
		"being written all the time":   {[]at{{0, nil}, {time.Second, halfDeleted()}, {3 * time.Second, nil}, {5 * time.Second, halfDeleted()}}, required()},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				playRegistry(t, c.moments...)
				if got, err := atStart(dir); err != nil || !got.Same(policies(c.want)) {
					t.Errorf("%+v, %v", got, err)
				}
			})
		})
	}
	// What cannot be read was not kept.
	put(t, dir, "policies.json", "{")
	if got := kept(dir); got != nil {
		t.Errorf("%+v", got)
	}
}

// TestFilesAreReadWithThePoliciesThatAreKnown: whoever logs in amid a refresh, just
// after a file was written, must not find the registry half deleted.
func TestFilesAreReadWithThePoliciesThatAreKnown(t *testing.T) {
	dir := t.TempDir()
	path := put(t, dir, "sallyport.toml", "# nothing\n")
	fakeRegistry(t, map[string]*winreg.Key{PoliciesKey: required()})
	l, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	fakeRegistry(t, nil)
	if l.Changed(path) {
		t.Error("a login sees the registry")
	}
	put(t, dir, "sallyport.toml", "events = 500\n")
	if !l.Changed(path) {
		t.Error("nothing has changed")
	}
	if l, err = l.Reload(path, nil); err != nil || l.Config.Policy.Ask != policy.AskRequired || l.Config.Events != 500 {
		t.Fatalf("%+v, %v", l, err)
	}
	// Those that are refused are the ones that a changed file is read with, too.
	bad := policies(key(sub("Policy", sz("ask", "sometimes"))))
	for _, p := range []*Policies{bad, nil} {
		if fresh, err := l.Reload(path, p); err == nil {
			t.Errorf("%+v", fresh)
		}
		if !l.Policies().Same(bad) {
			t.Errorf("%+v", l.Policies())
		}
	}
	if fresh, err := l.Reload(path, policies(stricter())); err != nil || len(fresh.Config.Policy.Required.Groups) != 2 {
		t.Errorf("%+v, %v", fresh, err)
	}
}

// TestAFileThatIsWrittenWhileItIsRead is looked at again.
func TestAFileThatIsWrittenWhileItIsRead(t *testing.T) {
	dir := t.TempDir()
	path := put(t, dir, "sallyport.toml", "events = 500\n")
	l, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	put(t, dir, "sallyport.toml", "event = 500\n")
	was := readKey
	t.Cleanup(func() { readKey = was })
	l.policies = nil // so that the registry is read
	put(t, dir, "sallyport.toml", "[policy]\nask = \"required\"\n")
	readKey = func(string) (*winreg.Key, error) {
		put(t, dir, "sallyport.toml", "events = 600\n")
		return nil, errors.New("not now")
	}
	if fresh, err := l.Reload(path, nil); err == nil {
		t.Fatalf("%+v", fresh)
	}
	if !l.Changed(path) {
		t.Error("what was written after the look is never taken")
	}
}
