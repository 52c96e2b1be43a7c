package pki_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/pki"
	"github.com/certbound/certbound/pkitest"
)

// The CAs and leaves are called as in the requirements: CA1 with the intermediate
// CA1i is the anchor, CA2 is another anchor, CAX is nobody's.
var (
	ca1  = pkitest.MustCA(pkitest.CAOptions{Subject: "CN=CA1,O=Example"})
	ca1i = ca1.MustIntermediate(pkitest.CAOptions{Subject: "CN=CA1i,O=Example"})
	ca2  = pkitest.MustCA(pkitest.CAOptions{Subject: "CN=CA2,O=Example"})
	cax  = pkitest.MustCA(pkitest.CAOptions{Subject: "CN=CAX,O=Elsewhere"})

	l1Options = pkitest.LeafOptions{
		Subject: "CN=client-1,OU=apps,O=Example,C=GB", DNS: []string{"client-1.example"},
		URI: []string{"https://client-1.example/id"}, Email: []string{"ops@client-1.example"},
	}
	l1 = ca1i.MustLeaf(l1Options)
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func present(l *pkitest.Leaf) pki.Chain { return chain(l.Chain()...) }

func chain(certs ...*x509.Certificate) pki.Chain {
	return pki.Chain{Leaf: certs[0], Rest: certs[1:]}
}

func anchors(cas ...*pkitest.CA) []*x509.Certificate {
	var out []*x509.Certificate
	for _, ca := range cas {
		out = append(out, ca.Cert)
	}
	return out
}

func validator(t testing.TB, cfg pki.Config) *pki.Validator {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = quiet
	}
	v, err := pki.NewValidator(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// one returns a validator with one set named "main".
func one(t testing.TB, s pki.Set) *pki.Validator {
	t.Helper()
	s.Name = "main"
	return validator(t, pki.Config{Sets: []pki.Set{s}})
}

// reasonOf returns the reason of err, and fails if err is not an *Error or if
// something was returned beside it.
func reasonOf(t testing.TB, verdict *pki.Verdict, err error) decision.Reason {
	t.Helper()
	if err == nil {
		if verdict == nil {
			t.Fatal("neither verdict nor error")
		}
		return ""
	}
	if verdict != nil {
		t.Errorf("a verdict beside the error %v", err)
	}
	e, ok := errors.AsType[*pki.Error](err)
	if !ok {
		t.Fatalf("undeclared error type %T: %v", err, err)
	}
	if e.Reason == "" || e.Reason == decision.Unspecified {
		t.Errorf("no reason: %v", err)
	}
	return e.Reason
}

func verify(t testing.TB, v *pki.Validator, set string, c pki.Chain) decision.Reason {
	t.Helper()
	verdict, err := v.Verify(context.Background(), set, c)
	return reasonOf(t, verdict, err)
}

// A refusal is one certificate that has exactly one fault.
type refusal struct {
	name string
	ids  string
	set  pki.Set
	// chain is what is presented.
	chain pki.Chain
	want  decision.Reason
	// at is the certificate that is named as faulty, if one is.
	at *x509.Certificate
	// lax is the policy that permits just this fault, if there is one.
	lax func(*pki.Policy)
}

func refusals() []refusal {
	past, future := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	long := time.Now().Add(-1000 * time.Hour)
	trust1 := pki.Set{Anchors: anchors(ca1)}

	leaf := func(ca *pkitest.CA, change func(*pkitest.LeafOptions)) *pkitest.Leaf {
		o := l1Options
		change(&o)
		return ca.MustLeaf(o)
	}
	inter := func(change func(*pkitest.CAOptions)) *pkitest.CA {
		o := pkitest.CAOptions{Subject: "CN=CA1i,O=Example"}
		change(&o)
		return ca1.MustIntermediate(o)
	}
	critical := pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, Critical: true, Value: asn1.NullBytes}

	var rows []refusal
	add := func(name, ids string, c pki.Chain, want decision.Reason, at *x509.Certificate, lax func(*pki.Policy)) {
		rows = append(rows, refusal{name, ids, trust1, c, want, at, lax})
	}
	at := func(name, ids string, set pki.Set, c pki.Chain, want decision.Reason, cert *x509.Certificate) {
		rows = append(rows, refusal{name, ids, set, c, want, cert, nil})
	}
	of := func(name, ids string, l *pkitest.Leaf, want decision.Reason, lax func(*pki.Policy)) {
		add(name, ids, present(l), want, l.Cert, lax)
	}

	// Who issued it.
	foreign := cax.MustLeaf(l1Options)
	of("root of nobody, not sent", "M-2.1-1 M-7.4-1", foreign, decision.ChainIncomplete, nil)
	cax1 := cax.MustIntermediate(pkitest.CAOptions{Subject: "CN=CAXi,O=Elsewhere"})
	below := cax1.MustLeaf(l1Options)
	add("intermediate of nobody", "M-2.1-1 M-7.4-1", present(below), decision.UnknownAuthority, cax1.Cert, nil)
	add("self-made root in the chain", "C-6.1-2 M-7.5-1 M-7.5-2", chain(below.Cert, cax1.Cert, cax.Cert), decision.UnknownAuthority, cax.Cert, nil)
	add("intermediate not sent", "M-2.1-1", chain(l1.Cert), decision.ChainIncomplete, l1.Cert, nil)
	self := pkitest.MustSelfSigned(l1Options)
	of("self-signed", "", self, decision.UnknownAuthority, nil)
	twin := pkitest.MustCA(pkitest.CAOptions{Subject: "CN=CA1,O=Example"})
	of("CA of the same name with another key", "M-7.4-2", twin.MustLeaf(l1Options), decision.UnknownAuthority, nil)
	at("another anchor than that of the client", "M-7.4-2", pki.Set{Anchors: anchors(ca2)}, present(l1), decision.UnknownAuthority, ca1i.Cert)
	add("issued by a leaf", "M-7.5-3 C-4.2.1.9-1", present(l1.AsCA().MustLeaf(l1Options)), decision.NotCA, l1.Cert, nil)
	notCA := inter(func(o *pkitest.CAOptions) { o.Template = func(c *x509.Certificate) { c.IsCA = false } })
	add("intermediate without cA", "M-7.5-3 C-4.2.1.9-1", present(notCA.MustLeaf(l1Options)), decision.NotCA, notCA.Cert, nil)
	noSign := inter(func(o *pkitest.CAOptions) {
		o.Template = func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }
	})
	add("intermediate without keyCertSign", "C-4.2.1.9-1", present(noSign.MustLeaf(l1Options)), decision.NotCA, noSign.Cert, nil)
	short := inter(func(o *pkitest.CAOptions) { o.MaxPathLen = new(0) })
	tooDeep := short.MustIntermediate(pkitest.CAOptions{Subject: "CN=CA1ii,O=Example"})
	add("path length", "C-4.2.1.9-1", present(tooDeep.MustLeaf(l1Options)), decision.NameConstraint, short.Cert, nil)

	// Signatures.
	add("signature of the leaf", "C-6.1-1 M-7.5-1 M-7.5-2", chain(pkitest.CorruptSignature(l1.Cert), ca1i.Cert), decision.BadSignature, nil, nil)
	broken := pkitest.CorruptSignature(ca1i.Cert)
	add("signature of an intermediate", "C-6.1-1 M-7.5-1 M-7.5-2", chain(l1.Cert, broken), decision.BadSignature, broken, nil)
	renamed := pkitest.MustCA(pkitest.CAOptions{Subject: "CN=another name", Key: ca1i.Key})
	add("issuer name that does not chain", "C-6.1-1 M-7.5-1 M-7.5-2", chain(l1.Cert, renamed.Cert), decision.ChainIncomplete, l1.Cert, nil)
	sha1 := inter(func(o *pkitest.CAOptions) { o.SignatureAlgorithm = x509.ECDSAWithSHA1 })
	add("intermediate signed with SHA-1", "T-8446-9", present(sha1.MustLeaf(l1Options)), decision.WeakSignature, sha1.Cert, nil)
	of("leaf signed with SHA-1", "", leaf(ca1i, func(o *pkitest.LeafOptions) { o.SignatureAlgorithm = x509.ECDSAWithSHA1 }), decision.WeakSignature, nil)

	// Dates.
	of("leaf expired", "M-7.5-5", leaf(ca1i, func(o *pkitest.LeafOptions) { o.NotBefore, o.NotAfter = long, past }), decision.Expired, nil)
	of("leaf not yet valid", "M-7.5-5", leaf(ca1i, func(o *pkitest.LeafOptions) { o.NotBefore = future }), decision.NotYetValid, nil)
	old := inter(func(o *pkitest.CAOptions) { o.NotBefore, o.NotAfter = long, past })
	add("intermediate expired", "M-7.5-5", present(old.MustLeaf(l1Options)), decision.Expired, old.Cert, nil)
	early := inter(func(o *pkitest.CAOptions) { o.NotBefore = future })
	add("intermediate not yet valid", "M-7.5-5", present(early.MustLeaf(l1Options)), decision.NotYetValid, early.Cert, nil)
	oldRoot := pkitest.MustCA(pkitest.CAOptions{Subject: "CN=old root", NotBefore: long, NotAfter: past})
	at("anchor expired", "M-7.5-5", pki.Set{Anchors: anchors(ca1, oldRoot)}, present(oldRoot.MustLeaf(l1Options)), decision.Expired, oldRoot.Cert)

	// Extensions.
	of("unknown critical extension", "M-7.5-6 C-4.2-1", leaf(ca1i, func(o *pkitest.LeafOptions) { o.Extra = []pkix.Extension{critical} }), decision.CriticalExtension, nil)
	strange := inter(func(o *pkitest.CAOptions) {
		o.Template = func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{critical} }
	})
	add("unknown critical extension of an intermediate", "C-4.2-1", present(strange.MustLeaf(l1Options)), decision.CriticalExtension, strange.Cert, nil)
	of("EKU serverAuth only", "M-7.5-4 C-4.2.1.12-1", leaf(ca1i, func(o *pkitest.LeafOptions) { o.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), decision.ExtKeyUsage, nil)
	servers := inter(func(o *pkitest.CAOptions) {
		o.Template = func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }
	})
	add("EKU of an intermediate", "", present(servers.MustLeaf(l1Options)), decision.ExtKeyUsage, servers.Cert, nil)
	of("keyUsage without digitalSignature", "M-7.5-4 C-4.2.1.3-1", leaf(ca1i, func(o *pkitest.LeafOptions) { o.KeyUsage = x509.KeyUsageKeyEncipherment }), decision.KeyUsage, nil)
	narrow := inter(func(o *pkitest.CAOptions) { o.PermittedDNS = []string{".corp.example"} })
	add("name constraint", "C-4.2.1.10-1", present(narrow.MustLeaf(l1Options)), decision.NameConstraint, nil, nil)
	directory := inter(func(o *pkitest.CAOptions) {
		o.Template = func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{directoryConstraint(true)} }
	})
	add("name constraint on the subject", "C-4.2.1.10-1", present(directory.MustLeaf(l1Options)), decision.CriticalExtension, directory.Cert, nil)
	soft := inter(func(o *pkitest.CAOptions) {
		o.Template = func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{directoryConstraint(false)} }
	})
	add("name constraint on the subject, not critical", "C-4.2.1.10-1", present(soft.MustLeaf(l1Options)), decision.NameConstraint, soft.Cert, nil)
	asCA := ca1.MustIntermediate(pkitest.CAOptions{Subject: l1Options.Subject})
	add("leaf is a CA", "", chain(asCA.Cert), decision.LeafIsCA, asCA.Cert, func(p *pki.Policy) { p.AllowCALeaf = true })

	// Keys.
	of("RSA with 1024 bits", "", leaf(ca1i, func(o *pkitest.LeafOptions) { o.KeyType = pkitest.RSA1024 }), decision.WeakKey, nil)
	of("P-224", "", leaf(ca1i, func(o *pkitest.LeafOptions) { o.KeyType = pkitest.P224 }), decision.WeakKey, nil)
	small := inter(func(o *pkitest.CAOptions) { o.KeyType = pkitest.RSA1024 })
	add("intermediate with 1024 bits", "", present(small.MustLeaf(l1Options)), decision.WeakKey, small.Cert, nil)

	// Numbers.
	eleven := append([]*x509.Certificate{l1.Cert}, slices.Repeat([]*x509.Certificate{ca1i.Cert}, 10)...)
	add("eleven certificates", "M-7.5-10", chain(eleven...), decision.ChainTooLong, l1.Cert, func(p *pki.Policy) { p.MaxChain = 11 })
	add("no certificate", "", pki.Chain{}, decision.NoCertificate, nil, nil)
	return rows
}

