package authserver_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/internal/fixture"
)

// cookie returns a cookie of a browser, or "".
func (b *browser) cookie(name string) string {
	u, _ := url.Parse(fixture.Issuer)
	for _, c := range b.c.Jar.Cookies(u) {
		if c.Name == name {
			return c.Value
		}
	}
	return ""
}

func (b *browser) plant(name, value string) {
	u, _ := url.Parse(fixture.Issuer)
	b.c.Jar.SetCookies(u, []*http.Cookie{{Name: name, Value: value, Path: "/", Secure: true}})
}

// TestAttackCSRF: another site posts the login form (so that the person works in the attacker's
// account) or the consent form (so that the attacker's client gets a code) from the
// person's browser, which sends its cookies along.
func TestAttackCSRF(t *testing.T) {
	as := startPeople(t)
	// What the attacker has of its own: a page for the same request in another browser.
	attacker := newBrowser(t, as)
	_, ownLogin := form(t, attacker.get(authorizeURL()), "name", "eve")
	_, ownConsent := form(t, attacker.login(authorizeURL(), "eve"), "decision", "allow")
	csrfOf := func(body string) string { v, _ := url.ParseQuery(body); return v.Get("csrf") }

	for _, step := range []string{"login", "consent"} {
		t.Run(step, func(t *testing.T) {
			b := newBrowser(t, as)
			p := b.get(authorizeURL("prompt", "consent"))
			field, value, own := "name", "ann", ownLogin
			otherCSRF := ""
			if step == "consent" {
				otherCSRF = csrfOf(func() string { _, body := form(t, p); return body }()) // that of the login page
				p = b.submit(p, "name", "ann")
				field, value, own = "decision", "allow", ownConsent
			}
			refused := func(name string, header http.Header, pairs ...string) {
				t.Helper()
				b.header = header
				got := b.submit(p, append([]string{field, value}, pairs...)...)
				b.header = http.Header{}
				if got.Status != 403 || got.Header.Get("Location") != "" {
					t.Errorf("%s: %d %s", name, got.Status, got.at)
				}
				wantReason(t, as, decision.CrossSite)
			}
			refused("without a token", nil, "csrf", "")
			refused("with a token of the attacker's browser", nil, "csrf", csrfOf(own))
			refused("with a token that is too long", nil, "csrf", strings.Repeat("a", 10000))
			if otherCSRF != "" {
				refused("with the token of another page", nil, "csrf", otherCSRF)
			}
			refused("from another site", http.Header{"Origin": {"https://evil.test"}})
			refused("from a sister of this host", http.Header{"Origin": {"https://evil.as.test"}})
			refused("from the same host without TLS", http.Header{"Origin": {"http://as.test"}})
			refused("from two places", http.Header{"Origin": {fixture.Issuer, "https://evil.test"}})
			refused("as the browser says", http.Header{"Sec-Fetch-Site": {"cross-site"}})
			refused("as the browser says of a sister", http.Header{"Sec-Fetch-Site": {"same-site"}, "Origin": {"null"}})
			// Without cookies, as browsers send a form of another site (SameSite=Lax).
			to, body := form(t, p, field, value)
			wantErrorPage(t, newBrowser(t, as).do(http.MethodPost, to, body), 403, "cookie")
			for _, header := range []http.Header{
				{"Origin": {fixture.Issuer}, "Sec-Fetch-Site": {"same-origin"}},
				{"Origin": {"null"}, "Sec-Fetch-Site": {"same-origin"}}, // what browsers say for a page without referrer
			} {
				b.header = header
				got := b.submit(b.get(strings.Replace(p.at, "prompt=consent", "", 1)), field, value)
				b.header = http.Header{}
				if step == "login" {
					if got.Status != 200 {
						t.Errorf("our own page: %d %s", got.Status, got.at)
					}
					continue
				}
				wantCode(t, response(t, got))
				break
			}
		})
	}
}

