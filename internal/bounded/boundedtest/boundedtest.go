// Package boundedtest is the test suite of the containers in lru and fifo. What
// each does is written down once, as a naive model.
package boundedtest

import (
	"fmt"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"
)

// Container is what the suite tests.
type Container interface {
	Get(key int) (int, bool)
	Peek(key int) (int, bool)
	Contains(key int) bool
	Set(key, value int) (int, bool)
	Delete(key int) bool
	Clear()
	Len() int
	Cap() int
	All() iter.Seq2[int, int]
	Keys() iter.Seq[int]
}

// Ordered is a Container with one line of entries.
type Ordered interface {
	Container
	Oldest() (int, int, bool)
}

// A Maker makes the container under test, an Ordered for Run. why is "evicted",
// "deleted" or "cleared".
type Maker func(capacity int, onEvict func(key, value int, why string)) (Container, error)

// Run runs the suite for containers with one line of entries. renew says whether a Get and an update make an entry the
// youngest, shared whether goroutines may share the container.
func Run(t *testing.T, renew, shared bool, newContainer Maker) {
	s := suite{renew: renew, newContainer: newContainer}
	t.Run("agrees with the model", s.agreesWithTheModel)
	t.Run("capacities below 1 are refused", s.refusesCapacities)
	t.Run("a callback may call every method", s.callbackMayCallEveryMethod)
	t.Run("a loop may call every method", s.loopMayCallEveryMethod)
	t.Run("a callback that panics leaves it usable", s.callbackMayPanic)
	t.Run("hits, updates and evictions allocate nothing", s.allocatesNothing)
	if shared {
		t.Run("goroutines see every entry leave once", s.everyEntryLeavesOnce)
		t.Run("goroutines may range and change", s.rangeAndChange)
	}
}

type suite struct {
	renew        bool
	newContainer Maker
}

func (s suite) open(t testing.TB, capacity int, onEvict func(key, value int, why string)) Container {
	t.Helper()
	c, err := s.newContainer(capacity, onEvict)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// model is the line of entries, oldest first.
type model struct {
	capacity int
	renew    bool
	line     [][2]int
	left     []string
}

func (m *model) find(key int) int {
	return slices.IndexFunc(m.line, func(e [2]int) bool { return e[0] == key })
}

func (m *model) leave(i int, why string) {
	m.left = append(m.left, event(m.line[i][0], m.line[i][1], why))
	m.line = slices.Delete(m.line, i, i+1)
}

func event(key, value int, why string) string { return fmt.Sprintf("%d=%d %s", key, value, why) }

func (m *model) get(key int, renew bool) (int, bool) {
	i := m.find(key)
	if i < 0 {
		return 0, false
	}
	e := m.line[i]
	if renew {
		m.line = append(slices.Delete(m.line, i, i+1), e)
	}
	return e[1], true
}

func (m *model) set(key, value int) (int, bool) {
	old, replaced := m.get(key, m.renew)
	if replaced {
		m.line[m.find(key)][1] = value
		return old, true
	}
	if len(m.line) == m.capacity {
		m.leave(0, "evicted")
	}
	m.line = append(m.line, [2]int{key, value})
	return 0, false
}

func (s suite) agreesWithTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{capacity: rapid.SampledFrom([]int{1, 2, 3, 5, 8}).Draw(t, "capacity"), renew: s.renew}
		var left []string
		c, err := s.newContainer(m.capacity, func(key, value int, why string) { left = append(left, event(key, value, why)) })
		if err != nil {
			t.Fatal(err)
		}
		key := func(t *rapid.T) int { return rapid.IntRange(0, 12).Draw(t, "key") }
		same := func(t *rapid.T, what string, got, want int, gotOK, wantOK bool) {
			if got != want || gotOK != wantOK {
				t.Fatalf("%s: got %d, %t, want %d, %t", what, got, gotOK, want, wantOK)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"set": func(t *rapid.T) {
				k, v := key(t), rapid.IntRange(1, 99).Draw(t, "value")
				got, gotOK := c.Set(k, v)
				want, wantOK := m.set(k, v)
				same(t, "Set", got, want, gotOK, wantOK)
			},
			"get": func(t *rapid.T) {
				k := key(t)
				got, gotOK := c.Get(k)
				want, wantOK := m.get(k, m.renew)
				same(t, "Get", got, want, gotOK, wantOK)
			},
			"peek": func(t *rapid.T) {
				k := key(t)
				got, gotOK := c.Peek(k)
				want, wantOK := m.get(k, false)
				same(t, "Peek", got, want, gotOK, wantOK)
				same(t, "Contains", 0, 0, c.Contains(k), wantOK)
			},
			"delete": func(t *rapid.T) {
				k := key(t)
				i := m.find(k)
				same(t, "Delete", 0, 0, c.Delete(k), i >= 0)
				if i >= 0 {
					m.leave(i, "deleted")
				}
			},
			"clear": func(t *rapid.T) {
				c.Clear()
				for len(m.line) > 0 {
					m.leave(0, "cleared")
				}
			},
			"": func(t *rapid.T) {
				var line [][2]int
				for k, v := range c.All() {
					line = append(line, [2]int{k, v})
				}
				if !slices.Equal(line, m.line) {
					t.Fatalf("All: got %v, want %v", line, m.line)
				}
				i := 0
				for k := range c.Keys() {
					same(t, "Keys", k, m.line[i][0], true, true)
					i++
				}
				same(t, "the number of Keys", i, len(m.line), true, true)
				same(t, "Len", c.Len(), len(m.line), true, true)
				same(t, "Cap", c.Cap(), m.capacity, true, true)
				k, v, ok := c.(Ordered).Oldest()
				if len(m.line) == 0 {
					same(t, "Oldest", k, 0, ok, false)
				} else {
					same(t, "Oldest's key", k, m.line[0][0], ok, true)
					same(t, "Oldest's value", v, m.line[0][1], ok, true)
				}
				if !slices.Equal(left, m.left) {
					t.Fatalf("left: got %v, want %v", left, m.left)
				}
			},
		})
	})
}

