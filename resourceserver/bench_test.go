package resourceserver

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"testing"
	"time"

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

// BenchmarkTokensInMemory is what 100,000 tokens hold that are remembered, each with the
// claims of a usual one: such as the verifier has signed ones, and such as introspection
// has answered. Twice as many more do not hold more: Config.CacheSize is the bound.
func BenchmarkTokensInMemory(b *testing.B) {
	const size = 100_000
	payload := func(i int) []byte {
		return fmt.Appendf(nil, `{"active":true,"iss":"https://as.example.com","sub":"client-%06d","client_id":"client-%06d","aud":"https://rs.example.com",`+
			`"jti":"WbA3mQ0eS5yV8uK%07d","iat":1764000000,"exp":9999999999,"scope":"accounts payments","cnf":{"x5t#S256":"bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-%03d"}}`,
			i, i, i, i%1000)
	}
	held := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	run := func(b *testing.B, fill func(c any, from, to int) any) {
		for b.Loop() {
			before := held()
			c := fill(nil, 0, size)
			full := held()
			c = fill(c, size, 3*size)
			more := held()
			runtime.KeepAlive(c)
			b.ReportMetric(float64(full-before)/size, "held-B/token")
			b.ReportMetric(float64(full-before)/(1<<20), "held-MB")
			b.ReportMetric(float64(more-before)/(1<<20), "held-MB-after-300,000")
			if more-before > (full-before)*5/4 {
				b.Errorf("100,000 tokens hold %d bytes, and %d when as many again have come twice", full-before, more-before)
			}
		}
	}
	until := time.Unix(9999999999, 0)
	b.Run("signed", func(b *testing.B) {
		run(b, func(c any, from, to int) any {
			v, _ := c.(*cache[verifiedToken])
			if v == nil {
				v = newCache[verifiedToken](size)
			}
			for i := from; i < to; i++ {
				t, _, err := parseClaims(payload(i))
				if err != nil {
					b.Fatal(err)
				}
				v.put(hash(t.ID), verifiedToken{token: t}, until)
			}
			return v
		})
	})
	b.Run("introspected", func(b *testing.B) {
		run(b, func(c any, from, to int) any {
			v, _ := c.(*cache[answer])
			if v == nil {
				v = newCache[answer](size)
			}
			for i := from; i < to; i++ {
				t, err := parseIntrospection(payload(i))
				if err != nil {
					b.Fatal(err)
				}
				v.put(hash(t.ID), answer{token: t}, until)
			}
			return v
		})
	})
}
