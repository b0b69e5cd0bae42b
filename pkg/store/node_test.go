package store_test

import (
	"crypto/ed25519"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/audit"
	"hotswap.dev/hotswap/pkg/store"
	"hotswap.dev/hotswap/pkg/target"
)

var ann = audit.Actor{Kind: audit.Person, Name: "ann"}

func (b *base) token(labels map[string]string) string {
	b.t.Helper()
	token, err := b.store.CreateJoinToken(b.t.Context(), tenant, labels, time.Hour, ann)
	require.NoError(b.t, err)
	return token
}

func (b *base) joins(token, name, key string, labels map[string]string) (target.Joined, error) {
	return b.store.Join(b.t.Context(), target.Join{Token: token, Name: name, Labels: labels}, ed25519.PublicKey(strings.Repeat(key, 32)))
}

func TestAJoinTokenLetsOneNodeInOnceWithItsLabelsOnly(t *testing.T) {
	b := newBase(t, 2)
	qa, prod := map[string]string{"environment": "qa"}, map[string]string{"environment": "production"}
	token := b.token(qa)
	_, err := b.joins(token, "n1", "a", prod)
	require.ErrorIs(t, err, store.ErrConflict, "labels that are not the token's")
	_, err = b.joins(token, "n1", "a", map[string]string{"team": ""})
	require.ErrorIs(t, err, store.ErrConflict, "nor an empty one that it does not have")
	first, err := b.joins(token, "n1", "a", qa)
	require.NoError(t, err)
	require.Equal(t, target.Joined{Node: "acme.n1", Tenant: tenant, Labels: qa}, first)
	again, err := b.joins(token, "n1", "a", qa)
	require.NoError(t, err, "the answer was lost")
	require.Equal(t, first, again)
	require.Equal(t, 1, ask[int](b, "SELECT count(*)::int FROM audit WHERE action = 'node.joined'"))

	for name, try := range map[string]struct{ token, node, key string }{
		"the token was used by another name": {token, "n2", "a"},
		"the token was used by another key":  {token, "n1", "b"},
		"unknown":                            {"acme." + strings.Repeat("x", 32), "n3", "a"},
		"of another tenant":                  {strings.Replace(token, "acme.", "globex.", 1), "n3", "a"},
		"no tenant":                          {"x", "n3", "a"},
		"not text":                           {"acme\x00.x", "n3", "a"},
		"not a token's characters":           {"acme.\xff", "n3", "a"},
		"endless":                            {"acme." + strings.Repeat("x", 1<<20), "n3", "a"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := b.joins(try.token, try.node, try.key, nil)
			require.ErrorIs(t, err, store.ErrToken)
		})
	}
	late := b.token(qa)
	b.sql("UPDATE join_tokens SET expires_at = now() WHERE used_by IS NULL")
	_, err = b.joins(late, "n3", "a", nil)
	require.ErrorIs(t, err, store.ErrToken)
	require.Equal(t, "n1", ask[string](b, "SELECT string_agg(name, ' ') FROM nodes"))
}

func TestWhoMayAddANodeToOneEnvironmentCannotTakeTheNameOfANodeOfAnother(t *testing.T) {
	b := newBase(t, 2)
	_, err := b.joins(b.token(map[string]string{"environment": "production"}), "prod-1", "a", nil)
	require.NoError(t, err)
	_, err = b.joins(b.token(map[string]string{"environment": "qa"}), "prod-1", "b", nil)
	require.ErrorIs(t, err, store.ErrConflict)
	key, err := b.store.NodeKey(t.Context(), "acme.prod-1")
	require.NoError(t, err)
	require.Equal(t, strings.Repeat("a", 32), string(key))
	_, err = b.joins(b.token(map[string]string{"environment": "production"}), "prod-1", "b", nil)
	require.NoError(t, err, "a reinstalled node with a token of its own environment gets its name back")
	require.NoError(t, b.store.RemoveNode(t.Context(), tenant, "prod-1", ann, "it is a machine of qa now"))
	_, err = b.store.NodeKey(t.Context(), "acme.prod-1")
	require.ErrorIs(t, err, store.ErrNotFound, "its key is worth nothing any more")
	require.ErrorIs(t, b.store.RemoveNode(t.Context(), tenant, "prod-1", ann, "again"), store.ErrNotFound)
	_, err = b.joins(b.token(map[string]string{"environment": "qa"}), "prod-1", "c", nil)
	require.NoError(t, err)
	for _, id := range []string{"acme.nobody", "globex.prod-1", "acme", ".prod-1", "acme.prod-1.x"} {
		_, err := b.store.NodeKey(t.Context(), id)
		require.ErrorIs(t, err, store.ErrNotFound, id)
	}
}

