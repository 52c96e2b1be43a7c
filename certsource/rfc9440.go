package certsource

import (
	"errors"
	"net/http"

	"github.com/certbound/certbound/internal/sfv"
)

// The fields of RFC 9440.
const (
	fieldClientCert      = "Client-Cert"
	fieldClientCertChain = "Client-Cert-Chain"
)

// RFC9440Config holds the settings of an [RFC9440]. The zero value is refused.
type RFC9440Config struct {
	// Hop is the proxy. Required.
	Hop Hop
	// Verification says whether the proxy validates paths in our place. If zero,
	// it does not.
	Verification Verification
	// Others judges requests of peers that are not the hop, such as [TLS] where
	// clients also connect directly. It is not a fallback: for the hop only the
	// fields count. If nil, such a peer has no certificate, and a field that it
	// sends is an *[UntrustedPeerError].
	Others Source
	// MaxCertificates bounds Client-Cert and Client-Cert-Chain together. If
	// zero, 10.
	MaxCertificates int
	// MaxBytes bounds the two fields together, as sent. If zero, 64 KiB.
	MaxBytes int
}

// An RFC9440 reads the Client-Cert and Client-Cert-Chain fields (RFC 9440, Section 2).
// They are believed only from the hop. From the hop nothing else counts, its own TLS
// certificate least of all, and a field that does not parse is a *[ParseError].
type RFC9440 struct{ fields }

// NewRFC9440 reports every wrong setting at once.
func NewRFC9440(cfg RFC9440Config) (*RFC9440, error) {
	s := &RFC9440{fields{
		source: "rfc9440", hop: cfg.Hop, verification: cfg.Verification, others: cfg.Others,
		names:    []string{fieldClientCert, fieldClientCertChain},
		lists:    []string{fieldClientCertChain},
		most:     KindCertificate,
		maxCerts: cfg.MaxCertificates, maxBytes: cfg.MaxBytes,
	}}
	if err := s.validate(); err != nil {
		return nil, err
	}
	return s, nil
}

// Certificate implements [Source].
func (s *RFC9440) Certificate(r *http.Request) (*Presented, error) {
	if why := s.hop.refuse(r); why != "" {
		return s.stranger(r, why)
	}
	if err := s.clean(r); err != nil {
		return nil, err
	}
	leaves, chain := r.Header[fieldClientCert], r.Header[fieldClientCertChain]
	switch {
	case len(leaves) == 0 && len(chain) == 0:
		return nil, ErrNoCertificate
	case len(leaves) == 0:
		return nil, s.fault(fieldClientCertChain, "without %s", fieldClientCert)
	}
	verified := s.verification.verified(r)
	if p, ok, err := s.recall(r, leaves[0], chain, verified); ok {
		return p, err
	}
	p, err := s.decode(fieldClientCert, leaves[0], formItem, fieldClientCertChain, chain, listItems)
	if err != nil {
		return nil, err
	}
	return s.keep(r, leaves[0], chain, p, verified)
}

func faultOf(err error) string {
	if e, ok := errors.AsType[*sfv.Error](err); ok {
		return e.Fault
	}
	return err.Error()
}
