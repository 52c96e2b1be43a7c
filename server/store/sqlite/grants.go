package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/certbound/certbound/authserver"
)

// The documents are the types of package authserver without the members that have a
// column, so that a member that is added there is kept without a change here.
type (
	grantDocument struct {
		*authserver.Grant
		ID, Revoked *struct{} `json:",omitempty"`
	}
	codeDocument struct {
		*authserver.Code
		Hash, GrantID, Used *struct{} `json:",omitempty"`
	}
	refreshDocument struct {
		*authserver.RefreshToken
		Hash, GrantID, Used, Expires *struct{} `json:",omitempty"`
	}
)

func encodeDocument(what string, document any) (string, error) {
	b, err := json.Marshal(document)
	if err != nil {
		return "", fmt.Errorf("sqlite: %s: %w", what, err)
	}
	return string(b), nil
}

func decodeDocument(what string, text []byte, document any) error {
	if err := json.Unmarshal(text, document); err != nil {
		return fmt.Errorf("sqlite: %s: the stored document does not parse: %w", what, err)
	}
	return nil
}

// microsOrNull is NULL for the zero time.
func microsOrNull(t time.Time) sql.NullInt64 {
	return sql.NullInt64{Int64: micros(t), Valid: !t.IsZero()}
}

func fromMicrosOrNull(n sql.NullInt64) time.Time {
	if !n.Valid {
		return time.Time{}
	}
	return fromMicros(n.Int64)
}

func decodeGrant(id string, revoked sql.NullInt64, text []byte) (*authserver.Grant, error) {
	g := new(authserver.Grant)
	if err := decodeDocument("grant", text, &grantDocument{Grant: g}); err != nil {
		return nil, err
	}
	g.ID, g.Revoked = id, fromMicrosOrNull(revoked)
	return g, nil
}

// Authorize implements [authserver.GrantStore].
func (s *Store) Authorize(ctx context.Context, r *authserver.AuthorizationRequest, g *authserver.Grant, c *authserver.Code, consent *authserver.Consent) error {
	hash, version := r.Hash, r.Version
	id, clientID, subject, revoked, ended := g.ID, g.ClientID, g.Subject, microsOrNull(g.Revoked), microsOrNever(g.Expires)
	if revoked.Valid {
		ended = min(ended, revoked.Int64)
	}
	grant, err := encodeDocument("grant", grantDocument{Grant: g})
	if err != nil {
		return err
	}
	codeHash, grantID, used, expires := c.Hash, c.GrantID, microsOrNull(c.Used), micros(c.Expires)
	code, err := encodeDocument("code", codeDocument{Code: c})
	if err != nil {
		return err
	}
	var given authserver.Consent
	var allowed string
	if consent != nil {
		given = *consent
		if allowed, err = encodeDocument("consent", given); err != nil {
			return err
		}
	}
	return s.write(ctx, func(w *writes) error {
		if err := w.requestIs(hash, version); err != nil {
			return err
		}
		var there bool
		if err := w.grantOrCode.QueryRow(id, codeHash[:]).Scan(&there); err != nil {
			return err
		}
		if there {
			return authserver.ErrExists
		}
		if _, err := w.deleteRequest.Exec(hash[:]); err != nil {
			return err
		}
		if _, err := w.insertGrant.Exec(id, clientID, subject, revoked, ended, grant); err != nil {
			return err
		}
		if _, err := w.insertCode.Exec(codeHash[:], grantID, used, expires, code); err != nil {
			return err
		}
		if consent == nil {
			return nil
		}
		_, err := w.saveConsent.Exec(given.Subject, given.ClientID, microsOrNever(given.Expires), allowed)
		return err
	})
}

// Code implements [authserver.GrantStore].
func (s *Store) Code(ctx context.Context, hash [32]byte) (*authserver.Code, *authserver.Grant, error) {
	ctx, err := quick(ctx)
	if err != nil {
		return nil, nil, err
	}
	c := &authserver.Code{Hash: hash}
	var used, revoked sql.NullInt64
	var expires int64
	var text, grant []byte
	err = s.reads.code.QueryRowContext(ctx, hash[:]).Scan(&c.GrantID, &used, &expires, &text, &revoked, &grant)
	if err != nil {
		return nil, nil, s.notFound(err)
	}
	id := c.GrantID
	if err := decodeDocument("code", text, &codeDocument{Code: c}); err != nil {
		return nil, nil, err
	}
	c.Used, c.Expires = fromMicrosOrNull(used), fromMicros(expires)
	g, err := decodeGrant(id, revoked, grant)
	if err != nil {
		return nil, nil, err
	}
	return c, g, nil
}

