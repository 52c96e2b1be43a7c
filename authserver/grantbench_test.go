package authserver_test

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/clientauth"
	"github.com/certbound/certbound/internal/fixture"
)

// noLogin is for tests that begin with a code.
type noLogin struct{}

func (noLogin) ServeLogin(w http.ResponseWriter, _ *http.Request, _ *authserver.LoginAttempt) {
	w.WriteHeader(http.StatusTeapot)
}

// A grantBench is a server with clients that a person can allow something, and a clock.
type grantBench struct {
	*fixture.AS
	grants authserver.GrantStore
	offset atomic.Int64
}

const (
	alice    = "alice-7f3a"
	redirect = "https://app.example/callback"
)

// startGrants runs a server with the flows for people. Each change is applied to its
// settings first.
func startGrants(t *testing.T, changes ...func(*authserver.Config)) *grantBench {
	t.Helper()
	b := new(grantBench)
	b.AS = fixture.Start(t, append([]func(*authserver.Config){func(c *authserver.Config) {
		c.Authorization = authserver.Authorization{Enabled: true, Login: noLogin{}, ACRValues: []string{"silver"}}
		c.Authorization.Refresh.Rotate = true
		c.Scopes = append(c.Scopes, "openid", "profile", "email", "address", "phone", "offline_access")
		c.Now = func() time.Time { return time.Now().Add(time.Duration(b.offset.Load())) }
	}}, changes...)...)
	b.grants = b.Store.(authserver.GrantStore)
	client := func(id, method string, change func(*authserver.Client)) {
		c := &authserver.Client{
			ID: id, AuthMethod: method, Scope: "read write openid profile email address phone", BoundTokens: true, RedirectURIs: []string{redirect},
			GrantTypes: []string{authserver.GrantAuthorizationCode, authserver.GrantRefreshToken}, Resources: []string{fixture.Resource, fixture.Resource2},
		}
		change(c)
		if authserver.ValidateClient(c, b.Server.Rules()) != nil {
			return // of a method or profile that this test has switched off
		}
		b.Register(t, c)
	}
	b.Secret, _ = authserver.NewSecret()
	hash, err := authserver.HashSecret(b.Secret)
	if err != nil {
		t.Fatal(err)
	}
	client("p-dn", clientauth.TLSClientAuth, func(c *authserver.Client) { c.SubjectDN = fixture.SubjectDN })
	client("p-dns", clientauth.TLSClientAuth, func(c *authserver.Client) { c.SANDNS = "client-1.example" })
	client("p-other", clientauth.TLSClientAuth, func(c *authserver.Client) { c.SANDNS = "client-2.example" })
	client("p-opaque", clientauth.TLSClientAuth, func(c *authserver.Client) {
		c.SubjectDN, c.TokenFormat, c.MayIntrospect = fixture.SubjectDN, authserver.FormatOpaque, true
		c.Introspects = []string{fixture.Resource}
	})
	client("p-fapi", clientauth.TLSClientAuth, func(c *authserver.Client) { c.SubjectDN, c.Profile = fixture.SubjectDN, authserver.ProfileFAPI2 })
	client("p-self", clientauth.SelfSignedTLSClientAuth, func(c *authserver.Client) { c.JWKS = fixture.JWKSOf(t, b.S1) })
	client("p-pub", authserver.None, func(*authserver.Client) {})
	client("p-pub2", authserver.None, func(*authserver.Client) {})
	client("p-free", authserver.None, func(c *authserver.Client) { c.BoundTokens = false })
	client("p-once", authserver.None, func(c *authserver.Client) { c.GrantTypes = []string{authserver.GrantAuthorizationCode} })
	client("p-offline", authserver.None, func(c *authserver.Client) { c.Scope += " offline_access" })
	client("p-sec", authserver.ClientSecretBasic, func(c *authserver.Client) { c.SecretHash = hash })
	client("p-plain", authserver.ClientSecretBasic, func(c *authserver.Client) { c.SecretHash, c.BoundTokens = hash, false })
	if err := b.grants.SavePerson(t.Context(), &authserver.Person{Subject: alice, Updated: time.Now(), Claims: map[string]json.RawMessage{
		"name": json.RawMessage(`"Alice Example"`), "email": json.RawMessage(`"alice@example.org"`), "email_verified": json.RawMessage(`true`),
		"phone_number": json.RawMessage(`"+44 20 7946 0000"`), "address": json.RawMessage(`{"locality":"London"}`),
		"sub": json.RawMessage(`"mallory"`), "internal_note": json.RawMessage(`"never shown"`),
	}}); err != nil {
		t.Fatal(err)
	}
	return b
}

