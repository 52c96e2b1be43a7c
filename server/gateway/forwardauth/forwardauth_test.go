package forwardauth_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/pkitest"
	"github.com/certbound/certbound/resourceserver"
	"github.com/certbound/certbound/server/gateway"
	"github.com/certbound/certbound/server/gateway/forwardauth"
	"github.com/certbound/certbound/server/listen"
	"github.com/certbound/certbound/server/test/matrix"
)

const authHost = "auth.test"

// proxies are the dialects, each with the preset in which its proxy sends certificates.
var proxies = []struct {
	dialect forwardauth.Dialect
	preset  string
}{
	{forwardauth.Nginx, "nginx"},
	{forwardauth.Traefik, "traefik"},
	{forwardauth.Caddy, "caddy"},
	{forwardauth.Envoy, "xfcc"},
}

// A world is a front behind a listener, and the proxy that asks it.
type world struct {
	*matrix.World
	dialect forwardauth.Dialect
	preset  certsource.Preset
	hop     *pkitest.Leaf
	handler *forwardauth.Handler
	decider *gateway.Decider
	address string
	log     bytes.Buffer

	mu        sync.Mutex
	decisions []*decision.Decision
}

func hopOf(leaf *pkitest.Leaf) certsource.Hop {
	return certsource.Hop{Thumbprints: []string{certbound.Thumbprint(leaf.Cert)}}
}

