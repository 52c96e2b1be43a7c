package oauthclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"time"

	"github.com/certbound/certbound/internal/metadata"
)

// Names of endpoints, as they stand in metadata (RFC 8414, Section 2).
const (
	TokenEndpoint                      = "token_endpoint"
	RevocationEndpoint                 = "revocation_endpoint"
	IntrospectionEndpoint              = "introspection_endpoint"
	PushedAuthorizationRequestEndpoint = "pushed_authorization_request_endpoint"
	DeviceAuthorizationEndpoint        = "device_authorization_endpoint"
	BackchannelAuthenticationEndpoint  = "backchannel_authentication_endpoint"
	UserInfoEndpoint                   = "userinfo_endpoint"
	RegistrationEndpoint               = "registration_endpoint"
	AuthorizationEndpoint              = "authorization_endpoint"
)

// Metadata is the validated metadata of an authorization server. It is immutable.
type Metadata struct {
	// Issuer is the one issuer, also for what is fetched at an alias (RFC 8705,
	// Section 5).
	Issuer  string
	JWKSURI string
	// BoundTokens is tls_client_certificate_bound_access_tokens; absent is false
	// (RFC 8705, Section 3.3).
	BoundTokens bool
	// ResponseIssuer is authorization_response_iss_parameter_supported (RFC 9207,
	// Section 3); absent is false.
	ResponseIssuer bool
	// AuthMethods is token_endpoint_auth_methods_supported.
	AuthMethods []string
	// Raw is the whole document.
	Raw json.RawMessage

	doc *metadata.Document
}

// ParseMetadata reads a metadata document that is to be the one of issuer. It refuses a
// document of any other issuer (RFC 8414, Section 3.3), and one with an alias of a direct
// endpoint that is not an absolute https URL; of such a document nothing is used.
func ParseMetadata(data []byte, issuer string) (*Metadata, error) {
	doc, err := metadata.Parse(data, issuer)
	if err != nil {
		return nil, fmt.Errorf("oauthclient: %w", err)
	}
	return newMetadata(doc), nil
}

func newMetadata(doc *metadata.Document) *Metadata {
	return &Metadata{
		Issuer:         doc.Issuer,
		JWKSURI:        doc.JWKSURI,
		BoundTokens:    doc.BoundTokens,
		ResponseIssuer: doc.ResponseIssuer,
		AuthMethods:    slices.Clone(doc.AuthMethods),
		Raw:            doc.Raw,
		doc:            doc,
	}
}

// Endpoint returns the URL of an endpoint by its name. With mtls it is the entry of
// mtls_endpoint_aliases if there is one and the endpoint is one that clients call
// directly; otherwise it is the conventional URL (RFC 8705, Section 5).
func (m *Metadata) Endpoint(name string, mtls bool) (string, error) {
	at, err := m.doc.Endpoint(name, mtls)
	if err != nil {
		return "", fmt.Errorf("oauthclient: %w", err)
	}
	return at, nil
}

// Aliases returns a copy of the aliases that count.
func (m *Metadata) Aliases() map[string]string { return maps.Clone(m.doc.Aliases()) }

type fetchedMetadata struct {
	m  *Metadata
	at time.Time
}

const (
	metadataAge   = time.Hour
	metadataRetry = time.Minute
)

// Discover returns the metadata of the issuer: fetched at first use without a client
// certificate, renewed every hour in the background. Metadata that cannot be renewed
// stays in use.
func (c *Client) Discover(ctx context.Context) (*Metadata, error) {
	if c.cfg.Metadata != nil {
		return c.cfg.Metadata, nil
	}
	old := c.metadata.Load()
	fetch := func(ctx context.Context) (*Metadata, error) {
		doc, err := metadata.Fetch(ctx, c.plainClient, c.cfg.Issuer)
		if err != nil {
			if old != nil {
				c.metadata.Store(&fetchedMetadata{old.m, c.cfg.Now().Add(metadataRetry - metadataAge)})
			}
			return nil, fmt.Errorf("oauthclient: %w", err)
		}
		m := newMetadata(doc)
		c.metadata.Store(&fetchedMetadata{m, c.cfg.Now()})
		return m, nil
	}
	if old == nil {
		return c.discovering.Do(ctx, "", c.cfg.Timeout, fetch)
	}
	if c.cfg.Now().Sub(old.at) >= metadataAge {
		c.discovering.Start(ctx, "", c.cfg.Timeout, fetch)
	}
	return old.m, nil
}

// Endpoint returns where this client calls an endpoint: the alias if it does mutual TLS
// there, which it does if it authenticates by certificate, if it has a certificate and
// the endpoint issues or takes tokens, or if UseEndpointAliases says so.
func (c *Client) Endpoint(ctx context.Context, name string) (string, error) {
	at, _, err := c.endpoint(ctx, name)
	return at, err
}

// endpoint also says whether the certificate may be offered there.
func (c *Client) endpoint(ctx context.Context, name string) (at string, mtls bool, err error) {
	m, err := c.Discover(ctx)
	if err != nil {
		return "", false, err
	}
	mtls = c.doesMTLS(name)
	if at, err = m.Endpoint(name, mtls); err != nil {
		return "", false, err
	}
	if _, ok := m.doc.Alias(name); mtls && !ok && c.cfg.RequireAliases {
		return "", false, fmt.Errorf("oauthclient: %s: expected an entry in mtls_endpoint_aliases, found none; correct the server's metadata or unset RequireAliases", name)
	}
	u, err := url.Parse(at)
	if err != nil {
		return "", false, err
	}
	if c.pins != nil && mtls && !c.pins[hostPort(u)] {
		return "", false, fmt.Errorf("oauthclient: %s: host %q is neither the issuer's nor in PinAliasHosts: %w", name, u.Host, ErrHostNotAllowed)
	}
	return at, mtls, nil
}

// ErrHostNotAllowed reports a request to a host that the client was not configured for.
// Nothing was sent to it, no certificate was offered.
var ErrHostNotAllowed = errors.New("oauthclient: host not configured")

// doesMTLS says whether the client intends mutual TLS at an endpoint (RFC 8705, Section
// 5): to authenticate, to obtain a bound token, or to use one.
func (c *Client) doesMTLS(name string) bool {
	if !c.hasCertificate() {
		return false
	}
	switch c.cfg.AuthMethod {
	case TLSClientAuth, SelfSignedTLSClientAuth:
		return true
	}
	switch name {
	case TokenEndpoint, DeviceAuthorizationEndpoint, BackchannelAuthenticationEndpoint, UserInfoEndpoint:
		return true
	}
	return c.cfg.UseEndpointAliases
}
