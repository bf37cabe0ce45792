package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/invalidate"
)

const (
	keyCount  = 10_000
	valueSize = 100
	cacheName = "fanout"
	fillBatch = 20 // divides keyCount

	// messages and rereads bound what one pass sends. A key is written, and read
	// again by all who held it, or neither.
	messages = 1_000_000
	rereads  = 20_000
)

// A way is how a write is sent, and whom it reaches.
type way string

const (
	set      way = "SET"                       // nobody listens
	pubSub   way = "MULTI, SET, PUBLISH, EXEC" // all listeners subscribe
	tracking way = "SET, tracked"              // by a writer that tracks nothing; listeners track what they read
	own      way = "EXISTS, SET, GET, PTTL"    // on a connection that tracks, as this library sends it; nobody else listens
)

// A setting is what is measured at once, on a server of its own.
type setting struct {
	way       way
	listeners int
	share     float64 // of the keys, that each listener has read; of tracking only
}

// A measure is what one pass over the keys cost.
type measure struct {
	write  time.Duration // the server's processor time a write, its messages with it
	reread time.Duration // the server's processor time for the reads that follow a write
	heard  float64       // messages a write
}

// A cell is a server with the connections of a setting.
type cell struct {
	setting
	server    *redisserver.Server
	control   *conn
	writers   []*conn
	listeners []*conn
	held      [][]bool // by listener and key: the server tracks it
	conns     []*conn
}

// open starts a server and has the listeners subscribe, or read their keys.
// The server ends with ctx, and with close.
func open(ctx context.Context, s setting, writers int) (c *cell, err error) {
	c = &cell{setting: s}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if c.server, err = redisserver.Start(); err != nil {
		return c, err
	}
	if c.control, err = c.dial(ctx); err != nil {
		return c, err
	}
	for k := 0; k < keyCount; k += fillBatch {
		var request []byte
		for i := range fillBatch {
			request = append(request, command("SET", key(k+i), value)...)
		}
		if err := c.control.ask(request, bytes.Repeat([]byte("+OK\r\n"), fillBatch)); err != nil {
			return c, err
		}
	}
	for range writers {
		w, err := c.dial(ctx)
		if err != nil {
			return c, err
		}
		if c.writers = append(c.writers, w); s.way == own {
			if err := track(w); err != nil {
				return c, err
			}
		}
	}
	for i := range s.listeners {
		if ctx.Err() != nil {
			return c, ctx.Err()
		}
		l, err := c.dial(ctx)
		if err != nil {
			return c, fmt.Errorf("listener %d: %w", i, err)
		}
		c.listeners = append(c.listeners, l)
		if err := c.attach(l, i); err != nil {
			return c, fmt.Errorf("listener %d: %w", i, err)
		}
	}
	return c, nil
}

// attach has l subscribe, or read its share of the keys.
func (c *cell) attach(l *conn, i int) error {
	if c.way == pubSub {
		if _, err := l.settle("HELLO", "3"); err != nil {
			return err
		}
		_, err := l.settle("SUBSCRIBE", invalidate.Channel(cacheName))
		return err
	}
	if err := track(l); err != nil {
		return err
	}
	held := make([]bool, keyCount)
	c.held = append(c.held, held)
	order := rand.New(rand.NewPCG(1, uint64(i))).Perm(keyCount)[:int(c.share*keyCount+0.5)]
	const batch = 10 * fillBatch
	var request []byte
	for n, k := range order {
		held[k] = true
		request = append(request, gets[k]...)
		if n%batch == batch-1 || n == len(order)-1 {
			if err := l.ask(request, bytes.Repeat(getReply, n%batch+1)); err != nil {
				return err
			}
			request = request[:0]
		}
	}
	return nil
}

func track(c *conn) error {
	if _, err := c.settle("HELLO", "3"); err != nil {
		return err
	}
	_, err := c.settle("CLIENT", "TRACKING", "ON")
	return err
}

func (c *cell) dial(ctx context.Context) (*conn, error) {
	n, err := dial(ctx, c.server.Addr)
	if err == nil {
		c.conns = append(c.conns, n)
	}
	return n, err
}

func (c *cell) close() {
	for _, n := range c.conns {
		n.Close()
	}
	if c.server != nil {
		c.server.Close()
	}
}

// pass writes each of the keys once, by so many writers at once, and then has
// those who held them read them again, by as many readers at once. It takes
// fewer keys where these would send too many messages.
func (c *cell) pass(keys []int, writers int) (m measure, err error) {
	keys, heard := c.upTo(messages, keys)
	spent, err := c.spent(func() error { return c.write(keys, writers, int64(heard*len(c.push(0)))) })
	if err != nil {
		return m, err
	}
	n := len(keys)
	m = measure{write: spent / time.Duration(n), heard: float64(heard) / float64(n)}
	if c.way == tracking && heard > 0 {
		keys, _ = c.upTo(rereads, keys)
		spent, err = c.spent(func() error { return c.reread(keys, writers) })
		m.reread = spent / time.Duration(len(keys))
	}
	return m, err
}

