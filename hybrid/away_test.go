package hybrid

import (
	"context"
	"errors"
	"math"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flipcache/flipcache/internal/redistest"
	"github.com/flipcache/flipcache/invalidate"
)

// R52: a server that does not answer is asked by few: the others have their
// error at once, and no goroutines pile up.
func TestServerThatIsAwayIsAnErrorAtOnce(t *testing.T) {
	for _, mode := range []invalidate.Mode{invalidate.Off, invalidate.PubSub, invalidate.Tracking} {
		t.Run(mode.String(), func(t *testing.T) {
			s := redistest.Real(t)
			p := join(t, s, mode, func(o *StoreOptions, c *Options[string, string]) {
				o.Timeout, c.NoLocal = 200*time.Millisecond, mode == invalidate.Off
			})
			p.set(t, "k", "v")
			s.Signal(syscall.SIGSTOP)
			defer s.Signal(syscall.SIGCONT)
			for range breakAfter {
				if _, err := p.Get(ctx, "other"); err == nil {
					t.Fatal("a stopped server has answered")
				}
			}
			before := runtime.NumGoroutine()
			var fast, slow atomic.Int64
			began := time.Now()
			repeat(100, func(i int) {
				for range 20 {
					began := time.Now()
					var err error
					if i%2 == 0 {
						_, err = p.Get(ctx, key(i))
					} else {
						err = p.Set(ctx, key(i), "v")
					}
					switch took := time.Since(began); {
					case err == nil:
						t.Error("a stopped server has answered")
					case took < 50*time.Millisecond && errors.Is(err, ErrCut):
						fast.Add(1)
					default:
						slow.Add(1)
					}
				}
			})
			if f, sl := fast.Load(), slow.Load(); sl > 200 || f < 1800 {
				t.Errorf("%d of 2000 failed at once, %d waited", f, sl)
			}
			t.Logf("2,000 operations took %v, %d of them waited", time.Since(began), slow.Load())
			if n := runtime.NumGoroutine(); n > before+50 {
				t.Errorf("%d goroutines, before %d", n, before)
			}
			s.Signal(syscall.SIGCONT)
			eventually(t, "it works again", func() bool { return p.Set(ctx, "k", "again") == nil })
			p.want(t, "k", "again")
		})
	}
}

func TestBreakerLetsOneTryAndCountsNoCallersOwnEnd(t *testing.T) {
	synctest.Test(t, breakerLetsOneTry)
}

func breakerLetsOneTry(t *testing.T) {
	var b breaker
	lost := errors.New("lost")
	ended, cancel := context.WithCancel(ctx)
	cancel()
	enter := func() (pass, bool) {
		p, err := b.enter()
		if err != nil && (!errors.Is(err, ErrCut) || !errors.Is(err, lost)) {
			t.Fatalf("open, and got %v", err)
		}
		return p, err == nil
	}
	try := func(ctx context.Context, err error) {
		t.Helper()
		p, ok := enter()
		if !ok {
			t.Fatal("it is open")
		}
		b.leave(ctx, p, err)
	}
	for range 10 * breakAfter {
		try(ended, context.Canceled) // the caller left
	}
	at, _ := enter()
	for range 10 * breakAfter {
		b.leave(ctx, at, lost) // all hung on one connection
	}
	for range breakAfter - 1 {
		try(ctx, lost)
	}
	if _, ok := enter(); ok {
		t.Fatal("so many have failed, and another may go")
	}
	var trial pass
	free := func() (ok bool) { trial, ok = enter(); return ok }
	eventually(t, "one may try", free)
	second := func() bool { _, ok := enter(); return ok }
	time.Sleep(2 * minBreakPause)
	if second() {
		t.Error("a second one may try beside it")
	}
	b.leave(ended, at, context.Canceled) // one that began before the breaker opened
	if second() {
		t.Error("a second one may try, since another has ended")
	}
	b.leave(ctx, trial, lost)
	if second() {
		t.Error("one has failed again, and another may go at once")
	}
	eventually(t, "one may try", free)
	b.leave(ended, trial, context.Canceled) // says nothing
	eventually(t, "another may try", free)
	b.leave(ctx, trial, nil)
	for range 3 {
		try(ctx, nil)
	}
}

// What was under way when the breaker opened, and fails like all before it, says
// nothing new: it does not draw out the time until the first trial.
func TestBreakerIsTriedSoonHoweverManyWereUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b breaker
		passes := make([]pass, 100)
		for i := range passes {
			passes[i], _ = b.enter()
		}
		for _, p := range passes {
			b.leave(ctx, p, context.DeadlineExceeded)
		}
		if _, err := b.enter(); err == nil {
			t.Fatal("100 have failed, and it is not open")
		}
		time.Sleep(minBreakPause)
		p, err := b.enter()
		if err != nil {
			t.Fatal("no trial after the first pause")
		}
		b.leave(ctx, p, context.DeadlineExceeded)
		time.Sleep(minBreakPause)
		if _, err := b.enter(); err == nil {
			t.Error("a trial has failed, and the next may go as soon as the first")
		}
		time.Sleep(minBreakPause)
		if _, err := b.enter(); err != nil {
			t.Error("no trial after the second pause")
		}
	})
}

