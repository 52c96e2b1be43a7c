package upstream

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/authserver/memstore"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/clientauth"
	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/server/people/accounts"
)

const (
	providerURL = "https://op.test"
	password    = "correct horse battery"
	verifier    = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
	callback    = "https://app.test/cb"
)

// A bench is our server, and a second one, at op.test, that is the OpenID Provider for it:
// both real, over TLS. Ours authenticates there with its certificate.
type bench struct {
	*fixture.AS
	people *accounts.Directory // of the provider

	mu sync.Mutex
	// answer, if set, changes what the provider answers.
	answer func(path string, body []byte) []byte
	down   bool
}

func (b *bench) set(answer func(path string, body []byte) []byte, down bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answer, b.down = answer, down
}

// tamper serves a handler, with the changes of the test.
func (b *bench) tamper(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.mu.Lock()
		answer, down := b.answer, b.down
		b.mu.Unlock()
		switch {
		case down:
			http.Error(w, "not now", http.StatusBadGateway)
		case answer == nil:
			next.ServeHTTP(w, r)
		default:
			rec := httptest.NewRecorder()
			next.ServeHTTP(rec, r)
			body := answer(r.URL.Path, rec.Body.Bytes())
			for name, values := range rec.Header() {
				if name != "Content-Length" {
					w.Header()[name] = values
				}
			}
			w.WriteHeader(rec.Code)
			_, _ = w.Write(body)
		}
	})
}

