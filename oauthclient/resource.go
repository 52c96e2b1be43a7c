package oauthclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/certbound/certbound/internal/metadata"
)

// ResourceMetadata is what a resource says of itself (RFC 9728, Section 2).
type ResourceMetadata struct {
	Resource             string   `json:"resource"`
	AuthorizationServers []string `json:"authorization_servers"`
	ScopesSupported      []string `json:"scopes_supported"`
	// BoundTokens says that the resource supports certificate-bound tokens. It does not
	// say that it requires them: there is no member for that, so that a client has to
	// be told (see Config.RequireBoundTokens).
	BoundTokens bool `json:"tls_client_certificate_bound_access_tokens"`
}

// ErrResourceMetadata reports metadata of a resource that must not be used.
var ErrResourceMetadata = errors.New("oauthclient: resource metadata cannot be used")

// DiscoverResource fetches the metadata of a resource, without certificate and token. It
// refuses a document of another resource (RFC 9728, Section 3.3), one that does not name
// this client's issuer, and, if the issuer lists its resources, one that is not listed
// (Section 4).
func (c *Client) DiscoverResource(ctx context.Context, resource string) (*ResourceMetadata, error) {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s: "+format, append([]any{ErrResourceMetadata, resource}, args...)...)
	}
	if err := metadata.CheckEndpoint(resource); err != nil {
		return nil, fail("not a resource identifier: %w", err)
	}
	at, err := metadata.WellKnown(resource, "oauth-protected-resource")
	if err != nil {
		return nil, fail("%w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	data, status, err := metadata.GetJSON(ctx, c.plainClient, at)
	if err != nil {
		return nil, fail("%w", err)
	}
	if status != http.StatusOK {
		return nil, fail("expected status 200 at %s, found %d", at, status)
	}
	var m ResourceMetadata
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fail("not the expected JSON object: %w", err)
	}
	if m.Resource != resource {
		return nil, fail("resource: expected the identifier that was asked for, found %q", printable(m.Resource, 256))
	}
	if len(m.AuthorizationServers) > 0 && !slices.Contains(m.AuthorizationServers, c.cfg.Issuer) {
		return nil, fail("authorization_servers: expected %q among them, found %q", c.cfg.Issuer, printable(strings.Join(m.AuthorizationServers, " "), 256))
	}
	as, err := c.Discover(ctx)
	if err != nil {
		return nil, err
	}
	if listed := as.doc.ProtectedResources; len(listed) > 0 && !slices.Contains(listed, resource) {
		return nil, fail("protected_resources of %s does not list it", c.cfg.Issuer)
	}
	return &m, nil
}
