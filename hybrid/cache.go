package hybrid

import (
	"errors"
	"time"

	"github.com/puzpuzpuz/xsync/v4"

	"github.com/flipcache/flipcache/codec"
	"github.com/flipcache/flipcache/internal/clock"
	"github.com/flipcache/flipcache/internal/flights"
	"github.com/flipcache/flipcache/internal/tier"
	"github.com/flipcache/flipcache/invalidate"
)

// Options of one cache. The zero value is a good start.
type Options[K Key, V any] struct {
	// Codec turns values into bytes and back. nil: String, Int, Bytes or JSON,
	// by V; New says so if none of them fits.
	Codec codec.Codec[V]

	// TTL is the life of a key in Redis, from its last Set. 0: no end.
	// Otherwise at least 1 ms; fractions of a millisecond are cut off.
	TTL time.Duration

	// LocalTTL caps the life of a local entry, which never outlives its key in
	// Redis anyway. 0: 5 minutes; negative: no cap. It bounds what this process
	// cannot hear of: foreign programs, Redis' own evictions, and with
	// invalidate.Off every write of another process.
	LocalTTL time.Duration

	// LocalSize bounds the local tier, in entries. 0: 10,000. Memory is taken
	// as entries come, not in advance.
	LocalSize int

	// NoLocal has every read go to Redis. Writes are still announced to
	// processes that do keep a local tier.
	NoLocal bool
}

const (
	defaultLocalTTL  = 5 * time.Minute
	defaultLocalSize = 10_000
	minTTL           = time.Millisecond
)

// NoTTL is what TTL returns for a key whose life has no end. It is no argument
// of any method.
const NoTTL time.Duration = -1

// A Cache is a namespace in Redis with a local tier in front. In Redis the
// value of key is the codec's plain bytes under "name:key".
//
// What a local read may return is bounded by the Store's invalidation mode; in
// every mode a process reads its own writes. Values are shared by all who read
// them: treat maps, slices and pointers as read-only, the one that you gave to
// Set included. Safe for concurrent use.
type Cache[K Key, V any] struct {
	store    *Store
	name     string
	prefix   string // "name:"
	channel  string // where writes are announced; empty with invalidate.Off
	codec    codec.Codec[V]
	ttl      time.Duration
	localTTL time.Duration // clock.Never: no cap

	flights *flights.Table[K, V]
	tier    *tier.Tier[K, V] // nil with NoLocal

	hits     *xsync.Counter // on the hit path, hence striped
	counters counters
}

// New opens the cache with this name on s. Each process has one Cache of a
// name; one whose keys could be another's (names "a" and "a:b") is refused.
//
// Where invalidation is live New waits, at most the Store's Timeout, until the
// writes of others are heard.
//
// Errors: ErrOption (names each option that is wrong), ErrClosed, ErrPermission
// (the user may not subscribe to the cache's channel).
func New[K Key, V any](s *Store, name string, o Options[K, V]) (*Cache[K, V], error) {
	c, err := newCache(s, name, o)
	if err != nil {
		return nil, &Error{Op: "new", Name: name, Err: redisError(err)}
	}
	return c, nil
}

func newCache[K Key, V any](s *Store, name string, o Options[K, V]) (*Cache[K, V], error) {
	if s == nil {
		return nil, optionError("the Store is nil: use what Open returned")
	}
	if err := o.complete(); err != nil {
		return nil, err
	}
	c := &Cache[K, V]{
		store: s, name: name, prefix: name + ":", codec: o.Codec,
		ttl: o.TTL.Truncate(time.Millisecond), localTTL: o.LocalTTL, hits: xsync.NewCounter(),
	}
	if !o.NoLocal {
		c.tier = tier.New[K, V](o.LocalSize)
	}
	c.flights = flights.New(c.tier, s.clock)

	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, ErrClosed
	}
	if err := checkName(name, s.names); err != nil {
		s.mu.Unlock()
		return nil, err
	}
	s.names[name] = true
	s.caches = append(s.caches, c)
	s.mu.Unlock()

	if s.mode == invalidate.Off {
		c.flights.Resume()
		return c, nil
	}
	c.channel = invalidate.Channel(name)
	if o.NoLocal {
		return c, nil
	}
	ctx, cancel := s.bound(s.ctx)
	defer cancel()
	if err := s.stream.Join(ctx, name, driver[K, V]{c}); err != nil {
		s.mu.Lock()
		delete(s.names, name)
		s.mu.Unlock()
		return nil, err
	}
	return c, nil
}

// complete checks the options and puts the defaults in.
func (o *Options[K, V]) complete() error {
	var errs []error
	if o.TTL != 0 {
		if err := checkTTL("TTL", o.TTL); err != nil {
			errs = append(errs, err)
		}
	}
	switch {
	case o.LocalTTL == 0:
		o.LocalTTL = defaultLocalTTL
	case o.LocalTTL < 0:
		o.LocalTTL = clock.Never
	case o.LocalTTL < minTTL:
		errs = append(errs, optionError("LocalTTL is %v: use at least %v, 0 for %v, or a negative one for no cap", o.LocalTTL, minTTL, defaultLocalTTL))
	}
	switch {
	case o.LocalSize < 0:
		errs = append(errs, optionError("LocalSize is %d: use at least 1, 0 for %d, or NoLocal for none", o.LocalSize, defaultLocalSize))
	case o.LocalSize > 0 && o.NoLocal:
		errs = append(errs, optionError("LocalSize is %d although NoLocal is set: leave one of them out", o.LocalSize))
	case o.LocalSize == 0:
		o.LocalSize = defaultLocalSize
	}
	if o.Codec == nil {
		var err error
		if o.Codec, err = codec.Default[V](); err != nil {
			errs = append(errs, optionError("Codec is nil: %w", err))
		}
	}
	return errors.Join(errs...)
}

func checkTTL(option string, ttl time.Duration) error {
	if ttl < minTTL {
		return optionError("%s is %v: use at least %v", option, ttl, minTTL)
	}
	return nil
}

// Name returns the cache's name.
func (c *Cache[K, V]) Name() string { return c.name }

func (c *Cache[K, V]) close() { c.flights.Close() }

func (c *Cache[K, V]) fail(op string, key K, err error) error {
	return &Error{Op: op, Name: c.name, Key: keyText(key), Err: err}
}

// driver is the cache as the stream sees it.
type driver[K Key, V any] struct{ c *Cache[K, V] }

func (d driver[K, V]) Drop(text string, nonce uint64, own bool) {
	if !own {
		d.c.counters.received.Add(1)
	}
	if key, ok := parseKey[K](text); ok { // else it is no key of this cache, and not held here
		d.c.flights.Message(key, nonce, own)
	}
}

func (d driver[K, V]) DropAll() {
	d.c.counters.received.Add(1)
	d.c.flights.DropAll()
}

func (d driver[K, V]) Cut()    { d.c.flights.Cut() }
func (d driver[K, V]) Resume() { d.c.flights.Resume() }

// deadline returns when a local copy ends of what lives ttl from sent on
// (clock.Never: for ever), and whether that is worth a place in the tier.
func (c *Cache[K, V]) deadline(sent int64, ttl time.Duration) (int64, bool) {
	life := min(int64(ttl), int64(c.localTTL))
	if life == clock.Never {
		return clock.Never, true
	}
	end := sent + life - int64(clock.Tick) // the clock of the hits lags behind by a tick
	if end < sent && life > int64(clock.Tick) {
		return clock.Never, true // 292 years overflow
	}
	return end, end > c.store.clock.Exact()
}
