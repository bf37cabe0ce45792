// Package lru holds containers of a fixed capacity that evict the entry which
// was not used for longest. [Cache] is for one goroutine, [Locked] for any
// number, and so is [Sharded], whose users wait less for each other. The first two
// are maps with one order: a Get, or a Set of a key that is there,
// makes the entry the youngest; Peek and Contains leave it where it is. A hit
// and an update allocate nothing.
//
// They know no time and no Redis; the cache with both is in package hybrid.
// Package fifo has the same containers in the order of insertion, and one that
// evicts better.
//
// The policy is as old as paging: Denning, "The working set model for program
// behavior", 1968; Mattson et al., "Evaluation techniques for storage
// hierarchies", 1970.
//
// # Caveats
//
// A scan of many keys that are used once pushes out all that is in use. A Get
// in a Locked takes its mutex, as it changes the order.
package lru
