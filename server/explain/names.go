package explain

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/certbound/certbound/pki/subject"
)

// A Spelling is a distinguished name as one tool prints it.
type Spelling struct {
	Tool string `json:"tool"`
	// How says where the tool prints it so, in the tool's own words.
	How  string `json:"how"`
	Text string `json:"text"`
}

// RFC4514 is the tool of the one spelling that is registered.
const RFC4514 = "RFC 4514"

// Spellings returns an encoded name as others print it, the text to register first. The
// others are for recognising a name, not for comparing: two different names can look
// alike in each of them.
func Spellings(der []byte) ([]Spelling, error) {
	name, err := subject.ParseDER(der)
	if err != nil {
		return nil, err
	}
	rdns, err := parseRDNs(der)
	if err != nil {
		return nil, err
	}
	return []Spelling{
		{RFC4514, "register this", name.String()},
		{"OpenSSL", "-nameopt RFC2253; nginx $ssl_client_s_dn", openssl(rdns, rfc2253)},
		{"OpenSSL", "-nameopt oneline", openssl(rdns, oneline)},
		{"OpenSSL", "-nameopt compat; HAProxy ssl_c_s_dn, nginx $ssl_client_s_dn_legacy", slash(rdns)},
		{"Go", "cert.Subject.String()", goString(der)},
		{"Java", "X500Principal.getName()", java2253(rdns)},
		{"Java", "X500Principal.toString(), keytool", javaText(rdns)},
	}, nil
}

// An attribute is one type and value of a name.
type attribute struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

// parseRDNs splits an encoded name. Lengths were bounded by subject.ParseDER.
func parseRDNs(der []byte) ([][]attribute, error) {
	var sets []asn1.RawValue
	if rest, err := asn1.Unmarshal(der, &sets); err != nil || len(rest) > 0 {
		return nil, fmt.Errorf("explain: name: not one SEQUENCE OF RelativeDistinguishedName")
	}
	rdns := make([][]attribute, len(sets))
	for i, set := range sets {
		for rest := set.Bytes; len(rest) > 0; {
			var a attribute
			var err error
			if rest, err = asn1.Unmarshal(rest, &a); err != nil {
				return nil, fmt.Errorf("explain: name: RDN %d: %w", i+1, err)
			}
			rdns[i] = append(rdns[i], a)
		}
	}
	return rdns, nil
}

func goString(der []byte) string {
	var seq pkix.RDNSequence
	if _, err := asn1.Unmarshal(der, &seq); err != nil {
		return "" // a value that crypto/x509 does not take either
	}
	var name pkix.Name
	name.FillFromRDNSequence(&seq)
	return name.String()
}

// An opensslForm is what X509_NAME_print_ex has as flags.
type opensslForm struct {
	reverse       bool
	comma, plus   string
	equals        string
	quote         bool // ASN1_STRFLGS_ESC_QUOTE
	dumpByUnknown bool // XN_FLAG_DUMP_UNKNOWN_FIELDS
}

var (
	rfc2253 = opensslForm{reverse: true, comma: ",", plus: "+", equals: "=", dumpByUnknown: true}
	oneline = opensslForm{comma: ", ", plus: " + ", equals: " = ", quote: true}
)

// opensslNames are the short names of OpenSSL's object table.
var opensslNames = map[string]string{
	"2.5.4.3": "CN", "2.5.4.4": "SN", "2.5.4.5": "serialNumber", "2.5.4.6": "C", "2.5.4.7": "L",
	"2.5.4.8": "ST", "2.5.4.9": "street", "2.5.4.10": "O", "2.5.4.11": "OU", "2.5.4.12": "title",
	"2.5.4.13": "description", "2.5.4.15": "businessCategory", "2.5.4.16": "postalAddress",
	"2.5.4.17": "postalCode", "2.5.4.20": "telephoneNumber", "2.5.4.41": "name", "2.5.4.42": "GN",
	"2.5.4.43": "initials", "2.5.4.44": "generationQualifier", "2.5.4.45": "x500UniqueIdentifier",
	"2.5.4.46": "dnQualifier", "2.5.4.65": "pseudonym", "2.5.4.72": "role", "2.5.4.97": "organizationIdentifier",
	"0.9.2342.19200300.100.1.1": "UID", "0.9.2342.19200300.100.1.3": "mail", "0.9.2342.19200300.100.1.25": "DC",
	"1.2.840.113549.1.9.1": "emailAddress", "1.2.840.113549.1.9.2": "unstructuredName",
	"1.2.840.113549.1.9.8":     "unstructuredAddress",
	"1.3.6.1.4.1.311.60.2.1.1": "jurisdictionL", "1.3.6.1.4.1.311.60.2.1.2": "jurisdictionST",
	"1.3.6.1.4.1.311.60.2.1.3": "jurisdictionC",
}

