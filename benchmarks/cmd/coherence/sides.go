//go:build unix

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/benchmarks/peers"
	"github.com/flipcache/flipcache/hybrid"
	"github.com/flipcache/flipcache/internal/fleet"
	"github.com/flipcache/flipcache/invalidate"
)

// A side is a cache, set up in one way.
type side struct {
	name   string
	module string
	hears  string // of writes elsewhere
	ours   bool
	open   func(ctx context.Context, s peers.Server) (peers.TwoTier, error)
}

// measured are the peers, by their names in package peers. eko/gocache is not
// among them: it tells nobody of a write, as go-redis/cache does not.
var measured = []string{"rueidis", "go-redis", "go-redis/cache", "jetcache-go", "viney-shih"}

// missing are the peers that are left out.
const missing = "unkn0wn-root/cascache: no version of its module can be had by the Go module proxy that this was built with (tried: v3.1.2, v3.1.0, v2.0.0, v1.0.0, v0.1.0, latest)"

const flipcache = "github.com/flipcache/flipcache"

// sides returns what there is, FlipCache's modes last.
func sides(lease time.Duration) (all []side) {
	for _, p := range peers.TwoTiers() {
		for _, name := range measured {
			if p.Name == name {
				all = append(all, side{name: name, module: p.Module, hears: p.Hears, open: p.New})
			}
		}
		if p.Name == "go-redis" {
			all = append(all, side{name: "go-redis, MaxStaleness 1s", module: p.Module, hears: p.Hears, open: peers.NewGoRedisBackstop})
		}
	}
	for _, m := range []struct {
		mode  invalidate.Mode
		lease time.Duration
		hears string
	}{
		{invalidate.Off, 0, "not at all"},
		{invalidate.PubSub, 0, "pub/sub"},
		{invalidate.Tracking, 0, "client tracking"},
		{invalidate.PubSub, lease, "pub/sub"},
		{invalidate.Tracking, lease, "client tracking"},
	} {
		name := "FlipCache " + m.mode.String()
		if m.lease > 0 {
			name += fmt.Sprintf(", lease %v", m.lease)
		}
		all = append(all, side{name: name, module: flipcache, hears: m.hears, ours: true,
			open: func(ctx context.Context, s peers.Server) (peers.TwoTier, error) {
				return peers.NewHybrid(ctx, s, hybrid.StoreOptions{Invalidation: m.mode, MaxStaleness: m.lease})
			}})
	}
	return all
}

// room is how many times its keys a local tier may hold: nobody evicts.
const room = 10

// join makes what a worker needs.
func join(ctx context.Context, c fleet.Config) (fleet.Cache, fleet.Meter, error) {
	for _, s := range sides(c.MaxStaleness) {
		if s.name != c.Variant {
			continue
		}
		cache, err := s.open(ctx, peers.Server{
			Redis: rueidis.ClientOption{InitAddress: c.Addr, ForceSingleClient: true},
			Name:  c.Name, Capacity: room * c.Keys, LocalTTL: c.LocalTTL, Timeout: c.Timeout,
		})
		if err != nil {
			return nil, nil, err
		}
		return member{s, cache}, newMeter(), nil
	}
	return nil, nil, fmt.Errorf("no cache is called %q", c.Variant)
}

// member is a side's cache as the fleet uses it: a user's ID is the version.
type member struct {
	side
	peers.TwoTier
}

func (m member) Get(ctx context.Context, key string) (version uint64, err error) {
	u, err := m.TwoTier.Get(ctx, key)
	return uint64(u.ID), err
}

func (m member) Set(ctx context.Context, key string, version uint64) error {
	u := user
	u.ID = int64(version)
	err := m.TwoTier.Set(ctx, key, u)
	if err != nil && !m.ours { // a peer's error does not say whether it happened
		return fmt.Errorf("%w: %w", hybrid.ErrOutcomeUnknown, err)
	}
	return err
}

var user = peers.UserOf(0)

func (m member) SetMany(ctx context.Context, keys []string, version uint64) error {
	for _, k := range keys {
		if err := m.Set(ctx, k, version); err != nil {
			return err
		}
	}
	return nil
}
