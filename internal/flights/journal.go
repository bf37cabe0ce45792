package flights

import "github.com/flipcache/flipcache/internal/tier"

// An Event is one of those that decide what the tier holds of a key.
type Event struct {
	At   int64 // on the table's clock
	What string
}

// What happens. Events without a key are of all keys.
const (
	fillSent     = "a fill was sent"
	fillDetached = "a fill was sent, detached: the cache is cut or cleared, or a write is open"
	fillInserted = "a fill ended: inserted"
	fillDropped  = "a fill ended: not inserted"
	writeBegun   = "a write began: dropped"
	writeInsert  = "a write ended: inserted"
	writeDropped = "a write ended: not inserted"
	messageCame  = "another process' write was heard: dropped"
	ownEcho      = "this process' write was heard"
	pushCame     = "Redis told of a change: dropped"
	allDropped   = "all keys: dropped"
	cut          = "cut: all dropped"
	resumed      = "resumed"
	clearBegun   = "a clear began: all dropped"
	clearEnded   = "a clear ended: all dropped"
)

// perShard is how many events a shard remembers.
const perShard = 256

// A journal is a ring of a shard's last events. Each is guarded by its shard's lock.
type journal[K comparable] struct {
	last [perShard]record[K]
	n    int // noted so far
}

type record[K comparable] struct {
	Event
	key K
	all bool // of all keys
}

// Journal has the table remember what happens. Call it before anything else.
func (t *Table[K, V]) Journal() {
	for i := range t.shards {
		t.shards[i].journal = new(journal[K])
	}
}

// Events returns what the table remembers of key and of all keys, oldest first.
func (t *Table[K, V]) Events(key K) (events []Event) {
	s := t.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.journal == nil {
		return nil
	}
	for i := max(0, s.journal.n-perShard); i < s.journal.n; i++ {
		if r := &s.journal.last[i%perShard]; r.all || r.key == key {
			events = append(events, r.Event)
		}
	}
	return events
}

// note remembers what happened to key, if the table keeps a journal.
//
// REQUIRES: s.mu held.
func (t *Table[K, V]) note(s *shard[K, V], key K, what string) {
	if s.journal != nil {
		s.journal.add(record[K]{Event{t.clock.Exact(), what}, key, false})
	}
}

// noteAll is note for what happens to all keys of the shard.
//
// REQUIRES: s.mu held.
func (t *Table[K, V]) noteAll(s *shard[K, V], what string) {
	if s.journal != nil {
		s.journal.add(record[K]{Event: Event{t.clock.Exact(), what}, all: true})
	}
}

func (j *journal[K]) add(r record[K]) {
	j.last[j.n%perShard] = r
	j.n++
}

// Serves says whether a hit of e's key would return e now. It counts no access.
func (t *Table[K, V]) Serves(e *tier.Entry[K, V]) bool {
	until := t.Until()
	return t.tier.Peek(e.Key()) == e && t.clock.Ahead(e.Deadline, until)
}
