// Package invalidate keeps the local tiers of many processes honest: it carries
// "this key was changed" from the process that wrote to all others, in one
// ordered stream a process.
//
// Users of the cache need three names of it: [Mode], the flag that switches
// invalidation on in hybrid.StoreOptions, and [State] with its [Status], which
// say whether this process hears the others, and if not, why. The rest is what
// package hybrid is built on.
//
// # How a message travels
//
//	writer                     Redis                       every other process
//	MULTI SET k v      ──────▶ value and message in one
//	PUBLISH channel m          step, in one order  ──────▶ stream: drop k, then the
//	EXEC               ◀────── reply                       next message
//
// A [Stream] hears by one connection. In [PubSub] it only subscribes. In
// [Tracking] it carries the reads and writes of the caches as well, and Redis
// itself says which of the keys that were read have changed. What comes is
// handed to the tiers in the order in which Redis sent it, by one goroutine at a
// time, which never waits for Redis and never runs a user's code.
//
// When the connection is lost, refused, or silent, that is a cut: each [Tier] is
// told, which suspends and empties it; the stream sets itself up anew with growing,
// jittered pauses, and a tier is live again once its own channel is confirmed, or
// a probe was answered. Nothing that was said in between can be missed unseen:
// what it would have dropped is no longer there.
//
// # Probes and the lease
//
// Every 5 seconds, or every third of Config.MaxStaleness, a probe goes to Redis and
// comes back the way that invalidations come. Unanswered, it is a cut. Answered, it
// extends the lease: what a tier holds then was not replaced before the probe was
// sent. docs/lease.md has the proof, docs/model the models.
//
// Where to look: stream.go is what both ways have in common, pubsub.go and
// tracking.go are the two, lease.go is the lease, message.go the wire format.
//
// # Caveats
//
// Pub/sub delivers at most once and tells nobody what it lost. Without a lease a
// process that is stopped (SIGSTOP, a frozen machine) notices nothing until it runs
// again. In PubSub, Redis' own expiry and eviction, and programs that do not use this
// library, are not announced; docs/modes.md says what Tracking does not hear.
package invalidate
