//go:build unix

// Workers is the multi-process demo: worker processes that share one Redis read
// and write the same keys, each through a local tier of its own, and every read
// is judged: it is stale if a newer write had completed, in whichever process,
// before the read began.
//
//	go run ./examples/workers                        # each mode in turn, on a redis-server of its own
//	go run ./examples/workers -redis localhost:6379  # on yours
//	go run ./examples/workers -redis embedded        # on miniredis, in this process
//	go run ./examples/workers -mode pubsub -workers 8 -duration 30s -json
//	go run ./examples/workers -mode pubsub+lease -max-staleness 500ms  # the mode under a lease
//	go run ./examples/workers -chaos -duration 60s -seed 7             # links, processes and the server fail
//	go run ./examples/workers -cluster -chaos -duration 60s            # and masters, of a Redis Cluster of six
//	go run ./examples/workers -sentinel -chaos -duration 60s           # or of a master with two replicas and three sentinels
//	go run ./examples/workers -trace accesses.gz     # the keys of a trace, for those of a Zipf distribution
//
// Where to look: cache.go is how a process uses the library, run.go what is run,
// report.go how it is added up. What a worker does, how workers are started and
// ended, and what goes wrong is in internal/fleet, which a benchmark uses, too.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/flipcache/flipcache/internal/fleet"
	"github.com/flipcache/flipcache/invalidate"
)

type options struct {
	redis     string
	modes     string
	workers   int
	duration  time.Duration
	keys      int
	reads     int
	writes    int
	valueSize int
	localTTL  time.Duration
	lease     time.Duration
	cluster   bool
	sentinel  bool
	chaos     bool
	faults    string
	seed      uint64
	trace     string
	json      bool

	lieEvery int // tests only: a worker then reports an old value every so many reads
}

