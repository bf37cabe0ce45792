package hybrid

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/internal/redistest"
	"github.com/flipcache/flipcache/invalidate"
)

func TestTrackingDoesNotKeepLongValuesAndStaysRight(t *testing.T) {
	s := redistest.Real(t)
	a := join(t, s, invalidate.Tracking)
	for _, n := range []int{0, 1, maxReadBack, maxReadBack + 1, 10_000} {
		v := strings.Repeat("x", n)
		a.set(t, "k", v)
		if held := a.flights.Hit("k") != nil; held != (n <= maxReadBack) {
			t.Errorf("%d bytes: kept %t", n, held)
		}
		fence(t, a.store) // the push of a write that is not kept comes behind its reply
		a.want(t, "k", v)
		if a.flights.Hit("k") == nil {
			t.Errorf("%d bytes: the fill is not kept", n)
		}
	}
}

// A blind spot, documented: SWAPDB changes all keys and announces none.
func TestBlindSpotOfTrackingSWAPDB(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	a := join(t, s, invalidate.Tracking)
	redistest.Do(t, admin, "SET", "n:k", "v")
	a.want(t, "k", "v")
	redistest.Do(t, admin, "SWAPDB", "0", "1")
	fence(t, a.store)
	if a.local("k") == "" {
		t.Error("SWAPDB was heard: take it out of the documented blind spots")
	}
}

// A blind spot, documented: a foreign program that deletes a key while it is
// being loaded does not keep the load from being stored.
func TestBlindSpotOfAllModesForeignDeleteDuringALoad(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	a := join(t, s, invalidate.Tracking)
	_, err := a.GetOrLoad(ctx, "k", func(context.Context, string) (string, error) {
		redistest.Do(t, admin, "DEL", "n:k")
		return "loaded", nil
	})
	if v := stored(t, admin, "k"); err != nil || v != "loaded" {
		t.Errorf("Redis holds %q, %v: take it out of the documented blind spots", v, err)
	}
}

// R10: a refresh of the TTL pushes to all who hold the key: they do not play
// ping-pong.
func TestTrackingRefreshOfTheTTLStaysRare(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	const ttl = time.Second
	var ps []peer[string, string]
	for range 4 {
		ps = append(ps, joinAs(t, s, invalidate.Tracking, Options[string, string]{TTL: ttl, RefreshTTLOnGet: true}))
	}
	ps[0].must(t, ps[0].Set(ctx, "k", "v"))
	const length = 4 * ttl
	end := time.Now().Add(length)
	repeat(len(ps), func(i int) {
		for time.Now().Before(end) {
			wantValue(t, ps[i], "k", "v")
			time.Sleep(5 * time.Millisecond)
		}
	})
	if stored(t, admin, "k") != "v" {
		t.Error("the key is dead")
	}
	var fills, refreshes uint64
	for _, p := range ps {
		fills += p.fillCount()
		refreshes += p.counters.refreshes.Load()
	}
	if limit := uint64(len(ps)) * (4*uint64(length/ttl) + 2); fills > limit {
		t.Errorf("%d fills, want at most %d: one in a quarter of the TTL for each", fills, limit)
	}
	if limit := uint64(2*length/ttl + 2); refreshes > limit {
		t.Errorf("%d refreshes, want at most %d", refreshes, limit)
	}
	t.Logf("%d fills, %d refreshes", fills, refreshes)
}

// H19, R6: many caches, keys that are nobody's, keys of many colons.
func TestTrackingTellsEachKeyToItsOwnCache(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	st := openStore(t, s, invalidate.Tracking)
	caches := map[string]*Cache[string, string]{}
	for _, name := range []string{"a", "b:c", "b:d", "ab", "a b", ":"} {
		caches[name] = newOn(t, st, name, Options[string, string]{})
	}
	keys := []string{"", ":", "k", "k:k", strings.Repeat(":", 1000), "b:c:k"}
	for name, c := range caches {
		for _, k := range keys {
			if err := c.Set(ctx, k, "old"); err != nil {
				t.Fatal(err)
			}
			if !c.held(k) {
				t.Fatalf("%q:%q is not held", name, k)
			}
		}
	}
	for name := range caches {
		for _, k := range keys {
			redistest.Do(t, admin, "SET", name+":"+k, "new")
			fence(t, st)
			for n, c := range caches {
				for _, other := range keys {
					want := "old"
					if n+":"+other == name+":"+k {
						want = ""
					}
					got := ""
					if e := c.flights.Hit(other); e != nil {
						got = e.Value
					}
					if got != want {
						t.Fatalf("after a SET of %q, %q:%q is %q, want %q", name+":"+k, n, other, got, want)
					}
				}
			}
			if err := caches[name].Set(ctx, k, "old"); err != nil {
				t.Fatal(err)
			}
		}
	}
	// Pushes of keys that are no cache's do no harm.
	for _, k := range []string{"", ":", "nobody", "nobody:k", "b", "b:", "b:c", strings.Repeat("x:", 5000)} {
		st.data.Do(ctx, st.data.B().Get().Key(k).Build())
		redistest.Do(t, admin, "SET", k, "v")
	}
	fence(t, st)
}

