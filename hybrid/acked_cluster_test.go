package hybrid

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/internal/redistest"
	"github.com/flipcache/flipcache/internal/slots"
	"github.com/flipcache/flipcache/invalidate"
)

func TestAckedInACluster(t *testing.T) {
	t.Parallel()
	s := aged(t, redistest.Cluster(t))
	for name, test := range map[string]func(*testing.T, redistest.Server, invalidate.Mode){
		"under killed connections": ackedUnderKills,
		"a process that does not answer is waited for until its lease is over": ackedWaitsForALease,
		"who cannot be waited for is named":                                    ackedNames,
		"a process that was closed is not waited for":                          ackedAfterClose,
		"a new process is waited for before it serves":                         ackedBesideJoin,
		"a question counts where it is heard of the key's own master":          ackedByTheKeysMaster,
		"a key that is created where its slot goes to":                         ackedWhileASlotLeaves,
		"a slot has moved, and nobody knows yet":                               ackedBehindAMove,
		"slots move all the time":                                              ackedWhileSlotsMove,
	} {
		t.Run(name, func(t *testing.T) {
			everywhere(t, redistest.Client(t, s), "FLUSHALL") // of who was listed
			test(t, s, invalidate.Tracking)
		})
	}
}

// keyOf returns a key of n that master serves.
func keyOf(t testing.TB, s *redisserver.Cluster, master *redisserver.Server, i int) string {
	t.Helper()
	for n := range 1000 {
		if k := fmt.Sprintf("%d-%d", i, n); s.Owner(slotOf(k)) == master {
			return k
		}
	}
	t.Fatalf("%s serves nothing", master.Addr)
	return ""
}

// ackedByTheKeysMaster has the link of a reader to one master be silent, so that it
// hears of that master's keys nothing, and of other masters all: a question that came
// another way says nothing of them.
func ackedByTheKeysMaster(t *testing.T, server redistest.Server, mode invalidate.Mode) {
	s := server.(*redisserver.Cluster)
	w := join(t, s, mode, underLease(nil))
	for _, master := range s.Nodes {
		if len(s.Replicas(master)) == 0 {
			continue
		}
		st := new(staller)
		r := join(t, s, mode, underLease(nil), func(o *StoreOptions, _ *Options[string, string]) {
			o.Client.DialCtxFn = func(ctx context.Context, addr string, d *net.Dialer, c *tls.Config) (net.Conn, error) {
				if addr == master.Addr {
					return st.dial(ctx, addr, d, c)
				}
				return d.DialContext(ctx, "tcp", addr)
			}
		})
		k := keyOf(t, s, master, 0)
		other := keyOf(t, s, elsewhere(t, s, slotOf(k)), 0)
		for name, write := range map[string]func() error{
			"Set":     func() error { return w.Acked().Set(ctx, k, "new") },
			"SetMany": func() error { return w.Acked().SetMany(ctx, map[string]string{k: "new", other: "new"}) },
			"Delete":  func() error { return w.Acked().Delete(ctx, other, k) },
			"Clear":   func() error { return w.Acked().Clear(ctx) },
		} {
			w.set(t, k, "old")
			holds(t, r, k, "old")
			release := st.stall(false, true)
			if err := write(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if v := r.local(k); v != "" {
				t.Errorf("%s of a key of %s has returned, and its reader serves %q", name, master.Addr, v)
			}
			release()
		}
		r.store.Close()
	}
}

// ackedWhileASlotLeaves: a key that is missing is remembered as missing; its slot begins
// to move, and it is created at the master to which the slot goes. Its own master, which
// is asked, tells of nothing.
func ackedWhileASlotLeaves(t *testing.T, server redistest.Server, mode invalidate.Mode) {
	s := server.(*redisserver.Cluster)
	lease := func(o *StoreOptions, c *Options[string, string]) {
		o.MaxStaleness, c.NegativeTTL = time.Second, time.Hour
	}
	w, r := join(t, s, mode, lease), join(t, s, mode, lease)
	for i := range 2 {
		k := fmt.Sprintf("leaving %d", i)
		missing := func() bool { e := r.flights.Hit(k); return e != nil && e.Missing }
		from, to := s.Owner(slotOf(k)), elsewhere(t, s, slotOf(k))
		slot := strconv.Itoa(int(slotOf(k)))
		tell := func(s *redisserver.Server, args ...string) {
			t.Helper()
			if _, err := s.Do(append([]string{"CLUSTER", "SETSLOT", slot}, args...)...); err != nil {
				t.Fatal(err)
			}
		}
		id := func(s *redisserver.Server) string {
			m, err := s.Do("CLUSTER", "MYID")
			if err != nil {
				t.Fatal(err)
			}
			id, _ := m.ToString()
			return id
		}
		tell(to, "IMPORTING", id(from))
		eventually(t, "absence is remembered", func() bool { r.Get(ctx, k); return missing() })
		tell(from, "MIGRATING", id(to))
		if err := w.Acked().Set(ctx, k, "v"); err != nil {
			t.Fatal(err)
		}
		if missing() {
			t.Error("an acknowledged write has returned, and its key counts as missing")
		}
		if err := s.AssignSlot(slotOf(k), to); err != nil { // the only key of it is there
			t.Fatal(err)
		}
		r.awaitStatus(t, invalidate.Live)
	}
}

// ackedBehindAMove: writer and reader have not seen yet that the slot has moved.
func ackedBehindAMove(t *testing.T, server redistest.Server, mode invalidate.Mode) {
	s := server.(*redisserver.Cluster)
	lease := func(o *StoreOptions, c *Options[string, string]) {
		o.MaxStaleness, c.NegativeTTL = 3*time.Second, time.Hour
	}
	w, r := join(t, s, mode, lease), join(t, s, mode, lease)
	const k = "moving"
	missing := func() bool { e := r.flights.Hit(k); return e != nil && e.Missing }
	eventually(t, "absence is remembered", func() bool { r.Get(ctx, k); return missing() })
	if err := move(t, s, k); err != nil {
		t.Fatal(err)
	}
	if err := w.Acked().Set(ctx, k, "v"); err != nil {
		t.Fatal(err)
	}
	if missing() {
		t.Error("an acknowledged write has returned, and its key counts as missing")
	}
	r.want(t, k, "v")
	r.awaitStatus(t, invalidate.Live)
	w.awaitStatus(t, invalidate.Live)
}

// ackedWhileSlotsMove writes, deletes and creates keys whose slots move, and reads as
// fast as it can: no read that began when a write had returned sees less.
func ackedWhileSlotsMove(t *testing.T, server redistest.Server, mode invalidate.Mode) {
	s := server.(*redisserver.Cluster)
	lease := func(o *StoreOptions, c *Options[string, string]) {
		o.MaxStaleness, o.Timeout, c.NegativeTTL = clusterLease, time.Second, time.Hour
	}
	const keys = 4
	var mu [keys]sync.RWMutex // held while a key is written: reads begin and end between writes
	var now [keys]int         // what was written last; 0: the key was removed; -1: not known
	over := make(chan struct{})
	var wg sync.WaitGroup
	var judged, acked atomic.Int64
	var readers []process
	for range 2 {
		r := join(t, s, mode, lease)
		readers = append(readers, r)
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-over:
					return
				default:
				}
				k := i % keys
				mu[k].RLock()
				want := now[k]
				v, err := r.Get(ctx, key(k))
				mu[k].RUnlock()
				if errors.Is(err, ErrNotFound) {
					v, err = "0", nil
				}
				if err != nil || want < 0 {
					continue
				}
				judged.Add(1)
				if v != strconv.Itoa(want) {
					t.Errorf("key %d: read %s after %d was acknowledged", k, v, want)
					return
				}
			}
		})
	}
	w := join(t, s, mode, lease)
	for k := range keys {
		wg.Go(func() {
			for i := 1; ; i++ {
				select {
				case <-over:
					return
				case <-time.After(20 * time.Millisecond):
				}
				n := i * (i % 2)
				mu[k].Lock()
				var err error
				if n == 0 {
					err = w.Acked().Delete(ctx, key(k))
				} else {
					err = w.Acked().Set(ctx, key(k), strconv.Itoa(n))
				}
				if now[k] = n; err != nil {
					now[k] = -1
				} else {
					acked.Add(1)
				}
				mu[k].Unlock()
			}
		})
	}
	tooFew := func() bool { return hitsOf(readers) < 100 || acked.Load() < 8 }
	for i := 0; i < 8 || tooFew() && i < 100; i++ {
		if err := move(t, s, key(i%keys)); err != nil {
			t.Error(err)
		}
		time.Sleep(clusterLease / 2)
	}
	close(over)
	wg.Wait()
	if tooFew() {
		t.Errorf("%d hits, %d acknowledged: too few to tell", hitsOf(readers), acked.Load())
	}
	t.Logf("%d writes acknowledged, %d reads judged, %d hits", acked.Load(), judged.Load(), hitsOf(readers))
}

