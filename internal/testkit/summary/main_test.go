package main

import (
	"strings"
	"testing"
)

func TestSummary(t *testing.T) {
	const pass = `{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN TestA\n"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestB","Output":"    b_test.go:3: needs root\n"}
{"Action":"skip","Package":"p","Test":"TestB"}
{"Action":"output","Package":"p","Output":"ok  \tp\t0.1s\n"}
{"Action":"pass","Package":"p"}
`
	for name, c := range map[string]struct {
		in, want string
		exit     int
	}{
		"a skip is listed with its reason": {pass, "ok  \tp\t0.1s\nskip p TestB: needs root\n1 passed, 0 failed, 1 skipped\nskipped: 1\n", 0},
		"a failure shows its output": {pass + `{"Action":"output","Package":"q","Test":"TestC","Output":"    c_test.go:1: boom\n"}
{"Action":"fail","Package":"q","Test":"TestC"}
`, "c_test.go:1: boom\nskip p TestB: needs root\n1 passed, 1 failed, 1 skipped\nskipped: 1\n", 1},
		"no test ran":               {"", "0 passed, 0 failed, 0 skipped\nskipped: 0\n", 1},
		"a package that broke":      {pass + `{"Action":"fail","Package":"r"}`, "skipped: 1\n", 1},
		"a build that failed":       {pass + `{"Action":"build-output","ImportPath":"r","Output":"r.go:1: no\n"}` + "\n" + `{"Action":"build-fail","ImportPath":"r"}`, "r.go:1: no\n", 1},
		"a test that never ended":   {pass + `{"Action":"output","Package":"r","Test":"TestD","Output":"=== RUN TestD\n"}`, "unfinished: r TestD\n", 1},
		"text that is not an event": {pass + "panic: no\n", "panic: no\n", 0},
	} {
		var out strings.Builder
		if exit := summarize(strings.NewReader(c.in), &out); exit != c.exit || !strings.Contains(out.String(), c.want) {
			t.Errorf("%s: exit %d, want %d; printed:\n%s", name, exit, c.exit, out.String())
		}
		if !strings.Contains(out.String()[strings.LastIndex(strings.TrimSpace(out.String()), "\n")+1:], "skipped: ") {
			t.Errorf("%s: the last line is not skipped: N:\n%s", name, out.String())
		}
	}
}
