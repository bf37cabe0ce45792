package peers

import (
	"context"

	"github.com/go-redis/redis/v8"
	cache "github.com/viney-shih/go-cache"
	"github.com/vmihailenco/msgpack/v5"
)

// viney is viney-shih/go-cache with its TinyLFU before Redis, and its pub/sub, by
// which a write drops the key elsewhere. It keeps bytes, decoded at each read.
type viney struct {
	s       Server
	ring    *redis.Ring
	factory cache.Factory
	c       cache.Cache
}

// newViney has the msgpack of its README: its default is JSON, which is slower.
func newViney(_ context.Context, s Server) (TwoTier, error) {
	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"server1": s.addr()}})
	shared := cache.NewRedis(ring)
	factory := cache.NewFactory(shared, cache.NewTinyLFU(s.Capacity), cache.WithPubSub(shared))
	c := factory.NewCache([]cache.Setting{{
		Prefix: s.Name,
		CacheAttributes: map[cache.Type]cache.Attribute{
			cache.SharedCacheType: {TTL: TTL},
			cache.LocalCacheType:  {TTL: TTL},
		},
		MarshalFunc: msgpack.Marshal, UnmarshalFunc: msgpack.Unmarshal,
	}})
	return viney{s, ring, factory, c}, nil
}

func (p viney) Get(ctx context.Context, key string) (u User, err error) {
	return u, p.c.Get(ctx, p.s.Name, key, &u)
}

func (p viney) Hits(ctx context.Context, keys []string) (hits int) {
	for _, k := range keys {
		if u, err := p.Get(ctx, k); err == nil && u.ID != 0 {
			hits++
		}
	}
	return hits
}

func (p viney) Set(ctx context.Context, key string, u User) error {
	return p.c.Set(ctx, p.s.Name, key, u)
}

func (p viney) GetMany(ctx context.Context, keys []string) (found int, err error) {
	result, err := p.c.MGet(ctx, p.s.Name, keys...)
	if err != nil {
		return 0, err
	}
	users := make(map[string]User, len(keys))
	for i, k := range keys {
		var u User
		if err := result.Get(ctx, i, &u); err != nil {
			return 0, err
		}
		users[k] = u
	}
	return len(users), nil
}

func (p viney) Close() {
	p.factory.Close()
	p.ring.Close()
}
