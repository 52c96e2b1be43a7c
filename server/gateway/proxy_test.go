package gateway_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pkitest"
	"github.com/certbound/certbound/resourceserver"
	"github.com/certbound/certbound/server/gateway"
	"github.com/certbound/certbound/server/test/matrix"
)

// newMutualWorld has an API over TLS that knows the gateway by its certificate, L2.
func newMutualWorld(t testing.TB, s setup) *world {
	certs := fixture.Certs()
	leaf := certs.ServerCA.MustLeaf(pkitest.LeafOptions{Subject: "CN=api", DNS: []string{"api.internal"}, Server: true})
	s.server = func(api *httptest.Server) {
		pool := certs.CA1.Pool()
		api.TLS = &tls.Config{Certificates: []tls.Certificate{leaf.TLS()}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
		api.EnableHTTP2 = true
		api.StartTLS()
	}
	own := certs.L2.TLS()
	s.upstream.RootCAs, s.upstream.ServerName = certs.ServerCA.Pool(), "api.internal"
	s.upstream.Certificate = func() *tls.Certificate { return &own }
	return newWorld(t, s)
}

func TestUpstreams(t *testing.T) {
	h2c := func(api *httptest.Server) {
		api.Config.Protocols = new(http.Protocols)
		api.Config.Protocols.SetUnencryptedHTTP2(true)
		api.Start()
	}
	socket := filepath.Join(t.TempDir(), "api.sock")
	unix := func(api *httptest.Server) {
		l, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		api.Listener.Close()
		api.Listener = l
		api.Start()
	}
	tests := []struct {
		name string
		make func(t *testing.T) *world
		want string
	}{
		{"HTTP/1.1", func(t *testing.T) *world { return newWorld(t, setup{}) }, "HTTP/1.1"},
		{"h2c", func(t *testing.T) *world {
			return newWorld(t, setup{server: h2c, upstream: gateway.UpstreamConfig{Protocol: gateway.ProtocolHTTP2}})
		}, "HTTP/2.0"},
		{"unix socket", func(t *testing.T) *world {
			return newWorld(t, setup{server: unix, upstream: gateway.UpstreamConfig{URL: "unix:" + socket}})
		}, "HTTP/1.1"},
		{"mutual TLS, HTTP/2", func(t *testing.T) *world { return newMutualWorld(t, setup{}) }, "HTTP/2.0"},
		{"mutual TLS, HTTP/1.1", func(t *testing.T) *world {
			return newMutualWorld(t, setup{upstream: gateway.UpstreamConfig{Protocol: gateway.ProtocolHTTP1}})
		}, "HTTP/1.1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := tt.make(t)
			a := w.do(w.client(w.L1, nil), "GET", "/a%7Cb/%61?x=1&y=%20", w.Token(t, w.L1, nil))
			r := w.last()
			if a.status != 200 || a.body != content || r == nil || r.Proto != tt.want {
				t.Fatalf("got %+v, request %+v", a, r)
			}
			if r.RequestURI != "/a%7Cb/a?x=1&y=%20" || r.Host != matrix.Host {
				t.Errorf("the API has got %s at %s", r.RequestURI, r.Host)
			}
			if got := r.Header.Get("X-Forwarded-For") + r.Header.Get("X-Forwarded-Proto") + r.Header.Get("X-Forwarded-Host"); got != "127.0.0.1https"+matrix.Host {
				t.Errorf("X-Forwarded-…: %q", got)
			}
			if a.header.Get("Cache-Control") != "no-store" {
				t.Errorf("Cache-Control %q", a.header.Get("Cache-Control"))
			}
		})
	}
	// An upstream with another certificate than it should have is none.
	w := newMutualWorld(t, setup{upstream: gateway.UpstreamConfig{}, routes: nil})
	cfg := w.config(setup{upstream: gateway.UpstreamConfig{RootCAs: x509.NewCertPool()}})
	if err := w.proxy.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	if a := w.do(w.client(w.L1, nil), "GET", "/", w.Token(t, w.L1, nil)); a.status != 502 || w.last() != nil {
		t.Errorf("an upstream that nobody vouches for: %+v", a)
	}
}

