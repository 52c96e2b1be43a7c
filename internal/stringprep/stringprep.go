// Package stringprep prepares strings for caseIgnoreMatch: RFC 4518 with the folding of
// RFC 3454, Table B.2, on the repertoire of Unicode 3.2. It is what distinguished names
// are compared by (RFC 5280, Section 7.1).
//
// Normalization Form KD stands in for Form KC (RFC 4518, Section 2.3). Two strings are
// equal in one form if and only if they are equal in the other, and equality is all
// that is asked here; so the table of compositions is not needed.
package stringprep

//go:generate python3 gen.py

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// Prepare returns the prepared form of s. Forms are compared with ==. They are not for
// display: every run of inner spaces is one space, and there are none at the ends (RFC
// 4518, Section 2.6.1, has two and one, to the same effect for equality).
//
// ok is false if the prepared form is Undefined: s is not UTF-8, or has a code point
// that is prohibited (RFC 4518, Section 2.4). The comparison is then not true,
// whatever the other string is.
//
// U+0000 is deleted, as Section 2.2 says, which makes two different names one: callers
// must refuse it before.
func Prepare(s string) (prepared string, ok bool) {
	if prepared, ok := prepareASCII(s); ok {
		return prepared, true
	}
	if !utf8.ValidString(s) {
		return "", false
	}
	runes := make([]rune, 0, len(s)+8)
	for _, r := range s {
		runes = appendMapped(runes, r)
	}
	reorder(runes)
	for _, r := range runes {
		if in(prohibited[:], r) {
			return "", false
		}
	}
	return collapse(runes), true
}

// prepareASCII returns s itself, without a copy, if it is prepared already.
func prepareASCII(s string) (string, bool) {
	same := true
	for i := range len(s) {
		switch c := s[i]; {
		case c >= utf8.RuneSelf:
			return "", false
		case c < ' ' || c == 0x7F || 'A' <= c && c <= 'Z':
			same = false
		case c == ' ':
			same = same && i > 0 && i < len(s)-1 && s[i-1] != ' '
		}
	}
	if same {
		return s, true
	}
	var b strings.Builder
	b.Grow(len(s))
	space := false
	for i := range len(s) {
		c, keep := FoldASCII(s[i])
		switch {
		case !keep:
		case c == ' ':
			space = true
		default:
			if space && b.Len() > 0 {
				b.WriteByte(' ')
			}
			space = false
			b.WriteByte(c)
		}
	}
	return b.String(), true
}

// FoldASCII maps one character below U+0080: to lower case, white space to a space, and
// other controls to nothing, which keep reports.
func FoldASCII(c byte) (folded byte, keep bool) {
	switch {
	case 'A' <= c && c <= 'Z':
		return c + ('a' - 'A'), true
	case '\t' <= c && c <= '\r':
		return ' ', true
	case c < ' ' || c == 0x7F:
		return 0, false
	}
	return c, true
}

// EqualASCII reports whether raw, prepared, is prepared, without building it. ascii is
// false if raw has other characters; equal then means nothing.
func EqualASCII(prepared string, raw []byte) (equal, ascii bool) {
	at, space := 0, false
	equal = true
	for _, c := range raw {
		if c >= utf8.RuneSelf {
			return false, false
		}
		c, keep := FoldASCII(c)
		switch {
		case !keep || !equal:
			continue
		case c == ' ':
			space = at > 0
			continue
		case space:
			if at >= len(prepared) || prepared[at] != ' ' {
				equal = false
				continue
			}
			at++
			space = false
		}
		if at >= len(prepared) || prepared[at] != c {
			equal = false
			continue
		}
		at++
	}
	return equal && at == len(prepared), true
}

// Prohibited reports whether r is prohibited in a prepared string, such as a code point
// that Unicode 3.2 did not have.
func Prohibited(r rune) bool {
	var buf [32]rune
	for _, r := range appendMapped(buf[:0], r) {
		if in(prohibited[:], r) {
			return true
		}
	}
	return false
}

