package authserver_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/internal/fixture"
)

func TestCode(t *testing.T) {
	b := startGrants(t)
	l1, s1, none := b.As(t, b.L1), b.As(t, b.S1), b.As(t, nil)

	proves(t, "M-4-1 M-4-2 K-3.1-2", "a public client gets bound tokens with any certificate", func(t *testing.T) {
		r := b.tokens(t, s1, "p-pub")
		if r.Cnf() != certbound.Thumbprint(b.S1.Cert) || refreshToken(r) == "" || r.JSON["scope"] != "openid read write" {
			t.Errorf("%s", r.Text)
		}
		claims := fixture.Claims(r.AccessToken())
		if claims["sub"] != alice || claims["client_id"] != "p-pub" || claims["acr"] != "silver" || claims["auth_time"] == nil || len(claims["amr"].([]any)) != 2 {
			t.Errorf("claims %v", claims)
		}
	})
	proves(t, "M-3.4-1", "without a certificate there is no bound token, and the code is still good", func(t *testing.T) {
		code, verifier, _ := b.allow(t, "p-pub", nil)
		wantIR(t, b.redeem(t, none, "p-pub", code, verifier))
		wantReason(t, b.AS, decision.BindingNeeded)
		wantOK(t, b.redeem(t, s1, "p-pub", code, verifier))
	})
	proves(t, "M-7.1-2", "a confidential client authenticates", func(t *testing.T) {
		code, verifier, _ := b.allow(t, "p-dn", nil)
		wantIC(t, b.redeem(t, none, "p-dn", code, verifier))
		wantIC(t, b.redeem(t, b.As(t, b.L2), "p-dn", code, verifier))
		r := b.redeem(t, l1, "p-dn", code, verifier)
		wantOK(t, r)
		if r.Cnf() != certbound.Thumbprint(b.L1.Cert) {
			t.Error(r.Cnf())
		}
	})
	proves(t, "M-5-10", "both addresses are one endpoint", func(t *testing.T) {
		code, verifier, _ := b.allow(t, "p-plain", nil)
		r := fixture.Post(t, none, fixture.Issuer+"/token", "grant_type", "authorization_code", "code", code, "code_verifier", verifier,
			"redirect_uri", redirect, "Authorization", fixture.Basic("p-plain", b.Secret))
		wantOK(t, r)
		if r.Cnf() != "" {
			t.Error("bound without a certificate")
		}
		wantOK(t, fixture.Post(t, none, fixture.MTLSBase+"/token", "grant_type", "refresh_token", "refresh_token", refreshToken(r), "Authorization", fixture.Basic("p-plain", b.Secret)))
		wantIG(t, b.redeem(t, none, "p-plain", code, verifier, "Authorization", fixture.Basic("p-plain", b.Secret))) // and one state
	})
	t.Run("redirect_uri", func(t *testing.T) {
		code, verifier, _ := b.allow(t, "p-pub", nil)
		for name, uri := range map[string]string{
			"missing": "", "slash": redirect + "/", "case": "https://app.example/Callback", "port": "https://app.example:443/callback",
			"query": redirect + "?a=b", "encoded": "https://app.example/%63allback", "other": "https://evil.example/callback",
		} {
			r := fixture.Post(t, s1, fixture.MTLSBase+"/token", "grant_type", "authorization_code", "client_id", "p-pub", "code", code, "code_verifier", verifier, "redirect_uri", uri)
			if r.Error() != "invalid_grant" || b.LastDecision().Reason() != decision.RedirectURIMismatch {
				t.Errorf("%s: %d %s", name, r.Status, r.Text)
			}
		}
		wantOK(t, b.redeem(t, s1, "p-pub", code, verifier)) // none of them has used the code up
		code, verifier, _ = b.allow(t, "p-pub", func(_ *authserver.Grant, c *authserver.Code) { c.RedirectURISent = false })
		wantOK(t, fixture.Post(t, s1, fixture.MTLSBase+"/token", "grant_type", "authorization_code", "client_id", "p-pub", "code", code, "code_verifier", verifier))
	})
	t.Run("what is missing or unknown", func(t *testing.T) {
		wantIR(t, b.redeem(t, s1, "p-pub", "", randomText()))
		wantIR(t, b.redeem(t, s1, "p-pub", strings.Repeat("x", 300), randomText()))
		wantIG(t, b.redeem(t, s1, "p-pub", "cbc_"+randomText(), randomText()))
		wantReason(t, b.AS, decision.CodeUnknown)
		wantError(t, b.redeem(t, l1, "c-dn", "cbc_"+randomText(), randomText()), 400, "unauthorized_client")
		wantError(t, b.refresh(t, s1, "p-once", "cbr_"+randomText()), 400, "unauthorized_client")
		wantIR(t, b.refresh(t, s1, "p-pub", ""))
		code, verifier, _ := b.allow(t, "p-pub", nil)
		wantIR(t, b.redeem(t, s1, "p-pub", code, verifier, "code", code))
	})
	proves(t, "F2-5.3.2.1-11", "a code lives for a minute", func(t *testing.T) {
		b := startGrants(t)
		code, verifier, _ := b.allow(t, "p-dn", nil)
		b.later(61 * time.Second)
		wantIG(t, b.redeem(t, b.As(t, b.L1), "p-dn", code, verifier))
		wantReason(t, b.AS, decision.CodeExpired)
	})
	proves(t, "U-2-1 U-2-2 A-3-1", "resources", func(t *testing.T) {
		both := func(g *authserver.Grant, _ *authserver.Code) {
			g.Resources = []string{fixture.Resource, fixture.Resource2}
		}
		for _, tt := range []struct {
			name     string
			change   func(*authserver.Grant, *authserver.Code)
			resource []string
			want     string // "": invalid_target
		}{
			{"all that was allowed, and UserInfo", both, nil, fixture.Resource + " " + fixture.Resource2 + " " + fixture.Issuer},
			{"one of them", both, []string{fixture.Resource2}, fixture.Resource2},
			{"UserInfo alone", both, []string{fixture.Issuer}, fixture.Issuer},
			{"more than was allowed", nil, []string{fixture.Resource2}, ""},
			{"unknown", both, []string{"https://nowhere.test"}, ""},
			{"no URI", both, []string{"rs"}, ""},
			{"the default, where nothing was asked for", func(g *authserver.Grant, _ *authserver.Code) { g.Resources, g.Scope = nil, "read" }, nil, fixture.Resource},
			{"no UserInfo without openid", func(g *authserver.Grant, _ *authserver.Code) { g.Scope = "read" }, []string{fixture.Issuer}, ""},
			{"what the client has no more", func(g *authserver.Grant, _ *authserver.Code) {
				g.Resources, g.Scope = []string{"https://gone.test"}, "read"
			}, nil, ""},
		} {
			code, verifier, _ := b.allow(t, "p-pub", tt.change)
			var pairs []string
			for _, r := range tt.resource {
				pairs = append(pairs, "resource", r)
			}
			r := b.redeem(t, s1, "p-pub", code, verifier, pairs...)
			if tt.want == "" {
				if r.Error() != "invalid_target" {
					t.Errorf("%s: %d %s", tt.name, r.Status, r.Text)
				}
				continue
			}
			var got string
			switch aud := fixture.Claims(r.AccessToken())["aud"].(type) {
			case string:
				got = aud
			case []any:
				got = strings.Join(stringsOf(aud), " ")
			}
			if got != tt.want {
				t.Errorf("%s: %s, want %s (%s)", tt.name, got, tt.want, r.Text)
			}
		}
	})
	t.Run("a client that was deleted and made anew", func(t *testing.T) {
		c, err := b.Store.Client(t.Context(), "p-pub2")
		if err != nil {
			t.Fatal(err)
		}
		code, verifier, _ := b.allow(t, "p-pub2", nil)
		old := b.tokens(t, s1, "p-pub2")
		if err := b.Store.DeleteClient(t.Context(), "p-pub2"); err != nil {
			t.Fatal(err)
		}
		c.Created = time.Now().Add(time.Second)
		b.later(2 * time.Second)
		b.Register(t, c)
		wantIG(t, b.redeem(t, s1, "p-pub2", code, verifier))
		wantIG(t, b.refresh(t, s1, "p-pub2", refreshToken(old)))
	})
	t.Run("what the client may have no more is not given", func(t *testing.T) {
		code, verifier, _ := b.allow(t, "p-once", func(g *authserver.Grant, _ *authserver.Code) { g.Scope = "read admin" })
		r := b.redeem(t, s1, "p-once", code, verifier)
		wantOK(t, r)
		if r.JSON["scope"] != "read" || r.JSON["id_token"] != nil || refreshToken(r) != "" {
			t.Error(r.Text)
		}
	})
	t.Run("offline_access", func(t *testing.T) {
		for scope, want := range map[string]bool{"openid read": false, "openid read offline_access": true} {
			code, verifier, _ := b.allow(t, "p-offline", func(g *authserver.Grant, _ *authserver.Code) { g.Scope = scope })
			if r := b.redeem(t, s1, "p-offline", code, verifier); r.Status != 200 || (refreshToken(r) != "") != want {
				t.Errorf("%s: %s", scope, r.Text)
			}
		}
	})
	t.Run("a server for machines knows nothing of this", func(t *testing.T) {
		as := fixture.Start(t)
		for _, gt := range []string{"authorization_code", "refresh_token", "password", "implicit"} {
			wantError(t, fixture.Post(t, as.As(t, as.L1), fixture.MTLSBase+"/token", "grant_type", gt, "client_id", "c-dn", "code", "x", "refresh_token", "cbr_x"), 400, "unsupported_grant_type")
		}
		if r := fixture.Get(t, as.As(t, nil), fixture.Issuer+"/userinfo"); r.Status != 404 {
			t.Error(r.Status)
		}
	})
	proves(t, "F2-5.3.2.1-4 F2-5.3.2.1-5", "no unbound token under fapi2, whatever else is set", func(t *testing.T) {
		b := startGrants(t, func(c *authserver.Config) { c.AllowUnboundFallback = true })
		b.RegisterUnchecked(t, &authserver.Client{ID: "pkj", AuthMethod: authserver.PrivateKeyJWT, JWKS: fixture.JWKSOf(t, b.AssertionKey), Profile: authserver.ProfileFAPI2, BoundTokens: true,
			RedirectURIs: []string{redirect}, GrantTypes: []string{"authorization_code", "refresh_token"}, Scope: "openid read write"})
		assertion := func() []string {
			return []string{"client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
				"client_assertion", b.Assertion(t, map[string]any{"iss": "pkj", "sub": "pkj", "jti": randomText()})}
		}
		code, verifier, _ := b.allow(t, "pkj", nil)
		wantIR(t, b.redeem(t, b.As(t, nil), "pkj", code, verifier, assertion()...))
		wantReason(t, b.AS, decision.BindingNeeded)
		r := b.redeem(t, b.As(t, b.S1), "pkj", code, verifier, assertion()...)
		wantOK(t, r)
		if r.Cnf() != certbound.Thumbprint(b.S1.Cert) {
			t.Error(r.Cnf())
		}
		wantIR(t, b.refresh(t, b.As(t, nil), "pkj", refreshToken(r), assertion()...))
	})
}

