package invalidate

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"go.uber.org/goleak"

	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/internal/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var ctx = context.Background()

// listen opens a stream on s, which ends with the test.
func listen(t testing.TB, s *redisserver.Server, change ...func(*Config)) *Stream {
	t.Helper()
	st, err := tryListen(s, change...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.Close)
	return st
}

func tryListen(s *redisserver.Server, change ...func(*Config)) (*Stream, error) {
	c := Config{Client: s.ClientOption(), Timeout: 5 * time.Second}
	for _, f := range change {
		f(&c)
	}
	return Open(ctx, c)
}

func probing(every time.Duration) func(*Config) { return func(c *Config) { c.probeEvery = every } }

func by(l *link) func(*Config) { return func(c *Config) { c.Client.DialCtxFn = l.dial } }

// eventually waits for what others have to bring about.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func await(t testing.TB, st *Stream, want Status) {
	t.Helper()
	eventually(t, fmt.Sprintf("status %v", want), func() bool { return st.State().Status == want })
}

// awaitCuts waits until the stream has been cut n times in all and is live.
func awaitCuts(t testing.TB, st *Stream, n uint64) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d cuts, and live", n), func() bool {
		s := st.State()
		return s.Cuts >= n && s.Status == Live
	})
}

func publish(t testing.TB, admin rueidis.Client, name string, message []byte) {
	t.Helper()
	redistest.Do(t, admin, "PUBLISH", Channel(name), string(message))
}

// keys is the message of a foreign process that keys were changed.
func keys(nonce uint64, keys ...string) []byte {
	b, n := AppendKeys(nil, Sender{0xf0}, nonce, keys)
	if n != len(keys) {
		panic("too many keys for one message")
	}
	return b
}

// An event is one call of a recorder.
type event struct {
	What  string // drop, all, cut, resume
	Key   string
	Nonce uint64
	Own   bool
}

// A recorder is a tier that writes down what it is told.
type recorder struct {
	mu     sync.Mutex
	events []event
	live   bool
	broken []string // what the stream did out of turn
}

func (r *recorder) note(e event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if live := e.What != "resume"; r.live != live {
		r.broken = append(r.broken, fmt.Sprintf("%v while live is %v", e, r.live))
	}
	switch e.What {
	case "cut":
		r.live = false
	case "resume":
		r.live = true
	}
	r.events = append(r.events, e)
}

func (r *recorder) Drop(key string, nonce uint64, own bool) { r.note(event{"drop", key, nonce, own}) }
func (r *recorder) DropAll()                                { r.note(event{What: "all"}) }
func (r *recorder) Cut()                                    { r.note(event{What: "cut"}) }
func (r *recorder) Resume()                                 { r.note(event{What: "resume"}) }

func (r *recorder) all() []event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]event(nil), r.events...)
}

func (r *recorder) isLive() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.live
}

func (r *recorder) count(what, key string) (n int) {
	for _, e := range r.all() {
		if e.What == what && e.Key == key {
			n++
		}
	}
	return n
}

// inTurn fails the test if the stream broke the contract of Tier.
func (r *recorder) inTurn(t testing.TB) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range r.broken {
		t.Errorf("out of turn: %s", b)
	}
}

// joined joins a recorder under name, which must be live at once, and checks
// at the test's end that it was told everything in turn.
func joined(t testing.TB, st *Stream, name string) *recorder {
	t.Helper()
	r := new(recorder)
	if err := st.Join(ctx, name, r); err != nil {
		t.Fatal(err)
	}
	if !r.isLive() {
		t.Fatal("Join returned and the tier is not live")
	}
	t.Cleanup(func() { r.inTurn(t) })
	return r
}

// heard waits until everything published so far on name has reached r.
func heard(t testing.TB, admin rueidis.Client, name string, r *recorder) {
	t.Helper()
	mark := fmt.Sprintf("mark %d", marks.Add(1))
	publish(t, admin, name, keys(1, mark))
	eventually(t, "the mark on "+name, func() bool { return r.count("drop", mark) > 0 })
}

var marks atomic.Uint64

// A link is how a stream dials: it counts, and can refuse, and hold back what
// the server says.
type link struct {
	rcvBuf int       // of the sockets; 0: as the system has it
	via    *balancer // dials; nil: as asked

	mu     sync.Mutex // guards all below
	refuse error
	dials  int
	conns  map[*linkConn]bool
	unborn chan struct{} // not nil: connections to come are held until it is closed
}

