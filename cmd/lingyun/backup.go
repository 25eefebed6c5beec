package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/secret"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

func init() { commands = append(commands, backupCommand, restoreCommand) }

func backupCommand() *cobra.Command {
	var o database.Options
	var out string
	cmd := &cobra.Command{
		Use:   "backup",
		Short: "Copy the platform's database now",
		Long: `Copies the database to a file of the backup directory, beside a running controller or without one. The
controller does so by itself, as DatabaseBackup says. The key file, without which the secrets in the copy cannot be
opened, is in none: keep a copy elsewhere.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			key, err := secret.Load(filepath.Join(o.Dir, "secret.key"))
			if err != nil {
				return err
			}
			db, err := database.OpenReadOnly(cmd.Context(), o)
			if err != nil {
				return err
			}
			defer func() { _ = db.Close() }()
			if out == "" {
				out = filepath.Join(o.Dir, database.BackupDir)
			}
			now := time.Now().UTC()
			file, err := db.Backup(cmd.Context(), out, "manual-"+now.Format("20060102T150405.000Z"), database.BackupNote{KeyFingerprint: key.Fingerprint(), Time: now})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), file)
			return err
		},
	}
	databaseFlags(cmd, &o)
	cmd.Flags().StringVar(&out, "out", "", "directory (default: backup in the data directory)")
	return cmd
}

func restoreCommand() *cobra.Command {
	var o database.Options
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Put a backup in place of the platform's database",
		Long: `Puts a backup in place of the database, while no controller runs. What is there is saved first, and its
file printed. The backup must be of the same engine, and the key file that it was made with must be in the data
directory. Resources that were made or deleted since the backup are not in it: after the start hosts lose what no row
wants, and "lingyun doctor" tells what is missing.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := filepath.Join(o.Dir, "secret.key")
			if _, err := os.Stat(path); err != nil {
				return fmt.Errorf("put the key file back first: %w", err)
			}
			key, err := secret.Load(path)
			if err != nil {
				return err
			}
			o.KeyFingerprint = key.Fingerprint()
			db, err := database.OpenReadOnly(cmd.Context(), o)
			if err == nil {
				if err := errors.Join(workflow.Free(cmd.Context(), db), db.Close()); err != nil {
					return fmt.Errorf("stop the controller first: %w", err)
				}
			}
			saved, err := database.Restore(cmd.Context(), o, args[0])
			if saved != "" {
				fmt.Fprintln(cmd.OutOrStdout(), "The database as it was is saved in", saved)
			}
			return err
		},
	}
	databaseFlags(cmd, &o)
	return cmd
}

// databaseFlags say which database a command works on.
func databaseFlags(cmd *cobra.Command, o *database.Options) {
	cmd.Flags().StringVar(&o.Dir, "data", "/var/lib/lingyun", "the controller's data directory")
	cmd.Flags().StringVar(&o.URL, "database", "", "postgres://... (default: SQLite in the data directory)")
}
