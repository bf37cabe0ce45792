package hybrid

import (
	"errors"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/internal/redistest"
	"github.com/flipcache/flipcache/invalidate"
)

// H25: every TTL is exact to the millisecond, or refused.
func TestH25_TTLEdges(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		for _, test := range []struct {
			ttl     time.Duration
			refused bool
		}{
			{0, true}, {-1, true}, {-time.Second, true}, {math.MinInt64, true}, {60, true}, {999 * time.Microsecond, true},
			{time.Millisecond, false}, {1500 * time.Microsecond, false}, {999 * time.Millisecond, false}, {1500 * time.Millisecond, false},
			{time.Hour + 999*time.Microsecond, false}, {math.MaxInt64, false}, {math.MaxInt64 - 1, false},
		} {
			p := joinAs(t, s, invalidate.PubSub, Options[string, string]{})
			for name, op := range map[string]func() error{
				"SetTTL": func() error { return p.SetTTL(ctx, "k", "new", test.ttl) },
				"Touch":  func() error { return p.Touch(ctx, "k", test.ttl) },
				"Options.TTL": func() error {
					st := openStore(t, s, invalidate.Off)
					defer st.Close()
					c, err := New(st, "n", Options[string, string]{TTL: test.ttl})
					if err != nil || test.ttl == 0 {
						return err
					}
					return c.Set(ctx, "k", "new")
				},
				"Options.TTL of a load": func() error {
					st := openStore(t, s, invalidate.Off)
					defer st.Close()
					c, err := New(st, "n", Options[string, string]{TTL: test.ttl})
					if err != nil || test.ttl == 0 {
						return err
					}
					redistest.Do(t, admin, "DEL", "n:k")
					_, err = c.GetOrLoad(ctx, "k", value("new"))
					return err
				},
			} {
				p.must(t, p.Set(ctx, "k", "old"))
				err := op()
				if test.refused && !(test.ttl == 0 && err == nil) { // an Options.TTL of 0 is none
					if !errors.Is(err, ErrOption) {
						t.Errorf("%s(%v): %v, want ErrOption", name, test.ttl, err)
					}
				} else if err != nil {
					t.Errorf("%s(%v): %v", name, test.ttl, err)
					continue
				}
				ms, want := pttl(t, admin, "k"), test.ttl.Milliseconds()
				switch {
				case test.refused && (ms != -1 || stored(t, admin, "k") != "old"):
					t.Errorf("%s(%v) was refused, and the key's life is %d ms, its value %q", name, test.ttl, ms, stored(t, admin, "k"))
				case test.refused:
				case ms > want || ms == -1 || ms < want-1000 && ms != -2:
					t.Errorf("%s(%v): the key's life is %d ms, want %d", name, test.ttl, ms, want)
				case ms == -2 && want > 2000:
					t.Errorf("%s(%v): the key is gone", name, test.ttl)
				}
				p.must(t, p.Delete(ctx, "k"))
			}
		}
	})
}

// R40: a second is a second, wherever in the second it begins.
func TestH25_LifeOfASecondIsNotCutShortNorDrawnOut(t *testing.T) {
	p := joinAs(t, redistest.Real(t), invalidate.PubSub, Options[string, string]{})
	start := time.Now()
	repeat(100, func(i int) {
		time.Sleep(time.Until(start.Add(time.Duration(i) * 10 * time.Millisecond)))
		sent := time.Now()
		if err := p.SetTTL(ctx, key(i), "v", time.Second); err != nil {
			t.Error(err)
			return
		}
		done := time.Now()
		time.Sleep(time.Until(sent.Add(900 * time.Millisecond)))
		if _, err := p.Get(ctx, key(i)); err != nil && time.Since(sent) < 995*time.Millisecond {
			t.Errorf("gone %v after it was set for a second: %v", time.Since(sent), err)
		}
		time.Sleep(time.Until(done.Add(time.Second + time.Millisecond)))
		p.wantMissing(t, key(i))
	})
}

