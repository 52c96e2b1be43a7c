package authserver_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/clientauth"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pkitest"
)

var pkiClients = []string{"c-dn", "c-dns", "c-uri", "c-ip4", "c-ip6", "c-mail"}

func TestClientIdentification(t *testing.T) {
	versions(t, func(t *testing.T, as *fixture.AS, v uint16) {
		l1, l2, s1, none := as.As(t, as.L1, v), as.As(t, as.L2, v), as.As(t, as.S1, v), as.As(t, nil, v)

		proves(t, "M-1-1 O-3.2.1-1 OA-3 G-2.5-1 OA-2", "the same at every endpoint that authenticates clients", func(t *testing.T) {
			as.Register(t, &authserver.Client{ID: "every-" + strconv.Itoa(int(v)), AuthMethod: clientauth.TLSClientAuth, SubjectDN: fixture.SubjectDN, MayIntrospect: true})
			id := "every-" + strconv.Itoa(int(v))
			for _, endpoint := range []string{"/token", "/introspect", "/revoke"} {
				pairs := []string{"client_id", id, "grant_type", "client_credentials", "token", "nonsense"}
				if r := fixture.Post(t, l1, fixture.MTLSBase+endpoint, pairs...); r.Status != 200 {
					t.Errorf("%s with L1: %d %s", endpoint, r.Status, r.Text)
				}
				wantIC(t, fixture.Post(t, none, fixture.MTLSBase+endpoint, pairs...))
				wantIC(t, fixture.Post(t, l2, fixture.MTLSBase+endpoint, pairs...))
			}
		})
		proves(t, "M-1-2 M-3.4-4 M-3.2-5", "authentication and binding are independent", func(t *testing.T) {
			r := fixture.Token(t, l1, "c-dn-plain")
			wantOK(t, r)
			if _, ok := fixture.Claims(r.AccessToken())["cnf"]; ok {
				t.Error("cnf although not asked for")
			}
			r = fixture.Token(t, s1, "c-sec-bound", "Authorization", fixture.Basic("c-sec-bound", as.Secret))
			wantOK(t, r)
			if r.Cnf() != certbound.Thumbprint(as.S1.Cert) {
				t.Errorf("cnf is %q", r.Cnf())
			}
			r = fixture.Token(t, none, "c-sec", "Authorization", fixture.Basic("c-sec", as.Secret))
			wantOK(t, r)
		})
		proves(t, "M-1.2-1 M-6.1-5", "a certificate that is not presented in TLS is none", func(t *testing.T) {
			encoded := string(as.L1.CertPEM())
			for _, to := range []string{fixture.Issuer, fixture.MTLSBase} {
				for _, h := range []string{"Client-Cert", "X-Forwarded-Client-Cert", "Ssl-Client-Cert", "X-SSL-Client-Cert", "X-Amzn-Mtls-Clientcert"} {
					form := url.Values{"grant_type": {"client_credentials"}, "client_id": {"c-dn"}, "client_certificate": {encoded}}
					req, err := http.NewRequestWithContext(t.Context(), "POST", to+"/token", strings.NewReader(form.Encode()))
					if err != nil {
						t.Fatal(err)
					}
					req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
					req.Header.Set(h, url.QueryEscape(encoded))
					wantIC(t, fixture.Do(t, none, req))
					warnings := as.LastDecision().Warnings
					if len(warnings) != 1 || warnings[0].Reason != decision.SourceForeignHeader {
						t.Errorf("%s at %s: warnings %v", h, to, warnings)
					}
				}
			}
			// On the conventional listener the certificate does not count either,
			// and it is not asked for.
			wantIC(t, fixture.Post(t, l1, fixture.Issuer+"/token", "grant_type", "client_credentials", "client_id", "c-dn"))
			wantReason(t, as, decision.ListenerWithout)
		})
		proves(t, "M-1.2-1 M-2.1-3 M-2.2-2", "a certificate without its key fails in TLS", func(t *testing.T) {
			cert := as.L1.TLS()
			cert.PrivateKey = as.L2.Key
			cfg := as.ClientTLS(nil, v)
			cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
			wantTF(t, as.HTTP(t, cfg))
		})
		proves(t, "M-2-2", "nothing carries over to another connection", func(t *testing.T) {
			wantOK(t, fixture.Token(t, as.As(t, as.L1, v), "c-dn"))
			wantIC(t, fixture.Token(t, as.As(t, nil, v), "c-dn"))
		})
		proves(t, "M-2-4", "no search by certificate", func(t *testing.T) {
			for _, leaf := range []*pkitest.Leaf{as.L1, as.S1, as.L2} {
				wantIC(t, fixture.Post(t, as.As(t, leaf, v), fixture.MTLSBase+"/token", "grant_type", "client_credentials"))
				wantReason(t, as, decision.NoClientID)
			}
		})
		proves(t, "M-2-5", "client_id from the form body only, once", func(t *testing.T) {
			wantIC(t, fixture.Post(t, l1, fixture.MTLSBase+"/token?client_id=c-dn", "grant_type", "client_credentials"))
			wantReason(t, as, decision.ClientIDMisplaced)
			wantIR(t, fixture.Post(t, l1, fixture.MTLSBase+"/token", "grant_type", "client_credentials", "client_id", "c-dn", "client_id", "c-dn"))
			wantReason(t, as, decision.ParameterRepeated)
			wantIC(t, fixture.Post(t, l1, fixture.MTLSBase+"/token", "grant_type", "client_credentials", "client_id", ""))
		})
		proves(t, "M-2-6 O-2.3.2-1", "the client is found by client_id", func(t *testing.T) {
			for _, id := range []string{"c-dn", "c-dn-plain"} {
				r := fixture.Token(t, l1, id)
				wantOK(t, r)
				if got := fixture.Claims(r.AccessToken())["client_id"]; got != id {
					t.Errorf("client_id is %v", got)
				}
			}
		})
		proves(t, "M-2-7", "the registered method decides", func(t *testing.T) {
			wantIC(t, fixture.Token(t, l2, "c-dn"))
			wantIC(t, fixture.Token(t, s1, "c-dn"))
			wantIC(t, fixture.Token(t, l1, "c-self"))
			wantIC(t, fixture.Token(t, as.As(t, as.S2, v), "c-self"))
		})
		proves(t, "M-2-8 M-2-10 O-5.2-1 T-8446-2", "no certificate", func(t *testing.T) {
			wantIC(t, fixture.Token(t, none, "c-dn"))
			wantReason(t, as, decision.NoCertificate)
		})
		proves(t, "M-2-9 M-2-10", "another certificate, and no word about the expected one", func(t *testing.T) {
			r := fixture.Token(t, l2, "c-dn")
			wantIC(t, r)
			wantReason(t, as, decision.SubjectMismatch)
			if strings.Contains(r.Text, "client-1") || strings.Contains(r.Text, "subject") {
				t.Errorf("the answer tells too much: %s", r.Text)
			}
			id := r.Header.Get(authserver.RequestIDHeader)
			if log := as.Log(); !strings.Contains(log, id) || !strings.Contains(log, "CN=client-1,OU=apps") {
				t.Error("the log has no record with request id and expected subject")
			}
		})
		proves(t, "M-2-11 O-2.2-1", "no downgrade", func(t *testing.T) {
			wantIC(t, fixture.Post(t, none, fixture.MTLSBase+"/revoke", "client_id", "c-dn", "token", "x"))
			wantIC(t, fixture.Token(t, none, "c-dn", "Authorization", fixture.Basic("c-dn", as.Secret)))
			wantIC(t, fixture.Token(t, l1, "c-dn", "client_secret", as.Secret))
			wantIC(t, fixture.Token(t, l1, "c-sec"))
			wantIC(t, fixture.Token(t, none, "c-pkj"))
		})
		proves(t, "M-2-12 M-6.1-2", "a certificate on the connection is no attempt to authenticate", func(t *testing.T) {
			wantOK(t, fixture.Token(t, l2, "c-sec", "Authorization", fixture.Basic("c-sec", as.Secret)))
			wantOK(t, fixture.Token(t, none, "c-sec", "Authorization", fixture.Basic("c-sec", as.Secret)))
			if r := fixture.Post(t, l2, fixture.MTLSBase+"/revoke", "client_id", "c-pub", "token", "x"); r.Status != 200 {
				t.Errorf("c-pub: %d %s", r.Status, r.Text)
			}
		})
		proves(t, "M-2-13", "unknown client and wrong certificate look the same", func(t *testing.T) {
			for _, pair := range [][2]*fixture.Answer{
				{fixture.Token(t, l1, "nobody"), fixture.Token(t, l2, "c-dn")},
				{fixture.Token(t, l1, "nobody"), fixture.Token(t, l1, "c-self")},
				{fixture.Token(t, none, "nobody"), fixture.Token(t, none, "c-dn")},
				{fixture.Token(t, none, "nobody", "Authorization", fixture.Basic("nobody", "x")), fixture.Token(t, none, "c-sec", "Authorization", fixture.Basic("c-sec", "x"))},
			} {
				for _, r := range pair {
					r.Header.Del("Date")
					r.Header.Del(authserver.RequestIDHeader)
				}
				if a, b := pair[0], pair[1]; a.Status != b.Status || a.Text != b.Text || !equalHeader(a.Header, b.Header) {
					t.Errorf("different answers:\n%d %v %s\n%d %v %s", a.Status, a.Header, a.Text, b.Status, b.Header, b.Text)
				}
			}
		})
		proves(t, "O-2.3-3 O-2.3-2", "more than one credential", func(t *testing.T) {
			wantIR(t, fixture.Token(t, none, "c-sec", "Authorization", fixture.Basic("c-sec", as.Secret), "client_secret", as.Secret))
			wantIR(t, fixture.Token(t, none, "c-pkj", "Authorization", fixture.Basic("c-pkj", "x"), "client_assertion", as.Assertion(t, nil)))
			wantIR(t, fixture.Token(t, none, "c-sec", "Authorization", fixture.Basic("c-sec", as.Secret), "Authorization", fixture.Basic("c-sec", as.Secret)))
			wantIC(t, fixture.Token(t, l1, "c-dn", "Authorization", fixture.Basic("c-dn", "x"))) // one, but not the registered one
			wantIR(t, fixture.Token(t, none, "c-dn", "Authorization", fixture.Basic("c-sec", as.Secret)))
		})
		proves(t, "O-5.2-1 T-9110-2", "a wrong secret", func(t *testing.T) {
			r := fixture.Token(t, none, "c-sec", "Authorization", fixture.Basic("c-sec", "wrong"))
			wantIC(t, r)
			if !strings.HasPrefix(r.Header.Get("WWW-Authenticate"), "Basic ") {
				t.Errorf("challenge is %q", r.Header.Get("WWW-Authenticate"))
			}
			for _, h := range []string{"Basic", "Basic !", "Basic " + "Og==", "Bearer abc", "Basic Yy1zZWM="} {
				wantIC(t, fixture.Token(t, none, "", "Authorization", h))
			}
		})
		proves(t, "M-4-4 O-2.3-1", "a certificate does not authenticate a public client", func(t *testing.T) {
			wantError(t, fixture.Token(t, s1, "c-pub"), 400, "unauthorized_client")
			wantError(t, fixture.Token(t, none, "c-pub"), 400, "unauthorized_client")
			wantIC(t, fixture.Post(t, s1, fixture.MTLSBase+"/introspect", "client_id", "c-pub", "token", "x"))
		})
		proves(t, "O-5.2-2", "hostile names do not reach the description", func(t *testing.T) {
			leaf := as.CA1i.MustLeaf(pkitest.LeafOptions{RawSubject: pkitest.RawName([]pkitest.Attribute{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Tag: asn1.TagUTF8String, Value: []byte("a\"\\\r\n\x00ü")}})})
			wantIC(t, fixture.Token(t, as.As(t, leaf, v), "c-dn"))
			wantIC(t, fixture.Token(t, none, "nobody\"\\\r\nü"))
			if strings.Contains(as.Log(), "nobody\"\\\r\n") {
				t.Error("line breaks reach the log")
			}
		})
	})
}

