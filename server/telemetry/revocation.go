package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/certbound/certbound/pki/revocation"
)

// states are all that a revocation source can be in.
var states = []string{"good", "stale", "unverified", "missing", "failing", "unused"}

// Revocation exports the state of the revocation sources of an anchor set. Sources that
// certificates have named are counted together: what a certificate says is no label.
func (m *Metrics) Revocation(set string, status func() []revocation.SourceStatus) {
	m.registry.MustRegister(&sources{set: set, status: status, now: time.Now})
}

type sources struct {
	set    string
	status func() []revocation.SourceStatus
	now    func() time.Time
}

var (
	sourceLabels = []string{"set", "kind", "source"}
	sourceState  = prometheus.NewDesc("certbound_revocation_source_state",
		"1 for the state that a CRL or OCSP source is in; sources named by certificates are counted together.",
		[]string{"set", "kind", "source", "state"}, nil)
	sourceNext = prometheus.NewDesc("certbound_revocation_next_update_timestamp_seconds",
		"When the list ends that is in use.", sourceLabels, nil)
	sourceAge = prometheus.NewDesc("certbound_revocation_age_seconds",
		"Time since the source last had an answer.", sourceLabels, nil)
	sourceEntries = prometheus.NewDesc("certbound_revocation_entries",
		"Entries of the list in use.", sourceLabels, nil)
	sourceAttempts = prometheus.NewDesc("certbound_revocation_attempts_total",
		"Attempts to read a source.", []string{"set", "kind", "source", "result"}, nil)
)

func (s *sources) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{sourceState, sourceNext, sourceAge, sourceEntries, sourceAttempts} {
		ch <- d
	}
}

func (s *sources) Collect(ch chan<- prometheus.Metric) {
	type group struct{ kind, source string }
	inState := map[group]map[string]int{}
	attempts := map[group][2]uint64{}
	for _, st := range s.status() {
		g := group{st.Kind, st.Name}
		if st.FromCertificate {
			g.source = "(from certificates)"
		}
		if inState[g] == nil {
			inState[g] = map[string]int{}
		}
		inState[g][st.State]++
		a := attempts[g]
		attempts[g] = [2]uint64{a[0] + st.Successes, a[1] + st.Failures}
		if st.FromCertificate {
			continue
		}
		gauge := func(desc *prometheus.Desc, value float64) {
			ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, s.set, g.kind, g.source)
		}
		if !st.NextUpdate.IsZero() {
			gauge(sourceNext, float64(st.NextUpdate.Unix()))
			gauge(sourceEntries, float64(st.Entries))
		}
		if !st.Fetched.IsZero() {
			gauge(sourceAge, s.now().Sub(st.Fetched).Seconds())
		}
	}
	for g, counts := range inState {
		for _, state := range states {
			ch <- prometheus.MustNewConstMetric(sourceState, prometheus.GaugeValue, float64(counts[state]), s.set, g.kind, g.source, state)
		}
		ch <- prometheus.MustNewConstMetric(sourceAttempts, prometheus.CounterValue, float64(attempts[g][0]), s.set, g.kind, g.source, "ok")
		ch <- prometheus.MustNewConstMetric(sourceAttempts, prometheus.CounterValue, float64(attempts[g][1]), s.set, g.kind, g.source, "failed")
	}
}
