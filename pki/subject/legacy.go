package subject

import (
	"encoding/hex"
	"strings"
	"unicode/utf8"
)

// ParseLegacy parses OpenSSL's one-line form, /C=US/O=Agora/CN=x, in which the first
// RDN comes first, and \xHH stands for an octet that does not print. It refuses text
// that can be read in two ways: a slash followed by something like a type that is
// none, a plus sign followed by something like a type, any other backslash. Errors are
// of type *[SyntaxError].
//
// The form does not escape the slash, so a certificate whose O is "x/CN=y" is printed
// like one with O and CN. No parser can tell; whoever has the certificate must use it,
// and this only for what an operator types or a proxy has left nothing better for.
func ParseLegacy(s string) (Name, error) {
	fail := func(at int, fault, hint string) (Name, error) {
		return Name{}, &SyntaxError{Form: "one-line name", Offset: at, Fault: fault, Hint: hint}
	}
	const rewrite = "write the name as RFC 4514 text: CN=x,O=Agora,C=US"
	if s == "" || s[0] != '/' {
		return fail(0, "expected a slash", rewrite)
	}
	if len(s) > maxText {
		return fail(maxText, "too long", "")
	}
	if at := invalidUTF8(s); at >= 0 {
		return fail(at, "the text is not UTF-8", "")
	}
	type attribute struct {
		at          int
		name, value string
	}
	var attrs []attribute
	at := 1
	for part := range strings.SplitSeq(s[1:], "/") {
		name, value, isAttr := strings.Cut(part, "=")
		switch _, fault := parseType(name); {
		case isAttr && fault == "":
			attrs = append(attrs, attribute{at, name, value})
		case len(attrs) == 0:
			return fail(at, "expected an attribute: type=value", rewrite)
		case isAttr:
			return fail(at, excerpt("/"+name+"=")+" can be a part of the value before it or an attribute of unknown type", rewrite)
		default:
			attrs[len(attrs)-1].value += "/" + part
		}
		at += len(part) + 1
	}
	if len(attrs) > maxRDNs {
		return fail(0, "too many RDNs", "")
	}
	var rdns [][]raw
	for _, a := range attrs {
		value, fault := legacyValue(a.value)
		if fault != "" {
			return fail(a.at, "the value of "+a.name+": "+fault, rewrite)
		}
		oid, _ := parseType(a.name)
		rdns = append(rdns, []raw{encodeText(oid, value)})
	}
	n := build(rdns)
	if len(n.seq) > maxDER-4 {
		return fail(0, "too long when encoded", "")
	}
	return n, nil
}

func legacyValue(s string) (value, fault string) {
	for i, part := range strings.Split(s, "+") {
		if name, _, ok := strings.Cut(part, "="); ok && i > 0 {
			if _, fault := parseType(strings.TrimSpace(name)); fault == "" || isWord(name) {
				return "", "a plus sign can be a part of the value or join two attributes"
			}
		}
	}
	if strings.HasPrefix(s, "#") {
		return "", "a # can be a part of the value or begin an encoded one"
	}
	var out []byte
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			out = append(out, s[i])
			continue
		}
		if len(s)-i < 4 || s[i+1] != 'x' {
			return "", `a backslash that does not begin \xHH`
		}
		b, err := hex.DecodeString(s[i+2 : i+4])
		if err != nil || b[0] >= ' ' && b[0] <= '~' {
			return "", `a backslash that does not begin \xHH of an octet that does not print`
		}
		out = append(out, b[0])
		i += 3
	}
	if !utf8.Valid(out) {
		return "", "not UTF-8"
	}
	return string(out), ""
}

func isWord(s string) bool {
	for i := range len(s) {
		if !isAlphaNumeric(s[i]) && s[i] != '.' && s[i] != '-' {
			return false
		}
	}
	return s != ""
}
