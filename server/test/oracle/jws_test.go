package oracle

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"

	"github.com/certbound/certbound/internal/jws"
)

const jwsClaims = `{"iss":"https://as.test","sub":"c-dn","aud":"https://rs.test","exp":4000000000,"iat":1999999700,` +
	`"jti":"0123456789abcdef0123456789abcdef","client_id":"c-dn","scope":"read write",` +
	`"cnf":{"x5t#S256":"A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0"}}`

func jwsKeys(t testing.TB) map[string]crypto.Signer {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]crypto.Signer{jws.ES256: ec, jws.PS256: rs, jws.RS256: rs, jws.EdDSA: ed}
}

// What we sign, golang-jwt verifies with the same claims, and the reverse.
func TestJWSAgainstGolangJWT(t *testing.T) {
	for alg, key := range jwsKeys(t) {
		t.Run(alg, func(t *testing.T) {
			var claims jwt.MapClaims
			if err := json.Unmarshal([]byte(jwsClaims), &claims); err != nil {
				t.Fatal(err)
			}
			signer, err := jws.NewSigner(alg, "at+jwt", "k1", key)
			if err != nil {
				t.Fatal(err)
			}
			ours, err := signer.Sign([]byte(jwsClaims))
			if err != nil {
				t.Fatal(err)
			}
			token, err := jwt.Parse(ours, func(*jwt.Token) (any, error) { return key.Public(), nil }, jwt.WithValidMethods([]string{alg}))
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := json.Marshal(token.Claims); string(got) != mustJSON(t, claims) {
				t.Errorf("golang-jwt reads %s", got)
			}
			if token.Header["typ"] != "at+jwt" || token.Header["kid"] != "k1" {
				t.Errorf("golang-jwt reads header %v", token.Header)
			}

			method := jwt.GetSigningMethod(alg)
			if method == nil {
				t.Fatal("golang-jwt does not know it")
			}
			theirs, err := jwt.NewWithClaims(method, claims).SignedString(key)
			if err != nil {
				t.Fatal(err)
			}
			parsed, err := jws.Parse(theirs, 16<<10)
			if err != nil {
				t.Fatal(err)
			}
			if err := parsed.Verify(key.Public()); err != nil {
				t.Error(err)
			}
			var back jwt.MapClaims
			if err := json.Unmarshal(parsed.Payload, &back); err != nil {
				t.Fatal(err)
			}
			if mustJSON(t, back) != mustJSON(t, claims) {
				t.Errorf("we read %s", parsed.Payload)
			}
		})
	}
}

func mustJSON(t *testing.T, v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// Why there is code of our own: an issuer's bug or a claim that a client controls puts
// a second cnf into a token, and golang-jwt takes the last one.
func TestJWSDuplicateMembers(t *testing.T) {
	key := jwsKeys(t)[jws.ES256]
	signer, err := jws.NewSigner(jws.ES256, "at+jwt", "k1", key)
	if err != nil {
		t.Fatal(err)
	}
	token, err := signer.Sign([]byte(strings.TrimSuffix(jwsClaims, "}") + `,"cnf":{"x5t#S256":"thief"}}`))
	if err != nil {
		t.Fatal(err)
	}
	if parsed, err := jws.Parse(token, 16<<10); err == nil {
		t.Errorf("we accept %s", parsed.Payload)
	}
	lenient, err := jwt.Parse(token, func(*jwt.Token) (any, error) { return key.Public(), nil })
	if err != nil {
		t.Fatalf("golang-jwt refuses it by now (%v); think again whether we need our own", err)
	}
	if cnf := lenient.Claims.(jwt.MapClaims)["cnf"].(map[string]any); cnf["x5t#S256"] != "thief" {
		t.Errorf("golang-jwt reads %v", cnf)
	}
}

// The cost of a token, by library.
func BenchmarkJWS(b *testing.B) {
	key := jwsKeys(b)[jws.ES256]
	type claims struct {
		jwt.RegisteredClaims
		ClientID string            `json:"client_id"`
		Scope    string            `json:"scope"`
		Cnf      map[string]string `json:"cnf"`
	}
	var c claims
	if err := json.Unmarshal([]byte(jwsClaims), &c); err != nil {
		b.Fatal(err)
	}
	signer, err := jws.NewSigner(jws.ES256, "at+jwt", "k1", key)
	if err != nil {
		b.Fatal(err)
	}
	compact, err := signer.Sign([]byte(jwsClaims))
	if err != nil {
		b.Fatal(err)
	}
	joseSigner, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, (&jose.SignerOptions{}).WithType("at+jwt"))
	if err != nil {
		b.Fatal(err)
	}
	for _, bench := range []struct {
		name string
		do   func() error
	}{
		{"sign/own", func() error {
			payload, err := json.Marshal(&c)
			if err != nil {
				return err
			}
			_, err = signer.Sign(payload)
			return err
		}},
		{"sign/golang-jwt", func() error {
			_, err := jwt.NewWithClaims(jwt.SigningMethodES256, &c).SignedString(key)
			return err
		}},
		{"sign/go-jose", func() error {
			payload, err := json.Marshal(&c)
			if err != nil {
				return err
			}
			object, err := joseSigner.Sign(payload)
			if err != nil {
				return err
			}
			_, err = object.CompactSerialize()
			return err
		}},
		{"verify/own", func() error {
			token, err := jws.Parse(compact, 16<<10)
			if err != nil {
				return err
			}
			if err := token.Verify(key.Public()); err != nil {
				return err
			}
			return json.Unmarshal(token.Payload, new(claims))
		}},
		{"verify/golang-jwt", func() error {
			_, err := jwt.ParseWithClaims(compact, new(claims), func(*jwt.Token) (any, error) { return key.Public(), nil },
				jwt.WithValidMethods([]string{"ES256"}))
			return err
		}},
		{"verify/go-jose", func() error {
			object, err := jose.ParseSignedCompact(compact, []jose.SignatureAlgorithm{jose.ES256})
			if err != nil {
				return err
			}
			payload, err := object.Verify(key.Public())
			if err != nil {
				return err
			}
			return json.Unmarshal(payload, new(claims))
		}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := bench.do(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
