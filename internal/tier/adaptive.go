package tier

// The adaptive policy, of one shard. A hit only bumps a small counter on its
// entry; all else happens here, under the shard's lock, when a new key needs
// room.
//
//	new key ─▶ window ─ head = candidate c ─▶ DUEL ◀─ victim v = coldest of 6 ─ main
//	             ▲                            │  │                               ▲ ▲
//	             │           loser of the duel│  └── c wins: to main's tail ─────┘ │
//	         returning ◀── ghosts ◀───────────┘                                    │
//	             key         └── back soon after it was deleted ───────────────────┘
//
// The one with the lower frequency leaves, and a tie keeps v. Frequencies decay,
// and how fast is learned: slowly is like LFU, which keeps loops and what is hot
// for long; fast is like FIFO with a second chance, which follows a set that
// moves. So is the window's size. Both are learned from votes: a duel that a slow
// and a fast decay would judge differently is marked on both sides, and whichever
// side is used again soon votes for the rule that had favoured it. "Used again"
// is a ghost found when the key comes back, or a hit seen when main's walk meets
// the entry, so that both sides are watched whatever was decided.
//
// A deleted key (its value was replaced elsewhere) leaves a ghost with all that
// was known of it: when it is read again it is where it was.
//
// It was tuned and judged by simulation, see docs/decisions/0010-local-tier.md;
// none of the parameters is critical. Its ancestors are S3-FIFO (Yang, SOSP'23),
// W-TinyLFU (Einziger, 2017) and ARC (Megiddo, FAST'03).
//
// Time is counted in ticks of 1/16 of the shard's capacity in inserts.
const (
	ticksPerCapacity = 16
	timeMask         = 1<<9 - 1

	windowStart = 0.05 // of the capacity
	windowMin   = 0.01
	windowMax   = 0.40
	windowStep  = 0.25 // entries a vote

	halfRest = 64.0 // half-life of a frequency: at the start, and where it goes with few votes
	halfMin  = 6.0
	halfMax  = 128.0
	halfStep = 2.8 // a vote multiplies the half-life by 1 ± halfStep/capacity

	newcomerWeight = 0.7 // of a vote for the newcomer: many are used just once more
	soon           = 8   // ticks in which a reuse is a vote on the half-life
	near           = 3   // ticks in which a reuse is a vote on the window
	quietShare     = 32  // fewer than 1 vote in so many inserts is quiet
	quietPull      = 0.5 / ticksPerCapacity
	silentTicks    = 8 // quiet ticks in a row that are a silence
	silentPull     = 4.0 / ticksPerCapacity

	sampled   = 6  // entries of main, not hit, that are compared for a victim
	maxSteps  = 64 // entries of main passed at most: eviction runs under a lock
	freed     = 2  // entries that an insert moves from the window to main, at most, where that has room
	visitMax  = 3
	freqMax   = 15
	staleTick = 255 // not hit for so long: frequency 0, before the 9 bits of time wrap
)

// mark is what is remembered of an entry's last duel, and where it is. A ghost
// keeps the first four.
type mark uint8

const (
	contested mark = 1 << iota // a fast and a slow decay would have judged it differently
	rejected                   // the candidate was turned away
	ofMain                     // the key was on main's side
	deleted                    // it did not leave by a duel
	inMain                     // the entry is in main now

	duel = contested | rejected | ofMain
)

// hit counts a hit. It is written only while it changes: readers of a hot entry
// share its line of memory. Hits at the same time may count as one.
func (e *Entry[K, V]) hit() {
	if v := e.visited.Load(); v < visitMax {
		e.visited.Store(v + 1)
	}
}

// adaptive is the policy's state. Its methods need the shard's lock.
type adaptive[K comparable, V any] struct {
	hash         *hasher[K]
	capacity     int // entries; where bytes bound the shard, what it held when it was last full
	window, main queue[K, V]
	ghosts       ghosts

	windowTarget float64
	half         float64 // half-life of a frequency, in ticks

	tick    uint16 // the time
	inserts int    // in this tick
	votes   int    // on the half-life, in this tick
	quiet   int    // ticks in a row with hardly any
}

