package hybrid

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/internal/redistest"
	"github.com/flipcache/flipcache/invalidate"
)

// oddKeys are keys that something might take for something else.
func oddKeys() []string {
	return []string{
		"", " ", "a", "a b", "a\nb", "\r\n", "\x00", "a:b", ":", "::", "*", "?", "[", "]", "[a-z]", "[^a]", `\`, `\\`, `a\`,
		"{", "}", "{}", "{a}", "{a}b", "a{b}c", "}{", "%s%n", `"'`, "über", "日本語", "😀", "\ufffd", "\xff\xfe", "a\x80", "$1",
		"*2\r\n$3\r\nDEL\r\n", strings.Repeat("k", 512), strings.Repeat("é", 256), "flipcache#load:x", "-1", "007",
	}
}

// sortedKeys returns what Keys yields, in order.
func sortedKeys[V any](t *testing.T, c *Cache[string, V]) []string {
	t.Helper()
	var keys []string
	for k, err := range c.Keys(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// H35: names and keys of any bytes. Each cache holds all odd keys. Not on
// miniredis: it makes regular expressions of patterns, which lose newlines and
// panic at bytes that are no UTF-8.
func TestH35_NamesAndKeysOfAnyBytes(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	a, b := openStore(t, s, invalidate.PubSub), openStore(t, s, invalidate.PubSub)
	heard := newEar(t, b, admin)
	names := []string{"n", "n2", "*", "?", "[n]", "[^n]", `\`, `n\`, `\*`, "{n}", "{", "}", " ", "\n", "über", "\xff\xfe", "\x00", "%d", strings.Repeat("n", 512)}
	keys := oddKeys()
	sorted := slices.Sorted(slices.Values(keys))
	var as, bs []*Cache[string, string]
	for _, name := range names {
		as, bs = append(as, newOn(t, a, name, Options[string, string]{})), append(bs, newOn(t, b, name, Options[string, string]{}))
	}
	holds := func(name string) map[string]string {
		m := make(map[string]string)
		for _, k := range keys {
			m[k] = name + "/" + k
		}
		return m
	}
	for i, name := range names {
		if err := as[i].SetMany(ctx, holds(name)); err != nil {
			t.Fatal(err)
		}
	}
	for i, name := range names {
		for k, v := range holds(name) {
			m := redistest.Do(t, admin, "GET", name+":"+k)
			if got, _ := m.ToString(); got != v {
				t.Fatalf("Redis holds %q under %q, want %q", got, name+":"+k, v)
			}
			if got, err := bs[i].Get(ctx, k); err != nil || got != v {
				t.Errorf("%q: Get(%q): %q, %v", name, k, got, err)
			}
		}
		if got := sortedKeys(t, bs[i]); !slices.Equal(got, sorted) {
			t.Errorf("%q: Keys yields %q", name, got)
		}
		if n, err := bs[i].Count(ctx); n != len(keys) || err != nil {
			t.Errorf("%q: Count: %d, %v; want %d", name, n, err, len(keys))
		}
	}
	// One change of each key, heard under its own name only.
	for i, name := range names[:3] {
		for _, k := range keys {
			if err := as[i].Set(ctx, k, "changed"); err != nil {
				t.Fatal(err)
			}
		}
		heard.drain(t)
		for j := range names {
			for _, k := range keys {
				if changed := j <= i; bs[j].held(k) == changed {
					t.Errorf("after changes in %q: %q of %q is held: %v", name, k, names[j], !changed)
				}
			}
		}
	}
	// Clear of each leaves the others whole.
	total := len(names) * len(keys)
	for i, name := range names {
		if err := as[i].Clear(ctx); err != nil {
			t.Fatal(err)
		}
		total -= len(keys)
		if n := users(t, admin); n != total {
			t.Errorf("after Clear of %q there are %d keys, want %d", name, n, total)
		}
		if n, err := bs[i].Count(ctx); n != 0 || err != nil {
			t.Errorf("%q is cleared, and counts %d, %v", name, n, err)
		}
	}
}

// R18: glob characters in a name, and names that are the beginning of another.
func TestH35_ClearTakesItsOwnKeysOnly(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		names := []string{"test", "test2", "t[ab]", "ta", "x*", `x\`, "a?"}
		st, loaders := openStore(t, s, invalidate.PubSub), openStore(t, s, invalidate.PubSub)
		many := make(map[string]string)
		for i := range 100 {
			many[key(i)] = "v"
		}
		var caches []*Cache[string, string]
		l := newHeldLoader("loaded") // a load of each is under way, with its token beside the keys
		wait := make([]func(), len(names))
		for i, name := range names {
			caches = append(caches, newOn(t, st, name, Options[string, string]{}))
			c := newOn(t, loaders, name, Options[string, string]{})
			wait[i] = async(func() { c.GetOrLoad(ctx, "load", l.load) })
			<-l.inside
			if err := caches[i].SetMany(ctx, many); err != nil {
				t.Fatal(err)
			}
		}
		for i, name := range names {
			if err := caches[i].Clear(ctx); err != nil {
				t.Fatal(err)
			}
			for j, c := range caches {
				want := 100
				if j <= i {
					want = 0
				}
				if n, err := c.Count(ctx); n != want || err != nil {
					t.Errorf("after Clear of %q, %q has %d keys, %v; want %d", name, names[j], n, err, want)
				}
				if keys := sortedKeys(t, c); len(keys) != want {
					t.Errorf("after Clear of %q, Keys of %q yields %d", name, names[j], len(keys))
				}
			}
			m := redistest.Do(t, admin, "EXISTS", tokenKey(name+":load"))
			if n, _ := m.AsInt64(); n != 0 {
				t.Errorf("Clear of %q left its load's token", name)
			}
			for _, other := range names[i+1:] {
				m := redistest.Do(t, admin, "EXISTS", tokenKey(other+":load"))
				if n, _ := m.AsInt64(); n != 1 {
					t.Errorf("Clear of %q took the token of %q", name, other)
				}
			}
		}
		close(l.open)
		for _, w := range wait {
			w()
		}
	})
}

func TestH35_NameWhoseKeysWouldBeAnothersIsRefused(t *testing.T) {
	st := openStore(t, redistest.Embedded(t), invalidate.Off)
	newOn(t, st, "users", Options[string, string]{})
	newOn(t, st, "a:b", Options[string, string]{})
	for name, part := range map[string]string{"users:eu": "users", "users:": "users", "a": "a:b", "a:b:c": "a:b", "users": "taken", "": "empty",
		strings.Repeat("n", 513): "513", "flipcache#load": "reserved", "flipcache#load:x": "reserved"} {
		_, err := New(st, name, Options[string, string]{})
		refused(t, err, ErrOption, part)
	}
	for _, name := range []string{"users2", "user", "a:", "a:bc", "flipcache", "Users"} {
		if _, err := New(st, name, Options[string, string]{}); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// R27: a mass change makes nobody ask Redis until he reads.
func TestMassChangeCausesNoReadsElsewhere(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	n := 1000
	many, keys := make(map[string]string), make([]string, 0, n)
	for i := range n {
		keys = append(keys, key(i))
		many[key(i)] = "old"
	}
	writer := joinAs(t, s, invalidate.PubSub, Options[string, string]{})
	writer.must(t, writer.SetMany(ctx, many))
	peers, ears := make([]peer[string, string], 7), make([]ear, 7)
	for i := range peers {
		peers[i] = joinAs(t, s, invalidate.PubSub, Options[string, string]{})
		ears[i] = newEar(t, peers[i].store, admin)
		if m, err := peers[i].GetMany(ctx, keys); err != nil || len(m) != n || peers[i].Stats().Entries != n {
			t.Fatal(len(m), err)
		}
	}
	reads := commandCalls(t, admin, "get")
	for k := range many {
		many[k] = "new"
	}
	writer.must(t, writer.SetMany(ctx, many))
	for i, p := range peers {
		ears[i].drain(t)
		if e := p.Stats().Entries; e != 0 {
			t.Errorf("process %d holds %d old entries", i, e)
		}
	}
	if now := commandCalls(t, admin, "get"); now != reads {
		t.Errorf("%d GETs although nobody reads", now-reads)
	}
	for _, p := range peers {
		wantValue(t, p, key(1), "new")
	}
}

// commandCalls returns how often the server has run a command.
func commandCalls(t *testing.T, admin rueidis.Client, command string) int64 {
	t.Helper()
	m := redistest.Do(t, admin, "INFO", "commandstats")
	info, _ := m.ToString()
	_, rest, _ := strings.Cut(info, "cmdstat_"+command+":calls=")
	calls, _, _ := strings.Cut(rest, ",")
	n, _ := strconv.ParseInt(calls, 10, 64)
	return n
}

// H34: Clear of many keys with 20 subscribers: bounded batches, few messages,
// nobody is cut, Redis answers others meanwhile. 20,000 keys;
// FLIPCACHE_LONG=1: 1,000,000, and nobody waits for 10 ms.
func TestH34_ClearOfManyKeysFloodsNobody(t *testing.T) {
	n := 20_000
	if long {
		n = 1_000_000
	}
	s := redistest.Real(t)
	admin, pinger := redistest.Client(t, s), redistest.Client(t, s)
	const fill = "for i = ARGV[1], ARGV[2] do redis.call('SET', ARGV[3] .. i, 'a value of some length') end"
	for _, part := range []struct {
		prefix string
		n      int
	}{{"n:", n}, {"other:", 500}} {
		for from := 1; from <= part.n; from += 10_000 {
			redistest.Do(t, admin, "EVAL", fill, "0", strconv.Itoa(from), strconv.Itoa(min(from+9999, part.n)), part.prefix)
		}
	}
	cleaner := joinAs(t, s, invalidate.PubSub, Options[string, string]{})
	peers, ears := make([]peer[string, string], 20), make([]ear, 20)
	for i := range peers {
		peers[i] = joinAs(t, s, invalidate.PubSub, Options[string, string]{})
		ears[i] = newEar(t, peers[i].store, admin)
		for k := range 100 {
			peers[i].Get(ctx, strconv.Itoa(k+1))
		}
		if peers[i].Stats().Entries != 100 {
			t.Fatalf("process %d holds %d entries", i, peers[i].Stats().Entries)
		}
	}
	redistest.Do(t, admin, "CONFIG", "SET", "latency-monitor-threshold", "1")
	redistest.Do(t, admin, "LATENCY", "RESET")
	cleared := make(chan struct{})
	var pings int
	var longest, sum time.Duration
	waitPings := async(func() {
		for {
			select {
			case <-cleared:
				return
			default:
			}
			began := time.Now()
			if err := pinger.Do(ctx, pinger.B().Ping().Build()).Error(); err != nil {
				t.Error(err)
				return
			}
			took := time.Since(began)
			pings++
			sum += took
			longest = max(longest, took)
			time.Sleep(200 * time.Microsecond)
		}
	})
	start := time.Now()
	cleaner.must(t, cleaner.Clear(ctx))
	took := time.Since(start)
	close(cleared)
	waitPings()
	t.Logf("Clear of %d keys with 20 subscribers: %v; %d pings, mean %v, longest %v", n, took.Round(time.Millisecond), pings, sum/time.Duration(max(pings, 1)), longest)
	text, stall := stalls(t, admin)
	t.Logf("LATENCY, stalls of 1 ms and more: %s", text)
	if long && stall >= 10*time.Millisecond {
		t.Errorf("Redis stood still for %v", stall)
	}

	if left, err := cleaner.Count(ctx); left != 0 || err != nil {
		t.Errorf("%d keys are left, %v", left, err)
	}
	if left := users(t, admin); left != 500 {
		t.Errorf("%d keys of others are left, want 500", left)
	}
	if most, sent := uint64((n+500)/scanCount*2+10), cleaner.Stats().Sent; sent > most {
		t.Errorf("%d messages, want at most %d", sent, most)
	}
	for i, p := range peers {
		ears[i].drain(t)
		if st := p.store.State(); st.Status != invalidate.Live || st.Cuts != 0 {
			t.Errorf("process %d: %v", i, st)
		}
		if e := p.Stats().Entries; e != 0 {
			t.Errorf("process %d still holds %d entries", i, e)
		}
	}
	if keys := keysPerTransaction(t, admin); keys > 2000 { // a step of a scan is 1,000, give or take
		t.Errorf("batches of %d keys in the mean", keys)
	}
}

// stalls returns what the server's latency monitor has seen, and the longest.
func stalls(t *testing.T, admin rueidis.Client) (text string, longest time.Duration) {
	t.Helper()
	m := redistest.Do(t, admin, "LATENCY", "LATEST")
	events, _ := m.ToArray()
	for _, e := range events {
		f, err := e.ToArray()
		if err != nil || len(f) < 4 {
			t.Fatalf("LATENCY LATEST: %v", m)
		}
		name, _ := f[0].ToString()
		ms, _ := f[3].AsInt64()
		text += fmt.Sprintf("%s %d ms; ", name, ms)
		longest = max(longest, time.Duration(ms)*time.Millisecond)
	}
	return text, longest
}

// keysPerTransaction returns how many keys were removed in one transaction, in
// the mean, by the server's own counts.
func keysPerTransaction(t *testing.T, admin rueidis.Client) int64 {
	t.Helper()
	execs, unlinks := commandCalls(t, admin, "exec"), commandCalls(t, admin, "unlink")
	if execs == 0 {
		t.Fatal("no transaction was run: the announcements are not in one step with the removals")
	}
	return unlinks / execs
}

// users returns how many keys there are that are not the protocol's.
func users(t *testing.T, admin rueidis.Client) (n int) {
	t.Helper()
	m := redistest.Do(t, admin, "KEYS", "*")
	keys, err := m.AsStrSlice()
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if !strings.HasPrefix(k, "flipcache#") {
			n++
		}
	}
	return n
}
