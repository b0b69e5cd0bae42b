package auth_test

import (
	"context"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/auth"
)

// A ledger keeps rows in memory, or cannot.
type ledger struct {
	rows []audit.Row
	err  error
}

func (l *ledger) Record(_ context.Context, tenant string, rows func(now time.Time) []audit.Row) error {
	for _, r := range rows(signedAt) {
		if r.Tenant != tenant {
			return errors.New("row of another tenant")
		}
		if _, err := audit.NewWriter(signingKey()).Sign(r); err != nil {
			return err
		}
		if l.err == nil {
			l.rows = append(l.rows, r)
		}
	}
	return l.err
}

// policy says for each action who may, and whether the permission is a row of its own.
var policy = map[auth.Action]struct {
	may    string
	record bool
}{
	auth.RepositoryRead:   {"admin deployer viewer", false},
	auth.RepositoryPush:   {"admin deployer", true},
	auth.AuditRead:        {"admin", true},
	auth.PromotionRead:    {"admin deployer viewer", false},
	auth.PromotionStop:    {"admin deployer", false},
	auth.PromotionPause:   {"admin deployer", false},
	auth.PromotionDecide:  {"admin", false},
	auth.PromotionCheck:   {"admin deployer", false},
	auth.PromotionApprove: {"admin", false},
	auth.GlassBreak:       {"admin deployer", false},
	auth.SlotRestore:      {"admin deployer", false},
	auth.HoldSet:          {"admin deployer", false},
	auth.HoldLift:         {"admin", false},
	auth.EpochRaise:       {"admin", false},
	auth.SecretSet:        {"admin", false},
	auth.SecretList:       {"admin", false},
	auth.NodeSecrets:      {"node", false},
	auth.SlotClean:        {"admin", false},
	auth.JoinTokenCreate:  {"admin", false},
	auth.TokenCreate:      {"admin", false},
	auth.NodeRemove:       {"admin", false},
	auth.NodeWanted:       {"node", false},
	auth.NodeReport:       {"node", false},
	auth.PullRead:         {"admin deployer viewer", false},
	auth.PullReview:       {"admin deployer viewer", false},
	auth.PullOpen:         {"admin deployer", false},
	auth.PullMerge:        {"admin deployer", false},
	auth.PullClose:        {"admin deployer", false},
	auth.ReviewDismiss:    {"admin", false},
	auth.RecordsPush:      {"admin", true},
	auth.AccountChange:    {"admin", false},
	auth.BranchProtect:    {"admin", false},
	auth.FunctionRead:     {"admin", false},
	auth.FunctionCall:     {"admin", false},
	auth.FunctionScale:    {"admin", false},
	auth.FunctionDeploy:   {"admin", true},
	auth.FunctionDelete:   {"admin", true},
	auth.FunctionSecret:   {"admin", true},
	"no.such.action":      {"", false},
	"":                    {"", false},
}

func roles() []auth.Role {
	return []auth.Role{auth.Admin, auth.Deployer, auth.Viewer, auth.Node, "", "root", "Admin"}
}

// actions are the constants of type Action in the package's source: a new one without a line above fails.
func actions(t *testing.T) (out []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "authorize.go", nil, 0)
	require.NoError(t, err)
	ast.Inspect(file, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok {
			if id, ok := v.Type.(*ast.Ident); ok && id.Name == "Action" {
				out = append(out, strings.Trim(v.Values[0].(*ast.BasicLit).Value, `"`))
			}
		}
		return true
	})
	return out
}

func TestEveryRoleMayDoWhatThePolicySaysAndNothingElse(t *testing.T) {
	for _, a := range actions(t) {
		require.Contains(t, policy, auth.Action(a), "an action of the package is missing in this table")
	}
	require.Len(t, policy, len(actions(t))+2)
	type who struct{ name, tenant, asked string }
	for action, rule := range policy {
		for _, role := range roles() {
			for _, w := range []who{
				{"ann", "acme", "acme"}, {"ann", "globex", "acme"}, {"ann", "", "acme"}, {"", "acme", "acme"}, {"ann", "", ""},
			} {
				l := &ledger{}
				p := auth.Principal{Actor: audit.Actor{Kind: audit.Person, Name: w.name}, Tenant: w.tenant, Role: role}
				err := auth.NewAuthorizer(l).Authorize(t.Context(), p, action, w.asked, "thing 1")
				may := slices.Contains(strings.Fields(rule.may), string(role)) && w.name != "" && w.tenant == w.asked
				switch {
				case w.asked == "":
					require.Error(t, err, "there is no tenant without a name, and no trail for its row")
				case may && rule.record:
					require.NoError(t, err)
					require.Len(t, l.rows, 1)
					require.Equal(t, string(action)+".allowed", l.rows[0].Action)
				case may:
					require.NoError(t, err)
					require.Empty(t, l.rows, "what it does writes its own row")
				default:
					require.ErrorIs(t, err, auth.ErrDenied, "%s %+v %s", role, w, action)
					require.Len(t, l.rows, 1, "a refusal is always a row")
					require.Equal(t, string(action)+".refused", l.rows[0].Action)
					require.Equal(t, w.asked, l.rows[0].Tenant)
					require.Equal(t, "thing 1", l.rows[0].Subject)
					require.NotEmpty(t, l.rows[0].Actor.Name)
				}
			}
		}
	}
}

func TestWhenTheRowCannotBeWrittenNothingThatNeedsOneIsAllowed(t *testing.T) {
	full := errors.New("disk full")
	for action, rule := range policy {
		for _, role := range roles() {
			p := auth.Principal{Actor: audit.Actor{Kind: audit.Person, Name: "ann"}, Tenant: "acme", Role: role}
			err := auth.NewAuthorizer(&ledger{err: full}).Authorize(t.Context(), p, action, "acme", "thing 1")
			if slices.Contains(strings.Fields(rule.may), string(role)) && !rule.record {
				require.NoError(t, err)
				continue
			}
			require.ErrorIs(t, err, full)
			require.NotErrorIs(t, err, auth.ErrDenied, "it is not the caller's fault")
		}
	}
}

func TestTwoRefusalsOfOneThingAreTwoRows(t *testing.T) {
	l := &ledger{}
	for range 2 {
		require.ErrorIs(t, auth.NewAuthorizer(l).Authorize(t.Context(), auth.Principal{}, auth.AuditRead, "acme", "trail"), auth.ErrDenied)
	}
	require.NotEqual(t, l.rows[0].ID, l.rows[1].ID)
	require.Equal(t, "anonymous", l.rows[0].Actor.Name)
}
