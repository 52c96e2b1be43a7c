package authserver

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/certbound/certbound/clientauth"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/jwks"
	"github.com/certbound/certbound/pki"
)

// assertionType is the client_assertion_type of RFC 7523, Section 2.2.
const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// Limits of client assertions.
const (
	maxAssertion     = 16 << 10
	assertionSkew    = 10 * time.Second // FAPI 2.0, Section 5.3.2.1 (13): accepted ahead of our clock
	assertionMaxLife = 10 * time.Minute // until exp, since each jti is remembered so long
	maxJTI           = 256
	maxKeysTried     = 8
)

// A credential is what a request brings for client authentication beside the
// certificate, which by itself is no attempt to authenticate.
type credential struct {
	clientID  string
	method    string // "", client_secret_basic, client_secret_post, private_key_jwt, or "other"
	secret    string
	assertion string
}

// authenticate finds the client of a request and checks its credential. The client is
// found by client_id alone, never by the certificate (RFC 8705, Section 2). With
// public, clients registered for "none" pass; they are identified only. It is the
// same for all endpoints (RFC 8705, Section 1).
func (x *exchange) authenticate(public bool) (*registered, *refusal) {
	cred, refused := x.credential()
	if refused != nil {
		return nil, refused
	}
	x.d.ClientID = clip(cred.clientID, 256)
	if cred.clientID == "" {
		reason := decision.NoClientID
		if strings.Contains(x.r.URL.RawQuery, "client_id=") {
			reason = decision.ClientIDMisplaced
		}
		return nil, x.fail(refuseClient, decision.Check{Name: decision.CheckClient, Rule: "RFC 8705, Section 2", Reason: reason})
	}
	var c *registered
	if validClientID(cred.clientID) {
		var err error
		if c, err = x.s.client(x.ctx(), cred.clientID); err != nil {
			return nil, x.unavailable(decision.CheckClient, err)
		}
	}
	if c == nil {
		x.pretend(cred)
		return nil, x.fail(refuseClient, decision.Check{Name: decision.CheckClient, Reason: decision.UnknownClient, Found: clip(cred.clientID, 256)})
	}
	x.d.Method = c.method
	switch {
	case c.Disabled:
		x.pretend(cred)
		return nil, x.fail(refuseClient, decision.Check{Name: decision.CheckClient, Reason: decision.ClientDisabled})
	case !slices.Contains(x.s.cfg.AuthMethods, c.method):
		x.pretend(cred)
		return nil, x.fail(refuseClient, decision.Check{Name: decision.CheckMethod, Reason: decision.MethodDisabled,
			Expected: strings.Join(x.s.cfg.AuthMethods, ", "), Found: c.method})
	case c.fault != nil:
		x.pretend(cred)
		return nil, x.fail(refuseClient, decision.Check{Name: decision.CheckClient, Reason: decision.ClientMisconfig, Found: c.fault.Error()})
	}
	x.d.Pass(decision.CheckClient, "RFC 6749, Section 2.3", "")

	// A client has one method and cannot be downgraded to another.
	want := ""
	if c.method == ClientSecretBasic || c.method == PrivateKeyJWT {
		want = c.method
	}
	if cred.method != want {
		found := cred.method
		def(&found, "client_id alone")
		x.pretend(cred)
		return nil, x.fail(refuseClient, decision.Check{Name: decision.CheckMethod, Rule: "RFC 8705, Section 2",
			Reason: decision.MethodMismatch, Expected: c.method, Found: found})
	}
	x.d.Pass(decision.CheckMethod, "RFC 6749, Section 2.3", c.method)

	var err error
	switch c.method {
	case clientauth.TLSClientAuth, clientauth.SelfSignedTLSClientAuth:
		if err = x.authenticateCertificate(c); err == nil {
			err = x.checkRevoked()
		} else if x.d.Reason() == decision.Revoked {
			x.s.noteRevoked(x.ctx(), x.presented.Thumbprint(), "its issuer has revoked it, or a CA above it")
		}
	case ClientSecretBasic:
		err = x.authenticateSecret(c, cred.secret)
	case PrivateKeyJWT:
		err = x.authenticateAssertion(c, cred.assertion)
	case None:
		if !public {
			err = x.failed(decision.Check{Name: decision.CheckMethod, Rule: "RFC 6749, Section 2.3.1", Reason: decision.CallerNotAllowed,
				Expected: "a client that authenticates", Found: "a public client"}, nil)
		}
	}
	if ue, ok := errors.AsType[*unavailableError](err); ok {
		return nil, x.unavailable(ue.check, ue.err)
	}
	if err != nil {
		return nil, refuseClient
	}
	return c, nil
}

