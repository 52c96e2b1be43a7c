package listen

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pkitest"
)

// fat returns a certificate with many URIs of two octets.
func fat(t *testing.T, uris int) *pkitest.Leaf {
	t.Helper()
	names := make([]asn1.RawValue, uris)
	for i := range names {
		names[i] = asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte("a:")}
	}
	san, err := asn1.Marshal(names)
	if err != nil {
		t.Fatal(err)
	}
	return pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=fat",
		Extra: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: san}}})
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A flooder opens mutual-TLS connections with self-signed certificates of 240 kB, in which
// 60,000 URIs take 10 MB of memory each, and keeps them open: a hundred connections were
// a gigabyte. The handshake fails now. 200 ordinary certificates still pass, so that
// their client reads an OAuth error.
func TestAttackFatCertificates(t *testing.T) {
	versions(t, func(t *testing.T, version uint16) {
		s := &server{AS: fixture.Start(t)}
		log := new(lockedBuffer)
		_, s.mtls = serve(t, Config{Name: "mtls", Handler: s.Server.MTLSHandler(), Pair: pairFor(t, pkitest.P256), AskForCertificate: true,
			Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))})

		for name, leaf := range map[string]*pkitest.Leaf{"names": fat(t, 1001), "bytes and names": fat(t, 60_000)} {
			c, err := tls.Dial("tcp", s.mtls, clientFor(leaf, version, nil))
			if err == nil { // TLS 1.3: the client learns it from its first read
				_, err = c.Read(make([]byte, 1))
				c.Close()
			}
			if alert, ok := errors.AsType[*net.OpError](err); !ok || alert.Op != "remote error" {
				t.Errorf("%s: expected a TLS alert, found %v", name, err)
			}
		}
		if !strings.Contains(log.String(), ErrTooLarge.Error()) {
			t.Errorf("the log does not say why:\n%s", log)
		}

		if a := request(t, s.mtls, clientFor(fat(t, 1000), version, nil), http.MethodPost, "/token", tokenForm+"c-dn"); a.Error() != "invalid_client" {
			t.Errorf("1,000 names: %d %s, want invalid_client", a.Status, a.Text)
		}
		long := s.L1.TLS()
		for len(long.Certificate) < 200 {
			long.Certificate = append(long.Certificate, s.CA1i.Cert.Raw)
		}
		cfg := clientFor(nil, version, nil)
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &long, nil }
		if a := request(t, s.mtls, cfg, http.MethodPost, "/token", tokenForm+"c-dn"); a.Error() != "invalid_client" || s.LastDecision().Reason() != decision.ChainTooLong {
			t.Errorf("200 certificates: %d %s, want invalid_client", a.Status, a.Text)
		}
	})
}

// A stranger finds a request that makes a handler panic. The client sees a closed
// connection, and the operator saw nothing, since everything that net/http tells was at
// level debug. A panic is an error in the log now, over HTTP/1.1 and HTTP/2.
func TestAttackPanicUnseen(t *testing.T) {
	for _, protocol := range []string{"http/1.1", "h2"} {
		log := new(lockedBuffer)
		_, address := serve(t, Config{Name: "public", Pair: pairFor(t, pkitest.P256), Logger: slog.New(slog.NewTextHandler(log, nil)),
			Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("found one") })})
		cfg := client(nil, publicName)
		cfg.NextProtos = []string{protocol}
		tr := &http.Transport{TLSClientConfig: cfg, ForceAttemptHTTP2: protocol == "h2",
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, address)
			}}
		if resp, err := (&http.Client{Transport: tr}).Get("https://" + publicName + "/"); err == nil {
			resp.Body.Close()
			t.Errorf("%s: status %d", protocol, resp.StatusCode)
		}
		tr.CloseIdleConnections()
		for range 500 { // HTTP/2 answers before it tells
			if strings.Contains(log.String(), "found one") {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if text := log.String(); !strings.Contains(text, "level=ERROR") || !strings.Contains(text, "found one") {
			t.Errorf("%s: the log says %q", protocol, text)
		}
	}
}