// later moves the clock of the server.
func (b *grantBench) later(d time.Duration) { b.offset.Add(int64(d)) }

func (b *grantBench) now() time.Time { return time.Now().Add(time.Duration(b.offset.Load())) }

// random returns 43 characters.
func randomText() string {
	var r [32]byte
	rand.Read(r[:])
	return base64.RawURLEncoding.EncodeToString(r[:])
}

func challenge(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// allow does what the authorization endpoint does when a person has agreed.
func (b *grantBench) allow(t *testing.T, clientID string, change func(*authserver.Grant, *authserver.Code)) (code, verifier string, g *authserver.Grant) {
	t.Helper()
	code, verifier = "cbc_"+randomText(), randomText()
	now := b.now()
	r := &authserver.AuthorizationRequest{Hash: sha256.Sum256([]byte(randomText())), ClientID: clientID, Created: now, Expires: now.Add(time.Minute)}
	if err := b.grants.SaveRequest(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	r, err := b.grants.Request(t.Context(), r.Hash)
	if err != nil {
		t.Fatal(err)
	}
	g = &authserver.Grant{
		ID: randomText(), ClientID: clientID, Subject: alice, Scope: "openid read write", Resources: []string{fixture.Resource},
		AuthTime: now.Add(-time.Minute), ACR: "silver", AMR: []string{"pwd", "otp"}, SessionID: "sid-1", Nonce: "n-0S6_WzA2Mj", Created: now,
	}
	c := &authserver.Code{
		Hash: sha256.Sum256([]byte(code)), GrantID: g.ID, ClientID: clientID, RedirectURI: redirect, RedirectURISent: true,
		Challenge: challenge(verifier), Expires: now.Add(time.Minute),
	}
	if change != nil {
		change(g, c)
	}
	if err := b.grants.Authorize(t.Context(), r, g, c, nil); err != nil {
		t.Fatal(err)
	}
	return code, verifier, g
}

// redeem asks for the tokens of a code at the mutual-TLS endpoint.
func (b *grantBench) redeem(t *testing.T, c *http.Client, clientID, code, verifier string, pairs ...string) *fixture.Answer {
	t.Helper()
	return fixture.Post(t, c, fixture.MTLSBase+"/token", append([]string{"grant_type", "authorization_code", "client_id", clientID,
		"code", code, "code_verifier", verifier, "redirect_uri", redirect}, pairs...)...)
}

func (b *grantBench) refresh(t *testing.T, c *http.Client, clientID, token string, pairs ...string) *fixture.Answer {
	t.Helper()
	return fixture.Post(t, c, fixture.MTLSBase+"/token", append([]string{"grant_type", "refresh_token", "client_id", clientID, "refresh_token", token}, pairs...)...)
}

// tokens goes from a person's consent to the tokens.
func (b *grantBench) tokens(t *testing.T, c *http.Client, clientID string, pairs ...string) *fixture.Answer {
	t.Helper()
	code, verifier, _ := b.allow(t, clientID, nil)
	r := b.redeem(t, c, clientID, code, verifier, pairs...)
	wantOK(t, r)
	return r
}

// userinfo asks for the claims of the person.
func (b *grantBench) userinfo(t *testing.T, c *http.Client, base, token string) *fixture.Answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/userinfo", nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return fixture.Do(t, c, req)
}

func refreshToken(r *fixture.Answer) string { s, _ := r.JSON["refresh_token"].(string); return s }

func wantIG(t *testing.T, r *fixture.Answer) { t.Helper(); wantError(t, r, 400, "invalid_grant") }

// wantIT wants the refusal of a token (RFC 6750, Section 3.1).
func wantIT(t *testing.T, r *fixture.Answer) {
	t.Helper()
	if ch := r.Header.Get("WWW-Authenticate"); r.Status != 401 || !strings.Contains(ch, `error="invalid_token"`) || r.JSON["sub"] != nil {
		t.Fatalf("expected 401 invalid_token, found %d %q %s", r.Status, ch, r.Text)
	}
	wantNoStore(t, r)
}
