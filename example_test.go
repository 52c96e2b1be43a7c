package certbound_test

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/certbound/certbound"
	"github.com/certbound/certbound/pkitest"
)

// A token is bound to the certificate of its request, and a stolen token fails.
func Example() {
	client := pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=client"}).Cert
	thief := pkitest.MustSelfSigned(pkitest.LeafOptions{Subject: "CN=client"}).Cert

	// The issuer.
	type claims struct {
		Subject string                 `json:"sub"`
		CNF     certbound.Confirmation `json:"cnf,omitzero"`
	}
	token, _ := json.Marshal(claims{"client-1", certbound.Confirm(client)})

	// The resource.
	var got claims
	if err := json.Unmarshal(token, &got); err != nil {
		fmt.Println(err)
	}
	fmt.Println("client:", got.CNF.Verify(client))
	fmt.Println("thief:", got.CNF.Verify(thief))
	fmt.Println("nobody:", got.CNF.Verify(nil))
	// Output:
	// client: <nil>
	// thief: certbound: token is bound to another certificate
	// nobody: certbound: token is bound to a certificate, but none was presented
}

// A resource that also accepts bearer tokens says so by name.
func ExampleConfirmation_Verify_bearerTokens() {
	var unbound certbound.Confirmation
	err := unbound.Verify(nil)
	if errors.Is(err, certbound.ErrNotBound) {
		err = nil // accepted, because this resource allows it
	}
	fmt.Println(err)
	// Output: <nil>
}
