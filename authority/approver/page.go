package approver

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"sallyport/internal/organisation"
)

//go:embed page
var embedded embed.FS

// files are the page as it is written; config.json is added.
var files = mustSub(embedded, "page")

func mustSub(f fs.FS, dir string) fs.FS {
	sub, err := fs.Sub(f, dir)
	if err != nil {
		panic(err)
	}
	return sub
}

// policyMark is where index.html takes the policy, for hosts that send no headers.
const policyMark = "<!-- policy -->"

var types = map[string]string{
	".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8",
	".svg": "image/svg+xml", ".png": "image/png", ".webmanifest": "application/manifest+json", ".json": "application/json",
}

// policy is the page's Content-Security-Policy. Without inMeta it has what only
// a header can say.
func policy(s organisation.Settings, inMeta bool) string {
	connect := "'self'"
	if s.API != s.Origin {
		connect += " " + s.API
	}
	p := []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'", "connect-src " + connect,
		"manifest-src 'self'", "worker-src 'self'", "form-action 'none'", "base-uri 'none'",
		"require-trusted-types-for 'script'", "trusted-types sallyport"}
	if !inMeta {
		p = append(p, "frame-ancestors 'none'")
	}
	return strings.Join(p, "; ")
}

// Headers are what a host of the page's files should send with each of them.
// Without them the page works, with the policy of its own meta element.
func Headers(s organisation.Settings) http.Header {
	h := http.Header{}
	setHeaders(h, s)
	h.Set("Cache-Control", "no-cache")
	return h
}

func setHeaders(h http.Header, s organisation.Settings) {
	h.Set("Content-Security-Policy", policy(s, false))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "publickey-credentials-get=(self), publickey-credentials-create=(self), camera=(), geolocation=(), microphone=(), payment=(), usb=()")
	if strings.HasPrefix(s.API, "https:") {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
}

// file is one of the page as it is served.
func file(name string, s organisation.Settings, vapid string) ([]byte, error) {
	if name == "config.json" {
		return json.MarshalIndent(struct {
			API   string `json:"api"`
			RPID  string `json:"rp_id"`
			Name  string `json:"name"`  // of the organisation
			VAPID string `json:"vapid"` // public key for Web Push
		}{s.API, s.RPID, s.Name, vapid}, "", "  ")
	}
	b, err := fs.ReadFile(files, name)
	if name == "index.html" {
		meta := `<meta http-equiv="Content-Security-Policy" content="` + policy(s, true) + `">`
		b = bytes.Replace(b, []byte(policyMark), []byte(meta), 1)
	}
	return b, err
}

func (s *server) page(w http.ResponseWriter, r *http.Request) {
	settings := s.Settings()
	if settings.API != settings.Origin {
		// A page of this host would be another one than people trust.
		http.Error(w, "The approver's page is at "+settings.Origin, http.StatusNotFound)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	name := strings.TrimPrefix(path.Clean(r.URL.Path), "/")
	if name == "" {
		name = "index.html"
	}
	kind, ok := types[path.Ext(name)]
	b, err := file(name, settings, s.VAPIDPublicKey)
	if !ok || err != nil {
		http.NotFound(w, r)
		return
	}
	sum := sha256.Sum256(b)
	w.Header().Set("Content-Type", kind)
	// It is asked for each time, and sent when it changed.
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("ETag", `"`+base64.RawURLEncoding.EncodeToString(sum[:12])+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
}

// Export writes the page's files to dir, for a host that is not the authority's.
// What is there under their names is replaced, one file at a time.
func Export(dir string, s organisation.Settings, vapidPublicKey string) error {
	for _, u := range []struct{ what, url string }{{"page's origin", s.Origin}, {"API's origin", s.API}} {
		if err := checkOrigin(u.url); err != nil {
			return fmt.Errorf("the %s %q: %w", u.what, u.url, err)
		}
	}
	if s.RPID == "" || vapidPublicKey == "" {
		return errors.New("the settings have no relying party, or there is no key for Web Push")
	}
	names := []string{"config.json"}
	if err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, name)
		}
		return err
	}); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, name := range names {
		b, err := file(name, s, vapidPublicKey)
		if err != nil {
			return err
		}
		if err := replace(filepath.Join(dir, name), b); err != nil {
			return err
		}
	}
	return nil
}

// checkOrigin wants "https://host", or http on this machine.
func checkOrigin(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return err
	case u.Scheme == "http" && u.Hostname() == "localhost", u.Scheme == "https" && u.Hostname() != "":
	default:
		return errors.New("it is not https://HOST")
	}
	if (&url.URL{Scheme: u.Scheme, Host: u.Host}).String() != s || strings.ContainsAny(s, " ;,'\"<>") {
		return errors.New("it has more than https://HOST[:PORT]")
	}
	return nil
}

// replace writes a file whole or not at all, readable by a web server.
func replace(name string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".sallyport-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone, once it was renamed
	if _, err = f.Write(b); err == nil {
		err = f.Chmod(0o644)
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
