package sfv_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/certbound/certbound/internal/sfv"
)

func TestByteSequence(t *testing.T) {
	ok := func(name, in, want string) {
		t.Run(name, func(t *testing.T) {
			got, err := sfv.ByteSequence(in)
			if err != nil || string(got) != want {
				t.Errorf("%q: %q (%v), want %q", in, got, err, want)
			}
		})
	}
	ok("padded", ":aGk=:", "hi")
	ok("padding missing", ":aGk:", "hi")
	ok("two padding characters", ":aA==:", "h")
	ok("spare bits set", ":aGl:", "hi")
	ok("no octets", "::", "")
	ok("the whole alphabet", ":+/+/:", "\xfb\xff\xbf")
	ok("outer spaces", "  :aGk=:  ", "hi")
	for _, p := range []string{
		";x", ";x=1", ";x=-12.5", `;x="a\"b\\c"`, ";x=tok/en:*", ";*a.b-c_1=?1", ";x=:aGk=:", "; x=1;  y", ";x=@-17", `;x=%"f%c3%bc"`, ";x=?0;x=?1",
	} {
		ok("parameter "+p, ":aGk=:"+p, "hi")
	}

	for _, tt := range []struct{ name, in string }{
		{"nothing", ""}, {"only spaces", "  "}, {"no colons", "aGk="}, {"one colon", ":aGk="}, {"colon at the end", "aGk=:"},
		{"a string", `"aGk="`}, {"a token", "aGk"}, {"an inner list", "(:aGk=:)"}, {"a number", "1"},
		{"URL-safe", ":-_-_:"}, {"space inside", ":aG k=:"}, {"tab inside", ":aG\tk=:"}, {"line feed inside", ":aG\nk=:"},
		{"carriage return inside", ":aGk=\r:"}, {"escaped", ":aGk%3D:"}, {"PEM armour", ":-----BEGIN CERTIFICATE-----aGk=:"},
		{"padding too long", ":aGk==:"}, {"three padding characters", ":aGk===:"}, {"padding inside", ":aG=k:"}, {"padding first", ":=aGk:"},
		{"one character over", ":aGkaa:"}, {"only padding", ":=:"}, {"two items", ":aGk=:, :aGk=:"}, {"something after", ":aGk=:x"},
		{"tab around", "\t:aGk=:"}, {"space before the parameter", ":aGk=: ;x"}, {"parameter without key", ":aGk=:;"},
		{"upper-case key", ":aGk=:;X"}, {"parameter without value", ":aGk=:;x="}, {"string not closed", `:aGk=:;x="a`},
		{"string with control character", ":aGk=:;x=\"\x01\""}, {"number too long", ":aGk=:;x=1234567890123456"},
		{"decimal too long", ":aGk=:;x=1.2345"}, {"decimal without digits", ":aGk=:;x=1."}, {"decimal date", ":aGk=:;x=@1.5"},
		{"boolean 2", ":aGk=:;x=?2"}, {"upper-case escape", `:aGk=:;x=%"%C3%BC"`}, {"not UTF-8", `:aGk=:;x=%"%ff"`},
		{"not ASCII", ":aGk=:\u00a0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := sfv.ByteSequence(tt.in)
			if _, ok := errors.AsType[*sfv.Error](err); !ok || got != nil {
				t.Errorf("%q: %q, error %v", tt.in, got, err)
			}
		})
	}
}

func TestByteSequences(t *testing.T) {
	tests := []struct {
		name    string
		in      []string
		want    string
		wantErr bool
	}{
		{name: "no line"},
		{name: "an empty line", in: []string{""}},
		{name: "one", in: []string{":YQ==:"}, want: "a"},
		{name: "two", in: []string{":YQ==:, :Yg==:"}, want: "a b"},
		{name: "without spaces", in: []string{":YQ==:,:Yg==:"}, want: "a b"},
		{name: "with tabs", in: []string{":YQ==:\t,\t:Yg==:"}, want: "a b"},
		{name: "two lines", in: []string{":YQ==:", ":Yg==:"}, want: "a b"},
		{name: "parameters", in: []string{`:YQ==:;x=",", :Yg==:;y`}, want: "a b"},
		{name: "comma at the end", in: []string{":YQ==:,"}, wantErr: true},
		{name: "comma at the start", in: []string{",:YQ==:"}, wantErr: true},
		{name: "an empty line among others", in: []string{":YQ==:", ""}, wantErr: true},
		{name: "a token", in: []string{":YQ==:, b"}, wantErr: true},
		{name: "a string", in: []string{`:YQ==:, "b"`}, wantErr: true},
		{name: "an inner list", in: []string{":YQ==:, (:Yg==:)"}, wantErr: true},
		{name: "no comma", in: []string{":YQ==: :Yg==:"}, wantErr: true},
		{name: "more than the limit", in: []string{":YQ==:, :YQ==:, :YQ==:, :YQ==:"}, wantErr: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := sfv.ByteSequences(tt.in, 3)
			if (err != nil) != tt.wantErr || err != nil && got != nil {
				t.Fatalf("%q, error %v", got, err)
			}
			if joined := string(bytes.Join(got, []byte(" "))); joined != tt.want {
				t.Errorf("%q, want %q", joined, tt.want)
			}
		})
	}
	if _, err := sfv.ByteSequences([]string{strings.Repeat("::,", 4) + "::"}, 3); err != sfv.ErrTooMany {
		t.Errorf("%v, want ErrTooMany", err)
	}
}

func FuzzByteSequence(f *testing.F) {
	for _, s := range []string{":aGk=:", "::", ":aGk", `:aGk=:;a="b";c=?1`, `:aGk=:;x=%"f%c3%bc"`, ":aGl:", ":+/:;x=@1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		data, err := sfv.ByteSequence(value)
		if err != nil {
			if _, ok := errors.AsType[*sfv.Error](err); !ok || data != nil {
				t.Errorf("%q beside %T %v", data, err, err)
			}
			return
		}
		// What was accepted means the same in its canonical form, alone and in
		// a list.
		canonical := ":" + base64.StdEncoding.EncodeToString(data) + ":"
		if again, err := sfv.ByteSequence(canonical); err != nil || !bytes.Equal(again, data) {
			t.Errorf("%q: %x became %x (%v)", value, data, again, err)
		}
		list, err := sfv.ByteSequences([]string{value, canonical}, 2)
		if err != nil || !slices.EqualFunc(list, [][]byte{data, data}, bytes.Equal) {
			t.Errorf("%q: in a list %x (%v)", value, list, err)
		}
	})
}
