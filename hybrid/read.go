package hybrid

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"slices"
	"time"
	"unsafe"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/internal/flights"
	"github.com/flipcache/flipcache/internal/tier"
)

// reply is what a flight of this cache brings.
type reply[V any] = flights.Reply[V]

// Get returns the value of key: from the local tier, where it takes no lock,
// does not allocate and does not look at ctx; else from Redis, in one round
// trip that all who ask for the key at that time share. Where there is none,
// Options.Default is asked.
//
// Errors: ErrNotFound, ErrDecode, ErrPermission, ErrClosed, ctx's error, that
// of the connection, or what GetOrLoad returns for Default.
func (c *Cache[K, V]) Get(ctx context.Context, key K) (V, error) {
	if c.plain != nil { // this is flights.Hit, without its call
		until := c.flights.Until()
		if e := c.plain.Load(key); e != nil && !e.Missing && c.store.clock.Ahead(e.Deadline, until) {
			c.hits.Inc()
			return e.Value, nil
		}
	}
	return c.get(ctx, key)
}

func (c *Cache[K, V]) get(ctx context.Context, key K) (V, error) {
	if e := c.entry(key, c.initial != nil); e != nil {
		return c.answer(e)
	}
	v, _, err := c.getMiss(ctx, key)
	return v, err
}

// An Origin says where a value came from.
type Origin uint8

const (
	// Redis: it was asked, or the value was loaded.
	Redis Origin = iota
	// Local: the local tier had it.
	Local
	// Aside: Redis did not answer, and ServeStaleFor allowed what the local tier
	// held when invalidation was cut.
	Aside
)

// String returns the origin in lower case.
func (o Origin) String() string {
	switch o {
	case Redis:
		return "redis"
	case Local:
		return "local"
	case Aside:
		return "aside"
	}
	return fmt.Sprintf("origin(%d)", uint8(o))
}

// Meta says what GetMeta's value is worth.
type Meta struct {
	Origin Origin
	// Age is how long ago Redis was asked for the value, or told it; 0 for one
	// that was just loaded.
	Age time.Duration
	// Stale: nothing bounds how long ago it was replaced but ServeStaleFor.
	Stale bool
}

// GetMeta is Get with where the value comes from and how old it is.
//
// Errors: those of Get.
func (c *Cache[K, V]) GetMeta(ctx context.Context, key K) (V, Meta, error) {
	if e := c.entry(key, c.initial != nil); e != nil {
		v, err := c.answer(e)
		return v, Meta{Origin: Local, Age: c.since(e.Born)}, err
	}
	return c.getMiss(ctx, key)
}

func (c *Cache[K, V]) since(born int64) time.Duration {
	return time.Duration(c.store.clock.Exact() - born)
}

// entry returns what the local tier answers a read of key with, or nil. load says
// that the read loads what is missing.
func (c *Cache[K, V]) entry(key K, load bool) *tier.Entry[K, V] {
	if c.fresh {
		return nil
	}
	return c.flights.Entry(key, load)
}

// answer is a hit's.
func (c *Cache[K, V]) answer(e *tier.Entry[K, V]) (V, error) {
	c.hits.Inc()
	if c.audit != nil {
		c.audit.sample(e)
	}
	if e.Missing {
		return e.Value, ErrNotFound
	}
	return c.copied(e.Value), nil
}

func (c *Cache[K, V]) getMiss(ctx context.Context, key K) (v V, m Meta, err error) {
	r := c.fill(ctx, key)
	if r.Err != nil {
		if e := c.staleEntry(key, r.Err); e != nil {
			return c.copied(e.Value), Meta{Origin: Aside, Age: c.since(e.Born), Stale: true}, nil
		}
	}
	switch {
	case c.initial != nil:
		v, err = c.orLoad(ctx, "get", key, r, c.initial)
		return v, m, err
	case r.Err != nil:
		return v, m, c.fail("get", key, c.store.reason(ctx, r.Err))
	case r.Missing:
		return v, m, ErrNotFound
	}
	return c.copied(r.Value), Meta{Age: c.since(r.Born)}, nil
}

// staleEntry returns what ServeStaleFor allows for key, of which Redis could
// not be asked, as err says; else nil.
func (c *Cache[K, V]) staleEntry(key K, err error) *tier.Entry[K, V] {
	if !noAnswer(err) && !errors.Is(err, ErrCut) {
		return nil
	}
	e := c.flights.Aside(key)
	if e == nil || e.Missing {
		return nil
	}
	c.counters.staleHits.Add(1)
	return e
}

// fill reads key through its flight.
func (c *Cache[K, V]) fill(ctx context.Context, key K) reply[V] {
	c.counters.misses.Add(1)
	if err := c.store.ready(ctx); err != nil {
		return reply[V]{Err: err}
	}
	return c.flights.Fill(key, c.fresh, ctx.Done() == nil, c.fetch).Wait(ctx)
}

