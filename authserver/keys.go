package authserver

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/internal/feed"
	"github.com/certbound/certbound/internal/jws"
)

// keyMargin is for clocks that differ: it is added to the lifetime of tokens before a
// key leaves the key set.
const keyMargin = 5 * time.Minute

// A keySet is what the store holds, parsed. It is immutable.
type keySet struct {
	keys   []*signingKey // oldest first
	byKID  map[string]*signingKey
	newest string // kid of the newest in the store, usable or not
	jwks   []byte
	loaded time.Time // by the wall clock, for the rate of reloads
}

type signingKey struct {
	SigningKey
	signer *jws.Signer // of access tokens
	feed   *jws.Signer // of the revocation feed
	id     *jws.Signer // of ID tokens
	public crypto.PublicKey
	leaves time.Time // when it leaves the key set; zero is never
}

// pick returns the key that signs at a time: the newest of the configured algorithm
// that may sign already, or else the newest of any.
func (ks *keySet) pick(alg string, now time.Time) *signingKey {
	var other *signingKey
	for i := len(ks.keys) - 1; i >= 0; i-- {
		k := ks.keys[i]
		if k.NotBefore.After(now) || !k.leaves.IsZero() && !now.Before(k.leaves) {
			continue
		}
		if k.Alg == alg {
			return k
		}
		if other == nil {
			other = k
		}
	}
	return other
}

// signingKey returns the key that signs now, made if there is none.
func (s *Server) signingKey(ctx context.Context, now time.Time) (*signingKey, error) {
	seen := s.keys.Load()
	if seen != nil {
		if k := seen.pick(s.cfg.SigningAlg, now); k != nil && (k.Retire.IsZero() || now.Before(k.Retire)) {
			return k, nil
		}
	}
	ks, err := s.newerKeys(ctx, seen)
	if err != nil {
		// A retired key still serves while the store cannot be reached, as long
		// as its tokens end before it leaves the key set.
		if ks = s.keys.Load(); ks == nil {
			return nil, err
		}
	}
	k := ks.pick(s.cfg.SigningAlg, now)
	if k == nil || !k.leaves.IsZero() && now.Add(s.cfg.MaxTokenLifetime).After(k.leaves) {
		return nil, errors.Join(errors.New("authserver: no signing key"), err)
	}
	return k, nil
}

// verificationKey returns the public key with a kid, or nil. A kid that is not known
// may be that of another process's new key.
func (s *Server) verificationKey(ctx context.Context, kid string) (*signingKey, error) {
	seen := s.keys.Load()
	if seen != nil {
		if k := seen.byKID[kid]; k != nil {
			return k, nil
		}
		if time.Since(seen.loaded) < 5*time.Second {
			return nil, nil
		}
	}
	ks, err := s.newerKeys(ctx, seen)
	if err != nil {
		return nil, err
	}
	return ks.byKID[kid], nil
}

// RotateKey makes a new signing key, which signs after KeyRotation.Prepublish, and
// returns its key id. The key before it stays in the key set until the tokens that
// it has signed have expired.
func (s *Server) RotateKey(ctx context.Context) (kid string, err error) {
	ks, err := s.loadKeys(ctx)
	if err != nil {
		return "", err
	}
	if ks, err = s.refreshKeys(ctx, ks.newest); err != nil {
		return "", err
	}
	return ks.newest, nil
}

// newerKeys is refreshKeys for a caller that has seen too old a set. Of many callers at once
// one reads the store, and the others take what it has read.
func (s *Server) newerKeys(ctx context.Context, seen *keySet) (*keySet, error) {
	s.keyMu.Lock()
	defer s.keyMu.Unlock()
	if ks := s.keys.Load(); ks != seen {
		return ks, nil
	}
	return s.refreshKeysLocked(ctx, "")
}

// refreshKeys reads the keys, makes one if one is needed, and deletes those that have
// left the key set. If after is set, a key is needed that is newer than that. Of
// several processes one adds the key (Store.AddSigningKey), and the others read it.
func (s *Server) refreshKeys(ctx context.Context, after string) (*keySet, error) {
	s.keyMu.Lock()
	defer s.keyMu.Unlock()
	return s.refreshKeysLocked(ctx, after)
}

func (s *Server) refreshKeysLocked(ctx context.Context, after string) (*keySet, error) {
	for range 4 {
		ks, err := s.loadKeys(ctx)
		if err != nil {
			return nil, err
		}
		now := s.cfg.Now()
		notBefore, needed := s.nextKey(ks, now)
		if !needed && after != "" && ks.newest == after {
			notBefore, needed = now.Add(s.cfg.KeyRotation.Prepublish), true
		}
		if !needed {
			s.keys.Store(ks)
			s.dropKeys(ctx, ks, now)
			return ks, nil
		}
		k, err := s.makeKey(now, notBefore)
		if err != nil {
			return nil, err
		}
		switch err := s.cfg.Store.AddSigningKey(ctx, k, ks.newest); {
		case errors.Is(err, ErrConflict): // another process was faster
		case err != nil:
			return nil, fmt.Errorf("authserver: add signing key: %w", err)
		default:
			s.cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "signing key made", slog.String("kid", k.KID),
				slog.String("alg", k.Alg), slog.Time("signs_from", k.NotBefore))
			after = ""
		}
	}
	return nil, fmt.Errorf("authserver: add signing key: %w", ErrConflict)
}

