//go:build unix

package authdb

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"html"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/internal/acl"
	"sallyport/internal/event"
)

// fault is what a program does instead of its work.
type fault string

const (
	works     fault = ""
	fails     fault = "fails"                 // and does nothing
	dies      fault = "dies behind its work"  // does it, and says that it failed
	hangs     fault = "hangs"                 // until it is killed
	hangsDone fault = "hangs behind its work" // does it, then hangs
	halves    fault = "halves"                // half of what it should write or print
	empties   fault = "says nothing"
	lies      fault = "lies" // says that it did, or prints another right
)

// authd stands in for authd, security(1), codesign(1) and the dry load.
type authd struct {
	rights map[string][]byte
	team   string
	load   error
	calls  []string
	plan   map[int]fault // by the number of the call, from 1 on
	stamp  int
	// meanwhile is done once, before the call with that number: another product.
	meanwhile map[int]func()
}

func newAuthd(t testing.TB) *authd {
	return &authd{team: "ABCDE12345", rights: map[string][]byte{
		Console: fixture(t, "console-crypt"), Authenticate: fixture(t, "authenticate-acme"), Screensaver: fixture(t, "screensaver-13-14")}}
}

// normal is a definition as authd prints it: its own order, times and writer.
func (a *authd) normal(plist []byte) ([]byte, error) {
	root, err := parse(plist)
	if err != nil {
		return nil, err
	}
	a.stamp++
	var b strings.Builder
	var print func(v *value)
	print = func(v *value) {
		fmt.Fprintf(&b, "<%s>", v.kind)
		if v.kind == "dict" {
			for _, k := range slices.Sorted(slices.Values(v.keys)) {
				fmt.Fprintf(&b, "\n<key>%s</key>\n", html.EscapeString(k))
				if x := v.of(k); k == "modified" {
					fmt.Fprintf(&b, "<real>%d</real>", a.stamp)
				} else {
					print(x)
				}
			}
		}
		for _, i := range v.items {
			if v.kind == "array" {
				print(i)
			}
		}
		fmt.Fprintf(&b, "%s</%s>", html.EscapeString(v.text), v.kind)
	}
	print(root)
	return []byte("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<plist version=\"1.0\">\n" + b.String() + "\n</plist>\n"), nil
}

var errExit = errors.New("exit status 1")

// run is a Runner.
func (a *authd) run(ctx context.Context, stdin []byte, program string, args ...string) (Output, error) {
	a.calls = append(a.calls, strings.Join(append([]string{filepath.Base(program)}, args...), " "))
	n := len(a.calls)
	if f := a.meanwhile[n]; f != nil {
		f()
	}
	if ctx.Err() != nil {
		return Output{}, ctx.Err()
	}
	switch f := a.plan[n]; f {
	case fails:
		return Output{Stderr: []byte("NO (-60005)\n")}, errExit
	case hangs:
		<-ctx.Done()
		return Output{}, ctx.Err()
	case dies:
		_, _ = a.work(stdin, program, args)
		return Output{Stderr: []byte("Killed: 9\n")}, errExit
	case hangsDone:
		_, _ = a.work(stdin, program, args)
		<-ctx.Done()
		return Output{}, ctx.Err()
	case halves:
		out, err := a.work(stdin[:len(stdin)/2], program, args)
		out.Stdout, out.Stderr = out.Stdout[:len(out.Stdout)/2], out.Stderr[:len(out.Stderr)/2]
		return out, err
	case empties:
		return Output{}, nil
	case lies:
		if len(args) > 2 && args[1] == "read" {
			return Output{Stdout: bytes.ReplaceAll(a.rights[args[2]], []byte("true"), []byte("false"))}, nil
		}
		return Output{Stdout: []byte("yes\n"), Stderr: []byte("YES (0)\n")}, nil
	}
	return a.work(stdin, program, args)
}

func (a *authd) work(stdin []byte, program string, args []string) (Output, error) {
	switch {
	case program == securityTool && args[1] == "read":
		plist, ok := a.rights[args[2]]
		if !ok {
			return Output{Stderr: []byte("NO (-60005)\n")}, errExit
		}
		return Output{Stdout: slices.Clone(plist), Stderr: []byte("YES (0)\n")}, nil
	case program == securityTool && args[1] == "write":
		plist, err := a.normal(stdin)
		if err != nil {
			return Output{Stderr: []byte("NO (-60008)\n")}, errExit
		}
		a.rights[args[2]] = plist
		return Output{Stderr: []byte("YES (0)\n")}, nil
	case program == codesignTool && args[0] == "--display":
		if a.team == "" {
			return Output{Stderr: []byte("Signature=adhoc\nTeamIdentifier=not set\n")}, nil
		}
		return Output{Stderr: []byte("Executable=/x\nTeamIdentifier=" + a.team + "\nSealed Resources=none\n")}, nil
	case program == codesignTool && args[0] == "--verify":
		if want := `=anchor apple generic and certificate leaf[subject.OU] = "ABCDE12345"`; args[4] != want || !slices.Equal(args[1:4], []string{"--strict", "--deep", "--test-requirement"}) {
			return Output{Stderr: []byte("test-requirement: code failed to satisfy specified code requirement(s)\n")}, errExit
		}
		return Output{}, nil
	case slices.Equal(args[:2], DryLoad):
		if a.load != nil {
			return Output{Stderr: []byte(a.load.Error())}, errExit
		}
		return Output{Stdout: []byte(loaded + "\n")}, nil
	}
	panic("nobody runs " + program)
}

