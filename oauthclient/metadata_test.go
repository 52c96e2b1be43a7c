package oauthclient_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/certbound/certbound/oauthclient"
)

// The metadata of RFC 8705, Section 5, Figure 4.
const figure4 = `{"issuer":"https://server.example.com",
 "authorization_endpoint":"https://server.example.com/authz",
 "token_endpoint":"https://server.example.com/token",
 "introspection_endpoint":"https://server.example.com/introspect",
 "revocation_endpoint":"https://server.example.com/revo",
 "jwks_uri":"https://server.example.com/jwks",
 "response_types_supported":["code"],
 "response_modes_supported":["fragment","query","form_post"],
 "grant_types_supported":["authorization_code","refresh_token"],
 "token_endpoint_auth_methods_supported":["tls_client_auth","client_secret_basic","none"],
 "tls_client_certificate_bound_access_tokens":true,
 "mtls_endpoint_aliases":{ALIASES}}`

const (
	conventional = "https://server.example.com"
	alias        = "https://mtls.example.com"
	aliases      = `"token_endpoint":"https://mtls.example.com/token",
  "revocation_endpoint":"https://mtls.example.com/revo",
  "introspection_endpoint":"https://mtls.example.com/introspect"`
)

func TestEndpoint(t *testing.T) {
	rows := []struct {
		name, aliases, endpoint string
		mtls                    bool
		want                    string
		ids                     string
	}{
		{"token", aliases, "token_endpoint", true, alias + "/token", "TV-4a M-5-5"},
		{"revocation", aliases, "revocation_endpoint", true, alias + "/revo", "TV-4a M-5-5"},
		{"introspection", aliases, "introspection_endpoint", true, alias + "/introspect", "TV-4a M-5-5"},
		{"authorization", aliases, "authorization_endpoint", true, conventional + "/authz", "TV-4b"},
		{"token, no mutual TLS", aliases, "token_endpoint", false, conventional + "/token", "TV-4c M-5-8"},
		{"revocation, no mutual TLS", aliases, "revocation_endpoint", false, conventional + "/revo", "TV-4c M-5-8"},
		{"introspection, no mutual TLS", aliases, "introspection_endpoint", false, conventional + "/introspect", "TV-4c M-5-8"},
		{"no alias for this one", `"token_endpoint":"https://mtls.example.com/token"`, "revocation_endpoint", true, conventional + "/revo", "M-5-6"},
		{"no alias at all", ``, "token_endpoint", true, conventional + "/token", "M-5-6"},
		{"authorization has no alias", aliases + `,"authorization_endpoint":"https://evil.example/authz"`, "authorization_endpoint", true, conventional + "/authz", "M-5-7 TV-4b"},
		{"what is ignored may be anything", aliases + `,"jwks_uri":7,"issuer":"https://evil.example","foo":["x"],"authorization_endpoint":"http://evil.example"`, "token_endpoint", true, alias + "/token", "M-5-7"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Attr("requirement", row.ids+" TV-4d M-5-9")
			m, err := oauthclient.ParseMetadata([]byte(strings.Replace(figure4, "ALIASES", row.aliases, 1)), conventional)
			if err != nil {
				t.Fatal(err)
			}
			got, err := m.Endpoint(row.endpoint, row.mtls)
			if err != nil || got != row.want {
				t.Errorf("Endpoint = %q, %v; want %q", got, err, row.want)
			}
			if m.Issuer != conventional || m.JWKSURI != conventional+"/jwks" {
				t.Errorf("issuer %q, keys at %q", m.Issuer, m.JWKSURI)
			}
		})
	}
}

