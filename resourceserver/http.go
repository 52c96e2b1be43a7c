package resourceserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
)

// maxFormPeek is how much of a form is searched for a second token.
const maxFormPeek = 64 << 10

// An Access is an accepted request. It must not be changed.
type Access struct {
	Token *Token
	// Presented is the certificate of the request, or nil.
	Presented *certsource.Presented
	Decision  *decision.Decision
	// RevocationAsOf is the moment of which it is known that the token was not revoked: when
	// the issuer was asked about it, or the revocation feed was read, the later of both. It
	// is zero if nobody asks.
	RevocationAsOf time.Time
}

type contextKey struct{}

// FromContext returns what [Verifier.Middleware] has accepted.
func FromContext(ctx context.Context) (*Access, bool) {
	a, ok := ctx.Value(contextKey{}).(*Access)
	return a, ok
}

// NewContext returns a context with an Access, for callers of [Verifier.VerifyRequest]
// and for tests of handlers.
func NewContext(ctx context.Context, a *Access) context.Context {
	return context.WithValue(ctx, contextKey{}, a)
}

// TokenFromContext returns the token that [Verifier.Middleware] has accepted.
func TokenFromContext(ctx context.Context) (*Token, bool) {
	if a, ok := FromContext(ctx); ok {
		return a.Token, true
	}
	return nil, false
}

// PresentedFromContext returns the certificate of a request that [Verifier.Middleware]
// has accepted, if it came with one.
func PresentedFromContext(ctx context.Context) (*certsource.Presented, bool) {
	if a, ok := FromContext(ctx); ok && a.Presented != nil {
		return a.Presented, true
	}
	return nil, false
}

// Middleware lets a request pass to a handler if its token is accepted and has all the
// scopes, and otherwise answers it. Answers are not to be stored by caches, since the
// certificate has a part in them (RFC 9440, Section 2.4); a handler may set another
// Cache-Control.
func (v *Verifier) Middleware(scopes ...string) func(http.Handler) http.Handler {
	for _, s := range scopes {
		if !isScope(s) {
			panic(fmt.Sprintf("resourceserver: Middleware: %q is not a scope (RFC 6749, Section 3.3)", s))
		}
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			access, err := v.VerifyRequest(r, scopes...)
			if err != nil {
				e, ok := errors.AsType[*Error](err)
				if !ok { // VerifyRequest returns no other
					e = &Error{Status: http.StatusUnauthorized, Code: codeInvalidToken, Err: err}
				}
				v.cfg.ErrorHandler(w, r, e)
				return
			}
			w.Header().Set("Cache-Control", "no-store")
			next.ServeHTTP(w, r.WithContext(NewContext(r.Context(), access)))
		})
	}
}

// VerifyRequest judges a request: the token of its Authorization header and the
// certificate that the source finds. The token in a form or in the query is not used
// (RFC 6750, Sections 2.2 and 2.3). The error is of type *[Error]; an answer can be made
// of it with [WriteError].
func (v *Verifier) VerifyRequest(r *http.Request, scopes ...string) (*Access, error) {
	p, err := v.cfg.Source.Certificate(r)
	return v.VerifyCall(r.Context(), Call{
		Authorization: r.Header["Authorization"], RawQuery: r.URL.RawQuery, Form: r,
		Presented: p, SourceError: err,
		Foreign: certsource.Foreign(r, v.sourceFields...), Scopes: scopes,
	})
}

// A Call is what [Verifier.VerifyCall] judges: a request in its parts, for those who have
// no [http.Request] that is the caller's own, such as a proxy's question about one.
type Call struct {
	// Authorization are the values of the Authorization field, one for each line.
	Authorization []string
	// RawQuery is searched for a second token.
	RawQuery string
	// Form, if set, is a request whose body is searched for a second token if it is a
	// form. The body stays readable.
	Form *http.Request
	// Presented and SourceError are what the source has returned. Nothing else of
	// the certificate counts: Config.Source is not asked.
	Presented   *certsource.Presented
	SourceError error
	// Foreign are names of certificate fields that nobody reads, for the log (see
	// [certsource.Foreign]).
	Foreign []string
	// Scopes are needed, all of them.
	Scopes []string
}

