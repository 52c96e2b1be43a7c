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
	row, err := encodeToken(t)
	if err != nil {
		return err
	}
	return s.write(ctx, func(w *writes) error { return w.saveToken(row) })
}

type tokenRow struct {
	authserver.OpaqueToken
	audience string
}

func encodeToken(t *authserver.OpaqueToken) (*tokenRow, error) {
	audience, err := json.Marshal(t.Audience)
	if err != nil {
		return nil, fmt.Errorf("sqlite: audience of a token: %w", err)
	}
	return &tokenRow{*t, string(audience)}, nil
}

func (w *writes) saveToken(t *tokenRow) error {
	return existsUnless(w.insertToken.Exec(t.Hash[:], t.JTI, t.ClientID, t.Subject, t.Scope, t.audience,
		micros(t.Issued), micros(t.Expires), t.X5TS256))
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
		for _, stmt := range []*sql.Stmt{
			w.sweepTokens, w.sweepRevocations, w.sweepUsed, w.sweepCertificates, w.sweepRevoked,
			w.sweepGrantTokens, w.sweepRequests, w.sweepCodes, w.sweepRefresh,
			w.sweepSessions, w.sweepConsents, w.sweepInitial,
		} {
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
		for _, stmt := range []*sql.Stmt{w.sweepGrantCodes, w.sweepGrantRefresh, w.sweepGrantTokensOf, w.sweepGrants} {
			result, err := stmt.Exec(micros(now), limit)
			if err != nil {
				return err
			}
			if stmt == w.sweepGrants {
				n, err := result.RowsAffected()
				if err != nil {
					return err
				}
				removed += n
			}
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
