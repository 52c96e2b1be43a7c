package authserver

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/certbound/certbound/decision"
)

// codePrefix lets scanners for leaked secrets find our codes.
const codePrefix = "cbc_"

// addBrowserRoutes adds what browsers see. None of it is on the listener that asks for
// certificates: people would be asked to choose one.
func (s *Server) addBrowserRoutes(h *handler) {
	path := basePath(s.cfg.Issuer)
	h.routes[path+"/authorize"] = route{name: "authorize", any: browse((*exchange).authorize)}
	h.routes[path+"/login"] = route{name: "login", any: browse(func(x *exchange) { x.login("") })}
	h.routes[path+"/login/callback"] = route{name: "login", any: browse(func(x *exchange) { x.login("/callback") })}
	h.routes[path+"/consent"] = route{name: "consent", any: browse((*exchange).consent)}
	h.routes[path+"/logout"] = route{name: "logout", any: browse((*exchange).logout)}
}

// authorize is the authorization endpoint (RFC 6749, Section 3.1). A request comes as a
// query, in the body of a POST, or by reference to a pushed one; from its first use on the
// browser carries a reference, so that a reload or a step back shows the same page.
func (x *exchange) authorize() {
	if refused := x.readBrowser(); refused != nil {
		x.refusePage(refused)
		return
	}
	if reference := x.form.get("flow"); reference != "" && x.form.get("client_id") == "" {
		if x.r.Method != http.MethodGet {
			x.seeOther(basePath(x.s.cfg.Issuer) + "/authorize?flow=" + url.QueryEscape(clip(reference, 64)))
			return
		}
		fl, refused := x.openFlow(reference)
		if refused != nil {
			x.refusePage(refused)
			return
		}
		x.advance(fl, true)
		return
	}
	c, refused := x.browserClient(x.form.get("client_id"))
	if refused != nil {
		x.refusePage(refused)
		return
	}
	x.d.Pass(decision.CheckClient, "RFC 6749, Section 3.1", "")
	if uri := x.form.get("request_uri"); uri != "" {
		x.authorizePushed(c, uri)
		return
	}
	a := &authRequest{client: c, form: x.form}
	if refused := x.readObject(a); refused != nil {
		x.refusePage(refused)
		return
	}
	if refused := x.checkRequest(a); refused != nil {
		x.refuseRequest(a, refused)
		return
	}
	if x.r.Method == http.MethodPost {
		// Browsers send no cookies along with a form of another site. It is kept, and the
		// browser comes back with GET, as for a pushed request.
		_, reference, refused := x.saveRequest(a, x.s.cfg.Authorization.RequestLifetime)
		if refused != nil {
			x.refusePage(refused)
			return
		}
		x.d.Allow()
		x.seeOther(basePath(x.s.cfg.Issuer) + "/authorize?client_id=" + url.QueryEscape(c.ID) + "&request_uri=" + url.QueryEscape(requestURIPrefix+reference))
		return
	}
	r, reference, refused := x.saveRequest(a, x.s.cfg.Authorization.FlowLifetime, func(r *AuthorizationRequest) {
		r.Browser = sha256.Sum256([]byte(x.browser()))
	})
	if refused != nil {
		x.refusePage(refused)
		return
	}
	x.advance(&flow{reference: reference, request: r, client: c, authParams: a.authParams}, false)
}

// refuseRequest tells the client, if there is a redirect URI that is known to be its
// own, or else the person.
func (x *exchange) refuseRequest(a *authRequest, r *refusal) {
	if a.RedirectURI == "" || x.stranger(a.client) {
		x.refusePage(r)
		return
	}
	x.refuseTo(&a.authParams, r)
}

// stranger reports whether an answer to the client would lead a browser in which nobody has
// logged in to an address that nobody here has looked at: anybody could register one and
// spread links that begin with our name (RFC 9700, Section 4.11.2).
func (x *exchange) stranger(c *registered) bool {
	if !c.Dynamic || c.RegisteredBy != registeredOpenly {
		return false
	}
	sess, err := x.session()
	return err != nil || sess == nil
}

