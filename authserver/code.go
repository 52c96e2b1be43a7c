package authserver

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/certbound/certbound/decision"
)

// refuseNoCode and refuseNoRefresh name the parameter that is missing.
var (
	refuseNoCode    = &refusal{400, "invalid_request", "code is missing or too long", false}
	refuseNoRefresh = &refusal{400, "invalid_request", "refresh_token is missing or too long", false}
)

// maxCode bounds the codes and refresh tokens that are looked up, in bytes.
const maxCode = 256

// codeGrant is authorization_code (RFC 6749, Section 4.1.3; RFC 7636, Section 4.6). A
// request that is wrong in any way leaves the code as it is, so that nobody can spoil
// the code of somebody else.
func (x *exchange) codeGrant(c *registered) *refusal {
	const rule = "RFC 6749, Section 4.1.3"
	if refused := x.mayUse(c, GrantAuthorizationCode, rule); refused != nil {
		return refused
	}
	value := x.form.get("code")
	if value == "" || len(value) > maxCode {
		return x.fail(refuseNoCode, decision.Check{Name: decision.CheckGrant, Rule: rule, Reason: decision.RequestMalformed, Expected: "code"})
	}
	hash := sha256.Sum256([]byte(value))
	code, person, err := x.s.grants.Code(x.ctx(), hash)
	switch {
	case errors.Is(err, ErrNotFound):
		return x.fail(refuseInvalidGrant, decision.Check{Name: decision.CheckGrant, Rule: rule, Reason: decision.CodeUnknown})
	case err != nil:
		return x.unavailable(decision.CheckGrant, err)
	}
	if refused := x.judgeCode(c, code, person); refused != nil {
		return refused
	}
	g := grant{client: c, person: person, issued: x.now.Truncate(time.Second), scope: x.stillAllowed(c, person)}
	if refused := x.prepareGrant(c, &g); refused != nil {
		return refused
	}
	x.d.Pass(decision.CheckGrant, rule, person.ID)
	if refused := x.bindGrant(c, &g); refused != nil {
		return refused
	}
	var refresh string
	var next *RefreshToken
	if x.wantsRefresh(c, &g) {
		refresh, next = x.newRefreshToken(c, &g)
	}
	return x.issueGrant(&g, person.Nonce, refresh, next, func(issued Issued) *refusal {
		switch err := x.s.grants.RedeemCode(x.ctx(), hash, x.now, issued); {
		case errors.Is(err, ErrUsed):
			return x.codeReused(person)
		case errors.Is(err, ErrGrantRevoked):
			return x.fail(refuseInvalidGrant, decision.Check{Name: decision.CheckGrant, Rule: rule, Reason: decision.GrantRevoked, Found: person.ID})
		case errors.Is(err, ErrNotFound): // swept meanwhile
			return x.fail(refuseInvalidGrant, decision.Check{Name: decision.CheckGrant, Rule: rule, Reason: decision.CodeUnknown})
		case err != nil:
			return x.unavailable(decision.CheckGrant, err)
		}
		return nil
	})
}

// judgeCode compares the code with the request. Only who has everything that belongs to
// a code, its code_verifier as well, can end what was issued for it by using it again.
func (x *exchange) judgeCode(c *registered, code *Code, person *Grant) *refusal {
	bad := func(rule string, reason decision.Reason, expected, found string) *refusal {
		return x.fail(refuseInvalidGrant, decision.Check{Name: decision.CheckGrant, Rule: rule, Reason: reason, Expected: expected, Found: found})
	}
	const rule = "RFC 6749, Section 4.1.3"
	uri := x.form.get("redirect_uri")
	switch {
	case code.ClientID != c.ID || person.ClientID != c.ID:
		return bad(rule, decision.GrantOfAnother, "a code of this client", "a code of "+clip(code.ClientID, 256))
	case (code.RedirectURISent || uri != "") && uri != code.RedirectURI:
		if uri == "" {
			uri = "none"
		}
		return bad(rule, decision.RedirectURIMismatch, clip(code.RedirectURI, 256), clip(uri, 256))
	case !verifierFits(x.form.get("code_verifier"), code.Challenge):
		return bad("RFC 7636, Section 4.6", decision.CodeVerifier, "the code_verifier of this code", "another, or none")
	case !code.Used.IsZero():
		return x.codeReused(person)
	case !x.now.Before(code.Expires):
		return bad("RFC 6749, Section 4.1.2", decision.CodeExpired, "", "expired "+code.Expires.UTC().Format(time.RFC3339))
	}
	return x.judgeGrant(c, person)
}

