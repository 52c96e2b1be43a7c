package clientauth_test

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/clientauth"
	"github.com/certbound/certbound/decision"
	"github.com/certbound/certbound/internal/fixture"
	"github.com/certbound/certbound/pki"
	"github.com/certbound/certbound/pki/subject"
	"github.com/certbound/certbound/pkitest"
)

// paths trusts CA1 for the set ca1 and CA2 for the set ca2.
func paths(t testing.TB) *pki.Validator {
	t.Helper()
	c := fixture.Certs()
	v, err := pki.NewValidator(pki.Config{
		Sets:   []pki.Set{{Name: "ca1", Anchors: []*x509.Certificate{c.CA1.Cert}}, {Name: "ca2", Anchors: []*x509.Certificate{c.CA2.Cert}}},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func presented(leaf *pkitest.Leaf) *certsource.Presented {
	return certsource.NewPresented("tls", leaf.Cert, leaf.Chain()[1:])
}

// verified is what a proxy sends that is said to verify.
func verified(p *certsource.Presented) *certsource.Presented {
	p.VerifiedBy = "edge (anchors: partners)"
	return p
}

func expect(t testing.TB, kind subject.Kind, value string) clientauth.PKI {
	t.Helper()
	e, err := subject.New(kind, value)
	if err != nil {
		t.Fatal(err)
	}
	return clientauth.PKI{Expected: e, AnchorSet: "ca1"}
}

// outcomes returns the checks of d in short: "certificate+ chain+ subject-".
func outcomes(d *decision.Decision) string {
	var out []string
	for _, c := range d.Checks {
		out = append(out, c.Name+map[decision.Outcome]string{decision.Passed: "+", decision.Failed: "-", decision.Skipped: "?"}[c.Outcome])
	}
	return strings.Join(out, " ")
}

// judged checks what holds for every answer: an error is an *Error, d has the same
// check as its failure, and without an error nothing has failed.
func judged(t *testing.T, d *decision.Decision, err error, want decision.Reason) {
	t.Helper()
	d.Allow()
	if d.Reason() != want || (err != nil) != (want != "") || d.Allowed != (want == "") {
		t.Fatalf("error %v, reason %q, want %q\n%s", err, d.Reason(), want, d)
	}
	if err == nil {
		return
	}
	e, ok := errors.AsType[*clientauth.Error](err)
	failed, _ := d.Failure()
	if !ok || e.Check != failed {
		t.Errorf("%T %+v, want the failure of the decision %+v", err, e, failed)
	}
	if failed.Expected == "" {
		t.Errorf("a refusal that does not say what was expected\n%s", d)
	}
	if strings.HasSuffix(err.Error(), ".") || !strings.HasPrefix(err.Error(), "clientauth: ") {
		t.Errorf("text %q", err)
	}
}

func TestAuthenticatePKI(t *testing.T) {
	c := fixture.Certs()
	dn := expect(t, subject.DN, fixture.SubjectDN)
	dns := expect(t, subject.SANDNS, "client-1.example")
	two := fixture.L1Options()
	two.DNS = append([]string{"first.example"}, two.DNS...)
	several := presented(c.CA1i.MustLeaf(two))
	expired := fixture.L1Options()
	expired.NotBefore, expired.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	old := c.CA1i.MustLeaf(expired)
	future := fixture.L1Options()
	future.NotBefore, future.NotAfter = time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)
	server := fixture.L1Options()
	server.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}

	sole := dns
	sole.SoleEntry = true
	inSet := func(reg clientauth.PKI, set string) clientauth.PKI { reg.AnchorSet = set; return reg }
	attributes := func(a certsource.Attributes) *certsource.Presented { return certsource.NewAttributes("attributes", a) }
	ldap := certsource.Attributes{SubjectDN: []string{fixture.SubjectDN}, DNSyntax: certsource.DNSyntaxLDAP}
	legacy := certsource.Attributes{SubjectDN: []string{"/C=GB/O=Example/OU=apps/CN=client-1"}, DNSyntax: certsource.DNSyntaxLegacy}

	tests := []struct {
		name   string
		p      *certsource.Presented
		reg    clientauth.PKI
		want   decision.Reason
		checks string
	}{
		{"the registered subject", presented(c.L1), dn, "", "certificate+ chain+ subject+"},
		{"renewed", presented(c.L1r), dn, "", "certificate+ chain+ subject+"},
		{"one of several entries", several, dns, "", "certificate+ chain+ subject+"},
		{"the only entry", presented(c.L1), sole, "", "certificate+ chain+ subject+"},

		{"nothing", nil, dn, decision.NoCertificate, "certificate-"},
		{"another subject", presented(c.L2), dn, decision.SubjectMismatch, "certificate+ chain+ subject-"},
		{"one of several entries where it has to be the only one", several, sole, decision.SubjectMismatch, "certificate+ chain+ subject-"},
		{"no entry of the kind", presented(c.CA1i.MustLeaf(pkitest.LeafOptions{Subject: "CN=client-1.example"})), dns, decision.SubjectAbsent, "certificate+ chain+ subject-"},
		{"an unknown CA", presented(c.L1CAX), dn, decision.ChainIncomplete, "certificate+ chain-"},
		{"the CA of other clients", presented(c.L1CA2), dn, decision.ChainIncomplete, "certificate+ chain-"},
		{"an unknown CA that is presented with it", certsource.NewPresented("tls", c.L1CAX.Cert, []*x509.Certificate{c.CAX.Cert}), dn, decision.UnknownAuthority, "certificate+ chain-"},
		{"an unknown anchor set", presented(c.L1), inSet(dn, "no such set"), decision.NoAnchors, "certificate+ chain-"},
		{"no intermediate", certsource.NewPresented("tls", c.L1.Cert, nil), dn, decision.ChainIncomplete, "certificate+ chain-"},
		{"self-signed", presented(c.S1), dn, decision.UnknownAuthority, "certificate+ chain-"},
		{"expired", presented(old), dn, decision.Expired, "certificate+ validity-"},
		{"not valid yet", presented(c.CA1i.MustLeaf(future)), dn, decision.NotYetValid, "certificate+ validity-"},
		{"for servers", presented(c.CA1i.MustLeaf(server)), dn, decision.ExtKeyUsage, "certificate+ policy-"},
		{"no registered value", presented(c.L1), clientauth.PKI{AnchorSet: "ca1"}, decision.ClientMisconfig, "certificate+ chain+ subject-"},

		{"verified by a proxy", verified(presented(c.L1CAX)), dn, "", "certificate+ chain? validity+ subject+"},
		{"verified by a proxy, another subject", verified(presented(c.L2)), dn, decision.SubjectMismatch, "certificate+ chain? validity+ subject-"},
		{"verified by a proxy, expired", verified(presented(old)), dn, decision.Expired, "certificate+ chain? validity-"},
		{"verified by a proxy, not valid yet", verified(presented(c.CA1i.MustLeaf(future))), dn, decision.NotYetValid, "certificate+ chain? validity-"},

		{"a fingerprint", certsource.NewFingerprint("header", [32]byte{}), dn, decision.NotEnough, "certificate-"},
		{"a fingerprint from a proxy that verifies", verified(certsource.NewFingerprint("header", sha256.Sum256(c.L1.Cert.Raw))), dn, decision.NotEnough, "certificate-"},
		{"attributes that nobody has verified", attributes(ldap), dn, decision.NotEnough, "certificate-"},
		{"attributes, RFC 4514", verified(attributes(ldap)), dn, "", "certificate+ chain? subject+"},
		{"attributes, legacy", verified(attributes(legacy)), dn, "", "certificate+ chain? subject+"},
		{"attributes, legacy read as RFC 4514", verified(attributes(certsource.Attributes{SubjectDN: legacy.SubjectDN, DNSyntax: certsource.DNSyntaxLDAP})), dn, decision.SubjectMismatch, "certificate+ chain? subject-"},
		{"attributes, RFC 4514 read as legacy", verified(attributes(certsource.Attributes{SubjectDN: ldap.SubjectDN, DNSyntax: certsource.DNSyntaxLegacy})), dn, decision.SubjectMismatch, "certificate+ chain? subject-"},
		{"attributes in the order of the other syntax", verified(attributes(certsource.Attributes{SubjectDN: []string{"C=GB,O=Example,OU=apps,CN=client-1"}, DNSyntax: certsource.DNSyntaxLDAP})), dn, decision.SubjectMismatch, "certificate+ chain? subject-"},
		{"attributes, ambiguous slashes", verified(attributes(certsource.Attributes{SubjectDN: []string{"/C=GB/O=Example/OU=apps/CN=client-1/CN=x"}, DNSyntax: certsource.DNSyntaxLegacy})), dn, decision.SubjectMismatch, "certificate+ chain? subject-"},
		{"attributes without a syntax", verified(attributes(certsource.Attributes{SubjectDN: ldap.SubjectDN})), dn, decision.SubjectMismatch, "certificate+ chain? subject-"},
		{"attributes, two subjects", verified(attributes(certsource.Attributes{SubjectDN: []string{"CN=x", fixture.SubjectDN}, DNSyntax: certsource.DNSyntaxLDAP})), dn, decision.SubjectMismatch, "certificate+ chain? subject-"},
		{"attributes, no subject", verified(attributes(certsource.Attributes{SANDNS: []string{"client-1.example"}})), dn, decision.SubjectAbsent, "certificate+ chain? subject-"},
		{"attributes, a name of the kind", verified(attributes(certsource.Attributes{SANDNS: []string{"a.example", "CLIENT-1.example"}})), dns, "", "certificate+ chain? subject+"},
		{"attributes, the name of another kind", verified(attributes(certsource.Attributes{SANURI: []string{"client-1.example"}, SANEmail: []string{"client-1.example"}})), dns, decision.SubjectAbsent, "certificate+ chain? subject-"},
		{"attributes, not the only name", verified(attributes(certsource.Attributes{SANDNS: []string{"a.example", "client-1.example"}})), sole, decision.SubjectMismatch, "certificate+ chain? subject-"},
		{"attributes, several names in one line", verified(attributes(certsource.Attributes{SANDNS: []string{"a.example,client-1.example"}})), dns, decision.SubjectMismatch, "certificate+ chain? subject-"},
	}
	auth := clientauth.New(clientauth.Config{Paths: paths(t)})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := decision.New()
			err := auth.AuthenticatePKI(t.Context(), d, tt.p, tt.reg)
			judged(t, d, err, tt.want)
			if got := outcomes(d); got != tt.checks {
				t.Errorf("checks %s, want %s", got, tt.checks)
			}
			if d.Method != clientauth.TLSClientAuth || tt.p != nil && (d.Via != tt.p.Via || d.Thumbprint != tt.p.Thumbprint()) {
				t.Errorf("facts %+v", d)
			}
		})
	}
}

