// Package pkitest makes certificates for tests and for trying things out: a CA with
// intermediates, leaves for clients and servers, self-signed certificates, CRLs, and
// the broken ones that have to be refused. It is to X.509 what
// [net/http/httptest] is to HTTP, and imports nothing else of this module.
//
//	ca := pkitest.MustCA(pkitest.CAOptions{Subject: "CN=Root,O=Agora"})
//	issuing := ca.MustIntermediate(pkitest.CAOptions{Subject: "CN=Issuing,O=Agora"})
//	leaf := issuing.MustLeaf(pkitest.LeafOptions{Subject: "CN=client-1,O=Agora"})
//	config := &tls.Config{Certificates: []tls.Certificate{leaf.TLS()}}
//
// Nothing here is fit for production: keys lie in memory and nobody keeps records.
package pkitest

import (
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"sync/atomic"
	"time"
)

// CAOptions describe a CA. The zero value is a P-256 CA named CN=Test CA that is
// valid from an hour ago for ten years.
type CAOptions struct {
	// Subject is a name as [Name] reads it. If empty, "CN=Test CA".
	Subject string
	// RawSubject is an encoded Name, in place of Subject.
	RawSubject []byte
	// Key is the key of the CA. If nil, one of KeyType is made.
	Key crypto.Signer
	// KeyType is used if Key is nil. RSA keys come in turn from three per size
	// and process, since making one is slow; set Key to [NewKey] for another.
	KeyType KeyType
	// NotBefore and NotAfter limit the certificate. If zero, an hour ago and ten
	// years from now.
	NotBefore, NotAfter time.Time
	// MaxPathLen is the path length constraint. If nil, there is none.
	MaxPathLen *int
	// PermittedDNS are critical name constraints.
	PermittedDNS []string
	// SignatureAlgorithm is that of the certificate itself. If zero, the one that
	// fits the issuer's key. x509.SHA1WithRSA, x509.ECDSAWithSHA1 and
	// x509.MD5WithRSA are possible, to be refused.
	SignatureAlgorithm x509.SignatureAlgorithm
	// Template, if set, changes the template before it is signed.
	Template func(*x509.Certificate)
}

// LeafOptions describe an end-entity certificate. The zero value is a client
// certificate with a P-256 key, the subject CN=leaf, digitalSignature and
// clientAuth, valid from an hour ago for 90 days.
type LeafOptions struct {
	// Subject is a name as [Name] reads it. If empty, "CN=leaf"; an empty name is
	// RawSubject {0x30, 0x00}.
	Subject string
	// RawSubject is an encoded Name, in place of Subject.
	RawSubject []byte
	// DNS, URI, Email and IP are the subject alternative names.
	DNS, URI, Email []string
	IP              []net.IP
	// Key is the key of the leaf. If nil, one of KeyType is made, as for [CAOptions].
	Key     crypto.Signer
	KeyType KeyType
	// NotBefore and NotAfter limit the certificate. If zero, an hour ago and 90
	// days from now.
	NotBefore, NotAfter time.Time
	// ExtKeyUsage lists the extended key usages. If nil, clientAuth, or serverAuth
	// for a server.
	ExtKeyUsage []x509.ExtKeyUsage
	// NoExtKeyUsage leaves the extension out.
	NoExtKeyUsage bool
	// KeyUsage is the key usage. If zero, digitalSignature; to leave it out, set
	// it to zero in Template.
	KeyUsage x509.KeyUsage
	// Serial is the serial number. If nil, 128 random bits.
	Serial *big.Int
	// Extra are further extensions, or replacements of those made here.
	Extra []pkix.Extension
	// Server makes a server certificate. If it has neither DNS nor IP, it is for
	// localhost, 127.0.0.1 and ::1.
	Server bool
	// SignatureAlgorithm is as in [CAOptions].
	SignatureAlgorithm x509.SignatureAlgorithm
	// Template, if set, changes the template before it is signed.
	Template func(*x509.Certificate)
}

// A CA issues certificates. It is safe for concurrent use and must not be copied.
type CA struct {
	Cert *x509.Certificate
	Key  crypto.Signer
	// Parent is the issuer, nil for a root.
	Parent *CA

	crlNumber atomic.Int64
}

