package pki

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/certbound/certbound/decision"
)

// A key names all that goes into a verdict. The generation of the trust stands for
// the name of the set, its anchors, helpers and policy, since no two sets ever get
// the same. The chain stands for every certificate that was presented: a leaf that
// was once sent without its intermediate must not be refused later with it.
type key struct {
	chain      [sha256.Size]byte
	trust      uint64
	revocation uint64
}

// accepted and refused are what the two caches hold. Refusals live apart, so that
// strangers, who can make as many as they like, drive no client out.
type accepted struct {
	verdict Verdict
	since   time.Time // the latest notBefore
}

// A refused holds nothing of what the stranger has sent but its digest, in the key: a
// certificate of 240 kB can take 10 MB when it is parsed.
type refused struct {
	err          Error
	place        int // of the certificate at fault in what was presented, or notPresented
	since, until time.Time
}

const notPresented = -1

func remember(e *Error, chain Chain, since, until time.Time) *refused {
	r := &refused{err: *e, place: notPresented, since: since, until: until}
	if e.Err != nil {
		r.err.Err = rememberedError(fact(e.Err.Error())) // those of crypto/x509 hold the certificate
	}
	for i := range 1 + len(chain.Rest) {
		if e.Cert != nil && e.Cert == chain.at(i) {
			r.err.Cert, r.place = nil, i
		}
	}
	return r
}

// again returns the refusal for a chain with the same digest.
func (r *refused) again(chain Chain) *Error {
	e := r.err
	if r.place != notPresented {
		e.Cert = chain.at(r.place)
	}
	return &e
}

func (c Chain) at(i int) *x509.Certificate {
	if i == 0 {
		return c.Leaf
	}
	return c.Rest[i-1]
}

// A rememberedError is the text of an error.
type rememberedError string

func (e rememberedError) Error() string { return string(e) }

// recall looks into both caches. Dates are compared on every hit.
func (v *Validator) recall(k key, chain Chain, now time.Time) (*Verdict, *Error) {
	if a, ok := v.accepted.get(k); ok && !now.After(a.verdict.Until) && !now.Before(a.since) {
		return &a.verdict, nil
	}
	if r, ok := v.refused.get(k); ok && now.Before(r.until) && !now.Before(r.since) {
		return nil, r.again(chain)
	}
	return nil, nil
}

const shards = 16

// A cache is a map that is bounded by count. Entries live in two generations of half
// the size; when the young one is full, the old one is dropped, and what is still
// asked for moves from old to young. That costs no bookkeeping on a hit.
type cache[V any] struct {
	shard []cacheShard[V]
}

type cacheShard[V any] struct {
	mu         sync.RWMutex
	half       int
	young, old map[key]V
	_          [64]byte // no two locks in one cache line
}

func (c *cache[V]) init(size int) {
	n := shards
	if size < 64*shards {
		n = 1 // too small to be cut evenly
	}
	c.shard = make([]cacheShard[V], n)
	for i := range c.shard {
		c.shard[i].half = max(1, size/n/2)
		c.shard[i].young = make(map[key]V)
	}
}

func (c *cache[V]) of(k key) *cacheShard[V] {
	// The digest is evenly spread. Who picks digests of one shard fills that
	// shard, which is bounded as well.
	return &c.shard[int(k.chain[0])%len(c.shard)]
}

func (c *cache[V]) get(k key) (V, bool) {
	s := c.of(k)
	s.mu.RLock()
	value, ok := s.young[k]
	if ok {
		s.mu.RUnlock()
		return value, true
	}
	value, ok = s.old[k]
	s.mu.RUnlock()
	if ok {
		c.put(k, value)
	}
	return value, ok
}

func (c *cache[V]) put(k key, value V) {
	s := c.of(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.young[k]; !ok && len(s.young) >= s.half {
		s.old, s.young = s.young, make(map[key]V, s.half)
	}
	s.young[k] = value
}

// len counts an entry that is both young and old twice, so it is an upper bound.
func (c *cache[V]) len() int {
	n := 0
	for i := range c.shard {
		s := &c.shard[i]
		s.mu.RLock()
		n += len(s.young) + len(s.old)
		s.mu.RUnlock()
	}
	return n
}

// flights are the validations that are under way: when a service restarts, a
// thousand connections of one client ask for the same path at once.
type flights struct {
	mu     sync.Mutex
	byKey  map[key]*flight
	judged atomic.Uint64
}

type flight struct {
	done    chan struct{}
	verdict *Verdict
	err     *Error
}

func (v *Validator) judgeOnce(ctx context.Context, t *trust, k key, chain Chain) (*Verdict, *Error) {
	v.flights.mu.Lock()
	f := v.flights.byKey[k]
	lead := f == nil
	if lead {
		// Between the look into the cache and this lock the flight before this
		// one may have landed.
		if verdict, e := v.recall(k, chain, v.cfg.Now()); verdict != nil || e != nil {
			v.flights.mu.Unlock()
			return verdict, e
		}
		f = &flight{done: make(chan struct{})}
		if v.flights.byKey == nil {
			v.flights.byKey = make(map[key]*flight)
		}
		v.flights.byKey[k] = f
	}
	v.flights.mu.Unlock()

	var gone <-chan struct{}
	switch {
	case t.revocation == nil:
		// It only computes, and not for long: nobody needs to give up.
		if lead {
			v.fly(ctx, f, t, k, chain)
		}
	case lead:
		// The first caller may go away while others wait for the answer.
		go v.fly(context.WithoutCancel(ctx), f, t, k, chain)
		fallthrough
	default:
		gone = ctx.Done()
	}
	select {
	case <-f.done:
		return f.verdict, f.err
	case <-gone:
		return nil, &Error{Reason: decision.RevocationUnknown, Set: t.name, Cert: chain.Leaf,
			Expected: "an answer before the request ends", Found: "none yet", Err: ctx.Err()}
	}
}

// fly judges and files the outcome. Whatever happens, those who wait are released,
// and a flight that ended without a verdict refuses.
func (v *Validator) fly(ctx context.Context, f *flight, t *trust, k key, chain Chain) {
	defer func() {
		if p := recover(); p != nil {
			// A defect of a RevocationChecker must end neither the process nor
			// the check.
			f.verdict, f.err = nil, &Error{Reason: decision.RevocationUnknown, Set: t.name, Cert: chain.Leaf,
				Expected: "an answer of the revocation checker", Found: "a panic", Err: fmt.Errorf("panic: %v", p)}
			v.cfg.Logger.Error("path validation panicked", "set", t.name, "panic", fmt.Sprint(p))
		}
		v.flights.mu.Lock()
		delete(v.flights.byKey, k)
		v.flights.mu.Unlock()
		close(f.done)
	}()
	v.flights.judged.Add(1)
	now := v.cfg.Now()
	a, e := v.judge(ctx, t, chain, now)
	if e != nil {
		e.Expected, e.Found = fact(e.Expected), fact(e.Found)
		f.err = e
		if until := v.forget(e, now); now.Before(until) {
			v.refused.put(k, remember(e, chain, now, until))
		}
		return
	}
	f.verdict = &a.verdict
	v.accepted.put(k, a)
}

// forget returns until when a refusal may be remembered.
func (v *Validator) forget(e *Error, now time.Time) time.Time {
	until := now.Add(v.cfg.RefusalLifetime)
	switch e.Reason {
	case decision.RevocationUnknown:
		return now // the source may be back for the next request
	case decision.NotYetValid:
		if e.Cert != nil && e.Cert.NotBefore.Before(until) {
			return e.Cert.NotBefore
		}
	}
	return until
}
