//go:build linux

package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"sallyport/internal/testkit/measure"
)

func ms(d time.Duration) string { return fmt.Sprintf("%.1f", measure.MS(d)) }
func s1(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

func (r pushes) perSecond() float64 { return float64(len(r.logins)) / max(r.took.Seconds(), 1e-9) }

// each login's share of what was used in the time.
func (r pushes) perLogin(cpu time.Duration) string {
	return fmt.Sprintf("%.2f", measure.MS(cpu)/float64(max(1, len(r.logins))))
}

// perStream is the memory of one connection, in KB.
func (c crowd) perStream(after, before int) float64 {
	return float64(after-before) / 1000 / float64(max(1, c.streams))
}

// targets are what the authority is held to; docs/benchmarks.md says why.
func (b *bench) targets() []measure.Target {
	open := func(kind string) float64 {
		var all []time.Duration
		for _, o := range b.opened[kind] {
			all = append(all, o.allowed)
		}
		return measure.MS(measure.Quantile(all, 0.99))
	}
	rate := func(kind string) float64 {
		i := slices.IndexFunc(b.pushes, func(r pushes) bool { return r.kind == kind && r.computers == b.computers[1] && !r.whole })
		if i < 0 {
			return 0
		}
		return b.pushes[i].perSecond()
	}
	return []measure.Target{
		{Name: "approval_opens_login_p99_ms_sqlite", Measured: open("sqlite"), Limit: 50, Digits: 1},
		{Name: "approval_opens_login_p99_ms_postgresql", Measured: open("postgresql"), Limit: 50, Digits: 1},
		{Name: "push_logins_per_s_sqlite", Measured: rate("sqlite"), Limit: 1300, Bound: measure.AtLeast},
		{Name: "push_logins_per_s_postgresql", Measured: rate("postgresql"), Limit: 900, Bound: measure.AtLeast},
		{Name: "idle_stream_rss_kb", Measured: b.crowd.perStream(b.crowd.after.rss, b.crowd.before.rss), Limit: 66, Digits: 1},
		{Name: "item_to_all_streams_s", Measured: b.crowd.itemCommand.Seconds(), Limit: 1, Digits: 2},
	}
}

func (b *bench) report(w io.Writer) {
	fmt.Fprintf(w, "\n%s; PostgreSQL %s; load before: %s\n", measure.Machine(filepath.Dir(b.disk)), b.db.version, b.load)
	if b.quick {
		fmt.Fprintln(w, "A quick run: it shows that the bench works, not how fast the authority is.")
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(cells ...string) { fmt.Fprintln(t, strings.Join(cells, "\t")+"\t") }

	fmt.Fprintln(w, "\nFrom the phone's sending the signed answer (ms), the shipped agent, one login after the other, with an open prompt:")
	row("database", "logins", "login open p50", "p99", "worst", "phone answered p50", "p99")
	for _, kind := range []string{"sqlite", "postgresql"} {
		var allowed, posted []time.Duration
		for _, o := range b.opened[kind] {
			allowed, posted = append(allowed, o.allowed), append(posted, o.posted)
		}
		row(kind, fmt.Sprint(len(allowed)), ms(measure.Quantile(allowed, 0.5)), ms(measure.Quantile(allowed, 0.99)), ms(measure.Quantile(allowed, 1)),
			ms(measure.Quantile(posted, 0.5)), ms(measure.Quantile(posted, 0.99)))
	}
	t.Flush()

	fmt.Fprintf(w, "\nPush logins, for %v each: begin, answer, verify, end; each computer one after the other, %d people in turn. as in life: the phone is rung through a\n"+
		"push service, fetches the list, and connects anew for each request; else it only answers, over a connection that is kept. CPU: ms of one processor for each login.\n", b.pushing, b.people)
	row("database", "computers", "as in life", "logins/s", "p50 ms", "p99 ms", "CPU authority", "PostgreSQL", "bench", "RSS MB", "rings", "no push, overloaded")
	for _, r := range b.pushes {
		life, database := "-", "-"
		if r.whole {
			life = "yes"
		}
		if r.kind == "postgresql" {
			database = r.perLogin(r.databaseCPU)
		}
		row(r.kind, fmt.Sprint(r.computers), life, fmt.Sprintf("%.0f", r.perSecond()), ms(measure.Quantile(r.logins, 0.5)), ms(measure.Quantile(r.logins, 0.99)),
			r.perLogin(r.serverCPU), database, r.perLogin(r.ownCPU), fmt.Sprintf("%.0f", float64(r.rss)/1e6), fmt.Sprint(r.rings), fmt.Sprintf("%d of %d", r.failed, r.failed+r.all))
	}
	t.Flush()

	fmt.Fprintln(w, "\nWhat PostgreSQL does for each login:")
	row("computers", "as in life", "transactions", "WAL bytes", "database grows by bytes")
	for _, r := range b.pushes {
		if r.kind != "postgresql" {
			continue
		}
		life, n := "-", float64(max(1, r.all))
		if r.whole {
			life = "yes"
		}
		row(fmt.Sprint(r.computers), life, fmt.Sprintf("%.1f", float64(r.done.transactions)/n), fmt.Sprintf("%.0f", float64(r.done.wal)/n), fmt.Sprintf("%.0f", float64(r.done.size)/n))
	}
	t.Flush()

	fmt.Fprintln(w)
	for _, x := range []struct {
		what string
		usage
	}{{"computers that connect", b.arrivals}, {"events, 10 in a batch", b.events}} {
		n := float64(max(1, x.n))
		fmt.Fprintf(w, "%d %s, 32 at once: %.0f/s; each %.2f ms CPU of the authority, %.2f of PostgreSQL, %.2f transactions, %.0f bytes of WAL, %.0f of growth\n",
			x.n, x.what, n/max(x.took.Seconds(), 1e-9), measure.MS(x.serverCPU)/n, measure.MS(x.databaseCPU)/n, float64(x.done.transactions)/n, float64(x.done.wal)/n, float64(x.done.size)/n)
	}

	c := b.crowd
	n := float64(max(1, c.streams))
	fmt.Fprintf(w, `
%d connected computers on one node, SQLite, mutual TLS:
  joined, in the database:      %.2f ms each
  connected:                    %s, %.0f/s; %.2f ms CPU of the authority each
  memory, after %v:           RSS %.1f KB each (%.0f MB -> %.0f MB), PSS %.1f KB each; Go: heap in use %.0f MB, stacks %.0f MB
  goroutines:                   %.1f each
  doing nothing, for %v:      %.1f %% of a processor (keepalive every %v)
  an item of %d bytes to all: %.2f s from the start of 'sallyport-authority policy set'; %.2f s from the first that had it to the last
  restart:                      stopped in %s, ready again in %s
  back (within %v, then doubled, as agents do): 99 %% after %s, the last after %s: %d of %d; %d attempts failed; %.2f ms CPU of the authority each; RSS then %.0f MB
The whole bench took %s.

`, c.streams, measure.MS(c.seeded)/max(1, n-float64(b.computers[1])),
		s1(c.connected), n/max(c.connected.Seconds(), 1e-9), measure.MS(c.connectCPU)/n,
		c.idle, c.perStream(c.after.rss, c.before.rss), float64(c.before.rss)/1e6, float64(c.after.rss)/1e6, c.perStream(c.after.pss, c.before.pss), c.heap/1e6, c.stacks/1e6,
		c.goroutines/n,
		c.idle, 100*c.idleCPU.Seconds()/max(c.idle.Seconds(), 1e-9), pingEvery,
		c.itemBytes, c.itemCommand.Seconds(), c.itemSpread.Seconds(),
		s1(c.stopped), s1(c.restarted),
		c.stormWindow, s1(c.back99), s1(c.backAll), c.stormBack, c.streams, c.stormFailed, measure.MS(c.stormCPU)/n, float64(c.stormRSS)/1e6,
		s1(b.took))
	b.model(w)
	fmt.Fprintln(w)
	for _, t := range b.targets() {
		fmt.Fprintln(w, t)
	}
}

// loadNow is how busy the machine was in the last minute, by others.
func loadNow() string {
	content, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(content), " ")
	return first
}
