package main

import (
	"fmt"
	"strings"

	"github.com/flipcache/flipcache/benchmarks/internal/report"
	"github.com/flipcache/flipcache/benchmarks/peers"
)

// A target is a number to reach. One without a limit is shown for comparison.
type target struct {
	what    string
	figure  func(f figures) (report.Figure, bool)
	atMost  float64
	atLeast float64
	judged  bool
}

var targets = []target{
	{"a local hit, by a Go map lookup", ratio("Hit/goroutines=1", "flipcache", "map"), 1.45, 0, true},
	{"two in parallel, throughput by that of one", speedup("Hit", "flipcache"), 0, 1.8, true},
	{"a local hit, allocations", plain("Hit/goroutines=1", "flipcache", "allocs/op"), 0, 0, true},
	{"otter with TTL by a local hit", ratio("Hit/goroutines=1", "otter+ttl", "flipcache"), 0, 3.3, true},
	{"what a lease adds to a hit, by a clock read", leaseByClock, 1.1, 0, true},
	{"otter with TTL by a local hit with a lease", ratio("Hit/goroutines=1", "otter+ttl", "flipcache/lease"), 0, 1.4, true},
	{"the fastest two-tier peer's hit by FlipCache's, of a struct", fastestTwoTier("flipcache"), 0, 20, true},
	{"the same, of a pointer to it", fastestTwoTier("flipcache/pointer"), 0, 20, true},
	{"rueidis' DoCache, before its decode, by a hit of a struct", ratio("TwoTierHit/goroutines=1", "rueidis/bytes", "flipcache"), 0, 12, true},
	{"the same, of a pointer to it", ratio("TwoTierHit/goroutines=1", "rueidis/bytes", "flipcache/pointer"), 0, 12, true},
	{"100,000 keys by Zipf: otter with TTL by FlipCache", ratio("Zipf/goroutines=1", "otter+ttl", "flipcache"), 0, 1.5, true},
	{"the same, otter without TTL", ratio("Zipf/goroutines=1", "otter", "flipcache"), 0, 0, false},
	{"miss and evict: otter by FlipCache's container", ratio("Churn/goroutines=8", "otter", "flipcache/fifo"), 0, 1, true},
	{"bytes an entry, beside key and value", plain("Memory", "flipcache", bytes), 100, 0, true},
}

// plain is a figure as it was measured.
func plain(benchmark, side, unit string) func(figures) (report.Figure, bool) {
	return func(f figures) (report.Figure, bool) { return f.Find(benchmark, side+"-"+unit) }
}

// ratio is a side's time by another's.
func ratio(benchmark, over, under string) func(figures) (report.Figure, bool) {
	return func(f figures) (report.Figure, bool) {
		x, ok1 := f.Find(benchmark, over+"-"+nanoseconds)
		y, ok2 := f.Find(benchmark, under+"-"+nanoseconds)
		return x.Over(y), ok1 && ok2
	}
}

func speedup(benchmark, side string) func(figures) (report.Figure, bool) {
	return func(f figures) (report.Figure, bool) {
		x, ok1 := f.Find(benchmark+"/goroutines=1", side+"-"+nanoseconds)
		y, ok2 := f.Find(benchmark+"/goroutines=2", side+"-"+nanoseconds)
		return x.Over(y), ok1 && ok2
	}
}

func leaseByClock(f figures) (report.Figure, bool) {
	const benchmark = "Hit/goroutines=1"
	with, ok1 := f.Find(benchmark, "flipcache/lease-"+nanoseconds)
	without, ok2 := f.Find(benchmark, "flipcache-"+nanoseconds)
	clock, ok3 := f.Find(benchmark, "clock-"+nanoseconds)
	return with.Minus(without).Over(clock), ok1 && ok2 && ok3
}

// fastestTwoTier is that of the two-tier peers which decode whose median is the
// lowest, by ours.
func fastestTwoTier(our string) func(figures) (report.Figure, bool) {
	return func(f figures) (best report.Figure, found bool) {
		const benchmark = "TwoTierHit/goroutines=1"
		ours, ok := f.Find(benchmark, our+"-"+nanoseconds)
		if !ok {
			return nil, false
		}
		for _, p := range peers.TwoTiers() {
			x, ok := f.Find(benchmark, p.Name+"-"+nanoseconds)
			if ok && !p.Raw && !ourOwn(p.Name) && (!found || x.Median() < best.Median()) {
				best, found = x, true
			}
		}
		return best.Over(ours), found
	}
}

// ourOwn says whether a side is FlipCache.
func ourOwn(side string) bool { return strings.HasPrefix(side, "flipcache") }

func (t target) limit() string {
	switch {
	case !t.judged:
		return ""
	case t.atLeast > 0:
		return "at least " + report.Number(t.atLeast)
	}
	return "at most " + report.Number(t.atMost)
}

func (t target) verdict(f report.Figure) string {
	met := f.Median() <= t.atMost
	if t.atLeast > 0 {
		met = f.Median() >= t.atLeast
	}
	switch {
	case !t.judged:
		return ""
	case met:
		return "met"
	}
	return "**missed**"
}

func (t target) row(f report.Figure) string {
	return fmt.Sprintf("| %s | %s | %s to %s | %s | %s |\n", t.what,
		report.Number(f.Median()), report.Number(f.Low()), report.Number(f.High()), t.limit(), t.verdict(f))
}
