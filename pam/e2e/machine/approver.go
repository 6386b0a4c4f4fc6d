//go:build linux

package machine

import (
	"context"
	"fmt"
	"strings"

	"sallyport/internal/testkit/chromium"
)

// Approver is a person's phone with the approver's page open: a real browser, with
// an authenticator that recognises its owner.
type Approver struct {
	browser *chromium.Browser
	tab     *chromium.Tab
	key     *chromium.Authenticator
	origin  string
}

// NewApprover takes a phone out of its box; the page is at origin.
func NewApprover(origin string) (*Approver, error) {
	browser, err := chromium.Start(context.Background(), chromium.TrustAll)
	if err != nil {
		return nil, err
	}
	a := &Approver{browser: browser, origin: origin}
	if a.tab, err = browser.Open(chromium.Phone); err == nil {
		a.key, err = a.tab.Authenticator(true, false)
	}
	if err != nil {
		a.Close()
		return nil, err
	}
	return a, nil
}

// Close puts the phone away.
func (a *Approver) Close() { _ = a.browser.Close() } // its processes end with the machine at the latest

// Enrol scans the QR code whose content is url, and says yes.
func (a *Approver) Enrol(url string) error {
	if !strings.HasPrefix(url, a.origin+"/") || !strings.Contains(url, "#") {
		return fmt.Errorf("machine: the QR code does not lead to %s", a.origin) // what it holds is a secret
	}
	for _, do := range []func() error{
		func() error { return a.tab.Go("about:blank") },
		func() error { return a.tab.Go(url) },
		func() error { return a.tab.Click("#enrol-button") },
		func() error { return a.tab.WaitText("body", "This phone is enrolled") },
		func() error { return a.tab.Click("#enrolled-done") },
		func() error { return a.tab.WaitText("body", "Nothing to approve") },
		func() error { return a.tab.Eval(remember, nil) },
	} {
		if err := do(); err != nil {
			return err
		}
	}
	return nil
}

// remember has the page keep the approval it sends, as a script in it could.
const remember = `(() => {
	const send = window.fetch;
	window.fetch = (url, options) => {
		if (String(url).endsWith('/answer') && JSON.parse(options.body).decision === 'approve') window.lastAnswer = {url: String(url), options};
		return send(url, options);
	};
})()`

// replay sends the last approval again, to the login that waits now.
const replay = `(async () => {
	const {url, options} = window.lastAnswer;
	const list = url.replace(/\/[^/]*\/answer$/, '');
	const waiting = await (await fetch(list, {headers: {Authorization: options.headers.Authorization}})).json();
	const sent = await fetch(list + '/' + waiting.challenges[0].id + '/answer', {...options, signal: undefined});
	return sent.status;
})()`

// Replay sends the last approval again, to the one that waits, as a
// hostile page or relay could. It returns the authority's HTTP status.
func (a *Approver) Replay() (status int, err error) {
	if err := a.wake(); err != nil {
		return 0, err
	}
	return status, a.tab.Eval(replay, &status)
}

// Question is what the page shows of the login that waits.
func (a *Approver) Question() (string, error) {
	if err := a.wake(); err != nil {
		return "", err
	}
	return a.tab.Text(open + " .body dl")
}

// open is the card of a login that waits; one that is over may still be shown.
const open = ".card:has(.result[hidden])"

// wake closes what is over, and has the page look for logins now, as it does when it is opened.
func (a *Approver) wake() error {
	for _, script := range []string{"document.querySelectorAll('.card .result:not([hidden]) .close').forEach((b) => b.click())", "dispatchEvent(new Event('online'))"} {
		if err := a.tab.Eval(script, nil); err != nil {
			return err
		}
	}
	return a.tab.WaitText(open+" h2", "Are you logging in?")
}

// Approve types the number and approves; it returns what the page then says.
func (a *Approver) Approve(number string) (string, error) {
	if err := a.wake(); err != nil {
		return "", err
	}
	if err := a.tab.Type(open+" .number", number); err != nil {
		return "", err
	}
	return a.choose(open + " .approve")
}

// Deny denies.
func (a *Approver) Deny() (string, error) {
	if err := a.wake(); err != nil {
		return "", err
	}
	return a.choose(open + " .deny")
}

// Report says "This wasn't me", and is sure of it.
func (a *Approver) Report() (string, error) {
	if err := a.wake(); err != nil {
		return "", err
	}
	if err := a.tab.Click(open + " .report"); err != nil {
		return "", err
	}
	return a.choose(open + " .report-yes")
}

// choose clicks and waits for the result, and closes it.
func (a *Approver) choose(button string) (string, error) {
	if err := a.tab.Click(button); err != nil {
		return "", err
	}
	const result = ".card:has(.result:not([hidden]))"
	if err := a.tab.WaitFor(result); err != nil {
		return "", err
	}
	said, err := a.tab.Text(result + " .result h2")
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(said), a.tab.Click(result + " .close")
}

// Screenshot is what the phone shows, as PNG.
func (a *Approver) Screenshot() ([]byte, error) { return a.tab.Screenshot(false) }
