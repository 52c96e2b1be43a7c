package memstore

import (
	"container/heap"
	"time"
)

// An expiring map finds its expired entries without looking at the others. The
// zero value is empty.
type expiring[K comparable, V any] struct {
	entries map[K]entry[V]
	due     dueHeap[K]
}

type entry[V any] struct {
	value   V
	expires time.Time
}

// add reports false, and changes nothing, if the key is there already.
func (m *expiring[K, V]) add(key K, value V, expires time.Time) bool {
	if _, ok := m.entries[key]; ok {
		return false
	}
	if m.entries == nil {
		m.entries = make(map[K]entry[V])
	}
	m.entries[key] = entry[V]{value, expires}
	heap.Push(&m.due, due[K]{key, expires})
	return true
}

// extend moves the end of an entry, never to an earlier time. The heap is not
// touched: sweep puts an entry back that turns out to live longer, so that extending
// it a million times still costs one place.
func (m *expiring[K, V]) extend(key K, expires time.Time) {
	if e, ok := m.entries[key]; ok && expires.After(e.expires) {
		e.expires = expires
		m.entries[key] = e
	}
}

// sweep removes at most limit entries that have expired at now, and calls gone, if set,
// with the value of each.
func (m *expiring[K, V]) sweep(now time.Time, limit int, gone func(V)) (removed int) {
	for removed < limit && len(m.due) > 0 && !m.due[0].at.After(now) {
		key := m.due[0].key
		if at := m.entries[key].expires; at.After(now) {
			m.due[0].at = at
			heap.Fix(&m.due, 0)
			continue
		}
		heap.Pop(&m.due)
		if gone != nil {
			gone(m.entries[key].value)
		}
		delete(m.entries, key)
		removed++
	}
	return removed
}

type due[K comparable] struct {
	key K
	at  time.Time
}

// A dueHeap implements [heap.Interface].
type dueHeap[K comparable] []due[K]

func (h dueHeap[K]) Len() int           { return len(h) }
func (h dueHeap[K]) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h dueHeap[K]) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *dueHeap[K]) Push(x any)        { *h = append(*h, x.(due[K])) }
func (h *dueHeap[K]) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = due[K]{}
	*h = old[:len(old)-1]
	return last
}
