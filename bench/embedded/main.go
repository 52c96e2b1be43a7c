// Embedded is package authserver in a small main of its own, as somebody who embeds it
// would write one, with settings that the growth measurements vary: the store, the
// number of registered clients, and of anchor sets.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/authserver/memstore"
	"github.com/certbound/certbound/bench/material"
	"github.com/certbound/certbound/certsource"
	"github.com/certbound/certbound/pki"
	"github.com/certbound/certbound/pkitest"
	"github.com/certbound/certbound/server/store/sqlite"
)

var (
	database = flag.String("sqlite", "", "SQLite file; in memory if empty")
	clients  = flag.Int("clients", 1, "registered clients; those after the first are named c0000001 and so on")
	sets     = flag.Int("sets", 1, "anchor sets; the client's is the last")
)

func main() { material.Serve(setUp) }

func setUp(dir string) (string, http.Handler, *http.Server, *tls.Config, error) {
	fail := func(err error) (string, http.Handler, *http.Server, *tls.Config, error) {
		return "", nil, nil, nil, err
	}
	ctx := context.Background()
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))

	var store authserver.Store = memstore.New()
	if *database != "" {
		s, err := sqlite.Open(ctx, sqlite.Config{Path: *database, Logger: logger})
		if err != nil {
			return fail(err)
		}
		store = s
	}
	anchors, err := anchorSets(dir)
	if err != nil {
		return fail(err)
	}
	paths, err := pki.NewValidator(pki.Config{Sets: anchors, Logger: logger})
	if err != nil {
		return fail(err)
	}
	if err := register(ctx, store, anchors[len(anchors)-1].Name); err != nil {
		return fail(err)
	}
	as, err := authserver.New(authserver.Config{
		Issuer: "https://as.test",
		Store:  store,
		Source: certsource.TLS{},
		Paths:  paths,
		MTLS: authserver.MTLSFeature{
			Enabled: true, TLSClientAuth: true, CertificateBoundAccessTokens: true,
		},
		AuthMethods:              []string{"tls_client_auth"},
		Scopes:                   []string{material.Scope},
		Resources:                []string{material.Resource},
		TokenLifetime:            material.TokenLifetime,
		CapLifetimeAtCertificate: true,
		Logger:                   logger,
	})
	if err != nil {
		return fail(err)
	}
	go func() {
		if err := as.Run(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "embedded:", err)
			os.Exit(1)
		}
	}()
	time.Sleep(100 * time.Millisecond) // Run has begun; until then requests read the store
	return "/token", as.MTLSHandler(), &http.Server{ConnContext: certsource.ConnContext},
		&tls.Config{ClientAuth: tls.RequestClientCert}, nil
}

// anchorSets returns the CA of the client as the last of as many sets as asked for.
func anchorSets(dir string) ([]pki.Set, error) {
	data, err := os.ReadFile(filepath.Join(dir, material.CAFile))
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("no CA")
	}
	ca, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	var list []pki.Set
	for i := range *sets - 1 {
		other, err := pkitest.NewCA(pkitest.CAOptions{Subject: fmt.Sprintf("CN=Other %d,O=Agora", i)})
		if err != nil {
			return nil, err
		}
		list = append(list, pki.Set{Name: fmt.Sprintf("other-%d", i), Anchors: []*x509.Certificate{other.Cert}})
	}
	return append(list, pki.Set{Name: "clients", Anchors: []*x509.Certificate{ca}}), nil
}

// register creates the clients, in bulk where the store can do that.
func register(ctx context.Context, store authserver.Store, set string) error {
	if _, err := store.Client(ctx, material.ClientID); err == nil {
		return nil // by another server on the same file
	}
	all := func(yield func(*authserver.Client) bool) {
		for i := range *clients {
			id := material.ClientID
			if i > 0 {
				id = fmt.Sprintf("c%07d", i)
			}
			if !yield(&authserver.Client{
				ID: id, AuthMethod: "tls_client_auth", SubjectDN: material.SubjectDN, AnchorSet: set,
				BoundTokens: true, GrantTypes: []string{"client_credentials"}, Scope: material.Scope,
			}) {
				return
			}
		}
	}
	if s, ok := store.(*sqlite.Store); ok {
		return s.ImportClients(ctx, all)
	}
	for c := range all {
		if err := store.CreateClient(ctx, c); err != nil {
			return err
		}
	}
	return nil
}