// TestAttackSessionFixation: the attacker plants cookies of its own in the person's browser, lets
// the person log in, and then uses what it has planted.
func TestAttackSessionFixation(t *testing.T) {
	as := startPeople(t)
	t.Run("a session of the attacker's choice", func(t *testing.T) {
		planted := strings.Repeat("A", 43)
		victim := newBrowser(t, as)
		victim.plant(authserver.SessionCookie, planted)
		victim.login(authorizeURL("client_id", "w-own"), "ann")
		if got := victim.cookie(authserver.SessionCookie); got == planted || got == "" {
			t.Errorf("%q", got)
		}
		attacker := newBrowser(t, as)
		attacker.plant(authserver.SessionCookie, planted)
		if q := response(t, attacker.get(authorizeURL("client_id", "w-own", "prompt", "none"))); q.Get("error") != "login_required" {
			t.Errorf("%v", q)
		}
	})
	t.Run("a session of the attacker's own", func(t *testing.T) {
		attacker := newBrowser(t, as)
		attacker.login(authorizeURL("client_id", "w-own"), "eve")
		own := attacker.cookie(authserver.SessionCookie)
		victim := newBrowser(t, as)
		victim.plant(authserver.SessionCookie, own)
		p := victim.submit(victim.get(authorizeURL("client_id", "w-own", "prompt", "login")), "name", "ann")
		wantCode(t, response(t, p))
		// The planted one has ended, and is not the person's.
		if q := response(t, attacker.get(authorizeURL("client_id", "w-own", "prompt", "none"))); q.Get("error") != "login_required" {
			t.Errorf("%v", q)
		}
	})
	t.Run("the cookie that names the browser, and a flow", func(t *testing.T) {
		// The attacker knows the browser cookie and the flow, and waits for the person to
		// log in: it has no session, and no code.
		attacker := newBrowser(t, as)
		p := attacker.get(authorizeURL("client_id", "w-own"))
		victim := newBrowser(t, as)
		victim.plant(authserver.BrowserCookie, attacker.cookie(authserver.BrowserCookie))
		flow := strings.Replace(p.at, "/login?", "/authorize?", 1)
		state := victim.login(authorizeURL("client_id", "w-own", "prompt", "consent"), "ann") // somewhere else first
		_ = state
		if again := attacker.get(flow); !strings.Contains(again.at, "/login?") {
			t.Errorf("%d %s", again.Status, again.at)
		}
		to, body := form(t, victim.get(p.at), "name", "ann")
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, to, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		fixture.Do(t, victim.c, req) // logged in, and not gone on yet
		if again := attacker.get(flow); !strings.Contains(again.at, "/login?") {
			t.Errorf("%d %s", again.Status, again.at)
		}
	})
	t.Run("an old session after the login", func(t *testing.T) {
		b := newBrowser(t, as)
		b.login(authorizeURL("client_id", "w-own"), "ann")
		old := b.cookie(authserver.SessionCookie)
		b.submit(b.get(authorizeURL("client_id", "w-own", "prompt", "login")), "name", "ann")
		if b.cookie(authserver.SessionCookie) == old {
			t.Error("the cookie is the old one")
		}
		thief := newBrowser(t, as)
		thief.plant(authserver.SessionCookie, old)
		if q := response(t, thief.get(authorizeURL("client_id", "w-own", "prompt", "none"))); q.Get("error") != "login_required" {
			t.Errorf("%v", q)
		}
	})
}

// TestAttackConsentOfAnotherPerson: the consent page was shown to one person, and another one has
// logged in in the same browser before it is sent.
func TestAttackConsentOfAnotherPerson(t *testing.T) {
	as := startPeople(t)
	b := newBrowser(t, as)
	p := b.login(authorizeURL(), "ann")
	b.submit(b.get(authorizeURL("client_id", "w-own", "prompt", "login")), "name", "ben")
	wantErrorPage(t, b.submit(p, "decision", "allow"), 403, "invalid_request")
	wantReason(t, as, decision.CrossSite)
	if p = b.get(p.at); !strings.Contains(p.Text, "ben") || strings.Contains(p.Text, "Ann Example") {
		t.Errorf("%s", p.Text)
	}
}

