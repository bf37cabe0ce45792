package benchmarks

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/benchmarks/internal/sides"
	"github.com/flipcache/flipcache/hybrid"
	"github.com/flipcache/flipcache/invalidate"
)

// BenchmarkSet writes with invalidation by pub/sub, beside the same bytes sent
// by hand:
//
//	multi      MULTI, SET, PUBLISH, EXEC, with as many subscribers
//	set        SET, which tells nobody
//	flipcache  Set, which announces the key
//
// Each announcing side has one subscriber in this process, which is what the
// library has; with subscribers=4 there are three more, which stand for other
// processes and do nothing. The target is at most 1.10 times multi.
func BenchmarkSet(b *testing.B) {
	for _, subscribers := range []int{1, 4} {
		for _, goroutines := range []int{1, 64} {
			b.Run(fmt.Sprintf("subscribers=%d/goroutines=%d", subscribers, goroutines), func(b *testing.B) {
				benchmarkSet(b, subscribers, goroutines)
			})
		}
	}
}

const (
	setTTL    = time.Hour
	setName   = "set-by-us" // of the cache
	multiName = "set-multi" // of the keys and the channel beside it, as long
	plainName = "set-plain"
)

func benchmarkSet(b *testing.B, subscribers, goroutines int) {
	ctx := context.Background()
	cache := newCache(b, openStore(b, invalidate.PubSub), setName, hybrid.Options[string, string]{TTL: setTTL})
	ignore := func(rueidis.PubSubMessage) {}
	subscribe(b, invalidate.Channel(multiName), ignore)
	for range subscribers - 1 {
		subscribe(b, invalidate.Channel(multiName), ignore)
		subscribe(b, invalidate.Channel(setName), ignore)
	}
	ks := sides.Keys(keyCount)
	at := func(g, i int) int { return (g*keyCount/goroutines + i) % keyCount }

	sides.Compare(b, goroutines, max(64, 16*goroutines),
		multiSet(b, ctx, bareClient(b), ks, at),
		plainSet(b, ctx, bareClient(b), at),
		sides.Side{Name: "flipcache", Run: func(g, n int) {
			for i := range n {
				if err := cache.Set(ctx, ks[at(g, i)], value); err != nil {
					b.Error(err)
					return
				}
			}
		}},
	)
}

func plainSet(b *testing.B, ctx context.Context, client rueidis.Client, at func(g, i int) int) sides.Side {
	plain := prefixed(plainName, sides.Keys(keyCount))
	return sides.Side{Name: "set", Run: func(g, n int) {
		for i := range n {
			if err := client.Do(ctx, setCommand(client, plain[at(g, i)])).Error(); err != nil {
				b.Error(err)
				return
			}
		}
	}}
}

// multiSet sends what Set sends: a message of the same form and length.
func multiSet(b *testing.B, ctx context.Context, client rueidis.Client, ks []string, at func(g, i int) int) sides.Side {
	names := prefixed(multiName, ks)
	channel := invalidate.Channel(multiName)
	messages := make([]string, len(ks))
	for i, k := range ks {
		m, _ := invalidate.AppendKeys(nil, invalidate.Sender{}, uint64(i), []string{k})
		messages[i] = string(m)
	}
	return sides.Side{Name: "multi", Run: func(g, n int) {
		for i := range n {
			k := at(g, i)
			replies := client.DoMulti(ctx,
				client.B().Multi().Build(),
				setCommand(client, names[k]),
				client.B().Publish().Channel(channel).Message(messages[k]).Build(),
				client.B().Exec().Build())
			for _, r := range replies {
				if err := r.Error(); err != nil {
					b.Error(err)
					return
				}
			}
		}
	}}
}

func setCommand(client rueidis.Client, key string) rueidis.Completed {
	return client.B().Set().Key(key).Value(value).PxMilliseconds(setTTL.Milliseconds()).Build()
}

// prefixed returns ks as they stand in Redis under a cache's name.
func prefixed(name string, ks []string) []string {
	out := make([]string, len(ks))
	for i, k := range ks {
		out[i] = name + ":" + k
	}
	return out
}
