//go:build unix

package virtual

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/flipcache/flipcache/internal/history"
	"github.com/flipcache/flipcache/internal/history/client"
	"github.com/flipcache/flipcache/invalidate"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	seed     = flag.Uint64("virtual.seed", 0, "seed of the first episode; 0: a fresh one")
	episodes = flag.Int("virtual.episodes", 0, "episodes to run; 0: a short run")
)

// An episode is what a seed says.
type episode struct {
	client.Variant
	seed  uint64
	long  time.Duration // of faults
	fault time.Duration // from one to the next, at most
	pause time.Duration // of a client between two operations, at most
	usual time.Duration // for which what is said is under way, at most, if nothing is slow
}

// variants are what episodes are about, one after the other.
var variants = []client.Variant{
	{Mode: invalidate.Off}, {Mode: invalidate.PubSub}, {Mode: invalidate.Tracking},
	{Mode: invalidate.PubSub, Lease: true}, {Mode: invalidate.Tracking, Lease: true},
	{Mode: invalidate.PubSub, Lease: true, Acked: true}, {Mode: invalidate.Tracking, Lease: true, Acked: true},
}

func episodeOf(seed uint64) episode {
	e := episode{Variant: variants[seed%uint64(len(variants))], seed: seed}
	r := rand.New(rand.NewPCG(seed, 0))
	ms := func(of ...time.Duration) time.Duration { return of[r.IntN(len(of))] * time.Millisecond }
	e.long, e.fault = ms(1000, 2000, 4000), ms(300, 1000)
	e.pause, e.usual = ms(2, 10, 40, 200), ms(1, 2, 20)
	return e
}

func (e episode) String() string { return fmt.Sprintf("seed %d, %v", e.seed, e.Variant) }

// run runs e, and returns what its processes did, and how many local hits they had.
func (e episode) run(t *testing.T) (ops []history.Op, hits uint64) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, e, dir)
		ctx, over := context.WithTimeout(context.Background(), e.long)
		defer over()
		var last [slots]*process
		var failed [slots]error
		var wg sync.WaitGroup
		for i := range last {
			wg.Go(func() { last[i], failed[i] = f.live(ctx, i) })
		}
		wg.Go(func() { f.chaos(ctx) })
		wg.Wait()
		if err := errors.Join(failed[:]...); err != nil {
			t.Fatal(err)
		}
		truth := f.rest(last[:])
		for _, p := range last {
			f.end(p)
		}
		ops, hits = append(f.close(), truth...), f.hits
	})
	return ops, hits
}

// judge returns what was broken.
func (e episode) judge(t *testing.T, ops []history.Op) (broken []string) {
	for key, ops := range history.ByKey(ops, 0) {
		all, undecided, err := client.Judge(key, ops, e.Rules(), time.Minute, "")
		if err != nil || undecided {
			t.Errorf("%v: key %d is undecided: %v", e, key, err)
		}
		for _, v := range all {
			broken = append(broken, v.String())
		}
	}
	return append(broken, e.late(ops)...)
}

// late returns the calls that took too long: each command is bounded by Timeout and
// 1/16 of it. A read asks twice at the most, Update as often as others come in between,
// an acknowledged write waits for leases.
func (e episode) late(ops []history.Op) (late []string) {
	const once = timeout + timeout/16
	for _, o := range ops {
		most := 2 * once
		switch {
		case o.Kind == history.Update, e.Acked && (o.Kind == history.Set || o.Kind == history.Delete):
			continue
		case o.Kind == history.Set, o.Kind == history.Delete, o.Kind == history.Incr:
			most = once
		}
		if took := time.Duration(o.Return - o.Call); took > most {
			late = append(late, fmt.Sprintf("it took %v, which is more than %v: %v", took, most, o))
		}
	}
	return late
}

// TestProcessesInVirtualTime has whole processes work while the network fails, and
// judges what they did: see docs/correctness.md. The seed draws operations and faults;
// which goroutine runs first is up to the runtime.
//
//	go test ./internal/virtual -v -virtual.episodes=100 -virtual.seed=1
func TestProcessesInVirtualTime(t *testing.T) {
	first, n := *seed, *episodes
	if first == 0 {
		first = uint64(time.Now().UnixNano())
	}
	if n == 0 {
		n = len(variants)
	}
	began := time.Now()
	var all, unknown, failed int
	var local uint64
	var long time.Duration
	for i := range n {
		e := episodeOf(first + uint64(i))
		ops, hits := e.run(t)
		if broken := e.judge(t, ops); len(broken) > 0 {
			t.Fatalf("%v\n%s", e, strings.Join(broken, "\n"))
		}
		for _, o := range ops {
			switch o.Outcome {
			case history.Refused:
				failed++
			case history.Unknown:
				unknown++
			}
		}
		all, local = all+len(ops), local+hits
		long += e.long
	}
	if local == 0 {
		t.Error("no local hit")
	}
	t.Logf("seed %d: %d episodes, %v of faults in %v; %d operations, %d local hits, %d writes of unknown outcome, %d operations failed: no promise was broken",
		first, n, long, time.Since(began).Round(time.Millisecond), all, local, unknown, failed)
}
