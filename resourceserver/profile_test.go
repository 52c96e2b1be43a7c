package resourceserver_test

import (
	"crypto/tls"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pkitest"
	"github.com/certbound/certbound/resourceserver"
)

// Every setting that would break the profile is refused, and named.
func TestProfileSettings(t *testing.T) {
	feed := func() *resourceserver.RevocationFeed {
		return &resourceserver.RevocationFeed{ClientID: "rs", HTTPClient: client(certs().l2, nil)}
	}
	good := resourceserver.Config{
		Resource: resource, Issuer: "https://as.test", Source: certsource.TLS{}, HTTPClient: client(nil, nil),
		Profile: resourceserver.ProfileFAPI2, Revocations: feed(),
	}
	if _, err := resourceserver.New(good); err != nil {
		t.Fatalf("the profile alone: %v", err)
	}
	for _, tc := range []struct {
		name, setting, id string
		change            func(*resourceserver.Config)
	}{
		{"another profile", "Profile", "", func(c *resourceserver.Config) { c.Profile = "fapi1" }},
		{"unbound tokens", "Binding", "F2-5.3.4-5", func(c *resourceserver.Config) { c.Binding = resourceserver.WhenPresent }},
		{"no binding", "Binding", "F2-5.3.4-5", func(c *resourceserver.Config) { c.Binding = resourceserver.InsecureIgnoreBinding }},
		{"nobody knows of revocations", "Revocations", "F2-5.3.4-3", func(c *resourceserver.Config) { c.Revocations = nil }},
		{"nor of those of JWTs", "Revocations", "F2-5.3.4-3", func(c *resourceserver.Config) {
			c.Revocations = nil
			c.Introspection = &resourceserver.Introspection{ClientID: "rs", HTTPClient: client(certs().l2, nil), OpaqueOnly: true}
		}},
		{"old news", "Revocations.OnStale", "F2-5.3.4-3", func(c *resourceserver.Config) {
			c.Revocations = feed()
			c.Revocations.OnStale = resourceserver.AllowStale
		}},
		{"RS256", "Keys.Algorithms", "F2-5.4.1-1", func(c *resourceserver.Config) { c.Keys.Algorithms = []string{"ES256", "RS256"} }},
		{"any type", "Keys.InsecureAnyTokenType", "F2-5.4.1-1", func(c *resourceserver.Config) { c.Keys.InsecureAnyTokenType = true }},
		{"two minutes ahead", "Leeway", "", func(c *resourceserver.Config) { c.Leeway = 2 * time.Minute }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.id != "" {
				t.Attr("requirement", tc.id)
			}
			cfg := good
			tc.change(&cfg)
			v, err := resourceserver.New(cfg)
			if v != nil || err == nil || !strings.Contains(err.Error(), "resourceserver: "+tc.setting+":") {
				t.Errorf("no word about %s: %v", tc.setting, err)
			}
		})
	}
	introspects := good
	introspects.Revocations = nil
	introspects.Introspection = &resourceserver.Introspection{ClientID: "rs", HTTPClient: client(certs().l2, nil)}
	if _, err := resourceserver.New(introspects); err != nil {
		t.Errorf("with introspection: %v", err)
	}
}

// A resource server under the profile, over TLS (FAPI 2.0 Security Profile, Section 5.3.4).
func TestProfile(t *testing.T) {
	as := fixture.Start(t)
	v := follower(t, as, func(c *resourceserver.Config) { c.Profile = resourceserver.ProfileFAPI2 })
	api := http.NewServeMux()
	api.Handle("/read", v.Middleware("read")(http.HandlerFunc(protected)))
	api.Handle("/admin", v.Middleware("admin")(http.HandlerFunc(protected)))
	as.Listen(t, "rs.test", api, tls.RequestClientCert)
	token := fixture.Token(t, as.As(t, as.L1), "c-dn").AccessToken()
	get := func(t *testing.T, leaf *pkitest.Leaf, path, token string) *fixture.Answer {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://rs.test"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		return fixture.Do(t, as.As(t, leaf), req)
	}
	want := func(t *testing.T, r *fixture.Answer, status int, code string) {
		t.Helper()
		ch := r.Header.Get("WWW-Authenticate")
		if r.Status != status || code == "" && strings.Contains(ch, "error=") || code != "" && !strings.Contains(ch, `error="`+code+`"`) {
			t.Errorf("expected %d %s, found %d %s", status, code, r.Status, ch)
		}
	}
	for _, tc := range []struct {
		name, id string
		leaf     *pkitest.Leaf
		path     string
		token    string
		status   int
		code     string
	}{
		{"in the header", "F2-5.3.4-1", as.L1, "/read", token, 200, ""},
		{"in the query", "F2-5.3.4-2", as.L1, "/read?access_token=" + token, "", 401, ""},
		{"a scope that is not enough", "F2-5.3.4-4", as.L1, "/admin", token, 403, "insufficient_scope"},
		{"another certificate", "F2-5.3.4-5", as.L2, "/read", token, 401, "invalid_token"},
		{"no certificate", "F2-5.3.4-5", nil, "/read", token, 401, "invalid_token"},
		{"a token that is not bound", "F2-5.3.4-5", as.L1, "/read", fixture.Token(t, as.As(t, as.L1), "c-dn-plain").AccessToken(), 401, "invalid_token"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Attr("requirement", tc.id)
			want(t, get(t, tc.leaf, tc.path, tc.token), tc.status, tc.code)
		})
	}
	t.Run("a revoked token", func(t *testing.T) {
		t.Attr("requirement", "F2-5.3.4-3")
		if r := fixture.Post(t, as.As(t, as.L1), fixture.MTLSBase+"/revoke", "client_id", "c-dn", "token", token); r.Status != 200 {
			t.Fatal(r.Text)
		}
		eventually(t, "the revoked token is refused", func() bool { return get(t, as.L1, "/read", token).Status == 401 })
		want(t, get(t, as.L1, "/read", token), 401, "invalid_token")
	})
}

// A token that the issuer itself has signed with RS256 is not one of the profile.
func TestProfileAlgorithms(t *testing.T) {
	for alg, want := range map[string]int{"RS256": 401, "PS256": 200, "ES256": 200, "EdDSA": 200} {
		t.Run(alg, func(t *testing.T) {
			t.Attr("requirement", "F2-5.4.1-1")
			as := fixture.Start(t, func(c *authserver.Config) { c.SigningAlg = alg })
			v := follower(t, as, func(c *resourceserver.Config) { c.Profile = resourceserver.ProfileFAPI2 })
			d, status := judged(t, v, fixture.Token(t, as.As(t, as.L1), "c-dn").AccessToken(), as.L1)
			if status != want {
				t.Errorf("expected %d, found %d\n%s", want, status, d)
			}
			if want == 401 && d.Reason() != decision.TokenSignature {
				t.Errorf("%s", d)
			}
		})
	}
}
