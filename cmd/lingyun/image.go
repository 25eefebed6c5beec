package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lingyun-cloud/lingyun/internal/guest"
)

func init() { commands = append(commands, imageCommand) }

// imageCache is where built images and downloaded packages stay: beside the
// sources when the program was built there, else in the machine's cache.
func imageCache() string {
	if self, err := os.Executable(); err == nil {
		root := filepath.Dir(filepath.Dir(self))
		if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
			return filepath.Join(root, ".cache", "guest")
		}
	}
	return "/var/cache/lingyun/guest"
}

func imageCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "image", Short: "Build disk images for virtual machines, and import them"}
	var out, cache string
	build := &cobra.Command{
		Use:       "build " + strings.Join(guest.Images, "|"),
		Short:     "Build an image from the distribution's packages",
		Long:      "Builds a qcow2 image from the distribution's packages, without mounts and loop devices.\ntiny boots in seconds without KVM and serves a page on port 80; debian is a real Debian 12 with cloud-init.\nAn image whose inputs have not changed is taken from the cache.",
		Args:      cobra.ExactArgs(1),
		ValidArgs: guest.Images,
		RunE: func(cmd *cobra.Command, args []string) error {
			image, err := guest.Build(cmd.Context(), args[0], guest.Options{Cache: cache, Log: cmd.ErrOrStderr()})
			if err != nil {
				return err
			}
			path := image.Path
			if out != "" {
				if err := copyImage(out, image.Path); err != nil {
					return err
				}
				path = out
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s\nsha256 %s, %.1f MB\n", path, image.Digest, float64(image.Size)/1e6)
			return nil
		},
	}
	build.Flags().StringVar(&out, "out", "", "copy the image to this file")
	build.Flags().StringVar(&cache, "cache", imageCache(), "directory of built images and downloaded packages")
	cmd.AddCommand(build, imageImport())
	return cmd
}

func copyImage(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	file, err := os.CreateTemp(filepath.Dir(to), ".lingyun-image-")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	if _, err := io.Copy(file, in); err != nil {
		file.Close()
		return err
	}
	if err := file.Chmod(0o644); err != nil {
		file.Close()
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	return os.Rename(file.Name(), to)
}
