package main

import (
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// manCommand is for packagers, and therefore not in the list of commands.
func (a *app) manCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "man DIR",
		Short: "Write the man pages of all commands",
		Long: `Write the man pages of all commands into a folder, for a package or for man -l. The
folder is made if it is not there. The date of the pages is SOURCE_DATE_EPOCH, if that is
set.`,
		Hidden:  true,
		Example: "  certbound man man1 && man -l man1/certbound-client-add.1",
		Args:    exactArgs("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true
			return doc.GenManTree(root, &doc.GenManHeader{Section: "1", Source: "Certbound " + readVersion().Version, Manual: "Certbound"}, args[0])
		},
	}
}
