package sqlite

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
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

// Revoke implements [authserver.Store].
func (s *Store) Revoke(ctx context.Context, jti string, expires time.Time) error {
	return s.write(ctx, func(w *writes) error {
		_, err := w.revoke.Exec(jti, micros(expires))
		return err
	})
}

// Revoked implements [authserver.Store].
func (s *Store) Revoked(ctx context.Context, jti string) (bool, error) {
	ctx, err := quick(ctx)
	if err != nil {
		return false, err
	}
	err = s.reads.revoked.QueryRowContext(ctx, jti).Scan(new(int))
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, explain(s.path, err)
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

// SaveCertificate implements [authserver.Store].
func (s *Store) SaveCertificate(ctx context.Context, c authserver.CertificateRecord) error {
	return s.write(ctx, func(w *writes) error {
		_, err := w.saveCertificate.Exec(c.Thumbprint, c.IssuerKeyID, c.Serial, c.Subject, c.ClientID, micros(c.NotAfter), micros(c.TokensUntil))
		return err
	})
}

// Certificate implements [authserver.Store].
func (s *Store) Certificate(ctx context.Context, thumbprint string) (*authserver.CertificateRecord, error) {
	ctx, err := quick(ctx)
	if err != nil {
		return nil, err
	}
	c := &authserver.CertificateRecord{Thumbprint: thumbprint}
	var notAfter, until int64
	err = s.reads.certificate.QueryRowContext(ctx, thumbprint).
		Scan(&c.IssuerKeyID, &c.Serial, &c.Subject, &c.ClientID, &notAfter, &until)
	if err != nil {
		return nil, s.notFound(err)
	}
	c.NotAfter, c.TokensUntil = fromMicros(notAfter), fromMicros(until)
	return c, nil
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
		for _, stmt := range []*sql.Stmt{w.sweepTokens, w.sweepRevocations, w.sweepUsed, w.sweepCertificates} {
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
