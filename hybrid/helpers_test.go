package hybrid

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/internal/clock"
	"github.com/flipcache/flipcache/internal/redistest"
	"github.com/flipcache/flipcache/invalidate"
)

// long says whether tests run with issue-sized numbers: FLIPCACHE_LONG=1.
var long = os.Getenv("FLIPCACHE_LONG") == "1"

// A peer stands for one process of a fleet, like process, with keys and values
// of any type.
type peer[K Key, V any] struct {
	*Cache[K, V]
	store *Store
}

// unhurried is the Timeout of tests that say none: on a machine where the servers of many
// tests share two cores, the default is too near.
const unhurried = 5 * defaultTimeout

func openStore(t testing.TB, s redistest.Server, mode invalidate.Mode, change ...func(*StoreOptions)) *Store {
	t.Helper()
	o := StoreOptions{Client: s.ClientOption(), Invalidation: mode, Timeout: unhurried}
	for _, f := range change {
		f(&o)
	}
	return opened(t, o)
}

// opened opens a Store, once more where Redis is late: its Timeout is about what comes
// afterwards, and many servers of other tests may start just now.
func opened(t testing.TB, o StoreOptions) *Store {
	t.Helper()
	st, err := Open(ctx, o)
	for tries := 1; errors.Is(err, context.DeadlineExceeded) && tries < 5; tries++ {
		st, err = Open(ctx, o)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return st
}

func newOn[K Key, V any](t testing.TB, st *Store, name string, o Options[K, V]) *Cache[K, V] {
	t.Helper()
	c, err := New(st, name, o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// joinAs opens a Store on s, and the cache "n" on it.
func joinAs[K Key, V any](t testing.TB, s redistest.Server, mode invalidate.Mode, o Options[K, V], change ...func(*StoreOptions)) peer[K, V] {
	t.Helper()
	st := openStore(t, s, mode, change...)
	return peer[K, V]{newOn(t, st, "n", o), st}
}

func (p peer[K, V]) wantFunc(t testing.TB, key K, same func(V) bool) {
	t.Helper()
	if got, err := p.Get(ctx, key); err != nil || !same(got) {
		t.Errorf("Get(%v): got %v, %v", key, got, err)
	}
}

func wantValue[K Key, V comparable](t testing.TB, p peer[K, V], key K, want V) {
	t.Helper()
	if got, err := p.Get(ctx, key); err != nil || got != want {
		t.Errorf("Get(%v): got %v, %v; want %v", key, got, err, want)
	}
}

func (p peer[K, V]) wantMissing(t testing.TB, key K) {
	t.Helper()
	if got, err := p.Get(ctx, key); !errors.Is(err, ErrNotFound) {
		t.Errorf("Get(%v): got %v, %v; want ErrNotFound", key, got, err)
	}
}

func (p peer[K, V]) must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// held says whether the local tier would answer for key.
func (c *Cache[K, V]) held(key K) bool { return c.flights.Hit(key) != nil }

// hitsOf returns how many reads of ps were answered locally.
func hitsOf[P interface{ Stats() Stats }](ps []P) (n uint64) {
	for _, p := range ps {
		n += p.Stats().Hits
	}
	return n
}

// fills returns how often c has read a value from Redis.
func (c *Cache[K, V]) fillCount() uint64 { return c.counters.fills.Load() }

func newGateOn(st *Store, place, key string) *gate { return newGate(process{store: st}, place, key) }

// An ear waits until a store has heard all that was published before.
type ear struct {
	m     *mark
	admin rueidis.Client
}

func newEar(t testing.TB, st *Store, admin rueidis.Client) ear {
	t.Helper()
	return ear{newMark(t, process{store: st}), admin}
}

func (e ear) drain(t testing.TB) {
	t.Helper()
	e.m.await(t, e.admin)
}

// manualClock gives st, before any cache is opened on it, a clock that moves
// only when it is told to.
func manualClock(st *Store) (advance func(time.Duration)) {
	var now atomic.Int64
	now.Store(clock.Now())
	st.clock.Close()
	st.clock = clock.NewManual(now.Load)
	return func(d time.Duration) { now.Add(int64(d)) }
}

// pttl returns the remaining life of n:key in milliseconds, as Redis says it.
func pttl(t testing.TB, admin rueidis.Client, key string) int64 {
	t.Helper()
	m := redistest.Do(t, admin, "PTTL", "n:"+key)
	ms, err := m.AsInt64()
	if err != nil {
		t.Fatal(err)
	}
	return ms
}

// held back: a dialer whose connections can be told to swallow the next request
// that fits, to look broken from then on to who dialled, and to bring the
// request to Redis later.
type delayer struct {
	mu    sync.Mutex
	fits  func(b []byte) bool // nil: nothing is swallowed
	later func() error        // sends what was swallowed
}

func (d *delayer) dial(ctx context.Context, addr string, dialer *net.Dialer, _ *tls.Config) (net.Conn, error) {
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &delayedConn{Conn: conn, d: d}, nil
}

type delayedConn struct {
	net.Conn
	d     *delayer
	taken atomic.Bool // by the test, which closes it
}

func (c *delayedConn) Write(b []byte) (int, error) {
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	if c.d.fits == nil || !c.d.fits(b) {
		return c.Conn.Write(b)
	}
	c.d.fits = nil
	request := append([]byte(nil), b...)
	c.taken.Store(true)
	c.d.later = func() error {
		defer c.Conn.Close()
		if _, err := c.Conn.Write(append(request, "*1\r\n$4\r\nPING\r\n"...)); err != nil {
			return err
		}
		c.Conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		for replies, b := []byte(nil), make([]byte, 4096); !bytes.Contains(replies, []byte("PONG")); { // Redis has done it all
			n, err := c.Conn.Read(b)
			if err != nil {
				return err
			}
			replies = append(replies, b[:n]...)
		}
		return nil
	}
	c.Conn.SetReadDeadline(time.Unix(1, 0)) // who reads it finds it broken
	return 0, errCut
}

func (c *delayedConn) Close() error {
	if c.taken.Load() {
		return nil
	}
	return c.Conn.Close()
}

// A recorder is a dialer that remembers what is sent, on all its connections
// in one. It is for a caller that waits for each reply.
type recorder struct {
	mu   sync.Mutex
	sent bytes.Buffer
}

type recordedConn struct {
	net.Conn
	r *recorder
}

func (r *recorder) dial(ctx context.Context, addr string, dialer *net.Dialer, _ *tls.Config) (net.Conn, error) {
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return recordedConn{conn, r}, nil
}

func (c recordedConn) Write(b []byte) (int, error) {
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	c.r.sent.Write(b)
	return c.Conn.Write(b)
}

// take returns the commands that were sent since it was last called.
func (r *recorder) take() (commands [][]string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for in := bufio.NewReader(&r.sent); ; {
		command, err := readCommand(in)
		if err != nil {
			r.sent.Reset()
			return commands
		}
		commands = append(commands, command)
	}
}

func repeat(n int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}

// key returns the i-th of many keys.
func key(i int) string { return "k" + strconv.Itoa(i) }
