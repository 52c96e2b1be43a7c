package telemetry

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/certbound/certbound/decision"
)

// The endpoints of people have labels once there is a request, and a path that a stranger
// makes up has none.
func TestPeopleEndpoints(t *testing.T) {
	m := New("test")
	observe := m.Observer()
	h := m.Instrument("public", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d := decision.New()
		d.Pass(decision.CheckClient, "", "")
		d.Allow()
		observe(r.Context(), d)
		switch {
		case strings.HasSuffix(r.URL.Path, "/par"):
			w.WriteHeader(http.StatusCreated)
		case strings.HasSuffix(r.URL.Path, "/authorize"):
			w.WriteHeader(http.StatusSeeOther)
		default:
			w.WriteHeader(http.StatusTeapot)
		}
	}))
	scrape := func() string {
		w := httptest.NewRecorder()
		m.Handler().ServeHTTP(w, httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/metrics", nil))
		return w.Body.String()
	}
	if before := scrape(); strings.Contains(before, `endpoint="par"`) {
		t.Error("a label before the first request")
	}
	for _, path := range []string{"/par", "/tenant/par", "/authorize", "/login", "/made-up", "/par/made-up"} {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, path, nil))
	}
	after := scrape()
	for _, want := range []string{
		`certbound_request_duration_seconds_count{code="201",endpoint="par",listener="public"} 2`,
		`certbound_request_duration_seconds_count{code="303",endpoint="authorize",listener="public"} 1`,
		`certbound_request_duration_seconds_count{code="400",endpoint="login",listener="public"} 1`,
		`certbound_request_duration_seconds_count{code="400",endpoint="other",listener="public"} 2`,
		`certbound_decisions_total{endpoint="people",outcome="allowed",reason=""} 4`,
	} {
		if !strings.Contains(after, want+"\n") {
			t.Errorf("no %s", want)
		}
	}
	if strings.Contains(after, "made-up") {
		t.Error("a stranger's path is a label")
	}
}
