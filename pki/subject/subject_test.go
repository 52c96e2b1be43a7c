package subject

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/pkitest"
)

func expected(t testing.TB, kind Kind, value string) Expected {
	t.Helper()
	e, err := New(kind, value)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

var fixtureL1 = pkitest.LeafOptions{
	Subject: "CN=client-1,OU=apps,O=Example,C=GB",
	DNS:     []string{"client-1.example"}, URI: []string{"https://client-1.example/id"},
	IP:    []net.IP{net.IPv4(192, 0, 2, 10), net.ParseIP("2001:db8::10")},
	Email: []string{"ops@client-1.example"},
}

var fixtureValues = map[Kind]string{
	DN: "CN=client-1,OU=apps,O=Example,C=GB", SANDNS: "client-1.example", SANURI: "https://client-1.example/id",
	SANIP: "192.0.2.10", SANEmail: "ops@client-1.example",
}

// Each kind matches the fixture and none matches a leaf with other names, not even
// under an intermediate that has the names of the client.
func TestLeafOnly(t *testing.T) {
	t.Attr("requirement", "M-2.1-4 M-2.1-8")
	l1 := pkitest.MustSelfSigned(fixtureL1).Cert
	ca := pkitest.MustCA(pkitest.CAOptions{}).MustIntermediate(pkitest.CAOptions{Subject: fixtureL1.Subject, Template: func(c *x509.Certificate) {
		c.DNSNames, c.EmailAddresses, c.IPAddresses = fixtureL1.DNS, fixtureL1.Email, fixtureL1.IP
	}})
	l2 := ca.MustLeaf(pkitest.LeafOptions{
		Subject: "CN=other,O=Else", DNS: []string{"other.example"}, URI: []string{"urn:other"},
		IP: []net.IP{net.IPv4(192, 0, 2, 11)}, Email: []string{"other@other.example"},
	}).Cert
	for _, kind := range Kinds() {
		e := expected(t, kind, fixtureValues[kind])
		checkOutcome(t, e.Match(l1), "match")
		checkOutcome(t, e.Match(l2), "mismatch")
		if issuer := e.Match(ca.Cert); kind != SANURI && issuer != nil {
			t.Errorf("the fixture is wrong: %v", issuer)
		}
	}
}

func TestZeroExpected(t *testing.T) {
	leaf := pkitest.MustSelfSigned(fixtureL1).Cert
	var e Expected
	checkOutcome(t, e.Match(leaf), "mismatch")
	checkOutcome(t, e.MatchSole(leaf), "mismatch")
	checkOutcome(t, e.MatchText([]string{""}), "mismatch")
	checkOutcome(t, e.MatchName(Name{}), "mismatch")
	checkOutcome(t, e.Match(&x509.Certificate{}), "mismatch")
	checkOutcome(t, expected(t, DN, "CN=x").Match(nil), "absent")
	if _, err := New("tls_client_auth_san", "x"); err == nil {
		t.Error("an unknown kind is accepted")
	}
}

func TestMatchSole(t *testing.T) {
	two := fixtureL1
	two.DNS = []string{"client-1.example", "client-2.example"}
	cert := pkitest.MustSelfSigned(two).Cert
	for _, test := range []struct {
		name  string
		kind  Kind
		value string
		want  string
	}{
		{"one of two", SANDNS, "client-1.example", "mismatch"},
		{"one of two addresses", SANIP, "2001:db8::10", "mismatch"},
		{"the only one", SANURI, "https://client-1.example/id", "match"},
		{"another", SANEmail, "x@client-1.example", "mismatch"},
		{"subject", DN, fixtureL1.Subject, "match"},
	} {
		t.Run(test.name, func(t *testing.T) {
			checkOutcome(t, expected(t, test.kind, test.value).MatchSole(cert), test.want)
		})
	}
}

func TestMatchText(t *testing.T) {
	for _, test := range []struct {
		name   string
		kind   Kind
		value  string
		found  []string
		want   string
		reason decision.Reason
	}{
		{"none", SANDNS, "a.example", nil, "absent", ""},
		{"DNS", SANDNS, "a.example", []string{"b.example", "A.example"}, "match", ""},
		{"DNS with more behind", SANDNS, "a.example", []string{"a.example,b.example"}, "mismatch", ""},
		{"NUL", SANDNS, "a.example", []string{"a.example", "b\x00"}, "forbidden", ""},
		{"URI", SANURI, "urn:a", []string{"urn:A"}, "mismatch", ""},
		{"mail", SANEmail, "a@b.example", []string{"a@B.example"}, "match", ""},
		{"address", SANIP, "2001:db8::10", []string{"2001:DB8:0::10"}, "match", ""},
		{"mapped address", SANIP, "192.0.2.10", []string{"::ffff:192.0.2.10"}, "mismatch", ""},
		{"address with a zone", SANIP, "fe80::1", []string{"fe80::1%eth0"}, "mismatch", ""},
		{"no address", SANIP, "192.0.2.10", []string{"IP Address:192.0.2.10"}, "mismatch", ""},
		{"DN", DN, "CN=x,O=Agora", []string{"cn=X, o=agora"}, "match", ""},
		{"DN of the other direction", DN, "CN=x,O=Agora", []string{"O=Agora,CN=x"}, "mismatch", ""},
		{"DN in one line", DN, "CN=x,O=Agora", []string{"/O=Agora/CN=x"}, "mismatch", ""},
		{"two DNs", DN, "CN=x", []string{"CN=x", "CN=x"}, "mismatch", ""},
		{"DN with NUL", DN, "CN=x", []string{`CN=x\00`}, "forbidden", ""},
		{"empty DN", DN, "CN=x", []string{""}, "absent", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			checkOutcome(t, expected(t, test.kind, test.value).MatchText(test.found), test.want)
		})
	}
}

