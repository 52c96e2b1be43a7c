package gateway_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/pkitest"
	"github.com/certbound/certbound/resourceserver"
	"github.com/certbound/certbound/server/gateway"
	"github.com/certbound/certbound/server/listen"
	"github.com/certbound/certbound/server/test/matrix"
)

// A world is a gateway at rs.test, with an API behind it.
type world struct {
	*matrix.World
	t       testing.TB
	api     *httptest.Server
	proxy   *gateway.Proxy
	address string
	log     *buffer

	mu        sync.Mutex
	seen      []*http.Request // by the API
	handler   http.HandlerFunc
	decisions []*decision.Decision
}

type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// setup is what a test changes.
type setup struct {
	routes   []*gateway.Route // each without Verifier gets one
	identity gateway.IdentityConfig
	target   gateway.Target
	upstream gateway.UpstreamConfig
	rs       func(*resourceserver.Config)
	server   func(*httptest.Server)
	listen   listen.Config

	generation func() uint64
}

const content = "what the API says"

func newWorld(t testing.TB, s setup) *world {
	t.Helper()
	w := &world{World: matrix.New(t), t: t, log: new(buffer)}
	w.api = httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.seen = append(w.seen, r)
		h := w.handler
		w.mu.Unlock()
		if h != nil {
			h(rw, r)
			return
		}
		io.WriteString(rw, content)
	}))
	w.api.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	if s.server != nil {
		s.server(w.api)
	} else {
		w.api.Start()
	}
	t.Cleanup(w.api.Close)
	cfg := w.config(s)
	var err error
	w.proxy, err = gateway.NewProxy(cfg, gateway.ProxyOptions{
		Logger: slog.New(slog.NewJSONHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})), AccessLog: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	leaf := w.ServerCA.MustLeaf(pkitest.LeafOptions{Subject: "CN=" + matrix.Host, DNS: []string{matrix.Host, "other.test"}, Server: true})
	s.listen.Name, s.listen.Handler, s.listen.Logger = "gateway", w.proxy, slog.New(slog.DiscardHandler)
	s.listen.Pair, s.listen.AskForCertificate = listen.NewPair(leaf.TLS()), true
	srv, err := listen.New(s.listen)
	if err != nil {
		t.Fatal(err)
	}
	l, err := listen.Open("127.0.0.1:0", "address")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = srv.Shutdown(ctx)
	})
	w.address = l.Addr().String()
	return w
}

// config returns the settings of the proxy.
func (w *world) config(s setup) gateway.ProxyConfig {
	w.t.Helper()
	if s.upstream.URL == "" {
		s.upstream.URL = w.api.URL
	}
	up, err := gateway.NewUpstream(s.upstream)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(up.CloseIdle)
	identity, err := gateway.NewIdentity(s.identity)
	if err != nil {
		w.t.Fatal(err)
	}
	if s.routes == nil {
		s.routes = []*gateway.Route{{Name: "api", CheckCertificate: w.Check}}
	}
	s.target.Upstream = up
	cfg := gateway.ProxyConfig{Targets: map[*gateway.Route]*gateway.Target{}}
	for _, r := range s.routes {
		if r.Verifier == nil && !r.Anonymous {
			r.Verifier = w.Verifier(w.t, certsource.TLS{}, func(c *resourceserver.Config) {
				c.CheckCertificate = nil
				if s.rs != nil {
					s.rs(c)
				}
			})
		}
		if r.Identity == nil {
			r.Identity = identity
		}
		target := s.target
		cfg.Targets[r] = &target
	}
	cfg.Decider, err = gateway.NewDecider(gateway.Config{
		Routes: s.routes, Source: certsource.TLS{}, TrustGeneration: s.generation,
		Observer: func(_ context.Context, d *decision.Decision) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.decisions = append(w.decisions, d)
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return cfg
}

func (w *world) serve(h http.HandlerFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.handler = h
}

// last returns the last request that the API has seen, or nil, and forgets all.
func (w *world) last() *http.Request {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.seen) == 0 {
		return nil
	}
	r := w.seen[len(w.seen)-1]
	w.seen = nil
	return r
}

func (w *world) reason() decision.Reason {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.decisions) == 0 {
		return ""
	}
	return w.decisions[len(w.decisions)-1].Reason()
}

// client returns a client with a certificate, or without.
func (w *world) client(leaf *pkitest.Leaf, change func(*tls.Config)) *http.Client {
	cfg := w.ClientTLS(leaf)
	cfg.ServerName = ""
	if change != nil {
		change(cfg)
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(!slices.Equal(cfg.NextProtos, []string{"http/1.1"}))
	tr := &http.Transport{
		TLSClientConfig: cfg, Protocols: protocols, DisableCompression: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, w.address)
		},
	}
	w.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 60 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

type answer struct {
	status  int
	header  http.Header
	trailer http.Header
	proto   string
	body    string
}

func (w *world) do(c *http.Client, method, path, token string, change ...func(*http.Request)) answer {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, "https://"+matrix.Host+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for _, f := range change {
		f(req)
	}
	resp, err := c.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, resp.Trailer, resp.Proto, string(body)}
}

// raw opens a TLS connection for HTTP/1.1 and sends text as it stands.
func (w *world) raw(leaf *pkitest.Leaf, text string) *tls.Conn {
	w.t.Helper()
	cfg := w.ClientTLS(leaf)
	cfg.NextProtos = []string{"http/1.1"}
	c, err := tls.Dial("tcp", w.address, cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, strings.ReplaceAll(text, "\n", "\r\n")); err != nil {
		w.t.Fatal(err)
	}
	return c
}
