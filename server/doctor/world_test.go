package doctor

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/authserver/memstore"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/pki"
	"github.com/certbound/certbound/pkitest"
	"github.com/certbound/certbound/server/listen"
	"github.com/certbound/certbound/server/probe"
)

const (
	publicName = "as.test"
	mtlsName   = "mtls.as.test"
	issuer     = "https://as.test"
	mtlsURL    = "https://mtls.as.test"
)

// A world is a deployment of two hosts that a doctor looks at. What a test changes before
// start is what is wrong with it.
type world struct {
	t          *testing.T
	ca         *pkitest.CA
	store      *memstore.Store
	as         *authserver.Server
	credential string

	// public and mtls are what serves the two hosts.
	public, mtls host
	now          func() time.Time
	issuer       string
	noAliases    bool
}

// A host is a listener: ours, or, if conf is set, a bare one with these TLS settings, as
// a proxy would be.
type host struct {
	handler http.Handler
	conf    *tls.Config
	cert    *pkitest.Leaf
	asks    bool
	wrap    func(http.Handler) http.Handler
	address string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, ca: pkitest.MustCA(pkitest.CAOptions{Subject: "CN=Server CA"}), store: memstore.New(), issuer: issuer}
	w.public.cert = w.leaf(publicName)
	w.mtls.cert = w.leaf(mtlsName)
	w.mtls.asks = true
	return w
}

func (w *world) leaf(names ...string) *pkitest.Leaf {
	return w.ca.MustLeaf(pkitest.LeafOptions{Subject: "CN=" + names[0], DNS: names, Server: true})
}

var discard = slog.New(slog.DiscardHandler)

// newServer makes the authorization server; source is that of the mutual-TLS host.
func (w *world) newServer(source certsource.Source) {
	w.t.Helper()
	paths, err := pki.NewValidator(pki.Config{Logger: discard})
	if err != nil {
		w.t.Fatal(err)
	}
	cfg := authserver.Config{
		Issuer: issuer, MTLSBaseURL: mtlsURL, Store: w.store, Source: source, Paths: paths, HasAnchorSet: func(string) bool { return true },
		DefaultAnchorSet: "clients",
		MTLS:             authserver.MTLSFeature{Enabled: true, TLSClientAuth: true, SelfSignedTLSClientAuth: true, CertificateBoundAccessTokens: true},
		AuthMethods:      []string{"tls_client_auth", "self_signed_tls_client_auth"}, Resources: []string{"https://api.test"}, Logger: discard,
	}
	if w.noAliases {
		cfg.MTLSBaseURL = ""
	}
	if w.as, err = authserver.New(cfg); err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.as.RotateKey(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	if w.credential, _, err = probe.Create(w.t.Context(), w.store, 0, time.Now()); err != nil {
		w.t.Fatal(err)
	}
	if w.noAliases {
		w.public.handler = probe.Handler(probe.Config{Listener: "mtls", Source: source, Store: w.store, Logger: discard}, w.as.MTLSHandler())
	}
	if w.public.handler == nil {
		w.public.handler = probe.Handler(probe.Config{Listener: "public", Store: w.store, Logger: discard}, w.as.Handler())
	}
	if w.mtls.handler == nil {
		w.mtls.handler = probe.Handler(probe.Config{Listener: "mtls", Source: source, Store: w.store, Logger: discard}, w.as.MTLSHandler())
	}
}

// start serves both hosts until the test ends.
func (w *world) start() {
	w.t.Helper()
	if w.as == nil {
		w.newServer(certsource.TLS{})
	}
	for _, h := range []*host{&w.public, &w.mtls} {
		if h.address == "" {
			h.serve(w.t)
		}
	}
}

func (h *host) serve(t *testing.T) {
	t.Helper()
	handler := h.handler
	if h.wrap != nil {
		handler = h.wrap(handler)
	}
	l, err := listen.Open("127.0.0.1:0", "--listen")
	if err != nil {
		t.Fatal(err)
	}
	h.address = l.Addr().String()
	if h.conf != nil {
		srv := &http.Server{Handler: handler, ConnContext: certsource.ConnContext, ErrorLog: slog.NewLogLogger(discard.Handler(), slog.LevelDebug)}
		go srv.Serve(tls.NewListener(l, h.conf))
		t.Cleanup(func() { srv.Close() })
		return
	}
	pair, err := tls.X509KeyPair(h.cert.ChainPEM(), h.cert.KeyPEM())
	if err != nil {
		t.Fatal(err)
	}
	srv, err := listen.New(listen.Config{Name: "test", Handler: handler, Pair: listen.NewPair(pair), AskForCertificate: h.asks, Logger: discard})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		srv.Shutdown(ctx)
		<-done
	})
}

// dial leads the two names to where they are served.
func (w *world) dial(ctx context.Context, network, address string) (net.Conn, error) {
	switch address {
	case publicName + ":443":
		address = w.public.address
	case mtlsName + ":443":
		address = w.mtls.address
	default:
		return nil, &net.OpError{Op: "dial", Err: net.UnknownNetworkError(address)}
	}
	return new(net.Dialer).DialContext(ctx, network, address)
}

// examine starts the world and runs the doctor.
func (w *world) examine(change ...func(*Config)) *Report {
	w.t.Helper()
	w.start()
	cfg := Config{Issuer: w.issuer, RootCAs: w.ca.Pool(), Credential: w.credential, Dial: w.dial, Timeout: 5 * time.Second, Now: w.now}
	for _, c := range change {
		c(&cfg)
	}
	r, err := Run(w.t.Context(), cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// bare are TLS settings as a proxy of somebody else has them.
func (w *world) bare(h *host, change func(*tls.Config)) {
	cert := h.cert.TLS()
	h.conf = &tls.Config{
		Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12,
		CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256},
	}
	if h.asks {
		h.conf.ClientAuth = tls.RequestClientCert
	}
	change(h.conf)
}

// problems returns the problems by check, for comparison.
func problems(r *Report) string { return checksOf(r, Problem) }

// said returns the problems and the notes.
func said(r *Report) string { return checksOf(r, Problem, Note) }

func checksOf(r *Report, outcomes ...Outcome) string {
	var out []string
	for _, f := range r.Findings {
		if slices.Contains(outcomes, f.Outcome) {
			out = append(out, f.Check)
		}
	}
	return strings.Join(slices.Compact(out), " ")
}

func find(r *Report, check string) *Finding {
	for i := range r.Findings {
		if o := r.Findings[i].Outcome; r.Findings[i].Check == check && (o == Problem || o == Note) {
			return &r.Findings[i]
		}
	}
	return nil
}
