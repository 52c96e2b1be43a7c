// Package pages renders what people see of an authorization server: login, consent,
// errors, logout. The pages are plain HTML that works without JavaScript; element ids
// are stable, and a folder of the operator's can replace any of the files.
package pages

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
)

//go:embed templates
var builtin embed.FS

// The files of a set. Each page is the layout around a body; the style and the one
// script are inlined, so that a page is one request.
const (
	fileLayout   = "layout.html"
	fileStyle    = "style.css"
	fileScript   = "form_post.js"
	maxFile      = 256 << 10
	pageLogin    = "login.html"
	pageConsent  = "consent.html"
	pageError    = "error.html"
	pageLogout   = "logout.html"
	pageFormPost = "form_post.html"
)

// Files returns the names of the files that a folder may hold, in alphabetical order.
func Files() []string {
	entries, _ := fs.ReadDir(builtin, "templates") // embedded: cannot fail
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names
}

// File returns a built-in file, for operators to begin with, or an error for a name
// that is not one of [Files].
func File(name string) ([]byte, error) { return builtin.ReadFile("templates/" + name) }

// A Set is the pages in use. It is immutable and safe for concurrent use. The zero
// value is not usable; see [Default] and [Load].
type Set struct {
	title                 string
	pages                 map[string]*template.Template
	style                 template.CSS
	script                template.JS
	styleHash, scriptHash string // sources of a content security policy
}

// Default returns the built-in pages.
var Default = sync.OnceValue(func() *Set {
	s, err := Load(nil, "")
	if err != nil {
		panic(err) // a test loads them
	}
	return s
})

