package hybrid

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/internal/redistest"
	"github.com/flipcache/flipcache/invalidate"
)

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
