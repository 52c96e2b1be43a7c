package authserver

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/certbound/certbound/authserver/pages"
)

// Authorization holds the settings of the flows with a person in them: the authorization
// endpoint (code only, with PKCE S256), pushed requests (RFC 9126), refresh tokens,
// OpenID Connect. The zero value is off, and then the server has machine clients only.
type Authorization struct {
	Enabled bool
	// Login finds out who the person is. Required.
	Login Login
	// Pages are what people see. If nil, the built-in ones.
	Pages *pages.Set

	// RequirePAR refuses requests that were not pushed, of all clients.
	RequirePAR bool
	// RequireSignedRequests refuses requests without a signed request object (RFC
	// 9101), of all clients.
	RequireSignedRequests bool

	// RequestLifetime is for a request_uri until its first use. If zero, 90 seconds;
	// less than 600.
	RequestLifetime time.Duration
	// FlowLifetime is how long a person has to log in and to decide. If zero, 30 minutes.
	FlowLifetime time.Duration
	// CodeLifetime is for a code. If zero, 60 seconds, which is also the most.
	CodeLifetime time.Duration

	// SessionIdle ends a session that was not used for so long, SessionLifetime any. If
	// zero, 1 hour and 12 hours.
	SessionIdle, SessionLifetime time.Duration
	// ConsentLifetime is how long a consent is remembered. If zero, 90 days. If
	// negative, people are asked each time.
	ConsentLifetime time.Duration

	// Refresh holds the policy of refresh tokens.
	Refresh RefreshPolicy

	// ScopeTexts says in people's words what a scope allows, for the consent page.
	ScopeTexts map[string]string
	// ACRValues are the authentication context classes that Login can reach, for the
	// metadata. A request for others is answered with what was reached.
	ACRValues []string
}

func (a *Authorization) setDefaults() {
	if !a.Enabled {
		return
	}
	def(&a.RequestLifetime, 90*time.Second)
	def(&a.FlowLifetime, 30*time.Minute)
	def(&a.CodeLifetime, maxCodeLifetime)
	def(&a.SessionIdle, time.Hour)
	def(&a.SessionLifetime, 12*time.Hour)
	def(&a.ConsentLifetime, 90*24*time.Hour)
	if a.Pages == nil {
		a.Pages = pages.Default()
	}
}

// Bounds of the lifetimes (FAPI 2.0 Security Profile, Section 5.3.2).
const (
	maxRequestLifetime = 600*time.Second - time.Second
	maxCodeLifetime    = 60 * time.Second
	maxFlowLifetime    = 24 * time.Hour
)

func (a *Authorization) check(bad func(setting, format string, args ...any)) {
	if d := a.RequestLifetime; d < time.Second || d > maxRequestLifetime {
		bad("Authorization.RequestLifetime", "expected 1s to less than 600s, found %v", d)
	}
	if d := a.FlowLifetime; d < time.Second || d > maxFlowLifetime {
		bad("Authorization.FlowLifetime", "expected 1s to %v, found %v", maxFlowLifetime, d)
	}
	if d := a.CodeLifetime; d < time.Second || d > maxCodeLifetime {
		bad("Authorization.CodeLifetime", "expected 1s to 60s, found %v", d)
	}
	if a.SessionIdle < time.Second || a.SessionLifetime < a.SessionIdle {
		bad("Authorization.SessionIdle", "expected 1s to %v (SessionLifetime), found %v", a.SessionLifetime, a.SessionIdle)
	}
}

// A RefreshPolicy says how refresh tokens live. Clients get one if the grant type
// refresh_token is among theirs.
type RefreshPolicy struct {
	// Idle ends a token that was not used for so long, Lifetime a grant. If zero, 30
	// days and 365 days.
	Idle, Lifetime time.Duration
	// Rotate gives a new token at each use (RFC 9700, Section 4.14) to public clients whose
	// tokens are bound to no certificate. Without it they get no refresh tokens at all
	// (Section 2.2.2). RotateAll gives a new one to all clients, but for those of the
	// profile fapi2 (FAPI 2.0, Section 5.3.2.1).
	Rotate, RotateAll bool
	// Grace is how long after its first use a rotated token still yields a further
	// successor, for clients that lost the answer. If zero, 30 seconds. If negative,
	// none.
	Grace time.Duration
	// PinSecretClients binds the refresh tokens of clients with a client_secret to the
	// certificate as well, if their access tokens are bound. Those of public clients
	// always are (RFC 8705, Section 4), and those of clients that authenticate with a
	// certificate never (Section 7.1).
	PinSecretClients bool
}

// A Login finds out who the person at a browser is. Implementations are safe for
// concurrent use. The server has bound the request to the browser, and checked the CSRF
// token of each POST, before Login sees it.
type Login interface {
	// ServeLogin is called for GET and POST below the path /login of the issuer (and
	// never on the mutual-TLS listener). It shows a page, redirects, or ends with
	// one of the functions of the attempt, which then write the answer.
	ServeLogin(w http.ResponseWriter, r *http.Request, a *LoginAttempt)
}

// A LoginAttempt is what a login has to know of the request, and the ways out of it.
type LoginAttempt struct {
	Client *Client
	// Page is what a page shows of the client, with where the browser goes afterwards.
	Page pages.Client
	// Reference is the value that the browser carries: the query parameter "flow" of
	// the URLs of this attempt, or what stands before the first dot of the parameter
	// "state", for the answer of an upstream server to /login/callback. It is no secret to the browser and worth nothing
	// without its cookie.
	Reference string
	// Action is the URL, without host, that the login page posts to and that leads back
	// here. Base is the issuer.
	Action, Base string
	// Path is what follows /login in the URL of this request: "" or "/callback".
	Path string
	// CSRF is the value of the hidden field "csrf" that each POST needs.
	CSRF string
	// Hint, ACR, Locales and Prompt are login_hint, acr_values, ui_locales and prompt of
	// the request.
	Hint    string
	ACR     []string
	Locales []string
	Prompt  []string
	// Subject, if set, is who has to log in again (id_token_hint, or an expired max_age).
	Subject string
	// MaxAge, if set, is how old the login may be, in seconds. A login that stands for one
	// that was made elsewhere has to say when that was.
	MaxAge *int64
	Pages  *pages.Set
	// State is what the login keeps between its requests, at most 4 KiB. Keep stores it,
	// bound to request and browser; State then has it in all later requests.
	State json.RawMessage
	Keep  func(r *http.Request, state json.RawMessage) error
	// swap replaces State, and reports whether nobody else did so before.
	swap func(state json.RawMessage) (first bool, err error)
	// Done continues as that person. The session gets a new cookie.
	Done func(w http.ResponseWriter, r *http.Request, p Authenticated)
	// Deny ends the request with access_denied, and Fail with an error page or, where
	// the client may know, an error of OpenID Connect such as "login_required".
	Deny func(w http.ResponseWriter, r *http.Request)
	Fail func(w http.ResponseWriter, r *http.Request, code string, cause error)
}

// Authenticated is a person who has logged in.
type Authenticated struct {
	// Subject is who: 1 to 255 ASCII characters, never given to anybody else, and not
	// the id of a client (RFC 9068, Section 5).
	Subject string
	Time    time.Time // when; if zero, now
	ACR     string
	AMR     []string // RFC 8176
	// Claims, if not nil, replace what is known of the person.
	Claims map[string]json.RawMessage
}
