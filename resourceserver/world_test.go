package resourceserver_test

import (
	"context"
	"crypto"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/pkitest"
	"github.com/certbound/certbound/resourceserver"
)

const resource = "https://rs.test/api"

// pki holds the certificates of the requirements' section 0.2. The resource server
// knows none of the CAs of clients.
type pki struct {
	servers                      *pkitest.CA
	ca1                          *pkitest.CA
	ca1i                         *pkitest.CA
	l1, l1r, l1k, l2, s1, s2, cx *pkitest.Leaf
}

var certs = sync.OnceValue(func() *pki {
	p := &pki{servers: pkitest.MustCA(pkitest.CAOptions{Subject: "CN=Servers"})}
	p.ca1 = pkitest.MustCA(pkitest.CAOptions{Subject: "CN=CA1"})
	p.ca1i = p.ca1.MustIntermediate(pkitest.CAOptions{Subject: "CN=CA1i"})
	names := pkitest.LeafOptions{Subject: "CN=client-1,OU=apps,O=Example,C=GB", DNS: []string{"client-1.example"}}
	p.l1 = p.ca1i.MustLeaf(names)
	p.l1r = p.ca1i.MustLeaf(names)
	sameKey := names
	sameKey.Key = p.l1.Key
	p.l1k = p.ca1i.MustLeaf(sameKey)
	p.l2 = p.ca1i.MustLeaf(pkitest.LeafOptions{Subject: "CN=other"})
	p.s1 = pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=s1"})
	p.s2 = pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=s2"})
	p.cx = pkitest.MustCA(pkitest.CAOptions{Subject: "CN=CAX"}).MustLeaf(names)
	return p
})

// An issuer is an authorization server as far as a resource server sees it.
type issuer struct {
	*httptest.Server
	alias *httptest.Server // asks for a certificate

	mu         sync.Mutex
	keys       []jose.JSONWebKey
	signer     jose.SigningKey
	answers    map[string]string // of introspection, by token
	down       bool
	noAlias    bool
	callers    []*tls.ConnectionState // of introspection
	forms      []string
	metadata   atomic.Int32
	keyFetches atomic.Int32
	questions  atomic.Int32
	atAlias    atomic.Int32
}

func serverTLS(mode tls.ClientAuthType) *tls.Config {
	return &tls.Config{
		MinVersion:   tls.VersionTLS12,
		ClientAuth:   mode,
		Certificates: []tls.Certificate{certs().servers.MustLeaf(pkitest.LeafOptions{Server: true}).TLS()},
	}
}

func newIssuer(t testing.TB) *issuer {
	is := &issuer{answers: make(map[string]string)}
	is.rotate("k1", jose.ES256, pkitest.MustKey(pkitest.P256))
	handler := http.HandlerFunc(is.serve)
	is.Server = startTLS(t, handler, serverTLS(tls.NoClientCert))
	is.alias = startTLS(t, handler, serverTLS(tls.RequestClientCert))
	return is
}

func startTLS(t testing.TB, h http.Handler, conf *tls.Config) *httptest.Server {
	s := httptest.NewUnstartedServer(h)
	s.TLS = conf
	s.EnableHTTP2 = true
	s.Config.ConnContext = certsource.ConnContext
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// rotate adds a key and signs with it from now on.
func (is *issuer) rotate(kid string, alg jose.SignatureAlgorithm, key crypto.Signer) {
	is.mu.Lock()
	defer is.mu.Unlock()
	is.keys = append(is.keys, jose.JSONWebKey{Key: key.Public(), KeyID: kid, Use: "sig", Algorithm: string(alg)})
	is.signer = jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: kid}}
}

func (is *issuer) set(f func()) {
	is.mu.Lock()
	defer is.mu.Unlock()
	f()
}