func TestCanonical(t *testing.T) {
	t.Attr("requirement", "IP-4-1")
	for _, test := range []struct {
		kind        Kind
		value, want string
	}{
		{SANIP, "2001:0DB8:0:0:0:0:0:10", "2001:db8::10"},
		{SANIP, "2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"},
		{SANIP, "::ffff:192.0.2.10", "::ffff:192.0.2.10"},
		{SANIP, "192.0.2.10", "192.0.2.10"},
		{SANDNS, "Client.Example", "client.example"},
		{SANEmail, "Ops@Client.Example", "Ops@client.example"},
		{SANURI, "HTTPS://x/", "HTTPS://x/"},
		{DN, `oid.2.5.4.3 = a\2Cb , c=GB`, `CN=a\,b,C=GB`},
	} {
		if got := expected(t, test.kind, test.value).Canonical(); got != test.want {
			t.Errorf("%s: got %s, want %s", test.value, got, test.want)
		}
	}
}

// The text as given is kept, for the answer to a registration.
func TestValueIsKept(t *testing.T) {
	t.Attr("requirement", "L-3-1")
	const text = "CN=client-1, O=Example"
	if e := expected(t, DN, text); e.Value() != text || e.Kind() != DN {
		t.Errorf("got %s %q", e.Kind(), e.Value())
	}
}

