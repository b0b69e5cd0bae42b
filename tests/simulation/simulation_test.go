package simulation_test

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// length is how many moves a script has.
const length = 3000

// simulate plays a seed and returns the world as it is in the end.
func simulate(seed uint64, m mutant) (*world, *violation) {
	w := newWorld(seed, m)
	return w, play(w, newScript(seed, length))
}

// TestSeed plays the seed SIM_SEED and tells its last steps, 1 by default. With
// SIM_SCRIPT it makes these moves in the world of the seed, not those of the seed.
func TestSeed(t *testing.T) {
	seed := uint64(1)
	if s := os.Getenv("SIM_SEED"); s != "" {
		var err error
		seed, err = strconv.ParseUint(s, 10, 64)
		require.NoError(t, err)
	}
	w := newWorld(seed, mutant(os.Getenv("SIM_MUTANT")))
	w.story = &story{}
	script := newScript(seed, length)
	if s := os.Getenv("SIM_SCRIPT"); s != "" {
		var err error
		script, err = parseScript(s)
		require.NoError(t, err)
	}
	found := play(w, script)
	t.Logf("%d releases, %d promotions; the last steps:\n%s", w.releases, len(w.db.promotions.order), w.story.last(60))
	for _, k := range w.db.open {
		t.Log(w.describe(k))
	}
	if found != nil {
		t.Fatalf("seed %d: %s", seed, found)
	}
}

// TestSeedsThatFoundSomethingOnce plays the corpus.
func TestSeedsThatFoundSomethingOnce(t *testing.T) {
	text, err := os.ReadFile("testdata/seeds.txt")
	require.NoError(t, err)
	played := 0
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(line, "#") {
			continue
		}
		seed, err := strconv.ParseUint(fields[0], 10, 64)
		require.NoError(t, err)
		if _, found := simulate(seed, none); found != nil {
			t.Error(tell(seed, found))
		}
		played++
	}
	require.NotZero(t, played)
}

// TestManyReleases plays seeds until enough releases were played.
func TestManyReleases(t *testing.T) {
	enough := 800
	if s := os.Getenv("SIM_RELEASES"); s != "" {
		var err error
		enough, err = strconv.Atoi(s)
		require.NoError(t, err)
	}
	r := &run{enough: enough, ended: map[string]int{}}
	if s := os.Getenv("SIM_FIRST"); s != "" {
		var err error
		r.next, err = strconv.ParseUint(s, 10, 64)
		require.NoError(t, err)
	}
	defer debug.SetGCPercent(debug.SetGCPercent(600)) // worlds are small, and thrown away whole
	began := time.Now()
	var all sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		all.Go(r.work)
	}
	all.Wait()
	took := time.Since(began)
	t.Logf("%d releases and %d promotions in %d worlds, in %s: %.0f releases a minute; they ended %v", r.releases, r.promotions, r.worlds, took.Round(time.Millisecond), float64(r.releases)/took.Minutes(), r.ended)
	for _, f := range r.found {
		t.Error(f)
	}
	require.GreaterOrEqual(t, r.ended["succeeded"], enough/3, "a run in which nothing succeeds proves nothing")
}

// A run is many seeds, played side by side, each in a world of its own.
type run struct {
	mu                           sync.Mutex
	enough                       int
	next                         uint64
	releases, promotions, worlds int
	ended                        map[string]int
	found                        []string
}

func (r *run) work() {
	for {
		r.mu.Lock()
		r.next++
		seed, stop := r.next, r.releases >= r.enough || len(r.found) > 4
		r.mu.Unlock()
		if stop {
			return
		}
		w, found := simulate(seed, none)
		r.mu.Lock()
		r.add(w, found)
		r.mu.Unlock()
	}
}

func (r *run) add(w *world, found *violation) {
	r.worlds++
	r.releases += w.releases
	r.promotions += len(w.db.promotions.order)
	for _, k := range w.db.promotions.order {
		r.ended[string(w.db.promotions.rows[k].Status)]++
	}
	if found != nil && len(r.found) == 0 {
		r.found = append(r.found, tell(w.seed, found)+"\n"+shortest(w.seed, none, found))
	} else if found != nil {
		r.found = append(r.found, tell(w.seed, found))
	}
}

// tell tells how to see what a seed found.
func tell(seed uint64, v *violation) string {
	return fmt.Sprintf("seed %d: %s\n\tSIM_SEED=%d go test ./tests/simulation -run TestSeed -v", seed, v, seed)
}

// TestTheSameSeedIsTheSameRun keeps order and clock of the machine out.
func TestTheSameSeedIsTheSameRun(t *testing.T) {
	told := func() string {
		w := newWorld(5, none)
		w.story = &story{}
		play(w, newScript(5, length))
		return w.story.last(1 << 30)
	}
	require.Equal(t, told(), told())
}

// TestEveryMutantIsFound breaks the world on purpose.
func TestEveryMutantIsFound(t *testing.T) {
	for name, m := range map[string]mutant{
		"no fence": noFence, "lost lease": lostLease, "obeys all": obeysAll, "gates once": gatesOnce, "blind slot": blindSlot, "audit outside": auditOutside, "counted epoch": countedEpoch,
	} {
		t.Run(name, func(t *testing.T) {
			for seed := uint64(1); seed <= 200; seed++ {
				if _, found := simulate(seed, m); found != nil {
					t.Logf("found by seed %d: %s", seed, found)
					return
				}
			}
			t.Fatalf("in a world where %s nothing was found", m)
		})
	}
}
