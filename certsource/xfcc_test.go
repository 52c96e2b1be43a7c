package certsource_test

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/decision"
)

func hashOf(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

func quoted(certs ...*x509.Certificate) string {
	var text []byte
	for _, c := range certs {
		text = append(text, pemOf(c)...)
	}
	return `"` + escape(string(text)) + `"`
}

func TestXFCC(t *testing.T) {
	hash, others := "Hash="+hashOf(client.Cert), "Hash="+hashOf(other.Cert)
	const (
		malformed   = decision.SourceMalformed
		few         = decision.SourceTooFewHops
		contradicts = decision.SourceContradiction
	)
	tests := []struct {
		name  string
		hops  int
		value string
		want  decision.Reason
		kind  certsource.Kind
		chain int
	}{
		{"the digest only", 1, hash, "", certsource.KindFingerprint, 0},
		{"what Envoy sends by default", 1, `By=spiffe://cluster.local/ns/default/sa/backend;` + hash + `;Subject="CN=client,O=Agora";URI=spiffe://cluster.local/ns/default/sa/client`, "", certsource.KindFingerprint, 0},
		{"the certificate", 1, hash + `;Cert=` + quoted(client.Cert), "", certsource.KindCertificate, 0},
		{"the certificate without quotes", 1, `Cert=` + escape(string(client.CertPEM())), "", certsource.KindCertificate, 0},
		{"the chain", 1, `Chain=` + quoted(client.Cert, middle.Cert, root.Cert), "", certsource.KindCertificate, 2},
		{"all three", 1, hash + `;Cert=` + quoted(client.Cert) + `;Chain=` + quoted(client.Cert, middle.Cert), "", certsource.KindCertificate, 1},
		{"keys in any case", 1, `hAsH=` + hashOf(client.Cert) + `;CERT=` + quoted(client.Cert), "", certsource.KindCertificate, 0},
		{"the digest in upper case", 1, "Hash=" + strings.ToUpper(hashOf(client.Cert)), "", certsource.KindFingerprint, 0},
		{"several names", 1, `URI=spiffe://a/b;URI=spiffe://a/c;DNS=a.example;DNS=b.example;` + hash, "", certsource.KindFingerprint, 0},
		{"separators in quotes", 1, `Subject="CN=a,b;c=d \"e\" \\";` + hash, "", certsource.KindFingerprint, 0},
		{"an equals sign in a URI", 1, `URI=spiffe://a/b?c=d;` + hash, "", certsource.KindFingerprint, 0},
		{"empty quotes", 1, `Subject="";` + hash, "", certsource.KindFingerprint, 0},
		{"a key that is not known", 1, `Future=1;` + hash, "", certsource.KindFingerprint, 0},

		{"the last of two", 1, others + "," + hash, "", certsource.KindFingerprint, 0},
		{"the last of two after a space", 1, others + ", " + hash, "", certsource.KindFingerprint, 0},
		{"the first of two", 2, hash + "," + others, "", certsource.KindFingerprint, 0},
		{"the second of three", 2, others + "," + hash + "," + others, "", certsource.KindFingerprint, 0},
		{"one fewer than the hops, from a client without a certificate", 2, hash, decision.NoCertificate, 0, 0},
		{"two fewer than the hops", 3, hash, few, 0, 0},
		{"far fewer than the hops", 16, hash + "," + hash, few, 0, 0},
		{"what the client put in front does not count", 1, `By=x;` + others + `;Cert=` + quoted(other.Cert) + "," + hash, "", certsource.KindFingerprint, 0},

		{"nothing of use", 1, `By=spiffe://a/b;URI=spiffe://a/c`, malformed, 0, 0},
		{"nothing of use in the element that counts", 2, `By=x,` + hash, malformed, 0, 0},
		{"the digest twice", 1, hash + ";" + hash, malformed, 0, 0},
		{"the digest twice, once empty", 1, "Hash=;" + hash, malformed, 0, 0},
		{"the certificate twice", 1, `Cert=` + quoted(other.Cert) + `;cert=` + quoted(client.Cert), malformed, 0, 0},
		{"another digest than the certificate's", 1, others + `;Cert=` + quoted(client.Cert), contradicts, 0, 0},
		{"another chain than the certificate's", 1, `Cert=` + quoted(client.Cert) + `;Chain=` + quoted(other.Cert, middle.Cert), contradicts, 0, 0},
		{"two certificates in Cert", 1, `Cert=` + quoted(client.Cert, middle.Cert), malformed, 0, 0},
		{"a digest of SHA-1", 1, "Hash=" + hashOf(client.Cert)[:40], malformed, 0, 0},
		{"a digest that is too long", 1, hash + "00", malformed, 0, 0},
		{"an empty digest", 1, "Hash=", malformed, 0, 0},
		{"an empty certificate", 1, hash + `;Cert=""`, malformed, 0, 0},
		{"PEM that was decoded", 1, `Cert="` + strings.ReplaceAll(string(client.CertPEM()), "\n", " ") + `"`, decision.SourceHalfDecoded, 0, 0},
		{"no key", 1, hashOf(client.Cert), malformed, 0, 0},
		{"an empty key", 1, "=x;" + hash, malformed, 0, 0},
		{"an empty element", 1, "," + hash, malformed, 0, 0},
		{"an empty last element", 1, hash + ",", malformed, 0, 0},
		{"an empty pair", 1, hash + ";", malformed, 0, 0},
		{"a space in a key", 1, "Ha sh=x;" + hash, malformed, 0, 0},
		{"text after the quotes", 1, `Subject="a"b;` + hash, malformed, 0, 0},
		{"a quote in a value", 1, `Subject=a"b";` + hash, malformed, 0, 0},
		{"a hundred elements and more", 1, strings.Repeat("By=x,", 100) + hash, decision.SourceTooLarge, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			src := preset(t, "xfcc", func(c *certsource.PresetConfig) { c.TrustedHops = tt.hops })
			for range 2 {
				got, err := src.Certificate(request(t, proxy, "x-forwarded-client-cert", tt.value))
				if reason(err) != tt.want || err != nil && got != nil {
					t.Fatalf("%v (%v), want %q", got.Thumbprint(), err, tt.want)
				}
				if err == nil && (got.Kind() != tt.kind || got.Thumbprint() != certbound.Thumbprint(client.Cert) || len(got.Chain()) != tt.chain) {
					t.Errorf("%s %s and %d more", got.Kind(), got.Thumbprint(), len(got.Chain()))
				}
			}
		})
	}
}