// Envoy cut a SAN at a NUL octet, so that "client-1.example\0.evil" passed for
// "client-1.example" (CVE-2025-66220, CVE-2026-47778). Here no entry with a NUL, a dot, a
// wildcard, a control or too many octets passes for another.
func TestAttack14_NULInSAN(t *testing.T) {
	t.Attr("attack", "14")
	t.Attr("requirement", "M-7.5-7 M-7.5-9")
	for _, test := range []struct {
		name, tag string
		kind      Kind
		value     string
		found     string
		want      string
		goRefuses bool
	}{
		{"DNS, NUL behind", "dns", SANDNS, "client-1.example", "client-1.example\x00.evil", "forbidden", false},
		{"DNS, NUL at the end", "dns", SANDNS, "client-1.example", "client-1.example\x00", "forbidden", false},
		{"DNS, NUL inside", "dns", SANDNS, "client-1.example", "client-\x001.example", "forbidden", false},
		{"DNS, NUL before", "dns", SANDNS, "client-1.example", "\x00client-1.example", "forbidden", false},
		{"DNS, dot behind", "dns", SANDNS, "client-1.example", "client-1.example.", "mismatch", false},
		{"DNS, dot before", "dns", SANDNS, "client-1.example", ".client-1.example", "mismatch", false},
		{"DNS, wildcard", "dns", SANDNS, "client-1.example", "*.example", "mismatch", false},
		{"DNS, part of a wildcard", "dns", SANDNS, "client-1.example", "client-*.example", "mismatch", false},
		{"DNS, all", "dns", SANDNS, "client-1.example", "*", "mismatch", false},
		{"DNS, newline", "dns", SANDNS, "client-1.example", "client-1.example\n", "mismatch", false},
		{"DNS, tab", "dns", SANDNS, "client-1.example", "\tclient-1.example", "mismatch", false},
		{"DNS, space", "dns", SANDNS, "client-1.example", "client-1.example ", "mismatch", false},
		{"DNS, DEL", "dns", SANDNS, "client-1.example", "client-1.example\x7F", "mismatch", false},
		{"DNS, full width", "dns", SANDNS, "client-1.example", "client-1。example", "forbidden", true},
		{"DNS, Kelvin sign", "dns", SANDNS, "k.example", "\u212A.example", "forbidden", true},
		{"DNS, dotless i", "dns", SANDNS, "client-1.example", "cl\u0131ent-1.example", "forbidden", true},
		{"DNS, over-long", "dns", SANDNS, "client-1.example", "client-1.example" + strings.Repeat("a", 60000), "mismatch", false},
		{"mail, NUL in the local part", "email", SANEmail, "ops@client-1.example", "ops\x00@client-1.example", "forbidden", false},
		{"mail, NUL behind", "email", SANEmail, "ops@client-1.example", "ops@client-1.example\x00.evil", "forbidden", false},
		{"mail, two @", "email", SANEmail, "ops@client-1.example", "ops@client-1.example@evil", "mismatch", false},
		{"URI, NUL behind", "uri", SANURI, "https://client-1.example/id", "https://client-1.example/id\x00", "forbidden", true},
		{"URI, encoded NUL", "uri", SANURI, "https://client-1.example/id", "https://client-1.example/id%00", "mismatch", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := vector{Subject: [][][3]string{{{"CN", "utf8", "x"}}}, SAN: [][2]string{{test.tag, test.found}}, GoRefuses: test.goRefuses}
			e := expected(t, test.kind, test.value)
			checkOutcome(t, e.Match(v.certificate(t)), test.want)
			if !test.goRefuses {
				checkOutcome(t, e.MatchText([]string{test.found}), test.want)
			}
		})
	}
}

