// Package extauthz answers Envoy's ext_authz over gRPC (envoy.service.auth.v3), and so
// that of Istio, Contour and Envoy Gateway. Package forwardauth has the same over HTTP.
//
// The certificate comes from one named source: from source.certificate at the edge (see
// [NewPeerSource]), or from X-Forwarded-Client-Cert in a mesh, where source.certificate is
// that of the sidecar before. All of it is the word of the one who asks, like a header;
// so only the proxy may ask.
package extauthz

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"runtime/debug"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/resourceserver"
	"github.com/certbound/certbound/server/gateway"
)

// Config holds the settings of an [Authorization].
type Config struct {
	// Decider judges. Its source has to believe the certificates of the Hop: one of
	// [NewPeerSource], or the preset xfcc. Required.
	Decider *gateway.Decider
	// Options are for the log.
	Options gateway.FrontOptions
	// Hop is Envoy: nobody else may ask. Required.
	Hop certsource.Hop
	// PassToken says whether the Authorization field of a route's requests stays. If
	// nil, of none.
	PassToken func(*gateway.Route) bool
}

// An Authorization is the service envoy.service.auth.v3.Authorization. What it judges with
// can be exchanged while it serves (see [gateway.Front]). It is safe for concurrent use, and
// belongs into a [Server], which knows the peers.
type Authorization struct {
	authv3.UnimplementedAuthorizationServer
	*gateway.Front
	cfg Config
}

