package pki_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/pki"
	"github.com/certbound/certbound/pkitest"
)

func oid(t testing.TB, text string) x509.OID {
	t.Helper()
	o, err := x509.ParseOID(text)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// The limits of a set on paths and lifetimes.
func TestPolicyOfPaths(t *testing.T) {
	const day = 24 * time.Hour
	start := time.Now().Add(-time.Hour)
	made := func(life time.Duration) pki.Chain {
		o := l1Options
		o.NotBefore, o.NotAfter = start, start.Add(life)
		return present(ca1i.MustLeaf(o))
	}
	gold, silver := oid(t, "1.3.6.1.4.1.99999.5.1"), oid(t, "1.3.6.1.4.1.99999.5.2")
	withPolicies := func(policies ...x509.OID) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.Policies = policies }
	}
	under := func(ca, leaf []x509.OID) pki.Chain {
		issuer := ca1.MustIntermediate(pkitest.CAOptions{Subject: "CN=with policies", Template: withPolicies(ca...)})
		o := l1Options
		o.Template = withPolicies(leaf...)
		return present(issuer.MustLeaf(o))
	}
	direct := l1Options
	direct.Template = withPolicies(gold)
	below := present(ca1.MustLeaf(direct))
	explicit := ca1.MustIntermediate(pkitest.CAOptions{Subject: "CN=explicit", Template: func(c *x509.Certificate) {
		c.Policies = []x509.OID{gold}
		c.ExtraExtensions = []pkix.Extension{{ // policyConstraints, requireExplicitPolicy 0
			Id: asn1.ObjectIdentifier{2, 5, 29, 36}, Critical: true, Value: []byte{0x30, 3, 0x80, 1, 0}}}
	}})
	wantGold := pki.Policy{CertificatePolicies: []x509.OID{gold}}
	again := ca1i.MustIntermediate(pkitest.CAOptions{Subject: "CN=CA1ii"})

	for _, row := range []struct {
		name   string
		policy pki.Policy
		chain  pki.Chain
		want   decision.Reason
	}{
		{"lifetime just allowed", pki.Policy{MaxLifetime: 90 * day}, made(90 * day), ""},
		{"lifetime a second too long", pki.Policy{MaxLifetime: 90 * day}, made(90*day + time.Second), decision.LifetimeTooLong},
		{"lifetime of ten years, no limit", pki.Policy{}, made(3650 * day), ""},

		{"path just short enough", pki.Policy{MaxPath: 3}, present(l1), ""},
		{"path too long", pki.Policy{MaxPath: 2}, present(l1), decision.NameConstraint},
		{"path too long, though few were presented", pki.Policy{MaxPath: 3}, present(again.MustLeaf(l1Options)), decision.NameConstraint},

		{"policy in the whole path", wantGold, under([]x509.OID{gold, silver}, []x509.OID{gold}), ""},
		{"policy directly below the anchor", wantGold, below, ""},
		{"one of two", pki.Policy{CertificatePolicies: []x509.OID{silver, gold}}, under([]x509.OID{gold}, []x509.OID{gold}), ""},
		{"any policy of the CA", wantGold, under([]x509.OID{oid(t, "2.5.29.32.0")}, []x509.OID{gold}), ""},
		{"no policy anywhere", wantGold, present(l1), decision.CertificatePolicy},
		{"no policy in the CA", wantGold, under(nil, []x509.OID{gold}), decision.CertificatePolicy},
		{"no policy in the leaf", wantGold, under([]x509.OID{gold}, nil), decision.CertificatePolicy},
		{"another policy", wantGold, under([]x509.OID{silver}, []x509.OID{silver}), decision.CertificatePolicy},
		{"a policy that the CA may not give", wantGold, under([]x509.OID{silver}, []x509.OID{gold}), decision.CertificatePolicy},
		{"a CA that requires policies, leaf without", pki.Policy{}, present(explicit.MustLeaf(l1Options)), decision.CertificatePolicy},
		{"any policy at all", pki.Policy{CertificatePolicies: []x509.OID{oid(t, "2.5.29.32.0")}}, under([]x509.OID{silver}, []x509.OID{silver}), ""},
		{"any policy at all, but none", pki.Policy{CertificatePolicies: []x509.OID{oid(t, "2.5.29.32.0")}}, present(l1), decision.CertificatePolicy},

		{"pinned key of the intermediate", pki.Policy{PinnedIssuers: []pki.Pin{pki.PinKey(ca1i.Cert)}}, present(l1), ""},
		{"pinned certificate of the intermediate", pki.Policy{PinnedIssuers: []pki.Pin{{1}, pki.PinCertificate(ca1i.Cert)}}, present(l1), ""},
		{"pinned anchor", pki.Policy{PinnedIssuers: []pki.Pin{pki.PinKey(ca1.Cert)}}, present(l1), ""},
		{"another intermediate of the same name", pki.Policy{PinnedIssuers: []pki.Pin{pki.PinKey(ca1i.Cert)}},
			present(ca1.MustIntermediate(pkitest.CAOptions{Subject: "CN=CA1i,O=Example"}).MustLeaf(l1Options)), decision.IssuerNotPinned},
		{"the pin of the leaf", pki.Policy{PinnedIssuers: []pki.Pin{pki.PinKey(l1.Cert), pki.PinCertificate(l1.Cert)}}, present(l1), decision.IssuerNotPinned},
		{"the pinned one is sent, but not in the path", pki.Policy{PinnedIssuers: []pki.Pin{pki.PinKey(ca1i.Cert)}},
			chain(ca1.MustLeaf(l1Options).Cert, ca1i.Cert), decision.IssuerNotPinned},
	} {
		t.Run(row.name, func(t *testing.T) {
			v := one(t, pki.Set{Anchors: anchors(ca1), Policy: row.policy})
			verdict, err := v.Verify(t.Context(), "main", row.chain)
			if got := reasonOf(t, verdict, err); got != row.want {
				t.Fatalf("reason %q, want %q: %v", got, row.want, err)
			}
			if err == nil && (verdict.Path[0] != row.chain.Leaf || verdict.Path[0].RequireExplicitPolicyZero) {
				t.Error("the path does not begin with the leaf as it was presented")
			}
		})
	}
}

