//go:build linux

package viewtest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"sallyport/authplugin/viewtest/screen"
)

func itoa(n int) string { return strconv.Itoa(n) }

func atoi(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// hostWithASan is the host built with AddressSanitizer.
func hostWithASan(t *testing.T) string {
	t.Helper()
	needScreen(t)
	out := filepath.Join(dir, "asan")
	if text, err := exec.Command("make", "-s", "-C", "host", "OUT="+out, "SAN=-fsanitize=address,undefined -fno-sanitize-recover=all").CombinedOutput(); err != nil {
		t.Fatalf("make: %v\n%s", err, text)
	}
	return filepath.Join(out, "viewhost")
}

// gone waits until no view and no window of ours is left; each that is leaked stays.
func (h *host) gone() {
	h.t.Helper()
	var got string
	h.until("no window", func(v screen.Views) bool {
		got = h.do("count")
		return len(v) == 0 && strings.HasPrefix(got, "0 0 0 ")
	})
	if !strings.HasSuffix(got, " 0") {
		h.t.Errorf("done was called after view_close, or twice at once: %s", got)
	}
}

// TestClosedAtAnyMoment: before the window is made, while it is, when it has the
// keyboard and while it counts; from another thread than the main one.
func TestClosedAtAnyMoment(t *testing.T) {
	h := startHostOf(t, desk, hostWithASan(t))
	h.do("slow 5") // so that view_close comes while done runs
	for _, s := range []*content{ringing(), asking(question), telling("No.")} {
		h.open(s)
		h.do("close")
		for _, us := range []int{0, 500, 20_000, 60_000} {
			h.do("race 60 " + itoa(us))
		}
	}
	h.gone()
}

func TestClosedWhileSomebodyTypes(t *testing.T) {
	h := startHostOf(t, desk, hostWithASan(t))
	h.do("slow 3")
	s := ringing()
	h.open(s)
	h.do("close")
	// A busy machine shows no window as quickly as it is closed again here: then each is
	// open for longer, until keys meet one.
	for us := 40_000; ; us *= 2 {
		h.racesATypist(us)
		h.gone()
		if got := strings.Fields(h.do("count")); got[3] != "0" {
			return
		}
		if us > 500_000 {
			t.Fatal("no key met a window: this test sees nothing")
		}
	}
}

// racesATypist opens windows and closes each within so many microseconds, while keys come.
func (h *host) racesATypist(us int) {
	h.t.Helper()
	ctx, stop := context.WithTimeout(h.t.Context(), patience)
	defer stop()
	typist := exec.CommandContext(ctx, "xdotool", append([]string{"key", "--delay", "3"}, strings.Fields(strings.Repeat("1 Tab 2 Return Escape space ", 150))...)...)
	typist.Env = desk.Environment()
	typist.Stderr = os.Stderr
	if err := typist.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.do("race 200 " + itoa(us))
	if err := typist.Wait(); err != nil { // a key that it left down would stay down
		h.t.Error(err)
	}
}

func TestTwoHundredLoginsLeakNothing(t *testing.T) {
	h := startHost(t)
	memory := func() int {
		data, err := os.ReadFile("/proc/" + itoa(h.cmd.Process.Pid) + "/statm")
		if err != nil {
			t.Fatal(err)
		}
		pages, err := strconv.Atoi(strings.Fields(string(data))[1])
		if err != nil {
			t.Fatal(err)
		}
		return pages * os.Getpagesize()
	}
	login := func() {
		h.open(ringing())
		h.do("close")
	}
	for range 50 { // until GNUstep has what it keeps
		login()
	}
	before := memory()
	for range 200 {
		login()
	}
	h.gone()
	t.Logf("%d bytes more for 200 logins", memory()-before)
	if grown := memory() - before; grown > 200*20<<10 {
		t.Errorf("200 logins have taken %d bytes", grown)
	}
}

func TestPressedAfterItWasClosed(t *testing.T) {
	h := startHostOf(t, desk, hostWithASan(t))
	h.open(ringing())
	if got := h.do("late"); got != "ok" {
		t.Fatal(got)
	}
	h.gone()
	h.nothing()
}