// bundle makes a bundle with code for this processor, or another one.
func bundle(t testing.TB, cpu uint32, fileType uint32, symbol string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "Sallyport.bundle")
	if err := os.MkdirAll(filepath.Join(dir, "Contents/MacOS"), 0o755); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	put := func(words ...uint32) { _ = binary.Write(&b, binary.LittleEndian, words) }
	// mach-o/loader.h: mach_header_64, one symtab_command, one nlist_64, its name.
	put(0xfeedfacf, cpu, 0, fileType, 1, 24, 0, 0)
	put(2, 24, 56, 1, 72, uint32(len(symbol)+2))
	put(1, 0x0000010f, 0, 0)
	b.WriteString("\x00" + symbol + "\x00")
	if err := os.WriteFile(filepath.Join(dir, executable), b.Bytes(), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

var (
	ownCPU   = map[string]uint32{"amd64": 0x01000007, "arm64": 0x0100000c}[runtime.GOARCH]
	otherCPU = 0x0100000c + 0x01000007 - ownCPU
)

const mhBundle, mhDylib = 8, 6

// world is a computer with authd's stand-in and the plug-in.
func world(t testing.TB, a *authd) *Rights {
	t.Helper()
	return &Rights{StateDir: t.TempDir(), Wanted: Wanted{Login: true, Unlock: true}, MayRepair: true,
		Bundle: bundle(t, ownCPU, mhBundle, "_"+entryPoint), Program: "/Library/Application Support/Sallyport/bin/sallyport",
		Answers: func(context.Context) error { return nil }, Run: a.run, Owner: os.Geteuid()}
}

func (a *authd) guarded(t testing.TB, right string) bool {
	t.Helper()
	if right == Screensaver {
		_, name, err := ruleOf(a.rights[right])
		if err != nil {
			t.Fatal(err)
		}
		return name.text == ruleAuthenticate
	}
	return inPlace(right, names(t, a.rights[right])) == nil
}

func TestInstallTwiceAndRemove(t *testing.T) {
	a := newAuthd(t)
	before := newAuthd(t)
	r := world(t, a)
	result, err := r.Install(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, c := range result.Changed {
		order = append(order, c.Right)
	}
	// The login window last: everything that can go wrong has gone wrong before.
	if !slices.Equal(order, []string{Authenticate, Screensaver, Console}) {
		t.Errorf("the order was %q", order)
	}
	for right := range a.rights {
		if !a.guarded(t, right) {
			t.Errorf("%s is not guarded: %s", right, a.rights[right])
		}
		if b, err := os.ReadFile(r.Backup(right)); err != nil || !bytes.Equal(b, before.rights[right]) {
			t.Errorf("the backup of %s: %v", right, err)
		}
	}
	if report := r.Check(t.Context()); !report.OK || !report.Installed || report.LockedOut() {
		t.Errorf("it is not right: %+v", report)
	}
	writes := func() (n int) {
		for _, c := range a.calls {
			if strings.Contains(c, " write ") {
				n++
			}
		}
		return n
	}
	n := writes()
	if result, err := r.Install(t.Context()); err != nil || len(result.Changed) != 0 || writes() != n {
		t.Errorf("a second time it did %+v, %v", result, err)
	}
	for right := range a.rights {
		if b, err := os.ReadFile(r.Backup(right)); err != nil || !bytes.Equal(b, before.rights[right]) {
			t.Errorf("the second installation took the backup of %s away: %v", right, err)
		}
	}
	if result, err = r.Remove(t.Context()); err != nil || result.Changed[0].Right != Console {
		t.Errorf("removing: %+v, %v", result, err)
	}
	for right := range a.rights {
		if !Same(a.rights[right], before.rights[right]) {
			t.Errorf("%s is not as it was: %s", right, a.rights[right])
		}
	}
	r.Wanted = Wanted{}
	if report := r.Check(t.Context()); !report.OK || report.Installed {
		t.Errorf("something is left: %+v", report)
	}
	if result, err := r.Remove(t.Context()); err != nil || len(result.Changed) != 0 {
		t.Errorf("removing again: %+v, %v", result, err)
	}
}

func TestWhatIsNoLongerWantedGoes(t *testing.T) {
	a := newAuthd(t)
	before := newAuthd(t)
	r := world(t, a)
	if _, err := r.Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.Wanted = Wanted{Login: true}
	if report := r.Check(t.Context()); report.OK {
		t.Error("two rights too many are guarded, and check says that is right")
	}
	if _, err := r.Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !a.guarded(t, Console) || !Same(a.rights[Authenticate], before.rights[Authenticate]) || !Same(a.rights[Screensaver], before.rights[Screensaver]) {
		t.Errorf("%s", a.rights)
	}
	if report := r.Check(t.Context()); !report.OK {
		t.Errorf("%+v", report)
	}
	if b, err := os.ReadFile(r.Backup(Authenticate)); err != nil || !bytes.Equal(b, before.rights[Authenticate]) {
		t.Errorf("the backup is no longer of before the first installation: %v", err)
	}
}

func TestUnlockGuardsWhatElevateDoes(t *testing.T) {
	for _, c := range []struct {
		wanted                             Wanted
		console, authenticate, screensaver bool
	}{
		{Wanted{}, false, false, false},
		{Wanted{Login: true}, true, false, false},
		{Wanted{Elevate: true}, false, true, false},
		{Wanted{Unlock: true}, false, true, true},
		{Wanted{Unlock: true, Elevate: true}, false, true, true},
	} {
		a := newAuthd(t)
		r := world(t, a)
		r.Wanted = c.wanted
		if _, err := r.Install(t.Context()); err != nil {
			t.Fatal(err)
		}
		if a.guarded(t, Console) != c.console || a.guarded(t, Authenticate) != c.authenticate || a.guarded(t, Screensaver) != c.screensaver {
			t.Errorf("%+v: console %v, authenticate %v, screensaver %v", c.wanted, a.guarded(t, Console), a.guarded(t, Authenticate), a.guarded(t, Screensaver))
		}
		if report := r.Check(t.Context()); !report.OK {
			t.Errorf("%+v: %+v", c.wanted, report)
		}
	}
}

// A screensaver that led to authd's own rule before us is not ours to change back.
func TestAScreensaverOfSomebodyElsesStays(t *testing.T) {
	a := newAuthd(t)
	a.rights[Screensaver] = bytes.Replace(a.rights[Screensaver], []byte("<string>"+ruleLoginWindow), []byte("<string>"+ruleAuthenticate), 1)
	r := world(t, a)
	for _, f := range []func(context.Context) (Result, error){r.Install, r.Remove} {
		if _, err := f(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if !a.guarded(t, Screensaver) {
		t.Error("the administrator's own rule was taken away")
	}
}

// TestEveryFailureLeavesTheOldState goes through every call of an installation, and
// has it go wrong in every way.
func TestEveryFailureLeavesTheOldState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		good := newAuthd(t)
		if _, err := world(t, good).Install(t.Context()); err != nil {
			t.Fatal(err)
		}
		refused := 0
		for n := range good.calls {
			for _, f := range []fault{fails, dies, hangs, hangsDone, halves, empties, lies} {
				for _, again := range []int{0, 1, 2} { // and another failure while it is put back
					a, before := newAuthd(t), newAuthd(t)
					a.plan = map[int]fault{n + 1: f}
					if again > 0 && f != lies {
						a.plan[n+1+again] = fails
					}
					r := world(t, a)
					_, err := r.Install(t.Context())
					what := fmt.Sprintf("call %d (%s) %s, and %d later one fails: %v", n+1, good.calls[n], f, again, err)
					m, broken := r.recall()
					if broken != nil {
						t.Fatalf("%s: %v", what, broken)
					}
					if err != nil {
						refused++
					}
					for right := range a.rights {
						if err != nil && !Same(a.rights[right], before.rights[right]) {
							t.Errorf("%s: %s is not as it was:\n%s", what, right, a.rights[right])
						}
						if err == nil && !a.guarded(t, right) {
							t.Errorf("%s: %s is not guarded", what, right)
						}
					}
					if (err == nil) != (len(m.Installed) == 3) {
						t.Errorf("%s: remembered is %+v", what, m)
					}
				}
			}
		}
		if refused < len(good.calls)*10 {
			t.Errorf("only %d of the faults had a consequence", refused)
		}
	})
}

// TestARemovalThatFailsHalfwayHasNoHalfRights: each right is as it was or without
// ours, and what can be taken out is.
func TestARemovalThatFailsHalfwayHasNoHalfRights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 1
		for n := 1; n <= calls; n++ {
			for _, f := range []fault{fails, dies, hangs, hangsDone, halves, empties, lies} {
				a, before := newAuthd(t), newAuthd(t)
				r := world(t, a)
				if _, err := r.Install(t.Context()); err != nil {
					t.Fatal(err)
				}
				a.calls, a.plan = nil, map[int]fault{n: f}
				_, err := r.Remove(t.Context())
				calls = max(calls, len(a.calls))
				left := 0
				for right := range a.rights {
					switch {
					case Same(a.rights[right], before.rights[right]):
					case a.guarded(t, right):
						left++
					default:
						t.Errorf("call %d %s: %s is neither:\n%s", n, f, right, a.rights[right])
					}
				}
				if left > 1 || (err == nil) != (left == 0) && f != dies && f != hangsDone {
					t.Errorf("call %d %s: %d rights are left, %v", n, f, left, err)
				}
				if m, err := r.recall(); err != nil || len(m.Installed) != 0 {
					t.Errorf("call %d %s: the agent would put ours back: %+v, %v", n, f, m, err)
				}
				a.plan = nil
				if _, err := r.Remove(t.Context()); err != nil {
					t.Errorf("call %d %s: removing again: %v", n, f, err)
				}
				for right := range a.rights {
					if !Same(a.rights[right], before.rights[right]) {
						t.Errorf("call %d %s: %s is not as it was", n, f, right)
					}
				}
			}
		}
		if calls < 9 {
			t.Errorf("a removal has %d calls", calls)
		}
	})
}

