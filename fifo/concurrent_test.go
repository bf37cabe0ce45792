package fifo_test

import (
	"fmt"
	"log"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flipcache/flipcache/fifo"
)

func ExampleNewConcurrent() {
	sessions, err := fifo.NewConcurrent(fifo.Options[string, int]{Capacity: 10_000})
	if err != nil {
		log.Fatal(err)
	}
	defer sessions.Close()
	sessions.SetTTL("alice", 1, time.Minute)
	sessions.Set("bob", 2)
	if user, found := sessions.Get("alice"); found {
		fmt.Println(user, sessions.Len())
	}
	// Output: 1 2
}

// R31: an entry ends to the nanosecond, for every method.
func TestSetTTLEndsToTheNanosecond(t *testing.T) {
	for _, at := range []time.Duration{-1, 0, 1} {
		synctest.Test(t, func(t *testing.T) {
			var left []fifo.Reason
			c, err := fifo.NewConcurrent(fifo.Options[string, int]{
				Capacity: 10,
				OnEvict:  func(_ string, _ int, why fifo.Reason) { left = append(left, why) },
			})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.SetTTL("k", 7, time.Second)
			c.Set("other", 1)
			time.Sleep(time.Second + at)

			v, found := c.Get("k")
			peeked, there := c.Peek("k")
			listed := 0
			for range c.Keys() {
				listed++
			}
			want, entries := 7, 2
			if at >= 0 {
				want, entries = 0, 1
			}
			if v != want || peeked != want || found != (at < 0) || there != found || c.Contains("k") != found || listed != entries {
				t.Errorf("%v after the end: Get %d, %t, Peek %d, %t, Contains %t, %d keys", at, v, found, peeked, there, c.Contains("k"), listed)
			}
			old, replaced := c.Set("k", 8)
			if old != want || replaced != found || (len(left) > 0) != (at >= 0) {
				t.Errorf("%v after the end: Set returned %d, %t, left %v", at, old, replaced, left)
			}
			c.SetTTL("k", 9, time.Second)
			time.Sleep(time.Second + at)
			left = nil
			if got := c.Delete("k"); got != found || len(left) != 1 || (left[0] == fifo.Expired) == found {
				t.Errorf("%v after the end: Delete %t, left %v", at, got, left)
			}
		})
	}
}

func TestTTLsOutOfTheOrdinary(t *testing.T) {
	c, err := fifo.NewConcurrent(fifo.Options[int, int]{Capacity: 10})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for key, ttl := range []time.Duration{0, -1, math.MinInt64} {
		if c.SetTTL(key, 1, ttl); c.Contains(key) {
			t.Errorf("a TTL of %v has not ended", ttl)
		}
	}
	for key, ttl := range []time.Duration{math.MaxInt64, 200 * 365 * 24 * time.Hour} {
		if c.SetTTL(key, 1, ttl); !c.Contains(key) {
			t.Errorf("a TTL of %v has ended", ttl)
		}
	}
}

func TestExpiredEntriesMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reasons := map[fifo.Reason]int{}
		c, err := fifo.NewConcurrent(fifo.Options[int, int]{
			Capacity: 100,
			OnEvict:  func(_, _ int, why fifo.Reason) { reasons[why]++ },
		})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for k := range 100 {
			c.SetTTL(k, k, time.Second)
		}
		time.Sleep(time.Second)
		for k := 100; k < 200; k++ {
			c.Set(k, k)
		}
		if reasons[fifo.Expired] != 100 || len(reasons) != 1 {
			t.Errorf("entries left: %v, want 100 expired", reasons)
		}
	})
}
