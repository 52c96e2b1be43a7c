package authserver

import (
	"context"
	"encoding/json"
	"errors"
	"time"
)

// Errors of a [GrantStore].
var (
	// ErrUsed reports a code or a refresh token that was used before.
	ErrUsed = errors.New("authserver: used already")
	// ErrGrantRevoked reports a grant that has ended.
	ErrGrantRevoked = errors.New("authserver: the grant is revoked")
)

// A GrantStore is a [Store] that also keeps what people have to do with: authorization
// requests, sessions, grants with their codes and refresh tokens, consents. The rules of
// Store hold: what was acknowledged survives a crash, each method is one transaction,
// and several processes may share one store. Values of codes, tokens and cookies are
// never kept, only their SHA-256.
//
// DeleteClient also removes the client's requests, consents and grants with all that
// followed from them, and revokes the access tokens of its grants as RevokeGrant does.
// Sweep also removes requests, codes, refresh tokens, sessions, consents, initial access
// tokens and what RevokeGrant knows of access tokens that have expired, and grants that
// have expired or are revoked and whose access tokens have all expired, with their codes
// and refresh tokens, which it does not count.
type GrantStore interface {
	Store

	// SaveRequest keeps an authorization request and sets r.Version. A hash that is
	// there already is ErrExists.
	SaveRequest(ctx context.Context, r *AuthorizationRequest) error
	// Request returns an authorization request, or ErrNotFound. Expired ones may be
	// returned until they are swept.
	Request(ctx context.Context, hash [32]byte) (*AuthorizationRequest, error)
	// UpdateRequest replaces Browser, Progress and Expires of a request if its version
	// is still r.Version, and sets the new version; otherwise ErrConflict or
	// ErrNotFound.
	UpdateRequest(ctx context.Context, r *AuthorizationRequest) error
	// Authorize ends a request and begins a grant: the request is removed (ErrConflict
	// if its version is another one, ErrNotFound if it is gone), and grant, code and,
	// unless nil, consent are saved; a consent replaces the one before. A grant or a
	// code that is there already is ErrExists. Of concurrent calls one wins.
	Authorize(ctx context.Context, r *AuthorizationRequest, g *Grant, c *Code, consent *Consent) error
	// DeleteRequest ends a request without a grant. It is ErrNotFound if it is gone.
	DeleteRequest(ctx context.Context, hash [32]byte) error

	// Code returns a code with its grant, or ErrNotFound. Used ones are returned too,
	// until they are swept, with Used set.
	Code(ctx context.Context, hash [32]byte) (*Code, *Grant, error)
	// RedeemCode marks a code as used and saves what was issued for it. If it was used
	// before, nothing is saved and it is ErrUsed: the caller decides about the grant.
	// If the grant is revoked, it is ErrGrantRevoked; if the code is gone, ErrNotFound.
	// Whether it has expired is for the caller to see. Of concurrent calls one wins.
	RedeemCode(ctx context.Context, hash [32]byte, now time.Time, issued Issued) error

	// RefreshToken returns a refresh token with its grant, or ErrNotFound. Used and
	// revoked ones are returned too, until they are swept.
	RefreshToken(ctx context.Context, hash [32]byte) (*RefreshToken, *Grant, error)
	// Refresh saves what was issued for a refresh token. Without issued.Refresh the
	// token stays as it is and its Expires becomes extend, unless that is zero or
	// earlier. With one, the token is marked as Used at now, unless it was before. If
	// it was marked before now minus grace, with or without issued.Refresh, the grant is
	// revoked as by RevokeGrant, in the same transaction, and the error is ErrUsed. With
	// a negative grace every second use is one too many, whatever the clocks say. If the
	// grant is revoked already, it is ErrGrantRevoked; if the token is gone, ErrNotFound.
	// With an error, nothing that was issued is saved. Whether the token has expired is
	// for the caller to see.
	Refresh(ctx context.Context, hash [32]byte, now time.Time, grace time.Duration, extend time.Time, issued Issued) error

	// Grant returns a grant, or ErrNotFound.
	Grant(ctx context.Context, id string) (*Grant, error)
	// Grants returns at most limit grants of a subject, of a client, or of both, that
	// are not revoked, with an id after the given one, sorted by id. At least one of
	// subject and clientID is set.
	Grants(ctx context.Context, subject, clientID, after string, limit int) ([]*Grant, error)
	// RevokeGrant ends a grant: its codes and refresh tokens are not valid any more, and
	// its access tokens are revoked, each by its jti, so that they appear in
	// Store.Revocations. A second call is no error. An unknown id is ErrNotFound.
	RevokeGrant(ctx context.Context, id string, now time.Time) error

	// SaveSession keeps a session, and in the same transaction removes the one with the
	// hash replaces, if there is one (the zero hash: none). A hash that is there
	// already is ErrExists: a session never takes over the cookie of another.
	SaveSession(ctx context.Context, s *Session, replaces [32]byte) error
	// Session returns a session, or ErrNotFound.
	Session(ctx context.Context, hash [32]byte) (*Session, error)
	// TouchSession sets LastSeen and Expires of a session. It is ErrNotFound if it is
	// gone.
	TouchSession(ctx context.Context, hash [32]byte, lastSeen, expires time.Time) error
	// DeleteSession ends a session. One that is not there is no error.
	DeleteSession(ctx context.Context, hash [32]byte) error
	// DeleteSessions ends all sessions of a subject.
	DeleteSessions(ctx context.Context, subject string) error

	// Consent returns what a person has allowed a client, or ErrNotFound.
	Consent(ctx context.Context, subject, clientID string) (*Consent, error)
	// DeleteConsent forgets it. One that is not there is no error.
	DeleteConsent(ctx context.Context, subject, clientID string) error

	// SavePerson adds or replaces what is known of a person. One who is disabled stays so: a
	// record that is not, and whose Updated is not later, is ErrConflict, since a login
	// that had begun before must not enable anybody again.
	SavePerson(ctx context.Context, p *Person) error
	// Person returns it, or ErrNotFound.
	Person(ctx context.Context, subject string) (*Person, error)

	// SaveInitialToken keeps an initial access token (RFC 7591, Section 1.2). A name or
	// a hash that is there already is ErrExists.
	SaveInitialToken(ctx context.Context, t *InitialToken) error
	// InitialTokens returns at most limit of them with a name after the given one,
	// sorted by name.
	InitialTokens(ctx context.Context, after string, limit int) ([]*InitialToken, error)
	// InitialToken returns one by hash, or ErrNotFound.
	InitialToken(ctx context.Context, hash [32]byte) (*InitialToken, error)
	// RegisterClient is CreateClient, and in the same transaction counts one use of the
	// initial access token with the hash (the zero hash: none). If it is gone, expired
	// at now or used up, the error is ErrUsed and no client is created. If the client is
	// there already, it is ErrExists and no use is counted.
	RegisterClient(ctx context.Context, c *Client, initial [32]byte, now time.Time) error
	// DeleteInitialToken removes one by name, or returns ErrNotFound.
	DeleteInitialToken(ctx context.Context, name string) error
}

