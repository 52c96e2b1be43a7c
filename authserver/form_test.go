package authserver

import (
	"crypto/x509"
	"encoding/base64"
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/certbound/certbound/pkitest"
)

func TestParseForm(t *testing.T) {
	for _, tc := range []struct {
		name, body string
		want       form
		fault      bool
	}{
		{"empty", "", nil, false},
		{"plain", "a=b&c=d", form{{"a", "b"}, {"c", "d"}}, false},
		{"escaped", "a+b=%C3%A4%26&c=", form{{"a b", "ä&"}, {"c", ""}}, false},
		{"without equals", "a", form{{"a", ""}}, false},
		{"empty pairs", "&&a=1&", form{{"a", "1"}}, false},
		{"semicolon is a character", "a=1;b=2", form{{"a", "1;b=2"}}, false},
		{"resource may repeat", "resource=1&resource=2", form{{"resource", "1"}, {"resource", "2"}}, false},
		{"others may not", "a=1&a=1", nil, true},
		{"not even without a value", "a=1&a=", nil, true},
		{"not in another spelling", "client_id=1&client%5Fid=2", nil, true},
		{"broken escape", "a=%zz", nil, true},
		{"half an escape", "a=%4", nil, true},
		{"not UTF-8", "a=%ff", nil, true},
		{"raw octets", "a=\xff", nil, true},
		{"too many", strings.Repeat("resource=1&", 65), nil, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := parseForm(tc.body, 64)
			if _, ok := errors.AsType[*formError](err); ok != tc.fault {
				t.Fatalf("error %v", err)
			}
			if len(got) != len(tc.want) {
				t.Fatalf("found %q", got)
			}
			for i := range got {
				if got[i] != tc.want[i] {
					t.Errorf("found %q", got)
				}
			}
		})
	}
}

func FuzzForm(f *testing.F) {
	f.Add("grant_type=client_credentials&client_id=c-dn&scope=read+write")
	f.Add("resource=https%3A%2F%2Frs.test&resource=x&a=%C3%A4&b")
	f.Add("a=%zz&%=&=&;&a=1&a=2")
	f.Fuzz(func(t *testing.T, body string) {
		got, err := parseForm(body, 64)
		if err != nil {
			if _, ok := errors.AsType[*formError](err); !ok || got != nil {
				t.Errorf("%T, %v", err, got)
			}
			return
		}
		// What is accepted means the same to net/url, which also takes semicolons
		// for an error.
		if !strings.Contains(body, ";") {
			want, err := url.ParseQuery(body)
			if err != nil {
				t.Fatalf("accepted %q, net/url says %v", body, err)
			}
			for _, p := range got {
				if want.Get(p.name) != p.value && p.name != "resource" {
					t.Errorf("%q: %q, net/url has %q", p.name, p.value, want.Get(p.name))
				}
			}
		}
		var b strings.Builder
		for _, p := range got {
			b.WriteString("&" + url.QueryEscape(p.name) + "=" + url.QueryEscape(p.value))
		}
		again, err := parseForm(b.String(), 64)
		if err != nil || len(again) != len(got) {
			t.Errorf("%q after encoding: %v", again, err)
		}
	})
}

// FuzzAssertion reads assertions before their signature is known.
func FuzzAssertion(f *testing.F) {
	f.Add("eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJjLXBraiJ9.AAAA")
	f.Add("eyJhbGciOiJub25lIn0.eyJzdWIiOiJjLXBraiJ9.")
	f.Add("..")
	f.Add("a.eyJzdWIiOjF9.b")
	algs := []jose.SignatureAlgorithm{jose.ES256, jose.PS256, jose.EdDSA, jose.RS256}
	f.Fuzz(func(t *testing.T, assertion string) {
		sub := assertionSubject(assertion)
		if sub != "" && strings.Count(assertion, ".") != 2 {
			t.Errorf("subject %q of %q", sub, assertion)
		}
		token, fault := parseAssertion(assertion, algs)
		if (token == nil) != (fault != "") {
			t.Errorf("token %v beside fault %q", token, fault)
		}
		if token != nil && (len(token.Headers) != 1 || token.Headers[0].Algorithm == "none" || strings.HasPrefix(token.Headers[0].Algorithm, "HS")) {
			t.Errorf("headers %v", token.Headers)
		}
	})
}

func FuzzBasic(f *testing.F) {
	f.Add("Basic Yy1zZWM6c2VjcmV0")
	f.Add("basic  Og==")
	f.Add("Bearer x")
	f.Fuzz(func(t *testing.T, header string) {
		id, secret, ok := parseBasic(header)
		if !ok {
			if id != "" || secret != "" {
				t.Errorf("%q %q beside a failure", id, secret)
			}
			return
		}
		again := "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(id)+":"+url.QueryEscape(secret)))
		if id2, secret2, ok := parseBasic(again); !ok || id2 != id || secret2 != secret {
			t.Errorf("%q %q after encoding: %q %q", id, secret, id2, secret2)
		}
	})
}

// FuzzHookPEM reads what the hook Certificate returns.
func FuzzHookPEM(f *testing.F) {
	leaf := pkitest.MustCA(pkitest.CAOptions{}).MustIntermediate(pkitest.CAOptions{}).MustLeaf(pkitest.LeafOptions{})
	f.Add(leaf.CertPEM())
	f.Add(leaf.ChainPEM())
	f.Add(leaf.KeyPEM())
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		hc, err := parseHookPEM(data)
		if err != nil {
			if !errors.Is(err, errHookPEM) || hc.Certificate != nil || hc.Chain != nil {
				t.Errorf("%v beside %v", hc, err)
			}
			return
		}
		again, err := parseHookPEM(pkitest.PEM(append([]*x509.Certificate{hc.Certificate}, hc.Chain...)...))
		if err != nil || !again.Certificate.Equal(hc.Certificate) || len(again.Chain) != len(hc.Chain) {
			t.Errorf("after encoding: %v", err)
		}
	})
}

func TestLRU(t *testing.T) {
	l := lru[int, string]{limit: 3}
	for i := range 3 {
		l.put(i, "x")
	}
	l.get(0)
	l.put(3, "y") // 1 was used longest ago
	for key, want := range map[int]bool{0: true, 1: false, 2: true, 3: true} {
		if _, ok := l.get(key); ok != want {
			t.Errorf("%d is there: %v", key, ok)
		}
	}
	l.put(3, "z")
	if v, _ := l.get(3); v != "z" || len(l.entries) != 3 {
		t.Errorf("%q, %d entries", v, len(l.entries))
	}
	for i := range 1000 {
		l.put(i, "")
		l.remove(i - 1)
	}
	if len(l.entries) != 3 && len(l.entries) != 1 {
		t.Errorf("%d entries", len(l.entries))
	}
	l.clear()
	l.put(1, "x")
	if v, ok := l.get(1); !ok || v != "x" {
		t.Error("not usable after clear")
	}
}
