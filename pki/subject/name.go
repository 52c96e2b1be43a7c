package subject

import (
	"bytes"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/certbound/certbound/internal/stringprep"
)

// Bounds of a name. They are far above what is issued, and keep the work that a
// stranger's certificate causes small.
const (
	maxText  = 32 << 10 // octets of RFC 4514 or one-line text
	maxDER   = 8 << 10
	maxRDNs  = 64
	maxAttrs = 16 // in one RDN
)

// A Name is a distinguished name: a sequence of RDNs in DER order. Name keeps the
// encoded values, so nothing is lost. The zero value is the empty name.
type Name struct {
	seq []byte // the content of the RDNSequence; never changed
}

// ParseDER parses an encoded Name, such as x509.Certificate.RawSubject. A string value
// that is not well-formed is kept; it equals only the same octets. Errors are of type
// *[SyntaxError]: not DER, an RDN without attributes, or more than 8 KiB, 64 RDNs or 16
// attributes in one.
func ParseDER(der []byte) (Name, error) {
	fail := func(rest []byte, fault string) (Name, error) {
		return Name{}, &SyntaxError{Form: "DER name", Offset: len(der) - len(rest), Fault: fault}
	}
	if len(der) > maxDER {
		return fail(der, "longer than "+strconv.Itoa(maxDER)+" octets")
	}
	tag, seq, rest, ok := readTLV(der)
	if !ok || tag != tagSequence || len(rest) > 0 {
		return fail(der, "not one SEQUENCE")
	}
	rdns := 0
	for b := seq; len(b) > 0; {
		tag, set, rest, ok := readTLV(b)
		if !ok || tag != tagSet || len(set) == 0 {
			return fail(b, "not an RDN: a SET of one attribute or more")
		}
		if rdns++; rdns > maxRDNs {
			return fail(b, "more than "+strconv.Itoa(maxRDNs)+" RDNs")
		}
		attrs := 0
		for len(set) > 0 {
			if attrs++; attrs > maxAttrs {
				return fail(b, "more than "+strconv.Itoa(maxAttrs)+" attributes in one RDN")
			}
			if _, set, ok = readRaw(set); !ok {
				return fail(b, "an RDN with something else than a type and a value")
			}
		}
		b = rest
	}
	return Name{bytes.Clone(seq)}, nil
}

// DER returns the encoded name.
func (n Name) DER() []byte { return appendTLV(nil, tagSequence, n.seq) }

// IsEmpty reports whether there is no RDN.
func (n Name) IsEmpty() bool { return len(n.seq) == 0 }

// rdns returns the attributes, RDN by RDN, in DER order.
func (n Name) rdns() [][]raw {
	var out [][]raw
	for b := n.seq; len(b) > 0; {
		_, set, rest, ok := readTLV(b)
		if !ok {
			return out
		}
		var rdn []raw
		for len(set) > 0 {
			a, rest, ok := readRaw(set)
			if !ok {
				return out
			}
			rdn, set = append(rdn, a), rest
		}
		out, b = append(out, rdn), rest
	}
	return out
}

// build encodes RDNs that are given in DER order.
func build(rdns [][]raw) Name {
	var seq []byte
	for _, rdn := range rdns {
		parts := make([][]byte, len(rdn))
		for i, a := range rdn {
			parts[i] = a.append(nil)
		}
		slices.SortFunc(parts, bytes.Compare) // DER: a SET OF is sorted
		seq = appendTLV(seq, tagSet, bytes.Join(parts, nil))
	}
	return Name{seq}
}

// Equal is distinguishedNameMatch (RFC 4517, Section 4.2.15; RFC 5280, Section 7.1):
// the same number of RDNs, equal by position; in an RDN the same number of attributes,
// equal by type in any order; values equal octet by octet, or as strings after
// preparation. A name with a NUL in a string, or with a type twice in one RDN, equals
// nothing, itself included.
func (n Name) Equal(other Name) bool {
	p, fault := compileName(n)
	return fault == "" && p.match(appendTLV(nil, tagSequence, other.seq)) == equalNames
}

// Within reports whether n lies in the subtree of base: whether it begins, in DER order,
// with RDNs that are equal to those of base, each as [Name.Equal] compares them (RFC 5280,
// Section 4.2.1.10). In RFC 4514 text, base is the end of n. Each name lies within itself
// and within the empty name. A name that equals nothing lies within nothing.
func (n Name) Within(base Name) bool {
	rdns, below := n.rdns(), base.rdns()
	if _, fault := compileName(n); fault != "" || len(rdns) < len(below) {
		return false
	}
	return build(rdns[:len(below)]).Equal(base)
}

// String returns RFC 4514 text that ParseName reads back without loss: to a name that
// is Equal. The last RDN comes first. A type without a registered short name is
// dotted, and its value is the hex of its encoding, as is a value that text cannot
// carry. Characters that do not print are escaped.
func (n Name) String() string {
	var b strings.Builder
	for i, rdn := range slices.Backward(n.rdns()) {
		for j, a := range rdn {
			if j > 0 {
				b.WriteByte('+')
			}
			a.write(&b)
		}
		if i > 0 {
			b.WriteByte(',')
		}
	}
	return b.String()
}

