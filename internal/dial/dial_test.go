package dial

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/rueidis"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// peers answer a dialling after some time, by address; those that are not listed never
// do. Each says one word when it has waited once more, and then nothing.
type peers map[string]time.Duration

func (p peers) dial(ctx context.Context, addr string, _ *net.Dialer, _ *tls.Config) (net.Conn, error) {
	after, ok := p[addr]
	if !ok {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if after < 0 {
		return nil, errors.New("refused")
	}
	time.Sleep(after)
	ours, its := net.Pipe()
	go func() {
		time.Sleep(after)
		its.Write([]byte("hi"))
		its.Read(make([]byte, 1)) // until ours is closed
		its.Close()
	}()
	return ours, nil
}

func (p peers) option() rueidis.ClientOption {
	o := rueidis.ClientOption{DialCtxFn: p.dial}
	o.Dialer.Timeout = time.Second
	return o
}

// dialled returns a connection that f made to addr, whose peer has spoken.
func dialled(t *testing.T, ctx context.Context, f Func, addr string) net.Conn {
	t.Helper()
	c, err := f(ctx, addr, new(net.Dialer), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	return c
}

// closed says whether c was closed, when all that is under way is done.
func closed(c net.Conn) bool {
	synctest.Wait()
	return c.SetDeadline(time.Time{}) != nil
}

func TestUntil_AConnectionEndsWithTheContextNotWithTheCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		caller, gone := context.WithCancel(t.Context())
		c := dialled(t, caller, Until(ctx, peers{"a": 1}.option(), nil), "a")
		gone()
		if closed(c) {
			t.Error("it ended with who had it dialled")
		}
		cancel()
		if !closed(c) {
			t.Error("it did not end with the context")
		}
		c.Close()
	})
}

func TestUntil_ASilentPeerEndsWithTheCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		caller, gone := context.WithTimeout(t.Context(), time.Minute)
		defer gone()
		c, err := Until(t.Context(), peers{"a": 40 * time.Second}.option(), nil)(caller, "a", nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 8)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want that of the caller's context", err)
		}
		if !closed(c) {
			t.Error("it is open")
		}
		c.Close()
		time.Sleep(time.Minute) // the peer ends
	})
}

func TestUntil_DiallingEndsWithEither(t *testing.T) {
	for _, which := range []string{"the context", "the caller"} {
		synctest.Test(t, func(t *testing.T) {
			ends, end := context.WithTimeout(t.Context(), time.Second)
			defer end()
			ctx, caller := t.Context(), ends
			if which == "the context" {
				ctx, caller = ends, t.Context()
			}
			began := time.Now()
			if c, err := Until(ctx, peers{}.option(), nil)(caller, "a", nil, nil); err == nil || c != nil {
				t.Errorf("%s: got %v, %v", which, c, err)
			}
			if took := time.Since(began); took != time.Second {
				t.Errorf("%s: it took %v", which, took)
			}
		})
	}
}

func TestUntil_DialsAsTheOptionsSay(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	by := ""
	for _, test := range []struct {
		want string
		o    rueidis.ClientOption
	}{
		{"", rueidis.ClientOption{}},
		{"DialFn", rueidis.ClientOption{DialFn: func(_ string, d *net.Dialer, _ *tls.Config) (net.Conn, error) {
			by = "DialFn"
			return d.Dial("tcp", l.Addr().String())
		}}},
		{"DialCtxFn", rueidis.ClientOption{DialCtxFn: func(ctx context.Context, addr string, d *net.Dialer, _ *tls.Config) (net.Conn, error) {
			by = "DialCtxFn"
			return d.DialContext(ctx, "tcp", addr)
		}}},
	} {
		by = ""
		c, err := Until(t.Context(), test.o, nil)(t.Context(), l.Addr().String(), new(net.Dialer), nil)
		if err != nil || by != test.want {
			t.Errorf("dialled by %q, %v; want %q", by, err, test.want)
			continue
		}
		if got := c.RemoteAddr().String(); got != l.Addr().String() {
			t.Errorf("%q: dialled %s", test.want, got)
		}
		c.Close()
	}
}

func TestReachable_YieldsWhoAnswersInThatOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := peers{"slow": 20 * time.Millisecond, "refuses": -1, "fast": time.Millisecond}.option()
		o.InitAddress = []string{"slow", "silent", "refuses", "fast"}
		f := Until(t.Context(), o, nil)
		began := time.Now()
		got := slices.Collect(Reachable(t.Context(), f, o))
		if want := []string{"fast", "slow"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		if took := time.Since(began); took != o.Dialer.Timeout {
			t.Errorf("it took %v", took)
		}
		began = time.Now()
		for addr := range Reachable(t.Context(), f, o) { // the others' dialling ends
			if addr != "fast" {
				t.Errorf("the first was %q", addr)
			}
			break
		}
		if took := time.Since(began); took != time.Millisecond {
			t.Errorf("the first took %v", took)
		}
		time.Sleep(time.Second) // the slow one's ends
	})
}
