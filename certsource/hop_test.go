package certsource_test

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/pkitest"
)

// proxyCA issues to proxies only.
var (
	proxyCA = pkitest.MustCA(pkitest.CAOptions{Subject: "CN=Proxies"})
	named   = proxyCA.MustLeaf(pkitest.LeafOptions{Subject: "CN=edge,O=Agora", URI: []string{"spiffe://agora.example/edge"}})
	renewed = proxyCA.MustLeaf(pkitest.LeafOptions{Subject: "CN=edge,O=Agora", URI: []string{"spiffe://agora.example/edge"}, Key: named.Key})
)

// genuine is what a server makes of an anchor set.
func genuine(_ context.Context, leaf *x509.Certificate, chain []*x509.Certificate) error {
	opts := x509.VerifyOptions{Roots: proxyCA.Pool(), Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	for _, c := range chain {
		opts.Intermediates.AddCert(c)
	}
	_, err := leaf.Verify(opts)
	return err
}

func isEdge(c *x509.Certificate) bool { return string(c.RawSubject) == string(named.Cert.RawSubject) }

func TestHopByCertificate(t *testing.T) {
	byKey := certsource.Hop{PublicKeys: []string{certsource.PublicKeyDigest(named.Cert)}}
	bySubject := certsource.Hop{Subject: isEdge, VerifyProxy: genuine}
	bySPIFFE := certsource.Hop{SPIFFEIDs: []string{"spiffe://agora.example/edge", "spiffe://agora.example/spare"}, VerifyProxy: genuine}
	both := certsource.Hop{Prefixes: byAddress.Prefixes, SPIFFEIDs: bySPIFFE.SPIFFEIDs, VerifyProxy: genuine}
	either := certsource.Hop{Thumbprints: []string{certbound.Thumbprint(edge.Cert)}, SPIFFEIDs: bySPIFFE.SPIFFEIDs, VerifyProxy: genuine}

	same := []string{"spiffe://agora.example/edge"}
	forged := root.MustLeaf(pkitest.LeafOptions{Subject: "CN=edge,O=Agora", URI: same}) // of a CA for clients
	self := pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=edge,O=Agora", URI: same})
	two := proxyCA.MustLeaf(pkitest.LeafOptions{URI: append(same, "spiffe://agora.example/other")})
	longer := proxyCA.MustLeaf(pkitest.LeafOptions{URI: []string{"spiffe://agora.example/edge/x"}})
	// These print like the one above once they are parsed.
	raw := func(uri string) *pkitest.Leaf {
		value, err := asn1.Marshal([]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(uri)}})
		if err != nil {
			t.Fatal(err)
		}
		return proxyCA.MustLeaf(pkitest.LeafOptions{Extra: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: value}}})
	}
	fragment, upper := raw("spiffe://agora.example/edge#"), raw("SPIFFE://agora.example/edge")
	dns := proxyCA.MustLeaf(pkitest.LeafOptions{DNS: []string{"agora.example"}})
	server := proxyCA.MustLeaf(pkitest.LeafOptions{URI: same, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})

	tests := []struct {
		name string
		hop  certsource.Hop
		peer string
		leaf *pkitest.Leaf
		ok   bool
	}{
		{"the pinned key", byKey, stranger, named, true},
		{"the pinned key in a renewed certificate", byKey, stranger, renewed, true},
		{"another key", byKey, stranger, edge, false},
		{"no certificate, key pinned", byKey, proxy, nil, false},
		{"the subject", bySubject, stranger, named, true},
		{"the subject from a CA for clients", bySubject, proxy, forged, false},
		{"the subject, self-signed", bySubject, proxy, self, false},
		{"another subject", bySubject, proxy, longer, false},
		{"no certificate, subject named", bySubject, proxy, nil, false},
		{"the SPIFFE ID", bySPIFFE, stranger, named, true},
		{"the SPIFFE ID with a fragment", bySPIFFE, proxy, fragment, false},
		{"the SPIFFE ID from a CA for clients", bySPIFFE, proxy, forged, false},
		{"the SPIFFE ID, self-signed", bySPIFFE, proxy, self, false},
		{"the SPIFFE ID beside another", bySPIFFE, proxy, two, false},
		{"a SPIFFE ID below it", bySPIFFE, proxy, longer, false},
		{"the SPIFFE ID in another case", bySPIFFE, proxy, upper, false},
		{"a DNS name", bySPIFFE, proxy, dns, false},
		{"a server's certificate", bySPIFFE, proxy, server, false},
		{"address and name", both, proxy, named, true},
		{"the name from another address", both, stranger, named, false},
		{"the address without the name", both, proxy, longer, false},
		{"one of two identities: the pin", either, stranger, edge, true},
		{"one of two identities: the name", either, stranger, named, true},
		{"neither identity", either, stranger, forged, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Attr("requirement", "G-4.13-2 H-4-3 H-4-7")
			src, err := certsource.NewPreset("caddy", certsource.PresetConfig{Hop: tt.hop})
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range certsource.Presets() {
				if p.Name != "caddy" {
					continue
				}
				r := over(from(t, tt.peer, p.Forward(client.Cert)), tt.leaf)
				got, err := src.Certificate(r)
				if tt.ok != (err == nil) || tt.ok != (got != nil) || !tt.ok && reason(err) != decision.SourceUntrusted {
					t.Errorf("%v (%v), want it believed: %v", got.Thumbprint(), err, tt.ok)
				}
			}
		})
	}
}

