package hybrid

import (
	"context"
	"crypto/tls"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/flipcache/flipcache/internal/clock"
	"github.com/flipcache/flipcache/internal/redistest"
	"github.com/flipcache/flipcache/invalidate"
)

// A staller is a dialer whose connections can be told to pass nothing on, one
// way or both, and to tell nobody: half-open links.
type staller struct {
	mu       sync.Mutex
	up, down chan struct{} // not nil: held until it is closed
}

type stalledConn struct {
	net.Conn
	s    *staller
	over chan struct{}
	once sync.Once
}

func (s *staller) dial(ctx context.Context, addr string, dialer *net.Dialer, _ *tls.Config) (net.Conn, error) {
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &stalledConn{Conn: conn, s: s, over: make(chan struct{})}, nil
}

func (s *staller) stall(up, down bool) (release func()) {
	held := make(chan struct{})
	s.mu.Lock()
	defer s.mu.Unlock()
	if up {
		s.up = held
	}
	if down {
		s.down = held
	}
	return sync.OnceFunc(func() {
		s.mu.Lock()
		s.up, s.down = nil, nil
		s.mu.Unlock()
		close(held)
	})
}

func (c *stalledConn) wait(held func() chan struct{}) {
	c.s.mu.Lock()
	h := held()
	c.s.mu.Unlock()
	if h != nil {
		select {
		case <-h:
		case <-c.over:
		}
	}
}

func (c *stalledConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.wait(func() chan struct{} { return c.s.down })
	return n, err
}

func (c *stalledConn) Write(b []byte) (int, error) {
	c.wait(func() chan struct{} { return c.s.up })
	return c.Conn.Write(b)
}

func (c *stalledConn) Close() error {
	c.once.Do(func() { close(c.over) })
	return c.Conn.Close()
}

const testLease = 300 * time.Millisecond

func underLease(s *staller) func(*StoreOptions, *Options[string, string]) {
	return func(o *StoreOptions, c *Options[string, string]) {
		o.MaxStaleness, o.Timeout = testLease, time.Second
		if s != nil {
			o.Client.DialCtxFn = s.dial
		}
		c.LocalTTL = -1
	}
}

var invalidating = []invalidate.Mode{invalidate.PubSub, invalidate.Tracking}

// versions has a second process write growing numbers to n:k, and notes when
// each was written.
type versions struct {
	mu   sync.Mutex
	at   []int64 // when the write of version i was answered
	last int
}

