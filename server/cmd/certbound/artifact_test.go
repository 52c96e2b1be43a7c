package main

import (
	"bytes"
	"encoding/base64"
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/certbound/certbound/pkitest"
)

func TestRecognise(t *testing.T) {
	ca := pkitest.MustCA(pkitest.CAOptions{Subject: "CN=Root"})
	mid := ca.MustIntermediate(pkitest.CAOptions{Subject: "CN=Issuing"})
	leaf := mid.MustLeaf(pkitest.LeafOptions{Subject: "CN=billing"})
	pem, chain := string(leaf.CertPEM()), string(leaf.ChainPEM())
	b64 := base64.StdEncoding.EncodeToString(leaf.Cert.Raw)
	midB64 := base64.StdEncoding.EncodeToString(mid.Cert.Raw)
	escaped := url.PathEscape(pem)
	tests := []struct {
		name  string
		in    string
		certs int
		token bool
		set   bool
		fault string // empty if it is recognised
	}{
		{name: "PEM", in: pem, certs: 1},
		{name: "PEM with CRLF and BOM", in: "\xef\xbb\xbf" + strings.ReplaceAll(pem, "\n", "\r\n"), certs: 1},
		{name: "chain", in: chain, certs: 2},
		{name: "PEM with text around", in: "subject=CN = billing\n" + pem + "trailer", certs: 1},
		{name: "PEM with key", in: string(leaf.KeyPEM()) + pem, certs: 1},
		{name: "DER", in: string(leaf.Cert.Raw), certs: 1},
		{name: "two DER", in: string(leaf.Cert.Raw) + string(mid.Cert.Raw), certs: 2},
		{name: "escaped", in: escaped, certs: 1},
		{name: "escaped, a plus is a plus", in: strings.ReplaceAll(escaped, "%2B", "+"), certs: 1},
		{name: "header line", in: "X-Amzn-Mtls-Clientcert: " + escaped, certs: 1},
		{name: "spaces for line ends", in: strings.ReplaceAll(pem, "\n", " "), certs: 1},
		{name: "tabs after line ends", in: strings.ReplaceAll(pem, "\n", "\n\t"), certs: 1},
		{name: `\n for line ends`, in: strings.ReplaceAll(pem, "\n", `\n`), certs: 1},
		{name: "byte sequence", in: ":" + b64 + ":", certs: 1},
		{name: "list of byte sequences", in: "Client-Cert-Chain: :" + b64 + ":, :" + midB64 + ":", certs: 2},
		{name: "base64", in: b64, certs: 1},
		{name: "base64 without padding, wrapped", in: strings.TrimRight(b64[:64]+"\n"+b64[64:], "="), certs: 1},
		{name: "JWT", in: "eyJhbGciOiJFUzI1NiJ9.e30.c2ln\n", token: true},
		{name: "bearer", in: "Authorization: Bearer eyJhbGciOiJFUzI1NiJ9.e30.c2ln", token: true},
		{name: "token answer", in: `{"access_token":"a.b.c","token_type":"Bearer"}`, token: true},
		{name: "JWK set", in: `{"keys":[]}`, set: true},
		{name: "JWK", in: `{"kty":"EC"}`, set: true},
		{name: "registration", in: `{"client_id":"x","jwks":{"keys":[]}}`, set: true},

		{name: "empty", in: " \n", fault: "empty"},
		{name: "key", in: string(leaf.KeyPEM()), fault: "private key"},
		{name: "request", in: "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", fault: "certificate request"},
		{name: "cut off", in: pem[:200], fault: "END line"},
		{name: "not base64", in: "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n", fault: "not base64"},
		{name: "not a certificate", in: ":AAAA:", fault: "X.509"},
		{name: "plus became a space", in: ":" + strings.Replace(b64, "M", " ", 1) + ":", fault: "base64"},
		{name: "no colons", in: ":" + b64, fault: "colons"},
		{name: "encrypted", in: "a.b.c.d.e", fault: "encrypted"},
		{name: "two parts", in: "a.b", fault: "2 parts"},
		{name: "opaque", in: `{"access_token":"xyz"}`, fault: "not a JWT"},
		{name: "other JSON", in: `{"a":1}`, fault: "neither"},
		{name: "broken JSON", in: "{\n\"a\":}", fault: "line 2"},
		{name: "list", in: `[1]`, fault: "not an object"},
		{name: "prose", in: "hello, world", fault: "neither"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := recognise([]byte(tt.in))
			if tt.fault != "" {
				e, ok := errors.AsType[*artifactError](err)
				if !ok || got != nil || !strings.Contains(e.Fault, tt.fault) || e.Hint == "" {
					t.Fatalf("got %+v, %v; want a fault with %q and a hint", got, err, tt.fault)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(got.certs) != tt.certs || (got.token != "") != tt.token || (got.set != nil) != tt.set {
				t.Errorf("got %d certificates, token %v, set %v", len(got.certs), got.token != "", got.set != nil)
			}
			if tt.certs > 0 && !got.certs[0].Equal(leaf.Cert) {
				t.Errorf("the first certificate is %s", got.certs[0].Subject)
			}
		})
	}
}

func TestInspectShowsNoSecret(t *testing.T) {
	leaf := pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=x"})
	key := strings.Split(string(leaf.KeyPEM()), "\n")[1]
	var stdout, stderr bytes.Buffer
	in := bytes.NewReader(append(leaf.KeyPEM(), leaf.CertPEM()...))
	if code := run(t.Context(), []string{"inspect", "-"}, in, &stdout, &stderr); code != exitDone {
		t.Fatalf("exit code %d: %s", code, stderr.String())
	}
	if strings.Contains(stdout.String()+stderr.String(), key[:20]) {
		t.Error("a private key is on the screen")
	}
	if !strings.Contains(stderr.String(), "private key too") {
		t.Errorf("the key is not mentioned: %s", stderr.String())
	}
}

// Text of others reaches a terminal without control characters.
func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"CN=x": "CN=x", "Zoë": "Zoë", "a\x1b[31mb": `a\u001b[31mb`, "a\u202eb": `a\u202eb`, "a\xffb": `a\xffb`, "a\tb": `a\u0009b`,
	} {
		if got := printable(in); got != want {
			t.Errorf("printable(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzRecognise(f *testing.F) {
	leaf := pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=x"})
	b64 := base64.StdEncoding.EncodeToString(leaf.Cert.Raw)
	for _, seed := range []string{
		string(leaf.CertPEM()), url.PathEscape(string(leaf.CertPEM())), string(leaf.Cert.Raw), ":" + b64 + ":", b64,
		"eyJhbGciOiJFUzI1NiJ9.e30.c2ln", `{"keys":[{"kty":"EC"}]}`, `{"access_token":"a.b.c"}`, `{"active":true,"cnf":{"x5t#S256":"x"}}`,
		"-----BEGIN CERTIFICATE-----", "Client-Cert: ::", `{"jwks":{"jwks":{}}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := recognise(data)
		if err != nil {
			if got != nil {
				t.Errorf("an artifact beside error %v", err)
			}
			if _, ok := errors.AsType[*artifactError](err); !ok {
				t.Errorf("undeclared error type %T", err)
			}
			return
		}
		if len(got.certs) == 0 && got.token == "" && got.set == nil && got.claims == nil {
			t.Error("recognised, but nothing is there")
		}
		// What is shown holds no control character.
		report, err := inspectArtifact(got)
		if err != nil {
			return
		}
		var out bytes.Buffer
		a := newApp(nil, &out, &out)
		a.printInspection(report)
		if strings.ContainsAny(out.String(), "\x1b\x00\x07\x7f") {
			t.Errorf("control characters in %q", out.String())
		}
	})
}
