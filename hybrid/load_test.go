package hybrid

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/internal/redistest"
	"github.com/flipcache/flipcache/invalidate"
)

// A heldLoader returns value once it is let go, and not before.
type heldLoader struct {
	value  string
	calls  atomic.Int32
	inside chan struct{} // one for each call
	open   chan struct{}
}

func newHeldLoader(value string) *heldLoader {
	return &heldLoader{value: value, inside: make(chan struct{}, 100), open: make(chan struct{})}
}

func (l *heldLoader) load(context.Context, string) (string, error) {
	l.calls.Add(1)
	l.inside <- struct{}{}
	<-l.open
	return l.value, nil
}

func value(v string) func(context.Context, string) (string, error) {
	return func(context.Context, string) (string, error) { return v, nil }
}

// eachMode runs test in each mode on a redis-server of its own.
func eachMode(t *testing.T, test func(t *testing.T, mode invalidate.Mode, s *redisserver.Server)) {
	for _, mode := range []invalidate.Mode{invalidate.Off, invalidate.PubSub, invalidate.Tracking} {
		t.Run(mode.String(), func(t *testing.T) { test(t, mode, redistest.Real(t)) })
	}
}

// H37: a load that began before another's change stores its old value after it.
func TestH37_LoadOfBeforeAChangeIsNotStored(t *testing.T) {
	for _, test := range []struct {
		name  string
		want  string // in Redis afterwards
		write func(t *testing.T, p process, gone func())
	}{
		{"Delete", "", func(t *testing.T, p process, _ func()) { p.Delete(ctx, "k") }},
		{"Delete with others", "", func(t *testing.T, p process, _ func()) { p.Delete(ctx, "j", "k", "l") }},
		{"Set", "v2", func(t *testing.T, p process, _ func()) { p.set(t, "k", "v2") }},
		{"SetMany", "v2", func(t *testing.T, p process, _ func()) { p.SetMany(ctx, map[string]string{"k": "v2", "l": "v2"}) }},
		{"Set and Delete", "", func(t *testing.T, p process, _ func()) { p.set(t, "k", "v2"); p.Delete(ctx, "k") }},
		{"SetTTL that ends meanwhile", "", func(t *testing.T, p process, gone func()) { p.SetTTL(ctx, "k", "v2", 20*time.Millisecond); gone() }},
		{"Set and a Touch that ends it", "", func(t *testing.T, p process, gone func()) {
			p.set(t, "k", "v2")
			p.Touch(ctx, "k", 20*time.Millisecond)
			gone()
		}},
		{"Set and Touches up and down", "", func(t *testing.T, p process, gone func()) {
			p.SetTTL(ctx, "k", "v2", time.Hour)
			p.Touch(ctx, "k", 2*time.Hour)
			p.Touch(ctx, "k", 20*time.Millisecond)
			gone()
		}},
		{"SetIfAbsent", "v2", func(t *testing.T, p process, _ func()) { p.SetIfAbsent(ctx, "k", "v2") }},
		{"GetAndDelete of nothing", "", func(t *testing.T, p process, _ func()) { p.GetAndDelete(ctx, "k") }},
		{"Set and GetAndDelete", "", func(t *testing.T, p process, _ func()) { p.set(t, "k", "v2"); p.GetAndDelete(ctx, "k") }},
		{"Update", "v2", func(t *testing.T, p process, _ func()) {
			p.Update(ctx, "k", func(string, bool) (string, error) { return "v2", nil })
		}},
		{"Clear", "", func(t *testing.T, p process, _ func()) { p.Clear(ctx) }},
		{"Set and Clear", "", func(t *testing.T, p process, _ func()) { p.set(t, "k", "v2"); p.Clear(ctx) }},
	} {
		for _, who := range []string{"another process", "the same process"} {
			t.Run(test.name+" by "+who, func(t *testing.T) {
				t.Parallel()
				eachMode(t, func(t *testing.T, mode invalidate.Mode, s *redisserver.Server) {
					admin := redistest.Client(t, s)
					a, b := join(t, s, mode), join(t, s, mode)
					marks := []*mark{newMark(t, a), newMark(t, b)}
					writer := a
					if who == "another process" {
						writer = b
					}
					l := newHeldLoader("v1")
					var got string
					var err error
					wait := async(func() { got, err = a.GetOrLoad(ctx, "k", l.load) })
					within(t, 10*time.Second, "the loader is called", func() { <-l.inside })
					test.write(t, writer, func() {
						eventually(t, "the key ends", func() bool { return stored(t, admin, "k") == "" })
					})
					close(l.open)
					wait()
					if err != nil || got != "v1" && got != test.want {
						t.Errorf("the loader's caller got %q, %v", got, err)
					}
					if mode == invalidate.PubSub {
						for _, m := range marks {
							m.await(t, admin)
						}
					}
					if v := stored(t, admin, "k"); v != test.want {
						t.Errorf("Redis holds %q, want %q", v, test.want)
					}
					for name, p := range map[string]process{"loader": a, "other": b} {
						if v, err := p.Get(ctx, "k"); v != test.want || (err != nil) != (test.want == "") {
							t.Errorf("the %s reads %q, %v; want %q", name, v, err, test.want)
						}
					}
					if v, err := a.GetOrLoad(ctx, "k", value("v3")); err != nil || v == "v1" {
						t.Errorf("the next GetOrLoad returns %q, %v", v, err)
					}
				})
			})
		}
	}
}

