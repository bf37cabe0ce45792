// Package dial has connections end with a context.
package dial

import (
	"context"
	"crypto/tls"
	"net"

	"github.com/redis/rueidis"
)

// Until dials as o says, and has whatever was dialled end with ctx, or with the
// dialling's own as long as the peer has said nothing: nobody then waits for a silent
// peer.
func Until(ctx context.Context, o rueidis.ClientOption) func(context.Context, string, *net.Dialer, *tls.Config) (net.Conn, error) {
	return func(caller context.Context, addr string, d *net.Dialer, t *tls.Config) (net.Conn, error) {
		dialling, cancel := context.WithCancel(caller)
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		var c net.Conn
		var err error
		switch {
		case o.DialCtxFn != nil:
			c, err = o.DialCtxFn(dialling, addr, d, t)
		case o.DialFn != nil:
			c, err = o.DialFn(addr, d, t)
		case t != nil:
			c, err = (&tls.Dialer{NetDialer: d, Config: t}).DialContext(dialling, "tcp", addr)
		default:
			c, err = d.DialContext(dialling, "tcp", addr)
		}
		if err != nil {
			return nil, err
		}
		end := func() { c.Close() }
		return &boundConn{Conn: c, unbind: context.AfterFunc(ctx, end), caller: caller, greeted: context.AfterFunc(caller, end)}, nil
	}
}

type boundConn struct {
	net.Conn
	unbind func() bool

	// Of the reader alone. rueidis greets under the context of whoever has it dial,
	// of which it looks at the deadline only.
	caller  context.Context
	greeted func() bool // nil: it was
}

func (c *boundConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	switch {
	case c.greeted == nil:
	case n > 0:
		c.greeted()
		c.caller, c.greeted = nil, nil
	case err != nil && c.caller.Err() != nil:
		err = c.caller.Err()
	}
	return n, err
}

func (c *boundConn) Close() error {
	c.unbind()
	return c.Conn.Close()
}
