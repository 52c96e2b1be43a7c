package authserver

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"net/http"

	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/internal/jws"
	"github.com/certbound/certbound/jwks"
)

// A StatementIssuer is somebody whose software statements are believed: a JWT whose
// claims are client metadata (RFC 7591, Section 2.3), such as those of the directory of
// an open banking scheme. What it states wins over what the client says, member by
// member, and stays in force: a client that has registered with a statement can change
// its registration only with one of the same issuer.
type StatementIssuer struct {
	// Issuer is the claim iss. Required.
	Issuer string
	// JWKS are its keys, or JWKSURI is where they are fetched by Config.JWKS. Exactly one.
	JWKS    json.RawMessage
	JWKSURI string
	// Algs are the algorithms that it may sign with. If nil, PS256, ES256 and EdDSA; RS256
	// is possible.
	Algs []string
	// MaxAge is how long a statement without exp is accepted after its iat. If zero, 1
	// hour. A statement with neither is refused.
	MaxAge time.Duration
	// SoftwareIDs, if not empty, are the only claims software_id that are approved.
	SoftwareIDs []string

	// AnchorSet is for clients with such a statement, and Methods, Scopes and Resources,
	// if not empty, take the place of those of Registration. An initial access token
	// goes before all of these.
	AnchorSet                  string
	Methods, Scopes, Resources []string

	keys *jwks.Set
}

func (i *StatementIssuer) setDefaults() {
	if i.Algs == nil {
		i.Algs = []string{jws.PS256, jws.ES256, jws.EdDSA}
	}
	def(&i.MaxAge, time.Hour)
	if len(i.JWKS) > 0 {
		i.keys, _ = jwks.Parse(i.JWKS, jwks.Strict) // check reports the fault
	}
}

func (i *StatementIssuer) check(cfg *Config, bad func(format string, args ...any)) {
	if i.Issuer == "" || len(i.Issuer) > 2048 {
		bad("Issuer is required, with at most 2,048 bytes")
	}
	switch byValue := len(i.JWKS) > 0; {
	case byValue == (i.JWKSURI != ""):
		bad("expected either JWKS or JWKSURI")
	case byValue:
		if set, err := jwks.Parse(i.JWKS, jwks.Strict); err != nil {
			bad("JWKS: %v", err)
		} else if len(set.Keys) == 0 {
			bad("JWKS has no key")
		}
	default:
		if err := jwks.CheckURL(i.JWKSURI); err != nil {
			bad("JWKSURI: %v", err)
		}
		if cfg.JWKS == nil {
			bad("JWKSURI needs Config.JWKS, which fetches it")
		}
	}
	for _, alg := range i.Algs {
		if !slices.Contains([]string{jws.ES256, jws.PS256, jws.EdDSA, jws.RS256}, alg) {
			bad("%q is not an algorithm that is supported", alg)
		}
	}
	if len(i.Algs) == 0 {
		bad("Algs is empty")
	}
	if i.MaxAge < 0 {
		bad("MaxAge must not be negative")
	}
	if i.AnchorSet != "" && cfg.HasAnchorSet != nil && !cfg.HasAnchorSet(i.AnchorSet) {
		bad("there is no anchor set %q", i.AnchorSet)
	}
	for _, list := range []struct {
		name       string
		values, of []string
	}{{"Methods", i.Methods, cfg.AuthMethods}, {"Scopes", i.Scopes, cfg.Rules().Scopes}, {"Resources", i.Resources, cfg.Resources}} {
		for _, v := range list.values {
			if !slices.Contains(list.of, v) {
				bad("%s: %q is not one of those of the server", list.name, v)
			}
		}
	}
}

// narrow applies what clients of this issuer may have.
func (i *StatementIssuer) narrow(g *ground) {
	for _, list := range []struct{ to, from *[]string }{{&g.methods, &i.Methods}, {&g.scopes, &i.Scopes}, {&g.resources, &i.Resources}} {
		if len(*list.from) > 0 {
			*list.to = *list.from
		}
	}
}