func TestRouting(t *testing.T) {
	w := newWorld(t, setup{routes: []*gateway.Route{
		{Name: "read", Path: "/orders", Methods: []string{"GET"}, Scopes: []string{"read"}},
		{Name: "admin", Path: "/orders/admin", Scopes: []string{"admin"}},
		{Name: "open", Path: "/healthz", Anonymous: true},
	}})
	token := w.Token(t, w.L1, nil)
	tests := []struct {
		name, method, path, token string
		leaf                      *pkitest.Leaf
		status                    int
		reason                    decision.Reason
	}{
		{"scope", "GET", "/orders/7", token, w.L1, 200, ""},
		{"missing scope", "GET", "/orders/admin", token, w.L1, 403, decision.ScopeInsufficient},
		{"a thief learns nothing of the scope", "GET", "/orders/admin", token, w.L2, 401, decision.BindingMismatch},
		{"escaped letters are the same path", "GET", "/orders/%61dmin", token, w.L1, 403, decision.ScopeInsufficient},
		{"method", "DELETE", "/orders/7", token, w.L1, 405, decision.MethodNotAllowed},
		{"no route", "GET", "/other", token, w.L1, 404, decision.RouteUnknown},
		{"anonymous", "GET", "/healthz", "", nil, 200, ""},
		{"anonymous is not above", "GET", "/healthzz", "", nil, 404, decision.RouteUnknown},
		{"dot segments", "GET", "/healthz/../orders/admin", "", nil, 400, decision.PathAmbiguous},
		{"encoded dot segments", "GET", "/healthz/%2e%2e/orders", "", nil, 400, decision.PathAmbiguous},
		{"encoded slash", "GET", "/healthz%2f..%2forders", "", nil, 400, decision.PathAmbiguous},
		{"path parameters", "GET", "/healthz/..;/orders", "", nil, 400, decision.PathAmbiguous},
		{"double slash", "GET", "//orders", token, w.L1, 400, decision.PathAmbiguous},
		{"backslash", "GET", "/healthz%5c..%5corders", "", nil, 400, decision.PathAmbiguous},
		{"token in the query, too", "GET", "/orders?access_token=x", token, w.L1, 400, decision.TokenTwice},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w.last()
			target, host := tt.method+" "+tt.path, "rs.test"
			auth := ""
			if tt.token != "" {
				auth = "Authorization: Bearer " + tt.token + "\n"
			}
			c := w.raw(tt.leaf, target+" HTTP/1.1\nHost: "+host+"\n"+auth+"\n")
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != tt.status || tt.status != 200 && w.reason() != tt.reason {
				t.Errorf("status %d, reason %q, want %d, %q", resp.StatusCode, w.reason(), tt.status, tt.reason)
			}
			if reached := w.last() != nil; reached != (tt.status == 200) {
				t.Errorf("the API was reached: %v", reached)
			}
		})
	}
}