func TestHopByCertificateIsRefusedAtStart(t *testing.T) {
	tests := map[string]certsource.Hop{
		"a subject without CA":              {Subject: isEdge},
		"a SPIFFE ID without CA":            {SPIFFEIDs: []string{"spiffe://a/b"}},
		"a CA without a name":               {VerifyProxy: genuine},
		"a CA and a prefix without a name":  {Prefixes: byAddress.Prefixes, VerifyProxy: genuine},
		"a key in hexadecimal":              {PublicKeys: []string{strings.Repeat("ab", 32)}},
		"an empty key":                      {PublicKeys: []string{""}},
		"another scheme":                    {VerifyProxy: genuine, SPIFFEIDs: []string{"https://a/b"}},
		"a scheme in upper case":            {VerifyProxy: genuine, SPIFFEIDs: []string{"SPIFFE://a/b"}},
		"a whole trust domain":              {VerifyProxy: genuine, SPIFFEIDs: []string{"spiffe://a"}},
		"a whole trust domain with a slash": {VerifyProxy: genuine, SPIFFEIDs: []string{"spiffe://a/"}},
		"no trust domain":                   {VerifyProxy: genuine, SPIFFEIDs: []string{"spiffe:///b"}},
		"a trust domain in upper case":      {VerifyProxy: genuine, SPIFFEIDs: []string{"spiffe://A/b"}},
		"a port":                            {VerifyProxy: genuine, SPIFFEIDs: []string{"spiffe://a:1/b"}},
		"an empty segment":                  {VerifyProxy: genuine, SPIFFEIDs: []string{"spiffe://a//b"}},
		"dots":                              {VerifyProxy: genuine, SPIFFEIDs: []string{"spiffe://a/../b"}},
		"a pattern":                         {VerifyProxy: genuine, SPIFFEIDs: []string{"spiffe://a/*"}},
		"an escape":                         {VerifyProxy: genuine, SPIFFEIDs: []string{"spiffe://a/%62"}},
	}
	for name, hop := range tests {
		t.Run(name, func(t *testing.T) {
			if src, err := certsource.NewPreset("nginx", certsource.PresetConfig{Hop: hop}); err == nil || src != nil {
				t.Errorf("%v (%v), want it refused", src, err)
			}
		})
	}
}

