// Package jwks reads JSON Web Key Sets (RFC 7517), by value and by URL: the
// certificates of self-signed clients (x5c, RFC 8705, Section 2.2.2), the keys of
// private_key_jwt clients, the keys of issuers. Fetching has limits, a cache, and a
// guard against requests into internal networks.
package jwks

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha1" // x5t is defined by it, and only compared with a certificate at hand
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"github.com/certbound/certbound/internal/jws"
)

// Limits of a key set.
const (
	MaxBytes = 256 << 10 // of a document

	maxKeys    = 300
	maxChain   = 10 // entries of x5c
	minRSABits = 2048
	maxRSABits = 8192 // more costs more than a request may
)

// Strictness says what a fault of one key does to its set.
type Strictness uint8

const (
	// Strict refuses the set: for registration by value.
	Strict Strictness = iota
	// Lenient leaves the key out: for documents behind a URL (RFC 7517, Section 5).
	Lenient
)

// A Set is a parsed key set. It is immutable.
type Set struct {
	Keys []jose.JSONWebKey // public keys only
	// Certificates are the DER of each usable x5c[0], without repetitions. Key ids
	// play no part in them (RFC 8705, Section 2.2).
	Certificates [][]byte
	// Ignored says why keys were left out.
	Ignored []string
}

// An Error reports a key set that cannot be used, or cannot be had.
type Error struct {
	Key   int    // index in "keys", or -1
	Fault string // what is wrong, without a value from the set
	Err   error
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("jwks: ")
	if e.Key >= 0 {
		fmt.Fprintf(&b, "key %d: ", e.Key)
	}
	b.WriteString(e.Fault)
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// Parse reads a key set: a JSON object with a "keys" array (RFC 7517, Section 5). An
// empty array is a valid set.
//
// A key has a fault if it has private or symmetric members, lacks a required one, is an
// RSA key of less than 2048 bits, or has an x5c that is not standard base64 of one
// certificate each, an x5c[0] with another key than the JWK (Section 4.7), or an x5t or
// x5t#S256 that contradicts x5c[0]. A key of a kind that is not known is left out, even
// by Strict. Of x5c only the first entry counts; the others have to parse, no more.
// Members that stand twice are refused, and a size over [MaxBytes]. Errors are of type
// *[Error].
func Parse(data []byte, s Strictness) (*Set, error) {
	if len(data) > MaxBytes {
		return nil, &Error{Key: -1, Fault: fmt.Sprintf("longer than %d bytes", MaxBytes)}
	}
	if err := jws.Members(data, nil); err != nil {
		e, _ := errors.AsType[*jws.Error](err)
		return nil, &Error{Key: -1, Fault: e.Fault}
	}
	// Not a struct: encoding/json would take "KEYS" for "keys".
	var document map[string]json.RawMessage
	if err := json.Unmarshal(data, &document); err != nil {
		return nil, &Error{Key: -1, Fault: "not a JSON object"}
	}
	member, ok := document["keys"]
	if !ok {
		return nil, &Error{Key: -1, Fault: `no member "keys"; a single key has to stand in {"keys":[…]}`}
	}
	var keys []json.RawMessage
	if err := json.Unmarshal(member, &keys); err != nil || keys == nil {
		return nil, &Error{Key: -1, Fault: `"keys" is not an array`}
	}
	if len(keys) > maxKeys {
		return nil, &Error{Key: -1, Fault: fmt.Sprintf("more than %d keys", maxKeys)}
	}
	set := &Set{}
	for i, raw := range keys {
		key, err := parseKey(raw)
		switch {
		case err == nil:
			set.add(key)
		case s == Lenient || err.unknown:
			set.Ignored = append(set.Ignored, (&Error{Key: i, Fault: err.fault}).Error())
		default:
			return nil, &Error{Key: i, Fault: err.fault}
		}
	}
	return set, nil
}

func (s *Set) add(key jose.JSONWebKey) {
	s.Keys = append(s.Keys, key)
	if len(key.Certificates) == 0 {
		return
	}
	der := key.Certificates[0].Raw
	if !slices.ContainsFunc(s.Certificates, func(c []byte) bool { return bytes.Equal(c, der) }) {
		s.Certificates = append(s.Certificates, der)
	}
}

type keyError struct {
	fault   string
	unknown bool // not a fault of the key, but a kind that we do not have
}

// requiredMembers of the key types that we have (RFC 7518, Section 6; RFC 8037, Section 2).
var requiredMembers = map[string][]string{
	"EC":  {"crv", "x", "y"},
	"RSA": {"n", "e"},
	"OKP": {"crv", "x"},
}

var knownCurves = []string{"P-256", "P-384", "P-521", "Ed25519"}

func parseKey(raw json.RawMessage) (key jose.JSONWebKey, fault *keyError) {
	none := jose.JSONWebKey{}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(raw, &members); err != nil || members == nil {
		return none, &keyError{fault: "not a JSON object"}
	}
	kty, ok := text(members["kty"])
	if !ok {
		return none, &keyError{fault: "no kty"}
	}
	if kty == "oct" {
		return none, &keyError{fault: "a symmetric key does not belong here; replace it, since it is known to others now"}
	}
	for _, name := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"} {
		if _, ok := members[name]; ok {
			return none, &keyError{fault: "holds private member " + name + "; publish the public key only, and replace this one"}
		}
	}
	required, ok := requiredMembers[kty]
	if !ok {
		return none, &keyError{fault: "kty is not one of EC, RSA, OKP", unknown: true}
	}
	for _, name := range required {
		value, ok := text(members[name])
		if !ok {
			return none, &keyError{fault: "kty " + kty + " needs the member " + name + ", a string; x5c does not replace it"}
		}
		if name == "crv" && !slices.Contains(knownCurves, value) {
			return none, &keyError{fault: "crv is not one of " + strings.Join(knownCurves, ", "), unknown: true}
		}
	}
	leaf, fault := parseX5C(members)
	if fault != nil {
		return none, fault
	}

	if err := key.UnmarshalJSON(raw); err != nil {
		if leaf != nil && strings.Contains(err.Error(), "do not match") {
			return none, &keyError{fault: "x5c[0] has another public key than the JWK (RFC 7517, Section 4.7)"}
		}
		return none, &keyError{fault: "the key members do not make a valid " + kty + " key, or a member has the wrong type"}
	}
	if fault := checkPublicKey(key.Key); fault != "" {
		return none, &keyError{fault: fault}
	}
	return key, nil
}

