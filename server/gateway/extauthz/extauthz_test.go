//go:build unix

package extauthz_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/pkitest"
	"github.com/certbound/certbound/resourceserver"
	"github.com/certbound/certbound/server/gateway"
	"github.com/certbound/certbound/server/gateway/extauthz"
	"github.com/certbound/certbound/server/listen"
	"github.com/certbound/certbound/server/test/matrix"
)

const authHost = "auth.test"

// A world is a front behind a real gRPC listener, and the Envoy that asks it.
type world struct {
	*matrix.World
	xfcc    bool // the source; else source.certificate
	envoy   *pkitest.Leaf
	auth    *extauthz.Authorization
	decider *gateway.Decider
	server  *extauthz.Server
	address string // of net.Listener
	log     bytes.Buffer

	mu        sync.Mutex
	decisions []*decision.Decision
}

type setup struct {
	xfcc     bool
	unix     bool
	open     bool // plain TCP
	identity gateway.IdentityConfig
	pass     func(*gateway.Route) bool
	verifier func(*resourceserver.Config)
	quiet    bool
}

var identity = gateway.IdentityConfig{ClientCert: true, Claims: []gateway.ClaimField{
	{Claim: "client_id", Field: "X-Client-ID"}, {Claim: "email", Field: "X-Email"},
}}

func newWorld(t testing.TB, s setup) *world {
	t.Helper()
	w := &world{World: matrix.New(t), xfcc: s.xfcc, envoy: pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=envoy"})}
	hop := certsource.Hop{Thumbprints: []string{certbound.Thumbprint(w.envoy.Cert)}}
	if s.unix {
		hop = certsource.Hop{UnixSocket: true}
	}
	src, err := extauthz.NewPeerSource(extauthz.PeerConfig{Hop: hop})
	if s.xfcc {
		src, err = certsource.NewPreset("xfcc", certsource.PresetConfig{Hop: hop, TrustedHops: 1})
	}
	if err != nil {
		t.Fatal(err)
	}
	id, err := gateway.NewIdentity(s.identity)
	if err != nil {
		t.Fatal(err)
	}
	routes := []*gateway.Route{
		{Name: "orders", Path: "/orders", Methods: []string{"GET", "POST"}, Identity: id, CheckCertificate: w.Check},
		{Name: "admin", Path: "/admin", Scopes: []string{"admin"}, Identity: id},
		{Name: "open", Path: "/open", Anonymous: true},
	}
	for _, r := range routes {
		if !r.Anonymous {
			r.Verifier = w.Verifier(t, src, func(c *resourceserver.Config) {
				c.CheckCertificate = nil
				if s.verifier != nil {
					s.verifier(c)
				}
			})
		}
	}
	observe := func(_ context.Context, d *decision.Decision) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.decisions = append(w.decisions, d)
	}
	logger := slog.New(slog.NewJSONHandler(lockedWriter{w}, nil))
	if s.quiet {
		observe, logger = nil, slog.New(slog.DiscardHandler)
	}
	if w.decider, err = gateway.NewDecider(gateway.Config{Routes: routes, Source: src, Observer: observe}); err != nil {
		t.Fatal(err)
	}
	w.auth, err = extauthz.New(extauthz.Config{
		Decider: w.decider, Hop: hop, PassToken: s.pass, Options: gateway.FrontOptions{Logger: logger, AccessLog: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	leaf := w.ServerCA.MustLeaf(pkitest.LeafOptions{Subject: "CN=" + authHost, DNS: []string{authHost}, Server: true})
	cfg := extauthz.ServerConfig{Name: "gateway", Authorization: w.auth, Pair: listen.NewPair(leaf.TLS()), Logger: slog.New(slog.DiscardHandler)}
	at := "127.0.0.1:0"
	if s.unix || s.open {
		cfg.Pair = nil
	}
	if s.unix {
		at = "unix:" + filepath.Join(t.TempDir(), "authz.sock")
	}
	if w.server, err = extauthz.NewServer(cfg); err != nil {
		t.Fatal(err)
	}
	l, err := listen.Open(at, "address")
	if err != nil {
		t.Fatal(err)
	}
	w.address = l.Addr().String()
	if s.unix {
		w.address = at
	}
	ended := make(chan error, 1)
	go func() { ended <- w.server.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := w.server.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("it ended with %v, want %v", err, http.ErrServerClosed)
		}
	})
	return w
}

type lockedWriter struct{ w *world }

func (l lockedWriter) Write(b []byte) (int, error) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	return l.w.log.Write(b)
}

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

