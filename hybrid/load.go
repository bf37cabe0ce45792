package hybrid

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/internal/flights"
	"github.com/flipcache/flipcache/invalidate"
)

// tokenLife is how long a load may take to have its value stored. It is part of
// the protocol: all processes must agree on it.
const tokenLife = time.Minute

// GetOrLoad returns the value of key as Get does; where there is none, or bytes
// that do not decode, it calls load, stores what that returns for the cache's
// TTL, and returns it. Of all callers in this process that ask for the key at a
// time one loads, on a goroutine of its own, under a context that keeps ctx's
// values but ends only with the Store; a caller whose ctx ends leaves alone.
// load should not call this cache for the same key.
//
// A loaded value is stored only if, since the load began, nobody in any process
// has set or deleted the key: else what the key holds now is returned, or what
// was loaded. (There is one gap: where Redis evicts a value for want of memory, or
// another program deletes it, a load that began before that value was set may be
// stored.) A load of more than a minute is returned and not stored. Where
// Redis cannot be reached, or the value not be stored, it is returned all the
// same and counted in Stats.WriteBackErrors.
//
// Errors: load's own (ErrNotFound among them) with the zero value, ErrPanic,
// ErrEncode, ErrClosed, ctx's error.
func (c *Cache[K, V]) GetOrLoad(ctx context.Context, key K, load func(context.Context, K) (V, error)) (V, error) {
	return c.getOrLoad(ctx, "getorload", key, load)
}

func (c *Cache[K, V]) getOrLoad(ctx context.Context, op string, key K, load func(context.Context, K) (V, error)) (V, error) {
	if e := c.entry(key, true); e != nil {
		return c.answer(e)
	}
	return c.orLoad(ctx, op, key, c.fill(ctx, key), load)
}

// orLoad returns what a fill brought, or else loads.
func (c *Cache[K, V]) orLoad(ctx context.Context, op string, key K, r reply[V], load func(context.Context, K) (V, error)) (V, error) {
	var zero V
	switch {
	case r.NoSource:
		return zero, ErrNotFound
	case r.Err == nil && !r.Missing:
		return c.copied(r.Value), nil
	}
	if err := c.store.ready(ctx); err != nil && !errors.Is(err, ErrCut) {
		return zero, c.fail(op, key, err)
	}
	f := c.startLoad(ctx, key, load)
	c.store.at(loadIsJoined, c.prefix, keyText(key))
	return c.loaded(ctx, op, key, f)
}

// startLoad joins or opens a load of key.
func (c *Cache[K, V]) startLoad(ctx context.Context, key K, load func(context.Context, K) (V, error)) *flights.Flight[K, V] {
	return c.flights.Load(key, func(f *flights.Flight[K, V]) reply[V] { return c.load(ctx, f, load) })
}

// loaded waits for a load and returns what its caller gets.
func (c *Cache[K, V]) loaded(ctx context.Context, op string, key K, f *flights.Flight[K, V]) (v V, err error) {
	r := f.Wait(ctx)
	switch {
	case r.Missing:
		return v, ErrNotFound
	case r.Err != nil:
		return v, c.fail(op, key, c.store.reason(ctx, r.Err))
	}
	return c.copied(r.Value), nil
}

// load is the flight of a load: token and value, loader, write-back.
func (c *Cache[K, V]) load(caller context.Context, f *flights.Flight[K, V], loader func(context.Context, K) (V, error)) reply[V] {
	redisKey := c.prefix + keyText(f.Key())
	token := c.store.token() // Model: load, no token
	r := c.layToken(f, redisKey, token)
	if r.Err == nil && !r.Missing {
		return r
	}
	if r.Err != nil && !errors.Is(redisError(r.Err), ErrDecode) {
		c.flights.Share(f) // Redis is away
	}
	c.store.at(afterTokenIsLaid, redisKey)

	ctx, cancel := context.WithCancel(context.WithoutCancel(caller))
	defer cancel()
	defer context.AfterFunc(c.store.ctx, cancel)()
	c.counters.loads.Add(1)
	asked := c.store.clock.Exact()
	v, err := loader(ctx, f.Key())
	switch {
	case errors.Is(err, ErrNotFound):
		return c.missing(asked, true)
	case err != nil:
		return reply[V]{Err: err}
	}
	c.store.at(beforeWriteBack, redisKey)
	held, err := c.writeBack(f, redisKey, token, r.Err, v)
	switch {
	case errors.Is(err, ErrEncode) || errors.Is(err, ErrTooLarge):
		return reply[V]{Err: err}
	case err != nil:
		c.counters.writeBackErrors.Add(1)
	case held != nil:
		return *held
	}
	return reply[V]{Value: v}
}

