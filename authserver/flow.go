package authserver

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"net/url"
	"time"

	"github.com/certbound/certbound/authserver/pages"
	"github.com/certbound/certbound/decision"
)

// A flow is an authorization request in the hands of a browser.
type flow struct {
	reference string
	request   *AuthorizationRequest
	client    *registered
	authParams
	progress progress
}

// progress is what AuthorizationRequest.Progress holds.
type progress struct {
	// Session is the id of the session that a login within this flow has made. It is no
	// proof of anything without the cookie of that session.
	Session string `json:"sid,omitempty"`
	// State is what the login keeps.
	State json.RawMessage `json:"state,omitempty"`
}

// Bounds of what a login keeps and says, in bytes.
const (
	maxLoginState = 4 << 10
	maxClaims     = 64 << 10
	maxSubject    = 255
)

// updateTries is how often a change of a request that somebody else has changed meanwhile
// is tried: two windows of one browser, at most.
const updateTries = 4

// openFlow finds the request that a browser is busy with. It has to be bound to this
// browser already.
func (x *exchange) openFlow(reference string) (*flow, *refusal) {
	fl, refused := x.readFlow(reference)
	if refused != nil {
		return nil, refused
	}
	if fl.request.Browser == ([32]byte{}) {
		return nil, x.fail(refuseRequestURI, decision.Check{Name: decision.CheckRequest, Reason: decision.RequestUnknown, Found: "a request that has not begun"})
	}
	if refused := x.checkBrowser(fl); refused != nil {
		return nil, refused
	}
	return fl, nil
}

// checkBrowser compares the browser with the one that a request is bound to.
func (x *exchange) checkBrowser(fl *flow) *refusal {
	value := cookieValue(x.r, browserCookie)
	if value == "" {
		return x.fail(refuseCookie, decision.Check{Name: decision.CheckBrowser, Reason: decision.CookieMissing, Expected: browserCookie})
	}
	if sha256.Sum256([]byte(value)) != fl.request.Browser {
		return x.fail(refuseRequestURI, decision.Check{Name: decision.CheckBrowser, Reason: decision.BrowserMismatch})
	}
	return nil
}

// readFlow reads a request, whoever asks.
func (x *exchange) readFlow(reference string) (*flow, *refusal) {
	unknown := func(reason decision.Reason) *refusal {
		return x.fail(refuseRequestURI, decision.Check{Name: decision.CheckRequest, Rule: "RFC 9126, Section 4", Reason: reason})
	}
	if !is256(reference) {
		return nil, unknown(decision.RequestUnknown)
	}
	r, err := x.s.grants.Request(x.ctx(), sha256.Sum256([]byte(reference)))
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, unknown(decision.RequestUnknown)
	case err != nil:
		return nil, x.unavailable(decision.CheckRequest, err)
	case !x.now.Before(r.Expires):
		return nil, unknown(decision.RequestExpired)
	}
	fl := &flow{reference: reference, request: r}
	if refused := x.loadFlow(fl); refused != nil {
		return nil, refused
	}
	return fl, nil
}

// loadFlow fills in what follows from the request, with the client as it is now.
func (x *exchange) loadFlow(fl *flow) *refusal {
	c, refused := x.browserClient(fl.request.ClientID)
	if refused != nil {
		return refused
	}
	fl.client, fl.authParams, fl.progress = c, authParams{}, progress{}
	err := json.Unmarshal(fl.request.Parameters, &fl.authParams)
	if err == nil && len(fl.request.Progress) > 0 {
		err = json.Unmarshal(fl.request.Progress, &fl.progress)
	}
	if err != nil {
		return x.unavailable(decision.CheckRequest, err)
	}
	// Registrations change while people think.
	if !matchRedirect(c.RedirectURIs, fl.RedirectURI) {
		return x.fail(refuseRedirectURI, decision.Check{Name: decision.CheckRequest, Reason: decision.RedirectMismatch, Found: clip(fl.RedirectURI, 256)})
	}
	return nil
}

// browserClient returns the client of a request that a browser brings, which identifies
// it only.
func (x *exchange) browserClient(id string) (*registered, *refusal) {
	x.d.ClientID = clip(id, 256)
	bad := func(reason decision.Reason, found string) (*registered, *refusal) {
		return nil, x.fail(refuseNotForClient, decision.Check{Name: decision.CheckClient, Rule: "RFC 6749, Section 4.1.2.1", Reason: reason, Found: found})
	}
	if id == "" {
		return bad(decision.NoClientID, "")
	}
	if !validClientID(id) {
		return bad(decision.UnknownClient, "an id that cannot be one")
	}
	c, err := x.s.client(x.ctx(), id)
	switch {
	case err != nil:
		return nil, x.unavailable(decision.CheckClient, err)
	case c == nil:
		return bad(decision.UnknownClient, "")
	case c.Disabled:
		return bad(decision.ClientDisabled, "")
	case c.fault != nil:
		return bad(decision.ClientMisconfig, c.fault.Error())
	case !c.mayUse(GrantAuthorizationCode):
		return nil, x.fail(refuseNotForClient, decision.Check{Name: decision.CheckGrant, Rule: "RFC 6749, Section 4.1.2.1", Reason: decision.GrantNotAllowed, Expected: GrantAuthorizationCode})
	}
	return c, nil
}