func (is *issuer) serve(w http.ResponseWriter, r *http.Request) {
	is.mu.Lock()
	defer is.mu.Unlock()
	if is.down {
		http.Error(w, "down", http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	switch r.URL.Path {
	case "/.well-known/oauth-authorization-server":
		is.metadata.Add(1)
		doc := map[string]any{
			"issuer":                 is.URL,
			"jwks_uri":               is.URL + "/jwks",
			"introspection_endpoint": is.URL + "/introspect",
		}
		if !is.noAlias {
			doc["mtls_endpoint_aliases"] = map[string]any{"introspection_endpoint": is.alias.URL + "/introspect"}
		}
		json.NewEncoder(w).Encode(doc)
	case "/jwks":
		is.keyFetches.Add(1)
		json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: is.keys})
	case "/introspect":
		is.questions.Add(1)
		if "https://"+r.Host == is.alias.URL {
			is.atAlias.Add(1)
		}
		is.callers = append(is.callers, r.TLS)
		r.ParseForm()
		is.forms = append(is.forms, r.PostForm.Encode())
		answer, ok := is.answers[r.PostForm.Get("token")]
		if !ok {
			answer = `{"active":false}`
		}
		io.WriteString(w, answer)
	default:
		http.NotFound(w, r)
	}
}

// claims are those of a good token; changed replaces some, nil removes.
func (is *issuer) claims(changed map[string]any) map[string]any {
	now := time.Now()
	c := map[string]any{
		"iss": is.URL, "sub": "client-1", "client_id": "client-1", "aud": resource, "jti": "j1",
		"iat": now.Unix(), "exp": now.Add(time.Hour).Unix(), "scope": "read write",
	}
	maps.Copy(c, changed)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	return c
}

func (is *issuer) token(t testing.TB, changed map[string]any) string {
	payload, err := json.Marshal(is.claims(changed))
	if err != nil {
		t.Fatal(err)
	}
	return is.sign(t, "at+jwt", string(payload))
}

func (is *issuer) sign(t testing.TB, typ, payload string) string {
	is.mu.Lock()
	key := is.signer
	is.mu.Unlock()
	return signWith(t, key, typ, payload)
}

func signWith(t testing.TB, key jose.SigningKey, typ, payload string) string {
	s, err := jose.NewSigner(key, (&jose.SignerOptions{}).WithType(jose.ContentType(typ)))
	if err != nil {
		t.Fatal(err)
	}
	obj, err := s.Sign([]byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	out, err := obj.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func cnf(leaf *pkitest.Leaf) map[string]any {
	return map[string]any{"cnf": map[string]any{"x5t#S256": certbound.Thumbprint(leaf.Cert)}}
}

func with(m map[string]any, kv ...any) map[string]any {
	m = maps.Clone(m)
	if m == nil {
		m = make(map[string]any)
	}
	for i := 0; i < len(kv); i += 2 {
		m[kv[i].(string)] = kv[i+1]
	}
	return m
}

// A world is an issuer and a resource server on a TLS listener that asks for a
// certificate and demands nothing.
type world struct {
	t  testing.TB
	is *issuer
	rs *httptest.Server
	v  *resourceserver.Verifier

	mu        sync.Mutex
	decisions []*decision.Decision
	log       *logBuffer
}

type logBuffer struct {
	mu sync.Mutex
	strings.Builder
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Builder.Write(p)
}

func (b *logBuffer) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.String()
}

// newWorld starts both. change may alter the configuration; scopes are needed by "/".
func newWorld(t testing.TB, change func(*issuer, *resourceserver.Config), scopes ...string) *world {
	w := &world{t: t, is: newIssuer(t), log: new(logBuffer)}
	cfg := resourceserver.Config{
		Resource:   resource,
		Issuer:     w.is.URL,
		Source:     certsource.TLS{},
		HTTPClient: client(nil, nil),
		Observer: func(_ context.Context, d *decision.Decision) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.decisions = append(w.decisions, d)
		},
		Logger: slog.New(slog.NewTextHandler(w.log, nil)),
	}
	if change != nil {
		change(w.is, &cfg)
	}
	var err error
	if w.v, err = resourceserver.New(cfg); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle(w.v.MetadataPath(), w.v.MetadataHandler())
	mux.Handle("/", w.v.Middleware(scopes...)(http.HandlerFunc(protected)))
	w.rs = startTLS(t, mux, serverTLS(tls.RequestClientCert))
	return w
}

