package authserver

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"github.com/certbound/certbound/authserver/pages"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
)

// The cookies. The prefix __Host- makes browsers refuse them from any other host, from a
// path and without TLS, so that no neighbour of ours can plant one.
const (
	// browserCookie binds authorization requests to a browser, and is the key of the
	// CSRF tokens. It says nothing about a person.
	browserCookie = "__Host-certbound-browser"
	// sessionCookie says who has logged in. Each login makes a new one.
	sessionCookie = "__Host-certbound-session"
)

// hstsYears is Strict-Transport-Security of the browser endpoints: two years, as the
// preload lists of browsers ask for.
const hstsYears = "max-age=63072000"

// random returns 256 random bits in base64url, 43 characters.
func random() string {
	var b [32]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// is256 reports whether s is the canonical base64url of 256 bits.
func is256(s string) bool {
	var b [32]byte
	if len(s) != 43 {
		return false
	}
	n, err := base64.RawURLEncoding.Strict().Decode(b[:], []byte(s))
	return err == nil && n == len(b)
}

// cookieValue returns the value of a cookie. One that stands twice counts as none, since
// nobody can say which of the two is ours.
func cookieValue(r *http.Request, name string) string {
	value, found := "", 0
	for _, field := range r.Header["Cookie"] {
		for field != "" {
			var pair string
			pair, field, _ = strings.Cut(field, ";")
			n, v, ok := strings.Cut(strings.Trim(pair, " \t"), "=")
			if ok && n == name {
				value = v
				found++
			}
		}
	}
	if found != 1 || !is256(value) {
		return ""
	}
	return value
}

// setCookie sets a cookie until the browser is closed, or removes it if value is empty.
func setCookie(w http.ResponseWriter, name, value string) {
	text := name + "=" + value + "; Path=/; Secure; HttpOnly; SameSite=Lax"
	if value == "" {
		text += "; Max-Age=0"
	}
	w.Header().Add("Set-Cookie", text)
}

// browser returns the value that names this browser, which gets one if it has none.
func (x *exchange) browser() string {
	if x.browserValue == "" {
		if x.browserValue = cookieValue(x.r, browserCookie); x.browserValue == "" {
			x.browserValue = random()
			setCookie(x.w, browserCookie, x.browserValue)
		}
	}
	return x.browserValue
}

// csrfToken is the value of the hidden field csrf: what only a page for this browser, this
// request and this purpose can know.
func csrfToken(browser, reference, page string) string {
	mac := hmac.New(sha256.New, []byte(browser))
	mac.Write([]byte("csrf|" + reference + "|" + page))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// checkForm judges whether a form was sent from our page: by its token, and by what
// browsers say of where a request comes from. (Origin is null for forms of pages with
// the referrer policy that ours have.)
func (x *exchange) checkForm(reference, page string) *refusal {
	const rule = "RFC 6749, Section 10.12"
	bad := func(expected, found string) *refusal {
		return x.fail(refuseForm, decision.Check{Name: decision.CheckBrowser, Rule: rule, Reason: decision.CrossSite, Expected: expected, Found: found})
	}
	browser := cookieValue(x.r, browserCookie)
	if browser == "" {
		return x.fail(refuseCookie, decision.Check{Name: decision.CheckBrowser, Rule: rule, Reason: decision.CookieMissing, Expected: browserCookie})
	}
	if site := x.r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" && site != "none" {
		return bad("Sec-Fetch-Site: same-origin", clip(site, 32))
	}
	if origin := x.r.Header["Origin"]; len(origin) > 1 || len(origin) == 1 && origin[0] != "null" && origin[0] != x.s.origin {
		return bad("Origin: "+x.s.origin, clip(strings.Join(origin, ", "), 128))
	}
	want := csrfToken(browser, reference, page)
	if subtle.ConstantTimeCompare([]byte(want), []byte(x.form.get("csrf"))) != 1 {
		return bad("the field csrf of the page", "none, or another")
	}
	return nil
}

// origin returns scheme, host and port of a URL as browsers write them.
func origin(issuer string) string {
	u, err := url.Parse(issuer)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + strings.ToLower(strings.TrimSuffix(u.Host, ":443"))
}

// browse makes a handler for browsers: every answer has the header fields that keep other
// sites and caches away from it. Pages add their own content security policy.
func browse(handle func(*exchange)) func(*exchange) {
	return func(x *exchange) {
		h := x.w.Header()
		h["Cache-Control"] = headerNoStore
		h["Strict-Transport-Security"] = []string{hstsYears}
		h["Referrer-Policy"] = []string{"no-referrer"}
		h["X-Frame-Options"] = []string{"DENY"}
		h["Content-Security-Policy"] = []string{"default-src 'none'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"}
		h["Cross-Origin-Opener-Policy"] = []string{"same-origin"}
		x.d = decision.New()
		x.d.Peer = certsource.Peer(x.ctx())
		if x.r.Method != http.MethodGet && x.r.Method != http.MethodPost {
			h["Allow"] = []string{"GET, POST"}
			http.Error(x.w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		// A page that a browser fetches ahead of time must not log anybody in, or out, nor
		// end a request.
		if strings.Contains(strings.Join(x.r.Header["Sec-Purpose"], ","), "prefetch") {
			http.Error(x.w, "not ahead of time", http.StatusServiceUnavailable)
			return
		}
		handle(x)
	}
}

// readBrowser reads the parameters: of the query, or of the body of a POST.
func (x *exchange) readBrowser() *refusal {
	var f form
	var err error
	if x.r.Method == http.MethodPost {
		f, err = readForm(x.w, x.r, x.s.cfg.MaxBody, x.s.cfg.MaxParameters)
	} else {
		f, err = x.query()
	}
	if err != nil {
		return x.fail(refuseRequest, formCheck(err))
	}
	x.form = f
	return nil
}

// query parses the query, by the rules of a form.
func (x *exchange) query() (form, error) {
	if len(x.r.URL.RawQuery) > maxQuery {
		return nil, &formError{fault: "the query is too long", tooLarge: true}
	}
	return parseForm(x.r.URL.RawQuery, x.s.cfg.MaxParameters)
}

// maxQuery bounds the query of a request, in bytes. A longer request has to be pushed.
const maxQuery = 16 << 10

func formCheck(err error) decision.Check {
	c := decision.Check{Name: decision.CheckRequest, Rule: "RFC 6749, Section 3.1", Reason: decision.RequestMalformed, Found: err.Error()}
	if fe, ok := err.(*formError); ok {
		c.Found = fe.fault
		switch {
		case fe.tooLarge:
			c.Reason = decision.RequestTooLarge
		case fe.repeated:
			c.Reason = decision.ParameterRepeated
		}
	}
	return c
}

// seeOther sends the browser on with GET, whatever it came with: form data never goes along
// (RFC 9700, Section 4.12).
func (x *exchange) seeOther(to string) {
	x.observe()
	h := x.w.Header()
	h["Location"] = []string{to}
	h["Content-Length"] = []string{"0"}
	x.w.WriteHeader(http.StatusSeeOther)
}

// observe tells the observer of what was decided, once. A step on the way decides nothing.
func (x *exchange) observe() {
	o := x.s.cfg.Observer
	if _, failed := x.d.Failure(); o != nil && !x.observed && (failed || x.d.Allowed) {
		x.observed = true
		o(x.ctx(), x.d)
	}
}

// refusePage shows a refusal to the person. There is no way on from it to anywhere: what
// cannot be trusted is no place to be sent to.
func (x *exchange) refusePage(r *refusal) {
	x.logRefusal(r.status, r.code)
	x.observe()
	status := r.status
	if status == http.StatusUnauthorized {
		status = http.StatusBadRequest // there is nothing to authenticate with here
	}
	if status == http.StatusServiceUnavailable {
		x.w.Header()["Retry-After"] = []string{"1"}
	}
	data := explainRefusal(r, x.d.Reason())
	data.Code, data.RequestID = r.code, x.id
	x.rendered(x.s.cfg.Authorization.Pages.Error(x.w, status, data))
}

// rendered logs that a page could not be shown, and then says so in plain text.
func (x *exchange) rendered(err error) {
	if err == nil {
		return
	}
	x.s.cfg.Logger.LogAttrs(x.ctx(), slog.LevelError, "a page cannot be shown", slog.String("request_id", x.id),
		slog.String("endpoint", x.endpoint), slog.Any("cause", err))
	if x.w.Header().Get("Content-Length") == "" { // nothing was written yet
		http.Error(x.w, "the page cannot be shown; request "+x.id, http.StatusInternalServerError)
	}
}

// explainRefusal says in a person's words what happened and what to do.
func explainRefusal(r *refusal, reason decision.Reason) pages.Error {
	const again = "Go back to the application and begin again."
	switch reason {
	case decision.RequestExpired, decision.RequestUnknown:
		return pages.Error{Title: "This link is no longer valid", Text: "It was used already, or not in time.", Advice: again}
	case decision.BrowserMismatch:
		return pages.Error{Title: "This was begun in another browser", Text: "The link belongs to the browser in which it was first opened.",
			Advice: "Continue there, or go back to the application and begin again. If somebody has sent you this link, close this page."}
	case decision.CookieMissing:
		return pages.Error{Title: "A cookie is missing", Text: "Your browser did not send the cookie that this page needs.",
			Advice: "If you began in another browser, continue there. If somebody has sent you this link, close this page. Otherwise allow cookies for this site, go back to the application and begin again."}
	case decision.CrossSite:
		return pages.Error{Title: "This form cannot be accepted", Text: "It was not sent from a page of this site, or the page was too old.",
			Advice: "Go back, reload the page, and try again. If you were not filling in a form here, close this page."}
	case decision.RedirectMismatch:
		return pages.Error{Title: "The application cannot be answered", Text: "It asks for an answer at an address that is not registered for it.",
			Advice: "Do not continue. If you know who runs the application, tell them the number below."}
	case decision.UnknownClient, decision.ClientDisabled, decision.ClientMisconfig, decision.NoClientID, decision.MethodDisabled:
		return pages.Error{Title: "The application is not known here", Text: "It is not registered, or not allowed to log people in.",
			Advice: "If you know who runs the application, tell them the number below."}
	case decision.PersonDisabled:
		return pages.Error{Title: "You cannot log in", Text: "Your account is disabled.", Advice: "If this is a mistake, tell whoever runs this site the number below."}
	case decision.RequestLimit:
		return pages.Error{Title: "Too many logins at the moment", Text: "More people than usual, or a program, are beginning to log in to this application.",
			Advice: "Wait some minutes. " + again}
	case decision.LoginFailed, decision.LoginUnusable:
		return pages.Error{Title: "The login did not work", Text: "Something went wrong while you were logged in.",
			Advice: again + " If it happens again, tell whoever runs this site the number below."}
	}
	if r.status >= 500 {
		return pages.Error{Title: "This does not work at the moment", Text: "The server cannot answer right now.",
			Advice: "Try again in a minute. If it happens again, tell whoever runs this site the number below."}
	}
	return pages.Error{Title: "The request cannot be understood", Text: "What the application asked for is not right: " + r.description + ".",
		Advice: again + " If it happens again, tell whoever runs the application the number below."}
}
