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

// race runs a and b side by side. Who is started last runs first where processors are
// scarce, so i says who that is.
func race(i int, a, b func()) {
	if i%2 == 1 {
		a, b = b, a
	}
	var wg sync.WaitGroup
	wg.Go(a)
	wg.Go(b)
	wg.Wait()
}

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
	for i := range 5000 {
		f := b.open()
		race(i, func() { b.End(f, value(1)) }, func() { b.Message(k, 7, false) })
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
		if i%4 < 2 {
			f := b.open()
			race(i, func() { b.End(f, value(1)) }, b.Cut)
		} else {
			w := b.BeginWrite(k, 0, nil)
			race(i, func() { b.EndWrite(w, true, value(1)) }, b.Cut)
		}
		if v := b.local(); v != 0 {
			t.Fatal("cut, and what ended meanwhile is in the tier")
		}
		b.Resume()
	}
}
