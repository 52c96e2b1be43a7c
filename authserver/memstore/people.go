package memstore

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/certbound/certbound/authserver"
)

type hash = [32]byte

// people is what a store keeps of people. Whoever reads it holds the lock of the store.
type people struct {
	requests expiring[hash, *authserver.AuthorizationRequest]
	grants   expiring[string, *grant]
	codes    expiring[hash, *authserver.Code]
	refresh  expiring[hash, *authserver.RefreshToken]
	// issued has the grant of each access token that can still be revoked, by jti.
	issued   expiring[string, access]
	sessions expiring[hash, *authserver.Session]
	consents expiring[consentKey, *authserver.Consent]
	persons  map[string]*authserver.Person
	initial  expiring[string, *authserver.InitialToken] // by name
	byHash   map[hash]string                            // the names of initial tokens
}

// A grant has all that followed from it, so that it ends with it.
type grant struct {
	authserver.Grant
	codes, refresh map[hash]struct{}
	issued         map[string]time.Time // by jti; until when
}

type access struct{ grant, jti string }

type consentKey struct{ subject, client string }

// ends is when a grant can be forgotten: it has ended, and so have its access tokens,
// which could still have to be revoked.
func (g *grant) ends() time.Time {
	end := cmp.Or(g.Expires, never)
	if !g.Revoked.IsZero() && g.Revoked.Before(end) {
		end = g.Revoked
	}
	for _, expires := range g.issued {
		if expires.After(end) {
			end = expires
		}
	}
	return end
}

func (p *people) sweep(now time.Time, limit int) int {
	// The access tokens first, since a grant waits for them.
	return p.issued.sweep(now, limit, func(a access) {
		if g, ok := p.grants.get(a.grant); ok {
			delete(g.issued, a.jti)
			p.grants.move(a.grant, g.ends())
		}
	}) +
		p.requests.sweep(now, limit, nil) +
		p.codes.sweep(now, limit, func(c *authserver.Code) {
			if g, ok := p.grants.get(c.GrantID); ok {
				delete(g.codes, c.Hash)
			}
		}) +
		p.refresh.sweep(now, limit, func(r *authserver.RefreshToken) {
			if g, ok := p.grants.get(r.GrantID); ok {
				delete(g.refresh, r.Hash)
			}
		}) +
		p.grants.sweep(now, limit, p.forget) +
		p.sessions.sweep(now, limit, nil) +
		p.consents.sweep(now, limit, nil) +
		p.initial.sweep(now, limit, func(t *authserver.InitialToken) { delete(p.byHash, t.Hash) })
}

// forget removes what belongs to a grant that is gone.
func (p *people) forget(g *grant) {
	for h := range g.codes {
		p.codes.remove(h)
	}
	for h := range g.refresh {
		p.refresh.remove(h)
	}
	for jti := range g.issued {
		p.issued.remove(jti)
	}
}

// endClient ends what people have to do with a client that is deleted, so that nothing
// comes back with another one of the same id.
func (s *Store) endClient(id string) {
	p := &s.people
	for name, e := range p.grants.entries {
		if g := e.value; g.ClientID == id {
			s.revokeIssued(g)
			p.forget(g)
			p.grants.remove(name)
		}
	}
	for h, e := range p.requests.entries {
		if e.value.ClientID == id {
			p.requests.remove(h)
		}
	}
	for key := range p.consents.entries {
		if key.client == id {
			p.consents.remove(key)
		}
	}
}

func (s *Store) revokeIssued(g *grant) {
	for _, jti := range slices.Sorted(maps.Keys(g.issued)) {
		s.revoked.token(jti, g.issued[jti])
	}
}

