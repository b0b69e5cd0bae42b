package attack_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"hotswap.dev/hotswap/pkg/approval"
	"hotswap.dev/hotswap/pkg/forge"
	"hotswap.dev/hotswap/pkg/promotion"
	"hotswap.dev/hotswap/tests/conformance"
)

// shuffles is how many histories are shuffled: HOTSWAP_SHUFFLES, or a few.
func shuffles(t *testing.T) int {
	t.Helper()
	text := os.Getenv("HOTSWAP_SHUFFLES")
	if text == "" {
		return 4
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err, "HOTSWAP_SHUFFLES")
	return n
}

// A post carries webhooks, badly: it drops, doubles, delays and reorders them.
type post struct {
	w    *world
	rand *rand.Rand
	lost float64 // of the webhooks; 1: all
	bag  []func()
	sent int
}

// hook is a webhook of something that just happened.
func (p *post) hook(event string, number int64) {
	if p.rand.Float64() < p.lost {
		return
	}
	p.sent++
	id := fmt.Sprintf("hook-%d", p.sent)
	send := func() {
		var body []byte
		var err error
		if event == "push" {
			body, err = forge.NewPushBody(1, forge.Push{Repository: p.w.repo, Ref: "refs/heads/main", After: p.w.tip("main")})
		} else {
			body, err = forge.NewPullBody(forge.Wake{RepositoryID: "1", Repository: p.w.repo, Number: number})
		}
		require.NoError(p.w.t, err)
		p.w.deliverAs(id, event, body)
	}
	for range 1 + p.rand.IntN(2) {
		p.bag = append(p.bag, send)
	}
}

// step does one thing at random: a webhook comes, a function works, the node reports.
func (p *post) step() {
	w := p.w
	switch n := p.rand.IntN(6); {
	case n == 0 && len(p.bag) > 0:
		i := p.rand.IntN(len(p.bag))
		send := p.bag[i]
		p.bag = append(p.bag[:i], p.bag[i+1:]...)
		send()
	case n == 1:
		w.obey()
	case n == 2: // cron's reconcile, of some of what is open
		w.exec("UPDATE due SET wake_at = now(), lease_until = NULL WHERE hashtext(id || $1) % 2 = 0", fmt.Sprint(p.rand.Int()))
	default:
		work := []func() (int, error){
			func() (int, error) { return w.engine.Validate(w.t.Context()) },
			func() (int, error) { return w.engine.Advance(w.t.Context()) },
			func() (int, error) { return w.engine.Deliver(w.t.Context()) },
		}[p.rand.IntN(3)]
		_, err := work()
		require.NoError(w.t, err)
	}
}

// until steps until something is seen; what only a lost webhook would have told is found
// by the reconcile.
func (p *post) until(what string, seen func() bool) {
	p.w.t.Helper()
	for i := 0; !seen(); i++ {
		require.Less(p.w.t, i, 3000, "never seen: %s\n%s", what, p.w.stand())
		p.step()
	}
}

// Whatever becomes of the webhooks, the same versions run in the end, each approved.
func TestShuffledHistoriesEndAlike(t *testing.T) { eachForge(t, shuffled) }

func shuffled(t *testing.T, lab conformance.Lab) {
	ends := make([]string, shuffles(t))
	t.Run("seeds", func(t *testing.T) {
		for seed := range ends {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				ends[seed] = shuffle(t, lab, uint64(seed))
			})
		}
	})
	for seed, end := range ends {
		require.Equal(t, ends[0], end, "seed %d", seed)
	}
	require.NotEmpty(t, ends[0])
}

// shuffle plays two releases and answers what runs in the end.
func shuffle(t *testing.T, lab conformance.Lab, seed uint64) string {
	w := newWorld(t, lab)
	p := &post{w: w, rand: rand.New(rand.NewPCG(seed, 1)), lost: []float64{0, 0.3, 0.7, 1}[seed%4]}
	files := map[string]string{
		"pipelines/gated.yaml": pipeline, "environments/production.yaml": environment(""), "policies/production.yaml": w.twoOfTheTeam(),
	}
	for i, version := range []string{"1.4.2", "1.5.0"} {
		files["deployments/checkout.yaml"] = deployment(version)
		w.change(w.ann, files)
		files = map[string]string{}
		p.hook("push", 0)
		id := ""
		p.until("a pull request of "+version, func() bool {
			id = w.ask("SELECT coalesce((SELECT u.promotion FROM pulls u JOIN promotions p ON (p.tenant, p.id) = (u.tenant, u.promotion) WHERE u.number <> 0 AND p.spec #>> '{instance,module,version}' = $1), '')", version)
			return id != ""
		})
		number := w.number()
		for _, who := range []approval.Account{w.bo, w.chris} {
			for range p.rand.IntN(20) {
				p.step()
			}
			w.approve(who)
			p.hook("pull_request_approved", number)
		}
		p.until(version+" to run", func() bool {
			return w.ask("SELECT status FROM promotions WHERE id = $1", id) == string(promotion.Succeeded)
		})
		require.Equal(t, version, w.runs())
		require.Equal(t, fmt.Sprint(i+1), w.ask("SELECT count(*)::text FROM promotions WHERE status = 'succeeded'"), "each runs once")
	}
	for _, late := range p.bag { // what comes when all is over changes nothing
		late()
	}
	w.settle()
	require.Zero(t, w.foreign())
	return w.ask("SELECT string_agg(environment || '/' || deployment || ' ' || (active #>> '{module,version}') || ' ' || (active ->> 'digest'), ', ') FROM wanted")
}
