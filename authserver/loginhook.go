package authserver

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/certbound/certbound/clientauth"
	"github.com/certbound/certbound/decision"
)

// A LoginHook is a [Login] that hands people to a login application of the operator's own.
// The browser is redirected to URL with the parameter login_challenge. The application
// asks at the endpoint /login/challenge of the mutual-TLS listener what the challenge is
// about, and answers there who the person is, as the client ClientID with its
// certificate. Then it sends the browser to the URL that it got for the answer. A
// challenge is bound to the request and to the browser's cookie, is answered once and
// redeemed once.
type LoginHook struct {
	// URL is the https URL of the application.
	URL string
	// ClientID names the client that may answer. It has to be registered for one of the
	// methods of RFC 8705.
	ClientID string
}

// check reports wrong settings.
func (l *LoginHook) check(bad func(setting, format string, args ...any)) {
	if u, err := url.Parse(l.URL); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || strings.Contains(l.URL, "#") {
		bad("Authorization.Login", "LoginHook.URL: expected an https URL without fragment, found %q", l.URL)
	}
	if !validClientID(l.ClientID) {
		bad("Authorization.Login", "LoginHook.ClientID: expected the id of a client, found %q", l.ClientID)
	}
}

// hookPath is the endpoint for the application.
const hookPath = "/login/challenge"

// A hookState is what is kept of a challenge. Values are hashed as all that is a key to
// something.
type hookState struct {
	Challenge []byte         `json:"challenge"`
	Verifier  []byte         `json:"verifier,omitempty"` // once it was answered
	Answer    *Authenticated `json:"answer,omitempty"`   // nil: denied
}

func hookHash(value string) []byte {
	sum := sha256.Sum256([]byte(value))
	return sum[:]
}

// ServeLogin implements [Login].
func (l *LoginHook) ServeLogin(w http.ResponseWriter, r *http.Request, a *LoginAttempt) {
	if a.Path != "" {
		l.back(w, r, a)
		return
	}
	var secret [32]byte
	rand.Read(secret[:])
	value := base64.RawURLEncoding.EncodeToString(secret[:])
	state, err := json.Marshal(hookState{Challenge: hookHash(value)})
	if err == nil {
		err = a.Keep(r, state)
	}
	if err != nil {
		a.Fail(w, r, "temporarily_unavailable", err)
		return
	}
	h := w.Header()
	h["Location"] = []string{withQuery(l.URL, "login_challenge", a.Reference+"."+value)}
	h["Content-Length"] = []string{"0"}
	w.WriteHeader(http.StatusSeeOther)
}

// back takes the browser on with the answer of the application.
func (l *LoginHook) back(w http.ResponseWriter, r *http.Request, a *LoginAttempt) {
	var state hookState
	verifier := r.URL.Query()["login_verifier"]
	if len(a.State) == 0 || json.Unmarshal(a.State, &state) != nil || len(state.Verifier) == 0 || len(verifier) != 1 ||
		subtle.ConstantTimeCompare(state.Verifier, hookHash(verifier[0])) != 1 {
		a.Fail(w, r, "invalid_request", errors.New("authserver: login hook: expected the verifier of the answer to this browser's challenge, found another, or one that was used"))
		return
	}
	switch first, err := a.swap(nil); {
	case err != nil:
		a.Fail(w, r, "temporarily_unavailable", err)
	case !first:
		a.Fail(w, r, "invalid_request", errors.New("authserver: login hook: the verifier was used before"))
	case state.Answer == nil:
		a.Deny(w, r)
	default:
		a.Done(w, r, *state.Answer)
	}
}

// The refusals of the endpoint.
var (
	refuseLoginChallenge = &refusal{http.StatusBadRequest, "invalid_grant", "the login challenge is unknown, was answered, or has expired", false}
	refuseLoginAnswer    = &refusal{http.StatusBadRequest, "invalid_request", "the answer to the login challenge is malformed", false}
)

// hookChallenge is what the application learns of a challenge.
type hookChallenge struct {
	ClientID   string   `json:"client_id"`
	ClientName string   `json:"client_name,omitempty"`
	ClientURI  string   `json:"client_uri,omitempty"`
	Scope      string   `json:"scope,omitempty"`
	Resources  []string `json:"resource,omitempty"`
	Hint       string   `json:"login_hint,omitempty"`
	ACR        []string `json:"acr_values,omitempty"`
	Locales    []string `json:"ui_locales,omitempty"`
	Prompt     []string `json:"prompt,omitempty"`
	MaxAge     *int64   `json:"max_age,omitempty"`
	// Subject, if set, is who it has to be.
	Subject   string `json:"subject,omitempty"`
	ExpiresIn int    `json:"expires_in"`
}

