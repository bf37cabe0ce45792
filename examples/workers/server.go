//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/hybrid"
	"github.com/flipcache/flipcache/internal/fleet"
	"github.com/flipcache/flipcache/internal/redisserver"
	"github.com/flipcache/flipcache/invalidate"
)

// redis is where the workers find Redis.
type redis struct {
	fleet.Redis
	kind   string
	server string // standalone, cluster, sentinel
	stop   func()
}

// durable has servers keep what they have acknowledged, though they are killed.
var durable = []string{"--appendonly", "yes", "--appendfsync", "always"}

func server(o options) (redis, error) {
	switch {
	case o.cluster:
		c, err := redisserver.StartCluster(3, 1, durable...)
		if err != nil {
			return redis{}, fmt.Errorf("-cluster: %w", err)
		}
		return redis{fleet.Redis{Client: c.ClientOption(), Cluster: c}, c.Nodes[0].Kind + ", a cluster of 3 masters with a replica each", "cluster", func() { c.Close() }}, nil
	case o.sentinel:
		s, err := redisserver.StartSentinel(2, nil, durable...)
		if err != nil {
			return redis{}, fmt.Errorf("-sentinel: %w", err)
		}
		return redis{fleet.Redis{Client: s.ClientOption(), Sentinel: s}, s.Servers[0].Kind + ", a master with 2 replicas and 3 sentinels", "sentinel", func() { s.Close() }}, nil
	}
	var s *redisserver.Server
	var err error
	switch o.redis {
	case "":
		s, err = redisserver.Any()
		if err == nil && o.chaos && s.Pid() == 0 {
			s.Close()
			err = errors.New("-chaos needs a redis-server: install one, or name yours by -redis")
		}
	case "embedded":
		s, err = redisserver.StartEmbedded()
	default:
		return redis{fleet.Redis{Client: rueidis.ClientOption{InitAddress: []string{o.redis}}}, "Redis at " + o.redis, "standalone", func() {}}, nil
	}
	if err != nil {
		return redis{}, err
	}
	return redis{fleet.Redis{Client: s.ClientOption(), Pid: s.Pid()}, s.Kind, "standalone", func() { s.Close() }}, nil
}

// A choice is a variant that was asked for.
type choice struct {
	variant
	cannot string // why the server cannot; "": it can
}

// variants returns what was asked for: with "all", every variant, and which of them
// the server cannot.
func variants(ctx context.Context, o options, client rueidis.ClientOption) (run []choice, err error) {
	if o.modes != "all" {
		for m := range strings.SplitSeq(o.modes, ",") {
			v, err := parseVariant(m, o.lease)
			if err != nil {
				return nil, err
			}
			run = append(run, choice{variant: v})
		}
		return run, nil
	}
	all := []variant{
		{invalidate.Off, 0, false}, {invalidate.PubSub, 0, false}, {invalidate.Tracking, 0, false},
		{invalidate.PubSub, o.lease, false}, {invalidate.Tracking, o.lease, false},
	}
	if o.cluster || o.sentinel {
		all = append(all, variant{invalidate.PubSub, o.lease, true}, variant{invalidate.Tracking, o.lease, true})
	}
	for _, v := range all {
		c := choice{variant: v}
		if err := try(ctx, v, client); errors.Is(err, hybrid.ErrUnsupported) || errors.Is(err, hybrid.ErrOption) {
			c.cannot = err.Error()
		} else if err != nil {
			return nil, err
		}
		run = append(run, c)
	}
	return run, nil
}

// try says why v is not to be had from this Redis: ErrUnsupported or ErrOption.
func try(ctx context.Context, v variant, client rueidis.ClientOption) error {
	store, err := hybrid.Open(ctx, hybrid.StoreOptions{Client: client, Invalidation: v.mode, MaxStaleness: v.lease})
	if err != nil || !v.acked {
		if err == nil {
			store.Close()
		}
		return err
	}
	defer store.Close()
	cache, err := hybrid.New(store, "workers-try", hybrid.Options[string, []byte]{})
	if err != nil {
		return err
	}
	// Nobody has to confirm it; if it has to wait for old leases, it can be done.
	ctx, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	if err := cache.Acked().SetTTL(ctx, "k", nil, time.Second); !errors.Is(err, hybrid.ErrUnconfirmed) {
		return err
	}
	return nil
}
