package dial

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"

	"github.com/redis/rueidis"
)

// Greeting counts the connections that are being made: from their dialling until the
// server says its first word. Meanwhile rueidis has whoever needs such a connection
// wait for who dials it, and does not look at their contexts. The zero value is ready.
// Safe for concurrent use.
type Greeting struct{ pending atomic.Int64 }

// UnderWay says whether a connection is being made.
func (g *Greeting) UnderWay() bool { return g.pending.Load() > 0 }

// Dial dials as o says, and counts.
func (g *Greeting) Dial(o rueidis.ClientOption) Func {
	dial := asSaid(o)
	return func(ctx context.Context, addr string, d *net.Dialer, t *tls.Config) (net.Conn, error) {
		g.pending.Add(1)
		over := sync.OnceFunc(func() { g.pending.Add(-1) })
		c, err := dial(ctx, addr, d, t)
		if err != nil {
			over()
			return nil, err
		}
		return &greeted{c, over}, nil
	}
}

// greeted calls over when the first word comes, or none will.
type greeted struct {
	net.Conn
	over func()
}

func (c *greeted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.over()
	return n, err
}

func (c *greeted) Close() error {
	c.over()
	return c.Conn.Close()
}

// asSaid dials as o says.
func asSaid(o rueidis.ClientOption) Func {
	return func(ctx context.Context, addr string, d *net.Dialer, t *tls.Config) (net.Conn, error) {
		switch {
		case o.DialCtxFn != nil:
			return o.DialCtxFn(ctx, addr, d, t)
		case o.DialFn != nil:
			return o.DialFn(addr, d, t)
		case t != nil:
			return (&tls.Dialer{NetDialer: d, Config: t}).DialContext(ctx, "tcp", addr)
		}
		return d.DialContext(ctx, "tcp", addr)
	}
}