func newWorld(t testing.TB, dialect forwardauth.Dialect, preset string, routes ...*gateway.Route) *world {
	t.Helper()
	w := &world{World: matrix.New(t), dialect: dialect}
	w.hop = pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=edge-1"})
	for _, p := range certsource.Presets() {
		if p.Name == preset {
			w.preset = p
		}
	}
	cfg := certsource.PresetConfig{Hop: hopOf(w.hop)}
	if preset == "xfcc" {
		cfg.TrustedHops = 1
	}
	src, err := certsource.NewPreset(preset, cfg)
	if err != nil {
		t.Fatal(err)
	}
	identity, err := gateway.NewIdentity(gateway.IdentityConfig{ClientCert: true, Claims: []gateway.ClaimField{
		{Claim: "client_id", Field: "X-Client-ID"}, {Claim: "email", Field: "X-Email"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if routes == nil {
		routes = []*gateway.Route{
			{Name: "orders", Path: "/orders", Methods: []string{"GET", "POST"}, Identity: identity, CheckCertificate: w.Check},
			{Name: "admin", Path: "/admin", Scopes: []string{"admin"}, Identity: identity},
			{Name: "open", Path: "/open", Anonymous: true},
		}
	}
	for _, r := range routes {
		if !r.Anonymous {
			r.Verifier = w.Verifier(t, src, func(c *resourceserver.Config) { c.CheckCertificate = nil })
		}
	}
	w.decider, err = gateway.NewDecider(gateway.Config{Routes: routes, Source: src, Observer: func(_ context.Context, d *decision.Decision) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.decisions = append(w.decisions, d)
	}})
	if err != nil {
		t.Fatal(err)
	}
	w.handler, err = forwardauth.New(forwardauth.Config{
		Decider: w.decider, Dialect: dialect, Hop: hopOf(w.hop),
		Options: gateway.FrontOptions{Logger: slog.New(slog.NewJSONHandler(lockedWriter{w}, nil)), AccessLog: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	leaf := w.ServerCA.MustLeaf(pkitest.LeafOptions{Subject: "CN=" + authHost, DNS: []string{authHost, matrix.Host}, Server: true})
	srv, err := listen.New(listen.Config{
		Name: "auth", Handler: w.handler, Pair: listen.NewPair(leaf.TLS()), AskForCertificate: true, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := listen.Open("127.0.0.1:0", "address")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = srv.Shutdown(ctx)
	})
	w.address = l.Addr().String()
	return w
}

type lockedWriter struct{ w *world }

func (l lockedWriter) Write(b []byte) (int, error) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	return l.w.log.Write(b)
}

// logged returns what the log has, and forgets it.
func (w *world) logged() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer w.log.Reset()
	return w.log.String()
}

func (w *world) reason() decision.Reason {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.decisions) == 0 {
		return ""
	}
	return w.decisions[len(w.decisions)-1].Reason()
}

// client returns a client with the certificate of a proxy, or without one.
func (w *world) client(t testing.TB, leaf *pkitest.Leaf) *http.Client {
	cfg := w.ClientTLS(leaf)
	cfg.ServerName = ""
	tr := &http.Transport{TLSClientConfig: cfg, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, w.address)
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

// question returns what the proxy asks about a request.
func (w *world) question(t testing.TB, method, uri string, leaf *pkitest.Leaf, token string) *http.Request {
	t.Helper()
	m, to := http.MethodGet, "https://"+authHost+"/"
	if w.dialect.Method == "" {
		m, to = method, "https://"+matrix.Host+uri
	}
	req, err := http.NewRequestWithContext(t.Context(), m, to, nil)
	if err != nil {
		t.Fatal(err)
	}
	if w.dialect.Method != "" {
		req.Header.Set(w.dialect.Method, method)
		req.Header.Set(w.dialect.URI, uri)
		req.Header.Set(w.dialect.Host, matrix.Host)
	}
	if leaf != nil {
		for name, values := range w.preset.Forward(leaf.Cert, leaf.Chain()[1:]...) {
			req.Header[name] = values
		}
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return req
}

type answer struct {
	status int
	header http.Header
	body   string
}

func ask(t testing.TB, c *http.Client, req *http.Request) answer {
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
	if s := resp.StatusCode; s != http.StatusOK && s != http.StatusUnauthorized && s != http.StatusForbidden {
		t.Errorf("answer %d: proxies know 200, 401 and 403 only", s)
	}
	if s := resp.StatusCode; s == http.StatusUnauthorized && resp.Header.Get("WWW-Authenticate") == "" {
		t.Error("401 without a challenge (RFC 9110, Section 15.5.2)")
	}
	if cc := resp.Header.Get("Cache-Control"); cc != "no-store" {
		t.Errorf("Cache-Control %q, want no-store", cc)
	}
	return answer{resp.StatusCode, resp.Header, string(body)}
}

func each(t *testing.T, f func(t *testing.T, w *world)) {
	for _, p := range proxies {
		t.Run(p.dialect.Name, func(t *testing.T) { f(t, newWorld(t, p.dialect, p.preset)) })
	}
}

// Every dialect comes to the answers of the table.
func TestMatrix(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		c := w.client(t, w.hop)
		w.Run(t, func(t *testing.T, call matrix.Call) matrix.Outcome {
			a := ask(t, c, w.question(t, "GET", "/orders", call.Leaf, call.Token))
			return matrix.Outcome{Status: a.status, Challenge: a.header.Get("WWW-Authenticate"), Reached: a.status == http.StatusOK}
		})
	})
}

// What a proxy can hand on is 401 and 403, whatever the reason.
func TestAnswers(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		c := w.client(t, w.hop)
		good := w.Token(t, w.L1, nil)
		tests := []struct {
			name, method, uri string
			change            func(*http.Request)
			status            int
			reason            decision.Reason
		}{
			{"allowed", "POST", "/orders/1?x=%2e%2e", nil, 200, ""},
			{"HEAD where GET may", "HEAD", "/orders", nil, 200, ""},
			{"anonymous", "GET", "/open", nil, 200, ""},
			{"no such route", "GET", "/other", nil, 403, decision.RouteUnknown},
			{"method of no route", "DELETE", "/orders", nil, 403, decision.MethodNotAllowed},
			{"scope missing", "GET", "/admin", nil, 403, decision.ScopeInsufficient},
			{"encoded slash", "GET", "/open/..%2forders", nil, 403, decision.PathAmbiguous},
			{"dot segments", "GET", "/open/../orders", nil, 403, decision.PathAmbiguous},
			{"semicolon", "GET", "/open;/../orders", nil, 403, decision.PathAmbiguous},
			{"token in the query, too", "GET", "/orders?access_token=x", nil, 401, decision.TokenTwice},
			{"certificate field that is none", "GET", "/orders", func(r *http.Request) { r.Header.Set(w.preset.Field, "x") }, 401, decision.SourceMalformed},
			{"such a field on an anonymous route", "GET", "/open", func(r *http.Request) { r.Header.Set(w.preset.Field, "x") }, 401, decision.SourceMalformed},
			{"certificate field twice", "GET", "/orders", func(r *http.Request) { r.Header.Add(w.preset.Field, "x") }, 401, decision.SourceRepeated},
			{"a second Authorization", "GET", "/orders", func(r *http.Request) { r.Header.Add("Authorization", "Bearer x") }, 401, decision.TokenTwice},
		}
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				if w.dialect.Method == "" && tt.name == "dot segments" {
					tt.uri = "/open/%2e%2e/orders" // net/http's client sends these
				}
				req := w.question(t, tt.method, tt.uri, w.L1, good)
				if tt.change != nil {
					tt.change(req)
				}
				a := ask(t, c, req)
				if got := w.reason(); a.status != tt.status || tt.status != 200 && got != tt.reason {
					t.Errorf("%d for %q, want %d for %q", a.status, got, tt.status, tt.reason)
				}
				if log := w.logged(); strings.Contains(log, good) || strings.Contains(log, "access_token=") || tt.method != "HEAD" && !strings.Contains(log, `"method":"`+tt.method+`"`) {
					t.Errorf("the record has a token, or not the method: %s", log)
				}
			})
		}
	})
}

