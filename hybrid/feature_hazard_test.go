package hybrid

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flipcache/flipcache/internal/clock"
	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/internal/redistest"
	"github.com/flipcache/flipcache/invalidate"
)

// H4: a write times out and lands later.
func TestH4_WriteThatLandsLaterIsHeardByItsWriter(t *testing.T) {
	for _, test := range []struct {
		name string
		op   func(p peer[string, string]) error
	}{
		{"Set", func(p peer[string, string]) error { return p.Set(ctx, "k", "late") }},
		{"SetMany", func(p peer[string, string]) error {
			return p.SetMany(ctx, map[string]string{"k": "late", "l": "late"})
		}},
		{"Update", func(p peer[string, string]) error {
			_, err := p.Update(ctx, "k", func(string, bool) (string, error) { return "late", nil })
			return err
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
				admin := redistest.Client(t, s)
				d := new(delayer)
				a := joinAs(t, s, invalidate.PubSub, Options[string, string]{}, func(o *StoreOptions) { o.Client.DialCtxFn = d.dial })
				heard := newEar(t, a.store, admin)
				a.must(t, test.op(a)) // a script is known to Redis now
				a.must(t, a.Set(ctx, "k", "early"))

				d.mu.Lock()
				d.fits = func(b []byte) bool { return bytes.Contains(b, []byte("PUBLISH")) || bytes.Contains(b, []byte("EVAL")) }
				d.mu.Unlock()
				if err := test.op(a); !errors.Is(err, ErrOutcomeUnknown) {
					t.Fatalf("the write that nobody answered: %v", err)
				}
				wantValue(t, a, "k", "early") // on a new connection
				if !a.held("k") {
					t.Fatal("the value is not in the local tier: nothing is tested")
				}
				if err := d.later(); err != nil {
					t.Fatal(err)
				}
				heard.drain(t)
				wantValue(t, a, "k", "late")
			})
		})
	}
}

// H9: "not found" remembered by A, B writes the key.
func TestH9_RememberedAbsenceEndsWithAnothersWrite(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		o := Options[string, string]{NegativeTTL: time.Hour}
		a, b := joinAs(t, s, invalidate.PubSub, o), joinAs(t, s, invalidate.PubSub, o)
		heard := newEar(t, a.store, admin)
		a.wantMissing(t, "k")
		before := a.fillCount()
		a.wantMissing(t, "k")
		if n := a.fillCount() - before; n != 0 {
			t.Fatalf("a remembered absence asked Redis %d times", n)
		}
		b.must(t, b.Set(ctx, "k", "v"))
		heard.drain(t)
		wantValue(t, a, "k", "v")

		// One that is under way when the write comes.
		b.must(t, b.Delete(ctx, "k"))
		heard.drain(t)
		g := newGateOn(a.store, afterReadReply, "k")
		wait := async(func() { a.Get(ctx, "k") })
		<-g.reached
		b.must(t, b.Set(ctx, "k", "w"))
		heard.drain(t)
		close(g.open)
		wait()
		wantValue(t, a, "k", "w")
	})
}

func TestH9_RememberedAbsenceKeepsNobodyFromLoading(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		a := joinAs(t, s, invalidate.PubSub, Options[string, string]{NegativeTTL: time.Hour})
		a.wantMissing(t, "k")
		if !a.held("k") {
			t.Fatal("the absence is not remembered")
		}
		if v, err := a.GetOrLoad(ctx, "k", value("loaded")); v != "loaded" || err != nil {
			t.Errorf("GetOrLoad: %q, %v", v, err)
		}
		wantValue(t, a, "k", "loaded")
	})
}

