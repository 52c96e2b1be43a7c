package authserver_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/clientauth"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/internal/fixture"
)

// openToStrangers is a server with people, at which anybody can register a client.
func openToStrangers(c *authserver.Config) {
	c.Registration = authserver.Registration{Enabled: true, Open: true, Scopes: []string{"openid", "read"}}
}

// ownClient registers a public client, and returns its id, its token and its address.
func ownClient(t *testing.T, as *fixture.AS, bearer, redirectURI string) (id, token, uri string) {
	t.Helper()
	return wantRegistered(t, call(t, as.As(t, nil), "POST", fixture.Issuer+"/register", bearer, members{
		"token_endpoint_auth_method": "none", "redirect_uris": []string{redirectURI}, "grant_types": []string{"authorization_code"},
		"post_logout_redirect_uris": []string{redirectURI},
	}))
}

// A stranger registers a client whose redirect URI is a page of his, and spreads links that
// begin with the name of the server: a request that is wrong, or one with prompt=none, sent
// whoever followed the link to his page without a word (RFC 9700, Section 4.11.2).
// Where nobody has logged in, they see a page now. Clients that somebody here knows are
// told as before.
func TestAttackOpenRedirectorByRegistration(t *testing.T) {
	t.Attr("requirement", "F2-5.3.2.1-7")
	as := startPeople(t, openToStrangers)
	const evil = "https://evil.test/phish"
	strange, _, _ := ownClient(t, as, "", evil)
	invited, _, _ := ownClient(t, as, invite(t, as, authserver.InitialToken{Scopes: []string{"openid", "read"}}), callback)
	requests := map[string][]string{
		"a scope that is not there": {"scope", "nothing"},
		"no code_challenge":         {"code_challenge", ""},
		"another response_type":     {"response_type", "token"},
		"prompt=none":               {"prompt", "none"},
	}
	for name, change := range requests {
		t.Run(name, func(t *testing.T) {
			b := newBrowser(t, as)
			p := b.get(authorizeURL(append([]string{"client_id", strange, "redirect_uri", evil}, change...)...))
			if p.Status < 400 || p.Header.Get("Location") != "" || strings.Contains(p.Text, "evil.test") {
				t.Errorf("sent on: %d %s %s", p.Status, p.at, p.Header.Get("Location"))
			}
			if q := response(t, b.get(authorizeURL(append([]string{"client_id", invited}, change...)...))); q.Get("error") == "" {
				t.Errorf("a client that was invited is not told: %v", q)
			}
		})
	}
	t.Run("a person who is logged in", func(t *testing.T) {
		b := newBrowser(t, as)
		b.login(authorizeURL("client_id", "w-own"), "ann")
		p := b.get(authorizeURL("client_id", strange, "redirect_uri", evil, "prompt", "none"))
		if q := response(t, p); q.Get("error") != "consent_required" {
			t.Errorf("%v", q)
		}
	})
	t.Run("logout, with an ID token of his own", func(t *testing.T) {
		b := newBrowser(t, as)
		q := b.code(authorizeURL("client_id", strange, "redirect_uri", evil), "mallory")
		r := fixture.Post(t, as.As(t, as.S1), fixture.MTLSBase+"/token", "client_id", strange, "grant_type", "authorization_code",
			"code", q.Get("code"), "redirect_uri", evil, "code_verifier", verifier)
		wantOK(t, r)
		hint, _ := r.JSON["id_token"].(string)
		p := newBrowser(t, as).get(fixture.Issuer + "/logout?" + url.Values{"id_token_hint": {hint}, "post_logout_redirect_uri": {evil}}.Encode())
		if p.Status != 200 || p.Header.Get("Location") != "" {
			t.Errorf("sent on: %d %s", p.Status, p.at)
		}
	})
}

// Somebody has stolen the registration access token of a client that people use. He changes the
// redirect URI to his own, and sends them to the authorization endpoint: since they had
// allowed the client before, his page got the code without a question. What was allowed
// before a client has changed its own registration counts no more.
func TestAttackConsentBeforeTheClientChanged(t *testing.T) {
	c := new(clock)
	as := startPeople(t, openToStrangers, c.use)
	id, token, uri := ownClient(t, as, "", callback)
	b := newBrowser(t, as)
	c.forward(2 * time.Second)
	wantCode(t, b.code(authorizeURL("client_id", id), "ann"))
	wantCode(t, response(t, b.get(authorizeURL("client_id", id)))) // remembered
	const evil = "https://evil.test/cb"
	if r := call(t, as.As(t, nil), "PUT", uri, token, members{"client_id": id, "token_endpoint_auth_method": "none", "redirect_uris": []string{evil},
		"grant_types": []string{"authorization_code"}}); r.Status != 200 {
		t.Fatal(r.Text)
	}
	p := b.get(authorizeURL("client_id", id, "redirect_uri", evil))
	if p.Status != 200 || !strings.Contains(p.Text, `value="allow"`) {
		t.Errorf("expected the question, found %d %s", p.Status, p.at)
	}
	if q := response(t, b.get(authorizeURL("client_id", id, "redirect_uri", evil, "prompt", "none"))); q.Get("error") != "consent_required" {
		t.Errorf("%v", q)
	}
	c.forward(2 * time.Second)
	wantCode(t, response(t, b.submit(p, "decision", "allow")))
	wantCode(t, response(t, b.get(authorizeURL("client_id", id, "redirect_uri", evil)))) // remembered again
}

