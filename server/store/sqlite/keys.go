package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"slices"

	"github.com/certbound/certbound/authserver"
)

// SigningKeys implements [authserver.Store].
func (s *Store) SigningKeys(ctx context.Context) ([]authserver.SigningKey, error) {
	rows, err := s.reads.keys.QueryContext(ctx)
	if err != nil {
		return nil, explain(s.path, err)
	}
	defer rows.Close()
	var out []authserver.SigningKey
	for rows.Next() {
		var k authserver.SigningKey
		var created, notBefore, retire, expires int64
		if err := rows.Scan(&k.KID, &k.Alg, &k.PKCS8, &created, &notBefore, &retire, &expires); err != nil {
			return nil, explain(s.path, err)
		}
		k.Created, k.NotBefore, k.Retire, k.Expires = fromMicros(created), fromMicros(notBefore), fromMicros(retire), fromMicros(expires)
		out = append(out, k)
	}
	return out, explain(s.path, rows.Err())
}

// AddSigningKey implements [authserver.Store].
func (s *Store) AddSigningKey(ctx context.Context, k authserver.SigningKey, after string) error {
	k.PKCS8 = slices.Clone(k.PKCS8)
	if k.PKCS8 == nil {
		k.PKCS8 = []byte{} // nil is NULL to the driver
	}
	return s.write(ctx, func(w *writes) error {
		switch err := w.keyExists.QueryRow(k.KID).Scan(new(int)); {
		case err == nil:
			return authserver.ErrExists
		case !errors.Is(err, sql.ErrNoRows):
			return err
		}
		var newest string
		if err := w.newestKey.QueryRow().Scan(&newest); err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if newest != after {
			return authserver.ErrConflict
		}
		_, err := w.insertKey.Exec(k.KID, k.Alg, k.PKCS8, micros(k.Created), micros(k.NotBefore), micros(k.Retire), micros(k.Expires))
		return err
	})
}

// DeleteSigningKey implements [authserver.Store].
func (s *Store) DeleteSigningKey(ctx context.Context, kid string) error {
	return s.write(ctx, func(w *writes) error {
		_, err := w.deleteKey.Exec(kid)
		return err
	})
}
