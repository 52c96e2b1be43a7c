package jwks_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/certbound/certbound/jwks"
	"github.com/certbound/certbound/pkitest"
)

// tv1 is the JWK of RFC 8705, Appendix A, with the certificate on one line.
const tv1 = `{"kty":"EC","x":"1yfLHCpXqFjxCeHHHMVDTcLscpb07KUxudBmOMn8C7Q","y":"8_coZwxS7LfA4vOLS9WuneIXhbGGWvsDSb0tH6IxLm8","crv":"P-256",` +
	`"x5c":["MIIBBjCBrAIBAjAKBggqhkjOPQQDAjAPMQ0wCwYDVQQDDARtdGxzMB4XDTE4MTAxODEyMzcwOVoXDTIyMDUwMjEyMzcwOVowDzENMAsGA1UEAwwEbXRsczBZMBMGByqG` +
	`SM49AgEGCCqGSM49AwEHA0IABNcnyxwqV6hY8QnhxxzFQ03C7HKW9OylMbnQZjjJ/Au08/coZwxS7LfA4vOLS9WuneIXhbGGWvsDSb0tH6IxLm8wCgYIKoZIzj0EAwIDSQAwRgIhAP0R` +
	`C1E+vwJD/D1AGHGzuri+hlV/PpQEKTWUVeORWz83AiEA5x2eXZOVbUlJSGQgjwD5vaUaKlLR50Q2DmFfQj1L+SY="]}`

