-- What people have to do with. A document is the JSON of the type in package authserver
-- with the name of the table; what is looked up by, or changes, has a column instead.
-- Hashes are the SHA-256 of values that are never kept.

-- +goose Up

-- Authorization requests under way. The rows are large, so they are kept in the order in
-- which they came.
CREATE TABLE requests (
	hash       BLOB PRIMARY KEY NOT NULL,
	client_id  TEXT NOT NULL,
	version    INTEGER NOT NULL,
	browser    BLOB NOT NULL,
	parameters BLOB,
	progress   BLOB,
	expires    INTEGER NOT NULL,
	document   TEXT NOT NULL
) STRICT;
CREATE INDEX requests_expires ON requests (expires);
CREATE INDEX requests_client ON requests (client_id);

-- Grants. ended is when nothing can follow from one any more: when it expires or, if that
-- is earlier, when it was revoked.
CREATE TABLE grants (
	id        TEXT PRIMARY KEY NOT NULL,
	client_id TEXT NOT NULL,
	subject   TEXT NOT NULL,
	revoked   INTEGER,
	ended     INTEGER NOT NULL,
	document  TEXT NOT NULL
) STRICT;
CREATE INDEX grants_ended ON grants (ended);
CREATE INDEX grants_client ON grants (client_id, id);
CREATE INDEX grants_subject ON grants (subject, id);

-- Authorization codes.
CREATE TABLE codes (
	hash     BLOB PRIMARY KEY NOT NULL,
	grant_id TEXT NOT NULL,
	used     INTEGER,
	expires  INTEGER NOT NULL,
	document TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX codes_expires ON codes (expires);
CREATE INDEX codes_grant ON codes (grant_id);

-- Refresh tokens.
CREATE TABLE refresh_tokens (
	hash     BLOB PRIMARY KEY NOT NULL,
	grant_id TEXT NOT NULL,
	used     INTEGER,
	expires  INTEGER NOT NULL,
	document TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX refresh_tokens_expires ON refresh_tokens (expires);
CREATE INDEX refresh_tokens_grant ON refresh_tokens (grant_id);

-- The access tokens that end with a grant, until they expire by themselves.
CREATE TABLE grant_tokens (
	grant_id TEXT NOT NULL,
	jti      TEXT NOT NULL,
	expires  INTEGER NOT NULL,
	PRIMARY KEY (grant_id, jti)
) STRICT, WITHOUT ROWID;
CREATE INDEX grant_tokens_expires ON grant_tokens (expires);

-- Browsers in which a person has logged in.
CREATE TABLE sessions (
	hash      BLOB PRIMARY KEY NOT NULL,
	subject   TEXT NOT NULL,
	last_seen INTEGER NOT NULL,
	expires   INTEGER NOT NULL,
	document  TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_expires ON sessions (expires);
CREATE INDEX sessions_subject ON sessions (subject);

-- What people have allowed, to be remembered.
CREATE TABLE consents (
	subject   TEXT NOT NULL,
	client_id TEXT NOT NULL,
	expires   INTEGER NOT NULL,
	document  TEXT NOT NULL,
	PRIMARY KEY (subject, client_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX consents_expires ON consents (expires);
CREATE INDEX consents_client ON consents (client_id);

-- What is known of people.
CREATE TABLE persons (
	subject  TEXT PRIMARY KEY NOT NULL,
	document TEXT NOT NULL
) STRICT;

-- Initial access tokens. uses is how many registrations are left; less than 0: any.
CREATE TABLE initial_tokens (
	name     TEXT PRIMARY KEY NOT NULL,
	hash     BLOB NOT NULL UNIQUE,
	uses     INTEGER NOT NULL,
	expires  INTEGER NOT NULL,
	document TEXT NOT NULL
) STRICT;
CREATE INDEX initial_tokens_expires ON initial_tokens (expires);

-- Built-in accounts (package accounts).
CREATE TABLE users (
	name         TEXT PRIMARY KEY NOT NULL,
	subject      TEXT NOT NULL UNIQUE,
	version      INTEGER NOT NULL,
	failures     INTEGER NOT NULL,
	locked_until INTEGER NOT NULL,
	document     TEXT NOT NULL
) STRICT;

-- One row: the number of the last change of an account, so that a version never comes
-- back.
CREATE TABLE user_changes (
	only INTEGER PRIMARY KEY NOT NULL CHECK (only = 1),
	last INTEGER NOT NULL
) STRICT;
INSERT INTO user_changes (only, last) VALUES (1, 0);

-- +goose Down
DROP TABLE user_changes;
DROP TABLE users;
DROP TABLE initial_tokens;
DROP TABLE persons;
DROP TABLE consents;
DROP TABLE sessions;
DROP TABLE grant_tokens;
DROP TABLE refresh_tokens;
DROP TABLE codes;
DROP TABLE grants;
DROP TABLE requests;