func (v *versions) write(t *testing.T, by process) {
	v.mu.Lock()
	n := v.last + 1
	v.mu.Unlock()
	if err := by.Set(ctx, "k", strconv.Itoa(n)); err != nil {
		return // the server may be stopped: the version is written again
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.last = n
	v.at = append(v.at, clock.Now())
}

// age returns how long before now the successor of a version was written.
func (v *versions) age(value string, now int64) time.Duration {
	n, _ := strconv.Atoi(value)
	v.mu.Lock()
	defer v.mu.Unlock()
	if n >= v.last {
		return 0
	}
	return time.Duration(now - v.at[n+1])
}

// H13: a half-open link, each way; a stopped server. No read is older than the
// lease says, and the tier serves again afterwards.
func TestH13_SilenceUnderALease(t *testing.T) {
	for _, mode := range invalidating {
		for name, fault := range map[string]func(s *staller, sig func(syscall.Signal)) (mend func()){
			"the link is silent": func(s *staller, _ func(syscall.Signal)) func() { return s.stall(true, true) },
			"nothing comes":      func(s *staller, _ func(syscall.Signal)) func() { return s.stall(false, true) },
			"nothing goes":       func(s *staller, _ func(syscall.Signal)) func() { return s.stall(true, false) },
			"the server is stopped": func(_ *staller, sig func(syscall.Signal)) func() {
				sig(syscall.SIGSTOP)
				return func() { sig(syscall.SIGCONT) }
			},
			"it is silent for too long": nil,
		} {
			t.Run(mode.String()+", "+name, func(t *testing.T) {
				t.Parallel()
				s := redistest.Real(t)
				link := new(staller)
				a, b := join(t, s, mode, underLease(link)), join(t, s, mode, underLease(nil))
				length := 900 * time.Millisecond
				if fault == nil {
					length = 4 * time.Second
					fault = func(s *staller, _ func(syscall.Signal)) func() { return s.stall(true, true) }
				}
				v := &versions{at: []int64{0}}
				v.write(t, b)
				eventually(t, "a local hit", func() bool { a.Get(ctx, "k"); return a.local("k") != "" })
				stop := make(chan struct{})
				var wg sync.WaitGroup
				wg.Go(func() {
					for {
						select {
						case <-stop:
							return
						case <-time.After(5 * time.Millisecond):
							v.write(t, b)
						}
					}
				})
				var worst time.Duration
				hits, lapsed := 0, false
				wg.Go(func() {
					for {
						select {
						case <-stop:
							return
						default:
						}
						now := clock.Now()
						if got := a.local("k"); got != "" {
							hits++
							worst = max(worst, v.age(got, now))
						} else if clock.Now() > a.store.lease.Load() {
							lapsed = true
						} else {
							c, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
							a.Get(c, "k")
							cancel()
						}
						time.Sleep(50 * time.Microsecond)
					}
				})
				time.Sleep(50 * time.Millisecond)
				mend := fault(link, func(sig syscall.Signal) { s.Signal(sig) })
				time.Sleep(length)
				mend()
				eventually(t, "the lease", func() bool { return a.flights != nil && clock.Now() < a.store.lease.Load() })
				close(stop)
				wg.Wait()
				a.awaitStatus(t, invalidate.Live)
				b.awaitStatus(t, invalidate.Live)
				eventually(t, "the tier serves again, what Redis holds", func() bool {
					a.Get(ctx, "k")
					return a.local("k") != "" && v.age(a.local("k"), clock.Now()) == 0
				})
				if worst > testLease {
					t.Errorf("a read was %v old, the bound is %v", worst, testLease)
				}
				if !lapsed || hits == 0 {
					t.Errorf("the lease lapsed: %t, hits %d: the test proves nothing", lapsed, hits)
				}
				t.Logf("worst %v, %d hits", worst, hits)
			})
		}
	}
}

// The tier is kept where the same connection catches up.
func TestTierIsKeptWhereTheConnectionCatchesUp(t *testing.T) {
	for _, mode := range invalidating {
		t.Run(mode.String(), func(t *testing.T) {
			s := redistest.Real(t)
			link := new(staller)
			a := join(t, s, mode, underLease(link))
			a.set(t, "k", "v")
			mend := link.stall(true, true)
			eventually(t, "the end of the lease", func() bool { return a.local("k") == "" })
			mend()
			fills := a.counters.fills.Load()
			eventually(t, "the lease", func() bool { return a.local("k") == "v" })
			a.want(t, "k", "v")
			if n := a.counters.fills.Load(); n != fills || a.store.State().Cuts != 0 {
				t.Errorf("%d fills, %d cuts: want the entry kept", n-fills, a.store.State().Cuts)
			}
		})
	}
}

// H15: a server that answers everything, and does not write: one that lacks its
// replicas, here.
func TestH15_AServerThatDoesNotWriteGrantsNoLease(t *testing.T) {
	doesNotWrite(t, []string{"CONFIG", "SET", "min-replicas-to-write", "1"}, []string{"CONFIG", "SET", "min-replicas-to-write", "0"})
}

// H16: a master that becomes another's replica, and keeps its connections.
func TestH16_AMasterThatBecomesAReplicaGrantsNoLease(t *testing.T) {
	doesNotWrite(t, []string{"REPLICAOF", "127.0.0.1", "1"}, []string{"REPLICAOF", "NO", "ONE"})
}

// doesNotWrite checks that the tier is cut while begin holds, and serves after end.
func doesNotWrite(t *testing.T, begin, end []string) {
	for _, mode := range invalidating {
		t.Run(mode.String(), func(t *testing.T) {
			s := redistest.Real(t)
			admin := redistest.Client(t, s)
			a := join(t, s, mode, underLease(nil))
			a.set(t, "k", "v")
			redistest.Do(t, admin, begin...)
			began := time.Now()
			eventually(t, "nothing is served locally", func() bool { return a.local("k") == "" })
			if took := time.Since(began); took > 2*testLease {
				t.Errorf("it took %v", took)
			}
			a.awaitStatus(t, invalidate.Cut)
			if st := a.store.State(); st.Cause == nil {
				t.Errorf("no cause: %+v", st)
			}
			redistest.Do(t, admin, end...)
			a.awaitStatus(t, invalidate.Live)
			eventually(t, "a local hit", func() bool { a.Get(ctx, "k"); return a.local("k") == "v" })
		})
	}
}

// Two caches, one of which joins late: both serve under the one lease.
func TestCacheThatJoinsLaterIsServedUnderTheLease(t *testing.T) {
	for _, mode := range invalidating {
		t.Run(mode.String(), func(t *testing.T) {
			s := redistest.Real(t)
			admin := redistest.Client(t, s)
			st := openStore(t, s, mode, func(o *StoreOptions) { o.MaxStaleness = testLease })
			for _, name := range []string{"a", "b"} {
				c := newOn(t, st, name, Options[string, string]{})
				if err := c.Set(ctx, "k", "v"); err != nil {
					t.Fatal(err)
				}
				if !c.held("k") {
					t.Errorf("%s: not held", name)
				}
				time.Sleep(testLease)
			}
			m := redistest.Do(t, admin, "ZCARD", "flipcache#members:b")
			if n, _ := m.AsInt64(); n != 1 {
				t.Errorf("%d members of b, want this process", n)
			}
		})
	}
}

// What docs/protocol.md asks for is enough.
func TestTheDocumentedRightsAreEnoughForALease(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	rights := "resetchannels ~flipcache#* ~n:* +get +pttl +exists +unlink +multi +exec +hello +ping +eval +evalsha +script|load +time +set +zadd +zremrangebyscore +pexpire"
	for mode, more := range map[invalidate.Mode]string{
		invalidate.PubSub:   "&flipcache:inv:* &flipcache:self:* +subscribe +publish",
		invalidate.Tracking: "+client|tracking",
	} {
		redistest.Do(t, admin, append([]string{"ACL", "SETUSER", "u", "reset", "on", ">p"}, strings.Fields(rights+" "+more)...)...)
		p := join(t, s, mode, underLease(nil), func(o *StoreOptions, _ *Options[string, string]) {
			o.Client.Username, o.Client.Password = "u", "p"
		})
		p.set(t, "k", "v")
		time.Sleep(2 * testLease)
		if p.local("k") != "v" || p.store.State().Cuts != 0 {
			t.Errorf("%v: %v, holds %q", mode, p.store.State(), p.local("k"))
		}
	}
}
