package negative

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/certbound/certbound/pkitest"
)

// An offer is what a client shows in the handshake.
type offer struct {
	chain []*x509.Certificate
	key   crypto.Signer
}

func of(l *pkitest.Leaf) *offer { return &offer{l.Chain(), l.Key} }

// A prober comes by one protocol.
type prober struct {
	target Target
	by     protocol
}

// client returns an HTTP client with an offer, which may be nil. The caller closes its
// idle connections.
func (p *prober) client(o *offer, change ...func(*tls.Config)) (*http.Client, *http.Transport) {
	cfg := &tls.Config{RootCAs: p.target.RootCAs, MinVersion: p.by.version, MaxVersion: p.by.version}
	if o != nil {
		cert := tls.Certificate{PrivateKey: o.key}
		for _, c := range o.chain {
			cert.Certificate = append(cert.Certificate, c.Raw)
		}
		// Whatever the deployment says that it accepts.
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	}
	for _, c := range change {
		c(cfg)
	}
	versions := new(http.Protocols)
	versions.SetHTTP1(!p.by.http2)
	versions.SetHTTP2(p.by.http2)
	tr := &http.Transport{TLSClientConfig: cfg, Protocols: versions, DialContext: p.target.DialContext}
	return &http.Client{
		Transport: tr, Timeout: p.target.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, tr
}

// An answer is an HTTP answer, or why there was none.
type answer struct {
	err     error
	status  int
	token   string
	code    string // the OAuth error
	resumed bool
}

func (a answer) String() string {
	switch {
	case a.err != nil:
		return fmt.Sprintf("no answer: %v", a.err)
	case a.token != "":
		return fmt.Sprintf("status %d with an access token", a.status)
	case a.code != "":
		return fmt.Sprintf("status %d, %s", a.status, strings.ToValidUTF8(a.code[:min(len(a.code), 100)], "?"))
	}
	return fmt.Sprintf("status %d", a.status)
}

func do(c *http.Client, req *http.Request) answer {
	resp, err := c.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return answer{err: err}
	}
	a := answer{status: resp.StatusCode, resumed: resp.TLS != nil && resp.TLS.DidResume}
	var fields struct {
		Token string `json:"access_token"`
		Error string `json:"error"`
	}
	if json.Unmarshal(body, &fields) == nil {
		a.token, a.code = fields.Token, fields.Error
	}
	return a
}

// A request of a token.
type request struct {
	id     string // of the client; empty: that of the target
	host   string // of the Host field, if it is another
	header http.Header
}

func (p *prober) tokenRequest(c *http.Client, r request) answer {
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {p.target.ClientID}}
	maps.Copy(form, p.target.Params)
	if r.id != "" {
		form.Set("client_id", r.id)
	}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, p.target.TokenURL, strings.NewReader(form.Encode()))
	if err != nil {
		return answer{err: err}
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	maps.Copy(req.Header, r.header)
	if r.host != "" {
		req.Host = r.host
	}
	return do(c, req)
}

// token asks once for a token, with an offer on a new connection.
func (p *prober) token(o *offer, r request, change ...func(*tls.Config)) answer {
	c, tr := p.client(o, change...)
	defer tr.CloseIdleConnections()
	return p.tokenRequest(c, r)
}

// resource gets a resource with a token, which may be empty.
func (p *prober) resource(o *offer, address, token string) answer {
	c, tr := p.client(o)
	defer tr.CloseIdleConnections()
	return p.get(c, address, token)
}

func (p *prober) get(c *http.Client, address, token string) answer {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, address, nil)
	if err != nil {
		return answer{err: err}
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return do(c, req)
}

// refused wants that a client was refused: in the handshake, or by a status 4xx without a
// token. A deployment that cannot be reached, or that fails, has refused nobody.
func refused(a answer) error {
	if a.err != nil {
		if op, ok := errors.AsType[*net.OpError](a.err); ok && op.Op == "dial" || errors.Is(a.err, context.DeadlineExceeded) {
			return fmt.Errorf("the deployment cannot be reached: %w", a.err)
		}
		return nil
	}
	if a.token != "" || a.status < 400 || a.status > 499 {
		return errors.New(a.String())
	}
	return nil
}

func served(a answer) error {
	if a.err != nil || a.status < 200 || a.status > 299 {
		return errors.New(a.String())
	}
	return nil
}

// good returns a certificate of the client.
func (target Target) good() *pkitest.Leaf { return target.CA.MustLeaf(target.Client) }

// control wants that the good client gets a token, and is served with it.
func (p *prober) control() error {
	leaf, err := p.target.CA.Leaf(p.target.Client)
	if err != nil {
		return err
	}
	a := p.token(of(leaf), request{})
	if err := served(a); err != nil {
		return fmt.Errorf("token endpoint: %w", err)
	}
	if a.token == "" {
		return errors.New("token endpoint: no access_token in the answer")
	}
	for _, address := range p.target.Resources {
		if err := served(p.resource(of(leaf), address, a.token)); err != nil {
			return fmt.Errorf("%s: %w", address, err)
		}
	}
	return nil
}

// speaks returns nil if the deployment speaks the protocol.
func (p *prober) speaks() error {
	c, tr := p.client(nil)
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, p.target.TokenURL, nil)
	if err != nil {
		return err
	}
	a := do(c, req)
	if a.err == nil {
		return nil
	}
	// It may demand a certificate.
	leaf, err := p.target.CA.Leaf(p.target.Client)
	if err != nil {
		return err
	}
	if p.token(of(leaf), request{}).err == nil {
		return nil
	}
	return a.err
}

// thumbprint is x5t#S256 (RFC 8705, Section 3.1).
func thumbprint(l *pkitest.Leaf) string {
	sum := sha256.Sum256(l.Cert.Raw)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// fields adds the fields of a forgery to each request.
type fields struct {
	next http.RoundTripper
	f    forgery
}

func (f fields) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	for name, value := range f.f.fields {
		r.Header.Set(name, value)
	}
	return f.next.RoundTrip(r)
}
