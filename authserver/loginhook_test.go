package authserver_test

import (
	"errors"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/clientauth"
	"github.com/certbound/certbound/internal/fixture"
)

const loginApp = "https://login.test/start?app=1"

// startHooked is a server that hands logins to the client login-app, with L2.
func startHooked(t *testing.T) *fixture.AS {
	t.Helper()
	as := startPeople(t, func(c *authserver.Config) {
		c.Authorization.Login = &authserver.LoginHook{URL: loginApp, ClientID: "login-app"}
	})
	for _, id := range []string{"login-app", "other-app"} {
		as.Register(t, &authserver.Client{ID: id, AuthMethod: clientauth.SelfSignedTLSClientAuth, JWKS: fixture.JWKSOf(t, as.S1)})
	}
	return as
}

// challenge opens a request and returns what the browser brings to the login application.
func (b *browser) challenge(to string) string {
	b.t.Helper()
	p := b.get(to)
	u, err := url.Parse(p.at)
	if err != nil || !strings.HasPrefix(p.at, loginApp+"&login_challenge=") {
		b.t.Fatalf("expected to be sent to the login application, found %d %s", p.Status, p.at)
	}
	return u.Query().Get("login_challenge")
}

func answerChallenge(t *testing.T, as *fixture.AS, challenge string, pairs ...string) *fixture.Answer {
	t.Helper()
	return fixture.Post(t, as.As(t, as.S1), fixture.MTLSBase+"/login/challenge", append([]string{"client_id", "login-app", "login_challenge", challenge}, pairs...)...)
}

func TestLoginHook(t *testing.T) {
	as := startHooked(t)
	b := newBrowser(t, as)
	challenge := b.challenge(authorizeURL("login_hint", "ann@example.org", "acr_values", "gold silver", "nonce", "n-1"))

	shown := answerChallenge(t, as, challenge)
	if shown.Status != 200 || shown.JSON["client_id"] != "w-dn" || shown.JSON["login_hint"] != "ann@example.org" || shown.JSON["scope"] != "openid read" {
		t.Fatalf("shown: %d %s", shown.Status, shown.Text)
	}
	answer := answerChallenge(t, as, challenge, "decision", "accept", "subject", "person-7", "acr", "gold", "amr", "hwk pin", "claims", `{"name":"Ann"}`)
	to, _ := answer.JSON["redirect_to"].(string)
	if answer.Status != 200 || !strings.HasPrefix(to, fixture.Issuer+"/login/callback?") {
		t.Fatalf("accepted: %d %s", answer.Status, answer.Text)
	}
	p := b.get(to)
	if !strings.Contains(p.Text, "Ann") {
		t.Fatalf("expected the consent page, found %d\n%s", p.Status, p.Text)
	}
	r := redeem(t, as, wantCode(t, response(t, b.submit(p, "decision", "allow"))))
	if r.Status != 200 {
		t.Fatalf("%d %s", r.Status, r.Text)
	}
	idToken, _ := r.JSON["id_token"].(string)
	claims := fixture.Claims(idToken)
	if claims["sub"] != "person-7" || claims["acr"] != "gold" {
		t.Errorf("ID token %v", claims)
	}
	t.Run("denied", func(t *testing.T) {
		b := newBrowser(t, as)
		denied := answerChallenge(t, as, b.challenge(authorizeURL()), "decision", "deny")
		to, _ := denied.JSON["redirect_to"].(string)
		if q := response(t, b.get(to)); q.Get("error") != "access_denied" || q.Get("code") != "" {
			t.Errorf("%v", q)
		}
	})
}

