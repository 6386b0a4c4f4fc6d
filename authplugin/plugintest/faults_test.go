//go:build linux

package plugintest

import (
	"debug/elf"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/internal/testkit/sandbox"
	loginv1 "sallyport/proto/sallyport/login/v1"
)

// codeAgent asks for 123456, tells of a wrong one, and allows the right one.
func codeAgent(s loginv1.LoginService_ConverseServer) error {
	if err := s.Send(asks(1, "Code: ")); err != nil {
		return err
	}
	m, err := s.Recv()
	if err != nil {
		return err
	}
	switch string(m.GetAnswer().GetText()) {
	case "123456":
		return s.Send(decides(loginv1.Verdict_DECISION_ALLOW, "code_accepted"))
	default:
		return s.Send(decides(loginv1.Verdict_DECISION_DENY, "wrong_code"))
	}
}

// Each callback fails, once in each mechanism or always: the list ends, or waits for
// authd, which alone can end it then. Nobody is let in whom the agent has not allowed.
func TestCallbacksThatFail(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		for _, callback := range []string{"SetResult", "RequestInterrupt", "GetContextValue", "SetContextValue", "GetHintValue", "SetHintValue",
			"GetArguments", "GetSessionId", "GetImmutableHintValue", "RemoveHintValue", "RemoveContextValue"} {
			t.Run(callback, func(t *testing.T) {
				t.Parallel() // the plug-in waits most of the time
				s := b.start(t, plays(t, codeAgent), options{})
				// Where the answer could not be overwritten it stays.
				s.tolerates = []string{"what was typed is in the hint " + answerHint}
				for _, at := range []string{"begin", "prompt", "verify"} {
					for _, count := range []int{1, 2, -1} {
						s.callbackFails(t, callback, at, count)
					}
				}
			})
		}
	})
}

// callbackFails is a login in which a callback fails so often from a mechanism on (-1:
// always).
func (s *standin) callbackFails(t *testing.T, callback, at string, count int) {
	t.Helper()
	l := s.login(t, newAccount(t, "f"), atLogin)
	l.do("step")
	l.runs()
	typed, allowed, armed, windows := "654321", false, false, 0
story:
	for {
		switch f := l.until("pause", "shown", "failed", "ended"); f[0] {
		case "pause":
			if f[1] == at && !armed {
				armed = true
				l.do("fail %s %d", callback, count)
			}
			l.do("go")
		case "shown":
			// An answer that never arrives is asked for as long as somebody types one.
			if windows++; windows > 4 {
				l.cancels()
				break story
			}
			if l.shown.kind == "ask" {
				l.types(typed)
				allowed = typed == "123456"
				typed = "123456"
			} else {
				l.types("")
			}
		case "failed":
			if callback == "SetResult" { // authd knows of no result, and waits
				break story
			}
		case "ended":
			if f[1] == "allow" && !allowed {
				t.Errorf("%s fails in %s: let in; %s", callback, at, l.story())
			}
			break story
		}
	}
	l.do("fail %s 0", callback)
	l.closes()
}

// DidDeactivate fails: the plug-in has nothing left to say, and can be destroyed.
func TestDidDeactivateFails(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		s := b.start(t, plays(t, codeAgent), options{})
		l := s.login(t, newAccount(t, "f"), atLogin).runs()
		l.isAsked("Code")
		l.do("fail DidDeactivate -1")
		l.types("000000")
		l.until("failed")
		l.closes()
		l.do("fail DidDeactivate 0")
		l = s.login(t, newAccount(t, "f"), atLogin).runs()
		l.isAsked("Code")
		l.types("123456")
		l.isIn()
	})
}

// stuckAt is an agent that stops saying anything at a point of the first login, and
// says on reached that it is there; later logins are codeAgent's.
func stuckAt(point string, reached chan<- struct{}) func(s loginv1.LoginService_ConverseServer) error {
	var logins atomic.Int32
	return func(s loginv1.LoginService_ConverseServer) error {
		if logins.Add(1) > 1 {
			return codeAgent(s)
		}
		switch point {
		case "window":
			if err := s.Send(asks(1, "Code: ")); err != nil {
				return err
			}
		case "ringing":
			if err := says(rings(), asks(1, "Code: "))(s); err != nil {
				return err
			}
		case "verify":
			if err := s.Send(asks(1, "Code: ")); err != nil {
				return err
			}
			if _, err := s.Recv(); err != nil {
				return err
			}
		}
		close(reached)
		<-s.Context().Done()
		return s.Context().Err()
	}
}

