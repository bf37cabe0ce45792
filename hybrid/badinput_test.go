package hybrid

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/codec"
	"github.com/flipcache/flipcache/internal/redisserver"
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

// freeAddr is an address at which nobody listens.
func freeAddr(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestOpenWithoutRedisNamesTheAddress(t *testing.T) {
	addr := freeAddr(t)
	for _, mode := range []invalidate.Mode{invalidate.Off, invalidate.PubSub, invalidate.Tracking} {
		_, err := Open(ctx, StoreOptions{Client: rueidis.ClientOption{InitAddress: []string{addr}, ForceSingleClient: true}, Invalidation: mode})
		if err == nil || !strings.Contains(err.Error(), addr) {
			t.Errorf("%v: got %v, want an error with %s", mode, err, addr)
		}
	}
}

// A listener that answers nothing.
func TestOpenOnASilentServerEndsWithTheNearerOfTimeoutAndContext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	o := StoreOptions{Client: rueidis.ClientOption{InitAddress: []string{l.Addr().String()}, ForceSingleClient: true}, Timeout: 200 * time.Millisecond}
	within(t, 5*time.Second, "Open by its Timeout", func() { _, err = Open(ctx, o) })
	if err == nil {
		t.Error("Open succeeded on a server that is silent")
	}
	o.Timeout = time.Minute
	short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	within(t, 5*time.Second, "Open by its context's deadline", func() { _, err = Open(short, o) })
	refused(t, err, context.DeadlineExceeded)
	cancelled, cancel := context.WithCancel(ctx)
	stop := time.AfterFunc(100*time.Millisecond, cancel)
	defer stop.Stop()
	o.Timeout = 20 * time.Second
	within(t, 5*time.Second, "Open by its context's cancel", func() { _, err = Open(cancelled, o) })
	refused(t, err, context.Canceled)
}

