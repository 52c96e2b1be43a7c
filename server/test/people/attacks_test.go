package people

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/certbound/certbound/internal/fixture"
)

// code goes the way of a person to a code.
func (p *program) code(t *testing.T, b *fixture.Browser, link, name string) string {
	t.Helper()
	at := b.Open(link)
	if strings.Contains(at.Text, `id="login"`) {
		at = b.Submit(at, "name", name, "password", password)
	}
	if strings.Contains(at.Text, `id="consent"`) {
		at = b.Submit(at, "decision", "allow")
	}
	code := at.Query("code")
	if code == "" {
		t.Fatalf("expected a code, found %d at %s: %s", at.Status, at.At, at.Heading())
	}
	return code
}

func (p *program) browser(t *testing.T) *fixture.Browser {
	t.Helper()
	return fixture.NewBrowser(t, p.as(t, nil), "as.test")
}

func wantError(t *testing.T, a *fixture.Answer, code string) {
	t.Helper()
	if a.Error() != code || a.AccessToken() != "" || member(a, "refresh_token") != "" {
		t.Errorf("expected %s, found %d %s", code, a.Status, a.Error())
	}
}

func wantTokens(t *testing.T, a *fixture.Answer) *fixture.Answer {
	t.Helper()
	if a.Status != http.StatusOK || a.AccessToken() == "" || member(a, "refresh_token") == "" {
		t.Fatalf("expected tokens, found %d %s", a.Status, a.Error())
	}
	return a
}

