// Bench runs the benchmarks of this module several times, each time in a new
// process, compares by benchstat, and writes a report that names the machine.
//
//	go run ./benchmarks/cmd/bench [-count 10] [-benchtime 500ms] [-bench regexp] [-o results]
//
// It needs nothing but Go; without a redis-server on PATH it says so, runs on
// miniredis, and marks the report.
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
	count := flag.Int("count", 10, "runs, each in a process of its own")
	benchtime := flag.Duration("benchtime", 500*time.Millisecond, "time of each benchmark in each run")
	bench := flag.String("bench", ".", "benchmarks to run, a regular expression as go test takes it")
	out := flag.String("o", "", "directory of the report and of the raw figures (default: results, in the module)")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *count, *benchtime, *bench, *out); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, count int, benchtime time.Duration, bench, out string) error {
	if count < 1 || benchtime <= 0 {
		return errors.New("-count and -benchtime must be above 0")
	}
	if !redisserver.Available() {
		fmt.Fprintln(os.Stderr, "no redis-server on PATH: running on miniredis, and the report says so")
	}
	dir, results, err := report.Module(ctx)
	if err != nil {
		return err
	}
	if out == "" {
		out = results
	}
	measured, machine, err := report.Benchmarks(ctx, dir, ".", report.Run{Count: count, Benchtime: benchtime, Bench: bench})
	if err != nil {
		return err
	}
	r := &figures{Results: measured, machine: machine}

	tmp, err := os.MkdirTemp("", "flipcache-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	converted := filepath.Join(tmp, "converted.txt")
	if err := os.WriteFile(converted, r.converted(), 0o644); err != nil {
		return err
	}
	for _, topic := range r.topics() {
		table, err := report.Output(ctx, dir, "go", "tool", "benchstat", "-col", "/via", "-filter", ".name:"+topic, converted)
		if err != nil {
			return err
		}
		r.tables = append(r.tables, table)
	}
	text := r.markdown()
	fmt.Print(text)

	base := r.fileName()
	if err := report.Write(out, map[string][]byte{base + ".md": []byte(text), base + ".txt": []byte(r.Raw.String())}); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "written: %s.md, and the raw figures beside it\n", filepath.Join(out, base))
	return nil
}
