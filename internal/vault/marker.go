package vault

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"sallyport/internal/vault/statefile"
)

// The marker is a third witness, outside the state directory: it remembers that
// the directory has a vault, so that a directory that was emptied or whose file
// system is not mounted is not taken for a first start.

// markerFile maps a state directory to the id of its vault.
type markerFile struct {
	Vaults map[string]string `json:"vaults"`
}

const markerLimit = 64 << 10

func (v *Vault) readMarker() (markerFile, error) {
	m := markerFile{Vaults: map[string]string{}}
	b, err := statefile.Read(v.opts.Marker, markerLimit, statefile.Guarded)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	if err != nil {
		return m, fmt.Errorf("cannot read the marker %s: %w", v.opts.Marker, err)
	}
	if m.Vaults == nil {
		m.Vaults = map[string]string{}
	}
	return m, nil
}

// denyIfMarked fails if the marker knows of a vault in our directory, or cannot
// say that there is none.
func (v *Vault) denyIfMarked() error {
	if v.opts.Marker == "" {
		return nil
	}
	m, err := v.readMarker()
	if err != nil {
		return fmt.Errorf("%s holds no vault, and whether there was one cannot be told: %w; repair the marker, or remove it if there never was a vault: %w", v.dir, err, ErrMissing)
	}
	if m.Vaults[v.dir] != "" {
		return fmt.Errorf("%s holds no vault, but %s remembers one there: the directory was emptied, or its file system is not mounted; mount it, or %s: %w", v.dir, v.opts.Marker, restoreAll, ErrMissing)
	}
	for dir := range m.Vaults {
		if v.opts.Implicit {
			return fmt.Errorf("%s holds no vault, but %s remembers one in %s, which no configuration names any more; restore the configuration, or run 'sallyport vault init' and enrol everyone again: %w", v.dir, v.opts.Marker, dir, ErrMissing)
		}
	}
	return nil
}

// writeMarker remembers the vault. Where that is not possible (the marker's
// directory may be read-only for the service) the vault works without.
func (v *Vault) writeMarker(id string) {
	if v.opts.Marker == "" {
		return
	}
	err := func() error {
		m, err := v.readMarker()
		if err != nil || m.Vaults[v.dir] == id {
			return err
		}
		m.Vaults[v.dir] = id
		b, err := json.Marshal(m)
		if err != nil {
			return err
		}
		if err := statefile.MkdirAll(filepath.Dir(v.opts.Marker)); err != nil {
			return err
		}
		return statefile.Write(v.opts.Marker, append(b, '\n'))
	}()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.markerError = ""
	if err != nil {
		v.markerError = err.Error()
		v.log.Warn("the marker outside the state directory cannot be written; a wholly emptied directory would look like a first start", "marker", v.opts.Marker, "error", err)
	}
}
