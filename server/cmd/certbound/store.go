package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/authserver/memstore"
	"github.com/certbound/certbound/jwks"
	"github.com/certbound/certbound/server/config"
	"github.com/certbound/certbound/server/store/sqlite"
)

// defaultConfig is read if neither --config nor --store is given.
const defaultConfig = "certbound.yaml"

// orDefault returns the name that was given, or the usual one if that file is there, or
// nothing.
func orDefault(name, usual string) string {
	if name != "" {
		return name
	}
	if _, err := os.Stat(usual); err != nil {
		return ""
	}
	return usual
}

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
			"the server makes it at its first start, 'client add' and 'user add' at the first client or account")
	}
	store, err := sqlite.Open(cmd.Context(), sqlite.Config{Path: path, Logger: a.quietLogger()})
	if err != nil {
		return nil, nil, err
	}
	return store, file, nil
}

// completeClient completes the id of a client in the shell.
func (a *app) completeClient(f *storeFlags) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		store, file, err := a.openStore(cmd, f, false)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		defer store.Close()
		clients, err := store.Clients(cmd.Context(), "", 1000)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		if file != nil {
			clients = append(clients, file.DeclaredClients()...)
		}
		var out []string
		for _, c := range clients {
			if strings.HasPrefix(c.ID, prefix) {
				out = append(out, cobra.CompletionWithDesc(c.ID, c.Method()))
			}
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	}
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
