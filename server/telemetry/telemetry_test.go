package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/authserver/memstore"
	"github.com/certbound/certbound/authserver/storetest"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/internal/fixture"
)

// scrape returns the lines of the exposition.
func scrape(t testing.TB, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func has(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("the exposition lacks %q", line)
		}
	}
}

// Every reason is there before it happens: the rate of a counter that appears with its
// first event misses that event.
func TestEveryReasonBeginsAtZero(t *testing.T) {
	text := scrape(t, New("v1"))
	for _, reason := range decision.Reasons() {
		for _, endpoint := range judging {
			has(t, text, fmt.Sprintf(`certbound_decisions_total{endpoint="%s",outcome="refused",reason="%s"} 0`, endpoint, reason))
		}
		has(t, text, fmt.Sprintf(`certbound_warnings_total{reason="%s"} 0`, reason))
	}
	has(t, text, `certbound_decisions_total{endpoint="token",outcome="allowed",reason=""} 0`, `certbound_build_info{version="v1"} 1`)
}

func refused(r decision.Reason) *decision.Decision {
	d := decision.New()
	d.Fail(decision.Check{Name: decision.CheckChain, Reason: r})
	return d
}

func TestDecisionsAreCounted(t *testing.T) {
	m := New("")
	allowed := decision.New()
	allowed.Pass(decision.CheckClient, "", "c")
	allowed.Allow()
	allowed.Warnings = []decision.Check{{Reason: decision.SourceForeignHeader}}
	observe := m.Observer()
	m.Instrument("mtls", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		observe(r.Context(), allowed)
		observe(r.Context(), refused(decision.Expired))
		observe(r.Context(), refused("of a newer version"))
	})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/tenant/token", nil))
	observe(context.Background(), refused(decision.Expired))
	m.ObserverAt(EndpointAPI)(context.Background(), refused(decision.BindingMismatch))
	m.ObserverAt("invented")(context.Background(), refused(decision.BindingMismatch))
	has(t, scrape(t, m),
		`certbound_decisions_total{endpoint="token",outcome="allowed",reason=""} 1`,
		`certbound_decisions_total{endpoint="token",outcome="refused",reason="expired"} 1`,
		`certbound_decisions_total{endpoint="token",outcome="refused",reason="unspecified"} 1`,
		`certbound_decisions_total{endpoint="other",outcome="refused",reason="expired"} 1`,
		`certbound_decisions_total{endpoint="api",outcome="refused",reason="binding_mismatch"} 1`,
		`certbound_decisions_total{endpoint="other",outcome="refused",reason="binding_mismatch"} 1`,
		`certbound_warnings_total{reason="source_foreign_header"} 1`)
}

// The whole way: a request to the authorization server, its refusal, the metric.
func TestAuthorizationServerIsCounted(t *testing.T) {
	m := New("")
	as := fixture.Start(t, func(c *authserver.Config) { c.Observer, c.Store = m.Observer(), m.Store(c.Store) })
	as.Listen(t, "mtls.as.test", m.Instrument("mtls", as.Server.MTLSHandler()), 1 /* tls.RequestClientCert */)
	if a := fixture.Token(t, as.As(t, as.L1), "c-dn"); a.Status != http.StatusOK {
		t.Fatalf("status %d: %s", a.Status, a.Text)
	}
	if a := fixture.Token(t, as.As(t, as.L2), "c-dn"); a.Error() != "invalid_client" {
		t.Fatalf("status %d: %s", a.Status, a.Text)
	}
	if a := fixture.Token(t, as.As(t, nil), "c-dn"); a.Error() != "invalid_client" {
		t.Fatalf("status %d: %s", a.Status, a.Text)
	}
	text := scrape(t, m)
	has(t, text,
		`certbound_decisions_total{endpoint="token",outcome="allowed",reason=""} 1`,
		`certbound_decisions_total{endpoint="token",outcome="refused",reason="subject_mismatch"} 1`,
		`certbound_decisions_total{endpoint="token",outcome="refused",reason="no_certificate"} 1`,
		`certbound_request_duration_seconds_count{code="200",endpoint="token",listener="mtls"} 1`,
		`certbound_requests_in_flight{listener="mtls"} 0`)
	if strings.Contains(text, `certbound_store_duration_seconds_count{operation="SaveCertificate",result="ok"} 0`) {
		t.Error("the store was not timed")
	}
}