// An unavailableError is a failure of ours, not of the client.
type unavailableError struct {
	check string
	err   error
}

func (e *unavailableError) Error() string { return "authserver: " + e.check + ": " + e.err.Error() }

// credential reads what the request brings. More than one is refused (RFC 6749,
// Section 2.3).
func (x *exchange) credential() (cred credential, refused *refusal) {
	header := x.r.Header["Authorization"]
	assertion, atype := x.form.get("client_assertion"), x.form.get("client_assertion_type")
	secret := x.form.get("client_secret")
	count := len(header)
	if assertion != "" || atype != "" {
		count++
	}
	if secret != "" {
		count++
	}
	if count > 1 {
		return cred, x.fail(refuseSeveral, decision.Check{Name: decision.CheckMethod, Rule: "RFC 6749, Section 2.3", Reason: decision.SeveralMethods})
	}
	cred.clientID = x.form.get("client_id")
	named := ""
	switch {
	case len(header) == 1:
		var ok bool
		if named, cred.secret, ok = parseBasic(header[0]); ok {
			cred.method = ClientSecretBasic
		} else {
			cred.method = "other"
			named = cred.clientID
			// A header that says nothing about a client is still an attempt.
			if named == "" {
				return cred, x.fail(refuseClient, decision.Check{Name: decision.CheckSecret, Rule: "RFC 7617, Section 2",
					Reason: decision.MethodMismatch, Expected: "Authorization: Basic", Found: "another form"})
			}
		}
	case assertion != "" || atype != "":
		cred.method, cred.assertion = PrivateKeyJWT, assertion
		if atype != assertionType || assertion == "" {
			return cred, x.fail(refuseRequest, decision.Check{Name: decision.CheckAssertion, Rule: "RFC 7521, Section 4.2",
				Reason: decision.RequestMalformed, Expected: "client_assertion with client_assertion_type " + assertionType})
		}
		named = assertionSubject(assertion)
		if named == "" {
			named = cred.clientID
		}
	case secret != "":
		cred.method = "client_secret_post" // not offered: a secret belongs into the header
		return cred, nil
	default:
		return cred, nil
	}
	if cred.clientID != "" && cred.clientID != named {
		return cred, x.fail(refuseRequest, decision.Check{Name: decision.CheckClient, Rule: "RFC 7521, Section 4.2",
			Reason: decision.RequestMalformed, Expected: "client_id as in the credential", Found: "another client_id in the body"})
	}
	cred.clientID = named
	return cred, nil
}

// parseBasic reads an Authorization field (RFC 6749, Section 2.3.1: both parts are
// form-encoded first).
func parseBasic(header string) (id, secret string, ok bool) {
	scheme, rest, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Basic") || len(rest) > 8<<10 {
		return "", "", false
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimLeft(rest, " "))
	if err != nil {
		return "", "", false
	}
	id, secret, ok = strings.Cut(string(raw), ":")
	if !ok {
		return "", "", false
	}
	id, ok1 := unescapeForm(id)
	secret, ok2 := unescapeForm(secret)
	if !ok1 || !ok2 || id == "" {
		return "", "", false
	}
	return id, secret, true
}

// pretend does for an unknown client, or one that is refused before its credential is
// looked at, what would be done for a known one whose credential is wrong, so that the time says little (RFC 6749, Section 5.2).
func (x *exchange) pretend(cred credential) {
	switch {
	case cred.method == ClientSecretBasic:
		_, _ = x.s.verifySecret(x.ctx(), secretHash{}, cred.secret)
	case cred.method == "" && x.presented.Leaf() != nil && x.s.cfg.Paths != nil:
		p := x.presented
		_, _ = x.s.cfg.Paths.Verify(x.ctx(), x.s.cfg.DefaultAnchorSet, pki.Chain{Leaf: p.Leaf(), Rest: p.Chain(), Digest: p.Digest()})
	}
}

