// Package benchmarks measures the library beside what a program would use in
// its place, in one run, on one machine. It is a module of its own, so that
// what it compares with is no dependency of the library's users.
//
// One file a topic:
//
//	hit_test.go        a read from the local tier, beside a Go map
//	set_test.go        a write with its announcement, beside the same bytes sent by hand
//	tracking_test.go   a write with invalidate.Tracking, beside SET
//	miss_test.go       a read from Redis, beside GET and [GET][PTTL]
//	containers_test.go lru and fifo, beside golang-lru
//	original_test.go   the Python package's own benchmark, redone
//	delivery_test.go   how long until another process has dropped its copy
//
// These are Go benchmarks. `make bench` runs them several times by cmd/bench,
// has benchstat compare, and leaves a report with the machine's name in
// results. A benchmark's sides run in turn, in short batches, within one
// process (internal/sides), so that noise of the machine meets all of them;
// what is reported is the median batch.
//
// cmd/fanout is a program of its own (`make bench-fanout`): what a write costs
// the server, by how many processes listen.
//
// Other caches are measured in package peers (`make bench-peers`, by cmd/peers):
// one adapter a peer, those of one process and those with Redis behind them, and
// their hits, misses, writes, eviction and memory side by side. Left out, as
// their modules cannot be had by the Go module proxy that this was built with:
// samber/hot, unkn0wn-root/cascache, and rueidisaside of redis/rueidis.
//
// Package hitratio simulates what a cache keeps, on traces (`make bench-hitratio`,
// by cmd/hitratio): the 54 cells of its report, or any file of accesses
// (TRACE=path; testdata/README.md has the formats).
//
// -short makes a short run of either: `make bench-peers BENCHFLAGS=-short`.
//
// cmd/coherence is a program of its own, too (`make bench-coherence`): how often
// and for how long processes read what is stale, through this library and through
// its peers, with faults and without.
package benchmarks
