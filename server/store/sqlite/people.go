package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"time"

	"github.com/certbound/certbound/authserver"
)

type (
	requestDocument struct {
		*authserver.AuthorizationRequest
		Hash, ClientID, Parameters, Browser, Progress, Expires, Version *struct{} `json:",omitempty"`
	}
	sessionDocument struct {
		*authserver.Session
		Hash, LastSeen, Expires *struct{} `json:",omitempty"`
	}
	initialDocument struct {
		*authserver.InitialToken
		Hash, Uses *struct{} `json:",omitempty"`
	}
)

// SaveRequest implements [authserver.GrantStore].
func (s *Store) SaveRequest(ctx context.Context, r *authserver.AuthorizationRequest) error {
	kept := *r
	kept.Parameters, kept.Progress = slices.Clone(r.Parameters), slices.Clone(r.Progress)
	text, err := encodeDocument("authorization request", requestDocument{AuthorizationRequest: r})
	if err != nil {
		return err
	}
	err = s.write(ctx, func(w *writes) error {
		return existsUnless(w.insertRequest.Exec(kept.Hash[:], kept.ClientID, kept.Browser[:],
			[]byte(kept.Parameters), []byte(kept.Progress), micros(kept.Expires), text))
	})
	if err == nil {
		r.Version = 1
	}
	return err
}

// Request implements [authserver.GrantStore].
func (s *Store) Request(ctx context.Context, hash [32]byte) (*authserver.AuthorizationRequest, error) {
	ctx, err := quick(ctx)
	if err != nil {
		return nil, err
	}
	r := &authserver.AuthorizationRequest{Hash: hash}
	var browser, text []byte
	var expires int64
	err = s.reads.request.QueryRowContext(ctx, hash[:]).
		Scan(&r.ClientID, &r.Version, &browser, (*[]byte)(&r.Parameters), (*[]byte)(&r.Progress), &expires, &text)
	if err != nil {
		return nil, s.notFound(err)
	}
	if err := decodeDocument("authorization request", text, &requestDocument{AuthorizationRequest: r}); err != nil {
		return nil, err
	}
	copy(r.Browser[:], browser)
	r.Expires = fromMicros(expires)
	return r, nil
}

// requestIs is ErrNotFound or ErrConflict unless the request has that version.
func (w *writes) requestIs(hash [32]byte, version int64) error {
	var now int64
	if err := w.requestVersion.QueryRow(hash[:]).Scan(&now); err != nil {
		return noRows(err)
	}
	if now != version {
		return authserver.ErrConflict
	}
	return nil
}

// UpdateRequest implements [authserver.GrantStore].
func (s *Store) UpdateRequest(ctx context.Context, r *authserver.AuthorizationRequest) error {
	hash, version, browser, progress, expires := r.Hash, r.Version, r.Browser, slices.Clone(r.Progress), micros(r.Expires)
	err := s.write(ctx, func(w *writes) error {
		if err := w.requestIs(hash, version); err != nil {
			return err
		}
		_, err := w.updateRequest.Exec(version+1, browser[:], []byte(progress), expires, hash[:])
		return err
	})
	if err == nil {
		r.Version = version + 1
	}
	return err
}

// DeleteRequest implements [authserver.GrantStore].
func (s *Store) DeleteRequest(ctx context.Context, hash [32]byte) error {
	return s.write(ctx, func(w *writes) error { return notFoundUnless(w.deleteRequest.Exec(hash[:])) })
}

// SaveSession implements [authserver.GrantStore].
func (s *Store) SaveSession(ctx context.Context, session *authserver.Session, replaces [32]byte) error {
	hash, subject, lastSeen, expires := session.Hash, session.Subject, micros(session.LastSeen), micros(session.Expires)
	text, err := encodeDocument("session", sessionDocument{Session: session})
	if err != nil {
		return err
	}
	return s.write(ctx, func(w *writes) error {
		if err := existsUnless(w.insertSession.Exec(hash[:], subject, lastSeen, expires, text)); err != nil {
			return err
		}
		if replaces == hash {
			return nil
		}
		_, err := w.deleteSession.Exec(replaces[:])
		return err
	})
}

// Session implements [authserver.GrantStore].
func (s *Store) Session(ctx context.Context, hash [32]byte) (*authserver.Session, error) {
	ctx, err := quick(ctx)
	if err != nil {
		return nil, err
	}
	out := &authserver.Session{Hash: hash}
	var lastSeen, expires int64
	var text []byte
	if err := s.reads.session.QueryRowContext(ctx, hash[:]).Scan(&lastSeen, &expires, &text); err != nil {
		return nil, s.notFound(err)
	}
	if err := decodeDocument("session", text, &sessionDocument{Session: out}); err != nil {
		return nil, err
	}
	out.LastSeen, out.Expires = fromMicros(lastSeen), fromMicros(expires)
	return out, nil
}

