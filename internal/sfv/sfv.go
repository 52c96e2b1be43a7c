// Package sfv reads the two structured fields that carry certificates (RFC 9651, which
// replaces RFC 8941): an Item that is a Byte Sequence, and a List of them. Parameters
// have to be well-formed and are otherwise ignored, because RFC 9440 defines none.
package sfv

import (
	"encoding/base64"
	"strings"
	"unicode/utf8"
)

// An Error says why a field does not parse. It holds nothing of the value.
type Error struct{ Fault string }

func (e *Error) Error() string { return "sfv: " + e.Fault }

// ErrTooMany reports a list with more members than the caller reads.
var ErrTooMany = &Error{"too many members"}

// ByteSequence parses an Item that is a Byte Sequence (RFC 9651, Section 4.2).
func ByteSequence(value string) ([]byte, error) {
	p := &parser{s: value}
	p.skip(" ")
	data, err := p.member()
	if err != nil {
		return nil, err
	}
	p.skip(" ")
	if p.i < len(p.s) {
		return nil, &Error{"characters after the byte sequence"}
	}
	return data, nil
}

// ByteSequences parses a List of Byte Sequences that may stand in several lines. A
// list of more than limit members is [ErrTooMany].
func ByteSequences(lines []string, limit int) ([][]byte, error) {
	var p *parser
	if len(lines) == 1 {
		p = &parser{s: lines[0]}
	} else {
		p = &parser{s: strings.Join(lines, ",")}
	}
	p.skip(" ")
	if p.i == len(p.s) {
		return nil, nil // an empty list is no list (Section 3.1)
	}
	var list [][]byte
	for {
		if len(list) == limit {
			return nil, ErrTooMany
		}
		data, err := p.member()
		if err != nil {
			return nil, err
		}
		list = append(list, data)
		p.skip(" \t")
		if p.i == len(p.s) {
			return list, nil
		}
		if !p.take(',') {
			return nil, &Error{"characters between the members of the list"}
		}
		p.skip(" \t")
		if p.i == len(p.s) {
			return nil, &Error{"a comma at the end"}
		}
	}
}

type parser struct {
	s string
	i int
}

func (p *parser) skip(set string) {
	for p.i < len(p.s) && strings.IndexByte(set, p.s[p.i]) >= 0 {
		p.i++
	}
}

func (p *parser) take(c byte) bool {
	if p.i < len(p.s) && p.s[p.i] == c {
		p.i++
		return true
	}
	return false
}

// member reads a byte sequence with its parameters.
func (p *parser) member() ([]byte, error) {
	data, err := p.bytes()
	if err != nil {
		return nil, err
	}
	return data, p.parameters()
}

// bytes reads a byte sequence (Section 4.2.7). Padding may be missing, and spare
// bits need not be zero; anything else outside the alphabet is a fault.
func (p *parser) bytes() ([]byte, error) {
	if !p.take(':') {
		return nil, &Error{"not a byte sequence: no colon at the start"}
	}
	end := strings.IndexByte(p.s[p.i:], ':')
	if end < 0 {
		return nil, &Error{"not a byte sequence: no colon at the end"}
	}
	data, err := Base64(p.s[p.i : p.i+end])
	p.i += end + 1
	return data, err
}

// Base64 decodes the standard alphabet, with padding or without, and nothing else:
// no line break, no space, no URL-safe character.
func Base64(text string) ([]byte, error) {
	body := strings.TrimSuffix(strings.TrimSuffix(text, "="), "=")
	for i := range len(body) {
		if !isBase64[body[i]] {
			return nil, &Error{"a character that is not base64"}
		}
	}
	if len(body)%4 == 1 || len(body) < len(text) && len(text)%4 != 0 {
		return nil, &Error{"base64 of a wrong length"}
	}
	data, err := base64.RawStdEncoding.DecodeString(body)
	if err != nil {
		return nil, &Error{"not base64"}
	}
	return data, nil
}

var isBase64 = func() (t [256]bool) {
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") {
		t[c] = true
	}
	return t
}()

// parameters reads and drops parameters (Section 4.2.3.2).
func (p *parser) parameters() error {
	for p.take(';') {
		p.skip(" ")
		if p.i == len(p.s) || !isLower(p.s[p.i]) && p.s[p.i] != '*' {
			return &Error{"a parameter without a key"}
		}
		for p.i < len(p.s) && (isLower(p.s[p.i]) || isDigit(p.s[p.i]) || strings.IndexByte("_-.*", p.s[p.i]) >= 0) {
			p.i++
		}
		if p.take('=') && !p.bareItem() {
			return &Error{"a parameter with a malformed value"}
		}
	}
	return nil
}

// bareItem reads a value of any type (Section 4.2.3.1).
func (p *parser) bareItem() bool {
	if p.i == len(p.s) {
		return false
	}
	switch c := p.s[p.i]; {
	case c == '-' || isDigit(c):
		return p.number(true)
	case c == '"':
		return p.quoted(1, func(c byte) bool {
			if c != '\\' {
				return true
			}
			p.i++
			return p.i < len(p.s) && (p.s[p.i] == '"' || p.s[p.i] == '\\')
		})
	case c == ':':
		_, err := p.bytes()
		return err == nil
	case c == '?':
		p.i++
		return p.take('0') || p.take('1')
	case c == '@':
		p.i++
		return p.number(false)
	case c == '%':
		return p.displayString()
	case c == '*' || isLower(c|0x20):
		for p.i < len(p.s) && isToken(p.s[p.i]) {
			p.i++
		}
		return true
	}
	return false
}

func (p *parser) number(decimal bool) bool {
	p.take('-')
	n := p.digits()
	if n == 0 || n > 15 {
		return false
	}
	if p.i == len(p.s) || p.s[p.i] != '.' {
		return true
	}
	if !decimal || n > 12 {
		return false
	}
	p.i++
	n = p.digits()
	return 1 <= n && n <= 3
}

func (p *parser) digits() int {
	start := p.i
	for p.i < len(p.s) && isDigit(p.s[p.i]) {
		p.i++
	}
	return p.i - start
}

// quoted reads printable ASCII up to a closing quote. It asks char of each octet.
func (p *parser) quoted(skip int, char func(c byte) bool) bool {
	for p.i += skip; p.i < len(p.s); p.i++ {
		switch c := p.s[p.i]; {
		case c == '"':
			p.i++
			return true
		case c < 0x20 || c > 0x7e || !char(c):
			return false
		}
	}
	return false
}

func (p *parser) displayString() bool {
	if !strings.HasPrefix(p.s[p.i:], `%"`) {
		return false
	}
	var text []byte
	ok := p.quoted(2, func(c byte) bool {
		if c == '%' {
			if p.i+2 >= len(p.s) {
				return false
			}
			high, low := hex(p.s[p.i+1]), hex(p.s[p.i+2])
			if high < 0 || low < 0 {
				return false
			}
			p.i += 2
			c = byte(high<<4 | low)
		}
		text = append(text, c)
		return true
	})
	return ok && utf8.Valid(text)
}

// hex returns the value of a lower-case digit, or -1.
func hex(c byte) int { return strings.IndexByte("0123456789abcdef", c) }

func isLower(c byte) bool { return 'a' <= c && c <= 'z' }
func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isToken(c byte) bool {
	return isLower(c|0x20) || isDigit(c) || strings.IndexByte("!#$%&'*+-.^_`|~:/", c) >= 0
}