func (p *adaptive[K, V]) init(capacity int, hash *hasher[K]) {
	p.hash, p.capacity = hash, capacity
	p.windowTarget = windowStart * float64(capacity)
	p.half = halfRest
	p.empty()
}

// empty forgets the entries, and keeps what was learned.
func (p *adaptive[K, V]) empty() {
	p.window.empty()
	p.main.empty()
}

func (p *adaptive[K, V]) len() int { return p.window.n + p.main.n }

// resize tells that a full shard holds capacity entries.
func (p *adaptive[K, V]) resize(capacity int) {
	p.windowTarget *= float64(capacity) / float64(p.capacity)
	p.capacity = capacity
}

// arrive tells that the key with this hash is going to be added, before room
// is made for it. It sets e's frequency and where it belongs.
func (p *adaptive[K, V]) arrive(hash uint64, e *Entry[K, V]) {
	p.advance()
	freq := 1
	if g, found := p.ghosts.take(hash); found {
		age := age(p.tick, g.time)
		freq += decay(g.freq, age, p.half)
		if g.mark&deleted != 0 {
			if g.mark&ofMain != 0 && age <= near {
				e.mark |= inMain
			}
		} else {
			p.reused(g.mark, age, true)
		}
	}
	e.freq, e.stamp = uint8(min(freq, freqMax)), p.tick
	for i := 0; i < freed && p.window.n > p.target() && p.main.n < p.capacity-p.target(); i++ {
		p.promote(p.window.head())
	}
}

// add links e, which has arrived.
func (p *adaptive[K, V]) add(e *Entry[K, V]) { p.queue(e).push(e) }

func (p *adaptive[K, V]) queue(e *Entry[K, V]) *queue[K, V] {
	if e.mark&inMain != 0 {
		return &p.main
	}
	return &p.window
}

// replace puts e where old is, an entry of the same key, as a hit.
func (p *adaptive[K, V]) replace(old, e *Entry[K, V]) {
	e.visited.Store(min(old.visited.Load()+1, visitMax))
	e.freq, e.mark, e.stamp, e.duelAt = old.freq, old.mark, old.stamp, old.duelAt
	q := p.queue(old)
	q.insert(e, old)
	q.remove(old)
}

// delete unlinks e, which leaves for no other entry.
func (p *adaptive[K, V]) delete(e *Entry[K, V]) {
	m := deleted
	if e.mark&inMain != 0 {
		m |= ofMain
	}
	p.bury(e, m)
}

// evict unlinks the entry that leaves, and returns it. now is the time: what has
// expired leaves first, if it is met.
//
// REQUIRES: p.len() > 0.
func (p *adaptive[K, V]) evict(now int64) *Entry[K, V] {
	c := p.window.head()
	switch {
	case p.window.n > 0 && c.Deadline <= now:
		p.delete(c)
		return c
	case p.main.n == 0:
		p.bury(c, 0)
		return c
	}
	v := p.victim(now)
	switch {
	case v.Deadline <= now:
		p.delete(v)
		return v
	case p.window.n < p.target():
		p.bury(v, ofMain)
		return v
	}
	if c.visited.Load() > 0 && p.score(c, p.half) <= p.score(v, p.half) {
		p.harvest(c) // hit in the window, yet too cold for main: one more round
		p.window.rotate(c)
		c = p.window.head()
	}
	warmth := p.score(c, p.half)
	var m mark
	if warmth > p.score(v, halfMin) && warmth <= p.score(v, halfMax) {
		m = contested
	}
	if warmth > p.score(v, p.half) {
		c.mark, c.duelAt = c.mark&^duel|m, p.tick
		p.bury(v, m|ofMain)
		p.promote(c)
		return v
	}
	v.mark, v.duelAt = v.mark&^duel|m|ofMain|rejected, p.tick
	p.bury(c, m|rejected)
	return c
}

