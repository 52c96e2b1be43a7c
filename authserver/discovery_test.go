package authserver_test

import (
	"crypto/tls"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/clientauth"
	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/internal/metadata"
)

const wellKnown = "/.well-known/oauth-authorization-server"

func TestMetadata(t *testing.T) {
	as := fixture.Start(t)
	none := as.As(t, nil)
	doc := fixture.Get(t, none, fixture.Issuer+wellKnown)

	proves(t, "D-3-1 D-3.2-1 G-2.6-1 M-5-9", "where it is", func(t *testing.T) {
		for _, at := range []string{fixture.Issuer + wellKnown, fixture.Issuer + "/.well-known/openid-configuration", fixture.MTLSBase + wellKnown} {
			r := fixture.Get(t, none, at)
			if r.Status != 200 || r.Header.Get("Content-Type") != "application/json" || r.JSON["issuer"] != fixture.Issuer || r.Text != doc.Text {
				t.Errorf("%s: %d %s", at, r.Status, r.Text)
			}
		}
		if r := fixture.Post(t, none, fixture.Issuer+wellKnown); r.Status != 405 {
			t.Error(r.Status)
		}
		if strings.Contains(doc.Text, "[]") || strings.Contains(doc.Text, "{}") || strings.Contains(doc.Text, "null") {
			t.Errorf("empty members: %s", doc.Text)
		}
	})
	proves(t, "D-3-1", "issuers with a path", func(t *testing.T) {
		for _, issuer := range []string{"https://as.test/t1", "https://as.test/t1/"} {
			as := fixture.Start(t, func(c *authserver.Config) { c.Issuer = issuer })
			for _, at := range []string{wellKnown + "/t1", "/.well-known/openid-configuration/t1", "/t1/.well-known/openid-configuration"} {
				r := fixture.Get(t, as.As(t, nil), fixture.Issuer+at)
				if r.Status != 200 || r.JSON["issuer"] != issuer || r.JSON["token_endpoint"] != "https://as.test/t1/token" {
					t.Errorf("%s %s: %d %s", issuer, at, r.Status, r.Text)
				}
			}
			if r := fixture.Get(t, as.As(t, nil), fixture.Issuer+wellKnown); r.Status != 404 {
				t.Errorf("metadata of another issuer: %d", r.Status)
			}
			wantOK(t, fixture.Post(t, as.As(t, nil), fixture.Issuer+"/t1/token", "grant_type", "client_credentials", "Authorization", fixture.Basic("c-sec", as.Secret)))
			wantOK(t, fixture.Token(t, as.As(t, as.L1), "c-dn"))
		}
	})
	proves(t, "D-2-2 D-2-3 D-2-4 D-2-5 M-2.1.1-1 M-2.2.1-1 M-9.3-1 M-9.3-2", "methods", func(t *testing.T) {
		all := as.Config.AuthMethods
		for _, m := range []struct {
			member string
			want   []string
		}{
			{"token_endpoint_auth_methods_supported", all},
			{"revocation_endpoint_auth_methods_supported", all},
			{"introspection_endpoint_auth_methods_supported", slices.DeleteFunc(slices.Clone(all), func(s string) bool { return s == authserver.None })},
		} {
			if got := stringsOf(doc.JSON[m.member]); !slices.Equal(got, m.want) {
				t.Errorf("%s: %v", m.member, got)
			}
		}
		if algs := stringsOf(doc.JSON["token_endpoint_auth_signing_alg_values_supported"]); len(algs) == 0 || slices.Contains(algs, "none") {
			t.Errorf("algorithms %v", algs)
		}
	})
	proves(t, "M-3.3-1 M-9.2-1 M-9.2-2 D-2-6 M-5-2 M-5-3 M-5-4 F2-5.2.2.1-2", "bound tokens and aliases", func(t *testing.T) {
		if doc.JSON["tls_client_certificate_bound_access_tokens"] != true {
			t.Error(doc.Text)
		}
		aliases, _ := doc.JSON["mtls_endpoint_aliases"].(map[string]any)
		if len(aliases) != 4 {
			t.Errorf("aliases %v", aliases)
		}
		for name, at := range aliases {
			if !strings.HasSuffix(name, "_endpoint") || !metadata.IsDirect(name) || doc.JSON[name] == nil || !strings.HasPrefix(at.(string), fixture.MTLSBase+"/") {
				t.Errorf("%s: %v", name, at)
			}
			if r := fixture.Post(t, as.As(t, nil), at.(string)); r.Error() != "invalid_client" {
				t.Errorf("%s is not served: %d %s", name, r.Status, r.Text)
			}
		}
		for _, name := range []string{"token_endpoint", "introspection_endpoint", "revocation_endpoint", "certbound_revocation_feed_endpoint"} {
			if r := fixture.Post(t, as.As(t, nil), doc.JSON[name].(string)); r.Error() != "invalid_client" {
				t.Errorf("%s is not served: %d %s", name, r.Status, r.Text)
			}
		}
		if r := fixture.Get(t, none, doc.JSON["jwks_uri"].(string)); r.Status != 200 {
			t.Error("jwks_uri is not served")
		}
	})
	proves(t, "M-5-1 M-6.1-6", "the browser's listener asks for no certificate", func(t *testing.T) {
		for host, want := range map[string]bool{"as.test": false, "mtls.as.test": true} {
			asked := false
			cfg := as.ClientTLS(nil)
			cfg.ServerName = host
			cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				asked = true
				return new(tls.Certificate), nil
			}
			conn, err := tls.Dial("tcp", as.Addr(host), cfg)
			if err != nil {
				t.Fatal(err)
			}
			conn.Close()
			if asked != want {
				t.Errorf("%s asks for a certificate: %v", host, asked)
			}
		}
	})
	proves(t, "M-5-13 T-9110-1 T-9113-3", "TLS name and authority disagree", func(t *testing.T) {
		// The attacker connects to the browser's host, where nobody asks for a
		// certificate, and names the other one in HTTP.
		req, err := http.NewRequestWithContext(t.Context(), "POST", fixture.Issuer+"/token", strings.NewReader("grant_type=client_credentials&client_id=c-dn"))
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "mtls.as.test"
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r := fixture.Do(t, none, req)
		if r.Status != 421 || r.JSON != nil {
			t.Errorf("%d %s", r.Status, r.Text)
		}
	})
	proves(t, "G-2.6-3", "no CORS", func(t *testing.T) {
		for _, at := range []string{fixture.Issuer, fixture.MTLSBase} {
			req, err := http.NewRequestWithContext(t.Context(), "OPTIONS", at+"/token", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Origin", "https://evil.test")
			req.Header.Set("Access-Control-Request-Method", "POST")
			if r := fixture.Do(t, none, req); r.Header.Get("Access-Control-Allow-Origin") != "" || r.Status != 405 {
				t.Errorf("%s: %d %v", at, r.Status, r.Header)
			}
		}
	})
	proves(t, "M-6.4-1 G-2.1.2-1", "no front channel", func(t *testing.T) {
		if doc.JSON["authorization_endpoint"] != nil || doc.JSON["response_types_supported"] != nil {
			t.Error(doc.Text)
		}
		if r := fixture.Get(t, none, fixture.Issuer+"/authorize?response_type=token&client_id=c-dn"); r.Status != 404 {
			t.Error(r.Status)
		}
	})
}

