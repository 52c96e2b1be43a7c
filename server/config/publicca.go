package config

import (
	"crypto/sha256"
	"crypto/x509"
	"sync"

	"golang.org/x/crypto/x509roots/fallback/bundle"

	"github.com/certbound/certbound/pki/subject"
)

// publicRoots are the root CAs that browsers trust, as Mozilla lists them. Nobody trusts
// them here: an anchor is compared with them.
type publicRoots struct {
	byKey     map[[sha256.Size]byte]*x509.Certificate // by the SHA-256 of the key, since roots are cross-signed
	bySubject map[string][]*x509.Certificate
}

var roots = sync.OnceValue(func() *publicRoots {
	r := &publicRoots{make(map[[sha256.Size]byte]*x509.Certificate), make(map[string][]*x509.Certificate)}
	for root := range bundle.Roots() {
		cert, err := x509.ParseCertificate(root.Certificate)
		if err != nil {
			continue // one that this version of Go does not read cannot be an anchor either
		}
		r.byKey[sha256.Sum256(cert.RawSubjectPublicKeyInfo)] = cert
		r.bySubject[string(cert.RawSubject)] = append(r.bySubject[string(cert.RawSubject)], cert)
	}
	return r
})

// public returns the root of the public web that cert is, or that has issued it.
func (r *publicRoots) public(cert *x509.Certificate) (root *x509.Certificate, issued bool) {
	if !cert.IsCA {
		return nil, false // it issues to nobody
	}
	if root := r.byKey[sha256.Sum256(cert.RawSubjectPublicKeyInfo)]; root != nil {
		return root, false
	}
	for _, root := range r.bySubject[string(cert.RawIssuer)] {
		if cert.CheckSignatureFrom(root) == nil {
			return root, true
		}
	}
	return nil, false
}

// refusePublic is [pki.FileSet.RefuseAnchor]: a CA of the public web issues to everybody
// who has a web site, with the names of that site, and so does not say who a client is
// (RFC 8705, Section 7.4).
func refusePublic(cert *x509.Certificate) (fault, fix string) {
	root, issued := roots().public(cert)
	if root == nil {
		return "", ""
	}
	fault = "is a CA of the public web, which issues to everybody who has a web site"
	if issued {
		fault = "is issued by a CA of the public web, " + subject.Of(root) + ", and issues to everybody who has a web site"
	}
	return fault, "name the CA that issues to your clients only; if these clients really have certificates of the public web, set public_web_ca: allowed"
}
