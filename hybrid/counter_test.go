package hybrid

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/codec"
	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/internal/redistest"
	"github.com/flipcache/flipcache/invalidate"
)

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
		t.Fatal(err)
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
