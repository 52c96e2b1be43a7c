package authserver_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"math/big"
	"net/http"
	"strings"
	"testing"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/clientauth"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pkitest"
)

// The following rows of attacks.md are attacks on client authentication.

func TestAttacks(t *testing.T) {
	as := fixture.Start(t)
	attack := func(row, name string, test func(t *testing.T)) {
		t.Run(name, func(t *testing.T) {
			t.Attr("attack", row)
			test(t)
		})
	}
	// Row 1: the attacker, who has a certificate of his own from a trusted CA,
	// presents a chain with a certificate that carries the victim's names above his
	// leaf. Names count in the leaf only.
	attack("1", "the victim's names in an intermediate", func(t *testing.T) {
		t.Attr("requirement", "M-2.1-8")
		o := pkitest.CAOptions{Subject: fixture.SubjectDN, Template: func(c *x509.Certificate) { c.DNSNames = []string{"client-1.example"} }}
		sub := as.CA1.MustIntermediate(o)
		leaf := sub.MustLeaf(pkitest.LeafOptions{Subject: "CN=attacker"})
		for _, id := range []string{"c-dn", "c-dns"} {
			wantIC(t, fixture.Token(t, as.As(t, leaf), id))
			wantReason(t, as, map[string]decision.Reason{"c-dn": decision.SubjectMismatch, "c-dns": decision.SubjectAbsent}[id])
		}
		// The victim's real certificate, public as it is, after the attacker's leaf.
		cert := as.L2.TLS()
		cert.Certificate = append(cert.Certificate, as.L1.Cert.Raw)
		cfg := as.ClientTLS(nil)
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
		wantIC(t, fixture.Token(t, as.HTTP(t, cfg), "c-dn"))
	})
	// Row 13: the attacker forges a certificate with serial, issuer name and key id of
	// the registered one, and takes a registered key with another name. The whole
	// certificate is compared.
	attack("13", "the registered serial and issuer with another key, the registered key with another name", func(t *testing.T) {
		forged := pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=S1", Serial: as.S1.Cert.SerialNumber,
			Template: func(c *x509.Certificate) {
				c.SubjectKeyId, c.AuthorityKeyId = as.S1.Cert.SubjectKeyId, as.S1.Cert.AuthorityKeyId
			}})
		wantIC(t, fixture.Token(t, as.As(t, forged), "c-self"))
		wantIC(t, fixture.Token(t, as.As(t, pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=admin", Key: as.S1.Key})), "c-self"))
		impostor := pkitest.MustCA(pkitest.CAOptions{RawSubject: as.CA1i.Cert.RawSubject, Template: func(c *x509.Certificate) { c.SubjectKeyId = as.CA1i.Cert.SubjectKeyId }})
		o := fixture.L1Options()
		o.Serial = new(big.Int).Set(as.L1.Cert.SerialNumber)
		leaf := impostor.MustLeaf(o)
		cert := leaf.TLS()
		cert.Certificate = append(cert.Certificate, as.CA1i.Cert.Raw)
		cfg := as.ClientTLS(nil)
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
		wantIC(t, fixture.Token(t, as.HTTP(t, cfg), "c-dn"))
	})
	// Row 15: a certificate whose dNSName holds what is registered as URI, mail or
	// address, and one for servers only.
	attack("15", "a value under another kind, a server's certificate", func(t *testing.T) {
		leaf := as.CA1i.MustLeaf(pkitest.LeafOptions{DNS: []string{"https://client-1.example/id", "ops@client-1.example", "192.0.2.10", "2001:db8::10"}})
		for _, id := range []string{"c-uri", "c-mail", "c-ip4", "c-ip6"} {
			wantIC(t, fixture.Token(t, as.As(t, leaf), id))
		}
		o := fixture.L1Options()
		o.Server = true
		wantIC(t, fixture.Token(t, as.As(t, as.CA1i.MustLeaf(o)), "c-dn"))
		wantReason(t, as, decision.ExtKeyUsage)
	})
	attack("14", "NUL, dots, wildcard and overlong names in a SAN", func(t *testing.T) {
		for _, name := range []string{"client-1.example\x00.evil", "client-1.example.", ".client-1.example", "*.example", "client-1.example" + strings.Repeat(".x", 30_000)} {
			wantIC(t, fixture.Token(t, as.As(t, as.CA1i.MustLeaf(pkitest.LeafOptions{DNS: []string{name}})), "c-dns"))
		}
	})
	attack("16", "separators inside a name", func(t *testing.T) {
		for _, name := range []string{"client-1,OU=apps,O=Example,C=GB", "client-1+OU=apps", "x\nCN=client-1", `"client-1"`} {
			raw := pkitest.RawName([]pkitest.Attribute{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Tag: asn1.TagUTF8String, Value: []byte(name)}})
			wantIC(t, fixture.Token(t, as.As(t, as.CA1i.MustLeaf(pkitest.LeafOptions{RawSubject: raw})), "c-dn"))
		}
	})
	attack("12", "order, grouping, repetition and an extra RDN", func(t *testing.T) {
		for _, name := range []string{
			"OU=apps,CN=client-1,O=Example,C=GB", "CN=client-1+OU=apps,O=Example,C=GB", "CN=client-1,CN=client-1,OU=apps,O=Example,C=GB",
			"CN=client-1,OU=apps,O=Example,C=GB,DC=x", "CN=client-1,OU=apps,O=Example",
		} {
			wantIC(t, fixture.Token(t, as.As(t, as.CA1i.MustLeaf(pkitest.LeafOptions{Subject: name})), "c-dn"))
		}
	})
	attack("25", "a path as name", func(t *testing.T) {
		leaf := as.CA1i.MustLeaf(pkitest.LeafOptions{Subject: "CN=../../etc/passwd"})
		wantIC(t, fixture.Token(t, as.As(t, leaf), "../../etc/passwd"))
		wantIC(t, fixture.Token(t, as.As(t, leaf), "c-dn"))
	})
}

