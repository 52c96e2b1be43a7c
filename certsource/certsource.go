// Package certsource finds the client certificate that a request came with: on the
// TLS connection itself, or in a header field of a proxy that ended TLS. Everything
// that parses an untrusted header is in this package.
//
// A [Source] is chosen by name and alone; there is no fallback from one to another
// (RFC 9440, Section 4). For each product that forwards certificates there is a preset
// ([NewPreset]), with a file of its own here and a page in docs/proxies. What a source returns is a [Presented]. Its kind says how
// much the hop told us, and whoever needs more than there is must refuse.
package certsource

import (
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/decision"
)

// ErrNoCertificate reports a request that came without a client certificate.
var ErrNoCertificate = errors.New("certsource: no client certificate")

// A ParseError reports a field of a trusted proxy that cannot be used: it does not
// parse, stands twice, or says something else than the field beside it. It calls for
// 400, not for treating the request as one without a certificate.
type ParseError struct {
	Source string // the source: "rfc9440"
	Field  string // the header field: "Client-Cert"
	Fault  string // what is wrong, without the value
	// Reason says which kind of fault it is. If empty, [decision.SourceMalformed].
	Reason decision.Reason
}

func (e *ParseError) Error() string {
	return fmt.Sprintf("certsource: %s: %s", e.Field, e.Fault)
}

// An UntrustedPeerError reports a certificate field from a peer that may not set
// it. Somebody may be forging it (RFC 9440, Section 4).
type UntrustedPeerError struct {
	Source string
	Field  string
	Peer   string // address of the connection's peer, or "" if it is not known
	Why    string // what the hop lacks, and what to change
}

func (e *UntrustedPeerError) Error() string {
	return fmt.Sprintf("certsource: %s: sent by %s, which is not a trusted proxy: %s",
		e.Field, cmp.Or(e.Peer, "an unknown peer"), e.Why)
}

// A Source returns the certificate of a request. Implementations are safe for
// concurrent use. Errors are [ErrNoCertificate], *[ParseError] or
// *[UntrustedPeerError]; no certificate is ever returned beside an error.
type Source interface {
	// Name is short and stable: "tls", "rfc9440". It is a log and metric label.
	Name() string
	Certificate(r *http.Request) (*Presented, error)
}

// A Description says what can be expected of a source, so that settings that cannot
// work are found at start.
type Description struct {
	// Most is the most that the source ever returns.
	Most Kind
	// Fields are the header fields that belong to it: those that it reads, the one
	// with the certificate first, and those that its hop sends beside them and that
	// nobody reads. Any other certificate field is foreign (see [Foreign]).
	Fields []string
	// VerifiedBy is what [Presented] says: who validates paths in our place.
	VerifiedBy string
}

// A Describer is a source that describes itself. All sources of this package do.
type Describer interface {
	Describe() Description
}

// Describe returns what s says of itself. A source that says nothing may return whole
// certificates.
func Describe(s Source) Description {
	if d, ok := s.(Describer); ok {
		return d.Describe()
	}
	return Description{Most: KindCertificate}
}

// A Kind says how much of a certificate a hop told us.
type Kind uint8

// The kinds, from least to most.
const (
	KindNone        Kind = iota
	KindAttributes       // names only: never authenticates a self-signed client, never binds a token
	KindFingerprint      // the SHA-256 of the certificate: enough for cnf
	KindCertificate      // the certificate itself, perhaps with its chain
)

func (k Kind) String() string {
	return [...]string{"none", "attributes", "fingerprint", "certificate"}[min(k, 3)]
}

// Attributes are single properties of a certificate that a proxy has extracted.
// They come without the certificate, so that nothing here can be checked again.
type Attributes struct {
	SubjectDN []string // in the syntax that the source declares
	DNSyntax  DNSyntax
	SANDNS    []string
	SANURI    []string
	SANIP     []string
	SANEmail  []string
}

// A DNSyntax is the text form of a distinguished name in a header.
type DNSyntax uint8

// The syntaxes. There is no default.
const (
	DNSyntaxUnset  DNSyntax = iota
	DNSyntaxLDAP            // RFC 4514: CN=x,O=Agora,C=US
	DNSyntaxLegacy          // OpenSSL's one line: /C=US/O=Agora/CN=x
)

// Presented is what a request came with. Values are immutable and may be shared
// by the requests of one connection.
type Presented struct {
	kind       Kind
	leaf       *x509.Certificate
	chain      []*x509.Certificate
	thumbprint string
	digest     [sha256.Size]byte
	attributes *Attributes

	// Via is the name of the source.
	Via string
	// VerifiedBy says who has validated the path in our place, by an explicit
	// setting of the operator. Empty: nobody, we validate.
	VerifiedBy string
}

// NewPresented returns a whole certificate. chain holds what the peer sent after
// the leaf, as sent; it may be empty.
func NewPresented(via string, leaf *x509.Certificate, chain []*x509.Certificate) *Presented {
	sum := sha256.Sum256(leaf.Raw)
	p := &Presented{
		kind: KindCertificate, leaf: leaf, chain: chain, Via: via,
		thumbprint: certbound.EncodeThumbprint(sum),
		digest:     sum,
	}
	if len(chain) > 0 {
		h := sha256.New()
		h.Write(sum[:])
		for _, c := range chain {
			s := sha256.Sum256(c.Raw)
			h.Write(s[:])
		}
		h.Sum(p.digest[:0])
	}
	return p
}

// NewFingerprint returns a certificate of which only the SHA-256 is known.
func NewFingerprint(via string, sum [sha256.Size]byte) *Presented {
	return &Presented{kind: KindFingerprint, thumbprint: certbound.EncodeThumbprint(sum), Via: via}
}

// NewAttributes returns a certificate of which only names are known.
func NewAttributes(via string, a Attributes) *Presented {
	return &Presented{kind: KindAttributes, attributes: &a, Via: via}
}

// Kind says what there is. It is KindNone for a nil p.
func (p *Presented) Kind() Kind {
	if p == nil {
		return KindNone
	}
	return p.kind
}

// Leaf returns the end-entity certificate, or nil if the kind is less.
func (p *Presented) Leaf() *x509.Certificate {
	if p == nil {
		return nil
	}
	return p.leaf
}

// Chain returns the further certificates as the peer sent them, in its order. They
// are claims, never anchors. The caller must not change the slice.
func (p *Presented) Chain() []*x509.Certificate {
	if p == nil {
		return nil
	}
	return p.chain
}

// Thumbprint returns the x5t#S256 of the leaf, or "" if it is not known.
func (p *Presented) Thumbprint() string {
	if p == nil {
		return ""
	}
	return p.thumbprint
}

// Digest returns a SHA-256 over the leaf and every certificate of the chain. It is
// zero unless the kind is KindCertificate.
func (p *Presented) Digest() [sha256.Size]byte {
	if p == nil {
		return [sha256.Size]byte{}
	}
	return p.digest
}

// Attributes returns the names, or nil if the kind is another.
func (p *Presented) Attributes() *Attributes {
	if p == nil {
		return nil
	}
	return p.attributes
}

// None is the source of a listener that takes no certificates, such as the one
// for browsers: a header or a TLS certificate there counts as none.
type None struct{}

// Name returns "none".
func (None) Name() string { return "none" }

// Describe implements [Describer].
func (None) Describe() Description { return Description{} }

// Certificate returns [ErrNoCertificate].
func (None) Certificate(*http.Request) (*Presented, error) { return nil, ErrNoCertificate }
