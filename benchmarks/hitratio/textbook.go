package hitratio

import "container/list"

// The policies of textbooks. An invalidation unlinks the entry, and no more. In
// each list the newest entry is in front.

// recency is LRU, and FIFO where hits move nothing.
type recency struct {
	capacity int
	moves    bool
	entries  map[uint64]*list.Element
	order    *list.List // of keys
}

func newRecency(capacity int, moves bool) (Cache, error) {
	return &recency{capacity, moves, make(map[uint64]*list.Element), list.New()}, nil
}

func newLRU(capacity int) (Cache, error)  { return newRecency(capacity, true) }
func newFIFO(capacity int) (Cache, error) { return newRecency(capacity, false) }

func (c *recency) Get(k uint64) bool {
	e, ok := c.entries[k]
	if ok && c.moves {
		c.order.MoveToFront(e)
	}
	return ok
}

func (c *recency) Set(k uint64) {
	if c.order.Len() >= c.capacity {
		delete(c.entries, c.order.Remove(c.order.Back()).(uint64))
	}
	c.entries[k] = c.order.PushFront(k)
}

func (c *recency) Invalidate(k uint64) {
	if e, ok := c.entries[k]; ok {
		c.order.Remove(e)
		delete(c.entries, k)
	}
}

func (c *recency) Len() int { return len(c.entries) }
func (c *recency) Close()   {}

// sieve is SIEVE (NSDI'24): a hand walks from the oldest entry to the newest, and
// evicts the first that nobody has visited since it came by.
type sieve struct {
	capacity int
	entries  map[uint64]*list.Element
	order    *list.List // of *sieveEntry
	hand     *list.Element
}

type sieveEntry struct {
	key     uint64
	visited bool
}

func newSieve(capacity int) (Cache, error) {
	return &sieve{capacity: capacity, entries: make(map[uint64]*list.Element), order: list.New()}, nil
}

func (c *sieve) Get(k uint64) bool {
	e, ok := c.entries[k]
	if ok {
		e.Value.(*sieveEntry).visited = true
	}
	return ok
}

func (c *sieve) Set(k uint64) {
	if c.order.Len() >= c.capacity {
		c.evict()
	}
	c.entries[k] = c.order.PushFront(&sieveEntry{key: k})
}

func (c *sieve) evict() {
	at := func(e *list.Element) *list.Element {
		if e == nil {
			return c.order.Back()
		}
		return e
	}
	e := at(c.hand)
	for ; e.Value.(*sieveEntry).visited; e = at(e.Prev()) {
		e.Value.(*sieveEntry).visited = false
	}
	c.hand = e.Prev()
	delete(c.entries, c.order.Remove(e).(*sieveEntry).key)
}

func (c *sieve) Invalidate(k uint64) {
	if e, ok := c.entries[k]; ok {
		if c.hand == e {
			c.hand = e.Prev()
		}
		c.order.Remove(e)
		delete(c.entries, k)
	}
}

func (c *sieve) Len() int { return len(c.entries) }
func (c *sieve) Close()   {}
