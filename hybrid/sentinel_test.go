package hybrid

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/internal/clock"
	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/internal/redistest"
	"github.com/flipcache/flipcache/invalidate"
)

// H16, R13: the sentinels put another server in the master's place, which lives on
// and answers. A process that was not told, or late, serves nothing that was replaced
// longer ago than its lease allows, and follows.
func TestH16_SentinelsNameAnotherMasterAndTheOldOneLives(t *testing.T) {
	for _, mode := range invalidating {
		for _, how := range []string{"it is told", "its sentinel is the last to know", "its sentinel is silent"} {
			t.Run(mode.String()+", "+how, func(t *testing.T) {
				t.Parallel()
				s := redistest.Sentinel(t, nil)
				old := s.Master()
				b := join(t, s, mode, func(o *StoreOptions, c *Options[string, string]) {
					o.MaxStaleness, o.Timeout, c.LocalTTL = clusterLease, time.Second, -1
					if how != "it is told" {
						slices.Reverse(o.Client.InitAddress) // it listens to the first that answers
					}
				})
				redistest.Do(t, redistest.Client(t, old), "SET", "n:k", "v1")
				holds(t, b, "k", "v1")
				if how == "its sentinel is silent" {
					defer s.Sentinels[2].Pause()()
				}
				if _, err := s.Sentinels[0].Do("SENTINEL", "FAILOVER", redisserver.MasterSet); err != nil {
					t.Fatal(err)
				}
				var promoted *redisserver.Server
				eventually(t, "one sentinel names another master", func() bool {
					promoted = s.Master()
					return promoted != nil && promoted != old
				})
				admin := redistest.Client(t, promoted)
				redistest.Do(t, admin, "SET", "n:k", "v2")
				written := clock.Now()
				for {
					now := clock.Now()
					if b.local("k") != "v1" {
						break
					}
					if age := time.Duration(now - written); age > clusterLease {
						t.Fatalf("v1 was served %v after v2 was written at the new master", age)
					}
				}
				if m, err := old.Do("SET", "n:alive", "1"); err != nil {
					t.Errorf("the old master does not live on, so this proves less: %v, %v", m, err)
				}
				eventually(t, "it follows", func() bool {
					v, err := b.Get(ctx, "k")
					return err == nil && v == "v2" && b.local("k") == "v2"
				})
				t.Logf("served the new master's value %v after it was written", time.Duration(clock.Now()-written))
				b.awaitStatus(t, invalidate.Live)
				write := []string{"SET", "n:k", "v3"}
				if mode == invalidate.PubSub {
					m, _ := invalidate.AppendKeys(nil, invalidate.Sender{}, 1, []string{"k"})
					redistest.Do(t, admin, write...)
					write = []string{"PUBLISH", invalidate.Channel("n"), string(m)}
				}
				redistest.Do(t, admin, write...)
				eventually(t, "the new master is heard", func() bool { return b.local("k") == "" })
			})
		}
	}
}

// H16: with PubSub another client than the stream's reads and writes. Where that one is
// the last to know of a switch, it goes on filling the tier with what the old master
// has.
func TestH16_ReadsGoToTheOldMasterWhileTheStreamHasLeft(t *testing.T) {
	t.Parallel()
	s := redistest.Sentinel(t, nil)
	old := s.Master()
	late := &firstSilent{of: make(map[string]bool)}
	for _, one := range s.Sentinels {
		late.of[one.Addr] = true
	}
	b := join(t, s, invalidate.PubSub, func(o *StoreOptions, c *Options[string, string]) {
		o.MaxStaleness, o.Timeout, c.LocalTTL = clusterLease, time.Second, -1
		o.Client.DialCtxFn = late.dial // the first client that is made reads and writes
	})
	redistest.Do(t, redistest.Client(t, old), "SET", "n:k", "v1")
	holds(t, b, "k", "v1")
	late.silent.Store(true)
	promoted, err := s.Failover()
	if err != nil {
		t.Fatal(err)
	}
	redistest.Do(t, redistest.Client(t, promoted), "SET", "n:k", "v2")
	written := clock.Now()
	fromOld := 0
	for {
		now := clock.Now()
		age := time.Duration(now - written)
		if b.local("k") == "v1" && age > clusterLease {
			t.Fatalf("v1 was served locally %v after v2 was written at the new master", age)
		}
		if v, _ := b.Get(ctx, "k"); v == "v2" && b.local("k") == "v2" {
			break
		} else if v == "v1" {
			fromOld++
		}
		if age > 20*time.Second {
			t.Fatalf("it does not follow: %v", b.store.State())
		}
	}
	t.Logf("served the new master's value %v after it was written; the old one was read %d times until then", time.Duration(clock.Now()-written), fromOld)
	if fromOld == 0 {
		t.Error("the old master was not read, so this proves nothing")
	}
}

