package grpcresource

import (
	"context"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/resourceserver"
)

// leastWait keeps a clock of the Verifier that is behind ours from keeping us busy.
const leastWait = 100 * time.Millisecond

// Stream is a [grpc.StreamServerInterceptor]. An accepted stream ends with the status
// Unauthenticated when its token expires, when the certificate that the token is bound to
// does (notAfter), or when the call would be refused if it came anew (Config.RecheckEvery).
//
// The caller gets the status at once, whatever the handler is doing: the handler runs on a
// goroutine of its own. From then on its context is done and its calls of the stream
// return the error; it has to return, as when the caller had gone.
func (i *Interceptor) Stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	rule, listed := i.rule(info.FullMethod)
	if listed && rule.exempt {
		return handler(srv, ss)
	}
	w := &watch{i: i, r: request(ss.Context(), info.FullMethod), rule: rule}
	access, err := w.judge(listed)
	if err != nil {
		err.tell(ss.Context())
		return err
	}
	ctx, cancel := context.WithCancelCause(resourceserver.NewContext(ss.Context(), access))
	defer cancel(nil)
	s := &stream{ServerStream: ss, ctx: ctx}
	if i.cfg.InsecureUnendingStreams {
		return handler(srv, s)
	}
	done := make(chan outcome, 1)
	go i.run(ctx, done, func() error { return handler(srv, s) })
	timer := time.NewTimer(w.wait(access))
	defer timer.Stop()
	for {
		select {
		case out := <-done:
			if out.panic != nil {
				panic(out.panic) // for interceptors that recover
			}
			return out.err
		case <-timer.C:
			if access, err = w.judge(true); err != nil {
				i.cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "stream ended",
					slog.String("method", info.FullMethod), slog.String("reason", string(err.err.Decision.Reason())))
				cancel(err)
				err.tell(ss.Context())
				return err
			}
			timer.Reset(w.wait(access))
		}
	}
}

// outcome is how a handler ended.
type outcome struct {
	err   error
	panic any
}

// run calls a handler and reports its outcome, that of one that panics or exits its
// goroutine included.
func (i *Interceptor) run(ctx context.Context, done chan<- outcome, handler func() error) {
	out := outcome{err: status.Error(codes.Internal, "the handler has ended without a result")}
	returned := false
	defer func() {
		if !returned {
			if out.panic = recover(); out.panic != nil {
				// Whoever recovers it sees our stack, and nobody does after the end.
				i.cfg.Logger.LogAttrs(ctx, slog.LevelError, "grpcresource: the handler of a stream panics",
					slog.Any("panic", out.panic), slog.String("stack", string(debug.Stack())))
			}
		}
		done <- out
	}()
	out.err = handler()
	returned = true
}

// A watch judges the call that a stream is, at its start and again.
type watch struct {
	i    *Interceptor
	r    *http.Request
	rule rule
}

func (w *watch) judge(listed bool) (*resourceserver.Access, *refusal) {
	ctx := w.r.Context()
	access, err := w.i.judge(ctx, w.r, w.rule, listed)
	if err != nil || w.i.cfg.InsecureUnendingStreams {
		return access, err
	}
	end := notAfter(access)
	if now := time.Now(); !end.IsZero() && now.After(end) {
		d := decision.New()
		d.Peer = certsource.Peer(ctx)
		d.ClientID = access.Token.ClientID
		d.Thumbprint = access.Presented.Thumbprint()
		d.Via = access.Presented.Via
		return nil, w.i.refuse(ctx, d, decision.Check{
			Name: decision.CheckValidity, Rule: "RFC 5280, Section 4.1.2.5", Reason: decision.Expired,
			Expected: "a time until notAfter " + end.UTC().Format(time.RFC3339), Found: now.UTC().Format(time.RFC3339),
			Fix: "renew the certificate and get a new token with it; InsecureUnendingStreams lets such streams be",
		}, &resourceserver.Error{
			Status: http.StatusUnauthorized, Code: "invalid_token", Description: "the client certificate has expired",
		})
	}
	return access, nil
}

// wait returns how long it is until the call has to be judged again.
func (w *watch) wait(a *resourceserver.Access) time.Duration {
	const ever = time.Duration(1<<63 - 1)
	d := ever
	if !a.Token.Expires.IsZero() {
		d = min(d, time.Until(a.Token.Expires))
	}
	if end := notAfter(a); !end.IsZero() {
		d = min(d, time.Until(end)+time.Millisecond) // the last instant is a valid one
	}
	if every := w.i.cfg.RecheckEvery; every > 0 {
		d = min(d, every)
	}
	return max(d, leastWait)
}

// notAfter returns the end of the certificate that the token is bound to, or zero.
func notAfter(a *resourceserver.Access) time.Time {
	if leaf := a.Presented.Leaf(); leaf != nil && a.Token.Confirmation.X5TS256 != "" {
		return leaf.NotAfter
	}
	return time.Time{}
}

// A stream is the one that a handler gets.
type stream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *stream) Context() context.Context { return s.ctx }

func (s *stream) SendMsg(m any) error {
	if err := s.ended(); err != nil {
		return err
	}
	return s.after(s.ServerStream.SendMsg(m))
}

func (s *stream) RecvMsg(m any) error {
	if err := s.ended(); err != nil {
		return err
	}
	return s.after(s.ServerStream.RecvMsg(m))
}

// ended returns the refusal that has ended the stream, if one has.
func (s *stream) ended() error {
	if s.ctx.Err() == nil {
		return nil
	}
	if r, ok := context.Cause(s.ctx).(*refusal); ok {
		return r
	}
	return nil
}

// after says why a call that was under way has failed.
func (s *stream) after(err error) error {
	if err != nil {
		if end := s.ended(); end != nil {
			return end
		}
	}
	return err
}
