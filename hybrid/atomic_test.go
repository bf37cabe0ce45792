package hybrid

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/internal/redistest"
	"github.com/flipcache/flipcache/invalidate"
)

func TestH28_AtomicChangesKeepTheRemainingLifeAndGiveNewKeysTheCaches(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		for _, ttl := range []time.Duration{0, time.Hour} {
			a := joinAs(t, s, invalidate.PubSub, Options[string, int]{TTL: ttl})
			b := joinAs(t, s, invalidate.Off, Options[string, uint64]{TTL: ttl}) // counts by Update
			fresh := int64(-1)
			if ttl > 0 {
				fresh = ttl.Milliseconds()
			}
			for name, op := range map[string]func() error{
				"Incr":         func() error { _, err := Incr(ctx, a.Cache, "k", 1); return err },
				"Incr, uint64": func() error { _, err := Incr(ctx, b.Cache, "k", 1); return err },
				"Update": func() error {
					_, err := a.Update(ctx, "k", func(n int, _ bool) (int, error) { return n + 1, nil })
					return err
				},
				"SetIfAbsent": func() error { _, err := a.SetIfAbsent(ctx, "k", 1); return err },
			} {
				redistest.Do(t, admin, "DEL", "n:k")
				for when, want := range map[string]int64{"a": fresh, "b": 60_000, "c": -1} {
					switch when {
					case "b":
						redistest.Do(t, admin, "SET", "n:k", "1", "PX", "60000")
					case "c":
						redistest.Do(t, admin, "SET", "n:k", "1")
					default:
						redistest.Do(t, admin, "DEL", "n:k")
					}
					if err := op(); err != nil {
						t.Errorf("%s: %v", name, err)
					}
					if ms := pttl(t, admin, "k"); ms > want || ms < want-2000 || want > 0 && ms < 0 {
						t.Errorf("%s, TTL %v: the life is %d ms, want %d", name, ttl, ms, want)
					}
				}
			}
		}
	})
}

func TestH28_UpdatesOwnErrorEndsItAndWritesNothing(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		p := joinAs(t, s, invalidate.PubSub, Options[string, string]{})
		refusal := errors.New("not today")
		for _, before := range []string{"", "v"} {
			if before != "" {
				p.must(t, p.Set(ctx, "k", before))
			}
			sent := p.Stats().Sent
			calls := 0
			got, err := p.Update(ctx, "k", func(old string, found bool) (string, error) {
				calls++
				if old != before || found != (before != "") {
					t.Errorf("change got %q, %v", old, found)
				}
				return "leaked", refusal
			})
			if got != "" || !errors.Is(err, refusal) || calls != 1 {
				t.Errorf("got %q, %v after %d calls", got, err, calls)
			}
			if v := stored(t, admin, "k"); v != before || p.Stats().Sent != sent {
				t.Errorf("Redis holds %q, %d were announced", v, p.Stats().Sent-sent)
			}
		}
	})
}

// Others change the key between each reading and writing.
func TestH28_UpdateGetsWhatOthersWroteAndGivesUpByItsTimeout(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		p := joinAs(t, s, invalidate.PubSub, Options[string, int]{}, func(o *StoreOptions) { o.Timeout = 200 * time.Millisecond })
		others := []func(n int){
			func(n int) { redistest.Do(t, admin, "SET", "n:k", strconv.Itoa(n)) },
			func(int) { redistest.Do(t, admin, "DEL", "n:k") },
			func(n int) { redistest.Do(t, admin, "SET", "n:k", strconv.Itoa(n)) },
		}
		p.must(t, p.Set(ctx, "k", 1))
		var seen []string
		got, err := p.Update(ctx, "k", func(old int, found bool) (int, error) {
			seen = append(seen, fmt.Sprint(old, found))
			if n := len(seen); n <= len(others) {
				others[n-1](10 * n)
			}
			return old + 1, nil
		})
		if want := []string{"1 true", "10 true", "0 false", "30 true"}; err != nil || got != 31 || strings.Join(seen, ", ") != strings.Join(want, ", ") {
			t.Errorf("got %d, %v; change saw %q, want %q", got, err, seen, want)
		}
		if v := stored(t, admin, "k"); v != "31" {
			t.Errorf("Redis holds %q", v)
		}

		n := 1000
		var start time.Time
		for range 5 {
			start = time.Now()
			_, err = p.Update(ctx, "k", func(old int, _ bool) (int, error) {
				n++
				redistest.Do(t, admin, "SET", "n:k", strconv.Itoa(n))
				return -1, nil
			})
			if !errors.Is(err, ErrOutcomeUnknown) { // its time may be over while Redis is asked
				break
			}
		}
		if took := time.Since(start); !errors.Is(err, ErrConflict) || took < 150*time.Millisecond || took > 5*time.Second {
			t.Errorf("after %v: %v, want ErrConflict after 200 ms", took, err)
		}
		if v := stored(t, admin, "k"); v != strconv.Itoa(n) {
			t.Errorf("Redis holds %q, want what the others wrote last: %d", v, n)
		}

		cancelled, cancel := context.WithCancel(ctx)
		calls := 0
		_, err = p.Update(cancelled, "k", func(int, bool) (int, error) {
			if calls++; calls == 3 {
				cancel()
			}
			n++
			redistest.Do(t, admin, "SET", "n:k", strconv.Itoa(n))
			return -1, nil
		})
		if !errors.Is(err, context.Canceled) || calls != 3 {
			t.Errorf("cancelled in the third attempt: %v after %d", err, calls)
		}
		if v := stored(t, admin, "k"); v != strconv.Itoa(n) {
			t.Errorf("cancelled, and Redis holds %q, want %d", v, n)
		}
	})
}