// codeReused ends the grant of a code that comes a second time: one of the two who have it
// has stolen it (RFC 6749, Section 4.1.2).
func (x *exchange) codeReused(person *Grant) *refusal {
	if err := x.s.grants.RevokeGrant(x.ctx(), person.ID, x.now); err != nil && !errors.Is(err, ErrNotFound) {
		return x.unavailable(decision.CheckGrant, err)
	}
	x.logEnded(person, "its code came a second time")
	return x.fail(refuseInvalidGrant, decision.Check{Name: decision.CheckGrant, Rule: "RFC 6749, Section 4.1.2", Reason: decision.CodeUsed, Found: person.ID})
}

// logEnded says that a grant has ended because of a theft, or what looks like one.
func (x *exchange) logEnded(person *Grant, why string) {
	x.s.cfg.Logger.LogAttrs(x.ctx(), slog.LevelWarn, "grant revoked, and all tokens of it", slog.String("request_id", x.id),
		slog.String("grant_id", person.ID), slog.String("client_id", person.ClientID), slog.String("sub", person.Subject), slog.String("why", why))
}

// verifierFits compares a code_verifier with an S256 challenge (RFC 7636, Sections 4.1 and
// 4.6). A code without a challenge fits nothing.
func verifierFits(verifier, challenge string) bool {
	if len(verifier) < 43 || len(verifier) > 128 || challenge == "" {
		return false
	}
	for i := range len(verifier) {
		switch c := verifier[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '.', c == '_', c == '~':
		default:
			return false
		}
	}
	sum := sha256.Sum256([]byte(verifier))
	return subtle.ConstantTimeCompare([]byte(base64.RawURLEncoding.EncodeToString(sum[:])), []byte(challenge)) == 1
}

// judgeGrant says whether anything can still follow from a grant.
func (x *exchange) judgeGrant(c *registered, person *Grant) *refusal {
	bad := func(reason decision.Reason, found string) *refusal {
		return x.fail(refuseInvalidGrant, decision.Check{Name: decision.CheckGrant, Rule: "RFC 6749, Section 6", Reason: reason, Found: found})
	}
	end := x.s.grantEnds(person)
	switch {
	case !person.Revoked.IsZero():
		return bad(decision.GrantRevoked, person.ID)
	case person.Created.Before(c.Created):
		// Another client had this id before: what was deleted stays deleted.
		return bad(decision.GrantOfAnother, "a grant from before the client was registered")
	case !x.now.Before(end):
		return bad(decision.GrantExpired, "expired "+end.UTC().Format(time.RFC3339))
	}
	who, err := x.s.grants.Person(x.ctx(), person.Subject)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil // nothing is known of the person, and so nothing against them
	case err != nil:
		return x.unavailable(decision.CheckGrant, err)
	case who.Disabled:
		return bad(decision.PersonDisabled, clip(person.Subject, 256))
	}
	return nil
}

// grantEnds is when nothing can follow from a grant any more.
func (s *Server) grantEnds(person *Grant) time.Time {
	end := person.Created.Add(s.cfg.Authorization.Refresh.Lifetime)
	if !person.Expires.IsZero() && person.Expires.Before(end) {
		end = person.Expires
	}
	return end
}

// stillAllowed is the scope of a grant, without what the client or the server no longer has.
func (x *exchange) stillAllowed(c *registered, person *Grant) string {
	kept := true
	for scope := range strings.FieldsSeq(person.Scope) {
		kept = kept && slices.Contains(c.scopes, scope)
	}
	if kept {
		return person.Scope
	}
	var out []string
	for scope := range strings.FieldsSeq(person.Scope) {
		if slices.Contains(c.scopes, scope) {
			out = append(out, scope)
		}
	}
	return strings.Join(out, " ")
}