func TestH9_OnlyErrNotFoundOfTheLoaderIsRemembered(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		o := Options[string, string]{NegativeTTL: time.Hour}
		a, b := joinAs(t, s, invalidate.PubSub, o), joinAs(t, s, invalidate.PubSub, o)
		heard := newEar(t, a.store, admin)
		other := errors.New("the database is away")
		calls := 0
		load := func(err error) error {
			_, err = a.GetOrLoad(ctx, "k", func(context.Context, string) (string, error) {
				calls++
				return "leaked", err
			})
			return err
		}
		for range 3 {
			if err := load(other); !errors.Is(err, other) {
				t.Errorf("got %v, want the loader's error", err)
			}
		}
		if calls != 3 {
			t.Errorf("%d loads, want one for each call: the error was remembered", calls)
		}
		for range 3 {
			if err := load(fmt.Errorf("no row: %w", ErrNotFound)); !errors.Is(err, ErrNotFound) {
				t.Errorf("got %v, want ErrNotFound", err)
			}
		}
		if calls != 4 {
			t.Errorf("%d loads, want 4: ErrNotFound was not remembered", calls)
		}
		before := a.fillCount()
		a.wantMissing(t, "k")
		if n := a.fillCount() - before; n != 0 {
			t.Errorf("Get asked Redis %d times for what the loader knew to be absent", n)
		}
		b.must(t, b.Set(ctx, "k", "v"))
		heard.drain(t)
		wantValue(t, a, "k", "v")
	})
}

// The loader's word that there is nothing, and a write meanwhile.
func TestH9_AbsenceOfBeforeAWriteIsNotRemembered(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		o := Options[string, string]{NegativeTTL: time.Hour}
		a, b := joinAs(t, s, invalidate.PubSub, o), joinAs(t, s, invalidate.PubSub, o)
		heard := newEar(t, a.store, admin)
		g := newGateOn(a.store, afterTokenIsLaid, "k")
		wait := async(func() {
			a.GetOrLoad(ctx, "k", func(context.Context, string) (string, error) { return "", ErrNotFound })
		})
		<-g.reached
		b.must(t, b.Set(ctx, "k", "v"))
		heard.drain(t)
		close(g.open)
		wait()
		wantValue(t, a, "k", "v")
	})
}

func TestH9_AbsenceIsForgottenAfterNegativeTTL(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	st := openStore(t, s, invalidate.Off)
	advance := manualClock(st)
	a := peer[string, string]{newOn(t, st, "n", Options[string, string]{NegativeTTL: time.Minute}), st}
	a.wantMissing(t, "k")
	redistest.Do(t, admin, "SET", "n:k", "v") // nobody announces it
	advance(time.Minute - 1)
	a.wantMissing(t, "k")
	advance(1)
	wantValue(t, a, "k", "v")
}

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

// H26: the wall clock jumps. Nothing local is measured by it: with a clock that
// stands still nothing ends, however much time passes at Redis, and all ends to
// the nanosecond when the clock says so.
func TestH26_LocalLivesAreMeasuredByTheStoresClockAlone(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	for _, test := range []struct {
		name  string
		o     Options[string, string]
		enter func(p peer[string, string])
		life  time.Duration
	}{
		{"TTL", Options[string, string]{TTL: time.Minute}, func(p peer[string, string]) { p.Set(ctx, "k", "v") }, time.Minute},
		{"SetTTL", Options[string, string]{}, func(p peer[string, string]) { p.SetTTL(ctx, "k", "v", time.Minute) }, time.Minute},
		{"LocalTTL", Options[string, string]{LocalTTL: time.Minute}, func(p peer[string, string]) { p.Set(ctx, "k", "v") }, time.Minute},
		{"a fill", Options[string, string]{LocalTTL: time.Minute}, func(p peer[string, string]) { p.Get(ctx, "k") }, time.Minute},
		{"a load", Options[string, string]{TTL: time.Minute}, func(p peer[string, string]) {
			redistest.Do(t, admin, "DEL", "n:k")
			p.GetOrLoad(ctx, "k", value("v"))
		}, time.Minute},
		{"half a life, with RefreshTTLOnGet", Options[string, string]{TTL: time.Minute, RefreshTTLOnGet: true},
			func(p peer[string, string]) { p.Set(ctx, "k", "v") }, 30*time.Second + clock.Tick},
		{"the default cap", Options[string, string]{}, func(p peer[string, string]) { p.Set(ctx, "k", "v") }, defaultLocalTTL},
	} {
		t.Run(test.name, func(t *testing.T) {
			redistest.Do(t, admin, "SET", "n:k", "v")
			st := openStore(t, s, invalidate.PubSub)
			advance := manualClock(st)
			p := peer[string, string]{newOn(t, st, "n", test.o), st}
			test.enter(p)
			advance(test.life - 1)
			if !p.held("k") {
				t.Error("gone a nanosecond before its time")
			}
			advance(1)
			if p.held("k") {
				t.Error("there when its time is over")
			}
		})
	}
	const begin = 100 * 365 * 24 * time.Hour // what the clock shows when the process starts
	if now := time.Duration(clock.Now()) - begin; now < 0 || now > 24*time.Hour {
		t.Errorf("the clock shows %v: it does not count from the process' start", now)
	}
}

