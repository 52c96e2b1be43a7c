package matrix_test

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/pkitest"
	"github.com/certbound/certbound/resourceserver/grpcresource"
	"github.com/certbound/certbound/server/test/matrix"
)

// clientTLS are the settings of one client, with what it has resumed.
func clientTLS(w *matrix.World, c matrix.Call) (cfg *tls.Config, resumed *atomic.Bool) {
	resumed = new(atomic.Bool)
	cfg = w.ClientTLS(c.Leaf)
	cfg.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	cfg.VerifyConnection = func(s tls.ConnectionState) error { resumed.Store(s.DidResume); return nil }
	return cfg, resumed
}

func serverTLS(w *matrix.World) *tls.Config {
	leaf := w.ServerCA.MustLeaf(pkitest.LeafOptions{Subject: "CN=" + matrix.Host, DNS: []string{matrix.Host}, Server: true})
	return &tls.Config{Certificates: []tls.Certificate{leaf.TLS()}, ClientAuth: tls.RequestClientCert}
}

// The middleware of net/http, in a server of the developer's own.
func TestMiddleware(t *testing.T) {
	w := matrix.New(t)
	var reached atomic.Bool
	api := w.Verifier(t, certsource.TLS{}, nil).Middleware()(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		reached.Store(true)
		_, _ = io.WriteString(rw, "hello")
	}))
	srv := httptest.NewUnstartedServer(api)
	srv.TLS, srv.EnableHTTP2, srv.Config.ConnContext = serverTLS(w), true, certsource.ConnContext
	srv.StartTLS()
	t.Cleanup(srv.Close)
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(proto, func(t *testing.T) {
			w.Run(t, func(t *testing.T, c matrix.Call) matrix.Outcome {
				cfg, resumed := clientTLS(w, c)
				get := func() *http.Response {
					tr := &http.Transport{TLSClientConfig: cfg.Clone(), ForceAttemptHTTP2: proto == "HTTP/2.0"}
					defer tr.CloseIdleConnections()
					req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL, nil)
					if err != nil {
						t.Fatal(err)
					}
					req.Host = matrix.Host
					if c.Token != "" {
						req.Header.Set("Authorization", "Bearer "+c.Token)
					}
					resp, err := (&http.Client{Transport: tr, Timeout: time.Minute}).Do(req)
					if err != nil {
						t.Fatal(err)
					}
					defer resp.Body.Close()
					_, _ = io.Copy(io.Discard, resp.Body)
					return resp
				}
				if c.Resumed {
					get()
				}
				reached.Store(false)
				resp := get()
				if resp.Proto != proto || resumed.Load() != c.Resumed {
					t.Fatalf("over %s, resumed %v, want %s and %v", resp.Proto, resumed.Load(), proto, c.Resumed)
				}
				return matrix.Outcome{Status: resp.StatusCode, Challenge: resp.Header.Get("WWW-Authenticate"), Reached: reached.Load()}
			})
		})
	}
}

// reachable is a service that says whether it was called.
type reachable struct {
	*health.Server
	reached atomic.Bool
}

func (s *reachable) Check(ctx context.Context, r *healthgrpc.HealthCheckRequest) (*healthgrpc.HealthCheckResponse, error) {
	s.reached.Store(true)
	return s.Server.Check(ctx, r)
}

func (s *reachable) Watch(r *healthgrpc.HealthCheckRequest, stream healthgrpc.Health_WatchServer) error {
	s.reached.Store(true)
	return stream.Send(&healthgrpc.HealthCheckResponse{Status: healthgrpc.HealthCheckResponse_SERVING})
}

// The interceptors of gRPC, for one call and for a stream. Its statuses are written in the
// words of the table.
func TestGRPC(t *testing.T) {
	w := matrix.New(t)
	i, err := grpcresource.New(grpcresource.Config{
		Verifier: w.Verifier(t, certsource.TLS{}, nil), AllowAnyMethod: true, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	service := &reachable{Server: health.NewServer()}
	srv := grpc.NewServer(append(i.ServerOptions(), grpc.Creds(credentials.NewTLS(serverTLS(w))))...)
	healthgrpc.RegisterHealthServer(srv, service)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(srv.Stop)
	for _, kind := range []string{"unary", "stream"} {
		t.Run(kind, func(t *testing.T) {
			w.Run(t, func(t *testing.T, c matrix.Call) matrix.Outcome {
				cfg, resumed := clientTLS(w, c)
				call := func() matrix.Outcome {
					conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(credentials.NewTLS(cfg)))
					if err != nil {
						t.Fatal(err)
					}
					defer conn.Close()
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					defer cancel()
					if c.Token != "" {
						ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+c.Token)
					}
					service.reached.Store(false)
					var header metadata.MD
					if kind == "unary" {
						_, err = healthgrpc.NewHealthClient(conn).Check(ctx, &healthgrpc.HealthCheckRequest{}, grpc.Header(&header))
					} else {
						var stream healthgrpc.Health_WatchClient
						if stream, err = healthgrpc.NewHealthClient(conn).Watch(ctx, &healthgrpc.HealthCheckRequest{}); err != nil {
							t.Fatal(err)
						}
						_, err = stream.Recv()
						header, _ = stream.Header()
						if len(header.Get("www-authenticate")) == 0 {
							header = stream.Trailer()
						}
					}
					out := matrix.Outcome{Reached: service.reached.Load()}
					switch status.Code(err) {
					case codes.OK:
						out.Status = http.StatusOK
					case codes.Unauthenticated:
						out.Status = http.StatusUnauthorized
					default:
						t.Fatalf("%v, want OK or Unauthenticated", err)
					}
					if values := header.Get("www-authenticate"); len(values) > 0 {
						out.Challenge = values[0]
					}
					return out
				}
				if c.Resumed {
					call()
				}
				out := call()
				if resumed.Load() != c.Resumed {
					t.Fatalf("resumed %v, want %v", resumed.Load(), c.Resumed)
				}
				return out
			})
		})
	}
}
