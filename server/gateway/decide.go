package gateway

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/resourceserver"
)

// Config holds the settings of a [Decider].
type Config struct {
	// Routes are what passes; without a route a request is refused. Required.
	Routes []*Route
	// Source is where the front finds certificates; the Verifier of each route has to
	// be made with it. Required.
	Source certsource.Source
	// Strip are further header fields that a client may not send, such as those that
	// an upstream believes.
	Strip []string
	// Observer is told of each decision once.
	Observer decision.Observer
	// Judged is told of each verdict after Observer, with the context of the request, such
	// as for its trace. It must not block or change anything. If nil, nobody is.
	Judged func(ctx context.Context, method string, v *Verdict)
	// TrustGeneration, if set, returns a number that grows when trust anchors change, for
	// records.
	TrustGeneration func() uint64
	// Now returns the current time. If nil, time.Now.
	Now func() time.Time
}

// A Decider judges requests. It is safe for concurrent use.
type Decider struct {
	cfg      Config
	router   *router
	identity []string        // canonical names of the fields that any route sets
	stripped map[string]bool // folded names
	fields   []string        // that the source reads
	metadata map[string]http.Handler
	rules    map[*Route]string // for records
}

// NewDecider reports every wrong setting at once.
func NewDecider(cfg Config) (*Decider, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	d := &Decider{cfg: cfg, stripped: map[string]bool{}, metadata: map[string]http.Handler{}, rules: map[*Route]string{}}
	var faults []error
	if len(cfg.Routes) == 0 {
		faults = append(faults, errors.New("gateway: Routes: none, so that every request would be refused"))
	}
	if cfg.Source == nil {
		faults = append(faults, errors.New("gateway: Source: not set"))
		cfg.Source = certsource.None{}
	}
	for i, r := range cfg.Routes {
		d.rules[r] = r.rule()
		if r.Name == "" {
			faults = append(faults, fmt.Errorf("gateway: route %d: Name: not set", i))
		}
		if (r.Verifier == nil) != r.Anonymous {
			faults = append(faults, fmt.Errorf("gateway: route %d (%s): expected either a Verifier or Anonymous", i, r.Name))
		}
		if r.Verifier != nil {
			d.metadata[r.Verifier.MetadataURL()] = r.Verifier.MetadataHandler()
		}
		for _, name := range r.Identity.Fields() {
			if !slices.Contains(d.identity, name) {
				d.identity = append(d.identity, name)
			}
		}
	}
	slices.Sort(d.identity)
	d.fields = certsource.Describe(cfg.Source).Fields
	for _, list := range [][]string{d.identity, d.fields, cfg.Strip} {
		for _, name := range list {
			d.stripped[fold(name)] = true
		}
	}
	var err error
	if d.router, err = newRouter(cfg.Routes); err != nil {
		faults = append(faults, err)
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return d, nil
}

// A Request is what a front knows of a request. Method, host and path are those that the
// upstream is going to see, or the judgement is about another request.
type Request struct {
	Method string
	Host   string
	// Path is escaped, as it was sent, without the query.
	Path     string
	RawQuery string
	// Authorization are the values of the field, one for each line.
	Authorization []string
	// Presented and SourceError are what Config.Source has returned.
	Presented   *certsource.Presented
	SourceError error
	// Foreign are names of certificate fields that are not read, for the log.
	Foreign []string
	// Form, if set, is the request itself: its body is searched for a second token if
	// it is a form, and stays readable.
	Form *http.Request
}

// RequestOf returns the request as [Decider.Decide] wants it, for a front to which the
// client itself has come.
func (d *Decider) RequestOf(r *http.Request) Request {
	path, _, _ := strings.Cut(r.RequestURI, "?")
	if r.RequestURI == "" || r.RequestURI[0] != '/' {
		path = r.URL.EscapedPath() // in absolute form
	}
	p, err := d.cfg.Source.Certificate(r)
	return Request{
		Method: r.Method, Host: r.Host, Path: path, RawQuery: r.URL.RawQuery,
		Authorization: r.Header["Authorization"], Presented: p, SourceError: err,
		Foreign: certsource.Foreign(r, d.fields...), Form: r,
	}
}

// A Verdict is a judgement. It must not be changed.
type Verdict struct {
	// ID leads from the answer to the record. It is in [resourceserver.RequestIDHeader] of
	// every refusal.
	ID      string
	Allowed bool
	// Route is nil if there is none for the request.
	Route *Route
	// Path is the normal path (see [NormalPath]): the only one to send upstream.
	Path string
	// Token is that of an allowed request, or nil on an anonymous route.
	Token *resourceserver.Token
	// Refused is the token of a refused request, if the issuer has issued it: for records.
	Refused *resourceserver.Token
	// Presented is the certificate of the request, or nil.
	Presented *certsource.Presented
	// Decision is never nil.
	Decision *decision.Decision
	// RevocationAsOf is the moment of which it is known that the token was not revoked, and
	// TrustGeneration the number of the trust anchors. They are zero if nobody knows.
	RevocationAsOf  time.Time
	TrustGeneration uint64
	// Status, Header and Body answer a refused request. Fronts that know other
	// answers than HTTP's make them of these.
	Status int
	Header http.Header
	Body   []byte

	decider *Decider
}

// Decide judges a request and tells the observer. Certificates and tokens are judged
// anew each time. The peer is that of ctx (see [certsource.ConnContext]).
func (d *Decider) Decide(ctx context.Context, r Request) *Verdict {
	v := d.judge(ctx, r)
	d.finish(ctx, r, v)
	return v
}

// finish numbers a verdict and tells whoever wants to know.
func (d *Decider) finish(ctx context.Context, r Request, v *Verdict) {
	var id [8]byte
	rand.Read(id[:]) // never fails
	v.ID = hex.EncodeToString(id[:])
	if !v.Allowed {
		v.Header[resourceserver.RequestIDHeader] = []string{v.ID}
	}
	if d.cfg.Observer != nil {
		d.cfg.Observer(ctx, v.Decision)
	}
	if d.cfg.Judged != nil {
		d.cfg.Judged(ctx, r.Method, v)
	}
}

// Still judges again a request that was allowed and is still going on, such as a
// WebSocket, and returns why it would be refused now, or nil. Nobody is told.
func (d *Decider) Still(ctx context.Context, r Request) error {
	r.Form = nil // read long ago
	if v := d.judge(ctx, r); !v.Allowed {
		return &EndedError{Reason: v.Decision.Reason()}
	}
	return nil
}

// An EndedError ends a stream that would not be allowed any more.
type EndedError struct{ Reason decision.Reason }

func (e *EndedError) Error() string {
	return "gateway: the stream was ended: " + string(e.Reason) + ": " + e.Reason.Summary()
}

func (d *Decider) judge(ctx context.Context, r Request) *Verdict {
	v := &Verdict{Presented: r.Presented, decider: d}
	if d.cfg.TrustGeneration != nil {
		v.TrustGeneration = d.cfg.TrustGeneration()
	}
	if r.SourceError != nil {
		v.Presented = nil
	}
	path, err := NormalPath(r.Path)
	host, known := normalHost(r.Host)
	switch {
	case err != nil:
		return d.refuse(ctx, v, r, http.StatusBadRequest, decision.Check{
			Name: decision.CheckRoute, Rule: "RFC 3986, Section 6.2.2", Reason: decision.PathAmbiguous, Found: err.Error(),
		})
	case !known:
		return d.refuse(ctx, v, r, http.StatusBadRequest, decision.Check{
			Name: decision.CheckRoute, Rule: "RFC 9110, Section 7.2", Reason: decision.RequestMalformed, Expected: "a host name or address", Found: "another Host",
		})
	}
	v.Path = path
	route, allow := d.router.find(host, path, r.Method)
	if route == nil || r.Method == http.MethodConnect {
		c := decision.Check{Name: decision.CheckRoute, Rule: "RFC 9110, Section 15.5.5", Reason: decision.RouteUnknown, Found: clip(host + path)}
		if allow == nil {
			return d.refuse(ctx, v, r, http.StatusNotFound, c)
		}
		c.Reason, c.Rule = decision.MethodNotAllowed, "RFC 9110, Section 15.5.6"
		c.Expected, c.Found = strings.Join(allow, ", "), clip(r.Method)
		v.Header = http.Header{"Allow": {c.Expected}}
		return d.refuse(ctx, v, r, http.StatusMethodNotAllowed, c)
	}
	v.Route = route
	if route.Anonymous {
		return d.anonymous(ctx, v, r)
	}
	if route.CheckCertificate != nil && v.Presented != nil && len(r.Authorization) > 0 {
		if err := route.CheckCertificate(ctx, v.Presented); err != nil {
			v.Header = http.Header{"Www-Authenticate": {refusedCertificate}}
			return d.refuse(ctx, v, r, http.StatusUnauthorized, certificateCheck(err))
		}
	}
	access, err := route.Verifier.VerifyCall(ctx, resourceserver.Call{
		Authorization: r.Authorization, RawQuery: r.RawQuery, Form: r.Form,
		Presented: r.Presented, SourceError: r.SourceError, Foreign: r.Foreign, Scopes: route.Scopes,
	})
	if err == nil {
		v.Token, v.RevocationAsOf = access.Token, access.RevocationAsOf
		if leaf := v.Presented.Leaf(); v.ended(d.cfg.Now()) {
			v.Token, v.Refused = nil, access.Token
			v.Header = http.Header{"Www-Authenticate": {refusedCertificate}}
			return d.refuse(ctx, v, r, http.StatusUnauthorized, decision.Check{
				Name: decision.CheckValidity, Rule: "RFC 5280, Section 4.1.2.5", Reason: decision.Expired,
				Expected: "a time before notAfter", Found: leaf.NotAfter.UTC().Format(time.RFC3339),
			})
		}
		v.Allowed, v.Status, v.Decision = true, http.StatusOK, access.Decision
		return v
	}
	e, ok := errors.AsType[*resourceserver.Error](err)
	if !ok { // VerifyCall returns no other
		return d.refuse(ctx, v, r, http.StatusUnauthorized, decision.Check{Name: decision.CheckToken, Found: err.Error()})
	}
	v.Decision, v.Refused, v.RevocationAsOf = e.Decision, e.Token, e.RevocationAsOf
	answer(v, e)
	return v
}

// refusedCertificate is what resourceserver says of a certificate that does not fit.
const refusedCertificate = `Bearer error="invalid_token", error_description="certificate-bound token without matching client certificate"`

// anonymous lets a request pass. The certificate that goes upstream is judged all the same.
func (d *Decider) anonymous(ctx context.Context, v *Verdict, r Request) *Verdict {
	if r.SourceError != nil && !errors.Is(r.SourceError, certsource.ErrNoCertificate) {
		return d.refuse(ctx, v, r, http.StatusBadRequest, certsource.Check(r.SourceError))
	}
	if check := v.Route.CheckCertificate; check != nil && v.Presented != nil {
		if err := check(ctx, v.Presented); err != nil {
			return d.refuse(ctx, v, r, http.StatusForbidden, certificateCheck(err))
		}
	}
	v.Decision = d.newDecision(ctx, v, r)
	v.Decision.Skip(decision.CheckToken, "RFC 6750, Section 2", "the route is anonymous, by setting")
	v.Decision.Allow()
	v.Allowed, v.Status = true, http.StatusOK
	return v
}

func certificateCheck(err error) decision.Check {
	return decision.Check{Name: decision.CheckPolicy, Rule: "RFC 9440, Section 2.4", Reason: decision.HookRefused, Found: err.Error()}
}

func (d *Decider) newDecision(ctx context.Context, v *Verdict, r Request) *decision.Decision {
	out := decision.New()
	out.Peer, out.Via, out.Thumbprint = certsource.Peer(ctx), d.cfg.Source.Name(), v.Presented.Thumbprint()
	for _, name := range r.Foreign {
		out.Warnings = append(out.Warnings, decision.Check{Name: decision.CheckSource, Reason: decision.SourceForeignHeader, Found: name})
	}
	return out
}

// refuse refuses a request before its token is looked at.
func (d *Decider) refuse(ctx context.Context, v *Verdict, r Request, status int, c decision.Check) *Verdict {
	v.Decision = d.newDecision(ctx, v, r)
	v.Decision.Fail(c)
	v.Status = status
	if v.Header == nil {
		v.Header = http.Header{}
	}
	v.Header.Set("Cache-Control", "no-store")
	v.setBody(strings.ToLower(strings.ReplaceAll(http.StatusText(status), " ", "_")), "")
	return v
}

// answer makes the answer of RFC 6750, Section 3.
func answer(v *Verdict, e *resourceserver.Error) {
	v.Status = e.Status
	v.Header = http.Header{"Cache-Control": {"no-store"}}
	if challenge := e.Challenge(); challenge != "" {
		v.Header.Set("WWW-Authenticate", challenge)
	} else {
		v.Header.Set("Retry-After", "1")
	}
	v.setBody(e.Code, e.Description)
}

func (v *Verdict) setBody(code, description string) {
	if code == "" {
		return
	}
	// Two strings cannot fail.
	v.Body, _ = json.Marshal(struct {
		Error       string `json:"error"`
		Description string `json:"error_description,omitempty"`
	}{code, description})
	v.Header.Set("Content-Type", "application/json")
	v.Header.Set("X-Content-Type-Options", "nosniff")
}

// Write answers a refused request.
func (v *Verdict) Write(w http.ResponseWriter) {
	h := w.Header()
	for name, values := range v.Header {
		h[name] = values
	}
	h.Set("Content-Length", strconv.Itoa(len(v.Body)))
	w.WriteHeader(v.Status)
	w.Write(v.Body)
}

// Until returns when the request has to end at the latest: with its token, or with the
// certificate that the token is bound to. Zero is never.
func (v *Verdict) Until() time.Time {
	var until time.Time
	if v.Token != nil {
		until = v.Token.Expires
	}
	if leaf := v.Presented.Leaf(); leaf != nil && v.Token != nil && v.Token.Confirmation.X5TS256 != "" {
		if until.IsZero() || leaf.NotAfter.Before(until) {
			until = leaf.NotAfter
		}
	}
	return until
}

// ended reports whether the certificate that the token is bound to has ended. That needs
// no CA, and TLS does not look.
func (v *Verdict) ended(now time.Time) bool {
	leaf := v.Presented.Leaf()
	return leaf != nil && v.Token.Confirmation.X5TS256 != "" && !now.Before(leaf.NotAfter)
}

// Metadata returns what serves the metadata of a protected resource (RFC 9728, Section 3)
// at the host and path of a request, or nil. Clients read it before they have a token.
func (d *Decider) Metadata(host, path string) http.Handler {
	if !strings.HasPrefix(path, "/.well-known/oauth-protected-resource") {
		return nil
	}
	return d.metadata["https://"+strings.ToLower(host)+path]
}

// IdentityFields returns the names of all fields that any route sets, canonical and
// sorted. Whoever answers a proxy's question names each of them in each answer, so that
// no copy of the client's survives.
func (d *Decider) IdentityFields() []string { return slices.Clone(d.identity) }

// Forbidden reports whether a client must not send a field of this name: one that the
// gateway sets, or one that forwards certificates, in any spelling that a program behind
// may take for it.
func (d *Decider) Forbidden(name string) bool {
	if len(name) > maxFieldName {
		return false
	}
	var buf [maxFieldName]byte
	folded := appendFolded(buf[:0], name)
	return d.stripped[string(folded)] || believed[string(folded)] || strings.HasPrefix(string(folded), "x-forwarded-") ||
		certsource.IsCertificateField(string(folded))
}

// believed are fields by which programs behind a proxy let it change what the request is:
// its peer, its path, its method. The gateway sets X-Forwarded-For, -Host and -Proto; the
// others would be a way round the route that was judged.
var believed = map[string]bool{
	"forwarded": true, "x-real-ip": true, "x-client-ip": true, "true-client-ip": true, "x-cluster-client-ip": true,
	"x-original-url": true, "x-original-uri": true, "x-original-method": true, "x-original-host": true, "x-rewrite-url": true,
	"x-http-method": true, "x-http-method-override": true, "x-method-override": true, "x-host": true,
	"proxy": true, // HTTP_PROXY of CGI
}

// forRequestID reports whether a field is the one for the id of a request, in any spelling.
func forRequestID(name string) bool {
	if len(name) != len(resourceserver.RequestIDHeader) {
		return false
	}
	var buf [len(resourceserver.RequestIDHeader)]byte
	return string(appendFolded(buf[:0], name)) == foldedRequestID
}

var foldedRequestID = fold(resourceserver.RequestIDHeader)

// Strip removes the fields that a client must not send.
func (d *Decider) Strip(h http.Header) {
	for name := range h {
		if d.Forbidden(name) {
			delete(h, name)
		}
	}
}

// Identity returns every field of [Decider.IdentityFields] with its value for this
// request. Those that there is nothing to say in are empty. An error is a request that
// must not pass.
func (v *Verdict) Identity() (http.Header, error) {
	h := make(http.Header, len(v.decider.identity))
	if err := v.Route.Identity.set(h, v); err != nil {
		return nil, err
	}
	for _, name := range v.decider.identity {
		if h[name] == nil {
			h[name] = []string{""}
		}
	}
	return h, nil
}

// maxFieldName bounds the names of fields that can be configured.
const maxFieldName = 100

func fold(name string) string { return string(appendFolded(nil, name)) }

// appendFolded appends the form in which names that are confused are equal: CGI and its
// heirs make one variable of X-Auth-Sub, x_auth_sub and X.Auth.Sub.
func appendFolded(buf []byte, name string) []byte {
	for i := range len(name) {
		c := name[i]
		switch {
		case 'A' <= c && c <= 'Z':
			c |= 0x20
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		default:
			c = '-'
		}
		buf = append(buf, c)
	}
	return buf
}

func clip(s string) string { return s[:min(len(s), 256)] }
