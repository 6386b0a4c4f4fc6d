// Package firefox is a phone's browser for tests and the demo: a real headless
// Firefox with an empty profile, whose push messages come from a push service on
// this machine. So a message goes the whole way: subscribed by the page,
// encrypted by the sender, decrypted by the browser, taken by the service worker.
//
// Passkeys, service workers and WebCrypto exist on https and on localhost only:
// name the server http://localhost:PORT, never 127.0.0.1.
package firefox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/coder/websocket"
)

// patience is how long anything may take on a busy machine.
const patience = 60 * time.Second

// paths are where Debian and Fedora have the browser.
var paths = []string{"/usr/bin/firefox-esr", "/usr/bin/firefox"}

func find() (string, error) {
	i := slices.IndexFunc(paths, func(p string) bool { _, err := os.Stat(p); return err == nil })
	if i < 0 {
		return "", errors.New("firefox is not installed: ./build.sh deps")
	}
	return paths[i], nil
}

// Installed says why there is no browser here, or nil.
func Installed() error {
	_, err := find()
	return err
}

// Browser is one browser with a profile of its own.
type Browser struct {
	command *exec.Cmd
	exited  chan struct{}
	dir     string
	conn    *websocket.Conn

	marionette *marionette
	stop       context.CancelFunc

	mu      sync.Mutex
	next    int
	waiting map[int]chan reply
	console map[string][]string // by tab
	gone    error
}

type reply struct {
	Type    string
	ID      *int
	Result  json.RawMessage
	Error   string
	Message string
	Method  string
	Params  json.RawMessage
}

// Start starts a browser that takes its push messages from push; nil: none.
func Start(ctx context.Context, push *PushService) (*Browser, error) {
	path, err := find()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "firefox")
	if err != nil {
		return nil, err
	}
	b := &Browser{dir: dir, waiting: map[int]chan reply{}, console: map[string][]string{}, exited: make(chan struct{})}
	if err := b.start(ctx, path, push); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// prefs are the profile's settings: nothing is looked up, reported or asked.
func prefs(push *PushService) string {
	p := map[string]any{
		"marionette.port":                            0,
		"remote.prefs.recommended":                   false, // they would switch push off
		"app.normandy.enabled":                       false,
		"app.update.enabled":                         false,
		"browser.aboutwelcome.enabled":               false,
		"browser.shell.checkDefaultBrowser":          false,
		"browser.safebrowsing.update.enabled":        false,
		"datareporting.policy.dataSubmissionEnabled": false,
		"datareporting.healthreport.uploadEnabled":   false,
		"extensions.update.enabled":                  false,
		"network.captive-portal-service.enabled":     false,
		"network.connectivity-service.enabled":       false,
		"services.settings.server":                   "data:,none",
		"toolkit.telemetry.enabled":                  false,
		"alerts.useSystemBackend":                    false,
		"permissions.default.desktop-notification":   1,
		"dom.push.connection.enabled":                push != nil,
		"dom.serviceWorkers.testing.enabled":         false,
		"security.webauth.webauthn_enable_softtoken": true,
		"security.webauth.webauthn_enable_usbtoken":  false,
	}
	if push != nil {
		p["dom.push.serverURL"] = "ws://" + push.Host()
		p["dom.push.testing.allowInsecureServerURL"] = true
	}
	var b strings.Builder
	for k, v := range p {
		j, _ := json.Marshal(v)
		fmt.Fprintf(&b, "user_pref(%q, %s);\n", k, j)
	}
	return b.String()
}

