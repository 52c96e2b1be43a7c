package oracle

import (
	"encoding/asn1"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/go-ldap/ldap/v3"
	xdg "github.com/xdg-go/stringprep"
	"golang.org/x/text/unicode/norm"

	"github.com/certbound/certbound/internal/stringprep"
	"github.com/certbound/certbound/pki/subject"
)

// Normalization corrected after Unicode 3.2 (Corrigendum 4), so that x/text differs
// from what RFC 4518 asks for.
var corrected = map[rune]bool{0x2F868: true, 0x2F874: true, 0x2F91F: true, 0x2F95F: true, 0x2F9BF: true}

// RFC 4518, Section 2.2, written from the text once more.
var nothing = xdg.Set{
	{0, 8}, {0xE, 0x1F}, {0x7F, 0x84}, {0x86, 0x9F}, {0xAD, 0xAD}, {0x34F, 0x34F}, {0x6DD, 0x6DD}, {0x70F, 0x70F},
	{0x1806, 0x1806}, {0x180B, 0x180E}, {0x200B, 0x200F}, {0x202A, 0x202E}, {0x2060, 0x2063}, {0x206A, 0x206F},
	{0xFE00, 0xFE0F}, {0xFEFF, 0xFEFF}, {0xFFF9, 0xFFFC}, {0x1D173, 0x1D17A}, {0xE0001, 0xE0001}, {0xE0020, 0xE007F},
}

var space = xdg.Set{
	{9, 0xD}, {0x20, 0x20}, {0x85, 0x85}, {0xA0, 0xA0}, {0x1680, 0x1680}, {0x2000, 0x200A}, {0x2028, 0x2029},
	{0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000},
}

// prepare is RFC 4518 up to the handling of spaces, made of the tables of RFC 3454 and
// Form KC. defined is false if a code point is prohibited.
func prepare(s string) (prepared string, defined bool) {
	var b strings.Builder
	for _, r := range s {
		switch {
		case nothing.Contains(r):
		case space.Contains(r):
			b.WriteByte(' ')
		default:
			if to, ok := xdg.TableB2.Map(r); ok {
				b.WriteString(string(to))
			} else {
				b.WriteRune(r)
			}
		}
	}
	out := norm.NFKC.String(b.String())
	for _, r := range out {
		for _, set := range []xdg.Set{xdg.TableA1, xdg.TableC3, xdg.TableC4, xdg.TableC5, xdg.TableC8} {
			if set.Contains(r) {
				return "", false
			}
		}
		if r == utf8.RuneError {
			return "", false
		}
	}
	return out, true
}

func squeeze(s string) string { return strings.Join(strings.Fields(s), " ") }

// Each code point is prepared as the tables of RFC 3454 and x/text say; "a" on both
// sides keeps spaces and marks in the middle.
func TestStringPrep(t *testing.T) {
	compared := 0
	for r := range rune(utf8.MaxRune + 1) {
		if !utf8.ValidRune(r) || corrected[r] {
			continue
		}
		s := "A" + string(r) + "b"
		got, ok := stringprep.Prepare(s)
		want, defined := prepare(s)
		// Assigned later, x/text decomposes what was nothing then: prohibited here
		// before, there after.
		if xdg.TableA1.Contains(r) {
			defined = false
		}
		if ok != defined {
			t.Errorf("%U: defined %v, want %v", r, ok, defined)
			continue
		}
		if ok && norm.NFKC.String(got) != want {
			t.Errorf("%U: %+q, want %+q", r, norm.NFKC.String(got), want)
		}
		compared++
	}
	if compared < 1_100_000 {
		t.Errorf("%d code points compared", compared)
	}
}

func FuzzStringPrep(f *testing.F) {
	for _, s := range []string{"Example  Ltd", "straße", "A\u030A", "q\u0307\u0323", "가각", "ﷺ", "\u1E9B\u0323", "a\u00A0b", "İ"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !utf8.ValidString(s) {
			return
		}
		for _, r := range s {
			// Marks and spaces are for the tests of the package; what 3.2 does not
			// know x/text may reorder.
			if corrected[r] || xdg.TableA1.Contains(r) || norm.NFKC.PropertiesString(string(r)).CCC() != 0 && strings.Contains(s, " ") {
				return
			}
		}
		got, ok := stringprep.Prepare(s)
		want, defined := prepare(s)
		if ok != defined {
			t.Fatalf("%+q: defined %v, want %v", s, ok, defined)
		}
		if ok && squeeze(norm.NFKC.String(got)) != squeeze(want) {
			t.Errorf("%+q: %+q, want %+q", s, got, want)
		}
	})
}

