package hybrid

import (
	"context"

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

// script runs a script that changes key, as a write of it. Nothing enters the
// local tier.
func (c *Cache[K, V]) script(ctx context.Context, key K, load *flights.Flight[K, V], script *rueidis.Lua, keys []string, args ...string) (rueidis.RedisMessage, error) {
	var m rueidis.RedisMessage
	err := c.scriptKeeping(ctx, key, load, script, keys, args, func(r rueidis.RedisResult, _ int64) (keep reply[V], err error) {
		m, err = r.ToMessage()
		return keep, err
	})
	return m, err
}

// scriptKeeping is script for one that may leave a value in the tier: end reads
// the script's reply and says which.
func (c *Cache[K, V]) scriptKeeping(ctx context.Context, key K, load *flights.Flight[K, V], script *rueidis.Lua, keys, args []string,
	end func(r rueidis.RedisResult, sent int64) (reply[V], error)) (err error) {
	if err := c.store.ready(ctx); err != nil {
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
	c.store.at(beforeWriteSend, keys[0])
	ctx, cancel := c.store.bound(ctx)
	defer cancel()
	sent := c.store.clock.Exact()
	r := script.Exec(ctx, c.store.client, keys, append([]string{channel, message}, args...))
	c.store.at(afterWriteReply, keys[0])
	c.counters.writes.Add(1)
	keep, err = end(r, sent)
	err = writeError(err)
	return err
}
