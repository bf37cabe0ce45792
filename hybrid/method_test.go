package hybrid

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/flipcache/flipcache/codec"
	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/internal/redistest"
	"github.com/flipcache/flipcache/invalidate"
)

// allMethods calls every method that takes a context.
func allMethods(p process) map[string]func(context.Context) error {
	m := writingMethods(p)
	m["Get"] = func(ctx context.Context) error { _, err := p.Get(ctx, "k"); return err }
	m["GetMany"] = func(ctx context.Context) error { _, err := p.GetMany(ctx, []string{"k", "l"}); return err }
	m["GetOrLoad"] = func(ctx context.Context) error {
		_, err := p.GetOrLoad(ctx, "k", func(context.Context, string) (string, error) { return "v", nil })
		return err
	}
	m["TTL"] = func(ctx context.Context) error { _, err := p.TTL(ctx, "k"); return err }
	m["SetIfAbsent"] = func(ctx context.Context) error { _, err := p.SetIfAbsent(ctx, "l", "v"); return err }
	m["Count"] = func(ctx context.Context) error { _, err := p.Count(ctx); return err }
	m["Clear"] = p.Clear
	m["Fresh.Get"] = func(ctx context.Context) error { _, err := p.Fresh().Get(ctx, "k"); return err }
	return m
}

func TestEveryMethodOfAClosedStoreReturnsErrClosed(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		for _, mode := range []invalidate.Mode{invalidate.Off, invalidate.PubSub} {
			p := join(t, s, mode)
			p.set(t, "k", "before") // in the local tier, too
			p.want(t, "k", "before")
			p.store.Close()
			for name, op := range allMethods(p) {
				if err := op(ctx); !errors.Is(err, ErrClosed) {
					t.Errorf("%v: %s returned %v", mode, name, err)
				}
			}
			if _, err := New(p.store, "another", Options[string, string]{}); !errors.Is(err, ErrClosed) {
				t.Errorf("%v: New returned %v", mode, err)
			}
			if st := p.store.State(); st.Status != invalidate.Closed {
				t.Errorf("%v: State is %v", mode, st)
			}
			p.store.OnState(func(invalidate.State) {})()
			p.store.Stats()
			p.Stats()
			if v := stored(t, admin, "k"); v != "before" {
				t.Errorf("%v: Redis holds %q", mode, v)
			}
		}
	})
}

func TestNoMethodBeginsUnderAContextThatHasEnded(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		for _, mode := range []invalidate.Mode{invalidate.Off, invalidate.PubSub} {
			p := join(t, s, mode)
			redistest.Do(t, admin, "SET", "n:k", "before")
			gone, cancel := context.WithCancel(ctx)
			cancel()
			late, cancel := context.WithDeadline(ctx, time.Now().Add(-time.Second))
			defer cancel()
			for name, op := range allMethods(p) {
				err := op(gone)
				refused(t, err, context.Canceled)
				if errors.Is(err, ErrOutcomeUnknown) {
					t.Errorf("%v: %s sent something: %v", mode, name, err)
				}
				refused(t, op(late), context.DeadlineExceeded)
			}
			if v := stored(t, admin, "k"); v != "before" {
				t.Errorf("%v: Redis holds %q", mode, v)
			}
			if n := redistest.Do(t, admin, "EXISTS", "n:l", tokenKey("n:k"), tokenKey("n:l")); n.String() == "" {
				t.Error("no reply")
			} else if n, _ := n.AsInt64(); n != 0 {
				t.Errorf("%v: %d keys were written", mode, n)
			}
			if _, err := Open(gone, StoreOptions{Client: s.ClientOption(), Invalidation: mode}); !errors.Is(err, context.Canceled) {
				t.Errorf("%v: Open returned %v", mode, err)
			}
		}
	})
}

// huge is a codec that writes as many bytes as the value says, never touched.
type huge struct{}

func (huge) Append(_ []byte, n int) ([]byte, error) { return make([]byte, n), nil }

func (huge) Decode(b []byte) (int, error) { return len(b), nil }