// R12: entries are served for a while when Redis is away, and told apart.
func TestServeStaleFor(t *testing.T) {
	for _, mode := range invalidating {
		for _, lease := range []time.Duration{0, testLease} {
			t.Run(mode.String()+", lease "+lease.String(), func(t *testing.T) {
				t.Parallel()
				const serve = time.Second
				s := redistest.Real(t)
				admin := redistest.Client(t, s)
				p := join(t, s, mode, func(o *StoreOptions, c *Options[string, string]) {
					o.MaxStaleness, o.ServeStaleFor, o.Timeout = lease, serve, 300*time.Millisecond
				})
				for _, k := range []string{"k", "deleted", "written", "short"} {
					p.set(t, k, "old")
				}
				if err := p.SetTTL(ctx, "short", "old", 600*time.Millisecond); err != nil {
					t.Fatal(err)
				}
				for _, k := range []string{"k", "deleted", "written", "short"} {
					p.want(t, k, "old")
				}
				if _, m, err := p.GetMeta(ctx, "k"); err != nil || m.Origin != Local || m.Stale || m.Age <= 0 {
					t.Errorf("a local hit: %+v, %v", m, err)
				}
				if _, m, err := p.Fresh().GetMeta(ctx, "k"); err != nil || m.Origin != Redis || m.Stale {
					t.Errorf("a fresh read: %+v, %v", m, err)
				}
				p.want(t, "k", "old")

				// While Redis answers, what was set aside is not read.
				s.Signal(syscall.SIGSTOP)
				defer s.Signal(syscall.SIGCONT)
				eventually(t, "a cut", func() bool { return p.store.State().Status == invalidate.Cut })
				cutAt := p.store.State().Since
				served := false
				for time.Since(cutAt) < serve-300*time.Millisecond {
					v, m, err := p.GetMeta(ctx, "k")
					if err == nil && (v != "old" || m.Origin != Aside || !m.Stale || m.Age <= 0) {
						t.Fatalf("%q, %+v", v, m)
					}
					served = served || err == nil
				}
				if !served || p.Stats().StaleHits == 0 {
					t.Errorf("nothing was served: %+v", p.Stats())
				}
				p.Delete(ctx, "deleted")
				p.Set(ctx, "written", "new")
				for _, k := range []string{"deleted", "written"} {
					if v, err := p.Get(ctx, k); err == nil {
						t.Errorf("%s: got %q, which this process has replaced", k, v)
					}
				}
				time.Sleep(time.Until(cutAt.Add(serve)))
				if v, err := p.Get(ctx, "k"); err == nil {
					t.Errorf("after ServeStaleFor: %q", v)
				}
				s.Signal(syscall.SIGCONT)
				redistest.Do(t, admin, "SET", "n:k", "new")
				p.awaitStatus(t, invalidate.Live)
				eventually(t, "it works again", func() bool { v, err := p.Get(ctx, "k"); return err == nil && v == "new" })
				if p.flights.Aside("k") != nil {
					t.Error("live, and something is set aside")
				}
			})
		}
	}
}

// A link that flaps does not draw it out, and without the option nothing is set
// aside.
func TestNothingIsSetAsideForLongerThanOneCut(t *testing.T) {
	for _, serve := range []time.Duration{0, time.Minute} {
		s := redistest.Real(t)
		admin := redistest.Client(t, s)
		p := join(t, s, invalidate.PubSub, func(o *StoreOptions, _ *Options[string, string]) { o.ServeStaleFor = serve })
		p.set(t, "k", "old")
		for cut := range uint64(5) {
			redistest.Do(t, admin, "CLIENT", "KILL", "TYPE", "pubsub")
			eventually(t, "cut and live", func() bool {
				st := p.store.State()
				return st.Cuts == cut+1 && st.Status == invalidate.Live
			})
			if e := p.flights.Aside("k"); e != nil {
				t.Errorf("live, and %v is set aside", e.Value)
			}
		}
	}
}

// What is set aside answers for a Redis that does not, and for nothing else: not
// after Close, not where Redis answered what cannot be used, not where nobody was
// asked.
func TestWhatIsSetAsideStandsForASilentRedisOnly(t *testing.T) {
	for _, mode := range invalidating {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			s := redistest.Real(t)
			st := openStore(t, s, mode, func(o *StoreOptions) { o.ServeStaleFor, o.Timeout = math.MaxInt64, 200*time.Millisecond })
			c := newOn(t, st, "n", Options[string, int]{})
			if err := errors.Join(c.Set(ctx, "k", 1), c.Set(ctx, "other", 1)); err != nil {
				t.Fatal(err)
			}
			s.Signal(syscall.SIGSTOP)
			defer s.Signal(syscall.SIGCONT)
			eventually(t, "it is served", func() bool { _, m, err := c.GetMeta(ctx, "k"); return err == nil && m.Origin == Aside })
			over, cancel := context.WithCancel(ctx)
			cancel()
			if v, err := c.Get(over, "k"); !errors.Is(err, context.Canceled) {
				t.Errorf("under a context that has ended: got %d, %v", v, err)
			}
			if v, err := c.GetMany(over, []string{"k"}); !errors.Is(err, context.Canceled) {
				t.Errorf("under a context that has ended: got %v, %v", v, err)
			}
			st.Close()
			for _, k := range []string{"k", "other"} {
				if v, err := c.Get(ctx, k); !errors.Is(err, ErrClosed) {
					t.Errorf("after Close: got %d, %v", v, err)
				}
			}
		})
	}
}

// Redis answers, while the stream is cut, and the answer cannot be used.
func TestWhatIsSetAsideHidesNoAnswerOfRedis(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	st := openStore(t, s, invalidate.PubSub, func(o *StoreOptions) { o.ServeStaleFor = time.Minute })
	c := newOn(t, st, "n", Options[string, int]{})
	if err := c.Set(ctx, "k", 1); err != nil {
		t.Fatal(err)
	}
	c.flights.Cut() // as the stream does it
	redistest.Do(t, admin, "SET", "n:k", "no number")
	if c.flights.Aside("k") == nil {
		t.Fatal("nothing was set aside")
	}
	if v, m, err := c.GetMeta(ctx, "k"); !errors.Is(err, ErrDecode) {
		t.Errorf("got %d, %+v, %v", v, m, err)
	}
}
