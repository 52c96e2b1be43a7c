package oauthclient_test

import (
	"context"
	"fmt"
	"log"
	"net/http"

	"golang.org/x/oauth2"

	"github.com/certbound/certbound/oauthclient"
)

// A service that calls an API with tokens bound to its certificate. The files may be
// renewed while it runs.
func Example() {
	c, err := oauthclient.New(oauthclient.Config{
		Issuer:     "https://as.example.com",
		ClientID:   "billing",
		AuthMethod: oauthclient.TLSClientAuth,
		CertFile:   "billing.pem",
		KeyFile:    "billing-key.pem",
		Resources:  []string{"https://api.example.com"},
		Scopes:     []string{"accounts"},
	})
	if err != nil {
		log.Fatal(err)
	}
	resp, err := c.HTTPClient().Get("https://api.example.com/accounts")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	fmt.Println(resp.Status)
}

// The same with golang.org/x/oauth2: the transport below has the connections.
func ExampleClient_TokenSource() {
	c, err := oauthclient.New(oauthclient.Config{
		Issuer:        "https://as.example.com",
		ClientID:      "billing",
		AuthMethod:    oauthclient.TLSClientAuth,
		CertFile:      "billing.pem",
		KeyFile:       "billing-key.pem",
		ResourceHosts: []string{"api.example.com"},
	})
	if err != nil {
		log.Fatal(err)
	}
	_ = &http.Client{Transport: &oauth2.Transport{
		Source: c.TokenSource(context.Background()),
		Base:   c.HTTPClient().Transport,
	}}
}

// A public client makes a certificate of its own, so that its tokens are worth nothing to
// a thief.
func ExampleGenerateSelfSigned() {
	cert, err := oauthclient.GenerateSelfSigned(0)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(cert.Certificate), "certificate, names:", len(cert.Leaf.DNSNames))
	// Output: 1 certificate, names: 0
}
