// Package oauthclient is the client of RFC 8705: it gets access tokens over mutual TLS
// and uses them over connections with the same certificate. It speaks
// golang.org/x/oauth2: [Client.TokenSource] is an [oauth2.TokenSource], and
// [Client.HTTPClient] is an *http.Client that adds tokens by itself.
//
// Tokens for the client itself come from the Client, tokens for people from a [Session]:
// [Client.Authorize] makes the URL for the browser, [Client.Exchange] takes the answer.
//
// A bound token works with one certificate only. So everything here belongs to one
// certificate: its connections, its TLS sessions, its token. When the certificate file
// changes, the next request opens new connections and gets a new token, and requests
// under way end as they began (RFC 8705, Section 6.3).
package oauthclient

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/oauth2"

	"github.com/certbound/certbound/internal/flight"
	"github.com/certbound/certbound/internal/jws"
	"github.com/certbound/certbound/internal/metadata"
	"github.com/certbound/certbound/jwks"
)

// Client authentication methods.
const (
	TLSClientAuth           = "tls_client_auth"             // RFC 8705, Section 2.1
	SelfSignedTLSClientAuth = "self_signed_tls_client_auth" // RFC 8705, Section 2.2
	PrivateKeyJWT           = "private_key_jwt"
	ClientSecretBasic       = "client_secret_basic"
	None                    = "none" // a public client
)

// Config holds the settings of a [Client]: one client at one issuer. A program that
// talks to several issuers has a Client for each, and best a certificate for each (RFC
// 7800, Section 5).
type Config struct {
	// Issuer is the issuer identifier of the authorization server. Required.
	Issuer string
	// Metadata is given instead of discovered, if set.
	Metadata *Metadata
	// ClientID is the registration at the issuer. Required.
	ClientID string
	// AuthMethod is how the client authenticates, one of the constants. Required.
	AuthMethod string
	// ClientSecret is for client_secret_basic only.
	ClientSecret string
	// AssertionKey, AssertionAlg and AssertionKeyID are for private_key_jwt only. The
	// algorithm is ES256, PS256, RS256 or EdDSA.
	AssertionKey   crypto.Signer
	AssertionAlg   string
	AssertionKeyID string

	// CertFile and KeyFile are the client's certificate, with its chain, and key, in
	// PEM. A change is picked up while the client is used, when both fit.
	CertFile, KeyFile string
	// Certificate returns the certificate instead of files; see [Static]. It is called
	// as often as files are looked at, and must be safe for concurrent use.
	Certificate func(ctx context.Context) (*tls.Certificate, error)
	// ReloadEvery is how often the certificate is looked at, at most. If zero, 1 second.
	ReloadEvery time.Duration
	// CertificateOnlyTLS13 makes connections with the certificate need TLS 1.3, since
	// before it the certificate crosses the wire unencrypted (RFC 8705, Section 8).
	CertificateOnlyTLS13 bool
	// RootCAs verify servers. If nil, the system's.
	RootCAs *x509.CertPool

	// Scopes and Resources (RFC 8707) are asked for.
	Scopes, Resources []string
	// RedirectURI is where the server sends people back to, for [Client.Authorize]. It
	// has to be registered: https, a loopback address by http (RFC 8252, Section 7.3), or
	// a scheme of the application's own with a dot in it (Section 7.1).
	RedirectURI string
	// FAPI2 holds the client to the FAPI 2.0 Security Profile, Section 5.3.3: it
	// authenticates by certificate or with an assertion, not signed with RS256, its
	// tokens are bound, its requests for people are pushed, and iss in the answer is
	// required. A server that does not offer all of it is an error. Under TLS 1.2 only
	// suites with ECDHE and AES-GCM are offered.
	FAPI2 bool
	// Grant returns the parameters of a token request, for other grants than
	// client_credentials. It is asked when there is no token, and no refresh token that
	// the server takes.
	Grant func(ctx context.Context) (url.Values, error)
	// RequireBoundTokens refuses to go on with a server that does not announce
	// certificate-bound tokens, and with a JWT that is not bound to the certificate.
	// What an opaque token is bound to, a client cannot see.
	RequireBoundTokens bool

	// UseEndpointAliases uses the aliases at every endpoint, although the client does
	// not authenticate by certificate (use_mtls_endpoint_aliases of FAPI 2.0).
	UseEndpointAliases bool
	// RequireAliases makes a missing alias an error, where RFC 8705 falls back to the
	// conventional URL.
	RequireAliases bool
	// PinAliasHosts, if not nil, lists the hosts, with port unless it is 443, where
	// the certificate is offered for the issuer, beside the host of the issuer itself.
	PinAliasHosts []string
	// ResourceHosts are the hosts, with port unless it is 443, that [Client.HTTPClient]
	// may call, beside those of Resources. It refuses others, also after a redirect.
	ResourceHosts []string

	// DialContext opens connections, without a proxy. If nil, they are opened as net/http
	// does by default, with the proxy of the environment.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)
	// Timeout bounds a request to the issuer. If zero, 10 seconds.
	Timeout time.Duration
	// Logger is told of changed certificates and refused ones. If nil, slog.Default.
	Logger *slog.Logger
	// Now returns the current time. If nil, time.Now.
	Now func() time.Time
}

