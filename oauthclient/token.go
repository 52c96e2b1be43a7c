package oauthclient

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/internal/jws"
	"github.com/certbound/certbound/internal/metadata"
)

const (
	maxAnswer    = 256 << 10
	maxIssued    = 256
	retryFailed  = time.Second
	assertionFor = time.Minute
)

var (
	// ErrNotBound reports a token that is not bound to the client's certificate, or a
	// server that does not announce such tokens, although RequireBoundTokens is set.
	ErrNotBound = errors.New("oauthclient: access token is not bound to the client's certificate")
	// ErrTokenAnswer reports a token answer without a token that can be used.
	ErrTokenAnswer = errors.New("oauthclient: token answer cannot be used")
)

// usable returns a token and the certificate that it goes with. If there is a new
// certificate that the server does not take yet, the old one is used as long as it has a
// token, so that a rotation which is not finished fails no request.
func (c *Client) usable(ctx context.Context) (*identity, *oauth2.Token, error) {
	id := c.identity(ctx, false)
	if old, tok := c.fallback(id); tok != nil {
		return old, tok, nil
	}
	tok, err := c.token(ctx, id)
	if err != nil && certificateTrouble(err) {
		if fresh := c.identity(ctx, true); fresh != id {
			id = fresh
			tok, err = c.token(ctx, id)
		}
	}
	if err == nil {
		return id, tok, nil
	}
	c.mu.Lock()
	id.failed = c.cfg.Now()
	c.mu.Unlock()
	if old, tok := c.fallback(id); tok != nil {
		c.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "oauthclient: no token with the new certificate yet; using the old one",
			slog.String("x5t#S256", id.thumbprint), slog.Any("error", err))
		return old, tok, nil
	}
	return nil, nil, err
}

// fallback returns the previous certificate and its token, while the last attempt with
// the current one has failed a moment ago.
func (c *Client) fallback(id *identity) (*identity, *oauth2.Token) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.cfg.Now()
	old := c.previous
	if id != c.current || old == nil || !old.hasToken(now) || id.failed.IsZero() || now.Sub(id.failed) >= retryFailed {
		return nil, nil
	}
	return old, old.token
}

// hasToken needs Client.mu.
func (id *identity) hasToken(now time.Time) bool {
	return id.token != nil && (id.renewAt.IsZero() || now.Before(id.renewAt))
}

// token returns the token of an identity. Concurrent callers make one request.
func (c *Client) token(ctx context.Context, id *identity) (*oauth2.Token, error) {
	c.mu.Lock()
	if id.hasToken(c.cfg.Now()) {
		defer c.mu.Unlock()
		return id.token, nil
	}
	c.mu.Unlock()
	return c.fetching.Do(ctx, id, 2*c.cfg.Timeout, func(ctx context.Context) (*oauth2.Token, error) {
		c.mu.Lock()
		if id.hasToken(c.cfg.Now()) { // got between the look and the work
			defer c.mu.Unlock()
			return id.token, nil
		}
		refresh := c.refresh
		c.mu.Unlock()
		return c.fetchToken(ctx, id, refresh)
	})
}

func (c *Client) renew(id *identity, token string, refused bool, current *identity) bool {
	if !refused {
		return current != id // the same certificate would meet the same alert
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if id.token != nil && id.token.AccessToken == token {
		id.token = nil
	}
	return true
}

func (c *Client) find(token string) (*identity, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.issued.find(token)
}

func (c *Client) fetchToken(ctx context.Context, id *identity, refresh string) (*oauth2.Token, error) {
	if c.cfg.AuthMethod == None && c.cfg.Grant == nil {
		return nil, errors.New("oauthclient: Grant: not set; the tokens of this public client are those of people, see Authorize")
	}
	if err := c.checkBinds(ctx); err != nil {
		return nil, err
	}
	if refresh != "" {
		tok, err := c.requestToken(ctx, id, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}})
		if e, ok := errors.AsType[*Error](err); !ok || e.Code != "invalid_grant" {
			return tok, err
		}
		c.mu.Lock()
		if c.refresh == refresh {
			c.refresh = ""
		}
		c.mu.Unlock()
	}
	form := url.Values{"grant_type": {"client_credentials"}}
	if c.cfg.Grant != nil {
		grant, err := c.cfg.Grant(ctx)
		if err != nil {
			return nil, fmt.Errorf("oauthclient: Grant: %w", err)
		}
		form = maps.Clone(grant)
	}
	return c.requestToken(ctx, id, form)
}

