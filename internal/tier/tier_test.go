package tier

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const never = math.MaxInt64

func put[V any](t *Tier[int, V], key int, v V) {
	t.Store(key, &Entry[int, V]{Value: v, Deadline: never}, 0, 0)
}

// check has every shard's table, queues and counts agree, and the bounds hold.
func check[K comparable, V any](t testing.TB, tr *Tier[K, V]) {
	t.Helper()
	entries, bytes := 0, int64(0)
	for i := range tr.shards {
		s := &tr.shards[i]
		s.mu.Lock()
		linked := map[*Entry[K, V]]bool{}
		var weight int64
		for _, q := range []*queue[K, V]{&s.adaptive.window, &s.adaptive.main} {
			n := 0
			for e := q.head(); e != &q.root; e = e.next {
				if n++; e.next.prev != e || e.prev.next != e {
					t.Error("a queue's links disagree")
				}
				if tr.policy == Adaptive && (e.mark&inMain != 0) != (q == &s.adaptive.main) {
					t.Error("an entry is in a queue that it does not know of")
				}
				linked[e] = true
				weight += int64(e.weight)
			}
			if n != q.n {
				t.Errorf("a queue of %d counts %d", n, q.n)
			}
		}
		tb := s.table.Load()
		passing := make([]int, len(tb.buckets))
		tb.each(func(e *Entry[K, V]) {
			hash := tr.hash.hash(e.key)
			if tr.shard(hash) != s || tb.find(hash, e.key) != e || !linked[e] {
				t.Errorf("key %v is in the table and not found, or not in a queue", e.key)
			}
			delete(linked, e)
			at, _ := tb.at(hash, e)
			for j := tb.home(hash); &tb.buckets[j] != at; j = tb.after(j) {
				passing[j]++
			}
		})
		if len(linked) != 0 {
			t.Errorf("%d entries are in no table", len(linked))
		}
		for j, n := range passing {
			if got := int(tb.buckets[j].meta.Load() >> passBits); got != n && got != maxPass {
				t.Errorf("bucket %d counts %d that passed by, of %d", j, got, n)
			}
		}
		if n := s.adaptive.len(); n > s.entries || weight != s.bytes || s.maxBytes > 0 && weight > s.maxBytes {
			t.Errorf("%d entries of %d, %d bytes of %d, counted %d", n, s.entries, weight, s.maxBytes, s.bytes)
		}
		entries += s.adaptive.len()
		bytes += s.bytes
		s.mu.Unlock()
	}
	if c := tr.Counts(); c.Entries != entries || c.Bytes != bytes || entries > tr.Bounds().Entries {
		t.Errorf("Counts %+v: want %d entries of %d, %d bytes", c, entries, tr.Bounds().Entries, bytes)
	}
}

func TestTierAgreesWithAMap(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		policy := Policy(rapid.IntRange(0, 2).Draw(rt, "policy"))
		b := Bounds{Entries: rapid.SampledFrom([]int{1, 2, 3, 5, 70, 600}).Draw(rt, "entries")}
		if rapid.Bool().Draw(rt, "bytes") {
			b.Bytes = int64(rapid.IntRange(16<<10, 40<<10).Draw(rt, "bound"))
		}
		tr := New[int, int](b, policy)
		model := map[int]int{}
		key := func(rt *rapid.T) int { return rapid.IntRange(0, 2*b.Entries).Draw(rt, "key") }
		now := int64(0)
		store := func(k, v, size int, deadline int64) {
			old, evicted := tr.Store(k, &Entry[int, int]{Value: v, Deadline: deadline}, size, now)
			if want, there := model[k]; (old != nil) != there || there && old.Value != want {
				t.Fatalf("Store(%d): old %v, want %d, %t", k, old, want, there)
			}
			model[k] = v
			for ; evicted != nil; evicted = evicted.Next() {
				if model[evicted.Key()] != evicted.Value {
					t.Fatalf("key %d left, which was not there", evicted.Key())
				}
				delete(model, evicted.Key())
			}
			if _, fits := tr.weight(k, size); !fits {
				delete(model, k)
			}
			if e := tr.Peek(k); (e != nil) != (model[k] == v) {
				t.Fatalf("key %d after Store: %v", k, e)
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"store": func(rt *rapid.T) {
				deadline := int64(never)
				if rapid.Bool().Draw(rt, "ends") {
					deadline = now + int64(rapid.IntRange(0, 20).Draw(rt, "life"))
				}
				store(key(rt), rapid.IntRange(1, 1000).Draw(rt, "value"), rapid.IntRange(0, 5000).Draw(rt, "size"), deadline)
			},
			"store many": func(rt *rapid.T) {
				for k := range rapid.IntRange(1, 2*b.Entries).Draw(rt, "n") {
					store(k, k+1, k%300, never)
				}
			},
			"time": func(*rapid.T) { now += 10 },
			"load": func(rt *rapid.T) {
				k := key(rt)
				if e := tr.Load(k); (e != nil) != (model[k] != 0) || e != nil && e.Value != model[k] {
					t.Fatalf("Load(%d): %v, want %d", k, e, model[k])
				}
			},
			"delete": func(rt *rapid.T) {
				k := key(rt)
				if e := tr.Delete(k); (e != nil) != (model[k] != 0) {
					t.Fatalf("Delete(%d): %v, want %d", k, e, model[k])
				}
				delete(model, k)
			},
			"take": func(*rapid.T) {
				taken := tr.Take()
				if n := len(taken.Entries()); n != len(model) {
					t.Fatalf("%d taken of %d", n, len(model))
				}
				for k, v := range model {
					if e := taken.Load(k); e == nil || e.Value != v {
						t.Fatalf("taken: key %d is %v, want %d", k, e, v)
					}
					taken.Delete(k)
					if taken.Load(k) != nil {
						t.Fatalf("key %d is there after Delete", k)
					}
				}
				clear(model)
			},
			"": func(*rapid.T) {
				check(t, tr)
				if n := len(tr.Entries()); n != len(model) {
					t.Fatalf("%d entries, want %d", n, len(model))
				}
			},
		})
	})
}

