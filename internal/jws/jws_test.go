package jws

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"math/big"
	"strings"
	"sync"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

const claims = `{"iss":"https://as.test","sub":"c-dn","aud":"https://rs.test","exp":2000000000,"iat":1999999700,` +
	`"jti":"0123456789abcdef0123456789abcdef","client_id":"c-dn","scope":"read write",` +
	`"cnf":{"x5t#S256":"A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0"}}`

const limit = 16 << 10

var testKeys = sync.OnceValue(func() map[string]crypto.Signer {
	ec, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	rs, err2 := rsa.GenerateKey(rand.Reader, 2048)
	_, ed, err3 := ed25519.GenerateKey(rand.Reader)
	if err := errors.Join(err1, err2, err3); err != nil {
		panic(err)
	}
	return map[string]crypto.Signer{ES256: ec, PS256: rs, RS256: rs, EdDSA: ed}
})

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// signES256 signs whatever it is given, so that a token can be wrong in one thing only.
func signES256(t testing.TB, header, payload string) string {
	input := b64(header) + "." + b64(payload)
	sum := sha256.Sum256([]byte(input))
	r, s, err := ecdsa.Sign(rand.Reader, testKeys()[ES256].(*ecdsa.PrivateKey), sum[:])
	if err != nil {
		t.Fatal(err)
	}
	var sig [64]byte
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return input + "." + b64(string(sig[:]))
}

func isError(err error) bool {
	_, ok := errors.AsType[*Error](err)
	return ok
}

func TestSignAndVerify(t *testing.T) {
	for alg, key := range testKeys() {
		t.Run(alg, func(t *testing.T) {
			signer, err := NewSigner(alg, "at+jwt", "k1", key)
			if err != nil {
				t.Fatal(err)
			}
			for range 20 { // ECDSA numbers have leading zeros now and then
				compact, err := signer.Sign([]byte(claims))
				if err != nil {
					t.Fatal(err)
				}
				token, err := Parse(compact, limit)
				if err != nil {
					t.Fatal(err)
				}
				if token.Alg != alg || token.Typ != "at+jwt" || token.Kid != "k1" || string(token.Payload) != claims {
					t.Fatalf("parsed %q %q %q %q", token.Alg, token.Typ, token.Kid, token.Payload)
				}
				if err := token.Verify(key.Public()); err != nil {
					t.Fatal(err)
				}
				if alg == RS256 || alg == PS256 {
					break
				}
			}
			compact, _ := signer.Sign([]byte(claims))
			header, err := base64.RawURLEncoding.DecodeString(strings.Split(compact, ".")[0])
			if want := `{"alg":"` + alg + `","typ":"at+jwt","kid":"k1"}`; err != nil || string(header) != want {
				t.Errorf("header %s, want %s", header, want)
			}
			object, err := jose.ParseSignedCompact(compact, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(alg)})
			if err != nil {
				t.Fatal(err)
			}
			if payload, err := object.Verify(key.Public()); err != nil || string(payload) != claims {
				t.Errorf("go-jose: %v, payload %q", err, payload)
			}
		})
	}
}