// The operator has switched off the question for his own app, which listens at a loopback
// address. Any other program on the machine opens the browser with prompt=none and its own
// code_challenge, listens at a port of its own, and got a code (RFC 8252, Section 8.6).
func TestAttackAnotherAppInPlaceOfTheOperators(t *testing.T) {
	as := startPeople(t)
	as.Register(t, &authserver.Client{ID: "w-own-app", AuthMethod: authserver.None, BoundTokens: true, Scope: "openid read", SkipConsent: true,
		Resources: []string{fixture.Resource}, GrantTypes: []string{"authorization_code"}, RedirectURIs: []string{"http://127.0.0.1/cb"}})
	b := newBrowser(t, as)
	to := []string{"client_id", "w-own-app", "redirect_uri", "http://127.0.0.1:6666/cb"}
	p := b.login(authorizeURL(to...), "ann")
	if p.Status != 200 || !strings.Contains(p.Text, `value="allow"`) {
		t.Fatalf("expected the question, found %d %s", p.Status, p.at)
	}
	q, err := url.Parse(b.get(authorizeURL(append(to, "prompt", "none")...)).at)
	if err != nil || q.Query().Get("error") != "consent_required" {
		t.Errorf("%s, %v", q, err)
	}
}

// A thief has the refresh token of a client that authenticates with its certificate. Such
// tokens are bound to no certificate, so that it can be renewed. Then the client becomes a
// public one, and the token was enough by itself.
func TestAttackRefreshTokenOfAClientThatBecamePublic(t *testing.T) {
	t.Attr("requirement", "M-4-7")
	b := startGrants(t)
	stolen := refreshToken(b.tokens(t, b.As(t, b.L1), "p-dn"))
	c, err := b.Store.Client(t.Context(), "p-dn")
	if err != nil {
		t.Fatal(err)
	}
	c.AuthMethod, c.SubjectDN, c.BoundTokens = authserver.None, "", false
	if err := b.Store.UpdateClient(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	b.Server.ClientChanged("p-dn")
	for name, thief := range map[string]*http.Client{"without a certificate": b.As(t, nil), "with his own": b.As(t, b.S2)} {
		t.Run(name, func(t *testing.T) {
			wantIG(t, b.refresh(t, thief, "p-dn", stolen))
			wantReason(t, b.AS, decision.CallerNotAllowed)
		})
	}
	c.AuthMethod, c.SubjectDN, c.BoundTokens = clientauth.TLSClientAuth, fixture.SubjectDN, true
	if err := b.Store.UpdateClient(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	b.Server.ClientChanged("p-dn")
	wantOK(t, b.refresh(t, b.As(t, b.L1), "p-dn", stolen)) // it was not used up
}

// Strangers register clients until the server takes no more, and shut out those who hold an
// initial access token. The last quarter is kept from them.
func TestAttackRegistrationsOfStrangersShutOutTheInvited(t *testing.T) {
	as := startPeople(t, openToStrangers, func(c *authserver.Config) { c.Registration.MaxClients = 8 })
	none := as.As(t, nil)
	var token, uri string
	for range 6 {
		_, token, uri = ownClient(t, as, "", callback)
	}
	m := members{"token_endpoint_auth_method": "none", "redirect_uris": []string{callback}, "grant_types": []string{"authorization_code"}}
	wantError(t, call(t, none, "POST", fixture.Issuer+"/register", "", m), 503, "temporarily_unavailable")
	wantReason(t, as, decision.RegistrationLimit)
	initial := invite(t, as, authserver.InitialToken{Scopes: []string{"read"}, Uses: -1})
	for range 2 {
		ownClient(t, as, initial, callback)
	}
	wantError(t, call(t, none, "POST", fixture.Issuer+"/register", initial, m), 503, "temporarily_unavailable")
	if r := call(t, none, "DELETE", uri, token, nil); r.Status != 204 {
		t.Fatal(r.Status)
	}
	ownClient(t, as, "", callback)
}
