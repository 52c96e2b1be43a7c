package grpcresource

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/resourceserver"
)

// request shows a call as the HTTP/2 request that it is, so that the certificate sources
// and the Verifier read it like any other. What is known of the connection comes from gRPC
// alone: its TLS state, and the address of its peer.
func request(ctx context.Context, fullMethod string) *http.Request {
	r := &http.Request{
		Method: http.MethodPost, Proto: "HTTP/2.0", ProtoMajor: 2,
		URL: &url.URL{Path: fullMethod}, Body: http.NoBody,
	}
	md, _ := metadata.FromIncomingContext(ctx)
	r.Header = make(http.Header, len(md))
	for name, values := range md {
		switch {
		case name == ":authority" && len(values) == 1:
			r.Host = values[0]
		case name != "" && name[0] != ':':
			name = http.CanonicalHeaderKey(name)
			r.Header[name] = append(r.Header[name], values...)
		}
	}
	if p, ok := peer.FromContext(ctx); ok {
		if info, ok := p.AuthInfo.(credentials.TLSInfo); ok {
			r.TLS = &info.State
		}
		// With grpc.Server.ServeHTTP the http.Server has recorded the connection, if its
		// ConnContext says so. Its address is not read from gRPC, which has it from
		// http.Request.RemoteAddr, and that is what middleware rewrites.
		if certsource.Peer(ctx) == "" {
			ctx = certsource.ConnContext(ctx, connection{addr: p.Addr})
		}
	}
	return r.WithContext(ctx)
}

// A connection is one of which only the peer is known.
type connection struct {
	net.Conn
	addr net.Addr
}

func (c connection) RemoteAddr() net.Addr { return c.addr }

// judge says whether a call may pass. listed says whether its method has a rule.
func (i *Interceptor) judge(ctx context.Context, r *http.Request, rule rule, listed bool) (*resourceserver.Access, *refusal) {
	if !listed {
		d := decision.New()
		d.Peer = certsource.Peer(r.Context())
		return nil, i.refuse(ctx, d, decision.Check{
			Name: decision.CheckScope, Reason: decision.RouteUnknown,
			Expected: "a rule for the method", Found: clip(r.URL.Path),
			Fix: "add the method to Methods, with the scopes that it needs",
		}, &resourceserver.Error{Status: http.StatusForbidden, Description: "the method is not open to callers"})
	}
	access, err := i.cfg.Verifier.VerifyRequest(r, rule.scopes...)
	if err != nil {
		e, ok := errors.AsType[*resourceserver.Error](err)
		if !ok { // VerifyRequest returns no other
			e = &resourceserver.Error{Status: http.StatusUnauthorized, Err: err}
		}
		return nil, newRefusal(e)
	}
	return access, nil
}

// refuse makes a refusal that the Verifier knows nothing of.
func (i *Interceptor) refuse(ctx context.Context, d *decision.Decision, c decision.Check, e *resourceserver.Error) *refusal {
	d.Fail(c)
	e.Decision = d
	if i.cfg.Observer != nil {
		i.cfg.Observer(ctx, d)
	}
	i.cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "request refused", slog.Any("decision", d))
	return newRefusal(e)
}

// A refusal is the error of a refused call. Interceptors that run before ours find the
// *[resourceserver.Error] in it, with the reason; the caller gets the status.
type refusal struct {
	err    *resourceserver.Error
	status *status.Status
}

func newRefusal(e *resourceserver.Error) *refusal {
	code, text := codes.Unauthenticated, e.Description
	switch e.Status {
	case http.StatusForbidden:
		code = codes.PermissionDenied
	case http.StatusServiceUnavailable:
		code = codes.Unavailable
	}
	if text == "" {
		text = "an access token is needed"
	}
	if e.Code != "" {
		text = e.Code + ": " + text
	}
	return &refusal{e, status.New(code, text)}
}

func (r *refusal) Error() string { return r.err.Error() }

// GRPCStatus is what package status looks for.
func (r *refusal) GRPCStatus() *status.Status { return r.status }

func (r *refusal) Unwrap() error { return r.err }

// tell adds to the answer the challenge of RFC 6750, or, where the issuer cannot be asked,
// when to try again. WWW-Authenticate is a header field, and net/http lets it be nothing
// else (RFC 9110, Section 6.5.1); gRPC clients look for what belongs to an error in the
// trailer, which is all there is when a stream has begun. So it is in both.
func (r *refusal) tell(ctx context.Context) {
	// Setting fails where there is no stream to answer, or no header any more.
	switch r.status.Code() {
	case codes.Unavailable:
		grpc.SetTrailer(ctx, metadata.Pairs("grpc-retry-pushback-ms", "1000"))
		return
	case codes.PermissionDenied:
		if r.err.Code == "" { // a matter of configuration, which no token changes
			return
		}
	}
	challenge := metadata.Pairs("www-authenticate", r.err.Challenge())
	grpc.SetHeader(ctx, challenge)
	if ctx.Value(http.ServerContextKey) == nil { // not under grpc.Server.ServeHTTP
		grpc.SetTrailer(ctx, challenge)
	}
}

// clip bounds what a caller adds to a log line.
func clip(s string) string { return s[:min(len(s), 256)] }