// Readers look on while the tables fill, grow and are taken: what they find is
// under its own key, and a key that stays is always found.
func TestReadersFindWhatStays(t *testing.T) {
	for _, policy := range []Policy{Adaptive, LRU, FIFO} {
		tr := New[string, string](Bounds{Entries: 50_000}, policy)
		name := func(i int) string { return fmt.Sprintf("key:%06d", i) }
		const staying = 64
		store := func(k string) { tr.Store(k, &Entry[string, string]{Value: k, Deadline: never}, 0, 0) }
		for i := range staying {
			store(name(i))
		}
		stop := make(chan struct{})
		var readers, writers sync.WaitGroup
		for r := range 2 {
			readers.Go(func() {
				for i := r; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					if k := name(i % staying); tr.Load(k) == nil {
						t.Errorf("%s was not found", k)
						return
					}
					if k := name(i % 40_000); true {
						if e := tr.Load(k); e != nil && e.Value != k {
							t.Errorf("%s has the value of %s", k, e.Value)
							return
						}
					}
				}
			})
		}
		for w := range 2 {
			writers.Go(func() {
				for i := range 30_000 {
					k := name(staying + i*2 + w)
					store(k)
					if i%3 == 0 {
						tr.Delete(k)
					}
					store(name(i % staying)) // replaced, never absent
				}
			})
		}
		writers.Wait()
		close(stop)
		readers.Wait()
		check(t, tr)
	}
}

func TestBurstsNeverExceedTheBounds(t *testing.T) {
	for _, b := range []Bounds{{Entries: 16}, {Entries: 1000}, {Entries: 10_000, Bytes: 64 << 10}} {
		tr := New[int, int](b, Adaptive)
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				for i := range 20_000 {
					k := (i*7 + g*13) % 4096
					switch i % 5 {
					case 0:
						tr.Delete(k)
					case 1, 2:
						tr.Store(k, &Entry[int, int]{Value: k, Deadline: never}, i%2000, 0)
					default:
						if e := tr.Load(k); e != nil && e.Value != k {
							t.Errorf("key %d has the value of %d", k, e.Value)
						}
					}
					if i%1000 == 0 {
						if c := tr.Counts(); c.Entries > b.Entries || b.Bytes > 0 && c.Bytes > b.Bytes {
							t.Errorf("%+v in a tier for %+v", c, b)
						}
					}
				}
				if g == 0 {
					tr.Take()
				}
			})
		}
		wg.Wait()
		check(t, tr)
	}
}

// R35: only the hash is compared.
func TestKeysOfOneHashAreKeptApart(t *testing.T) {
	tr := New[int, int](Bounds{Entries: 10_000}, Adaptive)
	tr.hash.kind = collidingKey
	n := tr.shards[0].entries
	for k := range n {
		put(tr, k, k)
	}
	for k := range n {
		if k%3 == 0 {
			tr.Delete(k)
		}
	}
	for k := range n {
		if e := tr.Load(k); (e == nil) != (k%3 == 0) || e != nil && e.Value != k {
			t.Fatalf("key %d: %v", k, e)
		}
	}
	check(t, tr)
}

func TestWhatHasExpiredLeavesFirst(t *testing.T) {
	tr := New[int, int](Bounds{Entries: 100}, Adaptive)
	for k := range 100 {
		deadline := int64(never)
		if k%2 == 0 {
			deadline = 10
		}
		tr.Store(k, &Entry[int, int]{Deadline: deadline}, 0, 0)
		tr.Load(k)
	}
	for k := 100; k < 140; k++ {
		tr.Store(k, &Entry[int, int]{Deadline: never}, 0, 10)
	}
	for k := range 140 {
		if tr.Peek(k) == nil && k%2 == 1 {
			t.Errorf("%d left while others had expired", k)
		}
	}
}

