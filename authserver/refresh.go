package authserver

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/certbound/certbound/decision"
)

// refreshPrefix tells refresh tokens from other tokens.
const refreshPrefix = "cbr_"

// scopeOffline asks for access while the person is away (OpenID Connect Core, Section 11).
const scopeOffline = "offline_access"

// refreshGrant is refresh_token (RFC 6749, Section 6; RFC 8705, Sections 4 and 7.1).
func (x *exchange) refreshGrant(c *registered) *refusal {
	const rule = "RFC 6749, Section 6"
	if refused := x.mayUse(c, GrantRefreshToken, rule); refused != nil {
		return refused
	}
	value := x.form.get("refresh_token")
	if value == "" || len(value) > maxCode {
		return x.fail(refuseNoRefresh, decision.Check{Name: decision.CheckGrant, Rule: rule, Reason: decision.RequestMalformed, Expected: "refresh_token"})
	}
	hash := sha256.Sum256([]byte(value))
	token, person, err := x.s.grants.RefreshToken(x.ctx(), hash)
	switch {
	case errors.Is(err, ErrNotFound):
		return x.fail(refuseInvalidGrant, decision.Check{Name: decision.CheckGrant, Rule: rule, Reason: decision.RefreshUnknown})
	case err != nil:
		return x.unavailable(decision.CheckGrant, err)
	}
	if refused := x.judgeRefresh(c, token, person); refused != nil {
		return refused
	}
	g := grant{client: c, person: person, issued: x.now.Truncate(time.Second), bound: token.X5TS256 != ""}
	if refused := x.narrowScope(c, &g); refused != nil {
		return refused
	}
	if refused := x.prepareGrant(c, &g); refused != nil {
		return refused
	}
	x.d.Pass(decision.CheckGrant, rule, person.ID)
	if refused := x.bindGrant(c, &g); refused != nil {
		return refused
	}
	var refresh string
	var next *RefreshToken
	if x.rotates(c, token) {
		refresh, next = x.newRefreshToken(c, &g)
	}
	return x.issueGrant(&g, "", refresh, next, func(issued Issued) *refusal {
		switch err := x.s.grants.Refresh(x.ctx(), hash, x.now, x.grace(), x.refreshExpires(person), issued); {
		case errors.Is(err, ErrUsed):
			x.logEnded(person, "a refresh token that was replaced came again")
			return x.fail(refuseInvalidGrant, decision.Check{Name: decision.CheckGrant, Rule: "RFC 9700, Section 4.14.2", Reason: decision.RefreshReused, Found: person.ID})
		case errors.Is(err, ErrGrantRevoked):
			return x.fail(refuseInvalidGrant, decision.Check{Name: decision.CheckGrant, Rule: rule, Reason: decision.GrantRevoked, Found: person.ID})
		case errors.Is(err, ErrNotFound): // swept meanwhile
			return x.fail(refuseInvalidGrant, decision.Check{Name: decision.CheckGrant, Rule: rule, Reason: decision.RefreshUnknown})
		case err != nil:
			return x.unavailable(decision.CheckGrant, err)
		}
		return nil
	})
}

// judgeRefresh compares the refresh token with the request. The certificate comes before
// everything that changes something: with another one, a thief neither uses the token up
// nor ends the grant, which would only be another way to do harm.
func (x *exchange) judgeRefresh(c *registered, token *RefreshToken, person *Grant) *refusal {
	if token.ClientID != c.ID || person.ClientID != c.ID {
		return x.fail(refuseInvalidGrant, decision.Check{Name: decision.CheckGrant, Rule: "RFC 6749, Section 6", Reason: decision.GrantOfAnother,
			Expected: "a refresh token of this client", Found: "one of " + clip(token.ClientID, 256)})
	}
	if token.Authenticated && c.method == None {
		return x.fail(refuseInvalidGrant, decision.Check{Name: decision.CheckBinding, Rule: "RFC 6749, Section 6", Reason: decision.CallerNotAllowed,
			Expected: "a client that authenticates, as it did when it got the token", Found: "a public client",
			Fix: "the client has become a public one: let people log in again"})
	}
	if token.X5TS256 != "" {
		found := x.presented.Thumbprint()
		if subtle.ConstantTimeCompare([]byte(found), []byte(token.X5TS256)) != 1 {
			check := decision.Check{Name: decision.CheckBinding, Rule: "RFC 8705, Section 4", Reason: decision.BindingMismatch, Expected: token.X5TS256, Found: found,
				Fix: "use the certificate that was used to get the refresh token; otherwise it was stolen"}
			switch {
			case x.h.certificate == nil:
				check.Reason, check.Found, check.Fix = decision.ListenerWithout, "", ""
			case found == "":
				check.Reason, check.Found, check.Fix = decision.NoCertificate, "none", ""
			}
			return x.fail(refuseInvalidGrant, check)
		}
	}
	if refused := x.judgeGrant(c, person); refused != nil {
		return refused
	}
	if !x.now.Before(token.Expires) {
		return x.fail(refuseInvalidGrant, decision.Check{Name: decision.CheckGrant, Rule: "RFC 9700, Section 4.14.2", Reason: decision.RefreshExpired,
			Found: "expired " + token.Expires.UTC().Format(time.RFC3339)})
	}
	if token.X5TS256 != "" {
		x.d.Pass(decision.CheckBinding, "RFC 8705, Section 4", token.X5TS256)
	}
	return nil
}

