package hybrid

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flipcache/flipcache/internal/redistest"
	"github.com/flipcache/flipcache/invalidate"
)

// R57: what one process does to a key, by whatever method, the others know as
// soon as it is delivered.
func everyWritingMethodIsHeard(t *testing.T, s redistest.Server, mode invalidate.Mode) {
	admin := redistest.Client(t, s)
	a, b := join(t, s, mode), join(t, s, mode)
	quiet := join(t, s, mode, func(_ *StoreOptions, o *Options[string, string]) { o.NoLocal = true })
	heard := newMark(t, b)
	many := make(map[string]string)
	var names []string
	for i := range 1000 {
		names = append(names, fmt.Sprint("many", i))
		many[names[i]] = "new"
	}
	long := strings.Repeat("x", invalidate.MaxMessage) // its message says "everything"
	for _, test := range []struct {
		name  string
		keys  []string
		want  string
		write func(process) error
	}{
		{"Set", []string{"k"}, "new", func(p process) error { return p.Set(ctx, "k", "new") }},
		{"SetTTL", []string{"k"}, "new", func(p process) error { return p.SetTTL(ctx, "k", "new", time.Hour) }},
		{"SetMany", names, "new", func(p process) error { return p.SetMany(ctx, many) }},
		{"Delete", []string{"k"}, "", func(p process) error { return p.Delete(ctx, "k") }},
		{"Delete of many", names, "", func(p process) error { return p.Delete(ctx, names...) }},
		{"Touch that shortens", []string{"k"}, "", func(p process) error {
			err := p.Touch(ctx, "k", time.Millisecond)
			eventually(t, "it ends", func() bool { return stored(t, admin, "k") == "" })
			return err
		}},
		{"Update", []string{"k"}, "new", func(p process) error {
			_, err := p.Update(ctx, "k", func(string, bool) (string, error) { return "new", nil })
			return err
		}},
		{"GetAndDelete", []string{"k"}, "", func(p process) error { _, err := p.GetAndDelete(ctx, "k"); return err }},
		{"Clear", names, "", func(p process) error { return p.Clear(ctx) }},
		{"Set of the empty key", []string{""}, "new", func(p process) error { return p.Set(ctx, "", "new") }},
		{"Set of a key of any bytes", []string{"a:\r\n\x00\xff{}*"}, "new", func(p process) error { return p.Set(ctx, "a:\r\n\x00\xff{}*", "new") }},
		{"Set of a very long key", []string{long, "k"}, "", func(p process) error {
			return errors.Join(p.Delete(ctx, "k"), p.Set(ctx, long, ""))
		}},
	} {
		for who, w := range map[string]process{"a process with a tier": a, "a process without": quiet} {
			t.Run(test.name+" by "+who, func(t *testing.T) {
				for _, k := range test.keys {
					redistest.Do(t, admin, "SET", "n:"+k, "old")
				}
				heard.await(t, admin)
				b.flights.DropAll()
				if m, err := b.GetMany(ctx, test.keys); err != nil || len(m) != len(test.keys) {
					t.Fatal(len(m), err)
				}
				if b.local(test.keys[0]) != "old" {
					t.Fatal("the reader does not hold the old value")
				}
				if err := test.write(w); err != nil {
					t.Fatal(err)
				}
				heard.await(t, admin)
				agree(t, admin, []process{a, b}, test.keys...)
				for _, k := range test.keys {
					if v, err := b.Get(ctx, k); v != test.want || err != nil && !errors.Is(err, ErrNotFound) {
						t.Fatalf("%.20q: the reader reads %q, %v; want %q", k, v, err, test.want)
					}
				}
			})
		}
	}
}

// R11: what a process wrote is what it reads.
func aProcessReadsItsOwnWrites(t *testing.T, s redistest.Server, mode invalidate.Mode) {
	p := join(t, s, mode)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			key := fmt.Sprint("k", g)
			for i := range 1500 {
				v := strconv.Itoa(i)
				var err error
				switch i % 4 {
				case 0:
					err = p.SetMany(ctx, map[string]string{key: v})
				case 1:
					err = p.SetTTL(ctx, key, v, time.Hour)
				default:
					err = p.Set(ctx, key, v)
				}
				if err != nil {
					t.Error(err)
					return
				}
				if got, err := p.Get(ctx, key); got != v || err != nil {
					t.Errorf("%s: read %q, %v after writing %q", key, got, err, v)
					return
				}
				if i%16 == 15 {
					if err := p.Delete(ctx, key); err != nil {
						t.Error(err)
					}
					if got, err := p.Get(ctx, key); !errors.Is(err, ErrNotFound) {
						t.Errorf("%s: read %q, %v after Delete", key, got, err)
					}
				}
			}
		})
	}
	wg.Wait()
}

// One goroutine of the fleet writes a key, with growing numbers: no reader of
// one process sees them shrink.
func readsNeverStepBack(t *testing.T, s redistest.Server, mode invalidate.Mode) {
	admin := redistest.Client(t, s)
	var ps []process
	for range 3 {
		p := join(t, s, mode)
		p.store.hook = func(string, string) {
			if rand.N(100) < 20 {
				time.Sleep(time.Duration(rand.N(400)) * time.Microsecond)
			}
		}
		ps = append(ps, p)
	}
	end := time.Now().Add(stressTime(t) / 3)
	var wg sync.WaitGroup
	for k := range 4 {
		key := fmt.Sprint("k", k)
		wg.Go(func() {
			for i := 1; time.Now().Before(end); i++ {
				if err := ps[(i+k)%len(ps)].Set(ctx, key, strconv.Itoa(i)); err != nil && !errors.Is(err, ErrOutcomeUnknown) {
					t.Error(err)
				}
			}
		})
		for who, p := range ps {
			var newest atomic.Int64 // that a finished read of this process returned
			for range 3 {
				wg.Go(func() {
					for n := 0; time.Now().Before(end); n++ {
						floor := newest.Load()
						var v string
						var err error
						switch n % 4 {
						case 0:
							var m map[string]string
							m, err = p.GetMany(ctx, []string{key, "other"})
							v = m[key]
						case 1:
							v, err = p.GetOrLoad(ctx, key, func(context.Context, string) (string, error) { return "0", nil })
							if v == "0" { // of the source, where Redis does not answer: kept, it would be seen by Get
								continue
							}
						default:
							v, err = p.Get(ctx, key)
						}
						if err != nil || v == "" {
							continue
						}
						got, _ := strconv.ParseInt(v, 10, 64)
						if got < floor {
							t.Errorf("%s, process %d: read %d after %d", key, who, got, floor)
							return
						}
						for old := newest.Load(); got > old && !newest.CompareAndSwap(old, got); old = newest.Load() {
						}
					}
				})
			}
		}
	}
	wg.Go(func() {
		for time.Now().Before(end) {
			time.Sleep(time.Duration(rand.N(100)) * time.Millisecond)
			redistest.Do(t, admin, "CLIENT", "KILL", "TYPE", map[invalidate.Mode]string{invalidate.PubSub: "pubsub", invalidate.Tracking: "normal"}[mode])
		}
	})
	wg.Wait()
}