// connect returns a client of the service, with a certificate or without.
func (w *world) connect(t testing.TB, leaf *pkitest.Leaf) authv3.AuthorizationClient {
	t.Helper()
	cfg := w.ClientTLS(leaf)
	cfg.ServerName = authHost
	return dial(t, w.address, credentials.NewTLS(cfg))
}

func dial(t testing.TB, address string, creds credentials.TransportCredentials) authv3.AuthorizationClient {
	t.Helper()
	c, err := grpc.NewClient(address, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return authv3.NewAuthorizationClient(c)
}

// question returns what Envoy asks about a request.
func (w *world) question(method, path string, leaf *pkitest.Leaf, token string) *authv3.CheckRequest {
	http := &authv3.AttributeContext_HttpRequest{
		Id: "1", Method: method, Path: path, Host: matrix.Host, Scheme: "https", Protocol: "HTTP/2",
		Headers: map[string]string{
			":authority": matrix.Host, ":method": method, ":path": path, ":scheme": "https",
			"user-agent": "curl/8", "accept": "*/*", "x-forwarded-proto": "https", "x-request-id": "77e3a1",
		},
	}
	a := &authv3.AttributeContext{Source: &authv3.AttributeContext_Peer{}, Request: &authv3.AttributeContext_Request{Http: http}}
	if token != "" {
		http.Headers["authorization"] = "Bearer " + token
	}
	if leaf != nil {
		if w.xfcc {
			http.Headers["x-forwarded-client-cert"] = xfcc(leaf)
		} else {
			a.Source.Certificate = escaped(leaf)
		}
	}
	return &authv3.CheckRequest{Attributes: a}
}

// escaped is how Envoy writes a certificate.
func escaped(leaf *pkitest.Leaf) string {
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Cert.Raw})
	return strings.NewReplacer("\n", "%0A", " ", "%20", "+", "%2B", "/", "%2F", "=", "%3D").Replace(string(text))
}

func xfcc(leaf *pkitest.Leaf) string {
	for _, p := range certsource.Presets() {
		if p.Name == "xfcc" {
			return p.Forward(leaf.Cert, leaf.Chain()[1:]...).Get(p.Field)
		}
	}
	panic("no preset")
}

// An answer is what Envoy is told.
type answer struct {
	allowed bool
	status  int
	code    codes.Code
	header  http.Header // of the refusal, or set in the request
	remove  []string
	id      string // for the client
}

func ask(t testing.TB, c authv3.AuthorizationClient, q *authv3.CheckRequest) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	resp, err := c.Check(ctx, q)
	if err != nil {
		t.Fatalf("an error, after which Envoy can be told to let the request pass: %v", err)
	}
	a := answer{code: codes.Code(resp.GetStatus().GetCode()), header: http.Header{}}
	var options []*corev3.HeaderValueOption
	switch r := resp.GetHttpResponse().(type) {
	case *authv3.CheckResponse_OkResponse:
		a.allowed, options, a.remove = true, r.OkResponse.GetHeaders(), r.OkResponse.GetHeadersToRemove()
		for _, o := range r.OkResponse.GetResponseHeadersToAdd() {
			if strings.EqualFold(o.GetHeader().GetKey(), resourceserver.RequestIDHeader) {
				a.id = o.GetHeader().GetValue()
			}
		}
	case *authv3.CheckResponse_DeniedResponse:
		options, a.status = r.DeniedResponse.GetHeaders(), int(r.DeniedResponse.GetStatus().GetCode())
		if a.status < 400 || (a.code != codes.Unauthenticated && a.code != codes.PermissionDenied) {
			t.Errorf("refused with status %d and code %s", a.status, a.code)
		}
	default:
		t.Fatalf("answer %v", resp)
	}
	if a.allowed != (a.code == codes.OK) {
		t.Errorf("allowed: %v, but code %s", a.allowed, a.code)
	}
	for _, o := range options {
		if o.GetAppendAction() != corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD {
			t.Errorf("%s leaves the client's copy: %s", o.GetHeader().GetKey(), o.GetAppendAction())
		}
		a.header.Add(o.GetHeader().GetKey(), o.GetHeader().GetValue())
	}
	if !a.allowed {
		a.id = a.header.Get(resourceserver.RequestIDHeader)
	}
	return a
}

