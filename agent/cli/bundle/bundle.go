// Package bundle makes the archive that a helpdesk sends to whoever looks into a
// problem. It writes down in it what is there, what is not and why, and takes out
// whatever looks like a secret: the parts hold none by construction, and this is the
// second net below them.
package bundle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sallyport/internal/textout"
	"sallyport/internal/vault/statefile"
)

// MaxPart bounds a part. Of what is longer the end is kept: that is what happened last.
const MaxPart = 2 << 20

// Part is a file of the archive.
type Part struct {
	Name string // "log.txt"
	What string // for the manifest
	Text string
	// Missing says why there is nothing, or not everything.
	Missing string
	// Log says that strangers' text may be in it: short numbers, which may be codes, go too.
	Log bool

	removed int
}

// Bundle is an archive in the making.
type Bundle struct {
	Version, Host string
	Made          time.Time
	Names         *Names // that are not to be in it; nil: names stay
	Parts         []Part
}

// dir is the directory that everything in the archive is in.
const dir = "sallyport-support"

// Add takes a part up, without what looks like a secret.
func (b *Bundle) Add(p Part) {
	text, cut := tail(p.Text, MaxPart)
	if p.Text = text; cut > 0 {
		p.Missing = strings.TrimPrefix(p.Missing+"; ", "; ") + fmt.Sprintf("the first %d bytes were left out", cut)
	}
	p.Text, p.removed = Scrub(p.Text, p.Log)
	p.Missing, _ = Scrub(strings.ReplaceAll(p.Missing, "\n", "; "), p.Log)
	b.Parts = append(b.Parts, p)
}

// tail is the end of a text, in whole lines and at most so long, and how much was cut.
func tail(text string, most int) (string, int) {
	if len(text) <= most {
		return text, 0
	}
	_, end, _ := strings.Cut(text[len(text)-most:], "\n")
	return end, len(text) - len(end)
}

// Manifest says what is in the archive and what is not.
func (b *Bundle) Manifest() string {
	var m strings.Builder
	fmt.Fprintf(&m, `Sallyport support bundle
made %s on %s by sallyport %s

In it:
`, b.Made.UTC().Format(time.RFC3339), b.Host, b.Version)
	for _, p := range b.Parts {
		if p.Text == "" {
			continue
		}
		fmt.Fprintf(&m, "  %-14s %7d bytes  %s\n", p.Name, len(p.Text), p.What)
		if p.removed > 0 {
			fmt.Fprintf(&m, "  %-14s                %s that looked like a secret: now \"[removed]\"\n", "", textout.Plural(p.removed, "place", "places"))
		}
	}
	m.WriteString("\nWhat could not be had:\n")
	none := true
	for _, p := range b.Parts {
		if p.Missing != "" {
			none = false
			fmt.Fprintf(&m, "  %-14s %s\n", p.Name, p.Missing)
		}
	}
	if none {
		m.WriteString("  nothing is missing\n")
	}
	m.WriteString(`
Never in it:
  seeds, codes, recovery and bypass codes, keys, tokens, passwords; the vault and any
  other content of the state directory; configuration files as they are (only the values
  in force); other programs' logs; lines of PAM files that are not about auth or account.

It does hold the name and addresses of this computer, addresses that logins came from,
and settings, among them how logins are guarded. `)
	switch {
	case b.Names == nil:
		m.WriteString("User names are in it: --redact-users\nreplaces them.\n")
	default:
		fmt.Fprintf(&m, `Of %s the name is replaced by
user-1 and so on, the same everywhere; their numbers (uid, SID) stay, by which
"sallyport user list" on the computer tells who it is. A name that only a log has, of
nobody who has an account or a record here, stays: look at log.txt.
`, textout.Plural(b.Names.Count(), "user", "users"))
	}
	m.WriteString("\nLook through it before you send it.\n")
	return m.String()
}

// Pack returns the archive.
func (b *Bundle) Pack() ([]byte, error) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	w := tar.NewWriter(z)
	var failed error
	add := func(name, text string) {
		text = b.Names.Replace(text)
		err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: dir + "/" + name, Mode: 0o600, Size: int64(len(text)), ModTime: b.Made})
		if err == nil {
			_, err = io.WriteString(w, text)
		}
		failed = errors.Join(failed, err)
	}
	add("MANIFEST.txt", b.Manifest())
	for _, p := range b.Parts {
		if p.Text != "" {
			add(p.Name, p.Text)
		}
	}
	err := errors.Join(failed, w.Close(), z.Close())
	return packed.Bytes(), err
}

// Write puts a file where there is none, for its owner alone: whole, or not at all.
func Write(path string, content []byte) error {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			err = fs.ErrExist
		}
		return &fs.PathError{Op: "write", Path: path, Err: err}
	}
	// A name that nobody can have waited with: the directory may be everybody's.
	tmp := path + fmt.Sprintf(".%d.part", os.Getpid())
	f, err := statefile.Create(tmp)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp) }()
	_, err = f.Write(content)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	// link(2) does not replace what came meanwhile. A stick for Windows has no links.
	err = os.Link(tmp, path)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return &fs.PathError{Op: "write", Path: path, Err: fs.ErrExist}
	}
	return os.Rename(tmp, path)
}

// FileName is what an archive is called unless somebody says otherwise.
func FileName(host string, made time.Time) string {
	host = strings.Map(func(r rune) rune {
		if r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '-'
	}, host)
	return filepath.Clean(dir + "-" + host + "-" + made.UTC().Format("20060102-150405") + ".tar.gz")
}