// With nothing configured nobody is genuine.
func TestPKIWithoutValidator(t *testing.T) {
	d := decision.New()
	err := clientauth.New(clientauth.Config{}).AuthenticatePKI(t.Context(), d, presented(fixture.Certs().L1), expect(t, subject.DN, fixture.SubjectDN))
	judged(t, d, err, decision.NoAnchors)
}

type brokenPaths struct{}

func (brokenPaths) Verify(context.Context, string, pki.Chain) (*pki.Verdict, error) {
	return nil, errors.New("broken")
}

func TestPKIValidatorOfTheCaller(t *testing.T) {
	d := decision.New()
	reg := expect(t, subject.DN, fixture.SubjectDN)
	err := clientauth.New(clientauth.Config{Paths: brokenPaths{}}).AuthenticatePKI(t.Context(), d, presented(fixture.Certs().L1), reg)
	if d.Allow(); d.Allowed || d.Reason() != decision.HookFailed || err == nil {
		t.Errorf("%v\n%s", err, d)
	}
}

func TestAuthenticateSelfSigned(t *testing.T) {
	c := fixture.Certs()
	reg := func(leaves ...*pkitest.Leaf) (s clientauth.SelfSigned) {
		for _, l := range leaves {
			s.Certificates = append(s.Certificates, l.Cert.Raw)
		}
		return s
	}
	sameNames := pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=S1"})
	sameKey := pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=S1", Key: c.S1.Key})
	sameSerial := pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=S1", Serial: c.S1.Cert.SerialNumber})
	old := pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=old", NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)})
	young := pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=young", NotBefore: time.Now().Add(time.Hour), NotAfter: time.Now().Add(2 * time.Hour)})
	fingerprint := func(l *pkitest.Leaf) *certsource.Presented {
		return certsource.NewFingerprint("header", sha256.Sum256(l.Cert.Raw))
	}
	change := func(s clientauth.SelfSigned, f func(*clientauth.SelfSigned)) clientauth.SelfSigned { f(&s); return s }
	matchKey := func(s *clientauth.SelfSigned) { s.InsecureMatchKey = true }
	noDates := func(s *clientauth.SelfSigned) { s.InsecureIgnoreValidity = true }
	refetch := func(err error, leaves ...*pkitest.Leaf) func(*clientauth.SelfSigned) {
		return func(s *clientauth.SelfSigned) {
			s.Refetch = func(context.Context) ([][]byte, error) { return reg(leaves...).Certificates, err }
		}
	}
	unparsable := []byte("not a certificate")

	tests := []struct {
		name   string
		p      *certsource.Presented
		reg    clientauth.SelfSigned
		want   decision.Reason
		checks string
	}{
		{"the registered certificate", presented(c.S1), reg(c.S1), "", "certificate+ registration+ validity+"},
		{"one of two", presented(c.S2), reg(c.S1, c.S2), "", "certificate+ registration+ validity+"},
		{"issued by a CA that nobody knows", presented(c.L1CAX), reg(c.L1CAX), "", "certificate+ registration+ validity+"},
		{"its fingerprint", fingerprint(c.S1), reg(c.S2, c.S1), "", "certificate+ registration+ validity+"},
		{"expired, and dates do not count", presented(old), change(reg(old), noDates), "", "certificate+ registration+ validity?"},
		{"the same key, where that is enough", presented(sameKey), change(reg(c.S1), matchKey), "", "certificate+ registration+ validity+"},
		{"in the newer set", presented(c.S2), change(reg(c.S1), refetch(nil, c.S2)), "", "certificate+ registration+ validity+"},

		{"nothing", nil, reg(c.S1), decision.NoCertificate, "certificate-"},
		{"another certificate", presented(c.S2), reg(c.S1), decision.NotRegistered, "certificate+ registration-"},
		{"the same names", presented(sameNames), reg(c.S1), decision.NotRegistered, "certificate+ registration-"},
		{"the same names and serial", presented(sameSerial), reg(c.S1), decision.NotRegistered, "certificate+ registration-"},
		{"the same key and names", presented(sameKey), reg(c.S1), decision.NotRegistered, "certificate+ registration-"},
		{"another key, where the key counts", presented(sameNames), change(reg(c.S1), matchKey), decision.NotRegistered, "certificate+ registration-"},
		{"registered as the second of its chain", certsource.NewPresented("tls", c.S2.Cert, []*x509.Certificate{c.S1.Cert}), reg(c.S1), decision.NotRegistered, "certificate+ registration-"},
		{"another fingerprint", fingerprint(c.S2), reg(c.S1), decision.NotRegistered, "certificate+ registration-"},
		{"a fingerprint of the same key, where the key counts", fingerprint(sameKey), change(reg(c.S1), matchKey), decision.NotRegistered, "certificate+ registration-"},
		{"no fingerprint", certsource.NewFingerprint("header", [32]byte{}), reg(c.S1), decision.NotRegistered, "certificate+ registration-"},
		{"names", verified(certsource.NewAttributes("attributes", certsource.Attributes{SubjectDN: []string{"CN=S1"}, DNSyntax: certsource.DNSyntaxLDAP})), reg(c.S1), decision.NotEnough, "certificate-"},
		{"nothing registered", presented(c.S1), reg(), decision.KeySetEmpty, "certificate+ registration-"},
		{"not in the newer set either", presented(c.S2), change(reg(c.S1), refetch(nil, c.S1)), decision.NotRegistered, "certificate+ registration-"},
		{"the newer set is empty", presented(c.S2), change(reg(c.S1), refetch(nil)), decision.KeySetEmpty, "certificate+ registration-"},
		{"the newer set cannot be read", presented(c.S2), change(reg(c.S1), refetch(errors.New("503"), c.S2)), decision.KeySetUnavailable, "certificate+ registration-"},
		{"expired", presented(old), reg(old), decision.Expired, "certificate+ registration+ validity-"},
		{"expired, by fingerprint", fingerprint(old), reg(old), decision.Expired, "certificate+ registration+ validity-"},
		{"expired, verified by a proxy", verified(presented(old)), reg(old), decision.Expired, "certificate+ registration+ validity-"},
		{"not valid yet", presented(young), reg(young), decision.NotYetValid, "certificate+ registration+ validity-"},
		{"registered octets that are no certificate", certsource.NewFingerprint("header", sha256.Sum256(unparsable)), clientauth.SelfSigned{Certificates: [][]byte{unparsable}}, decision.CertificateUnparsed, "certificate+ registration+ validity-"},
	}
	auth := clientauth.New(clientauth.Config{})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := decision.New()
			err := auth.AuthenticateSelfSigned(t.Context(), d, tt.p, tt.reg)
			judged(t, d, err, tt.want)
			if got := outcomes(d); got != tt.checks {
				t.Errorf("checks %s, want %s", got, tt.checks)
			}
		})
	}
}

