//go:build unix

package judge

import (
	"testing"
	"time"
)

func TestWhatRedisHasLostIsNoLaterVersion(t *testing.T) {
	w, r := shared(t, 1)
	referee := r
	for v := uint64(1); v <= 5; v++ {
		w.Completed(0, 0, v, time.Duration(v*100))
	}
	if n := referee.Strike(0, 4, 5); n != 2 {
		t.Errorf("%d were struck, want 2", n)
	}
	if n := referee.Strike(0, 4, 9); n != 0 {
		t.Errorf("%d were struck that were not there", n)
	}
	mark := r.Before(0)
	for version, want := range map[uint64]Verdict{
		5: {}, 4: {}, 3: {}, // a tier may hold what Redis has lost, until the owner writes again
		2: {Stale: true, Age: 700}, // Redis held 3 all the time
	} {
		if got := r.Judge(0, mark, 1000, version); got != want {
			t.Errorf("version %d: got %+v, want %+v", version, got, want)
		}
	}
	w.Completed(0, 0, 6, 1100) // from then on all older ones are stale
	mark = r.Before(0)
	for version, want := range map[uint64]Verdict{6: {}, 5: {Stale: true, Age: 400}, 3: {Stale: true, Age: 400}, 2: {Stale: true, Age: 1200}} {
		if got := r.Judge(0, mark, 1500, version); got != want {
			t.Errorf("after the owner's next write, version %d: got %+v, want %+v", version, got, want)
		}
	}
}

func TestStrikeLeavesWhatTheRingRemembersOfOthers(t *testing.T) {
	w, r := shared(t, 1)
	for v := uint64(1); v <= ring+10; v++ {
		w.Completed(0, 0, v, time.Duration(v))
	}
	if n := r.Strike(0, 0, 20); n != 10 { // 11 to 20 are remembered
		t.Errorf("%d were struck, want 10", n)
	}
	if _, ok := r.CompletedAt(0, 20); ok {
		t.Error("20 is there")
	}
	if at, ok := r.CompletedAt(0, ring+5); !ok || at != ring+5 {
		t.Errorf("another one: %v, %v", at, ok)
	}
	for at, want := range map[time.Duration]uint64{ring + 8: ring + 7, 1000: ring + 8, 15: 0} { // 15 is no more remembered, or struck
		if got := r.CompletedBefore(0, ring+9, at); got != want {
			t.Errorf("the newest before %d: got %d, want %d", at, got, want)
		}
	}
	if n := r.Strike(0, 0, 1<<39); n != 0 { // bounded, however large
		t.Errorf("%d were struck", n)
	}
	if n := r.Strike(0, 21, ring+10); n != ring-10 {
		t.Errorf("%d were struck, want all that are left", n)
	}
}

func TestLooksAreCounted(t *testing.T) {
	reader, referee := shared(t, 1)
	before := reader.Looks()
	if reader.Looked() > before {
		t.Error("nobody has looked")
	}
	look := referee.BeginLook()
	if during := reader.Looks(); during != look || reader.Looked() > before {
		t.Errorf("during a look: %d begun, %d over", during, reader.Looked())
	}
	referee.EndLook(look)
	if reader.Looked() <= before {
		t.Error("a look is over, and not seen")
	}
	if during := reader.Looks(); reader.Looked() > during {
		t.Error("a read that ends now has to wait for another look")
	}
}
