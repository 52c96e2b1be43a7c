package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/certbound/certbound/server/config"
)

func (a *app) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Write, check and describe the configuration file",
		Example: `  certbound config example > certbound.yaml
  certbound config check certbound.yaml`,
	}
	asGroup(cmd)
	cmd.AddCommand(a.configExampleCommand(), a.configCheckCommand(), a.configSchemaCommand())
	return cmd
}

func (a *app) configExampleCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "example",
		Short:   "Print a commented configuration file to start from",
		Example: "  certbound config example > certbound.yaml",
		Args:    exactArgs(),
		RunE:    func(*cobra.Command, []string) error { return config.WriteExample(a.stdout) },
	}
}

func (a *app) configSchemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print a JSON Schema of the configuration file, for editors",
		Long: `Print a JSON Schema (draft 2020-12) of the configuration file. Editors complete
and check with it, if the file names it in a comment:

  # yaml-language-server: $schema=certbound.schema.json`,
		Example: "  certbound config schema > certbound.schema.json",
		Args:    exactArgs(),
		RunE:    func(*cobra.Command, []string) error { return config.WriteSchema(a.stdout) },
	}
}

func (a *app) configCheckCommand() *cobra.Command {
	var asJSON, quiet bool
	cmd := &cobra.Command{
		Use:   "check FILE",
		Short: "Look for every fault in a configuration file and print what is in force",
		Long: `Look for every fault in a configuration file and in the files that it names, each
with its line, and print what is in force: defaults filled in, values from the
environment and from files in place, secrets left out. Nothing is started.`,
		Example: `  certbound config check certbound.yaml
  certbound config check --quiet certbound.yaml && systemctl reload certbound`,
		Args: exactArgs("FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			file, err := config.Load(args[0])
			var warnings []config.Fault
			if err == nil {
				warnings, err = file.Check(a.now())
			}
			for _, w := range warnings {
				a.warn(w.Error())
			}
			if err != nil {
				return err
			}
			switch {
			case asJSON:
				return a.printJSON(file.Resolved())
			case quiet:
				return nil
			}
			if err := file.WriteResolved(a.stdout); err != nil {
				return err
			}
			words := []string{"no faults"}
			if n := len(warnings); n > 0 {
				words = append(words, fmt.Sprintf("%d warnings", n))
			}
			a.note(args[0] + ": " + strings.Join(words, ", "))
			return nil
		},
	}
	jsonFlag(cmd, &asJSON)
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print faults only")
	return cmd
}
