package people

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/certbound/certbound/pkitest"
	"github.com/certbound/certbound/server/listen"
)

var screenshots = flag.String("screenshots", "", "write what the browser shows to `FOLDER`")

// A site is a host of others: the application, and the evil one.
type site struct {
	mu       sync.Mutex
	received []*http.Request // with their forms
	pages    map[string]string
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	s.mu.Lock()
	text, ok := s.pages[r.URL.Path]
	if r.URL.Path != "/favicon.ico" {
		s.received = append(s.received, r)
	}
	s.mu.Unlock()
	if !ok {
		text = `<h1 id="back">The application</h1>`
	}
	if cookie, ok := strings.CutPrefix(text, "Set-Cookie: "); ok {
		w.Header().Set("Set-Cookie", cookie)
		text = `<h1 id="back">Here is a cookie</h1>`
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprint(w, `<!doctype html><html lang="en"><link rel="icon" href="data:,"><title>x</title>`, text)
}

func (s *site) show(path, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pages[path] = text
}

// last returns the newest request, or nil.
func (s *site) last() *http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.received) == 0 {
		return nil
	}
	return s.received[len(s.received)-1]
}

// serveSite serves a site over TLS until the test ends.
func serveSite(t *testing.T, leaf *pkitest.Leaf, h http.Handler) (address string) {
	t.Helper()
	srv := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0)}
	l, err := listen.Open("127.0.0.1:0", "site")
	if err != nil {
		t.Fatal(err)
	}
	srv.TLSConfig = serverTLS(leaf)
	go func() { _ = srv.ServeTLS(l, "", "") }()
	t.Cleanup(func() { srv.Close() })
	return l.Addr().String()
}

// A chromium is the real browser, with the server and the sites that it can reach.
type chromium struct {
	*program
	app, evil *site
	ctx       context.Context // of the browser
}

// newChromium starts a browser that reaches our hosts and nothing else.
func newChromium(t *testing.T, p *program) *chromium {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatalf("the tests need the package chromium; scripts/deps.sh installs it: %v", err)
	}
	c := &chromium{program: p, app: &site{pages: map[string]string{}}, evil: &site{pages: map[string]string{}}}
	leaf := p.ServerCA.MustLeaf(pkitest.LeafOptions{Subject: "CN=sites", DNS: []string{"app.test", "evil.test", "evil.as.test"}, Server: true})
	p.addresses["app.test"] = serveSite(t, leaf, c.app)
	p.addresses["evil.test"] = serveSite(t, leaf, c.evil)
	p.addresses["evil.as.test"] = p.addresses["evil.test"]
	var rules []string
	for host, address := range p.addresses {
		rules = append(rules, "MAP "+host+" "+address)
	}
	rules = append(rules, "MAP * ~NOTFOUND", "EXCLUDE 127.0.0.1")
	ours, err := tls.LoadX509KeyPair(filepath.Join(p.dir, "server.pem"), filepath.Join(p.dir, "server.key"))
	if err != nil {
		t.Fatal(err)
	}
	// The browser knows our certificates by their keys: it has no file of roots to add to.
	var keys []string
	for _, cert := range []*x509.Certificate{leaf.Cert, ours.Leaf} {
		sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
		keys = append(keys, base64.StdEncoding.EncodeToString(sum[:]))
	}
	profile, err := os.MkdirTemp("", "certbound-chromium-")
	if err != nil {
		t.Fatal(err)
	}
	alloc, stop := chromedp.NewExecAllocator(context.Background(),
		chromedp.ExecPath(path), chromedp.UserDataDir(profile), chromedp.WSURLReadTimeout(2*time.Minute),
		chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck, chromedp.Headless, chromedp.DisableGPU, chromedp.NoSandbox,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("disable-extensions", true),
		chromedp.Flag("force-color-profile", "srgb"), chromedp.Flag("host-resolver-rules", strings.Join(rules, ",")),
		chromedp.Flag("ignore-certificate-errors-spki-list", strings.Join(keys, ",")),
	)
	ctx, cancel := chromedp.NewContext(alloc)
	t.Cleanup(func() {
		cancel()
		stop()
		os.RemoveAll(profile)
	})
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("the browser does not start: %v", err)
	}
	c.ctx = ctx
	return c
}

