// Package clientauth authenticates an OAuth 2.0 client by the certificate that it
// presented: tls_client_auth (RFC 8705, Section 2.1) and self_signed_tls_client_auth
// (Section 2.2). It knows no request, so that any server can use it; the net/http
// middleware is in the package httpauth.
package clientauth

import (
	"context"
	"crypto/x509"
	"time"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/pki"
	"github.com/certbound/certbound/pki/subject"
)

// The registered method names (RFC 8705, Sections 2.1.1 and 2.2.1).
const (
	TLSClientAuth           = "tls_client_auth"
	SelfSignedTLSClientAuth = "self_signed_tls_client_auth"
)

// An Error is a client that is not authenticated. The wire sees invalid_client for
// every reason (RFC 8705, Section 2); the operator sees the decision.
type Error struct {
	Check decision.Check
	Err   error
}

func (e *Error) Error() string { panic("contract") }

func (e *Error) Unwrap() error { return e.Err }

// PathValidator is what this package needs of *[pki.Validator].
type PathValidator interface {
	Verify(ctx context.Context, set string, chain pki.Chain) (*pki.Verdict, error)
}

// PKI is the registration of a tls_client_auth client.
type PKI struct {
	// Expected is the one subject value (RFC 8705, Section 2.1.2).
	Expected subject.Expected
	// AnchorSet names the CAs that may issue for this client (Section 7.4).
	AnchorSet string
	// SoleEntry demands that the value is the only one of its kind.
	SoleEntry bool
}

// SelfSigned is the registration of a self_signed_tls_client_auth client.
type SelfSigned struct {
	// Certificates are the registered ones: the DER of each x5c[0].
	Certificates [][]byte
	// InsecureMatchKey accepts any certificate with the public key of a
	// registered one (a departure from Section 2.2).
	InsecureMatchKey bool
	// InsecureIgnoreValidity leaves out the check of notBefore and notAfter.
	InsecureIgnoreValidity bool
	// Refetch, if set, is asked once for newer certificates when none matches.
	Refetch func(ctx context.Context) ([][]byte, error)
}

// Config holds the settings of an [Authenticator].
type Config struct {
	// Paths validates paths for tls_client_auth. If nil, every such client is
	// refused with reason NoAnchors.
	Paths PathValidator
	// Now returns the current time. If nil, time.Now.
	Now func() time.Time
}

// An Authenticator checks certificates against registrations. It is safe for
// concurrent use.
type Authenticator struct{ cfg Config }

// New returns an Authenticator.
func New(cfg Config) *Authenticator { return &Authenticator{cfg} }

// AuthenticatePKI checks p against the registration of a tls_client_auth client and
// records each check in d: certificate, chain (with policy and revocation), subject.
// If p.VerifiedBy is set, the chain check is recorded as skipped. Errors are of type
// *[Error]; d then has the same check as its failure. It does not call d.Allow.
func (a *Authenticator) AuthenticatePKI(ctx context.Context, d *decision.Decision, p *certsource.Presented, reg PKI) error {
	panic("contract")
}

// AuthenticateSelfSigned does the same for a self_signed_tls_client_auth client:
// certificate, registration, validity.
func (a *Authenticator) AuthenticateSelfSigned(ctx context.Context, d *decision.Decision, p *certsource.Presented, reg SelfSigned) error {
	panic("contract")
}

var _ = x509.Certificate{}
