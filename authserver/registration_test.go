package authserver_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/authserver/memstore"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/jwks"
	"github.com/certbound/certbound/pki/subject"
	"github.com/certbound/certbound/pkitest"
)

// nobodyLogsIn is a login that nobody gets through: registration needs only that there is one.
type nobodyLogsIn struct{}

func (nobodyLogsIn) ServeLogin(w http.ResponseWriter, r *http.Request, a *authserver.LoginAttempt) {
	a.Deny(w, r)
}

// openRegistration lets anybody register, also clients that need no person.
func openRegistration(c *authserver.Config) {
	c.Authorization = authserver.Authorization{Enabled: true, Login: nobodyLogsIn{}}
	c.Registration = authserver.Registration{
		Enabled: true, Open: true, Scopes: []string{"read", "write"},
		OpenGrantTypes: []string{"client_credentials", "authorization_code", "refresh_token"},
	}
}

// invited admits holders of an initial access token only.
func invited(c *authserver.Config) {
	openRegistration(c)
	c.Registration.Open = false
}

// call sends JSON, or nothing if body is nil, with a bearer token, or without one.
func call(t testing.TB, c *http.Client, method, url, bearer string, body any) *fixture.Answer {
	t.Helper()
	var data []byte
	switch b := body.(type) {
	case nil:
	case string:
		data = []byte(b)
	default:
		var err error
		if data, err = json.Marshal(b); err != nil {
			t.Fatal(err)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	return fixture.Do(t, c, req)
}

type members = map[string]any

// pkiClient is metadata for tls_client_auth, with changes; nil removes a member.
func pkiClient(changes members) members {
	m := members{"token_endpoint_auth_method": "tls_client_auth", "tls_client_auth_san_dns": "client-1.example",
		"grant_types": []string{"client_credentials"}, "tls_client_certificate_bound_access_tokens": true}
	maps.Copy(m, changes)
	maps.DeleteFunc(m, func(_ string, v any) bool { return v == nil })
	return m
}

// wantRegistered checks what every answer of a registration has.
func wantRegistered(t testing.TB, r *fixture.Answer) (id, token, uri string) {
	t.Helper()
	if r.Status != 201 || r.Header.Get("Content-Type") != "application/json" || r.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("expected 201, found %d %s", r.Status, r.Text)
	}
	id, _ = r.JSON["client_id"].(string)
	token, _ = r.JSON["registration_access_token"].(string)
	uri, _ = r.JSON["registration_client_uri"].(string)
	if issued, _ := r.JSON["client_id_issued_at"].(float64); len(id) < 20 || len(token) < 40 || uri != fixture.Issuer+"/register/"+id || issued < 1e9 {
		t.Fatalf("%s", r.Text)
	}
	for name := range r.JSON {
		if strings.HasPrefix(name, "certbound_") {
			t.Errorf("the answer has %s", name)
		}
	}
	return id, token, uri
}

func TestRegistration(t *testing.T) {
	as := fixture.Start(t, openRegistration)
	none, l1, s1 := as.As(t, nil), as.As(t, as.L1), as.As(t, as.S1)
	const to = fixture.Issuer + "/register"
	register := func(t *testing.T, m members) *fixture.Answer {
		t.Helper()
		return call(t, none, "POST", to, "", m)
	}
	reads := func(t *testing.T, want string, r *fixture.Answer) {
		t.Helper()
		wantError(t, r, 400, want)
		wantReason(t, as, decision.MetadataInvalid)
	}

	proves(t, "M-5-2 M-5-3 M-5-4 M-5-10", "the metadata announce the endpoint, on both listeners", func(t *testing.T) {
		m := fixture.Get(t, none, fixture.Issuer+"/.well-known/oauth-authorization-server").JSON
		aliases, _ := m["mtls_endpoint_aliases"].(map[string]any)
		if m["registration_endpoint"] != to || aliases["registration_endpoint"] != fixture.MTLSBase+"/register" {
			t.Errorf("%v %v", m["registration_endpoint"], aliases)
		}
		_, token, uri := wantRegistered(t, call(t, l1, "POST", fixture.MTLSBase+"/register", "", pkiClient(nil)))
		if r := call(t, none, "GET", uri, token, nil); r.Status != 200 {
			t.Errorf("%d %s", r.Status, r.Text)
		}
		if r := call(t, l1, "GET", strings.Replace(uri, fixture.Issuer, fixture.MTLSBase, 1), token, nil); r.Status != 200 {
			t.Errorf("%d %s", r.Status, r.Text)
		}
	})
	proves(t, "R-3-1", "other requests", func(t *testing.T) {
		for _, ct := range []string{"application/x-www-form-urlencoded", "text/plain", "", "application/json, application/json"} {
			req, _ := http.NewRequestWithContext(t.Context(), "POST", to, strings.NewReader(`{}`))
			req.Header.Set("Content-Type", ct)
			wantError(t, fixture.Do(t, none, req), 415, "invalid_client_metadata")
		}
		for _, method := range []string{"GET", "PUT", "DELETE", "PATCH"} {
			if r := call(t, none, method, to, "", nil); r.Status != 405 || r.Header.Get("Allow") != "POST" {
				t.Errorf("%s: %d", method, r.Status)
			}
		}
		wantError(t, call(t, none, "POST", to, "", `{"client_name":"`+strings.Repeat("x", 64<<10)+`"}`), 413, "invalid_client_metadata")
		for _, body := range []string{``, `[]`, `null`, `{`, `{"scope":"read","scope":"write"}`, `{}{}`} {
			wantError(t, call(t, none, "POST", to, "", body), 400, "invalid_client_metadata")
		}
	})
	proves(t, "M-2.1.2-1 R-2-7 R-3.2.2-1", "no subject member", func(t *testing.T) {
		reads(t, "invalid_client_metadata", register(t, pkiClient(members{"tls_client_auth_san_dns": nil})))
	})
	values := map[subject.Kind]string{subject.DN: fixture.SubjectDN, subject.SANDNS: "client-1.example", subject.SANURI: "https://client-1.example/id",
		subject.SANIP: "192.0.2.10", subject.SANEmail: "ops@client-1.example"}
	proves(t, "M-2.1.2-2", "each pair of subject members", func(t *testing.T) {
		for i, a := range subject.Kinds() {
			for _, b := range subject.Kinds()[i+1:] {
				reads(t, "invalid_client_metadata", register(t, pkiClient(members{"tls_client_auth_san_dns": nil, string(a): values[a], string(b): values[b]})))
			}
		}
	})
	proves(t, "M-2.1.2-4 M-2.1.2-5 M-2.1.2-6 M-2.1.2-8 R-3.2.1-1 R-3.2.1-2 M-9.5-1 M-9.5-2 M-9.5-3 M-9.5-4 M-9.5-5 M-9.5-6", "each of the five, and a token with it", func(t *testing.T) {
		for kind, value := range values {
			r := register(t, pkiClient(members{"tls_client_auth_san_dns": nil, string(kind): value}))
			id, _, _ := wantRegistered(t, r)
			if r.JSON[string(kind)] != value || r.JSON["token_endpoint_auth_method"] != "tls_client_auth" || r.JSON["tls_client_certificate_bound_access_tokens"] != true ||
				r.JSON["scope"] != "read write" || r.JSON["client_secret"] != nil {
				t.Errorf("%s", r.Text)
			}
			token := fixture.Token(t, l1, id)
			wantOK(t, token)
			if token.Cnf() != certbound.Thumbprint(as.L1.Cert) {
				t.Errorf("cnf %q", token.Cnf())
			}
			wantIC(t, fixture.Token(t, as.As(t, as.L2), id))
		}
	})
	proves(t, "M-2.1.2-3 M-2.1.2-6 M-2.1.2-10", "values that are none", func(t *testing.T) {
		for member, list := range map[string][]any{
			"tls_client_auth_subject_dn": {"client-1", "CN", "CN=a,,O=b", `CN=a\`, `CN=a\zz`, "", nil, 1, []string{"CN=a"}, true},
			"tls_client_auth_san_dns":    {[]string{"a"}, 1, ""},
			"tls_client_auth_san_uri":    {[]string{"a"}, 1, ""},
			"tls_client_auth_san_ip":     {"192.0.2.010", "192.0.2.10/32", "[2001:db8::10]", 1, ""},
			"tls_client_auth_san_email":  {[]string{"a"}, 1, ""},
		} {
			for _, value := range list {
				m := pkiClient(members{"tls_client_auth_san_dns": nil})
				m[member] = value // null included
				reads(t, "invalid_client_metadata", register(t, m))
			}
		}
	})
	proves(t, "M-2.1.2-7 M-2.1.2-9 M-2.1.2-12", "values are literal, addresses are compared as addresses", func(t *testing.T) {
		id, _, _ := wantRegistered(t, register(t, pkiClient(members{"tls_client_auth_san_dns": "*.example"})))
		wantIC(t, fixture.Token(t, l1, id))
		id, _, _ = wantRegistered(t, register(t, pkiClient(members{"tls_client_auth_san_dns": nil, "tls_client_auth_san_ip": "2001:db8:0:0:0:0:0:10"})))
		wantOK(t, fixture.Token(t, l1, id))
		several := as.CA1i.MustLeaf(pkitest.LeafOptions{DNS: []string{"a.example", "b.example", "client-1.example"}})
		id, _, _ = wantRegistered(t, register(t, pkiClient(nil)))
		wantOK(t, fixture.Token(t, as.As(t, several), id))
	})
	proves(t, "R-2-1 M-2.1.2-11", "the method is client_secret_basic unless it is named", func(t *testing.T) {
		reads(t, "invalid_client_metadata", register(t, members{"tls_client_auth_san_dns": "a.example", "grant_types": []string{"client_credentials"}}))
		reads(t, "invalid_client_metadata", register(t, members{"token_endpoint_auth_method": "client_secret_basic", "tls_client_auth_san_dns": "a.example"}))
		r := register(t, members{"grant_types": []string{"client_credentials"}})
		id, _, _ := wantRegistered(t, r)
		secret, _ := r.JSON["client_secret"].(string)
		if expires, ok := r.JSON["client_secret_expires_at"].(float64); r.JSON["token_endpoint_auth_method"] != "client_secret_basic" || secret == "" || !ok || expires != 0 {
			t.Fatalf("%s", r.Text)
		}
		wantOK(t, fixture.Post(t, none, fixture.Issuer+"/token", "Authorization", fixture.Basic(id, secret), "grant_type", "client_credentials"))
		if strings.Contains(as.Log(), secret) {
			t.Error("the secret is in the log")
		}
	})
	jwksS1, jwksS2 := json.RawMessage(fixture.JWKSOf(t, as.S1)), json.RawMessage(fixture.JWKSOf(t, as.S2))
	self := func(changes members) members {
		m := members{"token_endpoint_auth_method": "self_signed_tls_client_auth", "grant_types": []string{"client_credentials"}, "jwks": jwksS1, "tls_client_certificate_bound_access_tokens": true}
		maps.Copy(m, changes)
		maps.DeleteFunc(m, func(_ string, v any) bool { return v == nil })
		return m
	}
	proves(t, "M-2.2.2-1 R-3.2.1-1 R-3.2.1-2", "a self-signed certificate", func(t *testing.T) {
		r := register(t, self(nil))
		id, _, _ := wantRegistered(t, r)
		if set, _ := r.JSON["jwks"].(map[string]any); len(set["keys"].([]any)) != 1 || r.JSON["client_secret"] != nil {
			t.Errorf("%s", r.Text)
		}
		wantOK(t, fixture.Token(t, s1, id))
		wantIC(t, fixture.Token(t, as.As(t, as.S2), id))
		// Only the first entry of x5c counts.
		two := strings.Replace(string(jwksS2), `"x5c":["`, `"x5c":["`+base64Std(as.S2.Cert.Raw)+`","`+base64Std(as.S1.Cert.Raw)+`","`, 1)
		id, _, _ = wantRegistered(t, register(t, self(members{"jwks": json.RawMessage(two)})))
		wantIC(t, fixture.Token(t, s1, id))
	})
	proves(t, "M-2.2.2-2 M-2.2.2-3 M-2.2.2-4 M-2.2.2-5 R-2-3 R-2-4", "key sets that cannot be used", func(t *testing.T) {
		bare, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: as.S1.Cert.PublicKey}}})
		if err != nil {
			t.Fatal(err)
		}
		for name, m := range map[string]members{
			"both":              self(members{"jwks_uri": "https://keys.test/x"}),
			"neither":           self(members{"jwks": nil}),
			"a list":            self(members{"jwks": []int{}}),
			"keys is an object": self(members{"jwks": members{"keys": members{}}}),
			"no key":            self(members{"jwks": members{"keys": []int{}}}),
			"no certificate":    self(members{"jwks": json.RawMessage(bare)}),
			"no key members":    self(members{"jwks": json.RawMessage(`{"keys":[{"kty":"EC","crv":"P-256","x5c":["` + base64Std(as.S1.Cert.Raw) + `"]}]}`)}),
			"another key":       self(members{"jwks": json.RawMessage(strings.Replace(string(bare), `"kty"`, `"x5c":["`+base64Std(as.S2.Cert.Raw)+`"],"kty"`, 1))}),
		} {
			t.Run(name, func(t *testing.T) { reads(t, "invalid_client_metadata", register(t, m)) })
		}
	})
	proves(t, "R-2-5", "what is not understood is ignored and not echoed", func(t *testing.T) {
		r := register(t, pkiClient(members{"foo": members{"a": 1}, "software_statement": "x.y.z", "application_type": "web"}))
		wantRegistered(t, r)
		for _, name := range []string{"foo", "software_statement", "application_type"} {
			if _, ok := r.JSON[name]; ok {
				t.Errorf("%s is echoed", name)
			}
		}
	})
	proves(t, "R-3.2.1-1 M-4-1", "defaults are told", func(t *testing.T) {
		r := register(t, members{"token_endpoint_auth_method": "none", "redirect_uris": []string{"http://127.0.0.1/cb", "com.example.app:/cb"}, "scope": "read"})
		wantRegistered(t, r)
		got, _ := json.Marshal([]any{r.JSON["grant_types"], r.JSON["response_types"], r.JSON["scope"], r.JSON["redirect_uris"], r.JSON["id_token_signed_response_alg"]})
		if want := `[["authorization_code"],["code"],"read",["http://127.0.0.1/cb","com.example.app:/cb"],"ES256"]`; string(got) != want {
			t.Errorf("%s", got)
		}
	})
	proves(t, "F2-5.3.2.1-7", "redirect URIs have an error of their own", func(t *testing.T) {
		for _, uri := range []any{"https://a.example/*", "http://a.example/", "javascript:alert(1)", ""} {
			reads(t, "invalid_redirect_uri", register(t, members{"token_endpoint_auth_method": "none", "redirect_uris": []any{uri}}))
		}
		reads(t, "invalid_redirect_uri", register(t, members{"token_endpoint_auth_method": "none"}))
		reads(t, "invalid_redirect_uri", register(t, members{"token_endpoint_auth_method": "none", "redirect_uris": "https://a.example"}))
	})
	t.Run("scopes beyond what registration has", func(t *testing.T) {
		reads(t, "invalid_client_metadata", register(t, pkiClient(members{"scope": "read admin"})))
		r := register(t, pkiClient(members{"scope": "read"}))
		id, _, _ := wantRegistered(t, r)
		wantError(t, fixture.Token(t, l1, id, "scope", "write"), 400, "invalid_scope")
	})
	proves(t, "M-6.4-1 M-6.4-2 OA-6", "what does not exist any more", func(t *testing.T) {
		for _, m := range []members{{"grant_types": []string{"implicit"}}, {"grant_types": []string{"password"}}, {"response_types": []string{"token"}}, {"dpop_bound_access_tokens": true}} {
			reads(t, "invalid_client_metadata", register(t, pkiClient(m)))
		}
	})
	t.Run("error_description tells the fault", func(t *testing.T) {
		r := register(t, pkiClient(members{"scope": `"\ é`, "client_name": strings.Repeat("ä", 200)}))
		reads(t, "invalid_client_metadata", r)
		description, _ := r.JSON["error_description"].(string)
		if !strings.Contains(description, "client_name") || !strings.Contains(description, "scope") || len(description) > 1024 {
			t.Error(description)
		}
	})
	t.Run("the linter speaks to the operator", func(t *testing.T) {
		odd := as.CA1i.MustLeaf(pkitest.LeafOptions{DNS: []string{"odd.example", "*.odd.example"}, URI: []string{"https://odd.example/"}, NoExtKeyUsage: true})
		wantRegistered(t, call(t, as.As(t, odd), "POST", fixture.MTLSBase+"/register", "", pkiClient(members{"tls_client_auth_san_dns": "odd.example"})))
		for _, want := range []string{"no extended key usage", "the wildcard *.odd.example", "more than one name"} {
			if !strings.Contains(as.Log(), want) {
				t.Errorf("nothing about %q", want)
			}
		}
		wantRegistered(t, register(t, pkiClient(members{"tls_client_auth_san_dns": "*.example"})))
		if !strings.Contains(as.Log(), "the wildcard is not a pattern") {
			t.Error("nothing about the registered wildcard")
		}
	})
}

// A client names itself, its anchors and its powers in its own request. It gets what the
// operator's settings say.
func TestAttackMassAssignment(t *testing.T) {
	t.Attr("requirement", "A-5-1 G-4.15-1 F2-6.7-1")
	as := fixture.Start(t, openRegistration)
	none := as.As(t, nil)
	_, hash := authserver.NewSecret()
	own := members{
		"client_id": "admin", "certbound_anchor_set": "ca2", "certbound_may_introspect": true, "certbound_introspects": []string{fixture.Resource},
		"certbound_resources": []string{fixture.Resource2}, "certbound_token_lifetime": 86400, "certbound_token_format": "opaque", "certbound_skip_consent": true,
		"certbound_profile": "fapi2", "certbound_secret_hash": hash, "certbound_registration_token_hash": "x", "certbound_dynamic": false,
		"certbound_allowed_scopes": []string{"admin"}, "certbound_allowed_methods": []string{"none"}, "certbound_registered_by": "operator",
		"certbound_allowed_anchor_set": "ca2", "certbound_next_anchor_set": "ca2", "certbound_disabled": true, "Certbound_anchor_set": "ca2", "CERTBOUND_ANCHOR_SET": "ca2",
		"client_id_issued_at": 1, "registration_access_token": "mine", "client_secret": "mine", "client_secret_expires_at": 99,
	}
	r := call(t, none, "POST", fixture.Issuer+"/register", "", pkiClient(own))
	id, token, uri := wantRegistered(t, r)
	check := func(t *testing.T) {
		t.Helper()
		c, err := as.Store.Client(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if id == "admin" || token == "mine" || c.AnchorSet != "" || c.MayIntrospect || c.Introspects != nil || c.Resources != nil || c.TokenLifetime != 0 || c.TokenFormat != "" ||
			c.SkipConsent || c.Profile != "" || c.SecretHash != "" || c.RegistrationTokenHash == "x" || !c.Dynamic || slices.Contains(c.AllowedScopes, "admin") ||
			slices.Equal(c.AllowedMethods, []string{"none"}) || c.RegisteredBy != "open" || c.AllowedAnchorSet != "" || c.NextAnchorSet != "" || c.Disabled || c.Created.Unix() == 1 {
			t.Errorf("%+v", c)
		}
		// The certificate of the other CA, which it has named, is none of its own.
		wantIC(t, fixture.Token(t, as.As(t, as.L1CA2), id))
		wantOK(t, fixture.Token(t, as.As(t, as.L1), id))
	}
	check(t)
	for _, name := range []string{"registration_access_token", "client_id_issued_at", "client_secret", "client_secret_expires_at"} {
		delete(own, name)
	}
	own["client_id"] = id
	if r := call(t, none, "PUT", uri, token, pkiClient(own)); r.Status != 200 {
		t.Fatalf("%d %s", r.Status, r.Text)
	}
	check(t)
}

func TestOpenRegistrationIsBounded(t *testing.T) {
	t.Run("strangers get no client that needs no person, unless the operator says so", func(t *testing.T) {
		as := fixture.Start(t, openRegistration, func(c *authserver.Config) { c.Registration.OpenGrantTypes, c.Registration.Scopes = nil, nil })
		none := as.As(t, nil)
		wantError(t, call(t, none, "POST", fixture.Issuer+"/register", "", pkiClient(nil)), 400, "invalid_client_metadata")
		r := call(t, none, "POST", fixture.Issuer+"/register", "", pkiClient(members{"grant_types": nil, "redirect_uris": []string{"https://client-1.example/cb"}}))
		wantRegistered(t, r)
		if _, ok := r.JSON["scope"]; ok {
			t.Error("it has a scope")
		}
	})
	t.Run("in a window of time", func(t *testing.T) {
		now := time.Now()
		var mu sync.Mutex
		as := fixture.Start(t, openRegistration, func(c *authserver.Config) {
			c.Registration.OpenLimit, c.Registration.OpenWindow = 3, time.Minute
			c.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
		})
		none := as.As(t, nil)
		ask := func() *fixture.Answer { return call(t, none, "POST", fixture.Issuer+"/register", "", pkiClient(nil)) }
		for range 3 {
			wantRegistered(t, ask())
		}
		r := ask()
		wantError(t, r, 429, "temporarily_unavailable")
		wantReason(t, as, decision.RegistrationLimit)
		if r.Header.Get("Retry-After") != "60" {
			t.Errorf("Retry-After %q", r.Header.Get("Retry-After"))
		}
		mu.Lock()
		now = now.Add(time.Minute)
		mu.Unlock()
		wantRegistered(t, ask())
	})
	t.Run("in number", func(t *testing.T) {
		as := fixture.Start(t, openRegistration, func(c *authserver.Config) { c.Registration.MaxClients = 2 })
		none := as.As(t, nil)
		ask := func() *fixture.Answer { return call(t, none, "POST", fixture.Issuer+"/register", "", pkiClient(nil)) }
		_, token, uri := wantRegistered(t, ask())
		wantRegistered(t, ask())
		wantError(t, ask(), 503, "temporarily_unavailable")
		wantReason(t, as, decision.RegistrationLimit)
		if r := call(t, none, "DELETE", uri, token, nil); r.Status != 204 {
			t.Fatal(r.Status)
		}
		wantRegistered(t, ask())
	})
	t.Run("off", func(t *testing.T) {
		as := fixture.Start(t)
		none := as.As(t, nil)
		for _, path := range []string{"/register", "/register/c-dn"} {
			if r := call(t, none, "POST", fixture.Issuer+path, "", pkiClient(nil)); r.Status != 404 {
				t.Errorf("%s: %d", path, r.Status)
			}
		}
		if m := fixture.Get(t, none, fixture.Issuer+"/.well-known/oauth-authorization-server").JSON; m["registration_endpoint"] != nil {
			t.Error("the metadata have an endpoint")
		}
	})
}

// A client's jwks_uri leads into the network of the server.
func TestAttackJWKSURIInside(t *testing.T) {
	t.Attr("requirement", "R-5-1")
	inside := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the server has connected") }))
	t.Cleanup(inside.Close)
	as := fixture.Start(t, openRegistration, func(c *authserver.Config) {
		c.JWKS = jwks.NewFetcher(jwks.FetcherConfig{Client: jwks.Guard(jwks.GuardConfig{})}) // as it is by default
	})
	none, s1 := as.As(t, nil), as.As(t, as.S1)
	for _, uri := range []string{inside.URL + "/jwks", "https://169.254.169.254/latest", "https://[fe80::1]/", "https://10.0.0.1/"} {
		m := members{"token_endpoint_auth_method": "self_signed_tls_client_auth", "grant_types": []string{"client_credentials"}, "jwks_uri": uri}
		id, _, _ := wantRegistered(t, call(t, none, "POST", fixture.Issuer+"/register", "", m))
		if r := fixture.Token(t, s1, id); r.Status == 200 {
			t.Errorf("%s: %s", uri, r.Text)
		}
		wantReason(t, as, decision.KeySetUnavailable)
	}
}

// invite saves an initial access token and returns its value.
func invite(t testing.TB, as *fixture.AS, it authserver.InitialToken) string {
	t.Helper()
	value, hash := authserver.NewInitialToken()
	it.Hash = hash
	if it.Name == "" {
		it.Name = t.Name()
	}
	if it.Uses == 0 {
		it.Uses = -1
	}
	if it.Expires.IsZero() {
		it.Expires = time.Now().Add(time.Hour)
	}
	if err := as.Store.(authserver.GrantStore).SaveInitialToken(t.Context(), &it); err != nil {
		t.Fatal(err)
	}
	return value
}

func TestInitialAccessToken(t *testing.T) {
	as := fixture.Start(t, invited)
	none := as.As(t, nil)
	register := func(t *testing.T, token string, m members) *fixture.Answer {
		t.Helper()
		return call(t, none, "POST", fixture.Issuer+"/register", token, m)
	}
	t.Run("without one", func(t *testing.T) {
		r := register(t, "", pkiClient(nil))
		wantError(t, r, 401, "invalid_token")
		if h := r.Header.Get("WWW-Authenticate"); !strings.HasPrefix(h, "Bearer ") || strings.Contains(h, "error") {
			t.Errorf("%q", h)
		}
		wantReason(t, as, decision.NoToken)
	})
	t.Run("that nobody has made", func(t *testing.T) {
		value, _ := authserver.NewInitialToken()
		for _, token := range []string{value, "x", strings.Repeat("x", 1000)} {
			r := register(t, token, pkiClient(nil))
			wantError(t, r, 401, "invalid_token")
			if !strings.Contains(r.Header.Get("WWW-Authenticate"), `error="invalid_token"`) {
				t.Errorf("%q", r.Header.Get("WWW-Authenticate"))
			}
		}
	})
	t.Run("expired", func(t *testing.T) {
		wantError(t, register(t, invite(t, as, authserver.InitialToken{Expires: time.Now().Add(-time.Minute)}), pkiClient(nil)), 401, "invalid_token")
		wantReason(t, as, decision.TokenExpired)
	})
	t.Run("it decides about anchors, methods, scopes and resources", func(t *testing.T) {
		token := invite(t, as, authserver.InitialToken{AnchorSet: "ca2", Methods: []string{"tls_client_auth"}, Scopes: []string{"admin"}, Resources: []string{fixture.Resource2}})
		r := register(t, token, pkiClient(nil))
		id, _, _ := wantRegistered(t, r)
		if r.JSON["scope"] != "admin" {
			t.Errorf("%s", r.Text)
		}
		wantIC(t, fixture.Token(t, as.As(t, as.L1), id))
		wantOK(t, fixture.Token(t, as.As(t, as.L1CA2), id, "resource", fixture.Resource2))
		wantError(t, fixture.Token(t, as.As(t, as.L1CA2), id, "resource", fixture.Resource), 400, "invalid_target")
		wantError(t, register(t, token, pkiClient(members{"scope": "read"})), 400, "invalid_client_metadata")
		wantError(t, register(t, token, members{"grant_types": []string{"client_credentials"}}), 400, "invalid_client_metadata")
	})
	proves(t, "F2-5.3.2.1-3 F2-5.3.2.1-4", "the profile comes with it", func(t *testing.T) {
		token := invite(t, as, authserver.InitialToken{Profile: "fapi2"})
		wantError(t, register(t, token, pkiClient(members{"tls_client_certificate_bound_access_tokens": nil})), 400, "invalid_client_metadata")
		wantError(t, register(t, token, members{"token_endpoint_auth_method": "none", "redirect_uris": []string{"https://a.example/cb"}}), 400, "invalid_client_metadata")
		wantRegistered(t, register(t, token, pkiClient(nil)))
	})
	t.Run("an anchor set that is gone is the operator's fault", func(t *testing.T) {
		token := invite(t, as, authserver.InitialToken{AnchorSet: "gone"})
		r := register(t, token, pkiClient(nil))
		wantError(t, r, 500, "server_error")
		if strings.Contains(r.Text, "gone") || !strings.Contains(as.Log(), "gone") {
			t.Error(r.Text)
		}
	})
	t.Run("uses are counted, also of concurrent requests, and faults cost none", func(t *testing.T) {
		token := invite(t, as, authserver.InitialToken{Uses: 3})
		wantError(t, register(t, token, pkiClient(members{"scope": "x"})), 400, "invalid_client_metadata")
		var mu sync.Mutex
		count := map[int]int{}
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				r := register(t, token, pkiClient(nil))
				mu.Lock()
				count[r.Status]++
				mu.Unlock()
			})
		}
		wg.Wait()
		if count[201] != 3 || count[401] != 7 {
			t.Errorf("%v", count)
		}
	})
	t.Run("removed", func(t *testing.T) {
		token := invite(t, as, authserver.InitialToken{Name: "removed"})
		if err := as.Store.(authserver.GrantStore).DeleteInitialToken(t.Context(), "removed"); err != nil {
			t.Fatal(err)
		}
		wantError(t, register(t, token, pkiClient(nil)), 401, "invalid_token")
	})
	t.Run("no token in the log", func(t *testing.T) {
		if strings.Contains(as.Log(), "cbi_") || strings.Contains(as.Log(), "cbm_") {
			t.Error("a token is in the log")
		}
	})
}

func TestRegistrationSettings(t *testing.T) {
	key := pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=directory"})
	for name, change := range map[string]func(*authserver.Config){
		"Registration.Enabled":                           func(c *authserver.Config) { c.Store = &countingStore{Store: memstore.New()} },
		"Registration.Methods":                           func(c *authserver.Config) { c.Registration.Methods = []string{"none"} },
		"Registration.Scopes":                            func(c *authserver.Config) { c.Registration.Scopes = []string{"x"} },
		"Registration.Resources":                         func(c *authserver.Config) { c.Registration.Resources = []string{"https://x.test"} },
		"Registration.OpenGrantTypes":                    func(c *authserver.Config) { c.Registration.OpenGrantTypes = []string{"implicit"} },
		"Registration.Profile":                           func(c *authserver.Config) { c.Registration.Profile = "x" },
		"Registration.OpenLimit, OpenWindow, MaxClients": func(c *authserver.Config) { c.Registration.MaxClients = -1 },
		"Registration.Statements": func(c *authserver.Config) {
			c.Registration.Statements = []authserver.StatementIssuer{{Issuer: "https://d.test"}}
		},
	} {
		cfg := authserver.Config{Issuer: fixture.Issuer, Store: memstore.New(), AuthMethods: []string{"client_secret_basic"}, Resources: []string{fixture.Resource}}
		cfg.Registration.Enabled = true
		if _, err := authserver.New(cfg); err != nil {
			t.Fatal(err)
		}
		change(&cfg)
		_, err := authserver.New(cfg)
		if se, ok := err.(interface{ Unwrap() []error }); !ok || !slices.ContainsFunc(se.Unwrap(), func(e error) bool { s, ok := e.(*authserver.SettingError); return ok && s.Setting == name }) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, bad := range []authserver.StatementIssuer{
		{JWKS: fixture.JWKSOf(t, key)}, {Issuer: "d", JWKSURI: "http://d.test"}, {Issuer: "d", JWKSURI: "https://d.test"}, {Issuer: "d", JWKS: []byte(`{"keys":[]}`)},
		{Issuer: "d", JWKS: []byte(`x`)}, {Issuer: "d", JWKS: fixture.JWKSOf(t, key), Algs: []string{"none"}}, {Issuer: "d", JWKS: fixture.JWKSOf(t, key), Algs: []string{}},
		{Issuer: "d", JWKS: fixture.JWKSOf(t, key), Scopes: []string{"x"}}, {Issuer: "d", JWKS: fixture.JWKSOf(t, key), MaxAge: -1},
	} {
		cfg := authserver.Config{Issuer: fixture.Issuer, Store: memstore.New(), AuthMethods: []string{"client_secret_basic"}, Resources: []string{fixture.Resource}}
		cfg.Registration = authserver.Registration{Enabled: true, Statements: []authserver.StatementIssuer{bad}}
		if _, err := authserver.New(cfg); err == nil {
			t.Errorf("%+v: accepted", bad)
		}
	}
}

// serveJSON serves a request without a network.
func serveJSON(t testing.TB, h http.Handler, method, url, bearer string, body []byte) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, url, bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	if bearer != "" {
		r.Header.Set("Authorization", "Bearer "+bearer)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func discardLogger() *slog.Logger { return slog.New(slog.DiscardHandler) }

// fixtureSubjectOnly describes a certificate with the subject of L1 and nothing else.
func fixtureSubjectOnly() pkitest.LeafOptions { return pkitest.LeafOptions{Subject: fixture.SubjectDN} }
