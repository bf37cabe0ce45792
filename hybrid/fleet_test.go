package hybrid

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/internal/redistest"
	"github.com/flipcache/flipcache/internal/slots"
	"github.com/flipcache/flipcache/invalidate"
)

// agree fails the test if a local tier holds anything else than Redis.
func agree(t testing.TB, admin rueidis.Client, ps []process, keys ...string) {
	t.Helper()
	for _, k := range keys {
		now := stored(t, admin, k)
		for i, p := range ps {
			if e := p.flights.Hit(k); e != nil && e.Value != now {
				// It may have expired between the two looks, or by a tick: look again.
				again := stored(t, admin, k)
				if e = p.flights.Hit(k); e != nil && e.Value != again {
					t.Errorf("%s: process %d holds %q, Redis %q", k, i, e.Value, again)
				}
			}
		}
	}
}

// How long the randomized tests run: FLIPCACHE_STRESS, 3 s by default.
func stressTime(t *testing.T) time.Duration {
	if v := os.Getenv("FLIPCACHE_STRESS"); v != "" {
		d, err := time.ParseDuration(v)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	return 3 * time.Second
}

// What several processes do at random to few keys, with connections that break.
// The value of a key is the number of its write; only one goroutine of the fleet
// writes a key by number, so numbers in Redis only grow.
func TestRandomizedFleet(t *testing.T) {
	for _, mode := range []invalidate.Mode{invalidate.Off, invalidate.PubSub, invalidate.Tracking} {
		for _, kills := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v, kills: %v", mode, kills), func(t *testing.T) { randomizedFleet(t, redistest.Real(t), mode, kills) })
		}
	}
}

func randomizedFleet(t *testing.T, s redistest.Server, mode invalidate.Mode, kills bool) {
	const processes, nKeys = 4, 8
	admin := redistest.Client(t, s)
	var ps []process
	var marks []*mark
	for i := range processes {
		p := join(t, s, mode, func(o *StoreOptions, c *Options[string, string]) {
			o.Timeout = 500 * time.Millisecond
			o.Client.AlwaysPipelining = i%2 == 0 // then a command that was given up stays on its way
			c.LocalTTL = time.Hour
		})
		p.store.hook = func(string, string) { // widen the windows
			if rand.N(100) < 30 {
				time.Sleep(time.Duration(rand.N(2000)) * time.Microsecond)
			}
		}
		ps, marks = append(ps, p), append(marks, newMark(t, p))
	}
	var keys []string
	for i := range nKeys {
		keys = append(keys, fmt.Sprint("k", i))
	}
	random := func() string { return keys[rand.N(nKeys)] }
	var version, operations atomic.Int64
	next := func() string { return strconv.FormatInt(version.Add(1), 10) }
	fill := func(context.Context, string) (string, error) { return next(), nil }
	// Beside 15 other actions there are so many plain reads.
	act := func(p process, c context.Context, reads int) {
		switch k := random(); rand.N(15 + reads) {
		case 0, 1:
			p.Set(c, k, next())
		case 2:
			p.SetMany(c, map[string]string{k: next(), random(): next(), random(): next()})
		case 3:
			p.Delete(c, k)
		case 4:
			p.Delete(c, k, random())
		case 5:
			p.Touch(c, k, time.Duration(1+rand.N(50))*time.Millisecond)
		case 6:
			p.SetTTL(c, k, next(), time.Duration(1+rand.N(80))*time.Millisecond)
		case 7:
			p.GetMany(c, keys)
		case 8, 9:
			p.GetOrLoad(c, k, fill)
		case 10:
			p.Update(c, k, func(string, bool) (string, error) { return next(), nil })
		case 11:
			p.SetIfAbsent(c, k, next())
		case 12:
			p.Touch(c, k, time.Hour)
		case 13:
			p.Fresh().Get(c, k)
		case 14:
			if rand.N(10) == 0 {
				p.Clear(c)
			}
		default:
			p.Get(c, k)
		}
	}
	end, limit := time.Now().Add(stressTime(t)/4), time.Now().Add(2*time.Minute)
	for (time.Now().Before(end) || hitsOf(ps) == 0 && time.Now().Before(limit)) && !t.Failed() {
		pause := time.Now().Add(time.Duration(5+rand.N(20)) * time.Millisecond)
		reads := []int{1, 20, 200, 1000}[rand.N(4)] // the fewer writes, the longer does a mistake last
		var wg sync.WaitGroup
		for i := range processes {
			for range 4 {
				wg.Go(func() {
					for time.Now().Before(pause) {
						c, cancel := ctx, context.CancelFunc(func() {})
						if rand.N(20) == 0 {
							c, cancel = context.WithTimeout(ctx, time.Duration(rand.N(2000))*time.Microsecond)
						}
						act(ps[i], c, reads)
						operations.Add(1)
						cancel()
					}
				})
			}
		}
		wg.Go(func() {
			time.Sleep(rand.N(max(1, time.Until(pause))))
			if mode == invalidate.Tracking {
				foreign(t, admin, random(), random(), next)
			}
			switch rand.N(4) {
			case 0: // a write that is given up and happens all the same
				redistest.Do(t, admin, "CLIENT", "PAUSE", "4", "WRITE")
			case 1, 2:
				if kills {
					everywhere(t, admin, "CLIENT", "KILL", "TYPE", []string{"pubsub", "normal"}[rand.N(2)], "SKIPME", "yes")
				}
			}
		})
		wg.Wait()
		if mode == invalidate.Off {
			continue // only own writes are known; see TestAProcessReadsItsOwnWrites
		}
		for _, p := range ps {
			p.awaitStatus(t, invalidate.Live)
		}
		for _, m := range marks {
			m.await(t, admin)
		}
		agree(t, admin, ps, keys...)
	}
	t.Logf("%d operations", operations.Load())
	if hitsOf(ps) == 0 {
		t.Error("no read was answered locally: the test proves nothing")
	}
	for _, p := range ps { // nothing is under way for ever
		for _, k := range keys {
			within(t, 10*time.Second, "Get", func() {
				eventually(t, "Get works", func() bool { _, err := p.Get(ctx, k); return err == nil || errors.Is(err, ErrNotFound) })
			})
		}
	}
}

