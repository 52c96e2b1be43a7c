package pki

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/certbound/certbound/decision"
)

// A Policy says what the certificates of an anchor set must be like. The zero value
// is the default policy: no key weaker than 112 bits, no SHA-1, a leaf that is not a
// CA, that may sign (RFC 5280, Section 4.2.1.3) and that may be a client (Section
// 4.2.1.12). Each field changes one check and leaves all others alone.
type Policy struct {
	// MaxChain bounds the presented certificates, leaf included. If zero, 10; at
	// most 20. It is looked at before any signature.
	MaxChain int
	// MinRSABits is the smallest RSA key. If zero, 2048; less is refused.
	MinRSABits int
	// MaxRSABits is the largest RSA key, because large ones are slow to verify. If
	// zero, 8192, the limit of crypto/tls; more is refused.
	MaxRSABits int
	// Keys are the kinds of keys that may stand in a path, anchor included. If
	// nil, all that have a name here.
	Keys []KeyKind
	// SignatureAlgorithms are those that may stand in a path. If nil, all of
	// crypto/x509 with SHA-256 or better. MD5, SHA-1 and DSA cannot be allowed.
	SignatureAlgorithms []x509.SignatureAlgorithm
	// CertificatePolicies are those of which the path has to be valid for at least one:
	// the leaf, and every CA above it but the anchor, asserts it, itself, by mapping or
	// by anyPolicy (RFC 5280, Section 6.1; the user-initial-policy-set, with
	// initial-explicit-policy). If empty, none is required. A pinned leaf is the whole
	// path, and an anchor is not asked.
	CertificatePolicies []x509.OID
	// MaxPath bounds the certificates of a path, leaf and anchor included: with 2, the
	// anchors issue for clients directly. If zero, there is no such bound; at most 20.
	MaxPath int
	// MaxLifetime bounds the time from notBefore to notAfter of the leaf. If zero, there
	// is no bound.
	MaxLifetime time.Duration
	// Permitted are limits on the names of leafs, beside those of the CAs.
	Permitted Names
	// PinnedIssuers are CAs of which at least one has to stand in the path above the
	// leaf. If empty, any will do.
	PinnedIssuers []Pin
	// RequireExtKeyUsage refuses a leaf that does not list clientAuth itself. By
	// default anyExtendedKeyUsage, or no such extension, will do.
	RequireExtKeyUsage bool
	// RequireKeyUsage refuses a leaf without a key usage extension.
	RequireKeyUsage bool
	// AllowCALeaf accepts a leaf that is a CA certificate.
	AllowCALeaf bool
	// AllowPinnedLeaf accepts end-entity certificates among the anchors. Each
	// vouches for itself and for no other. This is not the self-signed method of
	// RFC 8705, Section 2.2: dates, keys and usages are checked.
	AllowPinnedLeaf bool
}

// A KeyKind is a kind of public key.
type KeyKind string

// The kinds of keys.
const (
	RSA     KeyKind = "RSA"
	P256    KeyKind = "P-256"
	P384    KeyKind = "P-384"
	P521    KeyKind = "P-521"
	Ed25519 KeyKind = "Ed25519"
)

var keyKinds = []KeyKind{RSA, P256, P384, P521, Ed25519}

var signatureAlgorithms = []x509.SignatureAlgorithm{
	x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA,
	x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS,
	x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512,
	x509.PureEd25519,
}

// rules are a Policy without blanks.
type rules struct {
	Policy
	permitted *permitted // nil if there are no limits
}

type wrongSetting struct{ expected, found string }

