package tier

// A Policy says which entry leaves when a new one needs its place.
type Policy uint8

const (
	// Adaptive is the policy of adaptive.go.
	Adaptive Policy = iota
	// LRU has the entry leave that was longest not read. Each hit locks a shard.
	LRU
	// FIFO has the entry leave that came first.
	FIFO
)

// queue is a ring through a sentinel: root.next is the head, which leaves
// first.
type queue[K comparable, V any] struct {
	root Entry[K, V]
	n    int
}

func (q *queue[K, V]) empty() {
	q.root.prev, q.root.next = &q.root, &q.root
	q.n = 0
}

func (q *queue[K, V]) head() *Entry[K, V] { return q.root.next }

func (q *queue[K, V]) push(e *Entry[K, V]) { q.insert(e, q.root.prev) }

// insert puts e behind prev.
func (q *queue[K, V]) insert(e, prev *Entry[K, V]) {
	e.prev, e.next = prev, prev.next
	e.prev.next, e.next.prev = e, e
	q.n++
}

func (q *queue[K, V]) remove(e *Entry[K, V]) {
	e.prev.next, e.next.prev = e.next, e.prev
	e.prev, e.next = nil, nil
	q.n--
}

func (q *queue[K, V]) rotate(e *Entry[K, V]) {
	q.remove(e)
	q.push(e)
}
