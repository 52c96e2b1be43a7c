package grpcresource_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/pkitest"
	"github.com/certbound/certbound/resourceserver"
	"github.com/certbound/certbound/resourceserver/grpcresource"
)

// The matrix: what each token does with each certificate, in every kind of call. It is the
// one of the HTTP middleware, and so are the answers.
func TestMatrix(t *testing.T) {
	t.Attr("requirement", "M-1-4 M-3-11 M-3-13 B-3-1")
	p := certs()
	connections := []struct {
		name    string
		leaf    *pkitest.Leaf
		resumed bool
		bound   decision.Reason // what becomes of a token that is bound to p.right
	}{
		{"no certificate", nil, false, decision.NoCertificate},
		{"wrong", p.wrong, false, decision.BindingMismatch},
		{"self-signed with the name", p.self, false, decision.BindingMismatch},
		{"right", p.right, false, ""},
		{"right, resumed session", p.right, true, ""},
		{"wrong, resumed session", p.wrong, true, decision.BindingMismatch},
	}
	tls12 := func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }
	for _, version := range []struct {
		name   string
		change func(*tls.Config)
	}{{"TLS 1.3", func(*tls.Config) {}}, {"TLS 1.2", tls12}} {
		for _, c := range connections {
			t.Run(version.name+"/"+c.name, func(t *testing.T) {
				w := newWorld(t, nil)
				change := version.change
				if c.resumed {
					sessions := tls.NewLRUClientSessionCache(4)
					change = func(conf *tls.Config) { version.change(conf); conf.ClientSessionCache = sessions }
					first := w.connect(c.leaf, change)
					w.wantCH(t, call(t.Context(), first, unaryCall))
					first.Close()
				}
				conn := w.connect(c.leaf, change)
				var at peer.Peer
				w.wantCH(t, call(t.Context(), conn, unaryCall, grpc.Peer(&at)))
				if info, ok := at.AuthInfo.(credentials.TLSInfo); !ok || info.State.DidResume != c.resumed {
					t.Fatalf("resumed: %t, want %t", info.State.DidResume, c.resumed)
				}
				for _, method := range []string{unaryCall, downCall, upCall, bidiCall} {
					w.wantCH(t, call(t.Context(), conn, method))
					w.wantIT(t, call(bearer(t.Context(), w.token(nil)), conn, method), decision.NotBound)
					r := call(bearer(t.Context(), w.token(cnf(p.right))), conn, method)
					if c.bound == "" {
						w.wantOK(t, r)
						continue
					}
					w.wantIT(t, r, c.bound)
				}
			})
		}
	}
}

// TestAttack22 (Authlete's cache test, MSAL #6123): somebody with a stolen token calls
// right after its owner, when everything about the token is in the cache, and the other way
// round. The certificates are compared anew for each call.
func TestAttack22_SameTokenThreeCertificatesWarmCache(t *testing.T) {
	t.Attr("attack", "22")
	t.Attr("requirement", "M-3-16")
	p := certs()
	w := newWorld(t, nil)
	token := w.token(cnf(p.right))
	owner, thief, nobody := w.connect(p.right, nil), w.connect(p.wrong, nil), w.connect(nil, nil)
	for range 2 {
		for _, method := range []string{unaryCall, bidiCall} {
			w.wantOK(t, call(bearer(t.Context(), token), owner, method))
			w.wantIT(t, call(bearer(t.Context(), token), thief, method), decision.BindingMismatch)
			w.wantIT(t, call(bearer(t.Context(), token), nobody, method), decision.NoCertificate)
			w.wantOK(t, call(bearer(t.Context(), token), owner, method))
		}
	}
}

