package certsource_test

import (
	"fmt"
	"net/netip"

	"github.com/certbound/certbound/certsource"
)

// A proxy that follows RFC 9440 and is known by the key of its own TLS certificate, so
// that the certificate can be renewed. Clients that connect directly use their TLS
// connection.
func ExampleNewRFC9440() {
	const edge = "n4bQgYhMfWWaL-qgxVrQFaO_TxsrC4Is0V1sFbDwCgg" // certsource.PublicKeyDigest(cert)

	source, err := certsource.NewRFC9440(certsource.RFC9440Config{
		Hop:    certsource.Hop{PublicKeys: []string{edge}},
		Others: certsource.TLS{},
	})
	fmt.Println(source.Name(), err)
	// Output: rfc9440 <nil>
}

// Only names of the certificate: enough for tls_client_auth clients behind a proxy that is
// said to verify, and for nothing else.
func ExampleNewAttributeFields() {
	source, err := certsource.NewAttributeFields(certsource.AttributeFieldsConfig{
		Hop:          certsource.Hop{Prefixes: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}},
		Verification: certsource.Verification{By: "edge", Anchors: "partners of 2026"},
		SubjectDN:    "SSL_CLIENT_DN",
		DNSyntax:     certsource.DNSyntaxLDAP, // or DNSyntaxLegacy: /C=US/O=Agora/CN=x
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(certsource.Describe(source).Most)
	// Output: attributes
}
