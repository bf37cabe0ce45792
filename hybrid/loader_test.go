package hybrid

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/internal/redistest"
	"github.com/flipcache/flipcache/invalidate"
)

func TestLoadsReturnDespiteFlushesAndKilledConnections(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	l := newHeldLoader("v")
	var wg sync.WaitGroup
	var errs atomic.Int32
	const processes = 4
	for range processes {
		p := join(t, s, invalidate.PubSub)
		for range 64 {
			wg.Go(func() {
				if v, err := p.GetOrLoad(ctx, "k", l.load); v != "v" || err != nil {
					errs.Add(1)
					t.Errorf("got %q, %v", v, err)
				}
			})
		}
	}
	for range processes {
		<-l.inside
	}
	for range 20 {
		redistest.Do(t, admin, "FLUSHALL")
		redistest.Do(t, admin, "CLIENT", "KILL", "TYPE", "pubsub")
		redistest.Do(t, admin, "CLIENT", "KILL", "TYPE", "normal")
	}
	processed := func() int64 {
		m := redistest.Do(t, admin, "EVAL", "return string.match(redis.call('INFO','stats'), 'total_commands_processed:(%d+)')", "0")
		n, _ := m.AsInt64()
		return n
	}
	eventually(t, "few commands while all wait", func() bool {
		before := processed()
		time.Sleep(100 * time.Millisecond) // the length of the measurement
		return processed()-before < 10
	})
	close(l.open)
	within(t, 20*time.Second, "the waiters", wg.Wait)
	if n := l.calls.Load(); n > 2*processes {
		t.Errorf("%d loads by %d processes", n, processes)
	}
}

func TestCancelledLoadKeepsNobodyFromLoading(t *testing.T) {
	for _, where := range []string{"before the token is known", "in the loader"} {
		t.Run(where, func(t *testing.T) {
			eachMode(t, func(t *testing.T, mode invalidate.Mode, s *redisserver.Server) {
				a, b := join(t, s, mode), join(t, s, mode)
				g := newGate(a, afterTokenIsLaid, "k")
				l := newHeldLoader("a")
				short, cancel := context.WithCancel(ctx)
				var err error
				wait := async(func() { _, err = a.GetOrLoad(short, "k", l.load) })
				<-g.reached
				if where == "in the loader" {
					close(g.open)
					<-l.inside
				}
				cancel()
				within(t, 5*time.Second, "the caller that left", wait)
				if !errors.Is(err, context.Canceled) {
					t.Errorf("the caller that left got %v", err)
				}
				within(t, 5*time.Second, "the other process", func() {
					if v, err := b.GetOrLoad(ctx, "k", value("b")); v != "b" || err != nil {
						t.Errorf("the other process got %q, %v", v, err)
					}
				})
				if where != "in the loader" {
					close(g.open)
				}
				close(l.open)
				if v, err := a.GetOrLoad(ctx, "k", value("again")); v != "b" || err != nil {
					t.Errorf("afterwards: got %q, %v", v, err)
				}
			})
		})
	}
}

func TestLoaderThatPanicsOrExitsFailsItsCallersOnly(t *testing.T) {
	boom := errors.New("boom")
	for name, end := range map[string]func(){
		"panic":             func() { panic("boom") },
		"panic of an error": func() { panic(boom) },
		"not found":         func() { panic(ErrNotFound) },
		"Goexit":            runtime.Goexit,
	} {
		t.Run(name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, mode invalidate.Mode, s *redisserver.Server) {
				a, b := join(t, s, mode), join(t, s, mode)
				l := newHeldLoader("")
				var wg sync.WaitGroup
				for range 10 {
					wg.Go(func() {
						v, err := a.GetOrLoad(ctx, "k", func(ctx context.Context, k string) (string, error) {
							l.load(ctx, k)
							end()
							return "never", nil
						})
						if err == nil || v != "" || errors.Is(err, ErrNotFound) && !errors.Is(err, ErrPanic) {
							t.Errorf("got %q, %v", v, err)
						}
						if name != "Goexit" && (!errors.Is(err, ErrPanic) || !strings.Contains(err.Error(), "loader_test.go")) {
							t.Errorf("got %v, want ErrPanic with the stack", err)
						}
					})
				}
				<-l.inside
				close(l.open)
				within(t, 10*time.Second, "the waiters", wg.Wait)
				for who, p := range map[string]process{"same": a, "other": b} {
					within(t, 5*time.Second, "the next load", func() {
						if v, err := p.GetOrLoad(ctx, "k", value("v")); v != "v" || err != nil {
							t.Errorf("the next load in the %s process: %q, %v", who, v, err)
						}
					})
				}
			})
		})
	}
}