// placed is a node with an order for two places.
func (b *base) placed() {
	b.t.Helper()
	_, err := b.joins(b.token(nil), "n1", "a", nil)
	require.NoError(b.t, err)
	b.sql(`INSERT INTO wanted (tenant, node, environment, deployment, epoch, token, generation, promotion, at)
		SELECT 'acme', 'n1', 'qa', d, 1, 1, 1, 'p', now() FROM unnest(ARRAY['checkout', 'cart']) d`)
}

func report(boot, seq int64, details ...string) target.Report {
	r := target.Report{Boot: boot, Seq: seq, Agent: "v1\x00"}
	for i, d := range details {
		r.Places = append(r.Places, target.PlaceReport{
			Place:  target.Place{Environment: "qa", Deployment: []string{"checkout", "cart", "ghost", "gh\x00st"}[i]},
			Active: &target.InstanceReport{Detail: d, Phase: target.Unhealthy},
		})
	}
	return r
}

func (b *base) details() string {
	return ask[string](b, "SELECT coalesce(string_agg(deployment || '=' || (report #>> '{active,detail}'), ' ' ORDER BY deployment), '') FROM reports")
}

func TestOnlyANewerReportOfAPlaceThatWasOrderedIsKept(t *testing.T) {
	b := newBase(t, 1)
	b.placed()
	save := func(r target.Report) {
		t.Helper()
		require.NoError(t, b.store.SaveReport(t.Context(), tenant, "n1", r))
	}
	save(report(5, 5, "one", "two", "never ordered", "no name"))
	require.Equal(t, "cart=two checkout=one", b.details())
	seen := ask[time.Time](b, "SELECT last_seen FROM nodes")
	for name, stale := range map[string]target.Report{
		"the same again": report(5, 5, "stale"), "an older one": report(5, 4, "stale"), "one from before the restart": report(4, 9, "stale"),
	} {
		save(stale)
		require.Equal(t, "cart=two checkout=one", b.details(), name)
		require.Equal(t, seen, ask[time.Time](b, "SELECT last_seen FROM nodes"), name)
	}
	save(report(6, 1, "restarted"))
	require.Equal(t, "cart=two checkout=restarted", b.details())
	require.NoError(t, b.store.SaveReport(t.Context(), tenant, "n2", report(9, 9, "a node that nobody knows")))
	require.NoError(t, b.store.SaveReport(t.Context(), "globex", "n1", report(9, 9, "another tenant's")))
	require.Equal(t, "cart=two checkout=restarted", b.details())
}

func TestWhatAModuleSaysOfItselfCannotMakeItsNodesReportsUnstorable(t *testing.T) {
	b := newBase(t, 1)
	b.placed()
	r := report(1, 1, "answered \x00\x01\u2028\"\\u0000 and \xff", "fine")
	twice := r.Places[1]
	twice.Active = &target.InstanceReport{Detail: "told twice"}
	r.Places = append(r.Places, twice)
	require.NoError(t, b.store.SaveReport(t.Context(), tenant, "n1", r))
	require.Equal(t, "cart=told twice checkout=answered \uFFFD\x01\u2028\"\\u0000 and \uFFFD", b.details())
}
