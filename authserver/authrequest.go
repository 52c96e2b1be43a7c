package authserver

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/certbound/certbound/decision"
)

// What refuses an authorization request, or what a person does with it.
var (
	refuseRedirectURI   = &refusal{http.StatusBadRequest, "invalid_request", "redirect_uri is missing, or not registered for this client", false}
	refuseResponseType  = &refusal{http.StatusBadRequest, "unsupported_response_type", "the only response type is code", false}
	refuseNotForClient  = &refusal{http.StatusBadRequest, "unauthorized_client", "the client may not use the authorization endpoint", false}
	refuseChallenge     = &refusal{http.StatusBadRequest, "invalid_request", "code_challenge with code_challenge_method S256 is required", false}
	refuseNotPushed     = &refusal{http.StatusBadRequest, "invalid_request", "the request must be pushed to the pushed authorization request endpoint", false}
	refuseNotSigned     = &refusal{http.StatusBadRequest, "invalid_request", "the request must be a signed request object", false}
	refusePushedURI     = &refusal{http.StatusBadRequest, "invalid_request", "request_uri cannot be pushed", false}
	refuseByReference   = &refusal{http.StatusBadRequest, "request_uri_not_supported", "request_uri must be one of the pushed authorization request endpoint", false}
	refuseRequestURI    = &refusal{http.StatusBadRequest, "invalid_request_uri", "the request has ended, has expired, or is not for this client and browser", false}
	refuseRequestObject = &refusal{http.StatusBadRequest, "invalid_request_object", "the request object is not valid", false}
	refuseLogin         = &refusal{http.StatusBadRequest, "login_required", "the person has to log in", false}
	refuseConsent       = &refusal{http.StatusBadRequest, "consent_required", "the person has to consent", false}
	refuseDenied        = &refusal{http.StatusBadRequest, "access_denied", "the person has declined", false}
	refuseForm          = &refusal{http.StatusForbidden, "invalid_request", "the form was not sent from a page of this server", false}
	refuseCookie        = &refusal{http.StatusForbidden, "invalid_request", "the browser did not send the cookie of this server", false}
	refusePerson        = &refusal{http.StatusForbidden, "access_denied", "the person is disabled", false}
	refuseLoginFailed   = &refusal{http.StatusBadGateway, "server_error", "the login has failed", false}
)

// Bounds of parameters, in bytes, and of lists.
const (
	maxState     = 2048
	maxNonce     = 512 // FAPI 2.0, Section 5.3.2.2 (14) asks for 64 at least
	maxHint      = 512
	maxListed    = 16 // acr_values, ui_locales
	maxListedLen = 128
	maxResources = 16
)

// Response modes.
const (
	modeQuery    = "query"
	modeFormPost = "form_post"
)

// authParams are the parameters of an authorization request, after all checks.
type authParams struct {
	RedirectURI  string   `json:"redirect_uri"`
	RedirectSent bool     `json:"redirect_uri_sent,omitempty"`
	ResponseMode string   `json:"response_mode,omitempty"` // empty: query
	State        string   `json:"state,omitempty"`
	Scope        string   `json:"scope,omitempty"`
	Resources    []string `json:"resource,omitempty"`
	Nonce        string   `json:"nonce,omitempty"`
	Challenge    string   `json:"code_challenge"`
	Prompt       []string `json:"prompt,omitempty"`
	MaxAge       *int64   `json:"max_age,omitempty"` // seconds
	ACR          []string `json:"acr_values,omitempty"`
	LoginHint    string   `json:"login_hint,omitempty"`
	// HintSubject is who an id_token_hint names.
	HintSubject string   `json:"hint_subject,omitempty"`
	Locales     []string `json:"ui_locales,omitempty"`
}

func (p *authParams) prompts(value string) bool { return slices.Contains(p.Prompt, value) }

// An authRequest is an authorization request that is being checked.
type authRequest struct {
	client *registered
	form   form
	pushed bool
	proven bool // the client has authenticated
	signed bool // form is the content of a request object
	authParams
}

// checkRequest judges an authorization request of a client. Once RedirectURI is set, the
// client can be told what is wrong, and before that only the person: a URI that nobody
// has registered is never followed (RFC 9700, Section 4.11).
func (x *exchange) checkRequest(a *authRequest) *refusal {
	c := a.client
	if !c.mayUse(GrantAuthorizationCode) {
		return x.fail(refuseNotForClient, decision.Check{Name: decision.CheckGrant, Rule: "RFC 6749, Section 4.1.2.1", Reason: decision.GrantNotAllowed, Expected: GrantAuthorizationCode})
	}
	if refused := x.checkRedirect(a); refused != nil {
		return refused
	}
	if refused := x.checkResponse(a); refused != nil {
		return refused
	}
	if !a.signed && (x.s.cfg.Authorization.RequireSignedRequests || c.RequireSignedRequests) {
		return x.fail(refuseNotSigned, decision.Check{Name: decision.CheckRequest, Rule: "RFC 9101, Section 10.5", Reason: decision.RequestNotSigned})
	}
	if !a.pushed && x.s.mustPush(c) {
		return x.fail(refuseNotPushed, decision.Check{Name: decision.CheckRequest, Rule: "RFC 9126, Section 6", Reason: decision.RequestNotPushed})
	}
	if refused := x.checkChallenge(a); refused != nil {
		return refused
	}
	if refused := x.checkScope(a); refused != nil {
		return refused
	}
	if refused := x.checkResources(a); refused != nil {
		return refused
	}
	if refused := x.checkPerson(a); refused != nil {
		return refused
	}
	x.d.Pass(decision.CheckRequest, "RFC 6749, Section 4.1.1", "")
	return nil
}

