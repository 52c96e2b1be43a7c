//go:build linux

package proxies

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pkitest"
)

// A caller says how a client connects. The zero value offers HTTP/1.1 and HTTP/2, TLS 1.2
// and 1.3, and closes no connection.
type caller struct {
	leaf     *pkitest.Leaf // nil: no certificate
	alpn     string        // "http/1.1" or "h2"; empty: both
	version  uint16
	sessions tls.ClientSessionCache
	single   bool // a connection for each request
	asked    *int // counts how often a certificate was asked for
	named    *int // counts the CAs that it was asked for
	config   func(*tls.Config)
}

func (c caller) tls() *tls.Config {
	cfg := &tls.Config{
		RootCAs: fixture.Certs().ServerCA.Pool(), MinVersion: tls.VersionTLS12,
		ClientSessionCache: c.sessions,
	}
	if c.version != 0 {
		cfg.MinVersion, cfg.MaxVersion = c.version, c.version
	}
	if c.alpn != "" {
		cfg.NextProtos = []string{c.alpn}
	}
	cfg.GetClientCertificate = func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if c.named != nil {
			*c.named += len(info.AcceptableCAs)
		}
		if c.asked != nil {
			*c.asked++
		}
		if c.leaf == nil {
			return new(tls.Certificate), nil
		}
		// Whatever the server says about CAs.
		cert := c.leaf.TLS()
		return &cert, nil
	}
	if c.config != nil {
		c.config(cfg)
	}
	return cfg
}

// client returns an HTTP client for which every name leads to the proxy.
func (px *proxy) client(t *testing.T, c caller) *http.Client {
	t.Helper()
	tr := &http.Transport{
		TLSClientConfig:   c.tls(),
		ForceAttemptHTTP2: c.alpn != "http/1.1",
		DisableKeepAlives: c.single,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			to := px.tls
			if strings.HasSuffix(address, ":80") {
				to = px.plain
			}
			return new(net.Dialer).DialContext(ctx, network, to)
		},
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{
		Transport: tr, Timeout: 20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// An exchange is one connection on which bytes are written as they are.
type exchange struct {
	conn *tls.Conn
	in   *bufio.Reader
}

// raw connects by HTTP/1.1, with the TLS server name.
func raw(t *testing.T, addr, serverName string, c caller) (*exchange, error) {
	t.Helper()
	cfg := c.tls()
	cfg.ServerName, cfg.NextProtos = serverName, []string{"http/1.1"}
	if serverName == "" {
		cfg.InsecureSkipVerify = true // a client that asks for no name
	}
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", addr, cfg)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	return &exchange{conn, bufio.NewReader(conn)}, nil
}

// send writes a request and returns the status of its answer and its body, or an error if
// the connection ends.
func (x *exchange) send(request string) (int, string, error) {
	if _, err := io.WriteString(x.conn, request); err != nil {
		return 0, "", err
	}
	resp, err := http.ReadResponse(x.in, nil)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// tokenRequest writes a token request with further header lines.
func tokenRequest(host, clientID string, lines ...string) string {
	body := "grant_type=client_credentials&client_id=" + clientID
	return fmt.Sprintf("POST /token HTTP/1.1\r\nHost: %s\r\n%sContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s",
		host, joined(lines), len(body), body)
}

func joined(lines []string) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l + "\r\n")
	}
	return b.String()
}