func (l *link) dial(ctx context.Context, addr string, d *net.Dialer, _ *tls.Config) (net.Conn, error) {
	l.mu.Lock()
	l.dials++
	refuse := l.refuse
	l.mu.Unlock()
	if refuse != nil {
		return nil, refuse
	}
	via := l.via
	if via == nil {
		via = &balancer{addrs: []string{addr}}
	}
	c, err := via.dial(ctx, addr, d, nil)
	if err != nil {
		return nil, err
	}
	if l.rcvBuf > 0 {
		c.(*net.TCPConn).SetReadBuffer(l.rcvBuf)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	lc := &linkConn{Conn: c, l: l, nr: l.dials, held: l.unborn, over: make(chan struct{})}
	if l.conns == nil {
		l.conns = make(map[*linkConn]bool)
	}
	l.conns[lc] = true
	return lc, nil
}

// hold holds back what comes on the connections that are there; with also, on
// those to come until the release, too. Closing a connection frees its reader.
func (l *link) hold(also bool) (release func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	held := make(chan struct{})
	for c := range l.conns {
		c.held = held
	}
	if also {
		l.unborn = held
	}
	return sync.OnceFunc(func() {
		close(held)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.unborn = nil
	})
}

func (l *link) counts() (dials, open int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dials, len(l.conns)
}

func (l *link) refuseAll(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refuse = err
}

type linkConn struct {
	net.Conn
	l    *link
	nr   int
	once sync.Once
	over chan struct{}

	held     chan struct{} // guarded by l.mu, as is the next
	deadline time.Time
}

func (c *linkConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.l.mu.Lock()
	held, deadline := c.held, c.deadline
	c.l.mu.Unlock()
	if held != nil {
		var late <-chan time.Time
		if !deadline.IsZero() {
			late = time.After(time.Until(deadline))
		}
		select {
		case <-held:
		case <-late:
			return 0, os.ErrDeadlineExceeded
		case <-c.over:
			return 0, net.ErrClosed
		}
	}
	return n, err
}

func (c *linkConn) SetDeadline(t time.Time) error {
	c.l.mu.Lock()
	c.deadline = t
	c.l.mu.Unlock()
	return c.Conn.SetDeadline(t)
}

func (c *linkConn) SetReadDeadline(t time.Time) error {
	c.l.mu.Lock()
	c.deadline = t
	c.l.mu.Unlock()
	return c.Conn.SetReadDeadline(t)
}

func (c *linkConn) Close() error {
	c.once.Do(func() {
		close(c.over)
		c.l.mu.Lock()
		delete(c.l.conns, c)
		c.l.mu.Unlock()
	})
	return c.Conn.Close()
}

// secondIsHeld dials well once; nothing is read from what it dials later.
type secondIsHeld struct{ link }

func (l *secondIsHeld) dial(ctx context.Context, addr string, d *net.Dialer, t *tls.Config) (net.Conn, error) {
	c, err := l.link.dial(ctx, addr, d, t)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.unborn == nil {
		l.unborn = make(chan struct{})
	}
	return c, err
}

// balancer dials its addresses in turn, whatever it is asked for.
type balancer struct {
	mu    sync.Mutex // guards all below
	addrs []string
	next  int
}

func (b *balancer) dial(ctx context.Context, _ string, d *net.Dialer, _ *tls.Config) (net.Conn, error) {
	b.mu.Lock()
	addr := b.addrs[b.next%len(b.addrs)]
	b.next++
	b.mu.Unlock()
	return d.DialContext(ctx, "tcp", addr)
}

func (b *balancer) now(addrs ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.addrs = addrs
}

// closeAll has the connections that are there break.
func (l *link) closeAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		c.Conn.Close()
	}
}

// closeNewest has the connection break that was dialled last.
func (l *link) closeNewest() {
	l.mu.Lock()
	defer l.mu.Unlock()
	var newest *linkConn
	for c := range l.conns {
		if newest == nil || c.nr > newest.nr {
			newest = c
		}
	}
	newest.Conn.Close()
}

func numSub(t testing.TB, admin rueidis.Client, name string) int64 {
	t.Helper()
	m := redistest.Do(t, admin, "PUBSUB", "NUMSUB", Channel(name))
	a, err := m.AsIntMap()
	if err != nil {
		t.Fatal(err)
	}
	return a[Channel(name)]
}

// A gated client stops the stream at one of two places of its next connection.
type gated struct {
	rueidis.Client
	hooks, closing gate
}

// A gate that is zero stops nobody.
type gate struct {
	there chan struct{} // gets one for each that comes
	goOn  chan struct{} // all wait until this is closed
}

func newGate() gate { return gate{make(chan struct{}, 100), make(chan struct{})} }

func (g gate) pass() {
	if g.there != nil {
		g.there <- struct{}{}
		<-g.goOn
	}
}

// gateNext gates the connections that st makes from now on: before the hooks
// are set, and before it is closed. st must be live and send no probes: it takes
// up the new client when it has ended its session.
func gateNext(st *Stream, hooks, closing gate) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.client = &gated{st.client, hooks, closing}
}

func (g *gated) Dedicate() (rueidis.DedicatedClient, func()) {
	c, cancel := g.Client.Dedicate()
	return &gatedConn{c, g}, cancel
}

type gatedConn struct {
	rueidis.DedicatedClient
	g *gated
}

func (c *gatedConn) SetPubSubHooks(h rueidis.PubSubHooks) <-chan error {
	c.g.hooks.pass()
	return c.DedicatedClient.SetPubSubHooks(h)
}

func (c *gatedConn) Close() {
	c.g.closing.pass()
	c.DedicatedClient.Close()
}
