//go:build linux

package proxies

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/server/doctor"
	"github.com/certbound/certbound/server/probe"
)

// The doctor finds nothing behind a proxy that is set up as its file shows: each look was
// taken, no forged field is believed, and what gets past the proxy and is ignored is a
// note. So "certbound doctor" ends with 0.
func TestDoctor(t *testing.T) {
	for _, d := range deployments() {
		t.Run(d.name, func(t *testing.T) {
			t.Attr("attack", "19")
			source, err := certsource.NewPreset(d.preset, certsource.PresetConfig{Hop: hop(), TrustedHops: d.hops})
			if err != nil {
				t.Fatal(err)
			}
			o := startOrigin(t, source)
			px := d.program.start(t, settings{origin: o.addresses})
			credential, _, err := probe.Create(t.Context(), o.Store, 0, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			report, err := doctor.Run(t.Context(), doctor.Config{
				Issuer: fixture.Issuer, RootCAs: fixture.Certs().ServerCA.Pool(), Credential: credential, Timeout: 30 * time.Second,
				Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
					return new(net.Dialer).DialContext(ctx, network, px.tls)
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			looked := map[string]bool{}
			for _, f := range report.Findings {
				looked[f.Check] = true
				switch f.Outcome {
				case doctor.OK:
				case doctor.Note:
					t.Logf("note: %s: %s", f.Check, f.Found)
					if f.Check != doctor.CheckStripped && f.Check != doctor.CheckTickets {
						t.Errorf("%+v", f)
					}
				default:
					t.Errorf("%s %s at %s: %s\n%s", f.Outcome, f.Check, f.Where, f.Found, strings.Join(f.Details, "\n"))
				}
			}
			for _, check := range []string{doctor.CheckArrives, doctor.CheckResumption, doctor.CheckIdentities, doctor.CheckForged, doctor.CheckStripped, doctor.CheckAuthority} {
				if !looked[check] {
					t.Errorf("%s was not looked at", check)
				}
			}
		})
	}
}