// TouchSession implements [authserver.GrantStore].
func (s *Store) TouchSession(ctx context.Context, hash [32]byte, lastSeen, expires time.Time) error {
	return s.write(ctx, func(w *writes) error {
		return notFoundUnless(w.touchSession.Exec(micros(lastSeen), micros(expires), hash[:]))
	})
}

// DeleteSession implements [authserver.GrantStore].
func (s *Store) DeleteSession(ctx context.Context, hash [32]byte) error {
	return s.write(ctx, func(w *writes) error {
		_, err := w.deleteSession.Exec(hash[:])
		return err
	})
}

// DeleteSessions implements [authserver.GrantStore].
func (s *Store) DeleteSessions(ctx context.Context, subject string) error {
	return s.write(ctx, func(w *writes) error {
		_, err := w.deleteSessions.Exec(subject)
		return err
	})
}

// Consent implements [authserver.GrantStore].
func (s *Store) Consent(ctx context.Context, subject, clientID string) (*authserver.Consent, error) {
	ctx, err := quick(ctx)
	if err != nil {
		return nil, err
	}
	var text []byte
	if err := s.reads.consent.QueryRowContext(ctx, subject, clientID).Scan(&text); err != nil {
		return nil, s.notFound(err)
	}
	c := new(authserver.Consent)
	return c, decodeDocument("consent", text, c)
}

// DeleteConsent implements [authserver.GrantStore].
func (s *Store) DeleteConsent(ctx context.Context, subject, clientID string) error {
	return s.write(ctx, func(w *writes) error {
		_, err := w.deleteConsent.Exec(subject, clientID)
		return err
	})
}

// SavePerson implements [authserver.GrantStore].
func (s *Store) SavePerson(ctx context.Context, p *authserver.Person) error {
	subject, disabled, updated := p.Subject, p.Disabled, p.Updated
	text, err := encodeDocument("person", p)
	if err != nil {
		return err
	}
	return s.write(ctx, func(w *writes) error {
		if !disabled {
			var kept []byte
			switch err := w.person.QueryRow(subject).Scan(&kept); {
			case errors.Is(err, sql.ErrNoRows):
			case err != nil:
				return err
			default:
				var have authserver.Person
				if err := decodeDocument("person", kept, &have); err != nil {
					return err
				}
				if have.Disabled && !updated.After(have.Updated) {
					return authserver.ErrConflict
				}
			}
		}
		_, err := w.savePerson.Exec(subject, text)
		return err
	})
}

// Person implements [authserver.GrantStore].
func (s *Store) Person(ctx context.Context, subject string) (*authserver.Person, error) {
	ctx, err := quick(ctx)
	if err != nil {
		return nil, err
	}
	var text []byte
	if err := s.reads.person.QueryRowContext(ctx, subject).Scan(&text); err != nil {
		return nil, s.notFound(err)
	}
	p := new(authserver.Person)
	return p, decodeDocument("person", text, p)
}

// SaveInitialToken implements [authserver.GrantStore].
func (s *Store) SaveInitialToken(ctx context.Context, t *authserver.InitialToken) error {
	name, hash, uses, expires := t.Name, t.Hash, t.Uses, micros(t.Expires)
	text, err := encodeDocument("initial access token", initialDocument{InitialToken: t})
	if err != nil {
		return err
	}
	return s.write(ctx, func(w *writes) error {
		return existsUnless(w.insertInitial.Exec(name, hash[:], uses, expires, text))
	})
}

func scanInitial(row interface{ Scan(...any) error }) (*authserver.InitialToken, error) {
	var hash, text []byte
	var uses int
	if err := row.Scan(&hash, &uses, &text); err != nil {
		return nil, err
	}
	t := new(authserver.InitialToken)
	if err := decodeDocument("initial access token", text, &initialDocument{InitialToken: t}); err != nil {
		return nil, err
	}
	copy(t.Hash[:], hash)
	t.Uses = uses
	return t, nil
}

// InitialTokens implements [authserver.GrantStore].
func (s *Store) InitialTokens(ctx context.Context, after string, limit int) ([]*authserver.InitialToken, error) {
	rows, err := s.reads.initialTokens.QueryContext(ctx, after, max(limit, 0))
	if err != nil {
		return nil, explain(s.path, err)
	}
	defer rows.Close()
	var out []*authserver.InitialToken
	for rows.Next() {
		t, err := scanInitial(rows)
		if err != nil {
			return nil, explain(s.path, err)
		}
		out = append(out, t)
	}
	return out, explain(s.path, rows.Err())
}