// Request smuggling: what the gateway takes for one request must be one for the API. Each
// of these asks for /secret inside something else; the API must never see it, and never
// a request without a judgement.
func TestAttackSmuggling(t *testing.T) {
	w := newWorld(t, setup{routes: []*gateway.Route{
		{Name: "open", Path: "/open", Anonymous: true}, {Name: "secret", Path: "/secret"},
	}})
	var paths sync.Map
	w.serve(func(rw http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		paths.Store(r.Method+" "+r.URL.Path, true)
		io.WriteString(rw, content)
	})
	inner := "GET /secret HTTP/1.1\nHost: rs.test\n\n"
	chunked := func(te string) string {
		return "POST /open HTTP/1.1\nHost: rs.test\n" + te + "\nContent-Length: 4\n\n0\n\n" + inner
	}
	for name, text := range map[string]string{
		"CL.TE":                    "POST /open HTTP/1.1\nHost: rs.test\nContent-Length: 60\nTransfer-Encoding: chunked\n\n0\n\n" + inner,
		"TE.CL":                    chunked("Transfer-Encoding: chunked"),
		"TE with a space":          chunked("Transfer-Encoding : chunked"),
		"TE obfuscated":            chunked("Transfer-Encoding: xchunked"),
		"TE twice":                 chunked("Transfer-Encoding: chunked\nTransfer-Encoding: identity"),
		"TE folded":                chunked("Transfer-Encoding:\n chunked"),
		"CL twice":                 "POST /open HTTP/1.1\nHost: rs.test\nContent-Length: 0\nContent-Length: 44\n\n" + inner,
		"CL with a sign":           "POST /open HTTP/1.1\nHost: rs.test\nContent-Length: +0\n\n" + inner,
		"Host twice":               "GET /open HTTP/1.1\nHost: rs.test\nHost: other.test\n\n",
		"absolute form":            "GET https://rs.test/secret HTTP/1.1\nHost: rs.test\n\n",
		"other host in the target": "GET https://other.test/open HTTP/1.1\nHost: rs.test\n\n",
		"CONNECT":                  "CONNECT rs.test:443 HTTP/1.1\nHost: rs.test\n\n" + inner,
		"line end in a value":      "GET /open HTTP/1.1\nHost: rs.test\nX: a\rGET /secret HTTP/1.1\n\n",
		"NUL in a name":            "GET /open HTTP/1.1\nHost: rs.test\nX\x00Y: a\n\n",
		"h2c":                      "GET /open HTTP/1.1\nHost: rs.test\nConnection: Upgrade, HTTP2-Settings\nUpgrade: h2c\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\n\n" + inner,
		"an unknown protocol":      "GET /open HTTP/1.1\nHost: rs.test\nConnection: Upgrade\nUpgrade: anything\n\n" + inner,
	} {
		t.Run(name, func(t *testing.T) {
			paths.Clear()
			c := w.raw(nil, text)
			c.CloseWrite()
			answers, err := io.ReadAll(c)
			if err != nil {
				t.Logf("read: %v", err)
			}
			if strings.Contains(string(answers), "101 Switching") {
				t.Error("the API has switched protocols")
			}
			paths.Range(func(key, _ any) bool {
				if key != "POST /open" && key != "GET /open" {
					t.Errorf("the API has seen %v", key)
				}
				return true
			})
		})
	}
}

// The API has upgraded to a WebSocket; what follows are the octets of both.
func upgrade(rw http.ResponseWriter, r *http.Request) {
	c, buffered, err := http.NewResponseController(rw).Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nClient-Cert: :AAAA:\r\n\r\n")
	for {
		line, err := buffered.ReadString('\n')
		if err != nil {
			return
		}
		io.WriteString(c, "echo "+line)
	}
}

func (w *world) webSocket(leaf *pkitest.Leaf, token string) (*tls.Conn, *bufio.Reader, *http.Response) {
	c := w.raw(leaf, "GET /ws HTTP/1.1\nHost: rs.test\nConnection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\nAuthorization: Bearer "+token+"\n\n")
	in := bufio.NewReader(c)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return c, in, resp
}

func TestWebSocket(t *testing.T) {
	w := newWorld(t, setup{target: gateway.Target{WebSocket: true}})
	w.serve(upgrade)
	c, in, resp := w.webSocket(w.L1, w.Token(t, w.L1, nil))
	if resp.StatusCode != 101 || resp.Header["Client-Cert"] != nil {
		t.Fatalf("status %d, %v", resp.StatusCode, resp.Header)
	}
	for range 3 {
		io.WriteString(c, "hello\n")
		if line, err := in.ReadString('\n'); line != "echo hello\n" {
			t.Fatalf("got %q, %v", line, err)
		}
	}
	if _, _, resp := w.webSocket(w.L2, w.Token(t, w.L1, nil)); resp.StatusCode != 401 {
		t.Errorf("with a stolen token: status %d", resp.StatusCode)
	}
	// On a route without WebSockets it stays an ordinary request.
	w2 := newWorld(t, setup{})
	if _, _, resp := w2.webSocket(w2.L1, w2.Token(t, w2.L1, nil)); resp.StatusCode != 200 || w2.last().Header["Upgrade"] != nil {
		t.Errorf("status %d", resp.StatusCode)
	}
}

