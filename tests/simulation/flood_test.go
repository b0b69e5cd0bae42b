package simulation_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/intent"
	"hotswap.dev/hotswap/pkg/promotion"
)

// quietWorld is a world of one tenant with one deployment, in which nothing goes wrong.
func quietWorld(m mutant, d deploymentShape) *world {
	w, c := emptyWorld(1, m, monday), choice{rand.New(rand.NewPCG(1, 1))}
	s := tenantShape{name: "shop", deployments: []deploymentShape{d}}
	for _, name := range environmentNames {
		e := newEnvironment(c, name)
		e.Spec.Limits.PromotionsPerCluster = 0
		s.environments = append(s.environments, e)
	}
	var fleet []*node
	for i := range 3 {
		fleet = append(fleet, newNode(c, key{"shop", fmt.Sprintf("n%d", i)}, true))
	}
	w.add(s, fleet)
	for _, n := range fleet {
		n.start(w.now)
		w.join(n)
	}
	w.settling = true
	return w
}

// soaking is a deployment whose last stage wants the one before to have run for an hour.
func soaking(concurrency string) deploymentShape {
	d := deploymentShape{name: "app0"}
	direct := intent.Strategy{Type: intent.Direct, Deadline: "2m", HealthyFor: "0s"}
	d.pipeline.Spec = intent.PipelineSpec{Concurrency: concurrency, Stages: []intent.Stage{
		{Name: "dev", Environment: "dev", Strategy: direct},
		{Name: "prod", Environment: "prod", Needs: []string{"dev"}, Strategy: direct, Gates: intent.Gates{Soak: intent.Soak{For: "1h"}}},
	}}
	return d
}

// arrived counts the promotions to an environment that succeeded.
func (w *world) arrived(environment string) (n int) {
	for _, k := range w.db.promotions.order {
		if p := w.db.promotions.rows[k]; p.Environment == environment && p.Status == promotion.Succeeded {
			n++
		}
	}
	return n
}

// flood lets a release come every ten minutes for half a day, and counts those that
// came to the last stage while others still came.
func flood(t *testing.T, m mutant, concurrency string) int {
	w := quietWorld(m, soaking(concurrency))
	for end := w.now.Add(12 * time.Hour); w.now.Before(end); {
		w.push(w.shapes[0], w.shapes[0].deployments[0], good, false)
		for next := w.now.Add(10 * time.Minute); w.now.Before(next) && w.found == nil; {
			w.roundUntil(next)
		}
	}
	require.Nil(t, w.found)
	return w.arrived("prod")
}

func TestReleasesThatComeFasterThanTheSoakStillArrive(t *testing.T) {
	for _, concurrency := range []string{intent.Supersede, intent.Queue} {
		t.Run(concurrency, func(t *testing.T) {
			require.Greater(t, flood(t, none, concurrency), 50)
		})
	}
	t.Run("and none does where the newest of all goes, whose gates are never true", func(t *testing.T) {
		require.Zero(t, flood(t, newestOfAll, intent.Supersede))
	})
}
