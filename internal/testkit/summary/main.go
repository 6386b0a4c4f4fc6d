// Command summary reads `go test -json` and says what a person wants to know:
// what failed and why, how each package did, and every test that was skipped,
// with its reason. Its last line is "skipped: N". It fails when a test failed,
// or when none ran.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
)

// event is one line of test2json (go doc test2json).
type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Output     string
}

// place is what go test puts before a test's own words.
var place = regexp.MustCompile(`^\s*\S+_test\.go:\d+: `)

func main() {
	os.Exit(summarize(os.Stdin, os.Stdout))
}

func summarize(in io.Reader, out io.Writer) int {
	var passed, failed int
	var skips []string
	broken := false
	said := map[string]*strings.Builder{} // output of each test, until it is known to have passed
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			fmt.Fprintln(out, lines.Text())
			continue
		}
		key := e.Package + " " + e.Test
		switch e.Action {
		case "build-output":
			fmt.Fprint(out, e.Output)
		case "build-fail":
			broken = true
		case "output":
			if e.Test == "" {
				// The runner's own summary of a package, or what it printed outside any test.
				if !strings.HasPrefix(e.Output, "PASS") && !strings.Contains(e.Output, "[no test files]") {
					fmt.Fprint(out, e.Output)
				}
				continue
			}
			if said[key] == nil {
				said[key] = &strings.Builder{}
			}
			said[key].WriteString(e.Output)
		case "pass", "fail", "skip":
			text := ""
			if b := said[key]; b != nil {
				text = b.String()
			}
			delete(said, key)
			if e.Test == "" {
				broken = broken || e.Action == "fail"
				continue
			}
			switch e.Action {
			case "pass":
				passed++
			case "fail":
				failed++
				fmt.Fprint(out, text)
			case "skip":
				skips = append(skips, fmt.Sprintf("skip %s %s: %s", e.Package, e.Test, reason(text)))
			}
		}
	}
	if err := lines.Err(); err != nil {
		fmt.Fprintln(out, "summary:", err)
		broken = true
	}
	for key, b := range said { // neither passed nor failed: the process died, or ran out of time
		fmt.Fprintf(out, "unfinished: %s\n%s", key, b)
		broken = true
	}
	for _, s := range skips {
		fmt.Fprintln(out, s)
	}
	fmt.Fprintf(out, "%d passed, %d failed, %d skipped\n", passed, failed, len(skips))
	fmt.Fprintf(out, "skipped: %d\n", len(skips))
	if broken || failed > 0 || passed == 0 {
		return 1
	}
	return 0
}

// reason is what a skipped test said.
func reason(text string) string {
	for line := range strings.Lines(text) {
		if at := place.FindString(line); at != "" {
			return strings.TrimSpace(line[len(at):])
		}
	}
	return "no reason given"
}
