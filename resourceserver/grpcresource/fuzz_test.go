package grpcresource_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/resourceserver"
)

// Whatever stands in the metadata of a call, it passes only with the good token and the
// certificate that the proxy has sent, and is otherwise refused with a status.
func FuzzMetadata(f *testing.F) {
	p := certs()
	var preset certsource.Preset
	for _, preset = range certsource.Presets() {
		if preset.Name == "rfc9440" {
			break
		}
	}
	w := newWorld(f, func(s *settings) {
		src, err := certsource.NewPreset("rfc9440", certsource.PresetConfig{
			Hop: certsource.Hop{Prefixes: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}},
		})
		if err != nil {
			f.Fatal(err)
		}
		s.verifier.Source = src
		s.verifier.Logger = slog.New(slog.DiscardHandler)
		s.verifier.Observer = nil
	})
	// Short inputs, so that the fuzzer does not spend its time on making them shorter.
	words := strings.NewReplacer("TOKEN", w.token(cnf(p.right)),
		"RIGHT", preset.Forward(p.right.Cert).Get("Client-Cert"), "WRONG", preset.Forward(p.wrong.Cert).Get("Client-Cert"))
	f.Add("Bearer TOKEN", "client-cert", "RIGHT")
	f.Add("Bearer TOKEN", "client_cert", "RIGHT")
	f.Add("Bearer TOKEN", "client-cert", "WRONG")
	f.Add("Bearer TOKEN", "authorization", "Bearer TOKEN")
	f.Add("DPoP TOKEN", ":path", "/?access_token=x")
	f.Add("", "content-type", "application/x-www-form-urlencoded")
	f.Add("Bearer \x00", "", ":")
	f.Fuzz(func(t *testing.T, authorization, name, value string) {
		ctx := peer.NewContext(context.Background(), &peer.Peer{Addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}})
		md := metadata.MD{"authorization": {words.Replace(authorization)}}
		md.Append(name, words.Replace(value))
		passed := false
		_, err := w.i.Unary(metadata.NewIncomingContext(ctx, md), nil, &grpc.UnaryServerInfo{FullMethod: unaryCall}, func(context.Context, any) (any, error) {
			passed = true
			return nil, nil
		})
		if passed != (err == nil) {
			t.Fatalf("passed: %t, %v", passed, err)
		}
		if passed {
			if !strings.EqualFold(name, "client-cert") || !strings.Contains(value, "RIGHT") || !strings.Contains(authorization, "TOKEN") {
				t.Errorf("passed with %q and %q: %q", authorization, name, value)
			}
			return
		}
		if _, ok := errors.AsType[*resourceserver.Error](err); !ok || status.Code(err) != codes.Unauthenticated {
			t.Errorf("got %v", err)
		}
	})
}