func TestVerifyWrongKey(t *testing.T) {
	keys := testKeys()
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	other, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	small := &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 1023), E: 65537}
	large := &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 16383), E: 65537}
	for _, tt := range []struct {
		name, alg string
		key       crypto.PublicKey
	}{
		{"another key", ES256, other.Public()},
		{"another curve", ES256, p384.Public()},
		{"RSA for ES256", ES256, keys[RS256].Public()},
		{"Ed25519 for ES256", ES256, keys[EdDSA].Public()},
		{"P-256 for EdDSA", EdDSA, keys[ES256].Public()},
		{"P-256 for PS256", PS256, keys[ES256].Public()},
		{"short RSA key", PS256, small},
		{"short RSA key, RS256", RS256, small},
		{"RSA key that costs too much", RS256, large},
		{"short Ed25519 key", EdDSA, ed25519.PublicKey{1, 2, 3}},
		{"private key", ES256, keys[ES256]},
		{"bytes", ES256, []byte("secret")},
		{"nil", ES256, nil},
		{"nil RSA", RS256, (*rsa.PublicKey)(nil)},
		{"nil ECDSA", ES256, (*ecdsa.PublicKey)(nil)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			signer, err := NewSigner(tt.alg, "at+jwt", "k1", keys[tt.alg])
			if err != nil {
				t.Fatal(err)
			}
			compact, err := signer.Sign([]byte(claims))
			if err != nil {
				t.Fatal(err)
			}
			token, err := Parse(compact, limit)
			if err != nil {
				t.Fatal(err)
			}
			if err := token.Verify(tt.key); !isError(err) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestNewSignerRefuses(t *testing.T) {
	weak, _ := rsa.GenerateKey(rand.Reader, 1024)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	for _, tt := range []struct {
		name, alg, kid string
		key            crypto.Signer
	}{
		{"no key", ES256, "k", nil},
		{"none", "none", "k", testKeys()[ES256]},
		{"HS256", "HS256", "k", testKeys()[ES256]},
		{"no alg", "", "k", testKeys()[ES256]},
		{"another kind", PS256, "k", testKeys()[ES256]},
		{"another curve", ES256, "k", p384},
		{"short RSA key", PS256, "k", weak},
		{"kid too long", ES256, strings.Repeat("k", maxKid+1), testKeys()[ES256]},
		{"kid not UTF-8", ES256, "\xff", testKeys()[ES256]},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if s, err := NewSigner(tt.alg, "at+jwt", tt.kid, tt.key); !isError(err) || s != nil {
				t.Errorf("got %v, %v", s, err)
			}
		})
	}
}

// brokenKey is a signer elsewhere that answers with something else.
type brokenKey struct {
	crypto.Signer
	sig []byte
	err error
}

func (k brokenKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return k.sig, k.err }

func TestSignWithBrokenKey(t *testing.T) {
	for _, tt := range []struct {
		name, alg string
		sig       []byte
		err       error
	}{
		{"error", ES256, nil, io.ErrUnexpectedEOF},
		{"nothing", ES256, nil, nil},
		{"fixed form", ES256, make([]byte, 64), nil},
		{"numbers too long", ES256, append([]byte{0x30, 70, 2, 33}, make([]byte, 67)...), nil},
		{"short", EdDSA, make([]byte, 63), nil},
		{"RSA, short", PS256, make([]byte, 255), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			signer, err := NewSigner(tt.alg, "", "", brokenKey{testKeys()[tt.alg], tt.sig, tt.err})
			if err != nil {
				t.Fatal(err)
			}
			if out, err := signer.Sign([]byte(claims)); err == nil || out != "" {
				t.Errorf("got %q, %v", out, err)
			}
		})
	}
}

const goodHeader = `{"alg":"ES256","typ":"at+jwt","kid":"k1"}`

