package authserver_test

import (
	"crypto/tls"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pkitest"
)

func TestRefresh(t *testing.T) {
	b := startGrants(t)
	l1, s1 := b.As(t, b.L1), b.As(t, b.S1)

	proves(t, "M-4-6 M-4-7 M-4-8 M-4-9 O-10.4-1", "a public client's refresh token is bound to the certificate", func(t *testing.T) {
		first := b.tokens(t, s1, "p-pub")
		r := b.refresh(t, s1, "p-pub", refreshToken(first))
		wantOK(t, r)
		if r.Cnf() != certbound.Thumbprint(b.S1.Cert) || r.AccessToken() == first.AccessToken() {
			t.Errorf("%s", r.Text)
		}
		wantIG(t, b.refresh(t, b.As(t, b.S2), "p-pub", refreshToken(first)))
		wantReason(t, b.AS, decision.BindingMismatch)
		wantIG(t, b.refresh(t, b.As(t, nil), "p-pub", refreshToken(first)))
		wantReason(t, b.AS, decision.NoCertificate)
		wantIG(t, fixture.Post(t, b.As(t, nil), fixture.Issuer+"/token", "grant_type", "refresh_token", "client_id", "p-pub", "refresh_token", refreshToken(first)))
		wantReason(t, b.AS, decision.ListenerWithout)
		wantOK(t, b.refresh(t, s1, "p-pub", refreshToken(first))) // nobody has burned it
	})
	proves(t, "M-6.3-3 M-7.1-3 F2-6.1-1 DP-2", "a client that authenticates with a certificate renews it and goes on", func(t *testing.T) {
		first := b.tokens(t, l1, "p-dn")
		r := b.refresh(t, b.As(t, b.L1r), "p-dn", refreshToken(first))
		wantOK(t, r)
		if r.Cnf() != certbound.Thumbprint(b.L1r.Cert) {
			t.Error("bound to the old certificate")
		}
		first = b.tokens(t, s1, "p-self")
		wantIC(t, b.refresh(t, b.As(t, b.S2), "p-self", refreshToken(first)))
		c, err := b.Store.Client(t.Context(), "p-self")
		if err != nil {
			t.Fatal(err)
		}
		c.JWKS = fixture.JWKSOf(t, b.S2)
		if err := b.Store.UpdateClient(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		b.Server.ClientChanged("p-self")
		r = b.refresh(t, b.As(t, b.S2), "p-self", refreshToken(first))
		wantOK(t, r)
		if r.Cnf() != certbound.Thumbprint(b.S2.Cert) {
			t.Error("bound to the old certificate")
		}
	})
	proves(t, "M-7.1-1 M-7.1-2 O-6-1", "the client it was issued to, authenticated", func(t *testing.T) {
		first := b.tokens(t, l1, "p-dn")
		wantIG(t, b.refresh(t, l1, "p-dns", refreshToken(first)))
		wantReason(t, b.AS, decision.GrantOfAnother)
		wantIC(t, b.refresh(t, b.As(t, nil), "p-dn", refreshToken(first)))
		wantIC(t, b.refresh(t, b.As(t, b.L2), "p-dn", refreshToken(first)))
		wantOK(t, b.refresh(t, l1, "p-dn", refreshToken(first)))
		wantIG(t, b.refresh(t, l1, "p-dn", "cbr_"+randomText()))
		wantReason(t, b.AS, decision.RefreshUnknown)
		wantIG(t, b.refresh(t, l1, "p-dn", first.AccessToken()[:40]))
	})
	proves(t, "G-4.14-1", "scope and resources are those that the person has allowed, or less", func(t *testing.T) {
		first := b.tokens(t, s1, "p-pub")
		for _, wide := range []string{"read write email", "openid profile", "admin", "read  write", " read"} {
			wantError(t, b.refresh(t, s1, "p-pub", refreshToken(first), "scope", wide), 400, "invalid_scope")
		}
		wantError(t, b.refresh(t, s1, "p-pub", refreshToken(first), "resource", fixture.Resource2), 400, "invalid_target")
		r := b.refresh(t, s1, "p-pub", refreshToken(first), "scope", "read read", "resource", fixture.Resource)
		wantOK(t, r)
		if r.JSON["scope"] != "read" || r.JSON["id_token"] != nil || fixture.Claims(r.AccessToken())["aud"] != fixture.Resource {
			t.Error(r.Text)
		}
		r = b.refresh(t, s1, "p-pub", refreshToken(first))
		wantOK(t, r)
		if r.JSON["scope"] != "openid read write" {
			t.Errorf("less was asked for once, and now that is all: %s", r.Text)
		}
	})
	proves(t, "G-4.14-1", "it expires when it is not used, and in the end", func(t *testing.T) {
		b := startGrants(t)
		s1 := b.As(t, b.S1)
		first := b.tokens(t, s1, "p-pub")
		b.later(29 * 24 * time.Hour)
		wantOK(t, b.refresh(t, s1, "p-pub", refreshToken(first)))
		b.later(29 * 24 * time.Hour) // used in between
		wantOK(t, b.refresh(t, s1, "p-pub", refreshToken(first)))
		b.later(31 * 24 * time.Hour)
		wantIG(t, b.refresh(t, s1, "p-pub", refreshToken(first)))
		wantReason(t, b.AS, decision.RefreshExpired)

		first = b.tokens(t, s1, "p-pub")
		for range 12 {
			b.later(29 * 24 * time.Hour)
			wantOK(t, b.refresh(t, s1, "p-pub", refreshToken(first)))
		}
		b.later(18 * 24 * time.Hour)
		wantIG(t, b.refresh(t, s1, "p-pub", refreshToken(first)))
		wantReason(t, b.AS, decision.GrantExpired)
	})
	t.Run("an access token ends with its grant", func(t *testing.T) {
		code, verifier, _ := b.allow(t, "p-pub", func(g *authserver.Grant, _ *authserver.Code) { g.Expires = b.now().Add(90 * time.Second) })
		r := b.redeem(t, s1, "p-pub", code, verifier)
		wantOK(t, r)
		if in := r.JSON["expires_in"].(float64); in > 91 {
			t.Errorf("expires in %v s", in)
		}
	})
	t.Run("the person's session is another matter", func(t *testing.T) {
		first := b.tokens(t, s1, "p-pub")
		if err := b.grants.DeleteSessions(t.Context(), alice); err != nil {
			t.Fatal(err)
		}
		wantOK(t, b.refresh(t, s1, "p-pub", refreshToken(first)))
	})
	proves(t, "F2-5.3.2.1-9", "no rotation under fapi2, also if the server rotates", func(t *testing.T) {
		b := startGrants(t, func(c *authserver.Config) {
			c.Authorization.Refresh.Rotate, c.Authorization.Refresh.RotateAll = true, true
		})
		l1 := b.As(t, b.L1)
		first := b.tokens(t, l1, "p-fapi")
		for range 3 {
			r := b.refresh(t, l1, "p-fapi", refreshToken(first))
			wantOK(t, r)
			if _, has := r.JSON["refresh_token"]; has {
				t.Error("a new refresh token")
			}
			b.later(time.Hour)
		}
	})
	t.Run("clients with a secret", func(t *testing.T) {
		basic := func(b *grantBench) []string {
			return []string{"Authorization", fixture.Basic("p-sec", b.Secret)}
		}
		first := b.tokens(t, s1, "p-sec", basic(b)...)
		r := b.refresh(t, b.As(t, b.S2), "p-sec", refreshToken(first), basic(b)...)
		wantOK(t, r)
		if r.Cnf() != certbound.Thumbprint(b.S2.Cert) {
			t.Error("bound to the old certificate")
		}
		b := startGrants(t, func(c *authserver.Config) { c.Authorization.Refresh.PinSecretClients = true })
		s1 := b.As(t, b.S1)
		first = b.tokens(t, s1, "p-sec", basic(b)...)
		wantIG(t, b.refresh(t, b.As(t, b.S2), "p-sec", refreshToken(first), basic(b)...))
		wantOK(t, b.refresh(t, s1, "p-sec", refreshToken(first), basic(b)...))
		// Clients that authenticate with a certificate are never pinned.
		first = b.tokens(t, b.As(t, b.L1), "p-dn")
		wantOK(t, b.refresh(t, b.As(t, b.L1r), "p-dn", refreshToken(first)))
	})
	t.Run("a certificate that has been revoked meanwhile", func(t *testing.T) {
		lost := pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=lost"})
		first := b.tokens(t, b.As(t, lost), "p-pub")
		if err := b.Store.RevokeCertificate(t.Context(), authserver.RevokedCertificate{Thumbprint: certbound.Thumbprint(lost.Cert), At: b.now()}); err != nil {
			t.Fatal(err)
		}
		waitFor(t, func() bool { return b.refresh(t, b.As(t, lost), "p-pub", refreshToken(first)).Status == 400 })
		wantReason(t, b.AS, decision.Revoked)
		wantIT(t, b.userinfo(t, b.As(t, lost), fixture.MTLSBase, first.AccessToken()))
	})
}

func TestRefreshRotation(t *testing.T) {
	off := func(c *authserver.Config) { c.Authorization.Refresh.Rotate = false }
	all := func(c *authserver.Config) { c.Authorization.Refresh.RotateAll = true }
	for _, tt := range []struct {
		name   string
		change func(*authserver.Config)
		client string
		leaf   func(*grantBench) *pkitest.Leaf
		want   bool
	}{
		{"unbound public", nil, "p-free", func(*grantBench) *pkitest.Leaf { return nil }, true},
		{"bound public", nil, "p-pub", func(b *grantBench) *pkitest.Leaf { return b.S1 }, false},
		{"bound public, with RotateAll", all, "p-pub", func(b *grantBench) *pkitest.Leaf { return b.S1 }, true},
		{"bound public, without Rotate", off, "p-pub", func(b *grantBench) *pkitest.Leaf { return b.S1 }, false},
		{"certificate", nil, "p-dn", func(b *grantBench) *pkitest.Leaf { return b.L1 }, false},
		{"certificate, with RotateAll", all, "p-dn", func(b *grantBench) *pkitest.Leaf { return b.L1 }, true},
		{"fapi2, with RotateAll", all, "p-fapi", func(b *grantBench) *pkitest.Leaf { return b.L1 }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var changes []func(*authserver.Config)
			if tt.change != nil {
				changes = append(changes, tt.change)
			}
			b := startGrants(t, changes...)
			c := b.As(t, tt.leaf(b))
			first := b.tokens(t, c, tt.client)
			r := b.refresh(t, c, tt.client, refreshToken(first))
			wantOK(t, r)
			if got := refreshToken(r) != ""; got != tt.want || refreshToken(r) == refreshToken(first) {
				t.Errorf("a new refresh token: %v, want %v", got, tt.want)
			}
		})
	}
	proves(t, "G-2.2.2-1", "a public client without binding and without rotation gets no refresh token", func(t *testing.T) {
		b := startGrants(t, off)
		if r := b.tokens(t, b.As(t, nil), "p-free"); refreshToken(r) != "" {
			t.Error(r.Text)
		}
		// And one from before is replaced all the same.
		b = startGrants(t)
		first := b.tokens(t, b.As(t, nil), "p-free")
		cfg := b.Config
		cfg.Authorization.Refresh.Rotate = false
		server, err := authserver.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		b.Listen(t, "mtls.as.test", server.MTLSHandler(), tls.RequestClientCert)
		second := b.refresh(t, b.As(t, nil), "p-free", refreshToken(first))
		wantOK(t, second)
		if refreshToken(second) == "" {
			t.Error(second.Text)
		}
	})
	t.Run("of two policies one is the other's past", func(t *testing.T) {
		// A token that was replaced stays replaced, also when a server does not rotate.
		b := startGrants(t, all)
		s1 := b.As(t, b.S1)
		first := b.tokens(t, s1, "p-pub")
		second := b.refresh(t, s1, "p-pub", refreshToken(first))
		wantOK(t, second)
		cfg := b.Config
		cfg.Authorization.Refresh.RotateAll = false
		server, err := authserver.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		b.Listen(t, "mtls.as.test", server.MTLSHandler(), tls.RequestClientCert)
		s1 = b.As(t, b.S1)
		b.later(time.Minute)
		wantIG(t, b.refresh(t, s1, "p-pub", refreshToken(first)))
		wantReason(t, b.AS, decision.RefreshReused)
		wantIG(t, b.refresh(t, s1, "p-pub", refreshToken(second)))
	})
}

