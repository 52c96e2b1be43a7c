package oauthclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"

	"github.com/certbound/certbound/internal/flight"
	"github.com/certbound/certbound/internal/metadata"
)

// ErrLoginRequired reports a [Session] that is over: there is no refresh token, the server
// does not take it any more, or the certificate that it is bound to is gone. The person
// has to be sent to [Client.Authorize] again.
var ErrLoginRequired = errors.New("oauthclient: the person has to log in again")

// A SessionState is what has to be kept of a [Session] to go on with it later, see
// [Client.Resume]. It holds tokens: keep it like a password.
type SessionState struct {
	Issuer       string    `json:"issuer"`
	ClientID     string    `json:"client_id"`
	AccessToken  string    `json:"access_token"`
	Expires      time.Time `json:"expires,omitzero"`
	RefreshToken string    `json:"refresh_token,omitempty"`
	Scopes       []string  `json:"scopes,omitempty"`
	// Thumbprint is the x5t#S256 of the certificate that the access token was got with,
	// and that of a public client's refresh token too (RFC 8705, Section 4).
	Thumbprint string `json:"x5t#S256,omitempty"`
	// Subject is the person, from the ID token; empty without OpenID Connect.
	Subject string `json:"sub,omitempty"`
	IDToken string `json:"id_token,omitempty"`
}

// A SaveFunc keeps the state of a session. It is called with each new state before that is
// used, never by two goroutines at once for one session, and with nil when the session
// has ended. While it fails, the session gives out no token and calls it again with the
// next request: a server that rotates refresh tokens has taken back the old one, and what
// is not kept would be lost with the process.
type SaveFunc func(ctx context.Context, state *SessionState) error

// A Session has the tokens for one person. It is safe for concurrent use. At most one
// refresh is under way at a time, and one process is to use it at a time.
type Session struct {
	c    *Client
	save SaveFunc

	mu      sync.Mutex // guards what follows
	state   SessionState
	token   *oauth2.Token // nil: to be refreshed
	renewAt time.Time
	id      *identity // of token; of a public client's refresh token too
	issued  issuedTokens
	unsaved bool
	ended   error // why there will be no more tokens
	idToken *IDToken

	refreshing flight.Group[struct{}, refreshed]
}

type refreshed struct {
	id    *identity
	token *oauth2.Token
}

// Exchange takes the answer of the authorization endpoint, the query of the redirect or
// the form that was posted, and redeems the code over mutual TLS. save may be nil.
//
// Before anything is sent, the answer is judged: whose it is by iss, then state. Errors
// are [ErrResponseIssuer], [ErrResponse], of type *[AuthorizationError] if the person or
// the server said no, of type *[Error] if the token endpoint did, [ErrTokenAnswer],
// [ErrIDToken], [ErrNotBound], and those of save.
func (c *Client) Exchange(ctx context.Context, p *Pending, response url.Values, save SaveFunc) (*Session, error) {
	code, err := c.readResponse(ctx, p, response)
	if err != nil {
		return nil, err
	}
	id, body, err := c.callCurrent(ctx, TokenEndpoint, url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {p.RedirectURI}, "code_verifier": {p.Verifier},
	})
	if err != nil {
		return nil, err
	}
	s := &Session{c: c, save: save, state: SessionState{Issuer: c.cfg.Issuer, ClientID: c.cfg.ClientID, Scopes: p.Scopes}}
	err = s.accept(ctx, id, body, func(t *IDToken) error { return t.forRequest(p, c.cfg.Now()) })
	if err != nil {
		s.giveBack(ctx)
		return nil, err
	}
	return s, nil
}

