package authserver

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
)

// A grant is what a token says.
type grant struct {
	client   *registered
	jti      string
	scope    string
	audience []string
	issued   time.Time
	expires  time.Time
	x5t      string // empty: not bound

	// person is what a person has allowed, or nil for a client's own token.
	person *Grant
	// bound demands a bound token, whatever the registration says.
	bound bool
}

// token is the token endpoint (RFC 6749, Section 3.2; RFC 8705, Section 3).
func (x *exchange) token() *refusal {
	c, refused := x.authenticate(true)
	if refused != nil {
		return refused
	}
	switch gt := x.form.get("grant_type"); {
	case gt == GrantClientCredentials:
		return x.clientGrant(c)
	case gt == GrantAuthorizationCode && x.s.grants != nil:
		return x.codeGrant(c)
	case gt == GrantRefreshToken && x.s.grants != nil:
		return x.refreshGrant(c)
	case gt == "":
		return x.fail(refuseNoGrant, decision.Check{Name: decision.CheckGrant, Rule: "RFC 6749, Section 4.4.2", Reason: decision.RequestMalformed, Expected: "grant_type", Found: "none"})
	default:
		return x.fail(refuseGrantType, decision.Check{Name: decision.CheckGrant, Rule: "RFC 6749, Section 5.2", Reason: decision.GrantUnsupported,
			Expected: strings.Join(x.s.grantTypes(), " or "), Found: clip(gt, 64)})
	}
}

// grantTypes lists what the token endpoint takes.
func (s *Server) grantTypes() []string {
	if s.grants == nil {
		return []string{GrantClientCredentials}
	}
	return []string{GrantClientCredentials, GrantAuthorizationCode, GrantRefreshToken}
}

// mayUse refuses a client that is not registered for a grant type.
func (x *exchange) mayUse(c *registered, grantType, rule string) *refusal {
	if c.mayUse(grantType) {
		return nil
	}
	return x.fail(refuseGrant, decision.Check{Name: decision.CheckGrant, Rule: rule, Reason: decision.GrantNotAllowed,
		Expected: "a client with " + grantType + " in grant_types", Found: c.method})
}

// clientGrant is client_credentials (RFC 6749, Section 4.4).
func (x *exchange) clientGrant(c *registered) *refusal {
	if !c.mayUse(GrantClientCredentials) || c.method == None {
		// A public client has no credential that the grant could rest on (RFC
		// 6749, Section 4.4).
		return x.fail(refuseGrant, decision.Check{Name: decision.CheckGrant, Rule: "RFC 6749, Section 4.4", Reason: decision.GrantNotAllowed, Found: c.method})
	}
	g := grant{client: c, issued: x.now.Truncate(time.Second)}
	if refused := x.grantScope(c, &g); refused != nil {
		return refused
	}
	if refused := x.grantAudience(c, &g); refused != nil {
		return refused
	}
	x.d.Pass(decision.CheckGrant, "RFC 6749, Section 4.4", "")
	g.expires = g.issued.Add(c.lifetime)
	if refused := x.bindGrant(c, &g); refused != nil {
		return refused
	}
	return x.issue(&g)
}

// grantScope takes the requested scopes, or all that the client has.
func (x *exchange) grantScope(c *registered, g *grant) *refusal {
	requested := x.form.get("scope")
	if requested == "" {
		g.scope = c.scopeText
		return nil
	}
	deny := func(found string) *refusal {
		return x.fail(refuseScope, decision.Check{Name: decision.CheckGrant, Rule: "RFC 6749, Section 3.3",
			Reason: decision.ScopeNotAllowed, Expected: c.scopeText, Found: clip(found, 256)})
	}
	seen := make([]string, 0, 8)
	for scope := range strings.SplitSeq(requested, " ") {
		if slices.Contains(seen, scope) {
			continue
		}
		if !slices.Contains(c.scopes, scope) {
			return deny(scope)
		}
		seen = append(seen, scope)
	}
	g.scope = requested
	if len(seen) != strings.Count(requested, " ")+1 {
		g.scope = strings.Join(seen, " ")
	}
	return nil
}

// grantAudience takes the requested resources (RFC 8707), or the default.
func (x *exchange) grantAudience(c *registered, g *grant) *refusal {
	audience, failed := x.s.audienceOf(c, x.form.all("resource"))
	if failed != nil {
		failed.Name = decision.CheckGrant
		return x.fail(refuseTarget, *failed)
	}
	g.audience = audience
	return nil
}

