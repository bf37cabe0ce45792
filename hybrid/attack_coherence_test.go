package hybrid

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/internal/redisserver"
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

// R57: what one process does to a key, by whatever method, the others know as
// soon as it is delivered.
func everyWritingMethodIsHeard(t *testing.T, s redistest.Server, mode invalidate.Mode) {
	admin := redistest.Client(t, s)
	a, b := join(t, s, mode), join(t, s, mode)
	quiet := join(t, s, mode, func(_ *StoreOptions, o *Options[string, string]) { o.NoLocal = true })
	heard := newMark(t, b)
	many := make(map[string]string)
	var names []string
	for i := range 1000 {
		names = append(names, fmt.Sprint("many", i))
		many[names[i]] = "new"
	}
	long := strings.Repeat("x", invalidate.MaxMessage) // its message says "everything"
	for _, test := range []struct {
		name  string
		keys  []string
		want  string
		write func(process) error
	}{
		{"Set", []string{"k"}, "new", func(p process) error { return p.Set(ctx, "k", "new") }},
		{"SetTTL", []string{"k"}, "new", func(p process) error { return p.SetTTL(ctx, "k", "new", time.Hour) }},
		{"SetMany", names, "new", func(p process) error { return p.SetMany(ctx, many) }},
		{"Delete", []string{"k"}, "", func(p process) error { return p.Delete(ctx, "k") }},
		{"Delete of many", names, "", func(p process) error { return p.Delete(ctx, names...) }},
		{"Touch that shortens", []string{"k"}, "", func(p process) error {
			err := p.Touch(ctx, "k", time.Millisecond)
			eventually(t, "it ends", func() bool { return stored(t, admin, "k") == "" })
			return err
		}},
		{"Update", []string{"k"}, "new", func(p process) error {
			_, err := p.Update(ctx, "k", func(string, bool) (string, error) { return "new", nil })
			return err
		}},
		{"GetAndDelete", []string{"k"}, "", func(p process) error { _, err := p.GetAndDelete(ctx, "k"); return err }},
		{"Clear", names, "", func(p process) error { return p.Clear(ctx) }},
		{"Set of the empty key", []string{""}, "new", func(p process) error { return p.Set(ctx, "", "new") }},
		{"Set of a key of any bytes", []string{"a:\r\n\x00\xff{}*"}, "new", func(p process) error { return p.Set(ctx, "a:\r\n\x00\xff{}*", "new") }},
		{"Set of a very long key", []string{long, "k"}, "", func(p process) error {
			return errors.Join(p.Delete(ctx, "k"), p.Set(ctx, long, ""))
		}},
	} {
		for who, w := range map[string]process{"a process with a tier": a, "a process without": quiet} {
			t.Run(test.name+" by "+who, func(t *testing.T) {
				for _, k := range test.keys {
					redistest.Do(t, admin, "SET", "n:"+k, "old")
				}
				heard.await(t, admin)
				b.flights.DropAll()
				if m, err := b.GetMany(ctx, test.keys); err != nil || len(m) != len(test.keys) {
					t.Fatal(len(m), err)
				}
				if b.local(test.keys[0]) != "old" {
					t.Fatal("the reader does not hold the old value")
				}
				if err := test.write(w); err != nil {
					t.Fatal(err)
				}
				heard.await(t, admin)
				agree(t, admin, []process{a, b}, test.keys...)
				for _, k := range test.keys {
					if v, err := b.Get(ctx, k); v != test.want || err != nil && !errors.Is(err, ErrNotFound) {
						t.Fatalf("%.20q: the reader reads %q, %v; want %q", k, v, err, test.want)
					}
				}
			})
		}
	}
}

