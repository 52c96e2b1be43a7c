package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/certbound/certbound/authserver"
	"github.com/certbound/certbound/pki"
)

func (a *app) keysCommand() *cobra.Command {
	flags := &storeFlags{}
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "List and rotate the keys that sign access tokens",
		Example: `  certbound keys list --config certbound.yaml
  certbound keys rotate --config certbound.yaml`,
	}
	asGroup(cmd)
	flags.register(cmd)
	cmd.AddCommand(a.keysListCommand(flags), a.keysRotateCommand(flags))
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
			cfg, err := file.AuthServer(nil)
			if err != nil {
				return err
			}
			paths, err := pki.NewValidator(pki.Config{}) // judges nobody here
			if err != nil {
				return err
			}
			cfg.Store, cfg.Paths, cfg.HasAnchorSet = store, paths, file.HasAnchorSet
			cfg.JWKS, cfg.Logger = noFetcher(), a.quietLogger()
			as, err := authserver.New(cfg)
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
