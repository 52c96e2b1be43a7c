package resourceserver

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/internal/jws"
	"github.com/certbound/certbound/jwks"
	"github.com/certbound/certbound/pkitest"
)

type nopWriter struct{ h http.Header }

func (w nopWriter) Header() http.Header         { return w.h }
func (w nopWriter) Write(p []byte) (int, error) { return len(p), nil }
func (w nopWriter) WriteHeader(int)             {}

// BenchmarkMiddleware: what a request costs over an empty handler, with a token that is
// in the cache and with one that is not; beside it the signature alone.
func BenchmarkMiddleware(b *testing.B) {
	key := pkitest.MustKey(pkitest.P256)
	set := must(jwks.Parse(must(json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "2026-11-a", Algorithm: "ES256"}}})), jwks.Strict))
	presented := certsource.NewPresented("tls", pkitest.MustSelfSigned(pkitest.LeafOptions{}).Cert, nil)
	signer := must(jws.NewSigner("ES256", "at+jwt", "2026-11-a", key))
	token := must(signer.Sign([]byte(`{"iss":"https://as.example.com","sub":"client-1","client_id":"client-1","aud":"https://rs.example.com",` +
		`"jti":"WbA3mQ0eS5yV8uK2nR7xTg","iat":1764000000,"exp":9999999999,"scope":"accounts payments","cnf":{"x5t#S256":"` + presented.Thumbprint() + `"}}`)))
	empty := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	protect := func(cacheSize int, src certsource.Source) http.Handler {
		v := must(New(Config{
			Resource: "https://rs.example.com", Issuer: "https://as.example.com", Keys: Keys{Set: set},
			Source: src, CacheSize: cacheSize, Logger: slog.New(slog.DiscardHandler),
		}))
		return v.Middleware("accounts")(empty)
	}
	r := must(http.NewRequestWithContext(context.Background(), "GET", "https://rs.example.com/accounts?x=1", nil))
	for name, value := range map[string]string{
		"Authorization": "Bearer " + token, "Accept": "*/*", "User-Agent": "bench/1", "Accept-Encoding": "gzip",
		"Content-Type": "application/json", "X-Request-Id": "1",
	} {
		r.Header.Set(name, value)
	}
	for _, bench := range []struct {
		name string
		h    http.Handler
	}{
		{"empty handler", empty},
		{"warm", protect(0, fixedSource{presented})},
		{"cold", protect(-1, fixedSource{presented})},
	} {
		b.Run(bench.name, func(b *testing.B) {
			w := nopWriter{make(http.Header)}
			bench.h.ServeHTTP(w, r)
			b.ReportAllocs()
			for b.Loop() {
				bench.h.ServeHTTP(w, r)
			}
		})
	}
	b.Run("ES256 verification alone", func(b *testing.B) {
		parsed := must(jws.Parse(token, 16<<10))
		b.ReportAllocs()
		for b.Loop() {
			if err := parsed.Verify(key.Public()); err != nil {
				b.Fatal(err)
			}
		}
	})
}