// victim walks over main from its head. What was hit goes on to the tail, and so
// does the rest; the coldest of a sample of those that were not is returned, or
// the first that has expired. It is still linked.
func (p *adaptive[K, V]) victim(now int64) *Entry[K, V] {
	var best *Entry[K, V]
	coldest := 0
	for steps, seen := 0, 0; steps < maxSteps && seen < min(sampled, p.main.n); steps++ {
		e := p.main.head()
		if e.Deadline <= now {
			return e
		}
		p.main.rotate(e)
		if e.visited.Load() > 0 {
			p.reused(e.mark, age(p.tick, e.duelAt), false)
			e.mark &^= duel
			p.harvest(e)
			continue
		}
		seen++
		if age(p.tick, e.stamp) > staleTick {
			e.freq, e.stamp = 0, p.tick
			e.mark &^= duel
		}
		if score := p.score(e, p.half); best == nil || score < coldest {
			best, coldest = e, score
		}
	}
	if best == nil {
		best = p.main.head()
	}
	return best
}

// reused casts the votes of a side of a duel that was used again when it was
// age ticks ago: after it had left, or where it had stayed.
func (p *adaptive[K, V]) reused(m mark, age int, left bool) {
	if m&contested != 0 && age <= soon {
		step := halfStep / float64(p.capacity)
		if m&ofMain == 0 {
			step *= -newcomerWeight
		}
		p.half = min(max(p.half*(1+step), halfMin), halfMax)
		p.votes++
	}
	if m&rejected != 0 && age <= near {
		step := -windowStep // the rival in main was needed
		if left {
			step = windowStep * newcomerWeight // the candidate was
		}
		c := float64(p.capacity)
		p.windowTarget = min(max(p.windowTarget+step, windowMin*c), windowMax*c)
	}
}

// advance moves the time. In a tick with hardly any vote a short half-life
// recovers, so that no change of what is asked for leaves it stuck; in a silence
// it goes to its longest: where nothing is used again there is no reason to
// replace anything.
func (p *adaptive[K, V]) advance() {
	perTick := max(1, p.capacity/ticksPerCapacity)
	if p.inserts++; p.inserts < perTick {
		return
	}
	p.inserts = 0
	p.tick = (p.tick + 1) & timeMask
	p.quiet++
	if p.votes*quietShare >= perTick {
		p.quiet = 0
	} else if p.half < halfRest {
		p.half += (halfRest - p.half) * quietPull
	}
	if p.quiet >= silentTicks {
		p.half += (halfMax - p.half) * silentPull
	}
	p.votes = 0
}

// target is how many entries the window is to have.
func (p *adaptive[K, V]) target() int {
	return min(max(1, int(p.windowTarget)), max(1, p.capacity-1))
}

func age(now, since uint16) int { return int(now-since) & timeMask }

func decay(freq uint8, age int, half float64) int { return int(freq) >> uint(float64(age)/half) }

// score is how warm e is, with that half-life.
func (p *adaptive[K, V]) score(e *Entry[K, V], half float64) int {
	return decay(e.freq, age(p.tick, e.stamp), half) + int(e.visited.Load())
}

// harvest makes the hits since the last look at e part of its frequency.
func (p *adaptive[K, V]) harvest(e *Entry[K, V]) {
	e.freq, e.stamp = uint8(min(p.score(e, p.half), freqMax)), p.tick
	e.visited.Store(0)
}

func (p *adaptive[K, V]) promote(e *Entry[K, V]) {
	p.window.remove(e)
	p.harvest(e)
	e.mark |= inMain
	p.main.push(e)
}

// bury unlinks e and leaves a ghost. There are as many of those as the entries
// that the shard has ever held ask for, not its capacity.
func (p *adaptive[K, V]) bury(e *Entry[K, V], m mark) {
	if n := p.len(); len(p.ghosts) < ghostsPerSlot*min(n, p.capacity)/ghostWays*ghostWays {
		p.ghosts = newGhosts(min(2*n, p.capacity))
	}
	if len(p.ghosts) == 0 {
		p.ghosts = newGhosts(1)
	}
	p.ghosts.put(p.hash.hash(e.key), ghost{freq: uint8(min(p.score(e, p.half), freqMax)), time: p.tick, mark: m})
	p.queue(e).remove(e)
}
