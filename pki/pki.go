// Package pki says whether a client certificate is genuine: whether it has a valid
// path to a trust anchor that is configured for this client (RFC 5280, Section 6;
// RFC 8705, Sections 2.1 and 7.4). Which client it is, is a question for others.
//
// Paths are built and validated by crypto/x509, per request and not per handshake,
// against a named set of anchors ([Set]). What this package adds is what RFC 5280
// leaves to its user: which anchors, which keys and algorithms, what a client's leaf
// must be like, a hook for revocation, limits, a cache of verdicts, and an answer
// to the question why a certificate was refused ([Error]).
//
// Nothing configured means that nobody is trusted. The roots of the operating
// system are never used.
package pki

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/certbound/certbound/decision"
)

// An Error is a certificate that is refused, or a setting that cannot be used. It
// may be shared by several callers and must not be changed.
type Error struct {
	Reason decision.Reason
	// Set is the name of the anchor set.
	Set string
	// Expected and Found are for the operator.
	Expected, Found string
	// Cert is the certificate that is at fault, if one is.
	Cert *x509.Certificate
	Err  error
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("pki: ")
	if e.Set != "" {
		fmt.Fprintf(&b, "anchor set %q: ", e.Set)
	}
	if e.Cert != nil {
		fmt.Fprintf(&b, "certificate %s: ", nameOf(e.Cert))
	}
	b.WriteString(e.Reason.Summary())
	if e.Expected != "" {
		b.WriteString(": expected " + e.Expected)
	}
	if e.Found != "" {
		b.WriteString(", found " + e.Found)
	}
	// What crypto/x509 says has been said better by then.
	if e.Err != nil && (e.Found == "" || e.Reason == decision.RevocationUnknown || e.Reason == decision.PathInvalid) {
		b.WriteString(": " + cut(e.Err.Error()))
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// A Chain is what the peer presented.
type Chain struct {
	Leaf *x509.Certificate
	// Rest is what came after the leaf, in any order; nothing in it is an anchor.
	Rest []*x509.Certificate
	// Digest is the SHA-256 that names Leaf and Rest together
	// (certsource.Presented.Digest). If zero, Verify computes it. Verdicts are
	// remembered under it, so it must never come from the peer.
	Digest [sha256.Size]byte
}

func (c Chain) digest() [sha256.Size]byte {
	if c.Digest != [sha256.Size]byte{} {
		return c.Digest
	}
	sum := sha256.Sum256(c.Leaf.Raw)
	if len(c.Rest) == 0 {
		return sum
	}
	h := sha256.New()
	h.Write(sum[:])
	for _, cert := range c.Rest {
		sum = sha256.Sum256(cert.Raw)
		h.Write(sum[:])
	}
	h.Sum(sum[:0])
	return sum
}

// A Set is a named list of trust anchors.
type Set struct {
	Name string
	// Anchors may issue client certificates. At least one, each a CA unless the
	// policy says AllowPinnedLeaf. An anchor is the very certificate: a CA of the
	// same name with another key is not trusted (RFC 8705, Section 7.4).
	Anchors []*x509.Certificate
	// Helpers are intermediates that complete a path. They are never anchors.
	Helpers []*x509.Certificate
	Policy  Policy
	// Revocation judges certificates that have a valid path. If nil, no check.
	Revocation RevocationChecker
}

// A RevocationChecker judges the certificates of a valid path. It must be safe for
// concurrent use.
type RevocationChecker interface {
	// CheckRevocation is given a path from leaf to anchor. It returns until when
	// the answer holds (zero: as long as the path), or an *Error with reason
	// Revoked or RevocationUnknown. Any other error counts as RevocationUnknown.
	// The context ends after Config.RevocationTimeout; it does not end with the
	// request, since other requests may wait for the same answer.
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
	// RefusalLifetime is how long a refusal is remembered. If zero, 30 seconds.
	// A refusal because revocation could not be checked is never remembered.
	RefusalLifetime time.Duration
	// RevocationTimeout bounds one call of a RevocationChecker. If zero, 10
	// seconds.
	RevocationTimeout time.Duration
	// Now returns the current time. If nil, time.Now.
	Now func() time.Time
	// Logger is told of replaced sets. If nil, slog.Default.
	Logger *slog.Logger
}

// A Validator validates paths. It is safe for concurrent use.
type Validator struct {
	cfg Config

	// trusts is replaced as a whole, so that Verify takes no lock for it.
	trusts     atomic.Pointer[map[string]*trust]
	mu         sync.Mutex // held by whoever replaces trusts
	generation uint64     // the last that was given out

	accepted cache[*accepted]
	refused  cache[*refused]
	flights  flights
}

// A trust is a Set that is ready for use.
type trust struct {
	name       string
	generation uint64 // never given out twice, so it stands for name, anchors, helpers and policy
	anchors    []*x509.Certificate
	helpers    []*x509.Certificate
	roots      *x509.CertPool // never nil: crypto/x509 would take the system roots
	known      *x509.CertPool // the helpers
	policy     rules
	revocation RevocationChecker
}

// NewValidator reports every wrong setting at once, each as an *[Error].
func NewValidator(cfg Config) (*Validator, error) {
	cfg.CacheSize = cmp.Or(cfg.CacheSize, 10_000)
	cfg.RefusalCacheSize = cmp.Or(cfg.RefusalCacheSize, 1_000)
	cfg.RefusalLifetime = cmp.Or(cfg.RefusalLifetime, 30*time.Second)
	cfg.RevocationTimeout = cmp.Or(cfg.RevocationTimeout, 10*time.Second)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	var faults []error
	for _, limit := range []struct {
		name  string
		value int64
	}{
		{"CacheSize", int64(cfg.CacheSize)},
		{"RefusalCacheSize", int64(cfg.RefusalCacheSize)},
		{"RefusalLifetime", int64(cfg.RefusalLifetime)},
		{"RevocationTimeout", int64(cfg.RevocationTimeout)},
	} {
		if limit.value < 0 {
			faults = append(faults, &Error{Reason: decision.BadSetting,
				Expected: limit.name + " of zero or more", Found: fmt.Sprint(limit.value)})
		}
	}
	v := &Validator{cfg: cfg}
	sets := make(map[string]*trust, len(cfg.Sets))
	for _, s := range cfg.Sets {
		t, err := newTrust(s, cfg.Now())
		if err == nil && sets[s.Name] != nil {
			err = &Error{Reason: decision.BadSetting, Set: s.Name,
				Expected: "each name once", Found: "two sets with this name"}
		}
		if err != nil {
			faults = append(faults, err)
			continue
		}
		v.generation++
		t.generation = v.generation
		sets[s.Name] = t
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	v.cfg.Sets = nil // they live in trusts from now on
	v.trusts.Store(&sets)
	v.accepted.init(cfg.CacheSize)
	v.refused.init(cfg.RefusalCacheSize)
	return v, nil
}

// newTrust reports every fault of s at once.
func newTrust(s Set, now time.Time) (*trust, error) {
	var faults []error
	fault := func(reason decision.Reason, cert *x509.Certificate, expected, found string) {
		faults = append(faults, &Error{Reason: reason, Set: s.Name, Cert: cert, Expected: expected, Found: found})
	}
	if s.Name == "" {
		fault(decision.BadSetting, nil, "a name of the anchor set", "none")
	}
	if len(s.Anchors) == 0 {
		fault(decision.NoAnchors, nil, "at least one anchor; the system roots are never used in their place", "none")
	}
	policy, wrong := s.Policy.rules()
	for _, w := range wrong {
		fault(decision.BadSetting, nil, w.expected, w.found)
	}
	t := &trust{
		name: s.Name, policy: policy, revocation: s.Revocation,
		anchors: slices.Clone(s.Anchors), helpers: slices.Clone(s.Helpers),
		roots: x509.NewCertPool(), known: x509.NewCertPool(),
	}
	current := 0
	for i, cert := range t.anchors {
		if cert == nil || len(cert.Raw) == 0 {
			fault(decision.CertificateUnparsed, nil, "parsed certificates", fmt.Sprintf("anchor %d is not", i+1))
			continue
		}
		if !isCA(cert) && !s.Policy.AllowPinnedLeaf {
			fault(decision.NotCA, cert, "a CA certificate (basic constraints with cA) as anchor; "+
				"AllowPinnedLeaf trusts an end-entity certificate by itself", "no CA certificate")
		}
		if len(wrong) == 0 {
			if e := policy.key(cert); e != nil {
				fault(e.Reason, cert, e.Expected, e.Found)
			}
		}
		if !now.After(cert.NotAfter) {
			current++
		}
		t.roots.AddCert(cert)
	}
	if len(t.anchors) > 0 && current == 0 && len(faults) == 0 {
		last := slices.MaxFunc(t.anchors, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) })
		fault(decision.Expired, last, "an anchor that is still valid at "+stamp(now),
			"all have expired, the last at "+stamp(last.NotAfter))
	}
	for i, cert := range t.helpers {
		if cert == nil || len(cert.Raw) == 0 {
			fault(decision.CertificateUnparsed, nil, "parsed certificates", fmt.Sprintf("helper %d is not", i+1))
			continue
		}
		if !isCA(cert) {
			fault(decision.NotCA, cert, "a CA certificate (basic constraints with cA) as helper", "no CA certificate")
		}
		t.known.AddCert(cert)
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return t, nil
}

// A Verdict is an accepted path. It may be shared by several callers and must not be
// changed.
type Verdict struct {
	// Path leads from the leaf to the anchor. The first is always the
	// certificate that was presented as the leaf.
	Path []*x509.Certificate
	// Until is when the verdict ends: the earliest notAfter or nextUpdate.
	Until time.Time
	// Generation is that of the anchor set. It is never used twice.
	Generation uint64
}

// Verify judges chain by the anchors of the named set. Errors are of type *[Error].
// A verdict from the cache costs no allocation. If many callers ask for the same
// chain at once, the path is validated once; each waits no longer than its ctx.
func (v *Validator) Verify(ctx context.Context, set string, chain Chain) (*Verdict, error) {
	t := (*v.trusts.Load())[set]
	if t == nil {
		return nil, v.noSet(set)
	}
	if e := t.admit(chain); e != nil {
		return nil, e
	}
	k := key{chain: chain.digest(), trust: t.generation}
	if t.revocation != nil {
		// Read before the check: an answer that is older than it looks is then
		// filed where nobody asks any more.
		k.revocation = t.revocation.Generation()
	}
	now := v.cfg.Now()
	if verdict, e := v.recall(k, chain, now); verdict != nil {
		return verdict, nil
	} else if e != nil {
		return nil, e
	}
	verdict, e := v.judgeOnce(ctx, t, k, chain)
	if e != nil {
		return nil, e
	}
	return verdict, nil
}

func (v *Validator) noSet(set string) *Error {
	names := slices.Sorted(maps.Keys(*v.trusts.Load()))
	found := "no anchor set at all"
	if len(names) > 0 {
		found = fmt.Sprintf("%d other anchor sets", len(names))
		if len(names) <= 10 {
			found = fmt.Sprintf("anchor sets %q", names)
		}
	}
	return &Error{Reason: decision.NoAnchors, Set: set, Expected: fmt.Sprintf("an anchor set named %q", set), Found: found}
}

// HasSet reports whether there is an anchor set with the name.
func (v *Validator) HasSet(name string) bool {
	_, ok := (*v.trusts.Load())[name]
	return ok
}

// SetNames returns the names of the anchor sets, sorted.
func (v *Validator) SetNames() []string {
	return slices.Sorted(maps.Keys(*v.trusts.Load()))
}

// Replace exchanges a whole set, or adds it, at run time. The next request is
// judged by the new one, whatever connection it comes on. If s has a fault, the
// old set stays and the fault is returned, as by [NewValidator].
func (v *Validator) Replace(s Set) error {
	t, err := newTrust(s, v.cfg.Now())
	if err != nil {
		return err
	}
	v.exchange(s.Name, t)
	v.cfg.Logger.Info("trust anchors in use", "set", s.Name, "anchors", len(t.anchors),
		"helpers", len(t.helpers), "generation", t.generation)
	return nil
}

// Remove takes a set away; its clients are refused with reason NoAnchors.
func (v *Validator) Remove(name string) {
	if v.HasSet(name) {
		v.exchange(name, nil)
		v.cfg.Logger.Warn("trust anchors removed", "set", name)
	}
}

func (v *Validator) exchange(name string, t *trust) {
	v.mu.Lock()
	defer v.mu.Unlock()
	sets := maps.Clone(*v.trusts.Load())
	v.generation++
	if t == nil {
		delete(sets, name)
	} else {
		t.generation = v.generation
		sets[name] = t
	}
	v.trusts.Store(&sets)
}

// Generation grows whenever a set is replaced, added or removed. It never goes back.
func (v *Validator) Generation() uint64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.generation
}

// Stats counts what a [Validator] has done since it was made.
type Stats struct {
	// Judged counts the paths that were validated: those not found in a cache.
	Judged uint64
	// Accepted and Refused are the sizes of the two caches, in entries.
	Accepted, Refused int
}

// Stats returns the counters.
func (v *Validator) Stats() Stats {
	return Stats{Judged: v.flights.judged.Load(), Accepted: v.accepted.len(), Refused: v.refused.len()}
}

func isCA(cert *x509.Certificate) bool { return cert.BasicConstraintsValid && cert.IsCA }

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
