package authserver

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/certbound/certbound/decision"
)

// clientErrors are the errors of a login that the client may know.
var clientErrors = map[string]string{
	"login_required":                    "the person has to log in",
	"interaction_required":              "the person has to do something",
	"account_selection_required":        "the person has to choose an account",
	"unmet_authentication_requirements": "the requested authentication cannot be reached",
	"access_denied":                     "the person was not let in",
	"temporarily_unavailable":           "the login does not work at the moment",
	"server_error":                      "the login does not work",
}

// login hands the flow to whoever finds out who the person is. The request is bound to
// this browser, and a POST was sent from our page, before Login sees anything.
func (x *exchange) login(path string) {
	query, err := x.query()
	if err != nil {
		x.refusePage(x.fail(refuseRequest, formCheck(err)))
		return
	}
	reference := query.get("flow")
	if reference == "" && path != "" {
		reference, _, _ = strings.Cut(query.get("state"), ".")
	}
	fl, refused := x.openFlow(reference)
	if refused != nil {
		x.refusePage(refused)
		return
	}
	if x.r.Method == http.MethodPost {
		if refused := x.readBrowser(); refused != nil {
			x.refusePage(refused)
			return
		}
		if refused := x.checkForm(fl.reference, "login"); refused != nil {
			x.refusePage(refused)
			return
		}
		// The body is read. What net/http would have made of it:
		x.r.PostForm = make(map[string][]string, len(x.form))
		for _, p := range x.form {
			x.r.PostForm.Add(p.name, p.value)
		}
		x.r.Form = maps.Clone(x.r.PostForm)
		for _, p := range query {
			x.r.Form[p.name] = append(slices.Clone(x.r.Form[p.name]), p.value)
		}
		x.r.Body, x.r.ContentLength = http.NoBody, 0
	}
	a := &LoginAttempt{
		Client: fl.client.Client, Page: pageClient(fl.client, fl.RedirectURI), Reference: fl.reference,
		Action: x.flowURL(fl, "/login"), Base: x.s.cfg.Issuer, Path: path, CSRF: csrfToken(x.browser(), fl.reference, "login"),
		Hint: fl.LoginHint, ACR: fl.ACR, Locales: fl.Locales, Prompt: fl.Prompt, Subject: fl.HintSubject, MaxAge: fl.MaxAge,
		Pages: x.s.cfg.Authorization.Pages, State: fl.progress.State,
	}
	if a.Subject == "" && fl.MaxAge != nil {
		sess, err := x.session()
		if err != nil {
			x.refusePage(x.unavailable(decision.CheckLogin, err))
			return
		}
		if sess != nil {
			a.Subject = sess.Subject
		}
	}
	on := func(w http.ResponseWriter, r *http.Request) *exchange {
		x.w, x.r = w, r
		return x
	}
	a.Keep = func(r *http.Request, state json.RawMessage) error {
		if len(state) > maxLoginState || len(state) > 0 && !json.Valid(state) {
			return fmt.Errorf("authserver: login state: expected JSON of at most 4 KiB, found %d bytes", len(state))
		}
		if err := x.updateProgress(fl, func(p *progress) { p.State = state }); err != nil {
			return err
		}
		a.State = state
		return nil
	}
	a.swap = func(state json.RawMessage) (bool, error) {
		first, err := x.swapState(fl, a.State, state)
		if first {
			a.State = state
		}
		return first, err
	}
	a.Done = func(w http.ResponseWriter, r *http.Request, p Authenticated) { on(w, r).loginDone(fl, p) }
	a.Deny = func(w http.ResponseWriter, r *http.Request) {
		x := on(w, r)
		x.refuseFlow(fl, x.fail(refuseDenied, decision.Check{Name: decision.CheckLogin, Rule: "RFC 6749, Section 4.1.2.1", Reason: decision.ConsentDenied}))
	}
	a.Fail = func(w http.ResponseWriter, r *http.Request, code string, cause error) {
		on(w, r).loginFailed(fl, code, cause)
	}
	x.s.cfg.Authorization.Login.ServeLogin(x.w, x.r, a)
}

// loginFailed ends a login without a person.
func (x *exchange) loginFailed(fl *flow, code string, cause error) {
	found := "no cause"
	if cause != nil {
		found = cause.Error()
	}
	check := decision.Check{Name: decision.CheckLogin, Reason: decision.LoginFailed, Found: clip(found, 1024)}
	if description, ok := clientErrors[code]; ok {
		x.refuseFlow(fl, x.fail(&refusal{http.StatusBadRequest, code, description, false}, check))
		return
	}
	if code == "invalid_request" { // what the browser brought, not what the login did
		x.refusePage(x.fail(refuseRequest, check))
		return
	}
	x.refusePage(x.fail(refuseLoginFailed, check))
}