func TestPermissionsAreNamed(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	redistest.Do(t, admin, "SET", "n:k", "before")
	user := func(name string, rules ...string) func(*StoreOptions, *Options[string, string]) {
		redistest.Do(t, admin, append([]string{"ACL", "SETUSER", name, "on", ">secret", "~*", "&*", "+@all"}, rules...)...)
		return func(o *StoreOptions, _ *Options[string, string]) {
			o.Client.Username, o.Client.Password = name, "secret"
		}
	}
	open := func(mode invalidate.Mode, change func(*StoreOptions, *Options[string, string])) error {
		o := StoreOptions{Client: s.ClientOption(), Invalidation: mode}
		change(&o, nil)
		st, err := Open(ctx, o)
		if err == nil {
			st.Close()
		}
		return err
	}

	t.Run("wrong password", func(t *testing.T) {
		err := open(invalidate.Off, func(o *StoreOptions, _ *Options[string, string]) {
			o.Client.Username, o.Client.Password = "default2", "wrong"
		})
		refused(t, err, ErrPermission, s.Addr)
	})
	t.Run("password where none is configured", func(t *testing.T) {
		err := open(invalidate.Off, func(o *StoreOptions, _ *Options[string, string]) { o.Client.Password = "secret" })
		if err != nil { // Redis with a "nopass" user takes any
			refused(t, err, ErrPermission)
		}
	})
	t.Run("no password where one is needed", func(t *testing.T) {
		s := redistest.Real(t, "--requirepass", "secret")
		_, err := Open(ctx, StoreOptions{Client: s.ClientOption()})
		refused(t, err, ErrPermission)
	})
	t.Run("may not publish", func(t *testing.T) {
		refused(t, open(invalidate.PubSub, user("nopub", "-publish")), ErrPermission, "publish")
		if err := open(invalidate.Off, user("nopub", "-publish")); err != nil {
			t.Errorf("Off needs no such right: %v", err)
		}
	})
	t.Run("may not subscribe", func(t *testing.T) {
		refused(t, open(invalidate.PubSub, user("nosub", "-subscribe", "-ssubscribe")), ErrPermission, "subscribe")
		if err := open(invalidate.Off, user("nosub", "-subscribe")); err != nil {
			t.Errorf("Off needs no such right: %v", err)
		}
	})
	t.Run("may not subscribe to the cache's channel", func(t *testing.T) {
		o := StoreOptions{Client: s.ClientOption(), Invalidation: invalidate.PubSub}
		user("nochan", "resetchannels", "&flipcache:self:*", "&flipcache:inv:other")(&o, nil)
		st, err := Open(ctx, o)
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		for range 2 { // a name that was refused is free again
			_, err = New(st, "n", Options[string, string]{})
			refused(t, err, ErrPermission, "n")
		}
		if _, err := New(st, "other", Options[string, string]{}); err != nil {
			t.Errorf("a channel that is allowed: %v", err)
		}
		if st.State().Status != invalidate.Live {
			t.Errorf("after a refused subscription the state is %v", st.State())
		}
	})
	t.Run("may not announce on the cache's channel", func(t *testing.T) {
		p := join(t, s, invalidate.PubSub, user("nochan2", "resetchannels", "&flipcache:*"))
		p.want(t, "k", "before")
		redistest.Do(t, admin, "ACL", "SETUSER", "nochan2", "resetchannels", "&flipcache:self:*")
		for name, op := range writingMethods(p) {
			err := op(ctx)
			refused(t, err, ErrPermission, "n:k")
			if errors.Is(err, ErrOutcomeUnknown) {
				t.Errorf("%s was refused, and says that its outcome is unknown: %v", name, err)
			}
			if v := stored(t, admin, "k"); v != "before" {
				t.Errorf("%s was refused, and Redis holds %q", name, v)
			}
		}
	})
	t.Run("may not read the key", func(t *testing.T) {
		p := join(t, s, invalidate.Off, user("noget", "-get"))
		_, err := p.Get(ctx, "k")
		refused(t, err, ErrPermission, "n:k")
		_, err = p.GetMany(ctx, []string{"k"})
		refused(t, err, ErrPermission, "n:k")
	})
	t.Run("may not ask for its TTL", func(t *testing.T) {
		p := join(t, s, invalidate.Off, user("nopttl", "-pttl"))
		_, err := p.Get(ctx, "k")
		refused(t, err, ErrPermission, "n:k")
		_, err = p.TTL(ctx, "k")
		refused(t, err, ErrPermission, "n:k")
	})
	t.Run("may not write", func(t *testing.T) {
		for _, mode := range []invalidate.Mode{invalidate.Off, invalidate.PubSub, invalidate.Tracking} {
			p := join(t, s, mode, user("noset", "-@write"))
			p.want(t, "k", "before")
			for name, op := range writingMethods(p) {
				err := op(ctx)
				refused(t, err, ErrPermission, "n:k")
				if errors.Is(err, ErrOutcomeUnknown) {
					t.Errorf("%v: %s was refused, and says that its outcome is unknown: %v", mode, name, err)
				}
			}
			p.want(t, "k", "before")
			if v := stored(t, admin, "k"); v != "before" {
				t.Errorf("%v: Redis holds %q", mode, v)
			}
		}
	})
}

// writingMethods writes k by every method that may, but for loads.
func writingMethods(p process) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"Set":     func(ctx context.Context) error { return p.Set(ctx, "k", "v") },
		"SetTTL":  func(ctx context.Context) error { return p.SetTTL(ctx, "k", "v", time.Second) },
		"SetMany": func(ctx context.Context) error { return p.SetMany(ctx, map[string]string{"k": "v"}) },
		"Delete":  func(ctx context.Context) error { return p.Delete(ctx, "k") },
		"Touch":   func(ctx context.Context) error { return p.Touch(ctx, "k", time.Second) },
		"Update": func(ctx context.Context) error {
			_, err := p.Update(ctx, "k", func(string, bool) (string, error) { return "v", nil })
			return err
		},
		"GetAndDelete": func(ctx context.Context) error { _, err := p.GetAndDelete(ctx, "k"); return err },
	}
}

