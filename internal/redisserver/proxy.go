package redisserver

import (
	"net"
	"sync"
)

// A Proxy stands before a server and can be told to pass nothing on, as a network does
// that is parted: connections stay, new ones are silent, too. Stop it by Close.
type Proxy struct {
	// Addr is host:port, on loopback.
	Addr string

	upstream string
	listener net.Listener
	wg       sync.WaitGroup

	mu     sync.Mutex // guards all below
	parted chan struct{}
	closed bool
	conns  []net.Conn
}

// NewProxy starts a proxy before upstream.
func NewProxy(upstream string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{Addr: l.Addr().String(), upstream: upstream, listener: l}
	p.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.serve(c) })
		}
	})
	return p, nil
}

// Part has nothing pass until mend is called: then it goes on, and nothing is lost.
func (p *Proxy) Part() (mend func()) {
	held := make(chan struct{})
	p.mu.Lock()
	defer p.mu.Unlock()
	p.parted = held
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.parted == held {
			p.parted = nil
			close(held)
		}
	}
}

func (p *Proxy) serve(c net.Conn) {
	defer c.Close()
	up, err := net.Dial("tcp", p.upstream)
	if err != nil {
		return
	}
	defer up.Close()
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.conns = append(p.conns, c, up)
	p.mu.Unlock()
	var pumps sync.WaitGroup
	for _, way := range [][2]net.Conn{{c, up}, {up, c}} {
		pumps.Go(func() {
			defer c.Close()
			defer up.Close()
			b := make([]byte, 32<<10)
			for {
				n, err := way[0].Read(b)
				p.mu.Lock()
				held := p.parted
				p.mu.Unlock()
				if held != nil {
					<-held
				}
				if n > 0 {
					if _, err := way[1].Write(b[:n]); err != nil {
						return
					}
				}
				if err != nil {
					return
				}
			}
		})
	}
	pumps.Wait()
}

// Close closes all connections.
func (p *Proxy) Close() error {
	err := p.listener.Close()
	p.mu.Lock()
	p.closed = true
	if p.parted != nil {
		close(p.parted)
		p.parted = nil
	}
	for _, c := range p.conns {
		c.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
	return err
}
