package authserver

import (
	"context"
	"errors"
	"time"
)

// Errors of a [Store].
var (
	ErrNotFound = errors.New("authserver: not found")
	ErrExists   = errors.New("authserver: exists already")
	// ErrConflict reports a record that was changed since it was read.
	ErrConflict = errors.New("authserver: changed by somebody else")
	// ErrRevoked reports a certificate that is revoked.
	ErrRevoked = errors.New("authserver: the certificate is revoked")
)

// A Store keeps what must outlive a process. Everything that a method has
// acknowledged survives a crash. Implementations are safe for concurrent use, also
// by several processes on one store; the suite storetest holds the contract. Times
// are compared with the arguments given, never with a clock of the store's own, and
// keep at least microseconds. Nothing is shared between the caller and the store: a
// later change on one side does not reach the other.
type Store interface {
	// Client returns a registration, or ErrNotFound.
	Client(ctx context.Context, id string) (*Client, error)
	// Clients returns at most limit registrations with an id after the given one,
	// sorted by the bytes of the id.
	Clients(ctx context.Context, after string, limit int) ([]*Client, error)
	// CreateClient adds a registration, or returns ErrExists. It sets c.Version,
	// to a number that no state of a client with this id has had before.
	CreateClient(ctx context.Context, c *Client) error
	// UpdateClient replaces a registration if its version is still c.Version, and
	// sets the new version; otherwise ErrConflict or ErrNotFound.
	UpdateClient(ctx context.Context, c *Client) error
	// DeleteClient removes a registration, or returns ErrNotFound.
	DeleteClient(ctx context.Context, id string) error
	// ClientChanges returns the ids of clients that were created, updated or
	// deleted after the change with number since, each once, and the number of the
	// last change. If there are more than max, or if the store does not know them
	// all any more, complete is false and the caller forgets all that it has cached.
	ClientChanges(ctx context.Context, since int64, max int) (ids []string, last int64, complete bool, err error)

	// SigningKeys returns all keys, oldest first.
	SigningKeys(ctx context.Context) ([]SigningKey, error)
	// AddSigningKey adds k if the newest key is still the one named after ("" for
	// none), so that of several processes one rotates; otherwise ErrConflict. A
	// key id that is there already is ErrExists.
	AddSigningKey(ctx context.Context, k SigningKey, after string) error
	// DeleteSigningKey removes a key. A key that is not there is no error.
	DeleteSigningKey(ctx context.Context, kid string) error

	// SaveToken keeps an opaque access token, by the SHA-256 of its value. A hash
	// that is there already is ErrExists.
	SaveToken(ctx context.Context, t *OpaqueToken) error
	// Token returns an opaque access token by hash, or ErrNotFound. Expired ones
	// may be returned until they are swept.
	Token(ctx context.Context, hash [32]byte) (*OpaqueToken, error)

	// Revoke remembers that the token with this jti is revoked, until it expires.
	// A second call is no error; the later expiry counts.
	Revoke(ctx context.Context, jti string, expires time.Time) error
	// Revoked reports whether the token with this jti was revoked.
	Revoked(ctx context.Context, jti string) (bool, error)

	// UseOnce records key and reports whether this call was the first until
	// expires: for the jti of client assertions. Concurrent calls have one winner.
	// A key counts as used until it is swept, by the latest expiry it came with.
	UseOnce(ctx context.Context, key string, expires time.Time) (first bool, err error)

	// SaveCertificate remembers a certificate that tokens are about to be bound to, so
	// that a revocation reaches them, and extends its TokensUntil if it is known
	// already; the other members stay as they were first saved. If the certificate is
	// revoked, by thumbprint or by issuer and serial number, it is ErrRevoked and
	// nothing is changed: no certificate is remembered after its revocation.
	SaveCertificate(ctx context.Context, c CertificateRecord) error
	// Certificate returns a remembered certificate by thumbprint, or ErrNotFound.
	Certificate(ctx context.Context, thumbprint string) (*CertificateRecord, error)
	// Certificates returns at most limit remembered certificates with a thumbprint
	// after the given one, sorted by its bytes.
	Certificates(ctx context.Context, after string, limit int) ([]CertificateRecord, error)
	// ClientCertificates returns at most limit remembered certificates of a client, by
	// FirstSeen, the newest first.
	ClientCertificates(ctx context.Context, clientID string, limit int) ([]CertificateRecord, error)

	// RevokeCertificate revokes a certificate by thumbprint, or by issuer key id and
	// serial number; then each remembered certificate that they name is revoked too,
	// by a record of its own that is Derived. A second call is no error and, unless
	// its expiry is later or the record was Derived, no change.
	RevokeCertificate(ctx context.Context, r RevokedCertificate) error
	// RestoreCertificate undoes what RevokeCertificate did with the same names, with the
	// records that were derived from it; one that is also revoked by issuer and serial
	// number becomes Derived. If there is nothing to undo, or the record is Derived, it
	// is ErrNotFound.
	RestoreCertificate(ctx context.Context, r RevokedCertificate) error
	// CertificateRevoked returns the record by which a certificate is revoked, or
	// ErrNotFound. Without an issuerKeyID it looks for the thumbprint only, which is
	// enough for a remembered certificate.
	CertificateRevoked(ctx context.Context, thumbprint, issuerKeyID, serial string) (*RevokedCertificate, error)
	// Revocations returns at most limit changes after the one with number since, in
	// their order: revoked tokens, and certificates revoked and restored. Of each
	// there is only the last change. Whoever has seen a number has seen all before.
	Revocations(ctx context.Context, since int64, limit int) (*RevocationPage, error)

	// Sweep removes at most limit records of each kind that have expired at now, or
	// before, and says how many: tokens, revocations, used keys, and certificates
	// by their TokensUntil, and revoked certificates by their Expires. Signing keys are
	// the business of who rotates them.
	Sweep(ctx context.Context, now time.Time, limit int) (removed int, err error)
	// Ping reports whether the store can be reached.
	Ping(ctx context.Context) error
	Close() error
}

