package negative

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"time"

	"github.com/certbound/certbound/pkitest"
)

const (
	noToken   = "no token: the handshake fails, or the answer is 4xx, mostly invalid_client"
	notServed = "the resource is not served: the handshake fails, or the answer is 4xx, mostly invalid_token"
)

// nobody are the options of a certificate without any name of the client.
func nobody() pkitest.LeafOptions { return pkitest.LeafOptions{Subject: "CN=mallory"} }

// impostor returns the options of the client's certificate, with another key.
func (target Target) impostor(changes ...func(*pkitest.LeafOptions)) pkitest.LeafOptions {
	o := target.Client
	o.Key, o.Serial = nil, nil
	for _, c := range changes {
		c(&o)
	}
	return o
}

// showing is an attack with an offer at the token endpoint.
func showing(number int, name, sent string, o *offer) attack {
	return attack{number, name, sent, noToken, func(p *prober) error { return refused(p.token(o, request{})) }}
}

// paths are certificates that are not genuine, or not those of this client.
func (target Target) paths() []attack {
	ca := target.CA
	var all []attack
	add := func(number int, name, sent string, o *offer) { all = append(all, showing(number, name, sent, o)) }
	leaf := func(number int, name, sent string, l *pkitest.Leaf) { add(number, name, sent, of(l)) }
	changed := func(change func(*pkitest.LeafOptions)) *pkitest.Leaf { return ca.MustLeaf(target.impostor(change)) }
	intermediate := func(change func(*pkitest.CAOptions)) *pkitest.CA {
		o := pkitest.CAOptions{Subject: "CN=Issuing CA of the suite"}
		change(&o)
		return ca.MustIntermediate(o)
	}
	good := target.good()
	mallory := ca.MustLeaf(nobody())

	// Whose certificate it is.
	add(0, "no certificate", "a token request with the client_id of the client and no certificate", nil)
	leaf(1, "another client of the CA", "the certificate of another client, issued by the same CA", mallory)
	named := ca.MustIntermediate(pkitest.CAOptions{RawSubject: good.Cert.RawSubject, Template: func(c *x509.Certificate) {
		c.DNSNames, c.EmailAddresses, c.IPAddresses, c.URIs = good.Cert.DNSNames, good.Cert.EmailAddresses, good.Cert.IPAddresses, good.Cert.URIs
	}})
	leaf(1, "intermediate with the victim's name", "a certificate without the client's names, issued by an intermediate that has them", named.MustLeaf(nobody()))
	add(1, "the victim's certificate behind another", "a certificate of the attacker, and behind it the client's own", &offer{
		append(mallory.Chain(), good.Chain()...), mallory.Key})
	add(1, "a CA with the victim's name", "the certificate of a CA that has the client's names, as a client certificate", &offer{
		slices.Concat([]*x509.Certificate{named.Cert}, intermediates(ca)), named.Key})

	// Who issued it.
	stranger := pkitest.MustCA(pkitest.CAOptions{Subject: "CN=A CA that nobody knows"})
	leaf(0, "unknown CA", "the client's names from a CA that is not trusted", stranger.MustLeaf(target.impostor()))
	below := stranger.MustIntermediate(pkitest.CAOptions{Subject: "CN=below"}).MustLeaf(target.impostor())
	add(0, "unknown root that is sent along", "the client's names from an unknown CA, whose root stands in the chain", &offer{
		append(below.Chain(), stranger.Cert), below.Key})
	leaf(0, "self-signed", "a self-signed certificate with the client's names", pkitest.MustSelfSigned(target.impostor()))
	twin := pkitest.MustCA(pkitest.CAOptions{RawSubject: ca.Cert.RawSubject, Template: func(c *x509.Certificate) { c.SubjectKeyId = ca.Cert.SubjectKeyId }})
	serial := func(o *pkitest.LeafOptions) { o.Serial = good.Cert.SerialNumber }
	leaf(13, "same serial number, issuer and key identifier", "a certificate that has serial number, issuer name and key identifiers of the client's, but is signed by another key",
		twin.MustLeaf(target.impostor(serial, func(o *pkitest.LeafOptions) {
			o.Template = func(c *x509.Certificate) { c.SubjectKeyId = good.Cert.SubjectKeyId }
		})))
	other := nobody()
	other.Key = good.Key
	leaf(13, "same key, another name", "a certificate with the client's key and another name", ca.MustLeaf(other))
	leaf(0, "issued by a client", "a certificate with the client's names, issued by another client of the CA", mallory.AsCA().MustLeaf(target.impostor()))
	leaf(0, "intermediate without cA", "the client's names from an intermediate that is no CA",
		intermediate(func(o *pkitest.CAOptions) { o.Template = func(c *x509.Certificate) { c.IsCA = false } }).MustLeaf(target.impostor()))
	leaf(0, "intermediate without keyCertSign", "the client's names from an intermediate that must not sign certificates",
		intermediate(func(o *pkitest.CAOptions) {
			o.Template = func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }
		}).MustLeaf(target.impostor()))
	leaf(0, "path length", "a chain that is longer than one of its CAs permits",
		intermediate(func(o *pkitest.CAOptions) { o.MaxPathLen = new(int) }).MustIntermediate(pkitest.CAOptions{Subject: "CN=too deep"}).MustLeaf(target.impostor()))
	leaf(0, "intermediate that has expired", "the client's names from an intermediate that has expired",
		intermediate(func(o *pkitest.CAOptions) {
			o.NotBefore, o.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
		}).MustLeaf(target.impostor()))
	leaf(0, "name constraint", "a certificate with a name that its intermediate must not issue",
		intermediate(func(o *pkitest.CAOptions) { o.PermittedDNS = []string{".elsewhere.invalid"} }).MustLeaf(
			target.impostor(func(o *pkitest.LeafOptions) { o.DNS = append(slices.Clone(o.DNS), "outside.example") })))

	// What it is like.
	leaf(0, "expired", "a certificate of the client that has expired", changed(func(o *pkitest.LeafOptions) {
		o.NotBefore, o.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
	}))
	leaf(0, "not yet valid", "a certificate of the client that begins tomorrow", changed(func(o *pkitest.LeafOptions) {
		o.NotBefore, o.NotAfter = time.Now().Add(24*time.Hour), time.Now().Add(48*time.Hour)
	}))
	leaf(15, "for servers only", "a certificate of the client with the extended key usage serverAuth alone", changed(func(o *pkitest.LeafOptions) {
		o.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}))
	leaf(0, "key usage without digitalSignature", "a certificate of the client whose key may only encipher keys", changed(func(o *pkitest.LeafOptions) {
		o.KeyUsage = x509.KeyUsageKeyEncipherment
	}))
	leaf(0, "critical extension", "a certificate of the client with a critical extension that nobody knows", changed(func(o *pkitest.LeafOptions) {
		o.Extra = append(slices.Clone(o.Extra), pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, Critical: true, Value: asn1.NullBytes})
	}))
	leaf(0, "RSA with 1024 bits", "a certificate of the client with a key that is too small", changed(func(o *pkitest.LeafOptions) { o.KeyType = pkitest.RSA1024 }))
	broken := changed(func(*pkitest.LeafOptions) {})
	add(0, "broken signature", "a certificate of the client with one bit of its signature changed", &offer{
		slices.Concat([]*x509.Certificate{pkitest.CorruptSignature(broken.Cert)}, broken.Chain()[1:]), broken.Key})
	weak := x509.SHA1WithRSA
	if _, ok := ca.Key.Public().(*ecdsa.PublicKey); ok {
		weak = x509.ECDSAWithSHA1
	}
	if _, ok := ca.Key.Public().(ed25519.PublicKey); !ok {
		leaf(0, "SHA-1", "a certificate of the client that is signed with SHA-1", changed(func(o *pkitest.LeafOptions) { o.SignatureAlgorithm = weak }))
	}
	return all
}

