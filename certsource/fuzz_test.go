package certsource_test

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"

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

func BenchmarkForeign(b *testing.B) {
	r := request(b, proxy, "Accept", "*/*", "Content-Type", "application/x-www-form-urlencoded", "User-Agent", "x", "X-Request-Id", "1", "Cache-Control", "no-cache")
	b.ReportAllocs()
	for b.Loop() {
		if certsource.Foreign(r) != nil {
			b.Fatal("reported")
		}
	}
}
