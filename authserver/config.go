package authserver

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/clientauth"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/jwks"
)

// Formats of access tokens.
const (
	FormatJWT    = "jwt"    // RFC 9068
	FormatOpaque = "opaque" // a random value that only introspection explains
)

// A BindingPolicy says when an access token is bound to the certificate that was
// presented on the token request (RFC 8705, Sections 3 and 3.4).
type BindingPolicy string

// The policies. The empty policy is BindOnRequest.
const (
	// BindNever binds no token. Clients that ask for bound tokens cannot be
	// registered, since they would get less than they asked for.
	BindNever BindingPolicy = "never"
	// BindOnRequest binds for clients whose registration says so.
	BindOnRequest BindingPolicy = "on-request"
	// BindAlwaysIfCertificate binds whenever a certificate was presented.
	BindAlwaysIfCertificate BindingPolicy = "always-if-certificate"
)

// MTLSFeature holds the switches and hooks of RFC 8705. A switch only allows: an
// authentication method has to stand in Config.AuthMethods as well. While a switch
// is off, its metadata members are unknown at registration and absent from the
// server's metadata. The zero value is off.
type MTLSFeature struct {
	// Enabled is the main switch. While it is off, the others are off too, and no
	// certificate is read from any request.
	Enabled bool
	// TLSClientAuth allows the method tls_client_auth.
	TLSClientAuth bool
	// SelfSignedTLSClientAuth allows the method self_signed_tls_client_auth.
	SelfSignedTLSClientAuth bool
	// CertificateBoundAccessTokens allows binding (see Config.Binding).
	CertificateBoundAccessTokens bool

	// Certificate, if set, is asked for the certificate of a request in place of
	// Config.Source. It is called for requests to [Server.MTLSHandler] only. The
	// caller of New is responsible for believing no header of a stranger.
	Certificate func(r *http.Request) (HookCertificate, error)
	// CertificateAuthorized, if set, decides for tls_client_auth whether the
	// certificate is genuine, in place of Config.Paths.
	CertificateAuthorized func(ctx context.Context, q HookQuestion) (bool, error)
	// CertificateSubjectMatches, if set, decides for tls_client_auth whether the
	// certificate has the registered subject value, in place of the package
	// pki/subject.
	CertificateSubjectMatches func(ctx context.Context, q HookQuestion) (bool, error)
}

// A HookCertificate is the answer of the hook Certificate: a certificate, or PEM
// whose first block is the certificate and whose others are its chain. The zero
// value says that there is none.
type HookCertificate struct {
	Certificate *x509.Certificate
	Chain       []*x509.Certificate // only beside Certificate
	PEM         []byte
}

// A HookQuestion is what a hook judges. An error is a refusal, as is false.
type HookQuestion struct {
	ClientID    string
	Certificate *x509.Certificate
	Chain       []*x509.Certificate // as the peer sent it
	AnchorSet   string
	// Property is the name of the registered metadata member, such as
	// "tls_client_auth_san_dns", and Expected its value.
	Property, Expected string
}

// KeyRotation says how long signing keys live.
type KeyRotation struct {
	// Every is how long a key signs. If zero, 30 days. If negative, keys are
	// rotated by [Server.RotateKey] only.
	Every time.Duration
	// Prepublish is how long a new key stands in the key set before it signs, so
	// that resource servers and other processes have seen it. If zero, 10 minutes.
	Prepublish time.Duration
}