// R50: no right, or no such command: Open says so, and what to use instead.
func TestTrackingThatIsRefusedIsAClearError(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	without := "-client|tracking"
	if redisserver.Major() < 7 {
		without = "-client" // no part of a command can be refused alone
	}
	redistest.Do(t, admin, "ACL", "SETUSER", "u", "on", ">p", "~*", "resetchannels", "&*", "+@all", without)
	o := StoreOptions{Client: s.ClientOption(), Invalidation: invalidate.Tracking}
	o.Client.Username, o.Client.Password = "u", "p"
	st, err := Open(ctx, o)
	if err == nil {
		st.Close()
	}
	refused(t, err, ErrPermission, "invalidate.PubSub", "NOPERM", s.Addr)
	o.Invalidation = invalidate.PubSub
	if st, err = Open(ctx, o); err != nil {
		t.Fatalf("PubSub: %v", err)
	}
	st.Close()
	if _, err := Open(ctx, StoreOptions{Client: redistest.Embedded(t).ClientOption(), Invalidation: invalidate.Tracking}); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "invalidate.PubSub") {
		t.Errorf("miniredis: %v", err)
	}
}

// Where a user may not EXISTS, nothing says that Redis tracked the key when it was
// written: such a write is not kept.
func TestTrackingWriteWhoseKeyMayNotBeTrackedIsNotKept(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	redistest.Do(t, admin, "ACL", "SETUSER", "u", "on", ">p", "~*", "&*", "+@all", "-exists")
	for _, announce := range []bool{false, true} {
		a := join(t, s, invalidate.Tracking, func(o *StoreOptions, _ *Options[string, string]) {
			o.Client.Username, o.Client.Password, o.Announce = "u", "p", announce
		})
		g := newGate(a, afterWriteReply, "k")
		wait := async(func() { a.Set(ctx, "k", "mine") })
		<-g.reached
		redistest.Do(t, admin, "SET", "n:k", "foreign")
		fence(t, a.store)
		close(g.open)
		wait()
		if v := a.local("k"); v != "" {
			t.Errorf("the tier holds %q for good, Redis %q", v, stored(t, admin, "k"))
		}
	}
}

// R51: the right to a key goes away at run time: what Redis refuses is not
// served for longer than the entry lives, and fresh reads say why.
func TestRightsRevokedWhileTracking(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	redistest.Do(t, admin, "ACL", "SETUSER", "u", "on", ">p", "~*", "&*", "+@all")
	a := join(t, s, invalidate.Tracking, func(o *StoreOptions, _ *Options[string, string]) {
		o.Client.Username, o.Client.Password = "u", "p"
	})
	a.set(t, "k", "v")
	redistest.Do(t, admin, "ACL", "SETUSER", "u", "resetkeys")
	if _, err := a.Fresh().Get(ctx, "k"); !errors.Is(err, ErrPermission) {
		t.Errorf("a fresh read: %v", err)
	}
	if v := a.local("k"); v != "" {
		t.Errorf("after a refused read the tier holds %q", v)
	}
}

// The connection carries reads, writes and pushes of many goroutines while it
// is killed again and again: nobody hangs, and the fleet agrees.
func TestTrackingUnderKillsServesAndAgrees(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	a := join(t, s, invalidate.Tracking)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				k := key(i % 20)
				if g == 0 {
					a.Set(ctx, k, strconv.Itoa(i))
				} else {
					a.Get(ctx, k)
				}
			}
		})
	}
	for range 50 {
		time.Sleep(time.Duration(rand.N(20)) * time.Millisecond)
		redistest.Do(t, admin, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
		redistest.Do(t, admin, "SET", "n:"+key(rand.N(20)), "foreign")
	}
	close(stop)
	wg.Wait()
	a.awaitStatus(t, invalidate.Live)
	fence(t, a.store)
	for i := range 20 {
		agree(t, admin, []process{a}, key(i))
	}
}
