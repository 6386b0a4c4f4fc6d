package loginsvc

import (
	"fmt"
	"strconv"
	"unicode/utf8"

	"sallyport/internal/engine"
	loginv1 "sallyport/proto/sallyport/login/v1"
)

// The wire's bounds, as in proto/sallyport/login/v1/login.options: the hook
// refuses what is longer, so the agent sends nothing longer, and refuses the
// same of others. A test compares the two.
const (
	maxUser       = 1024
	maxCaller     = 320
	maxService    = 128
	maxRemoteHost = 255
	maxSession    = 128
	maxLocale     = 32
	maxPassword   = 1024
	maxAnswer     = 128
	maxPrompt     = 512
	maxNotice     = 6144
	maxReason     = 64
	maxText       = 512
	maxDevice     = 64
)

// checkBegin says what is wrong with a Begin. The text never holds its content.
func checkBegin(b *loginv1.Begin) error {
	if b == nil {
		return fmt.Errorf("the hook did not begin with Begin")
	}
	if b.GetProtocolVersion() != protocolVersion {
		return fmt.Errorf("the hook speaks protocol version %d, this agent %d: install both from the same package", b.GetProtocolVersion(), protocolVersion)
	}
	if _, ok := loginv1.HookKind_name[int32(b.GetHook())]; !ok || b.GetHook() == 0 {
		return fmt.Errorf("the hook does not say which kind it is")
	}
	if _, ok := loginv1.Scenario_name[int32(b.GetScenario())]; !ok || b.GetScenario() == 0 {
		return fmt.Errorf("the hook does not say which scenario this is")
	}
	if _, ok := loginv1.Stage_name[int32(b.GetStage())]; !ok || b.GetStage() == 0 {
		return fmt.Errorf("the hook does not say which stage this is")
	}
	for _, f := range []struct {
		name string
		n    int
		max  int
	}{
		{"user", len(b.GetUser()), maxUser}, {"caller", len(b.GetCaller()), maxCaller},
		{"service", len(b.GetService()), maxService}, {"remote_host", len(b.GetRemoteHost()), maxRemoteHost},
		{"session", len(b.GetSession()), maxSession}, {"locale", len(b.GetLocale()), maxLocale}, {"password", len(b.GetPassword()), maxPassword},
	} {
		if f.n > f.max {
			return fmt.Errorf("the hook's %s is %d bytes long, over %d", f.name, f.n, f.max)
		}
	}
	if len(b.GetUser()) == 0 {
		return fmt.Errorf("the hook does not say who wants in")
	}
	if len(b.GetPassword()) > 0 && b.GetHook() != loginv1.HookKind_HOOK_KIND_CREDENTIAL_PROVIDER {
		return fmt.Errorf("the hook sends a password, which only a credential provider may")
	}
	return nil
}

func promptDirective(p engine.Prompt) *loginv1.Directive {
	echo := loginv1.Prompt_ECHO_SECRET
	if p.Visible {
		echo = loginv1.Prompt_ECHO_VISIBLE
	}
	return &loginv1.Directive{Directive: &loginv1.Directive_Prompt{Prompt: &loginv1.Prompt{
		Id: p.ID, Echo: echo, Text: cut(p.Text, maxPrompt), EmptyAllowed: p.EmptyAllowed}}}
}

func noticeDirective(n engine.Notice) *loginv1.Directive {
	kind := loginv1.Notice_KIND_INFO
	if n.QR {
		kind = loginv1.Notice_KIND_QR
	}
	return &loginv1.Directive{Directive: &loginv1.Directive_Notice{Notice: &loginv1.Notice{Kind: kind, Text: cut(n.Text, maxNotice)}}}
}

func waitingDirective(w engine.Waiting) *loginv1.Directive {
	number, _ := strconv.ParseUint(w.Number, 10, 32) // digits, of push.NewChallenge
	return &loginv1.Directive{Directive: &loginv1.Directive_Waiting{Waiting: &loginv1.Waiting{
		Number: uint32(number), Device: cut(w.Phone, maxDevice), ExpiresInMs: uint32(max(0, w.For.Milliseconds()))}}}
}

func closeDirective(c engine.ClosePrompt) *loginv1.Directive {
	return &loginv1.Directive{Directive: &loginv1.Directive_ClosePrompt{ClosePrompt: &loginv1.ClosePrompt{Id: c.ID}}}
}

func verdictDirective(v engine.Verdict) *loginv1.Directive {
	decision := loginv1.Verdict_DECISION_DENY
	switch v.Decision {
	case engine.Allow:
		decision = loginv1.Verdict_DECISION_ALLOW
	case engine.Skip:
		decision = loginv1.Verdict_DECISION_SKIP
	}
	return &loginv1.Directive{Directive: &loginv1.Directive_Verdict{Verdict: &loginv1.Verdict{
		Decision: decision, Reason: cut(string(v.Reason), maxReason), Text: cut(v.Text, maxText)}}}
}

// cut shortens a text to n bytes without splitting a character.
func cut(s string, n int) []byte {
	for len(s) > n {
		_, size := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-size]
	}
	return []byte(s)
}
