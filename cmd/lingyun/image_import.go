package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/lingyun-cloud/lingyun/internal/cli"
)

// imageImport brings a file of this machine into the cloud whose data directory is here: the server reads
// images from its own import directory only, so that no request names any other file.
func imageImport() *cobra.Command {
	var name, data string
	p := cli.Params{}
	cmd := &cobra.Command{
		Use:   "import FILE --name NAME",
		Short: "Make a base image of a qcow2 file, on the machine of the server",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			admin, err := cli.LoadProfile(filepath.Join(data, "admin.json"))
			if err != nil {
				return err
			}
			client, err := cli.New(admin, "en", "")
			if err != nil {
				return err
			}
			dir := filepath.Join(data, "import")
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return err
			}
			file := filepath.Join(dir, fmt.Sprintf("import-%d.qcow2", os.Getpid()))
			if err := copyImage(file, args[0]); err != nil {
				return err
			}
			p["Name"], p["FileName"] = name, filepath.Base(file)
			for flag, parameter := range map[string]string{"os-name": "OSName", "os-distribution": "OSDistribution", "login-user": "LoginUser", "description": "Description"} {
				if v, _ := cmd.Flags().GetString(flag); v != "" {
					p[parameter] = v
				}
			}
			for flag, parameter := range map[string]string{"cloud-init": "SupportCloudInit", "guest-agent": "SupportQGA"} {
				p[parameter], _ = cmd.Flags().GetBool(flag)
			}
			var answer struct{ ImageID string }
			_, err = client.Call(cmd.Context(), "ImportBaseImage", p, &answer)
			if err := errors.Join(err, os.Remove(file)); err != nil { // the image store has its own copy
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), answer.ImageID)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&name, "name", "", "name; the image's id is REGION-image-NAME")
	f.StringVar(&data, "data", "/var/lib/lingyun", "the server's data directory")
	f.String("os-name", "", "operating system as people read it, e.g. \"Debian 12\"")
	f.String("os-distribution", "", "e.g. Debian, Ubuntu; tells the login user")
	f.String("login-user", "", "account that gets the password: root, ubuntu, debian")
	f.String("description", "", "free text")
	f.Bool("cloud-init", true, "the image reads a NoCloud seed")
	f.Bool("guest-agent", true, "the image runs qemu-guest-agent")
	_ = cmd.MarkFlagRequired("name")
	return cmd
}
