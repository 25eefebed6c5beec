package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/secret"
)

func init() { commands = append(commands, licenceCommand) }

func licenceCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "licence", Short: "Licences of regions", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(licenceIssueCommand(), licenceInspectCommand())
	return cmd
}

func licenceIssueCommand() *cobra.Command {
	var dir, url, out string
	var l catalog.Licence
	var days int
	cmd := &cobra.Command{
		Use:   "issue",
		Short: "Sign a licence with this installation's key",
		Long: `Signs a licence with the key of this installation, which is sealed in its database, and writes it to a
file for UploadLicense, or for the RegionToken of AddRegion. Only this installation accepts it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			key, err := secret.Load(filepath.Join(dir, "secret.key"))
			if err != nil {
				return err
			}
			db, err := database.OpenReadOnly(cmd.Context(), database.Options{Dir: dir, URL: url})
			if err != nil {
				return err
			}
			defer func() { _ = db.Close() }()
			issuer, system, err := catalog.LicenceIssuer(cmd.Context(), catalog.OpenLicences(db, key))
			if err != nil {
				return err
			}
			now := time.Now()
			l.ID, l.System, l.Begin = database.NewID("licence"), system, now.Unix()
			if days > 0 {
				l.End = now.AddDate(0, 0, days).Unix()
			}
			f, err := catalog.SignLicence(l, issuer)
			if err != nil {
				return err
			}
			text, err := json.Marshal(f)
			if err != nil {
				return err
			}
			if err := os.WriteFile(out, append(text, '\n'), 0o600); err != nil {
				return err
			}
			return printLicence(cmd, f)
		},
	}
	f := cmd.Flags()
	f.StringVar(&dir, "data", "/var/lib/lingyun", "the controller's data directory")
	f.StringVar(&url, "database", "", "postgres://... (default: SQLite in the data directory)")
	f.StringVar(&out, "out", "licence.json", "file to write")
	f.StringSliceVar(&l.Regions, "region", []string{catalog.DefaultRegion}, "regions that it activates")
	f.IntVar(&l.Nodes, "nodes", 0, "hosts of a region; 0: any number")
	f.StringSliceVar(&l.Features, "feature", nil, "services beyond the basic ones")
	f.IntVar(&days, "days", 0, "how long it holds; 0: for ever")
	return cmd
}

func licenceInspectCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "inspect FILE",
		Short: "Show what a licence says",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			raw, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			f, err := catalog.ParseLicence(raw)
			if err != nil {
				return err
			}
			return printLicence(cmd, f)
		},
	}
}

func printLicence(cmd *cobra.Command, f *catalog.LicenceFile) error {
	ends := "never"
	if f.Licence.End != 0 {
		ends = time.Unix(f.Licence.End, 0).Format(time.DateTime)
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "Licence   %s\nSystem    %s\nRegions   %v\nNodes     %d\nFeatures  %v\nBegins    %s\nEnds      %s\nAuthCode  %s\n",
		f.Licence.ID, f.Licence.System, f.Licence.Regions, f.Licence.Nodes, f.Licence.Features, time.Unix(f.Licence.Begin, 0).Format(time.DateTime), ends, f.AuthCode())
	return err
}
