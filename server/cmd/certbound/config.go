package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/certbound/certbound/authserver/pages"
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
	cmd.AddCommand(a.configExampleCommand(), a.configCheckCommand(), a.configSchemaCommand(), a.configPagesCommand())
	return cmd
}

// gatewayFlag chooses the file of the gateway instead of the server's.
func gatewayFlag(cmd *cobra.Command, v *bool) {
	cmd.Flags().BoolVar(v, "gateway", false, "the file of 'certbound gateway'")
}

func (a *app) configExampleCommand() *cobra.Command {
	var gateway bool
	cmd := &cobra.Command{
		Use:   "example",
		Short: "Print a commented configuration file to start from",
		Example: `  certbound config example > certbound.yaml
  certbound config example --gateway > gateway.yaml`,
		Args: exactArgs(),
		RunE: func(*cobra.Command, []string) error {
			if gateway {
				return config.WriteGatewayExample(a.stdout)
			}
			return config.WriteExample(a.stdout)
		},
	}
	gatewayFlag(cmd, &gateway)
	return cmd
}

func (a *app) configSchemaCommand() *cobra.Command {
	var gateway bool
	cmd := &cobra.Command{
		Use:   "schema",
		Short: "Print a JSON Schema of the configuration file, for editors",
		Long: `Print a JSON Schema (draft 2020-12) of the configuration file. Editors complete
and check with it, if the file names it in a comment:

  # yaml-language-server: $schema=certbound.schema.json`,
		Example: "  certbound config schema > certbound.schema.json",
		Args:    exactArgs(),
		RunE: func(*cobra.Command, []string) error {
			if gateway {
				return config.WriteGatewaySchema(a.stdout)
			}
			return config.WriteSchema(a.stdout)
		},
	}
	gatewayFlag(cmd, &gateway)
	return cmd
}

func (a *app) configPagesCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "pages DIR",
		Short: "Write the templates of the pages that people see, to change them",
		Long: `Write the templates of the pages that people see (login, consent, errors, logout) into
a folder, for people.templates. Only files that you change have to stay there. Files
that are there already are kept.`,
		Example: "  certbound config pages templates",
		Args:    exactArgs("DIR"),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			for _, name := range pages.Files() {
				data, err := pages.File(name)
				if err != nil {
					return err
				}
				path := filepath.Join(args[0], name)
				f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
				if errors.Is(err, fs.ErrExist) {
					a.note(path + ": kept")
					continue
				}
				if err != nil {
					return err
				}
				_, err = f.Write(data)
				if err := errors.Join(err, f.Close()); err != nil {
					return err
				}
				fmt.Fprintln(a.stdout, path)
			}
			return nil
		},
	}
}

func (a *app) configCheckCommand() *cobra.Command {
	var asJSON, quiet, gateway bool
	var profile string
	cmd := &cobra.Command{
		Use:   "check [FILE]",
		Short: "Look for every fault in a configuration file and print what is in force",
		Long: `Look for every fault in a configuration file and in the files that it names, each
with its line, and print what is in force: defaults filled in, values from the
environment and from files in place, secrets left out. Nothing is started. FILE is
` + defaultConfig + `, if it is there and no other is named.

With --profile the configuration is graded against a profile instead, rule by rule, each
with the reason and what to change: fapi2, the FAPI 2.0 Security Profile with mutual TLS.
The exit code is 1 if a rule fails.`,
		Example: `  certbound config check certbound.yaml
  certbound config check --profile fapi2 certbound.yaml
  certbound config check --quiet certbound.yaml && systemctl reload certbound`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef(cmd, "unexpected argument %q", args[1])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 && !gateway {
				args = []string{orDefault("", defaultConfig)}
			}
			if len(args) == 0 || args[0] == "" {
				return usagef(cmd, "FILE is missing")
			}
			if profile != "" {
				switch {
				case !slices.Contains(config.GradeProfiles(), profile):
					return usagef(cmd, "--profile: expected %s, found %q", strings.Join(config.GradeProfiles(), ", "), profile)
				case gateway:
					return usagef(cmd, "--profile and --gateway exclude each other; the rules are those for authorization servers")
				}
				return a.gradeConfig(args[0], profile, asJSON, quiet)
			}
			file, err := loadChecked(args[0], gateway)
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
				words = append(words, count(n, "warning"))
			}
			a.note(args[0] + ": " + strings.Join(words, ", "))
			if server, ok := file.(*config.File); ok && server.Profile != "" {
				a.note("rule by rule: certbound config check --profile " + server.Profile + " " + args[0])
			}
			return nil
		},
	}
	jsonFlag(cmd, &asJSON)
	gatewayFlag(cmd, &gateway)
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print faults only")
	cmd.Flags().StringVar(&profile, "profile", "", "grade against a `PROFILE`: fapi2")
	_ = cmd.RegisterFlagCompletionFunc("profile", cobra.FixedCompletions(config.GradeProfiles(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// otherKind says so if the faults are those of a file of the other kind: the gateway's
// where the server's is read, or the reverse.
func otherKind(err error, gateway bool) error {
	e, ok := errors.AsType[*config.Error](err)
	if !ok {
		return err
	}
	key, hint := "routes", "this looks like a file of the gateway: 'certbound config check --gateway' and 'certbound gateway' read it"
	if gateway {
		key, hint = "listen.public", "this looks like a file of the authorization server: 'certbound config check' without --gateway and 'certbound serve' read it"
	}
	for i, f := range e.Faults {
		if f.Path == key && strings.HasPrefix(f.Text, "unknown key") {
			e.Faults[i].Fix = hint
		}
	}
	return err
}

// A checkedFile is a configuration file of either kind.
type checkedFile interface {
	Check(now time.Time) ([]config.Fault, error)
	Resolved() any
	WriteResolved(w io.Writer) error
}

func loadChecked(name string, gateway bool) (checkedFile, error) {
	if gateway {
		file, err := config.LoadGateway(name)
		return file, otherKind(err, gateway)
	}
	file, err := config.Load(name)
	return file, otherKind(err, gateway)
}
