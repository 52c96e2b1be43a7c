package people

import (
	"html"
	"net/url"
	"strings"
	"testing"
)

func mustQuery(t *testing.T, link, name string) string {
	t.Helper()
	u, err := url.Parse(link)
	if err != nil {
		t.Fatal(err)
	}
	return u.Query().Get(name)
}

// autoPost is a page that posts a form as soon as it is opened.
func autoPost(to string, pairs ...string) string {
	var s strings.Builder
	s.WriteString(`<form id="f" method="post" action="` + html.EscapeString(to) + `">`)
	for i := 0; i+1 < len(pairs); i += 2 {
		s.WriteString(`<input type="hidden" name="` + pairs[i] + `" value="` + html.EscapeString(pairs[i+1]) + `">`)
	}
	s.WriteString(`</form><script>document.getElementById("f").submit()</script>`)
	return s.String()
}

// attacks are those that need a browser: what it sends, stores and shows is part of the
// defence.
func (c *chromium) attacks(t *testing.T) {
	app := c.as(t, c.L1)

	// A page of the thief's shows ours in a frame, to have the person click on what they do
	// not see.
	t.Run("AttackClickjacking", func(t *testing.T) {
		b := c.newTab(t)
		b.open(newFlow("app", "prompt", "consent").push(t, app), "login")
		c.evil.show("/frame", `<h1 id="back">A game</h1><iframe src="`+html.EscapeString(b.at())+`"></iframe>`)
		b.open("https://evil.test/frame", "back")
		b.framed()
		b.open(newFlow("app", "prompt", "consent").push(t, app), "login")
		b.signIn("ann", password, "consent")
		c.evil.show("/frame", `<h1 id="back">A game</h1><iframe src="`+html.EscapeString(b.at())+`"></iframe>`)
		b.open("https://evil.test/frame", "back")
		b.framed()
	})

	// A page of the thief's posts our forms: with what it can know, and with what it got from
	// a flow of its own.
	t.Run("AttackCSRF", func(t *testing.T) {
		thief := c.newTab(t)
		thief.open(newFlow("app", "prompt", "consent").push(t, app), "login")
		thiefLogin, thiefCSRF := thief.at(), thief.value("csrf")
		thief.signIn("bob", password, "consent")
		thiefConsent, thiefConsentCSRF := thief.action("consent"), thief.value("csrf")

		b, f := c.newTab(t), newFlow("app", "prompt", "consent")
		b.open(f.push(t, app), "login")
		login, csrf := b.at(), b.value("csrf")
		refused := func(name, to string, pairs ...string) {
			t.Helper()
			before := c.app.count()
			c.evil.show("/post", autoPost(to, pairs...))
			b.open("https://evil.test/post", "details")
			if at := b.at(); !strings.HasPrefix(at, issuer) {
				t.Errorf("%s: the browser is at %s", name, at)
			}
			if c.app.count() != before {
				t.Errorf("%s: the application got an answer", name)
			}
			_ = b.said() // of the thief's page
		}
		refused("login without token", login, "name", "bob", "password", password)
		refused("login with the right token", login, "csrf", csrf, "name", "bob", "password", password)
		refused("login of the thief's flow", thiefLogin, "csrf", thiefCSRF, "name", "bob", "password", password)
		b.open(login, "login")
		b.signIn("ann", password, "consent")
		consent, token := b.action("consent"), b.value("csrf")
		refused("consent without token", consent, "decision", "allow")
		refused("consent with the right token", consent, "csrf", token, "decision", "allow")
		refused("consent of the thief's flow", thiefConsent, "csrf", thiefConsentCSRF, "decision", "allow")
		// At the logout a person is asked, whoever sends them there.
		c.evil.show("/post", autoPost(issuer+"/logout", "decision", "logout"))
		b.open("https://evil.test/post", "confirm")
		b.open(strings.Replace(login, "/login?", "/authorize?", 1), "consent")
		if text := b.text("person"); !strings.Contains(text, "Ann Example") {
			t.Errorf("it is %q who is logged in", text)
		}
		b.click("allow", "back")
		if b.answer().Get("code") == "" {
			t.Error("the person's own flow was spoilt")
		}
	})

	// A neighbour's host plants cookies of ours, and reads none.
	t.Run("AttackCookiesAcrossHosts", func(t *testing.T) {
		b := c.newTab(t)
		planted := strings.Repeat("A", 42) + "A"
		for path, cookie := range map[string]string{
			"/1": "__Host-certbound-session=" + planted + "; Domain=as.test; Path=/; Secure",
			"/2": "__Host-certbound-browser=" + planted + "; Domain=as.test; Path=/; Secure",
			"/3": "__Host-certbound-session=" + planted + "; Path=/; Secure", // its own host's: legal, and not sent to us
		} {
			c.evil.show(path, "Set-Cookie: "+cookie)
			b.open("https://evil.as.test"+path, "back")
		}
		_ = b.said() // the browser may complain of them
		if got := b.cookies(issuer + "/"); len(got) != 0 {
			t.Fatalf("planted: %v", got)
		}
		b.open(newFlow("app", "prompt", "consent").push(t, app), "login")
		before := b.cookies(issuer + "/")
		b.signIn("ann", password, "consent")
		after := b.cookies(issuer + "/")
		for _, name := range []string{"__Host-certbound-browser", "__Host-certbound-session"} {
			k := after[name]
			if k == nil || !k.Secure || !k.HTTPOnly || k.SameSite != "Lax" || k.Path != "/" || k.Domain != "as.test" || k.Value == planted {
				t.Errorf("%s is %+v", name, k)
			}
		}
		if before["__Host-certbound-session"] != nil {
			t.Error("a session before the login")
		}
		for _, host := range []string{mtlsBase, "https://evil.as.test", "https://app.test"} {
			for name, k := range b.cookies(host + "/") {
				if k.Value != planted {
					t.Errorf("%s gets %s", host, name)
				}
			}
		}
		if script := js[string](b, "document.cookie"); script != "" {
			t.Errorf("scripts can read %q", script)
		}
	})

	// Somebody who knew the session cookie before the login knows nothing after it.
	t.Run("AttackSessionFixation", func(t *testing.T) {
		b := c.newTab(t)
		b.open(newFlow("app", "prompt", "consent").push(t, app), "login")
		b.signIn("bob", password, "consent")
		old := b.cookies(issuer + "/")["__Host-certbound-session"].Value
		b.click("switch", "login")
		b.signIn("ann", password, "consent")
		if now := b.cookies(issuer + "/")["__Host-certbound-session"].Value; now == old {
			t.Error("the session of the one before")
		}
		thief := c.newTab(t)
		thief.setCookie("__Host-certbound-session", old)
		thief.open(newFlow("app").push(t, app), "login")
	})
}