// A Leaf is an end-entity certificate with its key.
type Leaf struct {
	Cert *x509.Certificate
	Key  crypto.Signer
	// Issuer is nil if the certificate is self-signed.
	Issuer *CA
}

// NewCA makes a root.
func NewCA(o CAOptions) (*CA, error) { return newCA(nil, o) }

// MustCA is [NewCA] for tests; it panics instead of returning an error.
func MustCA(o CAOptions) *CA { return must(NewCA(o)) }

// Intermediate makes a CA below ca. With the subject and the key of another CA it
// makes a cross-certificate.
func (ca *CA) Intermediate(o CAOptions) (*CA, error) { return newCA(ca, o) }

// MustIntermediate is [CA.Intermediate] for tests; it panics instead of returning an error.
func (ca *CA) MustIntermediate(o CAOptions) *CA { return must(ca.Intermediate(o)) }

func newCA(parent *CA, o CAOptions) (*CA, error) {
	template := &x509.Certificate{
		NotBefore:             o.NotBefore,
		NotAfter:              o.NotAfter,
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLen:            -1,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
	}
	if o.MaxPathLen != nil {
		template.MaxPathLen, template.MaxPathLenZero = *o.MaxPathLen, *o.MaxPathLen == 0
	}
	if len(o.PermittedDNS) > 0 {
		template.PermittedDNSDomains, template.PermittedDNSDomainsCritical = o.PermittedDNS, true
	}
	const years = 10 * 365 * 24 * time.Hour
	cert, key, err := issue(parent, template, request{
		subject: o.Subject, fallback: "CN=Test CA", raw: o.RawSubject,
		key: o.Key, kind: o.KeyType, life: years, algorithm: o.SignatureAlgorithm, change: o.Template,
	})
	if err != nil {
		return nil, err
	}
	return &CA{Cert: cert, Key: key, Parent: parent}, nil
}

// Leaf issues an end-entity certificate.
func (ca *CA) Leaf(o LeafOptions) (*Leaf, error) { return newLeaf(ca, o) }

// MustLeaf is [CA.Leaf] for tests; it panics instead of returning an error.
func (ca *CA) MustLeaf(o LeafOptions) *Leaf { return must(ca.Leaf(o)) }

// SelfSigned makes an end-entity certificate that is signed with its own key.
func SelfSigned(o LeafOptions) (*Leaf, error) { return newLeaf(nil, o) }

// MustSelfSigned is [SelfSigned] for tests; it panics instead of returning an error.
func MustSelfSigned(o LeafOptions) *Leaf { return must(SelfSigned(o)) }

func newLeaf(ca *CA, o LeafOptions) (*Leaf, error) {
	template := &x509.Certificate{
		SerialNumber:          o.Serial,
		NotBefore:             o.NotBefore,
		NotAfter:              o.NotAfter,
		BasicConstraintsValid: true,
		KeyUsage:              o.KeyUsage,
		ExtKeyUsage:           o.ExtKeyUsage,
		DNSNames:              o.DNS,
		EmailAddresses:        o.Email,
		IPAddresses:           o.IP,
		ExtraExtensions:       o.Extra,
	}
	for _, text := range o.URI {
		u, err := url.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("pkitest: leaf: URI: %w", err)
		}
		template.URIs = append(template.URIs, u)
	}
	if template.KeyUsage == 0 {
		template.KeyUsage = x509.KeyUsageDigitalSignature
	}
	if template.ExtKeyUsage == nil && !o.NoExtKeyUsage {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		if o.Server {
			template.ExtKeyUsage[0] = x509.ExtKeyUsageServerAuth
		}
	}
	if o.Server && len(o.DNS)+len(o.IP) == 0 {
		template.DNSNames = []string{"localhost"}
		template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	}
	const days = 90 * 24 * time.Hour
	cert, key, err := issue(ca, template, request{
		subject: o.Subject, fallback: "CN=leaf", raw: o.RawSubject,
		key: o.Key, kind: o.KeyType, life: days, algorithm: o.SignatureAlgorithm, change: o.Template,
	})
	if err != nil {
		return nil, err
	}
	return &Leaf{Cert: cert, Key: key, Issuer: ca}, nil
}

