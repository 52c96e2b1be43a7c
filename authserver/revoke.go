package authserver

import (
	"crypto/sha256"
	"errors"
	"net/http"

	"github.com/certbound/certbound/decision"
)

// revoke is the revocation endpoint (RFC 7009). It works for JWTs as well, by jti,
// which introspection knows until they expire. A public client needs its client_id
// only, and a client needs no certificate that the token is bound to, so that the
// token of a lost key can still be revoked.
func (x *exchange) revoke() *refusal {
	c, refused := x.authenticate(true)
	if refused != nil {
		return refused
	}
	value := x.form.get("token")
	if value == "" || len(value) > maxToken {
		return x.fail(refuseNoToken, decision.Check{Name: decision.CheckToken, Rule: "RFC 7009, Section 2.1", Reason: decision.NoToken})
	}
	if x.s.isRefreshToken(value) {
		return x.revokeRefresh(c, value)
	}
	t, reason, err := x.s.findToken(x.ctx(), value)
	switch {
	case err != nil:
		return x.unavailable(decision.CheckToken, err)
	case t == nil:
		// Nothing to revoke is success (RFC 7009, Section 2.2).
		x.d.Skip(decision.CheckToken, "RFC 7009, Section 2.2", string(reason))
	case t.ClientID != c.ID:
		return x.fail(refuseOthersToken, decision.Check{Name: decision.CheckToken, Rule: "RFC 7009, Section 2.1",
			Reason: decision.CallerNotAllowed, Expected: "a token of this client", Found: "a token of " + clip(t.ClientID, 256)})
	case !x.now.Before(t.Expires):
		x.d.Skip(decision.CheckToken, "RFC 7009, Section 2.2", string(decision.TokenExpired))
	default:
		if err := x.s.cfg.Store.Revoke(x.ctx(), t.JTI, t.Expires); err != nil {
			return x.unavailable(decision.CheckToken, err)
		}
		x.d.Pass(decision.CheckToken, "RFC 7009, Section 2.1", t.JTI)
	}
	x.d.Allow()
	x.write(http.StatusOK, nil)
	return nil
}

// revokeRefresh ends the grant of a refresh token, with all its access tokens (RFC 7009,
// Section 2.1).
func (x *exchange) revokeRefresh(c *registered, value string) *refusal {
	token, person, err := x.s.grants.RefreshToken(x.ctx(), sha256.Sum256([]byte(value)))
	switch {
	case errors.Is(err, ErrNotFound):
		x.d.Skip(decision.CheckToken, "RFC 7009, Section 2.2", string(decision.RefreshUnknown))
	case err != nil:
		return x.unavailable(decision.CheckToken, err)
	case token.ClientID != c.ID:
		return x.fail(refuseOthersToken, decision.Check{Name: decision.CheckToken, Rule: "RFC 7009, Section 2.1",
			Reason: decision.GrantOfAnother, Expected: "a token of this client", Found: "a token of " + clip(token.ClientID, 256)})
	default:
		if err := x.s.grants.RevokeGrant(x.ctx(), person.ID, x.now); err != nil && !errors.Is(err, ErrNotFound) {
			return x.unavailable(decision.CheckToken, err)
		}
		x.d.Pass(decision.CheckToken, "RFC 7009, Section 2.1", person.ID)
	}
	x.d.Allow()
	x.write(http.StatusOK, nil)
	return nil
}
