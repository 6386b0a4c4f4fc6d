package server

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"sallyport/authority/enrol"
	"sallyport/authority/push"
	"sallyport/authority/store"
	"sallyport/authority/webpush"
	"sallyport/internal/event"
	factor "sallyport/internal/factor/push"
	"sallyport/internal/organisation"
)

// metrics is what monitoring sees. No label has a value that comes from outside.
type metrics struct {
	registry     *prometheus.Registry
	pushes       prometheus.Counter
	refused      *prometheus.CounterVec // reason
	answered     *prometheus.CounterVec // decision
	ended        *prometheus.CounterVec // outcome
	answerTime   prometheus.Histogram
	rings        *prometheus.CounterVec // result
	ringTime     prometheus.Histogram
	database     *prometheus.CounterVec // kind of error
	databaseTime *prometheus.HistogramVec
	certificates prometheus.Counter
	requests     *prometheus.CounterVec // listener, code
	events       *prometheus.CounterVec // name
}

func newMetrics(version string) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "sallyport", Name: name, Help: help})
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "sallyport", Name: name, Help: help}, labels)
	}
	m := &metrics{
		registry: prometheus.NewRegistry(),
		pushes:   counter("pushes_begun_total", "Challenges that phones were rung for."),
		refused:  counters("pushes_refused_total", "Challenges that no phone was rung for.", "reason"),
		answered: counters("pushes_answered_total", "Answers of phones. What they were worth, the computers decide.", "decision"),
		ended:    counters("pushes_ended_total", "How the computers say that logins ended.", "outcome"),
		answerTime: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "sallyport", Name: "push_answer_seconds",
			Help: "From the challenge to the phone's answer.", Buckets: []float64{1, 2, 4, 8, 15, 30, 60}}),
		rings: counters("phone_messages_total", "Messages to phones by way of push services.", "result"),
		ringTime: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "sallyport", Name: "phone_message_seconds",
			Help: "Until the push service took a message.", Buckets: []float64{.01, .05, .1, .25, .5, 1, 2.5, 5, 10}}),
		database: counters("database_errors_total", "Transactions that failed for the database's sake.", "kind"),
		databaseTime: prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "sallyport", Name: "database_seconds",
			Help: "Transactions, until they were on disk.", Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .1, 1, 10}}, []string{"kind"}),
		certificates: counter("certificates_issued_total", "Certificates for computers, at the join and at each renewal."),
		requests:     counters("http_requests_total", "Requests for the page and its API.", "code"),
		events:       counters("authority_events_total", "The authority's own events.", "event"),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "sallyport", Name: "build_info", Help: "The version.", ConstLabels: prometheus.Labels{"version": version}})
	build.Set(1)
	m.registry.MustRegister(m.pushes, m.refused, m.answered, m.ended, m.answerTime, m.rings, m.ringTime, m.database, m.databaseTime,
		m.certificates, m.requests, m.events, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, r := range refusals {
		m.refused.WithLabelValues(string(r))
	}
	for _, r := range []string{"ok", "gone", "error"} {
		m.rings.WithLabelValues(r)
	}
	for _, k := range []string{"update", "view"} {
		m.database.WithLabelValues(k)
	}
	return m
}

// streams says how many computers are connected to this node.
func (m *metrics) streams(count func() int) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "sallyport", Name: "streams", Help: "Computers connected to this node."},
		func() float64 { return float64(count()) }))
}

// webCertificate says when the certificate that browsers see ends: one that
// somebody else renews, and may forget.
func (m *metrics) webCertificate(ends func() time.Time) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "sallyport", Name: "web_certificate_ends_timestamp_seconds",
		Help: "When the certificate that browsers see ends."}, func() float64 { return float64(ends().Unix()) }))
}

// refusals are the reasons that have a label of their own.
var refusals = []factor.Reason{factor.TooMany, factor.Paused, factor.Reported, push.Malformed, push.NotAllowed, push.NoPhone, push.Unavailable}

// outcomes are those of PushEnd.
var outcomes = []string{"approved", "code", "denied", "reported", "wrong_number", "timed_out", "cancelled"}

// oneOf bounds a label.
func oneOf[T ~string](s T, known []T) string {
	for _, k := range known {
		if s == k {
			return string(s)
		}
	}
	return "other"
}

// ownEvents are those of the authority that are counted by name.
var ownEvents = []event.Name{enrol.TokenCreated, enrol.TokenRefused, enrol.DeviceJoined, enrol.DeviceRevoked, enrol.UserAdded, enrol.UserRemoved,
	enrol.EnrolmentOpened, enrol.EnrolmentRefused, enrol.PhoneEnrolled, enrol.PhoneRemoved, enrol.ManifestSigned, enrol.TOTPIssued, enrol.RecoveryIssued,
	enrol.BypassIssued, enrol.PolicyChanged, enrol.SettingsChanged, enrol.VaultRolledBack, enrol.EventsDropped, enrol.EventsMissed, event.PushFailed, event.PushReported,
	event.PushPaused, event.PushCleared}

// meter counts what a database keeps, once it is on disk.
func (m *metrics) meter(s store.Store) store.Store { return &meteredStore{s, m} }

type meteredStore struct {
	store.Store
	m *metrics
}

// Update implements store.Store.
func (s *meteredStore) Update(ctx context.Context, fn func(store.Tx) error) error {
	return s.write(ctx, s.Store.Update, fn)
}

// Change implements store.Store.
func (s *meteredStore) Change(ctx context.Context, fn func(store.Tx) error) error {
	return s.write(ctx, s.Store.Change, fn)
}

