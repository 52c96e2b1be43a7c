package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/certbound/certbound/authserver"
)

// Every fault of the file is told from the others, before the server listens.
func TestOpenFaults(t *testing.T) {
	tests := []struct {
		name    string
		path    string // below the folder; empty: "db"
		prepare func(t *testing.T, path string)
		want    error
	}{
		{name: "text", want: ErrNotDatabase, prepare: func(t *testing.T, path string) {
			write(t, path, []byte(strings.Repeat("this is a text file\n", 100)))
		}},
		{name: "a database of another program", want: ErrForeign, prepare: func(t *testing.T, path string) {
			execute(t, path, "CREATE TABLE notes (text)")
		}},
		{name: "another application id", want: ErrForeign, prepare: func(t *testing.T, path string) {
			execute(t, path, "PRAGMA application_id = 99")
		}},
		{name: "a newer schema", want: ErrNewerSchema, prepare: func(t *testing.T, path string) {
			s := open(t, filepath.Dir(path))
			s.Close()
			if err := os.Rename(filepath.Join(filepath.Dir(path), "certbound.db"), path); err != nil {
				t.Fatal(err)
			}
			execute(t, path, "INSERT INTO schema_versions (version_id, is_applied) VALUES (9999, 1)")
		}},
		{name: "open to everybody", want: ErrExposed, prepare: func(t *testing.T, path string) {
			write(t, path, nil)
			if err := os.Chmod(path, 0o644); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "a folder", want: ErrUnusable, prepare: func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "a device", want: ErrUnusable, path: os.DevNull},
		{name: "below a file", path: "file/db", want: ErrUnusable, prepare: func(t *testing.T, path string) {
			write(t, filepath.Dir(path), nil)
		}},
		{name: "a damaged file", want: ErrCorrupt, prepare: func(t *testing.T, path string) {
			s := open(t, filepath.Dir(path))
			s.Close()
			b, err := os.ReadFile(filepath.Join(filepath.Dir(path), "certbound.db"))
			if err != nil {
				t.Fatal(err)
			}
			for i := 100; i < len(b); i++ { // all but the header
				b[i] = 0xff
			}
			write(t, path, b)
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "db")
			if test.path != "" {
				path = filepath.Join(t.TempDir(), filepath.FromSlash(test.path))
			}
			if filepath.IsAbs(test.path) {
				path = test.path
			}
			if test.prepare != nil {
				test.prepare(t, path)
			}
			s, err := Open(t.Context(), Config{Path: path, BusyTimeout: 100 * time.Millisecond})
			if s != nil {
				t.Error("a store was returned beside the error")
				s.Close()
			}
			if _, ok := errors.AsType[*Error](err); !ok || !errors.Is(err, test.want) {
				t.Errorf("error %v, want %v", err, test.want)
			}
		})
	}
	if _, err := Open(t.Context(), Config{}); !errors.Is(err, ErrUnusable) {
		t.Errorf("no path: error %v, want ErrUnusable", err)
	}
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// execute runs a statement on the file as another program would.
func execute(t *testing.T, path, text string) {
	t.Helper()
	write(t, path, existing(t, path))
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(text); err != nil {
		t.Fatal(err)
	}
}

func existing(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return b
}

// Errors of the system and of the driver keep their kind.
func TestExplain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	execute(t, path, "CREATE TABLE t (x)")
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	_, readOnly := db.Exec("INSERT INTO t VALUES (1)")

	tests := []struct {
		name string
		err  error
		want error
	}{
		{"a read-only database", readOnly, ErrReadOnly},
		{"no permission", &fs.PathError{Op: "open", Path: path, Err: syscall.EACCES}, ErrReadOnly},
		{"a read-only file system", &fs.PathError{Op: "open", Path: path, Err: syscall.EROFS}, ErrReadOnly},
		{"a full file system", &fs.PathError{Op: "write", Path: path, Err: syscall.ENOSPC}, ErrFull},
		{"anything else", errors.New("x"), ErrUnusable},
		{"the end of a context", context.Canceled, context.Canceled},
		{"one that was explained", fmt.Errorf("within: %w", &Error{Path: path, Fault: ErrFull}), ErrFull},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := explain(path, test.err)
			if !errors.Is(got, test.want) || !errors.Is(got, test.err) {
				t.Errorf("got %v, want %v that wraps the cause", got, test.want)
			}
		})
	}
	if explain(path, nil) != nil {
		t.Error("no error became one")
	}
}

