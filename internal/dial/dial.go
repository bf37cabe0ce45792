// Package dial has connections end with a context.
package dial

import (
	"context"
	"crypto/tls"
	"net"

	"github.com/redis/rueidis"
)

// Until dials as o says, and has whatever was dialled end with ctx: nobody
// then waits for a silent peer.
func Until(ctx context.Context, o rueidis.ClientOption) func(context.Context, string, *net.Dialer, *tls.Config) (net.Conn, error) {
	return func(dialling context.Context, addr string, d *net.Dialer, t *tls.Config) (net.Conn, error) {
		dialling, cancel := context.WithCancel(dialling)
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
		return &boundConn{Conn: c, unbind: context.AfterFunc(ctx, func() { c.Close() })}, nil
	}
}

type boundConn struct {
	net.Conn
	unbind func() bool
}

func (c *boundConn) Close() error {
	c.unbind()
	return c.Conn.Close()
}
