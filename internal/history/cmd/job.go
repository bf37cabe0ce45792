//go:build unix

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/flipcache/flipcache/hybrid"
	"github.com/flipcache/flipcache/internal/fleet"
	"github.com/flipcache/flipcache/internal/history"
	"github.com/flipcache/flipcache/internal/history/client"
	"github.com/flipcache/flipcache/internal/judge"
)

// own is what a worker is told beside the fleet's config.
type own struct {
	Name     string // of the cache
	Dir      string // of logs and tickets
	Capacity int    // of a log
	Clients  int
	Rate     int // operations a second of a client
	Mode     string
	Acked    bool // every second register is written by acknowledged writes
}

// restLine has a worker read all keys that others may have changed of late.
const restLine = "rest"

// A job is one worker's: its clients, and their log.
type job struct {
	fleet.Config
	own     own
	store   *hybrid.Store
	process client.Process
	failed  firstError
}

func newJob(ctx context.Context, c fleet.Config) (_ fleet.Job, err error) {
	j := &job{Config: c, process: client.Process{Number: int16(c.Worker), Now: judge.Now}}
	if err := json.Unmarshal(c.Own, &j.own); err != nil {
		return nil, err
	}
	p := &j.process
	p.Acked = j.own.Acked
	v, err := client.ParseVariant(j.own.Mode)
	if err != nil {
		return nil, err
	}
	if p.Log, err = history.OpenLog(logPath(j.own.Dir, c.Worker), j.own.Capacity); err != nil {
		return nil, err
	}
	if p.Writes, err = history.OpenTickets(filepath.Join(j.own.Dir, "writes")); err != nil {
		return nil, err
	}
	if p.Counts, err = history.OpenTickets(filepath.Join(j.own.Dir, "counts")); err != nil {
		return nil, err
	}
	j.store, err = hybrid.Open(ctx, hybrid.StoreOptions{
		Client:       c.ClientOption(),
		Invalidation: v.Mode,
		MaxStaleness: c.MaxStaleness,
		Timeout:      c.Timeout,
	})
	if err != nil {
		return nil, err
	}
	p.Cache, err = hybrid.New(j.store, j.own.Name, hybrid.Options[int32, int64]{
		LocalTTL: c.LocalTTL, NegativeTTL: negativeTTL, LocalSize: localSize,
	})
	if err != nil {
		j.store.Close()
		return nil, err
	}
	return j, nil
}

// negativeTTL is how long "not found" is remembered; localSize has entries evicted.
const (
	negativeTTL = time.Minute
	localSize   = 3 * client.Registers
)

func logPath(dir string, worker int) string {
	return filepath.Join(dir, "log-"+strconv.Itoa(worker))
}

func (j *job) Close() {
	j.store.Close()
	j.process.Log.Close()
	j.process.Writes.Close()
	j.process.Counts.Close()
}

func (j *job) Answer(ctx context.Context, line string) (any, error) {
	switch line {
	case fleet.GoLine:
		return nil, j.work(ctx)
	case restLine:
		return nil, j.rest(ctx)
	}
	return nil, fmt.Errorf("told %q", line)
}

// firstError keeps the first of the clients' errors.
type firstError struct {
	mu  sync.Mutex // guards err
	err error
}

func (f *firstError) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil && err != nil {
		f.err = err
	}
}

// work has the clients work for the time of the run.
func (j *job) work(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	end := time.Now().Add(j.Duration)
	var wg sync.WaitGroup
	wg.Go(func() { j.watch(ctx, end) })
	for i := range j.own.Clients {
		c := client.New(j.process, i, j.Seed)
		wg.Go(func() {
			interval := time.Second / time.Duration(j.own.Rate)
			for next := time.Now(); next.Before(end) && ctx.Err() == nil; next = next.Add(interval) {
				if late := time.Since(next); late > 100*time.Millisecond { // stopped meanwhile: that is not made up for
					next = next.Add(late)
				}
				time.Sleep(time.Until(next))
				if err := c.Step(ctx); err != nil {
					j.failed.set(err)
					cancel()
					return
				}
			}
		})
	}
	wg.Wait()
	return j.failed.err
}

// watch writes down when the process was stopped, or got no processor.
func (j *job) watch(ctx context.Context, end time.Time) {
	const step, stopped = 2 * time.Millisecond, 50 * time.Millisecond
	for last := judge.Now(); time.Now().Before(end) && ctx.Err() == nil; {
		time.Sleep(step)
		now := judge.Now()
		if now-last > stopped {
			_, err := j.process.Log.Begin(history.Op{Kind: history.Stop, Process: int16(j.Worker), Call: int64(last), Return: int64(now), Outcome: history.Done})
			j.failed.set(err)
		}
		last = now
	}
}

// rest compares this process' tier with Redis.
func (j *job) rest(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return client.New(j.process, 0, 0).Rest(ctx)
}