// R24: 64 goroutines, a million calls, one load a key.
func TestOneLoadAKey(t *testing.T) {
	for name, o := range map[string]func(*StoreOptions, *Options[string, string]){
		"local":       func(*StoreOptions, *Options[string, string]) {},
		"no local":    func(_ *StoreOptions, o *Options[string, string]) { o.NoLocal = true },
		"small local": func(_ *StoreOptions, o *Options[string, string]) { o.LocalSize = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, mode invalidate.Mode, s *redisserver.Server) {
				p := join(t, s, mode, o)
				var loads [8]atomic.Int32
				rounds := 1_000_000 / 64
				if name != "local" {
					rounds = 20
				}
				var wg sync.WaitGroup
				for g := range 64 {
					wg.Go(func() {
						for i := range rounds {
							n := (i + g) % len(loads)
							key := fmt.Sprint(n)
							v, err := p.GetOrLoad(ctx, key, func(context.Context, string) (string, error) {
								loads[n].Add(1)
								return "v" + key, nil
							})
							if v != "v"+key || err != nil {
								t.Errorf("%s: got %q, %v", key, v, err)
								return
							}
						}
					})
				}
				wg.Wait()
				for n := range loads {
					if l := loads[n].Load(); l != 1 {
						t.Errorf("key %d was loaded %d times", n, l)
					}
				}
			})
		})
	}
}

func TestBytesThatDoNotDecodeAreLoadedAndOverwritten(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		for _, mode := range []invalidate.Mode{invalidate.Off, invalidate.PubSub} {
			admin := redistest.Client(t, s)
			st := openStore(t, s, mode)
			c := newOn(t, st, "n", Options[string, int]{})
			for name, foreign := range map[string][]string{
				"a string": {"SET", "n:k", "not a number"}, "an empty string": {"SET", "n:k", ""}, "zeros": {"SET", "n:k", "\x00\x00"},
				"a hash": {"HSET", "n:k", "f", "v"}, "a list": {"RPUSH", "n:k", "v"}, "a set": {"SADD", "n:k", "v"},
			} {
				redistest.Do(t, admin, "DEL", "n:k")
				redistest.Do(t, admin, foreign...)
				c.flights.DropAll()
				for range 2 {
					v, err := c.Get(ctx, "k")
					if v != 0 {
						t.Errorf("%s: Get returned %d beside %v", name, v, err)
					}
					refused(t, err, ErrDecode, "n:k")
				}
				if n := c.Stats().Entries; n != 0 {
					t.Errorf("%s: %d entries are kept", name, n)
				}
				v, err := c.GetOrLoad(ctx, "k", func(context.Context, string) (int, error) { return 7, nil })
				if v != 7 || err != nil {
					t.Errorf("%s: GetOrLoad returned %d, %v", name, v, err)
				}
				if v := stored(t, admin, "k"); v != "7" {
					t.Errorf("%s: Redis holds %q after the load", name, v)
				}
			}
		}
	})
}

