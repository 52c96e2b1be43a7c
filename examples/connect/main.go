// Command connect is an API on connect, which also speaks gRPC and gRPC-Web, that takes only tokens bound to the caller's certificate.
package main

import (
	"context"
	"crypto/tls"
	"log"
	"net/http"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/resourceserver"
)

// With generated code the pattern and the handler come from NewAccountsHandler.
func routes(v *resourceserver.Verifier) http.Handler {
	mux := http.NewServeMux()
	mux.Handle(v.MetadataPath(), v.MetadataHandler()) // before there is a token
	mux.Handle(list, v.Middleware("accounts")(connect.NewUnaryHandler(list, hello)))
	mux.Handle(remove, v.Middleware("accounts", "admin")(connect.NewUnaryHandler(remove, hello)))
	return mux
}

const list, remove = "/agora.v1.Accounts/List", "/agora.v1.Accounts/Remove"

func hello(ctx context.Context, _ *connect.Request[emptypb.Empty]) (*connect.Response[wrapperspb.StringValue], error) {
	token, _ := resourceserver.TokenFromContext(ctx)
	return connect.NewResponse(wrapperspb.String("hello " + token.ClientID)), nil
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