// What a stranger chooses never becomes a label.
func TestLabelsAreClosed(t *testing.T) {
	m := New("")
	h := m.Instrument("public", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(418) }))
	before := strings.Count(scrape(t, m), "\n")
	for i := range 200 {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(fmt.Sprintf("M%d", i), fmt.Sprintf("/%d/api", i), nil))
	}
	if after := strings.Count(scrape(t, m), "\n"); after > before {
		t.Errorf("the exposition grew from %d to %d lines", before, after)
	}
	has(t, scrape(t, m), `certbound_request_duration_seconds_count{code="400",endpoint="other",listener="public"} 200`)
	for path, want := range map[string]string{
		"/token": EndpointToken, "/a/b/introspect": EndpointIntrospect, "/revoke": EndpointRevoke, "/jwks": EndpointJWKS,
		"/.well-known/oauth-authorization-server/tenant": EndpointMetadata, "/tenant/.well-known/openid-configuration": EndpointMetadata,
		"/": EndpointOther, "": EndpointOther, "/token/": EndpointOther, "/metadata": EndpointOther, "/api": EndpointOther, "*": EndpointOther,
	} {
		if got := endpointOf(path); got != want {
			t.Errorf("%q is endpoint %q, want %q", path, got, want)
		}
	}
}

func TestPanicIsCounted(t *testing.T) {
	m := New("")
	h := m.Instrument("public", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	func() {
		defer func() {
			if recover() != http.ErrAbortHandler {
				t.Error("the panic did not go on")
			}
		}()
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	}()
	has(t, scrape(t, m), `certbound_request_duration_seconds_count{code="500",endpoint="other",listener="public"} 1`,
		`certbound_requests_in_flight{listener="public"} 0`)
}

func TestGauges(t *testing.T) {
	m := New("")
	end := time.Unix(2_000_000_000, 0)
	m.Certificate("listen.public", func() time.Time { return end })
	m.Certificate("listen.mtls", func() time.Time { return time.Time{} })
	m.Connections("mtls", func() (int64, int64) { return 3, 4 })
	m.Connections("public", func() (int64, int64) { return 1, 2 })
	m.Reloads("trust", func() Reload { return Reload{Generation: 7, Broken: true} })
	m.Reloads("listen.public", func() Reload { return Reload{} })
	text := scrape(t, m)
	has(t, text,
		`certbound_certificate_not_after_timestamp_seconds{name="listen.public"} 2e+09`,
		`certbound_connections_open{listener="mtls"} 3`, `certbound_connections_refused_total{listener="mtls"} 4`,
		`certbound_reload_generation{name="trust"} 7`, `certbound_reload_broken{name="trust"} 1`,
		`certbound_reload_broken{name="listen.public"} 0`)
	if strings.Contains(text, `name="listen.mtls"`) {
		t.Error("a certificate without an end is exported")
	}
}

// The timed store is a store like another.
func TestTimedStore(t *testing.T) {
	m := New("")
	storetest.Run(t, func(*testing.T) authserver.Store { return m.Store(memstore.New()) })
	text := scrape(t, m)
	if strings.Contains(text, `operation="Client",result="error"} 1`) {
		t.Error("a client that is not there counts as an error of the store")
	}
	s := memstore.New()
	s.Close()
	if err := m.Store(s).Ping(t.Context()); err == nil {
		t.Fatal("a closed store answers")
	}
	has(t, scrape(t, m), `certbound_store_duration_seconds_count{operation="Ping",result="error"} 2`) // one from the suite
}

const (
	jwt = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJjIn0.c2lnbmF0dXJl"
	pem = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIB\n-----END EC PRIVATE KEY-----"
)

type stringer struct{ s string }

func (s stringer) String() string { return s.s }

// No secret, token or key gets into the log, even where a part logs one by mistake.
func TestSecretsAreStruckOut(t *testing.T) {
	for _, test := range []struct {
		name   string
		attr   slog.Attr
		secret string // must not be there
		keep   string // must be there
	}{
		{"by name", slog.String("client_secret", "hunter2hunter2"), "hunter2", Redacted},
		{"by name in another spelling", slog.String("Client-Secret", "hunter2hunter2"), "hunter2", Redacted},
		{"a header field", slog.String("Authorization", "Basic Yzpz"), "Yzpz", Redacted},
		{"by name, not text", slog.Any("access_token", []string{"abc123"}), "abc123", Redacted},
		{"by name in a group", slog.Group("request", slog.String("password", "hunter2")), "hunter2", Redacted},
		{"a JWT in a text", slog.String("found", "token "+jwt+" of c"), "eyJ", "of c"},
		{"half a JWT", slog.String("found", jwt[:40]), "eyJ", Redacted},
		{"an opaque token of ours", slog.String("found", "x cbt_0123456789abcdef y"), "0123456789", " y"},
		{"a bearer token", slog.String("found", "Authorization: Bearer 0123456789abcdef"), "0123456789", "Bearer"},
		{"basic credentials", slog.String("found", "basic YzpzZWNyZXQ="), "YzpzZWNyZXQ", Redacted},
		{"a form", slog.String("body", "client_id=c&client_secret=hunter2&scope=read"), "hunter2", "scope=read"},
		{"an assertion in a form", slog.String("body", "client_assertion=abc.def&x=1"), "abc.def", "x=1"},
		{"a key", slog.String("file", pem), "MHcC", Redacted},
		{"half a key", slog.String("file", pem[:45]), "MHcC", Redacted},
		{"a private JWK", slog.String("jwk", `{"kty":"EC","x":"AAAAAAAAAAA","d":"BBBBBBBBBBB"}`), "BBBBBBBBBBB", "AAAAAAAAAAA"},
		{"a URL with a password", slog.String("url", "postgres://me:hunter2@db/x"), "hunter2", "@db/x"},
		{"in an error", slog.Any("error", fmt.Errorf("parsing: %w", errors.New(jwt))), "eyJ", "parsing"},
		{"in a Stringer", slog.Any("thing", stringer{"Bearer 0123456789abcdef"}), "0123456789", "Bearer"},
		{"in a struct", slog.Any("thing", struct{ A string }{jwt}), "eyJ", Redacted},
		{"in octets", slog.Any("thing", []byte(jwt)), "eyJ", Redacted},
		{"in a decision", slog.Any("decision", refusedWith(jwt)), "eyJ", "token_malformed"},
	} {
		for _, format := range []string{FormatJSON, FormatText} {
			t.Run(test.name+" as "+format, func(t *testing.T) {
				var b bytes.Buffer
				log, err := NewLogger(&b, format, "")
				if err != nil {
					t.Fatal(err)
				}
				log.Info("message", test.attr)
				log.With(test.attr).Info("message")
				if strings.Contains(b.String(), test.secret) || !strings.Contains(b.String(), test.keep) {
					t.Errorf("want %q struck out and %q kept: %s", test.secret, test.keep, b.String())
				}
			})
		}
	}
	var b bytes.Buffer
	log, err := NewLogger(&b, FormatJSON, "")
	if err != nil {
		t.Fatal(err)
	}
	log.Info("the message itself: " + jwt)
	if strings.Contains(b.String(), "eyJ") {
		t.Error("a token stands in the message")
	}
}

func refusedWith(found string) *decision.Decision {
	d := decision.New()
	d.Fail(decision.Check{Name: decision.CheckToken, Reason: decision.TokenMalformed, Found: found})
	return d
}

// What an operator needs is left as it is.
func TestOrdinaryTextIsKept(t *testing.T) {
	for _, s := range []string{
		"", "CN=client-1,O=Agora", "spiffe://agora.example/ns/x", "https://as.example:8443/token?x=1",
		"bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2", "the bearer of this", "basic", "postgres://db:5432/x",
		"expected a token of type at+jwt", "token=", "https://user@host/", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
	} {
		if got := Redact(s); got != s {
			t.Errorf("%q became %q", s, got)
		}
	}
	var b bytes.Buffer
	log, err := NewLogger(&b, FormatJSON, "")
	if err != nil {
		t.Fatal(err)
	}
	log.Info("x", "n", 1, "list", []string{"a"}, "error", errors.New("plain"), "kid", "k1", "token", "")
	var got map[string]any
	if err := json.Unmarshal(b.Bytes(), &got); err != nil || got["n"] != 1.0 || fmt.Sprint(got["list"]) != "[a]" || got["error"] != "plain" || got["kid"] != "k1" || got["token"] != "" {
		t.Errorf("the record is %s", b.String())
	}
}

func TestNewLogger(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, test := range []struct {
		name, format, level string
		w                   io.Writer
		wantJSON, wantDebug bool
		wantErr             bool
	}{
		{name: "defaults, no terminal", w: io.Discard, wantJSON: true},
		{name: "a file is no terminal", format: FormatAuto, w: file, wantJSON: true},
		{name: "text", format: FormatText, level: "debug", w: io.Discard, wantDebug: true},
		{name: "json", format: FormatJSON, level: "DEBUG", w: io.Discard, wantJSON: true, wantDebug: true},
		{name: "unknown format", format: "xml", w: io.Discard, wantErr: true},
		{name: "unknown level", level: "loud", w: io.Discard, wantErr: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			log, err := NewLogger(test.w, test.format, test.level)
			if (err != nil) != test.wantErr || (log == nil) != test.wantErr {
				t.Fatalf("logger %v, error %v", log, err)
			}
			if err != nil {
				return
			}
			if _, ok := log.Handler().(*jsonHandler); ok != test.wantJSON {
				t.Errorf("JSON %t, want %t", ok, test.wantJSON)
			}
			if got := log.Enabled(t.Context(), slog.LevelDebug); got != test.wantDebug {
				t.Errorf("debug %t, want %t", got, test.wantDebug)
			}
		})
	}
}

