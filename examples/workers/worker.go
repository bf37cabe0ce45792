//go:build unix

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/hybrid"
	"github.com/flipcache/flipcache/internal/judge"
	"github.com/flipcache/flipcache/invalidate"
)

// workerArg makes a worker of this program. The parent speaks to it by its
// standard input and output, a line each: the config goes in, "ready" comes out,
// "go" goes in, the result comes out. When its input ends, so does it.
const workerArg = "-as-a-worker"

// tableFD is the shared table's file in a worker.
const tableFD = 3

type config struct {
	Worker, Workers, Keys int
	Name                  string // of the cache, fresh for each run
	Mode                  invalidate.Mode
	Addr                  []string
	Single                bool
	Duration, LocalTTL    time.Duration
	MaxStaleness, Timeout time.Duration
	Chaos                 bool
	Reads, Writes         int
	ValueSize             int
	Seed                  uint64
	Trace                 string
	LieEvery              int
}

type result struct {
	Reads, LocalHits, Stale, AgeLowerBounds uint64
	Writes, Unknown, Sent, Received, Lies   uint64
	Errors                                  uint64        // reads and writes that failed
	NotMended                               time.Duration // the worst age after the chaos
	Elapsed                                 time.Duration
	Local, Redis, Age                       *hdrhistogram.Snapshot // ns, ns, µs
	Err                                     string
}

func workerMain(in io.Reader, out, errOut io.Writer) int {
	signal.Ignore(os.Interrupt, syscall.SIGTERM) // the parent says when to end
	lines := bufio.NewReader(in)
	first, err := lines.ReadBytes('\n')
	if err != nil {
		return exitFailed
	}
	var c config
	if err := json.Unmarshal(first, &c); err != nil {
		fmt.Fprintln(errOut, "config:", err)
		return exitFailed
	}
	if err := work(c, lines, out); err != nil {
		fmt.Fprintln(errOut, err)
		return exitFailed
	}
	return 0
}

type worker struct {
	config
	table *judge.Table
	cache *hybrid.Cache[string, []byte]
	names []string // of keys, in the generation of nameOf
	gen   []uint64

	res              result
	local, slow, age *hdrhistogram.Histogram
}

func work(c config, in *bufio.Reader, out io.Writer) error {
	f := os.NewFile(tableFD, "table")
	table, err := judge.Open(f, c.Keys)
	if err != nil {
		return err
	}
	defer table.Close()
	f.Close()
	client := rueidis.ClientOption{InitAddress: c.Addr, ForceSingleClient: c.Single, DisableCache: c.Single}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	store, cache, err := open(ctx, client, c)
	if err != nil {
		return err
	}
	defer store.Close()
	w := &worker{
		config: c, table: table, cache: cache, names: make([]string, c.Keys), gen: make([]uint64, c.Keys),
		local: hdrhistogram.New(1, int64(time.Minute), 3),
		slow:  hdrhistogram.New(1, int64(time.Minute), 3),
		age:   hdrhistogram.New(1, int64(time.Hour/time.Microsecond), 3),
	}
	for k := range w.names {
		w.names[k] = keyName(k, 0)
	}
	var reads, writes workload
	if c.Trace == "" {
		reads, writes = newZipf(c.Seed, c.Worker, c.Keys), newZipf(c.Seed+1, c.Worker, c.Keys)
	} else {
		accesses, _, err := readTrace(c.Trace)
		if err != nil {
			return err
		}
		reads = &replay{accesses, len(accesses) / c.Workers * c.Worker}
		writes = &replay{accesses, len(accesses) / c.Workers * c.Worker}
	}
	if err := w.writeFirst(ctx); err != nil {
		return err
	}
	if err := say(out, "ready"); err != nil {
		return err
	}
	if line, err := in.ReadString('\n'); err != nil || line != "go\n" {
		return errors.New("the parent is gone")
	}
	before := cache.Stats()
	stop := make(chan struct{})
	end := sync.OnceFunc(func() { close(stop) })
	time.AfterFunc(c.Duration, end)
	orphaned := make(chan struct{})
	go func() { // the parent's end is ours
		io.Copy(io.Discard, in)
		close(orphaned)
		cancel()
		end()
	}()
	began := time.Now()
	var wg sync.WaitGroup
	var writeErr error
	wg.Go(func() {
		defer end()
		writeErr = w.write(ctx, writes, stop)
	})
	err = w.read(ctx, reads, stop)
	end()
	wg.Wait()
	select {
	case <-orphaned:
		return errors.New("the parent is gone")
	default:
	}
	if err = errors.Join(err, writeErr); err != nil {
		return err
	}
	after := cache.Stats()
	w.res.Elapsed = time.Since(began)
	w.res.Sent, w.res.Received = after.Sent-before.Sent, after.Received-before.Received
	w.res.Local, w.res.Redis, w.res.Age = w.local.Export(), w.slow.Export(), w.age.Export()
	b, err := json.Marshal(w.res)
	if err != nil {
		return err
	}
	return say(out, string(b))
}

