//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/flipcache/flipcache/hybrid"
	"github.com/flipcache/flipcache/internal/fleet"
	"github.com/flipcache/flipcache/internal/history"
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

// Registers are used in generations, so that each is deleted once at the most and the
// history of a key stays short. A ticket is a write.
const (
	registers  = 16
	generation = 3000 // tickets
	deletes    = generation / 2
)

// counters is the key of the first counter. A ticket is an operation.
const counters = 1 << 24

// A job is one worker's: its clients, and their log.
type job struct {
	fleet.Config
	own            own
	store          *hybrid.Store
	cache          *hybrid.Cache[int32, int64]
	log            *history.Log
	writes, counts *history.Tickets
	failed         firstError
}

func newJob(ctx context.Context, c fleet.Config) (_ fleet.Job, err error) {
	j := &job{Config: c}
	if err := json.Unmarshal(c.Own, &j.own); err != nil {
		return nil, err
	}
	v, err := parseVariant(j.own.Mode)
	if err != nil {
		return nil, err
	}
	if j.log, err = history.OpenLog(logPath(j.own.Dir, c.Worker), j.own.Capacity); err != nil {
		return nil, err
	}
	if j.writes, err = history.OpenTickets(filepath.Join(j.own.Dir, "writes")); err != nil {
		return nil, err
	}
	if j.counts, err = history.OpenTickets(filepath.Join(j.own.Dir, "counts")); err != nil {
		return nil, err
	}
	j.store, err = hybrid.Open(ctx, hybrid.StoreOptions{
		Client:       c.ClientOption(),
		Invalidation: v.mode,
		MaxStaleness: c.MaxStaleness,
		Timeout:      c.Timeout,
	})
	if err != nil {
		return nil, err
	}
	j.cache, err = hybrid.New(j.store, j.own.Name, hybrid.Options[int32, int64]{
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
	localSize   = 3 * registers
)

func logPath(dir string, worker int) string {
	return filepath.Join(dir, "log-"+strconv.Itoa(worker))
}

func (j *job) Close() {
	j.store.Close()
	j.log.Close()
	j.writes.Close()
	j.counts.Close()
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
		c := &client{job: j, number: int16(i), r: rand.New(rand.NewPCG(j.Seed, uint64(j.Worker)<<32|uint64(i)))}
		wg.Go(func() {
			interval := time.Second / time.Duration(j.own.Rate)
			for next := time.Now(); next.Before(end) && ctx.Err() == nil; next = next.Add(interval) {
				if late := time.Since(next); late > 100*time.Millisecond { // stopped meanwhile: that is not made up for
					next = next.Add(late)
				}
				time.Sleep(time.Until(next))
				if err := c.step(ctx); err != nil {
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
			_, err := j.log.Begin(history.Op{Kind: history.Stop, Process: int16(j.Worker), Call: int64(last), Return: int64(now), Outcome: history.Done})
			j.failed.set(err)
		}
		last = now
	}
}

// rest reads the registers of the last generations once, each as soon as that succeeds.
func (j *job) rest(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	c := &client{job: j, quiet: true}
	for _, key := range restKeys(j.writes.Drawn()) {
		for {
			done, err := c.get(ctx, key)
			if err != nil || done {
				if err != nil {
					return err
				}
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("key %d cannot be read when all is quiet: %w", key, ctx.Err())
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	return nil
}

// restKeys are the registers that are compared with Redis at last.
func restKeys(tickets int64) (keys []int32) {
	last := tickets / generation
	for g := max(0, last-2); g <= last; g++ {
		for i := range int64(registers) {
			keys = append(keys, int32(g*registers+i))
		}
	}
	return keys
}

// record writes o down, has do done, and completes what was written.
func (j *job) record(o history.Op, do func(*history.Op) error) error {
	o.Process = int16(j.Worker)
	o.Call = int64(judge.Now())
	slot, err := j.log.Begin(o)
	if err != nil {
		return err
	}
	err = do(&o)
	o.Return = int64(judge.Now())
	o.Outcome = outcome(err)
	o.Acked = o.Acked && err == nil
	*slot = o
	if ended := errors.Is(err, hybrid.ErrClosed) || errors.Is(err, hybrid.ErrOption) || errors.Is(err, hybrid.ErrDecode); ended {
		return err // nothing that a fault explains
	}
	return nil
}

// outcome is what an error of the library says of a write; what it says of a read that
// failed is nothing.
func outcome(err error) history.Outcome {
	switch {
	case err == nil, errors.Is(err, hybrid.ErrNotFound), errors.Is(err, hybrid.ErrUnconfirmed):
		return history.Done
	case errors.Is(err, hybrid.ErrOutcomeUnknown):
		return history.Unknown
	}
	return history.Refused
}
