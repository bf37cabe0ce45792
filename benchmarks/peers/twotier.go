package peers

import (
	"cmp"
	"context"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"
)

// A TwoTier is a cache of users in this process with Redis behind it. Any number
// of goroutines may use it at once.
type TwoTier interface {
	// Hits reads each key, which the local tier has, and returns how many are
	// users.
	Hits(ctx context.Context, keys []string) (hits int)
	Get(ctx context.Context, key string) (User, error)
	// Set writes a user to Redis, with TTL, and to the local tier where the
	// peer does so.
	Set(ctx context.Context, key string, u User) error
	Close()
}

// A ManyGetter is a TwoTier that reads many keys in one call, each at most once
// from Redis.
type ManyGetter interface {
	// GetMany returns how many of the keys were found.
	GetMany(ctx context.Context, keys []string) (found int, err error)
}

// A TwoTierPeer makes a TwoTier.
type TwoTierPeer struct {
	Name   string
	Module string
	// Hears says how another process learns of a write.
	Hears string
	// Tracking says that the peer needs a server that knows CLIENT TRACKING.
	Tracking bool
	// Raw says that a hit returns no User of its own, but bytes, or a pointer that
	// all share: it is measured for its hits alone.
	Raw bool
	New func(ctx context.Context, s Server) (TwoTier, error)
}

// A Server is where a TwoTier keeps its keys.
type Server struct {
	Redis rueidis.ClientOption
	// Name is the peer's own; it stands before each of its keys in Redis, with
	// a colon between them. Keys are passed to the peer without it.
	Name string
	// Capacity is that of the local tier, in entries where the peer counts them.
	Capacity int
	// LocalTTL is the life of an entry in the local tier; 0: TTL, as in Redis.
	LocalTTL time.Duration
	// Timeout is that of a connection's reads, writes and dials; 0: the peer's
	// own.
	Timeout time.Duration
}

func (s Server) localTTL() time.Duration { return cmp.Or(s.LocalTTL, TTL) }

// goRedisOptions are those that all have in common who take go-redis.
func (s Server) goRedisOptions() *redis.Options {
	return &redis.Options{Addr: s.addr(), DialTimeout: s.Timeout, ReadTimeout: s.Timeout, WriteTimeout: s.Timeout}
}

// key returns how a key is called in Redis.
func (s Server) key(key string) string { return s.Name + ":" + key }

func (s Server) addr() string { return s.Redis.InitAddress[0] }

const goRedisModule = "github.com/redis/go-redis/v9"

// TwoTiers returns the two-tier peers, FlipCache's modes last.
func TwoTiers() []TwoTierPeer {
	return append([]TwoTierPeer{
		{Name: "rueidis/bytes", Module: rueidisModule, Hears: "client tracking", Tracking: true, Raw: true, New: newDoCacheBytes},
		{Name: "rueidis", Module: rueidisModule, Hears: "client tracking", Tracking: true, New: newDoCache},
		{Name: "go-redis", Module: goRedisModule, Hears: "client tracking", Tracking: true, New: newGoRedis},
		{Name: "go-redis/cache", Module: "github.com/go-redis/cache/v9", Hears: "not at all", New: newGoRedisCache},
		{Name: "gocache", Module: "github.com/eko/gocache/lib/v4", Hears: "not at all", New: newGoCache},
		{Name: "jetcache-go", Module: "github.com/mgtv-tech/jetcache-go", Hears: "pub/sub", New: newJetCache},
		{Name: "viney-shih", Module: "github.com/viney-shih/go-cache", Hears: "pub/sub", New: newViney},
	}, hybrids()...)
}
