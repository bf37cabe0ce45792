package flights

import (
	"context"
	"errors"
	"runtime"
	"testing"

	"go.uber.org/goleak"

	"github.com/flipcache/flipcache/internal/clock"
	"github.com/flipcache/flipcache/internal/tier"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var background = context.Background()

// bench is a table with one key of interest, driven step by step.
type bench struct {
	*testing.T
	*Table[string, int]
	now int64
}

const k = "k"

func newBench(t *testing.T) *bench {
	b := &bench{T: t}
	b.Table = New(tier.New[string, int](tier.Bounds{Entries: 16}, tier.Adaptive), clock.NewManual(func() int64 { return b.now }), nil)
	b.Resume()
	t.Cleanup(b.Close)
	return b
}

func value(v int) Reply[int] { return Reply[int]{Value: v, Keep: true, Deadline: clock.Never} }

// open opens a fill that the test ends by itself.
func (b *bench) open() *Flight[string, int] {
	b.Helper()
	f, opened := b.BeginFill(k, false, func(*Flight[string, int]) Reply[int] { return Reply[int]{Err: errors.New("sent by the table")} })
	if !opened {
		b.Fatal("the fill was not opened")
	}
	return f
}

func (b *bench) local() int {
	if e := b.Hit(k); e != nil {
		return e.Value
	}
	return 0
}

func (b *bench) wantLocal(want int) {
	b.Helper()
	if got := b.local(); got != want {
		b.Errorf("local tier: got %d, want %d (0 is none)", got, want)
	}
}

func (b *bench) wantIdle() {
	b.Helper()
	for i := range b.shards {
		s := &b.shards[i]
		s.mu.Lock() // a flight answers before it is forgotten, in one section
		if n := len(s.keys); n != 0 {
			b.Errorf("%d keys have flights, and all have ended", n)
		}
		s.mu.Unlock()
	}
}

func TestFillEntersTheTier(t *testing.T) {
	b := newBench(t)
	b.End(b.open(), value(1))
	b.wantLocal(1)
	b.wantIdle()
}

func TestH1_MessageDetachesTheFill(t *testing.T) {
	b := newBench(t)
	f := b.open()
	b.Message(k, 7, false)
	b.End(f, value(1))
	b.wantLocal(0)
	if r := f.Wait(background); r.Value != 1 {
		t.Errorf("who waited got %+v", r)
	}
}

func TestH1_DropAllDetachesTheFill(t *testing.T) {
	b := newBench(t)
	f := b.open()
	b.DropAll()
	b.End(f, value(1))
	b.wantLocal(0)
}

func TestH2_OverlappingWritesDoomEachOther(t *testing.T) {
	b := newBench(t)
	w1 := b.BeginWrite(k, 1, nil)
	w2 := b.BeginWrite(k, 2, nil)
	b.EndWrite(w2, true, value(2))
	b.wantLocal(0)
	b.EndWrite(w1, true, value(1))
	b.wantLocal(0)
	b.wantIdle()
}

func TestH3_OwnEchoIsIgnoredOnce(t *testing.T) {
	for _, when := range []string{"while the write is open", "after it"} {
		b := newBench(t)
		w := b.BeginWrite(k, 1, nil)
		if when == "after it" {
			b.EndWrite(w, true, value(1))
			b.Message(k, 1, true)
		} else {
			b.Message(k, 1, true)
			b.EndWrite(w, true, value(1))
		}
		b.wantLocal(1)
		b.Message(k, 1, true) // the client sent it twice
		b.wantLocal(0)
	}
}

func TestH3_ForeignMessageDoomsTheWrite(t *testing.T) {
	b := newBench(t)
	w := b.BeginWrite(k, 1, nil)
	b.Message(k, 1, false) // the same nonce of another process
	b.EndWrite(w, true, value(1))
	b.wantLocal(0)
}

func TestH4_EchoOfAFailedWriteCountsAsForeign(t *testing.T) {
	b := newBench(t)
	w := b.BeginWrite(k, 1, nil)
	b.EndWrite(w, false, Reply[int]{})
	b.End(b.open(), value(1))
	b.Message(k, 1, true) // it happened after all
	b.wantLocal(0)
}

func TestH6_CutEmptiesAndSuspends(t *testing.T) {
	b := newBench(t)
	b.End(b.open(), value(1))
	b.Cut()
	b.wantLocal(0)
	b.End(b.open(), value(2))
	b.wantLocal(0)
	w := b.BeginWrite(k, 1, nil)
	b.Resume()
	b.EndWrite(w, true, value(3)) // of the gap
	b.wantLocal(0)
	b.End(b.open(), value(4))
	b.wantLocal(4)
}

func TestH7_FlightsAcrossACutLeaveNothing(t *testing.T) {
	b := newBench(t)
	f := b.open()
	b.Cut()
	b.Resume()
	b.End(f, value(1))
	b.wantLocal(0)
	w := b.BeginWrite(k, 1, nil)
	b.Cut()
	b.Resume()
	b.EndWrite(w, true, value(2))
	b.wantLocal(0)
	b.End(b.open(), value(3))
	b.Message(k, 1, true) // forgotten at the resume, so foreign
	b.wantLocal(0)
}

func TestH10_ClearDoomsAllUntilItsEnd(t *testing.T) {
	b := newBench(t)
	b.End(b.open(), value(1))
	f := b.open0()
	b.BeginClear()
	b.wantLocal(0)
	b.End(f, value(1))
	b.wantLocal(0)
	b.End(b.open(), value(2))
	b.wantLocal(0)
	w := b.BeginWrite(k, 1, nil)
	b.EndWrite(w, true, value(3))
	b.wantLocal(0)
	w = b.BeginWrite(k, 2, nil)
	b.EndClear()
	b.EndWrite(w, true, value(4))
	b.wantLocal(0)
	b.End(b.open(), value(5))
	b.wantLocal(5)
}

// H10: of two clears at once the one that ends first ends nothing for the other.
func TestH10_ClearsMayOverlap(t *testing.T) {
	b := newBench(t)
	b.BeginClear()
	b.BeginClear()
	b.EndClear()
	b.End(b.open(), value(1))
	b.wantLocal(0)
	b.EndWrite(b.BeginWrite(k, 0, nil), true, value(2))
	b.wantLocal(0)
	b.EndClear()
	b.End(b.open(), value(3))
	b.wantLocal(3)
}

// open0 opens a fill of k although it is in the tier.
func (b *bench) open0() *Flight[string, int] {
	f, _ := b.BeginFill(k, true, nil)
	return f
}

func TestH12_ReaderDoesNotJoinWhatItMustNotSee(t *testing.T) {
	b := newBench(t)
	f := b.open()
	same, opened := b.BeginFill(k, false, nil)
	if opened || same != f {
		t.Fatal("a reader beside an attached fill has to join it")
	}
	w := b.BeginWrite(k, 1, nil)
	b.EndWrite(w, true, Reply[int]{}) // a Delete
	answers := make(chan int, 1)
	next := b.Fill(k, false, false, func(*Flight[string, int]) Reply[int] { answers <- 2; return value(2) })
	if next == f {
		t.Fatal("a reader joined a fill that its own process' write had detached")
	}
	b.End(f, value(1))
	if r := next.Wait(background); r.Value != 2 {
		t.Errorf("the reader behind the write got %+v", r)
	}
	<-answers
}

func TestH12_WriteTakesItsEntryOutAtItsBeginning(t *testing.T) {
	b := newBench(t)
	b.End(b.open(), value(1))
	w := b.BeginWrite(k, 1, nil)
	b.wantLocal(0)
	b.EndWrite(w, true, value(2))
	b.wantLocal(2)
}

func TestH12_FillBesideAnOpenWriteIsBornDetached(t *testing.T) {
	b := newBench(t)
	w := b.BeginWrite(k, 1, nil)
	f := b.open()
	b.EndWrite(w, true, Reply[int]{})
	b.End(f, value(1))
	b.wantLocal(0)
}

func TestH12_DetachedFillLooksAgain(t *testing.T) {
	b := newBench(t)
	f := b.open()
	w := b.BeginWrite(k, 1, nil)
	b.EndWrite(w, true, value(2))
	b.End(f, value(1))
	if r := f.Wait(background); r.Value != 2 {
		t.Errorf("a detached fill beside a valid entry answered %+v, want the entry", r)
	}
	b.wantLocal(2)

	// Where it shows a value that an open write may be older than, that write
	// must not enter after it.
	b = newBench(t)
	w = b.BeginWrite(k, 1, nil)
	f = b.open()
	b.End(f, value(3))
	b.EndWrite(w, true, value(2))
	b.wantLocal(0)
}

func TestWaitingFillIsJudgedWhenItIsSent(t *testing.T) {
	b := newBench(t)
	f := b.open()
	b.Message(k, 1, false)
	entered, release := make(chan struct{}), make(chan struct{})
	next := b.Fill(k, false, false, func(*Flight[string, int]) Reply[int] {
		close(entered)
		<-release
		return value(2)
	})
	w := b.BeginWrite(k, 1, nil) // open when the waiting one is sent
	b.End(f, Reply[int]{Err: errors.New("broken")})
	<-entered // sent by the table, after an error, too
	b.EndWrite(w, true, Reply[int]{})
	close(release)
	if r := next.Wait(background); r.Value != 2 {
		t.Errorf("the waiting fill answered %+v", r)
	}
	b.wantLocal(0)
	b.wantIdle()
}

// However many readers come behind a fill that they may not join, one fill waits.
func TestOneFillIsSentAndOneWaits(t *testing.T) {
	b := newBench(t)
	f := b.open()
	b.Message(k, 1, false)
	second := b.Fill(k, false, false, func(*Flight[string, int]) Reply[int] { return value(2) })
	if third := b.Fill(k, false, false, nil); third != second || second == f {
		t.Errorf("the second reader joined the old fill: %t; the third waits apart: %t", second == f, third != second)
	}
	b.End(f, value(1))
	if r := second.Wait(background); r.Value != 2 {
		t.Errorf("who waited got %+v", r)
	}
}

func TestWaiterLeavesWithItsOwnContext(t *testing.T) {
	b := newBench(t)
	f := b.open()
	ctx, cancel := context.WithCancel(background)
	cancel()
	if r := f.Wait(ctx); !errors.Is(r.Err, context.Canceled) {
		t.Errorf("who left got %+v", r)
	}
	b.End(f, value(1))
	if r := f.Wait(ctx); r.Value != 1 {
		t.Errorf("a value that is there was not given: %+v", r)
	}
}

func TestLoadsQueueApartFromFills(t *testing.T) {
	b := newBench(t)
	entered, release := make(chan struct{}), make(chan struct{})
	load := b.Load(k, func(*Flight[string, int]) Reply[int] {
		close(entered)
		<-release
		return Reply[int]{Value: 1}
	})
	<-entered
	f := b.open() // does not wait for the loader
	b.End(f, Reply[int]{Missing: true, Keep: true, Deadline: clock.Never})
	if again := b.Load(k, nil); again != load {
		t.Error("a second load was opened: neither an open load nor a missing key may let it")
	}
	// The write-back leaves its own load attached, and takes all else.
	w := b.BeginWrite(k, 1, load)
	if again := b.Load(k, nil); again != load {
		t.Error("the write-back detached its own load")
	}
	b.EndWrite(w, true, value(1))
	b.wantLocal(1)
	close(release)
	if r := load.Wait(background); r.Value != 1 {
		t.Errorf("the load answered %+v", r)
	}
}

func TestH12_ReaderDoesNotJoinALoadOfBeforeAWrite(t *testing.T) {
	b := newBench(t)
	entered, release := make(chan struct{}), make(chan struct{})
	load := b.Load(k, func(*Flight[string, int]) Reply[int] {
		close(entered)
		<-release
		return Reply[int]{Value: 1}
	})
	<-entered
	b.EndWrite(b.BeginWrite(k, 1, nil), true, Reply[int]{}) // a Delete
	next := b.Load(k, func(*Flight[string, int]) Reply[int] { return Reply[int]{Value: 2} })
	if next == load {
		t.Error("a reader joined a load that began before its own process' write")
	}
	close(release)
	if r := next.Wait(background); r.Value != 2 {
		t.Errorf("the reader behind the write got %+v", r)
	}
}

func TestOvertakenLoadEntersNoTier(t *testing.T) {
	b := newBench(t)
	entered, release := make(chan struct{}), make(chan struct{})
	load := b.Load(k, func(*Flight[string, int]) Reply[int] {
		close(entered)
		<-release
		return Reply[int]{Value: 1}
	})
	<-entered
	b.Message(k, 9, false)
	w := b.BeginWrite(k, 1, load)
	b.EndWrite(w, true, value(1))
	b.wantLocal(0)
	close(release)
	load.Wait(background)
}

// A load that could not ask Redis is shared, with those that came before that
// was known, too; not with those behind a write of this process.
func TestSharedLoadAnswersAllBehindIt(t *testing.T) {
	for _, overtaken := range []bool{false, true} {
		b := newBench(t)
		b.Cut() // loads are born detached
		entered, release, loads := make(chan struct{}), make(chan struct{}), make(chan int, 2)
		first := b.Load(k, func(*Flight[string, int]) Reply[int] {
			loads <- 1
			close(entered)
			<-release
			return Reply[int]{Value: 1}
		})
		<-entered
		second := b.Load(k, func(*Flight[string, int]) Reply[int] { loads <- 2; return Reply[int]{Value: 2} })
		want := 1
		if overtaken {
			want = 2
			b.EndWrite(b.BeginWrite(k, 0, nil), true, Reply[int]{})
		}
		b.Share(first)
		if third := b.Load(k, nil); overtaken == (third == first) {
			t.Errorf("overtaken %v: a third caller got the first load: %v", overtaken, third == first)
		}
		close(release)
		if r := second.Wait(background); r.Value != want {
			t.Errorf("overtaken %v: the second caller got %+v, want %d", overtaken, r, want)
		}
		if n := len(loads); n != want {
			t.Errorf("overtaken %v: %d loads, want %d", overtaken, n, want)
		}
	}
}

func TestPanicAndGoexitAnswerAllWhoWait(t *testing.T) {
	b := newBench(t)
	var p *PanicError
	if r := b.Load(k, func(*Flight[string, int]) Reply[int] { panic("boom") }).Wait(background); !errors.As(r.Err, &p) || len(p.Stack) == 0 {
		t.Errorf("panic: got %+v", r)
	}
	if r := b.Load(k, func(*Flight[string, int]) Reply[int] { runtime.Goexit(); return value(1) }).Wait(background); r.Err == nil {
		t.Error("Goexit: no error")
	}
	if r := b.Load(k, func(*Flight[string, int]) Reply[int] { return Reply[int]{Value: 3} }).Wait(background); r.Value != 3 {
		t.Errorf("afterwards: %+v", r)
	}
	b.wantIdle()
}

func TestCloseWaitsForNoLoaderAndAnswersItsWaiters(t *testing.T) {
	b := newBench(t)
	release, ended := make(chan struct{}), make(chan struct{})
	load := b.Load(k, func(*Flight[string, int]) Reply[int] {
		defer close(ended)
		<-release
		return Reply[int]{Value: 1}
	})
	b.Close()
	if r := load.Wait(background); !errors.Is(r.Err, ErrClosed) {
		t.Errorf("a waiter got %+v, want ErrClosed", r)
	}
	if r := b.Fill(k, false, true, nil).Wait(background); !errors.Is(r.Err, ErrClosed) {
		t.Errorf("a fill of a closed table: %+v", r)
	}
	close(release)
	<-ended
}

func TestDeadlineEndsAHit(t *testing.T) {
	b := newBench(t)
	r := value(1)
	r.Deadline = 100
	b.End(b.open(), r)
	for now, want := range map[int64]int{99: 1, 100: 0, 101: 0} {
		b.now = now
		b.wantLocal(want)
	}
}

func TestH33_WriteThatFailedEntersNoTier(t *testing.T) {
	b := newBench(t)
	b.EndWrite(b.BeginWrite(k, 1, nil), false, value(1))
	b.wantLocal(0)
}

func TestNoncesAreBounded(t *testing.T) {
	b := newBench(t)
	for n := range uint64(10 * maxNonces) {
		w := b.BeginWrite(k, n+1, nil)
		b.EndWrite(w, true, value(1)) // its echo never comes
	}
	for i := range b.shards {
		if n := len(b.shards[i].nonces); n > maxNonces {
			t.Errorf("a shard remembers %d nonces", n)
		}
	}
}

func TestTableWithoutATierKeepsNothing(t *testing.T) {
	c := clock.NewManual(func() int64 { return 0 })
	tb := New[string, int](nil, c, nil)
	defer tb.Close()
	tb.Resume()
	if r := tb.Fill(k, false, true, func(*Flight[string, int]) Reply[int] { return Reply[int]{Value: 1} }).Wait(background); r.Value != 1 {
		t.Errorf("got %+v", r)
	}
	if tb.Hit(k) != nil {
		t.Error("something was kept")
	}
}

func TestWriteTellsWhetherTheTierHadAnEntry(t *testing.T) {
	b := newBench(t)
	w := b.BeginWrite(k, 0, nil)
	if w.Held() {
		t.Error("an empty tier had an entry")
	}
	b.EndWrite(w, true, value(1))
	first, second := b.BeginWrite(k, 0, nil), b.BeginWrite(k, 0, nil)
	if !first.Held() || second.Held() {
		t.Errorf("the first of two writes took the entry out: got %t, %t", first.Held(), second.Held())
	}
	b.EndWrite(first, true, value(2))
	b.EndWrite(second, true, value(3))
	b.Push(k)
	w = b.BeginWrite(k, 0, nil)
	if w.Held() {
		t.Error("a push left the entry")
	}
	b.EndWrite(w, false, Reply[int]{})
}

// A write that was under way when a fresh read began may be older than what
// Redis held by then: it is no answer to that read, wherever it ends.
func TestFreshReadGetsNoWriteOfBeforeIt(t *testing.T) {
	for _, name := range []string{"the write ends first", "the read ends first"} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			w := b.BeginWrite(k, 1, nil)
			f, _ := b.BeginFill(k, true, nil) // Redis holds a foreign value, 2, by now, whose message is late
			if name == "the write ends first" {
				b.EndWrite(w, true, value(1))
			}
			b.End(f, value(2))
			if name == "the read ends first" {
				b.EndWrite(w, true, value(1))
			}
			if r := f.Wait(background); r.Value != 2 {
				t.Errorf("got %d, which was replaced before the read began", r.Value)
			}
			if v := b.local(); v == 1 {
				t.Errorf("the next read gets %d, behind 2", v)
			}
		})
	}
}