// The thief has copied a refresh token. With his own certificate, or none, he gets nothing;
// he neither uses the token up nor ends the grant, and the log says that he came.
func TestAttackStolenRefreshToken(t *testing.T) {
	t.Attr("requirement", "M-4-7 O-10.4-1")
	for name, changes := range map[string][]func(*authserver.Config){
		"kept":    nil,
		"rotated": {func(c *authserver.Config) { c.Authorization.Refresh.RotateAll = true }},
	} {
		t.Run(name, func(t *testing.T) {
			b := startGrants(t, changes...)
			owner := b.As(t, b.S1)
			stolen := refreshToken(b.tokens(t, owner, "p-pub"))
			for thief, c := range map[string]*http.Client{"his certificate": b.As(t, b.S2), "none": b.As(t, nil), "one of the CA": b.As(t, b.L1)} {
				for range 3 {
					wantIG(t, b.refresh(t, c, "p-pub", stolen))
				}
				if !strings.Contains(b.Log(), "endpoint=token") {
					t.Errorf("%s: not in the log", thief)
				}
			}
			wantIG(t, b.refresh(t, b.As(t, b.S2), "p-pub2", stolen))
			r := b.refresh(t, owner, "p-pub", stolen)
			wantOK(t, r)
			if next := refreshToken(r); next != "" {
				// Also long after the token was replaced, only the right binding ends the family.
				b.later(time.Hour)
				wantIG(t, b.refresh(t, b.As(t, b.S2), "p-pub", stolen))
				wantIG(t, b.refresh(t, b.As(t, b.S2), "p-pub", next))
				wantOK(t, b.refresh(t, owner, "p-pub", next))
			}
		})
	}
}

