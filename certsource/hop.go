package certsource

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/certbound/certbound"
)

// A Hop says which peers are the trusted proxy. The zero value is nobody, and no
// source starts with it. A peer is judged by its connection (see [ConnContext]), never
// by a header and never by r.RemoteAddr, which middleware rewrites.
//
// A TCP peer has to have an address of Prefixes, if there are any, and to be known by
// its own TLS client certificate, if Thumbprints, PublicKeys, Subject or SPIFFEIDs say
// so: one of them has to fit. Without TLS it must have a loopback address, unless
// InsecurePrivateNetwork is set: whoever can write on the way can be anyone (RFC 9440,
// Section 4).
type Hop struct {
	// Prefixes are the addresses of the proxy.
	Prefixes []netip.Prefix
	// Thumbprints pin the proxy's own TLS client certificate, by x5t#S256. That
	// certificate is never taken for the client's.
	Thumbprints []string
	// PublicKeys pin the key of that certificate, so that it can be renewed: the
	// SHA-256 of the SubjectPublicKeyInfo in unpadded base64url, 43 characters.
	PublicKeys []string
	// Subject knows the proxy by the subject of its certificate, which has passed
	// VerifyProxy. How names compare is for the caller to say (package pki/subject).
	Subject func(cert *x509.Certificate) bool
	// SPIFFEIDs know the proxy by the only URI in the subject alternative name of its
	// certificate, octet by octet: "spiffe://agora.example/edge".
	SPIFFEIDs []string
	// VerifyProxy says whether the proxy's certificate is genuine: whether it has a
	// path to the CA of the proxies, which should issue to nobody else. Required with
	// Subject and SPIFFEIDs, and without use otherwise. It is called for each
	// request, so it should remember its verdicts, as a pki.Validator does.
	VerifyProxy func(ctx context.Context, leaf *x509.Certificate, chain []*x509.Certificate) error
	// UnixSocket trusts every peer that connects over a unix socket; who can, is
	// for the permissions of the socket to say.
	UnixSocket bool
	// InsecurePrivateNetwork allows the hop over plain HTTP from an address that
	// is not a loopback address (RFC 9440, Section 4).
	InsecurePrivateNetwork bool
}

// named reports whether the proxy is known by what a CA says of it.
func (h Hop) named() bool { return h.Subject != nil || len(h.SPIFFEIDs) > 0 }

// identified reports whether the proxy is known by its certificate.
func (h Hop) identified() bool {
	return len(h.Thumbprints) > 0 || len(h.PublicKeys) > 0 || h.named()
}

// Validate reports every setting with which the hop must not be used.
func (h Hop) Validate() error {
	var errs []error
	fault := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("certsource: hop: "+format, args...))
	}
	if len(h.Prefixes) == 0 && !h.identified() && !h.UnixSocket {
		fault("no trusted peer: a certificate field must name the proxy that sets it, by address prefix, " +
			"by its own certificate or by unix socket, and that proxy must remove the field from what clients send")
	}
	for _, p := range h.Prefixes {
		switch {
		case !p.IsValid():
			fault("prefix %v: not valid", p)
		case p.Bits() == 0:
			fault("prefix %v: trusts every peer; name the addresses of the proxy", p)
		case p.Addr().Is4In6():
			fault("prefix %v: an IPv4-mapped prefix matches nothing; write it as IPv4", p)
		}
	}
	for _, t := range h.Thumbprints {
		if !isDigest(t) {
			fault("thumbprint %q: expected the x5t#S256 of the proxy's certificate, 43 characters of base64url", t)
		}
	}
	for _, k := range h.PublicKeys {
		if !isDigest(k) {
			fault("public key %q: expected the SHA-256 of the proxy's SubjectPublicKeyInfo, 43 characters of base64url", k)
		}
	}
	for _, id := range h.SPIFFEIDs {
		if why := spiffeFault(id); why != "" {
			fault("SPIFFE ID %q: %s", id, why)
		}
	}
	if h.named() && h.VerifyProxy == nil {
		fault("Subject and SPIFFEIDs need VerifyProxy: anybody can write a name into a certificate; name the CA that issues the proxy's")
	}
	if h.VerifyProxy != nil && !h.named() {
		fault("VerifyProxy without Subject or SPIFFEIDs: a certificate of the CA alone does not make a peer the proxy; name the one that it issues to the proxy")
	}
	if h.InsecurePrivateNetwork && len(h.Prefixes) == 0 {
		fault("InsecurePrivateNetwork without prefixes: a peer without TLS is known by its address only")
	}
	return errors.Join(errs...)
}

func isDigest(s string) bool {
	sum, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return err == nil && len(sum) == sha256.Size && len(s) == certbound.ThumbprintLen
}

// spiffeFault says what is wrong with a SPIFFE ID (SPIFFE-ID, Section 2), or returns "".
func spiffeFault(id string) string {
	rest, ok := strings.CutPrefix(id, "spiffe://")
	if !ok {
		return "does not begin with spiffe://"
	}
	domain, path, _ := strings.Cut(rest, "/")
	const name = "abcdefghijklmnopqrstuvwxyz0123456789-_."
	if domain == "" || strings.Trim(domain, name) != "" {
		return "its trust domain is not lower-case letters, digits, hyphens, underscores and dots"
	}
	if path == "" {
		return "no path: every workload of the trust domain would be the proxy"
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "" || segment == "." || segment == ".." || strings.Trim(segment, name+"ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
			return "its path has an empty segment or a character that is not allowed"
		}
	}
	return ""
}