// A Client is one OAuth client at one issuer. It is safe for concurrent use.
type Client struct {
	cfg       Config
	assertion *jws.Signer
	pins      map[string]bool // nil: any
	resources map[string]bool
	keys      *jwks.Fetcher // of the issuer, for ID tokens

	plain       *http.Transport // offers no certificate
	plainClient *http.Client
	httpClient  *http.Client

	metadata    atomic.Pointer[fetchedMetadata]
	discovering flight.Group[string, *Metadata]

	reload sync.Mutex // held by whoever looks at the certificate; guards files
	files  fileState

	mu       sync.Mutex // guards what follows, and the fields of an identity that say so
	checked  time.Time
	current  *identity
	previous *identity
	refresh  string
	issued   issuedTokens

	fetching flight.Group[*identity, *oauth2.Token]
}

// New returns a Client. It reports every wrong setting at once, reads the certificate,
// and makes no request.
func New(cfg Config) (*Client, error) {
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("oauthclient: "+format, args...))
	}
	if err := metadata.CheckIssuer(cfg.Issuer); err != nil {
		fault("Issuer: %w", err)
	}
	if cfg.Metadata != nil && cfg.Metadata.Issuer != cfg.Issuer {
		fault("Metadata: expected issuer %q, found %q", cfg.Issuer, cfg.Metadata.Issuer)
	}
	if cfg.Metadata != nil && cfg.Metadata.doc == nil {
		fault("Metadata: not made by ParseMetadata")
	}
	if cfg.ClientID == "" {
		fault("ClientID: not set")
	}
	hasFiles := cfg.CertFile != "" || cfg.KeyFile != ""
	if hasFiles && (cfg.CertFile == "" || cfg.KeyFile == "") {
		fault("CertFile and KeyFile: expected both, found one")
	}
	if hasFiles && cfg.Certificate != nil {
		fault("Certificate: excludes CertFile and KeyFile")
	}
	hasCertificate := hasFiles || cfg.Certificate != nil
	switch cfg.AuthMethod {
	case TLSClientAuth, SelfSignedTLSClientAuth:
		if !hasCertificate {
			fault("AuthMethod: %s needs a certificate; set CertFile and KeyFile, or Certificate", cfg.AuthMethod)
		}
	case PrivateKeyJWT:
		if cfg.AssertionKey == nil {
			fault("AssertionKey: not set, but AuthMethod is private_key_jwt")
		}
	case ClientSecretBasic:
		if cfg.ClientSecret == "" {
			fault("ClientSecret: not set, but AuthMethod is client_secret_basic")
		}
	case None:
		if cfg.Grant == nil && cfg.RedirectURI == "" {
			fault("Grant and RedirectURI: none is set; a public client cannot use client_credentials (RFC 6749, Section 4.4)")
		}
	default:
		fault("AuthMethod: expected one of %s, %s, %s, %s, %s, found %q",
			TLSClientAuth, SelfSignedTLSClientAuth, PrivateKeyJWT, ClientSecretBasic, None, cfg.AuthMethod)
	}
	// One method for each request (RFC 6749, Section 2.3).
	if cfg.ClientSecret != "" && cfg.AuthMethod != ClientSecretBasic {
		fault("ClientSecret: set, but AuthMethod is %q; use one method", cfg.AuthMethod)
	}
	if cfg.AssertionKey != nil && cfg.AuthMethod != PrivateKeyJWT {
		fault("AssertionKey: set, but AuthMethod is %q; use one method", cfg.AuthMethod)
	}
	if cfg.RedirectURI != "" {
		if err := checkRedirectURI(cfg.RedirectURI); err != nil {
			fault("RedirectURI: %w", err)
		}
	}
	if cfg.FAPI2 {
		cfg.RequireBoundTokens = true
		switch cfg.AuthMethod {
		case TLSClientAuth, SelfSignedTLSClientAuth, PrivateKeyJWT:
		default:
			fault("AuthMethod: expected %s, %s or %s, since FAPI2 is set, found %q (FAPI 2.0, Section 5.3.3.1)", TLSClientAuth, SelfSignedTLSClientAuth, PrivateKeyJWT, cfg.AuthMethod)
		}
		if cfg.AssertionAlg == jws.RS256 {
			fault("AssertionAlg: expected PS256, ES256 or EdDSA, since FAPI2 is set, found RS256 (FAPI 2.0, Section 5.4.1)")
		}
	}
	if cfg.RequireBoundTokens && !hasCertificate {
		fault("RequireBoundTokens: needs a certificate; set CertFile and KeyFile, or Certificate")
	}
	if (cfg.UseEndpointAliases || cfg.RequireAliases) && !hasCertificate {
		fault("UseEndpointAliases and RequireAliases: need a certificate; set CertFile and KeyFile, or Certificate")
	}
	c := &Client{}
	if cfg.AssertionKey != nil {
		var err error
		if c.assertion, err = jws.NewSigner(cfg.AssertionAlg, "JWT", cfg.AssertionKeyID, cfg.AssertionKey); err != nil {
			fault("AssertionKey: %w", err)
		}
	}
	hosts := func(field string, entries []string) map[string]bool {
		set := make(map[string]bool)
		for _, e := range entries {
			u, err := url.Parse("https://" + e)
			if err != nil || u.Host != e || u.Hostname() == "" {
				fault("%s: expected host or host:port, found %q", field, e)
				continue
			}
			set[hostPort(u)] = true
		}
		return set
	}
	if cfg.PinAliasHosts != nil {
		c.pins = hosts("PinAliasHosts", cfg.PinAliasHosts)
		if u, err := url.Parse(cfg.Issuer); err == nil {
			c.pins[hostPort(u)] = true
		}
	}
	c.resources = hosts("ResourceHosts", cfg.ResourceHosts)
	for _, r := range cfg.Resources {
		u, err := url.Parse(r)
		if err != nil || !u.IsAbs() || strings.Contains(r, "#") {
			fault("Resources: expected an absolute URI without fragment, found %q (RFC 8707, Section 2)", r)
		} else if u.Scheme == "https" && u.Hostname() != "" {
			c.resources[hostPort(u)] = true
		}
	}
	if cfg.ReloadEvery < 0 || cfg.Timeout < 0 {
		fault("a time is negative")
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	if cfg.ReloadEvery == 0 {
		cfg.ReloadEvery = time.Second
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.Scopes, cfg.Resources = slices.Clone(cfg.Scopes), slices.Clone(cfg.Resources)
	c.cfg = cfg
	c.plain = c.newTransport(nil)
	c.plainClient = metadata.NoRedirect(&http.Client{Transport: c.plain})
	c.httpClient = &http.Client{Transport: &transport{c, c}}
	c.keys = jwks.NewFetcher(jwks.FetcherConfig{Client: c.plainClient, Timeout: cfg.Timeout, Now: cfg.Now})
	if err := c.firstIdentity(context.Background()); err != nil {
		return nil, err
	}
	return c, nil
}

// hostPort returns the host of a URL with its port, in lower case.
func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = "443"
	}
	return net.JoinHostPort(strings.ToLower(strings.TrimSuffix(u.Hostname(), ".")), port)
}

