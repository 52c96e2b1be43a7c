package subject

import (
	"crypto/x509"
	"net/netip"
	"strconv"
	"strings"
)

// Advice returns what an operator should know about a value that can be registered: that
// it does not mean what it looks like, or could be written better. Nothing in it is an
// error. For a value that New refuses it returns nil.
func Advice(kind Kind, value string) []string {
	e, err := New(kind, value)
	if err != nil {
		return nil
	}
	var out []string
	add := func(s string) { out = append(out, s) }
	canonical := e.Canonical()
	switch kind {
	case DN:
		if canonical != value {
			add("the same name, as it is printed here: " + canonical)
		}
		for _, rdn := range e.name.rdns {
			for i := range rdn {
				a := &rdn[i]
				switch _, isKnown := knownByOID(a.oid); {
				case a.isText() && !a.defined:
					add("the value of " + typeName(a.oid) + " has a character that RFC 4518 prohibits, such as one newer than Unicode 3.2: it matches only equal octets in a " + tagName(a.tag))
				case !a.isText():
					add("the value of " + typeName(a.oid) + " is compared octet by octet")
				case !isKnown && !strings.Contains(value, "#"):
					add("the value of " + dotted(a.oid) + " is taken for a UTF8String; if the certificate has another kind of value, write # and its hex")
				}
			}
		}
	case SANDNS:
		if strings.HasPrefix(value, "*") {
			add("the wildcard is not a pattern: it matches only a certificate with this very entry")
		}
		if _, err := netip.ParseAddr(value); err == nil {
			add("this looks like an IP address, which stands in a certificate as iPAddress: use " + string(SANIP))
		}
	case SANURI:
		if n, ok := normalizeURI(value); !ok || n != value {
			add("the URI is not in normalized form; it matches only a certificate with exactly these octets")
		}
		if u, _ := splitURI(value); u.hasAuthority && u.authority == "" {
			add("the URI has an authority without a host, which RFC 5280 does not allow")
		}
	case SANIP:
		if canonical != value {
			add("the same address, as RFC 5952 writes it: " + canonical)
		}
		if ip, _ := netip.ParseAddr(value); ip.Is4In6() {
			add("an IPv4-mapped address matches only 16 octets, not the IPv4 address")
		}
	case SANEmail:
		if local := value[:strings.LastIndexByte(value, '@')]; local != strings.ToLower(local) {
			add("letter case counts before the @")
		}
	}
	return out
}

func tagName(tag byte) string {
	switch tag {
	case tagUTF8:
		return "UTF8String"
	case tagPrintable:
		return "PrintableString"
	case tagIA5:
		return "IA5String"
	case tagBMP:
		return "BMPString"
	case tagTeletex:
		return "TeletexString"
	case tagUniversal:
		return "UniversalString"
	}
	return "value of the same type"
}

// A Candidate is a name of a certificate that could be registered.
type Candidate struct {
	Kind Kind
	// Value is what to register.
	Value string
	// Usable is false if the value cannot be registered, or would not match the
	// certificate; Remarks then say why.
	Usable bool
	// Remarks are for the operator.
	Remarks []string
}

// Describe returns the names that cert offers for registration: the subject, if it is
// not empty, and each SAN entry of a kind of RFC 8705, in the order of Kinds. Errors are
// those of [SANsOf].
func Describe(cert *x509.Certificate) ([]Candidate, error) {
	sans, err := SANsOf(cert)
	if err != nil {
		return nil, err
	}
	var out []Candidate
	for _, kind := range Kinds() {
		values := sans.texts(kind)
		if kind == DN {
			n, err := ParseDER(cert.RawSubject)
			switch {
			case err != nil:
				out = append(out, Candidate{Kind: DN, Remarks: []string{err.Error()}})
				continue
			case n.IsEmpty():
				continue
			}
			values = []string{n.String()}
		}
		for _, value := range values {
			c := Candidate{Kind: kind, Value: value}
			e, err := New(kind, value)
			if err == nil {
				err = e.Match(cert)
			}
			if err != nil {
				c.Remarks = []string{err.Error()}
			} else {
				c.Usable, c.Remarks = true, Advice(kind, value)
			}
			if len(values) > 1 {
				c.Remarks = append(c.Remarks, "one of "+strconv.Itoa(len(values))+" entries of this kind; only one can be registered")
			}
			out = append(out, c)
		}
	}
	return out, nil
}
