// Package chromium is a phone's browser for tests and the demo: a real headless
// Chromium with an empty profile, a passkey authenticator in software, and push
// messages that are put in by hand.
//
// Passkeys, service workers and WebCrypto exist on https and on localhost only:
// name the server http://localhost:PORT, never 127.0.0.1.
package chromium

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/backgroundservice"
	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/serviceworker"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"
)

// Path is where Debian has the browser.
const Path = "/usr/bin/chromium"

// patience is how long anything may take on a busy machine.
const patience = time.Minute

// Installed says why there is no browser here, or nil.
func Installed() error {
	if _, err := os.Stat(Path); err != nil {
		return fmt.Errorf("chromium is not installed: %w", err)
	}
	return nil
}

// Browser is one browser with a profile of its own.
type Browser struct {
	ctx    context.Context
	cancel context.CancelFunc
}

// TrustAll makes the browser take any certificate: an authority on localhost has
// one that it made itself.
var TrustAll = chromedp.Flag("ignore-certificate-errors", true)

// Start starts a browser that ends with ctx or Close.
func Start(ctx context.Context, more ...chromedp.ExecAllocatorOption) (*Browser, error) {
	if err := Installed(); err != nil {
		return nil, err
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(Path),
		chromedp.NoFirstRun,
		chromedp.DisableGPU,
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
		chromedp.Flag("hide-scrollbars", true),
	)
	options = append(options, more...)
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	b := new(Browser)
	ctx, stop := chromedp.NewExecAllocator(ctx, options...)
	b.ctx, b.cancel = chromedp.NewContext(ctx)
	cancel := b.cancel
	b.cancel = func() { cancel(); stop() }
	if err := chromedp.Do(b.ctx); err != nil { // starts it
		b.cancel()
		return nil, fmt.Errorf("start chromium: %w", err)
	}
	return b, nil
}

// Close ends the browser and removes its profile.
func (b *Browser) Close() error {
	ctx, stop := context.WithTimeout(b.ctx, patience)
	defer stop()
	err := chromedp.Cancel(ctx)
	b.cancel()
	return err
}

// Notifications answers the question whether origin may notify.
func (b *Browser) Notifications(origin string, allowed bool) error {
	setting := browser.PermissionSettingDenied
	if allowed {
		setting = browser.PermissionSettingGranted
	}
	for _, name := range []string{"notifications", "push"} {
		if _, err := chromedp.CallBrowser(b.ctx, browser.SetPermission, browser.SetPermissionParams{
			Permission: &browser.PermissionDescriptor{Name: name, UserVisibleOnly: true}, Setting: setting, Origin: origin,
		}); err != nil {
			return err
		}
	}
	return nil
}

// Screen is what a tab is shown on.
type Screen struct {
	Width, Height int64
	Phone         bool // touch, and a viewport that follows the page's meta tag
	Dark          bool
	Still         bool // the person asked for less motion
}

// Screens that a page should fit.
var (
	Phone   = Screen{Width: 390, Height: 844, Phone: true, Still: true}
	Tiny    = Screen{Width: 320, Height: 568, Phone: true, Still: true}
	Desktop = Screen{Width: 1280, Height: 800, Still: true}
)

// InTheDark is the screen with a dark theme.
func (s Screen) InTheDark() Screen { s.Dark = true; return s }

// Tab is one tab. Its methods wait until what they ask for has happened, a minute
// at most.
type Tab struct {
	ctx    context.Context
	cancel context.CancelFunc

	mu      sync.Mutex
	console []string
	workers map[string]serviceworker.RegistrationID // by scope
	pushed  map[serviceworker.RegistrationID]int    // messages that a worker is done with
	changed chan struct{}                           // closed when one of them changes
}

