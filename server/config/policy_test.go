package config

import (
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/x509roots/fallback/bundle"

	"github.com/certbound/certbound/pki"
	"github.com/certbound/certbound/pkitest"
)

// withSet is base with more keys in its set.
func withSet(keys string) string {
	return strings.Replace(base, "anchors: [client-ca.pem]", "anchors: [client-ca.pem], "+keys, 1)
}

// What the section of a set says is the policy that paths are judged by; what it leaves
// out, the profile says.
func TestPolicyOfSet(t *testing.T) {
	dir := pkiFiles(t)
	pin := pki.Pin{1, 2, 3}
	gold, err := x509.ParseOID("1.3.6.1.4.1.99999.1")
	if err != nil {
		t.Fatal(err)
	}
	full := pki.Policy{MaxChain: 10, MinRSABits: 2048}
	openBanking, err := pki.ProfilePolicy(pki.ProfileOpenBanking)
	if err != nil {
		t.Fatal(err)
	}
	openBanking.MaxChain = 10
	for _, row := range []struct {
		name, keys string
		want       func(*pki.Policy)
		resolved   string
	}{
		{"nothing", "max_chain: 10", func(*pki.Policy) {}, "max_path: 0  # default"},
		{"numbers", "max_chain: 4, max_path: 3, max_lifetime: 90d, min_rsa_bits: 3072", func(p *pki.Policy) {
			p.MaxChain, p.MaxPath, p.MaxLifetime, p.MinRSABits = 4, 3, 90*24*time.Hour, 3072
		}, "max_lifetime: 90d\n"},
		{"algorithms", "keys: [P-256], signature_algorithms: [ECDSA-SHA256, ECDSA-SHA384]", func(p *pki.Policy) {
			p.Keys, p.SignatureAlgorithms = []pki.KeyKind{pki.P256}, []x509.SignatureAlgorithm{x509.ECDSAWithSHA256, x509.ECDSAWithSHA384}
		}, ""},
		{"usages", "require_ext_key_usage: true, require_key_usage: true, allow_ca_leaf: true", func(p *pki.Policy) {
			p.RequireExtKeyUsage, p.RequireKeyUsage, p.AllowCALeaf = true, true, true
		}, ""},
		{"policies and pins", "certificate_policies: [1.3.6.1.4.1.99999.1], pinned_issuers: [" + pin.String() + "]", func(p *pki.Policy) {
			p.CertificatePolicies, p.PinnedIssuers = []x509.OID{gold}, []pki.Pin{pin}
		}, ""},
		{"names", "permitted: {subjects: ['O=Agora,C=GB'], dns: [corp.example], uri: [.corp.example], email: [ops@corp.example]}", func(p *pki.Policy) {
			p.Permitted = pki.Names{Subjects: []string{"O=Agora,C=GB"}, DNS: []string{"corp.example"}, URI: []string{".corp.example"}, Email: []string{"ops@corp.example"}}
		}, ""},
		{"profile fapi2", "profile: fapi2", func(p *pki.Policy) { p.RequireExtKeyUsage = true }, "require_ext_key_usage: true  # profile fapi2"},
		{"profile open-banking", "profile: open-banking", func(p *pki.Policy) { *p = openBanking }, "max_lifetime: 398d  # profile open-banking"},
		{"profile, changed", "profile: open-banking, max_lifetime: 200d, require_key_usage: false", func(p *pki.Policy) {
			*p = openBanking
			p.MaxLifetime, p.RequireKeyUsage = 200*24*time.Hour, false
		}, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			file, err := Parse(filepath.Join(dir, "certbound.yaml"), []byte(withSet(row.keys)), noEnv)
			if err != nil {
				t.Fatal(err)
			}
			want := full
			row.want(&want)
			got := file.FileSets()[0].Policy
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("\n%+v, want\n%+v", got, want)
			}
			if err := got.Check(); err != nil {
				t.Error(err)
			}
			var b strings.Builder
			if err := file.WriteResolved(&b); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(b.String(), row.resolved) {
				t.Errorf("what is in force does not say %q:\n%s", row.resolved, b.String())
			}
		})
	}
}

