package pki

import (
	"crypto/x509"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/pki/subject"
)

// Names are limits on the names of leafs, with the meaning of permitted subtrees (RFC
// 5280, Section 4.2.1.10): if a list is not empty, every name of its kind in the leaf has
// to lie within one of its entries. Names of a kind without a list are not limited, and
// neither is a leaf that has no name of the kind. The zero value permits everything.
//
// A CA that serves several purposes can so be trusted for some names only, though its
// certificate says nothing of it. Unlike name constraints of a certificate, which
// crypto/x509 checks, these can limit the subject as well.
type Names struct {
	// Subjects are RFC 4514 names: O=Agora,C=GB permits itself and what ends with it.
	Subjects []string
	// DNS are host names. corp.example permits itself and every name below;
	// .corp.example only those below.
	DNS []string
	// URI are the hosts of URIs: corp.example permits this host, .corp.example those
	// below. A URI without a host, or with an address in its place, is not permitted.
	URI []string
	// Email are mailboxes (ops@corp.example), hosts (corp.example: every mailbox of this
	// host) or domains (.corp.example: those of the hosts below).
	Email []string
	// IP are networks.
	IP []netip.Prefix
}

// permitted are Names that are ready for use.
type permitted struct {
	subjects        []subject.Name
	dns, uri, email []string
	ip              []netip.Prefix
}

// compile returns nil if there are no limits.
func (n Names) compile() (*permitted, []wrongSetting) {
	if len(n.Subjects)+len(n.DNS)+len(n.URI)+len(n.Email)+len(n.IP) == 0 {
		return nil, nil
	}
	var wrong []wrongSetting
	fault := func(expected, found string) {
		wrong = append(wrong, wrongSetting{expected, fmt.Sprintf("%q", cut(found))})
	}
	p := &permitted{}
	for _, text := range n.Subjects {
		name, err := subject.ParseName(text)
		switch {
		case err != nil:
			wrong = append(wrong, wrongSetting{"Permitted.Subjects that are RFC 4514 names", err.Error()})
		case name.IsEmpty() || !name.Equal(name):
			fault("Permitted.Subjects that can be compared: not empty, without NUL, each type once in an RDN", text)
		default:
			p.subjects = append(p.subjects, name)
		}
	}
	hosts := func(field string, list []string) (out []string) {
		for _, text := range list {
			if !isHost(strings.TrimPrefix(text, ".")) {
				fault("Permitted."+field+" that are host names, with a dot in front for those below", text)
				continue
			}
			out = append(out, strings.ToLower(text))
		}
		return out
	}
	p.dns, p.uri = hosts("DNS", n.DNS), hosts("URI", n.URI)
	for _, text := range n.Email {
		local, host, mailbox := cutLast(text, "@")
		if !mailbox {
			p.email = append(p.email, hosts("Email", []string{text})...)
		} else if local == "" || !isHost(host) {
			fault("Permitted.Email that are mailboxes, hosts, or domains with a dot in front", text)
		} else {
			p.email = append(p.email, local+"@"+strings.ToLower(host))
		}
	}
	for _, prefix := range n.IP {
		if !prefix.IsValid() || prefix != prefix.Masked() {
			fault("Permitted.IP that are networks, such as 10.0.0.0/8", prefix.String())
			continue
		}
		p.ip = append(p.ip, prefix)
	}
	return p, wrong
}

