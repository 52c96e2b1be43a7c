package resourceserver

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
)

// buildDocument makes the protected resource metadata (RFC 9728, Section 2). Empty
// members are left out.
func (v *Verifier) buildDocument() {
	// Strings and booleans only, so there is no error.
	v.document, _ = json.Marshal(struct {
		Resource             string   `json:"resource"`
		AuthorizationServers []string `json:"authorization_servers"`
		ScopesSupported      []string `json:"scopes_supported,omitempty"`
		BearerMethods        []string `json:"bearer_methods_supported"`
		Documentation        string   `json:"resource_documentation,omitempty"`
		BoundTokens          bool     `json:"tls_client_certificate_bound_access_tokens"`
	}{
		Resource:             v.cfg.Resource,
		AuthorizationServers: []string{v.cfg.Issuer}, // never an alias host: there is one issuer
		ScopesSupported:      v.cfg.ScopesSupported,
		BearerMethods:        []string{"header"},
		Documentation:        v.cfg.Documentation,
		BoundTokens:          true,
	})
	if u, err := url.Parse(v.metadataURL); err == nil {
		v.metadataPath = u.Path
	}
}

// MetadataURL returns where the metadata document belongs: the resource identifier with
// /.well-known/oauth-protected-resource between host and path (RFC 9728, Section 3.1).
func (v *Verifier) MetadataURL() string { return v.metadataURL }

// MetadataPath returns the path of [Verifier.MetadataURL], for a mux.
func (v *Verifier) MetadataPath() string { return v.metadataPath }

// MetadataHandler serves the metadata document at its path, and 404 at any other. It
// must stand before the middleware, since clients read it before they have a token or
// present a certificate.
func (v *Verifier) MetadataHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path != v.metadataPath:
			http.NotFound(w, r)
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		default:
			h := w.Header()
			h.Set("Content-Type", "application/json")
			h.Set("Cache-Control", "max-age=300")
			h.Set("X-Content-Type-Options", "nosniff")
			h.Set("Content-Length", strconv.Itoa(len(v.document)))
			w.Write(v.document)
		}
	})
}
