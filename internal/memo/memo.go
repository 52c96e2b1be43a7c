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
	young, old map[string]V
}

// New returns a memo that holds entries of at most limit together.
func New[V any](limit int) *Memo[V] {
	return &Memo[V]{half: limit / 2, young: make(map[string]V)}
}

// Get returns the value of key.
func (m *Memo[V]) Get(key string) (V, bool) {
	m.mu.RLock()
	v, ok := m.young[key]
	if ok {
		m.mu.RUnlock()
		return v, true
	}
	v, ok = m.old[key]
	m.mu.RUnlock()
	if ok { // still in use: carry it over
		m.Put(key, v, len(key))
	}
	return v, ok
}

// Put remembers v. An entry that costs more than half the limit is not kept.
func (m *Memo[V]) Put(key string, v V, cost int) {
	if cost > m.half {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.young[key]; ok {
		m.young[key] = v
		return
	}
	if m.size+cost > m.half {
		m.old, m.young, m.size = m.young, make(map[string]V), 0
	}
	m.young[key] = v
	m.size += cost
}

// Len returns the number of entries, for tests.
func (m *Memo[V]) Len() int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return len(m.young) + len(m.old)
}