// prepareGrant decides about audience and expiry of the access token, after its scope.
func (x *exchange) prepareGrant(c *registered, g *grant) *refusal {
	if refused := x.personAudience(c, g); refused != nil {
		return refused
	}
	g.expires = g.issued.Add(c.lifetime)
	if end := x.s.grantEnds(g.person).Truncate(time.Second); end.Before(g.expires) {
		g.expires = end
	}
	return nil
}

// personAudience takes the requested resources out of those that the person has allowed, or
// all of them (RFC 8707, Section 2.2). With the scope openid the issuer is one of them,
// for UserInfo.
func (x *exchange) personAudience(c *registered, g *grant) *refusal {
	deny := func(expected []string, found string) *refusal {
		return x.fail(refuseTarget, decision.Check{Name: decision.CheckGrant, Rule: "RFC 8707, Section 2.2",
			Reason: decision.ResourceNotAllowed, Expected: strings.Join(expected, " "), Found: clip(found, 256)})
	}
	var allowed []string
	add := func(r string) {
		if !slices.Contains(allowed, r) {
			allowed = append(allowed, r)
		}
	}
	for _, r := range g.person.Resources {
		if slices.Contains(c.resources, r) {
			add(r)
		}
	}
	if len(g.person.Resources) == 0 {
		switch def := x.s.cfg.DefaultResource; {
		case slices.Contains(c.resources, def):
			add(def)
		case len(c.resources) == 1:
			add(c.resources[0])
		}
	}
	if hasScope(g.scope, scopeOpenID) {
		add(x.s.cfg.Issuer)
	}
	requested := x.form.all("resource")
	for _, r := range requested {
		if !slices.Contains(allowed, r) {
			return deny(allowed, r)
		}
		if !slices.Contains(g.audience, r) {
			g.audience = append(g.audience, r)
		}
	}
	if len(requested) == 0 {
		g.audience = allowed
	}
	if len(g.audience) == 0 {
		return deny(g.person.Resources, "none of them is left")
	}
	return nil
}

func hasScope(scope, name string) bool {
	for s := range strings.SplitSeq(scope, " ") {
		if s == name {
			return true
		}
	}
	return false
}

// bindGrant binds the token to the certificate of this request, and refuses an unbound
// one where the profile allows none.
func (x *exchange) bindGrant(c *registered, g *grant) *refusal {
	if refused := x.bind(c, g); refused != nil {
		return refused
	}
	if g.x5t == "" && x.s.fapi2(c) {
		return x.fail(refuseUnbound, decision.Check{Name: decision.CheckBinding, Rule: "FAPI 2.0, Section 5.3.2.1 (4)", Reason: decision.BindingNeeded,
			Expected: "a certificate-bound token", Found: "none"})
	}
	return nil
}

// issueGrant makes the tokens, keeps them, and writes the answer. They are made first, so
// that a failure leaves code and refresh token as they are.
func (x *exchange) issueGrant(g *grant, nonce, refresh string, next *RefreshToken, keep func(Issued) *refusal) *refusal {
	value, opaque, key, refused := x.accessToken(g)
	if refused != nil {
		return refused
	}
	idToken := ""
	if hasScope(g.scope, scopeOpenID) {
		if idToken, refused = x.idToken(g, key, value, nonce); refused != nil {
			return refused
		}
	}
	if refused := keep(Issued{JTI: g.jti, Expires: g.expires, Opaque: opaque, Refresh: next}); refused != nil {
		return refused
	}
	x.answer(g, value, refresh, idToken)
	return nil
}

// randomValue returns a prefix and 256 random bits, which a scanner for leaked secrets
// can find.
func randomValue(prefix string) string {
	var random [32]byte
	rand.Read(random[:])
	return prefix + base64.RawURLEncoding.EncodeToString(random[:])
}