// An AuthorizationRequest is under way: pushed by a client (RFC 9126), or brought by a
// browser. It ends when a code is issued for it, when it is denied, or at Expires.
type AuthorizationRequest struct {
	// Hash is the SHA-256 of the reference: the last part of the request_uri, or the
	// value that the browser carries from page to page.
	Hash     [32]byte
	ClientID string
	Pushed   bool
	// Parameters are those of the request, after all checks.
	Parameters json.RawMessage
	// Browser is the SHA-256 of the cookie of the browser that the request is bound to
	// at its first use; until then zero.
	Browser [32]byte
	// Progress is what has happened so far: who has logged in.
	Progress json.RawMessage
	Created  time.Time
	Expires  time.Time
	// Version is set by the store.
	Version int64
}

// A Grant is what a person has allowed a client at one time. It is the family of all
// tokens that follow from it.
type Grant struct {
	ID       string // random
	ClientID string
	Subject  string
	// Scope and Resources bound what tokens may have (RFC 6749, Section 6; RFC 8707).
	Scope     string
	Resources []string
	// What the person's authentication was like, for ID tokens.
	AuthTime time.Time
	ACR      string
	AMR      []string
	// SessionID is the public name of the session (sid), which is no secret.
	SessionID string
	Nonce     string
	Created   time.Time
	// Expires is when nothing can follow from it any more. The zero time: never.
	Expires time.Time
	// Revoked is when it was revoked, or zero.
	Revoked time.Time
}

// A Code is an authorization code.
type Code struct {
	Hash        [32]byte // SHA-256 of the value
	GrantID     string
	ClientID    string
	RedirectURI string
	// RedirectURISent says that the request had the parameter, so that the token
	// request needs it too (RFC 6749, Section 4.1.3).
	RedirectURISent bool
	// Challenge is the code_challenge with the method S256 (RFC 7636).
	Challenge string
	Expires   time.Time
	Used      time.Time
}

// A RefreshToken belongs to a grant.
type RefreshToken struct {
	Hash     [32]byte // SHA-256 of the value
	GrantID  string
	ClientID string
	// X5TS256 is the certificate that it is bound to (RFC 8705, Section 4), or empty.
	X5TS256 string
	// Authenticated says that the client has proved who it is when it got the token. Then it
	// has to go on doing so, also if it is registered as a public client meanwhile.
	Authenticated bool
	Issued        time.Time
	Expires       time.Time
	// Used is when it first got a successor, or zero.
	Used time.Time
}

// Issued is what an answer of the token endpoint carries. JTI and Expires name the
// access token, so that it ends with its grant; Opaque and Refresh may be nil.
type Issued struct {
	JTI     string
	Expires time.Time
	Opaque  *OpaqueToken
	Refresh *RefreshToken
}

// A Session says that a person has logged in with a browser.
type Session struct {
	Hash     [32]byte // SHA-256 of the cookie
	ID       string   // public name (sid), random and unrelated to the cookie
	Subject  string
	AuthTime time.Time
	ACR      string
	AMR      []string
	Created  time.Time
	LastSeen time.Time
	Expires  time.Time
}

// A Consent is what a person has allowed a client, to be remembered.
type Consent struct {
	Subject  string
	ClientID string
	// Scope and Resources are all that was ever allowed and not taken back.
	Scope     string
	Resources []string
	Given     time.Time
	// Expires is when the person is asked again. The zero time: never.
	Expires time.Time
}

// A Person is what is known of a person: the claims that UserInfo and ID tokens may show
// (OpenID Connect Core, Section 5.1).
type Person struct {
	Subject string
	// Claims are JSON members by name, such as "name" and "email".
	Claims map[string]json.RawMessage
	// Disabled ends all that the person has allowed.
	Disabled bool
	Updated  time.Time
}

// An InitialToken allows its holder to register clients (RFC 7591, Section 3).
type InitialToken struct {
	Name string // for people, unique
	Hash [32]byte
	// AnchorSet and Profile are given to each client that is registered with it.
	AnchorSet string
	Profile   string
	// Methods, Scopes and Resources bound what the clients may have. If empty, the
	// server's rules alone.
	Methods, Scopes, Resources []string
	// Uses is how many registrations are left. A negative number: any.
	Uses    int
	Created time.Time
	// Expires is required: the zero time has passed.
	Expires time.Time
}
