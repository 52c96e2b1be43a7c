package certsource

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/certbound/certbound/decision"
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
	lists        []string // those of names that may stand in several lines
	beside       []string // what the hop sends beside them, for nobody here
	most         Kind
	maxCerts     int
	maxBytes     int
	own          spellings // of names

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
		if len(name) > maxFieldName {
			errs = append(errs, fmt.Errorf("certsource: %s: the name %s… has more than %d characters", f.source, name[:16], maxFieldName))
		}
		if slices.Contains(f.names[:i], name) {
			errs = append(errs, fmt.Errorf("certsource: %s: the field %s is named twice", f.source, name))
		}
	}
	if v := f.verification.Field; v != "" {
		name := http.CanonicalHeaderKey(v)
		if !isFieldName(v) || slices.Contains(f.names, name) {
			errs = append(errs, fmt.Errorf("certsource: %s: verification field %q is not a header field of its own", f.source, v))
		}
		f.names = append(f.names, name)
	}
	f.own = newSpellings(f.names)
	f.maxCerts = cmp.Or(f.maxCerts, defaultMaxCertificates)
	f.maxBytes = cmp.Or(f.maxBytes, defaultMaxBytes)
	f.seen = memo.New[decoded](memoBytes)
	return errors.Join(errs...)
}

// Name returns the name of the source.
func (f *fields) Name() string { return f.source }

// Describe implements [Describer].
func (f *fields) Describe() Description {
	d := Description{Most: f.most, Fields: slices.Concat(f.names, f.beside), VerifiedBy: f.verification.text()}
	if f.others != nil {
		d.Most = max(d.Most, Describe(f.others).Most)
	}
	return d
}

// stranger judges a request whose peer is not the proxy. A certificate field of any
// hop, in any spelling, is an attack there.
func (f *fields) stranger(r *http.Request, why string) (*Presented, error) {
	if f.others != nil {
		return f.others.Certificate(r)
	}
	for name := range r.Header {
		if _, ok := f.own.resemble(name); ok || isForeign(name) {
			return nil, &UntrustedPeerError{Source: f.source, Field: shortName(name), Peer: Peer(r.Context()), Why: why}
		}
	}
	return nil, ErrNoCertificate
}

// clean refuses a request of the proxy in which a field of ours stands twice or in
// another spelling, or is named in Connection (RFC 9110, Section 7.6.1). All of that can
// only come from a client past a proxy that does not remove it.
func (f *fields) clean(r *http.Request) error {
	for name, values := range r.Header {
		ours, ok := f.own.resemble(name)
		switch {
		case !ok:
		case ours != name:
			return f.because(decision.SourceLookAlike, name, "looks like %s; a server behind us, or in front, may take it for that", ours)
		case len(values) > 1 && !slices.Contains(f.lists, name):
			return f.because(decision.SourceRepeated, name, "%d values", len(values))
		}
	}
	for _, line := range r.Header["Connection"] {
		for option := range strings.SplitSeq(line, ",") {
			if ours, ok := f.own.resemble(strings.Trim(option, " \t")); ok {
				return f.because(decision.SourceHopByHop, ours, "named in Connection")
			}
		}
	}
	return nil
}

// recall returns what the value was decoded to before.
func (f *fields) recall(r *http.Request, value string, chain []string, verified bool) (*Presented, bool, error) {
	d, ok := f.seen.Get(value)
	if !ok || !slices.Equal(d.chain, chain) {
		return nil, false, nil
	}
	p, err := f.choose(r, d, verified)
	return p, true, err
}

// keep makes a Presented of what was decoded, and remembers it.
func (f *fields) keep(r *http.Request, value string, chain []string, p *Presented, verified bool) (*Presented, error) {
	d := decoded{chain: chain, presented: p, unverified: p}
	if who := f.verification.text(); who != "" {
		verified := *p
		verified.VerifiedBy = who
		d.presented = &verified
	}
	cost := len(value) + occupied(p)
	for _, line := range chain {
		cost += len(line)
	}
	f.seen.Put(value, d, cost)
	return f.choose(r, d, verified)
}

// occupied estimates the memory of what was parsed: a certificate with many names takes 40
// times what was sent.
func occupied(p *Presented) int {
	n := parsedSize
	count := func(c *x509.Certificate) {
		n += parsedSize + 8*len(c.Raw) + 160*len(c.URIs) + 32*(len(c.DNSNames)+len(c.EmailAddresses)+len(c.IPAddresses))
	}
	if p.leaf != nil {
		count(p.leaf)
	}
	for _, c := range p.chain {
		count(c)
	}
	return n
}

func (f *fields) choose(r *http.Request, d decoded, verified bool) (*Presented, error) {
	p := d.unverified
	if verified {
		p = d.presented
	}
	// A gateway that shows its own certificate in place of its client's would make
	// all its clients one.
	if own, err := (TLS{}).Certificate(r); err == nil && own.thumbprint == p.thumbprint {
		return nil, f.because(decision.SourceProxyOwn, f.names[0], "the certificate that the proxy itself has used on this connection")
	}
	return p, nil
}

func (f *fields) because(reason decision.Reason, field, format string, args ...any) *ParseError {
	return &ParseError{Source: f.source, Field: field, Fault: fmt.Sprintf(format, args...), Reason: reason}
}

func (f *fields) fault(field, format string, args ...any) *ParseError {
	return &ParseError{Source: f.source, Field: field, Fault: fmt.Sprintf(format, args...)}
}

// size refuses values that are larger than the limit.
func (f *fields) size(field string, n int) *ParseError {
	if n > f.maxBytes {
		return f.because(decision.SourceTooLarge, field, "%d bytes, the limit is %d; let the client send only its certificate and the intermediates, or raise the limit", n, f.maxBytes)
	}
	return nil
}

func (f *fields) tooMany(field string) *ParseError {
	return f.because(decision.SourceTooLarge, field, "more than %d certificates with the client's own; let the client send only its certificate and the intermediates, or raise the limit", f.maxCerts)
}

// decode reads a certificate field and the lines of a chain field.
func (f *fields) decode(field, value string, form form, chainField string, lines []string, list listForm) (*Presented, error) {
	size := len(value)
	for _, line := range lines {
		size += len(line)
	}
	largest := field
	if len(lines) > 0 {
		largest = chainField
	}
	if err := f.size(largest, size); err != nil {
		return nil, err
	}
	ders, err := form.decode(f, field, value)
	if err != nil {
		return nil, err
	}
	rest := ders[1:]
	if len(lines) > 0 {
		more, err := list.decode(f, chainField, lines)
		if err != nil {
			return nil, err
		}
		rest = append(rest, more...)
	}
	return f.present(field, ders[0], cmp.Or(chainField, field), rest)
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
	if len(rest) >= f.maxCerts {
		return nil, f.tooMany(chainField)
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
