// Package subject holds the names that identify a client of the PKI method: the
// five subject kinds of RFC 8705, Section 2.1.2, and distinguished names in the text
// form of RFC 4514, compared by structure (RFC 4517, Section 4.2.15, with the string
// preparation of RFC 4518). All functions are pure and safe for concurrent use.
//
// An [Expected] is made once, at registration, by [New], and asked for each
// certificate. A distinguished name is compared only with the subject field and a SAN
// value only with SAN entries of its own kind; nothing falls back to the common name,
// nothing is a pattern, and no printed form of a name is ever compared.
package subject

import (
	"crypto/x509"
	"errors"
	"net/netip"
	"strconv"
	"strings"

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

// sanTag returns the tag of the general name, or 0.
func (k Kind) sanTag() byte {
	switch k {
	case SANDNS:
		return tagDNS
	case SANURI:
		return tagURI
	case SANIP:
		return tagIP
	case SANEmail:
		return tagEmail
	}
	return 0
}

// field returns what the kind is called in RFC 5280.
func (k Kind) field() string {
	switch k {
	case SANDNS:
		return "dNSName"
	case SANURI:
		return "uniformResourceIdentifier"
	case SANIP:
		return "iPAddress"
	case SANEmail:
		return "rfc822Name"
	}
	return "subject"
}

// An Expected is the one subject value that is registered for a client. The zero
// value matches nothing.
type Expected struct {
	kind  Kind
	value string
	// What is compared: name for DN, else text, which is a name in lower case, a
	// URI, an address with its domain in lower case, or the octets of an IP.
	name      *compiled
	text      string
	normalize bool
}

// Kind and Value return what was registered, the text as given.
func (e Expected) Kind() Kind    { return e.kind }
func (e Expected) Value() string { return e.value }

// Canonical returns the value in the form that this package prints: RFC 4514 without
// optional spaces and escapes, an address as in RFC 5952, a host name in lower case.
func (e Expected) Canonical() string {
	switch e.kind {
	case DN:
		n, _ := ParseDER(e.name.der)
		return n.String()
	case SANIP:
		return formatIP([]byte(e.text))
	}
	return e.text
}

// A ValueError reports a value that cannot be registered.
type ValueError struct {
	Kind  Kind
	Value string
	Fault string
	// Hint says what to write instead, if that is known.
	Hint string
}

func (e *ValueError) Error() string {
	s := "subject: " + string(e.Kind) + ": " + excerpt(e.Value) + ": " + e.Fault
	if e.Hint != "" {
		s += "; " + e.Hint
	}
	return s
}

// A MismatchError says what was expected and found. Its text is for the operator.
type MismatchError struct {
	Kind            Kind
	Reason          decision.Reason // SubjectMismatch, SubjectAbsent or CertificateForbidden
	Expected, Found string          // Found is bounded and safe to log
	Hint            string          // "the same attributes in another order", …
}

func (e *MismatchError) Error() string {
	s := "subject: " + string(e.Kind) + ": expected " + quote(e.Expected) + ", found " + e.Found
	if e.Hint != "" {
		s += "; " + e.Hint
	}
	return s
}

// Match reports whether cert has the expected value in the field of the expected
// kind. Other entries of the kind do not matter (RFC 8705, Section 2.1.2). A NUL in
// the subject, or in any entry of the kind, is a refusal. Errors are of type
// *[MismatchError].
func (e Expected) Match(cert *x509.Certificate) error { return e.match(cert, false) }

// MatchSole is Match, and the entry must be the only one of its kind.
func (e Expected) MatchSole(cert *x509.Certificate) error { return e.match(cert, true) }

func (e Expected) match(cert *x509.Certificate, sole bool) error {
	switch {
	case cert == nil:
		return e.refuse(decision.SubjectAbsent, "no certificate", "")
	case e.kind == DN && e.name != nil:
		if outcome := e.name.match(cert.RawSubject); outcome != equalNames {
			return e.explainName(cert.RawSubject, outcome)
		}
		return nil
	}
	want := e.kind.sanTag()
	if want == 0 {
		return e.refuse(decision.SubjectMismatch, "a certificate", "no subject value is registered")
	}
	names, err := sanNames(cert)
	if err != nil {
		return e.refuse(decision.CertificateForbidden, err.Error(), "")
	}
	entries, equal := 0, false
	for {
		tag, value, ok, err := names.next()
		if err != nil {
			return e.refuse(decision.CertificateForbidden, err.Error(), "")
		}
		if !ok {
			break
		}
		if tag != want {
			continue
		}
		entries++
		if want != tagIP && hasNUL(value) {
			return e.refuse(decision.CertificateForbidden, quote(string(value)), "an entry holds a NUL")
		}
		equal = equal || e.equalEntry(value)
	}
	if equal && (!sole || entries == 1) {
		return nil
	}
	return e.explainSAN(cert, equal)
}

func hasNUL[S string | []byte](s S) bool {
	for i := range len(s) {
		if s[i] == 0 {
			return true
		}
	}
	return false
}

// equalEntry compares with one entry of the expected kind.
func (e *Expected) equalEntry(value []byte) bool {
	switch e.kind {
	case SANDNS:
		return equalLower(e.text, value)
	case SANEmail:
		// The last @, since a quoted local part may hold one.
		at := strings.LastIndexByte(e.text, '@')
		return len(value) == len(e.text) && string(value[:at+1]) == e.text[:at+1] && equalLower(e.text[at+1:], value[at+1:])
	case SANURI:
		if e.normalize {
			normalized, ok := normalizeURI(string(value))
			return ok && normalized == e.text
		}
	}
	return string(value) == e.text
}

// equalLower compares lower, which is in lower case, with value without regard to the
// case of ASCII letters.
func equalLower(lower string, value []byte) bool {
	if len(lower) != len(value) {
		return false
	}
	for i, c := range value {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// MatchText is Match for values that a proxy has extracted from a certificate, of
// the kind of e: SAN entries as text or, for DN, one name as RFC 4514 text. A name in
// another syntax goes through its parser and MatchName.
func (e Expected) MatchText(values []string) error {
	switch {
	case len(values) == 0:
		return e.refuse(decision.SubjectAbsent, "no value of this kind", "")
	case e.kind == DN && len(values) > 1:
		return e.refuse(decision.SubjectMismatch, quoteAll(values), "more than one subject")
	case e.kind == DN:
		n, err := ParseName(values[0])
		if err != nil {
			return e.refuse(decision.SubjectMismatch, quote(values[0]), err.Error())
		}
		return e.MatchName(n)
	case e.kind.sanTag() == 0:
		return e.refuse(decision.SubjectMismatch, quoteAll(values), "no subject value is registered")
	}
	equal := false
	for _, value := range values {
		if hasNUL(value) {
			return e.refuse(decision.CertificateForbidden, quote(value), "an entry holds a NUL")
		}
		if e.kind != SANIP {
			equal = equal || e.equalEntry([]byte(value))
		} else if ip, err := netip.ParseAddr(value); err == nil && ip.Zone() == "" {
			equal = equal || e.equalEntry(ip.AsSlice())
		}
	}
	if equal {
		return nil
	}
	return e.refuse(decision.SubjectMismatch, quoteAll(values), "")
}

// MatchName is Match for a subject that is already parsed. It refuses if the kind is
// not DN.
func (e Expected) MatchName(n Name) error {
	if e.kind != DN || e.name == nil {
		return e.refuse(decision.SubjectMismatch, quote(n.String()), "no subject DN is registered")
	}
	der := n.DER()
	if outcome := e.name.match(der); outcome != equalNames {
		return e.explainName(der, outcome)
	}
	return nil
}

func (e *Expected) refuse(reason decision.Reason, found, hint string) error {
	return &MismatchError{Kind: e.kind, Reason: reason, Expected: e.value, Found: found, Hint: hint}
}

// Of returns the RFC 4514 text of cert's subject, for logs. A subject that is not a
// name gives its fault in angle brackets, which no name begins with.
func Of(cert *x509.Certificate) string {
	n, err := ParseDER(cert.RawSubject)
	if e, ok := errors.AsType[*SyntaxError](err); ok {
		return "<" + e.Fault + ">"
	}
	return n.String()
}

// quote returns s for a message: bounded, in quotes, without anything that does not
// print.
func quote(s string) string {
	const limit = 1024
	if len(s) > limit {
		return strconv.Quote(s[:limit]) + "…"
	}
	return strconv.Quote(s)
}

func quoteAll(values []string) string {
	const limit = 8
	var b strings.Builder
	for i, v := range values {
		if i == limit {
			b.WriteString(", … (" + strconv.Itoa(len(values)) + " in all)")
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(excerpt(v))
	}
	return b.String()
}
