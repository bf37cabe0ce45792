package hybrid

import (
	"context"
	"time"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/internal/flights"
)

// Every script changes one key. KEYS[1] is that key, KEYS[2] its load token.
// ARGV[1] and ARGV[2] are channel and message of the announcement, the channel
// empty where nothing is announced; what follows is the script's own. A script
// announces before it writes: a user without the right to publish then fails
// whole.
const scriptHead = `
local function announce()
  if ARGV[1] ~= '' then redis.call('PUBLISH', ARGV[1], ARGV[2]) end
end
`

// touchScript: ARGV[3] the new life, ARGV[4] a token's, in ms. 1: done,
// 0: there is no such key.
var touchScript = rueidis.NewLuaScript(scriptHead + `
local old = redis.call('PTTL', KEYS[1])
if old == -2 then return 0 end
local new = tonumber(ARGV[3])
if old == -1 or new < old then announce() end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
if new < tonumber(ARGV[4]) then redis.call('UNLINK', KEYS[2]) end
return 1
`)

// refreshScript changes no value and announces nothing, so it has its own
// arguments: ARGV[1] what is too little to be left, ARGV[2] what to set, in ms.
// It returns what is left then, and whether it was set.
var refreshScript = rueidis.NewLuaScript(`
local left = redis.call('PTTL', KEYS[1])
if left < 0 or left >= tonumber(ARGV[1]) then return {left, 0} end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {tonumber(ARGV[2]), 1}
`)

// needsRefresh says whether the value that a fill brought is half way through
// its life.
func (c *Cache[K, V]) needsRefresh(r reply[V], ttl time.Duration) bool {
	return ttl > 0 && ttl < c.half && r.Err == nil && !r.Missing
}

// refresh has keys live for another TTL, each unless another process was first,
// and sets the local deadlines of their replies anew: from when their values were
// asked for, which somebody may have replaced since without a word. It fails in
// silence but for the count: the values are good all the same.
func (c *Cache[K, V]) refresh(ctx context.Context, keys []string, replies []*reply[V]) {
	half, ttl := px(c.half), px(c.ttl)
	var results []rueidis.RedisResult
	if len(keys) == 1 {
		results = []rueidis.RedisResult{c.store.run(ctx, c.data, refreshScript, keys, []string{half, ttl})}
	} else {
		execs := make([]rueidis.LuaExec, len(keys))
		for i, k := range keys {
			execs[i] = rueidis.LuaExec{Keys: []string{k}, Args: []string{half, ttl}}
		}
		results = refreshScript.ExecMulti(ctx, c.data, execs...)
	}
	for i, r := range results {
		a, err := r.AsIntSlice()
		if err != nil || len(a) != 2 {
			c.counters.refreshErrors.Add(1)
			continue
		}
		c.counters.refreshes.Add(uint64(a[1]))
		if a[0] >= 0 {
			// Model: ttl, the local life counts from the refresh
			replies[i].Deadline, replies[i].Keep = c.deadline(replies[i].Born, milliseconds(a[0]))
		}
	}
}

// script runs a script that changes the key of redisKey, as a write of it.
// Nothing enters the local tier. A reply of nil is no error.
func (c *Cache[K, V]) script(ctx context.Context, key K, script *rueidis.Lua, redisKey string, args ...string) (rueidis.RedisMessage, error) {
	var m rueidis.RedisMessage
	err := c.scriptKeeping(ctx, key, nil, script, redisKey, args, func(r rueidis.RedisResult, _ int64) (keep reply[V], err error) {
		if m, err = r.ToMessage(); rueidis.IsRedisNil(err) {
			err = nil
		}
		return keep, err
	})
	return m, err
}

// scriptKeeping is script for one that may leave a value in the tier: end reads
// the script's reply and says which. load is the load whose value is written,
// or nil.
func (c *Cache[K, V]) scriptKeeping(ctx context.Context, key K, load *flights.Flight[K, V], script *rueidis.Lua, redisKey string, args []string,
	end func(r rueidis.RedisResult, sent int64) (reply[V], error)) (err error) {
	if err := c.ready(ctx); err != nil {
		return err
	}
	nonce, messages := c.announcement([]string{keyText(key)})
	channel, message := "", ""
	if len(messages) > 0 {
		channel, message = c.channel, messages[0]
	}
	var keep reply[V]
	err = ErrOutcomeUnknown // should anything below panic
	w := c.flights.BeginWrite(key, nonce, load)
	defer func() { c.flights.EndWrite(w, err == nil, keep) }()
	c.store.at(beforeWriteSend, redisKey)
	ctx, cancel := c.store.bound(ctx)
	defer cancel()
	sent := c.store.clock.Exact()
	r := c.store.run(ctx, c.data, script, []string{redisKey, tokenKey(redisKey)}, append([]string{channel, message}, args...))
	c.store.at(afterWriteReply, redisKey)
	c.counters.writes.Add(1)
	keep, err = end(r, sent)
	err = writeError(err)
	return err
}
