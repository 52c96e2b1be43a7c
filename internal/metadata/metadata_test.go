package metadata

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestWellKnown(t *testing.T) {
	rows := []struct{ identifier, suffix, want string }{
		{"https://as.test", "oauth-authorization-server", "https://as.test/.well-known/oauth-authorization-server"},
		{"https://as.test/", "oauth-authorization-server", "https://as.test/.well-known/oauth-authorization-server"},
		{"https://as.test/t1", "oauth-authorization-server", "https://as.test/.well-known/oauth-authorization-server/t1"},
		{"https://as.test:8443/a/b/", "oauth-authorization-server", "https://as.test:8443/.well-known/oauth-authorization-server/a/b"},
		{"https://rs.test/a%2Fb?x=1", "oauth-protected-resource", "https://rs.test/.well-known/oauth-protected-resource/a%2Fb?x=1"},
	}
	for _, row := range rows {
		if got, err := WellKnown(row.identifier, row.suffix); err != nil || got != row.want {
			t.Errorf("WellKnown(%q) = %q, %v; want %q", row.identifier, got, err, row.want)
		}
	}
	if _, err := WellKnown("urn:x", "y"); err == nil {
		t.Error("no error for an identifier without host")
	}
}

func TestCheckIssuer(t *testing.T) {
	for issuer, ok := range map[string]bool{
		"https://as.test": true, "https://as.test/a": true, "https://[2001:db8::1]:8443": true,
		"": false, "as.test": false, "http://as.test": false, "https://": false, "https://as.test?x": false, "https://as.test?": false,
		"https://as.test#": false, "https://as.test#x": false, "https://u@as.test": false, "https://:443": false,
	} {
		if err := CheckIssuer(issuer); (err == nil) != ok {
			t.Errorf("CheckIssuer(%q) = %v, want ok: %v", issuer, err, ok)
		}
	}
}

func TestPrivate(t *testing.T) {
	for at, want := range map[string]bool{
		"https://as.test": false, "https://192.0.2.1": false, "https://[2001:db8::1]/x": false, "https://10.example": false,
		"https://localhost:1": true, "https://a.LOCALHOST.": true, "https://127.8.8.8": true, "https://[::1]": true,
		"https://10.0.0.1": true, "https://169.254.169.254": true, "https://[fe80::1]": true, "https://[::ffff:127.0.0.1]": true, "https://0.0.0.0": true,
	} {
		if got := Private(at); got != want {
			t.Errorf("Private(%q) = %v, want %v", at, got, want)
		}
	}
}

// What a server may answer to a fetch, and what becomes of it.
func TestFetch(t *testing.T) {
	var answer func(w http.ResponseWriter, r *http.Request, issuer string)
	var srv *httptest.Server
	srv = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { answer(w, r, srv.URL) }))
	defer srv.Close()
	json := func(body string) func(http.ResponseWriter, *http.Request, string) {
		return func(w http.ResponseWriter, _ *http.Request, issuer string) {
			w.Header().Set("Content-Type", "application/json; charset=utf-8")
			io.WriteString(w, strings.ReplaceAll(body, "ISSUER", issuer))
		}
	}
	rows := []struct {
		name   string
		answer func(http.ResponseWriter, *http.Request, string)
		ok     bool
	}{
		{"good", json(`{"issuer":"ISSUER","x":1}`), true},
		{"another issuer", json(`{"issuer":"https://other.test"}`), false},
		{"not JSON", json(`<html>`), false},
		{"endless", json(`{"issuer":"ISSUER","x":"` + strings.Repeat("x", MaxBytes) + `"}`), false},
		{"no type", func(w http.ResponseWriter, _ *http.Request, issuer string) {
			w.Header().Set("Content-Type", "text/html")
			io.WriteString(w, `{"issuer":"`+issuer+`"}`)
		}, false},
		{"500", func(w http.ResponseWriter, _ *http.Request, _ string) { w.WriteHeader(500) }, false},
		{"404 everywhere", func(w http.ResponseWriter, r *http.Request, _ string) { http.NotFound(w, r) }, false},
		{"redirect to a good one", func(w http.ResponseWriter, r *http.Request, issuer string) {
			if r.URL.Path == "/good" {
				json(`{"issuer":"ISSUER"}`)(w, r, issuer)
				return
			}
			http.Redirect(w, r, "/good", http.StatusFound)
		}, false},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			answer = row.answer
			doc, err := Fetch(t.Context(), srv.Client(), srv.URL)
			if (err == nil) != row.ok || (doc != nil) != row.ok {
				t.Fatalf("Fetch = %v, %v; want ok: %v", doc, err, row.ok)
			}
			if err != nil {
				if _, ok := errors.AsType[*Error](err); !ok {
					t.Errorf("undeclared error type %T", err)
				}
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Fetch(ctx, srv.Client(), srv.URL); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
}

func TestNoEndpoint(t *testing.T) {
	doc, err := Parse([]byte(`{"issuer":"https://as.test","token_endpoint":"http://as.test/token"}`), "https://as.test")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := doc.Endpoint("revocation_endpoint", true); !errors.Is(err, ErrNoEndpoint) {
		t.Errorf("error %v, want ErrNoEndpoint", err)
	}
	if at, err := doc.Endpoint("token_endpoint", false); err == nil {
		t.Errorf("an endpoint by http: %q", at)
	}
}
