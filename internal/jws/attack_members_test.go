package jws

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"unicode"
)

// withMembers returns an object of n members with different names, and two of the given
// names at places i and j.
func withMembers(n, i, j int, first, second string) string {
	var b strings.Builder
	b.WriteByte('{')
	for k := range n {
		if k > 0 {
			b.WriteByte(',')
		}
		switch k {
		case i:
			fmt.Fprintf(&b, `"%s":1`, first)
		case j:
			fmt.Fprintf(&b, `"%s":2`, second)
		default:
			fmt.Fprintf(&b, `"m%d":0`, k)
		}
	}
	b.WriteByte('}')
	return b.String()
}

// A thief hides the member that counts among many, so that two decoders read two different
// ones. However many there are, and wherever they stand, it is found.
func TestAttackTwinsAmongManyMembers(t *testing.T) {
	twins := []struct{ first, second string }{
		{"cnf", "cnf"}, {"cnf", "CNF"}, {"cnf", "cn\\u0066"}, {"\\u0063nf", "Cnf"},
		{"scope", "ſcope"}, {"key", "\u212aey"}, {"σ", "ς"}, {"Σ", "ς"}, {"ǆ", "ǅ"},
	}
	for _, n := range []int{2, fewMembers, fewMembers + 1, fewMembers + 2, 60, maxMembers} {
		for _, place := range [][2]int{{0, 1}, {0, n - 1}, {n - 2, n - 1}, {min(fewMembers, n) - 2, n - 1}} {
			if place[0] == place[1] {
				continue
			}
			for _, tt := range twins {
				if err := Members([]byte(withMembers(n, place[0], place[1], tt.first, tt.second)), nil); err == nil {
					t.Errorf("%d members, %s and %s at %v: accepted", n, tt.first, tt.second, place)
				}
			}
			for _, tt := range []struct{ first, second string }{{"cnf", "cnf2"}, {"ı", "i"}, {"İ", "i"}, {"ß", "ss"}} {
				if err := Members([]byte(withMembers(n, place[0], place[1], tt.first, tt.second)), nil); err != nil {
					t.Errorf("%d members, %s and %s at %v: %v", n, tt.first, tt.second, place, err)
				}
			}
		}
	}
	// Deeper down only octets count.
	inner := withMembers(60, 3, 50, "cnf", "CNF")
	if err := Members([]byte(`{"x":`+inner+`}`), nil); err != nil {
		t.Error(err)
	}
	if err := Members([]byte(`{"cnf":`+inner+`}`), nil); err == nil {
		t.Error("in cnf: accepted")
	}
	if err := Members([]byte(`{"x":`+withMembers(60, 3, 50, "cnf", "cnf")+`}`), nil); err == nil {
		t.Error("the same octets deeper down: accepted")
	}
}

func TestFoldName(t *testing.T) {
	for r := rune(0); r <= unicode.MaxRune; r++ {
		next := unicode.SimpleFold(r)
		if next == r || 0xd800 <= r && r < 0xe000 {
			continue
		}
		a, b := []byte("x"+string(r)), []byte("X"+string(next))
		if foldName(a) != foldName(b) || !bytes.EqualFold(a, b) {
			t.Errorf("%q and %q", r, next)
		}
	}
	if foldName([]byte("a")) == foldName([]byte("b")) {
		t.Error("a and b")
	}
}

// BenchmarkManyMembers is a token of 16 kB that a stranger has made so that names are slow to
// tell apart. It took 2.3 ms, and nobody knows yet whether it is signed.
func BenchmarkManyMembers(b *testing.B) {
	var doc strings.Builder
	doc.WriteByte('{')
	for i := range 200 {
		fmt.Fprintf(&doc, `"%s%03x":1,`, strings.Repeat(`\u0130`, 8), i)
	}
	doc.WriteString(`"z":1}`)
	data := []byte(doc.String())
	b.ReportAllocs()
	for b.Loop() {
		if err := Members(data, nil); err != nil {
			b.Fatal(err)
		}
	}
}
