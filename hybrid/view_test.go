package hybrid

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/internal/redistest"
	"github.com/flipcache/flipcache/invalidate"
)

func TestFreshReadsWhatRedisHoldsDespiteALocalEntry(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		a := joinAs(t, s, invalidate.Off, Options[string, string]{NegativeTTL: time.Hour})
		a.must(t, a.Set(ctx, "k", "old"))
		a.wantMissing(t, "absent")
		redistest.Do(t, admin, "SET", "n:k", "new")
		redistest.Do(t, admin, "SET", "n:absent", "here")
		wantValue(t, a, "k", "old") // Off
		fresh := peer[string, string]{a.Fresh(), a.store}
		if m, err := fresh.GetMany(ctx, []string{"k", "absent"}); err != nil || m["k"] != "new" || m["absent"] != "here" {
			t.Errorf("GetMany: %v, %v", m, err)
		}
		redistest.Do(t, admin, "SET", "n:k", "newer")
		wantValue(t, fresh, "k", "newer")
		wantValue(t, a, "k", "newer") // it is left in the local tier
		redistest.Do(t, admin, "SET", "n:k", "newest")
		if v, err := fresh.GetOrLoad(ctx, "k", value("loaded")); v != "newest" || err != nil {
			t.Errorf("GetOrLoad: %q, %v", v, err)
		}
		redistest.Do(t, admin, "DEL", "n:k")
		fresh.wantMissing(t, "k")
		a.wantMissing(t, "k")
		if v, err := fresh.GetOrLoad(ctx, "k", value("loaded")); v != "loaded" || err != nil {
			t.Errorf("GetOrLoad of nothing: %q, %v", v, err)
		}
		if a.Fresh().Stats() != a.Stats() {
			t.Error("a view counts apart")
		}
	})
}

// A fill that was sent before the view was asked is not good enough.
func TestFreshDoesNotJoinAnOlderFill(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		a := joinAs(t, s, invalidate.Off, Options[string, string]{})
		redistest.Do(t, admin, "SET", "n:k", "old")
		g := newGateOn(a.store, afterReadReply, "k")
		waitOld := async(func() { a.Get(ctx, "k") })
		<-g.reached
		redistest.Do(t, admin, "SET", "n:k", "new")
		got := make(chan string, 8)
		waitNew := async(func() {
			repeat(8, func(i int) {
				if i%2 == 0 {
					v, _ := a.Fresh().Get(ctx, "k")
					got <- v
					return
				}
				m, _ := a.Fresh().GetMany(ctx, []string{"k"})
				got <- m["k"]
			})
		})
		eventually(t, "the fresh readers ask", func() bool { return a.Stats().Misses == 9 })
		close(g.open)
		waitOld()
		waitNew()
		for range 8 {
			if v := <-got; v != "new" {
				t.Errorf("a fresh read returned %q", v)
			}
		}
		wantValue(t, a, "k", "new")
	})
}

func TestGetManyBringsHitsFillsAndDefaults(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		refusal := errors.New("no default for this one")
		a := joinAs(t, s, invalidate.PubSub, Options[string, string]{TTL: time.Hour, Default: func(k string) (string, error) {
			switch k {
			case "fails":
				return "leaked", refusal
			case "unknown":
				return "leaked", ErrNotFound
			}
			return "default of " + k, nil
		}})
		a.must(t, a.Set(ctx, "local", "l"))
		want := map[string]string{"local": "l", "new": "default of new"}
		keys := []string{"local", "new", "unknown", "new", "local"}
		for i := range 600 { // more than two pipelines
			redistest.Do(t, admin, "SET", "n:"+key(i), "v")
			keys = append(keys, key(i))
			want[key(i)] = "v"
		}
		for range 2 {
			before := a.fillCount()
			m, err := a.GetMany(ctx, keys)
			if err != nil || !maps.Equal(m, want) {
				t.Fatalf("got %d values, %v; want %d", len(m), err, len(want))
			}
			if n := a.fillCount() - before; n > uint64(len(want)+2) { // 604 and then 2: absent ones are asked for twice
				t.Errorf("%d values were asked for", n)
			}
		}
		if v, ms := stored(t, admin, "new"), pttl(t, admin, "new"); v != "default of new" || ms < 3_590_000 {
			t.Errorf("Redis holds %q for %d ms", v, ms)
		}
		m, err := a.GetMany(ctx, []string{"fails", "local", "unknown"})
		var e *Error
		if !errors.Is(err, refusal) || !errors.As(err, &e) || e.Key != "fails" || len(m) != 1 || m["local"] != "l" {
			t.Errorf("got %v, %v", m, err)
		}
		if stored(t, admin, "fails") != "" || stored(t, admin, "unknown") != "" {
			t.Error("a default that failed was stored")
		}
		if m, err := a.GetMany(ctx, nil); len(m) != 0 || m == nil || err != nil {
			t.Errorf("no keys: %v, %v", m, err)
		}
	})
}

