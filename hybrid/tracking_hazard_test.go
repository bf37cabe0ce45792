package hybrid

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/internal/redistest"
	"github.com/flipcache/flipcache/invalidate"
)

// H3: a process drops what it just wrote, or ignores a push that it needed.
func TestH3_TrackingKeepsItsOwnWriteAndHearsTheNext(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	a := join(t, s, invalidate.Tracking)
	for i, before := range []string{"nothing", "a held entry", "an entry that only Redis remembers"} {
		t.Run("over "+before, func(t *testing.T) {
			k := key(i)
			switch i {
			case 1:
				a.set(t, k, "old")
			case 2:
				a.set(t, k, "old")
				a.tier.Delete(k) // evicted here
			}
			a.set(t, k, "mine")
			if v := a.local(k); v != "mine" {
				t.Fatalf("after its own write the writer holds %q", v)
			}
			fence(t, a.store)
			if v := a.local(k); v != "mine" {
				t.Fatalf("after the push of its own write the writer holds %q", v)
			}
			redistest.Do(t, admin, "SET", "n:"+k, "foreign")
			fence(t, a.store)
			if v := a.local(k); v != "" {
				t.Fatalf("after a foreign write the writer holds %q", v)
			}
			a.want(t, k, "foreign")
		})
	}
}

// H3: the foreign write comes while the own one is under way, at each place
// where it can, whether the writer had an entry, which spares it the EXISTS, or not.
func TestH3_TrackingWriteOvertakenByAForeignOneIsNotKept(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	a := join(t, s, invalidate.Tracking)
	for _, held := range []bool{true, false} {
		for _, place := range []string{beforeWriteSend, afterWriteReply} {
			a.set(t, "k", "before")
			if !held {
				a.tier.Delete("k")
			}
			g := newGate(a, place, "k")
			wait := async(func() { a.set(t, "k", "mine") })
			<-g.reached
			redistest.Do(t, admin, "SET", "n:k", "foreign")
			fence(t, a.store)
			close(g.open)
			wait()
			if v := a.local("k"); v != "" && v != stored(t, admin, "k") {
				t.Errorf("%s, held %t: the writer holds %q, Redis %q", place, held, v, stored(t, admin, "k"))
			}
			a.want(t, "k", stored(t, admin, "k"))
		}
	}
}

// H3: in a busy process nearly all writes are there for the next read.
func TestH3_TrackingKeepsNearlyAllWritesOfABusyProcess(t *testing.T) {
	s := redistest.Real(t)
	a, b := join(t, s, invalidate.Tracking), join(t, s, invalidate.Tracking)
	var writes, kept atomic.Int64
	repeat(8, func(g int) {
		for i := range 500 {
			k := key(rand.N(500))
			if g == 7 { // others write, too
				b.Set(ctx, k, "b")
				continue
			}
			if err := a.Set(ctx, k, fmt.Sprint(g, i)); err != nil {
				t.Error(err)
			}
			writes.Add(1)
			if a.local(k) != "" {
				kept.Add(1)
			}
		}
	})
	if share := float64(kept.Load()) / float64(writes.Load()); share < 0.95 {
		t.Errorf("%.1f %% of writes were kept, want 95", 100*share)
	} else {
		t.Logf("%.1f %% of %d writes were kept", 100*share, writes.Load())
	}
}

// H4: a write times out and lands later, on a connection that is long given up.
func TestH4_TrackingWriteThatLandsLaterIsHeardByItsWriter(t *testing.T) {
	s := redistest.Real(t)
	d := new(delayer)
	a := joinAs(t, s, invalidate.Tracking, Options[string, string]{}, func(o *StoreOptions) { o.Client.DialCtxFn = d.dial })
	a.must(t, a.Set(ctx, "k", "early"))
	d.mu.Lock()
	d.fits = func(b []byte) bool { return strings.Contains(string(b), "late") }
	d.mu.Unlock()
	if err := a.Set(ctx, "k", "late"); !errors.Is(err, ErrOutcomeUnknown) {
		t.Fatalf("the write that nobody answered: %v", err)
	}
	process(a).awaitStatus(t, invalidate.Live)
	wantValue(t, a, "k", "early")
	wantValue(t, a, "k", "early")
	if !a.held("k") {
		t.Fatal("the value is not in the local tier: nothing is tested")
	}
	if err := d.later(); err != nil {
		t.Fatal(err)
	}
	fence(t, a.store)
	wantValue(t, a, "k", "late")
}