func TestBytesThatWereReplacedDuringTheLoadStay(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	st := openStore(t, s, invalidate.PubSub)
	c := newOn(t, st, "m", Options[string, int]{})
	for _, now := range []string{"8", "other rubbish"} {
		redistest.Do(t, admin, "SET", "m:k", "rubbish")
		c.flights.DropAll()
		_, err := c.GetOrLoad(ctx, "k", func(context.Context, string) (int, error) {
			redistest.Do(t, admin, "SET", "m:k", now)
			return 7, nil
		})
		if err != nil {
			t.Error(err)
		}
		m := redistest.Do(t, admin, "GET", "m:k")
		if v, _ := m.ToString(); v != now {
			t.Errorf("Redis holds %q, want what replaced the bytes that the load saw: %q", v, now)
		}
	}
}

func TestLoadsGoOnWithoutRedis(t *testing.T) {
	for _, mode := range []invalidate.Mode{invalidate.Off, invalidate.PubSub, invalidate.Tracking} {
		t.Run(mode.String(), func(t *testing.T) {
			s := redistest.Real(t)
			p := join(t, s, mode, func(o *StoreOptions, _ *Options[string, string]) { o.Timeout = 500 * time.Millisecond })
			s.Close()
			if _, err := p.Get(ctx, "k"); err == nil || errors.Is(err, ErrNotFound) {
				t.Errorf("Get without Redis: %v", err)
			}
			for i := range 3 {
				if v, err := p.GetOrLoad(ctx, "k", value("v")); v != "v" || err != nil {
					t.Errorf("got %q, %v", v, err)
				}
				if n := p.Stats().WriteBackErrors; n != uint64(i+1) {
					t.Errorf("%d write-back errors, want %d", n, i+1)
				}
			}
			if v := p.local("k"); v != "" {
				t.Errorf("what could not be stored is in the local tier: %q", v)
			}
		})
	}
}

// While Redis is away the tier is not live, and yet the callers share a load.
func TestOneLoadAKeyWithoutRedis(t *testing.T) {
	eachMode(t, func(t *testing.T, mode invalidate.Mode, s *redisserver.Server) {
		p := join(t, s, mode)
		s.Close()
		if mode == invalidate.PubSub {
			p.awaitStatus(t, invalidate.Cut)
		}
		var joined atomic.Int64
		p.store.hook = func(place, _ string) {
			if place == loadIsJoined {
				joined.Add(1)
			}
		}
		l := newHeldLoader("v")
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if v, err := p.GetOrLoad(ctx, "k", l.load); v != "v" || err != nil {
					t.Errorf("got %q, %v", v, err)
				}
			})
		}
		<-l.inside
		eventually(t, "all have come", func() bool { return joined.Load() == 10 })
		close(l.open)
		wg.Wait()
		if n := l.calls.Load(); n != 1 {
			t.Errorf("%d loads for 10 callers, want 1", n)
		}
	})
}

func TestLoadedValueLivesForTheCachesTTL(t *testing.T) {
	eachMode(t, func(t *testing.T, mode invalidate.Mode, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		p := join(t, s, mode, func(_ *StoreOptions, o *Options[string, string]) {
			o.TTL = 1500*time.Millisecond + 900*time.Microsecond
		})
		if _, err := p.GetOrLoad(ctx, "k", value("v")); err != nil {
			t.Fatal(err)
		}
		m := redistest.Do(t, admin, "PTTL", "n:k")
		if ms, _ := m.AsInt64(); ms > 1500 || ms < 500 {
			t.Errorf("PTTL is %d, want 1500", ms)
		}
		if mode == invalidate.Tracking {
			fence(t, p.store)
			p.want(t, "k", "v") // what a load stored is tracked from the next read on
		}
		if v := p.local("k"); v != "v" {
			t.Errorf("the local tier holds %q", v)
		}
		m = redistest.Do(t, admin, "EXISTS", tokenKey("n:k"))
		if n, _ := m.AsInt64(); n != 0 {
			t.Error("the token is still there")
		}
		eventually(t, "the key ends, in the tier too", func() bool { _, err := p.Get(ctx, "k"); return errors.Is(err, ErrNotFound) })
	})
}

