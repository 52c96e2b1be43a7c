package authserver_test

import (
	"crypto/tls"
	"crypto/x509"
	"testing"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pkitest"
)

// A thief has the key of a certificate whose CA writes no authority key id. The operator
// revokes it by issuer and serial number. What named the issuer then was made of the
// certificate that the peer sends after its own, so that the thief got tokens again by
// sending none, or one that he has made with the name of the CA. Only the certificate
// itself counts now.
func TestAttackRevokedWithAnotherChain(t *testing.T) {
	as := fixture.Start(t)
	parent := *as.CA1.Cert
	parent.SubjectKeyId = nil // crypto/x509 then writes no authority key id
	ca := &pkitest.CA{Cert: &parent, Key: as.CA1.Key}
	leaf := ca.MustLeaf(fixture.L1Options())
	if len(leaf.Cert.AuthorityKeyId) > 0 {
		t.Fatal("it has an authority key id")
	}
	impostor := pkitest.MustCA(pkitest.CAOptions{RawSubject: as.CA1.Cert.RawSubject})
	chains := map[string][]*x509.Certificate{
		"alone": nil, "with its CA": {as.CA1.Cert}, "with another CA of that name": {impostor.Cert},
	}
	get := func(rest []*x509.Certificate) *fixture.Answer {
		cert := tls.Certificate{Certificate: [][]byte{leaf.Cert.Raw}, PrivateKey: leaf.Key}
		for _, c := range rest {
			cert.Certificate = append(cert.Certificate, c.Raw)
		}
		cfg := as.ClientTLS(nil)
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
		return fixture.Token(t, as.HTTP(t, cfg), "c-dn")
	}
	for name, rest := range chains {
		if r := get(rest); r.Status != 200 {
			t.Fatalf("%s, before: %d %s", name, r.Status, r.Text)
		}
	}
	issuer, serial := authserver.RecordIDs(certsource.NewPresented("test", leaf.Cert, []*x509.Certificate{as.CA1.Cert}))
	if err := as.Store.RevokeCertificate(t.Context(), authserver.RevokedCertificate{IssuerKeyID: issuer, Serial: serial, Note: "test"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the revocation counts", func() bool { return get(chains["with its CA"]).Status != 200 })
	for name, rest := range chains {
		wantIC(t, get(rest))
		if as.LastDecision().Reason() != decision.Revoked {
			t.Errorf("%s: %s", name, as.LastDecision())
		}
	}
}
