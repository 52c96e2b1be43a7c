package subject

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"
)

// New parses a registered value. Errors are of type *[ValueError]. What is accepted is
// what can match a certificate that follows RFC 5280:
//
//   - DN: RFC 4514 text (see [ParseName]) with one RDN or more, without NUL, without
//     a type twice in one RDN, without an empty or malformed string;
//   - SANDNS: a host name in ASCII, with an optional * as the first label, which
//     stands for itself; internationalized names as A-labels;
//   - SANURI: an absolute URI;
//   - SANIP: an address as [netip.ParseAddr] reads it, without zone;
//   - SANEmail: local@domain.
func New(kind Kind, value string) (Expected, error) {
	e, fault, hint := parse(kind, value)
	if fault != "" {
		return Expected{}, &ValueError{Kind: kind, Value: value, Fault: fault, Hint: hint}
	}
	e.kind, e.value = kind, value
	return e, nil
}

// NewNormalizedURI is New for SANURI with comparison after the normalization of RFC
// 5280, Section 7.4, in place of equality of octets: letter case of scheme and host,
// percent-encoding, dot segments, and the defaults of http, https, ftp and ldap.
func NewNormalizedURI(value string) (Expected, error) {
	e, err := New(SANURI, value)
	if err != nil {
		return Expected{}, err
	}
	normalized, ok := normalizeURI(value)
	if !ok {
		return Expected{}, &ValueError{Kind: SANURI, Value: value, Fault: "the URI cannot be normalized"}
	}
	e.text, e.normalize = normalized, true
	return e, nil
}

func parse(kind Kind, value string) (e Expected, fault, hint string) {
	if value == "" {
		return e, "empty", ""
	}
	switch kind {
	case DN:
		e.name, fault, hint = parseDN(value)
	case SANDNS:
		e.text = strings.ToLower(value)
		fault, hint = hostFault(value)
	case SANURI:
		e.text = value
		if len(value) > 2048 {
			return e, "longer than 2048 octets", ""
		}
		if _, fault = splitURI(value); fault != "" && !isASCII(value) {
			fault, hint = "not ASCII", "write the URI that the certificate has, with the host as A-labels and the rest percent-encoded"
		}
	case SANIP:
		var ip netip.Addr
		if ip, fault, hint = parseIP(value); fault == "" {
			e.text = string(ip.AsSlice())
		}
	case SANEmail:
		e.text = lowerDomain(value)
		fault, hint = mailFault(value)
	default:
		return e, "not a subject parameter of tls_client_auth", ""
	}
	return e, fault, hint
}

func parseDN(value string) (_ *compiled, fault, hint string) {
	n, err := ParseName(value)
	if err != nil {
		if e, ok := errors.AsType[*SyntaxError](err); ok {
			return nil, "at " + strconv.Itoa(e.Offset) + ": " + e.Fault, e.Hint
		}
		return nil, err.Error(), ""
	}
	p, fault := compileName(n)
	if fault != "" {
		return nil, fault, "such a name matches nothing"
	}
	for _, rdn := range p.rdns {
		for i := range rdn {
			a := &rdn[i]
			if !a.isText() {
				continue
			}
			switch _, ok := a.text(); {
			case !ok:
				return nil, "the value of " + typeName(a.oid) + " is not well-formed", ""
			case a.defined && a.prepared == "":
				return nil, "the value of " + typeName(a.oid) + " is empty", ""
			}
		}
	}
	return p, "", ""
}

// hostFault checks a host name in preferred name syntax (RFC 1034, Section 3.5), with
// the underscore that is in use.
func hostFault(s string) (fault, hint string) {
	switch {
	case !isASCII(s):
		return "not ASCII", "write internationalized names as A-labels (xn--…), as they stand in certificates"
	case len(s) > 253:
		return "longer than 253 octets", ""
	case strings.HasSuffix(s, ".") && len(s) > 1:
		return "a dot at the end", "leave it out: names in certificates have none"
	}
	for i, label := range strings.Split(s, ".") {
		switch {
		case label == "":
			return "an empty label", ""
		case len(label) > 63:
			return "a label longer than 63 octets", ""
		case label == "*" && i == 0:
			continue
		case label[0] == '-' || label[len(label)-1] == '-':
			return "a label that begins or ends with a hyphen", ""
		}
		for j := range len(label) {
			if c := label[j]; !isAlphaNumeric(c) && c != '-' && c != '_' {
				return "a character that a host name cannot hold: " + strconv.QuoteToASCII(string(rune(c))), ""
			}
		}
	}
	return "", ""
}

func parseIP(s string) (_ netip.Addr, fault, hint string) {
	ip, err := netip.ParseAddr(s)
	switch {
	case err != nil:
		return ip, "not an IP address", "write IPv4 in dotted decimal without leading zeros, IPv6 as in RFC 5952, without brackets, prefix length and port"
	case ip.Zone() != "":
		return ip, "an address with a zone", "leave the zone out: certificates have none"
	}
	return ip, "", ""
}

// mailFault checks a Mailbox (RFC 5321, Section 4.1.2) whose domain is a host name.
func mailFault(s string) (fault, hint string) {
	at := strings.LastIndexByte(s, '@')
	switch {
	case !isASCII(s):
		return "not ASCII", "an internationalized domain is written as A-labels; an internationalized local part is no rfc822Name"
	case len(s) > 320:
		return "longer than 320 octets", ""
	case at < 0:
		return "not a mailbox: local@domain", ""
	case strings.HasSuffix(s, ">") || strings.HasPrefix(s, "<"):
		return "a display name or angle brackets", "write only local@domain"
	}
	local := s[:at]
	if local == "" {
		return "the local part is empty", ""
	}
	if local[0] == '"' {
		if !isQuoted(local) {
			return "the quoted local part is malformed", ""
		}
	} else {
		for atom := range strings.SplitSeq(local, ".") {
			if atom == "" {
				return "a dot too many in the local part", ""
			}
			for i := range len(atom) {
				if !isAlphaNumeric(atom[i]) && strings.IndexByte("!#$%&'*+-/=?^_`{|}~", atom[i]) < 0 {
					return "a character that the local part cannot hold: " + strconv.QuoteToASCII(string(rune(atom[i]))), ""
				}
			}
		}
	}
	if fault, hint = hostFault(s[at+1:]); fault != "" {
		return "the domain: " + fault, hint
	}
	if strings.HasPrefix(s[at+1:], "*") {
		return "the domain: a wildcard", ""
	}
	return "", ""
}

func isQuoted(s string) bool {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return false
	}
	for s := s[1 : len(s)-1]; s != ""; s = s[1:] {
		switch {
		case s[0] == '\\':
			if s = s[1:]; s == "" {
				return false
			}
		case s[0] == '"':
			return false
		}
		if s[0] < ' ' || s[0] > '~' {
			return false
		}
	}
	return true
}

// lowerDomain lowers what follows the last @: domains compare without regard to case,
// local parts do not (RFC 5280, Section 7.5).
func lowerDomain(s string) string {
	at := strings.LastIndexByte(s, '@') + 1
	return s[:at] + strings.ToLower(s[at:])
}