func TestFirstCallersCancelIsItsOwn(t *testing.T) {
	for name, o := range map[string]func(*StoreOptions, *Options[string, string]){
		"local": func(*StoreOptions, *Options[string, string]) {}, "no local": func(_ *StoreOptions, o *Options[string, string]) { o.NoLocal = true },
	} {
		t.Run(name, func(t *testing.T) {
			eachMode(t, func(t *testing.T, mode invalidate.Mode, s *redisserver.Server) {
				p := join(t, s, mode, o)
				l := newHeldLoader("v")
				leader, cancel := context.WithCancel(ctx)
				var leaders error
				first := async(func() { _, leaders = p.GetOrLoad(leader, "k", l.load) })
				<-l.inside
				var wg sync.WaitGroup
				for range 9 {
					wg.Go(func() {
						if v, err := p.GetOrLoad(ctx, "k", l.load); v != "v" || err != nil {
							t.Errorf("got %q, %v", v, err)
						}
					})
				}
				cancel()
				within(t, 5*time.Second, "the leader", first)
				if !errors.Is(leaders, context.Canceled) {
					t.Errorf("the leader got %v", leaders)
				}
				eventually(t, "all wait", func() bool { return p.Stats().Misses == 10 })
				close(l.open)
				within(t, 5*time.Second, "the others", wg.Wait)
				if n := l.calls.Load(); n != 1 {
					t.Errorf("%d loads", n)
				}
			})
		})
	}
}

func TestLoaderThatReturnsValueAndErrorLeaksNoValue(t *testing.T) {
	mine := errors.New("mine")
	eachMode(t, func(t *testing.T, mode invalidate.Mode, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		p := join(t, s, mode)
		for _, want := range []error{mine, ErrNotFound, fmt.Errorf("wrapped: %w", ErrNotFound)} {
			v, err := p.GetOrLoad(ctx, "k", func(context.Context, string) (string, error) { return "leak", want })
			if v != "" || !errors.Is(err, want) && !errors.Is(err, ErrNotFound) {
				t.Errorf("%v: got %q, %v", want, v, err)
			}
			if errors.Is(want, mine) && (!errors.Is(err, mine) || !strings.Contains(err.Error(), "n:k")) {
				t.Errorf("got %v, want the loader's error with the key", err)
			}
			if v := stored(t, admin, "k"); v != "" {
				t.Errorf("Redis holds %q", v)
			}
			if _, err := p.Get(ctx, "k"); !errors.Is(err, ErrNotFound) {
				t.Errorf("Get: %v", err)
			}
		}
		if v, err := p.GetOrLoad(ctx, "k", value("v")); v != "v" || err != nil {
			t.Errorf("the next load: %q, %v", v, err)
		}
	})
}

func TestWaitersGetAValueThatEndsBeforeTheyDo(t *testing.T) {
	eachMode(t, func(t *testing.T, mode invalidate.Mode, s *redisserver.Server) {
		p := join(t, s, mode, func(_ *StoreOptions, o *Options[string, string]) { o.TTL = time.Millisecond })
		l := newHeldLoader("v")
		var wg sync.WaitGroup
		for range 200 {
			wg.Go(func() {
				if v, err := p.GetOrLoad(ctx, "k", l.load); v != "v" || err != nil {
					t.Errorf("got %q, %v", v, err)
				}
			})
		}
		<-l.inside
		close(l.open)
		wg.Wait()
	})
}

