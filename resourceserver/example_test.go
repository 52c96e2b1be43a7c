package resourceserver_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net/http"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/resourceserver"
)

// An API whose requests need a token that is bound to the certificate of the connection.
func Example() {
	v, err := resourceserver.New(resourceserver.Config{
		Resource: "https://api.example.com",
		Issuer:   "https://as.example.com",
		Source:   certsource.TLS{},
	})
	if err != nil {
		log.Fatal(err)
	}
	accounts := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, _ := resourceserver.TokenFromContext(r.Context())
		fmt.Fprintln(w, "hello", token.ClientID)
	})
	mux := http.NewServeMux()
	mux.Handle(v.MetadataPath(), v.MetadataHandler()) // before there is a token
	mux.Handle("/accounts", v.Middleware("accounts")(accounts))

	srv := &http.Server{
		Addr:        ":8443",
		Handler:     mux,
		ConnContext: certsource.ConnContext,
		// Ask for a certificate and demand nothing: the token says which one it is.
		TLSConfig: &tls.Config{ClientAuth: tls.RequestClientCert},
	}
	_ = srv // srv.ListenAndServeTLS("server.pem", "server-key.pem")
}

// The shortest protected API. It answers 401 unless the token belongs to the certificate
// of the connection.
func Example_handler() {
	api := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "hello") })

	v, err := resourceserver.New(resourceserver.Config{
		Resource: "https://api.example.com", Issuer: "https://as.example.com", Source: certsource.TLS{}})
	if err != nil {
		log.Fatal(err)
	}
	srv := &http.Server{
		Handler:     v.Middleware("accounts")(api), // the scope that api needs
		ConnContext: certsource.ConnContext,
		TLSConfig:   &tls.Config{ClientAuth: tls.RequestClientCert}} // asks; the token decides
	log.Fatal(srv.ListenAndServeTLS("api.pem", "api-key.pem"))
}

// A handler that answers refusals itself, and what an accepted request brings.
func ExampleVerifier_VerifyRequest() {
	var v *resourceserver.Verifier // see the Example of the package

	handler := func(w http.ResponseWriter, r *http.Request) {
		access, err := v.VerifyRequest(r, "accounts")
		if e, ok := errors.AsType[*resourceserver.Error](err); ok {
			log.Printf("refused: %s", e.Reason())
			resourceserver.WriteError(w, r, e)
			return
		}
		fmt.Fprintln(w, access.Token.ClientID, access.Token.Scopes, access.Presented.Thumbprint())
	}
	_ = handler
}

// Opaque tokens: the issuer is asked, with the resource server's own certificate.
func Example_introspection() {
	cert, err := tls.LoadX509KeyPair("rs.pem", "rs-key.pem")
	if err != nil {
		log.Fatal(err)
	}
	own := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil },
	}}}
	v, err := resourceserver.New(resourceserver.Config{
		Resource:      "https://api.example.com",
		Issuer:        "https://as.example.com",
		Source:        certsource.TLS{},
		Introspection: &resourceserver.Introspection{ClientID: "api", HTTPClient: own},
	})
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("/", v.Middleware()(http.NotFoundHandler()))
}
