package httpauth_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pkitest"
)

// refused checks that leaf does not authenticate any of the clients. The listener may
// fail the handshake of a certificate that is not X.509 at all.
func (s *server) refused(t *testing.T, leaf *pkitest.Leaf, ids ...string) {
	t.Helper()
	for _, id := range ids {
		before := s.next
		resp, err := s.client(t, leaf).Do(s.request(t, "client_id="+id+"&scope=read"))
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode != 400 {
				t.Errorf("%s: status %d\n%s", id, resp.StatusCode, s.decision())
			}
		}
		if s.next != before {
			t.Errorf("%s: let in with %q\n%s", id, leaf.Cert.RawSubject, s.decision())
		}
	}
}

func attribute(oid asn1.ObjectIdentifier, value string) pkitest.Attribute {
	return pkitest.Attribute{Type: oid, Tag: asn1.TagUTF8String, Value: []byte(value)}
}

var (
	oidCN = asn1.ObjectIdentifier{2, 5, 4, 3}
	oidC  = asn1.ObjectIdentifier{2, 5, 4, 6}
	oidO  = asn1.ObjectIdentifier{2, 5, 4, 10}
	oidOU = asn1.ObjectIdentifier{2, 5, 4, 11}
)

// L1's subject, in the order of its encoding.
func subjectOfL1() [][]pkitest.Attribute {
	return [][]pkitest.Attribute{
		{attribute(oidC, "GB")}, {attribute(oidO, "Example")}, {attribute(oidOU, "apps")}, {attribute(oidCN, "client-1")},
	}
}

// Attack 1: the attacker has an own leaf and sends a chain in which the victim's name
// stands in another certificate. A server that accepts "any certificate of the chain
// matches" lets him in.
func TestAttackNameInTheChain(t *testing.T) {
	t.Attr("attack", "1")
	t.Attr("requirement", "M-2.1-8")
	c := fixture.Certs()
	s := start(t)
	named := c.CA1.MustIntermediate(pkitest.CAOptions{RawSubject: c.L1.Cert.RawSubject, Template: func(cert *x509.Certificate) {
		cert.DNSNames = c.L1.Cert.DNSNames
	}})
	s.refused(t, named.MustLeaf(pkitest.LeafOptions{Subject: "CN=attacker"}), "c-dn", "c-dns")

	// The victim's own certificate, behind the attacker's.
	attacker := *c.L2
	attacker.Issuer = &pkitest.CA{Cert: c.L1.Cert, Key: c.L1.Key, Parent: c.L1.Issuer}
	s.refused(t, &attacker, "c-dn", "c-dns", "c-uri")
}

// Attack 12: a subject that differs from the registered one in the order, the grouping
// or the number of its RDNs, where names are matched as sets of attributes.
func TestAttackSubjectRearranged(t *testing.T) {
	t.Attr("attack", "12")
	c := fixture.Certs()
	s := start(t)
	right := subjectOfL1()
	names := map[string][]byte{}
	for i, order := range permutations(len(right)) {
		var rdns [][]pkitest.Attribute
		for _, j := range order {
			rdns = append(rdns, right[j])
		}
		if i > 0 { // the first is the right one
			names[fmt.Sprint("order ", order)] = pkitest.RawName(rdns...)
		}
	}
	for i := range right {
		names[fmt.Sprint("without ", i)] = pkitest.RawName(slices.Delete(subjectOfL1(), i, i+1)...)
		names[fmt.Sprint("twice ", i)] = pkitest.RawName(slices.Insert(subjectOfL1(), i, right[i])...)
		names[fmt.Sprint("one more before ", i)] = pkitest.RawName(slices.Insert(subjectOfL1(), i, []pkitest.Attribute{attribute(oidOU, "x")})...)
		if i > 0 {
			merged := subjectOfL1()
			merged[i-1] = append(merged[i-1], merged[i]...)
			names[fmt.Sprint("merged ", i)] = pkitest.RawName(slices.Delete(merged, i, i+1)...)
		}
		extra := subjectOfL1()
		extra[i] = append(extra[i], attribute(asn1.ObjectIdentifier{2, 5, 4, 5}, "1"))
		names[fmt.Sprint("one more in ", i)] = pkitest.RawName(extra...)
	}
	names["all in one RDN"] = pkitest.RawName(slices.Concat(right...))
	names["empty"] = pkitest.RawName()
	for name, raw := range names {
		t.Run(name, func(t *testing.T) {
			s.refused(t, c.CA1i.MustLeaf(pkitest.LeafOptions{RawSubject: raw}), "c-dn")
		})
	}
	// And the right one is the right one.
	leaf := c.CA1i.MustLeaf(pkitest.LeafOptions{RawSubject: pkitest.RawName(right...)})
	s.post(t, leaf, "client_id=c-dn&scope=read").ok(t, "c-dn", "tls_client_auth", leaf)
}

