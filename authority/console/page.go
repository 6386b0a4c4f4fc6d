package console

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"

	"sallyport/authority/store"
)

//go:embed page
var embedded embed.FS

// scripts and what else a page loads. htmx.min.js is that of htmx.org 2.0.11 in the
// npm registry, byte for byte (docs/adr/2026-11-22-console.md); its licence is beside it.
var types = map[string]string{"console.js": "text/javascript; charset=utf-8", "htmx.min.js": "text/javascript; charset=utf-8",
	"style.css": "text/css; charset=utf-8", "icon.svg": "image/svg+xml", "htmx.LICENSE.txt": "text/plain; charset=utf-8"}

func static(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	kind, ok := types[name]
	b, err := embedded.ReadFile("page/" + name)
	if !ok || err != nil {
		http.NotFound(w, r)
		return
	}
	sum := sha256.Sum256(b)
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Cache-Control", "no-cache") // asked for each time, and sent when it changed
	w.Header().Set("ETag", `"`+base64.RawURLEncoding.EncodeToString(sum[:12])+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
}

// templates are the pages by name, each within layout.html.
var templates = parse()

func parse() map[string]*template.Template {
	// What several pages show stands in parts.html.
	layout := template.Must(template.New("layout.html").Funcs(functions).ParseFS(embedded, "page/layout.html", "page/parts.html"))
	all := map[string]*template.Template{}
	names, err := fs.Glob(embedded, "page/*.html")
	if err != nil {
		panic(err)
	}
	for _, name := range names {
		base := strings.TrimSuffix(path.Base(name), ".html")
		if base != "layout" && base != "parts" {
			all[base] = template.Must(template.Must(layout.Clone()).ParseFS(embedded, name))
		}
	}
	return all
}

var functions = template.FuncMap{
	"stamp": func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"when":  func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04") },
	"clock": func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") },
	"words": func(name any) string { return strings.ReplaceAll(fmt.Sprint(name), "_", " ") },
	"list":  func(items ...any) []any { return items },
	"int":   func(n *int) int { return *n },
}

// screen is what layout.html shows.
type screen struct {
	Title string
	Data  any
	Error string // what is wrong with the form

	// What render fills in.
	Organisation string
	Operator     store.Operator
	Here         string // the path
	Menu         []menu
	Logout       string // its form's token
	Done         string // what was done just now
	May          func(action string) bool
}

type menu struct {
	Path, Text string
	Here       bool
	Count      int
}

// dones are what a page says that a form led to.
func doneText(name string) string {
	switch name {
	case "":
		return ""
	case "requested":
		return "The request is kept. Once somebody else has approved it, you carry it out here."
	case "approve":
		return "Approved. Who asked carries it out."
	case "refuse":
		return "The request is gone."
	case "waits":
		return "Done, and not in force yet: the organisation's key lies elsewhere and has to sign it."
	}
	a, _ := findAction(name)
	return a.done
}

// render writes a page. Nothing is sent of one that cannot be made whole.
func (s *server) render(v *visit, status int, name string, p screen) error {
	p.Organisation, p.Operator, p.Here = s.Organisation, v.operator, v.r.URL.Path
	p.May = func(name string) bool { a, ok := findAction(name); return ok && v.role().may(a.role) }
	if v.role().Known() {
		p.Logout = s.token(v, "logout")
		p.Done = doneText(v.r.URL.Query().Get("done"))
		if err := s.menu(v, &p); err != nil {
			return err
		}
	}
	var b bytes.Buffer
	if err := templates[name].ExecuteTemplate(&b, "layout.html", p); err != nil {
		return err
	}
	v.Header().Set("Content-Type", "text/html; charset=utf-8")
	v.WriteHeader(status)
	_, _ = v.Write(b.Bytes()) // whoever asked is gone
	return nil
}

// part writes a piece of a page, for htmx.
func (s *server) part(v *visit, page, name string, data any) error {
	var b bytes.Buffer
	if err := templates[page].ExecuteTemplate(&b, name, data); err != nil {
		return err
	}
	v.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = v.Write(b.Bytes()) // whoever asked is gone
	return nil
}

// menu is what the operator can go to, with the requests that wait for them.
func (s *server) menu(v *visit, p *screen) error {
	add := func(path, text string, least Role, also ...string) {
		if v.role().may(least) {
			here := v.r.URL.Path == path
			for _, a := range also {
				here = here || v.r.URL.Path == a
			}
			p.Menu = append(p.Menu, menu{Path: path, Text: text, Here: here})
		}
	}
	add("/people", "People", Read, "/person")
	add("/devices", "Computers", Read, "/device")
	add("/events", "Events", Read)
	if v.role().may(Helpdesk) && len(s.SecondPerson) > 0 {
		add("/requests", "Requests", Helpdesk)
		var list []store.OperatorRequest
		err := s.Store.View(v.ctx(), func(tx store.Tx) (err error) {
			list, err = tx.OperatorRequests(s.Now())
			return err
		})
		if err != nil {
			return err
		}
		for _, r := range list {
			a, _ := findAction(r.Action)
			mine := r.Operator == v.operator.Name
			if mine && r.Approver != "" || !mine && r.Approver == "" && v.role().may(a.role) {
				p.Menu[len(p.Menu)-1].Count++
			}
		}
	}
	add("/operators", "Operators", Admin)
	return nil
}
