package certsource

import (
	"errors"
	"net/http"

	"github.com/certbound/certbound/decision"
)

// AttributeFieldsConfig holds the settings of an [AttributeFields]. The zero value is
// refused.
type AttributeFieldsConfig struct {
	// Hop is the proxy. Required.
	Hop Hop
	// Verification says that the proxy has validated the certificate. Required,
	// because nothing can be checked again here. Where the proxy also forwards
	// certificates that it could not verify (nginx: optional_no_ca), set its
	// Field as well.
	Verification Verification

	// SubjectDN, SANDNS, SANURI, SANIP and SANEmail name the header fields. At
	// least one. Several SAN entries stand in several lines of a field, one in
	// each; there is one subject.
	SubjectDN, SANDNS, SANURI, SANIP, SANEmail string
	// DNSyntax is how SubjectDN is written. Required with SubjectDN.
	DNSyntax DNSyntax

	// MaxBytes bounds the fields together. If zero, 64 KiB.
	MaxBytes int
}

// An AttributeFields reads single names of the certificate from header fields of the
// hop, such as SSL_CLIENT_DN. They can authenticate a tls_client_auth client, if the
// proxy is said to verify, and nothing else: not a self-signed client, and they bind no
// token. A source of whole certificates is better in every respect.
type AttributeFields struct {
	fields
	cfg        AttributeFieldsConfig
	attributes []string // those of names that hold one
}

// NewAttributeFields reports every wrong setting at once.
func NewAttributeFields(cfg AttributeFieldsConfig) (*AttributeFields, error) {
	s := &AttributeFields{cfg: cfg, fields: fields{
		source: "attributes", hop: cfg.Hop, verification: cfg.Verification,
		most: KindAttributes, maxBytes: cfg.MaxBytes,
	}}
	for _, name := range []*string{&s.cfg.SubjectDN, &s.cfg.SANDNS, &s.cfg.SANURI, &s.cfg.SANIP, &s.cfg.SANEmail} {
		if *name != "" {
			*name = http.CanonicalHeaderKey(*name)
			s.names = append(s.names, *name)
			if name != &s.cfg.SubjectDN {
				s.lists = append(s.lists, *name) // a certificate has one subject
			}
		}
	}
	s.attributes = s.names
	errs := []error{s.validate()}
	if len(s.attributes) == 0 {
		errs = append(errs, errors.New("certsource: attributes: no header field is named"))
	}
	if cfg.Verification.By == "" {
		errs = append(errs, errors.New("certsource: attributes: the proxy is not said to verify certificates; "+
			"set Verification, or let it forward the whole certificate"))
	}
	if known := cfg.DNSyntax == DNSyntaxLDAP || cfg.DNSyntax == DNSyntaxLegacy; known != (cfg.SubjectDN != "") {
		errs = append(errs, errors.New("certsource: attributes: SubjectDN and its DNSyntax belong together; "+
			"the syntax is RFC 4514 (CN=x,O=Agora) or legacy (/O=Agora/CN=x), and there is no default"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return s, nil
}

// Certificate implements [Source].
func (s *AttributeFields) Certificate(r *http.Request) (*Presented, error) {
	if why := s.hop.refuse(r); why != "" {
		return s.stranger(r, why)
	}
	if err := s.clean(r); err != nil {
		return nil, err
	}
	var size, count int
	for _, name := range s.attributes {
		values := r.Header[name]
		if len(values) > maxAttributeValues {
			return nil, s.because(decision.SourceTooLarge, name, "%d values, the limit is %d", len(values), maxAttributeValues)
		}
		for _, v := range values {
			size += len(v)
			if v != "" {
				count++
			}
		}
		if err := s.size(name, size); err != nil {
			return nil, err
		}
	}
	if count == 0 {
		return nil, ErrNoCertificate
	}
	p := NewAttributes(s.source, Attributes{
		SubjectDN: s.values(r, s.cfg.SubjectDN),
		DNSyntax:  s.cfg.DNSyntax,
		SANDNS:    s.values(r, s.cfg.SANDNS),
		SANURI:    s.values(r, s.cfg.SANURI),
		SANIP:     s.values(r, s.cfg.SANIP),
		SANEmail:  s.values(r, s.cfg.SANEmail),
	})
	if s.verification.verified(r) {
		p.VerifiedBy = s.verification.text()
	}
	return p, nil
}

// values returns the non-empty lines of a field. Its result may be the header's own
// slice, so it is not changed.
func (s *AttributeFields) values(r *http.Request, name string) []string {
	if name == "" {
		return nil
	}
	var out []string
	for _, v := range r.Header[name] {
		if v != "" {
			out = append(out, v)
		}
	}
	return out
}