// TestAttack24 (Abblix #159): one endpoint of a protected API was forgotten, and took the
// bound token without its certificate. Here every method of every service is called, as
// the server lists them, with a token that is bound and no, a wrong and the right
// certificate, and with a bearer token.
func TestAttack24_EveryMethodNeedsTheCertificate(t *testing.T) {
	t.Attr("attack", "24")
	p := certs()
	w := newWorld(t, func(s *settings) { s.grpc.Exempt, s.grpc.AllowAnyMethod = nil, true })
	bound := w.token(with(cnf(p.right), "scope", "read admin"))
	unbound := w.token(map[string]any{"scope": "read admin"})
	owner, thief, nobody := w.connect(p.right, nil), w.connect(p.wrong, nil), w.connect(nil, nil)
	methods := 0
	for service, info := range w.server.GetServiceInfo() {
		for _, m := range info.Methods {
			methods++
			name := "/" + service + "/" + m.Name
			raw := func(conn *grpc.ClientConn, token string) reply {
				ctx, cancel := context.WithCancel(bearer(t.Context(), token))
				defer cancel()
				s, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, name)
				if err != nil {
					t.Fatal(err)
				}
				empty := new(grpc_testing.Empty)
				s.SendMsg(empty) // its failure is told by RecvMsg
				s.CloseSend()
				err = s.RecvMsg(empty)
				return replyOf(err, nil, s.Trailer(), "")
			}
			w.wantIT(t, raw(nobody, bound), decision.NoCertificate)
			w.wantIT(t, raw(thief, bound), decision.BindingMismatch)
			w.wantIT(t, raw(owner, unbound), decision.NotBound)
			if r := raw(owner, bound); r.code == codes.Unauthenticated || r.code == codes.PermissionDenied {
				t.Errorf("%s: %s for the owner", name, r.code)
			}
		}
	}
	if methods < 10 {
		t.Errorf("%d methods, want those of two services", methods)
	}
}

// A method without a rule is closed, whatever the caller has; the operator reads why.
func TestMethodWithoutRule(t *testing.T) {
	p := certs()
	w := newWorld(t, func(s *settings) { s.grpc.Methods = map[string][]string{unaryCall: {"read"}} })
	conn := w.connect(p.right, nil)
	good := bearer(t.Context(), w.token(cnf(p.right)))
	w.wantOK(t, call(good, conn, unaryCall))
	for _, method := range []string{emptyCall, bidiCall, downCall} {
		for _, ctx := range []context.Context{good, t.Context()} {
			r := call(ctx, conn, method)
			if r.code != codes.PermissionDenied || challenge(r) != "" || r.body != "" {
				t.Errorf("%s: %s, challenge %q; want PermissionDenied and no challenge", method, r.code, challenge(r))
			}
			if got := w.last().Reason(); got != decision.RouteUnknown {
				t.Errorf("reason %q, want %q", got, decision.RouteUnknown)
			}
		}
	}
	if !strings.Contains(w.text(), emptyCall) {
		t.Error("the log does not name the method")
	}
}

func TestAllowAnyMethod(t *testing.T) {
	p := certs()
	w := newWorld(t, func(s *settings) { s.grpc.Methods, s.grpc.AllowAnyMethod = nil, true })
	conn := w.connect(p.right, nil)
	w.wantOK(t, call(bearer(t.Context(), w.token(cnf(p.right))), conn, unaryCall))
	w.wantCH(t, call(t.Context(), conn, unaryCall))
}

func TestScopes(t *testing.T) {
	p := certs()
	w := newWorld(t, nil)
	conn := w.connect(p.right, nil)
	read := bearer(t.Context(), w.token(cnf(p.right)))
	r := call(read, conn, emptyCall) // the rule of the method counts before that of its service
	if want := `Bearer error="insufficient_scope", error_description="the access token lacks a scope", scope="read admin"`; r.code != codes.PermissionDenied || challenge(r) != want {
		t.Errorf("%s, challenge %q; want PermissionDenied, %q", r.code, challenge(r), want)
	}
	if len(r.header.Get("www-authenticate")) != 1 || len(r.trailer.Get("www-authenticate")) != 1 {
		t.Errorf("header %v, trailer %v; want the challenge once in each", r.header, r.trailer)
	}
	if r := call(bearer(t.Context(), w.token(with(cnf(p.right), "scope", "admin read"))), conn, emptyCall); r.code != codes.OK {
		t.Errorf("%s with all scopes", r.code)
	}
	for _, method := range []string{unaryCall, bidiCall} {
		r := call(bearer(t.Context(), w.token(with(cnf(p.right), "scope", "write"))), conn, method)
		if r.code != codes.PermissionDenied || w.last().Reason() != decision.ScopeInsufficient {
			t.Errorf("%s: %s, %s", method, r.code, w.last().Reason())
		}
	}
}

