package config

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/authserver/pages"
	"github.com/certbound/certbound/server/people/upstream"
)

// Kinds of people.login.
const (
	LoginAccounts = "accounts"
	LoginUpstream = "upstream"
	LoginHookKind = "hook"
)

// authorization returns the settings of the flows with a person in them. The caller sets
// Login: it needs the store.
func (f *File) authorization() authserver.Authorization {
	p := &f.People
	if !p.Enabled {
		return authserver.Authorization{}
	}
	a := authserver.Authorization{
		Enabled: true, Login: noLogin{},
		RequirePAR: p.RequirePAR, RequireSignedRequests: p.RequireSignedRequests,
		RequestLifetime: time.Duration(p.RequestLifetime), FlowLifetime: time.Duration(p.FlowLifetime), CodeLifetime: time.Duration(p.CodeLifetime),
		SessionIdle: time.Duration(p.SessionIdle), SessionLifetime: time.Duration(p.SessionLifetime),
		ConsentLifetime: orNever(p.ConsentLifetime), ACRValues: p.ACRValues,
		Refresh: authserver.RefreshPolicy{
			Idle: time.Duration(p.RefreshTokens.Idle), Lifetime: time.Duration(p.RefreshTokens.Lifetime),
			Rotate: p.RefreshTokens.Rotate, RotateAll: p.RefreshTokens.RotateAll, Grace: orNever(p.RefreshTokens.Grace),
			PinSecretClients: p.RefreshTokens.PinSecretClients,
		},
		ScopeTexts: make(map[string]string, len(p.ScopeTexts)),
	}
	for _, t := range p.ScopeTexts {
		a.ScopeTexts[t.Scope] = t.Text
	}
	return a
}

// noLogin stands in for a login where nobody is served.
type noLogin struct{}

func (noLogin) ServeLogin(w http.ResponseWriter, r *http.Request, a *authserver.LoginAttempt) {
	a.Fail(w, r, "server_error", errors.New("config: no login was set"))
}

// Pages returns the pages of the file: the built-in ones, with those of its folder.
func (f *File) Pages() (*pages.Set, error) {
	if f.People.Templates == "" {
		return pages.Load(nil, f.People.Title)
	}
	return pages.Load(os.DirFS(f.Path(f.People.Templates)), f.People.Title)
}

// Upstream returns the settings of the OpenID Provider that logs people in.
func (f *File) Upstream() (upstream.Config, error) {
	u := &f.People.Upstream
	cfg := upstream.Config{
		Issuer: u.Issuer, ClientID: u.ClientID, ClientSecret: string(u.ClientSecret),
		RedirectURL: strings.TrimSuffix(f.Issuer, "/") + "/login/callback",
		Scopes:      u.Scopes, SubjectClaim: u.SubjectClaim,
	}
	roots, err := f.pool("people.upstream.root_cas", u.RootCAs)
	if err != nil {
		return cfg, err
	}
	conf := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	if u.Certificate != "" {
		pair, err := tls.LoadX509KeyPair(f.Path(u.Certificate), f.Path(u.Key))
		if err != nil {
			return cfg, fmt.Errorf("config: people.upstream.certificate: %w", err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = conf
	cfg.HTTPClient = &http.Client{Transport: transport, Timeout: 10 * time.Second}
	return cfg, nil
}

// people reports what is wrong with the section people, beside the rules of the
// authorization server itself.
func (c *checker) people() {
	p := &c.file.People
	if !p.Enabled {
		return
	}
	https := func(key, value string) {
		if u, err := url.Parse(value); value == "" {
			c.fault(key, "set it", "is missing")
		} else if err != nil || u.Scheme != "https" || u.Host == "" || u.Fragment != "" {
			c.fault(key, "write it as https://host/path", "%q is not an https URL without fragment", value)
		}
	}
	switch p.Login {
	case "":
		c.fault("people.login", "choose accounts, upstream or hook", "is missing, and somebody has to say who the person is")
	case LoginUpstream:
		u := &p.Upstream
		https("people.upstream.issuer", u.Issuer)
		if u.ClientID == "" {
			c.fault("people.upstream.client_id", "set it to the client_id that the provider has given", "is missing")
		}
		switch secret, cert := u.ClientSecret != "", u.Certificate != "" || u.Key != ""; {
		case secret == cert:
			c.fault("people.upstream.client_secret", "set it, or certificate and key, and not both", "expected one of client_secret and certificate with key")
		case cert && (u.Certificate == "" || u.Key == ""):
			c.fault("people.upstream.certificate", "set both", "certificate and key belong together")
		default:
			if _, err := c.file.Upstream(); err != nil {
				c.fault("people.upstream", "name files that can be read", "%v", err)
			}
		}
	case LoginHookKind:
		https("people.hook.url", p.Hook.URL)
		if p.Hook.ClientID == "" {
			c.fault("people.hook.client_id", "set it to the client of the login application", "is missing")
		}
	}
	for _, t := range p.ScopeTexts {
		if !slices.Contains(c.file.Tokens.Scopes, t.Scope) {
			c.fault("people.scope_texts", "add it to tokens.scopes, or remove the text", "the server has no scope %q", t.Scope)
		}
	}
	if _, err := c.file.Pages(); err != nil {
		c.fault("people.templates", "begin with what 'certbound config pages DIR' writes", "%v", err)
	}
}