// Config holds the settings of a [Server]. The zero value is refused by [New].
type Config struct {
	// Issuer is the https URL that names the server, without query and fragment
	// (RFC 8414, Section 2). Endpoints are below it. Required.
	Issuer string
	// MTLSBaseURL is the base of mtls_endpoint_aliases (RFC 8705, Section 5): the
	// https URL of the listener that serves MTLSHandler. If empty, there is no
	// separate listener, no aliases are announced, and MTLSHandler serves the paths
	// of the issuer.
	MTLSBaseURL string

	// Store keeps clients, keys and tokens. Required.
	Store Store
	// Clients are declared in the configuration. They are read-only, and win over
	// clients in the store with the same id.
	Clients []*Client

	// Source finds the certificate of a request to MTLSHandler. Required if MTLS
	// is enabled, unless its hook Certificate is set.
	Source certsource.Source
	// Paths validates certificate paths for tls_client_auth, usually a
	// *pki.Validator. Required for that method, unless the hook
	// CertificateAuthorized is set, or Source names a proxy that validates in our
	// place.
	Paths clientauth.PathValidator
	// HasAnchorSet reports whether there is an anchor set with the name. If nil,
	// the method HasSet of Paths is used, if it has one.
	HasAnchorSet func(string) bool
	// DefaultAnchorSet is for clients that name none. If empty, each tls_client_auth
	// client has to name one, unless Paths is nil.
	DefaultAnchorSet string

	// RevocationList, if set, is searched for the certificates that tokens are bound
	// to whenever it changes. The tokens of those that it has end.
	RevocationList RevocationList

	// MTLS holds the switches and hooks of RFC 8705.
	MTLS MTLSFeature
	// AuthMethods lists the allowed client authentication methods. Required.
	AuthMethods []string
	// InsecureMatchKey lets a self-signed client use any certificate with a
	// registered public key (a departure from RFC 8705, Section 2.2).
	InsecureMatchKey bool
	// InsecureIgnoreSelfSignedValidity accepts registered self-signed certificates
	// outside their dates.
	InsecureIgnoreSelfSignedValidity bool
	// JWKS fetches key sets by URL. If nil, clients with a jwks_uri cannot be
	// registered and are refused.
	JWKS *jwks.Fetcher
	// AssertionAlgs are the algorithms of private_key_jwt. If nil, ES256, PS256,
	// EdDSA and RS256.
	AssertionAlgs []string
	// StrictAssertionAudience accepts only the issuer, as a string, as audience of
	// client assertions (FAPI 2.0, Section 5.3.2.1). Otherwise the token endpoint
	// and its alias, those for pushed requests, and an array of one, are accepted as well.
	StrictAssertionAudience bool

	// Authorization holds the flows with a person in them. The zero value is off.
	Authorization Authorization
	// Registration lets clients register themselves. The zero value is off.
	Registration Registration
	// Profile is [ProfileFAPI2], for all clients: what it demands is then on, and New
	// refuses every setting that would break it. If empty, each client has its own.
	Profile string

	// Scopes are all scopes that exist. A client can have no others.
	Scopes []string
	// Resources are all audiences that exist: absolute URIs without fragment
	// (RFC 8707, Section 2). At least one.
	Resources []string
	// DefaultResource is the audience when a request names none. If empty and
	// there is one resource, that.
	DefaultResource string
	// TokenFormat is FormatJWT or FormatOpaque, for clients that say nothing. If
	// empty, FormatJWT.
	TokenFormat string
	// TokenLifetime is for clients that say nothing. If zero, 10 minutes.
	TokenLifetime time.Duration
	// MaxTokenLifetime bounds the lifetimes of clients. If zero, 24 hours.
	MaxTokenLifetime time.Duration
	// CapLifetimeAtCertificate ends a token no later than the certificate that it
	// is bound to.
	CapLifetimeAtCertificate bool
	// Binding says when tokens are bound. If empty, BindOnRequest.
	Binding BindingPolicy
	// AllowUnboundFallback gives an unbound token to a client that asked for bound
	// ones but came without a certificate (RFC 8705, Section 3.4). Otherwise the
	// request is refused.
	AllowUnboundFallback bool

	// SigningAlg signs access tokens: ES256, PS256, EdDSA or RS256. If empty, ES256.
	SigningAlg string
	// KeyRotation says how long signing keys live.
	KeyRotation KeyRotation

	// MaxBody bounds a request body, in bytes. If zero, 64 KiB.
	MaxBody int64
	// MaxParameters bounds the parameters of a request. If zero, 64.
	MaxParameters int
	// CacheSize bounds the cache of clients, in entries. If zero, 100,000. The
	// cache is used only while Run keeps it current.
	CacheSize int

	// OnRenewal, if set, is told when a client comes for a bound token with a
	// certificate that it was never seen with. It must return at once.
	OnRenewal func(previous, current CertificateRecord)
	// Observer is told of each decision. If nil, nobody.
	Observer decision.Observer
	// Logger receives one record per refused request. If nil, slog.Default.
	Logger *slog.Logger
	// Now returns the current time. If nil, time.Now.
	Now func() time.Time
}

