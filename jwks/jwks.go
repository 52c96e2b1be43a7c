// Package jwks reads JSON Web Key Sets (RFC 7517), by value and by URL: the
// certificates of self-signed clients (x5c, RFC 8705, Section 2.2.2), the keys of
// private_key_jwt clients, the keys of issuers. Fetching has limits, a cache, and a
// guard against requests into internal networks.
package jwks

import (
	"context"
	"crypto/x509"
	"net/http"
	"time"

	"github.com/go-jose/go-jose/v4"
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
	// Certificates are the DER of each usable x5c[0].
	Certificates [][]byte
	// Ignored says why keys were left out.
	Ignored []string
}

// Parse reads a key set: an object with a "keys" array. It refuses private and
// symmetric members, x5c that is not standard base64 of one certificate each, an
// x5c[0] with another key than the JWK (RFC 7517, Section 4.7), x5t and x5t#S256 that
// contradict x5c[0], and a size over 256 KiB. Errors are of type *[Error].
func Parse(data []byte, s Strictness) (*Set, error) { panic("contract") }

// FromCertificate returns a JWK with x5c for a certificate.
func FromCertificate(der []byte) (jose.JSONWebKey, error) { panic("contract") }

// An Error reports a key set that cannot be used.
type Error struct {
	Key   int // index in "keys", or -1
	Fault string
	Err   error
}

func (e *Error) Error() string { panic("contract") }

func (e *Error) Unwrap() error { return e.Err }

// FetcherConfig holds the settings of a [Fetcher].
type FetcherConfig struct {
	// Client makes the requests. If nil, one with the guard of [Guard].
	Client *http.Client
	// MinAge, MaxAge and DefaultAge bound how long an answer is used: its cache
	// headers count between MinAge and MaxAge. If zero, 1 minute, 24 hours and
	// 5 minutes.
	MinAge, MaxAge, DefaultAge time.Duration
	// RefetchEvery is the least time between two fetches of one URL that are
	// caused by a miss. If zero, 30 seconds.
	RefetchEvery time.Duration
	// Timeout bounds a fetch. If zero, 5 seconds.
	Timeout time.Duration
	// MaxBytes bounds an answer. If zero, 256 KiB.
	MaxBytes int64
	// MaxURLs bounds the cache. If zero, 10,000.
	MaxURLs int
	// Now returns the current time. If nil, time.Now.
	Now func() time.Time
}

// A Fetcher reads key sets by URL, with a cache. It is safe for concurrent use.
type Fetcher struct{ cfg FetcherConfig }

// NewFetcher returns a Fetcher.
func NewFetcher(cfg FetcherConfig) *Fetcher { return &Fetcher{cfg} }

// Get returns the set behind an https URL, from the cache if it is fresh. A fetch
// that fails leaves a good copy in use until it is older than MaxAge.
func (f *Fetcher) Get(ctx context.Context, url string) (*Set, error) { panic("contract") }

// Refetch returns a newer set after a miss. Concurrent calls for one URL make one
// request, and there is at most one in RefetchEvery; otherwise the cached set is
// returned, and fresh is false.
func (f *Fetcher) Refetch(ctx context.Context, url string) (set *Set, fresh bool, err error) {
	panic("contract")
}

// GuardConfig says which addresses may be dialled.
type GuardConfig struct {
	// AllowPrivate allows loopback, private, link-local and other special addresses.
	AllowPrivate bool
	// AllowHosts are exempt by name, with port or without.
	AllowHosts []string
	// RootCAs verifies servers. If nil, the system's.
	RootCAs *x509.CertPool
}

// Guard returns a client for addresses that strangers may name: https only, TLS 1.2
// or better, no proxy, no redirect to another host; the address is checked when it is
// dialled, after the name was resolved.
func Guard(cfg GuardConfig) *http.Client { panic("contract") }
