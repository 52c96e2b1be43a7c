package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
)

var errBadConn = driver.ErrBadConn

type statement struct {
	stmt **sql.Stmt
	text string
}

// writes are the prepared statements of the writer, all on its one connection.
type writes struct {
	begin, commit, rollback                           *sql.Stmt
	nextChange, insertClient, updateClient            *sql.Stmt
	clientVersion, deleteClient                       *sql.Stmt
	noteDeletion, forgetDeletion                      *sql.Stmt
	newestKey, keyExists, insertKey, deleteKey        *sql.Stmt
	insertToken, revoke                               *sql.Stmt
	use, extendUse                                    *sql.Stmt
	certificate, saveCertificate                      *sql.Stmt
	nextRevocation, revokedCertificate                *sql.Stmt
	revokeCertificate, deriveCertificates             *sql.Stmt
	restoreCertificate, restoreDerived                *sql.Stmt
	sweepTokens, sweepRevocations, sweepUsed          *sql.Stmt
	sweepCertificates, sweepDeletions, sweptDeletions *sql.Stmt
	sweepRevoked                                      *sql.Stmt
	peopleWrites
}

func (w *writes) statements() []statement {
	return append([]statement{
		{&w.begin, `BEGIN IMMEDIATE`},
		{&w.commit, `COMMIT`},
		{&w.rollback, `ROLLBACK`},

		{&w.nextChange, `UPDATE client_changes SET last = last + ? RETURNING last`},
		{&w.clientVersion, `SELECT version FROM clients WHERE id = ?`},
		{&w.insertClient, `INSERT INTO clients (id, version, document) VALUES (?, ?, ?)`},
		{&w.updateClient, `UPDATE clients SET version = ?, document = ? WHERE id = ?`},
		{&w.deleteClient, `DELETE FROM clients WHERE id = ?`},
		{&w.noteDeletion, `INSERT INTO client_deletions (id, version) VALUES (?, ?)`},
		{&w.forgetDeletion, `DELETE FROM client_deletions WHERE id = ?`},

		{&w.newestKey, `SELECT kid FROM signing_keys ORDER BY position DESC LIMIT 1`},
		{&w.keyExists, `SELECT 1 FROM signing_keys WHERE kid = ?`},
		{&w.insertKey, `INSERT INTO signing_keys (kid, alg, pkcs8, created, not_before, retire, expires) VALUES (?, ?, ?, ?, ?, ?, ?)`},
		{&w.deleteKey, `DELETE FROM signing_keys WHERE kid = ?`},

		{&w.insertToken, `INSERT INTO tokens (hash, jti, client_id, subject, scope, audience, issued, expires, x5t_s256)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`},
		{&w.revoke, `INSERT INTO revocations (jti, expires, number) SELECT ?, ?, last + 1 FROM revocation_changes WHERE true
			ON CONFLICT DO UPDATE SET expires = excluded.expires, number = excluded.number WHERE excluded.expires > expires`},
		{&w.use, `INSERT INTO used (hash, expires) VALUES (?, ?) ON CONFLICT DO NOTHING`},
		{&w.extendUse, `UPDATE used SET expires = ?2 WHERE hash = ?1 AND expires < ?2`},
		{&w.certificate, `SELECT ` + certificateColumns + ` FROM certificates WHERE thumbprint = ?`},
		{&w.saveCertificate, `INSERT INTO certificates (thumbprint, issuer_key_id, serial, subject, client_id, not_after, first_seen, tokens_until)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET tokens_until = excluded.tokens_until WHERE excluded.tokens_until > tokens_until`},

		{&w.nextRevocation, `UPDATE revocation_changes SET last = last + ? RETURNING last`},
		{&w.revokedCertificate, selectRevoked},
		{&w.revokeCertificate, `INSERT OR REPLACE INTO revoked_certificates
			(name, number, thumbprint, issuer_key_id, serial, derived, restored, note, at, expires)
			VALUES (?, (SELECT last + 1 FROM revocation_changes), ?, ?, ?, ?, 0, ?, ?, ?)`},
		{&w.deriveCertificates, `INSERT OR REPLACE INTO revoked_certificates
			(name, number, thumbprint, issuer_key_id, serial, derived, restored, note, at, expires)
			SELECT thumbprint, (SELECT last FROM revocation_changes) + row_number() OVER (ORDER BY thumbprint),
				thumbprint, ?1, ?2, 1, 0, ?3, ?4, ?5
			FROM certificates WHERE issuer_key_id = ?1 AND serial = ?2
				AND NOT EXISTS (SELECT 1 FROM revoked_certificates WHERE name = certificates.thumbprint AND NOT restored)`},
		{&w.restoreCertificate, `UPDATE revoked_certificates SET restored = 1, number = (SELECT last + 1 FROM revocation_changes) WHERE name = ?`},
		{&w.restoreDerived, `UPDATE revoked_certificates SET restored = 1, number = n.number FROM
			(SELECT name, (SELECT last FROM revocation_changes) + row_number() OVER (ORDER BY name) AS number FROM revoked_certificates
				WHERE derived AND NOT restored AND issuer_key_id = ?1 AND serial = ?2) AS n
			WHERE n.name = revoked_certificates.name`},

		{&w.sweepTokens, `DELETE FROM tokens WHERE hash IN (SELECT hash FROM tokens WHERE expires <= ? ORDER BY expires LIMIT ?)`},
		{&w.sweepRevocations, `DELETE FROM revocations WHERE jti IN (SELECT jti FROM revocations WHERE expires <= ? ORDER BY expires LIMIT ?)`},
		{&w.sweepUsed, `DELETE FROM used WHERE hash IN (SELECT hash FROM used WHERE expires <= ? ORDER BY expires LIMIT ?)`},
		{&w.sweepCertificates, `DELETE FROM certificates WHERE thumbprint IN
			(SELECT thumbprint FROM certificates WHERE tokens_until <= ? ORDER BY tokens_until LIMIT ?)`},
		{&w.sweepRevoked, `DELETE FROM revoked_certificates WHERE name IN (SELECT name FROM revoked_certificates WHERE expires <= ? ORDER BY expires LIMIT ?)`},
		{&w.sweptDeletions, `UPDATE client_changes SET forgotten = max(forgotten, coalesce((SELECT max(version) FROM
			(SELECT version FROM client_deletions ORDER BY version LIMIT max(0, min(?2, (SELECT count(*) FROM client_deletions) - ?1)))), 0))`},
		{&w.sweepDeletions, `DELETE FROM client_deletions WHERE version <= (SELECT forgotten FROM client_changes)`},
	}, w.peopleWrites.statements()...)
}