// A request is what CAs and leaves have in common.
type request struct {
	subject, fallback string
	raw               []byte
	key               crypto.Signer
	kind              KeyType
	life              time.Duration
	algorithm         x509.SignatureAlgorithm
	change            func(*x509.Certificate)
}

func issue(parent *CA, template *x509.Certificate, r request) (*x509.Certificate, crypto.Signer, error) {
	var err error
	if template.RawSubject = r.raw; r.raw == nil {
		text := r.subject
		if text == "" {
			text = r.fallback
		}
		if template.RawSubject, err = Name(text); err != nil {
			return nil, nil, err
		}
	}
	now := time.Now()
	if template.NotBefore.IsZero() {
		template.NotBefore = now.Add(-time.Hour)
	}
	if template.NotAfter.IsZero() {
		template.NotAfter = now.Add(r.life)
	}
	if template.SerialNumber == nil {
		if template.SerialNumber, err = serial(); err != nil {
			return nil, nil, err
		}
	}
	key := r.key
	if key == nil {
		if key, err = pool.take(r.kind); err != nil {
			return nil, nil, err
		}
	}
	by := handmade(r.algorithm)
	if by == nil {
		template.SignatureAlgorithm = r.algorithm
	}
	if r.change != nil {
		r.change(template)
	}
	issuer, issuerKey := template, key
	if parent != nil {
		issuer, issuerKey = parent.Cert, parent.Key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), issuerKey)
	if err != nil {
		return nil, nil, fmt.Errorf("pkitest: %w", err)
	}
	if by != nil {
		if der, err = by.sign(der, issuerKey); err != nil {
			return nil, nil, err
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, fmt.Errorf("pkitest: %w", err)
	}
	return cert, key, nil
}

func serial() (*big.Int, error) {
	octets := make([]byte, 16)
	if _, err := rand.Read(octets); err != nil {
		return nil, err
	}
	octets[0] = octets[0]&0x7f | 0x40 // positive and always of one length
	return new(big.Int).SetBytes(octets), nil
}

// Pool returns a pool with the certificate of ca alone.
func (ca *CA) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(ca.Cert)
	return p
}

// CertPEM returns the certificate of ca.
func (ca *CA) CertPEM() []byte { return PEM(ca.Cert) }

// KeyPEM returns the private key of ca in PKCS #8.
func (ca *CA) KeyPEM() []byte { return keyPEM(ca.Key) }

// Root returns the CA at the top.
func (ca *CA) Root() *CA {
	for ca.Parent != nil {
		ca = ca.Parent
	}
	return ca
}

// Chain returns the leaf and the intermediates, each certified by the next, without
// the root: what a client sends.
func (l *Leaf) Chain() []*x509.Certificate {
	chain := []*x509.Certificate{l.Cert}
	for ca := l.Issuer; ca != nil && ca.Parent != nil; ca = ca.Parent {
		chain = append(chain, ca.Cert)
	}
	return chain
}

// TLS returns what [tls.Config] needs: the chain and the key.
func (l *Leaf) TLS() tls.Certificate {
	c := tls.Certificate{PrivateKey: l.Key, Leaf: l.Cert}
	for _, cert := range l.Chain() {
		c.Certificate = append(c.Certificate, cert.Raw)
	}
	return c
}

// CertPEM returns the leaf alone.
func (l *Leaf) CertPEM() []byte { return PEM(l.Cert) }

// ChainPEM returns the leaf and the intermediates.
func (l *Leaf) ChainPEM() []byte { return PEM(l.Chain()...) }

// KeyPEM returns the private key in PKCS #8.
func (l *Leaf) KeyPEM() []byte { return keyPEM(l.Key) }

// AsCA returns a CA that signs with the leaf's key, which no honest holder does: what
// it issues has to be refused.
func (l *Leaf) AsCA() *CA { return &CA{Cert: l.Cert, Key: l.Key, Parent: l.Issuer} }

// PEM encodes certificates, one block each.
func PEM(certs ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

func keyPEM(key crypto.Signer) []byte {
	der := must(x509.MarshalPKCS8PrivateKey(key))
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}