func openssl(rdns [][]attribute, f opensslForm) string {
	rdns = slices.Clone(rdns)
	if f.reverse {
		slices.Reverse(rdns)
	}
	var b strings.Builder
	for i, rdn := range rdns {
		if i > 0 {
			b.WriteString(f.comma)
		}
		rdn = slices.Clone(rdn)
		if f.reverse {
			slices.Reverse(rdn)
		}
		for j, a := range rdn {
			if j > 0 {
				b.WriteString(f.plus)
			}
			oid := a.Type.String()
			name, known := opensslNames[oid]
			if !known {
				name = oid
			}
			b.WriteString(name + f.equals)
			text, ok := stringOf(a.Value)
			if !ok || !known && f.dumpByUnknown {
				b.WriteString("#" + strings.ToUpper(hex.EncodeToString(a.Value.FullBytes)))
				continue
			}
			b.WriteString(opensslEscape(text, f.quote))
		}
	}
	return b.String()
}

// slash is X509_NAME_oneline. Versions of OpenSSL before 2024 do not escape the slash and
// the plus sign in a value, so that the text of one name can be that of another.
func slash(rdns [][]attribute) string {
	var b strings.Builder
	for _, rdn := range rdns {
		for j, a := range rdn {
			b.WriteByte("/+"[min(j, 1)])
			oid := a.Type.String()
			name, ok := opensslNames[oid]
			if !ok {
				name = oid
			}
			b.WriteString(name + "=")
			for _, c := range a.Value.Bytes {
				switch {
				case c < ' ' || c > '~':
					fmt.Fprintf(&b, `\x%02X`, c)
				case c == '/' || c == '+':
					b.WriteString(`\` + string(rune(c)))
				default:
					b.WriteByte(c)
				}
			}
		}
	}
	return b.String()
}

// opensslEscape is ASN1_STRFLGS_RFC2253: every octet above ASCII in hexadecimal.
func opensslEscape(s string, quote bool) string {
	var b strings.Builder
	quoted := false
	for i := range len(s) {
		c := s[i]
		special := strings.IndexByte(`,+"\<>;`, c) >= 0 || i == 0 && c == '#' || c == ' ' && (i == 0 || i == len(s)-1)
		switch {
		case c < ' ' || c >= 0x7F:
			fmt.Fprintf(&b, `\%02X`, c)
		case special && quote && c != '"' && c != '\\':
			quoted = true
			b.WriteByte(c)
		case special:
			b.WriteString(`\` + string(rune(c)))
		default:
			b.WriteByte(c)
		}
	}
	if quoted {
		return `"` + b.String() + `"`
	}
	return b.String()
}

// stringOf returns the value of a string type as UTF-8.
func stringOf(v asn1.RawValue) (string, bool) {
	if v.Class != asn1.ClassUniversal {
		return "", false
	}
	switch v.Tag {
	case asn1.TagUTF8String:
		return string(v.Bytes), true
	case asn1.TagPrintableString, asn1.TagIA5String, asn1.TagNumericString, 26: // VisibleString
		return string(v.Bytes), true
	case asn1.TagT61String: // as Latin-1, like everybody
		var b strings.Builder
		for _, c := range v.Bytes {
			b.WriteRune(rune(c))
		}
		return b.String(), true
	case asn1.TagBMPString:
		if len(v.Bytes)%2 != 0 {
			return "", false
		}
		units := make([]uint16, len(v.Bytes)/2)
		for i := range units {
			units[i] = uint16(v.Bytes[2*i])<<8 | uint16(v.Bytes[2*i+1])
		}
		return string(utf16.Decode(units)), true
	case 28: // UniversalString
		if len(v.Bytes)%4 != 0 {
			return "", false
		}
		var b strings.Builder
		for i := 0; i < len(v.Bytes); i += 4 {
			b.WriteRune(rune(uint32(v.Bytes[i])<<24 | uint32(v.Bytes[i+1])<<16 | uint32(v.Bytes[i+2])<<8 | uint32(v.Bytes[i+3])))
		}
		return b.String(), true
	}
	return "", false
}

// java2253Names are the keywords that sun.security.x509 has for RFC 2253; any other
// type is dotted there, with its value in hexadecimal.
var java2253Names = map[string]string{
	"2.5.4.3": "CN", "2.5.4.6": "C", "2.5.4.7": "L", "2.5.4.8": "ST", "2.5.4.9": "STREET", "2.5.4.10": "O", "2.5.4.11": "OU",
	"0.9.2342.19200300.100.1.1": "UID", "0.9.2342.19200300.100.1.25": "DC",
}

// javaNames are its keywords for people.
var javaNames = map[string]string{
	"2.5.4.4": "SURNAME", "2.5.4.5": "SERIALNUMBER", "2.5.4.12": "T", "2.5.4.42": "GIVENNAME", "2.5.4.43": "INITIALS",
	"2.5.4.44": "GENERATION", "2.5.4.46": "DNQ", "1.2.840.113549.1.9.1": "EMAILADDRESS", "1.3.6.1.4.1.42.2.11.2.1": "IP",
}

func java2253(rdns [][]attribute) string {
	return javaJoin(rdns, ",", "+", func(a attribute) string {
		oid := a.Type.String()
		name, ok := java2253Names[oid]
		if !ok {
			name = oid
		}
		text, isText := javaString(a.Value)
		if !ok || !isText {
			return name + "=#" + hex.EncodeToString(a.Value.FullBytes)
		}
		if a.Value.Tag == asn1.TagBMPString {
			text = string(a.Value.Bytes) // octet by octet
		}
		return name + "=" + javaEscape(text)
	})
}

func javaText(rdns [][]attribute) string {
	return javaJoin(rdns, ", ", " + ", func(a attribute) string {
		oid := a.Type.String()
		name, ok := java2253Names[oid]
		if !ok {
			name, ok = javaNames[oid]
		}
		if !ok {
			name = "OID." + oid
		}
		text, isText := javaString(a.Value)
		if !isText {
			return name + "=#" + hex.EncodeToString(a.Value.FullBytes)
		}
		return name + "=" + javaQuote(text)
	})
}

func javaJoin(rdns [][]attribute, comma, plus string, print func(attribute) string) string {
	parts := make([]string, len(rdns))
	for i, rdn := range rdns {
		texts := make([]string, len(rdn))
		for j, a := range rdn {
			texts[j] = print(a)
		}
		parts[len(rdns)-1-i] = strings.Join(texts, plus)
	}
	return strings.Join(parts, comma)
}

// javaString is stringOf without the types that Java dumps, and with its way to read
// BMPString.
func javaString(v asn1.RawValue) (string, bool) {
	if v.Class != asn1.ClassUniversal || v.Tag == 26 || v.Tag == 28 || v.Tag == asn1.TagNumericString {
		return "", false
	}
	return stringOf(v)
}

func javaEscape(s string) string {
	var b strings.Builder
	for i, r := range s {
		edge := i == 0 || i+utf8.RuneLen(r) == len(s)
		if r == 0 {
			b.WriteString(`\00`)
			continue
		}
		if strings.ContainsRune(`,=+<>#;"\`, r) || r == ' ' && edge {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// javaQuote puts a value in quotes that has something special in it.
func javaQuote(s string) string {
	if !strings.ContainsAny(s, ",+=\n<>#;\\\"") && !strings.HasPrefix(s, " ") && !strings.HasSuffix(s, " ") && !strings.Contains(s, "  ") {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
