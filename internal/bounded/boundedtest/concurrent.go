package boundedtest

import (
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"pgregory.net/rapid"
)

// RunConcurrent runs the suite for containers of several shards, of which it is
// only said what they hold, not in which order.
func RunConcurrent(t *testing.T, newContainer Maker) {
	s := suite{newContainer: newContainer}
	t.Run("capacities below 1 are refused", s.refusesCapacities)
	t.Run("holds what was set and did not leave", s.holdsWhatDidNotLeave)
	t.Run("a callback may call every method", s.callbackMayCallEveryMethod)
	t.Run("a loop may call every method", s.loopMayCallEveryMethod)
	t.Run("a callback that panics leaves it usable", s.callbackMayPanic)
	t.Run("goroutines see every entry leave once", s.everyEntryLeavesOnce)
	t.Run("goroutines may range and change", s.rangeAndChange)
	t.Run("is linearizable", s.isLinearizable)
	t.Run("hits allocate nothing", func(t *testing.T) {
		c := s.open(t, 100, nil)
		c.Set(1, 1)
		if n := testing.AllocsPerRun(1000, func() { c.Get(1); c.Peek(1); c.Get(2) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

// holdsWhatDidNotLeave compares the container with a map from which is taken what
// the callback says has left.
func (s suite) holdsWhatDidNotLeave(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		capacity := rapid.SampledFrom([]int{1, 2, 3, 5, 8, 600}).Draw(t, "capacity")
		model := map[int]int{}
		evicted := 0
		c, err := s.newContainer(capacity, func(key, value int, why string) {
			if model[key] != value {
				t.Fatalf("%d=%d left (%s): it was %d", key, value, why, model[key])
			}
			delete(model, key)
			if why == "evicted" {
				evicted++
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		key := func(t *rapid.T) int { return rapid.IntRange(0, 2*capacity).Draw(t, "key") }
		same := func(t *rapid.T, what string, key, got int, found bool) {
			if want, there := model[key]; got != want || found != there {
				t.Fatalf("%s(%d): got %d, %t, want %d, %t", what, key, got, found, want, there)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"Get":  func(t *rapid.T) { k := key(t); v, ok := c.Get(k); same(t, "Get", k, v, ok) },
			"Peek": func(t *rapid.T) { k := key(t); v, ok := c.Peek(k); same(t, "Peek", k, v, ok) },
			"Contains": func(t *rapid.T) {
				k := key(t)
				same(t, "Contains", k, model[k], c.Contains(k))
			},
			"Set": func(t *rapid.T) {
				k, v := key(t), rapid.IntRange(1, 1_000_000).Draw(t, "value")
				before, full := evicted, c.Len() == capacity
				old, replaced := c.Set(k, v)
				if replaced {
					same(t, "Set", k, old, true)
				}
				if _, there := model[k]; there != replaced {
					t.Fatalf("Set(%d): replaced %t", k, replaced)
				}
				model[k] = v
				if evicted > before && (replaced || capacity < 512 && !full) {
					t.Fatal("an entry was evicted although there was room")
				}
				got, ok := c.Peek(k)
				same(t, "Peek after Set", k, got, ok)
			},
			"Set many": func(t *rapid.T) {
				for k := range rapid.IntRange(1, 3*capacity).Draw(t, "keys") {
					c.Set(k, k+1)
					model[k] = k + 1
				}
			},
			"Delete": func(t *rapid.T) {
				k := key(t)
				_, there := model[k]
				if got := c.Delete(k); got != there {
					t.Fatalf("Delete(%d): got %t", k, got)
				}
			},
			"Clear": func(t *rapid.T) { c.Clear() },
			"": func(t *rapid.T) {
				n := 0
				for k, v := range c.All() {
					same(t, "All", k, v, true)
					n++
				}
				if n != len(model) || c.Len() != n || n > capacity || c.Cap() != capacity {
					t.Fatalf("All %d, Len %d, Cap %d: want %d of %d", n, c.Len(), c.Cap(), len(model), capacity)
				}
			},
		})
	})
}

// A step is what a goroutine did, or saw leave.
type step struct {
	op         string // get, set, delete, evicted
	key, value int
}

// outcome is what came back, and the state of a key.
type outcome struct {
	value int
	found bool
}

// register is the model of one key: it is what was set last, until it leaves.
var register = porcupine.Model{
	Partition: func(history []porcupine.Operation) (parts [][]porcupine.Operation) {
		byKey := map[int][]porcupine.Operation{}
		for _, op := range history {
			byKey[op.Input.(step).key] = append(byKey[op.Input.(step).key], op)
		}
		for _, part := range byKey {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() any { return outcome{} },
	Step: func(state, input, output any) (bool, any) {
		was, did, got := state.(outcome), input.(step), output.(outcome)
		switch did.op {
		case "get":
			return got == was, was
		case "set":
			return got == was, outcome{did.value, true}
		case "delete":
			return got.found == was.found, outcome{}
		}
		return got == was, outcome{} // evicted
	},
	Equal: func(a, b any) bool { return a == b },
}

// isLinearizable has goroutines record what they do and what they see evicted,
// and has the history of each key checked: a Get that begins when a Set, a Delete
// or an eviction is over sees it.
func (s suite) isLinearizable(t *testing.T) {
	const rounds, workers, steps, keys = 40, 4, 60, 12
	for round := range rounds {
		start := time.Now()
		now := func() int64 { return int64(time.Since(start)) }
		var mu sync.Mutex // guards history
		var history []porcupine.Operation
		record := func(worker int, did step, call int64, got outcome) {
			mu.Lock()
			defer mu.Unlock()
			history = append(history, porcupine.Operation{ClientId: worker, Input: did, Call: call, Output: got, Return: now()})
		}
		c := s.open(t, 8, func(key, value int, why string) {
			if why == "evicted" { // some time before now
				record(workers, step{op: "evicted", key: key}, 0, outcome{value, true})
			}
		})
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				for i := range steps {
					did := step{op: "get", key: (i*5 + w*3 + round) % keys}
					var got outcome
					call := now()
					switch (i + w) % 6 {
					case 0, 1, 2:
						got.value, got.found = c.Get(did.key)
					case 3, 4:
						did.op, did.value = "set", 1+w*steps+i
						got.value, got.found = c.Set(did.key, did.value)
					default:
						did.op = "delete"
						got.found = c.Delete(did.key)
					}
					record(w, did, call, got)
				}
			})
		}
		wg.Wait()
		if !porcupine.CheckOperations(register, history) {
			t.Fatalf("round %d: the history of %d operations is not linearizable", round, len(history))
		}
	}
}
