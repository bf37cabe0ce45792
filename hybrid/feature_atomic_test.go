package hybrid

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/codec"
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

// counterWorker adds to n:counter as one process of TestH28 below: it is that
// test's binary, run once more.
func counterWorker(how, addr string, n int) error {
	st, err := Open(ctx, StoreOptions{
		Client:       rueidis.ClientOption{InitAddress: []string{addr}, ForceSingleClient: true},
		Invalidation: invalidate.PubSub, Timeout: time.Minute,
	})
	if err != nil {
		return err
	}
	defer st.Close()
	c, err := New(st, "n", Options[string, int]{})
	if err != nil {
		return err
	}
	return addTo(c, how, n)
}

func addTo(c *Cache[string, int], how string, n int) error {
	for range n {
		var err error
		if how == "Incr" {
			_, err = Incr(ctx, c, "counter", 1)
		} else {
			_, err = c.Update(ctx, "counter", func(old int, _ bool) (int, error) { return old + 1, nil })
		}
		if err != nil {
			return err
		}
	}
	return nil
}

const workerEnv = "FLIPCACHE_TEST_COUNTER"

func TestCounterWorker(t *testing.T) {
	job := os.Getenv(workerEnv)
	if job == "" {
		t.Skip("it is run by TestH28_ProcessesLoseNoAddition")
	}
	parts := strings.Fields(job)
	n, _ := strconv.Atoi(parts[2])
	if err := counterWorker(parts[0], parts[1], n); err != nil {
		t.Fatal(err)
	}
}

// H28: read-modify-write loses updates between processes. Here eight, each an
// operating system's process; FLIPCACHE_LONG=1: 10,000 additions each.
func TestH28_ProcessesLoseNoAddition(t *testing.T) {
	each := 200
	if long {
		each = 10_000
	}
	binary, err := os.Executable()
	if err != nil {
		t.Skip(err)
	}
	for _, how := range []string{"Incr", "Update"} {
		t.Run(how, func(t *testing.T) {
			s := redistest.Real(t)
			admin := redistest.Client(t, s)
			start := time.Now()
			repeat(8, func(int) {
				cmd := exec.Command(binary, "-test.run=^TestCounterWorker$", "-test.timeout=10m")
				cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %d", workerEnv, how, s.Addr, each))
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("a worker failed: %v\n%s", err, out)
				}
			})
			t.Logf("8 processes x %d by %s: %v", each, how, time.Since(start).Round(time.Millisecond))
			if got := stored(t, admin, "counter"); got != strconv.Itoa(8*each) {
				t.Errorf("the counter ends at %s, want %d", got, 8*each)
			}
		})
	}
}

// The same with eight Stores, both ways at once, while others read.
func TestH28_StoresLoseNoAddition(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		repeat(8, func(i int) {
			p := joinAs(t, s, invalidate.PubSub, Options[string, int]{})
			how := []string{"Incr", "Update"}[i%2]
			last := 0
			for range 50 {
				if err := addTo(p.Cache, how, 1); err != nil {
					t.Error(err)
				}
				if v, err := p.Get(ctx, "counter"); err != nil || v <= last {
					t.Errorf("after %d and one's own addition the counter reads %d, %v", last, v, err)
				} else {
					last = v
				}
			}
		})
		if got := stored(t, admin, "counter"); got != "400" {
			t.Errorf("the counter ends at %s, want 400", got)
		}
	})
}

func TestH28_AtomicChangesKeepTheRemainingLifeAndGiveNewKeysTheCaches(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		for _, ttl := range []time.Duration{0, time.Hour} {
			a := joinAs(t, s, invalidate.PubSub, Options[string, int]{TTL: ttl})
			b := joinAs(t, s, invalidate.Off, Options[string, uint64]{TTL: ttl}) // counts by Update
			fresh := int64(-1)
			if ttl > 0 {
				fresh = ttl.Milliseconds()
			}
			for name, op := range map[string]func() error{
				"Incr":         func() error { _, err := Incr(ctx, a.Cache, "k", 1); return err },
				"Incr, uint64": func() error { _, err := Incr(ctx, b.Cache, "k", 1); return err },
				"Update": func() error {
					_, err := a.Update(ctx, "k", func(n int, _ bool) (int, error) { return n + 1, nil })
					return err
				},
				"SetIfAbsent": func() error { _, err := a.SetIfAbsent(ctx, "k", 1); return err },
			} {
				redistest.Do(t, admin, "DEL", "n:k")
				for when, want := range map[string]int64{"a": fresh, "b": 60_000, "c": -1} {
					switch when {
					case "b":
						redistest.Do(t, admin, "SET", "n:k", "1", "PX", "60000")
					case "c":
						redistest.Do(t, admin, "SET", "n:k", "1")
					default:
						redistest.Do(t, admin, "DEL", "n:k")
					}
					if err := op(); err != nil {
						t.Errorf("%s: %v", name, err)
					}
					if ms := pttl(t, admin, "k"); ms > want || ms < want-2000 || want > 0 && ms < 0 {
						t.Errorf("%s, TTL %v: the life is %d ms, want %d", name, ttl, ms, want)
					}
				}
			}
		}
	})
}

