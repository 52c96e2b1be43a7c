package authserver

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/decision"
)

// maxToken bounds the tokens that are looked at, in bytes.
const maxToken = 16 << 10

// tokenInfo is a token of ours whose signature, or presence in the store, is checked,
// and nothing else.
type tokenInfo struct {
	JTI      string
	ClientID string
	Subject  string
	Scope    string
	Audience []string
	Issued   time.Time
	Expires  time.Time
	X5TS256  string
}

// An introspection is the answer of RFC 7662, Section 2.2.
type introspection struct {
	Active    bool                   `json:"active"`
	Issuer    string                 `json:"iss"`
	Subject   string                 `json:"sub"`
	Audience  audience               `json:"aud,omitempty"`
	ClientID  string                 `json:"client_id"`
	TokenType string                 `json:"token_type,omitempty"`
	Scope     string                 `json:"scope,omitempty"`
	JTI       string                 `json:"jti,omitempty"`
	Issued    int64                  `json:"iat"`
	Expires   int64                  `json:"exp"`
	Cnf       certbound.Confirmation `json:"cnf,omitzero"`
}

// An audience is one string or several.
type audience []string

func (a audience) MarshalJSON() ([]byte, error) {
	if len(a) == 1 {
		return json.Marshal(a[0])
	}
	return json.Marshal([]string(a))
}

func (a *audience) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(a))
}

var inactive = []byte(`{"active":false}`)

// introspect is the introspection endpoint (RFC 7662). The certificate of the caller
// is only for its own authentication; it is not compared with cnf, which is for the
// resource server to do (RFC 8705, Section 3.2). token_type_hint is not needed: the
// form of a token says what it is.
func (x *exchange) introspect() *refusal {
	c, refused := x.authenticate(false)
	if refused != nil {
		return refused
	}
	if !c.MayIntrospect {
		return x.fail(refuseCaller, decision.Check{Name: decision.CheckClient, Rule: "RFC 7662, Section 4", Reason: decision.CallerNotAllowed,
			Expected: "certbound_may_introspect", Found: "not allowed"})
	}
	value := x.form.get("token")
	if value == "" || len(value) > maxToken {
		return x.fail(refuseNoToken, decision.Check{Name: decision.CheckToken, Rule: "RFC 7662, Section 2.1", Reason: decision.NoToken})
	}
	if x.s.isRefreshToken(value) {
		return x.introspectRefresh(c, value)
	}
	t, reason, err := x.s.findToken(x.ctx(), value)
	if err == nil && t != nil {
		reason, err = x.s.judgeToken(x.ctx(), t, x.now)
	}
	if err != nil {
		return x.unavailable(decision.CheckToken, err)
	}
	if reason == "" && !slices.ContainsFunc(t.Audience, func(a string) bool { return slices.Contains(c.introspects, a) }) {
		reason = decision.AudienceMismatch
	}
	if reason != "" {
		return x.inactive(reason)
	}
	x.d.Pass(decision.CheckToken, "RFC 7662, Section 2.2", t.JTI)
	return x.active(introspection{
		Subject: t.Subject, Audience: t.Audience, ClientID: t.ClientID,
		TokenType: "Bearer", Scope: t.Scope, JTI: t.JTI, Issued: t.Issued.Unix(), Expires: t.Expires.Unix(),
		Cnf: certbound.Confirmation{X5TS256: t.X5TS256},
	})
}

// introspectRefresh answers for a refresh token, which nobody but its own client has any
// business with.
func (x *exchange) introspectRefresh(c *registered, value string) *refusal {
	token, person, err := x.s.grants.RefreshToken(x.ctx(), sha256.Sum256([]byte(value)))
	switch {
	case errors.Is(err, ErrNotFound):
		return x.inactive(decision.RefreshUnknown)
	case err != nil:
		return x.unavailable(decision.CheckToken, err)
	case token.ClientID != c.ID:
		return x.inactive(decision.GrantOfAnother)
	case !token.Used.IsZero() && token.Used.Before(x.now.Add(-x.grace())):
		return x.inactive(decision.RefreshReused)
	case !x.now.Before(token.Expires):
		return x.inactive(decision.RefreshExpired)
	}
	before := len(x.d.Checks)
	if refused := x.judgeGrant(c, person); refused != nil {
		if refused == refuseUnavailable {
			return refused
		}
		reason := x.d.Reason()
		x.d.Checks = x.d.Checks[:before] // an answer, not a refusal of the caller
		return x.inactive(reason)
	}
	x.d.Pass(decision.CheckToken, "RFC 7662, Section 2.2", person.ID)
	return x.active(introspection{
		Subject: person.Subject, Audience: person.Resources, ClientID: token.ClientID, Scope: x.stillAllowed(c, person),
		Issued: token.Issued.Unix(), Expires: token.Expires.Unix(), Cnf: certbound.Confirmation{X5TS256: token.X5TS256},
	})
}