// Whose name it is cannot be looked up: nobody knows that the uid, which authd logs in, is
// the same person's, and the agent is not asked.
func TestAccountThatCannotBeLookedUp(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		s := b.start(t, plays(t, codeAgent), options{})
		who := newAccount(t, "f")
		other := account{who.name, 4_000_000}
		l := s.login(t, other, atLogin).runs() // its line in the log opens the log
		l.isTold("did not say who")
		l.cancels()
		l.isOut()
		l.closes()

		l = s.login(t, other, atLogin)
		var before unix.Rlimit
		must(t, unix.Prlimit(s.cmd.Process.Pid, unix.RLIMIT_NOFILE, nil, &before))
		must(t, unix.Prlimit(s.cmd.Process.Pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Max: before.Max}, nil)) // passwd(5) cannot be opened
		l.runs().isTold("could not be looked up")
		must(t, unix.Prlimit(s.cmd.Process.Pid, unix.RLIMIT_NOFILE, &before, nil))
		l.cancels()
		l.isOut()
		l.closes()
		s.log.says(t, "could not be looked up: Too many open files")

		l = s.login(t, who, atLogin).runs()
		l.isAsked("Code")
		l.types("123456")
		l.isIn()
	})
}

// points are where a login can be when authd has it deactivated or destroyed.
var points = []string{"begin", "window", "ringing", "verify"}

// reach takes a login to a point.
func (l *login) reach(point string, reached <-chan struct{}) {
	l.t.Helper()
	l.runs()
	switch point {
	case "window", "ringing":
		l.isAsked("Code")
	case "verify":
		l.isAsked("Code")
		l.types("123456")
	}
	<-reached
}

// Deactivate at every point, as when another plug-in's mechanism before ours
// interrupts: the login that was is over, and another begins.
func TestDeactivateAtEveryPoint(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		for _, point := range points {
			reached := make(chan struct{})
			l := b.start(t, plays(t, stuckAt(point, reached)), options{}).login(t, newAccount(t, "d"), "other:x,privileged "+atLogin)
			l.reach(point, reached)
			l.do("interrupt other:x")
			l.isAsked("Code")
			l.types("123456")
			l.isIn()
			if !strings.HasSuffix(strings.Join(l.trail, ", "), asked) || !slices.ContainsFunc(l.trail, func(s string) bool { return strings.HasPrefix(s, "deactivated") }) {
				t.Errorf("%s: the mechanisms went %v", point, l.trail)
			}
		}
	})
}

// Destroy at every point, in the middle of an invocation, and the end of everything
// with a login open.
func TestDestroyAtEveryPoint(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		for _, point := range points {
			reached := make(chan struct{})
			s := b.start(t, plays(t, stuckAt(point, reached)), options{})
			l := s.login(t, newAccount(t, "d"), atLogin)
			l.reach(point, reached)
			l.closes()
			l = s.login(t, newAccount(t, "d"), atLogin).runs()
			l.isAsked("Code")
			l.types("123456")
			l.isIn()
			l = s.login(t, newAccount(t, "d"), atLogin).runs() // PluginDestroy with it open
			l.isAsked("Code")
		}
	})
}

// The object keeps no state of its own, and shows nothing but what authd looks for.
func TestTheObject(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	f, err := elf.Open(shipped.plugin)
	must(t, err)
	defer f.Close()
	symbols, err := f.Symbols()
	must(t, err)
	for _, s := range symbols {
		if s.Size == 0 || int(s.Section) >= len(f.Sections) || s.Name == "completed.0" { // crtbegin's
			continue
		}
		switch name := f.Sections[s.Section].Name; name {
		case ".data", ".bss", ".tdata", ".tbss":
			t.Errorf("%s is in %s: state outlives a login there", s.Name, name)
		}
	}
	dynamic, err := f.DynamicSymbols()
	must(t, err)
	for _, s := range dynamic {
		if s.Section != elf.SHN_UNDEF && s.Name != "AuthorizationPluginCreate" {
			t.Errorf("the object exports %s", s.Name)
		}
	}
}