// Envoy took a SAN entry of one type for one of another (CVE-2022-21656), Node read the
// host of a URI as a DNS name (CVE-2021-44531). Here the value of each kind stands in
// each other field, the common name included, and matches nowhere but in its own.
func TestAttack15_SANTypeConfusion(t *testing.T) {
	t.Attr("attack", "15")
	t.Attr("requirement", "M-2.1-9")
	values := map[Kind]string{SANDNS: "client-1.example", SANURI: "urn:client-1", SANIP: "192.0.2.10", SANEmail: "ops@client-1.example"}
	tags := map[Kind]string{SANDNS: "dns", SANURI: "uri", SANEmail: "email"}
	for kind, value := range values {
		e := expected(t, kind, value)
		for other, tag := range tags {
			if other == kind {
				continue
			}
			v := vector{Subject: [][][3]string{{{"O", "utf8", "x"}}}, SAN: [][2]string{{tag, value}}}
			if _, err := pkitest.SelfSigned(pkitest.LeafOptions{Extra: []pkix.Extension{encodeSAN(t, v.SAN)}}); err != nil {
				v.GoRefuses = true // not a URI, for net/url
			}
			err := e.Match(v.certificate(t))
			checkOutcome(t, err, "absent")
			if m, ok := errors.AsType[*MismatchError](err); !ok || !strings.Contains(m.Hint, other.field()) {
				t.Errorf("%s as %s: hint %q", kind, tag, m.Hint)
			}
		}
		for _, typ := range []string{"CN", "emailAddress", "UID"} {
			v := vector{Subject: [][][3]string{{{typ, "utf8", value}}}}
			checkOutcome(t, e.Match(v.certificate(t)), "absent")
			checkOutcome(t, expected(t, DN, typ+"="+value).Match(v.certificate(t)), "match")
		}
	}
	v := vector{SAN: [][2]string{{"ip", "hex:c000020a"}, {"uri", "https://client-1.example/"}}}
	checkOutcome(t, expected(t, SANDNS, "client-1.example").Match(v.certificate(t)), "absent")
	// Four octets of an address are text as well.
	v = vector{SAN: [][2]string{{"ip", "hex:612e6262"}}}
	checkOutcome(t, expected(t, SANDNS, "a.bb").Match(v.certificate(t)), "absent")
	// The subject of the certificate, written into a SAN, is no subject.
	v = vector{SAN: [][2]string{{"email", "CN=client-1"}}}
	checkOutcome(t, expected(t, DN, "CN=client-1").Match(v.certificate(t)), "absent")
}