// Each refused text is signed correctly, so that nothing but its fault refuses it.
func TestParse(t *testing.T) {
	long := strings.Repeat("a", maxKid+1)
	var many strings.Builder
	for i := range maxMembers + 1 {
		many.WriteString(`,"` + strings.Repeat("x", i/10) + string(rune('0'+i%10)) + `":1`)
	}
	for _, tt := range []struct {
		name, header, payload string
		ok                    bool
		req                   string
	}{
		{name: "as we issue them", header: goodHeader, payload: claims, ok: true},
		{name: "space between tokens", header: " { \"alg\" : \"ES256\" } ", payload: " { \"a\" : [ 1 , { } ] } ", ok: true},
		{name: "escaped name", header: `{"\u0061lg":"ES256"}`, payload: `{"a":"\ud83d\ude00\n"}`, ok: true},
		{name: "unknown header member", header: `{"alg":"ES256","x":{"y":[null]}}`, payload: `{}`, ok: true},
		{name: "all values", header: goodHeader, payload: `{"a":true,"b":false,"c":null,"d":-0.5e+10,"e":0,"f":[],"g":"é"}`, ok: true},
		{name: "one name in two objects", header: goodHeader, payload: `{"a":{"x":1},"b":{"x":1},"x":1}`, ok: true},
		{name: "case differs in an object of no concern", header: goodHeader, payload: `{"roles":{"Admin":1,"admin":2}}`, ok: true},

		{name: "header without alg", header: `{"typ":"at+jwt"}`, payload: claims},
		{name: "alg none", header: `{"alg":"none"}`, payload: claims, req: "K-7519-3"},
		{name: "alg None", header: `{"alg":"None"}`, payload: claims},
		{name: "alg HS256", header: `{"alg":"HS256"}`, payload: claims},
		{name: "alg ES384", header: `{"alg":"ES384"}`, payload: claims},
		{name: "alg in another case", header: `{"alg":"es256"}`, payload: claims},
		{name: "alg is no string", header: `{"alg":["ES256"]}`, payload: claims},
		{name: "alg twice", header: `{"alg":"ES256","alg":"ES256"}`, payload: claims},
		{name: "alg twice, one escaped", header: `{"alg":"ES256","\u0061lg":"ES256"}`, payload: claims},
		{name: "alg twice, in two cases", header: `{"alg":"ES256","Alg":"none"}`, payload: claims},
		{name: "kid is no string", header: `{"alg":"ES256","kid":1}`, payload: claims},
		{name: "kid is null", header: `{"alg":"ES256","kid":null}`, payload: claims},
		{name: "kid too long", header: `{"alg":"ES256","kid":"` + long + `"}`, payload: claims},
		{name: "typ is no string", header: `{"alg":"ES256","typ":{}}`, payload: claims},
		{name: "crit", header: `{"alg":"ES256","crit":["x"],"x":1}`, payload: claims},
		{name: "b64", header: `{"alg":"ES256","b64":false}`, payload: claims},
		{name: "jwk", header: `{"alg":"ES256","jwk":{}}`, payload: claims},
		{name: "jku", header: `{"alg":"ES256","jku":"https://x.test"}`, payload: claims},
		{name: "x5u", header: `{"alg":"ES256","x5u":"https://x.test"}`, payload: claims},
		{name: "x5c", header: `{"alg":"ES256","x5c":[]}`, payload: claims},
		{name: "enc", header: `{"alg":"ES256","enc":"A128GCM"}`, payload: claims},
		{name: "header too long", header: `{"alg":"ES256","x":"` + strings.Repeat("x", maxHeader) + `"}`, payload: claims},
		{name: "header is no object", header: `["ES256"]`, payload: claims},
		{name: "empty header", header: ``, payload: claims},

		{name: "two cnf", header: goodHeader, payload: `{"cnf":{"x5t#S256":"a"},"cnf":{"x5t#S256":"b"}}`, req: "K-7519-2"},
		{name: "two cnf, one escaped", header: goodHeader, payload: `{"cnf":{},"c\u006ef":{}}`, req: "K-7519-2"},
		{name: "two cnf, in two cases", header: goodHeader, payload: `{"cnf":{},"CNF":{}}`},
		{name: "two names that fold to one", header: goodHeader, payload: `{"kid":1,"` + "\u212Aid" + `":1}`}, // KELVIN SIGN
		{name: "x5t#S256 twice", header: goodHeader, payload: `{"cnf":{"x5t#S256":"a","x5t#S256":"b"}}`},
		{name: "x5t#S256 twice, in two cases", header: goodHeader, payload: `{"cnf":{"x5t#S256":"a","X5T#s256":"b"}}`},
		{name: "a name twice, deep", header: goodHeader, payload: `{"a":[{"b":{"c":1,"c":1}}]}`},
		{name: "payload is an array", header: goodHeader, payload: `[]`},
		{name: "payload is a string", header: goodHeader, payload: `"{}"`},
		{name: "empty payload", header: goodHeader, payload: ``},
		{name: "data after the object", header: goodHeader, payload: `{}{}`},
		{name: "half an object", header: goodHeader, payload: `{"a":1`},
		{name: "comma at the end", header: goodHeader, payload: `{"a":1,}`},
		{name: "comma at the end of an array", header: goodHeader, payload: `{"a":[1,]}`},
		{name: "number with leading zero", header: goodHeader, payload: `{"exp":01}`},
		{name: "number with plus", header: goodHeader, payload: `{"exp":+1}`},
		{name: "number without digits", header: goodHeader, payload: `{"exp":1.}`},
		{name: "NaN", header: goodHeader, payload: `{"exp":NaN}`},
		{name: "line end in a string", header: goodHeader, payload: "{\"a\":\"\n\"}"},
		{name: "unknown escape", header: goodHeader, payload: `{"a":"\x"}`},
		{name: "half a surrogate pair", header: goodHeader, payload: `{"a":"\ud83d"}`},
		{name: "the other half", header: goodHeader, payload: `{"a":"\ude00"}`},
		{name: "not UTF-8", header: goodHeader, payload: "{\"a\":\"\xff\"}"},
		{name: "too deep", header: goodHeader, payload: `{"a":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`},
		{name: "too many members", header: goodHeader, payload: `{"a":1` + many.String() + `}`},
		{name: "byte order mark", header: goodHeader, payload: "\ufeff{}"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.req != "" {
				t.Attr("requirement", tt.req)
			}
			token, err := Parse(signES256(t, tt.header, tt.payload), 64<<10)
			if tt.ok {
				if err != nil {
					t.Fatal(err)
				}
				if err := token.Verify(testKeys()[ES256].Public()); err != nil {
					t.Error(err)
				}
				return
			}
			if !isError(err) || token != nil {
				t.Errorf("got %v, %v", token, err)
			}
		})
	}
}

