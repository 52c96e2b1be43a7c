package config

// People is the section of the flows with a person in them: authorization codes with
// PKCE, pushed requests, refresh tokens, OpenID Connect.
type People struct {
	// Whether people can log in here. Without it the server has machine clients only.
	Enabled bool `yaml:"enabled" default:"false"`

	// Who finds out who the person is: accounts, the built-in ones of 'certbound user';
	// upstream, an OpenID Provider; or hook, a login application of your own.
	Login string `yaml:"login" enum:"accounts,upstream,hook"`

	// The OpenID Provider, with login: upstream.
	Upstream Upstream `yaml:"upstream"`

	// The login application, with login: hook.
	Hook LoginHook `yaml:"hook"`

	// The name that stands on each page.
	Title string `yaml:"title"`

	// A folder whose files replace templates of the pages with the same names
	// ('certbound config pages' writes the built-in ones).
	Templates Path `yaml:"templates"`

	// What scopes allow, in people's words, for the page that asks.
	ScopeTexts []ScopeText `yaml:"scope_texts"`

	// Authentication context classes (acr) that the login can reach, for the metadata.
	ACRValues []string `yaml:"acr_values"`

	// Refuse authorization requests that were not pushed (RFC 9126).
	RequirePAR bool `yaml:"require_pushed_authorization_requests" default:"false"`

	// Refuse authorization requests without a signed request object (RFC 9101).
	RequireSignedRequests bool `yaml:"require_signed_request_object" default:"false"`

	// How long a request_uri is valid until its first use: less than 600s.
	RequestLifetime Duration `yaml:"request_lifetime" default:"90s"`

	// How long a person has to log in and to decide.
	FlowLifetime Duration `yaml:"flow_lifetime" default:"30m"`

	// How long an authorization code is valid: at most 60s.
	CodeLifetime Duration `yaml:"code_lifetime" default:"60s"`

	// How long a login counts that is not used.
	SessionIdle Duration `yaml:"session_idle" default:"1h"`

	// How long a login counts at most.
	SessionLifetime Duration `yaml:"session_lifetime" default:"12h"`

	// How long it is remembered what a person has allowed. 0s: people are asked each time.
	ConsentLifetime Duration `yaml:"consent_lifetime" default:"90d"`

	// Refresh tokens, for clients with that grant type.
	RefreshTokens RefreshTokens `yaml:"refresh_tokens"`
}

// ScopeText says what a scope allows.
type ScopeText struct {
	// The scope.
	Scope string `yaml:"scope" required:"yes" example:"read"`

	// What it allows, to follow "It will be able to:".
	Text string `yaml:"text" required:"yes" example:"Read your data"`
}

// Upstream is the section of an OpenID Provider that logs people in. The redirect URI to
// register there is the issuer with /login/callback.
type Upstream struct {
	// The provider's issuer identifier.
	Issuer string `yaml:"issuer"`

	// Our client_id there.
	ClientID string `yaml:"client_id"`

	// Our secret there, for client_secret_basic: env:NAME or file:PATH. If left out, the
	// certificate authenticates us.
	ClientSecret Secret `yaml:"client_secret"`

	// Our certificate as client there, PEM, for tls_client_auth and
	// self_signed_tls_client_auth.
	Certificate Path `yaml:"certificate"`

	// The private key for it, PEM.
	Key Path `yaml:"key"`

	// PEM files with CAs for the provider. If left out, the system's.
	RootCAs []Path `yaml:"root_cas"`

	// The scopes to ask for beside openid.
	Scopes []string `yaml:"scopes" default:"profile,email"`

	// The claim that names a person here for ever. If left out, a hash of the provider's
	// issuer and sub.
	SubjectClaim string `yaml:"subject_claim"`
}

// LoginHook is the section of a login application of the operator's own: people are
// redirected to it, and it says over mutual TLS who they are.
type LoginHook struct {
	// The URL of its login page. The parameter login_challenge is added.
	URL string `yaml:"url"`

	// The client, registered for a mutual-TLS method, that may answer.
	ClientID string `yaml:"client_id"`
}

// RefreshTokens is the section of refresh tokens. Those of public clients are bound to the
// client's certificate (RFC 8705, Section 4); those of clients that authenticate with one
// are not, so that certificates can be renewed.
type RefreshTokens struct {
	// How long one is valid that is not used.
	Idle Duration `yaml:"idle" default:"30d"`

	// How long all that follows from one consent is valid.
	Lifetime Duration `yaml:"lifetime" default:"365d"`

	// Give a new one at each use to clients that neither authenticate nor have bound
	// tokens. Never with the profile fapi2.
	Rotate bool `yaml:"rotate" default:"true"`

	// Give a new one at each use to all clients.
	RotateAll bool `yaml:"rotate_all" default:"false"`

	// How long after its first use an old one still yields a new one, for clients that
	// lost the answer. 0s: not at all.
	Grace Duration `yaml:"grace" default:"30s"`

	// Bind those of clients with a secret to the certificate as well.
	PinSecretClients bool `yaml:"pin_secret_clients" default:"false"`
}
