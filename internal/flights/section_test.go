package flights

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/flipcache/flipcache/internal/clock"
	"github.com/flipcache/flipcache/internal/tier"
)

// What is one critical section, or one order of steps, is tried here by goroutines
// that race.

// H14: the process sleeps between its look at the lease and at the entry. Whoever
// hits sees the world go on in steps: the lease is over, the entry is dropped, the
// lease is renewed, the next value is filled.
func TestH14_LeaseIsReadBeforeTheEntry(t *testing.T) {
	const step = 1000
	var now, lease, read atomic.Int64
	var wrong, over atomic.Bool
	tb := tier.New[string, int](tier.Bounds{Entries: 16}, tier.Adaptive)
	stream := New(tb, clock.NewManual(now.Load), &lease)
	defer stream.Close()
	stream.Resume()
	var wg sync.WaitGroup
	for range 2 * runtime.GOMAXPROCS(0) { // so that who yields comes back late
		wg.Go(func() {
			var looked int64
			h := New(tb, clock.NewManual(func() int64 { looked = now.Load(); return looked }), &lease)
			defer h.Close()
			for !over.Load() {
				if e := h.Hit(k); e != nil {
					read.Add(1)
					if int64(e.Value) < looked/step {
						wrong.Store(true)
						over.Store(true)
					}
				}
			}
		})
	}
	for v := 1; v < 20_000 && !over.Load(); v++ {
		now.Store(int64(v) * step) // the lease is over
		stream.Push(k)             // the value of before is replaced
		lease.Store(now.Load() + step/2)
		f, _ := stream.BeginFill(k, false, nil)
		stream.End(f, value(v))
	}
	over.Store(true)
	wg.Wait()
	if wrong.Load() {
		t.Error("a value was served that was replaced before the lease was renewed")
	}
	if read.Load() == 0 {
		t.Error("no hit: the test proves nothing")
	}
}

// H1: the judgement of a fill and its insert are one section: no message comes in
// between.
func TestH1_InsertIsInTheSameSectionAsTheJudgement(t *testing.T) {
	b := newBench(t)
	for range 5000 {
		f := b.open()
		var wg sync.WaitGroup
		wg.Go(func() { b.End(f, value(1)) })
		wg.Go(func() { b.Message(k, 7, false) })
		wg.Wait()
		if v := b.local(); v != 0 {
			t.Fatal("a message came, and what was read before it is in the tier")
		}
	}
}

// H7: a flight ends while the tiers are cut: the tier is empty afterwards, whichever
// was first.
func TestH7_FlightThatEndsDuringACutLeavesNothing(t *testing.T) {
	b := newBench(t)
	for i := range 5000 {
		var wg sync.WaitGroup
		if i%2 == 0 {
			f := b.open()
			wg.Go(func() { b.End(f, value(1)) })
		} else {
			w := b.BeginWrite(k, 0, nil)
			wg.Go(func() { b.EndWrite(w, true, value(1)) })
		}
		wg.Go(b.Cut)
		wg.Wait()
		if v := b.local(); v != 0 {
			t.Fatal("cut, and what ended meanwhile is in the tier")
		}
		b.Resume()
	}
}