// inactive answers that there is no such token. That is not a refusal of the caller: the
// question was answered.
func (x *exchange) inactive(reason decision.Reason) *refusal {
	x.d.Skip(decision.CheckToken, "RFC 7662, Section 2.2", "inactive: "+string(reason))
	x.d.Allow()
	x.write(http.StatusOK, inactive)
	return nil
}

func (x *exchange) active(answer introspection) *refusal {
	answer.Active, answer.Issuer = true, x.s.cfg.Issuer
	x.d.Allow()
	body, err := json.Marshal(answer)
	if err != nil {
		return x.fail(refuseServer, decision.Check{Name: decision.CheckToken, Reason: decision.Unspecified, Found: err.Error()})
	}
	x.write(http.StatusOK, body)
	return nil
}

// findToken reads a token that this server has issued. It returns nil and a reason
// if there is no such token.
func (s *Server) findToken(ctx context.Context, value string) (*tokenInfo, decision.Reason, error) {
	if strings.Contains(value, ".") {
		return s.findJWT(ctx, value)
	}
	t, err := s.cfg.Store.Token(ctx, sha256.Sum256([]byte(value)))
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, decision.TokenInactive, nil
	case err != nil:
		return nil, "", err
	}
	return &tokenInfo{JTI: t.JTI, ClientID: t.ClientID, Subject: t.Subject, Scope: t.Scope, Audience: t.Audience,
		Issued: t.Issued, Expires: t.Expires, X5TS256: t.X5TS256}, "", nil
}

func (s *Server) findJWT(ctx context.Context, value string) (*tokenInfo, decision.Reason, error) {
	payload, reason, err := s.ownToken(ctx, value, "at+jwt")
	if err != nil || reason != "" {
		return nil, reason, err
	}
	var claims struct {
		Issuer   string                 `json:"iss"`
		Subject  string                 `json:"sub"`
		Audience audience               `json:"aud"`
		ClientID string                 `json:"client_id"`
		Scope    string                 `json:"scope"`
		JTI      string                 `json:"jti"`
		Issued   int64                  `json:"iat"`
		Expires  int64                  `json:"exp"`
		Cnf      certbound.Confirmation `json:"cnf"`
	}
	if json.Unmarshal(payload, &claims) != nil || claims.JTI == "" || claims.Expires == 0 {
		return nil, decision.TokenMalformed, nil
	}
	if claims.Issuer != s.cfg.Issuer {
		return nil, decision.IssuerMismatch, nil
	}
	return &tokenInfo{JTI: claims.JTI, ClientID: claims.ClientID, Subject: claims.Subject, Scope: claims.Scope, Audience: claims.Audience,
		Issued: time.Unix(claims.Issued, 0), Expires: time.Unix(claims.Expires, 0), X5TS256: claims.Cnf.X5TS256}, "", nil
}

// judgeToken makes the checks of RFC 7662, Section 4: the dates, revocation of the token
// and of the certificate that it is bound to, and whether the client is still there.
func (s *Server) judgeToken(ctx context.Context, t *tokenInfo, now time.Time) (decision.Reason, error) {
	switch {
	case !now.Before(t.Expires):
		return decision.TokenExpired, nil
	case t.Issued.After(now.Add(time.Minute)): // another process's clock may be ahead
		return decision.TokenNotYetValid, nil
	}
	revoked, err := s.cfg.Store.Revoked(ctx, t.JTI)
	if err != nil {
		return "", err
	}
	if revoked {
		return decision.TokenRevoked, nil
	}
	if t.X5TS256 != "" {
		switch _, err := s.cfg.Store.CertificateRevoked(ctx, t.X5TS256, "", ""); {
		case err == nil:
			return decision.TokenRevoked, nil
		case !errors.Is(err, ErrNotFound):
			return "", err
		}
	}
	c, err := s.client(ctx, t.ClientID)
	switch {
	case err != nil:
		return "", err
	case c == nil:
		return decision.UnknownClient, nil
	case c.Disabled:
		return decision.ClientDisabled, nil
	case t.Issued.Before(c.Created):
		// Another client had this id before: what was deleted stays deleted.
		return decision.UnknownClient, nil
	}
	return "", nil
}