func TestParseSerialization(t *testing.T) {
	good := signES256(t, goodHeader, `{"a":1}`)
	parts := strings.Split(good, ".")
	h, p, s := parts[0], parts[1], parts[2]
	for _, tt := range []struct{ name, compact string }{
		{"empty", ""},
		{"two parts", h + "." + p},
		{"four parts", good + "." + s},
		{"five parts, a JWE", h + ".." + p + "." + s + "." + s},
		{"no signature", h + "." + p + "."},
		{"detached payload", h + ".." + s},
		{"padded", h + "=." + p + "." + s},
		{"standard base64", h + "." + p + "." + s[:85] + "/"},
		{"line end inside", h + "." + p + "." + s[:40] + "\n" + s[40:]},
		{"line end at the end", good + "\n"},
		{"space before", " " + good},
		{"JSON serialization", `{"payload":"` + p + `","protected":"` + h + `","signature":"` + s + `"}`},
		{"length 1 modulo 4", h + "." + p + "A." + s},
		{"NUL", good[:30] + "\x00" + good[31:]},
		{"not ASCII", good[:30] + "é" + good[31:]},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if token, err := Parse(tt.compact, limit); !isError(err) || token != nil {
				t.Errorf("got %v, %v", token, err)
			}
		})
	}
	t.Run("spare bits set", func(t *testing.T) {
		// 64 bytes need 86 characters, the last of which has four spare bits.
		last := strings.IndexByte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", s[85])
		other := "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[last|1]
		if token, err := Parse(good[:len(good)-1]+string(other), limit); !isError(err) || token != nil {
			t.Errorf("got %v, %v", token, err)
		}
	})
	t.Run("size", func(t *testing.T) {
		if _, err := Parse(good, len(good)); err != nil {
			t.Error(err)
		}
		if token, err := Parse(good, len(good)-1); !isError(err) || token != nil {
			t.Errorf("got %v, %v", token, err)
		}
	})
}

