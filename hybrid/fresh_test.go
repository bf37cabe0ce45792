package hybrid

import (
	"testing"

	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/internal/redistest"
	"github.com/flipcache/flipcache/invalidate"
)

func TestFreshReadOvertakenByAnotherDoesNotFallBackToAnOlderEntry(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		a := joinAs(t, s, invalidate.Off, Options[string, string]{})
		a.must(t, a.Set(ctx, "k", "old"))
		redistest.Do(t, admin, "SET", "n:k", "new")
		g := newGateOn(a.store, afterReadReply, "k")
		var first, second string
		waitFirst := async(func() { first, _ = a.Fresh().Get(ctx, "k") })
		<-g.reached
		waitSecond := async(func() { second, _ = a.Fresh().Get(ctx, "k") })
		eventually(t, "the second reader asks", func() bool { return a.Stats().Misses == 2 })
		close(g.open)
		waitFirst()
		waitSecond()
		if first != "new" || second != "new" {
			t.Errorf("fresh reads returned %q and %q, Redis held %q before they began", first, second, "new")
		}
	})
}
