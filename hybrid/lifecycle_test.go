package hybrid

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/internal/redistest"
	"github.com/flipcache/flipcache/invalidate"
)

func TestNothingIsLeftOfAStoreAfterClose(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	redistest.Do(t, admin, "ACL", "SETUSER", "nosub", "on", ">secret", "~*", "&*", "+@all", "-subscribe")
	clients := func() int {
		m := redistest.Do(t, admin, "CLIENT", "LIST")
		l, _ := m.ToString()
		return strings.Count(l, "\n")
	}
	before := clients()
	ignore := goleak.IgnoreCurrent()
	for i := range 200 {
		o := StoreOptions{Client: s.ClientOption(), Invalidation: invalidate.PubSub}
		st, err := Open(ctx, o)
		if err != nil {
			t.Fatal(err)
		}
		remove := st.OnState(func(invalidate.State) {})
		c, err := New(st, "n", Options[string, string]{})
		if err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			if _, err := c.Get(ctx, "k"); !errors.Is(err, ErrNotFound) {
				t.Fatal(err)
			}
			remove()
		}
		for range 2 {
			if err := st.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if i%2 == 1 {
			remove()
		}
		if i%20 == 0 {
			o.Client.Username, o.Client.Password = "nosub", "secret"
			if st, err := Open(ctx, o); err == nil {
				st.Close()
				t.Fatal("Open without the right to subscribe")
			}
			o.Client.InitAddress = []string{freeAddr(t)}
			if st, err := Open(ctx, o); err == nil {
				st.Close()
				t.Fatal("Open where nobody listens")
			}
		}
	}
	if err := goleak.Find(ignore); err != nil {
		t.Error(err)
	}
	eventually(t, fmt.Sprintf("%d connections, as before", before), func() bool { return clients() <= before })
}

// A cache that could not be opened leaves nothing on its Store, however often it is
// tried.
func TestNothingIsLeftOfACacheThatWasRefused(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	redistest.Do(t, admin, "ACL", "SETUSER", "u", "on", ">p", "~*", "resetchannels", "&flipcache:self:*", "+@all")
	o := StoreOptions{Client: s.ClientOption(), Invalidation: invalidate.PubSub}
	o.Client.Username, o.Client.Password = "u", "p"
	st, err := Open(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	for range 10 {
		if _, err := New(st, "n", Options[string, string]{}); !errors.Is(err, ErrPermission) {
			t.Fatalf("got %v", err)
		}
	}
	if n := len(st.caches); n != 0 {
		t.Errorf("the Store holds %d caches", n)
	}
	redistest.Do(t, admin, "ACL", "SETUSER", "u", "allchannels")
	newOn(t, st, "n", Options[string, string]{})
}

func TestCloseDoesNotWaitForAWatcher(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	const timeout = time.Second
	p := join(t, s, invalidate.PubSub, func(o *StoreOptions, _ *Options[string, string]) { o.Timeout = timeout })
	inside, release := make(chan struct{}), make(chan struct{})
	defer close(release)
	var once sync.Once
	p.store.OnState(func(invalidate.State) {
		once.Do(func() { close(inside) })
		<-release
	})
	redistest.Do(t, admin, "CLIENT", "KILL", "TYPE", "pubsub")
	<-inside
	within(t, timeout+5*time.Second, "Close while a function given to OnState blocks", func() { p.store.Close() })
}

// R36.
func TestMethodsDuringCloseReturnAResultOrErrClosed(t *testing.T) {
	s := redistest.Real(t)
	for _, mode := range []invalidate.Mode{invalidate.Off, invalidate.PubSub, invalidate.Tracking} {
		t.Run(mode.String(), func(t *testing.T) {
			for range 5 {
				p := join(t, s, mode, func(o *StoreOptions, _ *Options[string, string]) { o.Timeout = 2 * time.Second })
				other := join(t, s, mode)
				var calls atomic.Int64
				var wg sync.WaitGroup
				for range 64 / len(allMethods(p)) {
					for name, op := range allMethods(p) {
						wg.Go(func() {
							for {
								err := op(ctx)
								calls.Add(1)
								if errors.Is(err, ErrClosed) {
									return
								}
								if err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrConflict) {
									t.Errorf("%s during Close: %v", name, err)
									return
								}
							}
						})
					}
				}
				wg.Go(func() {
					for i := 0; ; i++ {
						if _, err := New(p.store, fmt.Sprint("more", i), Options[int, int]{}); err != nil {
							if !errors.Is(err, ErrClosed) {
								t.Errorf("New during Close: %v", err)
							}
							return
						}
					}
				})
				eventually(t, "all run", func() bool { return calls.Load() > 500 })
				within(t, 10*time.Second, "Close", func() { p.store.Close() })
				within(t, 10*time.Second, "the methods", wg.Wait)
				other.set(t, "k", "after")
				if t.Failed() {
					return
				}
			}
		})
	}
}

