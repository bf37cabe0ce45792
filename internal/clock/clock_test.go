package clock

import (
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestCoarseLagsByATickAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCoarse()
		defer c.Close()
		for range 1000 {
			time.Sleep(3 * time.Millisecond)
			exact, coarse := c.Exact(), c.Now()
			if coarse > exact {
				t.Fatalf("coarse clock is ahead: %d > %d", coarse, exact)
			}
			if lag := time.Duration(exact - coarse); lag > Tick+2 { // two bits of a nanosecond carry the mark
				t.Fatalf("coarse clock lags by %v", lag)
			}
		}
	})
}

func TestCoarseParksWhenIdleAndIsExactOnReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCoarse()
		defer c.Close()
		c.Now()
		time.Sleep(2 * idleTicks * Tick)
		synctest.Wait()
		if got := c.v.Load(); got != parked {
			t.Fatalf("after %d idle ticks the clock still runs: %d", 2*idleTicks, got)
		}
		time.Sleep(time.Hour)
		if got, want := c.Now(), c.Exact(); got != want {
			t.Errorf("first reading after parking: got %d, want the exact %d", got, want)
		}
		if c.v.Load() == parked {
			t.Error("the first reading did not start the ticker")
		}
	})
}

func TestCoarseStaysReadableAfterClose(t *testing.T) {
	c := NewCoarse()
	c.Now()
	c.Close()
	c.Close()
	if got := c.Now(); got > c.Exact() {
		t.Errorf("reading after Close is ahead by %d", got-c.Exact())
	}
}

func TestManualClockShowsWhatTheTestSays(t *testing.T) {
	now := int64(41)
	c := NewManual(func() int64 { return now })
	for range 3 {
		now++
		if got := c.Now(); got != now {
			t.Errorf("got %d, want %d", got, now)
		}
	}
}

func BenchmarkCoarse(b *testing.B) {
	c := NewCoarse()
	defer c.Close()
	for b.Loop() {
		c.Now()
	}
}

func BenchmarkExact(b *testing.B) {
	for b.Loop() {
		Now()
	}
}