func cloneMap(m map[string]int) map[string]int { return maps.Clone(m) }

// H30: a caller changes a cached map.
func TestH30_CloneKeepsCallersAndTierApart(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		template := map[string]int{"n": 1}
		a := joinAs(t, s, invalidate.PubSub, Options[string, map[string]int]{Clone: cloneMap,
			Default: func(string) (map[string]int, error) { return template, nil }})
		for name, get := range map[string]func(k string) (map[string]int, error){
			"Set": func(k string) (map[string]int, error) {
				m := map[string]int{"n": 1}
				err := a.Set(ctx, k, m)
				return m, err
			},
			"SetMany": func(k string) (map[string]int, error) {
				m := map[string]int{"n": 1}
				err := a.SetMany(ctx, map[string]map[string]int{k: m})
				return m, err
			},
			"a fill": func(k string) (map[string]int, error) {
				redistest.Do(t, admin, "SET", "n:"+k, `{"n":1}`)
				return a.Get(ctx, k)
			},
			"GetMany": func(k string) (map[string]int, error) {
				redistest.Do(t, admin, "SET", "n:"+k, `{"n":1}`)
				m, err := a.GetMany(ctx, []string{k})
				return m[k], err
			},
			"Default": func(k string) (map[string]int, error) { return a.Get(ctx, k) },
			"GetMany's Default": func(k string) (map[string]int, error) {
				m, err := a.GetMany(ctx, []string{k})
				return m[k], err
			},
			"a load": func(k string) (map[string]int, error) {
				return a.GetOrLoad(ctx, k, func(context.Context, string) (map[string]int, error) { return template, nil })
			},
			"Update": func(k string) (map[string]int, error) {
				return a.Update(ctx, k, func(map[string]int, bool) (map[string]int, error) { return map[string]int{"n": 1}, nil })
			},
		} {
			m, err := get(name)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			for range 3 { // the last ones are hits
				m["n"]++
				if m, err = a.Get(ctx, name); err != nil || m["n"] != 1 {
					t.Errorf("%s: a caller changed what it had, and the next read is %v, %v", name, m, err)
				}
				many, err := a.GetMany(ctx, []string{name})
				if err != nil || many[name]["n"] != 1 {
					t.Errorf("%s: GetMany after a change: %v, %v", name, many, err)
				}
				many[name]["n"]++
			}
		}
		if template["n"] != 1 {
			t.Errorf("callers changed the loader's own value: %v", template)
		}
	})
}

// Callers that change what they get, all at once: for the race detector.
func TestH30_ClonesAreOfNobodyElse(t *testing.T) {
	s := redistest.Embedded(t)
	a := joinAs(t, s, invalidate.PubSub, Options[string, map[string]int]{Clone: cloneMap})
	repeat(16, func(i int) {
		for range 50 {
			m, err := a.GetOrLoad(ctx, "k", func(context.Context, string) (map[string]int, error) { return map[string]int{"n": 1}, nil })
			if err != nil || m["n"] != 1 {
				t.Errorf("got %v, %v", m, err)
				return
			}
			m["n"] += i
			if i == 0 {
				a.Delete(ctx, "k")
			}
		}
	})
}