// authenticateCertificate is RFC 8705, Section 2. While a client is rotated, the current
// and the next identity are tried in this order; of two refusals the first counts, and
// the other is a warning.
func (x *exchange) authenticateCertificate(c *registered) error {
	accepted := Rotation{Current: true}
	if c.next != nil {
		accepted = c.Rotation(x.now)
	}
	if !accepted.Current {
		return x.authenticateIdentity(c.next)
	}
	before := len(x.d.Checks)
	err := x.authenticateIdentity(c)
	if err == nil || !accepted.Next {
		return err
	}
	first := x.d.Checks[before:]
	x.d.Checks = slices.Clip(x.d.Checks[:before])
	if x.authenticateIdentity(c.next) == nil {
		return nil
	}
	if other, ok := x.d.Failure(); ok {
		x.d.Warnings = append(x.d.Warnings, other)
	}
	x.d.Checks = append(x.d.Checks[:before:before], first...)
	return err
}

func (x *exchange) authenticateIdentity(c *registered) error {
	if c.fault != nil { // of the next one; the current was looked at before
		return x.failed(decision.Check{Name: decision.CheckClient, Reason: decision.ClientMisconfig, Found: c.fault.Error()}, c.fault)
	}
	if x.h.certificate == nil {
		return x.failed(decision.Check{Name: decision.CheckCertificate, Rule: "RFC 8705, Section 2", Reason: decision.ListenerWithout}, nil)
	}
	if c.method == clientauth.TLSClientAuth {
		if x.s.cfg.MTLS.CertificateAuthorized != nil || x.s.cfg.MTLS.CertificateSubjectMatches != nil {
			return x.authenticateHooked(c)
		}
		return x.s.authn.AuthenticatePKI(x.ctx(), x.d, x.presented, c.pki)
	}
	reg := clientauth.SelfSigned{
		InsecureMatchKey:       x.s.cfg.InsecureMatchKey,
		InsecureIgnoreValidity: x.s.cfg.InsecureIgnoreSelfSignedValidity,
	}
	if c.keys != nil {
		reg.Certificates = c.keys.Certificates
	} else {
		set, err := x.s.cfg.JWKS.Get(x.ctx(), c.JWKSURI)
		if err != nil {
			return x.failed(decision.Check{Name: decision.CheckRegistered, Rule: "RFC 8705, Section 2.2.2", Reason: decision.KeySetUnavailable, Found: err.Error()}, err)
		}
		reg.Certificates = set.Certificates
		reg.Refetch = func(ctx context.Context) ([][]byte, error) {
			set, _, err := x.s.cfg.JWKS.Refetch(ctx, c.JWKSURI)
			if err != nil {
				return nil, err
			}
			return set.Certificates, nil
		}
	}
	return x.s.authn.AuthenticateSelfSigned(x.ctx(), x.d, x.presented, reg)
}

func (x *exchange) authenticateSecret(c *registered, secret string) error {
	ok, err := x.s.verifySecret(x.ctx(), c.secret, secret)
	if err != nil {
		return &unavailableError{decision.CheckSecret, err}
	}
	if !ok {
		return x.failed(decision.Check{Name: decision.CheckSecret, Rule: "RFC 6749, Section 2.3.1", Reason: decision.SecretMismatch}, nil)
	}
	x.d.Pass(decision.CheckSecret, "RFC 6749, Section 2.3.1", "")
	return nil
}

// noSecret is a slow hash that nothing matches.
var noSecret = secretHash{slow: true, rounds: pbkdf2Rounds, salt: make([]byte, 16)}