// Every answer leads to its record, also the one to somebody who may not ask.
func TestAnswerLeadsToRecord(t *testing.T) {
	sources(t, func(t *testing.T, w *world) {
		ids := map[string]bool{}
		for _, tt := range []struct {
			name        string
			asker, leaf *pkitest.Leaf
			outcome     string
			record      string
		}{
			{"allowed", w.envoy, w.L1, "allowed", `"client_id":"client-1"`},
			{"stolen", w.envoy, w.L2, "refused", `"client_id":"client-1"`},
			{"not Envoy", w.L2, w.L1, "refused", `"check":"source"`},
		} {
			w.logged()
			a := ask(t, w.connect(t, tt.asker), w.question("GET", "/orders", tt.leaf, w.Token(t, w.L1, nil)))
			log := w.logged()
			for _, want := range []string{`"request_id":"` + a.id + `"`, `"outcome":"` + tt.outcome + `"`, tt.record} {
				if a.id == "" || ids[a.id] || !strings.Contains(log, want) {
					t.Errorf("%s: the id of the answer is %q, and the record has no %s: %s", tt.name, a.id, want, log)
				}
			}
			ids[a.id] = true
		}
	})
}

// sources runs a test with each of the two sources.
func sources(t *testing.T, f func(t *testing.T, w *world)) {
	for _, xfcc := range []bool{false, true} {
		name := "source.certificate"
		if xfcc {
			name = "XFCC"
		}
		t.Run(name, func(t *testing.T) { f(t, newWorld(t, setup{xfcc: xfcc, identity: identity})) })
	}
}

// Envoy comes to the answers of the table, over mutual TLS and over a unix socket.
func TestMatrix(t *testing.T) {
	run := func(t *testing.T, w *world, c authv3.AuthorizationClient) {
		w.Run(t, func(t *testing.T, call matrix.Call) matrix.Outcome {
			a := ask(t, c, w.question("GET", "/orders", call.Leaf, call.Token))
			if a.allowed {
				return matrix.Outcome{Status: http.StatusOK, Reached: true}
			}
			return matrix.Outcome{Status: a.status, Challenge: a.header.Get("WWW-Authenticate")}
		})
	}
	sources(t, func(t *testing.T, w *world) { run(t, w, w.connect(t, w.envoy)) })
	for name, xfcc := range map[string]bool{"source.certificate": false, "XFCC": true} {
		t.Run("unix socket, "+name, func(t *testing.T) {
			w := newWorld(t, setup{xfcc: xfcc, unix: true})
			run(t, w, dial(t, w.address, insecure.NewCredentials()))
		})
	}
}

