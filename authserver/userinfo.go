package authserver

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
)

// scopeClaims says which claims a scope asks for (OpenID Connect Core, Section 5.4).
var scopeClaims = []struct {
	scope  string
	claims []string
}{
	{"profile", []string{"name", "family_name", "given_name", "middle_name", "nickname", "preferred_username", "profile",
		"picture", "website", "gender", "birthdate", "zoneinfo", "locale", "updated_at"}},
	{"email", []string{"email", "email_verified"}},
	{"address", []string{"address"}},
	{"phone", []string{"phone_number", "phone_number_verified"}},
}

var headerUserInfo = []string{"GET, HEAD, POST"}

// A bearerRefusal is what the wire sees of a refused token (RFC 6750, Section 3). Without
// a code there was no token, and the challenge says no more.
type bearerRefusal struct {
	status            int
	code, description string
}

var (
	bearerNone         = &bearerRefusal{http.StatusUnauthorized, "", ""}
	bearerInvalid      = &bearerRefusal{http.StatusUnauthorized, "invalid_token", "the access token is not valid here"}
	bearerMisplaced    = &bearerRefusal{http.StatusBadRequest, "invalid_request", "the access token belongs into the Authorization header"}
	bearerMalformed    = &bearerRefusal{http.StatusBadRequest, "invalid_request", "the request is malformed"}
	bearerCertificate  = &bearerRefusal{http.StatusBadRequest, "invalid_request", "the client certificate cannot be read"}
	bearerInsufficient = &bearerRefusal{http.StatusForbidden, "insufficient_scope", "the access token has not the scope openid"}
)

