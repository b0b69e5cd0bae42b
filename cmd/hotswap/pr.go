package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"hotswap.dev/hotswap/pkg/approval"
	"hotswap.dev/hotswap/pkg/auth"
	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/forge/builtin"
	"hotswap.dev/hotswap/pkg/gitrepo"
	"hotswap.dev/hotswap/pkg/platform"
	"hotswap.dev/hotswap/pkg/store"
)

func prCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "pr",
		Short: "Pull requests of the built-in forge: read, review and merge them",
		Long: `The built-in forge is for one machine. Reading needs the data folder. Whatever is said or done is said
in the name of the account whose token --token-file holds: hotswap account token makes one.`,
	}
	c.AddCommand(prListCommand(), prShowCommand(), prDiffCommand(), prOpenCommand(), prReviewCommand(), prCommentCommand(), prCloseCommand(), prMergeCommand())
	return c
}

// A speaker acts on the built-in forge of an installation.
type speaker struct {
	*installation
	forge *builtin.Forge
	at    forgeAt
	who   approval.Account
	p     auth.Principal
}

// withForge opens the forge of a data folder to read it.
func withForge(c *cobra.Command, data string, fn func(ctx context.Context, s speaker) error) error {
	return withInstallation(c, data, func(ctx context.Context, in *installation) error {
		if in.Gitea != nil {
			return usagef("pull requests, accounts and branches are those of %s/%s: use its pages", strings.TrimSuffix(in.Gitea.URL, "/"), in.Gitea.Repository)
		}
		dir, err := platform.OpenDataDir(data)
		if err != nil {
			return err
		}
		s := speaker{installation: in, p: in.operator}
		s.at = forgeAt{
			store: in.store, tenant: in.Tenant, repository: in.Repository, url: in.URL, webhook: in.secrets.Webhook,
			open: func(name string) (*gitrepo.Repository, error) {
				return gitrepo.Open(dir.Path("git", in.Tenant, name+".git"))
			},
		}
		if s.forge, err = openForge(ctx, s.at); err != nil {
			return err
		}
		return forgeError(fn(ctx, s))
	})
}

// may authorises whoever speaks.
func (s speaker) may(ctx context.Context, a auth.Action, resource string) error {
	err := s.authorizer.Authorize(ctx, s.p, a, s.Tenant, resource)
	if errors.Is(err, auth.ErrDenied) {
		return exitError{exitAuth, fmt.Errorf("%s: %w", s.p.Actor.Name, err)}
	}
	return err
}

// forgeError says what to do about an error of the forge.
func forgeError(err error) error {
	switch {
	case errors.Is(err, forge.ErrNotFound):
		return fmt.Errorf("%w; list what there is with: hotswap pr list", err)
	case errors.Is(err, forge.ErrInvalid):
		return exitError{exitUsage, err}
	case errors.Is(err, forge.ErrHeadMoved):
		return fmt.Errorf("%w; look at it again with: hotswap pr show", err)
	}
	return err
}

// speaking gives a command that says or does something its flags: in the name of a token.
func speaking(c *cobra.Command, a auth.Action, subject string, do func(ctx context.Context, s speaker, args []string) error) *cobra.Command {
	data := dataFlag(c)
	file := c.Flags().String("token-file", "", "file with the token of the account that does it (required)")
	c.RunE = func(c *cobra.Command, args []string) error {
		if *file == "" {
			return usagef("--token-file is required: it is done by somebody; make a token with: hotswap account token LOGIN FILE")
		}
		token, err := os.ReadFile(filepath.Clean(*file))
		if err != nil {
			return exitError{exitAuth, err}
		}
		return withForge(c, *data, func(ctx context.Context, s speaker) error {
			s.who, err = s.store.AccountByToken(ctx, s.Tenant, strings.TrimSpace(string(token)))
			if errors.Is(err, store.ErrToken) {
				return exitError{exitAuth, fmt.Errorf("the token in %s proves nobody: it is unknown, revoked or has ended", *file)}
			}
			if err != nil {
				return err
			}
			if s.p, err = s.at.principal(ctx, s.who); err != nil {
				return err
			}
			if err := s.may(ctx, a, subject+" "+strings.Join(args, " ")); err != nil {
				return err
			}
			return do(ctx, s, args)
		})
	}
	return c
}

// number reads the number of a pull request.
func number(arg string) (int64, error) {
	n, err := strconv.ParseInt(strings.TrimPrefix(arg, "#"), 10, 64)
	if err != nil || n <= 0 {
		return 0, usagef("%q is not the number of a pull request", arg)
	}
	return n, nil
}

func prOpenCommand() *cobra.Command {
	var want forge.PullRequest
	c := speaking(&cobra.Command{
		Use:   "open BRANCH",
		Short: "Propose that a branch is merged",
		Example: "  hotswap pr open checkout-1.5.0 --title 'checkout 1.4.2 → 1.5.0' --token-file ann.token\n" +
			"  hotswap pr open fix --title 'a fix' --base main --token-file ann.token --data /var/lib/hotswap",
		Args: usageArgs(cobra.ExactArgs(1)),
	}, auth.PullOpen, "pull request", func(ctx context.Context, s speaker, args []string) error {
		want.HeadRef = args[0]
		p, err := s.forge.Open(ctx, s.at.full(), want, s.who)
		if err == nil {
			fmt.Fprintf(s.out, "#%d %s onto %s at %.8s\n", p.Number, printable(p.HeadRef), printable(p.Base), p.Head)
		}
		return err
	})
	c.Flags().StringVar(&want.Title, "title", "", "what it is about, in a line (required)")
	c.Flags().StringVar(&want.Body, "body", "", "and in more words")
	c.Flags().StringVar(&want.Base, "base", "main", "branch that it is for")
	return c
}