// overflows has a counter of type V go to its bounds and no further.
func overflows[V Integer](t *testing.T, s *redisserver.Server, lowest, highest V) {
	t.Helper()
	name := fmt.Sprintf("%T", lowest)
	admin := redistest.Client(t, s)
	p := joinAs(t, s, invalidate.PubSub, Options[string, V]{TTL: time.Hour})
	var zero V
	down := zero - 1 // where V has a sign
	for _, c := range []struct{ at, delta V }{{highest, 1}, {highest - 1, 2}, {highest, highest}, {lowest, down}, {lowest + 1, 2 * down}, {lowest, lowest}} {
		if lowest == 0 && c.at < 2 {
			continue // nothing negative can be added
		}
		p.must(t, p.SetTTL(ctx, "k", c.at, time.Minute))
		before := stored(t, admin, "k")
		got, err := Incr(ctx, p.Cache, "k", c.delta)
		if !errors.Is(err, ErrOverflow) || errors.Is(err, ErrOutcomeUnknown) || got != 0 {
			t.Errorf("%s: %d + %d is %d, %v; want ErrOverflow", name, c.at, c.delta, got, err)
		}
		if now := stored(t, admin, "k"); now != before || pttl(t, admin, "k") > 60_000 {
			t.Errorf("%s: an overflow changed %s to %s", name, before, now)
		}
		if v, err := p.Get(ctx, "k"); err != nil || v != c.at {
			t.Errorf("%s: after an overflow the counter reads %d, %v", name, v, err)
		}
	}
	for _, c := range []struct{ at, delta, want V }{{highest - 1, 1, highest}, {lowest, highest, lowest + highest}, {highest, 0, highest}, {lowest, 0, lowest}} {
		p.must(t, p.Set(ctx, "k", c.at))
		if got, err := Incr(ctx, p.Cache, "k", c.delta); err != nil || got != c.want {
			t.Errorf("%s: %d + %d is %d, %v; want %d", name, c.at, c.delta, got, err, c.want)
		}
		if v, err := p.Get(ctx, "k"); err != nil || v != c.want {
			t.Errorf("%s: the counter reads %d, %v; want %d", name, v, err, c.want)
		}
	}
	p.must(t, p.Delete(ctx, "k"))
	if got, err := Incr(ctx, p.Cache, "k", highest); err != nil || got != highest {
		t.Errorf("%s: a new counter is %d, %v", name, got, err)
	}
}

type namedInt int16

func TestH28_OverflowIsAnErrorThatChangesNothing(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		overflows[int8](t, s, math.MinInt8, math.MaxInt8)
		overflows[int16](t, s, math.MinInt16, math.MaxInt16)
		overflows[int32](t, s, math.MinInt32, math.MaxInt32)
		overflows[int64](t, s, math.MinInt64, math.MaxInt64)
		overflows[int](t, s, math.MinInt, math.MaxInt)
		overflows[uint8](t, s, 0, math.MaxUint8)
		overflows[uint16](t, s, 0, math.MaxUint16)
		overflows[uint32](t, s, 0, math.MaxUint32)
		overflows[uint64](t, s, 0, math.MaxUint64)
		overflows[uint](t, s, 0, math.MaxUint)
		overflows[namedInt](t, s, math.MinInt16, math.MaxInt16)
	})
}

