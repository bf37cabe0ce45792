package invalidate

import (
	"fmt"
	"time"

	"github.com/flipcache/flipcache/internal/flights"
)

// load is Cache.GetOrLoad.
func (p *simProc) load(key int) {
	w := p.w
	w.stats.loads++
	r := w.judge.begin(p, key)
	p.later("look for an entry", func() {
		if e := p.table.Entry(key, true); e != nil {
			p.underWay--
			w.judge.returns(r, e.Value, true)
			return
		}
		p.fill(r, false, func(reply simEntry, hit bool) {
			if reply.NoSource || reply.Err == nil && !reply.Missing {
				p.underWay--
				w.judge.returns(r, reply.Value, hit)
				return
			}
			p.later("load", func() { p.joinLoad(r) })
		})
	})
}

// joinLoad joins or opens a load. What was loaded and not stored has no place in
// the key's history: nothing is promised of it.
func (p *simProc) joinLoad(r simRead) {
	p.loading = true
	var f *flights.Flight[int, int]
	p.held(func() { f = p.table.Load(r.key, nil) })
	p.loading = false
	p.wait(f, func(reply simEntry) {
		p.underWay--
		if reply.Err == nil && reply.Value >= 0 {
			p.w.judge.returns(r, reply.Value, false)
		}
	})
	p.poll()
}

// sendLoad is Cache.load: token and value, loader, write-back.
func (p *simProc) sendLoad(f *flights.Flight[int, int]) {
	w, key := p.w, f.Key()
	token := w.redis.newVal()
	sent := p.now()
	run := append([]func(*simConn) simReply{func(*simConn) simReply {
		w.redis.keys[key].token = token
		return simReply{}
	}}, p.getAndTTL(key)...)
	p.send(p.conn(), fmt.Sprintf("token and GET k%d", key), func(rs []simReply, err error) {
		if err != nil {
			p.table.Share(f) // Redis is away: what is loaded is shared, and not stored
			p.later("has loaded, and does not store", func() { p.end(f, simEntry{Value: -1}, true) })
			return
		}
		if reply := p.reply(rs[1], rs[2], sent); !reply.Missing {
			p.end(f, reply, true)
			return
		}
		p.later("has loaded", func() {
			if w.rng.one(8) {
				asked := p.now()
				p.end(f, simEntry{Value: rs[1].pos, Missing: true, NoSource: true, Born: asked,
					Keep: w.cfg.negative > 0, Deadline: asked + int64(w.cfg.negative)}, true)
				return
			}
			p.writeBack(f, token)
		})
	}, run...)
}

// writeBack is Cache.writeBack.
func (p *simProc) writeBack(f *flights.Flight[int, int], token int) {
	w, key := p.w, f.Key()
	val := w.redis.newVal()
	nonce, messages := p.announcement(key)
	var flight *flights.Write[int, int]
	p.held(func() { flight = p.table.BeginWrite(key, nonce, f) })
	p.later("send write-back", func() {
		sent := p.now()
		p.send(p.conn(), fmt.Sprintf("write k%d back", key), func(rs []simReply, err error) {
			reply := simEntry{Born: sent}
			if err == nil && rs[0].there {
				reply = simEntry{Value: rs[0].pos, Born: sent, Keep: w.cfg.mode != Tracking, Deadline: simForEver}
			}
			p.held(func() { p.table.EndWrite(flight, err == nil, reply) })
			p.later("end load", func() {
				switch {
				case err != nil:
					p.end(f, simEntry{Value: -1}, true)
				case rs[0].there || rs[0].ttl != -2:
					p.end(f, simEntry{Value: rs[0].pos}, true)
				default: // neither stored, nor is there anything
					p.end(f, simEntry{Value: -1}, true)
				}
			})
		}, func(c *simConn) simReply {
			w.redis.expire(key)
			held := w.judge.keys[key].current()
			if w.redis.keys[key].token != token || held.val != 0 {
				r := simReply{pos: len(w.judge.keys[key].all) - 1, ttl: -2}
				if held.val != 0 {
					r.ttl = -1
				}
				return r
			}
			w.redis.publishAll(messages)
			r := simReply{pos: w.redis.set(key, val, 0), there: true}
			w.redis.keys[key].token = 0
			w.logf("  Redis: k%d is written back for p%d: #%d", key, p.id, r.pos)
			return r
		})
	})
}

// fault is something that goes wrong.
func (w *world) fault() {
	r := &w.redis
	p := w.procs[w.rng.n(len(w.procs))]
	switch d := w.rng.n(100); {
	case d < 40:
		if len(r.conns) > 0 {
			c := r.conns[w.rng.n(len(r.conns))]
			w.logf("a connection of p%d breaks, %s", c.p.id, c.name)
			r.breakOff(c, w.rng.one(2))
		}
	case d < 60:
		if len(r.conns) > 0 {
			if c := r.conns[w.rng.n(len(r.conns))]; !c.deaf && !c.closed {
				w.logf("a connection of p%d is deaf from now on, %s", c.p.id, c.name)
				c.deaf, c.endAt = true, w.now+int64(50+w.rng.n(400))*int64(time.Millisecond)
			}
		}
	case d < 75:
		p.frozen = w.now + int64(1+w.rng.n(300))*int64(time.Millisecond)
		w.logf("p%d is stopped until %.3fms", p.id, float64(p.frozen-int64(time.Hour))/1e6)
		w.stats.freezes++
	case d < 90:
		w.resend(p)
	case d < 94:
		r.save()
	case d < 97:
		r.dies()
	default:
		p.dies()
	}
}

// resend has a client library send a command a second time, of which it does not
// know the outcome.
func (w *world) resend(p *simProc) {
	w.some(len(p.batches), func(i int) bool {
		b := p.batches[i]
		if b.n != 1 || b.again {
			return false
		}
		b.again = true
		w.logf("p%d sends %s again", p.id, b.name)
		c := p.dial("late")
		c.late = w.now + int64(w.rng.n(100))*int64(time.Millisecond)
		c.out = append(c.out, simCommand{&simBatch{name: b.name, conn: c, n: 1}, b.run[0]})
		c.Close()
		return true
	})
}
