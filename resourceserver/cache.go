package resourceserver

import (
	"crypto/sha256"
	"sync"
	"time"
)

const shards = 16

// cache is a bounded map from SHA-256 to values that expire. When it is full, it gives
// up an entry that was not used lately (a clock per shard). It is safe for concurrent
// use. Keys are hashes, so the first byte spreads them; a caller cannot put an entry
// into a chosen shard without finding hashes, and only answers of the issuer enter.
type cache[V any] struct {
	shard [shards]shard[V]
}

type shard[V any] struct {
	mu    sync.Mutex
	slots map[[sha256.Size]byte]*slot[V]
	ring  []*slot[V]
	hand  int
	max   int
}

type slot[V any] struct {
	key   [sha256.Size]byte
	value V
	until time.Time
	used  bool
}

func newCache[V any](size int) *cache[V] {
	c := &cache[V]{}
	for i := range c.shard {
		c.shard[i].max = max(1, (size+shards-1)/shards)
		c.shard[i].slots = make(map[[sha256.Size]byte]*slot[V])
	}
	return c
}

func (c *cache[V]) get(key [sha256.Size]byte, now time.Time) (value V, ok bool) {
	s := &c.shard[key[0]%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.slots[key]
	if !ok || !now.Before(e.until) {
		return value, false
	}
	e.used = true
	return e.value, true
}

func (c *cache[V]) put(key [sha256.Size]byte, value V, until time.Time) {
	s := &c.shard[key[0]%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, ok := s.slots[key]; ok {
		e.value, e.until = value, until
		return
	}
	e := &slot[V]{key: key, value: value, until: until}
	if len(s.ring) < s.max {
		s.ring = append(s.ring, e)
		s.slots[key] = e
		return
	}
	for s.ring[s.hand].used { // ends: the first round clears every mark
		s.ring[s.hand].used = false
		s.hand = (s.hand + 1) % len(s.ring)
	}
	delete(s.slots, s.ring[s.hand].key)
	s.ring[s.hand] = e
	s.slots[key] = e
	s.hand = (s.hand + 1) % len(s.ring)
}

// drop forgets a value. Its slot is taken by the next one.
func (c *cache[V]) drop(key [sha256.Size]byte) {
	s := &c.shard[key[0]%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, ok := s.slots[key]; ok {
		var none V
		e.value, e.until, e.used = none, time.Time{}, false
	}
}

func (c *cache[V]) len() (n int) {
	for i := range c.shard {
		c.shard[i].mu.Lock()
		n += len(c.shard[i].slots)
		c.shard[i].mu.Unlock()
	}
	return n
}