// VerifyCall judges a request as [Verifier.VerifyRequest] does. The error is of type
// *[Error].
func (v *Verifier) VerifyCall(ctx context.Context, call Call) (*Access, error) {
	d := decision.New()
	d.Peer = certsource.Peer(ctx)
	j, presented, err := v.judgeCall(ctx, d, call)
	if err != nil {
		if v.cfg.AdvertiseMetadata {
			err.MetadataURL = v.metadataURL
		}
		return nil, v.refuse(ctx, d, err)
	}
	v.allow(ctx, d)
	return &Access{j.token, presented, d, j.asOf}, nil
}

func (v *Verifier) judgeCall(ctx context.Context, d *decision.Decision, call Call) (judged, *certsource.Presented, *Error) {
	for _, name := range call.Foreign {
		d.Warnings = append(d.Warnings, decision.Check{Name: decision.CheckSource, Reason: decision.SourceForeignHeader, Found: name})
	}
	raw, err := credentials(d, call)
	if err != nil {
		return judged{}, nil, err
	}
	p := call.Presented
	if call.SourceError != nil {
		p = nil
		c := certsource.Check(call.SourceError)
		switch c.Reason {
		case decision.NoCertificate: // for the token to say whether that matters
		default:
			d.Via = v.cfg.Source.Name()
			return judged{}, nil, fail(d, c, call.SourceError)
		}
	}
	if d.Via = v.cfg.Source.Name(); p != nil {
		d.Pass(decision.CheckCertificate, "RFC 8705, Section 1.2", p.Kind().String())
	}
	j, err := v.judge(ctx, d, Request{Token: raw, Presented: p, Scopes: call.Scopes})
	return j, p, err
}

// credentials returns the token of the Authorization header.
func credentials(d *decision.Decision, call Call) (string, *Error) {
	c := decision.Check{Name: decision.CheckToken, Rule: "RFC 6750, Section 2"}
	values := call.Authorization
	if len(values) > 1 {
		c.Reason, c.Expected, c.Found = decision.TokenTwice, "one Authorization header", fmt.Sprint(len(values))
		return "", fail(d, c, nil)
	}
	scheme, raw := "", ""
	if len(values) == 1 {
		scheme, raw, _ = strings.Cut(strings.TrimLeft(values[0], " "), " ")
		raw = strings.Trim(raw, " ")
	}
	switch {
	case strings.EqualFold(scheme, "Bearer"):
	case strings.EqualFold(scheme, "DPoP"):
		// Whatever binds the token, there is no proof here that we could check
		// (RFC 9449, Section 7.2).
		c.Name, c.Rule, c.Reason = decision.CheckBinding, "RFC 9449, Section 7.2", decision.BindingUncheckable
		c.Expected, c.Found = "the scheme Bearer", "the scheme DPoP"
		return "", fail(d, c, nil)
	default: // none, or one that is no business of ours
		c.Reason, c.Expected, c.Found = decision.NoToken, "Authorization: Bearer", "none"
		return "", fail(d, c, nil)
	}
	if raw == "" {
		c.Reason, c.Expected, c.Found = decision.RequestMalformed, "a token after Bearer", "none"
		return "", fail(d, c, nil)
	}
	if place := secondToken(call); place != "" {
		c.Reason, c.Expected, c.Found = decision.TokenTwice, "the Authorization header only", "access_token in the "+place+" too"
		return "", fail(d, c, nil)
	}
	return raw, nil
}

// secondToken says where else the request has a token (RFC 6750, Section 2). The body
// stays readable.
func secondToken(call Call) string {
	const name = "access_token"
	if q := call.RawQuery; q != "" && hasParameter(q, name) {
		return "query"
	}
	r := call.Form
	if r == nil || r.Body == nil || r.Body == http.NoBody || len(r.Header["Content-Type"]) == 0 {
		return ""
	}
	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || mediaType != "application/x-www-form-urlencoded" {
		return ""
	}
	head, err := io.ReadAll(io.LimitReader(r.Body, maxFormPeek))
	rest := io.Reader(r.Body)
	if err != nil {
		rest = failingReader{err} // the handler meets the same error, in its place
	}
	r.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(head), rest), r.Body}
	if hasParameter(string(head), name) {
		return "body"
	}
	return ""
}

type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }

// hasParameter looks for a parameter in form encoding, also in one that does not parse
// as a whole.
func hasParameter(form, name string) bool {
	for pair := range strings.FieldsFuncSeq(form, func(c rune) bool { return c == '&' || c == ';' }) {
		key, _, _ := strings.Cut(pair, "=")
		if key == name {
			return true
		}
		if strings.ContainsAny(key, "%+") {
			if key, err := url.QueryUnescape(key); err == nil && key == name {
				return true
			}
		}
	}
	return false
}
