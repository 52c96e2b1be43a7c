package subject

import (
	"crypto/x509"
	"testing"

	"github.com/certbound/certbound/pkitest"
)

func BenchmarkMatch(b *testing.B) {
	fixture := pkitest.MustSelfSigned(fixtureL1).Cert
	latin := vector{Subject: [][][3]string{{{"C", "printable", "DE"}}, {{"O", "utf8", "Bücher & Söhne"}}, {{"CN", "utf8", "client-1"}}}}.certificate(b)
	for _, bench := range []struct {
		name  string
		kind  Kind
		value string
		cert  *x509.Certificate
	}{
		{"DN/octets", DN, Of(fixture), fixture},
		{"DN/prepared", DN, "CN=CLIENT-1,OU=Apps,O=EXAMPLE,C=gb", fixture},
		{"DN/latin", DN, "CN=client-1,O=BÜCHER & SÖHNE,C=DE", latin},
		{"DNS", SANDNS, fixtureValues[SANDNS], fixture},
		{"URI", SANURI, fixtureValues[SANURI], fixture},
		{"IP", SANIP, fixtureValues[SANIP], fixture},
		{"email", SANEmail, fixtureValues[SANEmail], fixture},
	} {
		e := expected(b, bench.kind, bench.value)
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := e.Match(bench.cert); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	e := expected(b, DN, "CN=other,OU=apps,O=Example,C=GB")
	b.Run("DN/mismatch", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if e.Match(fixture) == nil {
				b.Fatal("matched")
			}
		}
	})
}

func BenchmarkNew(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := New(DN, "CN=client-1,OU=apps,O=Example,C=GB"); err != nil {
			b.Fatal(err)
		}
	}
}
