package oauthclient

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/certbound/certbound/internal/metadata"
)

const (
	scopeOpenID   = "openid"
	maxRequestURI = 2048
	maxCode       = 4096
)

var (
	// ErrResponseIssuer reports an answer of the authorization endpoint that is not, or
	// not provably, from the issuer (RFC 9207, Section 2.4): somebody may be mixing up
	// two servers. Nothing of the answer was sent anywhere.
	ErrResponseIssuer = errors.New("oauthclient: authorization response is not from the expected issuer")
	// ErrResponse reports an answer of the authorization endpoint that cannot be used.
	// Nothing of it was sent anywhere.
	ErrResponse = errors.New("oauthclient: authorization response cannot be used")
	// ErrNotPushed reports a server without pushed authorization requests, although
	// FAPI2 is set.
	ErrNotPushed = errors.New("oauthclient: the server takes no pushed authorization requests")
)

// An AuthorizationError is the server's or the person's no to an authorization request
// (RFC 6749, Section 4.1.2.1).
type AuthorizationError struct {
	// Code and Description are "error" and "error_description", cut to a sensible
	// length and to printable characters: "access_denied", "login_required".
	Code, Description string
}

func (e *AuthorizationError) Error() string {
	s := "oauthclient: authorization response: " + e.Code
	if e.Description != "" {
		s += ": " + e.Description
	}
	return s
}

// AuthorizationParams are what one request for authorization asks for beside the settings
// of the client. The zero value is a request as configured.
type AuthorizationParams struct {
	// Scopes and Resources are asked for in place of those of [Config], if not nil. With
	// the scope openid there is an ID token.
	Scopes, Resources []string
	// Prompt, LoginHint and ACRValues are those of OpenID Connect Core, Section 3.1.2.1,
	// UILocales too.
	Prompt, LoginHint string
	ACRValues         []string
	UILocales         []string
	// MaxAge is how long ago the person may have logged in. If nil, any time; the ID
	// token is held to it.
	MaxAge *time.Duration
	// ResponseMode is "query" or "form_post". If empty, the server's default: query.
	ResponseMode string
}

// A Pending is a request for authorization between the way out and the answer. It belongs
// to the one browser that is sent out, best in that browser's session; it has JSON tags so
// that it can be kept there. It is to be used once: take it away before [Client.Exchange].
// State, Nonce and Verifier are secrets.
type Pending struct {
	// URL is where to send the browser.
	URL string `json:"url"`

	Issuer      string         `json:"issuer"`
	ClientID    string         `json:"client_id"`
	RedirectURI string         `json:"redirect_uri"`
	State       string         `json:"state"`
	Nonce       string         `json:"nonce,omitempty"`
	Verifier    string         `json:"code_verifier"`
	Scopes      []string       `json:"scopes,omitempty"`
	MaxAge      *time.Duration `json:"max_age,omitempty"`
}

// Authorize starts a request for authorization: with PKCE (S256), state and, for OpenID
// Connect, a nonce of its own. If the server takes pushed requests (RFC 9126), it is
// pushed with the client's authentication, and the browser carries client_id and
// request_uri only.
//
// Errors are those of [Client.Discover] and [Client.Call], [ErrNotPushed] and
// [ErrNotBound].
func (c *Client) Authorize(ctx context.Context, params AuthorizationParams) (*Pending, error) {
	if c.cfg.RedirectURI == "" {
		return nil, errors.New("oauthclient: RedirectURI: not set; expected the address that is registered for this client")
	}
	if err := c.checkBinds(ctx); err != nil {
		return nil, err
	}
	m, err := c.Discover(ctx)
	if err != nil {
		return nil, err
	}
	at, err := m.Endpoint(AuthorizationEndpoint, false)
	if err != nil {
		return nil, err
	}
	p := &Pending{
		Issuer: c.cfg.Issuer, ClientID: c.cfg.ClientID, RedirectURI: c.cfg.RedirectURI,
		State: rand.Text(), Verifier: oauth2.GenerateVerifier(), MaxAge: params.MaxAge,
		Scopes: slices.Clone(c.cfg.Scopes),
	}
	if params.Scopes != nil {
		p.Scopes = slices.Clone(params.Scopes)
	}
	resources := c.cfg.Resources
	if params.Resources != nil {
		resources = params.Resources
	}
	form := url.Values{
		"response_type":         {"code"},
		"redirect_uri":          {p.RedirectURI},
		"state":                 {p.State},
		"code_challenge":        {oauth2.S256ChallengeFromVerifier(p.Verifier)},
		"code_challenge_method": {"S256"},
	}
	set := func(name, value string) {
		if value != "" {
			form.Set(name, value)
		}
	}
	set("scope", strings.Join(p.Scopes, " "))
	if slices.Contains(p.Scopes, scopeOpenID) {
		p.Nonce = rand.Text() // 26 characters (FAPI 2.0, Section 5.3.3.2: at most 64)
		form.Set("nonce", p.Nonce)
	}
	if len(resources) > 0 {
		form["resource"] = slices.Clone(resources)
	}
	set("prompt", params.Prompt)
	set("login_hint", params.LoginHint)
	set("acr_values", strings.Join(params.ACRValues, " "))
	set("ui_locales", strings.Join(params.UILocales, " "))
	set("response_mode", params.ResponseMode)
	if params.MaxAge != nil {
		form.Set("max_age", strconv.FormatInt(int64(max(0, *params.MaxAge)/time.Second), 10))
	}

	// A server that takes pushed requests gets one: what was pushed, nobody has touched.
	_, err = m.Endpoint(PushedAuthorizationRequestEndpoint, c.doesMTLS(PushedAuthorizationRequestEndpoint))
	switch {
	case err == nil:
		uri, err := c.push(ctx, form)
		if err != nil {
			return nil, err
		}
		form = url.Values{"request_uri": {uri}}
	case !errors.Is(err, metadata.ErrNoEndpoint):
		return nil, err
	case c.cfg.FAPI2:
		return nil, fmt.Errorf("%w: expected %s in the metadata of %s, found none (FAPI 2.0, Section 5.3.3.2)", ErrNotPushed, PushedAuthorizationRequestEndpoint, m.Issuer)
	}
	form.Set("client_id", c.cfg.ClientID)
	p.URL, err = withQuery(at, form)
	return p, err
}