// The thief has copied a refresh token that is bound to nothing, and uses it. Whoever of the
// two comes second with it, after the time for lost answers, ends the family: the thief's
// tokens with the owner's.
func TestAttackRefreshFamily(t *testing.T) {
	t.Attr("requirement", "G-2.2.2-1 OA-4")
	b := startGrants(t)
	c := b.As(t, nil)
	t.Run("after the grace time", func(t *testing.T) {
		stolen := b.tokens(t, c, "p-free")
		thief := b.refresh(t, c, "p-free", refreshToken(stolen))
		wantOK(t, thief)
		b.later(31 * time.Second)
		wantIG(t, b.refresh(t, c, "p-free", refreshToken(stolen))) // the owner
		wantReason(t, b.AS, decision.RefreshReused)
		wantIG(t, b.refresh(t, c, "p-free", refreshToken(thief)))
		wantReason(t, b.AS, decision.GrantRevoked)
		for _, r := range []*fixture.Answer{stolen, thief} {
			wantIT(t, b.userinfo(t, c, fixture.Issuer, r.AccessToken()))
		}
		if !strings.Contains(b.Log(), "grant revoked, and all tokens of it") {
			t.Error("the log does not say so")
		}
	})
	t.Run("within it, for an answer that was lost", func(t *testing.T) {
		first := b.tokens(t, c, "p-free")
		lost := b.refresh(t, c, "p-free", refreshToken(first))
		wantOK(t, lost)
		b.later(20 * time.Second)
		again := b.refresh(t, c, "p-free", refreshToken(first))
		wantOK(t, again)
		if refreshToken(again) == "" || refreshToken(again) == refreshToken(lost) {
			t.Error("no further successor")
		}
		b.later(5 * time.Minute)
		wantOK(t, b.refresh(t, c, "p-free", refreshToken(again)))
		wantOK(t, b.refresh(t, c, "p-free", refreshToken(lost)))
		// They are one family.
		wantIG(t, b.refresh(t, c, "p-free", refreshToken(first)))
		wantIG(t, b.refresh(t, c, "p-free", refreshToken(lost)))
	})
	t.Run("many at the same time within it", func(t *testing.T) {
		first := b.tokens(t, c, "p-free")
		var wg sync.WaitGroup
		answers := make([]*fixture.Answer, 8)
		for i := range answers {
			wg.Go(func() { answers[i] = b.refresh(t, c, "p-free", refreshToken(first)) })
		}
		wg.Wait()
		seen := map[string]bool{}
		for _, r := range answers {
			wantOK(t, r)
			seen[refreshToken(r)] = true
		}
		if len(seen) != len(answers) {
			t.Errorf("%d different successors", len(seen))
		}
	})
	t.Run("without grace", func(t *testing.T) {
		b := startGrants(t, func(c *authserver.Config) { c.Authorization.Refresh.Grace = -1 })
		c := b.As(t, nil)
		first := b.tokens(t, c, "p-free")
		second := b.refresh(t, c, "p-free", refreshToken(first))
		wantOK(t, second)
		b.later(time.Second)
		wantIG(t, b.refresh(t, c, "p-free", refreshToken(first)))
		wantIG(t, b.refresh(t, c, "p-free", refreshToken(second)))
	})
}

