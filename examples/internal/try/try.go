// Package try starts an example over TLS and has what its callers need: certificates, and
// tokens that are bound to one of them.
package try

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/jwks"
	"github.com/certbound/certbound/pkitest"
	"github.com/certbound/certbound/resourceserver"
)

// A World is an example that runs.
type World struct {
	URL string
	// Owner presents the certificate that the tokens are bound to, Thief another one,
	// and Nobody none.
	Owner, Thief, Nobody *http.Client
	// Token has the scope accounts, Admin also admin, and Poor neither.
	Token, Admin, Poor string
}

// Start runs the routes of an example as its main does, for a test.
func Start(t *testing.T, routes func(*resourceserver.Verifier) http.Handler) *World {
	t.Helper()
	servers := pkitest.MustCA(pkitest.CAOptions{})
	owner := pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=owner"})
	key := pkitest.MustKey(pkitest.P256)
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k1", Algorithm: "ES256"}}})
	must(t, err)
	keys, err := jwks.Parse(set, jwks.Strict)
	must(t, err)
	v, err := resourceserver.New(resourceserver.Config{
		Resource: "https://api.example.com", Issuer: "https://as.example.com", Source: certsource.TLS{},
		Keys: resourceserver.Keys{Set: keys}, Logger: slog.New(slog.DiscardHandler),
	})
	must(t, err)
	s := httptest.NewUnstartedServer(routes(v))
	s.EnableHTTP2 = true
	s.Config.ConnContext = certsource.ConnContext
	s.TLS = &tls.Config{ClientAuth: tls.RequestClientCert, Certificates: []tls.Certificate{servers.MustLeaf(pkitest.LeafOptions{Server: true}).TLS()}}
	s.StartTLS()
	t.Cleanup(s.Close)

	client := func(leaf *pkitest.Leaf) *http.Client {
		conf := &tls.Config{RootCAs: servers.Pool()}
		if leaf != nil {
			conf.Certificates = []tls.Certificate{leaf.TLS()}
		}
		transport := &http.Transport{TLSClientConfig: conf, ForceAttemptHTTP2: true}
		t.Cleanup(transport.CloseIdleConnections)
		return &http.Client{Transport: transport, Timeout: 20 * time.Second}
	}
	token := func(scope string) string {
		payload, err := json.Marshal(map[string]any{
			"iss": "https://as.example.com", "aud": "https://api.example.com", "sub": "billing", "client_id": "billing",
			"exp": time.Now().Add(time.Hour).Unix(), "scope": scope,
			"cnf": map[string]string{"x5t#S256": certbound.Thumbprint(owner.Cert)},
		})
		must(t, err)
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "k1"}},
			(&jose.SignerOptions{}).WithType("at+jwt"))
		must(t, err)
		object, err := signer.Sign(payload)
		must(t, err)
		out, err := object.CompactSerialize()
		must(t, err)
		return out
	}
	return &World{
		URL:   s.URL,
		Owner: client(owner), Thief: client(pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=owner"})), Nobody: client(nil),
		Token: token("accounts"), Admin: token("accounts admin"), Poor: token("other"),
	}
}

// HTTP runs an example that answers GET and DELETE of /accounts.
func HTTP(t *testing.T, routes func(*resourceserver.Verifier) http.Handler) {
	w := Start(t, routes)
	for _, tt := range []struct {
		name, method, path, token string
		client                    *http.Client
		status                    int
		challenge                 string // what it has in it
	}{
		{"the owner", "GET", "/accounts", w.Token, w.Owner, 200, ""},
		{"without a certificate", "GET", "/accounts", w.Token, w.Nobody, 401, "invalid_token"},
		{"a stolen token", "GET", "/accounts", w.Token, w.Thief, 401, "invalid_token"},
		{"without a token", "GET", "/accounts", "", w.Owner, 401, "Bearer"},
		{"without the scope", "GET", "/accounts", w.Poor, w.Owner, 403, "insufficient_scope"},
		{"without one of the scopes", "DELETE", "/accounts", w.Token, w.Owner, 403, "insufficient_scope"},
		{"with all scopes", "DELETE", "/accounts", w.Admin, w.Owner, 200, ""},
		{"metadata", "GET", "/.well-known/oauth-protected-resource", "", w.Nobody, 200, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), tt.method, w.URL+tt.path, nil)
			must(t, err)
			if tt.token != "" {
				req.Header.Set("Authorization", "Bearer "+tt.token)
			}
			resp, err := tt.client.Do(req)
			must(t, err)
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			must(t, err)
			if got := resp.Header.Get("WWW-Authenticate"); resp.StatusCode != tt.status || !strings.Contains(got, tt.challenge) {
				t.Errorf("status %d, challenge %q; want %d, %q", resp.StatusCode, got, tt.status, tt.challenge)
			}
			if hello := strings.Contains(string(body), "hello billing"); hello != (tt.status == 200 && tt.token == w.Token) {
				t.Errorf("body %q", body)
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
