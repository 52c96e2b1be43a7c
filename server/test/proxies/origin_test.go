//go:build linux

package proxies

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pki"
	"github.com/certbound/certbound/pkitest"
	"github.com/certbound/certbound/resourceserver"
	"github.com/certbound/certbound/server/listen"
	"github.com/certbound/certbound/server/probe"
)

// keys are the certificates of the proxies.
type keys struct {
	hopCA  *pkitest.CA   // of hop and other
	server *pkitest.Leaf // towards clients, and of the origin
	hop    *pkitest.Leaf // towards the origin; the one that the origin believes
	other  *pkitest.Leaf // from the same CA as hop
}

var proxyKeys = sync.OnceValue(func() *keys {
	ca := pkitest.MustCA(pkitest.CAOptions{Subject: "CN=Hops"})
	return &keys{
		server: fixture.Certs().ServerCA.MustLeaf(pkitest.LeafOptions{
			Subject: "CN=as.test", DNS: []string{"as.test", "mtls.as.test", "rs.test"}, Server: true,
		}),
		hopCA: ca,
		hop:   ca.MustLeaf(pkitest.LeafOptions{Subject: "CN=edge-1", URI: []string{"spiffe://agora.example/edge"}}),
		other: ca.MustLeaf(pkitest.LeafOptions{Subject: "CN=edge-2", URI: []string{"spiffe://agora.example/other"}}),
	}
})

// largeCerts is a chain of the largest certificates that are usual.
type largeCerts struct {
	leaf    *pkitest.Leaf
	between []*x509.Certificate
}

var largeChain = sync.OnceValue(func() *largeCerts {
	l := new(largeCerts)
	key := func() *rsa.PrivateKey {
		k, err := rsa.GenerateKey(rand.Reader, 4096)
		if err != nil {
			panic(err)
		}
		return k
	}
	issuers := key() // one for all: making them takes seconds
	ca := fixture.Certs().CA1
	for _, name := range []string{"Policy", "Regional", "Issuing"} {
		ca = ca.MustIntermediate(pkitest.CAOptions{Subject: "CN=" + name + " CA of the department with the long name,OU=Trust Services,O=Example,C=GB", Key: issuers})
		l.between = append(l.between, ca.Cert)
	}
	l.leaf = ca.MustLeaf(pkitest.LeafOptions{Subject: "CN=large,O=Example,C=GB", DNS: []string{"large.client.department.example"}, Key: key()})
	return l
})

// material returns the files that the configurations name below /etc/certbound/proxy/.
func material() map[string]string {
	k, certs := proxyKeys(), fixture.Certs()
	return map[string]string{
		"server.pem":         string(k.server.ChainPEM()),
		"server.key":         string(k.server.KeyPEM()),
		"server-and-key.pem": string(k.server.ChainPEM()) + string(k.server.KeyPEM()),
		"hop.pem":            string(k.hop.ChainPEM()),
		"hop.key":            string(k.hop.KeyPEM()),
		"hop-and-key.pem":    string(k.hop.CertPEM()) + string(k.hop.KeyPEM()),
		"hop-ca.pem":         string(k.hopCA.CertPEM()),
		"origin-ca.pem":      string(certs.ServerCA.CertPEM()),
		"client-ca.pem":      string(certs.CA1.CertPEM()),
	}
}

// hop is the proxy as the origin knows it: the holder of its key, and nobody else.
func hop() certsource.Hop {
	return certsource.Hop{Thumbprints: []string{certbound.Thumbprint(proxyKeys().hop.Cert)}}
}

// A request is what arrived at one of the listeners of the origin.
type request struct {
	host, proto string
	header      http.Header
	trailer     http.Header
	thumbprint  string // of the certificate that the source found
	chain       int
	err         error
}

// An origin is the real server: the authorization server on its two listeners and an API.
type origin struct {
	*fixture.AS
	addresses [3]string
	source    certsource.Source

	mu   sync.Mutex
	seen []request
}

