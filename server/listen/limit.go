package listen

import (
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A Limit bounds the connections of a server that is none of this package.
type Limit struct {
	limit int64
	log   *slog.Logger
	stats stats
}

// NewLimit returns a limit of n connections at a time. The logger is told when it is
// reached.
func NewLimit(n int, log *slog.Logger) *Limit { return &Limit{limit: int64(n), log: log} }

// Listener returns l with the limit.
func (l *Limit) Listener(inner net.Listener) net.Listener {
	return &limited{Listener: inner, limit: l.limit, stats: &l.stats, log: l.log}
}

// Stats returns how many connections are open, and how many were refused.
func (l *Limit) Stats() (open, refused int64) { return l.stats.open.Load(), l.stats.refused.Load() }

// A limited listener closes the connections above a number. It does not let them wait:
// a client that is told so at once can go to another server, and a load balancer sees
// it.
type limited struct {
	net.Listener
	limit  int64
	stats  *stats
	log    *slog.Logger
	warned atomic.Int64 // when, in Unix seconds
}

func (l *limited) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.stats.open.Add(1) <= l.limit {
			return &counted{Conn: c, stats: l.stats}, nil
		}
		l.stats.open.Add(-1)
		refused := l.stats.refused.Add(1)
		c.Close()
		if now, last := time.Now().Unix(), l.warned.Load(); now-last >= 10 && l.warned.CompareAndSwap(last, now) {
			l.log.Warn("listen: too many connections; raise limits.connections, or find who opens them",
				"limit", l.limit, "refused", refused, "peer", c.RemoteAddr().String())
		}
	}
}

// A counted connection is counted until it is closed.
type counted struct {
	net.Conn
	stats *stats
	once  sync.Once
}

func (c *counted) Close() error {
	c.once.Do(func() { c.stats.open.Add(-1) })
	return c.Conn.Close()
}