// The thief has caught a code on its way through the browser, and redeems it as a client of
// his own, with his own certificate; or as the same public client. He gets nothing, and the
// owner still does.
func TestAttackCodeInjection(t *testing.T) {
	t.Attr("requirement", "O-4.1.3-1")
	b := startGrants(t)
	l1, l2 := b.As(t, b.L1), b.As(t, b.L2)
	t.Run("another client with its own certificate", func(t *testing.T) {
		code, verifier, _ := b.allow(t, "p-dn", nil)
		wantIG(t, b.redeem(t, l1, "p-dns", code, verifier))
		wantReason(t, b.AS, decision.GrantOfAnother)
		wantIG(t, b.redeem(t, l2, "p-other", code, verifier))
		wantIC(t, b.redeem(t, l2, "p-dn", code, verifier))
		wantOK(t, b.redeem(t, l1, "p-dn", code, verifier))
	})
	t.Run("the victim's code in the attacker's flow", func(t *testing.T) {
		code, right, _ := b.allow(t, "p-pub", nil)
		_, other, _ := b.allow(t, "p-pub", nil)
		for name, verifier := range map[string]string{
			"of another flow": other, "none": "", "the challenge itself (plain)": challenge(right),
			"too short": right[:42], "too long": strings.Repeat(right, 3) + "x", "other characters": right[:42] + "=",
		} {
			wantIG(t, b.redeem(t, b.As(t, b.S2), "p-pub", code, verifier))
			if b.LastDecision().Reason() != decision.CodeVerifier {
				t.Errorf("%s: %s", name, b.LastDecision())
			}
		}
		wantOK(t, b.redeem(t, b.As(t, b.S1), "p-pub", code, right))
	})
	t.Run("a code without a challenge fits no verifier", func(t *testing.T) {
		code, _, _ := b.allow(t, "p-pub", func(_ *authserver.Grant, c *authserver.Code) { c.Challenge = "" })
		for _, verifier := range []string{"", randomText()} {
			wantIG(t, b.redeem(t, b.As(t, b.S1), "p-pub", code, verifier))
		}
	})
}

