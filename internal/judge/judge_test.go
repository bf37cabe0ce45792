//go:build unix

package judge

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func shared(t *testing.T, keys int) (a, b *Table) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "table"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(Size(keys)); err != nil {
		t.Fatal(err)
	}
	for _, p := range []**Table{&a, &b} {
		if *p, err = Open(f, keys); err != nil {
			t.Fatal(err)
		}
		tb := *p
		t.Cleanup(func() { tb.Close() })
	}
	return a, b
}

func TestReadIsStaleIffALaterWriteHadCompletedBefore(t *testing.T) {
	w, r := shared(t, 2)
	w.Completed(1, 0, 1, 100)
	w.Completed(1, 0, 2, 200)
	mark := r.Before(1)
	w.Completed(1, 0, 3, 300) // after the read began
	for _, c := range []struct {
		version uint64
		want    Verdict
	}{
		{3, Verdict{}},
		{2, Verdict{}},
		{1, Verdict{Stale: true, Age: 50}},
		{0, Verdict{Stale: true, Age: 150}},
	} {
		if got := r.Judge(1, mark, 250, c.version); got != c.want {
			t.Errorf("version %d: got %+v, want %+v", c.version, got, c.want)
		}
	}
	if got := r.Before(0); got != (Mark{}) {
		t.Errorf("the neighbour's mark is %+v", got)
	}
}

func TestVersionsThatNeverCompletedCountForNothing(t *testing.T) {
	w, r := shared(t, 1)
	for v := uint64(1); v <= ring; v++ {
		w.Completed(0, 0, v, time.Duration(v))
	}
	w.Completed(0, 1, ring+3, 1000) // two in between had an unknown outcome
	if got, want := r.Judge(0, r.Before(0), 1500, ring), (Verdict{Stale: true, Age: 500}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := r.Before(0); got != (Mark{Generation: 1, Version: ring + 3}) {
		t.Errorf("mark: %+v", got)
	}
}

func TestAgeBeyondTheRingIsALowerBound(t *testing.T) {
	w, r := shared(t, 1)
	const n = ring + 36
	for v := uint64(1); v <= n; v++ {
		w.Completed(0, 0, v, time.Duration(v*10))
	}
	if got, want := r.Judge(0, r.Before(0), 5000, 3), (Verdict{Stale: true, Age: 5000 - (n-ring+1)*10, AtLeast: true}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got, want := r.Judge(0, r.Before(0), 5000, n-ring), (Verdict{Stale: true, Age: 5000 - (n-ring+1)*10}); got != want {
		t.Errorf("just inside: got %+v, want %+v", got, want)
	}
}

func TestJudgeBesideAWriterNeverAccusesWrongly(t *testing.T) {
	w, r := shared(t, 1)
	w.Completed(0, 0, 1, Now())
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		for v := uint64(2); ; v++ {
			select {
			case <-stop:
				return
			default:
				w.Completed(0, 0, v, Now())
			}
		}
	})
	for range 200_000 {
		mark := r.Before(0)
		began := Now()
		if v := r.Judge(0, mark, began, mark.Version); v.Stale {
			t.Fatalf("the newest version is called stale: %+v", v)
		}
		if mark.Version < 2 {
			continue
		}
		if v := r.Judge(0, mark, began, mark.Version-1); !v.Stale || v.Age < 0 || v.Age > time.Minute {
			t.Fatalf("the one before: %+v", v)
		}
	}
	close(stop)
	wg.Wait()
}

func TestClockIsTheSystems(t *testing.T) {
	for range 1000 {
		before := monotonic()
		now := Now()
		after := monotonic()
		const slack = 50 * time.Microsecond
		if now < before-slack || now > after+slack {
			t.Fatalf("Now %v, the system's clock between %v and %v", now, before, after)
		}
	}
}
