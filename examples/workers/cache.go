//go:build unix

package main

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/hybrid"
)

// open is all that a process needs to take part; Invalidation is the one switch.
func open(ctx context.Context, client rueidis.ClientOption, c config) (*hybrid.Store, *hybrid.Cache[string, []byte], error) {
	store, err := hybrid.Open(ctx, hybrid.StoreOptions{
		Client:       client,
		Invalidation: c.Mode,
		MaxStaleness: c.MaxStaleness, // 0: what fails silently is not noticed at once
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

// keyName is the name of a key in one of its generations: one whose write had an
// unknown outcome is given up for a fresh one.
func keyName(key int, generation uint64) string { return fmt.Sprintf("%d.%d", key, generation) }

// A value is its version and padding.
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
