package invalidate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/flipcache/flipcache/internal/clock"
	"github.com/flipcache/flipcache/internal/flights"
)

// What the cache does between Redis' replies and the table, in the order of
// hybrid/read.go, write.go, load.go and namespace.go, a step at a time.

type simEntry = flights.Reply[int]

// ended has Wait return at once.
var simEnded = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// begin begins an operation.
func (p *simProc) begin() {
	w := p.w
	key := w.rng.n(w.cfg.keys)
	p.underWay++
	switch d := w.rng.n(100); {
	case w.cfg.calm && w.rng.n(4) > 0:
		p.read(key, false)
	case d < 64:
		p.read(key, false)
	case d < 67:
		p.read(key, true)
	case d < 73:
		p.load(key)
	case d < 74:
		p.clear()
	case d < 82:
		p.write(key, simWriting{what: "del", acked: w.cfg.acked && w.rng.one(2)})
	case d < 88:
		p.write(key, simWriting{what: "set", life: int64(1+w.rng.n(100)) * int64(time.Millisecond), acked: w.cfg.acked && w.rng.one(2)})
	case w.cfg.mode == Tracking && d < 94:
		p.underWay--
		w.foreign(key)
	default:
		p.write(key, simWriting{what: "set", acked: w.cfg.acked && w.rng.one(2)})
	}
}

// foreign is a writer outside of the library.
func (w *world) foreign(key int) {
	pos := 0
	if w.rng.one(3) {
		pos = w.redis.unlink(key)
	} else {
		pos = w.redis.set(key, w.redis.newVal(), 0)
	}
	w.logf("somebody else writes k%d: #%d", key, pos)
}

func (r *simRedis) newVal() int {
	r.lastVal++
	return r.lastVal
}

// read is Cache.Get, and with fresh that of a Fresh view.
func (p *simProc) read(key int, fresh bool) {
	r := p.w.judge.begin(p, key)
	r.fresh = fresh
	if !fresh {
		if e := p.table.Hit(key); e != nil {
			p.underWay--
			p.w.judge.returns(r, e.Value, true)
			return
		}
	}
	p.later("miss", func() {
		p.fill(r, fresh, func(reply simEntry, hit bool) {
			p.underWay--
			if reply.Err == nil {
				p.w.judge.returns(r, reply.Value, hit)
			}
		})
	})
}

// fill joins or opens a fill. hit says that the table found an entry.
func (p *simProc) fill(r simRead, fresh bool, done func(reply simEntry, hit bool)) {
	p.w.stats.fills++
	started := len(p.ready)
	var f *flights.Flight[int, int]
	p.held(func() { f = p.table.Fill(r.key, fresh, false, nil) })
	if reply := f.Wait(simEnded); !errors.Is(reply.Err, context.Canceled) {
		done(reply, true)
		return
	}
	if len(p.ready) == started {
		p.w.stats.joins++
	}
	p.wait(f, func(reply simEntry) { done(reply, false) })
}

func (p *simProc) wait(f *flights.Flight[int, int], done func(simEntry)) {
	p.waits = append(p.waits, simWait{f, done})
}

// end ends a flight, and wakes who has an answer.
func (p *simProc) end(f *flights.Flight[int, int], reply simEntry, load bool) {
	p.loading = load
	p.held(func() { p.table.End(f, reply) })
	p.loading = false
	p.poll()
}

// poll wakes who waits for a flight that has its answer.
func (p *simProc) poll() {
	left := p.waits[:0]
	for _, wait := range p.waits {
		if reply := wait.f.Wait(simEnded); errors.Is(reply.Err, context.Canceled) {
			left = append(left, wait)
		} else {
			p.later("has its answer", func() { wait.done(reply) })
		}
	}
	p.waits = left
}

// sendFill is Cache.fetch.
func (p *simProc) sendFill(f *flights.Flight[int, int], again bool) {
	key := f.Key()
	sent := p.now()
	p.send(p.conn(), fmt.Sprintf("GET k%d", key), func(rs []simReply, err error) {
		switch {
		case err == errSimLost && !again:
			p.sendFill(f, true)
		case err != nil:
			p.end(f, simEntry{Err: err}, false)
		default:
			reply := p.reply(rs[0], rs[1], sent)
			if reply.Keep {
				p.w.stats.kept++
			}
			p.end(f, reply, false)
		}
	}, p.getAndTTL(key)...)
}

func (p *simProc) getAndTTL(key int) []func(*simConn) simReply {
	return []func(*simConn) simReply{
		func(c *simConn) simReply {
			r := p.w.redis.get(c, key)
			p.w.logf("  Redis: GET k%d for p%d: #%d", key, p.id, r.pos)
			return r
		},
		func(c *simConn) simReply { return p.w.redis.pttl(c, key) },
	}
}

// reply is Cache.decode.
func (p *simProc) reply(value, life simReply, sent int64) simEntry {
	r := simEntry{Value: value.pos, Born: sent}
	switch {
	case !value.there:
		r.Missing = true
		r.Keep, r.Deadline = p.w.cfg.negative > 0, sent+int64(p.w.cfg.negative)
	case life.ttl == -1:
		r.Keep, r.Deadline = true, clock.Never
	case life.ttl > 0:
		r.Keep, r.Deadline = true, sent+life.ttl
	}
	return r
}

// simWriting is what is to be written.
type simWriting struct {
	what  string // set or del
	life  int64  // 0: without end
	acked bool
}

