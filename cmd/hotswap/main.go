// Hotswap is the one program of HotSwap: command line, platform, functions and
// node agent.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() { os.Exit(run()) }

// run runs the command that the process was started with, and returns its exit
// code. An interrupt or a termination ends the command's context.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if name := functionToRun(os.Args[1:], os.Getenv); name != "" { // a host waits: no other command is put together
		return exitCode(os.Stderr, runFunction(ctx, name, os.Getenv))
	}
	root := rootCommand()
	return exitCode(root.ErrOrStderr(), root.ExecuteContext(ctx))
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "hotswap",
		Short:         "Roll out modules from Git, with approvals, and back",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usagef("%w; see %s --help", err, c.CommandPath())
	})
	root.AddCommand(
		lintCommand(), planCommand(), diffCommand(), explainCommand(),
		boardCommand(), statusCommand(), watchCommand(), approvalsCommand(), approveCommand(), breakGlassCommand(), promoteCommand(), rejectCommand(), pauseCommand(), resumeCommand(), abortCommand(),
		rollbackCommand(), holdCommand(), checkCommand(), slotCommand(), epochCommand(), secretCommand(), auditCommand(),
		serveCommand(), setupCommand(), functionCommand(), doctorCommand(), demoCommand(), loadCommand(),
		prCommand(), accountCommand(), branchCommand(),
		nodeCommand(), joinTokenCommand(), tokenCommand(), moduleCommand(),
	)
	return root
}
