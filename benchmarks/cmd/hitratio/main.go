// Hitratio simulates FlipCache's container, otter, theine and the policies of
// textbooks on traces (package hitratio), and writes a report and a plot.
//
//	go run ./benchmarks/cmd/hitratio [-short] [-count 3] [-only FlipCache,otter] [-o results]
//	go run ./benchmarks/cmd/hitratio -trace path [-capacities 1000,10000] ...
//
// Without -trace it runs the 54 cells: nine traces with their capacities, each
// with and without invalidations. With it, it runs that file. -short takes the
// first 50,000 accesses of each trace: it shows that all works.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/flipcache/flipcache/benchmarks/hitratio"
	"github.com/flipcache/flipcache/benchmarks/internal/report"
)

// A plan is what to simulate.
type plan struct {
	trace      string // "": the 54 cells
	capacities []int  // of trace; none: a few by its number of keys
	policies   []hitratio.Policy
	count      int
	short      bool
}

const shortAccesses = 50_000

func main() {
	var p plan
	flag.StringVar(&p.trace, "trace", "", "file of accesses (see testdata/README.md); without it the 54 cells are run")
	capacities := flag.String("capacities", "", "capacities to try with -trace, in entries (default: 1, 2, 5, 10 and 20 % of its keys)")
	only := flag.String("only", "", "policies to run, by name (default: all)")
	flag.IntVar(&p.count, "count", 3, "runs of what has a random seed; the report has the mean")
	flag.BoolVar(&p.short, "short", false, fmt.Sprintf("the first %d accesses of each trace", shortAccesses))
	out := flag.String("o", "", "directory of the report and of the plot (default: results, in the module)")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := p.set(*capacities, *only)
	if err == nil {
		err = run(ctx, p, *out)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "hitratio:", err)
		stop()
		os.Exit(1)
	}
}

// set takes in the flags that are lists.
func (p *plan) set(capacities, only string) error {
	if p.count < 1 {
		return errors.New("-count must be above 0")
	}
	if capacities != "" && p.trace == "" {
		return errors.New("-capacities needs -trace: the 54 cells have their own")
	}
	for s := range strings.SplitSeq(capacities, ",") {
		if s == "" {
			continue
		}
		n, err := strconv.Atoi(strings.TrimSpace(s))
		if err != nil || n < 1 {
			return fmt.Errorf("-capacities: %q is no number above 0", s)
		}
		p.capacities = append(p.capacities, n)
	}
	p.policies = hitratio.Policies()
	if only == "" {
		return nil
	}
	var names []string
	for _, policy := range p.policies {
		names = append(names, policy.Name)
	}
	var kept []hitratio.Policy
	for name := range strings.SplitSeq(only, ",") {
		i := slices.Index(names, strings.TrimSpace(name))
		if i < 0 {
			return fmt.Errorf("-only: %q is none of %s", name, strings.Join(names, ", "))
		}
		kept = append(kept, p.policies[i])
	}
	p.policies = kept
	return nil
}

func run(ctx context.Context, p plan, out string) error {
	dir, results, err := report.Module(ctx)
	if err != nil {
		return err
	}
	if out == "" {
		out = results
	}
	f := figures{plan: p, machine: report.Here(ctx, dir)}
	if f.rows, err = p.simulate(ctx, filepath.Join(dir, "testdata")); err != nil {
		return err
	}
	f.machine.LoadAfter = report.Load()
	f.machine.Runs = strconv.Itoa(p.count) + " of what has a random seed"

	base := p.name()
	text := f.markdown(base+".svg", report.Versions())
	fmt.Print(text)
	picture, err := f.svg()
	if err != nil {
		return err
	}
	if err := report.Write(out, map[string][]byte{base + ".md": []byte(text), base + ".svg": picture}); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "written: %s.md, and the plot beside it\n", filepath.Join(out, base))
	return nil
}

// name returns one name a trace, for the report's files.
func (p plan) name() string {
	name := "hitratio"
	if p.trace != "" {
		name += "-" + report.Slug(strings.TrimSuffix(filepath.Base(p.trace), ".gz"))
	}
	if p.short {
		name += "-short"
	}
	return name
}

// traces returns what the plan is about.
func (p plan) traces(testdata string) ([]hitratio.Trace, error) {
	if p.trace == "" {
		return hitratio.Cells(testdata), nil
	}
	trace, err := hitratio.Read(p.trace)
	if err != nil {
		return nil, err
	}
	if p.capacities == nil {
		seen := make(map[uint64]struct{})
		for _, k := range trace {
			seen[k] = struct{}{}
		}
		for _, percent := range []int{1, 2, 5, 10, 20} {
			p.capacities = append(p.capacities, max(1, len(seen)*percent/100))
		}
		p.capacities = slices.Compact(p.capacities)
	}
	load := func() ([]uint64, error) { return trace, nil }
	return []hitratio.Trace{{Name: strings.TrimSuffix(filepath.Base(p.trace), ".gz"), Capacities: p.capacities, Load: load}}, nil
}

// parallel is how many simulations run at once.
var parallel = runtime.GOMAXPROCS(0)
