package invalidate

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

// lease says until when the local tiers may serve, on the clock of
// internal/clock. Answered probes alone extend it: what Redis did before it took
// the probe, the tiers were told before they heard the answer; so for
// MaxStaleness from when the probe was sent, nothing that they hold was
// replaced longer ago.
type lease struct {
	max   time.Duration // 0: no lease
	until atomic.Int64
}

// grant extends the lease by a probe that was sent at this time.
//
// REQUIRES: Stream.mu held.
func (l *lease) grant(sent int64) {
	if until := sent + int64(l.max); l.max > 0 && until > l.until.Load() {
		l.until.Store(until)
	}
}

// Lease returns until when this process's local tiers may serve, on the clock
// of internal/clock; nil without MaxStaleness. A read loads the lease, then its
// entry, then the exact clock: in any other order a process that is stopped in
// between could serve what it must not.
func (s *Stream) Lease() *atomic.Int64 {
	if s.lease.max == 0 {
		return nil
	}
	return &s.lease.until
}

// MinStaleness is the least MaxStaleness that can be kept: probes go out every
// third of it, and a round trip has to fit in as well.
const MinStaleness = 30 * time.Millisecond

// membership is how long a process counts as a member of its caches without a
// probe. It is part of the protocol, and longer than any lease.
const membership = 60 * time.Second

// MaxMaxStaleness is the longest lease.
const MaxMaxStaleness = membership / 2

const membersPrefix = "flipcache#members:"

// registerScript: KEYS are the member lists of the caches, ARGV[1] what stands
// there for this process, ARGV[2] the membership in ms, ARGV[3] and ARGV[4] a
// channel, or nothing, and a message. It is a write: no replica and no master
// that lacks its replicas (min-replicas-to-write) does it.
var registerScript = rueidis.NewLuaScript(`
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
for i = 2, #KEYS do
  redis.call('ZADD', KEYS[i], now + ARGV[2], ARGV[1])
  redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', '(' .. now)
  redis.call('PEXPIRE', KEYS[i], ARGV[2])
end
if ARGV[3] ~= '' then redis.call('PUBLISH', ARGV[3], ARGV[4]) end
return 1
`)

// register renews this process's membership in its caches, and publishes
// message on channel, if there is one, in the same step.
func (s *Stream) register(client rueidis.Client, channel, message string) error {
	keys := []string{fmt.Sprintf("flipcache#process:%x", s.sender)}
	s.mu.Lock()
	for name := range s.topics {
		keys = append(keys, membersPrefix+name)
	}
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(s.ctx, s.cfg.Timeout)
	defer cancel()
	return registerScript.Exec(ctx, client, keys,
		[]string{s.member(), strconv.FormatInt(membership.Milliseconds(), 10), channel, message}).Error()
}

// member is how this process stands in the lists: sender, mode, lease in ms,
// and where to look for it.
func (s *Stream) member() string {
	host, _ := os.Hostname()
	return fmt.Sprintf("%x %v %d %s/%d", s.sender, s.mode(), s.lease.max.Milliseconds(), host, os.Getpid())
}

func (s *Stream) mode() Mode {
	if s.cfg.Mode == Off {
		return PubSub
	}
	return s.cfg.Mode
}

func (s *Stream) command(c rueidis.CoreClient, cmd rueidis.Completed) rueidis.RedisResult {
	ctx, cancel := context.WithTimeout(s.ctx, s.cfg.Timeout)
	defer cancel()
	return c.Do(ctx, cmd)
}
