package counter

import (
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStripedCountsExactly(t *testing.T) {
	var c Striped
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for range 10_000 {
				c.Inc()
			}
		})
	}
	wg.Wait()
	if got := c.Load(); got != 320_000 {
		t.Errorf("got %d, want 320000", got)
	}
}

func TestStripedAllocatesNothing(t *testing.T) {
	var c Striped
	if n := testing.AllocsPerRun(100, c.Inc); n != 0 {
		t.Errorf("Inc allocates %v times", n)
	}
}

func BenchmarkInc(b *testing.B) {
	var c Striped
	for b.Loop() {
		c.Inc()
	}
}