func TestAnswers(t *testing.T) {
	sources(t, func(t *testing.T, w *world) {
		c := w.connect(t, w.envoy)
		good := w.Token(t, w.L1, nil)
		garbage := func(q *authv3.CheckRequest) {
			if w.xfcc {
				q.Attributes.Request.Http.Headers["x-forwarded-client-cert"] = "x"
			} else {
				q.Attributes.Source.Certificate = "x"
			}
		}
		http := func(q *authv3.CheckRequest) *authv3.AttributeContext_HttpRequest { return q.Attributes.Request.Http }
		for _, tt := range []struct {
			name, method, path string
			change             func(q *authv3.CheckRequest)
			status             int
			reason             decision.Reason
		}{
			{"allowed", "POST", "/orders/1?x=1", nil, 0, ""},
			{"anonymous", "GET", "/open", nil, 0, ""},
			{"no such route", "GET", "/other", nil, 404, decision.RouteUnknown},
			{"method of no route", "DELETE", "/orders", nil, 405, decision.MethodNotAllowed},
			{"scope missing", "GET", "/admin", nil, 403, decision.ScopeInsufficient},
			{"dot segments", "GET", "/open/../admin", nil, 400, decision.PathAmbiguous},
			{"encoded slash", "GET", "/open/..%2fadmin", nil, 400, decision.PathAmbiguous},
			{"a fragment", "GET", "/open#/../admin", nil, 400, decision.PathAmbiguous},
			{"token in the query, too", "GET", "/orders?access_token=x", nil, 400, decision.TokenTwice},
			{"certificate that is none", "GET", "/orders", garbage, 400, decision.SourceMalformed},
			{"the same on an anonymous route", "GET", "/open", garbage, 400, decision.SourceMalformed},
			{"two tokens in one field", "GET", "/orders", func(q *authv3.CheckRequest) { // as Envoy joins them
				http(q).Headers["authorization"] += ",Bearer x"
			}, 401, decision.TokenMalformed},
			{"two tokens in two fields", "GET", "/orders", func(q *authv3.CheckRequest) {
				raw(q)
				http(q).HeaderMap.Headers = append(http(q).HeaderMap.Headers, &corev3.HeaderValue{Key: "authorization", RawValue: []byte("Bearer x")})
			}, 400, decision.TokenTwice},
			{"fields in raw form", "GET", "/orders", raw, 0, ""},
			{"token in the form, too", "POST", "/orders", func(q *authv3.CheckRequest) {
				http(q).Headers["content-type"], http(q).Body = "application/x-www-form-urlencoded", "a=b&access_token=x"
			}, 400, decision.TokenTwice},
			{"token in the raw form, too", "POST", "/orders", func(q *authv3.CheckRequest) {
				http(q).Headers["content-type"], http(q).RawBody = "application/x-www-form-urlencoded", []byte("access_token=x")
			}, 400, decision.TokenTwice},
			{"no path", "GET", "", nil, 403, decision.RequestMalformed},
			{"no attributes", "GET", "/open", func(q *authv3.CheckRequest) { q.Attributes = nil }, 403, decision.RequestMalformed},
			{"another host", "GET", "/open", func(q *authv3.CheckRequest) { http(q).Host = "a b" }, 400, decision.RequestMalformed},
		} {
			t.Run(tt.name, func(t *testing.T) {
				w.logged()
				q := w.question(tt.method, tt.path, w.L1, good)
				if tt.change != nil {
					tt.change(q)
				}
				a := ask(t, c, q)
				if got := w.reason(); a.allowed != (tt.status == 0) || a.status != tt.status || tt.status != 0 && got != tt.reason {
					t.Errorf("allowed %v, %d for %q, want %d for %q", a.allowed, a.status, got, tt.status, tt.reason)
				}
				if log := w.logged(); log == "" || strings.Contains(log, good) || strings.Contains(log, "access_token=") {
					t.Errorf("there is no record, or it has a token: %s", log)
				}
			})
		}
	})
}

// raw turns the fields into the form of encode_raw_headers.
func raw(q *authv3.CheckRequest) {
	h := q.Attributes.Request.Http
	h.HeaderMap = &corev3.HeaderMap{}
	for name, value := range h.Headers {
		h.HeaderMap.Headers = append(h.HeaderMap.Headers, &corev3.HeaderValue{Key: name, RawValue: []byte(value)})
	}
	h.Headers = nil
}

type failing struct{}

func (failing) RoundTrip(*http.Request) (*http.Response, error) { return nil, errors.New("down") }

