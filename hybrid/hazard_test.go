package hybrid

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/flipcache/flipcache/internal/clock"
	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/internal/redistest"
	"github.com/flipcache/flipcache/invalidate"
)

// H1: a reader fetches v1, v2 is written and its invalidation arrives, the
// reader then stores v1.
func TestH1_ReadFillRace(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		a, b := join(t, s, invalidate.PubSub), join(t, s, invalidate.PubSub)
		a.set(t, "k", "v1")
		b.settle(t, admin)
		g := newGate(b, afterReadReply, "k")
		var got string
		wait := async(func() { got, _ = b.Get(ctx, "k") })
		<-g.reached
		a.set(t, "k", "v2")
		b.settle(t, admin)
		close(g.open)
		wait()
		if got != "v1" {
			t.Fatalf("the overtaken read: got %q, want what it fetched", got)
		}
		if v := b.local("k"); v == "v1" {
			t.Error("the overtaken read left its value in the local tier")
		}
		b.want(t, "k", "v2")
	})
}

// H2: two writes of one process overlap; Redis orders them one way, the local
// tier the other.
func TestH2_OverlappingWrites(t *testing.T) {
	for _, mode := range []invalidate.Mode{invalidate.Off, invalidate.PubSub} {
		t.Run(mode.String(), func(t *testing.T) {
			redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
				a := join(t, s, mode)
				g := newGate(a, afterWriteReply, "k")
				wait := async(func() { a.set(t, "k", "first at Redis") })
				<-g.reached
				a.set(t, "k", "last at Redis")
				close(g.open)
				wait()
				if v := a.local("k"); v != "" && v != "last at Redis" {
					t.Errorf("local tier holds %q", v)
				}
				a.want(t, "k", "last at Redis")
			})
		})
	}
}

// H3: a process drops what it just wrote, or ignores an echo that it needed.
func TestH3_OwnEcho(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		a, b := join(t, s, invalidate.PubSub), join(t, s, invalidate.PubSub)
		a.set(t, "k", "a1")
		a.settle(t, admin)
		if v := a.local("k"); v != "a1" {
			t.Errorf("after its own echo the writer holds %q, want the value that it wrote", v)
		}
		b.set(t, "k", "b1")
		a.settle(t, admin)
		if v := a.local("k"); v != "" {
			t.Errorf("after a foreign write the local tier holds %q", v)
		}
		// The echo of an open write whose successor is another process's.
		g := newGate(a, afterWriteReply, "k")
		wait := async(func() { a.set(t, "k", "a2") })
		<-g.reached
		b.set(t, "k", "b2")
		a.settle(t, admin)
		close(g.open)
		wait()
		if v := a.local("k"); v != "" {
			t.Errorf("a write overtaken by a foreign one left %q in the local tier", v)
		}
		a.want(t, "k", "b2")
	})
}

// H6: the connection is lost, killed or refused.
func TestH6_LostConnection(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	a, b := join(t, s, invalidate.PubSub), newGatedDialer(t, s, invalidate.PubSub)
	a.set(t, "k", "v1")
	b.want(t, "k", "v1")
	b.settle(t, admin)
	b.want(t, "k", "v1")
	if b.local("k") != "v1" {
		t.Fatal("the tier does not serve")
	}
	states := make(chan invalidate.State, 10)
	defer b.store.OnState(func(s invalidate.State) { states <- s })()

	b.refuse() // new connections of the stream
	redistest.Do(t, admin, "CLIENT", "KILL", "TYPE", "pubsub")
	b.awaitStatus(t, invalidate.Cut)
	if st := b.store.State(); st.Cause == nil || st.Cuts != 1 {
		t.Errorf("state: %+v, want a cause and one cut", st)
	}
	if n := b.Stats().Entries; n != 0 {
		t.Errorf("cut, and %d entries are there", n)
	}
	a.awaitStatus(t, invalidate.Live) // it was killed, too
	a.set(t, "k", "v2")               // b does not hear it
	b.want(t, "k", "v2")
	a.set(t, "k", "v3")
	b.want(t, "k", "v3")
	if v := b.local("k"); v != "" {
		t.Errorf("cut, and the local tier holds %q", v)
	}

	b.admit()
	b.awaitStatus(t, invalidate.Live)
	b.want(t, "k", "v3")
	a.set(t, "k", "v4")
	b.settle(t, admin)
	b.want(t, "k", "v4")
	if s := <-states; s.Status != invalidate.Cut {
		t.Errorf("OnState told %v first, want cut", s)
	}
	eventually(t, "OnState tells that it is live", func() bool { return (<-states).Status == invalidate.Live })
}

