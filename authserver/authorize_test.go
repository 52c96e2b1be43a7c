package authserver_test

import (
	"strings"
	"testing"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/authserver/pages"
	"github.com/certbound/certbound/internal/fixture"
)

func loginPage(a *authserver.LoginAttempt) pages.Login {
	return pages.Login{Action: a.Action, CSRF: a.CSRF, Client: a.Page, Name: a.Hint}
}

// TestAuthorize goes from the request to the tokens.
func TestAuthorize(t *testing.T) {
	for name, open := range map[string]func(t *testing.T, as *fixture.AS) string{
		"plain":  func(t *testing.T, as *fixture.AS) string { return authorizeURL("nonce", "n-1") },
		"pushed": func(t *testing.T, as *fixture.AS) string { return pushed(t, as, "nonce", "n-1") },
	} {
		t.Run(name, func(t *testing.T) {
			as := startPeople(t)
			b := newBrowser(t, as)
			p := b.login(open(t, as), "ann")
			if !strings.Contains(p.Text, "Ann Example") || !strings.Contains(p.Text, "Client w-dn") || p.Status != 200 {
				t.Fatalf("expected the consent page, found %d\n%s", p.Status, p.Text)
			}
			code := wantCode(t, response(t, b.submit(p, "decision", "allow")))
			r := redeem(t, as, code)
			wantOK(t, r)
			if r.Cnf() == "" || r.JSON["id_token"] == nil {
				t.Errorf("%s", r.Text)
			}
			if !as.LastDecision().Allowed {
				t.Errorf("%s", as.LastDecision())
			}
		})
	}
}
