package pages

import (
	"flag"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
)

var update = flag.Bool("update", false, "write the golden files")

// pagesOf has a page of each kind, as people see it.
func pagesOf(s *Set) map[string]func(*httptest.ResponseRecorder) error {
	client := Client{ID: "shop-1", Name: "Example Shop", URI: "https://shop.example", Policy: "https://shop.example/privacy",
		Logo: "https://shop.example/logo.png", RedirectURI: "https://shop.example/cb"}
	dynamic := client
	dynamic.Dynamic = true
	return map[string]func(*httptest.ResponseRecorder) error{
		"login": func(w *httptest.ResponseRecorder) error {
			return s.Login(w, 200, Login{Action: "/login?flow=f", CSRF: "token", Client: client})
		},
		"login_fault": func(w *httptest.ResponseRecorder) error {
			return s.Login(w, 401, Login{Action: "/login?flow=f", CSRF: "token", Client: client, Name: "ann", Fault: "Name and password do not fit."})
		},
		"consent": func(w *httptest.ResponseRecorder) error {
			return s.Consent(w, 200, Consent{Action: "/consent?flow=f", CSRF: "token", Client: dynamic, Person: "ann", Switch: "/login?flow=f",
				Scopes: []Scope{{"openid", "Know that it is you", false}, {"accounts", "", true}}, Resources: []string{"https://api.example"}})
		},
		"error": func(w *httptest.ResponseRecorder) error {
			return s.Error(w, 400, Error{Code: "invalid_request", Title: "This link has expired", Text: "It was not used in time.",
				Advice: "Go back to the application and begin again.", RequestID: "0123456789abcdef"})
		},
		"logout": func(w *httptest.ResponseRecorder) error {
			return s.Logout(w, 200, Logout{Action: "/logout", CSRF: "token", Person: "ann"})
		},
		"logged_out": func(w *httptest.ResponseRecorder) error {
			return s.Logout(w, 200, Logout{Back: "https://shop.example/bye"})
		},
		"form_post": func(w *httptest.ResponseRecorder) error {
			return s.FormPost(w, 200, FormPost{Action: "https://shop.example/cb", Fields: []Field{{"code", "c"}, {"iss", "https://as.example"}, {"state", `"><b>`}}})
		},
	}
}

