package server

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sallyport/authority/config"
	"sallyport/authority/eventsout"
	"sallyport/authority/store"
)

// Outlets are the names of those that a configuration has.
func Outlets(c *config.Config) (names []string) {
	for _, s := range sinks(c, "", nil) {
		names = append(names, s.Name())
	}
	return names
}

// sinks are where the events go.
func sinks(c *config.Config, version string, now func() time.Time) (list []eventsout.Sink) {
	if l := c.EventsOut.Syslog; l.Address != "" {
		list = append(list, eventsout.Lazy("syslog", func() (eventsout.Sink, error) {
			return eventsout.NewSyslog(eventsout.SyslogOptions{Address: l.Address, ServerName: l.ServerName, CA: l.CA, Cert: l.Cert, Key: l.Key, Confirm: l.Confirm})
		}))
	}
	if w := c.EventsOut.Webhook; w.URL != "" {
		list = append(list, eventsout.Lazy("webhook", func() (eventsout.Sink, error) {
			return eventsout.NewWebhook(eventsout.WebhookOptions{URL: w.URL, SecretFile: w.SecretFile, CA: w.CA, Format: w.Format, Version: version, Now: now})
		}))
	}
	return list
}

// outlets deliver events until ctx ends.
func (s *server) outlets(ctx context.Context) {
	eventsout.New(eventsout.Options{Store: s.Store, Sinks: sinks(&s.Config, s.options.Version, s.options.Now), Now: s.options.Now, Log: s.options.Log}).Run(ctx)
}

// delivery says how far the outlets are. Every node says the same: it is in the
// database.
type delivery struct {
	store store.Store
	names []string
	log   *slog.Logger
	now   func() time.Time
}

var deliveryDescs = func() (d struct{ waiting, oldest, sent, missed, failing *prometheus.Desc }) {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("sallyport_events_out_"+name, help, []string{"outlet"}, nil)
	}
	d.waiting = desc("waiting", "Events that the outlet has not got yet.")
	d.oldest = desc("oldest_seconds", "How long the oldest of them has waited; 0: none waits.")
	d.sent = desc("sent_total", "Events that the outlet has taken.")
	d.missed = desc("missed_total", "Events that were removed before the outlet took them.")
	d.failing = desc("failing", "1: the last attempt failed.")
	return d
}()

// Describe implements prometheus.Collector.
func (d *delivery) Describe(to chan<- *prometheus.Desc) {
	for _, x := range []*prometheus.Desc{deliveryDescs.waiting, deliveryDescs.oldest, deliveryDescs.sent, deliveryDescs.missed, deliveryDescs.failing} {
		to <- x
	}
}

// Collect implements prometheus.Collector.
func (d *delivery) Collect(to chan<- prometheus.Metric) {
	if len(d.names) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), readyTime)
	defer cancel()
	list, err := Deliveries(ctx, d.store, d.names)
	if err != nil {
		d.log.Warn("how far the outlets are could not be read for the metrics", "error", err)
		return
	}
	for _, x := range list {
		oldest, failing := 0.0, 0.0
		if x.Waiting > 0 {
			oldest = max(0, d.now().Sub(x.Oldest).Seconds())
		}
		if x.Error != "" {
			failing = 1
		}
		for _, m := range []struct {
			desc  *prometheus.Desc
			kind  prometheus.ValueType
			value float64
		}{
			{deliveryDescs.waiting, prometheus.GaugeValue, float64(x.Waiting)}, {deliveryDescs.oldest, prometheus.GaugeValue, oldest},
			{deliveryDescs.sent, prometheus.CounterValue, float64(x.Sent)}, {deliveryDescs.missed, prometheus.CounterValue, float64(x.Missed)},
			{deliveryDescs.failing, prometheus.GaugeValue, failing},
		} {
			to <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value, x.Sink)
		}
	}
}

// Deliveries are those of the outlets of these names, also of one that never
// delivered.
func Deliveries(ctx context.Context, s store.Store, names []string) (list []store.Delivery, err error) {
	err = s.View(ctx, func(tx store.Tx) error {
		all, err := tx.Deliveries()
		list = nil
		for _, name := range names {
			d := store.Delivery{Sink: name}
			for _, x := range all {
				if x.Sink == name {
					d = x
				}
			}
			list = append(list, d)
		}
		return err
	})
	return list, err
}
