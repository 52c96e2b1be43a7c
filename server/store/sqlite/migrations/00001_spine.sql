-- Times are microseconds since 1970 in UTC. A table without a rowid is kept in the
-- order of its primary key, which saves an index where rows are small.

-- +goose Up

-- The registrations. The document is the JSON of authserver.Client; only what is
-- looked up by has a column. version is the number of the last change of this row,
-- from the one sequence of all changes, so that it never comes back and the index on
-- it is the change feed.
CREATE TABLE clients (
	id       TEXT PRIMARY KEY NOT NULL,
	version  INTEGER NOT NULL,
	document TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX clients_version ON clients (version);

-- The deletions, as the other half of the change feed. The oldest are swept.
CREATE TABLE client_deletions (
	id      TEXT PRIMARY KEY NOT NULL,
	version INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX client_deletions_version ON client_deletions (version);

-- One row: last is the number of the last change; deletions up to forgotten may
-- have been swept.
CREATE TABLE client_changes (
	only      INTEGER PRIMARY KEY NOT NULL CHECK (only = 1),
	last      INTEGER NOT NULL,
	forgotten INTEGER NOT NULL
) STRICT;
INSERT INTO client_changes (only, last, forgotten) VALUES (1, 0, 0);

-- The keys that sign tokens, in the order in which they were added.
CREATE TABLE signing_keys (
	position   INTEGER PRIMARY KEY AUTOINCREMENT,
	kid        TEXT NOT NULL UNIQUE,
	alg        TEXT NOT NULL,
	pkcs8      BLOB NOT NULL,
	created    INTEGER NOT NULL,
	not_before INTEGER NOT NULL,
	retire     INTEGER NOT NULL,
	expires    INTEGER NOT NULL
) STRICT;

-- Opaque access tokens, by the SHA-256 of their value. audience is a JSON array.
CREATE TABLE tokens (
	hash      BLOB PRIMARY KEY NOT NULL,
	jti       TEXT NOT NULL,
	client_id TEXT NOT NULL,
	subject   TEXT NOT NULL,
	scope     TEXT NOT NULL,
	audience  TEXT NOT NULL,
	issued    INTEGER NOT NULL,
	expires   INTEGER NOT NULL,
	x5t_s256  TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX tokens_expires ON tokens (expires);

-- Revoked tokens, by jti, until they expire by themselves.
CREATE TABLE revocations (
	jti     TEXT PRIMARY KEY NOT NULL,
	expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX revocations_expires ON revocations (expires);

-- What may be used once, by the SHA-256 of its name: the name comes from a stranger.
CREATE TABLE used (
	hash    BLOB PRIMARY KEY NOT NULL,
	expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX used_expires ON used (expires);

-- Certificates that tokens were bound to, by x5t#S256, so that a revocation, which
-- names issuer and serial number, finds the tokens.
CREATE TABLE certificates (
	thumbprint    TEXT PRIMARY KEY NOT NULL,
	issuer_key_id TEXT NOT NULL,
	serial        TEXT NOT NULL,
	subject       TEXT NOT NULL,
	client_id     TEXT NOT NULL,
	not_after     INTEGER NOT NULL,
	tokens_until  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX certificates_tokens_until ON certificates (tokens_until);
CREATE INDEX certificates_serial ON certificates (issuer_key_id, serial);

-- +goose Down
DROP TABLE certificates;
DROP TABLE used;
DROP TABLE revocations;
DROP TABLE tokens;
DROP TABLE signing_keys;
DROP TABLE client_changes;
DROP TABLE client_deletions;
DROP TABLE clients;
