package memstore

import (
	"cmp"
	"context"
	"crypto/rand"
	"slices"
	"time"

	"github.com/certbound/certbound/authserver"
)

// revocations are revoked tokens and certificates, numbered as they change. Whoever
// reads them holds the lock of the store.
type revocations struct {
	feed string
	last int64
	// tokens and certs hold the last change of each.
	tokens expiring[string, int64]
	certs  expiring[string, *authserver.Revocation]
	// log has the changes in order. Those that a later change, or a sweep, has made
	// obsolete are dropped when they are half of it.
	log      []logged
	obsolete int
}

type logged struct {
	number int64
	key    string // jti or name
	token  bool
}

func newRevocations() revocations { return revocations{feed: rand.Text()} }

// never is when a record without an end expires.
var never = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// changed notes a change whose record has the number last+1 already. again says that an
// older change of the same record is in the log.
func (r *revocations) changed(key string, token, again bool) {
	r.last++
	r.log = append(r.log, logged{r.last, key, token})
	if again {
		r.drop()
	}
}

func (r *revocations) drop() {
	if r.obsolete++; r.obsolete > 64 && r.obsolete > len(r.log)/2 {
		r.log = slices.DeleteFunc(r.log, func(l logged) bool { return !r.current(l) })
		r.obsolete = 0
	}
}

// current reports whether a change is the last one of its record.
func (r *revocations) current(l logged) bool {
	if l.token {
		e, ok := r.tokens.entries[l.key]
		return ok && e.value == l.number
	}
	e, ok := r.certs.entries[l.key]
	return ok && e.value.Number == l.number
}

func (r *revocations) sweep(now time.Time, limit int) int {
	n := r.tokens.sweep(now, limit, nil) + r.certs.sweep(now, limit, nil)
	for range n {
		r.drop()
	}
	return n
}

// nameOf is the key of a record. A slash is in no thumbprint.
func nameOf(c *authserver.RevokedCertificate) string {
	if c.Thumbprint != "" {
		return c.Thumbprint
	}
	return bySerial(c.IssuerKeyID, c.Serial)
}

func bySerial(issuerKeyID, serial string) string { return issuerKeyID + "/" + serial }

// live returns the record with a name, unless it was restored.
func (r *revocations) live(name string) *authserver.Revocation {
	if e, ok := r.certs.entries[name]; ok && !e.value.Restored {
		return e.value
	}
	return nil
}

// put makes c the last change of its record.
func (r *revocations) put(c authserver.RevokedCertificate, restored bool) {
	name := nameOf(&c)
	expires := cmp.Or(c.Expires, never)
	rev := &authserver.Revocation{Number: r.last + 1, Certificate: c, Restored: restored, Expires: c.Expires}
	e, again := r.certs.entries[name]
	if again {
		e.value = rev
		r.certs.extend(name, expires)
	} else {
		r.certs.add(name, rev, expires)
	}
	r.changed(name, false, again)
}

