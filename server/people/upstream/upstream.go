// Package upstream is who the people are, for those who have an OpenID Provider already:
// the login is handed to it, and its ID token says who came back. It is an
// authserver.Login.
package upstream

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/certbound/certbound/authserver"
)

// Config says which provider, and who we are there.
type Config struct {
	// Issuer is the provider's. Required, https.
	Issuer string
	// ClientID is ours, at the provider. Required.
	ClientID string
	// ClientSecret is for client_secret_basic. If empty, the client authenticates with
	// the certificate of HTTPClient (tls_client_auth or self_signed_tls_client_auth),
	// at the provider's mtls_endpoint_aliases if it has them (RFC 8705, Section 5).
	ClientSecret string
	// RedirectURL is {issuer}/login/callback of our own server, as registered at the
	// provider. Required.
	RedirectURL string
	// Scopes are asked for beside openid. If nil, profile and email.
	Scopes []string
	// Claims are taken over from the ID token and from UserInfo. If nil, the standard
	// claims of the scopes profile, email, address and phone.
	Claims []string
	// SubjectClaim, if set, makes the person's subject in place of issuer and sub. It
	// must be a claim that is never given to anybody else; its value is used as it is.
	// With email or phone_number, the provider has to say that it has verified it.
	SubjectClaim string
	// HTTPClient is used for everything that goes to the provider. If nil, one with
	// time-outs.
	HTTPClient *http.Client
	// Timeout bounds all calls of one login. If zero, 15 seconds.
	Timeout time.Duration
	// Now returns the current time. If nil, time.Now.
	Now func() time.Time
}

// standardClaims are those of OpenID Connect Core, Section 5.4.
var standardClaims = strings.Fields(`name family_name given_name middle_name nickname preferred_username profile picture
	website gender birthdate zoneinfo locale updated_at email email_verified address phone_number phone_number_verified`)

// Login is an authserver.Login. It is safe for concurrent use.
type Login struct {
	cfg Config

	mu       sync.Mutex
	provider *provider
	asking   *discovery // under way, or nil
}

// A discovery is one attempt to learn about the provider, for all who wait for it.
type discovery struct {
	done     chan struct{}
	provider *provider
	err      error
}

// provenBy are the claims that say of others that the provider has verified them (OpenID
// Connect Core, Section 5.1).
var provenBy = map[string]string{"email": "email_verified", "phone_number": "phone_number_verified"}

// A provider is what discovery has found.
type provider struct {
	oauth    oauth2.Config
	verifier *oidc.IDTokenVerifier
	oidc     *oidc.Provider
	issParam bool // the provider names itself in the answer (RFC 9207)
}