// Two CAs have certified each other. The pinned one stands in the second path that is
// found; the first one does not refuse.
func TestPinInAnotherPath(t *testing.T) {
	key := pkitest.MustKey(pkitest.P256)
	o := pkitest.CAOptions{Subject: "CN=crossed", Key: key}
	from1, from2 := ca1.MustIntermediate(o), ca2.MustIntermediate(o)
	leaf := from1.MustLeaf(l1Options)
	for _, top := range []*pkitest.CA{ca1, ca2} {
		v := one(t, pki.Set{Anchors: anchors(ca1, ca2), Policy: pki.Policy{PinnedIssuers: []pki.Pin{pki.PinCertificate(top.Cert)}}})
		verdict, err := v.Verify(t.Context(), "main", chain(leaf.Cert, from1.Cert, from2.Cert))
		if err != nil {
			t.Fatal(err)
		}
		if got := verdict.Path[len(verdict.Path)-1]; !got.Equal(top.Cert) {
			t.Errorf("path to %v, want %v", got.Subject, top.Cert.Subject)
		}
	}
}

// The limits of a set on names.
func TestPolicyOfNames(t *testing.T) {
	leaf := func(o pkitest.LeafOptions) pki.Chain { return present(ca1i.MustLeaf(o)) }
	networks := func(list ...string) (out []netip.Prefix) {
		for _, p := range list {
			out = append(out, netip.MustParsePrefix(p))
		}
		return out
	}
	cn := func(subject string) pkitest.LeafOptions { return pkitest.LeafOptions{Subject: subject} }
	dns := func(names ...string) pkitest.LeafOptions { return pkitest.LeafOptions{DNS: names} }
	uri := func(names ...string) pkitest.LeafOptions { return pkitest.LeafOptions{URI: names} }
	mail := func(names ...string) pkitest.LeafOptions { return pkitest.LeafOptions{Email: names} }
	ip := func(a string) pkitest.LeafOptions { return pkitest.LeafOptions{IP: []net.IP{net.ParseIP(a)}} }
	const no = decision.NameConstraint
	for _, row := range []struct {
		name  string
		names pki.Names
		leaf  pkitest.LeafOptions
		want  decision.Reason
	}{
		{"no limits", pki.Names{}, l1Options, ""},
		{"subject below", pki.Names{Subjects: []string{"O=Example,C=GB"}}, cn("CN=a,OU=b,O=Example,C=GB"), ""},
		{"subject itself", pki.Names{Subjects: []string{"O=Example,C=GB"}}, cn("O=Example,C=GB"), ""},
		{"subject in another case", pki.Names{Subjects: []string{"O=Example,C=GB"}}, cn("CN=a,O=EXAMPLE,C=gb"), ""},
		{"subject elsewhere", pki.Names{Subjects: []string{"O=Example,C=GB"}}, cn("CN=a,O=Example,C=FR"), no},
		{"subject with the base in the middle", pki.Names{Subjects: []string{"O=Example,C=GB"}}, cn("CN=a,O=Example,C=GB,DC=x"), no},
		{"subject with the base in a value", pki.Names{Subjects: []string{"O=Example,C=GB"}}, cn(`CN=a\,O=Example\,C=GB,C=FR`), no},
		{"subject with one RDN more in the base", pki.Names{Subjects: []string{"OU=x,O=Example,C=GB"}}, cn("O=Example,C=GB"), no},
		{"subject with a multi-valued RDN", pki.Names{Subjects: []string{"O=Example,C=GB"}}, cn("CN=a,O=Example+OU=b,C=GB"), no},
		{"one of two bases", pki.Names{Subjects: []string{"O=Other", "O=Example"}}, cn("CN=a,O=Example"), ""},
		{"empty subject", pki.Names{Subjects: []string{"O=Example"}}, pkitest.LeafOptions{RawSubject: []byte{0x30, 0}, DNS: []string{"a.example"}}, ""},

		{"host itself", pki.Names{DNS: []string{"Corp.example"}}, dns("CORP.example"), ""},
		{"host below", pki.Names{DNS: []string{"corp.example"}}, dns("a.b.corp.example"), ""},
		{"host beside", pki.Names{DNS: []string{"corp.example"}}, dns("evilcorp.example"), no},
		{"only below, below", pki.Names{DNS: []string{".corp.example"}}, dns("a.corp.example"), ""},
		{"only below, itself", pki.Names{DNS: []string{".corp.example"}}, dns("corp.example"), no},
		{"every host counts", pki.Names{DNS: []string{"corp.example"}}, dns("a.corp.example", "a.other.example"), no},
		{"a wildcard below", pki.Names{DNS: []string{"corp.example"}}, dns("*.corp.example"), ""},
		{"a wildcard that reaches in", pki.Names{DNS: []string{"a.corp.example"}}, dns("*.corp.example"), no},
		{"another kind is not limited", pki.Names{DNS: []string{"corp.example"}}, uri("https://other.example/"), ""},

		{"URI of the host", pki.Names{URI: []string{"corp.example"}}, uri("spiffe://corp.example/a"), ""},
		{"URI with a port", pki.Names{URI: []string{"corp.example"}}, uri("https://corp.example:8443/a"), ""},
		{"URI of a host below", pki.Names{URI: []string{"corp.example"}}, uri("https://a.corp.example/"), no},
		{"URI below", pki.Names{URI: []string{".corp.example"}}, uri("https://a.corp.example/"), ""},
		{"URI with the host as user", pki.Names{URI: []string{"corp.example"}}, uri("https://corp.example@evil.example/"), no},
		{"URI without a host", pki.Names{URI: []string{"corp.example"}}, uri("urn:corp.example"), no},
		{"URI with an address", pki.Names{URI: []string{"corp.example"}}, uri("https://192.0.2.1/"), no},

		{"mailbox", pki.Names{Email: []string{"ops@corp.example"}}, mail("ops@CORP.example"), ""},
		{"mailbox in another case", pki.Names{Email: []string{"ops@corp.example"}}, mail("OPS@corp.example"), no},
		{"mailbox of the host", pki.Names{Email: []string{"corp.example"}}, mail("a@corp.example"), ""},
		{"mailbox of a host below", pki.Names{Email: []string{"corp.example"}}, mail("a@b.corp.example"), no},
		{"mailbox of the domain", pki.Names{Email: []string{".corp.example"}}, mail("a@b.corp.example"), ""},
		{"mailbox with two @", pki.Names{Email: []string{"corp.example"}}, mail(`"a@corp.example"@evil.example`), no},

		{"address", pki.Names{IP: networks("192.0.2.0/24")}, ip("192.0.2.7"), ""},
		{"address elsewhere", pki.Names{IP: networks("192.0.2.0/24", "2001:db8::/32")}, ip("198.51.100.1"), no},
		{"address of version 6", pki.Names{IP: networks("2001:db8::/32")}, ip("2001:db8::1"), ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			v := one(t, pki.Set{Anchors: anchors(ca1), Policy: pki.Policy{Permitted: row.names}})
			if got := verify(t, v, "main", leaf(row.leaf)); got != row.want {
				t.Errorf("reason %q, want %q", got, row.want)
			}
		})
	}
}