// mustPush reports whether a client has to push its requests.
func (s *Server) mustPush(c *registered) bool {
	return s.cfg.Authorization.RequirePAR || c.RequirePAR || s.fapi2(c)
}

func (x *exchange) checkRedirect(a *authRequest) *refusal {
	uri := a.form.get("redirect_uri")
	bad := func(expected string) *refusal {
		found := clip(uri, 256)
		def(&found, "none")
		return x.fail(refuseRedirectURI, decision.Check{Name: decision.CheckRequest, Rule: "RFC 9700, Section 2.1", Reason: decision.RedirectMismatch,
			Expected: expected, Found: found})
	}
	registered := a.client.RedirectURIs
	switch {
	case uri != "":
		if !matchRedirect(registered, uri) {
			return bad(clip(strings.Join(registered, " "), 512))
		}
		a.RedirectSent = true
	case x.s.fapi2(a.client):
		return bad("redirect_uri (FAPI 2.0, Section 5.3.2.2)")
	case hasScope(a.form.get("scope"), scopeOpenID):
		return bad("redirect_uri (OpenID Connect Core, Section 3.1.2.1)")
	case len(registered) != 1 || !matchRedirect(registered, registered[0]):
		return bad("redirect_uri, since not exactly one is registered (RFC 6749, Section 3.1.2.3)")
	default:
		uri = registered[0]
	}
	a.RedirectURI = uri
	return nil
}

// badParameter refuses a parameter by name. expected is fixed text, in the characters of
// RFC 6749, Section 5.2.
func (x *exchange) badParameter(name, expected, found string) *refusal {
	r := *refuseRequest
	r.description = name + ": expected " + expected
	return x.fail(&r, decision.Check{Name: decision.CheckRequest, Reason: decision.RequestMalformed, Expected: name + ": " + expected, Found: clip(found, 128)})
}

// checkResponse looks at what says how to answer, first of all.
func (x *exchange) checkResponse(a *authRequest) *refusal {
	state := a.form.get("state")
	if len(state) > maxState || !printable(state) {
		return x.badParameter("state", "at most 2048 printable ASCII characters", strconv.Itoa(len(state))+" bytes")
	}
	a.State = state
	switch mode := a.form.get("response_mode"); mode {
	case "", modeQuery:
	case modeFormPost:
		if scheme := redirectScheme(a.RedirectURI); scheme != "https" && scheme != "http" {
			return x.badParameter("response_mode", "query, since a form cannot be posted to an app", mode)
		}
		a.ResponseMode = modeFormPost
	default:
		r := *refuseRequest
		r.description = "response_mode: expected query or form_post"
		return x.fail(&r, decision.Check{Name: decision.CheckRequest, Rule: "RFC 6749, Section 4.1.2", Reason: decision.ResponseUnsupported,
			Expected: "query or form_post", Found: clip(mode, 64)})
	}
	switch rt := a.form.get("response_type"); rt {
	case "code":
	case "":
		return x.badParameter("response_type", "code", "none")
	default:
		return x.fail(refuseResponseType, decision.Check{Name: decision.CheckRequest, Rule: "RFC 6749, Section 3.1.1", Reason: decision.ResponseUnsupported,
			Expected: "code", Found: clip(rt, 64)})
	}
	return nil
}

// checkChallenge demands PKCE with S256 of every client (RFC 9700, Section 2.1.1). The
// method that a request without one means is plain, which shows its verifier to whoever
// sees the request.
func (x *exchange) checkChallenge(a *authRequest) *refusal {
	challenge, method := a.form.get("code_challenge"), a.form.get("code_challenge_method")
	if challenge == "" || method != "S256" {
		found := "no code_challenge"
		if challenge != "" {
			found = "method " + clip(method, 32)
			if method == "" {
				found = "no code_challenge_method, which means plain"
			}
		}
		return x.fail(refuseChallenge, decision.Check{Name: decision.CheckRequest, Rule: "RFC 7636, Section 4.3", Reason: decision.ChallengeMissing,
			Expected: "code_challenge with code_challenge_method S256", Found: found})
	}
	if !is256(challenge) {
		return x.badParameter("code_challenge", "the base64url of a SHA-256, 43 characters", strconv.Itoa(len(challenge))+" bytes")
	}
	a.Challenge = challenge
	return nil
}