// Health checks come from machines that have no token; they are exempt only where the
// configuration names them.
func TestExempt(t *testing.T) {
	w := newWorld(t, nil)
	if r := call(t.Context(), w.connect(nil, nil), healthCall); r.code != codes.OK {
		t.Errorf("%s, want OK", r.code)
	}
	w = newWorld(t, func(s *settings) { s.grpc.Exempt = nil })
	if r := call(t.Context(), w.connect(nil, nil), healthCall); r.code != codes.PermissionDenied {
		t.Errorf("%s, want PermissionDenied", r.code)
	}
}

// What is wrong with the credentials themselves.
func TestCredentials(t *testing.T) {
	p := certs()
	w := newWorld(t, nil)
	conn := w.connect(p.right, nil)
	good := w.token(cnf(p.right))
	tests := []struct {
		name   string
		values []string
		want   decision.Reason
	}{
		{"lower case", []string{"bearer " + good}, ""},
		{"another scheme", []string{"Basic eDp5"}, decision.NoToken},
		{"DPoP", []string{"DPoP " + good}, decision.BindingUncheckable},
		{"twice", []string{"Bearer " + good, "Bearer " + good}, decision.TokenTwice},
		{"empty", []string{"Bearer "}, decision.RequestMalformed},
		{"no token at all", []string{"Bearer x"}, decision.TokenMalformed},
		{"expired", []string{"Bearer " + w.token(with(cnf(p.right), "exp", 1))}, decision.TokenExpired},
		{"for another resource", []string{"Bearer " + w.token(with(cnf(p.right), "aud", "https://other.test"))}, decision.AudienceMismatch},
		{"of another issuer", []string{"Bearer " + w.token(with(cnf(p.right), "iss", "https://other.test"))}, decision.IssuerMismatch},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx := t.Context()
			for _, v := range tt.values {
				ctx = metadata.AppendToOutgoingContext(ctx, "authorization", v)
			}
			r := call(ctx, conn, unaryCall)
			if tt.want == "" {
				w.wantOK(t, r)
				return
			}
			if r.code != codes.Unauthenticated || !strings.HasPrefix(challenge(r), "Bearer") || w.last().Reason() != tt.want {
				t.Errorf("%s, challenge %q, reason %q; want Unauthenticated, %q", r.code, challenge(r), w.last().Reason(), tt.want)
			}
		})
	}
}

// An issuer that must be asked and cannot be is no matter of credentials: the client is
// told to try again, not to get another token.
func TestIssuerUnavailable(t *testing.T) {
	p := certs()
	w := newWorld(t, func(s *settings) {
		down := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }))
		t.Cleanup(down.Close)
		s.verifier.Issuer = down.URL
		s.verifier.HTTPClient = down.Client()
		s.verifier.Keys = resourceserver.Keys{}
	})
	for _, method := range []string{unaryCall, bidiCall} {
		r := call(bearer(t.Context(), w.token(cnf(p.right))), w.connect(p.right, nil), method)
		if r.code != codes.Unavailable || challenge(r) != "" || !slices.Equal(r.trailer.Get("grpc-retry-pushback-ms"), []string{"1000"}) {
			t.Errorf("%s: %s, trailer %v; want Unavailable, with a time to wait and no challenge", method, r.code, r.trailer)
		}
	}
}