// directoryConstraint excludes O=Example from the subjects, which crypto/x509 cannot check.
func directoryConstraint(isCritical bool) pkix.Extension {
	name, err := pkitest.Name("O=Example")
	if err != nil {
		panic(err)
	}
	type subtree struct {
		Base asn1.RawValue
	}
	value, err := asn1.Marshal(struct {
		Excluded []subtree `asn1:"optional,tag:1"`
	}{[]subtree{{asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: name}}}})
	if err != nil {
		panic(err)
	}
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 30}, Critical: isCritical, Value: value}
}

func TestRefusals(t *testing.T) {
	for _, row := range refusals() {
		t.Run(row.name, func(t *testing.T) {
			if row.ids != "" {
				t.Attr("requirement", row.ids)
			}
			v := one(t, row.set)
			verdict, err := v.Verify(t.Context(), "main", row.chain)
			if got := reasonOf(t, verdict, err); got != row.want {
				t.Fatalf("reason %q, want %q: %v", got, row.want, err)
			}
			e, _ := errors.AsType[*pki.Error](err)
			if row.at != nil && !row.at.Equal(e.Cert) {
				t.Errorf("names another certificate as faulty: %v", err)
			}
			if e.Expected == "" || e.Found == "" || e.Set != "main" {
				t.Errorf("does not say what was expected and found, and where: %+v", e)
			}
			// The same answer from the cache.
			if got := verify(t, v, "main", row.chain); got != row.want {
				t.Errorf("the second time: reason %q", got)
			}
		})
	}
}