// bindFlow binds a request to this browser at its first use. From then on another browser
// cannot go on with it, and the person has the time of the flow.
func (x *exchange) bindFlow(fl *flow) *refusal {
	for range updateTries {
		if fl.request.Browser != ([32]byte{}) {
			return x.checkBrowser(fl)
		}
		r := *fl.request
		r.Browser = sha256.Sum256([]byte(x.browser()))
		r.Expires = x.now.Add(x.s.cfg.Authorization.FlowLifetime)
		switch err := x.s.grants.UpdateRequest(x.ctx(), &r); {
		case err == nil:
			fl.request = &r
			return nil
		case errors.Is(err, ErrConflict):
			if fl.request, err = x.s.grants.Request(x.ctx(), r.Hash); err == nil {
				continue
			}
			return x.lostRequest(err)
		default:
			return x.lostRequest(err)
		}
	}
	return x.lostRequest(ErrConflict)
}

// updateProgress changes the progress of a flow.
func (x *exchange) updateProgress(fl *flow, change func(*progress)) error {
	for range updateTries {
		p := fl.progress
		change(&p)
		data, err := json.Marshal(p)
		if err != nil {
			return err
		}
		r := *fl.request
		r.Progress = data
		err = x.s.grants.UpdateRequest(x.ctx(), &r)
		if err == nil {
			fl.request, fl.progress = &r, p
			return nil
		}
		if !errors.Is(err, ErrConflict) {
			return err
		}
		if err := x.reloadFlow(fl); err != nil {
			return err
		}
	}
	return ErrConflict
}

// reloadFlow reads a request again that was changed in another window.
func (x *exchange) reloadFlow(fl *flow) error {
	r, err := x.s.grants.Request(x.ctx(), fl.request.Hash)
	if err != nil {
		return err
	}
	if r.Browser != fl.request.Browser {
		return ErrNotFound
	}
	fl.request, fl.progress = r, progress{}
	if len(r.Progress) > 0 {
		return json.Unmarshal(r.Progress, &fl.progress)
	}
	return nil
}

// lostRequest is the refusal for a request that could not be changed.
func (x *exchange) lostRequest(err error) *refusal {
	if errors.Is(err, ErrNotFound) {
		return x.fail(refuseRequestURI, decision.Check{Name: decision.CheckRequest, Rule: "RFC 9126, Section 4", Reason: decision.RequestUnknown, Found: "it has ended meanwhile"})
	}
	return x.unavailable(decision.CheckRequest, err)
}

// flowURL returns the URL of one of our pages for a flow.
func (x *exchange) flowURL(fl *flow, page string) string {
	return basePath(x.s.cfg.Issuer) + page + "?flow=" + fl.reference
}

// respond sends the browser back to the client with the parameters of a response, which
// always has the issuer (RFC 9207).
func (x *exchange) respond(p *authParams, pairs ...string) {
	if p.State != "" {
		pairs = append(pairs, "state", p.State)
	}
	pairs = append(pairs, "iss", x.s.cfg.Issuer)
	if p.ResponseMode == modeFormPost {
		data := pages.FormPost{Action: p.RedirectURI}
		for i := 0; i < len(pairs); i += 2 {
			data.Fields = append(data.Fields, pages.Field{Name: pairs[i], Value: pairs[i+1]})
		}
		x.observe()
		x.rendered(x.s.cfg.Authorization.Pages.FormPost(x.w, 200, data))
		return
	}
	x.seeOther(withQuery(p.RedirectURI, pairs...))
}

// withQuery adds parameters to the query of a URI that has no fragment, and leaves what is
// there as it is (RFC 6749, Section 3.1.2).
func withQuery(uri string, pairs ...string) string {
	b := []byte(uri)
	separator := byte('?')
	for i := range len(uri) {
		if uri[i] == '?' {
			separator = '&'
			if i == len(uri)-1 || uri[len(uri)-1] == '&' {
				separator = 0
			}
			break
		}
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		if separator != 0 {
			b = append(b, separator)
		}
		separator = '&'
		b = append(b, url.QueryEscape(pairs[i])...)
		b = append(b, '=')
		b = append(b, url.QueryEscape(pairs[i+1])...)
	}
	return string(b)
}

// refuseTo tells the client what is wrong, by way of the browser.
func (x *exchange) refuseTo(p *authParams, r *refusal) {
	x.logRefusal(r.status, r.code)
	x.respond(p, "error", r.code, "error_description", r.description)
}

// refuseFlow ends a flow and tells the client why, or the person if the client is a stranger's.
func (x *exchange) refuseFlow(fl *flow, r *refusal) {
	if err := x.s.grants.DeleteRequest(x.ctx(), fl.request.Hash); err != nil {
		x.refusePage(x.lostRequest(err))
		return
	}
	// Who has pressed a button knows where it leads.
	if r != refuseDenied && x.stranger(fl.client) {
		x.refusePage(r)
		return
	}
	x.refuseTo(&fl.authParams, r)
}

// pageClient is what pages show of a client.
func pageClient(c *registered, redirectURI string) pages.Client {
	return pages.Client{ID: c.ID, Name: c.Name, URI: c.URI, Logo: c.LogoURI, Policy: c.PolicyURI, Terms: c.TermsURI, RedirectURI: redirectURI, Dynamic: c.Dynamic}
}

func seconds(n int64) time.Duration { return time.Duration(n) * time.Second }