// Rules are what a registration is checked against.
type Rules struct {
	// Methods are the authentication methods that are switched on and listed.
	Methods []string
	// Switches says which members are known. Hooks are not used.
	Switches MTLSFeature
	// BoundTokens says that the server binds tokens.
	BoundTokens bool
	// HasAnchorSet reports whether an anchor set exists. If nil, any name passes.
	HasAnchorSet     func(string) bool
	DefaultAnchorSet string
	// AnchorSets says that paths are judged by anchor sets, so that each
	// tls_client_auth client needs one.
	AnchorSets bool
	// JWKSURI allows key sets by reference.
	JWKSURI           bool
	Scopes, Resources []string
	DefaultResource   string
	AssertionAlgs     []string
	MaxTokenLifetime  time.Duration
	// Authorization says that there is an authorization endpoint.
	Authorization bool
	// IDTokenAlgs are the algorithms that ID tokens can be signed with. If empty, any.
	IDTokenAlgs []string
	// Profile is that of the server, and of clients that name none.
	Profile string
}

// Rules returns the rules that follow from the settings, with defaults applied.
func (cfg Config) Rules() Rules {
	cfg.setDefaults()
	return Rules{
		Methods: cfg.AuthMethods,
		Switches: MTLSFeature{
			Enabled:                      cfg.MTLS.Enabled,
			TLSClientAuth:                cfg.MTLS.Enabled && cfg.MTLS.TLSClientAuth,
			SelfSignedTLSClientAuth:      cfg.MTLS.Enabled && cfg.MTLS.SelfSignedTLSClientAuth,
			CertificateBoundAccessTokens: cfg.MTLS.Enabled && cfg.MTLS.CertificateBoundAccessTokens,
		},
		BoundTokens:      cfg.bindsTokens(),
		HasAnchorSet:     cfg.HasAnchorSet,
		DefaultAnchorSet: cfg.DefaultAnchorSet,
		AnchorSets:       cfg.Paths != nil && cfg.MTLS.CertificateAuthorized == nil,
		JWKSURI:          cfg.JWKS != nil,
		Scopes:           cfg.Scopes,
		Resources:        cfg.Resources,
		DefaultResource:  cfg.DefaultResource,
		AssertionAlgs:    cfg.AssertionAlgs,
		MaxTokenLifetime: cfg.MaxTokenLifetime,
		Authorization:    cfg.Authorization.Enabled,
		IDTokenAlgs:      []string{cfg.SigningAlg},
		Profile:          cfg.Profile,
	}
}

// bindsTokens says whether any token is ever bound.
func (cfg *Config) bindsTokens() bool {
	return cfg.MTLS.Enabled && cfg.MTLS.CertificateBoundAccessTokens && cfg.Binding != BindNever
}

func (cfg *Config) setDefaults() {
	if cfg.HasAnchorSet == nil {
		if v, ok := cfg.Paths.(interface{ HasSet(string) bool }); ok {
			cfg.HasAnchorSet = v.HasSet
		}
	}
	cfg.setProfile()
	if cfg.AssertionAlgs == nil {
		cfg.AssertionAlgs = []string{"ES256", "PS256", "EdDSA", "RS256"}
	}
	if cfg.DefaultResource == "" && len(cfg.Resources) == 1 {
		cfg.DefaultResource = cfg.Resources[0]
	}
	def(&cfg.TokenFormat, FormatJWT)
	def(&cfg.TokenLifetime, 10*time.Minute)
	def(&cfg.MaxTokenLifetime, 24*time.Hour)
	def(&cfg.Binding, BindOnRequest)
	def(&cfg.SigningAlg, "ES256")
	def(&cfg.KeyRotation.Every, 30*24*time.Hour)
	def(&cfg.KeyRotation.Prepublish, 10*time.Minute)
	cfg.Authorization.setDefaults()
	cfg.Authorization.Refresh.setDefaults()
	def(&cfg.MaxBody, 64<<10)
	def(&cfg.MaxParameters, 64)
	def(&cfg.CacheSize, 100_000)
	def(&cfg.Logger, slog.Default())
	cfg.Registration.setDefaults(cfg)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
}

func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// A SettingError reports one wrong setting. [New] joins all that it finds.
type SettingError struct {
	Setting string // the field of Config, such as "MTLS.TLSClientAuth"
	Fault   string // expected, found, what to change
	// Rule is the section of the profile that the setting would break, such as "5.3.2.1
	// (4)" of the FAPI 2.0 Security Profile. Empty for all other faults.
	Rule string
	Err  error
}

func (e *SettingError) Error() string {
	s := "authserver: " + e.Setting + ": " + e.Fault
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *SettingError) Unwrap() error { return e.Err }