func (p Policy) rules() (rules, []wrongSetting) {
	var wrong []wrongSetting
	between := func(name string, value, low, high int) {
		if value < low || value > high {
			wrong = append(wrong, wrongSetting{fmt.Sprintf("%s from %d to %d", name, low, high), fmt.Sprint(value)})
		}
	}
	p.MaxChain = cmp.Or(p.MaxChain, 10)
	between("MaxChain", p.MaxChain, 1, 20)
	p.MinRSABits = cmp.Or(p.MinRSABits, 2048)
	p.MaxRSABits = cmp.Or(p.MaxRSABits, 8192)
	between("MinRSABits", p.MinRSABits, 2048, p.MaxRSABits)
	between("MaxRSABits", p.MaxRSABits, p.MinRSABits, 8192)
	if p.Keys == nil {
		p.Keys = keyKinds
	}
	if p.SignatureAlgorithms == nil {
		p.SignatureAlgorithms = signatureAlgorithms
	}
	p.Keys, p.SignatureAlgorithms = slices.Clone(p.Keys), slices.Clone(p.SignatureAlgorithms)
	if len(p.Keys) == 0 || len(p.SignatureAlgorithms) == 0 {
		wrong = append(wrong, wrongSetting{"Keys and SignatureAlgorithms that allow something, or nil", "an empty list"})
	}
	for _, k := range p.Keys {
		if !slices.Contains(keyKinds, k) {
			wrong = append(wrong, wrongSetting{fmt.Sprintf("Keys out of %v", keyKinds), fmt.Sprintf("%q", string(k))})
		}
	}
	for _, a := range p.SignatureAlgorithms {
		if !slices.Contains(signatureAlgorithms, a) {
			wrong = append(wrong, wrongSetting{fmt.Sprintf("SignatureAlgorithms out of %v", signatureAlgorithms), a.String()})
		}
	}
	between("MaxPath", p.MaxPath, 0, 20)
	if p.MaxLifetime < 0 {
		wrong = append(wrong, wrongSetting{"MaxLifetime of zero or more", p.MaxLifetime.String()})
	}
	p.CertificatePolicies, p.PinnedIssuers = slices.Clone(p.CertificatePolicies), slices.Clone(p.PinnedIssuers)
	for _, oid := range p.CertificatePolicies {
		if oid.Equal(x509.OID{}) {
			wrong = append(wrong, wrongSetting{"CertificatePolicies that are object identifiers", "a zero OID"})
		}
	}
	if slices.Contains(p.PinnedIssuers, Pin{}) {
		wrong = append(wrong, wrongSetting{"PinnedIssuers that are digests", "a zero one"})
	}
	names, faults := p.Permitted.compile()
	return rules{p, names}, append(wrong, faults...)
}

// Check reports every setting of p that cannot be used, each as an *[Error] with reason
// BadSetting. [NewValidator] and [Validator.Replace] report the same.
func (p Policy) Check() error {
	_, wrong := p.rules()
	var faults []error
	for _, w := range wrong {
		faults = append(faults, &Error{Reason: decision.BadSetting, Expected: w.expected, Found: w.found})
	}
	return errors.Join(faults...)
}

// ParseSignatureAlgorithm reads the name of an algorithm that can be allowed, as
// [x509.SignatureAlgorithm.String] writes it: ECDSA-SHA256, SHA256-RSA, SHA256-RSAPSS,
// Ed25519 and so on.
func ParseSignatureAlgorithm(name string) (x509.SignatureAlgorithm, error) {
	for _, a := range signatureAlgorithms {
		if a.String() == name {
			return a, nil
		}
	}
	return 0, &Error{Reason: decision.BadSetting, Expected: fmt.Sprintf("an algorithm out of %v", signatureAlgorithms), Found: fmt.Sprintf("%q", cut(name))}
}

// keyOf returns the kind of cert's key and its size in bits.
func keyOf(cert *x509.Certificate) (KeyKind, int) {
	switch k := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		return RSA, k.N.BitLen()
	case *ecdsa.PublicKey:
		return KeyKind(k.Params().Name), k.Params().BitSize
	case ed25519.PublicKey:
		return Ed25519, 256
	}
	return KeyKind(cert.PublicKeyAlgorithm.String()), 0
}

// key judges the key of cert.
func (r rules) key(cert *x509.Certificate) *Error {
	kind, bits := keyOf(cert)
	switch {
	case !slices.Contains(r.Keys, kind):
		return &Error{Reason: decision.WeakKey, Cert: cert,
			Expected: fmt.Sprintf("a key of a kind out of %v", r.Keys), Found: string(kind)}
	case kind == RSA && (bits < r.MinRSABits || bits > r.MaxRSABits):
		return &Error{Reason: decision.WeakKey, Cert: cert,
			Expected: fmt.Sprintf("RSA with %d to %d bits", r.MinRSABits, r.MaxRSABits), Found: fmt.Sprintf("RSA with %d bits", bits)}
	}
	return nil
}

// admit says whether the presented certificates are few and small enough to be
// looked at. It makes no signature check.
func (t *trust) admit(chain Chain) *Error {
	if chain.Leaf == nil {
		return &Error{Reason: decision.NoCertificate, Set: t.name, Expected: "a client certificate", Found: "none"}
	}
	if n := 1 + len(chain.Rest); n > t.policy.MaxChain {
		return &Error{Reason: decision.ChainTooLong, Set: t.name, Cert: chain.Leaf,
			Expected: fmt.Sprintf("at most %d certificates (MaxChain)", t.policy.MaxChain), Found: fmt.Sprint(n)}
	}
	for i := range 1 + len(chain.Rest) {
		cert := chain.Leaf
		if i > 0 {
			cert = chain.Rest[i-1]
		}
		if cert == nil || len(cert.Raw) == 0 {
			return &Error{Reason: decision.CertificateUnparsed, Set: t.name,
				Expected: "parsed certificates", Found: fmt.Sprintf("number %d is not", i+1)}
		}
		if k, ok := cert.PublicKey.(*rsa.PublicKey); ok && k.N.BitLen() > t.policy.MaxRSABits {
			return &Error{Reason: decision.WeakKey, Set: t.name, Cert: cert,
				Expected: fmt.Sprintf("RSA with at most %d bits (MaxRSABits)", t.policy.MaxRSABits),
				Found:    fmt.Sprintf("RSA with %d bits", k.N.BitLen())}
		}
	}
	return nil
}

