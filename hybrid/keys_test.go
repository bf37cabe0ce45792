package hybrid

import (
	"context"
	"math"
	"strconv"
	"testing"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/internal/redistest"
	"github.com/flipcache/flipcache/invalidate"
)

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
		st := openStore(t, s, invalidate.PubSub)
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
