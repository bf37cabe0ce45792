package peers

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/vmihailenco/msgpack/v5"
)

// goRedis is go-redis' own client-side cache, which it calls experimental. It
// keeps replies of commands, so a user decodes at each read.
type goRedis struct {
	s Server
	c *redis.Client
}

// newGoRedis has the options of its README. Each of the cache's 16 shards has a
// sixteenth of the entries, hence the room. MaxStaleness, which has every entry
// fetched again after that time, is the life of an entry, where that is asked for.
//
// https://github.com/redis/go-redis#client-side-caching
func newGoRedis(_ context.Context, s Server) (TwoTier, error) {
	return openGoRedis(s, s.LocalTTL), nil
}

func openGoRedis(s Server, maxStaleness time.Duration) goRedis {
	o := s.goRedisOptions()
	o.Protocol = 3
	o.ClientSideCacheConfig = &redis.ClientSideCacheConfig{MaxEntries: s.Capacity, MaxStaleness: maxStaleness}
	return goRedis{s, redis.NewClient(o)}
}

// NewGoRedisBackstop has a MaxStaleness of a second beside: its documentation
// calls that a backstop for lost invalidations, and a second is the least that it
// advises.
func NewGoRedisBackstop(_ context.Context, s Server) (TwoTier, error) {
	return openGoRedis(s, time.Second), nil
}

func (p goRedis) Get(ctx context.Context, key string) (u User, err error) {
	b, err := p.c.Get(ctx, p.s.key(key)).Bytes()
	if err != nil {
		return u, err
	}
	return u, msgpack.Unmarshal(b, &u)
}

func (p goRedis) Hits(ctx context.Context, keys []string) (hits int) {
	for _, k := range keys {
		if u, err := p.Get(ctx, k); err == nil && u.ID != 0 {
			hits++
		}
	}
	return hits
}

func (p goRedis) Set(ctx context.Context, key string, u User) error {
	b, err := msgpack.Marshal(u)
	if err != nil {
		return err
	}
	return p.c.Set(ctx, p.s.key(key), b, TTL).Err()
}

// GetMany is MGET, whose reply is cached whole, by its keys: another set of keys
// is another entry. (A pipeline of GETs is not cached.)
func (p goRedis) GetMany(ctx context.Context, keys []string) (found int, err error) {
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = p.s.key(k)
	}
	replies, err := p.c.MGet(ctx, names...).Result()
	if err != nil {
		return 0, err
	}
	users := make(map[string]User, len(keys))
	for i, reply := range replies {
		s, ok := reply.(string)
		if !ok {
			continue
		}
		var u User
		if err := msgpack.Unmarshal([]byte(s), &u); err != nil {
			return 0, err
		}
		users[keys[i]] = u
	}
	return len(users), nil
}

func (p goRedis) Close() { p.c.Close() }
