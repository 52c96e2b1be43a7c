package telemetry

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/certbound/certbound/pki/revocation"
)

// A certificate names its sources: their names, and however many there are, make no
// label.
func TestRevocationMetrics(t *testing.T) {
	m := New("v1")
	now := time.Now()
	m.Revocation("clients", func() []revocation.SourceStatus {
		return []revocation.SourceStatus{
			{Name: "ca.crl", Kind: "file", State: "good", NextUpdate: now, Entries: 7, Fetched: now.Add(-time.Minute), Successes: 3, Failures: 1},
			{Name: "http://strange.example/1", Kind: "url", FromCertificate: true, State: "good", NextUpdate: now, Successes: 1},
			{Name: "http://strange.example/2", Kind: "url", FromCertificate: true, State: "missing", Failures: 2},
			{Name: "http://ocsp.example", Kind: "ocsp", State: "failing", Failures: 4},
		}
	})
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	text := w.Body.String()
	for _, want := range []string{
		`certbound_revocation_source_state{kind="file",set="clients",source="ca.crl",state="good"} 1`,
		`certbound_revocation_source_state{kind="file",set="clients",source="ca.crl",state="stale"} 0`,
		`certbound_revocation_entries{kind="file",set="clients",source="ca.crl"} 7`,
		`certbound_revocation_attempts_total{kind="file",result="failed",set="clients",source="ca.crl"} 1`,
		`certbound_revocation_source_state{kind="url",set="clients",source="(from certificates)",state="missing"} 1`,
		`certbound_revocation_attempts_total{kind="url",result="failed",set="clients",source="(from certificates)"} 2`,
		`certbound_revocation_source_state{kind="ocsp",set="clients",source="http://ocsp.example",state="failing"} 1`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("missing: %s", want)
		}
	}
	if strings.Contains(text, "strange.example") {
		t.Error("an address of a certificate is a label")
	}
}