// R11: what a process wrote is what it reads.
func aProcessReadsItsOwnWrites(t *testing.T, s redistest.Server, mode invalidate.Mode) {
	p := join(t, s, mode)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			key := fmt.Sprint("k", g)
			for i := range 1500 {
				v := strconv.Itoa(i)
				var err error
				switch i % 4 {
				case 0:
					err = p.SetMany(ctx, map[string]string{key: v})
				case 1:
					err = p.SetTTL(ctx, key, v, time.Hour)
				default:
					err = p.Set(ctx, key, v)
				}
				if err != nil {
					t.Error(err)
					return
				}
				if got, err := p.Get(ctx, key); got != v || err != nil {
					t.Errorf("%s: read %q, %v after writing %q", key, got, err, v)
					return
				}
				if i%16 == 15 {
					if err := p.Delete(ctx, key); err != nil {
						t.Error(err)
					}
					if got, err := p.Get(ctx, key); !errors.Is(err, ErrNotFound) {
						t.Errorf("%s: read %q, %v after Delete", key, got, err)
					}
				}
			}
		})
	}
	wg.Wait()
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
	for end := time.Now().Add(stressTime(t) / 4); time.Now().Before(end) && !t.Failed(); {
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
	hits := uint64(0)
	for _, p := range ps {
		hits += p.Stats().Hits
	}
	if hits == 0 {
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

// One goroutine of the fleet writes a key, with growing numbers: no reader of
// one process sees them shrink.
func readsNeverStepBack(t *testing.T, s redistest.Server, mode invalidate.Mode) {
	admin := redistest.Client(t, s)
	var ps []process
	for range 3 {
		p := join(t, s, mode)
		p.store.hook = func(string, string) {
			if rand.N(100) < 20 {
				time.Sleep(time.Duration(rand.N(400)) * time.Microsecond)
			}
		}
		ps = append(ps, p)
	}
	end := time.Now().Add(stressTime(t) / 3)
	var wg sync.WaitGroup
	for k := range 4 {
		key := fmt.Sprint("k", k)
		wg.Go(func() {
			for i := 1; time.Now().Before(end); i++ {
				if err := ps[(i+k)%len(ps)].Set(ctx, key, strconv.Itoa(i)); err != nil && !errors.Is(err, ErrOutcomeUnknown) {
					t.Error(err)
				}
			}
		})
		for who, p := range ps {
			var newest atomic.Int64 // that a finished read of this process returned
			for range 3 {
				wg.Go(func() {
					for n := 0; time.Now().Before(end); n++ {
						floor := newest.Load()
						var v string
						var err error
						switch n % 4 {
						case 0:
							var m map[string]string
							m, err = p.GetMany(ctx, []string{key, "other"})
							v = m[key]
						case 1:
							v, err = p.GetOrLoad(ctx, key, func(context.Context, string) (string, error) { return "0", nil })
						default:
							v, err = p.Get(ctx, key)
						}
						if err != nil || v == "" {
							continue
						}
						got, _ := strconv.ParseInt(v, 10, 64)
						if got < floor {
							t.Errorf("%s, process %d: read %d after %d", key, who, got, floor)
							return
						}
						for old := newest.Load(); got > old && !newest.CompareAndSwap(old, got); old = newest.Load() {
						}
					}
				})
			}
		}
	}
	wg.Go(func() {
		for time.Now().Before(end) {
			time.Sleep(time.Duration(rand.N(100)) * time.Millisecond)
			redistest.Do(t, admin, "CLIENT", "KILL", "TYPE", map[invalidate.Mode]string{invalidate.PubSub: "pubsub", invalidate.Tracking: "normal"}[mode])
		}
	})
	wg.Wait()
}

// H32: presence is told by Redis' nil only.
func TestEmptyValueIsAValue(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		for _, mode := range []invalidate.Mode{invalidate.Off, invalidate.PubSub} {
			a, b := join(t, s, mode), join(t, s, mode)
			a.set(t, "k", "")
			for name, p := range map[string]process{"writer": a, "reader": b} {
				for range 2 { // from Redis, and from the tier
					p.want(t, "k", "")
					if m, err := p.GetMany(ctx, []string{"k", "none"}); err != nil || len(m) != 1 {
						t.Errorf("%v, %s: GetMany: %v, %v", mode, name, m, err)
					}
					v, err := p.GetOrLoad(ctx, "k", func(context.Context, string) (string, error) {
						t.Errorf("%v, %s: an empty value was loaded", mode, name)
						return "loaded", nil
					})
					if v != "" || err != nil {
						t.Errorf("%v, %s: GetOrLoad: %q, %v", mode, name, v, err)
					}
				}
				if p.flights.Hit("k") == nil {
					t.Errorf("%v, %s: the empty value is not in the local tier", mode, name)
				}
			}
			if v, err := b.GetOrLoad(ctx, "e", value("")); v != "" || err != nil {
				t.Errorf("a loader's empty value: %q, %v", v, err)
			}
			a.want(t, "e", "")
			a.Delete(ctx, "k", "e")
		}
	})
}