// InitialToken implements [authserver.GrantStore].
func (s *Store) InitialToken(ctx context.Context, hash [32]byte) (*authserver.InitialToken, error) {
	ctx, err := quick(ctx)
	if err != nil {
		return nil, err
	}
	t, err := scanInitial(s.reads.initialToken.QueryRowContext(ctx, hash[:]))
	return t, s.notFound(err)
}

// RegisterClient implements [authserver.GrantStore].
func (s *Store) RegisterClient(ctx context.Context, c *authserver.Client, initial [32]byte, now time.Time) error {
	id := c.ID
	text, err := encode(c)
	if err != nil {
		return err
	}
	var version int64
	err = s.write(ctx, func(w *writes) error {
		if initial != ([32]byte{}) {
			var uses int
			var expires int64
			switch err := w.initialToken.QueryRow(initial[:]).Scan(&uses, &expires); {
			case noRows(err) == authserver.ErrNotFound:
				return authserver.ErrUsed
			case err != nil:
				return err
			case uses == 0, expires <= micros(now):
				return authserver.ErrUsed
			}
		}
		var err error
		if version, err = w.create(id, text); err != nil || initial == ([32]byte{}) {
			return err
		}
		_, err = w.countInitial.Exec(initial[:])
		return err
	})
	if err == nil {
		c.Version = version
	}
	return err
}

// DeleteInitialToken implements [authserver.GrantStore].
func (s *Store) DeleteInitialToken(ctx context.Context, name string) error {
	return s.write(ctx, func(w *writes) error { return notFoundUnless(w.deleteInitial.Exec(name)) })
}

// peopleWrites are the statements of the writer for grants and people.
type peopleWrites struct {
	insertRequest, requestVersion, updateRequest, deleteRequest *sql.Stmt
	grantOrCode, insertGrant, insertCode                        *sql.Stmt
	code, useCode, refresh, useRefresh, extendRefresh           *sql.Stmt
	tokenExists, insertRefresh, insertGrantToken                *sql.Stmt
	grant, revokeGrant, revokeIssued                            *sql.Stmt
	insertSession, touchSession, deleteSession, deleteSessions  *sql.Stmt
	saveConsent, deleteConsent, person, savePerson              *sql.Stmt
	insertInitial, initialToken, countInitial, deleteInitial    *sql.Stmt

	revokeIssuedOf, deleteCodesOf, deleteRefreshOf, deleteGrantTokensOf *sql.Stmt
	deleteGrantsOf, deleteRequestsOf, deleteConsentsOf                  *sql.Stmt

	sweepGrantTokens, sweepRequests, sweepCodes, sweepRefresh *sql.Stmt
	sweepGrantCodes, sweepGrantRefresh, sweepGrantTokensOf    *sql.Stmt
	sweepGrants                                               *sql.Stmt
	sweepSessions, sweepConsents, sweepInitial                *sql.Stmt

	insertUser, userExists, user, updateUser, countFailure, clearFailures, deleteUser, nextUser *sql.Stmt
	subjectTaken                                                                                *sql.Stmt
}

// revokeTokens revokes the access tokens with the grants that the condition selects, and
// numbers them. It leaves out what it would not change, so that there is no gap between
// the numbers.
func revokeTokens(condition string) string {
	return `INSERT INTO revocations (jti, expires, number)
		SELECT jti, expires, (SELECT last FROM revocation_changes) + row_number() OVER (ORDER BY jti) FROM
			(SELECT jti, max(expires) AS expires FROM grant_tokens WHERE ` + condition + ` GROUP BY jti) AS t
		WHERE NOT EXISTS (SELECT 1 FROM revocations AS r WHERE r.jti = t.jti AND r.expires >= t.expires)
		ON CONFLICT DO UPDATE SET expires = excluded.expires, number = excluded.number`
}

const (
	ofClient = `grant_id IN (SELECT id FROM grants WHERE client_id = ?)`
	// endedGrants selects the same grants each time within one sweep: the access tokens
	// that have expired make no difference.
	endedGrants = `(SELECT id FROM grants WHERE ended <= ?1
		AND NOT EXISTS (SELECT 1 FROM grant_tokens WHERE grant_id = grants.id AND expires > ?1) ORDER BY ended, id LIMIT ?2)`
)