// permutations returns the orders of n things, the unchanged one first.
func permutations(n int) [][]int {
	if n == 0 {
		return [][]int{{}}
	}
	var out [][]int
	for i := n - 1; i >= 0; i-- {
		for _, p := range permutations(n - 1) {
			out = append(out, slices.Insert(slices.Clone(p), i, n-1))
		}
	}
	return out
}

// The tags of GeneralName.
const (
	tagEmail = 1
	tagDNS   = 2
	tagURI   = 6
	tagIP    = 7
)

// sans is an extension with names as given, whatever they are.
func sans(tag int, values ...string) []pkix.Extension {
	var names []asn1.RawValue
	for _, v := range values {
		names = append(names, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, Bytes: []byte(v)})
	}
	der, err := asn1.Marshal(names)
	if err != nil {
		panic(err)
	}
	return []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: der}}
}

// Attack 14: SAN entries that are longer, shorter or other than they look. Those that
// crypto/x509 refuses to parse do not get through the handshake.
func TestAttackOddNames(t *testing.T) {
	t.Attr("attack", "14")
	t.Attr("requirement", "M-7.5-7")
	c := fixture.Certs()
	s := start(t)
	const host = "client-1.example"
	for _, tt := range []struct {
		name  string
		tag   int
		value string
		id    string
	}{
		{"NUL after", tagDNS, host + "\x00.evil", "c-dns"},
		{"NUL at the end", tagDNS, host + "\x00", "c-dns"},
		{"NUL before", tagDNS, "\x00" + host, "c-dns"},
		{"NUL inside", tagDNS, "client-1\x00.example", "c-dns"},
		{"dot after", tagDNS, host + ".", "c-dns"},
		{"dot before", tagDNS, "." + host, "c-dns"},
		{"wildcard", tagDNS, "*.example", "c-dns"},
		{"wildcard alone", tagDNS, "*", "c-dns"},
		{"longer", tagDNS, host + ".evil", "c-dns"},
		{"a label more", tagDNS, "x." + host, "c-dns"},
		{"space after", tagDNS, host + " ", "c-dns"},
		{"line feed after", tagDNS, host + "\n", "c-dns"},
		{"over-long", tagDNS, strings.Repeat("a", 20_000) + host, "c-dns"},
		{"empty", tagDNS, "", "c-dns"},
		{"URI, fragment", tagURI, "https://client-1.example/id#", "c-uri"},
		{"URI, host in upper case", tagURI, "https://CLIENT-1.example/id", "c-uri"},
		{"URI, escaped", tagURI, "https://client-1.example/%69d", "c-uri"},
		{"mail, NUL after", tagEmail, "ops@client-1.example\x00.evil", "c-mail"},
		{"mail, local part in upper case", tagEmail, "OPS@client-1.example", "c-mail"},
		{"mail, with a name", tagEmail, "<ops@client-1.example>", "c-mail"},
		{"IP, mapped", tagIP, "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc0\x00\x02\x0a", "c-ip4"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.refused(t, c.CA1i.MustLeaf(pkitest.LeafOptions{Subject: "CN=x", Extra: sans(tt.tag, tt.value)}), tt.id)
		})
	}
	t.Run("subject with NUL", func(t *testing.T) {
		rdns := subjectOfL1()
		rdns[3][0].Value = []byte("client-1\x00")
		s.refused(t, c.CA1i.MustLeaf(pkitest.LeafOptions{RawSubject: pkitest.RawName(rdns...)}), "c-dn")
	})
}

