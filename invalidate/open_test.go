package invalidate

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"go.uber.org/goleak"

	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/internal/redistest"
)

// refuses checks that Open fails within limit, with an error that contains
// want, and leaves no goroutine behind.
func refuses(t *testing.T, octx context.Context, c Config, limit time.Duration, want string) error {
	t.Helper()
	before := goleak.IgnoreCurrent()
	began := time.Now()
	st, err := Open(octx, c)
	took := time.Since(began)
	if err == nil {
		st.Close()
		t.Fatal("Open succeeded")
	}
	if st != nil {
		t.Error("an error comes with a stream")
	}
	if !strings.Contains(strings.ToLower(err.Error()), want) {
		t.Errorf("got %q, want something about %q", err, want)
	}
	if took > limit {
		t.Errorf("Open took %v, more than %v", took, limit)
	}
	if err := goleak.Find(before, sleeper); err != nil {
		t.Errorf("after Open failed: %v", err)
	}
	return err
}

func TestOpenIsLiveAndCloseEndsIt(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		st := listen(t, s)
		if got := st.State(); got.Status != Live || got.Cause != nil || got.Cuts != 0 || time.Since(got.Since) > time.Minute {
			t.Errorf("after Open: %+v", got)
		}
		r := joined(t, st, "n")
		st.Close()
		if got := st.State(); got.Status != Closed || got.Cause != nil || got.Cuts != 0 {
			t.Errorf("after Close: %+v", got)
		}
		if r.isLive() {
			t.Error("the stream is closed and the tier is live")
		}
		st.Close()
	})
}

func TestOpenFailsWhereNobodyListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	for _, single := range []bool{true, false} {
		c := Config{Client: rueidis.ClientOption{InitAddress: []string{addr}, ForceSingleClient: single}, Timeout: 5 * time.Second}
		if err := refuses(t, ctx, c, time.Second, "refused"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%v does not unwrap to ECONNREFUSED", err)
		}
	}
}

func TestOpenFailsWithAWrongPassword(t *testing.T) {
	s := redistest.Real(t, "--requirepass", "right")
	c := Config{Client: s.ClientOption(), Timeout: 5 * time.Second}
	refuses(t, ctx, c, time.Second, "noauth")
	c.Client.Password = "wrong"
	refuses(t, ctx, c, time.Second, "wrongpass")
	c.Client.Password = "right"
	st, err := Open(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	st.Close()
}

// user makes an ACL user of s, and returns a change to a config that is him.
func user(t testing.TB, admin rueidis.Client, rules ...string) func(*Config) {
	t.Helper()
	redistest.Do(t, admin, append([]string{"ACL", "SETUSER", "u", "reset", "resetchannels", "on", ">p"}, rules...)...)
	return func(c *Config) { c.Client.Username, c.Client.Password = "u", "p" }
}

func TestOpenNamesTheRightThatIsMissing(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	tests := []struct {
		name  string
		rules []string
		want  []string
	}{
		{"no SUBSCRIBE", []string{"~*", "&*", "+@all", "-subscribe"}, []string{"SUBSCRIBE: ", "NOPERM", "'subscribe'"}},
		{"no PUBLISH", []string{"~*", "&*", "+@all", "-publish"}, []string{"PUBLISH: ", "NOPERM", "'publish'"}},
		{"no channel", []string{"~*", "resetchannels", "+@all"}, []string{"SUBSCRIBE: ", "NOPERM", "channel"}},
		{"only the caches' channels", []string{"~*", "resetchannels", "&flipcache:inv:*", "+@all"}, []string{"SUBSCRIBE: ", "NOPERM", "channel"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := Config{Client: s.ClientOption(), Timeout: 5 * time.Second}
			user(t, admin, tt.rules...)(&c)
			err := refuses(t, ctx, c, time.Second, "noperm")
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q does not contain %q", err, w)
				}
			}
		})
	}
}

// What docs/protocol.md asks for is enough.
func TestTheDocumentedRightsAreEnough(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	st := listen(t, s, probing(100*time.Millisecond), user(t, admin, "&flipcache:inv:*", "&flipcache:self:*", "+hello", "+ping", "+subscribe", "+publish"))
	r := joined(t, st, "n")
	for range 3 {
		before := st.heardProbe()
		eventually(t, "a probe is heard", func() bool { return st.heardProbe() != before })
	}
	if got := st.State(); got.Cuts != 0 {
		t.Errorf("%+v", got)
	}
	heard(t, admin, "n", r)
}

