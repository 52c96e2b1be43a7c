package authserver_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/internal/fixture"
)

// Attack 26 at a native listener: a client with a certificate sends that of another client
// in the field of each hop that there is. It stays who it is, and the fields are counted,
// although nothing is refused.
func TestAttackFieldsAtTheNativeListener(t *testing.T) {
	versions(t, func(t *testing.T, as *fixture.AS, v uint16) {
		l1 := as.As(t, as.L1, v)
		for _, p := range certsource.Presets() {
			t.Run(p.Name, func(t *testing.T) {
				t.Attr("attack", "26")
				t.Attr("requirement", "H-4-2")
				forged := p.Forward(as.L2.Cert)
				form := url.Values{"grant_type": {"client_credentials"}, "client_id": {"c-dn"}}
				req, err := http.NewRequestWithContext(t.Context(), "POST", fixture.MTLSBase+"/token", strings.NewReader(form.Encode()))
				if err != nil {
					t.Fatal(err)
				}
				req.Header = forged
				req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				r := fixture.Do(t, l1, req)
				wantOK(t, r)
				if r.Cnf() != certbound.Thumbprint(as.L1.Cert) {
					t.Errorf("bound to %s", r.Cnf())
				}
				d := as.LastDecision()
				if want := min(len(forged)-1, 4); len(d.Warnings) != want || d.Warnings[0].Reason != decision.SourceForeignHeader {
					t.Errorf("warnings %+v, want %d", d.Warnings, want)
				}
			})
		}
	})
}