func stringsOf(v any) (out []string) {
	list, _ := v.([]any)
	for _, e := range list {
		out = append(out, e.(string))
	}
	return out
}

// TestSwitches turns each switch off: its method cannot be used, its metadata is
// absent, its members are unknown.
func TestSwitches(t *testing.T) {
	type bench struct {
		name    string
		change  func(*authserver.Config)
		absent  []string // texts that the metadata does not have
		refused []string // clients that were fine
	}
	without := func(methods ...string) func(*authserver.Config) {
		return func(c *authserver.Config) {
			c.AuthMethods = slices.DeleteFunc(slices.Clone(c.AuthMethods), func(m string) bool { return slices.Contains(methods, m) })
		}
	}
	for _, tc := range []bench{
		{"tlsClientAuth", func(c *authserver.Config) { c.MTLS.TLSClientAuth = false; without(clientauth.TLSClientAuth)(c) }, []string{`"tls_client_auth"`}, []string{"c-dn"}},
		{"selfSignedTlsClientAuth", func(c *authserver.Config) {
			c.MTLS.SelfSignedTLSClientAuth = false
			without(clientauth.SelfSignedTLSClientAuth)(c)
		}, []string{"self_signed"}, []string{"c-self"}},
		{"not listed", without(clientauth.TLSClientAuth), []string{`"tls_client_auth"`}, []string{"c-dn"}},
		{"certificateBoundAccessTokens", func(c *authserver.Config) { c.MTLS.CertificateBoundAccessTokens = false }, []string{"tls_client_certificate_bound_access_tokens"}, nil},
		{"enabled", func(c *authserver.Config) {
			c.MTLS.Enabled, c.MTLSBaseURL = false, ""
			without(clientauth.TLSClientAuth, clientauth.SelfSignedTLSClientAuth)(c)
		}, []string{"tls_client", "mtls_endpoint_aliases", "self_signed"}, []string{"c-dn", "c-self"}},
	} {
		proves(t, "M-3.3-1 D-2-2 M-2.1.1-1", tc.name, func(t *testing.T) {
			as := fixture.Start(t, tc.change)
			doc := fixture.Get(t, as.As(t, nil), fixture.Issuer+wellKnown)
			for _, text := range tc.absent {
				if doc.Status != 200 || strings.Contains(doc.Text, text) {
					t.Errorf("%s: %s", text, doc.Text)
				}
			}
			for _, id := range tc.refused {
				c := &authserver.Client{ID: "x-" + id, AuthMethod: clientauth.TLSClientAuth, SubjectDN: fixture.SubjectDN}
				leaf := as.L1
				if id == "c-self" {
					c = &authserver.Client{ID: "x-" + id, AuthMethod: clientauth.SelfSignedTLSClientAuth, JWKS: fixture.JWKSOf(t, as.S1)}
					leaf = as.S1
				}
				if authserver.ValidateClient(c, as.Server.Rules()) == nil {
					t.Errorf("%s can be registered", id)
				}
				as.RegisterUnchecked(t, c)
				to := fixture.MTLSBase
				if !as.Config.MTLS.Enabled {
					to = fixture.Issuer
				}
				wantIC(t, fixture.Post(t, as.As(t, leaf), to+"/token", "grant_type", "client_credentials", "client_id", "x-"+id))
			}
		})
	}
	t.Run("enabled off reads no certificate", func(t *testing.T) {
		as := fixture.Start(t, func(c *authserver.Config) {
			c.MTLS.Enabled, c.MTLSBaseURL = false, ""
			without(clientauth.TLSClientAuth, clientauth.SelfSignedTLSClientAuth)(c)
		})
		r := fixture.Token(t, as.As(t, as.L1), "c-sec", "Authorization", fixture.Basic("c-sec", as.Secret))
		wantOK(t, r)
		if r.Cnf() != "" || as.LastDecision().Thumbprint != "" {
			t.Error("a certificate was read")
		}
	})
	proves(t, "M-5-2", "no separate listener, no aliases", func(t *testing.T) {
		as := fixture.Start(t, func(c *authserver.Config) { c.MTLSBaseURL = "" })
		doc := fixture.Get(t, as.As(t, nil), fixture.Issuer+wellKnown)
		if doc.JSON["mtls_endpoint_aliases"] != nil {
			t.Error(doc.Text)
		}
		wantOK(t, fixture.Token(t, as.As(t, as.L1), "c-dn"))
	})
}

