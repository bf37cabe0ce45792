package hybrid

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/internal/clock"
	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/internal/redistest"
	"github.com/flipcache/flipcache/internal/slots"
	"github.com/flipcache/flipcache/invalidate"
)

// clusterLease leaves room for machines on which six servers share two cores.
const clusterLease = 600 * time.Millisecond

func inCluster(change ...func(*StoreOptions, *Options[string, string])) func(*StoreOptions, *Options[string, string]) {
	return func(o *StoreOptions, c *Options[string, string]) {
		o.MaxStaleness, o.Timeout = clusterLease, time.Second
		for _, f := range change {
			f(o, c)
		}
	}
}

func slotOf(k string) uint16 { return slots.Of("n:" + k) }

// elsewhere returns a master that does not serve slot.
func elsewhere(t testing.TB, s *redisserver.Cluster, slot uint16) *redisserver.Server {
	t.Helper()
	for other := range 16 {
		if to := s.Owner(uint16(other * 1000)); to != nil && to != s.Owner(slot) {
			return to
		}
	}
	t.Fatal("there is one master only")
	return nil
}

// move moves the slot of k to another master, when all know of the last move: before, it
// could be taken back.
func move(t testing.TB, s *redisserver.Cluster, k string) error {
	t.Helper()
	if err := s.AwaitReady(); err != nil {
		return err
	}
	return s.MoveSlot(slotOf(k), elsewhere(t, s, slotOf(k)))
}

// holds has p hold what it reads of k.
func holds(t testing.TB, p process, k, want string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s is held as %q", k, want), func() bool { p.Get(ctx, k); return p.local(k) == want })
}

// H17: a missing key is remembered, its slot moves, and the key is created at the new
// owner, of which Redis tells nobody.
func TestH17_MissingKeyOfASlotThatMoves(t *testing.T) {
	t.Parallel()
	s := redistest.Cluster(t)
	admin := redistest.Client(t, s)
	p := join(t, s, invalidate.Tracking, inCluster(func(_ *StoreOptions, c *Options[string, string]) { c.NegativeTTL = time.Hour }))
	for i := range 3 {
		k := key(i)
		missing := func() bool { e := p.flights.Hit(k); return e != nil && e.Missing }
		eventually(t, "absence is remembered", func() bool { p.Get(ctx, k); return missing() })
		cuts := p.store.State().Cuts
		if err := move(t, s, k); err != nil {
			t.Fatal(err)
		}
		redistest.Do(t, admin, "SET", "n:"+k, "v")
		written := clock.Now()
		for time.Duration(clock.Now()-written) < 2*clusterLease {
			now := clock.Now()
			if missing() && time.Duration(now-written) > clusterLease {
				t.Fatalf("%v after it was created the key counts as missing", time.Duration(now-written))
			}
		}
		p.awaitStatus(t, invalidate.Live)
		if p.store.State().Cuts == cuts {
			t.Error("a slot has moved, and nothing was cut")
		}
		holds(t, p, k, "v")
	}
}

// H17: while a slot is on its way to a master that has none yet, keys are read there,
// and no probe asks it: nothing is held.
func TestH17_SlotIsOnItsWayToANewMaster(t *testing.T) {
	t.Parallel()
	s := redistest.Cluster(t)
	admin := redistest.Client(t, s)
	p := join(t, s, invalidate.Tracking, inCluster())
	fresh, err := s.AddMaster()
	if err != nil {
		t.Fatal(err)
	}
	holds(t, p, "other", "")
	if err := s.BeginMove(slotOf("k"), fresh); err != nil {
		t.Fatal(err)
	}
	redistest.Do(t, admin, "SET", "n:k", "v") // is created there
	eventually(t, "the tiers are cut", func() bool { p.Get(ctx, "k"); return p.store.State().Status != invalidate.Live })
	for began := time.Now(); time.Since(began) < 2*clusterLease; {
		if v, err := p.Get(ctx, "k"); v != "v" || err != nil {
			t.Fatalf("read %q, %v", v, err)
		}
		if p.local("k") != "" {
			t.Fatal("held, and nobody asks its master")
		}
	}
	if err := s.AssignSlot(slotOf("k"), fresh); err != nil {
		t.Fatal(err)
	}
	holds(t, p, "k", "v")
}

// H17: without a lease it is not remembered for long.
func TestH17_AbsenceIsNotRememberedForLongInACluster(t *testing.T) {
	t.Parallel()
	s := redistest.Masters(t, 1)
	p := join(t, s, invalidate.Tracking, func(_ *StoreOptions, c *Options[string, string]) { c.NegativeTTL = time.Hour })
	eventually(t, "absence is remembered", func() bool { p.Get(ctx, "k"); return p.flights.Hit("k") != nil })
	if e := p.flights.Hit("k"); e == nil || time.Duration(e.Deadline-e.Born) > maxNegativeInCluster {
		t.Errorf("it is to be remembered for %v", time.Duration(e.Deadline-e.Born))
	}
}

