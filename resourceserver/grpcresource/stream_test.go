package grpcresource_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/pkitest"
	"github.com/certbound/certbound/resourceserver"
)

// inMemory makes the connections of a world pipes, so that it can live in a bubble.
func inMemory(s *settings) {
	l := bufconn.Listen(1 << 20)
	s.listener, s.dial = l, func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }
}

// open opens a stream and waits for the first answer.
func (w *world) open(t *testing.T, leaf *pkitest.Leaf, token string) grpc_testing.TestService_FullDuplexCallClient {
	t.Helper()
	s, err := grpc_testing.NewTestServiceClient(w.connect(leaf, nil)).FullDuplexCall(bearer(t.Context(), token))
	if err != nil {
		t.Fatal(err)
	}
	exchange(t, s)
	return s
}

func exchange(t *testing.T, s grpc_testing.TestService_FullDuplexCallClient) {
	t.Helper()
	if err := s.Send(new(grpc_testing.StreamingOutputCallRequest)); err != nil {
		t.Error(err)
	}
	if out, err := s.Recv(); err != nil || !strings.Contains(string(out.GetPayload().GetBody()), secretAnswer) {
		t.Errorf("got %v, %v", out, err)
	}
}

func ended(s grpc.ClientStream) reply {
	err := s.RecvMsg(new(grpc_testing.StreamingOutputCallResponse))
	return replyOf(err, nil, s.Trailer(), "")
}

// A stream that was opened with a good token does not outlive it, nor its certificate.
// While both are good, it goes on for days.
func TestStreamEnds(t *testing.T) {
	tests := []struct {
		name   string
		exp    time.Duration
		after  time.Duration // the certificate's end
		end    time.Duration
		reason decision.Reason
		text   string
	}{
		{"with the token", 72 * time.Hour, 100 * time.Hour, 72 * time.Hour, decision.TokenExpired, "the access token has expired"},
		{"with the certificate", 72 * time.Hour, 48 * time.Hour, 48 * time.Hour, decision.Expired, "the client certificate has expired"},
		{"between two checks", 90 * time.Second, time.Hour, 90 * time.Second, decision.TokenExpired, "the access token has expired"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, inMemory)
				start := time.Now()
				leaf := pkitest.MustSelfSigned(pkitest.LeafOptions{NotAfter: start.Add(tt.after)})
				s := w.open(t, leaf, w.token(with(cnf(leaf), "exp", start.Add(tt.exp).Unix())))
				time.Sleep(tt.end - time.Second)
				exchange(t, s)
				r := ended(s)
				w.wantIT(t, r, tt.reason)
				if !strings.Contains(r.message, tt.text) {
					t.Errorf("message %q, want %q", r.message, tt.text)
				}
				if lived := time.Since(start); lived < tt.end || lived > tt.end+time.Second {
					t.Errorf("the stream lived %v, want %v", lived, tt.end)
				}
				if !strings.Contains(w.text(), "stream ended") || !strings.Contains(w.text(), bidiCall) {
					t.Error("the log does not say which stream ended")
				}
				w.stop()
			})
		})
	}
}

// Whatever was true at the start is judged again: here the operator's own check of the
// certificate, which somebody revokes.
func TestStreamEndsWhenTheCertificateIsRevoked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var revoked atomic.Bool
		w := newWorld(t, func(s *settings) {
			inMemory(s)
			s.grpc.RecheckEvery = 10 * time.Second
			s.verifier.CheckCertificate = func(context.Context, *certsource.Presented) error {
				if revoked.Load() {
					return errors.New("revoked")
				}
				return nil
			}
		})
		leaf := pkitest.MustSelfSigned(pkitest.LeafOptions{})
		s := w.open(t, leaf, w.token(cnf(leaf)))
		time.Sleep(time.Minute)
		exchange(t, s)
		revoked.Store(true)
		start := time.Now()
		w.wantIT(t, ended(s), decision.HookRefused)
		if lived := time.Since(start); lived > 10*time.Second {
			t.Errorf("the stream lived %v longer, want 10s at most", lived)
		}
		w.stop()
	})
}