// reads are the prepared statements of the readers.
type reads struct {
	client, clients, lastChange, changes *sql.Stmt
	keys, token, revoked, certificate    *sql.Stmt
	certificates, clientCertificates     *sql.Stmt
	revokedCertificate                   *sql.Stmt
	lastRevocation, revocations          *sql.Stmt
	peopleReads
}

const (
	selectRevoked = `SELECT thumbprint, issuer_key_id, serial, derived, note, at, expires FROM revoked_certificates
		WHERE name IN (?, ?) AND NOT restored ORDER BY thumbprint DESC LIMIT 1`
	certificateColumns = `thumbprint, issuer_key_id, serial, subject, client_id, not_after, first_seen, tokens_until`
)

func (r *reads) prepare(ctx context.Context, db *sql.DB) error {
	return prepare(append([]statement{
		{&r.client, `SELECT id, version, document FROM clients WHERE id = ?`},
		{&r.clients, `SELECT id, version, document FROM clients WHERE id > ? ORDER BY id LIMIT ?`},
		{&r.lastChange, `SELECT last, forgotten FROM client_changes`},
		{&r.changes, `SELECT id, version FROM clients WHERE version > ?1
			UNION ALL SELECT id, version FROM client_deletions WHERE version > ?1 ORDER BY version LIMIT ?2`},
		{&r.keys, `SELECT kid, alg, pkcs8, created, not_before, retire, expires FROM signing_keys ORDER BY position`},
		{&r.token, `SELECT jti, client_id, subject, scope, audience, issued, expires, x5t_s256 FROM tokens WHERE hash = ?`},
		{&r.revoked, `SELECT 1 FROM revocations WHERE jti = ?`},
		{&r.certificate, `SELECT ` + certificateColumns + ` FROM certificates WHERE thumbprint = ?`},
		{&r.certificates, `SELECT ` + certificateColumns + ` FROM certificates WHERE thumbprint > ? ORDER BY thumbprint LIMIT ?`},
		{&r.clientCertificates, `SELECT ` + certificateColumns + ` FROM certificates WHERE client_id = ? ORDER BY first_seen DESC, thumbprint LIMIT ?`},
		{&r.revokedCertificate, selectRevoked},
		{&r.lastRevocation, `SELECT feed, last FROM revocation_changes`},
		{&r.revocations, `SELECT * FROM (SELECT number, jti, '' AS thumbprint, '' AS issuer_key_id, '' AS serial, 0 AS derived, 0 AS restored, '' AS note, 0 AS at, expires
				FROM revocations WHERE number > ?1 ORDER BY number LIMIT ?2)
			UNION ALL SELECT * FROM (SELECT number, '', thumbprint, issuer_key_id, serial, derived, restored, note, at, expires
				FROM revoked_certificates WHERE number > ?1 ORDER BY number LIMIT ?2)
			ORDER BY number LIMIT ?2`},
	}, r.peopleReads.statements()...), func(text string) (*sql.Stmt, error) { return db.PrepareContext(ctx, text) })
}

func prepare(all []statement, with func(text string) (*sql.Stmt, error)) error {
	for i, s := range all {
		stmt, err := with(s.text)
		if err != nil {
			for _, s := range all[:i] {
				(*s.stmt).Close()
			}
			return err
		}
		*s.stmt = stmt
	}
	return nil
}