func TestMetadataRefused(t *testing.T) {
	whole := func(aliases string) string { return strings.Replace(figure4, "{ALIASES}", aliases, 1) }
	rows := []struct{ name, doc, issuer, ids string }{
		{"alias by http", whole(`{"token_endpoint":"http://mtls.example.com/token"}`), conventional, "M-5-11"},
		{"alias of revocation by http", whole(`{"revocation_endpoint":"http://mtls.example.com/revo"}`), conventional, "M-5-11 V-2-2"},
		{"relative alias", whole(`{"token_endpoint":"/token"}`), conventional, "M-5-11"},
		{"alias without host", whole(`{"token_endpoint":"https:///token"}`), conventional, "M-5-11"},
		{"alias is a number", whole(`{"token_endpoint":7}`), conventional, "M-5-11"},
		{"alias is empty", whole(`{"token_endpoint":""}`), conventional, "M-5-11"},
		{"alias with user", whole(`{"token_endpoint":"https://server.example.com@evil.example/token"}`), conventional, "M-5-11"},
		{"aliases are an array", whole(`["https://mtls.example.com/token"]`), conventional, "M-5-11"},
		{"aliases are a string", whole(`"https://mtls.example.com"`), conventional, "M-5-11"},
		{"aliases are null", whole(`null`), conventional, "M-5-11"},
		{"an alias twice", whole(`{"token_endpoint":"https://a.example","token_endpoint":"https://b.example"}`), conventional, "M-5-11"},
		{"private address", whole(`{"token_endpoint":"https://169.254.169.254/token"}`), conventional, ""},
		{"localhost", whole(`{"token_endpoint":"https://localhost/token"}`), conventional, ""},
		{"issuer in another case", whole(`{}`), "https://SERVER.example.com", "D-3.3-1"},
		{"issuer with a port", whole(`{}`), conventional + ":443", "D-3.3-1"},
		{"issuer with a slash", whole(`{}`), conventional + "/", "D-3.3-1"},
		{"another issuer", whole(`{}`), "https://other.example", "D-3.3-1 F2-5.3.3.1-11"},
		{"no issuer", `{"token_endpoint":"https://server.example.com/token"}`, conventional, "D-3.3-1"},
		{"issuer twice", `{"issuer":"https://server.example.com","issuer":"https://server.example.com"}`, conventional, "D-3.3-1"},
		{"flag is a string", `{"issuer":"https://server.example.com","tls_client_certificate_bound_access_tokens":"true"}`, conventional, ""},
		{"not an object", `[]`, conventional, ""},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Attr("requirement", row.ids)
			m, err := oauthclient.ParseMetadata([]byte(row.doc), row.issuer)
			if err == nil || m != nil {
				t.Errorf("ParseMetadata = %v, %v; want an error", m, err)
			}
		})
	}
}

func TestAbsentFlagIsFalse(t *testing.T) {
	t.Attr("requirement", "M-3.3-2")
	m, err := oauthclient.ParseMetadata([]byte(`{"issuer":"https://server.example.com"}`), conventional)
	if err != nil || m.BoundTokens {
		t.Errorf("%v, BoundTokens %v; want false", err, m.BoundTokens)
	}
}

// Where a client of each kind sends its requests (spec notes Q43).
func TestWhichEndpoint(t *testing.T) {
	w := newWorld(t)
	secret := func(c *oauthclient.Config) {
		c.AuthMethod, c.ClientSecret = oauthclient.ClientSecretBasic, "s3cret"
	}
	public := func(c *oauthclient.Config) { c.AuthMethod, c.Grant = oauthclient.None, clientCredentials }
	rows := []struct {
		name   string
		change func(*oauthclient.Config)
		alias  []string // the others are conventional
		ids    string
	}{
		{"tls_client_auth", nil, endpoints, "M-5-5"},
		{"secret with a certificate for binding", secret, []string{"token", "userinfo", "device_authorization"}, "M-5-5"},
		{"public client with a certificate", public, []string{"token", "userinfo", "device_authorization"}, "M-5-5"},
		{"secret, aliases by setting", func(c *oauthclient.Config) { secret(c); c.UseEndpointAliases = true }, endpoints, "F2-5.2.2.1-3"},
		{"secret without a certificate", func(c *oauthclient.Config) { secret(c); c.Certificate = nil }, nil, "M-5-8"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Attr("requirement", row.ids)
			c := w.client(row.change)
			want := make(map[string]string)
			for _, e := range endpoints {
				want[e] = w.as.URL + "/" + e
			}
			for _, e := range row.alias {
				want[e] = w.mtls.URL + "/" + e
			}
			for e, at := range want {
				if got, err := c.Endpoint(t.Context(), e+"_endpoint"); err != nil || got != at {
					t.Errorf("%s: %q, %v; want %q", e, got, err, at)
				}
			}
			if _, err := c.TokenSource(t.Context()).Token(); err != nil {
				t.Fatal(err)
			}
		})
	}
	for _, s := range w.as.at("/token") { // the conventional listener has not asked
		if s.cert != "" {
			t.Error("a certificate at the conventional endpoint")
		}
	}
}

