package lru_test

import (
	"math"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/flipcache/flipcache/internal/bounded/boundedtest"
	"github.com/flipcache/flipcache/lru"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func options(capacity int, onEvict func(key, value int, why string)) lru.Options[int, int] {
	o := lru.Options[int, int]{Capacity: capacity}
	if onEvict != nil {
		o.OnEvict = func(key, value int, why lru.Reason) { onEvict(key, value, why.String()) }
	}
	return o
}

func TestCache(t *testing.T) {
	boundedtest.Run(t, true, false, func(capacity int, onEvict func(key, value int, why string)) (boundedtest.Container, error) {
		return lru.New(options(capacity, onEvict))
	})
}

func TestLocked(t *testing.T) {
	boundedtest.Run(t, true, true, func(capacity int, onEvict func(key, value int, why string)) (boundedtest.Container, error) {
		return lru.NewLocked(options(capacity, onEvict))
	})
}

func TestSharded(t *testing.T) {
	boundedtest.RunConcurrent(t, func(capacity int, onEvict func(key, value int, why string)) (boundedtest.Container, error) {
		return lru.NewSharded(options(capacity, onEvict))
	})
}

func TestCapacityErrorNamesTheOption(t *testing.T) {
	_, err := lru.New(lru.Options[string, int]{})
	if err == nil || !strings.Contains(err.Error(), "Options.Capacity") || !strings.HasPrefix(err.Error(), "lru: ") {
		t.Errorf("got %v", err)
	}
}

func TestNaNIsNotKept(t *testing.T) {
	var left []lru.Reason
	c, err := lru.New(lru.Options[float64, int]{
		Capacity: 2,
		OnEvict:  func(_ float64, _ int, why lru.Reason) { left = append(left, why) },
	})
	if err != nil {
		t.Fatal(err)
	}
	c.Set(1, 1)
	for range 3 {
		c.Set(math.NaN(), 0)
	}
	if v, ok := c.Get(1); v != 1 || !ok || c.Len() != 1 || len(left) != 3 || left[0] != lru.Evicted {
		t.Errorf("Get(1) = %d, %t, Len %d, left %v", v, ok, c.Len(), left)
	}
}

func TestReasonOfNoNameSaysItsNumber(t *testing.T) {
	if got := lru.Reason(9).String(); got != "Reason(9)" {
		t.Errorf("got %q", got)
	}
}