// Resume goes on with a session that was kept. It makes no request. An error that wraps
// [ErrLoginRequired] says that the refresh token is bound to a certificate that the client
// does not have any more.
func (c *Client) Resume(state SessionState, save SaveFunc) (*Session, error) {
	if state.Issuer != c.cfg.Issuer || state.ClientID != c.cfg.ClientID {
		return nil, fmt.Errorf("oauthclient: Resume: expected a session of client %q at %q, found one of %q at %q", c.cfg.ClientID, c.cfg.Issuer,
			printable(state.ClientID, 256), printable(state.Issuer, 256))
	}
	s := &Session{c: c, save: save, state: state}
	s.state.Scopes = slices.Clone(state.Scopes)
	c.mu.Lock()
	for _, id := range []*identity{c.current, c.previous} {
		if id != nil && id.thumbprint == state.Thumbprint {
			s.id = id
			break
		}
	}
	c.mu.Unlock()
	if s.id == nil {
		if c.cfg.AuthMethod == None {
			return nil, fmt.Errorf("%w: its tokens are bound to the certificate %q, the client has %q", ErrLoginRequired, printable(state.Thumbprint, 64), c.Thumbprint())
		}
		return s, nil // the refresh token works with any certificate of the client
	}
	if state.AccessToken != "" && !state.Expires.IsZero() {
		s.token = &oauth2.Token{AccessToken: state.AccessToken, TokenType: "Bearer", Expiry: state.Expires}
		s.renewAt = renewAt(s.token, c.cfg.Now())
		s.issued.add(s.token, s.id, c.cfg.Now())
	}
	return s, nil
}

// TokenSource returns a source of the person's access tokens, which refreshes them; ctx
// bounds its requests. Use them through [Session.HTTPClient], or through its transport as
// the base of an [oauth2.Transport]. The refresh token stays here.
func (s *Session) TokenSource(ctx context.Context) oauth2.TokenSource {
	return sessionSource{s, ctx}
}

type sessionSource struct {
	s   *Session
	ctx context.Context
}

// Token implements [oauth2.TokenSource]. Errors are [ErrLoginRequired], which wraps the
// *[Error] of the server if there is one, otherwise those of [Client.Exchange].
func (t sessionSource) Token() (*oauth2.Token, error) {
	_, tok, err := t.s.usable(t.ctx)
	if err != nil {
		return nil, err
	}
	copied := *tok // the caller's to change
	copied.RefreshToken = ""
	return &copied, nil
}

// HTTPClient returns a client for requests to resources on behalf of the person. It is as
// [Client.HTTPClient] in everything else.
func (s *Session) HTTPClient() *http.Client { return &http.Client{Transport: &transport{s.c, s}} }

// State returns what has to be kept, as [SaveFunc] gets it.
func (s *Session) State() SessionState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.copyState()
}

func (s *Session) copyState() SessionState {
	state := s.state
	state.Scopes = slices.Clone(state.Scopes)
	return state
}

// IDToken returns the ID token of the login or of the last refresh that brought one, or
// nil without OpenID Connect and after [Client.Resume].
func (s *Session) IDToken() *IDToken {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.idToken
}

// Scopes returns what was granted, which may be less than what was asked for.
func (s *Session) Scopes() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.state.Scopes)
}

// usable returns a token and the certificate that it goes with. A token stays with its
// certificate when the client's changes; the next one is of the new certificate.
func (s *Session) usable(ctx context.Context) (*identity, *oauth2.Token, error) {
	if id, tok, ok := s.ready(); ok {
		return id, tok, nil
	}
	// Nobody who hangs up ends a refresh: its answer may hold the only refresh token.
	got, err := s.refreshing.Do(ctx, struct{}{}, 3*s.c.cfg.Timeout, func(ctx context.Context) (refreshed, error) {
		if err := s.keep(ctx); err != nil {
			return refreshed{}, err
		}
		if id, tok, ok := s.ready(); ok {
			return refreshed{id, tok}, nil
		}
		if err := s.refresh(ctx); err != nil {
			return refreshed{}, err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		return refreshed{s.id, s.token}, nil
	})
	return got.id, got.token, err
}

func (s *Session) ready() (*identity, *oauth2.Token, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != nil || s.unsaved || s.token == nil || !s.renewAt.IsZero() && !s.c.cfg.Now().Before(s.renewAt) {
		return nil, nil, false
	}
	return s.id, s.token, true
}

func (s *Session) renew(id *identity, token string, refused bool, current *identity) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	// A broken connection says something of the certificate only if there is another.
	if !refused && (s.c.cfg.AuthMethod == None || current == id) || s.state.RefreshToken == "" {
		return false
	}
	if s.token != nil && s.token.AccessToken == token {
		s.token = nil
	}
	return true
}

func (s *Session) find(token string) (*identity, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.issued.find(token)
}