// firstSilent is a dialer whose first connection to one of some addresses can be
// silent.
type firstSilent struct {
	of     map[string]bool
	dialed atomic.Bool
	silent atomic.Bool
}

func (f *firstSilent) dial(ctx context.Context, addr string, d *net.Dialer, _ *tls.Config) (net.Conn, error) {
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil || !f.of[addr] || f.dialed.Swap(true) {
		return c, err
	}
	return &silentConn{c, &f.silent}, nil
}

// A silentConn loses what comes while it is silent, and tells nobody.
type silentConn struct {
	net.Conn
	silent *atomic.Bool
}

func (c *silentConn) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		if err != nil || !c.silent.Load() {
			return n, err
		}
	}
}

// H16: the link to the one sentinel that a client listens to is half-open, and the
// others switch. Those that the probe asks know, so it is left.
func TestH16_TheSilentSentinelThatIsListenedToIsLeft(t *testing.T) {
	for _, mode := range invalidating {
		for _, host := range []string{"127.0.0.1", "localhost"} { // the sentinels tell of each other by the first
			t.Run(mode.String()+", "+host, func(t *testing.T) {
				t.Parallel()
				s := redistest.Sentinel(t, nil)
				own := s.Sentinels[0].Addr
				link := &oneSilent{addr: own}
				p := join(t, s, mode, func(o *StoreOptions, c *Options[string, string]) {
					o.MaxStaleness, o.Timeout, c.LocalTTL = clusterLease, time.Second, -1
					for i, addr := range o.Client.InitAddress {
						o.Client.InitAddress[i] = strings.Replace(addr, "127.0.0.1", host, 1)
					}
					o.Client.DialCtxFn = link.dial
					o.Client.Sentinel.Dialer.KeepAlive = time.Minute // no PING finds out
				})
				redistest.Do(t, redistest.Client(t, s.Master()), "SET", "n:k", "v1")
				holds(t, p, "k", "v1")
				clients := int64(2) // the Store's and the stream's; by 127.0.0.1 the probe's, too
				if host == "127.0.0.1" {
					clients++
				}
				eventually(t, "all listen to it", func() bool { return link.dialed.Load() >= clients })
				if cuts := p.store.State().Cuts; cuts > 0 {
					t.Errorf("cut before anything happened: %v", p.store.State())
				}
				link.silent.Store(true)
				promoted, err := s.Failover()
				if err != nil {
					t.Fatal(err)
				}
				at := time.Now()
				redistest.Do(t, redistest.Client(t, promoted), "SET", "n:k", "v2")
				eventually(t, "it follows", func() bool {
					v, err := p.Get(ctx, "k")
					return err == nil && v == "v2" && p.local("k") == "v2"
				})
				took := time.Since(at)
				if t.Logf("served the new master's value %v after all sentinels named it", took); took > 2*time.Second {
					t.Errorf("that is too late")
				}
			})
		}
	}
}

// oneSilent is a dialer whose connections to one address can be silent, those to come,
// too.
type oneSilent struct {
	addr   string
	dialed atomic.Int64 // how often by addr
	silent atomic.Bool
}

