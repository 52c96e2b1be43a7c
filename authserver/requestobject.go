package authserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/jwks"
)

// Bounds of request objects (RFC 9101; FAPI 2.0 Message Signing, Section 5.3.1).
const (
	maxRequestObject   = 16 << 10
	requestObjectLife  = 60 * time.Minute // from nbf to exp, and since nbf
	requestObjectType  = "oauth-authz-req+jwt"
	requestObjectSkew  = assertionSkew
	maxObjectAudiences = 8
)

// readObject replaces the form of a request by the content of its request object, if it
// has one. What stands beside the object does not count (RFC 9101, Section 6.3): anybody
// could have put it there.
func (x *exchange) readObject(a *authRequest) *refusal {
	raw := a.form.get("request")
	if raw == "" {
		return nil
	}
	const rule = "RFC 9101, Section 6"
	bad := func(expected, found string) *refusal {
		return x.fail(refuseRequestObject, decision.Check{Name: decision.CheckRequest, Rule: rule, Reason: decision.RequestObjectInvalid, Expected: expected, Found: found})
	}
	c := a.client
	token, fault := parseRequestObject(raw, x.s.algs(c, c.RequestObjectAlg))
	if fault != "" {
		return bad("a signed JWT, with alg "+strings.Join(algNames(x.s.algs(c, c.RequestObjectAlg)), ", "), fault)
	}
	payload, err := x.verifyObject(c, token)
	if err != nil {
		return x.fail(refuseUnavailable, decision.Check{Name: decision.CheckRequest, Rule: rule, Reason: decision.KeySetUnavailable, Found: err.Error()})
	}
	if payload == nil {
		return bad("a signature of a registered key", "none fits")
	}
	o, err := parseObjectClaims(payload)
	if err != nil {
		return bad("claims of an authorization request", err.Error())
	}
	if fault := o.fault(c.ID, x.s.cfg.Issuer, x.now); fault != "" {
		return bad("a request object for this server, of now", fault)
	}
	for _, p := range a.form {
		if p.value != "" && !slices.Contains([]string{"request", "client_id", "client_assertion", "client_assertion_type"}, p.name) {
			x.d.Skip(decision.CheckRequest, rule, "parameters beside the request object do not count")
			break
		}
	}
	x.d.Pass(decision.CheckRequest, rule, token.Headers[0].Algorithm)
	a.form, a.signed = o.form, true
	return nil
}

func algNames(algs []jose.SignatureAlgorithm) []string {
	out := make([]string, len(algs))
	for i, a := range algs {
		out[i] = string(a)
	}
	return out
}

// parseRequestObject reads a request object without believing it.
func parseRequestObject(raw string, algs []jose.SignatureAlgorithm) (token *jwt.JSONWebToken, fault string) {
	switch {
	case len(raw) > maxRequestObject:
		return nil, "longer than 16 KiB"
	case strings.Count(raw, ".") != 2:
		return nil, "not the compact serialization of a JWS"
	case len(algs) == 0:
		return nil, "no algorithm is allowed"
	}
	token, err := jwt.ParseSigned(raw, algs)
	if err != nil || len(token.Headers) != 1 {
		return nil, "it does not parse, or its alg is not allowed"
	}
	switch typ, _ := token.Headers[0].ExtraHeaders[jose.HeaderType].(string); strings.ToLower(strings.TrimPrefix(typ, "application/")) {
	case "", "jwt", requestObjectType:
		return token, ""
	}
	return nil, "typ is that of another kind of token" // RFC 9101, Section 10.8
}

// verifyObject returns the payload if a key of the client verifies the signature, and nil
// if none does. A key set behind a URL is fetched again once.
func (x *exchange) verifyObject(c *registered, token *jwt.JSONWebToken) ([]byte, error) {
	switch {
	case c.keys != nil:
		return objectPayload(c.keys, token), nil
	case c.JWKSURI == "":
		return nil, nil
	case x.s.cfg.JWKS == nil:
		return nil, errors.New("key sets by reference are switched off")
	}
	set, err := x.s.cfg.JWKS.Get(x.ctx(), c.JWKSURI)
	if err != nil {
		return nil, err
	}
	if payload := objectPayload(set, token); payload != nil {
		return payload, nil
	}
	set, fresh, err := x.s.cfg.JWKS.Refetch(x.ctx(), c.JWKSURI)
	if err != nil || !fresh {
		return nil, err
	}
	return objectPayload(set, token), nil
}

