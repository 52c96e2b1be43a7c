package clientauth_test

import (
	"testing"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/clientauth"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pkitest"
)

// A hostile client registers 300 certificates and sends another one, over one connection:
// each refusal parsed all 300 to say whether one of them has the same key, which took
// 5 ms, or 40 with certificates that are slow to parse. The octets of the key are looked
// for now.
func TestAttackRefusalParsesTheWholeKeySet(t *testing.T) {
	var registered [][]byte
	for range 300 {
		registered = append(registered, pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=x"}).Cert.Raw)
	}
	a := clientauth.New(clientauth.Config{})
	p := certsource.NewPresented("tls", fixture.Certs().S2.Cert, nil)
	for _, reg := range []clientauth.SelfSigned{{Certificates: registered}, {Certificates: registered, InsecureMatchKey: true}} {
		n := testing.AllocsPerRun(5, func() {
			d := decision.New()
			if err := a.AuthenticateSelfSigned(t.Context(), d, p, reg); err == nil || d.Reason() != decision.NotRegistered {
				t.Errorf("%v", d)
			}
		})
		if n > 200 {
			t.Errorf("a refusal makes %.0f allocations", n)
		}
	}
}
