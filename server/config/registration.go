package config

// Registration is the section of clients that register themselves (RFC 7591) and manage
// their registration (RFC 7592). Enabled alone admits holders of an initial access token
// ('certbound client invite'). What a client gets is never more than what stands here or
// with its token.
type Registration struct {
	// Whether there is a registration endpoint.
	Enabled bool `yaml:"enabled" default:"false"`

	// Let anybody register, without a token.
	Open bool `yaml:"open" default:"false"`

	// The grant types for clients that came without a token and without a software
	// statement.
	OpenGrantTypes []string `yaml:"open_grant_types" default:"authorization_code,refresh_token" enum:"client_credentials,authorization_code,refresh_token"`

	// How many clients without a token a process registers within open_window.
	OpenLimit int `yaml:"open_limit" default:"100"`

	// The time for open_limit.
	OpenWindow Duration `yaml:"open_window" default:"1h"`

	// The authentication methods for clients whose token names none. If left out, all of
	// the server.
	Methods []string `yaml:"methods" enum:"tls_client_auth,self_signed_tls_client_auth,client_secret_basic,private_key_jwt,none"`

	// The scopes for clients whose token names none. If left out, they have no scope.
	Scopes []string `yaml:"scopes"`

	// The resources for clients whose token names none. If left out, the default one.
	Resources []string `yaml:"resources"`

	// The set of CAs for clients whose token or statement names none. If left out, the
	// default one.
	AnchorSet string `yaml:"anchor_set"`

	// fapi2, for clients whose token names no profile. If left out, none.
	Profile string `yaml:"profile" enum:"fapi2"`

	// Whose software statements are believed (RFC 7591, Section 2.3).
	Statements []StatementIssuer `yaml:"statements"`

	// How many clients that have registered themselves there can be.
	MaxClients int `yaml:"max_clients" default:"10000"`
}

// StatementIssuer is somebody who signs software statements, such as the directory of an
// open banking scheme. What a statement says wins over what the client says.
type StatementIssuer struct {
	// The claim iss of the statements.
	Issuer string `yaml:"issuer" required:"yes" example:"https://directory.example"`

	// A file with the key set of the issuer.
	JWKS Path `yaml:"jwks"`

	// The address of the key set. Either this or jwks.
	JWKSURI string `yaml:"jwks_uri" example:"https://directory.example/jwks"`

	// The algorithms that it may sign with.
	Algorithms []string `yaml:"algorithms" default:"PS256,ES256,EdDSA" enum:"PS256,ES256,EdDSA,RS256"`

	// How long a statement without exp is accepted after its iat.
	MaxAge Duration `yaml:"max_age" default:"1h"`

	// The only software_id that are approved. If left out, all.
	SoftwareIDs []string `yaml:"software_ids"`

	// The set of CAs for clients with such a statement.
	AnchorSet string `yaml:"anchor_set"`

	// The methods for clients with such a statement, in place of registration.methods.
	Methods []string `yaml:"methods" enum:"tls_client_auth,self_signed_tls_client_auth,client_secret_basic,private_key_jwt,none"`

	// The scopes, in place of registration.scopes.
	Scopes []string `yaml:"scopes"`

	// The resources, in place of registration.resources.
	Resources []string `yaml:"resources"`
}
