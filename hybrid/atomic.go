package hybrid

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/codec"
)

// The methods of this file change a key at Redis in one atomic step, announce
// the change, keep the remaining life of a key that is there and give a new one
// the cache's TTL. They leave nothing in the local tier: the next read brings
// what all processes agreed on.

// casScript: ARGV[3] '1' if the key must hold the bytes of ARGV[4], '0' if it
// must not be there. ARGV[5] the new value, ARGV[6] the life of a new key in ms,
// empty for no end. It returns 1 if it was done, else 0 with what the key holds,
// if anything.
var casScript = rueidis.NewLuaScript(scriptHead + `
local now = redis.call('GET', KEYS[1])
if now then
  if ARGV[3] ~= '1' or now ~= ARGV[4] then return {0, now} end
elseif ARGV[3] == '1' then return {0} end
announce()
if now then redis.call('SET', KEYS[1], ARGV[5], 'KEEPTTL')
else
  if ARGV[6] == '' then redis.call('SET', KEYS[1], ARGV[5])
  else redis.call('SET', KEYS[1], ARGV[5], 'PX', ARGV[6]) end
  redis.call('UNLINK', KEYS[2])
end
return {1}
`)

// Backoff of Update between attempts that lost to others.
const (
	minUpdatePause = 50 * time.Microsecond
	maxUpdatePause = 10 * time.Millisecond
)

// Update replaces the value of key by change's, which gets the present value
// and whether there is one, and returns the new value. If another writer comes
// in between, it asks change again with what is there then: change must have
// no side effects, and must not change its argument in place unless
// Options.Clone or the codec gives it a copy of its own (all codecs of package
// codec do). An error of change ends Update and is returned; nothing is written
// then.
//
// Attempts go on, with pauses that grow to 10 ms, until ctx ends, or for the
// Store's Timeout; then the error is ErrConflict. One round trip to read and
// one an attempt.
//
// Errors: change's own, ErrConflict, ErrDecode, and those of Set.
func (c *Cache[K, V]) Update(ctx context.Context, key K, change func(old V, found bool) (V, error)) (V, error) {
	v, err := c.update(ctx, key, change)
	if err != nil {
		var zero V
		return zero, c.fail("update", key, err)
	}
	if err := c.confirm(ctx, key); err != nil {
		return v, c.fail("update", key, err)
	}
	return v, nil
}

func (c *Cache[K, V]) update(ctx context.Context, key K, change func(old V, found bool) (V, error)) (v V, err error) {
	if err := c.ready(ctx); err != nil {
		return v, err
	}
	limit, cancel := c.store.bound(ctx)
	defer cancel()
	redisKey := c.prefix + keyText(key)
	raw, err := c.store.ask1(limit, c.store.client, func() rueidis.Completed {
		return c.store.client.B().Get().Key(redisKey).Build()
	}).ToString()
	found := err == nil
	if err != nil && !rueidis.IsRedisNil(err) {
		return v, redisError(err)
	}
	gaveUp := func() error {
		if ctx.Err() != nil {
			return fmt.Errorf("%w: %w", ErrConflict, ctx.Err())
		}
		return ErrConflict
	}
	for pause := minUpdatePause; ; pause = min(2*pause, maxUpdatePause) {
		var old V
		if found {
			if old, err = c.decodeValue(raw); err != nil {
				return v, err
			}
		}
		if v, err = change(old, found); err != nil {
			return v, err
		}
		data, err := c.bytes(redisKey, v, nil)
		if err != nil {
			return v, err
		}
		must := "0"
		if found {
			must = "1"
		}
		m, err := c.script(limit, key, casScript, redisKey, must, raw, data, px(c.life()))
		if err != nil {
			if pause > minUpdatePause && limit.Err() != nil && !errors.Is(err, ErrOutcomeUnknown) {
				return v, gaveUp()
			}
			return v, err
		}
		a, err := m.ToArray()
		if err != nil || len(a) == 0 {
			return v, fmt.Errorf("the script's reply: %w", err)
		}
		if done, _ := a[0].AsInt64(); done == 1 {
			return v, nil
		}
		if found = len(a) > 1; found {
			if raw, err = a[1].ToString(); err != nil {
				return v, err
			}
		}
		select {
		case <-limit.Done():
			return v, gaveUp()
		case <-time.After(pause/2 + rand.N(pause)):
		}
	}
}

// Integer is what Incr can count in.
type Integer interface {
	~int | ~int8 | ~int16 | ~int32 | ~int64 | ~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64
}

// incrScript: ARGV[3] the summand, ARGV[4] the life of a new key in ms (empty: no
// end), ARGV[5] and ARGV[6] the bounds of the type, empty where they are Redis'
// own. The sum is read back as a string: a Lua number would round it above 2^53.
var incrScript = rueidis.NewLuaScript(scriptHead + `
local now = redis.call('GET', KEYS[1])
if ARGV[5] ~= '' then
  local old, lowest, highest = 0, tonumber(ARGV[5]), tonumber(ARGV[6])
  if now then old = string.find(now, '^-?%d+$') and tonumber(now) end
  if not old or old < lowest or old > highest then
    return redis.error_reply('ERR value is not an integer of the type')
  end
  local sum = old + tonumber(ARGV[3])
  if sum < lowest or sum > highest then
    return redis.error_reply('ERR increment or decrement would overflow the type')
  end
end
announce()
redis.call('INCRBY', KEYS[1], ARGV[3])
if not now then
  if ARGV[4] ~= '' then redis.call('PEXPIRE', KEYS[1], ARGV[4]) end
  redis.call('UNLINK', KEYS[2])
end
return redis.call('GET', KEYS[1])
`)

