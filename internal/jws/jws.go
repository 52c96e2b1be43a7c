// Package jws signs and verifies compact JWS (RFC 7515) for access tokens, and is
// stricter than the specification where leniency has been used in attacks. It is the
// hot path only: key sets, client assertions and everything else foreign go through
// go-jose, which is also the oracle of this package's fuzz tests.
//
// It is code of our own because it costs what its primitives cost: go-jose adds as
// much as a second P-256 signature to each token, golang-jwt has no check for
// duplicate members and would need most of this package in front of it.
package jws

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"unicode/utf8"
)

// Algorithms of RFC 7518 and RFC 8037 that are used here.
const (
	ES256 = "ES256"
	PS256 = "PS256"
	RS256 = "RS256"
	EdDSA = "EdDSA" // with Ed25519
)

// Limits of what is signed and read.
const (
	minRSABits = 2048 // RFC 7518, Sections 3.3 and 3.5
	maxRSABits = 8192 // a verification beyond takes longer than a request may
	maxHeader  = 2048 // bytes of the decoded header
	maxKid     = 512
	maxTyp     = 64
)

// An Error says what is wrong with a JWS or a key, without a part of it.
type Error struct{ Fault string }

func (e *Error) Error() string { return "jws: " + e.Fault }

// A Signer signs payloads under one fixed header. It is safe for concurrent use if
// its key is.
type Signer struct {
	alg    string
	header string // encoded, with the dot
	key    crypto.Signer
	opts   crypto.SignerOpts
	sigLen int
}

// NewSigner returns a signer. The header holds alg, typ and kid, in this order; an
// empty typ or kid is left out. The key's kind must fit alg: P-256 for ES256, Ed25519
// for EdDSA, RSA of 2048 bits or more for PS256 and RS256. It may live elsewhere, such
// as in a PKCS#11 token. Errors are of type *[Error].
func NewSigner(alg, typ, kid string, key crypto.Signer) (*Signer, error) {
	if key == nil {
		return nil, &Error{"no signing key"}
	}
	if err := fits(alg, key.Public()); err != nil {
		return nil, err
	}
	if len(typ) > maxTyp || len(kid) > maxKid || !utf8.ValidString(typ) || !utf8.ValidString(kid) {
		return nil, &Error{"typ or kid is too long or not UTF-8"}
	}
	header, err := json.Marshal(struct {
		Alg string `json:"alg"`
		Typ string `json:"typ,omitempty"`
		Kid string `json:"kid,omitempty"`
	}{alg, typ, kid})
	if err != nil {
		return nil, &Error{"header cannot be encoded"}
	}
	s := &Signer{
		alg:    alg,
		header: base64.RawURLEncoding.EncodeToString(header) + ".",
		key:    key,
		opts:   crypto.SHA256,
		sigLen: 64,
	}
	switch alg {
	case PS256:
		s.opts = &pssOptions
	case EdDSA:
		s.opts = crypto.Hash(0)
	}
	if pub, ok := key.Public().(*rsa.PublicKey); ok {
		s.sigLen = pub.Size()
	}
	return s, nil
}

// The salt is as long as the hash (RFC 7518, Section 3.5).
var pssOptions = rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}

// Sign returns the compact serialization over payload, which must be a JSON object
// with distinct member names; Sign does not look. Errors are those of the key.
func (s *Signer) Sign(payload []byte) (string, error) {
	enc := base64.RawURLEncoding
	out := make([]byte, 0, len(s.header)+enc.EncodedLen(len(payload))+1+enc.EncodedLen(s.sigLen))
	out = append(out, s.header...)
	out = enc.AppendEncode(out, payload)

	input := out
	if s.alg != EdDSA {
		sum := sha256.Sum256(out)
		input = sum[:]
	}
	sig, err := s.key.Sign(rand.Reader, input, s.opts)
	if err != nil {
		return "", err
	}
	if s.alg == ES256 {
		var fixed [64]byte
		if !fixedFromASN1(&fixed, sig) {
			return "", &Error{"the key returned an ECDSA signature that is not one of P-256"}
		}
		sig = fixed[:]
	}
	if len(sig) != s.sigLen {
		return "", &Error{"the key returned a signature of the wrong length"}
	}
	out = append(out, '.')
	return string(enc.AppendEncode(out, sig)), nil
}