// jwk returns the members of the JWK of a certificate, to be changed.
func jwk(t testing.TB, der []byte) map[string]any {
	t.Helper()
	key, err := jwks.FromCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	data, err := key.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func with(m map[string]any, pairs ...any) map[string]any {
	m = maps.Clone(m)
	for i := 0; i < len(pairs); i += 2 {
		if m[pairs[i].(string)] = pairs[i+1]; pairs[i+1] == nil {
			delete(m, pairs[i].(string))
		}
	}
	return m
}

func document(t testing.TB, keys ...any) []byte {
	t.Helper()
	data, err := json.Marshal(map[string]any{"keys": append([]any{}, keys...)})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func isError(err error) bool {
	_, ok := errors.AsType[*jwks.Error](err)
	return ok
}

func TestParseKey(t *testing.T) {
	s1, s2 := pkitest.MustSelfSigned(pkitest.LeafOptions{}), pkitest.MustSelfSigned(pkitest.LeafOptions{})
	r1 := pkitest.MustSelfSigned(pkitest.LeafOptions{KeyType: pkitest.RSA2048})
	small, _ := rsa.GenerateKey(rand.Reader, 1024)
	k2, rsaKey := jwk(t, s2.Cert.Raw), jwk(t, r1.Cert.Raw)
	x5c := func(entries ...any) []any { return entries }
	std := base64.StdEncoding.EncodeToString
	body := std(s1.Cert.Raw)
	other256 := sha256.Sum256(s2.Cert.Raw)
	url := base64.RawURLEncoding.EncodeToString
	smallJWK, _ := jose.JSONWebKey{Key: small.Public()}.MarshalJSON()
	// A certificate whose base64 has a character in which base64url differs.
	for !strings.ContainsAny(body, "+/") {
		s1 = pkitest.MustSelfSigned(pkitest.LeafOptions{Key: s1.Key})
		body = std(s1.Cert.Raw)
	}
	k1 := jwk(t, s1.Cert.Raw)
	sum1, sum256 := sha1.Sum(s1.Cert.Raw), sha256.Sum256(s1.Cert.Raw)

	const (
		taken   = iota
		refused // by Strict; left out by Lenient
		unknown // left out by both
	)
	for _, tt := range []struct {
		name  string
		key   any
		want  int
		certs int // of a key that is taken
		req   string
	}{
		{name: "RFC 8705, Appendix A", key: json.RawMessage(tv1), certs: 1},
		{name: "x5c of EC", key: k1, certs: 1},
		{name: "x5c of RSA", key: rsaKey, certs: 1},
		{name: "bare EC key", key: with(k1, "x5c", nil)},
		{name: "bare RSA key", key: with(rsaKey, "x5c", nil)},
		{name: "a chain of two", key: with(k1, "x5c", x5c(body, std(s2.Cert.Raw))), certs: 1, req: "X-4.7-2"},
		{name: "both thumbprints fit", key: with(k1, "x5t", url(sum1[:]), "x5t#S256", url(sum256[:])), certs: 1},
		{name: "thumbprint without certificate", key: with(k1, "x5c", nil, "x5t#S256", url(sum256[:])), req: "X-4.7-4"},
		{name: "unknown members", key: with(k1, "use", "sig", "x", k1["x"], "foo", x5c(1)), certs: 1},

		{name: "unknown kty", key: map[string]any{"kty": "LATTICE", "z": 1}, want: unknown, req: "X-5-1"},
		{name: "unknown curve", key: with(k1, "crv", "secp256k1"), want: unknown},
		{name: "key agreement only", key: map[string]any{"kty": "OKP", "crv": "X25519", "x": url(sum256[:])}, want: unknown},

		{name: "private EC key", key: with(k1, "d", k1["x"]), want: refused, req: "X-6-1"},
		{name: "private member is empty", key: with(k1, "d", ""), want: refused, req: "X-6-1"},
		{name: "private RSA member", key: with(rsaKey, "qi", "AQ"), want: refused, req: "X-6-1"},
		{name: "symmetric key", key: map[string]any{"kty": "oct", "k": "c2VjcmV0"}, want: refused},
		{name: "symmetric member in an EC key", key: with(k1, "k", "c2VjcmV0"), want: refused},
		{name: "no kty", key: with(k1, "kty", nil), want: refused},
		{name: "kty is a number", key: with(k1, "kty", 1), want: refused},
		{name: "certificate without x", key: with(k1, "x", nil), want: refused, req: "X-6-1"},
		{name: "certificate without y", key: with(k1, "y", nil), want: refused, req: "X-6-1"},
		{name: "certificate without crv", key: with(k1, "crv", nil), want: refused, req: "X-6-1"},
		{name: "certificate without n", key: with(rsaKey, "n", nil), want: refused, req: "X-6-1"},
		{name: "certificate without e", key: with(rsaKey, "e", nil), want: refused, req: "X-6-1"},
		{name: "point is not on the curve", key: with(k1, "x5c", nil, "y", k1["x"]), want: refused},
		{name: "x of the wrong length", key: with(k1, "x5c", nil, "x", "AQ"), want: refused},
		{name: "RSA of 1024 bits", key: json.RawMessage(smallJWK), want: refused},
		{name: "RSA exponent 1", key: with(rsaKey, "x5c", nil, "e", "AQ"), want: refused},
		{name: "kid is a number", key: with(k1, "kid", 1), want: refused},
		{name: "a string in place of a key", key: "k1", want: refused},
		{name: "null in place of a key", key: json.RawMessage("null"), want: refused},

		{name: "another key's certificate", key: with(k1, "x5c", x5c(std(s2.Cert.Raw))), want: refused, req: "X-4.7-3"},
		{name: "its own certificate second", key: with(k2, "x5c", x5c(body, std(s2.Cert.Raw))), want: refused, req: "X-4.7-2 X-4.7-3"},
		{name: "base64url", key: with(k1, "x5c", x5c(url(s1.Cert.Raw))), want: refused, req: "X-4.7-1"},
		{name: "base64url with padding", key: with(k1, "x5c", x5c(base64.URLEncoding.EncodeToString(s1.Cert.Raw))), want: refused, req: "X-4.7-1"},
		{name: "line ends", key: with(k1, "x5c", x5c(body[:64]+"\n"+body[64:])), want: refused, req: "X-4.7-1"},
		{name: "line end at the end", key: with(k1, "x5c", x5c(body+"\r\n")), want: refused, req: "X-4.7-1"},
		{name: "PEM", key: with(k1, "x5c", x5c(string(s1.CertPEM()))), want: refused, req: "X-4.7-1"},
		{name: "a string, not an array", key: with(k1, "x5c", body), want: refused, req: "X-4.7-1"},
		{name: "empty array", key: with(k1, "x5c", x5c()), want: refused},
		{name: "array with null", key: with(k1, "x5c", x5c(nil)), want: refused},
		{name: "two certificates in one entry", key: with(k1, "x5c", x5c(std(append(bytes.Clone(s1.Cert.Raw), s2.Cert.Raw...)))), want: refused},
		{name: "rubbish second", key: with(k1, "x5c", x5c(body, "AAAA")), want: refused},
		{name: "eleven certificates", key: with(k1, "x5c", x5c(body, body, body, body, body, body, body, body, body, body, body)), want: refused},
		{name: "x5t#S256 of another", key: with(k1, "x5t#S256", url(other256[:])), want: refused, req: "X-4.7-4"},
		{name: "x5t of nothing", key: with(k1, "x5t", url(make([]byte, 20))), want: refused, req: "X-4.7-4"},
		{name: "x5t#S256 in hex", key: with(k1, "x5t#S256", url([]byte(fmt.Sprintf("%x", sum256)))), want: refused},
		{name: "x5t#S256 is a number", key: with(k1, "x5t#S256", 1), want: refused},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.req != "" {
				t.Attr("requirement", tt.req)
			}
			// Beside it lies a good key, which has to survive.
			data := document(t, tt.key, k2)
			wantKeys, wantCerts := 1, 1
			if tt.want == taken {
				wantKeys, wantCerts = 2, 1+tt.certs
			}
			lenient, err := jwks.Parse(data, jwks.Lenient)
			if err != nil {
				t.Fatal(err)
			}
			if len(lenient.Keys) != wantKeys || len(lenient.Certificates) != wantCerts || len(lenient.Ignored) != 2-wantKeys {
				t.Errorf("lenient: %d keys, %d certificates, ignored %q", len(lenient.Keys), len(lenient.Certificates), lenient.Ignored)
			}
			strict, err := jwks.Parse(data, jwks.Strict)
			if tt.want == refused {
				e, ok := errors.AsType[*jwks.Error](err)
				if !ok || strict != nil || e.Key != 0 {
					t.Fatalf("strict: got %v, %v", strict, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(strict.Keys) != wantKeys || len(strict.Certificates) != wantCerts {
				t.Errorf("strict: %d keys, %d certificates", len(strict.Keys), len(strict.Certificates))
			}
		})
	}
}

func TestParseDocument(t *testing.T) {
	leaf := pkitest.MustSelfSigned(pkitest.LeafOptions{})
	key := jwk(t, leaf.Cert.Raw)
	one, _ := json.Marshal(key)
	for _, tt := range []struct {
		name, data string
		ok         bool
		req        string
	}{
		{name: "no keys", data: `{"keys":[]}`, ok: true},
		{name: "further members", data: `{"iss":"x","keys":[` + string(one) + `]}`, ok: true},
		{name: "an array", data: `[]`, req: "R-2-4"},
		{name: "keys is an object", data: `{"keys":{}}`, req: "R-2-4"},
		{name: "keys is null", data: `{"keys":null}`, req: "R-2-4"},
		{name: "no member keys", data: string(one)},
		{name: "member in another case", data: `{"KEYS":[]}`},
		{name: "two keys members", data: `{"keys":[],"keys":[]}`},
		{name: "a member of a key stands twice", data: `{"keys":[` + strings.Replace(string(one), `{`, `{"kty":"EC",`, 1) + `]}`},
		{name: "not JSON", data: `<html>`},
		{name: "empty", data: ``},
		{name: "two documents", data: `{"keys":[]}{"keys":[]}`},
		{name: "too long", data: `{"keys":[]}` + strings.Repeat(" ", jwks.MaxBytes)},
		{name: "too many keys", data: `{"keys":[` + strings.Repeat(`{},`, 300) + `{}]}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.req != "" {
				t.Attr("requirement", tt.req)
			}
			for _, s := range []jwks.Strictness{jwks.Strict, jwks.Lenient} {
				set, err := jwks.Parse([]byte(tt.data), s)
				if tt.ok {
					if err != nil || set == nil {
						t.Errorf("got %v", err)
					}
				} else if !isError(err) || set != nil {
					t.Errorf("got %v, %v", set, err)
				}
			}
		})
	}
}

// Two keys of one kid: the certificate of either counts, since kid plays no part.
func TestParseDuplicateKid(t *testing.T) {
	t.Attr("requirement", "F2-5.4.3-1")
	s1, s2 := pkitest.MustSelfSigned(pkitest.LeafOptions{}), pkitest.MustSelfSigned(pkitest.LeafOptions{})
	set, err := jwks.Parse(document(t, with(jwk(t, s2.Cert.Raw), "kid", "k"), with(jwk(t, s1.Cert.Raw), "kid", "k"),
		with(jwk(t, s1.Cert.Raw), "kid", "again")), jwks.Strict)
	if err != nil {
		t.Fatal(err)
	}
	if len(set.Keys) != 3 || len(set.Certificates) != 2 || !bytes.Equal(set.Certificates[1], s1.Cert.Raw) {
		t.Errorf("%d keys, %d certificates", len(set.Keys), len(set.Certificates))
	}
}

func TestFromCertificate(t *testing.T) {
	for _, kind := range []pkitest.KeyType{pkitest.P256, pkitest.P384, pkitest.RSA2048, pkitest.Ed25519} {
		t.Run(fmt.Sprint(kind), func(t *testing.T) {
			leaf := pkitest.MustSelfSigned(pkitest.LeafOptions{KeyType: kind})
			set, err := jwks.Parse(document(t, jwk(t, leaf.Cert.Raw)), jwks.Strict)
			if err != nil {
				t.Fatal(err)
			}
			if len(set.Certificates) != 1 || !bytes.Equal(set.Certificates[0], leaf.Cert.Raw) {
				t.Error("another certificate came back")
			}
		})
	}
	t.Run("RFC 8705, Appendix A", func(t *testing.T) {
		set, err := jwks.Parse([]byte(`{"keys":[`+tv1+`]}`), jwks.Strict)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]any{}
		if err := json.Unmarshal([]byte(tv1), &want); err != nil {
			t.Fatal(err)
		}
		if got := jwk(t, set.Certificates[0]); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
	small, _ := rsa.GenerateKey(rand.Reader, 1024)
	p224, _ := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	for name, der := range map[string][]byte{
		"nothing":       nil,
		"rubbish":       []byte("rubbish"),
		"RSA 1024":      pkitest.MustSelfSigned(pkitest.LeafOptions{Key: small}).Cert.Raw,
		"P-224":         pkitest.MustSelfSigned(pkitest.LeafOptions{Key: p224}).Cert.Raw,
		"data after it": append(bytes.Clone(pkitest.MustSelfSigned(pkitest.LeafOptions{}).Cert.Raw), 0),
	} {
		t.Run(name, func(t *testing.T) {
			if key, err := jwks.FromCertificate(der); !isError(err) || key.Key != nil {
				t.Errorf("got %v, %v", key, err)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	leaf := pkitest.MustSelfSigned(pkitest.LeafOptions{})
	key := jwk(f, leaf.Cert.Raw)
	f.Add(document(f, key))
	f.Add(document(f, json.RawMessage(tv1), with(key, "d", "AQ"), map[string]any{"kty": "oct"}, 1))
	f.Add(document(f, with(key, "x5c", nil, "use", "sig", "alg", "ES256", "kid", "k")))
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"AQ","e":"AQAB"},{"kty":"OKP","crv":"Ed25519","x":"AQ"}]}`))
	f.Add([]byte(`{"keys":[],"keys":[]}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		lenient, lenientErr := jwks.Parse(data, jwks.Lenient)
		strict, strictErr := jwks.Parse(data, jwks.Strict)
		for _, r := range []struct {
			set *jwks.Set
			err error
		}{{lenient, lenientErr}, {strict, strictErr}} {
			if r.err != nil && r.set != nil {
				t.Errorf("set returned with error %v", r.err)
			}
			if r.err != nil && !isError(r.err) {
				t.Errorf("undeclared error type %T: %v", r.err, r.err)
			}
		}
		if lenientErr != nil && strictErr == nil {
			t.Errorf("strict accepts what lenient refuses: %v", lenientErr)
		}
		if lenientErr != nil {
			return
		}
		// What was accepted is the same after a round trip, and is public.
		again := jose.JSONWebKeySet{Keys: lenient.Keys}
		for _, k := range lenient.Keys {
			if !k.IsPublic() || !k.Valid() {
				t.Errorf("accepted %T", k.Key)
			}
		}
		out, err := json.Marshal(again)
		if err != nil {
			t.Fatal(err)
		}
		set, err := jwks.Parse(out, jwks.Strict)
		if len(lenient.Keys) == 0 { // go-jose writes "keys":null
			return
		}
		if err != nil {
			t.Fatalf("refused after a round trip: %v", err)
		}
		if len(set.Keys) != len(lenient.Keys) || len(set.Certificates) != len(lenient.Certificates) {
			t.Errorf("%d keys and %d certificates became %d and %d", len(lenient.Keys), len(lenient.Certificates),
				len(set.Keys), len(set.Certificates))
		}
		for _, der := range lenient.Certificates {
			if _, err := x509.ParseCertificate(der); err != nil {
				t.Error(err)
			}
		}
	})
}
