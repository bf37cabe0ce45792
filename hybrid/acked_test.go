package hybrid

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flipcache/flipcache/internal/clock"
	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/internal/redistest"
	"github.com/flipcache/flipcache/invalidate"
)

// aged waits until a server that was just started has run for longer than any lease: before,
// it could be one that was restarted and has lost who listens, and acknowledged
// writes wait.
func aged[S redistest.Server](t *testing.T, s S) S {
	t.Helper()
	time.Sleep(invalidate.MaxMaxStaleness + 3*time.Second)
	return s
}

func TestAcked(t *testing.T) {
	t.Parallel()
	s := aged(t, redistest.Real(t))
	for _, mode := range invalidating {
		for name, test := range map[string]func(*testing.T, redistest.Server, invalidate.Mode){
			"every write is seen by all when it returns":                           ackedIsSeen,
			"under killed connections":                                             ackedUnderKills,
			"a process that does not answer is waited for until its lease is over": ackedWaitsForALease,
			"who cannot be waited for is named":                                    ackedNames,
			"a process that was closed is not waited for":                          ackedAfterClose,
			"a new process is waited for before it serves":                         ackedBesideJoin,
		} {
			t.Run(mode.String()+"/"+name, func(t *testing.T) {
				redistest.Do(t, redistest.Client(t, s), "FLUSHALL") // of who was listed
				test(t, s, mode)
			})
		}
	}
	t.Run("modes together", func(t *testing.T) { ackedInMixedFleets(t, s) })
}

// ackedIsSeen goes through all writes of an Acked view. The readers hold the key's
// value, and read again when the write has returned.
func ackedIsSeen(t *testing.T, s redistest.Server, mode invalidate.Mode) {
	if _, cluster := s.(*redisserver.Cluster); cluster && mode == invalidate.PubSub {
		_, err := Open(ctx, StoreOptions{Client: s.ClientOption(), Invalidation: mode, MaxStaleness: time.Second})
		if !errors.Is(err, ErrOption) {
			t.Errorf("PubSub in a cluster has a lease: %v", err)
		}
		return
	}
	o := Options[string, int]{}
	lease := func(o *StoreOptions) { o.MaxStaleness = time.Second }
	w := joinAs(t, s, mode, o, lease)
	var readers []peer[string, int]
	for range 4 {
		readers = append(readers, joinAs(t, s, mode, o, lease))
	}
	acked := w.Acked()
	gone := -1
	for name, write := range map[string]func(n int) (want int, err error){
		"Set":     func(n int) (int, error) { return n, acked.Set(ctx, "k", n) },
		"SetTTL":  func(n int) (int, error) { return n, acked.SetTTL(ctx, "k", n, time.Hour) },
		"SetMany": func(n int) (int, error) { return n, acked.SetMany(ctx, map[string]int{"k": n, "other": n}) },
		"Update": func(n int) (int, error) {
			return acked.Update(ctx, "k", func(old int, _ bool) (int, error) { return old + n, nil })
		},
		"Incr":   func(n int) (int, error) { return Incr(ctx, acked, "k", n) },
		"Delete": func(int) (int, error) { return gone, acked.Delete(ctx, "k", "other") },
		"Clear":  func(int) (int, error) { return gone, acked.Clear(ctx) },
		"GetAndDelete": func(int) (int, error) {
			_, err := acked.GetAndDelete(ctx, "k")
			return gone, err
		},
	} {
		for n := 1; n <= 20; n++ {
			w.must(t, w.Set(ctx, "k", -n))
			for _, r := range readers {
				r.Get(ctx, "k")
			}
			want, err := write(n)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			for i, r := range readers {
				got, err := r.Get(ctx, "k")
				if errors.Is(err, ErrNotFound) {
					got, err = gone, nil
				}
				if got != want || err != nil {
					t.Fatalf("%s returned, and reader %d then read %d, %v, want %d", name, i, got, err, want)
				}
			}
		}
	}
	w.must(t, w.Delete(ctx, "k"))
	if done, err := acked.SetIfAbsent(ctx, "k", 7); !done || err != nil {
		t.Errorf("SetIfAbsent: %t, %v", done, err)
	}
	if done, err := acked.SetIfAbsent(ctx, "k", 8); done || err != nil {
		t.Errorf("SetIfAbsent of a key that is there: %t, %v", done, err)
	}
	w.must(t, acked.Touch(ctx, "k", time.Minute))
	if err := acked.Touch(ctx, "missing", time.Minute); !errors.Is(err, ErrNotFound) {
		t.Errorf("Touch of nothing: %v", err)
	}
}