// audienceOf returns what a client gets for the requested resources (RFC 8707, Section 2):
// these, or else its default. If it may not have them, it returns the failed check, whose
// name is the caller's.
func (s *Server) audienceOf(c *registered, requested []string) (audience []string, failed *decision.Check) {
	deny := func(expected, found string) ([]string, *decision.Check) {
		return nil, &decision.Check{Rule: "RFC 8707, Section 2", Reason: decision.ResourceNotAllowed, Expected: clip(expected, 1024), Found: clip(found, 256)}
	}
	for _, r := range requested {
		if !slices.Contains(c.resources, r) {
			return deny(strings.Join(c.resources, " "), r)
		}
		if !slices.Contains(audience, r) {
			audience = append(audience, r)
		}
	}
	switch {
	case len(requested) > 0:
		return audience, nil
	case slices.Contains(c.resources, s.cfg.DefaultResource):
		return s.defaultAudience, nil
	case len(c.resources) == 1:
		return c.resources, nil
	}
	return deny("resource, since none is the default", "none")
}

// bind decides whether the token is bound to the certificate of this very request
// (RFC 8705, Sections 3 and 3.4), however the client has authenticated.
func (x *exchange) bind(c *registered, g *grant) *refusal {
	const rule = "RFC 8705, Section 3.4"
	p, policy := x.presented, x.s.cfg.Binding
	switch {
	case !x.s.binds:
		x.d.Skip(decision.CheckBinding, rule, "binding is switched off")
		return nil
	case g.bound, policy == BindAlwaysIfCertificate && (p != nil || c.BoundTokens):
	case !c.BoundTokens:
		x.d.Skip(decision.CheckBinding, rule, "not asked for")
		return nil
	}
	g.x5t = p.Thumbprint()
	if g.x5t == "" {
		if x.s.cfg.AllowUnboundFallback && !x.s.fapi2(c) {
			x.d.Skip(decision.CheckBinding, rule, "no certificate; AllowUnboundFallback is set")
			return nil
		}
		check := decision.Check{Name: decision.CheckBinding, Rule: rule, Reason: decision.BindingNeeded, Expected: "a client certificate", Found: "none"}
		if p.Kind() != certsource.KindNone {
			check.Reason, check.Expected, check.Found = decision.NotEnough, "the certificate or its fingerprint", p.Kind().String()
		} else if x.h.certificate == nil {
			check.Found = "a listener that takes no certificates"
		}
		return x.fail(refuseUnbound, check)
	}
	if leaf := p.Leaf(); leaf != nil && x.s.cfg.CapLifetimeAtCertificate && leaf.NotAfter.Before(g.expires) {
		g.expires = leaf.NotAfter.Truncate(time.Second)
		if !g.expires.After(g.issued) {
			return x.fail(refuseExpiring, decision.Check{Name: decision.CheckBinding, Reason: decision.Expired,
				Expected: "a certificate that outlives the token", Found: "notAfter " + leaf.NotAfter.UTC().Format(time.RFC3339)})
		}
	}
	revoked, err := x.s.isRevoked(x.ctx(), p)
	if err == nil && !revoked {
		err = x.s.rememberCertificate(x.ctx(), p, c.ID, x.now, g.expires)
	}
	switch {
	case revoked || errors.Is(err, ErrRevoked):
		return x.fail(refuseRevoked, revokedCheck(p))
	case err != nil:
		return x.unavailable(decision.CheckBinding, err)
	}
	x.d.Pass(decision.CheckBinding, "RFC 8705, Section 3.1", g.x5t)
	return nil
}

// issue makes a client's own token and writes the answer.
func (x *exchange) issue(g *grant) *refusal {
	value, t, _, refused := x.accessToken(g)
	if refused != nil {
		return refused
	}
	if t != nil {
		if err := x.s.cfg.Store.SaveToken(x.ctx(), t); err != nil {
			return x.unavailable(decision.CheckToken, err)
		}
	}
	x.answer(g, value, "", "")
	return nil
}

// accessToken makes an access token. An opaque one has to be saved yet; a JWT has the key
// that has signed it.
func (x *exchange) accessToken(g *grant) (value string, t *OpaqueToken, k *signingKey, refused *refusal) {
	var random [16 + 32]byte
	rand.Read(random[:])
	g.jti = base64.RawURLEncoding.EncodeToString(random[:16])
	if g.client.opaque {
		value = opaquePrefix + base64.RawURLEncoding.EncodeToString(random[16:])
		return value, &OpaqueToken{
			Hash: sha256.Sum256([]byte(value)), JTI: g.jti, ClientID: g.client.ID, Subject: g.subject(),
			Scope: g.scope, Audience: g.audience, Issued: g.issued, Expires: g.expires, X5TS256: g.x5t,
		}, nil, nil
	}
	k, err := x.s.signingKey(x.ctx(), x.now)
	if err != nil {
		return "", nil, nil, x.unavailable(decision.CheckToken, err)
	}
	var buf [1024]byte
	if value, err = k.signer.Sign(x.s.appendClaims(buf[:0], g)); err != nil {
		return "", nil, nil, x.signingFailed(err)
	}
	return value, nil, k, nil
}

