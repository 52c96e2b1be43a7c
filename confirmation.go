// Package certbound computes, embeds and verifies the confirmation that binds an
// OAuth 2.0 access token to a client's X.509 certificate: the "x5t#S256" member of
// the "cnf" claim (RFC 8705, Section 3). It depends on the standard library only.
package certbound

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
)

// ThumbprintLen is the length of every x5t#S256 value, in characters.
const ThumbprintLen = 43

// MemberX5TS256 and MemberJKT are names of confirmation members.
const (
	MemberX5TS256 = "x5t#S256" // RFC 8705, Section 3.1: the SHA-256 of a certificate
	MemberJKT     = "jkt"      // RFC 9449, Section 6.1: the thumbprint of a DPoP key
)

var (
	// ErrNotBound reports a token without any confirmation member.
	ErrNotBound = errors.New("certbound: token is not bound to a certificate")
	// ErrNoCertificate reports a bound token that came without a certificate.
	ErrNoCertificate = errors.New("certbound: token is bound to a certificate, but none was presented")
	// ErrMismatch reports a token that is bound to another certificate.
	ErrMismatch = errors.New("certbound: token is bound to another certificate")
	// ErrUnknownMethod reports a confirmation with a member that this package
	// cannot check, either alone or beside x5t#S256 where it is a key
	// confirmation of its own (RFC 7800, Section 3.1).
	ErrUnknownMethod = errors.New("certbound: token is confirmed by a method that cannot be checked here")
)

// A SyntaxError reports a "cnf" value that is not a confirmation.
type SyntaxError struct {
	Fault string // what is wrong, without a value from the token
}

func (e *SyntaxError) Error() string { return "certbound: cnf: " + e.Fault }

// Thumbprint returns the x5t#S256 value of cert: the SHA-256 digest of its DER
// encoding as received, in unpadded base64url, always 43 characters (RFC 8705,
// Section 3.1).
func Thumbprint(cert *x509.Certificate) string { return ThumbprintDER(cert.Raw) }

// ThumbprintDER is [Thumbprint] for a certificate in DER. It does not parse der.
func ThumbprintDER(der []byte) string { return EncodeThumbprint(sha256.Sum256(der)) }

// EncodeThumbprint encodes a SHA-256 digest that something else has computed,
// such as a proxy that forwards only a fingerprint.
func EncodeThumbprint(sum [sha256.Size]byte) string {
	var buf [ThumbprintLen]byte
	base64.RawURLEncoding.Encode(buf[:], sum[:])
	return string(buf[:])
}

// A Confirmation is the value of a "cnf" claim or introspection member (RFC 7800,
// Section 3.1). The zero value binds nothing.
type Confirmation struct {
	// X5TS256 is the thumbprint of the certificate, as it stands in the token. It
	// need not be canonical base64url; it is compared as text.
	X5TS256 string
	// JKT is the thumbprint of a DPoP key (RFC 9449, Section 6.1), or empty.
	JKT string
	// Other lists the names of all further members, sorted.
	Other []string
}

// Confirm returns the confirmation for cert.
func Confirm(cert *x509.Certificate) Confirmation {
	return Confirmation{X5TS256: Thumbprint(cert)}
}

// IsZero reports whether c has no member at all. It makes the JSON option
// omitzero leave out the member, since an unbound token has no cnf (RFC 8705,
// Section 3.2).
func (c Confirmation) IsZero() bool {
	return c.X5TS256 == "" && c.JKT == "" && len(c.Other) == 0
}

// Verify reports whether leaf is the certificate that c names. A nil leaf means
// that none was presented. It returns [ErrNotBound] if c is zero,
// [ErrUnknownMethod] if c has no x5t#S256 or has a jkt beside it, which a caller
// without DPoP cannot check, [ErrNoCertificate], or [ErrMismatch]. A caller that
// accepts unbound tokens must test for ErrNotBound. Verify does not look at
// expiry, chain or revocation (RFC 8705, Section 6.2).
func (c Confirmation) Verify(leaf *x509.Certificate) error {
	if leaf == nil {
		return c.VerifyThumbprint("")
	}
	return c.VerifyThumbprint(Thumbprint(leaf))
}