// A token that the issuer calls inactive is found out in time, too.
func TestStreamEndsWhenTheTokenIsRevoked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var answer atomic.Value
		w := newWorld(t, func(s *settings) {
			inMemory(s)
			s.verifier.Introspection = &resourceserver.Introspection{
				Endpoint: issuer + "/introspect", ClientID: "rs", ClientSecret: "s",
				HTTPClient: &http.Client{Transport: roundTripper(func() string { return answer.Load().(string) })},
			}
		})
		leaf := pkitest.MustSelfSigned(pkitest.LeafOptions{})
		thumbprint := cnf(leaf)["cnf"].(map[string]any)["x5t#S256"].(string)
		answer.Store(`{"active":true,"iss":"` + issuer + `","aud":"` + resource + `","scope":"read","cnf":{"x5t#S256":"` + thumbprint + `"}}`)
		s := w.open(t, leaf, "opaque.token")
		time.Sleep(time.Hour)
		exchange(t, s)
		answer.Store(`{"active":false}`)
		start := time.Now()
		w.wantIT(t, ended(s), decision.TokenInactive)
		if lived := time.Since(start); lived > 2*time.Minute {
			t.Errorf("the stream lived %v longer, want two minutes at most", lived)
		}
		w.stop()
	})
}

type roundTripper func() string

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Request: r,
		Body: readCloser{strings.NewReader(f())},
	}, nil
}

type readCloser struct{ *strings.Reader }

func (readCloser) Close() error { return nil }

// The handler may be anywhere when its stream ends: the caller gets the status at once, and
// the handler's calls and its context say why.
func TestHandlerOfAnEndedStream(t *testing.T) {
	fill := func(s grpc_testing.TestService_FullDuplexCallServer) error {
		for {
			if err := s.Send(&grpc_testing.StreamingOutputCallResponse{Payload: &grpc_testing.Payload{Body: make([]byte, 64<<10)}}); err != nil {
				return err
			}
		}
	}
	tests := []struct {
		name    string
		handler func(grpc_testing.TestService_FullDuplexCallServer) error
	}{
		{"waits for a message", echo},
		{"waits for a reader", fill},
		{"waits for its context", func(s grpc_testing.TestService_FullDuplexCallServer) error {
			<-s.Context().Done()
			return context.Cause(s.Context())
		}},
		{"tries on", func(s grpc_testing.TestService_FullDuplexCallServer) error {
			<-s.Context().Done()
			if _, err := s.Recv(); err == nil {
				return nil
			}
			return s.Send(new(grpc_testing.StreamingOutputCallResponse))
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				result := make(chan error, 1)
				w := newWorld(t, func(s *settings) {
					inMemory(s)
					s.service.bidi = func(stream grpc_testing.TestService_FullDuplexCallServer) error {
						err := tt.handler(stream)
						result <- err
						return err
					}
				})
				leaf := pkitest.MustSelfSigned(pkitest.LeafOptions{})
				ctx := bearer(t.Context(), w.token(with(cnf(leaf), "exp", time.Now().Add(30*time.Second).Unix())))
				s, err := grpc_testing.NewTestServiceClient(w.connect(leaf, nil)).FullDuplexCall(ctx)
				if err != nil {
					t.Fatal(err)
				}
				got := <-result
				if status.Code(got) != codes.Unauthenticated {
					t.Errorf("the handler got %v, want Unauthenticated", got)
				}
				if e, ok := errors.AsType[*resourceserver.Error](got); !ok || e.Reason() != decision.TokenExpired {
					t.Errorf("the handler got %v, want the reason", got)
				}
				for err = nil; err == nil; { // what was sent before the end
					err = s.RecvMsg(new(grpc_testing.StreamingOutputCallResponse))
				}
				w.wantIT(t, replyOf(err, nil, s.Trailer(), ""), decision.TokenExpired)
				w.stop()
			})
		})
	}
}

// A handler that does not look up at all keeps its goroutine, but not the caller.
func TestDeafHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		w := newWorld(t, func(s *settings) {
			inMemory(s)
			s.service.bidi = func(grpc_testing.TestService_FullDuplexCallServer) error {
				<-release
				panic("too late")
			}
		})
		leaf := pkitest.MustSelfSigned(pkitest.LeafOptions{})
		ctx := bearer(t.Context(), w.token(with(cnf(leaf), "exp", time.Now().Add(30*time.Second).Unix())))
		s, err := grpc_testing.NewTestServiceClient(w.connect(leaf, nil)).FullDuplexCall(ctx)
		if err != nil {
			t.Fatal(err)
		}
		w.wantIT(t, ended(s), decision.TokenExpired)
		close(release)
		w.stop()
		synctest.Wait()
		if !strings.Contains(w.text(), "too late") {
			t.Error("the log says nothing of the panic")
		}
	})
}