func TestAccepted(t *testing.T) {
	unrelated := cax.MustIntermediate(pkitest.CAOptions{Subject: "CN=unrelated"})
	lower := ca1i.MustIntermediate(pkitest.CAOptions{Subject: "CN=CA1ii,O=Example"})
	deep := lower.MustLeaf(l1Options)
	with := func(change func(*pkitest.LeafOptions)) pki.Chain {
		o := l1Options
		change(&o)
		return present(ca1i.MustLeaf(o))
	}
	trust1 := pki.Set{Anchors: anchors(ca1)}
	for _, row := range []struct {
		name, ids string
		set       pki.Set
		chain     pki.Chain
		path      int
	}{
		{"leaf and intermediate", "M-2.1-1", trust1, present(l1), 3},
		{"intermediate known as a helper", "", pki.Set{Anchors: anchors(ca1), Helpers: anchors(ca1i)}, chain(l1.Cert), 3},
		{"intermediate as anchor", "", pki.Set{Anchors: anchors(ca1i)}, chain(l1.Cert), 2},
		{"the anchor is sent too", "T-8446-3", trust1, chain(l1.Cert, ca1i.Cert, ca1.Cert), 3},
		{"an unrelated certificate between", "T-8446-3", trust1, chain(l1.Cert, unrelated.Cert, ca1i.Cert), 3},
		{"intermediates in another order", "T-8446-3", trust1, chain(deep.Cert, ca1i.Cert, lower.Cert), 4},
		{"leaf twice", "", trust1, chain(l1.Cert, l1.Cert, ca1i.Cert), 3},
		{"directly below the anchor", "", trust1, present(ca1.MustLeaf(l1Options)), 2},
		{"no EKU", "M-7.5-4 C-4.2.1.12-1", trust1, with(func(o *pkitest.LeafOptions) { o.NoExtKeyUsage = true }), 3},
		{"any EKU", "M-7.5-4 C-4.2.1.12-1", trust1, with(func(o *pkitest.LeafOptions) { o.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }), 3},
		{"EKU client and server", "", trust1, with(func(o *pkitest.LeafOptions) {
			o.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
		}), 3},
		{"no keyUsage", "C-4.2.1.3-1", trust1, with(func(o *pkitest.LeafOptions) { o.Template = func(c *x509.Certificate) { c.KeyUsage = 0 } }), 3},
		{"name within the constraint", "C-4.2.1.10-1", trust1, present(ca1.MustIntermediate(pkitest.CAOptions{PermittedDNS: []string{"client-1.example"}}).MustLeaf(l1Options)), 3},
		{"ten certificates", "", trust1, chain(append([]*x509.Certificate{l1.Cert}, slices.Repeat([]*x509.Certificate{ca1i.Cert}, 9)...)...), 3},
		{"CA leaf by policy", "", pki.Set{Anchors: anchors(ca1), Policy: pki.Policy{AllowCALeaf: true}}, chain(ca1i.Cert), 2},
		{"P-384", "", trust1, with(func(o *pkitest.LeafOptions) { o.KeyType = pkitest.P384 }), 3},
		{"P-521", "", trust1, with(func(o *pkitest.LeafOptions) { o.KeyType = pkitest.P521 }), 3},
		{"Ed25519", "", trust1, with(func(o *pkitest.LeafOptions) { o.KeyType = pkitest.Ed25519 }), 3},
		{"RSA-2048", "", trust1, with(func(o *pkitest.LeafOptions) { o.KeyType = pkitest.RSA2048 }), 3},
	} {
		t.Run(row.name, func(t *testing.T) {
			if row.ids != "" {
				t.Attr("requirement", row.ids)
			}
			v := one(t, row.set)
			for range 2 { // cold, warm
				verdict, err := v.Verify(t.Context(), "main", row.chain)
				if err != nil {
					t.Fatal(err)
				}
				if len(verdict.Path) != row.path || verdict.Path[0] != row.chain.Leaf {
					t.Errorf("path of %d certificates, want %d from the leaf on", len(verdict.Path), row.path)
				}
				for _, c := range verdict.Path {
					if c.NotAfter.Before(verdict.Until) {
						t.Errorf("until %v, but a certificate of the path ends at %v", verdict.Until, c.NotAfter)
					}
				}
			}
		})
	}
}

func TestPolicy(t *testing.T) {
	rsa := ca1i.MustLeaf(pkitest.LeafOptions{KeyType: pkitest.RSA2048})
	bare := ca1i.MustLeaf(pkitest.LeafOptions{NoExtKeyUsage: true, Template: func(c *x509.Certificate) { c.KeyUsage = 0 }})
	for _, row := range []struct {
		name   string
		policy pki.Policy
		chain  pki.Chain
		want   decision.Reason
	}{
		{"RSA large enough", pki.Policy{MinRSABits: 2048}, present(rsa), ""},
		{"RSA too small", pki.Policy{MinRSABits: 3072}, present(rsa), decision.WeakKey},
		{"RSA too large", pki.Policy{MinRSABits: 2048, MaxRSABits: 2048}, present(ca1i.MustLeaf(pkitest.LeafOptions{KeyType: pkitest.RSA3072})), decision.WeakKey},
		{"kind allowed", pki.Policy{Keys: []pki.KeyKind{pki.P256, pki.RSA}}, present(rsa), ""},
		{"kind not allowed", pki.Policy{Keys: []pki.KeyKind{pki.P256}}, present(rsa), decision.WeakKey},
		{"algorithm allowed", pki.Policy{SignatureAlgorithms: []x509.SignatureAlgorithm{x509.ECDSAWithSHA256}}, present(l1), ""},
		{"algorithm not allowed", pki.Policy{SignatureAlgorithms: []x509.SignatureAlgorithm{x509.ECDSAWithSHA384}}, present(l1), decision.WeakSignature},
		{"usages present", pki.Policy{RequireExtKeyUsage: true, RequireKeyUsage: true}, present(l1), ""},
		{"EKU absent", pki.Policy{RequireExtKeyUsage: true}, present(bare), decision.ExtKeyUsage},
		{"keyUsage absent", pki.Policy{RequireKeyUsage: true}, present(bare), decision.KeyUsage},
		{"chain short enough", pki.Policy{MaxChain: 2}, present(l1), ""},
		{"chain too long", pki.Policy{MaxChain: 1}, present(l1), decision.ChainTooLong},
	} {
		t.Run(row.name, func(t *testing.T) {
			v := one(t, pki.Set{Anchors: anchors(ca1), Policy: row.policy})
			if got := verify(t, v, "main", row.chain); got != row.want {
				t.Errorf("reason %q, want %q", got, row.want)
			}
		})
	}
}

// Keycloak had one switch, "any host name", that turned off the checks of the chain as
// well (CVE-2025-3501). Here every switch of the policy is set against every fault:
// only the fault that it is made for passes.
func TestAttackSwitchTurnsOffOtherChecks(t *testing.T) {
	t.Attr("attack", "4")
	switches := map[string]func(*pki.Policy){
		"AllowCALeaf":     func(p *pki.Policy) { p.AllowCALeaf = true },
		"AllowPinnedLeaf": func(p *pki.Policy) { p.AllowPinnedLeaf = true },
		"MaxChain":        func(p *pki.Policy) { p.MaxChain = 20 },
		"MaxRSABits":      func(p *pki.Policy) { p.MaxRSABits = 8192 },
		"all": func(p *pki.Policy) {
			*p = pki.Policy{AllowCALeaf: true, AllowPinnedLeaf: true, MaxChain: 20}
		},
	}
	for _, row := range refusals() {
		for name, set := range switches {
			s := row.set
			set(&s.Policy)
			if row.lax != nil {
				without := s.Policy
				row.lax(&without)
				if name == "all" || fmt.Sprint(without) == fmt.Sprint(s.Policy) {
					continue // the switch for this very fault
				}
				if name == "MaxChain" && row.want == decision.ChainTooLong {
					continue
				}
			}
			if got := verify(t, one(t, s), "main", row.chain); got != row.want {
				t.Errorf("%s with %s: reason %q, want %q", row.name, name, got, row.want)
			}
		}
	}
}