// A Token is a parsed compact JWS. Nothing in it is to be believed before Verify.
type Token struct {
	Alg, Typ, Kid string
	Payload       []byte

	signed []byte // what the signature is over
	sig    []byte
}

// Parse reads a compact JWS strictly: three parts of unpadded canonical base64url, at
// most max bytes; a header without crit, jwk, jku, x5u, x5c, b64 or enc and with an alg
// of this package; a payload that is one JSON object. A member that stands twice is
// refused, at any depth; in the header, at the top level of the payload and in cnf,
// also one that differs from another only in case, since encoding/json takes the two
// for the same. Errors are of type *[Error].
func Parse(compact string, max int) (*Token, error) {
	if len(compact) > max {
		return nil, &Error{"longer than allowed"}
	}
	dot1, dot2 := -1, -1
	for i := range len(compact) {
		switch c := compact[i]; {
		case c == '.' && dot1 < 0:
			dot1 = i
		case c == '.' && dot2 < 0:
			dot2 = i
		case !base64url[c]: // a third dot; the line ends that encoding/base64 skips
			return nil, &Error{"not three parts of base64url"}
		}
	}
	if dot2 < 0 {
		return nil, &Error{"not three parts of base64url"}
	}

	// One buffer: the text, which is hashed later, and the three decoded parts.
	enc := base64.RawURLEncoding
	buf := make([]byte, 0, len(compact)+enc.DecodedLen(len(compact)))
	buf = append(buf, compact...)
	t := &Token{signed: buf[:dot2:dot2]}
	var header []byte
	var err error
	for _, part := range []struct {
		dst  *[]byte
		text []byte
	}{{&header, buf[:dot1]}, {&t.Payload, buf[dot1+1 : dot2]}, {&t.sig, buf[dot2+1 : len(compact)]}} {
		start := len(buf)
		// Strict: spare bits that are set would give one token many spellings.
		if buf, err = strict.AppendDecode(buf, part.text); err != nil {
			return nil, &Error{"not canonical base64url"}
		}
		*part.dst = buf[start:len(buf):len(buf)]
	}
	if len(header) > maxHeader {
		return nil, &Error{"header longer than allowed"}
	}
	if err := t.parseHeader(header); err != nil {
		return nil, err
	}
	if fault := scanObject(t.Payload, "cnf", nil); fault != "" {
		return nil, &Error{"payload: " + fault}
	}
	if len(t.sig) == 0 {
		return nil, &Error{"no signature"}
	}
	return t, nil
}

var strict = base64.RawURLEncoding.Strict()

var base64url = func() (ok [256]bool) {
	for _, c := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_" {
		ok[c] = true
	}
	return ok
}()

func (t *Token) parseHeader(header []byte) error {
	refused := ""
	fault := scanObject(header, "", func(name, value []byte) {
		switch string(name) {
		case "alg":
			t.Alg = headerString(value, 16, "alg", &refused)
		case "typ":
			t.Typ = headerString(value, maxTyp, "typ", &refused)
		case "kid":
			t.Kid = headerString(value, maxKid, "kid", &refused)
		case "crit", "b64", // extensions change what a signature means (RFC 7515, Section 4.1.11)
			"jwk", "jku", "x5u", "x5c", // a token does not name the key that judges it
			"enc": // a JWE
			refused = "header: " + string(name) + " is not supported"
		}
	})
	if fault != "" {
		return &Error{"header: " + fault}
	}
	if refused != "" {
		return &Error{refused}
	}
	switch t.Alg {
	case ES256, PS256, RS256, EdDSA:
		return nil
	case "":
		return &Error{"header: no alg"}
	}
	return &Error{"header: alg is not one of ES256, PS256, RS256, EdDSA"}
}

