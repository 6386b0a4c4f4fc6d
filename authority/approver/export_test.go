package approver

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/internal/organisation"
)

func TestExport(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "www")
	s := organisation.Settings{Name: "Example Works", RPID: "example.com", Origin: "https://approve.example.com", API: "https://authority.example.com:8443"}
	for range 2 { // over what is there
		if err := Export(dir, s, vapid); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, "config.json"))
	var c map[string]string
	if err == nil {
		err = json.Unmarshal(b, &c)
	}
	if err != nil || c["api"] != s.API || c["rp_id"] != s.RPID || c["vapid"] != vapid || c["name"] != s.Name {
		t.Errorf("%s, %v", b, err)
	}
	html, err := os.ReadFile(filepath.Join(dir, "index.html"))
	if err != nil || !strings.Contains(string(html), "connect-src 'self' https://authority.example.com:8443;") || strings.Contains(string(html), "frame-ancestors") {
		t.Errorf("%s, %v", html, err)
	}
	// Everything of the page, readable by a web server, and nothing else.
	have, want := 0, 1
	_ = fs.WalkDir(files, ".", func(_ string, d fs.DirEntry, _ error) error {
		if !d.IsDir() {
			want++
		}
		return nil
	})
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		i, err := f.Info()
		if err != nil || i.Mode() != 0o644 {
			t.Errorf("%s: %v, %v", f.Name(), i.Mode(), err)
		}
		have++
	}
	if have != want {
		t.Errorf("%d files, want %d", have, want)
	}
	if got := Headers(s).Get("Content-Security-Policy"); !strings.Contains(got, "frame-ancestors 'none'") || !strings.Contains(got, s.API) {
		t.Error(got)
	}
}

func TestExportRefusesSettingsThatCannotWork(t *testing.T) {
	good := organisation.Settings{RPID: "example.com", Origin: "https://approve.example.com", API: "https://authority.example.com"}
	for name, change := range map[string]func(s *organisation.Settings){
		"http":            func(s *organisation.Settings) { s.API = "http://authority.example.com" },
		"a path":          func(s *organisation.Settings) { s.Origin = "https://approve.example.com/page" },
		"a policy inside": func(s *organisation.Settings) { s.API = "https://a.example.com; script-src *" },
		"markup inside":   func(s *organisation.Settings) { s.API = `https://a.example.com"><script>` },
		"no API":          func(s *organisation.Settings) { s.API = "" },
		"no party":        func(s *organisation.Settings) { s.RPID = "" },
		"a user":          func(s *organisation.Settings) { s.API = "https://a@b.example.com" },
	} {
		s := good
		change(&s)
		dir := filepath.Join(t.TempDir(), "www")
		if err := Export(dir, s, vapid); err == nil {
			t.Errorf("%s: exported", name)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s: left something behind", name)
		}
	}
}
