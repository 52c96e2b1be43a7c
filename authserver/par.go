package authserver

import (
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/certbound/certbound/decision"
)

// requestURIPrefix begins each request_uri (RFC 9126, Section 2.2). 43 characters follow.
const requestURIPrefix = "urn:ietf:params:oauth:request_uri:"

// maxParameters bounds the parameters of a request that is kept, in bytes.
const maxParameters = 16 << 10

// par is the pushed authorization request endpoint (RFC 9126). Its client authentication is
// that of the token endpoint; the certificate is only for that, and binds no token to
// come (RFC 8705, Section 3).
func (x *exchange) par() *refusal {
	c, refused := x.authenticate(true)
	if refused != nil {
		return refused
	}
	if c.method == None && x.s.fapi2(c) {
		return x.fail(refuseClient, decision.Check{Name: decision.CheckMethod, Rule: "FAPI 2.0, Section 5.3.2.2 (4)", Reason: decision.CallerNotAllowed,
			Expected: "a client that authenticates", Found: "a public client"})
	}
	if x.form.get("request_uri") != "" {
		return x.fail(refusePushedURI, decision.Check{Name: decision.CheckRequest, Rule: "RFC 9126, Section 2.1", Reason: decision.RequestMalformed, Expected: "no request_uri"})
	}
	a := &authRequest{client: c, form: x.form, pushed: true, proven: c.method != None}
	if refused := x.readObject(a); refused != nil {
		return refused
	}
	if refused := x.checkRequest(a); refused != nil {
		return refused
	}
	life := x.s.cfg.Authorization.RequestLifetime
	_, reference, refused := x.saveRequest(a, life)
	if refused != nil {
		return refused
	}
	x.d.Allow()
	body, err := json.Marshal(struct {
		URI     string `json:"request_uri"`
		Expires int64  `json:"expires_in"`
	}{requestURIPrefix + reference, int64(life / time.Second)})
	if err != nil {
		return x.fail(refuseServer, decision.Check{Name: decision.CheckRequest, Reason: decision.Unspecified, Found: err.Error()})
	}
	x.write(http.StatusCreated, body)
	return nil
}

// saveRequest keeps a request that has passed all checks under a new reference.
func (x *exchange) saveRequest(a *authRequest, life time.Duration, change ...func(*AuthorizationRequest)) (*AuthorizationRequest, string, *refusal) {
	parameters, err := json.Marshal(&a.authParams)
	if err != nil {
		return nil, "", x.fail(refuseServer, decision.Check{Name: decision.CheckRequest, Reason: decision.Unspecified, Found: err.Error()})
	}
	if len(parameters) > maxParameters {
		return nil, "", x.fail(refuseTooLarge, decision.Check{Name: decision.CheckRequest, Reason: decision.RequestTooLarge, Expected: "at most 16 KiB of parameters"})
	}
	if !x.s.requests.admit(x.now, x.s.cfg.Authorization.FlowLifetime, a, len(parameters)) {
		return nil, "", x.fail(refuseFlood, decision.Check{Name: decision.CheckRequest, Rule: "RFC 9126, Section 2.3", Reason: decision.RequestLimit,
			Expected: "fewer requests of this client that anybody can make"})
	}
	reference := random()
	r := &AuthorizationRequest{
		Hash: sha256.Sum256([]byte(reference)), ClientID: a.client.ID, Pushed: a.pushed, Parameters: parameters,
		Created: x.now, Expires: x.now.Add(life),
	}
	for _, c := range change {
		c(r)
	}
	if err := x.s.grants.SaveRequest(x.ctx(), r); err != nil {
		return nil, "", x.unavailable(decision.CheckRequest, err)
	}
	return r, reference, nil
}

// pushedReference returns the reference in a request_uri, if it has the form of ours.
func pushedReference(uri string) (string, bool) {
	reference, ok := strings.CutPrefix(uri, requestURIPrefix)
	return reference, ok && is256(reference)
}
