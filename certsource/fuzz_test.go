package certsource_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/pkitest"
)

// The seeds are the certificates of RFC 9440, which are the same in every process.

// fuzzSource asks src for the certificate of a request of the proxy with these lines of
// one field, twice, and checks what holds for every value.
func fuzzSource(t *testing.T, src certsource.Source, header http.Header) *certsource.Presented {
	r := request(t, proxy)
	r.Header = header
	got, err := src.Certificate(r)
	if err != nil {
		if got != nil {
			t.Errorf("%s beside error %v", got.Kind(), err)
		}
		if !isDeclared(err) {
			t.Errorf("undeclared error %T: %v", err, err)
		}
		return nil
	}
	again, err := src.Certificate(r)
	if err != nil || again.Thumbprint() != got.Thumbprint() || again.Digest() != got.Digest() {
		t.Errorf("another certificate from the same value (%v)", err)
	}
	if len(got.Chain()) > 9 {
		t.Errorf("%d certificates", len(got.Chain())+1)
	}
	return got
}

func FuzzClientCert(f *testing.F) {
	src, err := certsource.NewRFC9440(certsource.RFC9440Config{Hop: byAddress})
	if err != nil {
		f.Fatal(err)
	}
	leaf := item(vector(f, "leaf.pem"))
	for _, s := range []string{"", "::", leaf, leaf + ";x", " " + leaf, leaf + "," + leaf, strings.ReplaceAll(leaf, "=", ""), ":aGk=:", leaf[1:]} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		got := fuzzSource(t, src, http.Header{"Client-Cert": {value}})
		if got == nil {
			return
		}
		// What was accepted means the same as its canonical form.
		canonical := fuzzSource(t, src, http.Header{"Client-Cert": {item(got.Leaf())}})
		if canonical.Thumbprint() != got.Thumbprint() {
			t.Errorf("%q: %s became %s", value, got.Thumbprint(), canonical.Thumbprint())
		}
	})
}

func FuzzClientCertChain(f *testing.F) {
	src, err := certsource.NewRFC9440(certsource.RFC9440Config{Hop: byAddress})
	if err != nil {
		f.Fatal(err)
	}
	first, second, third := vector(f, "leaf.pem"), vector(f, "intermediate.pem"), vector(f, "root.pem")
	leaf, issuer := item(first), item(second)
	for _, s := range []string{"", issuer, issuer + "\n" + item(third), issuer + ", " + issuer, leaf, issuer + ",", issuer + ";a=1", strings.Repeat(issuer+",", 20) + issuer, "a", "::"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, lines string) {
		got := fuzzSource(t, src, http.Header{"Client-Cert": {leaf}, "Client-Cert-Chain": strings.Split(lines, "\n")})
		if got == nil {
			return
		}
		if !got.Leaf().Equal(first) {
			t.Error("the chain has changed the leaf")
		}
		var canonical []string
		for _, c := range got.Chain() {
			if c.Equal(first) {
				t.Error("the leaf is in its chain")
			}
			canonical = append(canonical, item(c))
		}
		again := fuzzSource(t, src, http.Header{"Client-Cert": {leaf}, "Client-Cert-Chain": canonical})
		if again.Digest() != got.Digest() {
			t.Errorf("%q became another chain", lines)
		}
	})
}

func FuzzHeaderPEM(f *testing.F) {
	file := string(pkitest.PEM(vector(f, "leaf.pem")))
	text := strings.ReplaceAll(file, "\n", " ")
	for _, s := range []string{text, text + text, escape(file), "(null)", "-----BEGIN CERTIFICATE-----", text[:100], "%2", strings.Repeat(text, 12)} {
		f.Add(s, false)
		f.Add(s, true)
	}
	source := func(format certsource.HeaderFormat) certsource.Source {
		src, err := certsource.NewHeaderField(certsource.HeaderFieldConfig{Hop: byAddress, Field: "X-Cert", Format: format})
		if err != nil {
			f.Fatal(err)
		}
		return src
	}
	plain, percent := source(certsource.FormatPEM), source(certsource.FormatEscapedPEM)
	f.Fuzz(func(t *testing.T, value string, escaped bool) {
		src, encode := plain, func(s string) string { return s }
		if escaped {
			src, encode = percent, escape
		}
		got := fuzzSource(t, src, http.Header{"X-Cert": {value}})
		if got == nil {
			return
		}
		again := fuzzSource(t, src, http.Header{"X-Cert": {encode(string(pkitest.PEM(got.Leaf())))}})
		if again.Thumbprint() != got.Thumbprint() {
			t.Errorf("%q: %s became %s", value, got.Thumbprint(), again.Thumbprint())
		}
	})
}

func FuzzHeaderDER(f *testing.F) {
	der := base64.StdEncoding.EncodeToString(vector(f, "leaf.pem").Raw)
	for _, s := range []string{der, strings.TrimRight(der, "="), ":" + der + ":", `"` + der + `"`, "", "(null)", "aGk=", der[:50], der + "\n"} {
		f.Add(s)
	}
	src, err := certsource.NewHeaderField(certsource.HeaderFieldConfig{Hop: byAddress, Field: "X-Cert", Format: certsource.FormatDER})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, value string) {
		got := fuzzSource(t, src, http.Header{"X-Cert": {value}})
		if got == nil {
			return
		}
		again := fuzzSource(t, src, http.Header{"X-Cert": {base64.StdEncoding.EncodeToString(got.Leaf().Raw)}})
		if !bytes.Equal(again.Leaf().Raw, got.Leaf().Raw) {
			t.Errorf("%q became another certificate", value)
		}
	})
}

