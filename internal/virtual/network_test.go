//go:build unix

package virtual

import (
	"context"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// A network carries what processes and Redis say to each other. On each way of a
// connection bytes keep their order; nothing else is in any.
type network struct {
	accept func() (net.Conn, error) // connects to Redis
	usual  time.Duration            // how long what is said is under way, at most, if nothing is slow
	wg     sync.WaitGroup           // of what carries

	mu      sync.Mutex // guards all below
	r       *rand.Rand
	conns   map[*conn]struct{}
	down    bool                  // who dials is refused
	stopped time.Time             // until then nothing arrives, anywhere
	lag     map[int]time.Duration // of a process' connections, at most
	held    map[int][2]time.Time  // until when what a process says, and hears, does not arrive
}

// The ways of a connection.
const (
	says = iota // from the process to Redis
	hears
)

func newNetwork(seed uint64, usual time.Duration, accept func() (net.Conn, error)) *network {
	return &network{
		accept: accept, usual: usual, r: rand.New(rand.NewPCG(seed, 1)), conns: make(map[*conn]struct{}),
		lag: make(map[int]time.Duration), held: make(map[int][2]time.Time),
	}
}

// A conn is a connection of a process.
type conn struct {
	n       *network
	process int
	ends    [2]net.Conn // ours: what is written to the first one arrives at the process
	lost    bool        // nothing arrives any more, not even the end; guarded by network.mu
	ways    int         // that carry; guarded by network.mu
	mended  chan struct{}
	mend    func() // closes mended
}

var errRefused = errors.New("connection refused")

// dialer returns how a process dials.
func (n *network) dialer(process int) func(context.Context, string, *net.Dialer, *tls.Config) (net.Conn, error) {
	return func(ctx context.Context, _ string, d *net.Dialer, _ *tls.Config) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, d.Timeout)
		defer cancel()
		for wait := time.Until(n.arrival(process)); wait > 0; wait = time.Until(n.blocked(process, says)) {
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(wait):
			}
		}
		if n.refuses() {
			return nil, errRefused
		}
		redis, err := n.accept() // not under mu: Redis may be speaking, which waits for what carries it
		if err != nil {
			return nil, err
		}
		theirs, ours := net.Pipe()
		c := &conn{n: n, process: process, ends: [2]net.Conn{ours, redis}, ways: 2, mended: make(chan struct{})}
		c.mend = sync.OnceFunc(func() { close(c.mended) })
		n.mu.Lock()
		n.conns[c] = struct{}{}
		n.mu.Unlock()
		c.carry(says, ours, redis)
		c.carry(hears, redis, ours)
		return theirs, nil
	}
}

func (n *network) refuses() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.down
}

// arrival draws when arrives what is said now.
func (n *network) arrival(process int) time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	const least = 20 * time.Microsecond
	if n.r.IntN(3) > 0 {
		return time.Now().Add(least)
	}
	return time.Now().Add(least + time.Duration(n.r.Int64N(int64(max(n.lag[process], n.usual)))))
}

// blocked returns until when nothing arrives on a way.
func (n *network) blocked(process, way int) time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	if held := n.held[process][way]; held.After(n.stopped) {
		return held
	}
	return n.stopped
}

func (c *conn) isLost() bool {
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	return c.lost
}

// said is what was said at once; nil: the end.
type said struct {
	b       []byte
	arrives time.Time
}

// carry carries what is said by from, who never waits for it, to to.
func (c *conn) carry(way int, from, to net.Conn) {
	var mu sync.Mutex // guards queue
	var queue []said
	more := make(chan struct{}, 1)
	put := func(b []byte) {
		arrives := c.n.arrival(c.process)
		mu.Lock()
		if n := len(queue); n > 0 && queue[n-1].arrives.After(arrives) {
			arrives = queue[n-1].arrives
		}
		queue = append(queue, said{b, arrives})
		mu.Unlock()
		select {
		case more <- struct{}{}:
		default:
		}
	}
	take := func() (next said) {
		for {
			mu.Lock()
			if len(queue) > 0 {
				next, queue = queue[0], queue[1:]
				mu.Unlock()
				return next
			}
			mu.Unlock()
			<-more
		}
	}
	c.n.wg.Go(func() {
		for {
			b := make([]byte, 4096)
			n, err := from.Read(b)
			if err != nil {
				put(nil)
				return
			}
			put(b[:n])
		}
	})
	c.n.wg.Go(func() {
		defer c.n.ended(c)
		defer to.Close()
		for {
			next := take()
			time.Sleep(time.Until(next.arrives))
			for wait := time.Until(c.n.blocked(c.process, way)); wait > 0 && !c.isLost(); wait = time.Until(c.n.blocked(c.process, way)) {
				time.Sleep(wait)
			}
			switch lost := c.isLost(); {
			case next.b == nil && lost:
				<-c.mended
				return
			case next.b == nil:
				return
			case !lost:
				to.Write(next.b) // where it is closed, the other way brings the end
			}
		}
	})
}

// ended notes that a way of c carries no more.
func (n *network) ended(c *conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c.ways--; c.ways == 0 {
		delete(n.conns, c)
	}
}

// of returns the connections of a process, or, with everybody, of all.
func (n *network) of(process int) (all []*conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.conns {
		if process == everybody || c.process == process {
			all = append(all, c)
		}
	}
	return all
}

const everybody = -1

// cut ends connections for one side at once; what that has said arrives, and then the
// other side hears of it.
func cut(conns []*conn, side int) {
	for _, c := range conns {
		c.ends[side].Close()
	}
}

// The sides of a connection.
const (
	ofProcess = iota
	ofRedis
)

// lose has connections carry nothing any more, without a word.
func (n *network) lose(conns []*conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range conns {
		c.lost = true
	}
}

// hold has nothing arrive on a way of a process' connections for d.
func (n *network) hold(process, way int, d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.held[process]
	h[way] = time.Now().Add(d)
	n.held[process] = h
}

// slow has what a process says and hears be under way for d, at most.
func (n *network) slow(process int, d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lag[process] = d
}

// stop has nothing arrive for d.
func (n *network) stop(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stopped = time.Now().Add(d)
}

// refuse says whether who dials is refused.
func (n *network) refuse(all bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down = all
}

// mend ends all faults. Connections that were lost end.
func (n *network) mend() {
	n.mu.Lock()
	n.down, n.stopped = false, time.Time{}
	clear(n.held)
	clear(n.lag)
	var lost []*conn
	for c := range n.conns {
		if c.lost {
			lost = append(lost, c)
			c.mend()
		}
	}
	n.mu.Unlock()
	cut(lost, ofProcess)
	cut(lost, ofRedis)
}

// close ends all connections, and waits until nothing is under way.
func (n *network) close() {
	n.mend()
	cut(n.of(everybody), ofProcess)
	n.wg.Wait()
}
