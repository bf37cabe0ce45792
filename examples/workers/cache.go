//go:build unix

package main

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/flipcache/flipcache/hybrid"
	"github.com/flipcache/flipcache/internal/fleet"
)

// open is all that a process needs to take part; Invalidation is the one switch.
func open(ctx context.Context, c fleet.Config, v variant) (*hybrid.Store, *hybrid.Cache[string, []byte], error) {
	store, err := hybrid.Open(ctx, hybrid.StoreOptions{
		Client:       c.ClientOption(),
		Invalidation: v.mode,
		MaxStaleness: v.lease, // 0: what fails silently is not noticed at once
		Timeout:      c.Timeout,
	})
	if err != nil {
		return nil, nil, err
	}
	cache, err := hybrid.New(store, c.Name, hybrid.Options[string, []byte]{
		LocalTTL:  c.LocalTTL,
		LocalSize: c.Keys,
	})
	if err != nil {
		store.Close()
		return nil, nil, err
	}
	return store, cache, nil
}

// member is the cache as the fleet uses it: a value is its version and padding.
type member struct {
	store *hybrid.Store
	cache *hybrid.Cache[string, []byte]
	write *hybrid.Cache[string, []byte] // cache, or its acknowledged view
	size  int
}

func (m member) Get(ctx context.Context, key string) (version uint64, err error) {
	v, err := m.cache.Get(ctx, key)
	if err != nil {
		return 0, err
	}
	return versionOf(v)
}

func (m member) Set(ctx context.Context, key string, version uint64) error {
	return m.write.Set(ctx, key, newValue(version, m.size))
}

func (m member) SetMany(ctx context.Context, keys []string, version uint64) error {
	batch := make(map[string][]byte, len(keys))
	for _, k := range keys {
		batch[k] = newValue(version, m.size)
	}
	return m.cache.SetMany(ctx, batch)
}

func (m member) Close() { m.store.Close() }

func newValue(version uint64, size int) []byte {
	v := make([]byte, size)
	binary.BigEndian.PutUint64(v, version)
	return v
}

func versionOf(v []byte) (uint64, error) {
	if len(v) < 8 {
		return 0, fmt.Errorf("a value of %d bytes has no version: do other programs use this Redis?", len(v))
	}
	return binary.BigEndian.Uint64(v), nil
}