// ackedUnderKills writes growing numbers while connections are killed, and reads as
// fast as it can: no read that began when a write had returned sees less.
func ackedUnderKills(t *testing.T, s redistest.Server, mode invalidate.Mode) {
	admin := redistest.Client(t, s)
	lease := func(o *StoreOptions) { o.MaxStaleness, o.Timeout = 100*time.Millisecond, time.Second }
	w := joinAs(t, s, mode, Options[string, int]{}, lease)
	var returned [4]atomic.Int64 // the newest acknowledged value of each key
	over := make(chan struct{})
	var wg sync.WaitGroup
	var reads atomic.Int64
	var readers []peer[string, int]
	for range 3 {
		r := joinAs(t, s, mode, Options[string, int]{}, lease)
		readers = append(readers, r)
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-over:
					return
				default:
				}
				k := i % len(returned)
				least := returned[k].Load()
				v, err := r.Get(ctx, fmt.Sprint(k))
				reads.Add(1)
				if err == nil && int64(v) < least {
					t.Errorf("key %d: read %d after %d was acknowledged", k, v, least)
					return
				}
			}
		})
	}
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-over:
				return
			case <-time.After(100 * time.Millisecond):
			}
			everywhere(t, admin, "CLIENT", "KILL", "TYPE", []string{"normal", "pubsub"}[i%2], "SKIPME", "yes")
		}
	})
	acked, writes, done := w.Acked(), 0, 0
	tooFew := func() bool { return done < len(returned) || hitsOf(readers) < 100 }
	// A write that cannot tell whether its list is whole waits for the longest lease.
	end, limit := time.Now().Add(3*time.Second), time.Now().Add(2*time.Minute)
	for ; time.Now().Before(end) || tooFew() && time.Now().Before(limit); writes++ {
		k := writes % len(returned)
		if err := acked.Set(ctx, fmt.Sprint(k), writes+1); err == nil {
			if returned[k].Swap(int64(writes+1)) == 0 {
				done++
			}
		} else if !errors.Is(err, ErrOutcomeUnknown) && !errors.Is(err, ErrUnconfirmed) && !errors.Is(err, ErrCut) {
			t.Error(err)
		}
	}
	close(over)
	wg.Wait()
	if tooFew() {
		t.Errorf("%d of %d keys were acknowledged, %d reads were local: too few to tell", done, len(returned), hitsOf(readers))
	}
	t.Logf("%d writes, %d reads, %d of them local", writes, reads.Load(), hitsOf(readers))
}

func ackedWaitsForALease(t *testing.T, s redistest.Server, mode invalidate.Mode) {
	const lease = 2 * time.Second // a quarter of it is time enough to write, on any machine
	long := func(o *StoreOptions, _ *Options[string, string]) { o.MaxStaleness = lease }
	w := join(t, s, mode, underLease(nil), long)
	st := new(staller)
	r := join(t, s, mode, underLease(st), long)
	w.set(t, "k", "old")
	eventually(t, "the reader holds the key", func() bool {
		r.Get(ctx, "k")
		return r.local("k") == "old"
	})
	began := clock.Now()
	defer st.stall(true, true)()
	short, cancel := context.WithTimeout(ctx, lease/4)
	defer cancel()
	err := w.Acked().Set(short, "k", "seen by none")
	var u *invalidate.Unconfirmed
	if !errors.Is(err, ErrUnconfirmed) || !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &u) ||
		len(u.Members) != 1 || u.Members[0].ID != r.store.stream.Sender().String() || !strings.Contains(err.Error(), "the write stands") {
		t.Errorf("a context that ends: %v, %+v", err, u)
	}
	w.want(t, "k", "seen by none")
	if err := w.Acked().Set(ctx, "k", "new"); err != nil {
		t.Fatal(err)
	}
	if took := time.Duration(clock.Now() - began); took < lease*3/5 || took > 5*lease {
		t.Errorf("it took %v, with a lease of %v", took, lease)
	}
	if v := r.local("k"); v != "" {
		t.Errorf("the process that did not answer serves %q", v)
	}
}