// A client in front of an Envoy that appends sends an element with an open quote, to hide
// what Envoy appends, or so much that the proxy's element becomes part of its own. A
// parser that looks from the right, or splits at every comma, takes the client's word.
func TestAttackXFCCOpenQuote(t *testing.T) {
	t.Attr("attack", "2 16")
	appended := `,By=spiffe://agora.example/edge;Hash=` + hashOf(other.Cert) + `;Cert=` + quoted(other.Cert) + `;Subject="CN=other"`
	victim := "Hash=" + hashOf(client.Cert)
	src := preset(t, "xfcc", nil)
	for _, sent := range []string{
		victim + `;Subject="`,
		victim + `;Subject="\`,
		victim + `;Cert="`,
		victim + `;X="a\"`,
		victim + `,Subject="` + victim,
		`Subject="` + victim + `,` + victim,
		victim + `;`,
		victim + `,`,
		victim + `;URI=`,
		`"`,
		`\`,
	} {
		got, err := src.Certificate(request(t, proxy, "X-Forwarded-Client-Cert", sent+appended))
		if err == nil && got.Thumbprint() != certbound.Thumbprint(other.Cert) {
			t.Errorf("%s: the client became somebody else", sent)
		}
		if err != nil && reason(err) != decision.SourceMalformed {
			t.Errorf("%s: %v", sent, err)
		}
	}
}

// The element that counts is the same whether its neighbours are there or not.
func FuzzXFCC(f *testing.F) {
	leaf, issuer := vector(f, "leaf.pem"), vector(f, "intermediate.pem")
	for _, s := range []string{
		"Hash=" + hashOf(leaf), `By=a;Hash=` + hashOf(leaf) + `;Cert=` + quoted(leaf) + `;Chain=` + quoted(leaf, issuer) + `;Subject="CN=\"a\",O=b"`,
		"Hash=" + hashOf(leaf) + ",Hash=" + hashOf(issuer), `Subject="`, `a=b;c="d\\";e=`, "=", ",", ";", `Cert=""`, `Cert="%2`,
	} {
		f.Add(s)
	}
	one := preset(f, "xfcc", nil)
	two := preset(f, "xfcc", func(c *certsource.PresetConfig) { c.TrustedHops = 2 })
	f.Fuzz(func(t *testing.T, value string) {
		const field = "X-Forwarded-Client-Cert"
		got := fuzzSource(t, one, map[string][]string{field: {value}})
		if got == nil {
			return
		}
		canonical := "Hash=" + strings.ToLower(hexOf(got.Thumbprint()))
		if got.Kind() == certsource.KindCertificate {
			canonical += ";Chain=" + quoted(append([]*x509.Certificate{got.Leaf()}, got.Chain()...)...)
		}
		if again := fuzzSource(t, one, map[string][]string{field: {canonical}}); again.Thumbprint() != got.Thumbprint() || again.Kind() != got.Kind() || again.Digest() != got.Digest() {
			t.Errorf("%q became another certificate", value)
		}
		if behind := fuzzSource(t, two, map[string][]string{field: {value + ",By=next"}}); behind.Thumbprint() != got.Thumbprint() {
			t.Errorf("%q: another certificate, when the next hop has appended its element", value)
		}
	})
}

func hexOf(thumbprint string) string {
	sum, err := base64.RawURLEncoding.DecodeString(thumbprint)
	if err != nil {
		return ""
	}
	return hex.EncodeToString(sum)
}