// A certificate that is in the set does not cause a fetch, and one that is not causes
// one.
func TestRefetchOnce(t *testing.T) {
	c := fixture.Certs()
	fetches := 0
	reg := clientauth.SelfSigned{
		Certificates: [][]byte{c.S1.Cert.Raw},
		Refetch:      func(context.Context) ([][]byte, error) { fetches++; return nil, nil },
	}
	auth := clientauth.New(clientauth.Config{})
	for i, leaf := range []*pkitest.Leaf{c.S1, c.S2} {
		err := auth.AuthenticateSelfSigned(t.Context(), decision.New(), presented(leaf), reg)
		if fetches != i || (err != nil) != (i == 1) {
			t.Errorf("%s: %d fetches, error %v", leaf.Cert.Subject, fetches, err)
		}
	}
}

// The dates are read at the time of the request: the same registration, an hour later.
func TestClock(t *testing.T) {
	c := fixture.Certs()
	now := c.S1.Cert.NotAfter
	auth := clientauth.New(clientauth.Config{Now: func() time.Time { return now }})
	reg := clientauth.SelfSigned{Certificates: [][]byte{c.S1.Cert.Raw}}
	for _, want := range []decision.Reason{"", decision.Expired} {
		d := decision.New()
		judged(t, d, auth.AuthenticateSelfSigned(t.Context(), d, presented(c.S1), reg), want)
		now = now.Add(time.Second)
	}
}

