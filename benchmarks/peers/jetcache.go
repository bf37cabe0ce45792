package peers

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"sync"

	cache "github.com/mgtv-tech/jetcache-go"
	"github.com/mgtv-tech/jetcache-go/local"
	"github.com/mgtv-tech/jetcache-go/remote"
	"github.com/mgtv-tech/jetcache-go/stats"
	"github.com/redis/go-redis/v9"
)

// jetCache is jetcache-go with ristretto (its TinyLFU) before Redis and the
// pub/sub of its README, by which a write drops the key elsewhere. It keeps
// bytes, decoded at each read.
type jetCache struct {
	s      Server
	client *redis.Client
	pubsub *redis.PubSub
	c      cache.Cache
	many   *cache.T[string, User]
	wg     *sync.WaitGroup
}

// ristrettoEntry is what an entry of cost 1 costs in the end: ristretto adds the
// bytes of its own bookkeeping, and jetcache-go lets it.
const ristrettoEntry = 64

// newJetCache has the fastest of its documented codecs (sonic, a JSON) and local
// caches; counters off; and room for the events of a burst: an event that finds
// none is dropped.
//
// https://github.com/mgtv-tech/jetcache-go, README.md: Example_syncLocalUsage.
func newJetCache(ctx context.Context, s Server) (TwoTier, error) {
	client := redis.NewClient(s.goRedisOptions())
	channel := s.key("events")
	pubsub := client.Subscribe(ctx, channel)
	if _, err := pubsub.Receive(ctx); err != nil {
		client.Close()
		return nil, err
	}
	source := rand.Text() // of this process: its own events are not for it
	c := cache.New(cache.WithName(s.Name),
		cache.WithRemote(remote.NewGoRedisV9Adapter(client)),
		cache.WithLocal(local.NewTinyLFU(s.Capacity*ristrettoEntry, s.localTTL())),
		cache.WithCodec("sonic"),
		cache.WithRemoteExpiry(TTL),
		cache.WithStatsHandler(stats.NewHandles(true)),
		cache.WithSourceId(source),
		cache.WithSyncLocal(true),
		cache.WithEventChBufSize(1<<16),
		cache.WithEventHandler(func(event *cache.Event) {
			if message, err := json.Marshal(event); err == nil {
				client.Publish(context.Background(), channel, message)
			}
		}),
	)
	p := jetCache{s, client, pubsub, c, cache.NewT[string, User](c), new(sync.WaitGroup)}
	messages := pubsub.Channel()
	p.wg.Go(func() {
		for m := range messages {
			var event cache.Event
			if json.Unmarshal([]byte(m.Payload), &event) == nil && event.SourceID != source {
				for _, k := range event.Keys {
					c.DeleteFromLocalCache(k)
				}
			}
		}
	})
	return p, nil
}

func (p jetCache) Get(ctx context.Context, key string) (u User, err error) {
	return u, p.c.Get(ctx, p.s.key(key), &u)
}

func (p jetCache) Hits(ctx context.Context, keys []string) (hits int) {
	for _, k := range keys {
		if u, err := p.Get(ctx, k); err == nil && u.ID != 0 {
			hits++
		}
	}
	return hits
}

func (p jetCache) Set(ctx context.Context, key string, u User) error {
	return p.c.Set(ctx, p.s.key(key), cache.Value(u), cache.TTL(TTL))
}

// GetMany is its generic MGet without a loader. It joins the name and the keys
// by itself.
func (p jetCache) GetMany(ctx context.Context, keys []string) (found int, err error) {
	users, err := p.many.MGetWithErr(ctx, p.s.Name, keys, nil)
	return len(users), err
}

func (p jetCache) Close() {
	p.c.Close()
	p.pubsub.Close()
	p.wg.Wait()
	p.client.Close()
}