// A length of time is the same text in both formats.
func TestDurations(t *testing.T) {
	for _, format := range []string{FormatText, FormatJSON} {
		var b strings.Builder
		log, err := NewLogger(&b, format, "")
		if err != nil {
			t.Fatal(err)
		}
		log.Info("x", slog.Duration("took", 1500*time.Microsecond), slog.Group("in", slog.Duration("grace", 10*time.Second)))
		for _, want := range []string{"1.5ms", "10s"} {
			if !strings.Contains(b.String(), want) {
				t.Errorf("%s: no %s in %s", format, want, b.String())
			}
		}
	}
}

func FuzzRedact(f *testing.F) {
	for _, s := range []string{jwt, pem, "Bearer abcdefgh12345678", "client_secret=x", "://a:b@", `"d":"BBBBBBBBBBB"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		once := Redact(s)
		if twice := Redact(once); twice != once {
			t.Errorf("%q became %q and then %q", s, once, twice)
		}
		for _, secret := range []string{jwt, "cbt_0123456789abcdef"} {
			if strings.Contains(Redact(s+" "+secret+" "+s), secret) {
				t.Errorf("%q survived within %q", secret, s)
			}
		}
	})
}

// What counting adds to a request.
func BenchmarkInstrument(b *testing.B) {
	m := New("")
	d := decision.New()
	d.Pass(decision.CheckClient, "", "c")
	d.Allow()
	observe := m.Observer()
	h := m.Instrument("mtls", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { observe(r.Context(), d) }))
	w, r := httptest.NewRecorder(), httptest.NewRequest("POST", "/token", nil)
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(w, r)
	}
}
