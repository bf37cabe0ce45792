package peers

import (
	"context"

	"github.com/flipcache/flipcache/codec"
	"github.com/flipcache/flipcache/hybrid"
	"github.com/flipcache/flipcache/invalidate"
)

// hybridPointers is a hybrid.Cache of pointers: a hit copies no User, and all who
// hit share the one.
type hybridPointers struct {
	store *hybrid.Store
	c     *hybrid.Cache[string, *User]
}

func newHybridPointers(ctx context.Context, s Server) (TwoTier, error) {
	store, cache, err := open(ctx, s, hybrid.StoreOptions{Invalidation: invalidate.PubSub}, codec.Msgpack[*User]())
	return hybridPointers{store, cache}, err
}

func (p hybridPointers) Get(ctx context.Context, key string) (User, error) {
	u, err := p.c.Get(ctx, key)
	if err != nil {
		return User{}, err
	}
	return *u, nil
}

func (p hybridPointers) Hits(ctx context.Context, keys []string) (hits int) {
	for _, k := range keys {
		if u, err := p.c.Get(ctx, k); err == nil && u.ID != 0 {
			hits++
		}
	}
	return hits
}

func (p hybridPointers) Set(ctx context.Context, key string, u User) error {
	return p.c.Set(ctx, key, &u)
}

func (p hybridPointers) Close() { p.store.Close() }
