// Package memo remembers the results of pure functions of outside input, in bounded
// space: what was decoded from a header value, what was parsed from a registered
// name. It never decides anything.
package memo

import "sync"

// A Memo maps keys to values. Its size is bounded by the sum of the costs that
// [Memo.Put] is given: entries live in two generations, and when the young one holds
// half the limit, the old one is dropped. It is safe for concurrent use.
type Memo[V any] struct {
	half int

	mu         sync.RWMutex
	size       int // cost of young
	young, old map[string]entry[V]
}

type entry[V any] struct {
	value V
	cost  int
}

// New returns a memo that holds entries of at most limit together.
func New[V any](limit int) *Memo[V] {
	return &Memo[V]{half: limit / 2, young: make(map[string]entry[V])}
}

// Get returns the value of key.
func (m *Memo[V]) Get(key string) (V, bool) {
	m.mu.RLock()
	e, ok := m.young[key]
	if ok {
		m.mu.RUnlock()
		return e.value, true
	}
	e, ok = m.old[key]
	m.mu.RUnlock()
	if ok { // still in use: carry it over
		m.Put(key, e.value, e.cost)
	}
	return e.value, ok
}

// Put remembers v. An entry that costs more than half the limit is not kept.
func (m *Memo[V]) Put(key string, v V, cost int) {
	if cost > m.half {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.size -= m.young[key].cost // zero, if there is none
	if m.size+cost > m.half {
		m.old, m.young, m.size = m.young, make(map[string]entry[V]), 0
	}
	m.young[key] = entry[V]{v, cost}
	m.size += cost
}

// Len returns the number of entries, for tests.
func (m *Memo[V]) Len() int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return len(m.young) + len(m.old)
}
