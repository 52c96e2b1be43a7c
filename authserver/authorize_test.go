package authserver_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/authserver/memstore"
	"github.com/certbound/certbound/authserver/pages"
	"github.com/certbound/certbound/decision"
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
		proves(t, "I-2-1 I-2.3-1 M-5-9", name, func(t *testing.T) {
			as := startPeople(t)
			b := newBrowser(t, as)
			p := b.login(open(t, as), "ann")
			if !strings.Contains(p.Text, "Ann Example") || !strings.Contains(p.Text, "Client w-dn") || p.Status != 200 {
				t.Fatalf("expected the consent page, found %d\n%s", p.Status, p.Text)
			}
			code := wantCode(t, response(t, b.submit(p, "decision", "allow")))
			if !as.LastDecision().Allowed {
				t.Errorf("%s", as.LastDecision())
			}
			r := redeem(t, as, code)
			wantOK(t, r)
			id, _ := r.JSON["id_token"].(string)
			claims := fixture.Claims(id)
			if r.Cnf() == "" || claims["sub"] != "ann" || claims["nonce"] != "n-1" || claims["acr"] != "urn:test:password" || claims["iss"] != fixture.Issuer {
				t.Errorf("%s %v", r.Text, claims)
			}
		})
	}
}

func TestAuthorizeRefusals(t *testing.T) {
	as := startPeople(t)
	b := newBrowser(t, as)
	for _, tt := range refusedRequests {
		t.Run(tt.name, func(t *testing.T) {
			t.Attr("requirement", strings.TrimSpace(tt.ids+" I-2-1"))
			check := func(p page) {
				t.Helper()
				if tt.page {
					wantErrorPage(t, p, 400, tt.code)
				} else {
					q := response(t, p)
					state := requestOf(tt.change...).Get("state")
					if tt.change[0] == "state" {
						state = ""
					}
					if q.Get("error") != tt.code || q.Has("code") || q.Get("error_description") == "" || q.Get("state") != state {
						t.Errorf("expected %s, found %v", tt.code, q)
					}
				}
				wantReason(t, as, tt.reason)
			}
			check(b.get(authorizeURL(tt.change...)))
			check(b.do(http.MethodPost, fixture.Issuer+"/authorize", requestOf(tt.change...).Encode()))
		})
	}
	for name, tt := range map[string]struct {
		to     string
		reason decision.Reason
	}{
		"no client_id":       {authorizeURL("client_id", ""), decision.NoClientID},
		"an unknown client":  {authorizeURL("client_id", "nobody"), decision.UnknownClient},
		"an impossible id":   {authorizeURL("client_id", "a\x00b"), decision.UnknownClient},
		"a machine client":   {authorizeURL("client_id", "c-dn"), decision.GrantNotAllowed},
		"nothing":            {fixture.Issuer + "/authorize", decision.NoClientID},
		"broken escapes":     {fixture.Issuer + "/authorize?client_id=%zz", decision.RequestMalformed},
		"too long":           {authorizeURL("login_hint", strings.Repeat("h", 17<<10)), decision.RequestTooLarge},
		"too many":           {authorizeURL() + strings.Repeat("&a=", 1) + manyParameters(70), decision.RequestTooLarge},
		"an unknown flow":    {fixture.Issuer + "/authorize?flow=" + strings.Repeat("A", 43), decision.RequestUnknown},
		"a flow of no form":  {fixture.Issuer + "/authorize?flow=%00", decision.RequestUnknown},
		"a login without":    {fixture.Issuer + "/login", decision.RequestUnknown},
		"a callback without": {fixture.Issuer + "/login/callback?state=x.y", decision.RequestUnknown},
		"a consent without":  {fixture.Issuer + "/consent", decision.RequestUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			p := b.get(tt.to)
			if p.Status != 400 || p.Header.Get("Location") != "" {
				t.Errorf("%d %s", p.Status, p.Header.Get("Location"))
			}
			wantReason(t, as, tt.reason)
		})
	}
	t.Run("other methods", func(t *testing.T) {
		for _, path := range []string{"/authorize", "/login", "/consent", "/logout"} {
			for _, method := range []string{http.MethodHead, http.MethodPut, http.MethodOptions} {
				if p := b.do(method, fixture.Issuer+path, ""); p.Status != http.StatusMethodNotAllowed || p.Header.Get("Allow") != "GET, POST" {
					t.Errorf("%s %s: %d", method, path, p.Status)
				}
			}
		}
	})
	t.Run("ahead of time", func(t *testing.T) {
		b := newBrowser(t, as)
		b.header.Set("Sec-Purpose", "prefetch;prerender")
		if p := b.get(authorizeURL()); p.Status != 503 || len(p.Header["Set-Cookie"]) > 0 {
			t.Errorf("%d %v", p.Status, p.Header)
		}
	})
}

