package certsource

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/certbound/certbound/internal/memo"
)

// Limits of what a hop forwards. Real chains have two or three certificates of 0.5 to
// 2 kB.
const (
	defaultMaxCertificates = 10
	defaultMaxBytes        = 64 << 10
	maxAttributeValues     = 100 // more lines of one name than any certificate has
	memoBytes              = 8 << 20
	parsedSize             = 4 << 10 // about what a parsed certificate occupies
)

// fields is what the sources have in common that read header fields of a hop.
type fields struct {
	source       string
	hop          Hop
	verification Verification
	others       Source
	names        []string // the fields that are read, in canonical form, the main one first
	most         Kind
	maxCerts     int
	maxBytes     int

	// seen remembers what a value was decoded to. A proxy sends the requests of
	// many clients over few connections, so it is kept by value and not by
	// connection. It holds no verdict.
	seen *memo.Memo[decoded]
}

type decoded struct {
	chain      []string // the lines of the chain field, where there is one
	presented  *Presented
	unverified *Presented // the same, if the proxy can say "not verified"
}

func (f *fields) validate() error {
	errs := []error{f.hop.Validate(), f.verification.validate()}
	if f.maxCerts < 0 || f.maxBytes < 0 {
		errs = append(errs, fmt.Errorf("certsource: %s: a negative limit", f.source))
	}
	for i, name := range f.names {
		if !isFieldName(name) {
			errs = append(errs, fmt.Errorf("certsource: %s: %q is not the name of a header field", f.source, name))
		}
		if slices.Contains(f.names[:i], name) {
			errs = append(errs, fmt.Errorf("certsource: %s: the field %s is named twice", f.source, name))
		}
	}
	if v := f.verification.Field; v != "" && (!isFieldName(v) || slices.Contains(f.names, http.CanonicalHeaderKey(v))) {
		errs = append(errs, fmt.Errorf("certsource: %s: verification field %q is not a header field of its own", f.source, v))
	}
	f.maxCerts = cmp.Or(f.maxCerts, defaultMaxCertificates)
	f.maxBytes = cmp.Or(f.maxBytes, defaultMaxBytes)
	f.seen = memo.New[decoded](memoBytes)
	return errors.Join(errs...)
}

// Name returns the name of the source.
func (f *fields) Name() string { return f.source }

// Describe implements [Describer].
func (f *fields) Describe() Description {
	d := Description{Most: f.most, Fields: slices.Clone(f.names), VerifiedBy: f.verification.text()}
	if f.verification.Field != "" {
		d.Fields = append(d.Fields, http.CanonicalHeaderKey(f.verification.Field))
	}
	if f.others != nil {
		d.Most = max(d.Most, Describe(f.others).Most)
	}
	return d
}

// stranger judges a request whose peer is not the proxy.
func (f *fields) stranger(r *http.Request, why string) (*Presented, error) {
	if f.others != nil {
		return f.others.Certificate(r)
	}
	for _, name := range f.names {
		if _, ok := r.Header[name]; ok {
			return nil, &UntrustedPeerError{Source: f.source, Field: name, Peer: Peer(r.Context()), Why: why}
		}
	}
	return nil, ErrNoCertificate
}

// recall returns what the value was decoded to before.
func (f *fields) recall(r *http.Request, value string, chain []string) (*Presented, bool) {
	d, ok := f.seen.Get(value)
	if !ok || !slices.Equal(d.chain, chain) {
		return nil, false
	}
	return f.choose(r, d), true
}

// keep makes a Presented of what was decoded, and remembers it.
func (f *fields) keep(r *http.Request, value string, chain []string, p *Presented) *Presented {
	d := decoded{chain: chain, presented: p, unverified: p}
	if who := f.verification.text(); who != "" {
		verified := *p
		verified.VerifiedBy = who
		d.presented = &verified
	}
	cost := len(value) + parsedSize
	for _, line := range chain {
		cost += len(line) + parsedSize
	}
	f.seen.Put(value, d, cost)
	return f.choose(r, d)
}

func (f *fields) choose(r *http.Request, d decoded) *Presented {
	if f.verification.verified(r) {
		return d.presented
	}
	return d.unverified
}

func (f *fields) fault(field, format string, args ...any) *ParseError {
	return &ParseError{Source: f.source, Field: field, Fault: fmt.Sprintf(format, args...)}
}

// size refuses values that are larger than the limit.
func (f *fields) size(field string, n int) *ParseError {
	if n > f.maxBytes {
		return f.fault(field, "%d bytes, the limit is %d; let the client send only its certificate and the intermediates, or raise the limit", n, f.maxBytes)
	}
	return nil
}

func (f *fields) tooMany(field string) *ParseError {
	return f.fault(field, "more than %d certificates with the client's own; let the client send only its certificate and the intermediates, or raise the limit", f.maxCerts)
}

// certificate parses one certificate of which nothing may be left over.
func (f *fields) certificate(field string, der []byte) (*x509.Certificate, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, f.fault(field, "not one DER certificate: %v", err)
	}
	return cert, nil
}

// presented parses the certificates of a field. The leaf comes first; copies are left
// out of the chain.
func (f *fields) present(field string, leaf []byte, chainField string, chain [][]byte) (*Presented, error) {
	cert, err := f.certificate(field, leaf)
	if err != nil {
		return nil, err
	}
	var rest []*x509.Certificate
	for _, der := range chain {
		c, err := f.certificate(chainField, der)
		if err != nil {
			return nil, err
		}
		if !c.Equal(cert) && !slices.ContainsFunc(rest, c.Equal) {
			rest = append(rest, c)
		}
	}
	return NewPresented(f.source, cert, rest), nil
}

// isFieldName reports whether s is a token (RFC 9110, Section 5.6.2).
func isFieldName(s string) bool {
	if s == "" {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '-' || c == '_' || c == '.' || c == '!' || c == '#' || c == '$' || c == '%' || c == '&' ||
			c == '\'' || c == '*' || c == '+' || c == '^' || c == '`' || c == '|' || c == '~':
		default:
			return false
		}
	}
	return true
}