func (b *Browser) start(ctx context.Context, path string, push *PushService) error {
	profile := filepath.Join(b.dir, "profile")
	if err := os.Mkdir(profile, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(profile, "user.js"), []byte(prefs(push)), 0o600); err != nil {
		return err
	}
	c := exec.Command(path, "--headless", "--no-remote", "--profile", profile, "--marionette", "--remote-debugging-port", "0", "about:blank")
	c.Env = append(os.Environ(), "HOME="+b.dir, "XDG_RUNTIME_DIR="+b.dir, "MOZ_CRASHREPORTER_DISABLE=1", "MOZ_DISABLE_AUTO_SAFE_MODE=1", "NO_PROXY=*", "http_proxy=", "https_proxy=")
	// Its children end with it: they are of one group.
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := c.StderrPipe()
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return err
	}
	b.command = c
	go func() {
		defer close(b.exited)
		_, _ = io.Copy(io.Discard, out)
		_ = c.Wait()
	}()
	if b.marionette, err = dialMarionette(profile, b.exited); err != nil {
		return err
	}
	// One session, by both ways.
	var session struct {
		Capabilities struct{ WebSocketURL string }
	}
	if err := b.marionette.call("WebDriver:NewSession", map[string]any{"webSocketUrl": true, "acceptInsecureCerts": true}, &session); err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if b.conn, _, err = websocket.Dial(wait, session.Capabilities.WebSocketURL, nil); err != nil {
		return fmt.Errorf("firefox's remote control at %q: %w", session.Capabilities.WebSocketURL, err)
	}
	b.conn.SetReadLimit(16 << 20)
	listen, stop := context.WithCancel(context.Background())
	b.stop = stop
	go b.read(listen)
	return b.call(wait, "session.subscribe", map[string]any{"events": []string{"log.entryAdded"}}, nil)
}

// Close ends the browser and removes its profile.
func (b *Browser) Close() error {
	if b.marionette != nil {
		_ = b.marionette.call("Marionette:Quit", map[string]any{"flags": []string{"eForceQuit"}}, nil)
		_ = b.marionette.conn.Close()
	}
	if b.conn != nil {
		b.stop()
		_ = b.conn.CloseNow()
	}
	if b.command != nil {
		timer := time.NewTimer(5 * time.Second)
		defer timer.Stop()
		select {
		case <-b.exited:
		case <-timer.C:
		}
		_ = syscall.Kill(-b.command.Process.Pid, syscall.SIGKILL)
		<-b.exited
	}
	return os.RemoveAll(b.dir)
}

