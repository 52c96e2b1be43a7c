package subject_test

import (
	"fmt"

	"github.com/certbound/certbound/pki/subject"
	"github.com/certbound/certbound/pkitest"
)

func ExampleExpected_Match() {
	leaf := pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=payments,O=Agora"})

	for _, registered := range []string{"cn=Payments, o=AGORA", "O=Agora,CN=payments"} {
		expected, err := subject.New(subject.DN, registered)
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(expected.Match(leaf.Cert))
	}
	// Output:
	// <nil>
	// subject: tls_client_auth_subject_dn: expected "O=Agora,CN=payments", found "CN=payments,O=Agora"; the same attributes in reversed order: the registered text is written in the other direction (RFC 4514 begins with the last RDN of the certificate)
}

func ExampleNew() {
	_, err := subject.New(subject.DN, "/C=US/O=Agora/CN=x")
	fmt.Println(err)
	// Output:
	// subject: tls_client_auth_subject_dn: "/C=US/O=Agora/CN=x": at 0: OpenSSL's one-line form is not RFC 4514; write CN=x,O=Agora,C=US
}