func prReviewCommand() *cobra.Command {
	var approve, changes bool
	var text, commit string
	c := speaking(&cobra.Command{
		Use:   "review NUMBER",
		Short: "Approve what was shown, or ask for changes",
		Long: `A review is of one commit: the one that hotswap pr show and hotswap pr diff name. When the head has
moved since, the review is refused.`,
		Example: "  hotswap pr review 3 --approve --commit 51bd0200112233445566778899aabbccddeeff00 --token-file bo.token\n" +
			"  hotswap pr review 3 --request-changes --comment 'not before the holidays' --commit 51bd0200 --token-file bo.token",
		Args: usageArgs(cobra.ExactArgs(1)),
	}, auth.PullReview, "pull request", func(ctx context.Context, s speaker, args []string) error {
		n, err := number(args[0])
		if err != nil {
			return err
		}
		r := builtin.Review{Verdict: approval.Approved, Text: text}
		switch {
		case approve == changes:
			return usagef("say --approve or --request-changes")
		case len(commit) < 7:
			return usagef("--commit is required: a review is of the commit that you have seen, see hotswap pr show %d", n)
		case changes:
			r.Verdict = approval.ChangesRequested
		}
		p, err := s.forge.Pull(ctx, s.at.full(), n)
		if err != nil {
			return err
		}
		if !strings.HasPrefix(p.Head, commit) {
			return fmt.Errorf("%w: it is at %s, and you have seen %s", forge.ErrHeadMoved, p.Head, commit)
		}
		r.Commit = p.Head
		if _, err := s.forge.Review(ctx, s.at.full(), n, r, s.who); err != nil {
			return err
		}
		fmt.Fprintf(s.out, "%s %s #%d at %.8s\n", s.who.Login, verdictWords(r.Verdict), n, r.Commit)
		return nil
	})
	c.Flags().BoolVar(&approve, "approve", false, "it may be merged")
	c.Flags().BoolVar(&changes, "request-changes", false, "it may not")
	c.Flags().StringVar(&commit, "commit", "", "commit that was looked at, at least its first 7 digits (required)")
	c.Flags().StringVar(&text, "comment", "", "why")
	return c
}

func verdictWords(v approval.Verdict) string {
	switch v {
	case approval.Approved:
		return "approved"
	case approval.ChangesRequested:
		return "asked for changes of"
	case approval.Commented:
		return "commented on"
	}
	return string(v)
}

func prCommentCommand() *cobra.Command {
	text := ""
	c := speaking(&cobra.Command{
		Use:   "comment NUMBER",
		Short: "Say something; no comment approves anything",
		Example: "  hotswap pr comment 3 --text 'is the load test done?' --token-file bo.token\n" +
			"  hotswap pr comment 3 --text 'yes' --token-file ann.token --data /var/lib/hotswap",
		Args: usageArgs(cobra.ExactArgs(1)),
	}, auth.PullReview, "pull request", onPull(func(ctx context.Context, s speaker, n int64) error {
		return s.forge.Say(ctx, s.at.full(), n, text, s.who)
	}))
	c.Flags().StringVar(&text, "text", "", "what to say (required)")
	return c
}

// onPull reads the number that a command is about.
func onPull(do func(ctx context.Context, s speaker, n int64) error) func(ctx context.Context, s speaker, args []string) error {
	return func(ctx context.Context, s speaker, args []string) error {
		n, err := number(args[0])
		if err != nil {
			return err
		}
		return do(ctx, s, n)
	}
}

func prCloseCommand() *cobra.Command {
	return speaking(&cobra.Command{
		Use:   "close NUMBER",
		Short: "Close a pull request without a merge; of a promotion, that says no to it",
		Example: "  hotswap pr close 3 --token-file ann.token\n" +
			"  hotswap pr close 3 --token-file ann.token --data /var/lib/hotswap",
		Args: usageArgs(cobra.ExactArgs(1)),
	}, auth.PullClose, "pull request", onPull(func(ctx context.Context, s speaker, n int64) error {
		return s.forge.CloseBy(ctx, s.at.full(), n, s.who)
	}))
}

func prMergeCommand() *cobra.Command {
	commit := ""
	c := speaking(&cobra.Command{
		Use:   "merge NUMBER",
		Short: "Merge the commit that was looked at",
		Example: "  hotswap pr merge 1 --commit 51bd0200 --token-file ann.token\n" +
			"  hotswap pr merge 1 --commit 51bd0200 --token-file ann.token --data /var/lib/hotswap",
		Args: usageArgs(cobra.ExactArgs(1)),
	}, auth.PullMerge, "pull request", onPull(func(ctx context.Context, s speaker, n int64) error {
		if len(commit) < 7 {
			return usagef("--commit is required: the commit that is to be merged, see hotswap pr show %d", n)
		}
		p, err := s.forge.Pull(ctx, s.at.full(), n)
		if err != nil {
			return err
		}
		if !strings.HasPrefix(p.Head, commit) {
			return fmt.Errorf("%w: it is at %s, not at %s", forge.ErrHeadMoved, p.Head, commit)
		}
		made, err := s.forge.MergeBy(ctx, s.at.full(), n, forge.Merge{ExpectedHead: p.Head}, s.who)
		if err == nil {
			fmt.Fprintf(s.out, "#%d is merged by %.12s\n", n, made)
		}
		return err
	}))
	c.Flags().StringVar(&commit, "commit", "", "commit that is to be merged, at least its first 7 digits (required)")
	return c
}
