// Package memstore is an [authserver.GrantStore] in memory, for tests, for trying things
// out and for servers whose clients all stand in the configuration. What it holds
// ends with the process: revocations and used assertions are forgotten on restart,
// so that a server with tokens that outlive it needs a store on disk.
package memstore

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/certbound/certbound/authserver"
)

// maxChanges bounds how many changed ids the change feed remembers. Whoever asks for
// older ones is told that the answer is incomplete.
const maxChanges = 10_000

var errClosed = errors.New("memstore: the store is closed")

// A Store keeps everything in maps. The zero value is not usable; see [New]. It is
// safe for concurrent use. Nothing that goes in or out is shared with the caller.
type Store struct {
	mu     sync.RWMutex
	closed bool

	clients map[string]*authserver.Client
	ids     []string // sorted ids of clients, or nil if they changed since
	feed    feed
	keys    []authserver.SigningKey // in the order in which they were added

	tokens  expiring[[32]byte, authserver.OpaqueToken]
	revoked revocations
	used    expiring[string, struct{}]
	certs   expiring[string, authserver.CertificateRecord]
	// The thumbprints of certs by client, and by issuer and serial number.
	certsOf, certsBy map[string][]string

	people people
}

var _ authserver.GrantStore = (*Store)(nil)

// New returns an empty store.
func New() *Store {
	return &Store{
		clients: make(map[string]*authserver.Client), revoked: newRevocations(),
		certsOf: make(map[string][]string), certsBy: make(map[string][]string),
	}
}

// write takes the lock for a change, unless the caller has gone or the store is closed.
func (s *Store) write(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return errClosed
	}
	return nil
}

func (s *Store) read(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.RLock()
	if s.closed {
		s.mu.RUnlock()
		return errClosed
	}
	return nil
}

// Client implements [authserver.Store].
func (s *Store) Client(ctx context.Context, id string) (*authserver.Client, error) {
	if err := s.read(ctx); err != nil {
		return nil, err
	}
	defer s.mu.RUnlock()
	c, ok := s.clients[id]
	if !ok {
		return nil, authserver.ErrNotFound
	}
	return cloneClient(c), nil
}

// Clients implements [authserver.Store].
func (s *Store) Clients(ctx context.Context, after string, limit int) ([]*authserver.Client, error) {
	if err := s.write(ctx); err != nil { // the write lock: ids may have to be built
		return nil, err
	}
	defer s.mu.Unlock()
	if s.ids == nil {
		s.ids = make([]string, 0, len(s.clients))
		for id := range s.clients {
			s.ids = append(s.ids, id)
		}
		slices.Sort(s.ids)
	}
	i, found := slices.BinarySearch(s.ids, after)
	if found {
		i++
	}
	page := s.ids[i:]
	page = page[:min(len(page), max(limit, 0))]
	out := make([]*authserver.Client, len(page))
	for i, id := range page {
		out[i] = cloneClient(s.clients[id])
	}
	return out, nil
}