// New reports every wrong setting at once.
func New(cfg Config) (*Authorization, error) {
	var faults []error
	if cfg.Decider == nil {
		faults = append(faults, errors.New("extauthz: Decider: not set"))
	} else if err := cfg.Decider.CheckAsked(); err != nil {
		faults = append(faults, fmt.Errorf("extauthz: Decider: %w", err))
	}
	if err := cfg.Hop.Validate(); err != nil {
		faults = append(faults, fmt.Errorf("extauthz: Hop: %w", err))
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return &Authorization{cfg: cfg, Front: gateway.NewFront(cfg.Decider, cfg.Options)}, nil
}

var fieldRequestID = strings.ToLower(resourceserver.RequestIDHeader)

// fieldPeer stands for source.certificate. No field that a client sends gets there.
const fieldPeer = "Source-Certificate"

// PeerConfig holds the settings of [NewPeerSource].
type PeerConfig struct {
	// Hop is Envoy. Required.
	Hop certsource.Hop
	// Verified says that Envoy validates paths in our place, and by which CAs:
	// "partners of 2026". If empty, it does not.
	Verified string
}

// NewPeerSource returns the source that reads source.certificate, the leaf alone. Envoy
// sends it with include_peer_certificate.
func NewPeerSource(cfg PeerConfig) (certsource.Source, error) {
	c := certsource.HeaderFieldConfig{Hop: cfg.Hop, Field: fieldPeer, Format: certsource.FormatEscapedPEM}
	if cfg.Verified != "" {
		c.Verification = certsource.Verification{By: peerSourceName, Anchors: cfg.Verified}
	}
	src, err := certsource.NewHeaderField(c)
	if err != nil {
		return nil, err
	}
	return peerSource{src}, nil
}

const peerSourceName = "envoy-peer"

type peerSource struct{ *certsource.HeaderField }

func (peerSource) Name() string { return peerSourceName }

func (s peerSource) Certificate(r *http.Request) (*certsource.Presented, error) {
	p, err := s.HeaderField.Certificate(r)
	if e, ok := errors.AsType[*certsource.ParseError](err); ok {
		named := *e
		named.Source, named.Field = peerSourceName, "source.certificate"
		return nil, &named
	}
	return p, err
}

// Check judges one request. Refusals are answers; there is no error, since Envoy can be
// told to let requests pass after one.
func (a *Authorization) Check(ctx context.Context, req *authv3.CheckRequest) (resp *authv3.CheckResponse, _ error) {
	d := a.Decider()
	defer func() {
		if fault := recover(); fault != nil { // a fault of ours, which a stranger may have found
			a.Fault(ctx, fmt.Sprint(fault), debug.Stack())
			resp = denied(a.Refuse(ctx, d, gateway.Request{}, decision.Check{Name: decision.CheckRoute, Reason: decision.HookFailed}))
		}
	}()
	ctx, state := caller(ctx)
	asked := &http.Request{TLS: state}
	asked = asked.WithContext(ctx)
	if err := a.cfg.Hop.Prove(asked, "the question"); err != nil {
		// What it asks about is not believed, and not even written down.
		return denied(a.Refuse(ctx, d, gateway.Request{}, certsource.Check(err))), nil
	}
	about := req.GetAttributes().GetRequest().GetHttp()
	if about.GetMethod() == "" || about.GetPath() == "" {
		return denied(a.Refuse(ctx, d, gateway.Request{}, decision.Check{
			Name: decision.CheckSource, Reason: decision.RequestMalformed, Expected: "attributes.request.http with method and path", Found: "none",
		})), nil
	}
	_, query, _ := strings.Cut(about.GetPath(), "?")
	asked.Method, asked.Host, asked.RequestURI = about.GetMethod(), about.GetHost(), about.GetPath()
	asked.URL = &url.URL{RawQuery: query}
	asked.Header = make(http.Header, 4)
	if cert := req.GetAttributes().GetSource().GetCertificate(); cert != "" {
		asked.Header[fieldPeer] = []string{cert}
	}
	var lookAlikes []string
	for name, value := range fields(about) {
		switch {
		case strings.EqualFold(name, "authorization"):
			asked.Header["Authorization"] = append(asked.Header["Authorization"], value)
		case strings.EqualFold(name, "connection"):
			asked.Header["Connection"] = append(asked.Header["Connection"], value)
		case strings.EqualFold(name, "content-type"):
			asked.Header["Content-Type"] = append(asked.Header["Content-Type"], value)
		case certsource.IsCertificateField(name):
			name := textproto.CanonicalMIMEHeaderKey(name)
			asked.Header[name] = append(asked.Header[name], value)
		}
		if d.Spells(name) {
			lookAlikes = append(lookAlikes, name)
		}
	}
	q := d.RequestOf(asked)
	if q.Form = nil; len(about.GetBody())+len(about.GetRawBody()) > 0 {
		asked.Body = io.NopCloser(io.MultiReader(strings.NewReader(about.GetBody()), strings.NewReader(string(about.GetRawBody()))))
		q.Form = asked
	}
	v := a.Decide(ctx, d, q)
	if !v.Allowed {
		return denied(v), nil
	}
	identity, err := v.Identity()
	if err != nil {
		return denied(a.Refuse(ctx, d, gateway.Request{}, decision.Check{Name: decision.CheckRoute, Reason: decision.HookFailed, Found: err.Error()})), nil
	}
	return a.allowed(v, identity, lookAlikes), nil
}

// fields ranges over the fields of the request, in whichever of two forms Envoy sends them.
func fields(about *authv3.AttributeContext_HttpRequest) func(yield func(name, value string) bool) {
	return func(yield func(name, value string) bool) {
		if m := about.GetHeaderMap(); m != nil {
			for _, h := range m.GetHeaders() {
				value := h.GetValue()
				if raw := h.GetRawValue(); len(raw) > 0 {
					value = string(raw)
				}
				if !yield(h.GetKey(), value) {
					return
				}
			}
			return
		}
		for name, value := range about.GetHeaders() {
			if !yield(name, value) {
				return
			}
		}
	}
}

// allowed lets the request pass. Each identity field is either set or removed; none is in
// both lists, so that the order in which Envoy goes through them does not matter.
func (a *Authorization) allowed(v *gateway.Verdict, identity http.Header, lookAlikes []string) *authv3.CheckResponse {
	out := &authv3.OkHttpResponse{
		Headers:         make([]*corev3.HeaderValueOption, 0, len(identity)),
		HeadersToRemove: make([]string, 0, len(identity)+1),
		// To the client, so that what it reports leads to the record.
		ResponseHeadersToAdd: []*corev3.HeaderValueOption{option(fieldRequestID, v.ID)},
	}
	if a.cfg.PassToken == nil || !a.cfg.PassToken(v.Route) {
		out.HeadersToRemove = append(out.HeadersToRemove, "authorization")
	}
	for name, values := range identity {
		lower := strings.ToLower(name)
		if values[0] == "" {
			out.HeadersToRemove = append(out.HeadersToRemove, lower)
		} else {
			out.Headers = append(out.Headers, option(lower, values[0]))
		}
	}
	for _, name := range lookAlikes {
		if identity[textproto.CanonicalMIMEHeaderKey(name)] == nil {
			out.HeadersToRemove = append(out.HeadersToRemove, name)
		}
	}
	return &authv3.CheckResponse{
		Status:       &status.Status{Code: int32(codes.OK)},
		HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: out},
	}
}

// option is a field that replaces all others of its name.
func option(name, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: name, Value: value},
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}
}

// denied is the answer to the client.
func denied(v *gateway.Verdict) *authv3.CheckResponse {
	code := codes.PermissionDenied
	if v.Status == http.StatusUnauthorized {
		code = codes.Unauthenticated
	}
	out := &authv3.DeniedHttpResponse{Status: &typev3.HttpStatus{Code: typev3.StatusCode(v.Status)}, Body: string(v.Body)}
	for name, values := range v.Header {
		for _, value := range values {
			out.Headers = append(out.Headers, option(strings.ToLower(name), value))
		}
	}
	return &authv3.CheckResponse{
		Status:       &status.Status{Code: int32(code)},
		HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: out},
	}
}

// caller returns what is known of the peer: a context with its address, for the hop, and
// its TLS.
func caller(ctx context.Context) (context.Context, *tls.ConnectionState) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return ctx, nil
	}
	c, ok := p.AuthInfo.(*connection)
	if !ok {
		return ctx, nil // not in a Server: nobody is proven
	}
	return callContext{ctx, c.facts}, c.tls
}

// A callContext is that of a call, and knows the connection, too.
type callContext struct {
	context.Context
	facts context.Context
}

func (c callContext) Value(key any) any {
	if v := c.facts.Value(key); v != nil {
		return v
	}
	return c.Context.Value(key)
}