func TestWhatCannotBePutBackIsSaid(t *testing.T) {
	a := newAuthd(t)
	r := world(t, a)
	r.Wanted = Wanted{Login: true}
	// From the first write on nothing answers any more.
	broken := false
	r.Run = func(ctx context.Context, stdin []byte, program string, args ...string) (Output, error) {
		if broken {
			return Output{}, errExit
		}
		broken = program == securityTool && args[1] == "write"
		return a.run(ctx, stdin, program, args...)
	}
	_, err := r.Install(t.Context())
	var stuck *NotUndoneError
	if !errors.As(err, &stuck) || stuck.Right != Console {
		t.Errorf("it says %v", err)
	}
}

// TestWhatCannotBeRememberedIsUndone: without the mark the agent would not repair, and
// a removal would not know what the screensaver led to.
func TestWhatCannotBeRememberedIsUndone(t *testing.T) {
	good := newAuthd(t)
	if _, err := world(t, good).Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{slices.IndexFunc(good.calls, func(s string) bool { return strings.Contains(s, " read ") }) + 1, len(good.calls)} {
		a, before := newAuthd(t), newAuthd(t)
		r := world(t, a)
		a.meanwhile = map[int]func(){n: func() {
			must(os.RemoveAll(r.dir()))
			must(os.WriteFile(r.dir(), nil, 0o600))
		}}
		if _, err := r.Install(t.Context()); err == nil {
			t.Errorf("from call %d on nothing can be remembered, and it says nothing", n)
		}
		for right := range a.rights {
			if !Same(a.rights[right], before.rights[right]) {
				t.Errorf("from call %d on: %s is not as it was", n, right)
			}
		}
	}
}

