//go:build linux

package main

import (
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"
	"time"
)

// What the model assumes; docs/scale.md says why.
const (
	streamsOfNode   = 50_000
	pushesInPeak    = 1.0 // by each computer, in the busiest hour
	pushesInDay     = 4.0 // by each computer
	eventsInDay     = 20.0
	challengesKept  = 30   // days, as the server sweeps
	eventsKept      = 90   // days, the default
	backupBytes     = 50e6 // a second that a dump reads
	busy            = 0.5  // of a processor, so that there is room
	renewEveryDays  = 3.5
	arrivingWindows = 16.0 // seconds: the agents' window after an authority that stopped
)

// model is what the measured figures come to for so many computers.
func (b *bench) model(w io.Writer) {
	var life pushes
	for _, r := range b.pushes {
		if r.kind == "postgresql" && r.whole {
			life = r
		}
	}
	c, e := b.crowd, b.events
	of := func(x time.Duration, n int) float64 { return x.Seconds() / float64(max(1, n)) } // s each
	each := func(x int64, n int) float64 { return float64(x) / float64(max(1, n)) }
	streamBytes := float64(c.after.rss-c.before.rss) / float64(max(1, c.streams))
	idle := c.idleCPU.Seconds() / max(c.idle.Seconds(), 1e-9) / float64(max(1, c.streams))
	pushCPU, pushDB := of(life.serverCPU, len(life.logins)), of(life.databaseCPU, len(life.logins))
	pushTx, pushWAL, pushSize := each(life.done.transactions, life.all), each(life.done.wal, life.all), each(life.done.size, life.all)
	p := b.arrivals
	backCPU, backDB, backTx := of(p.serverCPU, p.n), of(p.databaseCPU, p.n), each(p.done.transactions, p.n)
	eventDB, eventWAL, eventSize := of(e.databaseCPU, e.n), each(e.done.wal, e.n), each(e.done.size, e.n)
	itemEach := c.itemSpread.Seconds() / float64(max(1, c.streams))

	fmt.Fprintf(w, "\nThe model of docs/scale.md, from the figures above (PostgreSQL, as in life); CPU in processors like this machine's.\n")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	line := func(name string, cells ...string) { fmt.Fprintln(t, name+"\t"+strings.Join(cells, "\t")+"\t") }
	sizes := []float64{1000, 10_000, 100_000, 1_000_000}
	row := func(name, format string, f func(n float64) float64) {
		var cells []string
		for _, n := range sizes {
			cells = append(cells, fmt.Sprintf(format, f(n)))
		}
		line(name, cells...)
	}
	nodes := func(n float64) float64 { return math.Ceil(n/streamsOfNode) + 1 }
	onNode := func(n float64) float64 { return n / max(1, nodes(n)-1) } // one of them is lost
	rate := func(n float64) float64 { return n * pushesInPeak / 3600 }
	arrive := func(n float64) float64 { return n / nodes(n) / arrivingWindows }
	row("computers", "%.0f", func(n float64) float64 { return n })
	row("nodes, one of them spare", "%.0f", nodes)
	row("streams on a node when one is lost", "%.0f", onNode)
	row("their memory, GB", "%.2f", func(n float64) float64 { return onNode(n) * streamBytes / 1e9 })
	row("idle CPU of a node", "%.2f", func(n float64) float64 { return onNode(n) * idle })
	row("pushes/s in the busiest hour", "%.1f", rate)
	row("CPU of all nodes for them", "%.2f", func(n float64) float64 { return rate(n) * pushCPU })
	row("CPU of PostgreSQL for them", "%.2f", func(n float64) float64 { return rate(n) * pushDB })
	row("processors to give PostgreSQL", "%.0f", func(n float64) float64 { return math.Ceil(rate(n) * pushDB / busy) })
	row("transactions/s", "%.0f", func(n float64) float64 { return rate(n) * pushTx })
	row("NOTIFY/s", "%.1f", rate)
	row("WAL, MB/s", "%.2f", func(n float64) float64 { return rate(n) * pushWAL / 1e6 })
	row("a node is lost: arrivals/s", "%.0f", arrive)
	row("their CPU on the other nodes, each", "%.2f", func(n float64) float64 { return arrive(n) * backCPU / max(1, nodes(n)-1) })
	row("their CPU of PostgreSQL", "%.2f", func(n float64) float64 { return arrive(n) * backDB })
	row("their transactions/s", "%.0f", func(n float64) float64 { return arrive(n) * backTx })
	row("all back at the rate measured here, s", "%.0f", func(n float64) float64 {
		return max(arrivingWindows, n/nodes(n)*p.took.Seconds()/float64(max(1, p.n)))
	})
	row("an item to all, s", "%.2f", func(n float64) float64 { return onNode(n) * itemEach })
	row("renewed certificates/s", "%.2f", func(n float64) float64 { return n / (renewEveryDays * 86400) })
	row("events/s, mean", "%.1f", func(n float64) float64 { return n * eventsInDay / 86400 })
	row("CPU of PostgreSQL for them", "%.3f", func(n float64) float64 { return n * eventsInDay / 86400 * eventDB })
	size := func(n float64) float64 {
		return n * (b.deviceBytes + b.personBytes + pushesInDay*challengesKept*pushSize + eventsInDay*eventsKept*eventSize) / 1e9
	}
	row("database, GB", "%.1f", size)
	row("of these, events", "%.1f", func(n float64) float64 { return n * eventsInDay * eventsKept * eventSize / 1e9 })
	row("WAL in a day, GB", "%.1f", func(n float64) float64 { return n * (pushesInDay*pushWAL + eventsInDay*eventWAL) / 1e9 })
	row("a dump, minutes", "%.0f", func(n float64) float64 { return size(n) * 1e9 / backupBytes / 60 })
	t.Flush()
	fmt.Fprintf(w, `measured: %.1f KB and %.2g of a processor for each stream; %.2f ms CPU of the authority, %.2f of PostgreSQL, %.1f transactions, %.0f bytes of WAL and %.0f of growth for each push;
%.2f ms, %.2f ms and %.1f transactions for each arrival, %.0f/s; %.2f ms of PostgreSQL, %.0f bytes of WAL and %.0f of growth for each event, %.0f/s; %.0f bytes for each computer and %.0f for each person with a phone.
assumed: %d streams a node; each computer: %.0f push in the busiest hour, %.0f a day, %.0f events a day; kept: challenges %d days, events %d days; a dump reads %.0f MB/s.
`, streamBytes/1000, idle, 1000*pushCPU, 1000*pushDB, pushTx, pushWAL, pushSize,
		1000*backCPU, 1000*backDB, backTx, float64(p.n)/max(p.took.Seconds(), 1e-9), 1000*eventDB, eventWAL, eventSize, float64(e.n)/max(e.took.Seconds(), 1e-9), b.deviceBytes, b.personBytes,
		streamsOfNode, pushesInPeak, pushesInDay, eventsInDay, challengesKept, eventsKept, backupBytes/1e6)
}
