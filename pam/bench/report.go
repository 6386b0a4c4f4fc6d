//go:build linux

package main

import (
	"debug/elf"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"sallyport/internal/testkit/measure"
)

func mean(samples []time.Duration) time.Duration {
	var sum time.Duration
	for _, s := range samples {
		sum += s
	}
	return sum / time.Duration(max(1, len(samples)))
}

func ms(d time.Duration) string { return fmt.Sprintf("%.3f", measure.MS(d)) }

func (b *bench) report(w io.Writer) {
	fmt.Fprintf(w, "\n%s; packages: %s\n\n", measure.Machine(b.disk), packages())
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(cells ...string) { fmt.Fprintln(t, strings.Join(cells, "\t")+"\t") }

	fmt.Fprintln(w, "One login in a warm process (ms). auth: pam_authenticate; whole: pam_start to pam_end.")
	row("contender", "logins", "auth p50", "p99", "whole p50", "p99", "CPU of the process", "of the agent", "agent's RSS MB")
	for _, c := range b.contenders {
		r := b.results[c]
		agentCPU, rss := "-", "-"
		if c.agent != nil {
			agentCPU, rss = ms(mean(r.agentCPU)), fmt.Sprintf("%.1f", float64(r.agentRSS)/1e6)
		}
		row(c.name, fmt.Sprint(len(r.auth)), ms(measure.Quantile(r.auth, 0.5)), ms(measure.Quantile(r.auth, 0.99)),
			ms(measure.Quantile(r.whole, 0.5)), ms(measure.Quantile(r.whole, 0.99)), ms(mean(r.cpu)), agentCPU, rss)
	}
	t.Flush()

	fmt.Fprintln(w, "\nOne login in a fresh process (ms). whole: pam_start to pam_end; life: the process, exec and exit included.")
	row("contender", "logins", "whole p50", "p99", "life p50", "p99", "its memory KiB")
	for _, c := range b.contenders {
		r := b.results[c]
		row(c.name, fmt.Sprint(len(r.fresh)), ms(measure.Quantile(r.fresh, 0.5)), ms(measure.Quantile(r.fresh, 0.99)),
			ms(measure.Quantile(r.life, 0.5)), ms(measure.Quantile(r.life, 0.99)), fmt.Sprint(measure.Quantile(r.peak, 0.5)))
	}
	t.Flush()

	fmt.Fprintf(w, "\n%d logins at once, of as many users (ms), %d rounds.\n", crowdSize, crowdRounds)
	row("contender", "all done, p50", "one done, p50", "p99", "let in/s", "refused though right")
	for _, c := range b.contenders {
		if r := b.results[c]; c.crowds {
			in := len(r.crowd) - r.crowdFailed
			row(c.name, ms(measure.Quantile(r.crowdWall, 0.5)), ms(measure.Quantile(r.crowd, 0.5)), ms(measure.Quantile(r.crowd, 0.99)),
				fmt.Sprintf("%.0f", float64(in)/(mean(r.crowdWall)*crowdRounds).Seconds()), fmt.Sprintf("%d of %d", r.crowdFailed, len(r.crowd)))
		}
	}
	t.Flush()
	fmt.Fprint(w, "(pam_oath refuses at once whoever comes while another login holds the lock of its usersfile.)\n\n")
	for _, c := range b.contenders {
		fmt.Fprintf(w, "%s: %s\n", c.name, c.about)
	}
	if b.peersOnly {
		return
	}
	f := b.agentFacts
	fmt.Fprintf(w, "\nAgent: ready in %s ms at best, %s at worst of %d starts with 100 users; %s with 100,000.\n\n",
		ms(slices.Min(f.ready)), ms(slices.Max(f.ready)), len(f.ready), ms(f.readyBig))
	fmt.Fprintln(w, "The policy, with rules of which none fits. decision: what a login spends on it.")
	row("rules", "decision ns", "compiling ms", "agent's RSS MB, 100 users")
	for _, f := range b.ruleFacts {
		row(fmt.Sprint(f.rules), fmt.Sprint(f.decide.Nanoseconds()), ms(f.compile), fmt.Sprintf("%.1f", float64(f.rss)/1e6))
	}
	t.Flush()
	fmt.Fprintln(w)
	for _, t := range b.targets() {
		fmt.Fprintln(w, t)
	}
}