// loginDone begins a session for a person who has logged in, and goes on.
func (x *exchange) loginDone(fl *flow, p Authenticated) {
	unusable := func(expected, found string) {
		x.refusePage(x.fail(refuseLoginFailed, decision.Check{Name: decision.CheckLogin, Reason: decision.LoginUnusable, Expected: expected, Found: clip(found, 128)}))
	}
	size := 0
	for name, value := range p.Claims {
		size += len(name) + len(value)
		if !json.Valid(value) {
			unusable("claims that are JSON", name)
			return
		}
	}
	if p.Time.IsZero() || p.Time.After(x.now) {
		p.Time = x.now
	}
	switch {
	case p.Subject == "" || len(p.Subject) > maxSubject || !printable(p.Subject):
		unusable("a subject of 1 to 255 printable ASCII characters", fmt.Sprintf("%d bytes", len(p.Subject)))
		return
	case size > maxClaims:
		unusable("claims of at most 64 KiB", fmt.Sprintf("%d bytes", size))
		return
	case len(p.ACR) > 256 || !printable(p.ACR) || len(p.AMR) > 16 || slices.ContainsFunc(p.AMR, func(s string) bool { return len(s) > 64 || !printable(s) }):
		unusable("acr of at most 256 and at most 16 amr of at most 64 printable ASCII characters", "others")
		return
	}
	// A person who could be taken for a client would have its rights at a resource server
	// (RFC 9068, Section 5).
	switch c, err := x.s.client(x.ctx(), p.Subject); {
	case err != nil:
		x.refusePage(x.unavailable(decision.CheckLogin, err))
		return
	case c != nil:
		unusable("a subject that is not the id of a client", "the id of a client")
		return
	}
	if refused := x.savePerson(p); refused != nil {
		x.refusePage(refused)
		return
	}
	var refused *refusal
	switch {
	case fl.HintSubject != "" && fl.HintSubject != p.Subject:
		refused = x.fail(refuseLogin, decision.Check{Name: decision.CheckLogin, Rule: "OpenID Connect Core, Section 3.1.2.1", Reason: decision.LoginRequired, Found: "somebody else than id_token_hint names"})
	case fl.MaxAge != nil && x.now.Sub(p.Time) > seconds(*fl.MaxAge)+time.Minute:
		// The login stands for one that was made elsewhere, too long ago.
		refused = x.fail(refuseLogin, decision.Check{Name: decision.CheckLogin, Rule: "OpenID Connect Core, Section 3.1.2.1", Reason: decision.LoginRequired,
			Expected: fmt.Sprintf("a login within %d seconds", *fl.MaxAge), Found: p.Time.UTC().Format(time.RFC3339)})
	}
	if refused != nil {
		x.refuseFlow(fl, refused)
		return
	}
	sess, err := x.beginSession(p)
	if err != nil {
		x.refusePage(x.unavailable(decision.CheckLogin, err))
		return
	}
	if err := x.updateProgress(fl, func(pr *progress) { *pr = progress{Session: sess.ID} }); err != nil {
		x.refusePage(x.lostRequest(err))
		return
	}
	x.d.Pass(decision.CheckLogin, "OpenID Connect Core, Section 3.1.2.3", "")
	x.seeOther(x.flowURL(fl, "/authorize"))
}

// savePerson keeps the claims of a person, unless they are what is known already.
func (x *exchange) savePerson(p Authenticated) *refusal {
	known, err := x.person(p.Subject)
	switch {
	case err != nil:
		return x.unavailable(decision.CheckLogin, err)
	case known != nil && known.Disabled:
		return x.fail(refusePerson, decision.Check{Name: decision.CheckLogin, Reason: decision.PersonDisabled, Found: clip(p.Subject, 256)})
	case p.Claims == nil || known != nil && maps.EqualFunc(known.Claims, p.Claims, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }):
		return nil
	}
	switch err := x.s.grants.SavePerson(x.ctx(), &Person{Subject: p.Subject, Claims: p.Claims, Updated: x.now}); {
	case errors.Is(err, ErrConflict): // disabled since this login began
		return x.fail(refusePerson, decision.Check{Name: decision.CheckLogin, Reason: decision.PersonDisabled, Found: clip(p.Subject, 256)})
	case err != nil:
		return x.unavailable(decision.CheckLogin, err)
	}
	return nil
}