// A stream that was allowed an hour ago is worth no more than its token is now. Each way in
// which the right to it ends, ends a WebSocket and a stream of events.
func TestStreamsEnd(t *testing.T) {
	t.Attr("requirement", "K-7519-1 M-3-16")
	soon := func() map[string]any { return map[string]any{"exp": time.Now().Add(2 * time.Second).Unix()} }
	events := func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/ws" {
			upgrade(rw, r)
			return
		}
		rw.Header().Set("Content-Type", "text/event-stream")
		for {
			if _, err := io.WriteString(rw, "data: x\n\n"); err != nil || http.NewResponseController(rw).Flush() != nil {
				return
			}
			select {
			case <-r.Context().Done():
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	check := errors.New("revoked")
	tests := []struct {
		name   string
		target gateway.Target
		claims func() map[string]any
		leaf   func(w *world) *pkitest.Leaf
		revoke bool
		ended  decision.Reason
	}{
		{name: "the token ends", claims: soon, ended: decision.TokenExpired},
		{name: "the certificate ends", leaf: func(w *world) *pkitest.Leaf {
			o := fixture.L1Options()
			o.NotAfter = time.Now().Add(2 * time.Second)
			return w.CA1i.MustLeaf(o)
		}, ended: decision.Expired},
		{name: "the certificate is revoked", target: gateway.Target{Recheck: 100 * time.Millisecond}, revoke: true, ended: decision.HookRefused},
		{name: "by setting it goes on", target: gateway.Target{InsecureOutliveToken: true}, claims: soon},
	}
	for _, tt := range tests {
		for _, kind := range []string{"/ws", "/events"} {
			t.Run(tt.name+" "+kind, func(t *testing.T) {
				t.Parallel()
				var revoked atomic.Bool
				target := tt.target
				target.WebSocket = true
				w := newWorld(t, setup{target: target, routes: []*gateway.Route{{Name: "api", CheckCertificate: func(_ context.Context, p *certsource.Presented) error {
					if revoked.Load() {
						return check
					}
					return nil
				}}}})
				w.serve(events)
				leaf, claims := w.L1, map[string]any(nil)
				if tt.leaf != nil {
					leaf = tt.leaf(w)
				}
				if tt.claims != nil {
					claims = tt.claims()
				}
				token := w.Token(t, leaf, claims)
				start := time.Now()
				var c io.Reader
				if kind == "/ws" {
					conn, in, resp := w.webSocket(leaf, token)
					if resp.StatusCode != 101 {
						t.Fatalf("status %d", resp.StatusCode)
					}
					_, c = conn, in
				} else {
					req, _ := http.NewRequestWithContext(t.Context(), "GET", "https://rs.test/events", nil)
					req.Header.Set("Authorization", "Bearer "+token)
					resp, err := w.client(leaf, nil).Do(req)
					if err != nil || resp.StatusCode != 200 {
						t.Fatalf("%v, %v", resp, err)
					}
					defer resp.Body.Close()
					c = resp.Body
				}
				revoked.Store(tt.revoke)
				wait := 20 * time.Second
				if tt.ended == "" {
					wait = 4 * time.Second
				}
				ended := make(chan struct{})
				go func() { io.Copy(io.Discard, c); close(ended) }()
				select {
				case <-ended:
					if tt.ended == "" {
						t.Errorf("ended after %v", time.Since(start))
					}
				case <-time.After(wait):
					if tt.ended != "" {
						t.Fatalf("still there after %v", wait)
					}
					return
				}
				for range 100 {
					if strings.Contains(w.log.String(), `"ended":"`+string(tt.ended)+`"`) {
						return
					}
					time.Sleep(20 * time.Millisecond)
				}
				t.Errorf("the log does not say %q:\n%s", tt.ended, w.log)
			})
		}
	}
}

// gRPC without its library: HTTP/2 to the end, both directions at a time, and the status in
// the trailer.
func TestBidirectionalStream(t *testing.T) {
	w := newWorld(t, setup{
		server: func(api *httptest.Server) {
			api.Config.Protocols = new(http.Protocols)
			api.Config.Protocols.SetUnencryptedHTTP2(true)
			api.Start()
		},
		upstream: gateway.UpstreamConfig{Protocol: gateway.ProtocolHTTP2},
	})
	w.serve(func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Te") != "trailers" {
			t.Error("TE: trailers has not arrived")
		}
		rw.Header().Set("Content-Type", "application/grpc")
		rw.Header().Set("Trailer", "Grpc-Status")
		in := bufio.NewReader(r.Body)
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				break
			}
			io.WriteString(rw, "echo "+line)
			http.NewResponseController(rw).Flush()
		}
		rw.Header().Set("Grpc-Status", "0")
		rw.Header().Set(http.TrailerPrefix+"Client-Cert", ":AAAA:")
	})
	body, out := io.Pipe()
	req, _ := http.NewRequestWithContext(t.Context(), "POST", "https://rs.test/service/Method", body)
	req.Header.Set("Authorization", "Bearer "+w.Token(t, w.L1, nil))
	req.Header.Set("Te", "trailers")
	type result struct {
		resp *http.Response
		err  error
	}
	got := make(chan result, 1)
	go func() { resp, err := w.client(w.L1, nil).Do(req); got <- result{resp, err} }()
	io.WriteString(out, "one\n")
	r := <-got
	if r.err != nil {
		t.Fatal(r.err)
	}
	defer r.resp.Body.Close()
	in := bufio.NewReader(r.resp.Body)
	for _, word := range []string{"one", "two", "three"} {
		if word != "one" {
			io.WriteString(out, word+"\n")
		}
		if line, err := in.ReadString('\n'); line != "echo "+word+"\n" {
			t.Fatalf("got %q, %v", line, err)
		}
	}
	out.Close()
	io.Copy(io.Discard, in)
	if got := r.resp.Trailer.Get("Grpc-Status"); got != "0" || r.resp.Trailer["Client-Cert"] != nil {
		t.Errorf("trailer %v", r.resp.Trailer)
	}
}