// TestSettings checks that every wrong setting stops the start.
func TestSettings(t *testing.T) {
	as := fixture.Start(t)
	for _, tc := range []struct {
		name, setting, ids string
		change             func(*authserver.Config)
	}{
		{"nothing", "Issuer", "", func(c *authserver.Config) { *c = authserver.Config{} }},
		{"http issuer", "Issuer", "D-2-1 F2-5.2.1-1", func(c *authserver.Config) { c.Issuer = "http://as.test" }},
		{"issuer with query", "Issuer", "D-2-1", func(c *authserver.Config) { c.Issuer = "https://as.test?x=1" }},
		{"issuer with fragment", "Issuer", "D-2-1", func(c *authserver.Config) { c.Issuer = "https://as.test#x" }},
		{"relative issuer", "Issuer", "D-2-1", func(c *authserver.Config) { c.Issuer = "as.test" }},
		{"alias is the issuer", "MTLSBaseURL", "", func(c *authserver.Config) { c.MTLSBaseURL = c.Issuer }},
		{"alias without mTLS", "MTLSBaseURL", "", func(c *authserver.Config) { c.MTLS.Enabled = false }},
		{"PKI method without anchors", "Paths", "M-6.1-1 M-7.4-1", func(c *authserver.Config) { c.Paths = nil }},
		{"unknown default set", "DefaultAnchorSet", "M-6.1-1", func(c *authserver.Config) { c.DefaultAnchorSet = "nowhere" }},
		{"no source", "Source", "M-6.1-1", func(c *authserver.Config) { c.Source = nil }},
		{"no methods", "AuthMethods", "", func(c *authserver.Config) { c.AuthMethods = nil }},
		{"unknown method", "AuthMethods", "", func(c *authserver.Config) { c.AuthMethods = []string{"client_secret_post"} }},
		{"listed, but switched off", "AuthMethods", "", func(c *authserver.Config) { c.MTLS.TLSClientAuth = false }},
		{"method twice", "AuthMethods", "", func(c *authserver.Config) { c.AuthMethods = []string{"none", "none"} }},
		{"symmetric assertions", "AssertionAlgs", "D-2-5", func(c *authserver.Config) { c.AssertionAlgs = []string{"HS256"} }},
		{"unsigned assertions", "AssertionAlgs", "D-2-5", func(c *authserver.Config) { c.AssertionAlgs = []string{"none"} }},
		{"bad scope", "Scopes", "", func(c *authserver.Config) { c.Scopes = []string{"a b"} }},
		{"no resources", "Resources", "", func(c *authserver.Config) { c.Resources, c.DefaultResource = nil, "" }},
		{"resource with fragment", "Resources", "", func(c *authserver.Config) { c.Resources, c.DefaultResource = []string{"https://rs.test#x"}, "" }},
		{"default resource elsewhere", "DefaultResource", "", func(c *authserver.Config) { c.DefaultResource = "https://other.test" }},
		{"token format", "TokenFormat", "", func(c *authserver.Config) { c.TokenFormat = "paseto" }},
		{"binding policy", "Binding", "", func(c *authserver.Config) { c.Binding = "sometimes" }},
		{"signing algorithm", "SigningAlg", "A-2.1-1", func(c *authserver.Config) { c.SigningAlg = "none" }},
		{"lifetime", "TokenLifetime", "", func(c *authserver.Config) { c.TokenLifetime = -1 }},
		{"rotation", "KeyRotation", "", func(c *authserver.Config) { c.KeyRotation.Every = 1 }},
		{"client twice", "Clients", "", func(c *authserver.Config) {
			x := &authserver.Client{ID: "x", AuthMethod: "none"}
			c.Clients = []*authserver.Client{x, x}
		}},
		{"client that breaks a rule", "Clients", "M-2.1-2", func(c *authserver.Config) {
			c.Clients = []*authserver.Client{{ID: "x", AuthMethod: clientauth.TLSClientAuth}}
		}},
	} {
		proves(t, tc.ids, tc.name, func(t *testing.T) {
			cfg := as.Config
			tc.change(&cfg)
			s, err := authserver.New(cfg)
			if s != nil || err == nil {
				t.Fatal("the server starts")
			}
			found := false
			for _, e := range err.(interface{ Unwrap() []error }).Unwrap() {
				se, ok := e.(*authserver.SettingError)
				if !ok {
					t.Errorf("undeclared error %T", e)
				}
				found = found || ok && se.Setting == tc.setting
			}
			if !found {
				t.Errorf("no word about %s: %v", tc.setting, err)
			}
		})
	}
}
