package accounts

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/certbound/certbound/authserver"
)

// A Memory is a [Store] that ends with the process, for tests. The zero value is empty
// and ready for use. It is safe for concurrent use.
type Memory struct {
	mu    sync.Mutex
	users map[string]*User
	last  int64 // version
}

var _ Store = (*Memory)(nil)

func cloneUser(u *User) *User {
	out := *u
	out.Claims = maps.Clone(u.Claims)
	for name, value := range out.Claims {
		out.Claims[name] = json.RawMessage(slices.Clone(value))
	}
	return &out
}

// CreateUser implements [Store].
func (m *Memory) CreateUser(ctx context.Context, u *User) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, have := range m.users {
		if have.Name == u.Name || have.Subject == u.Subject {
			return authserver.ErrExists
		}
	}
	if m.users == nil {
		m.users = make(map[string]*User)
	}
	m.last++
	u.Version = m.last
	m.users[u.Name] = cloneUser(u)
	return nil
}

// with calls do with an account, which it may change.
func (m *Memory) with(ctx context.Context, name string, do func(u *User) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	u, ok := m.users[name]
	if !ok {
		return authserver.ErrNotFound
	}
	return do(u)
}

// User implements [Store].
func (m *Memory) User(ctx context.Context, name string) (out *User, err error) {
	err = m.with(ctx, name, func(u *User) error { out = cloneUser(u); return nil })
	return out, err
}

// Users implements [Store].
func (m *Memory) Users(ctx context.Context, after string, limit int) ([]*User, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []*User
	for _, name := range slices.Sorted(maps.Keys(m.users)) {
		if name > after && len(out) < limit {
			out = append(out, cloneUser(m.users[name]))
		}
	}
	return out, nil
}

// UpdateUser implements [Store].
func (m *Memory) UpdateUser(ctx context.Context, u *User) error {
	return m.with(ctx, u.Name, func(have *User) error {
		if have.Version != u.Version {
			return authserver.ErrConflict
		}
		for name, other := range m.users {
			if name != u.Name && other.Subject == u.Subject {
				return authserver.ErrExists
			}
		}
		m.last++
		u.Version = m.last
		kept := cloneUser(u)
		kept.Failures, kept.LockedUntil = have.Failures, have.LockedUntil
		m.users[u.Name] = kept
		return nil
	})
}

// RecordFailure implements [Store].
func (m *Memory) RecordFailure(ctx context.Context, name string, lockedUntil func(failures int) time.Time) error {
	return m.with(ctx, name, func(u *User) error {
		u.Failures++
		u.LockedUntil = lockedUntil(u.Failures)
		return nil
	})
}

// ClearFailures implements [Store].
func (m *Memory) ClearFailures(ctx context.Context, name string) error {
	return m.with(ctx, name, func(u *User) error {
		u.Failures, u.LockedUntil = 0, time.Time{}
		return nil
	})
}

// DeleteUser implements [Store].
func (m *Memory) DeleteUser(ctx context.Context, name string) error {
	return m.with(ctx, name, func(*User) error { delete(m.users, name); return nil })
}
