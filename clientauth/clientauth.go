// Package clientauth authenticates an OAuth 2.0 client by the certificate that it
// presented: tls_client_auth (RFC 8705, Section 2.1) and self_signed_tls_client_auth
// (Section 2.2). It knows no request, so that any server can use it; the net/http
// middleware is in the package httpauth.
//
// Which of the two methods applies is for the registration to say, never for the
// certificate: there is no fallback from one to the other.
package clientauth

import (
	"context"
	"strings"
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

// Error names the check and the reason. Expected and found values are in Check only.
func (e *Error) Error() string {
	return "clientauth: " + e.Check.Name + ": " + e.Check.Reason.Summary()
}

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
	// Refetch, if set, is asked once for newer certificates when none matches. It
	// has to bound how often it really asks somebody; jwks.Fetcher does.
	Refetch func(ctx context.Context) ([][]byte, error)
}

// Config holds the settings of an [Authenticator].
type Config struct {
	// Paths validates paths for tls_client_auth. If nil, every such client is
	// refused with reason NoAnchors, unless its proxy is said to verify.
	Paths PathValidator
	// Now returns the current time. If nil, time.Now.
	Now func() time.Time
}

// An Authenticator checks certificates against registrations. It is safe for
// concurrent use.
type Authenticator struct{ cfg Config }

// New returns an Authenticator.
func New(cfg Config) *Authenticator {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Authenticator{cfg}
}

// Specifications of the checks.
const (
	ruleCertificate  = "RFC 8705, Section 2"
	ruleChain        = "RFC 8705, Section 2.1"
	ruleSubject      = "RFC 8705, Section 2.1.2"
	ruleRegistration = "RFC 8705, Section 2.2"
	ruleValidity     = "RFC 5280, Section 4.1.2.5"
)

// begin records who came, and refuses when nobody did.
func begin(d *decision.Decision, method string, p *certsource.Presented) error {
	d.Method = method
	if p.Kind() == certsource.KindNone {
		return refuse(d, p, decision.Check{
			Name: decision.CheckCertificate, Rule: ruleCertificate, Reason: decision.NoCertificate,
			Expected: "a client certificate",
		}, certsource.ErrNoCertificate)
	}
	d.Via, d.Thumbprint = p.Via, p.Thumbprint()
	return nil
}

// refuse records a failed check. Only here is text made of names: the way of a client
// that is let in formats nothing.
func refuse(d *decision.Decision, p *certsource.Presented, c decision.Check, err error) error {
	c.Outcome = decision.Failed
	switch {
	case p.Leaf() != nil:
		d.Subject = subject.Of(p.Leaf())
	case p.Attributes() != nil:
		d.Subject = strings.Join(p.Attributes().SubjectDN, " and ")
	}
	d.Fail(c)
	return &Error{Check: c, Err: err}
}

// notEnough refuses a hop that told us too little.
func notEnough(d *decision.Decision, p *certsource.Presented, expected, found, fix string) error {
	return refuse(d, p, decision.Check{
		Name: decision.CheckCertificate, Rule: ruleCertificate, Reason: decision.NotEnough,
		Expected: expected, Found: found, Fix: fix,
	}, nil)
}
