package hybridtest_test

import (
	"context"
	"testing"

	"github.com/flipcache/flipcache/hybrid"
	"github.com/flipcache/flipcache/hybrid/hybridtest"
)

func ExampleNewStore() {
	var t *testing.T // the test's own

	store := hybridtest.NewStore(t)
	prices, err := hybrid.New(store, "prices", hybrid.Options[string, int]{})
	if err != nil {
		t.Fatal(err)
	}
	if err := prices.Set(context.Background(), "tea", 3); err != nil {
		t.Error(err)
	}
}

// Two processes on one Redis.
func ExampleServer() {
	var t *testing.T // the test's own

	server := hybridtest.NewServer(t)
	shop, office := server.NewStore(t), server.NewStore(t)
	_, _ = shop, office // each opens the cache "prices"
}