// checkScope takes the requested scopes, or all that the client has.
func (x *exchange) checkScope(a *authRequest) *refusal {
	requested := a.form.get("scope")
	if requested == "" {
		a.Scope = a.client.scopeText
		return nil
	}
	var scopes []string
	for scope := range strings.SplitSeq(requested, " ") {
		if !slices.Contains(a.client.scopes, scope) {
			return x.fail(refuseScope, decision.Check{Name: decision.CheckScope, Rule: "RFC 6749, Section 3.3", Reason: decision.ScopeNotAllowed,
				Expected: clip(a.client.scopeText, 1024), Found: clip(scope, 256)})
		}
		if !slices.Contains(scopes, scope) {
			scopes = append(scopes, scope)
		}
	}
	a.Scope = strings.Join(scopes, " ")
	return nil
}

// checkResources takes the requested resources (RFC 8707, Section 2), or the default.
func (x *exchange) checkResources(a *authRequest) *refusal {
	requested := a.form.all("resource")
	if len(requested) > maxResources {
		return x.fail(refuseTarget, decision.Check{Name: decision.CheckAudience, Rule: "RFC 8707, Section 2", Reason: decision.ResourceNotAllowed,
			Expected: "at most 16", Found: strconv.Itoa(len(requested))})
	}
	audience, failed := x.s.audienceOf(a.client, requested)
	if failed != nil {
		failed.Name = decision.CheckAudience
		return x.fail(refuseTarget, *failed)
	}
	a.Resources = audience
	return nil
}

// checkPerson looks at what says who is to log in, and how (OpenID Connect Core,
// Section 3.1.2.1). The parameters claims and display are ignored, as the metadata says.
func (x *exchange) checkPerson(a *authRequest) *refusal {
	f := a.form
	a.Nonce = f.get("nonce")
	if len(a.Nonce) > maxNonce || !printable(a.Nonce) {
		return x.badParameter("nonce", "at most 512 printable ASCII characters", strconv.Itoa(len(a.Nonce))+" bytes")
	}
	for p := range strings.FieldsSeq(f.get("prompt")) {
		if !slices.Contains([]string{"none", "login", "consent", "select_account"}, p) {
			return x.badParameter("prompt", "none, login, consent or select_account", p)
		}
		if !slices.Contains(a.Prompt, p) {
			a.Prompt = append(a.Prompt, p)
		}
	}
	if a.prompts("none") && len(a.Prompt) > 1 {
		return x.badParameter("prompt", "none by itself", strings.Join(a.Prompt, " "))
	}
	if age := f.get("max_age"); age != "" {
		n, err := strconv.ParseUint(age, 10, 31)
		if err != nil {
			return x.badParameter("max_age", "a number of seconds", age)
		}
		a.MaxAge = new(int64(n))
	} else if n := a.client.DefaultMaxAge; n > 0 {
		a.MaxAge = new(int64(n))
	}
	for _, list := range []struct {
		name string
		to   *[]string
	}{{"acr_values", &a.ACR}, {"ui_locales", &a.Locales}} {
		for v := range strings.FieldsSeq(f.get(list.name)) {
			if len(v) > maxListedLen || !printable(v) || len(*list.to) == maxListed {
				return x.badParameter(list.name, "at most 16 values of at most 128 printable ASCII characters", v)
			}
			*list.to = append(*list.to, v)
		}
	}
	if a.LoginHint = f.get("login_hint"); len(a.LoginHint) > maxHint || !shownText(a.LoginHint) {
		return x.badParameter("login_hint", "at most 512 bytes without control characters", strconv.Itoa(len(a.LoginHint))+" bytes")
	}
	return x.checkHint(a)
}

// checkHint reads id_token_hint. A hint that is too old for its key to be known says
// nothing; that it is somebody else's, or not an ID token, is a fault.
func (x *exchange) checkHint(a *authRequest) *refusal {
	value := a.form.get("id_token_hint")
	if value == "" {
		return nil
	}
	claims, reason, err := x.s.readIDToken(x.ctx(), value)
	switch {
	case err != nil:
		return x.unavailable(decision.CheckLogin, err)
	case reason == decision.TokenKeyUnknown && !a.prompts("none"):
		return nil
	case reason == decision.TokenKeyUnknown:
		return x.fail(refuseLogin, decision.Check{Name: decision.CheckLogin, Rule: "OpenID Connect Core, Section 3.1.2.1", Reason: decision.LoginRequired,
			Found: "an id_token_hint whose key is no longer known"})
	case claims == nil:
		return x.badParameter("id_token_hint", "an ID token of this server", string(reason))
	case claims.Audience[0] != a.client.ID:
		return x.badParameter("id_token_hint", "an ID token for this client", "one for "+clip(claims.Audience[0], 256))
	}
	a.HintSubject = claims.Subject
	return nil
}

// printable reports whether s consists of VSCHAR (RFC 6749, Appendix A).
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}
