//go:build linux

package proxies

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pkitest"
	"github.com/certbound/certbound/resourceserver"
	"github.com/certbound/certbound/server/gateway"
	"github.com/certbound/certbound/server/gateway/extauthz"
	"github.com/certbound/certbound/server/gateway/forwardauth"
	"github.com/certbound/certbound/server/listen"
	"github.com/certbound/certbound/server/test/matrix"
)

// An asker is a program that asks about requests, with its documented configuration.
type asker struct {
	name, preset string
	dialect      forwardauth.Dialect
	program      program
	// fullHandshakes says that no session is resumed.
	fullHandshakes bool
	// grpc says that it asks over gRPC (ext_authz): in the front of extauthz, and not in
	// that of forwardauth.
	grpc bool
	// socket stands in the file for a unix socket, over which it asks; otherwise over TLS.
	socket string
	// hops is trusted_hops of xfcc.
	hops int
	// edge is another proxy, in front of the one that asks.
	edge *program
}

func askers() []asker {
	own := func(p program, ports ...string) program { p.ports = ports; return p }
	nginx := own(nginx("nginx-auth-request.conf"), "listen 443 ", "listen 127.0.0.1:{443} ")
	traefik := own(traefik("traefik-forward-auth.yaml", "traefik-forward-auth-dynamic.yaml"), `address: ":443"`, `address: "127.0.0.1:{443}"`)
	envoyAt := func(port, file string) program {
		return own(envoy(file), "address: 0.0.0.0, port_value: "+port+"}", "address: 127.0.0.1, port_value: {443}}")
	}
	edge := envoyAt("443", "envoy-xfcc.yaml")
	return []asker{
		{name: "envoy", preset: "envoy-peer", grpc: true, socket: "/run/certbound/authz.sock", program: envoyAt("443", "envoy.yaml")},
		{name: "envoy-http", preset: "xfcc", hops: 1, dialect: forwardauth.Envoy, program: envoyAt("443", "envoy-http.yaml")},
		{name: "envoy-mesh", preset: "xfcc", hops: 2, grpc: true, program: envoyAt("8445", "envoy-sidecar.yaml"), edge: &edge},
		{name: "nginx", preset: "nginx", dialect: forwardauth.Nginx, program: nginx},
		{name: "traefik", preset: "traefik", dialect: forwardauth.Traefik, program: traefik},
		{name: "caddy", preset: "caddy", dialect: forwardauth.Caddy, program: caddy(built("caddy"), "Caddyfile-forward-auth"), fullHandshakes: true},
		{name: "caddy-debian", preset: "caddy", dialect: forwardauth.Caddy, program: caddy(installed("caddy"), "Caddyfile-forward-auth")},
	}
}

// A guarded API stands behind a proxy that asks Certbound.
type guarded struct {
	*matrix.World
	a  asker
	px *proxy // where clients connect
	// sidecar is behind the edge, where it asks.
	sidecar *proxy
	// stop ends Certbound.
	stop func()

	mu        sync.Mutex
	seen      []*http.Request // by the API
	decisions []*decision.Decision
}