func manyParameters(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("&p" + strings.Repeat("x", i) + "=1")
	}
	return b.String()
}

// A client that comes by POST, as OpenID Connect allows (Core, Section 3.1.2.1): browsers send no
// cookies along from another site, so that the browser comes back once more.
func TestAuthorizePost(t *testing.T) {
	as := startPeople(t)
	b := newBrowser(t, as)
	p := b.do(http.MethodPost, fixture.Issuer+"/authorize", requestOf().Encode())
	if !strings.Contains(p.at, "/login?flow=") {
		t.Fatalf("%s", p.at)
	}
	wantCode(t, response(t, b.submit(b.submit(p, "name", "ann"), "decision", "allow")))
}

func TestRedirectURIDefaults(t *testing.T) {
	as := startPeople(t)
	b := newBrowser(t, as)
	t.Run("omitted, and one is registered", func(t *testing.T) {
		code := wantCode(t, response(t, b.codePage(authorizeURL("redirect_uri", "", "scope", "read"), "ann")))
		r := redeem(t, as, code, "redirect_uri", "")
		if r.Status != 400 { // two redirect_uri in this request
			t.Errorf("%d %s", r.Status, r.Text)
		}
	})
	t.Run("omitted, and two are registered", func(t *testing.T) {
		wantErrorPage(t, b.get(authorizeURL("client_id", "w-two", "redirect_uri", "", "scope", "read")), 400, "invalid_request")
	})
	t.Run("a query stays", func(t *testing.T) {
		p := b.codePage(authorizeURL("client_id", "w-two", "redirect_uri", callback+"?tenant=1"), "ann")
		if !strings.HasPrefix(p.at, callback+"?tenant=1&code=cbc_") {
			t.Errorf("%s", p.at)
		}
	})
	t.Run("an app at any port", func(t *testing.T) {
		p := b.codePage(authorizeURL("client_id", "w-pub-app", "redirect_uri", "http://127.0.0.1:51004/cb"), "ann")
		if !strings.HasPrefix(p.at, "http://127.0.0.1:51004/cb?code=cbc_") {
			t.Errorf("%s", p.at)
		}
	})
	t.Run("an app's own scheme", func(t *testing.T) {
		p := b.codePage(authorizeURL("client_id", "w-pub-app", "redirect_uri", "com.example.app:/cb"), "ann")
		if !strings.HasPrefix(p.at, "com.example.app:/cb?code=cbc_") {
			t.Errorf("%s", p.at)
		}
		q := b.get(authorizeURL("client_id", "w-pub-app", "redirect_uri", "com.example.app:/cb", "response_mode", "form_post"))
		if !strings.HasPrefix(q.at, "com.example.app:/cb?error=invalid_request") {
			t.Errorf("%s", q.at)
		}
	})
}

func TestFormPost(t *testing.T) {
	as := startPeople(t)
	b := newBrowser(t, as)
	p := b.codePage(authorizeURL("response_mode", "form_post"), "ann")
	to, body := form(t, p)
	q, err := url.ParseQuery(body)
	if err != nil || to != callback || p.Status != 200 || q.Get("iss") != fixture.Issuer || q.Get("state") != "s t+/=" || !strings.HasPrefix(q.Get("code"), "cbc_") {
		t.Errorf("%d %s %s", p.Status, to, body)
	}
	if csp := p.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "form-action https://app.test;") {
		t.Errorf("%s", csp)
	}
	if strings.Contains(p.Text+p.at, "code=") {
		t.Error("the code is in a URL")
	}
	p = b.get(authorizeURL("response_mode", "form_post", "scope", "nothing"))
	to, body = form(t, p)
	if q, _ := url.ParseQuery(body); to != callback || q.Get("error") != "invalid_scope" || q.Get("iss") != fixture.Issuer {
		t.Errorf("%s %s", to, body)
	}
}