// Revoke implements [authserver.Store].
func (s *Store) Revoke(ctx context.Context, jti string, expires time.Time) error {
	if err := s.write(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	s.revoked.token(jti, expires)
	return nil
}

func (r *revocations) token(jti string, expires time.Time) {
	e, again := r.tokens.entries[jti]
	switch {
	case !again:
		r.tokens.add(jti, r.last+1, expires)
		r.changed(jti, true, false)
	case expires.After(e.expires):
		e.value = r.last + 1
		r.tokens.move(jti, expires)
		r.changed(jti, true, true)
	}
}

// Revoked implements [authserver.Store].
func (s *Store) Revoked(ctx context.Context, jti string) (bool, error) {
	if err := s.read(ctx); err != nil {
		return false, err
	}
	defer s.mu.RUnlock()
	_, ok := s.revoked.tokens.entries[jti]
	return ok, nil
}

// RevokeCertificate implements [authserver.Store].
func (s *Store) RevokeCertificate(ctx context.Context, c authserver.RevokedCertificate) error {
	if err := s.write(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	c.Derived = false
	if old := s.revoked.live(nameOf(&c)); old != nil {
		later := !old.Expires.IsZero() && (c.Expires.IsZero() || c.Expires.After(old.Expires))
		if !old.Certificate.Derived && !later {
			return nil
		}
		c.At = old.Certificate.At
		if !later {
			c.Expires = old.Expires
		}
	}
	s.revoked.put(c, false)
	if c.Thumbprint != "" {
		return nil
	}
	for _, thumbprint := range s.certsBy[bySerial(c.IssuerKeyID, c.Serial)] {
		if s.revoked.live(thumbprint) == nil {
			derived := c
			derived.Thumbprint, derived.Derived = thumbprint, true
			s.revoked.put(derived, false)
		}
	}
	return nil
}

// RestoreCertificate implements [authserver.Store].
func (s *Store) RestoreCertificate(ctx context.Context, c authserver.RevokedCertificate) error {
	if err := s.write(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	old := s.revoked.live(nameOf(&c))
	if old == nil || old.Certificate.Derived {
		return authserver.ErrNotFound
	}
	if c.Thumbprint == "" {
		s.revoked.put(old.Certificate, true)
		for _, e := range s.revoked.certs.entries {
			d := e.value
			if d.Certificate.Derived && !d.Restored && d.Certificate.IssuerKeyID == c.IssuerKeyID && d.Certificate.Serial == c.Serial {
				s.revoked.put(d.Certificate, true)
			}
		}
		return nil
	}
	if known, ok := s.certs.entries[c.Thumbprint]; ok {
		if by := s.revoked.live(bySerial(known.value.IssuerKeyID, known.value.Serial)); by != nil {
			derived := by.Certificate
			derived.Thumbprint, derived.Derived = c.Thumbprint, true
			s.revoked.put(derived, false)
			return nil
		}
	}
	s.revoked.put(old.Certificate, true)
	return nil
}

// CertificateRevoked implements [authserver.Store].
func (s *Store) CertificateRevoked(ctx context.Context, thumbprint, issuerKeyID, serial string) (*authserver.RevokedCertificate, error) {
	if err := s.read(ctx); err != nil {
		return nil, err
	}
	defer s.mu.RUnlock()
	return s.certificateRevoked(thumbprint, issuerKeyID, serial)
}

func (s *Store) certificateRevoked(thumbprint, issuerKeyID, serial string) (*authserver.RevokedCertificate, error) {
	found := s.revoked.live(thumbprint)
	if found == nil && issuerKeyID != "" {
		found = s.revoked.live(bySerial(issuerKeyID, serial))
	}
	if found == nil {
		return nil, authserver.ErrNotFound
	}
	c := found.Certificate
	return &c, nil
}

// Revocations implements [authserver.Store].
func (s *Store) Revocations(ctx context.Context, since int64, limit int) (*authserver.RevocationPage, error) {
	if err := s.read(ctx); err != nil {
		return nil, err
	}
	defer s.mu.RUnlock()
	r := &s.revoked
	page := &authserver.RevocationPage{Feed: r.feed, Last: r.last}
	i, _ := slices.BinarySearchFunc(r.log, since+1, func(l logged, n int64) int { return cmp.Compare(l.number, n) })
	for ; i < len(r.log) && len(page.Entries) < limit; i++ {
		switch l := r.log[i]; {
		case !r.current(l):
		case l.token:
			page.Entries = append(page.Entries, authserver.Revocation{Number: l.number, JTI: l.key, Expires: r.tokens.entries[l.key].expires})
		default:
			page.Entries = append(page.Entries, *r.certs.entries[l.key].value)
		}
	}
	return page, nil
}

// SaveCertificate implements [authserver.Store].
func (s *Store) SaveCertificate(ctx context.Context, c authserver.CertificateRecord) error {
	if err := s.write(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	if _, err := s.certificateRevoked(c.Thumbprint, c.IssuerKeyID, c.Serial); err == nil {
		return authserver.ErrRevoked
	}
	if !s.certs.add(c.Thumbprint, c, c.TokensUntil) {
		s.certs.extend(c.Thumbprint, c.TokensUntil)
		return nil
	}
	s.certsOf[c.ClientID] = append(s.certsOf[c.ClientID], c.Thumbprint)
	by := bySerial(c.IssuerKeyID, c.Serial)
	s.certsBy[by] = append(s.certsBy[by], c.Thumbprint)
	return nil
}

func (s *Store) forgetCertificate(c authserver.CertificateRecord) {
	forget := func(m map[string][]string, key string) {
		if m[key] = slices.DeleteFunc(m[key], func(t string) bool { return t == c.Thumbprint }); len(m[key]) == 0 {
			delete(m, key)
		}
	}
	forget(s.certsOf, c.ClientID)
	forget(s.certsBy, bySerial(c.IssuerKeyID, c.Serial))
}

// Certificate implements [authserver.Store].
func (s *Store) Certificate(ctx context.Context, thumbprint string) (*authserver.CertificateRecord, error) {
	if err := s.read(ctx); err != nil {
		return nil, err
	}
	defer s.mu.RUnlock()
	if _, ok := s.certs.entries[thumbprint]; !ok {
		return nil, authserver.ErrNotFound
	}
	return new(s.certificate(thumbprint)), nil
}

func (s *Store) certificate(thumbprint string) authserver.CertificateRecord {
	e := s.certs.entries[thumbprint]
	c := e.value
	c.TokensUntil = e.expires
	return c
}

// Certificates implements [authserver.Store].
func (s *Store) Certificates(ctx context.Context, after string, limit int) ([]authserver.CertificateRecord, error) {
	if err := s.read(ctx); err != nil {
		return nil, err
	}
	defer s.mu.RUnlock()
	var page []string
	for thumbprint := range s.certs.entries {
		if thumbprint > after {
			page = append(page, thumbprint)
		}
	}
	slices.Sort(page)
	return s.records(page, limit), nil
}

// ClientCertificates implements [authserver.Store].
func (s *Store) ClientCertificates(ctx context.Context, clientID string, limit int) ([]authserver.CertificateRecord, error) {
	if err := s.read(ctx); err != nil {
		return nil, err
	}
	defer s.mu.RUnlock()
	list := slices.Clone(s.certsOf[clientID])
	slices.SortFunc(list, func(a, b string) int {
		x, y := s.certs.entries[a].value, s.certs.entries[b].value
		return cmp.Or(y.FirstSeen.Compare(x.FirstSeen), cmp.Compare(a, b))
	})
	return s.records(list, limit), nil
}

func (s *Store) records(thumbprints []string, limit int) []authserver.CertificateRecord {
	thumbprints = thumbprints[:min(len(thumbprints), max(limit, 0))]
	out := make([]authserver.CertificateRecord, len(thumbprints))
	for i, t := range thumbprints {
		out[i] = s.certificate(t)
	}
	return out
}
