package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/lingyun-cloud/lingyun/internal/controller"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/ntp"
)

func init() { commands = append(commands, doctorCommand) }

func doctorCommand() *cobra.Command {
	var dir, url string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Recompute quota, capacity and addresses from the resources, and say what differs",
		Long: `Recomputes what is counted (quota, capacity of hosts, addresses, locks) from the resources, compares the
clock with the configured time server, and says what differs, one line each. It changes nothing, and may run beside the controller. The exit
status is 1 when something differs.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			db, err := database.OpenReadOnly(cmd.Context(), database.Options{Dir: dir, URL: url})
			if err != nil {
				return err
			}
			defer func() { _ = db.Close() }()
			problems, err := controller.Doctor(cmd.Context(), db)
			if err != nil {
				return err
			}
			if wrong := controller.CheckTime(cmd.Context(), db, ntp.Client{}); wrong != "" {
				problems = append(problems, wrong)
			}
			out := cmd.OutOrStdout()
			for _, p := range problems {
				if _, err := fmt.Fprintln(out, p); err != nil {
					return err
				}
			}
			if len(problems) > 0 {
				return &exitError{Status: 1}
			}
			_, err = fmt.Fprintf(out, "Everything counted is there.\nSecrets are sealed with %s, which is in no backup of the database: keep a copy.\n",
				filepath.Join(dir, "secret.key"))
			return err
		},
	}
	cmd.Flags().StringVar(&dir, "data", "/var/lib/lingyun", "the controller's data directory")
	cmd.Flags().StringVar(&url, "database", "", "postgres://... (default: SQLite in the data directory)")
	return cmd
}
