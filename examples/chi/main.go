// Command chi is an API on chi that takes only tokens bound to the caller's certificate.
package main

import (
	"crypto/tls"
	"fmt"
	"log"
	"net/http"

	"github.com/go-chi/chi/v5"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/resourceserver"
)

func routes(v *resourceserver.Verifier) http.Handler {
	r := chi.NewRouter()
	r.Handle(v.MetadataPath(), v.MetadataHandler()) // before there is a token
	r.With(v.Middleware("accounts")).Get("/accounts", func(w http.ResponseWriter, r *http.Request) {
		token, _ := resourceserver.TokenFromContext(r.Context())
		fmt.Fprintln(w, "hello", token.ClientID)
	})
	r.With(v.Middleware("accounts", "admin")).Delete("/accounts", func(http.ResponseWriter, *http.Request) {})
	return r
}

func main() {
	v, err := resourceserver.New(resourceserver.Config{
		Resource: "https://api.example.com",
		Issuer:   "https://as.example.com",
		Source:   certsource.TLS{},
	})
	if err != nil {
		log.Fatal(err)
	}
	srv := &http.Server{
		Addr:        ":8443",
		Handler:     routes(v),
		ConnContext: certsource.ConnContext,
		TLSConfig:   &tls.Config{ClientAuth: tls.RequestClientCert}, // asks; the token decides
	}
	log.Fatal(srv.ListenAndServeTLS("api.pem", "api-key.pem"))
}
