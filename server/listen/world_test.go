package listen

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pkitest"
)

var quiet = slog.New(slog.DiscardHandler)

const (
	publicName = "as.test"
	mtlsName   = "mtls.as.test"
)

// pairFor returns a certificate for both listeners, so that nothing but the tickets
// keeps their sessions apart.
func pairFor(t testing.TB, kind pkitest.KeyType) *Pair {
	t.Helper()
	leaf := fixture.Certs().ServerCA.MustLeaf(pkitest.LeafOptions{
		Subject: "CN=" + publicName, DNS: []string{publicName, mtlsName}, KeyType: kind, Server: true,
	})
	cert, err := tls.X509KeyPair(leaf.ChainPEM(), leaf.KeyPEM())
	if err != nil {
		t.Fatal(err)
	}
	return NewPair(cert)
}

// serve serves until the test ends and returns the address.
func serve(t testing.TB, cfg Config) (*Server, string) {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = quiet
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l, err := Open("127.0.0.1:0", "--listen")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		s.Shutdown(ctx)
		if err := <-done; err != http.ErrServerClosed {
			t.Errorf("Serve: %v", err)
		}
	})
	return s, l.Addr().String()
}

// seen is what a handler saw of a connection.
type seen struct {
	Version      uint16
	Resumed      bool
	Certificates int
	Protocol     string
}

var tellConnection = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	var s seen
	if r.TLS != nil {
		s = seen{r.TLS.Version, r.TLS.DidResume, len(r.TLS.PeerCertificates), r.Proto}
	}
	json.NewEncoder(w).Encode(s)
})

// client returns settings of a client that trusts the servers. The certificate is sent
// whenever the server asks for one.
func client(leaf *pkitest.Leaf, name string) *tls.Config {
	cfg := &tls.Config{RootCAs: fixture.Certs().ServerCA.Pool(), ServerName: name}
	if leaf != nil {
		cert := leaf.TLS()
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	}
	return cfg
}

// request makes one request on a connection of its own.
func request(t testing.TB, address string, cfg *tls.Config, method, path, form string) *fixture.Answer {
	t.Helper()
	tr := &http.Transport{
		TLSClientConfig: cfg, ForceAttemptHTTP2: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), method, "https://"+cfg.ServerName+path, strings.NewReader(form))
	if err != nil {
		t.Fatal(err)
	}
	if form != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return fixture.Do(t, &http.Client{Transport: tr, Timeout: 20 * time.Second}, req)
}

// look makes a request to tellConnection.
func look(t testing.TB, address string, cfg *tls.Config) (s seen) {
	t.Helper()
	a := request(t, address, cfg, http.MethodGet, "/", "")
	if a.Status != http.StatusOK {
		t.Fatalf("status %d: %s", a.Status, a.Text)
	}
	if err := json.Unmarshal([]byte(a.Text), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// handshake makes a handshake and says how it ended.
func handshake(address string, cfg *tls.Config) (tls.ConnectionState, error) {
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", address, cfg)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer c.Close()
	return c.ConnectionState(), nil
}

// writePair writes a certificate and its key as files.
func writePair(t testing.TB, dir string, leaf *pkitest.Leaf) (certFile, keyFile string) {
	t.Helper()
	certFile, keyFile = filepath.Join(dir, "server.pem"), filepath.Join(dir, "server-key.pem")
	writeFile(t, certFile, leaf.ChainPEM())
	writeFile(t, keyFile, leaf.KeyPEM())
	return certFile, keyFile
}

func writeFile(t testing.TB, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A wire is a connection that keeps what came and went.
type wire struct {
	net.Conn
	mu             sync.Mutex
	sent, received []byte
}

func (w *wire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	w.mu.Lock()
	w.received = append(w.received, p[:n]...)
	w.mu.Unlock()
	return n, err
}

func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	w.sent = append(w.sent, p...)
	w.mu.Unlock()
	return w.Conn.Write(p)
}

func tap(t testing.TB, address string) *wire {
	t.Helper()
	c, err := net.DialTimeout("tcp", address, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return &wire{Conn: c}
}

// records splits what came over a wire into TLS records.
func records(b []byte) (out [][]byte) {
	for len(b) >= 5 {
		n := 5 + int(b[3])<<8 + int(b[4])
		if n > len(b) {
			break
		}
		out = append(out, b[:n])
		b = b[n:]
	}
	return out
}
