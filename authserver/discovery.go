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
	RevocationFeed        string   `json:"certbound_revocation_feed_endpoint"`

	TokenAuthMethods         []string `json:"token_endpoint_auth_methods_supported"`
	TokenAuthAlgs            []string `json:"token_endpoint_auth_signing_alg_values_supported,omitempty"`
	IntrospectionAuthMethods []string `json:"introspection_endpoint_auth_methods_supported,omitempty"`
	IntrospectionAuthAlgs    []string `json:"introspection_endpoint_auth_signing_alg_values_supported,omitempty"`
	RevocationAuthMethods    []string `json:"revocation_endpoint_auth_methods_supported"`
	RevocationAuthAlgs       []string `json:"revocation_endpoint_auth_signing_alg_values_supported,omitempty"`

	ProtectedResources []string          `json:"protected_resources,omitempty"` // RFC 9728, Section 4
	BoundTokens        bool              `json:"tls_client_certificate_bound_access_tokens,omitempty"`
	Aliases            map[string]string `json:"mtls_endpoint_aliases,omitempty"`
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
		GrantTypes:               []string{GrantClientCredentials},
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
	if cfg.MTLSBaseURL != "" {
		// Direct endpoints only, each with its counterpart above (RFC 8705,
		// Section 5).
		m.Aliases = map[string]string{
			"token_endpoint":         join(cfg.MTLSBaseURL, "/token"),
			"introspection_endpoint": join(cfg.MTLSBaseURL, "/introspect"),
			"revocation_endpoint":    join(cfg.MTLSBaseURL, "/revoke"),
			feed.Member:              join(cfg.MTLSBaseURL, feedPath),
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