// H27: a value materialised by two processes at once.
func TestTwoProcessesThatLoadAtOnceAgree(t *testing.T) {
	for _, order := range []string{"the later ends first", "the earlier ends first"} {
		t.Run(order, func(t *testing.T) {
			eachMode(t, func(t *testing.T, mode invalidate.Mode, s *redisserver.Server) {
				admin := redistest.Client(t, s)
				a, b := join(t, s, mode), join(t, s, mode)
				la, lb := newHeldLoader("a"), newHeldLoader("b")
				var va, vb string
				waitA := async(func() { va, _ = a.GetOrLoad(ctx, "k", la.load) })
				<-la.inside
				waitB := async(func() { vb, _ = b.GetOrLoad(ctx, "k", lb.load) })
				<-lb.inside
				if order == "the later ends first" {
					close(lb.open)
					waitB()
					close(la.open)
					waitA()
					if va != vb {
						t.Errorf("one returned %q, the other %q", va, vb)
					}
				} else {
					close(la.open)
					waitA()
					close(lb.open)
					waitB()
				}
				winner := stored(t, admin, "k")
				if winner == "" || vb != winner {
					t.Errorf("the later returned %q, Redis holds %q", vb, winner)
				}
				a.want(t, "k", winner)
				b.want(t, "k", winner)
			})
		})
	}
}

func TestLoadThatOutlivesItsTokenIsReturnedAndNotStored(t *testing.T) {
	eachMode(t, func(t *testing.T, mode invalidate.Mode, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		p := join(t, s, mode)
		l := newHeldLoader("v")
		var got string
		wait := async(func() { got, _ = p.GetOrLoad(ctx, "k", l.load) })
		<-l.inside
		m := redistest.Do(t, admin, "PTTL", tokenKey("n:k"))
		if ms, _ := m.AsInt64(); ms > tokenLife.Milliseconds() || ms < tokenLife.Milliseconds()-10_000 {
			t.Errorf("the token's life is %d ms", ms)
		}
		redistest.Do(t, admin, "PEXPIRE", tokenKey("n:k"), "1")
		eventually(t, "the token ends", func() bool {
			m := redistest.Do(t, admin, "EXISTS", tokenKey("n:k"))
			n, _ := m.AsInt64()
			return n == 0
		})
		close(l.open)
		wait()
		if got != "v" {
			t.Errorf("got %q", got)
		}
		if v := stored(t, admin, "k"); v != "" {
			t.Errorf("Redis holds %q", v)
		}
		if v := p.local("k"); v != "" {
			t.Errorf("the local tier holds %q", v)
		}
	})
}

// A pure fill, and a load of what is there, change nothing and say nothing.
func TestReadsAnnounceNothing(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	a, b := join(t, s, invalidate.PubSub), join(t, s, invalidate.PubSub)
	heard := newMark(t, b)
	redistest.Do(t, admin, "SET", "n:k", "v")
	before := b.Stats().Received
	a.want(t, "k", "v")
	a.GetMany(ctx, []string{"k", "l", "m"})
	a.Fresh().Get(ctx, "k")
	a.TTL(ctx, "k")
	if v, err := a.GetOrLoad(ctx, "k", value("w")); v != "v" || err != nil {
		t.Errorf("got %q, %v", v, err)
	}
	a.GetOrLoad(ctx, "none", func(context.Context, string) (string, error) { return "", ErrNotFound })
	heard.await(t, admin)
	if n := b.Stats().Received - before; n != 0 {
		t.Errorf("reads announced %d changes", n)
	}
}