// startOrigin runs the server with the source until the test ends.
func startOrigin(t *testing.T, source certsource.Source) *origin {
	t.Helper()
	certs := fixture.Certs()
	o := &origin{source: source}
	o.AS = fixture.Start(t, func(cfg *authserver.Config) {
		cfg.Source = source
		paths, err := pki.NewValidator(pki.Config{
			Sets: []pki.Set{
				// Most hops forward the leaf alone: the intermediate is here to
				// complete the path, and is no anchor.
				{Name: "ca1", Anchors: []*x509.Certificate{certs.CA1.Cert}, Helpers: []*x509.Certificate{certs.CA1i.Cert}},
				{Name: "large", Anchors: []*x509.Certificate{certs.CA1.Cert}, Helpers: largeChain().between},
				{Name: "bare", Anchors: []*x509.Certificate{certs.CA1.Cert}},
				{Name: "ca2", Anchors: []*x509.Certificate{certs.CA2.Cert}},
			},
			Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		cfg.Paths = paths
	})
	o.Register(t, &authserver.Client{
		ID: "c-bare", AuthMethod: "tls_client_auth", SubjectDN: fixture.SubjectDN, Scope: "read",
		AnchorSet: "bare", BoundTokens: true,
	})
	o.Register(t, &authserver.Client{
		ID: "c-large", AuthMethod: "tls_client_auth", SubjectDN: "CN=large,O=Example,C=GB", Scope: "read",
		AnchorSet: "large", BoundTokens: true,
	})
	rs, err := resourceserver.New(resourceserver.Config{
		Resource: fixture.Resource, Issuer: fixture.Issuer, Source: source,
		HTTPClient: o.As(t, nil), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	api := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A hop must not pass these on (RFC 9440, Sections 2.2 and 2.3).
		for _, name := range certificateFields {
			w.Header().Set(name, "leaked")
		}
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Vary", "Accept, Client-Cert")
		_, _ = io.WriteString(w, "hello")
	})
	group := &listen.Group{Grace: time.Second, Logger: slog.New(slog.DiscardHandler)}
	for i, l := range []struct {
		name    string
		handler http.Handler
		ask     bool
	}{
		{"public", o.Server.Handler(), false},
		{"mtls", o.Server.MTLSHandler(), true},
		{"api", rs.Middleware()(api), true},
	} {
		probed := probe.Config{Listener: l.name, Store: o.Store, Logger: slog.New(slog.DiscardHandler)}
		if l.ask {
			probed.Source = source
		}
		server, err := listen.New(listen.Config{
			Name: l.name, Handler: o.watch(probe.Handler(probed, l.handler)), Pair: listen.NewPair(proxyKeys().server.TLS()),
			AskForCertificate: l.ask, Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		ln, err := listen.Open("127.0.0.1:0", l.name)
		if err != nil {
			t.Fatal(err)
		}
		o.addresses[i] = ln.Addr().String()
		group.Add(server, ln)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- group.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("origin: %v", err)
		}
	})
	return o
}

// watch notes what arrives, with what the source makes of it.
func (o *origin) watch(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got := request{host: r.Host, proto: r.Proto, header: r.Header.Clone()}
		if p, err := o.source.Certificate(r); err != nil {
			got.err = err
		} else {
			got.thumbprint, got.chain = p.Thumbprint(), len(p.Chain())
		}
		body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		got.trailer = r.Trailer
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		o.mu.Lock()
		o.seen = append(o.seen, got)
		o.mu.Unlock()
		next.ServeHTTP(w, r)
	})
}

// requests returns what has arrived since the last call.
func (o *origin) requests() []request {
	o.mu.Lock()
	defer o.mu.Unlock()
	defer func() { o.seen = nil }()
	return o.seen
}

// one returns the only request that has arrived.
func (o *origin) one(t *testing.T) request {
	t.Helper()
	seen := o.requests()
	if len(seen) != 1 {
		t.Fatalf("%d requests arrived at the origin, want 1", len(seen))
	}
	return seen[0]
}

// alike returns the fields of a request that are name or that some program could take for
// it.
func (r request) alike(name string) []string { return alike(r.header, name) }

func alike(h http.Header, name string) []string {
	fold := func(s string) string { return strings.ReplaceAll(strings.ToLower(s), "_", "-") }
	var found []string
	for field, values := range h {
		if fold(field) != fold(name) {
			continue
		}
		for _, v := range values {
			found = append(found, field+": "+v)
		}
	}
	slices.Sort(found)
	return found
}