// R43: TTL tells Redis' own, whatever came before, and the local life follows.
func TestTTLAndTouchFollowRedis(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	a := joinAs(t, s, invalidate.PubSub, Options[string, string]{TTL: 10 * time.Second})
	b := joinAs(t, s, invalidate.PubSub, Options[string, string]{})
	heard := newEar(t, b.store, admin)
	check := func(want time.Duration) {
		t.Helper()
		for _, p := range []peer[string, string]{a, b} {
			before := pttl(t, admin, "k")
			ttl, err := p.TTL(ctx, "k")
			after := pttl(t, admin, "k")
			if err != nil || ttl.Milliseconds() > before || ttl.Milliseconds() < after || ttl > want || ttl < want-time.Second {
				t.Errorf("TTL: %v, %v; want about %v, and what Redis says: %d to %d ms", ttl, err, want, after, before)
			}
		}
	}
	a.must(t, a.Set(ctx, "k", "v"))
	check(10 * time.Second)
	a.must(t, a.SetTTL(ctx, "k", "v", 2*time.Second))
	check(2 * time.Second)
	a.must(t, a.Set(ctx, "k", "v"))
	check(10 * time.Second)
	a.must(t, a.Touch(ctx, "k", time.Hour))
	check(time.Hour)

	// Shortened by one process while the other holds it: gone for both in time.
	heard.drain(t)
	wantValue(t, b, "k", "v")
	a.must(t, a.Touch(ctx, "k", 100*time.Millisecond))
	touched := time.Now()
	heard.drain(t)
	b.Get(ctx, "k")
	time.Sleep(time.Until(touched.Add(101 * time.Millisecond)))
	a.wantMissing(t, "k")
	b.wantMissing(t, "k")
	if err := a.Touch(ctx, "k", time.Hour); !errors.Is(err, ErrNotFound) {
		t.Errorf("Touch of a key that is gone: %v", err)
	}
	if ttl, err := a.TTL(ctx, "k"); !errors.Is(err, ErrNotFound) || ttl != 0 {
		t.Errorf("TTL of a key that is gone: %v, %v", ttl, err)
	}
	redistest.Do(t, admin, "SET", "n:k", "v")
	if ttl, err := a.TTL(ctx, "k"); err != nil || ttl != NoTTL {
		t.Errorf("TTL of a key without end: %v, %v", ttl, err)
	}
	a.must(t, a.Touch(ctx, "k", time.Hour)) // from no end to an end
	check(time.Hour)
}

func TestTouchThatShortensIsHeardAndOneThatLengthensIsNot(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		a := joinAs(t, s, invalidate.PubSub, Options[string, string]{})
		b := joinAs(t, s, invalidate.PubSub, Options[string, string]{LocalTTL: -1})
		heard := newEar(t, b.store, admin)
		for _, test := range []struct {
			name        string
			before, now time.Duration
			told        bool
		}{{"shorter", time.Hour, time.Minute, true}, {"from no end", 0, time.Hour, true}, {"longer", time.Minute, time.Hour, false}} {
			if test.before == 0 {
				a.must(t, a.Set(ctx, "k", "v"))
			} else {
				a.must(t, a.SetTTL(ctx, "k", "v", test.before))
			}
			heard.drain(t)
			wantValue(t, b, "k", "v")
			a.must(t, a.Touch(ctx, "k", test.now))
			heard.drain(t)
			if b.held("k") == test.told {
				t.Errorf("%s: the other process holds it: %v", test.name, b.held("k"))
			}
		}
	})
}

