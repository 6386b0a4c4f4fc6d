//go:build linux

package openpam

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"

	loginv1 "sallyport/proto/sallyport/login/v1"
)

// scripted is an agent that says these in turn and takes an answer after each prompt.
// It returns its socket.
func scripted(t *testing.T, says ...*loginv1.Directive) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "op")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "login.sock"))
	must(t, err)
	s := grpc.NewServer()
	loginv1.RegisterLoginServiceServer(s, script{says: says})
	go s.Serve(l)
	t.Cleanup(s.Stop)
	return filepath.Join(dir, "login.sock")
}

type script struct {
	loginv1.UnimplementedLoginServiceServer
	says []*loginv1.Directive
}

func (s script) Converse(stream loginv1.LoginService_ConverseServer) error {
	if _, err := stream.Recv(); err != nil {
		return err
	}
	for _, d := range s.says {
		if err := stream.Send(d); err != nil {
			return err
		}
		if d.GetPrompt() != nil {
			if _, err := stream.Recv(); err != nil {
				return err
			}
		}
	}
	return nil
}

func asks(text string) *loginv1.Directive {
	return &loginv1.Directive{Directive: &loginv1.Directive_Prompt{Prompt: &loginv1.Prompt{Id: 1, Echo: loginv1.Prompt_ECHO_VISIBLE, Text: []byte(text)}}}
}

func shows(kind loginv1.Notice_Kind, text string) *loginv1.Directive {
	return &loginv1.Directive{Directive: &loginv1.Directive_Notice{Notice: &loginv1.Notice{Kind: kind, Text: []byte(text)}}}
}

var allows = &loginv1.Directive{Directive: &loginv1.Directive_Verdict{Verdict: &loginv1.Verdict{Decision: loginv1.Verdict_DECISION_ALLOW, Reason: []byte("totp")}}}

// OpenPAM's pam_prompt cuts what is longer than PAM_MAX_MSG_SIZE (512 with its NUL):
// whoever does not see the end of a prompt does not see the question.
func TestOpenPAMCutsLongMessages(t *testing.T) {
	row := strings.Repeat("█▀▄ ", 16)
	qr := strings.TrimSuffix(strings.Repeat(row+"\n", 30), "\n")
	question := "Enter 42 on your phone (Pixel 8), then press Enter, or type a code: "
	lines := strings.Repeat("é", 100) + "\n" + strings.Repeat("x", 512-200-1-1-len(question)) + "\n" + question
	for name, c := range map[string]struct {
		says   *loginv1.Directive
		shown  []string
		prompt string
	}{
		"a prompt that just fits":      {asks(strings.Repeat("x", 511)), nil, strings.Repeat("x", 511)},
		"one byte more":                {asks(strings.Repeat("x", 512)), []string{strings.Repeat("x", 511)}, "x"},
		"no character is torn":         {asks("x" + strings.Repeat("é", 255) + "?"), []string{"x" + strings.Repeat("é", 255)}, "?"},
		"nor one at the bound":         {asks(strings.Repeat("é", 255) + "é"), []string{strings.Repeat("é", 255)}, "é"},
		"the question is at the end":   {asks(lines), []string{strings.Repeat("é", 100)}, lines[201:]},
		"a QR code, line by line":      {shows(loginv1.Notice_KIND_QR, qr), strings.Split(qr, "\n"), ""},
		"a line of many messages":      {shows(loginv1.Notice_KIND_ERROR, strings.Repeat("y", 1100)), []string{strings.Repeat("y", 511), strings.Repeat("y", 511), strings.Repeat("y", 78)}, ""},
		"an empty line between others": {shows(loginv1.Notice_KIND_ERROR, "one\n\ntwo"), []string{"one", "", "two"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, b build) {
				p := &person{name: "root"}
				l := b.sudo(t, b.guarded(t, scripted(t, c.says, allows), ""), p)
				l.password()
				style := textInfo
				if c.says.GetNotice().GetKind() == loginv1.Notice_KIND_ERROR {
					style = errorMsg
				}
				for i, want := range c.shown {
					if got := l.sees(style, ""); got != want {
						t.Fatalf("message %d is\n%q\nwant\n%q", i, got, want)
					}
				}
				if c.prompt != "" {
					if got := l.sees(echoOn, ""); got != c.prompt {
						t.Fatalf("the prompt is\n%q\nwant\n%q", got, c.prompt)
					}
					l.types("123456")
				}
				l.returns(success)
			})
		})
	}
}