// Every answer leads to its record, also the one to somebody who may not ask.
func TestAnswerLeadsToRecord(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		ids := map[string]bool{}
		for _, tt := range []struct {
			name    string
			asker   *pkitest.Leaf
			leaf    *pkitest.Leaf
			outcome string
			client  string // in the record
		}{
			{"allowed", w.hop, w.L1, "allowed", `"client_id":"client-1"`},
			{"stolen", w.hop, w.L2, "refused", `"client_id":"client-1"`},
			{"not the proxy", w.L2, w.L1, "refused", `"check":"source"`},
		} {
			w.logged()
			a := ask(t, w.client(t, tt.asker), w.question(t, "GET", "/orders", tt.leaf, w.Token(t, w.L1, nil)))
			id, log := a.header.Get(resourceserver.RequestIDHeader), w.logged()
			for _, want := range []string{`"request_id":"` + id + `"`, `"outcome":"` + tt.outcome + `"`, tt.client} {
				if id == "" || ids[id] || !strings.Contains(log, want) {
					t.Errorf("%s: the id of the answer is %q, and the record has no %s: %s", tt.name, id, want, log)
				}
			}
			ids[id] = true
		}
	})
}

// An issuer that cannot be asked is 503 elsewhere. Here it is a refusal as well: nginx would
// make 500 of it, and Envoy can be told to let the request pass.
func TestIssuerUnavailable(t *testing.T) {
	for _, p := range proxies {
		t.Run(p.dialect.Name, func(t *testing.T) {
			w := newWorld(t, p.dialect, p.preset)
			src := w.decider.Source()
			v, err := resourceserver.New(resourceserver.Config{
				Resource: matrix.Resource, Issuer: matrix.Issuer, Source: src, Logger: slog.New(slog.DiscardHandler),
				HTTPClient: &http.Client{Transport: failing{}},
			})
			if err != nil {
				t.Fatal(err)
			}
			d, err := gateway.NewDecider(gateway.Config{Routes: []*gateway.Route{{Name: "api", Verifier: v}}, Source: src})
			if err != nil {
				t.Fatal(err)
			}
			w.handler.Reload(d)
			a := ask(t, w.client(t, w.hop), w.question(t, "GET", "/", w.L1, w.Token(t, w.L1, nil)))
			if a.status != http.StatusForbidden || a.header.Get("Retry-After") == "" || strings.TrimSpace(a.body) != `{"error":"forbidden"}` {
				t.Errorf("%d %v %s, want 403 with Retry-After", a.status, a.header, a.body)
			}
		})
	}
}

