package authserver

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/pki/subject"
)

// RequestIDHeader names the header field of every answer that leads to the log
// record of the request.
const RequestIDHeader = "Certbound-Request-Id"

// A handler serves the endpoints at one base URL.
type handler struct {
	s      *Server
	routes map[string]route
	// certificate reads the certificate of a request; nil on the conventional
	// listener, where there is none whatever the request says.
	certificate func(*http.Request) (*certsource.Presented, error)
	fields      []string // the header fields that certificate reads
	manages     string   // in front of the ids of clients, or empty
}

// A route is an endpoint. Exactly one of its functions is set.
type route struct {
	name string
	// post judges a request with a form body and writes the answer, or returns
	// what to refuse it with.
	post func(*exchange) *refusal
	get  func(*exchange)
	// any takes every method, and does all by itself.
	any func(*exchange)
}

// An exchange is one request and what is known of it so far.
type exchange struct {
	s         *Server
	h         *handler
	w         http.ResponseWriter
	r         *http.Request
	endpoint  string
	id        string
	now       time.Time
	form      form
	presented *certsource.Presented
	d         *decision.Decision
	foreign   bool // warnForeign has looked

	// Of the endpoints for browsers.
	browserValue string // the cookie that names the browser
	observed     bool
}

func (x *exchange) ctx() context.Context { return x.r.Context() }

func (s *Server) newHandler(base string, certificate func(*http.Request) (*certsource.Presented, error)) *handler {
	h := &handler{s: s, certificate: certificate, routes: make(map[string]route)}
	path := basePath(base)
	h.routes[path+"/token"] = route{name: "token", post: (*exchange).token}
	h.routes[path+"/introspect"] = route{name: "introspect", post: (*exchange).introspect}
	h.routes[path+"/revoke"] = route{name: "revoke", post: (*exchange).revoke}
	if s.grants != nil {
		h.routes[path+"/par"] = route{name: "par", post: (*exchange).par}
	}
	h.routes[path+feedPath] = route{name: "revocations", post: (*exchange).revocations}
	if s.grants != nil {
		h.routes[path+"/userinfo"] = route{name: "userinfo", any: (*exchange).userinfo}
	}
	if s.cfg.Registration.Enabled {
		h.routes[path+registerPath] = route{name: "register", any: (*exchange).register}
		h.manages = path + registerPath + "/"
	}
	h.routes[path+"/jwks"] = route{name: "jwks", get: (*exchange).jwks}
	// The metadata has one place, that of the issuer (RFC 8414, Section 3); it reads
	// the same on every listener.
	issuer := basePath(s.cfg.Issuer)
	for _, p := range []string{
		"/.well-known/oauth-authorization-server" + issuer,
		"/.well-known/openid-configuration" + issuer,
		issuer + "/.well-known/openid-configuration", // OpenID Connect Discovery, Section 4
	} {
		h.routes[p] = route{name: "metadata", get: (*exchange).metadata}
	}
	return h
}

func basePath(base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(u.Path, "/")
}

// Values of header fields, shared by all answers.
var (
	headerJSON     = []string{"application/json"}
	headerNoStore  = []string{"no-store"}
	headerNoCache  = []string{"no-cache"}
	headerNoSniff  = []string{"nosniff"}
	headerPost     = []string{http.MethodPost}
	headerGet      = []string{"GET, HEAD"}
	headerShortAge = []string{"public, max-age=300"}
)

// route returns the endpoint of a path.
func (h *handler) route(path string) (route, bool) {
	if r, ok := h.routes[path]; ok {
		return r, true
	}
	if h.manages != "" && strings.HasPrefix(path, h.manages) {
		return route{name: "manage", any: (*exchange).manage}, true
	}
	return route{}, false
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	route, ok := h.route(r.URL.Path)
	header := w.Header()
	header["X-Content-Type-Options"] = headerNoSniff
	if !ok {
		header["Cache-Control"] = headerNoStore
		http.NotFound(w, r)
		return
	}
	x := &exchange{s: h.s, h: h, w: w, r: r, endpoint: route.name, now: h.s.cfg.Now()}
	var random [8]byte
	rand.Read(random[:])
	x.id = hex.EncodeToString(random[:])
	header[RequestIDHeader] = []string{x.id}
	if route.any != nil {
		route.any(x)
		return
	}
	if route.get != nil {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			header["Allow"] = headerGet
			header["Cache-Control"] = headerNoStore
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		route.get(x)
		return
	}
	header["Cache-Control"] = headerNoStore
	header["Pragma"] = headerNoCache
	x.d = decision.New()
	x.d.Peer = certsource.Peer(r.Context())
	refused := x.read()
	if refused == nil {
		refused = route.post(x)
	}
	if refused != nil {
		x.refuse(refused)
	}
}