// TokenSource returns a source of access tokens for ctx, which bounds its requests. The
// tokens are bound to the current certificate; use them through [Client.HTTPClient], or
// through its transport as the base of an [oauth2.Transport]. They are for the client
// itself; those for a person are of a [Session].
func (c *Client) TokenSource(ctx context.Context) oauth2.TokenSource { return tokenSource{c, ctx} }

type tokenSource struct {
	c   *Client
	ctx context.Context
}

// Token implements [oauth2.TokenSource]. Errors of the server are of type *[Error].
func (s tokenSource) Token() (*oauth2.Token, error) {
	_, tok, err := s.c.usable(s.ctx)
	if err != nil {
		return nil, err
	}
	copied := *tok // the caller's to change
	return &copied, nil
}

// HTTPClient returns a client for requests to resources: it adds the token, over a
// connection with the certificate that the token is bound to. When the resource answers
// 401 with invalid_token, it looks at the certificate, gets a new token and tries once
// more, if the body can be sent again (see [http.Request].GetBody).
//
// A request is refused that does not go to a configured host, or that carries Client-Cert
// fields, which are the business of proxies alone (RFC 9440, Section 2.4). A request that
// brings a token from [Client.TokenSource] keeps it. The client has no timeout.
func (c *Client) HTTPClient() *http.Client {
	copied := *c.httpClient
	return &copied
}

// CloseIdleConnections closes what is open and not in use.
func (c *Client) CloseIdleConnections() {
	c.plain.CloseIdleConnections()
	c.mu.Lock()
	ids := []*identity{c.current, c.previous}
	c.mu.Unlock()
	for _, id := range ids {
		if id != nil {
			id.transport.CloseIdleConnections()
		}
	}
}
