-- +goose Up

-- One row: the numbers of all changes of what is revoked are one sequence, and feed is
-- its name, so that the readers of another database's sequence notice.
CREATE TABLE revocation_changes (
	only INTEGER PRIMARY KEY NOT NULL CHECK (only = 1),
	feed TEXT NOT NULL,
	last INTEGER NOT NULL
) STRICT;

-- number is that of the last change of a row.
ALTER TABLE revocations ADD COLUMN number INTEGER NOT NULL DEFAULT 0;
UPDATE revocations SET number = n.number
	FROM (SELECT jti, row_number() OVER (ORDER BY expires, jti) AS number FROM revocations) AS n
	WHERE n.jti = revocations.jti;
CREATE UNIQUE INDEX revocations_number ON revocations (number);
INSERT INTO revocation_changes (only, feed, last)
	SELECT 1, lower(hex(randomblob(16))), coalesce(max(number), 0) FROM revocations;

-- Revoked certificates. name is the thumbprint, or issuer key id and serial number with
-- a slash between them. Rows of restored certificates stay, for readers of the changes.
CREATE TABLE revoked_certificates (
	name          TEXT PRIMARY KEY NOT NULL,
	number        INTEGER NOT NULL,
	thumbprint    TEXT NOT NULL,
	issuer_key_id TEXT NOT NULL,
	serial        TEXT NOT NULL,
	derived       INTEGER NOT NULL,
	restored      INTEGER NOT NULL,
	note          TEXT NOT NULL,
	at            INTEGER NOT NULL,
	expires       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX revoked_certificates_number ON revoked_certificates (number);
CREATE INDEX revoked_certificates_expires ON revoked_certificates (expires);
CREATE INDEX revoked_certificates_derived ON revoked_certificates (issuer_key_id, serial) WHERE derived;

-- The default is the zero time.
ALTER TABLE certificates ADD COLUMN first_seen INTEGER NOT NULL DEFAULT -62135596800000000;
CREATE INDEX certificates_client ON certificates (client_id, first_seen);

-- +goose Down
DROP INDEX certificates_client;
ALTER TABLE certificates DROP COLUMN first_seen;
DROP TABLE revoked_certificates;
DROP INDEX revocations_number;
ALTER TABLE revocations DROP COLUMN number;
DROP TABLE revocation_changes;
