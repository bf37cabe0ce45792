package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/flipcache/flipcache/benchmarks/internal/report"
)

// figures are what was measured, and where.
type figures struct {
	began                 time.Time
	count                 int
	benchtime             time.Duration
	commit                string
	loadBefore, loadAfter string

	raw     strings.Builder   // what the benchmarks printed
	config  map[string]string // "cpu", "cores", "go", "redis" and the like
	results []result          // in the order in which the benchmarks first ran
	tables  []string          // by benchstat, one a topic
}

// A result is one figure of one benchmark, in all runs.
type result struct {
	benchmark string // without "Benchmark" and the number of processors
	unit      string
	values    report.Figure
}

// add takes in what a run printed, in the Go benchmark format.
func (r *figures) add(text string) {
	r.raw.WriteString(text + "\n")
	if r.config == nil {
		r.config = make(map[string]string)
	}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) >= 4 && strings.HasPrefix(f[0], "Benchmark") {
			name := strings.TrimPrefix(f[0], "Benchmark")
			if i := strings.LastIndexByte(name, '-'); i >= 0 {
				name = name[:i]
			}
			for i := 2; i+1 < len(f); i += 2 {
				if v, err := strconv.ParseFloat(f[i], 64); err == nil {
					r.figure(name, f[i+1], v)
				}
			}
			continue
		}
		if key, value, ok := strings.Cut(strings.TrimSpace(line), ": "); ok && !strings.Contains(key, " ") {
			r.config[key] = value
		}
	}
}

func (r *figures) figure(benchmark, unit string, v float64) {
	for i := range r.results {
		if r.results[i].benchmark == benchmark && r.results[i].unit == unit {
			r.results[i].values = append(r.results[i].values, v)
			return
		}
	}
	r.results = append(r.results, result{benchmark, unit, report.Figure{v}})
}

func (r *figures) find(benchmark, unit string) (result, bool) {
	i := slices.IndexFunc(r.results, func(x result) bool { return x.benchmark == benchmark && x.unit == unit })
	if i < 0 {
		return result{}, false
	}
	return r.results[i], true
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
		if v := r.config[key]; v != "" {
			fmt.Fprintf(&b, "%s: %s\n", key, v)
		}
	}
	rank := func(x result) int {
		via, rest, _ := side(x.unit)
		n := slices.Index([]string{"ns/op", "allocs/op"}, rest)
		if via == "flipcache" {
			n += 2
		}
		return n
	}
	for _, x := range slices.SortedStableFunc(slices.Values(r.results), func(x, y result) int { return rank(x) - rank(y) }) {
		name, unit := x.benchmark, x.unit
		if via, rest, ok := side(unit); ok {
			name, unit = name+"/via="+via, rest
		} else if !plain(unit) {
			continue
		}
		for _, v := range x.values {
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
	for _, x := range r.results {
		if _, _, ok := side(x.unit); !ok && !plain(x.unit) {
			continue
		}
		if name, _, _ := strings.Cut(x.benchmark, "/"); !slices.Contains(names, name) {
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
	fmt.Fprintf(&b, "# Benchmarks: %s, %s cores\n\n", r.config["cpu"], r.config["cores"])
	if r.embedded() {
		b.WriteString("**Measured on miniredis, inside the process: what has a round trip in it says nothing about Redis.**\n\n")
	}
	b.WriteString(r.machine().Markdown())

	b.WriteString("\n## Numbers to reach\n\nEach figure is the median of the runs.\n")
	b.WriteString("On an idle machine most of a round trip from one goroutine is the waking of a core, which hides what the library adds:\n")
	b.WriteString("with 64 goroutines nothing sleeps, and where client and Redis share the cores, each microsecond of either shows.\n\n")
	b.WriteString("| what | figure | lowest to highest run | at most | |\n|---|---|---|---|---|\n")
	for _, t := range targets {
		x, ok := r.find(t.benchmark, t.unit)
		if !ok {
			continue
		}
		limit, verdict := "", ""
		if t.limit >= 0 {
			limit, verdict = report.Number(t.limit), "met"
			switch {
			case r.embedded() && !strings.HasPrefix(t.benchmark, "Hit/"):
				verdict = "says nothing"
			case x.values.Median() > t.limit:
				verdict = "**missed**"
			}
		}
		fmt.Fprintf(&b, "| %s | %s | %s to %s | %s | %s |\n", t.what, report.Number(x.values.Median()), report.Number(x.values.Low()), report.Number(x.values.High()), limit, verdict)
	}

	b.WriteString("\n## Side by side\n\n")
	b.WriteString("By benchstat: medians of the runs with their 95% confidence, and the change against the first column.\n")
	for _, t := range r.tables {
		fmt.Fprintf(&b, "\n```\n%s\n```\n", t)
	}

	b.WriteString("\n## All other figures\n\n")
	b.WriteString("`x-side`: the time of flipcache by that side's, in the same round.\n\n")
	b.WriteString("| benchmark | figure | median run | lowest | highest |\n|---|---|---|---|---|\n")
	for _, x := range r.results {
		if _, _, ok := side(x.unit); ok || plain(x.unit) {
			continue
		}
		show, unit := report.Number, x.unit
		if name, ok := strings.CutSuffix(unit, "-ns"); ok {
			show, unit = report.Microseconds, name+", µs"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", x.benchmark, unit, show(x.values.Median()), show(x.values.Low()), show(x.values.High()))
	}
	return b.String()
}

func (r *figures) embedded() bool { return strings.HasPrefix(r.config["redis"], "miniredis") }

func (r *figures) machine() report.Machine {
	return report.Machine{
		CPU: r.config["cpu"], Cores: r.config["cores"], System: r.config["goos"] + "/" + r.config["goarch"],
		Go: r.config["go"], Redis: r.config["redis"], Commit: r.commit,
		Began: r.began, LoadBefore: r.loadBefore, LoadAfter: r.loadAfter,
		Runs: fmt.Sprintf("%d of %v a benchmark, each in a process of its own", r.count, r.benchtime),
	}
}

// fileName returns one name a machine, without an extension.
func (r *figures) fileName() string {
	name := r.machine().Slug()
	if r.embedded() {
		name += "-miniredis"
	}
	return name
}