// authorizePushed goes on with a pushed request (RFC 9126, Section 4). Parameters beside
// client_id and request_uri do not count.
func (x *exchange) authorizePushed(c *registered, uri string) {
	reference, ok := pushedReference(uri)
	if !ok {
		x.refusePage(x.fail(refuseByReference, decision.Check{Name: decision.CheckRequest, Rule: "RFC 9101, Section 5.2", Reason: decision.RequestByReference, Found: clip(uri, 128)}))
		return
	}
	fl, refused := x.readFlow(reference)
	if refused == nil && fl.client.ID != c.ID {
		x.d.ClientID = clip(c.ID, 256)
		refused = x.fail(refuseRequestURI, decision.Check{Name: decision.CheckRequest, Rule: "RFC 9126, Section 2.2", Reason: decision.RequestOfOther, Expected: "the client that has pushed it"})
	}
	if refused == nil {
		refused = x.bindFlow(fl)
	}
	if refused != nil {
		x.refusePage(refused)
		return
	}
	x.advance(fl, true)
}

// advance brings a flow as far as it goes without the person: to the login, the consent,
// or the code. stable says that the URL of this request shows the same again.
func (x *exchange) advance(fl *flow, stable bool) {
	sess, refused := x.judgeLogin(fl)
	switch {
	case refused == refuseLogin && !fl.prompts("none") && !x.loggedIn(fl, sess):
		x.d = decisionFor(fl) // nothing is refused: the person is asked
		x.seeOther(x.flowURL(fl, "/login"))
		return
	case refused == refuseLogin:
		x.refuseFlow(fl, refused)
		return
	case refused != nil:
		x.refusePage(refused)
		return
	}
	ask, refused := x.judgeConsent(fl, sess)
	switch {
	case refused != nil:
		x.refusePage(refused)
	case ask == nil:
		x.issueCode(fl, sess, false)
	case fl.prompts("none"):
		x.refuseFlow(fl, x.fail(refuseConsent, decision.Check{Name: decision.CheckConsent, Rule: "OpenID Connect Core, Section 3.1.2.6", Reason: decision.ConsentRequired}))
	case !stable:
		x.seeOther(x.flowURL(fl, "/authorize"))
	default:
		x.rendered(x.s.cfg.Authorization.Pages.Consent(x.w, http.StatusOK, *ask))
	}
}

// decisionFor begins a decision anew for a flow that is under way.
func decisionFor(fl *flow) *decision.Decision {
	d := decision.New()
	d.ClientID = clip(fl.client.ID, 256)
	return d
}

// loggedIn reports whether the session was made by a login within this flow.
func (x *exchange) loggedIn(fl *flow, sess *Session) bool {
	return sess != nil && fl.progress.Session == sess.ID
}

// judgeLogin says who the person is, or refuseLogin if somebody has to log in first.
func (x *exchange) judgeLogin(fl *flow) (*Session, *refusal) {
	const rule = "OpenID Connect Core, Section 3.1.2.1"
	sess, err := x.session()
	if err != nil {
		return nil, x.unavailable(decision.CheckLogin, err)
	}
	need := func(found string) (*Session, *refusal) {
		return sess, x.fail(refuseLogin, decision.Check{Name: decision.CheckLogin, Rule: rule, Reason: decision.LoginRequired, Found: found})
	}
	if sess == nil {
		return need("nobody is logged in")
	}
	fresh := x.loggedIn(fl, sess)
	switch {
	case fl.HintSubject != "" && fl.HintSubject != sess.Subject:
		return need("somebody else than id_token_hint names")
	case !fresh && (fl.prompts("login") || fl.prompts("select_account")):
		return need("prompt=login or select_account")
	case !fresh && fl.MaxAge != nil && x.now.Sub(sess.AuthTime) > seconds(*fl.MaxAge):
		return need("a login before max_age")
	}
	person, err := x.person(sess.Subject)
	if err != nil {
		return nil, x.unavailable(decision.CheckLogin, err)
	}
	if person != nil && person.Disabled {
		if err := x.s.grants.DeleteSessions(x.ctx(), sess.Subject); err != nil {
			return nil, x.unavailable(decision.CheckLogin, err)
		}
		sess = nil
		return need("a person who is disabled")
	}
	x.d.Pass(decision.CheckLogin, rule, "")
	return sess, nil
}

