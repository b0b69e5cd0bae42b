package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"hotswap.dev/hotswap/pkg/intent"
	"hotswap.dev/hotswap/pkg/promotion"
)

// offlineTenant stands for the repository's tenant where nothing says it.
const offlineTenant = "default"

func planCommand() *cobra.Command {
	output, deployment, tenant := "text", "", ""
	c := &cobra.Command{
		Use:   "plan [PATH]",
		Short: "Show what a release would do, without asking a server",
		Long: "Show what releasing the deployments of a repository would do: the release digest, and for each\n" +
			"stage in order its environment, strategy, units, gates and plan digest. Nothing is sent anywhere.\n\n" +
			"Digests depend on the tenant. It is --tenant, or what the deployment says, or \"" + offlineTenant + "\".\n" +
			"Exit code: 0 planned, 3 an intent is invalid, 2 the command was called wrongly.",
		Example: "  # every deployment of the current folder\n  hotswap plan\n\n" +
			"  # one deployment, for another program\n  hotswap plan --deployment checkout -o json",
		Args: usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if output != "text" && output != "json" {
				return usagef("unknown output %q; it is text or json", output)
			}
			root := "."
			if len(args) == 1 {
				root = args[0]
			}
			plans, planErr := planRepository(root, deployment, tenant, c.ErrOrStderr())
			if planErr != nil && len(plans) == 0 {
				return planErr
			}
			write := writePlans
			if output == "json" {
				write = func(w io.Writer, p []releasePlan) error { return writeJSON(w, p) }
			}
			return errors.Join(write(c.OutOrStdout(), plans), planErr)
		},
	}
	c.Flags().StringVarP(&output, "output", "o", output, "text or json")
	c.Flags().StringVar(&deployment, "deployment", "", "plan only this deployment")
	c.Flags().StringVar(&tenant, "tenant", "", "the tenant that the repository belongs to")
	return c
}

// A releasePlan is one element of what `hotswap plan -o json` prints.
type releasePlan struct {
	Deployment string        `json:"deployment"`
	Tenant     string        `json:"tenant"`
	Module     intent.Module `json:"module"`
	Pipeline   string        `json:"pipeline"`
	Release    string        `json:"releaseDigest"`
	Stages     []stagePlan   `json:"stages"` // in an order in which they can run
}

// A stagePlan is what a release would do in one stage.
type stagePlan struct {
	Stage       string            `json:"stage"`
	Needs       []string          `json:"needs"`
	Environment string            `json:"environment"`
	Strategy    intent.Strategy   `json:"strategy"`
	OnFailure   string            `json:"onFailure"`
	Hold        bool              `json:"hold"`    // of what does harm
	Retries     int               `json:"retries"` // of what failed without harm
	OnNewer     string            `json:"onNewer"`
	Concurrency string            `json:"concurrency"`
	Selector    map[string]string `json:"selector"`
	Gates       []string          `json:"gates"`
	Config      intent.Config     `json:"config"`
	Digest      string            `json:"planDigest"`
}

// planRepository plans the deployments of a repository, or the one that is
// named. What refuses a deployment is written to talk, and the others are
// planned all the same.
func planRepository(root, only, tenant string, talk io.Writer) ([]releasePlan, error) {
	repositories, err := openRepositories([]string{root})
	if err != nil {
		return nil, err
	}
	r := repositories[0]
	set, problems := intent.CheckTree(r.tree, tenant)
	names := deploymentNames(r.tree)
	if only != "" && !slices.Contains(names, only) {
		return nil, usagef("there is no deployment %q in %s; there are: %s", only, r.root, strings.Join(names, ", "))
	}
	if only != "" {
		names, problems = []string{only}, set.Problems(only)
	}
	for _, p := range r.asked(problems) {
		fmt.Fprintf(talk, "%s\n\n", p.Text())
	}
	plans, refused := []releasePlan{}, intent.HasErrors(problems)
	for _, name := range names {
		snapshot, err := set.Snapshot(name)
		if errors.Is(err, intent.ErrInvalid) || errors.Is(err, intent.ErrUnknownDeployment) {
			continue // its problems are written above
		}
		if err != nil {
			return plans, err
		}
		if snapshot.Tenant == "" {
			snapshot.Tenant = offlineTenant
		}
		p, err := planRelease(snapshot, set)
		if err != nil {
			return plans, err
		}
		plans = append(plans, p)
	}
	if refused {
		return plans, exitError{code: exitInvalid}
	}
	return plans, nil
}