// What is between gateway and API does not get out (RFC 9440, Sections 2.2 to 2.4).
func TestAnswersAreCleaned(t *testing.T) {
	t.Attr("requirement", "H-2.2-3 H-2.3-8 H-2.4-12")
	w := newWorld(t, setup{identity: everything()})
	tests := []struct{ vary, want string }{
		{"Accept, Client-Cert", "*"}, {"client-cert-chain", "*"}, {"Accept", "Accept"}, {"X-Client-Certificate", "X-Client-Certificate"},
	}
	for _, tt := range tests {
		t.Run(tt.vary, func(t *testing.T) {
			w.serve(func(rw http.ResponseWriter, r *http.Request) {
				h := rw.Header()
				h.Set("Link", "</style.css>; rel=preload")
				h.Set("Client-Cert", ":AAAA:")
				rw.WriteHeader(http.StatusEarlyHints)
				for _, name := range []string{"Client-Cert", "Client-Cert-Chain", "client_cert", "X-Auth-Assertion"} {
					h[name] = []string{r.Header.Get("X-Auth-Assertion") + ":AAAA:"}
				}
				h.Set("Vary", tt.vary)
				h.Set("Cache-Control", "max-age=5")
				io.WriteString(rw, content)
			})
			a := w.do(w.client(w.L1, nil), "GET", "/", w.Token(t, w.L1, nil))
			for name := range a.header {
				if folded := strings.ReplaceAll(strings.ToLower(name), "_", "-"); strings.HasPrefix(folded, "client-cert") || strings.HasPrefix(folded, "x-auth") {
					t.Errorf("%s got out", name)
				}
			}
			if got := a.header.Get("Vary"); got != tt.want {
				t.Errorf("Vary: %q, want %q", got, tt.want)
			}
			if got := a.header.Get("Cache-Control"); got != "max-age=5" {
				t.Errorf("Cache-Control: %q", got)
			}
		})
	}
}