func TestH28_CountingIsExactAbove53Bits(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		p := joinAs(t, s, invalidate.PubSub, Options[string, int64]{})
		u := joinAs(t, s, invalidate.PubSub, Options[string, uint64]{})
		for _, at := range []int64{1<<53 - 1, 1 << 53, 1<<53 + 1, math.MaxInt64 - 1, -(1<<53 + 1), math.MinInt64} {
			p.must(t, p.Set(ctx, "k", at))
			if got, err := Incr(ctx, p.Cache, "k", 1); err != nil || got != at+1 {
				t.Errorf("%d + 1 is %d, %v", at, got, err)
			}
			p.must(t, p.Set(ctx, "k", 1))
			if at > 0 {
				if got, err := Incr(ctx, p.Cache, "k", at); err != nil || got != at+1 {
					t.Errorf("1 + %d is %d, %v", at, got, err)
				}
			}
		}
		u.must(t, u.Set(ctx, "k", math.MaxUint64-1))
		if got, err := Incr(ctx, u.Cache, "k", 1); err != nil || got != math.MaxUint64 {
			t.Errorf("2^64-2 + 1 is %d, %v", got, err)
		}
	})
}

// hex is a codec that does not write decimals, so that Redis cannot count.
func hex() codec.Codec[int] {
	return codec.Func(
		func(dst []byte, n int) ([]byte, error) { return strconv.AppendInt(dst, int64(n), 16), nil },
		func(data []byte) (int, error) {
			n, err := strconv.ParseInt(string(data), 16, 64)
			return int(n), err
		})
}

func TestH28_IncrCountsInTheCodecsOwnForm(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		p := joinAs(t, s, invalidate.PubSub, Options[string, int]{Codec: hex()})
		for i, delta := range []int{9, 1, 6, -32} { // 9 is the same in both forms, 10 is not
			got, err := Incr(ctx, p.Cache, "k", delta)
			if want := []int{9, 10, 16, -16}[i]; err != nil || got != want {
				t.Errorf("after adding %d: %d, %v; want %d", delta, got, err, want)
			}
		}
		if v := stored(t, redistest.Client(t, s), "k"); v != "-10" {
			t.Errorf("Redis holds %q, want -10", v)
		}
	})
}

func TestH28_WhatIsNoIntegerIsADecodeErrorAndStays(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		p := joinAs(t, s, invalidate.PubSub, Options[string, int]{})
		small := joinAs(t, s, invalidate.PubSub, Options[string, int8]{})
		wide := joinAs(t, s, invalidate.PubSub, Options[string, uint64]{})
		for _, bad := range []string{"", "x", "1.5", " 1", "1 ", "0x10", "1e3", "nan", "inf", "-", "99999999999999999999"} {
			redistest.Do(t, admin, "SET", "n:k", bad)
			_, plain := Incr(ctx, p.Cache, "k", 1)
			_, bounded := Incr(ctx, small.Cache, "k", 1)
			_, byUpdate := Incr(ctx, wide.Cache, "k", 1)
			_, update := p.Update(ctx, "k", func(n int, _ bool) (int, error) { return n + 1, nil })
			for name, err := range map[string]error{"int": plain, "int8": bounded, "uint64": byUpdate, "Update": update} {
				var e *Error
				if !errors.Is(err, ErrDecode) || errors.Is(err, ErrOutcomeUnknown) || !errors.As(err, &e) || e.Key != "k" {
					t.Errorf("%s on %q: %v, want ErrDecode with the key", name, bad, err)
				}
			}
			if v := stored(t, admin, "k"); v != bad {
				t.Errorf("%q was changed to %q", bad, v)
			}
		}
		redistest.Do(t, admin, "SET", "n:k", "1000")
		if got, err := Incr(ctx, small.Cache, "k", -100); !errors.Is(err, ErrDecode) || stored(t, admin, "k") != "1000" {
			t.Errorf("an int8 that holds 1000, and -100: %d, %v; Redis holds %q", got, err, stored(t, admin, "k"))
		}
		redistest.Do(t, admin, "DEL", "n:k")
		redistest.Do(t, admin, "RPUSH", "n:k", "1")
		_, plain := Incr(ctx, p.Cache, "k", 1)
		_, update := p.Update(ctx, "k", func(n int, _ bool) (int, error) { return n + 1, nil })
		for name, err := range map[string]error{"Incr": plain, "Update": update} {
			if !errors.Is(err, ErrDecode) || errors.Is(err, ErrOutcomeUnknown) {
				t.Errorf("%s of a list: %v, want ErrDecode", name, err)
			}
		}
	})
}

func TestH28_UpdatesOwnErrorEndsItAndWritesNothing(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		p := joinAs(t, s, invalidate.PubSub, Options[string, string]{})
		refusal := errors.New("not today")
		for _, before := range []string{"", "v"} {
			if before != "" {
				p.must(t, p.Set(ctx, "k", before))
			}
			sent := p.Stats().Sent
			calls := 0
			got, err := p.Update(ctx, "k", func(old string, found bool) (string, error) {
				calls++
				if old != before || found != (before != "") {
					t.Errorf("change got %q, %v", old, found)
				}
				return "leaked", refusal
			})
			if got != "" || !errors.Is(err, refusal) || calls != 1 {
				t.Errorf("got %q, %v after %d calls", got, err, calls)
			}
			if v := stored(t, admin, "k"); v != before || p.Stats().Sent != sent {
				t.Errorf("Redis holds %q, %d were announced", v, p.Stats().Sent-sent)
			}
		}
	})
}