// write is Cache.Set and Cache.Delete, and what they do for an acknowledged write.
func (p *simProc) write(key int, what simWriting) {
	w := p.w
	w.stats.writes++
	val := w.redis.newVal()
	nonce, messages := p.announcement(key)
	var flight *flights.Write[int, int]
	p.held(func() { flight = p.table.BeginWrite(key, nonce, nil) })
	w.logf("p%d begins %s of k%d, nonce %d", p.id, what.what, key, nonce)
	p.later("send write", func() {
		sent := p.now()
		var run []func(*simConn) simReply
		first, readBack := 0, w.cfg.mode == Tracking && what.what == "set"
		if readBack && !flight.Held() {
			run, first = append(run, func(c *simConn) simReply { return w.redis.get(c, key) }), 1 // EXISTS
		}
		run = append(run, func(*simConn) (r simReply) {
			if what.what == "del" {
				r.pos = w.redis.unlink(key)
			} else {
				if what.life > 0 {
					w.redis.keys[key].token = 0
				}
				r.pos = w.redis.set(key, val, what.life)
			}
			w.logf("  Redis: %s k%d for p%d: #%d", what.what, key, p.id, r.pos)
			w.redis.publishAll(messages)
			return r
		})
		if readBack {
			run = append(run, p.getAndTTL(key)...)
		}
		p.send(p.conn(), fmt.Sprintf("%s k%d", what.what, key), func(rs []simReply, err error) {
			reply := simEntry{Born: sent}
			if err == nil {
				rs = rs[first:]
				reply = simEntry{Value: rs[0].pos, Born: sent, Keep: what.what == "set", Deadline: clock.Never}
				switch {
				case readBack && w.judge.keys[key].all[rs[1].pos].val != val:
					reply.Keep = false
				case readBack && rs[2].ttl == -2:
					reply.Keep = false
				case readBack && rs[2].ttl >= 0:
					reply.Deadline = sent + rs[2].ttl
				case what.life > 0:
					reply.Deadline = sent + what.life
				}
			}
			p.held(func() { p.table.EndWrite(flight, err == nil, reply) })
			p.underWay--
			if err != nil {
				return
			}
			if e := p.tier.Peek(key); e != nil && e.Value == reply.Value {
				w.stats.keptWrites++
			}
			w.logf("p%d has written k%d: #%d", p.id, key, reply.Value)
			w.judge.shown(p, key, reply.Value)
			if what.acked {
				p.confirm(key, reply.Value)
			}
		}, run...)
	})
}

// announcement is Cache.announcement for one key.
func (p *simProc) announcement(key int) (nonce uint64, messages []string) {
	if p.pubsub == nil {
		return 0, nil
	}
	nonce = p.stream.Nonces(1)
	m, _ := AppendKeys(nil, p.stream.Sender(), nonce, []string{itoa(int64(key))})
	return nonce, []string{string(m)}
}

func (r *simRedis) publishAll(messages []string) {
	for _, m := range messages {
		r.publish(Channel(simName), m)
	}
}

// confirm is Stream.Confirm, of a write at pos that was returned from.
func (p *simProc) confirm(key, pos int) {
	p.underWay++
	q := p.stream.newQuestion(1)
	message := string(appendHeader(nil, kindAsk, p.stream.sender, q.ids[0]))
	p.later("ask who has heard", func() {
		r := &p.w.redis
		run := []func(*simConn) simReply{func(*simConn) simReply { r.publish(askPrefix+simName, message); return simReply{} }}
		if p.pubsub != nil {
			run = append(run, func(*simConn) simReply { r.publish(Channel(simName), message); return simReply{} })
		}
		listed := len(run)
		run = append(run, func(*simConn) simReply { return simReply{members: r.list()} })
		var young bool
		p.held(func() { young = p.stream.young() })
		if young {
			run = append(run, func(*simConn) simReply { return simReply{info: r.info()} })
		}
		p.send(p.conn(), "a question", func(rs []simReply, err error) {
			if err == nil {
				floor := young && !firstOfItsKind(rs[listed+1].info)
				p.held(func() { err = p.stream.waitFor(q, rs[listed].members, floor) })
			}
			if err != nil {
				p.stream.forget(q)
				p.underWay--
				return
			}
			p.acks = append(p.acks, &simAck{q: q, done: func() {
				p.underWay--
				p.w.logf("p%d: #%d of k%d is acknowledged", p.id, pos, key)
				p.w.judge.confirmed(key, pos)
			}})
		}, run...)
	})
}

// clear is Cache.Clear: two keys at a time.
func (p *simProc) clear() {
	p.w.stats.clears++
	p.held(p.table.BeginClear)
	p.w.logf("p%d begins to clear", p.id)
	gone := make([]int, p.w.cfg.keys)
	over := func(err error) {
		p.held(p.table.EndClear)
		p.underWay--
		p.w.logf("p%d has cleared, %v", p.id, err)
		for k, pos := range gone {
			if err == nil {
				p.w.judge.shown(p, k, pos)
			}
		}
	}
	var all []string
	if p.pubsub != nil {
		all = []string{string(AppendAll(nil, p.stream.Sender()))}
	}
	var batch func(from int)
	batch = func(from int) {
		p.send(p.conn(), "UNLINK", func(_ []simReply, err error) {
			if from += 2; err == nil && from < p.w.cfg.keys+2 { // the last says it once more
				batch(from)
				return
			}
			over(err)
		}, func(*simConn) simReply {
			for k := from; k < min(from+2, p.w.cfg.keys); k++ {
				gone[k] = p.w.redis.unlink(k)
			}
			p.w.redis.publishAll(all)
			return simReply{}
		})
	}
	p.later("begin to clear", func() { batch(0) })
}
