package authserver_test

import (
	"context"
	"crypto/tls"
	"log"
	"net/http"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/authserver/memstore"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/clientauth"
	"github.com/certbound/certbound/pki"
)

// An authorization server with one client, on two listeners.
func Example() {
	paths, err := pki.NewValidator(pki.Config{ /* Sets: the CAs of your clients */ })
	if err != nil {
		log.Fatal(err)
	}
	s, err := authserver.New(authserver.Config{
		Issuer:           "https://as.example.com",
		MTLSBaseURL:      "https://mtls.as.example.com",
		Store:            memstore.New(),
		Source:           certsource.TLS{},
		Paths:            paths,
		DefaultAnchorSet: "clients",
		MTLS:             authserver.MTLSFeature{Enabled: true, TLSClientAuth: true, CertificateBoundAccessTokens: true},
		AuthMethods:      []string{clientauth.TLSClientAuth},
		Scopes:           []string{"read"},
		Resources:        []string{"https://api.example.com"},
		Clients: []*authserver.Client{{
			ID: "reporting", AuthMethod: clientauth.TLSClientAuth, SubjectDN: "CN=reporting,O=Agora",
			BoundTokens: true, Scope: "read",
		}},
	})
	if err != nil {
		log.Fatal(err) // every wrong setting, at once
	}
	go func() { log.Fatal(s.Run(context.Background())) }()

	serve := func(addr string, h http.Handler, auth tls.ClientAuthType) {
		srv := &http.Server{
			Addr: addr, Handler: certsource.RequireAuthority(h), ConnContext: certsource.ConnContext,
			TLSConfig: &tls.Config{ClientAuth: auth},
		}
		log.Fatal(srv.ListenAndServeTLS("server.pem", "server.key"))
	}
	go serve(":8443", s.Handler(), tls.NoClientCert)
	serve(":8444", s.MTLSHandler(), tls.RequestClientCert)
}
