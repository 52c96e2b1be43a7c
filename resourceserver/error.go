package resourceserver

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/certbound/certbound/decision"
)

// Error codes of RFC 6750, Section 3.1.
const (
	codeInvalidRequest    = "invalid_request"
	codeInvalidToken      = "invalid_token"
	codeInsufficientScope = "insufficient_scope"
)

// An Error is a refused request. Everything but Decision and Err may go to the caller.
type Error struct {
	// Status is the HTTP status: 400, 401, 403, or 503 if the issuer could not be asked.
	Status int
	// Code is the error code of RFC 6750, Section 3.1. It is empty for a request without
	// a token, and with status 503.
	Code string
	// Description is a fixed text that tells nothing about the token.
	Description string
	// Scope is what is needed, with insufficient_scope.
	Scope string
	// MetadataURL goes into the challenge as resource_metadata, if set.
	MetadataURL string
	// Decision has the reason, for the operator.
	Decision *decision.Decision
	// Err is the cause, if there is one beside the decision.
	Err error
	// RequestID leads from the answer to the log record of the refusal. It goes into
	// [RequestIDHeader].
	RequestID string
	// Token is what was sent, if the issuer has issued it, whatever is wrong with it now or
	// here. It is for the operator. RevocationAsOf is as in [Access].
	Token          *Token
	RevocationAsOf time.Time

	reason decision.Reason
}

// Error returns the reason. It holds no part of the token.
func (e *Error) Error() string {
	r := e.Reason()
	return "resourceserver: refused: " + string(r) + ": " + r.Summary()
}

func (e *Error) Unwrap() error { return e.Err }

// Reason says why, from the closed set of the package decision. It is that of the
// Decision for an Error that a front has made.
func (e *Error) Reason() decision.Reason {
	if e.reason == "" && e.Decision != nil {
		return e.Decision.Reason()
	}
	return e.reason
}

// Texts for the caller. Whoever stole a token learns only that it does not work here.
const (
	textBinding  = "certificate-bound token without matching client certificate"
	textNotBound = "a certificate-bound token is required"
	textInvalid  = "the access token is not valid"
	textExpired  = "the access token has expired"
)

// wire is the one place where a reason becomes an answer.
func wire(r decision.Reason) (status int, code, description string) {
	switch r {
	case decision.NoToken:
		return http.StatusUnauthorized, "", ""
	case decision.TokenTwice:
		return http.StatusBadRequest, codeInvalidRequest, "send the access token once, in the Authorization header"
	case decision.RequestMalformed:
		return http.StatusBadRequest, codeInvalidRequest, "the Authorization header is not valid"
	case decision.SourceMalformed, decision.SourceRepeated, decision.SourceLookAlike, decision.SourceHopByHop,
		decision.SourceTooLarge, decision.SourceHalfDecoded, decision.SourceTooFewHops, decision.SourceUnverified,
		decision.SourceContradiction, decision.SourceProxyOwn, decision.SourceUntrusted:
		return http.StatusBadRequest, codeInvalidRequest, "the forwarded client certificate cannot be read"
	case decision.IssuerUnavailable:
		return http.StatusServiceUnavailable, "", "the access token cannot be checked at the moment"
	case decision.ScopeInsufficient:
		return http.StatusForbidden, codeInsufficientScope, "the access token lacks a scope"
	case decision.NotBound:
		return http.StatusUnauthorized, codeInvalidToken, textNotBound
	case decision.BindingMismatch, decision.NoCertificate, decision.NotEnough,
		decision.HookRefused, decision.HookFailed:
		return http.StatusUnauthorized, codeInvalidToken, textBinding
	case decision.TokenExpired:
		return http.StatusUnauthorized, codeInvalidToken, textExpired
	default:
		return http.StatusUnauthorized, codeInvalidToken, textInvalid
	}
}

// fail records a failed check and returns the error that belongs to it.
func fail(d *decision.Decision, c decision.Check, cause error) *Error {
	d.Fail(c)
	e := &Error{reason: c.Reason, Err: cause}
	e.Status, e.Code, e.Description = wire(c.Reason)
	return e
}

// Challenge returns the value of WWW-Authenticate (RFC 6750, Section 3), or "" with
// status 503, which is no matter of credentials.
func (e *Error) Challenge() string {
	if e.Status == http.StatusServiceUnavailable {
		return ""
	}
	var b strings.Builder
	b.WriteString("Bearer")
	sep := " "
	add := func(name, value string) {
		if value != "" {
			b.WriteString(sep + name + `="` + value + `"`)
			sep = ", "
		}
	}
	add("error", e.Code)
	add("error_description", e.Description)
	add("scope", e.Scope)
	add("resource_metadata", e.MetadataURL)
	return b.String()
}

// RequestIDHeader names the header field of a refusal that leads to its log record.
const RequestIDHeader = "Certbound-Request-Id"

// WriteError answers a refused request: status, challenge, request id, and a small JSON
// body if there is an error code. It is what Config.ErrorHandler replaces.
func WriteError(w http.ResponseWriter, _ *http.Request, e *Error) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	if e.RequestID != "" {
		h.Set(RequestIDHeader, e.RequestID)
	}
	if challenge := e.Challenge(); challenge != "" {
		h.Set("WWW-Authenticate", challenge)
	} else {
		h.Set("Retry-After", "1")
	}
	if e.Code == "" {
		h.Set("Content-Length", "0")
		w.WriteHeader(e.Status)
		return
	}
	body, _ := json.Marshal(struct { // two strings cannot fail
		Error       string `json:"error"`
		Description string `json:"error_description,omitempty"`
	}{e.Code, e.Description})
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(e.Status)
	w.Write(body)
}
