package report

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/perf/benchfmt"
)

// Results are what several runs of Go benchmarks printed. The zero value is
// empty.
type Results struct {
	Raw    strings.Builder   // as it was printed
	Config map[string]string // "cpu", "cores", "go", "redis" and the like
	All    []Result          // in the order in which the benchmarks first ran
}

// A Result is one figure of one benchmark, in all runs.
type Result struct {
	Benchmark string // without "Benchmark" and the number of processors
	Unit      string
	Values    Figure
}

// Add takes in what a run printed, in the Go benchmark format.
func (r *Results) Add(text string) error {
	r.Raw.WriteString(text + "\n")
	if r.Config == nil {
		r.Config = make(map[string]string)
	}
	lines := benchfmt.NewReader(strings.NewReader(text), "benchmarks")
	for lines.Scan() {
		switch line := lines.Result().(type) {
		case *benchfmt.SyntaxError:
			return line
		case *benchfmt.Result:
			for _, c := range line.Config {
				r.Config[c.Key] = string(c.Value)
			}
			for _, v := range line.Values {
				if v.OrigUnit != "" { // the reader makes seconds of nanoseconds
					v.Value, v.Unit = v.OrigValue, v.OrigUnit
				}
				r.figure(name(line.Name), v.Unit, v.Value)
			}
		}
	}
	return lines.Err()
}

// name returns n without the number of processors.
func name(n benchfmt.Name) string {
	base, parts := n.Parts()
	full := string(base)
	for _, p := range parts {
		if p[0] != '-' {
			full += string(p)
		}
	}
	return full
}

func (r *Results) figure(benchmark, unit string, v float64) {
	for i := range r.All {
		if r.All[i].Benchmark == benchmark && r.All[i].Unit == unit {
			r.All[i].Values = append(r.All[i].Values, v)
			return
		}
	}
	r.All = append(r.All, Result{benchmark, unit, Figure{v}})
}

// Find returns the figure of a benchmark in a unit.
func (r *Results) Find(benchmark, unit string) (Figure, bool) {
	i := slices.IndexFunc(r.All, func(x Result) bool { return x.Benchmark == benchmark && x.Unit == unit })
	if i < 0 {
		return nil, false
	}
	return r.All[i].Values, true
}

// Embedded says whether the benchmarks ran on miniredis.
func (r *Results) Embedded() bool { return strings.HasPrefix(r.Config["redis"], "miniredis") }

// Run says how to run benchmarks.
type Run struct {
	Count     int           // runs, each in a process of its own
	Benchtime time.Duration // of each benchmark in each run
	Bench     string        // as go test takes it
}

func (r Run) String() string {
	return fmt.Sprintf("%d of %v a benchmark, each in a process of its own", r.Count, r.Benchtime)
}

// Benchmarks compiles the benchmarks of pkg, in the module in dir, runs them, and
// returns what they printed and the machine that they ran on. It says on
// standard error how far it has come.
func Benchmarks(ctx context.Context, dir, pkg string, run Run) (*Results, Machine, error) {
	m := Machine{Commit: Commit(ctx, dir), Began: time.Now(), LoadBefore: Load(), Runs: run.String()}
	tmp, err := os.MkdirTemp("", "flipcache-bench-")
	if err != nil {
		return nil, m, err
	}
	defer os.RemoveAll(tmp)
	binary := filepath.Join(tmp, "bench.test")
	if _, err := Output(ctx, dir, "go", "test", "-c", "-o", binary, pkg); err != nil {
		return nil, m, err
	}
	r := new(Results)
	for i := range run.Count {
		fmt.Fprintf(os.Stderr, "run %d of %d\n", i+1, run.Count)
		text, err := Output(ctx, dir, binary, "-test.run", "^$", "-test.bench", run.Bench, "-test.benchtime", run.Benchtime.String(), "-test.timeout", "1h")
		if err != nil {
			return nil, m, err
		}
		if err := r.Add(text); err != nil {
			return nil, m, err
		}
	}
	if len(r.All) == 0 {
		return nil, m, fmt.Errorf("no benchmark matches %q", run.Bench)
	}
	m.CPU, m.Cores, m.Go, m.Redis = strings.TrimSpace(r.Config["cpu"]), r.Config["cores"], r.Config["go"], r.Config["redis"]
	m.System = r.Config["goos"] + "/" + r.Config["goarch"]
	m.LoadAfter = Load()
	return r, m, nil
}