func TestVerifyRefuses(t *testing.T) {
	keys := testKeys()
	input := b64(goodHeader) + "." + b64(claims)
	der, err := keys[ES256].Sign(rand.Reader, sum(input), crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	var fixed [64]byte
	if !fixedFromASN1(&fixed, der) {
		t.Fatal("signature of crypto/ecdsa not understood")
	}
	zero := strings.Repeat("\x00", 64)
	psalt, err := keys[PS256].Sign(rand.Reader, sum(b64(`{"alg":"PS256"}`)+"."+b64("{}")),
		&rsa.PSSOptions{SaltLength: 20, Hash: crypto.SHA256})
	if err != nil {
		t.Fatal(err)
	}
	point, err := keys[ES256].Public().(*ecdsa.PublicKey).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, point)
	mac.Write([]byte(input))

	for _, tt := range []struct {
		name, compact, keyOf string
	}{
		// RFC 7518, Section 3.4 has r||s; accepting ASN.1 too would give a token two spellings.
		{"ASN.1 signature", input + "." + b64(string(der)), ES256},
		{"r and s are zero", input + "." + b64(zero), ES256},
		{"r and s are too large", input + "." + b64(strings.Repeat("\xff", 64)), ES256},
		{"signature of 63 bytes", input + "." + b64(string(fixed[:63])), ES256},
		{"signature of 65 bytes", input + "." + b64(string(fixed[:])+"\x00"), ES256},
		{"HMAC with the public key", input + "." + b64(string(mac.Sum(nil))), ES256},
		{"salt of another length", b64(`{"alg":"PS256"}`) + "." + b64("{}") + "." + b64(string(psalt)), PS256},
		{"PS256 signature under RS256", b64(`{"alg":"RS256"}`) + "." + b64("{}") + "." + b64(string(psalt)), RS256},
	} {
		t.Run(tt.name, func(t *testing.T) {
			token, err := Parse(tt.compact, limit)
			if err != nil {
				t.Fatal(err)
			}
			if err := token.Verify(keys[tt.keyOf].Public()); !isError(err) {
				t.Errorf("got %v", err)
			}
		})
	}

	t.Run("cnf changed to the thief's certificate", func(t *testing.T) {
		t.Attr("requirement", "K-7519-3")
		stolen := strings.Replace(claims, "A4Dt", "v68f", 1)
		token, err := Parse(b64(goodHeader)+"."+b64(stolen)+"."+b64(string(fixed[:])), limit)
		if err != nil {
			t.Fatal(err)
		}
		if err := token.Verify(keys[ES256].Public()); !isError(err) {
			t.Errorf("got %v", err)
		}
	})
}

func sum(s string) []byte {
	d := sha256.Sum256([]byte(s))
	return d[:]
}

func TestASN1(t *testing.T) {
	for _, tt := range []struct {
		name string
		fill func(i int) byte
	}{
		{"zero", func(int) byte { return 0 }},
		{"one", func(i int) byte { return byte(i / 31 % 2 * (i % 32 / 31)) }},
		{"high bit", func(int) byte { return 0xff }},
		{"leading zeros", func(i int) byte { return byte(i % 32 / 5) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var in, out [64]byte
			for i := range in {
				in[i] = tt.fill(i)
			}
			if der := appendASN1(nil, in[:]); !fixedFromASN1(&out, der) || out != in {
				t.Errorf("%x became %x by %x", in, out, der)
			}
		})
	}
}

func BenchmarkSign(b *testing.B) {
	for _, alg := range []string{ES256, EdDSA} {
		b.Run(alg, func(b *testing.B) {
			signer, err := NewSigner(alg, "at+jwt", "k1", testKeys()[alg])
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := signer.Sign([]byte(claims)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	compact := signES256(b, goodHeader, claims)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(compact, limit); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	for _, alg := range []string{ES256, EdDSA, PS256} {
		b.Run(alg, func(b *testing.B) {
			signer, _ := NewSigner(alg, "at+jwt", "k1", testKeys()[alg])
			compact, err := signer.Sign([]byte(claims))
			if err != nil {
				b.Fatal(err)
			}
			key := testKeys()[alg].Public()
			b.ReportAllocs()
			for b.Loop() {
				token, err := Parse(compact, limit)
				if err != nil {
					b.Fatal(err)
				}
				if err := token.Verify(key); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