// An issuer that cannot be asked makes an answer, too, and no error of gRPC.
func TestIssuerUnavailable(t *testing.T) {
	w := newWorld(t, setup{verifier: func(c *resourceserver.Config) {
		c.Keys = resourceserver.Keys{}
		c.HTTPClient = &http.Client{Transport: failing{}}
	}})
	a := ask(t, w.connect(t, w.envoy), w.question("GET", "/orders", w.L1, w.Token(t, w.L1, nil)))
	if a.allowed || a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
		t.Errorf("%+v, want 503 with Retry-After", a)
	}
}

// Each identity field is set or removed, never both, in every spelling that the client sent.
func TestEveryIdentityField(t *testing.T) {
	for _, pass := range []bool{false, true} {
		w := newWorld(t, setup{identity: identity, pass: func(r *gateway.Route) bool { return pass && r.Name == "orders" }})
		c := w.connect(t, w.envoy)
		for _, tt := range []struct {
			path   string
			leaf   *pkitest.Leaf
			filled []string
		}{
			{"/orders", w.L1, []string{"Client-Cert", "X-Client-Id"}}, // no claim email
			{"/open", w.L1, nil},
			{"/open", nil, nil},
		} {
			q := w.question("GET", tt.path, tt.leaf, w.Token(t, w.L1, nil))
			forged := []string{"x-client-id", "x-email", "x_client_id", "x.email", "x_email"}
			for _, name := range forged {
				q.Attributes.Request.Http.Headers[name] = "forged"
			}
			a := ask(t, c, q)
			if !a.allowed {
				t.Fatalf("%s: %+v", tt.path, a)
			}
			for _, name := range append(w.decider.IdentityFields(), forged...) {
				set, removed := a.header.Get(name), slices.Contains(a.remove, strings.ToLower(name))
				if filled := slices.Contains(tt.filled, http.CanonicalHeaderKey(name)); filled != (set != "") || filled == removed || set == "forged" {
					t.Errorf("%s: %s is set to %q, removed %v, want something in it: %v", tt.path, name, set, removed, filled)
				}
			}
			if got := !slices.Contains(a.remove, "authorization"); got != (pass && tt.path == "/orders") {
				t.Errorf("%s: the token is passed on: %v", tt.path, got)
			}
		}
	}
}

// TestAttack2_QuestionNotFromEnvoy (CVE-2024-10039): the attributes of a question can be
// forged like header fields. Somebody asks with the certificate of another client. Neither
// the certificate is believed nor which request it is about.
func TestAttack2_QuestionNotFromEnvoy(t *testing.T) {
	sources(t, func(t *testing.T, w *world) {
		t.Attr("attack", "2 20")
		t.Attr("requirement", "G-4.13-2 H-4-3")
		for name, leaf := range map[string]*pkitest.Leaf{
			"no certificate": nil, "a client's certificate": w.L1, "another Envoy": pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=envoy"}),
		} {
			t.Run(name, func(t *testing.T) {
				c := w.connect(t, leaf)
				for _, path := range []string{"/orders", "/open"} {
					w.logged()
					a := ask(t, c, w.question("GET", path, w.L1, w.Token(t, w.L1, nil)))
					if a.allowed || a.status != http.StatusForbidden || w.reason() != decision.SourceUntrusted {
						t.Errorf("%s: %+v for %s, want 403 for %s", path, a, w.reason(), decision.SourceUntrusted)
					}
					if log := w.logged(); strings.Contains(log, path) || !strings.Contains(log, "127.0.0.1") {
						t.Errorf("the record tells what was asked, or not by whom: %s", log)
					}
				}
			})
		}
	})
	// By default a private address, or this machine, is nobody (attack 20).
	t.Run("plain TCP", func(t *testing.T) {
		w := newWorld(t, setup{open: true})
		a := ask(t, dial(t, w.address, insecure.NewCredentials()), w.question("GET", "/open", w.L1, ""))
		if a.allowed || w.reason() != decision.SourceUntrusted {
			t.Errorf("%+v for %s, want it refused for %s", a, w.reason(), decision.SourceUntrusted)
		}
	})
	// The service outside of its server knows no peer.
	t.Run("without its server", func(t *testing.T) {
		w := newWorld(t, setup{})
		resp, err := w.auth.Check(t.Context(), w.question("GET", "/open", nil, ""))
		if err != nil || resp.GetDeniedResponse() == nil || w.reason() != decision.SourceUntrusted {
			t.Errorf("%v, %v, want it refused for %s", resp, err, decision.SourceUntrusted)
		}
	})
}

