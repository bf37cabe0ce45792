package peers

import (
	"context"

	"github.com/go-redis/cache/v9"
	"github.com/redis/go-redis/v9"
	"github.com/vmihailenco/msgpack/v5"
)

// goRedisCache is go-redis/cache: bytes in a TinyLFU under one lock, decoded at
// each read. Nothing tells another process of a write.
type goRedisCache struct {
	s      Server
	client *redis.Client
	c      *cache.Cache
}

// newGoRedisCache is its README's example, with a plain client for the ring of
// one, and msgpack alone: by default it also compresses from 64 bytes on, which
// is slower.
//
// https://github.com/go-redis/cache#quickstart
func newGoRedisCache(_ context.Context, s Server) (TwoTier, error) {
	client := redis.NewClient(s.goRedisOptions())
	return goRedisCache{s, client, cache.New(&cache.Options{
		Redis: client, LocalCache: cache.NewTinyLFU(s.Capacity, s.localTTL()),
		Marshal: msgpack.Marshal, Unmarshal: msgpack.Unmarshal,
	})}, nil
}

func (p goRedisCache) Get(ctx context.Context, key string) (u User, err error) {
	return u, p.c.Get(ctx, p.s.key(key), &u)
}

func (p goRedisCache) Hits(ctx context.Context, keys []string) (hits int) {
	for _, k := range keys {
		if u, err := p.Get(ctx, k); err == nil && u.ID != 0 {
			hits++
		}
	}
	return hits
}

func (p goRedisCache) Set(ctx context.Context, key string, u User) error {
	return p.c.Set(&cache.Item{Ctx: ctx, Key: p.s.key(key), Value: u, TTL: TTL})
}

func (p goRedisCache) Close() { p.client.Close() }
