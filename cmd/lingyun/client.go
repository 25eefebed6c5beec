package main

import (
	"github.com/spf13/cobra"

	"github.com/lingyun-cloud/lingyun/internal/cli"
)

func init() {
	for _, c := range cli.Commands() {
		commands = append(commands, func() *cobra.Command { return c })
	}
}
