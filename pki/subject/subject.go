// Package subject holds the names that identify a client of the PKI method: the
// five subject kinds of RFC 8705, Section 2.1.2, and distinguished names in the text
// form of RFC 4514, compared by structure (RFC 4517, Section 4.2.15, with the string
// preparation of RFC 4518). All functions are pure and safe for concurrent use.
package subject

import (
	"crypto/x509"

	"github.com/certbound/certbound/decision"
)

// A Kind is a client metadata parameter of RFC 8705, Section 2.1.2.
type Kind string

// The five kinds.
const (
	DN       Kind = "tls_client_auth_subject_dn"
	SANDNS   Kind = "tls_client_auth_san_dns"
	SANURI   Kind = "tls_client_auth_san_uri"
	SANIP    Kind = "tls_client_auth_san_ip"
	SANEmail Kind = "tls_client_auth_san_email"
)

// Kinds returns the five, in the order of the specification.
func Kinds() []Kind { return []Kind{DN, SANDNS, SANURI, SANIP, SANEmail} }

// An Expected is the one subject value that is registered for a client. The zero
// value matches nothing.
type Expected struct {
	kind  Kind
	value string
	// prepared forms, by the owner of this room
}

// New parses a registered value. Errors are of type *[ValueError].
func New(kind Kind, value string) (Expected, error) { panic("contract") }

// A ValueError reports a value that cannot be registered.
type ValueError struct {
	Kind  Kind
	Value string
	Fault string
}

func (e *ValueError) Error() string { panic("contract") }

// Kind and Value return what was registered, the text as given.
func (e Expected) Kind() Kind    { return e.kind }
func (e Expected) Value() string { return e.value }

// Match reports whether cert has the expected value in the field of the expected
// kind. Errors are of type *[MismatchError].
func (e Expected) Match(cert *x509.Certificate) error { panic("contract") }

// MatchSole is Match, and the entry must be the only one of its kind.
func (e Expected) MatchSole(cert *x509.Certificate) error { panic("contract") }

// MatchText is Match for values that a proxy has extracted from a certificate, of
// the kind of e: SAN entries as text or, for DN, one name that was parsed with
// ParseName or ParseLegacy.
func (e Expected) MatchText(values []string) error { panic("contract") }

// MatchName is Match for a subject that is already parsed.
func (e Expected) MatchName(n Name) error { panic("contract") }

// A MismatchError says what was expected and found. Its text is for the operator.
type MismatchError struct {
	Reason          decision.Reason // SubjectMismatch, SubjectAbsent or CertificateForbidden
	Expected, Found string
	Hint            string // "the same attributes in another order", …
}

func (e *MismatchError) Error() string { panic("contract") }

// A Name is a distinguished name: a sequence of RDNs in DER order. Name keeps the
// encoded values, so nothing is lost.
type Name struct{}

// ParseName parses RFC 4514 text. Errors are of type *[SyntaxError].
func ParseName(s string) (Name, error) { panic("contract") }

// ParseLegacy parses OpenSSL's one-line form, /C=US/O=Agora/CN=x, and refuses text
// that can be read in two ways. Errors are of type *[SyntaxError].
func ParseLegacy(s string) (Name, error) { panic("contract") }

// ParseDER parses an encoded Name, such as x509.Certificate.RawSubject.
func ParseDER(der []byte) (Name, error) { panic("contract") }

// A SyntaxError reports text that is not a distinguished name.
type SyntaxError struct {
	Offset int // in bytes
	Fault  string
}

func (e *SyntaxError) Error() string { panic("contract") }

// String returns RFC 4514 text that ParseName reads back without loss.
func (n Name) String() string { panic("contract") }

// Legacy returns OpenSSL's one-line form.
func (n Name) Legacy() string { panic("contract") }

// Equal is distinguishedNameMatch.
func (n Name) Equal(other Name) bool { panic("contract") }

// IsEmpty reports whether there is no RDN.
func (n Name) IsEmpty() bool { panic("contract") }

// SANs are the subject alternative names of a certificate, by kind, as the octets
// stand in the extension.
type SANs struct {
	DNS, URI, Email []string
	IP              [][]byte
}

// SANsOf reads the extension from the DER of cert.
func SANsOf(cert *x509.Certificate) (SANs, error) { panic("contract") }

// Of returns the RFC 4514 text of cert's subject, for logs.
func Of(cert *x509.Certificate) string { panic("contract") }
