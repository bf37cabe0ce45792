package hybrid

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/rueidis"
	"pgregory.net/rapid"

	"github.com/flipcache/flipcache/invalidate"
)

// TestCacheIsAMap drives two processes that share a cache by random calls of all
// methods, and compares what they return, what their tiers hold and what is in
// Redis with a plain map whose time is set by hand. Between two calls everybody has
// heard everything.
//
//	go test ./hybrid -run TestCacheIsAMap -rapid.checks=1000
func TestCacheIsAMap(t *testing.T) {
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "rapid.checks" })
	if checks := flag.Lookup("rapid.checks"); !asked {
		defer checks.Value.Set(checks.Value.String())
		checks.Value.Set("50") // a second
	}
	w := newTwins(t)
	rapid.Check(t, func(rt *rapid.T) {
		m := w.machine(rt)
		rt.Repeat(map[string]func(*rapid.T){
			"":               m.check,
			"Get":            m.get,
			"GetMany":        m.getMany,
			"GetOrLoad":      m.getOrLoad,
			"Set":            m.set,
			"SetTTL":         m.setTTL,
			"SetMany":        m.setMany,
			"SetIfAbsent":    m.setIfAbsent,
			"Delete":         m.delete,
			"GetAndDelete":   m.getAndDelete,
			"Update":         m.update,
			"Incr":           m.incr,
			"Touch":          m.touch,
			"TTL":            m.ttlOf,
			"Clear":          m.clear,
			"Count and Keys": m.count,
			"time passes":    m.pass,
		})
	})
}

// twins are two processes on a Redis whose time is set by hand.
type twins struct {
	redis  *miniredis.Miniredis
	stores [2]*Store
	marks  [2]*mark
	move   [2]func(time.Duration)
	names  int
}

func newTwins(t *testing.T) *twins {
	w := &twins{redis: miniredis.RunT(t)}
	for i := range w.stores {
		st, err := Open(ctx, StoreOptions{Invalidation: invalidate.PubSub, Client: rueidis.ClientOption{
			InitAddress: []string{w.redis.Addr()}, ForceSingleClient: true, DisableCache: true,
		}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { st.Close() })
		w.stores[i], w.move[i] = st, manualClock(st)
		w.marks[i] = newMark(t, process{store: st})
	}
	return w
}

// machine is one run: a cache of a new name in both processes, and the map.
type machine struct {
	*twins
	caches [2]*Cache[string, int64]
	name   string
	ttl    time.Duration
	now    time.Duration
	want   map[string]lives
	keys   *rapid.Generator[string]
}

// lives is a value with its end; 0: none.
type lives struct {
	value int64
	end   time.Duration
}

func (w *twins) machine(rt *rapid.T) *machine {
	w.names++
	m := &machine{twins: w, name: "n" + strconv.Itoa(w.names), want: make(map[string]lives)}
	o := Options[string, int64]{
		TTL:       rapid.SampledFrom([]time.Duration{0, 7 * time.Second}).Draw(rt, "TTL"),
		LocalSize: rapid.SampledFrom([]int{0, 1, 3}).Draw(rt, "LocalSize"),
		LocalTTL:  rapid.SampledFrom([]time.Duration{0, -1, 2 * time.Second}).Draw(rt, "LocalTTL"),
		Policy:    rapid.SampledFrom(policies).Draw(rt, "Policy"),
	}
	if rapid.Bool().Draw(rt, "NegativeTTL") {
		o.NegativeTTL = 3 * time.Second
	}
	m.ttl = o.TTL
	for i, st := range w.stores {
		c, err := New(st, m.name, o)
		if err != nil {
			rt.Fatal(err)
		}
		m.caches[i] = c
	}
	m.keys = rapid.SampledFrom([]string{"", "a", "a:b", "*", "[a]", "{x}y", "}{", "é\x00\xff", "line\nline", strings.Repeat("long", 100)})
	return m
}

// one is the process that a call is made in; now and then in a view.
func (m *machine) one(rt *rapid.T) *Cache[string, int64] {
	c := m.caches[rapid.IntRange(0, 1).Draw(rt, "process")]
	if rapid.IntRange(0, 9).Draw(rt, "fresh") == 0 {
		return c.Fresh()
	}
	return c
}

func (m *machine) key(rt *rapid.T) string { return m.keys.Draw(rt, "key") }

func (m *machine) value(rt *rapid.T) int64 { return rapid.Int64Range(-1000, 1000).Draw(rt, "value") }

func (m *machine) life(rt *rapid.T) time.Duration {
	return time.Duration(rapid.IntRange(1, 10_000).Draw(rt, "ms")) * time.Millisecond
}

// store puts a value into the map, for the cache's TTL or another.
func (m *machine) store(key string, v int64, ttl time.Duration) {
	l := lives{value: v}
	if ttl > 0 {
		l.end = m.now + ttl
	}
	m.want[key] = l
}

// heard waits until both have heard everything.
func (m *machine) heard(rt *rapid.T) {
	first := lastMark.Add(1)
	message, _ := invalidate.AppendKeys(nil, invalidate.Sender{}, first, []string{"mark"})
	m.redis.Publish(invalidate.Channel("mark"), string(message))
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Microsecond) {
		if m.marks[0].heard.Load() >= first && m.marks[1].heard.Load() >= first {
			return
		}
		if time.Now().After(deadline) {
			rt.Fatal("waited in vain for messages")
		}
	}
}

