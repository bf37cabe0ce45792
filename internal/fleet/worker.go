//go:build unix

package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/flipcache/flipcache/hybrid"
	"github.com/flipcache/flipcache/internal/judge"
)

// workerArg makes a worker of this program.
const workerArg = "-as-a-worker"

// IsWorker says that this process was started as a worker.
func IsWorker() bool { return len(os.Args) == 2 && os.Args[1] == workerArg }

// tableFD is the shared table's file in a worker.
const tableFD = 3

// What a worker is told, after its config.
const (
	GoLine       = "go"
	versionsLine = "versions"
)

// Work is what a worker does until its input ends. It returns the exit code.
func Work(open Opener, in io.Reader, out, errOut io.Writer) int {
	return Serve(func(ctx context.Context, c Config) (Job, error) { return newWorker(ctx, open, c) }, in, out, errOut)
}

type worker struct {
	Config
	table         *judge.Table
	cache         Cache
	meter         Meter
	names         []string // of keys, in the generation of nameOf
	gen           []uint64
	res           Result
	reads, writes workload

	// Of the one who reads.
	began    time.Duration
	unjudged []read
}

// newWorker has a worker take part, and write the first version of its keys.
func newWorker(ctx context.Context, open Opener, c Config) (_ Job, err error) {
	w := &worker{Config: c, names: make([]string, c.Keys), gen: make([]uint64, c.Keys)}
	f := os.NewFile(tableFD, "table")
	if w.table, err = judge.Open(f, c.Keys); err != nil {
		return nil, err
	}
	f.Close()
	if err = w.patiently(ctx, func() (err error) { w.cache, w.meter, err = open(ctx, c); return err }); err != nil {
		return nil, errors.Join(err, w.table.Close())
	}
	for k := range w.names {
		w.names[k] = keyName(k, 0)
	}
	if w.reads, w.writes, err = w.workloads(); err == nil {
		err = w.patiently(ctx, func() error { return w.writeFirst(ctx) })
	}
	if err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

func (w *worker) Close() {
	w.cache.Close()
	w.table.Close()
}

// Answer works, or tells the versions that it reads.
func (w *worker) Answer(ctx context.Context, line string) (any, error) {
	switch line {
	case GoLine:
		return w.run(ctx, w.reads, w.writes)
	case versionsLine:
		return w.versions(ctx), nil
	}
	return nil, fmt.Errorf("told %q", line)
}

// startLimit is how long several servers may take to let a worker begin: they may
// change their roles just then.
const startLimit = 10 * time.Second

// patiently does what begins a worker, and again where servers may change their roles.
func (w *worker) patiently(ctx context.Context, do func() error) error {
	for end := time.Now().Add(startLimit); ; {
		err := do()
		if err == nil || !w.Refereed || time.Now().After(end) || wait(ctx, 100*time.Millisecond) != nil {
			return err
		}
	}
}

// workloads returns whose turn it is to be read and to be written.
func (w *worker) workloads() (reads, writes workload, err error) {
	if w.Trace == "" {
		return newZipf(w.Seed, w.Worker, w.Keys), newZipf(w.Seed+1, w.Worker, w.Keys), nil
	}
	accesses, _, err := ReadTrace(w.Trace)
	at := len(accesses) / w.Workers * w.Worker
	return &replay{accesses, at}, &replay{accesses, at}, err
}

// run reads and writes for the time of a run.
func (w *worker) run(ctx context.Context, reads, writes workload) (Result, error) {
	stop := make(chan struct{})
	end := sync.OnceFunc(func() { close(stop) })
	defer time.AfterFunc(w.Duration, end).Stop()
	defer context.AfterFunc(ctx, end)()
	began := time.Now()
	w.meter.Start()
	var wg sync.WaitGroup
	var writeErr error
	var failed uint64 // writes
	wg.Go(func() {
		defer end()
		failed, writeErr = w.write(ctx, writes, stop)
	})
	err := w.read(ctx, reads, stop)
	end()
	wg.Wait()
	w.res.Errors += failed
	if err = errors.Join(err, writeErr); err != nil {
		return w.res, err
	}
	w.res.Elapsed = time.Since(began)
	if err := w.awaitReferee(ctx); err != nil {
		return w.res, err
	}
	w.res.Measured, err = json.Marshal(w.meter.End())
	return w.res, err
}

func say(out io.Writer, line string) error {
	_, err := io.WriteString(out, line+"\n")
	return err
}

// owns returns the keys that this worker writes.
func (w *worker) owns() (keys []int) {
	if w.Worker < w.Workers {
		for k := w.Worker; k < w.Keys; k += w.Workers {
			keys = append(keys, k)
		}
	}
	return keys
}

// writeFirst gives every key that this worker owns its first version.
func (w *worker) writeFirst(ctx context.Context) error {
	var names []string
	for _, k := range w.owns() {
		names = append(names, w.names[k])
	}
	if len(names) == 0 {
		return nil
	}
	if err := w.cache.SetMany(ctx, names, firstVersion); err != nil {
		return err
	}
	for _, k := range w.owns() {
		w.table.Completed(k, 0, firstVersion, judge.Now())
	}
	return nil
}

// write writes new versions of the keys that this worker owns, and returns how often
// that failed.
func (w *worker) write(ctx context.Context, keys workload, stop <-chan struct{}) (failed uint64, err error) {
	if w.Writes == 0 || w.Worker >= w.Keys {
		<-stop
		return 0, nil
	}
	type last struct{ generation, version uint64 }
	lasts := make(map[int]last)
	for p := newPace(w.Writes); p.wait(stop); {
		key := owned(keys.next(), w.Worker, w.Workers, w.Keys)
		l, known := lasts[key]
		if !known {
			l.version = firstVersion
		}
		l.version++
		w.table.Begin(key, judge.Now())
		err := w.cache.Set(ctx, keyName(key, l.generation), l.version)
		if err == nil {
			w.table.Completed(key, l.generation, l.version, judge.Now())
		}
		w.table.End(key)
		switch {
		case err == nil:
			w.res.Writes++
		case errors.Is(err, hybrid.ErrOutcomeUnknown) || errors.Is(err, hybrid.ErrUnconfirmed):
			l.generation++ // it may yet happen: nobody could be judged by this key any more
			w.res.Unknown++
			failed++
		case w.Tolerant && ctx.Err() == nil: // refused: it did not happen
			l.version--
			failed++
		default:
			return failed, err
		}
		lasts[key] = l
	}
	return failed, nil
}

// read reads keys and judges every read.
func (w *worker) read(ctx context.Context, keys workload, stop <-chan struct{}) error {
	w.began = judge.Now()
	for p := newPace(w.Reads); p.wait(stop); {
		key := keys.next()
		mark := w.table.Before(key)
		name := w.name(key, mark)
		began := judge.Now()
		version, err := w.cache.Get(ctx, name)
		took := judge.Now() - began
		local := w.meter.Read(took, err == nil)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if w.Tolerant {
				w.res.Errors++
				continue
			}
			return err
		}
		w.res.Reads++
		if w.LieEvery > 0 && w.res.Reads%uint64(w.LieEvery) == 0 && mark.Version > 1 {
			version = mark.Version - 1
			w.res.Lies++
		}
		r := read{key, mark, began, version, local, 0}
		switch {
		case version >= mark.Version: // there was none newer
		case !w.Refereed:
			w.judge(r)
		default:
			r.looks = w.table.Looks()
			w.unjudged = append(w.unjudged, r)
		}
		if w.Refereed {
			w.judgeThoseSeen()
		}
	}
	return nil
}

