package stringprep

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestPrepare(t *testing.T) {
	for _, test := range []struct {
		name, in, want string
		undefined      bool
	}{
		{name: "nothing"},
		{name: "prepared already", in: "client-1", want: "client-1"},
		{name: "case", in: "CLIENT-1", want: "client-1"},
		{name: "spaces", in: "  Example   Ltd ", want: "example ltd"},
		{name: "only spaces", in: "   "},
		{name: "controls", in: "a\x01\x7Fb\tc\r\nd\u0085e", want: "ab c d e"},
		{name: "soft hyphen", in: "a\u00ADb", want: "ab"},
		{name: "zero-width space", in: "a\u200Bb", want: "ab"},
		{name: "no-break space", in: "a\u00A0b", want: "a b"},
		{name: "sharp s", in: "straße", want: "strasse"},
		{name: "composed and decomposed", in: "\u00C5", want: "a\u030A"},
		{name: "decomposed", in: "A\u030A", want: "a\u030A"},
		{name: "Angstrom sign", in: "\u212B", want: "a\u030A"},
		{name: "full width", in: "ＡＢＣ", want: "abc"},
		{name: "ligature", in: "ﬃ", want: "ffi"},
		{name: "marks out of order", in: "q\u0307\u0323", want: "q\u0323\u0307"},
		{name: "marks in two clusters", in: "q\u0307\u0323q\u0307\u0323", want: "q\u0323\u0307q\u0323\u0307"},
		{name: "mark first", in: "\u0307\u0323q", want: "\u0323\u0307q"},
		{name: "final sigma", in: "ΣΊΣΥΦΟΣ", want: "σι\u0301συφοσ"},
		{name: "Hangul syllables", in: "각가", want: "\u1100\u1161\u11A8\u1100\u1161"},
		{name: "Hebrew and Latin", in: "שלום Abc", want: "שלום abc"},
		{name: "a space that carries a mark", in: "a \u0301b", want: "a \u0301b"},
		{name: "spaces, the last with a mark", in: "a  \u0301b", want: "a  \u0301b"},
		{name: "supplementary", in: "𝐀\U00010400", want: "a\U00010428"},
		{name: "compatibility ideograph", in: "豈", want: "\u8C48"},
		{name: "newer than 3.2", in: "a😀", undefined: true},
		{name: "newer upper case letter", in: "\u1E9E", undefined: true},
		{name: "replacement", in: "\uFFFD", undefined: true},
		{name: "private use", in: "a\uE000", undefined: true},
		{name: "non-character", in: "\uFDD0", undefined: true},
		{name: "not UTF-8", in: "\xAD", undefined: true},
		{name: "NUL is deleted", in: "admin\x00.evil", want: "admin.evil"},
		{name: "NUL is deleted, not ASCII", in: "ä\x00", want: "a\u0308"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, ok := Prepare(test.in)
			if got != test.want || ok == test.undefined {
				t.Errorf("Prepare(%+q) = %+q, %v; want %+q, %v", test.in, got, ok, test.want, !test.undefined)
			}
		})
	}
}

// The tables hang together: each record is found, in order, and leads to code points
// that lead nowhere else.
func TestTables(t *testing.T) {
	last, n := rune(0), 0
	for rest := records; rest != ""; n++ {
		entry, tail, _ := strings.Cut(rest, "\x00")
		rest = tail
		key, size := utf8.DecodeRuneInString(entry)
		if key <= last {
			t.Fatalf("%U after %U", key, last)
		}
		last = key
		if got, ok := record(key); !ok || got != entry[size:] {
			t.Errorf("record(%U) = %+q, %v; want %+q", key, got, ok, entry[size:])
		}
	}
	if n < 4000 {
		t.Errorf("%d records", n)
	}
	for i, s := range shifts {
		if i > 0 && s.lo <= shifts[i-1].hi {
			t.Errorf("shift %U overlaps", s.lo)
		}
	}
	for _, spans := range [][]span{marks[:], prohibited[:]} {
		for i, s := range spans {
			if s.hi < s.lo || i > 0 && s.lo <= spans[i-1].hi {
				t.Errorf("span %U is out of order", s.lo)
			}
		}
	}
	for r := rune(1); r <= utf8.MaxRune; r++ {
		for _, to := range appendMapped(nil, r) {
			if again := appendMapped(nil, to); !utf8.ValidRune(r) || len(again) != 1 || again[0] != to {
				if utf8.ValidRune(r) {
					t.Errorf("%U leads to %U and on to %U", r, to, again)
				}
			}
		}
	}
}

func FuzzPrepare(f *testing.F) {
	for _, s := range []string{"", " ", "Example  Ltd", "straße", "A\u030A", "q\u0307\u0323", "a \u0301", "\xAD", "😀", "\x00", "가각", "ﷺ"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := Prepare(s)
		if !ok {
			if got != "" {
				t.Errorf("Prepare(%+q) returned %+q beside Undefined", s, got)
			}
			return
		}
		again, ok := Prepare(got)
		if !ok || again != got {
			t.Errorf("Prepare(%+q) = %+q, and prepared again %+q, %v", s, got, again, ok)
		}
		if equal, ascii := EqualASCII(got, []byte(s)); ascii && !equal {
			t.Errorf("EqualASCII(%+q, %+q) = false", got, s)
		}
	})
}

func BenchmarkPrepare(b *testing.B) {
	for name, s := range map[string]string{"prepared": "client-1.example", "ascii": "Example  Ltd", "latin": "Bücher & Söhne"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Prepare(s)
			}
		})
	}
}