func (s suite) refusesCapacities(t *testing.T) {
	for _, capacity := range []int{0, -1} {
		if _, err := s.newContainer(capacity, nil); err == nil {
			t.Errorf("capacity %d: got no error", capacity)
		}
	}
}

// everyMethod calls every method of c.
func everyMethod(c Container, key int) {
	c.Get(key)
	c.Peek(key)
	c.Contains(key)
	if c, ok := c.(Ordered); ok {
		c.Oldest()
	}
	c.Len()
	c.Cap()
	for range c.All() {
		break
	}
	for range c.Keys() {
		break
	}
	c.Delete(key)
	c.Set(key, key)
}

func (s suite) callbackMayCallEveryMethod(t *testing.T) {
	for _, way := range []string{"evicted", "deleted", "cleared"} {
		var c Container
		var left []string
		c = s.open(t, 3, func(key, value int, why string) {
			left = append(left, why)
			if len(left) < 10 { // each of the calls may evict again
				everyMethod(c, key+1)
			}
			if c.Len() > c.Cap() {
				t.Errorf("%d entries of %d", c.Len(), c.Cap())
			}
		})
		for k := range 3 {
			c.Set(k*10, k)
		}
		switch way {
		case "evicted":
			c.Set(99, 99)
		case "deleted":
			c.Delete(10)
		case "cleared":
			c.Clear()
		}
		if len(left) == 0 || left[0] != way {
			t.Errorf("%s: callbacks said %v", way, left)
		}
	}
}

func (s suite) loopMayCallEveryMethod(t *testing.T) {
	c := s.open(t, 100, nil)
	for k := range 100 {
		c.Set(k, k)
	}
	seen := 0
	for k, v := range c.All() {
		if _, ordered := c.(Ordered); k != v || ordered && k != seen {
			t.Errorf("entry %d is %d=%d", seen, k, v)
		}
		seen++
		c.Get(k)
		everyMethod(c, k+1000)
		c.Delete(k)
		if k == 50 {
			c.Clear()
		}
	}
	if seen != 100 {
		t.Errorf("the loop saw %d of 100 entries", seen)
	}
}

func (s suite) callbackMayPanic(t *testing.T) {
	panics := true
	c := s.open(t, 2, func(int, int, string) {
		if panics {
			panic("callback")
		}
	})
	for name, f := range map[string]func(){
		"Set":    func() { c.Set(3, 3) },
		"Delete": func() { c.Delete(2) },
		"Clear":  func() { c.Clear() },
	} {
		panics = false
		c.Clear()
		c.Set(1, 1)
		c.Set(2, 2)
		panics = true
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: the panic was swallowed", name)
				}
			}()
			f()
		}()
		panics = false
		c.Set(7, 8)
		if v, ok := c.Get(7); v != 8 || !ok || c.Len() > c.Cap() {
			t.Errorf("after a panic in %s: Get %d, %t, Len %d", name, v, ok, c.Len())
		}
	}
}

func (s suite) allocatesNothing(t *testing.T) {
	evicted := 0
	c := s.open(t, 64, func(int, int, string) { evicted++ })
	for k := range 64 {
		c.Set(k, k)
	}
	next := 64
	for name, f := range map[string]func(){
		"Get":               func() { c.Get(next - 1) },
		"Set of a key":      func() { c.Set(next-1, 1) },
		"Set with eviction": func() { c.Set(next, next); next++ },
	} {
		if n := testing.AllocsPerRun(1000, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	if evicted != next-64 {
		t.Errorf("%d evictions of %d", evicted, next-64)
	}
}

const goroutines = 8

func (s suite) everyEntryLeavesOnce(t *testing.T) {
	const sets = 1_000_000 / goroutines
	var inserted, left atomic.Int64
	c := s.open(t, 100, func(int, int, string) { left.Add(1) })
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := range sets {
				key := (i*7 + g*3) % 250
				if _, replaced := c.Set(key, i); !replaced {
					inserted.Add(1)
				}
				switch i % 1000 {
				case 0:
					if n := c.Len(); n > c.Cap() {
						t.Errorf("%d entries of %d", n, c.Cap())
					}
				case 500:
					c.Delete(key)
				case 999:
					if g == 0 {
						c.Clear()
					}
				}
			}
		})
	}
	wg.Wait()
	if n := inserted.Load() - left.Load(); n != int64(c.Len()) || left.Load() < 1000 {
		t.Errorf("%d came and %d left: want %d, got %d there", inserted.Load(), left.Load(), n, c.Len())
	}
}

func (s suite) rangeAndChange(t *testing.T) {
	var c Container
	var depth atomic.Int64
	c = s.open(t, 50, func(key, _ int, _ string) {
		if depth.Add(1) < goroutines { // callbacks of callbacks end
			everyMethod(c, key+1)
		}
		depth.Add(-1)
	})
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := range 100 {
				for k := range c.All() {
					if k%goroutines == g {
						everyMethod(c, k)
						c.Delete(k)
					}
				}
				for k := range 20 {
					c.Set(i*k+g, k)
				}
				if i%10 == g {
					c.Clear()
				}
			}
		})
	}
	wg.Wait()
	if c.Len() > c.Cap() {
		t.Errorf("%d entries of %d", c.Len(), c.Cap())
	}
}