// loginChallenge is the endpoint for the login application: it shows a challenge, or takes
// the answer if there is the parameter decision, "accept" or "deny".
func (x *exchange) loginChallenge() *refusal {
	hook := x.s.cfg.Authorization.Login.(*LoginHook) // the route is there only with one
	c, refused := x.authenticate(false)
	if refused != nil {
		return refused
	}
	if c.ID != hook.ClientID || c.method != clientauth.TLSClientAuth && c.method != clientauth.SelfSignedTLSClientAuth {
		return x.fail(refuseCaller, decision.Check{Name: decision.CheckLogin, Reason: decision.CallerNotAllowed,
			Expected: "the login application " + hook.ClientID + ", with its certificate", Found: c.method})
	}
	reference, secret, _ := strings.Cut(x.form.get("login_challenge"), ".")
	deny := func(found string) *refusal {
		return x.fail(refuseLoginChallenge, decision.Check{Name: decision.CheckLogin, Reason: decision.RequestUnknown, Expected: "a challenge that waits for its answer", Found: found})
	}
	fl, refused := x.readFlow(reference)
	if refused != nil {
		if refused.status >= 500 {
			return refused
		}
		return deny("no request, or one that has ended")
	}
	waiting := fl.progress.State
	var state hookState
	switch {
	case len(waiting) == 0 || json.Unmarshal(waiting, &state) != nil || subtle.ConstantTimeCompare(state.Challenge, hookHash(secret)) != 1:
		return deny("another challenge, or none")
	case len(state.Verifier) > 0:
		return deny("a challenge that was answered")
	}
	verdict := x.form.get("decision")
	if verdict == "" {
		x.d.Pass(decision.CheckLogin, "", "shown")
		x.d.Allow()
		return x.writeJSON(hookChallenge{
			ClientID: fl.client.ID, ClientName: fl.client.Name, ClientURI: fl.client.URI, Scope: fl.Scope, Resources: fl.Resources,
			Hint: fl.LoginHint, ACR: fl.ACR, Locales: fl.Locales, Prompt: fl.Prompt, MaxAge: fl.MaxAge, Subject: fl.HintSubject,
			ExpiresIn: int(fl.request.Expires.Sub(x.now) / time.Second),
		})
	}
	switch verdict {
	case "deny":
	case "accept":
		answer, expected := x.hookAnswer()
		if expected != "" {
			return x.fail(refuseLoginAnswer, decision.Check{Name: decision.CheckLogin, Reason: decision.LoginUnusable, Expected: expected})
		}
		state.Answer = answer
	default:
		return x.fail(refuseLoginAnswer, decision.Check{Name: decision.CheckLogin, Reason: decision.RequestMalformed, Expected: "decision: accept or deny", Found: clip(verdict, 32)})
	}
	verifier := random()
	state.Verifier = hookHash(verifier)
	data, err := json.Marshal(state)
	if err != nil {
		return x.unavailable(decision.CheckLogin, err)
	}
	switch first, err := x.swapState(fl, waiting, data); {
	case err != nil:
		return x.lostRequest(err)
	case !first:
		return deny("a challenge that was answered")
	}
	x.d.Pass(decision.CheckLogin, "", verdict)
	x.d.Allow()
	return x.writeJSON(struct {
		RedirectTo string `json:"redirect_to"`
	}{join(x.s.cfg.Issuer, "/login/callback") + "?flow=" + fl.reference + "&login_verifier=" + verifier})
}

// hookAnswer reads who the person is, or says what was expected.
func (x *exchange) hookAnswer() (answer *Authenticated, expected string) {
	a := &Authenticated{Subject: x.form.get("subject"), ACR: x.form.get("acr"), AMR: strings.Fields(x.form.get("amr")), Time: x.now}
	if a.Subject == "" || len(a.Subject) > maxSubject || !printable(a.Subject) {
		return nil, "subject: 1 to 255 printable ASCII characters"
	}
	if text := x.form.get("auth_time"); text != "" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 || n > x.now.Add(assertionSkew).Unix() {
			return nil, "auth_time: seconds since 1970, not in the future"
		}
		a.Time = time.Unix(n, 0)
	}
	if text := x.form.get("claims"); text != "" {
		members, err := objectMembers([]byte(text))
		if err != nil || len(text) > maxClaims {
			return nil, fmt.Sprintf("claims: a JSON object of at most %d bytes, with each member once", maxClaims)
		}
		a.Claims = make(map[string]json.RawMessage, len(members))
		for _, m := range members {
			a.Claims[m.name] = m.value
		}
	}
	return a, ""
}

// writeJSON answers with a document of ours.
func (x *exchange) writeJSON(v any) *refusal {
	body, err := json.Marshal(v)
	if err != nil {
		return x.fail(refuseServer, decision.Check{Name: decision.CheckLogin, Reason: decision.LookupFailed, Found: err.Error()})
	}
	x.write(http.StatusOK, body)
	return nil
}

// swapState replaces what the login keeps, if it is still old: of concurrent calls one wins.
func (x *exchange) swapState(fl *flow, old, state json.RawMessage) (first bool, err error) {
	err = x.updateProgress(fl, func(p *progress) {
		if first = bytes.Equal(p.State, old); first {
			p.State = state
		}
	})
	return first && err == nil, err
}