// Attack 20: a header is believed because its sender has a private address. Nothing is
// believed by default, from no address, and not without the setting that says so.
func TestAttackPrivateAddressIsTrusted(t *testing.T) {
	t.Attr("attack", "20")
	t.Attr("requirement", "H-4-2 H-4-6")
	peers := []string{"10.0.0.1:1", "172.16.0.1:1", "192.168.1.1:1", "[fd00::1]:1", "[fe80::1]:1", "100.64.0.1:1", "169.254.0.1:1", "127.0.0.1:1", "unix"}
	for _, p := range certsource.Presets() {
		sent := p.Forward(client.Cert, middle.Cert)
		for _, peer := range peers {
			for _, src := range []certsource.Source{certsource.TLS{}, certsource.None{}, preset(t, p.Name, nil)} {
				got, err := src.Certificate(from(t, peer, sent))
				if got != nil || !errors.Is(err, certsource.ErrNoCertificate) && reason(err) != decision.SourceUntrusted {
					t.Errorf("%s from %s at %s: %v (%v)", p.Name, peer, src.Name(), got.Thumbprint(), err)
				}
			}
		}
		// A trusted prefix alone does not make plain HTTP over a network safe.
		src := preset(t, p.Name, func(c *certsource.PresetConfig) {
			c.Hop = certsource.Hop{Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8")}}
		})
		if got, err := src.Certificate(from(t, "10.0.0.1:1", sent)); got != nil || reason(err) != decision.SourceUntrusted {
			t.Errorf("%s in plain HTTP: %v (%v)", p.Name, got.Thumbprint(), err)
		}
		for name, r := range map[string]*http.Request{
			"over TLS": over(from(t, "10.0.0.1:1", sent), nil), "over loopback": from(t, "127.0.0.1:1", sent),
		} {
			if got, err := src.Certificate(r); err != nil {
				t.Errorf("%s %s: %v (%v)", p.Name, name, got.Thumbprint(), err)
			}
		}
	}
}

// Attack 10: the policy is not installed on one of the listeners. Every source gets the
// same requests from a stranger, over HTTP and over TLS, and believes none.
func TestAttackEverySourceRefusesTheStranger(t *testing.T) {
	t.Attr("attack", "10")
	for _, p := range certsource.Presets() {
		src := preset(t, p.Name, nil)
		for _, q := range certsource.Presets() {
			sent := q.Forward(client.Cert, middle.Cert)
			for name, r := range map[string]*http.Request{
				"plain":                  from(t, stranger, sent),
				"TLS":                    over(from(t, stranger, sent), nil),
				"TLS with a certificate": over(from(t, stranger, sent), other),
				"no record":              from(t, "", sent),
			} {
				if got, err := src.Certificate(r); got != nil || reason(err) != decision.SourceUntrusted {
					t.Errorf("%s at %s, %s: %v (%v)", q.Name, p.Name, name, got.Thumbprint(), err)
				}
			}
		}
	}
}

// A proxy is believed in more than the certificate, by the same rules.
func TestHopProve(t *testing.T) {
	hop := certsource.Hop{Thumbprints: []string{certbound.Thumbprint(edge.Cert)}}
	for _, tt := range []struct {
		name string
		leaf *pkitest.Leaf
		ok   bool
	}{{"the proxy", edge, true}, {"somebody else", named, false}, {"nobody", nil, false}} {
		t.Run(tt.name, func(t *testing.T) {
			r := over(from(t, stranger, nil), tt.leaf)
			err := hop.Prove(r, "the question")
			if e, ok := errors.AsType[*certsource.UntrustedPeerError](err); (err == nil) != tt.ok || !tt.ok && (!ok || e.Field != "the question" || e.Peer == "") {
				t.Errorf("error %v, want it believed: %v", err, tt.ok)
			}
		})
	}
	if err := (certsource.Hop{}).Prove(over(from(t, proxy, nil), edge), "the question"); err == nil {
		t.Error("the zero value believes somebody")
	}
}