// H7: a flight that began before a cut ends after the resume.
func TestH7_FlightAcrossACut(t *testing.T) {
	for _, what := range []string{"fill", "write"} {
		t.Run(what, func(t *testing.T) {
			s := redistest.Real(t)
			admin := redistest.Client(t, s)
			a, b := join(t, s, invalidate.PubSub), newGatedDialer(t, s, invalidate.PubSub)
			a.set(t, "k", "v1")
			b.settle(t, admin)
			var g *gate
			var wait func()
			if what == "fill" {
				g = newGate(b.process, afterReadReply, "k")
				wait = async(func() { b.Get(ctx, "k") })
			} else {
				g = newGate(b.process, afterWriteReply, "k")
				wait = async(func() { b.set(t, "k", "own") })
			}
			<-g.reached
			b.refuse()
			redistest.Do(t, admin, "CLIENT", "KILL", "TYPE", "pubsub")
			b.awaitStatus(t, invalidate.Cut)
			a.set(t, "k", "v2") // b never hears it
			b.admit()
			b.awaitStatus(t, invalidate.Live)
			close(g.open)
			wait()
			if v := b.local("k"); v != "" && v != "v2" {
				t.Errorf("the flight of before the cut left %q in the local tier", v)
			}
			b.want(t, "k", "v2")
		})
	}
}

// H8: a fill between the new connection and the confirmed subscription.
func TestH8_FillBeforeTheSubscriptionIsConfirmed(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	a, b := join(t, s, invalidate.PubSub), newGatedDialer(t, s, invalidate.PubSub)
	a.set(t, "k", "v1")
	b.settle(t, admin)
	b.holdSubscribe()
	redistest.Do(t, admin, "CLIENT", "KILL", "TYPE", "pubsub")
	b.awaitStatus(t, invalidate.Cut)
	b.awaitHeldSubscribe(t) // connected, not subscribed
	b.want(t, "k", "v1")
	if v := b.local("k"); v != "" {
		t.Errorf("filled before the subscription: the local tier holds %q", v)
	}
	a.awaitStatus(t, invalidate.Live)
	a.set(t, "k", "v2")
	b.releaseSubscribe()
	b.awaitStatus(t, invalidate.Live)
	b.want(t, "k", "v2")
}

// H12: a reader joins a fill that was sent before a write of its own process
// which it must see.
func TestH12_ReadBehindOwnWriteDoesNotJoinAnOlderFill(t *testing.T) {
	for _, mode := range []invalidate.Mode{invalidate.Off, invalidate.PubSub} {
		t.Run(mode.String(), func(t *testing.T) {
			redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
				a := join(t, s, mode)
				redistest.Do(t, redistest.Client(t, s), "SET", "n:k", "v1")
				g := newGate(a, afterReadReply, "k")
				waitOld := async(func() { a.Get(ctx, "k") })
				<-g.reached
				// Doomed by its overlap with another, so that it leaves no entry
				// to be read instead of joining.
				if err := a.Delete(ctx, "k"); err != nil {
					t.Fatal(err)
				}
				var err error
				waitNew := async(func() { _, err = a.Get(ctx, "k") })
				close(g.open)
				waitOld()
				waitNew()
				if !errors.Is(err, ErrNotFound) {
					t.Errorf("a read that began after Delete returned %v, want ErrNotFound", err)
				}
			})
		})
	}
}

