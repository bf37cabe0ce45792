package benchmarks

import (
	"fmt"
	"testing"
	"time"

	"github.com/flipcache/flipcache/benchmarks/internal/sides"
	"github.com/flipcache/flipcache/internal/clock"
	"github.com/flipcache/flipcache/internal/flights"
	"github.com/flipcache/flipcache/internal/tier"
)

// stormRate is how many keys other processes write in a second.
const stormRate = 100_000

// BenchmarkStorm hits 1,000 keys while the other core hears of the writes of other
// keys, put in where the stream puts them, 100 each millisecond:
//
//	quiet      no messages
//	flipcache  100,000 messages a second, half of them for keys that the tier holds
//	           until then, and which come back
//
// The target is at most 1.1 times quiet.
func BenchmarkStorm(b *testing.B) {
	local := tier.New[string, string](tier.Bounds{Entries: 10_000}, tier.Adaptive)
	c := clock.NewCoarse()
	b.Cleanup(c.Close)
	table := flights.New(local, c, nil)
	b.Cleanup(table.Close)
	table.Resume()
	write := func(k string) {
		table.EndWrite(table.BeginWrite(k, 0, nil), true, flights.Reply[string]{Value: value, Keep: true, Deadline: clock.Never})
	}
	ks := sides.Keys(keyCount)
	order := sides.Shuffled(ks, 1)
	for _, k := range ks {
		write(k)
	}
	others := make([]string, 4*keyCount)
	for i := range others {
		others[i] = fmt.Sprintf("other:%06d", i)
	}
	hits := func(n int) {
		for range n / keyCount {
			for _, k := range order {
				if e := table.Hit(k); e == nil || len(e.Value) != len(value) {
					b.Error("not there")
					return
				}
			}
		}
	}
	const perTick = stormRate / 1000
	storm := func(stop <-chan struct{}, told chan<- int) {
		t := time.NewTicker(time.Millisecond)
		defer t.Stop()
		began := time.Now()
		for n := 0; ; {
			select {
			case <-stop:
				told <- n
				return
			case <-t.C:
			}
			for due := int(time.Since(began).Milliseconds()) * perTick; n < due; n++ {
				k := others[n%len(others)]
				table.Message(k, uint64(n), false)
				if n%2 == 0 {
					write(k) // read again here
				}
			}
		}
	}
	told, took := 0, time.Duration(0)
	sides.Compare(b, 1, 10_000*keyCount,
		sides.Side{Name: "quiet", Run: func(_, n int) { hits(n) }},
		sides.Side{Name: "flipcache", Run: func(_, n int) {
			stop, done := make(chan struct{}), make(chan int)
			go storm(stop, done)
			began := time.Now()
			hits(n)
			close(stop)
			took += time.Since(began)
			told += <-done
		}},
	)
	b.ReportMetric(float64(told)/took.Seconds(), "messages/s")
}
