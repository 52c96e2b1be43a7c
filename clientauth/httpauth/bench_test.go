package httpauth_test

import (
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/clientauth/httpauth"
	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pkitest"
)

// BenchmarkHandler measures the middleware over an empty handler, both called without
// a network: the difference of warm and empty is what a kept-alive connection pays.
func BenchmarkHandler(b *testing.B) {
	c := fixture.Certs()
	cfg := settings(b)
	cfg.Logger = slog.New(slog.DiscardHandler)
	m, err := httpauth.New(cfg)
	if err != nil {
		b.Fatal(err)
	}
	empty := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	body := strings.NewReader("")
	const form = "grant_type=client_credentials&client_id=c-dn&scope=read"

	run := func(name string, h http.Handler, leaf *pkitest.Leaf, form string) {
		b.Run(name, func(b *testing.B) {
			r := httptest.NewRequest("POST", "https://as.test/token", nil)
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			r.Header.Set("User-Agent", "bench")
			r.Header.Set("Accept", "*/*")
			r.Header.Set("Accept-Encoding", "gzip")
			r.TLS = &tls.ConnectionState{PeerCertificates: leaf.Chain()}
			r = r.WithContext(certsource.ConnContext(b.Context(), peer{}))
			r.Body = io.NopCloser(body)
			r.ContentLength = int64(len(form))
			w := httptest.NewRecorder()
			b.ReportAllocs()
			for b.Loop() {
				body.Reset(form)
				h.ServeHTTP(w, r)
			}
			if w.Code != 200 {
				b.Fatal(w.Code, w.Body)
			}
		})
	}
	run("empty", empty, c.L1, form)
	run("warm PKI", m.Handler(empty), c.L1, form)
	run("warm self-signed", m.Handler(empty), c.S1, strings.ReplaceAll(form, "c-dn", "c-self"))
}

type peer struct{ net.Conn }

func (peer) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }
