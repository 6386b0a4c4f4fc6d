package pamtest

import (
	"bytes"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	loginv1 "sallyport/proto/sallyport/login/v1"
)

var record = flag.Bool("record-seeds", false, "write the fuzzers' seeds anew, from a real grpc-go server")

const seedDir = "../../internal/hookclient/fuzz/seeds"

// The behaviour byte of a seed, as in internal/hookclient/fuzz/input.h.
const (
	howTypes    = 0x00
	howEmpty    = 0x10
	howPassword = 0x20
	howFails    = 0x30
)

// seeds are logins as a real server speaks them, and what unit.c says of each.
var seeds = []struct {
	name string
	how  byte
	play script
	want string
}{
	{"allow", howTypes, says(allow()), "result 0 prompts 0 shown 0"},
	{"deny", howTypes, says(verdict(loginv1.Verdict_DECISION_DENY, "locked", "Try again in 15 minutes.")), "result 7 prompts 0 shown 1"},
	{"skip", howTypes, says(skip()), "result 25 prompts 0 shown 0"},
	{"code_allow", howTypes, promptThen(allow()), "result 0 prompts 1 shown 0"},
	{"code_deny", howTypes, promptThen(deny()), "result 7 prompts 1 shown 0"},
	{"code_twice", howTypes, func(s *session) {
		s.says(notice(loginv1.Notice_KIND_INFO, "Second factor for this computer"))
		s.asksForCode(1)
		s.hearsAnswer(1)
		s.says(notice(loginv1.Notice_KIND_ERROR, "That code is not right."))
		s.asksForCode(2)
		s.hearsAnswer(2)
		s.says(allow())
	}, "result 0 prompts 2 shown 2"},
	{"password", howPassword, promptThen(deny()), "result 7 prompts 1 shown 0"},
	{"empty", howEmpty, promptThen(allow()), "result 7 prompts 1 shown 0"},
	{"cancel", howFails, promptThen(allow()), "result 7 prompts 1 shown 0"},
	{"enrol", howTypes, func(s *session) {
		s.says(notice(loginv1.Notice_KIND_QR, strings.Repeat(strings.Repeat("█▀▄ ", 10)+"\n", 20)))
		s.asksForCode(1)
		s.hearsAnswer(1)
		s.says(allow())
	}, "result 0 prompts 1 shown 20"},
	{"push", howTypes, func(s *session) {
		s.says(waiting(42, "Pixel 8", time.Minute))
		s.says(&loginv1.Directive{Directive: &loginv1.Directive_ClosePrompt{ClosePrompt: &loginv1.ClosePrompt{Id: 1}}})
		s.says(verdict(loginv1.Verdict_DECISION_ALLOW, "push", "Approved."))
	}, "result 0 prompts 0 shown 2"},
	{"error", howTypes, func(s *session) { s.err = status.Error(codes.ResourceExhausted, "100% für alle") }, "result 7 prompts 0 shown 1"},
	{"no_verdict", howTypes, promptThen(nil), "result 7 prompts 1 shown 1"},
	{"verdict_0", howTypes, says(verdict(0, "", "")), "result 7 prompts 0 shown 1"},
}

func promptThen(d *loginv1.Directive) script {
	return func(s *session) {
		s.asksForCode(1)
		s.hearsAnswer(1)
		if d != nil {
			s.says(d)
		}
	}
}

// TestSeeds: what a real server sent is understood, however it is cut, and with
// any allocation failing nobody gets in. No block is freed with the answer in it.
func TestSeeds(t *testing.T) {
	if *record {
		recordSeeds(t)
	}
	unit := filepath.Join(out, "asan/unit")
	for _, c := range seeds {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			seed, err := os.ReadFile(filepath.Join(seedDir, c.name))
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), c.name)
			for how := byte(0); how < 16; how++ { // sizes of the pieces; gone or silent at the end
				seed[0] = c.how | how
				write(t, file, string(seed))
				text, err := exec.Command(unit, "login", file).CombinedOutput()
				if got := strings.TrimSpace(string(text)); err != nil || got != c.want {
					t.Errorf("cut by %d: %v\n%s\nwant %s", how, err, got, c.want)
				}
			}
			seed[0] = c.how
			write(t, file, string(seed))
			text, err := exec.Command(unit, "memory", file).CombinedOutput()
			if err != nil {
				t.Errorf("with memory short: %v\n%s", err, text)
			}
			t.Logf("%s", text)
		})
	}
}

// recorder is a listener that keeps what the server writes.
type recorder struct {
	net.Listener
	mu   sync.Mutex
	sent bytes.Buffer
}

type recorded struct {
	net.Conn
	r *recorder
}

func (r *recorder) Accept() (net.Conn, error) {
	c, err := r.Listener.Accept()
	return recorded{c, r}, err
}

func (c recorded) Write(b []byte) (int, error) {
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	c.r.sent.Write(b)
	return c.Conn.Write(b)
}

// recordSeeds plays each script to a client that answers, and stops the server
// gracefully, so that trailers and GOAWAY are in the recording.
func recordSeeds(t *testing.T) {
	t.Helper()
	for _, c := range seeds {
		r := &recorder{Listener: listen(t)}
		a := &agent{t: t, scripts: []script{c.play}}
		server := grpc.NewServer()
		loginv1.RegisterLoginServiceServer(server, a)
		go server.Serve(r)
		talk(t, r.Addr().String())
		server.GracefulStop()
		seed := append([]byte{c.how}, r.sent.Bytes()...)
		if err := os.WriteFile(filepath.Join(seedDir, c.name), seed, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// talk logs in with the shipped module and answers every prompt.
func talk(t *testing.T, socket string) {
	t.Helper()
	p := shipped.sit(t, socket, login{})
	p.authenticate()
	for {
		event := <-p.events
		if event == nil || event[0] == "ret" {
			return
		}
		if event[0] == "msg" {
			p.say("reply %s", toHex("123456"))
		}
	}
}

// TestFuzz lets libFuzzer play the agent for some seconds; make -C pam fuzz does
// it for longer.
func TestFuzz(t *testing.T) {
	if _, err := exec.LookPath("clang"); err != nil {
		t.Skip("clang, which brings libFuzzer, is not installed")
	}
	if testing.Short() {
		t.Skip("fuzzing takes 10 s")
	}
	if text, err := runMake(out, "fuzzers"); err != nil {
		t.Fatalf("make fuzzers: %v (Debian: clang and libclang-rt-dev)\n%s", err, text)
	}
	for _, name := range []string{"hookclient", "module"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			cmd := exec.Command(filepath.Join(out, "fuzz_"+name), "-seed=1", "-max_total_time=5", "-max_len=16384", "-timeout=60",
				"-rss_limit_mb=1024", "-print_final_stats=1", "-artifact_prefix="+dir+"/", dir, seedDir)
			text, err := cmd.CombinedOutput()
			if err != nil {
				crashes, _ := filepath.Glob(filepath.Join(dir, "*-*"))
				var input string
				if len(crashes) > 0 {
					b, _ := os.ReadFile(crashes[0])
					input = fmt.Sprintf("%q", b)
				}
				t.Fatalf("%v\n%s\ninput: %s", err, text, input)
			}
			for line := range strings.Lines(string(text)) {
				if strings.Contains(line, "stat::number_of_executed_units") || strings.Contains(line, "DONE") {
					t.Log(strings.TrimSpace(line))
				}
			}
		})
	}
}
