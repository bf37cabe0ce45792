// Fanout measures what one write costs a redis-server in processor time, by how
// many processes listen: with invalidate.PubSub, where all hear of each write,
// and with invalidate.Tracking, where those hear that have read the key.
//
//	go run ./benchmarks/cmd/fanout [-listeners 1,16,...] [-shares 0.1,1,...] [-writers 1,64] [-writes 2000] [-count 3] [-o results]
//
// A listener is a plain connection. It stands for a process, for the server
// cannot tell the two apart. What is measured is the server's alone (INFO cpu),
// so it does not matter that all listeners live in this process. Each setting
// has a server of its own, and every byte that its listeners must hear is
// counted. In each run all settings have their turn, so that noise of the
// machine meets all of them.
//
// It needs redis-server on PATH, and files for twice as many connections as
// there are listeners at most. Go raises the soft limit (ulimit -n) by itself.
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

	"github.com/flipcache/flipcache/benchmarks/internal/report"
	"github.com/flipcache/flipcache/internal/redisserver"
)

func main() {
	var p plan
	listeners := flag.String("listeners", "1,16,64,256,1024", "numbers of connections that listen")
	shares := flag.String("shares", "0.1,1,10,100", "percent of the keys that each listener of Tracking has read")
	writers := flag.String("writers", "1,64", "numbers of connections that write at once, each one write after the other")
	flag.IntVar(&p.writes, "writes", 2000, "writes of a measurement, fewer where they would send more than a million messages")
	flag.IntVar(&p.count, "count", 3, "runs")
	out := flag.String("o", "", "directory of the report and of the plot (default: results, in the module)")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err1, err2, err3 error
	p.listeners, err1 = numbers(*listeners, strconv.Atoi)
	p.shares, err2 = numbers(*shares, percent)
	p.writers, err3 = numbers(*writers, strconv.Atoi)
	err := errors.Join(err1, err2, err3, p.check())
	if err == nil {
		err = run(ctx, p, *out)
	}
	if ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "fanout:", err)
		stop()
		os.Exit(1)
	}
}

// A plan is what to measure.
type plan struct {
	listeners []int
	shares    []float64
	writers   []int
	writes    int
	count     int
}

func (p plan) check() error {
	var errs []error
	if len(p.listeners) == 0 || slices.Min(p.listeners) < 1 {
		errs = append(errs, errors.New("-listeners must be above 0"))
	}
	if len(p.shares) == 0 || slices.Min(p.shares) < 1./keyCount || slices.Max(p.shares) > 1 {
		errs = append(errs, fmt.Errorf("-shares must be of one key to all: %v to 100", 100./keyCount))
	}
	if len(p.writers) == 0 || slices.Min(p.writers) < 1 {
		errs = append(errs, errors.New("-writers must be above 0"))
	}
	if p.writes < 1 || p.count < 1 {
		errs = append(errs, errors.New("-writes and -count must be above 0"))
	}
	if p.writes*len(p.writers) > keyCount {
		errs = append(errs, fmt.Errorf("-writes: with %d numbers of writers at most %d, for no key is written twice", len(p.writers), keyCount/len(p.writers)))
	}
	return errors.Join(errs...)
}

// settings returns what to measure, the lonely writes first.
func (p plan) settings() []setting {
	all := []setting{{way: set}, {way: pubSub}, {way: own}}
	for _, n := range p.listeners {
		all = append(all, setting{way: pubSub, listeners: n})
		for _, share := range p.shares {
			all = append(all, setting{way: tracking, listeners: n, share: share})
		}
	}
	return all
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
	// One core for the listeners and the writers, so that the server has another.
	runtime.GOMAXPROCS(1)
	f := figures{plan: p, machine: report.Here(ctx, dir)}
	for i := range p.count {
		fmt.Fprintf(os.Stderr, "run %d of %d\n", i+1, p.count)
		if err := f.measure(ctx); err != nil {
			return err
		}
	}
	f.machine.LoadAfter = report.Load()
	f.machine.Runs = fmt.Sprintf("%d, each of up to %d writes a figure", p.count, p.writes)

	base := "fanout-" + f.machine.Slug()
	text := f.markdown(base + ".svg")
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

// measure takes all figures once.
func (f *figures) measure(ctx context.Context) error {
	for _, s := range f.settings() {
		if err := f.measureOne(ctx, s); err != nil {
			return fmt.Errorf("%s, %d listeners, %v%% of the keys: %w", s.way, s.listeners, 100*s.share, err)
		}
	}
	return nil
}

func (f *figures) measureOne(ctx context.Context, s setting) error {
	c, err := open(ctx, s, slices.Max(f.writers))
	if err != nil {
		return err
	}
	defer c.close()
	f.machine.Redis = c.server.Kind
	defer context.AfterFunc(ctx, func() { c.server.Close() })() // who waits for it ends, too
	keys := make([]int, f.writes)
	for i, writers := range f.writers {
		for n := range keys {
			keys[n] = i*f.writes + n
		}
		m, err := c.pass(keys, writers)
		if err != nil {
			return err
		}
		f.add(point{s, writers}, m)
	}
	return nil
}

// numbers parses a list of numbers with commas between them.
func numbers[N int | float64](list string, parse func(string) (N, error)) (all []N, err error) {
	for s := range strings.SplitSeq(list, ",") {
		n, err := parse(strings.TrimSpace(s))
		if err != nil {
			return nil, err
		}
		all = append(all, n)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// percent parses a share: "1" is 0.01.
func percent(s string) (float64, error) {
	p, err := strconv.ParseFloat(s, 64)
	return p / 100, err
}