// The refusals of statements (RFC 7591, Section 3.2.2).
var (
	refuseStatement = &refusal{http.StatusBadRequest, "invalid_software_statement", "the software statement is not valid", false}
	refuseUnapprove = &refusal{http.StatusBadRequest, "unapproved_software_statement", "the software statement is not accepted here", false}
)

const (
	maxStatement  = 32 << 10
	statementSkew = time.Minute
)

// notMetadata are claims of a statement that say something about the statement.
var notMetadata = []string{"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "software_statement"}

// mergeStatement verifies the member software_statement and lays its claims over the
// other members. Without statements of anybody, the member is not understood.
func (x *exchange) mergeStatement(members []objectMember) (merged []objectMember, statement string, issuer *StatementIssuer, refused *refusal) {
	at := slices.IndexFunc(members, func(m objectMember) bool { return m.name == "software_statement" })
	if at < 0 || len(x.s.cfg.Registration.Statements) == 0 {
		return members, "", nil, nil
	}
	if json.Unmarshal(members[at].value, &statement) != nil || statement == "" {
		return nil, "", nil, x.fail(refuseStatement, statementCheck(decision.StatementInvalid, "a JWT as a string", "something else"))
	}
	issuer, claims, refused := x.verifyStatement(statement)
	if refused != nil {
		return nil, "", nil, refused
	}
	stated := map[string]bool{}
	for _, m := range claims {
		if !slices.Contains(notMetadata, m.name) {
			stated[m.name] = true
			merged = append(merged, m)
		}
	}
	for _, m := range members {
		if !stated[m.name] && m.name != "software_statement" {
			merged = append(merged, m)
		}
	}
	return merged, statement, issuer, nil
}

func statementCheck(reason decision.Reason, expected, found string) decision.Check {
	return decision.Check{Name: decision.CheckStatement, Rule: "RFC 7591, Section 2.3", Reason: reason, Expected: expected, Found: found}
}

// verifyStatement returns who has issued a statement, and its claims.
func (x *exchange) verifyStatement(statement string) (*StatementIssuer, []objectMember, *refusal) {
	bad := func(expected, found string) (*StatementIssuer, []objectMember, *refusal) {
		return nil, nil, x.fail(refuseStatement, statementCheck(decision.StatementInvalid, expected, found))
	}
	token, err := jws.Parse(statement, maxStatement)
	if err != nil {
		return bad("a signed JWT", err.Error())
	}
	if typ := strings.TrimPrefix(strings.ToLower(token.Typ), "application/"); typ != "" && typ != "jwt" {
		return bad("typ JWT, or none", "that of another kind of token")
	}
	// Names are compared exactly: encoding/json alone would take "ISS" for "iss".
	members, err := objectMembers(token.Payload)
	if err != nil {
		return bad("claims in a JSON object", err.Error())
	}
	claims := map[string]json.RawMessage{}
	for _, m := range members {
		claims[m.name] = m.value
	}
	var iss, softwareID string
	if json.Unmarshal(claims["iss"], &iss) != nil || iss == "" {
		return bad("iss", "none")
	}
	if raw := claims["software_id"]; raw != nil && json.Unmarshal(raw, &softwareID) != nil {
		return bad("software_id as a string", "something else")
	}
	at := slices.IndexFunc(x.s.cfg.Registration.Statements, func(i StatementIssuer) bool { return i.Issuer == iss })
	if at < 0 {
		return nil, nil, x.fail(refuseUnapprove, statementCheck(decision.StatementUnapproved, "an issuer of the settings", clip(iss, 256)))
	}
	issuer := &x.s.cfg.Registration.Statements[at]
	if !slices.Contains(issuer.Algs, token.Alg) {
		return bad("alg "+strings.Join(issuer.Algs, ", "), token.Alg)
	}
	signed, refused := x.statementSigned(issuer, token)
	if refused != nil {
		return nil, nil, refused
	}
	if !signed {
		return bad("a signature of a key of "+issuer.Issuer, "none fits")
	}
	if fault := statementDates(claims, x.now, issuer.MaxAge); fault != "" {
		return bad("a statement that is in force", fault)
	}
	if raw := claims["aud"]; raw != nil {
		var aud audience
		ours := []string{x.s.cfg.Issuer, join(x.s.cfg.Issuer, registerPath)}
		if json.Unmarshal(raw, &aud) != nil || !slices.ContainsFunc(aud, func(a string) bool { return slices.Contains(ours, a) }) {
			return bad("aud "+x.s.cfg.Issuer, "another")
		}
	}
	if len(issuer.SoftwareIDs) > 0 && !slices.Contains(issuer.SoftwareIDs, softwareID) {
		return nil, nil, x.fail(refuseUnapprove, statementCheck(decision.StatementUnapproved, "a software_id of the settings", clip(softwareID, 256)))
	}
	x.d.Pass(decision.CheckStatement, "RFC 7591, Section 2.3", issuer.Issuer)
	return issuer, members, nil
}

// statementSigned looks for a key that verifies the signature. A key set behind a URL is
// fetched again once.
func (x *exchange) statementSigned(issuer *StatementIssuer, token *jws.Token) (bool, *refusal) {
	if issuer.keys != nil {
		return signedBy(issuer.keys, token), nil
	}
	unavailable := func(err error) *refusal {
		return x.fail(refuseUnavailable, statementCheck(decision.KeySetUnavailable, issuer.JWKSURI, err.Error()))
	}
	set, err := x.s.cfg.JWKS.Get(x.ctx(), issuer.JWKSURI)
	if err != nil {
		return false, unavailable(err)
	}
	if signedBy(set, token) {
		return true, nil
	}
	set, fresh, err := x.s.cfg.JWKS.Refetch(x.ctx(), issuer.JWKSURI)
	if err != nil {
		return false, unavailable(err)
	}
	return fresh && signedBy(set, token), nil
}

func signedBy(set *jwks.Set, token *jws.Token) bool {
	tried := 0
	for i := range set.Keys {
		k := &set.Keys[i]
		if token.Kid != "" && k.KeyID != "" && k.KeyID != token.Kid ||
			k.Use != "" && k.Use != "sig" || k.Algorithm != "" && k.Algorithm != token.Alg {
			continue
		}
		if tried++; tried > maxKeysTried {
			return false
		}
		if token.Verify(k.Key) == nil {
			return true
		}
	}
	return false
}

// statementDates says why a statement is not in force.
func statementDates(claims map[string]json.RawMessage, now time.Time, maxAge time.Duration) string {
	dates := map[string]time.Time{}
	for _, name := range []string{"iat", "nbf", "exp"} {
		raw, ok := claims[name]
		if !ok {
			continue
		}
		var seconds float64 // NumericDate may have a fraction
		if json.Unmarshal(raw, &seconds) != nil || string(raw) == "null" || seconds < 0 || seconds > 1<<40 {
			return name + " is not a date"
		}
		dates[name] = time.Unix(int64(seconds), 0)
	}
	for _, name := range []string{"iat", "nbf"} {
		if at, ok := dates[name]; ok && at.After(now.Add(statementSkew)) {
			return name + " has not come: " + at.UTC().Format(time.RFC3339)
		}
	}
	if exp, ok := dates["exp"]; ok {
		if !now.Before(exp.Add(statementSkew)) {
			return "expired " + exp.UTC().Format(time.RFC3339)
		}
		return ""
	}
	iat, ok := dates["iat"]
	switch {
	case !ok:
		return "neither exp nor iat"
	case !now.Before(iat.Add(maxAge + statementSkew)):
		return fmt.Sprintf("issued %s, more than %v ago, without exp", iat.UTC().Format(time.RFC3339), maxAge)
	}
	return ""
}
