package dial

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// leftFor is for how long who was left is not dialled: rueidis dials again who was
// lost, twice, before it turns to another.
const leftFor = 500 * time.Millisecond

// Conns are the connections of a client, and those that it is dialling. The zero value
// is ready. Safe for concurrent use.
type Conns struct {
	mu   sync.Mutex // guards all below
	open map[*conn]struct{}
	left map[string]time.Time // until when who is at an address is not dialled
}

// A conn is a connection from its dialling on.
type conn struct {
	addr string
	end  context.CancelFunc
}

// add takes up a connection to addr, which end ends, until forget is called. It fails
// where addr was left just now. With s nil it does nothing.
func (s *Conns) add(addr string, end context.CancelFunc) (forget func(), err error) {
	if s == nil {
		return func() {}, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Now().Before(s.left[addr]) {
		return nil, fmt.Errorf("dial %s: it was silent", addr)
	}
	delete(s.left, addr)
	if s.open == nil {
		s.open = make(map[*conn]struct{})
	}
	c := &conn{addr, end}
	s.open[c] = struct{}{}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.open, c)
	}, nil
}

// Leave ends the connections to addr, those that are being dialled, too, and waits for
// nothing. For half a second nobody dials there.
func (s *Conns) Leave(addr string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.open {
		if c.addr == addr {
			c.end()
		}
	}
	if s.left == nil {
		s.left = make(map[string]time.Time)
	}
	s.left[addr] = time.Now().Add(leftFor)
}