// foreign is what a program that knows nothing of this library may do to two
// keys.
func foreign(t *testing.T, admin rueidis.Client, k, other string, next func() string) {
	k, other = "n:"+k, "n:"+other
	for range rand.N(10) {
		switch rand.N(12) {
		case 0, 1, 2:
			redistest.Do(t, admin, "SET", k, next())
		case 3:
			redistest.Do(t, admin, "DEL", k)
		case 4:
			redistest.Do(t, admin, "PEXPIRE", k, strconv.Itoa(1+rand.N(50)))
		case 5:
			redistest.Do(t, admin, "GETEX", k, "PX", strconv.Itoa(1+rand.N(50)))
		case 6:
			redistest.Do(t, admin, "EVAL", "return redis.call('SET', KEYS[1], ARGV[1])", "1", k, next())
		case 7:
			if together := slots.Of(k) == slots.Of(other) || admin.Mode() != rueidis.ClientModeCluster; k != other && together {
				redistest.Do(t, admin, "COPY", k, other, "REPLACE")
			}
		case 8:
			if slots.Of(k) == slots.Of(other) || admin.Mode() != rueidis.ClientModeCluster {
				redistest.Do(t, admin, "MSET", k, next(), other, next())
			}
		case 9:
			redistest.Do(t, admin, "APPEND", k, "0")
		case 10:
			if rand.N(20) == 0 {
				everywhere(t, admin, []string{"FLUSHALL", "FLUSHDB"}[rand.N(2)])
			}
		case 11: // the table of what is tracked overflows
			everywhere(t, admin, "CONFIG", "SET", "tracking-table-max-keys", strconv.Itoa([]int{1, 3, 1_000_000}[rand.N(3)]))
		}
	}
}
