package hybrid

import (
	"context"
	"crypto/tls"
	"errors"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flipcache/flipcache/internal/clock"
	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/internal/redistest"
	"github.com/flipcache/flipcache/invalidate"
)

// H24: local hits never reach Redis, so a hot key dies there. Five processes
// read one every fortieth of its TTL for five TTLs: it lives, and the fleet
// refreshes it at most twelve times. FLIPCACHE_LONG=1: with a TTL of 4 s.
func TestH24_HotKeyLivesAtAFewRefreshesAFleet(t *testing.T) {
	ttl := time.Second
	if long {
		ttl = 4 * time.Second
	}
	for _, mode := range []invalidate.Mode{invalidate.Off, invalidate.PubSub, invalidate.Tracking} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			s := redistest.Real(t)
			admin := redistest.Client(t, s)
			o := Options[string, int]{TTL: ttl, RefreshTTLOnGet: true}
			writer := joinAs(t, s, mode, Options[string, int]{TTL: ttl})
			peers := make([]peer[string, int], 5)
			ears := make([]ear, len(peers))
			for i := range peers {
				peers[i] = joinAs(t, s, mode, o)
				ears[i] = newEar(t, peers[i].store, admin)
			}
			writer.must(t, writer.Set(ctx, "hot", 1))
			start := time.Now()
			var written atomic.Int64 // when 2 was
			repeat(len(peers)+1, func(i int) {
				if i == len(peers) {
					time.Sleep(ttl * 5 / 2)
					writer.must(t, writer.Set(ctx, "hot", 2))
					written.Store(int64(time.Since(start)))
					return
				}
				p := peers[i]
				for tick := time.Duration(0); tick < 5*ttl; tick += ttl / 40 {
					time.Sleep(time.Until(start.Add(tick)))
					asked := int64(time.Since(start))
					w := written.Load()
					var v int
					var err error
					if i == 0 { // one of them reads in bulk
						var m map[string]int
						if m, err = p.GetMany(ctx, []string{"hot"}); err == nil && len(m) == 0 {
							err = ErrNotFound
						}
						v = m["hot"]
					} else {
						v, err = p.Get(ctx, "hot")
					}
					if err != nil {
						t.Errorf("process %d after %v: %v", i, time.Since(start), err)
						return
					}
					if bound := int64(ttl/2 + 50*time.Millisecond); v == 1 && w > 0 && asked > w+bound {
						t.Errorf("process %d reads the old value %v after the write", i, time.Duration(asked-w))
					}
				}
			})
			var refreshes, hits uint64
			for i, p := range peers {
				st := p.Stats()
				refreshes += st.Refreshes
				hits += st.Hits
				if st.Sent != 0 || st.RefreshErrors != 0 {
					t.Errorf("reads announced %d changes, %d refreshes failed", st.Sent, st.RefreshErrors)
				}
				if mode == invalidate.PubSub {
					ears[i].drain(t)
				}
				if mode != invalidate.Tracking && p.Stats().Received > 3 { // two writes of "hot"
					t.Errorf("process %d heard %d changes", i, p.Stats().Received)
				}
				wantValue(t, p, "hot", 2)
			}
			t.Logf("TTL %v, %v: %d refreshes in all, %d local hits", ttl, time.Since(start).Round(time.Millisecond), refreshes, hits)
			if refreshes < 4 || refreshes > 12 {
				t.Errorf("%d refreshes, want 4 to 12", refreshes)
			}
			if hits < 500 {
				t.Errorf("%d local hits of 1,000 reads: the key is not hot locally", hits)
			}
		})
	}
}

// A write by another process while all hold the hot key.
func TestH24_WriteIsSeenByAllThatKeepTheKeyAlive(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		o := Options[string, string]{TTL: time.Minute, RefreshTTLOnGet: true}
		writer := joinAs(t, s, invalidate.PubSub, o)
		peers := make([]peer[string, string], 5)
		ears := make([]ear, len(peers))
		writer.must(t, writer.Set(ctx, "k", "v1"))
		redistest.Do(t, admin, "PEXPIRE", "n:k", "20000")
		for i := range peers {
			peers[i] = joinAs(t, s, invalidate.PubSub, o)
			ears[i] = newEar(t, peers[i].store, admin)
			wantValue(t, peers[i], "k", "v1") // the first refreshes
			if !peers[i].held("k") {
				t.Fatalf("process %d holds nothing", i)
			}
		}
		writer.must(t, writer.Set(ctx, "k", "v2"))
		for i, p := range peers {
			ears[i].drain(t)
			wantValue(t, p, "k", "v2")
		}
	})
}