// TestAttack26_OneSource (istio#33599, authlete-java-jaxrs): in a mesh source.certificate
// is that of the sidecar before, and at the edge X-Forwarded-Client-Cert is what a client
// may have sent. Each is looked at only if it is the source.
func TestAttack26_OneSource(t *testing.T) {
	sources(t, func(t *testing.T, w *world) {
		t.Attr("attack", "26 18")
		t.Attr("requirement", "H-2.4-8 G-4.13-1")
		c := w.connect(t, w.envoy)
		token := w.Token(t, w.L1, nil)
		other := func(q *authv3.CheckRequest, leaf *pkitest.Leaf) *authv3.CheckRequest {
			if w.xfcc {
				q.Attributes.Source.Certificate = escaped(leaf)
			} else {
				q.Attributes.Request.Http.Headers["x-forwarded-client-cert"] = xfcc(leaf)
			}
			for _, name := range []string{"source-certificate", "client-cert", "x-ssl-client-cert"} {
				q.Attributes.Request.Http.Headers[name] = escaped(leaf)
			}
			return q
		}
		if a := ask(t, c, other(w.question("GET", "/orders", nil, token), w.L1)); a.allowed || w.reason() != decision.NoCertificate {
			t.Errorf("only the other source: %+v for %s, want %s", a, w.reason(), decision.NoCertificate)
		}
		w.mu.Lock()
		warnings := w.decisions[len(w.decisions)-1].Warnings
		w.mu.Unlock()
		if len(warnings) == 0 || warnings[0].Reason != decision.SourceForeignHeader {
			t.Errorf("the fields that nobody reads are not reported: %v", warnings)
		}
		if a := ask(t, c, other(w.question("GET", "/orders", w.L2, token), w.L1)); a.allowed || w.reason() != decision.BindingMismatch {
			t.Errorf("the right one in the other source: %+v for %s, want %s", a, w.reason(), decision.BindingMismatch)
		}
		if a := ask(t, c, other(w.question("GET", "/orders", w.L1, token), w.L2)); !a.allowed {
			t.Errorf("a wrong one in the other source: %+v for %s, want it allowed", a, w.reason())
		}
		// Envoy's own certificate, with which it asks, is no client's.
		own := w.Token(t, w.envoy, nil)
		if a := ask(t, c, w.question("GET", "/admin", nil, own)); a.allowed || w.reason() != decision.NoCertificate {
			t.Errorf("Envoy's certificate on the connection: %+v for %s, want %s", a, w.reason(), decision.NoCertificate)
		}
		if a := ask(t, c, w.question("GET", "/admin", w.envoy, own)); a.allowed || w.reason() != decision.SourceProxyOwn {
			t.Errorf("Envoy's certificate as source: %+v for %s, want %s", a, w.reason(), decision.SourceProxyOwn)
		}
	})
}

