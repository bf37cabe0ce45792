package hybrid

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flipcache/flipcache/internal/redistest"
	"github.com/flipcache/flipcache/invalidate"
)

func TestTimeoutsAreSharedAndNeverShorter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, cancel := context.WithCancel(context.Background())
		const timeout = 1600 * time.Millisecond
		b := &timeouts{parent: parent, timeout: timeout}
		contexts := map[context.Context]bool{}
		for range 200 {
			begin, ctx := time.Now(), b.context()
			contexts[ctx] = true
			end, ok := ctx.Deadline()
			if life := end.Sub(begin); !ok || life < timeout || life > timeout+timeout/boundShare {
				t.Fatalf("a context lives for %v", life)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if n := len(contexts); n != 20 {
			t.Errorf("%d contexts in 2 s, want 20", n)
		}
		ctx := b.context()
		time.Sleep(timeout + timeout/boundShare)
		synctest.Wait()
		if err := context.Cause(ctx); !errors.Is(err, errTimeout) {
			t.Errorf("it ended by %v", err)
		}
		ctx = b.context()
		cancel()
		if !errors.Is(ctx.Err(), context.Canceled) {
			t.Errorf("its parent's end: %v", ctx.Err())
		}
	})
}

// The longest durations are long, not short.
func TestLongestTimeoutEndsNothing(t *testing.T) {
	s := redistest.Real(t)
	for _, mode := range []invalidate.Mode{invalidate.Off, invalidate.PubSub, invalidate.Tracking} {
		p := join(t, s, mode, func(o *StoreOptions, _ *Options[string, string]) { o.Timeout = math.MaxInt64 })
		p.set(t, "k", "v")
		if v, err := p.Fresh().Get(ctx, "k"); err != nil || v != "v" {
			t.Errorf("%v: got %q, %v", mode, v, err)
		}
	}
}