func TestValueOverTheLimitIsRefusedBeforeItIsSent(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	st := openStore(t, s, invalidate.PubSub)
	c := newOn(t, st, "n", Options[string, int]{Codec: huge{}})
	if err := c.Set(ctx, "k", 10); err != nil {
		t.Fatal(err)
	}
	refused(t, c.Set(ctx, "k", 512<<20+1), ErrTooLarge, "n:k", "512")
	refused(t, c.SetTTL(ctx, "k", 512<<20+1, time.Second), ErrTooLarge, "n:k")
	refused(t, c.SetMany(ctx, map[string]int{"k": 512<<20 + 1, "l": 5}), ErrTooLarge, "n:k")
	_, err := c.GetOrLoad(ctx, "m", func(context.Context, string) (int, error) { return 512<<20 + 1, nil })
	refused(t, err, ErrTooLarge, "n:m")
	if n, err := c.Get(ctx, "k"); n != 10 || err != nil {
		t.Errorf("what was stored before: got %d, %v", n, err)
	}
	if v := stored(t, admin, "l"); len(v) != 5 {
		t.Errorf("SetMany did not write the value that is small enough: %q", v)
	}
}

// Redis' own limit may be lower than the default.
func TestValueThatRedisRefusesIsAClearError(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	redistest.Do(t, admin, "CONFIG", "SET", "proto-max-bulk-len", strconv.Itoa(1<<20))
	for _, mode := range []invalidate.Mode{invalidate.Off, invalidate.PubSub} {
		p := join(t, s, mode)
		p.set(t, "k", "before")
		var err error
		within(t, 10*time.Second, "Set", func() { err = p.Set(ctx, "k", strings.Repeat("x", 1<<20+1)) })
		if err == nil || !strings.Contains(err.Error(), "n:k") {
			t.Errorf("%v: got %v", mode, err)
		}
		t.Log(err)
		if !errors.Is(err, ErrTooLarge) && !errors.Is(err, ErrOutcomeUnknown) {
			t.Errorf("%v: got %v, want ErrTooLarge, or ErrOutcomeUnknown if the connection went first", mode, err)
		}
		eventually(t, "the next command works", func() bool { _, err = p.Get(ctx, "k"); return err == nil })
		p.want(t, "k", "before")
	}
}

// misfit is a codec for other values than it is given.
type misfit struct{}

var errMisfit = errors.New("not for this type")

func (misfit) Append([]byte, string) ([]byte, error) { return nil, errMisfit }

func (misfit) Decode([]byte) (string, error) { return "leaked", errMisfit }

func TestCodecThatDoesNotFitIsATypedErrorWithTheKey(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		redistest.Do(t, admin, "SET", "n:k", "before")
		p := join(t, s, invalidate.PubSub, func(_ *StoreOptions, o *Options[string, string]) { o.Codec = misfit{} })
		for _, err := range []error{p.Set(ctx, "k", "v"), p.SetTTL(ctx, "k", "v", time.Hour), p.SetMany(ctx, map[string]string{"k": "v"})} {
			refused(t, err, codec.ErrEncode, "n:k", errMisfit.Error())
			refused(t, err, errMisfit)
		}
		for range 2 {
			v, err := p.Get(ctx, "k")
			refused(t, err, ErrDecode, "n:k", errMisfit.Error())
			refused(t, err, errMisfit)
			if v != "" {
				t.Errorf("Get returned %q beside its error", v)
			}
			m, err := p.GetMany(ctx, []string{"k", "missing"})
			refused(t, err, ErrDecode, "n:k")
			if len(m) != 0 {
				t.Errorf("GetMany found %v", m)
			}
		}
		if v := stored(t, admin, "k"); v != "before" {
			t.Errorf("Redis holds %q", v)
		}
		_, err := p.GetOrLoad(ctx, "k", func(context.Context, string) (string, error) { return "v", nil })
		refused(t, err, ErrEncode, "n:k")
		if v := stored(t, admin, "k"); v != "before" {
			t.Errorf("a load that cannot be encoded left %q", v)
		}
	})
}
