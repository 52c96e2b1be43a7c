package authserver_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/internal/fixture"
)

const bye = "https://app.test/bye"

func logoutURL(pairs ...string) string {
	v := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		v.Set(pairs[i], pairs[i+1])
	}
	return fixture.Issuer + "/logout?" + v.Encode()
}

// TestLogout follows OpenID Connect RP-Initiated Logout, Sections 2 and 3.
func TestLogout(t *testing.T) {
	as := startPeople(t)
	as.Register(t, &authserver.Client{ID: "w-other", AuthMethod: authserver.None, GrantTypes: []string{"authorization_code"}, RedirectURIs: []string{callback},
		PostLogoutRedirectURIs: []string{"https://other.test/bye"}})
	// in logs ann in and returns her browser and an ID token of w-dn.
	in := func(t *testing.T) (*browser, string) {
		t.Helper()
		b := newBrowser(t, as)
		r := redeem(t, as, wantCode(t, response(t, b.codePage(authorizeURL(), "ann"))))
		hint, _ := r.JSON["id_token"].(string)
		if hint == "" {
			t.Fatalf("%s", r.Text)
		}
		return b, hint
	}
	lives := func(t *testing.T, b *browser) bool {
		t.Helper()
		return response(t, b.get(authorizeURL("client_id", "w-own", "prompt", "none"))).Get("error") == ""
	}
	t.Run("with a hint, at once, and back", func(t *testing.T) {
		b, hint := in(t)
		p := b.get(logoutURL("id_token_hint", hint, "post_logout_redirect_uri", bye, "state", "a b"))
		if p.Status != 303 || p.at != bye+"?state=a+b" || lives(t, b) || b.cookie(authserver.SessionCookie) != "" {
			t.Errorf("%d %s", p.Status, p.at)
		}
		// Once more: there is nothing to end.
		if p = b.get(logoutURL("id_token_hint", hint, "post_logout_redirect_uri", bye)); p.at != bye {
			t.Errorf("%d %s", p.Status, p.at)
		}
	})
	t.Run("with a hint, and nowhere to go", func(t *testing.T) {
		b, hint := in(t)
		if p := b.get(logoutURL("id_token_hint", hint)); p.Status != 200 || strings.Contains(p.Text, "<form") || lives(t, b) {
			t.Errorf("%d %s", p.Status, p.Text)
		}
	})
	t.Run("by POST of the client", func(t *testing.T) {
		b, hint := in(t)
		body := url.Values{"id_token_hint": {hint}, "post_logout_redirect_uri": {bye}}.Encode()
		if p := b.do(http.MethodPost, fixture.Issuer+"/logout", body); p.at != bye || lives(t, b) {
			t.Errorf("%d %s", p.Status, p.at)
		}
	})
	t.Run("without a hint the person is asked", func(t *testing.T) {
		b, _ := in(t)
		p := b.get(logoutURL("client_id", "w-dn", "post_logout_redirect_uri", bye, "state", "x"))
		if p.Status != 200 || !strings.Contains(p.Text, "Ann Example") || !lives(t, b) {
			t.Fatalf("%d %s", p.Status, p.Text)
		}
		if stay := b.submit(p, "decision", "stay"); stay.Status != 200 || !lives(t, b) {
			t.Errorf("%d %s", stay.Status, stay.at)
		}
		if done := b.submit(p, "decision", "logout"); done.at != bye+"?state=x" || lives(t, b) {
			t.Errorf("%d %s", done.Status, done.at)
		}
	})
	t.Run("without anything", func(t *testing.T) {
		b, _ := in(t)
		if p := b.submit(b.get(logoutURL()), "decision", "logout"); p.Status != 200 || lives(t, b) {
			t.Errorf("%d %s", p.Status, p.Text)
		}
		if p := b.get(logoutURL()); p.Status != 200 || strings.Contains(p.Text, "<form") {
			t.Errorf("%d %s", p.Status, p.Text)
		}
	})
	t.Run("a hint of another person, or another session, is a question", func(t *testing.T) {
		_, hint := in(t)
		b := newBrowser(t, as)
		b.login(authorizeURL("client_id", "w-own"), "ben")
		if p := b.get(logoutURL("id_token_hint", hint)); !strings.Contains(p.Text, "<form") || !lives(t, b) {
			t.Errorf("%d %s", p.Status, p.Text)
		}
		other, _ := in(t)
		if p := other.get(logoutURL("id_token_hint", hint)); !strings.Contains(p.Text, "<form") || !lives(t, other) {
			t.Errorf("%d %s", p.Status, p.Text)
		}
	})
	t.Run("what is no ID token is a question", func(t *testing.T) {
		b, hint := in(t)
		for _, v := range []string{"x", "a.b.c", hint[:len(hint)-8] + "AAAAAAAA"} {
			if p := b.get(logoutURL("id_token_hint", v)); !strings.Contains(p.Text, "<form") || !lives(t, b) {
				t.Errorf("%d %s", p.Status, p.Text)
			}
		}
	})
	t.Run("a URI that is not registered for this client", func(t *testing.T) {
		b, hint := in(t)
		for _, pairs := range [][]string{
			{"id_token_hint", hint, "post_logout_redirect_uri", "https://other.test/bye"},
			{"id_token_hint", hint, "post_logout_redirect_uri", bye + "/"},
			{"id_token_hint", hint, "post_logout_redirect_uri", callback},
			{"post_logout_redirect_uri", bye},
		} {
			wantErrorPage(t, b.get(logoutURL(pairs...)), 400, "invalid_request")
			wantReason(t, as, decision.RedirectMismatch)
		}
		wantErrorPage(t, b.get(logoutURL("id_token_hint", hint, "client_id", "w-other")), 400, "invalid_request")
		if !lives(t, b) {
			t.Error("the session has ended")
		}
	})
	t.Run("not by another site", func(t *testing.T) {
		b, _ := in(t)
		p := b.get(logoutURL())
		to, body := form(t, p, "decision", "logout", "csrf", "x")
		wantErrorPage(t, b.do(http.MethodPost, to, body), 403, "invalid_request")
		b.header.Set("Origin", "https://evil.test")
		wantErrorPage(t, b.submit(p, "decision", "logout"), 403, "invalid_request")
		b.header = http.Header{}
		if !lives(t, b) {
			t.Error("the session has ended")
		}
	})
	t.Run("nobody is logged in: a link, and no redirect", func(t *testing.T) {
		p := newBrowser(t, as).get(logoutURL("client_id", "w-dn", "post_logout_redirect_uri", bye))
		if p.Status != 200 || !strings.Contains(p.Text, bye) || strings.Contains(p.Text, "<form") {
			t.Errorf("%d %s", p.Status, p.Text)
		}
	})
}