// TestAttackCookiesAcrossHosts: the two hosts are neighbours. A cookie of one, or for both, is worth
// nothing, and the host that sees certificates has no pages.
func TestAttackCookiesAcrossHosts(t *testing.T) {
	as := startPeople(t)
	b := newBrowser(t, as)
	b.login(authorizeURL("client_id", "w-own"), "ann")
	session, name := b.cookie(authserver.SessionCookie), b.cookie(authserver.BrowserCookie)
	t.Run("no pages on the mutual-TLS host", func(t *testing.T) {
		t.Attr("requirement", "F2-5.2.3-4")
		for _, path := range []string{"/authorize", "/login", "/login/callback", "/consent", "/logout"} {
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, fixture.MTLSBase+path+"?"+requestOf("client_id", "w-own").Encode(), nil)
			req.Header.Set("Cookie", authserver.SessionCookie+"="+session+"; "+authserver.BrowserCookie+"="+name)
			r := fixture.Do(t, as.As(t, as.L1), req)
			if r.Status != 404 || len(r.Header["Set-Cookie"]) > 0 {
				t.Errorf("%s: %d %v", path, r.Status, r.Header)
			}
		}
	})
	t.Run("no cookies from direct endpoints", func(t *testing.T) {
		for _, base := range []string{fixture.Issuer, fixture.MTLSBase} {
			for _, path := range []string{"/par", "/token", "/userinfo", "/introspect", "/revoke"} {
				if r := fixture.Post(t, as.As(t, as.L1), base+path, "client_id", "w-dn"); len(r.Header["Set-Cookie"]) > 0 {
					t.Errorf("%s%s: %v", base, path, r.Header)
				}
			}
		}
	})
	for name, fields := range map[string][]string{
		// A sister host can set cookies for the whole domain, but none with the prefix.
		"without the prefix":     {"certbound-session=" + session},
		"another prefix":         {"__Secure-certbound-session=" + session},
		"other capitals":         {"__host-certbound-session=" + session},
		"twice":                  {authserver.SessionCookie + "=" + session + "; " + authserver.SessionCookie + "=" + session},
		"twice, in two fields":   {authserver.SessionCookie + "=" + session, authserver.SessionCookie + "=" + strings.Repeat("A", 43)},
		"with more behind":       {authserver.SessionCookie + "=" + session + "A"},
		"in quotes":              {authserver.SessionCookie + `="` + session + `"`},
		"with a space before =":  {authserver.SessionCookie + " =" + session},
		"of the browser instead": {authserver.SessionCookie + "=" + name},
		"empty":                  {authserver.SessionCookie + "="},
	} {
		t.Run(name, func(t *testing.T) {
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, authorizeURL("client_id", "w-own", "prompt", "none"), nil)
			req.Header["Cookie"] = fields
			r := fixture.Do(t, as.As(t, nil), req)
			u, _ := url.Parse(r.Header.Get("Location"))
			if r.Status != 303 || u.Query().Get("error") != "login_required" {
				t.Errorf("%d %s", r.Status, u)
			}
		})
	}
}

// TestAttackClickjacking: no page of ours can stand in a frame, and none can load or send anything
// elsewhere, whatever a template of the operator's or a name of a client contains.
func TestAttackClickjacking(t *testing.T) {
	t.Attr("requirement", "F2-5.2.3-1")
	as := startPeople(t)
	as.Register(t, &authserver.Client{ID: "w-xss", Name: `"><script>alert(1)</script>`, AuthMethod: authserver.None, GrantTypes: []string{"authorization_code"},
		RedirectURIs: []string{callback}, Scope: "openid read"})
	b := newBrowser(t, as)
	login := b.get(authorizeURL("client_id", "w-xss", "login_hint", `"><img src=x onerror=alert(1)>`))
	consent := b.submit(login, "name", "ann")
	sent := b.submit(consent, "decision", "allow")
	pages := map[string]page{
		"login": login, "consent": consent, "answer": sent, "error": b.get(authorizeURL("client_id", `"><script>`)),
		"logout":    b.get(fixture.Issuer + "/logout"),
		"form_post": b.get(authorizeURL("client_id", "w-xss", "response_mode", "form_post", "state", `"><script>`)),
		"method":    b.do(http.MethodPut, fixture.Issuer+"/authorize", ""),
	}
	for name, p := range pages {
		t.Run(name, func(t *testing.T) {
			for field, want := range map[string]string{
				"X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
				"Cross-Origin-Opener-Policy": "same-origin", "Strict-Transport-Security": "max-age=63072000",
			} {
				if got := p.Header.Get(field); got != want {
					t.Errorf("%s: %q", field, got)
				}
			}
			csp := p.Header.Get("Content-Security-Policy")
			for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action "} {
				if !strings.Contains(csp, want) {
					t.Errorf("no %s in %q", want, csp)
				}
			}
			if strings.Contains(csp, "unsafe") || strings.Contains(csp, "*") || len(p.Header["Content-Security-Policy"]) != 1 {
				t.Errorf("%q", csp)
			}
			if strings.Contains(p.Text, "<script>alert") || strings.Contains(p.Text, "<img") {
				t.Errorf("%s", p.Text)
			}
		})
	}
}