func ackedNames(t *testing.T, s redistest.Server, mode invalidate.Mode) {
	lease := func(o *StoreOptions) { o.MaxStaleness = time.Second }
	w := joinAs(t, s, mode, Options[string, string]{}, lease)
	w.must(t, w.Acked().Set(ctx, "k", "v"))
	r := joinAs(t, s, mode, Options[string, string]{})
	err := w.Acked().Set(ctx, "k", "w")
	if !errors.Is(err, ErrUnconfirmed) || !strings.Contains(err.Error(), "MaxStaleness") {
		t.Errorf("beside a process without a lease: %v", err)
	}
	var u *invalidate.Unconfirmed
	if !errors.As(err, &u) || len(u.Members) != 1 || u.Members[0].ID != r.store.stream.Sender().String() {
		t.Errorf("%v names %+v", err, u)
	}
	for name, write := range map[string]func(c *Cache[string, string]) error{
		"set":    func(c *Cache[string, string]) error { return c.Set(ctx, "k", "x") },
		"delete": func(c *Cache[string, string]) error { return c.Delete(ctx, "k") },
		"clear":  func(c *Cache[string, string]) error { return c.Clear(ctx) },
		"touch":  func(c *Cache[string, string]) error { return c.Touch(ctx, "k", time.Hour) },
	} {
		if err := write(r.Acked()); !errors.Is(err, ErrOption) || !strings.Contains(err.Error(), "MaxStaleness") {
			t.Errorf("%s without a lease of its own: %v", name, err)
		}
	}
	w.must(t, w.SetMany(ctx, map[string]string{"k": "w"}))
	if v, err := r.Get(ctx, "k"); v != "w" || err != nil {
		t.Errorf("what was refused was written: %q, %v", v, err)
	}
}

func ackedAfterClose(t *testing.T, s redistest.Server, mode invalidate.Mode) {
	lease := func(o *StoreOptions) { o.MaxStaleness = invalidate.MaxMaxStaleness }
	w := joinAs(t, s, mode, Options[string, string]{}, lease)
	for range 3 {
		r := joinAs(t, s, mode, Options[string, string]{}, lease)
		w.must(t, w.Acked().Set(ctx, "k", "v"))
		r.store.Close()
		began := time.Now()
		w.must(t, w.Acked().Set(ctx, "k", "w"))
		if took := time.Since(began); took > invalidate.MaxMaxStaleness/2 {
			t.Errorf("it took %v", took)
		}
	}
}

// ackedBesideJoin has processes come and go while another writes: each reads what
// was acknowledged before its read began.
func ackedBesideJoin(t *testing.T, s redistest.Server, mode invalidate.Mode) {
	lease := func(o *StoreOptions) { o.MaxStaleness = 200 * time.Millisecond }
	w := joinAs(t, s, mode, Options[string, int]{}, lease)
	w.must(t, w.Set(ctx, "k", 0))
	var returned atomic.Int64
	over := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
				}
				st, err := Open(ctx, StoreOptions{Client: s.ClientOption(), Invalidation: mode, MaxStaleness: 200 * time.Millisecond, Timeout: unhurried})
				if err != nil {
					t.Error(err)
					return
				}
				c, err := New(st, "n", Options[string, int]{})
				if err != nil {
					t.Error(err)
					return
				}
				for range 200 {
					least := returned.Load()
					if v, err := c.Get(ctx, "k"); err != nil || int64(v) < least {
						t.Errorf("read %d, %v after %d was acknowledged", v, err, least)
					}
				}
				st.Close()
			}
		})
	}
	defer wg.Wait()
	defer close(over)
	for i := range 300 {
		w.must(t, w.Acked().Set(ctx, "k", i+1))
		returned.Store(int64(i + 1))
	}
}

func ackedInMixedFleets(t *testing.T, s *redisserver.Server) {
	lease := func(o *StoreOptions) { o.MaxStaleness = time.Second }
	p := joinAs(t, s, invalidate.PubSub, Options[string, int]{}, lease)
	silent := joinAs(t, s, invalidate.Tracking, Options[string, int]{}, lease)
	err := silent.Acked().Set(ctx, "k", 1)
	if !errors.Is(err, ErrUnconfirmed) || !strings.Contains(err.Error(), "Announce") {
		t.Errorf("Tracking that announces nothing, beside PubSub: %v", err)
	}
	loud := joinAs(t, s, invalidate.Tracking, Options[string, int]{}, lease, func(o *StoreOptions) { o.Announce = true })
	all := []peer[string, int]{p, silent, loud}
	for i := 1; i <= 200; i++ {
		for _, r := range all {
			r.Get(ctx, "k")
		}
		w := []peer[string, int]{p, loud}[i%2]
		w.must(t, w.Acked().Set(ctx, "k", i))
		for n, r := range all {
			if v, err := r.Get(ctx, "k"); v != i || err != nil {
				t.Fatalf("process %d read %d, %v after %d was acknowledged", n, v, err, i)
			}
		}
	}
}