// In Keycloak any certificate of the presented chain could match the registered
// subject (CVE-2023-2422). Here the attacker has a leaf of his own and sends, behind
// it or before it, a certificate with the victim's name. The path always begins with
// the certificate whose key made the handshake: nothing else can be taken for the leaf.
func TestAttackIntermediateWithTheVictimsName(t *testing.T) {
	t.Attr("attack", "1")
	victim := l1Options.Subject
	attacker := ca1i.MustLeaf(pkitest.LeafOptions{Subject: "CN=attacker"})
	named := ca1.MustIntermediate(pkitest.CAOptions{Subject: victim})
	below := named.MustLeaf(pkitest.LeafOptions{Subject: "CN=attacker"})
	v := one(t, pki.Set{Anchors: anchors(ca1)})
	for _, c := range []pki.Chain{
		chain(attacker.Cert, l1.Cert, ca1i.Cert),
		chain(below.Cert, named.Cert),
	} {
		verdict, err := v.Verify(t.Context(), "main", c)
		if err != nil {
			t.Fatal(err)
		}
		if verdict.Path[0] != c.Leaf {
			t.Errorf("path begins with %v", verdict.Path[0].Subject)
		}
	}
	// The name before the attacker's leaf: then it is the leaf, and a CA.
	if got := verify(t, v, "main", chain(named.Cert, below.Cert)); got != decision.LeafIsCA {
		t.Errorf("reason %q", got)
	}
}

// Vault compared a pinned certificate by serial number and key identifier of the
// issuer (CVE-2025-6037, CVE-2024-2048). Here somebody forges a certificate with the
// serial number, names and identifiers of a pinned one, but another key; and with its
// key, but another name. Neither is the pinned certificate.
func TestAttackPinnedCertificateForged(t *testing.T) {
	t.Attr("attack", "13")
	o := pkitest.LeafOptions{Subject: "CN=pinned", Serial: big.NewInt(4711)}
	pinned := cax.MustLeaf(o)
	copyIDs := func(c *x509.Certificate) {
		c.AuthorityKeyId, c.SubjectKeyId = pinned.Cert.AuthorityKeyId, pinned.Cert.SubjectKeyId
	}
	o.Template = copyIDs
	twin := pkitest.MustCA(pkitest.CAOptions{Subject: "CN=CAX,O=Elsewhere", Template: func(c *x509.Certificate) { c.SubjectKeyId = cax.Cert.SubjectKeyId }})
	otherKey := twin.MustLeaf(o)
	o.Subject, o.Key = "CN=other", pinned.Key
	otherName := twin.MustLeaf(o)

	v := one(t, pki.Set{Anchors: []*x509.Certificate{pinned.Cert}, Policy: pki.Policy{AllowPinnedLeaf: true}})
	if got := verify(t, v, "main", chain(pinned.Cert)); got != "" {
		t.Fatalf("pinned certificate itself: %q", got)
	}
	for _, forged := range []*pkitest.Leaf{otherKey, otherName} {
		if forged.Cert.SerialNumber.Cmp(pinned.Cert.SerialNumber) != 0 {
			t.Fatal("not a forgery")
		}
		for _, c := range []pki.Chain{chain(forged.Cert), chain(forged.Cert, pinned.Cert), chain(forged.Cert, twin.Cert)} {
			if got := verify(t, v, "main", c); got == "" {
				t.Errorf("%v accepted", forged.Cert.Subject)
			}
		}
	}
	// The same for a CA as anchor: the twin has name and key identifier, not the key.
	if got := verify(t, one(t, pki.Set{Anchors: anchors(cax)}), "main", present(otherKey)); got == "" {
		t.Error("a CA with copied name and key identifier accepted")
	}
}

