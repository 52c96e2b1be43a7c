package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/pressly/goose/v3"
)

// applicationID marks our files (PRAGMA application_id), so that a wrong path does
// not put our tables into somebody else's database. It is "CBnd".
const applicationID = 0x43426e64

//go:embed migrations/*.sql
var migrations embed.FS

// migrate brings the schema up to date. SQLite has no lock that the migrations of two
// processes could share, so the loser of a race finds a table that is there already:
// it looks again, until the busy timeout is over.
func migrate(ctx context.Context, db *sql.DB, cfg Config) error {
	deadline := time.Now().Add(cfg.BusyTimeout)
	for {
		err := migrateOnce(ctx, db, cfg)
		if err == nil || ctx.Err() != nil || time.Now().After(deadline) ||
			errors.Is(err, ErrForeign) || errors.Is(err, ErrNewerSchema) || errors.Is(err, ErrNotDatabase) ||
			errors.Is(err, ErrReadOnly) || errors.Is(err, ErrFull) || errors.Is(err, ErrCorrupt) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func migrateOnce(ctx context.Context, db *sql.DB, cfg Config) error {
	if err := identify(ctx, db, cfg.Path); err != nil {
		return explain(cfg.Path, err)
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return explain(cfg.Path, err)
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, files,
		goose.WithTableName("schema_versions"), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return explain(cfg.Path, err)
	}
	have, want, err := provider.GetVersions(ctx)
	if err != nil {
		return explain(cfg.Path, err)
	}
	if have > want {
		return &Error{Path: cfg.Path, Fault: ErrNewerSchema,
			Fix: fmt.Sprintf("expected version %d, found %d; run the version of Certbound that wrote it, or a newer one", want, have)}
	}
	done, err := provider.Up(ctx)
	if err != nil {
		return explain(cfg.Path, err)
	}
	for _, m := range done {
		cfg.Logger.Info("sqlite: schema migrated", "path", cfg.Path, "version", m.Source.Version, "took", m.Duration)
	}
	return nil
}

// identify refuses what is not ours, and marks an empty file as ours.
func identify(ctx context.Context, db *sql.DB, path string) error {
	var mode string
	if err := db.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&mode); err != nil {
		return err
	}
	if mode != "wal" {
		return &Error{Path: path, Fault: ErrUnusable,
			Fix: "expected a write-ahead log, found journal mode " + mode + "; put the file on a local disk"}
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	var id, tables int
	if err := tx.QueryRowContext(ctx, "PRAGMA application_id").Scan(&id); err != nil {
		return err
	}
	if id == applicationID {
		return nil
	}
	if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&tables); err != nil {
		return err
	}
	if id != 0 || tables != 0 {
		return &Error{Path: path, Fault: ErrForeign,
			Fix: fmt.Sprintf("expected an empty file or one with application id %#x, found %#x and %d tables and indexes; name another file",
				applicationID, id, tables)}
	}
	if _, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d", applicationID)); err != nil {
		return err
	}
	return tx.Commit()
}
