package hybrid

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/codec"
	"github.com/flipcache/flipcache/internal/clock"
	"github.com/flipcache/flipcache/internal/counter"
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
	// Redis anyway. 0: 5 minutes, and no cap with invalidate.Tracking; negative:
	// no cap. It bounds what this process cannot hear of: foreign programs, Redis'
	// own evictions, and with invalidate.Off every write of another process. A process
	// that was stopped may go past it in its first 20 ms, unless it has a lease
	// (StoreOptions.MaxStaleness).
	LocalTTL time.Duration

	// LocalSize bounds the local tier, in entries. 0: 10,000, or what LocalBytes
	// has room for. Memory is taken as entries come, not in advance.
	LocalSize int

	// LocalBytes bounds the local tier in bytes, too. An entry counts for its
	// key's bytes, its value's as the codec writes them, and 128. What a value
	// takes decoded is not known: measure it, where it is much more. A value of
	// more than a tenth of the bound is not kept locally. At least 16,384; 0: no
	// such bound.
	LocalBytes int64

	// Policy says which entry makes room for a new one. Its zero value, Adaptive,
	// is the one to use.
	Policy Policy

	// NoLocal has every read go to Redis. Writes are still announced to
	// processes that do keep a local tier.
	NoLocal bool

	// TTLJitter spreads the ends of keys that were written together: each life
	// is shortened by a random part of it, at most this one. 0 to 1.
	TTLJitter float64

	// RefreshTTLOnGet keeps alive what is read: a read that finds less than
	// half of TTL left sets it anew, without a word to other processes. It
	// needs TTL. A local entry then ends when its key is half way through its
	// life, so that a key which is read somewhere is refreshed once in half a
	// TTL by the whole fleet.
	RefreshTTLOnGet bool

	// Default gives a missing key its value: a read that finds none stores and
	// returns Default's, as GetOrLoad does. ErrNotFound from it is passed on.
	Default func(K) (V, error)

	// NegativeTTL is how long "not found" is remembered locally: what Redis
	// said for Get, what the loader said for GetOrLoad. Another process' write
	// ends it as it ends any entry. 0: not at all; else at least 1 ms.
	NegativeTTL time.Duration

	// Clone copies a value on its way into the local tier and out of it, for
	// callers that change what they are given. nil: values are shared.
	Clone func(V) V

	// Audit is the share of local hits that are compared with what Redis holds, in
	// the background: 0.001 is one in a thousand; 0: none. Stats and Offenders say
	// what was found, and the Store's Logger. At most 1,000 hits a second are
	// compared, for which Redis is asked; what is beyond that is skipped, as it is
	// where Redis does not answer. It does not go with NoLocal.
	Audit float64
}

// A Policy says which entry of the local tier makes room for a new one.
type Policy uint8

const (
	// Adaptive keeps what is likely to be read again, as it learns from how often
	// and how soon keys come back, also those that were invalidated: see
	// fifo.Concurrent. A hit takes no lock.
	Adaptive = Policy(tier.Adaptive)
	// LRU evicts what was not read for longest, in one of up to 16 shards. A hit
	// takes the shard's lock.
	LRU = Policy(tier.LRU)
	// FIFO evicts what came first, in one of up to 16 shards.
	FIFO = Policy(tier.FIFO)
)

