package httpauth_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"

	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/clientauth"
	"github.com/certbound/certbound/clientauth/httpauth"
	"github.com/certbound/certbound/pki"
	"github.com/certbound/certbound/pkitest"
)

// A token endpoint whose clients come with certificates of a partner CA. The look-up
// is a function of the caller.
func Example() {
	ca := pkitest.MustCA(pkitest.CAOptions{Subject: "CN=Partner CA"})
	paths, err := pki.NewValidator(pki.Config{Sets: []pki.Set{{Name: "partners", Anchors: []*x509.Certificate{ca.Cert}}}})
	if err != nil {
		log.Fatal(err)
	}
	registered := map[string]string{"billing": "CN=billing,O=Agora,C=US"}
	auth, err := httpauth.New(httpauth.Config{
		Methods: httpauth.PKI,
		Source:  certsource.TLS{},
		Paths:   paths,
		Subjects: clientauth.SubjectDNs("partners", func(_ context.Context, id string) (string, error) {
			return registered[id], nil
		}),
		Logger: slog.New(slog.DiscardHandler), // in an example only
	})
	if err != nil {
		log.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(auth.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		client, _ := httpauth.ClientFromContext(r.Context())
		fmt.Fprintln(w, "hello", client.ID)
	})))
	srv.Config.ConnContext = certsource.ConnContext
	srv.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	srv.StartTLS()
	defer srv.Close()

	for _, subject := range []string{"CN=billing,O=Agora,C=US", "CN=somebody,O=Agora,C=US"} {
		client := srv.Client()
		cert := ca.MustLeaf(pkitest.LeafOptions{Subject: subject}).TLS()
		transport := client.Transport.(*http.Transport).Clone()
		transport.TLSClientConfig.Certificates = []tls.Certificate{cert}
		client.Transport = transport
		resp, err := client.PostForm(srv.URL, url.Values{"client_id": {"billing"}})
		if err != nil {
			log.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		transport.CloseIdleConnections()
		fmt.Print(resp.StatusCode, " ", string(body))
	}
	// Output:
	// 200 hello billing
	// 400 {"error":"invalid_client","error_description":"client authentication failed"}
}

// One endpoint for clients of both methods, out of one table. Which method a client uses
// is for the table to say.
func ExampleConfig_both() {
	type row struct{ dn, pem string }
	var find func(ctx context.Context, clientID string) (row, error)
	var paths *pki.Validator

	auth, err := httpauth.New(httpauth.Config{
		Methods: httpauth.Both,
		Source:  certsource.TLS{},
		Paths:   paths,
		Subjects: clientauth.SubjectDNs("partners", func(ctx context.Context, id string) (string, error) {
			r, err := find(ctx, id)
			return r.dn, err // "" is a client that this look-up does not know
		}),
		Certificates: clientauth.Certificates(func(ctx context.Context, id string) ([]*x509.Certificate, error) {
			r, err := find(ctx, id)
			if err != nil || r.pem == "" {
				return nil, err // nil: not known here
			}
			return pki.ParsePEM(id, []byte(r.pem))
		}),
	})
	_, _ = auth, err
}

// Certificates first, then another scheme. What the certificate lacked stands in the
// context, so that whoever refuses in the end can say so.
func ExampleRefusal_Continue() {
	var isPassword func(r *http.Request) bool // of a client that is not registered for mutual TLS

	cfg := httpauth.Config{
		Refuse: func(w http.ResponseWriter, r *http.Request, f *httpauth.Refusal) { f.Continue(w, r) },
	}
	_ = cfg
	token := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if client, ok := httpauth.ClientFromContext(r.Context()); ok {
			fmt.Fprintln(w, "a token for", client.ID)
			return
		}
		if r.Header.Get("Authorization") != "" && isPassword(r) {
			fmt.Fprintln(w, "a token")
			return
		}
		if f, ok := httpauth.RefusalFromContext(r.Context()); ok {
			f.Respond(w, r)
		}
	})
	_ = token
}

// Clients in a table of your own, and the listener that goes with it.
func ExampleNew() {
	var partnersPEM []byte // the CAs that issue for partners
	var subjectOf func(ctx context.Context, clientID string) (string, error)
	var token http.Handler

	anchors, err := pki.ParsePEM("partners.pem", partnersPEM)
	if err != nil {
		log.Fatal(err)
	}
	paths, err := pki.NewValidator(pki.Config{Sets: []pki.Set{{Name: "partners", Anchors: anchors}}})
	if err != nil {
		log.Fatal(err)
	}
	auth, err := httpauth.New(httpauth.Config{
		Methods: httpauth.PKI,
		Source:  certsource.TLS{},
		Paths:   paths,
		Subjects: clientauth.SubjectDNs("partners", func(ctx context.Context, id string) (string, error) {
			return subjectOf(ctx, id) // "CN=billing,O=Agora,C=US", or "" if unknown
		}),
	})
	if err != nil {
		log.Fatal(err)
	}
	srv := &http.Server{
		Handler:     certsource.RequireAuthority(auth.Handler(token)),
		ConnContext: certsource.ConnContext,
		TLSConfig:   &tls.Config{ClientAuth: tls.RequestClientCert}, // asks, demands nothing; ClientCAs stays nil
	}
	_ = srv
}
