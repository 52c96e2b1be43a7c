package oauthclient

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/oauth2"

	"github.com/certbound/certbound"
)

const maxPEM = 1 << 20

// An identity is one certificate and all that belongs to it. No connection, TLS session
// or token ever passes from one identity to another. The key of an identity is its whole
// chain: a certificate that was issued again for the same key is another one, and tokens
// of the first do not work with it.
type identity struct {
	cert       *tls.Certificate // nil: the client has none
	leaf       *x509.Certificate
	digest     [sha256.Size]byte
	thumbprint string
	transport  *http.Transport

	retired  atomic.Bool
	inFlight atomic.Int64

	// Guarded by Client.mu.
	token   *oauth2.Token
	renewAt time.Time
	failed  time.Time // the last token request that failed
}

// fileState is what was last seen on disk.
type fileState struct {
	seen   [sha256.Size]byte
	loaded bool
}

// Static returns a Certificate function for a certificate that does not change.
func Static(cert tls.Certificate) func(context.Context) (*tls.Certificate, error) {
	return func(context.Context) (*tls.Certificate, error) { return &cert, nil }
}

func (c *Client) hasCertificate() bool { return c.cfg.CertFile != "" || c.cfg.Certificate != nil }

// Thumbprint returns the x5t#S256 of the current certificate, or "" without one.
func (c *Client) Thumbprint() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current.thumbprint
}

func (c *Client) firstIdentity(ctx context.Context) error {
	if !c.hasCertificate() {
		c.current = &identity{transport: c.plain}
		return nil
	}
	cert, err := c.readCertificate(ctx)
	if err != nil {
		return err
	}
	c.current, err = c.newIdentity(cert)
	c.checked = c.cfg.Now()
	return err
}

// identity returns the current certificate. It looks at the source if that is due, or if
// somebody has just refused the certificate.
func (c *Client) identity(ctx context.Context, refused bool) *identity {
	c.mu.Lock()
	current := c.current
	due := c.hasCertificate() && (refused || c.cfg.Now().Sub(c.checked) >= c.cfg.ReloadEvery)
	c.mu.Unlock()
	if !due {
		return current
	}
	if refused {
		c.reload.Lock()
	} else if !c.reload.TryLock() {
		return current // somebody else looks
	}
	defer c.reload.Unlock()

	cert, err := c.readCertificate(ctx)
	var fresh *identity
	if err == nil && cert != nil {
		fresh, err = c.newIdentity(cert)
	}
	if err != nil {
		c.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "oauthclient: keeping the certificate, since the new one cannot be used", slog.Any("error", err))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.checked = c.cfg.Now()
	if fresh == nil || fresh.digest == c.current.digest {
		return c.current
	}
	c.cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "oauthclient: the certificate has changed",
		slog.String("old_x5t#S256", c.current.thumbprint), slog.String("x5t#S256", fresh.thumbprint),
		slog.Time("not_after", fresh.leaf.NotAfter))
	if c.previous != nil {
		c.previous.token = nil
	}
	c.previous, c.current = c.current, fresh
	c.previous.retire()
	return fresh
}

// readCertificate returns nil without an error if the files are as they were.
func (c *Client) readCertificate(ctx context.Context) (*tls.Certificate, error) {
	if c.cfg.Certificate != nil {
		cert, err := c.cfg.Certificate(ctx)
		if err == nil && (cert == nil || len(cert.Certificate) == 0 || cert.PrivateKey == nil) {
			err = errors.New("expected a certificate with its key, found none")
		}
		if err != nil {
			return nil, fmt.Errorf("oauthclient: Certificate: %w", err)
		}
		return cert, nil
	}
	certPEM, err := readFile(c.cfg.CertFile)
	if err != nil {
		return nil, fmt.Errorf("oauthclient: CertFile: %w", err)
	}
	keyPEM, err := readFile(c.cfg.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("oauthclient: KeyFile: %w", err)
	}
	// Contents, not times: orchestrators exchange a symlink. What did not change is not
	// parsed again, and a pair that does not fit is complained about once.
	h := sha256.New()
	h.Write(certPEM)
	h.Write([]byte{0})
	h.Write(keyPEM)
	var seen [sha256.Size]byte
	h.Sum(seen[:0])
	if c.files.loaded && c.files.seen == seen {
		return nil, nil
	}
	c.files = fileState{seen, true}
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("oauthclient: %s and %s: expected a certificate and its key in PEM: %w", c.cfg.CertFile, c.cfg.KeyFile, err)
	}
	return &cert, nil
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxPEM+1))
	if err == nil && len(data) > maxPEM {
		err = fmt.Errorf("%s: expected at most %d bytes, found more", name, maxPEM)
	}
	return data, err
}