// Incr adds delta to the integer under key and returns the sum; a missing key
// counts as 0. It is exact up to 64 bits; a sum that does not fit V changes
// nothing. It is a function, so that it does not compile for a cache of
// anything else. One round trip; with a codec that does not write decimals, or
// for uint and uint64, the attempts of Update.
//
// Errors: ErrOverflow, ErrDecode (what is there is no integer), ErrConflict,
// and those of Set.
func Incr[K Key, V Integer](ctx context.Context, c *Cache[K, V], key K, delta V) (V, error) {
	sum, err := incr(ctx, c, key, delta)
	if err != nil {
		return 0, c.fail("incr", key, err)
	}
	if err := c.confirm(ctx, key); err != nil {
		return sum, c.fail("incr", key, err)
	}
	return sum, nil
}

func incr[K Key, V Integer](ctx context.Context, c *Cache[K, V], key K, delta V) (V, error) {
	lowest, highest := bounds[V]()
	// The longest values, too, since many a form has 0 to 9 in common with decimals.
	if uint64(highest) > math.MaxInt64 || !decimals(c.codec, delta, lowest, highest) {
		return c.update(ctx, key, func(old V, _ bool) (V, error) {
			if sum := old + delta; (delta >= 0) == (sum >= old) {
				return sum, nil
			}
			return 0, ErrOverflow
		})
	}
	low, high := decimal(lowest), decimal(highest)
	if uint64(highest) == math.MaxInt64 {
		low, high = "", "" // Redis' own
	}
	m, err := c.script(ctx, key, incrScript, c.prefix+keyText(key), decimal(delta), px(c.life()), low, high)
	if err != nil {
		return 0, err
	}
	data, err := m.ToString()
	if err != nil {
		return 0, err
	}
	return c.decodeValue(data)
}

// decimals says whether the codec writes values as INCRBY does.
func decimals[V Integer](c codec.Codec[V], values ...V) bool {
	for _, v := range values {
		if data, err := c.Append(nil, v); err != nil || string(data) != decimal(v) {
			return false
		}
	}
	return true
}

func bounds[V Integer]() (lowest, highest V) {
	if highest = ^V(0); highest > 0 {
		return 0, highest
	}
	for highest = 1; highest<<1+1 > highest; highest = highest<<1 + 1 { // until the sign is hit
	}
	return ^highest, highest
}

func decimal[V Integer](v V) string {
	if v < 0 {
		return strconv.FormatInt(int64(v), 10)
	}
	return strconv.FormatUint(uint64(v), 10)
}

// SetIfAbsent stores v under key for the cache's TTL unless the key is there,
// and says whether it did. Of several that try at once one does. One round
// trip.
//
// Errors: those of Set.
func (c *Cache[K, V]) SetIfAbsent(ctx context.Context, key K, v V) (bool, error) {
	redisKey := c.prefix + keyText(key)
	data, err := c.bytes(redisKey, v, nil)
	if err != nil {
		return false, c.fail("setifabsent", key, err)
	}
	m, err := c.script(ctx, key, casScript, redisKey, "0", "", data, px(c.life()))
	if err == nil {
		var a []rueidis.RedisMessage
		if a, err = m.ToArray(); err == nil && len(a) > 0 {
			if n, err := a[0].AsInt64(); err != nil || n != 1 {
				return false, nil
			}
			if err := c.confirm(ctx, key); err != nil {
				return true, c.fail("setifabsent", key, err)
			}
			return true, nil
		}
	}
	if errors.Is(err, ErrDecode) { // what is there is no string, but there
		return false, nil
	}
	return false, c.fail("setifabsent", key, err)
}

// takeScript returns what the key held, and removes it.
var takeScript = rueidis.NewLuaScript(scriptHead + `
local now = redis.call('GET', KEYS[1])
if now then announce() end
redis.call('UNLINK', KEYS[1], KEYS[2])
return now
`)

// GetAndDelete removes key and returns the value that it had. Of several that
// try at once one gets it. One round trip.
//
// Errors: ErrNotFound, ErrDecode (bytes that do not decode are gone all the
// same, what is no string stays), and those of Set.
func (c *Cache[K, V]) GetAndDelete(ctx context.Context, key K) (v V, err error) {
	m, err := c.script(ctx, key, takeScript, c.prefix+keyText(key))
	if err != nil {
		return v, c.fail("getanddelete", key, err)
	}
	if m.IsNil() {
		return v, ErrNotFound
	}
	data, err := m.ToString()
	if err == nil {
		v, err = c.decodeValue(data)
	}
	if err = cmp.Or(err, c.confirm(ctx, key)); err != nil {
		return v, c.fail("getanddelete", key, err)
	}
	return v, nil
}
