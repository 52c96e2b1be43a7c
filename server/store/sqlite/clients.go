package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"iter"

	"github.com/certbound/certbound/authserver"
)

// A document is a client as it is stored. It has the members of a client but not its
// methods: what is shown to people must not decide what is kept.
type document authserver.Client

func encode(c *authserver.Client) (string, error) {
	b, err := json.Marshal((*document)(c))
	if err != nil {
		return "", fmt.Errorf("sqlite: client %q: %w", c.ID, err)
	}
	return string(b), nil
}

func scanClient(row interface{ Scan(...any) error }) (*authserver.Client, error) {
	var id string
	var version int64
	var text sql.RawBytes
	var kept []byte
	if rows, ok := row.(*sql.Rows); ok {
		if err := rows.Scan(&id, &version, &text); err != nil {
			return nil, err
		}
		kept = text
	} else if err := row.Scan(&id, &version, &kept); err != nil {
		return nil, err
	}
	c := new(authserver.Client)
	if err := json.Unmarshal(kept, (*document)(c)); err != nil {
		return nil, fmt.Errorf("sqlite: client %q: the stored registration does not parse: %w", id, err)
	}
	c.ID, c.Version = id, version
	return c, nil
}

// Client implements [authserver.Store].
func (s *Store) Client(ctx context.Context, id string) (*authserver.Client, error) {
	ctx, err := quick(ctx)
	if err != nil {
		return nil, err
	}
	c, err := scanClient(s.reads.client.QueryRowContext(ctx, id))
	return c, s.notFound(err)
}

// Clients implements [authserver.Store].
func (s *Store) Clients(ctx context.Context, after string, limit int) ([]*authserver.Client, error) {
	rows, err := s.reads.clients.QueryContext(ctx, after, max(limit, 0)) // less than zero means all to SQLite
	if err != nil {
		return nil, explain(s.path, err)
	}
	defer rows.Close()
	var out []*authserver.Client
	for rows.Next() {
		c, err := scanClient(rows)
		if err != nil {
			return nil, explain(s.path, err)
		}
		out = append(out, c)
	}
	return out, explain(s.path, rows.Err())
}

// CreateClient implements [authserver.Store].
func (s *Store) CreateClient(ctx context.Context, c *authserver.Client) error {
	id := c.ID
	text, err := encode(c)
	if err != nil {
		return err
	}
	var version int64
	err = s.write(ctx, func(w *writes) error {
		var err error
		version, err = w.create(id, text)
		return err
	})
	if err == nil {
		c.Version = version
	}
	return err
}

func (w *writes) create(id, text string) (version int64, err error) {
	if _, err := w.version(id); err != authserver.ErrNotFound {
		if err == nil {
			err = authserver.ErrExists
		}
		return 0, err
	}
	if version, err = w.changes(1); err != nil {
		return 0, err
	}
	return version, w.insert(id, version, text)
}

// UpdateClient implements [authserver.Store].
func (s *Store) UpdateClient(ctx context.Context, c *authserver.Client) error {
	id, was := c.ID, c.Version
	text, err := encode(c)
	if err != nil {
		return err
	}
	var version int64
	err = s.write(ctx, func(w *writes) error {
		now, err := w.version(id)
		if err != nil {
			return err
		}
		if now != was {
			return authserver.ErrConflict
		}
		if version, err = w.changes(1); err != nil {
			return err
		}
		_, err = w.updateClient.Exec(version, text, id)
		return err
	})
	if err == nil {
		c.Version = version
	}
	return err
}

// DeleteClient implements [authserver.Store].
func (s *Store) DeleteClient(ctx context.Context, id string) error {
	return s.write(ctx, func(w *writes) error {
		if _, err := w.version(id); err != nil {
			return err
		}
		version, err := w.changes(1)
		if err != nil {
			return err
		}
		if _, err := w.deleteClient.Exec(id); err != nil {
			return err
		}
		if _, err = w.noteDeletion.Exec(id, version); err != nil {
			return err
		}
		return w.endClient(id)
	})
}

// importBatch is how many clients ImportClients writes in one transaction.
const importBatch = 1000

// ImportClients adds many clients, a thousand in one transaction. It stops at the
// first that cannot be added, such as one that is there already ([authserver.ErrExists]);
// the transactions before that stay.
func (s *Store) ImportClients(ctx context.Context, clients iter.Seq[*authserver.Client]) error {
	type row struct{ id, text string }
	flush := func(rows []row) error {
		if len(rows) == 0 {
			return nil
		}
		return s.write(ctx, func(w *writes) error {
			last, err := w.changes(int64(len(rows)))
			if err != nil {
				return err
			}
			for i, r := range rows {
				if _, err := w.version(r.id); err == nil {
					return fmt.Errorf("sqlite: client %q: %w", r.id, authserver.ErrExists)
				} else if err != authserver.ErrNotFound {
					return err
				}
				if err := w.insert(r.id, last-int64(len(rows)-1-i), r.text); err != nil {
					return err
				}
			}
			return nil
		})
	}
	var rows []row
	for c := range clients {
		text, err := encode(c)
		if err != nil {
			return err
		}
		rows = append(rows, row{c.ID, text})
		if len(rows) == importBatch {
			if err := flush(rows); err != nil {
				return err
			}
			rows = nil // not rows[:0]: an abandoned write may still read them
		}
	}
	return flush(rows)
}

// ClientChanges implements [authserver.Store].
func (s *Store) ClientChanges(ctx context.Context, since int64, max int) (ids []string, last int64, complete bool, err error) {
	defer func() {
		if err != nil {
			ids, last, complete, err = nil, 0, false, explain(s.path, err)
		}
	}()
	// One snapshot: a change between the two statements must not be skipped.
	tx, err := s.reader.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, 0, false, err
	}
	defer tx.Rollback()
	var forgotten int64
	if err := tx.StmtContext(ctx, s.reads.lastChange).QueryRowContext(ctx).Scan(&last, &forgotten); err != nil {
		return nil, 0, false, err
	}
	switch {
	case since == last:
		return nil, last, true, nil
	case since > last, since < forgotten:
		return nil, last, false, nil
	}
	rows, err := tx.StmtContext(ctx, s.reads.changes).QueryContext(ctx, since, int64(max)+1)
	if err != nil {
		return nil, 0, false, err
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id, new(int64)); err != nil {
			return nil, 0, false, err
		}
		ids = append(ids, id)
	}
	if err := rows.Err(); err != nil {
		return nil, 0, false, err
	}
	if len(ids) > max {
		return nil, last, false, nil
	}
	return ids, last, true, nil
}

// version returns the version of a client, or ErrNotFound.
func (w *writes) version(id string) (version int64, err error) {
	err = w.clientVersion.QueryRow(id).Scan(&version)
	if errors.Is(err, sql.ErrNoRows) {
		err = authserver.ErrNotFound
	}
	return version, err
}

// changes takes n numbers of changes and returns the last.
func (w *writes) changes(n int64) (last int64, err error) {
	err = w.nextChange.QueryRow(n).Scan(&last)
	return last, err
}

func (w *writes) insert(id string, version int64, text string) error {
	if _, err := w.insertClient.Exec(id, version, text); err != nil {
		return err
	}
	_, err := w.forgetDeletion.Exec(id)
	return err
}

func (s *Store) notFound(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return authserver.ErrNotFound
	}
	return explain(s.path, err)
}
