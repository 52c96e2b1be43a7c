package memstore

import (
	"container/heap"
	"time"
)

// An expiring map finds its expired entries without looking at the others. The
// zero value is empty.
type expiring[K comparable, V any] struct {
	entries map[K]*entry[K, V]
	due     dueHeap[K, V]
}

type entry[K comparable, V any] struct {
	key     K
	value   V
	expires time.Time
	index   int // in due
}

// add reports false, and changes nothing, if the key is there already.
func (m *expiring[K, V]) add(key K, value V, expires time.Time) bool {
	if _, ok := m.entries[key]; ok {
		return false
	}
	if m.entries == nil {
		m.entries = make(map[K]*entry[K, V])
	}
	e := &entry[K, V]{key: key, value: value, expires: expires}
	m.entries[key] = e
	heap.Push(&m.due, e)
	return true
}

// put adds an entry or replaces the one that is there.
func (m *expiring[K, V]) put(key K, value V, expires time.Time) {
	if e, ok := m.entries[key]; ok {
		e.value = value
		m.move(key, expires)
		return
	}
	m.add(key, value, expires)
}

// move sets the end of an entry.
func (m *expiring[K, V]) move(key K, expires time.Time) {
	if e, ok := m.entries[key]; ok {
		e.expires = expires
		heap.Fix(&m.due, e.index)
	}
}

// extend moves the end of an entry, never to an earlier time.
func (m *expiring[K, V]) extend(key K, expires time.Time) {
	if e, ok := m.entries[key]; ok && expires.After(e.expires) {
		m.move(key, expires)
	}
}

// get returns the value of a key, or the zero value.
func (m *expiring[K, V]) get(key K) (value V, ok bool) {
	e, ok := m.entries[key]
	if ok {
		value = e.value
	}
	return value, ok
}

// remove takes an entry out and reports whether it was there.
func (m *expiring[K, V]) remove(key K) bool {
	e, ok := m.entries[key]
	if ok {
		heap.Remove(&m.due, e.index)
		delete(m.entries, key)
	}
	return ok
}

// sweep removes at most limit entries that have expired at now, and calls gone, if set,
// with the value of each.
func (m *expiring[K, V]) sweep(now time.Time, limit int, gone func(V)) (removed int) {
	for removed < limit && len(m.due) > 0 && !m.due[0].expires.After(now) {
		e := m.due[0]
		m.remove(e.key)
		removed++
		if gone != nil {
			gone(e.value)
		}
	}
	return removed
}

// A dueHeap implements [heap.Interface].
type dueHeap[K comparable, V any] []*entry[K, V]

func (h dueHeap[K, V]) Len() int           { return len(h) }
func (h dueHeap[K, V]) Less(i, j int) bool { return h[i].expires.Before(h[j].expires) }
func (h dueHeap[K, V]) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *dueHeap[K, V]) Push(x any) {
	e := x.(*entry[K, V])
	e.index = len(*h)
	*h = append(*h, e)
}

func (h *dueHeap[K, V]) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return last
}