func equalHeader(a, b http.Header) bool {
	if len(a) != len(b) {
		return false
	}
	for name := range a {
		if strings.Join(a[name], "\n") != strings.Join(b[name], "\n") {
			return false
		}
	}
	return true
}

func TestSwitchMethod(t *testing.T) {
	as := fixture.Start(t)
	proves(t, "M-2-1", "a client that moves to tls_client_auth", func(t *testing.T) {
		secret, hash := authserver.NewSecret()
		c := &authserver.Client{ID: "moves", AuthMethod: authserver.ClientSecretBasic, SecretHash: hash}
		as.Register(t, c)
		l1 := as.As(t, as.L1)
		wantOK(t, fixture.Token(t, l1, "moves", "Authorization", fixture.Basic("moves", secret)))
		c.AuthMethod, c.SecretHash, c.SubjectDN = clientauth.TLSClientAuth, "", fixture.SubjectDN
		if err := as.Store.UpdateClient(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		as.Server.ClientChanged("moves")
		wantIC(t, fixture.Token(t, l1, "moves", "Authorization", fixture.Basic("moves", secret)))
		wantOK(t, fixture.Token(t, l1, "moves"))
	})
	proves(t, "M-1-3", "a client declared in the configuration is like a registered one", func(t *testing.T) {
		as := fixture.Start(t, func(c *authserver.Config) {
			c.Clients = []*authserver.Client{{ID: "declared", AuthMethod: clientauth.TLSClientAuth, SANDNS: "CLIENT-1.example", BoundTokens: true}}
		})
		wantOK(t, fixture.Token(t, as.As(t, as.L1), "declared"))
		wantIC(t, fixture.Token(t, as.As(t, as.L2), "declared"))
		wantIC(t, fixture.Token(t, as.As(t, nil), "declared"))
	})
	proves(t, "M-2.1-2", "two values are refused at start and at load", func(t *testing.T) {
		two := &authserver.Client{ID: "two", AuthMethod: clientauth.TLSClientAuth, SANDNS: "client-1.example", SANEmail: "ops@client-1.example"}
		cfg := as.Config
		cfg.Clients = []*authserver.Client{two}
		if _, err := authserver.New(cfg); err == nil {
			t.Error("the server starts with a client that has two subject values")
		}
		as.RegisterUnchecked(t, two)
		wantIC(t, fixture.Token(t, as.As(t, as.L1), "two"))
		wantReason(t, as, decision.ClientMisconfig)
	})
	proves(t, "", "a disabled client", func(t *testing.T) {
		as.Register(t, &authserver.Client{ID: "disabled", AuthMethod: clientauth.TLSClientAuth, SubjectDN: fixture.SubjectDN, Disabled: true})
		wantIC(t, fixture.Token(t, as.As(t, as.L1), "disabled"))
		wantReason(t, as, decision.ClientDisabled)
	})
}

func TestPKIMethod(t *testing.T) {
	versions(t, func(t *testing.T, as *fixture.AS, v uint16) {
		with := func(leaf *pkitest.Leaf, id string) *fixture.Answer {
			t.Helper()
			return fixture.Token(t, as.As(t, leaf, v), id)
		}
		leaf := func(change func(*pkitest.LeafOptions)) *pkitest.Leaf {
			o := fixture.L1Options()
			change(&o)
			return as.CA1i.MustLeaf(o)
		}
		proves(t, "M-2.1-1 M-7.4-1", "the chain leads to an anchor", func(t *testing.T) {
			wantOK(t, with(as.L1, "c-dn"))
			wantIC(t, with(as.L1CAX, "c-dn"))
			wantReason(t, as, decision.ChainIncomplete) // CAX itself was not sent
			alone := *as.L1
			alone.Issuer = nil // sent without CA1i
			wantIC(t, with(&alone, "c-dn"))
			wantReason(t, as, decision.ChainIncomplete)
			// The refusal of the short chain is not that of the full one.
			wantOK(t, with(as.L1, "c-dn"))
		})
		proves(t, "M-2.1-4 M-2.1.2-4 M-2.1.2-5 M-2.1.2-6 M-2.1.2-7 M-2.1.2-8 M-9.5-2 M-9.5-3 M-9.5-4 M-9.5-5 M-9.5-6", "the five kinds", func(t *testing.T) {
			for _, id := range pkiClients {
				wantOK(t, with(as.L1, id))
				wantIC(t, with(as.L2, id))
			}
		})
		proves(t, "M-2.1-7", "another certificate with the same names", func(t *testing.T) {
			wantOK(t, with(as.L1r, "c-dn"))
			wantOK(t, with(as.L1k, "c-dn"))
		})
		proves(t, "M-2.1-9", "kinds are not mixed", func(t *testing.T) {
			wantIC(t, with(as.CA1i.MustLeaf(pkitest.LeafOptions{Subject: "CN=client-1.example"}), "c-dns"))
			wantIC(t, with(as.CA1i.MustLeaf(pkitest.LeafOptions{DNS: []string{"192.0.2.10"}}), "c-ip4"))
			wantIC(t, with(as.CA1i.MustLeaf(pkitest.LeafOptions{Subject: "emailAddress=ops@client-1.example"}), "c-mail"))
		})
		proves(t, "M-2.1.2-4 M-2.1.2-5 M-2.1.2-8", "letter case", func(t *testing.T) {
			wantOK(t, with(leaf(func(o *pkitest.LeafOptions) { o.DNS = []string{"CLIENT-1.Example"} }), "c-dns"))
			wantIC(t, with(leaf(func(o *pkitest.LeafOptions) { o.DNS = []string{"other.example"} }), "c-dns"))
			wantIC(t, with(leaf(func(o *pkitest.LeafOptions) { o.URI = []string{"https://client-1.example/ID"} }), "c-uri"))
			wantOK(t, with(leaf(func(o *pkitest.LeafOptions) { o.Email = []string{"ops@CLIENT-1.EXAMPLE"} }), "c-mail"))
			wantIC(t, with(leaf(func(o *pkitest.LeafOptions) { o.Email = []string{"OPS@client-1.example"} }), "c-mail"))
		})
		proves(t, "M-2.1.2-7", "addresses are compared as octets", func(t *testing.T) {
			mapped := pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: append([]byte{0x30, 0x12, 0x87, 0x10}, net.ParseIP("192.0.2.10").To16()...)}
			wantIC(t, with(as.CA1i.MustLeaf(pkitest.LeafOptions{Extra: []pkix.Extension{mapped}}), "c-ip4"))
		})
		proves(t, "M-2.1.2-9", "one of several entries is enough", func(t *testing.T) {
			several := leaf(func(o *pkitest.LeafOptions) { o.DNS = []string{"a.example", "b.example", "client-1.example"} })
			wantOK(t, with(several, "c-dns"))
			as.Register(t, &authserver.Client{ID: "sole", AuthMethod: clientauth.TLSClientAuth, SANDNS: "client-1.example", SoleEntry: true})
			wantOK(t, with(as.L1, "sole"))
			wantIC(t, with(several, "sole"))
		})
		proves(t, "M-2.1.2-12 M-7.5-9", "no wildcards", func(t *testing.T) {
			wantIC(t, with(leaf(func(o *pkitest.LeafOptions) { o.DNS = []string{"*.example"} }), "c-dns"))
			c := &authserver.Client{ID: "star", AuthMethod: clientauth.TLSClientAuth, SANDNS: "*.example"}
			if authserver.ValidateClient(c, as.Server.Rules()) == nil {
				as.Register(t, c)
				wantIC(t, with(as.L1, "star"))
			}
		})
		proves(t, "M-7.4-2", "anchors are those of the client", func(t *testing.T) {
			wantIC(t, with(as.L1CA2, "c-dn"))
			wantOK(t, with(as.L1CA2, "c-dn-ca2"))
			wantIC(t, with(as.L1, "c-dn-ca2"))
			impostor := pkitest.MustCA(pkitest.CAOptions{RawSubject: as.CA1.Cert.RawSubject})
			wantIC(t, with(impostor.MustLeaf(fixture.L1Options()), "c-dn"))
		})
		proves(t, "M-7.5-3", "a leaf cannot issue", func(t *testing.T) {
			wantIC(t, with(as.L1.AsCA().MustLeaf(fixture.L1Options()), "c-dn"))
		})
		proves(t, "M-7.5-4", "key usage and extended key usage", func(t *testing.T) {
			wantIC(t, with(leaf(func(o *pkitest.LeafOptions) { o.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), "c-dn"))
			wantReason(t, as, decision.ExtKeyUsage)
			wantOK(t, with(leaf(func(o *pkitest.LeafOptions) { o.NoExtKeyUsage = true }), "c-dn"))
			wantOK(t, with(leaf(func(o *pkitest.LeafOptions) { o.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }), "c-dn"))
			wantIC(t, with(leaf(func(o *pkitest.LeafOptions) { o.KeyUsage = x509.KeyUsageKeyAgreement }), "c-dn"))
		})
		proves(t, "M-7.5-5", "validity", func(t *testing.T) {
			now := time.Now()
			wantIC(t, with(leaf(func(o *pkitest.LeafOptions) { o.NotBefore, o.NotAfter = now.Add(-2*time.Hour), now.Add(-time.Hour) }), "c-dn"))
			wantReason(t, as, decision.Expired)
			wantIC(t, with(leaf(func(o *pkitest.LeafOptions) { o.NotBefore, o.NotAfter = now.Add(time.Hour), now.Add(2*time.Hour) }), "c-dn"))
			old := as.CA1.MustIntermediate(pkitest.CAOptions{NotBefore: now.Add(-2 * time.Hour), NotAfter: now.Add(-time.Hour)})
			wantIC(t, with(old.MustLeaf(fixture.L1Options()), "c-dn"))
		})
		proves(t, "M-7.5-6", "unknown critical extension", func(t *testing.T) {
			wantIC(t, with(leaf(func(o *pkitest.LeafOptions) {
				o.Extra = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4, 5}, Critical: true, Value: []byte{5, 0}}}
			}), "c-dn"))
		})
		proves(t, "M-7.5-7", "NUL does not end a name", func(t *testing.T) {
			wantIC(t, with(leaf(func(o *pkitest.LeafOptions) { o.DNS = []string{"client-1.example\x00.evil"} }), "c-dns"))
			as.Register(t, &authserver.Client{ID: "admin", AuthMethod: clientauth.TLSClientAuth, SubjectDN: "CN=admin"})
			wantIC(t, with(as.CA1i.MustLeaf(pkitest.LeafOptions{RawSubject: pkitest.RawName([]pkitest.Attribute{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Tag: asn1.TagUTF8String, Value: []byte("admin\x00.evil")}})}), "admin"))
		})
		proves(t, "M-7.5-10 T-P-1", "fifty cross-signed intermediates", func(t *testing.T) {
			var chain []*x509.Certificate
			key := pkitest.MustKey(0)
			for range 50 {
				ca := as.CA1.MustIntermediate(pkitest.CAOptions{Subject: "CN=cross", Key: key})
				chain = append(chain, ca.Cert)
			}
			cert := as.L1.TLS()
			cert.Certificate = cert.Certificate[:1]
			for _, c := range chain {
				cert.Certificate = append(cert.Certificate, c.Raw)
			}
			cfg := as.ClientTLS(nil, v)
			cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
			wantIC(t, fixture.Token(t, as.HTTP(t, cfg), "c-dn"))
			wantReason(t, as, decision.ChainTooLong)
		})
		proves(t, "T-8446-3", "an unrelated certificate in between", func(t *testing.T) {
			cert := as.L1.TLS()
			cert.Certificate = [][]byte{as.L1.Cert.Raw, as.CA2.Cert.Raw, as.CA1i.Cert.Raw}
			cfg := as.ClientTLS(nil, v)
			cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
			wantOK(t, fixture.Token(t, as.HTTP(t, cfg), "c-dn"))
		})
		proves(t, "M-6.1-4 M-6.1-3 M-4-2 M-2.2-3", "both methods on one listener, which demands nothing", func(t *testing.T) {
			wantOK(t, with(as.L1, "c-dn"))
			wantOK(t, with(as.S1, "c-self"))
			wantIC(t, with(as.S2, "c-self"))
			wantIC(t, with(pkitest.MustSelfSigned(fixture.L1Options()), "c-dn"))
			wantIC(t, with(as.L1CAX, "c-dn"))
			var info *tls.CertificateRequestInfo
			cfg := as.ClientTLS(nil, v)
			cert := as.S1.TLS()
			cfg.GetClientCertificate = func(i *tls.CertificateRequestInfo) (*tls.Certificate, error) { info = i; return &cert, nil }
			wantOK(t, fixture.Token(t, as.HTTP(t, cfg), "c-self"))
			if info == nil || len(info.AcceptableCAs) != 0 {
				t.Error("the listener sends a list of CAs")
			}
		})
	})
}

