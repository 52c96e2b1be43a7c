package authserver_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"html"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/authserver/memstore"
	"github.com/certbound/certbound/clientauth"
	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pkitest"
)

// fakeLogin is a login for tests: it believes whoever posts a name.
type fakeLogin struct{}

func (fakeLogin) ServeLogin(w http.ResponseWriter, r *http.Request, a *authserver.LoginAttempt) {
	if r.Method != http.MethodPost {
		if a.Path == "/callback" {
			a.Done(w, r, authserver.Authenticated{Subject: string(a.State)[1 : len(a.State)-1]})
			return
		}
		_ = a.Pages.Login(w, 200, loginPage(a))
		return
	}
	switch name := r.PostFormValue("name"); name {
	case "deny":
		a.Deny(w, r)
	case "fail":
		a.Fail(w, r, "", errors.New("the directory is down"))
	case "unmet":
		a.Fail(w, r, "unmet_authentication_requirements", errors.New("no second factor"))
	case "elsewhere": // hands over to another server, and keeps something
		state, _ := json.Marshal("ann")
		if err := a.Keep(r, state); err != nil {
			a.Fail(w, r, "", err)
			return
		}
		http.Redirect(w, r, "https://upstream.test/?state="+a.Reference+".x", http.StatusSeeOther)
	default:
		p := authserver.Authenticated{Subject: name, ACR: "urn:test:password", AMR: []string{"pwd"}}
		if name == "ann" {
			p.Claims = map[string]json.RawMessage{"name": json.RawMessage(`"Ann Example"`)}
		}
		a.Done(w, r, p)
	}
}

const (
	callback = "https://app.test/cb"
	verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
)

