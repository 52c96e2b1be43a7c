package authserver_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/clientauth"
	"github.com/certbound/certbound/internal/fixture"
)

func TestIntrospection(t *testing.T) {
	var ahead atomic.Int64 // of the server's clock
	as := fixture.Start(t, func(c *authserver.Config) {
		c.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	})
	l1, rs := as.As(t, as.L1), as.As(t, as.L2)
	ask := func(t *testing.T, token string, pairs ...string) *fixture.Answer {
		t.Helper()
		r := fixture.Post(t, rs, fixture.MTLSBase+"/introspect", append([]string{"client_id", "c-rs", "token", token}, pairs...)...)
		if _, ok := r.JSON["active"].(bool); r.Status == 200 && !ok {
			t.Errorf("active is not a boolean: %s", r.Text)
		}
		wantNoStore(t, r)
		return r
	}
	wantInactive := func(t *testing.T, r *fixture.Answer) {
		t.Helper()
		if r.Status != 200 || r.Text != `{"active":false}` {
			t.Errorf("expected inactive, found %d %s", r.Status, r.Text)
		}
	}
	formats := map[string]string{"jwt": "c-dn", "opaque": "c-dn-opaque"}

	for format, id := range formats {
		proves(t, "M-3.2-1 M-3.2-3 N-2.2-1 N-2.1-2 N-2.2-2", "active, "+format, func(t *testing.T) {
			token := fixture.Token(t, l1, id).AccessToken()
			r := ask(t, token)
			if r.JSON["active"] != true || r.Cnf() != certbound.Thumbprint(as.L1.Cert) || r.JSON["client_id"] != id || r.JSON["sub"] != id ||
				r.JSON["iss"] != fixture.Issuer || r.JSON["aud"] != fixture.Resource || r.JSON["scope"] != "read write" || r.JSON["token_type"] != "Bearer" || r.JSON["jti"] == "" {
				t.Error(r.Text)
			}
			// Another resource server, with another method, gets the same.
			as.Register(t, &authserver.Client{ID: "rs-" + format, AuthMethod: clientauth.SelfSignedTLSClientAuth, JWKS: fixture.JWKSOf(t, as.S2), MayIntrospect: true})
			if other := fixture.Post(t, as.As(t, as.S2), fixture.MTLSBase+"/introspect", "client_id", "rs-"+format, "token", token); other.Text != r.Text {
				t.Errorf("%s\n%s", other.Text, r.Text)
			}
		})
		proves(t, "N-2.1-1", "a wrong hint, "+format, func(t *testing.T) {
			token := fixture.Token(t, l1, id).AccessToken()
			if r := ask(t, token, "token_type_hint", "refresh_token"); r.JSON["active"] != true {
				t.Error(r.Text)
			}
		})
		proves(t, "M-3.2-4 N-2.2-3 N-4-1", "expired, "+format, func(t *testing.T) {
			token := fixture.Token(t, l1, id).AccessToken()
			ahead.Store(int64(11 * time.Minute))
			defer ahead.Store(0)
			wantInactive(t, ask(t, token))
		})
		proves(t, "N-4-1", "issued in the future, "+format, func(t *testing.T) {
			ahead.Store(int64(5 * time.Minute))
			token := fixture.Token(t, l1, id).AccessToken()
			ahead.Store(0)
			wantInactive(t, ask(t, token))
		})
		proves(t, "N-2.2-3 N-4-1", "not for this caller, "+format, func(t *testing.T) {
			other := "aud2-" + format
			as.Register(t, &authserver.Client{ID: other, AuthMethod: clientauth.TLSClientAuth, SubjectDN: fixture.SubjectDN, TokenFormat: format, Resources: []string{fixture.Resource, fixture.Resource2}})
			wantInactive(t, ask(t, fixture.Token(t, l1, other, "resource", fixture.Resource2).AccessToken()))
			if r := ask(t, fixture.Token(t, l1, other, "resource", fixture.Resource2, "resource", fixture.Resource).AccessToken()); r.JSON["active"] != true {
				t.Error(r.Text)
			}
		})
		proves(t, "M-3.2-5", "unbound, "+format, func(t *testing.T) {
			sec := map[string]string{"jwt": "c-sec", "opaque": "c-sec-opaque"}[format]
			token := fixture.Token(t, l1, sec, "Authorization", fixture.Basic(sec, as.Secret)).AccessToken()
			r := ask(t, token)
			if _, ok := r.JSON["cnf"]; ok || r.JSON["active"] != true || strings.Contains(r.Text, "cnf") {
				t.Error(r.Text)
			}
		})
		proves(t, "W-2.3-1", "the client is gone, or disabled, "+format, func(t *testing.T) {
			gone := "gone-" + format
			c := &authserver.Client{ID: gone, AuthMethod: clientauth.TLSClientAuth, SubjectDN: fixture.SubjectDN, TokenFormat: format, BoundTokens: true}
			as.Register(t, c)
			token := fixture.Token(t, l1, gone).AccessToken()
			if r := ask(t, token); r.JSON["active"] != true {
				t.Fatal(r.Text)
			}
			c.Disabled = true
			if err := as.Store.UpdateClient(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			as.Server.ClientChanged(gone)
			wantInactive(t, ask(t, token))
			if err := as.Store.DeleteClient(t.Context(), gone); err != nil {
				t.Fatal(err)
			}
			as.Server.ClientChanged(gone)
			wantInactive(t, ask(t, token))
			wantIC(t, fixture.Token(t, l1, gone))

			// Whoever gets the id next does not get the tokens.
			again := &authserver.Client{ID: gone, AuthMethod: clientauth.TLSClientAuth, SubjectDN: fixture.SubjectDN,
				TokenFormat: format, BoundTokens: true, Created: time.Now().Add(2 * time.Second)}
			as.Register(t, again)
			wantInactive(t, ask(t, token))
		})
	}
	proves(t, "N-2.2-3 N-4-1", "no token of ours", func(t *testing.T) {
		token := fixture.Token(t, l1, "c-dn").AccessToken()
		parts := strings.Split(token, ".")
		claims := fixture.Claims(token)
		forged := fixture.Sign(t, jose.ES256, as.S1.Key, claims)
		other := strings.Split(fixture.Token(t, l1, "c-dn-plain").AccessToken(), ".")
		for _, bad := range []string{
			"nonsense", "a.b.c", parts[0] + "." + parts[1] + ".", strings.Join([]string{parts[0], other[1], parts[2]}, "."),
			forged, "cbt_" + strings.Repeat("A", 43), base64URL(`{"alg":"none","typ":"at+jwt"}`) + "." + parts[1] + ".", token + "x",
		} {
			wantInactive(t, ask(t, bad))
		}
	})
	proves(t, "N-2.1-1", "no token at all, or a huge one", func(t *testing.T) {
		wantIR(t, ask(t, ""))
		wantIR(t, ask(t, strings.Repeat("x", 20_000)))
	})
	proves(t, "N-2.1-2 N-2.3-1 N-4-2 FM-6.2-1", "who may ask", func(t *testing.T) {
		token := fixture.Token(t, l1, "c-dn").AccessToken()
		to := fixture.MTLSBase + "/introspect"
		wantError(t, fixture.Post(t, l1, to, "client_id", "c-dn", "token", token), 403, "access_denied")
		wantIC(t, fixture.Post(t, l1, to, "client_id", "c-rs", "token", token))
		wantIC(t, fixture.Post(t, as.As(t, nil), to, "client_id", "c-rs", "token", token))
		wantIC(t, fixture.Post(t, as.As(t, nil), to, "token", token))
		wantIC(t, fixture.Post(t, as.As(t, as.S1), to, "client_id", "c-pub", "token", token))
		wantError(t, fixture.Get(t, rs, to), 405, "invalid_request")
	})
	// Row 22: the answer to one caller must not serve another; here every answer is
	// made anew, and nobody may keep it.
	t.Run("answers are for one caller", func(t *testing.T) {
		t.Attr("attack", "22")
		token := fixture.Token(t, l1, "c-dn").AccessToken()
		as.Register(t, &authserver.Client{ID: "rs2", AuthMethod: clientauth.TLSClientAuth, SANDNS: "client-2.example", MayIntrospect: true, Introspects: []string{fixture.Resource2}})
		for range 2 {
			if r := ask(t, token); r.JSON["active"] != true || r.Cnf() != certbound.Thumbprint(as.L1.Cert) {
				t.Error(r.Text)
			}
			wantInactive(t, fixture.Post(t, rs, fixture.MTLSBase+"/introspect", "client_id", "rs2", "token", token))
		}
	})
}

func TestRevocation(t *testing.T) {
	as := fixture.Start(t)
	l1, rs, none := as.As(t, as.L1), as.As(t, as.L2), as.As(t, nil)
	active := func(t *testing.T, token string) bool {
		t.Helper()
		r := fixture.Post(t, rs, fixture.MTLSBase+"/introspect", "client_id", "c-rs", "token", token)
		if r.Status != 200 {
			t.Fatal(r.Status, r.Text)
		}
		return r.JSON["active"] == true
	}
	revoke := func(t *testing.T, id, token string, pairs ...string) *fixture.Answer {
		t.Helper()
		return fixture.Post(t, l1, fixture.MTLSBase+"/revoke", append([]string{"client_id", id, "token", token}, pairs...)...)
	}
	for format, id := range map[string]string{"jwt": "c-dn", "opaque": "c-dn-opaque"} {
		proves(t, "V-2-1 V-2.1-1 V-2.2-1 V-2.2.1-1", format, func(t *testing.T) {
			token, other := fixture.Token(t, l1, id).AccessToken(), fixture.Token(t, l1, id).AccessToken()
			if !active(t, token) {
				t.Fatal("not active before")
			}
			for range 2 {
				if r := revoke(t, id, token, "token_type_hint", "refresh_token"); r.Status != 200 || r.Text != "" || r.Header.Get("Cache-Control") != "no-store" {
					t.Errorf("%d %s", r.Status, r.Text)
				}
				if active(t, token) {
					t.Error("still active")
				}
			}
			if !active(t, other) {
				t.Error("another token went with it")
			}
		})
		proves(t, "V-2.1-2", "another client's, "+format, func(t *testing.T) {
			token := fixture.Token(t, l1, id).AccessToken()
			wantError(t, revoke(t, "c-dns", token), 400, "invalid_grant")
			if !active(t, token) {
				t.Error("revoked by another client")
			}
		})
	}
	proves(t, "V-2.2-1", "nonsense", func(t *testing.T) {
		for _, token := range []string{"nonsense", "a.b.c", "cbt_x"} {
			if r := revoke(t, "c-dn", token); r.Status != 200 {
				t.Error(r.Status)
			}
		}
		wantIR(t, revoke(t, "c-dn", ""))
	})
	proves(t, "V-2.1-3", "a public client", func(t *testing.T) {
		if r := fixture.Post(t, none, fixture.Issuer+"/revoke", "client_id", "c-pub", "token", "x"); r.Status != 200 {
			t.Error(r.Status, r.Text)
		}
		token := fixture.Token(t, l1, "c-dn").AccessToken()
		wantError(t, fixture.Post(t, none, fixture.Issuer+"/revoke", "client_id", "c-pub", "token", token), 400, "invalid_grant")
	})
	proves(t, "M-5-10 M-5-9", "alias and conventional endpoint have one state", func(t *testing.T) {
		r := fixture.Token(t, as.As(t, as.S1), "c-sec-bound", "Authorization", fixture.Basic("c-sec-bound", as.Secret))
		if fixture.Claims(r.AccessToken())["iss"] != fixture.Issuer || !active(t, r.AccessToken()) {
			t.Fatal(r.Text)
		}
		if rv := fixture.Post(t, none, fixture.Issuer+"/revoke", "token", r.AccessToken(), "Authorization", fixture.Basic("c-sec-bound", as.Secret)); rv.Status != 200 {
			t.Fatal(rv.Text)
		}
		if active(t, r.AccessToken()) {
			t.Error("still active")
		}
	})
}