// Node, and many who match printed names, were given values that hold separators: a
// CN of "x,O=Example" prints like a CN and an O (CVE-2021-44532, CVE-2021-44533;
// spring-security#15499 and CVE-2025-59250 with OU="CN=victim"). Here only the
// structure counts.
func TestAttack16And17_SeparatorsInValues(t *testing.T) {
	victims := []string{"CN=victim", "CN=victim,O=Example", "CN=victim+UID=1,O=Example", `CN=victim\,x,O=Example`}
	evil := [][][][3]string{
		{{{"CN", "utf8", "victim,O=Example"}}},
		{{{"O", "utf8", "Example,CN=victim"}}},
		{{{"O", "utf8", "Example"}}, {{"OU", "utf8", "CN=victim"}}},
		{{{"OU", "utf8", "CN=victim"}}},
		{{{"OU", "utf8", "x\nCN=victim"}}},
		{{{"OU", "utf8", "x+CN=victim"}}},
		{{{"OU", "utf8", "x/CN=victim"}}},
		{{{"OU", "utf8", `x",CN="victim`}}},
		{{{"O", "utf8", "Example"}}, {{"CN", "utf8", `victim\`}}},
		{{{"O", "utf8", "Example"}}, {{"CN", "utf8", `"victim"`}}},
		{{{"O", "utf8", "Example"}}, {{"CN", "utf8", "victim+UID=1"}}},
		{{{"O", "utf8", "Example"}}, {{"CN", "utf8", `victim\2Cx`}}},
		{{{"O", "utf8", "Example"}}, {{"CN", "utf8", `victim\,x`}}},
		{{{"CN", "utf8", "#0c06766963746d"}}},
		{{{"O", "utf8", "Example"}}, {{"CN", "utf8", "victim;"}}},
		{{{"O", "utf8", "Example"}}, {{"CN", "utf8", "<victim>"}}},
		{{{"O", "utf8", "Example"}}, {{"CN", "utf8", "victim"}}, {{"OU", "utf8", "x"}}},
	}
	for _, rdns := range evil {
		t.Run(rdns[len(rdns)-1][0][2], func(t *testing.T) {
			t.Attr("attack", "16 17")
			t.Attr("requirement", "M-2.1-5 L-P-1")
			cert := vector{Subject: rdns}.certificate(t)
			for _, victim := range victims {
				e := expected(t, DN, victim)
				checkOutcome(t, e.Match(cert), "mismatch")
				checkOutcome(t, e.MatchText([]string{Of(cert)}), "mismatch")
			}
			// It can be registered as itself, from what is printed.
			checkOutcome(t, expected(t, DN, Of(cert)).Match(cert), "match")
		})
	}
}

// open62541 used the common name of a certificate as a file name. What this package
// prints of a foreign name is one line without controls, bounded, and says nothing but
// the name.
func TestAttack25_NamesInLogs(t *testing.T) {
	t.Attr("attack", "25")
	for _, value := range []string{"../../etc/passwd", "x\nlevel=ERROR", "x\r\x1B[2J", "a\u202Eb", "a\u2028b", strings.Repeat("x", 5000), `"`} {
		cert := vector{Subject: [][][3]string{{{"CN", "utf8", value}}}}.certificate(t)
		_, err1 := New(DN, value)
		err2 := expected(t, DN, "CN=y").Match(cert)
		_, err3 := New(SANDNS, value)
		err4 := expected(t, SANDNS, "y").MatchText([]string{value})
		_, err5 := ParseLegacy("/CN=x/" + value + "=x")
		for _, text := range []string{Of(cert), err1.Error(), err2.Error(), err3.Error(), err4.Error(), err5.Error()} {
			if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7F || r == 0x202E || r == 0x2028 }) {
				t.Errorf("a control: %q", text)
			}
		}
		for _, err := range []error{err1, err2, err3, err4, err5} {
			if len(err.Error()) > 2048 {
				t.Errorf("%d octets", len(err.Error()))
			}
		}
	}
}

func TestHints(t *testing.T) {
	name := func(parts ...string) vector {
		var v vector
		for _, p := range parts {
			typ, value, _ := strings.Cut(p, "=")
			v.Subject = append(v.Subject, [][3]string{{typ, "utf8", value}})
		}
		return v
	}
	san := func(pairs ...[2]string) vector { v := name("CN=client-1"); v.SAN = pairs; return v }
	for _, test := range []struct {
		name  string
		kind  Kind
		value string
		cert  vector
		hint  string // a part of it
	}{
		{"reversed", DN, "CN=a,OU=x,O=b", name("CN=a", "OU=x", "O=b"), "reversed order"},
		{"order", DN, "CN=a,OU=x,O=b", name("OU=x", "O=b", "CN=a"), "another order"},
		{"grouping", DN, "CN=a+OU=x,O=b", name("O=b", "OU=x", "CN=a"), "grouped otherwise"},
		{"more", DN, "CN=a,O=b", name("O=b", "OU=x", "CN=a"), `more than the registered name: "OU=x"`},
		{"less", DN, "CN=a,OU=x,O=b", name("O=b", "CN=a"), `lacks a part of the registered name: "OU=x"`},
		{"value", DN, "CN=a,O=b", name("O=b", "CN=c"), "differ in CN"},
		{"string type", DN, "2.5.4.97=a", vector{Subject: [][][3]string{{{"2.5.4.97", "ia5", "a"}}}}, "register 2.5.4.97=#160161"},
		{"Undefined", DN, "CN=\ue000", vector{Subject: [][][3]string{{{"CN", "bmp", "hex:e000"}}}}, "register 2.5.4.3=#1e02e000"},
		{"nothing in common", DN, "CN=a", name("O=b"), "only registered"},
		{"empty subject", DN, "CN=a", name(), "register one of its SANs"},
		{"twice in one RDN", DN, "CN=a", vector{Subject: [][][3]string{{{"CN", "utf8", "a"}, {"CN", "utf8", "b"}}}}, "CN stands twice"},
		{"NUL", DN, "CN=a", name("CN=a\x00"), "the value of CN holds a NUL"},
		{"common name", SANDNS, "client-1", san(), "common name"},
		{"other attribute", SANEmail, "a@b.example", name("emailAddress=a@b.example"), "emailAddress"},
		{"other kind", SANEmail, "a@b.example", san([2]string{"dns", "a@b.example"}), "dNSName"},
		{"letter case", SANURI, "urn:a", san([2]string{"uri", "urn:A"}), "letter case"},
		{"normalization", SANURI, "https://a.example:443/", san([2]string{"uri", "https://a.example/"}), "turn normalization on"},
		{"wildcard", SANDNS, "a.example", san([2]string{"dns", "*.example"}), "not a pattern"},
		{"dot", SANDNS, "a.example", san([2]string{"dns", "a.example."}), "dot at the end"},
		{"mapped", SANIP, "192.0.2.10", san([2]string{"ip", "hex:00000000000000000000ffffc000020a"}), "IPv4-mapped"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := expected(t, test.kind, test.value).Match(test.cert.certificate(t))
			e, ok := errors.AsType[*MismatchError](err)
			if !ok || !strings.Contains(e.Hint, test.hint) || e.Expected != test.value || e.Kind != test.kind || e.Found == "" {
				t.Errorf("got %v, want the hint %q", err, test.hint)
			}
		})
	}
}