// Behind a proxy the certificate comes in the metadata, from that proxy alone.
func TestBehindProxy(t *testing.T) {
	p := certs()
	rfc9440 := certsource.Presets()[slices.IndexFunc(certsource.Presets(), func(p certsource.Preset) bool { return p.Name == "rfc9440" })]
	forwarded := func(ctx context.Context, leaf *pkitest.Leaf) context.Context {
		for name, values := range rfc9440.Forward(leaf.Cert) {
			for _, v := range values {
				ctx = metadata.AppendToOutgoingContext(ctx, strings.ToLower(name), v)
			}
		}
		return ctx
	}
	behind := func(prefix string) func(*settings) {
		return func(s *settings) {
			src, err := certsource.NewPreset("rfc9440", certsource.PresetConfig{
				Hop: certsource.Hop{Prefixes: []netip.Prefix{netip.MustParsePrefix(prefix)}},
			})
			if err != nil {
				t.Fatal(err)
			}
			s.verifier.Source, s.creds = src, insecure.NewCredentials()
		}
	}
	plain := grpc.WithTransportCredentials(insecure.NewCredentials())

	t.Run("the proxy", func(t *testing.T) {
		w := newWorld(t, behind("127.0.0.0/8"))
		conn := w.connectWith(plain)
		token := w.token(cnf(p.right))
		for _, method := range []string{unaryCall, bidiCall} {
			w.wantOK(t, call(forwarded(bearer(t.Context(), token), p.right), conn, method))
			w.wantIT(t, call(forwarded(bearer(t.Context(), token), p.wrong), conn, method), decision.BindingMismatch)
			w.wantIT(t, call(bearer(t.Context(), token), conn, method), decision.NoCertificate)
		}
		r := call(metadata.AppendToOutgoingContext(bearer(t.Context(), token), "client-cert", "nonsense"), conn, unaryCall)
		if r.code != codes.Unauthenticated || w.last().Reason() != decision.SourceMalformed {
			t.Errorf("%s, %s", r.code, w.last().Reason())
		}
	})
	t.Run("somebody else", func(t *testing.T) {
		w := newWorld(t, behind("192.0.2.0/24"))
		r := call(forwarded(bearer(t.Context(), w.token(cnf(p.right))), p.right), w.connectWith(plain), unaryCall)
		if r.code != codes.Unauthenticated || w.last().Reason() != decision.SourceUntrusted {
			t.Errorf("%s, %s; want Unauthenticated, %s", r.code, w.last().Reason(), decision.SourceUntrusted)
		}
	})
	t.Run("no proxy configured", func(t *testing.T) {
		// A thief with the token and the certificate, but without its key, writes the
		// certificate into the metadata. Nobody reads it there; the log says so.
		w := newWorld(t, nil)
		for _, conn := range []*grpc.ClientConn{w.connect(nil, nil), w.connect(p.wrong, nil)} {
			r := call(forwarded(bearer(t.Context(), w.token(cnf(p.right))), p.right), conn, unaryCall)
			if r.code != codes.Unauthenticated || len(w.last().Warnings) == 0 || w.last().Warnings[0].Reason != decision.SourceForeignHeader {
				t.Errorf("%s, warnings %v", r.code, w.last().Warnings)
			}
		}
	})
	t.Run("no TLS and no proxy", func(t *testing.T) {
		w := newWorld(t, func(s *settings) { s.creds = insecure.NewCredentials() })
		w.wantIT(t, call(bearer(t.Context(), w.token(cnf(p.right))), w.connectWith(plain), unaryCall), decision.NoCertificate)
	})
}

// serveHTTP runs a world as the handler of an http.Server, which is the other way.
func (w *world) serveHTTP(t *testing.T) {
	t.Helper()
	s := httptest.NewUnstartedServer(certsource.RequireAuthority(w.server))
	s.EnableHTTP2 = true
	s.Config.ConnContext = certsource.ConnContext
	s.TLS = &tls.Config{
		Certificates: []tls.Certificate{serverCertificate()},
		ClientAuth:   tls.RequestClientCert,
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	w.listen = s.Listener
}

func TestServeHTTP(t *testing.T) {
	p := certs()
	w := newWorld(t, nil)
	w.serveHTTP(t)
	token := w.token(cnf(p.right))
	owner, thief := w.connect(p.right, nil), w.connect(p.wrong, nil)
	for _, method := range []string{unaryCall, downCall, upCall, bidiCall} {
		w.wantOK(t, call(bearer(t.Context(), token), owner, method))
		if w.last().Peer == "" {
			t.Error("the decision has no peer")
		}
		w.wantIT(t, call(bearer(t.Context(), token), thief, method), decision.BindingMismatch)
		w.wantCH(t, call(t.Context(), owner, method))
	}
}

// Interceptors that run before ours can tell why a call was refused.
func TestOuterInterceptor(t *testing.T) {
	seen := make(chan error, 2)
	p := certs()
	w := newWorld(t, func(s *settings) {
		s.options = []grpc.ServerOption{
			grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
				out, err := h(ctx, req)
				seen <- err
				return out, err
			}),
			grpc.ChainStreamInterceptor(func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) error {
				err := h(srv, ss)
				seen <- err
				return err
			}),
		}
	})
	for _, method := range []string{unaryCall, bidiCall} {
		call(bearer(t.Context(), w.token(cnf(p.right))), w.connect(p.wrong, nil), method)
		if e, ok := errors.AsType[*resourceserver.Error](<-seen); !ok || e.Reason() != decision.BindingMismatch {
			t.Errorf("%s: no *resourceserver.Error with the reason", method)
		}
	}
}

