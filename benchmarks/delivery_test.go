package benchmarks

import (
	"context"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/benchmarks/internal/sides"
	"github.com/flipcache/flipcache/hybrid"
	"github.com/flipcache/flipcache/invalidate"
)

// BenchmarkDelivery measures how long another process may still serve what a
// write replaced, one write at a time:
//
//	flipcache  Set, heard by another Store's stream
//	multi      MULTI, SET, PUBLISH, EXEC, heard by a subscriber that is not ours
//	publish    PUBLISH alone, heard likewise
//	tracking   SET by a client that is not ours, heard by a Store's stream in
//	           Tracking, which has read the key before
//
// Reported are the 50th and the 99th percentile of the time from the call until
// the hearer is told (begin), and from the call's return (end): negative where
// the hearer was told first. With flipcache the hearer is the stream of a
// Store of its own, whose tier notes the time instead of dropping an entry,
// which takes a fraction of a microsecond.
func BenchmarkDelivery(b *testing.B) {
	const name = "delivery"
	const other = "xelivery" // as long
	ctx := context.Background()
	ks := sides.Keys(keyCount)
	cache := newCache(b, openStore(b, invalidate.PubSub), name, hybrid.Options[string, string]{TTL: setTTL})
	multi, publish := bareClient(b), bareClient(b)
	send := multiSet(b, ctx, multi, ks, func(_, i int) int { return i })
	message := string(invalidate.AppendAll(nil, invalidate.Sender{})) + ks[0]

	ours, theirs := make(chan time.Time, 1), make(chan time.Time, 1)
	stream, err := invalidate.Open(ctx, invalidate.Config{Client: redisServer(b).ClientOption(), Timeout: 3 * time.Second})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(stream.Close)
	if err := stream.Join(ctx, name, stopwatch{ours}); err != nil {
		b.Fatal(err)
	}
	hear := func(rueidis.PubSubMessage) { theirs <- time.Now() }
	// As many subscribers as with the cache: the writer's own is one.
	subscribe(b, invalidate.Channel(multiName), hear)
	subscribe(b, invalidate.Channel(multiName), func(rueidis.PubSubMessage) {})
	subscribe(b, invalidate.Channel(other), hear)
	subscribe(b, invalidate.Channel(other), func(rueidis.PubSubMessage) {})

	type watched struct {
		name  string
		heard <-chan time.Time
		send  func(i int) error
	}
	read := func(int) error { return nil }
	hearers := []watched{
		{"publish", theirs, func(int) error {
			return publish.Do(ctx, publish.B().Publish().Channel(invalidate.Channel(other)).Message(message).Build()).Error()
		}},
		{"multi", theirs, func(int) error { send.Run(0, 1); return nil }},
		{"flipcache", ours, func(i int) error { return cache.Set(ctx, ks[i%keyCount], value) }},
	}
	if tracker, err := invalidate.Open(ctx, invalidate.Config{Mode: invalidate.Tracking, Client: redisServer(b).ClientOption(), Timeout: 3 * time.Second}); err == nil {
		b.Cleanup(tracker.Close)
		pushes := make(chan time.Time, 1)
		if err := tracker.Join(ctx, other, pushwatch{stopwatch{pushes}}); err != nil {
			b.Fatal(err)
		}
		names, reader, writer := prefixed(other, ks), tracker.Tracked(), bareClient(b)
		read = func(i int) error {
			err := reader.Do(ctx, reader.B().Get().Key(names[i%keyCount]).Build()).Error()
			if rueidis.IsRedisNil(err) {
				err = nil
			}
			return err
		}
		hearers = append(hearers, watched{"tracking", pushes, func(i int) error {
			return writer.Do(ctx, setCommand(writer, names[i%keyCount])).Error()
		}})
	}
	begin, end := make([][]float64, len(hearers)), make([][]float64, len(hearers))
	for i := 0; b.Loop(); i++ {
		if err := read(i); err != nil {
			b.Fatal(err)
		}
		for s, side := range hearers {
			began := time.Now()
			if err := side.send(i); err != nil {
				b.Fatal(err)
			}
			returned := time.Now()
			select {
			case heard := <-side.heard:
				begin[s] = append(begin[s], float64(heard.Sub(began)))
				end[s] = append(end[s], float64(heard.Sub(returned)))
			case <-time.After(5 * time.Second):
				b.Fatalf("%s: not heard within 5 s", side.name)
			}
		}
	}
	for s, side := range hearers {
		b.ReportMetric(sides.Quantile(begin[s], 0.5), side.name+"-begin-p50-ns")
		b.ReportMetric(sides.Quantile(begin[s], 0.99), side.name+"-begin-p99-ns")
		b.ReportMetric(sides.Quantile(end[s], 0.5), side.name+"-end-p50-ns")
		b.ReportMetric(sides.Quantile(end[s], 0.99), side.name+"-end-p99-ns")
	}
	b.ReportMetric(0, "ns/op")
}

// A stopwatch is a tier that notes when it is told.
type stopwatch struct{ heard chan<- time.Time }

func (s stopwatch) Drop(string, uint64, bool) { s.heard <- time.Now() }
func (s stopwatch) Push(string)               {}
func (s stopwatch) DropAll()                  {}
func (s stopwatch) Cut()                      {}
func (s stopwatch) Resume()                   {}

// A pushwatch is a stopwatch for pushes.
type pushwatch struct{ stopwatch }

func (s pushwatch) Push(string) { s.heard <- time.Now() }