func objectPayload(set *jwks.Set, token *jwt.JSONWebToken) []byte {
	header, tried := token.Headers[0], 0
	for i := range set.Keys {
		k := &set.Keys[i]
		if header.KeyID != "" && k.KeyID != "" && k.KeyID != header.KeyID ||
			k.Use != "" && k.Use != "sig" || k.Algorithm != "" && k.Algorithm != header.Algorithm {
			continue
		}
		if tried++; tried > maxKeysTried {
			return nil
		}
		var payload json.RawMessage
		if token.Claims(k.Key, &payload) == nil {
			return payload
		}
	}
	return nil
}

// A requestObject is the content of a request object.
type requestObject struct {
	form                     form // the parameters of the authorization request
	issuer, subject          string
	clientID                 string
	audience                 []string
	expiry, notBefore, issue *jwt.NumericDate
}

// parseObjectClaims reads the claims. Parameters that mean something here have to be of
// their type; others are ignored.
func parseObjectClaims(payload []byte) (*requestObject, error) {
	members, err := objectMembers(payload)
	if err != nil {
		return nil, err
	}
	o := &requestObject{}
	for _, m := range members {
		if err := o.add(m); err != nil {
			return nil, err
		}
	}
	return o, nil
}

func (o *requestObject) add(m objectMember) error {
	wrong := func(expected string) error { return fmt.Errorf("%s: expected %s", m.name, expected) }
	switch m.name {
	case "request", "request_uri":
		return errors.New("a request object within another (RFC 9101, Section 4)")
	case "iss", "sub", "client_id":
		to := map[string]*string{"iss": &o.issuer, "sub": &o.subject, "client_id": &o.clientID}[m.name]
		if !isString(m.value, to) {
			return wrong("a string")
		}
	case "aud":
		var one string
		if isString(m.value, &one) {
			o.audience = []string{one}
		} else if json.Unmarshal(m.value, &o.audience) != nil || len(o.audience) > maxObjectAudiences {
			return wrong("a string, or a list of at most 8")
		}
	case "exp", "nbf", "iat":
		to := map[string]**jwt.NumericDate{"exp": &o.expiry, "nbf": &o.notBefore, "iat": &o.issue}[m.name]
		if len(m.value) > 20 || json.Unmarshal(m.value, to) != nil || *to == nil {
			return wrong("a date in seconds")
		}
	case "max_age":
		var n json.Number
		if json.Unmarshal(m.value, &n) != nil || n == "" {
			return wrong("a number of seconds")
		}
		o.form = append(o.form, parameter{m.name, n.String()})
	case "resource":
		var one string
		var list []string
		if isString(m.value, &one) {
			list = []string{one}
		} else if json.Unmarshal(m.value, &list) != nil || list == nil || len(list) > maxResources {
			return wrong("a string, or a list of at most 16")
		}
		for _, r := range list {
			o.form = append(o.form, parameter{m.name, r})
		}
	case "response_type", "redirect_uri", "scope", "state", "response_mode", "nonce", "code_challenge", "code_challenge_method",
		"prompt", "acr_values", "login_hint", "id_token_hint", "ui_locales":
		var s string
		if !isString(m.value, &s) {
			return wrong("a string")
		}
		o.form = append(o.form, parameter{m.name, s})
	}
	return nil
}

// isString decodes a JSON string, and nothing else.
func isString(value json.RawMessage, to *string) bool {
	return len(value) > 0 && value[0] == '"' && json.Unmarshal(value, to) == nil
}

// fault says what is wrong with the object, or "".
func (o *requestObject) fault(clientID, issuer string, now time.Time) string {
	switch {
	case o.clientID != clientID:
		return "client_id is missing, or that of another client" // RFC 9101, Sections 5 and 10.2
	case o.issuer != "" && o.issuer != clientID:
		return "iss is not the client"
	case o.subject == clientID:
		return "sub is the client, as in a client assertion" // RFC 9101, Section 10.8
	case !slices.Contains(o.audience, issuer):
		return "aud is not " + issuer
	case o.expiry == nil || o.notBefore == nil:
		return "exp or nbf is missing"
	}
	exp, nbf := o.expiry.Time(), o.notBefore.Time()
	switch {
	case !now.Before(exp.Add(requestObjectSkew)):
		return "expired " + exp.UTC().Format(time.RFC3339)
	case nbf.After(now.Add(requestObjectSkew)) || o.issue != nil && o.issue.Time().After(now.Add(requestObjectSkew)):
		return "nbf or iat has not come"
	case nbf.Before(now.Add(-requestObjectLife - requestObjectSkew)):
		return "nbf is more than 60 minutes ago"
	case exp.After(nbf.Add(requestObjectLife)):
		return "exp is more than 60 minutes after nbf"
	}
	return ""
}
