package hybridtest_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/flipcache/flipcache/hybrid"
	"github.com/flipcache/flipcache/hybrid/hybridtest"
	"github.com/flipcache/flipcache/invalidate"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var ctx = context.Background()

func open(t *testing.T, st *hybrid.Store) *hybrid.Cache[string, string] {
	t.Helper()
	c, err := hybrid.New(st, "n", hybrid.Options[string, string]{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func set(t *testing.T, c *hybrid.Cache[string, string], v string) {
	t.Helper()
	if err := c.Set(ctx, "k", v); err != nil {
		t.Fatal(err)
	}
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func TestStoreWorksInEachMode(t *testing.T) {
	for _, mode := range [][]invalidate.Mode{nil, {invalidate.PubSub}, {invalidate.Off}} {
		st := hybridtest.NewStore(t, mode...)
		c := open(t, st)
		set(t, c, "v")
		if v, err := c.Get(ctx, "k"); v != "v" || err != nil {
			t.Errorf("%v: %q, %v", mode, v, err)
		}
		if n, err := c.Count(ctx); n != 1 || err != nil {
			t.Errorf("%v: %d keys, %v", mode, n, err)
		}
		want := invalidate.Live
		if len(mode) > 0 && mode[0] == invalidate.Off {
			want = invalidate.Disabled
		}
		if got := st.State().Status; got != want {
			t.Errorf("%v: %v, want %v", mode, got, want)
		}
	}
}

func TestStoresOfOneServerAreProcessesOfOneFleet(t *testing.T) {
	s := hybridtest.NewServer(t)
	a, b := open(t, s.NewStore(t)), open(t, s.NewStore(t))
	set(t, a, "v1")
	if v, err := b.Get(ctx, "k"); v != "v1" || err != nil {
		t.Fatalf("the other process reads %q, %v", v, err)
	}
	set(t, a, "v2")
	eventually(t, "the other process reads what was written", func() bool { v, _ := b.Get(ctx, "k"); return v == "v2" })
}

func TestTTLsPass(t *testing.T) {
	c := open(t, hybridtest.NewStore(t))
	if err := c.SetTTL(ctx, "k", "v", 150*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the key ends", func() bool { _, err := c.Get(ctx, "k"); return errors.Is(err, hybrid.ErrNotFound) })
}

func TestServersAreApartAndEndWithTheirTest(t *testing.T) {
	var addr string
	var st *hybrid.Store
	t.Run("one", func(t *testing.T) {
		s := hybridtest.NewServer(t)
		addr, st = s.Addr(), s.NewStore(t)
		set(t, open(t, st), "v")
		if v, err := open(t, hybridtest.NewStore(t)).Get(ctx, "k"); !errors.Is(err, hybrid.ErrNotFound) {
			t.Errorf("another server has the key: %q, %v", v, err)
		}
	})
	if st.State().Status != invalidate.Closed {
		t.Errorf("the test is over, and its Store is %v", st.State().Status)
	}
	if c, err := net.Dial("tcp", addr); err == nil {
		c.Close()
		t.Error("the test is over, and its server answers")
	}
}
