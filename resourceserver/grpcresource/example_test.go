package grpcresource_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"log"
	"net"

	"golang.org/x/oauth2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/oauthclient"
	"github.com/certbound/certbound/resourceserver"
	"github.com/certbound/certbound/resourceserver/grpcresource"
)

// A gRPC server whose calls need a token that is bound to the certificate of the
// connection. Health checks pass without.
func Example() {
	v, err := resourceserver.New(resourceserver.Config{
		Resource: "https://api.example.com",
		Issuer:   "https://as.example.com",
		Source:   certsource.TLS{},
	})
	if err != nil {
		log.Fatal(err)
	}
	i, err := grpcresource.New(grpcresource.Config{
		Verifier: v,
		Methods: map[string][]string{
			"/agora.v1.Accounts/*":      {"accounts"},
			"/agora.v1.Accounts/Delete": {"accounts", "admin"},
		},
		Exempt: []string{"/grpc.health.v1.Health/*"},
	})
	if err != nil {
		log.Fatal(err)
	}
	cert, err := tls.LoadX509KeyPair("api.pem", "api-key.pem")
	if err != nil {
		log.Fatal(err)
	}
	// Ask for a certificate and demand nothing: the token says which one it is.
	creds := credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequestClientCert})
	srv := grpc.NewServer(append(i.ServerOptions(), grpc.Creds(creds))...)
	grpc_health_v1.RegisterHealthServer(srv, health.NewServer())
	// … and the other services; then:
	if err := i.Check(srv); err != nil { // a method that nobody can call, a misspelled rule
		log.Fatal(err)
	}
	l, err := net.Listen("tcp", ":8443")
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(srv.Serve(l))
}

// What a handler finds.
func ExampleInterceptor_Unary() {
	list := func(ctx context.Context) {
		token, _ := resourceserver.TokenFromContext(ctx)
		p, _ := resourceserver.PresentedFromContext(ctx)
		fmt.Println(token.ClientID, token.HasScope("admin"), p.Thumbprint())
	}
	_ = list
}

// perRPC sends the tokens of a source with each call. It is on purpose that gRPC refuses to
// send them over a connection without TLS.
type perRPC struct{ source oauth2.TokenSource }

func (c perRPC) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	token, err := c.source.Token()
	if err != nil {
		return nil, err
	}
	return map[string]string{"authorization": "Bearer " + token.AccessToken}, nil
}

func (perRPC) RequireTransportSecurity() bool { return true }

// A gRPC client: the connection has the certificate that the tokens are bound to. A
// connection keeps the certificate that it began with, so that a program that renews
// its certificate makes a new ClientConn then, and closes the old one when its calls have
// ended (RFC 8705, Section 6.3).
func Example_client() {
	cert, err := tls.LoadX509KeyPair("client.pem", "client-key.pem")
	if err != nil {
		log.Fatal(err)
	}
	client, err := oauthclient.New(oauthclient.Config{
		Issuer:      "https://as.example.com",
		ClientID:    "billing",
		AuthMethod:  oauthclient.TLSClientAuth,
		Certificate: oauthclient.Static(cert),
		Scopes:      []string{"accounts"},
		Resources:   []string{"https://api.example.com"},
	})
	if err != nil {
		log.Fatal(err)
	}
	conn, err := grpc.NewClient("dns:///api.example.com:8443",
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil },
		})),
		grpc.WithPerRPCCredentials(perRPC{client.TokenSource(context.Background())}))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
}