// upTo returns the first of the keys, at least one, of which no more than limit
// copies are held, and how many these are.
func (c *cell) upTo(limit int, keys []int) (some []int, copies int) {
	for i, k := range keys {
		h := c.holders(k)
		if i > 0 && copies+h > limit {
			return keys[:i], copies
		}
		copies += h
	}
	return keys, copies
}

// spent returns the server's processor time while do runs.
func (c *cell) spent(do func() error) (time.Duration, error) {
	before, err := c.control.cpu()
	if err != nil {
		return 0, err
	}
	if err := do(); err != nil {
		return 0, err
	}
	after, err := c.control.cpu()
	return after - before, err
}

// holders returns how many listeners a write of key k reaches.
func (c *cell) holders(k int) (n int) {
	switch c.way {
	case pubSub:
		return len(c.listeners)
	case tracking:
		for _, held := range c.held {
			if held[k] {
				n++
			}
		}
	}
	return n
}

// write returns when the writers have their replies, and the listeners have
// heard so many bytes: exactly those that the setting makes the server send.
func (c *cell) write(keys []int, writers int, want int64) error {
	var heard atomic.Int64
	var hearing sync.WaitGroup
	var failed atomic.Bool
	lost := make([]error, len(c.listeners))
	for i, l := range c.listeners {
		hearing.Go(func() {
			if err := l.hear(&heard); err != nil {
				lost[i] = fmt.Errorf("listener %d: %w", i, err)
				failed.Store(true)
			}
		})
	}
	err := atOnce(writers, func(w int) error {
		for i := w; i < len(keys); i += writers {
			if err := c.writers[w].ask(c.request(keys[i])); err != nil {
				return fmt.Errorf("write of %s: %w", key(keys[i]), err)
			}
		}
		return nil
	})
	for limit := time.Now().Add(patience); err == nil && !failed.Load() && heard.Load() < want && time.Now().Before(limit); {
		time.Sleep(time.Millisecond)
	}
	for _, l := range c.listeners {
		l.SetReadDeadline(time.Now())
	}
	hearing.Wait()
	for _, l := range c.listeners {
		l.SetReadDeadline(time.Time{})
	}
	if err := errors.Join(append(lost, err)...); err != nil {
		return err
	}
	if got := heard.Load(); got != want {
		return fmt.Errorf("%d listeners heard %d bytes, want %d", len(c.listeners), got, want)
	}
	return nil
}

// reread has all who held the keys read them again, one after the other on a
// connection.
func (c *cell) reread(keys []int, readers int) error {
	readers = min(readers, len(c.listeners))
	return atOnce(readers, func(r int) error {
		for _, k := range keys {
			for i := r; i < len(c.listeners); i += readers {
				if !c.held[i][k] {
					continue
				}
				if err := c.listeners[i].ask(gets[k], getReply); err != nil {
					return fmt.Errorf("listener %d, read of %s: %w", i, key(k), err)
				}
			}
		}
		return nil
	})
}

// atOnce runs n workers and returns their errors.
func atOnce(n int, work func(i int) error) error {
	var wg sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		wg.Go(func() { errs[i] = work(i) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// request returns what a writer sends for key k, and the reply.
func (c *cell) request(k int) (request, reply []byte) {
	switch c.way {
	case pubSub:
		request = append(request, command("MULTI")...)
		request = append(request, command("SET", key(k), value)...)
		request = append(request, command("PUBLISH", invalidate.Channel(cacheName), message(k))...)
		request = append(request, command("EXEC")...)
		return request, fmt.Appendf(nil, "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n:%d\r\n", len(c.listeners))
	case own:
		request = append(request, command("EXISTS", key(k))...)
		request = append(request, command("SET", key(k), value)...)
		request = append(request, gets[k]...)
		request = append(request, command("PTTL", key(k))...)
		return request, fmt.Appendf(nil, ":1\r\n+OK\r\n%s%s:-1\r\n", invalidated(k), getReply)
	}
	return command("SET", key(k), value), []byte("+OK\r\n")
}

// push returns what a listener hears of a write of key k.
func (c *cell) push(k int) []byte {
	if c.way == pubSub {
		channel, m := invalidate.Channel(cacheName), message(k)
		return fmt.Appendf(nil, ">3\r\n$7\r\nmessage\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", len(channel), channel, len(m), m)
	}
	return invalidated(k)
}

func invalidated(k int) []byte {
	return fmt.Appendf(nil, ">2\r\n$10\r\ninvalidate\r\n*1\r\n$%d\r\n%s\r\n", len(key(k)), key(k))
}

// message returns the announcement of key k, as this library sends it.
func message(k int) string {
	m, _ := invalidate.AppendKeys(nil, invalidate.Sender{1}, uint64(k+1), []string{strings.TrimPrefix(key(k), cacheName+":")})
	return string(m)
}

// key returns the k-th key at Redis. All are of one length.
func key(k int) string { return fmt.Sprintf("%s:user:%06d", cacheName, k) }

var (
	value    = strings.Repeat("v", valueSize)
	getReply = fmt.Appendf(nil, "$%d\r\n%s\r\n", valueSize, value)
	gets     = func() (all [keyCount][]byte) {
		for k := range all {
			all[k] = command("GET", key(k))
		}
		return all
	}()
)
