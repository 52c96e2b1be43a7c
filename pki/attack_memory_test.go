package pki_test

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"weak"

	"crypto/x509"

	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/pki"
	"github.com/certbound/certbound/pkitest"
)

// fat returns a certificate that is much larger in memory than on the wire.
func fat(t *testing.T, subject string, uris int) *x509.Certificate {
	t.Helper()
	names := make([]asn1.RawValue, uris)
	for i := range names {
		names[i] = asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte("a:")}
	}
	san, err := asn1.Marshal(names)
	if err != nil {
		t.Fatal(err)
	}
	leaf := pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: subject,
		Extra: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: san}}})
	cert, err := x509.ParseCertificate(leaf.Cert.Raw)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// A flooder without any certificate of ours makes self-signed ones of 240 kB, each a new
// connection, and asks for a token. 60,000 URIs of two octets take 10 MB when they are
// parsed, and the cache of refusals kept up to 1,000 such certificates: 10 GB, after all
// connections were closed. Now a refusal is remembered by the digest, and what the
// stranger has sent goes with the connection.
func TestAttackFatCertificatesStayInTheRefusalCache(t *testing.T) {
	t.Run("the leaf is at fault", func(t *testing.T) { fatChain(t, "CN=fat", "CN=also fat", 0, decision.UnknownAuthority) })
	t.Run("another one is at fault", func(t *testing.T) { fatChain(t, "CN=fat", "CN=fat", 1, decision.NotCA) })
}

func fatChain(t *testing.T, subject, other string, fault int, reason decision.Reason) {
	v := validator(t, pki.Config{Sets: []pki.Set{{Name: "main", Anchors: anchors(ca1)}}})
	presented := []*x509.Certificate{fat(t, subject, 2000), fat(t, other, 2001)}
	var kept []weak.Pointer[x509.Certificate]
	var der [][]byte
	for _, c := range presented {
		kept, der = append(kept, weak.Make(c)), append(der, c.Raw)
	}
	first := refusalOf(t, v, chain(presented...))
	if first.Reason != reason || first.Cert != presented[fault] {
		t.Fatalf("refused with %v", first)
	}
	text := first.Error()
	presented, first = nil, nil
	runtime.GC()
	for i, p := range kept {
		if p.Value() != nil {
			t.Errorf("certificate %d is held, although nobody but the validator has seen it", i)
		}
	}
	if v.Stats().Refused == 0 {
		t.Fatal("the refusal is not remembered, so that this shows nothing")
	}

	// The same chain again is refused from the cache, in the same words, and the error
	// names the certificate of this caller.
	for _, d := range der {
		cert, err := x509.ParseCertificate(d)
		if err != nil {
			t.Fatal(err)
		}
		presented = append(presented, cert)
	}
	second := refusalOf(t, v, chain(presented...))
	if v.Stats().Judged != 1 || second.Reason != reason || second.Cert != presented[fault] || second.Error() != text {
		t.Errorf("judged %d times; %v, want %s", v.Stats().Judged, second, text)
	}
}

func refusalOf(t *testing.T, v *pki.Validator, c pki.Chain) *pki.Error {
	t.Helper()
	_, err := v.Verify(t.Context(), "main", c)
	e, ok := err.(*pki.Error)
	if !ok {
		t.Fatalf("expected a refusal, found %v", err)
	}
	return e
}

// The same flooder lists 5,000 extended key usages, or critical extensions, that nobody
// knows; each refusal wrote all of them into the log: 100 bytes in, 40 kB out, for each
// request of one connection. Facts are bounded now.
func TestAttackRefusalsWriteWholeCertificates(t *testing.T) {
	v := validator(t, pki.Config{Sets: []pki.Set{{Name: "main", Anchors: anchors(ca1)}}})
	for name, change := range map[string]func(*x509.Certificate){
		"extended key usages": func(c *x509.Certificate) {
			c.ExtKeyUsage = nil
			for i := range 5000 {
				c.UnknownExtKeyUsage = append(c.UnknownExtKeyUsage, asn1.ObjectIdentifier{1, 3, 6, 1, i})
			}
		},
		"critical extensions": func(c *x509.Certificate) {
			for i := range 1000 {
				c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, i}, Critical: true, Value: []byte{5, 0}})
			}
		},
		"names": func(c *x509.Certificate) {
			c.Subject.CommonName = strings.Repeat("x", 7000)
			c.Subject.OrganizationalUnit = []string{fmt.Sprint(strings.Repeat("\x00", 500))}
		},
	} {
		t.Run(name, func(t *testing.T) {
			leaf := ca1i.MustLeaf(pkitest.LeafOptions{Subject: "CN=eve", Template: change})
			if name == "names" {
				leaf = pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=eve", Template: change})
			}
			e := refusalOf(t, v, present(leaf))
			if n := len(e.Expected) + len(e.Found); n > 3000 || len(e.Error()) > 4000 {
				t.Errorf("%d bytes of facts, %d of text", n, len(e.Error()))
			}
		})
	}
}
