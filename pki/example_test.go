package pki_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log"

	"github.com/certbound/certbound/pki"
	"github.com/certbound/certbound/pkitest"
)

// Two CAs of one organization, each trusted for its own clients only.
func Example() {
	apps := pkitest.MustCA(pkitest.CAOptions{Subject: "CN=Apps,O=Agora"})
	partners := pkitest.MustCA(pkitest.CAOptions{Subject: "CN=Partners,O=Agora"})
	validator, err := pki.NewValidator(pki.Config{Sets: []pki.Set{
		{Name: "apps", Anchors: []*x509.Certificate{apps.Cert}},
		{Name: "partners", Anchors: []*x509.Certificate{partners.Cert}},
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	leaf := apps.MustLeaf(pkitest.LeafOptions{Subject: "CN=billing,O=Agora"})
	presented := pki.Chain{Leaf: leaf.Cert}

	verdict, err := validator.Verify(context.Background(), "apps", presented)
	fmt.Println(len(verdict.Path), err)

	_, err = validator.Verify(context.Background(), "partners", presented)
	if e, ok := errors.AsType[*pki.Error](err); ok {
		fmt.Println(e.Reason)
		fmt.Println(e.Found)
	}
	// Output:
	// 2 <nil>
	// chain_incomplete
	// the issuer CN=Apps,O=Agora, which is not an anchor, not a helper and was not presented
}

// Anchors in files, by the name that registrations use. A broken file at start is an
// error; one that breaks later keeps the old set, loudly.
func ExampleNewFileWatcher() {
	validator, err := pki.NewValidator(pki.Config{})
	if err != nil {
		log.Fatal(err)
	}
	watcher, err := pki.NewFileWatcher(validator, pki.WatchConfig{Sets: []pki.FileSet{
		{Name: "partners", AnchorFiles: []string{"trust/partners"}, HelperFiles: []string{"trust/intermediates.pem"}},
	}})
	if err != nil {
		log.Fatal(err) // each fault with file and line
	}
	go watcher.Run(context.Background())
}
