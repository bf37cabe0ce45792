package peers

import (
	"context"

	"github.com/redis/rueidis"
	"github.com/vmihailenco/msgpack/v5"
)

const rueidisModule = "github.com/redis/rueidis"

// doCache is rueidis' client-side caching. It keeps replies, so a user decodes at
// each read, here with the codec that FlipCache has, too. A write enters no tier: the next read does. Its tier is bounded in
// bytes, a connection: the default of 128 MiB is left.
type doCache struct {
	s Server
	c rueidis.Client
}

// newDoCache opens rueidis with its default options, which are those of its
// benchmarks: tracking with OPTIN, automatic pipelining.
//
// https://github.com/redis/rueidis#server-assisted-client-side-caching
func newDoCache(_ context.Context, s Server) (TwoTier, error) {
	s.Redis.DisableCache = false
	if s.Capacity < smallTier {
		s.Redis.CacheSizeEachConn = s.Capacity * docacheEntry
	}
	if s.Timeout > 0 {
		s.Redis.Dialer.Timeout, s.Redis.ConnWriteTimeout = s.Timeout, s.Timeout
	}
	c, err := rueidis.NewClient(s.Redis)
	return doCache{s, c}, err
}

const (
	// smallTier is the capacity under which a benchmark means reads to miss.
	smallTier = 2000
	// docacheEntry is about what rueidis counts for an entry of a user, in bytes.
	docacheEntry = 400
)

func (p doCache) read(ctx context.Context, key string) ([]byte, error) {
	return p.c.DoCache(ctx, p.c.B().Get().Key(p.s.key(key)).Cache(), p.s.localTTL()).AsBytes()
}

func (p doCache) Get(ctx context.Context, key string) (u User, err error) {
	b, err := p.read(ctx, key)
	if err != nil {
		return u, err
	}
	return u, msgpack.Unmarshal(b, &u)
}

func (p doCache) Hits(ctx context.Context, keys []string) (hits int) {
	for _, k := range keys {
		if u, err := p.Get(ctx, k); err == nil && u.ID != 0 {
			hits++
		}
	}
	return hits
}

func (p doCache) Set(ctx context.Context, key string, u User) error {
	b, err := msgpack.Marshal(u)
	if err != nil {
		return err
	}
	return p.c.Do(ctx, p.c.B().Set().Key(p.s.key(key)).Value(rueidis.BinaryString(b)).Px(TTL).Build()).Error()
}

// GetMany is rueidis' helper for it.
func (p doCache) GetMany(ctx context.Context, keys []string) (found int, err error) {
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = p.s.key(k)
	}
	replies, err := rueidis.MGetCache(p.c, ctx, TTL, names)
	if err != nil {
		return 0, err
	}
	users := make(map[string]User, len(keys))
	for i, name := range names {
		reply := replies[name]
		b, err := reply.AsBytes()
		if rueidis.IsRedisNil(err) {
			continue
		}
		if err != nil {
			return 0, err
		}
		var u User
		if err := msgpack.Unmarshal(b, &u); err != nil {
			return 0, err
		}
		users[keys[i]] = u
	}
	return len(users), nil
}

func (p doCache) Close() { p.c.Close() }

// doCacheBytes stops before the decoding.
type doCacheBytes struct{ doCache }

func newDoCacheBytes(ctx context.Context, s Server) (TwoTier, error) {
	p, err := newDoCache(ctx, s)
	if err != nil {
		return nil, err
	}
	return doCacheBytes{p.(doCache)}, nil
}

func (p doCacheBytes) Hits(ctx context.Context, keys []string) (hits int) {
	for _, k := range keys {
		if b, err := p.read(ctx, k); err == nil && len(b) != 0 {
			hits++
		}
	}
	return hits
}
