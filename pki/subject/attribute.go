package subject

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"strings"
	"unicode/utf8"

	"github.com/certbound/certbound/internal/stringprep"
)

// A raw is one AttributeTypeAndValue as it stands in DER.
type raw struct {
	oid     []byte // content octets
	tag     byte
	content []byte
}

// readRaw reads an AttributeTypeAndValue off the front of a SET.
func readRaw(set []byte) (a raw, rest []byte, ok bool) {
	tag, pair, rest, ok := readTLV(set)
	if !ok || tag != tagSequence {
		return raw{}, nil, false
	}
	tag, oid, value, ok := readTLV(pair)
	if !ok || tag != tagOID || !isOID(oid) {
		return raw{}, nil, false
	}
	tag, content, tail, ok := readTLV(value)
	if !ok || len(tail) > 0 || tag&0x20 != 0 && !isElement(value, maxDepth) {
		return raw{}, nil, false
	}
	return raw{oid, tag, content}, rest, true
}

func (a raw) append(dst []byte) []byte {
	pair := appendTLV(nil, tagOID, a.oid)
	pair = appendTLV(pair, a.tag, a.content)
	return appendTLV(dst, tagSequence, pair)
}

// maxDepth bounds how deep a value that is no string may be nested.
const maxDepth = 8

// maxOID bounds the octets of an attribute type. A UUID takes 20.
const maxOID = 64

// isOID reports whether b is the content of an OBJECT IDENTIFIER in DER: whole arcs
// in the shortest form.
func isOID(b []byte) bool {
	if len(b) == 0 || len(b) > maxOID || b[len(b)-1]&0x80 != 0 {
		return false
	}
	start := true
	for _, c := range b {
		if start && c == 0x80 {
			return false
		}
		start = c&0x80 == 0
	}
	return true
}

// A known is an attribute type that has a name.
type known struct {
	oid string // content octets
	// print is the name in RFC 4514 text: one that the registry of LDAP descriptors
	// or long use gives it. If empty, the type is printed in dotted form.
	print string
	// names are read in any letter case; the first is that of OpenSSL.
	names []string
	// tag is the string type that text is encoded with.
	tag byte
}

var knowns = []known{
	// RFC 4514, Section 3.
	{"\x55\x04\x03", "CN", []string{"CN", "commonName"}, tagUTF8},
	{"\x55\x04\x07", "L", []string{"L", "localityName"}, tagUTF8},
	{"\x55\x04\x08", "ST", []string{"ST", "stateOrProvinceName"}, tagUTF8},
	{"\x55\x04\x0A", "O", []string{"O", "organizationName"}, tagUTF8},
	{"\x55\x04\x0B", "OU", []string{"OU", "organizationalUnitName"}, tagUTF8},
	{"\x55\x04\x06", "C", []string{"C", "countryName"}, tagPrintable},
	{"\x55\x04\x09", "STREET", []string{"street", "streetAddress"}, tagUTF8},
	{domainComponent, "DC", []string{"DC", "domainComponent"}, tagIA5},
	{"\x09\x92\x26\x89\x93\xF2\x2C\x64\x01\x01", "UID", []string{"UID", "userId"}, tagUTF8},
	// Others that stand in client certificates.
	{"\x55\x04\x05", "serialNumber", []string{"serialNumber"}, tagPrintable},
	{"\x55\x04\x04", "SN", []string{"SN", "surname"}, tagUTF8},
	{"\x55\x04\x2A", "givenName", []string{"GN", "givenName"}, tagUTF8},
	{"\x55\x04\x0C", "title", []string{"title"}, tagUTF8},
	{"\x55\x04\x2B", "initials", []string{"initials"}, tagUTF8},
	{"\x55\x04\x2C", "generationQualifier", []string{"generationQualifier"}, tagUTF8},
	{"\x55\x04\x2E", "dnQualifier", []string{"dnQualifier"}, tagPrintable},
	{"\x55\x04\x41", "", []string{"pseudonym"}, tagUTF8},
	{"\x55\x04\x11", "postalCode", []string{"postalCode"}, tagUTF8},
	{"\x55\x04\x0F", "businessCategory", []string{"businessCategory"}, tagUTF8},
	{"\x55\x04\x61", "", []string{"organizationIdentifier"}, tagUTF8},
	{emailAddress, "emailAddress", []string{"emailAddress", "E"}, tagIA5},
	{"\x2B\x06\x01\x04\x01\x82\x37\x3C\x02\x01\x03", "", []string{"jurisdictionC", "jurisdictionCountryName"}, tagPrintable},
	{"\x2B\x06\x01\x04\x01\x82\x37\x3C\x02\x01\x02", "", []string{"jurisdictionST", "jurisdictionStateOrProvinceName"}, tagUTF8},
	{"\x2B\x06\x01\x04\x01\x82\x37\x3C\x02\x01\x01", "", []string{"jurisdictionL", "jurisdictionLocalityName"}, tagUTF8},
}