// TestAttack19_LookAlikes (CVE-2025-64484): a client sends X_Forwarded_Client_Cert, or more
// elements than Envoy appends.
func TestAttack19_LookAlikes(t *testing.T) {
	t.Attr("attack", "19")
	t.Attr("requirement", "G-4.13-1")
	w := newWorld(t, setup{xfcc: true, identity: identity})
	c := w.connect(t, w.envoy)
	token := w.Token(t, w.L1, nil)
	for _, tt := range []struct {
		name   string
		change func(h map[string]string)
		reason decision.Reason
	}{
		{"underscores", func(h map[string]string) { h["x_forwarded_client_cert"] = xfcc(w.L1) }, decision.SourceLookAlike},
		{"mixed", func(h map[string]string) { h["x-forwarded_client-cert"] = xfcc(w.L1) }, decision.SourceLookAlike},
		{"named in Connection", func(h map[string]string) { h["connection"] = "x-forwarded-client-cert" }, decision.SourceHopByHop},
		{"an element in front", func(h map[string]string) {
			h["x-forwarded-client-cert"] = xfcc(w.L1) + "," + h["x-forwarded-client-cert"]
		}, decision.BindingMismatch},
		{"an open quote in front", func(h map[string]string) {
			h["x-forwarded-client-cert"] = `Hash="` + "," + h["x-forwarded-client-cert"]
		}, decision.SourceMalformed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q := w.question("GET", "/orders", w.L2, token) // of another client
			tt.change(q.Attributes.Request.Http.Headers)
			if a := ask(t, c, q); a.allowed || w.reason() != tt.reason {
				t.Errorf("%+v for %s, want it refused for %s", a, w.reason(), tt.reason)
			}
		})
	}
}

func TestTooLarge(t *testing.T) {
	w := newWorld(t, setup{})
	q := w.question("GET", "/open", nil, "")
	q.Attributes.Request.Http.Body = strings.Repeat("x", 2<<20)
	c := w.connect(t, w.envoy)
	if _, err := c.Check(t.Context(), q); err == nil {
		t.Error("a question of 2 MiB was answered")
	}
	if a := ask(t, c, w.question("GET", "/open", nil, "")); !a.allowed {
		t.Errorf("the next one: %+v", a)
	}
}

func TestTooManyConnections(t *testing.T) {
	w := newWorld(t, setup{unix: true})
	s, err := extauthz.NewServer(extauthz.ServerConfig{Name: "small", Authorization: w.auth, MaxConnections: 1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "small.sock"))
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = s.Serve(l) }()
	defer s.Shutdown(t.Context())
	first := dial(t, "unix:"+l.Addr().String(), insecure.NewCredentials())
	ask(t, first, w.question("GET", "/open", nil, ""))
	second, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	second.SetDeadline(time.Now().Add(10 * time.Second))
	if n, err := second.Read(make([]byte, 1)); err == nil {
		t.Errorf("the second connection got %d bytes, want it closed", n)
	}
	if open, refused := s.Stats(); open != 1 || refused != 1 {
		t.Errorf("%d open and %d refused, want 1 and 1", open, refused)
	}
}

// A source that panics is a fault of ours: the request is refused, and the server lives.
func TestPanic(t *testing.T) {
	w := newWorld(t, setup{})
	d, err := gateway.NewDecider(gateway.Config{
		Routes: []*gateway.Route{{Name: "open", Anonymous: true, CheckCertificate: func(context.Context, *certsource.Presented) error { panic("boom") }}},
		Source: w.decider.Source(),
	})
	if err != nil {
		t.Fatal(err)
	}
	w.auth.Reload(d)
	c := w.connect(t, w.envoy)
	if a := ask(t, c, w.question("GET", "/", w.L1, "")); a.allowed || a.status != http.StatusForbidden {
		t.Errorf("%+v, want 403", a)
	}
	if log := w.logged(); !strings.Contains(log, "boom") {
		t.Errorf("it is not recorded: %s", log)
	}
	if a := ask(t, c, w.question("GET", "/", nil, "")); !a.allowed {
		t.Errorf("the next one: %+v", a)
	}
}

