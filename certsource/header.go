package certsource

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/certbound/certbound/internal/sfv"
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
	field := s.names[0]
	values := r.Header[field]
	if len(values) > 1 {
		return nil, s.fault(field, "more than one value")
	}
	if len(values) == 0 || values[0] == "" || values[0] == "(null)" {
		return nil, ErrNoCertificate
	}
	if p, ok := s.recall(r, values[0], nil); ok {
		return p, nil
	}
	p, err := s.parse(field, values[0])
	if err != nil {
		return nil, err
	}
	return s.keep(r, values[0], nil, p), nil
}

func (s *HeaderField) parse(field, value string) (*Presented, error) {
	if err := s.size(field, len(value)); err != nil {
		return nil, err
	}
	switch s.format {
	case FormatDER:
		if value[0] == '"' {
			return nil, s.fault(field, "base64 in quotes; let the proxy send it without them (HAProxy: %%[…] without +Q)")
		}
		der, err := sfv.Base64(value)
		if err != nil {
			return nil, s.fault(field, "%s", faultOf(err))
		}
		return s.present(field, der, field, nil)
	case FormatSHA256:
		text := value
		if len(text) == 3*sha256.Size-1 {
			for i := 2; i < len(text); i += 3 {
				if text[i] != ':' {
					return nil, s.fault(field, "not a SHA-256 fingerprint")
				}
			}
			text = strings.ReplaceAll(text, ":", "")
		}
		var sum [sha256.Size]byte
		if len(text) != 2*sha256.Size {
			return nil, s.fault(field, "%d characters; a SHA-256 fingerprint has 64 hexadecimal digits", len(value))
		}
		if _, err := hex.Decode(sum[:], []byte(text)); err != nil {
			return nil, s.fault(field, "a character that is not hexadecimal")
		}
		return NewFingerprint(s.source, sum), nil
	case FormatEscapedPEM:
		text, ok := unescape(value)
		if !ok {
			return nil, s.fault(field, "a percent sign without two hexadecimal digits")
		}
		value = text
	}
	ders, err := s.pem(field, value)
	if err != nil {
		return nil, err
	}
	return s.present(field, ders[0], field, ders[1:])
}

// unescape decodes percent-encoding and nothing else: form decoding would turn the
// plus signs of base64 into spaces.
func unescape(s string) (string, bool) {
	if strings.IndexByte(s, '%') < 0 {
		return s, true
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			out = append(out, s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", false
		}
		var b [1]byte
		if _, err := hex.Decode(b[:], []byte(s[i+1:i+3])); err != nil {
			return "", false
		}
		out = append(out, b[0])
		i += 2
	}
	return string(out), true
}

const (
	pemBegin = "-----BEGIN CERTIFICATE-----"
	pemEnd   = "-----END CERTIFICATE-----"
)

// pem splits PEM text whose line ends may have become any white space. At least one
// certificate is returned, or an error.
func (s *HeaderField) pem(field, text string) ([][]byte, error) {
	var ders [][]byte
	for text = trimSpace(text); text != "" || ders == nil; text = trimSpace(text) {
		body, ok := strings.CutPrefix(text, pemBegin)
		if !ok {
			return nil, s.fault(field, "not PEM: no %s", strings.Trim(pemBegin, "-"))
		}
		body, text, ok = strings.Cut(body, pemEnd)
		if !ok {
			return nil, s.fault(field, "not PEM: no %s; the value may have been cut at a line end", strings.Trim(pemEnd, "-"))
		}
		if len(ders) == s.maxCerts {
			return nil, s.tooMany(field)
		}
		der, err := sfv.Base64(strings.Map(func(r rune) rune {
			if isSpace(r) {
				return -1
			}
			return r
		}, body))
		if err != nil {
			return nil, s.fault(field, "not PEM: %s", faultOf(err))
		}
		ders = append(ders, der)
	}
	return ders, nil
}

func isSpace(r rune) bool { return r == ' ' || r == '\t' || r == '\r' || r == '\n' }

func trimSpace(s string) string { return strings.TrimFunc(s, isSpace) }