const (
	commonName      = "\x55\x04\x03"
	domainComponent = "\x09\x92\x26\x89\x93\xF2\x2C\x64\x01\x19"
	emailAddress    = "\x2A\x86\x48\x86\xF7\x0D\x01\x09\x01"
)

func knownByOID(oid []byte) (known, bool) {
	for _, k := range knowns {
		if k.oid == string(oid) {
			return k, true
		}
	}
	return known{}, false
}

// parseType reads a name of the table, or a dotted OID with or without "OID.".
func parseType(s string) (oid []byte, fault string) {
	for _, k := range knowns {
		for _, name := range k.names {
			if strings.EqualFold(name, s) && len(name) == len(s) {
				return []byte(k.oid), ""
			}
		}
	}
	dotted := s
	if len(s) > 4 && strings.EqualFold(s[:4], "OID.") {
		dotted = s[4:]
	}
	if s == "" {
		return nil, "an attribute type is missing"
	}
	if dotted[0] < '0' || dotted[0] > '9' {
		return nil, "unknown attribute type " + excerpt(s) + "; write it as a dotted OID"
	}
	if len(dotted) > 4*maxOID {
		return nil, "an attribute type is too long"
	}
	arcs := strings.Split(dotted, ".")
	for _, arc := range arcs {
		if arc == "" || len(arc) > 1 && arc[0] == '0' || strings.Trim(arc, "0123456789") != "" {
			return nil, excerpt(s) + " is not a dotted OID"
		}
	}
	id, err := x509.ParseOID(dotted)
	if err != nil {
		return nil, excerpt(s) + " is not an OID"
	}
	if oid, err = id.MarshalBinary(); err != nil || !isOID(oid) {
		return nil, excerpt(s) + " is not an OID that can be encoded"
	}
	return oid, ""
}

func dotted(oid []byte) string {
	var id x509.OID
	if err := id.UnmarshalBinary(oid); err != nil {
		return hex.EncodeToString(oid)
	}
	return id.String()
}

// typeName returns what a type is called in messages.
func typeName(oid []byte) string {
	if k, ok := knownByOID(oid); ok {
		return k.names[0]
	}
	return dotted(oid)
}