func newBench(t *testing.T, changes ...func(*Config)) *bench {
	t.Helper()
	b := &bench{}
	certs := fixture.Certs()
	pair := certs.L1.TLS()
	client := &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			host, _, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			return new(net.Dialer).DialContext(ctx, network, b.Addr(host))
		},
		TLSClientConfig: &tls.Config{RootCAs: certs.ServerCA.Pool(), GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }},
	}
	t.Cleanup(client.CloseIdleConnections)
	cfg := Config{Issuer: providerURL, ClientID: "ours", RedirectURL: fixture.Issuer + "/login/callback", HTTPClient: &http.Client{Transport: client}}
	for _, change := range changes {
		change(&cfg)
	}
	login, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	b.AS = fixture.Start(t, func(c *authserver.Config) {
		c.Scopes = []string{"openid", "profile", "email", "read"}
		c.Authorization = authserver.Authorization{Enabled: true, Login: login, ConsentLifetime: -1}
	})
	b.Register(t, &authserver.Client{ID: "app", AuthMethod: clientauth.TLSClientAuth, SubjectDN: fixture.SubjectDN, BoundTokens: true, Scope: "openid profile email read",
		Resources: []string{fixture.Resource}, GrantTypes: []string{"authorization_code"}, RedirectURIs: []string{callback}, SkipConsent: true})

	b.people = &accounts.Directory{Store: &accounts.Memory{}, Cost: accounts.Cost{Memory: 8, Passes: 1, Lanes: 1}}
	op, err := authserver.New(authserver.Config{
		Issuer: providerURL, MTLSBaseURL: "https://mtls.op.test", Store: memstore.New(), Source: certsource.TLS{}, Paths: b.Paths, DefaultAnchorSet: "ca1",
		MTLS:        authserver.MTLSFeature{Enabled: true, TLSClientAuth: true, CertificateBoundAccessTokens: true},
		AuthMethods: []string{clientauth.TLSClientAuth}, Scopes: []string{"openid", "profile", "email"}, Resources: []string{"https://api.op.test"},
		DefaultResource: "https://api.op.test",
		Authorization:   authserver.Authorization{Enabled: true, Login: accounts.NewLogin(b.people, slog.New(slog.DiscardHandler))},
		Logger:          slog.New(slog.DiscardHandler),
		Clients: []*authserver.Client{
			{ID: "ours", AuthMethod: clientauth.TLSClientAuth, SubjectDN: fixture.SubjectDN, BoundTokens: true, Scope: "openid profile email", SkipConsent: true,
				GrantTypes: []string{"authorization_code"}, RedirectURIs: []string{cfg.RedirectURL}},
			{ID: "other", AuthMethod: clientauth.TLSClientAuth, SubjectDN: fixture.SubjectDN, BoundTokens: true, Scope: "openid profile email", SkipConsent: true,
				GrantTypes: []string{"authorization_code"}, RedirectURIs: []string{callback}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- op.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	b.Listen(t, "op.test", b.tamper(op.Handler()), tls.NoClientCert)
	b.Listen(t, "mtls.op.test", b.tamper(op.MTLSHandler()), tls.RequestClientCert)
	for _, name := range []string{"ann", "bob"} {
		if _, err := b.people.Add(t.Context(), name, password, map[string]json.RawMessage{
			"name": json.RawMessage(`"Person ` + name + `"`), "email": json.RawMessage(`"` + name + `@op.test"`), "email_verified": json.RawMessage("true"),
		}); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// browser returns one that goes to both servers.
func (b *bench) browser(t *testing.T) *fixture.Browser {
	t.Helper()
	return fixture.NewBrowser(t, b.As(t, nil), "as.test", "op.test")
}

func challenge() string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func request(pairs ...string) string {
	v := url.Values{"client_id": {"app"}, "response_type": {"code"}, "redirect_uri": {callback}, "scope": {"openid profile email"}, "state": {"s"},
		"code_challenge": {challenge()}, "code_challenge_method": {"S256"}}
	for i := 0; i+1 < len(pairs); i += 2 {
		v.Set(pairs[i], pairs[i+1])
	}
	return fixture.Issuer + "/authorize?" + v.Encode()
}

// login opens a request of the client and logs in at the provider.
func (b *bench) login(t *testing.T, br *fixture.Browser, name string, pairs ...string) fixture.Page {
	t.Helper()
	p := br.Open(request(pairs...))
	if !strings.HasPrefix(p.At, providerURL+"/login?") {
		t.Fatalf("expected the provider's login page, found %d %s\n%s", p.Status, p.At, p.Heading())
	}
	return br.Submit(p, "name", name, "password", password)
}

// idToken redeems the code of an answer to the client.
func (b *bench) idToken(t *testing.T, p fixture.Page) (raw string, claims map[string]any, access string) {
	t.Helper()
	if p.Query("code") == "" || p.Query("iss") != fixture.Issuer || p.Query("state") != "s" {
		t.Fatalf("expected a code, found %d %s\n%s", p.Status, p.At, p.Heading())
	}
	r := fixture.Post(t, b.As(t, b.L1), fixture.MTLSBase+"/token", "client_id", "app", "grant_type", "authorization_code",
		"code", p.Query("code"), "redirect_uri", callback, "code_verifier", verifier)
	if r.Status != http.StatusOK {
		t.Fatalf("expected tokens, found %d %s", r.Status, r.Text)
	}
	raw, _ = r.JSON["id_token"].(string)
	return raw, fixture.Claims(raw), r.AccessToken()
}

// wantPage wants an error page of ours, which leads nowhere.
func wantPage(t *testing.T, p fixture.Page, status int, text string) {
	t.Helper()
	if p.Status != status || !strings.HasPrefix(p.At, fixture.Issuer) || !strings.Contains(p.Text, text) || strings.Contains(p.Text, "<form") {
		t.Errorf("expected our page with %d %q, found %d %s\n%s", status, text, p.Status, p.At, p.Heading())
	}
}

func TestLogin(t *testing.T) {
	b := newBench(t)
	br := b.browser(t)
	_, claims, access := b.idToken(t, b.login(t, br, "ann"))
	sub, _ := claims["sub"].(string)
	if !strings.HasPrefix(sub, "u-") || claims["iss"] != fixture.Issuer {
		t.Errorf("claims %v", claims)
	}
	if amr, _ := claims["amr"].([]any); len(amr) != 1 || amr[0] != "pwd" {
		t.Errorf("amr %v, want that of the provider", claims["amr"])
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fixture.MTLSBase+"/userinfo", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+access)
	info := fixture.Do(t, b.As(t, b.L1), req)
	if info.JSON["name"] != "Person ann" || info.JSON["email"] != "ann@op.test" || info.JSON["email_verified"] != true || info.JSON["sub"] != sub {
		t.Errorf("userinfo %v", info.JSON)
	}

	// The person is the same in another browser, and another one is not.
	_, again, _ := b.idToken(t, b.login(t, b.browser(t), "ann"))
	_, bob, _ := b.idToken(t, b.login(t, b.browser(t), "bob"))
	if again["sub"] != sub || bob["sub"] == sub {
		t.Errorf("ann is %v and %v, bob is %v", sub, again["sub"], bob["sub"])
	}
	// The session is ours: the provider is not asked again.
	if p := br.Open(request()); p.Query("code") == "" {
		t.Errorf("expected a code from the session, found %d %s", p.Status, p.At)
	}
}

// What the client asked for goes along.
func TestWhatIsAsked(t *testing.T) {
	b := newBench(t)
	only := fixture.NewBrowser(t, b.As(t, nil), "as.test") // stops before the provider
	for _, tc := range []struct {
		name  string
		pairs []string
		want  map[string]string
	}{
		{"nothing special", nil, map[string]string{"client_id": "ours", "response_type": "code", "redirect_uri": fixture.Issuer + "/login/callback",
			"scope": "openid profile email", "code_challenge_method": "S256", "prompt": "", "max_age": "", "login_hint": ""}},
		{"again", []string{"prompt", "login"}, map[string]string{"prompt": "login", "max_age": "0"}},
		{"choose", []string{"prompt", "select_account"}, map[string]string{"prompt": "select_account"}},
		{"hints", []string{"login_hint", "ann", "acr_values", "urn:a urn:b", "ui_locales", "de fr"}, map[string]string{"login_hint": "ann", "acr_values": "urn:a urn:b", "ui_locales": "de fr"}},
	} {
		p := only.Open(request(tc.pairs...))
		if !strings.HasPrefix(p.At, providerURL+"/authorize?") {
			t.Fatalf("%s: %s", tc.name, p.At)
		}
		for name, want := range tc.want {
			if got := p.Query(name); got != want {
				t.Errorf("%s: %s is %q, want %q", tc.name, name, got, want)
			}
		}
		for _, name := range []string{"state", "nonce", "code_challenge"} {
			if len(p.Query(name)) < 43 {
				t.Errorf("%s: %s is %q", tc.name, name, p.Query(name))
			}
		}
	}
}

func TestSubjectClaim(t *testing.T) {
	b := newBench(t, func(c *Config) { c.SubjectClaim = "email" })
	if _, claims, _ := b.idToken(t, b.login(t, b.browser(t), "ann")); claims["sub"] != "ann@op.test" {
		t.Errorf("sub %v", claims["sub"])
	}
	missing := newBench(t, func(c *Config) { c.SubjectClaim = "employee" })
	wantRedirect(t, missing.login(t, missing.browser(t), "ann"), "server_error")
	missing.logged(t, "expected a string in the claim employee")
}

// wantRedirect wants an error that the client learns.
func wantRedirect(t *testing.T, p fixture.Page, code string) {
	t.Helper()
	if !strings.HasPrefix(p.At, callback) || p.Query("error") != code || p.Query("code") != "" || p.Query("iss") != fixture.Issuer {
		t.Errorf("expected %s at the client, found %d %s\n%s", code, p.Status, p.At, p.Heading())
	}
}

func (b *bench) logged(t *testing.T, text string) {
	t.Helper()
	if !strings.Contains(b.Log(), text) {
		t.Errorf("the log does not say %q:\n%s", text, b.Log())
	}
}

// The provider is down at the first login, and comes back without a restart of ours.
func TestProviderDown(t *testing.T) {
	b := newBench(t)
	b.set(nil, true)
	wantRedirect(t, b.browser(t).Open(request()), "temporarily_unavailable")
	b.set(nil, false)
	b.idToken(t, b.login(t, b.browser(t), "ann"))

	// And while the person types.
	br := b.browser(t)
	p := br.Open(request())
	b.set(func(path string, body []byte) []byte {
		if path == "/token" {
			return []byte(`{"error":"server_error"}`)
		}
		return body
	}, false)
	wantRedirect(t, br.Submit(p, "name", "ann", "password", password), "server_error")
}

func TestDenied(t *testing.T) {
	b := newBench(t)
	br := b.browser(t)
	wantRedirect(t, br.Submit(br.Open(request()), "decision", "cancel"), "access_denied")
}

// half logs in at the provider, and returns the answer before our server has seen it.
func (b *bench) half(t *testing.T, br *fixture.Browser, name string, change func(authorize url.Values)) (answer string) {
	t.Helper()
	// One jar, two views: ours stops at the provider, the other at our callback.
	ours := fixture.NewBrowser(t, b.As(t, nil), "as.test").WithJar(br.Jar())
	theirs := fixture.NewBrowser(t, b.As(t, nil), "op.test").WithJar(br.Jar())
	to, err := url.Parse(ours.Open(request()).At)
	if err != nil {
		t.Fatal(err)
	}
	q := to.Query()
	if change != nil {
		change(q)
	}
	to.RawQuery = q.Encode()
	p := theirs.Open(to.String())
	if strings.HasPrefix(p.At, providerURL+"/login?") {
		p = theirs.Submit(p, "name", name, "password", password)
	}
	if !strings.HasPrefix(p.At, fixture.Issuer+"/login/callback?") {
		t.Fatalf("expected an answer to us, found %d %s\n%s", p.Status, p.At, p.Heading())
	}
	return p.At
}

// edit changes parameters of an answer; an empty value removes one.
func edit(t *testing.T, answer string, pairs ...string) string {
	t.Helper()
	u, err := url.Parse(answer)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	for i := 0; i+1 < len(pairs); i += 2 {
		if q.Del(pairs[i]); pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// A stranger sends the victim the answer to a login of their own, so that the victim goes
// on under their name.
func TestAttackStateOfAnotherBrowser(t *testing.T) {
	b := newBench(t)
	thief, victim := b.browser(t), b.browser(t)
	stolen := b.half(t, thief, "bob", nil)
	wantPage(t, victim.Open(stolen), http.StatusForbidden, "A cookie is missing")
	if p := victim.Open(request()); !strings.HasPrefix(p.At, providerURL+"/login?") {
		t.Errorf("the victim is logged in: %d %s", p.Status, p.At)
	}
	t.Run("with a request of the victim's own", func(t *testing.T) {
		mine := b.half(t, victim, "ann", nil)
		u, err := url.Parse(mine)
		if err != nil {
			t.Fatal(err)
		}
		s, err := url.Parse(stolen)
		if err != nil {
			t.Fatal(err)
		}
		// The thief's code under the victim's state: nonce and PKCE do not fit.
		wantRedirect(t, victim.Open(edit(t, stolen, "state", u.Query().Get("state"))), "server_error")
		// The victim's flow, the thief's secret.
		mine = b.half(t, victim, "ann", nil)
		u, err = url.Parse(mine)
		if err != nil {
			t.Fatal(err)
		}
		flow, _, _ := strings.Cut(u.Query().Get("state"), ".")
		_, secret, _ := strings.Cut(s.Query().Get("state"), ".")
		wantPage(t, victim.Open(edit(t, mine, "state", flow+"."+secret)), http.StatusBadRequest, "The login did not work")
		if p := victim.Open(mine); p.Query("code") == "" {
			t.Errorf("and then not the right one either: %d %s\n%s", p.Status, p.At, p.Heading())
		}
	})
}

// An answer counts once.
func TestAttackReplayedAnswer(t *testing.T) {
	b := newBench(t)
	br := b.browser(t)
	answer := b.half(t, br, "ann", nil)
	if p := br.Open(answer); p.Query("code") == "" {
		t.Fatalf("%d %s\n%s", p.Status, p.At, p.Heading())
	}
	wantPage(t, br.Open(answer), http.StatusBadRequest, "This link is no longer valid")
	t.Run("after one that failed", func(t *testing.T) {
		br := b.browser(t)
		answer := b.half(t, br, "ann", nil)
		wantRedirect(t, br.Open(edit(t, answer, "code", "another")), "server_error")
		wantPage(t, br.Open(answer), http.StatusBadRequest, "This link is no longer valid")
	})
}

// The browser was sent to another provider, whose code or name comes back (RFC 9207).
func TestAttackMixUp(t *testing.T) {
	b := newBench(t)
	for _, tc := range []struct{ name, iss string }{{"another issuer", "https://evil.test"}, {"no issuer, of a provider that sends one", ""}, {"a prefix", providerURL + "/"}} {
		t.Run(tc.name, func(t *testing.T) {
			br := b.browser(t)
			wantRedirect(t, br.Open(edit(t, b.half(t, br, "ann", nil), "iss", tc.iss)), "server_error")
		})
	}
	b.logged(t, "upstream: iss: expected")
}

func TestAttackNonce(t *testing.T) {
	b := newBench(t)
	for name, nonce := range map[string]string{"another nonce": "n-0S6_WzA2Mj", "no nonce": ""} {
		t.Run(name, func(t *testing.T) {
			br := b.browser(t)
			answer := b.half(t, br, "ann", func(q url.Values) {
				if q.Del("nonce"); nonce != "" {
					q.Set("nonce", nonce)
				}
			})
			wantRedirect(t, br.Open(answer), "server_error")
		})
	}
	b.logged(t, "expected the nonce of this login")
	t.Run("a code for another verifier", func(t *testing.T) {
		br := b.browser(t)
		answer := b.half(t, br, "ann", func(q url.Values) { q.Set("code_challenge", challenge()) })
		wantRedirect(t, br.Open(answer), "server_error")
	})
}

// swap replaces members of a JSON answer at a path.
func swap(t *testing.T, at string, members map[string]any) func(path string, body []byte) []byte {
	return func(path string, body []byte) []byte {
		var doc map[string]any
		if path != at || json.Unmarshal(body, &doc) != nil {
			return body
		}
		for name, value := range members {
			if doc[name] = value; value == nil {
				delete(doc, name)
			}
		}
		out, err := json.Marshal(doc)
		if err != nil {
			t.Error(err)
		}
		return out
	}
}

// The token endpoint answers with an ID token that is not for this login: the signature is
// right, what it says is not.
func TestAttackIDToken(t *testing.T) {
	b := newBench(t)
	// Tokens of the same provider: for another client of it, and for an earlier login.
	br := b.browser(t)
	theirs := fixture.NewBrowser(t, b.As(t, nil), "op.test")
	p := theirs.Open(providerURL + "/authorize?" + url.Values{"client_id": {"other"}, "response_type": {"code"}, "redirect_uri": {callback},
		"scope": {"openid"}, "nonce": {"n"}, "code_challenge": {challenge()}, "code_challenge_method": {"S256"}}.Encode())
	p = theirs.Submit(p, "name", "ann", "password", password)
	r := fixture.Post(t, b.As(t, b.L1), "https://mtls.op.test/token", "client_id", "other", "grant_type", "authorization_code",
		"code", p.Query("code"), "redirect_uri", callback, "code_verifier", verifier)
	foreign, _ := r.JSON["id_token"].(string)
	if foreign == "" {
		t.Fatalf("no ID token: %d %s", r.Status, r.Text)
	}
	var earlier string
	b.set(func(path string, body []byte) []byte {
		var doc struct {
			ID string `json:"id_token"`
		}
		if path == "/token" && json.Unmarshal(body, &doc) == nil {
			earlier = doc.ID
		}
		return body
	}, false)
	ours, _, _ := b.idToken(t, b.login(t, br, "ann"))
	parts := strings.Split(earlier, ".")
	if len(parts) != 3 {
		t.Fatal("no earlier ID token")
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	forged := parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(payload), `"sub":"p-`, `"sub":"q-`, 1))) + "." + parts[2]
	unsigned := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + parts[1] + "."
	for _, tc := range []struct {
		name  string
		token any
	}{
		{"of another client", foreign}, {"of an earlier login", earlier}, {"of another issuer, ours", ours},
		{"with another sub", forged}, {"without signature", unsigned}, {"none at all", nil}, {"no JWT", "x"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b.set(swap(t, "/token", map[string]any{"id_token": tc.token}), false)
			wantRedirect(t, b.login(t, b.browser(t), "ann"), "server_error")
		})
	}
	t.Run("userinfo of somebody else", func(t *testing.T) {
		b.set(swap(t, "/userinfo", map[string]any{"sub": "p-else", "name": "Mallory"}), false)
		wantRedirect(t, b.login(t, b.browser(t), "ann"), "server_error")
		b.logged(t, "expected the sub of the ID token")
	})
	t.Run("an answer without end", func(t *testing.T) {
		b.set(func(path string, body []byte) []byte {
			if path == "/token" {
				return []byte(`{"id_token":"` + strings.Repeat("x", 2*maxAnswer) + `"}`)
			}
			return body
		}, false)
		wantRedirect(t, b.login(t, b.browser(t), "ann"), "server_error")
	})
	for _, secret := range []string{parts[2], foreign, earlier} {
		if strings.Contains(b.Log(), secret) {
			t.Error("a token stands in the log")
		}
	}
}

// Ann has to log in again; somebody else at her desk does.
func TestAttackSomebodyElse(t *testing.T) {
	b := newBench(t)
	br := b.browser(t)
	hint, _, _ := b.idToken(t, b.login(t, br, "ann"))
	ours := fixture.NewBrowser(t, b.As(t, nil), "as.test").WithJar(br.Jar())
	theirs := fixture.NewBrowser(t, b.As(t, nil), "op.test") // the provider does not know that it was ann
	p := theirs.Open(ours.Open(request("prompt", "login", "id_token_hint", hint)).At)
	p = theirs.Submit(p, "name", "bob", "password", password)
	wantRedirect(t, ours.Open(p.At), "login_required")
	if p = br.Open(request()); p.Query("code") == "" {
		t.Fatalf("ann's session has ended: %d %s", p.Status, p.At)
	}
	if _, claims, _ := b.idToken(t, p); claims["sub"] != fixture.Claims(hint)["sub"] {
		t.Error("the session is somebody else's")
	}
}

// Errors of the provider reach the client where it can act upon them, and never its text.
func TestProviderErrors(t *testing.T) {
	b := newBench(t)
	for from, want := range map[string]string{
		"access_denied": "access_denied", "login_required": "login_required", "interaction_required": "interaction_required",
		"temporarily_unavailable": "temporarily_unavailable", "invalid_request": "server_error", "<script>": "server_error",
	} {
		br := b.browser(t)
		answer := b.half(t, br, "ann", nil)
		p := br.Open(edit(t, answer, "code", "", "error", from, "error_description", "call 555-0100"))
		wantRedirect(t, p, want)
		if strings.Contains(p.At, "555") || strings.Contains(p.At, "<script") {
			t.Errorf("%s: %s", from, p.At)
		}
	}
}

func TestNew(t *testing.T) {
	good := Config{Issuer: providerURL, ClientID: "ours", RedirectURL: fixture.Issuer + "/login/callback"}
	if _, err := New(good); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Config){
		"no issuer": func(c *Config) { c.Issuer = "" }, "http": func(c *Config) { c.Issuer = "http://op.test" },
		"fragment": func(c *Config) { c.Issuer += "#x" }, "no client": func(c *Config) { c.ClientID = "" },
		"no redirect": func(c *Config) { c.RedirectURL = "" }, "negative time": func(c *Config) { c.Timeout = -1 },
	} {
		c := good
		change(&c)
		if l, err := New(c); err == nil || l != nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