// Attack 15: a name of one kind that is offered as another kind, and a certificate that
// was issued for servers.
func TestAttackKindsConfused(t *testing.T) {
	t.Attr("attack", "15")
	t.Attr("requirement", "M-2.1-9")
	c := fixture.Certs()
	s := start(t)
	values := map[string]struct {
		tag    int
		octets []string // the value as text, and as octets
	}{
		"c-dns":  {tagDNS, []string{"client-1.example"}},
		"c-uri":  {tagURI, []string{"https://client-1.example/id"}},
		"c-mail": {tagEmail, []string{"ops@client-1.example"}},
		"c-ip4":  {tagIP, []string{"192.0.2.10", "\xc0\x00\x02\x0a"}},
		"c-ip6":  {tagIP, []string{"2001:db8::10"}},
		"c-dn":   {0, []string{fixture.SubjectDN}},
	}
	for id, v := range values {
		for _, tag := range []int{tagEmail, tagDNS, tagURI, tagIP} {
			if tag == v.tag {
				continue
			}
			for _, octets := range v.octets {
				if tag == tagIP && len(octets) != 4 && len(octets) != 16 || tag != tagIP && octets[0] >= 0x80 || tag == tagURI && id == "c-ip6" {
					continue // crypto/x509 does not parse it
				}
				s.refused(t, c.CA1i.MustLeaf(pkitest.LeafOptions{Subject: "CN=x", Extra: sans(tag, octets)}), id)
			}
		}
		if id != "c-dn" {
			raw := pkitest.RawName([]pkitest.Attribute{attribute(oidCN, v.octets[0])})
			s.refused(t, c.CA1i.MustLeaf(pkitest.LeafOptions{RawSubject: raw}), id)
		}
	}
	server := fixture.L1Options()
	server.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	s.refused(t, c.CA1i.MustLeaf(server), "c-dn", "c-dns", "c-uri", "c-ip4", "c-ip6", "c-mail")
}

// Attack 16 and 17: a value that holds what separates names in some text form, so that
// the printed name is, or contains, the victim's.
func TestAttackSeparatorsInNames(t *testing.T) {
	t.Attr("attack", "16 17")
	c := fixture.Certs()
	s := start(t)
	for _, cn := range []string{
		"client-1,OU=apps,O=Example,C=GB", "client-1, OU=apps, O=Example, C=GB", "client-1+OU=apps", "client-1/OU=apps/O=Example/C=GB",
		"client-1\nOU=apps\nO=Example\nC=GB", `client-1\,OU=apps`, `"client-1",OU=apps,O=Example,C=GB`, "x,CN=client-1,OU=apps,O=Example,C=GB",
		"client-1;OU=apps;O=Example;C=GB", "#0c08636c69656e742d31", "CN=client-1",
	} {
		s.refused(t, c.CA1i.MustLeaf(pkitest.LeafOptions{RawSubject: pkitest.RawName([]pkitest.Attribute{attribute(oidCN, cn)})}), "c-dn")
		if lines := s.decision().String(); strings.Contains(lines, "\nOU=") || strings.Contains(lines, "\nO=") {
			t.Errorf("the record has lines of the attacker:\n%s", lines)
		}
		rdns := subjectOfL1()
		rdns[3] = []pkitest.Attribute{attribute(oidCN, cn)}
		s.refused(t, c.CA1i.MustLeaf(pkitest.LeafOptions{RawSubject: pkitest.RawName(rdns...)}), "c-dn")
	}
	s.refused(t, c.CA1i.MustLeaf(pkitest.LeafOptions{RawSubject: pkitest.RawName([]pkitest.Attribute{attribute(oidOU, "CN=client-1,OU=apps,O=Example,C=GB")})}), "c-dn")
	for _, name := range []string{"x.example, DNS:client-1.example", "x.example,client-1.example", "DNS:client-1.example", "client-1.example;x", `"client-1.example"`} {
		s.refused(t, c.CA1i.MustLeaf(pkitest.LeafOptions{Subject: "CN=x", Extra: sans(tagDNS, name)}), "c-dns")
	}
	for _, uri := range []string{"client-1.example", "dns://client-1.example", "https://x/,https://client-1.example/id"} {
		s.refused(t, c.CA1i.MustLeaf(pkitest.LeafOptions{Subject: "CN=x", Extra: sans(tagURI, uri)}), "c-dns", "c-uri")
	}
}
