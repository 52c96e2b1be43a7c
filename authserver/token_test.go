package authserver_test

import (
	"crypto"
	"encoding/base64"
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/clientauth"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pkitest"

	"net/http"
)

func TestTokenRequest(t *testing.T) {
	as := fixture.Start(t)
	l1, none := as.As(t, as.L1), as.As(t, nil)

	proves(t, "O-5.1-1 M-3-12 DP-3", "the answer", func(t *testing.T) {
		r := fixture.Token(t, l1, "c-dn")
		wantOK(t, r)
		if r.Header.Get("Pragma") != "no-cache" || r.JSON["expires_in"] != 600.0 || r.JSON["scope"] != "read write" {
			t.Errorf("%v %s", r.Header, r.Text)
		}
	})
	proves(t, "O-3.2-1", "form rules", func(t *testing.T) {
		wantIR(t, fixture.Token(t, l1, "c-dn", "grant_type", "client_credentials"))
		wantError(t, fixture.Get(t, l1, fixture.MTLSBase+"/token"), 405, "invalid_request")
		wantIR(t, fixture.Post(t, l1, fixture.MTLSBase+"/token", "grant_type", "", "client_id", "c-dn"))
		for contentType, body := range map[string]string{
			"application/json":                    `{"grant_type":"client_credentials","client_id":"c-dn"}`,
			"text/plain":                          "grant_type=client_credentials&client_id=c-dn",
			"multipart/form-data; boundary=x":     "--x\r\n\r\n--x--",
			"":                                    "grant_type=client_credentials&client_id=c-dn",
			"application/x-www-form-urlencoded  ": "grant_type=client_credentials&client_id=%zz",
		} {
			req, err := http.NewRequestWithContext(t.Context(), "POST", fixture.MTLSBase+"/token", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header["Content-Type"] = []string{contentType}
			if contentType == "" {
				delete(req.Header, "Content-Type")
			}
			wantIR(t, fixture.Do(t, l1, req))
		}
	})
	proves(t, "", "a form of one megabyte, and too many parameters", func(t *testing.T) {
		wantError(t, fixture.Token(t, l1, "c-dn", "padding", strings.Repeat("x", 1<<20)), 413, "invalid_request")
		wantReason(t, as, decision.RequestTooLarge)
		var many []string
		for i := range 100 {
			many = append(many, "p"+string(rune('0'+i%10))+strings.Repeat("a", i), "x")
		}
		wantError(t, fixture.Token(t, l1, "c-dn", many...), 413, "invalid_request")
		// Also without a length.
		req, err := http.NewRequestWithContext(t.Context(), "POST", fixture.MTLSBase+"/token", struct{ *strings.Reader }{strings.NewReader("x=" + strings.Repeat("x", 1<<20))})
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = -1
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		wantError(t, fixture.Do(t, l1, req), 413, "invalid_request")
		chunked, err := http.NewRequestWithContext(t.Context(), "POST", fixture.MTLSBase+"/token", struct{ *strings.Reader }{strings.NewReader("grant_type=client_credentials&client_id=c-dn")})
		if err != nil {
			t.Fatal(err)
		}
		chunked.ContentLength = -1
		chunked.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
		wantOK(t, fixture.Do(t, l1, chunked))
	})
	proves(t, "G-2.4-1", "other grants", func(t *testing.T) {
		for _, g := range []string{"password", "authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:token-exchange", "Client_Credentials"} {
			wantError(t, fixture.Post(t, l1, fixture.MTLSBase+"/token", "grant_type", g, "client_id", "c-dn", "username", "u", "password", "p"), 400, "unsupported_grant_type")
		}
	})
	proves(t, "", "scope", func(t *testing.T) {
		for _, tc := range []struct{ request, want string }{
			{"read", "read"}, {"write read", "write read"}, {"read read", "read"}, {"", "read write"},
			{"admin", ""}, {"read admin", ""}, {"READ", ""}, {"read  write", ""}, {" read", ""}, {"read\"", ""}, {"unknown", ""},
		} {
			r := fixture.Token(t, l1, "c-dn", "scope", tc.request)
			if tc.want == "" {
				wantError(t, r, 400, "invalid_scope")
				wantReason(t, as, decision.ScopeNotAllowed)
				continue
			}
			wantOK(t, r)
			if r.JSON["scope"] != tc.want || fixture.Claims(r.AccessToken())["scope"] != tc.want {
				t.Errorf("scope %q: found %v", tc.request, r.JSON["scope"])
			}
		}
	})
	proves(t, "U-2-1 U-2-2 A-3-1 G-2.3-1 G-4.10-2", "resource", func(t *testing.T) {
		as.Register(t, &authserver.Client{ID: "both", AuthMethod: clientauth.TLSClientAuth, SubjectDN: fixture.SubjectDN, Resources: []string{fixture.Resource, fixture.Resource2}})
		as.Register(t, &authserver.Client{ID: "second", AuthMethod: clientauth.TLSClientAuth, SubjectDN: fixture.SubjectDN, Resources: []string{fixture.Resource2}})
		for _, tc := range []struct {
			id       string
			resource []string
			aud      any
		}{
			{"c-dn", nil, fixture.Resource},
			{"c-dn", []string{fixture.Resource}, fixture.Resource},
			{"c-dn", []string{fixture.Resource2}, nil}, // not this client's
			{"c-dn", []string{"https://unknown.test"}, nil},
			{"c-dn", []string{"not a uri"}, nil},
			{"c-dn", []string{fixture.Resource + "#fragment"}, nil},
			{"c-dn", []string{"/relative"}, nil},
			{"second", nil, fixture.Resource2},
			{"both", nil, fixture.Resource},
			{"both", []string{fixture.Resource2}, fixture.Resource2},
			{"both", []string{fixture.Resource2, fixture.Resource2}, fixture.Resource2},
			{"both", []string{fixture.Resource, fixture.Resource2}, []any{fixture.Resource, fixture.Resource2}},
			{"both", []string{fixture.Resource, "https://unknown.test"}, nil},
		} {
			var pairs []string
			for _, r := range tc.resource {
				pairs = append(pairs, "resource", r)
			}
			r := fixture.Token(t, l1, tc.id, pairs...)
			if tc.aud == nil {
				wantError(t, r, 400, "invalid_target")
				wantReason(t, as, decision.ResourceNotAllowed)
				continue
			}
			wantOK(t, r)
			got, _ := json.Marshal(fixture.Claims(r.AccessToken())["aud"])
			want, _ := json.Marshal(tc.aud)
			if string(got) != string(want) {
				t.Errorf("%s %v: aud %s", tc.id, tc.resource, got)
			}
		}
	})
	proves(t, "", "lifetimes", func(t *testing.T) {
		as.Register(t, &authserver.Client{ID: "short", AuthMethod: clientauth.TLSClientAuth, SubjectDN: fixture.SubjectDN, TokenLifetime: 7})
		r := fixture.Token(t, l1, "short")
		wantOK(t, r)
		claims := fixture.Claims(r.AccessToken())
		if r.JSON["expires_in"] != 7.0 || claims["exp"].(float64)-claims["iat"].(float64) != 7 {
			t.Errorf("%v %v", r.JSON["expires_in"], claims)
		}
	})
	proves(t, "", "a client without the grant", func(t *testing.T) {
		as.RegisterUnchecked(t, &authserver.Client{ID: "other-grant", AuthMethod: clientauth.TLSClientAuth, SubjectDN: fixture.SubjectDN, GrantTypes: []string{"authorization_code"}})
		wantIC(t, fixture.Token(t, l1, "other-grant")) // not usable, since the server has no such grant
		wantReason(t, as, decision.ClientMisconfig)
	})
	proves(t, "G-4.9-1", "nothing secret in the log", func(t *testing.T) {
		r := fixture.Token(t, l1, "c-dn")
		a := as.Assertion(t, map[string]any{"aud": "https://evil.test"})
		wantIC(t, fixture.Post(t, none, fixture.MTLSBase+"/token", "grant_type", "client_credentials",
			"client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer", "client_assertion", a))
		fixture.Post(t, l1, fixture.MTLSBase+"/revoke", "client_id", "c-dns", "token", r.AccessToken())
		for _, secret := range []string{r.AccessToken(), a, as.Secret} {
			if strings.Contains(as.Log(), secret) || strings.Contains(as.Log(), secret[len(secret)-20:]) {
				t.Error("the log holds a token, an assertion or a secret")
			}
		}
	})
}

func TestBinding(t *testing.T) {
	versions(t, func(t *testing.T, as *fixture.AS, v uint16) {
		x5t := regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`)
		proves(t, "M-3-1 M-3.1-1 M-3.1-2 M-3.1-4 M-3.1-5 M-3.1-6 M-3.4-2 M-9.1-1 M-9.5-1 A-2.2-2 K-3.1-1 K-3.1-2 K-3.1-4", "cnf of a JWT", func(t *testing.T) {
			for _, leaf := range []*pkitest.Leaf{as.L1, as.L1r, as.L1k} {
				r := fixture.Token(t, as.As(t, leaf, v), "c-dn")
				wantOK(t, r)
				claims := fixture.Claims(r.AccessToken())
				cnf, _ := claims["cnf"].(map[string]any)
				if len(cnf) != 1 || cnf["x5t#S256"] != certbound.Thumbprint(leaf.Cert) || !x5t.MatchString(r.Cnf()) {
					t.Errorf("cnf is %v", claims["cnf"])
				}
				for _, name := range []string{"iss", "exp", "aud", "sub", "client_id", "iat", "jti"} {
					if claims[name] == nil {
						t.Errorf("no %s", name)
					}
				}
			}
		})
		proves(t, "M-3-2 M-3.2-1 M-9.4-1 N-2.2-2", "the same in an opaque token", func(t *testing.T) {
			l1, rs := as.As(t, as.L1, v), as.As(t, as.L2, v)
			for _, id := range []string{"c-dn", "c-dn-opaque"} {
				r := fixture.Token(t, l1, id)
				wantOK(t, r)
				if len(r.AccessToken()) < 40 {
					t.Errorf("a short token: %q", r.AccessToken())
				}
				i := fixture.Post(t, rs, fixture.MTLSBase+"/introspect", "client_id", "c-rs", "token", r.AccessToken())
				if i.JSON["active"] != true || i.Cnf() != certbound.Thumbprint(as.L1.Cert) {
					t.Errorf("%s: %s", id, i.Text)
				}
			}
		})
		proves(t, "M-3-3", "however the client authenticated", func(t *testing.T) {
			s1 := as.As(t, as.S1, v)
			r := fixture.Token(t, s1, "c-sec-bound", "Authorization", fixture.Basic("c-sec-bound", as.Secret))
			wantOK(t, r)
			if r.Cnf() != certbound.Thumbprint(as.S1.Cert) {
				t.Error(r.Cnf())
			}
		})
		proves(t, "M-3-4 M-6.3-3", "the certificate of this very request", func(t *testing.T) {
			wantOK(t, fixture.Token(t, as.As(t, as.L1, v), "c-dn"))
			r := fixture.Token(t, as.As(t, as.L1r, v), "c-dn")
			if r.Cnf() != certbound.Thumbprint(as.L1r.Cert) {
				t.Error(r.Cnf())
			}
		})
		proves(t, "M-3.4-3 DP-4", "asked for, but no certificate", func(t *testing.T) {
			wantIR(t, fixture.Token(t, as.As(t, nil, v), "c-sec-bound", "Authorization", fixture.Basic("c-sec-bound", as.Secret)))
			wantReason(t, as, decision.BindingNeeded)
			wantIR(t, fixture.Post(t, as.As(t, as.S1, v), fixture.Issuer+"/token", "grant_type", "client_credentials", "Authorization", fixture.Basic("c-sec-bound", as.Secret)))
		})
	})

	proves(t, "M-3.4-3", "AllowUnboundFallback", func(t *testing.T) {
		as := fixture.Start(t, func(c *authserver.Config) { c.AllowUnboundFallback = true })
		r := fixture.Token(t, as.As(t, nil), "c-sec-bound", "Authorization", fixture.Basic("c-sec-bound", as.Secret))
		wantOK(t, r)
		if r.Cnf() != "" {
			t.Error(r.Cnf())
		}
		wantOK(t, fixture.Token(t, as.As(t, as.S1), "c-sec-bound", "Authorization", fixture.Basic("c-sec-bound", as.Secret)))
	})
	proves(t, "M-3.4-4", "bind always", func(t *testing.T) {
		as := fixture.Start(t, func(c *authserver.Config) { c.Binding = authserver.BindAlwaysIfCertificate })
		for id, pairs := range map[string][]string{"c-dn-plain": nil, "c-sec": {"Authorization", fixture.Basic("c-sec", as.Secret)}} {
			r := fixture.Token(t, as.As(t, as.L1), id, pairs...)
			wantOK(t, r)
			if r.Cnf() != certbound.Thumbprint(as.L1.Cert) {
				t.Error(r.Cnf())
			}
		}
		r := fixture.Token(t, as.As(t, nil), "c-sec", "Authorization", fixture.Basic("c-sec", as.Secret))
		wantOK(t, r)
		if r.Cnf() != "" {
			t.Error(r.Cnf())
		}
	})
	proves(t, "M-1-2", "binding switched off", func(t *testing.T) {
		for name, change := range map[string]func(*authserver.Config){
			"policy": func(c *authserver.Config) { c.Binding = authserver.BindNever },
			"switch": func(c *authserver.Config) { c.MTLS.CertificateBoundAccessTokens = false },
		} {
			as := fixture.Start(t, change)
			r := fixture.Token(t, as.As(t, as.L1), "c-dn-plain")
			wantOK(t, r)
			if r.Cnf() != "" {
				t.Errorf("%s: %s", name, r.Cnf())
			}
			// A client that asks for binding never gets less.
			as.RegisterUnchecked(t, &authserver.Client{ID: "wants", AuthMethod: clientauth.TLSClientAuth, SubjectDN: fixture.SubjectDN, BoundTokens: true})
			wantIC(t, fixture.Token(t, as.As(t, as.L1), "wants"))
		}
	})
	t.Run("lifetime capped at the certificate", func(t *testing.T) {
		as := fixture.Start(t, func(c *authserver.Config) { c.CapLifetimeAtCertificate = true })
		o := fixture.L1Options()
		o.NotAfter = time.Now().Add(100 * time.Second)
		leaf := as.CA1i.MustLeaf(o)
		r := fixture.Token(t, as.As(t, leaf), "c-dn")
		wantOK(t, r)
		if exp := int64(fixture.Claims(r.AccessToken())["exp"].(float64)); exp != leaf.Cert.NotAfter.Unix() {
			t.Errorf("exp %d, notAfter %d", exp, leaf.Cert.NotAfter.Unix())
		}
		if got := r.JSON["expires_in"].(float64); got > 100 || got < 90 {
			t.Errorf("expires_in %v", got)
		}
		old := pkitest.MustSelfSigned(pkitest.LeafOptions{NotAfter: time.Now().Add(-time.Minute)})
		wantIR(t, fixture.Token(t, as.As(t, old), "c-sec-bound", "Authorization", fixture.Basic("c-sec-bound", as.Secret)))
		wantReason(t, as, decision.Expired)
	})
	t.Run("what a proxy tells", func(t *testing.T) {
		source := &fakeSource{}
		as := fixture.Start(t, func(c *authserver.Config) { c.Source = source })
		basic := []string{"Authorization", fixture.Basic("c-sec-bound", as.Secret)}
		// A fingerprint is enough to bind, attributes are not.
		source.p = certsource.NewFingerprint("fake", [32]byte{1, 2, 3})
		r := fixture.Token(t, as.As(t, nil), "c-sec-bound", basic...)
		wantOK(t, r)
		if r.Cnf() != certbound.EncodeThumbprint([32]byte{1, 2, 3}) {
			t.Error(r.Cnf())
		}
		wantIC(t, fixture.Token(t, as.As(t, nil), "c-dn"))
		wantReason(t, as, decision.NotEnough)
		source.p = certsource.NewAttributes("fake", certsource.Attributes{SANDNS: []string{"client-1.example"}})
		wantIR(t, fixture.Token(t, as.As(t, nil), "c-sec-bound", basic...))
		wantReason(t, as, decision.NotEnough)
		source.p, source.err = nil, &certsource.ParseError{Source: "fake", Field: "Client-Cert", Fault: "not base64"}
		wantIR(t, fixture.Token(t, as.As(t, nil), "c-dn"))
		wantReason(t, as, decision.SourceMalformed)
		source.err = &certsource.UntrustedPeerError{Source: "fake", Field: "Client-Cert", Peer: "192.0.2.1:1"}
		wantIR(t, fixture.Token(t, as.As(t, nil), "c-dn"))
		wantReason(t, as, decision.SourceUntrusted)
	})
}

type fakeSource struct {
	p   *certsource.Presented
	err error
}

func (*fakeSource) Name() string { return "fake" }
func (f *fakeSource) Certificate(*http.Request) (*certsource.Presented, error) {
	if f.p == nil && f.err == nil {
		return nil, certsource.ErrNoCertificate
	}
	return f.p, f.err
}

// TestTokenSignature checks tokens with go-jose and the published keys.
func TestTokenSignature(t *testing.T) {
	for _, alg := range []string{"ES256", "PS256", "EdDSA", "RS256"} {
		proves(t, "A-2.1-1 A-2.2-1 F2-5.4.1-1 F2-5.4.1-4 F2-5.4.2-2", alg, func(t *testing.T) {
			as := fixture.Start(t, func(c *authserver.Config) { c.SigningAlg = alg })
			r := fixture.Token(t, as.As(t, as.L1), "c-dn")
			wantOK(t, r)
			keys := fixture.Get(t, as.As(t, nil), fixture.Issuer+"/jwks")
			var set jose.JSONWebKeySet
			if err := json.Unmarshal([]byte(keys.Text), &set); err != nil || len(set.Keys) != 1 {
				t.Fatal(err, keys.Text)
			}
			if k := set.Keys[0]; !k.IsPublic() || k.Use != "sig" || k.Algorithm != alg || k.KeyID == "" {
				t.Errorf("key %+v", k)
			}
			token, err := jwt.ParseSigned(r.AccessToken(), []jose.SignatureAlgorithm{jose.SignatureAlgorithm(alg)})
			if err != nil {
				t.Fatal(err)
			}
			h := token.Headers[0]
			if h.KeyID != set.Keys[0].KeyID || h.ExtraHeaders[jose.HeaderType] != "at+jwt" || len(h.ExtraHeaders) != 1 || h.JSONWebKey != nil {
				t.Errorf("header %+v", h)
			}
			var claims jwt.Claims
			if err := token.Claims(set.Keys[0], &claims); err != nil {
				t.Fatal(err)
			}
			if err := claims.Validate(jwt.Expected{Issuer: fixture.Issuer, Subject: "c-dn", AnyAudience: jwt.Audience{fixture.Resource}, Time: time.Now()}); err != nil {
				t.Error(err)
			}
			if raw, err := base64.RawURLEncoding.DecodeString(claims.ID); err != nil || len(raw) < 16 {
				t.Errorf("jti %q", claims.ID)
			}
			sum, err := set.Keys[0].Thumbprint(crypto.SHA256)
			if err != nil || base64.RawURLEncoding.EncodeToString(sum) != h.KeyID {
				t.Error("kid is not the thumbprint of the key")
			}
		})
	}
	t.Run("names that need escapes", func(t *testing.T) {
		as := fixture.Start(t, func(c *authserver.Config) { c.Issuer = "https://as.test/a%20b"; c.MTLSBaseURL = "" })
		as.Register(t, &authserver.Client{ID: `quote"back\slash<&>`, AuthMethod: clientauth.TLSClientAuth, SubjectDN: fixture.SubjectDN})
		r := fixture.Post(t, as.As(t, as.L1), fixture.MTLSBase+"/a%20b/token", "grant_type", "client_credentials", "client_id", `quote"back\slash<&>`)
		if r.Status == 200 {
			if got := fixture.Claims(r.AccessToken())["client_id"]; got != `quote"back\slash<&>` {
				t.Errorf("client_id %v", got)
			}
		} else {
			t.Errorf("%d %s", r.Status, r.Text)
		}
	})
}
