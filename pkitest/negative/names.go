package negative

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net"
	"slices"
	"strings"

	"github.com/certbound/certbound/pkitest"
)

var (
	oidCN  = asn1.ObjectIdentifier{2, 5, 4, 3}
	oidOU  = asn1.ObjectIdentifier{2, 5, 4, 11}
	oidSAN = asn1.ObjectIdentifier{2, 5, 29, 17}
)

// names are genuine certificates of the trusted CA whose names are almost those of the
// client: what a CA may issue to somebody who has asked for an odd name.
func (target Target) names() []attack {
	if target.Registered == subjectDN {
		return target.subjects()
	}
	return target.alternatives()
}

// subjects are names that a careless comparison takes for the registered subject.
func (target Target) subjects() []attack {
	good := target.good()
	rdns, ok := split(good.Cert.RawSubject)
	if !ok || len(rdns) == 0 {
		return nil
	}
	var all []attack
	add := func(number int, name, sent string, raw []byte) {
		if bytes.Equal(raw, good.Cert.RawSubject) {
			return // the client's name is too short for this one
		}
		o := nobody()
		o.Subject, o.RawSubject = "", raw
		all = append(all, showing(number, name, "a certificate of the trusted CA "+sent, of(target.CA.MustLeaf(o))))
	}
	one := func(oid asn1.ObjectIdentifier, value string) []byte { return rdn(oid, value) }
	text := good.Cert.Subject.String()
	cn := good.Cert.Subject.CommonName
	reversed := slices.Clone(rdns)
	slices.Reverse(reversed)
	last := len(rdns) - 1

	add(12, "RDNs in another order", "whose subject has the client's RDNs in reverse order", join(reversed))
	add(12, "an RDN more at the top", "whose subject has one RDN more before the client's", join(slices.Concat([][]byte{one(oidOU, "mallory")}, rdns)))
	add(12, "an RDN more at the bottom", "whose subject has one RDN more behind the client's", join(slices.Concat(rdns, [][]byte{one(oidOU, "mallory")})))
	add(12, "an RDN twice", "whose subject has the client's first RDN twice", join(slices.Concat(rdns[:1], rdns)))
	add(12, "the subject twice", "whose subject is the client's twice in a row", join(slices.Concat(rdns, rdns)))
	if last > 0 {
		add(12, "an RDN less", "whose subject lacks the client's first RDN", join(rdns[1:]))
		add(12, "two RDNs as one", "whose subject has the client's last two RDNs as one RDN with two values", join(slices.Concat(rdns[:last-1], [][]byte{merged(rdns[last-1], rdns[last])})))
	}
	add(16, "the subject as a value", "whose CN is the client's whole subject as text", join([][]byte{one(oidCN, text)}))
	add(16, "the subject as a value, one-line form", "whose CN is the client's subject in the one-line form of OpenSSL", join([][]byte{one(oidCN, "/"+strings.ReplaceAll(text, ",", "/"))}))
	add(17, "the subject behind a type in a value", "whose OU is CN= and so on", join([][]byte{one(oidOU, text)}))
	add(16, "separators in a value", "whose CN holds the client's name and separators, a quote and a line break", join([][]byte{one(oidCN, "mallory\", "+text+"\n"+text)}))
	if cn != "" {
		swap := func(value string) []byte {
			out := slices.Clone(rdns)
			for i := range out {
				if bytes.Equal(out[i], one(oidCN, cn)) {
					out[i] = one(oidCN, value)
				}
			}
			return join(out)
		}
		add(14, "NUL in a value", "whose CN is the client's with a NUL and something behind it", swap(cn+"\x00.mallory.example"))
		add(14, "NUL at the end of a value", "whose CN is the client's with a NUL at its end", swap(cn+"\x00"))
		add(14, "a longer value", "whose CN begins with the client's", swap(cn+"-2"))
		add(14, "a wildcard", "whose CN is *", swap("*"))
		add(14, "a letter that looks the same", "whose CN has a letter of another alphabet in the place of one of the client's", swap(lookAlike(cn)))
		add(17, "the CN in an OU", "whose OU is CN= and the client's CN", join([][]byte{one(oidOU, "CN="+cn)}))
	}
	return all
}

