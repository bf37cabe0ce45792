package hybrid

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/internal/redistest"
	"github.com/flipcache/flipcache/invalidate"
)

// refused fails the test unless err is want and its text has each of parts.
func refused(t *testing.T, err, want error, parts ...string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
		return
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("got %q, which does not mention %q", err, p)
		}
	}
}

func TestOpenSaysWhatIsWrongWithItsOptions(t *testing.T) {
	s := redistest.Embedded(t)
	for _, test := range []struct {
		name   string
		change func(*StoreOptions)
		want   error
		parts  []string
	}{
		{"no address", func(o *StoreOptions) { o.Client.InitAddress = nil }, ErrOption, []string{"InitAddress"}},
		{"SendToReplicas", func(o *StoreOptions) { o.Client.SendToReplicas = func(rueidis.Completed) bool { return true } }, ErrOption, []string{"SendToReplicas"}},
		{"ReplicaOnly", func(o *StoreOptions) { o.Client.ReplicaOnly = true }, ErrOption, []string{"ReplicaOnly"}},
		{"Tracking", func(o *StoreOptions) { o.Invalidation = invalidate.Tracking }, ErrUnsupported, []string{"mode tracking", "invalidate.PubSub", "TRACKING"}},
		{"a lease without invalidation", func(o *StoreOptions) { o.MaxStaleness = time.Second }, ErrOption, []string{"MaxStaleness", "Off"}},
		{"a lease that is too short", func(o *StoreOptions) { o.Invalidation, o.MaxStaleness = invalidate.PubSub, 29*time.Millisecond }, ErrOption, []string{"MaxStaleness", "30ms"}},
		{"a lease that is too long", func(o *StoreOptions) { o.Invalidation, o.MaxStaleness = invalidate.PubSub, time.Hour }, ErrOption, []string{"MaxStaleness", "10s"}},
		{"a negative lease", func(o *StoreOptions) { o.Invalidation, o.MaxStaleness = invalidate.PubSub, -1 }, ErrOption, []string{"MaxStaleness"}},
		{"Tracking by RESP2", func(o *StoreOptions) { o.Invalidation, o.Client.AlwaysRESP2 = invalidate.Tracking, true }, ErrOption, []string{"AlwaysRESP2", "Tracking"}},
		{"Announce without Tracking", func(o *StoreOptions) { o.Announce = true }, ErrOption, []string{"Announce"}},
		{"unknown mode", func(o *StoreOptions) { o.Invalidation = 77 }, ErrOption, []string{"Invalidation", "77"}},
		{"negative Timeout", func(o *StoreOptions) { o.Timeout = -1 }, ErrOption, []string{"Timeout"}},
		{"short Timeout", func(o *StoreOptions) { o.Timeout = 999 * time.Microsecond }, ErrOption, []string{"Timeout"}},
		{"two at once", func(o *StoreOptions) { o.Timeout, o.Client.ReplicaOnly = -1, true }, ErrOption, []string{"Timeout", "ReplicaOnly"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := StoreOptions{Client: s.ClientOption()}
			test.change(&o)
			st, err := Open(ctx, o)
			if err == nil {
				st.Close()
			}
			refused(t, err, test.want, test.parts...)
		})
	}
}