// read takes what the browser says to who waits for it.
func (b *Browser) read(ctx context.Context) {
	for {
		_, text, err := b.conn.Read(ctx)
		var r reply
		if err == nil {
			err = json.Unmarshal(text, &r)
		}
		b.mu.Lock()
		switch {
		case err != nil:
			b.gone = fmt.Errorf("firefox is gone: %w", err)
			for id, c := range b.waiting {
				c <- reply{Type: "error", Error: b.gone.Error()}
				delete(b.waiting, id)
			}
		case r.ID != nil:
			if c := b.waiting[*r.ID]; c != nil {
				c <- r
				delete(b.waiting, *r.ID)
			}
		case r.Method == "log.entryAdded":
			var e struct {
				Level, Text string
				Source      struct{ Context string }
			}
			if json.Unmarshal(r.Params, &e) == nil {
				b.console[e.Source.Context] = append(b.console[e.Source.Context], e.Level+": "+e.Text)
			}
		}
		b.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// call has the browser do one thing of WebDriver BiDi.
func (b *Browser) call(ctx context.Context, method string, params any, result any) error {
	c := make(chan reply, 1)
	b.mu.Lock()
	if b.gone != nil {
		b.mu.Unlock()
		return b.gone
	}
	b.next++
	id := b.next
	b.waiting[id] = c
	b.mu.Unlock()
	text, err := json.Marshal(map[string]any{"id": id, "method": method, "params": params})
	if err == nil {
		err = b.conn.Write(ctx, websocket.MessageText, text)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	select {
	case r := <-c:
		if r.Type == "error" {
			return fmt.Errorf("%s: %s: %s", method, r.Error, r.Message)
		}
		if result == nil {
			return nil
		}
		return json.Unmarshal(r.Result, result)
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", method, ctx.Err())
	}
}

// Tab is one tab. Its methods wait until what they ask for has happened.
type Tab struct {
	browser *Browser
	id      string
}

// Open opens a tab at a URL.
func (b *Browser) Open(url string) (*Tab, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var made struct{ Context string }
	if err := b.call(ctx, "browsingContext.create", map[string]any{"type": "tab"}, &made); err != nil {
		return nil, err
	}
	t := &Tab{b, made.Context}
	return t, t.Go(url)
}

// Go opens a URL.
func (t *Tab) Go(url string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return t.browser.call(ctx, "browsingContext.navigate", map[string]any{"context": t.id, "url": url, "wait": "complete"}, nil)
}

// Eval evaluates JavaScript with the rights of a click, awaits it when it is a
// promise, and decodes the value (as JSON) into out; nil: it is dropped.
func (t *Tab) Eval(expression string, out any) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return t.eval(ctx, expression, out)
}

func (t *Tab) eval(ctx context.Context, expression string, out any) error {
	var r struct {
		Type             string
		Result           struct{ Value string }
		ExceptionDetails struct{ Text string }
	}
	err := t.browser.call(ctx, "script.evaluate", map[string]any{
		// Through JSON, so that undefined is null.
		"expression": "(async () => JSON.stringify(await (" + expression + ")) ?? 'null')()",
		"target":     map[string]any{"context": t.id}, "awaitPromise": true, "userActivation": true}, &r)
	if err != nil {
		return err
	}
	if r.Type != "success" {
		return fmt.Errorf("%s; console:\n%s", r.ExceptionDetails.Text, strings.Join(t.Console(), "\n"))
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal([]byte(r.Result.Value), out)
}

// Wait waits until a JavaScript expression is true.
func (t *Tab) Wait(expression string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var ok bool
		// A page that is being left cannot be asked: ask the next one.
		if err := t.eval(ctx, "!!("+expression+")", &ok); err == nil && ok {
			return nil
		}
		select {
		case <-ctx.Done():
			body, _ := t.Text("body")
			return fmt.Errorf("waited in vain until %s; the page shows:\n%s\nconsole:\n%s", expression, body, strings.Join(t.Console(), "\n"))
		case <-tick.C:
		}
	}
}

// WaitText waits until an element is visible and shows this text.
func (t *Tab) WaitText(selector, text string) error {
	s, _ := json.Marshal(selector)
	w, _ := json.Marshal(text)
	return t.Wait(fmt.Sprintf("[...document.querySelectorAll(%s)].some(e => e.checkVisibility() && e.innerText.includes(%s))", s, w))
}

// Text is what the person reads in an element.
func (t *Tab) Text(selector string) (text string, err error) {
	s, _ := json.Marshal(selector)
	return text, t.Eval(fmt.Sprintf("document.querySelector(%s)?.innerText ?? ''", s), &text)
}

// Front gives the tab the focus, which a notification takes: without it there is
// no passkey.
func (t *Tab) Front() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return t.browser.call(ctx, "browsingContext.activate", map[string]any{"context": t.id}, nil)
}

// Click clicks the element that a CSS selector finds, once it is visible.
func (t *Tab) Click(selector string) error {
	if err := t.WaitText(selector, ""); err != nil {
		return err
	}
	if err := t.Front(); err != nil {
		return err
	}
	s, _ := json.Marshal(selector)
	return t.Eval(fmt.Sprintf("document.querySelector(%s).click()", s), nil)
}

// Type puts text into a field, as a person would.
func (t *Tab) Type(selector, text string) error {
	if err := t.WaitText(selector, ""); err != nil {
		return err
	}
	s, _ := json.Marshal(selector)
	if err := t.Eval(fmt.Sprintf("document.querySelector(%s).focus()", s), nil); err != nil {
		return err
	}
	var keys []map[string]any
	for _, r := range text {
		keys = append(keys, map[string]any{"type": "keyDown", "value": string(r)}, map[string]any{"type": "keyUp", "value": string(r)})
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return t.browser.call(ctx, "input.performActions", map[string]any{"context": t.id,
		"actions": []any{map[string]any{"type": "key", "id": "keyboard", "actions": keys}}}, nil)
}

// Console is what the page wrote to the console.
func (t *Tab) Console() []string {
	t.browser.mu.Lock()
	defer t.browser.mu.Unlock()
	return append([]string(nil), t.browser.console[t.id]...)
}
