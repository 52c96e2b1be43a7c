package telemetry

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Renewed counts a client that came with a new certificate.
func (m *Metrics) Renewed() { m.renewals.Inc() }

// How often the certificates of clients are counted, and how long that may take.
const (
	countEvery   = 5 * time.Minute
	countTimeout = 10 * time.Second
)

// horizons are how soon a certificate ends. A client may be many; a label may not be.
var horizons = []struct {
	label string
	d     time.Duration
}{{"0d", 0}, {"1d", 24 * time.Hour}, {"7d", 7 * 24 * time.Hour}, {"30d", 30 * 24 * time.Hour}}

// ClientCertificates exports how many clients have a certificate that ends soon, and the
// first end of those that are still valid. ends returns when the certificates end; it is
// called by a scrape, at most every five minutes. If it fails, the metrics are left out.
func (m *Metrics) ClientCertificates(ends func(context.Context) ([]time.Time, error)) {
	m.registry.MustRegister(&clientExpiry{
		ends: ends,
		count: prometheus.NewDesc("certbound_client_certificates_expiring",
			"Clients whose certificate ends within a time, those whose certificate has ended included.", []string{"within"}, nil),
		next: prometheus.NewDesc("certbound_client_certificate_next_expiry_timestamp_seconds",
			"When the next certificate of a client expires.", nil, nil),
	})
}

type clientExpiry struct {
	ends        func(context.Context) ([]time.Time, error)
	count, next *prometheus.Desc

	mu    sync.Mutex
	at    time.Time
	known []time.Time
	err   error
}

func (e *clientExpiry) Describe(ch chan<- *prometheus.Desc) { ch <- e.count; ch <- e.next }

func (e *clientExpiry) Collect(ch chan<- prometheus.Metric) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	if now.Sub(e.at) >= countEvery {
		ctx, cancel := context.WithTimeout(context.Background(), countTimeout)
		e.known, e.err = e.ends(ctx)
		cancel()
		e.at = now
	}
	if e.err != nil {
		return
	}
	var next time.Time
	counts := make([]int, len(horizons))
	for _, end := range e.known {
		for i, h := range horizons {
			if !end.After(now.Add(h.d)) {
				counts[i]++
			}
		}
		if end.After(now) && (next.IsZero() || end.Before(next)) {
			next = end
		}
	}
	for i, h := range horizons {
		ch <- prometheus.MustNewConstMetric(e.count, prometheus.GaugeValue, float64(counts[i]), h.label)
	}
	if !next.IsZero() {
		ch <- prometheus.MustNewConstMetric(e.next, prometheus.GaugeValue, float64(next.Unix()))
	}
}