// A pinned leaf vouches for itself, and issues nothing, also if it has no basic
// constraints at all, as certificates of version 1 have none and crypto/x509 lets
// such an anchor issue.
func TestPinnedLeafIssuesNothing(t *testing.T) {
	for _, template := range map[string]func(*x509.Certificate){
		"end entity": func(*x509.Certificate) {},
		"without basic constraints": func(c *x509.Certificate) {
			c.BasicConstraintsValid = false
			c.KeyUsage |= x509.KeyUsageCertSign
		},
	} {
		pinned := pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=pinned", Template: template})
		v := one(t, pki.Set{Anchors: []*x509.Certificate{pinned.Cert}, Policy: pki.Policy{AllowPinnedLeaf: true}})
		if got := verify(t, v, "main", present(pinned)); got != "" {
			t.Errorf("the pinned leaf: %q", got)
		}
		if got := verify(t, v, "main", present(pinned.AsCA().MustLeaf(l1Options))); got != decision.NotCA {
			t.Errorf("what it issued: %q, want %q", got, decision.NotCA)
		}
		if got := verify(t, v, "main", chain(pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=pinned"}).Cert)); got == "" {
			t.Error("another self-signed certificate of the name accepted")
		}
	}
}

func TestSetsAreSeparate(t *testing.T) {
	t.Attr("requirement", "M-7.4-2")
	at2 := ca2.MustLeaf(l1Options)
	v := validator(t, pki.Config{Sets: []pki.Set{
		{Name: "one", Anchors: anchors(ca1)},
		{Name: "two", Anchors: anchors(ca2)},
		{Name: "both", Anchors: anchors(ca1, ca2)},
	}})
	for _, row := range []struct {
		set  string
		leaf *pkitest.Leaf
		want decision.Reason
	}{
		{"one", l1, ""}, {"one", at2, decision.ChainIncomplete},
		{"two", at2, ""}, {"two", l1, decision.UnknownAuthority},
		{"both", l1, ""}, {"both", at2, ""},
		{"", l1, decision.NoAnchors}, {"three", l1, decision.NoAnchors}, {"ONE", l1, decision.NoAnchors},
	} {
		for range 2 {
			if got := verify(t, v, row.set, present(row.leaf)); got != row.want {
				t.Errorf("%v in set %q: reason %q, want %q", row.leaf.Cert.Issuer, row.set, got, row.want)
			}
		}
		if v.HasSet(row.set) != (row.want != decision.NoAnchors) {
			t.Errorf("HasSet(%q) = %t", row.set, v.HasSet(row.set))
		}
	}
}

// With nothing configured nobody is trusted, and the roots of the system never are.
// Here the system trusts CAX, by the file that crypto/x509 reads on Linux.
func TestSystemRootsAreNotUsed(t *testing.T) {
	t.Attr("requirement", "M-7.3-3 M-7.4-1")
	file := filepath.Join(t.TempDir(), "system.pem")
	if err := os.WriteFile(file, cax.CertPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", file)
	leaf := cax.MustLeaf(l1Options)
	_, err := leaf.Cert.Verify(x509.VerifyOptions{KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if runtime.GOOS == "linux" && err != nil {
		t.Fatalf("the system does not trust CAX, so this test shows nothing: %v", err)
	}
	if got := verify(t, validator(t, pki.Config{}), "main", present(leaf)); got != decision.NoAnchors {
		t.Errorf("nothing configured: reason %q", got)
	}
	if got := verify(t, one(t, pki.Set{Anchors: anchors(ca1)}), "main", present(leaf)); got != decision.ChainIncomplete {
		t.Errorf("another CA configured: reason %q", got)
	}
}

// Keycloak fetched the revocation list that a certificate names before it knew whether
// to trust the certificate (issue 46742), so a stranger could make it call any
// address. Here the stranger's certificate names a listener for everything that can
// be fetched; nothing is fetched, and the revocation checker is not even asked.
func TestAttackUntrustedDistributionPoint(t *testing.T) {
	t.Attr("attack", "3")
	var calls atomic.Int64
	canary := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls.Add(1) }))
	defer canary.Close()
	o := l1Options
	o.Template = func(c *x509.Certificate) {
		c.CRLDistributionPoints = []string{canary.URL + "/crl"}
		c.OCSPServer = []string{canary.URL + "/ocsp"}
		c.IssuingCertificateURL = []string{canary.URL + "/ca"}
	}
	check := &checker{answer: good}
	v := one(t, pki.Set{Anchors: anchors(ca1), Revocation: check})
	for _, stranger := range []*pkitest.Leaf{cax.MustLeaf(o), pkitest.MustSelfSigned(o), l1.AsCA().MustLeaf(o)} {
		if got := verify(t, v, "main", present(stranger)); got == "" {
			t.Error("accepted")
		}
	}
	if n := calls.Load(); n != 0 || check.count() != 0 {
		t.Errorf("%d calls of the listener, %d of the checker", n, check.count())
	}
}

// One handshake per kind of key and version of TLS, with a listener that asks for a
// certificate and demands nothing.
func TestHandshakePerKeyType(t *testing.T) {
	t.Attr("requirement", "T-8446-9")
	server := ca2.MustLeaf(pkitest.LeafOptions{Server: true})
	for _, kind := range []pkitest.KeyType{pkitest.P256, pkitest.P384, pkitest.P521, pkitest.Ed25519, pkitest.RSA2048, pkitest.RSA3072} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(kind.String()+"/"+tls.VersionName(version), func(t *testing.T) {
				o := l1Options
				o.KeyType = kind
				issuing := ca1.MustIntermediate(pkitest.CAOptions{Subject: "CN=issuing", KeyType: kind})
				leaf := issuing.MustLeaf(o)
				ours, theirs := net.Pipe()
				defer ours.Close()
				defer theirs.Close()
				client := tls.Client(theirs, &tls.Config{RootCAs: ca2.Pool(), ServerName: "localhost", MaxVersion: version,
					Certificates: []tls.Certificate{leaf.TLS()}})
				done := make(chan error, 1)
				go func() { done <- client.HandshakeContext(t.Context()) }()
				conn := tls.Server(ours, &tls.Config{Certificates: []tls.Certificate{server.TLS()}, ClientAuth: tls.RequestClientCert,
					SessionTicketsDisabled: true})
				if err := conn.HandshakeContext(t.Context()); err != nil {
					t.Fatal(err)
				}
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				state := conn.ConnectionState()
				if state.Version != version {
					t.Errorf("version %x", state.Version)
				}
				if got := verify(t, one(t, pki.Set{Anchors: anchors(ca1)}), "main", chain(state.PeerCertificates...)); got != "" {
					t.Errorf("reason %q", got)
				}
			})
		}
	}
}

func TestWrongSettings(t *testing.T) {
	past := time.Now().Add(-time.Hour)
	expired := pkitest.MustCA(pkitest.CAOptions{NotBefore: past.Add(-time.Hour), NotAfter: past})
	small := pkitest.MustCA(pkitest.CAOptions{KeyType: pkitest.RSA1024})
	for _, row := range []struct {
		name string
		cfg  pki.Config
		want []decision.Reason
	}{
		{"no name, no anchors", pki.Config{Sets: []pki.Set{{}}}, []decision.Reason{decision.BadSetting, decision.NoAnchors}},
		{"name twice", pki.Config{Sets: []pki.Set{{Name: "a", Anchors: anchors(ca1)}, {Name: "a", Anchors: anchors(ca2)}}}, []decision.Reason{decision.BadSetting}},
		{"anchor that is a leaf", pki.Config{Sets: []pki.Set{{Name: "a", Anchors: []*x509.Certificate{l1.Cert}}}}, []decision.Reason{decision.NotCA}},
		{"helper that is a leaf", pki.Config{Sets: []pki.Set{{Name: "a", Anchors: anchors(ca1), Helpers: []*x509.Certificate{l1.Cert}}}}, []decision.Reason{decision.NotCA}},
		{"anchors all expired", pki.Config{Sets: []pki.Set{{Name: "a", Anchors: anchors(expired)}}}, []decision.Reason{decision.Expired}},
		{"anchor with a small key", pki.Config{Sets: []pki.Set{{Name: "a", Anchors: anchors(small)}}}, []decision.Reason{decision.WeakKey}},
		{"anchor not parsed", pki.Config{Sets: []pki.Set{{Name: "a", Anchors: []*x509.Certificate{nil}, Helpers: []*x509.Certificate{{}}}}}, []decision.Reason{decision.CertificateUnparsed, decision.CertificateUnparsed}},
		{"policy", pki.Config{Sets: []pki.Set{{Name: "a", Anchors: anchors(ca1), Policy: pki.Policy{MinRSABits: 1024, MaxChain: -1,
			Keys: []pki.KeyKind{"DSA"}, SignatureAlgorithms: []x509.SignatureAlgorithm{x509.SHA1WithRSA}}}}},
			[]decision.Reason{decision.BadSetting, decision.BadSetting, decision.BadSetting, decision.BadSetting}},
		{"policy that allows nothing", pki.Config{Sets: []pki.Set{{Name: "a", Anchors: anchors(ca1), Policy: pki.Policy{Keys: []pki.KeyKind{}}}}}, []decision.Reason{decision.BadSetting}},
		{"negative limits", pki.Config{CacheSize: -1, RefusalCacheSize: -1, RefusalLifetime: -1, RevocationTimeout: -1},
			[]decision.Reason{decision.BadSetting, decision.BadSetting, decision.BadSetting, decision.BadSetting}},
		{"two sets with a fault each", pki.Config{Sets: []pki.Set{{Name: "a"}, {Name: "b"}}}, []decision.Reason{decision.NoAnchors, decision.NoAnchors}},
	} {
		t.Run(row.name, func(t *testing.T) {
			v, err := pki.NewValidator(row.cfg)
			if v != nil {
				t.Error("a validator beside the error")
			}
			if got := reasons(err); !slices.Equal(got, row.want) {
				t.Errorf("reasons %q, want %q: %v", got, row.want, err)
			}
		})
	}
}

// reasons lists the reasons of everything that err joins.
func reasons(err error) []decision.Reason {
	switch e := err.(type) {
	case *pki.Error:
		return []decision.Reason{e.Reason}
	case *pki.FileError:
		return []decision.Reason{e.Reason}
	case interface{ Unwrap() []error }:
		var all []decision.Reason
		for _, err := range e.Unwrap() {
			all = append(all, reasons(err)...)
		}
		return all
	}
	return nil
}

