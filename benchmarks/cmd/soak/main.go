//go:build unix

// Soak runs worker processes that share a redis-server for long, while links,
// processes and the server fail, and tells whether anything grows or breaks:
// memory, goroutines and files of each worker are sampled all along and have to be
// flat, every read is judged by the promise of its mode, and in the end, when all
// is quiet, no entry may differ from Redis. It writes a report with a plot, and
// exits with 1 if something is not as it should be.
//
//	go run ./benchmarks/cmd/soak [-minutes 30] [-every 5s] [-mode regexp] [-workers 3] [-seed 1] [-o results]
//
// The modes share the minutes. The workers, the judge and the faults are those of
// examples/workers, in internal/fleet.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"github.com/flipcache/flipcache/benchmarks/internal/report"
	"github.com/flipcache/flipcache/internal/fleet"
	"github.com/flipcache/flipcache/internal/redisserver"
)

// A plan is what to run.
type plan struct {
	mode          *regexp.Regexp
	minutes       float64       // in all
	every         time.Duration // a sample
	lease         time.Duration
	seed          uint64
	workers, keys int
	reads, writes int // a second, in each worker
	lieEvery      int // tests only, see fleet.Config
}

// least is the shortest run of a mode: it begins with a warm-up and ends in calm.
const least = 5 * time.Second

func main() {
	if fleet.IsWorker() {
		os.Exit(fleet.Work(join, os.Stdin, os.Stdout, os.Stderr))
	}
	var p plan
	which := flag.String("mode", "", "modes to run, a regular expression (default: all)")
	flag.Float64Var(&p.minutes, "minutes", 30, "how long, in all")
	flag.DurationVar(&p.every, "every", 5*time.Second, "time between two samples of a worker; shorter where a mode runs for less than 60 of them")
	flag.DurationVar(&p.lease, "max-staleness", 500*time.Millisecond, "MaxStaleness")
	flag.Uint64Var(&p.seed, "seed", 1, "of keys, pauses and faults")
	flag.IntVar(&p.workers, "workers", 3, "worker processes")
	flag.IntVar(&p.keys, "keys", 1000, "keys")
	flag.IntVar(&p.reads, "reads", 5000, "reads a second in each worker")
	flag.IntVar(&p.writes, "writes", 50, "writes a second in each worker")
	out := flag.String("o", "", "directory of the report and of the plot (default: results, in the module)")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if p.mode, err = regexp.Compile(*which); err == nil {
		err = p.check()
	}
	var broken []string
	if err == nil {
		broken, err = run(ctx, p, *out)
	}
	if ctx.Err() != nil {
		err = errors.New("interrupted: the workers and the server are stopped")
	}
	if err == nil && len(broken) > 0 {
		err = fmt.Errorf("%d findings, see the report", len(broken))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		stop()
		os.Exit(1)
	}
}

func (p plan) check() error {
	var errs []error
	n := len(p.modes())
	if n == 0 {
		errs = append(errs, errors.New("-mode leaves none"))
	} else if p.length() < least {
		errs = append(errs, fmt.Errorf("-minutes %v leaves %v for each of %d modes: it must be at least %v", p.minutes, p.length(), n, least))
	}
	if p.every < 50*time.Millisecond {
		errs = append(errs, errors.New("-every must be at least 50ms"))
	}
	if p.workers < 1 || p.keys < 2*p.workers || p.reads < 1 || p.writes < 1 {
		errs = append(errs, errors.New("-workers, -reads and -writes must be above 0, and -keys at least twice -workers"))
	}
	return errors.Join(errs...)
}

// length is that of a mode's run.
func (p plan) length() time.Duration {
	return time.Duration(p.minutes * float64(time.Minute) / float64(len(p.modes()))).Truncate(time.Millisecond)
}

// pause is the time between two samples.
func (p plan) pause() time.Duration {
	return max(50*time.Millisecond, min(p.every, p.length()/60))
}

// run runs the modes, writes the report, and returns what was found.
func run(ctx context.Context, p plan, out string) (findings []string, err error) {
	if !redisserver.Available() {
		return nil, errors.New("no redis-server on PATH (make redis-server)")
	}
	dir, results, err := report.Module(ctx)
	if err != nil {
		return nil, err
	}
	if out == "" {
		out = results
	}
	r := soak{plan: p, machine: report.Here(ctx, dir)}
	for _, m := range p.modes() {
		fmt.Fprintf(os.Stderr, "%s: %v\n", m.name, p.length())
		row, err := p.measure(ctx, m, &r.machine.Redis)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.name, err)
		}
		r.rows = append(r.rows, row)
	}
	r.machine.LoadAfter = report.Load()
	r.machine.Runs = fmt.Sprintf("%v of each mode, a sample every %v", p.length(), p.pause())
	base := "soak-" + r.machine.Slug()
	text := r.markdown(base + ".svg")
	fmt.Print(text)
	picture, err := r.svg()
	if err != nil {
		return nil, err
	}
	if err := report.Write(out, map[string][]byte{base + ".md": []byte(text), base + ".svg": picture}); err != nil {
		return nil, err
	}
	fmt.Fprintf(os.Stderr, "written: %s.md, and the plot beside it\n", filepath.Join(out, base))
	return r.findings(), nil
}
