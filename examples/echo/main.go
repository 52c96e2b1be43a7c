// Command echo is an API on echo that takes only tokens bound to the caller's certificate.
package main

import (
	"crypto/tls"
	"log"
	"net/http"

	"github.com/labstack/echo/v5"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/resourceserver"
)

func routes(v *resourceserver.Verifier) http.Handler {
	e := echo.New()
	e.GET(v.MetadataPath(), echo.WrapHandler(v.MetadataHandler())) // before there is a token
	e.GET("/accounts", func(c *echo.Context) error {
		token, _ := resourceserver.TokenFromContext(c.Request().Context())
		return c.String(http.StatusOK, "hello "+token.ClientID+"\n")
	}, echo.WrapMiddleware(v.Middleware("accounts")))
	e.DELETE("/accounts", func(*echo.Context) error { return nil },
		echo.WrapMiddleware(v.Middleware("accounts", "admin")))
	return e
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