// A tab is a window of a fresh profile: no cookies.
type tab struct {
	*chromium
	t   *testing.T
	ctx context.Context

	mu       sync.Mutex
	problems []string
}

// newTab opens one. At the end of the test the browser must not have had anything to say
// about our pages: no error, no violation of the policy.
func (c *chromium) newTab(t *testing.T) *tab {
	t.Helper()
	b := &tab{chromium: c, t: t}
	ctx, cancel := chromedp.NewContext(c.ctx, chromedp.WithNewBrowserContext(), chromedp.WithListener(func(event any) {
		b.mu.Lock()
		defer b.mu.Unlock()
		switch e := event.(type) {
		case *cdplog.EventEntryAdded:
			// The status of a refusal is an error to the browser, and its page is what we test.
			if e.Entry.Source != cdplog.EntrySourceNetwork || !strings.Contains(e.Entry.Text, "responded with a status of 4") {
				b.problems = append(b.problems, fmt.Sprintf("%s %s: %s", e.Entry.Source, e.Entry.URL, e.Entry.Text))
			}
		case *runtime.EventConsoleAPICalled:
			for _, arg := range e.Args {
				b.problems = append(b.problems, fmt.Sprintf("console.%s: %s", e.Type, arg.Value))
			}
		case *runtime.EventExceptionThrown:
			b.problems = append(b.problems, "exception: "+e.ExceptionDetails.Text)
		}
	}))
	ctx, cancelTime := context.WithTimeout(ctx, 10*time.Minute)
	b.ctx = ctx
	t.Cleanup(func() {
		for _, problem := range b.said() {
			t.Errorf("the browser says: %s", problem)
		}
		cancelTime()
		cancel()
	})
	call(b, cdplog.Enable, cdp.Empty{})
	return b
}

// said returns what the browser has said, once.
func (b *tab) said() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	said := b.problems
	b.problems = nil
	return said
}

// fail says where the browser is when something goes wrong.
func (b *tab) fail(format string, args ...any) {
	b.t.Helper()
	at, _ := chromedp.Run(b.ctx, chromedp.Location())
	text, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string]("document.body ? document.body.innerText : ''"))
	b.t.Fatalf("%s\nthe browser is at %s and shows %q\nit says %q", fmt.Sprintf(format, args...), at, text, b.said())
}

func (b *tab) run(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, steps...); err != nil {
		b.fail("%v", err)
	}
}

// js returns the value of an expression.
func js[T any](b *tab, expression string) T {
	b.t.Helper()
	value, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		b.fail("%s: %v", expression, err)
	}
	return value
}

// call runs a command of the protocol.
func call[P, R any](b *tab, cmd cdp.Command[P, R], params P) R {
	b.t.Helper()
	result, err := chromedp.Call(b.ctx, cmd, params)
	if err != nil {
		b.fail("%s: %v", cmd.Method, err)
	}
	return result
}

func byID(id string) chromedp.CSS { return chromedp.CSS("#" + id) }

// shows reports whether the page has an element, and is there as a whole. Between two pages
// there is nothing to ask.
func (b *tab) shows(id string) bool {
	ok, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool]("document.readyState === 'complete' && document.getElementById('"+id+"') !== null"))
	return err == nil && ok
}

// see waits for an element of a page.
func (b *tab) see(id string) {
	b.t.Helper()
	b.eventually("to see #"+id, func() bool { return b.shows(id) })
}

func (b *tab) open(to, id string) { b.t.Helper(); b.leave(id, chromedp.Navigate(to)) }

// click clicks, and waits for the page that follows.
func (b *tab) click(id, next string) {
	b.t.Helper()
	b.leave(next, chromedp.Click(byID(id)))
}

// leave does something that ends at another page, perhaps one that looks the same.
func (b *tab) leave(next string, steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	before := "before-" + random() // another one each time: the browser may bring back a page
	js[bool](b, "document.documentElement.id = '"+before+"', true")
	b.run(steps...)
	b.eventually("to leave for #"+next, func() bool { return !b.shows(before) && b.shows(next) })
}

// signIn fills in the login page.
func (b *tab) signIn(name, password, next string) {
	b.t.Helper()
	js[bool](b, "document.getElementById('name').value = '', true")
	b.run(chromedp.SendKeys(byID("name"), name), chromedp.SendKeys(byID("password"), password))
	b.click("submit", next)
}