// fetch asks Redis for the value of a flight's key and its remaining life.
func (c *Cache[K, V]) fetch(f *flights.Flight[K, V]) reply[V] {
	ctx := c.store.background()
	redisKey := c.prefix + keyText(f.Key())
	sent := c.store.clock.Exact()
	c.counters.fills.Add(1)
	rs := c.store.ask(ctx, c.data, func() []rueidis.Completed { return c.readCommands(redisKey) })
	r, ttl := c.decode(rs[0], rs[1], sent)
	if c.needsRefresh(r, ttl) {
		c.refresh(ctx, []string{redisKey}, []*reply[V]{&r})
	}
	c.store.at(afterReadReply, redisKey)
	return r
}

// readCommands are GET and PTTL, in this order: a value that is replaced in
// between gets the life of its successor, and the successor is announced; the
// other way round it would be the successor that is held for too long.
func (c *Cache[K, V]) readCommands(redisKey string) []rueidis.Completed {
	return c.appendRead(make([]rueidis.Completed, 0, 2), redisKey)
}

func (c *Cache[K, V]) appendRead(to []rueidis.Completed, redisKey string) []rueidis.Completed {
	b := c.data.B()
	return append(to, b.Get().Key(redisKey).Build(), b.Pttl().Key(redisKey).Build())
}

// decode turns the replies to readCommands into a flight's reply and the
// value's remaining life. sent is when they were asked for: the local life
// counts from there.
func (c *Cache[K, V]) decode(value, pttl rueidis.RedisResult, sent int64) (r reply[V], ttl time.Duration) {
	data, err := value.ToString()
	if rueidis.IsRedisNil(err) {
		return c.missing(sent, false), 0
	}
	if err != nil {
		return reply[V]{Err: err}, 0
	}
	if r.Value, err = c.decodeValue(data); err != nil {
		return reply[V]{Err: err}, 0
	}
	if err := pttl.Error(); err != nil {
		return reply[V]{Err: fmt.Errorf("PTTL: %w", err)}, 0
	}
	r.Born, r.Size = sent, len(data)
	ttl, there := life(pttl)
	if !there {
		return r, 0
	}
	r.Deadline, r.Keep = c.deadline(sent, ttl)
	return r, ttl
}

// life is what a PTTL says; false where the key is not there any more.
func life(pttl rueidis.RedisResult) (ttl time.Duration, there bool) {
	switch ms, err := pttl.AsInt64(); {
	case err != nil || ms == -2:
		return 0, false
	case ms == -1:
		return forEver, true
	default:
		return milliseconds(ms), true
	}
}

// missing is the reply of a key that was not there at sent, or that a loader
// knew nothing of.
func (c *Cache[K, V]) missing(sent int64, noSource bool) reply[V] {
	r := reply[V]{Missing: true, NoSource: noSource, Born: sent}
	if negative := c.negative; negative > 0 {
		if c.store.inCluster {
			negative = min(negative, maxNegativeInCluster)
			if c.store.maxStaleness > 0 { // who waits for the lease waits for this, too
				// Model: clusterack, not found is remembered past the lease
				negative = min(negative, c.store.maxStaleness)
			}
		}
		r.Deadline, r.Keep = c.localDeadline(sent, negative)
	}
	return r
}

// undecodable is the error of bytes in Redis that the codec refuses, with a
// copy of them: a load that finds them may replace just these.
type undecodable struct {
	err  error
	data string
}

func (e *undecodable) Error() string { return e.err.Error() }
func (e *undecodable) Unwrap() error { return e.err }

// decodeValue calls the codec. Whatever goes wrong in it is an error.
func (c *Cache[K, V]) decodeValue(data string) (v V, err error) {
	if c.text != nil {
		return c.text.DecodeText(data), nil
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: Decode: %w", ErrPanic, &flights.PanicError{Value: p, Stack: debug.Stack()})
		}
		if err != nil {
			if !errors.Is(err, ErrDecode) {
				err = fmt.Errorf("%w: %w", ErrDecode, err)
			}
			var zero V
			v, err = zero, &undecodable{err: err, data: data}
		}
	}()
	return c.codec.Decode(unsafe.Slice(unsafe.StringData(data), len(data))) // which does not change it
}

// maxBatch bounds the keys of one pipeline, so that no other command has to
// wait for long behind it.
const maxBatch = 256

