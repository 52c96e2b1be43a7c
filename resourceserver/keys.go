package resourceserver

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/certbound/certbound/internal/flight"
	"github.com/certbound/certbound/internal/jws"
	"github.com/certbound/certbound/internal/metadata"
	"github.com/certbound/certbound/jwks"
)

// issuerKeys holds the keys that an issuer publishes. Requests read a snapshot without
// a lock; a stale one is renewed in the background, so that no request waits for an
// issuer that is slow, and none fails because it is down.
type issuerKeys struct {
	issuer  string
	uri     string // configured; empty: discovered
	client  *http.Client
	fetcher *jwks.Fetcher
	every   time.Duration // a snapshot is renewed when it is older
	maxAge  time.Duration // a snapshot that could not be renewed is dropped when it is older
	retry   time.Duration // the least time between two attempts when one has failed
	timeout time.Duration
	now     func() time.Time
	logger  *slog.Logger

	snapshot atomic.Pointer[keySnapshot]
	failed   atomic.Pointer[loadFailure]
	load     flight.Group[string, *keySnapshot]
	document flight.Group[string, *metadata.Document]
	metadata atomic.Pointer[fetchedMetadata]
}

type fetchedMetadata struct {
	doc *metadata.Document
	at  time.Time
}

type loadFailure struct {
	err error
	at  time.Time
}

type keySnapshot struct {
	from  *jwks.Set
	id    [sha256.Size]byte // of the keys, so that a cached verdict knows by which it was reached
	byKID map[string][]issuerKey
	all   []issuerKey
	at    time.Time
}

type issuerKey struct {
	alg string // from the JWK, or empty
	key any
}

// fits reports whether a key may verify alg. The kinds are checked again by the room
// that verifies; here they choose among keys.
func (k issuerKey) fits(alg string) bool {
	if k.alg != "" && k.alg != alg {
		return false
	}
	switch k.key.(type) {
	case *ecdsa.PublicKey:
		return alg == jws.ES256
	case *rsa.PublicKey:
		return alg == jws.PS256 || alg == jws.RS256
	case ed25519.PublicKey:
		return alg == jws.EdDSA
	}
	return false
}

func newSnapshot(set *jwks.Set, at time.Time) (*keySnapshot, error) {
	s := &keySnapshot{from: set, byKID: make(map[string][]issuerKey), at: at}
	for _, k := range set.Keys {
		if k.Use != "" && k.Use != "sig" {
			continue
		}
		key := issuerKey{k.Algorithm, k.Key}
		s.all = append(s.all, key)
		s.byKID[k.KeyID] = append(s.byKID[k.KeyID], key)
	}
	if len(s.all) == 0 {
		return nil, errors.New("resourceserver: the issuer's key set has no key for signatures")
	}
	data, err := json.Marshal(set.Keys)
	if err != nil {
		return nil, err
	}
	s.id = sha256.Sum256(data)
	return s, nil
}

// find returns the key for a header. Without kid it must be the only one that fits.
func (s *keySnapshot) find(kid, alg string) (any, bool) {
	keys := s.byKID[kid]
	if kid == "" {
		keys = s.all
	}
	var found any
	for _, k := range keys {
		if !k.fits(alg) {
			continue
		}
		if kid != "" {
			return k.key, true
		}
		if found != nil {
			return nil, false
		}
		found = k.key
	}
	return found, found != nil
}

// current returns the keys. Only before the first success does a caller wait.
func (k *issuerKeys) current(ctx context.Context) (*keySnapshot, error) {
	s := k.snapshot.Load()
	now := k.now()
	if k.fetcher == nil { // given, not fetched
		return s, nil
	}
	if s != nil && now.Sub(s.at) < k.maxAge {
		if now.Sub(s.at) >= k.every && k.mayTry(now) {
			k.load.Start(ctx, "", 2*k.timeout, k.renew)
		}
		return s, nil
	}
	if f := k.failed.Load(); f != nil && !k.mayTry(now) {
		return nil, f.err
	}
	return k.load.Do(ctx, "", 2*k.timeout, k.renew)
}

func (k *issuerKeys) mayTry(now time.Time) bool {
	f := k.failed.Load()
	return f == nil || now.Sub(f.at) >= k.retry
}

// renew asks the issuer. What it cannot renew stays until maxAge: whoever could sign
// last year is not believed for ever because the issuer is gone.
func (k *issuerKeys) renew(ctx context.Context) (s *keySnapshot, err error) {
	defer func() {
		if err == nil {
			k.failed.Store(nil)
			return
		}
		k.failed.Store(&loadFailure{err, k.now()})
		k.logger.LogAttrs(ctx, slog.LevelWarn, "resourceserver: cannot renew the issuer's keys",
			slog.String("issuer", k.issuer), slog.Any("error", err), slog.Bool("still_serving", k.snapshot.Load() != nil))
	}()
	uri, err := k.keysURI(ctx)
	if err != nil {
		return nil, err
	}
	set, err := k.fetcher.Get(ctx, uri)
	if err == nil {
		s, err = k.store(set)
	}
	return s, err
}

func (k *issuerKeys) store(set *jwks.Set) (*keySnapshot, error) {
	s, err := newSnapshot(set, k.now())
	if err == nil {
		k.snapshot.Store(s)
	}
	return s, err
}

// refetch is called for a kid that the snapshot does not have. The fetcher bounds how
// often that reaches the issuer, however many kids a stranger invents.
func (k *issuerKeys) refetch(ctx context.Context, old *keySnapshot) (*keySnapshot, error) {
	if k.fetcher == nil {
		return old, nil
	}
	if s := k.snapshot.Load(); s != nil && s != old && s.id != old.id {
		return s, nil // somebody else was faster
	}
	uri, err := k.keysURI(ctx)
	if err != nil {
		return nil, err
	}
	set, _, err := k.fetcher.Refetch(ctx, uri)
	if err != nil {
		return nil, err
	}
	// What counts is not who has fetched: another caller's fetch may have landed, and its
	// keys not be stored yet.
	if s := k.snapshot.Load(); s != nil && s.from == set {
		return s, nil
	}
	return k.store(set)
}

func (k *issuerKeys) keysURI(ctx context.Context) (string, error) {
	if k.uri != "" {
		return k.uri, nil
	}
	doc, err := k.discover(ctx)
	if err != nil {
		return "", err
	}
	if doc.JWKSURI == "" {
		return "", &metadata.Error{Issuer: k.issuer, Member: "jwks_uri", Fault: "absent; configure the address of the key set"}
	}
	return doc.JWKSURI, nil
}

// discover returns the issuer's metadata, renewed in the background as often as the
// keys. A document that cannot be renewed stays in use.
func (k *issuerKeys) discover(ctx context.Context) (*metadata.Document, error) {
	old := k.metadata.Load()
	fetch := func(ctx context.Context) (*metadata.Document, error) {
		doc, err := metadata.Fetch(ctx, k.client, k.issuer)
		switch {
		case err == nil:
			k.metadata.Store(&fetchedMetadata{doc, k.now()})
		case old != nil: // try again after retry
			k.metadata.Store(&fetchedMetadata{old.doc, k.now().Add(k.retry - k.every)})
		}
		return doc, err
	}
	if old == nil {
		return k.document.Do(ctx, "", k.timeout, fetch)
	}
	if k.now().Sub(old.at) >= k.every {
		k.document.Start(ctx, "", k.timeout, fetch)
	}
	return old.doc, nil
}