// R57: other processes hear of each, and of nothing that changed nothing.
func TestAtomicChangesAreHeardByOtherProcesses(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		o := Options[string, int]{NegativeTTL: time.Hour}
		a, b := joinAs(t, s, invalidate.PubSub, o), joinAs(t, s, invalidate.PubSub, o)
		heard := newEar(t, b.store, admin)
		for _, test := range []struct {
			name  string
			there bool // the key, at the beginning
			op    func() error
			want  int // -1: nothing
			told  bool
		}{
			{"Incr", true, func() error { _, err := Incr(ctx, a.Cache, "k", 1); return err }, 8, true},
			{"Incr of a new key", false, func() error { _, err := Incr(ctx, a.Cache, "k", 1); return err }, 1, true},
			{"Update", true, func() error {
				_, err := a.Update(ctx, "k", func(n int, _ bool) (int, error) { return n + 2, nil })
				return err
			}, 9, true},
			{"Update of a new key", false, func() error {
				_, err := a.Update(ctx, "k", func(n int, _ bool) (int, error) { return n + 2, nil })
				return err
			}, 2, true},
			{"SetIfAbsent of a new key", false, func() error { _, err := a.SetIfAbsent(ctx, "k", 3); return err }, 3, true},
			{"SetIfAbsent in vain", true, func() error { _, err := a.SetIfAbsent(ctx, "k", 3); return err }, 7, false},
			{"GetAndDelete", true, func() error { _, err := a.GetAndDelete(ctx, "k"); return err }, -1, true},
			{"GetAndDelete in vain", false, func() error { a.GetAndDelete(ctx, "k"); return nil }, -1, false},
			{"Touch that shortens", true, func() error { return a.Touch(ctx, "k", time.Hour) }, 7, true},
			{"Clear", true, func() error { return a.Clear(ctx) }, -1, true},
			{"a load", false, func() error {
				_, err := a.GetOrLoad(ctx, "k", func(context.Context, string) (int, error) { return 4, nil })
				return err
			}, 4, true},
		} {
			a.must(t, a.Delete(ctx, "k"))
			if test.there {
				a.must(t, a.Set(ctx, "k", 7))
			}
			heard.drain(t)
			b.Get(ctx, "k")
			if !b.held("k") {
				t.Fatalf("%s: the other process holds nothing: nothing is tested", test.name)
			}
			if err := test.op(); err != nil {
				t.Errorf("%s: %v", test.name, err)
			}
			heard.drain(t)
			if b.held("k") == test.told {
				t.Errorf("%s: afterwards the other process holds it: %v", test.name, b.held("k"))
			}
			for who, p := range map[string]peer[string, int]{"the writer": a, "the other process": b} {
				switch v, err := p.Get(ctx, "k"); {
				case test.want < 0 && !errors.Is(err, ErrNotFound), test.want >= 0 && (err != nil || v != test.want):
					t.Errorf("%s: %s reads %d, %v; want %d", test.name, who, v, err, test.want)
				}
			}
		}
	})
}

func TestSetIfAbsentHasOneWinner(t *testing.T) {
	eachMode(t, func(t *testing.T, mode invalidate.Mode, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		peers := make([]peer[string, int], 4)
		for i := range peers {
			peers[i] = joinAs(t, s, mode, Options[string, int]{TTL: time.Hour})
		}
		for round := range 20 {
			var winners, winner atomic.Int32
			repeat(16, func(i int) {
				won, err := peers[i%4].SetIfAbsent(ctx, key(round), i)
				if err != nil {
					t.Error(err)
				}
				if won {
					winners.Add(1)
					winner.Store(int32(i))
				}
			})
			if winners.Load() != 1 || stored(t, admin, key(round)) != strconv.Itoa(int(winner.Load())) {
				t.Errorf("%d winners; the last is %d, Redis holds %q", winners.Load(), winner.Load(), stored(t, admin, key(round)))
			}
		}
		redistest.Do(t, admin, "RPUSH", "n:list", "1")
		if won, err := peers[0].SetIfAbsent(ctx, "list", 1); won || err != nil {
			t.Errorf("over a list: %v, %v", won, err)
		}
	})
}

func TestGetAndDeleteHasOneWinner(t *testing.T) {
	eachMode(t, func(t *testing.T, mode invalidate.Mode, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		peers := make([]peer[string, int], 4)
		for i := range peers {
			peers[i] = joinAs(t, s, mode, Options[string, int]{})
		}
		for round := range 20 {
			peers[0].must(t, peers[0].Set(ctx, "k", round))
			var winners atomic.Int32
			repeat(16, func(i int) {
				switch v, err := peers[i%4].GetAndDelete(ctx, "k"); {
				case err == nil && v == round:
					winners.Add(1)
				case !errors.Is(err, ErrNotFound):
					t.Errorf("got %d, %v", v, err)
				}
			})
			if winners.Load() != 1 || stored(t, admin, "k") != "" {
				t.Errorf("%d got it, and Redis holds %q", winners.Load(), stored(t, admin, "k"))
			}
			peers[0].wantMissing(t, "k")
		}
		redistest.Do(t, admin, "SET", "n:k", "no number")
		if _, err := peers[0].GetAndDelete(ctx, "k"); !errors.Is(err, ErrDecode) || stored(t, admin, "k") != "" {
			t.Errorf("of what does not decode: %v, and Redis holds %q", err, stored(t, admin, "k"))
		}
		redistest.Do(t, admin, "RPUSH", "n:k", "1")
		if _, err := peers[0].GetAndDelete(ctx, "k"); !errors.Is(err, ErrDecode) || errors.Is(err, ErrOutcomeUnknown) || pttl(t, admin, "k") != -1 {
			t.Errorf("of a list: %v, and its life is %d ms", err, pttl(t, admin, "k"))
		}
	})
}
