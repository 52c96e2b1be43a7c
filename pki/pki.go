// Package pki says whether a client certificate is genuine: whether it has a valid
// path to a trust anchor that is configured for this client (RFC 5280, Section 6;
// RFC 8705, Sections 2.1 and 7.4). Which client it is, is a question for others.
package pki

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"log/slog"
	"time"

	"github.com/certbound/certbound/decision"
)

// An Error is a certificate that is refused, or a setting that cannot be used.
type Error struct {
	Reason decision.Reason
	// Expected and Found are for the operator.
	Expected, Found string
	// Cert is the certificate that is at fault, if one is.
	Cert *x509.Certificate
	Err  error
}

func (e *Error) Error() string { panic("contract") }

func (e *Error) Unwrap() error { return e.Err }

// A Chain is what the peer presented.
type Chain struct {
	Leaf *x509.Certificate
	// Rest is what came after the leaf, in any order; nothing in it is an anchor.
	Rest []*x509.Certificate
	// Digest is the SHA-256 that names Leaf and Rest together
	// (certsource.Presented.Digest). If zero, Verify computes it.
	Digest [sha256.Size]byte
}

// A Policy says what the certificates of an anchor set must be like. The zero
// value is the default policy.
type Policy struct {
	// MaxChain bounds the presented certificates, leaf included. If zero, 10.
	MaxChain int
	// MinRSABits is the smallest RSA key. If zero, 2048; less is refused.
	MinRSABits int
	// AllowCALeaf accepts a leaf that is a CA certificate.
	AllowCALeaf bool
	// ... the owner of this room extends it (issue: key kinds, signature algorithms)
}

// A Set is a named list of trust anchors.
type Set struct {
	Name string
	// Anchors may issue client certificates. At least one.
	Anchors []*x509.Certificate
	// Helpers are intermediates that complete a path. They are never anchors.
	Helpers []*x509.Certificate
	Policy  Policy
	// Revocation judges certificates that have a valid path. If nil, no check.
	Revocation RevocationChecker
}

// A RevocationChecker judges the certificates of a valid path.
type RevocationChecker interface {
	// CheckRevocation is given a path from leaf to anchor. It returns until when
	// the answer holds (zero: as long as the path), or an *Error with reason
	// Revoked or RevocationUnknown.
	CheckRevocation(ctx context.Context, path []*x509.Certificate) (until time.Time, err error)
	// Generation changes when an answer may have changed.
	Generation() uint64
}

// Config holds the settings of a [Validator]. The zero value trusts nobody.
type Config struct {
	Sets []Set
	// CacheSize bounds the cache of accepted paths, in entries. If zero, 10,000.
	CacheSize int
	// RefusalCacheSize bounds the cache of refused paths. If zero, 1,000.
	RefusalCacheSize int
	// Now returns the current time. If nil, time.Now.
	Now func() time.Time
	// Logger is told of replaced sets. If nil, slog.Default.
	Logger *slog.Logger
}

// A Validator validates paths. It is safe for concurrent use.
type Validator struct{ cfg Config }

// NewValidator reports every wrong setting at once.
func NewValidator(cfg Config) (*Validator, error) { panic("contract") }

// A Verdict is an accepted path.
type Verdict struct {
	// Path leads from the leaf to the anchor.
	Path []*x509.Certificate
	// Until is when the verdict ends: the earliest notAfter or nextUpdate.
	Until time.Time
	// Generation is that of the anchor set.
	Generation uint64
}

// Verify judges chain by the anchors of the named set. Errors are of type *[Error].
// A verdict from the cache costs no allocation.
func (v *Validator) Verify(ctx context.Context, set string, chain Chain) (*Verdict, error) {
	panic("contract")
}

// HasSet reports whether there is an anchor set with the name.
func (v *Validator) HasSet(name string) bool { panic("contract") }

// Replace exchanges a whole set, or adds it, at run time. The next request is
// judged by the new one.
func (v *Validator) Replace(s Set) error { panic("contract") }

// Remove takes a set away; its clients are refused with reason NoAnchors.
func (v *Validator) Remove(name string) { panic("contract") }