// mixedAgent plays something else at each login: what the 1,000 logins are made of.
func mixedAgent(s *mixed, stream loginv1.LoginService_ConverseServer) error {
	switch s.n.Add(1) % 5 {
	case 0: // approved on the phone while the window is open
		if err := says(rings(), asks(1, "Ringing: "))(stream); err != nil {
			return err
		}
		return says(&loginv1.Directive{Directive: &loginv1.Directive_ClosePrompt{ClosePrompt: &loginv1.ClosePrompt{Id: 1}}},
			decides(loginv1.Verdict_DECISION_ALLOW, "push_approved"))(stream)
	case 1:
		return stream.Send(decides(loginv1.Verdict_DECISION_SKIP, "not_asked"))
	default:
		return codeAgent(stream)
	}
}

type mixed struct{ n atomic.Int32 }

// 1,000 logins in one process, eight at a time: right and wrong codes, approvals,
// cancelled ones, ones destroyed in the middle. No memory, thread or descriptor is left.
func TestThousandLogins(t *testing.T) {
	each(t, func(t *testing.T, b build) {
		logins := 1000
		if b == asan {
			logins = 200 // LeakSanitizer finds at the end what was left
		}
		state := new(mixed)
		s := b.start(t, plays(t, func(stream loginv1.LoginService_ConverseServer) error { return mixedAgent(state, stream) }), options{})
		who := newAccount(t, "m")
		run := func(n int) {
			var wait sync.WaitGroup
			for worker := range 8 {
				wait.Go(func() {
					for i := range n / 8 {
						if t.Failed() {
							return
						}
						s.oneOfMany(t, who, worker*n/8+i)
					}
				})
			}
			wait.Wait()
		}
		watch := s.login(t, who, "")
		run(logins / 5)
		before := watch.settled(nil)
		run(logins)
		after := watch.settled(&before)
		t.Logf("%s: before %+v, after %d more logins %+v", b.name, before, logins, after)
		if after.threads > before.threads || after.files > before.files+1 { // one is the system's log's, from its first line on
			t.Errorf("threads or descriptors are left: %+v, then %+v", before, after)
		}
		if b == shipped && (after.heap > before.heap+64<<10 || after.resident > before.resident+2048) {
			t.Errorf("the process has grown: %+v, then %+v", before, after)
		}
	})
}

// settled is the memory once the threads of the last logins are gone.
func (l *login) settled(before *memory) memory {
	l.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		m := l.memory()
		if before == nil && m.threads <= 2 || before != nil && m.threads <= before.threads && m.files <= before.files+1 || time.Now().After(deadline) {
			return m
		}
	}
}

// oneOfMany is a login of any kind; i tells what the person does.
func (s *standin) oneOfMany(t *testing.T, who account, i int) {
	l := s.login(t, who, atLogin).runs()
	for tries := 0; ; tries++ {
		f := l.until("shown", "ended", "idle")
		switch {
		case f[0] == "ended":
			l.closes()
			return
		case f[0] == "idle": // the window went while somebody was typing
		case l.shown.kind == "tell" || i%7 == 3:
			l.cancels()
		case i%11 == 5:
			l.closes()
			return
		case l.shown.text == "Ringing":
		case tries == 0 && i%3 == 0:
			l.types("000000")
		default:
			l.types("123456")
		}
	}
}

// valgrind sees what sanitizers do not: the plug-in as it is built for release.
func TestValgrind(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	if _, err := exec.LookPath("valgrind"); err != nil {
		t.Skip("valgrind is not installed")
	}
	s := shipped.start(t, plays(t, codeAgent), options{wrapper: []string{"valgrind", "-q", "--error-exitcode=9", "--leak-check=full", "--show-leak-kinds=definite,indirect,possible", "--fair-sched=yes"}})
	for i, typed := range []string{"123456", "000000", "cancel", "destroy"} {
		l := s.login(t, newAccount(t, "v"), atLogin).runs()
		l.isAsked("Code")
		switch typed {
		case "cancel":
			l.cancels()
			l.isOut()
		case "destroy":
		case "000000":
			l.types(typed)
			l.isAsked("Code")
			l.types("123456")
			l.isIn()
		default:
			l.types(typed)
			l.isIn()
		}
		l.closes()
		if t.Failed() {
			t.Fatal(fmt.Sprint("login ", i))
		}
	}
}