// TestResumption holds the attacks on session resumption (rows 5 to 8): the session may
// go on, but its next request gets the answer that a new connection would get.
func TestResumption(t *testing.T) {
	type row struct {
		name     string
		tickets  bool
		versions []uint16
	}
	for _, r := range []row{
		{"TLS 1.2 with tickets", true, []uint16{tls.VersionTLS12}},
		{"TLS 1.3 with tickets", true, []uint16{tls.VersionTLS13}},
		{"TLS 1.2 without tickets", false, []uint16{tls.VersionTLS12}},
		{"TLS 1.3 without tickets", false, []uint16{tls.VersionTLS13}},
	} {
		t.Run(r.name, func(t *testing.T) {
			t.Attr("attack", "5 6")
			t.Attr("requirement", "T-8446-4 T-8446-5")
			as := fixture.Start(t)
			cfg := as.ClientTLS(as.L1, r.versions...)
			cfg.ClientSessionCache = tls.NewLRUClientSessionCache(10)
			cfg.SessionTicketsDisabled = !r.tickets
			connect := func() (*http.Client, *fixture.Answer) {
				c := as.HTTP(t, cfg)
				return c, fixture.Token(t, c, "c-dn")
			}
			kept, first := connect()
			wantOK(t, first)
			_, resumed := connect()
			wantOK(t, resumed)
			if resumed.Cnf() != certbound.Thumbprint(as.L1.Cert) {
				t.Error("a resumed session lost its certificate")
			}
			// The operator takes CA1 away: the attacker resumes, and goes on over
			// the connection that he kept.
			as.Paths.Remove("ca1")
			_, after := connect()
			wantIC(t, after)
			wantIC(t, fixture.Token(t, kept, "c-dn"))
			wantReason(t, as, decision.NoAnchors)
		})
	}
	t.Run("a changed registration on a kept connection", func(t *testing.T) {
		t.Attr("requirement", "W-2.2-3 T-8446-5")
		as := fixture.Start(t)
		s1 := as.As(t, as.S1)
		wantOK(t, fixture.Token(t, s1, "c-self"))
		c, err := as.Store.Client(t.Context(), "c-self")
		if err != nil {
			t.Fatal(err)
		}
		c.JWKS = fixture.JWKSOf(t, as.S2)
		if err := as.Store.UpdateClient(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		as.Server.ClientChanged("c-self")
		wantIC(t, fixture.Token(t, s1, "c-self"))
		wantOK(t, fixture.Token(t, as.As(t, as.S2), "c-self"))
	})
	t.Run("a ticket of the browser's listener", func(t *testing.T) {
		t.Attr("attack", "7")
		as := fixture.Start(t)
		cache := tls.NewLRUClientSessionCache(10)
		plain := as.ClientTLS(nil, tls.VersionTLS13)
		plain.ClientSessionCache = anyHost{cache}
		if r := fixture.Get(t, as.HTTP(t, plain), fixture.Issuer+"/jwks"); r.Status != 200 {
			t.Fatal(r.Status)
		}
		// The attacker offers the ticket that he got without a certificate to the
		// other listener: a full handshake follows, and no identity.
		conn, err := tls.Dial("tcp", as.Addr("mtls.as.test"), &tls.Config{ServerName: "mtls.as.test", RootCAs: plain.RootCAs, ClientSessionCache: anyHost{cache}})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if conn.ConnectionState().DidResume {
			t.Error("a ticket crossed listeners")
		}
	})
}

// TestTicketFromBefore is row 8: the attacker has a ticket from a connection without a
// certificate, from before the client was moved to mutual TLS. What is asked of a client
// is asked of each request.
func TestTicketFromBefore(t *testing.T) {
	t.Attr("attack", "8")
	as := fixture.Start(t)
	secret, hash := authserver.NewSecret()
	c := &authserver.Client{ID: "moves", AuthMethod: authserver.ClientSecretBasic, SecretHash: hash}
	as.Register(t, c)
	cfg := as.ClientTLS(nil, tls.VersionTLS13)
	cfg.ClientSessionCache = tls.NewLRUClientSessionCache(10)
	wantOK(t, fixture.Token(t, as.HTTP(t, cfg), "moves", "Authorization", fixture.Basic("moves", secret)))
	c.AuthMethod, c.SecretHash, c.SubjectDN = clientauth.TLSClientAuth, "", fixture.SubjectDN
	if err := as.Store.UpdateClient(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	as.Server.ClientChanged("moves")
	resumed := as.HTTP(t, cfg)
	wantIC(t, fixture.Token(t, resumed, "moves"))
	wantReason(t, as, decision.NoCertificate)
	wantIC(t, fixture.Token(t, resumed, "moves", "Authorization", fixture.Basic("moves", secret)))
}

// anyHost is a session cache that offers every ticket to every host.
type anyHost struct{ tls.ClientSessionCache }

func (c anyHost) Get(string) (*tls.ClientSessionState, bool) { return c.ClientSessionCache.Get("*") }
func (c anyHost) Put(_ string, s *tls.ClientSessionState)    { c.ClientSessionCache.Put("*", s) }