func main() {
	if fleet.IsWorker() {
		os.Exit(fleet.Work(join, os.Stdin, os.Stdout, os.Stderr))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(demo(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

const (
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

// demo is the parent's main.
func demo(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(stderr, "workers:", err)
		return exitUsage
	}
	report, err := runAll(ctx, o, stderr)
	switch {
	case ctx.Err() != nil:
		fmt.Fprintln(stderr, "interrupted: the workers and the server are stopped")
		return exitInterrupted
	case err != nil:
		fmt.Fprintln(stderr, "workers:", err)
		return exitFailed
	}
	if o.json {
		err = report.writeJSON(stdout)
	} else {
		err = report.writeText(stdout)
	}
	if err != nil {
		fmt.Fprintln(stderr, "workers:", err)
		return exitFailed
	}
	return 0
}

func parse(args []string, stderr io.Writer) (o options, err error) {
	fs := flag.NewFlagSet("workers", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&o.redis, "redis", "", "host:port of Redis; embedded: miniredis in this process; empty: a redis-server of the demo's own where one is installed, else embedded")
	fs.StringVar(&o.modes, "mode", "all", "modes to run, by commas: off, pubsub, tracking, pubsub+lease, tracking+lease, pubsub+acked, tracking+acked; all: each, with the reason where the server cannot; acked only with -cluster and -sentinel")
	fs.IntVar(&o.workers, "workers", 4, "worker processes")
	fs.DurationVar(&o.duration, "duration", 5*time.Second, "of each mode")
	fs.IntVar(&o.keys, "keys", 1000, "keys (with -trace: those of the trace)")
	fs.IntVar(&o.reads, "reads", 20_000, "reads a second in each worker; 0: as many as it can")
	fs.IntVar(&o.writes, "writes", 20, "writes a second in each worker, of the keys that it owns")
	fs.IntVar(&o.valueSize, "value-size", 100, "bytes of a value, at least 8")
	fs.DurationVar(&o.localTTL, "local-ttl", 2*time.Second, "life of a local entry, in every mode")
	fs.DurationVar(&o.lease, "max-staleness", 500*time.Millisecond, "MaxStaleness of the modes with a lease")
	fs.BoolVar(&o.cluster, "cluster", false, "on a Redis Cluster of the demo's own: three masters, a replica each")
	fs.BoolVar(&o.sentinel, "sentinel", false, "on a master with two replicas and three sentinels, of the demo's own")
	fs.BoolVar(&o.chaos, "chaos", false, "let links, processes and servers fail, on a schedule drawn from -seed; with -cluster and -sentinel masters are killed and change, and slots move")
	fs.StringVar(&o.faults, "faults", "all", "of -chaos with -cluster or -sentinel: links (and workers), servers, or all")
	fs.Uint64Var(&o.seed, "seed", 1, "of keys, pauses and faults: the same in every mode")
	fs.StringVar(&o.trace, "trace", "", "file with a trace of accesses, a line each, gzip or text: a page number, or \"first count ...\"")
	fs.BoolVar(&o.json, "json", false, "print one JSON object")
	fs.IntVar(&o.lieEvery, "lie-every", 0, "for tests of the judge: report an old value every so many reads")
	if err := fs.Parse(args); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			err = errors.New("see -help") // the flag package has named the fault
		}
		return o, err
	}
	var errs []error
	bad := func(wrong bool, format string, args ...any) {
		if wrong {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	bad(fs.NArg() > 0, "%q is no flag: all options begin with a dash", fs.Arg(0))
	bad(o.workers < 1 || o.workers > 256, "-workers is %d: use 1 to 256", o.workers)
	bad(o.duration < 100*time.Millisecond, "-duration is %v: use at least 100ms", o.duration)
	bad(o.keys < 1 || o.keys > 10_000_000, "-keys is %d: use 1 to 10000000", o.keys)
	bad(o.reads < 0, "-reads is %d: use 0 or more", o.reads)
	bad(o.writes < 0, "-writes is %d: use 0 or more", o.writes)
	bad(o.valueSize < 8 || o.valueSize > 1<<20, "-value-size is %d: use 8 to %d", o.valueSize, 1<<20)
	bad(o.localTTL < time.Millisecond, "-local-ttl is %v: use at least 1ms", o.localTTL)
	bad(o.lieEvery < 0, "-lie-every is %d: use 0 or more", o.lieEvery)
	if o.modes != "all" {
		for m := range strings.SplitSeq(o.modes, ",") {
			_, err := parseVariant(m, o.lease)
			bad(err != nil, "-mode: %w", err)
		}
	}
	bad(o.lease < invalidate.MinStaleness || o.lease > invalidate.MaxMaxStaleness, "-max-staleness is %v: use %v to %v", o.lease, invalidate.MinStaleness, invalidate.MaxMaxStaleness)
	bad(o.chaos && o.duration < 5*time.Second, "-duration is %v with -chaos: use at least 5s", o.duration)
	bad(o.chaos && o.redis == "embedded", "-chaos needs a real server: leave -redis embedded out")
	bad(o.cluster && o.sentinel, "-cluster and -sentinel are given: choose one")
	bad((o.cluster || o.sentinel) && o.redis != "", "-redis is %q with servers of the demo's own: leave it out", o.redis)
	bad(!slices.Contains([]string{"all", fleet.Links, fleet.Servers}, o.faults), "-faults is %q: use links, servers or all", o.faults)
	if o.faults == "all" {
		o.faults = ""
	}
	return o, errors.Join(errs...)
}

// A variant is what is run: a mode, with or without a lease, and with a lease whose
// writes are acknowledged.
type variant struct {
	mode  invalidate.Mode
	lease time.Duration // 0: none
	acked bool
}

const (
	leased = "+lease"
	acked  = "+acked"
)

func (v variant) String() string {
	switch {
	case v.acked:
		return v.mode.String() + acked
	case v.lease > 0:
		return v.mode.String() + leased
	}
	return v.mode.String()
}

func parseVariant(s string, lease time.Duration) (v variant, err error) {
	s, withLease := strings.CutSuffix(strings.TrimSpace(s), leased)
	s, v.acked = strings.CutSuffix(s, acked)
	if v.mode, err = invalidate.ParseMode(s); withLease || v.acked {
		v.lease = lease
	}
	if err == nil && v.lease > 0 && v.mode == invalidate.Off {
		err = errors.New("off has no lease")
	}
	return v, err
}
