package authserver

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/certbound/certbound/internal/feed"
)

// serverMetadata is the document of RFC 8414, Section 2. Members without a value are
// absent, as Section 3.2 demands.
type serverMetadata struct {
	Issuer                string   `json:"issuer"`
	TokenEndpoint         string   `json:"token_endpoint"`
	JWKSURI               string   `json:"jwks_uri"`
	IntrospectionEndpoint string   `json:"introspection_endpoint"`
	RevocationEndpoint    string   `json:"revocation_endpoint"`
	GrantTypes            []string `json:"grant_types_supported"`
	Scopes                []string `json:"scopes_supported,omitempty"`
	RegistrationEndpoint  string   `json:"registration_endpoint,omitempty"`
	RevocationFeed        string   `json:"certbound_revocation_feed_endpoint"`

	TokenAuthMethods         []string `json:"token_endpoint_auth_methods_supported"`
	TokenAuthAlgs            []string `json:"token_endpoint_auth_signing_alg_values_supported,omitempty"`
	IntrospectionAuthMethods []string `json:"introspection_endpoint_auth_methods_supported,omitempty"`
	IntrospectionAuthAlgs    []string `json:"introspection_endpoint_auth_signing_alg_values_supported,omitempty"`
	RevocationAuthMethods    []string `json:"revocation_endpoint_auth_methods_supported"`
	RevocationAuthAlgs       []string `json:"revocation_endpoint_auth_signing_alg_values_supported,omitempty"`

	peopleMetadata

	ProtectedResources []string          `json:"protected_resources,omitempty"` // RFC 9728, Section 4
	BoundTokens        bool              `json:"tls_client_certificate_bound_access_tokens,omitempty"`
	Aliases            map[string]string `json:"mtls_endpoint_aliases,omitempty"`
}

// peopleMetadata are the members for the flows with a person in them: RFC 8414, Section 2;
// RFC 9101, Section 9; RFC 9126, Section 5; RFC 9207, Section 3; OpenID Connect
// Discovery, Section 3; RP-Initiated Logout, Section 2.1. Without those flows none is
// there, so that each is a pointer where its value can be false.
type peopleMetadata struct {
	AuthorizationEndpoint string   `json:"authorization_endpoint,omitempty"`
	PAREndpoint           string   `json:"pushed_authorization_request_endpoint,omitempty"`
	UserInfoEndpoint      string   `json:"userinfo_endpoint,omitempty"`
	EndSessionEndpoint    string   `json:"end_session_endpoint,omitempty"`
	ResponseTypes         []string `json:"response_types_supported,omitempty"`
	ResponseModes         []string `json:"response_modes_supported,omitempty"`
	ChallengeMethods      []string `json:"code_challenge_methods_supported,omitempty"`
	ResponseIss           bool     `json:"authorization_response_iss_parameter_supported,omitempty"`
	RequirePAR            bool     `json:"require_pushed_authorization_requests,omitempty"`

	RequestParameter      *bool    `json:"request_parameter_supported,omitempty"`
	RequestURIParameter   *bool    `json:"request_uri_parameter_supported,omitempty"`
	RequestObjectAlgs     []string `json:"request_object_signing_alg_values_supported,omitempty"`
	RequireSignedRequests bool     `json:"require_signed_request_object,omitempty"`

	PromptValues    []string `json:"prompt_values_supported,omitempty"`
	ACRValues       []string `json:"acr_values_supported,omitempty"`
	SubjectTypes    []string `json:"subject_types_supported,omitempty"`
	IDTokenAlgs     []string `json:"id_token_signing_alg_values_supported,omitempty"`
	ClaimTypes      []string `json:"claim_types_supported,omitempty"`
	Claims          []string `json:"claims_supported,omitempty"`
	ClaimsParameter *bool    `json:"claims_parameter_supported,omitempty"`
}

