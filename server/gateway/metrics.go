package gateway

import (
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/certbound/certbound/decision"
)

// Metrics are those of a gateway. Routes are told apart by the names of the
// configuration; nothing that a client sends becomes a label.
type Metrics struct {
	duration *prometheus.HistogramVec
	inFlight *prometheus.GaugeVec
	ends     *prometheus.CounterVec

	mu     sync.Mutex
	routes map[string]*routeMetrics
}

// NewMetrics registers the metrics.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		routes: map[string]*routeMetrics{},
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "certbound_gateway_request_duration_seconds",
			Help:    "Time of an allowed request, from its header to the last octet of the answer, by route and class of the status.",
			Buckets: []float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30, 300},
		}, []string{"route", "code"}),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "certbound_gateway_requests_in_flight", Help: "Allowed requests that are going on, streams included.",
		}, []string{"route"}),
		ends: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "certbound_gateway_streams_ended_total",
			Help: "Requests that were cut off because they would not be allowed any more, by reason.",
		}, []string{"route", "reason"}),
	}
	r.MustRegister(m.duration, m.inFlight, m.ends)
	return m
}

// routeMetrics are those of one route, looked up once.
type routeMetrics struct {
	name    string
	classes [6]prometheus.Observer
	flying  prometheus.Gauge
	ends    *prometheus.CounterVec
}

// route returns the metrics of a route; nil for nil.
func (m *Metrics) route(name string) *routeMetrics {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.routes[name]
	if !ok {
		r = &routeMetrics{name: name, flying: m.inFlight.WithLabelValues(name), ends: m.ends}
		for i := range r.classes {
			r.classes[i] = m.duration.WithLabelValues(name, strconv.Itoa(i)+"xx")
		}
		for _, reason := range []decision.Reason{decision.TokenExpired, decision.Expired, decision.TokenInactive} {
			m.ends.WithLabelValues(name, string(reason))
		}
		m.routes[name] = r
	}
	return r
}

func (r *routeMetrics) begin() {
	if r != nil {
		r.flying.Inc()
	}
}

func (r *routeMetrics) end(status int, took time.Duration) {
	if r == nil {
		return
	}
	r.flying.Dec()
	r.classes[min(max(status/100, 0), 5)].Observe(took.Seconds())
}

func (r *routeMetrics) ended(err error) {
	if r == nil {
		return
	}
	if e, ok := errors.AsType[*EndedError](err); ok {
		r.ends.WithLabelValues(r.name, string(e.Reason)).Inc()
	}
}
