package e2e

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pkitest"
	"github.com/certbound/certbound/resourceserver"
	"github.com/certbound/certbound/server/listen"
)

// A world is a server with everything around it, and a way to come to it.
type world struct {
	*fixture.Certificates
	*program
	name      string
	version   uint16            // of TLS; 0 for both
	http1     bool              // no HTTP/2
	addresses map[string]string // by host, or by host and port
}

// newWorld returns the world of a running server, with the hosts of its listeners.
func newWorld(p *program) *world {
	return &world{
		Certificates: fixture.Certs(), program: p,
		addresses: map[string]string{publicHost: p.public, mtlsHost: p.mtls},
	}
}

// with returns the same world seen by clients of one TLS version and protocol.
func (w *world) with(version uint16, http1 bool) *world {
	c := *w
	c.version, c.http1 = version, http1
	c.name = tls.VersionName(version) + " HTTP/2"
	if http1 {
		c.name = tls.VersionName(version) + " HTTP/1.1"
	}
	return &c
}

func (w *world) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if host, _, err := net.SplitHostPort(address); err == nil {
		address = cmp.Or(w.addresses[address], w.addresses[host], address)
	}
	return new(net.Dialer).DialContext(ctx, network, address)
}

// clientTLS returns TLS settings of a client with a certificate, or without.
func (w *world) clientTLS(leaf *pkitest.Leaf) *tls.Config {
	cfg := &tls.Config{RootCAs: w.ServerCA.Pool(), MinVersion: w.version, MaxVersion: w.version}
	if leaf != nil {
		rememberKey(leaf)
		cert := leaf.TLS()
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	}
	return cfg
}

// http returns a client that follows no redirects.
func (w *world) http(t testing.TB, cfg *tls.Config) *http.Client {
	t.Helper()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(!w.http1)
	tr := &http.Transport{DialContext: w.dial, TLSClientConfig: cfg, Protocols: protocols}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{
		Transport: recorder{tr, w}, Timeout: 20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// as returns a client with a certificate.
func (w *world) as(t testing.TB, leaf *pkitest.Leaf) *http.Client {
	t.Helper()
	return w.http(t, w.clientTLS(leaf))
}

// A recorder remembers what is secret in requests, and checks the protocol.
type recorder struct {
	next http.RoundTripper
	w    *world
}

func (r recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	if value := req.Header.Get("Authorization"); value != "" {
		_, credentials, _ := strings.Cut(value, " ")
		remember("the credentials of a request", credentials)
	}
	resp, err := r.next.RoundTrip(req)
	if err != nil || r.w.version == 0 || resp.TLS == nil {
		return resp, err
	}
	if resp.TLS.Version != r.w.version || resp.ProtoMajor == 2 == r.w.http1 {
		resp.Body.Close()
		return nil, fmt.Errorf("the answer came by %s and %s, want %s", tls.VersionName(resp.TLS.Version), resp.Proto, r.w.name)
	}
	return resp, nil
}

// token asks the mutual-TLS token endpoint for a token by client_credentials.
func (w *world) token(t testing.TB, c *http.Client, id string, pairs ...string) *fixture.Answer {
	t.Helper()
	return noted(fixture.Token(t, c, id, pairs...))
}

// post posts a form to a path of the mutual-TLS listener.
func (w *world) post(t testing.TB, c *http.Client, path string, pairs ...string) *fixture.Answer {
	t.Helper()
	return noted(fixture.Post(t, c, fixture.MTLSBase+path, pairs...))
}

// noted remembers the token of an answer.
func noted(a *fixture.Answer) *fixture.Answer {
	remember("an access token", a.AccessToken())
	return a
}

// api calls the resource server with a token. To the host, a path may be added.
func (w *world) api(t testing.TB, c *http.Client, host, token string) *fixture.Answer {
	t.Helper()
	if !strings.Contains(host, "/") {
		host += "/"
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+host, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return fixture.Do(t, c, req)
}

const apiText = "hello from the API"

// startAPI runs a resource server at a host until the test ends: rs.test judges JWTs by
// itself, rs2.test asks the authorization server. With plain, TLS ends at a proxy, and it
// listens on plain HTTP. Its log is searched as that of the server. It returns the
// address.
func (w *world) startAPI(t testing.TB, host string, source certsource.Source, plain bool) string {
	t.Helper()
	logged := &lockedBuffer{}
	t.Cleanup(func() { checkLog(t, logged.String()) })
	direct := *w
	direct.version, direct.http1 = 0, false
	cfg := resourceserver.Config{
		Resource: "https://" + host, Issuer: fixture.Issuer, Source: source,
		HTTPClient: direct.as(t, nil), Logger: slog.New(slog.NewTextHandler(logged, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if host == rs2Host {
		cfg.Introspection = &resourceserver.Introspection{ClientID: "c-rs", HTTPClient: direct.as(t, w.L2), CacheFor: -1}
	}
	v, err := resourceserver.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	hello := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(rw, apiText) })
	api := http.NewServeMux()
	api.Handle("/", v.Middleware()(hello))
	api.Handle("/write", v.Middleware("write")(hello))
	return serveHandler(t, host, api, plain)
}

// serveHandler serves a handler as the server serves its own, until the test ends.
func serveHandler(t testing.TB, host string, handler http.Handler, plain bool) string {
	t.Helper()
	cfg := listen.Config{Name: host, Handler: handler, Logger: slog.New(slog.DiscardHandler)}
	if !plain {
		leaf := fixture.Certs().ServerCA.MustLeaf(pkitest.LeafOptions{Subject: "CN=" + host, DNS: []string{host}, Server: true})
		cfg.Pair, cfg.AskForCertificate = listen.NewPair(leaf.TLS()), true
	}
	s, err := listen.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l, err := listen.Open("127.0.0.1:0", host)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = s.Shutdown(ctx)
	})
	return l.Addr().String()
}

// startProxy ends TLS in front of an origin that speaks plain HTTP, and hands over the
// certificate as RFC 9440 says: Client-Cert and Client-Cert-Chain, after what the client
// sent under these names was removed. It returns the address.
func startProxy(t testing.TB, host, origin string) string {
	t.Helper()
	field := func(der []byte) string { return ":" + base64.StdEncoding.EncodeToString(der) + ":" }
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: origin})
			r.Out.Host = r.In.Host
			maps.DeleteFunc(r.Out.Header, func(name string, _ []string) bool {
				return strings.HasPrefix(strings.ReplaceAll(strings.ToLower(name), "_", "-"), "client-cert")
			})
			for i, cert := range r.In.TLS.PeerCertificates {
				if i == 0 {
					r.Out.Header.Set("Client-Cert", field(cert.Raw))
				} else {
					r.Out.Header.Add("Client-Cert-Chain", field(cert.Raw))
				}
			}
			if chain := r.Out.Header.Values("Client-Cert-Chain"); len(chain) > 0 {
				r.Out.Header.Set("Client-Cert-Chain", strings.Join(chain, ", "))
			}
		},
		Transport: &http.Transport{MaxIdleConnsPerHost: 4},
	}
	t.Cleanup(proxy.Transport.(*http.Transport).CloseIdleConnections)
	return serveHandler(t, host, proxy, false)
}
