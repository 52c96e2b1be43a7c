package resourceserver_test

import (
	"crypto/tls"
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
