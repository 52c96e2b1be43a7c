package sqlite

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/certbound/certbound/authserver"
)

// SaveToken implements [authserver.Store].
func (s *Store) SaveToken(ctx context.Context, t *authserver.OpaqueToken) error {
	kept := *t
	audience, err := json.Marshal(t.Audience)
	if err != nil {
		return fmt.Errorf("sqlite: audience of a token: %w", err)
	}
	return s.write(ctx, func(w *writes) error {
		result, err := w.insertToken.Exec(kept.Hash[:], kept.JTI, kept.ClientID, kept.Subject, kept.Scope, string(audience),
			micros(kept.Issued), micros(kept.Expires), kept.X5TS256)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil {
			return err
		} else if n == 0 {
			return authserver.ErrExists
		}
		return nil
	})
}

// Token implements [authserver.Store].
func (s *Store) Token(ctx context.Context, hash [32]byte) (*authserver.OpaqueToken, error) {
	ctx, err := quick(ctx)
	if err != nil {
		return nil, err
	}
	t := &authserver.OpaqueToken{Hash: hash}
	var audience []byte
	var issued, expires int64
	err = s.reads.token.QueryRowContext(ctx, hash[:]).
		Scan(&t.JTI, &t.ClientID, &t.Subject, &t.Scope, &audience, &issued, &expires, &t.X5TS256)
	if err != nil {
		return nil, s.notFound(err)
	}
	if err := json.Unmarshal(audience, &t.Audience); err != nil {
		return nil, fmt.Errorf("sqlite: the stored audience of a token does not parse: %w", err)
	}
	t.Issued, t.Expires = fromMicros(issued), fromMicros(expires)
	return t, nil
}

// UseOnce implements [authserver.Store].
func (s *Store) UseOnce(ctx context.Context, key string, expires time.Time) (bool, error) {
	hash := sha256.Sum256([]byte(key))
	var first bool
	err := s.write(ctx, func(w *writes) error {
		result, err := w.use.Exec(hash[:], micros(expires))
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		if err != nil {
			return err
		}
		if first = n == 1; !first {
			_, err = w.extendUse.Exec(hash[:], micros(expires))
		}
		return err
	})
	if err != nil {
		return false, err
	}
	return first, nil
}

// maxDeletions bounds how many deletions of clients the change feed remembers.
const maxDeletions = 10_000

// Sweep implements [authserver.Store].
func (s *Store) Sweep(ctx context.Context, now time.Time, limit int) (int, error) {
	if limit <= 0 {
		return 0, ctx.Err()
	}
	var removed int64
	err := s.write(ctx, func(w *writes) error {
		removed = 0
		for _, stmt := range []*sql.Stmt{w.sweepTokens, w.sweepRevocations, w.sweepUsed, w.sweepCertificates, w.sweepRevoked} {
			result, err := stmt.Exec(micros(now), limit)
			if err != nil {
				return err
			}
			n, err := result.RowsAffected()
			if err != nil {
				return err
			}
			removed += n
		}
		if _, err := w.sweptDeletions.Exec(maxDeletions, limit); err != nil {
			return err
		}
		_, err := w.sweepDeletions.Exec()
		return err
	})
	if err != nil {
		return 0, err
	}
	return int(removed), nil
}