// Go's crypto/tls resumed sessions of clients whose CA had been taken out of the
// configuration (CVE-2025-68121). Here the path is judged per request: the client
// presents the same chain as before, as it does on a resumed session or an old
// connection, and the anchors have been replaced meanwhile. The next answer counts.
func TestAttackVerdictSurvivesReplacedAnchors(t *testing.T) {
	t.Attr("attack", "5")
	v := one(t, pki.Set{Anchors: anchors(ca1)})
	c := present(l1)
	step := func(what string, want decision.Reason) {
		t.Helper()
		if got := verify(t, v, "main", c); got != want {
			t.Errorf("%s: reason %q, want %q", what, got, want)
		}
	}
	step("at first", "")
	step("from the cache", "")
	replace := func(s pki.Set) {
		t.Helper()
		s.Name = "main"
		if err := v.Replace(s); err != nil {
			t.Fatal(err)
		}
	}
	replace(pki.Set{Anchors: anchors(ca2)})
	step("another CA", decision.UnknownAuthority)
	replace(pki.Set{Anchors: anchors(ca1)})
	step("the first CA again", "")
	replace(pki.Set{Anchors: anchors(ca1), Policy: pki.Policy{SignatureAlgorithms: []x509.SignatureAlgorithm{x509.PureEd25519}}})
	step("a policy that it does not meet", decision.WeakSignature)
	if err := v.Replace(pki.Set{Name: "main"}); err == nil {
		t.Error("a set without anchors accepted")
	}
	step("a faulty set changes nothing", decision.WeakSignature)
	replace(pki.Set{Anchors: anchors(ca1)})
	step("the first policy again", "")
	v.Remove("main")
	step("no set", decision.NoAnchors)
	replace(pki.Set{Anchors: anchors(ca2)})
	step("a new set of the old name", decision.UnknownAuthority)
}

// A leaf without its intermediate is refused, and that must not count against the
// whole chain, nor the whole chain for the leaf alone.
func TestRefusalDoesNotPoisonTheFullChain(t *testing.T) {
	v := one(t, pki.Set{Anchors: anchors(ca1)})
	for range 2 {
		if got := verify(t, v, "main", chain(l1.Cert)); got != decision.ChainIncomplete {
			t.Errorf("alone: %q", got)
		}
		if got := verify(t, v, "main", present(l1)); got != "" {
			t.Errorf("with the intermediate: %q", got)
		}
		if got := verify(t, v, "main", chain(l1.Cert, pkitest.CorruptSignature(ca1i.Cert))); got != decision.BadSignature {
			t.Errorf("with a broken intermediate: %q", got)
		}
	}
	if s := v.Stats(); s.Judged != 3 {
		t.Errorf("judged %d paths, want 3", s.Judged)
	}
}

func TestDigestIsTheOneOfTheSource(t *testing.T) {
	// A digest that is given replaces the computed one, so both name the same.
	given := present(l1)
	leaf := sha256.Sum256(given.Leaf.Raw)
	h := sha256.New()
	h.Write(leaf[:])
	for _, c := range given.Rest {
		sum := sha256.Sum256(c.Raw)
		h.Write(sum[:])
	}
	h.Sum(given.Digest[:0])
	alone := chain(l1.Cert)
	alone.Digest = leaf
	v := one(t, pki.Set{Anchors: anchors(ca1)})
	verify(t, v, "main", given)
	verify(t, v, "main", present(l1))
	verify(t, v, "main", alone)
	verify(t, v, "main", chain(l1.Cert))
	if s := v.Stats(); s.Judged != 2 {
		t.Errorf("judged %d paths, want 2", s.Judged)
	}
}

// A clock that a test can turn.
type clock struct{ t atomic.Pointer[time.Time] }

func newClock() *clock {
	c := new(clock)
	c.set(time.Now())
	return c
}
func (c *clock) set(t time.Time)          { c.t.Store(&t) }
func (c *clock) now() time.Time           { return *c.t.Load() }
func (c *clock) forward(by time.Duration) { c.set(c.now().Add(by)) }

func TestVerdictEndsWithTheFirstCertificate(t *testing.T) {
	t.Attr("requirement", "M-7.5-5")
	end := time.Now().Add(time.Hour).Truncate(time.Second)
	for _, row := range []struct {
		name string
		leaf *pkitest.Leaf
		set  pki.Set
	}{
		{"leaf", ca1i.MustLeaf(pkitest.LeafOptions{NotAfter: end}), pki.Set{Anchors: anchors(ca1)}},
		{"intermediate", ca1.MustIntermediate(pkitest.CAOptions{NotAfter: end}).MustLeaf(l1Options), pki.Set{Anchors: anchors(ca1)}},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := newClock()
			row.set.Name = "main"
			v := validator(t, pki.Config{Sets: []pki.Set{row.set}, Now: c.now})
			verdict, err := v.Verify(t.Context(), "main", present(row.leaf))
			if err != nil || !verdict.Until.Equal(end) {
				t.Fatalf("verdict %+v, %v, want one until %v", verdict, err, end)
			}
			c.set(end)
			if got := verify(t, v, "main", present(row.leaf)); got != "" {
				t.Errorf("at notAfter: %q, which still belongs to the period", got)
			}
			c.set(end.Add(time.Nanosecond))
			for range 2 {
				if got := verify(t, v, "main", present(row.leaf)); got != decision.Expired {
					t.Errorf("after notAfter: %q", got)
				}
			}
			c.set(row.leaf.Cert.NotBefore.Add(-2 * time.Hour))
			if got := verify(t, v, "main", present(row.leaf)); got != decision.NotYetValid {
				t.Errorf("with a clock before notBefore: %q", got)
			}
		})
	}
}

func TestRefusalsAreRememberedBriefly(t *testing.T) {
	c := newClock()
	begin := c.now().Add(10 * time.Second).Truncate(time.Second)
	soon := ca1i.MustLeaf(pkitest.LeafOptions{NotBefore: begin})
	v := validator(t, pki.Config{Sets: []pki.Set{{Name: "main", Anchors: anchors(ca1)}}, Now: c.now, RefusalLifetime: 30 * time.Second})
	judged := func(want uint64) {
		t.Helper()
		if got := v.Stats().Judged; got != want {
			t.Errorf("judged %d paths, want %d", got, want)
		}
	}
	verify(t, v, "main", chain(l1.Cert))
	verify(t, v, "main", present(soon))
	verify(t, v, "main", chain(l1.Cert))
	verify(t, v, "main", present(soon))
	judged(2)
	c.set(begin)
	if got := verify(t, v, "main", present(soon)); got != "" {
		t.Errorf("when its time has come: %q", got)
	}
	judged(3)
	c.forward(31 * time.Second)
	verify(t, v, "main", chain(l1.Cert))
	judged(4)
}

