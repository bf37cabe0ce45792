package hybrid_test

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/hybrid"
	"github.com/flipcache/flipcache/invalidate"
)

// A program that knows nothing of this library writes, and the auditor finds out.
func ExampleCache_Offenders() {
	ctx := context.Background()
	client := rueidis.ClientOption{
		InitAddress:       []string{hybrid.ExampleAddr}, // yours is "localhost:6379" or the like
		ForceSingleClient: true, DisableCache: true,     // for the server of the examples
	}
	store, err := hybrid.Open(ctx, hybrid.StoreOptions{Client: client, Invalidation: invalidate.PubSub})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close()
	prices, err := hybrid.New(store, "prices", hybrid.Options[string, int]{Audit: 1}) // in production 0.001
	if err != nil {
		fmt.Println(err)
		return
	}
	prices.Set(ctx, "apple", 3)

	foreign, err := rueidis.NewClient(client)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer foreign.Close()
	foreign.Do(ctx, foreign.B().Set().Key("prices:apple").Value("4").Build())

	for prices.Stats().Audit.Stale(0) == 0 {
		prices.Get(ctx, "apple") // 3, from the local tier
		time.Sleep(time.Millisecond)
	}
	for _, o := range prices.Offenders() {
		fmt.Println(o.Key, "stale for at least 100 ms:", o.AtLeast >= 100*time.Millisecond)
	}
	// Output: apple stale for at least 100 ms: true
}