var dns = []string{
	"UID=jsmith,DC=example,DC=net", "OU=Sales+CN=J.  Smith,DC=example,DC=net",
	`CN=James \"Jim\" Smith\, III,DC=example,DC=net`, `CN=Before\0dAfter,DC=example,DC=net`,
	"1.3.6.1.4.1.1466.0=#04024869", `CN=Lu\C4\8Di\C4\87`, "CN=client-1,OU=apps,O=Example,C=GB",
	"CN=client-1, O=Example", " CN = a , O = b ", `CN=\ a\ `, `CN=\#a`, `CN=a\=b`, "CN=a=b", "OU=CN=victim",
	"2.5.4.97=#0c0750534447422d31", "CN=a+UID=b+O=c", "CN=", "CN=Lučić", "CN=a#b", "emailAddress=ops@example.com,CN=x",
	"CN=#0c0161,O=b", "CN=a,,O=b", "CN", "client-1", `CN=a\`, `CN=a\zz`, "CN=#0", "CN=#zz", `CN="a,b"`, "CN=a;O=b",
	"/C=GB/CN=x", `CN=client\AD-1`, ",", "", "CN=a,", "+CN=a", "CN=#040248",
}

// ldapName reads s by go-ldap. Empty attributes that it lets pass are left to us.
func ldapName(s string) ([][][2]string, bool) {
	dn, err := ldap.ParseDN(s)
	if err != nil {
		return nil, false
	}
	var out [][][2]string
	for _, rdn := range dn.RDNs {
		var attrs [][2]string
		for _, a := range rdn.Attributes {
			attrs = append(attrs, [2]string{a.Type, a.Value})
		}
		out = append(out, attrs)
	}
	return out, true
}

// compareDN holds what both accept: the same RDNs, in the text's order, with the same
// types and octets of the values.
func compareDN(t *testing.T, s string) (ours, theirs bool) {
	t.Helper()
	n, err := subject.ParseName(s)
	want, ok := ldapName(s)
	if err != nil || !ok {
		return err == nil, ok
	}
	var seq []asn1.RawValue
	if rest, err := asn1.Unmarshal(n.DER(), &seq); err != nil || len(rest) > 0 {
		t.Fatalf("%q: %x is not DER: %v", s, n.DER(), err)
	}
	if len(seq) != len(want) {
		t.Fatalf("%q: %d RDNs, go-ldap has %d", s, len(seq), len(want))
	}
	for i, rdn := range seq {
		var attrs []struct {
			Type  asn1.RawValue
			Value asn1.RawValue
		}
		if _, err := asn1.UnmarshalWithParams(rdn.FullBytes, &attrs, "set"); err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		theirs := want[len(want)-1-i]
		if len(attrs) != len(theirs) {
			t.Fatalf("%q: RDN %d has %d attributes, go-ldap has %d", s, i, len(attrs), len(theirs))
		}
		found := make([]bool, len(theirs))
	next:
		for _, a := range attrs {
			for j, b := range theirs {
				name, err := subject.ParseName(b[0] + "=x")
				if err != nil || found[j] {
					continue
				}
				// The type of ours and of theirs, both through our encoder.
				if !strings.Contains(string(name.DER()), string(a.Type.FullBytes)) {
					continue
				}
				if string(a.Value.Bytes) == b[1] {
					found[j] = true
					continue next
				}
			}
			t.Errorf("%q: %x is not among %q", s, a.Value.FullBytes, theirs)
		}
	}
	return true, true
}

func TestParseDN(t *testing.T) {
	both := 0
	for _, s := range dns {
		ours, theirs := compareDN(t, s)
		if ours && !theirs {
			t.Errorf("%q: accepted, and refused by go-ldap", s)
		}
		if ours && theirs {
			both++
		}
	}
	if both < 20 {
		t.Errorf("%d names compared", both)
	}
}

func FuzzParseDN(f *testing.F) {
	for _, s := range dns {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { compareDN(t, s) })
}