// An issued is what was issued, ready to be written.
type issued struct {
	jti     string
	expires int64
	token   *tokenRow
	// refresh are the columns, or nil if there is no refresh token.
	refresh []any
}

func encodeIssued(from authserver.Issued) (*issued, error) {
	i := &issued{jti: from.JTI, expires: micros(from.Expires)}
	var err error
	if from.Opaque != nil {
		if i.token, err = encodeToken(from.Opaque); err != nil {
			return nil, err
		}
	}
	if r := from.Refresh; r != nil {
		text, err := encodeDocument("refresh token", refreshDocument{RefreshToken: r})
		if err != nil {
			return nil, err
		}
		hash := r.Hash
		i.refresh = []any{hash[:], "", microsOrNull(r.Used), micros(r.Expires), text}
	}
	return i, nil
}

// issue saves what was issued for a grant. With an error of package authserver it has
// changed nothing.
func (w *writes) issue(grantID string, i *issued) error {
	if i.token != nil {
		switch err := w.tokenExists.QueryRow(i.token.Hash[:]).Scan(new(int)); {
		case err == nil:
			return authserver.ErrExists
		case !errors.Is(err, sql.ErrNoRows):
			return err
		}
	}
	if i.refresh != nil {
		i.refresh[1] = grantID
		if err := existsUnless(w.insertRefresh.Exec(i.refresh...)); err != nil {
			return err
		}
	}
	if i.token != nil {
		if err := w.saveToken(i.token); err != nil {
			return err
		}
	}
	if i.jti == "" {
		return nil
	}
	_, err := w.insertGrantToken.Exec(grantID, i.jti, i.expires)
	return err
}

// existsUnless is ErrExists unless a row was inserted.
func existsUnless(result sql.Result, err error) error {
	if err != nil {
		return err
	}
	n, err := result.RowsAffected()
	if err == nil && n == 0 {
		err = authserver.ErrExists
	}
	return err
}

// notFoundUnless is ErrNotFound unless a row was changed.
func notFoundUnless(result sql.Result, err error) error {
	if err != nil {
		return err
	}
	n, err := result.RowsAffected()
	if err == nil && n == 0 {
		err = authserver.ErrNotFound
	}
	return err
}

func noRows(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return authserver.ErrNotFound
	}
	return err
}

// RedeemCode implements [authserver.GrantStore].
func (s *Store) RedeemCode(ctx context.Context, hash [32]byte, now time.Time, given authserver.Issued) error {
	i, err := encodeIssued(given)
	if err != nil {
		return err
	}
	return s.write(ctx, func(w *writes) error {
		var id string
		var used, revoked sql.NullInt64
		if err := w.code.QueryRow(hash[:]).Scan(&id, &used, &revoked); err != nil {
			return noRows(err)
		}
		switch {
		case used.Valid:
			return authserver.ErrUsed
		case revoked.Valid:
			return authserver.ErrGrantRevoked
		}
		if err := w.issue(id, i); err != nil {
			return err
		}
		_, err := w.useCode.Exec(micros(now), hash[:])
		return err
	})
}

// RefreshToken implements [authserver.GrantStore].
func (s *Store) RefreshToken(ctx context.Context, hash [32]byte) (*authserver.RefreshToken, *authserver.Grant, error) {
	ctx, err := quick(ctx)
	if err != nil {
		return nil, nil, err
	}
	r := &authserver.RefreshToken{Hash: hash}
	var used, revoked sql.NullInt64
	var expires int64
	var text, grant []byte
	err = s.reads.refresh.QueryRowContext(ctx, hash[:]).Scan(&r.GrantID, &used, &expires, &text, &revoked, &grant)
	if err != nil {
		return nil, nil, s.notFound(err)
	}
	if err := decodeDocument("refresh token", text, &refreshDocument{RefreshToken: r}); err != nil {
		return nil, nil, err
	}
	r.Used, r.Expires = fromMicrosOrNull(used), fromMicros(expires)
	g, err := decodeGrant(r.GrantID, revoked, grant)
	if err != nil {
		return nil, nil, err
	}
	return r, g, nil
}

