package hybrid

import (
	"bytes"
	"errors"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/flipcache/flipcache/internal/clock"
	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/internal/redistest"
	"github.com/flipcache/flipcache/internal/slots"
	"github.com/flipcache/flipcache/invalidate"
)

// H5 in a cluster: a writer dies between the write and its announcement, here after
// many a byte of its request.
func TestH5_WriterDiesInACluster(t *testing.T) {
	t.Parallel()
	s := redistest.Cluster(t)
	admin := redistest.Client(t, s)
	owner := s.Owner(slotOf("k1"))
	for _, mode := range invalidating {
		for name, op := range map[string]func(process) error{
			"Set":    func(w process) error { return w.Set(ctx, "k1", "new") },
			"Delete": func(w process) error { return w.Delete(ctx, "k1") },
			"Touch":  func(w process) error { return w.Touch(ctx, "k1", 30*time.Second) },
		} {
			t.Run(mode.String()+", "+name, func(t *testing.T) {
				everywhere(t, admin, "FLUSHALL")
				c := new(cutter)
				w := join(t, s, mode, func(o *StoreOptions, _ *Options[string, string]) { o.Client.DialCtxFn = c.dial })
				r := join(t, s, mode)
				heard := newMark(t, r)
				prepare := func() {
					eventually(t, "the writer writes", func() bool { return w.Set(ctx, "k1", "old") == nil })
					heard.await(t, admin)
					holds(t, r, "k1", "old")
				}
				isWrite := func(b []byte) bool {
					return bytes.Contains(b, []byte("n:k1")) || bytes.Contains(b, []byte("MULTI"))
				}
				for range 2 { // the first may load a script
					prepare()
					c.arm(-1, isWrite)
					if err := op(w); err != nil {
						t.Fatal(err)
					}
				}
				_, length := c.disarm()
				changed := false
				cutAfter := func(n int) {
					prepare()
					c.arm(n, isWrite)
					err := op(w)
					addr, _ := c.disarm()
					if err != nil && !errors.Is(err, ErrOutcomeUnknown) {
						t.Errorf("cut after byte %d of %d: got %v, want ErrOutcomeUnknown", n, length, err)
					}
					eventually(t, "Redis is done with the connection", func() bool {
						m, err := owner.Do("CLIENT", "LIST")
						list, _ := m.ToString()
						return err == nil && !strings.Contains(list, " addr="+addr+" ")
					})
					heard.await(t, admin)
					m := redistest.Do(t, admin, "PTTL", "n:k1")
					life, _ := m.AsInt64()
					now := stored(t, admin, "k1")
					is := now != "old" || life != -1
					changed = changed || is
					if err == nil && !is { // the write may be answered before what is read behind it
						t.Errorf("cut after byte %d of %d: no error, and Redis holds %q", n, length, now)
					}
					if v := r.local("k1"); is && v == "old" {
						t.Fatalf("cut after byte %d of %d: Redis holds %q (life %d), the reader's tier %q", n, length, now, life, v)
					}
				}
				for n := 0; n < length; n += 7 {
					cutAfter(n)
				}
				// The server may see the connection reset before it has read all.
				for try := 0; try < 50 && !changed; try++ {
					cutAfter(length)
				}
				if !changed {
					t.Error("not even the whole request changed anything: the test proves nothing")
				}
			})
		}
	}
}

// calls returns how often a server was given a command.
func calls(t testing.TB, s *redisserver.Server, command string) int {
	t.Helper()
	m, err := s.Do("INFO", "commandstats")
	info, _ := m.ToString()
	found := regexp.MustCompile(`cmdstat_` + command + `:calls=(\d+)`).FindStringSubmatch(info)
	if err != nil || found == nil {
		t.Fatalf("%s: no calls of %s: %v", s.Addr, command, err)
	}
	n, _ := strconv.Atoi(found[1])
	return n
}