func startGuarded(t *testing.T, a asker, edits ...string) *guarded {
	t.Helper()
	g := &guarded{World: matrix.New(t), a: a}
	calls := grpc.NewServer()
	healthgrpc.RegisterHealthServer(calls, health.NewServer())
	api := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.mu.Lock()
		g.seen = append(g.seen, r)
		g.mu.Unlock()
		if strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			calls.ServeHTTP(w, r)
			return
		}
		io.WriteString(w, "hello")
	}))
	api.Config.Protocols = new(http.Protocols)
	api.Config.Protocols.SetHTTP1(true)
	api.Config.Protocols.SetUnencryptedHTTP2(true)
	api.Start()
	t.Cleanup(api.Close)
	by := hop()
	if a.socket != "" {
		by = certsource.Hop{UnixSocket: true}
	}
	src, err := extauthz.NewPeerSource(extauthz.PeerConfig{Hop: by})
	if a.preset != "envoy-peer" {
		src, err = certsource.NewPreset(a.preset, certsource.PresetConfig{Hop: by, TrustedHops: a.hops})
	}
	if err != nil {
		t.Fatal(err)
	}
	identity, err := gateway.NewIdentity(gateway.IdentityConfig{ClientCert: true, Claims: []gateway.ClaimField{
		{Claim: "client_id", Field: "X-Client-ID"}, {Claim: "sub", Field: "X-Sub"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	routes := []*gateway.Route{
		{Name: "api", Path: "/orders", Identity: identity, CheckCertificate: g.Check},
		{Name: "admin", Path: "/admin", Methods: []string{"GET"}, Scopes: []string{"admin"}, Identity: identity},
		{Name: "calls", Path: healthPath, Scopes: []string{"read"}, Identity: identity, CheckCertificate: g.Check},
		{Name: "open", Path: "/open", Anonymous: true},
	}
	for _, r := range routes[:3] {
		r.Verifier = g.Verifier(t, src, func(c *resourceserver.Config) { c.CheckCertificate = nil })
	}
	d, err := gateway.NewDecider(gateway.Config{Routes: routes, Source: src, Observer: func(_ context.Context, d *decision.Decision) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.decisions = append(g.decisions, d)
	}})
	if err != nil {
		t.Fatal(err)
	}
	at, documented := "127.0.0.1:0", "127.0.0.1:9443"
	leaf := g.ServerCA.MustLeaf(pkitest.LeafOptions{Subject: "CN=auth.test", DNS: []string{"auth.test"}, IP: []net.IP{net.IPv4(127, 0, 0, 1).To4()}, Server: true})
	pair := listen.NewPair(leaf.TLS())
	if a.socket != "" {
		at, documented, pair = "unix:"+filepath.Join(t.TempDir(), "authz.sock"), a.socket, nil
	}
	l, err := listen.Open(at, "address")
	if err != nil {
		t.Fatal(err)
	}
	options := gateway.FrontOptions{Logger: slog.New(slog.DiscardHandler)}
	var srv interface {
		Serve(net.Listener) error
		Shutdown(context.Context) error
	}
	if a.grpc {
		auth, err := extauthz.New(extauthz.Config{Decider: d, Hop: by, Options: options})
		if err != nil {
			t.Fatal(err)
		}
		srv, err = extauthz.NewServer(extauthz.ServerConfig{Name: "auth", Authorization: auth, Pair: pair, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
	} else {
		h, err := forwardauth.New(forwardauth.Config{Decider: d, Dialect: a.dialect, Hop: by, Options: options})
		if err != nil {
			t.Fatal(err)
		}
		srv, err = listen.New(listen.Config{Name: "auth", Handler: h, Pair: pair, AskForCertificate: true, AnyHost: a.dialect == forwardauth.Envoy, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
	}
	go func() { _ = srv.Serve(l) }()
	g.stop = sync.OnceFunc(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = srv.Shutdown(ctx)
	})
	t.Cleanup(g.stop)
	here, authAt, apiAt := "127.0.0.1:9000", strings.TrimPrefix(at, "unix:"), strings.TrimPrefix(api.URL, "http://")
	if a.socket == "" {
		authAt = l.Addr().String()
	}
	if write := a.program.address; write != nil {
		here, apiAt = write(here), write(apiAt)
		if a.socket == "" {
			documented, authAt = write(documented), write(authAt)
		}
	}
	g.px = a.program.start(t, settings{name: matrix.Host, edits: append([]string{documented, authAt, here, apiAt}, edits...)})
	if a.edge != nil {
		g.sidecar = g.px
		g.px = a.edge.start(t, settings{name: matrix.Host, origin: [3]string{2: g.px.tls}})
	}
	return g
}

// last returns the last request that the API has seen, or nil, and forgets all.
func (g *guarded) last() *http.Request {
	g.mu.Lock()
	defer g.mu.Unlock()
	defer func() { g.seen, g.decisions = nil, nil }()
	if len(g.seen) == 0 {
		return nil
	}
	return g.seen[len(g.seen)-1]
}

func (g *guarded) reason() decision.Reason {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.decisions) == 0 {
		return "nobody was asked"
	}
	return g.decisions[len(g.decisions)-1].Reason()
}

func (g *guarded) get(t *testing.T, c caller, path, token string) *fixture.Answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+matrix.Host+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return fixture.Do(t, g.px.client(t, c), req)
}

// plainRequest is one of HTTP/1.1, as it stands.
func plainRequest(method, target, token string, lines ...string) string {
	text := method + " " + target + " HTTP/1.1\r\nHost: " + matrix.Host + "\r\n" + joined(lines)
	if token != "" {
		text += "Authorization: Bearer " + token + "\r\n"
	}
	return text + "\r\n"
}

// Real proxies ask, and come to the answers of the table.
func TestForwardAuth(t *testing.T) {
	for _, a := range askers() {
		t.Run(a.name, func(t *testing.T) {
			g := startGuarded(t, a)
			t.Run("matrix", g.matrix)
			t.Run("answers", g.answers)
			t.Run("identity fields", g.identity)
			t.Run("which request", g.which)
			t.Run("paths", g.paths)
			t.Run("certificate fields", g.certificateFields)
		})
	}
}

func (g *guarded) matrix(t *testing.T) {
	for _, alpn := range []string{"h2", "http/1.1"} {
		t.Run(alpn, func(t *testing.T) {
			g.Run(t, func(t *testing.T, c matrix.Call) matrix.Outcome {
				resumed := false
				to := caller{leaf: c.Leaf, alpn: alpn, single: true, sessions: tls.NewLRUClientSessionCache(1), config: func(cfg *tls.Config) {
					cfg.VerifyConnection = func(s tls.ConnectionState) error { resumed = s.DidResume; return nil }
				}}
				if c.Resumed {
					g.get(t, to, "/orders", "")
					g.get(t, to, "/orders", "") // some send the ticket late
				}
				g.last()
				got := g.get(t, to, "/orders", c.Token)
				if c.Resumed && !g.a.fullHandshakes && !resumed {
					t.Error("the session was not resumed")
				}
				return matrix.Outcome{Status: got.Status, Challenge: got.Header.Get("WWW-Authenticate"), Reached: g.last() != nil}
			})
		})
	}
}

// What the client reads.
func (g *guarded) answers(t *testing.T) {
	good := g.Token(t, g.L1, nil)
	for _, tt := range []struct {
		path, token string
		status      int
		grpc        int // over gRPC, which can say more
	}{
		{"/open", "", 200, 0}, {"/orders", good, 200, 0}, {"/admin", good, 403, 0}, {"/other", good, 403, 404}, {"/orders?access_token=x", good, 401, 400},
	} {
		if g.a.grpc && tt.grpc != 0 {
			tt.status = tt.grpc
		}
		g.last()
		got := g.get(t, caller{leaf: g.L1}, tt.path, tt.token)
		seen := g.last()
		if got.Status != tt.status || (seen != nil) != (tt.status == 200) {
			t.Errorf("%s: %d, reached %v, want %d", tt.path, got.Status, seen != nil, tt.status)
		}
		if challenge := got.Header.Get("WWW-Authenticate"); tt.status == 401 && !strings.HasPrefix(challenge, "Bearer error=") {
			t.Errorf("%s: the challenge is %q", tt.path, challenge)
		}
		if tt.status != 200 && got.Header.Get(resourceserver.RequestIDHeader) == "" {
			t.Errorf("%s: nothing in the refusal leads to the record: %v", tt.path, got.Header)
		}
		if seen != nil {
			for _, name := range []string{"Authorization", "X-SSL-Client-Cert", "X-Forwarded-Tls-Client-Cert", "X-Forwarded-Client-Cert", "X-Original-Uri"} {
				if got := alike(seen.Header, name); len(got) > 0 && !strings.HasSuffix(got[0], ": ") {
					t.Errorf("%s: the API has no need of %q", tt.path, got)
				}
			}
		}
	}
}

var identityFields = []string{"Client-Cert", "X-Client-Id", "X-Sub"}

// A client sends what the API believes, in every spelling, with a good token and without
// one (attack 19: X_Forwarded_… passed a list of names, and the server behind took it for
// X-Forwarded-…).
func (g *guarded) identity(t *testing.T) {
	t.Attr("attack", "19")
	t.Attr("requirement", "H-2.4-5 H-2.4-7 H-4-4 G-4.13-1")
	good := g.Token(t, g.L1, nil)
	for _, name := range identityFields {
		upper, under := strings.ToUpper(name), strings.ReplaceAll(name, "-", "_")
		for form, lines := range map[string][]string{
			"as it is":                      {name + ": forged"},
			"upper case":                    {upper + ": forged"},
			"twice":                         {name + ": forged", strings.ToLower(name) + ": forged"},
			"underscores":                   {under + ": forged"},
			"underscores beside it":         {under + ": forged", name + ": forged"},
			"dots":                          {strings.ReplaceAll(name, "-", ".") + ": forged"},
			"listed in Connection":          {"Connection: keep-alive, " + name, name + ": forged"},
			"the twin in Connection":        {"Connection: " + under, under + ": forged"},
			"space before the colon":        {name + " : forged"},
			"folded":                        {name + ":\r\n forged"},
			"behind a tab":                  {"X-Padding: a\r\n\t" + name + ": forged"},
			"nothing forged, in Connection": {"Connection: " + name},
		} {
			for _, path := range []string{"/orders", "/open"} {
				t.Run(name+" "+form+" "+path, func(t *testing.T) {
					g.last()
					x, err := raw(t, g.px.tls, matrix.Host, caller{leaf: g.L1})
					if err != nil {
						t.Fatal(err)
					}
					token := ""
					if path == "/orders" {
						token = good
					}
					status, body, err := x.send(plainRequest("GET", path, token, lines...))
					seen := g.last()
					if seen == nil {
						if err == nil && (status < 400 || body == "hello") {
							t.Errorf("answered %d %s, and the API has seen nothing", status, body)
						}
						return // refused, which is allowed
					}
					for _, name := range identityFields {
						want := ""
						switch {
						case path == "/open":
						case name == "Client-Cert":
							want = byteSequence(g.L1.Cert)
						default:
							want = "client-1"
						}
						for field, values := range seen.Header {
							// Dots are left to those who take them for hyphens, and few do.
							if len(alike(http.Header{field: values}, name)) == 0 {
								continue
							}
							for _, v := range values {
								if field != name && v != "" || v != want && v != "" || strings.Contains(v, "forged") {
									t.Errorf("at the API arrived %s: %q, want %s: %q", field, v, name, want)
								}
							}
						}
						if got := seen.Header[name]; want != "" && !slices.Equal(got, []string{want}) && !strings.Contains(form, "Connection") {
							t.Errorf("%s is %q, want %q", name, got, want)
						}
					}
				})
			}
		}
	}
}

// A client says itself which request is asked about.
func (g *guarded) which(t *testing.T) {
	t.Attr("attack", "2 19")
	t.Attr("requirement", "G-4.13-1")
	good := g.Token(t, g.L1, nil)
	d := g.a.dialect
	for _, name := range []string{d.URI, d.Method, d.Host, "X-Original-URI", "X-Original-Url", "X-Forwarded-Uri", "X-Forwarded-Prefix", "X-Rewrite-Url", "X-HTTP-Method-Override", "X-Envoy-Original-Path", "X-Envoy-Auth-Headers-To-Remove"} {
		value := "/open"
		switch name {
		case "": // Envoy sends the request itself
			continue
		case d.Method:
			value = "GET"
		case d.Host:
			value = matrix.Host
		}
		under := strings.ReplaceAll(name, "-", "_")
		for form, lines := range map[string][]string{
			"as it is": {name + ": " + value}, "twice": {name + ": " + value, strings.ToLower(name) + ": " + value}, "underscores": {under + ": " + value},
			"listed in Connection": {"Connection: keep-alive, " + name, name + ": " + value}, "listed and not sent": {"Connection: " + name},
			"dots": {strings.ReplaceAll(name, "-", ".") + ": " + value}, "folded": {name + ":\r\n " + value},
		} {
			t.Run(name+" "+form, func(t *testing.T) {
				for _, method := range []string{"GET", "DELETE"} { // the scope is missing, or the method has no route
					g.last()
					x, err := raw(t, g.px.tls, matrix.Host, caller{leaf: g.L1})
					if err != nil {
						t.Fatal(err)
					}
					status, body, err := x.send(plainRequest(method, "/admin", good, lines...))
					if seen := g.last(); seen != nil || err == nil && (status < 400 || body == "hello") {
						t.Errorf("%s /admin: answered %d, and the API has seen %v", method, status, seen != nil)
					}
				}
			})
		}
	}
}

// A path that is one thing to Certbound and another to the proxy, or the API.
func (g *guarded) paths(t *testing.T) {
	good := g.Token(t, g.L1, nil)
	for _, target := range []string{
		"/open/../admin", "/open/%2e%2e/admin", "/open/..%2fadmin", "/open/.%2e/admin", "//admin", "/open//../admin", "/./admin", "/%61dmin", "/admin/", "/admin;x",
		"/open;/../admin", "/open/..;/admin", "/open/..\\admin", "/open/%5c..%5cadmin", "/open%00/../admin", "/open%252f..%252fadmin", "/open?/../admin", "/open#/../admin",
		"https://rs.test/admin", "https://other.test/open/../admin", "/admin%20", "/ADMIN", "/open/%c0%ae%c0%ae/admin",
	} {
		t.Run(strings.ReplaceAll(target, "/", "|"), func(t *testing.T) {
			g.last()
			x, err := raw(t, g.px.tls, matrix.Host, caller{leaf: g.L1})
			if err != nil {
				t.Fatal(err)
			}
			status, _, err := x.send(plainRequest("GET", target, good))
			seen := g.last()
			if seen == nil {
				if err == nil && status < 300 {
					t.Errorf("answered %d, and the API has seen nothing", status)
				}
				return
			}
			if target == "/open//../admin" && seen.RequestURI == "/open/admin" {
				return // by RFC 3986, which Envoy follows: it is below /open, and nothing else
			}
			// What an API makes of it at most: decoded twice and cleaned, whatever the case.
			if target != "/open?/../admin" && target != "/open#/../admin" || strings.Contains(seen.URL.Path, "admin") {
				t.Errorf("the API has seen %q", seen.RequestURI)
			}
		})
	}
}

// A client sends the certificate of another client, past which the proxy asks.
func (g *guarded) certificateFields(t *testing.T) {
	t.Attr("attack", "2 26")
	t.Attr("requirement", "H-2.4-5 H-2.4-7 S-9110-2")
	stolen := g.Token(t, g.L1, nil)
	var p certsource.Preset
	for _, q := range certsource.Presets() {
		if q.Name == g.a.preset || q.Name == "xfcc" && g.a.preset == "envoy-peer" {
			p = q
		}
	}
	for name, values := range p.Forward(g.L1.Cert) {
		under := strings.ReplaceAll(name, "-", "_")
		for _, lines := range [][]string{
			{name + ": " + values[0]}, {strings.ToLower(name) + ": " + values[0]}, {under + ": " + values[0]}, {under + ": " + values[0], name + ": " + values[0]},
			{"Connection: keep-alive, " + name, name + ": " + values[0]}, {name + ": " + values[0], name + ": " + values[0]},
		} {
			for _, leaf := range []*pkitest.Leaf{nil, g.L2} {
				g.last()
				x, err := raw(t, g.px.tls, matrix.Host, caller{leaf: leaf})
				if err != nil {
					t.Fatal(err)
				}
				status, body, err := x.send(plainRequest("GET", "/orders", stolen, lines...))
				if seen := g.last(); seen != nil || err == nil && (status < 400 || body == "hello") {
					t.Errorf("%.60q: answered %d, and the API has seen %v", lines, status, seen != nil)
				}
			}
		}
	}
}

const healthPath = "/grpc.health.v1.Health"

// A service of gRPC behind Envoy, with a client of grpc-go: it reads a status of gRPC and
// the challenge.
func TestEnvoyBeforeGRPC(t *testing.T) {
	for _, a := range askers() {
		if a.name != "envoy" && a.name != "envoy-http" {
			continue
		}
		t.Run(a.name, func(t *testing.T) {
			g := startGuarded(t, a, "    - name: api\n      connect_timeout: 5s\n", `    - name: api
      connect_timeout: 5s
      typed_extension_protocol_options:
        envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
          "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
          explicit_http_config: {http2_protocol_options: {}}
`)
			for _, tt := range []struct {
				name, token string
				leaf        *pkitest.Leaf
				want        codes.Code
				challenge   string
			}{
				{"bound", g.Token(t, g.L1, nil), g.L1, codes.OK, ""},
				{"another certificate", g.Token(t, g.L1, nil), g.L2, codes.Unauthenticated, `error="invalid_token"`},
				{"no token", "", g.L1, codes.Unauthenticated, "Bearer"},
				{"a scope that is missing", g.Token(t, g.L1, map[string]any{"scope": "write"}), g.L1, codes.PermissionDenied, `error="insufficient_scope"`},
			} {
				t.Run(tt.name, func(t *testing.T) {
					g.last()
					conn, err := grpc.NewClient(g.px.tls, grpc.WithTransportCredentials(credentials.NewTLS(g.ClientTLS(tt.leaf))))
					if err != nil {
						t.Fatal(err)
					}
					defer conn.Close()
					ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
					defer cancel()
					if tt.token != "" {
						ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+tt.token, "x-client-id", "forged", "client-cert", "forged")
					}
					var header, trailer metadata.MD
					_, err = healthgrpc.NewHealthClient(conn).Check(ctx, &healthgrpc.HealthCheckRequest{}, grpc.Header(&header), grpc.Trailer(&trailer))
					if status.Code(err) != tt.want {
						t.Fatalf("%v, want %v", err, tt.want)
					}
					got := strings.Join(append(header.Get("www-authenticate"), trailer.Get("www-authenticate")...), " ")
					if !strings.Contains(got, tt.challenge) {
						t.Errorf("challenge %q, want %q", got, tt.challenge)
					}
					seen := g.last()
					if (seen != nil) != (tt.want == codes.OK) {
						t.Fatalf("the service was reached: %v", seen != nil)
					}
					if seen != nil && (!slices.Equal(seen.Header["X-Client-Id"], []string{"client-1"}) || seen.Header.Get("Authorization") != "" || seen.Header.Get("Client-Cert") != byteSequence(g.L1.Cert)) {
						t.Errorf("the service has seen %q", seen.Header)
					}
				})
			}
		})
	}
}

// While Certbound is away Envoy lets nothing pass.
func TestEnvoyAsksInVain(t *testing.T) {
	for _, a := range askers() {
		if !strings.HasPrefix(a.name, "envoy") {
			continue
		}
		t.Run(a.name, func(t *testing.T) {
			g := startGuarded(t, a)
			good := g.Token(t, g.L1, nil)
			if got := g.get(t, caller{leaf: g.L1}, "/orders", good); got.Status != http.StatusOK {
				t.Fatalf("%d %s", got.Status, got.Text)
			}
			g.stop()
			g.last()
			for _, path := range []string{"/orders", "/open"} {
				if got := g.get(t, caller{leaf: g.L1}, path, good); got.Status != http.StatusServiceUnavailable || g.last() != nil {
					t.Errorf("%s: %d, want 503 and the API not reached", path, got.Status)
				}
			}
		})
	}
}

// The order of Traefik's middlewares (traefik#6237): the question is asked before the
// certificate is there. It is a refusal with a reason that says so, and not a request that
// passes.
func TestTraefikMiddlewareOrder(t *testing.T) {
	for _, a := range askers() {
		if a.name != "traefik" {
			continue
		}
		g := startGuarded(t, a, "middlewares: [certificate, certbound, clean]", "middlewares: [certbound, certificate, clean]")
		got := g.get(t, caller{leaf: g.L1}, "/orders", g.Token(t, g.L1, nil))
		if got.Status != http.StatusUnauthorized || g.reason() != decision.NoCertificate || g.last() != nil {
			t.Errorf("%d for %s, want 401 for %s", got.Status, g.reason(), decision.NoCertificate)
		}
	}
}

// The thumbprint in the decision is that of the client and not of the proxy (attack 18: a
// gateway's certificate passed for that of its callers).
func TestForwardAuthSeesTheClient(t *testing.T) {
	for _, a := range askers() {
		t.Run(a.name, func(t *testing.T) {
			t.Attr("attack", "18")
			t.Attr("requirement", "H-2.4-8")
			g := startGuarded(t, a)
			if got := g.get(t, caller{leaf: g.L1}, "/orders", g.Token(t, g.L1, nil)); got.Status != http.StatusOK {
				t.Fatalf("%d %s", got.Status, got.Text)
			}
			g.mu.Lock()
			got := g.decisions[len(g.decisions)-1].Thumbprint
			g.mu.Unlock()
			if want := certbound.Thumbprint(g.L1.Cert); got != want {
				t.Errorf("judged was %s, want %s", got, want)
			}
			if a := g.get(t, caller{}, "/admin", g.Token(t, proxyKeys().hop, map[string]any{"scope": "admin"})); a.Status != http.StatusUnauthorized {
				t.Errorf("a token that is bound to the proxy: %d, want 401", a.Status)
			}
		})
	}
}
