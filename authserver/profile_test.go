package authserver_test

import (
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/clientauth"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/internal/fixture"
)

// withProfile holds a server to the profile, and leaves the methods that it allows.
func withProfile(c *authserver.Config) {
	c.Profile = authserver.ProfileFAPI2
	c.AuthMethods = []string{clientauth.TLSClientAuth, clientauth.SelfSignedTLSClientAuth, authserver.PrivateKeyJWT}
}

// Every setting that would break the profile stops the start, and is named.
func TestProfileSettings(t *testing.T) {
	as := fixture.Start(t)
	good := as.Config
	withProfile(&good)
	good.Authorization = authserver.Authorization{Enabled: true, Login: fakeLogin{}}
	good.AssertionAlgs = nil
	if _, err := authserver.New(good); err != nil {
		t.Fatalf("the profile alone: %v", err)
	}
	for _, tc := range []struct {
		name, setting, ids string
		change             func(*authserver.Config)
	}{
		{"another profile", "Profile", "", func(c *authserver.Config) { c.Profile = "fapi1" }},
		{"a secret", "AuthMethods", "F2-5.3.2.1-6", func(c *authserver.Config) { c.AuthMethods = append(c.AuthMethods, authserver.ClientSecretBasic) }},
		{"public clients", "AuthMethods", "F2-5.3.2.1-3", func(c *authserver.Config) { c.AuthMethods = append(c.AuthMethods, authserver.None) }},
		{"no mutual TLS", "MTLS.Enabled", "F2-5.3.2.1-5", func(c *authserver.Config) {
			c.MTLS, c.MTLSBaseURL, c.AuthMethods = authserver.MTLSFeature{}, "", []string{authserver.PrivateKeyJWT}
		}},
		{"no bound tokens", "MTLS.CertificateBoundAccessTokens", "F2-5.3.2.1-4", func(c *authserver.Config) { c.MTLS.CertificateBoundAccessTokens = false }},
		{"bound never", "Binding", "F2-5.3.2.1-4", func(c *authserver.Config) { c.Binding = authserver.BindNever }},
		{"unbound if there is no certificate", "AllowUnboundFallback", "F2-5.3.2.1-4", func(c *authserver.Config) { c.AllowUnboundFallback = true }},
		{"RS256 for access tokens", "SigningAlg", "F2-5.4.1-1", func(c *authserver.Config) { c.SigningAlg = "RS256" }},
		{"RS256 for assertions", "AssertionAlgs", "F2-5.4.1-1", func(c *authserver.Config) { c.AssertionAlgs = []string{"ES256", "RS256"} }},
		{"ES384 for assertions", "AssertionAlgs", "F2-5.4.1-1", func(c *authserver.Config) { c.AssertionAlgs = []string{"ES384"} }},
		{"RS256 for software statements", "Registration.Statements", "F2-5.4.1-1", func(c *authserver.Config) {
			c.Registration = authserver.Registration{Enabled: true, Statements: []authserver.StatementIssuer{{Issuer: "https://directory.test", Algs: []string{"RS256"}}}}
		}},
		{"rotation for all", "Authorization.Refresh", "F2-5.3.2.1-9", func(c *authserver.Config) { c.Authorization.Refresh.RotateAll = true }},
		{"codes of 61 seconds", "Authorization.CodeLifetime", "F2-5.3.2.1-11", func(c *authserver.Config) { c.Authorization.CodeLifetime = 61 * time.Second }},
		{"a request_uri of 600 seconds", "Authorization.RequestLifetime", "F2-5.3.2.2-12", func(c *authserver.Config) { c.Authorization.RequestLifetime = 600 * time.Second }},
		{"any certificate with the key", "InsecureMatchKey", "F2-5.3.2.1-6", func(c *authserver.Config) { c.InsecureMatchKey = true }},
		{"a client with a secret", "Clients", "F2-5.3.2.1-6", func(c *authserver.Config) {
			c.Clients = []*authserver.Client{{ID: "x", AuthMethod: authserver.ClientSecretBasic}}
		}},
	} {
		proves(t, tc.ids, tc.name, func(t *testing.T) {
			cfg := good
			cfg.AuthMethods = slices.Clone(good.AuthMethods)
			tc.change(&cfg)
			s, err := authserver.New(cfg)
			if s != nil || !hasSetting(err, tc.setting) {
				t.Errorf("no word about %s: %v", tc.setting, err)
			}
		})
	}
	proves(t, "F2-5.4.1-1", "a client of the profile where tokens are signed with RS256", func(t *testing.T) {
		cfg := as.Config
		cfg.SigningAlg = "RS256"
		c := &authserver.Client{ID: "x", AuthMethod: clientauth.TLSClientAuth, SubjectDN: fixture.SubjectDN, BoundTokens: true, Profile: authserver.ProfileFAPI2}
		me, ok := errors.AsType[*authserver.MetadataError](authserver.ValidateClient(c, cfg.Rules()))
		if !ok || me.Faults[0].Member != "certbound_profile" {
			t.Errorf("%v", me)
		}
	})
}