func TestKeysEndsWhereItIsStopped(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		st := openStore(t, s, invalidate.PubSub)
		c := newOn(t, st, "n", Options[int, int]{})
		many := make(map[int]int)
		for i := range 3000 { // several steps of the scan
			many[i-1000] = i
		}
		if err := c.SetMany(ctx, many); err != nil {
			t.Fatal(err)
		}
		var got []int
		for k, err := range c.Keys(ctx) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, k)
		}
		slices.Sort(got)
		if want := slices.Sorted(maps.Keys(many)); !slices.Equal(got, want) {
			t.Errorf("%d keys, want %d, each once", len(got), len(want))
		}
		n := 0
		for _, err := range c.Keys(ctx) {
			if err != nil {
				t.Fatal(err)
			}
			if n++; n == 7 {
				break
			}
		}
		if n != 7 {
			t.Errorf("stopped after 7 keys, and got %d", n)
		}

		cancelled, cancel := context.WithCancel(ctx)
		defer cancel()
		var last error
		n, errs := 0, 0
		for _, err := range c.Keys(cancelled) {
			if last = err; err != nil {
				errs++
				continue
			}
			n++
			cancel()
		}
		if s.Embedded() == nil && (!errors.Is(last, context.Canceled) || errs != 1 || n == len(many)) {
			t.Errorf("cancelled after the first key: %d keys, %d errors, the last %v", n, errs, last)
		}
		if n, err := c.Count(cancelled); n != 0 || !errors.Is(err, context.Canceled) {
			t.Errorf("Count under a context that has ended: %d, %v", n, err)
		}
		if err := c.Clear(cancelled); !errors.Is(err, context.Canceled) {
			t.Errorf("Clear under a context that has ended: %v", err)
		}
		if n, err := c.Count(ctx); n != len(many) || err != nil {
			t.Errorf("Count: %d, %v", n, err)
		}
		st.Close()
		errs = 0
		for _, err := range c.Keys(ctx) {
			if errs++; !errors.Is(err, ErrClosed) {
				t.Errorf("of a closed Store: %v", err)
			}
		}
		if errs != 1 {
			t.Errorf("%d yields of a closed Store, want one with its error", errs)
		}
	})
}

func TestStatsCountWhatHappened(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		a := joinAs(t, s, invalidate.PubSub, Options[string, string]{LocalSize: 3})
		b := joinAs(t, s, invalidate.PubSub, Options[string, string]{})
		heardA, heardB := newEar(t, a.store, admin), newEar(t, b.store, admin)
		a.must(t, a.Set(ctx, "k", "v"))                                // 1 write, 1 sent
		a.must(t, a.SetMany(ctx, map[string]string{"l": "", "m": ""})) // 2 writes, 2 sent
		a.Get(ctx, "k")                                                // hit
		a.GetMany(ctx, []string{"k", "l", "none"})                     // 2 hits, 1 miss, 1 fill
		a.GetOrLoad(ctx, "new", value("v"))                            // 1 miss, 2 fills, 1 load, 1 write, 1 sent, 1 evicted
		a.must(t, a.Delete(ctx, "new", "x"))                           // 2 writes, 2 sent
		b.must(t, b.Set(ctx, "m", "v"))                                // 1 received
		heardA.drain(t)
		heardB.drain(t)
		got, want := a.Stats(), Stats{Hits: 3, Misses: 2, Fills: 3, Loads: 1, Writes: 6, Sent: 6, Received: 1, Evicted: 1, Entries: 2}
		if e := a.Stats().Entries; e != 1 && e != 2 { // which one was evicted, and was it m
			t.Errorf("%d entries", e)
		}
		want.Entries = got.Entries
		if got != want {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
		if n := b.Stats().Received; n != 6 {
			t.Errorf("the other process heard of %d changes, want 6", n)
		}
	})
}