// person returns what is known of a person, or nil.
func (x *exchange) person(subject string) (*Person, error) {
	p, err := x.s.grants.Person(x.ctx(), subject)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	return p, err
}

// issueCode ends the request and begins the grant, in one transaction, so that a request
// gives one code, whatever happens and however often it comes. remember says that the
// person has consented just now.
func (x *exchange) issueCode(fl *flow, sess *Session, remember bool) {
	a := &x.s.cfg.Authorization
	value := randomValue(codePrefix)
	var id [16]byte
	rand.Read(id[:])
	g := &Grant{
		ID: base64.RawURLEncoding.EncodeToString(id[:]), ClientID: fl.client.ID, Subject: sess.Subject, Scope: fl.Scope, Resources: fl.Resources,
		AuthTime: sess.AuthTime, ACR: sess.ACR, AMR: sess.AMR, SessionID: sess.ID, Nonce: fl.Nonce, Created: x.now,
	}
	if fl.client.mayUse(GrantRefreshToken) {
		g.Expires = x.now.Add(a.Refresh.Lifetime)
	} else {
		g.Expires = x.now.Add(a.CodeLifetime + x.s.cfg.MaxTokenLifetime)
	}
	code := &Code{
		Hash: sha256.Sum256([]byte(value)), GrantID: g.ID, ClientID: fl.client.ID, RedirectURI: fl.RedirectURI, RedirectURISent: fl.RedirectSent,
		Challenge: fl.Challenge, Expires: x.now.Add(a.CodeLifetime),
	}
	var consent *Consent
	if remember && a.ConsentLifetime > 0 {
		var err error
		if consent, err = x.mergedConsent(fl, sess); err != nil {
			x.refusePage(x.unavailable(decision.CheckConsent, err))
			return
		}
	}
	if err := x.s.touchSession(x.ctx(), sess, x.now); err != nil {
		x.refusePage(x.unavailable(decision.CheckLogin, err))
		return
	}
	err := ErrConflict
	for i := 0; i < updateTries && errors.Is(err, ErrConflict); i++ {
		if i > 0 {
			if err = x.reloadFlow(fl); err != nil {
				break
			}
		}
		err = x.s.grants.Authorize(x.ctx(), fl.request, g, code, consent)
	}
	if err != nil {
		x.refusePage(x.lostRequest(err))
		return
	}
	x.d.Pass(decision.CheckGrant, "RFC 6749, Section 4.1.2", g.ID)
	x.d.Allow()
	x.respond(&fl.authParams, "code", value)
}

// mergedConsent is what the person has allowed the client by now: what is remembered, and
// what was asked for.
func (x *exchange) mergedConsent(fl *flow, sess *Session) (*Consent, error) {
	out := &Consent{Subject: sess.Subject, ClientID: fl.client.ID, Scope: fl.Scope, Resources: fl.Resources,
		Given: x.now, Expires: x.now.Add(x.s.cfg.Authorization.ConsentLifetime)}
	before, err := x.rememberedConsent(fl, sess)
	if err != nil {
		return nil, err
	}
	if before != nil {
		out.Scope = union(before.Scope, fl.Scope)
		out.Resources = unionOf(before.Resources, fl.Resources)
	}
	return out, nil
}

// rememberedConsent returns what the person has allowed the client before, or nil. A client
// that was made anew under an old id has been allowed nothing, nor has one that has changed
// its own registration since: whoever has its registration access token could send the
// answer elsewhere, and nobody would be asked.
func (x *exchange) rememberedConsent(fl *flow, sess *Session) (*Consent, error) {
	if x.s.cfg.Authorization.ConsentLifetime < 0 {
		return nil, nil
	}
	c, err := x.s.grants.Consent(x.ctx(), sess.Subject, fl.client.ID)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, err
	case !c.Expires.IsZero() && !x.now.Before(c.Expires) || c.Given.Before(fl.client.Created.Truncate(time.Microsecond)),
		fl.client.Dynamic && c.Given.Before(fl.client.Updated.Add(time.Second)): // Updated has whole seconds
		return nil, nil
	}
	return c, nil
}
