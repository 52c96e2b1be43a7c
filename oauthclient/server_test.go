package oauthclient_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/clientauth"
	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/oauthclient"
	"github.com/certbound/certbound/pkitest"
)

// annLogin believes that everybody is ann.
type annLogin struct{}

func (annLogin) ServeLogin(w http.ResponseWriter, r *http.Request, a *authserver.LoginAttempt) {
	a.Done(w, r, authserver.Authenticated{Subject: "ann"})
}

// benchClient is a client of the server on the bench.
func benchClient(t *testing.T, as *fixture.AS, cfg oauthclient.Config) *oauthclient.Client {
	t.Helper()
	cfg.Issuer, cfg.RootCAs, cfg.RedirectURI = fixture.Issuer, as.ServerCA.Pool(), redirectURI
	cfg.Scopes, cfg.RequireBoundTokens, cfg.Logger = []string{"openid", "read"}, true, slog.New(slog.DiscardHandler)
	cfg.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		return new(net.Dialer).DialContext(ctx, network, as.Addr(host))
	}
	c, err := oauthclient.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// browse opens a URL and follows it to the client, whose query it returns.
func browse(t *testing.T, as *fixture.AS, to string) url.Values {
	t.Helper()
	b := as.As(t, nil)
	b.Jar, _ = cookiejar.New(nil)
	for range 10 {
		resp, err := b.Get(to)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		next, err := resp.Location()
		if err != nil {
			t.Fatalf("%s: %d %s", to, resp.StatusCode, body)
		}
		if next.Host == "app.test" {
			return next.Query()
		}
		to = next.String()
	}
	t.Fatal("too many redirects")
	return nil
}