// checkBinds wants a server that binds tokens, if that is required.
func (c *Client) checkBinds(ctx context.Context) error {
	if !c.cfg.RequireBoundTokens {
		return nil
	}
	m, err := c.Discover(ctx)
	if err == nil && !m.BoundTokens {
		err = fmt.Errorf("%w: expected tls_client_certificate_bound_access_tokens true in the metadata of %s, found none", ErrNotBound, m.Issuer)
	}
	return err
}

func (c *Client) requestToken(ctx context.Context, id *identity, form url.Values) (*oauth2.Token, error) {
	if len(c.cfg.Scopes) > 0 && !form.Has("scope") {
		form.Set("scope", strings.Join(c.cfg.Scopes, " "))
	}
	if len(c.cfg.Resources) > 0 && !form.Has("resource") {
		form["resource"] = c.cfg.Resources
	}
	body, err := c.call(ctx, id, TokenEndpoint, form)
	if err != nil {
		return nil, err
	}
	return c.acceptToken(id, body)
}

// acceptToken reads a token answer (RFC 6749, Section 5.1).
func (c *Client) acceptToken(id *identity, body []byte) (*oauth2.Token, error) {
	tok, err := parseToken(body, c.cfg.Now())
	if err != nil {
		return nil, err
	}
	if c.cfg.RequireBoundTokens {
		if err := checkBound(tok.AccessToken, id.thumbprint); err != nil {
			return nil, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	id.token, id.failed, id.renewAt = tok, time.Time{}, renewAt(tok, c.cfg.Now())
	if tok.RefreshToken != "" {
		c.refresh = tok.RefreshToken
	}
	c.issued.add(tok, id, c.cfg.Now())
	return tok, nil
}

// renewAt is a little before a token ends, or zero if that is not known.
func renewAt(tok *oauth2.Token, now time.Time) time.Time {
	if tok.Expiry.IsZero() {
		return time.Time{}
	}
	return tok.Expiry.Add(-min(10*time.Second, tok.Expiry.Sub(now)/5))
}

func parseToken(body []byte, now time.Time) (*oauth2.Token, error) {
	var answer struct {
		AccessToken  string      `json:"access_token"`
		TokenType    string      `json:"token_type"`
		RefreshToken string      `json:"refresh_token"`
		ExpiresIn    json.Number `json:"expires_in"`
	}
	var extra map[string]any
	if json.Unmarshal(body, &answer) != nil || json.Unmarshal(body, &extra) != nil {
		return nil, fmt.Errorf("%w: not the expected JSON object", ErrTokenAnswer)
	}
	if answer.AccessToken == "" || strings.ContainsFunc(answer.AccessToken, func(r rune) bool { return r <= 0x20 || r > 0x7e }) {
		return nil, fmt.Errorf("%w: access_token: expected visible ASCII characters", ErrTokenAnswer)
	}
	// A bound token is a Bearer token by name (RFC 8705, Section 3).
	if !strings.EqualFold(answer.TokenType, "Bearer") {
		return nil, fmt.Errorf("%w: token_type: expected Bearer, found %q", ErrTokenAnswer, printable(answer.TokenType, 64))
	}
	tok := &oauth2.Token{AccessToken: answer.AccessToken, TokenType: "Bearer", RefreshToken: answer.RefreshToken}
	if answer.ExpiresIn != "" {
		seconds, err := answer.ExpiresIn.Int64()
		if err != nil || seconds < 0 || seconds > 100*365*24*3600 {
			return nil, fmt.Errorf("%w: expires_in: expected seconds", ErrTokenAnswer)
		}
		tok.ExpiresIn = seconds
		tok.Expiry = now.Add(time.Duration(seconds) * time.Second)
	}
	return tok.WithExtra(extra), nil
}

// checkBound looks into a JWT, without verifying it, for the confirmation of the
// certificate. A token of another form tells a client nothing.
func checkBound(token, thumbprint string) error {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return nil // no JWT
	}
	var cnf certbound.Confirmation
	var fault error
	if jws.Members(payload, func(name, value []byte) {
		if string(name) == "cnf" {
			cnf, fault = certbound.ParseConfirmation(value)
		}
	}) != nil {
		return nil
	}
	if fault == nil {
		fault = cnf.VerifyThumbprint(thumbprint)
	}
	if fault != nil {
		return fmt.Errorf("%w: %w", ErrNotBound, fault)
	}
	return nil
}

// call posts a form to an endpoint of the issuer with the client's authentication and
// returns the body of a 200 answer. It follows no redirect.
func (c *Client) call(ctx context.Context, id *identity, endpoint string, form url.Values) ([]byte, error) {
	at, mtls, err := c.endpoint(ctx, endpoint)
	if err != nil {
		return nil, err
	}
	form = maps.Clone(form)
	for _, name := range []string{"client_id", "client_secret", "client_assertion", "client_assertion_type"} {
		form.Del(name) // how the client authenticates is not for a grant to say
	}
	header := make(http.Header)
	switch c.cfg.AuthMethod {
	case TLSClientAuth, SelfSignedTLSClientAuth, None:
		form.Set("client_id", c.cfg.ClientID) // RFC 8705, Section 2
	case ClientSecretBasic: // RFC 6749, Section 2.3.1
		basic := url.QueryEscape(c.cfg.ClientID) + ":" + url.QueryEscape(c.cfg.ClientSecret)
		header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(basic)))
	case PrivateKeyJWT:
		assertion, err := c.newAssertion()
		if err != nil {
			return nil, err
		}
		form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
		form.Set("client_assertion", assertion)
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header = header
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	// The round trip itself, not a client around it: no redirect, no cookie.
	send := c.plain.RoundTrip
	if mtls {
		send = id.roundTrip
	}
	resp, err := send(req)
	if err != nil {
		return nil, &sendError{endpoint, err}
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusCreated {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer)) // the status says enough
		return nil, c.newError(endpoint, resp, body, id)
	}
	if endpoint == RevocationEndpoint {
		return nil, nil // an empty body, or one that is to be ignored (RFC 7009, Section 2.2)
	}
	body, err := metadata.ReadJSON(resp, maxAnswer)
	if err != nil {
		return nil, fmt.Errorf("oauthclient: %s: %w", endpoint, err)
	}
	return body, nil
}