// read gets the form and the certificate of the request.
func (x *exchange) read() *refusal {
	if x.r.Method != http.MethodPost {
		x.w.Header()["Allow"] = headerPost
		return x.fail(refuseMethod, decision.Check{Name: decision.CheckGrant, Rule: "RFC 6749, Section 3.2",
			Reason: decision.RequestMalformed, Expected: "POST", Found: clip(x.r.Method, 16)})
	}
	f, err := readForm(x.w, x.r, x.s.cfg.MaxBody, x.s.cfg.MaxParameters)
	if fe, ok := errors.AsType[*formError](err); ok {
		refused, reason, expected := refuseRequest, decision.RequestMalformed, ""
		switch {
		case fe.tooLarge:
			reason, expected = decision.RequestTooLarge, fmt.Sprintf("at most %d bytes", x.s.cfg.MaxBody)
			told := *refuseTooLarge
			told.description += ", expected " + expected
			refused = &told
		case fe.repeated:
			reason = decision.ParameterRepeated
		}
		return x.fail(refused, decision.Check{Name: decision.CheckGrant, Rule: "RFC 6749, Section 3.2", Reason: reason, Expected: expected, Found: fe.fault})
	}
	x.form = f
	return x.readCertificate()
}

// readCertificate gets the certificate of the request, if there is one.
func (x *exchange) readCertificate() *refusal {
	if x.h.certificate == nil {
		return nil
	}
	p, err := x.h.certificate(x.r)
	if err == nil {
		x.presented = p
		x.d.Thumbprint = p.Thumbprint()
		if p != nil {
			x.d.Via = p.Via
		}
		return nil
	}
	if errors.Is(err, certsource.ErrNoCertificate) {
		return nil
	}
	c := certsource.Check(err)
	if errors.Is(err, errHookPEM) {
		c.Reason = decision.CertificateUnparsed
	}
	return x.fail(refuseCertificateField, c)
}

// A refusal is what the wire sees. The table below is the only place where causes
// become OAuth errors.
type refusal struct {
	status      int
	code        string
	description string // harmless, fixed, in the characters of RFC 6749, Section 5.2
	challenge   bool   // 401, and what belongs to it
}

// The refusals.
var (
	// One for every reason, so that an unknown client and a wrong certificate
	// cannot be told apart (RFC 6749, Section 5.2; RFC 8705, Section 2).
	refuseClient = &refusal{http.StatusUnauthorized, "invalid_client", "client authentication failed", true}

	refuseRequest          = &refusal{http.StatusBadRequest, "invalid_request", "the request is malformed", false}
	refuseMethod           = &refusal{http.StatusMethodNotAllowed, "invalid_request", "the request must use POST", false}
	refuseTooLarge         = &refusal{http.StatusRequestEntityTooLarge, "invalid_request", "the request is too large", false}
	refuseCertificateField = &refusal{http.StatusBadRequest, "invalid_request", "the client certificate cannot be read", false}
	refuseSeveral          = &refusal{http.StatusBadRequest, "invalid_request", "the request has more than one client credential", false}
	refuseNoGrant          = &refusal{http.StatusBadRequest, "invalid_request", "grant_type is missing", false}
	refuseNoToken          = &refusal{http.StatusBadRequest, "invalid_request", "token is missing or too long", false}
	refuseUnbound          = &refusal{http.StatusBadRequest, "invalid_request", "a certificate-bound token needs a client certificate on this connection", false}
	refuseExpiring         = &refusal{http.StatusBadRequest, "invalid_request", "the client certificate has expired", false}
	refuseRevoked          = &refusal{http.StatusBadRequest, "invalid_request", "the client certificate is revoked", false}
	refuseGrantType        = &refusal{http.StatusBadRequest, "unsupported_grant_type", "the grant type is not supported", false}
	refuseGrant            = &refusal{http.StatusBadRequest, "unauthorized_client", "the client may not use this grant type", false}
	refuseScope            = &refusal{http.StatusBadRequest, "invalid_scope", "the scope is malformed, unknown or more than the client may have", false}
	refuseTarget           = &refusal{http.StatusBadRequest, "invalid_target", "the resource is missing, malformed, unknown or not for this client", false}
	refuseOthersToken      = &refusal{http.StatusBadRequest, "invalid_grant", "the token was issued to another client", false}
	refuseInvalidGrant     = &refusal{http.StatusBadRequest, "invalid_grant", "the code or refresh token is unknown, expired, used, revoked, or belongs to another client, redirect URI, code_verifier or certificate", false}
	refuseCaller           = &refusal{http.StatusForbidden, "access_denied", "the client may not use this endpoint", false}
	refuseUnavailable      = &refusal{http.StatusServiceUnavailable, "temporarily_unavailable", "try again later", false}
	refuseServer           = &refusal{http.StatusInternalServerError, "server_error", "the request could not be processed", false}
)