// refresh gets a new access token (RFC 6749, Section 6). Only one runs at a time.
func (s *Session) refresh(ctx context.Context) error {
	s.mu.Lock()
	ended, value, id, subject := s.ended, s.state.RefreshToken, s.id, s.state.Subject
	s.mu.Unlock()
	if ended != nil {
		return ended
	}
	if value == "" {
		return fmt.Errorf("%w: the access token has ended, and the server gave no refresh token", ErrLoginRequired)
	}
	if err := s.c.checkBinds(ctx); err != nil {
		return err
	}
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {value}}
	var body []byte
	var err error
	if s.c.cfg.AuthMethod == None { // bound to the certificate of the login (RFC 8705, Section 4)
		body, err = s.c.call(ctx, id, TokenEndpoint, form)
	} else { // held by the client's authentication (RFC 8705, Section 7.1)
		id, body, err = s.c.callCurrent(ctx, TokenEndpoint, form)
	}
	if e, ok := errors.AsType[*Error](err); ok && e.Code == "invalid_grant" {
		err = fmt.Errorf("%w: %w", ErrLoginRequired, err)
		s.mu.Lock()
		s.ended = err // and no more requests with it
		s.mu.Unlock()
	}
	if err != nil {
		return err
	}
	return s.accept(ctx, id, body, func(t *IDToken) error { return t.forSession(subject) })
}

// accept reads a token answer. A refresh token in it is kept whatever else is wrong with
// the answer, since the server may have taken back the one before.
func (s *Session) accept(ctx context.Context, id *identity, body []byte, judge func(*IDToken) error) error {
	now := s.c.cfg.Now()
	tok, err := parseToken(body, now)
	if err != nil {
		return err
	}
	s.mu.Lock()
	if tok.RefreshToken != "" && tok.RefreshToken != s.state.RefreshToken {
		s.state.RefreshToken, s.unsaved = tok.RefreshToken, true
	}
	s.mu.Unlock()
	idToken, scopes, faults := s.judge(ctx, id, tok, judge)
	s.mu.Lock()
	if faults == nil {
		s.token, s.renewAt, s.id, s.unsaved = tok, renewAt(tok, now), id, true
		s.issued.add(tok, id, now)
		s.state.AccessToken, s.state.Expires, s.state.Thumbprint = tok.AccessToken, tok.Expiry, id.thumbprint
		if scopes != nil {
			s.state.Scopes = scopes
		}
		if idToken != nil {
			s.idToken, s.state.IDToken, s.state.Subject = idToken, idToken.Compact, idToken.Subject
		}
	}
	s.mu.Unlock()
	return errors.Join(faults, s.keep(ctx))
}

// judge checks what came beside the refresh token.
func (s *Session) judge(ctx context.Context, id *identity, tok *oauth2.Token, judge func(*IDToken) error) (*IDToken, []string, error) {
	if s.c.cfg.RequireBoundTokens {
		if err := checkBound(tok.AccessToken, id.thumbprint); err != nil {
			return nil, nil, err
		}
	}
	s.mu.Lock()
	scopes, first := s.state.Scopes, s.token == nil && s.state.AccessToken == ""
	s.mu.Unlock()
	if text, ok := tok.Extra("scope").(string); ok { // otherwise what was asked for
		scopes = strings.Fields(text)
	}
	if !slices.Contains(scopes, scopeOpenID) {
		return nil, scopes, nil
	}
	compact, _ := tok.Extra("id_token").(string)
	if compact == "" {
		if first {
			return nil, nil, fmt.Errorf("%w: expected in the answer to a request with the scope openid, found none", ErrIDToken)
		}
		return nil, scopes, nil // a refresh need not bring one
	}
	idToken, err := s.c.verifyIDToken(ctx, compact, tok.AccessToken)
	if err == nil {
		err = judge(idToken)
	}
	if err != nil {
		return nil, nil, err
	}
	return idToken, scopes, nil
}

// keep calls save if there is something to keep.
func (s *Session) keep(ctx context.Context) error {
	s.mu.Lock()
	state, unsaved := s.copyState(), s.unsaved
	s.mu.Unlock()
	if !unsaved {
		return nil
	}
	if s.save != nil {
		if err := s.save(ctx, &state); err != nil {
			return fmt.Errorf("oauthclient: the new tokens could not be kept: %w", err)
		}
	}
	s.mu.Lock()
	s.unsaved = false
	s.mu.Unlock()
	return nil
}