func headerString(value []byte, max int, name string, refused *string) string {
	switch string(value) { // the usual ones, without an allocation
	case `"ES256"`:
		return ES256
	case `"at+jwt"`:
		return "at+jwt"
	}
	s, ok := unquote(value)
	if !ok || len(s) > max {
		*refused = "header: " + name + " is not a string, or too long"
		return ""
	}
	return s
}

// Verify checks the signature with a public key whose kind must fit Alg: the token
// cannot choose what a key is used for. Errors are of type *[Error].
func (t *Token) Verify(key crypto.PublicKey) error {
	if err := fits(t.Alg, key); err != nil {
		return err
	}
	ok := false
	switch pub := key.(type) {
	case ed25519.PublicKey:
		ok = ed25519.Verify(pub, t.signed, t.sig)
	case *ecdsa.PublicKey:
		if len(t.sig) != 64 { // RFC 7518, Section 3.4
			return &Error{"an ES256 signature is not 64 bytes long"}
		}
		var buf [72]byte
		sum := sha256.Sum256(t.signed)
		ok = ecdsa.VerifyASN1(pub, sum[:], appendASN1(buf[:0], t.sig))
	case *rsa.PublicKey:
		sum := sha256.Sum256(t.signed)
		if t.Alg == PS256 {
			ok = rsa.VerifyPSS(pub, crypto.SHA256, sum[:], t.sig, &pssOptions) == nil
		} else {
			ok = rsa.VerifyPKCS1v15(pub, crypto.SHA256, sum[:], t.sig) == nil
		}
	}
	if !ok {
		return &Error{"the signature does not fit"}
	}
	return nil
}

// fits reports whether a key may be used with alg.
func fits(alg string, key crypto.PublicKey) error {
	switch alg {
	case ES256:
		if pub, ok := key.(*ecdsa.PublicKey); ok && pub != nil && pub.Curve == elliptic.P256() {
			return nil
		}
		return &Error{"ES256 needs a P-256 key"}
	case EdDSA:
		if pub, ok := key.(ed25519.PublicKey); ok && len(pub) == ed25519.PublicKeySize {
			return nil
		}
		return &Error{"EdDSA needs an Ed25519 key"}
	case PS256, RS256:
		pub, ok := key.(*rsa.PublicKey)
		if !ok || pub == nil || pub.N == nil {
			return &Error{alg + " needs an RSA key"}
		}
		if n := pub.N.BitLen(); n < minRSABits || n > maxRSABits {
			return &Error{alg + " needs an RSA key of 2048 to 8192 bits"}
		}
		return nil
	}
	return &Error{"alg is not one of ES256, PS256, RS256, EdDSA"}
}

// fixedFromASN1 writes an ECDSA-Sig-Value (RFC 3279, Section 2.2.3) of P-256 as r and
// s of 32 bytes each.
func fixedFromASN1(dst *[64]byte, der []byte) bool {
	if len(der) < 2 || der[0] != 0x30 || int(der[1]) != len(der)-2 {
		return false
	}
	der = der[2:]
	for half := range 2 {
		if len(der) < 2 || der[0] != 0x02 || int(der[1]) > len(der)-2 {
			return false
		}
		v := der[2 : 2+int(der[1])]
		der = der[2+int(der[1]):]
		if len(v) > 1 && v[0] == 0 {
			v = v[1:]
		}
		if len(v) == 0 || len(v) > 32 {
			return false
		}
		copy(dst[32*half+32-len(v):32*half+32], v)
	}
	return len(der) == 0
}

// appendASN1 is the reverse. VerifyASN1 judges the numbers.
func appendASN1(dst, fixed []byte) []byte {
	dst = append(dst, 0x30, 0)
	for half := range 2 {
		v := fixed[32*half : 32*half+32]
		for len(v) > 1 && v[0] == 0 {
			v = v[1:]
		}
		dst = append(dst, 0x02, byte(len(v)))
		if v[0] >= 0x80 {
			dst[len(dst)-1]++
			dst = append(dst, 0)
		}
		dst = append(dst, v...)
	}
	dst[1] = byte(len(dst) - 2)
	return dst
}
