package authserver

// An lru is a map that forgets what was used longest ago. It is not safe for
// concurrent use; the zero value with a limit is empty.
type lru[K comparable, V any] struct {
	limit       int
	entries     map[K]*lruEntry[K, V]
	first, last *lruEntry[K, V] // first was used last
}

type lruEntry[K comparable, V any] struct {
	key        K
	value      V
	prev, next *lruEntry[K, V]
}

func (l *lru[K, V]) get(key K) (V, bool) {
	e, ok := l.entries[key]
	if !ok {
		var none V
		return none, false
	}
	if e != l.first {
		l.unlink(e)
		l.push(e)
	}
	return e.value, true
}

func (l *lru[K, V]) put(key K, value V) {
	if e, ok := l.entries[key]; ok {
		e.value = value
		l.unlink(e)
		l.push(e)
		return
	}
	if l.entries == nil {
		l.entries = make(map[K]*lruEntry[K, V])
	}
	if len(l.entries) >= l.limit {
		l.remove(l.last.key)
	}
	e := &lruEntry[K, V]{key: key, value: value}
	l.entries[key] = e
	l.push(e)
}

func (l *lru[K, V]) remove(key K) {
	if e, ok := l.entries[key]; ok {
		l.unlink(e)
		delete(l.entries, key)
	}
}

func (l *lru[K, V]) clear() { l.entries, l.first, l.last = nil, nil, nil }

func (l *lru[K, V]) push(e *lruEntry[K, V]) {
	e.prev, e.next = nil, l.first
	if l.first != nil {
		l.first.prev = e
	}
	l.first = e
	if l.last == nil {
		l.last = e
	}
}

func (l *lru[K, V]) unlink(e *lruEntry[K, V]) {
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		l.first = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	} else {
		l.last = e.prev
	}
}
