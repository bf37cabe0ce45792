package main

// A topic is a table and a panel of the plot.
type topic struct {
	title   string
	text    string
	unit    string
	columns []column
	// base is the side that the others' ratios are by.
	base string
}

// A column is a benchmark and what is said of it.
type column struct{ benchmark, head string }

func parallel(benchmark string) []column {
	return []column{{benchmark + "/goroutines=1", "one goroutine"}, {benchmark + "/goroutines=2", "two in parallel"}}
}

func crowded(benchmark string) []column {
	return []column{{benchmark + "/goroutines=1", "one goroutine"}, {benchmark + "/goroutines=64", "64 at once"}}
}

const nanoseconds, bytes = "ns/op", "B/entry"

// topics are what the report shows, in its order.
var topics = []topic{
	{"Local hit", "1,000 keys, strings by strings, all there. A TTL is set where the peer knows one.",
		nanoseconds, parallel("Hit"), "flipcache"},
	{"Local hit, 100,000 keys", "All there; which is read goes by Zipf(1), so that many reads wait for memory.",
		nanoseconds, parallel("Zipf"), "flipcache"},
	{"Two-tier hit", "1,000 users, a small struct, all in the local tier. The peers keep bytes and decode at each hit; rueidis/bytes stops before that.",
		nanoseconds, parallel("TwoTierHit"), "flipcache"},
	{"Two-tier miss", "A user that only Redis has; it enters the local tier and evicts another.",
		nanoseconds, crowded("TwoTierMiss"), "flipcache"},
	{"Two-tier Set", "What it does beside the SET differs: see how others hear.",
		nanoseconds, crowded("TwoTierSet"), "flipcache"},
	{"GetMany", "100 users in one call, which is what the figures are of. go-redis keeps the reply to an MGET whole, by its list of keys.",
		nanoseconds, []column{{"TwoTierGetMany/where=local/goroutines=1", "all local"}, {"TwoTierGetMany/where=redis/goroutines=1", "all in Redis"}}, "flipcache"},
	{"Absent", "1,000 keys that are not there, looked up in a cache without Redis.",
		nanoseconds, []column{{"Absent/goroutines=1", "one goroutine"}}, "flipcache/fifo"},
	{"Local set", "1,000 keys that are there. ristretto and theine do part of the work later.",
		nanoseconds, parallel("Set"), "flipcache/fifo"},
	{"Miss and evict", "Eight goroutines look up what is not there and set it, which evicts. Capacity 10,000. ristretto drops sets instead.",
		nanoseconds, []column{{"Churn/goroutines=8", "eight goroutines"}}, "flipcache/fifo"},
	{"Memory an entry", "What 100,000 entries add to the heap after a garbage collection, less the bytes of keys and values; the headers of the two strings, 32 bytes, count. Capacity 110,000; what is taken in advance counts.",
		bytes, []column{{"Memory", "bytes"}}, "flipcache"},
}
