package clock

import (
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAheadIsExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCoarse()
		defer c.Close()
		for i := range 1000 {
			time.Sleep(3 * time.Millisecond)
			now := c.Exact()
			for _, d := range []int64{now - 1, now, now + 1, now + int64(i)*int64(time.Millisecond), Never} {
				for _, until := range []int64{now - 1, now, now + 1, Never} {
					if got, want := c.Ahead(max(d, 0), until), d > now && until > now; got != want {
						t.Fatalf("Ahead(now%+d, now%+d): got %t", d-now, until-now, got)
					}
				}
			}
		}
	})
}

func TestCoarseLagsByATickAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCoarse()
		defer c.Close()
		c.Ahead(Never, Never)
		for range 1000 {
			time.Sleep(3 * time.Millisecond)
			synctest.Wait()
			c.Ahead(Never, Never)
			if lag := time.Duration(c.Exact() - int64(c.v.Load()-uint64(Slack))); lag < 0 || lag > Tick {
				t.Fatalf("the coarse clock lags by %v", lag)
			}
		}
	})
}

func TestCoarseParksWhenIdleAndIsExactOnReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCoarse()
		defer c.Close()
		c.Ahead(Never, Never)
		time.Sleep(2 * idleTicks * Tick)
		synctest.Wait()
		if got := c.v.Load(); got != parked {
			t.Fatalf("after %d idle ticks the clock still runs: %d", 2*idleTicks, got)
		}
		past := c.Exact() + 1
		time.Sleep(time.Hour)
		if c.Ahead(past, Never) {
			t.Error("a deadline that passed while the clock was parked is ahead")
		}
		if c.v.Load() == parked {
			t.Error("the first question did not start the ticker")
		}
	})
}

// Under a lease the coarse clock is not believed: a process that was stopped
// has one that stands still.
func TestUntilIsComparedWithTheExactClock(t *testing.T) {
	now := int64(0)
	c := NewManual(func() int64 { return now })
	c.v.Store(uint64(Slack)) // a ticker that stands still
	now = int64(time.Hour)
	if c.Ahead(Never, now) {
		t.Error("until has passed")
	}
	if !c.Ahead(Never, now+1) {
		t.Error("until is ahead")
	}
}

func TestCoarseWorksAfterClose(t *testing.T) {
	c := NewCoarse()
	c.Ahead(Never, Never)
	c.Close()
	c.Close()
	if now := c.Exact(); c.Ahead(now, Never) || !c.Ahead(now+int64(time.Hour), Never) {
		t.Error("not exact after Close")
	}
}

func TestManualClockShowsWhatTheTestSays(t *testing.T) {
	now := int64(41)
	c := NewManual(func() int64 { return now })
	for range 3 {
		now++
		if got := c.Exact(); got != now || c.Ahead(now, Never) || !c.Ahead(now+1, Never) {
			t.Errorf("got %d, want %d", got, now)
		}
	}
}

func BenchmarkCoarse(b *testing.B) {
	c := NewCoarse()
	defer c.Close()
	for b.Loop() {
		c.Ahead(Never, Never)
	}
}

func BenchmarkExact(b *testing.B) {
	for b.Loop() {
		Now()
	}
}
