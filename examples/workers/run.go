//go:build unix

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/flipcache/flipcache/internal/fleet"
)

// runAll runs every mode that was asked for, on one server.
func runAll(ctx context.Context, o options, stderr io.Writer) (*report, error) {
	if o.trace != "" {
		_, keys, err := fleet.ReadTrace(o.trace)
		if err != nil {
			return nil, fmt.Errorf("-trace: %w", err)
		}
		o.keys = keys
	}
	rd, err := server(o)
	if err != nil {
		return nil, err
	}
	defer rd.stop() // last of all: the workers' last commands need it
	run, err := variants(ctx, o, rd.Client)
	if err != nil {
		return nil, err
	}
	if !o.json {
		fmt.Fprintf(stderr, "%s; %d workers, %d keys, local entries live %v in every mode; %v for each of %v\n",
			rd.kind, o.workers, o.keys, o.localTTL, o.duration, names(run))
	}
	r := &report{Chaos: o.chaos, Seed: o.seed, Server: rd.server, Program: rd.kind, Machine: machine(), Workers: o.workers, Keys: o.keys, LocalTTL: o.localTTL.Seconds() * 1000, Trace: o.trace}
	for _, c := range run {
		v := c.variant
		if c.cannot != "" {
			r.Runs = append(r.Runs, newRow(v, rd, c.cannot))
			continue
		}
		if v.acked {
			if err := fleet.Aged(ctx, rd.Client); err != nil {
				return nil, err
			}
		}
		outcome, err := fleet.Run{
			Config: fleet.Config{
				Workers: o.workers, Keys: o.keys, Variant: v.String(), MaxStaleness: v.lease,
				Duration: o.duration, LocalTTL: o.localTTL, Chaos: o.chaos,
				Reads: o.reads, Writes: o.writes, ValueSize: o.valueSize, Seed: o.seed, Trace: o.trace, LieEvery: o.lieEvery,
			},
			Redis: rd.Redis, Faults: o.faults, VersionOf: versionOf,
			Began: func() (ended func()) { return progress(o, v, stderr) },
		}.Do(ctx)
		if err != nil {
			return nil, fmt.Errorf("%v: %w", v, err)
		}
		row := newRow(v, rd, "")
		if err := row.sum(outcome); err != nil {
			return nil, fmt.Errorf("%v: %w", v, err)
		}
		r.Runs = append(r.Runs, row)
	}
	return r, nil
}

// names returns those of the variants that can be run.
func names(all []choice) (run []string) {
	for _, c := range all {
		if c.cannot == "" {
			run = append(run, c.String())
		}
	}
	return run
}

// progress shows a bar until stop is called; none where the output is no
// terminal.
func progress(o options, v variant, stderr io.Writer) (stop func()) {
	f, ok := stderr.(*os.File)
	if !ok || o.json || !term.IsTerminal(int(f.Fd())) {
		return func() {}
	}
	const step = 100 * time.Millisecond
	bar := progressbar.NewOptions64(int64(o.duration/step), progressbar.OptionSetDescription(v.String()),
		progressbar.OptionSetWriter(f), progressbar.OptionClearOnFinish(), progressbar.OptionShowElapsedTimeOnFinish())
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(step)
		defer t.Stop()
		for {
			select {
			case <-quit:
				bar.Finish()
				return
			case <-t.C:
				if !bar.IsFinished() {
					bar.Add(1)
				}
			}
		}
	}()
	return func() {
		close(quit)
		<-done
	}
}
