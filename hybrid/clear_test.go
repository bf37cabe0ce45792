package hybrid

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/internal/redistest"
	"github.com/flipcache/flipcache/invalidate"
)

// H10: Clear races with a fill, in this process and in another.
func TestH10_FillOfBeforeAClearIsNotKept(t *testing.T) {
	for _, who := range []string{"own", "foreign"} {
		t.Run(who, func(t *testing.T) {
			redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
				admin := redistest.Client(t, s)
				a, b := join(t, s, invalidate.PubSub), join(t, s, invalidate.PubSub)
				heard := newEar(t, b.store, admin)
				redistest.Do(t, admin, "SET", "n:k", "v")
				clearer := a
				if who == "own" {
					clearer = b
				}
				g := newGate(b, afterReadReply, "k")
				wait := async(func() { b.Get(ctx, "k") })
				<-g.reached
				if err := clearer.Clear(ctx); err != nil {
					t.Fatal(err)
				}
				heard.drain(t)
				close(g.open)
				wait()
				if v := b.local("k"); v != "" {
					t.Errorf("cleared, and the local tier holds %q", v)
				}
			})
		})
	}
}

// Without invalidation nothing but Clear itself can tell the process' flights.
func TestH10_FlightsOfBeforeAnOwnClearAreNotKept(t *testing.T) {
	for _, what := range []string{"fill", "write"} {
		t.Run(what, func(t *testing.T) {
			redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
				admin := redistest.Client(t, s)
				a := join(t, s, invalidate.Off)
				var g *gate
				var wait func()
				if what == "fill" {
					redistest.Do(t, admin, "SET", "n:k", "v")
					g = newGate(a, afterReadReply, "k")
					wait = async(func() { a.Get(ctx, "k") })
				} else {
					g = newGate(a, afterWriteReply, "k")
					wait = async(func() { a.set(t, "k", "v") })
				}
				<-g.reached
				if err := a.Clear(ctx); err != nil {
					t.Fatal(err)
				}
				close(g.open)
				wait()
				if v := a.local("k"); v != "" {
					t.Errorf("cleared, and the local tier holds %q", v)
				}
			})
		})
	}
}

// What begins and ends while a Clear has come half way: the scan may have
// passed the key, or not.
func TestH10_FlightsDuringAnOwnClearAreNotKept(t *testing.T) {
	for _, mode := range []invalidate.Mode{invalidate.Off, invalidate.PubSub} {
		s := redistest.Real(t)
		admin := redistest.Client(t, s)
		a := join(t, s, mode)
		redistest.Do(t, admin, "SET", "n:read", "v")
		a.flights.BeginClear()
		a.want(t, "read", "v")
		a.set(t, "written", "v")
		if _, err := a.GetOrLoad(ctx, "loaded", value("v")); err != nil {
			t.Fatal(err)
		}
		for _, k := range []string{"read", "written", "loaded"} {
			if v := a.local(k); v != "" {
				t.Errorf("%v: half cleared, and the local tier holds %q for what was %s", mode, v, k)
			}
			redistest.Do(t, admin, "DEL", "n:"+k) // as a batch of the clear does
		}
		a.flights.EndClear()
		for _, k := range []string{"read", "written", "loaded"} {
			if v := a.local(k); v != "" {
				t.Errorf("%v: cleared, and the local tier holds %q for what was %s meanwhile", mode, v, k)
			}
		}
	}
}

// What a Clear sends: each batch with its announcement behind it in one
// transaction, and one more announcement at the end.
func TestH10_BatchAndAnnouncementAreOneTransaction(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		r := new(recorder)
		a := joinAs(t, s, invalidate.PubSub, Options[string, string]{}, func(o *StoreOptions) { o.Client.DialCtxFn = r.dial })
		many := make(map[string]string)
		for i := range 3000 {
			many[key(i)] = "v"
		}
		a.must(t, a.SetMany(ctx, many))
		r.take()
		a.must(t, a.Clear(ctx))
		shape := []string{""} // without repetitions
		for _, c := range r.take() {
			switch name := strings.ToUpper(c[0]); name {
			case "MULTI", "UNLINK", "PUBLISH", "EXEC":
				if name != "UNLINK" || shape[len(shape)-1] != name {
					shape = append(shape, name)
				}
			}
		}
		got := strings.Join(shape[1:], " ")
		got = strings.ReplaceAll(got, "MULTI UNLINK PUBLISH EXEC", "batch")
		if batches := strings.Count(got, "batch "); got != strings.Repeat("batch ", max(batches, 1))+"PUBLISH" {
			t.Errorf("Clear sent %s", got)
		}
	})
}