// userinfo is the UserInfo endpoint (OpenID Connect Core, Section 5.3). It is a protected
// resource like any other: a bound token needs its certificate here too (RFC 8705,
// Section 3).
func (x *exchange) userinfo() {
	header := x.w.Header()
	header["Cache-Control"] = headerNoStore
	header["Pragma"] = headerNoCache
	switch x.r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost:
	default:
		header["Allow"] = headerUserInfo
		http.Error(x.w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	x.d = decision.New()
	x.d.Peer = certsource.Peer(x.r.Context())
	body, refused, failed := x.judgeUserInfo()
	switch {
	case failed != nil:
		x.refuse(failed)
	case refused != nil:
		x.refuseBearer(refused)
	default:
		x.d.Allow()
		x.write(http.StatusOK, body)
	}
}

// refuseBearer writes the challenge and the log record.
func (x *exchange) refuseBearer(r *bearerRefusal) {
	challenge := x.s.challengeBearer[0]
	if r.code != "" {
		challenge += `, error="` + r.code + `", error_description="` + r.description + `"`
	}
	if r == bearerInsufficient {
		challenge += `, scope="` + scopeOpenID + `"`
	}
	x.w.Header()["Www-Authenticate"] = []string{challenge}
	x.logRefusal(r.status, r.code)
	if r.code == "" {
		x.write(r.status, nil)
		return
	}
	x.write(r.status, []byte(`{"error":"`+r.code+`","error_description":"`+r.description+`"}`))
}

// judgeUserInfo returns the answer, or why there is none: a fault of the request, or one
// of ours.
func (x *exchange) judgeUserInfo() (body []byte, refused *bearerRefusal, failed *refusal) {
	deny := func(r *bearerRefusal, c decision.Check) ([]byte, *bearerRefusal, *refusal) {
		x.d.Fail(c)
		return nil, r, nil
	}
	value, refused := x.bearerToken()
	if refused != nil {
		return nil, refused, nil
	}
	if failed := x.readCertificate(); failed != nil {
		return nil, bearerCertificate, nil
	}
	t, reason, err := x.s.findToken(x.ctx(), value)
	if err == nil && t != nil {
		x.d.ClientID = clip(t.ClientID, 256)
		reason, err = x.s.judgeToken(x.ctx(), t, x.now)
	}
	switch {
	case err != nil:
		return nil, nil, x.unavailable(decision.CheckToken, err)
	case reason != "":
		return deny(bearerInvalid, decision.Check{Name: decision.CheckToken, Rule: "RFC 6750, Section 3.1", Reason: reason})
	}
	x.d.Pass(decision.CheckToken, "RFC 9068, Section 4", t.JTI)
	if t.X5TS256 != "" {
		found := x.presented.Thumbprint()
		if (certbound.Confirmation{X5TS256: t.X5TS256}).VerifyThumbprint(found) != nil {
			check := decision.Check{Name: decision.CheckBinding, Rule: "RFC 8705, Section 3", Reason: decision.BindingMismatch, Expected: t.X5TS256, Found: found}
			switch {
			case x.h.certificate == nil:
				check.Reason, check.Found = decision.ListenerWithout, ""
			case found == "":
				check.Reason, check.Found = decision.NoCertificate, "none"
			}
			return deny(bearerInvalid, check)
		}
		x.d.Pass(decision.CheckBinding, "RFC 8705, Section 3", t.X5TS256)
	}
	switch {
	case !slices.Contains(t.Audience, x.s.cfg.Issuer):
		return deny(bearerInvalid, decision.Check{Name: decision.CheckToken, Rule: "RFC 9068, Section 4", Reason: decision.AudienceMismatch,
			Expected: x.s.cfg.Issuer, Found: clip(strings.Join(t.Audience, " "), 512),
			Fix: "ask for the token with the scope openid, and without resource or with the issuer as one"})
	case t.Subject == t.ClientID:
		return deny(bearerInvalid, decision.Check{Name: decision.CheckToken, Rule: "OpenID Connect Core, Section 5.3", Reason: decision.GrantUnsupported,
			Expected: "a token for a person", Found: "a client's own"})
	case !hasScope(t.Scope, scopeOpenID):
		return deny(bearerInsufficient, decision.Check{Name: decision.CheckToken, Rule: "OpenID Connect Core, Section 5.3", Reason: decision.ScopeInsufficient,
			Expected: scopeOpenID, Found: clip(t.Scope, 512)})
	}
	claims := map[string]json.RawMessage{"sub": json.RawMessage(quote(t.Subject))}
	who, err := x.s.grants.Person(x.ctx(), t.Subject)
	switch {
	case errors.Is(err, ErrNotFound):
		who = &Person{}
	case err != nil:
		return nil, nil, x.unavailable(decision.CheckToken, err)
	case who.Disabled:
		return deny(bearerInvalid, decision.Check{Name: decision.CheckToken, Rule: "OpenID Connect Core, Section 5.3", Reason: decision.PersonDisabled, Found: clip(t.Subject, 256)})
	}
	for _, sc := range scopeClaims {
		if !hasScope(t.Scope, sc.scope) {
			continue
		}
		for _, name := range sc.claims {
			if v, ok := who.Claims[name]; ok {
				claims[name] = v
			}
		}
	}
	if body, err = json.Marshal(claims); err != nil {
		return nil, nil, x.fail(refuseServer, decision.Check{Name: decision.CheckToken, Reason: decision.LookupFailed, Found: "claims of the person: " + err.Error()})
	}
	return body, nil, nil
}

// bearerToken reads the one place where the token may be (RFC 6750, Section 2.1).
func (x *exchange) bearerToken() (string, *bearerRefusal) {
	const rule = "RFC 6750, Section 2.1"
	header := x.r.Header["Authorization"]
	if strings.Contains(x.r.URL.RawQuery, "access_token") {
		x.d.Fail(decision.Check{Name: decision.CheckToken, Rule: rule, Reason: decision.TokenTwice, Expected: "Authorization: Bearer", Found: "access_token in the query"})
		return "", bearerMisplaced
	}
	if len(header) > 1 {
		x.d.Fail(decision.Check{Name: decision.CheckToken, Rule: rule, Reason: decision.TokenTwice, Expected: "one Authorization field", Found: "several"})
		return "", bearerMisplaced
	}
	if refused := x.bearerForm(len(header) > 0); refused != nil {
		return "", refused
	}
	if len(header) == 1 {
		scheme, value, _ := strings.Cut(header[0], " ")
		value = strings.TrimLeft(value, " ")
		if strings.EqualFold(scheme, "Bearer") && value != "" && len(value) <= maxToken {
			return value, nil
		}
	}
	x.d.Fail(decision.Check{Name: decision.CheckToken, Rule: rule, Reason: decision.NoToken})
	return "", bearerNone
}

// bearerForm refuses a token in a form beside the one in the header. By itself it is none.
func (x *exchange) bearerForm(header bool) *bearerRefusal {
	if x.r.Method != http.MethodPost || !header || !strings.HasPrefix(x.r.Header.Get("Content-Type"), formType) {
		return nil
	}
	f, err := readForm(x.w, x.r, x.s.cfg.MaxBody, x.s.cfg.MaxParameters)
	if err != nil {
		x.d.Fail(decision.Check{Name: decision.CheckToken, Rule: "RFC 6750, Section 3.1", Reason: decision.RequestMalformed, Found: err.Error()})
		return bearerMalformed
	}
	if f.get("access_token") != "" {
		x.d.Fail(decision.Check{Name: decision.CheckToken, Rule: "RFC 6750, Section 2", Reason: decision.TokenTwice, Expected: "Authorization: Bearer", Found: "access_token in the form as well"})
		return bearerMisplaced
	}
	return nil
}