func TestH24_RefreshSetsTheTTLAnewBelowHalfAndNowhereElse(t *testing.T) {
	for _, how := range []string{"Get", "GetMany"} {
		t.Run(how, func(t *testing.T) {
			redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
				admin := redistest.Client(t, s)
				a := joinAs(t, s, invalidate.PubSub, Options[string, string]{TTL: time.Minute, RefreshTTLOnGet: true})
				b := joinAs(t, s, invalidate.PubSub, Options[string, string]{TTL: time.Minute})
				heard := newEar(t, b.store, admin)
				for k, px := range map[string]string{"low": "29000", "high": "45000", "longer": "3600000"} {
					redistest.Do(t, admin, "SET", "n:"+k, "v", "PX", px)
				}
				redistest.Do(t, admin, "SET", "n:none", "v")
				keys := []string{"low", "high", "longer", "none", "missing"}
				if m, err := b.GetMany(ctx, keys); err != nil || len(m) != 4 {
					t.Fatal(m, err)
				}
				received := b.Stats().Received
				if how == "GetMany" {
					if m, err := a.GetMany(ctx, keys); err != nil || len(m) != 4 {
						t.Errorf("GetMany: %v, %v", m, err)
					}
				} else {
					for _, k := range keys {
						a.Get(ctx, k)
					}
				}
				for k, want := range map[string][2]int64{"low": {55000, 60000}, "high": {40000, 45000}, "longer": {3595000, 3600000}, "none": {-1, -1}, "missing": {-2, -2}} {
					if ms := pttl(t, admin, k); ms < want[0] || ms > want[1] {
						t.Errorf("%s: the remaining life is %d ms, want %v", k, ms, want)
					}
				}
				if st := a.Stats(); st.Refreshes != 1 || st.RefreshErrors != 0 || st.Sent != 0 {
					t.Errorf("%d refreshes, %d errors, %d announcements; want 1, 0, 0", st.Refreshes, st.RefreshErrors, st.Sent)
				}
				heard.drain(t)
				if n := b.Stats().Received - received; n != 0 {
					t.Errorf("the other process heard of %d changes", n)
				}
				for _, k := range keys[:4] {
					if !b.held(k) {
						t.Errorf("the other process no longer holds %s", k)
					}
				}
			})
		})
	}
}

// What changed between the read and the refresh: another process refreshed, or
// took the TTL away, or the key.
func TestH24_RefreshIsDecidedAtRedis(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		a := joinAs(t, s, invalidate.Off, Options[string, string]{TTL: time.Minute, RefreshTTLOnGet: true})
		for k, px := range map[string]string{"refreshed": "59000", "longer": "3600000", "low": "1000"} {
			redistest.Do(t, admin, "SET", "n:"+k, "v", "PX", px)
		}
		redistest.Do(t, admin, "SET", "n:none", "v")
		keys := []string{"n:refreshed", "n:longer", "n:none", "n:gone", "n:low"}
		for _, batch := range [][]string{keys, keys[:1], keys[1:2], keys[2:3], keys[3:4]} {
			replies := make([]*reply[string], len(batch))
			for i := range replies {
				replies[i] = new(reply[string])
			}
			a.refresh(ctx, batch, replies)
		}
		for k, want := range map[string][2]int64{"refreshed": {50000, 59000}, "longer": {3590000, 3600000}, "none": {-1, -1}, "gone": {-2, -2}, "low": {50000, 60000}} {
			if ms := pttl(t, admin, k); ms < want[0] || ms > want[1] {
				t.Errorf("%s: the remaining life is %d ms, want %v", k, ms, want)
			}
		}
		if st := a.Stats(); st.Refreshes != 1 {
			t.Errorf("%d refreshes, want 1", st.Refreshes)
		}
	})
}

// H20: a process that only reads announces nothing.
func TestH20_FillsLoadsNegativesAndEvictionsAnnounceNothing(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		a := joinAs(t, s, invalidate.PubSub, Options[string, string]{LocalSize: 2, NegativeTTL: time.Hour, TTL: time.Minute, RefreshTTLOnGet: true})
		for i := range 10 {
			redistest.Do(t, admin, "SET", "n:"+key(i), "v", "PX", "10000")
			wantValue(t, a, key(i), "v")
			a.wantMissing(t, "no "+key(i))
		}
		if _, err := a.Fresh().GetMany(ctx, []string{key(1), key(2), key(3), "none"}); err != nil {
			t.Fatal(err)
		}
		if st := a.Stats(); st.Sent != 0 || st.Evicted == 0 || st.Refreshes != 10 {
			t.Errorf("%d announcements, %d evictions, %d refreshes; want 0, some, 10", st.Sent, st.Evicted, st.Refreshes)
		}
	})
}

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

// H24: the life that a refresh gives counts from when the value was asked for: a
// write between the two that nobody announces must not gain by it.
func TestH24_LifeAfterARefreshCountsFromTheRead(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	const ttl = 10 * time.Second
	const pause = 200 * time.Millisecond
	var between atomic.Bool
	p := joinAs(t, s, invalidate.Off, Options[string, string]{TTL: ttl, RefreshTTLOnGet: true}, func(o *StoreOptions) {
		o.Client.DialCtxFn = func(ctx context.Context, addr string, d *net.Dialer, _ *tls.Config) (net.Conn, error) {
			conn, err := d.DialContext(ctx, "tcp", addr)
			return &splitConn{Conn: conn, at: "EVAL", armed: &between, in: func() { time.Sleep(pause) }}, err
		}
	})
	redistest.Do(t, admin, "SET", "n:k", "v", "PX", "1000")
	between.Store(true)
	wantValue(t, p, "k", "v")
	if between.Load() || p.Stats().Refreshes != 1 {
		t.Fatal("nothing was refreshed: the test proves nothing")
	}
	if e := p.flights.Hit("k"); e == nil || e.Deadline-e.Born > int64(ttl/2+clock.Tick) {
		t.Errorf("the entry %+v lives for longer than half of %v from when it was read", e, ttl)
	}
}
