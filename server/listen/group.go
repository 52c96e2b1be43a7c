package listen

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// A Group serves several listeners together: they begin, and end, as one. The zero
// value is ready to use.
type Group struct {
	// Grace bounds how long requests may take to finish at the end. If zero, 10 s.
	Grace time.Duration
	// Draining is called at the end, before the listeners close, so that readiness
	// can say so; DrainFor is how long they stay open after that, for load balancers
	// to notice.
	Draining func()
	DrainFor time.Duration
	// Logger is told when the end begins. If nil, slog.Default.
	Logger *slog.Logger

	members []member
}

type member struct {
	server   Member
	listener net.Listener
}

// A Member is what a [Group] serves: a [Server], or one of another protocol that ends like
// one.
type Member interface {
	Name() string
	// Serve returns [http.ErrServerClosed] after Shutdown.
	Serve(l net.Listener) error
	Shutdown(ctx context.Context) error
}

// Add adds a server with its listener, which is open already: if one of several
// addresses cannot be opened, none is served.
func (g *Group) Add(s Member, l net.Listener) { g.members = append(g.members, member{s, l}) }

// Run serves until ctx ends, or until a listener fails. Then it closes all listeners
// and returns when the requests are done, or after Grace. It returns nil if ctx was the
// reason and no request had to be cut off.
func (g *Group) Run(ctx context.Context) error {
	log := g.Logger
	if log == nil {
		log = slog.Default()
	}
	grace := g.Grace
	if grace <= 0 {
		grace = 10 * time.Second
	}
	failed := make(chan error, len(g.members))
	var serving sync.WaitGroup
	for _, m := range g.members {
		serving.Go(func() {
			if err := m.server.Serve(m.listener); !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("listen: %s (%s): %w", m.server.Name(), m.listener.Addr(), err)
			}
		})
	}
	var errs []error
	select {
	case <-ctx.Done():
		log.Info("listen: stopping", "grace", grace.String())
		if g.Draining != nil {
			g.Draining()
		}
		if g.DrainFor > 0 {
			time.Sleep(g.DrainFor)
		}
	case err := <-failed:
		errs = append(errs, err)
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	var mu sync.Mutex
	var stopping sync.WaitGroup
	for _, m := range g.members {
		stopping.Go(func() {
			if err := m.server.Shutdown(end); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, fmt.Errorf("listen: %s: requests were cut off after %v: %w", m.server.Name(), grace, err))
			}
		})
	}
	stopping.Wait()
	serving.Wait()
	return errors.Join(errs...)
}
