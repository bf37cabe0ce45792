package invalidate

import (
	"fmt"
	"time"
)

// simHold is where a process is in Stream.run and Stream.hold, whose critical
// sections it calls: these two wait for channels and timers, and so cannot be run
// step by step.
type simHold struct {
	phase  simPhase
	id     uint64
	answer <-chan struct{}
	failed <-chan error
	until  int64 // next tick, next attempt, or when the first answer has to be there
	sub    *simConn
	tokens int
	begun  error // of what was sent to begin the session
	ready  bool
}

type simPhase byte

const (
	simDown    simPhase = iota // waits to begin
	simOpening                 // has sent what opens the session
	simAsked                   // waits for the first answer
	simLive
	simHanging // is cut, and has not closed its connection yet
)

// holds goes on with the session.
func (p *simProc) holds() bool {
	h := &p.hold
	if h.phase != simDown && h.phase != simHanging {
		select {
		case err := <-h.failed:
			p.endSession(err)
			return true
		default:
		}
	}
	switch h.phase {
	case simDown:
		if p.w.now < h.until {
			return false
		}
		p.beginSession()
	case simOpening:
		if !h.ready {
			return false
		}
		h.ready = false
		if h.begun != nil {
			p.endSession(h.begun)
			return true
		}
		p.ask(true)
		h.phase, h.until = simAsked, p.w.now+int64(p.w.cfg.timeout)
	case simAsked:
		if h.begun != nil {
			p.endSession(h.begun)
			return true
		}
		select {
		case <-h.answer:
			p.held(func() { p.stream.setLive(h.id) })
			h.phase, h.until = simLive, p.w.now+int64(p.stream.cfg.probeEvery)
		default:
			if p.w.now < h.until {
				return false
			}
			p.endSession(errSimTimeout)
		}
	case simLive:
		if p.w.now < h.until {
			return false
		}
		h.until = p.w.now + int64(p.stream.cfg.probeEvery)
		var err error
		if p.held(func() { err = p.stream.tick() }); err != nil {
			p.endSession(err)
			return true
		}
		p.ask(false)
	case simHanging:
		h.phase, h.until = simDown, p.w.now+int64(p.w.rng.n(20))*int64(time.Millisecond)
		if p.tracking != nil {
			p.tracking.hangUp()
		} else if h.sub != nil {
			h.sub.Close()
			h.sub = nil
		}
	}
	return true
}

func (p *simProc) endSession(err error) {
	p.w.logf("p%d: the session is over: %v", p.id, err)
	p.held(func() { p.stream.end(Cut, err) })
	p.hold.phase = simHanging
}

func (p *simProc) beginSession() {
	h := &p.hold
	p.held(func() { h.id, h.answer, h.failed = p.stream.begin() })
	h.phase, h.begun, h.ready = simOpening, nil, false
	id := h.id
	done := func(_ []simReply, err error) {
		if h.id == id {
			h.begun, h.ready = err, true
		}
	}
	self := selfChannel(p.stream.sender)
	switch {
	case p.pubsub != nil:
		c := p.dial("listens")
		c.session, h.sub = id, c
		p.send(c, "SUBSCRIBE", done, func(c *simConn) simReply {
			p.w.redis.subscribe(c, true, self, Channel(simName))
			return simReply{}
		})
	case p.w.cfg.lease > 0:
		p.send(p.conn(), "SUBSCRIBE", done, func(c *simConn) simReply {
			p.w.redis.subscribe(c, false, self, askPrefix+simName)
			return simReply{}
		})
	default:
		h.ready = true
	}
}

// ask sends a probe, as pubsub.probe and tracking.probeOne do.
func (p *simProc) ask(first bool) {
	h := &p.hold
	id := h.id
	h.tokens++
	token := fmt.Sprintf("%s.%d", p.stream.sender, h.tokens)
	p.held(func() { p.stream.note(id, token) })
	c := p.conn()
	sent := p.send(c, "a probe", nil, func(*simConn) simReply {
		p.w.redis.register(p)
		if p.pubsub != nil {
			p.w.redis.publish(selfChannel(p.stream.sender), token)
		}
		return simReply{}
	})
	sent.done = func(_ []simReply, err error) {
		if err != nil {
			if p.tracking != nil && err == errSimTimeout && !c.closed {
				p.held(func() { c.tracked.Close() }) // the next probe dials
			}
			if first && h.id == id {
				h.begun = err
			}
			return
		}
		p.held(func() { p.stream.registered([]*topic{p.topic}, nil) })
		if p.tracking != nil {
			p.later("its probe was answered", func() { p.held(func() { p.tracking.probed(id, token) }) })
		}
	}
}