// push returns the request_uri of a request (RFC 9126, Section 2.2).
func (c *Client) push(ctx context.Context, form url.Values) (string, error) {
	body, err := c.Call(ctx, PushedAuthorizationRequestEndpoint, maps.Clone(form))
	if err != nil {
		return "", err
	}
	var answer struct {
		URI string `json:"request_uri"`
	}
	err = json.Unmarshal(body, &answer)
	if uri := answer.URI; err != nil || uri == "" || len(uri) > maxRequestURI || strings.ContainsFunc(uri, func(r rune) bool { return r <= 0x20 || r > 0x7e }) {
		return "", fmt.Errorf("oauthclient: %s: request_uri: expected a URI in the answer, found none (RFC 9126, Section 2.2)", PushedAuthorizationRequestEndpoint)
	}
	return answer.URI, nil
}

// withQuery adds parameters to a URL, which keeps its own (RFC 6749, Section 3.1).
func withQuery(at string, v url.Values) (string, error) {
	u, err := url.Parse(at)
	if err != nil {
		return "", err
	}
	if u.RawQuery != "" {
		u.RawQuery += "&"
	}
	u.RawQuery += v.Encode()
	return u.String(), nil
}

// readResponse judges the parameters of an authorization response and returns the code. It
// makes no request but for metadata, since nothing of the answer may be sent before its
// issuer is known.
func (c *Client) readResponse(ctx context.Context, p *Pending, response url.Values) (string, error) {
	if p == nil {
		return "", fmt.Errorf("%w: expected a request that this browser has started, found none", ErrResponse)
	}
	// A code is for the server, and over the certificate, of its own request.
	if p.Issuer != c.cfg.Issuer || p.ClientID != c.cfg.ClientID {
		return "", fmt.Errorf("%w: the request was of client %q at %q, this is client %q at %q", ErrResponseIssuer,
			printable(p.ClientID, 256), printable(p.Issuer, 256), c.cfg.ClientID, c.cfg.Issuer)
	}
	m, err := c.Discover(ctx)
	if err != nil {
		return "", err
	}
	for _, name := range []string{"iss", "state", "code", "error", "error_description"} {
		if len(response[name]) > 1 {
			return "", fmt.Errorf("%w: %s: expected once, found %d times (RFC 6749, Section 3.1)", ErrResponse, name, len(response[name]))
		}
	}
	// The issuer first: simple comparison, no normalization (RFC 9207, Section 2.4).
	switch iss, required := response["iss"], m.ResponseIssuer || c.cfg.FAPI2; {
	case len(iss) == 0 && required:
		return "", fmt.Errorf("%w: iss: expected %q, found none, though the server announces it", ErrResponseIssuer, c.cfg.Issuer)
	case len(iss) == 1 && iss[0] != c.cfg.Issuer:
		return "", fmt.Errorf("%w: iss: expected %q, found %q", ErrResponseIssuer, c.cfg.Issuer, printable(iss[0], 256))
	}
	if p.State == "" || subtle.ConstantTimeCompare([]byte(response.Get("state")), []byte(p.State)) != 1 {
		return "", fmt.Errorf("%w: state: expected the one of this request, found another; the answer may be of an earlier request, or forged", ErrResponse)
	}
	if code := response.Get("error"); code != "" {
		return "", &AuthorizationError{Code: printable(code, 64), Description: printable(response.Get("error_description"), 256)}
	}
	code := response.Get("code")
	if code == "" || len(code) > maxCode {
		return "", fmt.Errorf("%w: code: expected one, found none of a sensible length", ErrResponse)
	}
	return code, nil
}

// checkRedirectURI judges a redirect URI (RFC 9700, Section 2.6; RFC 8252, Section 7).
func checkRedirectURI(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || !u.IsAbs() || strings.Contains(text, "#") || u.User != nil:
		return fmt.Errorf("expected an absolute URI without user and fragment, found %q", text)
	case u.Scheme == "https" && u.Hostname() != "":
		return nil
	case u.Scheme == "http":
		if ip, err := netip.ParseAddr(u.Hostname()); err == nil && ip.IsLoopback() || u.Hostname() == "localhost" {
			return nil
		}
		return fmt.Errorf("expected https, or http at a loopback address, found %q", text)
	case strings.Contains(u.Scheme, "."):
		return nil
	}
	return fmt.Errorf("expected https, a loopback address by http, or a scheme with a dot, found %q", text)
}
