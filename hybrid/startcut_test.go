package hybrid

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flipcache/flipcache/internal/redistest"
	"github.com/flipcache/flipcache/invalidate"
)

// H22: Redis is away when the process starts.
func TestH22_StartCut(t *testing.T) {
	for _, mode := range []invalidate.Mode{invalidate.Off, invalidate.PubSub, invalidate.Tracking} {
		for _, lease := range []time.Duration{0, testLease} {
			if mode == invalidate.Off && lease > 0 {
				continue
			}
			t.Run(fmt.Sprint(mode, ", lease ", lease), func(t *testing.T) {
				t.Parallel()
				addr := freeAddr(t)
				o := StoreOptions{Invalidation: mode, MaxStaleness: lease, Timeout: time.Second}
				o.Client.InitAddress, o.Client.ForceSingleClient = []string{addr}, true
				if st, err := Open(ctx, o); err == nil {
					st.Close()
					t.Fatal("Open without StartCut succeeded")
				}
				o.StartCut = true
				st, err := Open(ctx, o)
				if err != nil {
					t.Fatal(err)
				}
				defer st.Close()
				var mu sync.Mutex
				var states []invalidate.Status
				defer st.OnState(func(s invalidate.State) {
					mu.Lock()
					defer mu.Unlock()
					states = append(states, s.Status)
				})()
				p := process{newOn(t, st, "n", Options[string, string]{}), st}
				if s := st.State(); s.Status != invalidate.Cut || s.Cause == nil {
					t.Errorf("state %+v", s)
				}
				for name, op := range allMethods(p) {
					began := time.Now()
					err := op(ctx)
					if took := time.Since(began); took > 100*time.Millisecond {
						t.Errorf("%s took %v", name, took)
					}
					if name == "GetOrLoad" {
						if err != nil {
							t.Errorf("%s: %v", name, err)
						}
					} else if !errors.Is(err, ErrCut) || !strings.Contains(err.Error(), "refused") {
						t.Errorf("%s: got %v", name, err)
					}
				}
				if r, err := st.Check(ctx); err != nil || r.Err() == nil {
					t.Errorf("Check: %v, %v", r, err)
				}

				_, port, _ := net.SplitHostPort(addr)
				redistest.Real(t, "--port", port)
				eventually(t, "it goes live by itself", func() bool { return p.Set(ctx, "k", "v") == nil })
				if mode == invalidate.Off {
					p.want(t, "k", "v")
					return
				}
				p.awaitStatus(t, invalidate.Live)
				eventually(t, "a local hit", func() bool { p.Get(ctx, "k"); return p.local("k") == "v" })
				late := newOn(t, st, "late", Options[string, string]{})
				if err := late.Set(ctx, "k", "v"); err != nil || !late.held("k") {
					t.Errorf("a cache that was opened later: %v, held %t", err, late.held("k"))
				}
				eventually(t, "OnState told", func() bool {
					mu.Lock()
					defer mu.Unlock()
					return len(states) > 0 && states[len(states)-1] == invalidate.Live
				})
			})
		}
	}
}

func TestStartCutThatIsClosedEndsAndLeavesNothing(t *testing.T) {
	o := StoreOptions{Invalidation: invalidate.PubSub, StartCut: true, Timeout: time.Second}
	o.Client.InitAddress, o.Client.ForceSingleClient = []string{freeAddr(t)}, true
	st, err := Open(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	c := newOn(t, st, "n", Options[string, string]{})
	st.OnState(func(invalidate.State) {})
	within(t, 3*time.Second, "Close", func() { st.Close() })
	if _, err := c.Get(ctx, "k"); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v", err)
	}
	if st.State().Status != invalidate.Closed {
		t.Errorf("state %v", st.State())
	}
}