// same fails unless a call returned what the map says.
func (m *machine) same(rt *rapid.T, key string, v int64, err error, l lives, there bool) {
	switch {
	case !there && !errors.Is(err, ErrNotFound):
		rt.Fatalf("%q: got %d, %v; want ErrNotFound", key, v, err)
	case there && (err != nil || v != l.value):
		rt.Fatalf("%q: got %d, %v; want %d", key, v, err, l.value)
	}
}

func mustDo(rt *rapid.T, err error) {
	if err != nil {
		rt.Fatal(err)
	}
}

// check compares Redis and both tiers with the map.
func (m *machine) check(rt *rapid.T) {
	m.heard(rt)
	n := 0
	for _, k := range m.redis.Keys() {
		key, ok := strings.CutPrefix(k, m.name+":")
		if !ok {
			continue
		}
		n++
		data, err := m.redis.Get(k)
		if l, there := m.want[key]; err != nil || !there || data != strconv.FormatInt(l.value, 10) {
			rt.Fatalf("Redis holds %q of %q, %v; want %+v, %t", data, key, err, l, there)
		}
	}
	if n != len(m.want) {
		rt.Fatalf("Redis holds %d keys, want %v", n, m.want)
	}
	for i, c := range m.caches {
		for _, e := range c.tier.Entries() {
			if !c.store.clock.Ahead(e.Deadline, 1<<63-1) {
				continue
			}
			if l, there := m.want[e.Key()]; e.Missing == there || there && e.Value != l.value {
				rt.Fatalf("process %d holds %d of %q, missing %t; want %+v, %t", i, e.Value, e.Key(), e.Missing, l, there)
			}
		}
	}
}

func (m *machine) get(rt *rapid.T) {
	c, key := m.one(rt), m.key(rt)
	l, there := m.want[key]
	if rapid.Bool().Draw(rt, "meta") {
		v, meta, err := c.GetMeta(ctx, key)
		m.same(rt, key, v, err, l, there)
		if meta.Stale || c.fresh && meta.Origin != Redis {
			rt.Fatalf("%q: %+v", key, meta)
		}
		return
	}
	v, err := c.Get(ctx, key)
	m.same(rt, key, v, err, l, there)
}

func (m *machine) getMany(rt *rapid.T) {
	keys := rapid.SliceOf(m.keys).Draw(rt, "keys")
	got, err := m.one(rt).GetMany(ctx, keys)
	mustDo(rt, err)
	want := make(map[string]int64)
	for _, k := range keys {
		if l, there := m.want[k]; there {
			want[k] = l.value
		}
	}
	if !maps.Equal(got, want) {
		rt.Fatalf("GetMany(%q): got %v, want %v", keys, got, want)
	}
}

func (m *machine) getOrLoad(rt *rapid.T) {
	key, v := m.key(rt), m.value(rt)
	none := rapid.IntRange(0, 3).Draw(rt, "none") == 0
	loaded := false
	got, err := m.one(rt).GetOrLoad(ctx, key, func(context.Context, string) (int64, error) {
		if loaded = true; none {
			return 0, ErrNotFound
		}
		return v, nil
	})
	l, there := m.want[key]
	switch {
	case there && loaded:
		rt.Fatalf("%q is there, and was loaded", key)
	case !there && loaded && !none:
		m.store(key, v, m.ttl)
		l, there = m.want[key], true
	}
	m.same(rt, key, got, err, l, there) // what a loader had nothing of may be remembered
}

func (m *machine) set(rt *rapid.T) {
	key, v := m.key(rt), m.value(rt)
	mustDo(rt, m.one(rt).Set(ctx, key, v))
	m.store(key, v, m.ttl)
}

func (m *machine) setTTL(rt *rapid.T) {
	key, v, ttl := m.key(rt), m.value(rt), m.life(rt)
	mustDo(rt, m.one(rt).SetTTL(ctx, key, v, ttl))
	m.store(key, v, ttl)
}

