// Bench runs the benchmarks of this module several times, each time in a new
// process, compares by benchstat, and writes a report that names the machine.
//
//	go run ./benchmarks/cmd/bench [-count 10] [-benchtime 500ms] [-bench regexp] [-o results]
//
// It needs nothing but Go; without a redis-server on PATH it says so, runs on
// miniredis, and marks the report.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/flipcache/flipcache/internal/redisserver"
)

const module = "github.com/flipcache/flipcache/benchmarks"

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
	dir, err := output(ctx, "", "go", "list", "-m", "-f", "{{.Dir}}", module)
	if err != nil {
		return err
	}
	if out == "" {
		out = filepath.Join(dir, "results")
	}
	tmp, err := os.MkdirTemp("", "flipcache-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	binary := filepath.Join(tmp, "bench.test")
	if _, err := output(ctx, dir, "go", "test", "-c", "-o", binary, "."); err != nil {
		return err
	}

	r := &report{began: time.Now(), count: count, benchtime: benchtime, loadBefore: load()}
	r.commit = commit(ctx, dir)
	for i := range count {
		fmt.Fprintf(os.Stderr, "run %d of %d\n", i+1, count)
		text, err := output(ctx, dir, binary, "-test.run", "^$", "-test.bench", bench, "-test.benchtime", benchtime.String())
		if err != nil {
			return err
		}
		r.add(text)
	}
	r.loadAfter = load()
	if len(r.results) == 0 {
		return fmt.Errorf("no benchmark matches %q", bench)
	}

	converted := filepath.Join(tmp, "converted.txt")
	if err := os.WriteFile(converted, r.converted(), 0o644); err != nil {
		return err
	}
	for _, topic := range r.topics() {
		table, err := output(ctx, dir, "go", "tool", "benchstat", "-col", "/via", "-filter", ".name:"+topic, converted)
		if err != nil {
			return err
		}
		r.tables = append(r.tables, table)
	}
	text := r.markdown()
	fmt.Print(text)

	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	base := filepath.Join(out, r.fileName())
	if err := os.WriteFile(base+".md", []byte(text), 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(base+".txt", []byte(r.raw.String()), 0o644); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "written: %s.md, and the raw figures beside it\n", base)
	return nil
}

// output runs a command in dir and returns what it prints. Where it fails, what
// it printed is in the error.
func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it stops its server
	cmd.WaitDelay = 10 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return "", errors.New("interrupted")
		}
		return "", fmt.Errorf("%s: %w\n%s%s", strings.Join(append([]string{name}, args...), " "), err, &stdout, &stderr)
	}
	return strings.TrimSpace(stdout.String()), nil
}

// commit returns what git calls the tree in dir, or nothing where it is none.
func commit(ctx context.Context, dir string) string {
	id, err := output(ctx, dir, "git", "describe", "--always", "--dirty", "--abbrev=12")
	if err != nil {
		return ""
	}
	return id
}

// load returns the machine's load averages, or nothing where /proc has none.
func load() string {
	b, err := os.ReadFile("/proc/loadavg")
	if f := strings.Fields(string(b)); err == nil && len(f) >= 3 {
		return strings.Join(f[:3], " ")
	}
	return ""
}

var notWord = regexp.MustCompile(`[^a-z0-9]+`)

// slug makes a file's name of s.
func slug(s string) string {
	return strings.Trim(notWord.ReplaceAllString(strings.ToLower(s), "-"), "-")
}
