package authserver_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/authserver/memstore"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/clientauth"
	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pki"
	"github.com/certbound/certbound/pkitest"
)

// discard is a ResponseWriter that keeps nothing but the status.
type discard struct {
	header http.Header
	status int
}

func (w *discard) Header() http.Header         { return w.header }
func (w *discard) Write(p []byte) (int, error) { return len(p), nil }
func (w *discard) WriteHeader(status int)      { w.status = status }

// benchServer runs a server with n registered clients, of which it returns the ids.
func benchServer(b *testing.B, n int, change func(*authserver.Config)) http.Handler {
	b.Helper()
	certs := fixture.Certs()
	paths, err := pki.NewValidator(pki.Config{Sets: []pki.Set{{Name: "ca1", Anchors: []*x509.Certificate{certs.CA1.Cert}}}})
	if err != nil {
		b.Fatal(err)
	}
	store := memstore.New()
	for i := range n {
		err := store.CreateClient(b.Context(), &authserver.Client{ID: fmt.Sprintf("c-%d", i), AuthMethod: clientauth.TLSClientAuth,
			SubjectDN: fixture.SubjectDN, Scope: "read write", BoundTokens: true})
		if err != nil {
			b.Fatal(err)
		}
	}
	cfg := authserver.Config{
		Issuer: fixture.Issuer, MTLSBaseURL: fixture.MTLSBase, Store: store, Source: certsource.TLS{}, Paths: paths, DefaultAnchorSet: "ca1",
		MTLS:        authserver.MTLSFeature{Enabled: true, TLSClientAuth: true, CertificateBoundAccessTokens: true},
		AuthMethods: []string{clientauth.TLSClientAuth}, Scopes: []string{"read", "write"}, Resources: []string{fixture.Resource},
		Logger: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&cfg)
	}
	s, err := authserver.New(cfg)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	b.Cleanup(func() { cancel(); <-done })
	time.Sleep(50 * time.Millisecond) // Run has begun to follow the store
	return s.MTLSHandler()
}

// tokenRequest returns what makes the same token request again and again, as net/http
// would after it has read it from a kept-alive connection.
func tokenRequest(leaf *pkitest.Leaf) func(clientID string) *http.Request {
	state := &tls.ConnectionState{PeerCertificates: leaf.Chain()}
	ctx := certsource.ConnContext(context.Background(), pipeConn{})
	header := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	template := httptest.NewRequest(http.MethodPost, fixture.MTLSBase+"/token", nil).WithContext(ctx)
	template.TLS, template.Header = state, header
	return func(clientID string) *http.Request {
		r := *template
		body := "grant_type=client_credentials&client_id=" + clientID + "&scope=read"
		r.Body, r.ContentLength = nopCloser{strings.NewReader(body)}, int64(len(body))
		return &r
	}
}

// BenchmarkToken measures a client_credentials request with tls_client_auth and a
// bound token, without net/http and TLS. Compare with Floor.
func BenchmarkToken(b *testing.B) {
	for _, bc := range []struct {
		name    string
		clients int
		change  func(*authserver.Config)
	}{
		{"jwt/ES256", 1, nil},
		{"jwt/EdDSA", 1, func(c *authserver.Config) { c.SigningAlg = "EdDSA" }},
		{"opaque", 1, func(c *authserver.Config) { c.TokenFormat = authserver.FormatOpaque }},
		{"clients/1000", 1000, nil},
		{"clients/200000", 200_000, nil}, // twice what the cache holds
	} {
		b.Run(bc.name, func(b *testing.B) {
			h := benchServer(b, bc.clients, bc.change)
			request := tokenRequest(fixture.Certs().L1)
			w := &discard{header: http.Header{}}
			ids := make([]string, bc.clients)
			for i := range ids {
				ids[i] = fmt.Sprintf("c-%d", i*7919%bc.clients)
			}
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				clear(w.header)
				h.ServeHTTP(w, request(ids[i%len(ids)]))
				if w.status != http.StatusOK {
					b.Fatal(w.status)
				}
				i++
			}
		})
	}
}

// BenchmarkFloor does only what any token server must: parse the form, compare a
// thumbprint, sign with crypto/ecdsa, write JSON.
func BenchmarkFloor(b *testing.B) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	request := tokenRequest(fixture.Certs().L1)
	w := &discard{header: http.Header{}}
	registered := sha256.Sum256(fixture.Certs().L1.Cert.Raw)
	b.ReportAllocs()
	for b.Loop() {
		clear(w.header)
		r := request("c-0")
		if err := r.ParseForm(); err != nil || r.PostForm.Get("grant_type") != "client_credentials" {
			b.Fatal(err)
		}
		if sha256.Sum256(r.TLS.PeerCertificates[0].Raw) != registered {
			b.Fatal("thumbprint")
		}
		claims, err := json.Marshal(map[string]any{"iss": "x", "cnf": map[string]string{"x5t#S256": "y"}})
		if err != nil {
			b.Fatal(err)
		}
		sum := sha256.Sum256(claims)
		sig, err := key.Sign(rand.Reader, sum[:], crypto.SHA256)
		if err != nil {
			b.Fatal(err)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusOK)
		if err := json.NewEncoder(w).Encode(map[string]any{"access_token": sig, "token_type": "Bearer", "expires_in": 600}); err != nil {
			b.Fatal(err)
		}
	}
}
