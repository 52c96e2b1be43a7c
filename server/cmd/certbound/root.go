package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "certbound",
		Short: "OAuth tokens that are useless to a thief",
		Long: `Certbound makes OAuth credentials useless to a thief: a client proves itself with
its TLS certificate, and the token it gets works only together with that
certificate (RFC 8705).

Start with 'certbound dev': it makes a throw-away PKI, starts an authorization
server and a demo API, and shows on the screen what is accepted and what is not.`,
		Example: `  certbound dev
  certbound inspect client.pem
  certbound serve --config certbound.yaml`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	asGroup(root)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &usageError{err, cmd.CommandPath()}
	})
	root.SetUsageTemplate(strings.Replace(root.UsageTemplate(),
		"{{if .Runnable}}\n  {{.UseLine}}{{end}}{{if .HasAvailableSubCommands}}\n  {{.CommandPath}} [command]{{end}}",
		"{{if .HasAvailableSubCommands}}\n  {{.CommandPath}} COMMAND{{else}}\n  {{.UseLine}}{{end}}", 1))
	root.AddGroup(
		&cobra.Group{ID: "run", Title: "Run:"},
		&cobra.Group{ID: "manage", Title: "Manage:"},
		&cobra.Group{ID: "look", Title: "Look and try:"},
	)
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("run", a.devCommand(), a.serveCommand(), a.gatewayCommand())
	add("manage", a.clientCommand(), a.configCommand(), a.keysCommand(), a.probeCommand(), a.trustCommand(), a.userCommand())
	add("look", a.inspectCommand(), a.explainCommand(), a.doctorCommand(), a.tokenCommand())
	root.AddCommand(a.versionCommand(), a.manCommand())
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveDefault)
	return root
}

// asGroup makes cmd a holder of commands: alone it prints its help, with a word it
// does not know it is a usage error.
func asGroup(cmd *cobra.Command) *cobra.Command {
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		err := fmt.Errorf("%s: unknown command %q", cmd.Name(), args[0])
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			err = hinted(err, "did you mean %s?", strings.Join(near, " or "))
		}
		return &usageError{err, cmd.CommandPath()}
	}
	cmd.SuggestionsMinimumDistance = 2
	return cmd
}

// missingText says what is missing: "--cert and --key are missing".
func missingText(names []string) string {
	last := len(names) - 1
	if last == 0 {
		return names[0] + " is missing"
	}
	return strings.Join(names[:last], ", ") + " and " + names[last] + " are missing"
}

// exactArgs is cobra.ExactArgs with the names of the missing arguments.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return usagef(cmd, "%s", missingText(names[len(args):]))
		case len(args) > len(names):
			return usagef(cmd, "unexpected argument %q", args[len(names)])
		}
		return nil
	}
}
