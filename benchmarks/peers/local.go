package peers

import (
	"context"
	"time"
)

// TTL is the life of an entry in all peers that know lives.
const TTL = time.Hour

// A Local is a cache of strings in this process. Reads may run at once.
type Local interface {
	// Hits looks each key up and returns how many are there.
	Hits(keys []string) int
	// Fill sets keys to values, and returns when they can be read.
	Fill(ctx context.Context, keys, values []string) error
	// Close ends what the cache runs in the background, where it can be ended.
	Close()
}

// A Container is a Local that is written without Redis. All but the plain map
// may be used by many goroutines at once.
type Container interface {
	Local
	// Sets sets each key to value. A peer that sets in the background is not waited for.
	Sets(keys []string, value string)
	// Fetch looks each key up, sets those that are not there to value, and
	// returns how many were.
	Fetch(keys []string, value string) int
}

// A LocalPeer makes a Local.
type LocalPeer struct {
	Name   string
	Module string // "" for Go's own
	Expiry bool   // entries have a TTL
	Bound  bool   // keeps to a capacity
	Safe   bool   // may be written while others read and write
	New    func(capacity int) (Container, error)
}

const flipcache = "github.com/flipcache/flipcache"

// Locals returns the peers that are written without Redis, FlipCache's
// containers last.
func Locals() []LocalPeer {
	return []LocalPeer{
		{Name: "map", New: newMap},
		{Name: "sync.Map", Safe: true, New: newSyncMap},
		{Name: "xsync.Map", Module: "github.com/puzpuzpuz/xsync/v4", Safe: true, New: newXsync},
		{Name: "otter", Module: otterModule, Bound: true, Safe: true, New: newOtter},
		{Name: "otter+ttl", Module: otterModule, Expiry: true, Bound: true, Safe: true, New: newOtterTTL},
		{Name: "theine", Module: "github.com/Yiling-J/theine-go", Expiry: true, Bound: true, Safe: true, New: newTheine},
		{Name: "ristretto", Module: "github.com/dgraph-io/ristretto/v2", Expiry: true, Bound: true, Safe: true, New: newRistretto},
		{Name: "golang-lru", Module: golangLRUModule, Bound: true, Safe: true, New: newGolangLRU},
		{Name: "golang-lru/expirable", Module: golangLRUModule, Expiry: true, Bound: true, Safe: true, New: newExpirable},
		{Name: "freelru", Module: "github.com/elastic/go-freelru", Expiry: true, Bound: true, Safe: true, New: newFreeLRU},
		{Name: "sturdyc", Module: "github.com/viccon/sturdyc", Expiry: true, Bound: true, Safe: true, New: newSturdyc},
		{Name: "ttlcache", Module: "github.com/jellydator/ttlcache/v3", Expiry: true, Bound: true, Safe: true, New: newTTLCache},
		{Name: "flipcache/lru", Module: flipcache, Bound: true, Safe: true, New: newFlipcacheLRU},
		{Name: "flipcache/fifo+ttl", Module: flipcache, Expiry: true, Bound: true, Safe: true, New: newFlipcacheFIFOTTL},
		{Name: "flipcache/fifo", Module: flipcache, Bound: true, Safe: true, New: newFlipcacheFIFO},
	}
}

// Missing are the peers that are left out, as their modules cannot be had by the
// Go module proxy that this was built with.
var Missing = []string{"samber/hot", "unkn0wn-root/cascache", "redis/rueidis' rueidisaside"}