// newAssertion returns a client assertion (RFC 7523). Its only audience is the issuer,
// also at an alias: an assertion for an endpoint could be lured to another server.
func (c *Client) newAssertion() (string, error) {
	now := c.cfg.Now()
	payload, err := json.Marshal(map[string]any{
		"iss": c.cfg.ClientID,
		"sub": c.cfg.ClientID,
		"aud": c.cfg.Issuer,
		"jti": rand.Text(),
		"iat": now.Unix(),
		"exp": now.Add(assertionFor).Unix(),
	})
	if err != nil {
		return "", err
	}
	s, err := c.assertion.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("oauthclient: AssertionKey: %w", err)
	}
	return s, nil
}

// certificateTrouble reports whether an error of an endpoint may come from the
// certificate: the server says invalid_client, which with mutual TLS is all that it says
// (RFC 8705, Section 2), or the connection failed, which is how a server that judges
// certificates in TLS says it.
func certificateTrouble(err error) bool {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code == "invalid_client"
	}
	_, ok := errors.AsType[*sendError](err)
	return ok
}

// A sendError is a request to an endpoint that got no answer.
type sendError struct {
	endpoint string
	err      error
}

func (e *sendError) Error() string { return "oauthclient: " + e.endpoint + ": " + e.err.Error() }

func (e *sendError) Unwrap() error { return e.err }

// issuedTokens remembers which certificate a token belongs to, until it expires.
type issuedTokens struct {
	byHash map[[sha256.Size]byte]issuedToken
}

type issuedToken struct {
	id     *identity
	expiry time.Time
	added  time.Time
}

func (t *issuedTokens) add(tok *oauth2.Token, id *identity, now time.Time) {
	if t.byHash == nil {
		t.byHash = make(map[[sha256.Size]byte]issuedToken)
	}
	maps.DeleteFunc(t.byHash, func(_ [sha256.Size]byte, e issuedToken) bool {
		return !e.expiry.IsZero() && !now.Before(e.expiry)
	})
	if len(t.byHash) >= maxIssued {
		var oldest [sha256.Size]byte
		first := time.Time{}
		for k, e := range t.byHash {
			if first.IsZero() || e.added.Before(first) {
				oldest, first = k, e.added
			}
		}
		delete(t.byHash, oldest)
	}
	t.byHash[sha256.Sum256([]byte(tok.AccessToken))] = issuedToken{id, tok.Expiry, now}
}

func (t *issuedTokens) find(token string) (*identity, bool) {
	e, ok := t.byHash[sha256.Sum256([]byte(token))]
	return e.id, ok
}
