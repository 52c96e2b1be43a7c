package sqlite

import (
	"context"
	"time"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/server/people/accounts"
)

var _ accounts.Store = (*Store)(nil)

type userDocument struct {
	*accounts.User
	Name, Subject, Failures, LockedUntil, Version *struct{} `json:",omitempty"`
}

// CreateUser implements [accounts.Store].
func (s *Store) CreateUser(ctx context.Context, u *accounts.User) error {
	kept := *u
	text, err := encodeDocument("account", userDocument{User: u})
	if err != nil {
		return err
	}
	var version int64
	err = s.write(ctx, func(w *writes) error {
		var there bool
		if err := w.userExists.QueryRow(kept.Name, kept.Subject).Scan(&there); err != nil {
			return err
		}
		if there {
			return authserver.ErrExists
		}
		if err := w.nextUser.QueryRow().Scan(&version); err != nil {
			return err
		}
		_, err := w.insertUser.Exec(kept.Name, kept.Subject, version, kept.Failures, micros(kept.LockedUntil), text)
		return err
	})
	if err == nil {
		u.Version = version
	}
	return err
}

func scanUser(row interface{ Scan(...any) error }) (*accounts.User, error) {
	var u accounts.User
	var locked int64
	var text []byte
	if err := row.Scan(&u.Name, &u.Subject, &u.Version, &u.Failures, &locked, &text); err != nil {
		return nil, err
	}
	if err := decodeDocument("account", text, &userDocument{User: &u}); err != nil {
		return nil, err
	}
	u.LockedUntil = fromMicros(locked)
	return &u, nil
}

// User implements [accounts.Store].
func (s *Store) User(ctx context.Context, name string) (*accounts.User, error) {
	ctx, err := quick(ctx)
	if err != nil {
		return nil, err
	}
	u, err := scanUser(s.reads.user.QueryRowContext(ctx, name))
	return u, s.notFound(err)
}

// Users implements [accounts.Store].
func (s *Store) Users(ctx context.Context, after string, limit int) ([]*accounts.User, error) {
	rows, err := s.reads.users.QueryContext(ctx, after, max(limit, 0))
	if err != nil {
		return nil, explain(s.path, err)
	}
	defer rows.Close()
	var out []*accounts.User
	for rows.Next() {
		u, err := scanUser(rows)
		if err != nil {
			return nil, explain(s.path, err)
		}
		out = append(out, u)
	}
	return out, explain(s.path, rows.Err())
}

// UpdateUser implements [accounts.Store].
func (s *Store) UpdateUser(ctx context.Context, u *accounts.User) error {
	kept := *u
	text, err := encodeDocument("account", userDocument{User: u})
	if err != nil {
		return err
	}
	var version int64
	err = s.write(ctx, func(w *writes) error {
		var now int64
		if err := w.user.QueryRow(kept.Name).Scan(&now, new(int)); err != nil {
			return noRows(err)
		}
		if now != kept.Version {
			return authserver.ErrConflict
		}
		var there bool
		if err := w.subjectTaken.QueryRow(kept.Subject, kept.Name).Scan(&there); err != nil {
			return err
		}
		if there {
			return authserver.ErrExists
		}
		if err := w.nextUser.QueryRow().Scan(&version); err != nil {
			return err
		}
		_, err := w.updateUser.Exec(version, kept.Subject, text, kept.Name)
		return err
	})
	if err == nil {
		u.Version = version
	}
	return err
}

// RecordFailure implements [accounts.Store].
func (s *Store) RecordFailure(ctx context.Context, name string, lockedUntil func(failures int) time.Time) error {
	return s.write(ctx, func(w *writes) error {
		var failures int
		if err := w.user.QueryRow(name).Scan(new(int64), &failures); err != nil {
			return noRows(err)
		}
		failures++
		_, err := w.countFailure.Exec(failures, micros(lockedUntil(failures)), name)
		return err
	})
}

// ClearFailures implements [accounts.Store].
func (s *Store) ClearFailures(ctx context.Context, name string) error {
	return s.write(ctx, func(w *writes) error {
		return notFoundUnless(w.clearFailures.Exec(micros(time.Time{}), name))
	})
}

// DeleteUser implements [accounts.Store].
func (s *Store) DeleteUser(ctx context.Context, name string) error {
	return s.write(ctx, func(w *writes) error { return notFoundUnless(w.deleteUser.Exec(name)) })
}
