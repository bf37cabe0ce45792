package main

import (
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/flipcache/flipcache/benchmarks/internal/report"
)

// The adapters are linked in, and with them what their peers start at once.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/golang/glog.(*loggingT).flushDaemon"))
}

const (
	first = `go: go1.26
cores: 2
redis: redis-server 7.0.15
cpu: Some CPU @ 3.00GHz
BenchmarkHit/goroutines=1-2  9  10 map-ns/op  0 map-allocs/op  50 otter+ttl-ns/op  1 otter+ttl-allocs/op  20 flipcache-ns/op  0 flipcache-allocs/op  40 flipcache/lease-ns/op  10 clock-ns/op  2 x-map
BenchmarkHit/goroutines=2-2  9  5 map-ns/op  25 otter+ttl-ns/op  10 flipcache-ns/op
BenchmarkTwoTierHit/goroutines=1-2  9  300 rueidis/bytes-ns/op  700 rueidis-ns/op  420 jetcache-go-ns/op  20 flipcache-ns/op
BenchmarkMemory-2  1  50 map-B/entry  90 flipcache-B/entry
PASS
`
	second = `BenchmarkHit/goroutines=1-2  9  10 map-ns/op  0 map-allocs/op  90 otter+ttl-ns/op  1 otter+ttl-allocs/op  30 flipcache-ns/op  0 flipcache-allocs/op  45 flipcache/lease-ns/op  10 clock-ns/op
PASS
`
)

func measured(t *testing.T, texts ...string) figures {
	t.Helper()
	f := figures{new(report.Results), report.Machine{CPU: "Some CPU @ 3.00GHz", Cores: "2"}}
	for _, text := range texts {
		if err := f.Add(text); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func TestTablesAreSortedAndHaveRatiosRunByRun(t *testing.T) {
	got := measured(t, first, second).markdown("plot.svg", map[string]string{"github.com/maypok86/otter/v2": "v2.4.0"})
	at := -1
	for _, want := range []string{
		"# Peers: Some CPU @ 3.00GHz, 2 cores\n",
		"![all tables, on a logarithmic scale](plot.svg)",
		"## Local hit\n",
		"| map | 10.0 (10.0 to 10.0) | 0.42 | 5.00 (5.00 to 5.00) | 0.50 | 0 |\n",
		"| (one reading of the clock) |",
		"| **flipcache** | 25.0 (20.0 to 30.0) | 1 | 10.0 (10.0 to 10.0) | 1 | 0 |\n",
		"| **flipcache/lease** | 42.5 (40.0 to 45.0) | 1.75 | | | ",
		"| otter+ttl | 70.0 (50.0 to 90.0) | 2.75 | 25.0 (25.0 to 25.0) | 2.50 | 1 |\n",
		"## Memory an entry\n",
		"| **flipcache** | 90.0 (90.0 to 90.0) | 1 |\n",
		"| otter+ttl | github.com/maypok86/otter/v2 v2.4.0 | yes | yes |\n",
	} {
		i := strings.Index(got, want)
		if i < at || i < 0 {
			t.Errorf("%q is missing, or not in its place, in\n%s", want, got)
		}
		at = max(at, i)
	}
	if strings.Contains(got, "## Two-tier miss") {
		t.Error("a table of what was not measured")
	}
}

func TestTargetsAreJudgedByMedians(t *testing.T) {
	got := measured(t, first, second).markdown("", nil)
	for _, want := range []string{
		"| a local hit, by a Go map lookup | 2.50 | 2 to 3 | at most 1.45 | **missed** |\n",
		"| two in parallel, throughput by that of one | 2 | 2 to 2 | at least 1.80 | met |\n",
		"| a local hit, allocations | 0 | 0 to 0 | at most 0 | met |\n",
		"| otter with TTL by a local hit | 2.75 | 2.50 to 3 | at least 3.30 | **missed** |\n",
		"| what a lease adds to a hit, by a clock read | 1.75 | 1.50 to 2 | at most 1.10 | **missed** |\n",
		// Not rueidis/bytes, which does not decode.
		"| the fastest two-tier peer's hit by FlipCache's, of a struct | 21 | 21 to 21 | at least 20 | met |\n",
		"| rueidis' DoCache, before its decode, by a hit of a struct | 15 | 15 to 15 | at least 12 | met |\n",
		"| bytes an entry, beside key and value | 90 | 90 to 90 | at most 100 | met |\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
}

func TestWhatWasNotMeasuredIsNamed(t *testing.T) {
	got := strings.Join(measured(t, first).missing(), "\n")
	for _, want := range []string{"TwoTierMiss/goroutines=1", "Churn/goroutines=8"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
	if strings.Contains(got, "Memory") {
		t.Errorf("Memory was measured: %s", got)
	}
}

func TestPlotNamesEverySide(t *testing.T) {
	picture, err := measured(t, first).svg()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Local hit", "otter+ttl", "flipcache/lease", "Memory an entry", "two in parallel"} {
		if !strings.Contains(string(picture), want) {
			t.Errorf("%q is missing in the plot", want)
		}
	}
}
