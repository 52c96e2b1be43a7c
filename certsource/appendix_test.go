package certsource_test

import (
	"bufio"
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/certbound/certbound/certsource"
)

// appendix is the request of RFC 9440, Appendix A, as if the proxy had sent it.
func appendix(t testing.TB) *http.Request {
	t.Helper()
	raw, err := os.ReadFile("../testdata/rfc9440/appendix-a.http")
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
	if err != nil {
		t.Fatal(err)
	}
	r := request(t, proxy)
	r.Header = parsed.Header
	return r
}

func vector(t testing.TB, file string) *x509.Certificate {
	t.Helper()
	data, err := os.ReadFile("../testdata/rfc9440/" + file)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestRFC9440AppendixA(t *testing.T) {
	src, err := certsource.NewRFC9440(certsource.RFC9440Config{Hop: byAddress})
	if err != nil {
		t.Fatal(err)
	}
	leaf, intermediate, anchor := vector(t, "leaf.pem"), vector(t, "intermediate.pem"), vector(t, "root.pem")
	full := appendix(t)
	short := appendix(t)
	short.Header.Set("Client-Cert-Chain", item(intermediate))

	t.Run("Client-Cert", func(t *testing.T) {
		t.Attr("requirement", "TV-5a H-2.1-4")
		value := full.Header.Get("Client-Cert")
		if value != item(leaf) || len(value) != 574 {
			t.Errorf("the field is not the certificate in colons, 574 characters: %d", len(value))
		}
		p, err := src.Certificate(full)
		if err != nil || !leaf.Equal(p.Leaf()) {
			t.Errorf("%v (%v)", p.Thumbprint(), err)
		}
	})
	t.Run("chain with root", func(t *testing.T) {
		t.Attr("requirement", "TV-57a H-A-1")
		p, err := src.Certificate(full)
		if err != nil || len(p.Chain()) != 2 || !p.Chain()[0].Equal(intermediate) || !p.Chain()[1].Equal(anchor) {
			t.Errorf("%d certificates (%v)", len(p.Chain()), err)
		}
	})
	t.Run("chain without root", func(t *testing.T) {
		t.Attr("requirement", "TV-57b")
		p, err := src.Certificate(short)
		if err != nil || len(p.Chain()) != 1 || !p.Chain()[0].Equal(intermediate) {
			t.Errorf("%d certificates (%v)", len(p.Chain()), err)
		}
	})
	verify := func(t *testing.T, at time.Time) error {
		p, err := src.Certificate(short)
		if err != nil {
			t.Fatal(err)
		}
		roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
		roots.AddCert(anchor)
		for _, c := range p.Chain() {
			intermediates.AddCert(c)
		}
		_, err = p.Leaf().Verify(x509.VerifyOptions{
			Roots: roots, Intermediates: intermediates, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		})
		return err
	}
	t.Run("path in 2020", func(t *testing.T) {
		t.Attr("requirement", "TV-57c")
		if err := verify(t, time.Date(2020, 6, 1, 0, 0, 0, 0, time.UTC)); err != nil {
			t.Error(err)
		}
	})
	t.Run("path today", func(t *testing.T) {
		t.Attr("requirement", "TV-57d")
		if err := verify(t, time.Now()); err == nil || !strings.Contains(err.Error(), "expired") {
			t.Errorf("%v, want expired", err)
		}
	})
	t.Run("padding removed", func(t *testing.T) {
		r := appendix(t)
		r.Header.Set("Client-Cert", strings.ReplaceAll(item(leaf), "=", ""))
		p, err := src.Certificate(r)
		if err != nil || !leaf.Equal(p.Leaf()) {
			t.Errorf("%v (%v)", p.Thumbprint(), err)
		}
	})
}