// The client and the server of this module, the whole way, for each kind of client.
func TestWithServer(t *testing.T) {
	as := fixture.Start(t, func(c *authserver.Config) {
		c.Authorization.Enabled, c.Authorization.Login, c.Authorization.Refresh.RotateAll = true, annLogin{}, true
		c.Scopes = []string{"read", "openid"}
		c.DefaultResource = fixture.Issuer
		c.Resources = []string{fixture.Issuer, fixture.Resource}
	})
	public := pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=instance"})
	rows := []struct {
		name, requirement string
		client            authserver.Client
		cfg               oauthclient.Config
		rotates           bool
	}{
		{name: "tls_client_auth", rotates: true,
			client: authserver.Client{AuthMethod: clientauth.TLSClientAuth, SubjectDN: fixture.SubjectDN},
			cfg:    oauthclient.Config{AuthMethod: oauthclient.TLSClientAuth, Certificate: oauthclient.Static(as.L1.TLS())}},
		{name: "self_signed_tls_client_auth", rotates: true,
			client: authserver.Client{AuthMethod: clientauth.SelfSignedTLSClientAuth, JWKS: fixture.JWKSOf(t, as.S1)},
			cfg:    oauthclient.Config{AuthMethod: oauthclient.SelfSignedTLSClientAuth, Certificate: oauthclient.Static(as.S1.TLS())}},
		{name: "private_key_jwt", rotates: true,
			client: authserver.Client{AuthMethod: authserver.PrivateKeyJWT, JWKS: fixture.JWKSOf(t, as.AssertionKey)},
			cfg: oauthclient.Config{AuthMethod: oauthclient.PrivateKeyJWT, AssertionKey: as.AssertionKey.Key, AssertionAlg: "ES256",
				Certificate: oauthclient.Static(as.S1.TLS())}},
		{name: "public", rotates: true, requirement: "M-4-1 M-4-3 M-4-6",
			client: authserver.Client{AuthMethod: authserver.None},
			cfg:    oauthclient.Config{AuthMethod: oauthclient.None, Certificate: oauthclient.Static(public.TLS())}},
		{name: "fapi2", requirement: "F2-5.3.3.1-1 F2-5.3.3.1-2 F2-5.3.3.2-1",
			client: authserver.Client{AuthMethod: clientauth.TLSClientAuth, SubjectDN: fixture.SubjectDN, Profile: authserver.ProfileFAPI2},
			cfg:    oauthclient.Config{AuthMethod: oauthclient.TLSClientAuth, Certificate: oauthclient.Static(as.L1.TLS()), FAPI2: true}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			if row.requirement != "" {
				t.Attr("requirement", row.requirement)
			}
			reg := row.client
			reg.ID, reg.Name, reg.Scope, reg.BoundTokens, reg.SkipConsent = "app-"+row.name, row.name, "openid read", true, true
			reg.GrantTypes, reg.RedirectURIs, reg.Resources = []string{"authorization_code", "refresh_token"}, []string{redirectURI}, []string{fixture.Issuer, fixture.Resource}
			as.Register(t, &reg)
			row.cfg.ClientID = reg.ID
			c := benchClient(t, as, row.cfg)

			p, err := c.Authorize(t.Context(), oauthclient.AuthorizationParams{})
			if err != nil {
				t.Fatal(err)
			}
			answer := browse(t, as, p.URL)
			var kept []string
			s, err := c.Exchange(t.Context(), p, answer, func(_ context.Context, s *oauthclient.SessionState) error {
				if s != nil {
					kept = append(kept, s.RefreshToken)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if id := s.IDToken(); id == nil || id.Subject != "ann" || id.Issuer != fixture.Issuer {
				t.Errorf("ID token %+v", id)
			}
			if cnf := cnfOf(s.State().AccessToken); cnf != c.Thumbprint() {
				t.Errorf("token bound to %q, want %q", cnf, c.Thumbprint())
			}
			info, err := s.UserInfo(t.Context())
			if err != nil || info.Subject != "ann" {
				t.Fatalf("UserInfo %+v, error %v", info, err)
			}
			// The same after a restart, with a token that has ended.
			state := s.State()
			state.AccessToken, state.Expires = "", time.Time{}
			later, err := c.Resume(state, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := later.TokenSource(t.Context()).Token(); err != nil {
				t.Fatal(err)
			}
			if changed := later.State().RefreshToken != state.RefreshToken; changed != row.rotates {
				t.Errorf("another refresh token: %v, want %v", changed, row.rotates)
			}
			if cnf := cnfOf(later.State().AccessToken); cnf != c.Thumbprint() {
				t.Errorf("refreshed token bound to %q, want %q", cnf, c.Thumbprint())
			}
			// The answer came once.
			if _, err := c.Exchange(t.Context(), p, answer, nil); err == nil {
				t.Error("a code was redeemed twice")
			}
			if err := later.Revoke(t.Context()); err != nil {
				t.Error(err)
			}
			state = later.State()
			state.RefreshToken = kept[0]
			again, err := c.Resume(state, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := again.TokenSource(t.Context()).Token(); !errors.Is(err, oauthclient.ErrLoginRequired) {
				t.Errorf("after revocation: error %v, want ErrLoginRequired", err)
			}
		})
	}
}

func cnfOf(token string) string {
	cnf, _ := fixture.Claims(token)["cnf"].(map[string]any)
	x5t, _ := cnf["x5t#S256"].(string)
	return x5t
}

// FuzzResponse: whatever a browser brings back, only an answer with this issuer and this
// state makes a request.
func FuzzResponse(f *testing.F) {
	for _, s := range []string{"code=c&state=s&iss=https://as.test", "code=c&state=s", "iss=https://as.test&state=s&error=access_denied",
		"iss=https://as.test&iss=x&code=c&state=s", "code=&state=s&iss=https://as.test", "%zz", "code=c&code=d&state=s&iss=https://as.test"} {
		f.Add(s)
	}
	m, err := oauthclient.ParseMetadata([]byte(`{"issuer":"https://as.test","token_endpoint":"https://as.test/token","authorization_endpoint":"https://as.test/a",
		"authorization_response_iss_parameter_supported":true}`), "https://as.test")
	if err != nil {
		f.Fatal(err)
	}
	sent := errors.New("sent")
	c, err := oauthclient.New(oauthclient.Config{Issuer: "https://as.test", Metadata: m, ClientID: "c", AuthMethod: oauthclient.None, RedirectURI: redirectURI,
		Logger: slog.New(slog.DiscardHandler), DialContext: func(context.Context, string, string) (net.Conn, error) { return nil, sent }})
	if err != nil {
		f.Fatal(err)
	}
	p := &oauthclient.Pending{Issuer: "https://as.test", ClientID: "c", RedirectURI: redirectURI, State: "s", Verifier: strings.Repeat("v", 43)}
	f.Fuzz(func(t *testing.T, query string) {
		v, _ := url.ParseQuery(query) // what parses counts, as for net/http
		s, err := c.Exchange(t.Context(), p, v, nil)
		if s != nil || err == nil {
			t.Fatalf("%v, error %v", s, err)
		}
		good := slices.Equal(v["iss"], []string{"https://as.test"}) && slices.Equal(v["state"], []string{"s"}) && len(v["code"]) == 1 && v.Get("error") == ""
		if _, denied := errors.AsType[*oauthclient.AuthorizationError](err); errors.Is(err, sent) && !good {
			t.Errorf("%q made a request", query)
		} else if !errors.Is(err, sent) && !denied && !errors.Is(err, oauthclient.ErrResponse) && !errors.Is(err, oauthclient.ErrResponseIssuer) {
			t.Errorf("%q: undeclared error %v", query, err)
		}
	})
}
