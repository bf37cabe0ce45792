package hybrid

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/internal/flights"
)

// reply is what a flight of this cache brings.
type reply[V any] = flights.Reply[V]

// Get returns the value of key: from the local tier, where it takes no lock,
// does not allocate and does not look at ctx; else from Redis, in one round
// trip that all who ask for the key at that time share.
//
// Errors: ErrNotFound, ErrDecode, ErrPermission, ErrClosed, ctx's error, or
// that of the connection.
func (c *Cache[K, V]) Get(ctx context.Context, key K) (V, error) {
	if e := c.flights.Hit(key); e != nil {
		c.hits.Inc()
		return e.Value, nil
	}
	return c.getMiss(ctx, key)
}

func (c *Cache[K, V]) getMiss(ctx context.Context, key K) (V, error) {
	r := c.fill(ctx, key)
	switch {
	case r.Err != nil:
		return r.Value, c.fail("get", key, redisError(r.Err))
	case r.Missing:
		return r.Value, ErrNotFound
	}
	return r.Value, nil
}

// fill reads key through its flight.
func (c *Cache[K, V]) fill(ctx context.Context, key K) reply[V] {
	c.counters.misses.Add(1)
	if err := c.store.ready(ctx); err != nil {
		return reply[V]{Err: err}
	}
	return c.flights.Fill(key, c.fetch).Wait(ctx)
}

// fetch asks Redis for the value of a flight's key and its remaining life.
func (c *Cache[K, V]) fetch(f *flights.Flight[K, V]) reply[V] {
	ctx, cancel := c.store.background()
	defer cancel()
	redisKey := c.prefix + keyText(f.Key())
	sent := c.store.clock.Exact()
	c.counters.fills.Add(1)
	rs := c.store.client.DoMulti(ctx, c.readCommands(redisKey)...)
	r := c.decode(rs[0], rs[1], sent)
	c.store.at(afterReadReply, redisKey)
	return r
}

// readCommands are GET and PTTL, in this order: a value that is replaced in
// between gets the life of its successor, and the successor is announced; the
// other way round it would be the successor that is held for too long.
func (c *Cache[K, V]) readCommands(redisKey string) []rueidis.Completed {
	b := c.store.client.B()
	return []rueidis.Completed{b.Get().Key(redisKey).Build(), b.Pttl().Key(redisKey).Build()}
}

// decode turns the replies to readCommands into a flight's reply. sent is when
// they were asked for: the local life counts from there.
func (c *Cache[K, V]) decode(value, pttl rueidis.RedisResult, sent int64) (r reply[V]) {
	data, err := value.AsBytes()
	if rueidis.IsRedisNil(err) {
		return reply[V]{Missing: true}
	}
	if err != nil {
		return reply[V]{Err: err}
	}
	if r.Value, err = c.decodeValue(data); err != nil {
		var zero V
		return reply[V]{Value: zero, Err: err}
	}
	ms, err := pttl.AsInt64()
	if err != nil {
		return reply[V]{Err: fmt.Errorf("PTTL: %w", err)}
	}
	switch {
	case c.tier == nil || ms == -2: // it has expired in between
	case ms == -1:
		r.Deadline, r.Keep = c.deadline(sent, forEver)
	default:
		r.Deadline, r.Keep = c.deadline(sent, time.Duration(ms)*time.Millisecond)
	}
	return r
}

// undecodable is the error of bytes in Redis that the codec refuses, with a
// copy of them: a load that finds them may replace just these.
type undecodable struct {
	err  error
	data []byte
}

func (e *undecodable) Error() string { return e.err.Error() }
func (e *undecodable) Unwrap() error { return e.err }

// decodeValue calls the codec. Whatever goes wrong in it is an error.
func (c *Cache[K, V]) decodeValue(data []byte) (v V, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: Decode: %w", ErrPanic, &flights.PanicError{Value: p, Stack: debug.Stack()})
		}
		if err != nil {
			if !errors.Is(err, ErrDecode) {
				err = fmt.Errorf("%w: %w", ErrDecode, err)
			}
			var zero V
			v, err = zero, &undecodable{err: err, data: append([]byte(nil), data...)}
		}
	}()
	return c.codec.Decode(data)
}

// maxBatch bounds the keys of one pipeline, so that no other command has to
// wait for long behind it.
const maxBatch = 256

// GetMany returns the values of those keys that exist. What is not in the local
// tier is asked for in pipelines of at most 256 keys.
//
// Errors: those of Get for single keys, joined, each with its key; the map
// holds what was found all the same. A missing key is no error.
func (c *Cache[K, V]) GetMany(ctx context.Context, keys []K) (map[K]V, error) {
	found := make(map[K]V, len(keys))
	waits := make(map[K]*flights.Flight[K, V])
	var send []*flights.Flight[K, V]
	var missed int
	for _, key := range keys {
		if _, done := found[key]; done {
			continue
		}
		if e := c.flights.Hit(key); e != nil {
			c.hits.Inc()
			found[key] = e.Value
			continue
		}
		if _, asked := waits[key]; asked {
			continue
		}
		if missed == 0 {
			if err := c.store.ready(ctx); err != nil {
				return found, &Error{Op: "getmany", Name: c.name, Err: err}
			}
		}
		missed++
		f, opened := c.flights.BeginFill(key, c.fetch)
		if opened {
			send = append(send, f)
		}
		waits[key] = f
	}
	c.counters.misses.Add(uint64(missed))
	for len(send) > 0 {
		n := min(len(send), maxBatch)
		go c.fetchAll(send[:n])
		send = send[n:]
	}
	var errs []error
	for key, f := range waits {
		switch r := f.Wait(ctx); {
		case r.Err != nil:
			errs = append(errs, c.fail("getmany", key, redisError(r.Err)))
		case !r.Missing:
			found[key] = r.Value
		}
	}
	return found, errors.Join(errs...)
}

// fetchAll is fetch for several flights in one pipeline. It ends each.
func (c *Cache[K, V]) fetchAll(fs []*flights.Flight[K, V]) {
	ctx, cancel := c.store.background()
	defer cancel()
	commands := make([]rueidis.Completed, 0, 2*len(fs))
	for _, f := range fs {
		commands = append(commands, c.readCommands(c.prefix+keyText(f.Key()))...)
	}
	sent := c.store.clock.Exact()
	c.counters.fills.Add(uint64(len(fs)))
	rs := c.store.client.DoMulti(ctx, commands...)
	for i, f := range fs {
		r := c.decode(rs[2*i], rs[2*i+1], sent)
		c.store.at(afterReadReply, c.prefix+keyText(f.Key()))
		c.flights.End(f, r)
	}
}

// TTL returns the remaining life of key in Redis, to the millisecond, or NoTTL
// if it has no end. One round trip.
//
// Errors: ErrNotFound, ErrPermission, ErrClosed, ctx's error, or that of the
// connection.
func (c *Cache[K, V]) TTL(ctx context.Context, key K) (time.Duration, error) {
	if err := c.store.ready(ctx); err != nil {
		return 0, c.fail("ttl", key, err)
	}
	ctx, cancel := c.store.bound(ctx)
	defer cancel()
	ms, err := c.store.client.Do(ctx, c.store.client.B().Pttl().Key(c.prefix+keyText(key)).Build()).AsInt64()
	switch {
	case err != nil:
		return 0, c.fail("ttl", key, redisError(err))
	case ms == -2:
		return 0, ErrNotFound
	case ms == -1:
		return NoTTL, nil
	}
	return time.Duration(ms) * time.Millisecond, nil
}