func TestCachesAreBounded(t *testing.T) {
	v := validator(t, pki.Config{Sets: []pki.Set{{Name: "main", Anchors: anchors(ca1)}}, CacheSize: 10, RefusalCacheSize: 4})
	hot := present(l1)
	for i := range 50 {
		c := hot
		c.Digest[0], c.Digest[1] = 1, byte(i) // each stands for another client
		verify(t, v, "main", c)
		verify(t, v, "main", hot)
		alone := chain(l1.Cert)
		alone.Digest[0], alone.Digest[1] = 2, byte(i)
		verify(t, v, "main", alone)
		if s := v.Stats(); s.Accepted > 10 || s.Refused > 4 {
			t.Fatalf("caches hold %d and %d entries, want at most 10 and 4", s.Accepted, s.Refused)
		}
	}
	// 50 clients, 50 refusals, and the one that never stopped asking once.
	if s := v.Stats(); s.Judged != 101 {
		t.Errorf("judged %d paths: who keeps asking must stay in the cache", s.Judged)
	}
}

// Strangers can make as many chains as they like. What they send lands among the
// refusals and drives out no client.
func TestStrangersDriveNobodyOut(t *testing.T) {
	v := validator(t, pki.Config{Sets: []pki.Set{{Name: "main", Anchors: anchors(ca1)}}, CacheSize: 2, RefusalCacheSize: 2})
	verify(t, v, "main", present(l1))
	for i := range 100 {
		c := chain(l1.Cert)
		c.Digest[0], c.Digest[1] = 2, byte(i)
		verify(t, v, "main", c)
	}
	before := v.Stats().Judged
	verify(t, v, "main", present(l1))
	if v.Stats().Judged != before {
		t.Error("the client was driven out")
	}
}

// checker is a RevocationChecker whose answers the test sets.
type checker struct {
	mu         sync.Mutex
	calls      int
	answer     func(ctx context.Context, path []*x509.Certificate) (time.Time, error)
	generation atomic.Uint64
}

func (c *checker) CheckRevocation(ctx context.Context, path []*x509.Certificate) (time.Time, error) {
	c.mu.Lock()
	c.calls++
	answer := c.answer
	c.mu.Unlock()
	return answer(ctx, path)
}

func (c *checker) Generation() uint64 { return c.generation.Load() }

func (c *checker) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls
}

func good(context.Context, []*x509.Certificate) (time.Time, error) { return time.Time{}, nil }

func revoked(_ context.Context, path []*x509.Certificate) (time.Time, error) {
	return time.Time{}, &pki.Error{Reason: decision.Revoked, Cert: path[0], Expected: "good", Found: "revoked"}
}

func TestRevocation(t *testing.T) {
	now := newClock()
	check := &checker{answer: good}
	v := validator(t, pki.Config{Sets: []pki.Set{{Name: "main", Anchors: anchors(ca1), Revocation: check}}, Now: now.now})
	step := func(what string, want decision.Reason, calls int) {
		t.Helper()
		if got := verify(t, v, "main", present(l1)); got != want {
			t.Errorf("%s: reason %q, want %q", what, got, want)
		}
		if got := check.count(); got != calls {
			t.Errorf("%s: %d calls, want %d", what, got, calls)
		}
	}
	if got := verify(t, v, "main", present(cax.MustLeaf(l1Options))); got != decision.ChainIncomplete || check.count() != 0 {
		t.Errorf("an untrusted certificate: %q after %d calls; its addresses must not be asked", got, check.count())
	}
	step("good", "", 1)
	step("good, from the cache", "", 1)
	check.answer = revoked
	check.generation.Add(1)
	step("revoked in the next generation", decision.Revoked, 2)
	step("revoked, from the cache", decision.Revoked, 2)
	check.answer = func(context.Context, []*x509.Certificate) (time.Time, error) {
		return time.Time{}, errors.New("no route to host")
	}
	check.generation.Add(1)
	step("unknown", decision.RevocationUnknown, 3)
	step("unknown is not remembered", decision.RevocationUnknown, 4)
	check.answer = func(context.Context, []*x509.Certificate) (time.Time, error) { return now.now().Add(time.Minute), nil }
	step("the source is back", "", 5)
	now.forward(time.Minute)
	step("until nextUpdate", "", 5)
	now.forward(time.Second)
	step("after nextUpdate", "", 6)
	check.answer = func(context.Context, []*x509.Certificate) (time.Time, error) { panic("defect") }
	check.generation.Add(1)
	step("a checker that panics", decision.RevocationUnknown, 7)
	check.answer = func(context.Context, []*x509.Certificate) (time.Time, error) {
		return time.Time{}, &pki.Error{} // says nothing
	}
	step("an error without a reason", decision.RevocationUnknown, 8)
}

func TestRevocationTimeout(t *testing.T) {
	check := &checker{answer: func(ctx context.Context, _ []*x509.Certificate) (time.Time, error) {
		<-ctx.Done()
		return time.Time{}, ctx.Err()
	}}
	v := validator(t, pki.Config{Sets: []pki.Set{{Name: "main", Anchors: anchors(ca1), Revocation: check}}, RevocationTimeout: time.Millisecond})
	if got := verify(t, v, "main", present(l1)); got != decision.RevocationUnknown {
		t.Errorf("reason %q", got)
	}
}

// CAs that have certified each other give several paths. One that is not revoked is
// enough; a revoked leaf has none.
func TestAnotherPathIfAnIntermediateIsRevoked(t *testing.T) {
	crossed := ca2.MustIntermediate(pkitest.CAOptions{RawSubject: ca1i.Cert.RawSubject, Key: ca1i.Key})
	check := &checker{answer: func(_ context.Context, path []*x509.Certificate) (time.Time, error) {
		if path[1].Equal(ca1i.Cert) {
			return time.Time{}, &pki.Error{Reason: decision.Revoked, Cert: path[1], Expected: "good", Found: "revoked"}
		}
		return time.Time{}, nil
	}}
	v := one(t, pki.Set{Anchors: anchors(ca1, ca2), Revocation: check})
	c := chain(l1.Cert, ca1i.Cert, crossed.Cert)
	verdict, err := v.Verify(t.Context(), "main", c)
	if err != nil || !verdict.Path[1].Equal(crossed.Cert) {
		t.Errorf("verdict %v, %v", verdict, err)
	}
	if got := verify(t, v, "main", present(l1)); got != decision.Revoked {
		t.Errorf("only the revoked path: %q", got)
	}
	check.answer = revoked
	check.generation.Add(1)
	before := check.count()
	if got := verify(t, v, "main", c); got != decision.Revoked || check.count() != before+1 {
		t.Errorf("revoked leaf: %q after %d calls", got, check.count()-before)
	}
}

// While one validation is under way, all who ask for the same wait for it.
func TestConcurrentVerificationsOfOneChain(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	check := &checker{answer: func(context.Context, []*x509.Certificate) (time.Time, error) {
		close(entered) // panics, if called twice
		<-release
		return time.Time{}, nil
	}}
	v := one(t, pki.Set{Anchors: anchors(ca1), Revocation: check})

	// The first caller gives up; the work goes on for the others.
	impatient, cancel := context.WithCancel(t.Context())
	gone := make(chan error)
	go func() {
		_, err := v.Verify(impatient, "main", present(l1))
		gone <- err
	}()
	<-entered
	cancel()
	err := <-gone
	if e, ok := errors.AsType[*pki.Error](err); !ok || e.Reason != decision.RevocationUnknown || !errors.Is(err, context.Canceled) {
		t.Errorf("the caller who gave up: %v", err)
	}

	var wg sync.WaitGroup
	var verdicts [20]*pki.Verdict
	for i := range verdicts {
		wg.Go(func() {
			var err error
			if verdicts[i], err = v.Verify(t.Context(), "main", present(l1)); err != nil {
				t.Error(err)
			}
		})
	}
	close(release)
	wg.Wait()
	for _, verdict := range verdicts {
		if verdict != verdicts[0] {
			t.Error("different verdicts")
		}
	}
	if s := v.Stats(); s.Judged != 1 || check.count() != 1 {
		t.Errorf("judged %d times, %d revocation checks, want 1 and 1", s.Judged, check.count())
	}
}