// check reports every wrong setting.
func (cfg *Config) check() error {
	var errs []error
	bad := func(setting, format string, args ...any) {
		errs = append(errs, &SettingError{Setting: setting, Fault: fmt.Sprintf(format, args...)})
	}
	if fault := issuerFault(cfg.Issuer); fault != "" {
		bad("Issuer", "%s", fault)
	}
	if cfg.MTLSBaseURL != "" {
		if fault := issuerFault(cfg.MTLSBaseURL); fault != "" {
			bad("MTLSBaseURL", "%s", fault)
		} else if strings.TrimSuffix(cfg.MTLSBaseURL, "/") == strings.TrimSuffix(cfg.Issuer, "/") {
			bad("MTLSBaseURL", "is the issuer; leave it empty if there is no separate listener")
		}
		if !cfg.MTLS.Enabled {
			bad("MTLSBaseURL", "is set, but MTLS.Enabled is off; aliases would lead to endpoints that see no certificate")
		}
	}
	if cfg.Store == nil {
		bad("Store", "required")
	}
	if cfg.MTLS.Enabled && cfg.Source == nil && cfg.MTLS.Certificate == nil {
		bad("Source", "required with MTLS.Enabled: choose where the client certificate comes from, such as certsource.TLS")
	}
	if cfg.Source != nil && cfg.MTLS.Certificate == nil {
		most := certsource.Describe(cfg.Source).Most
		if slices.Contains(cfg.AuthMethods, clientauth.SelfSignedTLSClientAuth) && most < certsource.KindCertificate {
			bad("Source", "%s returns %s at most, but self_signed_tls_client_auth needs the certificate; let the hop forward it", cfg.Source.Name(), most)
		}
		if cfg.bindsTokens() && most < certsource.KindFingerprint {
			bad("Source", "%s returns %s at most, but binding needs the certificate or its fingerprint; let the hop forward it, or switch MTLS.CertificateBoundAccessTokens off", cfg.Source.Name(), most)
		}
	}
	if len(cfg.AuthMethods) == 0 {
		bad("AuthMethods", "required: list the client authentication methods that the server takes")
	}
	known := []string{clientauth.TLSClientAuth, clientauth.SelfSignedTLSClientAuth, ClientSecretBasic, PrivateKeyJWT, None}
	for i, m := range cfg.AuthMethods {
		switch {
		case !slices.Contains(known, m):
			bad("AuthMethods", "expected any of %s, found %q", strings.Join(known, ", "), m)
		case slices.Contains(cfg.AuthMethods[:i], m):
			bad("AuthMethods", "%s is listed twice", m)
		case m == clientauth.TLSClientAuth && !(cfg.MTLS.Enabled && cfg.MTLS.TLSClientAuth):
			bad("AuthMethods", "lists %s, but MTLS.Enabled or MTLS.TLSClientAuth is off", m)
		case m == clientauth.SelfSignedTLSClientAuth && !(cfg.MTLS.Enabled && cfg.MTLS.SelfSignedTLSClientAuth):
			bad("AuthMethods", "lists %s, but MTLS.Enabled or MTLS.SelfSignedTLSClientAuth is off", m)
		}
	}
	if slices.Contains(cfg.AuthMethods, clientauth.TLSClientAuth) {
		if cfg.Paths == nil && cfg.MTLS.CertificateAuthorized == nil && (cfg.Source == nil || certsource.Describe(cfg.Source).VerifiedBy == "") {
			bad("Paths", "required with tls_client_auth: without trust anchors no certificate can be genuine")
		}
		if cfg.DefaultAnchorSet != "" && cfg.HasAnchorSet != nil && !cfg.HasAnchorSet(cfg.DefaultAnchorSet) {
			bad("DefaultAnchorSet", "there is no anchor set %q", cfg.DefaultAnchorSet)
		}
	}
	for _, alg := range cfg.AssertionAlgs {
		if !slices.Contains([]string{"ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "EdDSA", "RS256"}, alg) {
			bad("AssertionAlgs", "%q is not an asymmetric algorithm that is supported", alg)
		}
	}
	if slices.Contains(cfg.AuthMethods, PrivateKeyJWT) && len(cfg.AssertionAlgs) == 0 {
		bad("AssertionAlgs", "empty, but private_key_jwt is listed")
	}
	for i, s := range cfg.Scopes {
		if !validScopeToken(s) {
			bad("Scopes", "%q is not a scope (RFC 6749, Section 3.3)", s)
		} else if slices.Contains(cfg.Scopes[:i], s) {
			bad("Scopes", "%q is listed twice", s)
		}
	}
	if len(cfg.Resources) == 0 {
		bad("Resources", "required: name the resource servers that tokens are for, as absolute URIs")
	}
	for i, r := range cfg.Resources {
		if !validResource(r) {
			bad("Resources", "%q is not an absolute URI without fragment (RFC 8707, Section 2)", r)
		} else if slices.Contains(cfg.Resources[:i], r) {
			bad("Resources", "%q is listed twice", r)
		}
	}
	if cfg.DefaultResource != "" && !slices.Contains(cfg.Resources, cfg.DefaultResource) {
		bad("DefaultResource", "%q is not one of Resources", cfg.DefaultResource)
	}
	if cfg.TokenFormat != FormatJWT && cfg.TokenFormat != FormatOpaque {
		bad("TokenFormat", "expected %s or %s, found %q", FormatJWT, FormatOpaque, cfg.TokenFormat)
	}
	if cfg.TokenLifetime < time.Second || cfg.TokenLifetime > cfg.MaxTokenLifetime {
		bad("TokenLifetime", "expected 1s to %v (MaxTokenLifetime), found %v", cfg.MaxTokenLifetime, cfg.TokenLifetime)
	}
	if cfg.MaxTokenLifetime < time.Second || cfg.MaxTokenLifetime > 366*24*time.Hour {
		bad("MaxTokenLifetime", "expected 1s to 366 days, found %v", cfg.MaxTokenLifetime)
	}
	switch cfg.Binding {
	case BindNever, BindOnRequest:
	case BindAlwaysIfCertificate:
		if !cfg.bindsTokens() {
			bad("Binding", "is %s, but MTLS.Enabled or MTLS.CertificateBoundAccessTokens is off", cfg.Binding)
		}
	default:
		bad("Binding", "expected %s, %s or %s, found %q", BindNever, BindOnRequest, BindAlwaysIfCertificate, cfg.Binding)
	}
	if !slices.Contains([]string{"ES256", "PS256", "RS256", "EdDSA"}, cfg.SigningAlg) {
		bad("SigningAlg", "expected ES256, PS256, EdDSA or RS256, found %q", cfg.SigningAlg)
	}
	if r := cfg.KeyRotation; r.Prepublish < 0 || r.Every > 0 && r.Every <= r.Prepublish {
		bad("KeyRotation", "Every (%v) must be longer than Prepublish (%v)", r.Every, r.Prepublish)
	}
	if cfg.MaxBody < 0 || cfg.MaxParameters < 0 || cfg.CacheSize < 0 {
		bad("MaxBody, MaxParameters, CacheSize", "must not be negative")
	}
	cfg.checkAuthorization(bad)
	cfg.checkRegistration(bad)
	cfg.checkProfile(func(setting, rule, format string, args ...any) {
		text := fmt.Sprintf(format, args...)
		if rule != "" {
			text += " (FAPI 2.0 Security Profile, Section " + rule + ")"
		}
		errs = append(errs, &SettingError{Setting: setting, Fault: text, Rule: rule})
	})
	rules := cfg.Rules()
	seen := map[string]bool{}
	for _, c := range cfg.Clients {
		if err := ValidateClient(c, rules); err != nil {
			errs = append(errs, &SettingError{Setting: "Clients", Fault: fmt.Sprintf("%q", c.ID), Err: err})
		}
		if seen[c.ID] {
			bad("Clients", "%q is declared twice", c.ID)
		}
		seen[c.ID] = true
	}
	return errors.Join(errs...)
}

// issuerFault says what is wrong with an issuer identifier (RFC 8414, Section 2).
func issuerFault(s string) string {
	u, err := url.Parse(s)
	switch {
	case s == "":
		return "required"
	case err != nil || u.Host == "" || u.Opaque != "":
		return fmt.Sprintf("expected an absolute https URL, found %q", s)
	case u.Scheme != "https":
		return fmt.Sprintf("expected https, found %q", s)
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(s, "#"):
		return fmt.Sprintf("expected no query and no fragment, found %q", s)
	case u.User != nil:
		return "expected no user information"
	}
	return ""
}

func validResource(s string) bool {
	u, err := url.Parse(s)
	return err == nil && len(s) <= 2048 && u.IsAbs() && (u.Host != "" || u.Opaque != "" || u.Path != "") && !strings.Contains(s, "#")
}

// validScopeToken is scope-token of RFC 6749, Section 3.3.
func validScopeToken(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < 0x21 || c > 0x7e || c == '"' || c == '\\' {
			return false
		}
	}
	return s != "" && len(s) <= 256
}
