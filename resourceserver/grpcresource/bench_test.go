package grpcresource_test

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/certbound/certbound/resourceserver"
)

// BenchmarkInterceptor: what the unary interceptor costs by itself, with a token that is in
// the cache and with one that is not.
func BenchmarkInterceptor(b *testing.B) {
	p := certs()
	for _, bench := range []struct {
		name string
		size int
	}{{"warm", 0}, {"cold", -1}} {
		b.Run(bench.name, func(b *testing.B) {
			w := newWorld(b, func(s *settings) {
				s.verifier.CacheSize = bench.size
				s.verifier.Observer, s.verifier.Logger = nil, slog.New(slog.DiscardHandler)
			})
			ctx := peer.NewContext(b.Context(), &peer.Peer{
				Addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 4711},
				AuthInfo: credentials.TLSInfo{State: tls.ConnectionState{
					HandshakeComplete: true, PeerCertificates: p.right.Chain(),
				}},
			})
			ctx = metadata.NewIncomingContext(ctx, metadata.Pairs(
				":authority", host, "user-agent", "bench/1", "grpc-accept-encoding", "gzip",
				"traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
				"authorization", "Bearer "+w.token(cnf(p.right))))
			info := &grpc.UnaryServerInfo{FullMethod: unaryCall}
			handler := func(ctx context.Context, _ any) (any, error) {
				resourceserver.TokenFromContext(ctx)
				return nil, nil
			}
			if _, err := w.i.Unary(ctx, nil, info, handler); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				w.i.Unary(ctx, nil, info, handler)
			}
		})
	}
}

// BenchmarkCall: a call over mutual TLS, with the check and, under "exempt", without.
func BenchmarkCall(b *testing.B) {
	p := certs()
	for _, exempt := range []bool{true, false} {
		b.Run(map[bool]string{true: "exempt", false: "checked"}[exempt], func(b *testing.B) {
			w := newWorld(b, func(s *settings) {
				s.verifier.Observer, s.verifier.Logger = nil, slog.New(slog.DiscardHandler)
				if exempt {
					s.grpc.Methods, s.grpc.Exempt = nil, []string{emptyCall}
				} else {
					s.grpc.Methods = map[string][]string{emptyCall: {"read"}}
				}
			})
			client := grpc_testing.NewTestServiceClient(w.connect(p.right, nil))
			ctx := bearer(b.Context(), w.token(cnf(p.right)))
			in := new(grpc_testing.Empty)
			if _, err := client.EmptyCall(ctx, in); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := client.EmptyCall(ctx, in); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