const (
	defaultLocalTTL  = 5 * time.Minute
	defaultLocalSize = 10_000
	minLocalBytes    = 16 << 10
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
// Set included, or set Options.Clone. Where V is a struct of more than four words,
// its copies take half of a hit's time: let V be a pointer to it. Safe for
// concurrent use.
type Cache[K Key, V any] struct {
	*shared[K, V]
	fresh bool // reads go past the local tier
	acked bool // writes are confirmed by all

	// plain is the tier, for Get's short way: nil where a hit takes more than to
	// return what is there, a copy or a look whether it is to be audited.
	plain *tier.Tier[K, V]
}

// Fresh returns a view of the cache whose reads ask Redis for what it holds
// after they began, and leave that in the local tier. Everything else is the
// same, and shared.
func (c *Cache[K, V]) Fresh() *Cache[K, V] {
	view := *c
	view.fresh, view.plain = true, nil
	return &view
}

// shared is what all views of a cache have in common.
type shared[K Key, V any] struct {
	store    *Store
	data     rueidis.Client // for reads and writes of keys
	name     string
	prefix   string // "name:"
	channel  string // where writes are announced; empty: nowhere
	codec    codec.Codec[V]
	text     textCodec[V] // codec, if it is one, else nil
	ttl      time.Duration
	localTTL time.Duration // clock.Never: no cap
	jitter   float64
	half     time.Duration                       // of ttl, with RefreshTTLOnGet: what is left then is refreshed; else 0
	initial  func(context.Context, K) (V, error) // Options.Default, or nil
	negative time.Duration
	clone    func(V) V

	flights *flights.Table[K, V]
	tier    *tier.Tier[K, V] // nil with NoLocal
	audit   *auditor[K, V]   // nil without Options.Audit

	hits     counter.Striped // the only one on the hit path
	counters counters
}

// A textCodec encodes values that are their own text, without a copy.
type textCodec[V any] interface {
	EncodeText(v V) string
	DecodeText(data string) V
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
	if err != nil && s != nil && s.ctx.Err() != nil {
		err = ErrClosed
	}
	if err != nil {
		return nil, &Error{Op: "new", Name: name, Err: redisError(err)}
	}
	return c, nil
}

func newCache[K Key, V any](s *Store, name string, o Options[K, V]) (*Cache[K, V], error) {
	if s == nil {
		return nil, optionError("the Store is nil: use what Open returned")
	}
	if err := o.complete(s.mode); err != nil {
		return nil, err
	}
	c := &Cache[K, V]{shared: &shared[K, V]{
		store: s, name: name, prefix: name + ":", codec: o.Codec,
		ttl: o.TTL.Truncate(time.Millisecond), jitter: o.TTLJitter, localTTL: o.LocalTTL,
		negative: o.NegativeTTL, clone: o.Clone,
	}}
	c.text, _ = o.Codec.(textCodec[V])
	if o.RefreshTTLOnGet {
		c.half = c.ttl / 2
	}
	if o.Default != nil {
		c.initial = func(_ context.Context, key K) (V, error) { return o.Default(key) }
	}
	if !o.NoLocal {
		c.tier = tier.New[K, V](tier.Bounds{Entries: o.LocalSize, Bytes: o.LocalBytes}, tier.Policy(o.Policy))
	}
	if c.clone == nil && o.Audit == 0 {
		c.plain = c.tier
	}
	c.flights = flights.New(c.tier, s.clock, s.lease)
	c.flights.SetAside(int64(s.serveStale))
	c.flights.SetLife(int64(c.localTTL))
	if o.Audit > 0 {
		c.flights.Journal()
		c.audit = newAuditor(c, o.Audit)
	}

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
	if c.audit != nil {
		c.audit.start(s.ctx)
	}
	if s.announces {
		c.channel = invalidate.Channel(name)
	}
	connected := s.connected.Load()
	if connected {
		c.connect()
	}
	s.mu.Unlock()
	if !connected {
		return c, nil // it joins when the Store is
	}
	ctx, cancel := s.bound(s.ctx)
	defer cancel()
	if err := c.join(ctx); err != nil {
		s.mu.Lock()
		delete(s.names, name)
		s.caches = slices.DeleteFunc(slices.Clone(s.caches), func(other cache) bool { return other == cache(c) })
		s.mu.Unlock()
		c.close()
		return nil, err
	}
	return c, nil
}

// connect takes the Store's connection.
func (c *Cache[K, V]) connect() {
	c.data = c.store.data
	if c.tier == nil {
		c.data = c.store.client // nothing to track
	}
}

// join has the tier serve: as the stream says, if there is one.
func (c *Cache[K, V]) join(ctx context.Context) error {
	switch {
	case c.store.mode == invalidate.Off:
		c.flights.Resume()
	case c.tier != nil:
		return c.store.stream.Join(ctx, c.name, driver[K, V]{c})
	}
	return nil
}

// complete checks the options and puts the defaults in.
func (o *Options[K, V]) complete(mode invalidate.Mode) error {
	var errs []error
	if o.TTL != 0 {
		if err := checkTTL("TTL", o.TTL); err != nil {
			errs = append(errs, err)
		}
	}
	switch {
	case o.LocalTTL < 0 || o.LocalTTL == 0 && mode == invalidate.Tracking:
		o.LocalTTL = clock.Never
	case o.LocalTTL == 0:
		o.LocalTTL = defaultLocalTTL
	case o.LocalTTL < minTTL:
		errs = append(errs, optionError("LocalTTL is %v: use at least %v, 0 for %v, or a negative one for no cap", o.LocalTTL, minTTL, defaultLocalTTL))
	}
	switch {
	case o.LocalSize < 0:
		errs = append(errs, optionError("LocalSize is %d: use at least 1, 0 for %d, or NoLocal for none", o.LocalSize, defaultLocalSize))
	case o.LocalSize > 0 && o.NoLocal:
		errs = append(errs, optionError("LocalSize is %d although NoLocal is set: leave one of them out", o.LocalSize))
	case o.LocalSize == 0 && o.LocalBytes > 0:
		o.LocalSize = int(min(o.LocalBytes/tier.EntryBytes+1, math.MaxInt32))
	case o.LocalSize == 0:
		o.LocalSize = defaultLocalSize
	}
	switch {
	case o.LocalBytes == 0:
	case o.LocalBytes < minLocalBytes:
		errs = append(errs, optionError("LocalBytes is %d: use at least %d, or 0 for no bound in bytes", o.LocalBytes, minLocalBytes))
	case o.NoLocal:
		errs = append(errs, optionError("LocalBytes is %d although NoLocal is set: leave one of them out", o.LocalBytes))
	}
	switch {
	case o.Policy > FIFO:
		errs = append(errs, optionError("Policy is %d: use Adaptive, LRU or FIFO", o.Policy))
	case o.Policy != Adaptive && o.NoLocal:
		errs = append(errs, optionError("Policy is %d although NoLocal is set: leave one of them out", o.Policy))
	}
	if !(o.TTLJitter >= 0 && o.TTLJitter <= 1) {
		errs = append(errs, optionError("TTLJitter is %v: use 0 to 1", o.TTLJitter))
	}
	if o.TTL == 0 && o.TTLJitter > 0 {
		errs = append(errs, optionError("TTLJitter is %v although TTL is 0: set TTL, too", o.TTLJitter))
	}
	if o.RefreshTTLOnGet && o.TTL == 0 {
		errs = append(errs, optionError("RefreshTTLOnGet is set although TTL is 0: set TTL, too"))
	}
	switch {
	case o.NegativeTTL == 0:
	case o.NegativeTTL < minTTL:
		errs = append(errs, optionError("NegativeTTL is %v: use at least %v, or 0 for none", o.NegativeTTL, minTTL))
	case o.NoLocal:
		errs = append(errs, optionError("NegativeTTL is %v although NoLocal is set: leave one of them out", o.NegativeTTL))
	}
	switch {
	case !(o.Audit >= 0 && o.Audit <= 1):
		errs = append(errs, optionError("Audit is %v: use 0 to 1", o.Audit))
	case o.Audit > 0 && o.NoLocal:
		errs = append(errs, optionError("Audit is %v although NoLocal is set: leave one of them out", o.Audit))
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

func (c *Cache[K, V]) close() {
	c.audit.close()
	c.flights.Close()
}

func (c *Cache[K, V]) fail(op string, key K, err error) error {
	return &Error{Op: op, Name: c.name, Key: keyText(key), Err: c.store.ifClosed(err)}
}

// failOp is fail of what has no key of its own.
func (c *Cache[K, V]) failOp(op string, err error) error {
	return &Error{Op: op, Name: c.name, Err: c.store.ifClosed(err)}
}

// driver is the cache as the stream sees it.
type driver[K Key, V any] struct{ c *Cache[K, V] }

func (d driver[K, V]) Drop(text string, nonce uint64, own bool) {
	if key, ok := parseKey[K](text); ok { // else it is no key of this cache, and not held here
		d.c.flights.Message(key, nonce, own)
	}
	if !own {
		d.c.counters.received.Add(1) // what is counted has had its effect
	}
}

func (d driver[K, V]) Push(text string) {
	if key, ok := parseKey[K](text); ok {
		d.c.flights.Push(key)
	}
	d.c.counters.received.Add(1)
}

func (d driver[K, V]) DropAll() {
	d.c.flights.DropAll()
	d.c.counters.received.Add(1)
}

func (d driver[K, V]) Cut()    { d.c.flights.Cut() }
func (d driver[K, V]) Resume() { d.c.flights.Resume() }

// deadline returns when a local copy ends of what lives ttl from sent on
// (forEver: without end), and whether that is worth a place in the tier.
func (c *Cache[K, V]) deadline(sent int64, ttl time.Duration) (int64, bool) {
	if c.half > 0 && ttl != forEver {
		// A little more, since it is no end of the value: a read just before
		// half of the life is over would find nothing to refresh.
		ttl = min(ttl, ttl-c.half+clock.Tick)
	}
	return c.localDeadline(sent, ttl)
}

// localDeadline is deadline for what lives life from sent on, and needs no
// refresh.
func (c *Cache[K, V]) localDeadline(sent int64, life time.Duration) (int64, bool) {
	life = min(life, c.localTTL)
	if life == forEver {
		return clock.Never, c.tier != nil
	}
	if int64(life) > clock.Never-sent {
		return clock.Never, c.tier != nil // the 292 years that the clock can count
	}
	return sent + int64(life), life > 0 && c.tier != nil
}

// copied returns what a caller, or the tier, gets of v: with Options.Clone a
// copy of its own.
func (c *Cache[K, V]) copied(v V) V {
	if c.clone == nil {
		return v
	}
	return c.clone(v)
}
