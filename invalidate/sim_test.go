package invalidate

import (
	"flag"
	"fmt"
	"strings"
	"testing"
	"time"
)

var (
	simSeed  = flag.Uint64("sim.seed", 0, "seed of the simulation; 0: a fresh one")
	simSteps = flag.Uint64("sim.steps", 0, "steps of the simulation; 0: a short run")
)

const (
	simEpisode    = 2000 // steps that are drawn in an episode
	simShortSteps = 150_000
)

// episode returns what the seed says: what the episode is about, and its steps.
func simEpisodeOf(seed uint64) (simConfig, []uint64) {
	r := simRand(seed)
	cfg := simConfigOf(r.next())
	steps := make([]uint64, simEpisode)
	for i := range steps {
		steps[i] = r.next()
	}
	return cfg, steps
}

// TestSimulation runs processes through interleavings and faults that a seed draws,
// and checks each promise at each step: see docs/correctness.md. An episode that
// breaks one is made shorter, and printed.
//
//	go test ./invalidate -run TestSimulation -sim.steps=10000000 -sim.seed=1 -v
func TestSimulation(t *testing.T) {
	t.Parallel()
	if *simSteps > 0 {
		simulate(t, *simSeed, *simSteps)
		return
	}
	simulate(t, 1, simShortSteps)
	simulate(t, *simSeed, simShortSteps)
}

func simulate(t *testing.T, seed, steps uint64) {
	t.Helper()
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	began := time.Now()
	var all simStats
	n := 0
	for ; all.steps < steps; n++ {
		s := seed + uint64(n)
		cfg, trace := simEpisodeOf(s)
		w := runSim(cfg, trace, nil)
		all.add(w.stats)
		if w.failed != "" {
			t.Fatalf("after %d steps, seed %d, replay with -sim.seed=%d -sim.steps=1\n%v\n%s\n%s", all.steps, seed, s, cfg, w.failed, simStory(cfg, trace, w.failed))
		}
	}
	took := time.Since(began)
	t.Logf("seed %d: %d steps in %d episodes, %v, %.0f a second: no promise was broken", seed, all.steps, n, took.Round(time.Millisecond), float64(all.steps)/took.Seconds())
	t.Logf("%v", all)
}

// simStory returns the shortest trace found that breaks the same promise, told step
// by step.
func simStory(cfg simConfig, steps []uint64, failed string) string {
	promise, _, _ := strings.Cut(failed, ":")
	breaks := func(steps []uint64) bool {
		w := runSim(cfg, steps, nil)
		return strings.HasPrefix(w.failed, promise+":")
	}
	whole := len(steps)
	steps = shrink(steps, breaks)
	var lines []string
	runSim(cfg, steps, func(line string) { lines = append(lines, line) })
	return fmt.Sprintf("%d of %d steps are enough:\n%s", len(steps), whole, strings.Join(lines, "\n"))
}

// shrink drops steps as long as what is left breaks the promise.
func shrink(steps []uint64, breaks func([]uint64) bool) []uint64 {
	for size, before := len(steps)/2, len(steps); size > 0; {
		shorter := false
		for from := 0; from < len(steps); {
			less := append(append([]uint64(nil), steps[:from]...), steps[min(from+size, len(steps)):]...)
			if breaks(less) {
				steps, shorter = less, true
			} else {
				from += size
			}
		}
		if !shorter || size > 1 {
			size /= 2
		}
		if size == 0 && len(steps) < before*9/10 { // once more
			size, before = len(steps)/2, len(steps)
		}
	}
	return steps
}
