package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/certbound/certbound/authserver"
)

// Revoke implements [authserver.Store].
func (s *Store) Revoke(ctx context.Context, jti string, expires time.Time) error {
	return s.write(ctx, func(w *writes) error { return w.numbered(w.revoke.Exec(jti, micros(expires))) })
}

// numbered takes as many numbers from the sequence of revocations as rows were changed.
// The statement before it has used them, in this transaction.
func (w *writes) numbered(result sql.Result, err error) error {
	if err != nil {
		return err
	}
	n, err := result.RowsAffected()
	if err != nil || n == 0 {
		return err
	}
	return w.nextRevocation.QueryRow(n).Scan(new(int64))
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

// never is how the end of what has none is stored, so that the sweep passes it by.
var never = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

func microsOrNever(t time.Time) int64 {
	if t.IsZero() {
		t = never
	}
	return micros(t)
}

func fromMicrosOrNever(n int64) time.Time {
	if n == micros(never) {
		return time.Time{}
	}
	return fromMicros(n)
}

// nameOf is the key of a record. A slash is in no thumbprint.
func nameOf(c *authserver.RevokedCertificate) string {
	if c.Thumbprint != "" {
		return c.Thumbprint
	}
	return bySerial(c.IssuerKeyID, c.Serial)
}

func bySerial(issuerKeyID, serial string) string { return issuerKeyID + "/" + serial }

// scanRevoked reads the answer to selectRevoked.
func scanRevoked(row *sql.Row) (*authserver.RevokedCertificate, error) {
	c := new(authserver.RevokedCertificate)
	var at, expires int64
	if err := row.Scan(&c.Thumbprint, &c.IssuerKeyID, &c.Serial, &c.Derived, &c.Note, &at, &expires); err != nil {
		if errors.Is(err, sql.ErrNoRows) {
			err = authserver.ErrNotFound
		}
		return nil, err
	}
	c.At, c.Expires = fromMicros(at), fromMicrosOrNever(expires)
	return c, nil
}

func (w *writes) putRevoked(c *authserver.RevokedCertificate) error {
	return w.numbered(w.revokeCertificate.Exec(nameOf(c), c.Thumbprint, c.IssuerKeyID, c.Serial, c.Derived, c.Note,
		micros(c.At), microsOrNever(c.Expires)))
}

// RevokeCertificate implements [authserver.Store].
func (s *Store) RevokeCertificate(ctx context.Context, given authserver.RevokedCertificate) error {
	return s.write(ctx, func(w *writes) error {
		c := given
		c.Derived = false
		switch old, err := scanRevoked(w.revokedCertificate.QueryRow(nameOf(&c), nil)); {
		case err == nil:
			later := microsOrNever(c.Expires) > microsOrNever(old.Expires)
			if !old.Derived && !later {
				return nil
			}
			c.At = old.At
			if !later {
				c.Expires = old.Expires
			}
		case err != authserver.ErrNotFound:
			return err
		}
		if err := w.putRevoked(&c); err != nil || c.Thumbprint != "" {
			return err
		}
		return w.numbered(w.deriveCertificates.Exec(c.IssuerKeyID, c.Serial, c.Note, micros(c.At), microsOrNever(c.Expires)))
	})
}

// RestoreCertificate implements [authserver.Store].
func (s *Store) RestoreCertificate(ctx context.Context, c authserver.RevokedCertificate) error {
	return s.write(ctx, func(w *writes) error {
		old, err := scanRevoked(w.revokedCertificate.QueryRow(nameOf(&c), nil))
		if err != nil {
			return err
		}
		if old.Derived {
			return authserver.ErrNotFound
		}
		if c.Thumbprint == "" {
			if err := w.numbered(w.restoreCertificate.Exec(nameOf(&c))); err != nil {
				return err
			}
			return w.numbered(w.restoreDerived.Exec(c.IssuerKeyID, c.Serial))
		}
		by, err := w.revokedBySerial(c.Thumbprint)
		switch {
		case err == authserver.ErrNotFound:
			return w.numbered(w.restoreCertificate.Exec(c.Thumbprint))
		case err != nil:
			return err
		}
		by.Thumbprint, by.Derived = c.Thumbprint, true
		return w.putRevoked(by)
	})
}

// revokedBySerial returns the record by which a remembered certificate is revoked by its
// issuer and serial number, or ErrNotFound.
func (w *writes) revokedBySerial(thumbprint string) (*authserver.RevokedCertificate, error) {
	known, err := scanCertificate(w.certificate.QueryRow(thumbprint))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, authserver.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return scanRevoked(w.revokedCertificate.QueryRow(bySerial(known.IssuerKeyID, known.Serial), nil))
}

// CertificateRevoked implements [authserver.Store].
func (s *Store) CertificateRevoked(ctx context.Context, thumbprint, issuerKeyID, serial string) (*authserver.RevokedCertificate, error) {
	ctx, err := quick(ctx)
	if err != nil {
		return nil, err
	}
	c, err := scanRevoked(s.reads.revokedCertificate.QueryRowContext(ctx, thumbprint, serialName(issuerKeyID, serial)))
	if err == authserver.ErrNotFound {
		return nil, err
	}
	return c, explain(s.path, err)
}

// serialName is NULL, which nothing is equal to, if there is no issuer.
func serialName(issuerKeyID, serial string) any {
	if issuerKeyID == "" {
		return nil
	}
	return bySerial(issuerKeyID, serial)
}

// Revocations implements [authserver.Store].
func (s *Store) Revocations(ctx context.Context, since int64, limit int) (_ *authserver.RevocationPage, err error) {
	defer func() { err = explain(s.path, err) }()
	// One snapshot: Last must not be of a later state than the entries.
	tx, err := s.reader.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	defer tx.Rollback()
	page := new(authserver.RevocationPage)
	if err := tx.StmtContext(ctx, s.reads.lastRevocation).QueryRowContext(ctx).Scan(&page.Feed, &page.Last); err != nil {
		return nil, err
	}
	if since >= page.Last {
		return page, nil
	}
	rows, err := tx.StmtContext(ctx, s.reads.revocations).QueryContext(ctx, since, max(limit, 0))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var r authserver.Revocation
		c := &r.Certificate
		var at, expires int64
		if err := rows.Scan(&r.Number, &r.JTI, &c.Thumbprint, &c.IssuerKeyID, &c.Serial, &c.Derived, &r.Restored, &c.Note, &at, &expires); err != nil {
			return nil, err
		}
		r.Expires = fromMicrosOrNever(expires)
		if r.JTI == "" {
			c.At, c.Expires = fromMicros(at), r.Expires
		}
		page.Entries = append(page.Entries, r)
	}
	return page, rows.Err()
}