// Open opens a tab.
func (b *Browser) Open(s Screen) (*Tab, error) {
	t := &Tab{workers: map[string]serviceworker.RegistrationID{}, pushed: map[serviceworker.RegistrationID]int{}, changed: make(chan struct{})}
	t.ctx, t.cancel = chromedp.NewContext(b.ctx)
	err := chromedp.Do(t.ctx)
	if err == nil {
		err = chromedp.Listen(t.ctx, t.heard)
	}
	if err == nil {
		_, err = chromedp.Call(t.ctx, serviceworker.Enable, cdp.Empty{})
	}
	if err == nil {
		_, err = chromedp.Call(t.ctx, backgroundservice.StartObserving, backgroundservice.StartObservingParams{Service: backgroundservice.ServiceNamePushMessaging})
	}
	if err == nil {
		_, err = chromedp.Call(t.ctx, backgroundservice.SetRecording, backgroundservice.SetRecordingParams{Service: backgroundservice.ServiceNamePushMessaging, ShouldRecord: true})
	}
	if err == nil {
		// Heard from here on, however late the goroutine begins.
		go t.listen(chromedp.Console(t.ctx))
		err = t.On(s)
	}
	if err != nil {
		t.cancel()
		return nil, err
	}
	return t, nil
}

// Close closes the tab.
func (t *Tab) Close() { t.cancel() }

func (t *Tab) heard(event any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch e := event.(type) {
	case *serviceworker.EventWorkerRegistrationUpdated:
		for _, r := range e.Registrations {
			if t.workers[r.ScopeURL] = r.RegistrationID; r.IsDeleted {
				delete(t.workers, r.ScopeURL)
			}
		}
	case *backgroundservice.EventBackgroundServiceEventReceived:
		if b := e.BackgroundServiceEvent; b.EventName == "Push event completed" {
			t.pushed[b.ServiceWorkerRegistrationID]++
		}
	default:
		return
	}
	close(t.changed)
	t.changed = make(chan struct{})
}

func (t *Tab) listen(messages iter.Seq2[chromedp.ConsoleMessage, error]) {
	for m, err := range messages {
		if err != nil {
			return
		}
		t.mu.Lock()
		t.console = append(t.console, m.String())
		t.mu.Unlock()
	}
}

// Console is what the tab wrote to its console so far, with the browser's own
// complaints (such as a violated Content-Security-Policy).
func (t *Tab) Console() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]string(nil), t.console...)
}

// do runs actions in time.
func (t *Tab) do(actions ...chromedp.Action[chromedp.Void]) error {
	ctx, stop := context.WithTimeout(t.ctx, patience)
	defer stop()
	return chromedp.Do(ctx, actions...)
}

// On puts the tab on another screen.
func (t *Tab) On(s Screen) error {
	theme, motion := "light", "no-preference"
	if s.Dark {
		theme = "dark"
	}
	if s.Still {
		motion = "reduce"
	}
	var options []chromedp.EmulateViewportOption
	if s.Phone {
		options = append(options, chromedp.EmulateMobile, chromedp.EmulateTouch, chromedp.EmulateScale(2))
	}
	if err := t.do(chromedp.EmulateViewport(s.Width, s.Height, options...)); err != nil {
		return err
	}
	_, err := chromedp.Call(t.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: theme}, {Name: "prefers-reduced-motion", Value: motion},
	}})
	return err
}

// UserAgent makes the tab say that it is another browser.
func (t *Tab) UserAgent(s string) error {
	_, err := chromedp.Call(t.ctx, emulation.SetUserAgentOverride, emulation.SetUserAgentOverrideParams{UserAgent: s})
	return err
}

// Scripts says whether pages may run any from now on; what a test evaluates still runs.
func (t *Tab) Scripts(on bool) error {
	_, err := chromedp.Call(t.ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !on})
	return err
}

// Before runs a script in every page that the tab loads from now on, before the
// page's own.
func (t *Tab) Before(script string) error {
	_, err := chromedp.Call(t.ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: script})
	return err
}

// Go opens a URL.
func (t *Tab) Go(url string) error { return t.do(chromedp.Navigate(url)) }

// Reload loads the page again.
func (t *Tab) Reload() error { return t.do(chromedp.Reload()) }

// Address is what the address bar shows.
func (t *Tab) Address() (url string, err error) { return url, t.Eval("location.href", &url) }