type failing struct{}

func (failing) RoundTrip(*http.Request) (*http.Response, error) { return nil, errors.New("down") }

// An answer that allows has each identity field, so that a proxy which copies them leaves
// none of the client's.
func TestEveryIdentityField(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		c := w.client(t, w.hop)
		all := []string{"Client-Cert", "X-Client-Id", "X-Email"}
		if got := w.decider.IdentityFields(); !slices.Equal(got, all) {
			t.Fatalf("fields %q, want %q", got, all)
		}
		for _, tt := range []struct {
			uri    string
			leaf   *pkitest.Leaf
			filled []string
		}{
			{"/orders", w.L1, []string{"Client-Cert", "X-Client-Id"}}, // no claim email
			{"/open", w.L1, nil},
			{"/open", nil, nil},
		} {
			req := w.question(t, "GET", tt.uri, tt.leaf, w.Token(t, w.L1, nil))
			for _, name := range []string{"X-Client-ID", "X-Email", "x_email", "X.Client.Id"} {
				req.Header[name] = []string{"forged"} // by the client; the proxy sends them along
			}
			a := ask(t, c, req)
			for _, name := range all {
				values, filled := a.header[name], slices.Contains(tt.filled, name)
				if len(values) != 1 || (values[0] != "") != filled || values[0] == "forged" {
					t.Errorf("%s: %s is %q, want it once, with something in it: %v", tt.uri, name, values, filled)
				}
			}
			remove := strings.Split(a.header.Get("X-Envoy-Auth-Headers-To-Remove"), ",")
			if w.dialect.Remove == "" {
				continue
			}
			want := []string{"authorization", "x_email", "x.client.id"}
			for _, name := range all {
				if !slices.Contains(tt.filled, name) {
					want = append(want, strings.ToLower(name))
				}
			}
			slices.Sort(want)
			if !slices.Equal(remove, want) {
				t.Errorf("%s: to be removed %q, want %q", tt.uri, remove, want)
			}
		}
	})
}

// TestAttack2_QuestionNotFromTheProxy (CVE-2024-10039): somebody who can reach the endpoint
// asks himself, with the certificate of another client in the proxy's field, to learn
// whether a token works, or is asked through a hop that is not the one that is trusted.
// Neither the certificate is believed nor which request it is about.
func TestAttack2_QuestionNotFromTheProxy(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		t.Attr("attack", "2 20")
		t.Attr("requirement", "G-4.13-2 H-4-3")
		for name, leaf := range map[string]*pkitest.Leaf{
			"no certificate": nil, "a client's certificate": w.L1, "another proxy": pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=edge-1"}),
		} {
			t.Run(name, func(t *testing.T) {
				c := w.client(t, leaf)
				for _, uri := range []string{"/orders", "/open"} {
					w.logged()
					a := ask(t, c, w.question(t, "GET", uri, w.L1, w.Token(t, w.L1, nil)))
					if a.status != http.StatusForbidden || w.reason() != decision.SourceUntrusted {
						t.Errorf("%s: %d for %s, want 403 for %s", uri, a.status, w.reason(), decision.SourceUntrusted)
					}
					for _, name := range w.decider.IdentityFields() {
						if a.header[name] != nil {
							t.Errorf("the refusal has %s", name)
						}
					}
					if log := w.logged(); strings.Contains(log, uri) || !strings.Contains(log, "127.0.0.1") {
						t.Errorf("the record tells what was asked, or not by whom: %s", log)
					}
				}
			})
		}
	})
}

// TestAttack18_CertificateOfTheProxy (CVE-2018-16886): the proxy's own certificate, on the
// connection on which it asks, must never be its client's.
func TestAttack18_CertificateOfTheProxy(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		t.Attr("attack", "18")
		t.Attr("requirement", "H-2.4-8")
		c := w.client(t, w.hop)
		token := w.Token(t, w.hop, nil) // bound to the proxy
		if a := ask(t, c, w.question(t, "GET", "/admin", nil, token)); a.status != 401 || w.reason() != decision.NoCertificate {
			t.Errorf("without a field: %d for %s, want 401 for %s", a.status, w.reason(), decision.NoCertificate)
		}
		if a := ask(t, c, w.question(t, "GET", "/admin", w.hop, token)); a.status != 401 || w.reason() != decision.SourceProxyOwn {
			t.Errorf("in its field: %d for %s, want 401 for %s", a.status, w.reason(), decision.SourceProxyOwn)
		}
	})
}