func (m *machine) setMany(rt *rapid.T) {
	values := rapid.MapOf(m.keys, rapid.Int64Range(-9, 9)).Draw(rt, "values")
	mustDo(rt, m.one(rt).SetMany(ctx, values))
	for k, v := range values {
		m.store(k, v, m.ttl)
	}
}

func (m *machine) setIfAbsent(rt *rapid.T) {
	key, v := m.key(rt), m.value(rt)
	done, err := m.one(rt).SetIfAbsent(ctx, key, v)
	mustDo(rt, err)
	if _, there := m.want[key]; done == there {
		rt.Fatalf("SetIfAbsent(%q): %t, and there: %t", key, done, there)
	}
	if done {
		m.store(key, v, m.ttl)
	}
}

func (m *machine) delete(rt *rapid.T) {
	keys := rapid.SliceOfN(m.keys, 1, 4).Draw(rt, "keys")
	mustDo(rt, m.one(rt).Delete(ctx, keys...))
	for _, k := range keys {
		delete(m.want, k)
	}
}

func (m *machine) getAndDelete(rt *rapid.T) {
	key := m.key(rt)
	v, err := m.one(rt).GetAndDelete(ctx, key)
	l, there := m.want[key]
	m.same(rt, key, v, err, l, there)
	delete(m.want, key)
}

func (m *machine) update(rt *rapid.T) {
	key, v := m.key(rt), m.value(rt)
	refuses := rapid.IntRange(0, 4).Draw(rt, "refuses") == 0
	l, there := m.want[key]
	refused := fmt.Errorf("refused")
	got, err := m.one(rt).Update(ctx, key, func(old int64, found bool) (int64, error) {
		if found != there || old != l.value {
			rt.Fatalf("Update(%q) is given %d, %t; want %d, %t", key, old, found, l.value, there)
		}
		if refuses {
			return 0, refused
		}
		return old + v, nil
	})
	switch {
	case refuses && !errors.Is(err, refused):
		rt.Fatalf("Update(%q): %v", key, err)
	case refuses:
	case err != nil || got != l.value+v:
		rt.Fatalf("Update(%q): got %d, %v; want %d", key, got, err, l.value+v)
	default:
		m.add(key, v)
	}
}

// add changes a value that keeps its life; a new one gets the cache's.
func (m *machine) add(key string, v int64) {
	l, there := m.want[key]
	if !there {
		m.store(key, v, m.ttl)
		return
	}
	m.want[key] = lives{l.value + v, l.end}
}

func (m *machine) incr(rt *rapid.T) {
	key, v := m.key(rt), m.value(rt)
	got, err := Incr(ctx, m.one(rt), key, v)
	m.add(key, v)
	m.same(rt, key, got, err, m.want[key], true)
}

func (m *machine) touch(rt *rapid.T) {
	key, ttl := m.key(rt), m.life(rt)
	err := m.one(rt).Touch(ctx, key, ttl)
	l, there := m.want[key]
	m.same(rt, key, l.value, err, l, there)
	if there {
		m.want[key] = lives{l.value, m.now + ttl}
	}
}

func (m *machine) ttlOf(rt *rapid.T) {
	key := m.key(rt)
	got, err := m.one(rt).TTL(ctx, key)
	l, there := m.want[key]
	m.same(rt, key, l.value, err, l, there)
	want := NoTTL
	if l.end > 0 {
		want = l.end - m.now
	}
	if there && got != want {
		rt.Fatalf("TTL(%q): got %v, want %v", key, got, want)
	}
}

func (m *machine) clear(rt *rapid.T) {
	if rapid.IntRange(0, 2).Draw(rt, "clear") == 0 {
		mustDo(rt, m.one(rt).Clear(ctx))
		clear(m.want)
	}
}

func (m *machine) count(rt *rapid.T) {
	c := m.one(rt)
	n, err := c.Count(ctx)
	mustDo(rt, err)
	if n != len(m.want) {
		rt.Fatalf("Count: got %d, want %d", n, len(m.want))
	}
	var keys []string
	for k, err := range c.Keys(ctx) {
		mustDo(rt, err)
		keys = append(keys, k)
	}
	slices.Sort(keys)
	if want := slices.Sorted(maps.Keys(m.want)); !slices.Equal(keys, want) {
		rt.Fatalf("Keys: got %q, want %q", keys, want)
	}
}

// pass lets time pass everywhere.
func (m *machine) pass(rt *rapid.T) {
	d := m.life(rt)
	m.redis.FastForward(d)
	for _, move := range m.move {
		move(d)
	}
	m.now += d
	maps.DeleteFunc(m.want, func(_ string, l lives) bool { return l.end > 0 && l.end <= m.now })
}