// A handler that panics does so under the interceptors that recover, as without us.
func TestPanickingHandler(t *testing.T) {
	p := certs()
	w := newWorld(t, func(s *settings) {
		s.options = []grpc.ServerOption{grpc.ChainStreamInterceptor(func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) (err error) {
			defer func() {
				if p := recover(); p == "boom" {
					err = status.Error(codes.DataLoss, "recovered")
				}
			}()
			return h(srv, ss)
		})}
		s.service.bidi = func(grpc_testing.TestService_FullDuplexCallServer) error { panic("boom") }
	})
	r := call(bearer(t.Context(), w.token(cnf(p.right))), w.connect(p.right, nil), bidiCall)
	if r.code != codes.DataLoss {
		t.Errorf("%s %s, want the status of the interceptor that recovers", r.code, r.message)
	}
	if !strings.Contains(w.text(), "stream_test.go") {
		t.Error("the log does not have the stack")
	}
}

// A certificate that has expired opens no stream, since it would have to end at once.
func TestExpiredCertificateOpensNoStream(t *testing.T) {
	leaf := pkitest.MustSelfSigned(pkitest.LeafOptions{NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)})
	w := newWorld(t, nil)
	conn := w.connect(leaf, nil)
	w.wantIT(t, call(bearer(t.Context(), w.token(cnf(leaf))), conn, bidiCall), decision.Expired)
	// RFC 8705, Section 6.2, asks for no trust in the certificate, and a call that ends by
	// itself has no end to be set.
	w.wantOK(t, call(bearer(t.Context(), w.token(cnf(leaf))), conn, unaryCall))

	w = newWorld(t, func(s *settings) { s.grpc.InsecureUnendingStreams = true })
	w.wantOK(t, call(bearer(t.Context(), w.token(cnf(leaf))), w.connect(leaf, nil), bidiCall))
}

func TestUnendingStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(s *settings) { inMemory(s); s.grpc.InsecureUnendingStreams = true })
		leaf := pkitest.MustSelfSigned(pkitest.LeafOptions{})
		s := w.open(t, leaf, w.token(cnf(leaf)))
		time.Sleep(1000 * time.Hour)
		exchange(t, s)
		w.stop()
	})
}

// The end of a stream under http.Server, with a handler that sends and one that waits.
func TestStreamEndsUnderServeHTTP(t *testing.T) {
	for _, name := range []string{"sends", "waits"} {
		t.Run(name, func(t *testing.T) {
			var revoked atomic.Bool
			result := make(chan error, 1)
			w := newWorld(t, func(s *settings) {
				s.grpc.RecheckEvery = time.Millisecond
				s.verifier.CheckCertificate = func(context.Context, *certsource.Presented) error {
					if revoked.Load() {
						return errors.New("revoked")
					}
					return nil
				}
				s.service.bidi = func(stream grpc_testing.TestService_FullDuplexCallServer) error {
					err := echo(stream)
					if name == "sends" {
						for err = nil; err == nil; {
							err = stream.Send(new(grpc_testing.StreamingOutputCallResponse))
						}
					}
					result <- err
					return err
				}
			})
			w.serveHTTP(t)
			s := w.open(t, certs().right, w.token(cnf(certs().right)))
			if name == "sends" {
				s.CloseSend() // ends echo
			}
			revoked.Store(true)
			err := error(nil)
			for err == nil {
				err = s.RecvMsg(new(grpc_testing.StreamingOutputCallResponse))
			}
			if status.Code(err) != codes.Unauthenticated {
				t.Errorf("got %v, want Unauthenticated", err)
			}
			if got := <-result; status.Code(got) != codes.Unauthenticated {
				t.Errorf("the handler got %v, want Unauthenticated", got)
			}
		})
	}
}

// A caller that goes away frees the handler, as without us.
func TestCallerGoesAway(t *testing.T) {
	p := certs()
	result := make(chan error, 1)
	w := newWorld(t, func(s *settings) {
		s.service.bidi = func(stream grpc_testing.TestService_FullDuplexCallServer) error {
			err := echo(stream)
			result <- err
			return err
		}
	})
	ctx, cancel := context.WithCancel(bearer(t.Context(), w.token(cnf(p.right))))
	s, err := grpc_testing.NewTestServiceClient(w.connect(p.right, nil)).FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	exchange(t, s)
	cancel()
	if got := <-result; status.Code(got) != codes.Canceled {
		t.Errorf("the handler got %v, want Canceled", got)
	}
}
