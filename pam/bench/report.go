//go:build linux

package main

import (
	"cmp"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

// quantile returns the value below which the share q of the samples lies.
func quantile[T cmp.Ordered](samples []T, q float64) T {
	var zero T
	if len(samples) == 0 {
		return zero
	}
	sorted := slices.Sorted(slices.Values(samples))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

func mean(samples []time.Duration) time.Duration {
	var sum time.Duration
	for _, s := range samples {
		sum += s
	}
	return sum / time.Duration(max(1, len(samples)))
}

func ms(d time.Duration) string { return fmt.Sprintf("%.3f", float64(d)/float64(time.Millisecond)) }

func (b *bench) report(w io.Writer) {
	fmt.Fprintf(w, "\n%s\n\n", b.machine())
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
		row(c.name, fmt.Sprint(len(r.auth)), ms(quantile(r.auth, 0.5)), ms(quantile(r.auth, 0.99)),
			ms(quantile(r.whole, 0.5)), ms(quantile(r.whole, 0.99)), ms(mean(r.cpu)), agentCPU, rss)
	}
	t.Flush()

	fmt.Fprintln(w, "\nOne login in a fresh process (ms). whole: pam_start to pam_end; life: the process, exec and exit included.")
	row("contender", "logins", "whole p50", "p99", "life p50", "p99", "its memory KiB")
	for _, c := range b.contenders {
		r := b.results[c]
		row(c.name, fmt.Sprint(len(r.fresh)), ms(quantile(r.fresh, 0.5)), ms(quantile(r.fresh, 0.99)),
			ms(quantile(r.life, 0.5)), ms(quantile(r.life, 0.99)), fmt.Sprint(quantile(r.peak, 0.5)))
	}
	t.Flush()

	fmt.Fprintf(w, "\n%d logins at once, of as many users (ms), %d rounds.\n", crowdSize, crowdRounds)
	row("contender", "all done, p50", "one done, p50", "p99", "let in/s", "refused though right")
	for _, c := range b.contenders {
		if r := b.results[c]; c.crowds {
			in := len(r.crowd) - r.crowdFailed
			row(c.name, ms(quantile(r.crowdWall, 0.5)), ms(quantile(r.crowd, 0.5)), ms(quantile(r.crowd, 0.99)),
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

// target is one line of the design's targets: measured must not exceed limit.
type target struct {
	name            string
	measured, limit float64
	digits          int
	strictly        bool // measured must stay under limit
}

func (t target) String() string {
	verdict := "ok"
	if t.measured > t.limit || t.strictly && t.measured == t.limit {
		verdict = "MISSED"
	}
	return fmt.Sprintf("target %s %.*f %.*f %s", t.name, t.digits, t.measured, t.digits, t.limit, verdict)
}

// targets are what the agent and the hook are held to; docs/benchmarks.md says why.
func (b *bench) targets() []target {
	warm := func(name string) float64 { return float64(quantile(b.result(name).auth, 0.5)) }
	fresh := func(name string) float64 { return float64(quantile(b.result(name).fresh, 0.5)) }
	// Against the peer that has no number of users: our slowest.
	slowest := max(warm("sallyport_1"), warm("sallyport_1000"), warm("sallyport_100000"))
	most := b.ruleFacts[len(b.ruleFacts)-1]
	return []target{
		{name: "totp_warm_vs_google_authenticator", measured: slowest / warm("google_authenticator"), limit: 0.5, digits: 2},
		{name: "totp_warm_vs_oath_1", measured: warm("sallyport_1") / warm("oath_1"), limit: 1, digits: 2},
		{name: "totp_warm_vs_oath_100000", measured: warm("sallyport_100000") / warm("oath_100000"), limit: 1.0 / 40, digits: 4},
		{name: "totp_warm_100000_users_vs_1", measured: warm("sallyport_100000") / warm("sallyport_1"), limit: 1.3, digits: 2},
		{name: "totp_fresh_vs_google_authenticator", measured: fresh("sallyport_1000") / fresh("google_authenticator"), limit: 1, digits: 2},
		{name: "agent_rss_idle_100_users_mb", measured: float64(b.agentFacts.rss) / 1e6, limit: 25, digits: 1, strictly: true},
		{name: "agent_rss_idle_1000_rules_mb", measured: float64(most.rss) / 1e6, limit: 25, digits: 1, strictly: true},
		{name: "totp_warm_1000_rules_vs_none", measured: warm("sallyport_1_rules_1000") / warm("sallyport_1"), limit: 1.3, digits: 2},
		{name: "policy_1000_rules_us", measured: float64(most.decide) / float64(time.Microsecond), limit: 500, digits: 1},
		{name: "agent_idle_wakeups_in_10s", measured: float64(b.agentFacts.wakeUps), limit: 0},
		{name: "agent_ready_ms", measured: float64(slices.Max(b.agentFacts.ready)) / float64(time.Millisecond), limit: 100, digits: 1},
		{name: "hook_so_kb", measured: float64(b.hookSize) / 1e3, limit: 150, digits: 1, strictly: true},
		{name: "hook_exports_besides_pam_sm", measured: float64(b.hookStray), limit: 0},
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

// machine says on what this was measured.
func (b *bench) machine() string {
	var kernel unix.Utsname
	_ = unix.Uname(&kernel) // then its fields are empty
	var fs unix.Statfs_t
	_ = unix.Statfs(b.disk, &fs)
	types := map[int64]string{unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs",
		unix.TMPFS_MAGIC: "tmpfs: syncing costs nothing here, the figures flatter", unix.OVERLAYFS_SUPER_MAGIC: "overlay"}
	kind := types[int64(fs.Type)]
	if kind == "" {
		kind = fmt.Sprintf("file system type %#x", fs.Type)
	}
	return fmt.Sprintf("%s, %s, Linux %s, %d processors, state on %s; packages: %s", time.Now().UTC().Format("2006-01-02"),
		cpuModel(), unix.ByteSliceToString(kernel.Release[:]), runtime.NumCPU(), kind, packages())
}

func cpuModel() string {
	content, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "processor unknown"
	}
	for line := range strings.Lines(string(content)) {
		if name, value, found := strings.Cut(line, ":"); found && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "processor unknown"
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