// explosive is a codec that panics when it is told to.
type explosive struct{ append, decode *atomic.Bool }

func (e explosive) Append(dst []byte, v string) ([]byte, error) {
	if e.append.Load() {
		panic("Append exploded")
	}
	return append(dst, v...), nil
}

func (e explosive) Decode(b []byte) (string, error) {
	if e.decode.Load() {
		panic("Decode exploded")
	}
	return string(b), nil
}

func TestPanicInACodecLeavesTheKeyUsable(t *testing.T) {
	eachMode(t, func(t *testing.T, mode invalidate.Mode, s *redisserver.Server) {
		admin := redistest.Client(t, s)
		e := explosive{new(atomic.Bool), new(atomic.Bool)}
		p := join(t, s, mode, func(_ *StoreOptions, o *Options[string, string]) { o.Codec = e })
		recovering := func(f func() error) (err error) {
			defer func() {
				if r := recover(); r != nil {
					err = ErrPanic
				}
			}()
			return f()
		}
		p.set(t, "k", "before")
		e.append.Store(true)
		for name, f := range map[string]func() error{
			"Set":         func() error { return p.Set(ctx, "k", "v") },
			"SetMany":     func() error { return p.SetMany(ctx, map[string]string{"k": "v", "l": "v"}) },
			"SetIfAbsent": func() error { _, err := p.SetIfAbsent(ctx, "l", "v"); return err },
			"GetOrLoad":   func() error { _, err := p.GetOrLoad(ctx, "l", value("v")); return err },
			"Update": func() error {
				_, err := p.Update(ctx, "k", func(string, bool) (string, error) { return "v", nil })
				return err
			},
		} {
			if err := recovering(f); !errors.Is(err, ErrPanic) && !errors.Is(err, ErrEncode) {
				t.Errorf("%s with an Append that panics: %v", name, err)
			}
		}
		e.append.Store(false)
		if v := stored(t, admin, "k"); v != "before" {
			t.Errorf("Redis holds %q", v)
		}
		e.decode.Store(true)
		redistest.Do(t, admin, "SET", "n:m", "v")
		for range 2 {
			_, err := p.Get(ctx, "m")
			refused(t, err, ErrDecode, "n:m", "Decode exploded")
			_, err = p.GetMany(ctx, []string{"m", "none"})
			refused(t, err, ErrDecode, "n:m", "Decode exploded")
		}
		e.decode.Store(false)
		within(t, 5*time.Second, "the same keys", func() {
			for _, k := range []string{"k", "l", "m"} {
				p.set(t, k, "after")
				p.want(t, k, "after")
				p.Delete(ctx, k)
				if v, err := p.GetOrLoad(ctx, k, value("loaded")); v != "loaded" || err != nil {
					t.Errorf("%s: %q, %v", k, v, err)
				}
			}
		})
	})
}

func TestReaderThatLeavesTakesNobodyWithIt(t *testing.T) {
	eachMode(t, func(t *testing.T, mode invalidate.Mode, s *redisserver.Server) {
		p := join(t, s, mode)
		redistest.Do(t, redistest.Client(t, s), "SET", "n:k", "v")
		g := newGate(p, afterReadReply, "k")
		leader, cancel := context.WithCancel(ctx)
		var err error
		first := async(func() { _, err = p.Get(leader, "k") })
		<-g.reached
		var wg sync.WaitGroup
		for range 9 {
			wg.Go(func() { p.want(t, "k", "v") })
		}
		cancel()
		within(t, 5*time.Second, "the reader that leaves", first)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		close(g.open)
		within(t, 5*time.Second, "the others", wg.Wait)
		if v := p.local("k"); v != "v" {
			t.Errorf("the fill of the reader that left put %q in the tier", v)
		}
	})
}