func say(out io.Writer, line string) error {
	_, err := io.WriteString(out, line+"\n")
	return err
}

// writeFirst gives every key that this worker owns its first version.
func (w *worker) writeFirst(ctx context.Context) error {
	batch := make(map[string][]byte)
	for k := w.Worker; k < w.Keys; k += w.Workers {
		batch[keyName(k, 0)] = newValue(1, w.ValueSize)
	}
	if err := w.cache.SetMany(ctx, batch); err != nil {
		return err
	}
	for k := w.Worker; k < w.Keys; k += w.Workers {
		w.table.Completed(k, 0, 1, judge.Now())
	}
	return nil
}

// write writes new versions of the keys that this worker owns.
func (w *worker) write(ctx context.Context, keys workload, stop <-chan struct{}) error {
	if w.Writes == 0 || w.Worker >= w.Keys {
		<-stop
		return nil
	}
	type last struct{ generation, version uint64 }
	lasts := make(map[int]last)
	for p := newPace(w.Writes); p.wait(stop); {
		key := owned(keys.next(), w.Worker, w.Workers, w.Keys)
		l, known := lasts[key]
		if !known {
			l.version = 1
		}
		l.version++
		err := w.cache.Set(ctx, keyName(key, l.generation), newValue(l.version, w.ValueSize))
		switch {
		case err == nil:
			w.table.Completed(key, l.generation, l.version, judge.Now())
			w.res.Writes++
		case errors.Is(err, hybrid.ErrOutcomeUnknown):
			l.generation++ // it may yet happen: nobody could be judged by this key any more
			w.res.Unknown++
			w.res.Errors++
		case w.Chaos && ctx.Err() == nil: // refused: it did not happen
			l.version--
			w.res.Errors++
		default:
			return err
		}
		lasts[key] = l
	}
	return nil
}

// read reads keys and judges every read.
func (w *worker) read(ctx context.Context, keys workload, stop <-chan struct{}) error {
	misses := w.cache.Stats().Misses
	mended := judge.Now() + (w.Duration - chaosPauses + mendTime)
	for p := newPace(w.Reads); p.wait(stop); {
		key := keys.next()
		mark := w.table.Before(key)
		if mark.Generation != w.gen[key] {
			w.gen[key], w.names[key] = mark.Generation, keyName(key, mark.Generation)
		}
		began := judge.Now()
		v, err := w.cache.Get(ctx, w.names[key])
		took := judge.Now() - began
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if w.Chaos {
				w.res.Errors++
				misses = w.cache.Stats().Misses
				continue
			}
			return err
		}
		version, err := versionOf(v)
		if err != nil {
			return err
		}
		w.res.Reads++
		if w.LieEvery > 0 && w.res.Reads%uint64(w.LieEvery) == 0 && mark.Version > 1 {
			version = mark.Version - 1
			w.res.Lies++
		}
		if verdict := w.table.Judge(key, mark, began, version); verdict.Stale {
			w.res.Stale++
			w.age.RecordValue(max(1, verdict.Age.Microseconds()))
			if w.Chaos && began > mended {
				w.res.NotMended = max(w.res.NotMended, verdict.Age)
			}
			if verdict.AtLeast {
				w.res.AgeLowerBounds++
			}
		}
		if now := w.cache.Stats().Misses; now == misses { // this goroutine is the only reader
			w.res.LocalHits++
			w.local.RecordValue(int64(took))
		} else {
			misses = now
			w.slow.RecordValue(int64(took))
		}
	}
	return nil
}