// intermediates returns ca and the CAs above it, without the root.
func intermediates(ca *pkitest.CA) (out []*x509.Certificate) {
	for ; ca != nil && ca.Parent != nil; ca = ca.Parent {
		out = append(out, ca.Cert)
	}
	return out
}

// selfSigned are attacks on a client that is known by its very certificate.
func (target Target) selfSigned() []attack {
	real := target.SelfSigned
	again := func(change func(*pkitest.LeafOptions)) *pkitest.Leaf {
		o := pkitest.LeafOptions{RawSubject: real.Cert.RawSubject, Serial: new(big.Int).Set(real.Cert.SerialNumber)}
		change(&o)
		return pkitest.MustSelfSigned(o)
	}
	as := func(number int, name, sent string, l *pkitest.Leaf) attack {
		return attack{number, name, sent, noToken, func(p *prober) error { return refused(p.token(of(l), request{id: target.SelfSignedID})) }}
	}
	return []attack{
		{0, "the self-signed client itself", "its registered certificate", "a token", func(p *prober) error {
			return served(p.token(of(real), request{id: target.SelfSignedID}))
		}},
		as(13, "self-signed, same names and another key", "a self-signed certificate with subject and serial number of the registered one, and another key", again(func(*pkitest.LeafOptions) {})),
		as(13, "self-signed, same key and another name", "a self-signed certificate with the key of the registered one, and another name", again(func(o *pkitest.LeafOptions) {
			o.RawSubject, o.Subject, o.Key = nil, "CN=mallory", real.Key
		})),
		as(13, "trusted CA for a self-signed client", "a certificate with the names of the registered one, from the CA of the other clients",
			target.CA.MustLeaf(pkitest.LeafOptions{RawSubject: real.Cert.RawSubject, Serial: new(big.Int).Set(real.Cert.SerialNumber)})),
	}
}

