package accounts

import (
	"errors"
	"strings"
	"testing"
)

// cheap is for tests: the store and the flow are their subject, not the hash.
var cheap = Cost{Memory: 8, Passes: 1, Lanes: 1}

// A hash that the reference implementation's own tests have.
func TestReferenceHash(t *testing.T) {
	const phcString = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	h, err := parseHash(phcString)
	if err != nil {
		t.Fatal(err)
	}
	if !h.verify("password") || h.verify("Password") {
		t.Error("the reference hash does not fit its password, or fits another")
	}
	if again := encodeHash(h.cost, h.salt, h.sum); again != phcString {
		t.Errorf("encoded again: %s", again)
	}
}

func TestParseHash(t *testing.T) {
	good := HashPassword("correct horse", cheap)
	for _, tc := range []struct{ name, hash string }{
		{"empty", ""},
		{"another function", strings.Replace(good, "argon2id", "argon2i", 1)},
		{"another version", strings.Replace(good, "v=19", "v=16", 1)},
		{"a member more", strings.Replace(good, "p=1", "p=1,x=1", 1)},
		{"leading zero", strings.Replace(good, "m=8", "m=08", 1)},
		{"more memory than allowed", strings.Replace(good, "m=8", "m=2097152", 1)},
		{"more passes than allowed", strings.Replace(good, "t=1", "t=1000000", 1)},
		{"no lane", strings.Replace(good, "p=1", "p=0", 1)},
		{"too little memory for the lanes", strings.Replace(good, "p=1", "p=4", 1)},
		{"cut off", good[:len(good)-30]},
		{"padded", good + "="},
		{"a part more", good + "$x"},
	} {
		if _, err := parseHash(tc.hash); err == nil {
			t.Errorf("%s: accepted %q", tc.name, tc.hash)
		}
	}
	if h, err := parseHash(good); err != nil || !h.verify("correct horse") || h.verify("correct horsf") {
		t.Errorf("the good one: %v", err)
	}
}

func TestCheckPassword(t *testing.T) {
	for _, tc := range []struct {
		name, password string
		ok             bool
	}{
		{"short", "123456789", false},
		{"long enough", "1234567890", true},
		{"few characters of many bytes", "пароль", false},
		{"characters, not bytes", "пароль и ещё", true},
		{"not UTF-8", "123456789\xff", false},
		{"too long", strings.Repeat("a", MaxPassword+1), false},
		{"as long as may be", strings.Repeat("a", MaxPassword), true},
	} {
		if err := CheckPassword(tc.password); (err == nil) != tc.ok {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

func TestFold(t *testing.T) {
	for in, want := range map[string]string{
		"ann": "ann", "Ann": "ann", "ＡＮＮ": "ann", "ann@example.org": "ann@example.org", "Jürgen": "jürgen",
		"": "", "an n": "", "an\x00n": "", "an\nn": "", "\xff": "", strings.Repeat("a", 257): "",
	} {
		got, err := Fold(in)
		if got != want || (want == "") != errors.Is(err, ErrName) {
			t.Errorf("%q: got %q, %v, want %q", in, got, err, want)
		}
	}
}

// FuzzHash: whatever stands in the store, parsing ends, bounds hold, and what is accepted
// has one spelling.
func FuzzHash(f *testing.F) {
	f.Add(HashPassword("correct horse", cheap))
	f.Add("$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc")
	f.Add("$argon2id$v=19$m=,t=,p=$$")
	f.Fuzz(func(t *testing.T, s string) {
		h, err := parseHash(s)
		if err != nil {
			return
		}
		if c := h.cost; c.Memory > most.Memory || c.Passes > most.Passes || c.Lanes > most.Lanes {
			t.Errorf("%+v", c)
		}
		if again := encodeHash(h.cost, h.salt, h.sum); again != s {
			t.Errorf("%q became %q", s, again)
		}
	})
}

// FuzzFold: folding twice is folding once.
func FuzzFold(f *testing.F) {
	for _, s := range []string{"ann", "Ann", "ＡＮＮ", "İ", "ß", "ς", "a b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		once, err := Fold(s)
		if err != nil {
			if !errors.Is(err, ErrName) || once != "" {
				t.Errorf("%q: %q, %v", s, once, err)
			}
			return
		}
		if twice, err := Fold(once); err != nil || twice != once {
			t.Errorf("%q: %q, then %q, %v", s, once, twice, err)
		}
	})
}

func BenchmarkHash(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		HashPassword("correct horse battery staple", DefaultCost)
	}
}