func TestWithoutCloneValuesAreShared(t *testing.T) {
	a := joinAs(t, redistest.Embedded(t), invalidate.PubSub, Options[string, *int]{})
	n := 1
	a.must(t, a.Set(ctx, "k", &n))
	if got, err := a.Get(ctx, "k"); err != nil || got != &n {
		t.Errorf("got %p, %v; want the very pointer %p that was set", got, err, &n)
	}
}

// panicky panics in both directions.
type panicky struct{}

func (panicky) Append([]byte, int) ([]byte, error) { return []byte("x"), nil }
func (panicky) Decode([]byte) (int, error)         { panic("a codec's fault") }

// H31: bytes that do not decode.
func TestH31_BytesThatDoNotDecode(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		a := joinAs(t, s, invalidate.PubSub, Options[string, int]{NegativeTTL: time.Hour})
		for name, spoil := range map[string]func(){
			"text":              func() { redistest.Do(t, admin, "SET", "n:k", "not a number") },
			"nothing":           func() { redistest.Do(t, admin, "SET", "n:k", "") },
			"binary":            func() { redistest.Do(t, admin, "SET", "n:k", "\x00\xff\xfe") },
			"too wide":          func() { redistest.Do(t, admin, "SET", "n:k", "99999999999999999999") },
			"trailing garbage":  func() { redistest.Do(t, admin, "SET", "n:k", "12 ") },
			"a list, no string": func() { redistest.Do(t, admin, "RPUSH", "n:k", "1") },
		} {
			mends := map[string]func() error{
				"Set":     func() error { return a.Set(ctx, "k", 7) },
				"SetMany": func() error { return a.SetMany(ctx, map[string]int{"k": 7}) },
				"Delete":  func() error { return a.Delete(ctx, "k") },
			}
			for how, mend := range mends {
				redistest.Do(t, admin, "DEL", "n:k")
				a.must(t, a.Delete(ctx, "k"))
				spoil()
				for range 2 {
					before := a.fillCount()
					v, err := a.Get(ctx, "k")
					var e *Error
					if v != 0 || !errors.Is(err, ErrDecode) || !errors.As(err, &e) || e.Key != "k" || e.Name != "n" {
						t.Errorf("%s: Get: %v, %v; want ErrDecode with the key", name, v, err)
					}
					if a.held("k") || a.fillCount() == before {
						t.Errorf("%s: what does not decode is in the local tier", name)
					}
				}
				a.must(t, a.Set(ctx, "good", 1))
				found, err := a.GetMany(ctx, []string{"good", "k", "none"})
				if !errors.Is(err, ErrDecode) || !strings.Contains(err.Error(), "n:k") || len(found) != 1 || found["good"] != 1 {
					t.Errorf("%s: GetMany: %v, %v", name, found, err)
				}
				if err := mend(); err != nil {
					t.Errorf("%s: %s does not mend it: %v", name, how, err)
				}
				switch v, err := a.Get(ctx, "k"); {
				case how == "Delete" && !errors.Is(err, ErrNotFound), how != "Delete" && (v != 7 || err != nil):
					t.Errorf("%s: after %s: %v, %v", name, how, v, err)
				}
			}
		}
	})
}

func TestH31_CodecThatPanicsIsAnError(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		a := joinAs(t, s, invalidate.PubSub, Options[string, int]{Codec: panicky{}})
		for name, op := range map[string]func() error{
			"Get":     func() error { _, err := a.Get(ctx, "k"); return err },
			"GetMany": func() error { _, err := a.GetMany(ctx, []string{"k", "l"}); return err },
			"Update": func() error {
				_, err := a.Update(ctx, "k", func(n int, _ bool) (int, error) { return n, nil })
				return err
			},
			"GetAndDelete": func() error { _, err := a.GetAndDelete(ctx, "k"); return err },
		} {
			redistest.Do(t, admin, "SET", "n:k", "x")
			if err := op(); !errors.Is(err, ErrDecode) || !errors.Is(err, ErrPanic) {
				t.Errorf("%s: %v, want ErrDecode and ErrPanic", name, err)
			}
		}
	})
}