// Load returns the built-in pages with those of folder in place of the ones with the
// same name. title, the name of the operator, stands on each page; it may be empty. A nil folder replaces
// nothing. A file that is not one of [Files], that is larger than 256 KiB, does not
// parse, or cannot show each kind of page is an error that names it: what a person
// would stumble on stops the start.
func Load(folder fs.FS, title string) (*Set, error) {
	files := make(map[string]string)
	for _, name := range Files() {
		data, err := File(name)
		if err != nil {
			return nil, fmt.Errorf("pages: %s: %w", name, err)
		}
		files[name] = string(data)
	}
	if folder != nil {
		entries, err := fs.ReadDir(folder, ".")
		if err != nil {
			return nil, fmt.Errorf("pages: the folder of templates: %w", err)
		}
		for _, e := range entries {
			name := e.Name()
			if strings.HasPrefix(name, ".") {
				continue
			}
			if _, ok := files[name]; !ok {
				return nil, fmt.Errorf("pages: %s: expected one of %s", name, strings.Join(Files(), ", "))
			}
			info, err := fs.Stat(folder, name)
			if err == nil && info.Size() > maxFile {
				err = fmt.Errorf("expected at most %d bytes, found %d", maxFile, info.Size())
			}
			var data []byte
			if err == nil {
				data, err = fs.ReadFile(folder, name)
			}
			if err != nil {
				return nil, fmt.Errorf("pages: %s: %w", name, err)
			}
			files[name] = string(data)
		}
	}
	s := &Set{
		title: title, pages: make(map[string]*template.Template),
		style: template.CSS(files[fileStyle]), script: template.JS(files[fileScript]),
		styleHash: source(files[fileStyle]), scriptHash: source(files[fileScript]),
	}
	// An end tag would end the element early, and the hash would not fit.
	if strings.Contains(strings.ToLower(files[fileStyle]), "</style") || strings.Contains(strings.ToLower(files[fileScript]), "</script") {
		return nil, errors.New("pages: style.css and form_post.js must not contain an end tag")
	}
	for _, name := range []string{pageLogin, pageConsent, pageError, pageLogout, pageFormPost} {
		t, err := template.New(fileLayout).Option("missingkey=error").Parse(files[fileLayout])
		if err == nil {
			_, err = t.New(name).Parse(files[name])
		}
		if err != nil {
			return nil, fmt.Errorf("pages: %s: %w", name, err)
		}
		s.pages[name] = t
	}
	for name, samples := range samples() {
		for _, data := range samples {
			if _, err := s.render(name, data); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

func source(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// samples has each page in each of its states, to try templates with.
func samples() map[string][]any {
	client := Client{ID: "id", Name: "A client", URI: "https://client.example", Logo: "https://client.example/logo.png",
		Policy: "https://client.example/policy", Terms: "https://client.example/terms", RedirectURI: "https://client.example/cb", Dynamic: true}
	return map[string][]any{
		pageLogin: {Login{}, Login{Action: "/login", CSRF: "t", Client: client, Name: "n", Fault: "f"}},
		pageConsent: {Consent{}, Consent{Action: "/consent", CSRF: "t", Client: client, Person: "p", Switch: "/login",
			Scopes: []Scope{{"openid", "text", true}, {"other", "", false}}, Resources: []string{"https://rs.example"}}},
		pageError:    {Error{}, Error{Code: "c", Title: "t", Text: "t", Advice: "a", RequestID: "r"}},
		pageLogout:   {Logout{}, Logout{Action: "/logout", CSRF: "t", Person: "p"}, Logout{Back: "https://client.example"}},
		pageFormPost: {FormPost{Action: "https://client.example/cb", Fields: []Field{{"code", "c"}}}},
	}
}

// view is what a template sees: {{.Title}}, {{.Style}}, {{.Script}}, and the data of the
// page as {{.Page}}.
type view struct {
	Title  string
	Style  template.CSS
	Script template.JS
	Page   any
}

func (s *Set) render(name string, data any) ([]byte, error) {
	var b bytes.Buffer
	if err := s.pages[name].Execute(&b, view{s.title, s.style, s.script, data}); err != nil {
		return nil, fmt.Errorf("pages: %s: %w", name, err)
	}
	return b.Bytes(), nil
}

// A policy is what a page needs beside the default of nothing.
type policy struct {
	forms  []string // form-action
	image  string
	script bool
}

// write answers with a page. An error is one of the template, or of the connection; in
// the first case nothing has been written.
func (s *Set) write(w http.ResponseWriter, status int, name string, data any, p policy) error {
	body, err := s.render(name, data)
	if err != nil {
		return err
	}
	csp := "default-src 'none'; style-src " + s.styleHash
	if p.script {
		csp += "; script-src " + s.scriptHash
	}
	if p.image != "" {
		csp += "; img-src " + p.image
	}
	forms := "'none'"
	if len(p.forms) > 0 {
		forms = strings.Join(p.forms, " ")
	}
	csp += "; form-action " + forms + "; frame-ancestors 'none'; base-uri 'none'"
	h := w.Header()
	h.Set("Content-Security-Policy", csp)
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, err = w.Write(body)
	return err
}

// Login writes the login page.
func (s *Set) Login(w http.ResponseWriter, status int, d Login) error {
	return s.write(w, status, pageLogin, d, policy{forms: d.Client.forms(), image: d.Client.image()})
}

// Consent writes the consent page.
func (s *Set) Consent(w http.ResponseWriter, status int, d Consent) error {
	return s.write(w, status, pageConsent, d, policy{forms: d.Client.forms(), image: d.Client.image()})
}

// Error writes an error page.
func (s *Set) Error(w http.ResponseWriter, status int, d Error) error {
	return s.write(w, status, pageError, d, policy{})
}

// Logout writes the question whether to log out, or the statement that it is done.
func (s *Set) Logout(w http.ResponseWriter, status int, d Logout) error {
	p := policy{}
	if d.Action != "" {
		p.forms = []string{"'self'"}
		if back := Source(d.Back); back != "" {
			p.forms = append(p.forms, back)
		}
	}
	return s.write(w, status, pageLogout, d, p)
}

// FormPost writes the page that brings an authorization response to the client.
func (s *Set) FormPost(w http.ResponseWriter, status int, d FormPost) error {
	return s.write(w, status, pageFormPost, d, policy{forms: []string{Source(d.Action)}, script: true})
}

// forms returns where the form of a page may lead: to us and, since browsers apply
// form-action to redirects too, to the client.
func (c Client) forms() []string {
	out := []string{"'self'"}
	if s := Source(c.RedirectURI); s != "" {
		out = append(out, s)
	}
	return out
}

// image returns the source of the logo. What a client says of itself is not loaded.
func (c Client) image() string {
	if !c.ShowLogo() {
		return ""
	}
	return Source(c.Logo)
}

// ShowLogo reports whether the page shows the logo of the client: it does if the
// operator has registered the client, and the logo is behind https.
func (c Client) ShowLogo() bool {
	return !c.Dynamic && strings.HasPrefix(c.Logo, "https://") && Source(c.Logo) != ""
}

// RedirectHost returns the host that the person is sent back to, or the scheme of an app.
func (c Client) RedirectHost() string {
	u, err := url.Parse(c.RedirectURI)
	switch {
	case err != nil || u.Scheme == "":
		return ""
	case u.Host == "":
		return u.Scheme
	}
	return u.Hostname()
}

// Source returns the source expression (Content Security Policy, Section 2.3.1) of a
// URL: scheme and host, or the scheme for one without a host. It is empty for what is
// no URL, or could break out of the policy.
func Source(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Scheme == "" || strings.ContainsFunc(u.Host, func(r rune) bool {
		return r > 0x7e || !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || slices.Contains([]rune("-._:[]"), r))
	}) {
		return ""
	}
	if u.Host == "" {
		return u.Scheme + ":"
	}
	if strings.Contains(u.Host, "[") {
		// A source expression has no form for IPv6 literals; the scheme is the nearest.
		return u.Scheme + ":"
	}
	return u.Scheme + "://" + u.Host
}
