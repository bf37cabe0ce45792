//go:build unix

package fleet

import (
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/flipcache/flipcache/internal/judge"
)

func newTable(t *testing.T, keys int) *judge.Table {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "table"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(judge.Size(keys)); err != nil {
		t.Fatal(err)
	}
	table, err := judge.Open(f, keys)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { table.Close() })
	return table
}

// The clock of these tests is seconds. A server was promoted at 100, or soon after.
const second = time.Second

func TestRefereeStrikesWhatAFailoverLost(t *testing.T) {
	for name, c := range map[string]struct {
		written map[uint64]time.Duration // version: when
		holds   uint64
		lost    uint64
		struck  []uint64
	}{
		"nothing is lost":                {map[uint64]time.Duration{2: 97, 3: 98, 4: 99}, 4, 0, nil},
		"two are":                        {map[uint64]time.Duration{2: 97, 3: 98, 4: 99}, 2, 2, []uint64{3, 4}},
		"a deposed master took some":     {map[uint64]time.Duration{2: 99, 3: 101, 4: 102}, 2, 2, []uint64{3, 4}},
		"the key is gone":                {map[uint64]time.Duration{2: 97}, 0, 1, []uint64{2}},
		"written since: nobody can tell": {map[uint64]time.Duration{2: 90, 3: 98, 4: 99, 5: 103}, 5, 0, []uint64{3, 4}},
		"written just now":               {map[uint64]time.Duration{2: 90, 3: 98}, 4, 0, []uint64{3}},
		"and then to a deposed master":   {map[uint64]time.Duration{2: 90, 3: 98, 4: 103, 5: 104}, 4, 1, []uint64{3, 5}},
	} {
		t.Run(name, func(t *testing.T) {
			table := newTable(t, 1)
			for v := uint64(2); v <= 5; v++ {
				if at, ok := c.written[v]; ok {
					table.Completed(0, 0, v, at*second)
				}
			}
			r := referee{table: table, keys: 1, name: "n", held: make(map[int]held)}
			r.strike(map[int]judge.Mark{0: table.Before(0)}, map[string]uint64{redisKey("n", 0, 0): c.holds}, 100*second)
			if r.lost != c.lost {
				t.Errorf("%d were lost, want %d", r.lost, c.lost)
			}
			gone := make(map[uint64]bool)
			for _, v := range c.struck {
				gone[v] = true
			}
			for v := range c.written {
				if _, there := table.CompletedAt(0, v); there == gone[v] {
					t.Errorf("version %d: counts %t", v, there)
				}
			}
		})
	}
}

// In one doubt that lasts, what was held at a look is known to have been there.
func TestRefereeRemembersWhatWasHeldInThisDoubt(t *testing.T) {
	table := newTable(t, 1)
	r := referee{table: table, keys: 1, name: "n", held: make(map[int]held)}
	look := func(holds uint64) {
		r.strike(map[int]judge.Mark{0: table.Before(0)}, map[string]uint64{redisKey("n", 0, 0): holds}, 100*second)
	}
	for v := uint64(2); v <= 6; v++ {
		table.Completed(0, 0, v, time.Duration(100+v)*second)
		if v == 4 {
			look(4) // 2 and 3 may have been a deposed master's
		}
	}
	look(6) // so may 5
	for v, want := range map[uint64]bool{2: false, 3: false, 4: true, 5: false, 6: true} {
		if _, ok := table.CompletedAt(0, v); ok != want {
			t.Errorf("version %d: counts %t, want %t", v, ok, want)
		}
	}
}

// A write that was under way at a failover, which lost it, may complete much later.
func TestRefereeStrikesWhatCompletesAfterItWasLost(t *testing.T) {
	table := newTable(t, 2)
	r := referee{table: table, keys: 2, name: "n", held: make(map[int]held), late: make(map[int]time.Duration)}
	look := func(holds uint64) {
		a := r.askFor(func(k int) bool { return r.late[k] != 0 })
		a.holds = map[string]uint64{redisKey("n", 0, 0): holds}
		r.strikeLate(a)
	}
	for k := range 2 {
		table.Completed(k, 0, 2, 90*second)
	}
	table.Begin(0, 99*second)
	maps.Copy(r.late, r.askFor(func(int) bool { return true }).underWay)
	for range 2 { // it has not completed, so nothing is lost
		if look(2); r.lost != 0 || len(r.late) != 1 {
			t.Fatalf("%d are lost, %v may be", r.lost, r.late)
		}
	}
	table.Completed(0, 0, 3, 105*second)
	table.End(0)
	table.Begin(0, 106*second) // which began when nothing was in doubt any more
	if look(2); r.lost != 1 || len(r.late) != 0 {
		t.Errorf("%d are lost, %v may be", r.lost, r.late)
	}
	if _, there := table.CompletedAt(0, 3); there {
		t.Error("a write that is lost counts")
	}
}

type ageMeter struct{ ages []time.Duration }

func (*ageMeter) Start()                                {}
func (*ageMeter) Read(time.Duration, bool) bool         { return false }
func (m *ageMeter) Stale(age time.Duration, local bool) { m.ages = append(m.ages, age) }
func (*ageMeter) End() any                              { return nil }

func TestReadsAreJudgedWhenTheRefereeHasLooked(t *testing.T) {
	table := newTable(t, 2)
	m := new(ageMeter)
	w := &worker{Config: Config{Refereed: true}, table: table, meter: m}
	for k := range 2 {
		table.Completed(k, 0, 2, 10*second)
		w.unjudged = append(w.unjudged, read{key: k, mark: table.Before(k), began: 11 * second, version: 1, looks: table.Looks()})
	}
	w.judgeThoseSeen()
	look := table.BeginLook()
	late := read{key: 1, mark: table.Before(1), began: 12 * second, version: 1, looks: table.Looks()}
	w.unjudged = append(w.unjudged, late)
	w.judgeThoseSeen()
	if len(m.ages) != 0 {
		t.Fatalf("judged before the referee has looked: %v", m.ages)
	}
	table.Strike(0, 2, 2)
	table.EndLook(look)
	w.judgeThoseSeen()
	if w.res.Stale != 1 || len(m.ages) != 1 || m.ages[0] != second {
		t.Errorf("%d are stale, of the ages %v: want that of the key that was not struck", w.res.Stale, m.ages)
	}
	if len(w.unjudged) != 1 {
		t.Errorf("%d wait for the next look, want the one that ended after this one had begun", len(w.unjudged))
	}
	table.EndLook(table.BeginLook())
	w.judgeThoseSeen()
	if w.res.Stale != 2 || len(w.unjudged) != 0 {
		t.Errorf("%d are stale, %d wait", w.res.Stale, len(w.unjudged))
	}
}
