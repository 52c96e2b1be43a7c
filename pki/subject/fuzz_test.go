package subject

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"slices"
	"strings"
	"testing"
)

var seedNames = []string{
	"", " ", "CN=client-1,OU=apps,O=Example,C=GB", `OU=Sales+CN=J.  Smith,DC=example,DC=net`,
	`CN=James \"Jim\" Smith\, III`, `CN=Before\0dAfter`, "1.3.6.1.4.1.1466.0=#04024869", `CN=Lu\C4\8Di\C4\87`,
	`CN=client\AD-1`, "OID.2.5.4.3 = x , C = GB", "2.25.340282366920938463463374607431768211455=a", `CN=\ a\ `, "CN=😀",
	"CN=#1e02e000", "CN=a+CN=b", `CN=a\00b`, `CN="a,b"`, "/C=GB/CN=x", "OU=CN=victim", "CN=a,,O=b", "CN=#30020500",
}

// declared fails if err is not of the type that the package promises.
func declared[E error](t *testing.T, err error) {
	t.Helper()
	if _, ok := errors.AsType[E](err); !ok {
		t.Errorf("undeclared error type %T: %v", err, err)
	}
}

// comparable reports whether n may equal anything.
func comparable(n Name) bool { _, fault := compileName(n); return fault == "" }

func checkName(t *testing.T, n Name) {
	t.Helper()
	text := n.String()
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7F }) {
		t.Errorf("%q has a control", text)
	}
	back, err := ParseName(text)
	if err != nil {
		t.Fatalf("%q is not read back: %v", text, err)
	}
	if again := back.String(); again != text && comparable(n) && !back.Equal(n) {
		t.Errorf("%q came back as %q", text, again)
	}
	if comparable(n) != n.Equal(n) || comparable(n) && !(back.Equal(n) && n.Equal(back)) {
		t.Errorf("%q came back as another name: %x, %x", text, n.DER(), back.DER())
	}
	again, err := ParseDER(n.DER())
	if err != nil || !bytes.Equal(again.DER(), n.DER()) {
		t.Errorf("%x came back as %x, %v", n.DER(), again.DER(), err)
	}
	n.Legacy()
}

func FuzzParseName(f *testing.F) {
	for _, s := range seedNames {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseName(s)
		if err != nil {
			if declared[*SyntaxError](t, err); !n.IsEmpty() {
				t.Errorf("%s beside %v", n, err)
			}
			return
		}
		checkName(t, n)
	})
}

func FuzzParseLegacy(f *testing.F) {
	for _, s := range []string{"", "/", "/C=US/O=Agora/CN=x", "/CN=host/client", `/CN=Lu\xC4\x8D`, "/CN=a+UID=b", "/CN=a/foo=b", `/CN=a\/O=b`, "/O=/CN=x", "CN=x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseLegacy(s)
		if err != nil {
			if declared[*SyntaxError](t, err); !n.IsEmpty() {
				t.Errorf("%s beside %v", n, err)
			}
			return
		}
		checkName(t, n)
		// What was understood is printed in a way that is understood alike; names of
		// types are those of OpenSSL then.
		back, err := ParseLegacy(n.Legacy())
		if err != nil || !bytes.Equal(back.DER(), n.DER()) {
			t.Errorf("%q printed as %q: %v", s, n.Legacy(), err)
		}
	})
}

func FuzzParseDER(f *testing.F) {
	for _, s := range seedNames {
		if n, err := ParseName(s); err == nil {
			f.Add(n.DER())
		}
	}
	f.Add([]byte{tagSequence, 0x80, 0, 0})
	f.Fuzz(func(t *testing.T, der []byte) {
		n, err := ParseDER(der)
		e := must(New(DN, "CN=client-1"))
		match := e.Match(&x509.Certificate{RawSubject: der})
		if err != nil {
			if declared[*SyntaxError](t, err); !n.IsEmpty() {
				t.Errorf("%s beside %v", n, err)
			}
			if match == nil {
				t.Error("matched what is no name")
			}
			return
		}
		if !bytes.Equal(n.DER(), der) {
			t.Errorf("%x became %x", der, n.DER())
		}
		checkName(t, n)
		if match != nil {
			declared[*MismatchError](t, match)
		}
		if (match == nil) != n.Equal(must(ParseName("CN=client-1"))) {
			t.Errorf("%s: Match and Equal differ", n)
		}
	})
}