func TestAdvice(t *testing.T) {
	for _, test := range []struct {
		kind  Kind
		value string
		want  []string // a part of each
	}{
		{DN, "CN=x,O=Agora", nil},
		{DN, "CN=x, O=Agora", []string{"CN=x,O=Agora"}},
		{DN, "CN=😀", []string{"Unicode 3.2"}},
		{DN, "1.2.3=a", []string{"1.2.3=#0c0161", "taken for a UTF8String"}},
		{DN, "1.2.3=#160161", []string{"octet by octet"}},
		{DN, "FOO=a", nil},
		{SANDNS, "a.example", nil},
		{SANDNS, "*.example", []string{"not a pattern"}},
		{SANDNS, "192.0.2.10", []string{"tls_client_auth_san_ip"}},
		{SANURI, "urn:a", nil},
		{SANURI, "HTTPS://a.example/", []string{"not in normalized form"}},
		{SANURI, "file:///x", []string{"without a host"}},
		{SANIP, "2001:db8::10", nil},
		{SANIP, "2001:DB8::10", []string{"2001:db8::10"}},
		{SANIP, "::ffff:192.0.2.10", []string{"16 octets"}},
		{SANEmail, "a@b.example", nil},
		{SANEmail, "A@b.example", []string{"before the @"}},
	} {
		got := Advice(test.kind, test.value)
		if len(got) != len(test.want) {
			t.Errorf("%s: got %q", test.value, got)
			continue
		}
		for i, want := range test.want {
			if !strings.Contains(got[i], want) {
				t.Errorf("%s: got %q, want %q", test.value, got[i], want)
			}
		}
	}
}

func TestDescribe(t *testing.T) {
	o := fixtureL1
	o.DNS = []string{"*.example", "bad name"}
	got, err := Describe(pkitest.MustSelfSigned(o).Cert)
	if err != nil {
		t.Fatal(err)
	}
	type row struct {
		kind    Kind
		value   string
		usable  bool
		remarks int
	}
	want := []row{
		{DN, "CN=client-1,OU=apps,O=Example,C=GB", true, 0},
		{SANDNS, "*.example", true, 2},
		{SANDNS, "bad name", false, 2},
		{SANURI, "https://client-1.example/id", true, 0},
		{SANIP, "192.0.2.10", true, 1},
		{SANIP, "2001:db8::10", true, 1},
		{SANEmail, "ops@client-1.example", true, 0},
	}
	var rows []row
	for _, c := range got {
		rows = append(rows, row{c.Kind, c.Value, c.Usable, len(c.Remarks)})
	}
	if !slices.Equal(rows, want) {
		t.Errorf("got %+v", got)
	}
	if _, err := Describe(&x509.Certificate{Extensions: []pkix.Extension{{Id: oidSAN, Value: []byte{1}}}}); err == nil {
		t.Error("a broken extension is described")
	}
	nul, err := Describe(vector{Subject: [][][3]string{{{"CN", "utf8", "a\x00"}}}}.certificate(t))
	if err != nil || len(nul) != 1 || nul[0].Usable || len(nul[0].Remarks) == 0 {
		t.Errorf("got %+v, %v", nul, err)
	}
}

