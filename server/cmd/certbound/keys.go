package main

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/pki"
	"github.com/certbound/certbound/server/config"
)

func (a *app) keysCommand() *cobra.Command {
	flags := &storeFlags{}
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "List, rotate and remove the keys that sign access tokens",
		Example: `  certbound keys list --config certbound.yaml
  certbound keys rotate --config certbound.yaml
  certbound keys remove KID --yes --config certbound.yaml`,
	}
	asGroup(cmd)
	flags.register(cmd)
	cmd.AddCommand(a.keysListCommand(flags), a.keysRotateCommand(flags), a.keysRemoveCommand(flags))
	return cmd
}

// A keyRow is one key, without its private part.
type keyRow struct {
	KID       string    `json:"kid"`
	Alg       string    `json:"alg"`
	State     string    `json:"state"`
	Created   time.Time `json:"created"`
	NotBefore time.Time `json:"signs_from"`
	Retire    time.Time `json:"signs_until,omitzero"`
	Expires   time.Time `json:"published_until,omitzero"`
}

// keyRows says of each key what it does now: the newest that may sign is the one that
// signs.
func keyRows(keys []authserver.SigningKey, now time.Time) []keyRow {
	rows := make([]keyRow, len(keys))
	signing := -1
	for i, k := range keys {
		rows[i] = keyRow{k.KID, k.Alg, "published", k.Created.UTC(), k.NotBefore.UTC(), utc(k.Retire), utc(k.Expires)}
		switch {
		case k.NotBefore.After(now):
			rows[i].State = "next"
		case !k.Expires.IsZero() && now.After(k.Expires):
			rows[i].State = "expired"
		default:
			signing = i
		}
	}
	if signing >= 0 {
		rows[signing].State = "signing"
	}
	for i := range rows { // a newer key takes over, however long this one might have signed
		for _, later := range rows[i+1:] {
			if later.Alg == rows[i].Alg && (rows[i].Retire.IsZero() || later.NotBefore.Before(rows[i].Retire)) {
				rows[i].Retire = later.NotBefore
			}
		}
	}
	slices.Reverse(rows) // newest first
	return rows
}

func utc(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC()
}

func (a *app) keysListCommand(flags *storeFlags) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the signing keys",
		Example: "  certbound keys list --json",
		Args:    exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			store, _, err := a.openStore(cmd, flags, false)
			if err != nil {
				return err
			}
			defer store.Close()
			keys, err := store.SigningKeys(cmd.Context())
			if err != nil {
				return err
			}
			rows := keyRows(keys, a.now())
			if asJSON {
				return a.printJSON(rows)
			}
			if len(rows) == 0 {
				a.note("there is no key yet; the server makes one at its first start")
				return nil
			}
			t := table{head: []string{"KID", "ALG", "STATE", "SIGNS FROM", "SIGNS UNTIL"}}
			for _, r := range rows {
				until := "rotated by command"
				if !r.Retire.IsZero() {
					until = timeText(r.Retire)
				}
				t.rows = append(t.rows, []string{r.KID, r.Alg, r.State, timeText(r.NotBefore), until})
			}
			t.print(a.stdout, newPainter(a.stdout))
			return nil
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (a *app) keysRotateCommand(flags *storeFlags) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Make a new signing key",
		Long: `Make a new signing key. It is published at once and signs after
signing_keys.prepublish; the key before it stays published until the tokens that it
has signed have expired. A running server takes the new key on by itself.`,
		Example: "  certbound keys rotate --config certbound.yaml",
		Args:    exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			store, file, err := a.openStore(cmd, flags, true)
			if err != nil {
				return err
			}
			defer store.Close()
			if file == nil {
				return usagef(cmd, "--config FILE is missing: it says which algorithm the key is for")
			}
			as, err := a.keyServer(file, store)
			if err != nil {
				return err
			}
			kid, err := as.RotateKey(cmd.Context())
			if err != nil {
				return err
			}
			keys, err := store.SigningKeys(cmd.Context())
			if err != nil {
				return err
			}
			for _, r := range keyRows(keys, a.now()) {
				if r.KID != kid {
					continue
				}
				if asJSON {
					return a.printJSON(r)
				}
				fmt.Fprintf(a.stdout, "Made key %s (%s)\n", r.KID, r.Alg)
				s := &sheet{}
				s.add("signs from", timeText(r.NotBefore))
				s.print(a.stdout, newPainter(a.stdout), "  ")
			}
			return nil
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

// keyServer returns a server that only makes and removes keys.
func (a *app) keyServer(file *config.File, store authserver.Store) (*authserver.Server, error) {
	cfg, err := file.AuthServer(nil)
	if err != nil {
		return nil, err
	}
	paths, err := pki.NewValidator(pki.Config{}) // judges nobody here
	if err != nil {
		return nil, err
	}
	cfg.Store, cfg.Paths, cfg.HasAnchorSet = store, paths, file.HasAnchorSet
	cfg.JWKS, cfg.Logger = noFetcher(), a.quietLogger()
	return authserver.New(cfg)
}

func (a *app) keysRemoveCommand(flags *storeFlags) *cobra.Command {
	var yes, asJSON bool
	cmd := &cobra.Command{
		Use:   "remove KID",
		Short: "Remove a signing key that has leaked",
		Long: `Remove a signing key at once, such as one that has leaked. Every token that it has
signed is refused from then on, and clients have to ask for another. If it was the key
that signs, a new one is made, which signs at once.

A running server takes that on by itself within ten seconds. Resource servers refuse the
tokens when they have fetched the key set again: a gateway after tokens.refresh_keys, or
at once when it is restarted.`,
		Example: "  certbound keys remove 1RrB4lKt --yes --config certbound.yaml",
		Args:    exactArgs("KID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !yes {
				return usagef(cmd, "every token that the key has signed becomes worthless; say --yes")
			}
			store, file, err := a.openStore(cmd, flags, true)
			if err != nil {
				return err
			}
			defer store.Close()
			if file == nil {
				return usagef(cmd, "--config FILE is missing: it says which algorithm the new key is for")
			}
			as, err := a.keyServer(file, store)
			if err != nil {
				return err
			}
			made, err := as.RemoveKey(cmd.Context(), args[0])
			if errors.Is(err, authserver.ErrNotFound) {
				return hinted(fmt.Errorf("there is no key %s", printable(args[0])), "'certbound keys list' lists them")
			}
			if err != nil {
				return err
			}
			if asJSON {
				return a.printJSON(struct {
					Removed string `json:"removed"`
					Made    string `json:"made,omitempty"`
				}{args[0], made})
			}
			fmt.Fprintf(a.stdout, "Removed key %s\n", args[0])
			if made != "" {
				fmt.Fprintf(a.stdout, "Made key %s, which signs from now on\n", made)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "yes, make every token worthless that the key has signed")
	jsonFlag(cmd, &asJSON)
	return cmd
}
