//go:build unix

// Coherence runs worker processes that share a redis-server, each with a cache
// of its own, FlipCache's or a peer's, and has every read judged: it is stale if
// a newer write had completed, in whichever process, before the read began. Each
// cache runs three times: at a fixed pace of reads, as fast as it can, and at
// that pace while links, processes and the server fail, on the same schedule for
// all. It writes a report that names the machine: a table and a plot.
//
//	go run ./benchmarks/cmd/coherence [-short] [-side regexp] [-duration 15s] [-faults 30s] [-fast 3s] [-seed 1] [-o results]
//
// -short shows in two minutes that all works, and figures that mean little.
//
// The workers, the judge and the faults are those of examples/workers, in
// internal/fleet; how a cache is set up is told in benchmarks/peers, a file each.
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
	side                   *regexp.Regexp
	duration, faults, fast time.Duration
	seed                   uint64
	workers, keys          int
	reads, writes          int // a second, in each worker
	localTTL, lease        time.Duration
}

func main() {
	if fleet.IsWorker() {
		os.Exit(fleet.Work(join, os.Stdin, os.Stdout, os.Stderr))
	}
	var p plan
	short := flag.Bool("short", false, "2s, 6s and 1s, whatever -duration, -faults and -fast say")
	which := flag.String("side", "", "caches to run, a regular expression (default: all)")
	flag.DurationVar(&p.duration, "duration", 15*time.Second, "of each cache's run without faults")
	flag.DurationVar(&p.faults, "faults", 30*time.Second, "of each cache's run with faults, at least 5s")
	flag.DurationVar(&p.fast, "fast", 3*time.Second, "of each cache's run as fast as it can")
	flag.Uint64Var(&p.seed, "seed", 1, "of keys, pauses and faults: the same for every cache")
	flag.IntVar(&p.workers, "workers", 4, "worker processes")
	flag.IntVar(&p.keys, "keys", 1000, "keys")
	flag.IntVar(&p.reads, "reads", 20_000, "reads a second in each worker")
	flag.IntVar(&p.writes, "writes", 20, "writes a second in each worker")
	flag.DurationVar(&p.localTTL, "local-ttl", time.Minute, "life of a local entry")
	flag.DurationVar(&p.lease, "max-staleness", 500*time.Millisecond, "MaxStaleness of FlipCache's modes with a lease")
	out := flag.String("o", "", "directory of the report and of the plot (default: results, in the module)")
	flag.Parse()
	if *short {
		p.duration, p.faults, p.fast = 2*time.Second, 6*time.Second, time.Second
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if p.side, err = regexp.Compile(*which); err == nil {
		err = p.check()
	}
	if err == nil {
		err = run(ctx, p, *out)
	}
	if ctx.Err() != nil {
		err = errors.New("interrupted: the workers and the server are stopped")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "coherence:", err)
		stop()
		os.Exit(1)
	}
}

func (p plan) check() error {
	var errs []error
	if p.duration < 100*time.Millisecond || p.fast < 100*time.Millisecond {
		errs = append(errs, errors.New("-duration and -fast must be at least 100ms"))
	}
	if p.faults < 5*time.Second {
		errs = append(errs, errors.New("-faults must be at least 5s: it ends with three of calm"))
	}
	if p.workers < 1 || p.keys < p.workers || p.reads < 1 || p.writes < 1 {
		errs = append(errs, errors.New("-workers, -reads and -writes must be above 0, and -keys at least -workers"))
	}
	if len(p.sides()) == 0 {
		errs = append(errs, errors.New("-side leaves none"))
	}
	return errors.Join(errs...)
}

// sides returns what to run.
func (p plan) sides() (some []side) {
	for _, s := range sides(p.lease) {
		if p.side == nil || p.side.MatchString(s.name) {
			some = append(some, s)
		}
	}
	return some
}

func run(ctx context.Context, p plan, out string) error {
	if !redisserver.Available() {
		return errors.New("no redis-server on PATH (make redis-server)")
	}
	dir, results, err := report.Module(ctx)
	if err != nil {
		return err
	}
	if out == "" {
		out = results
	}
	f := figures{plan: p, machine: report.Here(ctx, dir)}
	for _, s := range p.sides() {
		r := row{side: s}
		for _, m := range []struct {
			into *measure
			what string
			setting
		}{
			{&r.calm, "without faults", setting{p.duration, p.reads, false}},
			{&r.fast, "as fast as it can", setting{p.fast, 0, false}},
			{&r.faults, "with faults", setting{p.faults, p.reads, true}},
		} {
			fmt.Fprintf(os.Stderr, "%s, %s: %v\n", s.name, m.what, m.duration)
			if *m.into, err = p.measure(ctx, s, m.setting, &f.machine.Redis); err != nil {
				return fmt.Errorf("%s, %s: %w", s.name, m.what, err)
			}
		}
		f.rows = append(f.rows, r)
	}
	f.machine.LoadAfter = report.Load()
	f.machine.Runs = fmt.Sprintf("1 of each, %v without faults, %v with, %v as fast as it can", p.duration, p.faults, p.fast)

	base := "coherence-" + f.machine.Slug()
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
