// Package telemetry is what an operator sees of a running server: metrics for
// Prometheus, fed by the decisions that the other parts make, and the log.
package telemetry

import (
	"context"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/certbound/certbound/decision"
)

// Endpoints that metrics tell apart. A path is a stranger's text and never becomes a
// label.
const (
	EndpointToken       = "token"
	EndpointIntrospect  = "introspect"
	EndpointRevoke      = "revoke"
	EndpointRevocations = "revocations" // the feed
	EndpointJWKS        = "jwks"
	EndpointMetadata    = "metadata"
	EndpointAPI         = "api" // a protected resource
	EndpointOther       = "other"
	// EndpointPeople stands for all of peopleEndpoints where decisions are counted.
	EndpointPeople = "people"
)

// peopleEndpoints are those of the flows with a person in them, and of registration. They
// have labels of their own, which begin with the first request: few servers have them.
var peopleEndpoints = []string{"par", "authorize", "login", "consent", "logout", "userinfo", "register"}

var endpoints = []string{
	EndpointToken, EndpointIntrospect, EndpointRevoke, EndpointRevocations, EndpointJWKS, EndpointMetadata, EndpointAPI, EndpointOther,
}

// judging are the endpoints at which decisions are made.
var judging = []string{EndpointToken, EndpointIntrospect, EndpointRevoke, EndpointRevocations, EndpointAPI, EndpointPeople, EndpointOther}

// latencies are the bounds of the histograms, in seconds: a kept-alive token request
// takes about 100 µs, a commit of the store about 1 ms.
var latencies = []float64{0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5}

// Metrics are the metrics of one server. It is safe for concurrent use.
type Metrics struct {
	registry  *prometheus.Registry
	decisions map[string]*byReason // by endpoint
	warnings  map[decision.Reason]prometheus.Counter
	requests  *prometheus.HistogramVec
	inFlight  *prometheus.GaugeVec
	store     *prometheus.HistogramVec
	renewals  prometheus.Counter
}

// byReason are the counters of one endpoint.
type byReason struct {
	allowed prometheus.Counter
	refused map[decision.Reason]prometheus.Counter
}

// New returns metrics in a registry of their own. version is that of the program; if
// empty, what the Go toolchain has noted.
func New(version string) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), decisions: make(map[string]*byReason), warnings: make(map[decision.Reason]prometheus.Counter)}
	m.registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	if info, ok := debug.ReadBuildInfo(); ok && version == "" {
		version = info.Main.Version
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "certbound_build_info", Help: "Always 1; the label is the version.",
		ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	m.registry.MustRegister(build)

	decisions := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "certbound_decisions_total",
		Help: "Judgements by endpoint and outcome; a refusal by the reason of its first failed check, with the names of the log.",
	}, []string{"endpoint", "outcome", "reason"})
	warnings := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "certbound_warnings_total",
		Help: "Findings that refused nothing, such as a certificate header that nobody reads.",
	}, []string{"reason"})
	m.requests = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "certbound_request_duration_seconds", Help: "Time to answer a request, from its header to the last octet; issuing a token is endpoint token, code 200.",
		Buckets: latencies,
	}, []string{"listener", "endpoint", "code"})
	m.inFlight = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "certbound_requests_in_flight", Help: "Requests that are being served.",
	}, []string{"listener"})
	m.store = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "certbound_store_duration_seconds", Help: "Time of the store, by operation; an outcome such as 'not found' is no error.",
		Buckets: latencies,
	}, []string{"operation", "result"})
	m.renewals = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "certbound_client_renewals_total", Help: "Clients that came with a certificate they were never seen with before.",
	})
	m.registry.MustRegister(decisions, warnings, m.requests, m.inFlight, m.store, m.renewals)

	// Every reason begins at zero: the rate of a counter that appears with its first
	// event misses that event.
	for _, endpoint := range judging {
		r := &byReason{
			allowed: decisions.WithLabelValues(endpoint, "allowed", ""),
			refused: make(map[decision.Reason]prometheus.Counter),
		}
		for _, reason := range decision.Reasons() {
			r.refused[reason] = decisions.WithLabelValues(endpoint, "refused", string(reason))
		}
		m.decisions[endpoint] = r
	}
	for _, reason := range decision.Reasons() {
		m.warnings[reason] = warnings.WithLabelValues(string(reason))
	}
	return m
}

// Handler serves the metrics. They tell much to a stranger: serve it on the admin
// listener only.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Registry: m.registry})
}

// Registry returns the registry, for metrics of the caller's own.
func (m *Metrics) Registry() *prometheus.Registry { return m.registry }

