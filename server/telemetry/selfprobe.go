package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Results of a self probe.
const (
	ProbeClean      = "clean"      // nothing forged was believed
	ProbeBelieved   = "believed"   // a forged certificate header was believed: an alarm
	ProbeFindings   = "findings"   // something else was found
	ProbeUnanswered = "unanswered" // the server could not be asked at its public address
)

// A SelfProbe counts the probes of a server against its own public addresses.
type SelfProbe struct {
	runs     *prometheus.CounterVec
	believed prometheus.Gauge
	last     prometheus.Gauge
}

// SelfProbe exports the outcome of self probes. It is called once.
func (m *Metrics) SelfProbe() *SelfProbe {
	p := &SelfProbe{
		runs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "certbound_self_probe_runs_total", Help: "Probes of the server's own public addresses with forged certificate headers, by result.",
		}, []string{"result"}),
		believed: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "certbound_self_probe_forged_believed", Help: "1 if a forged certificate header was believed at the last probe that got answers: an alarm.",
		}),
		last: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "certbound_self_probe_last_answered_timestamp_seconds", Help: "When a probe last got answers.",
		}),
	}
	for _, r := range []string{ProbeClean, ProbeBelieved, ProbeFindings, ProbeUnanswered} {
		p.runs.WithLabelValues(r)
	}
	m.registry.MustRegister(p.runs, p.believed, p.last)
	return p
}

// Done notes a run.
func (p *SelfProbe) Done(result string, now time.Time) {
	p.runs.WithLabelValues(result).Inc()
	if result == ProbeUnanswered {
		return
	}
	p.last.Set(float64(now.Unix()))
	p.believed.Set(map[bool]float64{true: 1}[result == ProbeBelieved])
}
