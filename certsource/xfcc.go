package certsource

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/decision"
)

// X-Forwarded-Client-Cert of Envoy, and so of Istio, Contour and Envoy Gateway: elements
// with commas between them, one for each hop that appended; in an element pairs of key and
// value with semicolons between them. The element of our client is not always the first
// or the last: how many trusted hops append is for the operator to say. What stands
// further left was there before the first of them, and is the word of the client.
var presetXFCC = preset{
	Preset: Preset{
		Name: "xfcc", Title: "Envoy, Istio, Contour (X-Forwarded-Client-Cert)", Field: "X-Forwarded-Client-Cert",
		Form: "elements of Hash (SHA-256), Cert and Chain (percent-encoded PEM)",
		Most: KindCertificate, Chain: "if Chain is switched on", Versions: "Envoy 1.30 and later", Config: "xfcc.md", Run: true,
		Note: "TrustedHops has no default. Cert and Chain are off by default; Hash alone is a fingerprint.",
	},
	build: func(p *preset, cfg PresetConfig) (Source, error) {
		s := newFields(p, cfg)
		s.read, s.hops = (*presetSource).xfcc, cfg.TrustedHops
		err := s.validate()
		if cfg.TrustedHops < 1 || cfg.TrustedHops > maxHops {
			err = errors.Join(err, fmt.Errorf("certsource: xfcc: TrustedHops: expected 1 to %d, found %d; say how many of your proxies append an element, there is no default", maxHops, cfg.TrustedHops))
		}
		if err != nil {
			return nil, err
		}
		return s, nil
	},
}

// maxHops bounds what can be configured.
const maxHops = 16

// xfcc reads the element of the client.
func (s *presetSource) xfcc(field, value string, _ []string) (*Presented, error) {
	if err := s.size(field, len(value)); err != nil {
		return nil, err
	}
	elements, err := s.xfccElements(field, value)
	if err != nil {
		return nil, err
	}
	switch missing := s.hops - len(elements); {
	case missing <= 0:
	case missing == 1:
		// The first of them appends nothing for a client without a certificate, and the
		// others their own element. With one hop that is a request without the field.
		return nil, ErrNoCertificate
	default:
		return nil, s.because(decision.SourceTooFewHops, field, "expected %d elements, one of each trusted hop, found %d", s.hops, len(elements))
	}
	return s.xfccElement(field, elements[len(elements)-s.hops])
}

// An xfccParts is what is read of an element; the values are as they stand, without quotes.
type xfccParts struct{ hash, cert, chain *string }

// xfccElements splits the field. The whole of it has to follow the grammar: a quote that a
// client has left open may hide everything after it.
func (s *presetSource) xfccElements(field, value string) ([]xfccParts, error) {
	p := &xfccParser{s: value}
	var elements []xfccParts
	for {
		var e xfccParts
		for {
			key, val, ok := p.pair()
			if !ok {
				return nil, s.fault(field, "not a list of elements: no key and value at byte %d", p.i)
			}
			var slot **string
			switch strings.ToLower(key) {
			case "hash":
				slot = &e.hash
			case "cert":
				slot = &e.cert
			case "chain":
				slot = &e.chain
			}
			if slot != nil {
				if *slot != nil {
					return nil, s.fault(field, "%s twice in one element", strings.ToLower(key))
				}
				*slot = &val
			}
			if !p.take(';') {
				break
			}
		}
		if len(elements) == maxElements {
			return nil, s.because(decision.SourceTooLarge, field, "more than %d elements", maxElements)
		}
		elements = append(elements, e)
		if p.i == len(p.s) {
			return elements, nil
		}
		if !p.take(',') {
			return nil, s.fault(field, "not a list of elements: no separator at byte %d", p.i)
		}
		p.space()
	}
}

// maxElements bounds what a client can put in front.
const maxElements = 100

type xfccParser struct {
	s string
	i int
}

func (p *xfccParser) take(c byte) bool {
	if p.i < len(p.s) && p.s[p.i] == c {
		p.i++
		return true
	}
	return false
}

func (p *xfccParser) space() {
	for p.i < len(p.s) && (p.s[p.i] == ' ' || p.s[p.i] == '\t') {
		p.i++
	}
}

// pair reads Key=value. A value is quoted, with a backslash before quotes and
// backslashes, or has no comma, semicolon, equals sign and quote, but for the equals
// signs that follow the first in a URI.
func (p *xfccParser) pair() (key, value string, ok bool) {
	start := p.i
	for p.i < len(p.s) && isLetter(p.s[p.i]) {
		p.i++
	}
	key = p.s[start:p.i]
	if key == "" || !p.take('=') {
		return "", "", false
	}
	if p.take('"') {
		start := p.i
		escaped := false
		for ; p.i < len(p.s); p.i++ {
			switch c := p.s[p.i]; {
			case c == '\\':
				escaped = true
				p.i++ // whatever it is
			case c == '"':
				value = p.s[start:p.i]
				p.i++
				if escaped {
					value = unbackslash(value)
				}
				return key, value, p.i == len(p.s) || p.s[p.i] == ';' || p.s[p.i] == ','
			}
		}
		return "", "", false
	}
	start = p.i
	for p.i < len(p.s) && p.s[p.i] != ';' && p.s[p.i] != ',' {
		if p.s[p.i] == '"' {
			return "", "", false
		}
		p.i++
	}
	return key, p.s[start:p.i], true
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

func unbackslash(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// xfccElement makes the most of an element: the chain, the certificate, or its digest.
// What it says of one certificate has to agree.
func (s *presetSource) xfccElement(field string, e xfccParts) (*Presented, error) {
	var leaf []byte
	var chain [][]byte
	if e.cert != nil {
		ders, err := decodeEscapedPEM(&s.fields, field, *e.cert)
		if err != nil {
			return nil, err
		}
		if len(ders) > 1 {
			return nil, s.fault(field, "Cert has more than one certificate")
		}
		leaf = ders[0]
	}
	if e.chain != nil {
		ders, err := decodeEscapedPEM(&s.fields, field, *e.chain)
		if err != nil {
			return nil, err
		}
		if leaf != nil && !bytes.Equal(leaf, ders[0]) {
			return nil, s.because(decision.SourceContradiction, field, "Chain does not begin with Cert")
		}
		leaf, chain = ders[0], ders[1:]
	}
	var sum [sha256.Size]byte
	if e.hash != nil {
		var err error
		if sum, err = s.sha256(field, *e.hash); err != nil {
			return nil, err
		}
	}
	if leaf == nil {
		if e.hash == nil {
			return nil, s.fault(field, "the element has neither Hash, Cert nor Chain; switch them on in set_current_client_cert_details")
		}
		return NewFingerprint(s.source, sum), nil
	}
	p, err := s.present(field, leaf, field, chain)
	if err != nil {
		return nil, err
	}
	if e.hash != nil && certbound.EncodeThumbprint(sum) != p.Thumbprint() {
		return nil, s.because(decision.SourceContradiction, field, "Hash is not the SHA-256 of the certificate")
	}
	return p, nil
}