// parseX5C returns x5c[0], or nil if there is no x5c, and checks x5t and x5t#S256
// against it. go-jose parses the certificates again, but skips line ends.
func parseX5C(members map[string]json.RawMessage) (*x509.Certificate, *keyError) {
	raw, ok := members["x5c"]
	if !ok {
		return nil, nil
	}
	var entries []string
	if err := json.Unmarshal(raw, &entries); err != nil || len(entries) == 0 {
		return nil, &keyError{fault: "x5c is not an array of one or more strings"}
	}
	if len(entries) > maxChain {
		return nil, &keyError{fault: fmt.Sprintf("x5c has more than %d entries", maxChain)}
	}
	var leaf *x509.Certificate
	for i, entry := range entries {
		if strings.ContainsAny(entry, "\r\n") {
			return nil, &keyError{fault: fmt.Sprintf("x5c[%d] holds line ends; write the base64 on one line", i)}
		}
		der, err := base64.StdEncoding.Strict().DecodeString(entry)
		if err != nil {
			return nil, &keyError{fault: fmt.Sprintf("x5c[%d] is not standard base64 with padding (base64url and PEM are not)", i)}
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, &keyError{fault: fmt.Sprintf("x5c[%d] is not one certificate in DER", i)}
		}
		if i == 0 {
			leaf = cert
		}
	}
	sha1Sum, sha256Sum := sha1.Sum(leaf.Raw), sha256.Sum256(leaf.Raw)
	for name, sum := range map[string][]byte{"x5t": sha1Sum[:], "x5t#S256": sha256Sum[:]} {
		if raw, ok := members[name]; ok {
			if got, _ := text(raw); got != base64.RawURLEncoding.EncodeToString(sum) {
				return nil, &keyError{fault: name + " contradicts x5c[0]"}
			}
		}
	}
	return leaf, nil
}

func checkPublicKey(key any) (fault string) {
	switch pub := key.(type) {
	case *ecdsa.PublicKey, ed25519.PublicKey:
		return ""
	case *rsa.PublicKey:
		switch n := pub.N.BitLen(); {
		case n < minRSABits:
			return fmt.Sprintf("an RSA key of %d bits; it has to have %d or more", n, minRSABits)
		case n > maxRSABits:
			return fmt.Sprintf("an RSA key of %d bits; at most %d are taken", n, maxRSABits)
		case pub.E < 3 || pub.E%2 == 0:
			return "an RSA key with an exponent that is even or 1"
		}
		return ""
	}
	return "not a public key of a known kind"
}

// text returns a JSON string that is not empty.
func text(raw json.RawMessage) (string, bool) {
	var s string
	err := json.Unmarshal(raw, &s)
	return s, err == nil && s != ""
}

// FromCertificate returns a JWK with x5c for a certificate in DER, as RFC 8705,
// Appendix A, shows one. Errors are of type *[Error].
func FromCertificate(der []byte) (jose.JSONWebKey, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return jose.JSONWebKey{}, &Error{Key: -1, Fault: "not one certificate in DER"}
	}
	key := jose.JSONWebKey{Key: cert.PublicKey, Certificates: []*x509.Certificate{cert}}
	if pub, ok := cert.PublicKey.(*ecdsa.PublicKey); ok && !slices.Contains(knownCurves, pub.Curve.Params().Name) {
		return jose.JSONWebKey{}, &Error{Key: -1, Fault: "the certificate's curve is not one of P-256, P-384, P-521"}
	}
	if fault := checkPublicKey(cert.PublicKey); fault != "" {
		return jose.JSONWebKey{}, &Error{Key: -1, Fault: fault}
	}
	return key, nil
}
