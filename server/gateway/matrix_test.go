package gateway_test

import (
	"crypto/tls"
	"testing"

	"github.com/certbound/certbound/server/test/matrix"
)

// The reverse proxy comes to the answers of the table, over HTTP/1.1 and HTTP/2.
func TestMatrix(t *testing.T) {
	w := newWorld(t, setup{})
	for _, proto := range []string{"h2", "http/1.1"} {
		t.Run(proto, func(t *testing.T) {
			w.Run(t, func(t *testing.T, c matrix.Call) matrix.Outcome {
				cache := tls.NewLRUClientSessionCache(1)
				client := func() (a answer, resumed bool) {
					h := w.client(c.Leaf, func(cfg *tls.Config) {
						cfg.ClientSessionCache = cache
						cfg.NextProtos = []string{proto}
						cfg.VerifyConnection = func(s tls.ConnectionState) error { resumed = s.DidResume; return nil }
					})
					defer h.CloseIdleConnections()
					return w.do(h, "GET", "/orders", c.Token), resumed
				}
				if c.Resumed {
					client()
				}
				w.last()
				a, resumed := client()
				if h2 := a.proto == "HTTP/2.0"; h2 != (proto == "h2") {
					t.Fatalf("the answer came over %s", a.proto)
				}
				if resumed != c.Resumed {
					t.Fatalf("resumed %v, want %v", resumed, c.Resumed)
				}
				return matrix.Outcome{Status: a.status, Challenge: a.header.Get("WWW-Authenticate"), Reached: w.last() != nil}
			})
		})
	}
}