func TestEveryMethodEndsByItsTimeoutOnAStoppedServer(t *testing.T) {
	const timeout = 300 * time.Millisecond
	const slack = 4 * time.Second
	for _, mode := range []invalidate.Mode{invalidate.Off, invalidate.PubSub, invalidate.Tracking} {
		t.Run(mode.String(), func(t *testing.T) {
			s := redistest.Real(t)
			admin := redistest.Client(t, s)
			p := join(t, s, mode, func(o *StoreOptions, _ *Options[string, string]) { o.Timeout = timeout })
			closing := join(t, s, mode, func(o *StoreOptions, _ *Options[string, string]) { o.Timeout = timeout })
			other := join(t, s, mode)
			for _, k := range []string{"k", "local"} {
				p.set(t, k, "before")
				other.want(t, k, "before")
			}
			if err := s.Signal(syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			stopped := true
			defer func() {
				if stopped {
					s.Signal(syscall.SIGCONT)
				}
			}()
			p.want(t, "local", "before") // a hit asks nobody
			var wg sync.WaitGroup
			methods := allMethods(p)
			delete(methods, "Clear") // its late command would remove what is looked at below
			for name, op := range methods {
				wg.Go(func() {
					began := time.Now()
					err := op(ctx)
					if took := time.Since(began); took > 2*timeout+slack {
						t.Errorf("%s took %v", name, took)
					}
					if err == nil && name != "GetOrLoad" && name != "Get" {
						t.Errorf("%s succeeded", name)
					}
				})
			}
			within(t, 20*time.Second, "all methods", wg.Wait)
			within(t, timeout+slack, "Open", func() {
				if st, err := Open(ctx, StoreOptions{Client: s.ClientOption(), Invalidation: mode, Timeout: timeout}); err == nil {
					st.Close()
					t.Error("Open succeeded")
				}
			})
			within(t, timeout+slack, "Close", func() { closing.store.Close() })

			s.Signal(syscall.SIGCONT) // what was sent happens now
			stopped = false
			eventually(t, "they work again", func() bool { return p.Set(ctx, "again", "v") == nil && other.Set(ctx, "again", "v") == nil })
			if mode == invalidate.PubSub {
				for _, q := range []process{p, other} {
					q.awaitStatus(t, invalidate.Live)
					newMark(t, q).await(t, admin)
				}
				agree(t, admin, []process{p, other}, "k", "l", "local", "again")
			}
			if v := p.local("k"); v != "" && v != stored(t, admin, "k") {
				t.Errorf("the process that wrote without an answer holds %q, Redis %q", v, stored(t, admin, "k"))
			}
		})
	}
}

// A movable is a dialer whose server can be exchanged.
type movable struct{ addr atomic.Pointer[string] }

func (m *movable) dial(ctx context.Context, _ string, d *net.Dialer, _ *tls.Config) (net.Conn, error) {
	return d.DialContext(ctx, "tcp", *m.addr.Load())
}

func TestStoreWorksAgainAfterTheServerWasRestarted(t *testing.T) {
	for _, mode := range []invalidate.Mode{invalidate.Off, invalidate.PubSub, invalidate.Tracking} {
		t.Run(mode.String(), func(t *testing.T) {
			old := redistest.Real(t)
			m := new(movable)
			m.addr.Store(&old.Addr)
			var ps []process
			for range 2 {
				ps = append(ps, join(t, old, mode, func(o *StoreOptions, _ *Options[string, string]) { o.Client.DialCtxFn, o.Timeout = m.dial, time.Second }))
			}
			a, b := ps[0], ps[1]
			a.set(t, "k", "lost with the server")
			a.GetOrLoad(ctx, "script", value("v")) // its script is not on the new server
			b.want(t, "k", "lost with the server")
			old.Close()
			if err := a.Set(ctx, "k", "nobody hears"); err == nil {
				t.Error("Set without a server succeeded")
			}
			s := redistest.Real(t)
			m.addr.Store(&s.Addr)
			admin := redistest.Client(t, s)
			if mode == invalidate.PubSub {
				for _, p := range ps {
					p.awaitStatus(t, invalidate.Live)
				}
				if _, err := b.Fresh().Get(ctx, "k"); !errors.Is(err, ErrNotFound) {
					eventually(t, "reads work", func() bool { _, err = b.Get(ctx, "k"); return errors.Is(err, ErrNotFound) })
				}
			}
			eventually(t, "writes work", func() bool { return a.Set(ctx, "k", "v1") == nil })
			eventually(t, "loads are stored", func() bool {
				a.Delete(ctx, "script")
				a.GetOrLoad(ctx, "script", value("v2"))
				return stored(t, admin, "script") == "v2"
			})
			if mode == invalidate.PubSub {
				for i := range 10 {
					a.set(t, "k", fmt.Sprint(i))
					newMark(t, b).await(t, admin)
					b.want(t, "k", fmt.Sprint(i))
				}
			}
		})
	}
}

// What Close ended is an error that says so, and nothing else is.
func TestWhatCloseEndedIsErrClosed(t *testing.T) {
	t.Parallel()
	st := openStore(t, redistest.Embedded(t), invalidate.Off)
	other := errors.New("other")
	want := func(err error, closed bool, when string) {
		t.Helper()
		got := st.ifClosed(err)
		if errors.Is(got, ErrClosed) != closed || !errors.Is(got, err) {
			t.Errorf("%s, %v: got %v", when, err, got)
		}
	}
	for _, err := range []error{context.Canceled, net.ErrClosed, other} {
		want(err, false, "open")
	}
	st.Close()
	want(context.Canceled, true, "closed")
	want(net.ErrClosed, true, "closed")
	want(other, false, "closed")
}
