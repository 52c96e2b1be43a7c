package extauthz

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/server/listen"
)

// ServerConfig holds the settings of a [Server].
type ServerConfig struct {
	// Name is for logs.
	Name string
	// Authorization answers. Required.
	Authorization *Authorization
	// Pair is the server's certificate; clients are asked for theirs. If nil, the server
	// speaks without TLS: over a unix socket, or to a proxy on the same machine.
	Pair *listen.Pair
	// MaxConnections bounds the connections at a time. If zero, 10,000.
	MaxConnections int
	// MaxMessageBytes bounds a question. If zero, 1 MiB.
	MaxMessageBytes int
	// Logger is told of refused connections. If nil, slog.Default.
	Logger *slog.Logger
	// Unary is put around each call, such as for traces. If nil, nothing is.
	Unary grpc.UnaryServerInterceptor
}

// A Server serves an [Authorization] over gRPC.
type Server struct {
	cfg   ServerConfig
	grpc  *grpc.Server
	limit *listen.Limit
}

// NewServer returns a server.
func NewServer(cfg ServerConfig) (*Server, error) {
	if cfg.Authorization == nil {
		return nil, errors.New("extauthz: Authorization: not set")
	}
	if cfg.MaxConnections < 0 || cfg.MaxMessageBytes < 0 {
		return nil, fmt.Errorf("extauthz: expected positive limits, found MaxConnections %d and MaxMessageBytes %d", cfg.MaxConnections, cfg.MaxMessageBytes)
	}
	creds := insecure.NewCredentials()
	if cfg.Pair != nil {
		conf := listen.TLSConfig(cfg.Pair, true)
		conf.NextProtos = []string{"h2"}
		creds = credentials.NewTLS(conf)
	}
	s := &Server{cfg: cfg, limit: listen.NewLimit(cmp.Or(cfg.MaxConnections, 10_000), cmp.Or(cfg.Logger, slog.Default()).With("listener", cfg.Name))}
	options := []grpc.ServerOption{
		grpc.Creds(transport{creds}),
		grpc.MaxRecvMsgSize(cmp.Or(cfg.MaxMessageBytes, 1<<20)),
		grpc.MaxHeaderListSize(64 << 10),
		grpc.MaxConcurrentStreams(1000),
		// Goroutines that stay have grown their stacks already; if all are busy there are others.
		grpc.NumStreamWorkers(uint32(4 * runtime.GOMAXPROCS(0))),
		grpc.ConnectionTimeout(10 * time.Second),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 2 * time.Minute, Timeout: 20 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
	}
	if cfg.Unary != nil {
		options = append(options, grpc.UnaryInterceptor(cfg.Unary))
	}
	s.grpc = grpc.NewServer(options...)
	authv3.RegisterAuthorizationServer(s.grpc, cfg.Authorization)
	return s, nil
}

// Name returns the name of the settings.
func (s *Server) Name() string { return s.cfg.Name }

// Stats returns how many connections are open, and how many were refused.
func (s *Server) Stats() (open, refused int64) { return s.limit.Stats() }

// Serve serves on l until Shutdown, after which it returns [http.ErrServerClosed].
func (s *Server) Serve(l net.Listener) error {
	if err := s.grpc.Serve(s.limit.Listener(l)); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return err
	}
	return http.ErrServerClosed
}

// Shutdown ends the server when all calls are answered, or cuts them off when ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		s.grpc.GracefulStop()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		s.grpc.Stop()
		<-done
		return ctx.Err()
	}
}

// transport remembers what is known of a connection, for the hop.
type transport struct {
	credentials.TransportCredentials
}

// A connection is what is known of one.
type connection struct {
	credentials.AuthInfo
	facts context.Context
	tls   *tls.ConnectionState // nil without TLS
}

func (t transport) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := t.TransportCredentials.ServerHandshake(raw)
	if err != nil {
		return nil, nil, err
	}
	c := &connection{AuthInfo: info, facts: certsource.ConnContext(context.Background(), raw)}
	if t, ok := info.(credentials.TLSInfo); ok {
		c.tls = &t.State
	}
	return conn, c, nil
}

func (t transport) Clone() credentials.TransportCredentials {
	return transport{t.TransportCredentials.Clone()}
}
