package attack_test

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/approval"
	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/engine"
	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/gitrepo"
	"hotswap.dev/hotswap/pkg/promotion"
	"hotswap.dev/hotswap/pkg/store"
	"hotswap.dev/hotswap/pkg/target"
	"hotswap.dev/hotswap/tests/conformance"
	"hotswap.dev/hotswap/tests/pgtest"
)

const (
	tenant   = "acme"
	slot     = "production/checkout"
	releases = conformance.Releases
)

// A world is a repository at a forge with an engine that works for it, people, and one
// node that does what it is told.
type world struct {
	t      *testing.T
	lab    conformance.Lab
	super  *pgx.Conn
	store  *store.Store
	engine *engine.Engine
	beside *engine.Engine // works for the same repository, and nobody meddles with its forge
	keys   audit.Keys
	forge  *meddler
	repo   string // at the forge
	name   string // here
	team   string // of bo and chris
	seq    int64
	turns  int

	ann, carl         approval.Account // who writes, and who merges
	bo, chris         approval.Account // who approve, of the team
	dana              approval.Account // who may write, and is in no team
	eve               approval.Account // who may read
	everybodyWhoWrote []approval.Account
}

func newWorld(t *testing.T, lab conformance.Lab) *world {
	t.Helper()
	db := pgtest.New(t)
	writer := audit.NewWriter(ed25519.NewKeyFromSeed([]byte(strings.Repeat("w", 32))))
	st, err := store.Open(t.Context(), store.Options{DSN: db.DSN("hotswap_app"), MaxConns: 4}, writer)
	require.NoError(t, err)
	t.Cleanup(st.Close)
	sign, err := gitrepo.SSHSigner(ed25519.NewKeyFromSeed([]byte(strings.Repeat("s", 32))))
	require.NoError(t, err)
	w := &world{t: t, lab: lab, store: st, keys: audit.Keys{writer.ID(): writer.Public()}, forge: &meddler{Forge: lab.Forge()}}
	w.repo = lab.Repository(t)
	_, w.name, _ = strings.Cut(w.repo, "/")
	git, remote := lab.Git(t, w.repo)
	work := func(f func() forge.Forge) *engine.Engine {
		return engine.New(st, func(string, string) (*gitrepo.Repository, error) { return git, nil }, engine.Options{
			Sign: sign, Concurrency: 1, // what happens between two calls, happens between those two
			Forges: func(string, string) (forge.Forge, string, bool) { return f(), w.repo, true },
			Remotes: func(string, string) (gitrepo.Remote, bool) {
				if remote == nil {
					return gitrepo.Remote{}, false
				}
				return *remote, true
			},
		})
	}
	w.engine = work(func() forge.Forge { return w.forge })
	w.beside = work(lab.Forge)
	w.super, err = pgx.Connect(t.Context(), db.AdminDSN())
	require.NoError(t, err)
	t.Cleanup(func() { _ = w.super.Close(context.Background()) })
	w.people()
	require.NoError(t, st.AddRepository(t.Context(), tenant, w.name, "main"))
	token, err := st.CreateJoinToken(t.Context(), tenant, map[string]string{"environment": "production"}, time.Hour, person("ann"))
	require.NoError(t, err)
	_, err = st.Join(t.Context(), target.Join{Token: token, Name: "prod-1"}, ed25519.PublicKey(strings.Repeat("p", 32)))
	require.NoError(t, err)
	return w
}

func person(name string) audit.Actor { return audit.Actor{Kind: audit.Person, Name: name} }

func (w *world) people() {
	for who, prefix := range map[*approval.Account]string{&w.ann: "ann", &w.carl: "carl", &w.bo: "bo", &w.chris: "chris", &w.dana: "dana"} {
		*who = w.lab.Account(w.t, prefix)
		w.lab.Permit(w.t, w.repo, *who, approval.Write)
	}
	w.eve = w.lab.Account(w.t, "eve")
	w.lab.Permit(w.t, w.repo, w.eve, approval.Read)
	w.team = w.lab.Team(w.t, w.repo, w.bo, w.chris)
}

// A meddler is the forge, with what happens between two calls of the engine to it.
type meddler struct {
	forge.Forge
	fails  map[string]error // by method
	before map[string]func()
	merge  func() (string, error)              // instead of a merge
	shown  func(p approval.Pull) approval.Pull // of what is shown
	hidden bool                                // who pushed what is deployed
}