// PublicKeyDigest returns what [Hop].PublicKeys pins: the SHA-256 of the
// SubjectPublicKeyInfo of cert in unpadded base64url.
func PublicKeyDigest(cert *x509.Certificate) string {
	return certbound.EncodeThumbprint(sha256.Sum256(cert.RawSubjectPublicKeyInfo))
}

// refuse says why the peer of r is not the proxy, or returns "".
func (h Hop) refuse(r *http.Request) (why string) {
	c := connOf(r.Context())
	switch {
	case c == nil:
		return "the connection is not known; set http.Server.ConnContext to certsource.ConnContext"
	case c.unix:
		if !h.UnixSocket {
			return "it connects over a unix socket, and those are not trusted"
		}
		return ""
	case !c.addr.IsValid():
		return "its network is not TCP and not a unix socket"
	case len(h.Prefixes) == 0 && !h.identified():
		return "only unix sockets are trusted"
	case len(h.Prefixes) > 0 && !slices.ContainsFunc(h.Prefixes, func(p netip.Prefix) bool { return p.Contains(c.addr) }):
		return "its address is in none of the trusted prefixes"
	case r.TLS == nil && !c.addr.IsLoopback() && !h.InsecurePrivateNetwork:
		return "it speaks plain HTTP from an address that is not loopback; use TLS, or set InsecurePrivateNetwork"
	}
	if h.identified() {
		return h.identify(r)
	}
	return ""
}

// Prove returns an *[UntrustedPeerError] if the peer of r is not the proxy. It is for
// those who believe the proxy in more than the certificate, such as in which request it
// asks about; what names that for the error. The certificate's fields need no call: each
// source has its Hop.
func (h Hop) Prove(r *http.Request, what string) error {
	if why := h.refuse(r); why != "" {
		return &UntrustedPeerError{Source: "hop", Field: what, Peer: Peer(r.Context()), Why: why}
	}
	return nil
}

// identify says why the certificate of the connection is not the proxy's.
func (h Hop) identify(r *http.Request) (why string) {
	p, err := TLS{}.Certificate(r)
	if err != nil {
		return "it has no TLS client certificate, and the proxy is known by its own"
	}
	switch leaf := p.Leaf(); {
	case slices.Contains(h.Thumbprints, p.Thumbprint()):
		return ""
	case len(h.PublicKeys) > 0 && slices.Contains(h.PublicKeys, PublicKeyDigest(leaf)):
		return ""
	case !h.named():
		return "its TLS client certificate is not one of the pinned ones"
	case !(h.Subject != nil && h.Subject(leaf)) && !(len(h.SPIFFEIDs) > 0 && slices.Contains(h.SPIFFEIDs, onlyURI(leaf))):
		return "its TLS client certificate has not the subject, or the SPIFFE ID, of the proxy"
	}
	if err := h.VerifyProxy(r.Context(), p.Leaf(), p.Chain()); err != nil {
		return "its TLS client certificate has the name of the proxy but is not genuine: " + err.Error()
	}
	return ""
}

var oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// onlyURI returns the URI of the subject alternative name, as it stands in the
// certificate, if there is exactly one (X509-SVID, Section 2). The parsed URL would
// print some different URIs alike.
func onlyURI(cert *x509.Certificate) string {
	if len(cert.URIs) != 1 {
		return ""
	}
	for _, e := range cert.Extensions {
		if !e.Id.Equal(oidSubjectAltName) {
			continue
		}
		var names []asn1.RawValue
		if rest, err := asn1.Unmarshal(e.Value, &names); err != nil || len(rest) > 0 {
			return ""
		}
		for _, n := range names {
			if n.Class == asn1.ClassContextSpecific && n.Tag == 6 {
				return string(n.Bytes)
			}
		}
	}
	return ""
}

// A Verification says that the proxy validates paths in our place. The zero value
// says that it does not, and is the safe one: a proxy that also serves self-signed or
// public clients forwards certificates of any issuer.
type Verification struct {
	// By names the proxy, for the records: "edge-1".
	By string
	// Anchors says which CAs it enforces. Required with By: whoever relies on the
	// proxy has to know what for.
	Anchors string
	// Field, if set, is a header field in which the proxy states the outcome for
	// each request, such as X-SSL-Client-Verify. Any other value than Success
	// means that this certificate was not verified.
	Field string
	// Success is the value that means verified: "SUCCESS" with nginx, "0" with
	// HAProxy. Required with Field.
	Success string
}

func (v Verification) validate() error {
	var errs []error
	if (v.By == "") != (v.Anchors == "") {
		errs = append(errs, errors.New("certsource: verification: By and Anchors belong together: name the proxy that verifies, and the CAs that it enforces"))
	}
	if (v.Field == "") != (v.Success == "") {
		errs = append(errs, errors.New("certsource: verification: Field and Success belong together"))
	}
	if v.Field != "" && v.By == "" {
		errs = append(errs, errors.New("certsource: verification: Field without By and Anchors"))
	}
	return errors.Join(errs...)
}

func (v Verification) text() string {
	if v.By == "" {
		return ""
	}
	return v.By + " (anchors: " + v.Anchors + ")"
}

// verified reports whether the proxy has verified the certificate of r.
func (v Verification) verified(r *http.Request) bool {
	if v.By == "" {
		return false
	}
	if v.Field == "" {
		return true
	}
	values := r.Header[http.CanonicalHeaderKey(v.Field)]
	return len(values) == 1 && values[0] == v.Success
}