// Click clicks the element that a CSS selector finds, once it is visible.
func (t *Tab) Click(selector string) error {
	return t.said("click "+selector, t.do(chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible)))
}

// Type types into an element, after what is there.
func (t *Tab) Type(selector, text string) error {
	return t.said("type into "+selector, t.do(chromedp.SendKeys(chromedp.CSS(selector), text, chromedp.NodeVisible)))
}

// Press presses keys wherever the focus is: text, or kb.Tab and kb.Enter of
// chromedp.
func (t *Tab) Press(keys string) error { return t.do(chromedp.KeyEvent(keys)) }

// Text is what the person reads in an element.
func (t *Tab) Text(selector string) (text string, err error) {
	q, _ := json.Marshal(selector)
	return text, t.Eval(fmt.Sprintf("document.querySelector(%s)?.innerText ?? ''", q), &text)
}

// Wait waits until a JavaScript expression is true.
func (t *Tab) Wait(expression string) error {
	ctx, stop := context.WithTimeout(t.ctx, patience)
	defer stop()
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

// WaitFor waits until an element is visible.
func (t *Tab) WaitFor(selector string) error { return t.WaitText(selector, "") }

// Eval evaluates JavaScript, awaits it when it is a promise, and decodes the
// value (as JSON) into out; nil: it is dropped.
func (t *Tab) Eval(expression string, out any) error {
	ctx, stop := context.WithTimeout(t.ctx, patience)
	defer stop()
	return t.said("evaluate", t.eval(ctx, expression, out))
}

func (t *Tab) eval(ctx context.Context, expression string, out any) error {
	// Through JSON, so that undefined is null.
	s, err := chromedp.Run(ctx, chromedp.Evaluate[string](
		"(async () => JSON.stringify(await ("+expression+")) ?? 'null')()", chromedp.EvalAwaitPromise))
	if err != nil || out == nil {
		return err
	}
	return json.Unmarshal([]byte(s), out)
}

// Screenshot is the visible part as PNG; whole: the page to its end.
func (t *Tab) Screenshot(whole bool) ([]byte, error) {
	ctx, stop := context.WithTimeout(t.ctx, patience)
	defer stop()
	r, err := chromedp.Call(ctx, page.CaptureScreenshot, page.CaptureScreenshotParams{Format: page.CaptureScreenshotFormatPng, CaptureBeyondViewport: &whole})
	return r.Data, err
}

// Control is something that a person can use, as a screen reader has it.
type Control struct{ Role, Name string }

// Controls are the buttons, links, fields and headings that a screen reader
// finds.
func (t *Tab) Controls() (list []Control, err error) {
	r, err := chromedp.Call(t.ctx, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
	if err != nil {
		return nil, err
	}
	text := func(v *accessibility.Value) (s string) {
		if v != nil {
			_ = json.Unmarshal(v.Value, &s)
		}
		return s
	}
	for _, n := range r.Nodes {
		switch role := text(n.Role); role {
		case "button", "link", "textbox", "checkbox", "heading", "combobox", "switch", "DisclosureTriangle", "image", "img":
			if !n.Ignored {
				list = append(list, Control{Role: role, Name: text(n.Name)})
			}
		}
	}
	return list, nil
}

// Authenticator holds the passkeys of one tab.
type Authenticator struct {
	tab *Tab
	id  webauthn.AuthenticatorID
}

// Authenticator gives the tab the phone's own authenticator. Verifies says
// whether it recognises the person (fingerprint, face, PIN); synced, whether its
// passkeys are copied to the person's other devices.
func (t *Tab) Authenticator(verifies, synced bool) (*Authenticator, error) {
	if _, err := chromedp.Call(t.ctx, webauthn.Enable, webauthn.EnableParams{}); err != nil {
		return nil, err
	}
	r, err := chromedp.Call(t.ctx, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
		Protocol: webauthn.AuthenticatorProtocolCtap2, Ctap2version: webauthn.Ctap2versionCtap21,
		Transport: webauthn.AuthenticatorTransportInternal, HasResidentKey: true,
		HasUserVerification: true, IsUserVerified: verifies, AutomaticPresenceSimulation: true,
		DefaultBackupEligibility: synced, DefaultBackupState: synced,
	}})
	return &Authenticator{tab: t, id: r.AuthenticatorID}, err
}

