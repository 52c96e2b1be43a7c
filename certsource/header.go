package certsource

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// A HeaderFormat is the form of a certificate in a header field. It is chosen by name
// and never guessed.
type HeaderFormat uint8

// The formats. There is no default.
const (
	FormatUnset HeaderFormat = iota
	// FormatDER is base64 of the DER, in one line, with padding or without.
	FormatDER
	// FormatPEM is PEM with spaces or tabs in place of line ends, as Apache httpd
	// sends it. Further certificates after the first are the chain.
	FormatPEM
	// FormatEscapedPEM is PEM that is percent-encoded, as nginx and AWS ALB send
	// it. A plus sign stays a plus sign.
	FormatEscapedPEM
	// FormatSHA256 is the SHA-256 of the DER in hexadecimal, with colons or
	// without. It is enough for a binding and for a self-signed client.
	FormatSHA256
)

// HeaderFieldConfig holds the settings of a [HeaderField]. The zero value is refused.
type HeaderFieldConfig struct {
	// Hop is the proxy. Required.
	Hop Hop
	// Field is the name of the header field. Required.
	Field string
	// Format is how the certificate is written. Required.
	Format HeaderFormat
	// Verification says whether the proxy validates paths in our place. If zero,
	// it does not.
	Verification Verification
	// Others judges requests of peers that are not the hop (see [RFC9440Config]).
	Others Source
	// MaxCertificates bounds a chain in PEM. If zero, 10.
	MaxCertificates int
	// MaxBytes bounds the field, as sent. If zero, 64 KiB.
	MaxBytes int
}

// A HeaderField reads a certificate from one header field that has no specification.
// It is believed only from the hop. An empty value counts as no certificate, and so
// does the "(null)" that Apache httpd sends for one.
type HeaderField struct {
	fields
	format HeaderFormat
}

// NewHeaderField reports every wrong setting at once.
func NewHeaderField(cfg HeaderFieldConfig) (*HeaderField, error) {
	s := &HeaderField{format: cfg.Format, fields: fields{
		source: "header", hop: cfg.Hop, verification: cfg.Verification, others: cfg.Others,
		names:    []string{http.CanonicalHeaderKey(cfg.Field)},
		most:     KindCertificate,
		maxCerts: cfg.MaxCertificates, maxBytes: cfg.MaxBytes,
	}}
	err := s.validate()
	switch cfg.Format {
	case FormatDER, FormatPEM, FormatEscapedPEM:
	case FormatSHA256:
		s.most = KindFingerprint
	default:
		err = errors.Join(err, fmt.Errorf("certsource: header: %s: the format is not set; there is no default", cfg.Field))
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Certificate implements [Source].
func (s *HeaderField) Certificate(r *http.Request) (*Presented, error) {
	if why := s.hop.refuse(r); why != "" {
		return s.stranger(r, why)
	}
	if err := s.clean(r); err != nil {
		return nil, err
	}
	field := s.names[0]
	values := r.Header[field]
	if len(values) == 0 || values[0] == "" || values[0] == "(null)" {
		return nil, ErrNoCertificate
	}
	verified := s.verification.verified(r)
	if p, ok, err := s.recall(r, values[0], nil, verified); ok {
		return p, err
	}
	p, err := s.parse(field, values[0])
	if err != nil {
		return nil, err
	}
	return s.keep(r, values[0], nil, p, verified)
}

func (s *HeaderField) parse(field, value string) (*Presented, error) {
	switch s.format {
	case FormatDER:
		return s.decode(field, value, formDER, "", nil, listForm{})
	case FormatPEM:
		return s.decode(field, value, formFoldedPEM, "", nil, listForm{})
	case FormatEscapedPEM:
		return s.decode(field, value, formEscapedPEM, "", nil, listForm{})
	}
	if err := s.size(field, len(value)); err != nil {
		return nil, err
	}
	sum, err := s.sha256(field, value)
	if err != nil {
		return nil, err
	}
	return NewFingerprint(s.source, sum), nil
}

// sha256 reads a SHA-256 in hexadecimal, with colons or without.
func (f *fields) sha256(field, value string) (sum [sha256.Size]byte, err error) {
	text := value
	if len(text) == 3*sha256.Size-1 {
		for i := 2; i < len(text); i += 3 {
			if text[i] != ':' {
				return sum, f.fault(field, "not a SHA-256 fingerprint")
			}
		}
		text = strings.ReplaceAll(text, ":", "")
	}
	if len(text) != 2*sha256.Size {
		return sum, f.fault(field, "%d characters; a SHA-256 fingerprint has 64 hexadecimal digits", len(value))
	}
	if _, err := hex.Decode(sum[:], []byte(text)); err != nil {
		return [sha256.Size]byte{}, f.fault(field, "a character that is not hexadecimal")
	}
	return sum, nil
}