// What does not mend itself fails Open all the same.
func TestStartCutDoesNotHideWhatWillNotPass(t *testing.T) {
	s := redistest.Real(t)
	o := StoreOptions{Client: s.ClientOption(), StartCut: true}
	o.Client.Username, o.Client.Password = "nobody", "wrong"
	_, err := Open(ctx, o)
	refused(t, err, ErrPermission)
	_, err = Open(ctx, StoreOptions{Client: redistest.Embedded(t).ClientOption(), Invalidation: invalidate.Tracking, StartCut: true})
	refused(t, err, ErrUnsupported)
}

func TestStartCutConnectsWhileEverythingIsUsed(t *testing.T) {
	addr := freeAddr(t)
	o := StoreOptions{Invalidation: invalidate.Tracking, StartCut: true, Timeout: time.Second}
	o.Client.InitAddress, o.Client.ForceSingleClient = []string{addr}, true
	st, err := Open(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	p := process{newOn(t, st, "n", Options[string, string]{}), st}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				for _, op := range allMethods(p) {
					c, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
					op(c)
					cancel()
				}
				if i < 50 {
					New(st, "x"+strconv.Itoa(g)+"-"+strconv.Itoa(i), Options[string, string]{})
				}
				st.State()
				st.Stats()
			}
		})
	}
	_, port, _ := net.SplitHostPort(addr)
	redistest.Real(t, "--port", port)
	p.awaitStatus(t, invalidate.Live)
	close(stop)
	wg.Wait()
	p.set(t, "k", "v")
	eventually(t, "a local hit", func() bool { p.Get(ctx, "k"); return p.local("k") == "v" })
}

// A cache whose channel is refused once the Store connects is named by Check.
func TestCheckNamesACacheThatHearsNothing(t *testing.T) {
	addr := freeAddr(t)
	o := StoreOptions{Invalidation: invalidate.PubSub, StartCut: true, Timeout: time.Second}
	o.Client.InitAddress, o.Client.ForceSingleClient = []string{addr}, true
	o.Client.Username, o.Client.Password = "u", "p"
	st, err := Open(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	newOn(t, st, "refused", Options[string, string]{})
	p := process{newOn(t, st, "n", Options[string, string]{}), st}
	_, port, _ := net.SplitHostPort(addr)
	redistest.Real(t, "--port", port, "--user", "u", "on", ">p", "~*", "resetchannels", "&flipcache:self:*", "&flipcache:inv:n", "&flipcache:inv:flipcache#check", "+@all")
	p.awaitStatus(t, invalidate.Live)
	eventually(t, "the other cache hears", func() bool { p.Set(ctx, "k", "v"); return p.local("k") == "v" })
	r, err := st.Check(ctx)
	if err != nil {
		t.Fatal(err)
	}
	wantProblem(t, r, "cache refused", "NOPERM")
}

// What was given to OnState before the Store was connected may do what it may do
// afterwards: remove itself, ask, block; and is told the states in order.
func TestWatchersOfBeforeTheConnectionMayBlockAndRemoveThemselves(t *testing.T) {
	addr := freeAddr(t)
	o := StoreOptions{Invalidation: invalidate.PubSub, StartCut: true, Timeout: 200 * time.Millisecond}
	o.Client.InitAddress, o.Client.ForceSingleClient = []string{addr}, true
	st, err := Open(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	var remove func()
	removed, blocked, release := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var calls atomic.Int64
	remove = st.OnState(func(invalidate.State) {
		st.State()
		remove()
		if calls.Add(1) == 1 {
			close(removed)
		}
	})
	st.OnState(func(s invalidate.State) {
		if s.Status == invalidate.Live {
			close(blocked)
			<-release
		}
	})
	defer close(release)
	_, port, _ := net.SplitHostPort(addr)
	redistest.Real(t, "--port", port)
	for _, c := range []chan struct{}{removed, blocked} {
		select {
		case <-c:
		case <-time.After(5 * time.Second):
			t.Fatal("a watcher was not called, or hangs")
		}
	}
	within(t, 3*time.Second, "Close", func() { st.Close() })
	if n := calls.Load(); n != 1 {
		t.Errorf("a watcher that removed itself was called %d times", n)
	}
}