// TestNamesOnTheWire registers a name and presents a certificate made to the vector
// (requirements, Section 1.5), in a handshake.
func TestNamesOnTheWire(t *testing.T) {
	as := fixture.Start(t)
	for _, tc := range []struct {
		id, registered, subject string
		match                   bool
	}{
		{"TV-D1", fixture.SubjectDN, "CN=client-1,OU=apps,O=Example,C=GB", true},
		{"TV-D2", fixture.SubjectDN, "C=GB,O=Example,OU=apps,CN=client-1", false},
		{"TV-D3", "cn=CLIENT-1,ou=Apps,o=EXAMPLE,c=gb", "CN=client-1,OU=apps,O=Example,C=GB", true},
		{"TV-D4", "CN=client-1,O=Example  Ltd", "CN=client-1,O=Example Ltd", true},
		{"TV-D5", "OU=Sales+CN=J.  Smith,DC=example,DC=net", "CN=J. Smith+OU=Sales,DC=example,DC=net", true},
		{"TV-D6", "CN=J. Smith,OU=Sales,DC=example,DC=net", "CN=J. Smith+OU=Sales,DC=example,DC=net", false},
		{"TV-D8", `CN=James \"Jim\" Smith\, III,DC=example,DC=net`, `CN=James \"Jim\" Smith\, III,DC=example,DC=net`, true},
		{"TV-D11", `CN=Lu\C4\8Di\C4\87`, "CN=Lučić", true},
		{"TV-D12", "2.5.4.3=client-1,O=Example", "CN=client-1,O=Example", true},
		{"TV-D13", "CN=client-1", "CN=client-1,O=Example", false},
		{"TV-D14", "O=Example,CN=client-1", "CN=client-1,O=Example", false},
		{"TV-D15", "CN=STRASSE", "CN=straße", true},
		{"TV-D16", "CN=\u00c5", "CN=A\u030a", true},
		{"TV-D19", "CN=admin", "CN=admin,CN=guest", false},
		{"TV-D21", "UID=jsmith,DC=EXAMPLE,DC=net", "UID=jsmith,DC=example,DC=net", true},
		{"TV-D22", "CN=a", "CN=\ufffd", false},
		{"TV-D23", "emailAddress=OPS@example.com,CN=x", "emailAddress=ops@example.com,CN=x", true},
	} {
		proves(t, "M-2.1-5 M-7.5-8 "+tc.id, tc.id, func(t *testing.T) {
			as.Register(t, &authserver.Client{ID: tc.id, AuthMethod: clientauth.TLSClientAuth, SubjectDN: tc.registered})
			r := fixture.Token(t, as.As(t, as.CA1i.MustLeaf(pkitest.LeafOptions{Subject: tc.subject})), tc.id)
			if tc.match {
				wantOK(t, r)
			} else {
				wantIC(t, r)
			}
		})
	}
}