// TestAnotherProductMeanwhile: what somebody else writes between our reading and our
// writing is not lost.
func TestAnotherProductMeanwhile(t *testing.T) {
	a := newAuthd(t)
	r := world(t, a)
	r.Wanted = Wanted{Login: true}
	reads := 0
	r.Run = func(ctx context.Context, stdin []byte, program string, args ...string) (Output, error) {
		out, err := a.run(ctx, stdin, program, args...)
		if program == securityTool && args[1] == "read" && args[2] == Console {
			if reads++; reads == 1 {
				a.rights[Console] = fixture(t, "console-jamf-connect")
			}
		}
		return out, err
	}
	if _, err := r.Install(t.Context()); err == nil || !strings.Contains(err.Error(), "another program") {
		t.Errorf("it says %v", err)
	}
	if !bytes.Equal(a.rights[Console], fixture(t, "console-jamf-connect")) {
		t.Error("the other product's change is gone")
	}
}

// TestInterruptedIsPutBack: whoever stops the command stops the installation, not the
// way back.
func TestInterruptedIsPutBack(t *testing.T) {
	good := newAuthd(t)
	if _, err := world(t, good).Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	for n := range good.calls {
		a, before := newAuthd(t), newAuthd(t)
		r := world(t, a)
		ctx, cancel := context.WithCancel(t.Context())
		a.meanwhile = map[int]func(){n + 1: cancel}
		if _, err := r.Install(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("interrupted at call %d: %v", n+1, err)
		}
		for right := range a.rights {
			if !Same(a.rights[right], before.rights[right]) {
				t.Errorf("interrupted at call %d: %s is not as it was", n+1, right)
			}
		}
	}
}

