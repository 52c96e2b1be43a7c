package authserver_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/certbound/certbound/authserver"
)

// TestAttackRedirectURI offers what other servers have taken for the registered URI, or for
// one below it. An attacker who is answered at another address has the code.
func TestAttackRedirectURI(t *testing.T) {
	t.Attr("requirement", "F2-5.3.2.1-7 OA-6")
	registered := []string{"https://app.test/cb", "https://app.test/cb?tenant=1", "http://127.0.0.1/cb", "http://[::1]:8080/cb?x=1", "com.example.app:/cb"}
	for uri, want := range map[string]bool{
		"https://app.test/cb":          true,
		"https://app.test/cb?tenant=1": true,
		"com.example.app:/cb":          true,
		// The port of a loopback address, and nothing else (RFC 8252, Section 7.3).
		"http://127.0.0.1/cb":           true,
		"http://127.0.0.1:1/cb":         true,
		"http://127.0.0.1:51004/cb":     true,
		"http://[::1]/cb?x=1":           true,
		"http://[::1]:65535/cb?x=1":     true,
		"http://127.0.0.1:0/cb":         false,
		"http://127.0.0.1:65536/cb":     false,
		"http://127.0.0.1:080/cb":       false,
		"http://127.0.0.1:/cb":          false,
		"http://127.0.0.1:1x/cb":        false,
		"http://127.0.0.1:51004/cb/":    false,
		"http://127.0.0.1:51004/cb?":    false,
		"http://127.0.0.1:51004":        false,
		"http://127.0.0.1:1@evil/cb":    false,
		"http://127.0.0.1@evil.test/cb": false,
		"http://127.0.0.1.evil.test/cb": false,
		"http://127.0.0.2/cb":           false,
		"http://127.1/cb":               false,
		"http://localhost/cb":           false,
		"http://localhost:51004/cb":     false,
		"http://[::1]:1/cb":             false, // without the query
		"http://[0:0:0:0:0:0:0:1]/cb":   false,
		"https://127.0.0.1:1/cb":        false,
		"HTTP://127.0.0.1/cb":           false,
		// Host.
		"https://app.test.evil.test/cb":     false,
		"https://evil.test/cb":              false,
		"https://app.test@evil.test/cb":     false,
		"https://app.test:443/cb":           false,
		"https://app.test:8443/cb":          false,
		"https://APP.TEST/cb":               false,
		"https://app.test./cb":              false,
		"https://evilapp.test/cb":           false,
		"https://app.test%2eevil.test/cb":   false,
		"https://app.test\\@evil.test/cb":   false,
		"https:/app.test/cb":                false,
		"//app.test/cb":                     false,
		"https:\\\\app.test/cb":             false,
		"https://app.test%00.evil.test/cb":  false,
		"https://app.test\x00.evil.test/cb": false,
		// Scheme.
		"http://app.test/cb":            false,
		"HTTPS://app.test/cb":           false,
		"javascript:alert(1)":           false,
		"data:text/html,x":              false,
		"javascript://app.test/cb%0aa":  false,
		"com.example.app://cb":          false,
		"com.example.app:/cb2":          false,
		"com.example.app.evil:/cb":      false,
		" https://app.test/cb":          false,
		"https://app.test/cb ":          false,
		"https://app.test/cb\n":         false,
		"https://app.test/cb\r\nX: y":   false,
		"https://app.test/cb\thttps://": false,
		// Path.
		"https://app.test/cb/":                 false,
		"https://app.test/CB":                  false,
		"https://app.test/cb/../open":          false,
		"https://app.test/cb/..%2fopen":        false,
		"https://app.test/%63b":                false,
		"https://app.test/./cb":                false,
		"https://app.test//cb":                 false,
		"https://app.test/cb;x":                false,
		"https://app.test/cbx":                 false,
		"https://app.test/":                    false,
		"https://app.test":                     false,
		"https://app.test/open?to=https://e/c": false,
		// Query and fragment.
		"https://app.test/cb?":                                false,
		"https://app.test/cb?tenant=2":                        false,
		"https://app.test/cb?tenant=1&x=1":                    false,
		"https://app.test/cb?TENANT=1":                        false,
		"https://app.test/cb#":                                false,
		"https://app.test/cb#x":                               false,
		"https://app.test/cb%23x":                             false,
		"":                                                    false,
		"https://app.test/cb https://evil.test/cb":            false,
		"https://app.test/cb,https://evil.test/cb":            false,
		"https://app.test/cb" + strings.Repeat("a", 1<<20):    false,
		"https://app.test/cb\u200b":                           false,
		"https://\u0430pp.test/cb":                            false,
		"https://app.test/cb?tenant=1&redirect=//evil.test/x": false,
	} {
		if got := authserver.MatchRedirect(registered, uri); got != want {
			t.Errorf("%.80q: %v", uri, got)
		}
	}
	// Not even if somebody has managed to register it.
	for _, uri := range []string{"https://app.test/cb#f", "https://app.test/c b", "https://app.test/cb\r\nSet-Cookie: a=b", "https://app.test\\cb", `https://app.test/"`} {
		if authserver.MatchRedirect([]string{uri}, uri) {
			t.Errorf("%q", uri)
		}
	}
}

func TestWithQuery(t *testing.T) {
	for uri, want := range map[string]string{
		"https://app.test/cb":       "https://app.test/cb?code=a+b%26&state=x",
		"https://app.test/cb?":      "https://app.test/cb?code=a+b%26&state=x",
		"https://app.test/cb?x=1":   "https://app.test/cb?x=1&code=a+b%26&state=x",
		"https://app.test/cb?x=1&":  "https://app.test/cb?x=1&code=a+b%26&state=x",
		"https://app.test/cb?x=a?b": "https://app.test/cb?x=a?b&code=a+b%26&state=x",
		"com.example.app:/cb":       "com.example.app:/cb?code=a+b%26&state=x",
	} {
		if got := authserver.WithQuery(uri, "code", "a b&", "state", "x"); got != want {
			t.Errorf("%s: %s", uri, got)
		}
	}
}

// FuzzRedirectURI looks for a URI that is accepted although it is none of the registered ones,
// nor one of them with another port.
func FuzzRedirectURI(f *testing.F) {
	for _, s := range []string{"https://app.test/cb", "http://127.0.0.1:1234/cb", "http://[::1]:1/cb?x=1", "http://127.0.0.1:1@evil/cb", "com.example.app:/cb"} {
		f.Add(s)
	}
	registered := []string{"https://app.test/cb", "http://127.0.0.1/cb", "http://[::1]:8080/cb?x=1", "com.example.app:/cb"}
	f.Fuzz(func(t *testing.T, uri string) {
		if !authserver.MatchRedirect(registered, uri) {
			return
		}
		for _, r := range registered {
			if uri == r {
				return
			}
		}
		u, err := url.Parse(uri)
		if err != nil || u.Scheme != "http" || u.User != nil || u.Fragment != "" {
			t.Fatalf("%q: %v", uri, err)
		}
		switch u.Hostname() {
		case "127.0.0.1":
			if u.RequestURI() != "/cb" {
				t.Errorf("%q", uri)
			}
		case "::1":
			if u.RequestURI() != "/cb?x=1" {
				t.Errorf("%q", uri)
			}
		default:
			t.Errorf("%q", uri)
		}
	})
}