// verifySecret compares a secret with a hash. What it costs depends on the secret, and on
// whether any client has a slow hash, not on the client. Slow hashes are computed one at a time,
// so that guesses cannot take the machine from other clients, and the last secrets
// that were right are remembered under a key of this process.
func (s *Server) verifySecret(ctx context.Context, h secretHash, secret string) (bool, error) {
	if generatedSecret(secret) {
		if h.slow { // a generated secret never has a slow hash: nothing to compare with
			h = secretHash{}
		}
		return h.verify(secret), nil
	}
	if !h.slow { // and a chosen one never a fast hash
		if !s.slowSecrets.Load() {
			return h.verify(secret), nil
		}
		h = noSecret
	}
	hash := sha256.New()
	hash.Write(s.secretKey[:])
	hash.Write(h.salt)
	hash.Write(h.sum)
	hash.Write([]byte(secret))
	var memory [32]byte
	hash.Sum(memory[:0])
	s.secretMu.Lock()
	_, known := s.secrets.get(memory)
	s.secretMu.Unlock()
	if known {
		return true, nil
	}
	select {
	case s.slowSlot <- struct{}{}:
		defer func() { <-s.slowSlot }()
	case <-ctx.Done():
		return false, ctx.Err()
	}
	if !h.verify(secret) {
		return false, nil
	}
	s.secretMu.Lock()
	s.secrets.put(memory, struct{}{})
	s.secretMu.Unlock()
	return true, nil
}

// assertionSubject reads sub before the signature is checked, only to find the client.
func assertionSubject(assertion string) string {
	if len(assertion) > maxAssertion {
		return ""
	}
	parts := strings.Split(assertion, ".")
	if len(parts) != 3 {
		return ""
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return ""
	}
	members, err := objectMembers(payload)
	if err != nil {
		return ""
	}
	sub := ""
	for _, m := range members {
		if m.name == "sub" && json.Unmarshal(m.value, &sub) != nil {
			return ""
		}
	}
	return sub
}

// assertionClaims are the claims of RFC 7523, Section 3.
type assertionClaims struct {
	Issuer    string           `json:"iss"`
	Subject   string           `json:"sub"`
	Audience  json.RawMessage  `json:"aud"`
	ID        string           `json:"jti"`
	Expiry    *jwt.NumericDate `json:"exp"`
	NotBefore *jwt.NumericDate `json:"nbf"`
	IssuedAt  *jwt.NumericDate `json:"iat"`
}

// authenticateAssertion is private_key_jwt (RFC 7523, Sections 2.2 and 3).
func (x *exchange) authenticateAssertion(c *registered, assertion string) error {
	bad := func(expected, found string) error {
		return x.failed(decision.Check{Name: decision.CheckAssertion, Rule: "RFC 7523, Section 3", Reason: decision.AssertionInvalid, Expected: expected, Found: found}, nil)
	}
	token, fault := parseAssertion(assertion, x.s.algs(c, ""))
	if fault != "" {
		return bad("a JWS", fault)
	}
	header := token.Headers[0]
	if c.SigningAlg != "" && header.Algorithm != c.SigningAlg {
		return bad(c.SigningAlg, "alg "+header.Algorithm)
	}
	claims, err := x.verifyAssertion(c, token, header)
	if err != nil {
		return err
	}
	now := x.now
	switch {
	case claims == nil:
		return bad("a signature of a registered key", "none fits")
	case claims.Issuer != c.ID || claims.Subject != c.ID:
		return bad("iss and sub that are the client_id", "others")
	case !x.s.assertionAudience(c, claims.Audience):
		return bad("aud "+x.s.cfg.Issuer, "another, or several")
	case claims.Expiry == nil:
		return bad("exp", "none")
	case !now.Before(claims.Expiry.Time().Add(assertionSkew)):
		return bad("exp in the future", "expired "+claims.Expiry.Time().UTC().Format(time.RFC3339))
	case claims.Expiry.Time().After(now.Add(assertionMaxLife + assertionSkew)):
		return bad("exp within "+assertionMaxLife.String(), claims.Expiry.Time().UTC().Format(time.RFC3339))
	case claims.NotBefore != nil && claims.NotBefore.Time().After(now.Add(assertionSkew)):
		return bad("nbf that has come", claims.NotBefore.Time().UTC().Format(time.RFC3339))
	case claims.IssuedAt != nil && claims.IssuedAt.Time().After(now.Add(assertionSkew)):
		return bad("iat that has come", claims.IssuedAt.Time().UTC().Format(time.RFC3339))
	case claims.ID == "" || len(claims.ID) > maxJTI:
		return bad("jti of 1 to 256 bytes", fmt.Sprintf("%d bytes", len(claims.ID)))
	}
	// The key of the record has a fixed size, whatever the client sends.
	sum := sha256.Sum256([]byte(c.ID + "\x00" + claims.ID))
	first, err := x.s.cfg.Store.UseOnce(x.ctx(), "assertion:"+hex.EncodeToString(sum[:]), claims.Expiry.Time().Add(assertionSkew))
	if err != nil {
		return &unavailableError{decision.CheckAssertion, err}
	}
	if !first {
		return x.failed(decision.Check{Name: decision.CheckAssertion, Rule: "RFC 7523, Section 3", Reason: decision.AssertionReplayed}, nil)
	}
	x.d.Pass(decision.CheckAssertion, "RFC 7523, Section 3", header.Algorithm)
	return nil
}

