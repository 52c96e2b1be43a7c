package oauthclient

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/certbound/certbound"
)

// Call posts a form to an endpoint of the issuer, by its metadata name, with the client's
// authentication, at the alias where that is due: for pushed authorization requests, device
// authorization and the like. It returns the JSON of the answer. Errors of the server are
// of type *[Error].
func (c *Client) Call(ctx context.Context, endpoint string, form url.Values) (json.RawMessage, error) {
	_, body, err := c.callCurrent(ctx, endpoint, form)
	return body, err
}

// callCurrent also returns the certificate that was used.
func (c *Client) callCurrent(ctx context.Context, endpoint string, form url.Values) (*identity, []byte, error) {
	id := c.identity(ctx, false)
	body, err := c.call(ctx, id, endpoint, form)
	if err != nil && certificateTrouble(err) {
		if fresh := c.identity(ctx, true); fresh != id {
			body, err = c.call(ctx, fresh, endpoint, form)
			return fresh, body, err
		}
	}
	return id, body, err
}

// An Introspection is what the authorization server says of a token (RFC 7662, Section
// 2.2). If Active is false, everything else is zero.
type Introspection struct {
	Active   bool
	ClientID string
	Subject  string
	Scopes   []string
	Expires  time.Time
	// Confirmation is what the token is bound to (RFC 8705, Section 3.2).
	Confirmation certbound.Confirmation
	// Raw is the whole answer.
	Raw json.RawMessage
}

// Introspect asks about a token.
func (c *Client) Introspect(ctx context.Context, token string) (*Introspection, error) {
	body, err := c.Call(ctx, IntrospectionEndpoint, url.Values{"token": {token}})
	if err != nil {
		return nil, err
	}
	return parseIntrospection(body)
}

func parseIntrospection(body []byte) (*Introspection, error) {
	var answer struct {
		Active   *bool                  `json:"active"`
		ClientID string                 `json:"client_id"`
		Subject  string                 `json:"sub"`
		Scope    string                 `json:"scope"`
		Expires  float64                `json:"exp"`
		CNF      certbound.Confirmation `json:"cnf"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("oauthclient: %s: not the expected JSON object: %w", IntrospectionEndpoint, err)
	}
	if answer.Active == nil {
		return nil, fmt.Errorf("oauthclient: %s: active: expected true or false, found none", IntrospectionEndpoint)
	}
	if !*answer.Active {
		return &Introspection{}, nil
	}
	i := &Introspection{
		Active:       true,
		ClientID:     answer.ClientID,
		Subject:      answer.Subject,
		Scopes:       strings.Fields(answer.Scope),
		Confirmation: answer.CNF,
		Raw:          body,
	}
	if answer.Expires > 0 && answer.Expires < 253402300800 {
		i.Expires = time.Unix(int64(answer.Expires), 0)
	}
	return i, nil
}

// Revoke ends a token (RFC 7009). hint is "access_token", "refresh_token" or empty. It is
// no error if the token was not valid any more.
func (c *Client) Revoke(ctx context.Context, token, hint string) error {
	form := url.Values{"token": {token}}
	if hint != "" {
		form.Set("token_type_hint", hint)
	}
	if _, err := c.Call(ctx, RevocationEndpoint, form); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range []*identity{c.current, c.previous} {
		if id != nil && id.token != nil && id.token.AccessToken == token {
			id.token = nil
		}
	}
	if c.refresh == token {
		c.refresh = ""
	}
	return nil
}