// TestAttack19_WhichRequest (CVE-2025-64484): a client sends the fields that say which
// request the proxy asks about, in a spelling that passes the proxy: its own request is for
// /admin and is judged as one for /open.
func TestAttack19_WhichRequest(t *testing.T) {
	for _, p := range proxies[:3] { // Envoy has no such fields
		t.Run(p.dialect.Name, func(t *testing.T) {
			t.Attr("attack", "19")
			t.Attr("requirement", "G-4.13-1")
			w := newWorld(t, p.dialect, p.preset)
			c := w.client(t, w.hop)
			d := w.dialect
			under := strings.ReplaceAll(d.URI, "-", "_")
			for _, tt := range []struct {
				name   string
				change func(h http.Header)
				reason decision.Reason
			}{
				{"twice", func(h http.Header) { h.Add(d.URI, "/open") }, decision.SourceRepeated},
				{"the method twice", func(h http.Header) { h.Add(d.Method, "GET") }, decision.SourceRepeated},
				{"underscores", func(h http.Header) { h[under] = []string{"/open"} }, decision.SourceLookAlike},
				{"underscores only", func(h http.Header) { h.Del(d.URI); h[under] = []string{"/open"} }, decision.SourceLookAlike},
				{"dots", func(h http.Header) { h[strings.ReplaceAll(d.Host, "-", ".")] = []string{"x"} }, decision.SourceLookAlike},
				{"named in Connection", func(h http.Header) { h.Set("Connection", "x, "+strings.ToLower(d.URI)) }, decision.SourceHopByHop},
				{"missing", func(h http.Header) { h.Del(d.URI) }, decision.RequestMalformed},
				{"empty", func(h http.Header) { h.Set(d.Method, "") }, decision.RequestMalformed},
				{"another host in the path", func(h http.Header) { h.Set(d.URI, "https://other.test/open") }, decision.PathAmbiguous},
				{"two hosts", func(h http.Header) { h.Set(d.Host, "rs.test, other.test") }, decision.RequestMalformed},
			} {
				t.Run(tt.name, func(t *testing.T) {
					req := w.question(t, "GET", "/admin", w.L1, w.Token(t, w.L1, nil))
					tt.change(req.Header)
					if a := ask(t, c, req); a.status != http.StatusForbidden || w.reason() != tt.reason {
						t.Errorf("%d for %s, want 403 for %s", a.status, w.reason(), tt.reason)
					}
				})
			}
			// The fields of the other dialects count for nothing.
			t.Run("fields of others", func(t *testing.T) {
				req := w.question(t, "GET", "/admin", w.L1, w.Token(t, w.L1, nil))
				for _, name := range []string{"X-Original-URI", "X-Forwarded-Uri", "X-Original-Url", "X-Rewrite-Url", "X-Envoy-Original-Path"} {
					if !strings.EqualFold(name, d.URI) {
						req.Header.Set(name, "/open")
					}
				}
				if a := ask(t, c, req); a.status != http.StatusForbidden || w.reason() != decision.ScopeInsufficient {
					t.Errorf("%d for %s, want 403 for %s", a.status, w.reason(), decision.ScopeInsufficient)
				}
			})
		})
	}
}

