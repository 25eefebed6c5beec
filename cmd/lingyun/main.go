// Command lingyun is the whole cloud in one binary: the controller, the host
// agent, the trial, and the client commands.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// commands make the subcommands. Every file of this package that has some adds
// its constructors from init.
var commands []func() *cobra.Command

// exitError makes the program end with a status of its own; the message was
// already shown when Err is nil.
type exitError struct {
	Status int
	Err    error
}

func (e *exitError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit status %d", e.Status)
	}
	return e.Err.Error()
}

func (e *exitError) Unwrap() error { return e.Err }

// root is the command with all its subcommands.
func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:           "lingyun",
		Short:         "A private cloud in one binary",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	byName := map[string]*cobra.Command{}
	for _, c := range commands {
		sub := c()
		// Rooms may share a name: `image list` asks the cloud, `image build` works on this machine.
		if same := byName[sub.Name()]; same != nil {
			same.AddCommand(sub.Commands()...)
			continue
		}
		byName[sub.Name()] = sub
		cmd.AddCommand(sub)
	}
	return cmd
}

func main() { os.Exit(run()) }

// run ends the context of the command on the first SIGINT or SIGTERM; the second one ends the process.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)

	err := root().ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	var exit *exitError
	if errors.As(err, &exit) {
		if exit.Err != nil {
			fmt.Fprintln(os.Stderr, "lingyun:", exit.Err)
		}
		return exit.Status
	}
	fmt.Fprintln(os.Stderr, "lingyun:", err)
	return 1
}
