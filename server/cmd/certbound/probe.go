package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/certbound/certbound/server/config"
	"github.com/certbound/certbound/server/probe"
)

func (a *app) probeCommand() *cobra.Command {
	flags := &storeFlags{}
	cmd := &cobra.Command{
		Use:   "probe",
		Short: "Make a credential with which the doctor asks what the server believed",
		Long: `Make a probe credential. Whoever sends it to ` + probe.Path + `
on a listener of the server is told which certificate the server believed, by which
source, and which certificate headers arrived. It is good for nothing else, and ends by
itself.`,
		Example: `  certbound probe create --config certbound.yaml
  certbound doctor https://as.example --credential-file probe.txt`,
	}
	asGroup(cmd)
	flags.register(cmd)
	cmd.AddCommand(a.probeCreateCommand(flags))
	return cmd
}

// A probeAnswer is the answer of the command as JSON.
type probeAnswer struct {
	Credential string    `json:"credential"`
	Expires    time.Time `json:"expires"`
}

func (a *app) probeCreateCommand(flags *storeFlags) *cobra.Command {
	var lifetime string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make a probe credential, and print it",
		Long: `Make a probe credential and print it on stdout, this once. A running server takes it at
once. Give it to 'certbound doctor' in a file or in CERTBOUND_PROBE.`,
		Example: `  certbound probe create --config certbound.yaml > probe.txt
  CERTBOUND_PROBE=$(certbound probe create) certbound doctor https://as.example`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := config.ParseDuration(lifetime)
			if err != nil {
				return usagef(cmd, "--lifetime: %v", err)
			}
			if l := time.Duration(d); l < time.Second || l > probe.MaxLifetime {
				return usagef(cmd, "--lifetime: expected 1s to 1d, found %s", lifetime)
			}
			store, _, err := a.openStore(cmd, flags, false)
			if err != nil {
				return err
			}
			defer store.Close()
			credential, expires, err := probe.Create(cmd.Context(), store, time.Duration(d), a.now())
			if err != nil {
				return err
			}
			if asJSON {
				return a.printJSON(probeAnswer{credential, expires.UTC()})
			}
			fmt.Fprintln(a.stdout, credential)
			a.note("good until " + timeText(expires) + "; it tells its holder what the server believed of a request, and nothing else")
			return nil
		},
	}
	cmd.Flags().StringVar(&lifetime, "lifetime", "1h", "`TIME` that it is good, at most a day")
	jsonFlag(cmd, &asJSON)
	return cmd
}