// SaveRequest implements [authserver.GrantStore].
func (s *Store) SaveRequest(ctx context.Context, r *authserver.AuthorizationRequest) error {
	if err := s.write(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	kept := cloneRequest(r)
	kept.Version = 1
	if !s.people.requests.add(r.Hash, kept, r.Expires) {
		return authserver.ErrExists
	}
	r.Version = kept.Version
	return nil
}

// Request implements [authserver.GrantStore].
func (s *Store) Request(ctx context.Context, h [32]byte) (*authserver.AuthorizationRequest, error) {
	if err := s.read(ctx); err != nil {
		return nil, err
	}
	defer s.mu.RUnlock()
	r, ok := s.people.requests.get(h)
	if !ok {
		return nil, authserver.ErrNotFound
	}
	return cloneRequest(r), nil
}

// current returns the request that is kept, if it is of the version of r.
func (p *people) current(r *authserver.AuthorizationRequest) (*authserver.AuthorizationRequest, error) {
	kept, ok := p.requests.get(r.Hash)
	switch {
	case !ok:
		return nil, authserver.ErrNotFound
	case kept.Version != r.Version:
		return nil, authserver.ErrConflict
	}
	return kept, nil
}

// UpdateRequest implements [authserver.GrantStore].
func (s *Store) UpdateRequest(ctx context.Context, r *authserver.AuthorizationRequest) error {
	if err := s.write(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	kept, err := s.people.current(r)
	if err != nil {
		return err
	}
	kept.Browser, kept.Progress, kept.Expires = r.Browser, slices.Clone(r.Progress), r.Expires
	kept.Version++
	r.Version = kept.Version
	s.people.requests.move(r.Hash, r.Expires)
	return nil
}

// Authorize implements [authserver.GrantStore].
func (s *Store) Authorize(ctx context.Context, r *authserver.AuthorizationRequest, g *authserver.Grant, c *authserver.Code, consent *authserver.Consent) error {
	if err := s.write(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	p := &s.people
	if _, err := p.current(r); err != nil {
		return err
	}
	_, haveGrant := p.grants.get(g.ID)
	_, haveCode := p.codes.get(c.Hash)
	if haveGrant || haveCode {
		return authserver.ErrExists
	}
	p.requests.remove(r.Hash)
	kept := &grant{
		Grant: *cloneGrant(g),
		codes: map[hash]struct{}{c.Hash: {}}, refresh: make(map[hash]struct{}), issued: make(map[string]time.Time),
	}
	p.grants.add(g.ID, kept, kept.ends())
	p.codes.add(c.Hash, new(*c), c.Expires)
	if consent != nil {
		given := *consent
		given.Resources = slices.Clone(consent.Resources)
		p.consents.put(consentKey{given.Subject, given.ClientID}, &given, cmp.Or(given.Expires, never))
	}
	return nil
}

// DeleteRequest implements [authserver.GrantStore].
func (s *Store) DeleteRequest(ctx context.Context, h [32]byte) error {
	if err := s.write(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	if !s.people.requests.remove(h) {
		return authserver.ErrNotFound
	}
	return nil
}

// Code implements [authserver.GrantStore].
func (s *Store) Code(ctx context.Context, h [32]byte) (*authserver.Code, *authserver.Grant, error) {
	if err := s.read(ctx); err != nil {
		return nil, nil, err
	}
	defer s.mu.RUnlock()
	c, ok := s.people.codes.get(h)
	if !ok {
		return nil, nil, authserver.ErrNotFound
	}
	g, ok := s.people.grants.get(c.GrantID)
	if !ok {
		return nil, nil, authserver.ErrNotFound
	}
	return new(*c), cloneGrant(&g.Grant), nil
}

// RedeemCode implements [authserver.GrantStore].
func (s *Store) RedeemCode(ctx context.Context, h [32]byte, now time.Time, issued authserver.Issued) error {
	if err := s.write(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	c, ok := s.people.codes.get(h)
	if !ok {
		return authserver.ErrNotFound
	}
	g, ok := s.people.grants.get(c.GrantID)
	switch {
	case !ok:
		return authserver.ErrNotFound
	case !c.Used.IsZero():
		return authserver.ErrUsed
	case !g.Revoked.IsZero():
		return authserver.ErrGrantRevoked
	}
	if err := s.issue(g, issued); err != nil {
		return err
	}
	c.Used = now
	return nil
}

// issue saves what follows from a grant, all or nothing.
func (s *Store) issue(g *grant, issued authserver.Issued) error {
	p := &s.people
	if r := issued.Refresh; r != nil {
		if _, ok := p.refresh.get(r.Hash); ok {
			return authserver.ErrExists
		}
	}
	if issued.Opaque != nil {
		if err := s.saveToken(issued.Opaque); err != nil {
			return err
		}
	}
	if r := issued.Refresh; r != nil {
		kept := *r
		kept.GrantID = g.ID
		p.refresh.add(r.Hash, &kept, r.Expires)
		g.refresh[r.Hash] = struct{}{}
	}
	if issued.JTI != "" {
		g.issued[issued.JTI] = issued.Expires
		p.issued.put(issued.JTI, access{g.ID, issued.JTI}, issued.Expires)
		p.grants.move(g.ID, g.ends())
	}
	return nil
}

// RefreshToken implements [authserver.GrantStore].
func (s *Store) RefreshToken(ctx context.Context, h [32]byte) (*authserver.RefreshToken, *authserver.Grant, error) {
	if err := s.read(ctx); err != nil {
		return nil, nil, err
	}
	defer s.mu.RUnlock()
	r, ok := s.people.refresh.get(h)
	if !ok {
		return nil, nil, authserver.ErrNotFound
	}
	g, ok := s.people.grants.get(r.GrantID)
	if !ok {
		return nil, nil, authserver.ErrNotFound
	}
	return new(*r), cloneGrant(&g.Grant), nil
}

// Refresh implements [authserver.GrantStore].
func (s *Store) Refresh(ctx context.Context, h [32]byte, now time.Time, grace time.Duration, extend time.Time, issued authserver.Issued) error {
	if err := s.write(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	p := &s.people
	r, ok := p.refresh.get(h)
	if !ok {
		return authserver.ErrNotFound
	}
	g, ok := p.grants.get(r.GrantID)
	switch {
	case !ok:
		return authserver.ErrNotFound
	case !g.Revoked.IsZero():
		return authserver.ErrGrantRevoked
	case !r.Used.IsZero() && (grace < 0 || r.Used.Before(now.Add(-grace))):
		s.revokeGrant(g, now)
		return authserver.ErrUsed
	}
	if err := s.issue(g, issued); err != nil {
		return err
	}
	switch {
	case issued.Refresh == nil:
		if extend.After(r.Expires) {
			r.Expires = extend
			p.refresh.move(h, extend)
		}
	case r.Used.IsZero():
		r.Used = now
	}
	return nil
}

// Grant implements [authserver.GrantStore].
func (s *Store) Grant(ctx context.Context, id string) (*authserver.Grant, error) {
	if err := s.read(ctx); err != nil {
		return nil, err
	}
	defer s.mu.RUnlock()
	g, ok := s.people.grants.get(id)
	if !ok {
		return nil, authserver.ErrNotFound
	}
	return cloneGrant(&g.Grant), nil
}

// Grants implements [authserver.GrantStore].
func (s *Store) Grants(ctx context.Context, subject, clientID, after string, limit int) ([]*authserver.Grant, error) {
	if err := s.read(ctx); err != nil {
		return nil, err
	}
	defer s.mu.RUnlock()
	if subject == "" && clientID == "" {
		return nil, nil
	}
	var ids []string
	for id, e := range s.people.grants.entries {
		if g := e.value; id > after && g.Revoked.IsZero() &&
			(subject == "" || g.Subject == subject) && (clientID == "" || g.ClientID == clientID) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	ids = ids[:min(len(ids), max(limit, 0))]
	out := make([]*authserver.Grant, len(ids))
	for i, id := range ids {
		out[i] = cloneGrant(&s.people.grants.entries[id].value.Grant)
	}
	return out, nil
}

// RevokeGrant implements [authserver.GrantStore].
func (s *Store) RevokeGrant(ctx context.Context, id string, now time.Time) error {
	if err := s.write(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	g, ok := s.people.grants.get(id)
	if !ok {
		return authserver.ErrNotFound
	}
	s.revokeGrant(g, now)
	return nil
}

func (s *Store) revokeGrant(g *grant, now time.Time) {
	if !g.Revoked.IsZero() {
		return
	}
	g.Revoked = now
	s.revokeIssued(g)
	s.people.grants.move(g.ID, g.ends())
}

// SaveSession implements [authserver.GrantStore].
func (s *Store) SaveSession(ctx context.Context, session *authserver.Session, replaces [32]byte) error {
	if err := s.write(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	if !s.people.sessions.add(session.Hash, cloneSession(session), session.Expires) {
		return authserver.ErrExists
	}
	if replaces != session.Hash {
		s.people.sessions.remove(replaces)
	}
	return nil
}

// Session implements [authserver.GrantStore].
func (s *Store) Session(ctx context.Context, h [32]byte) (*authserver.Session, error) {
	if err := s.read(ctx); err != nil {
		return nil, err
	}
	defer s.mu.RUnlock()
	session, ok := s.people.sessions.get(h)
	if !ok {
		return nil, authserver.ErrNotFound
	}
	return cloneSession(session), nil
}

// TouchSession implements [authserver.GrantStore].
func (s *Store) TouchSession(ctx context.Context, h [32]byte, lastSeen, expires time.Time) error {
	if err := s.write(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	session, ok := s.people.sessions.get(h)
	if !ok {
		return authserver.ErrNotFound
	}
	session.LastSeen, session.Expires = lastSeen, expires
	s.people.sessions.move(h, expires)
	return nil
}

// DeleteSession implements [authserver.GrantStore].
func (s *Store) DeleteSession(ctx context.Context, h [32]byte) error {
	if err := s.write(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	s.people.sessions.remove(h)
	return nil
}

// DeleteSessions implements [authserver.GrantStore].
func (s *Store) DeleteSessions(ctx context.Context, subject string) error {
	if err := s.write(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	for h, e := range s.people.sessions.entries {
		if e.value.Subject == subject {
			s.people.sessions.remove(h)
		}
	}
	return nil
}

// Consent implements [authserver.GrantStore].
func (s *Store) Consent(ctx context.Context, subject, clientID string) (*authserver.Consent, error) {
	if err := s.read(ctx); err != nil {
		return nil, err
	}
	defer s.mu.RUnlock()
	c, ok := s.people.consents.get(consentKey{subject, clientID})
	if !ok {
		return nil, authserver.ErrNotFound
	}
	out := *c
	out.Resources = slices.Clone(c.Resources)
	return &out, nil
}

// DeleteConsent implements [authserver.GrantStore].
func (s *Store) DeleteConsent(ctx context.Context, subject, clientID string) error {
	if err := s.write(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	s.people.consents.remove(consentKey{subject, clientID})
	return nil
}

// SavePerson implements [authserver.GrantStore].
func (s *Store) SavePerson(ctx context.Context, p *authserver.Person) error {
	if err := s.write(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	if s.people.persons == nil {
		s.people.persons = make(map[string]*authserver.Person)
	}
	if have := s.people.persons[p.Subject]; have != nil && have.Disabled && !p.Disabled && !p.Updated.After(have.Updated) {
		return authserver.ErrConflict
	}
	s.people.persons[p.Subject] = clonePerson(p)
	return nil
}

// Person implements [authserver.GrantStore].
func (s *Store) Person(ctx context.Context, subject string) (*authserver.Person, error) {
	if err := s.read(ctx); err != nil {
		return nil, err
	}
	defer s.mu.RUnlock()
	p, ok := s.people.persons[subject]
	if !ok {
		return nil, authserver.ErrNotFound
	}
	return clonePerson(p), nil
}

// SaveInitialToken implements [authserver.GrantStore].
func (s *Store) SaveInitialToken(ctx context.Context, t *authserver.InitialToken) error {
	if err := s.write(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	p := &s.people
	if _, ok := p.byHash[t.Hash]; ok {
		return authserver.ErrExists
	}
	if !p.initial.add(t.Name, cloneInitial(t), t.Expires) {
		return authserver.ErrExists
	}
	if p.byHash == nil {
		p.byHash = make(map[hash]string)
	}
	p.byHash[t.Hash] = t.Name
	return nil
}

// InitialTokens implements [authserver.GrantStore].
func (s *Store) InitialTokens(ctx context.Context, after string, limit int) ([]*authserver.InitialToken, error) {
	if err := s.read(ctx); err != nil {
		return nil, err
	}
	defer s.mu.RUnlock()
	var names []string
	for name := range s.people.initial.entries {
		if name > after {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	names = names[:min(len(names), max(limit, 0))]
	out := make([]*authserver.InitialToken, len(names))
	for i, name := range names {
		out[i] = cloneInitial(s.people.initial.entries[name].value)
	}
	return out, nil
}

// InitialToken implements [authserver.GrantStore].
func (s *Store) InitialToken(ctx context.Context, h [32]byte) (*authserver.InitialToken, error) {
	if err := s.read(ctx); err != nil {
		return nil, err
	}
	defer s.mu.RUnlock()
	t, ok := s.people.initial.get(s.people.byHash[h])
	if !ok || t.Hash != h {
		return nil, authserver.ErrNotFound
	}
	return cloneInitial(t), nil
}

// RegisterClient implements [authserver.GrantStore].
func (s *Store) RegisterClient(ctx context.Context, c *authserver.Client, initial [32]byte, now time.Time) error {
	if err := s.write(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	if initial == (hash{}) {
		return s.create(c)
	}
	t, ok := s.people.initial.get(s.people.byHash[initial])
	if !ok || t.Hash != initial || t.Uses == 0 || !t.Expires.After(now) {
		return authserver.ErrUsed
	}
	if err := s.create(c); err != nil {
		return err
	}
	if t.Uses > 0 {
		t.Uses--
	}
	return nil
}

// DeleteInitialToken implements [authserver.GrantStore].
func (s *Store) DeleteInitialToken(ctx context.Context, name string) error {
	if err := s.write(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	t, ok := s.people.initial.get(name)
	if !ok {
		return authserver.ErrNotFound
	}
	s.people.initial.remove(name)
	delete(s.people.byHash, t.Hash)
	return nil
}

// The clones copy what is shared behind slices and maps. storetest fills every member
// by reflection, so that a new one cannot be forgotten here.

func cloneRequest(r *authserver.AuthorizationRequest) *authserver.AuthorizationRequest {
	out := *r
	out.Parameters, out.Progress = slices.Clone(r.Parameters), slices.Clone(r.Progress)
	return &out
}

func cloneGrant(g *authserver.Grant) *authserver.Grant {
	out := *g
	out.Resources, out.AMR = slices.Clone(g.Resources), slices.Clone(g.AMR)
	return &out
}

func cloneSession(s *authserver.Session) *authserver.Session {
	out := *s
	out.AMR = slices.Clone(s.AMR)
	return &out
}

func clonePerson(p *authserver.Person) *authserver.Person {
	out := *p
	out.Claims = maps.Clone(p.Claims)
	for name, value := range out.Claims {
		out.Claims[name] = json.RawMessage(slices.Clone(value))
	}
	return &out
}

func cloneInitial(t *authserver.InitialToken) *authserver.InitialToken {
	out := *t
	out.Methods, out.Scopes, out.Resources = slices.Clone(t.Methods), slices.Clone(t.Scopes), slices.Clone(t.Resources)
	return &out
}
