//go:build unix

// The command checks the promises of this library on real processes: they share a
// redis-server, whose links fail and which is stopped now and then, they write down
// what they do and when, and all of it is judged afterwards (package history).
//
//	go run ./internal/history/cmd -help
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/flipcache/flipcache/internal/fleet"
)

type options struct {
	modes    string
	as       string
	without  string
	all      bool
	duration time.Duration
	workers  int
	clients  int
	rate     int
	seed     uint64
	chaos    bool
	json     bool
	out      string
}

const (
	exitBroken = 1
	exitFailed = 2
)

func main() {
	if fleet.IsWorker() {
		os.Exit(fleet.Serve(newJob, os.Stdin, os.Stdout, os.Stderr))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	good, err := check(ctx, os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "check-history:", err)
		os.Exit(exitFailed)
	case !good:
		os.Exit(exitBroken)
	}
}

func parse(args []string, stderr io.Writer) (o options, err error) {
	fs := flag.NewFlagSet("check-history", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.BoolVar(&o.all, "all", false, "all variants, with faults and without, and what must be found to be broken; without -mode, -as, -without, -chaos")
	fs.StringVar(&o.modes, "mode", "pubsub,tracking", "variants, by commas: a mode, then +lease or +acked, then +cluster")
	fs.StringVar(&o.as, "as", "", "judge by the promises of this variant, not of the one that is run: it must be found to break them")
	fs.StringVar(&o.without, "without", "", "take a defence out of the library, named by a part of its name (\"list\" lists them): this must be found out")
	fs.DurationVar(&o.duration, "duration", 30*time.Second, "of each variant with -chaos, at least 5s; without it a third")
	fs.IntVar(&o.workers, "workers", 4, "processes")
	fs.IntVar(&o.clients, "clients", 6, "of each process, each with one operation at a time; at most 64")
	fs.IntVar(&o.rate, "rate", 400, "operations a second of each client")
	fs.Uint64Var(&o.seed, "seed", 1, "of operations and faults")
	fs.BoolVar(&o.chaos, "chaos", false, "let links, processes and servers fail")
	fs.BoolVar(&o.json, "json", false, "print JSON")
	fs.StringVar(&o.out, "out", "", "folder for the pictures and histories of broken promises (default: a new one)")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	var errs []error
	bad := func(wrong bool, text string) {
		if wrong {
			errs = append(errs, errors.New(text))
		}
	}
	set := make(map[string]bool)
	fs.Visit(func(f *flag.Flag) { set[f.Name] = true })
	bad(o.all && (set["mode"] || o.as != "" || o.without != "" || o.chaos), "-all has its own -mode, -as, -without and -chaos")
	bad(o.duration < time.Second || (o.chaos || o.all) && o.duration < 5*time.Second, "-duration: at least 1s, 5s with -chaos")
	bad(o.workers < 1 || o.workers > 64, "-workers: 1 to 64")
	bad(o.clients < 1 || o.clients > 64, "-clients: 1 to 64")
	bad(o.rate < 1 || o.rate > 100_000, "-rate: 1 to 100000")
	bad(fs.NArg() > 0, "all options begin with a dash")
	return o, errors.Join(errs...)
}

// check runs what args ask for, prints a table, and says whether all was as it must be.
func check(ctx context.Context, args []string, stdout, stderr io.Writer) (good bool, err error) {
	o, err := parse(args, stderr)
	if err != nil {
		return false, err
	}
	if o.without == "list" {
		for _, d := range defences {
			fmt.Fprintln(stdout, d.name)
		}
		return true, nil
	}
	trials, err := plan(o)
	if err != nil {
		return false, err
	}
	lab, err := newLab(o, stderr)
	if err != nil {
		return false, err
	}
	defer lab.close()
	var rows []row
	good = true
	for _, t := range trials {
		some, err := lab.try(ctx, t)
		if err != nil {
			return false, fmt.Errorf("%v: %w", t, err)
		}
		for _, r := range some {
			rows = append(rows, r)
			good = good && r.good()
		}
	}
	if o.json {
		return good, json.NewEncoder(stdout).Encode(rows)
	}
	return good, print(stdout, o, rows)
}