func TestRefreshTokenRevocation(t *testing.T) {
	b := startGrants(t)
	l1, s1 := b.As(t, b.L1), b.As(t, b.S1)
	revoke := func(t *testing.T, c *http.Client, clientID, token string, pairs ...string) *fixture.Answer {
		t.Helper()
		return fixture.Post(t, c, fixture.MTLSBase+"/revoke", append([]string{"client_id", clientID, "token", token}, pairs...)...)
	}
	introspect := func(t *testing.T, clientID, token string) *fixture.Answer {
		t.Helper()
		leaf := b.L1
		if clientID == "c-rs" {
			leaf = b.L2
		}
		return fixture.Post(t, b.As(t, leaf), fixture.MTLSBase+"/introspect", "client_id", clientID, "token", token)
	}
	proves(t, "V-2-1 V-2.1-4", "a revoked refresh token ends the grant with its access tokens", func(t *testing.T) {
		for _, hint := range []string{"", "refresh_token", "access_token", "nonsense"} {
			first := b.tokens(t, l1, "p-opaque")
			second := b.refresh(t, l1, "p-opaque", refreshToken(first))
			wantOK(t, second)
			if in := introspect(t, "p-opaque", refreshToken(first)); in.JSON["active"] != true || in.JSON["sub"] != alice || in.JSON["client_id"] != "p-opaque" || in.JSON["token_type"] != nil {
				t.Errorf("introspection: %s", in.Text)
			}
			if in := introspect(t, "c-rs", second.AccessToken()); in.JSON["active"] != true || in.JSON["sub"] != alice {
				t.Errorf("introspection: %s", in.Text)
			}
			if r := revoke(t, l1, "p-opaque", refreshToken(first), "token_type_hint", hint); r.Status != 200 {
				t.Fatal(r.Text)
			}
			if r := revoke(t, l1, "p-opaque", refreshToken(first)); r.Status != 200 { // twice
				t.Fatal(r.Text)
			}
			wantIG(t, b.refresh(t, l1, "p-opaque", refreshToken(first)))
			wantReason(t, b.AS, decision.GrantRevoked)
			for token, who := range map[string]string{first.AccessToken(): "c-rs", second.AccessToken(): "c-rs", refreshToken(first): "p-opaque"} {
				if in := introspect(t, who, token); in.Text != `{"active":false}` {
					t.Errorf("introspection: %s", in.Text)
				}
			}
			wantIT(t, b.userinfo(t, l1, fixture.MTLSBase, second.AccessToken()))
		}
	})
	t.Run("an access token by itself ends alone", func(t *testing.T) {
		first := b.tokens(t, s1, "p-pub")
		if r := revoke(t, s1, "p-pub", first.AccessToken()); r.Status != 200 {
			t.Fatal(r.Text)
		}
		wantIT(t, b.userinfo(t, s1, fixture.MTLSBase, first.AccessToken()))
		wantOK(t, b.refresh(t, s1, "p-pub", refreshToken(first)))
	})
	proves(t, "V-2.1-2 V-2.2-1", "only its own client's", func(t *testing.T) {
		first := b.tokens(t, l1, "p-dn")
		wantIG(t, revoke(t, l1, "p-dns", refreshToken(first)))
		wantIC(t, revoke(t, b.As(t, nil), "p-dn", refreshToken(first)))
		wantOK(t, b.refresh(t, l1, "p-dn", refreshToken(first)))
		if r := revoke(t, l1, "p-dn", "cbr_"+randomText()); r.Status != 200 {
			t.Error(r.Text)
		}
	})
	proves(t, "V-2.1-3", "a public client whose key is lost", func(t *testing.T) {
		first := b.tokens(t, s1, "p-pub")
		if r := fixture.Post(t, b.As(t, nil), fixture.Issuer+"/revoke", "client_id", "p-pub", "token", refreshToken(first)); r.Status != 200 {
			t.Fatal(r.Text)
		}
		wantIG(t, b.refresh(t, s1, "p-pub", refreshToken(first)))
	})
	t.Run("introspection says nothing to others, and nothing of the past", func(t *testing.T) {
		first := b.tokens(t, l1, "p-dn")
		for _, who := range []string{"c-rs", "p-opaque"} {
			if in := introspect(t, who, refreshToken(first)); in.Text != `{"active":false}` {
				t.Errorf("%s: %s", who, in.Text)
			}
		}
		b := startGrants(t, func(c *authserver.Config) { c.Authorization.Refresh.RotateAll = true })
		l1 := b.As(t, b.L1)
		first = b.tokens(t, l1, "p-opaque")
		wantOK(t, b.refresh(t, l1, "p-opaque", refreshToken(first)))
		b.later(time.Minute)
		at := func() string {
			return fixture.Post(t, l1, fixture.MTLSBase+"/introspect", "client_id", "p-opaque", "token", refreshToken(first)).Text
		}
		if got := at(); got != `{"active":false}` {
			t.Errorf("a token that was replaced: %s", got)
		}
		b.later(400 * 24 * time.Hour)
		if got := at(); got != `{"active":false}` {
			t.Errorf("an expired one: %s", got)
		}
	})
	proves(t, "M-4-4 O-2.3-1", "the certificate of a public client is no credential", func(t *testing.T) {
		first := b.tokens(t, s1, "p-pub")
		wantIC(t, fixture.Post(t, s1, fixture.MTLSBase+"/introspect", "client_id", "p-pub", "token", refreshToken(first)))
		wantError(t, fixture.Token(t, s1, "p-pub"), 400, "unauthorized_client")
	})
}