// Others change the key between each reading and writing.
func TestH28_UpdateGetsWhatOthersWroteAndGivesUpByItsTimeout(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		p := joinAs(t, s, invalidate.PubSub, Options[string, int]{}, func(o *StoreOptions) { o.Timeout = 200 * time.Millisecond })
		others := []func(n int){
			func(n int) { redistest.Do(t, admin, "SET", "n:k", strconv.Itoa(n)) },
			func(int) { redistest.Do(t, admin, "DEL", "n:k") },
			func(n int) { redistest.Do(t, admin, "SET", "n:k", strconv.Itoa(n)) },
		}
		p.must(t, p.Set(ctx, "k", 1))
		var seen []string
		got, err := p.Update(ctx, "k", func(old int, found bool) (int, error) {
			seen = append(seen, fmt.Sprint(old, found))
			if n := len(seen); n <= len(others) {
				others[n-1](10 * n)
			}
			return old + 1, nil
		})
		if want := []string{"1 true", "10 true", "0 false", "30 true"}; err != nil || got != 31 || strings.Join(seen, ", ") != strings.Join(want, ", ") {
			t.Errorf("got %d, %v; change saw %q, want %q", got, err, seen, want)
		}
		if v := stored(t, admin, "k"); v != "31" {
			t.Errorf("Redis holds %q", v)
		}

		n := 1000
		var start time.Time
		for range 5 {
			start = time.Now()
			_, err = p.Update(ctx, "k", func(old int, _ bool) (int, error) {
				n++
				redistest.Do(t, admin, "SET", "n:k", strconv.Itoa(n))
				return -1, nil
			})
			if !errors.Is(err, ErrOutcomeUnknown) { // its time may be over while Redis is asked
				break
			}
		}
		if took := time.Since(start); !errors.Is(err, ErrConflict) || took < 150*time.Millisecond || took > 5*time.Second {
			t.Errorf("after %v: %v, want ErrConflict after 200 ms", took, err)
		}
		if v := stored(t, admin, "k"); v != strconv.Itoa(n) {
			t.Errorf("Redis holds %q, want what the others wrote last: %d", v, n)
		}

		cancelled, cancel := context.WithCancel(ctx)
		calls := 0
		_, err = p.Update(cancelled, "k", func(int, bool) (int, error) {
			if calls++; calls == 3 {
				cancel()
			}
			n++
			redistest.Do(t, admin, "SET", "n:k", strconv.Itoa(n))
			return -1, nil
		})
		if !errors.Is(err, context.Canceled) || calls != 3 {
			t.Errorf("cancelled in the third attempt: %v after %d", err, calls)
		}
		if v := stored(t, admin, "k"); v != strconv.Itoa(n) {
			t.Errorf("cancelled, and Redis holds %q, want %d", v, n)
		}
	})
}