type (
	shift struct {
		lo, hi rune
		step   uint8
		delta  int32
	}
	class struct {
		lo, hi rune
		ccc    uint8
	}
	span struct{ lo, hi rune }
)

// Hangul syllables decompose by arithmetic (Unicode 3.2, Section 3.11).
const (
	hangulS, hangulL, hangulV, hangulT = 0xAC00, 0x1100, 0x1161, 0x11A7
	hangulVs, hangulTs, hangulEnd      = 21, 28, 0xD7A3
)

// appendMapped appends what r becomes by mapping, folding and decomposition.
func appendMapped(dst []rune, r rune) []rune {
	switch {
	case r < utf8.RuneSelf:
		if c, keep := FoldASCII(byte(r)); keep {
			dst = append(dst, rune(c))
		}
		return dst
	case r >= hangulS && r <= hangulEnd:
		i := r - hangulS
		dst = append(dst, hangulL+i/(hangulVs*hangulTs), hangulV+i%(hangulVs*hangulTs)/hangulTs)
		if t := i % hangulTs; t != 0 {
			dst = append(dst, hangulT+t)
		}
		return dst
	}
	if i, ok := slices.BinarySearchFunc(shifts[:], r, func(s shift, r rune) int { return compare(s.lo, s.hi, r) }); ok {
		if s := shifts[i]; (r-s.lo)%rune(s.step) == 0 {
			return append(dst, r+s.delta)
		}
	}
	if to, ok := record(r); ok {
		for _, r := range to {
			dst = append(dst, r)
		}
		return dst
	}
	return append(dst, r)
}

// record looks r up in the table of records by halving the text: any position belongs
// to the record that ends at the next U+0000.
func record(r rune) (to string, ok bool) {
	lo, hi := 0, len(records)
	for lo < hi {
		mid := (lo + hi) / 2
		start := lo + strings.LastIndexByte(records[lo:mid], 0) + 1
		end := mid + strings.IndexByte(records[mid:], 0)
		key, size := utf8.DecodeRuneInString(records[start:])
		switch {
		case key == r:
			return records[start+size : end], true
		case key < r:
			lo = end + 1
		default:
			hi = start
		}
	}
	return "", false
}

// reorder puts combining marks into canonical order.
func reorder(runes []rune) {
	for i := 0; i < len(runes); i++ {
		if combining(runes[i]) == 0 {
			continue
		}
		end := i + 1
		for end < len(runes) && combining(runes[end]) != 0 {
			end++
		}
		slices.SortStableFunc(runes[i:end], func(a, b rune) int { return int(combining(a)) - int(combining(b)) })
		i = end
	}
}

func combining(r rune) uint8 {
	if r < classes[0].lo {
		return 0
	}
	if i, ok := slices.BinarySearchFunc(classes[:], r, func(c class, r rune) int { return compare(c.lo, c.hi, r) }); ok {
		return classes[i].ccc
	}
	return 0
}

// collapse drops insignificant spaces. A space that carries a combining mark is none.
func collapse(runes []rune) string {
	var b strings.Builder
	b.Grow(len(runes))
	space := false
	for i, r := range runes {
		if r == ' ' && (i+1 == len(runes) || !in(marks[:], runes[i+1])) {
			space = true
			continue
		}
		if space && b.Len() > 0 {
			b.WriteByte(' ')
		}
		space = false
		b.WriteRune(r)
	}
	return b.String()
}

func in(spans []span, r rune) bool {
	if r < spans[0].lo {
		return false
	}
	_, ok := slices.BinarySearchFunc(spans, r, func(s span, r rune) int { return compare(s.lo, s.hi, r) })
	return ok
}

func compare(lo, hi, r rune) int {
	switch {
	case hi < r:
		return -1
	case lo > r:
		return 1
	}
	return 0
}