// token returns a value that no other load has.
func (s *Store) token() string {
	return s.id + "." + strconv.FormatUint(s.tokens.Add(1), 10)
}

// layToken sets the load's token and reads the key, in one round trip.
func (c *Cache[K, V]) layToken(f *flights.Flight[K, V], redisKey, token string) reply[V] {
	ctx := c.store.background()
	if err := c.store.ready(ctx); err != nil {
		return reply[V]{Err: err}
	}
	sent := c.store.clock.Exact()
	c.counters.fills.Add(1)
	rs := c.store.ask(ctx, c.data, func() []rueidis.Completed { // to lay the same token twice does no harm
		return append([]rueidis.Completed{
			c.data.B().Set().Key(tokenKey(redisKey)).Value(token).PxMilliseconds(tokenLife.Milliseconds()).Build(),
		}, c.readCommands(redisKey)...)
	})
	if err := rs[0].Error(); err != nil {
		return reply[V]{Err: err}
	}
	r, _ := c.decode(rs[1], rs[2], sent)
	return r
}

// storeScript writes a loaded value back. ARGV[3] is the load's token. ARGV[4]
// says what the load saw under the key: 'none', 'bytes' (those of ARGV[5]) or
// 'other' (no string). ARGV[6] is the value, ARGV[7] its life in ms, empty for no
// end.
// It returns 1 if it was stored, else 0 with what the key holds and its life.
var storeScript = rueidis.NewLuaScript(scriptHead + `
local kind = redis.call('TYPE', KEYS[1]).ok
local same = false
if redis.call('GET', KEYS[2]) == ARGV[3] then
  if ARGV[4] == 'none' then same = kind == 'none'
  elseif ARGV[4] == 'bytes' then same = kind == 'string' and redis.call('GET', KEYS[1]) == ARGV[5]
  else same = kind ~= 'none' and kind ~= 'string' end
end
if not same then
  if kind ~= 'string' then return {0} end
  return {0, redis.call('GET', KEYS[1]), redis.call('PTTL', KEYS[1])}
end
announce()
if ARGV[7] == '' then redis.call('SET', KEYS[1], ARGV[6])
else redis.call('SET', KEYS[1], ARGV[6], 'PX', ARGV[7]) end
redis.call('UNLINK', KEYS[2])
return {1}
`)

// writeBack stores v unless somebody wrote since the load began; then it
// returns what the key holds, nil if that is nothing. seen is the error that
// reading the key gave: nil if there was nothing.
func (c *Cache[K, V]) writeBack(f *flights.Flight[K, V], redisKey, token string, seen error, v V) (held *reply[V], err error) {
	what, bytes := "none", ""
	if raw := (*undecodable)(nil); errors.As(seen, &raw) {
		what, bytes = "bytes", raw.data
	} else if seen != nil && errors.Is(redisError(seen), ErrDecode) {
		what = "other"
	} else if seen != nil {
		return nil, seen // there is no token
	}
	data, err := c.bytes(redisKey, v, nil)
	if err != nil {
		return nil, err
	}
	life := c.life()
	args := []string{token, what, bytes, data, px(life)}
	ctx := c.store.background()
	err = c.scriptKeeping(ctx, f.Key(), f, storeScript, redisKey, args,
		func(r rueidis.RedisResult, sent int64) (keep reply[V], err error) {
			a, err := r.ToArray()
			if err != nil {
				return keep, err
			}
			if len(a) == 0 {
				return keep, errors.New("the script's reply is empty")
			}
			stored, err := a[0].AsInt64()
			switch {
			case err != nil:
				return keep, err
			case stored == 1:
				keep.Value, keep.Size, keep.Born = c.copied(v), len(data), sent
				keep.Deadline, keep.Keep = c.deadline(sent, life)
				keep.Keep = keep.Keep && c.store.mode != invalidate.Tracking // which does not track what was written so
				return keep, nil
			case len(a) < 3:
				return keep, nil
			}
			raw, err := a[1].ToString()
			if err != nil {
				return keep, err
			}
			if now, err := c.decodeValue(raw); err == nil { // what does not decode is not better than what was loaded
				held = &reply[V]{Value: now}
			}
			return keep, nil
		})
	return held, err
}