// TestPrompt follows OpenID Connect Core, Section 3.1.2.1.
func TestPrompt(t *testing.T) {
	c := new(clock)
	as := startPeople(t, c.use)
	b := newBrowser(t, as)
	wantErr := func(t *testing.T, p page, code string) {
		t.Helper()
		if q := response(t, p); q.Get("error") != code || q.Get("code") != "" {
			t.Errorf("expected %s, found %v", code, q)
		}
	}
	asksLogin := func(t *testing.T, p page) page {
		t.Helper()
		if p.Status != 200 || !strings.Contains(p.at, "/login?flow=") {
			t.Fatalf("expected the login page, found %d %s", p.Status, p.at)
		}
		return p
	}
	t.Run("none without a login", func(t *testing.T) {
		wantErr(t, b.get(authorizeURL("prompt", "none")), "login_required")
		wantReason(t, as, decision.LoginRequired)
	})
	b.login(authorizeURL(), "ann")
	t.Run("none without a consent", func(t *testing.T) {
		wantErr(t, b.get(authorizeURL("prompt", "none")), "consent_required")
		wantErr(t, b.get(pushed(t, as, "prompt", "none")), "consent_required")
	})
	wantCode(t, response(t, b.codePage(authorizeURL(), "ann")))
	t.Run("none with both", func(t *testing.T) { wantCode(t, response(t, b.get(authorizeURL("prompt", "none")))) })
	t.Run("nothing to ask", func(t *testing.T) { wantCode(t, response(t, b.get(authorizeURL()))) })
	for _, prompt := range []string{"login", "select_account"} {
		t.Run(prompt, func(t *testing.T) {
			p := asksLogin(t, b.get(authorizeURL("prompt", prompt)))
			wantCode(t, response(t, b.submit(p, "name", "ann")))
		})
	}
	t.Run("consent", func(t *testing.T) {
		p := b.get(authorizeURL("prompt", "consent"))
		if !strings.Contains(p.Text, "Client w-dn") || p.Status != 200 {
			t.Fatalf("%d %s", p.Status, p.at)
		}
		wantCode(t, response(t, b.submit(p, "decision", "allow")))
	})
	t.Run("max_age", func(t *testing.T) {
		wantCode(t, response(t, b.get(authorizeURL("max_age", "600"))))
		c.forward(11 * time.Minute)
		wantErr(t, b.get(authorizeURL("max_age", "600", "prompt", "none")), "login_required")
		p := asksLogin(t, b.get(authorizeURL("max_age", "600")))
		wantCode(t, response(t, b.submit(p, "name", "ann")))
		wantCode(t, response(t, b.get(authorizeURL("max_age", "600"))))
		p = asksLogin(t, b.get(authorizeURL("max_age", "0")))
		c.forward(2 * time.Second)
		wantCode(t, response(t, b.submit(p, "name", "ann")))
	})
	t.Run("default_max_age of the client", func(t *testing.T) {
		as.Register(t, &authserver.Client{ID: "w-age", AuthMethod: authserver.None, GrantTypes: []string{"authorization_code"}, RedirectURIs: []string{callback},
			Scope: "openid read", DefaultMaxAge: 60, SkipConsent: true})
		c.forward(2 * time.Minute)
		asksLogin(t, b.get(authorizeURL("client_id", "w-age")))
	})
	t.Run("id_token_hint", func(t *testing.T) {
		r := redeem(t, as, wantCode(t, response(t, b.get(authorizeURL()))))
		hint, _ := r.JSON["id_token"].(string)
		wantCode(t, response(t, b.get(authorizeURL("id_token_hint", hint))))
		wantErr(t, b.get(authorizeURL("id_token_hint", hint, "client_id", "w-dns")), "invalid_request") // of another client
		wantErr(t, b.get(authorizeURL("id_token_hint", r.AccessToken())), "invalid_request")            // not an ID token
		other := newBrowser(t, as)
		other.login(authorizeURL(), "ben")
		wantErr(t, other.get(authorizeURL("id_token_hint", hint, "prompt", "none")), "login_required")
		p := asksLogin(t, other.get(authorizeURL("id_token_hint", hint)))
		wantErr(t, other.submit(p, "name", "ben"), "login_required") // still not ann
		p = asksLogin(t, other.get(authorizeURL("id_token_hint", hint)))
		wantCode(t, response(t, other.submit(p, "name", "ann")))
	})
	t.Run("login_hint", func(t *testing.T) {
		p := newBrowser(t, as).get(authorizeURL("login_hint", "ann@example.test"))
		if !strings.Contains(p.Text, "ann@example.test") {
			t.Errorf("%s", p.Text)
		}
	})
}

