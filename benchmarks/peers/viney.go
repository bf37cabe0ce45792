package peers

import (
	"context"
	"errors"

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
//
// https://github.com/viney-shih/go-cache#get-started, with cache.WithPubSub of its
// "More examples", example_advanced_test.go.
func newViney(_ context.Context, s Server) (TwoTier, error) {
	ring := redis.NewRing(&redis.RingOptions{
		Addrs:       map[string]string{"server1": s.addr()},
		DialTimeout: s.Timeout, ReadTimeout: s.Timeout, WriteTimeout: s.Timeout,
		NewClient: func(_ string, o *redis.Options) *redis.Client {
			c := redis.NewClient(o)
			c.AddHook(noCommandTable{})
			return c
		},
	})
	shared := cache.NewRedis(ring)
	factory := cache.NewFactory(shared, cache.NewTinyLFU(s.Capacity), cache.WithPubSub(shared))
	c := factory.NewCache([]cache.Setting{{
		Prefix: s.Name,
		CacheAttributes: map[cache.Type]cache.Attribute{
			cache.SharedCacheType: {TTL: TTL},
			cache.LocalCacheType:  {TTL: s.localTTL()},
		},
		MarshalFunc: msgpack.Marshal, UnmarshalFunc: msgpack.Unmarshal,
	}})
	return viney{s, ring, factory, c}, nil
}

// noCommandTable fails COMMAND before it is sent. The ring of go-redis v8, which
// is all that go-cache takes, asks for the table of commands before each command,
// cannot read that of Redis 7, and goes on without it: 0.5 ms each time.
type noCommandTable struct{}

func (noCommandTable) BeforeProcess(ctx context.Context, cmd redis.Cmder) (context.Context, error) {
	if cmd.Name() == "command" {
		return ctx, errors.New("no table of commands")
	}
	return ctx, nil
}

func (noCommandTable) AfterProcess(context.Context, redis.Cmder) error { return nil }

func (noCommandTable) BeforeProcessPipeline(ctx context.Context, _ []redis.Cmder) (context.Context, error) {
	return ctx, nil
}

func (noCommandTable) AfterProcessPipeline(context.Context, []redis.Cmder) error { return nil }

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