func FuzzEqual(f *testing.F) {
	for i, s := range seedNames {
		f.Add(s, seedNames[(i+1)%len(seedNames)])
		f.Add(s, strings.ToUpper(s))
	}
	f.Fuzz(func(t *testing.T, s, other string) {
		a, err1 := ParseName(s)
		b, err2 := ParseName(other)
		if err1 != nil || err2 != nil {
			return
		}
		if a.Equal(b) != b.Equal(a) {
			t.Errorf("%q and %q are equal in one direction", a, b)
		}
	})
}

func FuzzSANs(f *testing.F) {
	f.Add(encodeSAN(f, [][2]string{{"dns", "client-1.example"}, {"uri", "urn:a"}, {"ip", "hex:c000020a"}, {"email", "a@B.example"}, {"other", "x"}}).Value)
	f.Add(encodeSAN(f, [][2]string{{"dns", "a\x00"}, {"ip", "hex:20010db8000000000000000000000010"}}).Value)
	f.Add([]byte{tagSequence, 0})
	f.Fuzz(func(t *testing.T, der []byte) {
		cert := &x509.Certificate{Extensions: []pkix.Extension{{Id: oidSAN, Value: der}}}
		sans, err := SANsOf(cert)
		if err != nil {
			if declared[*SyntaxError](t, err); sans.DNS != nil || sans.URI != nil || sans.IP != nil || sans.Email != nil {
				t.Errorf("%+v beside %v", sans, err)
			}
			for _, kind := range Kinds()[1:] {
				if must(New(kind, fixtureValues[kind])).Match(cert) == nil {
					t.Error("matched a broken extension")
				}
			}
			return
		}
		for _, kind := range Kinds()[1:] {
			entries := sans.texts(kind)
			nul := kind != SANIP && slices.ContainsFunc(entries, func(s string) bool { return strings.IndexByte(s, 0) >= 0 })
			for _, entry := range entries {
				e, err := New(kind, entry)
				if err != nil {
					declared[*ValueError](t, err)
					continue
				}
				if err := e.Match(cert); (err == nil) == nul {
					t.Errorf("%s %q: %v", kind, entry, err)
				}
				if err := e.MatchSole(cert); (err == nil) != (!nul && len(entries) == 1) {
					t.Errorf("%s %q alone: %v", kind, entry, err)
				}
			}
		}
		if _, err := Describe(cert); err != nil {
			t.Errorf("not described: %v", err)
		}
	})
}

func FuzzNew(f *testing.F) {
	for _, s := range append(seedNames, "client-1.example", "*.example", "https://client-1.example/id", "urn:a:%c3", "192.0.2.10", "::ffff:192.0.2.1", "fe80::1%eth0", "Ops@client-1.Example", `"a@b"@x`) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, kind := range Kinds() {
			e, err := New(kind, s)
			if err != nil {
				if declared[*ValueError](t, err); e.Kind() != "" || e.Value() != "" || e.name != nil || e.text != "" {
					t.Errorf("%+v beside %v", e, err)
				}
				continue
			}
			// What is printed can be registered and is the same value.
			again, err := New(kind, e.Canonical())
			if err != nil {
				t.Errorf("%s %q: canonical %q: %v", kind, s, e.Canonical(), err)
				continue
			}
			if kind == DN {
				err = e.MatchName(must(ParseDER(again.name.der)))
			} else {
				err = e.MatchText([]string{e.Canonical()})
			}
			if err != nil && !(kind == SANURI || kind == SANEmail && e.Value() != e.Canonical()) {
				t.Errorf("%s %q is not its canonical form: %v", kind, s, err)
			}
			Advice(kind, s)
		}
		if e, err := NewNormalizedURI(s); err == nil {
			if err := e.MatchText([]string{s}); err != nil {
				t.Errorf("%q does not match itself: %v", s, err)
			}
		}
	})
}