func TestConsent(t *testing.T) {
	c := new(clock)
	as := startPeople(t, c.use)
	b := newBrowser(t, as)
	asks := func(t *testing.T, p page) page {
		t.Helper()
		if p.Status != 200 || !strings.Contains(p.Text, `value="allow"`) {
			t.Fatalf("expected the consent page, found %d %s", p.Status, p.at)
		}
		return p
	}
	t.Run("denied", func(t *testing.T) {
		p := asks(t, b.login(pushed(t, as), "ann"))
		if q := response(t, b.submit(p, "decision", "deny")); q.Get("error") != "access_denied" || q.Get("state") != "s t+/=" {
			t.Errorf("%v", q)
		}
		wantReason(t, as, decision.ConsentDenied)
		wantErrorPage(t, b.submit(p, "decision", "allow"), 400, "invalid_request_uri") // it has ended
	})
	t.Run("neither", func(t *testing.T) {
		p := asks(t, b.get(authorizeURL()))
		wantErrorPage(t, b.submit(p, "decision", "maybe"), 400, "invalid_request")
		wantErrorPage(t, b.submit(p), 400, "invalid_request")
	})
	t.Run("remembered for what was allowed, and no more", func(t *testing.T) {
		wantCode(t, response(t, b.submit(asks(t, b.get(authorizeURL())), "decision", "allow")))
		wantCode(t, response(t, b.get(authorizeURL())))
		wantCode(t, response(t, b.get(authorizeURL("scope", "openid"))))
		p := asks(t, b.get(authorizeURL("scope", "write")))
		wantCode(t, response(t, b.submit(p, "decision", "allow")))
		wantCode(t, response(t, b.get(authorizeURL("scope", "openid read write")))) // together
		p = asks(t, b.get(authorizeURL("resource", fixture.Resource2)))
		wantCode(t, response(t, b.submit(p, "decision", "allow")))
		asks(t, b.get(authorizeURL("client_id", "w-dns"))) // another client
	})
	t.Run("another person", func(t *testing.T) {
		asks(t, newBrowser(t, as).login(authorizeURL(), "ben"))
	})
	t.Run("the operator's own client", func(t *testing.T) {
		wantCode(t, response(t, newBrowser(t, as).login(authorizeURL("client_id", "w-own"), "ann")))
	})
	t.Run("an app that another could stand in for is asked about each time", func(t *testing.T) {
		to := authorizeURL("client_id", "w-pub-app", "redirect_uri", "http://127.0.0.1:51004/cb")
		for range 2 {
			p := asks(t, b.get(to))
			if q := b.submit(p, "decision", "allow"); !strings.Contains(q.at, "code=cbc_") {
				t.Errorf("%s", q.at)
			}
		}
	})
	t.Run("taken back", func(t *testing.T) {
		if err := as.Store.(authserver.GrantStore).DeleteConsent(t.Context(), "ann", "w-dn"); err != nil {
			t.Fatal(err)
		}
		p := asks(t, b.get(authorizeURL()))
		wantCode(t, response(t, b.submit(p, "decision", "allow")))
	})
	t.Run("a client made anew under the old id", func(t *testing.T) {
		store := as.Store
		old, err := store.Client(t.Context(), "w-dn")
		if err != nil {
			t.Fatal(err)
		}
		if err := store.DeleteClient(t.Context(), "w-dn"); err != nil {
			t.Fatal(err)
		}
		old.Created = c.now().Add(time.Second)
		c.forward(time.Minute)
		as.RegisterUnchecked(t, old)
		asks(t, b.get(authorizeURL()))
	})
	t.Run("never remembered", func(t *testing.T) {
		as := startPeople(t, func(c *authserver.Config) { c.Authorization.ConsentLifetime = -1 })
		b := newBrowser(t, as)
		wantCode(t, b.code(authorizeURL(), "ann"))
		asks(t, b.get(authorizeURL()))
	})
	t.Run("for its time", func(t *testing.T) {
		as := startPeople(t, c.use, func(c *authserver.Config) {
			c.Authorization.ConsentLifetime, c.Authorization.SessionIdle, c.Authorization.SessionLifetime = time.Hour, 24*time.Hour, 24*time.Hour
		})
		b := newBrowser(t, as)
		wantCode(t, b.code(authorizeURL(), "ann"))
		c.forward(59 * time.Minute)
		wantCode(t, response(t, b.get(authorizeURL())))
		c.forward(2 * time.Minute)
		asks(t, b.get(authorizeURL()))
	})
}