// A SigningKey signs access tokens.
type SigningKey struct {
	KID string
	Alg string // ES256, PS256, RS256, EdDSA
	// PKCS8 is the private key. Stores keep it as it is.
	PKCS8   []byte
	Created time.Time
	// NotBefore is when it begins to sign; it is published from Created on.
	NotBefore time.Time
	// Retire is when it ends to sign, Expires when it leaves the JWKS.
	Retire, Expires time.Time
}

// An OpaqueToken is an access token whose value means nothing by itself.
type OpaqueToken struct {
	Hash     [32]byte // SHA-256 of the value
	JTI      string
	ClientID string
	Subject  string
	Scope    string
	Audience []string
	Issued   time.Time
	Expires  time.Time
	// X5TS256 is the certificate that the token is bound to, or empty.
	X5TS256 string
}

// A CertificateRecord says what a revocation needs to find tokens. Of an IssuerKeyID or
// Serial with more than 128 digits it holds the SHA-256, in hex, of the digits.
type CertificateRecord struct {
	Thumbprint  string // x5t#S256
	IssuerKeyID string // authority key id in hex, or the SHA-256 of the issuer's name in DER where there is none
	Serial      string // hex
	Subject     string // RFC 4514
	ClientID    string
	NotAfter    time.Time
	// FirstSeen is when it was first used.
	FirstSeen time.Time
	// TokensUntil is when the last token bound to it expires.
	TokensUntil time.Time
}

// A RevokedCertificate is named by its thumbprint, or by issuer key id and serial number
// as in a [CertificateRecord]. Tokens that are bound to it are not valid any more, and
// there are no new ones.
type RevokedCertificate struct {
	Thumbprint  string `json:"x5t#S256,omitempty"`
	IssuerKeyID string `json:"issuer_key_id,omitempty"`
	Serial      string `json:"serial,omitempty"`
	// Derived says that the record follows from another one, which names IssuerKeyID
	// and Serial.
	Derived bool `json:"derived,omitempty"`
	// Note says who revoked it and why, for people.
	Note string    `json:"note,omitempty"`
	At   time.Time `json:"revoked_at"`
	// Expires is when the record can be forgotten, since nothing is bound to the
	// certificate any more and nothing can be. If zero, never.
	Expires time.Time `json:"expires,omitzero"`
}

// A Revocation is one change of what is revoked.
type Revocation struct {
	Number int64
	// JTI is that of a revoked token. If empty, Certificate is set.
	JTI         string
	Certificate RevokedCertificate
	// Restored says that the certificate is no longer revoked.
	Restored bool
	// Expires is when the token, or the record of the certificate, expires.
	Expires time.Time
}

// A RevocationPage is part of the revocations, in the order of their numbers.
type RevocationPage struct {
	// Feed names the sequence that the numbers belong to. It is another one for a
	// store that was made anew; its numbers then mean nothing to the reader of the
	// old one.
	Feed    string
	Entries []Revocation
	// Last is the number of the last change of all, whether it is on the page or not.
	Last int64
}
