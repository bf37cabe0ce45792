package hybrid

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/internal/redistest"
	"github.com/flipcache/flipcache/invalidate"
)

// A mark is a tier on a channel of its own of a process' stream: once it has
// heard a number, the process has heard all that was published before.
type mark struct {
	heard atomic.Uint64
	store *Store
}

func (m *mark) Drop(_ string, nonce uint64, _ bool) { m.heard.Store(nonce) }
func (m *mark) DropAll()                            {}
func (m *mark) Push(string)                         {}
func (m *mark) Cut()                                {}
func (m *mark) Resume()                             {}

var lastMark atomic.Uint64

// newMark has p hear marks; it may be asked for more than once.
func newMark(t testing.TB, p process) *mark {
	t.Helper()
	m := &mark{store: p.store}
	if p.store.mode == invalidate.PubSub {
		if err := p.store.stream.Join(ctx, "mark", m); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// await waits until all that was published so far was heard, also where the
// stream is set up anew meanwhile.
func (m *mark) await(t testing.TB, admin rueidis.Client) {
	t.Helper()
	if m.store.mode == invalidate.Tracking {
		fence(t, m.store)
		return
	}
	for _, node := range admin.Nodes() { // in a cluster the messages of each node are in order
		first := lastMark.Load() + 1
		eventually(t, "the stream is drained", func() bool {
			msg, _ := invalidate.AppendKeys(nil, invalidate.Sender{}, lastMark.Add(1), []string{"mark"})
			redistest.Do(t, node, "PUBLISH", invalidate.Channel("mark"), string(msg))
			return m.heard.Load() >= first
		})
	}
}

// fence waits until a Tracking store has heard all that Redis pushed so far:
// what is asked behind it on the same connection is answered.
func fence(t testing.TB, st *Store) {
	t.Helper()
	if st.inCluster { // all masters
		eventually(t, "an answer", func() bool { return st.stream.Ask() == nil })
		return
	}
	eventually(t, "an answer", func() bool {
		c, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		return st.data.Do(c, st.data.B().Ping().Build()).Error() == nil
	})
}

// stored returns what Redis holds under n:key, "" for nothing.
func stored(t testing.TB, admin rueidis.Client, key string) string {
	t.Helper()
	m := redistest.Do(t, admin, "GET", "n:"+key)
	v, _ := m.ToString()
	return v
}

// within fails the test if f has not ended after limit.
func within(t testing.TB, limit time.Duration, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(limit):
		t.Fatalf("%s: not over after %v", what, limit)
	}
}

// A cutter is a dialer that cuts a connection after so many bytes of requests.
type cutter struct {
	mu    sync.Mutex
	armed func(b []byte) bool // says whether b begins the request that counts; nil: none
	left  int                 // bytes to forward; negative: all
	conn  *cutConn            // the connection of that request
	sent  int                 // bytes of requests on conn since then
}

type cutConn struct {
	net.Conn
	c *cutter
}

var errCut = errors.New("cut by the test")

func (c *cutter) dial(ctx context.Context, addr string, dialer *net.Dialer, _ *tls.Config) (net.Conn, error) {
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &cutConn{conn, c}, nil
}

// arm has the connection on which the next request goes that begins fits cut
// after n bytes of it and what follows it there.
func (c *cutter) arm(n int, begins func(b []byte) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.armed, c.left, c.conn, c.sent = begins, n, nil, 0
}

// disarm returns the address of the connection that was armed, and how many
// bytes of requests went there.
func (c *cutter) disarm() (addr string, sent int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.armed = nil
	if c.conn == nil {
		return "", 0
	}
	return c.conn.LocalAddr().String(), c.sent
}

func (conn *cutConn) Write(b []byte) (int, error) {
	c := conn.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.armed == nil {
		return conn.Conn.Write(b)
	}
	if c.conn == nil && c.armed(b) {
		c.conn = conn
	}
	if c.conn != conn {
		return conn.Conn.Write(b)
	}
	if c.left < 0 || len(b) < c.left {
		n, err := conn.Conn.Write(b)
		c.sent += n
		if c.left > 0 {
			c.left -= n
		}
		return n, err
	}
	n, _ := conn.Conn.Write(b[:c.left])
	c.sent += n
	c.left = 0
	conn.Conn.(*net.TCPConn).CloseWrite() // Redis gets all that went before
	return n, errCut
}
