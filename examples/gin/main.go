// Command gin is an API on gin that takes only tokens bound to the caller's certificate.
package main

import (
	"crypto/tls"
	"log"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/resourceserver"
)

func routes(v *resourceserver.Verifier) http.Handler {
	r := gin.New()
	r.Any(v.MetadataPath(), gin.WrapH(v.MetadataHandler())) // before there is a token
	r.GET("/accounts", wrap(v.Middleware("accounts")), func(c *gin.Context) {
		token, _ := resourceserver.TokenFromContext(c.Request.Context())
		c.String(http.StatusOK, "hello %s\n", token.ClientID)
	})
	r.DELETE("/accounts", wrap(v.Middleware("accounts", "admin")), func(*gin.Context) {})
	return r
}

// wrap makes a gin handler of net/http middleware.
func wrap(middleware func(http.Handler) http.Handler) gin.HandlerFunc {
	return func(c *gin.Context) {
		passed := false
		next := func(_ http.ResponseWriter, r *http.Request) { passed, c.Request = true, r }
		middleware(http.HandlerFunc(next)).ServeHTTP(c.Writer, c.Request)
		if !passed {
			c.Abort() // it has been answered
		}
	}
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