// Attack 13: a server that recognises a pinned certificate by serial number and issuer,
// or by its key, or by its name, lets in whoever makes another one with the same.
func TestAttackPinnedLeafForged(t *testing.T) {
	t.Attr("attack", "13")
	c := fixture.Certs()
	pinned := c.L1
	forgedCA := pkitest.MustCA(pkitest.CAOptions{RawSubject: c.CA1i.Cert.RawSubject, Template: func(t *x509.Certificate) { t.SubjectKeyId = c.CA1i.Cert.SubjectKeyId }})
	twin := fixture.L1Options()
	twin.Serial = pinned.Cert.SerialNumber
	sameSerial := forgedCA.MustLeaf(twin)
	otherName := c.CA1i.MustLeaf(pkitest.LeafOptions{Subject: "CN=someone-else", Key: pinned.Key})
	if !slices.Equal(sameSerial.Cert.AuthorityKeyId, pinned.Cert.AuthorityKeyId) || !slices.Equal(sameSerial.Cert.RawIssuer, pinned.Cert.RawIssuer) {
		t.Fatal("the forgery is not good enough")
	}
	auth := clientauth.New(clientauth.Config{Paths: paths(t)})
	reg := clientauth.SelfSigned{Certificates: [][]byte{pinned.Cert.Raw}}
	dn := expect(t, subject.DN, fixture.SubjectDN)

	d := decision.New()
	judged(t, d, auth.AuthenticateSelfSigned(t.Context(), d, presented(pinned), reg), "")
	for _, forged := range []*pkitest.Leaf{sameSerial, otherName} {
		d := decision.New()
		judged(t, d, auth.AuthenticateSelfSigned(t.Context(), d, presented(forged), reg), decision.NotRegistered)
	}
	d = decision.New()
	if err := auth.AuthenticatePKI(t.Context(), d, presented(sameSerial), dn); err == nil {
		t.Errorf("same serial, issuer name and key id, another key: let in\n%s", d)
	}
	d = decision.New()
	judged(t, d, auth.AuthenticatePKI(t.Context(), d, presented(otherName), dn), decision.SubjectMismatch)
}