func TestSession(t *testing.T) {
	c := new(clock)
	as := startPeople(t, c.use)
	lives := func(b *browser) bool {
		return response(t, b.get(authorizeURL("client_id", "w-own", "prompt", "none"))).Get("error") == ""
	}
	t.Run("idle", func(t *testing.T) {
		b := newBrowser(t, as)
		b.login(authorizeURL("client_id", "w-own"), "ann")
		for range 5 { // each use keeps it alive
			c.forward(50 * time.Minute)
			if !lives(b) {
				t.Fatal("the session has ended")
			}
		}
		c.forward(61 * time.Minute)
		if lives(b) {
			t.Error("the session lives")
		}
	})
	t.Run("for its time, whatever its use", func(t *testing.T) {
		b := newBrowser(t, as)
		b.login(authorizeURL("client_id", "w-own"), "ann")
		for range 15 {
			c.forward(45 * time.Minute)
			lives(b)
		}
		if !lives(b) {
			t.Fatal("the session has ended")
		}
		c.forward(46 * time.Minute)
		if lives(b) {
			t.Error("the session lives")
		}
	})
	t.Run("a person who is disabled", func(t *testing.T) {
		b := newBrowser(t, as)
		b.login(authorizeURL("client_id", "w-own"), "cleo")
		if err := as.Store.(authserver.GrantStore).SavePerson(t.Context(), &authserver.Person{Subject: "cleo", Disabled: true}); err != nil {
			t.Fatal(err)
		}
		p := b.get(authorizeURL("client_id", "w-own"))
		if !strings.Contains(p.at, "/login?") {
			t.Fatalf("%s", p.at)
		}
		wantErrorPage(t, b.submit(p, "name", "cleo"), 403, "access_denied")
		wantReason(t, as, decision.PersonDisabled)
	})
	t.Run("of the form that browsers keep to this host", func(t *testing.T) {
		b := newBrowser(t, as)
		first := fixture.Get(t, b.c, authorizeURL("client_id", "w-own"))
		to, body := form(t, b.get("https://as.test"+first.Header.Get("Location")), "name", "ann")
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, to, strings.NewReader(body))
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		second := fixture.Do(t, b.c, req)
		set := append(first.Header["Set-Cookie"], second.Header["Set-Cookie"]...)
		if len(set) != 2 || !strings.HasPrefix(set[0], authserver.BrowserCookie+"=") || !strings.HasPrefix(set[1], authserver.SessionCookie+"=") {
			t.Fatalf("%q", set)
		}
		for _, s := range set {
			_, attributes, _ := strings.Cut(s, ";")
			if attributes != " Path=/; Secure; HttpOnly; SameSite=Lax" {
				t.Errorf("%q", s)
			}
		}
	})
}

