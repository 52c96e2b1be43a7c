package pkitest_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"math/big"
	"net"
	"testing"

	"github.com/certbound/certbound/pkitest"
)

func verify(leaf *pkitest.Leaf, root *pkitest.CA) error {
	pool := x509.NewCertPool()
	for _, c := range leaf.Chain()[1:] {
		pool.AddCert(c)
	}
	_, err := leaf.Cert.Verify(x509.VerifyOptions{
		Roots: root.Pool(), Intermediates: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	return err
}

func TestEachKeyTypeVerifies(t *testing.T) {
	for kind := pkitest.P256; kind <= pkitest.RSA1024; kind++ {
		t.Run(kind.String(), func(t *testing.T) {
			root := pkitest.MustCA(pkitest.CAOptions{Subject: "CN=Root,O=Agora", KeyType: kind})
			issuing := root.MustIntermediate(pkitest.CAOptions{Subject: "CN=Issuing,O=Agora", KeyType: kind, MaxPathLen: new(0)})
			leaf := issuing.MustLeaf(pkitest.LeafOptions{KeyType: kind})
			if err := verify(leaf, root); err != nil {
				t.Fatal(err)
			}
			if _, err := tls.X509KeyPair(leaf.ChainPEM(), leaf.KeyPEM()); err != nil {
				t.Error(err)
			}
			if n := len(leaf.TLS().Certificate); n != 2 {
				t.Errorf("TLS sends %d certificates, want leaf and intermediate", n)
			}
		})
	}
}

func TestDefaultsOfALeaf(t *testing.T) {
	ca := pkitest.MustCA(pkitest.CAOptions{})
	a, b := ca.MustLeaf(pkitest.LeafOptions{}), ca.MustLeaf(pkitest.LeafOptions{})
	if a.Cert.SerialNumber.Cmp(b.Cert.SerialNumber) == 0 || bytes.Equal(a.Cert.RawSubjectPublicKeyInfo, b.Cert.RawSubjectPublicKeyInfo) {
		t.Error("two leaves share serial number or key")
	}
	if a.Cert.SerialNumber.BitLen() != 127 {
		t.Errorf("serial number of %d bits, want 16 octets", a.Cert.SerialNumber.BitLen())
	}
	if a.Cert.IsCA || a.Cert.KeyUsage != x509.KeyUsageDigitalSignature || a.Cert.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth {
		t.Errorf("not a client certificate: %+v", a.Cert)
	}
	server := ca.MustLeaf(pkitest.LeafOptions{Server: true})
	if _, err := server.Cert.Verify(x509.VerifyOptions{Roots: ca.Pool(), DNSName: "localhost"}); err != nil {
		t.Error(err)
	}
	if err := server.Cert.VerifyHostname(net.IPv6loopback.String()); err != nil {
		t.Error(err)
	}
}

func TestName(t *testing.T) {
	got, err := pkitest.Name(`CN=a\,b\2b+UID=#0c0178,O=Agora,C=GB`)
	if err != nil {
		t.Fatal(err)
	}
	cn, uid := asn1.ObjectIdentifier{2, 5, 4, 3}, asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}
	want := pkitest.RawName(
		[]pkitest.Attribute{{Type: asn1.ObjectIdentifier{2, 5, 4, 6}, Tag: asn1.TagPrintableString, Value: []byte("GB")}},
		[]pkitest.Attribute{{Type: asn1.ObjectIdentifier{2, 5, 4, 10}, Tag: asn1.TagUTF8String, Value: []byte("Agora")}},
		[]pkitest.Attribute{{Type: uid, Tag: asn1.TagUTF8String, Value: []byte("x")}, {Type: cn, Tag: asn1.TagUTF8String, Value: []byte("a,b+")}},
	)
	if !bytes.Equal(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
	if empty, err := pkitest.Name(""); err != nil || !bytes.Equal(empty, []byte{0x30, 0}) {
		t.Errorf("empty name: %x, %v", empty, err)
	}
	for _, bad := range []string{"CN", "XX=1", `CN=a\`, "CN=#zz", "CN=\xff", "CN=a,"} {
		if _, err := pkitest.Name(bad); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
}

func TestBrokenCertificates(t *testing.T) {
	for _, algorithm := range []x509.SignatureAlgorithm{x509.SHA1WithRSA, x509.MD5WithRSA, x509.ECDSAWithSHA1} {
		t.Run(algorithm.String(), func(t *testing.T) {
			kind := pkitest.RSA2048
			if algorithm == x509.ECDSAWithSHA1 {
				kind = pkitest.P256
			}
			ca := pkitest.MustCA(pkitest.CAOptions{KeyType: kind})
			leaf := ca.MustLeaf(pkitest.LeafOptions{SignatureAlgorithm: algorithm})
			if leaf.Cert.SignatureAlgorithm != algorithm {
				t.Errorf("signed with %v", leaf.Cert.SignatureAlgorithm)
			}
			if _, ok := errors.AsType[x509.InsecureAlgorithmError](leaf.Cert.CheckSignatureFrom(ca.Cert)); !ok {
				t.Error("crypto/x509 does not call it insecure")
			}
		})
	}
	t.Run("signature", func(t *testing.T) {
		ca := pkitest.MustCA(pkitest.CAOptions{})
		leaf := ca.MustLeaf(pkitest.LeafOptions{})
		if err := leaf.Cert.CheckSignatureFrom(ca.Cert); err != nil {
			t.Fatal(err)
		}
		if err := pkitest.CorruptSignature(leaf.Cert).CheckSignatureFrom(ca.Cert); err == nil {
			t.Error("still verifies")
		}
	})
	t.Run("leaf as CA", func(t *testing.T) {
		ca := pkitest.MustCA(pkitest.CAOptions{})
		forged := ca.MustLeaf(pkitest.LeafOptions{}).AsCA().MustLeaf(pkitest.LeafOptions{})
		if err := verify(forged, ca); err == nil {
			t.Error("crypto/x509 lets a leaf issue")
		}
	})
}

func TestCRL(t *testing.T) {
	ca := pkitest.MustCA(pkitest.CAOptions{})
	first, err := x509.ParseRevocationList(ca.MustCRL())
	if err != nil {
		t.Fatal(err)
	}
	second, err := x509.ParseRevocationList(ca.MustCRL(big.NewInt(7)))
	if err != nil {
		t.Fatal(err)
	}
	if err := second.CheckSignatureFrom(ca.Cert); err != nil {
		t.Error(err)
	}
	if first.Number.Cmp(second.Number) >= 0 || len(first.RevokedCertificateEntries) != 0 ||
		len(second.RevokedCertificateEntries) != 1 || second.RevokedCertificateEntries[0].SerialNumber.Int64() != 7 {
		t.Errorf("lists: %+v, %+v", first, second)
	}
}
