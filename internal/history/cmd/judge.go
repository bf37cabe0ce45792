//go:build unix

package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/flipcache/flipcache/internal/clock"
	"github.com/flipcache/flipcache/internal/history"
	"github.com/flipcache/flipcache/internal/history/client"
)

// A row is what came of one trial.
type row struct {
	Variant    string
	Faults     bool   `json:",omitempty"`
	As         string `json:",omitempty"` // by the promises of which variant it was judged, if not its own
	Without    string `json:",omitempty"` // the defence that was taken out
	Operations int
	Reads      int
	Writes     int
	Unknown    int // writes of unknown outcome
	Failed     int // operations that did not happen
	Registers  int
	Pieces     int // of counters, for porcupine
	Undecided  int
	Oldest     time.Duration // how long what was read had been replaced
	Broken     []history.Violation
	Elapsed    time.Duration
	Judged     time.Duration // how long that took
}

// expectsBroken says that the trial is there to show that the checker sees faults.
func (r row) expectsBroken() bool { return r.As != "" || r.Without != "" }

// good says that the trial showed what it is there for.
func (r row) good() bool { return r.Undecided == 0 && len(r.Broken) > 0 == r.expectsBroken() }

// afterStop is how long after it was stopped a process may not yet know the time:
// without a lease, local deadlines are compared with a clock that a ticker moves.
const afterStop = 2 * clock.Tick

// decide bounds the time for one piece.
const decide = time.Minute

// evaluate has every key's history judged.
func evaluate(ops []history.Op, rules history.Rules, dir string) (r row, err error) {
	began := time.Now()
	r.Operations = len(ops)
	for _, o := range ops {
		switch {
		case o.Kind == history.Stop:
			r.Operations--
		case o.Outcome == history.Refused:
			r.Failed++
		case o.Kind == history.Get || o.Kind == history.Missing || o.Kind == history.Fresh:
			r.Reads++
		default:
			r.Writes++
			if o.Outcome == history.Unknown {
				r.Unknown++
			}
		}
	}
	keys := history.ByKey(ops, afterStop)
	type job struct {
		key int32
		ops []history.Op
	}
	work := make(chan job)
	var mu sync.Mutex // guards r and err
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for j := range work {
				broken, undecided, age, failed := one(j.key, j.ops, rules, dir)
				mu.Lock()
				if j.key < client.Counters {
					r.Registers++
				} else {
					r.Pieces++
				}
				if undecided {
					r.Undecided++
				}
				r.Oldest = max(r.Oldest, age)
				r.Broken = append(r.Broken, broken...)
				err = cmp.Or(err, failed)
				mu.Unlock()
			}
		})
	}
	for key, ops := range keys {
		work <- job{key, ops}
	}
	close(work)
	wg.Wait()
	slices.SortFunc(r.Broken, func(a, b history.Violation) int { return cmp.Compare(a.Key, b.Key) })
	r.Judged = time.Since(began)
	return r, err
}

// one judges one key.
func one(key int32, ops []history.Op, rules history.Rules, dir string) (broken []history.Violation, undecided bool, age time.Duration, err error) {
	if key < client.Counters {
		age = history.Oldest(ops)
	}
	broken, undecided, err = client.Judge(key, ops, rules, decide, dir)
	return broken, undecided, age, err
}

// kept bounds the broken promises of a trial that are written down.
const kept = 5

// keep writes the histories of the keys that broke a promise to dir, with pictures.
func keep(dir string, r *row, keys map[int32][]history.Op) error {
	if len(r.Broken) == 0 {
		return nil
	}
	for i := range min(kept, len(r.Broken)) {
		v := &r.Broken[i]
		base := filepath.Join(dir, fmt.Sprintf("%s-%d-key-%d", r.Variant, i+1, v.Key))
		f, err := os.Create(base + ".txt")
		if err != nil {
			return err
		}
		fmt.Fprintf(f, "%v\n\n", v)
		for _, o := range keys[v.Key] {
			fmt.Fprintln(f, o)
		}
		if err := f.Close(); err != nil {
			return err
		}
		if v.HTML == "" {
			v.HTML = base + ".html"
			if err := history.Draw(v.HTML, keys[v.Key], *v); err != nil {
				return err
			}
		}
	}
	return nil
}