// oldRedis is a server that answers each command as answer says.
func oldRedis(t *testing.T, answer func(command []string) string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r := bufio.NewReader(c)
				for {
					command, err := readCommand(r)
					if err != nil {
						return
					}
					if _, err := io.WriteString(c, answer(command)); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

func readCommand(r *bufio.Reader) (command []string, err error) {
	line := func(kind byte) (n int) {
		var s string
		if s, err = r.ReadString('\n'); err == nil && s[0] != kind {
			err = fmt.Errorf("got %q", s)
		}
		if err == nil {
			n, err = strconv.Atoi(strings.TrimSpace(s[1:]))
		}
		return n
	}
	for n := line('*'); n > 0 && err == nil; n-- {
		b := make([]byte, line('$')+2)
		if err == nil {
			_, err = io.ReadFull(r, b)
		}
		command = append(command, string(b[:len(b)-2]))
	}
	return command, err
}

func TestOpenRefusesARedisThatIsTooOld(t *testing.T) {
	unknown := func(c []string) string {
		switch strings.ToUpper(c[0]) {
		case "HELLO":
			return "-ERR unknown command `HELLO`, with args beginning with: `3`, \r\n"
		case "PING":
			return "+PONG\r\n"
		case "CLIENT":
			return "-ERR Unknown subcommand or wrong number of arguments for '" + c[1] + "'. Try CLIENT HELP\r\n"
		}
		return "+OK\r\n"
	}
	says := func(c []string) string {
		if strings.ToUpper(c[0]) != "HELLO" {
			return unknown(c)
		}
		return "%4\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n5.0.14\r\n$5\r\nproto\r\n:3\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n"
	}
	for _, test := range []struct {
		name   string
		answer func([]string) string
		part   string
	}{{"it knows no HELLO", unknown, "6.0"}, {"it says 5.0.14", says, "5.0.14"}} {
		for _, mode := range []invalidate.Mode{invalidate.Off, invalidate.PubSub} {
			t.Run(test.name+", "+mode.String(), func(t *testing.T) {
				addr := oldRedis(t, test.answer)
				var err error
				within(t, 10*time.Second, "Open", func() {
					_, err = Open(ctx, StoreOptions{Invalidation: mode,
						Client: rueidis.ClientOption{InitAddress: []string{addr}, ForceSingleClient: true}})
				})
				refused(t, err, ErrUnsupported, test.part, addr)
			})
		}
	}
}

func TestNewSaysWhatIsWrongWithItsOptions(t *testing.T) {
	s := redistest.Embedded(t)
	st, err := Open(ctx, StoreOptions{Client: s.ClientOption()})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
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
	st, err := Open(ctx, StoreOptions{Client: s.ClientOption()})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	_, err = New(st, "chan", Options[string, chan int]{})
	refused(t, err, ErrOption, "Codec", "chan")
	_, err = New(st, "func", Options[string, func()]{})
	refused(t, err, ErrOption, "Codec", "func")
	_, err = New(st, "complex", Options[string, complex128]{})
	refused(t, err, ErrOption, "Codec", "complex")
}

func TestNewRefusesNamesThatAreTakenOrWouldMixKeys(t *testing.T) {
	s := redistest.Embedded(t)
	for _, mode := range []invalidate.Mode{invalidate.Off, invalidate.PubSub} {
		st, err := Open(ctx, StoreOptions{Client: s.ClientOption(), Invalidation: mode})
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
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
func (huge) Decode(b []byte) (int, error)           { return len(b), nil }

func TestValueOverTheLimitIsRefusedBeforeItIsSent(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	st, err := Open(ctx, StoreOptions{Client: s.ClientOption(), Invalidation: invalidate.PubSub})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	c, err := New(st, "n", Options[string, int]{Codec: huge{}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Set(ctx, "k", 10); err != nil {
		t.Fatal(err)
	}
	refused(t, c.Set(ctx, "k", 512<<20+1), ErrTooLarge, "n:k", "512")
	refused(t, c.SetTTL(ctx, "k", 512<<20+1, time.Second), ErrTooLarge, "n:k")
	refused(t, c.SetMany(ctx, map[string]int{"k": 512<<20 + 1, "l": 5}), ErrTooLarge, "n:k")
	_, err = c.GetOrLoad(ctx, "m", func(context.Context, string) (int, error) { return 512<<20 + 1, nil })
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
func (misfit) Decode([]byte) (string, error)         { return "leaked", errMisfit }

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