// Refresh implements [authserver.GrantStore].
func (s *Store) Refresh(ctx context.Context, hash [32]byte, now time.Time, grace time.Duration, extend time.Time, given authserver.Issued) error {
	i, err := encodeIssued(given)
	if err != nil {
		return err
	}
	reused := false
	err = s.write(ctx, func(w *writes) error {
		reused = false
		var id string
		var used, revoked sql.NullInt64
		if err := w.refresh.QueryRow(hash[:]).Scan(&id, &used, &revoked); err != nil {
			return noRows(err)
		}
		switch {
		case revoked.Valid:
			return authserver.ErrGrantRevoked
		case used.Valid && (grace < 0 || used.Int64 < micros(now.Add(-grace))):
			// ErrUsed would say that nothing was changed.
			reused = true
			return w.revoke1(id, now)
		}
		if err := w.issue(id, i); err != nil {
			return err
		}
		switch {
		case i.refresh == nil:
			if !extend.IsZero() {
				_, err = w.extendRefresh.Exec(hash[:], micros(extend))
			}
		case !used.Valid:
			_, err = w.useRefresh.Exec(micros(now), hash[:])
		}
		return err
	})
	if err == nil && reused {
		err = authserver.ErrUsed
	}
	return err
}

// revoke1 ends a grant that has not ended yet.
func (w *writes) revoke1(id string, now time.Time) error {
	if _, err := w.revokeGrant.Exec(micros(now), id); err != nil {
		return err
	}
	return w.numbered(w.revokeIssued.Exec(id))
}

// Grant implements [authserver.GrantStore].
func (s *Store) Grant(ctx context.Context, id string) (*authserver.Grant, error) {
	ctx, err := quick(ctx)
	if err != nil {
		return nil, err
	}
	var revoked sql.NullInt64
	var text []byte
	if err := s.reads.grant.QueryRowContext(ctx, id).Scan(&revoked, &text); err != nil {
		return nil, s.notFound(err)
	}
	return decodeGrant(id, revoked, text)
}

// Grants implements [authserver.GrantStore].
func (s *Store) Grants(ctx context.Context, subject, clientID, after string, limit int) (out []*authserver.Grant, err error) {
	query, args := s.reads.grantsOfBoth, []any{after, max(limit, 0), subject, clientID}
	switch {
	case subject == "" && clientID == "":
		return nil, ctx.Err()
	case clientID == "":
		query, args = s.reads.grantsOfSubject, args[:3]
	case subject == "":
		query, args = s.reads.grantsOfClient, append(args[:2], clientID)
	}
	rows, err := query.QueryContext(ctx, args...)
	if err != nil {
		return nil, explain(s.path, err)
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		var text []byte
		if err := rows.Scan(&id, &text); err != nil {
			return nil, explain(s.path, err)
		}
		g, err := decodeGrant(id, sql.NullInt64{}, text)
		if err != nil {
			return nil, err
		}
		out = append(out, g)
	}
	return out, explain(s.path, rows.Err())
}

// RevokeGrant implements [authserver.GrantStore].
func (s *Store) RevokeGrant(ctx context.Context, id string, now time.Time) error {
	return s.write(ctx, func(w *writes) error {
		var revoked sql.NullInt64
		if err := w.grant.QueryRow(id).Scan(&revoked); err != nil {
			return noRows(err)
		}
		if revoked.Valid {
			return nil
		}
		return w.revoke1(id, now)
	})
}

// endClient ends what people have to do with a client that is deleted.
func (w *writes) endClient(id string) error {
	if err := w.numbered(w.revokeIssuedOf.Exec(id)); err != nil {
		return err
	}
	// The grants last, since the others are found by them.
	for _, stmt := range []*sql.Stmt{w.deleteCodesOf, w.deleteRefreshOf, w.deleteGrantTokensOf, w.deleteGrantsOf, w.deleteRequestsOf, w.deleteConsentsOf} {
		if _, err := stmt.Exec(id); err != nil {
			return err
		}
	}
	return nil
}
