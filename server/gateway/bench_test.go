package gateway_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/pkitest"
	"github.com/certbound/certbound/server/gateway"
	"github.com/certbound/certbound/server/listen"
	"github.com/certbound/certbound/server/telemetry"
	"github.com/certbound/certbound/server/test/matrix"
)

// The same kilobyte, over kept-alive mutual TLS, with HTTP/1.1: the floor is
// httputil.ReverseProxy with a check that knows one token and one certificate by heart;
// the gateway has everything on: a token that is verified, the binding, identity, the
// access log and metrics. Client, proxy and API run in this process, so the CPU time is
// that of all three, and the difference what the gateway adds.
func BenchmarkProxy(b *testing.B) {
	body := strings.Repeat("x", 1024)
	w := &world{World: matrix.New(b), t: b, log: new(buffer)}
	w.api = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, body) }))
	b.Cleanup(w.api.Close)
	target, err := url.Parse(w.api.URL)
	if err != nil {
		b.Fatal(err)
	}
	token := w.Token(b, w.L1, nil)
	thumbprint := certbound.Thumbprint(w.L1.Cert)

	floor := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target); r.SetXForwarded() },
		Transport: &http.Transport{MaxIdleConnsPerHost: 256},
	}
	hardCoded := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 || r.Header.Get("Authorization") != "Bearer "+token ||
			certbound.Thumbprint(r.TLS.PeerCertificates[0]) != thumbprint {
			rw.WriteHeader(http.StatusUnauthorized)
			return
		}
		floor.ServeHTTP(rw, r)
	})
	proxy, err := gateway.NewProxy(w.config(setup{identity: gateway.IdentityConfig{
		ClientCert: true, Claims: []gateway.ClaimField{{Claim: "sub", Field: "X-Auth-Sub"}}, Assertion: everything().Assertion,
	}}), gateway.ProxyOptions{
		Logger: slog.New(slog.NewJSONHandler(io.Discard, nil)), AccessLog: true, Metrics: gateway.NewMetrics(prometheus.NewRegistry()),
	})
	if err != nil {
		b.Fatal(err)
	}
	leaf := w.ServerCA.MustLeaf(pkitest.LeafOptions{Subject: "CN=" + matrix.Host, DNS: []string{matrix.Host}, Server: true})
	addresses := map[string]string{}
	for name, handler := range map[string]http.Handler{"floor": hardCoded, "gateway": proxy} {
		srv, err := listen.New(listen.Config{
			Name: "bench", Handler: handler, Pair: listen.NewPair(leaf.TLS()), AskForCertificate: true, Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			b.Fatal(err)
		}
		l, err := listen.Open("127.0.0.1:0", "address")
		if err != nil {
			b.Fatal(err)
		}
		go func() { _ = srv.Serve(l) }()
		b.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			_ = srv.Shutdown(ctx)
		})
		addresses[name] = l.Addr().String()
	}
	connect := func(name string) *http.Client {
		address := addresses[name]
		c := w.client(w.L1, func(cfg *tls.Config) { cfg.NextProtos = []string{"http/1.1"} })
		c.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		}
		return c
	}
	request := func(c *http.Client) {
		req, _ := http.NewRequest("GET", "https://"+matrix.Host+"/orders", nil)
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := c.Do(req)
		if err != nil {
			b.Fatal(err)
		}
		n, _ := io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 200 || n != 1024 {
			b.Fatalf("status %d, %d bytes", resp.StatusCode, n)
		}
	}
	// The two take turns, so that neither has the quieter machine or the smaller heap.
	compare := func(b *testing.B, block int, once func(name string)) {
		spent := map[string]time.Duration{}
		blocks := 0
		for b.Loop() {
			for _, name := range []string{"floor", "gateway"} {
				start := cpu()
				for range block {
					once(name)
				}
				spent[name] += cpu() - start
			}
			blocks++
		}
		b.ReportMetric(float64(spent["floor"].Microseconds())/float64(blocks*block), "floor-cpu-µs")
		b.ReportMetric(float64(spent["gateway"].Microseconds())/float64(blocks*block), "gateway-cpu-µs")
		b.ReportMetric(float64(spent["gateway"])/float64(spent["floor"]), "ratio")
	}
	b.Run("warm", func(b *testing.B) {
		clients := map[string]*http.Client{"floor": connect("floor"), "gateway": connect("gateway")}
		compare(b, 50, func(name string) { request(clients[name]) })
	})
	b.Run("new connection", func(b *testing.B) {
		compare(b, 10, func(name string) {
			c := connect(name)
			request(c)
			c.CloseIdleConnections()
		})
	})
}

func cpu() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// discardWriter is a connection that takes everything.
type discardWriter struct{ header http.Header }

func (w *discardWriter) Header() http.Header              { return w.header }
func (w *discardWriter) Write(b []byte) (int, error)      { return len(b), nil }
func (w *discardWriter) WriteHeader(int)                  {}
func (w *discardWriter) FlushError() error                { return nil }
func (w *discardWriter) SetReadDeadline(time.Time) error  { return nil }
func (w *discardWriter) SetWriteDeadline(time.Time) error { return nil }