// A code comes twice: one of the two who have it has stolen it. The second gets nothing, and
// what the first has got ends.
func TestAttackCodeReuse(t *testing.T) {
	b := startGrants(t)
	s1, l1 := b.As(t, b.S1), b.As(t, b.L1)
	ended := func(t *testing.T, c *http.Client, clientID string, r *fixture.Answer) {
		t.Helper()
		wantIG(t, b.refresh(t, c, clientID, refreshToken(r)))
		wantIT(t, b.userinfo(t, c, fixture.MTLSBase, r.AccessToken()))
		if in := fixture.Post(t, b.As(t, b.L2), fixture.MTLSBase+"/introspect", "client_id", "c-rs", "token", r.AccessToken()); in.JSON["active"] != false {
			t.Errorf("the access token is still active: %s", in.Text)
		}
	}
	for _, client := range []struct {
		id string
		c  *http.Client
	}{{"p-pub", s1}, {"p-dn", l1}, {"p-opaque", l1}} {
		t.Run(client.id, func(t *testing.T) {
			code, verifier, _ := b.allow(t, client.id, nil)
			first := b.redeem(t, client.c, client.id, code, verifier)
			wantOK(t, first)
			wantIG(t, b.redeem(t, client.c, client.id, code, verifier))
			wantReason(t, b.AS, decision.CodeUsed)
			ended(t, client.c, client.id, first)
			if !strings.Contains(b.Log(), "grant revoked, and all tokens of it") {
				t.Error("the log does not say so")
			}
		})
	}
	t.Run("who lacks the code_verifier ends nothing", func(t *testing.T) {
		code, verifier, _ := b.allow(t, "p-pub", nil)
		first := b.redeem(t, s1, "p-pub", code, verifier)
		wantOK(t, first)
		wantIG(t, b.redeem(t, b.As(t, b.S2), "p-pub", code, randomText()))
		wantIG(t, b.redeem(t, s1, "p-pub2", code, verifier))
		wantOK(t, b.refresh(t, s1, "p-pub", refreshToken(first)))
	})
	t.Run("at the same time", func(t *testing.T) {
		for range 5 {
			code, verifier, _ := b.allow(t, "p-pub", nil)
			var wg sync.WaitGroup
			answers := make([]*fixture.Answer, 12)
			for i := range answers {
				wg.Go(func() { answers[i] = b.redeem(t, s1, "p-pub", code, verifier) })
			}
			wg.Wait()
			var won *fixture.Answer
			for _, r := range answers {
				if r.Status != 200 {
					wantIG(t, r)
					continue
				}
				if won != nil {
					t.Fatal("two winners")
				}
				won = r
			}
			if won == nil {
				t.Fatal("nobody got tokens")
			}
			ended(t, s1, "p-pub", won)
		}
	})
}

