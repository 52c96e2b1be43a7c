package jwks_test

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"testing"

	"github.com/certbound/certbound/jwks"
	"github.com/certbound/certbound/pkitest"
)

// A hostile client serves a key set of 240 kB whose x5c has 45,000 URIs: 7 MB when it is
// parsed, which stayed in the cache as long as the URL did. The cache holds the DER now.
func TestAttackFatKeySets(t *testing.T) {
	var names []asn1.RawValue
	for range 1000 {
		names = append(names, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte("a:")})
	}
	san, err := asn1.Marshal(names)
	if err != nil {
		t.Fatal(err)
	}
	leaf := pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=fat",
		Extra: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: san}}})
	key, err := jwks.FromCertificate(leaf.Cert.Raw)
	if err != nil {
		t.Fatal(err)
	}
	document, err := json.Marshal(map[string]any{"keys": []any{key}})
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, text(string(document)))
	set := get(t, newFetcher(s, newClock()), s.URL)
	if len(set.Keys) != 1 || len(set.Certificates) != 1 || !bytes.Equal(set.Certificates[0], leaf.Cert.Raw) {
		t.Fatalf("%d keys, %d certificates", len(set.Keys), len(set.Certificates))
	}
	if set.Keys[0].Certificates != nil {
		t.Error("the parsed certificate is kept")
	}
}