func (a raw) write(b *strings.Builder) {
	k, _ := knownByOID(a.oid)
	if k.print != "" && a.isText() {
		if text, ok := a.text(); ok {
			_, defined := stringprep.Prepare(text)
			if defined || encodeText(a.oid, text).tag == a.tag {
				b.WriteString(k.print)
				b.WriteByte('=')
				writeEscaped(b, text)
				return
			}
		}
	}
	if k.print != "" {
		b.WriteString(k.print)
	} else {
		b.WriteString(dotted(a.oid))
	}
	b.WriteString("=#")
	b.WriteString(hex.EncodeToString(appendTLV(nil, a.tag, a.content)))
}

// String returns the attribute as RFC 4514 text.
func (a raw) String() string {
	var b strings.Builder
	a.write(&b)
	return b.String()
}

// writeEscaped writes text by RFC 4514, Section 2.4. What does not print is written as
// hex pairs, which is allowed for any octet, so that a name cannot break a log line.
func writeEscaped(b *strings.Builder, text string) {
	for i, r := range text {
		switch {
		case strings.ContainsRune(`"+,;<>\`, r),
			r == '#' && i == 0,
			r == ' ' && (i == 0 || i == len(text)-1):
			b.WriteByte('\\')
			b.WriteRune(r)
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			for _, c := range utf8.AppendRune(nil, r) {
				b.WriteByte('\\')
				b.WriteString(hex.EncodeToString([]byte{c}))
			}
		}
	}
}

// Legacy returns OpenSSL's one-line form, /C=US/O=Agora/CN=x, for people. It can be
// ambiguous, so it is never compared.
func (n Name) Legacy() string {
	var b strings.Builder
	for _, rdn := range n.rdns() {
		for j, a := range rdn {
			b.WriteByte("/+"[min(j, 1)])
			b.WriteString(typeName(a.oid))
			b.WriteByte('=')
			text, ok := a.text()
			if !ok {
				b.WriteByte('#')
				b.WriteString(hex.EncodeToString(appendTLV(nil, a.tag, a.content)))
				continue
			}
			for i := range len(text) {
				if c := text[i]; c < ' ' || c > '~' {
					b.WriteString(`\x`)
					b.WriteString(strings.ToUpper(hex.EncodeToString([]byte{c})))
				} else {
					b.WriteByte(c)
				}
			}
		}
	}
	return b.String()
}

// A SyntaxError reports input that is not a distinguished name, or not a
// subjectAltName extension.
type SyntaxError struct {
	// Form is what was expected: "RFC 4514 name", "one-line name", "DER name" or
	// "subjectAltName".
	Form   string
	Offset int // in bytes
	Fault  string
	// Hint says what to write instead, if that is known.
	Hint string
}

func (e *SyntaxError) Error() string {
	s := "subject: " + e.Form + ": at " + strconv.Itoa(e.Offset) + ": " + e.Fault
	if e.Hint != "" {
		s += "; " + e.Hint
	}
	return s
}

// compiled is a name that is ready for comparison.
type compiled struct {
	der  []byte
	rdns [][]attr
}

// compileName returns a fault if n must not be compared.
func compileName(n Name) (*compiled, string) {
	p := &compiled{der: n.DER()}
	for _, rdn := range n.rdns() {
		var attrs []attr
		for _, a := range rdn {
			if slices.ContainsFunc(attrs, func(b attr) bool { return bytes.Equal(a.oid, b.oid) }) {
				return nil, typeName(a.oid) + " stands twice in one RDN"
			}
			if a.hasNUL() {
				return nil, "the value of " + typeName(a.oid) + " holds a NUL"
			}
			attrs = append(attrs, compile(a))
		}
		p.rdns = append(p.rdns, attrs)
	}
	return p, ""
}

type outcome uint8

const (
	differentNames outcome = iota
	equalNames
	unusableName // NUL, a type twice in an RDN, or not DER
)

// match compares an encoded name with p. It reads every attribute of der, also after
// a difference, because a name that must not be compared is reported as such.
func (p *compiled) match(der []byte) outcome {
	if bytes.Equal(der, p.der) {
		return equalNames
	}
	tag, seq, rest, ok := readTLV(der)
	if !ok || tag != tagSequence || len(rest) > 0 {
		return unusableName
	}
	equal, i := true, 0
	for len(seq) > 0 {
		var set []byte
		tag, set, seq, ok = readTLV(seq)
		if !ok || tag != tagSet || len(set) == 0 {
			return unusableName
		}
		n := 0
		for b := set; len(b) > 0; n++ {
			if n == maxAttrs {
				return unusableName
			}
			var a raw
			if a, b, ok = readRaw(b); !ok || a.hasNUL() {
				return unusableName
			}
			for prior, j := set, 0; j < n; j++ {
				var before raw
				if before, prior, ok = readRaw(prior); !ok || bytes.Equal(before.oid, a.oid) {
					return unusableName
				}
			}
			equal = equal && i < len(p.rdns) && has(p.rdns[i], a)
		}
		// The types of each side are different, so as many attributes, each with
		// a match, are a match of the sets.
		equal = equal && i < len(p.rdns) && n == len(p.rdns[i])
		i++
	}
	if equal && i == len(p.rdns) {
		return equalNames
	}
	return differentNames
}

func has(rdn []attr, a raw) bool {
	for i := range rdn {
		if bytes.Equal(rdn[i].oid, a.oid) {
			return rdn[i].equalValue(a)
		}
	}
	return false
}
