package authserver_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pkitest"
)

// UserInfo of another server took a bound token without its certificate. Each kind of
// token is tried with each certificate, on both listeners.
func TestAttackBoundTokenAtUserInfo(t *testing.T) {
	t.Attr("attack", "24")
	t.Attr("requirement", "M-3-1 M-3-15 M-4-5")
	b := startGrants(t)
	leaves := map[string]*pkitest.Leaf{"none": nil, "right": b.S1, "wrong": b.S2, "CA's": b.L1}
	bound := b.tokens(t, b.As(t, b.S1), "p-pub").AccessToken()
	unbound := b.tokens(t, b.As(t, nil), "p-free").AccessToken()
	opaque := b.tokens(t, b.As(t, b.L1), "p-opaque").AccessToken()
	for _, tt := range []struct {
		name, token string
		at          map[string]int // by certificate, on the mutual-TLS listener
		browser     int            // on the other one
	}{
		{"bound", bound, map[string]int{"none": 401, "right": 200, "wrong": 401, "CA's": 401}, 401},
		{"bound, opaque", opaque, map[string]int{"none": 401, "right": 401, "wrong": 401, "CA's": 200}, 401},
		{"unbound", unbound, map[string]int{"none": 200, "right": 200, "wrong": 200, "CA's": 200}, 200},
		{"no token", "", map[string]int{"none": 401, "right": 401, "wrong": 401, "CA's": 401}, 401},
	} {
		check := func(where string, r *fixture.Answer, want int) {
			t.Helper()
			challenge := r.Header.Get("WWW-Authenticate")
			switch {
			case r.Status != want:
				t.Errorf("%s, %s: %d, want %d: %s", tt.name, where, r.Status, want, r.Text)
			case want == 200 && r.JSON["sub"] != alice:
				t.Errorf("%s, %s: %s", tt.name, where, r.Text)
			case want == 401 && tt.token == "" && challenge != `Bearer realm="`+fixture.Issuer+`"`:
				t.Errorf("%s, %s: a challenge with more than the scheme: %s", tt.name, where, challenge)
			case want == 401 && tt.token != "" && !strings.Contains(challenge, `error="invalid_token"`):
				t.Errorf("%s, %s: challenge %q", tt.name, where, challenge)
			}
			wantNoStore(t, r)
		}
		for name, leaf := range leaves {
			check(name, b.userinfo(t, b.As(t, leaf), fixture.MTLSBase, tt.token), tt.at[name])
		}
		check("browser's listener", b.userinfo(t, b.As(t, b.S1), fixture.Issuer, tt.token), tt.browser)
	}
	b.userinfo(t, b.As(t, b.S2), fixture.MTLSBase, bound)
	wantReason(t, b.AS, decision.BindingMismatch)
}

