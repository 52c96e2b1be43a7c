package httpauth

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/certbound/certbound/decision"
)

// A Refusal is a request that was not authenticated. Status, Code and Description may
// be shown to anyone; Decision is for the operator.
type Refusal struct {
	// Decision has the reason.
	Decision *decision.Decision
	// Status is the HTTP status: 400 or 401 for invalid_client, 400 for
	// invalid_request, 413 for a form that is too large, 503 when a look-up
	// failed.
	Status int
	// Code is the error code (RFC 6749, Section 5.2).
	Code string
	// Description is the same for every reason that has the same Code.
	Description string

	middleware *Middleware
	next       http.Handler
}

// newRefusal is the one place where a reason becomes an answer. All that has to do with
// whether a client exists and what is registered for it is invalid_client.
func newRefusal(m *Middleware, next http.Handler, d *decision.Decision) *Refusal {
	f := &Refusal{Decision: d, middleware: m, next: next}
	switch d.Reason() {
	case decision.SourceMalformed, decision.SourceRepeated, decision.SourceLookAlike, decision.SourceHopByHop,
		decision.SourceTooLarge, decision.SourceHalfDecoded, decision.SourceTooFewHops, decision.SourceUnverified,
		decision.SourceContradiction, decision.SourceProxyOwn, decision.SourceUntrusted,
		decision.ClientIDMisplaced, decision.ParameterRepeated, decision.RequestMalformed, decision.SeveralMethods:
		f.Status, f.Code, f.Description = http.StatusBadRequest, "invalid_request", "the request is malformed"
	case decision.RequestTooLarge:
		f.Status, f.Code, f.Description = http.StatusRequestEntityTooLarge, "invalid_request", "the request is too large"
	case decision.LookupFailed:
		f.Status, f.Code, f.Description = http.StatusServiceUnavailable, "temporarily_unavailable", "try again later"
	default:
		f.Status, f.Code, f.Description = http.StatusBadRequest, "invalid_client", "client authentication failed"
		if m.cfg.Challenge != "" {
			f.Status = http.StatusUnauthorized
		}
	}
	return f
}

// Respond writes the answer, as detailed as [Config].Verbosity says.
func (f *Refusal) Respond(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store") // the answer depends on the certificate (RFC 9440, Section 2.4)
	h.Set("Pragma", "no-cache")
	if f.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", f.middleware.cfg.Challenge)
	}
	if f.middleware.cfg.Verbosity == Minimal {
		w.WriteHeader(f.Status)
		return
	}
	body := struct {
		Error       string             `json:"error"`
		Description string             `json:"error_description"`
		Decision    *decision.Decision `json:"decision,omitempty"`
	}{Error: f.Code, Description: f.Description}
	if f.middleware.cfg.Verbosity == Debug {
		body.Decision = f.Decision
	}
	h.Set("Content-Type", "application/json")
	w.WriteHeader(f.Status)
	json.NewEncoder(w).Encode(body) // an error here is a client that has left
}

// Continue records the failure in the context (see [RefusalFromContext]) and lets the
// next handler try another scheme. The body is readable from its start. The handler
// that ends the chain has to refuse by itself, with Respond for example; and a scheme
// after this one must not accept a client that is registered for mutual TLS.
func (f *Refusal) Continue(w http.ResponseWriter, r *http.Request) {
	f.next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), refusalKey{}, f)))
}
