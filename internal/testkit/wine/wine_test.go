//go:build linux

package wine

import (
	"bufio"
	"context"
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
	"testing"
	"time"
)

// in is a context for what should take a moment, on a busy machine too.
func in(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// programs is where the program of ./probe lies during the run.
var programs string

func TestMain(m *testing.M) {
	var err error
	if programs, err = os.MkdirTemp("", "wine-test-"); err != nil {
		panic(err)
	}
	status := m.Run()
	os.RemoveAll(programs)
	os.Exit(status)
}

var build = sync.OnceValue(func() error {
	cmd := exec.Command("go", "build", "-o", programs, "./probe")
	cmd.Env = append(os.Environ(), "GOOS=windows", "GOARCH=amd64", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
})

// probe is the program of ./probe.
func probe(t *testing.T) string {
	t.Helper()
	if err := build(); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(programs, "probe.exe")
}

// windows is a Windows with the probe in it.
func windows(t *testing.T) (*Wine, string) {
	t.Helper()
	program := probe(t)
	return New(t, filepath.Dir(program)), program
}

func output(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, complaint.String())
	}
	return string(out)
}

func TestExitStatusPasses(t *testing.T) {
	w, probe := windows(t)
	for _, want := range []int{0, 1, 42, 255} {
		cmd := w.Command(in(t), probe, "exit", fmt.Sprint(want))
		err := cmd.Run()
		if got := cmd.ProcessState.ExitCode(); got != want {
			t.Errorf("got %d (%v), want %d", got, err, want)
		}
	}
}

