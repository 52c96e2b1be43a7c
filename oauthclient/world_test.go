package oauthclient_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/internal/jws"
	"github.com/certbound/certbound/oauthclient"
	"github.com/certbound/certbound/pkitest"
)

type pki struct {
	servers, clients     *pkitest.CA
	l1, l1r, l1k, l2, s1 *pkitest.Leaf
}

var certs = sync.OnceValue(func() *pki {
	p := &pki{servers: pkitest.MustCA(pkitest.CAOptions{Subject: "CN=Servers"}), clients: pkitest.MustCA(pkitest.CAOptions{Subject: "CN=Clients"})}
	names := pkitest.LeafOptions{Subject: "CN=client-1"}
	p.l1, p.l1r = p.clients.MustLeaf(names), p.clients.MustLeaf(names)
	sameKey := names
	sameKey.Key = p.l1.Key
	p.l1k = p.clients.MustLeaf(sameKey)
	p.l2 = p.clients.MustLeaf(pkitest.LeafOptions{Subject: "CN=client-2"})
	p.s1 = pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=s1"})
	return p
})

// A seen is one request as a recording server has it.
type seen struct {
	path   string
	form   url.Values
	header http.Header
	cert   string // x5t#S256, or ""
	remote string
	tls    uint16
	body   string
}

// A recorder is a TLS server that writes down what comes.
type recorder struct {
	*httptest.Server
	mu       sync.Mutex
	requests []seen
	h        http.HandlerFunc
}

// handle exchanges the handler.
func (r *recorder) handle(h http.HandlerFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.h = h
}

func newRecorder(t testing.TB, conf *tls.Config, h http.HandlerFunc, before ...func(*http.Server)) *recorder {
	r := &recorder{h: h}
	r.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			http.Error(w, "read", 500)
			return
		}
		req.Body = io.NopCloser(bytes.NewReader(body))
		req.ParseForm()
		s := seen{path: req.URL.Path, form: req.PostForm, header: req.Header.Clone(), cert: peer(req), remote: req.RemoteAddr, tls: req.TLS.Version, body: string(body)}
		r.mu.Lock()
		r.requests = append(r.requests, s)
		h := r.h
		r.mu.Unlock()
		h(w, req)
	}))
	if conf == nil {
		conf = serverTLS(tls.RequestClientCert)
	}
	r.TLS = conf
	r.EnableHTTP2 = true
	r.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	for _, f := range before {
		f(r.Config)
	}
	r.StartTLS()
	t.Cleanup(r.Close)
	return r
}

func serverTLS(mode tls.ClientAuthType) *tls.Config {
	return &tls.Config{ClientAuth: mode, Certificates: []tls.Certificate{certs().servers.MustLeaf(pkitest.LeafOptions{Server: true}).TLS()}}
}

func peer(r *http.Request) string {
	if len(r.TLS.PeerCertificates) == 0 {
		return ""
	}
	return certbound.Thumbprint(r.TLS.PeerCertificates[0])
}

func (r *recorder) all() []seen {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]seen(nil), r.requests...)
}

func (r *recorder) at(path string) (out []seen) {
	for _, s := range r.all() {
		if s.path == path {
			out = append(out, s)
		}
	}
	return out
}

func host(s *httptest.Server) string { return s.Listener.Addr().String() }

// A world is an authorization server with a conventional and a mutual-TLS listener, and a
// resource. Tokens are JWTs bound to the certificate of the token request.
type world struct {
	t          testing.TB
	as, mtls   *recorder
	rs         *recorder
	signer     *jws.Signer
	mu         sync.Mutex
	metadata   func(map[string]any) // changes the document
	token      func(w http.ResponseWriter, r *http.Request) bool
	issued     int
	revoked    map[string]bool
	lifetime   int
	refuse     map[string]bool // certificates that the AS does not take
	refusals   int
	rsRefusals int
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, revoked: make(map[string]bool), refuse: make(map[string]bool), lifetime: 300}
	var err error
	if w.signer, err = jws.NewSigner("ES256", "at+jwt", "k", pkitest.MustKey(pkitest.P256)); err != nil {
		t.Fatal(err)
	}
	w.as = newRecorder(t, serverTLS(tls.NoClientCert), w.serveAS)
	w.mtls = newRecorder(t, nil, w.serveAS)
	w.rs = newRecorder(t, nil, w.serveRS)
	return w
}

func (w *world) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// n reads one of the counters.
func (w *world) n(counter *int) (n int) {
	w.set(func() { n = *counter })
	return n
}

var endpoints = []string{"token", "revocation", "introspection", "pushed_authorization_request", "userinfo", "device_authorization"}