func (s *meteredStore) write(ctx context.Context, how func(context.Context, func(store.Tx) error) error, fn func(store.Tx) error) error {
	var t *meteredTx
	began := time.Now()
	err := how(ctx, func(tx store.Tx) error {
		t = &meteredTx{Tx: tx, m: s.m} // fn may run again: what it counted then is void
		return fn(t)
	})
	if err == nil {
		for _, count := range t.counts {
			count()
		}
	}
	s.observe("update", began, err)
	return err
}

// View implements store.Store.
func (s *meteredStore) View(ctx context.Context, fn func(store.Tx) error) error {
	began := time.Now()
	err := s.Store.View(ctx, fn)
	s.observe("view", began, err)
	return err
}

func (s *meteredStore) observe(kind string, began time.Time, err error) {
	s.m.databaseTime.WithLabelValues(kind).Observe(time.Since(began).Seconds())
	if errors.Is(err, store.ErrUnavailable) {
		s.m.database.WithLabelValues(kind).Inc()
	}
}

type meteredTx struct {
	store.Tx
	m      *metrics
	counts []func()
	// What was read last, so that it is not read once more to be counted.
	challenge store.Challenge
	device    store.Device
}

// Challenge implements store.Tx.
func (t *meteredTx) Challenge(id string) (c store.Challenge, err error) {
	if c, err = t.Tx.Challenge(id); err == nil {
		t.challenge = c
	}
	return c, err
}

// Device implements store.Tx.
func (t *meteredTx) Device(id string) (d store.Device, err error) {
	if d, err = t.Tx.Device(id); err == nil {
		t.device = d
	}
	return d, err
}

func (t *meteredTx) count(err error, f func()) error {
	if err == nil {
		t.counts = append(t.counts, f)
	}
	return err
}

// PutDevice implements store.Tx.
func (t *meteredTx) PutDevice(d store.Device) error {
	if t.device.ID != d.ID {
		if _, err := t.Device(d.ID); err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
	var before store.Device
	if t.device.ID == d.ID {
		before = t.device
	}
	err := t.Tx.PutDevice(d)
	if err == nil {
		t.device = d
	}
	if before.Expires.Equal(d.Expires) {
		return err
	}
	return t.count(err, t.m.certificates.Inc)
}

// CreateChallenge implements store.Tx.
func (t *meteredTx) CreateChallenge(c store.Challenge) error {
	return t.count(t.Tx.CreateChallenge(c), t.m.pushes.Inc)
}

// Answer implements store.Tx.
func (t *meteredTx) Answer(id string, a factor.Answer, now time.Time) error {
	if t.challenge.ID != id {
		if _, err := t.Challenge(id); err != nil {
			return err
		}
	}
	created := t.challenge.Created
	return t.count(t.Tx.Answer(id, a, now), func() {
		t.m.answered.WithLabelValues(oneOf(a.Decision, []factor.Decision{factor.Approve, factor.Deny, factor.Report})).Inc()
		t.m.answerTime.Observe(now.Sub(created).Seconds())
	})
}

// EndChallenge implements store.Tx.
func (t *meteredTx) EndChallenge(id, outcome string, now time.Time) error {
	return t.count(t.Tx.EndChallenge(id, outcome, now), t.m.ended.WithLabelValues(oneOf(outcome, outcomes)).Inc)
}

// AddEvents implements store.Tx.
func (t *meteredTx) AddEvents(list []store.Event) (uint64, error) {
	last, err := t.Tx.AddEvents(list)
	for _, e := range list {
		if e.Device != "" {
			continue // its own business
		}
		_ = t.count(err, func() {
			t.m.events.WithLabelValues(oneOf(event.Name(e.Name), ownEvents)).Inc()
			var j event.Event
			if event.Name(e.Name) == event.PushFailed && json.Unmarshal(e.JSON, &j) == nil {
				t.m.refused.WithLabelValues(oneOf(factor.Reason(j.Reason), refusals)).Inc()
			}
		})
	}
	return last, err
}

// ringer counts messages to phones.
type ringer struct {
	push.Ringer
	m *metrics
}

// Ring implements push.Ringer.
func (r ringer) Ring(ctx context.Context, subscription, payload []byte, ttl time.Duration) error {
	began := time.Now()
	err := r.Ringer.Ring(ctx, subscription, payload, ttl)
	result := "ok"
	switch {
	case errors.Is(err, webpush.ErrGone):
		result = "gone"
	case err != nil:
		result = "error"
	default:
		r.m.ringTime.Observe(time.Since(began).Seconds())
	}
	r.m.rings.WithLabelValues(result).Inc()
	return err
}

// http counts requests by their status.
func (m *metrics) http(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &coded{ResponseWriter: w, code: http.StatusOK}
		defer func() { m.requests.WithLabelValues(strconv.Itoa(c.code)).Inc() }()
		h.ServeHTTP(c, r)
	})
}

// coded remembers the status. Handlers here choose it: there are few.
type coded struct {
	http.ResponseWriter
	code int
}

// WriteHeader implements http.ResponseWriter.
func (c *coded) WriteHeader(code int) {
	c.code = code
	c.ResponseWriter.WriteHeader(code)
}

// Unwrap is for http.ResponseController.
func (c *coded) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// trusted says what whoever owns this machine could do.
func (m *metrics) trusted(held bool, s organisation.Settings) {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "sallyport", Name: "trusted", Help: "1: whoever owns this authority could do it."}, []string{"what"})
	m.registry.MustRegister(g)
	set := func(what string, is bool) {
		v := 0.0
		if is {
			v = 1
		}
		g.WithLabelValues(what).Set(v)
	}
	set("organisation_key", held)
	set("page", s.Origin == s.API)
}