// Attack: a challenge, or the answer to it, is used by somebody else, or again.
func TestLoginHookAttacks(t *testing.T) {
	as := startHooked(t)
	accept := []string{"decision", "accept", "subject", "person-7"}

	t.Run("another client answers", func(t *testing.T) {
		challenge := newBrowser(t, as).challenge(authorizeURL())
		r := fixture.Post(t, as.As(t, as.S1), fixture.MTLSBase+"/login/challenge", append([]string{"client_id", "other-app", "login_challenge", challenge}, accept...)...)
		if r.Status != 403 {
			t.Errorf("%d %s", r.Status, r.Text)
		}
	})
	t.Run("without the certificate", func(t *testing.T) {
		challenge := newBrowser(t, as).challenge(authorizeURL())
		r := fixture.Post(t, as.As(t, as.L1), fixture.MTLSBase+"/login/challenge", append([]string{"client_id", "login-app", "login_challenge", challenge}, accept...)...)
		if r.Status != 400 && r.Status != 401 || r.JSON["error"] != "invalid_client" {
			t.Errorf("%d %s", r.Status, r.Text)
		}
	})
	t.Run("on the browsers' listener", func(t *testing.T) {
		challenge := newBrowser(t, as).challenge(authorizeURL())
		r := fixture.Post(t, as.As(t, as.S1), fixture.Issuer+"/login/challenge", append([]string{"client_id", "login-app", "login_challenge", challenge}, accept...)...)
		if r.Status != 404 {
			t.Errorf("%d %s", r.Status, r.Text)
		}
	})
	t.Run("a guessed challenge", func(t *testing.T) {
		reference, _, _ := strings.Cut(newBrowser(t, as).challenge(authorizeURL()), ".")
		for _, guess := range []string{"", "x", reference, reference + ".", reference + "." + reference, strings.Repeat("A", 43) + "." + reference} {
			if r := answerChallenge(t, as, guess, accept...); r.Status != 400 || r.JSON["error"] != "invalid_grant" {
				t.Errorf("%q: %d %s", guess, r.Status, r.Text)
			}
		}
	})
	t.Run("answered twice, at once", func(t *testing.T) {
		challenge := newBrowser(t, as).challenge(authorizeURL())
		var wg sync.WaitGroup
		statuses := make([]int, 8)
		for i := range statuses {
			wg.Go(func() { statuses[i] = answerChallenge(t, as, challenge, accept...).Status })
		}
		wg.Wait()
		won := 0
		for _, s := range statuses {
			if s == 200 {
				won++
			} else if s != 400 {
				t.Errorf("status %d", s)
			}
		}
		if won != 1 {
			t.Errorf("%d answers were taken", won)
		}
	})
	t.Run("in another browser", func(t *testing.T) {
		b := newBrowser(t, as)
		to, _ := answerChallenge(t, as, b.challenge(authorizeURL()), accept...).JSON["redirect_to"].(string)
		thief := newBrowser(t, as)
		thief.challenge(authorizeURL()) // it has a cookie of its own
		wantErrorPage(t, thief.get(to), 400, "invalid_request")
		if p := b.get(to); p.Status != 200 || !strings.Contains(p.Text, `value="allow"`) {
			t.Errorf("the person's own browser: %d %s", p.Status, p.Text)
		}
	})
	t.Run("the verifier again", func(t *testing.T) {
		b := newBrowser(t, as)
		to, _ := answerChallenge(t, as, b.challenge(authorizeURL()), accept...).JSON["redirect_to"].(string)
		if p := b.get(to); p.Status != 200 {
			t.Fatalf("%d %s", p.Status, p.Text)
		}
		wantErrorPage(t, b.get(to), 400, "invalid_request")
	})
	t.Run("a verifier before the answer", func(t *testing.T) {
		b := newBrowser(t, as)
		reference, _, _ := strings.Cut(b.challenge(authorizeURL()), ".")
		for _, v := range []string{"", "x", strings.Repeat("A", 43)} {
			wantErrorPage(t, b.get(fixture.Issuer+"/login/callback?flow="+reference+"&login_verifier="+v), 400, "invalid_request")
		}
	})
	t.Run("a subject that is a client", func(t *testing.T) {
		b := newBrowser(t, as)
		to, _ := answerChallenge(t, as, b.challenge(authorizeURL()), "decision", "accept", "subject", "w-dns").JSON["redirect_to"].(string)
		wantErrorPage(t, b.get(to), 502, "server_error")
	})
	for name, pairs := range map[string][]string{
		"no subject":         {"decision", "accept"},
		"subject of bytes":   {"decision", "accept", "subject", "jürgen"},
		"another decision":   {"decision", "maybe", "subject", "p"},
		"time to come":       {"decision", "accept", "subject", "p", "auth_time", "99999999999"},
		"claims, a list":     {"decision", "accept", "subject", "p", "claims", "[]"},
		"claims that repeat": {"decision", "accept", "subject", "p", "claims", `{"a":1,"a":2}`},
	} {
		t.Run(name, func(t *testing.T) {
			challenge := newBrowser(t, as).challenge(authorizeURL())
			if r := answerChallenge(t, as, challenge, pairs...); r.Status != 400 || r.JSON["error"] != "invalid_request" {
				t.Errorf("%d %s", r.Status, r.Text)
			}
			if r := answerChallenge(t, as, challenge); r.Status != 200 { // nothing was lost
				t.Errorf("afterwards: %d %s", r.Status, r.Text)
			}
		})
	}
}

func TestLoginHookSettings(t *testing.T) {
	for name, hook := range map[string]authserver.LoginHook{
		"http":      {URL: "http://login.test", ClientID: "a"},
		"fragment":  {URL: "https://login.test/#a", ClientID: "a"},
		"relative":  {URL: "/login", ClientID: "a"},
		"no client": {URL: "https://login.test"},
	} {
		_, err := authserver.New(authserver.Config{Authorization: authserver.Authorization{Enabled: true, Login: &hook}})
		found := false
		for _, e := range unjoined(err) {
			if se, ok := errors.AsType[*authserver.SettingError](e); ok && se.Setting == "Authorization.Login" && strings.Contains(se.Fault, "LoginHook.") {
				found = true
			}
		}
		if !found {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func unjoined(err error) []error {
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		return j.Unwrap()
	}
	return []error{err}
}
