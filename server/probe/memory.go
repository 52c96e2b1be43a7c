package probe

import (
	"context"
	"sync"
	"time"

	"github.com/certbound/certbound/authserver"
)

// MaxInMemory is how many credentials a [Memory] holds. With more, the one that ends first
// is forgotten.
const MaxInMemory = 16

// A Memory is a [Store] in memory, for a server that has no other. The zero value is ready
// to use. It is safe for concurrent use.
type Memory struct {
	// Now returns the current time. If nil, time.Now.
	Now func() time.Time

	mu     sync.Mutex
	tokens map[[32]byte]*authserver.OpaqueToken
}

// SaveToken remembers a credential.
func (m *Memory) SaveToken(_ context.Context, t *authserver.OpaqueToken) error {
	now := time.Now
	if m.Now != nil {
		now = m.Now
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.tokens == nil {
		m.tokens = map[[32]byte]*authserver.OpaqueToken{}
	}
	var first *authserver.OpaqueToken
	for hash, old := range m.tokens {
		if !now().Before(old.Expires) {
			delete(m.tokens, hash)
		} else if first == nil || old.Expires.Before(first.Expires) {
			first = old
		}
	}
	if len(m.tokens) >= MaxInMemory {
		delete(m.tokens, first.Hash)
	}
	m.tokens[t.Hash] = t
	return nil
}

// Token returns a credential, or [authserver.ErrNotFound].
func (m *Memory) Token(_ context.Context, hash [32]byte) (*authserver.OpaqueToken, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if t, ok := m.tokens[hash]; ok {
		return t, nil
	}
	return nil, authserver.ErrNotFound
}
