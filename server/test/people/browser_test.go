package people

import (
	"crypto/tls"
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/certbound/certbound/pkitest"
)

func serverTLS(leaf *pkitest.Leaf) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{leaf.TLS()}, MinVersion: tls.VersionTLS12}
}

// TestBrowser goes through the flows as people do: in Chromium, at the built program.
func TestBrowser(t *testing.T) {
	dir := newFolder(t, `people:
  enabled: true
  login: accounts
  title: Example Bank
  scope_texts: [{scope: openid, text: Know who you are}, {scope: read, text: See your accounts and what is on them}, {scope: payments, text: Pay bills}]`)
	for _, name := range []string{"ann", "bob", "joe"} {
		addUser(t, dir, name, strings.ToUpper(name[:1])+name[1:]+" Example")
	}
	c := newChromium(t, serveProgram(t, dir))
	app := c.as(t, c.L1)

	t.Run("login, consent, tokens", func(t *testing.T) {
		b, f := c.newTab(t), newFlow("app", "scope", "openid profile read")
		b.open(f.push(t, app), "login")
		b.look("login")
		if text := b.text("client"); !strings.Contains(text, "Household Budget") {
			t.Errorf("who asks: %q", text)
		}
		b.signIn("ann", password, "consent")
		b.look("consent")
		if text := b.text("main"); !strings.Contains(text, "Ann Example") || !strings.Contains(text, "See your accounts") || !strings.Contains(text, "app.test") {
			t.Errorf("the page does not say who, what and where to: %q", text)
		}
		b.click("allow", "back")
		q := b.answer()
		if q.Get("state") != f.params.Get("state") {
			t.Errorf("state %q", q.Get("state"))
		}
		r := f.redeem(t, app, q.Get("code"))
		if r.Status != http.StatusOK || member(r, "id_token") == "" || r.Cnf() == "" {
			t.Fatalf("expected bound tokens, found %d %s", r.Status, r.Error())
		}
		if r = refreshWith(t, app, "app", member(r, "refresh_token")); r.Status != http.StatusOK {
			t.Errorf("refresh: %d %s", r.Status, r.Error())
		}

		// The same browser again: neither login nor consent.
		again := newFlow("app", "scope", "openid read")
		b.open(again.push(t, app), "back")
		if code := b.answer().Get("code"); again.redeem(t, app, code).Status != http.StatusOK {
			t.Error("no tokens from the session")
		}
		// More than before: asked, and said what is new.
		b.open(newFlow("app", "scope", "openid read payments").push(t, app), "consent")
		b.look("consent-more")
		if text := b.text("scope-payments"); !strings.Contains(text, "new") {
			t.Errorf("what is new: %q", text)
		}
		// Declined.
		b.click("deny", "back")
		if q := b.answer(); q.Get("error") != "access_denied" || q.Get("code") != "" {
			t.Errorf("declined: %v", q)
		}
	})

	t.Run("wrong passwords", func(t *testing.T) {
		b := c.newTab(t)
		b.open(newFlow("app").push(t, app), "login")
		for range 5 {
			b.signIn("joe", "wrong horse battery", "fault")
		}
		b.look("login-fault")
		focus, name, typed := js[string](b, "document.activeElement.id"), b.value("name"), b.value("password")
		if focus != "password" || name != "joe" || typed != "" {
			t.Errorf("the form begins at %q with name %q and password %q", focus, name, typed)
		}
		// Closed now, for a second or more, which a browser may take to type. (That no
		// password is right meanwhile is tested with a clock in the package accounts.) A new
		// password opens it.
		command(t, dir, password+"\n", "user", "passwd", "joe", "--password-stdin")
		b.signIn("joe", password, "consent")
	})

	t.Run("cancelled at the login", func(t *testing.T) {
		b := c.newTab(t)
		b.open(newFlow("app").push(t, app), "login")
		b.click("cancel", "back")
		if q := b.answer(); q.Get("error") != "access_denied" {
			t.Errorf("%v", q)
		}
	})

	t.Run("somebody else", func(t *testing.T) {
		b := c.newTab(t)
		b.open(newFlow("app").push(t, app), "login")
		b.signIn("ann", password, "back") // allowed before
		b.open(newFlow("app", "prompt", "consent").push(t, app), "consent")
		b.click("switch", "login")
		b.signIn("bob", password, "consent")
		if text := b.text("person"); !strings.Contains(text, "Bob Example") {
			t.Errorf("person: %q", text)
		}
	})

	t.Run("form_post", func(t *testing.T) {
		b, f := c.newTab(t), newFlow("app", "response_mode", "form_post")
		b.open(f.push(t, app), "login")
		b.signIn("ann", password, "back")
		q := b.answer()
		if r := b.app.last(); r.Method != http.MethodPost || r.URL.RawQuery != "" {
			t.Errorf("the answer came by %s with the query %q", r.Method, r.URL.RawQuery)
		}
		if r := f.redeem(t, app, q.Get("code")); r.Status != http.StatusOK {
			t.Errorf("%d %s", r.Status, r.Error())
		}
	})

	t.Run("without scripts", func(t *testing.T) {
		b, f := c.newTab(t), newFlow("app", "response_mode", "form_post", "prompt", "consent")
		b.withoutScripts()
		b.open(f.push(t, app), "login")
		b.signIn("bob", "wrong horse battery", "fault")
		b.signIn("bob", password, "consent")
		b.click("allow", "form-post")
		b.look("form-post")
		b.click("continue", "back")
		if r := f.redeem(t, app, b.answer().Get("code")); r.Status != http.StatusOK {
			t.Errorf("%d %s", r.Status, r.Error())
		}
	})

	t.Run("keyboard only", func(t *testing.T) {
		b, f := c.newTab(t), newFlow("app", "prompt", "consent")
		b.open(f.push(t, app), "login")
		b.run(chromedp.KeyEvent("ann"), chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(password), chromedp.KeyEvent(kb.Enter))
		b.see("consent")
		var order []string
		for range 12 {
			b.run(chromedp.KeyEvent(kb.Tab))
			id := js[string](b, "document.activeElement.id")
			order = append(order, id)
			if id == "allow" {
				break
			}
		}
		if got := strings.Join(order, " "); got != "switch allow" {
			t.Fatalf("the order is %s, want switch allow", got)
		}
		if outline := js[string](b, "getComputedStyle(document.activeElement).outlineStyle"); outline != "solid" {
			t.Errorf("one does not see where the focus is: outline %q", outline)
		}
		b.run(chromedp.KeyEvent(kb.Enter))
		if b.answer().Get("code") == "" {
			t.Error("no code")
		}
	})

	t.Run("reload and back", func(t *testing.T) {
		b, f := c.newTab(t), newFlow("app", "prompt", "consent")
		link := f.push(t, app)
		b.open(link, "login")
		b.leave("login", chromedp.Reload())
		b.signIn("ann", password, "consent")
		b.leave("consent", chromedp.Reload())
		b.back("main")
		b.open(link, "consent") // the link again, in the same browser: the same page
		b.click("allow", "back")
		code := b.answer().Get("code")
		// The code is out. A step back may show what the browser remembers of the page; the
		// server says that it is over, and makes no second code.
		b.back("main")
		b.leave("details", chromedp.Reload())
		b.look("error-used")
		if text := b.text("heading"); text != "This link is no longer valid" {
			t.Errorf("after the end: %q", text)
		}
		if r := f.redeem(t, app, code); r.Status != http.StatusOK {
			t.Errorf("the step back has spoilt the code: %d %s", r.Status, r.Error())
		}
	})

	t.Run("error pages", func(t *testing.T) {
		b, other := c.newTab(t), c.newTab(t)
		f := newFlow("app")
		link := f.push(t, app)
		b.open(link, "login")
		for _, tc := range []struct{ name, to, title string }{
			{"another browser", link, "A cookie is missing"},
			{"the login page of another browser", b.at(), "A cookie is missing"},
			{"unknown client", newFlow("nobody").url(), "The application is not known here"},
			{"another address", newFlow("app", "redirect_uri", "https://evil.test/cb").url(), "The application cannot be answered"},
			{"no such link", f.link("urn:ietf:params:oauth:request_uri:" + random()), "This link is no longer valid"},
			{"of another client", newFlow("other").link(mustQuery(t, link, "request_uri")), "The request cannot be understood"},
		} {
			other.open(tc.to, "details")
			other.look("error-" + strings.ReplaceAll(tc.name, " ", "-"))
			if text := other.text("heading"); text != tc.title {
				t.Errorf("%s: %q, want %q", tc.name, text, tc.title)
			}
			if advice := other.text("advice"); len(advice) < 20 {
				t.Errorf("%s: the page does not say what to do: %q", tc.name, advice)
			}
		}
		other.open(newFlow("app").push(t, app), "login") // it has a cookie of its own now
		other.open(link, "details")
		if text := other.text("heading"); text != "This was begun in another browser" {
			t.Errorf("another browser with a cookie: %q", text)
		}
		b.signIn("ann", password, "back") // and none of it has spoilt the link
	})

	t.Run("logout", func(t *testing.T) {
		b, f := c.newTab(t), newFlow("app")
		b.open(f.push(t, app), "login")
		b.signIn("ann", password, "back")
		hint := member(f.redeem(t, app, b.answer().Get("code")), "id_token")
		b.open(issuer+"/logout", "logout")
		b.look("logout")
		b.click("stay", "main")
		b.open(issuer+"/logout?post_logout_redirect_uri=https%3A%2F%2Fapp.test%2Fbye&id_token_hint="+hint, "back")
		if got := b.app.last().URL.Path; got != "/bye" {
			t.Errorf("the browser was sent to %s", got)
		}
		b.open(issuer+"/logout", "text")
		b.look("logged-out")
		b.open(newFlow("app").push(t, app), "login")
	})

	t.Run("on a phone", func(t *testing.T) {
		b, f := c.newTab(t), newFlow("app", "scope", "openid profile email read payments", "prompt", "consent")
		b.phone()
		b.open(f.push(t, app), "login")
		b.look("phone-login")
		b.signIn("ann", "wrong horse battery", "fault")
		b.look("phone-fault")
		b.signIn("ann", password, "consent")
		b.look("phone-consent")
		if js[bool](b, "[...document.querySelectorAll('button')].some(e => e.getBoundingClientRect().height < 44)") {
			t.Error("a button is too small for a finger")
		}
		b.open(newFlow("nobody").url(), "details")
		b.look("phone-error")
		b.open(issuer+"/logout", "logout")
		b.look("phone-logout")
	})

	t.Run("dark", func(t *testing.T) {
		b := c.newTab(t)
		ground := func() string { return js[string](b, "getComputedStyle(document.body).backgroundColor") }
		b.open(newFlow("app", "prompt", "consent").push(t, app), "login")
		light := ground()
		b.dark()
		if now := ground(); now == light {
			t.Errorf("the ground is %s in the light and in the dark", now)
		}
		b.look("dark-login")
		b.signIn("ann", "wrong horse battery", "fault")
		b.look("dark-fault")
		b.signIn("ann", password, "consent")
		b.look("dark-consent")
	})

	c.attacks(t)
}