func TestOneAtATime(t *testing.T) {
	a := newAuthd(t)
	r := world(t, a)
	unlock, err := r.lock()
	if err != nil {
		t.Fatal(err)
	}
	for what, f := range map[string]func(context.Context) (Result, error){"install": r.Install, "remove": r.Remove} {
		if _, err := f(t.Context()); !errors.Is(err, ErrBusy) {
			t.Errorf("%s beside another: %v", what, err)
		}
	}
	if e := r.Repair(t.Context()); e.Name != "" {
		t.Errorf("a repair beside another: %+v", e)
	}
	if len(a.calls) != 0 {
		t.Errorf("it ran %q", a.calls)
	}
	unlock()
	if _, err := r.Install(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestNeverWithoutAPlugInThatLoads: nothing is written while the plug-in or the agent
// could not answer for a login.
func TestNeverWithoutAPlugInThatLoads(t *testing.T) {
	for what, c := range map[string]struct {
		breakIt func(r *Rights, a *authd)
		want    string
	}{
		"missing":               {func(r *Rights, _ *authd) { r.Bundle += "x" }, "no such file"},
		"a relative path":       {func(r *Rights, _ *authd) { r.Bundle = "Sallyport.bundle" }, "absolute"},
		"without its code":      {func(r *Rights, _ *authd) { must(os.Remove(filepath.Join(r.Bundle, executable))) }, "there is no"},
		"writable by the group": {func(r *Rights, _ *authd) { must(os.Chmod(filepath.Join(r.Bundle, executable), 0o775)) }, "can be changed by others"},
		"in a writable folder":  {func(r *Rights, _ *authd) { must(os.Chmod(filepath.Dir(r.Bundle), 0o777)) }, "can be changed by others"},
		"itself writable":       {func(r *Rights, _ *authd) { must(os.Chmod(r.Bundle, 0o757|os.ModeSticky)) }, "can be changed by others"},
		"not root's":            {func(r *Rights, _ *authd) { must(os.Lchown(filepath.Join(r.Bundle, executable), 12345, 0)) }, "not to root"},
		"a link": {func(r *Rights, _ *authd) {
			must(os.Rename(r.Bundle, r.Bundle+"2"))
			must(os.Symlink(r.Bundle+"2", r.Bundle))
		}, "link"},
		"a link inside": {func(r *Rights, _ *authd) { must(os.Symlink("/etc", filepath.Join(r.Bundle, "Contents/Resources"))) }, "link"},
		"in a folder of somebody's where all keep their own": {func(r *Rights, _ *authd) {
			must(os.Chmod(filepath.Dir(r.Bundle), 0o777|os.ModeSticky))
			must(os.Lchown(filepath.Dir(r.Bundle), 12345, 0))
		}, "not to root"},
		"below a link": {func(r *Rights, _ *authd) {
			link := r.StateDir + "/plugins"
			must(os.Symlink(filepath.Dir(r.Bundle), link))
			r.Bundle = link + "/Sallyport.bundle"
		}, "link"},
		"a file": {func(r *Rights, _ *authd) { must(os.RemoveAll(r.Bundle)); must(os.WriteFile(r.Bundle, nil, 0o755)) }, "no directory"},
		"no code": {func(r *Rights, _ *authd) {
			must(os.WriteFile(filepath.Join(r.Bundle, executable), []byte("#!/bin/sh\n"), 0o755))
		}, "no code of macOS"},
		"the agent unsigned":         {func(_ *Rights, a *authd) { a.team = "" }, "signed by no team"},
		"another team's":             {func(_ *Rights, a *authd) { a.team = "ZZZZZ99999" }, "requirement"},
		"a team's name that is none": {func(_ *Rights, a *authd) { a.team = `X" or true` }, "signed by no team"},
		"it does not load":           {func(_ *Rights, a *authd) { a.load = errors.New("Library not loaded: /x") }, "Library not loaded"},
		"the agent silent":           {func(r *Rights, _ *authd) { r.Answers = func(context.Context) error { return errExit } }, "does not answer"},
		"nobody to ask":              {func(r *Rights, _ *authd) { r.Answers = nil }, "nobody can say"},
		"not by root":                {func(r *Rights, _ *authd) { r.Owner++ }, "only root"},
		"no state directory":         {func(r *Rights, _ *authd) { r.StateDir = "" }, "no state directory"},
		"a state others can write":   {func(r *Rights, _ *authd) { must(os.Chmod(r.StateDir, 0o777)) }, "can be changed by others"},
		"a memory of nonsense": {func(r *Rights, _ *authd) {
			must(os.Mkdir(r.dir(), 0o700))
			must(os.WriteFile(r.file(memoryFile), []byte("{"), 0o600))
		}, "remembered"},
		"a memory of a rule": {func(r *Rights, _ *authd) {
			must(os.Mkdir(r.dir(), 0o700))
			must(os.WriteFile(r.file(memoryFile), []byte(`{"screensaver_rule":"allow"}`), 0o600))
		}, "remembered"},
		"one right unknown": {func(_ *Rights, a *authd) {
			a.rights[Console] = bytes.Replace(a.rights[Console], []byte(authenticated), []byte("x:y"), 1)
		}, "not as we know it"},
		"one right missing": {func(_ *Rights, a *authd) { delete(a.rights, Authenticate) }, "60005"},
	} {
		t.Run(what, func(t *testing.T) {
			if (what == "not root's" || strings.HasPrefix(what, "in a folder of somebody")) && os.Geteuid() != 0 {
				t.Skip("only root can give files away")
			}
			a := newAuthd(t)
			r := world(t, a)
			c.breakIt(r, a)
			_, err := r.Install(t.Context())
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("it says %v, want %q", err, c.want)
			}
			if slices.ContainsFunc(a.calls, func(s string) bool { return strings.Contains(s, " write ") }) {
				t.Errorf("it wrote: %q", a.calls)
			}
		})
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// What the mode does not show gives as much: of the plug-in, of what is in it, of where
// it lies.
func TestNeverWithAnAccessListThatGives(t *testing.T) {
	defer func() { accessList = acl.Check }()
	for _, path := range []func(bundle string) string{filepath.Dir, func(b string) string { return b }, func(b string) string { return filepath.Join(b, executable) }} {
		a := newAuthd(t)
		r := world(t, a)
		gives := path(r.Bundle)
		accessList = func(path string) error {
			if path == gives {
				return errors.New("an access list that gives rights")
			}
			return nil
		}
		if _, err := r.Install(t.Context()); err == nil || !strings.Contains(err.Error(), "access list") || a.guarded(t, Console) {
			t.Errorf("%s: %v", gives, err)
		}
	}
}

func TestTheCodeIsForThisComputer(t *testing.T) {
	for what, c := range map[string]struct{ path, want string }{
		"right":                   {bundle(t, ownCPU, mhBundle, "_"+entryPoint), ""},
		"another processor":       {bundle(t, otherCPU, mhBundle, "_"+entryPoint), "processor"},
		"a library":               {bundle(t, ownCPU, mhDylib, "_"+entryPoint), "no loadable bundle"},
		"without the entry point": {bundle(t, ownCPU, mhBundle, "_Other"), entryPoint},
	} {
		err := (&Rights{Bundle: c.path}).checkArchitecture(t.Context())
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", what, err, c.want)
		}
	}
}

func TestCheckSaysHowItIs(t *testing.T) {
	a := newAuthd(t)
	r := world(t, a)
	report := r.Check(t.Context())
	if report.OK || report.Installed || len(report.Rights) != 3 || report.Rights[0].State != Unguarded || !slices.Equal(report.Rights[0].Others, []string{"Crypt:Check,privileged", "Crypt:CryptGUI", "Crypt:Enablement,privileged"}) {
		t.Errorf("%+v", report)
	}
	if _, err := r.Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.load = errors.New("no such library")
	if report := r.Check(t.Context()); report.OK || !report.LockedOut() || !strings.Contains(report.Bundle, "no such library") {
		t.Errorf("a plug-in that does not load: %+v", report)
	}
	a.load = nil
	l := names(t, a.rights[Console])
	slices.Reverse(l)
	a.rights[Console] = with(t, a.rights[Console], l)
	a.plan = nil
	if report := r.Check(t.Context()); report.OK || report.Rights[0].State == Guarded || len(report.Rights[0].Ours) != 3 {
		t.Errorf("the wrong way round: %+v", report)
	}
	delete(a.rights, Console)
	if report := r.Check(t.Context()); report.OK || report.Rights[0].State != Unknown || report.Rights[0].Why == "" {
		t.Errorf("not to be read: %+v", report)
	}
	before := len(a.calls)
	r.Check(t.Context())
	for _, c := range a.calls[before:] {
		if strings.Contains(c, "write") {
			t.Errorf("check ran %q", c)
		}
	}
}

// Look needs no program but security, and sees what is missing.
func TestALookAtTheRights(t *testing.T) {
	a := newAuthd(t)
	r := world(t, a)
	if _, err := r.Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.calls, a.load = nil, errors.New("no such library")
	if report := r.Look(t.Context()); !report.OK || !report.Installed || report.LockedOut() {
		t.Errorf("%+v", report)
	}
	want := []string{"security authorizationdb read " + Console, "security authorizationdb read " + Authenticate, "security authorizationdb read " + Screensaver}
	if !slices.Equal(a.calls, want) {
		t.Errorf("it ran %q", a.calls)
	}
	if err := os.Remove(filepath.Join(r.Bundle, executable)); err != nil {
		t.Fatal(err)
	}
	if report := r.Look(t.Context()); report.OK || !report.LockedOut() {
		t.Errorf("without the plug-in's code: %+v", report)
	}
}

func TestADryRunChangesNothing(t *testing.T) {
	a, before := newAuthd(t), newAuthd(t)
	r := world(t, a)
	result, err := r.PlanInstall(t.Context())
	if err != nil || len(result.Changed) != 3 {
		t.Errorf("%+v, %v", result, err)
	}
	want := []string{"+ <string>Sallyport:begin,privileged</string>", "+ <string>Sallyport:prompt</string>", "+ <string>Sallyport:verify,privileged</string>"}
	if got := result.Changed[2].Diff; !slices.Equal(got, want) {
		t.Errorf("the difference is %q", got)
	}
	if got := result.Changed[1].Diff; !slices.Equal(got, []string{"- <string>" + ruleLoginWindow + "</string>", "+ <string>" + ruleAuthenticate + "</string>"}) {
		t.Errorf("the difference is %q", got)
	}
	a.load = errExit
	if result, err := r.PlanInstall(t.Context()); err == nil || len(result.Changed) != 3 {
		t.Errorf("what would be refused: %+v, %v", result, err)
	}
	for right := range a.rights {
		if !bytes.Equal(a.rights[right], before.rights[right]) {
			t.Errorf("%s changed", right)
		}
	}
	if files, err := os.ReadDir(r.StateDir); err != nil || len(files) != 0 {
		t.Errorf("it wrote %v, %v", files, err)
	}
}

func TestRepair(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	apple := func(a *authd) { // an upgrade of macOS
		a.rights[Console], a.rights[Authenticate] = fixture(t, "console-15-26"), fixture(t, "authenticate-15-26")
		a.rights[Screensaver] = fixture(t, "screensaver-15-26")
	}
	for what, c := range map[string]struct {
		before func(r *Rights, a *authd) // of what happens once ours are in
		want   event.Name
		text   string
		put    bool // ours are there in the end
	}{
		"nothing happened":        {func(*Rights, *authd) {}, "", "", true},
		"an upgrade":              {func(_ *Rights, a *authd) { apple(a) }, event.RightsRepaired, Console, true},
		"the plug-in is gone":     {func(r *Rights, _ *authd) { must(os.RemoveAll(r.Bundle)) }, event.PluginUnusable, "no such file", true},
		"an upgrade took it, too": {func(r *Rights, a *authd) { apple(a); must(os.RemoveAll(r.Bundle)) }, event.RightsMissing, "no such file", false},
		"it loads no more":        {func(_ *Rights, a *authd) { apple(a); a.load = errExit }, event.RightsMissing, "does not load", false},
		"the vault is not open": {func(r *Rights, a *authd) {
			apple(a)
			r.Answers = func(context.Context) error { return errors.New("vault") }
		}, event.RightsMissing, "vault", false},
		"repair is off":         {func(r *Rights, a *authd) { apple(a); r.MayRepair = false }, event.RightsMissing, "is off", false},
		"removed on purpose":    {func(r *Rights, _ *authd) { _, err := r.Remove(t.Context()); must(err) }, "", "", false},
		"not wanted any more":   {func(r *Rights, a *authd) { apple(a); r.Wanted = Wanted{} }, "", "", false},
		"not wanted, but there": {func(r *Rights, _ *authd) { r.Wanted = Wanted{} }, "", "", true},
		"the memory is gone":    {func(r *Rights, a *authd) { apple(a); must(os.RemoveAll(r.dir())) }, "", "", false},
		"the memory is broken":  {func(r *Rights, a *authd) { apple(a); must(os.WriteFile(r.file(memoryFile), []byte("x"), 0o600)) }, event.RightsMissing, "cannot be told", false},
		"macOS has other names now": {func(_ *Rights, a *authd) {
			apple(a)
			a.rights[Console] = bytes.Replace(a.rights[Console], []byte("builtin:"), []byte("builtin2:"), -1)
		}, event.RightsMissing, "not as we know it", false},
		"security fails": {func(_ *Rights, a *authd) { apple(a); a.plan = map[int]fault{len(a.calls) + 8: fails} }, event.RightsMissing, "60005", false},
	} {
		t.Run(what, func(t *testing.T) {
			a := newAuthd(t)
			r := world(t, a)
			r.Now = func() time.Time { return now }
			if _, err := r.Install(t.Context()); err != nil {
				t.Fatal(err)
			}
			c.before(r, a)
			e := r.Repair(t.Context())
			if e.Name != c.want || !strings.Contains(e.Text, c.text) {
				t.Errorf("the event is %+v", e)
			}
			for right := range a.rights {
				if a.guarded(t, right) != c.put {
					t.Errorf("%s: guarded is %v", right, !c.put)
				}
			}
			if again := r.Repair(t.Context()); c.want == event.RightsRepaired && again.Name != "" {
				t.Errorf("and again: %+v", again)
			}
		})
	}
}

// TestNoWarWithAnotherProduct: who takes ours out right behind a repair is left alone,
// and that is said.
func TestNoWarWithAnotherProduct(t *testing.T) {
	a := newAuthd(t)
	r := world(t, a)
	r.Wanted = Wanted{Login: true}
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	r.Now = func() time.Time { return now }
	if _, err := r.Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		after time.Duration
		want  event.Name
	}{{0, event.RightsRepaired}, {time.Minute, event.RightsMissing}, {quarrel - 2*time.Minute, event.RightsMissing},
		{-time.Minute, event.RightsMissing}, {2 * time.Minute, event.RightsRepaired}, {-48 * time.Hour, event.RightsRepaired}} {
		a.rights[Console] = fixture(t, "console-jamf-connect")
		now = now.Add(step.after)
		if e := r.Repair(t.Context()); e.Name != step.want || a.guarded(t, Console) != (step.want == event.RightsRepaired) {
			t.Errorf("%s later: %+v", step.after, e)
		}
	}
	if report := r.Check(t.Context()); !report.Repaired.Equal(now) {
		t.Errorf("it says %s", report.Repaired)
	}
}

// TestARepairThatFailedIsNoWar: what was put back nowhere keeps no later start from
// putting it back; be it that the agent was stopped in the middle.
func TestARepairThatFailedIsNoWar(t *testing.T) {
	upgraded := func(t *testing.T) (*Rights, *authd) {
		a := newAuthd(t)
		r := world(t, a)
		r.Wanted = Wanted{Login: true, Elevate: true}
		if _, err := r.Install(t.Context()); err != nil {
			t.Fatal(err)
		}
		a.rights[Console], a.rights[Authenticate] = fixture(t, "console-15-26"), fixture(t, "authenticate-15-26")
		a.calls = nil
		return r, a
	}
	r, good := upgraded(t)
	if e := r.Repair(t.Context()); e.Name != event.RightsRepaired {
		t.Fatalf("%+v", e)
	}
	for n := range good.calls {
		for what, breaks := range map[string]func(a *authd, stop func()){
			"stopped": func(a *authd, stop func()) { a.meanwhile = map[int]func(){n + 1: stop} },
			"failed":  func(a *authd, _ func()) { a.plan = map[int]fault{n + 1: fails} },
		} {
			r, a := upgraded(t)
			ctx, stop := context.WithCancel(t.Context())
			breaks(a, stop)
			first := r.Repair(ctx)
			stop()
			if e := r.Repair(t.Context()); first.Name != event.RightsRepaired && e.Name != event.RightsRepaired || !a.guarded(t, Console) || !a.guarded(t, Authenticate) {
				t.Errorf("%s at call %d: %+v; the next start: %+v", what, n+1, first, e)
			}
		}
	}
}

// No installation, no repair: an agent that starts with the plug-in's files there
// guards nothing by itself.
func TestARepairIsNoInstallation(t *testing.T) {
	a := newAuthd(t)
	r := world(t, a)
	if e := r.Repair(t.Context()); e.Name != "" || len(a.calls) != 0 {
		t.Errorf("%+v, %q", e, a.calls)
	}
}

// TestRemoveWorksWhenEverythingElseIsBroken: it is what lets people in again.
func TestRemoveWorksWhenEverythingElseIsBroken(t *testing.T) {
	a := newAuthd(t)
	r := world(t, a)
	if _, err := r.Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.Answers = nil
	must(os.RemoveAll(r.Bundle))
	must(os.RemoveAll(r.StateDir))
	must(os.WriteFile(r.StateDir, nil, 0o600)) // nothing can be remembered or locked
	a.rights[Authenticate] = []byte("bplist00")
	_, err := r.Remove(t.Context())
	if err == nil || !strings.Contains(err.Error(), "the agent may put ours back") || !strings.Contains(err.Error(), Authenticate) {
		t.Errorf("it says %v", err)
	}
	if slices.ContainsFunc(names(t, a.rights[Console]), isOurs) {
		t.Error("the login window is still guarded")
	}
}

// TestWhatCannotBeRememberedIsForgotten: a removal is final, also where the mark of
// the installation cannot be written anew.
// A right that nobody knows any more, and that names ours: to say that they are out
// would have the plug-in removed under it.
func TestARemovalThatCannotTellSaysSo(t *testing.T) {
	a := newAuthd(t)
	r := world(t, a)
	if _, err := r.Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	for what, strange := range map[string][2]string{
		"another class":            {"evaluate-mechanisms", "rule"},
		"a mechanism that is none": {"<string>" + loginSuccess + "</string>", "<integer>1</integer>"},
	} {
		was := a.rights[Console]
		a.rights[Console] = bytes.Replace(was, []byte(strange[0]), []byte(strange[1]), 1)
		if _, err := r.Remove(t.Context()); !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), Console) {
			t.Errorf("%s: %v", what, err)
		}
		if a.guarded(t, Screensaver) {
			t.Errorf("%s: another right stayed guarded", what)
		}
		a.rights[Console] = was
	}
	if _, err := r.Remove(t.Context()); err != nil || bytes.Contains(a.rights[Console], []byte(Prefix)) {
		t.Errorf("put right again: %v", err)
	}
}