// Every fault of a policy has the key and the place of the entry.
func TestPolicyFaults(t *testing.T) {
	dir := pkiFiles(t)
	for keys, want := range map[string][]string{
		"profile: fapi3":                                   {"profile"},
		"profile: fapi2, allow_ca_leaf: true":              {"allow_ca_leaf"},
		"profile: open-banking, allow_ca_leaf: true":       {"allow_ca_leaf"},
		"max_chain: 21":                                    {"max_chain"},
		"max_path: 21":                                     {"max_path"},
		"min_rsa_bits: 1024":                               {"min_rsa_bits"},
		"keys: [P-224]":                                    {"keys[0]"},
		"signature_algorithms: [ECDSA-SHA256, ECDSA-SHA1]": {"signature_algorithms[1]"},
		"certificate_policies: [1.2.3, gold]":              {"certificate_policies[1]"},
		"pinned_issuers: [abcd]":                           {"pinned_issuers[0]"},
		"public_web_ca: perhaps":                           {"public_web_ca"},
		"permitted: {subjects: ['O=Agora', /O=Agora]}":     {"permitted.subjects[1]"},
		"permitted: {dns: ['*.x']}":                        {"permitted.dns[0]"},
		"permitted: {uri: ['https://x']}":                  {"permitted.uri[0]"},
		"permitted: {email: ['@x']}":                       {"permitted.email[0]"},
		"permitted: {ip: [10.1.2.3/8]}":                    {"permitted.ip[0]"},
		"permitted: {ip: [10.0.0.0/8, x]}":                 {"permitted.ip[1]"},
	} {
		_, err := Parse(filepath.Join(dir, "certbound.yaml"), []byte(withSet(keys)), noEnv)
		var got []string
		if e, ok := errors.AsType[*Error](err); ok {
			for _, f := range e.Faults {
				got = append(got, strings.TrimPrefix(f.Path, "trust.sets[0]."))
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: faults at %q, want %q\n%v", keys, got, want, err)
		}
	}
}

// A bundle of the public web as anchors, such as that of the operating system, would make
// everybody a client who can get a certificate for a web site. The file of Mozilla's roots
// is refused at the check and while the server runs, unless the set says so.
func TestAttackPublicWebCAAsAnchor(t *testing.T) {
	t.Attr("requirement", "M-7.4-1")
	var roots []*x509.Certificate
	for r := range bundle.Roots() {
		cert, err := x509.ParseCertificate(r.Certificate)
		if err != nil {
			t.Fatal(err)
		}
		// Others could be refused for their keys or dates, which is another story.
		if now := time.Now(); cert.SignatureAlgorithm == x509.ECDSAWithSHA384 && now.Before(cert.NotAfter) && now.After(cert.NotBefore) {
			roots = append(roots, cert)
		}
	}
	if len(roots) < 2 {
		t.Fatal("no roots")
	}
	web := roots[0]
	ours := pkitest.MustCA(pkitest.CAOptions{Subject: "CN=Ours"})
	// A root of ours with the name of a public one: only the name is the same.
	twin := pkitest.MustCA(pkitest.CAOptions{RawSubject: web.RawSubject})
	below := twin.MustIntermediate(pkitest.CAOptions{Subject: "CN=below"})
	dir := pkiFiles(t)
	write := func(pem []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "client-ca.pem"), pem, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, row := range []struct {
		name, keys string
		pem        []byte
		refused    bool
	}{
		{"a public root", "max_chain: 10", pkitest.PEM(web), true},
		{"among others", "max_chain: 10", append(ours.CertPEM(), pkitest.PEM(web)...), true},
		{"allowed", "public_web_ca: allowed", pkitest.PEM(web), false},
		{"a CA of our own", "max_chain: 10", ours.CertPEM(), false},
		{"a CA of our own with the name of a public one", "max_chain: 10", twin.CertPEM(), false},
		{"an intermediate below that", "max_chain: 10", below.CertPEM(), false},
	} {
		t.Run(row.name, func(t *testing.T) {
			write(row.pem)
			file, err := Parse(filepath.Join(dir, "certbound.yaml"), []byte(withSet(row.keys)), noEnv)
			if err != nil {
				t.Fatal(err)
			}
			_, err = file.Check(time.Now())
			e, refused := errors.AsType[*Error](err)
			if refused != row.refused {
				t.Fatalf("refused: %v, want %v: %v", refused, row.refused, err)
			}
			if refused && (e.Faults[0].Path != "trust.sets[0].anchors[0]" || !strings.Contains(e.Error(), "public_web_ca")) {
				t.Errorf("does not say where and what to set: %v", err)
			}
		})
	}
	t.Run("while it runs", func(t *testing.T) {
		write(ours.CertPEM())
		file, err := Parse(filepath.Join(dir, "certbound.yaml"), []byte(base), noEnv)
		if err != nil {
			t.Fatal(err)
		}
		paths, err := pki.NewValidator(pki.Config{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		w, err := pki.NewFileWatcher(paths, pki.WatchConfig{Sets: file.FileSets(), Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		before := paths.Generation()
		write(append(ours.CertPEM(), pkitest.PEM(web)...))
		if err := w.Reload(); err == nil {
			t.Error("taken on")
		}
		client := ours.MustLeaf(pkitest.LeafOptions{})
		if _, err := paths.Verify(t.Context(), "clients", pki.Chain{Leaf: client.Cert}); err != nil || paths.Generation() != before {
			t.Errorf("the old set is not in use: %v", err)
		}
	})
}

// A CA below a public root is found by its signature.
func TestPublicIntermediate(t *testing.T) {
	root := pkitest.MustCA(pkitest.CAOptions{Subject: "CN=Root of the web"})
	r := &publicRoots{byKey: map[[32]byte]*x509.Certificate{[32]byte(pki.PinKey(root.Cert)): root.Cert},
		bySubject: map[string][]*x509.Certificate{string(root.Cert.RawSubject): {root.Cert}}}
	issuing := root.MustIntermediate(pkitest.CAOptions{Subject: "CN=Issuing"})
	crossed := pkitest.MustCA(pkitest.CAOptions{Subject: "CN=Elsewhere"}).MustIntermediate(pkitest.CAOptions{Subject: "CN=Root of the web", Key: root.Key})
	twin := pkitest.MustCA(pkitest.CAOptions{Subject: "CN=Root of the web"})
	for name, row := range map[string]struct {
		cert           *x509.Certificate
		public, issued bool
	}{
		"root":                     {root.Cert, true, false},
		"intermediate":             {issuing.Cert, true, true},
		"certified by another":     {crossed.Cert, true, false},
		"another of the name":      {twin.Cert, false, false},
		"intermediate of that":     {twin.MustIntermediate(pkitest.CAOptions{}).Cert, false, false},
		"a web site's certificate": {issuing.MustLeaf(pkitest.LeafOptions{Server: true}).Cert, false, false},
	} {
		got, issued := r.public(row.cert)
		if (got != nil) != row.public || issued != row.issued {
			t.Errorf("%s: %v, %v", name, got != nil, issued)
		}
	}
}