func TestBytesBoundTheTier(t *testing.T) {
	const bound = 1 << 20
	tr := New[string, int](Bounds{Entries: 1 << 20, Bytes: bound}, Adaptive)
	store := func(k string, size int) *Entry[string, int] {
		tr.Store(k, &Entry[string, int]{Value: size, Deadline: never}, size, 0)
		return tr.Peek(k)
	}
	if store("large", bound/10-5-EntryBytes) == nil {
		t.Error("a tenth of the bound was not kept")
	}
	if store("large", bound/10-5-EntryBytes+1) != nil {
		t.Error("more than a tenth of the bound was kept, or the old value was")
	}
	for i := range 20_000 {
		if store(fmt.Sprint(i), i%1000) == nil {
			t.Fatalf("%d was not kept", i)
		}
	}
	c := tr.Counts()
	if c.Bytes > bound || c.Bytes < bound*95/100 {
		t.Errorf("%d bytes of %d", c.Bytes, bound)
	}
	if got := tr.shards[0].adaptive.capacity; got > 2*c.Entries {
		t.Errorf("the policy reckons with %d entries, there are %d", got, c.Entries)
	}
	check(t, tr)
}

// R37, R54, and that nothing is taken in advance.
func TestMemoryIsThatOfWhatIsThere(t *testing.T) {
	tr := New[int, int](Bounds{Entries: 1 << 30}, Adaptive)
	put(tr, 1, 1)
	tr.Delete(1)
	for i := range tr.shards {
		if s := &tr.shards[i]; len(s.table.Load().buckets) > minBuckets || len(s.adaptive.ghosts) > 64 {
			t.Fatalf("%d buckets, %d ghosts for an entry", len(s.table.Load().buckets), len(s.adaptive.ghosts))
		}
	}
	tr = New[int, int](Bounds{Entries: 1000}, Adaptive)
	for k := range 1_000_000 {
		put(tr, k, k)
		tr.Load(-k)
	}
	for i := range tr.shards {
		if s := &tr.shards[i]; len(s.table.Load().buckets) > s.entries/maxLoad+1 || len(s.adaptive.ghosts) > ghostsPerSlot*s.entries {
			t.Fatalf("%d buckets, %d ghosts for %d entries", len(s.table.Load().buckets), len(s.adaptive.ghosts), s.entries)
		}
	}
}

// ratio is the share of hits of get-or-insert.
func ratio(capacity int, policy Policy, keys func(yield func(int) bool)) float64 {
	tr := New[int, int](Bounds{Entries: capacity}, policy)
	hits, n := 0, 0
	keys(func(k int) bool {
		n++
		if tr.Load(k) != nil {
			hits++
		} else {
			put(tr, k, k)
		}
		return true
	})
	return float64(hits) / float64(n)
}

// The figures are a little below those of the simulation in benchmarks.
func TestAdaptiveLearns(t *testing.T) {
	loop := func(yield func(int) bool) {
		for i := range 200_000 {
			yield(i % 1000)
		}
	}
	if got := ratio(500, Adaptive, loop); got < 0.45 {
		t.Errorf("a loop over twice the capacity: %.3f", got)
	}
	if got := ratio(500, LRU, loop); got != 0 {
		t.Errorf("LRU in a loop: %.3f", got)
	}
	r := rand.New(rand.NewPCG(1, 2))
	zipf := rand.NewZipf(r, 1.1, 1, 100_000)
	scan := func(yield func(int) bool) {
		next := 1_000_000
		for i := range 300_000 {
			if i%20_000 < 15_000 {
				yield(int(zipf.Uint64()))
			} else {
				yield(next)
				next++
			}
		}
	}
	if got, lru := ratio(1000, Adaptive, scan), ratio(1000, LRU, scan); got < lru+0.05 {
		t.Errorf("Zipf with scans: %.3f, LRU %.3f", got, lru)
	}
	moving := func(yield func(int) bool) {
		for i := range 300_000 {
			yield(i/10 + r.IntN(500))
		}
	}
	if got := ratio(600, Adaptive, moving); got < 0.8 {
		t.Errorf("a set that moves: %.3f", got)
	}
}

func TestDeletedKeyReturnsWhereItWas(t *testing.T) {
	tr := New[int, int](Bounds{Entries: 200}, Adaptive)
	for k := range 200 {
		put(tr, k, k)
	}
	for range 5 { // 0 to 99 are hot
		for k := range 100 {
			tr.Load(k)
		}
		for k := 1000; k < 1200; k++ {
			if tr.Load(k) == nil {
				put(tr, k, k)
			}
		}
	}
	hot := tr.Peek(50)
	if hot == nil || hot.mark&inMain == 0 {
		t.Fatalf("a hot entry is not in main: %+v", hot)
	}
	freq := hot.freq
	tr.Delete(50)
	put(tr, 50, 51)
	if e := tr.Peek(50); e.mark&inMain == 0 || e.freq < min(freq, freqMax) {
		t.Errorf("it came back as %+v, with a frequency of %d before", e, freq)
	}
}
