package peers

import (
	"context"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/flipcache/flipcache/benchmarks/internal/sides"
)

// endless are the goroutines that peers start and give no way to end.
var endless = []goleak.Option{
	goleak.IgnoreAnyFunction("github.com/hashicorp/golang-lru/v2/expirable.NewLRU[...].func1"),
	goleak.IgnoreAnyFunction("github.com/eko/gocache/lib/v4/cache.(*ChainCache[...]).setter"),
	// go-cache's Redis client ends it at its next tick.
	goleak.IgnoreAnyFunction("github.com/go-redis/redis/v8.(*ringShards).Heartbeat"),
	// jetcache-go does not close its ristretto, whose older version logs by glog.
	goleak.IgnoreAnyFunction("github.com/dgraph-io/ristretto/v2.(*defaultPolicy[...]).processItems"),
	goleak.IgnoreAnyFunction("github.com/dgraph-io/ristretto/v2.(*Cache[...]).processItems"),
	goleak.IgnoreAnyFunction("github.com/golang/glog.(*loggingT).flushDaemon"),
}

func TestMain(m *testing.M) { sides.Main(m, endless...) }

// keyCount is how many keys are read where nothing else is said.
const keyCount = 1000

// value is what is stored under every key.
var value = strings.Repeat("v", 100)

// A named is an opened peer.
type named[P any] struct {
	name string
	p    P
}

// openLocals opens the containers that are wanted.
func openLocals(tb testing.TB, capacity int, want func(LocalPeer) bool) (all []named[Container]) {
	tb.Helper()
	for _, peer := range Locals() {
		if !want(peer) {
			continue
		}
		c, err := peer.New(capacity)
		if err != nil {
			tb.Fatalf("%s: %v", peer.Name, err)
		}
		tb.Cleanup(c.Close)
		all = append(all, named[Container]{peer.Name, c})
	}
	return all
}

// tracks says whether this process' Redis knows CLIENT TRACKING.
func tracks(tb testing.TB) bool { return sides.Redis(tb).Embedded() == nil }

// openHybrids opens the modes of hybrid.Cache, for strings.
func openHybrids(tb testing.TB, capacity int) (all []named[Local]) {
	tb.Helper()
	for i, peer := range Hybrids() {
		if peer.Tracking && !tracks(tb) {
			continue
		}
		p, err := peer.New(tb.Context(), sides.Redis(tb).ClientOption(), unique('h', i), capacity)
		if err != nil {
			tb.Fatalf("%s: %v", peer.Name, err)
		}
		tb.Cleanup(p.Close)
		all = append(all, named[Local]{peer.Name, p})
	}
	return all
}

// opened counts what was opened: a name stands for one cache only, and all are of
// one length.
var opened int

func unique(kind byte, i int) string {
	opened++
	const digits = "0123456789abcdefghijklmnopqrstuvwxyz"
	return string([]byte{kind, digits[i], digits[opened/36%36], digits[opened%36]})
}

// openTwoTiers opens the two-tier peers that are wanted.
func openTwoTiers(tb testing.TB, capacity int, want func(TwoTierPeer) bool) (all []named[TwoTier]) {
	tb.Helper()
	for i, peer := range TwoTiers() {
		if peer.Tracking && !tracks(tb) || !want(peer) {
			continue
		}
		s := Server{Redis: sides.Redis(tb).ClientOption(), Name: unique('t', i), Capacity: capacity}
		all = append(all, named[TwoTier]{peer.Name, openTwoTier(tb, peer, s)})
	}
	return all
}

func openTwoTier(tb testing.TB, peer TwoTierPeer, s Server) TwoTier {
	tb.Helper()
	p, err := peer.New(context.Background(), s)
	if err != nil {
		tb.Fatalf("%s: %v", peer.Name, err)
	}
	tb.Cleanup(p.Close)
	return p
}

// fill fills p until it has all keys, and fails where it does not come to it.
func fill(tb testing.TB, name string, p Local, keys []string) {
	tb.Helper()
	values := slices.Repeat([]string{value}, len(keys))
	hits := 0
	for range 20 { // some drop what comes fast
		if err := p.Fill(context.Background(), keys, values); err != nil {
			tb.Fatalf("%s: %v", name, err)
		}
		if hits = p.Hits(keys); hits == len(keys) {
			return
		}
	}
	tb.Fatalf("%s holds %d of %d keys", name, hits, len(keys))
}

// fillUsers has p write the users of keys, and read them until all are local, as
// far as reads can tell: a peer may keep what it wrote, or what it read.
func fillUsers(tb testing.TB, name string, p TwoTier, keys []string) {
	tb.Helper()
	ctx := context.Background()
	for i, k := range keys {
		if err := p.Set(ctx, k, UserOf(i)); err != nil {
			tb.Fatalf("%s: set: %v", name, err)
		}
	}
	for range 3 {
		if hits := p.Hits(ctx, keys); hits != len(keys) {
			tb.Fatalf("%s: %d of %d keys are there", name, hits, len(keys))
		}
	}
}

func always[P any](P) bool { return true }