func (l *oneSilent) dial(ctx context.Context, addr string, d *net.Dialer, _ *tls.Config) (net.Conn, error) {
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil || c.RemoteAddr().String() != l.addr {
		return c, err
	}
	if addr == l.addr {
		l.dialed.Add(1)
	}
	return &silentConn{c, &l.silent}, nil
}

// H16: the master dies, and another takes its place: the tiers are emptied, and agree
// with the new one, which may lack what the old one had.
func TestH16_MasterDiesAndSentinelsReplaceIt(t *testing.T) {
	for _, mode := range invalidating {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			s := redistest.Sentinel(t, nil)
			old := s.Master()
			a := join(t, s, mode, inCluster())
			b := join(t, s, mode, inCluster())
			for _, p := range []process{a, b} {
				eventually(t, "a write", func() bool { return p.Set(ctx, "k", "v1") == nil })
				holds(t, p, "k", "v1")
			}
			old.Kill()
			b.awaitStatus(t, invalidate.Cut)
			if n := b.Stats().Entries; n != 0 {
				t.Errorf("cut, and %d entries are there", n)
			}
			promoted, err := s.AwaitMaster(func(at string) bool { return at != old.Addr })
			if err != nil {
				t.Fatal(err)
			}
			at := time.Now()
			eventually(t, "a write", func() bool { return a.Set(ctx, "k", "v2") == nil })
			holds(t, b, "k", "v2")
			t.Logf("live %v after the promotion", b.store.State().Since.Sub(at))
			if v := stored(t, redistest.Client(t, promoted), "k"); v != "v2" {
				t.Errorf("the new master holds %q", v)
			}
		})
	}
}

// H36: a master with its readers is parted from its replicas and its sentinels, which
// put another in its place. How long the readers' tiers serve what was replaced there
// is a matter of who grants their lease.
func TestH36_PartedMasterGoesOnServingItsReaders(t *testing.T) {
	for _, test := range []struct {
		name        string
		minReplicas int
		bySentinel  bool
		ends        bool // the tiers stop serving
	}{
		{"min-replicas-to-write 0", 0, false, false},
		{"min-replicas-to-write 1", 1, false, true},
		{"min-replicas-to-write 0, found by Sentinel", 0, true, true},
	} {
		for _, mode := range invalidating {
			t.Run(mode.String()+", "+test.name, func(t *testing.T) {
				t.Parallel()
				var proxy *redisserver.Proxy
				s := redistest.Sentinel(t, func(master string) (string, error) {
					var err error
					if proxy, err = redisserver.NewProxy(master); err != nil {
						return "", err
					}
					return proxy.Addr, nil
				}, "--min-replicas-to-write", strconv.Itoa(test.minReplicas), "--min-replicas-max-lag", "2")
				t.Cleanup(func() { proxy.Close() })
				old := s.Servers[0]
				var servers redistest.Server = old
				link := &inside{master: proxy.Addr, direct: old.Addr}
				if test.bySentinel {
					servers = s
				}
				p := join(t, servers, mode, func(o *StoreOptions, c *Options[string, string]) {
					o.MaxStaleness, o.Timeout, c.LocalTTL = clusterLease, time.Second, -1
					o.Client.DialCtxFn = link.dial
				})
				eventually(t, "a write", func() bool { _, err := old.Do("SET", "n:k", "v1"); return err == nil })
				holds(t, p, "k", "v1")

				mend := proxy.Part()
				defer mend()
				link.parted.Store(true)
				parted := time.Now()
				promoted, err := s.AwaitMaster(func(at string) bool { return at != proxy.Addr })
				if err != nil {
					t.Fatal(err)
				}
				if _, err := promoted.Do("CONFIG", "SET", "min-replicas-to-write", "0"); err != nil { // it has none yet
					t.Fatal(err)
				}
				if _, err := promoted.Do("SET", "n:k", "v2"); err != nil {
					t.Fatal(err)
				}
				written := time.Now()
				var last time.Time // that v1 was served locally
				asked := ""
				for time.Since(written) < 4*time.Second {
					if p.local("k") == "v1" {
						last = time.Now()
					}
					if time.Since(written) > 3*time.Second && asked == "" {
						c, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
						asked, _ = p.Fresh().Get(c, "k")
						cancel()
					}
					time.Sleep(time.Millisecond)
				}
				stale := time.Duration(0)
				if last.After(written) {
					stale = last.Sub(written)
				}
				t.Logf("replaced %v after the parting; v1 was served locally for %v from then, of 4 s that were watched; the old master itself answers %q",
					written.Sub(parted).Round(time.Millisecond), stale.Round(time.Millisecond), asked)
				switch {
				case test.ends && last.Sub(parted) > 3*time.Second+2*clusterLease: // the lag, once a second, and the lease
					t.Errorf("v1 was served until %v after the parting", last.Sub(parted))
				case test.ends && p.store.State().Status == invalidate.Live && test.minReplicas > 0:
					t.Errorf("live: %v", p.store.State())
				case !test.ends && stale < 2*clusterLease: // nothing but a busy machine ends it before the 4 s
					t.Errorf("v1 was served for %v only: documented is, as long as the parting lasts", stale)
				}
			})
		}
	}
}