func (m *meddler) Pull(ctx context.Context, repo string, number int64) (approval.Pull, error) {
	if err := m.call("Pull"); err != nil {
		return approval.Pull{}, err
	}
	p, err := m.Forge.Pull(ctx, repo, number)
	if err == nil && m.shown != nil {
		p = m.shown(p)
	}
	return p, err
}

func (m *meddler) Members(ctx context.Context, repo string, ask forge.Ask) (approval.Members, error) {
	if err := m.call("Members"); err != nil {
		return approval.Members{}, err
	}
	return m.Forge.Members(ctx, repo, ask)
}

func (m *meddler) Origin(ctx context.Context, repo, commit string) ([]approval.Account, error) {
	if err := m.call("Origin"); err != nil {
		return nil, err
	}
	people, err := m.Forge.Origin(ctx, repo, commit)
	if m.hidden {
		people = append(people, approval.Account{Login: approval.UnknownPusher})
	}
	return people, err
}

func (m *meddler) Merge(ctx context.Context, repo string, number int64, how forge.Merge) (string, error) {
	if err := m.call("Merge"); err != nil {
		return "", err
	}
	if m.merge != nil {
		return m.merge()
	}
	return m.Forge.Merge(ctx, repo, number, how)
}

func (m *meddler) call(method string) error {
	if do := m.before[method]; do != nil {
		delete(m.before, method) // once
		do()
	}
	return m.fails[method]
}

func (w *world) fail(method string, err error) { w.forge.fails = map[string]error{method: err} }

func (w *world) when(method string, do func()) { w.forge.before = map[string]func(){method: do} }

func deployment(version string) string {
	return `apiVersion: hotswap.dev/v1
kind: Deployment
metadata: {name: checkout}
spec:
  module:
    name: checkout
    version: "` + version + `"
    artifact: https://example.com/checkout-` + version + `.tar.gz
    digest: sha256:` + strings.Repeat("ab", 32) + `
  config: {env: {VERSION: "` + version + `"}}
  pipeline: gated
`
}

const pipeline = `apiVersion: hotswap.dev/v1
kind: Pipeline
metadata: {name: gated}
spec:
  stages:
    - {name: production, environment: production, gates: {approval: production}, strategy: {type: direct}}
`

func environment(window string) string {
	return "apiVersion: hotswap.dev/v1\nkind: Environment\nmetadata: {name: production}\nspec: {selector: {environment: production}" + window + "}\n"
}

func policy(spec string) string {
	return "apiVersion: hotswap.dev/v1\nkind: Policy\nmetadata: {name: production}\nspec: " + spec + "\n"
}

func (w *world) twoOfTheTeam() string {
	return policy("{approvals: {team: " + w.team + ", count: 2}}")
}

// change brings files to main as people do: ann writes, carl agrees and merges.
func (w *world) change(by approval.Account, files map[string]string) {
	w.t.Helper()
	branch := fmt.Sprintf("change-%d", len(w.everybodyWhoWrote))
	w.everybodyWhoWrote = append(w.everybodyWhoWrote, by)
	head := w.lab.Write(w.t, w.repo, branch, "main", files, by)
	number := w.lab.Open(w.t, w.repo, branch, "main", by)
	w.lab.Review(w.t, w.repo, number, w.carl, approval.Approved, head)
	w.lab.MergeBy(w.t, w.repo, number, w.carl)
}

// first brings the first version with a policy; empty: two of the team.
func (w *world) first(rules string) {
	w.t.Helper()
	if rules == "" {
		rules = w.twoOfTheTeam()
	}
	w.change(w.ann, map[string]string{
		"deployments/checkout.yaml": deployment("1.4.2"), "pipelines/gated.yaml": pipeline,
		"environments/production.yaml": environment(""), "policies/production.yaml": rules,
	})
	w.settle()
}

// turn does everything once, whether it is due or not: people and webhooks need not wake it.
func (w *world) turn() { w.turnOf(w.engine) }

// turnOf is a turn of one of the engines; what another has claimed, it takes over.
func (w *world) turnOf(e *engine.Engine) {
	w.t.Helper()
	w.turns++
	w.exec("UPDATE due SET wake_at = now(), lease_until = NULL")
	w.obey()
	for _, do := range []func() (int, error){
		func() (int, error) { return e.Validate(w.t.Context()) },
		func() (int, error) { return e.Advance(w.t.Context()) },
		func() (int, error) { return e.Deliver(w.t.Context()) },
	} {
		_, err := do()
		require.NoError(w.t, err)
	}
}

