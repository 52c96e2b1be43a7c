package certsource_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"weak"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/pkitest"
)

// Behind a proxy that forwards large fields, a flooder sends self-signed certificates of
// 20 kB with 4,000 URIs each, which take 700 kB when they are parsed. The memory of decoded
// values counted 30 kB for each, and so held hundreds. It counts what is really kept.
func TestAttackFatCertificatesInTheMemory(t *testing.T) {
	src, err := certsource.NewRFC9440(certsource.RFC9440Config{Hop: certsource.Hop{Prefixes: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}})
	if err != nil {
		t.Fatal(err)
	}
	const sent = 60
	var seen []weak.Pointer[x509.Certificate]
	for i := range sent {
		var names []asn1.RawValue
		for range 4000 {
			names = append(names, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte("a:")})
		}
		san, err := asn1.Marshal(names)
		if err != nil {
			t.Fatal(err)
		}
		leaf := pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: fmt.Sprintf("CN=fat %d", i),
			Extra: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: san}}})
		p, err := src.Certificate(request(t, "127.0.0.1:1", "Client-Cert", ":"+base64.StdEncoding.EncodeToString(leaf.Cert.Raw)+":"))
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, weak.Make(p.Leaf()))
	}
	runtime.GC()
	held := 0
	for _, p := range seen {
		if p.Value() != nil {
			held++
		}
	}
	runtime.KeepAlive(src)
	if held == 0 || held > 14 {
		t.Errorf("%d of %d are held, want as many as 8 MB have room for", held, sent)
	}
}
