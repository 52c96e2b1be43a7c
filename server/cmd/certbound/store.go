package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/authserver/memstore"
	"github.com/certbound/certbound/jwks"
	"github.com/certbound/certbound/server/config"
	"github.com/certbound/certbound/server/store/sqlite"
)

// defaultConfig is read if neither --config nor --store is given.
const defaultConfig = "certbound.yaml"

// storeFlags say which database a command works on.
type storeFlags struct{ config, store string }

func (f *storeFlags) register(cmd *cobra.Command) {
	cmd.PersistentFlags().StringVar(&f.config, "config", "", "configuration `FILE` of the server (default "+defaultConfig+", if it is there)")
	cmd.PersistentFlags().StringVar(&f.store, "store", "", "SQLite database `FILE`, in place of the one in the configuration")
}

// open opens the database. The configuration is nil if only --store was given.
func (a *app) openStore(cmd *cobra.Command, f *storeFlags, create bool) (authserver.Store, *config.File, error) {
	name := f.config
	if name == "" && f.store == "" {
		if _, err := os.Stat(defaultConfig); err != nil {
			return nil, nil, usagef(cmd, "which server? Give --config FILE or --store FILE")
		}
		name = defaultConfig
	}
	var file *config.File
	path := f.store
	if name != "" {
		var err error
		if file, err = config.Load(name); err != nil {
			return nil, nil, err
		}
		if path == "" {
			path = file.Path(file.Store.SQLite)
		}
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && !create {
		if file != nil {
			return memstore.New(), file, nil // no registration yet, but perhaps declared clients
		}
		return nil, nil, hinted(fmt.Errorf("%s: there is no such database", path),
			"the server makes it at its first start, 'client add' at the first client")
	}
	store, err := sqlite.Open(cmd.Context(), sqlite.Config{Path: path, Logger: a.quietLogger()})
	if err != nil {
		return nil, nil, err
	}
	return store, file, nil
}

// nearClient looks for the id that was meant.
func nearClient(ctx context.Context, store authserver.Store, id string) string {
	clients, err := store.Clients(ctx, "", 1000)
	if err != nil {
		return ""
	}
	best, least := "", max(2, len(id)/4)+1
	for _, c := range clients {
		if n := config.Distance(id, c.ID); n < least {
			best, least = c.ID, n
		}
	}
	return best
}

// noFetcher is for a server that serves nobody: key sets are allowed, never fetched.
func noFetcher() *jwks.Fetcher { return jwks.NewFetcher(jwks.FetcherConfig{}) }