// narrowScope takes the requested scopes out of those of the grant, or all of them.
func (x *exchange) narrowScope(c *registered, g *grant) *refusal {
	allowed := x.stillAllowed(c, g.person)
	requested := x.form.get("scope")
	if requested == "" {
		g.scope = allowed
		return nil
	}
	var scopes []string
	for scope := range strings.SplitSeq(requested, " ") {
		if scope == "" || !hasScope(allowed, scope) {
			return x.fail(refuseScope, decision.Check{Name: decision.CheckGrant, Rule: "RFC 6749, Section 6",
				Reason: decision.ScopeNotAllowed, Expected: clip(allowed, 1024), Found: clip(scope, 256)})
		}
		if !slices.Contains(scopes, scope) {
			scopes = append(scopes, scope)
		}
	}
	g.scope = strings.Join(scopes, " ")
	return nil
}

// wantsRefresh reports whether a refresh token belongs into the answer to a code. A client
// that has offline_access among its scopes decides in each request; others always get
// one. For a public client it has to be bound or rotated (RFC 9700, Section 2.2.2).
func (x *exchange) wantsRefresh(c *registered, g *grant) bool {
	policy := &x.s.cfg.Authorization.Refresh
	switch {
	case !c.mayUse(GrantRefreshToken):
		return false
	case c.method == None && g.x5t == "" && !policy.Rotate && !policy.RotateAll:
		return false
	}
	return !slices.Contains(c.scopes, scopeOffline) || hasScope(g.person.Scope, scopeOffline)
}

// rotates reports whether a refresh token is replaced by this use of it. One that was
// replaced before has to be, since the store judges a second use only then.
func (x *exchange) rotates(c *registered, token *RefreshToken) bool {
	switch {
	case !token.Used.IsZero():
		return true
	case x.s.fapi2(c):
		return false // FAPI 2.0, Section 5.3.2.1 (9)
	case c.method == None && token.X5TS256 == "":
		return true // also if it comes from a time when the policy was another
	}
	return x.s.cfg.Authorization.Refresh.RotateAll
}

func (x *exchange) grace() time.Duration { return max(0, x.s.cfg.Authorization.Refresh.Grace) }

func (x *exchange) refreshExpires(person *Grant) time.Time {
	expires, end := x.now.Add(x.s.cfg.Authorization.Refresh.Idle), x.s.grantEnds(person)
	if end.Before(expires) {
		return end
	}
	return expires
}

// newRefreshToken makes a refresh token. It is bound to the certificate for public clients
// and, by policy, for those with a secret. A client that authenticates with its
// certificate, or with a key, is held by that, so that its certificate can be renewed
// (RFC 8705, Sections 4, 6.3 and 7.1).
func (x *exchange) newRefreshToken(c *registered, g *grant) (value string, t *RefreshToken) {
	value = randomValue(refreshPrefix)
	t = &RefreshToken{Hash: sha256.Sum256([]byte(value)), GrantID: g.person.ID, ClientID: c.ID, Authenticated: c.method != None, Issued: x.now, Expires: x.refreshExpires(g.person)}
	if c.method == None || c.method == ClientSecretBasic && x.s.cfg.Authorization.Refresh.PinSecretClients {
		t.X5TS256 = g.x5t
	}
	return value, t
}

// isRefreshToken tells refresh tokens from access tokens.
func (s *Server) isRefreshToken(value string) bool {
	return s.grants != nil && strings.HasPrefix(value, refreshPrefix) && len(value) <= maxCode
}