func TestConcurrentReplaceAndVerify(t *testing.T) {
	v := one(t, pki.Set{Anchors: anchors(ca1)})
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				verdict, err := v.Verify(context.Background(), "main", present(l1))
				if got := reasonOf(t, verdict, err); got != "" && got != decision.UnknownAuthority && got != decision.NoAnchors {
					t.Errorf("reason %q", got)
				}
			}
		})
	}
	for i := range 60 {
		set := pki.Set{Name: "main", Anchors: anchors([]*pkitest.CA{ca1, ca2}[i%2])}
		if i%10 == 9 {
			v.Remove("main")
		}
		if err := v.Replace(set); err != nil {
			t.Error(err)
		}
		want := []decision.Reason{"", decision.UnknownAuthority}[i%2]
		if got := verify(t, v, "main", present(l1)); got != want {
			t.Errorf("after Replace %d: reason %q, want %q", i, got, want)
		}
	}
	close(stop)
	wg.Wait()
}

// Fifty CAs of one name that have certified each other make a number of paths that
// no computer can try. The count is looked at before any signature.
func TestAttackCrossSignedIntermediates(t *testing.T) {
	t.Attr("requirement", "M-7.5-10")
	v := one(t, pki.Set{Anchors: anchors(ca1)})
	fifty := maze(50, pkitest.P256)
	if got := verify(t, v, "main", chain(fifty...)); got != decision.ChainTooLong {
		t.Errorf("reason %q", got)
	}
	// As many as are let in: seen from the anchors there is nothing to check.
	if got := verify(t, v, "main", chain(fifty[:10]...)); got == "" {
		t.Error("accepted")
	}
}

// Among ten presented certificates those that lead to the anchor are found, in any
// order and beside any others.
func TestLongChains(t *testing.T) {
	strangers := maze(7, pkitest.P256)[1:]
	two := ca1i.MustIntermediate(pkitest.CAOptions{Subject: "CN=two"})
	three := two.MustIntermediate(pkitest.CAOptions{Subject: "CN=three"})
	leaf := three.MustLeaf(l1Options)
	rest := append(leaf.Chain()[1:], strangers...)
	for range len(rest) {
		rest = append(rest[1:], rest[0])
		for name, set := range map[string]pki.Set{
			"anchor": {Anchors: anchors(ca1)},
			"helper": {Anchors: anchors(ca1), Helpers: anchors(ca1i)},
		} {
			verdict, err := one(t, set).Verify(t.Context(), "main", pki.Chain{Leaf: leaf.Cert, Rest: rest})
			if err != nil || len(verdict.Path) != 5 {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if got := verify(t, one(t, pki.Set{Anchors: anchors(ca2)}), "main", pki.Chain{Leaf: leaf.Cert, Rest: rest}); got != decision.UnknownAuthority {
		t.Errorf("another anchor: reason %q", got)
	}
}

// maze returns a leaf and n-1 intermediates of two names, each issued by a CA of the
// other name, and none by an anchor.
func maze(n int, kind pkitest.KeyType) []*x509.Certificate {
	keys := []*pkitest.CA{
		pkitest.MustCA(pkitest.CAOptions{Subject: "CN=A", KeyType: kind}),
		pkitest.MustCA(pkitest.CAOptions{Subject: "CN=B", KeyType: kind}),
	}
	certs := []*x509.Certificate{keys[0].MustLeaf(l1Options).Cert}
	for i := range n - 1 {
		issuer, of := keys[i%2], keys[(i+1)%2]
		certs = append(certs, issuer.MustIntermediate(pkitest.CAOptions{RawSubject: of.Cert.RawSubject, Key: of.Key,
			Template: func(c *x509.Certificate) { c.DNSNames = []string{fmt.Sprintf("%d.example", i)} }}).Cert)
	}
	return certs
}

// What a stranger writes into a certificate reaches the log as one short line.
func TestErrorTextIsHarmless(t *testing.T) {
	name := "CN=x\n\u2028\u202elevel=INFO msg=granted " + strings.Repeat("A", 2000)
	stranger := pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: name})
	v := one(t, pki.Set{Anchors: anchors(ca1)})
	_, err := v.Verify(t.Context(), "main", present(stranger))
	if err == nil {
		t.Fatal("accepted")
	}
	if text := err.Error(); strings.ContainsAny(text, "\n\r\x00\u2028\u202e") || len(text) > 2000 {
		t.Errorf("error text of %d octets: %q", len(text), text)
	}
}

func BenchmarkVerifyWarm(b *testing.B) {
	v := one(b, pki.Set{Anchors: anchors(ca1)})
	c := present(l1)
	c.Digest[0] = 1
	verify(b, v, "main", c)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(b.Context(), "main", c); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifyWarmRefusal(b *testing.B) {
	v := one(b, pki.Set{Anchors: anchors(ca1)})
	c := chain(l1.Cert)
	c.Digest[0] = 1
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(b.Context(), "main", c); err == nil {
			b.Fatal("accepted")
		}
	}
}

func BenchmarkVerifyWarmParallel(b *testing.B) {
	v := one(b, pki.Set{Anchors: anchors(ca1)})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		c := present(l1)
		c.Digest[0] = 1
		for pb.Next() {
			if _, err := v.Verify(context.Background(), "main", c); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkVerifyCold stands beside crypto/x509 alone.
func BenchmarkVerifyCold(b *testing.B) {
	for name, leaf := range map[string]*pkitest.Leaf{"path=2": ca1.MustLeaf(l1Options), "path=3": l1} {
		b.Run(name, func(b *testing.B) {
			v := one(b, pki.Set{Anchors: anchors(ca1)})
			c := present(leaf)
			b.ReportAllocs()
			for i := uint64(1); b.Loop(); i++ {
				for j := range 8 {
					c.Digest[j] = byte(i >> (8 * j))
				}
				if _, err := v.Verify(b.Context(), "main", c); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/x509", func(b *testing.B) {
			roots := ca1.Pool()
			b.ReportAllocs()
			for b.Loop() {
				intermediates := x509.NewCertPool()
				for _, c := range leaf.Chain()[1:] {
					intermediates.AddCert(c)
				}
				if _, err := leaf.Cert.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates,
					KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkVerifyMaze is the most work that a stranger can ask for with one chain.
func BenchmarkVerifyMaze(b *testing.B) {
	v := one(b, pki.Set{Anchors: anchors(ca1)})
	c := chain(maze(10, pkitest.P521)...)
	b.ReportAllocs()
	for i := uint64(1); b.Loop(); i++ {
		for j := range 8 {
			c.Digest[j] = byte(i >> (8 * j))
		}
		if _, err := v.Verify(b.Context(), "main", c); err == nil {
			b.Fatal("accepted")
		}
	}
}