// parseAssertion reads a client assertion without believing it.
func parseAssertion(assertion string, algs []jose.SignatureAlgorithm) (token *jwt.JSONWebToken, fault string) {
	if len(assertion) > maxAssertion {
		return nil, "longer than 16 KiB"
	}
	if strings.Count(assertion, ".") != 2 {
		return nil, "not the compact serialization"
	}
	token, err := jwt.ParseSigned(assertion, algs)
	if err != nil || len(token.Headers) != 1 {
		return nil, "it does not parse, or its alg is not allowed"
	}
	switch typ, _ := token.Headers[0].ExtraHeaders[jose.HeaderType].(string); strings.ToLower(typ) {
	case "", "jwt", "client-authentication+jwt":
		return token, ""
	}
	return nil, "typ is that of another kind of token"
}

// verifyAssertion returns the claims if a registered key verifies the signature, and
// nil if none does. A key set behind a URL is fetched again once.
func (x *exchange) verifyAssertion(c *registered, token *jwt.JSONWebToken, header jose.Header) (*assertionClaims, error) {
	unavailable := func(err error) error {
		return x.failed(decision.Check{Name: decision.CheckAssertion, Reason: decision.KeySetUnavailable, Found: err.Error()}, err)
	}
	set := c.keys
	if set == nil {
		var err error
		if set, err = x.s.cfg.JWKS.Get(x.ctx(), c.JWKSURI); err != nil {
			return nil, unavailable(err)
		}
	}
	if claims := verifyWith(set, token, header); claims != nil || c.keys != nil {
		return claims, nil
	}
	set, fresh, err := x.s.cfg.JWKS.Refetch(x.ctx(), c.JWKSURI)
	if err != nil {
		return nil, unavailable(err)
	}
	if !fresh {
		return nil, nil
	}
	return verifyWith(set, token, header), nil
}

func verifyWith(set *jwks.Set, token *jwt.JSONWebToken, header jose.Header) *assertionClaims {
	tried := 0
	for i := range set.Keys {
		k := &set.Keys[i]
		if header.KeyID != "" && k.KeyID != "" && k.KeyID != header.KeyID ||
			k.Use != "" && k.Use != "sig" || k.Algorithm != "" && k.Algorithm != header.Algorithm {
			continue
		}
		if tried++; tried > maxKeysTried {
			return nil
		}
		claims := new(assertionClaims)
		if token.Claims(k.Key, claims) == nil {
			return claims
		}
	}
	return nil
}

// assertionAudience judges aud: the issuer; and, unless the audience is strict, the
// token endpoint or its alias, also as an array of one. Several audiences are never
// accepted: somebody else could use the assertion here (RFC 9700 update, audience
// injection).
func (s *Server) assertionAudience(c *registered, raw json.RawMessage) bool {
	strict := s.cfg.StrictAssertionAudience || s.fapi2(c)
	var aud string
	if json.Unmarshal(raw, &aud) != nil {
		var list []string
		if strict || json.Unmarshal(raw, &list) != nil || len(list) != 1 {
			return false
		}
		aud = list[0]
	}
	if aud == s.cfg.Issuer {
		return true
	}
	return !strict && slices.Contains(s.tokenURLs, aud)
}
