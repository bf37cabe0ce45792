// Peers runs the benchmarks of FlipCache beside other caches (package peers),
// several times, each time in a new process, and writes a report that names the
// machine: tables with ratios, a plot, and what the benchmarks printed.
//
//	go run ./benchmarks/cmd/peers [-short] [-count 10] [-benchtime 1s] [-bench regexp] [-o results]
//
// -short runs all once, briefly: it shows that all works, and figures that mean
// little.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/flipcache/flipcache/benchmarks/internal/report"
	"github.com/flipcache/flipcache/internal/redisserver"
)

func main() {
	var r report.Run
	short := flag.Bool("short", false, "one run of 50ms a benchmark, whatever -count and -benchtime say")
	flag.IntVar(&r.Count, "count", 10, "runs, each in a process of its own")
	flag.DurationVar(&r.Benchtime, "benchtime", time.Second, "time of each benchmark in each run")
	flag.StringVar(&r.Bench, "bench", ".", "benchmarks to run, a regular expression as go test takes it")
	out := flag.String("o", "", "directory of the report, the plot and the raw figures (default: results, in the module)")
	flag.Parse()
	if *short {
		r.Count, r.Benchtime = 1, 50*time.Millisecond
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, r, *short, *out); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, r report.Run, short bool, out string) error {
	if r.Count < 1 || r.Benchtime <= 0 {
		return errors.New("-count and -benchtime must be above 0")
	}
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
	measured, machine, err := report.Benchmarks(ctx, dir, "./peers", r)
	if err != nil {
		return err
	}
	f := figures{measured, machine}
	if missing := f.missing(); r.Bench == "." && len(missing) > 0 {
		return fmt.Errorf("no figures for %v", missing)
	}
	base := "peers-" + machine.Slug()
	if short {
		base += "-short" // it takes no real report's place
	}
	text := f.markdown(base+".svg", report.Versions())
	fmt.Print(text)
	picture, err := f.svg()
	if err != nil {
		return err
	}
	if err := report.Write(out, map[string][]byte{
		base + ".md": []byte(text), base + ".svg": picture, base + ".txt": []byte(measured.Raw.String()),
	}); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "written: %s.md, the plot and the raw figures beside it\n", filepath.Join(out, base))
	return nil
}
