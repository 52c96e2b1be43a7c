// Package flight lets concurrent callers share one piece of work. Unlike a plain
// mutex it lets each caller leave when its own context ends, and the work goes on for
// the others: a stranger who hangs up must not make everybody else's request fail.
package flight

import (
	"context"
	"sync"
	"time"
)

// A Group shares work by key. The zero value is ready to use. It is safe for
// concurrent use and must not be copied.
type Group[K comparable, V any] struct {
	mu    sync.Mutex
	calls map[K]*call[V]
}

type call[V any] struct {
	done chan struct{}
	val  V
	err  error
}

// Do returns what work returns. Of concurrent calls with one key, one runs its work, in
// a goroutine of its own and with a context that keeps the values of ctx, ends after
// timeout and does not end with ctx. Do returns the error of ctx if that ends first.
func (g *Group[K, V]) Do(ctx context.Context, key K, timeout time.Duration, work func(context.Context) (V, error)) (V, error) {
	c := g.start(ctx, key, timeout, work)
	select {
	case <-c.done:
		return c.val, c.err
	case <-ctx.Done():
		var none V
		return none, context.Cause(ctx)
	}
}

// Start is [Group.Do] for a caller who does not wait.
func (g *Group[K, V]) Start(ctx context.Context, key K, timeout time.Duration, work func(context.Context) (V, error)) {
	g.start(ctx, key, timeout, work)
}

func (g *Group[K, V]) start(ctx context.Context, key K, timeout time.Duration, work func(context.Context) (V, error)) *call[V] {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c, ok := g.calls[key]; ok {
		return c
	}
	if g.calls == nil {
		g.calls = make(map[K]*call[V])
	}
	c := &call[V]{done: make(chan struct{})}
	g.calls[key] = c
	go func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
		defer cancel()
		c.val, c.err = work(ctx)
		g.mu.Lock()
		delete(g.calls, key)
		g.mu.Unlock()
		close(c.done)
	}()
	return c
}