// emptyIsAValue has a value that looks like nothing go through every method.
func emptyIsAValue[V any](t *testing.T, s *redisserver.Server, name string, empty V, is func(V) bool) {
	t.Run(name, func(t *testing.T) {
		asked := 0
		o := Options[string, V]{NegativeTTL: time.Hour, Default: func(string) (v V, err error) {
			asked++
			return v, errors.New("the default was asked")
		}}
		a, b := joinAs(t, s, invalidate.PubSub, o), joinAs(t, s, invalidate.PubSub, o)
		heard := newEar(t, b.store, redistest.Client(t, s))
		a.must(t, a.Delete(ctx, "k"))
		a.must(t, a.Set(ctx, "k", empty))
		heard.drain(t) // else the Set's message may come after b's read, and end what that left
		for range 2 {
			a.wantFunc(t, "k", is) // from the writer's tier
			b.wantFunc(t, "k", is) // from Redis, then from the tier
		}
		if !a.held("k") || !b.held("k") {
			t.Error("it is not kept locally")
		}
		if v, err := b.GetOrLoad(ctx, "k", func(context.Context, string) (v V, err error) {
			return v, errors.New("it was loaded")
		}); err != nil || !is(v) {
			t.Errorf("GetOrLoad: %v, %v", v, err)
		}
		if m, err := b.Fresh().GetMany(ctx, []string{"k"}); err != nil || len(m) != 1 || !is(m["k"]) {
			t.Errorf("GetMany: %v, %v", m, err)
		}
		if set, err := b.SetIfAbsent(ctx, "k", empty); set || err != nil {
			t.Errorf("SetIfAbsent: %v, %v", set, err)
		}
		if _, err := b.Update(ctx, "k", func(old V, found bool) (V, error) {
			if !found || !is(old) {
				t.Errorf("Update's change got %v, %v", old, found)
			}
			return empty, nil
		}); err != nil {
			t.Error(err)
		}
		if n, err := b.Count(ctx); n != 1 || err != nil {
			t.Errorf("Count: %d, %v", n, err)
		}
		if v, err := b.GetAndDelete(ctx, "k"); err != nil || !is(v) {
			t.Errorf("GetAndDelete: %v, %v", v, err)
		}
		if asked != 0 {
			t.Errorf("the default was asked %d times", asked)
		}
	})
}

// H32: an empty value is a value.
func TestH32_EmptyIsAValue(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		emptyIsAValue(t, s, "empty string", "", func(v string) bool { return v == "" })
		emptyIsAValue(t, s, "zero", 0, func(v int) bool { return v == 0 })
		emptyIsAValue(t, s, "empty bytes", []byte{}, func(v []byte) bool { return len(v) == 0 })
		emptyIsAValue(t, s, "nil bytes", []byte(nil), func(v []byte) bool { return len(v) == 0 })
		emptyIsAValue(t, s, "nil pointer", (*int)(nil), func(v *int) bool { return v == nil })
		emptyIsAValue(t, s, "nil map", map[string]int(nil), func(v map[string]int) bool { return v == nil })
		emptyIsAValue(t, s, "empty map", map[string]int{}, func(v map[string]int) bool { return v != nil && len(v) == 0 })
		emptyIsAValue(t, s, "empty slice", []int{}, func(v []int) bool { return v != nil && len(v) == 0 })
		emptyIsAValue(t, s, "false", false, func(v bool) bool { return !v })
		emptyIsAValue(t, s, "zero struct", struct{ A int }{}, func(v struct{ A int }) bool { return v.A == 0 })
	})
}
