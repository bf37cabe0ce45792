package invalidate

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"os"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

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
	word   string        // once somebody sends it at is called, before it is sent
	at     func(*linkConn)
}

// onceAt has f called when word is sent, before it is: once.
func (l *link) onceAt(word string, f func(*linkConn)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.word, l.at = word, f
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

func (c *linkConn) Write(b []byte) (int, error) {
	c.l.mu.Lock()
	at := c.l.at
	if at == nil || !bytes.Contains(b, []byte(c.l.word)) {
		at = func(*linkConn) {}
	} else {
		c.l.at = nil
	}
	c.l.mu.Unlock()
	at(c)
	return c.Conn.Write(b)
}

// hold holds back what comes on c.
func (c *linkConn) hold() (release func()) {
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	held := make(chan struct{})
	c.held = held
	return func() { close(held) }
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
	l.newest().Conn.Close()
}

// newest returns the connection that was dialled last.
//
// REQUIRES: l.mu held.
func (l *link) newest() (newest *linkConn) {
	for c := range l.conns {
		if newest == nil || c.nr > newest.nr {
			newest = c
		}
	}
	return newest
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
	p := st.ear.(*pubsub)
	p.client = &gated{p.client, hooks, closing}
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