func (s *Stream) heardProbe() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.echo
}

func TestOpenWithAnEndedContextDialsNobody(t *testing.T) {
	s := redistest.Embedded(t)
	var l link
	c := Config{Client: s.ClientOption(), Timeout: 5 * time.Second}
	by(&l)(&c)
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if err := refuses(t, ended, c, time.Second, "canceled"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if dials, _ := l.counts(); dials != 0 {
		t.Errorf("%d connections were dialled", dials)
	}
}

// mute accepts connections and never answers.
func mute(t *testing.T) (addr string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return l.Addr().String()
}

func TestH13_OpenEndsWithTimeoutWhereTheServerIsSilent(t *testing.T) {
	const (
		timeout = 300 * time.Millisecond
		limit   = 10 * timeout // for a busy machine; what is not bounded takes longer by far
	)
	t.Run("from the start", func(t *testing.T) {
		for _, single := range []bool{true, false} {
			c := Config{Client: rueidis.ClientOption{InitAddress: []string{mute(t)}, ForceSingleClient: single}, Timeout: timeout}
			refuses(t, ctx, c, limit, "deadline exceeded")
		}
	})
	t.Run("stopped", func(t *testing.T) {
		s := redistest.Real(t)
		s.Signal(syscall.SIGSTOP)
		refuses(t, ctx, Config{Client: s.ClientOption(), Timeout: timeout}, limit, "deadline exceeded")
	})
	t.Run("after the first connection", func(t *testing.T) {
		s := redistest.Embedded(t)
		l := new(secondIsHeld)
		c := Config{Client: s.ClientOption(), Timeout: timeout}
		c.Client.DialCtxFn = l.dial
		refuses(t, ctx, c, limit, "deadline exceeded")
	})
}

func TestOpenEndsWithItsContextWhereTheServerIsSilent(t *testing.T) {
	at := map[string]func(t *testing.T) rueidis.ClientOption{
		"from the start": func(t *testing.T) rueidis.ClientOption {
			return rueidis.ClientOption{InitAddress: []string{mute(t)}}
		},
		"by the user's own dialler": func(t *testing.T) rueidis.ClientOption {
			return rueidis.ClientOption{InitAddress: []string{mute(t)}, DialCtxFn: new(link).dial}
		},
		"after the first connection": func(t *testing.T) rueidis.ClientOption {
			o := redistest.Embedded(t).ClientOption()
			o.DialCtxFn = new(secondIsHeld).dial
			return o
		},
	}
	for name, where := range at {
		t.Run(name, func(t *testing.T) {
			c := Config{Client: where(t), Timeout: 10 * time.Second}
			octx, cancel := context.WithCancel(ctx)
			time.AfterFunc(50*time.Millisecond, cancel)
			if err := refuses(t, octx, c, time.Second, "canceled"); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			octx, cancel = context.WithTimeout(ctx, 50*time.Millisecond)
			defer cancel()
			if err := refuses(t, octx, c, time.Second, "deadline"); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		})
	}
}

// The context of Open is that of the attempt, not of the stream.
func TestTheStreamOutlivesTheContextOfOpen(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redisserver.Server) {
		octx, cancel := context.WithCancel(ctx)
		st, err := Open(octx, Config{Client: s.ClientOption(), Timeout: 5 * time.Second, probeEvery: 20 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		cancel()
		r := joined(t, st, "n")
		for range 3 {
			before := st.heardProbe()
			eventually(t, "a probe is heard", func() bool { return st.heardProbe() != before })
		}
		heard(t, redistest.Client(t, s), "n", r)
	})
}

func TestOpenFailsWhereItsOwnMessagesAreNotHeard(t *testing.T) {
	a, b := redistest.Embedded(t), redistest.Embedded(t)
	c := Config{Client: a.ClientOption(), Timeout: 200 * time.Millisecond}
	c.Client.DialCtxFn = (&balancer{addrs: []string{a.Addr, b.Addr}}).dial
	refuses(t, ctx, c, time.Second, "not heard")
}

// Close does not wait for a server that says nothing.
func TestCloseIsQuickWhereTheServerIsSilent(t *testing.T) {
	s := redistest.Real(t)
	st := listen(t, s, probing(time.Hour))
	s.Signal(syscall.SIGSTOP)
	began := time.Now()
	st.Close()
	if took := time.Since(began); took > time.Second {
		t.Errorf("Close took %v", took)
	}
}
