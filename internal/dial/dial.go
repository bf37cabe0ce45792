// Package dial has connections end with a context.
package dial

import (
	"context"
	"crypto/tls"
	"iter"
	"net"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// A Func is how rueidis dials.
type Func = func(context.Context, string, *net.Dialer, *tls.Config) (net.Conn, error)

// Until dials as o says, and has whatever was dialled end with ctx, or with the
// dialling's own as long as the peer has said nothing: nobody then waits for a silent
// peer. known, unless it is nil, knows each connection from the dialling on.
func Until(ctx context.Context, o rueidis.ClientOption, known *Conns) Func {
	dial := asSaid(o)
	return func(caller context.Context, addr string, d *net.Dialer, t *tls.Config) (net.Conn, error) {
		own, over := context.WithCancel(ctx)
		forget, err := known.add(addr, over)
		if err != nil {
			over()
			return nil, err
		}
		dialling, cancel := context.WithCancel(caller)
		defer cancel()
		defer context.AfterFunc(own, cancel)()
		c, err := dial(dialling, addr, d, t)
		if err != nil {
			forget()
			over()
			return nil, err
		}
		end := func() { c.Close() }
		bound := context.AfterFunc(own, end)
		unbind := func() {
			bound()
			forget()
			over()
		}
		return &boundConn{Conn: c, unbind: unbind, caller: caller, greeted: context.AfterFunc(caller, end)}, nil
	}
}

// Reachable dials all of o's addresses at once and yields those that answer, in the
// order in which they do.
func Reachable(ctx context.Context, dial Func, o rueidis.ClientOption) iter.Seq[string] {
	return func(yield func(string) bool) {
		ctx, cancel := context.WithTimeout(ctx, o.Dialer.Timeout)
		defer cancel()
		dialled := make(chan string, len(o.InitAddress))
		var wg sync.WaitGroup
		for _, addr := range o.InitAddress {
			wg.Go(func() {
				d := o.Dialer
				if c, err := dial(ctx, addr, &d, o.TLSConfig); err == nil {
					c.Close()
					dialled <- addr
				}
			})
		}
		go func() {
			wg.Wait()
			close(dialled)
		}()
		for addr := range dialled {
			if !yield(addr) {
				return
			}
		}
	}
}

// sentinelsAsk is how often a client asks the sentinels who the master is, beside
// listening to them: they tell once.
const sentinelsAsk = time.Second

// sentinelsSilent is after how long without an answer to a PING a connection is
// closed, at least.
const sentinelsSilent = 2 * time.Second

// Sentinels bounds how long a client waits for a sentinel, and how long it clings
// to a master whose successor it was not told of.
func Sentinels(o *rueidis.ClientOption, timeout time.Duration) {
	if o.Sentinel.MasterSet == "" {
		return
	}
	if o.Sentinel.Dialer.KeepAlive == 0 { // rueidis would not look whether a sentinel is silent
		o.Sentinel.Dialer.KeepAlive = sentinelsAsk
	}
	if o.ConnWriteTimeout == 0 {
		o.ConnWriteTimeout = max(sentinelsSilent, timeout)
	}
	if o.Sentinel.Dialer.Timeout == 0 || o.Sentinel.Dialer.Timeout > timeout {
		o.Sentinel.Dialer.Timeout = timeout
	}
	if o.Sentinel.TopologyRefreshInterval == 0 {
		o.Sentinel.TopologyRefreshInterval = sentinelsAsk
	}
}

type boundConn struct {
	net.Conn
	unbind func()

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
