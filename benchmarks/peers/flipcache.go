package peers

import (
	"cmp"
	"context"
	"time"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/codec"
	"github.com/flipcache/flipcache/hybrid"
	"github.com/flipcache/flipcache/invalidate"
)

// lease is the MaxStaleness of the mode with a lease.
const lease = 5 * time.Second

// modes are the ways in which a hybrid.Cache takes part.
var modes = []struct {
	name, hears string
	tracking    bool
	o           hybrid.StoreOptions
}{
	{"flipcache/lease", "pub/sub, and a lease", false, hybrid.StoreOptions{Invalidation: invalidate.PubSub, MaxStaleness: lease}},
	{"flipcache/tracking", "client tracking", true, hybrid.StoreOptions{Invalidation: invalidate.Tracking}},
	{"flipcache", "pub/sub", false, hybrid.StoreOptions{Invalidation: invalidate.PubSub}},
}

// open opens a cache of a Store of its own, with a TTL.
func open[V any](ctx context.Context, s Server, o hybrid.StoreOptions, c codec.Codec[V]) (*hybrid.Store, *hybrid.Cache[string, V], error) {
	o.Client, o.Timeout = s.Redis, s.Timeout
	store, err := hybrid.Open(ctx, o)
	if err != nil {
		return nil, nil, err
	}
	cache, err := hybrid.New(store, s.Name, hybrid.Options[string, V]{Codec: c, TTL: TTL, LocalTTL: cmp.Or(s.LocalTTL, -1), LocalSize: s.Capacity})
	if err != nil {
		store.Close()
		return nil, nil, err
	}
	return store, cache, nil
}

// A HybridPeer makes a Local of a hybrid.Cache.
type HybridPeer struct {
	Name     string
	Tracking bool
	New      func(ctx context.Context, redis rueidis.ClientOption, name string, capacity int) (Local, error)
}

// Hybrids returns the modes of hybrid.Cache as caches of strings, the plainest
// last.
func Hybrids() (all []HybridPeer) {
	for _, m := range modes {
		all = append(all, HybridPeer{m.name, m.tracking, func(ctx context.Context, redis rueidis.ClientOption, name string, capacity int) (Local, error) {
			store, cache, err := open(ctx, Server{Redis: redis, Name: name, Capacity: capacity}, m.o, codec.String[string]())
			return hybridLocal{ctx, store, cache}, err
		}})
	}
	return all
}

type hybridLocal struct {
	ctx   context.Context
	store *hybrid.Store
	c     *hybrid.Cache[string, string]
}

func (p hybridLocal) Hits(keys []string) (hits int) {
	for _, k := range keys {
		if v, err := p.c.Get(p.ctx, k); err == nil && v != "" {
			hits++
		}
	}
	return hits
}

// Fill writes to Redis too: a cache has no other way in.
func (p hybridLocal) Fill(ctx context.Context, keys, values []string) error {
	const batch = 1000
	for at := 0; at < len(keys); at += batch {
		m := make(map[string]string, batch)
		for i := at; i < min(at+batch, len(keys)); i++ {
			m[keys[i]] = values[i]
		}
		if err := p.c.SetMany(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

func (p hybridLocal) Close() { p.store.Close() }

// hybrids returns the modes of hybrid.Cache with Redis behind them.
func hybrids() []TwoTierPeer {
	all := []TwoTierPeer{{Name: "flipcache/pointer", Module: flipcache, Hears: "pub/sub", Raw: true, New: newHybridPointers}}
	for _, m := range modes {
		all = append(all, TwoTierPeer{Name: m.name, Module: flipcache, Hears: m.hears, Tracking: m.tracking,
			New: func(ctx context.Context, s Server) (TwoTier, error) { return NewHybrid(ctx, s, m.o) }})
	}
	return all
}

// NewHybrid opens a hybrid.Cache in the mode of o.
func NewHybrid(ctx context.Context, s Server, o hybrid.StoreOptions) (TwoTier, error) {
	store, cache, err := open(ctx, s, o, codec.Msgpack[User]())
	return hybridTwoTier{store, cache}, err
}

type hybridTwoTier struct {
	store *hybrid.Store
	c     *hybrid.Cache[string, User]
}

func (p hybridTwoTier) Get(ctx context.Context, key string) (User, error) { return p.c.Get(ctx, key) }

func (p hybridTwoTier) Hits(ctx context.Context, keys []string) (hits int) {
	for _, k := range keys {
		if u, err := p.c.Get(ctx, k); err == nil && u.ID != 0 {
			hits++
		}
	}
	return hits
}

func (p hybridTwoTier) Set(ctx context.Context, key string, u User) error {
	return p.c.Set(ctx, key, u)
}

func (p hybridTwoTier) GetMany(ctx context.Context, keys []string) (found int, err error) {
	users, err := p.c.GetMany(ctx, keys)
	return len(users), err
}

func (p hybridTwoTier) Close() { p.store.Close() }
