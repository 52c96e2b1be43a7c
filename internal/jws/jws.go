// Package jws signs and verifies compact JWS for our own access tokens. It is the hot
// path only: keys, key sets, assertions and everything foreign go through go-jose.
package jws

import "crypto"

// Algorithms of RFC 7518 and RFC 8037 that are used here.
const (
	ES256 = "ES256"
	PS256 = "PS256"
	RS256 = "RS256"
	EdDSA = "EdDSA"
)

// A Signer signs payloads under one fixed header. It is safe for concurrent use.
type Signer struct{}

// NewSigner returns a signer. The header holds alg, typ and kid, in this order.
func NewSigner(alg, typ, kid string, key crypto.Signer) (*Signer, error) { panic("contract") }

// Sign returns the compact serialization over payload, which must be JSON.
func (s *Signer) Sign(payload []byte) (string, error) { panic("contract") }

// A Token is a parsed compact JWS. Nothing in it is to be believed before Verify.
type Token struct {
	Alg, Typ, Kid string
	Payload       []byte
}

// Parse reads a compact JWS strictly: three parts of unpadded canonical base64url, at
// most max bytes, a header without duplicate members, crit, jwk, jku, x5u, x5c or b64,
// an alg of this package, and a payload that is one JSON object without duplicate
// members at the top level or in cnf. Errors are of type *Error.
func Parse(compact string, max int) (*Token, error) { panic("contract") }

// Verify checks the signature with a public key whose kind must fit Alg.
func (t *Token) Verify(key crypto.PublicKey) error { panic("contract") }

// An Error says what is wrong with a JWS, without a part of it.
type Error struct{ Fault string }

func (e *Error) Error() string { return "jws: " + e.Fault }