// Recognise says whether the person is recognised from now on.
func (a *Authenticator) Recognise(person bool) error {
	_, err := chromedp.Call(a.tab.ctx, webauthn.SetUserVerified, webauthn.SetUserVerifiedParams{AuthenticatorID: a.id, IsUserVerified: person})
	return err
}

// Passkeys are those that it holds.
func (a *Authenticator) Passkeys() ([]*webauthn.Credential, error) {
	r, err := chromedp.Call(a.tab.ctx, webauthn.GetCredentials, webauthn.GetCredentialsParams{AuthenticatorID: a.id})
	return r.Credentials, err
}

// Add puts in a passkey, such as one of another tab's authenticator.
func (a *Authenticator) Add(c *webauthn.Credential) error {
	_, err := chromedp.Call(a.tab.ctx, webauthn.AddCredential, webauthn.AddCredentialParams{AuthenticatorID: a.id, Credential: c})
	return err
}

// Push delivers a push message to the service worker of origin's root, as the
// push service would, once it has one, and waits until that is done with it: a
// notification that is asked for while it is being shown is lost (Chromium takes
// it for one of before that is gone).
func (t *Tab) Push(origin, data string) error {
	var id serviceworker.RegistrationID
	var before int
	if !t.until(func() bool { id = t.workers[origin+"/"]; before = t.pushed[id]; return id != "" }) {
		return errors.New("no service worker is registered at " + origin)
	}
	if _, err := chromedp.Call(t.ctx, serviceworker.DeliverPushMessage, serviceworker.DeliverPushMessageParams{Origin: origin, RegistrationID: id, Data: data}); err != nil {
		return err
	}
	if !t.until(func() bool { return t.pushed[id] > before }) {
		return errors.New("the service worker of " + origin + " did not come to an end with the message")
	}
	return nil
}

// until waits until what was heard makes it so; false: in vain.
func (t *Tab) until(is func() bool) bool {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		t.mu.Lock()
		so, changed := is(), t.changed
		t.mu.Unlock()
		if so {
			return true
		}
		select {
		case <-changed:
		case <-deadline.C:
			return false
		}
	}
}

// EvalInWorker evaluates JavaScript in the running service worker whose script
// is at url, once there is one only: one that was replaced ends a while later.
func (t *Tab) EvalInWorker(url, expression string, out any) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		list, err := chromedp.Targets(t.ctx)
		if err != nil {
			return err
		}
		var seen []string
		var workers []target.ID
		for _, i := range list {
			seen = append(seen, i.Type+" "+i.URL)
			if i.Type == "service_worker" && i.URL == url {
				workers = append(workers, i.TargetID)
			}
		}
		if len(workers) == 1 {
			return t.evalIn(workers[0], expression, out)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d service workers of %s are running; there are: %s", len(workers), url, strings.Join(seen, ", "))
		}
	}
}

func (t *Tab) evalIn(id target.ID, expression string, out any) error {
	ctx, stop := chromedp.NewContext(t.ctx, chromedp.WithTargetID(id), chromedp.WithDetachOnCancel())
	defer stop()
	if err := chromedp.Do(ctx); err != nil {
		return err
	}
	in := &Tab{ctx: ctx}
	return in.Eval(expression, out)
}

func (t *Tab) said(what string, err error) error {
	if err == nil {
		return nil
	}
	body, _ := t.bodyText()
	return fmt.Errorf("%s: %w; the page shows:\n%s", what, err, body)
}

// bodyText is what can be read now; nothing when the page cannot say.
func (t *Tab) bodyText() (s string, err error) {
	ctx, stop := context.WithTimeout(t.ctx, time.Second)
	defer stop()
	err = t.eval(ctx, "globalThis.document?.body?.innerText ?? ''", &s)
	return s, err
}