// TestAttack26_OneSource (authlete-java-jaxrs): the certificate in the field of another
// proxy is not looked at, but reported.
func TestAttack26_OneSource(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		t.Attr("attack", "26")
		c := w.client(t, w.hop)
		req := w.question(t, "GET", "/orders", nil, w.Token(t, w.L1, nil))
		for _, p := range certsource.Presets() {
			if p.Field != w.preset.Field && p.Field != "" {
				for name, values := range p.Forward(w.L1.Cert) {
					req.Header[name] = values
				}
			}
		}
		for _, name := range certsource.Describe(w.decider.Source()).Fields {
			req.Header.Del(name) // presets share some
		}
		a := ask(t, c, req)
		w.mu.Lock()
		d := w.decisions[len(w.decisions)-1]
		w.mu.Unlock()
		if a.status != 401 || d.Reason() != decision.NoCertificate || len(d.Warnings) == 0 || d.Warnings[0].Reason != decision.SourceForeignHeader {
			t.Errorf("%d for %s with warnings %v, want 401 for %s and a warning", a.status, d.Reason(), d.Warnings, decision.NoCertificate)
		}
	})
}

func TestNewFaults(t *testing.T) {
	w := newWorld(t, forwardauth.Nginx, "nginx")
	good := forwardauth.Config{Decider: w.decider, Dialect: forwardauth.Nginx, Hop: hopOf(w.hop)}
	own, err := gateway.NewDecider(gateway.Config{Routes: []*gateway.Route{{Name: "open", Anonymous: true}}, Source: certsource.TLS{}})
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*forwardauth.Config){
		"no decider": func(c *forwardauth.Config) { c.Decider = nil },
		// Attack 18 as a setting.
		"the source is the connection": func(c *forwardauth.Config) { c.Decider = own },
		"no dialect":                   func(c *forwardauth.Config) { c.Dialect = forwardauth.Dialect{} },
		"half a dialect":               func(c *forwardauth.Config) { c.Dialect.Host = "" },
		"nobody is trusted":            func(c *forwardauth.Config) { c.Hop = certsource.Hop{} },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := good
			change(&cfg)
			if h, err := forwardauth.New(cfg); err == nil || h != nil {
				t.Error("it was accepted")
			}
		})
	}
	if _, err := forwardauth.New(good); err != nil {
		t.Error(err)
	}
}

// FuzzQuestion: whatever the fields hold, the answer is one of three, and what is allowed
// is a request for the open route.
func FuzzQuestion(f *testing.F) {
	for _, seed := range [][4]string{
		{"GET", "/open", "rs.test", ""}, {"GET", "/open/../admin", "rs.test", ""}, {"get", "//open", "rs.test:443", "close"},
		{"CONNECT", "rs.test:443", "rs.test", "x-original-uri"}, {"GET", "/open?x#y", "[::1]:443", ""}, {"GET", "/%6fpen", "RS.TEST.", ""},
	} {
		f.Add(seed[0], seed[1], seed[2], seed[3])
	}
	w := newWorld(f, forwardauth.Nginx, "nginx")
	r, err := http.NewRequest("GET", "https://auth.test/", nil)
	if err != nil {
		f.Fatal(err)
	}
	r.TLS = &tls.ConnectionState{PeerCertificates: w.hop.Chain()}
	client, server := net.Pipe()
	defer client.Close()
	r = r.WithContext(certsource.ConnContext(f.Context(), tcp{server}))
	f.Fuzz(func(t *testing.T, method, uri, host, connection string) {
		r := r.Clone(r.Context())
		r.Header = http.Header{"X-Original-Method": {method}, "X-Original-Uri": {uri}, "X-Original-Host": {host}, "Connection": {connection}}
		rec := &recorder{header: http.Header{}}
		w.handler.ServeHTTP(rec, r)
		w.mu.Lock()
		w.log.Reset()
		w.decisions = nil
		w.mu.Unlock()
		switch rec.status {
		case http.StatusOK:
			path, _, _ := strings.Cut(uri, "?")
			if normal, err := gateway.NormalPath(path); err != nil || normal != "/open" && !strings.HasPrefix(normal, "/open/") {
				t.Errorf("allowed %q", uri)
			}
		case http.StatusUnauthorized, http.StatusForbidden:
		default:
			t.Errorf("answer %d", rec.status)
		}
	})
}

type tcp struct{ net.Conn }

func (tcp) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

type recorder struct {
	header http.Header
	status int
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(status int)      { r.status = status }
func (r *recorder) Write(b []byte) (int, error) { return len(b), nil }
