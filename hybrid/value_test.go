package hybrid

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/internal/redistest"
	"github.com/flipcache/flipcache/invalidate"
)

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

func (panicky) Decode([]byte) (int, error) { panic("a codec's fault") }

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
