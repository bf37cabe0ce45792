package invalidate

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/flipcache/flipcache/internal/clock"
	"github.com/flipcache/flipcache/internal/flights"
	"github.com/flipcache/flipcache/internal/tier"
)

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

const simName = "n"

// simProc is a process: the shipped stream and table, and in place of goroutines a
// list of what is ready to go on.
type simProc struct {
	w        *world
	id       int
	stream   *Stream
	pubsub   *pubsub   // or nil
	tracking *tracking // or nil
	topic    *topic
	table    *flights.Table[int, int] // of positions in the key's history
	tier     *tier.Tier[int, int]     // of table
	lease    *atomic.Int64
	dialed   atomic.Int64
	member   Member

	data     []*simConn // that carry commands, dialled when they are needed
	ready    []simTask
	waits    []simWait
	batches  []*simBatch // without their replies
	acks     []*simAck
	hold     simHold
	underWay int // operations

	stopped   int   // the whole process, by a step under way
	frozen    int64 // until then
	dead      bool
	locked    bool  // a lock of the table or of the stream is held
	loading   bool  // what the table starts now is a load
	lastClock int64 // what the clock said last
}

// simTask is a goroutine between two of its steps.
type simTask struct {
	name string
	run  func()
}

// simWait is a reader that waits for a flight.
type simWait struct {
	f    *flights.Flight[int, int]
	done func(flights.Reply[int])
}

// simAck is a writer that waits for confirmations.
type simAck struct {
	q    *question
	look int64 // when to look again
	done func()
}

// simTier is the cache as the stream sees it.
type simTier struct{ p *simProc }

func (t simTier) Drop(key string, nonce uint64, own bool) {
	k, _ := strconv.Atoi(key)
	t.p.w.logf("p%d hears of k%d, nonce %d, own %t", t.p.id, k, nonce, own)
	t.p.table.Message(k, nonce, own)
}

func (t simTier) Push(key string) {
	k, _ := strconv.Atoi(key)
	t.p.w.logf("p%d hears a push of k%d", t.p.id, k)
	t.p.table.Push(k)
}

func (t simTier) DropAll() { t.p.w.logf("p%d drops all", t.p.id); t.p.table.DropAll() }
func (t simTier) Cut()     { t.p.w.logf("p%d is cut", t.p.id); t.p.w.stats.cuts++; t.p.table.Cut() }
func (t simTier) Resume()  { t.p.w.logf("p%d is live", t.p.id); t.p.table.Resume() }

func newSimProc(w *world, id, life int) *simProc {
	p := &simProc{w: w, id: id}
	cfg := Config{Mode: w.cfg.mode, Timeout: w.cfg.timeout, MaxStaleness: w.cfg.lease, Dialed: &p.dialed, now: p.now, probeEvery: 20 * time.Millisecond}
	if w.cfg.lease > 0 {
		p.lease = new(atomic.Int64)
		cfg.Lease = p.lease
	}
	s := newStream(cfg)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.acks.start.Do(func() {}) // tend sends what is owed
	s.sender = Sender{byte(id + 1), byte(life)}
	p.stream = s
	p.topic = &topic{tier: simTier{p}}
	s.topics[simName], s.longest = p.topic, len(simName)
	if w.cfg.mode == Tracking {
		p.tracking = &tracking{s: s, conns: make(map[string]*tracked), masters: make(map[string]bool)}
		s.ear = p.tracking
	} else {
		p.pubsub = &pubsub{s: s, self: selfChannel(s.sender)}
		s.ear = p.pubsub
	}
	p.member = Member{ID: s.sender.String(), Mode: w.cfg.mode, Lease: w.cfg.lease, Where: fmt.Sprintf("p%d", id)}
	// FIFO and so few entries that there is one shard: what is evicted is always the same.
	p.tier = tier.New[int, int](tier.Bounds{Entries: w.cfg.size}, tier.FIFO)
	p.table = flights.New(p.tier, clock.NewManual(p.now), p.lease)
	p.table.SetStart(func(f *flights.Flight[int, int]) {
		if p.loading {
			p.later("send load", func() { p.sendLoad(f) })
		} else {
			p.later("send fill", func() { p.sendFill(f, false) })
		}
	})
	p.data = make([]*simConn, 2)
	if w.cfg.mode == Tracking {
		p.data = p.data[:1]
	}
	return p
}