// Every preset, from the fields that its hop sends: the certificate, the chain, and what
// the hop says of it. What was accepted is what the hop would send for the same
// certificates.
func FuzzPresets(f *testing.F) {
	type target struct {
		preset certsource.Preset
		source certsource.Source
		verify string
		chain  string
	}
	leaf, issuer := vector(f, "leaf.pem"), vector(f, "intermediate.pem")
	var targets []target
	for i, p := range certsource.Presets() {
		t := target{preset: p, source: preset(f, p.Name, nil), verify: p.VerifyField, chain: p.ChainField}
		if t.verify == "" && len(p.Flags) > 0 {
			t.verify = p.Flags[0]
		}
		if strings.HasSuffix(t.chain, "-") {
			t.chain += "0"
		}
		targets = append(targets, t)
		for _, sent := range []http.Header{p.Forward(leaf, issuer), p.Forward(issuer)} {
			f.Add(uint8(i), sent.Get(fieldOf(p)), sent.Get(t.chain), sent.Get(t.verify))
			f.Add(uint8(i), sent.Get(fieldOf(p))+" ", strings.ReplaceAll(sent.Get(t.chain), "+", " "), "NONE")
		}
		f.Add(uint8(i), "", "", "0")
		f.Add(uint8(i), `""`, "(null)", "FAILED:x")
	}
	f.Fuzz(func(t *testing.T, i uint8, value, chain, verify string) {
		target := targets[int(i)%len(targets)]
		sent := target.preset.Forward(leaf)
		for name, v := range map[string]string{fieldOf(target.preset): value, target.chain: chain, target.verify: verify} {
			if name != "" {
				sent.Set(name, v)
			}
		}
		for name := range sent { // a digest of the other certificate would refuse everything
			if strings.HasSuffix(name, "-Sha256") && target.preset.Most == certsource.KindCertificate {
				sent.Del(name)
			}
		}
		got := fuzzSource(t, target.source, sent)
		if got == nil || got.Kind() != certsource.KindCertificate || target.preset.Name == "xfcc" { // XFCC has its own
			return
		}
		again := fuzzSource(t, target.source, target.preset.Forward(got.Leaf(), got.Chain()...))
		if again.Thumbprint() != got.Thumbprint() {
			t.Errorf("%s: %q became another certificate", target.preset.Name, value)
		}
		if again != nil && len(again.Chain()) > 0 && again.Digest() != got.Digest() {
			t.Errorf("%s: %q became another chain", target.preset.Name, chain)
		}
	})
}

// fieldOf is the field with the certificate in what the preset forwards.
func fieldOf(p certsource.Preset) string {
	switch {
	case p.Most == certsource.KindAttributes:
		return "X-SSL-Client-S-DN"
	case p.Field == "":
		return "X-Client-Cert"
	}
	return p.Field
}

func BenchmarkTLS(b *testing.B) {
	r := over(request(b, proxy), client)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := (certsource.TLS{}).Certificate(r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRFC9440(b *testing.B) {
	src, err := certsource.NewRFC9440(certsource.RFC9440Config{Hop: byAddress})
	if err != nil {
		b.Fatal(err)
	}
	r := request(b, proxy, "Client-Cert", item(client.Cert), "Client-Cert-Chain", item(middle.Cert))
	b.Run("known", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := src.Certificate(r); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("new", func(b *testing.B) {
		pad := 0
		b.ReportAllocs()
		for b.Loop() {
			pad++
			r.Header["Client-Cert"] = []string{strings.Repeat(" ", pad%4000) + item(client.Cert)}
			if _, err := src.Certificate(r); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// What each source costs for a request: of a certificate that was seen before, which is
// every request of a kept-alive connection but the first, and of a new one.
func BenchmarkPresets(b *testing.B) {
	for _, p := range certsource.Presets() {
		r := from(b, proxy, p.Forward(client.Cert, middle.Cert))
		for name, value := range map[string]string{"Accept": "*/*", "User-Agent": "x", "Content-Type": "application/x-www-form-urlencoded", "Content-Length": "30", "X-Forwarded-For": "203.0.113.1", "X-Request-Id": "1"} {
			r.Header.Set(name, value)
		}
		b.Run(p.Name+"/known", func(b *testing.B) {
			src := preset(b, p.Name, nil)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := src.Certificate(r); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(p.Name+"/new", func(b *testing.B) {
			src := preset(b, p.Name, nil)
			forget := certsource.Forget(src)
			b.ReportAllocs()
			for b.Loop() {
				forget()
				if _, err := src.Certificate(r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// What it costs to know the proxy, beside reading the field.
func BenchmarkHop(b *testing.B) {
	for name, hop := range map[string]certsource.Hop{
		"prefix":     byAddress,
		"thumbprint": {Thumbprints: []string{certbound.Thumbprint(named.Cert)}},
		"key":        {PublicKeys: []string{certsource.PublicKeyDigest(named.Cert)}},
		"spiffe": {SPIFFEIDs: []string{"spiffe://agora.example/edge"},
			VerifyProxy: func(context.Context, *x509.Certificate, []*x509.Certificate) error { return nil }},
	} {
		b.Run(name, func(b *testing.B) {
			src := preset(b, "caddy", func(c *certsource.PresetConfig) { c.Hop = hop })
			r := request(b, proxy, "X-SSL-Client-Cert", base64.StdEncoding.EncodeToString(client.Cert.Raw))
			if name != "prefix" {
				over(r, named)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := src.Certificate(r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkForeign(b *testing.B) {
	r := request(b, proxy, "Accept", "*/*", "Content-Type", "application/x-www-form-urlencoded", "User-Agent", "x", "X-Request-Id", "1", "Cache-Control", "no-cache")
	b.ReportAllocs()
	for b.Loop() {
		if certsource.Foreign(r) != nil {
			b.Fatal("reported")
		}
	}
}