// Observer counts decisions at the endpoint that [Metrics.Instrument] has noted, or at
// EndpointOther.
func (m *Metrics) Observer() decision.Observer {
	return func(ctx context.Context, d *decision.Decision) {
		endpoint, ok := ctx.Value(endpointKey{}).(*label)
		if !ok {
			m.count(EndpointOther, d)
			return
		}
		m.count(endpoint.name, d)
	}
}

// ObserverAt counts decisions at an endpoint: EndpointAPI for a resource server.
func (m *Metrics) ObserverAt(endpoint string) decision.Observer {
	return func(_ context.Context, d *decision.Decision) { m.count(endpoint, d) }
}

func (m *Metrics) count(endpoint string, d *decision.Decision) {
	r, ok := m.decisions[endpoint]
	switch {
	case ok:
	case slices.Contains(peopleEndpoints, endpoint):
		r = m.decisions[EndpointPeople]
	default:
		r = m.decisions[EndpointOther]
	}
	if d.Allowed {
		r.allowed.Inc()
	} else {
		known(r.refused, d.Reason()).Inc()
	}
	for _, w := range d.Warnings {
		known(m.warnings, w.Reason).Inc()
	}
}

// known keeps the set of labels closed.
func known(counters map[decision.Reason]prometheus.Counter, r decision.Reason) prometheus.Counter {
	if c, ok := counters[r]; ok {
		return c
	}
	return counters[decision.Unspecified]
}

// Certificate exports the end of a certificate, such as "listen.public", so that an
// alert can come before it. notAfter is called at each scrape; a zero time is left out.
func (m *Metrics) Certificate(name string, notAfter func() time.Time) {
	m.registry.MustRegister(&expiry{
		desc: prometheus.NewDesc("certbound_certificate_not_after_timestamp_seconds",
			"When a certificate expires.", nil, prometheus.Labels{"name": name}),
		notAfter: notAfter,
	})
}

type expiry struct {
	desc     *prometheus.Desc
	notAfter func() time.Time
}

func (e *expiry) Describe(ch chan<- *prometheus.Desc) { ch <- e.desc }

func (e *expiry) Collect(ch chan<- prometheus.Metric) {
	if at := e.notAfter(); !at.IsZero() {
		ch <- prometheus.MustNewConstMetric(e.desc, prometheus.GaugeValue, float64(at.Unix()))
	}
}

// Connections exports the connections of a listener.
func (m *Metrics) Connections(listener string, stats func() (open, refused int64)) {
	labels := prometheus.Labels{"listener": listener}
	m.registry.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "certbound_connections_open", Help: "Open connections.", ConstLabels: labels,
		}, func() float64 { open, _ := stats(); return float64(open) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "certbound_connections_refused_total", Help: "Connections that were closed because there were too many.", ConstLabels: labels,
		}, func() float64 { _, refused := stats(); return float64(refused) }),
	)
}

// Log exports how many records a logger could not write (see [LostRecords]): nobody else can
// say that the log is broken.
func (m *Metrics) Log(l *slog.Logger) {
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "certbound_log_records_lost_total", Help: "Records that could not be written to the log, such as to a disk that is full.",
	}, func() float64 { return float64(LostRecords(l)) }))
}

// A Reload is something that is read again when its files change.
type Reload struct {
	// Generation grows with each state that was taken on.
	Generation uint64
	// Broken is set while the newest state cannot be used, and the old one is.
	Broken bool
}

// Reloads exports the state of something that is read again, such as "trust" or
// "listen.public": an alert on broken finds the typo before the old state runs out.
func (m *Metrics) Reloads(name string, state func() Reload) {
	labels := prometheus.Labels{"name": name}
	m.registry.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "certbound_reload_generation", Help: "Grows whenever files with a new content were taken on.", ConstLabels: labels,
		}, func() float64 { return float64(state().Generation) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "certbound_reload_broken", Help: "1 while the files on disk cannot be used and the old content is.", ConstLabels: labels,
		}, func() float64 {
			if state().Broken {
				return 1
			}
			return 0
		}),
	)
}

// endpointOf returns the label for a path. It looks at the end, since an issuer may have
// a path, and at the well-known names, which stand before it (RFC 8414, Section 3.1).
func endpointOf(path string) string {
	if strings.HasPrefix(path, "/.well-known/") || strings.HasSuffix(path, "/.well-known/openid-configuration") {
		return EndpointMetadata
	}
	last := path[strings.LastIndexByte(path, '/')+1:]
	if i := slices.Index(endpoints, last); i >= 0 && last != EndpointAPI && last != EndpointMetadata {
		return last
	}
	if i := slices.Index(peopleEndpoints, last); i >= 0 {
		return peopleEndpoints[i] // a string of ours, whatever path it came with
	}
	return EndpointOther
}