// H16: a failover brings back a list of before, in which a process with a lease does not
// stand, and which hears nothing.
func TestH16_AFailoverLosesWhoListensInACluster(t *testing.T) {
	t.Parallel()
	s := redistest.Cluster(t)
	const list = "flipcache#members:n"
	lease := func(o *StoreOptions, _ *Options[string, string]) { o.MaxStaleness = invalidate.MaxMaxStaleness }
	st := new(staller)
	w := join(t, s, invalidate.Tracking, lease)
	r := join(t, s, invalidate.Tracking, lease, func(o *StoreOptions, _ *Options[string, string]) { o.Client.DialCtxFn = st.dial })
	dead := s.Owner(slots.Of(list))
	k := keyOf(t, s, elsewhere(t, s, slots.Of(list)), 0)
	w.set(t, k, "old")
	holds(t, r, k, "old")
	eventually(t, "a lease that was just granted", func() bool { return r.store.stream.Ask() == nil })
	defer st.stall(true, true)()
	heir := s.Replicas(dead)[0]
	dead.Kill()
	if err := s.AwaitMaster(heir); err != nil {
		t.Fatal(err)
	}
	if _, err := heir.Do("ZREMRANGEBYRANK", list, "0", "-1"); err != nil {
		t.Fatal(err)
	}
	if r.local(k) != "old" {
		t.Error("the failover took longer than the lease: the test proves nothing")
	}
	for {
		err := w.Acked().Set(ctx, k, "new")
		if err == nil {
			break
		}
		if !errors.Is(err, ErrUnconfirmed) && !errors.Is(err, ErrOutcomeUnknown) && !strings.Contains(err.Error(), "CLUSTERDOWN") {
			t.Fatal(err)
		}
	}
	if v := r.local(k); v != "" {
		t.Errorf("an acknowledged write has returned, and %q is served", v)
	}
}