// fail records the failed check and returns the refusal for it.
func (x *exchange) fail(r *refusal, c decision.Check) *refusal {
	x.d.Fail(c)
	return r
}

// unavailable records that the store, or something as necessary, failed.
func (x *exchange) unavailable(check string, err error) *refusal {
	return x.fail(refuseUnavailable, decision.Check{Name: check, Reason: decision.LookupFailed, Found: err.Error()})
}

// refuse writes the answer and the log record.
func (x *exchange) refuse(r *refusal) {
	status := r.status
	header := x.w.Header()
	if r.challenge {
		// 401 needs a challenge (RFC 9110, Section 15.5.2), and there is one only
		// for what travels in the Authorization field.
		switch {
		case x.s.basic || len(x.r.Header["Authorization"]) > 0:
			header["Www-Authenticate"] = x.s.challengeBasic
		case x.endpoint == "introspect" || x.endpoint == "revocations":
			header["Www-Authenticate"] = x.s.challengeBearer
		default:
			status = http.StatusBadRequest
		}
	}
	if status == http.StatusServiceUnavailable {
		header["Retry-After"] = []string{"1"}
	}
	x.logRefusal(status, r.code)
	x.write(status, []byte(`{"error":"`+r.code+`","error_description":"`+r.description+`"}`))
}

// logRefusal writes the log record of a refused request.
func (x *exchange) logRefusal(status int, code string) {
	x.warnForeign()
	if leaf := x.presented.Leaf(); leaf != nil && x.d.Subject == "" {
		x.d.Subject = subject.Of(leaf)
	}
	level := slog.LevelWarn
	if status >= 500 {
		level = slog.LevelError
	}
	x.s.cfg.Logger.LogAttrs(x.ctx(), level, "request refused", slog.String("request_id", x.id),
		slog.String("endpoint", x.endpoint), slog.Int("status", status), slog.String("error", code), slog.Any("decision", x.d))
}

// warnForeign notes certificate fields that nobody reads here: the usual cause of a
// certificate that seems to get lost, or of a forgery.
func (x *exchange) warnForeign() {
	if x.foreign {
		return
	}
	x.foreign = true
	for _, name := range certsource.Foreign(x.r, x.h.fields...) {
		x.d.Warnings = append(x.d.Warnings, decision.Check{Name: decision.CheckSource, Rule: "RFC 9440, Section 4", Reason: decision.SourceForeignHeader, Found: clip(name, 64)})
		if len(x.d.Warnings) >= 4 {
			return
		}
	}
}

// write writes the answer, after the observer has been told: who has the answer finds
// the decision in the metrics.
func (x *exchange) write(status int, body []byte) {
	if o := x.s.cfg.Observer; o != nil && x.d != nil {
		x.warnForeign()
		o(x.ctx(), x.d)
	}
	header := x.w.Header()
	if len(body) > 0 && header["Content-Type"] == nil {
		header["Content-Type"] = headerJSON
	}
	header["Content-Length"] = []string{strconv.Itoa(len(body))}
	x.w.WriteHeader(status)
	_, _ = x.w.Write(body) // the client has gone: nothing to do
}

// clip bounds what a stranger can put into a log.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}
