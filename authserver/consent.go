package authserver

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"github.com/certbound/certbound/authserver/pages"
	"github.com/certbound/certbound/decision"
)

// judgeConsent returns the page to ask the person with, or nil if there is nothing to ask:
// everything was allowed before, or the client is the operator's own.
func (x *exchange) judgeConsent(fl *flow, sess *Session) (*pages.Consent, *refusal) {
	const rule = "OpenID Connect Core, Section 3.1.2.4"
	if fl.client.SkipConsent && !impersonable(fl) {
		x.d.Skip(decision.CheckConsent, rule, "the client is the operator's own")
		return nil, nil
	}
	before, err := x.rememberedConsent(fl, sess)
	if err != nil {
		return nil, x.unavailable(decision.CheckConsent, err)
	}
	if before == nil {
		before = &Consent{}
	} else if !fl.prompts("consent") && !impersonable(fl) && covers(before, &fl.authParams) {
		x.d.Pass(decision.CheckConsent, rule, "given before")
		return nil, nil
	}
	person, err := x.person(sess.Subject)
	if err != nil {
		return nil, x.unavailable(decision.CheckConsent, err)
	}
	page := &pages.Consent{
		Action: x.flowURL(fl, "/consent"), CSRF: csrfToken(x.browser(), fl.reference, consentPage(sess)), Client: pageClient(fl.client, fl.RedirectURI),
		Person: personName(sess.Subject, person), Switch: x.flowURL(fl, "/login"), Resources: fl.Resources,
	}
	for scope := range strings.FieldsSeq(fl.Scope) {
		page.Scopes = append(page.Scopes, pages.Scope{Name: scope, Text: cmp.Or(x.s.cfg.Authorization.ScopeTexts[scope], standardTexts[scope]), New: !hasScope(before.Scope, scope)})
	}
	return page, nil
}

// standardTexts say what the scopes of OpenID Connect Core, Sections 5.4 and 11, allow,
// unless the operator does.
var standardTexts = map[string]string{
	"openid":         "Know that it is you",
	"profile":        "See your name and profile",
	"email":          "See your e-mail address",
	"address":        "See your postal address",
	"phone":          "See your telephone number",
	"offline_access": "Keep its access while you are away",
}

// impersonable reports whether another program could take the answer to the client: a
// public client at an address that any app on the machine can have. People are then asked
// each time, since a remembered consent would answer to the other one (RFC 8252, Section 8.6).
func impersonable(fl *flow) bool {
	return fl.client.method == None && redirectScheme(fl.RedirectURI) != "https"
}

// consentPage names the consent page for the CSRF token. The session is part of it: if
// somebody else logs in meanwhile, in another window, they are asked again.
func consentPage(sess *Session) string { return "consent|" + sess.ID }

// covers reports whether a consent has all that is asked for.
func covers(c *Consent, p *authParams) bool {
	for scope := range strings.FieldsSeq(p.Scope) {
		if !hasScope(c.Scope, scope) {
			return false
		}
	}
	return !slices.ContainsFunc(p.Resources, func(r string) bool { return !slices.Contains(c.Resources, r) })
}

// union returns the scopes of both.
func union(a, b string) string {
	return strings.Join(unionOf(strings.Fields(a), strings.Fields(b)), " ")
}

func unionOf(a, b []string) []string {
	out := slices.Clone(a)
	for _, v := range b {
		if !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}

// personName is what a page calls the person.
func personName(subject string, p *Person) string {
	if p != nil {
		for _, claim := range []string{"name", "preferred_username", "email"} {
			var s string
			if json.Unmarshal(p.Claims[claim], &s) == nil && s != "" && len(s) <= 256 && shownText(s) {
				return s
			}
		}
	}
	return subject
}

// consent takes the person's decision. It counts only from the page that was shown to this
// person, in this browser, for this request.
func (x *exchange) consent() {
	query, err := x.query()
	if err != nil {
		x.refusePage(x.fail(refuseRequest, formCheck(err)))
		return
	}
	fl, refused := x.openFlow(query.get("flow"))
	if refused != nil {
		x.refusePage(refused)
		return
	}
	if x.r.Method != http.MethodPost { // the page is elsewhere
		x.seeOther(x.flowURL(fl, "/authorize"))
		return
	}
	if refused := x.readBrowser(); refused != nil {
		x.refusePage(refused)
		return
	}
	sess, refused := x.judgeLogin(fl)
	switch {
	case refused == refuseLogin: // the session has ended while the person was thinking
		x.d = decisionFor(fl)
		x.seeOther(x.flowURL(fl, "/authorize"))
		return
	case refused != nil:
		x.refusePage(refused)
		return
	}
	if refused := x.checkForm(fl.reference, consentPage(sess)); refused != nil {
		x.refusePage(refused)
		return
	}
	switch choice := x.form.get("decision"); choice {
	case "allow":
		x.d.Pass(decision.CheckConsent, "OpenID Connect Core, Section 3.1.2.4", "")
		x.issueCode(fl, sess, true)
	case "deny":
		x.refuseFlow(fl, x.fail(refuseDenied, decision.Check{Name: decision.CheckConsent, Rule: "RFC 6749, Section 4.1.2.1", Reason: decision.ConsentDenied}))
	default:
		x.refusePage(x.badParameter("decision", "allow or deny", choice))
	}
}
