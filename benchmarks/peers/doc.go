// Package peers holds what FlipCache is measured beside: one adapter a peer,
// each at the settings that its own documentation gives for speed, and the
// benchmarks that run them side by side (make bench-peers).
//
//	Local     caches of one process: Locals
//	Container a Local that evicts and is written without Redis
//	TwoTier   caches with Redis behind them: TwoTiers
//
// The loops over keys stand in each adapter, where one over an interface would
// be shorter: so the calls in them are direct, as a program's own are. A map
// lookup costs as little as such an indirection.
//
// Left out, for their modules cannot be had by the Go module proxy that this was
// built with: samber/hot, unkn0wn-root/cascache, and rueidisaside of
// redis/rueidis.
package peers
