package subject

import (
	"bytes"
	"crypto/x509"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/certbound/certbound/pkitest"
)

func TestNameString(t *testing.T) {
	for _, test := range []struct {
		name string
		ids  string
		rdns [][][3]string
		want string
	}{
		{"fixture L1", "L-2.1-1", [][][3]string{{{"C", "printable", "GB"}}, {{"O", "utf8", "Example"}}, {{"OU", "utf8", "apps"}}, {{"CN", "utf8", "client-1"}}},
			"CN=client-1,OU=apps,O=Example,C=GB"},
		{"empty", "L-2.1-2", nil, ""},
		{"without a registered name", "L-2.3-1 L-2.4-1", [][][3]string{{{"2.5.4.97", "utf8", "PSDGB-1"}}}, "2.5.4.97=#0c0750534447422d31"},
		{"several values", "L-2.2-1", [][][3]string{{{"OU", "utf8", "Sales"}, {"CN", "utf8", "J. Smith"}}}, "OU=Sales+CN=J. Smith"},
		{"escapes", "L-2.4-2", [][][3]string{{{"CN", "utf8", ` a"b+c,d;e<f>g\h#i `}}}, `CN=\ a\"b\+c\,d\;e\<f\>g\\h#i\ `},
		{"leading number sign", "L-2.4-2", [][][3]string{{{"CN", "utf8", "#a"}}}, `CN=\#a`},
		{"one space", "L-2.4-2", [][][3]string{{{"CN", "utf8", " "}}}, `CN=\ `},
		{"controls", "L-2.4-2", [][][3]string{{{"CN", "utf8", "a\x00b\nc\u202Ed"}}}, `CN=a\00b\0ac\e2\80\aed`},
		{"not ASCII", "L-3-4", [][][3]string{{{"CN", "utf8", "Lučić"}}}, "CN=Lučić"},
		{"type that text does not carry", "L-2.4-1", [][][3]string{{{"CN", "ia5", "a"}}}, "CN=#160161"},
		{"Undefined in another type than the usual", "L-2.4-1", [][][3]string{{{"CN", "bmp", "hex:e000"}}}, "CN=#1e02e000"},
		{"Undefined in the usual type", "L-2.4-1", [][][3]string{{{"CN", "utf8", "😀"}}}, "CN=😀"},
		{"UUID as a type", "L-2.3-1", [][][3]string{{{"2.25.340282366920938463463374607431768211455", "utf8", "a"}}}, "2.25.340282366920938463463374607431768211455=#0c0161"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Attr("requirement", test.ids)
			n, err := ParseDER(encodeName(t, test.rdns))
			if err != nil {
				t.Fatal(err)
			}
			if got := n.String(); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

// Each ASCII character comes back from print and parse, in each place of a value.
func TestRoundTripASCII(t *testing.T) {
	t.Attr("requirement", "L-2.4-2 L-2.4-3")
	for c := range byte(0x80) {
		for _, value := range []string{string(c), string(c) + "ab", "a" + string(c) + "b", "ab" + string(c), string(c) + string(c), "a" + string(c) + string(c)} {
			for _, typ := range []string{"CN", "2.5.4.97"} {
				want := encodeName(t, [][][3]string{{{"O", "utf8", "x"}}, {{typ, "utf8", value}, {"UID", "utf8", value}}, {{"C", "printable", "GB"}}})
				n, err := ParseDER(want)
				if err != nil {
					t.Fatal(err)
				}
				back, err := ParseName(n.String())
				if err != nil {
					t.Errorf("%q: %v", n.String(), err)
					continue
				}
				sorted := build(n.rdns())
				if !bytes.Equal(back.DER(), sorted.DER()) {
					t.Errorf("%q came back as %q", value, back.String())
				}
				if strings.ContainsFunc(n.String(), func(r rune) bool { return r < ' ' || r == 0x7F }) {
					t.Errorf("%q prints a control", n.String())
				}
			}
		}
	}
}

func TestParseNameFaults(t *testing.T) {
	t.Attr("requirement", "L-3-6 M-2.1.2-3")
	for _, test := range []struct {
		name, text string
		offset     int
		hint       string // a part of it
	}{
		{"no attribute", "client-1", 8, ""},
		{"empty RDN", "CN=a,,O=b", 5, ""},
		{"trailing comma", "CN=a, ", 6, ""},
		{"quotes", `CN="a,b"`, 3, "quotes around"},
		{"semicolon", "CN=a;O=b", 4, "comma"},
		{"angle", "CN=a<b", 4, `\3c`},
		{"escape of a letter", `CN=a\x`, 4, ""},
		{"escape at the end", `CN=a\`, 4, ""},
		{"not UTF-8", `O=a,CN=x\AD`, 7, ""},
		{"not UTF-8 without an escape", "CN=\\C2\x80", 6, ""},
		{"unknown type", "O=x,FOO=a", 4, ""},
		{"type after OID.", "OID.CN=a", 0, ""},
		{"first arc", "3.1=a", 0, ""},
		{"one-line", "/C=GB/O=Agora/CN=x", 0, "CN=x,O=Agora,C=GB"},
		{"one-line, ambiguous", "/CN=x/foo=y", 0, ""},
		{"hex of nothing", "CN=#", 3, `\#`},
		{"hex with a wrong inside", "2.5.4.97=#30020c05", 9, ""},
		{"too long", "CN=" + strings.Repeat("a", maxText), maxText, ""},
		{"too long when encoded", "CN=" + strings.Repeat("a", maxDER), 0, ""},
		{"too many RDNs", strings.Repeat("CN=a,", maxRDNs) + "CN=a", 5*maxRDNs + 4, ""},
		{"too many attributes", strings.Repeat("CN=a+", maxAttrs) + "CN=a", 5*maxAttrs + 4, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			n, err := ParseName(test.text)
			e, ok := errors.AsType[*SyntaxError](err)
			if !ok || !n.IsEmpty() {
				t.Fatalf("got %q and %v", n, err)
			}
			if e.Offset != test.offset || e.Fault == "" || (test.hint == "") != (e.Hint == "") || !strings.Contains(e.Hint, test.hint) {
				t.Errorf("offset %d, hint %q; want %d, %q (%v)", e.Offset, e.Hint, test.offset, test.hint, err)
			}
		})
	}
}

// The registration error tells an operator what to write in place of OpenSSL's form.
func TestOneLineHint(t *testing.T) {
	_, err := New(DN, "/C=US/O=Agora/CN=x")
	e, ok := errors.AsType[*ValueError](err)
	if !ok || e.Hint != "write CN=x,O=Agora,C=US" {
		t.Errorf("got %v", err)
	}
}

func TestParseLegacy(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"plain", "/C=US/O=Agora/CN=x", "CN=x,O=Agora,C=US"},
		{"slashes in a value", "/O=Agora/CN=https://client-1.example/id", "CN=https://client-1.example/id,O=Agora"},
		{"service name", "/CN=host/client.example", "CN=host/client.example"},
		{"plus in a value", "/emailAddress=ops+x@example.com", `emailAddress=ops\+x@example.com`},
		{"equals in a value", "/CN=a=b", "CN=a=b"},
		{"comma", "/O=Agora, Inc./CN=x", `CN=x,O=Agora\, Inc.`},
		{"octets", `/CN=Lu\xC4\x8Di\xC4\x87`, "CN=Lučić"},
		{"empty value", "/O=/CN=x", "CN=x,O="},
		{"dotted", "/2.5.4.97=a", "2.5.4.97=#0c0161"},
		{"jurisdiction", "/jurisdictionC=US", "1.3.6.1.4.1.311.60.2.1.3=#13025553"},
	} {
		t.Run(test.name, func(t *testing.T) {
			n, err := ParseLegacy(test.text)
			if err != nil || n.String() != test.want {
				t.Errorf("got %s, %v; want %s", n, err, test.want)
			}
		})
	}
	for _, test := range []struct{ name, text string }{
		{"empty", ""},
		{"no slash", "CN=x"},
		{"slash alone", "/"},
		{"no attribute", "/x"},
		{"something like an attribute", "/CN=a/foo=b"},
		{"something like an attribute first", "/foo=b/CN=a"},
		{"two attributes or one", "/CN=a+UID=b"},
		{"two attributes or one, unknown type", "/CN=a+foo=b"},
		{"backslash", `/CN=a\b`},
		{"escaped slash", `/O=a\/CN=b`},
		{"escape of what prints", `/CN=a\x41`},
		{"half an escape", `/CN=a\xC`},
		{"not UTF-8", `/CN=\xFC`},
		{"not UTF-8 without an escape", "/CN=\\xC2\x80"},
		{"number sign", "/CN=#0c0161"},
		{"too long", "/CN=" + strings.Repeat("a", maxText)},
		{"too long when encoded", "/CN=" + strings.Repeat("a", maxDER)},
		{"too many", strings.Repeat("/CN=a", maxRDNs+1)},
	} {
		t.Run(test.name, func(t *testing.T) {
			n, err := ParseLegacy(test.text)
			if _, ok := errors.AsType[*SyntaxError](err); !ok || !n.IsEmpty() {
				t.Errorf("got %s, %v; want a refusal", n, err)
			}
		})
	}
}

func TestParseDERFaults(t *testing.T) {
	ok := encodeName(t, [][][3]string{{{"CN", "utf8", "x"}}})
	attribute := raw{[]byte(commonName), tagUTF8, []byte("x")}.append(nil)
	wrap := func(set []byte) []byte { return appendTLV(nil, tagSequence, appendTLV(nil, tagSet, set)) }
	for name, der := range map[string][]byte{
		"nothing":          nil,
		"cut short":        ok[:len(ok)-1],
		"something behind": append(slices.Clone(ok), 0),
		"a SET":            {tagSet, 0},
		"long length":      append([]byte{tagSequence, 0x81, byte(len(ok) - 2)}, ok[2:]...),
		"indefinite":       append([]byte{tagSequence, 0x80}, ok[2:]...),
		"empty RDN":        wrap(nil),
		"RDN of a string":  wrap([]byte{tagUTF8, 1, 'x'}),
		"three parts":      wrap(appendTLV(nil, tagSequence, append(attribute[2:], tagUTF8, 0))),
		"type missing":     wrap([]byte{tagSequence, 3, tagUTF8, 1, 'x'}),
		"type cut short":   wrap([]byte{tagSequence, 6, tagOID, 1, 0x80, tagUTF8, 1, 'x'}),
		"type too long":    wrap(raw{bytes.Repeat([]byte{1}, maxOID+1), tagUTF8, nil}.append(nil)),
		"value missing":    wrap([]byte{tagSequence, 3, tagOID, 1, 0x2A}),
		"high tag":         wrap([]byte{tagSequence, 6, tagOID, 1, 0x2A, 0x1F, 0x20, 0}),
		"too many":         encodeName(t, slices.Repeat([][][3]string{{{"CN", "utf8", "x"}}}, maxRDNs+1)),
		"too many in one":  encodeName(t, [][][3]string{slices.Repeat([][3]string{{"CN", "utf8", "x"}}, maxAttrs+1)}),
		"too long":         encodeName(t, [][][3]string{{{"CN", "utf8", strings.Repeat("x", maxDER)}}}),
	} {
		t.Run(name, func(t *testing.T) {
			n, err := ParseDER(der)
			if _, ok := errors.AsType[*SyntaxError](err); !ok || !n.IsEmpty() {
				t.Errorf("got %s, %v; want a refusal", n, err)
			}
			e, err := New(DN, "CN=x")
			if err != nil {
				t.Fatal(err)
			}
			if err := e.Match(&x509.Certificate{RawSubject: der}); err == nil {
				t.Error("matched")
			}
		})
	}
}

// An NATS server accepted a certificate whose subject had the right attributes in
// another order or grouping, because RDNs were matched by hand (CVE-2026-33248). Here
// each change of the structure of a name is another name.
func TestAttack12_RDNsInAnotherShape(t *testing.T) {
	t.Attr("attack", "12")
	t.Attr("requirement", "L-P-1 LS-4517-1 C-7.1-9")
	base := [][][3]string{
		{{"C", "printable", "GB"}},
		{{"O", "utf8", "Example"}},
		{{"OU", "utf8", "one"}},
		{{"OU", "utf8", "two"}},
		{{"CN", "utf8", "client-1"}, {"UID", "utf8", "7"}},
	}
	registered, err := ParseDER(encodeName(t, base))
	if err != nil {
		t.Fatal(err)
	}
	e, err := New(DN, registered.String())
	if err != nil {
		t.Fatal(err)
	}
	tried := 0
	try := func(rdns [][][3]string, want bool) {
		t.Helper()
		tried++
		der := encodeName(t, rdns)
		if got := e.Match(&x509.Certificate{RawSubject: der}) == nil; got != want {
			t.Errorf("%v matches: %v", rdns, got)
		}
	}
	try(base, true)
	for i := range base { // order, grouping, repetition, extra, missing
		for j := range base {
			if i == j {
				continue
			}
			swapped := slices.Clone(base)
			swapped[i], swapped[j] = swapped[j], swapped[i]
			try(swapped, false)
			merged := slices.Clone(base)
			merged[i] = slices.Concat(base[i], base[j])
			try(slices.Delete(merged, j, j+1), false)
			try(merged, false)
			try(slices.Insert(slices.Clone(base), j, base[i]), false)
			replaced := slices.Clone(base)
			replaced[i] = base[j]
			try(replaced, false)
		}
		try(slices.Insert(slices.Clone(base), i, base[i]), false)
		try(slices.Insert(slices.Clone(base), i, [][3]string{{"L", "utf8", "x"}}), false)
		try(slices.Delete(slices.Clone(base), i, i+1), false)
		double := slices.Clone(base)
		double[i] = slices.Concat(base[i], base[i])
		try(double, false)
		extra := slices.Clone(base)
		extra[i] = append(slices.Clone(base[i]), [3]string{"L", "utf8", "x"})
		try(extra, false)
	}
	split := append(slices.Clone(base[:4]), base[4][:1], base[4][1:])
	try(split, false)
	try(append(slices.Clone(base[:4]), base[4][:1]), false)
	sorted := slices.Clone(base)
	sorted[4] = [][3]string{base[4][1], base[4][0]}
	try(sorted, true) // a set has no order
	backwards := slices.Clone(base)
	slices.Reverse(backwards)
	try(backwards, false)

	// Any two names of a small world are equal only if a plain model says so.
	rnd := rand.New(rand.NewPCG(1, 2))
	world := func() [][][3]string {
		out := make([][][3]string, 1+rnd.IntN(3))
		for i := range out {
			for range 1 + rnd.IntN(2) {
				out[i] = append(out[i], [3]string{[]string{"CN", "OU", "O"}[rnd.IntN(3)], "utf8", []string{"a", "A", "b"}[rnd.IntN(3)]})
			}
		}
		return out
	}
	model := func(a, b [][][3]string) bool {
		if len(a) != len(b) {
			return false
		}
		for i := range a {
			left, right := map[string]string{}, map[string]string{}
			for _, x := range a[i] {
				left[x[0]] = strings.ToLower(x[2])
			}
			for _, x := range b[i] {
				right[x[0]] = strings.ToLower(x[2])
			}
			if len(left) != len(a[i]) || len(right) != len(b[i]) || len(left) != len(right) {
				return false
			}
			for k, v := range left {
				if w, ok := right[k]; !ok || w != v {
					return false
				}
			}
		}
		return true
	}
	equal := 0
	for range 20000 {
		a, b := world(), world()
		x, err1 := ParseDER(encodeName(t, a))
		y, err2 := ParseDER(encodeName(t, b))
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		if got, want := x.Equal(y), model(a, b); got != want {
			t.Fatalf("%s equals %s: %v, want %v", x, y, got, want)
		} else if got {
			equal++
		}
	}
	if tried < 100 || equal == 0 {
		t.Errorf("%d shapes, %d equal pairs", tried, equal)
	}
}

func TestEmptyName(t *testing.T) {
	n, err := ParseName("")
	if err != nil || !n.IsEmpty() || n.String() != "" || !n.Equal(Name{}) {
		t.Errorf("got %q, %v", n, err)
	}
	if n.Equal(must(ParseName("CN=x"))) {
		t.Error("the empty name equals another")
	}
	e := must(New(DN, "CN=x"))
	checkOutcome(t, e.MatchName(Name{}), "absent")
}

func TestOf(t *testing.T) {
	leaf := pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=x,O=Agora"})
	if got := Of(leaf.Cert); got != "CN=x,O=Agora" {
		t.Errorf("got %s", got)
	}
	if got := Of(&x509.Certificate{RawSubject: []byte{1}}); got != "<not one SEQUENCE>" {
		t.Errorf("got %s", got)
	}
}