// alternatives are names that a careless comparison takes for the registered SAN.
func (target Target) alternatives() []attack {
	good := target.good()
	var value []byte
	tag := byte(0)
	switch c := good.Cert; {
	case target.Registered == sanDNS && len(c.DNSNames) > 0:
		tag, value = tagDNS, []byte(c.DNSNames[0])
	case target.Registered == sanURI && len(c.URIs) > 0:
		tag, value = tagURI, []byte(c.URIs[0].String())
	case target.Registered == sanEmail && len(c.EmailAddresses) > 0:
		tag, value = tagEmail, []byte(c.EmailAddresses[0])
	case target.Registered == sanIP && len(c.IPAddresses) > 0:
		tag, value = tagIP, octets(c.IPAddresses[0])
	default:
		return nil
	}
	var all []attack
	add := func(number int, name, sent string, tag byte, value []byte) {
		o := nobody()
		o.Extra = []pkix.Extension{{Id: oidSAN, Value: tlv(0x30, tlv(tag, value))}}
		leaf, err := target.CA.Leaf(o)
		if err != nil {
			return // crypto/x509, and so this suite, cannot make it
		}
		all = append(all, showing(number, name, "a certificate of the trusted CA whose alternative name is "+sent, of(leaf)))
	}
	text := string(value)
	if tag == tagIP {
		text = net.IP(value).String()
	}
	for _, kind := range []struct {
		tag  byte
		name string
	}{{tagDNS, "dNSName"}, {tagURI, "URI"}, {tagEmail, "rfc822Name"}} {
		if kind.tag != tag {
			add(15, "the name as "+kind.name, "the client's, but of the kind "+kind.name, kind.tag, []byte(text))
		}
	}
	o := nobody()
	o.Subject, o.RawSubject = "", join([][]byte{rdn(oidCN, text)})
	all = append(all, showing(15, "the name as CN", "a certificate of the trusted CA whose CN is the client's alternative name", of(target.CA.MustLeaf(o))))
	if tag == tagIP {
		next := slices.Clone(value)
		next[len(next)-1] ^= 1
		add(14, "a neighbouring address", "an address beside the client's", tag, next)
		if len(value) == 4 {
			mapped := append([]byte{10: 0xff, 11: 0xff}, value...)
			add(14, "the address mapped to version 6", "the client's address as an IPv4-mapped one", tag, mapped)
		}
		return all
	}
	add(14, "NUL in the name", "the client's with a NUL and something behind it", tag, []byte(text+"\x00.mallory.example"))
	add(14, "NUL at the end", "the client's with a NUL at its end", tag, []byte(text+"\x00"))
	add(14, "a longer name", "one that ends with the client's", tag, []byte("mallory."+text))
	add(14, "a dot at the end", "the client's with a dot at its end", tag, []byte(text+"."))
	add(16, "a list in one name", "one name that looks like a list with the client's in it", tag, []byte(text+", DNS:"+text))
	add(14, "an over-long name", "a name of 4000 octets that begins with the client's", tag, []byte(text+strings.Repeat(".a", 2000)))
	if tag == tagDNS {
		if _, parent, ok := strings.Cut(text, "."); ok {
			add(14, "a wildcard", "a wildcard that would cover the client's", tag, []byte("*."+parent))
		}
	}
	return all
}

const (
	tagEmail = 0x81
	tagDNS   = 0x82
	tagURI   = 0x86
	tagIP    = 0x87
)

func octets(a net.IP) []byte {
	if four := a.To4(); four != nil {
		return four
	}
	return a
}

// lookAlike replaces one letter by a Cyrillic one of the same shape, or adds one.
func lookAlike(s string) string {
	for latin, cyrillic := range map[string]string{"a": "а", "e": "е", "o": "о", "p": "р", "c": "с", "i": "і"} {
		if strings.Contains(s, latin) {
			return strings.Replace(s, latin, cyrillic, 1)
		}
	}
	return s + "а"
}

// split returns the RDNs of a name, as they are encoded.
func split(name []byte) (rdns [][]byte, ok bool) { return elements(name) }

// elements returns what stands in a SEQUENCE or SET.
func elements(der []byte) (out [][]byte, ok bool) {
	var outer asn1.RawValue
	if rest, err := asn1.Unmarshal(der, &outer); err != nil || len(rest) > 0 {
		return nil, false
	}
	for rest := outer.Bytes; len(rest) > 0; {
		var v asn1.RawValue
		var err error
		if rest, err = asn1.Unmarshal(rest, &v); err != nil {
			return nil, false
		}
		out = append(out, v.FullBytes)
	}
	return out, true
}

func join(rdns [][]byte) []byte { return tlv(0x30, slices.Concat(rdns...)) }

// merged returns one RDN with the attributes of two.
func merged(a, b []byte) []byte {
	first, _ := elements(a)
	second, _ := elements(b)
	return sortedSet(slices.Concat(first, second))
}

func rdn(oid asn1.ObjectIdentifier, value string) []byte {
	name := pkitest.RawName([]pkitest.Attribute{{Type: oid, Tag: asn1.TagUTF8String, Value: []byte(value)}})
	rdns, _ := split(name)
	return rdns[0]
}
