package hitratio

import "container/list"

// s3fifo is S3-FIFO (SOSP'23): a small queue of 10 % that new keys pass through, a
// main queue for those that were used there, and a queue of ghosts as long as
// main, from which a key that comes back goes to main at once.
type s3fifo struct {
	capacity, smallest int
	entries            map[uint64]*list.Element
	small, main        *list.List // of *s3Entry
	ghosts             map[uint64]*list.Element
	ghostOrder         *list.List // of keys
}

type s3Entry struct {
	key    uint64
	uses   int // at most 3
	inMain bool
}

func newS3FIFO(capacity int) (Cache, error) {
	return &s3fifo{
		capacity: capacity, smallest: max(1, capacity/10),
		entries: make(map[uint64]*list.Element), small: list.New(), main: list.New(),
		ghosts: make(map[uint64]*list.Element), ghostOrder: list.New(),
	}, nil
}

func (c *s3fifo) Get(k uint64) bool {
	e, ok := c.entries[k]
	if ok {
		s := e.Value.(*s3Entry)
		s.uses = min(3, s.uses+1)
	}
	return ok
}

func (c *s3fifo) Set(k uint64) {
	for len(c.entries) >= c.capacity {
		if c.small.Len() >= c.smallest {
			c.evictSmall()
		} else {
			c.evictMain()
		}
	}
	if e, ok := c.ghosts[k]; ok {
		c.ghostOrder.Remove(e)
		delete(c.ghosts, k)
		c.entries[k] = c.main.PushFront(&s3Entry{key: k, inMain: true})
		return
	}
	c.entries[k] = c.small.PushFront(&s3Entry{key: k})
}

// evictSmall evicts from the small queue, and moves to main what was used twice.
func (c *s3fifo) evictSmall() {
	room := c.capacity - c.smallest // of main, and of the ghosts
	for c.small.Len() > 0 {
		s := c.small.Remove(c.small.Back()).(*s3Entry)
		if s.uses > 1 {
			s.uses, s.inMain = 0, true
			c.entries[s.key] = c.main.PushFront(s)
			if c.main.Len() > room {
				c.evictMain()
				return
			}
			continue
		}
		delete(c.entries, s.key)
		c.ghosts[s.key] = c.ghostOrder.PushFront(s.key)
		if c.ghostOrder.Len() > room {
			delete(c.ghosts, c.ghostOrder.Remove(c.ghostOrder.Back()).(uint64))
		}
		return
	}
	c.evictMain()
}

// evictMain evicts the oldest that was not used; others have a use taken off and
// go round.
func (c *s3fifo) evictMain() {
	for c.main.Len() > 0 {
		e := c.main.Back()
		s := e.Value.(*s3Entry)
		if s.uses > 0 {
			s.uses--
			c.main.MoveToFront(e)
			continue
		}
		c.main.Remove(e)
		delete(c.entries, s.key)
		return
	}
}

func (c *s3fifo) Invalidate(k uint64) {
	e, ok := c.entries[k]
	if !ok {
		return
	}
	if e.Value.(*s3Entry).inMain {
		c.main.Remove(e)
	} else {
		c.small.Remove(e)
	}
	delete(c.entries, k)
}

func (c *s3fifo) Len() int { return len(c.entries) }
func (c *s3fifo) Close()   {}
