// Package fifo holds containers of a fixed capacity that evict the entry which
// came first. [Cache] is for one goroutine, [Locked] for any number. Both are
// maps in the order of insertion: neither a Get nor a Set of a key that is there
// moves its entry. A hit and an update allocate nothing.
//
// They know no time and no Redis; the cache with both is in package hybrid.
// Package lru has the same containers in the order of use.
//
// # Caveats
//
// An entry in constant use leaves when its turn comes, like any other.
package fifo