// New returns a login. It does not connect: the provider may be down at the start, and is
// asked for its metadata at the first login that needs them.
func New(cfg Config) (*Login, error) {
	var errs []error
	for name, value := range map[string]string{"Issuer": cfg.Issuer, "RedirectURL": cfg.RedirectURL} {
		u, err := url.Parse(value)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.Fragment != "" {
			errs = append(errs, fmt.Errorf("upstream: %s: expected an https URL, found %q", name, value))
		}
	}
	if cfg.ClientID == "" {
		errs = append(errs, errors.New("upstream: ClientID: required"))
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 15 * time.Second
	}
	if cfg.Timeout < 0 {
		errs = append(errs, fmt.Errorf("upstream: Timeout: expected a positive time, found %v", cfg.Timeout))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if cfg.Scopes == nil {
		cfg.Scopes = []string{"profile", "email"}
	}
	if cfg.Claims == nil {
		cfg.Claims = standardClaims
	}
	client := http.Client{Timeout: cfg.Timeout}
	if cfg.HTTPClient != nil {
		client = *cfg.HTTPClient
	}
	client.Transport = limited{client.Transport}
	cfg.HTTPClient = &client
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Login{cfg: cfg}, nil
}

// discover returns the provider, and asks it if nobody has yet. Those who come while somebody
// is asking share the outcome, and do not ask one after the other. A failure is not
// remembered.
func (l *Login) discover(ctx context.Context) (*provider, error) {
	l.mu.Lock()
	if l.provider != nil {
		defer l.mu.Unlock()
		return l.provider, nil
	}
	d := l.asking
	if d == nil {
		d = &discovery{done: make(chan struct{})}
		l.asking = d
		go func() {
			defer close(d.done)
			d.provider, d.err = l.ask(context.WithoutCancel(ctx))
			l.mu.Lock()
			defer l.mu.Unlock()
			l.provider, l.asking = d.provider, nil
		}()
	}
	l.mu.Unlock()
	select {
	case <-d.done:
		return d.provider, d.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *Login) ask(ctx context.Context) (*provider, error) {
	// The provider keeps the context for its key set: the client is in it, no deadline.
	ask, cancel := context.WithTimeout(ctx, l.cfg.Timeout)
	defer cancel()
	p, err := oidc.NewProvider(oidc.ClientContext(ask, l.cfg.HTTPClient), l.cfg.Issuer)
	if err != nil {
		return nil, fmt.Errorf("upstream: discovery of %s: %w", l.cfg.Issuer, err)
	}
	var meta struct {
		JWKS    string            `json:"jwks_uri"`
		Algs    []string          `json:"id_token_signing_alg_values_supported"`
		Iss     bool              `json:"authorization_response_iss_parameter_supported"`
		Aliases map[string]string `json:"mtls_endpoint_aliases"`
	}
	if err := p.Claims(&meta); err != nil {
		return nil, fmt.Errorf("upstream: metadata of %s: %w", l.cfg.Issuer, err)
	}
	// Asymmetric algorithms only: a client secret is no key that a token could rest on.
	meta.Algs = slices.DeleteFunc(meta.Algs, func(alg string) bool {
		return !slices.Contains([]string{"ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "RS256", "EdDSA"}, alg)
	})
	if len(meta.Algs) == 0 {
		meta.Algs = []string{"RS256"}
	}
	endpoint := p.Endpoint()
	endpoint.AuthStyle = oauth2.AuthStyleInHeader
	info := p.UserInfoEndpoint()
	if l.cfg.ClientSecret == "" {
		endpoint.AuthStyle = oauth2.AuthStyleInParams // client_id alone, beside the certificate
		// UserInfo is a resource: a token that is bound to the certificate needs it there too.
		for name, endpoint := range map[string]*string{"token_endpoint": &endpoint.TokenURL, "userinfo_endpoint": &info} {
			switch alias := meta.Aliases[name]; {
			case alias == "" || *endpoint == "":
			case !strings.HasPrefix(alias, "https://"):
				return nil, fmt.Errorf("upstream: metadata of %s: mtls_endpoint_aliases: expected https, found %q", l.cfg.Issuer, clip(alias))
			default:
				*endpoint = alias
			}
		}
	}
	userInfo := (&oidc.ProviderConfig{IssuerURL: l.cfg.Issuer, UserInfoURL: info, JWKSURL: meta.JWKS, Algorithms: meta.Algs}).
		NewProvider(oidc.ClientContext(context.Background(), l.cfg.HTTPClient))
	keys := oidc.NewRemoteKeySet(oidc.ClientContext(context.Background(), l.cfg.HTTPClient), meta.JWKS)
	return &provider{
		oauth: oauth2.Config{
			ClientID: l.cfg.ClientID, ClientSecret: l.cfg.ClientSecret, Endpoint: endpoint,
			RedirectURL: l.cfg.RedirectURL, Scopes: append([]string{oidc.ScopeOpenID}, l.cfg.Scopes...),
		},
		verifier: oidc.NewVerifier(l.cfg.Issuer, keys, &oidc.Config{ClientID: l.cfg.ClientID, SupportedSigningAlgs: meta.Algs, Now: l.cfg.Now}),
		oidc:     userInfo,
		issParam: meta.Iss,
	}, nil
}

// A state is kept with the request while the browser is away.
type state struct {
	Secret   string `json:"secret"` // the second half of the parameter state
	Nonce    string `json:"nonce"`
	Verifier string `json:"verifier"`
	// NotBefore is the earliest login that counts, in seconds since 1970, or 0.
	NotBefore int64 `json:"not_before,omitempty"`
}

// clockSkew is how far the provider's clock may be behind ours.
const clockSkew = time.Minute

func random() string {
	var b [32]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// ServeLogin implements authserver.Login.
func (l *Login) ServeLogin(w http.ResponseWriter, r *http.Request, a *authserver.LoginAttempt) {
	switch a.Path {
	case "":
		l.leave(w, r, a)
	case "/callback":
		l.back(w, r, a)
	default:
		a.Fail(w, r, "invalid_request", errors.New("upstream: there is no such page"))
	}
}

// leave sends the browser to the provider.
func (l *Login) leave(w http.ResponseWriter, r *http.Request, a *authserver.LoginAttempt) {
	p, err := l.discover(r.Context())
	if err != nil {
		a.Fail(w, r, "temporarily_unavailable", err)
		return
	}
	s := state{Secret: random(), Nonce: random(), Verifier: oauth2.GenerateVerifier()}
	again := a.Subject != "" || slices.Contains(a.Prompt, "login")
	switch now := l.cfg.Now().Add(-clockSkew); {
	case again:
		s.NotBefore = now.Unix()
	case a.MaxAge != nil:
		s.NotBefore = now.Unix() - *a.MaxAge
	}
	kept, _ := json.Marshal(s) // strings always encode
	if err := a.Keep(r, kept); err != nil {
		a.Fail(w, r, "temporarily_unavailable", err)
		return
	}
	opts := []oauth2.AuthCodeOption{oidc.Nonce(s.Nonce), oauth2.S256ChallengeOption(s.Verifier)}
	param := func(name, value string) {
		if value != "" {
			opts = append(opts, oauth2.SetAuthURLParam(name, value))
		}
	}
	if a.MaxAge != nil && !again {
		param("max_age", strconv.FormatInt(*a.MaxAge, 10))
	}
	if again {
		param("prompt", "login")
		param("max_age", "0")
	} else if slices.Contains(a.Prompt, "select_account") {
		param("prompt", "select_account")
	}
	param("login_hint", a.Hint)
	param("acr_values", strings.Join(a.ACR, " "))
	param("ui_locales", strings.Join(a.Locales, " "))
	http.Redirect(w, r, p.oauth.AuthCodeURL(a.Reference+"."+s.Secret, opts...), http.StatusSeeOther)
}

// back takes the provider's answer.
func (l *Login) back(w http.ResponseWriter, r *http.Request, a *authserver.LoginAttempt) {
	var s state
	if len(a.State) == 0 || json.Unmarshal(a.State, &s) != nil || s.Secret == "" {
		a.Fail(w, r, "invalid_request", errors.New("upstream: an answer that nobody has asked for, or that came before"))
		return
	}
	q := r.URL.Query()
	one := func(name string) string {
		if v := q[name]; len(v) == 1 {
			return v[0]
		}
		return ""
	}
	_, secret, _ := strings.Cut(one("state"), ".")
	if subtle.ConstantTimeCompare([]byte(secret), []byte(s.Secret)) != 1 {
		a.Fail(w, r, "invalid_request", errors.New("upstream: state: expected that of this browser's login, found another"))
		return
	}
	// Whatever follows, this answer is used up.
	if err := a.Keep(r, json.RawMessage("null")); err != nil {
		a.Fail(w, r, "temporarily_unavailable", err)
		return
	}
	p, err := l.discover(r.Context())
	if err != nil {
		a.Fail(w, r, "temporarily_unavailable", err)
		return
	}
	switch iss := one("iss"); {
	case iss != "" && iss != l.cfg.Issuer, iss == "" && p.issParam: // mix-up (RFC 9207, Section 2.4)
		a.Fail(w, r, "server_error", fmt.Errorf("upstream: iss: expected %q, found %q", l.cfg.Issuer, clip(iss)))
		return
	}
	switch code := one("error"); {
	case code == "access_denied":
		a.Deny(w, r)
		return
	case code != "":
		a.Fail(w, r, upstreamCode(code), fmt.Errorf("upstream: the provider answered %q", clip(code)))
		return
	}
	ctx, cancel := context.WithTimeout(oidc.ClientContext(r.Context(), l.cfg.HTTPClient), l.cfg.Timeout)
	defer cancel()
	who, err := l.identify(ctx, p, one("code"), s)
	if err != nil {
		a.Fail(w, r, "server_error", err)
		return
	}
	// Providers may ignore what they are asked: a login of this morning is none of now
	// (OpenID Connect Core, Section 3.1.3.7 (13)).
	if s.NotBefore > 0 && who.Time.Unix() < s.NotBefore {
		found := "none"
		if !who.Time.IsZero() {
			found = who.Time.UTC().Format(time.RFC3339)
		}
		a.Fail(w, r, "login_required", fmt.Errorf("upstream: id_token: auth_time: expected a login since %s, as max_age asked for, found %s",
			time.Unix(s.NotBefore, 0).UTC().Format(time.RFC3339), found))
		return
	}
	if a.Subject != "" && a.Subject != who.Subject {
		a.Fail(w, r, "login_required", errors.New("upstream: somebody else has logged in than who had to"))
		return
	}
	a.Done(w, r, who)
}

// upstreamCode passes on what the client can act upon.
func upstreamCode(code string) string {
	switch code {
	case "login_required", "interaction_required", "account_selection_required", "temporarily_unavailable":
		return code
	}
	return "server_error"
}

// identify redeems the code and says who the ID token names.
func (l *Login) identify(ctx context.Context, p *provider, code string, s state) (authserver.Authenticated, error) {
	var none authserver.Authenticated
	if code == "" {
		return none, errors.New("upstream: expected one code, found none or several")
	}
	token, err := p.oauth.Exchange(ctx, code, oauth2.VerifierOption(s.Verifier))
	if err != nil {
		if re, ok := errors.AsType[*oauth2.RetrieveError](err); ok { // whose text has the whole answer
			return none, fmt.Errorf("upstream: token endpoint: status %d, error %q", re.Response.StatusCode, clip(re.ErrorCode))
		}
		return none, fmt.Errorf("upstream: token endpoint: %w", err)
	}
	raw, ok := token.Extra("id_token").(string)
	if !ok {
		return none, errors.New("upstream: token endpoint: expected an id_token, found none")
	}
	id, err := p.verifier.Verify(ctx, raw)
	if err != nil {
		return none, fmt.Errorf("upstream: id_token: %w", err)
	}
	if subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(s.Nonce)) != 1 {
		return none, errors.New("upstream: id_token: expected the nonce of this login, found another")
	}
	all := map[string]json.RawMessage{}
	if err := id.Claims(&all); err != nil {
		return none, fmt.Errorf("upstream: id_token: %w", err)
	}
	if p.oidc.UserInfoEndpoint() != "" && slices.ContainsFunc(l.cfg.Claims, func(c string) bool { return all[c] == nil }) {
		info, err := p.oidc.UserInfo(ctx, oauth2.StaticTokenSource(token))
		if err != nil {
			return none, fmt.Errorf("upstream: userinfo: %w", err)
		}
		if info.Subject != id.Subject { // OpenID Connect Core, Section 5.3.2
			return none, errors.New("upstream: userinfo: expected the sub of the ID token, found another")
		}
		more := map[string]json.RawMessage{}
		if err := info.Claims(&more); err != nil {
			return none, fmt.Errorf("upstream: userinfo: %w", err)
		}
		for name, value := range more {
			if all[name] == nil {
				all[name] = value
			}
		}
	}
	who := authserver.Authenticated{Subject: l.subject(id.Issuer, id.Subject), Claims: map[string]json.RawMessage{}}
	if l.cfg.SubjectClaim != "" {
		who.Subject = ""
		if json.Unmarshal(all[l.cfg.SubjectClaim], &who.Subject) != nil || who.Subject == "" {
			return none, fmt.Errorf("upstream: id_token: expected a string in the claim %s, found none", l.cfg.SubjectClaim)
		}
		// Anybody can type an address or a number; it is theirs when the provider says so.
		if proof, ok := provenBy[l.cfg.SubjectClaim]; ok {
			if v := string(all[proof]); v != "true" && v != `"true"` { // some send texts
				return none, fmt.Errorf("upstream: id_token: expected %s true beside %s, which names the person here, found none", proof, l.cfg.SubjectClaim)
			}
		}
	}
	var auth struct {
		Time int64    `json:"auth_time"`
		ACR  string   `json:"acr"`
		AMR  []string `json:"amr"`
	}
	if err := id.Claims(&auth); err != nil {
		return none, fmt.Errorf("upstream: id_token: %w", err)
	}
	who.ACR, who.AMR = auth.ACR, auth.AMR
	if auth.Time > 0 && !time.Unix(auth.Time, 0).After(l.cfg.Now()) {
		who.Time = time.Unix(auth.Time, 0)
	}
	for _, name := range l.cfg.Claims {
		if v := all[name]; v != nil && name != "sub" {
			who.Claims[name] = v
		}
	}
	return who, nil
}

// subject names a person of the provider for ever: the same sub of another issuer is
// another person, and it says nothing of the one at the provider.
func (l *Login) subject(issuer, sub string) string {
	sum := sha256.Sum256([]byte(issuer + "\x00" + sub))
	return "u-" + base64.RawURLEncoding.EncodeToString(sum[:24])
}

func clip(s string) string {
	if len(s) > 64 {
		s = strings.ToValidUTF8(s[:64], "")
	}
	return s
}

// maxAnswer bounds an answer of the provider, in bytes.
const maxAnswer = 1 << 20

// limited is a transport whose answers end early, with an error, if they are too large.
type limited struct{ next http.RoundTripper }

func (t limited) RoundTrip(r *http.Request) (*http.Response, error) {
	next := t.next
	if next == nil {
		next = http.DefaultTransport
	}
	res, err := next.RoundTrip(r)
	if err == nil {
		res.Body = http.MaxBytesReader(nil, res.Body, maxAnswer)
	}
	return res, err
}
