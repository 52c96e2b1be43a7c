package subject

import (
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// ParseName parses RFC 4514 text. The empty string is the empty name. Beyond the
// grammar it reads:
//   - spaces before a type and around =, comma and +, which many programs print;
//   - the names of attribute types that client certificates use, in any letter case,
//     and dotted OIDs with the prefix "OID.";
//   - text after a dotted OID, and # with hex after a name (the hex of a DER element).
//
// Text is encoded as UTF8String; C, serialNumber and dnQualifier as PrintableString, DC
// and emailAddress as IA5String, where the characters allow. Comparison does not
// depend on that. Errors are of type *[SyntaxError].
func ParseName(s string) (Name, error) {
	p := &parser{text: s}
	rdns, ok := p.parse()
	if !ok {
		if strings.HasPrefix(s, "/") {
			p.err = SyntaxError{Fault: "OpenSSL's one-line form is not RFC 4514"}
			if n, err := ParseLegacy(s); err == nil {
				p.err.Hint = "write " + n.String()
			}
		}
		p.err.Form = "RFC 4514 name"
		return Name{}, &p.err
	}
	return build(rdns), nil
}

type parser struct {
	text string
	at   int
	err  SyntaxError
}

func (p *parser) fail(at int, fault string) bool {
	p.err = SyntaxError{Offset: at, Fault: fault}
	return false
}

func (p *parser) failHint(at int, fault, hint string) bool {
	p.err = SyntaxError{Offset: at, Fault: fault, Hint: hint}
	return false
}

func (p *parser) spaces() {
	for p.at < len(p.text) && p.text[p.at] == ' ' {
		p.at++
	}
}

// parse returns the RDNs in DER order: the text has the last one first.
func (p *parser) parse() ([][]raw, bool) {
	if p.text == "" {
		return nil, true
	}
	if len(p.text) > maxText {
		return nil, p.fail(maxText, "longer than "+strconv.Itoa(maxText)+" octets")
	}
	// Octets that are UTF-8 only together with escaped ones are none.
	if at := invalidUTF8(p.text); at >= 0 {
		return nil, p.fail(at, "the text is not UTF-8")
	}
	var rdns [][]raw
	var rdn []raw
	for {
		a, ok := p.attribute()
		if !ok {
			return nil, false
		}
		if len(rdn) == maxAttrs {
			return nil, p.fail(p.at, "more than "+strconv.Itoa(maxAttrs)+" attributes in one RDN")
		}
		rdn = append(rdn, a)
		if p.at < len(p.text) && p.text[p.at] == '+' {
			p.at++
			continue
		}
		if len(rdns) == maxRDNs {
			return nil, p.fail(p.at, "more than "+strconv.Itoa(maxRDNs)+" RDNs")
		}
		rdns, rdn = append(rdns, rdn), nil
		if p.at == len(p.text) {
			break
		}
		p.at++ // the comma
	}
	slices.Reverse(rdns)
	// The last check, for the faults above say more.
	if n := build(rdns); len(n.seq) > maxDER-4 {
		return nil, p.fail(0, "longer than "+strconv.Itoa(maxDER)+" octets when encoded")
	}
	return rdns, true
}

// attribute reads up to a separator or the end.
func (p *parser) attribute() (raw, bool) {
	p.spaces()
	start := p.at
	for p.at < len(p.text) && (isAlphaNumeric(p.text[p.at]) || p.text[p.at] == '-' || p.text[p.at] == '.') {
		p.at++
	}
	name := p.text[start:p.at]
	p.spaces()
	switch {
	case p.at == len(p.text) && name == "":
		return raw{}, p.fail(start, "an attribute is missing: type=value")
	case p.at == len(p.text) || p.text[p.at] == ',' || p.text[p.at] == '+':
		if name == "" {
			return raw{}, p.fail(start, "an attribute is missing: type=value")
		}
		return raw{}, p.fail(p.at, "expected = after "+excerpt(name))
	case p.text[p.at] != '=':
		return raw{}, p.fail(p.at, "expected an attribute type and =, found "+excerpt(p.text[start:]))
	}
	p.at++
	oid, fault := parseType(name)
	if fault != "" {
		return raw{}, p.fail(start, fault)
	}
	p.spaces()
	if p.at < len(p.text) && p.text[p.at] == '#' {
		return p.hex(oid)
	}
	return p.string(oid)
}

// hex reads # and the hex of one element.
func (p *parser) hex(oid []byte) (raw, bool) {
	start := p.at
	p.at++
	digits := p.text[p.at:]
	if i := strings.IndexAny(digits, ",+"); i >= 0 {
		digits = digits[:i]
	}
	p.at += len(digits)
	der, err := hex.DecodeString(strings.TrimRight(digits, " "))
	if err != nil || len(der) == 0 {
		return raw{}, p.failHint(start, "after # an even number of hex digits is expected", `a value that begins with # is written \#`)
	}
	if !isElement(der, maxDepth) {
		return raw{}, p.fail(start, "the hex digits are not exactly one DER element")
	}
	tag, content, _, _ := readTLV(der)
	return raw{oid, tag, content}, true
}

// string reads text with its escapes.
func (p *parser) string(oid []byte) (raw, bool) {
	start := p.at
	var out []byte
	kept := 0 // octets that are not trailing spaces
loop:
	for p.at < len(p.text) {
		c := p.text[p.at]
		switch c {
		case ',', '+':
			break loop
		case '"':
			return raw{}, p.failHint(p.at, `a quotation mark without a backslash`, `quotes around a value are not RFC 4514: escape its special characters with \`)
		case ';':
			return raw{}, p.failHint(p.at, `a semicolon without a backslash`, `write \; in a value and a comma between RDNs`)
		case '<', '>', 0:
			return raw{}, p.failHint(p.at, strconv.QuoteToASCII(string(rune(c)))+" without a backslash", `write \`+hex.EncodeToString([]byte{c}))
		case '\\':
			b, ok := p.escape()
			if !ok {
				return raw{}, false
			}
			out = append(out, b)
			kept = len(out)
			continue
		case ' ':
			out = append(out, c)
		default:
			out = append(out, c)
			kept = len(out)
		}
		p.at++
	}
	out = out[:kept]
	if !utf8.Valid(out) {
		return raw{}, p.fail(start, "the value is not UTF-8")
	}
	return encodeText(oid, string(out)), true
}

// escape reads a backslash and what belongs to it.
func (p *parser) escape() (byte, bool) {
	rest := p.text[p.at+1:]
	if rest == "" {
		return 0, p.fail(p.at, "a backslash at the end")
	}
	if strings.IndexByte(`\"+,;<> #=`, rest[0]) >= 0 {
		p.at += 2
		return rest[0], true
	}
	if len(rest) >= 2 {
		if b, err := hex.DecodeString(rest[:2]); err == nil {
			p.at += 3
			return b[0], true
		}
	}
	return 0, p.fail(p.at, "after a backslash one of \\ \" + , ; < > # = space, or two hex digits, is expected")
}

// invalidUTF8 returns where s stops being UTF-8, or -1.
func invalidUTF8(s string) int {
	for i, r := range s {
		if r == utf8.RuneError && !strings.HasPrefix(s[i:], "\uFFFD") {
			return i
		}
	}
	return -1
}
