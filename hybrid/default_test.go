package hybrid

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/internal/redistest"
	"github.com/flipcache/flipcache/invalidate"
)

// H27: a default materialised by two processes at once: the winner's is what
// both return.
func TestH27_DefaultsOfTwoProcessesAtOnceAgree(t *testing.T) {
	eachMode(t, func(t *testing.T, mode invalidate.Mode, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		first := newHeldLoader("first's")
		a := joinAs(t, s, mode, Options[string, string]{Default: func(k string) (string, error) { return first.load(ctx, k) }})
		b := joinAs(t, s, mode, Options[string, string]{Default: func(string) (string, error) { return "second's", nil }})
		var got string
		var err error
		wait := async(func() { got, err = a.Get(ctx, "k") })
		<-first.inside
		wantValue(t, b, "k", "second's")
		close(first.open)
		wait()
		if err != nil || got != "second's" {
			t.Errorf("the process that came too late returns %q, %v", got, err)
		}
		if v := stored(t, admin, "k"); v != "second's" {
			t.Errorf("Redis holds %q", v)
		}
		wantValue(t, a, "k", "second's")
	})
}

func TestH27_DefaultDoesNotGoOverAFreshWrite(t *testing.T) {
	eachMode(t, func(t *testing.T, mode invalidate.Mode, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		l := newHeldLoader("default")
		a := joinAs(t, s, mode, Options[string, string]{Default: func(k string) (string, error) { return l.load(ctx, k) }})
		b := joinAs(t, s, mode, Options[string, string]{})
		for _, writer := range []peer[string, string]{a, b} {
			redistest.Do(t, admin, "DEL", "n:k")
			a.must(t, a.Delete(ctx, "k"))
			l.inside, l.open = make(chan struct{}, 1), make(chan struct{})
			var got string
			wait := async(func() { got, _ = a.Get(ctx, "k") })
			<-l.inside
			writer.must(t, writer.Set(ctx, "k", "fresh"))
			close(l.open)
			wait()
			if got != "fresh" || stored(t, admin, "k") != "fresh" {
				t.Errorf("the reader got %q, Redis holds %q", got, stored(t, admin, "k"))
			}
			wantValue(t, a, "k", "fresh")
		}
	})
}

func TestH27_DefaultIsAskedOnceForManyReaders(t *testing.T) {
	s := redistest.Real(t)
	var asked atomic.Int32
	a := joinAs(t, s, invalidate.PubSub, Options[string, string]{Default: func(k string) (string, error) {
		asked.Add(1)
		return "of " + k, nil
	}})
	keys := []string{key(0), key(1), key(2)}
	repeat(60, func(i int) {
		if i%4 == 0 {
			if m, err := a.GetMany(ctx, keys); err != nil || len(m) != 3 {
				t.Errorf("GetMany: %v, %v", m, err)
			}
			return
		}
		wantValue(t, a, keys[i%3], "of "+keys[i%3])
	})
	if n := asked.Load(); n != 3 {
		t.Errorf("the default was asked %d times for 3 keys", n)
	}
}

// H29, for Default: the first reader's end, a panic and an error of Default.
func TestH29_DefaultThatFailsOrHangsHurtsItsOwnReadersOnly(t *testing.T) {
	s := redistest.Real(t)
	var behave atomic.Value // func() (string, error)
	var asked atomic.Int32
	inside := make(chan struct{}, 100)
	a := joinAs(t, s, invalidate.PubSub, Options[string, string]{Default: func(string) (string, error) {
		asked.Add(1)
		inside <- struct{}{}
		return behave.Load().(func() (string, error))()
	}})
	open := make(chan struct{})
	behave.Store(func() (string, error) { <-open; return "v", nil })
	leader, cancel := context.WithCancel(ctx)
	var leaderErr error
	waitLeader := async(func() { _, leaderErr = a.Get(leader, "k") })
	<-inside
	values := make(chan string, 9)
	waitAll := async(func() {
		repeat(9, func(int) { v, _ := a.Get(ctx, "k"); values <- v })
	})
	cancel()
	waitLeader()
	if !errors.Is(leaderErr, context.Canceled) {
		t.Errorf("the leader left with %v", leaderErr)
	}
	close(open)
	waitAll()
	for range 9 {
		if v := <-values; v != "v" {
			t.Errorf("a waiter got %q", v)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("the default was asked %d times", n)
	}

	behave.Store(func() (string, error) { panic("no default today") })
	if v, err := a.Get(ctx, "panics"); v != "" || !errors.Is(err, ErrPanic) || !strings.Contains(err.Error(), "no default today") {
		t.Errorf("got %q, %v; want ErrPanic", v, err)
	}
	if m, err := a.GetMany(ctx, []string{"k", "panics"}); !errors.Is(err, ErrPanic) || m["k"] != "v" || len(m) != 1 {
		t.Errorf("GetMany: %v, %v", m, err)
	}
	behave.Store(func() (string, error) { return "leaked", ErrNotFound })
	a.wantMissing(t, "panics")
	if m, err := a.GetMany(ctx, []string{"k", "panics"}); err != nil || len(m) != 1 {
		t.Errorf("GetMany of what has no default: %v, %v", m, err)
	}
	behave.Store(func() (string, error) { return "better", nil })
	wantValue(t, a, "panics", "better")
}