// The disk is full: the write that does not fit fails by name, what was acknowledged
// stays, and writing goes on by itself when there is room again.
func TestFull(t *testing.T) {
	dir := t.TempDir()
	ctx := t.Context()
	big := func(id string) *authserver.Client {
		return &authserver.Client{ID: id, Scope: strings.Repeat("x", 100_000)}
	}
	s := open(t, dir)
	if err := s.CreateClient(ctx, big("first")); err != nil {
		t.Fatal(err)
	}
	var pages int64
	if err := s.reader.QueryRowContext(ctx, "PRAGMA page_count").Scan(&pages); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := Open(ctx, Config{Path: filepath.Join(dir, "certbound.db"), settings: fmt.Sprintf("&_pragma=max_page_count(%d)", pages+5)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()

	if err := s.CreateClient(ctx, big("second")); !errors.Is(err, ErrFull) {
		t.Fatalf("error %v, want ErrFull", err)
	}
	if _, err := s.Client(ctx, "first"); err != nil {
		t.Errorf("what was acknowledged before: %v", err)
	}
	// A write that fits is not refused because of one that does not, with which it
	// shared a transaction.
	jobs := []*job{
		{ctx: ctx, do: func(w *writes) error { return w.numbered(w.revoke.Exec("fits", micros(far))) }},
		{ctx: ctx, do: func(w *writes) error { return w.insert("second", 99, strings.Repeat("x", 100_000)) }},
		{ctx: ctx, do: func(w *writes) error { return w.numbered(w.revoke.Exec("fits, too", micros(far))) }},
	}
	other := newWriter(s.path, s.writer.db)
	s.writer.close()
	other.commit(jobs)
	other.disconnect()
	if jobs[0].err != nil || jobs[2].err != nil || !errors.Is(jobs[1].err, ErrFull) {
		t.Errorf("the three of one commit: %v, %v, %v, want only the second to fail", jobs[0].err, jobs[1].err, jobs[2].err)
	}
	for _, jti := range []string{"fits", "fits, too"} {
		if is, err := s.Revoked(ctx, jti); err != nil || !is {
			t.Errorf("%s: %t, error %v", jti, is, err)
		}
	}
	s.writer = other
	go s.writer.run()
	if err := s.DeleteClient(ctx, "first"); err != nil {
		t.Errorf("making room: %v", err)
	}
	if err := s.CreateClient(ctx, big("second")); err != nil {
		t.Errorf("with room again: %v", err)
	}
}

// Another process holds the write lock for longer than the busy timeout.
func TestLocked(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(t.Context(), Config{Path: filepath.Join(dir, "certbound.db"), BusyTimeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	other := open(t, dir)
	defer other.Close()
	conn, err := other.writer.db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	if err := s.Revoke(t.Context(), "a", far); !errors.Is(err, ErrLocked) {
		t.Errorf("error %v, want ErrLocked", err)
	}
	if is, err := s.Revoked(t.Context(), "a"); err != nil || is {
		t.Errorf("reading goes on: %t, error %v, want false, none", is, err)
	}
	if _, err := conn.ExecContext(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if err := s.Revoke(t.Context(), "a", far); err != nil {
		t.Errorf("after the lock was given back: %v", err)
	}
}

// The file holds private keys: nobody else may read it, also for a moment, and the
// files beside it neither.
func TestFileMode(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "here")
	s := open(t, dir)
	defer s.Close()
	if err := s.Revoke(t.Context(), "a", far); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{"": 0o700, "certbound.db": 0o600, "certbound.db-wal": 0o600, "certbound.db-shm": 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
		} else if got := info.Mode().Perm(); got != want && runtime.GOOS != "windows" {
			t.Errorf("%q has mode %v, want %v", name, got, want)
		}
	}
}

func TestGroupIsWarnedAbout(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	write(t, path, nil)
	if err := os.Chmod(path, 0o660); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	s, err := Open(t.Context(), Config{Path: path, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if !strings.Contains(log.String(), "level=WARN") {
		t.Errorf("no warning: %s", log.String())
	}
}

// A path is a name, never a setting of the driver.
func TestPathIsEscaped(t *testing.T) {
	for _, name := range []string{"a?mode=memory", "a#b", "a%20b", "ä b", "a&_pragma=synchronous(OFF)"} {
		dir := t.TempDir()
		path := filepath.Join(dir, name)
		s, err := Open(t.Context(), Config{Path: path})
		if err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		var level int
		if err := s.writer.db.QueryRow("PRAGMA synchronous").Scan(&level); err != nil || level != 2 {
			t.Errorf("%q: synchronous is %d, error %v, want 2 (FULL)", name, level, err)
		}
		if err := s.Revoke(t.Context(), "a", far); err != nil {
			t.Errorf("%q: %v", name, err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("%q: %v", name, err)
		}
		if info, err := os.Stat(path); err != nil || info.Size() == 0 {
			t.Errorf("%q: nothing is in the file that was named: %v", name, err)
		}
	}
}

// Several processes start on an empty file at once.
func TestOpenRace(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			s, err := Open(context.Background(), Config{Path: filepath.Join(dir, "certbound.db"), Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Error(err)
				return
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// Close keeps what it has taken on; what comes later fails and does not hang.
func TestCloseWhileWriting(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	var mu sync.Mutex
	var acknowledged []string
	var wg sync.WaitGroup
	started := make(chan struct{}, 8)
	for worker := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				name := fmt.Sprintf("%d-%d", worker, i)
				if err := s.Revoke(context.Background(), name, far); err != nil {
					if !errors.Is(err, errClosed) {
						t.Errorf("error %v, want that the store is closed", err)
					}
					return
				}
				if i == 0 {
					started <- struct{}{}
				}
				mu.Lock()
				acknowledged = append(acknowledged, name)
				mu.Unlock()
			}
		})
	}
	for range 8 {
		<-started
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close again: %v", err)
	}
	wg.Wait()
	s = open(t, dir)
	defer s.Close()
	for _, name := range acknowledged {
		if is, err := s.Revoked(t.Context(), name); err != nil || !is {
			t.Errorf("acknowledged %s: %t, error %v", name, is, err)
		}
	}
}

// The writer loses its connection. The next write makes a new one.
func TestWriterRecovers(t *testing.T) {
	s := open(t, t.TempDir())
	defer s.Close()
	if err := s.Revoke(t.Context(), "a", far); err != nil {
		t.Fatal(err)
	}
	s.writer.conn.Close()
	err := s.Revoke(t.Context(), "b", far)
	if err == nil {
		t.Fatal("a write over a closed connection was acknowledged")
	}
	if err := s.Revoke(t.Context(), "b", far); err != nil {
		t.Errorf("the write after it: %v", err)
	}
}

func TestImportClients(t *testing.T) {
	s := open(t, t.TempDir())
	defer s.Close()
	ctx := t.Context()
	some := func(from, to int) func(yield func(*authserver.Client) bool) {
		return func(yield func(*authserver.Client) bool) {
			for i := from; i < to; i++ {
				if !yield(&authserver.Client{ID: fmt.Sprintf("%06d", i)}) {
					return
				}
			}
		}
	}
	if err := s.ImportClients(ctx, some(0, 2500)); err != nil {
		t.Fatal(err)
	}
	ids, last, complete, err := s.ClientChanges(ctx, 0, 10_000)
	if err != nil || !complete || len(ids) != 2500 || last != 2500 || ids[0] != "000000" || ids[2499] != "002499" {
		t.Errorf("the feed has %d ids, last %d, complete %t, error %v", len(ids), last, complete, err)
	}
	c, err := s.Client(ctx, "002499")
	if err != nil || c.Version != 2500 {
		t.Errorf("the last client has version %+v, error %v, want 2500", c, err)
	}
	if err := s.ImportClients(ctx, some(2400, 3000)); !errors.Is(err, authserver.ErrExists) {
		t.Errorf("clients that are there: error %v, want ErrExists", err)
	}
	if _, err := s.Client(ctx, "002999"); !errors.Is(err, authserver.ErrNotFound) {
		t.Errorf("a client of the failed transaction: error %v, want ErrNotFound", err)
	}
}

// Deletions are forgotten at some time. Whoever asks for older ones must be told.
func TestDeletionsAreForgotten(t *testing.T) {
	s := open(t, t.TempDir())
	defer s.Close()
	ctx := t.Context()
	err := s.write(ctx, func(w *writes) error {
		for i := range maxDeletions + 5 {
			version, err := w.changes(1)
			if err != nil {
				return err
			}
			if _, err := w.noteDeletion.Exec(fmt.Sprint(i), version); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(since int64, want int, wantComplete bool) {
		t.Helper()
		ids, _, complete, err := s.ClientChanges(ctx, since, 1_000_000)
		if err != nil || len(ids) != want || complete != wantComplete {
			t.Errorf("since %d: %d ids, complete %t, error %v, want %d, %t", since, len(ids), complete, err, want, wantComplete)
		}
	}
	ask(0, maxDeletions+5, true)
	for _, step := range []struct {
		limit int
		since int64
	}{{3, 3}, {10, 5}, {10, 5}} {
		if n, err := s.Sweep(ctx, time.Time{}, step.limit); err != nil || n != 0 {
			t.Fatalf("Sweep: %d, error %v", n, err)
		}
		ask(step.since-1, 0, false)
		ask(step.since, maxDeletions+5-int(step.since), true)
	}
}