func TestUserInfo(t *testing.T) {
	b := startGrants(t)
	s1 := b.As(t, b.S1)
	tokenFor := func(t *testing.T, scope string, pairs ...string) string {
		t.Helper()
		code, verifier, _ := b.allow(t, "p-pub", func(g *authserver.Grant, _ *authserver.Code) {
			g.Scope, g.Resources = scope, []string{fixture.Resource, fixture.Resource2}
		})
		r := b.redeem(t, s1, "p-pub", code, verifier, pairs...)
		wantOK(t, r)
		return r.AccessToken()
	}
	ask := func(t *testing.T, method, url string, header http.Header, body string) *fixture.Answer {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = header
		return fixture.Do(t, s1, req)
	}
	t.Run("claims by scope", func(t *testing.T) {
		for scope, want := range map[string][]string{
			"openid":                             {"sub"},
			"openid profile":                     {"name", "sub"},
			"openid email":                       {"email", "email_verified", "sub"},
			"openid phone address":               {"address", "phone_number", "sub"},
			"openid profile email phone address": {"address", "email", "email_verified", "name", "phone_number", "sub"},
		} {
			r := b.userinfo(t, s1, fixture.MTLSBase, tokenFor(t, scope))
			var got []string
			for name := range r.JSON {
				got = append(got, name)
			}
			slices.Sort(got)
			if r.Status != 200 || !slices.Equal(got, want) || r.JSON["sub"] != alice {
				t.Errorf("%s: %s", scope, r.Text)
			}
		}
	})
	t.Run("methods", func(t *testing.T) {
		auth := http.Header{"Authorization": {"Bearer " + tokenFor(t, "openid")}}
		for method, want := range map[string]int{"GET": 200, "POST": 200, "HEAD": 200, "PUT": 405, "OPTIONS": 405, "DELETE": 405} {
			if r := ask(t, method, fixture.MTLSBase+"/userinfo", auth, ""); r.Status != want || want == 405 && r.Header.Get("Allow") != "GET, HEAD, POST" {
				t.Errorf("%s: %d", method, r.Status)
			}
		}
		if r := ask(t, "GET", fixture.MTLSBase+"/userinfo", http.Header{"Authorization": {"bearer  " + tokenFor(t, "openid")}}, ""); r.Status != 200 {
			t.Error("the scheme is not case-insensitive")
		}
	})
	proves(t, "B-2-1 B-2.3-1", "the token only in the header", func(t *testing.T) {
		token := tokenFor(t, "openid")
		auth := http.Header{"Authorization": {"Bearer " + token}}
		form := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
		for name, tt := range map[string]struct {
			url    string
			header http.Header
			body   string
			want   int
		}{
			"query":       {"/userinfo?access_token=" + token, http.Header{}, "", 400},
			"both":        {"/userinfo?access_token=" + token, auth, "", 400},
			"body":        {"/userinfo", form, "access_token=" + token, 401},
			"body, both":  {"/userinfo", http.Header{"Content-Type": form["Content-Type"], "Authorization": auth["Authorization"]}, "access_token=" + token, 400},
			"bad body":    {"/userinfo", http.Header{"Content-Type": form["Content-Type"], "Authorization": auth["Authorization"]}, "a=%", 400},
			"two headers": {"/userinfo", http.Header{"Authorization": {"Bearer " + token, "Bearer " + token}}, "", 400},
			"basic":       {"/userinfo", http.Header{"Authorization": {fixture.Basic("p-sec", b.Secret)}}, "", 401},
			"empty":       {"/userinfo", http.Header{"Authorization": {"Bearer "}}, "", 401},
			"too long":    {"/userinfo", http.Header{"Authorization": {"Bearer " + strings.Repeat("x", 17<<10)}}, "", 401},
		} {
			r := ask(t, "POST", fixture.MTLSBase+tt.url, tt.header, tt.body)
			if r.Status != tt.want || r.Header.Get("WWW-Authenticate") == "" || r.JSON["sub"] != nil {
				t.Errorf("%s: %d %s", name, r.Status, r.Text)
			}
		}
		if strings.Contains(b.Log(), token) {
			t.Error("the token is in the log")
		}
	})
	proves(t, "U-2-3 K-3.1-5", "a token for another resource, with the right certificate", func(t *testing.T) {
		wantIT(t, b.userinfo(t, s1, fixture.MTLSBase, tokenFor(t, "openid", "resource", fixture.Resource2)))
		wantReason(t, b.AS, decision.AudienceMismatch)
		if r := b.userinfo(t, s1, fixture.MTLSBase, tokenFor(t, "openid", "resource", fixture.Issuer)); r.Status != 200 {
			t.Error(r.Text)
		}
		wantIT(t, b.userinfo(t, s1, fixture.MTLSBase, tokenFor(t, "read")))
	})
	t.Run("other tokens", func(t *testing.T) {
		r := b.tokens(t, s1, "p-pub")
		id, _ := r.JSON["id_token"].(string)
		for name, token := range map[string]string{
			"ID token": id, "refresh token": refreshToken(r), "nonsense": "nonsense", "nonsense with dots": "a.b.c",
			"changed": r.AccessToken()[:len(r.AccessToken())-8] + "AAAAAAAA",
		} {
			if got := b.userinfo(t, s1, fixture.MTLSBase, token); got.Status != 401 || !strings.Contains(got.Header.Get("WWW-Authenticate"), "invalid_token") {
				t.Errorf("%s: %d %s", name, got.Status, got.Text)
			}
		}
		wantIT(t, b.userinfo(t, b.As(t, b.L1), fixture.MTLSBase, fixture.Token(t, b.As(t, b.L1), "c-dn").AccessToken()))
	})
	t.Run("a client's own token that names the issuer", func(t *testing.T) {
		b := startGrants(t, func(c *authserver.Config) { c.Resources = append(c.Resources, fixture.Issuer) })
		b.Register(t, &authserver.Client{ID: "machine", AuthMethod: authserver.ClientSecretBasic, SecretHash: secretHashOf(t, b.Secret),
			Scope: "openid read", Resources: []string{fixture.Issuer}})
		for _, scope := range []string{"openid", "read"} {
			r := fixture.Post(t, b.As(t, nil), fixture.Issuer+"/token", "grant_type", "client_credentials", "scope", scope, "resource", fixture.Issuer,
				"Authorization", fixture.Basic("machine", b.Secret))
			wantOK(t, r)
			wantIT(t, b.userinfo(t, b.As(t, nil), fixture.Issuer, r.AccessToken()))
		}
		// And a person's token for the issuer as a resource, without openid.
		b.Register(t, &authserver.Client{ID: "p-issuer", AuthMethod: authserver.None, RedirectURIs: []string{redirect}, Scope: "openid read", Resources: []string{fixture.Issuer}})
		code, verifier, _ := b.allow(t, "p-issuer", func(g *authserver.Grant, _ *authserver.Code) { g.Scope, g.Resources = "read", []string{fixture.Issuer} })
		r := b.redeem(t, b.As(t, nil), "p-issuer", code, verifier)
		wantOK(t, r)
		r = b.userinfo(t, b.As(t, nil), fixture.Issuer, r.AccessToken())
		if ch := r.Header.Get("WWW-Authenticate"); r.Status != 403 || !strings.Contains(ch, `error="insufficient_scope"`) || !strings.Contains(ch, `scope="openid"`) {
			t.Errorf("%d %q", r.Status, ch)
		}
	})
	t.Run("expired", func(t *testing.T) {
		b := startGrants(t)
		token := b.tokens(t, b.As(t, b.S1), "p-pub").AccessToken()
		b.later(11 * time.Minute)
		wantIT(t, b.userinfo(t, b.As(t, b.S1), fixture.MTLSBase, token))
		wantReason(t, b.AS, decision.TokenExpired)
	})
}