// GetMany returns the values of those keys that exist. What is not in the local
// tier is asked for in pipelines of at most 256 keys; what Redis has not comes
// from Options.Default, where there is one.
//
// Errors: those of Get for single keys, joined, each with its key; the map
// holds what was found all the same. A missing key is no error.
func (c *Cache[K, V]) GetMany(ctx context.Context, keys []K) (map[K]V, error) {
	found := make(map[K]V, len(keys))
	missed := make([]K, 0, len(keys))
	seen := make(map[K]bool, len(keys))
	for _, key := range keys {
		if seen[key] {
			continue
		}
		seen[key] = true
		if e := c.entry(key, c.initial != nil); e != nil {
			if v, err := c.answer(e); err == nil {
				found[key] = v
			}
			continue
		}
		missed = append(missed, key)
	}
	if len(missed) == 0 {
		return found, nil
	}
	if err := c.store.ready(ctx); err != nil {
		return found, c.failOp("getmany", err)
	}
	c.counters.misses.Add(uint64(len(missed)))
	var errs []error
	var absent []K
	waits := make([]*flights.Flight[K, V], len(missed))
	var send []*flights.Flight[K, V]
	for i, key := range missed {
		var opened bool
		if waits[i], opened = c.flights.BeginFill(key, c.fresh, c.fetch); opened {
			send = append(send, waits[i])
		}
	}
	for batch := range slices.Chunk(send, maxBatch) {
		go c.fetchAll(batch)
	}
	for i, key := range missed {
		switch r := waits[i].Wait(ctx); {
		case r.Err != nil:
			if e := c.staleEntry(key, r.Err); e != nil {
				found[key] = c.copied(e.Value)
			} else {
				errs = append(errs, c.fail("getmany", key, c.store.reason(ctx, r.Err)))
			}
		case !r.Missing:
			found[key] = c.copied(r.Value)
		case !r.NoSource:
			absent = append(absent, key)
		}
	}
	if c.initial != nil {
		errs = append(errs, c.loadMany(ctx, absent, found)...)
	}
	return found, errors.Join(errs...)
}

// loadMany has Options.Default materialise keys into found.
func (c *Cache[K, V]) loadMany(ctx context.Context, keys []K, found map[K]V) (errs []error) {
	for batch := range slices.Chunk(keys, maxBatch) {
		loads := make([]*flights.Flight[K, V], len(batch))
		for i, key := range batch {
			loads[i] = c.startLoad(ctx, key, c.initial)
		}
		for i, key := range batch {
			v, err := c.loaded(ctx, "getmany", key, loads[i])
			switch {
			case err == nil:
				found[key] = v
			case !errors.Is(err, ErrNotFound):
				errs = append(errs, err)
			}
		}
	}
	return errs
}

// fetchAll is fetch for several flights in one pipeline. It ends each.
func (c *Cache[K, V]) fetchAll(fs []*flights.Flight[K, V]) {
	ctx := c.store.background()
	keys := make([]string, len(fs))
	for i, f := range fs {
		keys[i] = c.prefix + keyText(f.Key())
	}
	sent := c.store.clock.Exact()
	c.counters.fills.Add(uint64(len(fs)))
	rs := c.store.ask(ctx, c.data, func() []rueidis.Completed {
		commands := make([]rueidis.Completed, 0, 2*len(keys))
		for _, k := range keys {
			commands = c.appendRead(commands, k)
		}
		return commands
	})
	replies := make([]reply[V], len(fs))
	var dueKeys []string
	var due []*reply[V]
	for i := range fs {
		var ttl time.Duration
		replies[i], ttl = c.decode(rs[2*i], rs[2*i+1], sent)
		if c.needsRefresh(replies[i], ttl) {
			dueKeys, due = append(dueKeys, keys[i]), append(due, &replies[i])
		}
	}
	if len(due) > 0 {
		c.refresh(ctx, dueKeys, due)
	}
	for i, f := range fs {
		c.store.at(afterReadReply, keys[i])
		c.flights.End(f, replies[i])
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
	ms, err := c.store.ask1(ctx, c.store.client, func() rueidis.Completed {
		return c.store.client.B().Pttl().Key(c.prefix + keyText(key)).Build()
	}).AsInt64()
	switch {
	case err != nil:
		return 0, c.fail("ttl", key, c.store.reason(ctx, err))
	case ms == -2:
		return 0, ErrNotFound
	case ms == -1:
		return NoTTL, nil
	}
	return milliseconds(ms), nil
}

// milliseconds is a duration of ms, or the longest that there is.
func milliseconds(ms int64) time.Duration {
	const longest = math.MaxInt64 / int64(time.Millisecond)
	return time.Duration(min(ms, longest)) * time.Millisecond
}

// In another package's instance of a generic function, the compiler can inline only
// what it has inlined in an instance of this package. This is one: without it, a hit
// makes eight calls more.
var _ = (*Cache[string, string]).Get