// The policies of a route for certificates that come from nowhere.
func TestCertificatePolicy(t *testing.T) {
	t.Attr("requirement", "H-2.4-2 M-6.2-4")
	w := newWorld(t, setup{identity: everything(), routes: []*gateway.Route{
		{Name: "any", Path: "/any"}, {Name: "verified"}, {Name: "open", Path: "/open", Anonymous: true},
	}})
	cfg := w.config(setup{identity: everything(), routes: []*gateway.Route{
		{Name: "any", Path: "/any"}, {Name: "verified", CheckCertificate: w.Check}, {Name: "open", Path: "/open", Anonymous: true, CheckCertificate: w.Check},
	}})
	if err := w.proxy.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		leaf   *pkitest.Leaf
		path   string
		status int
	}{
		{w.L1, "/any", 200}, {w.S1, "/any", 200}, {w.L1CAX, "/any", 200},
		{w.L1, "/", 200}, {w.S1, "/", 401}, {w.L1CAX, "/", 401},
		{w.L1, "/open", 200}, {w.L1CAX, "/open", 403}, {nil, "/open", 200},
	} {
		token := ""
		if tt.leaf != nil {
			token = w.Token(t, tt.leaf, nil)
		}
		w.last()
		if a := w.do(w.client(tt.leaf, nil), "GET", tt.path, token); a.status != tt.status || (w.last() != nil) != (tt.status == 200) {
			t.Errorf("%s: status %d, want %d", tt.path, a.status, tt.status)
		}
	}
}

func TestBindingPolicies(t *testing.T) {
	for _, tt := range []struct {
		policy                  resourceserver.BindingPolicy
		unbound, stolen, proven int
	}{
		{resourceserver.Required, 401, 401, 200}, {resourceserver.WhenPresent, 200, 401, 200}, {resourceserver.InsecureIgnoreBinding, 200, 200, 200},
	} {
		w := newWorld(t, setup{rs: func(c *resourceserver.Config) { c.Binding = tt.policy }})
		for _, r := range []struct {
			leaf, bound *pkitest.Leaf
			want        int
		}{{w.L2, nil, tt.unbound}, {w.L2, w.L1, tt.stolen}, {w.L1, w.L1, tt.proven}} {
			if a := w.do(w.client(r.leaf, nil), "GET", "/", w.Token(t, r.bound, nil)); a.status != r.want {
				t.Errorf("policy %d: status %d, want %d", tt.policy, a.status, r.want)
			}
		}
	}
}