// H12: reads of one process never step back, although an older flight ends
// after a newer one.
func TestH12_DetachedFillLooksAgain(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	a, b := join(t, s, invalidate.PubSub), join(t, s, invalidate.PubSub)
	a.set(t, "k", "v1")
	b.settle(t, admin)
	g := newGate(b, afterReadReply, "k")
	var old string
	wait := async(func() { old, _ = b.Get(ctx, "k") })
	<-g.reached
	b.set(t, "k", "v2")
	b.want(t, "k", "v2")
	close(g.open)
	wait()
	if old != "v2" {
		t.Errorf("a read that ended after v2 was shown returned %q", old)
	}
}

// H23: a local entry outlives its key in Redis.
func TestH23_LocalEntryEndsWithItsKey(t *testing.T) {
	for _, mode := range []invalidate.Mode{invalidate.Off, invalidate.PubSub} {
		t.Run(mode.String(), func(t *testing.T) {
			s := redistest.Real(t)
			admin := redistest.Client(t, s)
			a := join(t, s, mode, func(_ *StoreOptions, o *Options[string, string]) { o.LocalTTL = time.Hour })
			set := func(key string) { redistest.Do(t, admin, "SET", "n:"+key, "v", "PX", "300") }
			own := func(key string) {
				if err := a.SetTTL(ctx, key, "v", 300*time.Millisecond); err != nil {
					t.Fatal(err)
				}
			}
			for key, write := range map[string]func(string){"foreign": set, "own": own} {
				write(key)
				gone := time.Now().Add(301 * time.Millisecond) // at the latest: Redis counts in whole milliseconds
				hits := a.Stats().Hits
				for {
					began, before := time.Now(), a.Stats().Hits
					_, err := a.Get(ctx, key)
					if errors.Is(err, ErrNotFound) {
						break
					}
					if err != nil {
						t.Fatal(err)
					}
					if began.After(gone) && a.Stats().Hits > before {
						t.Fatalf("%s: a local read %v after the key was gone", key, began.Sub(gone))
					}
				}
				if a.Stats().Hits == hits {
					t.Errorf("%s: the local tier served no read at all", key)
				}
			}
		})
	}
}

// H33: the local tier is changed first and Redis fails, refuses or is slow.
func TestH33_RefusedWriteLeavesNothingLocal(t *testing.T) {
	for _, mode := range []invalidate.Mode{invalidate.Off, invalidate.PubSub, invalidate.Tracking} {
		t.Run(mode.String(), func(t *testing.T) {
			s := redistest.Real(t)
			admin := redistest.Client(t, s)
			a := join(t, s, mode)
			a.set(t, "k", "v1")
			redistest.Do(t, admin, "CONFIG", "SET", "maxmemory", "1", "maxmemory-policy", "noeviction")
			err := a.Set(ctx, "k", "v2")
			if err == nil || errors.Is(err, ErrOutcomeUnknown) {
				t.Fatalf("Set on a full server: got %v, want its refusal", err)
			}
			if v := a.local("k"); v == "v2" {
				t.Error("the refused value is in the local tier")
			}
			a.want(t, "k", "v1")
		})
	}
}

// H33: a write whose answer is lost is told as such, and leaves nothing local,
// whether or not it happened.
func TestH33_UnknownOutcomeLeavesNothingLocal(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	a := join(t, s, invalidate.PubSub, func(so *StoreOptions, _ *Options[string, string]) { so.Timeout = 100 * time.Millisecond })
	a.set(t, "k", "v1")
	redistest.Do(t, admin, "CLIENT", "PAUSE", "400", "WRITE")
	if err := a.Set(ctx, "k", "v2"); !errors.Is(err, ErrOutcomeUnknown) {
		t.Fatalf("Set without an answer: got %v, want ErrOutcomeUnknown", err)
	}
	if v := a.local("k"); v != "" {
		t.Errorf("the local tier holds %q", v)
	}
	redistest.Do(t, admin, "CLIENT", "UNPAUSE")
	eventually(t, "local tier and Redis agree", func() bool {
		v, err := a.Get(ctx, "k")
		m := redistest.Do(t, admin, "GET", "n:k")
		now, _ := m.ToString()
		return err == nil && v == now
	})
}

