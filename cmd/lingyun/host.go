package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/lingyun-cloud/lingyun/internal/cli"
)

func init() { commands = append(commands, hostCommand) }

func hostCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "host",
		Short: "Manage the cloud's hosts, as its administrator",
	}
	var dir string
	var ttl time.Duration
	token := &cobra.Command{
		Use:   "token NAME",
		Short: "Issue the token with which the host NAME joins",
		Long: `Prints a token, alone on standard output. It lets one host of this name join within its time, once:

    lingyun agent join TOKEN --controller https://CONTROLLER:PORT --name NAME

It is run on the controller's machine, where DIR/admin.json holds the administrator's key.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := os.ReadFile(filepath.Join(dir, "admin.json"))
			if err != nil {
				return fmt.Errorf("the administrator's credentials: %w", err)
			}
			var profile cli.Profile
			if err := json.Unmarshal(text, &profile); err != nil {
				return fmt.Errorf("%s: %w", filepath.Join(dir, "admin.json"), err)
			}
			authority := filepath.Join(dir, "ca.crt")
			if _, err := os.Stat(authority); errors.Is(err, fs.ErrNotExist) {
				authority = ""
			}
			client, err := cli.New(profile, "", authority)
			if err != nil {
				return err
			}
			var answer struct{ Token string }
			if _, err := client.Call(cmd.Context(), "CreateHostJoinToken", cli.Params{"Name": args[0], "TTL": int(ttl.Seconds())}, &answer); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), answer.Token)
			return err
		},
	}
	token.Flags().StringVar(&dir, "data", "/var/lib/lingyun", "the controller's data directory")
	token.Flags().DurationVar(&ttl, "ttl", time.Hour, "how long the token holds, 1 minute to 7 days")
	cmd.AddCommand(token)
	return cmd
}