func (w *world) serveAS(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	rw.Header().Set("Content-Type", "application/json")
	switch r.URL.Path {
	case "/.well-known/oauth-authorization-server":
		doc := map[string]any{"issuer": w.as.URL, "jwks_uri": w.as.URL + "/jwks", "tls_client_certificate_bound_access_tokens": true}
		aliases := make(map[string]any)
		for _, e := range endpoints {
			doc[e+"_endpoint"] = w.as.URL + "/" + e
			aliases[e+"_endpoint"] = w.mtls.URL + "/" + e
		}
		doc["mtls_endpoint_aliases"] = aliases
		if w.metadata != nil {
			w.metadata(doc)
		}
		json.NewEncoder(rw).Encode(doc)
	case "/token":
		if w.token != nil && w.token(rw, r) {
			return
		}
		if w.refuse[peer(r)] {
			w.refusals++
			rw.WriteHeader(http.StatusUnauthorized)
			io.WriteString(rw, `{"error":"invalid_client","error_description":"client authentication failed"}`)
			return
		}
		w.issued++
		claims := map[string]any{"iss": w.as.URL, "jti": w.issued, "exp": 9999999999}
		if p := peer(r); p != "" {
			claims["cnf"] = map[string]any{"x5t#S256": p}
		}
		payload, _ := json.Marshal(claims)
		token, err := w.signer.Sign(payload)
		if err != nil {
			w.t.Error(err)
		}
		fmt.Fprintf(rw, `{"access_token":%q,"token_type":"Bearer","expires_in":%d}`, token, w.lifetime)
	case "/introspection":
		fmt.Fprintf(rw, `{"active":true,"client_id":"c","scope":"a b","exp":9999999999,"cnf":{"x5t#S256":%q}}`, certbound.Thumbprint(certs().l1.Cert))
	case "/revocation":
		rw.Header().Del("Content-Type")
	default:
		io.WriteString(rw, `{"ok":true}`)
	}
}

// serveRS checks the binding like a resource server, without the signature.
func (w *world) serveRS(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	token, _ := bytes.CutPrefix([]byte(r.Header.Get("Authorization")), []byte("Bearer "))
	parsed, err := jws.Parse(string(token), 1<<14)
	var claims struct{ CNF certbound.Confirmation }
	if err == nil {
		err = json.Unmarshal(parsed.Payload, &claims)
	}
	if err != nil || w.revoked[string(token)] || claims.CNF.X5TS256 != peer(r) {
		w.rsRefusals++
		rw.Header().Set("WWW-Authenticate", `Basic realm="x, y", Bearer realm="api", error="invalid_token", error_description="certificate-bound token without matching client certificate"`)
		rw.WriteHeader(http.StatusUnauthorized)
		return
	}
	body, _ := io.ReadAll(r.Body)
	fmt.Fprintf(rw, "hello %s", body)
}

func (w *world) config(change func(*oauthclient.Config)) oauthclient.Config {
	cfg := oauthclient.Config{
		Issuer:        w.as.URL,
		ClientID:      "client-1",
		AuthMethod:    oauthclient.TLSClientAuth,
		Certificate:   oauthclient.Static(certs().l1.TLS()),
		RootCAs:       certs().servers.Pool(),
		ResourceHosts: []string{host(w.rs.Server)},
		Logger:        slog.New(slog.DiscardHandler),
		ReloadEvery:   1,
	}
	if change != nil {
		change(&cfg)
	}
	return cfg
}

func (w *world) client(change func(*oauthclient.Config)) *oauthclient.Client {
	w.t.Helper()
	c, err := oauthclient.New(w.config(change))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(c.CloseIdleConnections)
	return c
}

func get(t testing.TB, c *http.Client, at string) (int, string) {
	t.Helper()
	resp, err := c.Get(at)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// certFiles is a pair of files that can be exchanged.
type certFiles struct {
	t         testing.TB
	cert, key string
}

func newCertFiles(t testing.TB, leaf *pkitest.Leaf) *certFiles {
	dir := t.TempDir()
	f := &certFiles{t, filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")}
	f.write(leaf.ChainPEM(), leaf.KeyPEM())
	return f
}

// write replaces what is not nil, each file in one step.
func (f *certFiles) write(cert, key []byte) {
	for name, data := range map[string][]byte{f.cert: cert, f.key: key} {
		if data == nil {
			continue
		}
		if err := os.WriteFile(name+".new", data, 0o600); err != nil {
			f.t.Fatal(err)
		}
		if err := os.Rename(name+".new", name); err != nil {
			f.t.Fatal(err)
		}
	}
}

func (f *certFiles) use(cfg *oauthclient.Config) {
	cfg.Certificate = nil
	cfg.CertFile, cfg.KeyFile = f.cert, f.key
}

func thumb(l *pkitest.Leaf) string { return certbound.Thumbprint(l.Cert) }

func pool(certs ...*x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range certs {
		p.AddCert(c)
	}
	return p
}
