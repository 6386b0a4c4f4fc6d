package authdb

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"sallyport/internal/tomlfile"
	"sallyport/internal/vault/statefile"
)

// memory is what is remembered between runs.
type memory struct {
	// Installed are the rights that an installation has put ours into. Only there the
	// agent repairs.
	Installed []string `json:"installed,omitempty"`
	// Rule is what Screensaver led to before it was pointed elsewhere.
	Rule string `json:"screensaver_rule,omitempty"`
	// Repaired is when the agent last put ours back.
	Repaired time.Time `json:"repaired,omitzero"`
}

func (r *Rights) dir() string             { return filepath.Join(r.StateDir, "authdb") }
func (r *Rights) file(name string) string { return filepath.Join(r.dir(), name) }

// Backup is where the definition of a right is kept that was there before the first
// installation. It is for people: an upgrade of macOS may have made another one since,
// and other products may have come, so that nothing puts it back by itself.
func (r *Rights) Backup(right string) string { return r.file(right + ".before.plist") }

const memoryFile = "rights.json"

// recall reads what is remembered. No file means that nothing is.
func (r *Rights) recall() (m memory, err error) {
	b, err := tomlfile.ReadOwned(r.file(memoryFile))
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	if err == nil && m.Rule != "" && m.Rule != ruleLoginWindow {
		err = errors.New("it holds a rule that no right led to")
	}
	if err != nil {
		return memory{}, fmt.Errorf("what is remembered of the rights: %w", err)
	}
	return m, nil
}

func (r *Rights) remember(m memory) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return r.save(r.file(memoryFile), append(b, '\n'))
}

// save writes a file whole or not at all, and to the disk.
func (r *Rights) save(path string, b []byte) error {
	if err := r.prepare(); err != nil {
		return err
	}
	return statefile.Write(path, b)
}

// prepare makes our directory, which nobody else may change.
func (r *Rights) prepare() error {
	if r.StateDir == "" {
		return errors.New("there is no state directory")
	}
	if err := os.MkdirAll(r.dir(), 0o700); err != nil {
		return err
	}
	for _, dir := range []string{r.StateDir, r.dir()} {
		if err := tomlfile.CheckDir(dir); err != nil {
			return err
		}
	}
	return nil
}