// A read is what it is judged by.
type read struct {
	key     int
	mark    judge.Mark
	began   time.Duration
	version uint64
	local   bool
	looks   uint64 // of the referee, that had begun when it was over
}

func (w *worker) judge(r read) {
	verdict := w.table.Judge(r.key, r.mark, r.began, r.version)
	if !verdict.Stale {
		return
	}
	w.res.Stale++
	w.meter.Stale(verdict.Age, r.local)
	if mended := w.began + w.Duration - chaosPauses + mendTime; w.Chaos && r.began > mended {
		w.res.NotMended = max(w.res.NotMended, verdict.Age)
	}
	if verdict.AtLeast {
		w.res.AgeLowerBounds++
	}
}

// judgeThoseSeen judges the reads since which the referee has looked.
func (w *worker) judgeThoseSeen() {
	if len(w.unjudged) == 0 {
		return
	}
	looked := w.table.Looked()
	n := 0
	for n < len(w.unjudged) && w.unjudged[n].looks < looked {
		w.judge(w.unjudged[n])
		n++
	}
	if w.unjudged = w.unjudged[n:]; len(w.unjudged) == 0 {
		w.unjudged = nil
	}
}

// refereeLimit is how long a referee may not know what Redis holds, when the chaos is
// over.
const refereeLimit = time.Minute

// awaitReferee judges all that is left.
func (w *worker) awaitReferee(ctx context.Context) error {
	for end := time.Now().Add(refereeLimit); len(w.unjudged) > 0; w.judgeThoseSeen() {
		if time.Now().After(end) {
			return fmt.Errorf("%d reads could not be judged: for %v it could not be seen what Redis holds", len(w.unjudged), refereeLimit)
		}
		if wait(ctx, 10*time.Millisecond) != nil {
			return nil
		}
	}
	return nil
}

// name returns the name of key in the generation of mark.
func (w *worker) name(key int, mark judge.Mark) string {
	if mark.Generation != w.gen[key] {
		w.gen[key], w.names[key] = mark.Generation, keyName(key, mark.Generation)
	}
	return w.names[key]
}

// versions reads each key once, as soon as that succeeds. A key that cannot be
// read for long has version 0.
func (w *worker) versions(ctx context.Context) []uint64 {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	all := make([]uint64, w.Keys)
	for k := range all {
		name := w.name(k, w.table.Before(k))
		for ctx.Err() == nil {
			version, err := w.cache.Get(ctx, name)
			if err == nil {
				all[k] = version
				break
			}
			select {
			case <-ctx.Done():
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	return all
}