func (x *exchange) signingFailed(err error) *refusal {
	return x.fail(refuseServer, decision.Check{Name: decision.CheckToken, Reason: decision.LookupFailed, Found: "signing: " + err.Error()})
}

// subject is that of the token: the person, or the client itself.
func (g *grant) subject() string {
	if g.person != nil {
		return g.person.Subject
	}
	return g.client.ID
}

// answer writes the answer of RFC 6749, Section 5.1. Refresh token and ID token may be
// empty.
func (x *exchange) answer(g *grant, value, refresh, idToken string) {
	x.d.Allow()
	out := make([]byte, 0, len(value)+len(g.scope)+len(refresh)+len(idToken)+128)
	out = append(out, `{"access_token":"`...)
	out = append(out, value...)
	out = append(out, `","token_type":"Bearer","expires_in":`...) // Bearer also if bound: RFC 8705 defines no type
	out = strconv.AppendInt(out, int64(g.expires.Sub(g.issued)/time.Second), 10)
	if refresh != "" {
		out = append(out, `,"refresh_token":"`...)
		out = append(out, refresh...)
		out = append(out, '"')
	}
	if g.scope != "" {
		out = append(out, `,"scope":"`...)
		out = append(out, g.scope...) // scope tokens have nothing to escape
		out = append(out, '"')
	}
	if idToken != "" {
		out = append(out, `,"id_token":"`...)
		out = append(out, idToken...)
		out = append(out, '"')
	}
	out = append(out, '}')
	x.write(http.StatusOK, out)
}

// opaquePrefix lets scanners for leaked secrets find our tokens.
const opaquePrefix = "cbt_"

// appendClaims appends the claims of RFC 9068, Section 2.2, with cnf. It is written by
// hand because it is most of what a token costs beside the signature.
func (s *Server) appendClaims(b []byte, g *grant) []byte {
	b = append(b, `{"iss":`...)
	b = append(b, s.jsonIssuer...)
	b = append(b, `,"sub":`...)
	if g.person != nil {
		b = append(b, quote(g.person.Subject)...)
	} else {
		b = append(b, g.client.jsonID...)
	}
	b = append(b, `,"client_id":`...)
	b = append(b, g.client.jsonID...)
	b = append(b, `,"aud":`...)
	if len(g.audience) == 1 {
		b = append(b, s.quoted[g.audience[0]]...)
	} else {
		for i, a := range g.audience {
			b = append(b, "[,"[min(i, 1)])
			b = append(b, s.quoted[a]...)
		}
		b = append(b, ']')
	}
	b = append(b, `,"iat":`...)
	b = strconv.AppendInt(b, g.issued.Unix(), 10)
	b = append(b, `,"exp":`...)
	b = strconv.AppendInt(b, g.expires.Unix(), 10)
	b = append(b, `,"jti":"`...)
	b = append(b, g.jti...)
	b = append(b, '"')
	if g.scope != "" {
		b = append(b, `,"scope":"`...)
		b = append(b, g.scope...)
		b = append(b, '"')
	}
	if p := g.person; p != nil {
		b = appendAuthentication(b, p)
	}
	if g.x5t != "" {
		b = append(b, `,"cnf":{"x5t#S256":"`...)
		b = append(b, g.x5t...)
		b = append(b, `"}`...)
	}
	return append(b, '}')
}

// appendAuthentication appends what the person's authentication was like (RFC 9068,
// Section 2.2.1).
func appendAuthentication(b []byte, p *Grant) []byte {
	if !p.AuthTime.IsZero() {
		b = append(b, `,"auth_time":`...)
		b = strconv.AppendInt(b, p.AuthTime.Unix(), 10)
	}
	if p.ACR != "" {
		b = append(b, `,"acr":`...)
		b = append(b, quote(p.ACR)...)
	}
	for i, m := range p.AMR {
		if i == 0 {
			b = append(b, `,"amr":[`...)
		} else {
			b = append(b, ',')
		}
		b = append(b, quote(m)...)
	}
	if len(p.AMR) > 0 {
		b = append(b, ']')
	}
	return b
}