// challengeOf is S256 (RFC 7636, Section 4.2).
func challengeOf(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// startPeople is a server with people, and clients: w-dn and w-dns with L1, w-pub, w-pub-app
// (loopback), w-own (no consent), w-par, w-signed, w-pkj and w-fapi (fapi2, with L1).
func startPeople(t *testing.T, changes ...func(*authserver.Config)) *fixture.AS {
	t.Helper()
	as := fixture.Start(t, append([]func(*authserver.Config){func(c *authserver.Config) {
		c.Authorization.Enabled = true
		c.Authorization.Login = fakeLogin{}
		c.Scopes = []string{"read", "write", "admin", "openid", "profile", "offline_access"}
	}}, changes...)...)
	register := func(id string, change func(*authserver.Client)) {
		c := &authserver.Client{ID: id, Name: "Client " + id, AuthMethod: clientauth.TLSClientAuth, BoundTokens: true, Scope: "openid read write",
			Resources: []string{fixture.Resource, fixture.Resource2}, GrantTypes: []string{"authorization_code", "refresh_token"}, RedirectURIs: []string{callback}}
		change(c)
		if c.AuthMethod == clientauth.TLSClientAuth && c.SANDNS == "" {
			c.SubjectDN = fixture.SubjectDN
		}
		as.Register(t, c)
	}
	register("w-dn", func(c *authserver.Client) { c.PostLogoutRedirectURIs = []string{"https://app.test/bye"} })
	register("w-dns", func(c *authserver.Client) { c.SANDNS = "client-1.example" })
	register("w-two", func(c *authserver.Client) { c.RedirectURIs = []string{callback, "https://app.test/cb?tenant=1"} })
	register("w-pub", func(c *authserver.Client) { c.AuthMethod = authserver.None })
	register("w-pub-app", func(c *authserver.Client) {
		c.AuthMethod, c.RedirectURIs = authserver.None, []string{"http://127.0.0.1/cb", "com.example.app:/cb"}
	})
	register("w-own", func(c *authserver.Client) { c.SkipConsent = true })
	register("w-par", func(c *authserver.Client) { c.RequirePAR = true })
	register("w-signed", func(c *authserver.Client) { c.RequireSignedRequests, c.JWKS = true, fixture.JWKSOf(t, as.AssertionKey) })
	register("w-pkj", func(c *authserver.Client) {
		c.AuthMethod, c.JWKS = authserver.PrivateKeyJWT, fixture.JWKSOf(t, as.AssertionKey)
	})
	register("w-fapi", func(c *authserver.Client) { c.Profile = authserver.ProfileFAPI2 })
	return as
}

// A browser is a person's browser: it keeps cookies and follows redirects within the
// server, never out of it.
type browser struct {
	t  *testing.T
	as *fixture.AS
	c  *http.Client
	// header is sent along with each request.
	header http.Header
}

func newBrowser(t *testing.T, as *fixture.AS) *browser {
	t.Helper()
	b := &browser{t: t, as: as, c: as.As(t, nil), header: http.Header{}}
	b.c.Jar, _ = cookiejar.New(nil)
	return b
}

// A page is what a browser shows in the end.
type page struct {
	*fixture.Answer
	at string // its URL, or that of the client that the browser is sent to
}

func (b *browser) do(method, to, body string) page {
	b.t.Helper()
	for range 10 {
		req, err := http.NewRequestWithContext(b.t.Context(), method, to, strings.NewReader(body))
		if err != nil {
			b.t.Fatal(err)
		}
		for name, values := range b.header {
			req.Header[name] = values
		}
		if method == http.MethodPost {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		r := fixture.Do(b.t, b.c, req)
		if r.Status/100 != 3 {
			return page{r, to}
		}
		if r.Status != http.StatusSeeOther {
			b.t.Errorf("status %d", r.Status)
		}
		next, err := req.URL.Parse(r.Header.Get("Location"))
		if err != nil {
			b.t.Fatal(err)
		}
		if next.Host != "as.test" {
			return page{r, next.String()}
		}
		method, to, body = http.MethodGet, next.String(), ""
	}
	b.t.Fatal("too many redirects")
	return page{}
}

func (b *browser) get(to string) page { b.t.Helper(); return b.do(http.MethodGet, to, "") }

// submit sends the form of a page.
func (b *browser) submit(p page, pairs ...string) page {
	b.t.Helper()
	to, body := form(b.t, p, pairs...)
	return b.do(http.MethodPost, to, body)
}

var (
	actionRE = regexp.MustCompile(`<form[^>]*action="([^"]*)"`)
	hiddenRE = regexp.MustCompile(`<input[^>]*type="?hidden"?[^>]*name="?([a-z_]+)"?[^>]*value="([^"]*)"`)
)

// form returns where the form of a page leads and what it sends.
func form(t *testing.T, p page, pairs ...string) (to, body string) {
	t.Helper()
	m := actionRE.FindStringSubmatch(p.Text)
	if m == nil {
		t.Fatalf("no form at %s: %d %s", p.at, p.Status, p.Text)
	}
	base, err := url.Parse(p.at)
	if err != nil {
		t.Fatal(err)
	}
	target, err := base.Parse(html.UnescapeString(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	v := url.Values{}
	for _, h := range hiddenRE.FindAllStringSubmatch(p.Text, -1) {
		v.Set(h[1], html.UnescapeString(h[2]))
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		v.Set(pairs[i], pairs[i+1])
	}
	return target.String(), v.Encode()
}

// authorizeURL is an authorization request of w-dn with changes: name, value, …; an empty value
// removes the parameter.
func authorizeURL(pairs ...string) string {
	return fixture.Issuer + "/authorize?" + requestOf(pairs...).Encode()
}

func requestOf(pairs ...string) url.Values {
	v := url.Values{
		"client_id": {"w-dn"}, "response_type": {"code"}, "redirect_uri": {callback}, "scope": {"openid read"}, "state": {"s t+/="},
		"code_challenge": {challengeOf(verifier)}, "code_challenge_method": {"S256"},
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		if v.Del(pairs[i]); pairs[i+1] != "" {
			v.Set(pairs[i], pairs[i+1])
		}
	}
	return v
}

// login opens a request, and logs in as a person.
func (b *browser) login(to, name string) page {
	b.t.Helper()
	p := b.get(to)
	if !strings.Contains(p.at, "/login?flow=") || p.Status != 200 {
		b.t.Fatalf("expected the login page, found %d %s\n%s", p.Status, p.at, p.Text)
	}
	return b.submit(p, "name", name)
}

// code goes all the way, and returns the parameters of the answer.
func (b *browser) code(to, name string) url.Values {
	b.t.Helper()
	p := b.login(to, name)
	if p.Status == 200 {
		p = b.submit(p, "decision", "allow")
	}
	return response(b.t, p)
}

// response returns the parameters that a client gets by query.
func response(t *testing.T, p page) url.Values {
	t.Helper()
	u, err := url.Parse(p.at)
	if err != nil || u.Host == "as.test" {
		t.Fatalf("expected to be sent to the client, found %d %s\n%s", p.Status, p.at, p.Text)
	}
	if p.Status != http.StatusSeeOther {
		t.Errorf("status %d", p.Status)
	}
	q := u.Query()
	if got := q["iss"]; len(got) != 1 || got[0] != fixture.Issuer {
		t.Errorf("iss is %q", got)
	}
	return q
}

func wantCode(t *testing.T, q url.Values) string {
	t.Helper()
	code := q.Get("code")
	if !strings.HasPrefix(code, "cbc_") || len(code) != 4+43 || q.Get("error") != "" || q.Get("state") != "s t+/=" {
		t.Fatalf("expected a code, found %v", q)
	}
	return code
}

// wantErrorPage wants a page that leads nowhere.
func wantErrorPage(t *testing.T, p page, status int, code string) {
	t.Helper()
	if p.Status != status || !strings.Contains(p.Text, code) || p.Header.Get("Location") != "" || strings.Contains(p.Text, "<form") {
		t.Fatalf("expected an error page with %d %s, found %d %s\n%s", status, code, p.Status, p.Header.Get("Location"), p.Text)
	}
	if !strings.Contains(p.Text, p.Header.Get(authserver.RequestIDHeader)) {
		t.Error("the page does not say the request id")
	}
}

// push pushes a request of a client with L1.
func push(t *testing.T, as *fixture.AS, leaf *pkitest.Leaf, base string, v url.Values) *fixture.Answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/par", strings.NewReader(v.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return fixture.Do(t, as.As(t, leaf), req)
}

// pushed pushes and returns the URL to open.
func pushed(t *testing.T, as *fixture.AS, pairs ...string) string {
	t.Helper()
	v := requestOf(pairs...)
	r := push(t, as, as.L1, fixture.MTLSBase, v)
	uri, _ := r.JSON["request_uri"].(string)
	if r.Status != 201 || uri == "" {
		t.Fatalf("expected a request_uri, found %d %s", r.Status, r.Text)
	}
	return pushedURL(v.Get("client_id"), uri)
}

func pushedURL(clientID, uri string) string {
	return fixture.Issuer + "/authorize?" + url.Values{"client_id": {clientID}, "request_uri": {uri}}.Encode()
}

// redeem exchanges a code for tokens, as w-dn with L1.
func redeem(t *testing.T, as *fixture.AS, code string, pairs ...string) *fixture.Answer {
	t.Helper()
	return fixture.Post(t, as.As(t, as.L1), fixture.MTLSBase+"/token", append([]string{"client_id", "w-dn", "grant_type", "authorization_code",
		"code", code, "redirect_uri", callback, "code_verifier", verifier}, pairs...)...)
}

// serverWithPeople is a server with people and without a network.
func serverWithPeople(t testing.TB) http.Handler {
	t.Helper()
	s, err := authserver.New(authserver.Config{
		Issuer: fixture.Issuer, Store: memstore.New(), AuthMethods: []string{authserver.None}, Resources: []string{fixture.Resource},
		Scopes: []string{"openid", "read"}, Logger: slog.New(slog.DiscardHandler),
		Authorization: authserver.Authorization{Enabled: true, Login: fakeLogin{}},
		Clients: []*authserver.Client{{ID: "w-dn", AuthMethod: authserver.None, Scope: "openid read", GrantTypes: []string{"authorization_code"},
			RedirectURIs: []string{callback}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s.Handler()
}

func getAuthorize(h http.Handler, query string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, fixture.Issuer+"/authorize", nil)
	r.URL.RawQuery = query
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}