// Two processes of the built program share one database. The thief comes to one, the owner
// to the other.
func TestAttacksAtTheProgram(t *testing.T) {
	dir := newFolder(t, "")
	addUser(t, dir, "ann", "Ann Example")
	one, two := serveProgram(t, dir), serveProgram(t, dir)
	owner, thief := one.as(t, one.L1), two.as(t, two.L2) // the thief is the client other
	b := one.browser(t)

	t.Run("CodeInjection", func(t *testing.T) {
		f := newFlow("app")
		code := one.code(t, b, f.push(t, owner), "ann")
		theirs := &flow{client: "other", verifier: f.verifier, params: f.params}
		wantError(t, theirs.redeem(t, thief, code), "invalid_grant") // as itself, with everything of the owner's
		wantError(t, f.redeem(t, thief, code), "invalid_client")     // as the owner, with its own certificate
		wantError(t, newFlow("app").redeem(t, two.as(t, two.L1), code), "invalid_grant")
		wantTokens(t, f.redeem(t, owner, code))
	})

	t.Run("CodeReuse", func(t *testing.T) {
		f := newFlow("app")
		code := one.code(t, b, f.push(t, owner), "ann")
		clients := []*http.Client{owner, two.as(t, two.L1)}
		answers := make([]*fixture.Answer, 6)
		var wg sync.WaitGroup
		for i := range answers {
			wg.Go(func() { answers[i] = f.redeem(t, clients[i%2], code) })
		}
		wg.Wait()
		var won *fixture.Answer
		for _, a := range answers {
			if a.Status == http.StatusOK {
				if won != nil {
					t.Fatal("two got tokens for one code")
				}
				won = a
				continue
			}
			wantError(t, a, "invalid_grant")
		}
		if won == nil {
			t.Fatal("nobody got tokens")
		}
		// The code came again: whoever has won loses it all, at both processes.
		for _, c := range clients {
			wantError(t, refreshWith(t, c, "app", member(won, "refresh_token")), "invalid_grant")
		}
	})

	t.Run("PKCEDowngrade", func(t *testing.T) {
		for name, f := range map[string]*flow{
			"none":      newFlow("app", "code_challenge", "", "code_challenge_method", ""),
			"no method": newFlow("app", "code_challenge_method", ""),
			"plain":     newFlow("app", "code_challenge_method", "plain"),
		} {
			at := one.browser(t).Open(f.url())
			if at.Query("error") != "invalid_request" || at.Query("code") != "" || at.Query("iss") != issuer {
				t.Errorf("%s: %d at %s", name, at.Status, at.At)
			}
		}
		f := newFlow("app")
		code := one.code(t, b, f.push(t, owner), "ann")
		without := *f
		without.verifier = ""
		if r := without.redeem(t, owner, code); r.Status != http.StatusBadRequest || r.AccessToken() != "" {
			t.Errorf("without a verifier: %d %s", r.Status, r.Error())
		}
		wantTokens(t, f.redeem(t, owner, code))
	})

	t.Run("RequestURI", func(t *testing.T) {
		f := newFlow("app")
		link := f.push(t, owner)
		uri := mustQuery(t, link, "request_uri")
		for name, to := range map[string]string{
			"of another client":                  newFlow("other").link(uri),
			"one that nobody has made":           f.link("urn:ietf:params:oauth:request_uri:" + random()),
			"of the thief's own server":          f.link("https://evil.test/request.jwt"),
			"with two of them":                   link + "&request_uri=" + uri,
			"with another address outside of it": newFlow("other").link(uri) + "&redirect_uri=https%3A%2F%2Fevil.test%2Fcb",
		} {
			at := two.browser(t).Open(to)
			if at.Status/100 != 4 || !strings.HasPrefix(at.At, issuer) || strings.Contains(at.Text, "<form") {
				t.Errorf("%s: %d at %s: %s", name, at.Status, at.At, at.Heading())
			}
		}
		// Parameters beside a pushed request count for nothing.
		at := b.Open(link + "&scope=payments&state=evil&redirect_uri=https%3A%2F%2Fevil.test%2Fcb")
		if at.Query("code") != "" {
			if at.Query("state") != f.params.Get("state") || !strings.HasPrefix(at.At, appCallback) {
				t.Errorf("the parameters outside count: %s", at.At)
			}
			if r := wantTokens(t, f.redeem(t, owner, at.Query("code"))); member(r, "scope") != "" && strings.Contains(member(r, "scope"), "payments") {
				t.Errorf("scope %s", member(r, "scope"))
			}
		} else if at.Status/100 != 4 {
			t.Errorf("expected the pushed request or a refusal, found %d at %s", at.Status, at.At)
		}
		// Used, and used again: in the same browser and in another one.
		f = newFlow("app")
		link = f.push(t, owner)
		one.code(t, b, link, "ann")
		for _, again := range []*fixture.Browser{b, two.browser(t)} {
			if at := again.Open(link); at.Status/100 != 4 || !strings.HasPrefix(at.At, issuer) {
				t.Errorf("again: %d at %s", at.Status, at.At)
			}
		}
	})

	t.Run("StolenRefreshToken", func(t *testing.T) {
		// A public client: the certificate is all that tells the owner from the thief.
		f := newFlow("wallet")
		r := wantTokens(t, f.redeem(t, owner, one.code(t, b, f.url(), "ann")))
		token := member(r, "refresh_token")
		for _, c := range []*http.Client{thief, two.as(t, nil), two.as(t, two.S1)} {
			wantError(t, refreshWith(t, c, "wallet", token), "invalid_grant")
		}
		if r := refreshWith(t, owner, "wallet", token); r.Status != http.StatusOK || r.Cnf() == "" {
			t.Errorf("the thief has spoilt it for the owner: %d %s", r.Status, r.Error())
		}
		// That of a client with credentials is worth nothing without them.
		f = newFlow("app")
		r = wantTokens(t, f.redeem(t, owner, one.code(t, b, f.push(t, owner), "ann")))
		wantError(t, refreshWith(t, thief, "app", member(r, "refresh_token")), "invalid_client")
		wantError(t, refreshWith(t, thief, "other", member(r, "refresh_token")), "invalid_grant")
	})

	t.Run("DisabledPerson", func(t *testing.T) {
		f := newFlow("app")
		r := wantTokens(t, f.redeem(t, owner, one.code(t, b, f.push(t, owner), "ann")))
		if out := command(t, dir, "", "user", "disable", "ann"); !strings.HasPrefix(out, "Disabled ann; ") || !strings.HasSuffix(out, "grants have ended\n") {
			t.Errorf("the command said %q", out)
		}
		for _, p := range []*program{one, two} {
			wantError(t, refreshWith(t, p.as(t, p.L1), "app", member(r, "refresh_token")), "invalid_grant")
			if status := p.userinfo(t, r.AccessToken()); status != http.StatusUnauthorized {
				t.Errorf("userinfo: %d", status)
			}
		}
		at := b.Open(newFlow("app").push(t, owner))
		if !strings.Contains(at.Text, `id="login"`) {
			t.Fatalf("the session goes on: %d at %s", at.Status, at.At)
		}
		if at = b.Submit(at, "name", "ann", "password", password); at.Status != http.StatusUnauthorized {
			t.Errorf("logged in: %d at %s", at.Status, at.At)
		}
	})

	for _, p := range []*program{one, two} {
		if log := p.text(); strings.Contains(log, password) || strings.Contains(log, "cbc_") || strings.Contains(log, "cbr_") {
			t.Error("the log has a password, a code or a refresh token")
		}
	}
}