// TestNoCORS: no other site may read what the authorization endpoint answers.
func TestNoCORS(t *testing.T) {
	t.Attr("requirement", "G-2.6-3 F2-5.2.3-3")
	as := startPeople(t)
	for _, method := range []string{http.MethodOptions, http.MethodGet, http.MethodPost} {
		for _, to := range []string{authorizeURL(), authorizeURL("prompt", "none"), fixture.Issuer + "/login", fixture.Issuer + "/logout", fixture.MTLSBase + "/authorize", fixture.MTLSBase + "/par"} {
			req, err := http.NewRequestWithContext(t.Context(), method, to, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Origin", "https://evil.test")
			req.Header.Set("Access-Control-Request-Method", "GET")
			r := fixture.Do(t, as.As(t, nil), req)
			for name := range r.Header {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("%s %s: %s: %s", method, to, name, r.Header.Get(name))
				}
			}
		}
	}
}

// TestAttackDuplicateParameters: two programs that read a request can take two different values for
// its parameter. It is refused, whichever parameter it is, and nobody is redirected.
func TestAttackDuplicateParameters(t *testing.T) {
	as := startPeople(t)
	b := newBrowser(t, as)
	for name := range requestOf("nonce", "n", "prompt", "none", "response_mode", "query", "max_age", "1", "request", "r", "request_uri", "u", "id_token_hint", "h") {
		t.Run(name, func(t *testing.T) {
			for _, second := range []string{url.QueryEscape(name) + "=x", strings.Replace(name, "_", "%5F", 1) + "=x", name + "=", name} {
				p := b.get(authorizeURL(name, "y") + "&" + second)
				wantErrorPage(t, p, 400, "invalid_request")
				wantReason(t, as, decision.ParameterRepeated)
				wantErrorPage(t, b.do(http.MethodPost, fixture.Issuer+"/authorize", requestOf(name, "y").Encode()+"&"+second), 400, "invalid_request")
			}
		})
	}
	t.Run("csrf and decision of a form", func(t *testing.T) {
		p := b.login(authorizeURL(), "ann")
		to, body := form(t, p, "decision", "deny")
		wantErrorPage(t, b.do(http.MethodPost, to, body+"&decision=allow"), 400, "invalid_request")
		wantErrorPage(t, b.do(http.MethodPost, to+"&flow="+strings.Repeat("A", 43), body), 400, "invalid_request")
	})
	t.Run("resource may repeat", func(t *testing.T) {
		q := response(t, b.codePage(authorizeURL("client_id", "w-own")+"&resource="+url.QueryEscape(fixture.Resource)+"&resource="+url.QueryEscape(fixture.Resource2), "ann"))
		wantCode(t, q)
	})
}

