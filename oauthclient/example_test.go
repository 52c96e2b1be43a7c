package oauthclient_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"log"
	"net/http"
	"time"

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

// Authentication with a signed assertion, and tokens that are bound to a certificate: the
// two are independent (RFC 8705, Section 3).
func ExampleConfig_privateKeyJWT() {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader) // registered in the client's jwks
	if err != nil {
		log.Fatal(err)
	}
	cert, err := oauthclient.GenerateSelfSigned(24 * time.Hour)
	if err != nil {
		log.Fatal(err)
	}
	c, err := oauthclient.New(oauthclient.Config{
		Issuer:       "https://as.example.com",
		ClientID:     "reporting",
		AuthMethod:   oauthclient.PrivateKeyJWT,
		AssertionKey: key, AssertionAlg: "ES256",
		Certificate:        oauthclient.Static(cert),
		RequireBoundTokens: true, // an unbound token is an error, and not a bearer token
		Resources:          []string{"https://api.example.com"},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(c.Thumbprint()))
	// Output: 43
}

// What went wrong, for a program: the endpoint, its status and its code.
func ExampleError() {
	var c *oauthclient.Client // see the Example of the package

	report := func(ctx context.Context) {
		_, err := c.TokenSource(ctx).Token()
		if e, ok := errors.AsType[*oauthclient.Error](err); ok && e.Code == "invalid_client" {
			log.Printf("%s answers %d: %s", e.Endpoint, e.Status, e.Hint) // the hint names the certificate that was sent
		}
	}
	_ = report
}

// A web application on behalf of people. What belongs to a browser stands in its session,
// what belongs to a person in the application's database.
func ExampleClient_Authorize() {
	c, err := oauthclient.New(oauthclient.Config{
		Issuer:      "https://as.example.com",
		ClientID:    "shop",
		AuthMethod:  oauthclient.TLSClientAuth,
		CertFile:    "shop.pem",
		KeyFile:     "shop-key.pem",
		RedirectURI: "https://shop.example.com/callback",
		Scopes:      []string{"openid", "accounts"},
		Resources:   []string{"https://api.example.com"},
		FAPI2:       true,
	})
	if err != nil {
		log.Fatal(err)
	}
	var browserSession interface {
		Put(*oauthclient.Pending)
		Take() *oauthclient.Pending // once
	}
	var save oauthclient.SaveFunc // writes to the database

	http.HandleFunc("GET /login", func(w http.ResponseWriter, r *http.Request) {
		p, err := c.Authorize(r.Context(), oauthclient.AuthorizationParams{})
		if err != nil {
			http.Error(w, "the login does not work at the moment", http.StatusBadGateway)
			return
		}
		browserSession.Put(p)
		http.Redirect(w, r, p.URL, http.StatusSeeOther)
	})
	http.HandleFunc("GET /callback", func(w http.ResponseWriter, r *http.Request) {
		s, err := c.Exchange(r.Context(), browserSession.Take(), r.URL.Query(), save)
		if err != nil {
			http.Error(w, "you are not logged in", http.StatusForbidden)
			return
		}
		resp, err := s.HTTPClient().Get("https://api.example.com/accounts") // refreshes when it is due
		if err != nil {
			http.Error(w, "no accounts", http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		fmt.Fprintln(w, "hello", s.IDToken().Subject)
	})
}