// giveBack revokes what nobody will use.
func (s *Session) giveBack(ctx context.Context) {
	if err := s.revoke(ctx); err != nil {
		s.c.cfg.Logger.WarnContext(ctx, "oauthclient: tokens that are not used could not be revoked", "error", err)
	}
}

// Revoke ends the session at the server and here (RFC 7009): the refresh token, or the
// access token if there is none, with the certificate that it is bound to. save is called
// with nil, also if the server could not be told.
func (s *Session) Revoke(ctx context.Context) error {
	err := s.revoke(ctx)
	s.mu.Lock()
	s.token, s.unsaved, s.ended = nil, false, fmt.Errorf("%w: the session was ended", ErrLoginRequired)
	s.state.AccessToken, s.state.RefreshToken, s.state.IDToken, s.idToken = "", "", "", nil
	s.mu.Unlock()
	if s.save != nil {
		err = errors.Join(err, s.save(ctx, nil))
	}
	return err
}

func (s *Session) revoke(ctx context.Context) error {
	s.mu.Lock()
	form, id := url.Values{"token": {s.state.RefreshToken}, "token_type_hint": {"refresh_token"}}, s.id
	if s.state.RefreshToken == "" {
		form = url.Values{"token": {s.state.AccessToken}, "token_type_hint": {"access_token"}}
	}
	s.mu.Unlock()
	if form.Get("token") == "" {
		return nil
	}
	var err error
	if s.c.cfg.AuthMethod == None && id != nil {
		_, err = s.c.call(ctx, id, RevocationEndpoint, form)
	} else {
		_, err = s.c.Call(ctx, RevocationEndpoint, form)
	}
	return err
}

// UserInfo is what the server says of a person (OpenID Connect Core, Section 5.3).
type UserInfo struct {
	Subject string
	// Claims is the whole answer.
	Claims json.RawMessage
}

// UserInfo asks who the person is, with the bound token, at the alias if there is one. The
// answer has to be of the person of the ID token.
func (s *Session) UserInfo(ctx context.Context) (*UserInfo, error) {
	at, mtls, err := s.c.endpoint(ctx, UserInfoEndpoint)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*s.c.cfg.Timeout)
	defer cancel()
	for second := false; ; second = true {
		id, tok, err := s.usable(ctx)
		if err != nil {
			return nil, err
		}
		info, refused, err := s.userInfo(ctx, at, mtls, id, tok)
		if refused && !second && s.renew(id, tok.AccessToken, true, id) {
			continue
		}
		return info, err
	}
}

// userInfo makes one request. refused says that it is worth another token.
func (s *Session) userInfo(ctx context.Context, at string, mtls bool, id *identity, tok *oauth2.Token) (info *UserInfo, refused bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, false, err
	}
	req.Header.Set("Authorization", "Bearer "+tok.AccessToken)
	req.Header.Set("Accept", "application/json")
	send := s.c.plain.RoundTrip
	if mtls {
		send = id.roundTrip
	}
	resp, err := send(req)
	if err != nil {
		return nil, false, &sendError{UserInfoEndpoint, err}
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer)) // the status says enough
		e := s.c.newError(UserInfoEndpoint, resp, body, id)
		for _, challenge := range parseChallenges(resp.Header["Www-Authenticate"]) {
			if strings.EqualFold(challenge.scheme, "Bearer") {
				e.Code, e.Description = printable(challenge.params["error"], 64), printable(challenge.params["error_description"], 256)
			}
		}
		return nil, invalidToken(resp), e
	}
	body, err := metadata.ReadJSON(resp, maxAnswer)
	if err != nil {
		return nil, false, fmt.Errorf("oauthclient: %s: %w", UserInfoEndpoint, err)
	}
	var claims struct {
		Subject string `json:"sub"`
	}
	if err := json.Unmarshal(body, &claims); err != nil || claims.Subject == "" {
		return nil, false, fmt.Errorf("oauthclient: %s: sub: expected the person, found none", UserInfoEndpoint)
	}
	s.mu.Lock()
	subject := s.state.Subject
	s.mu.Unlock()
	if subject != claims.Subject { // OpenID Connect Core, Section 5.3.2
		return nil, false, fmt.Errorf("oauthclient: %s: sub: expected the person of the ID token, found another", UserInfoEndpoint)
	}
	return &UserInfo{Subject: claims.Subject, Claims: body}, false, nil
}
