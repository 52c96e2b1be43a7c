package negative_test

import (
	"testing"

	"github.com/certbound/certbound/pkitest"
	"github.com/certbound/certbound/pkitest/negative"
)

// A test of your deployment: the CA is made by the test, and the deployment is started
// with it as the anchor of the client.
func ExampleRun() {
	test := func(t *testing.T) {
		ca := pkitest.MustCA(pkitest.CAOptions{Subject: "CN=Test clients,O=Agora"})
		// Start the deployment here, with ca.CertPEM() as its anchors and a client that is
		// registered with tls_client_auth_subject_dn CN=billing,O=Agora.
		negative.Run(t, negative.Target{
			TokenURL:  "https://mtls.as.example/token",
			PublicURL: "https://as.example/.well-known/oauth-authorization-server",
			Resources: []string{"https://api.example/"},
			ClientID:  "billing",
			CA:        ca,
			Client:    pkitest.LeafOptions{Subject: "CN=billing,O=Agora"},
			// What your own proxy calls the field.
			HeaderNames: []string{"X-Edge-Client-Cert"},
		})
	}
	_ = test // go test calls it: func TestNegative(t *testing.T) { … }
	// Output:
}