// settle does everything until nothing moves any more.
func (w *world) settle() {
	w.t.Helper()
	still := 0
	for before := w.stand(); still < 2; {
		w.turn()
		after := w.stand()
		if still++; after != before {
			before, still = after, 0
		}
		require.Less(w.t, w.turns, 300, "it never comes to rest: %s", after)
	}
	v := audit.NewVerifier(tenant, w.keys)
	require.NoError(w.t, w.store.VerifyAudit(w.t.Context(), tenant, v))
	require.Equal(w.t, audit.Verified, v.Report().Verdict, "%+v", v.Report())
	require.NoError(w.t, w.store.EachPromotion(w.t.Context(), tenant, func(r store.Replayed) error {
		return promotion.CheckReplay(r.Stored, r.Transitions)
	}))
}

// stand is where everything stands, in a text.
func (w *world) stand() string {
	return w.ask(`SELECT coalesce((SELECT string_agg(id || ' ' || status || ' ' || phase || ' ' || version || ' ' || coalesce(waiting_for ->> 'evidence', ''), E'\n' ORDER BY id) FROM promotions), '')
		|| coalesce((SELECT string_agg(number || ' ' || head || ' ' || merged_number, E'\n') FROM pulls), '')
		|| coalesce((SELECT string_agg(records_tip, '') FROM repositories), '')`)
}

func (w *world) obey() {
	w.t.Helper()
	orders, err := w.store.Orders(w.t.Context(), tenant, "prod-1")
	require.NoError(w.t, err)
	w.seq++
	r := target.Report{Boot: 1, Seq: w.seq, At: time.Now()}
	healthy := func(i *target.Instance) *target.InstanceReport {
		if i == nil {
			return nil
		}
		return &target.InstanceReport{Digest: i.Digest, Version: i.Module.Version, Phase: target.Healthy}
	}
	for _, o := range orders {
		r.Places = append(r.Places, target.PlaceReport{Place: o.Place, Position: o.Position, Active: healthy(o.Active), Standby: healthy(o.Standby)})
	}
	require.NoError(w.t, w.store.SaveReport(w.t.Context(), tenant, "prod-1", r))
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	_, err := w.super.Exec(w.t.Context(), sql, args...)
	require.NoError(w.t, err, sql)
}

func (w *world) ask(sql string, args ...any) (text string) {
	w.t.Helper()
	require.NoError(w.t, w.super.QueryRow(w.t.Context(), sql, args...).Scan(&text), sql)
	return text
}

// A row is the newest promotion as people see it.
type row struct {
	ID     string
	Status promotion.Status
	Says   string // what it waits for, or why it ended
}

func (w *world) newest() row {
	w.t.Helper()
	rows, err := w.store.Promotions(w.t.Context(), tenant, 100)
	require.NoError(w.t, err)
	require.NotEmpty(w.t, rows)
	out := row{ID: rows[0].ID, Status: rows[0].Status, Says: rows[0].Reason}
	if wf := rows[0].Waiting; wf != nil {
		out.Says = wf.What + ": " + wf.Evidence
	}
	return out
}

// runs is the version that the node was told to run; empty: none.
func (w *world) runs() string {
	w.t.Helper()
	orders, err := w.store.Orders(w.t.Context(), tenant, "prod-1")
	require.NoError(w.t, err)
	for _, o := range orders {
		if o.Active != nil {
			return o.Active.Module.Version
		}
	}
	return ""
}

// pull is the living promotion pull request as the forge has it.
func (w *world) pull() approval.Pull {
	w.t.Helper()
	p, err := w.lab.Forge().Pull(w.t.Context(), w.repo, w.number())
	require.NoError(w.t, err)
	return p
}

func (w *world) number() (n int64) {
	w.t.Helper()
	_, err := fmt.Sscan(w.ask("SELECT number FROM pulls"), &n)
	require.NoError(w.t, err)
	require.NotZero(w.t, n, "there is no pull request")
	return n
}

// approve lets people approve what the pull request shows now.
func (w *world) approve(people ...approval.Account) {
	w.t.Helper()
	p := w.pull()
	for _, by := range people {
		w.lab.Review(w.t, w.repo, p.Number, by, approval.Approved, p.Head)
	}
}

func (w *world) rows(action string) int {
	w.t.Helper()
	var n int
	_, err := fmt.Sscan(w.ask("SELECT count(*)::text FROM audit WHERE action = $1", action), &n)
	require.NoError(w.t, err)
	return n
}
