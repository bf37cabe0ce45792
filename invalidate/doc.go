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
// A [Stream] is one connection that only subscribes. Whatever comes on it is
// handed to the tiers in the order in which Redis sent it, by one goroutine at
// a time, which never waits for Redis and never runs a user's code.
//
// When the connection is lost, refused, or silent, that is a cut: each [Tier]
// is told, which suspends and empties it; the stream subscribes anew with
// growing, jittered pauses, and a tier is live again once the subscription of
// its own channel is confirmed. Nothing that was published in between can be
// missed unseen: what it would have dropped is no longer there.
//
// # Caveats
//
// Pub/sub delivers at most once and tells nobody what it lost. A subscriber that
// stays connected and is stopped (SIGSTOP, a frozen machine) hears nothing and
// notices nothing until it runs again. Redis' own expiry and eviction, and
// programs that do not use this library, are not announced.
package invalidate