// now is the process's clock: whoever reads it may be stopped just before.
func (p *simProc) now() int64 {
	w := p.w
	if w.rng != nil && w.depth == 0 && !w.quieting && w.failed == "" && w.rng.one(40) {
		w.sleep(p, p.locked || w.rng.one(2))
	}
	p.lastClock = w.now
	return w.now
}

// held runs f, in which locks are held.
func (p *simProc) held(f func()) {
	p.locked = true
	f()
	p.locked = false
}

func (p *simProc) runs() bool { return !p.dead && p.stopped == 0 && p.frozen <= p.w.now }

func (p *simProc) later(name string, run func()) {
	if !p.dead {
		p.ready = append(p.ready, simTask{name, run})
	}
}

func (p *simProc) runOne(i int) {
	t := p.ready[i]
	p.ready = append(p.ready[:i], p.ready[i+1:]...)
	p.w.logf("p%d: %s", p.id, t.name)
	t.run()
}

// conn returns a connection for commands.
func (p *simProc) conn() *simConn {
	i := p.w.rng.n(len(p.data))
	if c := p.data[i]; c != nil && !c.closed {
		return c
	}
	c := p.dial("data")
	p.data[i] = c
	if p.tracking != nil {
		c.tracks = make([]bool, p.w.cfg.keys)
		p.held(func() { c.tracked = p.tracking.dialed(c, "a") })
	} else {
		p.dialed.Store(p.now())
	}
	return c
}

func (p *simProc) dial(name string) *simConn {
	c := &simConn{p: p, name: name}
	p.w.redis.conns = append(p.w.redis.conns, c)
	p.w.logf("p%d dials, %s", p.id, name)
	return c
}

// Close has what waits for c fail, each on its own goroutine. What was sent may
// still arrive.
func (c *simConn) Close() error {
	if c.closed {
		return nil
	}
	c.closed, c.in = true, nil
	for _, b := range append([]*simBatch(nil), c.p.batches...) {
		if b.conn == c {
			c.p.ended(b, nil, errSimLost)
		}
	}
	if len(c.out) == 0 {
		c.p.w.redis.drop(c)
	}
	return nil
}

// send sends commands together. done is called, on a goroutine of its own, with
// their replies or an error.
func (p *simProc) send(c *simConn, name string, done func([]simReply, error), run ...func(*simConn) simReply) *simBatch {
	b := &simBatch{name: name, conn: c, n: len(run), run: run, done: done, deadline: p.w.now + int64(p.w.cfg.timeout)}
	p.batches = append(p.batches, b)
	p.w.logf("p%d sends %s", p.id, name)
	for _, f := range run {
		c.out = append(c.out, simCommand{b, f})
	}
	if c.closed { // lost just before
		p.ended(b, nil, errSimLost)
	}
	return b
}

func (p *simProc) ended(b *simBatch, replies []simReply, err error) {
	for i, o := range p.batches {
		if o == b {
			p.batches = append(p.batches[:i], p.batches[i+1:]...)
			p.later(b.name+" has its reply", func() {
				if err != nil {
					p.w.logf("p%d: %s: %v", p.id, b.name, err)
				}
				b.done(replies, err)
			})
			return
		}
	}
}

// hear reads one thing from c.
func (p *simProc) hear(c *simConn) bool {
	if c.closed {
		return false
	}
	if len(c.in) == 0 {
		if c.deaf && c.endAt > 0 && p.w.now >= c.endAt {
			c.in, c.endAt = append(c.in, simItem{kind: 'e'}), 0
		} else {
			return false
		}
	}
	it := c.in[0]
	c.in = c.in[1:]
	if c.tracked != nil && it.kind != 'e' {
		c.tracked.answered.Store(true)
	}
	switch it.kind {
	case 'r':
		it.batch.replies = append(it.batch.replies, it.reply)
		if len(it.batch.replies) == it.batch.n {
			p.ended(it.batch, it.batch.replies, nil)
		}
	case 'k':
		p.held(func() {
			p.stream.mu.Lock()
			defer p.stream.mu.Unlock()
			p.stream.push(simName + ":" + itoa(int64(it.key)))
		})
	case 's':
		p.held(func() {
			p.pubsub.onSubscription(c.session, rueidis.PubSubSubscription{Kind: "subscribe", Channel: it.channel})
		})
	case 'm':
		m := rueidis.PubSubMessage{Channel: it.channel, Message: it.text}
		if p.tracking != nil {
			p.later("hears a message", func() { p.tracking.hearsAt(nil, "")(m) })
		} else {
			p.held(func() { p.pubsub.onMessage(c.session, m) })
		}
	case 'e':
		p.lost(c)
	}
	return true
}

