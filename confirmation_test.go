package certbound_test

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/pkitest"
)

// vector is a value with the id of its row in docs/spec/requirements.md.
type vector[T any] struct {
	ID      string
	Mistake string
	Value   T
}

// appendixA is RFC 8705, Appendix A, with the values that typical mistakes give.
type appendixA struct {
	Certificate     []byte
	Thumbprint, Hex vector[string]
	Subject         vector[string]
	CNF             vector[json.RawMessage]
	JWK             vector[struct {
		X, Y string
		X5C  [][]byte `json:"x5c"`
	}]
	Wrong []vector[string]
}

func load[T any](t testing.TB, file string) (v T) {
	t.Helper()
	data, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func parse(t testing.TB, der []byte) *x509.Certificate {
	t.Helper()
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestAppendixA(t *testing.T) {
	v := load[appendixA](t, "rfc8705/appendix-a.json")
	cert := parse(t, v.Certificate)

	t.Run("thumbprint", func(t *testing.T) {
		t.Attr("requirement", "TV-1a TV-1b M-3.1-2 M-A-1")
		if len(v.Certificate) != 266 {
			t.Errorf("DER of %d octets, want 266", len(v.Certificate))
		}
		got := certbound.Thumbprint(cert)
		if got != v.Thumbprint.Value || certbound.ThumbprintDER(v.Certificate) != got {
			t.Errorf("thumbprint %s, want %s", got, v.Thumbprint.Value)
		}
		sum, err := base64.RawURLEncoding.Strict().DecodeString(got)
		if err != nil || hex.EncodeToString(sum) != v.Hex.Value {
			t.Errorf("octets %x (%v), want %s", sum, err, v.Hex.Value)
		}
	})
	t.Run("confirmation", func(t *testing.T) {
		t.Attr("requirement", "TV-1c")
		got, err := json.Marshal(struct {
			CNF certbound.Confirmation `json:"cnf,omitzero"`
		}{certbound.Confirm(cert)})
		if want := `{"cnf":{"x5t#S256":"` + v.Thumbprint.Value + `"}}`; err != nil || string(got) != want {
			t.Errorf("%s (%v), want %s", got, err, want)
		}
		c, err := certbound.ParseConfirmation(v.CNF.Value)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Verify(cert); err != nil {
			t.Error(err)
		}
	})
	t.Run("JWK", func(t *testing.T) {
		t.Attr("requirement", "TV-1d M-A-1")
		key, err := cert.PublicKey.(*ecdsa.PublicKey).Bytes()
		if err != nil {
			t.Fatal(err)
		}
		jwk := v.JWK.Value
		for _, c := range []struct {
			name, value string
			want        []byte
		}{{"x", jwk.X, key[1:33]}, {"y", jwk.Y, key[33:]}} {
			if got := base64.RawURLEncoding.EncodeToString(c.want); got != c.value {
				t.Errorf("%s = %s, want %s", c.name, got, c.value)
			}
		}
		if len(jwk.X5C) != 1 || string(jwk.X5C[0]) != string(v.Certificate) {
			t.Error("x5c is not the certificate")
		}
	})
	t.Run("subject", func(t *testing.T) {
		t.Attr("requirement", "TV-1e")
		if got := hex.EncodeToString(cert.RawSubject); got != v.Subject.Value {
			t.Errorf("subject %s, want %s", got, v.Subject.Value)
		}
	})
	t.Run("signature", func(t *testing.T) {
		t.Attr("requirement", "TV-1f")
		if err := cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature); err != nil {
			t.Error(err)
		}
		if cert.Version != 1 || cert.SerialNumber.Cmp(big.NewInt(2)) != 0 {
			t.Errorf("version %d serial %d, want 1 and 2", cert.Version, cert.SerialNumber)
		}
	})
	for _, w := range v.Wrong {
		t.Run("not "+w.Mistake, func(t *testing.T) {
			t.Attr("requirement", w.ID+" M-3.1-2")
			c, err := certbound.ParseConfirmation(encode(t, map[string]any{"x5t#S256": w.Value}))
			if err != nil {
				t.Fatalf("it has to parse, and to match nothing: %v", err)
			}
			if err := c.Verify(cert); !errors.Is(err, certbound.ErrMismatch) {
				t.Errorf("Verify: %v, want ErrMismatch", err)
			}
			if err := certbound.Confirm(cert).VerifyThumbprint(w.Value); !errors.Is(err, certbound.ErrMismatch) {
				t.Errorf("VerifyThumbprint: %v, want ErrMismatch", err)
			}
		})
	}
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// The example of Section 3 is not canonical base64url. It has to parse, and no
// certificate has it.
func TestSection3(t *testing.T) {
	v := load[struct {
		JWT, Introspection vector[struct {
			CNF certbound.Confirmation `json:"cnf"`
		}]
		Octets, Canonical vector[string]
	}](t, "rfc8705/section-3.json")
	c := v.JWT.Value.CNF

	t.Run("parses", func(t *testing.T) {
		t.Attr("requirement", "TV-2a")
		if len(c.X5TS256) != certbound.ThumbprintLen {
			t.Errorf("%d characters", len(c.X5TS256))
		}
		if got := v.Introspection.Value.CNF.X5TS256; got != c.X5TS256 {
			t.Errorf("introspection has %s, the token has %s", got, c.X5TS256)
		}
		sum, err := base64.RawURLEncoding.DecodeString(c.X5TS256)
		if err != nil || hex.EncodeToString(sum) != v.Octets.Value {
			t.Errorf("octets %x (%v), want %s", sum, err, v.Octets.Value)
		}
	})
	t.Run("is not canonical", func(t *testing.T) {
		t.Attr("requirement", "TV-2b")
		var sum [32]byte
		if _, err := hex.Decode(sum[:], []byte(v.Octets.Value)); err != nil {
			t.Fatal(err)
		}
		canonical := certbound.EncodeThumbprint(sum)
		if canonical != v.Canonical.Value {
			t.Errorf("re-encoded %s, want %s", canonical, v.Canonical.Value)
		}
		if err := c.VerifyThumbprint(canonical); !errors.Is(err, certbound.ErrMismatch) {
			t.Errorf("the same octets in other text: %v, want ErrMismatch", err)
		}
		if data := encode(t, c); string(data) != `{"x5t#S256":"`+c.X5TS256+`"}` {
			t.Errorf("written as %s", data)
		}
	})
}

func TestRFC9440Thumbprints(t *testing.T) {
	for _, tt := range []struct{ id, file, want string }{
		{"TV-5b", "leaf.pem", "v68ffgcPn6jdYpBfFY2nP4ShE2Yk-6_Mk5PI9yh6aes"},
		{"TV-6a", "intermediate.pem", "6H31tD6_m4nKKyu_MaTnrVpA1ATPuy_MGkA8JlEoWtw"},
		{"TV-7a", "root.pem", "QjrpXcQc0m2pAhrU5jibqnfghYYHY1qwhekeXR2Ue4M"},
	} {
		t.Run(tt.file, func(t *testing.T) {
			t.Attr("requirement", tt.id)
			if got := certbound.Thumbprint(rfc9440(t, tt.file)); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
	t.Run("standard alphabet", func(t *testing.T) {
		t.Attr("requirement", "TV-5c M-3.1-4")
		c := certbound.Confirmation{X5TS256: "v68ffgcPn6jdYpBfFY2nP4ShE2Yk+6/Mk5PI9yh6aes="}
		if err := c.Verify(rfc9440(t, "leaf.pem")); !errors.Is(err, certbound.ErrMismatch) {
			t.Errorf("%v, want ErrMismatch", err)
		}
	})
}

func rfc9440(t testing.TB, file string) *x509.Certificate {
	t.Helper()
	data, err := os.ReadFile("testdata/rfc9440/" + file)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	return parse(t, block.Bytes)
}

func TestThumbprintForm(t *testing.T) {
	t.Attr("requirement", "M-3.1-5 M-3.1-6")
	form := regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`)
	ca := pkitest.MustCA(pkitest.CAOptions{Subject: "CN=Root"})
	for range 50 { // so that every character of the alphabet occurs
		leaf := ca.MustLeaf(pkitest.LeafOptions{Subject: "CN=client"})
		if got := certbound.Thumbprint(leaf.Cert); !form.MatchString(got) {
			t.Errorf("%q", got)
		}
	}
}

func TestParseConfirmation(t *testing.T) {
	tests := []struct {
		name, in string
		want     certbound.Confirmation
		wantErr  bool
	}{
		{name: "thumbprint", in: `{"x5t#S256":"abc"}`, want: certbound.Confirmation{X5TS256: "abc"}},
		{name: "space around", in: " { \"x5t#S256\" : \"abc\" } \n", want: certbound.Confirmation{X5TS256: "abc"}},
		{name: "both members", in: `{"jkt":"k","x5t#S256":"abc"}`, want: certbound.Confirmation{X5TS256: "abc", JKT: "k"}},
		{name: "unknown member beside", in: `{"x5t#S256":"abc","foo":{"a":[1,null]},"bar":1}`,
			want: certbound.Confirmation{X5TS256: "abc", Other: []string{"bar", "foo"}}},
		{name: "unknown member alone", in: `{"foo":1}`, want: certbound.Confirmation{Other: []string{"foo"}}},
		{name: "another digest", in: `{"x5t#S384":"abc"}`, want: certbound.Confirmation{Other: []string{"x5t#S384"}}},
		{name: "another spelling", in: `{"X5T#S256":"abc"}`, want: certbound.Confirmation{Other: []string{"X5T#S256"}}},
		{name: "token binding", in: `{"tbh":"abc"}`, want: certbound.Confirmation{Other: []string{"tbh"}}},
		{name: "a member that contains a thumbprint", in: `{"foo":{"x5t#S256":"abc"}}`, want: certbound.Confirmation{Other: []string{"foo"}}},

		{name: "a string", in: `"abc"`, wantErr: true},
		{name: "an array", in: `[]`, wantErr: true},
		{name: "null", in: `null`, wantErr: true},
		{name: "a number", in: `1`, wantErr: true},
		{name: "nothing", in: ``, wantErr: true},
		{name: "no member", in: `{}`, wantErr: true},
		{name: "thumbprint a number", in: `{"x5t#S256":1}`, wantErr: true},
		{name: "thumbprint null", in: `{"x5t#S256":null}`, wantErr: true},
		{name: "thumbprint empty", in: `{"x5t#S256":""}`, wantErr: true},
		{name: "thumbprint an array", in: `{"x5t#S256":["abc"]}`, wantErr: true},
		{name: "jkt null", in: `{"jkt":null}`, wantErr: true},
		{name: "thumbprint twice", in: `{"x5t#S256":"abc","x5t#S256":"def"}`, wantErr: true},
		{name: "thumbprint twice, once escaped", in: `{"x5t#S256":"abc","\u00785t#S256":"def"}`, wantErr: true},
		{name: "unknown member twice", in: `{"x5t#S256":"abc","foo":1,"foo":2}`, wantErr: true},
		{name: "two objects", in: `{"x5t#S256":"abc"}{}`, wantErr: true},
		{name: "not closed", in: `{"x5t#S256":"abc"`, wantErr: true},
		{name: "a comma too many", in: `{"x5t#S256":"abc",}`, wantErr: true},
		{name: "no value", in: `{"x5t#S256"}`, wantErr: true},
		{name: "closed wrongly", in: `{"x5t#S256":"abc"]`, wantErr: true},
		{name: "no comma", in: `{"x5t#S256":"abc" "jkt":"k"}`, wantErr: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := certbound.ParseConfirmation([]byte(tt.in))
			if _, ok := errors.AsType[*certbound.SyntaxError](err); ok != tt.wantErr {
				t.Fatalf("error %v, want one: %v", err, tt.wantErr)
			}
			if got.X5TS256 != tt.want.X5TS256 || got.JKT != tt.want.JKT || strings.Join(got.Other, " ") != strings.Join(tt.want.Other, " ") {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
			var viaJSON struct {
				CNF certbound.Confirmation `json:"cnf"`
			}
			if err := json.Unmarshal([]byte(`{"cnf":`+tt.in+`}`), &viaJSON); (err != nil) != tt.wantErr {
				t.Errorf("through encoding/json: %v, want an error: %v", err, tt.wantErr)
			}
		})
	}
}

func TestVerify(t *testing.T) {
	ca := pkitest.MustCA(pkitest.CAOptions{Subject: "CN=Root"})
	leaf := ca.MustLeaf(pkitest.LeafOptions{Subject: "CN=client"})
	bound := certbound.Confirm(leaf.Cert)
	with := func(change func(*certbound.Confirmation)) certbound.Confirmation {
		c := bound
		change(&c)
		return c
	}
	tests := []struct {
		name    string
		cnf     certbound.Confirmation
		leaf    *x509.Certificate
		wantErr error
	}{
		{"the certificate", bound, leaf.Cert, nil},
		{"an unknown member beside", with(func(c *certbound.Confirmation) { c.Other = []string{"foo"} }), leaf.Cert, nil},
		{"no certificate", bound, nil, certbound.ErrNoCertificate},
		{"another certificate", bound, ca.MustLeaf(pkitest.LeafOptions{Subject: "CN=client"}).Cert, certbound.ErrMismatch},
		{"the same key in another certificate", bound, ca.MustLeaf(pkitest.LeafOptions{Subject: "CN=client", Key: leaf.Key}).Cert, certbound.ErrMismatch},
		{"the issuer", bound, ca.Cert, certbound.ErrMismatch},
		{"unbound", certbound.Confirmation{}, leaf.Cert, certbound.ErrNotBound},
		{"unbound, no certificate", certbound.Confirmation{}, nil, certbound.ErrNotBound},
		{"only a DPoP key", certbound.Confirmation{JKT: "k"}, leaf.Cert, certbound.ErrUnknownMethod},
		{"a DPoP key beside", with(func(c *certbound.Confirmation) { c.JKT = "k" }), leaf.Cert, certbound.ErrUnknownMethod},
		{"only an unknown member", certbound.Confirmation{Other: []string{"tbh"}}, leaf.Cert, certbound.ErrUnknownMethod},
		{"only an unknown member, no certificate", certbound.Confirmation{Other: []string{"tbh"}}, nil, certbound.ErrUnknownMethod},
		{"upper case", with(func(c *certbound.Confirmation) { c.X5TS256 = strings.ToUpper(c.X5TS256) }), leaf.Cert, certbound.ErrMismatch},
		{"a space after", with(func(c *certbound.Confirmation) { c.X5TS256 += " " }), leaf.Cert, certbound.ErrMismatch},
		{"a line feed after", with(func(c *certbound.Confirmation) { c.X5TS256 += "\n" }), leaf.Cert, certbound.ErrMismatch},
		{"cut", with(func(c *certbound.Confirmation) { c.X5TS256 = c.X5TS256[:42] }), leaf.Cert, certbound.ErrMismatch},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.cnf.Verify(tt.leaf); !errors.Is(err, tt.wantErr) {
				t.Errorf("%v, want %v", err, tt.wantErr)
			}
		})
	}
}

// Attack 23: thumbprints compared without regard to case. The attacker makes
// certificates until a thumbprint differs from the victim's in the case of letters
// only, which is far less work than a collision. Every single letter counts here.
func TestAttackThumbprintCase(t *testing.T) {
	t.Attr("attack", "23")
	v := load[appendixA](t, "rfc8705/appendix-a.json")
	cert := parse(t, v.Certificate)
	right := v.Thumbprint.Value
	for i := range right {
		flipped := []byte(right)
		if c := right[i] | 0x20; 'a' <= c && c <= 'z' {
			flipped[i] ^= 0x20
		} else {
			flipped[i] = 'A'
		}
		c := certbound.Confirmation{X5TS256: string(flipped)}
		if err := c.Verify(cert); !errors.Is(err, certbound.ErrMismatch) {
			t.Errorf("character %d changed: %v, want ErrMismatch", i, err)
		}
	}
	sha1 := certbound.Confirmation{X5TS256: "T8Qp8fPmVYqb9iHyzQUaAbxBedY"}
	if err := sha1.Verify(cert); !errors.Is(err, certbound.ErrMismatch) {
		t.Errorf("SHA-1: %v, want ErrMismatch", err)
	}
}

func TestMarshalRefusesUnknownMembers(t *testing.T) {
	if data, err := json.Marshal(certbound.Confirmation{X5TS256: "abc", Other: []string{"foo"}}); err == nil {
		t.Errorf("written as %s, and foo is lost", data)
	}
	// A zero confirmation is left out, or refused: "cnf":{} would be a token that
	// says it is bound, to nothing.
	if data, err := json.Marshal(certbound.Confirmation{}); err == nil {
		t.Errorf("the zero confirmation is written as %s", data)
	}
	var unbound struct {
		CNF certbound.Confirmation `json:"cnf,omitzero"`
	}
	if data := encode(t, unbound); string(data) != `{}` {
		t.Errorf("unbound: %s", data)
	}
}

func FuzzParseConfirmation(f *testing.F) {
	for _, s := range []string{
		`{"x5t#S256":"A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0"}`,
		`{"jkt":"a","x5t#S256":"b"}`, `{"foo":[{}]}`, `{}`, `null`, `{"x5t#S256":""}`, `{"a":1,"a":2}`,
		"{\"x5t#S256\":\"\xff\"}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := certbound.ParseConfirmation(data)
		if err != nil {
			if _, ok := errors.AsType[*certbound.SyntaxError](err); !ok {
				t.Errorf("undeclared error %T: %v", err, err)
			}
			if !c.IsZero() {
				t.Errorf("%+v beside error %v", c, err)
			}
			return
		}
		if c.IsZero() {
			t.Error("an accepted value binds nothing")
		}
		if len(c.Other) > 0 {
			return // values of unknown members are not kept
		}
		again, err := certbound.ParseConfirmation(encode(t, c))
		if err != nil || again.X5TS256 != c.X5TS256 || again.JKT != c.JKT {
			t.Errorf("%+v became %+v (%v)", c, again, err)
		}
	})
}

func BenchmarkThumbprint(b *testing.B) {
	cert := parse(b, load[appendixA](b, "rfc8705/appendix-a.json").Certificate)
	b.ReportAllocs()
	for b.Loop() {
		certbound.Thumbprint(cert)
	}
}

func BenchmarkVerify(b *testing.B) {
	cert := parse(b, load[appendixA](b, "rfc8705/appendix-a.json").Certificate)
	c := certbound.Confirm(cert)
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Verify(cert); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseConfirmation(b *testing.B) {
	data := []byte(`{"x5t#S256":"A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0"}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := certbound.ParseConfirmation(data); err != nil {
			b.Fatal(err)
		}
	}
}