func TestNewSaysWhatIsWrongWithItsOptions(t *testing.T) {
	s := redistest.Embedded(t)
	st := openStore(t, s, invalidate.Off)
	type options = Options[string, string]
	for _, test := range []struct {
		name  string
		o     options
		parts []string
	}{
		{"negative TTL", options{TTL: -1}, []string{"TTL is"}},
		{"TTL of a bare number", options{TTL: 60}, []string{"TTL is", "60ns"}},
		{"TTL of 999 µs", options{TTL: 999 * time.Microsecond}, []string{"TTL is"}},
		{"LocalTTL of 999 µs", options{LocalTTL: 999 * time.Microsecond}, []string{"LocalTTL is"}},
		{"LocalTTL of a bare number", options{LocalTTL: 60}, []string{"LocalTTL is"}},
		{"negative LocalSize", options{LocalSize: -1}, []string{"LocalSize is"}},
		{"LocalSize with NoLocal", options{LocalSize: 10, NoLocal: true}, []string{"LocalSize", "NoLocal"}},
		{"negative jitter", options{TTL: time.Second, TTLJitter: -0.1}, []string{"TTLJitter"}},
		{"jitter above 1", options{TTL: time.Second, TTLJitter: 1.1}, []string{"TTLJitter"}},
		{"jitter that is no number", options{TTL: time.Second, TTLJitter: math.NaN()}, []string{"TTLJitter"}},
		{"refresh without TTL", options{RefreshTTLOnGet: true}, []string{"RefreshTTLOnGet"}},
		{"negative NegativeTTL", options{NegativeTTL: -1}, []string{"NegativeTTL"}},
		{"NegativeTTL of 999 µs", options{NegativeTTL: 999 * time.Microsecond}, []string{"NegativeTTL"}},
		{"all at once", options{TTL: -1, LocalTTL: 1, LocalSize: -1}, []string{"TTL is", "LocalTTL is", "LocalSize is"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := New(st, "bad", test.o)
			refused(t, err, ErrOption, append(test.parts, "bad")...)
		})
	}
	for name, o := range map[string]options{
		"zero": {}, "least": {TTL: time.Millisecond, LocalTTL: time.Millisecond, LocalSize: 1}, "no cap": {LocalTTL: -1},
		"most": {TTL: math.MaxInt, LocalTTL: math.MaxInt, LocalSize: math.MaxInt}, "jitter": {TTL: time.Second, TTLJitter: 1},
	} {
		c, err := New(st, "good "+name, o)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err := c.Set(ctx, "k", "v"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := New[string, string](nil, "n", options{}); !errors.Is(err, ErrOption) {
		t.Errorf("nil Store: got %v", err)
	}
}

func TestNewNeedsACodecForWhatHasNoDefault(t *testing.T) {
	s := redistest.Embedded(t)
	st := openStore(t, s, invalidate.Off)
	_, err := New(st, "chan", Options[string, chan int]{})
	refused(t, err, ErrOption, "Codec", "chan")
	_, err = New(st, "func", Options[string, func()]{})
	refused(t, err, ErrOption, "Codec", "func")
	_, err = New(st, "complex", Options[string, complex128]{})
	refused(t, err, ErrOption, "Codec", "complex")
}

func TestNewRefusesNamesThatAreTakenOrWouldMixKeys(t *testing.T) {
	s := redistest.Embedded(t)
	for _, mode := range []invalidate.Mode{invalidate.Off, invalidate.PubSub} {
		st := openStore(t, s, mode)
		for _, name := range []string{"a", "b:c", "a2", "a\nb", "t[ab]", "\xff"} {
			if _, err := New(st, name, Options[string, string]{}); err != nil {
				t.Errorf("%q: %v", name, err)
			}
		}
		for _, name := range []string{"", "a", "a:b", "b", "b:c:d", "flipcache#load", "flipcache#load:x", strings.Repeat("x", 513)} {
			_, err := New(st, name, Options[string, string]{})
			refused(t, err, ErrOption, "name")
		}
	}
}

func TestTTLOutOfRangeIsRefusedAndNothingIsWritten(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	for _, mode := range []invalidate.Mode{invalidate.Off, invalidate.PubSub} {
		p := join(t, s, mode)
		p.set(t, "k", "before")
		for _, ttl := range []time.Duration{0, -1, 60, 999 * time.Microsecond, math.MinInt64, -time.Second} {
			for name, err := range map[string]error{"SetTTL": p.SetTTL(ctx, "k", "v", ttl), "Touch": p.Touch(ctx, "k", ttl)} {
				refused(t, err, ErrOption, "ttl", "n:k")
				if v, life := stored(t, admin, "k"), redistest.Do(t, admin, "PTTL", "n:k"); v != "before" || life.String() == "" {
					t.Errorf("%v: %s(%v): Redis holds %q", mode, name, ttl, v)
				}
			}
			p.want(t, "k", "before")
		}
		if m := redistest.Do(t, admin, "PTTL", "n:k"); m.Error() == nil {
			if ms, _ := m.AsInt64(); ms != -1 {
				t.Errorf("%v: the key's life is %d ms, was without end", mode, ms)
			}
		}
		for _, ttl := range []time.Duration{math.MaxInt64, math.MaxInt64 - 1, 1500 * time.Millisecond, 1999999 * time.Nanosecond, 50 * time.Millisecond} {
			for name, op := range map[string]func() error{
				"SetTTL": func() error { return p.SetTTL(ctx, "k", "v", ttl) },
				"Touch": func() error {
					p.set(t, "k", "v")
					return p.Touch(ctx, "k", ttl)
				},
			} {
				if err := op(); err != nil {
					t.Errorf("%v: %s(%v): %v", mode, name, ttl, err)
					continue
				}
				m := redistest.Do(t, admin, "PTTL", "n:k")
				ms, _ := m.AsInt64()
				if most := ttl.Milliseconds(); ms > most || ms < most-1000 && ms != -2 {
					t.Errorf("%v: %s(%v): PTTL is %d", mode, name, ttl, ms)
				}
				if ttl > time.Hour {
					p.want(t, "k", "v")
					if left, err := p.TTL(ctx, "k"); err != nil || left <= 0 || left > ttl {
						t.Errorf("%v: after %s(%v) TTL returns %v, %v", mode, name, ttl, left, err)
					}
				}
			}
		}
		if _, err := p.TTL(ctx, "no such key"); !errors.Is(err, ErrNotFound) {
			t.Errorf("TTL of a missing key: %v", err)
		}
		if err := p.Touch(ctx, "no such key", time.Second); !errors.Is(err, ErrNotFound) {
			t.Errorf("Touch of a missing key: %v", err)
		}
		p.set(t, "k", "v")
		if ttl, err := p.TTL(ctx, "k"); err != nil || ttl != NoTTL {
			t.Errorf("TTL of a key without one: %v, %v", ttl, err)
		}
	}
}

// Redis counts in milliseconds up to 2^63, a Duration in nanoseconds.
func TestForeignLifeThatADurationCannotHoldIsNoShortOne(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	p := join(t, s, invalidate.PubSub)
	for _, ms := range []int64{math.MaxInt64/2 - 7, 18446744073709 + 1000, 9223372036855} {
		redistest.Do(t, admin, "SET", "n:k", "v", "PX", strconv.FormatInt(ms, 10))
		p.want(t, "k", "v")
		if ttl, err := p.TTL(ctx, "k"); err != nil || ttl < 24*time.Hour {
			t.Errorf("PX %d: TTL returns %v, %v", ms, ttl, err)
		}
		redistest.Do(t, admin, "DEL", "n:k")
	}
}