// H6: the connection is lost: the tier is cut at once, empty, and serves again
// within 200 ms.
func TestH6_TrackingLostConnection(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	d := newGatedDialer(t, s, invalidate.Tracking)
	d.want0(t, admin, "k", "v1")
	d.refuse()
	redistest.Do(t, admin, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
	d.awaitStatus(t, invalidate.Cut)
	if st := d.store.State(); st.Cause == nil || st.Cuts != 1 {
		t.Errorf("state %+v", st)
	}
	if n := d.Stats().Entries; n != 0 {
		t.Errorf("cut, and %d entries are there", n)
	}
	redistest.Do(t, admin, "SET", "n:k", "v2")
	d.admit()
	d.awaitStatus(t, invalidate.Live)
	d.want(t, "k", "v2")

	var longest time.Duration
	for i := range 10 {
		began := time.Now()
		redistest.Do(t, admin, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
		eventually(t, "a local hit", func() bool {
			d.Get(ctx, "k")
			return d.store.State().Cuts == uint64(i+2) && d.local("k") != ""
		})
		longest = max(longest, time.Since(began))
	}
	t.Logf("after a killed connection the tier served again within %v", longest)
}

// want0 has d hold what another program wrote.
func (d gatedDialer) want0(t *testing.T, admin rueidis.Client, key, value string) {
	t.Helper()
	redistest.Do(t, admin, "SET", "n:"+key, value)
	d.want(t, key, value)
	if d.local(key) != value {
		t.Fatal("the tier does not serve")
	}
}

// H7: a flight that began before a cut ends after the resume.
func TestH7_TrackingFlightAcrossACut(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	a := join(t, s, invalidate.Tracking)
	redistest.Do(t, admin, "SET", "n:k", "v1")
	for _, place := range []string{afterReadReply, afterWriteReply} {
		g := newGate(a, place, "k")
		wait := async(func() {
			if place == afterReadReply {
				a.Get(ctx, "k")
			} else {
				a.Set(ctx, "k", "v1")
			}
		})
		<-g.reached
		cuts := a.store.State().Cuts
		redistest.Do(t, admin, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
		eventually(t, "a cut and a resume", func() bool {
			st := a.store.State()
			return st.Cuts > cuts && st.Status == invalidate.Live
		})
		redistest.Do(t, admin, "SET", "n:k", "v2") // on the new connection nobody has asked for it
		fence(t, a.store)
		close(g.open)
		wait()
		if v := a.local("k"); v == "v1" {
			t.Errorf("%s: a flight across a cut left its value", place)
		}
		a.want(t, "k", "v2")
		a.flights.DropAll()
	}
}

// H11: writers outside the library, expiry, eviction, FLUSHALL.
func TestH11_TrackingHearsWhatOthersDo(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	a := join(t, s, invalidate.Tracking)
	for _, command := range []string{
		"SET n:k new", "SET n:k new PX 60000", "DEL n:k", "UNLINK n:k", "GETSET n:k new", "GETDEL n:k", "GETEX n:k PX 50000",
		"PEXPIRE n:k 40000", "PERSIST n:k", "APPEND n:k x", "SETRANGE n:k 1 x", "MSET n:other 1 n:k 2", "RENAME n:k n:moved",
		"COPY n:source n:k REPLACE", "EVAL return(redis.call('SET',KEYS[1],'x')) 1 n:k", "FLUSHALL", "FLUSHDB", "FLUSHDB ASYNC",
		"SELECT 3 FLUSHDB", "PEXPIREAT n:k 1", "MOVE n:k 5",
	} {
		t.Run(command, func(t *testing.T) {
			redistest.Do(t, admin, "FLUSHALL")
			redistest.Do(t, admin, "SET", "n:source", "copied")
			redistest.Do(t, admin, "SET", "n:k", "old", "PX", "30000")
			fence(t, a.store)
			a.want(t, "k", "old")
			if a.local("k") != "old" {
				t.Fatal("the tier does not hold it")
			}
			parts := strings.Fields(command)
			if parts[0] == "SELECT" {
				conn, release := admin.Dedicate()
				conn.Do(ctx, conn.B().Select().Index(3).Build())
				conn.Do(ctx, conn.B().Flushdb().Build())
				conn.Do(ctx, conn.B().Select().Index(0).Build())
				release()
			} else {
				redistest.Do(t, admin, parts...)
			}
			fence(t, a.store)
			if v := a.local("k"); v != "" {
				t.Errorf("the tier still holds %q", v)
			}
			if got, want := must(a.Get(ctx, "k")), stored(t, admin, "k"); got != want {
				t.Errorf("got %q, Redis holds %q", got, want)
			}
		})
	}
}

func must[V any](v V, _ error) V { return v }

// H11: what Redis evicts for a command of this very process is heard, too.
func TestH11_TrackingHearsEvictionsByItsOwnCommands(t *testing.T) {
	s := redistest.Real(t, "--maxmemory", "3mb", "--maxmemory-policy", "allkeys-random")
	admin := redistest.Client(t, s)
	a := join(t, s, invalidate.Tracking, func(_ *StoreOptions, o *Options[string, string]) { o.LocalSize = 100_000 })
	for i := range 5000 {
		if err := a.Set(ctx, key(i), strings.Repeat("v", 500)); err != nil {
			t.Fatal(err)
		}
	}
	fence(t, a.store)
	m := redistest.Do(t, admin, "INFO", "stats")
	info, _ := m.ToString()
	if strings.Contains(info, "evicted_keys:0\r") {
		t.Fatal("nothing was evicted: the test proves nothing")
	}
	held := 0
	for i := range 5000 {
		if a.local(key(i)) == "" {
			continue
		}
		held++
		if stored(t, admin, key(i)) != "" {
			continue
		}
		fence(t, a.store) // what is asked here evicts, too
		if a.local(key(i)) != "" {
			t.Fatalf("%s was evicted, and the tier holds it", key(i))
		}
	}
	if held == 0 {
		t.Error("the tier holds nothing: the test proves nothing")
	}
}

// H11, R7: an expiry is announced when the server reaps the key, which may be
// late: the local deadline holds all the same.
func TestH11_LocalDeadlineHoldsWhereTheExpiryIsAnnouncedLate(t *testing.T) {
	s := redistest.Real(t, redisserver.AllowDebug()...)
	admin := redistest.Client(t, s)
	a := join(t, s, invalidate.Tracking)
	redistest.Do(t, admin, "DEBUG", "SET-ACTIVE-EXPIRE", "0")
	redistest.Do(t, admin, "SET", "n:k", "v", "PX", "150")
	began := time.Now()
	a.want(t, "k", "v")
	if a.local("k") != "v" {
		t.Fatal("the tier does not hold it")
	}
	eventually(t, "the end of the local life", func() bool { return a.local("k") == "" })
	t.Logf("the local life of a key with 150 ms left ended after %v", time.Since(began))
	if a.counters.received.Load() != 0 {
		t.Fatal("the server announced it: the test proves nothing")
	}
	// Redis may have a millisecond more: the life counts from when it was asked for.
	eventually(t, "it is not found", func() bool { _, err := a.Get(ctx, "k"); return errors.Is(err, ErrNotFound) })
}

// H21: a process that tracks and one that listens to announcements.
func TestH21_MixedFleet(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	announcing := func(o *StoreOptions, _ *Options[string, string]) { o.Announce = true }
	tracking, pubsub := join(t, s, invalidate.Tracking, announcing), join(t, s, invalidate.PubSub)
	heard := newMark(t, pubsub)
	silent := join(t, s, invalidate.Tracking)
	both := func(want string) {
		t.Helper()
		tracking.want(t, "k", want)
		pubsub.want(t, "k", want)
	}
	for i := range 20 {
		v := strconv.Itoa(i)
		switch i % 4 {
		case 0:
			tracking.set(t, "k", v)
			if tracking.local("k") != v {
				t.Error("the writer does not hold what it wrote and announced")
			}
		case 1:
			pubsub.set(t, "k", v)
		case 2:
			if err := tracking.SetMany(ctx, map[string]string{"k": v, "l": v}); err != nil {
				t.Fatal(err)
			}
		case 3:
			if _, err := tracking.Update(ctx, "k", func(string, bool) (string, error) { return v, nil }); err != nil {
				t.Fatal(err)
			}
		}
		heard.await(t, admin)
		fence(t, tracking.store)
		both(v)
	}
	if err := tracking.Clear(ctx); err != nil {
		t.Fatal(err)
	}
	heard.await(t, admin)
	if v := pubsub.local("k"); v != "" {
		t.Errorf("cleared, and the listener holds %q", v)
	}
	silent.set(t, "k", "unheard") // the reason for the option
	pubsub.Get(ctx, "k")
	silent.set(t, "k", "unheard 2")
	heard.await(t, admin)
	if pubsub.local("k") != "unheard" {
		t.Error("a process that does not announce was heard")
	}
}

// H23: who shortens the life of a key between a write and its reading back is not
// pushed: the entry ends with the key all the same.
func TestH23_TrackingWriteTakesTheLifeThatTheKeyHas(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	var between atomic.Bool
	a := join(t, s, invalidate.Tracking, func(o *StoreOptions, c *Options[string, string]) {
		c.TTL = time.Hour
		o.Client.DialCtxFn = func(ctx context.Context, addr string, d *net.Dialer, _ *tls.Config) (net.Conn, error) {
			conn, err := d.DialContext(ctx, "tcp", addr)
			return &splitConn{Conn: conn, at: "*2\r\n$3\r\nGET", armed: &between, in: func() {
				redistest.Do(t, admin, "PEXPIRE", "n:k", "100")
			}}, err
		}
	})
	between.Store(true)
	a.set(t, "k", "v")
	if between.Load() {
		t.Fatal("nothing was read back: the test proves nothing")
	}
	if a.local("k") == "" {
		t.Fatal("the write is not kept: the test proves nothing")
	}
	if e := a.flights.Hit("k"); e != nil && e.Deadline-e.Born > int64(time.Second) {
		t.Errorf("the entry is to live for %v, the key for 100 ms", time.Duration(e.Deadline-e.Born))
	}
}

// A splitConn stops in the middle of what it writes, before at, and does something
// there once.
type splitConn struct {
	net.Conn
	at    string
	armed *atomic.Bool
	in    func()
}

func (c *splitConn) Write(b []byte) (int, error) {
	i := strings.Index(string(b), c.at)
	if i < 0 || !c.armed.CompareAndSwap(true, false) {
		return c.Conn.Write(b)
	}
	n, err := c.Conn.Write(b[:i])
	if err != nil {
		return n, err
	}
	time.Sleep(20 * time.Millisecond) // Redis has done the first half
	c.in()
	m, err := c.Conn.Write(b[i:])
	return n + m, err
}

// H18: a storm of pushes: all are handled, in order, and nobody is cut.
func TestH18_TrackingOutlivesAStormOfPushes(t *testing.T) {
	s := redistest.Real(t)
	admin := redistest.Client(t, s)
	const n = 20_000
	a := join(t, s, invalidate.Tracking, func(_ *StoreOptions, o *Options[string, string]) { o.LocalSize = n })
	keys := make([]string, n)
	all := make(map[string]string, n)
	for i := range keys {
		keys[i] = key(i)
		all[keys[i]] = "old"
	}
	if err := a.SetMany(ctx, all); err != nil {
		t.Fatal(err)
	}
	if held := a.Stats().Entries; held < n*9/10 {
		t.Fatalf("%d of %d are held", held, n)
	}
	for from := 0; from < n; from += 1000 {
		command := []string{"MSET"}
		for _, k := range keys[from : from+1000] {
			command = append(command, "n:"+k, "new")
		}
		redistest.Do(t, admin, command...)
	}
	fence(t, a.store)
	if st := a.Stats(); st.Entries != 0 || a.store.State().Cuts != 0 {
		t.Errorf("after the storm %d entries are held, %v", st.Entries, a.store.State())
	}
	m, err := a.GetMany(ctx, keys)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if m[k] != "new" {
			t.Fatalf("%s: %q", k, m[k])
		}
	}
}