// profiled is a server under the profile with two clients, f-dn with L1 and f-pkj with
// as.AssertionKey, and a clock that can be moved.
func profiled(t *testing.T) (as *fixture.AS, later func(time.Duration)) {
	t.Helper()
	var offset atomic.Int64
	as = fixture.Start(t, withProfile, func(c *authserver.Config) {
		c.Authorization = authserver.Authorization{Enabled: true, Login: fakeLogin{}}
		c.Scopes = append(c.Scopes, "openid")
		c.Now = func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }
	})
	for _, c := range []*authserver.Client{
		{ID: "f-dn", AuthMethod: clientauth.TLSClientAuth, SubjectDN: fixture.SubjectDN},
		{ID: "f-pkj", AuthMethod: authserver.PrivateKeyJWT, JWKS: fixture.JWKSOf(t, as.AssertionKey)},
	} {
		c.BoundTokens, c.Scope, c.RedirectURIs = true, "openid read", []string{callback}
		c.GrantTypes = []string{"authorization_code", "refresh_token", "client_credentials"}
		as.Register(t, c)
	}
	return as, func(d time.Duration) { offset.Add(int64(d)) }
}

// TestProfile goes through the FAPI 2.0 Security Profile, Section 5.3.2, at a server that
// is held to it, over TLS.
func TestProfile(t *testing.T) {
	as, later := profiled(t)
	l1, none, b := as.As(t, as.L1), as.As(t, nil), newBrowser(t, as)
	redeem := func(t *testing.T, code string) *fixture.Answer {
		t.Helper()
		return fixture.Post(t, l1, fixture.MTLSBase+"/token", "client_id", "f-dn", "grant_type", "authorization_code",
			"code", code, "redirect_uri", callback, "code_verifier", verifier)
	}
	authorize := func(t *testing.T) string {
		t.Helper()
		return wantCode(t, b.code(pushed(t, as, "client_id", "f-dn", "prompt", "login consent"), "ann"))
	}

	proves(t, "F2-5.3.2.1-1 F2-5.3.2.1-6 F2-5.3.2.1-5 F2-5.4.1-1 F1-A-5.2.2-6", "the metadata", func(t *testing.T) {
		one := fixture.Get(t, none, fixture.Issuer+"/.well-known/oauth-authorization-server")
		two := fixture.Get(t, none, fixture.Issuer+"/.well-known/openid-configuration")
		if one.Status != 200 || one.Text != two.Text {
			t.Fatalf("%d %s\n%d %s", one.Status, one.Text, two.Status, two.Text)
		}
		for member, want := range map[string][]string{
			"token_endpoint_auth_methods_supported":            {"tls_client_auth", "self_signed_tls_client_auth", "private_key_jwt"},
			"introspection_endpoint_auth_methods_supported":    {"tls_client_auth", "self_signed_tls_client_auth", "private_key_jwt"},
			"token_endpoint_auth_signing_alg_values_supported": {"ES256", "PS256", "EdDSA"},
			"request_object_signing_alg_values_supported":      {"ES256", "PS256", "EdDSA"},
			"id_token_signing_alg_values_supported":            {"ES256"},
			"response_types_supported":                         {"code"},
			"code_challenge_methods_supported":                 {"S256"},
		} {
			var got []string
			for _, v := range one.JSON[member].([]any) {
				got = append(got, v.(string))
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: expected %v, found %v", member, want, got)
			}
		}
		for _, member := range []string{"tls_client_certificate_bound_access_tokens", "require_pushed_authorization_requests", "authorization_response_iss_parameter_supported"} {
			if one.JSON[member] != true {
				t.Errorf("%s is %v", member, one.JSON[member])
			}
		}
	})
	proves(t, "F2-5.3.2.1-2", "the password grant", func(t *testing.T) {
		wantError(t, fixture.Post(t, l1, fixture.MTLSBase+"/token", "client_id", "f-dn", "grant_type", "password", "username", "ann", "password", "x"), 400, "unsupported_grant_type")
	})
	proves(t, "F2-5.3.2.1-3 F2-5.3.2.1-6 F1-A-5.2.2-14 F1-A-5.2.2-16", "clients that were registered before the profile", func(t *testing.T) {
		secret, hash := authserver.NewSecret()
		as.RegisterUnchecked(t, &authserver.Client{ID: "f-pub", AuthMethod: authserver.None, BoundTokens: true, Scope: "read", RedirectURIs: []string{callback}})
		as.RegisterUnchecked(t, &authserver.Client{ID: "f-sec", AuthMethod: authserver.ClientSecretBasic, SecretHash: hash, BoundTokens: true, Scope: "read"})
		wantClientRefused(t, push(t, as, as.L1, fixture.MTLSBase, requestOf("client_id", "f-pub")))
		wantClientRefused(t, fixture.Token(t, l1, "f-sec", "Authorization", fixture.Basic("f-sec", secret)))
		wantReason(t, as, decision.MethodDisabled)
		as.RegisterUnchecked(t, &authserver.Client{ID: "f-free", AuthMethod: clientauth.TLSClientAuth, SubjectDN: fixture.SubjectDN, Scope: "read"})
		wantClientRefused(t, fixture.Token(t, l1, "f-free"))
		wantReason(t, as, decision.ClientMisconfig)
	})
	proves(t, "F2-5.3.2.1-4 F2-5.3.2.1-6 F2-5.3.2.2-2 F2-5.3.2.2-4 F1-A-5.2.2-5", "no certificate", func(t *testing.T) {
		wantClientRefused(t, fixture.Token(t, none, "f-dn"))
		wantClientRefused(t, push(t, as, nil, fixture.MTLSBase, requestOf("client_id", "f-dn")))
		wantClientRefused(t, push(t, as, as.L1, fixture.Issuer, requestOf("client_id", "f-dn"))) // not asked for there
		r := fixture.Token(t, l1, "f-dn")
		wantOK(t, r)
		if r.Cnf() != certbound.Thumbprint(as.L1.Cert) {
			t.Errorf("cnf is %q", r.Cnf())
		}
	})
	proves(t, "F2-5.3.2.1-7", "a redirect URI of somebody else", func(t *testing.T) {
		r := push(t, as, as.L1, fixture.MTLSBase, requestOf("client_id", "f-dn", "redirect_uri", "https://evil.test/cb"))
		wantIR(t, r)
		wantErrorPage(t, b.get(authorizeURL("client_id", "f-dn", "redirect_uri", "https://evil.test/cb")), 400, "invalid_request")
	})
	proves(t, "F2-5.3.2.2-1", "another response type", func(t *testing.T) {
		for _, rt := range []string{"token", "id_token", "code id_token", "code token", "none"} {
			wantError(t, push(t, as, as.L1, fixture.MTLSBase, requestOf("client_id", "f-dn", "response_type", rt)), 400, "unsupported_response_type")
		}
	})
	proves(t, "F2-5.3.2.2-3 F2-5.3.2.2-7", "a request that was not pushed", func(t *testing.T) {
		if q := response(t, b.get(authorizeURL("client_id", "f-dn"))); q.Get("error") != "invalid_request" || q.Get("code") != "" {
			t.Errorf("%v", q)
		}
	})
	proves(t, "F2-5.3.2.2-5 F2-5.3.2.2-6 F1-A-5.2.2-18", "without PKCE, or without redirect_uri", func(t *testing.T) {
		wantIR(t, push(t, as, as.L1, fixture.MTLSBase, requestOf("client_id", "f-dn", "code_challenge", "", "code_challenge_method", "")))
		wantIR(t, push(t, as, as.L1, fixture.MTLSBase, requestOf("client_id", "f-dn", "code_challenge_method", "plain", "code_challenge", verifier)))
		wantIR(t, push(t, as, as.L1, fixture.MTLSBase, requestOf("client_id", "f-dn", "redirect_uri", "")))
	})
	proves(t, "F2-5.3.2.2-12 F2-5.4.1-4", "a request_uri", func(t *testing.T) {
		r := push(t, as, as.L1, fixture.MTLSBase, requestOf("client_id", "f-dn"))
		uri, _ := r.JSON["request_uri"].(string)
		if in, _ := r.JSON["expires_in"].(float64); r.Status != 201 || in <= 0 || in >= 600 {
			t.Errorf("%d %s", r.Status, r.Text)
		}
		if value := strings.TrimPrefix(uri, "urn:ietf:params:oauth:request_uri:"); len(value) != 43 { // 256 bits in base64url
			t.Error(uri)
		}
	})
	proves(t, "F2-5.3.2.2-9 F2-5.3.2.2-7 F2-5.3.2.2-10 F2-5.3.2.2-11 F2-5.4.1-4 F2-5.3.2.1-9", "a code, twice", func(t *testing.T) {
		code := authorize(t) // which looks at 303, at iss, and at the 256 bits of the code
		r := redeem(t, code)
		wantOK(t, r)
		if r.Cnf() != certbound.Thumbprint(as.L1.Cert) {
			t.Errorf("cnf is %q", r.Cnf())
		}
		refresh := refreshToken(r)
		if len(strings.TrimPrefix(refresh, "cbr_")) != 43 {
			t.Errorf("a refresh token of %d characters", len(refresh))
		}
		for range 2 {
			r := fixture.Post(t, l1, fixture.MTLSBase+"/token", "client_id", "f-dn", "grant_type", "refresh_token", "refresh_token", refresh)
			wantOK(t, r)
			if refreshToken(r) != "" {
				t.Error("a new refresh token")
			}
		}
		wantIG(t, redeem(t, code))
	})
	proves(t, "F2-5.3.2.2-14", "a nonce of 64 characters", func(t *testing.T) {
		nonce := strings.Repeat("n", 64)
		r := redeem(t, wantCode(t, b.code(pushed(t, as, "client_id", "f-dn", "nonce", nonce, "prompt", "login"), "ann")))
		wantOK(t, r)
		if id, _ := r.JSON["id_token"].(string); fixture.Claims(id)["nonce"] != nonce {
			t.Error(r.Text)
		}
	})
	proves(t, "F2-5.2.3-1 F2-5.2.3-3", "what a browser sees of the authorization endpoint", func(t *testing.T) {
		for _, to := range []string{pushed(t, as, "client_id", "f-dn"), fixture.Issuer + "/authorize"} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, to, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Origin", "https://app.test")
			r := fixture.Do(t, none, req)
			if !strings.Contains(r.Header.Get("Strict-Transport-Security"), "max-age=") {
				t.Error("no Strict-Transport-Security")
			}
			for name := range r.Header {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("%s: %s", name, r.Header.Get(name))
				}
			}
		}
	})
	// The last one: it moves the clock.
	proves(t, "F2-5.3.2.1-11", "a code after 61 seconds", func(t *testing.T) {
		code := authorize(t)
		later(61 * time.Second)
		wantIG(t, redeem(t, code))
		wantReason(t, as, decision.CodeExpired)
	})
}