// isHost accepts what can be a host name or the end of one. Wildcards are none.
func isHost(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for _, c := range []byte(label) {
			if c != '-' && c != '_' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
				return false
			}
		}
	}
	return true
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// check returns what is wrong with the names of leaf.
func (p *permitted) check(leaf *x509.Certificate) *Error {
	if p == nil {
		return nil
	}
	refuse := func(kind, found, limits string) *Error {
		return &Error{Reason: decision.NameConstraint, Cert: leaf,
			Expected: kind + " within " + limits + " (limits of the anchor set)", Found: plain(found)}
	}
	if len(p.subjects) > 0 {
		name, err := subject.ParseDER(leaf.RawSubject)
		within := func(base subject.Name) bool { return name.Within(base) }
		if err != nil || !name.IsEmpty() && !slices.ContainsFunc(p.subjects, within) {
			var limits []string
			for _, base := range p.subjects {
				limits = append(limits, base.String())
			}
			return refuse("a subject", nameOf(leaf), strings.Join(limits, "; "))
		}
	}
	sans, err := subject.SANsOf(leaf)
	if err != nil {
		return &Error{Reason: decision.NameConstraint, Cert: leaf,
			Expected: "alternative names that can be compared with the limits of the anchor set", Found: plain(err.Error())}
	}
	for _, kind := range []struct {
		name          string
		names, limits []string
		within        func(name, limit string) bool
	}{
		{"a dNSName", sans.DNS, p.dns, dnsWithin},
		{"the host of a URI", sans.URI, p.uri, uriWithin},
		{"an rfc822Name", sans.Email, p.email, emailWithin},
	} {
		for _, name := range kind.names {
			in := func(limit string) bool { return kind.within(name, limit) }
			if len(kind.limits) > 0 && !slices.ContainsFunc(kind.limits, in) {
				return refuse(kind.name, name, strings.Join(kind.limits, "; "))
			}
		}
	}
	for _, octets := range sans.IP {
		address, _ := netip.AddrFromSlice(octets)
		in := func(network netip.Prefix) bool { return network.Contains(address) }
		if len(p.ip) > 0 && !slices.ContainsFunc(p.ip, in) {
			return refuse("an iPAddress", address.String(), strings.Trim(fmt.Sprint(p.ip), "[]"))
		}
	}
	return nil
}

// hostConstraints looks again at the mailboxes and URIs that a CA permits below it. A host
// stands there for this very host, and only with a dot in front for what is below (RFC
// 5280, Section 4.2.1.10); crypto/x509 takes it for both, as is right for DNS names.
func hostConstraints(ca *x509.Certificate, below []*x509.Certificate) *Error {
	if len(ca.PermittedEmailAddresses)+len(ca.PermittedURIDomains) == 0 {
		return nil
	}
	p := &permitted{uri: lower(ca.PermittedURIDomains)}
	for _, limit := range ca.PermittedEmailAddresses {
		if local, host, mailbox := cutLast(limit, "@"); mailbox {
			limit = local + "@" + strings.ToLower(host)
		} else {
			limit = strings.ToLower(limit)
		}
		p.email = append(p.email, limit)
	}
	for _, cert := range below {
		if e := p.check(cert); e != nil {
			e.Expected = strings.TrimSuffix(e.Expected, " (limits of the anchor set)") + " (name constraints of " + nameOf(ca) + ")"
			return e
		}
	}
	return nil
}

func lower(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = strings.ToLower(s)
	}
	return out
}

func dnsWithin(name, limit string) bool {
	return hostWithin(name, limit) || !strings.HasPrefix(limit, ".") && hostWithin(name, "."+limit)
}

func uriWithin(name, limit string) bool {
	u, err := url.Parse(name)
	if err != nil {
		return false
	}
	host := u.Hostname()
	if _, err := netip.ParseAddr(host); err == nil {
		return false
	}
	return hostWithin(host, limit)
}

func emailWithin(name, limit string) bool {
	local, host, ok := cutLast(name, "@")
	if !ok || local == "" {
		return false
	}
	if wantLocal, wantHost, mailbox := cutLast(limit, "@"); mailbox {
		return local == wantLocal && hostWithin(host, wantHost)
	}
	return hostWithin(host, limit)
}

// hostWithin compares with a limit in lower case: the same name, or with a dot in front
// something below it. What is no host name lies within nothing; a wildcard is a label
// like any other and matches itself only.
func hostWithin(name, limit string) bool {
	if !isHost(strings.TrimPrefix(name, "*.")) {
		return false
	}
	name = strings.ToLower(name)
	if strings.HasPrefix(limit, ".") {
		return strings.HasSuffix(name, limit) && len(name) > len(limit)
	}
	return name == limit
}