func TestSelfSignedMethod(t *testing.T) {
	versions(t, func(t *testing.T, as *fixture.AS, v uint16) {
		with := func(leaf *pkitest.Leaf, id string) *fixture.Answer {
			t.Helper()
			return fixture.Token(t, as.As(t, leaf, v), id)
		}
		proves(t, "M-2.2-3 M-2.2-4", "the whole certificate is compared", func(t *testing.T) {
			wantOK(t, with(as.S1, "c-self"))
			reissued := pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=S1", Key: as.S1.Key})
			wantIC(t, with(reissued, "c-self"))
			wantReason(t, as, decision.NotRegistered)
			wantIC(t, with(pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=S1"}), "c-self"))
		})
		proves(t, "M-2.2-3", "a registered certificate of an unknown CA", func(t *testing.T) {
			as.Register(t, &authserver.Client{ID: "by-value", AuthMethod: clientauth.SelfSignedTLSClientAuth, JWKS: fixture.JWKSOf(t, as.L1CAX)})
			wantOK(t, with(as.L1CAX, "by-value"))
		})
		proves(t, "M-2.2-5 F2-5.4.3-1 X-5-1", "several certificates", func(t *testing.T) {
			set := fixture.JWKSOf(t, as.S1, as.S2)
			as.Register(t, &authserver.Client{ID: "several", AuthMethod: clientauth.SelfSignedTLSClientAuth, JWKS: set})
			wantOK(t, with(as.S1, "several"))
			wantOK(t, with(as.S2, "several"))
		})
		proves(t, "M-2.2-6 M-2.2-7", "rotation behind jwks_uri", func(t *testing.T) {
			wantOK(t, with(as.S1, "c-selfuri"))
			wantIC(t, with(as.S2, "c-selfuri")) // a miss fetches, and then not again for 30 seconds
			hits := as.Keys.Hits("/c-selfuri")
			for range 5 {
				wantIC(t, with(as.L1, "c-selfuri"))
			}
			if more := as.Keys.Hits("/c-selfuri") - hits; more > 1 {
				t.Errorf("%d fetches for five unknown certificates", more)
			}
			as.Keys.Serve("/rotating", fixture.JWKSOf(t, as.S1))
			as.Register(t, &authserver.Client{ID: "rotating", AuthMethod: clientauth.SelfSignedTLSClientAuth, JWKSURI: "https://keys.test/rotating"})
			wantOK(t, with(as.S1, "rotating"))
			as.Keys.Serve("/rotating", fixture.JWKSOf(t, as.S2))
			wantOK(t, with(as.S2, "rotating")) // right after publication
			wantIC(t, with(as.S1, "rotating"))
		})
		proves(t, "M-2.2-8 M-2.2-7", "a broken key set fails closed", func(t *testing.T) {
			for path, handle := range map[string]http.HandlerFunc{
				"/500":   func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
				"/text":  func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) },
				"/empty": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"keys":[]}`)) },
				"/endless": func(w http.ResponseWriter, r *http.Request) {
					for r.Context().Err() == nil {
						if _, err := w.Write(make([]byte, 1<<16)); err != nil {
							return
						}
					}
				},
				"/large": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 1<<20)) },
				"/moved": func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Location", "https://as.test/jwks")
					w.WriteHeader(302)
				},
			} {
				as.Keys.Handle(path, handle)
				as.Register(t, &authserver.Client{ID: "broken" + path, AuthMethod: clientauth.SelfSignedTLSClientAuth, JWKSURI: "https://keys.test" + path})
				wantIC(t, with(as.S1, "broken"+path))
			}
			// The server certificate of another host.
			other := as.ServerCA.MustLeaf(pkitest.LeafOptions{DNS: []string{"other.test"}, Server: true})
			as.ListenTLS(t, "wrong.test", as.Keys, &tls.Config{Certificates: []tls.Certificate{other.TLS()}})
			as.Register(t, &authserver.Client{ID: "wrong", AuthMethod: clientauth.SelfSignedTLSClientAuth, JWKSURI: "https://wrong.test/c-selfuri"})
			wantIC(t, with(as.S1, "wrong"))
			wantReason(t, as, decision.KeySetUnavailable)
			// No host at all.
			as.Register(t, &authserver.Client{ID: "nohost", AuthMethod: clientauth.SelfSignedTLSClientAuth, JWKSURI: "https://nowhere.test/jwks"})
			wantIC(t, with(as.S1, "nohost"))
			wantReason(t, as, decision.KeySetUnavailable)
		})
		proves(t, "M-2.2.2-1", "the first entry of x5c counts", func(t *testing.T) {
			second := as.CA1i.MustLeaf(pkitest.LeafOptions{})
			key := jose.JSONWebKey{Key: second.Cert.PublicKey, Certificates: []*x509.Certificate{second.Cert, as.CA1i.Cert}}
			set, err := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{key}}, error(nil)
			data, err := marshal(set)
			if err != nil {
				t.Fatal(err)
			}
			as.Register(t, &authserver.Client{ID: "chain", AuthMethod: clientauth.SelfSignedTLSClientAuth, JWKS: data})
			wantOK(t, with(second, "chain"))
			wantIC(t, with(&pkitest.Leaf{Cert: as.CA1i.Cert, Key: as.CA1i.Key}, "chain"))
		})
		proves(t, "M-2.2.2-2 M-2.2.2-3 M-2.2.2-4", "unusable keys behind jwks_uri", func(t *testing.T) {
			bare, err := marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: as.S1.Cert.PublicKey}}})
			if err != nil {
				t.Fatal(err)
			}
			der := base64Std(as.S1.Cert.Raw)
			x5cOnly := []byte(`{"keys":[{"kty":"EC","crv":"P-256","x5c":["` + der + `"]}]}`)
			other, err := marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: as.S2.Cert.PublicKey}}})
			if err != nil {
				t.Fatal(err)
			}
			mixed := []byte(strings.Replace(string(other), `"kty"`, `"x5c":["`+der+`"],"kty"`, 1))
			for path, doc := range map[string][]byte{"/bare": bare, "/x5conly": x5cOnly, "/mixed": mixed} {
				as.Keys.Serve(path, doc)
				as.Register(t, &authserver.Client{ID: "unusable" + path, AuthMethod: clientauth.SelfSignedTLSClientAuth, JWKSURI: "https://keys.test" + path})
				wantIC(t, with(as.S1, "unusable"+path))
				if c := (&authserver.Client{ID: "x", AuthMethod: clientauth.SelfSignedTLSClientAuth, JWKS: doc}); authserver.ValidateClient(c, as.Server.Rules()) == nil {
					t.Errorf("%s is accepted by value", path)
				}
			}
		})
	})
	proves(t, "", "an expired certificate, and the switch", func(t *testing.T) {
		old := pkitest.MustSelfSigned(pkitest.LeafOptions{NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)})
		for _, ignore := range []bool{false, true} {
			as := fixture.Start(t, func(c *authserver.Config) { c.InsecureIgnoreSelfSignedValidity = ignore })
			as.Register(t, &authserver.Client{ID: "old", AuthMethod: clientauth.SelfSignedTLSClientAuth, JWKS: fixture.JWKSOf(t, old)})
			r := fixture.Token(t, as.As(t, old), "old")
			if ignore {
				wantOK(t, r)
			} else {
				wantIC(t, r)
				wantReason(t, as, decision.Expired)
			}
		}
	})
	proves(t, "", "the key alone, by name", func(t *testing.T) {
		as := fixture.Start(t, func(c *authserver.Config) { c.InsecureMatchKey = true })
		wantOK(t, fixture.Token(t, as.As(t, pkitest.MustSelfSigned(pkitest.LeafOptions{Key: as.S1.Key})), "c-self"))
		wantIC(t, fixture.Token(t, as.As(t, as.S2), "c-self"))
	})
}

func TestKeyTypes(t *testing.T) {
	as := fixture.Start(t)
	for _, kind := range []pkitest.KeyType{pkitest.P256, pkitest.P384, pkitest.P521, pkitest.Ed25519, pkitest.RSA2048} {
		proves(t, "T-8446-9", kind.String(), func(t *testing.T) {
			o := fixture.L1Options()
			o.KeyType = kind
			wantOK(t, fixture.Token(t, as.As(t, as.CA1i.MustLeaf(o)), "c-dn"))
		})
	}
	proves(t, "T-8446-9", "a SHA-1 signature in the chain", func(t *testing.T) {
		ca := as.CA1.MustIntermediate(pkitest.CAOptions{SignatureAlgorithm: x509.ECDSAWithSHA1})
		wantIC(t, fixture.Token(t, as.As(t, ca.MustLeaf(fixture.L1Options())), "c-dn"))
	})
}

func TestSecrets(t *testing.T) {
	as := fixture.Start(t)
	none := as.As(t, nil)
	token := func(id, secret string) *fixture.Answer {
		t.Helper()
		return fixture.Token(t, none, id, "Authorization", fixture.Basic(id, secret))
	}
	chosen := "correct horse: battery+staple%&"
	hash, err := authserver.HashSecret(chosen)
	if err != nil {
		t.Fatal(err)
	}
	as.Register(t, &authserver.Client{ID: "chosen:?&", SecretHash: hash})
	for _, tc := range []struct {
		name, id, secret string
		ok               bool
	}{
		{"generated", "c-sec", as.Secret, true},
		{"chosen, with characters that need escapes", "chosen:?&", chosen, true},
		{"chosen, again from memory", "chosen:?&", chosen, true},
		{"chosen, wrong", "chosen:?&", chosen + "x", false},
		{"another's generated secret for a chosen one", "chosen:?&", as.Secret, false},
		{"chosen for a generated one", "c-sec", chosen, false},
		{"generated, one letter changed", "c-sec", "cbs_A" + as.Secret[5:], false},
		{"empty", "c-sec", "", false},
		{"the hash itself", "chosen:?&", hash, false},
		{"unknown client", "nobody", chosen, false},
		{"too long", "c-sec", strings.Repeat("x", 5000), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if r := token(tc.id, tc.secret); tc.ok {
				wantOK(t, r)
			} else {
				wantIC(t, r)
			}
		})
	}
	if log := as.Log(); strings.Contains(log, as.Secret) || strings.Contains(log, "battery") || strings.Contains(log, hash) {
		t.Error("a secret or its hash is in the log")
	}
	for _, short := range []string{"", "short", "fifteen letters", "line\nbreak line break"} {
		if h, err := authserver.HashSecret(short); err == nil || h != "" {
			t.Errorf("%q is accepted", short)
		}
	}
}

func TestAssertions(t *testing.T) {
	as := fixture.Start(t)
	none := as.As(t, nil)
	s1 := as.As(t, as.S1)
	const typ = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	send := func(t *testing.T, assertion string, pairs ...string) *fixture.Answer {
		t.Helper()
		return fixture.Post(t, s1, fixture.MTLSBase+"/token", append([]string{"grant_type", "client_credentials",
			"client_assertion_type", typ, "client_assertion", assertion}, pairs...)...)
	}
	now := time.Now()
	for _, tc := range []struct {
		name   string
		change map[string]any
		ok     bool
		ids    string
	}{
		{"issuer as audience", nil, true, "M-3-3"},
		{"token endpoint as audience", map[string]any{"aud": fixture.Issuer + "/token"}, true, "M-5-9"},
		{"alias as audience", map[string]any{"aud": fixture.MTLSBase + "/token"}, true, ""},
		{"an array of one", map[string]any{"aud": []string{fixture.Issuer}}, true, ""},
		{"two audiences", map[string]any{"aud": []string{fixture.Issuer, "https://evil.test"}}, false, ""},
		{"another audience", map[string]any{"aud": "https://evil.test"}, false, ""},
		{"no audience", map[string]any{"aud": nil}, false, ""},
		{"a number as audience", map[string]any{"aud": 1}, false, ""},
		{"no exp", map[string]any{"exp": nil}, false, ""},
		{"expired", map[string]any{"exp": now.Add(-time.Minute).Unix()}, false, ""},
		{"exp in a year", map[string]any{"exp": now.AddDate(1, 0, 0).Unix()}, false, ""},
		{"iat 8 s ahead", map[string]any{"iat": now.Add(8 * time.Second).Unix()}, true, "F2-5.3.2.1-13"},
		{"nbf 8 s ahead", map[string]any{"nbf": now.Add(8 * time.Second).Unix()}, true, "F2-5.3.2.1-13"},
		{"iat 61 s ahead", map[string]any{"iat": now.Add(63 * time.Second).Unix()}, false, "F2-5.3.2.1-13"},
		{"nbf 61 s ahead", map[string]any{"nbf": now.Add(63 * time.Second).Unix()}, false, "F2-5.3.2.1-13"},
		{"no iat", map[string]any{"iat": nil}, true, ""},
		{"no jti", map[string]any{"jti": nil}, false, ""},
		{"long jti", map[string]any{"jti": strings.Repeat("j", 300)}, false, ""},
		{"another issuer", map[string]any{"iss": "c-dn"}, false, ""},
		{"another subject", map[string]any{"sub": "c-dn"}, false, ""},
		{"no subject", map[string]any{"sub": nil}, false, ""},
	} {
		proves(t, tc.ids, tc.name, func(t *testing.T) {
			if r := send(t, as.Assertion(t, tc.change)); tc.ok {
				wantOK(t, r)
				if r.Cnf() != certbound.Thumbprint(as.S1.Cert) {
					t.Errorf("cnf is %q", r.Cnf())
				}
			} else {
				wantIC(t, r)
			}
		})
	}
	proves(t, "", "twice", func(t *testing.T) {
		a := as.Assertion(t, nil)
		wantOK(t, send(t, a))
		wantIC(t, send(t, a))
		wantReason(t, as, decision.AssertionReplayed)
	})
	proves(t, "", "a forged one does not burn the jti", func(t *testing.T) {
		claims := map[string]any{"iss": "c-pkj", "sub": "c-pkj", "aud": fixture.Issuer, "jti": "same", "exp": now.Add(time.Minute).Unix()}
		wantIC(t, send(t, fixture.Sign(t, jose.ES256, as.S2.Key, claims)))
		wantOK(t, send(t, fixture.Sign(t, jose.ES256, as.AssertionKey.Key, claims)))
	})
	proves(t, "", "form and algorithm", func(t *testing.T) {
		claims := map[string]any{"iss": "c-pkj", "sub": "c-pkj", "aud": fixture.Issuer, "jti": "hs", "exp": now.Add(time.Minute).Unix()}
		wantIC(t, send(t, fixture.Sign(t, jose.HS256, []byte(strings.Repeat("k", 32)), claims)))
		good := strings.Split(as.Assertion(t, nil), ".")
		wantIC(t, send(t, base64URL(`{"alg":"none"}`)+"."+good[1]+"."))
		wantIC(t, send(t, strings.Join(good[:2], ".")+".AAAA", "client_id", "c-pkj"))
		wantIC(t, send(t, "nonsense", "client_id", "c-pkj"))
		wantIC(t, send(t, strings.Repeat("a", 20_000), "client_id", "c-pkj"))
		wantIR(t, send(t, as.Assertion(t, nil), "client_id", "c-dn"))
		wantIR(t, fixture.Post(t, none, fixture.MTLSBase+"/token", "grant_type", "client_credentials", "client_assertion", as.Assertion(t, nil)))
	})
	proves(t, "", "an access token is no assertion", func(t *testing.T) {
		r := send(t, as.Assertion(t, nil))
		wantOK(t, r)
		wantIC(t, send(t, r.AccessToken()))
	})
	proves(t, "", "rotation behind jwks_uri", func(t *testing.T) {
		as.Keys.Serve("/pkj", fixture.JWKSOf(t, as.S1))
		as.Register(t, &authserver.Client{ID: "pkj-uri", AuthMethod: authserver.PrivateKeyJWT, JWKSURI: "https://keys.test/pkj", SigningAlg: "ES256"})
		claims := map[string]any{"iss": "pkj-uri", "sub": "pkj-uri", "aud": fixture.Issuer, "jti": "1", "exp": now.Add(time.Minute).Unix()}
		wantOK(t, send(t, fixture.Sign(t, jose.ES256, as.S1.Key, claims)))
		as.Keys.Serve("/pkj", fixture.JWKSOf(t, as.S2))
		claims["jti"] = "2"
		wantOK(t, send(t, fixture.Sign(t, jose.ES256, as.S2.Key, claims)))
	})
	strict := fixture.Start(t, func(c *authserver.Config) { c.StrictAssertionAudience = true })
	proves(t, "F2-5.3.2.1-8", "strict audience", func(t *testing.T) {
		for _, aud := range []any{fixture.MTLSBase + "/token", fixture.Issuer + "/token", []string{fixture.Issuer}} {
			wantIC(t, fixture.Post(t, strict.As(t, strict.S1), fixture.MTLSBase+"/token", "grant_type", "client_credentials",
				"client_assertion_type", typ, "client_assertion", strict.Assertion(t, map[string]any{"aud": aud})))
		}
		wantOK(t, fixture.Post(t, strict.As(t, strict.S1), fixture.MTLSBase+"/token", "grant_type", "client_credentials",
			"client_assertion_type", typ, "client_assertion", strict.Assertion(t, nil)))
	})
}

func TestChallenges(t *testing.T) {
	as := fixture.Start(t, func(c *authserver.Config) { c.AuthMethods = []string{clientauth.TLSClientAuth} })
	proves(t, "T-9110-2 N-2.3-1", "without an HTTP scheme", func(t *testing.T) {
		l2 := as.As(t, as.L2)
		// 400 where no scheme could be named; introspection is always 401.
		wantError(t, fixture.Token(t, l2, "c-dn"), 400, "invalid_client")
		r := fixture.Post(t, l2, fixture.MTLSBase+"/introspect", "client_id", "c-dn", "token", "x")
		wantIC(t, r)
		if !strings.HasPrefix(r.Header.Get("WWW-Authenticate"), "Bearer") {
			t.Errorf("challenge is %q", r.Header.Get("WWW-Authenticate"))
		}
		// Who sends Basic is told that it was Basic that failed.
		wantIC(t, fixture.Token(t, l2, "c-dn", "Authorization", fixture.Basic("c-dn", "x")))
	})
}