func TestWhatCannotBeRememberedIsForgotten(t *testing.T) {
	a := newAuthd(t)
	r := world(t, a)
	if _, err := r.Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	must(os.Chmod(r.StateDir, 0o777))
	if _, err := r.Remove(t.Context()); err == nil || strings.Contains(err.Error(), "put ours back") {
		t.Errorf("it says %v", err)
	}
	must(os.Chmod(r.StateDir, 0o700))
	if e := r.Repair(t.Context()); e.Name != "" || a.guarded(t, Console) || a.guarded(t, Screensaver) {
		t.Errorf("the next start: %+v", e)
	}
}

// TestPrograms is about the real Runner.
func TestPrograms(t *testing.T) {
	sh := func(ctx context.Context, script string) (Output, error) {
		return run(ctx, []byte("in\n"), "/bin/sh", "-c", script)
	}
	t.Setenv("SALLYPORT_CANARY", "canary")
	if out, err := sh(t.Context(), "cat; pwd; env"); err != nil || !strings.HasPrefix(string(out.Stdout), "in\n/\n") || bytes.Contains(out.Stdout, []byte("canary")) {
		t.Errorf("%q, %v", out.Stdout, err)
	}
	if out, err := sh(t.Context(), "echo no >&2; exit 3"); err == nil || string(out.Stderr) != "no\n" {
		t.Errorf("%q, %v", out.Stderr, err)
	}
	if out, err := sh(t.Context(), "yes"); err == nil || len(out.Stdout) > maxOutput {
		t.Errorf("without end: %d bytes, %v", len(out.Stdout), err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := sh(ctx, "sleep 60 & sleep 60"); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 20*time.Second {
		t.Errorf("hanging, with a child that holds the pipe: %v after %s", err, time.Since(began))
	}
	if _, err := run(t.Context(), nil, "/nowhere/security"); err == nil {
		t.Error("a program that is not there ran")
	}
}
