package sqlite

import (
	"context"
	"database/sql"
	"runtime"
	"sync"

	"github.com/certbound/certbound/authserver"
)

// maxBatch bounds how many writes go into one commit, so that no caller waits for an
// unbounded number of others.
const maxBatch = 256

// A writer owns the one connection that writes.
type writer struct {
	path    string
	db      *sql.DB
	jobs    chan *job // without a buffer: a job is either taken on or not
	closing chan struct{}
	closed  chan struct{}
	once    sync.Once
	// conn and writes are nil until the first write, and after a fault that left
	// the connection in an unknown state.
	conn   *sql.Conn
	writes *writes
}

// A job is one write.
type job struct {
	ctx context.Context
	// do makes the changes, within a transaction that it shares with others. It may
	// run more than once. An error of package authserver, unwrapped, says that it
	// has changed nothing; any other undoes the transaction.
	do   func(w *writes) error
	err  error
	done chan error
}

func newWriter(path string, db *sql.DB) *writer {
	return &writer{
		path: path, db: db,
		jobs: make(chan *job), closing: make(chan struct{}), closed: make(chan struct{}),
	}
}

// write runs do in a transaction and returns when that is on the disk. If ctx ends
// first, whether do has run is not known, and nothing that do writes to may be read.
func (w *writer) write(ctx context.Context, do func(w *writes) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	j := &job{ctx: ctx, do: do, done: make(chan error, 1)}
	select {
	case w.jobs <- j:
	case <-ctx.Done():
		return ctx.Err()
	case <-w.closing:
		return errClosed
	}
	select {
	case err := <-j.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (w *writer) close() {
	w.once.Do(func() { close(w.closing) })
	<-w.closed
}

func (w *writer) run() {
	defer close(w.closed)
	defer w.disconnect()
	batch := make([]*job, 0, maxBatch)
	for {
		select {
		case j := <-w.jobs:
			batch = w.collect(append(batch[:0], j))
		case <-w.closing:
			return
		}
		w.commit(batch)
		for i, j := range batch {
			j.done <- j.err
			batch[i] = nil
		}
	}
}

// collect adds the jobs that are waiting. Those whose callers were woken by the last
// commit are about to send: it lets them run before it goes without them, since a
// commit costs far more than that.
func (w *writer) collect(batch []*job) []*job {
	for idle := 0; idle < 3 && len(batch) < maxBatch; {
		select {
		case j := <-w.jobs:
			batch = append(batch, j)
			idle = 0
		default:
			runtime.Gosched()
			idle++
		}
	}
	return batch
}

// commit runs the jobs in one transaction, or, if one of them spoils it, each in its
// own, so that nobody pays for another's fault.
func (w *writer) commit(batch []*job) {
	err := w.transact(batch)
	if err == nil {
		return
	}
	if len(batch) == 1 {
		batch[0].err = explain(w.path, err)
		return
	}
	for i := range batch {
		batch[i].err = nil
		if err := w.transact(batch[i : i+1]); err != nil {
			batch[i].err = explain(w.path, err)
		}
	}
}

func (w *writer) transact(batch []*job) (err error) {
	// Not the context of a caller: one that leaves must not undo the others.
	ctx := context.Background()
	if err := w.connect(ctx); err != nil {
		return err
	}
	if _, err := w.writes.begin.ExecContext(ctx); err != nil {
		w.disconnect()
		return err
	}
	defer func() {
		if err == nil {
			return
		}
		// Some faults have undone the transaction already, and this one fails; a new
		// connection is in a known state.
		if _, rollbackErr := w.writes.rollback.ExecContext(ctx); rollbackErr != nil {
			w.disconnect()
		}
	}()
	changed := false
	for _, j := range batch {
		if j.err = j.ctx.Err(); j.err != nil {
			continue
		}
		switch j.err = j.do(w.writes); j.err {
		case nil:
			changed = true
		case authserver.ErrNotFound, authserver.ErrExists, authserver.ErrConflict, authserver.ErrRevoked,
			authserver.ErrUsed, authserver.ErrGrantRevoked:
		default:
			return j.err
		}
	}
	if !changed {
		_, err = w.writes.rollback.ExecContext(ctx)
		return err
	}
	_, err = w.writes.commit.ExecContext(ctx)
	return err
}

func (w *writer) connect(ctx context.Context) error {
	if w.conn != nil {
		return nil
	}
	conn, err := w.db.Conn(ctx)
	if err != nil {
		return err
	}
	writes := new(writes)
	if err := prepare(writes.statements(), func(text string) (*sql.Stmt, error) { return conn.PrepareContext(ctx, text) }); err != nil {
		conn.Close()
		return err
	}
	w.conn, w.writes = conn, writes
	return nil
}

func (w *writer) disconnect() {
	if w.conn == nil {
		return
	}
	for _, s := range w.writes.statements() {
		(*s.stmt).Close()
	}
	// Raw with a bad connection takes it out of the pool: it may be within a
	// transaction.
	w.conn.Raw(func(any) error { return errBadConn })
	w.conn.Close()
	w.conn, w.writes = nil, nil
}