// lost tells that a connection has ended.
func (p *simProc) lost(c *simConn) {
	p.w.logf("p%d: a connection has ended, %s", p.id, c.name)
	if c.tracked != nil {
		p.held(func() { c.tracked.end(errSimLost) })
		p.later("hears that all may have changed", func() { p.held(func() { p.tracking.onInvalidations(nil) }) })
	} else if c.session != 0 {
		p.later("tells the stream of its end", func() { p.held(func() { p.stream.fail(c.session, lossOf(errSimLost)) }) })
	}
	c.Close()
}

// tend looks after what hangs on time, or on a channel.
func (p *simProc) tend() bool {
	switch p.w.rng.n(4) {
	case 0:
		return p.holds() || p.settles() || p.expires() || p.answers()
	case 1:
		return p.settles() || p.expires() || p.answers() || p.holds()
	case 2:
		return p.expires() || p.answers() || p.holds() || p.settles()
	default:
		return p.answers() || p.holds() || p.settles() || p.expires()
	}
}

// expires has one command time out.
func (p *simProc) expires() bool {
	for _, b := range p.batches {
		if b.deadline <= p.w.now {
			p.ended(b, nil, errSimTimeout)
			return true
		}
	}
	return false
}

// answers sends what is owed to writers who have asked.
func (p *simProc) answers() bool {
	select {
	case a := <-p.stream.acks.owed:
		message := string(appendHeader(nil, kindAnswer, p.stream.sender, a.id))
		p.send(p.conn(), "an answer", func([]simReply, error) {}, func(*simConn) simReply {
			p.w.redis.publish(a.channel, message)
			return simReply{}
		})
		return true
	default:
		return false
	}
}

// settles has one writer look whether it has waited for long enough.
func (p *simProc) settles() bool {
	return p.w.some(len(p.acks), func(i int) bool {
		a := p.acks[i]
		if len(a.q.changed) == 0 && p.w.now < a.look {
			return false
		}
		select {
		case <-a.q.changed:
		default:
		}
		var left time.Duration
		p.held(func() { left = p.stream.settle(a.q) })
		if left > 0 {
			a.look = p.w.now + int64(left)
			return true
		}
		p.acks = append(p.acks[:i], p.acks[i+1:]...)
		p.stream.forget(a.q)
		p.later("all have confirmed", a.done)
		return true
	})
}

// dies ends the process without a word, and starts another.
func (p *simProc) dies() {
	p.w.logf("p%d dies", p.id)
	p.w.stats.restarts++
	p.dead = true
	p.stream.cancel()
	for _, c := range append([]*simConn(nil), p.w.redis.conns...) {
		if c.p == p {
			c.channels, c.tracks = nil, nil
			c.Close()
		}
	}
	p.w.procs[p.id] = newSimProc(p.w, p.id, int(p.stream.sender[1])+1)
	p.w.judge.born(p.id)
}

func (p *simProc) unquiet() string {
	switch {
	case p.frozen > p.w.now:
		return "frozen"
	case len(p.ready) > 0:
		return "is at work: " + p.ready[0].name
	case len(p.batches) > 0:
		return "waits for " + p.batches[0].name
	case len(p.waits) > 0:
		return "a reader waits"
	case len(p.acks) > 0:
		return "a writer waits for confirmations"
	case p.underWay != 0:
		return fmt.Sprintf("%d operations are under way", p.underWay)
	case p.stream.State().Status != Live:
		return "is " + p.stream.State().String()
	}
	for _, c := range p.w.redis.conns {
		if c.p == p && len(c.out) > 0 {
			return "has sent what has not arrived"
		}
		if c.p == p && c.deaf && !c.closed {
			return "has not noticed that a connection is deaf"
		}
	}
	return ""
}