// protected shows what it got from the context, and its form.
func protected(w http.ResponseWriter, r *http.Request) {
	tok, ok := resourceserver.TokenFromContext(r.Context())
	p, _ := resourceserver.PresentedFromContext(r.Context())
	body, err := io.ReadAll(r.Body)
	fmt.Fprintf(w, "secret content for %v %s with %q, body %q %v", ok, tok.ClientID, p.Thumbprint(), body, err)
}

// client returns a client with one certificate, or none. Each has connections of its own.
func client(leaf *pkitest.Leaf, change func(*tls.Config)) *http.Client {
	conf := &tls.Config{RootCAs: certs().servers.Pool()}
	if leaf != nil {
		cert := leaf.TLS()
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	}
	if change != nil {
		change(conf)
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: conf, ForceAttemptHTTP2: true}, Timeout: 20 * time.Second}
}

type answer struct {
	status    int
	challenge string
	body      string
	header    http.Header
	proto     int
	tls       *tls.ConnectionState
}

func (w *world) do(c *http.Client, method, path, token string, change ...func(*http.Request)) answer {
	w.t.Helper()
	req, err := http.NewRequest(method, w.rs.URL+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for _, f := range change {
		f(req)
	}
	return send(w.t, c, req)
}

func send(t testing.TB, c *http.Client, req *http.Request) answer {
	t.Helper()
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header.Get("WWW-Authenticate"), string(body), resp.Header, resp.ProtoMajor, resp.TLS}
}

func (w *world) get(leaf *pkitest.Leaf, token string) answer {
	w.t.Helper()
	c := client(leaf, nil)
	defer c.CloseIdleConnections()
	return w.do(c, "GET", "/", token)
}

func (w *world) reason() decision.Reason {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.decisions) == 0 {
		return ""
	}
	return w.decisions[len(w.decisions)-1].Reason()
}

// The outcomes of the requirements' section 0.3.

func (w *world) wantOK(t *testing.T, a answer) {
	t.Helper()
	if a.status != 200 || !strings.Contains(a.body, "secret content") {
		t.Errorf("status %d, %s, reason %q; want 200 and the content", a.status, a.challenge, w.reason())
	}
	if cc := a.header.Get("Cache-Control"); cc != "no-store" {
		t.Errorf("Cache-Control %q, want no-store", cc)
	}
}

// wantIT checks for invalid_token, and the reason that the operator sees.
func (w *world) wantIT(t *testing.T, a answer, reason decision.Reason) {
	t.Helper()
	if a.status != 401 || !strings.HasPrefix(a.challenge, "Bearer ") || strings.Count(a.challenge, `error="invalid_token"`) != 1 {
		t.Errorf("status %d, challenge %q; want 401 invalid_token", a.status, a.challenge)
	}
	if strings.Contains(a.body, "secret content") {
		t.Error("the refusal has the content")
	}
	if cc := a.header.Get("Cache-Control"); cc != "no-store" {
		t.Errorf("Cache-Control %q, want no-store", cc)
	}
	if got := w.reason(); got != reason {
		t.Errorf("reason %q, want %q", got, reason)
	}
}

func (w *world) wantCH(t *testing.T, a answer) {
	t.Helper()
	if a.status != 401 || a.challenge != "Bearer" {
		t.Errorf("status %d, challenge %q; want 401 with a bare Bearer challenge", a.status, a.challenge)
	}
	if strings.Contains(a.body, "secret content") {
		t.Error("the refusal has the content")
	}
}