// TestProfileAssertions holds client assertions to the profile: at a server under it, and
// of a client under it at another server.
func TestProfileAssertions(t *testing.T) {
	server, _ := profiled(t)
	single := fixture.Start(t)
	single.Register(t, &authserver.Client{ID: "f-pkj", AuthMethod: authserver.PrivateKeyJWT, JWKS: fixture.JWKSOf(t, single.AssertionKey),
		BoundTokens: true, Scope: "read", Profile: authserver.ProfileFAPI2})
	for name, as := range map[string]*fixture.AS{"server": server, "client": single} {
		t.Run(name, func(t *testing.T) {
			send := func(t *testing.T, assertion string) *fixture.Answer {
				t.Helper()
				return fixture.Post(t, as.As(t, as.L2), fixture.MTLSBase+"/token", "grant_type", "client_credentials",
					"client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer", "client_assertion", assertion)
			}
			now := time.Now()
			for _, tc := range []struct {
				name   string
				change map[string]any
				ok     bool
				ids    string
			}{
				{"issuer", map[string]any{"aud": fixture.Issuer}, true, "F2-5.3.2.1-8"},
				{"an array of one", map[string]any{"aud": []string{fixture.Issuer}}, false, "F2-5.3.2.1-8"},
				{"token endpoint", map[string]any{"aud": fixture.Issuer + "/token"}, false, "F2-5.3.2.1-8"},
				{"alias", map[string]any{"aud": fixture.MTLSBase + "/token"}, false, "F2-5.3.2.1-8"},
				{"iat and nbf 8 s ahead", map[string]any{"iat": now.Add(8 * time.Second).Unix(), "nbf": now.Add(8 * time.Second).Unix()}, true, "F2-5.3.2.1-13"},
				{"iat more than 60 s ahead", map[string]any{"iat": now.Add(time.Hour).Unix()}, false, "F2-5.3.2.1-13"},
				{"nbf more than 60 s ahead", map[string]any{"nbf": now.Add(time.Hour).Unix()}, false, "F2-5.3.2.1-13"},
			} {
				proves(t, tc.ids, tc.name, func(t *testing.T) {
					change := map[string]any{"iss": "f-pkj", "sub": "f-pkj"}
					for k, v := range tc.change {
						change[k] = v
					}
					r := send(t, as.Assertion(t, change))
					if !tc.ok {
						wantClientRefused(t, r)
						wantReason(t, as, decision.AssertionInvalid)
						return
					}
					wantOK(t, r)
					if r.Cnf() != certbound.Thumbprint(as.L2.Cert) {
						t.Errorf("cnf is %q", r.Cnf())
					}
				})
			}
			proves(t, "F2-5.3.2.1-4", "without a certificate", func(t *testing.T) {
				r := fixture.Post(t, as.As(t, nil), fixture.MTLSBase+"/token", "grant_type", "client_credentials",
					"client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
					"client_assertion", as.Assertion(t, map[string]any{"iss": "f-pkj", "sub": "f-pkj"}))
				wantIR(t, r)
				wantReason(t, as, decision.BindingNeeded)
			})
			proves(t, "F2-5.4.1-1", "signed with RS256, ES384 or PS512", func(t *testing.T) {
				key, err := rsa.GenerateKey(rand.Reader, 2048)
				if err != nil {
					t.Fatal(err)
				}
				set, err := marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public()}}})
				if err != nil {
					t.Fatal(err)
				}
				as.Register(t, &authserver.Client{ID: "f-rsa", AuthMethod: authserver.PrivateKeyJWT, JWKS: set, BoundTokens: true, Scope: "read", Profile: authserver.ProfileFAPI2})
				claims := map[string]any{"iss": "f-rsa", "sub": "f-rsa", "aud": fixture.Issuer, "exp": now.Add(time.Minute).Unix()}
				for _, alg := range []jose.SignatureAlgorithm{jose.RS256, jose.PS512, jose.RS512} {
					claims["jti"] = string(alg)
					wantClientRefused(t, send(t, fixture.Sign(t, alg, key, claims)))
				}
				claims["jti"] = "good"
				wantOK(t, send(t, fixture.Sign(t, jose.PS256, key, claims)))
			})
		})
	}
}

