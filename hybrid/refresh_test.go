package hybrid

import (
	"context"
	"crypto/tls"
	"net"
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