func TestLogin(t *testing.T) {
	as := startPeople(t)
	t.Run("denied", func(t *testing.T) {
		if q := response(t, newBrowser(t, as).login(authorizeURL(), "deny")); q.Get("error") != "access_denied" {
			t.Errorf("%v", q)
		}
	})
	t.Run("failed", func(t *testing.T) {
		b := newBrowser(t, as)
		p := b.get(authorizeURL())
		wantErrorPage(t, b.submit(p, "name", "fail"), 502, "server_error")
		wantReason(t, as, decision.LoginFailed)
		if !strings.Contains(as.Log(), "the directory is down") {
			t.Error("the cause is not in the log")
		}
		wantCode(t, response(t, b.submit(b.submit(p, "name", "ann"), "decision", "allow"))) // once more
	})
	t.Run("failed, and the client may know", func(t *testing.T) {
		if q := response(t, newBrowser(t, as).login(authorizeURL(), "unmet")); q.Get("error") != "unmet_authentication_requirements" {
			t.Errorf("%v", q)
		}
	})
	t.Run("elsewhere", func(t *testing.T) {
		b := newBrowser(t, as)
		p := b.login(authorizeURL("prompt", "consent"), "elsewhere")
		u, err := url.Parse(p.at)
		if err != nil || u.Host != "upstream.test" {
			t.Fatalf("%s", p.at)
		}
		back := fixture.Issuer + "/login/callback?state=" + u.Query().Get("state")
		wantErrorPage(t, newBrowser(t, as).get(back), 403, "cookie") // not in another browser
		wantCode(t, response(t, b.submit(b.get(back), "decision", "allow")))
	})
	for name, subject := range map[string]string{"the id of a client": "w-dns", "too long": strings.Repeat("s", 256), "not ASCII": "änne", "a control character": "a\x7f", "none": ""} {
		t.Run("a subject that is "+name, func(t *testing.T) {
			wantErrorPage(t, newBrowser(t, as).login(authorizeURL(), subject), 502, "server_error")
			wantReason(t, as, decision.LoginUnusable)
		})
	}
	t.Run("another login from the consent page", func(t *testing.T) {
		b := newBrowser(t, as)
		p := b.login(authorizeURL("prompt", "consent"), "ann")
		p2 := b.submit(b.get(strings.Replace(p.at, "/authorize?", "/login?", 1)), "name", "ben")
		if !strings.Contains(p2.Text, "ben") {
			t.Fatalf("%s", p2.Text)
		}
		r := redeem(t, as, wantCode(t, response(t, b.submit(p2, "decision", "allow"))))
		if fixture.Claims(r.AccessToken())["sub"] != "ben" {
			t.Errorf("%s", r.Text)
		}
	})
}

// TestOneCode sends the same consent many times at once: one code, one grant.
func TestOneCode(t *testing.T) {
	as := startPeople(t)
	b := newBrowser(t, as)
	p := b.login(pushed(t, as), "ann")
	to, body := form(t, p, "decision", "allow")
	var codes sync.Map
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, to, strings.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			resp, err := b.c.Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
			if resp.StatusCode == http.StatusSeeOther && strings.Contains(resp.Header.Get("Location"), "code=") {
				codes.Store(resp.Header.Get("Location"), true)
			}
		})
	}
	wg.Wait()
	n := 0
	codes.Range(func(any, any) bool { n++; return true })
	if n != 1 {
		t.Errorf("%d codes", n)
	}
	grants, err := as.Store.(authserver.GrantStore).Grants(t.Context(), "ann", "w-dn", "", 10)
	if err != nil || len(grants) != 1 {
		t.Errorf("%d grants, %v", len(grants), err)
	}
}

// downStore can be out of order, in the methods that pages need.
type downStore struct {
	*memstore.Store
	fails func(method string) bool
}

func (s *downStore) fail(method string) error {
	if s.fails != nil && s.fails(method) {
		return errDown
	}
	return nil
}

func (s *downStore) SaveRequest(ctx context.Context, r *authserver.AuthorizationRequest) error {
	if err := s.fail("SaveRequest"); err != nil {
		return err
	}
	return s.Store.SaveRequest(ctx, r)
}