// A server that allows unbound tokens does not give one to a client of the profile.
func TestProfileOfAClient(t *testing.T) {
	as := fixture.Start(t, func(c *authserver.Config) { c.AllowUnboundFallback = true })
	as.Register(t, &authserver.Client{ID: "f-pkj", AuthMethod: authserver.PrivateKeyJWT, JWKS: fixture.JWKSOf(t, as.AssertionKey),
		BoundTokens: true, Scope: "read", Profile: authserver.ProfileFAPI2})
	send := func(id string) *fixture.Answer {
		return fixture.Post(t, as.As(t, nil), fixture.MTLSBase+"/token", "grant_type", "client_credentials",
			"client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
			"client_assertion", as.Assertion(t, map[string]any{"iss": id, "sub": id}))
	}
	proves(t, "F2-5.3.2.1-4", "client credentials without a certificate", func(t *testing.T) {
		wantOK(t, send("c-pkj"))
		wantIR(t, send("f-pkj"))
		wantReason(t, as, decision.BindingNeeded)
	})
	proves(t, "F2-5.3.2.2-8", "redirect URIs over http", func(t *testing.T) {
		for uri, ok := range map[string]bool{callback: true, "http://127.0.0.1/cb": true, "http://app.test/cb": false, "http://localhost/cb": false, "com.example.app:/cb": false} {
			c := &authserver.Client{ID: "x", AuthMethod: clientauth.TLSClientAuth, SubjectDN: fixture.SubjectDN, BoundTokens: true, Profile: authserver.ProfileFAPI2,
				RedirectURIs: []string{uri}, GrantTypes: []string{"authorization_code"}}
			rules := startedRules(t)
			if err := authserver.ValidateClient(c, rules); (err == nil) != ok {
				t.Errorf("%s: %v", uri, err)
			}
		}
	})
}

// wantClientRefused wants invalid_client. A server without client_secret_basic has no
// challenge for it, and so the status is 400 (RFC 6749, Section 5.2).
func wantClientRefused(t *testing.T, r *fixture.Answer) {
	t.Helper()
	if status := r.Status; status != 400 && status != 401 {
		t.Fatalf("expected 400 or 401, found %d %s", status, r.Text)
	}
	wantError(t, r, r.Status, "invalid_client")
}

// startedRules are those of a server with people.
func startedRules(t *testing.T) authserver.Rules {
	t.Helper()
	cfg := fixture.Start(t).Config
	cfg.Authorization = authserver.Authorization{Enabled: true, Login: fakeLogin{}}
	return cfg.Rules()
}
