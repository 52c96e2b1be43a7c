package telemetry

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// gatherFor is how long a record may wait for others to go out with.
	gatherFor = 10 * time.Millisecond
	// maxGathered bounds what waits, in bytes: some hundred records.
	maxGathered = 64 << 10
)

// A gatherer is the writer of a log. Records are written at once, each with one write, but
// for those that may wait: of these a busy gateway has thousands in a second, and a write
// costs more than all else about a record. The first of them after a pause is written at
// once, those that follow within gatherFor go out together. Records are never cut in two,
// and stand in the order in which they came.
type gatherer struct {
	w    io.Writer
	lost atomic.Uint64

	writing sync.Mutex // held while w is written to
	spare   []byte
	torn    bool // the last write has ended within a record

	mu      sync.Mutex // held for a moment, never for a write
	waiting []byte
	last    time.Time // the last write
	closed  bool
}

// Write writes what waits and then a record.
func (g *gatherer) Write(record []byte) (int, error) {
	g.writing.Lock()
	defer g.writing.Unlock()
	g.mu.Lock()
	out := append(g.waiting, record...)
	g.waiting, g.last = g.spare[:0], time.Now()
	g.mu.Unlock()
	if g.spare = nil; cap(out) <= 2*maxGathered {
		g.spare = out
	}
	if len(out) == 0 {
		return 0, nil
	}
	if g.torn { // a record that is cut off must not spoil the next one
		_, _ = g.w.Write([]byte("\n"))
	}
	n, err := g.w.Write(out)
	g.torn = n > 0 && out[n-1] != '\n'
	if err != nil {
		g.lost.Add(uint64(bytes.Count(out[n:], []byte("\n"))))
		return 0, err
	}
	return len(record), nil
}

// later writes a record soon. If there is no room, the caller waits for the writer.
func (g *gatherer) later(record []byte, now time.Time) error {
	g.mu.Lock()
	begins := len(g.waiting) == 0
	if g.closed || len(g.waiting)+len(record) > maxGathered || begins && now.Sub(g.last) >= gatherFor {
		g.mu.Unlock()
		_, err := g.Write(record)
		return err
	}
	g.waiting = append(g.waiting, record...)
	g.mu.Unlock()
	if begins {
		time.AfterFunc(gatherFor, func() { _, _ = g.Write(nil) }) // an error is counted
	}
	return nil
}

// close writes what waits. From then on nothing does.
func (g *gatherer) close() error {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	_, err := g.Write(nil)
	return err
}

// CloseLog writes the records that wait (see [LaterHandler]), and has those that follow
// written at once. The logger is one of [NewLogger]; it can still be used.
func CloseLog(l *slog.Logger) error {
	if h, ok := l.Handler().(*jsonHandler); ok {
		return h.out.close()
	}
	return nil
}

// LostRecords returns how many records a logger of [NewLogger] could not write as JSON, such
// as to a disk that is full.
func LostRecords(l *slog.Logger) uint64 {
	if h, ok := l.Handler().(*jsonHandler); ok {
		return h.out.lost.Load()
	}
	return 0
}

// A LaterHandler is a handler of [NewLogger] for JSON, also within [OTLP.Logger].
type LaterHandler interface {
	slog.Handler
	// LogLater writes a record of level info that may be lost if the process is killed: it
	// goes out within some milliseconds, together with others, and before any record that is
	// handled after it. [CloseLog] writes it at the end. The attributes are not kept.
	LogLater(ctx context.Context, now time.Time, text string, attrs []slog.Attr) error
}
