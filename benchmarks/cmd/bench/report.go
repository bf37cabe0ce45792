package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/flipcache/flipcache/benchmarks/internal/report"
)

// figures are what was measured, and where.
type figures struct {
	*report.Results
	machine report.Machine
	tables  []string // by benchstat, one a topic
}

// side takes a unit such as "map-ns/op" apart. ok is false for other ones.
func side(unit string) (via, rest string, ok bool) {
	for _, rest := range []string{"ns/op", "allocs/op"} {
		if via, ok := strings.CutSuffix(unit, "-"+rest); ok {
			return via, rest, true
		}
	}
	return "", "", false
}

// converted returns the results for benchstat: each side of a benchmark is a
// benchmark of its own, with "via=side" in its name. Figures of other units are
// left to the report's own table, those of benchmarks without sides are left
// as they are. benchstat compares with the side that comes first: flipcache is
// the last.
func (r *figures) converted() []byte {
	var b strings.Builder
	for _, key := range []string{"goos", "goarch", "cpu", "cores", "go", "redis"} {
		if v := r.Config[key]; v != "" {
			fmt.Fprintf(&b, "%s: %s\n", key, v)
		}
	}
	rank := func(x report.Result) int {
		via, rest, _ := side(x.Unit)
		n := slices.Index([]string{"ns/op", "allocs/op"}, rest)
		if via == "flipcache" {
			n += 2
		}
		return n
	}
	for _, x := range slices.SortedStableFunc(slices.Values(r.All), func(x, y report.Result) int { return rank(x) - rank(y) }) {
		name, unit := x.Benchmark, x.Unit
		if via, rest, ok := side(unit); ok {
			name, unit = name+"/via="+via, rest
		} else if !plain(unit) {
			continue
		}
		for _, v := range x.Values {
			fmt.Fprintf(&b, "Benchmark%s 1 %v %s\n", name, v, unit)
		}
	}
	return []byte(b.String())
}

// plain says whether unit is one of those that go test reports by itself.
func plain(unit string) bool {
	return slices.Contains([]string{"ns/op", "B/op", "allocs/op", "MB/s"}, unit)
}

// topics returns the names of the benchmarks that benchstat has figures for.
func (r *figures) topics() (names []string) {
	for _, x := range r.All {
		if _, _, ok := side(x.Unit); !ok && !plain(x.Unit) {
			continue
		}
		if name, _, _ := strings.Cut(x.Benchmark, "/"); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// targets are the numbers to reach. A limit below 0 is none.
var targets = []struct {
	what, benchmark, unit string
	limit                 float64
}{
	{"a local hit, by a Go map lookup", "Hit/mode=pubsub/goroutines=1", "x-map", 3},
	{"a local hit, allocations", "Hit/mode=pubsub/goroutines=1", "flipcache-allocs/op", 0},
	{"Set, by MULTI SET PUBLISH EXEC", "Set/subscribers=1/goroutines=1", "x-multi", 1.10},
	{"the same from 64 goroutines", "Set/subscribers=1/goroutines=64", "x-multi", 1.10},
	{"Set, by a bare SET", "Set/subscribers=1/goroutines=1", "x-set", -1},
	{"the same from 64 goroutines", "Set/subscribers=1/goroutines=64", "x-set", -1},
	{"100,000 reads, GET by the local tier", "Original", "get-by-flipcache", -1},
	{"the same, as the Python package publishes it", "Original", "get-by-flipcache-in-python", -1},
	{"100,000 reads, GET by a Go map", "Original", "get-by-map", -1},
}

func (r *figures) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Benchmarks: %s, %s cores\n\n", r.machine.CPU, r.machine.Cores)
	if r.Embedded() {
		b.WriteString("**Measured on miniredis, inside the process: what has a round trip in it says nothing about Redis.**\n\n")
	}
	b.WriteString(r.machine.Markdown())

	b.WriteString("\n## Numbers to reach\n\nEach figure is the median of the runs.\n")
	b.WriteString("On an idle machine most of a round trip from one goroutine is the waking of a core, which hides what the library adds:\n")
	b.WriteString("with 64 goroutines nothing sleeps, and where client and Redis share the cores, each microsecond of either shows.\n\n")
	b.WriteString("| what | figure | lowest to highest run | at most | |\n|---|---|---|---|---|\n")
	for _, t := range targets {
		values, ok := r.Find(t.benchmark, t.unit)
		if !ok {
			continue
		}
		limit, verdict := "", ""
		if t.limit >= 0 {
			limit, verdict = report.Number(t.limit), "met"
			switch {
			case r.Embedded() && !strings.HasPrefix(t.benchmark, "Hit/"):
				verdict = "says nothing"
			case values.Median() > t.limit:
				verdict = "**missed**"
			}
		}
		fmt.Fprintf(&b, "| %s | %s | %s to %s | %s | %s |\n", t.what, report.Number(values.Median()), report.Number(values.Low()), report.Number(values.High()), limit, verdict)
	}

	b.WriteString("\n## Side by side\n\n")
	b.WriteString("By benchstat: medians of the runs with their 95% confidence, and the change against the first column.\n")
	for _, t := range r.tables {
		fmt.Fprintf(&b, "\n```\n%s\n```\n", t)
	}

	b.WriteString("\n## All other figures\n\n")
	b.WriteString("`x-side`: the time of flipcache by that side's, in the same round.\n\n")
	b.WriteString("| benchmark | figure | median run | lowest | highest |\n|---|---|---|---|---|\n")
	for _, x := range r.All {
		if _, _, ok := side(x.Unit); ok || plain(x.Unit) {
			continue
		}
		show, unit := report.Number, x.Unit
		if name, ok := strings.CutSuffix(unit, "-ns"); ok {
			show, unit = report.Microseconds, name+", µs"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", x.Benchmark, unit, show(x.Values.Median()), show(x.Values.Low()), show(x.Values.High()))
	}
	return b.String()
}

// fileName returns one name a machine, without an extension.
func (r *figures) fileName() string {
	name := r.machine.Slug()
	if r.Embedded() {
		name += "-miniredis"
	}
	return name
}
