package hybrid

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"go.uber.org/goleak"

	"github.com/flipcache/flipcache/internal/clock"
	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/internal/redistest"
	"github.com/flipcache/flipcache/invalidate"
)

// ExampleAddr is the server that the examples use: in yours it is Redis'.
var ExampleAddr string

func TestMain(m *testing.M) {
	s, err := redisserver.StartEmbedded()
	if err != nil {
		panic(err)
	}
	ExampleAddr = s.Addr
	// rueidis' client for clusters has goroutines that sleep for some seconds, and end.
	goleak.VerifyTestMain(m, goleak.IgnoreCurrent(),
		goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*call).DelayDo.func1"),
		goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*clusterClient)._refresh.func2"),
		goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*clusterClient).redirectOrNew.func1"), goleak.Cleanup(func(code int) {
			s.Close()
			os.Exit(code)
		}))
}

var ctx = context.Background()

// A process stands for one process of a fleet: a Store with one cache on it.
type process struct {
	*Cache[string, string]
	store *Store
}

// join opens a Store on s, and the cache "n" on it.
func join(t testing.TB, s redistest.Server, mode invalidate.Mode, change ...func(*StoreOptions, *Options[string, string])) process {
	t.Helper()
	var o Options[string, string]
	st := openStore(t, s, mode, func(so *StoreOptions) {
		for _, f := range change {
			f(so, &o)
		}
	})
	return process{newOn(t, st, "n", o), st}
}

func (p process) set(t testing.TB, key, value string) {
	t.Helper()
	if err := p.Set(ctx, key, value); err != nil {
		t.Fatal(err)
	}
}

func (p process) want(t testing.TB, key, value string) {
	t.Helper()
	if got, err := p.Get(ctx, key); err != nil || got != value {
		t.Fatalf("Get(%q): got %q, %v; want %q", key, got, err, value)
	}
}

// local returns what the local tier would answer, "" for nothing.
func (p process) local(key string) string {
	if e := p.flights.Hit(key); e != nil {
		return e.Value
	}
	return ""
}

// eventually waits for what others have to bring about.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func (p process) awaitStatus(t testing.TB, want invalidate.Status) {
	t.Helper()
	eventually(t, fmt.Sprintf("status %v, is %v", want, p.store.State()), func() bool { return p.store.State().Status == want })
}

// settle waits until everything that was announced so far has been heard by p:
// an entry that stands for it is dropped by a message behind all of it.
func (p process) settle(t testing.TB, admin rueidis.Client) {
	t.Helper()
	if p.store.mode == invalidate.Tracking {
		fence(t, p.store)
		return
	}
	marker := fmt.Sprintf("settle %d", settles.Add(1))
	f, _ := p.flights.BeginFill(marker, true, nil)
	p.flights.End(f, reply[string]{Value: "there", Keep: p.tier != nil, Deadline: clock.Never})
	before := p.counters.received.Load()
	msg, _ := invalidate.AppendKeys(nil, invalidate.Sender{}, 1, []string{marker})
	redistest.Do(t, admin, "PUBLISH", invalidate.Channel("n"), string(msg))
	eventually(t, "the stream is drained", func() bool {
		return p.counters.received.Load() > before && p.local(marker) == ""
	})
}

var settles atomic.Int64

// gate stops whoever comes to one place of the code until it is opened. It is
// set before anything runs.
type gate struct {
	place, key string
	reached    chan struct{}
	open       chan struct{}
}

// newGate installs a gate at place for the key "n:key". It stops the first one
// to come, and lets all others pass.
func newGate(p process, place, key string) *gate {
	g := &gate{place: place, key: "n:" + key, reached: make(chan struct{}), open: make(chan struct{})}
	first := make(chan struct{}, 1)
	first <- struct{}{}
	p.store.hook = func(place, key string) {
		if place != g.place || key != g.key {
			return
		}
		select {
		case <-first:
			close(g.reached)
			<-g.open
		default:
		}
	}
	return g
}

// async runs f on a goroutine and returns what waits for its end.
func async(f func()) (wait func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	return func() { <-done }
}