func (w *peopleWrites) statements() []statement {
	return []statement{
		{&w.insertRequest, `INSERT INTO requests (hash, client_id, version, browser, parameters, progress, expires, document)
			VALUES (?, ?, 1, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`},
		{&w.requestVersion, `SELECT version FROM requests WHERE hash = ?`},
		{&w.updateRequest, `UPDATE requests SET version = ?, browser = ?, progress = ?, expires = ? WHERE hash = ?`},
		{&w.deleteRequest, `DELETE FROM requests WHERE hash = ?`},

		{&w.grantOrCode, `SELECT EXISTS (SELECT 1 FROM grants WHERE id = ?) OR EXISTS (SELECT 1 FROM codes WHERE hash = ?)`},
		{&w.insertGrant, `INSERT INTO grants (id, client_id, subject, revoked, ended, document) VALUES (?, ?, ?, ?, ?, ?)`},
		{&w.insertCode, `INSERT INTO codes (hash, grant_id, used, expires, document) VALUES (?, ?, ?, ?, ?)`},
		{&w.code, `SELECT grant_id, used, revoked FROM codes JOIN grants ON id = grant_id WHERE hash = ?`},
		{&w.useCode, `UPDATE codes SET used = ? WHERE hash = ?`},
		{&w.refresh, `SELECT grant_id, used, revoked FROM refresh_tokens JOIN grants ON id = grant_id WHERE hash = ?`},
		{&w.useRefresh, `UPDATE refresh_tokens SET used = ? WHERE hash = ?`},
		{&w.extendRefresh, `UPDATE refresh_tokens SET expires = ?2 WHERE hash = ?1 AND expires < ?2`},
		{&w.tokenExists, `SELECT 1 FROM tokens WHERE hash = ?`},
		{&w.insertRefresh, `INSERT INTO refresh_tokens (hash, grant_id, used, expires, document) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`},
		{&w.insertGrantToken, `INSERT INTO grant_tokens (grant_id, jti, expires) VALUES (?, ?, ?)
			ON CONFLICT DO UPDATE SET expires = max(expires, excluded.expires)`},
		{&w.grant, `SELECT revoked FROM grants WHERE id = ?`},
		{&w.revokeGrant, `UPDATE grants SET revoked = ?1, ended = min(ended, ?1) WHERE id = ?2`},
		{&w.revokeIssued, revokeTokens(`grant_id = ?`)},

		{&w.insertSession, `INSERT INTO sessions (hash, subject, last_seen, expires, document) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`},
		{&w.touchSession, `UPDATE sessions SET last_seen = ?, expires = ? WHERE hash = ?`},
		{&w.deleteSession, `DELETE FROM sessions WHERE hash = ?`},
		{&w.deleteSessions, `DELETE FROM sessions WHERE subject = ?`},
		{&w.saveConsent, `INSERT OR REPLACE INTO consents (subject, client_id, expires, document) VALUES (?, ?, ?, ?)`},
		{&w.deleteConsent, `DELETE FROM consents WHERE subject = ? AND client_id = ?`},
		{&w.person, `SELECT document FROM persons WHERE subject = ?`},
		{&w.savePerson, `INSERT INTO persons (subject, document) VALUES (?, ?) ON CONFLICT DO UPDATE SET document = excluded.document`},
		{&w.insertInitial, `INSERT INTO initial_tokens (name, hash, uses, expires, document) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`},
		{&w.initialToken, `SELECT uses, expires FROM initial_tokens WHERE hash = ?`},
		{&w.countInitial, `UPDATE initial_tokens SET uses = uses - 1 WHERE hash = ? AND uses > 0`},
		{&w.deleteInitial, `DELETE FROM initial_tokens WHERE name = ?`},

		{&w.revokeIssuedOf, revokeTokens(ofClient)},
		{&w.deleteCodesOf, `DELETE FROM codes WHERE ` + ofClient},
		{&w.deleteRefreshOf, `DELETE FROM refresh_tokens WHERE ` + ofClient},
		{&w.deleteGrantTokensOf, `DELETE FROM grant_tokens WHERE ` + ofClient},
		{&w.deleteGrantsOf, `DELETE FROM grants WHERE client_id = ?`},
		{&w.deleteRequestsOf, `DELETE FROM requests WHERE client_id = ?`},
		{&w.deleteConsentsOf, `DELETE FROM consents WHERE client_id = ?`},

		{&w.sweepGrantTokens, `DELETE FROM grant_tokens WHERE (grant_id, jti) IN
			(SELECT grant_id, jti FROM grant_tokens WHERE expires <= ? ORDER BY expires LIMIT ?)`},
		{&w.sweepRequests, `DELETE FROM requests WHERE hash IN (SELECT hash FROM requests WHERE expires <= ? ORDER BY expires LIMIT ?)`},
		{&w.sweepCodes, `DELETE FROM codes WHERE hash IN (SELECT hash FROM codes WHERE expires <= ? ORDER BY expires LIMIT ?)`},
		{&w.sweepRefresh, `DELETE FROM refresh_tokens WHERE hash IN (SELECT hash FROM refresh_tokens WHERE expires <= ? ORDER BY expires LIMIT ?)`},
		{&w.sweepGrantCodes, `DELETE FROM codes WHERE grant_id IN ` + endedGrants},
		{&w.sweepGrantRefresh, `DELETE FROM refresh_tokens WHERE grant_id IN ` + endedGrants},
		{&w.sweepGrantTokensOf, `DELETE FROM grant_tokens WHERE grant_id IN ` + endedGrants},
		{&w.sweepGrants, `DELETE FROM grants WHERE id IN ` + endedGrants},
		{&w.sweepSessions, `DELETE FROM sessions WHERE hash IN (SELECT hash FROM sessions WHERE expires <= ? ORDER BY expires LIMIT ?)`},
		{&w.sweepConsents, `DELETE FROM consents WHERE (subject, client_id) IN
			(SELECT subject, client_id FROM consents WHERE expires <= ? ORDER BY expires LIMIT ?)`},
		{&w.sweepInitial, `DELETE FROM initial_tokens WHERE name IN (SELECT name FROM initial_tokens WHERE expires <= ? ORDER BY expires LIMIT ?)`},

		{&w.nextUser, `UPDATE user_changes SET last = last + 1 RETURNING last`},
		{&w.userExists, `SELECT EXISTS (SELECT 1 FROM users WHERE name = ? OR subject = ?)`},
		{&w.subjectTaken, `SELECT EXISTS (SELECT 1 FROM users WHERE subject = ? AND name <> ?)`},
		{&w.insertUser, `INSERT INTO users (name, subject, version, failures, locked_until, document) VALUES (?, ?, ?, ?, ?, ?)`},
		{&w.user, `SELECT version, failures FROM users WHERE name = ?`},
		{&w.updateUser, `UPDATE users SET version = ?, subject = ?, document = ? WHERE name = ?`},
		{&w.countFailure, `UPDATE users SET failures = ?, locked_until = ? WHERE name = ?`},
		{&w.clearFailures, `UPDATE users SET failures = 0, locked_until = ? WHERE name = ?`},
		{&w.deleteUser, `DELETE FROM users WHERE name = ?`},
	}
}

