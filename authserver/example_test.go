package authserver_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"net/http"
	"slices"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/authserver/memstore"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/clientauth"
	"github.com/certbound/certbound/decision"
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

// The parts of RFC 8705 that a caller can take over. Each hook stands in for one part,
// and the others stay what they were.
func ExampleMTLSFeature() {
	inventory := func(ctx context.Context, clientID string, cert *x509.Certificate) (bool, error) { return false, nil }

	mtls := authserver.MTLSFeature{
		Enabled: true, TLSClientAuth: true, SelfSignedTLSClientAuth: true, CertificateBoundAccessTokens: true,

		// Where the certificate comes from, in place of Config.Source. No certificate is the
		// zero value; an error refuses the request.
		Certificate: func(r *http.Request) (authserver.HookCertificate, error) {
			if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
				return authserver.HookCertificate{}, nil
			}
			certs := r.TLS.PeerCertificates
			return authserver.HookCertificate{Certificate: certs[0], Chain: certs[1:]}, nil
		},
		// Whether it is genuine, in place of Config.Paths.
		CertificateAuthorized: func(ctx context.Context, q authserver.HookQuestion) (bool, error) {
			return inventory(ctx, q.ClientID, q.Certificate)
		},
		// Whether it is this client's, in place of the comparison of names.
		CertificateSubjectMatches: func(_ context.Context, q authserver.HookQuestion) (bool, error) {
			switch q.Property {
			case "tls_client_auth_san_dns":
				return slices.Contains(q.Certificate.DNSNames, q.Expected), nil
			default:
				return false, fmt.Errorf("no client is registered with %s here", q.Property)
			}
		},
	}
	_ = mtls // Config.MTLS
}

// A registration is checked by the same rules wherever it comes from. All faults are
// reported at once, each with the member that it is in.
func ExampleParseMetadata() {
	rules := authserver.Rules{
		Methods:     []string{clientauth.TLSClientAuth},
		Switches:    authserver.MTLSFeature{Enabled: true, TLSClientAuth: true, CertificateBoundAccessTokens: true},
		BoundTokens: true,
		Scopes:      []string{"read"},
	} // of a running server: Server.Rules

	_, err := authserver.ParseMetadata([]byte(`{
		"client_id": "billing",
		"token_endpoint_auth_method": "tls_client_auth",
		"tls_client_auth_subject_dn": "CN=billing,O=Agora",
		"tls_client_auth_san_dns": "billing.agora.example",
		"scope": "read write"
	}`), rules, true)
	if me, ok := errors.AsType[*authserver.MetadataError](err); ok {
		for _, f := range me.Faults {
			fmt.Println(f.Member+":", f.Fault)
		}
	}
	// Output:
	// token_endpoint_auth_method: tls_client_auth needs exactly one of the five subject members, found tls_client_auth_subject_dn and tls_client_auth_san_dns
	// scope: the server has no scope "write"
}

// A client with a secret. The server keeps a hash; the secret is shown once.
func ExampleNewSecret() {
	ctx, store := context.Background(), memstore.New()
	secret, hash := authserver.NewSecret()
	err := store.CreateClient(ctx, &authserver.Client{
		ID: "batch", AuthMethod: authserver.ClientSecretBasic, SecretHash: hash,
		BoundTokens: true, Scope: "read", // the token is bound to a certificate all the same
	})
	fmt.Println(err, len(secret))
	// Output: <nil> 53
}

// Every judgement, for metrics and audits: d is complete and must not be changed.
func ExampleConfig_observer() {
	refused := map[decision.Reason]int{} // a real one is safe for concurrent use
	cfg := authserver.Config{
		Observer: func(_ context.Context, d *decision.Decision) {
			if !d.Allowed {
				refused[d.Reason()]++
			}
		},
	}
	_ = cfg
}
