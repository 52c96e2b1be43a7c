package oracle

import (
	"bytes"
	"encoding/base64"
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/dunglas/httpsfv"

	"github.com/certbound/certbound/internal/sfv"
)

// unpadded is a byte sequence where one can stand.
var unpadded = regexp.MustCompile(`(^|[,= \t]):([A-Za-z0-9+/]+)=*:`)

// pad writes the padding that RFC 9651, Section 4.2.7, asks parsers to do without, and
// that httpsfv insists on.
func pad(s string) string {
	return unpadded.ReplaceAllStringFunc(s, func(m string) string {
		parts := unpadded.FindStringSubmatch(m)
		return parts[1] + ":" + parts[2] + strings.Repeat("=", -len(parts[2])&3) + ":"
	})
}

// oracleList parses with httpsfv. ok is false if the value is not a list of byte
// sequences.
func oracleList(lines []string) (data [][]byte, ok bool) {
	list, err := httpsfv.UnmarshalList(lines)
	for _, m := range list {
		item, is := m.(httpsfv.Item)
		if !is {
			return nil, false
		}
		b, is := item.Value.([]byte)
		if !is {
			return nil, false
		}
		data = append(data, b)
	}
	return data, err == nil
}

func oracleItem(line string) (data []byte, ok bool) {
	item, err := httpsfv.UnmarshalItem([]string{line})
	if err != nil {
		return nil, false
	}
	data, ok = item.Value.([]byte)
	return data, ok
}

// Our parser of RFC 9440 takes what httpsfv takes, with the same octets, and beyond that
// only byte sequences without padding.
func FuzzStructuredFields(f *testing.F) {
	leaf := ":" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0x30, 0xfb, 0xff}, 50)) + ":"
	for _, s := range []string{
		"", " ", "::", ":aGk=:", ":aGk:", ":aGl:", ":aGk==:", ":a:", ":=:", ":+/+/:", ":-_:", leaf, leaf + ";a", leaf + ", " + leaf, leaf + "\t,\t" + leaf, leaf + ",",
		"," + leaf, ":aGk=: ", "\t:aGk=:", ":aGk=:\t", ":a Gk=:", "aGk=", `"aGk="`, "(:aGk=:)", "1", ":aGk=:;a=1;b=-1.5;c=?1;*d=tok:en/", `:aGk=:;a="x\"\\y"`,
		":aGk=:;a=:aGk:", ":aGk=:;a=@17", `:aGk=:;a=%"f%c3%bc"`, `:aGk=:;a=%"%FF"`, ":aGk=:;A=1", ":aGk=:; a=1", ":aGk=: ;a=1", ":aGk=:;a=1.2345", ":aGk=:;a=", ":aGk=:;a=1.",
		":aGk=:;a=(1 2)", ":aGk=:;a=1234567890123456", ":aGk=:;a=-", ":aGk=:;a=\x7f",
	} {
		f.Add(s, ":aGk=:")
	}
	f.Fuzz(func(t *testing.T, line, second string) {
		want, wantOK := oracleItem(line)
		got, err := sfv.ByteSequence(line)
		if err != nil {
			if _, ok := errors.AsType[*sfv.Error](err); !ok {
				t.Errorf("undeclared error %T", err)
			}
		}
		switch {
		case wantOK && (err != nil || !bytes.Equal(got, want)):
			t.Errorf("%q: %x (%v), httpsfv has %x", line, got, err, want)
		case !wantOK && err == nil:
			if want, ok := oracleItem(pad(line)); !ok || !bytes.Equal(got, want) {
				t.Errorf("%q: %x, httpsfv refuses it even with padding", line, got)
			}
		}

		lines := []string{line, second}
		wantList, wantOK := oracleList(lines)
		gotList, err := sfv.ByteSequences(lines, 1000)
		same := func(a, b [][]byte) bool { return bytes.Equal(bytes.Join(a, []byte("|")), bytes.Join(b, []byte("|"))) }
		switch {
		case wantOK && (err != nil || !same(gotList, wantList)):
			if !errors.Is(err, sfv.ErrTooMany) {
				t.Errorf("%q: %x (%v), httpsfv has %x", lines, gotList, err, wantList)
			}
		case !wantOK && err == nil:
			if want, ok := oracleList([]string{pad(line), pad(second)}); !ok || !same(gotList, want) {
				t.Errorf("%q: %x, httpsfv refuses it even with padding", lines, gotList)
			}
		}
	})
}

func BenchmarkByteSequence(b *testing.B) {
	value := ":" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0x30}, 428)) + ":"
	b.Run("own", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := sfv.ByteSequence(value); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("httpsfv", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, ok := oracleItem(value); !ok {
				b.Fatal("refused")
			}
		}
	})
}