func (s *downStore) Request(ctx context.Context, hash [32]byte) (*authserver.AuthorizationRequest, error) {
	if err := s.fail("Request"); err != nil {
		return nil, err
	}
	return s.Store.Request(ctx, hash)
}

func (s *downStore) UpdateRequest(ctx context.Context, r *authserver.AuthorizationRequest) error {
	if err := s.fail("UpdateRequest"); err != nil {
		return err
	}
	return s.Store.UpdateRequest(ctx, r)
}

func (s *downStore) Session(ctx context.Context, hash [32]byte) (*authserver.Session, error) {
	if err := s.fail("Session"); err != nil {
		return nil, err
	}
	return s.Store.Session(ctx, hash)
}

func (s *downStore) SaveSession(ctx context.Context, sess *authserver.Session, replaces [32]byte) error {
	if err := s.fail("SaveSession"); err != nil {
		return err
	}
	return s.Store.SaveSession(ctx, sess, replaces)
}

func (s *downStore) Consent(ctx context.Context, subject, clientID string) (*authserver.Consent, error) {
	if err := s.fail("Consent"); err != nil {
		return nil, err
	}
	return s.Store.Consent(ctx, subject, clientID)
}

func (s *downStore) Person(ctx context.Context, subject string) (*authserver.Person, error) {
	if err := s.fail("Person"); err != nil {
		return nil, err
	}
	return s.Store.Person(ctx, subject)
}

func (s *downStore) Authorize(ctx context.Context, r *authserver.AuthorizationRequest, g *authserver.Grant, c *authserver.Code, consent *authserver.Consent) error {
	if err := s.fail("Authorize"); err != nil {
		return err
	}
	return s.Store.Authorize(ctx, r, g, c, consent)
}

// A store that fails at any step: the person reads that it does not work at the moment, and when it
// works again goes on where the flow was.
func TestAuthorizeStoreDown(t *testing.T) {
	store := &downStore{Store: memstore.New()}
	as := startPeople(t, func(c *authserver.Config) { c.Store = store })
	for _, method := range []string{"SaveRequest", "Request", "UpdateRequest", "Session", "SaveSession", "Consent", "Person", "Authorize"} {
		t.Run(method, func(t *testing.T) {
			b := newBrowser(t, as)
			seen := 0
			retry := func(step func() page) page {
				t.Helper()
				store.fails = func(m string) bool { return m == method }
				p := step()
				store.fails = nil
				if p.Status == 503 {
					seen++
					if !strings.Contains(p.Text, "temporarily_unavailable") || p.Header.Get("Retry-After") == "" {
						t.Errorf("%s", p.Text)
					}
					p = step()
				}
				return p
			}
			p := retry(func() page { return b.get(authorizeURL("prompt", "consent")) })
			p = retry(func() page { return b.submit(p, "name", "ann") })
			p = retry(func() page { return b.submit(p, "decision", "allow") })
			wantCode(t, response(t, p))
			if seen == 0 {
				t.Error("nothing has failed")
			}
		})
	}
	store.fails = func(string) bool { return true }
	wantError(t, push(t, as, as.L1, fixture.MTLSBase, requestOf()), 503, "temporarily_unavailable")
	store.fails = nil
}

// Codes and references are kept only as hashes, and appear in no log.
func TestNothingSecretIsKept(t *testing.T) {
	as := startPeople(t)
	b := newBrowser(t, as)
	code := wantCode(t, b.code(authorizeURL(), "ann"))
	kept, g, err := as.Store.(authserver.GrantStore).Code(t.Context(), sha256.Sum256([]byte(code)))
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal([]any{kept, g})
	if err != nil || strings.Contains(string(text), code) {
		t.Errorf("%s %v", text, err)
	}
	u, _ := url.Parse(fixture.Issuer)
	for _, c := range b.c.Jar.Cookies(u) {
		if strings.Contains(as.Log(), c.Value) {
			t.Errorf("%s is in the log", c.Name)
		}
	}
	if strings.Contains(as.Log(), code) {
		t.Error("the code is in the log")
	}
	if kept.Expires.After(time.Now().Add(60*time.Second)) || kept.RedirectURI != callback || !kept.RedirectURISent {
		t.Errorf("%+v", kept)
	}
}