// A refusal says what to change.
func TestRefusalHints(t *testing.T) {
	c := fixture.Certs()
	sameKey := pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=S1", Key: c.S1.Key})
	d := decision.New()
	err := clientauth.New(clientauth.Config{}).AuthenticateSelfSigned(t.Context(), d, presented(sameKey), clientauth.SelfSigned{Certificates: [][]byte{c.S2.Cert.Raw, c.S1.Cert.Raw}})
	e, _ := errors.AsType[*clientauth.Error](err)
	if e == nil || !strings.Contains(e.Check.Found, "same key") || e.Check.Fix == "" || d.Subject != "CN=S1" {
		t.Errorf("%+v\n%s", e, d)
	}
	many := make([][]byte, 7)
	for i := range many {
		many[i] = c.S2.Cert.Raw
	}
	d = decision.New()
	err = clientauth.New(clientauth.Config{}).AuthenticateSelfSigned(t.Context(), d, presented(c.S1), clientauth.SelfSigned{Certificates: many})
	if e, _ := errors.AsType[*clientauth.Error](err); e == nil || !strings.HasSuffix(e.Check.Expected, "or one of 3 more") {
		t.Errorf("%+v", e)
	}
}

func TestLookups(t *testing.T) {
	c := fixture.Certs()
	broken := errors.New("broken")
	t.Run("DN", func(t *testing.T) {
		look := clientauth.SubjectDNs("ca1", func(_ context.Context, id string) (string, error) {
			switch id {
			case "known":
				return fixture.SubjectDN, nil
			case "wrong":
				return "not a name", nil
			case "broken":
				return fixture.SubjectDN, broken
			}
			return "", nil
		})
		for range 2 { // parsed, and remembered
			reg, ok, err := look(t.Context(), "known")
			if err != nil || !ok || reg.AnchorSet != "ca1" || reg.Expected.Kind() != subject.DN || reg.Expected.Match(c.L1.Cert) != nil {
				t.Errorf("%+v %v %v", reg, ok, err)
			}
		}
		if _, ok, err := look(t.Context(), "unknown"); ok || err != nil {
			t.Errorf("unknown: %v %v", ok, err)
		}
		if _, ok, err := look(t.Context(), "wrong"); ok || err == nil {
			t.Errorf("wrong: %v %v", ok, err)
		} else if _, ok := errors.AsType[*subject.ValueError](err); !ok {
			t.Errorf("wrong: %T %v", err, err)
		}
		if _, ok, err := look(t.Context(), "broken"); ok || !errors.Is(err, broken) {
			t.Errorf("broken: %v %v", ok, err)
		}
	})
	t.Run("kind and value", func(t *testing.T) {
		look := clientauth.SubjectValues("ca1", func(_ context.Context, id string) (subject.Kind, string, error) {
			return map[string]subject.Kind{"dns": subject.SANDNS, "wrong": "no such kind"}[id], "client-1.example", nil
		})
		if reg, ok, err := look(t.Context(), "dns"); err != nil || !ok || reg.Expected.Match(c.L1.Cert) != nil {
			t.Errorf("%+v %v %v", reg, ok, err)
		}
		if _, ok, err := look(t.Context(), "unknown"); ok || err != nil {
			t.Errorf("unknown: %v %v", ok, err)
		}
		if _, ok, err := look(t.Context(), "wrong"); ok || err == nil {
			t.Errorf("wrong: %v %v", ok, err)
		}
	})
	t.Run("certificates", func(t *testing.T) {
		for name, look := range map[string]clientauth.CertificateLookup{
			"one, DER":    clientauth.Certificates(known(c.S1.Cert.Raw)),
			"many, DER":   clientauth.Certificates(known([][]byte{c.S1.Cert.Raw})),
			"one, parsed": clientauth.Certificates(known(c.S1.Cert)),
			"many, parsed": clientauth.Certificates(known([]*x509.Certificate{
				c.S1.Cert, nil})),
		} {
			reg, ok, err := look(t.Context(), "known")
			if err != nil || !ok || len(reg.Certificates) != 1 || string(reg.Certificates[0]) != string(c.S1.Cert.Raw) {
				t.Errorf("%s: %d certificates, %v %v", name, len(reg.Certificates), ok, err)
			}
			if _, ok, err := look(t.Context(), "unknown"); ok || err != nil {
				t.Errorf("%s, unknown: %v %v", name, ok, err)
			}
			if _, ok, err := look(t.Context(), "broken"); ok || err == nil {
				t.Errorf("%s, broken: %v %v", name, ok, err)
			}
		}
		empty := clientauth.Certificates(known([][]byte{}))
		if reg, ok, err := empty(t.Context(), "known"); !ok || err != nil || len(reg.Certificates) != 0 {
			t.Errorf("an empty list: %v %v", ok, err)
		}
	})
}

func known[T any](value T) func(context.Context, string) (T, error) {
	return func(_ context.Context, id string) (v T, err error) {
		switch id {
		case "known":
			return value, nil
		case "broken":
			return value, errors.New("broken")
		}
		return v, nil
	}
}

func BenchmarkAuthenticatePKI(b *testing.B) {
	auth := clientauth.New(clientauth.Config{Paths: paths(b)})
	p, reg := presented(fixture.Certs().L1), expect(b, subject.DN, fixture.SubjectDN)
	b.ReportAllocs()
	for b.Loop() {
		if err := auth.AuthenticatePKI(b.Context(), decision.New(), p, reg); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAuthenticateSelfSigned(b *testing.B) {
	auth := clientauth.New(clientauth.Config{})
	p, reg := presented(fixture.Certs().S1), clientauth.SelfSigned{Certificates: [][]byte{fixture.Certs().S1.Cert.Raw}}
	b.ReportAllocs()
	for b.Loop() {
		if err := auth.AuthenticateSelfSigned(b.Context(), decision.New(), p, reg); err != nil {
			b.Fatal(err)
		}
	}
}