// VerifyThumbprint is [Confirmation.Verify] for a thumbprint that was computed
// before, in the form that [Thumbprint] returns. The empty string means that no
// certificate was presented. The comparison takes constant time.
func (c Confirmation) VerifyThumbprint(thumbprint string) error {
	switch {
	case c.IsZero():
		return ErrNotBound
	case c.X5TS256 == "" || c.JKT != "":
		return ErrUnknownMethod
	case thumbprint == "":
		return ErrNoCertificate
	case len(thumbprint) != ThumbprintLen,
		subtle.ConstantTimeCompare([]byte(thumbprint), []byte(c.X5TS256)) != 1:
		return ErrMismatch
	}
	return nil
}

// ParseConfirmation reads the JSON value of a cnf member. It refuses anything but
// one object, members that stand twice, and values of x5t#S256 and jkt that are
// not non-empty strings (RFC 8705, Section 3.1). Errors are of type *SyntaxError.
func ParseConfirmation(data []byte) (Confirmation, error) {
	if value, ok := plainX5TS256(data); ok {
		return Confirmation{X5TS256: string(value)}, nil
	}
	c, err := parseConfirmation(data)
	if err != nil {
		return Confirmation{}, err
	}
	return c, nil
}

// What nearly every token has needs no decoder: one member, of the right form.
const plainStart, plainEnd = `{"x5t#S256":"`, `"}`

func plainX5TS256(data []byte) (value []byte, ok bool) {
	if len(data) != len(plainStart)+ThumbprintLen+len(plainEnd) {
		return nil, false
	}
	value = data[len(plainStart) : len(plainStart)+ThumbprintLen]
	ok = string(data[:len(plainStart)]) == plainStart && string(data[len(plainStart)+ThumbprintLen:]) == plainEnd && isBase64URL(value)
	return value, ok
}

func isBase64URL[T string | []byte](s T) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}

func parseConfirmation(data []byte) (c Confirmation, err error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return c, &SyntaxError{"not a JSON object"}
	}
	seen := make(map[string]bool, 2)
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return c, &SyntaxError{"not valid JSON"}
		}
		name := t.(string) // the decoder allows nothing else here
		if seen[name] {
			return c, &SyntaxError{"a member stands twice"}
		}
		seen[name] = true
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return c, &SyntaxError{"not valid JSON"}
		}
		switch name {
		case MemberX5TS256, MemberJKT:
			var s *string
			if json.Unmarshal(raw, &s) != nil || s == nil || *s == "" {
				return c, &SyntaxError{name + " is not a non-empty string"}
			}
			if name == MemberX5TS256 {
				c.X5TS256 = *s
			} else {
				c.JKT = *s
			}
		default:
			c.Other = append(c.Other, name)
		}
	}
	if _, err := dec.Token(); err != nil {
		return c, &SyntaxError{"not valid JSON"}
	}
	if _, err := dec.Token(); err != io.EOF {
		return c, &SyntaxError{"data after the object"}
	}
	if len(seen) == 0 {
		return c, &SyntaxError{"an object without members"}
	}
	slices.Sort(c.Other)
	return c, nil
}

// UnmarshalJSON implements [json.Unmarshaler] with [ParseConfirmation].
func (c *Confirmation) UnmarshalJSON(data []byte) error {
	parsed, err := ParseConfirmation(data)
	if err == nil {
		*c = parsed
	}
	return err
}

// MarshalJSON implements [json.Marshaler]. Members listed in Other have no value
// here and cannot be written; a confirmation that has some is refused. So is the zero
// value, because "cnf":{} claims a binding that is none: leave the member out with
// the option omitzero.
func (c Confirmation) MarshalJSON() ([]byte, error) {
	if c.IsZero() {
		return nil, errors.New("certbound: cnf: a confirmation without members; leave it out with omitzero")
	}
	if len(c.Other) > 0 {
		return nil, fmt.Errorf("certbound: cnf: cannot encode members of unknown methods %q", c.Other)
	}
	if c.JKT == "" && isBase64URL(c.X5TS256) {
		return []byte(plainStart + c.X5TS256 + plainEnd), nil
	}
	return json.Marshal(struct {
		X5TS256 string `json:"x5t#S256,omitempty"`
		JKT     string `json:"jkt,omitempty"`
	}{c.X5TS256, c.JKT})
}
