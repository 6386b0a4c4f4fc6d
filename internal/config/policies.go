package config

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"time"

	"sallyport/internal/tomlfile"
	"sallyport/internal/vault/statefile"
	"sallyport/internal/winreg"
)

// Policies are the managed settings as they were at one moment: on Windows in the
// registry, on macOS in the file of managed preferences. No system has both.
//
// What writes them takes them away first: Group Policy when one of them changed, and
// whenever somebody asks it to apply them all, as every user may; MDM and scripts as
// they like. An agent that took what is there in between would ask nobody. So it
// never takes policies that it did not see unchanged for a while, or while Group
// Policy writes; until then it goes by those that it knows.
type Policies struct {
	Local       *winreg.Key // at ProviderKey
	Managed     *winreg.Key // at PoliciesKey
	Preferences []byte      // at PreferencesPath
}

const (
	// settle is for how long policies stay as they are before they count.
	settle = 2 * time.Second
	// vanished is for how long the managed preferences are away before that counts: who
	// takes a file away and puts another one there leaves nothing half written, and a
	// Mac that starts may be slow about it.
	vanished = 30 * time.Second
	// patience is how long whoever has somebody waiting waits for policies.
	patience = 5 * time.Second
)

// readPolicies looks once, while Group Policy does not write.
func readPolicies(ctx context.Context) (*Policies, error) {
	type look struct {
		p   Policies
		err error
	}
	got, busy := winreg.Undisturbed(ctx, func() look {
		local, err := readKey(ProviderKey)
		managed, err2 := readKey(PoliciesKey)
		preferences, err3 := readPreferences(preferencesPath)
		return look{Policies{local, managed, preferences}, cmp.Or(err, err2, err3)}
	})
	if err := cmp.Or(busy, got.err); err != nil {
		return nil, err
	}
	return &got.p, nil
}

// Settled returns the policies, once they have not changed for a while, or at once
// when they are those that are known. It waits until ctx ends. What cannot be read
// may be half written, so that has to last as well.
func Settled(ctx context.Context, known *Policies) (*Policies, error) {
	now, err := readPolicies(ctx)
	for same := time.Duration(0); !errors.Is(err, winreg.ErrBusy) && !now.Same(known) && same < enough(known, now); {
		before, failed := now, err
		select {
		case <-time.After(settle):
		case <-ctx.Done():
			return nil, winreg.ErrBusy
		}
		now, err = readPolicies(ctx)
		if same += settle; !now.Same(before) && (err == nil || failed == nil) {
			same = 0
		}
	}
	return now, err
}

// enough is for how long what is there has to be there before it counts.
func enough(known, now *Policies) time.Duration {
	if known != nil && known.Preferences != nil && now != nil && now.Preferences == nil {
		return vanished
	}
	return settle
}

// Same says whether both are known and say the same.
func (p *Policies) Same(other *Policies) bool {
	return p != nil && other != nil && bytes.Equal(p.text(), other.text())
}

// text is what is kept of the policies.
func (p *Policies) text() []byte {
	b, err := json.Marshal(p)
	if err != nil {
		panic("config: policies cannot be written as JSON: " + err.Error()) // strings, numbers and bytes
	}
	return b
}

// policyFile is where the policies in force are kept for the next start.
func policyFile(stateDir string) string { return filepath.Join(stateDir, "policies.json") }

// kept are the policies that were last in force; nil when they are not known.
func kept(stateDir string) *Policies {
	text, err := tomlfile.ReadOwned(policyFile(stateDir))
	p := &Policies{}
	if err != nil || json.Unmarshal(text, p) != nil {
		return nil
	}
	return p
}

// KeepPolicies keeps those in force, for a start at a moment at which they cannot be
// read. "None" is kept as well.
func (l *Loaded) KeepPolicies() error {
	if system == Linux {
		return nil // where there are none
	}
	return l.policies.keep(l.Config.StateDir)
}

func (p *Policies) keep(stateDir string) error {
	if p == nil || p.Same(kept(stateDir)) {
		return nil
	}
	return statefile.Write(policyFile(stateDir), p.text())
}

// atStart finds the policies of an agent that starts: those that are there; those
// it knew last while others are being written, or cannot be read. (Then the watch,
// which looks as soon as the agent runs, says so.)
func atStart(stateDir string) (*Policies, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	last := kept(stateDir)
	if last == nil {
		return readPolicies(ctx)
	}
	now, err := Settled(ctx, last)
	if err != nil {
		return last, nil
	}
	return now, nil
}

// once finds them for a command.
func once(string) (*Policies, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return readPolicies(ctx)
}
