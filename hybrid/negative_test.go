package hybrid

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/internal/redistest"
	"github.com/flipcache/flipcache/invalidate"
)

// H9: "not found" remembered by A, B writes the key.
func TestH9_RememberedAbsenceEndsWithAnothersWrite(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		o := Options[string, string]{NegativeTTL: time.Hour}
		a, b := joinAs(t, s, invalidate.PubSub, o), joinAs(t, s, invalidate.PubSub, o)
		heard := newEar(t, a.store, admin)
		a.wantMissing(t, "k")
		before := a.fillCount()
		a.wantMissing(t, "k")
		if n := a.fillCount() - before; n != 0 {
			t.Fatalf("a remembered absence asked Redis %d times", n)
		}
		b.must(t, b.Set(ctx, "k", "v"))
		heard.drain(t)
		wantValue(t, a, "k", "v")

		// One that is under way when the write comes.
		b.must(t, b.Delete(ctx, "k"))
		heard.drain(t)
		g := newGateOn(a.store, afterReadReply, "k")
		wait := async(func() { a.Get(ctx, "k") })
		<-g.reached
		b.must(t, b.Set(ctx, "k", "w"))
		heard.drain(t)
		close(g.open)
		wait()
		wantValue(t, a, "k", "w")
	})
}

func TestH9_RememberedAbsenceKeepsNobodyFromLoading(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		a := joinAs(t, s, invalidate.PubSub, Options[string, string]{NegativeTTL: time.Hour})
		a.wantMissing(t, "k")
		if !a.held("k") {
			t.Fatal("the absence is not remembered")
		}
		if v, err := a.GetOrLoad(ctx, "k", value("loaded")); v != "loaded" || err != nil {
			t.Errorf("GetOrLoad: %q, %v", v, err)
		}
		wantValue(t, a, "k", "loaded")
	})
}

func TestH9_OnlyErrNotFoundOfTheLoaderIsRemembered(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		o := Options[string, string]{NegativeTTL: time.Hour}
		a, b := joinAs(t, s, invalidate.PubSub, o), joinAs(t, s, invalidate.PubSub, o)
		heard := newEar(t, a.store, admin)
		other := errors.New("the database is away")
		calls := 0
		load := func(err error) error {
			_, err = a.GetOrLoad(ctx, "k", func(context.Context, string) (string, error) {
				calls++
				return "leaked", err
			})
			return err
		}
		for range 3 {
			if err := load(other); !errors.Is(err, other) {
				t.Errorf("got %v, want the loader's error", err)
			}
		}
		if calls != 3 {
			t.Errorf("%d loads, want one for each call: the error was remembered", calls)
		}
		for range 3 {
			if err := load(fmt.Errorf("no row: %w", ErrNotFound)); !errors.Is(err, ErrNotFound) {
				t.Errorf("got %v, want ErrNotFound", err)
			}
		}
		if calls != 4 {
			t.Errorf("%d loads, want 4: ErrNotFound was not remembered", calls)
		}
		before := a.fillCount()
		a.wantMissing(t, "k")
		if n := a.fillCount() - before; n != 0 {
			t.Errorf("Get asked Redis %d times for what the loader knew to be absent", n)
		}
		b.must(t, b.Set(ctx, "k", "v"))
		heard.drain(t)
		wantValue(t, a, "k", "v")
	})
}

// The loader's word that there is nothing, and a write meanwhile.
func TestH9_AbsenceOfBeforeAWriteIsNotRemembered(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		o := Options[string, string]{NegativeTTL: time.Hour}
		a, b := joinAs(t, s, invalidate.PubSub, o), joinAs(t, s, invalidate.PubSub, o)
		heard := newEar(t, a.store, admin)
		g := newGateOn(a.store, afterTokenIsLaid, "k")
		wait := async(func() {
			a.GetOrLoad(ctx, "k", func(context.Context, string) (string, error) { return "", ErrNotFound })
		})
		<-g.reached
		b.must(t, b.Set(ctx, "k", "v"))
		heard.drain(t)
		close(g.open)
		wait()
		wantValue(t, a, "k", "v")
	})
}

func TestH9_AbsenceIsForgottenAfterNegativeTTL(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	st := openStore(t, s, invalidate.Off)
	advance := manualClock(st)
	a := peer[string, string]{newOn(t, st, "n", Options[string, string]{NegativeTTL: time.Minute}), st}
	a.wantMissing(t, "k")
	redistest.Do(t, admin, "SET", "n:k", "v") // nobody announces it
	advance(time.Minute - 1)
	a.wantMissing(t, "k")
	advance(1)
	wantValue(t, a, "k", "v")
}