// CreateClient implements [authserver.Store].
func (s *Store) CreateClient(ctx context.Context, c *authserver.Client) error {
	if err := s.write(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	return s.create(c)
}

func (s *Store) create(c *authserver.Client) error {
	if _, ok := s.clients[c.ID]; ok {
		return authserver.ErrExists
	}
	s.put(c)
	s.ids = nil
	return nil
}

// UpdateClient implements [authserver.Store].
func (s *Store) UpdateClient(ctx context.Context, c *authserver.Client) error {
	if err := s.write(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	old, ok := s.clients[c.ID]
	switch {
	case !ok:
		return authserver.ErrNotFound
	case old.Version != c.Version:
		return authserver.ErrConflict
	}
	s.put(c)
	return nil
}

// put keeps a copy of c. The version is the number of the change, so that it never
// comes back, not even after the client was deleted and made again.
func (s *Store) put(c *authserver.Client) {
	c.Version = s.feed.changed(c.ID)
	s.clients[c.ID] = cloneClient(c)
}

// DeleteClient implements [authserver.Store].
func (s *Store) DeleteClient(ctx context.Context, id string) error {
	if err := s.write(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	if _, ok := s.clients[id]; !ok {
		return authserver.ErrNotFound
	}
	delete(s.clients, id)
	s.ids = nil
	s.feed.changed(id)
	s.endClient(id)
	return nil
}

// ClientChanges implements [authserver.Store].
func (s *Store) ClientChanges(ctx context.Context, since int64, max int) (ids []string, last int64, complete bool, err error) {
	if err := s.read(ctx); err != nil {
		return nil, 0, false, err
	}
	defer s.mu.RUnlock()
	ids, complete = s.feed.since(since, max)
	return ids, s.feed.last, complete, nil
}

// SigningKeys implements [authserver.Store].
func (s *Store) SigningKeys(ctx context.Context) ([]authserver.SigningKey, error) {
	if err := s.read(ctx); err != nil {
		return nil, err
	}
	defer s.mu.RUnlock()
	out := slices.Clone(s.keys)
	for i := range out {
		out[i].PKCS8 = slices.Clone(out[i].PKCS8)
	}
	return out, nil
}

// AddSigningKey implements [authserver.Store].
func (s *Store) AddSigningKey(ctx context.Context, k authserver.SigningKey, after string) error {
	if err := s.write(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	newest := ""
	for _, have := range s.keys {
		if have.KID == k.KID {
			return authserver.ErrExists
		}
		newest = have.KID
	}
	if newest != after {
		return authserver.ErrConflict
	}
	k.PKCS8 = slices.Clone(k.PKCS8)
	s.keys = append(s.keys, k)
	return nil
}

// DeleteSigningKey implements [authserver.Store].
func (s *Store) DeleteSigningKey(ctx context.Context, kid string) error {
	if err := s.write(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	s.keys = slices.DeleteFunc(s.keys, func(k authserver.SigningKey) bool { return k.KID == kid })
	return nil
}

// SaveToken implements [authserver.Store].
func (s *Store) SaveToken(ctx context.Context, t *authserver.OpaqueToken) error {
	if err := s.write(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	return s.saveToken(t)
}

func (s *Store) saveToken(t *authserver.OpaqueToken) error {
	kept := *t
	kept.Audience = slices.Clone(t.Audience)
	if !s.tokens.add(t.Hash, kept, t.Expires) {
		return authserver.ErrExists
	}
	return nil
}

// Token implements [authserver.Store].
func (s *Store) Token(ctx context.Context, hash [32]byte) (*authserver.OpaqueToken, error) {
	if err := s.read(ctx); err != nil {
		return nil, err
	}
	defer s.mu.RUnlock()
	e, ok := s.tokens.entries[hash]
	if !ok {
		return nil, authserver.ErrNotFound
	}
	t := e.value
	t.Audience = slices.Clone(t.Audience)
	return &t, nil
}

// UseOnce implements [authserver.Store].
func (s *Store) UseOnce(ctx context.Context, key string, expires time.Time) (bool, error) {
	if err := s.write(ctx); err != nil {
		return false, err
	}
	defer s.mu.Unlock()
	first := s.used.add(key, struct{}{}, expires)
	if !first {
		s.used.extend(key, expires)
	}
	return first, nil
}

// Sweep implements [authserver.Store].
func (s *Store) Sweep(ctx context.Context, now time.Time, limit int) (int, error) {
	if err := s.write(ctx); err != nil {
		return 0, err
	}
	defer s.mu.Unlock()
	return s.tokens.sweep(now, limit, nil) + s.revoked.sweep(now, limit) +
		s.used.sweep(now, limit, nil) + s.certs.sweep(now, limit, s.forgetCertificate) + s.people.sweep(now, limit), nil
}

// Ping implements [authserver.Store].
func (s *Store) Ping(ctx context.Context) error {
	if err := s.read(ctx); err != nil {
		return err
	}
	s.mu.RUnlock()
	return nil
}

// Close forgets everything. Later calls fail.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.clients, s.ids, s.keys = nil, nil, nil
	s.tokens, s.used, s.certs = expiring[[32]byte, authserver.OpaqueToken]{}, expiring[string, struct{}]{}, expiring[string, authserver.CertificateRecord]{}
	s.people = people{}
	s.revoked, s.certsOf, s.certsBy = revocations{}, nil, nil
	return nil
}

// cloneClient copies what is shared behind slices too. storetest fills every member
// of a Client by reflection, so that a new slice cannot be forgotten here.
func cloneClient(c *authserver.Client) *authserver.Client {
	out := *c
	out.JWKS, out.NextJWKS = slices.Clone(c.JWKS), slices.Clone(c.NextJWKS)
	out.GrantTypes = slices.Clone(c.GrantTypes)
	out.Resources = slices.Clone(c.Resources)
	out.Introspects = slices.Clone(c.Introspects)
	out.RedirectURIs, out.ResponseTypes = slices.Clone(c.RedirectURIs), slices.Clone(c.ResponseTypes)
	out.PostLogoutRedirectURIs, out.Contacts = slices.Clone(c.PostLogoutRedirectURIs), slices.Clone(c.Contacts)
	out.AllowedMethods, out.AllowedGrantTypes = slices.Clone(c.AllowedMethods), slices.Clone(c.AllowedGrantTypes)
	out.AllowedScopes = slices.Clone(c.AllowedScopes)
	return &out
}
