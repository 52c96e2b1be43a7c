// Package middleware measures what the middleware of package resourceserver adds to a
// request: over an empty handler with a warm verdict, and with one ES256 verification
// where the token is new.
package middleware

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/bench/load"
	"github.com/certbound/certbound/bench/material"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/internal/jws"
	"github.com/certbound/certbound/jwks"
	"github.com/certbound/certbound/pkitest"
	"github.com/certbound/certbound/resourceserver"
)

// Cases are the measurements, in the order of the report.
var Cases = []struct {
	Name string
	Run  func(*testing.B)
}{
	{"ES256 verification alone", verification},
	{"empty handler", func(b *testing.B) { serve(b, empty, false) }},
	{"middleware, warm verdict", func(b *testing.B) { serve(b, protect(b, 0), false) }},
	{"middleware, new token, same connection", func(b *testing.B) { serve(b, protect(b, -1), false) }},
	{"middleware, new token, new connection", func(b *testing.B) { serve(b, protect(b, -1), true) }},
}

var (
	leaf   = pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: material.SubjectDN})
	key, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	token  = sign()
	empty  = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) })
)

func sign() string {
	s, err := jws.NewSigner(jws.ES256, "at+jwt", "k1", key)
	if err != nil {
		panic(err)
	}
	t, err := s.Sign(fmt.Appendf(nil, `{"iss":"https://as.test","sub":"bench","client_id":"bench","aud":%q,"scope":"read",`+
		`"iat":%d,"exp":%d,"jti":"fV8gqYzBzBqQ0u0m6w0m2A","cnf":{"x5t#S256":%q}}`,
		material.Resource, time.Now().Unix(), time.Now().Add(time.Hour).Unix(), certbound.Thumbprint(leaf.Cert)))
	if err != nil {
		panic(err)
	}
	return t
}

func verification(b *testing.B) {
	sum := sha256.Sum256([]byte(token))
	sig, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	defer cpu(b)()
	for b.Loop() {
		if !ecdsa.VerifyASN1(&key.PublicKey, sum[:], sig) {
			b.Fatal("does not fit")
		}
	}
}

// CPU is the name of the metric that is CPU time of this process, collection of garbage
// included; unlike the time on the clock, it does not grow with the load of the machine.
const CPU = "cpu-ns/op"

func cpu(b *testing.B) func() {
	before, err := load.CPU(os.Getpid())
	if err != nil {
		b.Fatal(err)
	}
	return func() {
		if after, err := load.CPU(os.Getpid()); err == nil {
			b.ReportMetric(float64(after-before)/float64(b.N), CPU)
		}
	}
}

// protect returns the middleware before the empty handler. A negative cache size is
// no cache: then every token is a new one.
func protect(b *testing.B, cache int) http.Handler {
	v, err := resourceserver.New(resourceserver.Config{
		Resource:  material.Resource,
		Issuer:    "https://as.test",
		Source:    certsource.TLS{},
		Keys:      resourceserver.Keys{Set: &jwks.Set{Keys: []jose.JSONWebKey{{Key: &key.PublicKey, KeyID: "k1", Algorithm: jws.ES256, Use: "sig"}}}},
		CacheSize: cache,
		Logger:    slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	return v.Middleware("read")(empty)
}

// discard is a response writer that keeps its header map, as net/http does not; what
// is measured is the middleware.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(status int)      { d.status = status }

type peer struct{ net.Conn }

func (peer) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }
func (peer) LocalAddr() net.Addr  { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 2} }

func serve(b *testing.B, h http.Handler, newConnection bool) {
	r, err := http.NewRequest(http.MethodGet, material.Resource+"/", nil)
	if err != nil {
		b.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.TLS = &tls.ConnectionState{
		Version: tls.VersionTLS13, HandshakeComplete: true, ServerName: "rs.test",
		PeerCertificates: []*x509.Certificate{leaf.Cert},
	}
	request := r.WithContext(certsource.ConnContext(context.Background(), peer{}))
	w := &discard{header: make(http.Header)}
	b.ReportAllocs()
	defer cpu(b)()
	for b.Loop() {
		if newConnection {
			request = r.WithContext(certsource.ConnContext(context.Background(), peer{}))
		}
		h.ServeHTTP(w, request)
		if w.status != http.StatusNoContent {
			b.Fatalf("status %d", w.status)
		}
		clear(w.header)
	}
}
