package peers

import (
	"context"

	"github.com/dgraph-io/ristretto"
	"github.com/eko/gocache/lib/v4/cache"
	"github.com/eko/gocache/lib/v4/marshaler"
	"github.com/eko/gocache/lib/v4/store"
	redisstore "github.com/eko/gocache/store/redis/v4"
	ristrettostore "github.com/eko/gocache/store/ristretto/v4"
	"github.com/redis/go-redis/v9"
)

// goCache is eko/gocache as a chain of ristretto and Redis, the example of its
// README, with its marshaler around it for structs: bytes, decoded at each
// read. Nothing tells another process of a write. The chain's goroutine never
// ends.
type goCache struct {
	s      Server
	local  *ristretto.Cache
	client *redis.Client
	c      *marshaler.Marshaler
}

func newGoCache(_ context.Context, s Server) (TwoTier, error) {
	local, err := ristretto.NewCache(&ristretto.Config{
		NumCounters: int64(10 * s.Capacity), MaxCost: int64(s.Capacity), BufferItems: 64, IgnoreInternalCost: true,
	})
	if err != nil {
		return nil, err
	}
	client := redis.NewClient(&redis.Options{Addr: s.addr()})
	ttl := store.WithExpiration(TTL)
	return goCache{s, local, client, marshaler.New(cache.NewChain[any](
		cache.New[any](ristrettostore.NewRistretto(local, store.WithCost(1), ttl)),
		cache.New[any](redisstore.NewRedis(client, ttl)),
	))}, nil
}

func (p goCache) Get(ctx context.Context, key string) (u User, err error) {
	_, err = p.c.Get(ctx, p.s.key(key), &u)
	return u, err
}

func (p goCache) Hits(ctx context.Context, keys []string) (hits int) {
	for _, k := range keys {
		if u, err := p.Get(ctx, k); err == nil && u.ID != 0 {
			hits++
		}
	}
	return hits
}

func (p goCache) Set(ctx context.Context, key string, u User) error {
	return p.c.Set(ctx, p.s.key(key), u)
}

func (p goCache) Close() {
	p.client.Close()
	p.local.Close()
}
