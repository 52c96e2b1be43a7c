// Package authserver is an OAuth 2.0 authorization server as an http.Handler, with
// mutual-TLS client authentication and certificate-bound tokens (RFC 8705): for machine
// clients client_credentials (RFC 6749, Section 4.4), and where Config.Authorization is
// on, authorization_code with PKCE and refresh_token (Sections 4.1 and 6) and OpenID
// Connect; metadata (RFC 8414), JWT access tokens (RFC 9068) or opaque ones, introspection
// (RFC 7662) and revocation (RFC 7009).
package authserver

import (
	"encoding/json"
	"time"
)

// Client authentication methods beside those of RFC 8705.
const (
	ClientSecretBasic = "client_secret_basic"
	PrivateKeyJWT     = "private_key_jwt"
	None              = "none"
)

// A Client is a registration. The JSON names are those of RFC 7591, Section 2, and
// RFC 8705, so that file, command line and registration have one model.
type Client struct {
	ID   string `json:"client_id"`
	Name string `json:"client_name,omitempty"`

	AuthMethod string `json:"token_endpoint_auth_method,omitempty"`

	// Exactly one for tls_client_auth (RFC 8705, Section 2.1.2).
	SubjectDN string `json:"tls_client_auth_subject_dn,omitempty"`
	SANDNS    string `json:"tls_client_auth_san_dns,omitempty"`
	SANURI    string `json:"tls_client_auth_san_uri,omitempty"`
	SANIP     string `json:"tls_client_auth_san_ip,omitempty"`
	SANEmail  string `json:"tls_client_auth_san_email,omitempty"`

	// Exactly one for self_signed_tls_client_auth and private_key_jwt.
	JWKS    json.RawMessage `json:"jwks,omitempty"`
	JWKSURI string          `json:"jwks_uri,omitempty"`

	// BoundTokens asks for certificate-bound tokens (RFC 8705, Section 3.4).
	BoundTokens        bool     `json:"tls_client_certificate_bound_access_tokens,omitempty"`
	UseEndpointAliases bool     `json:"use_mtls_endpoint_aliases,omitempty"`
	GrantTypes         []string `json:"grant_types,omitempty"`
	Scope              string   `json:"scope,omitempty"` // the scopes it may have, space-separated
	SigningAlg         string   `json:"token_endpoint_auth_signing_alg,omitempty"`

	// For authorization_code (RFC 7591, Section 2; OpenID Connect Registration, Section 2).

	// RedirectURIs are compared as exact strings. The one exception is the port of a
	// loopback IP literal with http (RFC 8252, Section 7.3).
	RedirectURIs           []string `json:"redirect_uris,omitempty"`
	ResponseTypes          []string `json:"response_types,omitempty"` // only "code"
	PostLogoutRedirectURIs []string `json:"post_logout_redirect_uris,omitempty"`
	// RequirePAR refuses authorization requests that were not pushed (RFC 9126, Section 6).
	RequirePAR bool `json:"require_pushed_authorization_requests,omitempty"`
	// RequireSignedRequests refuses requests without a signed request object (RFC 9101,
	// Section 10.5); RequestObjectAlg is the one algorithm that they may have.
	RequireSignedRequests bool   `json:"require_signed_request_object,omitempty"`
	RequestObjectAlg      string `json:"request_object_signing_alg,omitempty"`
	IDTokenAlg            string `json:"id_token_signed_response_alg,omitempty"`
	DefaultMaxAge         int    `json:"default_max_age,omitempty"` // seconds; 0: none
	// For the pages.
	URI       string   `json:"client_uri,omitempty"`
	LogoURI   string   `json:"logo_uri,omitempty"`
	PolicyURI string   `json:"policy_uri,omitempty"`
	TermsURI  string   `json:"tos_uri,omitempty"`
	Contacts  []string `json:"contacts,omitempty"`

	SoftwareID      string `json:"software_id,omitempty"`
	SoftwareVersion string `json:"software_version,omitempty"`

	// Members of ours; none is taken from a client's own request.

	// AnchorSet names the CAs for this client. If empty, the server's default.
	AnchorSet string `json:"certbound_anchor_set,omitempty"`
	// SoleEntry demands that the SAN is the only one of its kind.
	SoleEntry bool `json:"certbound_sole_san,omitempty"`
	// Resources are the audiences it may ask for (RFC 8707). If empty, the default.
	Resources []string `json:"certbound_resources,omitempty"`
	// TokenFormat is "jwt" or "opaque". If empty, the server's default.
	TokenFormat string `json:"certbound_token_format,omitempty"`
	// TokenLifetime in seconds. If zero, the server's default.
	TokenLifetime int `json:"certbound_token_lifetime,omitempty"`
	// MayIntrospect allows the introspection endpoint.
	MayIntrospect bool `json:"certbound_may_introspect,omitempty"`
	// Introspects are the resources that this client serves: it sees the tokens
	// whose audience has one of them. If empty, the default resource.
	Introspects []string `json:"certbound_introspects,omitempty"`
	Disabled    bool     `json:"certbound_disabled,omitempty"`
	// Profile is "fapi2", or empty for the server's.
	Profile string `json:"certbound_profile,omitempty"`
	// SkipConsent is for clients of the operator's own: people are not asked.
	SkipConsent bool `json:"certbound_skip_consent,omitempty"`
	// RegistrationTokenHash is the SHA-256, in base64url, of the registration access
	// token (RFC 7592), for clients that have registered themselves. Dynamic says that
	// this one has. Neither is ever printed to the client.
	RegistrationTokenHash string `json:"certbound_registration_token_hash,omitempty"`
	Dynamic               bool   `json:"certbound_dynamic,omitempty"`
	// What a client that has registered itself was allowed at that time, so that its
	// updates stay within it. RegisteredBy says for people on what ground it was: the
	// name of an initial access token, the issuer of a software statement, or "open".
	// With a StatementIssuer, each update needs a statement of that issuer.
	RegisteredBy      string   `json:"certbound_registered_by,omitempty"`
	StatementIssuer   string   `json:"certbound_statement_issuer,omitempty"`
	AllowedMethods    []string `json:"certbound_allowed_methods,omitempty"`
	AllowedGrantTypes []string `json:"certbound_allowed_grant_types,omitempty"`
	AllowedScopes     []string `json:"certbound_allowed_scopes,omitempty"`
	// AllowedAnchorSet is for a client that changes to tls_client_auth.
	AllowedAnchorSet string `json:"certbound_allowed_anchor_set,omitempty"`

	// SecretHash is a hash of the client secret (see HashSecret), for
	// client_secret_basic. It is never printed.
	SecretHash string `json:"certbound_secret_hash,omitempty"`

	// What follows the subject value or the certificates above, while one is replaced
	// by another (see [Client.Rotation]). The subject is of the kind with the name of
	// one of the five members. What is empty stays as it is.
	NextSubjectKind string          `json:"certbound_next_subject_kind,omitempty"`
	NextSubject     string          `json:"certbound_next_subject,omitempty"`
	NextAnchorSet   string          `json:"certbound_next_anchor_set,omitempty"`
	NextJWKS        json.RawMessage `json:"certbound_next_jwks,omitempty"`
	// NextNotBefore is when the next begins to be accepted; if zero, at once.
	// CurrentNotAfter is when the current ends to be; if zero, when it is closed by
	// hand. Between the two, both are accepted.
	NextNotBefore   time.Time `json:"certbound_next_not_before,omitzero"`
	CurrentNotAfter time.Time `json:"certbound_current_not_after,omitzero"`

	Created time.Time `json:"client_id_issued_at,omitzero"`
	Updated time.Time `json:"certbound_updated,omitzero"`
	// Version is set by the store.
	Version int64 `json:"-"`
}
