package pkitest

import (
	"bytes"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// attributeTypes are the names that Name knows, with the string type a CA would use.
var attributeTypes = map[string]struct {
	oid asn1.ObjectIdentifier
	tag int
}{
	"CN":           {asn1.ObjectIdentifier{2, 5, 4, 3}, asn1.TagUTF8String},
	"SN":           {asn1.ObjectIdentifier{2, 5, 4, 4}, asn1.TagUTF8String},
	"SERIALNUMBER": {asn1.ObjectIdentifier{2, 5, 4, 5}, asn1.TagPrintableString},
	"C":            {asn1.ObjectIdentifier{2, 5, 4, 6}, asn1.TagPrintableString},
	"L":            {asn1.ObjectIdentifier{2, 5, 4, 7}, asn1.TagUTF8String},
	"ST":           {asn1.ObjectIdentifier{2, 5, 4, 8}, asn1.TagUTF8String},
	"STREET":       {asn1.ObjectIdentifier{2, 5, 4, 9}, asn1.TagUTF8String},
	"O":            {asn1.ObjectIdentifier{2, 5, 4, 10}, asn1.TagUTF8String},
	"OU":           {asn1.ObjectIdentifier{2, 5, 4, 11}, asn1.TagUTF8String},
	"UID":          {asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}, asn1.TagUTF8String},
	"DC":           {asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 25}, asn1.TagIA5String},
	"EMAILADDRESS": {asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}, asn1.TagIA5String},
}

// An Attribute is one type and value of a distinguished name, for subjects that
// the text form cannot say. Tag is the ASN.1 string type, such as
// asn1.TagT61String (20), and Value its octets, unchecked.
type Attribute struct {
	Type  asn1.ObjectIdentifier
	Tag   int
	Value []byte
}

// RawName encodes a distinguished name. Each argument is one RDN; they stand in the
// encoding in the order of the arguments, which is the reverse of the text form.
func RawName(rdns ...[]Attribute) []byte {
	var sequence []byte
	for _, rdn := range rdns {
		var set [][]byte
		for _, a := range rdn {
			set = append(set, tlv(asn1.ClassUniversal, asn1.TagSequence, true, slices.Concat(
				must(asn1.Marshal(a.Type)), tlv(asn1.ClassUniversal, a.Tag, false, a.Value))))
		}
		slices.SortFunc(set, bytes.Compare) // DER orders a SET OF
		sequence = append(sequence, tlv(asn1.ClassUniversal, asn1.TagSet, true, slices.Concat(set...))...)
	}
	return tlv(asn1.ClassUniversal, asn1.TagSequence, true, sequence)
}

func tlv(class, tag int, compound bool, content []byte) []byte {
	return must(asn1.Marshal(asn1.RawValue{Class: class, Tag: tag, IsCompound: compound, Bytes: content}))
}

// Name encodes a distinguished name that is given as in RFC 4514: the most specific
// RDN first, "," between RDNs, "+" inside one, backslash escapes, "#" with
// hexadecimal BER. Types are CN, SN, serialNumber, C, L, ST, street, O, OU, UID, DC,
// emailAddress or numbers with dots. It is small on purpose, so that tests do not
// check a parser with itself. The empty text is the empty name.
func Name(text string) ([]byte, error) {
	var rdns [][]Attribute
	for _, part := range split(text, ',') {
		if part == "" {
			return nil, fmt.Errorf("pkitest: name: %q: an RDN is empty", text)
		}
		var rdn []Attribute
		for _, ava := range split(part, '+') {
			a, err := attribute(ava)
			if err != nil {
				return nil, fmt.Errorf("pkitest: name: %q: %w", text, err)
			}
			rdn = append(rdn, a)
		}
		rdns = append(rdns, rdn)
	}
	slices.Reverse(rdns)
	return RawName(rdns...), nil
}

// split cuts s at sep where no backslash stands before it.
func split(s string, sep byte) []string {
	if s == "" {
		return nil
	}
	var parts []string
	start := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case sep:
			parts = append(parts, s[start:i])
			start = i + 1
		}
	}
	return append(parts, s[start:])
}

func attribute(text string) (a Attribute, err error) {
	key, value, ok := strings.Cut(text, "=")
	if !ok {
		return a, fmt.Errorf("no = in %q", text)
	}
	key, value = strings.TrimSpace(key), strings.TrimLeft(value, " ")
	if t, ok := attributeTypes[strings.ToUpper(key)]; ok {
		a.Type, a.Tag = t.oid, t.tag
	} else {
		a.Tag = asn1.TagUTF8String
		for arc := range strings.SplitSeq(key, ".") {
			n, err := strconv.Atoi(arc)
			if err != nil {
				return a, fmt.Errorf("unknown type %q", key)
			}
			a.Type = append(a.Type, n)
		}
		if len(a.Type) < 2 {
			return a, fmt.Errorf("unknown type %q", key)
		}
	}
	if digits, ok := strings.CutPrefix(value, "#"); ok {
		der, err := hex.DecodeString(digits)
		if err != nil {
			return a, err
		}
		var raw asn1.RawValue
		if _, err := asn1.Unmarshal(der, &raw); err != nil {
			return a, err
		}
		a.Tag, a.Value = raw.Tag, raw.Bytes
		return a, nil
	}
	for i := 0; i < len(value); i++ {
		if value[i] != '\\' {
			a.Value = append(a.Value, value[i])
			continue
		}
		if i+2 < len(value) {
			if b, err := hex.DecodeString(value[i+1 : i+3]); err == nil {
				a.Value = append(a.Value, b...)
				i += 2
				continue
			}
		}
		if i++; i == len(value) {
			return a, fmt.Errorf("backslash at the end of %q", text)
		}
		a.Value = append(a.Value, value[i])
	}
	if a.Tag == asn1.TagUTF8String && !utf8.Valid(a.Value) {
		return a, fmt.Errorf("%q is not UTF-8", text)
	}
	return a, nil
}
