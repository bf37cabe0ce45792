package benchmarks

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/benchmarks/internal/sides"
	"github.com/flipcache/flipcache/hybrid"
	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/invalidate"
)

func TestMain(m *testing.M) { sides.Main(m) }

func redisServer(b *testing.B) *redisserver.Server { b.Helper(); return sides.Redis(b) }

// openStore opens a Store that ends with b. Where the server cannot track, b is
// skipped.
func openStore(b *testing.B, mode invalidate.Mode, lease ...time.Duration) *hybrid.Store {
	b.Helper()
	o := hybrid.StoreOptions{Client: redisServer(b).ClientOption(), Invalidation: mode}
	for _, o.MaxStaleness = range lease {
	}
	s, err := hybrid.Open(context.Background(), o)
	if errors.Is(err, hybrid.ErrUnsupported) {
		b.Skip(err)
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	return s
}

// newCache opens a cache of strings on s.
func newCache(b *testing.B, s *hybrid.Store, name string, o hybrid.Options[string, string]) *hybrid.Cache[string, string] {
	b.Helper()
	c, err := hybrid.New(s, name, o)
	if err != nil {
		b.Fatal(err)
	}
	return c
}

// bareClient is rueidis as a program would use it without this library, with
// the options that the library's own client has.
func bareClient(b *testing.B) rueidis.Client {
	b.Helper()
	c, err := rueidis.NewClient(redisServer(b).ClientOption())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(c.Close)
	return c
}

// subscribe has a connection of its own hear channel, and hear called on the
// goroutine that reads it.
func subscribe(b *testing.B, channel string, hear func(rueidis.PubSubMessage)) {
	b.Helper()
	conn, release := bareClient(b).Dedicate()
	b.Cleanup(release)
	conn.SetPubSubHooks(rueidis.PubSubHooks{OnMessage: hear})
	if err := conn.Do(context.Background(), conn.B().Subscribe().Channel(channel).Build()).Error(); err != nil {
		b.Fatal(err)
	}
}

// keyCount is how many keys the benchmarks work on.
const keyCount = 1000

// value is what is stored under every key.
var value = strings.Repeat("v", 100)
