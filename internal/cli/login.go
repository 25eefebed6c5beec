package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// loginCommand keeps a key under a name, after the cloud has accepted it.
func loginCommand() *cobra.Command {
	var name, file, ca string
	cmd := &cobra.Command{
		Use:          "login --file demo.json [--profile NAME]",
		Short:        "Keep a key file as a profile in ~/.config/lingyun",
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			in := cmd.InOrStdin()
			if file != "-" {
				f, err := os.Open(file)
				if err != nil {
					return err
				}
				defer f.Close()
				in = f
			}
			raw, err := io.ReadAll(io.LimitReader(in, 1<<20))
			if err != nil {
				return err
			}
			p, err := parseProfile(raw, file)
			if err != nil {
				return err
			}
			if strings.ContainsRune(name, '/') {
				return fmt.Errorf("--profile is a name, not a path")
			}
			c, err := New(p, language(), ca)
			if err != nil {
				return err
			}
			if _, err := c.Call(cmd.Context(), "DescribeRegion", nil, nil); err != nil {
				return fmt.Errorf("the cloud does not accept the key: %w", err)
			}
			path, err := saveProfile(name, p)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s at %s is profile %s (%s)\n", p.Email, p.Endpoint, name, path)
			return nil
		},
	}
	cmd.Flags().StringVar(&name, "profile", "default", "name of the profile")
	cmd.Flags().StringVar(&file, "file", demoFile, "key file that the controller wrote, - for standard input")
	cmd.Flags().StringVar(&ca, "ca", os.Getenv("LINGYUN_CA"), "file with the certificate authority of a self-issued https endpoint ($LINGYUN_CA)")
	return cmd
}

// callCommand sends any action and prints the answer as it is.
func callCommand() *cobra.Command {
	cmd := command("call ACTION [NAME=VALUE...]", "Send any action: lingyun call DescribeVMInstance Limit=5 VMIDs.0=vm-...", cobra.MinimumNArgs(1),
		func(ctx context.Context, s *session, args []string) error {
			p := Params{}
			for _, a := range args[1:] {
				name, value, ok := strings.Cut(a, "=")
				if !ok || name == "" {
					return fmt.Errorf("%q is not NAME=VALUE", a)
				}
				p[name] = value
			}
			raw, err := s.Call(ctx, args[0], p, nil)
			var refused *Error
			if err != nil && !errors.As(err, &refused) {
				return err
			}
			var out bytes.Buffer
			if e := json.Indent(&out, raw, "", "  "); e != nil {
				return e
			}
			fmt.Fprintln(s.out, out.String())
			return err
		})
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	return cmd
}