func TestLoaderThatNeverReturnsHoldsNobodyElse(t *testing.T) {
	eachMode(t, func(t *testing.T, mode invalidate.Mode, s *redisserver.Server) {
		p := join(t, s, mode)
		l := newHeldLoader("v")
		first := async(func() { p.GetOrLoad(ctx, "k", l.load) })
		defer first()
		defer close(l.open)
		<-l.inside
		for range 3 {
			short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
			within(t, 5*time.Second, "another caller", func() {
				if _, err := p.GetOrLoad(short, "k", l.load); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v", err)
				}
			})
			cancel()
		}
		within(t, 5*time.Second, "Get", func() {
			if _, err := p.Get(ctx, "k"); !errors.Is(err, ErrNotFound) {
				t.Errorf("Get: %v", err)
			}
		})
		within(t, 5*time.Second, "Set", func() { p.set(t, "k", "set") })
		p.want(t, "k", "set")
		if v, err := p.GetOrLoad(ctx, "k", l.load); v != "set" || err != nil {
			t.Errorf("GetOrLoad of a key that is there: %q, %v", v, err)
		}
		within(t, 10*time.Second, "Close", func() { p.store.Close() })
	})
}

func TestCloseEndsTheWaitForALoaderThatNeverReturns(t *testing.T) {
	eachMode(t, func(t *testing.T, mode invalidate.Mode, s *redisserver.Server) {
		p := join(t, s, mode)
		l := newHeldLoader("v")
		defer close(l.open)
		got := make(chan error, 2)
		go func() { _, err := p.GetOrLoad(ctx, "k", l.load); got <- err }()
		<-l.inside
		p.Delete(ctx, "k") // detaches the load: who comes now waits behind it
		go func() { _, err := p.GetOrLoad(ctx, "k", l.load); got <- err }()
		eventually(t, "both wait", func() bool { return p.Stats().Misses == 2 })
		p.store.Close()
		within(t, 5*time.Second, "the waiters after Close", func() {
			for range 2 {
				if err := <-got; !errors.Is(err, ErrClosed) {
					t.Errorf("got %v, want ErrClosed", err)
				}
			}
		})
	})
}

func TestLoaderHearsOfClose(t *testing.T) {
	eachMode(t, func(t *testing.T, mode invalidate.Mode, s *redisserver.Server) {
		p := join(t, s, mode)
		inside := make(chan struct{})
		var err error
		wait := async(func() {
			_, err = p.GetOrLoad(ctx, "k", func(ctx context.Context, _ string) (string, error) {
				close(inside)
				<-ctx.Done()
				return "", ctx.Err()
			})
		})
		<-inside
		p.store.Close()
		within(t, 5*time.Second, "the loader's context", wait)
		if !errors.Is(err, ErrClosed) && !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

func TestLoaderSeesTheCallersValuesAndNotItsEnd(t *testing.T) {
	type key struct{}
	eachMode(t, func(t *testing.T, mode invalidate.Mode, s *redisserver.Server) {
		p := join(t, s, mode)
		caller, cancel := context.WithDeadline(context.WithValue(ctx, key{}, "mine"), time.Now().Add(time.Hour))
		defer cancel()
		v, err := p.GetOrLoad(caller, "k", func(ctx context.Context, k string) (string, error) {
			if _, limited := ctx.Deadline(); limited {
				t.Error("the loader has the caller's deadline")
			}
			return k + " " + ctx.Value(key{}).(string), nil
		})
		if v != "k mine" || err != nil {
			t.Errorf("got %q, %v", v, err)
		}
	})
}
