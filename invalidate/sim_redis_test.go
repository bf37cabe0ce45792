package invalidate

import (
	"errors"
	"net"
	"time"
)

// simRedis is a Redis that keeps values, lists of members, subscriptions and what
// is tracked. Values are numbers, no two writes write the same one; 0 is no value.
type simRedis struct {
	w       *world
	conns   []*simConn
	keys    []simKey
	members map[string]simMember
	lastVal int
	started int64
	wasElse bool // it was not always master
	saved   simSaved
}

type simKey struct {
	expires int64 // of the present value; simForEver: never
	token   int   // of a load; 0: none
}

type simMember struct {
	Member
	until int64
}

// simSaved is what a replica has.
type simSaved struct {
	vals    []int
	members map[string]simMember
}

// simReply is what a command returns.
type simReply struct {
	pos     int // in the key's history: what was read or written
	there   bool
	ttl     int64 // what is left of a life; -1: no end; -2: not there
	members []Member
	info    string
}

type simCommand struct {
	batch *simBatch
	run   func(c *simConn) simReply
}

// simBatch is what is sent together, and whoever waits for the replies.
type simBatch struct {
	name     string
	conn     *simConn
	n        int
	replies  []simReply
	deadline int64
	done     func([]simReply, error)
	run      []func(c *simConn) simReply
	again    bool // it was sent twice
}

// simItem is what goes to a client: a reply, or something that it did not ask for.
type simItem struct {
	kind    byte // r: reply, k: key changed, f: flush, s: subscribed, m: message, e: the end
	batch   *simBatch
	reply   simReply
	key     int
	channel string
	text    string
}

// simConn is a connection: two queues. Those of different connections are in no
// order.
type simConn struct {
	net.Conn // nil: only Close is ever called
	p        *simProc
	name     string
	session  uint64   // of a connection that only subscribes
	tracked  *tracked // in Tracking, what the stream knows it as

	out []simCommand
	in  []simItem

	gone     bool  // Redis does not know it any more
	deaf     bool  // what Redis says is lost on the way
	closed   bool  // here
	late     int64 // when what was sent arrives, at the soonest
	endAt    int64 // when the client notices that it is deaf
	channels []string
	tracks   []bool
	own      []simItem // pushes that a command of this connection causes
	serving  bool
}

var (
	errSimLost    = errors.New("connection lost")
	errSimTimeout = errors.New("timeout")
)

func (r *simRedis) init(w *world) {
	*r = simRedis{w: w, keys: make([]simKey, w.cfg.keys), members: make(map[string]simMember), started: w.now - int64(time.Hour)/2}
	for k := range r.keys {
		r.keys[k].expires = simForEver
	}
	r.save()
}

func (r *simRedis) save() {
	r.saved.vals = r.saved.vals[:0]
	for k := range r.keys {
		h := r.w.judge.keys
		v := 0
		if len(h) > 0 {
			v = h[k].current().val
		}
		r.saved.vals = append(r.saved.vals, v)
	}
	r.saved.members = make(map[string]simMember)
	for id, m := range r.members {
		r.saved.members[id] = m
	}
}

// serve takes one command from c.
func (r *simRedis) serve(c *simConn) bool {
	if len(c.out) == 0 || c.gone || c.late > r.w.now {
		return false
	}
	cmd := c.out[0]
	c.out = c.out[1:]
	c.serving = true
	reply := cmd.run(c)
	c.serving = false
	r.say(c, simItem{kind: 'r', batch: cmd.batch, reply: reply})
	for _, it := range c.own { // behind the reply
		r.say(c, it)
	}
	c.own = c.own[:0]
	if len(c.out) == 0 && c.closed {
		r.drop(c)
	}
	return true
}

func (r *simRedis) say(c *simConn, it simItem) {
	if !c.gone && !c.deaf && !c.closed {
		c.in = append(c.in, it)
	}
}

// drop forgets a connection.
func (r *simRedis) drop(c *simConn) {
	c.gone = true
	for i, o := range r.conns {
		if o == c {
			r.conns = append(r.conns[:i:i], r.conns[i+1:]...)
			return
		}
	}
}

func (r *simRedis) publish(channel, text string) {
	for _, c := range r.conns {
		for _, ch := range c.channels {
			if ch == channel {
				r.say(c, simItem{kind: 'm', channel: channel, text: text})
			}
		}
	}
}

func (r *simRedis) subscribe(c *simConn, tell bool, channels ...string) {
	for _, ch := range channels {
		c.channels = append(c.channels, ch)
		if tell {
			r.say(c, simItem{kind: 's', channel: ch})
		}
	}
}