func TestArgumentsPass(t *testing.T) {
	w, probe := windows(t)
	args := []string{"two words", "", `"quoted"`, `C:\dir\`, "*", "%PATH%", "ümläut €", "--env", "--"}
	if got, want := output(t, w.Command(in(t), probe, append([]string{"args"}, args...)...)), fmt.Sprintf("%q", args); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestStdinPasses(t *testing.T) {
	w, probe := windows(t)
	text := strings.Repeat("a line\r\nand \x00 \x1a binary\n", 10_000)
	cmd := w.Command(in(t), probe, "cat")
	cmd.Stdin = strings.NewReader(text)
	if got := output(t, cmd); got != text {
		t.Errorf("%d of %d bytes arrived, or others", len(got), len(text))
	}
}

func TestOnlyTheWantedEnvironmentPasses(t *testing.T) {
	w, probe := windows(t)
	t.Setenv("UNWANTED", "1")
	w.Env = []string{"WANTED=two words"}
	env := strings.Split(output(t, w.Command(in(t), probe, "env")), "\n")
	if !slices.Contains(env, "WANTED=two words") {
		t.Errorf("WANTED is not in %q", env)
	}
	for _, name := range []string{"UNWANTED", "TMPDIR", "DISPLAY"} {
		if slices.ContainsFunc(env, func(v string) bool { return strings.HasPrefix(v, name+"=") }) {
			t.Errorf("%s is in %q", name, env)
		}
	}
}

func TestFilesOfTheTestAreThere(t *testing.T) {
	w, probe := windows(t)
	dir := t.TempDir()
	program, err := os.ReadFile(probe)
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(dir, "copy.exe")
	if err := os.WriteFile(copied, program, 0o755); err != nil {
		t.Fatal(err)
	}
	if got := output(t, w.Command(in(t), Path(copied), "args", "x")); got != `["x"]` {
		t.Errorf("got %s", got)
	}
	output(t, w.Command(in(t), "reg", "export", `HKLM\Software\Microsoft\Windows NT\CurrentVersion`, Path(dir+"/out.reg")))
	if info, err := os.Stat(dir + "/out.reg"); err != nil || info.Size() == 0 {
		t.Errorf("what Windows wrote is not there: %v", err)
	}
}

func TestProcessesMeetOnAPipe(t *testing.T) {
	w, probe := windows(t)
	const pipe = `\\.\pipe\wine-test\meeting`
	server := w.Command(in(t), probe, "serve", pipe)
	server.Stderr = os.Stderr
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || strings.TrimSpace(line) != "ready" {
		t.Fatalf("%q %v", line, err)
	}

	// Another Windows has other pipes.
	other := New(t, filepath.Dir(probe))
	if out, err := other.Command(in(t), probe, "call", pipe, "hello").CombinedOutput(); err == nil {
		t.Errorf("another Windows reached the pipe: %s", out)
	}

	if got, want := output(t, w.Command(in(t), probe, "call", pipe, "hello")), "heard hello"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := server.Wait(); err != nil {
		t.Error(err)
	}
}

func TestRegistryIsOfOneWindows(t *testing.T) {
	one, two := New(t), New(t)
	ctx := in(t)
	const key = `HKLM\Software\Wine Test\Key`
	for name, value := range map[string]any{
		"text": `C:\"quoted" ümläut €`, "number": uint32(0xdeadbeef), "binary": []byte{0, 1, 255},
		"list": []string{"first", "second"}, "gone": "soon",
	} {
		if err := one.SetValue(ctx, key, name, value); err != nil {
			t.Fatal(err)
		}
	}
	if err := one.SetValue(ctx, key, "gone", nil); err != nil {
		t.Fatal(err)
	}
	text, err := one.Export(ctx, key)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(text, "\n")
	for _, want := range []string{
		`"text"="C:\\\"quoted\" ümläut €"`, `"number"=dword:deadbeef`, `"binary"=hex:00,01,ff`,
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if strings.Contains(text, "gone") {
		t.Errorf("a deleted value is there:\n%s", text)
	}
	if got := output(t, one.Command(ctx, "reg", "query", key, "/v", "list")); !strings.Contains(got, `first\0second`) || !strings.Contains(got, "REG_MULTI_SZ") {
		t.Errorf("got %s", got)
	}

	if text, err := two.Export(ctx, key); err == nil {
		t.Errorf("another Windows has it, too:\n%s", text)
	}
	// What one exports the other can import.
	if err := two.Import(ctx, text); err != nil {
		t.Fatal(err)
	}
	if again, err := two.Export(ctx, key); err != nil || again != text {
		t.Errorf("%v: got\n%s\nwant\n%s", err, again, text)
	}

	if err := one.DeleteKey(ctx, `HKLM\Software\Wine Test`); err != nil {
		t.Fatal(err)
	}
	if text, err := one.Export(ctx, key); err == nil {
		t.Errorf("a deleted key is there:\n%s", text)
	}
}

func TestRestartKeepsTheRegistryAndNothingElse(t *testing.T) {
	w, probe := windows(t)
	const key, pipe = `HKLM\Software\Wine Test`, `\\.\pipe\wine-test\restart`
	if err := w.SetValue(in(t), key, "kept", "yes"); err != nil {
		t.Fatal(err)
	}
	server := w.Command(in(t), probe, "serve", pipe)
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || strings.TrimSpace(line) != "ready" {
		t.Fatalf("%q %v", line, err)
	}
	if err := w.Restart(in(t)); err != nil {
		t.Fatal(err)
	}
	if err := server.Wait(); err == nil {
		t.Error("a program outlived the restart")
	}
	if text, err := w.Export(in(t), key); err != nil || !strings.Contains(text, `"kept"="yes"`) {
		t.Errorf("%v: %s", err, text)
	}
}

// TestEndOfContextKills shows that it is the Windows program that is killed, not
// only what started it: its end of the pipe goes away with it.
func TestEndOfContextKills(t *testing.T) {
	w, probe := windows(t)
	const pipe = `\\.\pipe\wine-test\killed`
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	server := w.Command(ctx, probe, "serve", pipe)
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	ready := bufio.NewReader(out)
	if line, err := ready.ReadString('\n'); err != nil || strings.TrimSpace(line) != "ready" {
		t.Fatalf("%q %v", line, err)
	}
	cancel()
	if _, err := ready.ReadString('\n'); !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrClosed) {
		t.Errorf("reading on: %v", err)
	}
	server.Wait()
	// The name can be taken again, which only works when its only holder is dead.
	again := w.Command(in(t), probe, "serve", pipe)
	if out, err = again.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	var complaint strings.Builder
	again.Stderr = &complaint
	if err := again.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || strings.TrimSpace(line) != "ready" {
		t.Fatalf("%q %v: %s", line, err, complaint.String())
	}
}

// processes are those of the process namespace that pid is process 1 of.
func processes(t *testing.T, namespace string) []string {
	t.Helper()
	found, err := filepath.Glob("/proc/[0-9]*/ns/pid")
	if err != nil {
		t.Fatal(err)
	}
	var in []string
	for _, link := range found {
		if to, err := os.Readlink(link); err == nil && to == namespace {
			in = append(in, filepath.Dir(filepath.Dir(link)))
		}
	}
	return in
}

func TestNothingIsLeftBehind(t *testing.T) {
	if err := Possible(); err != nil {
		t.Skip("needs Wine: " + err.Error())
	}
	script, err := scripts()
	if err != nil {
		t.Fatal(err)
	}
	root, err := exec.Command(filepath.Join(script, "root.sh")).Output()
	if err != nil {
		t.Fatal(err)
	}
	if inside, err := os.ReadDir(strings.TrimSpace(string(root)) + "/mnt"); err != nil || len(inside) > 0 {
		t.Fatalf("the root's /mnt is not empty (%v): %v", inside, err)
	}
	program := probe(t)
	mounts := func() (below []string) { // below the root: others may mount elsewhere meanwhile
		all, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(all)) {
			if strings.Contains(line, strings.TrimSpace(string(root))) {
				below = append(below, line)
			}
		}
		return below
	}
	before := mounts()

	ends := map[string]func(t *testing.T, w *Wine){
		"Kill": func(t *testing.T, w *Wine) {
			if err := w.Kill(); err != nil {
				t.Error(err)
			}
		},
		// As when the test process died.
		"stdin ends": func(t *testing.T, w *Wine) { w.hold.Close(); w.holder.Wait() },
		"SIGTERM":    func(t *testing.T, w *Wine) { w.holder.Process.Signal(syscall.SIGTERM); w.holder.Wait() },
		"SIGKILL":    func(t *testing.T, w *Wine) { w.holder.Process.Kill(); w.holder.Wait() },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			w, err := Start(filepath.Dir(program))
			if err != nil {
				t.Fatal(err)
			}
			defer w.Kill()
			namespace, err := os.Readlink("/proc/" + w.pid + "/ns/pid")
			if err != nil {
				t.Fatal(err)
			}
			server := w.Command(in(t), program, "serve", `\\.\pipe\wine-test\left`)
			out, err := server.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := server.Start(); err != nil {
				t.Fatal(err)
			}
			if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
				t.Fatal(err)
			}
			if n := len(processes(t, namespace)); n < 3 { // process 1, wineserver, the program
				t.Fatalf("%d processes: is this the right namespace?", n)
			}

			end(t, w)
			if err := server.Wait(); err == nil {
				t.Error("the program ended well")
			}
			// The kernel kills what is in a namespace before its process 1 is gone.
			for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
				left := processes(t, namespace)
				if len(left) == 0 {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("still there: %v", left)
				}
			}
			if after := mounts(); !slices.Equal(after, before) {
				t.Errorf("mounts are left:\n%s", after)
			}
		})
	}
}

// TestGoTestRunsUnderWine shows exec.sh as the go command uses it: the tests run
// as a Windows program, and the coverage arrives where it was asked for.
func TestGoTestRunsUnderWine(t *testing.T) {
	if err := Possible(); err != nil {
		t.Skip("needs Wine: " + err.Error())
	}
	script, err := scripts()
	if err != nil {
		t.Fatal(err)
	}
	wrapper := filepath.Join(script, "exec.sh")
	profile := filepath.Join(t.TempDir(), "profile")
	cmd := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-v", "-exec", wrapper, "-coverprofile", profile, "../../textout")
	cmd.Env = append(os.Environ(), "GOOS=windows", "GOARCH=amd64", "CGO_ENABLED=0")
	if out := output(t, cmd); !strings.Contains(out, "--- PASS: ") {
		t.Errorf("no test passed: %s", out)
	}
	if info, err := os.Stat(profile); err != nil || info.Size() < 100 {
		t.Errorf("there is no profile: %v", err)
	}

	failing := exec.CommandContext(in(t), wrapper, probe(t), "exit", "42")
	if err := failing.Run(); failing.ProcessState.ExitCode() != 42 {
		t.Errorf("a program's status 42 became %v", err)
	}
	traced := exec.CommandContext(in(t), wrapper, probe(t), "env")
	traced.Env = append(os.Environ(), "GOTRACEBACK=all", "UNWANTED=1")
	if env := output(t, traced); !strings.Contains(env, "GOTRACEBACK=all") || strings.Contains(env, "UNWANTED") {
		t.Errorf("got the environment %s", env)
	}
}

func TestTheRaceDetectorWorks(t *testing.T) {
	w, _ := windows(t)
	script, err := scripts()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "race.exe")
	build := exec.CommandContext(t.Context(), "go", "build", "-race", "-o", program, "./probe")
	build.Env = append(os.Environ(), "GOOS=windows", "GOARCH=amd64", "CGO_ENABLED=1", "CC="+filepath.Join(script, "cc.sh"))
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cmd := w.Command(in(t), program, "race")
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 66 || !strings.Contains(string(out), "WARNING: DATA RACE") {
		t.Errorf("a race was not noticed: %v: %s", err, out)
	}
}