// path judges a path that crypto/x509 has found valid by what it does not look at.
func (r rules) path(path []*x509.Certificate) *Error {
	leaf := path[0]
	switch {
	case isCA(leaf) && !r.AllowCALeaf:
		return &Error{Reason: decision.LeafIsCA, Cert: leaf,
			Expected: "an end-entity certificate", Found: "basic constraints with cA"}
	case hasExtension(leaf, oidKeyUsage) && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		// The handshake is signed with this key (RFC 8446, Section 4.4.3).
		return &Error{Reason: decision.KeyUsage, Cert: leaf,
			Expected: "key usage with digitalSignature", Found: "key usage " + keyUsageText(leaf.KeyUsage)}
	case r.RequireKeyUsage && !hasExtension(leaf, oidKeyUsage):
		return &Error{Reason: decision.KeyUsage, Cert: leaf,
			Expected: "key usage with digitalSignature (RequireKeyUsage)", Found: "no key usage"}
	case r.RequireExtKeyUsage && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth):
		return &Error{Reason: decision.ExtKeyUsage, Cert: leaf,
			Expected: "extended key usage clientAuth (RequireExtKeyUsage)", Found: extKeyUsageText(leaf)}
	}
	if life := leaf.NotAfter.Sub(leaf.NotBefore); r.MaxLifetime > 0 && life > r.MaxLifetime {
		return &Error{Reason: decision.LifetimeTooLong, Cert: leaf,
			Expected: "a certificate that is made for at most " + days(r.MaxLifetime) + " (MaxLifetime)", Found: days(life)}
	}
	if e := r.permitted.check(leaf); e != nil {
		return e
	}
	for i, cert := range path {
		if e := r.key(cert); e != nil {
			return e
		}
		// The anchor is trusted as it is; what it says of itself is not looked at.
		if i < len(path)-1 && !slices.Contains(r.SignatureAlgorithms, cert.SignatureAlgorithm) {
			return weakSignature(cert, r)
		}
		if i == 0 {
			continue
		}
		// crypto/x509 lets an anchor without basic constraints issue. A pinned
		// leaf must not.
		if !isCA(cert) {
			return notCA(cert)
		}
		if unknownConstraint(cert) {
			return &Error{Reason: decision.NameConstraint, Cert: cert,
				Expected: "name constraints on DNS names, addresses, mailboxes or URIs",
				Found:    "name constraints of another kind, which cannot be checked and are not marked critical"}
		}
		if e := hostConstraints(cert, path[:i]); e != nil {
			return e
		}
	}
	// What is wrong with this path as a whole may be right with another.
	top := path[len(path)-1]
	if r.MaxPath > 0 && len(path) > r.MaxPath {
		return &Error{Reason: decision.NameConstraint, Cert: top,
			Expected: fmt.Sprintf("a path of at most %d certificates, leaf and anchor included (MaxPath)", r.MaxPath), Found: fmt.Sprint(len(path))}
	}
	if len(r.PinnedIssuers) > 0 && !slices.ContainsFunc(path[1:], r.pinned) {
		return &Error{Reason: decision.IssuerNotPinned, Cert: top,
			Expected: fmt.Sprintf("a path through one of %d pinned issuers", len(r.PinnedIssuers)), Found: "a path through " + issuersText(path[1:])}
	}
	return nil
}

func (r rules) pinned(cert *x509.Certificate) bool {
	return slices.Contains(r.PinnedIssuers, PinKey(cert)) || slices.Contains(r.PinnedIssuers, PinCertificate(cert))
}

func issuersText(path []*x509.Certificate) string {
	if len(path) == 0 {
		return "no issuer"
	}
	names := make([]string, len(path))
	for i, cert := range path {
		names[i] = nameOf(cert) + " (key " + PinKey(cert).String() + ")"
	}
	return strings.Join(names, "; ")
}

func days(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= day && d%day == 0 {
		return fmt.Sprintf("%d days", d/day)
	}
	if d >= day {
		return fmt.Sprintf("%d days and %s", d/day, d%day)
	}
	return d.String()
}

// A Pin is the SHA-256 of a CA's certificate, or of its key (the SubjectPublicKeyInfo),
// which stays the same when the certificate is renewed.
type Pin [sha256.Size]byte