// text returns what an element says.
func (b *tab) text(id string) string {
	b.t.Helper()
	return js[string](b, "document.getElementById('"+id+"').innerText")
}

// back goes back as the button of the browser does.
func (b *tab) back(next string) {
	b.t.Helper()
	b.leave(next, chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, runtime.Evaluate, runtime.EvaluateParams{Expression: "setTimeout(() => history.back())"})
		return err
	}))
}

func (b *tab) at() string { b.t.Helper(); return js[string](b, "location.href") }

// answer waits for the application's page, and returns what it got.
func (b *tab) answer() url.Values {
	b.t.Helper()
	b.see("back")
	r := b.app.last()
	if r == nil || r.URL.Path != "/cb" {
		b.t.Fatalf("the application got no answer: the browser is at %s", b.at())
	}
	if got := r.Form["iss"]; len(got) != 1 || got[0] != issuer {
		b.t.Errorf("iss is %q", got)
	}
	return r.Form
}

// look checks what holds for each page, and keeps a picture of it.
func (b *tab) look(name string) {
	b.t.Helper()
	if js[bool](b, "document.documentElement.scrollWidth > window.innerWidth") {
		b.t.Errorf("%s: has to be scrolled sideways", name)
	}
	b.checkNames(name)
	if *screenshots == "" {
		return
	}
	png, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		b.fail("%v", err)
	}
	if err := os.MkdirAll(*screenshots, 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(*screenshots, name+".png"), png, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// checkNames wants a name for all that a person can use, one headline, and one main part,
// in the tree that screen readers get.
func (b *tab) checkNames(name string) {
	b.t.Helper()
	count := map[string]int{}
	for _, n := range call(b, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{}).Nodes {
		if n.Ignored || n.Role == nil {
			continue
		}
		role := strings.Trim(string(n.Role.Value), `"`)
		count[role]++
		switch role {
		case "textbox", "button", "link", "heading", "image":
			if n.Name == nil || strings.Trim(string(n.Name.Value), `" `) == "" {
				b.t.Errorf("%s: a %s without a name", name, role)
			}
		}
	}
	if count["heading"] != 1 || count["main"] != 1 {
		b.t.Errorf("%s: expected one headline and one main part, found %d and %d", name, count["heading"], count["main"])
	}
}

func (b *tab) phone() {
	b.t.Helper()
	call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: 360, Height: 640, DeviceScaleFactor: 2, Mobile: true})
}

func (b *tab) dark() {
	b.t.Helper()
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}}})
}

func (b *tab) withoutScripts() {
	b.t.Helper()
	call(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
}

// cookies returns the names of the cookies that a URL gets.
func (b *tab) cookies(of string) (found map[string]*network.Cookie) {
	b.t.Helper()
	found = map[string]*network.Cookie{}
	for _, k := range call(b, network.GetCookies, network.GetCookiesParams{URLs: []string{of}}).Cookies {
		found[k.Name] = k
	}
	return found
}

// framed wants the browser to refuse the frame of a page of others, and to say why.
func (b *tab) framed() {
	b.t.Helper()
	var said []string
	b.eventually("a frame that is refused", func() bool {
		said = append(said, b.said()...)
		return strings.Contains(strings.Join(said, " "), "frame-ancestors 'none'")
	})
	for _, s := range said {
		if !strings.Contains(s, "Framing") {
			b.t.Errorf("the browser says: %s", s)
		}
	}
}

// eventually polls for at most a minute.
func (b *tab) eventually(what string, holds func() bool) {
	b.t.Helper()
	for end := time.Now().Add(time.Minute); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			b.fail("not within a minute: %s", what)
		}
	}
}

// value returns that of a field, by its name.
func (b *tab) value(name string) string {
	b.t.Helper()
	return js[string](b, `document.querySelector('input[name="`+name+`"]').value`)
}

// action returns where a form leads.
func (b *tab) action(id string) string {
	b.t.Helper()
	return js[string](b, "document.getElementById('"+id+"').action")
}

func (b *tab) setCookie(name, value string) {
	b.t.Helper()
	call(b, network.SetCookie, network.SetCookieParams{Name: name, Value: value, URL: issuer + "/", Path: "/", Secure: new(true), HTTPOnly: new(true)})
}

func (s *site) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.received)
}
