package telemetry_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/certbound/certbound/server/telemetry"
)

func TestClientCertificates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := telemetry.New("test")
		now := time.Now()
		calls, fails := 0, false
		m.ClientCertificates(func(context.Context) ([]time.Time, error) {
			if calls++; fails {
				return nil, errors.New("down")
			}
			return []time.Time{now.Add(-time.Hour), now.Add(time.Hour), now.Add(3 * 24 * time.Hour), now.Add(20 * 24 * time.Hour), now.Add(99 * 24 * time.Hour)}, nil
		})
		m.Renewed()
		scrape := func() string {
			w := httptest.NewRecorder()
			m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
			return w.Body.String()
		}
		got := scrape()
		for _, want := range []string{
			`certbound_client_certificates_expiring{within="0d"} 1`,
			`certbound_client_certificates_expiring{within="1d"} 2`,
			`certbound_client_certificates_expiring{within="7d"} 3`,
			`certbound_client_certificates_expiring{within="30d"} 4`,
			fmt.Sprintf("certbound_client_certificate_next_expiry_timestamp_seconds %v", float64(now.Add(time.Hour).Unix())),
			"certbound_client_renewals_total 1",
		} {
			if !strings.Contains(got, want+"\n") {
				t.Errorf("the metrics lack %s", want)
			}
		}
		scrape()
		if calls != 1 {
			t.Errorf("asked %d times for two scrapes, want once", calls)
		}
		time.Sleep(6 * time.Minute)
		fails = true
		if got := scrape(); strings.Contains(got, "certbound_client_certificates_expiring{") || calls != 2 {
			t.Errorf("after a failure there are numbers, or nobody asked (%d calls)", calls)
		}
	})
}
