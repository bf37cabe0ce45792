// Package fifo holds containers of a fixed capacity whose entries stand in line.
//
// [Cache] is for one goroutine, [Locked] for any number. Both evict the entry which
// came first: they are maps in the order of insertion, and neither a Get nor a Set
// of a key that is there moves its entry. A hit and an update allocate nothing.
//
// [Concurrent] is the one to cache with. It is for any number of goroutines, its
// hits take no lock, its entries may have a TTL, and it evicts what is unlikely to
// be used again. It is the local tier of package hybrid, without Redis.
//
// Package lru has containers in the order of use.
//
// # Caveats
//
// In a Cache and a Locked, an entry in constant use leaves when its turn comes, like
// any other. A Concurrent that holds many entries can evict a little before it is
// full: each of its shards has a part of the capacity.
package fifo
