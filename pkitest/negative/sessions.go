package negative

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/certbound/certbound/pkitest"
)

// oldSessions takes the trust in the client's CA away. A connection from before, a session
// from before and a new handshake are then refused alike; and all is well again when the
// trust is back. It returns what was not so.
func (p *prober) oldSessions(t *testing.T) (faults []error) {
	t.Helper()
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	leaf, err := p.target.CA.Leaf(p.target.Client)
	if err != nil {
		return []error{err}
	}
	cache := tls.NewLRUClientSessionCache(8)
	remember := func(cfg *tls.Config) { cfg.ClientSessionCache = cache }
	open, openTransport := p.client(of(leaf), remember)
	defer openTransport.CloseIdleConnections()
	if err := served(p.tokenRequest(open, request{})); err != nil {
		return []error{fmt.Errorf("before the change: %w", err)}
	}
	for range 2 { // sessions for later
		if err := served(p.token(of(leaf), request{}, remember)); err != nil {
			return []error{fmt.Errorf("before the change: %w", err)}
		}
	}
	other := pkitest.MustCA(pkitest.CAOptions{Subject: "CN=The next CA"})
	p.target.ReplaceAnchors(t, []*x509.Certificate{other.Cert})
	restore := sync.OnceFunc(func() { p.target.ReplaceAnchors(t, []*x509.Certificate{p.target.CA.Root().Cert}) })
	defer restore()
	for _, c := range []struct {
		name string
		ask  func() answer
	}{
		{"the connection from before", func() answer { return p.tokenRequest(open, request{}) }},
		{"a session from before", func() answer { return p.token(of(leaf), request{}, remember) }},
		{"a new handshake", func() answer { return p.token(of(leaf), request{}) }},
	} {
		a := c.ask()
		if err := refused(a); err != nil {
			fault("%s (resumed: %v), after its CA was taken out of the anchors: %w", c.name, a.resumed, err)
		}
	}
	restore()
	if err := p.control(); err != nil {
		fault("after the CA is trusted again: %w", err)
	}
	if err := served(p.tokenRequest(open, request{})); err != nil {
		fault("the connection from before, after the CA is trusted again: %w", err)
	}
	return faults
}

// A moved cache offers every session to every host.
type moved struct {
	mu   sync.Mutex
	last *tls.ClientSessionState
}

func (c *moved) Get(string) (*tls.ClientSessionState, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last, c.last != nil
}

func (c *moved) Put(_ string, s *tls.ClientSessionState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s != nil {
		c.last = s
	}
}

// hosts are ways around the certificate by another host of the deployment.
func (target Target) hosts() []attack {
	return []attack{
		{7, "session of another host", "a session of the host that asks for no certificate, resumed at the token endpoint for certificates", noToken, func(p *prober) error {
			cache := &moved{}
			remember := func(cfg *tls.Config) { cfg.ClientSessionCache = cache }
			c, tr := p.client(nil, remember)
			if err := p.visit(c, p.target.PublicURL); err != nil {
				return err
			}
			tr.CloseIdleConnections()
			// The certificate check of crypto/tls would refuse a session of another
			// name on this side already; the attacker has no such scruples.
			return refused(p.token(nil, request{}, remember, func(cfg *tls.Config) { cfg.InsecureSkipVerify = true }))
		}},
		{8, "session without a certificate", "a session at the token endpoint without a certificate, resumed by somebody who now has one but is not asked for it", noToken, func(p *prober) error {
			cache := tls.NewLRUClientSessionCache(4)
			remember := func(cfg *tls.Config) { cfg.ClientSessionCache = cache }
			for range 2 {
				if err := refused(p.token(nil, request{}, remember)); err != nil {
					return err
				}
			}
			return refused(p.token(of(target.CA.MustLeaf(nobody())), request{}, remember))
		}},
		{9, "another host in SNI", "a token request to the host without certificates by SNI, and to the one with certificates by the Host field, in every spelling", noToken, func(p *prober) error {
			mtls, err := url.Parse(p.target.TokenURL)
			if err != nil {
				return err
			}
			public, err := url.Parse(p.target.PublicURL)
			if err != nil {
				return err
			}
			there := *mtls
			there.Host = public.Host
			q := *p
			q.target.TokenURL = there.String()
			for _, host := range []string{mtls.Host, strings.ToUpper(mtls.Host), mtls.Hostname() + ".", mtls.Hostname() + ":443", mtls.Hostname() + ".:443"} {
				for _, o := range []*offer{nil, of(target.CA.MustLeaf(nobody()))} {
					if err := refused(q.token(o, request{host: host})); err != nil {
						return fmt.Errorf("with the host %q: %w", host, err)
					}
				}
			}
			return nil
		}},
	}
}

// visit gets a page, whatever it answers.
func (p *prober) visit(c *http.Client, address string) error {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	if a := do(c, req); a.err != nil {
		return fmt.Errorf("%s: %w", address, a.err)
	}
	return nil
}

var errNoToken = errors.New("the good client got no token")
