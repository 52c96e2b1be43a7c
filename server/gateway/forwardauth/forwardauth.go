// Package forwardauth answers the question that a proxy asks about a request before it
// forwards it: auth_request of nginx, forwardAuth of Traefik, forward_auth of Caddy, and
// ext_authz of Envoy over HTTP.
//
// The answer is 200, 401 or 403 and nothing else. With 200 it has every identity field
// that any route sets, empty where there is nothing to say, so that a proxy which copies
// the fields leaves no copy of the client's.
//
// Who asks has to be the proxy. From anybody else neither the certificate is believed nor
// which request it is about.
package forwardauth

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/resourceserver"
	"github.com/certbound/certbound/server/gateway"
)

// A Dialect says in which fields a proxy names the request that it asks about. There is
// no fallback from one to another.
type Dialect struct {
	// Name chooses it: "nginx".
	Name string
	// Method, URI and Host are the names of the fields. If they are empty, the question
	// has method, path and host of the request itself.
	Method, URI, Host string
	// Remove names the field of the answer with the fields that the proxy removes from
	// the request, or is empty.
	Remove string
}

// The dialects.
var (
	// Nginx has no names of its own; these are those of docs/proxies/nginx-auth-request.conf.
	Nginx = Dialect{Name: "nginx", Method: "X-Original-Method", URI: "X-Original-URI", Host: "X-Original-Host"}
	// Traefik and Caddy have the same names.
	Traefik = Dialect{Name: "traefik", Method: "X-Forwarded-Method", URI: "X-Forwarded-Uri", Host: "X-Forwarded-Host"}
	Caddy   = Dialect{Name: "caddy", Method: "X-Forwarded-Method", URI: "X-Forwarded-Uri", Host: "X-Forwarded-Host"}
	// Envoy sends the request itself, without its body.
	Envoy = Dialect{Name: "envoy", Remove: "X-Envoy-Auth-Headers-To-Remove"}
)

// Config holds the settings of a [Handler].
type Config struct {
	// Decider judges. Its source has to believe the certificates of the Hop. Required.
	Decider *gateway.Decider
	// Options are for the log. Narrow is always set.
	Options gateway.FrontOptions
	// Dialect is that of the proxy. Required.
	Dialect Dialect
	// Hop is the proxy: nobody else may ask. Required.
	Hop certsource.Hop
	// PassToken says whether the Authorization field of a route's requests stays. If
	// nil, of none. Only Envoy is told; the others have a setting for it.
	PassToken func(*gateway.Route) bool
}

// A Handler answers the questions of a proxy, at every path. What it judges with can be
// exchanged while it serves (see [gateway.Front]). It is safe for concurrent use.
type Handler struct {
	*gateway.Front
	cfg   Config
	names [3]string // canonical: of Method, URI and Host
}

// New reports every wrong setting at once.
func New(cfg Config) (*Handler, error) {
	var faults []error
	if cfg.Decider == nil {
		faults = append(faults, errors.New("forwardauth: Decider: not set"))
	} else if err := cfg.Decider.CheckAsked(); err != nil {
		faults = append(faults, fmt.Errorf("forwardauth: Decider: %w", err))
	}
	d := cfg.Dialect
	if set := (d.Method != "") == (d.URI != "") && (d.URI != "") == (d.Host != ""); d.Name == "" || !set {
		faults = append(faults, errors.New("forwardauth: Dialect: expected one of this package, or one with a name and all three fields"))
	}
	if err := cfg.Hop.Validate(); err != nil {
		faults = append(faults, fmt.Errorf("forwardauth: Hop: %w", err))
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	cfg.Options.Narrow = true
	h := &Handler{cfg: cfg, Front: gateway.NewFront(cfg.Decider, cfg.Options)}
	for i, name := range []string{d.Method, d.URI, d.Host} {
		h.names[i] = http.CanonicalHeaderKey(name)
	}
	return h, nil
}

// ServeHTTP answers one question.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	d := h.Decider()
	if err := h.cfg.Hop.Prove(r, "the question"); err != nil {
		// What it asks about is not believed, and not even written down.
		h.Refuse(ctx, d, gateway.Request{}, certsource.Check(err)).Write(w)
		return
	}
	q := d.RequestOf(r)
	if h.names[0] != "" {
		about, fault := h.about(r.Header)
		if fault != nil {
			h.Refuse(ctx, d, gateway.Request{}, *fault).Write(w)
			return
		}
		q.Method, q.Host = about[0], about[2]
		q.Path, q.RawQuery, _ = strings.Cut(about[1], "?")
	}
	q.Form = nil // what the body is belongs to the question
	v := h.Decide(ctx, d, q)
	if !v.Allowed {
		v.Write(w)
		return
	}
	h.allow(w, r, d, v)
}