// R57: other processes hear of each, and of nothing that changed nothing.
func TestAtomicChangesAreHeardByOtherProcesses(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		o := Options[string, int]{NegativeTTL: time.Hour}
		a, b := joinAs(t, s, invalidate.PubSub, o), joinAs(t, s, invalidate.PubSub, o)
		heard := newEar(t, b.store, admin)
		for _, test := range []struct {
			name  string
			there bool // the key, at the beginning
			op    func() error
			want  int // -1: nothing
			told  bool
		}{
			{"Incr", true, func() error { _, err := Incr(ctx, a.Cache, "k", 1); return err }, 8, true},
			{"Incr of a new key", false, func() error { _, err := Incr(ctx, a.Cache, "k", 1); return err }, 1, true},
			{"Update", true, func() error {
				_, err := a.Update(ctx, "k", func(n int, _ bool) (int, error) { return n + 2, nil })
				return err
			}, 9, true},
			{"Update of a new key", false, func() error {
				_, err := a.Update(ctx, "k", func(n int, _ bool) (int, error) { return n + 2, nil })
				return err
			}, 2, true},
			{"SetIfAbsent of a new key", false, func() error { _, err := a.SetIfAbsent(ctx, "k", 3); return err }, 3, true},
			{"SetIfAbsent in vain", true, func() error { _, err := a.SetIfAbsent(ctx, "k", 3); return err }, 7, false},
			{"GetAndDelete", true, func() error { _, err := a.GetAndDelete(ctx, "k"); return err }, -1, true},
			{"GetAndDelete in vain", false, func() error { a.GetAndDelete(ctx, "k"); return nil }, -1, false},
			{"Touch that shortens", true, func() error { return a.Touch(ctx, "k", time.Hour) }, 7, true},
			{"Clear", true, func() error { return a.Clear(ctx) }, -1, true},
			{"a load", false, func() error {
				_, err := a.GetOrLoad(ctx, "k", func(context.Context, string) (int, error) { return 4, nil })
				return err
			}, 4, true},
		} {
			a.must(t, a.Delete(ctx, "k"))
			if test.there {
				a.must(t, a.Set(ctx, "k", 7))
			}
			heard.drain(t)
			b.Get(ctx, "k")
			if !b.held("k") {
				t.Fatalf("%s: the other process holds nothing: nothing is tested", test.name)
			}
			if err := test.op(); err != nil {
				t.Errorf("%s: %v", test.name, err)
			}
			heard.drain(t)
			if b.held("k") == test.told {
				t.Errorf("%s: afterwards the other process holds it: %v", test.name, b.held("k"))
			}
			for who, p := range map[string]peer[string, int]{"the writer": a, "the other process": b} {
				switch v, err := p.Get(ctx, "k"); {
				case test.want < 0 && !errors.Is(err, ErrNotFound), test.want >= 0 && (err != nil || v != test.want):
					t.Errorf("%s: %s reads %d, %v; want %d", test.name, who, v, err, test.want)
				}
			}
		}
	})
}

func TestSetIfAbsentHasOneWinner(t *testing.T) {
	eachMode(t, func(t *testing.T, mode invalidate.Mode, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		peers := make([]peer[string, int], 4)
		for i := range peers {
			peers[i] = joinAs(t, s, mode, Options[string, int]{TTL: time.Hour})
		}
		for round := range 20 {
			var winners, winner atomic.Int32
			repeat(16, func(i int) {
				won, err := peers[i%4].SetIfAbsent(ctx, key(round), i)
				if err != nil {
					t.Error(err)
				}
				if won {
					winners.Add(1)
					winner.Store(int32(i))
				}
			})
			if winners.Load() != 1 || stored(t, admin, key(round)) != strconv.Itoa(int(winner.Load())) {
				t.Errorf("%d winners; the last is %d, Redis holds %q", winners.Load(), winner.Load(), stored(t, admin, key(round)))
			}
		}
		redistest.Do(t, admin, "RPUSH", "n:list", "1")
		if won, err := peers[0].SetIfAbsent(ctx, "list", 1); won || err != nil {
			t.Errorf("over a list: %v, %v", won, err)
		}
	})
}

func TestGetAndDeleteHasOneWinner(t *testing.T) {
	eachMode(t, func(t *testing.T, mode invalidate.Mode, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		peers := make([]peer[string, int], 4)
		for i := range peers {
			peers[i] = joinAs(t, s, mode, Options[string, int]{})
		}
		for round := range 20 {
			peers[0].must(t, peers[0].Set(ctx, "k", round))
			var winners atomic.Int32
			repeat(16, func(i int) {
				switch v, err := peers[i%4].GetAndDelete(ctx, "k"); {
				case err == nil && v == round:
					winners.Add(1)
				case !errors.Is(err, ErrNotFound):
					t.Errorf("got %d, %v", v, err)
				}
			})
			if winners.Load() != 1 || stored(t, admin, "k") != "" {
				t.Errorf("%d got it, and Redis holds %q", winners.Load(), stored(t, admin, "k"))
			}
			peers[0].wantMissing(t, "k")
		}
		redistest.Do(t, admin, "SET", "n:k", "no number")
		if _, err := peers[0].GetAndDelete(ctx, "k"); !errors.Is(err, ErrDecode) || stored(t, admin, "k") != "" {
			t.Errorf("of what does not decode: %v, and Redis holds %q", err, stored(t, admin, "k"))
		}
		redistest.Do(t, admin, "RPUSH", "n:k", "1")
		if _, err := peers[0].GetAndDelete(ctx, "k"); !errors.Is(err, ErrDecode) || errors.Is(err, ErrOutcomeUnknown) || pttl(t, admin, "k") != -1 {
			t.Errorf("of a list: %v, and its life is %d ms", err, pttl(t, admin, "k"))
		}
	})
}