func secretHashOf(t *testing.T, secret string) string {
	t.Helper()
	hash, err := authserver.HashSecret(secret)
	if err != nil {
		t.Fatal(err)
	}
	return hash
}

// Whatever stands in the Authorization field, the answer is a challenge of RFC 6750 and
// never claims.
func FuzzUserInfo(f *testing.F) {
	s := fuzzServer(f)
	h := s.Handler()
	for _, v := range []string{"", "Bearer", "Bearer ", "Bearer a.b.c", "bearer cbt_x", "Bearer cbr_" + strings.Repeat("A", 43), "Basic eDp5", "DPoP x", "Bearer \x00", "Bearer x, Bearer y"} {
		f.Add(v, "")
		f.Add(v, "access_token=x")
	}
	f.Fuzz(func(t *testing.T, authorization, query string) {
		r := httptest.NewRequest(http.MethodGet, fixture.Issuer+"/userinfo", nil)
		r.Header["Authorization"] = []string{authorization}
		r.URL.RawQuery = query
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != 401 && w.Code != 400 || !strings.HasPrefix(w.Header().Get("WWW-Authenticate"), "Bearer realm=") || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%q: %d %v", authorization, w.Code, w.Header())
		}
	})
}

// FuzzTokenRequest sends forms to the token endpoint of a server where nothing was ever
// allowed: nothing comes out but errors of RFC 6749.
func FuzzTokenRequest(f *testing.F) {
	s := fuzzServer(f)
	h := s.Handler()
	for _, v := range []string{
		"grant_type=authorization_code&client_id=p&code=cbc_x&code_verifier=y&redirect_uri=z",
		"grant_type=refresh_token&client_id=p&refresh_token=cbr_x&scope=openid&resource=https://rs.test",
		"grant_type=client_credentials&client_id=p", "grant_type=password&client_id=p", "%", "client_id=p&client_id=q",
	} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, body string) {
		r := httptest.NewRequest(http.MethodPost, fixture.Issuer+"/token", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code < 400 || w.Code >= 500 || !strings.Contains(w.Body.String(), `{"error":"`) {
			t.Errorf("%q: %d %s", body, w.Code, w.Body)
		}
	})
}

// fuzzServer is a server with a public client p, without a network.
func fuzzServer(tb testing.TB) *authserver.Server {
	tb.Helper()
	s, store := newServer(tb, func(c *authserver.Config) {
		c.Authorization = authserver.Authorization{Enabled: true, Login: noLogin{}}
		c.AuthMethods = append(c.AuthMethods, authserver.None)
		c.Scopes = []string{"openid"}
	})
	err := store.CreateClient(tb.Context(), &authserver.Client{ID: "p", AuthMethod: authserver.None, RedirectURIs: []string{redirect}, Scope: "openid",
		GrantTypes: []string{authserver.GrantAuthorizationCode, authserver.GrantRefreshToken}})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// A server with people says at the start what it lacks.
func TestAuthorizationSettings(t *testing.T) {
	type bare struct{ authserver.Store }
	cfg := authserver.Config{Issuer: fixture.Issuer, AuthMethods: []string{authserver.ClientSecretBasic}, Resources: []string{fixture.Resource}}
	cfg.Authorization = authserver.Authorization{Enabled: true, Refresh: authserver.RefreshPolicy{Idle: -1}}
	_, store := newServer(t, nil)
	cfg.Store = bare{store}
	_, err := authserver.New(cfg)
	for _, setting := range []string{"Authorization.Enabled", "Authorization.Login", "Authorization.Refresh"} {
		if !hasSetting(err, setting) {
			t.Errorf("%s is not reported: %v", setting, err)
		}
	}
	cfg.Authorization.Enabled = false
	if _, err := authserver.New(cfg); err != nil {
		t.Errorf("off, and yet: %v", err)
	}
}

func hasSetting(err error, setting string) bool {
	joined, ok := err.(interface{ Unwrap() []error })
	return ok && slices.ContainsFunc(joined.Unwrap(), func(e error) bool {
		se, ok := e.(*authserver.SettingError)
		return ok && se.Setting == setting
	})
}
