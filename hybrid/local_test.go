package hybrid

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flipcache/flipcache/internal/clock"
	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/internal/redistest"
	"github.com/flipcache/flipcache/invalidate"
)

var policies = []Policy{Adaptive, LRU, FIFO}

// R33: the smallest tiers hold what was set last, under each policy.
func TestSmallTiersHoldTheLastWrite(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		for _, policy := range policies {
			for _, size := range []int{1, 2, 3, 5} {
				p := joinAs(t, s, invalidate.PubSub, Options[int, int]{LocalSize: size, Policy: policy})
				for i := range 300 {
					k := rand.IntN(2*size + 1)
					p.must(t, p.Set(ctx, k, i))
					if e := p.flights.Hit(k); e == nil || e.Value != i {
						t.Fatalf("policy %d, size %d: %d was set to %d, the tier has %+v", policy, size, k, i, e)
					}
					if n := p.Stats().Entries; n > size {
						t.Fatalf("policy %d: %d entries of %d", policy, n, size)
					}
				}
				p.store.Close()
			}
		}
	})
}

// R34: under expiry and eviction no key has another's value.
func TestNoKeyHasAnothersValue(t *testing.T) {
	s := redistest.Real(t)
	for _, policy := range policies {
		p := joinAs(t, s, invalidate.PubSub, Options[int, int]{LocalSize: 500, Policy: policy})
		const keys, rounds = 1000, 300_000
		var wg sync.WaitGroup
		stop := make(chan struct{})
		wg.Go(func() { // what expires between 1 and 50 ms
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := p.SetTTL(ctx, i%keys, i%keys, time.Duration(1+i%50)*time.Millisecond); err != nil {
					t.Error(err)
					return
				}
			}
		})
		var readers sync.WaitGroup
		for g := range 8 {
			readers.Go(func() {
				for i := range rounds {
					k := (i*31 + g) % keys
					if e := p.flights.Hit(k); e != nil && !e.Missing && e.Value != k {
						t.Errorf("key %d has the value of %d", k, e.Value)
						return
					}
					if i%500 == 0 {
						if v, err := p.Get(ctx, k); err == nil && v != k {
							t.Errorf("key %d is %d", k, v)
							return
						}
					}
				}
			})
		}
		readers.Wait()
		close(stop)
		wg.Wait()
		p.store.Close()
	}
}

func TestLocalBytesBoundsTheTier(t *testing.T) {
	for _, mode := range []invalidate.Mode{invalidate.PubSub, invalidate.Tracking} {
		t.Run(mode.String(), func(t *testing.T) {
			s := redistest.Real(t)
			const bound = 64 << 10
			p := joinAs(t, s, mode, Options[string, string]{LocalBytes: bound})
			for i := range 1000 {
				p.must(t, p.Set(ctx, fmt.Sprint("key", i), strings.Repeat("x", i%1000)))
			}
			if st := p.Stats(); st.Bytes > bound || st.Bytes < bound*8/10 || st.Evicted == 0 {
				t.Errorf("of %d bytes: %+v", bound, st)
			}
			large := strings.Repeat("y", bound/10)
			p.must(t, p.Set(ctx, "large", large))
			for range 2 {
				if v, err := p.Get(ctx, "large"); v != large || err != nil {
					t.Fatalf("%d bytes, %v", len(v), err)
				}
				if p.flights.Hit("large") != nil {
					t.Error("more than a tenth of the bound is kept")
				}
			}
			p.must(t, p.Set(ctx, "small", "s"))
			before := p.Stats().Bytes
			if _, err := p.Get(ctx, "small"); err != nil {
				t.Fatal(err)
			}
			if err := p.Delete(ctx, "small"); err != nil {
				t.Fatal(err)
			}
			if got := before - p.Stats().Bytes; mode == invalidate.PubSub && got != int64(len("small")+len("s")+128) {
				t.Errorf("the entry counted for %d bytes", got)
			}
		})
	}
}

// R54: keys that are asked for once leave nothing behind.
func TestReadsOfUnknownKeysLeaveNothing(t *testing.T) {
	s := redistest.Real(t)
	for _, negative := range []time.Duration{0, time.Hour} {
		p := joinAs(t, s, invalidate.PubSub, Options[int, int]{LocalSize: 1000, NegativeTTL: negative})
		read := func(from, n int) uint64 {
			for batch := range n / 1000 {
				keys := make([]int, 1000)
				for i := range keys {
					keys[i] = from + batch*1000 + i
				}
				if found, err := p.GetMany(ctx, keys); len(found) > 0 || err != nil {
					t.Fatal(found, err)
				}
			}
			runtime.GC()
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return m.HeapAlloc
		}
		before := read(0, 50_000)
		after := read(1_000_000, 200_000)
		if after > before+1<<20 {
			t.Errorf("NegativeTTL %v: %d bytes after 50,000 keys, %d after 200,000 more", negative, before, after)
		}
		p.store.Close()
	}
}

// A fill that takes longer than an entry may live is not joined: what it brings may be
// older than LocalTTL.
func TestJoinIsNoOlderThanLocalTTL(t *testing.T) {
	t.Parallel()
	st := openStore(t, redistest.Embedded(t), invalidate.Off)
	advance := manualClock(st)
	p := process{newOn(t, st, "n", Options[string, string]{LocalTTL: time.Second}), st}
	p.set(t, "k", "old")
	advance(time.Second)
	g := newGate(p, afterReadReply, "k")
	wait := async(func() { p.want(t, "k", "old") })
	<-g.reached
	advance(time.Second)
	if err := st.client.Do(ctx, st.client.B().Set().Key("n:k").Value("new").Build()).Error(); err != nil {
		t.Fatal(err)
	}
	misses := p.Stats().Misses
	late := async(func() { p.want(t, "k", "new") })
	eventually(t, "a second reader", func() bool { return p.Stats().Misses > misses })
	close(g.open)
	wait()
	late()
}

// What Get itself does on a hit is what the table of flights does.
func TestGetServesWhatAHitMay(t *testing.T) {
	t.Parallel()
	s := redistest.Embedded(t)
	admin := redistest.Client(t, s)
	st := openStore(t, s, invalidate.PubSub)
	advance := manualClock(st)
	st.lease = new(atomic.Int64)
	st.lease.Store(st.clock.Exact() + int64(time.Second))
	p := peer[string, string]{newOn(t, st, "n", Options[string, string]{NegativeTTL: time.Hour}), st}
	if p.plain == nil {
		t.Fatal("Get does not look at the tier itself: the test proves nothing")
	}
	for range 2 {
		p.wantMissing(t, "missing")
	}
	p.must(t, p.Set(ctx, "k", "old"))
	redistest.Do(t, admin, "SET", "n:k", "new") // is heard by nobody
	wantValue(t, p, "k", "old")
	advance(time.Second)
	wantValue(t, p, "k", "new")

	st.lease.Store(clock.Never)
	p.must(t, p.SetTTL(ctx, "k", "old", time.Minute))
	redistest.Do(t, admin, "SET", "n:k", "new")
	wantValue(t, p, "k", "old")
	advance(time.Minute)
	wantValue(t, p, "k", "new")
}