// inside is a dialer on the parted master's side: it reaches the master, and when
// parted nobody else.
type inside struct {
	master, direct string
	parted         atomic.Bool
}

func (l *inside) dial(ctx context.Context, addr string, d *net.Dialer, _ *tls.Config) (net.Conn, error) {
	if addr == l.master || addr == l.direct {
		return d.DialContext(ctx, "tcp", l.direct)
	}
	if l.parted.Load() {
		return nil, errors.New("parted")
	}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &silentConn{c, &l.parted}, nil
}

// Credentials rotate: a renewal goes by the connections that are there, so the tiers
// are kept; a new connection asks for new ones.
func TestRotatingCredentialsKeepTheTiers(t *testing.T) {
	for _, mode := range invalidating {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			s := redistest.Real(t)
			admin := redistest.Client(t, s)
			redistest.Do(t, admin, "ACL", "SETUSER", "u", "on", "~*", "&*", "+@all", ">p0")
			var version atomic.Int64
			var greeted sync.Map // credentials that were given, by version
			p := join(t, s, mode, func(o *StoreOptions, c *Options[string, string]) {
				o.MaxStaleness, o.Timeout, c.LocalTTL = clusterLease, time.Second, -1
				o.Client.AuthCredentialsFn = func(rueidis.AuthCredentialsContext) (rueidis.AuthCredentials, error) {
					n := version.Load()
					greeted.Store(n, true)
					return rueidis.AuthCredentials{Username: "u", Password: fmt.Sprint("p", n), RefreshAfter: time.Now().Add(100 * time.Millisecond)}, nil
				}
			})
			p.set(t, "k", "v")
			holds(t, p, "k", "v")
			for n := range int64(3) {
				redistest.Do(t, admin, "ACL", "SETUSER", "u", fmt.Sprint(">p", n+1))
				version.Store(n + 1)
				eventually(t, "a renewal", func() bool { _, ok := greeted.Load(n + 1); return ok })
				time.Sleep(300 * time.Millisecond) // all connections have renewed theirs: each does every 100 ms
				redistest.Do(t, admin, "ACL", "SETUSER", "u", fmt.Sprint("<p", n))
				if v := p.local("k"); v != "v" || p.store.State().Cuts != 0 {
					t.Fatalf("the tier holds %q, %v", v, p.store.State())
				}
			}
			redistest.Do(t, admin, "CLIENT", "KILL", "USER", "u") // whoever connects needs the newest
			eventually(t, "a cut and a resume", func() bool {
				st := p.store.State()
				return st.Cuts > 0 && st.Status == invalidate.Live
			})
			eventually(t, "it serves again", func() bool { p.Get(ctx, "k"); return p.local("k") == "v" })
		})
	}
}