// about returns method, URI and host of the request that is asked about. Each field has to
// be there once, and nothing that could be taken for it: the rest of the proxy, or what is
// behind it, may take the other one.
func (h *Handler) about(header http.Header) (about [3]string, fault *decision.Check) {
	wrong := func(reason decision.Reason, expected, found string) ([3]string, *decision.Check) {
		return [3]string{}, &decision.Check{
			Name: decision.CheckSource, Rule: "RFC 9110, Section 5.3", Reason: reason, Expected: expected, Found: found,
			Fix: "set the fields as the file of this proxy in docs/proxies does",
		}
	}
	for name, values := range header {
		for i, ours := range h.names {
			switch {
			case len(name) != len(ours) || !alike(name, ours):
			case name != ours:
				return wrong(decision.SourceLookAlike, ours, name)
			case len(values) != 1:
				return wrong(decision.SourceRepeated, "one "+ours, fmt.Sprint(len(values)))
			default:
				about[i] = values[0]
			}
		}
	}
	for _, line := range header["Connection"] {
		for option := range strings.SplitSeq(line, ",") {
			option = strings.Trim(option, " \t")
			if i := slices.IndexFunc(h.names[:], func(ours string) bool { return len(option) == len(ours) && alike(option, ours) }); i >= 0 {
				return wrong(decision.SourceHopByHop, "no mention of it in Connection", h.names[i])
			}
		}
	}
	for i, ours := range h.names {
		if about[i] == "" {
			return wrong(decision.RequestMalformed, ours, "none")
		}
	}
	return about, nil
}

// alike reports whether two names of the same length are the same to some program.
func alike(a, b string) bool {
	for i := range len(a) {
		if fold(a[i]) != fold(b[i]) {
			return false
		}
	}
	return true
}

func fold(c byte) byte {
	switch {
	case 'A' <= c && c <= 'Z':
		return c | 0x20
	case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		return c
	}
	return '-'
}

func (h *Handler) allow(w http.ResponseWriter, r *http.Request, d *gateway.Decider, v *gateway.Verdict) {
	identity, err := v.Identity()
	if err != nil {
		h.Refuse(r.Context(), d, gateway.Request{}, decision.Check{Name: decision.CheckRoute, Reason: decision.HookFailed, Found: err.Error()}).Write(w)
		return
	}
	out := w.Header()
	out["Cache-Control"] = []string{"no-store"}
	out[resourceserver.RequestIDHeader] = []string{v.ID}
	for name, values := range identity {
		out[name] = values
	}
	if remove := h.cfg.Dialect.Remove; remove != "" {
		out[remove] = []string{strings.Join(h.removed(r.Header, identity, d, v), ",")}
	}
	out["Content-Length"] = []string{"0"}
	w.WriteHeader(http.StatusOK)
}

// removed returns what the proxy has to remove: the token, the fields with nothing in them,
// and whatever looks like one of ours.
func (h *Handler) removed(asked, identity http.Header, d *gateway.Decider, v *gateway.Verdict) []string {
	var list []string
	if h.cfg.PassToken == nil || !h.cfg.PassToken(v.Route) {
		list = append(list, "authorization")
	}
	for name, values := range identity {
		if values[0] == "" {
			list = append(list, strings.ToLower(name))
		}
	}
	for name := range asked {
		if identity[name] == nil && d.Spells(name) {
			list = append(list, strings.ToLower(name))
		}
	}
	slices.Sort(list)
	return list
}