func roundTrip[K Key](t *testing.T, st *Store, admin rueidis.Client, name string, keys map[K]string) {
	t.Helper()
	c, err := New(st, name, Options[K, string]{})
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[K]string)
	var all []K
	for k, text := range keys {
		all, values[k] = append(all, k), "value of "+text
	}
	check := func(how string) {
		t.Helper()
		for k, text := range keys {
			m := redistest.Do(t, admin, "GET", name+":"+text)
			if v, _ := m.ToString(); v != values[k] {
				t.Errorf("%s(%v): %s:%s is %q", how, k, name, text, v)
			}
		}
		if n, err := c.Count(ctx); n != len(keys) || err != nil {
			t.Errorf("Count: %d, %v", n, err)
		}
		for range 2 {
			if m, err := c.GetMany(ctx, all); err != nil || len(m) != len(keys) {
				t.Errorf("GetMany: %v, %v", m, err)
			}
			for k := range keys {
				if v, err := c.Get(ctx, k); v != values[k] || err != nil {
					t.Errorf("Get(%v): %q, %v", k, v, err)
				}
			}
			c.flights.DropAll()
		}
	}
	if err := c.SetMany(ctx, values); err != nil {
		t.Error(err)
	}
	check("SetMany")
	if err := c.Delete(ctx, all...); err != nil {
		t.Error(err)
	}
	if n, _ := c.Count(ctx); n != 0 {
		t.Errorf("%d keys after Delete", n)
	}
	for k, v := range values {
		if err := c.Set(ctx, k, v); err != nil {
			t.Error(err)
		}
	}
	check("Set")
	for k := range keys {
		c.Delete(ctx, k)
		if _, err := c.GetOrLoad(ctx, k, func(context.Context, K) (string, error) { return values[k], nil }); err != nil {
			t.Error(err)
		}
	}
	check("GetOrLoad")
}

type namedKey string

func TestKeysStandInRedisAsNameColonKey(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		st, err := Open(ctx, StoreOptions{Client: s.ClientOption(), Invalidation: invalidate.PubSub})
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		roundTrip(t, st, admin, "string", map[string]string{
			"plain": "plain", "": "", "a:b": "a:b", ":": ":", "{tag}x": "{tag}x", "a}b": "a}b", "{}": "{}", "-1": "-1", "\r\n\x00\xff": "\r\n\x00\xff"})
		roundTrip(t, st, admin, "named", map[namedKey]string{"x": "x", "": ""})
		roundTrip(t, st, admin, "int", map[int]string{-42: "-42", 0: "0", math.MinInt: strconv.Itoa(math.MinInt), math.MaxInt: strconv.Itoa(math.MaxInt)})
		roundTrip(t, st, admin, "int32", map[int32]string{math.MinInt32: "-2147483648", math.MaxInt32: "2147483647"})
		roundTrip(t, st, admin, "int64", map[int64]string{math.MinInt64: "-9223372036854775808", 7: "7"})
		roundTrip(t, st, admin, "uint32", map[uint32]string{0: "0", math.MaxUint32: "4294967295"})
		roundTrip(t, st, admin, "uint64", map[uint64]string{0: "0", math.MaxUint64: "18446744073709551615"})
	})
}

// R17: what happens to one cache leaves the others of the Store alone.
func TestCachesOfOneStoreDoNotDisturbEachOther(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	a, b := join(t, s, invalidate.PubSub), join(t, s, invalidate.PubSub)
	heard := newMark(t, b)
	const n = 100
	var keys []string
	other := make(map[string]string)
	for i := range n {
		keys = append(keys, strconv.Itoa(i))
		other[keys[i]] = "other"
	}
	caches := make(map[string]*Cache[string, string])
	for _, name := range []string{"n2", "x", "n*", "[n]"} {
		c, err := New(b.store, name, Options[string, string]{})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.SetMany(ctx, other); err != nil {
			t.Fatal(err)
		}
		caches[name] = c
	}
	mine := make(map[string]string)
	for _, k := range keys {
		mine[k] = "mine"
	}
	for name, change := range map[string]func() error{
		"Set":     func() error { return a.SetMany(ctx, mine) },
		"Delete":  func() error { return a.Delete(ctx, keys...) },
		"Clear":   func() error { return a.Clear(ctx) },
		"garbage": func() error { redistest.Do(t, admin, "PUBLISH", invalidate.Channel("n"), "garbage"); return nil },
	} {
		if err := a.SetMany(ctx, mine); err != nil {
			t.Fatal(err)
		}
		heard.await(t, admin)
		if m, err := b.GetMany(ctx, keys); err != nil || len(m) != n {
			t.Fatal(len(m), err)
		}
		if err := change(); err != nil {
			t.Fatal(err)
		}
		heard.await(t, admin)
		if e := b.Stats().Entries; e != 0 {
			t.Errorf("%s: %d entries are left in the other process", name, e)
		}
		for cache, c := range caches {
			hits := c.Stats().Hits
			for _, k := range keys {
				if v, err := c.Get(ctx, k); v != "other" || err != nil {
					t.Errorf("%s: %s:%s reads %q, %v", name, cache, k, v, err)
				}
			}
			if h := c.Stats().Hits - hits; h != n {
				t.Errorf("%s of another cache: %s has %d of %d local hits", name, cache, h, n)
			}
		}
	}
}