func TestNewFaults(t *testing.T) {
	w := newWorld(t, setup{})
	own, err := gateway.NewDecider(gateway.Config{Routes: []*gateway.Route{{Name: "open", Anonymous: true}}, Source: certsource.TLS{}})
	if err != nil {
		t.Fatal(err)
	}
	hop := certsource.Hop{UnixSocket: true}
	for name, cfg := range map[string]extauthz.Config{
		"nothing":    {},
		"no decider": {Hop: hop},
		// Attack 18 as a setting.
		"the source is the connection": {Hop: hop, Decider: own},
		"nobody is trusted":            {Decider: w.decider},
	} {
		if a, err := extauthz.New(cfg); err == nil || a != nil {
			t.Errorf("%s: it was accepted", name)
		}
	}
	for name, cfg := range map[string]extauthz.ServerConfig{
		"nothing": {}, "negative": {Authorization: w.auth, MaxConnections: -1},
	} {
		if s, err := extauthz.NewServer(cfg); err == nil || s != nil {
			t.Errorf("server, %s: it was accepted", name)
		}
	}
	if _, err := extauthz.NewPeerSource(extauthz.PeerConfig{}); err == nil {
		t.Error("a source that trusts nobody was accepted")
	}
}

// FuzzCheck: whatever Envoy hands on of a client, there is an answer, and only the open
// route lets it pass.
func FuzzCheck(f *testing.F) {
	w := newWorld(f, setup{unix: true, xfcc: true, quiet: true})
	c := dial(f, w.address, insecure.NewCredentials())
	f.Add("GET", "/open", "rs.test", "authorization", "Bearer x")
	f.Add("GET", "/open/%2e%2e/orders", "rs.test:443", "x-forwarded-client-cert", xfcc(w.L1))
	f.Add("CONNECT", "rs.test:443", "", "x_client_id", "x")
	f.Add("GET", "/%6fpen?x", "[::1]", "connection", "x-forwarded-client-cert")
	f.Fuzz(func(t *testing.T, method, path, host, name, value string) {
		for _, s := range []*string{&method, &path, &host, &name, &value} {
			*s = strings.ToValidUTF8(*s, "")
		}
		q := &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Method: method, Path: path, Host: host, Headers: map[string]string{name: value},
		}}}}
		if a := ask(t, c, q); a.allowed {
			p, _, _ := strings.Cut(path, "?")
			if normal, err := gateway.NormalPath(p); err != nil || normal != "/open" && !strings.HasPrefix(normal, "/open/") {
				t.Errorf("allowed %q", path)
			}
		}
	})
}

// empty answers without looking.
type empty struct {
	authv3.UnimplementedAuthorizationServer
}

func (empty) Check(context.Context, *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	return &authv3.CheckResponse{HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{}}}, nil
}

// cpu returns the time that the process has computed.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkCheck is a question and its answer over a unix socket, client included: an empty
// answer, and the check with everything on, for a token that was seen before.
func BenchmarkCheck(b *testing.B) {
	run := func(b *testing.B, c authv3.AuthorizationClient, q *authv3.CheckRequest) {
		b.ReportAllocs()
		start := cpu()
		defer func() { b.ReportMetric(float64((cpu()-start).Nanoseconds())/1000/float64(b.N), "cpu-µs/op") }()
		for b.Loop() {
			resp, err := c.Check(b.Context(), q)
			if err != nil || resp.GetOkResponse() == nil {
				b.Fatal(resp, err)
			}
		}
	}
	for _, xfcc := range []bool{false, true} {
		name := "source.certificate"
		if xfcc {
			name = "XFCC"
		}
		w := newWorld(b, setup{unix: true, xfcc: xfcc, identity: identity, quiet: true})
		q := w.question("GET", "/orders/1", w.L1, w.Token(b, w.L1, nil))
		b.Run(name+"/empty", func(b *testing.B) {
			s := grpc.NewServer()
			authv3.RegisterAuthorizationServer(s, empty{})
			l, err := net.Listen("unix", filepath.Join(b.TempDir(), "e.sock"))
			if err != nil {
				b.Fatal(err)
			}
			go func() { _ = s.Serve(l) }()
			defer s.Stop()
			run(b, dial(b, "unix:"+l.Addr().String(), insecure.NewCredentials()), q)
		})
		b.Run(name+"/warm", func(b *testing.B) { run(b, dial(b, w.address, insecure.NewCredentials()), q) })
	}
}
