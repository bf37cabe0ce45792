package flights

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/flipcache/flipcache/internal/clock"
	"github.com/flipcache/flipcache/internal/tier"
)

// leasedBench is a bench whose entries may be served while now < lease. looked
// runs whenever the clock is read.
func leasedBench(t *testing.T) (b *bench, lease *atomic.Int64, looked *func()) {
	lease, looked = new(atomic.Int64), new(func())
	b = &bench{T: t}
	b.Table = New(tier.New[string, int](tier.Bounds{Entries: 16}, tier.Adaptive), clock.NewManual(func() int64 {
		if *looked != nil {
			(*looked)()
		}
		return b.now
	}), lease)
	b.Resume()
	lease.Store(100)
	t.Cleanup(b.Close)
	return b, lease, looked
}

// H13: silence. The entry is served to the lease's end, not a nanosecond
// longer, and again when the lease is renewed.
func TestH13_NothingIsServedPastTheLease(t *testing.T) {
	b, lease, _ := leasedBench(t)
	b.End(b.open(), value(1))
	for _, step := range []struct {
		now, lease int64
		want       int
	}{{0, 100, 1}, {99, 100, 1}, {100, 100, 0}, {1 << 40, 100, 0}, {1 << 40, 1<<40 + 1, 1}} {
		b.now = step.now
		lease.Store(step.lease)
		b.wantLocal(step.want)
	}
}

func TestEntryUnderALeaseEndsAtItsOwnDeadline(t *testing.T) {
	b, _, _ := leasedBench(t)
	b.End(b.open(), Reply[int]{Value: 1, Keep: true, Deadline: 50})
	b.now = 49
	b.wantLocal(1)
	b.now = 50
	b.wantLocal(0)
}

// H14: the process sleeps between its check and its answer, and wakes in a
// world in which the lease was renewed by a connection that has already told it
// of a newer value.
func TestH14_SleepBeforeTheClockIsReadIsSeen(t *testing.T) {
	b, lease, looked := leasedBench(t)
	b.End(b.open(), value(1))
	*looked = func() { // the entry was loaded
		b.now = 1000
		b.Push(k)
		lease.Store(1100)
	}
	b.wantLocal(0)
}

// H14: the process sleeps after its look at the clock: what enters the tier meanwhile
// may have been fetched when the lease was over.
func TestH14_WhatEntersAfterTheClockWasReadIsNotServed(t *testing.T) {
	var lease atomic.Int64
	lease.Store(100)
	now, sleep := int64(0), func() {}
	b := &bench{T: t}
	b.Table = New(tier.New[string, int](tier.Bounds{Entries: 16}, tier.Adaptive), clock.NewManual(func() int64 {
		read := now
		sleep()
		return read
	}), &lease)
	t.Cleanup(b.Close)
	b.Resume()
	f := b.open()
	sleep = func() {
		sleep = func() {}
		now = 1000
		b.End(f, value(1))
	}
	b.wantLocal(0)
	if sleep(); b.tier.Peek(k) == nil {
		t.Error("nothing entered: the test proves nothing")
	}
}

// H12: a reader whose lease is over joins no fill that was sent before.
func TestH12_JoinPassesTheTestOfAHit(t *testing.T) {
	b, lease, _ := leasedBench(t)
	old := b.open()
	b.now = 100 // the lease is over: what replaced the value may have been acknowledged
	f, opened := b.BeginFill(k, false, func(*Flight[string, int]) Reply[int] { return value(2) })
	if opened || f == old {
		t.Fatalf("opened %t, joined the old fill %t: want to wait as the next", opened, f == old)
	}
	b.End(old, value(1))
	if r := f.Wait(background); r.Value != 2 {
		t.Errorf("got %+v, want what was sent afterwards", r)
	}
	lease.Store(200)
	b.wantLocal(2)
}

// H12: a fill whose lease is over shows what it brought, and an older entry must not
// come back behind that with the next lease.
func TestH12_LookingAgainTakesOutAnEntryThatIsOver(t *testing.T) {
	b, lease, _ := leasedBench(t)
	b.End(b.open(), value(1))
	b.now = 100 // the lease is over
	f := b.open()
	next := b.Fill(k, false, false, func(*Flight[string, int]) Reply[int] { return Reply[int]{Err: context.Canceled} })
	b.End(f, value(2)) // detached by who waits behind it
	if r := f.Wait(background); r.Value != 2 {
		t.Fatalf("got %+v", r)
	}
	next.Wait(background)
	lease.Store(200)
	b.wantLocal(0)
}

// H3, Tracking: one push is the write's own, a second one is another's.
func TestH3_SecondPushKeepsAWriteOut(t *testing.T) {
	for pushes, want := range []int{1, 1, 0, 0} {
		b := newBench(t)
		w := b.BeginWrite(k, 0, nil)
		for range pushes {
			b.Push(k)
		}
		b.EndWrite(w, true, value(1))
		b.wantLocal(want)
		b.wantIdle()
	}
}

