//go:build unix

package virtual

import (
	"bufio"
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
)

// redis is miniredis, one command at a time, with what that lacks: CLIENT TRACKING,
// INFO, commands on a connection that subscribes. What is tracked, and when it is told,
// is as with Redis 7.0: TestRedisSpeaksAsTheRealOne.
type redis struct {
	*miniredis.Miniredis
	since   time.Time
	known   sync.Map                    // of *server.Peer: those of connections, not of scripts
	running atomic.Pointer[server.Peer] // whose command miniredis is executing

	mu      sync.Mutex // held while a command is executed; guards all below
	peers   map[*server.Peer]*peer
	tracked map[string]map[*peer]bool // by key: who has read it
}

// A peer is what Redis knows of a connection. Guarded by redis.mu.
type peer struct {
	*server.Peer
	tracks   bool
	channels map[string]bool
	queued   [][]string // since MULTI; nil: there was none
	declared []string   // keys of the script that runs; nil: none does
	own      []string   // keys that its command has changed, and that it had read
}

// newRedis starts one that is an hour old, on no port.
func newRedis(t testing.TB) *redis {
	r := &redis{Miniredis: miniredis.NewMiniRedis(), since: time.Now().Add(-time.Hour), peers: make(map[*server.Peer]*peer), tracked: make(map[string]map[*peer]bool)}
	first, err := r.Dial() // which starts it
	if err != nil {
		t.Fatal(err)
	}
	first.Close()
	r.Server().SetPreHook(r.command)
	return r
}

// command executes a command of a connection, or of a script.
func (r *redis) command(c *server.Peer, cmd string, args ...string) (done bool) {
	if r.running.Load() == c {
		return false // by do
	}
	a := append([]string{cmd}, args...)
	if _, known := r.known.Load(c); !known && cmd != "HELLO" { // a script's, and r.mu is held
		r.execute(r.peers[r.running.Load()], c, a)
		return true
	}
	r.known.Store(c, true)
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.peers[c]
	if p == nil {
		p = &peer{Peer: c, channels: make(map[string]bool)}
		r.peers[c] = p
		c.OnDisconnect(func() { r.forget(p) })
	}
	switch {
	case cmd == "MULTI":
		p.queued = [][]string{}
		r.do(c, a)
	case p.queued != nil && cmd != "EXEC":
		p.queued = append(p.queued, a)
		r.do(c, a)
	default:
		r.execute(p, c, a)
	}
	for _, key := range p.own {
		p.invalidate(key)
	}
	p.own = nil
	c.Flush()
	return true
}

// execute executes a command that p, or its script, gives by c.
func (r *redis) execute(p *peer, c *server.Peer, a []string) {
	switch a[0] {
	case "CLIENT":
		p.tracks = p.tracks || a[1] == "TRACKING"
		c.WriteOK()
	case "INFO":
		c.WriteBulk(fmt.Sprintf("role:master\r\nmaster_replid2:%040d\r\nuptime_in_seconds:%.0f\r\n", 0, time.Since(r.since).Seconds()))
	case "SUBSCRIBE", "UNSUBSCRIBE":
		for _, channel := range a[1:] {
			if p.channels[channel] = true; a[0] == "UNSUBSCRIBE" {
				delete(p.channels, channel)
			}
			p.push(3, func(w *server.Writer) {
				w.WriteBulk(strings.ToLower(a[0]))
				w.WriteBulk(channel)
				w.WriteInt(len(p.channels))
			})
		}
	case "PUBLISH":
		c.WriteInt(r.publish(a[1], a[2]))
	case "EXEC":
		step := p.queued
		p.queued = nil
		var touched []string
		for _, a := range step {
			touched = append(touched, keysOf(a)...)
		}
		before := r.look(c, touched...)
		r.do(c, a)
		for _, a := range step {
			if a[0] == "PUBLISH" {
				r.publish(a[1], a[2])
			}
			keys := keysOf(a)
			r.told(p, a, before[:len(keys)], r.look(c, keys...))
			before = before[len(keys):]
		}
	case "EVAL", "EVALSHA":
		p.declared = keysOf(a)
		r.do(c, a)
		p.declared = nil
	default:
		keys := keysOf(a)
		before := r.look(c, keys...)
		r.do(c, a)
		r.told(p, a, before, r.look(c, keys...))
	}
}

// do has miniredis execute a command.
func (r *redis) do(c *server.Peer, a []string) {
	defer r.running.Store(r.running.Swap(c))
	r.Server().Dispatch(c, a)
}

// told has those hear of a command who have read what it changes, p itself behind its
// reply, and notes what it reads: for a script that is all its keys.
func (r *redis) told(p *peer, a, before, after []string) {
	for i, key := range keysOf(a) {
		if before[i] == after[i] && a[0] != "SET" && a[0] != "INCRBY" {
			continue
		}
		for q := range r.tracked[key] {
			if q == p {
				p.own = append(p.own, key)
			} else {
				q.invalidate(key)
			}
		}
		delete(r.tracked, key)
	}
	switch a[0] {
	case "GET", "MGET", "EXISTS", "PTTL":
		keys := keysOf(a)
		if p.declared != nil {
			keys = p.declared
		}
		for _, key := range keys {
			if r.tracked[key] == nil {
				r.tracked[key] = make(map[*peer]bool)
			}
			if p.tracks {
				r.tracked[key][p] = true
			}
		}
	}
}

// keysOf returns the keys that a command names.
func keysOf(a []string) []string {
	switch a[0] {
	case "GET", "SET", "PTTL", "INCRBY":
		return a[1:2]
	case "MGET", "EXISTS", "UNLINK":
		return a[1:]
	case "EVAL", "EVALSHA":
		n, _ := strconv.Atoi(a[2])
		return a[3 : 3+n]
	}
	return nil
}

// look returns what is under keys, and for how long: as a script sees it, whose
// connection is c, or as all do.
func (r *redis) look(c *server.Peer, keys ...string) []string {
	state := make([]string, len(keys))
	for i, key := range keys {
		var said bytes.Buffer
		w := bufio.NewWriter(&said)
		own := server.NewPeer(w)
		if r.running.Load() != nil {
			own.Ctx = c.Ctx
		}
		r.do(own, []string{"GET", key})
		r.do(own, []string{"PTTL", key})
		w.Flush()
		state[i] = said.String()
	}
	return state
}

// publish has all who listen hear a message.
func (r *redis) publish(channel, message string) (heard int) {
	for _, p := range r.peers {
		if p.channels[channel] {
			heard++
			p.push(3, func(w *server.Writer) {
				w.WriteBulk("message")
				w.WriteBulk(channel)
				w.WriteBulk(message)
			})
		}
	}
	return heard
}

func (p *peer) invalidate(key string) {
	p.push(2, func(w *server.Writer) {
		w.WriteBulk("invalidate")
		w.WriteLen(1)
		w.WriteBulk(key)
	})
}

// push says something of so many parts that was not asked for.
func (p *peer) push(parts int, say func(*server.Writer)) {
	p.Block(func(w *server.Writer) {
		w.WritePushLen(parts)
		say(w)
		w.Flush()
	})
}

func (r *redis) forget(p *peer) {
	r.known.Delete(p.Peer)
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.peers, p.Peer)
	for _, by := range r.tracked {
		delete(by, p)
	}
}