// targets are what the agent and the hook are held to; docs/benchmarks.md says why.
func (b *bench) targets() []measure.Target {
	warm := func(name string) float64 { return float64(measure.Quantile(b.result(name).auth, 0.5)) }
	fresh := func(name string) float64 { return float64(measure.Quantile(b.result(name).fresh, 0.5)) }
	// Against the peer that has no number of users: our slowest.
	slowest := max(warm("sallyport_1"), warm("sallyport_1000"), warm("sallyport_100000"))
	most := b.ruleFacts[len(b.ruleFacts)-1]
	return []measure.Target{
		{Name: "totp_warm_vs_google_authenticator", Measured: slowest / warm("google_authenticator"), Limit: 0.5, Digits: 2},
		{Name: "totp_warm_vs_oath_1", Measured: warm("sallyport_1") / warm("oath_1"), Limit: 1, Digits: 2},
		{Name: "totp_warm_vs_oath_100000", Measured: warm("sallyport_100000") / warm("oath_100000"), Limit: 1.0 / 40, Digits: 4},
		{Name: "totp_warm_100000_users_vs_1", Measured: warm("sallyport_100000") / warm("sallyport_1"), Limit: 1.3, Digits: 2},
		{Name: "totp_fresh_vs_google_authenticator", Measured: fresh("sallyport_1000") / fresh("google_authenticator"), Limit: 1, Digits: 2},
		{Name: "agent_rss_idle_100_users_mb", Measured: float64(b.agentFacts.rss) / 1e6, Limit: 25, Digits: 1, Bound: measure.Under},
		{Name: "agent_rss_idle_1000_rules_mb", Measured: float64(most.rss) / 1e6, Limit: 25, Digits: 1, Bound: measure.Under},
		{Name: "totp_warm_1000_rules_vs_none", Measured: warm("sallyport_1_rules_1000") / warm("sallyport_1"), Limit: 1.3, Digits: 2},
		{Name: "policy_1000_rules_us", Measured: float64(most.decide) / float64(time.Microsecond), Limit: 500, Digits: 1},
		{Name: "agent_idle_wakeups_in_10s", Measured: float64(b.agentFacts.wakeUps), Limit: 0},
		{Name: "agent_ready_ms", Measured: float64(slices.Max(b.agentFacts.ready)) / float64(time.Millisecond), Limit: 100, Digits: 1},
		{Name: "hook_so_kb", Measured: float64(b.hookSize) / 1e3, Limit: 150, Digits: 1, Bound: measure.Under},
		{Name: "hook_exports_besides_pam_sm", Measured: float64(b.hookStray), Limit: 0},
	}
}

func (b *bench) result(name string) *result {
	for c, r := range b.results {
		if c.name == name {
			return r
		}
	}
	return &result{}
}

// lookAtHook measures the module's size in bytes and counts the symbols it
// exports that are not pam_sm_*.
func lookAtHook(path string) (size int64, stray int, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, 0, err
	}
	file, err := elf.Open(path)
	if err != nil {
		return 0, 0, err
	}
	defer file.Close()
	symbols, err := file.DynamicSymbols()
	if err != nil {
		return 0, 0, fmt.Errorf("%s: %w", path, err)
	}
	for _, s := range symbols {
		exported := s.Section != elf.SHN_UNDEF && elf.ST_BIND(s.Info) != elf.STB_LOCAL
		if exported && !strings.HasPrefix(s.Name, "pam_sm_") {
			stray++
		}
	}
	return info.Size(), stray, nil
}

// packages names the versions of what was measured, as dpkg or rpm knows them.
func packages() string {
	names := []string{"libpam0g", "libpam-google-authenticator", "libpam-oath"}
	query := exec.Command("dpkg-query", append([]string{"-W", "-f", "${Package} ${Version}, "}, names...)...)
	if _, err := exec.LookPath("dpkg-query"); err != nil {
		query = exec.Command("rpm", "-q", "--qf", "%{NAME} %{VERSION}-%{RELEASE}, ", "pam", "google-authenticator", "pam_oath")
	}
	out, err := query.Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSuffix(string(out), ", ")
}