func TestPushDetachesTheFill(t *testing.T) {
	b := newBench(t)
	f := b.open()
	b.Push(k)
	b.End(f, value(1))
	b.wantLocal(0)
}

// What is set aside at a cut lacks what a write or a clear has begun to replace,
// in whichever order they come.
func TestNothingThatIsWrittenIsSetAside(t *testing.T) {
	for i := range 2000 {
		now := int64(0)
		tb := New(tier.New[string, int](tier.Bounds{Entries: 16}, tier.Adaptive), clock.NewManual(func() int64 { return now }), nil)
		tb.SetAside(1 << 40)
		tb.Resume()
		for _, key := range []string{"written", "cleared"} {
			f, _ := tb.BeginFill(key, false, nil)
			tb.End(f, value(1))
		}
		race(i, tb.Cut, func() { tb.EndWrite(tb.BeginWrite("written", 0, nil), true, Reply[int]{}) })
		if tb.Aside("written") != nil {
			t.Fatal("what was written is served from what was set aside")
		}
		if e := tb.Aside("cleared"); e == nil || e.Value != 1 {
			t.Fatal("nothing was set aside: the test proves nothing")
		}
		tb.Resume()
		f, _ := tb.BeginFill("cleared", false, nil)
		tb.End(f, value(1))
		race(i, tb.Cut, tb.BeginClear)
		if tb.Aside("cleared") != nil {
			t.Fatal("what was cleared is served from what was set aside")
		}
		tb.EndClear()
		tb.Close()
	}
}

// What is set aside is good for as long as the option says, and no longer than its
// key lives.
func TestWhatIsSetAsideEnds(t *testing.T) {
	for _, test := range []struct{ deadline, last int64 }{{clock.Never, 59}, {40, 39}} {
		b := newBench(t)
		b.SetAside(50)
		r := value(1)
		r.Deadline = test.deadline
		b.End(b.open(), r)
		b.now = 10
		b.Cut()
		for now, want := range map[int64]bool{10: true, test.last: true, test.last + 1: false, 1 << 40: false} {
			b.now = now
			if got := b.Aside(k) != nil; got != want {
				t.Errorf("of an entry that ends at %d, at %d: served %t", test.deadline, now, got)
			}
		}
	}
}

// What is set aside is never older than what was heard of a key since, on a
// connection that has not caught up yet.
func TestNothingThatWasHeardToChangeIsSetAside(t *testing.T) {
	for name, hear := range map[string]func(*bench){
		"message": func(b *bench) { b.Message(k, 1, false) },
		"push":    func(b *bench) { b.Push(k) },
		"all":     func(b *bench) { b.DropAll() },
	} {
		b := newBench(t)
		b.SetAside(clock.Never) // for ever
		b.End(b.open(), value(1))
		b.now = 1000
		b.Cut()
		if e := b.Aside(k); e == nil {
			t.Fatal("nothing was set aside")
		}
		hear(b)
		if e := b.Aside(k); e != nil {
			t.Errorf("%s: %d is served, and was heard to be replaced", name, e.Value)
		}
	}
}

// A fill that takes longer than an entry may live brings what may be older than an
// entry could be: who comes later does not join it.
func TestJoinIsNoOlderThanAnEntryMayBe(t *testing.T) {
	b := newBench(t)
	b.SetLife(100)
	again := func(*Flight[string, int]) Reply[int] { return value(2) }
	b.now = 10
	old := b.open()
	b.now = 109
	if f, _ := b.BeginFill(k, false, again); f != old {
		t.Fatal("a reader within an entry's life did not join")
	}
	b.now = 110
	f, opened := b.BeginFill(k, false, again)
	b.End(old, Reply[int]{Value: 1, Keep: true, Deadline: 110})
	if opened || f == old {
		t.Fatalf("opened %t, joined the old fill %t: want to wait as the next", opened, f == old)
	}
	if r := f.Wait(t.Context()); r.Value != 2 {
		t.Errorf("got %d, want 2", r.Value)
	}
	b.wantLocal(2)
}

// Serves is Hit of that very entry.
func TestServesIsWhatAHitReturns(t *testing.T) {
	b, lease, _ := leasedBench(t)
	enter := func(deadline int64) *tier.Entry[string, int] {
		b.End(b.open(), Reply[int]{Value: 1, Keep: true, Deadline: deadline})
		return b.Hit(k)
	}
	want := func(e *tier.Entry[string, int], want bool, when string) {
		t.Helper()
		if b.Serves(e) != want {
			t.Errorf("%s: it is served: %t", when, !want)
		}
	}
	e := enter(50)
	want(e, true, "it has just entered")
	b.now = 50
	want(e, false, "its time is over")
	b.Push(k)
	e = enter(clock.Never)
	b.now = 100
	want(e, false, "the lease is over")
	lease.Store(200)
	want(e, true, "the lease was renewed")
	b.Push(k)
	enter(clock.Never)
	want(e, false, "another took its place")
}