type answering func(*http.Request) (*http.Response, error)

func (f answering) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// What a warm request costs between the connection of the client and that to the API, where
// the program's own code is: beside it httputil.ReverseProxy alone.
func BenchmarkHandler(b *testing.B) {
	w := newWorld(b, setup{})
	body := strings.Repeat("x", 1024)
	answer := answering(func(r *http.Request) (*http.Response, error) {
		return &http.Response{
			StatusCode: 200, ProtoMajor: 1, ProtoMinor: 1, Request: r, ContentLength: int64(len(body)), Body: io.NopCloser(strings.NewReader(body)),
			Header: http.Header{"Content-Type": {"text/plain"}, "Content-Length": {"1024"}, "Date": {"Tue, 24 Nov 2026 09:30:00 GMT"}},
		}, nil
	})
	logger, err := telemetry.NewLogger(io.Discard, telemetry.FormatJSON, "info")
	if err != nil {
		b.Fatal(err)
	}
	proxy, err := gateway.NewProxy(w.config(setup{identity: gateway.IdentityConfig{
		ClientCert: true, Claims: []gateway.ClaimField{{Claim: "client_id", Field: "X-Client-Id"}, {Claim: "scope", Field: "X-Scope"}},
	}}), gateway.ProxyOptions{
		Logger: logger, AccessLog: true, Metrics: gateway.NewMetrics(prometheus.NewRegistry()),
		Transport: func(http.RoundTripper) http.RoundTripper { return answer },
	})
	if err != nil {
		b.Fatal(err)
	}
	target, err := url.Parse(w.api.URL)
	if err != nil {
		b.Fatal(err)
	}
	floor := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target); r.SetXForwarded() }, Transport: answer}
	token := "Bearer " + w.Token(b, w.L1, nil)
	ctx := certsource.ConnContext(b.Context(), &net.TCPConn{})
	state := &tls.ConnectionState{PeerCertificates: w.L1.Chain()}
	for name, h := range map[string]http.Handler{"floor": floor, "gateway": proxy} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			start := cpu()
			for b.Loop() {
				ctx, cancel := context.WithCancel(ctx)
				r := &http.Request{
					Method: "GET", Host: matrix.Host, RequestURI: "/orders", URL: &url.URL{Path: "/orders"}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
					RemoteAddr: "127.0.0.1:4711", TLS: state, Body: http.NoBody,
					Header: http.Header{"Authorization": {token}, "User-Agent": {"bench/1"}, "Accept": {"*/*"}},
				}
				h.ServeHTTP(&discardWriter{http.Header{}}, r.WithContext(ctx))
				cancel()
			}
			b.ReportMetric(float64((cpu()-start).Nanoseconds())/float64(b.N), "cpu-ns/op")
		})
	}
}

// What the decision alone costs, of a token that is known.
func BenchmarkDecide(b *testing.B) {
	w := newWorld(b, setup{})
	r := httptest.NewRequest("GET", "https://rs.test/orders/7?x=1", nil)
	r.Header.Set("Authorization", "Bearer "+w.Token(b, w.L1, nil))
	r.TLS = &tls.ConnectionState{PeerCertificates: w.L1.Chain()}
	d := w.proxy.Decider()
	b.ReportAllocs()
	for b.Loop() {
		if v := d.Decide(b.Context(), d.RequestOf(r)); !v.Allowed {
			b.Fatal(v.Decision)
		}
	}
}

// What a connection holds that has made one request and waits, both ends of it in this
// process: -benchtime 10000x is ten thousand of them at a time. Each still works then.
func BenchmarkIdleConnections(b *testing.B) {
	w := newWorld(b, setup{listen: listen.Config{MaxConnections: b.N + 100}})
	text := "GET / HTTP/1.1\nHost: rs.test\nAuthorization: Bearer " + w.Token(b, w.L1, nil) + "\n\n"
	ask := func(c *tls.Conn) {
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != 200 {
			b.Fatal(resp, err)
		}
		io.Copy(io.Discard, resp.Body)
	}
	held := func() uint64 {
		w.last()
		w.mu.Lock()
		w.decisions = nil
		w.mu.Unlock()
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse
	}
	before := held()
	conns := make([]*tls.Conn, b.N)
	b.ResetTimer()
	for i := range conns {
		conns[i] = w.raw(w.L1, text)
		ask(conns[i])
	}
	b.StopTimer()
	b.ReportMetric(float64(held()-before)/float64(b.N), "held-B/conn")
	for i := range conns {
		conns[i].SetDeadline(time.Now().Add(time.Minute))
		if i%(b.N/10+1) == 0 {
			io.WriteString(conns[i], strings.ReplaceAll(text, "\n", "\r\n"))
			ask(conns[i])
		}
	}
}