// luring shows certificates that nobody trusts, with addresses of revocation lists, OCSP
// responders and issuers that lead to a canary.
func (target Target) luring() attack {
	return attack{3, "addresses in an untrusted certificate",
		"certificates of unknown CAs that name a listener of the suite as CRL distribution point, OCSP responder and CA issuer",
		noToken + ", and nobody comes to the listener", func(p *prober) error {
			var visits atomic.Int64
			l, err := net.Listen("tcp", target.CanaryAddress)
			if err != nil {
				return fmt.Errorf("the canary cannot listen: %w", err)
			}
			canary := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }))
			canary.Listener.Close()
			canary.Listener = counting{l, &visits}
			canary.Start()
			defer canary.Close()
			base := "http://" + l.Addr().String()
			lure := func(c *x509.Certificate) {
				c.CRLDistributionPoints, c.OCSPServer, c.IssuingCertificateURL = []string{base + "/crl"}, []string{base + "/ocsp"}, []string{base + "/ca"}
			}
			ca := pkitest.MustCA(pkitest.CAOptions{Subject: "CN=A CA that nobody knows", Template: lure})
			o := target.impostor(func(o *pkitest.LeafOptions) { o.Template = lure })
			named := pkitest.MustCA(pkitest.CAOptions{RawSubject: target.CA.Cert.RawSubject, Template: lure})
			for _, leaf := range []*pkitest.Leaf{
				ca.MustLeaf(o), ca.MustIntermediate(pkitest.CAOptions{Subject: "CN=below", Template: lure}).MustLeaf(o), named.MustLeaf(o), pkitest.MustSelfSigned(o),
			} {
				if err := refused(p.token(of(leaf), request{})); err != nil {
					return err
				}
			}
			time.Sleep(target.CanaryWait)
			if n := visits.Load(); n > 0 {
				return fmt.Errorf("%d connections to the listener", n)
			}
			return nil
		}}
}

// A counting listener counts connections.
type counting struct {
	net.Listener
	n *atomic.Int64
}

func (l counting) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.n.Add(1)
	}
	return c, err
}

// sortedSet encodes a SET OF in DER.
func sortedSet(elements [][]byte) []byte {
	elements = slices.Clone(elements)
	slices.SortFunc(elements, bytes.Compare)
	return tlv(0x31, slices.Concat(elements...))
}

// tlv encodes a value with a tag of one octet.
func tlv(tag byte, content []byte) []byte {
	der, err := asn1.Marshal(asn1.RawValue{Class: int(tag >> 6), Tag: int(tag & 0x1f), IsCompound: tag&0x20 != 0, Bytes: content})
	if err != nil {
		panic(err)
	}
	return der
}