// TestAttackOpenRedirector: no answer leads to where nobody has registered, before or after the
// login, nor when it ends.
func TestAttackOpenRedirector(t *testing.T) {
	t.Attr("requirement", "F2-5.3.2.1-7")
	as := startPeople(t)
	b := newBrowser(t, as)
	b.login(authorizeURL("client_id", "w-own"), "ann")
	for _, uri := range []string{"https://evil.test/", "//evil.test", "https://app.test/cb/../x", "https://app.test@evil.test/cb", "javascript:alert(1)", "https://app.test/cb#x"} {
		for _, to := range []string{
			authorizeURL("client_id", "w-own", "redirect_uri", uri),
			authorizeURL("client_id", "w-own", "redirect_uri", uri, "prompt", "none", "scope", "nothing"),
			fixture.Issuer + "/logout?client_id=w-dn&post_logout_redirect_uri=" + url.QueryEscape(uri),
			fixture.Issuer + "/logout?post_logout_redirect_uri=" + url.QueryEscape(uri),
		} {
			wantErrorPage(t, b.get(to), 400, "invalid_request")
			wantReason(t, as, decision.RedirectMismatch)
		}
		p := b.get(fixture.Issuer + "/authorize?flow=" + url.QueryEscape(uri))
		if p.Status != 400 || p.Header.Get("Location") != "" {
			t.Errorf("%d %v", p.Status, p.Header)
		}
	}
	t.Run("a redirect URI that is taken back while the person thinks", func(t *testing.T) {
		p := b.get(authorizeURL("prompt", "consent"))
		c, err := as.Store.Client(t.Context(), "w-dn")
		if err != nil {
			t.Fatal(err)
		}
		c.RedirectURIs = []string{"https://app.test/other"}
		if err := as.Store.UpdateClient(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		as.Server.ClientChanged("w-dn")
		wantErrorPage(t, b.submit(p, "decision", "allow"), 400, "invalid_request")
	})
}

// FuzzCookie: a value is one of ours or none, however the field looks.
func FuzzCookie(f *testing.F) {
	v := strings.Repeat("A", 43)
	f.Add(authserver.BrowserCookie+"="+v, "")
	f.Add("a=b; "+authserver.BrowserCookie+"="+v+";c", authserver.BrowserCookie+"="+v)
	f.Add(" ; = ;;"+authserver.BrowserCookie, "=")
	f.Fuzz(func(t *testing.T, one, two string) {
		got := authserver.CookieOf(authserver.BrowserCookie, one, two)
		if got == "" {
			return
		}
		if len(got) != 43 || strings.ContainsAny(got, "=;, \"\t+/") {
			t.Errorf("%q", got)
		}
		if n := strings.Count(one, authserver.BrowserCookie+"="+got) + strings.Count(two, authserver.BrowserCookie+"="+got); n < 1 {
			t.Errorf("%q is not in %q or %q", got, one, two)
		}
	})
}

// FuzzAuthorizationRequest: whatever the query, a browser is sent to our own pages or to a
// registered redirect URI of the client, and every answer to the client has iss.
func FuzzAuthorizationRequest(f *testing.F) {
	s := serverWithPeople(f)
	f.Add(requestOf().Encode())
	f.Add(requestOf("redirect_uri", "https://app.test/cb#x").Encode())
	f.Add(requestOf("response_mode", "form_post", "prompt", "none").Encode())
	f.Add("client_id=w-dn&request_uri=urn:ietf:params:oauth:request_uri:x")
	f.Add("client_id=w-dn&request=a.b.c")
	f.Add("flow=" + strings.Repeat("A", 43))
	f.Fuzz(func(t *testing.T, query string) {
		w := getAuthorize(s, query)
		location := w.Header().Get("Location")
		switch {
		case w.Code == 303 && strings.HasPrefix(location, "/login?flow="):
		case w.Code == 303:
			rest, ok := strings.CutPrefix(location, callback+"?")
			q, err := url.ParseQuery(rest)
			if !ok || err != nil || len(q["iss"]) != 1 || q.Get("iss") != fixture.Issuer || q.Get("error") == "" {
				t.Errorf("%q", location)
			}
		case location != "":
			t.Errorf("%d %q", w.Code, location)
		case w.Code == 200 && strings.Contains(w.Body.String(), callback): // form_post
		case w.Code < 400 || w.Code >= 500:
			t.Errorf("%d", w.Code)
		}
	})
}