func (c *Client) newIdentity(cert *tls.Certificate) (*identity, error) {
	copied := *cert
	leaf := copied.Leaf
	if leaf == nil {
		var err error
		if leaf, err = x509.ParseCertificate(copied.Certificate[0]); err != nil {
			return nil, fmt.Errorf("oauthclient: certificate: %w", err)
		}
		copied.Leaf = leaf
	}
	id := &identity{cert: &copied, leaf: leaf, thumbprint: certbound.Thumbprint(leaf)}
	h := sha256.New()
	for _, der := range copied.Certificate {
		sum := sha256.Sum256(der)
		h.Write(sum[:])
	}
	h.Sum(id.digest[:0])
	id.transport = c.newTransport(&copied)
	return id, nil
}

// newTransport returns a transport of its own for a certificate: connections and TLS
// sessions with one certificate are never used with another.
func (c *Client) newTransport(cert *tls.Certificate) *http.Transport {
	conf := &tls.Config{
		RootCAs:            c.cfg.RootCAs,
		MinVersion:         tls.VersionTLS12,
		ClientSessionCache: tls.NewLRUClientSessionCache(64),
	}
	if c.cfg.FAPI2 {
		// FAPI 2.0 Security Profile, Section 5.2.2 (2). TLS 1.3 has its own.
		conf.CipherSuites = []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		}
	}
	if cert != nil {
		if c.cfg.CertificateOnlyTLS13 {
			conf.MinVersion = tls.VersionTLS13
		}
		// Always this one: the standard choice sends nothing to a server that does
		// not name the issuer, which for a self-signed certificate is every server.
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	}
	t := &http.Transport{
		TLSClientConfig:        conf,
		TLSHandshakeTimeout:    10 * time.Second,
		ForceAttemptHTTP2:      true,
		MaxIdleConnsPerHost:    32,
		IdleConnTimeout:        30 * time.Second,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: 256 << 10,
		DialContext:            c.cfg.DialContext,
	}
	if t.DialContext == nil {
		t.Proxy = http.ProxyFromEnvironment
	}
	return t
}

// retire closes what is idle now, and sees to it that what is busy does not stay idle.
func (id *identity) retire() {
	id.retired.Store(true)
	id.transport.CloseIdleConnections()
}

// roundTrip makes a request over the identity's connections.
func (id *identity) roundTrip(req *http.Request) (*http.Response, error) {
	id.inFlight.Add(1)
	resp, err := id.transport.RoundTrip(req)
	if err != nil || resp.StatusCode == http.StatusSwitchingProtocols {
		id.done()
		return resp, err
	}
	resp.Body = &countedBody{ReadCloser: resp.Body, done: id.done}
	return resp, nil
}

func (id *identity) done() {
	if id.inFlight.Add(-1) == 0 && id.retired.Load() {
		// The transport puts the connection back a moment after the last byte.
		time.AfterFunc(100*time.Millisecond, id.transport.CloseIdleConnections)
	}
}

type countedBody struct {
	io.ReadCloser
	closed atomic.Bool
	done   func()
}

func (b *countedBody) Close() error {
	err := b.ReadCloser.Close()
	if b.closed.CompareAndSwap(false, true) {
		b.done()
	}
	return err
}
