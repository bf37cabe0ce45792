package hybrid

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"testing"

	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/invalidate"
)

// gatedDialer is a process whose new connections can be refused, and whose
// SUBSCRIBE can be held back on its way to Redis.
type gatedDialer struct {
	process
	mu       *sync.Mutex
	refusing *bool
	hold     *chan struct{} // not nil: SUBSCRIBE waits until it is closed
	held     chan struct{}
}

func newGatedDialer(t *testing.T, s *redisserver.Server, mode invalidate.Mode) gatedDialer {
	d := gatedDialer{mu: new(sync.Mutex), refusing: new(bool), hold: new(chan struct{}), held: make(chan struct{}, 100)}
	d.process = join(t, s, mode, func(so *StoreOptions, _ *Options[string, string]) {
		so.Client.PipelineMultiplex = -1 // the one data connection is there before any is refused
		so.Client.DialCtxFn = func(ctx context.Context, addr string, dialer *net.Dialer, _ *tls.Config) (net.Conn, error) {
			d.mu.Lock()
			refusing := *d.refusing
			d.mu.Unlock()
			if refusing {
				return nil, errors.New("refused by the test")
			}
			c, err := dialer.DialContext(ctx, "tcp", addr)
			return &gatedConn{c, d}, err
		}
	})
	return d
}

type gatedConn struct {
	net.Conn
	d gatedDialer
}

func (c *gatedConn) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("SUBSCRIBE")) {
		c.d.mu.Lock()
		hold := *c.d.hold
		c.d.mu.Unlock()
		if hold != nil {
			c.d.held <- struct{}{}
			<-hold
		}
	}
	return c.Conn.Write(b)
}

func (d gatedDialer) with(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

func (d gatedDialer) refuse()        { d.with(func() { *d.refusing = true }) }
func (d gatedDialer) admit()         { d.with(func() { *d.refusing = false }) }
func (d gatedDialer) holdSubscribe() { d.with(func() { *d.hold = make(chan struct{}) }) }

func (d gatedDialer) awaitHeldSubscribe(*testing.T) { <-d.held }

func (d gatedDialer) releaseSubscribe() {
	d.with(func() {
		close(*d.hold)
		*d.hold = nil
	})
}