func TestCheck(t *testing.T) {
	w := newWorld(t, func(s *settings) { s.grpc.Exempt = []string{"/grpc.health.v1.Health/*"} })
	if err := w.i.Check(w.server); err != nil {
		t.Error(err)
	}
	w = newWorld(t, func(s *settings) {
		s.grpc.Methods = map[string][]string{unaryCall: nil, "/grpc.testing.TestService/UnaryCal": nil, "/other.Service/*": nil}
		s.grpc.Exempt = nil
	})
	err := w.i.Check(w.server)
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("no faults: %v", err)
	}
	for _, want := range []string{emptyCall, healthCall, "/grpc.testing.TestService/UnaryCal:", "/other.Service/*"} {
		if !slices.ContainsFunc(joined.Unwrap(), func(e error) bool { return strings.Contains(e.Error(), want) }) {
			t.Errorf("no fault names %s", want)
		}
	}
	if strings.Contains(err.Error(), unaryCall+":") {
		t.Error("a method with a rule is reported")
	}
}

func TestNewRefuses(t *testing.T) {
	w := newWorld(t, nil)
	good := func() grpcresource.Config {
		return grpcresource.Config{Verifier: w.verifier, Methods: map[string][]string{"/a.B/C": {"read"}, "/a.B/*": nil}}
	}
	if _, err := grpcresource.New(good()); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		change func(*grpcresource.Config)
		faults int
	}{
		{"no verifier", func(c *grpcresource.Config) { c.Verifier = nil }, 1},
		{"nothing at all", func(c *grpcresource.Config) { *c = grpcresource.Config{} }, 2},
		{"no slash", func(c *grpcresource.Config) { c.Methods = map[string][]string{"a.B/C": nil} }, 1},
		{"no method", func(c *grpcresource.Config) { c.Methods = map[string][]string{"/a.B/": nil} }, 1},
		{"no service", func(c *grpcresource.Config) { c.Methods = map[string][]string{"//C": nil} }, 1},
		{"service only", func(c *grpcresource.Config) { c.Methods = map[string][]string{"/a.B": nil} }, 1},
		{"all", func(c *grpcresource.Config) { c.Exempt = []string{"/*"} }, 1},
		{"all services", func(c *grpcresource.Config) { c.Exempt = []string{"/*/*"} }, 1},
		{"part of a name", func(c *grpcresource.Config) { c.Exempt = []string{"/a.B/C*"} }, 1},
		{"not a scope", func(c *grpcresource.Config) { c.Methods = map[string][]string{"/a.B/C": {"read write", ""}} }, 2},
		{"two rules for a method", func(c *grpcresource.Config) { c.Exempt = []string{"/a.B/C"} }, 1},
		{"two rules for a service", func(c *grpcresource.Config) { c.Exempt = []string{"/a.B/*"} }, 1},
		{"recheck of what does not end", func(c *grpcresource.Config) { c.InsecureUnendingStreams, c.RecheckEvery = true, 1 }, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := good()
			tt.change(&c)
			i, err := grpcresource.New(c)
			joined, ok := err.(interface{ Unwrap() []error })
			if i != nil || !ok || len(joined.Unwrap()) != tt.faults {
				t.Errorf("got %v, %v, want %d faults", i, err, tt.faults)
			}
		})
	}
}