// PinCertificate returns the pin of a certificate.
func PinCertificate(cert *x509.Certificate) Pin { return sha256.Sum256(cert.Raw) }

// PinKey returns the pin of the key of a certificate.
func PinKey(cert *x509.Certificate) Pin { return sha256.Sum256(cert.RawSubjectPublicKeyInfo) }

// ParsePin reads a pin as unpadded base64url, as x5t#S256 is written, or as 64
// hexadecimal digits, with or without colons.
func ParsePin(text string) (Pin, error) {
	digits := strings.ReplaceAll(text, ":", "")
	if b, err := hex.DecodeString(digits); err == nil && len(b) == sha256.Size {
		return Pin(b), nil
	}
	if b, err := base64.RawURLEncoding.Strict().DecodeString(text); err == nil && len(b) == sha256.Size {
		return Pin(b), nil
	}
	return Pin{}, &Error{Reason: decision.BadSetting,
		Expected: "a SHA-256 in unpadded base64url (43 characters) or hexadecimal (64 digits)", Found: fmt.Sprintf("%q", cut(text))}
}

// String returns the pin in unpadded base64url.
func (p Pin) String() string { return base64.RawURLEncoding.EncodeToString(p[:]) }

func weakSignature(cert *x509.Certificate, r rules) *Error {
	return &Error{Reason: decision.WeakSignature, Cert: cert,
		Expected: fmt.Sprintf("a signature with one of %v", r.SignatureAlgorithms),
		Found:    cert.SignatureAlgorithm.String()}
}

func notCA(cert *x509.Certificate) *Error {
	return &Error{Reason: decision.NotCA, Cert: cert,
		Expected: "an issuer with basic constraints cA and, if it has a key usage, keyCertSign",
		Found:    "a certificate that may not issue"}
}

var (
	oidKeyUsage        = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidNameConstraints = asn1.ObjectIdentifier{2, 5, 29, 30}
)

func hasExtension(cert *x509.Certificate, oid asn1.ObjectIdentifier) bool {
	for _, e := range cert.Extensions {
		if e.Id.Equal(oid) {
			return true
		}
	}
	return false
}

// unknownConstraint reports name constraints that crypto/x509 passes over: those of a
// kind it does not know, such as directoryName, in an extension that is not marked
// critical. RFC 5280, Section 4.2.1.10 has it always critical, and then x509 refuses.
func unknownConstraint(cert *x509.Certificate) bool {
	for _, e := range cert.Extensions {
		if e.Critical || !e.Id.Equal(oidNameConstraints) {
			continue
		}
		var constraints struct {
			Permitted []generalSubtree `asn1:"optional,tag:0"`
			Excluded  []generalSubtree `asn1:"optional,tag:1"`
		}
		if rest, err := asn1.Unmarshal(e.Value, &constraints); err != nil || len(rest) > 0 {
			return true
		}
		for _, s := range slices.Concat(constraints.Permitted, constraints.Excluded) {
			switch s.Base.Tag {
			case 1, 2, 6, 7: // rfc822Name, dNSName, URI, iPAddress
			default:
				return true
			}
		}
	}
	return false
}

// generalSubtree is GeneralSubtree of RFC 5280, Section 4.2.1.10.
type generalSubtree struct {
	Base    asn1.RawValue
	Minimum int `asn1:"optional,tag:0"`
	Maximum int `asn1:"optional,tag:1"`
}

func keyUsageText(u x509.KeyUsage) string {
	names := []string{"digitalSignature", "contentCommitment", "keyEncipherment", "dataEncipherment",
		"keyAgreement", "keyCertSign", "cRLSign", "encipherOnly", "decipherOnly"}
	var set []string
	for i, name := range names {
		if u&(1<<i) != 0 {
			set = append(set, name)
		}
	}
	return cmp.Or(strings.Join(set, ", "), "of nothing")
}

func extKeyUsageText(cert *x509.Certificate) string {
	names := map[x509.ExtKeyUsage]string{
		x509.ExtKeyUsageAny: "any", x509.ExtKeyUsageServerAuth: "serverAuth", x509.ExtKeyUsageClientAuth: "clientAuth",
		x509.ExtKeyUsageCodeSigning: "codeSigning", x509.ExtKeyUsageEmailProtection: "emailProtection",
		x509.ExtKeyUsageTimeStamping: "timeStamping", x509.ExtKeyUsageOCSPSigning: "OCSPSigning",
	}
	var set []string
	for _, u := range cert.ExtKeyUsage {
		set = append(set, cmp.Or(names[u], fmt.Sprintf("number %d", u)))
	}
	for _, oid := range cert.UnknownExtKeyUsage {
		set = append(set, oid.String())
	}
	if len(set) == 0 {
		return "no extended key usage"
	}
	return "extended key usage " + strings.Join(set, ", ")
}