// peopleReads are the statements of the readers for grants and people.
type peopleReads struct {
	request, code, refresh, grant                 *sql.Stmt
	grantsOfSubject, grantsOfClient, grantsOfBoth *sql.Stmt
	session, consent, person                      *sql.Stmt
	initialTokens, initialToken                   *sql.Stmt
	user, users                                   *sql.Stmt
}

func (r *peopleReads) statements() []statement {
	const grants = `SELECT id, document FROM grants WHERE id > ?1 AND revoked IS NULL AND `
	return []statement{
		{&r.request, `SELECT client_id, version, browser, parameters, progress, expires, document FROM requests WHERE hash = ?`},
		{&r.code, `SELECT grant_id, used, expires, codes.document, revoked, grants.document FROM codes JOIN grants ON id = grant_id WHERE hash = ?`},
		{&r.refresh, `SELECT grant_id, used, expires, refresh_tokens.document, revoked, grants.document
			FROM refresh_tokens JOIN grants ON id = grant_id WHERE hash = ?`},
		{&r.grant, `SELECT revoked, document FROM grants WHERE id = ?`},
		{&r.grantsOfSubject, grants + `subject = ?3 ORDER BY id LIMIT ?2`},
		{&r.grantsOfClient, grants + `client_id = ?3 ORDER BY id LIMIT ?2`},
		{&r.grantsOfBoth, grants + `subject = ?3 AND client_id = ?4 ORDER BY id LIMIT ?2`},
		{&r.session, `SELECT last_seen, expires, document FROM sessions WHERE hash = ?`},
		{&r.consent, `SELECT document FROM consents WHERE subject = ? AND client_id = ?`},
		{&r.person, `SELECT document FROM persons WHERE subject = ?`},
		{&r.initialTokens, `SELECT hash, uses, document FROM initial_tokens WHERE name > ? ORDER BY name LIMIT ?`},
		{&r.initialToken, `SELECT hash, uses, document FROM initial_tokens WHERE hash = ?`},
		{&r.user, `SELECT name, subject, version, failures, locked_until, document FROM users WHERE name = ?`},
		{&r.users, `SELECT name, subject, version, failures, locked_until, document FROM users WHERE name > ? ORDER BY name LIMIT ?`},
	}
}
