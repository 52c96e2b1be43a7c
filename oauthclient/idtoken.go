package oauthclient

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/certbound/certbound/internal/jws"
	"github.com/certbound/certbound/jwks"
)

const (
	maxIDToken = 64 << 10
	clockSkew  = time.Minute
)

// ErrIDToken reports an ID token that is not to be believed, or that is missing.
var ErrIDToken = errors.New("oauthclient: ID token cannot be used")

// An IDToken is a verified statement about the login of a person (OpenID Connect Core,
// Section 2). It is for the client, and no credential: an API takes access tokens.
type IDToken struct {
	Issuer    string
	Subject   string
	Audience  string
	Issued    time.Time
	Expires   time.Time
	AuthTime  time.Time // zero if unknown
	ACR       string
	AMR       []string
	SessionID string
	// Claims is the whole payload.
	Claims json.RawMessage
	// Compact is the token as it came, for id_token_hint.
	Compact string

	nonce string
}

// verifyIDToken checks an ID token as Section 3.1.3.7 of OpenID Connect Core asks for, with
// the keys of the issuer. nonce is that of the request, or empty after a refresh.
func (c *Client) verifyIDToken(ctx context.Context, compact, accessToken string) (*IDToken, error) {
	fail := func(format string, args ...any) (*IDToken, error) {
		return nil, fmt.Errorf("%w: "+format, append([]any{ErrIDToken}, args...)...)
	}
	token, err := jws.Parse(compact, maxIDToken)
	if err != nil {
		return fail("%w", err)
	}
	if c.cfg.FAPI2 && token.Alg == jws.RS256 {
		return fail("alg: expected PS256, ES256 or EdDSA, since FAPI2 is set, found RS256 (FAPI 2.0, Section 5.4.1)")
	}
	if err := c.verifySignature(ctx, token); err != nil {
		return fail("%w", err)
	}
	var claims struct {
		Issuer          string          `json:"iss"`
		Subject         string          `json:"sub"`
		Audience        json.RawMessage `json:"aud"`
		AuthorizedParty string          `json:"azp"`
		Issued          float64         `json:"iat"`
		Expires         float64         `json:"exp"`
		AuthTime        float64         `json:"auth_time"`
		Nonce           string          `json:"nonce"`
		ACR             string          `json:"acr"`
		AMR             []string        `json:"amr"`
		SessionID       string          `json:"sid"`
		AccessHash      string          `json:"at_hash"`
	}
	if err := json.Unmarshal(token.Payload, &claims); err != nil {
		return fail("claims: %w", err)
	}
	var audience []string
	if json.Unmarshal(claims.Audience, &audience) != nil {
		audience = make([]string, 1)
		if json.Unmarshal(claims.Audience, &audience[0]) != nil {
			return fail("aud: expected a string or an array of strings")
		}
	}
	now := c.cfg.Now()
	switch {
	case claims.Issuer != c.cfg.Issuer:
		return fail("iss: expected %q, found %q", c.cfg.Issuer, printable(claims.Issuer, 256))
	case !slices.Equal(audience, []string{c.cfg.ClientID}): // no other is trusted
		return fail("aud: expected %q alone, found %q", c.cfg.ClientID, printable(strings.Join(audience, " "), 256))
	case claims.AuthorizedParty != "" && claims.AuthorizedParty != c.cfg.ClientID:
		return fail("azp: expected %q, found %q", c.cfg.ClientID, printable(claims.AuthorizedParty, 256))
	case claims.Subject == "" || len(claims.Subject) > 255:
		return fail("sub: expected 1 to 255 characters")
	case !now.Before(unix(claims.Expires)):
		return fail("exp: expected a time after %v, found %v", now.Unix(), int64(claims.Expires))
	case claims.Issued <= 0 || unix(claims.Issued).After(now.Add(clockSkew)):
		return fail("iat: expected a time up to %v, found %v", now.Unix(), int64(claims.Issued))
	case claims.AccessHash != "" && subtle.ConstantTimeCompare([]byte(claims.AccessHash), []byte(leftHalf(token.Alg, accessToken))) != 1:
		return fail("at_hash: expected that of the access token beside it, found another")
	}
	t := &IDToken{
		Issuer: claims.Issuer, Subject: claims.Subject, Audience: c.cfg.ClientID, ACR: claims.ACR, AMR: claims.AMR, SessionID: claims.SessionID,
		Issued: unix(claims.Issued), Expires: unix(claims.Expires), Claims: token.Payload, Compact: compact, nonce: claims.Nonce,
	}
	if claims.AuthTime > 0 {
		t.AuthTime = unix(claims.AuthTime)
	}
	return t, nil
}

// unix reads a NumericDate. What is out of range is the beginning of time.
func unix(seconds float64) time.Time {
	if !(0 <= seconds && seconds < 253402300800) {
		return time.Unix(0, 0)
	}
	return time.Unix(int64(seconds), 0)
}

// forRequest holds an ID token to the request that it answers.
func (t *IDToken) forRequest(p *Pending, now time.Time) error {
	if p.Nonce == "" || subtle.ConstantTimeCompare([]byte(t.nonce), []byte(p.Nonce)) != 1 {
		return fmt.Errorf("%w: nonce: expected the one of this request, found another", ErrIDToken)
	}
	if p.MaxAge != nil && now.Sub(t.AuthTime) > *p.MaxAge+clockSkew {
		return fmt.Errorf("%w: auth_time: expected a login at most %v ago, found %v", ErrIDToken, *p.MaxAge, t.AuthTime.Unix())
	}
	return nil
}

// forSession holds an ID token of a refresh to the login (OpenID Connect Core, Section
// 12.2).
func (t *IDToken) forSession(subject string) error {
	if t.Subject != subject {
		return fmt.Errorf("%w: sub: expected the person who logged in, found another", ErrIDToken)
	}
	return nil
}

// verifySignature looks for the key in the issuer's set, and once more in a newer one.
func (c *Client) verifySignature(ctx context.Context, token *jws.Token) error {
	m, err := c.Discover(ctx)
	if err != nil {
		return err
	}
	if m.JWKSURI == "" {
		return fmt.Errorf("jwks_uri: expected in the metadata of %s, found none", m.Issuer)
	}
	set, err := c.keys.Get(ctx, m.JWKSURI)
	if err != nil {
		return err
	}
	if verifiedBy(set, token) {
		return nil
	}
	if set, _, err = c.keys.Refetch(ctx, m.JWKSURI); err != nil {
		return err
	}
	if verifiedBy(set, token) {
		return nil
	}
	return fmt.Errorf("signature: expected one of a key at %s, kid %q", m.JWKSURI, printable(token.Kid, 64))
}

func verifiedBy(set *jwks.Set, token *jws.Token) bool {
	return slices.ContainsFunc(set.Keys, func(k jose.JSONWebKey) bool {
		return (token.Kid == "" || k.KeyID == token.Kid) && k.Use != "enc" &&
			(k.Algorithm == "" || k.Algorithm == token.Alg) && token.Verify(k.Key) == nil
	})
}

// leftHalf is at_hash: half of the digest that belongs to the algorithm (OpenID Connect
// Core, Section 3.1.3.6), SHA-512 for EdDSA with Ed25519.
func leftHalf(alg, value string) string {
	if alg == jws.EdDSA {
		sum := sha512.Sum512([]byte(value))
		return base64.RawURLEncoding.EncodeToString(sum[:32])
	}
	sum := sha256.Sum256([]byte(value))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}