// deploymentNames returns the names of a tree's deployments, valid or not.
func deploymentNames(tree intent.Tree) []string {
	var names []string
	for p := range tree {
		folder, base, _ := strings.Cut(p, "/")
		if folder == intent.FolderDeployments && !strings.Contains(base, "/") {
			names = append(names, strings.TrimSuffix(strings.TrimSuffix(base, ".yaml"), ".yml"))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// planRelease plans one release through every stage of its pipeline.
func planRelease(s intent.Snapshot, set *intent.Set) (releasePlan, error) {
	release, err := s.Digest()
	if err != nil {
		return releasePlan{}, err
	}
	out := releasePlan{Deployment: s.Deployment, Tenant: s.Tenant, Module: s.Module, Pipeline: s.Pipeline.Metadata.Name, Release: release}
	for _, stage := range inOrder(s.Pipeline.Spec.Stages) {
		env := set.Environments[stage.Environment]
		var policy *intent.Policy
		if p, ok := set.Policies[stage.Gates.Policy()]; ok {
			policy = &p
		}
		plan, err := promotion.NewPlan(s, stage.Name, env, policy, nil)
		if err != nil {
			return releasePlan{}, err
		}
		digest, err := plan.Digest()
		if err != nil {
			return releasePlan{}, err
		}
		out.Stages = append(out.Stages, stagePlan{
			Stage: stage.Name, Needs: append([]string{}, stage.Needs...), Environment: stage.Environment,
			Strategy: stage.Strategy, OnFailure: stage.OnFailure.Action, Hold: stage.OnFailure.Hold, Retries: stage.OnFailure.Retries, OnNewer: cmp.Or(stage.OnNewer, "wait"),
			Concurrency: s.Pipeline.Spec.ConcurrencyOf(stage), Selector: plan.Selector, Gates: stage.Gates.Texts(env.Spec.Windows),
			Config: s.Configs[stage.Environment], Digest: digest,
		})
	}
	return out, nil
}

// inOrder returns stages so that each comes after what it needs, else as they
// are written. The stages are valid, so every round finds one.
func inOrder(stages []intent.Stage) []intent.Stage {
	var out []intent.Stage
	done := map[string]bool{}
	for range stages {
		for _, s := range stages {
			if !done[s.Name] && !slices.ContainsFunc(s.Needs, func(n string) bool { return !done[n] }) {
				done[s.Name] = true
				out = append(out, s)
				break
			}
		}
	}
	return out
}

func writePlans(w io.Writer, plans []releasePlan) error {
	var b strings.Builder
	for i, p := range plans {
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "%s: %s %s, tenant %s, pipeline %s\n", p.Deployment, p.Module.Name, p.Module.Version, p.Tenant, p.Pipeline)
		fmt.Fprintf(&b, "  artifact  %s\n  release   %s\n", p.Module.Digest, p.Release)
		for n, s := range p.Stages {
			fmt.Fprintf(&b, "  %d. %s\n", n+1, s.title())
			fmt.Fprintf(&b, "     strategy  %s; on failure %s\n", s.Strategy.Text(), failureText(s))
			fmt.Fprintf(&b, "     newer     %s\n", newerText(s.Concurrency, s.OnNewer))
			gates := "none"
			if len(s.Gates) > 0 {
				gates = strings.Join(s.Gates, ", ")
			}
			fmt.Fprintf(&b, "     units     nodes with %s\n     gates     %s\n     plan      %s\n", intent.Labels(s.Selector), gates, s.Digest)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (s stagePlan) title() string {
	title := s.Stage
	if s.Environment != s.Stage {
		title += " in environment " + s.Environment
	}
	if len(s.Needs) > 0 {
		title += ", after " + strings.Join(s.Needs, " and ")
	}
	return title
}