// An iPAddress of 16 octets that holds an address of version 4 is no address of version
// 4, and lies in no network of it.
func TestMappedAddressIsNotPermitted(t *testing.T) {
	san := []byte{0x30, 18, 0x87, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 7}
	o := pkitest.LeafOptions{}
	o.Extra = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: san}}
	v := one(t, pki.Set{Anchors: anchors(ca1), Policy: pki.Policy{Permitted: pki.Names{IP: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}}})
	if got := verify(t, v, "main", present(ca1i.MustLeaf(o))); got != decision.NameConstraint {
		t.Errorf("reason %q, want %q", got, decision.NameConstraint)
	}
}

// What cannot be meant is refused when the set is made, each with what was expected.
func TestPolicySettings(t *testing.T) {
	for name, policy := range map[string]pki.Policy{
		"path":             {MaxPath: 21},
		"negative path":    {MaxPath: -1},
		"lifetime":         {MaxLifetime: -1},
		"zero policy":      {CertificatePolicies: []x509.OID{{}}},
		"zero pin":         {PinnedIssuers: []pki.Pin{{}}},
		"subject":          {Permitted: pki.Names{Subjects: []string{"Example"}}},
		"empty subject":    {Permitted: pki.Names{Subjects: []string{""}}},
		"subject with NUL": {Permitted: pki.Names{Subjects: []string{`O=a\00`}}},
		"wildcard":         {Permitted: pki.Names{DNS: []string{"*.corp.example"}}},
		"two dots":         {Permitted: pki.Names{DNS: []string{"..corp.example"}}},
		"empty host":       {Permitted: pki.Names{DNS: []string{""}}},
		"URI":              {Permitted: pki.Names{URI: []string{"https://corp.example"}}},
		"mailbox":          {Permitted: pki.Names{Email: []string{"@corp.example"}}},
		"host bits":        {Permitted: pki.Names{IP: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")}}},
		"zero network":     {Permitted: pki.Names{IP: []netip.Prefix{{}}}},
	} {
		_, err := pki.NewValidator(pki.Config{Sets: []pki.Set{{Name: "main", Anchors: anchors(ca1), Policy: policy}}})
		e, ok := errors.AsType[*pki.Error](err)
		if !ok || e.Reason != decision.BadSetting || e.Expected == "" || e.Found == "" {
			t.Errorf("%s: %v, want a setting that is refused", name, err)
		}
	}
}

func TestParsePin(t *testing.T) {
	pin := pki.PinKey(ca1.Cert)
	hex := fmt.Sprintf("%x", pin[:])
	var colons []string
	for i := 0; i < len(hex); i += 2 {
		colons = append(colons, strings.ToUpper(hex[i:i+2]))
	}
	for _, text := range []string{pin.String(), hex, strings.Join(colons, ":")} {
		if got, err := pki.ParsePin(text); err != nil || got != pin {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "sha256", pin.String() + "=", pin.String()[1:], hex[2:], hex + "00", pin.String()[:42] + "/"} {
		if got, err := pki.ParsePin(text); err == nil || got != (pki.Pin{}) {
			t.Errorf("%q accepted", text)
		}
	}
}

// What FAPI asks of keys holds under every profile (FAPI 1.0 Part 1, 5.2.2; FAPI 2.0,
// 5.4.1), and no setting goes below it.
func TestProfiles(t *testing.T) {
	weak := func(kind pkitest.KeyType) pki.Chain {
		o := l1Options
		o.KeyType = kind
		return present(ca1i.MustLeaf(o))
	}
	bare := present(ca1i.MustLeaf(pkitest.LeafOptions{NoExtKeyUsage: true, Template: func(c *x509.Certificate) { c.KeyUsage = 0 }}))
	long := present(ca1i.MustLeaf(pkitest.LeafOptions{NotAfter: time.Now().AddDate(2, 0, 0)}))
	for _, p := range pki.Profiles() {
		v := one(t, pki.Set{Anchors: anchors(ca1), Policy: p.Policy})
		t.Run(p.Name, func(t *testing.T) {
			t.Attr("requirement", "F1-B-5.2.2-2 F2-5.4.1-2 F2-5.4.1-3")
			for _, row := range []struct {
				name  string
				chain pki.Chain
				want  map[string]decision.Reason // by profile; none: accepted by all
			}{
				{"RSA with 1024 bits", weak(pkitest.RSA1024), all(decision.WeakKey)},
				{"P-224", weak(pkitest.P224), all(decision.WeakKey)},
				{"P-256", present(l1), nil},
				{"RSA with 2048 bits", weak(pkitest.RSA2048), nil},
				{"Ed25519", weak(pkitest.Ed25519), map[string]decision.Reason{pki.ProfileOpenBanking: decision.WeakKey}},
				{"no usages", bare, map[string]decision.Reason{pki.ProfileFAPI2: decision.ExtKeyUsage, pki.ProfileOpenBanking: decision.KeyUsage}},
				{"two years", long, map[string]decision.Reason{pki.ProfileOpenBanking: decision.LifetimeTooLong}},
				{"a CA", chain(ca1i.Cert), all(decision.LeafIsCA)},
			} {
				if got := verify(t, v, "main", row.chain); got != row.want[p.Name] {
					t.Errorf("%s: reason %q, want %q", row.name, got, row.want[p.Name])
				}
			}
			lower := p.Policy
			lower.MinRSABits = 1024
			if _, err := pki.NewValidator(pki.Config{Sets: []pki.Set{{Name: "main", Anchors: anchors(ca1), Policy: lower}}}); err == nil {
				t.Error("RSA with 1024 bits can be allowed")
			}
			if got, err := pki.ProfilePolicy(p.Name); err != nil || fmt.Sprint(got) != fmt.Sprint(p.Policy) {
				t.Errorf("by name: %v, %v", got, err)
			}
		})
	}
	if _, err := pki.ProfilePolicy("fapi3"); err == nil {
		t.Error("an unknown profile has a policy")
	}
}

func all(r decision.Reason) map[string]decision.Reason {
	out := map[string]decision.Reason{}
	for _, p := range pki.Profiles() {
		out[p.Name] = r
	}
	return out
}

// The generation that metrics show grows with every exchange of a set.
func TestGenerationGrows(t *testing.T) {
	v := one(t, pki.Set{Anchors: anchors(ca1)})
	last := v.Generation()
	for name, change := range map[string]func() error{
		"replaced": func() error { return v.Replace(pki.Set{Name: "main", Anchors: anchors(ca2)}) },
		"added":    func() error { return v.Replace(pki.Set{Name: "other", Anchors: anchors(ca1)}) },
		"removed":  func() error { v.Remove("main"); return nil },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if got := v.Generation(); got <= last {
			t.Errorf("%s: generation %d after %d", name, got, last)
		} else {
			last = got
		}
	}
	if err := v.Replace(pki.Set{Name: "other"}); err == nil || v.Generation() != last {
		t.Errorf("a set that was refused: %v, generation %d after %d", err, v.Generation(), last)
	}
}

// A CA that permits the mailboxes of a host, or the URIs of a host, does not permit those
// of the hosts below it (RFC 5280, Section 4.2.1.10); crypto/x509 alone would let a leaf
// pass with ops@evil.corp.example, whoever runs evil.corp.example.
func TestAttackNameBelowThePermittedHost(t *testing.T) {
	t.Attr("requirement", "C-4.2.1.10-1")
	issuer := ca1.MustIntermediate(pkitest.CAOptions{Subject: "CN=limited", Template: func(c *x509.Certificate) {
		c.PermittedDNSDomainsCritical = true
		c.PermittedEmailAddresses = []string{"Corp.example", "ops@Other.example", ".domain.example"}
		c.PermittedURIDomains = []string{"corp.example", ".domain.example"}
	}})
	v := one(t, pki.Set{Anchors: anchors(ca1)})
	const no = decision.NameConstraint
	for _, row := range []struct {
		name string
		leaf pkitest.LeafOptions
		want decision.Reason
	}{
		{"mailbox of the host", pkitest.LeafOptions{Email: []string{"a@corp.example"}}, ""},
		{"mailbox below the host", pkitest.LeafOptions{Email: []string{"a@evil.corp.example"}}, no},
		{"the mailbox", pkitest.LeafOptions{Email: []string{"ops@other.example"}}, ""},
		{"another mailbox", pkitest.LeafOptions{Email: []string{"dev@other.example"}}, no},
		{"mailbox below the domain", pkitest.LeafOptions{Email: []string{"a@b.domain.example"}}, ""},
		{"mailbox of the domain", pkitest.LeafOptions{Email: []string{"a@domain.example"}}, no},
		{"URI of the host", pkitest.LeafOptions{URI: []string{"https://corp.example/a"}}, ""},
		{"URI below the host", pkitest.LeafOptions{URI: []string{"https://evil.corp.example/a"}}, no},
		{"URI below the domain", pkitest.LeafOptions{URI: []string{"https://b.domain.example/a"}}, ""},
		{"neither", pkitest.LeafOptions{DNS: []string{"evil.corp.example"}}, ""},
	} {
		if got := verify(t, v, "main", present(issuer.MustLeaf(row.leaf))); got != row.want {
			t.Errorf("%s: reason %q, want %q", row.name, got, row.want)
		}
	}
	// The names of an intermediate count as well.
	below := issuer.MustIntermediate(pkitest.CAOptions{Subject: "CN=below", Template: func(c *x509.Certificate) {
		c.EmailAddresses = []string{"ca@evil.corp.example"}
	}})
	if got := verify(t, v, "main", present(below.MustLeaf(pkitest.LeafOptions{}))); got != no {
		t.Errorf("an intermediate with a name that is not permitted: %q", got)
	}
}
