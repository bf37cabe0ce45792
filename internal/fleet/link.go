//go:build unix

package fleet

import (
	"net"
	"sync"
	"time"
)

// A link stands between one worker and Redis, and fails as networks do. What it
// holds back it does not lose: TCP would send it again.
type link struct {
	listener net.Listener
	upstream string
	wg       sync.WaitGroup

	mu      sync.Mutex // guards all below
	changed chan struct{}
	closed  bool
	cut     bool // connections are closed, and new ones at once
	flows   [2]flow
	conns   map[net.Conn]bool
}

// A flow is what happens to bytes that go one way.
type flow struct {
	stalled bool
	delay   time.Duration // of each piece
	rate    int           // bytes a second; 0: no limit
}

const (
	up   = 0 // to Redis
	down = 1
)

func newLink(upstream string) (*link, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l := &link{listener: listener, upstream: upstream, changed: make(chan struct{}), conns: make(map[net.Conn]bool)}
	l.wg.Go(l.accept)
	return l, nil
}

func (l *link) addr() string { return l.listener.Addr().String() }

// change has f change the link; those who wait look again.
func (l *link) change(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
	close(l.changed)
	l.changed = make(chan struct{})
	if l.cut || l.closed {
		for c := range l.conns {
			c.Close()
		}
		clear(l.conns)
	}
}

func (l *link) stop() {
	l.change(func() { l.closed = true })
	l.listener.Close()
	l.wg.Wait()
}

func (l *link) accept() {
	for {
		worker, err := l.listener.Accept()
		if err != nil {
			return
		}
		l.wg.Go(func() { l.connect(worker) })
	}
}

func (l *link) connect(worker net.Conn) {
	defer worker.Close()
	redis, err := net.DialTimeout("tcp", l.upstream, time.Second)
	if err != nil {
		return
	}
	defer redis.Close()
	l.mu.Lock()
	if l.cut || l.closed {
		l.mu.Unlock()
		return
	}
	l.conns[worker], l.conns[redis] = true, true
	l.mu.Unlock()
	var pumps sync.WaitGroup
	pumps.Go(func() { l.pump(up, redis, worker) })
	pumps.Go(func() { l.pump(down, worker, redis) })
	pumps.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, worker)
	delete(l.conns, redis)
}

// pump passes bytes on until one of the two is closed; then it closes the other.
func (l *link) pump(way int, to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if !l.hold(way, to, n) {
				return
			}
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// hold waits as long as n bytes take that way; false if the connection is closed
// meanwhile.
func (l *link) hold(way int, to net.Conn, n int) bool {
	arrived := time.Now()
	for {
		l.mu.Lock()
		f, changed, there := l.flows[way], l.changed, l.conns[to]
		l.mu.Unlock()
		wait := f.delay
		if f.rate > 0 {
			wait += time.Duration(n) * time.Second / time.Duration(f.rate)
		}
		wait -= time.Since(arrived)
		var over <-chan time.Time
		switch {
		case !there:
			return false
		case f.stalled:
		case wait <= 0:
			return true
		default:
			over = time.After(wait)
		}
		select {
		case <-changed:
		case <-over:
		}
	}
}
