package revocation_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http/httptest"

	"github.com/certbound/certbound/pki"
	"github.com/certbound/certbound/pki/revocation"
	"github.com/certbound/certbound/pkitest"
)

func Example() {
	ca := pkitest.MustCA(pkitest.CAOptions{Subject: "CN=Client CA,O=Agora"})
	client := ca.MustLeaf(pkitest.LeafOptions{Subject: "CN=client-1,O=Agora"})
	revocations := pkitest.NewRevocations(ca)
	revocations.Revoke(client.Cert, 1)
	server := httptest.NewServer(revocations.CRLHandler())
	defer server.Close()

	checker, err := revocation.New(revocation.Config{
		Set:   "clients",
		Mode:  revocation.CRL,
		Lists: []string{server.URL},
	})
	if err != nil {
		panic(err)
	}
	// In a server: go checker.Run(ctx).
	validator, err := pki.NewValidator(pki.Config{Sets: []pki.Set{{
		Name: "clients", Anchors: []*x509.Certificate{ca.Cert}, Revocation: checker,
	}}})
	if err != nil {
		panic(err)
	}
	_, err = validator.Verify(context.Background(), "clients", pki.Chain{Leaf: client.Cert})
	if e, ok := errors.AsType[*pki.Error](err); ok {
		fmt.Println(e.Reason, e.Reason.Summary())
	}
	// Output: revoked the certificate is revoked
}