func TestPages(t *testing.T) {
	for name, write := range pagesOf(Default()) {
		t.Run(name, func(t *testing.T) {
			w := httptest.NewRecorder()
			if err := write(w); err != nil {
				t.Fatal(err)
			}
			got := "Content-Security-Policy: " + w.Header().Get("Content-Security-Policy") + "\n\n" + w.Body.String()
			got = regexp.MustCompile(`(?s)<style>.*</style>`).ReplaceAllString(got, "<style></style>")
			got = regexp.MustCompile(`'sha256-[^']*'`).ReplaceAllString(got, "'sha256-…'")
			file := filepath.Join("testdata", name+".golden")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// Each page can be framed by nobody, is kept by no cache, sends no Referer, and runs
// exactly the style and the script that its policy names.
func TestPolicy(t *testing.T) {
	for name, write := range pagesOf(Default()) {
		w := httptest.NewRecorder()
		if err := write(w); err != nil {
			t.Fatal(err)
		}
		h, body := w.Header(), w.Body.String()
		csp := h.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action "} {
			if !strings.Contains(csp, want) {
				t.Errorf("%s: policy %q without %s", name, csp, want)
			}
		}
		if h.Get("X-Frame-Options") != "DENY" || h.Get("Cache-Control") != "no-store" || h.Get("Referrer-Policy") != "no-referrer" || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %v", name, h)
		}
		for _, inline := range regexp.MustCompile(`(?s)<(style|script)>(.*?)</`).FindAllStringSubmatch(body, -1) {
			if !strings.Contains(csp, inline[1]+"-src "+source(inline[2])) {
				t.Errorf("%s: the policy %q does not allow the %s of the page", name, csp, inline[1])
			}
		}
		if regexp.MustCompile(`\s(on[a-z]+|style)=`).MatchString(body) {
			t.Errorf("%s: an attribute that the policy forbids", name)
		}
		if scripted := strings.Contains(body, "<script"); scripted != (name == "form_post") {
			t.Errorf("%s: script: %v", name, scripted)
		}
	}
}

// What a client or a person wrote is text on the page, whatever it is.
func TestHostileText(t *testing.T) {
	const evil = `"><script>alert(1)</script><img src=x onerror=alert(1)>`
	client := Client{ID: evil, Name: evil, URI: "javascript:alert(1)", Policy: "data:text/html,x", Terms: evil, Logo: "https://a.example/" + evil, RedirectURI: "https://a.example/" + evil}
	s := Default()
	for name, write := range map[string]func(*httptest.ResponseRecorder) error{
		"login": func(w *httptest.ResponseRecorder) error {
			return s.Login(w, 200, Login{Action: "/login", CSRF: evil, Client: client, Name: evil, Fault: evil})
		},
		"consent": func(w *httptest.ResponseRecorder) error {
			return s.Consent(w, 200, Consent{Action: "/consent", CSRF: evil, Client: client, Person: evil, Switch: "javascript:alert(1)",
				Scopes: []Scope{{evil, evil, true}}, Resources: []string{evil}})
		},
		"error": func(w *httptest.ResponseRecorder) error {
			return s.Error(w, 400, Error{evil, evil, evil, evil, evil})
		},
		"logout": func(w *httptest.ResponseRecorder) error { return s.Logout(w, 200, Logout{Back: "javascript:alert(1)"}) },
		"form": func(w *httptest.ResponseRecorder) error {
			return s.FormPost(w, 200, FormPost{Action: "javascript:alert(1)", Fields: []Field{{evil, evil}}})
		},
	} {
		w := httptest.NewRecorder()
		if err := write(w); err != nil {
			t.Fatal(err)
		}
		body := w.Body.String()
		if strings.Contains(body, "<script>alert") || strings.Contains(body, "<img src=x") || strings.Contains(body, "javascript:alert") || strings.Contains(body, `"data:text`) {
			t.Errorf("%s: %s", name, body)
		}
		if csp := w.Header().Get("Content-Security-Policy"); strings.ContainsAny(csp, "\"<>\r\n") {
			t.Errorf("%s: %q", name, csp)
		}
	}
}

func TestLoad(t *testing.T) {
	t.Run("replaced", func(t *testing.T) {
		s, err := Load(fstest.MapFS{
			"login.html": {Data: []byte(`{{define "title"}}Anmelden{{end}}{{define "body"}}<h1>Anmelden</h1>{{end}}`)},
			"style.css":  {Data: []byte("main { color: red }")},
			".gitignore": {Data: []byte("x")},
		}, "Agora Bank")
		if err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		if err := s.Login(w, 200, Login{}); err != nil {
			t.Fatal(err)
		}
		if b := w.Body.String(); !strings.Contains(b, "<h1>Anmelden</h1>") || !strings.Contains(b, "Anmelden · Agora Bank") || !strings.Contains(b, "color: red") {
			t.Errorf("%s", b)
		}
		if !strings.Contains(w.Header().Get("Content-Security-Policy"), source("main { color: red }")) {
			t.Error("the policy does not name the style")
		}
		w = httptest.NewRecorder()
		if err := s.Error(w, 400, Error{Text: "t"}); err != nil || !strings.Contains(w.Body.String(), `id="text"`) {
			t.Errorf("the page that was not replaced: %v %s", err, w.Body)
		}
	})
	for _, tc := range []struct {
		name string
		file string
		data string
	}{
		{"a name with a typing error", "logn.html", "x"},
		{"a template that does not parse", "login.html", `{{define "body"}}{{if}}`},
		{"a member that is not there", "consent.html", `{{define "body"}}{{.Page.Scope}}{{end}}`},
		{"an end tag in the style", "style.css", "main{}</style><script>x</script>"},
		{"too large", "style.css", strings.Repeat("a", maxFile+1)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, err := Load(fstest.MapFS{tc.file: {Data: []byte(tc.data)}}, "")
			if err == nil || s != nil || !strings.Contains(err.Error(), tc.file) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestSource(t *testing.T) {
	for in, want := range map[string]string{
		"https://a.example/x?y#z":      "https://a.example",
		"https://a.example:8443/x":     "https://a.example:8443",
		"http://127.0.0.1:5000/cb":     "http://127.0.0.1:5000",
		"http://[::1]:5000/cb":         "http:",
		"com.example.app:/cb":          "com.example.app:",
		"https://a.example;script-src": "",
		"https://a'b.example":          "",
		"/relative":                    "",
		"":                             "",
	} {
		if got := Source(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// FuzzSource: whatever the URL, the source has no character that ends a directive.
func FuzzSource(f *testing.F) {
	for _, s := range []string{"https://a.example", "a:b", "https://[::1]:1/", "https://a;b", "https://a%3bb/", "https://a b/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		if out := Source(in); strings.ContainsAny(out, " ;,'\"\r\n\t") {
			t.Errorf("%q: %q", in, out)
		}
	})
}

func BenchmarkConsent(b *testing.B) {
	write := pagesOf(Default())["consent"]
	b.ReportAllocs()
	for b.Loop() {
		if err := write(httptest.NewRecorder()); err != nil {
			b.Fatal(err)
		}
	}
}