// R42: a local life never outlasts Redis', nor LocalTTL what is without end.
func TestLocalLifeIsTheShorterOfRedisAndLocalTTL(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	for _, mode := range []invalidate.Mode{invalidate.Off, invalidate.PubSub, invalidate.Tracking} {
		p := joinAs(t, s, mode, Options[string, string]{LocalTTL: time.Hour})
		redistest.Do(t, admin, "SET", "n:k", "v", "PX", "300")
		set := time.Now()
		wantValue(t, p, "k", "v")
		for time.Since(set) < 301*time.Millisecond {
			p.Get(ctx, "k")
			time.Sleep(time.Millisecond)
		}
		p.wantMissing(t, "k")
	}
	st := openStore(t, s, invalidate.Off)
	advance := manualClock(st)
	p := peer[string, string]{newOn(t, st, "n", Options[string, string]{LocalTTL: time.Minute}), st}
	redistest.Do(t, admin, "SET", "n:k", "v1", "PX", "3600000")
	wantValue(t, p, "k", "v1")
	redistest.Do(t, admin, "PERSIST", "n:k")
	redistest.Do(t, admin, "SET", "n:k", "v2")
	advance(time.Minute)
	wantValue(t, p, "k", "v2")
	redistest.Do(t, admin, "SET", "n:k", "v3")
	advance(time.Minute)
	wantValue(t, p, "k", "v3") // held for a minute at the most, though without end at Redis
}

func TestJitterShortensEachLifeByAtMostItsShare(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		for _, jitter := range []float64{0.25, 1} {
			p := joinAs(t, s, invalidate.PubSub, Options[string, string]{TTL: 1000 * time.Second, TTLJitter: jitter})
			p.must(t, p.Clear(ctx))
			many := make(map[string]string)
			for i := range 200 {
				many[key(i)] = "v"
			}
			p.must(t, p.SetMany(ctx, many))
			for i := 200; i < 220; i++ {
				p.must(t, p.Set(ctx, key(i), "v"))
				if _, err := p.GetOrLoad(ctx, key(i+20), value("v")); err != nil {
					t.Fatal(err)
				}
				if _, err := p.Update(ctx, key(i+40), func(string, bool) (string, error) { return "v", nil }); err != nil {
					t.Fatal(err)
				}
			}
			lowest, highest, above := int64(math.MaxInt64), int64(0), 0
			least := int64(1e6 * (1 - jitter))
			for i := range 260 {
				ms := pttl(t, admin, key(i))
				if ms == -2 && jitter == 1 {
					ms = 0 // a life of a moment
				}
				lowest, highest = min(lowest, ms), max(highest, ms)
				if ms > 1e6-int64(5e5*jitter) {
					above++
				}
			}
			if lowest < least-5000 || highest > 1e6 {
				t.Errorf("jitter %v: lives from %d to %d ms, want %d to 1000000", jitter, lowest, highest, least)
			}
			if highest-lowest < int64(8e5*jitter) || above < 60 || above > 200 {
				t.Errorf("jitter %v: lives from %d to %d ms, %d of 260 in the upper half: they are not spread", jitter, lowest, highest, above)
			}
			p.must(t, p.SetTTL(ctx, "own", "v", 1000*time.Second)) // its own TTL is its own
			if ms := pttl(t, admin, "own"); ms < 999_000 {
				t.Errorf("jitter %v: SetTTL of 1000 s lives %d ms", jitter, ms)
			}
		}
	})
}

// The last moments of a life, at every reading by many: a value or nothing, and
// nothing is final.
func TestExpiryIsSeenOnceAndForAll(t *testing.T) {
	p := joinAs(t, redistest.Real(t), invalidate.PubSub, Options[string, string]{})
	p.must(t, p.SetTTL(ctx, "k", "v", 60*time.Millisecond))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for gone, end := false, time.Now().Add(150*time.Millisecond); time.Now().Before(end); {
				switch v, err := p.Get(ctx, "k"); {
				case err == nil && (gone || v != "v"):
					t.Errorf("got %q, after it was gone: %v", v, gone)
					return
				case errors.Is(err, ErrNotFound):
					gone = true
				case err != nil:
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