// peopleMetadata describes the flows with a person in them.
func (s *Server) peopleMetadata() peopleMetadata {
	cfg := &s.cfg
	m := peopleMetadata{
		AuthorizationEndpoint: join(cfg.Issuer, "/authorize"),
		PAREndpoint:           join(cfg.Issuer, "/par"),
		UserInfoEndpoint:      join(cfg.Issuer, "/userinfo"),
		EndSessionEndpoint:    join(cfg.Issuer, "/logout"),
		ResponseTypes:         []string{"code"},
		ResponseModes:         []string{"query", "form_post"},
		ChallengeMethods:      []string{"S256"},
		ResponseIss:           true,
		RequirePAR:            cfg.Authorization.RequirePAR || cfg.Profile == ProfileFAPI2,
		RequestParameter:      new(true),
		RequestURIParameter:   new(false), // by reference only what was pushed
		RequestObjectAlgs:     cfg.AssertionAlgs,
		RequireSignedRequests: cfg.Authorization.RequireSignedRequests,
		PromptValues:          []string{"none", "login", "consent", "select_account"},
		ACRValues:             cfg.Authorization.ACRValues,
		SubjectTypes:          []string{"public"},
		IDTokenAlgs:           []string{cfg.SigningAlg},
		ClaimTypes:            []string{"normal"},
		Claims:                []string{"iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "acr", "amr", "sid", "at_hash"},
		ClaimsParameter:       new(false),
	}
	for _, sc := range scopeClaims {
		if slices.Contains(cfg.Scopes, sc.scope) {
			m.Claims = append(m.Claims, sc.claims...)
		}
	}
	return m
}

// buildMetadata describes what is really served: the same routes, methods and
// switches that the handlers use.
func (s *Server) buildMetadata() ([]byte, error) {
	cfg := &s.cfg
	m := serverMetadata{
		Issuer:                   cfg.Issuer,
		TokenEndpoint:            join(cfg.Issuer, "/token"),
		JWKSURI:                  join(cfg.Issuer, "/jwks"),
		IntrospectionEndpoint:    join(cfg.Issuer, "/introspect"),
		RevocationEndpoint:       join(cfg.Issuer, "/revoke"),
		RevocationFeed:           join(cfg.Issuer, feedPath),
		GrantTypes:               s.grantTypes(),
		Scopes:                   cfg.Scopes,
		TokenAuthMethods:         cfg.AuthMethods,
		IntrospectionAuthMethods: slices.DeleteFunc(slices.Clone(cfg.AuthMethods), func(m string) bool { return m == None }),
		RevocationAuthMethods:    cfg.AuthMethods,
		ProtectedResources:       cfg.Resources,
		BoundTokens:              s.binds,
	}
	if slices.Contains(cfg.AuthMethods, PrivateKeyJWT) {
		m.TokenAuthAlgs, m.IntrospectionAuthAlgs, m.RevocationAuthAlgs = cfg.AssertionAlgs, cfg.AssertionAlgs, cfg.AssertionAlgs
	}
	if cfg.Registration.Enabled {
		m.RegistrationEndpoint = join(cfg.Issuer, registerPath)
	}
	if s.grants != nil {
		m.peopleMetadata = s.peopleMetadata()
	}
	if cfg.MTLSBaseURL != "" {
		// Direct endpoints only, each with its counterpart above (RFC 8705,
		// Section 5).
		m.Aliases = map[string]string{
			"token_endpoint":         join(cfg.MTLSBaseURL, "/token"),
			"introspection_endpoint": join(cfg.MTLSBaseURL, "/introspect"),
			"revocation_endpoint":    join(cfg.MTLSBaseURL, "/revoke"),
			feed.Member:              join(cfg.MTLSBaseURL, feedPath),
		}
		if cfg.Registration.Enabled {
			m.Aliases["registration_endpoint"] = join(cfg.MTLSBaseURL, registerPath)
		}
		if s.grants != nil {
			m.Aliases["pushed_authorization_request_endpoint"] = join(cfg.MTLSBaseURL, "/par")
			m.Aliases["userinfo_endpoint"] = join(cfg.MTLSBaseURL, "/userinfo")
		}
	}
	return json.Marshal(m)
}

// join appends the path of an endpoint to a base URL.
func join(base, path string) string { return strings.TrimSuffix(base, "/") + path }

// metadata serves the metadata document (RFC 8414, Section 3).
func (x *exchange) metadata() {
	x.w.Header()["Cache-Control"] = headerShortAge
	x.write(http.StatusOK, x.s.metadata)
}

// jwks serves the public keys (RFC 7517), those that do not sign yet included. It is
// not cached for longer than half of the time that a new key is published before it
// signs.
func (x *exchange) jwks() {
	ks := x.s.keys.Load()
	if ks == nil {
		var err error
		if ks, err = x.s.newerKeys(x.ctx(), nil); err != nil {
			x.s.cfg.Logger.ErrorContext(x.ctx(), "key set cannot be served", "request_id", x.id, "cause", err)
			x.w.Header()["Cache-Control"] = headerNoStore
			http.Error(x.w, "temporarily unavailable", http.StatusServiceUnavailable)
			return
		}
	}
	age := min(300, int(x.s.cfg.KeyRotation.Prepublish.Seconds()/2))
	x.w.Header()["Cache-Control"] = []string{"public, max-age=" + strconv.Itoa(age)}
	x.write(http.StatusOK, ks.jwks)
}
