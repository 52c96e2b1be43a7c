package subject

import (
	"crypto/x509"
	"encoding/asn1"
	"net/netip"
	"strconv"
)

// SANs are the subject alternative names of a certificate, by kind, as the octets
// stand in the extension. Names of other kinds, such as an otherName with an
// SmtpUTF8Mailbox, are left out: they match nothing.
type SANs struct {
	DNS, URI, Email []string
	IP              [][]byte // 4 or 16 octets each
}

// The tags of the general names that RFC 8705 uses (RFC 5280, Section 4.2.1.6).
const (
	tagEmail = 0x81
	tagDNS   = 0x82
	tagURI   = 0x86
	tagIP    = 0x87
)

var oidSAN = asn1.ObjectIdentifier{2, 5, 29, 17}

// SANsOf reads the extension from the DER of cert; a certificate without one has none.
// Errors are of type *[SyntaxError]: not DER, two such extensions, a name that is not
// ASCII, an address that has neither 4 nor 16 octets.
func SANsOf(cert *x509.Certificate) (SANs, error) {
	var out SANs
	names, err := sanNames(cert)
	if err != nil {
		return SANs{}, err
	}
	for {
		tag, value, ok, err := names.next()
		if err != nil {
			return SANs{}, err
		}
		if !ok {
			return out, nil
		}
		switch tag {
		case tagDNS:
			out.DNS = append(out.DNS, string(value))
		case tagURI:
			out.URI = append(out.URI, string(value))
		case tagEmail:
			out.Email = append(out.Email, string(value))
		case tagIP:
			out.IP = append(out.IP, append([]byte(nil), value...))
		}
	}
}

// A generalNames walks the extension.
type generalNames struct {
	rest []byte
	size int
}

func sanNames(cert *x509.Certificate) (generalNames, error) {
	var der []byte
	found := false
	for i := range cert.Extensions {
		if !cert.Extensions[i].Id.Equal(oidSAN) {
			continue
		}
		if found {
			return generalNames{}, &SyntaxError{Form: "subjectAltName", Fault: "the extension stands twice"}
		}
		der, found = cert.Extensions[i].Value, true
	}
	if !found {
		return generalNames{}, nil
	}
	tag, names, rest, ok := readTLV(der)
	if !ok || tag != tagSequence || len(rest) > 0 {
		return generalNames{}, &SyntaxError{Form: "subjectAltName", Fault: "not one SEQUENCE"}
	}
	return generalNames{names, len(der)}, nil
}

func (g *generalNames) next() (tag byte, value []byte, ok bool, err error) {
	if len(g.rest) == 0 {
		return 0, nil, false, nil
	}
	at := g.size - len(g.rest)
	tag, value, rest, ok := readTLV(g.rest)
	if !ok || tag&0xC0 != 0x80 {
		return 0, nil, false, &SyntaxError{Form: "subjectAltName", Offset: at, Fault: "not a general name"}
	}
	g.rest = rest
	switch tag {
	case tagDNS, tagURI, tagEmail:
		for _, c := range value {
			if c >= 0x80 {
				return 0, nil, false, &SyntaxError{Form: "subjectAltName", Offset: at, Fault: "a name that is not ASCII"}
			}
		}
	case tagIP:
		if len(value) != 4 && len(value) != 16 {
			return 0, nil, false, &SyntaxError{Form: "subjectAltName", Offset: at,
				Fault: "an address of " + strconv.Itoa(len(value)) + " octets"}
		}
	}
	return tag, value, true, nil
}

// formatIP prints the octets of an iPAddress (RFC 5952).
func formatIP(octets []byte) string {
	a, ok := netip.AddrFromSlice(octets)
	if !ok {
		return "an address of " + strconv.Itoa(len(octets)) + " octets"
	}
	return a.String()
}