// nextKey says whether a key has to be made, and when it is to begin to sign.
func (s *Server) nextKey(ks *keySet, now time.Time) (notBefore time.Time, needed bool) {
	prepublish := s.cfg.KeyRotation.Prepublish
	active := ks.pick(s.cfg.SigningAlg, now)
	if active == nil || !active.leaves.IsZero() && now.Add(s.cfg.MaxTokenLifetime).After(active.leaves) {
		// Nothing else could sign meanwhile. Some time ago, since the clocks of other
		// processes may be behind.
		return now.Add(-keyMargin), true
	}
	var last *signingKey // the newest of our algorithm, also if it does not sign yet
	for _, k := range ks.keys {
		if k.Alg == s.cfg.SigningAlg {
			last = k
		}
	}
	switch {
	case last == nil:
		return now.Add(prepublish), true
	case last.Retire.IsZero() || now.Before(last.Retire.Add(-prepublish)):
		return time.Time{}, false
	}
	notBefore = now.Add(prepublish)
	if last.Retire.After(notBefore) {
		notBefore = last.Retire
	}
	return notBefore, true
}

func (s *Server) loadKeys(ctx context.Context) (*keySet, error) {
	stored, err := s.cfg.Store.SigningKeys(ctx)
	if err != nil {
		return nil, fmt.Errorf("authserver: signing keys: %w", err)
	}
	now := s.cfg.Now()
	ks := &keySet{byKID: make(map[string]*signingKey, len(stored)), loaded: time.Now()}
	for _, sk := range stored {
		ks.newest = sk.KID
		k, err := parseKey(sk)
		if err != nil {
			s.cfg.Logger.LogAttrs(ctx, slog.LevelError, "signing key cannot be used", slog.String("kid", sk.KID), slog.Any("cause", err))
			continue
		}
		ks.keys = append(ks.keys, k)
	}
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	for i, k := range ks.keys {
		// A key that a later one has replaced leaves when its last token ends.
		k.leaves = k.Expires
		for _, later := range ks.keys[i+1:] {
			if end := later.NotBefore.Add(s.cfg.MaxTokenLifetime + keyMargin); later.Alg == s.cfg.SigningAlg && (k.leaves.IsZero() || end.Before(k.leaves)) {
				k.leaves = end
			}
		}
		if !k.leaves.IsZero() && !now.Before(k.leaves) {
			continue
		}
		ks.byKID[k.KID] = k
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: k.public, KeyID: k.KID, Algorithm: k.Alg, Use: "sig"})
	}
	if ks.jwks, err = json.Marshal(set); err != nil {
		return nil, fmt.Errorf("authserver: key set: %w", err)
	}
	return ks, nil
}

func (s *Server) dropKeys(ctx context.Context, ks *keySet, now time.Time) {
	for _, k := range ks.keys {
		if !k.leaves.IsZero() && now.After(k.leaves.Add(keyMargin)) {
			if err := s.cfg.Store.DeleteSigningKey(ctx, k.KID); err != nil {
				s.cfg.Logger.LogAttrs(ctx, slog.LevelError, "signing key cannot be deleted", slog.String("kid", k.KID), slog.Any("cause", err))
			}
		}
	}
}

func parseKey(sk SigningKey) (*signingKey, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(sk.PKCS8)
	if err != nil {
		return nil, errors.New("not PKCS #8") // the cause might quote the key
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, errors.New("not a signing key")
	}
	signer, err := jws.NewSigner(sk.Alg, "at+jwt", sk.KID, key)
	if err != nil {
		return nil, err
	}
	feedSigner, err := jws.NewSigner(sk.Alg, feed.Type, sk.KID, key)
	if err != nil {
		return nil, err
	}
	idSigner, err := jws.NewSigner(sk.Alg, "JWT", sk.KID, key)
	if err != nil {
		return nil, err
	}
	return &signingKey{SigningKey: sk, signer: signer, feed: feedSigner, id: idSigner, public: key.Public()}, nil
}

func (s *Server) makeKey(now, notBefore time.Time) (SigningKey, error) {
	var key crypto.Signer
	var err error
	switch s.cfg.SigningAlg {
	case jws.EdDSA:
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case jws.PS256, jws.RS256:
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	default:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		return SigningKey{}, fmt.Errorf("authserver: make signing key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return SigningKey{}, fmt.Errorf("authserver: make signing key: %w", err)
	}
	jwk := jose.JSONWebKey{Key: key.Public()}
	sum, err := jwk.Thumbprint(crypto.SHA256) // RFC 7638
	if err != nil {
		return SigningKey{}, fmt.Errorf("authserver: make signing key: %w", err)
	}
	k := SigningKey{
		KID: base64.RawURLEncoding.EncodeToString(sum), Alg: s.cfg.SigningAlg, PKCS8: der,
		Created: now, NotBefore: notBefore,
	}
	if every := s.cfg.KeyRotation.Every; every > 0 {
		k.Retire = notBefore.Add(every)
		// Longer than needed: if the next key comes late, this one goes on.
		k.Expires = k.Retire.Add(2*s.cfg.MaxTokenLifetime + 2*s.cfg.KeyRotation.Prepublish + keyMargin)
	}
	return k, nil
}

// ownToken returns the payload of a JWT of the given type that this server has signed, or
// the reason why it is none. Claims are the caller's to judge.
func (s *Server) ownToken(ctx context.Context, value, typ string) (payload []byte, reason decision.Reason, err error) {
	token, err := jws.Parse(value, maxToken)
	if err != nil {
		return nil, decision.TokenMalformed, nil
	}
	if token.Typ != typ {
		return nil, decision.TokenType, nil
	}
	key, err := s.verificationKey(ctx, token.Kid)
	switch {
	case err != nil:
		return nil, "", err
	case key == nil:
		return nil, decision.TokenKeyUnknown, nil
	case token.Alg != key.Alg || token.Verify(key.public) != nil:
		return nil, decision.TokenSignature, nil
	}
	return token.Payload, "", nil
}
