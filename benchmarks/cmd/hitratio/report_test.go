package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/flipcache/flipcache/benchmarks/hitratio"
	"github.com/flipcache/flipcache/benchmarks/internal/report"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// measured returns figures of three policies in four cells.
func measured() *figures {
	return &figures{
		plan:    plan{policies: hitratio.Policies()[:3], count: 1},
		machine: report.Machine{CPU: "Some CPU", Cores: "2"},
		rows: []*row{
			{"a", 10, 100, false, []float64{58, 50, 40}},
			{"a", 10, 200, false, []float64{60, 55, 60.5}},
			{"a", 10, 100, true, []float64{52, 52.9, 40}},
			{"a", 10, 200, true, []float64{54, 50, 40}},
		},
	}
}

func TestReportHasMeansAndTheLeadOverTheBetterLibrary(t *testing.T) {
	got := measured().markdown("plot.svg", map[string]string{"github.com/maypok86/otter/v2": "v2.4.0"})
	at := -1
	for _, want := range []string{
		"# Hit ratios: the 54 cells\n", "(plot.svg)",
		"| mean of all cells | 56.00 | at least 54.4 | met |\n",
		"| without invalidations | 59.00 | at least 55.8 | met |\n",
		"| with them | 53.00 | at least 53 | met |\n",
		"| the worst cell, by the better of otter and theine: i: a/100 | -0.90 | at least -0.5, in one cell -1 | met |\n",
		"| mean of the better of otter and theine | 53.35 | | |\n",
		"theine: i: a/100 (-0.90).\n",
		"## Without invalidations\n",
		"| a/100 | 58.00 | 50.00 | 40.00 | +8.00 |\n",
		"| a/200 | 60.00 | 55.00 | 60.50 | -0.50 |\n",
		"| **mean** | **59.00** | **52.50** | **50.25** | +3.75 |\n",
		"## With invalidations\n",
		"| a/100 | 52.00 | 52.90 | 40.00 | -0.90 |\n",
		"## All cells\n",
		"| **mean** | 56.00 | 51.98 | 45.12 |\n",
		"github.com/maypok86/otter/v2 v2.4.0",
	} {
		i := strings.Index(got, want)
		if i < at || i < 0 {
			t.Errorf("%q is missing, or not in its place, in\n%s", want, got)
		}
		at = max(at, i)
	}
}

func TestASecondCellBehindMissesTheTarget(t *testing.T) {
	f := measured()
	f.rows[1].ratio[0] = 59.9 // -0.6
	if got := f.markdown("", nil); !strings.Contains(got, "| -0.90 | at least -0.5, in one cell -1 | **missed** |") {
		t.Errorf("two cells below 0.5 are taken:\n%s", got)
	}
	f = measured()
	f.rows[2].ratio[0] = 51.8 // -1.1
	if got := f.markdown("", nil); !strings.Contains(got, "| -1.10 | at least -0.5, in one cell -1 | **missed** |") {
		t.Errorf("a cell 1.1 below is taken:\n%s", got)
	}
}

func TestOnlyTheWholeCellsAreJudged(t *testing.T) {
	f := measured()
	f.trace = "some/a.gz"
	if got := f.markdown("", nil); strings.Contains(got, "met") || !strings.Contains(got, "# Hit ratios: a\n") {
		t.Errorf("got\n%s", got)
	}
	f = measured()
	f.short = true
	if got := f.markdown("", nil); strings.Contains(got, "| met |") || !strings.Contains(got, "A short run") {
		t.Errorf("got\n%s", got)
	}
	f = measured()
	f.policies = f.policies[:1]
	for _, r := range f.rows {
		r.ratio = r.ratio[:1]
	}
	if got := f.markdown("", nil); strings.Contains(got, "Numbers to reach") {
		t.Errorf("judged without a library beside it:\n%s", got)
	}
	if _, err := f.svg(); err != nil {
		t.Error(err)
	}
}

func TestPlotNamesPoliciesAndCells(t *testing.T) {
	picture, err := measured().svg()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"FlipCache", "otter", "theine", "a/100", "a/200"} {
		if !strings.Contains(string(picture), want) {
			t.Errorf("%q is missing in the plot", want)
		}
	}
}

func TestATraceByPathIsRunWithItsCapacities(t *testing.T) {
	path := filepath.Join(t.TempDir(), "My own.gz") // plain, whatever its name says
	if err := os.WriteFile(path, []byte(strings.Repeat("a\nb\nc\nd\n", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	p := plan{trace: path, count: 1}
	if err := p.set("2, 4", "LRU,FIFO"); err != nil {
		t.Fatal(err)
	}
	rows, err := p.simulate(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != 4 || rows[0].trace != "My own" || rows[0].accesses != 4000 {
		t.Fatalf("got %d rows, %+v", len(rows), rows[0])
	}
	// Four keys in turn: none is there in a cache of 2, all are in one of 4.
	if small, whole := rows[0].ratio, rows[1].ratio; small[0] != 0 || small[1] != 0 || whole[0] != 99.9 || whole[1] != 99.9 {
		t.Errorf("got %v, %v", small, whole)
	}
	if got, want := p.name(), "hitratio-my-own"; got != want {
		t.Errorf("name: got %q, want %q", got, want)
	}
	p.capacities, p.short = nil, true
	traces, err := p.traces("")
	if err != nil || len(traces) != 1 || len(traces[0].Capacities) != 1 || traces[0].Capacities[0] != 1 {
		t.Errorf("capacities by the number of keys: %+v, %v", traces, err)
	}
	if got, want := p.name(), "hitratio-my-own-short"; got != want {
		t.Errorf("name: got %q, want %q", got, want)
	}
}

func TestFlagsThatMeanNothingAreRefused(t *testing.T) {
	for _, tt := range []struct {
		p                plan
		capacities, only string
		want             string
	}{
		{plan{count: 0}, "", "", "-count"},
		{plan{count: 1}, "100", "", "-trace"},
		{plan{count: 1, trace: "x"}, "100,none", "", `"none"`},
		{plan{count: 1, trace: "x"}, "0", "", `"0"`},
		{plan{count: 1}, "", "LRU,ARC", `"ARC"`},
	} {
		if err := tt.p.set(tt.capacities, tt.only); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: got %v, want one that says %s", tt, err, tt.want)
		}
	}
	p := plan{count: 1, trace: filepath.Join(t.TempDir(), "none")}
	if _, err := p.simulate(t.Context(), ""); err == nil {
		t.Error("a trace that is not there was run")
	}
}