// encodeText encodes a value that was written as text.
func encodeText(oid []byte, text string) raw {
	tag := byte(tagUTF8)
	if k, ok := knownByOID(oid); ok {
		tag = k.tag
	}
	if tag == tagIA5 && !isASCII(text) || tag == tagPrintable && !isPrintable(text) {
		tag = tagUTF8
	}
	return raw{oid, tag, []byte(text)}
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// isPrintable reports whether s fits into a PrintableString.
func isPrintable(s string) bool {
	for i := range len(s) {
		if c := s[i]; !isAlphaNumeric(c) && !strings.ContainsRune(" '()+,-./:=?", rune(c)) {
			return false
		}
	}
	return true
}

func isAlpha(c byte) bool        { return c|0x20 >= 'a' && c|0x20 <= 'z' }
func isDigit(c byte) bool        { return c >= '0' && c <= '9' }
func isAlphaNumeric(c byte) bool { return isAlpha(c) || isDigit(c) }

// isText reports whether the value is compared as a string: the kinds of
// DirectoryString for every type, known or not (RFC 5280, Section 4.1.2.6), and
// IA5String for the two types that are defined with it.
func (a raw) isText() bool {
	switch a.tag {
	case tagUTF8, tagPrintable, tagTeletex, tagUniversal, tagBMP:
		return true
	case tagIA5:
		return string(a.oid) == emailAddress || string(a.oid) == domainComponent
	}
	return false
}

// text decodes the value. TeletexString is read as Latin-1, as everybody writes it
// (its own mapping is a local matter, RFC 4518, Section 2.1).
func (a raw) text() (string, bool) {
	switch a.tag {
	case tagUTF8:
		return string(a.content), utf8.Valid(a.content)
	case tagPrintable, tagIA5, tagNumeric, tagVisible:
		s := string(a.content)
		return s, isASCII(s)
	case tagTeletex:
		b := make([]byte, 0, len(a.content)+8)
		for _, c := range a.content {
			b = utf8.AppendRune(b, rune(c))
		}
		return string(b), true
	case tagBMP, tagUniversal:
		width := 2
		if a.tag == tagUniversal {
			width = 4
		}
		if len(a.content)%width != 0 {
			return "", false
		}
		b := make([]byte, 0, len(a.content))
		for i := 0; i < len(a.content); i += width {
			var r rune
			for _, c := range a.content[i : i+width] {
				r = r<<8 | rune(c)
			}
			if !utf8.ValidRune(r) {
				return "", false
			}
			b = utf8.AppendRune(b, r)
		}
		return string(b), true
	}
	return "", false
}

// hasNUL reports whether a string value holds U+0000. Other values may hold any octet.
func (a raw) hasNUL() bool {
	width := 1
	switch a.tag {
	case tagUTF8, tagPrintable, tagTeletex, tagIA5, tagNumeric, tagVisible:
		return bytes.IndexByte(a.content, 0) >= 0
	case tagBMP:
		width = 2
	case tagUniversal:
		width = 4
	default:
		return false
	}
	for b := a.content; len(b) >= width; b = b[width:] {
		if len(bytes.TrimLeft(b[:width], "\x00")) == 0 {
			return true
		}
	}
	return false
}

// An attr is one attribute of a compiled name.
type attr struct {
	raw
	prepared string
	defined  bool // prepared can be compared
}

func compile(a raw) attr {
	out := attr{raw: a}
	if a.isText() {
		if text, ok := a.text(); ok {
			out.prepared, out.defined = stringprep.Prepare(text)
		}
	}
	return out
}

// equalValue compares the values: equal octets with an equal tag are equal; otherwise
// the prepared forms count, and what cannot be prepared is not equal (RFC 4517, Section
// 4.2.15).
func (a *attr) equalValue(b raw) bool {
	if a.tag == b.tag && bytes.Equal(a.content, b.content) {
		return true
	}
	if !a.defined || !b.isText() {
		return false
	}
	if b.tag != tagBMP && b.tag != tagUniversal {
		if equal, ascii := stringprep.EqualASCII(a.prepared, b.content); ascii {
			return equal
		}
	}
	text, ok := b.text()
	if !ok {
		return false
	}
	prepared, ok := stringprep.Prepare(text)
	return ok && prepared == a.prepared
}

func (a *attr) equal(b raw) bool { return bytes.Equal(a.oid, b.oid) && a.equalValue(b) }

// excerpt quotes foreign text for a message, bounded.
func excerpt(s string) string {
	const limit = 64
	if len(s) > limit {
		s = s[:limit] + "…"
	}
	return quote(s)
}
