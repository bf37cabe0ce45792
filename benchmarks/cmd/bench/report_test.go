package main

import (
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/flipcache/flipcache/benchmarks/internal/report"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// measured returns the figures of what a run printed.
func measured(t *testing.T, text string) *figures {
	t.Helper()
	r := &figures{Results: new(report.Results), machine: report.Machine{CPU: "Some CPU @ 3.00GHz", Cores: "2"}}
	add(t, r, text)
	return r
}

func add(t *testing.T, r *figures, text string) {
	t.Helper()
	if err := r.Add(text); err != nil {
		t.Fatal(err)
	}
	r.machine.Redis = r.Config["redis"]
}

const printed = `go: go1.26
cores: 2
redis: redis-server 7.0.15
goos: linux
cpu: Some CPU @ 3.00GHz
BenchmarkHit/mode=pubsub/goroutines=1-2   700   0 flipcache-allocs/op   20.0 flipcache-ns/op   0 map-allocs/op   10.0 map-ns/op   2.0 x-map
BenchmarkSet/subscribers=1/goroutines=1-2   9   120 flipcache-ns/op   100 multi-ns/op   1.2 x-multi
BenchmarkDelivery-2   9   -1500 publish-end-p50-ns
BenchmarkOther/peer-2   1000   12.5 ns/op   3 B/op
PASS
`

func TestEachSideIsABenchmarkOfItsOwnAndFlipcacheTheLast(t *testing.T) {
	r := measured(t, printed)
	got := string(r.converted())
	at := -1
	for _, want := range []string{
		"BenchmarkHit/mode=pubsub/goroutines=1/via=map 1 10 ns/op\n",
		"BenchmarkHit/mode=pubsub/goroutines=1/via=flipcache 1 20 ns/op\n",
		"BenchmarkHit/mode=pubsub/goroutines=1/via=flipcache 1 0 allocs/op\n",
	} {
		i := strings.Index(got, want)
		if i < at || i < 0 {
			t.Errorf("%q is missing, or not in its place, in\n%s", want, got)
		}
		at = i
	}
	if !strings.Contains(got, "BenchmarkOther/peer 1 12.5 ns/op\n") {
		t.Errorf("a benchmark without sides is missing in\n%s", got)
	}
	if strings.Contains(got, "Delivery") {
		t.Errorf("a figure that is no operation's went to benchstat:\n%s", got)
	}
}

func TestReportNamesTheMachineAndSaysWhichTargetIsMissed(t *testing.T) {
	r := measured(t, printed)
	add(t, r, strings.ReplaceAll(printed, "1.2 x-multi", "1.4 x-multi"))
	got := r.markdown()
	for _, want := range []string{
		"# Benchmarks: Some CPU @ 3.00GHz, 2 cores\n", "| Redis | redis-server 7.0.15, on loopback |\n",
		"| 2 | 2 to 2 | 3 | met |", "| 1.30 | 1.20 to 1.40 | 1.10 | **missed** |",
		"| Delivery | publish-end-p50, µs | -1.5 | -1.5 | -1.5 |",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
	if got, want := r.fileName(), "some-cpu-3-00ghz-2-cores"; got != want {
		t.Errorf("file name: got %q, want %q", got, want)
	}
}

func TestReportOnMiniredisIsMarkedAndJudgesNoRoundTrip(t *testing.T) {
	r := measured(t, strings.ReplaceAll(printed, "redis-server 7.0.15", "miniredis (embedded)"))
	got := r.markdown()
	for _, want := range []string{"Measured on miniredis", "| 3 | met |", "| 1.10 | says nothing |"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
	if got, want := r.fileName(), "some-cpu-3-00ghz-2-cores-miniredis"; got != want {
		t.Errorf("file name: got %q, want %q", got, want)
	}
}