// The metadata document moves the client nowhere that it may not go.
func TestHostsOfEndpoints(t *testing.T) {
	w := newWorld(t)
	lure := newRecorder(t, nil, func(w http.ResponseWriter, r *http.Request) { http.Error(w, "no", 500) })
	t.Run("alias host is not pinned", func(t *testing.T) {
		t.Attr("requirement", "GU-5")
		w.set(func() {
			w.metadata = func(doc map[string]any) {
				doc["mtls_endpoint_aliases"] = map[string]any{"token_endpoint": lure.URL + "/token"}
			}
		})
		c := w.client(func(cfg *oauthclient.Config) { cfg.PinAliasHosts = []string{host(w.mtls.Server)} })
		if _, err := c.TokenSource(t.Context()).Token(); !errors.Is(err, oauthclient.ErrHostNotAllowed) {
			t.Errorf("error %v, want ErrHostNotAllowed", err)
		}
		if n := len(lure.all()); n != 0 {
			t.Errorf("%d requests at the other host", n)
		}
	})
	t.Run("pinned", func(t *testing.T) {
		t.Attr("requirement", "GU-5")
		w.set(func() { w.metadata = nil })
		c := w.client(func(cfg *oauthclient.Config) { cfg.PinAliasHosts = []string{host(w.mtls.Server)} })
		if _, err := c.TokenSource(t.Context()).Token(); err != nil {
			t.Error(err)
		}
	})
	t.Run("no alias where one is demanded", func(t *testing.T) {
		w.set(func() { w.metadata = func(doc map[string]any) { delete(doc, "mtls_endpoint_aliases") } })
		c := w.client(func(cfg *oauthclient.Config) { cfg.RequireAliases = true })
		if _, err := c.TokenSource(t.Context()).Token(); err == nil {
			t.Error("no error without alias")
		}
		c = w.client(nil) // without the setting, it falls back
		before := len(w.as.at("/token"))
		if _, err := c.TokenSource(t.Context()).Token(); err != nil || len(w.as.at("/token")) != before+1 {
			t.Errorf("no request at the conventional endpoint: %v", err)
		}
	})
	t.Run("another issuer's document", func(t *testing.T) {
		t.Attr("requirement", "D-3.3-1 F2-5.3.3.1-11")
		w.set(func() {
			w.metadata = func(doc map[string]any) {
				doc["issuer"] = "https://other.example"
				doc["mtls_endpoint_aliases"] = map[string]any{"token_endpoint": lure.URL + "/token"}
			}
		})
		before := len(w.as.at("/token")) + len(w.mtls.at("/token"))
		if _, err := w.client(nil).TokenSource(t.Context()).Token(); err == nil {
			t.Error("no error")
		}
		if n := len(lure.all()); n != 0 || len(w.as.at("/token"))+len(w.mtls.at("/token")) != before {
			t.Error("a request was sent on the word of another issuer's document")
		}
	})
}

