package peers

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/benchmarks/internal/sides"
)

func TestContainersKeepWhatIsSetAndKnowNothingElse(t *testing.T) {
	ks := sides.Keys(200)
	for _, c := range openLocals(t, 1000, always) {
		t.Run(c.name, func(t *testing.T) {
			if hits := c.p.Hits(ks); hits != 0 {
				t.Fatalf("empty: %d hits", hits)
			}
			fill(t, c.name, c.p, ks[:100])
			if hits := c.p.Hits(ks); hits != 100 {
				t.Errorf("after 100 of 200 keys: %d hits", hits)
			}
			if hits := c.p.Fetch(ks, value); hits != 100 {
				t.Errorf("fetch of 200 keys, 100 there: %d hits", hits)
			}
			fill(t, c.name, c.p, ks) // what was fetched may be set in the background
			c.p.Sets(ks, value+value)
			if hits := c.p.Fetch(ks, value); hits != len(ks) {
				t.Errorf("fetch of what is there: %d hits", hits)
			}
		})
	}
}

func TestBoundContainersForget(t *testing.T) {
	const capacity = 1000
	ks := sides.Keys(20 * capacity)
	for _, c := range openLocals(t, capacity, func(p LocalPeer) bool { return p.Bound }) {
		t.Run(c.name, func(t *testing.T) {
			for at := 0; at < len(ks); at += capacity {
				if err := c.p.Fill(context.Background(), ks[at:at+capacity], ks[at:at+capacity]); err != nil {
					t.Fatal(err)
				}
			}
			if hits := c.p.Hits(ks); hits > capacity*11/10 || hits < capacity/2 {
				t.Errorf("holds %d of %d", hits, capacity)
			}
		})
	}
}

func TestHybridCacheIsReadLocally(t *testing.T) {
	ks := sides.Keys(100)
	for _, h := range openHybrids(t, 1000) {
		t.Run(h.name, func(t *testing.T) {
			fill(t, h.name, h.p, ks)
			before := redisReads(t)
			if hits := h.p.Hits(ks); hits != len(ks) {
				t.Errorf("%d hits", hits)
			}
			if n := redisReads(t) - before; n != 0 {
				t.Errorf("%d reads went to Redis", n)
			}
		})
	}
}

func TestTwoTiersReadEachOthersWritesAndThenLocally(t *testing.T) {
	ctx := t.Context()
	ks := sides.Keys(100)
	for i, peer := range TwoTiers() {
		t.Run(peer.Name, func(t *testing.T) {
			if peer.Tracking && !tracks(t) {
				t.Skip("no CLIENT TRACKING")
			}
			s := Server{Redis: sides.Redis(t).ClientOption(), Name: unique('u', i), Capacity: 10_000}
			writer := openTwoTier(t, peer, s)
			for i, k := range ks {
				if err := writer.Set(ctx, k, UserOf(i)); err != nil {
					t.Fatal(err)
				}
			}
			reader := writer // go-cache allows a prefix once in a process
			if peer.Name != "viney-shih" {
				reader = openTwoTier(t, peer, s)
			}
			for i, k := range ks {
				if u, err := reader.Get(ctx, k); err != nil || u != UserOf(i) {
					t.Fatalf("%s: %+v, %v", k, u, err)
				}
			}
			if _, err := reader.Get(ctx, "no such key"); err == nil {
				t.Error("a key that is not there was found")
			}
			local := func(what string, read func()) {
				t.Helper()
				read() // a miss may enter the tier in the background
				deadline := time.Now().Add(5 * time.Second)
				for {
					before := redisReads(t)
					read()
					n := redisReads(t) - before
					if n == 0 {
						return
					}
					if time.Now().After(deadline) {
						t.Fatalf("%s: %d reads went to Redis", what, n)
					}
				}
			}
			local("hits", func() {
				if hits := reader.Hits(ctx, ks); hits != len(ks) {
					t.Fatalf("%d hits", hits)
				}
			})
			if peer.Name != "viney-shih" && peer.Hears != "not at all" {
				later := UserOf(len(ks))
				if err := writer.Set(ctx, ks[0], later); err != nil {
					t.Fatal(err)
				}
				for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
					u, err := reader.Get(ctx, ks[0])
					if err != nil {
						t.Fatal(err)
					}
					if u == later {
						break
					}
					if time.Now().After(deadline) {
						t.Fatal("the other's write was not heard")
					}
				}
			}
			if many, ok := reader.(ManyGetter); ok {
				local("many", func() {
					if found, err := many.GetMany(ctx, ks); found != len(ks) || err != nil {
						t.Fatalf("found %d, %v", found, err)
					}
				})
			}
		})
	}
}

// redisReads returns how many keys this process' Redis was asked for.
func redisReads(tb testing.TB) (n int) {
	tb.Helper()
	if s := sides.Redis(tb); s.Embedded() != nil {
		tb.Skip("miniredis does not count")
	} else if c, err := rueidis.NewClient(s.ClientOption()); err != nil {
		tb.Fatal(err)
	} else {
		defer c.Close()
		info, err := c.Do(context.Background(), c.B().Info().Section("stats").Build()).ToString()
		if err != nil {
			tb.Fatal(err)
		}
		for line := range strings.Lines(info) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
			if key == "keyspace_hits" || key == "keyspace_misses" {
				i, err := strconv.Atoi(value)
				if err != nil {
					tb.Fatal(err)
				}
				n += i
			}
		}
	}
	return n
}

func TestNamesOfPeersAreUnitsOfBenchmarks(t *testing.T) {
	seen := make(map[string]bool)
	check := func(name string) {
		if seen[name] || name == "" || strings.ContainsAny(name, " \t") {
			t.Errorf("%q is there twice, or no unit", name)
		}
		seen[name] = true
	}
	for _, p := range Locals() {
		check(p.Name)
	}
	for _, p := range TwoTiers() {
		check(p.Name)
	}
}