// A Clear that is cut off after any byte: what is gone was announced.
func TestH10_BatchesOfAClearCarryTheirAnnouncement(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	c := new(cutter)
	a := joinAs(t, s, invalidate.PubSub, Options[string, string]{}, func(o *StoreOptions) { o.Client.DialCtxFn = c.dial })
	b := joinAs(t, s, invalidate.PubSub, Options[string, string]{})
	heard := newEar(t, b.store, admin)
	isBatch := func(b []byte) bool { return bytes.Contains(b, []byte("UNLINK")) }
	prepare := func() {
		for i := range 3 {
			redistest.Do(t, admin, "SET", "n:"+key(i), "v")
		}
		heard.drain(t)
		for i := range 3 {
			wantValue(t, b, key(i), "v")
			if !b.held(key(i)) {
				t.Fatal("the reader holds nothing: nothing is tested")
			}
		}
	}
	prepare()
	c.arm(-1, isBatch)
	a.must(t, a.Clear(ctx))
	_, length := c.disarm()
	changed := 0
	for n := range length {
		prepare()
		c.arm(n, isBatch)
		if err := a.Clear(ctx); !errors.Is(err, ErrOutcomeUnknown) {
			t.Errorf("cut after byte %d of %d: %v, want ErrOutcomeUnknown", n, length, err)
		}
		addr, _ := c.disarm()
		eventually(t, "Redis is done with the connection", func() bool {
			m := redistest.Do(t, admin, "CLIENT", "LIST")
			list, _ := m.ToString()
			return !strings.Contains(list, " addr="+addr+" ")
		})
		heard.drain(t)
		for i := range 3 {
			if stored(t, admin, key(i)) != "" {
				continue
			}
			changed++
			if b.held(key(i)) {
				t.Fatalf("cut after byte %d of %d: %s is gone, and the reader holds it", n, length, key(i))
			}
		}
	}
	if changed == 0 {
		t.Error("no cut let the batch through: the test proves nothing")
	}
}

// While one process clears again and again, others read, write and load. When
// all is quiet no local tier differs from Redis.
func TestH10_ClearAmidReadsAndWritesLeavesTheTiersEqualToRedis(t *testing.T) {
	for _, mode := range []invalidate.Mode{invalidate.Off, invalidate.PubSub, invalidate.Tracking} {
		t.Run(mode.String(), func(t *testing.T) {
			s := redistest.Real(t)
			admin := redistest.Client(t, s)
			peers := make([]peer[string, string], 3)
			if mode == invalidate.Off {
				peers = peers[:1] // others would not be told
			}
			ears := make([]ear, len(peers))
			for i := range peers {
				peers[i] = joinAs(t, s, mode, Options[string, string]{NegativeTTL: time.Hour})
				ears[i] = newEar(t, peers[i].store, admin)
			}
			var over atomic.Bool
			wait := async(func() {
				repeat(6, func(i int) {
					p := peers[i%len(peers)]
					for n := 0; !over.Load(); n++ {
						k := key(n % 20)
						switch (n / 20) % 4 {
						case 0:
							p.Set(ctx, k, fmt.Sprint(i, n))
						case 1, 2:
							p.Get(ctx, k)
						default:
							p.GetOrLoad(ctx, k, value("loaded"))
						}
					}
				})
			})
			for end := time.Now().Add(500 * time.Millisecond); time.Now().Before(end); {
				if err := peers[0].Clear(ctx); err != nil {
					t.Error(err)
				}
			}
			over.Store(true)
			wait()
			for i, p := range peers {
				switch mode {
				case invalidate.PubSub:
					ears[i].drain(t)
				case invalidate.Tracking: // a reply comes behind the pushes
					if _, err := p.Fresh().Get(ctx, "no such key"); !errors.Is(err, ErrNotFound) {
						t.Fatal(err)
					}
				}
				for n := range 20 {
					if e := p.flights.Hit(key(n)); e != nil && e.Value != stored(t, admin, key(n)) {
						t.Errorf("process %d holds %q for %s, Redis %q", i, e.Value, key(n), stored(t, admin, key(n)))
					}
				}
			}
		})
	}
}