// A disabled person gets nothing more, from codes, refresh tokens and UserInfo.
func TestPersonDisabled(t *testing.T) {
	b := startGrants(t)
	s1 := b.As(t, b.S1)
	before := b.tokens(t, s1, "p-pub")
	code, verifier, _ := b.allow(t, "p-pub", nil)
	who, err := b.grants.Person(t.Context(), alice)
	if err != nil {
		t.Fatal(err)
	}
	set := func(disabled bool) {
		who.Disabled, who.Updated = disabled, who.Updated.Add(time.Second)
		if err := b.grants.SavePerson(context.WithoutCancel(t.Context()), who); err != nil {
			t.Fatal(err)
		}
	}
	set(true)
	wantIG(t, b.redeem(t, s1, "p-pub", code, verifier))
	wantReason(t, b.AS, decision.PersonDisabled)
	wantIG(t, b.refresh(t, s1, "p-pub", refreshToken(before)))
	wantIT(t, b.userinfo(t, s1, fixture.MTLSBase, before.AccessToken()))
	set(false)
	wantOK(t, b.redeem(t, s1, "p-pub", code, verifier))
	wantOK(t, b.refresh(t, s1, "p-pub", refreshToken(before)))
	// A person of whom nothing is kept is nobody who is disabled.
	code, verifier, _ = b.allow(t, "p-pub", func(g *authserver.Grant, _ *authserver.Code) { g.Subject = "bob" })
	r := b.redeem(t, s1, "p-pub", code, verifier)
	wantOK(t, r)
	if in := b.userinfo(t, s1, fixture.MTLSBase, r.AccessToken()); in.Status != 200 || in.JSON["sub"] != "bob" || len(in.JSON) != 1 {
		t.Error(in.Text)
	}
}