// Issuer B names the endpoint of issuer A as its own. The client of B goes there as the
// client of B, with the certificate for B, and nothing of A's.
func TestTwoIssuers(t *testing.T) {
	t.Attr("requirement", "GU-4 K-5-1 GU-3 F2-6.3-1")
	a, b := newWorld(t), newWorld(t)
	b.set(func() {
		b.metadata = func(doc map[string]any) {
			doc["mtls_endpoint_aliases"] = map[string]any{"token_endpoint": a.mtls.URL + "/token"}
		}
	})
	ca := a.client(nil)
	cb := b.client(func(cfg *oauthclient.Config) {
		cfg.ClientID, cfg.Certificate = "client-at-b", oauthclient.Static(certs().l2.TLS())
	})
	for _, c := range []*oauthclient.Client{ca, cb, ca} {
		if _, err := c.TokenSource(t.Context()).Token(); err != nil {
			t.Fatal(err)
		}
	}
	got := a.mtls.at("/token")
	if len(got) != 2 {
		t.Fatalf("%d token requests, want 2", len(got))
	}
	if id, cert := got[0].form.Get("client_id"), got[0].cert; id != "client-1" || cert != thumb(certs().l1) {
		t.Errorf("for A: %q with %q", id, cert)
	}
	if id, cert := got[1].form.Get("client_id"), got[1].cert; id != "client-at-b" || cert != thumb(certs().l2) {
		t.Errorf("for B: %q with %q", id, cert)
	}
}

// The well-known path of an issuer with a path, and the one of OpenID Connect behind it.
func TestWellKnown(t *testing.T) {
	t.Attr("requirement", "D-3-1")
	for path, want := range map[string]string{"/t1": "/.well-known/oauth-authorization-server/t1", "/t1/": "/.well-known/oauth-authorization-server/t1", "": "/.well-known/oauth-authorization-server"} {
		var s *recorder
		s = newRecorder(t, nil, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			json.NewEncoder(w).Encode(map[string]any{"issuer": s.URL + path, "token_endpoint": s.URL + "/token"})
		})
		cfg := newWorld(t).config(func(c *oauthclient.Config) { c.Issuer = s.URL + path })
		c, err := oauthclient.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Discover(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := s.all()[0]; got.path != want || got.cert != "" {
			t.Errorf("fetched %q with certificate %q, want %q without", got.path, got.cert, want)
		}
	}
	var s *recorder
	s = newRecorder(t, nil, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/realm/.well-known/openid-configuration" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"issuer":%q}`, s.URL+"/realm")
	})
	c, err := oauthclient.New(newWorld(t).config(func(c *oauthclient.Config) { c.Issuer = s.URL + "/realm" }))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Discover(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestDiscoverResource(t *testing.T) {
	w := newWorld(t)
	var doc string
	var rs *recorder
	rs = newRecorder(t, nil, func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "application/json")
		if r.URL.Path == "/.well-known/oauth-protected-resource/api" {
			fmt.Fprintf(rw, doc, rs.URL)
			return
		}
		http.NotFound(rw, r)
	})
	c := w.client(nil)
	issuer := w.as.URL
	rows := []struct {
		name, doc, ids string
		ok             bool
	}{
		{"good", `{"resource":"%s/api","authorization_servers":["` + issuer + `"],"tls_client_certificate_bound_access_tokens":true}`, "PR-2-4", true},
		{"no servers named", `{"resource":"%s/api"}`, "", true},
		{"another resource", `{"resource":"%s/other"}`, "PR-3.3-1", false},
		{"with a slash", `{"resource":"%s/api/"}`, "PR-3.3-1", false},
		{"another issuer", `{"resource":"%s/api","authorization_servers":["https://other.example"]}`, "", false},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Attr("requirement", row.ids)
			doc = row.doc
			m, err := c.DiscoverResource(t.Context(), rs.URL+"/api")
			if (err == nil) != row.ok || !row.ok && !errors.Is(err, oauthclient.ErrResourceMetadata) {
				t.Fatalf("error %v", err)
			}
			if row.name == "good" && !m.BoundTokens {
				t.Error("BoundTokens is false")
			}
		})
	}
	t.Run("the issuer does not list it", func(t *testing.T) {
		t.Attr("requirement", "PR-4-1")
		w.set(func() {
			w.metadata = func(doc map[string]any) { doc["protected_resources"] = []string{"https://other.example"} }
		})
		doc = rows[0].doc
		if _, err := w.client(nil).DiscoverResource(t.Context(), rs.URL+"/api"); !errors.Is(err, oauthclient.ErrResourceMetadata) {
			t.Errorf("error %v, want ErrResourceMetadata", err)
		}
	})
	for _, s := range rs.all() {
		if s.cert != "" || s.header.Get("Authorization") != "" {
			t.Error("metadata was fetched with credentials")
		}
	}
}
