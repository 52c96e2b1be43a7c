package authserver

import (
	"net/http"
	"net/url"
	"slices"

	"github.com/certbound/certbound/authserver/pages"
	"github.com/certbound/certbound/decision"
)

// A logoutRequest is a request of a client that the person be logged out (OpenID Connect
// RP-Initiated Logout, Section 2).
type logoutRequest struct {
	hint   *idClaims
	client *registered // nil: nobody says which
	back   string      // where to go afterwards, with state; it is registered
	query  string      // to make the same request again
}

// logout ends the session of the browser: at once, if the client proves with an ID token
// that it has logged this person in, and otherwise after a question, since any site can
// send a browser here.
func (x *exchange) logout() {
	query, err := x.query()
	if err != nil {
		x.refusePage(x.fail(refuseRequest, formCheck(err)))
		return
	}
	posted := false
	f := query
	if x.r.Method == http.MethodPost {
		if refused := x.readBrowser(); refused != nil {
			x.refusePage(refused)
			return
		}
		if posted = x.form.get("csrf") != ""; !posted {
			f = x.form
		}
	}
	q, refused := x.readLogout(f)
	if refused != nil {
		x.refusePage(refused)
		return
	}
	if x.r.Method == http.MethodPost && !posted {
		// The form of another site comes without cookies.
		x.seeOther(x.logoutURL(q))
		return
	}
	sess, err := x.session()
	if err != nil {
		x.refusePage(x.unavailable(decision.CheckLogin, err))
		return
	}
	switch {
	case sess == nil:
		x.loggedOut(q, q.hint != nil && !x.stranger(q.client))
	case posted:
		if refused := x.checkForm(sess.ID, "logout"); refused != nil {
			x.refusePage(refused)
			return
		}
		if x.form.get("decision") == "stay" {
			x.rendered(x.s.cfg.Authorization.Pages.Error(x.w, http.StatusOK, pages.Error{
				Title: "You are still logged in", Text: "Nothing was changed.", Advice: "You can close this page.", RequestID: x.id}))
			return
		}
		x.endSession(q, sess)
	case q.hint != nil && q.hint.Subject == sess.Subject && (q.hint.SessionID == "" || q.hint.SessionID == sess.ID):
		x.endSession(q, sess)
	default:
		person, err := x.person(sess.Subject)
		if err != nil {
			x.refusePage(x.unavailable(decision.CheckLogin, err))
			return
		}
		x.rendered(x.s.cfg.Authorization.Pages.Logout(x.w, http.StatusOK, pages.Logout{
			Action: x.logoutURL(q), CSRF: csrfToken(x.browser(), sess.ID, "logout"), Person: personName(sess.Subject, person), Back: q.back,
		}))
	}
}

// readLogout checks a request. A URI that is not registered for the client that is
// named, by the hint or by client_id, is a fault, and nobody is sent there.
func (x *exchange) readLogout(f form) (q logoutRequest, refused *refusal) {
	const rule = "OpenID Connect RP-Initiated Logout, Section 2"
	id := f.get("client_id")
	if hint := f.get("id_token_hint"); hint != "" {
		claims, reason, err := x.s.readIDToken(x.ctx(), hint)
		switch {
		case err != nil:
			return q, x.unavailable(decision.CheckLogin, err)
		case claims != nil && (id == "" || id == claims.Audience[0]):
			q.hint, id = claims, claims.Audience[0]
		case claims != nil:
			return q, x.badParameter("client_id", "the client of id_token_hint", id)
		default:
			// One that is too old to be verified is none: the person is asked.
			x.d.Skip(decision.CheckLogin, rule, "id_token_hint: "+string(reason))
		}
	}
	v := url.Values{}
	if id != "" {
		if q.client, refused = x.browserClient(id); refused != nil {
			return q, refused
		}
		v.Set("client_id", id)
		if q.hint != nil {
			v.Set("id_token_hint", f.get("id_token_hint"))
		}
	}
	uri, state := f.get("post_logout_redirect_uri"), f.get("state")
	if len(state) > maxState || !printable(state) {
		return q, x.badParameter("state", "at most 2048 printable ASCII characters", "another")
	}
	if uri != "" {
		if q.client == nil || !slices.Contains(q.client.PostLogoutRedirectURIs, uri) || !matchRedirect([]string{uri}, uri) {
			return q, x.fail(refuseLogoutURI, decision.Check{Name: decision.CheckRequest, Rule: rule, Reason: decision.RedirectMismatch,
				Expected: "one of post_logout_redirect_uris of the client that id_token_hint or client_id names", Found: clip(uri, 256)})
		}
		v.Set("post_logout_redirect_uri", uri)
		q.back = uri
		if state != "" {
			v.Set("state", state)
			q.back = withQuery(uri, "state", state)
		}
	}
	q.query = v.Encode()
	return q, nil
}

var refuseLogoutURI = &refusal{http.StatusBadRequest, "invalid_request", "post_logout_redirect_uri is not registered for this client", false}

func (x *exchange) logoutURL(q logoutRequest) string {
	to := basePath(x.s.cfg.Issuer) + "/logout"
	if q.query != "" {
		to += "?" + q.query
	}
	return to
}

func (x *exchange) endSession(q logoutRequest, sess *Session) {
	if err := x.s.grants.DeleteSession(x.ctx(), sess.Hash); err != nil {
		x.refusePage(x.unavailable(decision.CheckLogin, err))
		return
	}
	setCookie(x.w, sessionCookie, "")
	x.loggedOut(q, true)
}

// loggedOut goes back to the client, or says that it is done. Without a word of the
// person or a hint of the client nobody is sent anywhere: a link has to be enough.
func (x *exchange) loggedOut(q logoutRequest, redirect bool) {
	if redirect && q.back != "" {
		x.seeOther(q.back)
		return
	}
	x.rendered(x.s.cfg.Authorization.Pages.Logout(x.w, http.StatusOK, pages.Logout{Back: q.back}))
}
