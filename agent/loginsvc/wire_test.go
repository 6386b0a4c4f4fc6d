package loginsvc

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"sallyport/internal/engine"
	loginv1 "sallyport/proto/sallyport/login/v1"
)

// The hook's bounds are nanopb's; ours must be the same, or one side would send
// what the other refuses.
func TestBoundsAreThoseOfTheHook(t *testing.T) {
	text, err := os.ReadFile("../../proto/sallyport/login/v1/login.options")
	if err != nil {
		t.Fatal(err)
	}
	ours := map[string]int{
		"Begin.user": maxUser, "Begin.caller": maxCaller, "Begin.service": maxService, "Begin.remote_host": maxRemoteHost,
		"Begin.session": maxSession, "Begin.locale": maxLocale, "Begin.password": maxPassword, "Answer.text": maxAnswer, "Prompt.text": maxPrompt,
		"Notice.text": maxNotice, "Verdict.reason": maxReason, "Verdict.text": maxText, "Waiting.device": maxDevice,
	}
	found := regexp.MustCompile(`(?m)^sallyport\.login\.v1\.(\S+) max_size:(\d+)$`).FindAllStringSubmatch(string(text), -1)
	if len(found) != len(ours) {
		t.Errorf("%d bounds in login.options, %d here", len(found), len(ours))
	}
	for _, m := range found {
		if fmt.Sprint(ours[m[1]]) != m[2] {
			t.Errorf("%s: %s in login.options, %d here", m[1], m[2], ours[m[1]])
		}
	}
}

func good() *loginv1.Begin {
	return &loginv1.Begin{ProtocolVersion: 1, Hook: loginv1.HookKind_HOOK_KIND_PAM, Scenario: loginv1.Scenario_SCENARIO_LOGIN,
		Stage: loginv1.Stage_STAGE_AUTHENTICATE, User: []byte("alice")}
}

func TestBeginThatIsNotWholeIsRefused(t *testing.T) {
	if err := checkBegin(good()); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 2000)
	for name, spoil := range map[string]func(*loginv1.Begin){
		"no version":       func(b *loginv1.Begin) { b.ProtocolVersion = 0 },
		"a later version":  func(b *loginv1.Begin) { b.ProtocolVersion = 2 },
		"no hook":          func(b *loginv1.Begin) { b.Hook = 0 },
		"unknown hook":     func(b *loginv1.Begin) { b.Hook = 99 },
		"no scenario":      func(b *loginv1.Begin) { b.Scenario = 0 },
		"unknown scenario": func(b *loginv1.Begin) { b.Scenario = 99 },
		"no stage":         func(b *loginv1.Begin) { b.Stage = 0 },
		"unknown stage":    func(b *loginv1.Begin) { b.Stage = -1 },
		"no user":          func(b *loginv1.Begin) { b.User = nil },
		"long user":        func(b *loginv1.Begin) { b.User = []byte(long) },
		"long caller":      func(b *loginv1.Begin) { b.Caller = []byte(long) },
		"long service":     func(b *loginv1.Begin) { b.Service = []byte(long) },
		"long remote host": func(b *loginv1.Begin) { b.RemoteHost = []byte(long) },
		"long session":     func(b *loginv1.Begin) { b.Session = []byte(long) },
		"long locale":      func(b *loginv1.Begin) { b.Locale = []byte(long) },
		"long password": func(b *loginv1.Begin) {
			b.Hook, b.Password = loginv1.HookKind_HOOK_KIND_CREDENTIAL_PROVIDER, []byte(long)
		},
		"a password from PAM": func(b *loginv1.Begin) { b.Password = []byte("x") },
	} {
		b := good()
		spoil(b)
		err := checkBegin(b)
		if err == nil {
			t.Errorf("%s: taken", name)
		} else if strings.Contains(err.Error(), "xxx") || strings.Contains(err.Error(), "alice") {
			t.Errorf("%s: the error repeats the content: %v", name, err)
		}
	}
	if checkBegin(nil) == nil {
		t.Error("no Begin at all: taken")
	}
}

func TestWhatIsSentFitsAndIsWholeCharacters(t *testing.T) {
	long := strings.Repeat("ü", 4000)
	d := promptDirective(engine.Prompt{ID: 1, Text: long}).GetPrompt()
	if len(d.GetText()) > maxPrompt || !utf8.Valid(d.GetText()) || d.GetEcho() != loginv1.Prompt_ECHO_SECRET {
		t.Errorf("%d bytes, echo %v", len(d.GetText()), d.GetEcho())
	}
	n := noticeDirective(engine.Notice{Text: long}).GetNotice()
	if len(n.GetText()) > maxNotice || !utf8.Valid(n.GetText()) {
		t.Errorf("%d bytes", len(n.GetText()))
	}
	v := verdictDirective(engine.Verdict{Reason: "r", Text: long}).GetVerdict()
	if len(v.GetText()) > maxText || v.GetDecision() != loginv1.Verdict_DECISION_DENY {
		t.Errorf("%d bytes, %v", len(v.GetText()), v.GetDecision())
	}
}

func TestTerminalControlFromOutsideIsNotRepeated(t *testing.T) {
	if got := clean([]byte("a\x1b[31mb\nc\u009bd\xffe")); got != "a?[31mb?c?d?e" {
		t.Errorf("%q", got)
	}
}