// An upstream that is not there, is slow, or dies in the middle is not taken for an answer.
func TestUpstreamFails(t *testing.T) {
	w := newWorld(t, setup{upstream: gateway.UpstreamConfig{HeaderTimeout: 200 * time.Millisecond}})
	token := w.Token(t, w.L1, nil)
	w.serve(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	if a := w.do(w.client(w.L1, nil), "GET", "/", token); a.status != 504 {
		t.Errorf("slow: status %d", a.status)
	}
	w.serve(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Length", "1000")
		io.WriteString(rw, "half of it")
		http.NewResponseController(rw).Flush()
		panic(http.ErrAbortHandler)
	})
	for _, proto := range []string{"h2", "http/1.1"} {
		c := w.client(w.L1, func(cfg *tls.Config) { cfg.NextProtos = []string{proto} })
		req, _ := http.NewRequest("GET", "https://rs.test/", nil)
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := c.Do(req)
		if err != nil {
			continue // cut off before the header got out
		}
		if body, err := io.ReadAll(resp.Body); err == nil {
			t.Errorf("%s: half an answer, %q, looks like a whole one", proto, body)
		}
		resp.Body.Close()
	}
	w.serve(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	if a := w.do(w.client(w.L1, nil), "POST", "/", token); a.status != 502 {
		t.Errorf("died before the answer: status %d", a.status)
	}
	w.api.Close()
	if a := w.do(w.client(w.L1, nil), "GET", "/", token); a.status != 502 {
		t.Errorf("gone: status %d", a.status)
	}
	if strings.Contains(w.log.String(), token) {
		t.Error("the token is in the log")
	}
}

func TestBodyLimit(t *testing.T) {
	w := newWorld(t, setup{target: gateway.Target{MaxBody: 1000}})
	w.serve(func(rw http.ResponseWriter, r *http.Request) { io.Copy(rw, r.Body) })
	for _, tt := range []struct {
		body io.Reader
		want int
	}{
		{strings.NewReader(strings.Repeat("x", 1000)), 200}, {strings.NewReader(strings.Repeat("x", 1001)), 413},
		{io.MultiReader(strings.NewReader(strings.Repeat("x", 5000))), 413}, // of unknown length
	} {
		a := w.do(w.client(w.L1, nil), "POST", "/", w.Token(t, w.L1, nil), func(r *http.Request) { r.Body = io.NopCloser(tt.body); r.ContentLength = -1 })
		if a.status != tt.want {
			t.Errorf("status %d, want %d", a.status, tt.want)
		}
	}
}

type zeros struct{ left int64 }

func (z *zeros) Read(p []byte) (int, error) {
	if z.left == 0 {
		return 0, io.EOF
	}
	n := min(int64(len(p)), z.left)
	z.left -= n
	return int(n), nil
}

// A gigabyte goes through, up and down, and stays nowhere.
func TestLargeBodies(t *testing.T) {
	const size, down = 1 << 30, 1 << 27
	w := newWorld(t, setup{})
	w.serve(func(rw http.ResponseWriter, r *http.Request) {
		if n, err := io.Copy(io.Discard, r.Body); err != nil || n != size {
			t.Errorf("up: %d bytes, %v", n, err)
		}
		rw.Header().Set("Content-Length", fmt.Sprint(down))
		io.Copy(rw, &zeros{down})
	})
	var most atomic.Uint64
	done := make(chan struct{})
	go func() {
		var m runtime.MemStats
		for {
			select {
			case <-done:
				return
			case <-time.After(20 * time.Millisecond):
				runtime.ReadMemStats(&m)
				most.Store(max(most.Load(), m.HeapAlloc))
			}
		}
	}()
	c := w.client(w.L1, func(cfg *tls.Config) { cfg.NextProtos = []string{"http/1.1"} })
	c.Timeout = 10 * time.Minute
	req, _ := http.NewRequest("POST", "https://rs.test/", &zeros{size})
	req.ContentLength = size
	req.Header.Set("Authorization", "Bearer "+w.Token(t, w.L1, nil))
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	close(done)
	if n != down || err != nil {
		t.Errorf("down: %d bytes, %v", n, err)
	}
	// API, gateway and client together.
	if got := most.Load(); got == 0 || got > 64<<20 {
		t.Errorf("the heap has grown to %d MiB", got>>20)
	}
}

// Settings are exchanged under load, and every request is answered as one of them says.
func TestReloadUnderLoad(t *testing.T) {
	w := newWorld(t, setup{})
	a, b := w.config(setup{}), w.config(setup{identity: gateway.IdentityConfig{ClientCert: true}})
	token := w.Token(t, w.L1, nil)
	stop := make(chan struct{})
	var requests, failed atomic.Int64
	var load sync.WaitGroup
	for i := range 4 {
		c := w.client(w.L1, func(cfg *tls.Config) { cfg.NextProtos = []string{[]string{"h2", "http/1.1"}[i%2]} })
		load.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				requests.Add(1)
				if a := w.do(c, "GET", "/", token); a.status != 200 || a.body != content {
					failed.Add(1)
				}
			}
		})
	}
	reloads := 0
	for ; reloads < 50 || requests.Load() < 500; reloads++ {
		for _, cfg := range []gateway.ProxyConfig{b, a} {
			if err := w.proxy.Reload(cfg); err != nil {
				t.Error(err)
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
	close(stop)
	load.Wait()
	if failed.Load() > 0 || requests.Load() < 100 {
		t.Errorf("%d of %d requests failed in %d reloads", failed.Load(), requests.Load(), 2*reloads)
	}
	if err := w.proxy.Reload(gateway.ProxyConfig{}); err == nil {
		t.Error("settings without a decider were taken")
	}
	if a := w.do(w.client(w.L1, nil), "GET", "/", token); a.status != 200 {
		t.Error("the old settings are gone")
	}
}

// The log has who came with what, and no token.
func TestAccessLog(t *testing.T) {
	w := newWorld(t, setup{})
	token, stolen := w.Token(t, w.L1, map[string]any{"jti": "id-7"}), w.Token(t, w.L1, nil)
	w.do(w.client(w.L1, nil), "GET", "/orders?secret=1", token)
	w.do(w.client(w.L2, nil), "GET", "/orders", stolen)
	log := w.log.String()
	for _, want := range []string{
		`"msg":"request"`, `"route":"api"`, `"status":200`, `"client_id":"client-1"`, `"jti":"id-7"`, `"subject":"CN=client-1,OU=apps,O=Example,C=GB"`,
		`"serial":"` + w.L1.Cert.SerialNumber.Text(16) + `"`, `"issuer_key_id":"`, `"via":"tls"`, `"path":"/orders"`,
		`"msg":"request refused"`, `"reason":"binding_mismatch"`, `"status":401`,
	} {
		if !strings.Contains(log, want) {
			t.Errorf("the log has no %s:\n%s", want, log)
		}
	}
	for _, secret := range []string{token, stolen, "secret=1"} {
		if strings.Contains(log, secret) {
			t.Error("the log has a token or a query")
		}
	}
}

// Clients find out what the API wants before they have a token (RFC 9728).
func TestMetadata(t *testing.T) {
	w := newWorld(t, setup{rs: func(c *resourceserver.Config) { c.AdvertiseMetadata = true }})
	a := w.do(w.client(nil, nil), "GET", "/", "")
	if !strings.Contains(a.header.Get("WWW-Authenticate"), `resource_metadata="https://rs.test/.well-known/oauth-protected-resource"`) {
		t.Errorf("challenge %q", a.header.Get("WWW-Authenticate"))
	}
	a = w.do(w.client(nil, nil), "GET", "/.well-known/oauth-protected-resource", "")
	if a.status != 200 || !strings.Contains(a.body, `"resource":"https://rs.test"`) || w.last() != nil {
		t.Errorf("got %+v", a)
	}
}

func TestSettings(t *testing.T) {
	for name, cfg := range map[string]gateway.UpstreamConfig{
		"none": {}, "path": {URL: "http://a/b"}, "scheme": {URL: "ftp://a"}, "user": {URL: "http://u@a"}, "socket": {URL: "unix:"},
		"protocol": {URL: "http://a", Protocol: "spdy"}, "certificates": {URL: "http://a", ServerName: "a"},
	} {
		if _, err := gateway.NewUpstream(cfg); err == nil {
			t.Errorf("upstream %s: accepted", name)
		}
	}
	for name, cfg := range map[string]gateway.IdentityConfig{
		"chain alone": {ClientCertChain: true}, "bad name": {Claims: []gateway.ClaimField{{Claim: "sub", Field: "X Y"}}},
		"twice":    {Claims: []gateway.ClaimField{{Claim: "sub", Field: "X-A"}, {Claim: "iss", Field: "x-a"}}},
		"reserved": {Claims: []gateway.ClaimField{{Claim: "sub", Field: "Authorization"}}},
		"no key":   {Assertion: &gateway.AssertionConfig{Field: "X-A", Issuer: "i", Audience: "a"}},
	} {
		if _, err := gateway.NewIdentity(cfg); err == nil {
			t.Errorf("identity %s: accepted", name)
		}
	}
	for name, routes := range map[string][]*gateway.Route{
		"none": nil, "no verifier": {{Name: "a"}}, "no name": {{Anonymous: true}},
	} {
		if _, err := gateway.NewDecider(gateway.Config{Routes: routes, Source: certsource.TLS{}}); err == nil {
			t.Errorf("routes %s: accepted", name)
		}
	}
}