// H4: a write times out and lands later.
func TestH4_WriteThatLandsLaterIsHeardByItsWriter(t *testing.T) {
	for _, test := range []struct {
		name string
		op   func(p peer[string, string]) error
	}{
		{"Set", func(p peer[string, string]) error { return p.Set(ctx, "k", "late") }},
		{"SetMany", func(p peer[string, string]) error {
			return p.SetMany(ctx, map[string]string{"k": "late", "l": "late"})
		}},
		{"Update", func(p peer[string, string]) error {
			_, err := p.Update(ctx, "k", func(string, bool) (string, error) { return "late", nil })
			return err
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
				admin := redistest.Client(t, s)
				d := new(delayer)
				a := joinAs(t, s, invalidate.PubSub, Options[string, string]{}, func(o *StoreOptions) { o.Client.DialCtxFn = d.dial })
				heard := newEar(t, a.store, admin)
				a.must(t, test.op(a)) // a script is known to Redis now
				a.must(t, a.Set(ctx, "k", "early"))

				d.mu.Lock()
				d.fits = func(b []byte) bool { return bytes.Contains(b, []byte("PUBLISH")) || bytes.Contains(b, []byte("EVAL")) }
				d.mu.Unlock()
				if err := test.op(a); !errors.Is(err, ErrOutcomeUnknown) {
					t.Fatalf("the write that nobody answered: %v", err)
				}
				wantValue(t, a, "k", "early") // on a new connection
				if !a.held("k") {
					t.Fatal("the value is not in the local tier: nothing is tested")
				}
				if err := d.later(); err != nil {
					t.Fatal(err)
				}
				heard.drain(t)
				wantValue(t, a, "k", "late")
			})
		})
	}
}

// H26: the wall clock jumps. Nothing local is measured by it: with a clock that
// stands still nothing ends, however much time passes at Redis, and all ends to
// the nanosecond when the clock says so.
func TestH26_LocalLivesAreMeasuredByTheStoresClockAlone(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	for _, test := range []struct {
		name  string
		o     Options[string, string]
		enter func(p peer[string, string])
		life  time.Duration
	}{
		{"TTL", Options[string, string]{TTL: time.Minute}, func(p peer[string, string]) { p.Set(ctx, "k", "v") }, time.Minute},
		{"SetTTL", Options[string, string]{}, func(p peer[string, string]) { p.SetTTL(ctx, "k", "v", time.Minute) }, time.Minute},
		{"LocalTTL", Options[string, string]{LocalTTL: time.Minute}, func(p peer[string, string]) { p.Set(ctx, "k", "v") }, time.Minute},
		{"a fill", Options[string, string]{LocalTTL: time.Minute}, func(p peer[string, string]) { p.Get(ctx, "k") }, time.Minute},
		{"a load", Options[string, string]{TTL: time.Minute}, func(p peer[string, string]) {
			redistest.Do(t, admin, "DEL", "n:k")
			p.GetOrLoad(ctx, "k", value("v"))
		}, time.Minute},
		{"half a life, with RefreshTTLOnGet", Options[string, string]{TTL: time.Minute, RefreshTTLOnGet: true},
			func(p peer[string, string]) { p.Set(ctx, "k", "v") }, 30*time.Second + clock.Tick},
		{"the default cap", Options[string, string]{}, func(p peer[string, string]) { p.Set(ctx, "k", "v") }, defaultLocalTTL},
	} {
		t.Run(test.name, func(t *testing.T) {
			redistest.Do(t, admin, "SET", "n:k", "v")
			st := openStore(t, s, invalidate.PubSub)
			advance := manualClock(st)
			p := peer[string, string]{newOn(t, st, "n", test.o), st}
			test.enter(p)
			advance(test.life - 1)
			if !p.held("k") {
				t.Error("gone a nanosecond before its time")
			}
			advance(1)
			if p.held("k") {
				t.Error("there when its time is over")
			}
		})
	}
	const begin = 100 * 365 * 24 * time.Hour // what the clock shows when the process starts
	if now := time.Duration(clock.Now()) - begin; now < 0 || now > 24*time.Hour {
		t.Errorf("the clock shows %v: it does not count from the process' start", now)
	}
}