// SaveCertificate implements [authserver.Store].
func (s *Store) SaveCertificate(ctx context.Context, c authserver.CertificateRecord) error {
	return s.write(ctx, func(w *writes) error {
		_, err := scanRevoked(w.revokedCertificate.QueryRow(c.Thumbprint, serialName(c.IssuerKeyID, c.Serial)))
		if err == nil {
			return authserver.ErrRevoked
		}
		if err != authserver.ErrNotFound {
			return err
		}
		_, err = w.saveCertificate.Exec(c.Thumbprint, c.IssuerKeyID, c.Serial, c.Subject, c.ClientID,
			micros(c.NotAfter), micros(c.FirstSeen), micros(c.TokensUntil))
		return err
	})
}

func scanCertificate(row interface{ Scan(...any) error }) (c authserver.CertificateRecord, err error) {
	var notAfter, firstSeen, until int64
	err = row.Scan(&c.Thumbprint, &c.IssuerKeyID, &c.Serial, &c.Subject, &c.ClientID, &notAfter, &firstSeen, &until)
	c.NotAfter, c.FirstSeen, c.TokensUntil = fromMicros(notAfter), fromMicros(firstSeen), fromMicros(until)
	return c, err
}

// Certificate implements [authserver.Store].
func (s *Store) Certificate(ctx context.Context, thumbprint string) (*authserver.CertificateRecord, error) {
	ctx, err := quick(ctx)
	if err != nil {
		return nil, err
	}
	c, err := scanCertificate(s.reads.certificate.QueryRowContext(ctx, thumbprint))
	if err != nil {
		return nil, s.notFound(err)
	}
	return &c, nil
}

// Certificates implements [authserver.Store].
func (s *Store) Certificates(ctx context.Context, after string, limit int) ([]authserver.CertificateRecord, error) {
	return s.certificates(ctx, s.reads.certificates, after, limit)
}

// ClientCertificates implements [authserver.Store].
func (s *Store) ClientCertificates(ctx context.Context, clientID string, limit int) ([]authserver.CertificateRecord, error) {
	return s.certificates(ctx, s.reads.clientCertificates, clientID, limit)
}

func (s *Store) certificates(ctx context.Context, query *sql.Stmt, key string, limit int) ([]authserver.CertificateRecord, error) {
	rows, err := query.QueryContext(ctx, key, max(limit, 0))
	if err != nil {
		return nil, explain(s.path, err)
	}
	defer rows.Close()
	var out []authserver.CertificateRecord
	for rows.Next() {
		c, err := scanCertificate(rows)
		if err != nil {
			return nil, explain(s.path, err)
		}
		out = append(out, c)
	}
	return out, explain(s.path, rows.Err())
}
