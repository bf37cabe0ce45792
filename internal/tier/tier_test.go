package tier

import (
	"sync"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTierAgreesWithAPlainMapAndNeverExceedsItsCapacity(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		capacity := rapid.IntRange(1, 8).Draw(t, "capacity")
		tr := New[int, int](capacity)
		model := map[int]int{}
		t.Repeat(map[string]func(*rapid.T){
			"store": func(t *rapid.T) {
				k, v := rapid.IntRange(0, 20).Draw(t, "k"), rapid.Int().Draw(t, "v")
				tr.Store(k, &Entry[int, int]{Value: v})
				model[k] = v
				if e := tr.Load(k); e == nil || e.Value != v {
					t.Fatalf("key %d is not readable after Store", k)
				}
			},
			"load": func(t *rapid.T) {
				k := rapid.IntRange(0, 20).Draw(t, "k")
				if e := tr.Load(k); e != nil && e.Value != model[k] {
					t.Fatalf("key %d: got %d, want %d", k, e.Value, model[k])
				}
			},
			"delete": func(t *rapid.T) {
				k := rapid.IntRange(0, 20).Draw(t, "k")
				tr.Delete(k)
				delete(model, k)
				if tr.Load(k) != nil {
					t.Fatalf("key %d is there after Delete", k)
				}
			},
			"clear": func(t *rapid.T) {
				tr.Take()
				clear(model)
			},
			"": func(t *rapid.T) {
				n := 0
				for k := range 21 {
					if e, ok := tr.m.Load().Load(k); ok {
						if n++; e.key != k {
							t.Fatalf("entry of key %d says it is of %d", k, e.key)
						}
					}
				}
				if n != tr.Len() || n > tr.Cap() {
					t.Fatalf("%d entries, Len %d, Cap %d", n, tr.Len(), tr.Cap())
				}
			},
		})
	})
}

func TestTierSparesWhatWasHit(t *testing.T) {
	tr := New[int, int](3)
	for k := range 3 {
		tr.Store(k, &Entry[int, int]{Value: k})
	}
	tr.Load(0)
	tr.Store(3, &Entry[int, int]{})
	if tr.Load(0) == nil || tr.Load(1) != nil {
		t.Error("the oldest entry that was not hit must leave first")
	}
	if got := tr.Evicted(); got != 1 {
		t.Errorf("Evicted: got %d, want 1", got)
	}
}

func TestTierHoldsItsCapacityInABurst(t *testing.T) {
	tr := New[int, int](16)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 20_000 {
				k := (i*7 + g*13) % 64
				switch i % 5 {
				case 0:
					tr.Delete(k)
				case 1, 2:
					tr.Store(k, &Entry[int, int]{Value: k})
				default:
					if e := tr.Load(k); e != nil && e.Value != k {
						t.Errorf("key %d has the value of %d", k, e.Value)
					}
				}
				if i%1000 == 0 && tr.m.Load().Size() > 16 {
					t.Errorf("%d entries in a tier for 16", tr.m.Load().Size())
				}
			}
		})
	}
	wg.Wait()
	if tr.m.Load().Size() != tr.Len() {
		t.Errorf("map holds %d, queue %d", tr.m.Load().Size(), tr.Len())
	}
}