func TestSANsOf(t *testing.T) {
	t.Attr("requirement", "C-4.2.1.6-1")
	sans, err := SANsOf(pkitest.MustSelfSigned(fixtureL1).Cert)
	if err != nil || !slices.Equal(sans.DNS, fixtureL1.DNS) || !slices.Equal(sans.URI, fixtureL1.URI) || !slices.Equal(sans.Email, fixtureL1.Email) ||
		len(sans.IP) != 2 || len(sans.IP[0]) != 4 || len(sans.IP[1]) != 16 {
		t.Errorf("got %+v, %v", sans, err)
	}
	ext := encodeSAN(t, [][2]string{{"dns", "a.example"}})
	for name, extensions := range map[string][]pkix.Extension{
		"twice":          {ext, ext},
		"cut short":      {{Id: oidSAN, Value: ext.Value[:5]}},
		"universal tag":  {{Id: oidSAN, Value: appendTLV(nil, tagSequence, []byte{tagUTF8, 1, 'a'})}},
		"behind":         {{Id: oidSAN, Value: append(slices.Clone(ext.Value), 0)}},
		"not ASCII":      {encodeSAN(t, [][2]string{{"dns", "ä"}})},
		"five octets":    {encodeSAN(t, [][2]string{{"ip", "hex:c000020a0a"}})},
		"broken, behind": {encodeSAN(t, [][2]string{{"dns", "client-1.example"}, {"uri", "ä"}})},
	} {
		t.Run(name, func(t *testing.T) {
			cert := &x509.Certificate{Extensions: extensions}
			got, err := SANsOf(cert)
			if _, ok := errors.AsType[*SyntaxError](err); !ok || got.DNS != nil {
				t.Errorf("got %+v, %v", got, err)
			}
			checkOutcome(t, expected(t, SANDNS, "client-1.example").Match(cert), "forbidden")
		})
	}
}

func TestNormalizeURI(t *testing.T) {
	t.Attr("requirement", "C-7.4-1")
	for _, test := range []struct{ in, want string }{
		{"HTTP://User@EXAMPLE.com:80", "http://User@example.com/"},
		{"https://example.com:443/%7efoo/%2F?A=%c3%a4#%41", "https://example.com/~foo/%2F?A=%C3%A4#A"},
		{"https://example.com:444/", "https://example.com:444/"},
		{"https://example.com/a/./b/../../c/..", "https://example.com/"},
		{"https://example.com/a//b/.", "https://example.com/a//b/"},
		{"https://%45xample.com/", "https://example.com/"},
		{"https://ex%C3%84mple.com/", "https://ex%C3%84mple.com/"},
		{"https://[2001:DB8::1]:443/", "https://[2001:db8::1]/"},
		{"ldap://example.com:389", "ldap://example.com/"},
		{"ftp://example.com:21/a", "ftp://example.com/a"},
		{"spiffe://Example.org", "spiffe://example.org"},
		{"spiffe://example.org:443/a", "spiffe://example.org:443/a"},
		{"URN:example:A", "urn:example:A"},
		{"x:/a/../b", "x:/b"},
	} {
		got, ok := normalizeURI(test.in)
		if !ok || got != test.want {
			t.Errorf("%s: got %s, %v; want %s", test.in, got, ok, test.want)
		}
		if again, ok := normalizeURI(got); !ok || again != got {
			t.Errorf("%s: normalized again %s", got, again)
		}
	}
	for _, in := range []string{"", "a", "a:", "/a", "x:/a/..//b", "https://x/%", "https://x/ä"} {
		if got, ok := normalizeURI(in); ok {
			t.Errorf("%q: got %s", in, got)
		}
	}
	if _, err := NewNormalizedURI("x:/a/..//b"); err == nil {
		t.Error("registered without a normal form")
	}
	if _, err := NewNormalizedURI("a"); err == nil {
		t.Error("not a URI")
	}
}
