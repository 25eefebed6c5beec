package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/lingyun-cloud/lingyun/internal/clock"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/database"
)

func init() { commands = append(commands, adminCommand) }

// adminCommand holds what only who has the server's machine may do.
func adminCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "admin", Short: "Ways back in, on the machine of the server", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(resetPasswordCommand())
	return cmd
}

func resetPasswordCommand() *cobra.Command {
	var dir, url string
	r := identity.Recovery{}
	cmd := &cobra.Command{
		Use:   "reset-password [EMAIL]",
		Short: "Give an account a new password, which must be changed at the next login",
		Long: `Gives an account (the first administrator's by default) a new password, which it prints and which must be
changed at the next login. It ends the account's sessions and unfreezes it. It works on the database, beside a
running controller or without one, and needs nothing but to read and write the data directory.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Email = "admin@lingyun.local"
			if len(args) == 1 {
				r.Email = args[0]
			}
			db, err := database.OpenBeside(cmd.Context(), database.Options{Dir: dir, URL: url})
			if err != nil {
				return err
			}
			defer func() { _ = db.Close() }()
			password, err := identity.New(identity.Deps{DB: db, Clock: clock.New()}).Recover(cmd.Context(), r)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s has the password %s until its next login, which must change it.\n", r.Email, password)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&dir, "data", "/var/lib/lingyun", "the controller's data directory")
	f.StringVar(&url, "database", "", "postgres://... (default: SQLite in the data directory)")
	f.BoolVar(&r.TOTP, "remove-totp", false, "remove the binding of one-time passwords, too")
	f.BoolVar(&r.Network, "clear-allow-list", false, "let it log in from anywhere, too")
	return cmd
}
