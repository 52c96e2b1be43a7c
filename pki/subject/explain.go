package subject

import (
	"bytes"
	"crypto/x509"
	"slices"
	"strconv"
	"strings"

	"github.com/certbound/certbound/decision"
)

// explainName builds the error for a subject that does not match.
func (e *Expected) explainName(der []byte, outcome outcome) error {
	n, err := ParseDER(der)
	if err != nil {
		return e.refuse(decision.CertificateForbidden, "a subject that is not usable", err.Error())
	}
	if n.IsEmpty() {
		return e.refuse(decision.SubjectAbsent, "an empty subject", "the certificate has no subject DN; register one of its SANs")
	}
	found := quote(n.String())
	if outcome == unusableName {
		_, fault := compileName(n)
		return e.refuse(decision.CertificateForbidden, found, fault)
	}
	return e.refuse(decision.SubjectMismatch, found, e.name.difference(n))
}

// difference says how n differs, for the operator.
func (p *compiled) difference(n Name) string {
	found := n.rdns()
	slices.Reverse(found)
	if p.match(appendTLV(nil, tagSequence, build(found).seq)) == equalNames {
		return "the same attributes in reversed order: the registered text is written in the other direction (RFC 4514 begins with the last RDN of the certificate)"
	}
	var lacks []attr
	rest := slices.Concat(found...)
	for _, rdn := range p.rdns {
		for _, a := range rdn {
			if i := slices.IndexFunc(rest, a.equal); i >= 0 {
				rest = slices.Delete(rest, i, i+1)
			} else {
				lacks = append(lacks, a)
			}
		}
	}
	switch {
	case len(lacks) == 0 && len(rest) == 0:
		if len(found) == len(p.rdns) {
			return "the same attributes in another order"
		}
		return "the same attributes, grouped otherwise: + joins attributes of one RDN, a comma separates RDNs"
	case len(lacks) == 0:
		return "the certificate has more than the registered name: " + list(rest)
	case len(rest) == 0:
		return "the certificate lacks a part of the registered name: " + list(raws(lacks))
	}
	for _, a := range lacks {
		for _, b := range rest {
			if !bytes.Equal(a.oid, b.oid) {
				continue
			}
			switch {
			case sameText(a.raw, b) && !b.isText():
				return "the value of " + typeName(a.oid) + " has a string type that is compared by octets: register " + hexAttribute(b)
			case sameText(a.raw, b):
				return "the value of " + typeName(a.oid) + " has a character that RFC 4518 prohibits, so only equal octets match: register " + hexAttribute(b)
			}
			return "they differ in " + typeName(a.oid)
		}
	}
	return "only registered: " + list(raws(lacks)) + "; only in the certificate: " + list(rest)
}

func sameText(a, b raw) bool {
	left, ok := a.text()
	right, also := b.text()
	return ok && also && left == right
}

func hexAttribute(a raw) string {
	const digits = "0123456789abcdef"
	out := []byte(dotted(a.oid) + "=#")
	for _, c := range appendTLV(nil, a.tag, a.content) {
		out = append(out, digits[c>>4], digits[c&15])
	}
	return string(out)
}

func raws(attrs []attr) []raw {
	out := make([]raw, len(attrs))
	for i, a := range attrs {
		out[i] = a.raw
	}
	return out
}

func list(attrs []raw) string {
	texts := make([]string, len(attrs))
	for i, a := range attrs {
		texts[i] = a.String()
	}
	return quoteAll(texts)
}

// explainSAN builds the error for a certificate without the entry, or, if equal, with
// others beside it.
func (e *Expected) explainSAN(cert *x509.Certificate, equal bool) error {
	sans, err := SANsOf(cert)
	if err != nil {
		return e.refuse(decision.CertificateForbidden, err.Error(), "")
	}
	entries := sans.texts(e.kind)
	switch {
	case equal:
		return e.refuse(decision.SubjectMismatch, quoteAll(entries),
			"the registration wants this entry alone, and the certificate has "+strconv.Itoa(len(entries))+" entries of the kind")
	case len(entries) == 0:
		return e.refuse(decision.SubjectAbsent, "no "+e.kind.field()+" in the subjectAltName", e.elsewhere(cert, sans))
	}
	hint := e.elsewhere(cert, sans)
	if hint == "" {
		hint = e.nearly(entries)
	}
	return e.refuse(decision.SubjectMismatch, quoteAll(entries), hint)
}

func (s *SANs) texts(kind Kind) []string {
	switch kind {
	case SANDNS:
		return s.DNS
	case SANURI:
		return s.URI
	case SANEmail:
		return s.Email
	case SANIP:
		var out []string
		for _, ip := range s.IP {
			out = append(out, formatIP(ip))
		}
		return out
	}
	return nil
}

// elsewhere says if the value stands in a field of another kind.
func (e *Expected) elsewhere(cert *x509.Certificate, sans SANs) string {
	for _, kind := range Kinds() {
		if kind != e.kind && slices.ContainsFunc(sans.texts(kind), func(s string) bool { return strings.EqualFold(s, e.value) }) {
			return "the value stands in the SAN as " + kind.field() + ", so it is registered as " + string(kind)
		}
	}
	n, err := ParseDER(cert.RawSubject)
	if err != nil {
		return ""
	}
	for _, rdn := range n.rdns() {
		for _, a := range rdn {
			if text, ok := a.text(); ok && strings.EqualFold(text, e.value) {
				where := "the attribute " + typeName(a.oid) + " of the subject"
				if string(a.oid) == commonName {
					where = "the common name"
				}
				return "the value stands in " + where + ", not in a SAN"
			}
		}
	}
	return ""
}

// nearly says what an entry has that is almost the value.
func (e *Expected) nearly(entries []string) string {
	for _, entry := range entries {
		switch {
		case strings.EqualFold(entry, e.value):
			return "they differ in letter case, which counts here"
		case e.kind == SANDNS && strings.EqualFold(entry, e.value+"."):
			return "the entry has a dot at the end, which is a part of the name"
		case e.kind == SANDNS && (strings.HasPrefix(entry, "*.") || strings.HasPrefix(e.value, "*.")):
			return "a wildcard stands for itself and is not a pattern"
		case e.kind == SANIP && (entry == "::ffff:"+e.value || "::ffff:"+entry == e.value):
			return "an IPv4-mapped IPv6 address is not the IPv4 address"
		case e.kind == SANURI && !e.normalize:
			a, ok := normalizeURI(entry)
			b, also := normalizeURI(e.value)
			if ok && also && a == b {
				return "they are equal after normalization (RFC 5280, Section 7.4): register the octets of the certificate, or turn normalization on"
			}
		}
	}
	return ""
}