// H17: slots move while their keys are written and read. When all is quiet every tier
// equals Redis, and no read was older than the lease says.
func TestH17_SlotsMoveWhileTheyAreWritten(t *testing.T) {
	t.Parallel()
	s := redistest.Cluster(t)
	admin := redistest.Client(t, s)
	a, b := join(t, s, invalidate.Tracking, inCluster()), join(t, s, invalidate.Tracking, inCluster())
	const n = 6
	f := newFleetOfVersions(n)
	f.run(t, a, b)
	for i := range 30 {
		slot := slotOf(key(i % n))
		if err := s.MoveSlot(slot, elsewhere(t, s, slot)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	f.end(t, admin, a, b)
}

// H17: a new master appears, of which the client has never heard, and takes slots.
func TestH17_NewMasterTakesSlots(t *testing.T) {
	t.Parallel()
	s := redistest.Cluster(t)
	admin := redistest.Client(t, s)
	p := join(t, s, invalidate.Tracking, inCluster())
	redistest.Do(t, admin, "SET", "n:k", "v1")
	holds(t, p, "k", "v1")
	added, err := s.AddMaster()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.MoveSlot(slotOf("k"), added); err != nil {
		t.Fatal(err)
	}
	redistest.Do(t, admin, "SET", "n:k", "v2")
	written := time.Now()
	for p.local("k") == "v1" {
		if time.Since(written) > clusterLease {
			t.Fatalf("v1 was served %v after v2 was written", time.Since(written))
		}
	}
	p.awaitStatus(t, invalidate.Live)
	holds(t, p, "k", "v2")
	redistest.Do(t, admin, "SET", "n:k", "v3")
	eventually(t, "the new master's pushes are heard", func() bool { return p.local("k") == "" })
}

// H17, R3: a master dies and a replica takes its place. All that is written then is
// seen by others within the bound, and the tiers serve again.
func TestH17_MasterDies(t *testing.T) {
	t.Parallel()
	s := redistest.Cluster(t)
	a, b := join(t, s, invalidate.Tracking, inCluster()), join(t, s, invalidate.Tracking, inCluster())
	states := make(chan invalidate.State, 100)
	defer b.store.OnState(func(st invalidate.State) { states <- st })()
	all := make(map[string]string)
	var keys []string
	for i := range 300 {
		keys = append(keys, key(i))
		all[key(i)] = "before"
	}
	if err := a.SetMany(ctx, all); err != nil {
		t.Fatal(err)
	}
	if m, err := b.GetMany(ctx, keys); err != nil || len(m) != len(keys) {
		t.Fatal(len(m), err)
	}
	dead := s.Owner(0)
	heir := s.Replicas(dead)[0]
	dead.Kill()
	if err := s.AwaitMaster(heir); err != nil {
		t.Fatal(err)
	}
	promoted := time.Now()
	for i, k := range keys {
		eventually(t, "a write", func() bool { return a.Set(ctx, k, "after") == nil })
		written := clock.Now()
		if i%10 != 0 {
			continue
		}
		for {
			now := clock.Now()
			v, err := b.Get(ctx, k)
			if err == nil && v == "after" {
				break
			}
			if age := time.Duration(now - written); err == nil && age > clusterLease {
				t.Fatalf("%s: %q was read %v after it was replaced", k, v, age)
			}
			if time.Since(promoted) > 20*time.Second {
				t.Fatalf("%s: %v", k, err)
			}
		}
	}
	b.awaitStatus(t, invalidate.Live)
	t.Logf("live %v after the promotion", b.store.State().Since.Sub(promoted))
	if got := <-states; got.Status != invalidate.Cut {
		t.Errorf("OnState told %v first, want cut", got)
	}
	holds(t, b, keys[0], "after")
	for _, k := range keys {
		if v, err := b.Get(ctx, k); err != nil || v != "after" {
			t.Errorf("%s: %q, %v", k, v, err)
		}
	}
}

// H17: masters step down for their replicas, with consent: no connection is lost.
func TestH17_MasterStepsDown(t *testing.T) {
	t.Parallel()
	s := redistest.Cluster(t)
	admin := redistest.Client(t, s)
	a, b := join(t, s, invalidate.Tracking, inCluster()), join(t, s, invalidate.Tracking, inCluster())
	f := newFleetOfVersions(6)
	f.run(t, a, b)
	for _, master := range s.Nodes[:3] {
		if _, err := s.Failover(master); err != nil {
			t.Fatal(err)
		}
		if err := s.AwaitReady(); err != nil {
			t.Fatal(err)
		}
	}
	f.end(t, admin, a, b)
}

// A fleetOfVersions writes growing numbers to keys by one process, each key by one
// goroutine, and reads them by another, whose local hits it judges: none may have been
// replaced longer ago than the lease allows.
type fleetOfVersions struct {
	keys  []*versionsOf
	stop  chan struct{}
	wg    sync.WaitGroup
	hits  atomic.Int64
	worst atomic.Int64
}

// versionsOf notes when each version was written.
type versionsOf struct {
	versions
	key string
}

func newFleetOfVersions(n int) *fleetOfVersions {
	f := &fleetOfVersions{stop: make(chan struct{})}
	for i := range n {
		f.keys = append(f.keys, &versionsOf{versions{at: []int64{0}}, key(i)})
	}
	return f
}

func (f *fleetOfVersions) stopped() bool {
	select {
	case <-f.stop:
		return true
	default:
		return false
	}
}

func (f *fleetOfVersions) run(t *testing.T, writer, reader process) {
	for _, v := range f.keys {
		f.wg.Go(func() {
			for !f.stopped() {
				v.mu.Lock()
				n := v.last + 1
				v.mu.Unlock()
				c, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
				err := writer.Set(c, v.key, strconv.Itoa(n))
				cancel()
				v.mu.Lock()
				if err == nil {
					v.at = append(v.at, clock.Now())
					v.last = n
				}
				v.mu.Unlock()
				time.Sleep(2 * time.Millisecond)
			}
		})
		f.wg.Go(func() {
			for !f.stopped() {
				now := clock.Now()
				if got := reader.local(v.key); got != "" {
					f.hits.Add(1)
					if age := int64(v.age(got, now)); age > f.worst.Load() {
						f.worst.Store(age)
					}
				} else {
					c, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
					reader.Get(c, v.key)
					cancel()
				}
				time.Sleep(100 * time.Microsecond)
			}
		})
	}
}

// end stops it and checks that the tiers equal Redis.
func (f *fleetOfVersions) end(t *testing.T, admin rueidis.Client, ps ...process) {
	t.Helper()
	close(f.stop)
	f.wg.Wait()
	for _, p := range ps {
		p.awaitStatus(t, invalidate.Live)
		eventually(t, "a probe is answered", func() bool { return p.store.stream.Ask() == nil })
	}
	for _, v := range f.keys {
		agree(t, admin, ps, v.key)
		holds(t, ps[len(ps)-1], v.key, stored(t, admin, v.key))
	}
	worst := time.Duration(f.worst.Load())
	if worst > clusterLease {
		t.Errorf("a local read was %v old, the bound is %v", worst, clusterLease)
	}
	if f.hits.Load() == 0 {
		t.Error("no local hit: the test proves nothing")
	}
	t.Logf("%d hits, the worst %v old; cuts %d", f.hits.Load(), worst, ps[len(ps)-1].store.State().Cuts)
}

// R4: replicas that lag behind are never read.
func TestReplicasThatLagAreNotRead(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*StoreOptions){
		"SendToReplicas": func(o *StoreOptions) {
			o.Client.SendToReplicas = func(cmd rueidis.Completed) bool { return cmd.IsReadOnly() }
		},
		"ReplicaOnly": func(o *StoreOptions) { o.Client.ReplicaOnly = true },
	} {
		o := StoreOptions{Client: rueidis.ClientOption{InitAddress: []string{"127.0.0.1:1"}}, Invalidation: invalidate.Tracking}
		change(&o)
		if _, err := Open(ctx, o); !errors.Is(err, ErrOption) {
			t.Errorf("%s: got %v, want ErrOption", name, err)
		}
	}
	s := redistest.Cluster(t)
	admin := redistest.Client(t, s)
	a, b := join(t, s, invalidate.Tracking, inCluster()), join(t, s, invalidate.Tracking, inCluster())
	for i := range 3 {
		defer s.Replicas(s.Owner(uint16(i * 6000)))[0].Pause()()
	}
	for i := range 200 {
		v := strconv.Itoa(i)
		eventually(t, "a write", func() bool { return a.Set(ctx, key(i%10), v) == nil })
		fence(t, b.store)
		if got, err := b.Fresh().Get(ctx, key(i%10)); err != nil || got != v {
			t.Fatalf("read %q, %v, want %q", got, err, v)
		}
	}
	agree(t, admin, []process{a, b}, "k0", "k1", "k2", "k3", "k4")
}
