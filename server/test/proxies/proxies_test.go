//go:build linux

package proxies

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"testing"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pkitest"
)

func TestProxies(t *testing.T) {
	for _, d := range deployments() {
		t.Run(d.name, func(t *testing.T) {
			source, err := d.source(hop())
			if err != nil {
				t.Fatal(err)
			}
			o := startOrigin(t, source)
			px := d.program.start(t, settings{origin: o.addresses})
			b := &bench{d: d, o: o, px: px}
			t.Run("both methods", b.methods)
		})
	}
}

// A bench is a deployment that runs.
type bench struct {
	d  deployment
	o  *origin
	px *proxy
}

func (b *bench) methods(t *testing.T) {
	certs := fixture.Certs()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, alpn := range []string{"http/1.1", "h2"} {
			t.Run(fmt.Sprintf("%s %s", tls.VersionName(version), alpn), func(t *testing.T) {
				for _, c := range []struct {
					id   string
					leaf *pkitest.Leaf
				}{{"c-dn", certs.L1}, {"c-self", certs.S1}} {
					b.o.requests()
					got := fixture.Token(t, b.px.client(t, caller{leaf: c.leaf, version: version, alpn: alpn}), c.id)
					if got.Status != http.StatusOK {
						t.Fatalf("%s: %d %s\n%s", c.id, got.Status, got.Text, b.o.LastDecision())
					}
					if want := certbound.Thumbprint(c.leaf.Cert); got.Cnf() != want {
						t.Errorf("%s: bound to %s, want %s", c.id, got.Cnf(), want)
					}
				}
			})
		}
	}
}