// H34 in a cluster: who clears many keys asks no master for more than a batch at a
// time, and floods nobody who listens.
func TestH34_ClearOfManyKeysInAClusterFloodsNobody(t *testing.T) {
	t.Parallel()
	s := redistest.Cluster(t)
	n := 20_000
	if long {
		n = 1_000_000
	}
	for _, mode := range invalidating {
		t.Run(mode.String(), func(t *testing.T) {
			admin := redistest.Client(t, s)
			cleaner := join(t, s, mode)
			var peers []process
			var marks []*mark
			for range 5 {
				p := join(t, s, mode)
				peers, marks = append(peers, p), append(marks, newMark(t, p))
			}
			var keys []string
			all := make(map[string]string)
			for i := range n {
				all[key(i)] = "a value of some length"
				keys = append(keys, key(i))
			}
			if err := cleaner.SetMany(ctx, all); err != nil {
				t.Fatal(err)
			}
			for i, p := range peers {
				marks[i].await(t, admin)
				if m, err := p.GetMany(ctx, keys[:1000]); err != nil || len(m) != 1000 {
					t.Fatal(len(m), err)
				}
			}
			var cuts []uint64 // of before: a client that has just begun may dial anew
			for _, p := range peers {
				cuts = append(cuts, p.store.State().Cuts)
			}
			everywhere(t, admin, "CONFIG", "RESETSTAT")
			if err := cleaner.Clear(ctx); err != nil {
				t.Fatal(err)
			}
			// A master serves others between two steps, of about a thousand keys each.
			for _, slot := range []uint16{0, slots.Count / 2, slots.Count - 1} { // of three masters
				master := s.Owner(slot)
				const passes = 2
				if steps := calls(t, master, "scan"); steps < passes*n/3/2000 {
					t.Errorf("%s was cleared of a third of %d keys in %d steps", master.Addr, n, steps)
				}
			}
			if left, err := cleaner.Count(ctx); err != nil || left != 0 {
				t.Errorf("%d keys are left, %v", left, err)
			}
			for i, p := range peers {
				marks[i].await(t, admin)
				if held := p.Stats().Entries; held != 0 || p.store.State().Cuts != cuts[i] {
					t.Errorf("process %d holds %d entries, %v: %v", i, held, p.store.State(), p.store.State().LastCause)
				}
			}
		})
	}
}

// R5: nodes lose what they publish to each other, unseen, and nothing is written any
// more. Tracking needs no such message; PubSub has no bound there, and none may be
// asked for (TestOpenRefusesWhatAClusterCannotKeep).
func TestLostBusMessage(t *testing.T) {
	t.Parallel()
	s := redistest.Cluster(t, redisserver.AllowDebug()...)
	for _, mode := range invalidating {
		t.Run(mode.String(), func(t *testing.T) {
			lease := inCluster()
			if mode == invalidate.PubSub {
				lease = func(*StoreOptions, *Options[string, string]) {}
			}
			a, b := join(t, s, mode, lease), join(t, s, mode, lease)
			for i := range 30 {
				a.set(t, key(i), "v1")
			}
			if mode == invalidate.PubSub {
				newMark(t, b).await(t, redistest.Client(t, s))
			}
			for i := range 30 {
				holds(t, b, key(i), "v1")
			}
			const publish = "4" // type of the packet
			for _, node := range s.Nodes {
				if _, err := node.Do("DEBUG", "DROP-CLUSTER-PACKET-FILTER", publish); err != nil {
					t.Fatal(err)
				}
				defer node.Do("DEBUG", "DROP-CLUSTER-PACKET-FILTER", "-1")
			}
			for i := range 30 {
				a.set(t, key(i), "v2")
			}
			written := clock.Now()
			stale := 0
			for time.Duration(clock.Now()-written) < 2*clusterLease {
				stale = 0
				now := clock.Now()
				for i := range 30 {
					if b.local(key(i)) == "v1" {
						stale++
					}
				}
				if mode == invalidate.Tracking && stale > 0 && time.Duration(now-written) > clusterLease {
					t.Fatalf("%d keys are stale after %v", stale, time.Duration(now-written))
				}
				time.Sleep(time.Millisecond)
			}
			if mode == invalidate.PubSub && stale == 0 {
				t.Error("all was heard: take it out of the documented limits of PubSub in a cluster")
			}
		})
	}
}

// R19: slots move while channels are listened to. PubSub's
// channels have no slot, and go on; Tracking cuts, and hears the new owner.
func TestSlotsMoveWhileTheyAreListenedTo(t *testing.T) {
	t.Parallel()
	for _, mode := range invalidating {
		t.Run(mode.String(), func(t *testing.T) {
			s := redistest.Cluster(t) // of its own: Open wants masters that agree
			lease := inCluster()
			if mode == invalidate.PubSub {
				lease = func(*StoreOptions, *Options[string, string]) {}
			}
			a, b := join(t, s, mode, lease), join(t, s, mode, lease)
			for i := range 4 {
				k := key(i)
				a.set(t, k, "v")
				holds(t, b, k, "v")
				cuts := b.store.State().Cuts
				if err := move(t, s, k); err != nil {
					t.Fatal(err)
				}
				v := strconv.Itoa(i)
				a.set(t, k, v)
				written := time.Now()
				for b.local(k) == "v" {
					if time.Since(written) > clusterLease {
						t.Fatalf("a value was served %v after it was replaced", time.Since(written))
					}
				}
				holds(t, b, k, v)
				if mode == invalidate.Tracking {
					eventually(t, "a cut and a resume", func() bool {
						st := b.store.State()
						return st.Cuts > cuts && st.Status == invalidate.Live
					})
				}
				a.awaitStatus(t, invalidate.Live)
				holds(t, b, k, v)
				a.set(t, k, "next")
				eventually(t, "the new owner is heard", func() bool { return b.local(k) != v })
			}
		})
	}
}
