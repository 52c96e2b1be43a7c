// Package sqlite is an [authserver.GrantStore], and an accounts.Store, in one SQLite file: the store of a server
// on one machine. Several processes may have the file open, such as a running server
// and the command line beside it.
//
// Every write is on the disk when its method returns (write-ahead log with
// synchronous=FULL). Since a commit costs a thousand times what a row costs, one
// goroutine writes, and what has arrived meanwhile goes into one commit.
//
// The file has to lie on a local disk: the write-ahead log needs shared memory, which
// network file systems do not have.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/certbound/certbound/authserver"
)

// Config holds the settings of a [Store].
type Config struct {
	// Path is the file. It is made, with mode 0600, if it is not there, and so is
	// its folder, with mode 0700. Required.
	Path string
	// BusyTimeout bounds how long a write waits for another process that writes.
	// If zero, 5 s.
	BusyTimeout time.Duration
	// Readers bounds the connections that read. If zero, twice the number of CPUs.
	Readers int
	// Logger is told of migrations and of a file that others may read. If nil,
	// slog.Default.
	Logger *slog.Logger

	// settings are for the connection that writes, by tests that need a small disk.
	settings string
}

// A Store keeps everything in one file. It is safe for concurrent use.
type Store struct {
	path   string
	reader *sql.DB
	reads  reads
	*writer
}

var _ authserver.GrantStore = (*Store)(nil)

// Open opens the file, makes it if it is not there, and brings its schema up to date.
// Errors are of type *[Error].
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if cfg.Path == "" {
		return nil, &Error{Path: "(none)", Fault: ErrUnusable, Fix: "name the file"}
	}
	if cfg.BusyTimeout <= 0 {
		cfg.BusyTimeout = 5 * time.Second
	}
	if cfg.Readers <= 0 {
		cfg.Readers = 2 * runtime.GOMAXPROCS(0)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	path, err := filepath.Abs(cfg.Path)
	if err != nil {
		return nil, explain(cfg.Path, err)
	}
	cfg.Path = path
	if err := prepareFile(path, cfg.Logger); err != nil {
		return nil, err
	}

	db, err := sql.Open("sqlite", dsn(cfg, "_txlock=immediate&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"+cfg.settings))
	if err != nil {
		return nil, explain(path, err)
	}
	db.SetMaxOpenConns(1)
	if err := migrate(ctx, db, cfg); err != nil {
		db.Close()
		return nil, err
	}
	s := &Store{path: path, writer: newWriter(path, db)}
	if s.reader, err = sql.Open("sqlite", dsn(cfg, "_pragma=query_only(1)")); err != nil {
		db.Close()
		return nil, explain(path, err)
	}
	s.reader.SetMaxOpenConns(cfg.Readers)
	s.reader.SetMaxIdleConns(cfg.Readers)
	if err := s.reads.prepare(ctx, s.reader); err != nil {
		s.reader.Close()
		db.Close()
		return nil, explain(path, err)
	}
	go s.writer.run()
	return s, nil
}

// dsn names the file in the way of the driver. The path is escaped: a question mark
// in it must not become a setting.
func dsn(cfg Config, settings string) string {
	u := url.URL{Scheme: "file", Path: filepath.ToSlash(cfg.Path), RawQuery: "_pragma=busy_timeout(" +
		strconv.FormatInt(cfg.BusyTimeout.Milliseconds(), 10) + ")&_pragma=trusted_schema(0)&" + settings}
	if !strings.HasPrefix(u.Path, "/") {
		u.Path = "/" + u.Path // C:/…
	}
	return u.String()
}

// prepareFile makes the file and its folder, so that nobody else can read the keys in
// it, not even for a moment. SQLite gives the files beside it the same mode.
func prepareFile(path string, log *slog.Logger) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return explain(path, err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return explain(path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return explain(path, err)
	}
	if !info.Mode().IsRegular() {
		return &Error{Path: path, Fault: ErrUnusable, Fix: "expected a regular file, found " + info.Mode().Type().String()}
	}
	if runtime.GOOS == "windows" {
		return nil
	}
	switch mode := info.Mode().Perm(); {
	case mode&0o007 != 0:
		return &Error{Path: path, Fault: ErrExposed, Fix: "expected mode 0600, found 0" +
			strconv.FormatUint(uint64(mode), 8) + "; take the rights of others away (chmod o= FILE)"}
	case mode&0o070 != 0: // volumes of container systems are often shared with a group
		log.Warn("sqlite: the group of the database file has rights on it, and it holds signing keys",
			"path", path, "mode", mode.String())
	}
	return nil
}

// Close waits until every write that was taken on is on the disk, and closes the file.
// Later calls of other methods fail.
func (s *Store) Close() error {
	s.writer.close()
	return errors.Join(s.reader.Close(), s.writer.db.Close())
}

// Ping reports whether the file can be read and the writer is there.
func (s *Store) Ping(ctx context.Context) error {
	select {
	case <-s.closing:
		return errClosed
	default:
	}
	var last int64
	if err := s.reads.lastChange.QueryRowContext(ctx).Scan(&last, new(int64)); err != nil {
		return explain(s.path, err)
	}
	if _, err := os.Stat(s.path); err != nil { // removed under us: writes would go nowhere
		return explain(s.path, err)
	}
	return nil
}

// micros is a time as the schema has it. It holds every year that a certificate can
// have, which nanoseconds do not.
func micros(t time.Time) int64 { return t.UnixMicro() }

func fromMicros(n int64) time.Time { return time.UnixMicro(n).UTC() }

// quick removes the cancellation from the context of a read by key, after a last look
// at it: the driver starts a goroutine to watch a context that can end, which takes
// longer than the read.
func quick(ctx context.Context) (context.Context, error) {
	return context.WithoutCancel(ctx), ctx.Err()
}