// changed tells whoever has read key since it last changed.
func (r *simRedis) changed(key int) {
	for _, c := range r.conns {
		if c.tracks != nil && c.tracks[key] {
			c.tracks[key] = false
			if it := (simItem{kind: 'k', key: key}); c.serving {
				c.own = append(c.own, it)
			} else {
				r.say(c, it)
			}
		}
	}
}

// set gives key a value; 0: none.
func (r *simRedis) set(key, val int, life int64) int {
	r.expire(key)
	r.keys[key].expires = simForEver
	if life > 0 {
		r.keys[key].expires = r.w.now + life
	}
	pos := r.w.judge.keys[key].append(val, r.w.now)
	r.changed(key)
	return pos
}

// unlink removes key, and the token of a load.
func (r *simRedis) unlink(key int) int {
	r.expire(key)
	r.keys[key].token = 0
	h := &r.w.judge.keys[key]
	if h.current().val == 0 {
		return len(h.all) - 1
	}
	return r.set(key, 0, 0)
}

// expire removes what is past its life, which is when others hear of it. For
// whoever reads, it was gone at that time.
func (r *simRedis) expire(key int) {
	if k := &r.keys[key]; k.expires <= r.w.now {
		at := k.expires
		k.expires = simForEver
		h := &r.w.judge.keys[key]
		h.current().expired = true
		h.append(0, at)
		r.changed(key)
	}
}

func (r *simRedis) track(c *simConn, key int) {
	if c.tracks != nil {
		c.tracks[key] = true
	}
}

func (r *simRedis) get(c *simConn, key int) simReply {
	r.expire(key)
	r.track(c, key)
	h := &r.w.judge.keys[key]
	return simReply{pos: len(h.all) - 1, there: h.current().val != 0}
}

func (r *simRedis) pttl(c *simConn, key int) simReply {
	r.expire(key)
	r.track(c, key)
	switch at := r.keys[key].expires; {
	case r.w.judge.keys[key].current().val == 0:
		return simReply{ttl: -2}
	case at == simForEver:
		return simReply{ttl: -1}
	default:
		return simReply{ttl: at - r.w.now}
	}
}

func (r *simRedis) register(p *simProc) {
	r.members[p.member.ID] = simMember{p.member, r.w.now + int64(membership)}
}

func (r *simRedis) list() (all []Member) {
	for _, p := range r.w.procs { // in a fixed order
		if m, ok := r.members[p.member.ID]; ok && m.until > r.w.now {
			all = append(all, m.Member)
		}
	}
	for id, m := range r.members {
		known := false
		for _, p := range r.w.procs {
			known = known || p.member.ID == id
		}
		if !known && m.until > r.w.now { // of a process that died
			all = append(all, m.Member)
		}
	}
	return all
}

func (r *simRedis) info() string {
	second := "0000000000000000000000000000000000000000"
	if r.wasElse {
		second = "8f1a000000000000000000000000000000000001"
	}
	return "role:master\r\nmaster_replid2:" + second + "\r\nuptime_in_seconds:" + itoa((r.w.now-r.started)/int64(time.Second)) + "\r\n"
}

// dies ends every connection. What it says before that may still arrive. It comes
// back with all that it had, with nothing, or with what its replica had.
func (r *simRedis) dies() {
	r.w.stats.restarts++
	for _, c := range append([]*simConn(nil), r.conns...) {
		r.breakOff(c, true)
	}
	r.started = r.w.now
	switch r.w.rng.n(3) {
	case 0:
		r.w.logf("Redis ends, and is back with all that it had")
	case 1:
		r.w.logf("Redis ends, and is back empty")
		clear(r.members)
		for k := range r.keys {
			r.unlink(k)
		}
	case 2:
		r.w.logf("Redis ends, and its replica takes over")
		r.wasElse = true
		clear(r.members)
		for id, m := range r.saved.members {
			r.members[id] = m
		}
		for k, v := range r.saved.vals {
			if r.expire(k); r.w.judge.keys[k].current().val != v {
				r.set(k, v, 0)
			}
			r.keys[k].token = 0
		}
	}
}

// breakOff ends a connection: the client hears of it when it has read what is still
// on the way. at says that what it has sent is lost, too.
func (r *simRedis) breakOff(c *simConn, lost bool) {
	r.w.stats.kills++
	c.channels, c.tracks = nil, nil
	if lost || c.closed {
		c.out = nil
	} else {
		c.late = r.w.now + int64(r.w.rng.n(100))*int64(time.Millisecond)
	}
	if !c.closed {
		if len(c.in) > 0 {
			c.in = c.in[:r.w.rng.n(len(c.in)+1)]
		}
		if c.deaf = true; r.w.rng.one(3) { // in silence
			c.endAt = r.w.now + int64(50+r.w.rng.n(400))*int64(time.Millisecond)
		} else {
			c.in = append(c.in, simItem{kind: 'e'})
		}
	}
	if c.closed {
		r.drop(c)
	}
}
