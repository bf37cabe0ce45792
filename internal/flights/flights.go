// Package flights holds the rules that keep one cache's local tier equal to
// Redis: which fill may enter the tier, which write may, and what a message, a
// cut or a clear does to those that are under way. It knows neither Redis nor
// codecs; whoever calls it says what was sent and what came back.
//
// A flight is a fill, a load or a write of one key that is under way in this
// process. The table maps a key to its flights, sharded, each shard under a
// lock. Every exported method is one critical section of the key's shard (or
// one of each shard in turn, where it concerns all keys), an insert into the
// tier happens inside it, and a hit takes no lock at all.
//
//	Hit         d = the lease's end; e = the entry; c = the clock; serve iff e is
//	            there, c < d and c < e's deadline. In this order
//	Fill, Load  an attached one is open, and the lease is good, and an entry of when the
//	            fill was sent would not have ended: join it. One is waiting: join that.
//	            One is under way that may not be joined: detach it, and wait
//	            as the next, sent by the table when that one ends. Else open one.
//	            It is attached iff, when it is sent, the table is live, no clear is
//	            under way and no write of the key is open
//	End         a value, attached: insert. A value, detached: look again: a valid
//	            hit is the answer; else delete the entry, doom the open writes and
//	            answer with the value. Last, in the same section, send the waiting
//	BeginWrite  delete the entry, detach fill and load; another write is open: doom
//	            both; not live: doomed; the nonce is pending, before the send
//	EndWrite    success, not doomed and at most one push (Tracking: a write makes
//	            its own push certain): insert. Nonce: seen -> gone, pending ->
//	            confirmed. Failure, unknown outcome: forget the nonce
//	Message     own and pending -> seen; own and confirmed -> gone; each once.
//	            Else: delete the entry, detach fill and load, doom the writes
//	Push        delete the entry, detach fill and load, count it in the writes
//	Cut         not live; detach and doom all; then empty the tier
//	Resume      forget all nonces; live
//	BeginClear  until EndClear every fill is born detached, every write doomed
//
// Every flight is in the table from its beginning to its end, so a cut or a
// clear reaches each of them and no epoch needs to be compared.
//
// "Model: pubsub, ..." at a rule names what breaks without it, in the models of
// docs/model: `docs/model/run -trail pubsub '...'` prints the steps.
package flights

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/flipcache/flipcache/internal/clock"
	"github.com/flipcache/flipcache/internal/tier"
)

const shardCount = 64

// maxNonces bounds what a shard remembers of its own writes whose echo never
// comes. Forgetting a nonce is always safe: the echo then counts as foreign.
const maxNonces = 4096

// ErrClosed is the answer to whoever begins a flight on a closed table.
var ErrClosed = errors.New("flights: closed")

// A Reply is what a fill or a load brought.
type Reply[V any] struct {
	Value    V
	Missing  bool  // there is no such key; Value is zero
	NoSource bool  // Missing, and the loader said that there is nothing to load
	Keep     bool  // the tier may hold it, until Deadline
	Size     int   // of Value as it is in Redis, in bytes, if Keep
	Deadline int64 // on the table's clock
	Born     int64 // when Redis was asked for it, or told, on the table's clock
	Err      error // everything else is zero then
}

// A Flight is a fill or a load. Many may wait for it.
type Flight[K comparable, V any] struct {
	key  K
	send func(*Flight[K, V]) Reply[V]
	done chan struct{}

	// attached says that nothing has happened to the key since the flight was
	// sent that its reply may not show. Guarded by the key's shard.
	attached  bool
	overtaken bool // something has happened to the key since. Guarded likewise.
	shared    bool // see Share. Guarded likewise.
	passed    bool // a fill has shown what a load may not have seen. Guarded likewise.
	stored    bool // a load has begun to write its value back, and no older entry is there since. Guarded likewise.
	load      bool
	until     int64 // from then on an entry of when it was sent would have ended. Guarded likewise.

	reply Reply[V] // written before done is closed, never after
}

// answer ends the wait for f, unless that was done already.
//
// REQUIRES: the key's shard locked.
func (f *Flight[K, V]) answer(r Reply[V]) {
	select {
	case <-f.done:
	default:
		f.reply = r
		close(f.done)
	}
}

// Key returns the key that the flight is of.
func (f *Flight[K, V]) Key() K { return f.key }

// Wait returns the flight's reply, or ctx's error if that ends first. The
// flight goes on without the waiter that left.
func (f *Flight[K, V]) Wait(ctx context.Context) Reply[V] {
	select {
	case <-f.done:
		return f.reply
	default:
	}
	select {
	case <-f.done:
		return f.reply
	case <-ctx.Done():
		return Reply[V]{Err: ctx.Err()}
	}
}

// A Write is a write of one key that is under way.
type Write[K comparable, V any] struct {
	key    K
	nonce  uint64
	held   bool // the tier had an entry when it began
	doomed bool // nothing of it enters the tier. Guarded by the key's shard.
	pushes int  // of the key since it began. Guarded likewise.
	load   *Flight[K, V]
}

// Held reports whether the tier had an entry of the key when the write began. In
// Tracking, Redis then tracks the key, or has told of a change that will be handled.
func (w *Write[K, V]) Held() bool { return w.held }

// lane is where flights of one key queue up: one sent, one waiting.
type lane[K comparable, V any] struct{ sent, next *Flight[K, V] }

func (l *lane[K, V]) detach() {
	if l.sent != nil {
		l.sent.attached, l.sent.shared, l.sent.overtaken = false, false, true
	}
}

// keyState is what is under way for one key. It is in its shard's map while
// anything is.
type keyState[K comparable, V any] struct {
	fills, loads lane[K, V]
	writes       []*Write[K, V]
	first        [1]*Write[K, V] // where writes begins: there is seldom a second
}

func (ks *keyState[K, V]) lane(load bool) *lane[K, V] {
	if load {
		return &ks.loads
	}
	return &ks.fills
}

func (ks *keyState[K, V]) detach() {
	ks.fills.detach()
	ks.loads.detach()
}

// pass tells that f shows what Redis held: of the other lane, what was sent before
// may have seen less, and must not enter the tier over it. A load can be joined all
// the same: who asks for one has seen that there is nothing.
func (ks *keyState[K, V]) pass(f *Flight[K, V]) {
	switch o := ks.lane(!f.load).sent; {
	case o == nil:
	case o.load:
		o.passed = true
	default:
		o.attached = false
	}
}

func (ks *keyState[K, V]) doom() {
	for _, w := range ks.writes {
		w.doomed = true
	}
}

type echo uint8 // what has happened to the nonce of an own write

const (
	pending   echo = iota // its write is open, its message was not heard
	seen                  // its message was heard, its write is open
	confirmed             // its write has succeeded, its message was not heard
)

type shard[K comparable, V any] struct {
	mu       sync.Mutex // guards all below, and every insert of the shard's keys into the tier
	live     bool       // messages of this cache are being heard
	clearing int        // clears under way
	closed   bool
	keys     map[K]*keyState[K, V]
	spare    *keyState[K, V] // one that is in no map, to be used next; or nil
	nonces   map[uint64]echo
	journal  *journal[K] // nil: nobody asked for one
	_        [64]byte    // shards are locked by different cores
}

// Table is the table of flights of one cache. Safe for concurrent use. Cut,
// Resume, Message, Push and DropAll are the stream's, called by one goroutine at a
// time, in the stream's order.
type Table[K comparable, V any] struct {
	tier  *tier.Tier[K, V] // nil: nothing is kept, and the table is never live
	clock *clock.Coarse
	lease *atomic.Int64 // until when entries may be served; clock.Never: no lease

	life int64 // of an entry, at most, from when its fill was sent; clock.Never: no end

	asideFor int64                       // how long what is set aside at a cut is good; 0: nothing is
	asideMu  sync.RWMutex                // a cut against the beginnings of writes and clears; taken before any shard's
	aside    atomic.Pointer[aside[K, V]] // nil: nothing

	start func(*Flight[K, V]) // sends a flight and ends it, not on the caller's goroutine

	seed   maphash.Seed
	shards [shardCount]shard[K, V]
	wg     sync.WaitGroup // fills under way; added to under a shard's lock while it is not closed
}

// aside is what the tier held at a cut: good for nothing but to be served when
// Redis has been asked, and has not answered.
type aside[K comparable, V any] struct {
	*tier.Taken[K, V]
	until int64
}

// New returns a table that is not live. t may be nil: then nothing is ever
// kept, but reads of one key still share their flights. lease may be nil:
// entries are then good to their own deadlines.
func New[K comparable, V any](t *tier.Tier[K, V], c *clock.Coarse, lease *atomic.Int64) *Table[K, V] {
	tb := &Table[K, V]{tier: t, clock: c, lease: lease, life: clock.Never, seed: maphash.MakeSeed()}
	tb.start = func(f *Flight[K, V]) { go tb.run(f) }
	if lease == nil {
		tb.lease = new(atomic.Int64)
		tb.lease.Store(clock.Never)
	}
	for i := range tb.shards {
		tb.shards[i].keys = make(map[K]*keyState[K, V])
		tb.shards[i].nonces = make(map[uint64]echo)
	}
	return tb
}

func (t *Table[K, V]) shard(key K) *shard[K, V] {
	return &t.shards[maphash.Comparable(t.seed, key)%shardCount]
}

// REQUIRES: s.mu held.
func (s *shard[K, V]) state(key K) *keyState[K, V] {
	ks := s.keys[key]
	if ks == nil {
		if ks, s.spare = s.spare, nil; ks == nil {
			ks = new(keyState[K, V])
		}
		ks.writes = ks.first[:0]
		s.keys[key] = ks
	}
	return ks
}

// release forgets the key's state when nothing is under way.
//
// REQUIRES: s.mu held.
func (s *shard[K, V]) release(key K, ks *keyState[K, V]) {
	if ks.fills.sent == nil && ks.loads.sent == nil && len(ks.writes) == 0 {
		delete(s.keys, key)
		*ks = keyState[K, V]{}
		s.spare = ks
	}
}

// Hit returns the valid entry of key, or nil. It takes no lock.
func (t *Table[K, V]) Hit(key K) *tier.Entry[K, V] {
	if t.tier == nil {
		return nil
	}
	// Model: lease, a hit reads entry, lease, clock
	// Model: lease, a hit reads lease, clock, entry
	until := t.Until()
	if e := t.tier.Load(key); e != nil && t.clock.Ahead(e.Deadline, until) {
		return e
	}
	return nil
}

// Until returns until when what is loaded from the tier after it may be served.
func (t *Table[K, V]) Until() int64 { return t.lease.Load() }

// leased says whether the lease is good.
func (t *Table[K, V]) leased() bool {
	until := t.Until()
	return until == clock.Never || t.clock.Exact() < until
}

// SetLife tells how long an entry may live at most, from when its fill was sent. Call
// it before anything else.
func (t *Table[K, V]) SetLife(ns int64) { t.life = ns }

// SetAside has the table keep what the tier holds at a cut for so long, until the
// resume. Call it before anything else.
func (t *Table[K, V]) SetAside(ns int64) { t.asideFor = ns }

// SetStart has start called, under a lock, with each flight that would be sent on a
// goroutine of its own: for a scheduler, which sends it later and calls End. Call it
// before anything else.
func (t *Table[K, V]) SetStart(start func(*Flight[K, V])) { t.start = start }

// Aside returns what was set aside of key at the cut, or nil.
func (t *Table[K, V]) Aside(key K) *tier.Entry[K, V] {
	a := t.aside.Load()
	if a == nil {
		return nil
	}
	e := a.Load(key)
	if now := t.clock.Exact(); e == nil || now >= a.until || now >= e.Deadline {
		return nil
	}
	return e
}

// Fill joins or opens a fill of key. send asks Redis; it runs at most once at a
// time for a key, and must end by itself: no reader's context ends it.
//
// patient says that the caller will wait for the fill to its end, whatever
// comes: then it runs send by itself, and no goroutine has to be started.
func (t *Table[K, V]) Fill(key K, fresh, patient bool, send func(*Flight[K, V]) Reply[V]) *Flight[K, V] {
	f, opened := t.BeginFill(key, fresh, send)
	switch {
	case !opened:
	case patient:
		t.run(f)
	default:
		t.start(f)
	}
	return f
}

// Load is Fill for loads, which queue up apart from the fills of the key: a
// reader of a key does not wait for another's loader. What a load brings
// enters the tier by the write that stores it, not at its end.
func (t *Table[K, V]) Load(key K, send func(*Flight[K, V]) Reply[V]) *Flight[K, V] {
	f, opened := t.begin(key, joinLoad, send)
	if opened {
		t.start(f)
	}
	return f
}

// BeginFill is Fill for who sends several together: where it returns true the
// caller has to send this fill and to call End with what came back. send is
// used if the fill has to wait for another, and then by the table. fresh is
// for a reader that wants what Redis holds after it asked: it takes no entry
// and joins no fill that was sent before.
func (t *Table[K, V]) BeginFill(key K, fresh bool, send func(*Flight[K, V]) Reply[V]) (f *Flight[K, V], opened bool) {
	if fresh {
		return t.begin(key, freshFill, send)
	}
	return t.begin(key, joinFill, send)
}

// What a reader asks for, and what will do as an answer.
type request uint8

const (
	joinFill  request = iota // an entry, or a fill under way
	freshFill                // only what is sent from now on
	joinLoad                 // a value, or the word of a loader that there is none
)

// Entry is Hit for a reader that will load what is missing, if load says so: that
// a key is missing in Redis does not keep it from that, only a loader's own word.
func (t *Table[K, V]) Entry(key K, load bool) *tier.Entry[K, V] {
	if e := t.Hit(key); e != nil && (!load || !e.Missing || e.NoSource) {
		return e
	}
	return nil
}

func (t *Table[K, V]) begin(key K, what request, send func(*Flight[K, V]) Reply[V]) (f *Flight[K, V], opened bool) {
	load := what == joinLoad
	s := t.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return answered[K](Reply[V]{Err: ErrClosed}), false
	}
	if what == freshFill {
		t.remove(key) // older than what is asked for: no fill under way may fall back to it
		if ks := s.keys[key]; ks != nil {
			ks.doom() // nor to a write of before
		}
	} else if e := t.Entry(key, load); e != nil { // it came between the caller's miss and here
		return answered[K](replyOf(e)), false
	}
	ks := s.state(key)
	l := ks.lane(load)
	if l.sent != nil && !load && l.sent.until != clock.Never && t.clock.Exact() >= l.sent.until {
		l.sent.attached = false // what it brings may be older than an entry could be
	}
	// Model: pubsub, readers join a detached fill
	// Model: lease, ack: an attached fill is joined without the lease
	switch {
	case l.sent != nil && (l.sent.attached && t.leased() || l.sent.shared) && what != freshFill:
		return l.sent, false
	case l.next != nil:
		return l.next, false
	}
	f = &Flight[K, V]{key: key, load: load, send: send, done: make(chan struct{})}
	if l.sent != nil {
		l.sent.attached = false // what is asked for behind it must not be answered by what it leaves
		l.next = f
		return f, false
	}
	t.sent(s, ks, f)
	return f, true
}

func replyOf[K comparable, V any](e *tier.Entry[K, V]) Reply[V] {
	return Reply[V]{Value: e.Value, Missing: e.Missing, NoSource: e.NoSource, Born: e.Born}
}

func answered[K comparable, V any](r Reply[V]) *Flight[K, V] {
	f := &Flight[K, V]{done: make(chan struct{}), reply: r}
	close(f.done)
	return f
}

// sent makes f the flight of its lane that is sent, which is what its
// attachment is decided by.
//
// REQUIRES: s.mu held, and the lane has none sent.
func (t *Table[K, V]) sent(s *shard[K, V], ks *keyState[K, V], f *Flight[K, V]) {
	ks.lane(f.load).sent = f
	// Model: pubsub, a fill sent while a write is open is attached
	// Model: pubsub, a waiting fill is judged when it begins to wait
	// Model: pubsub, cut: flights begun meanwhile are as good as others
	// Model: pubsub, clear: own, fills meanwhile are as good as others
	f.attached = s.live && s.clearing == 0 && len(ks.writes) == 0
	if f.attached {
		t.note(s, f.key, fillSent)
	} else {
		t.note(s, f.key, fillDetached)
	}
	if f.until = clock.Never; t.life != clock.Never && !f.load {
		if now := t.clock.Exact(); t.life < clock.Never-now {
			f.until = now + t.life
		}
	}
	if !f.load { // a loader is the user's code: Close does not wait for it
		t.wg.Add(1)
	}
}

func (t *Table[K, V]) run(f *Flight[K, V]) {
	r := Reply[V]{Err: errors.New("flights: the goroutine of the load was ended by runtime.Goexit")}
	defer func() {
		if p := recover(); p != nil {
			r = Reply[V]{Err: &PanicError{Value: p, Stack: debug.Stack()}}
		}
		t.End(f, r)
	}()
	r = f.send(f)
}

// End ends a flight that was sent, answers who waits for it and sends the one
// that waits behind it.
func (t *Table[K, V]) End(f *Flight[K, V], r Reply[V]) {
	s := t.shard(f.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	ks := s.keys[f.key]
	what := fillDropped
	switch {
	case r.Err != nil:
	case !f.attached || f.passed:
		r = t.lookAgain(ks, f, r)
	case r.Keep:
		t.insert(f.key, r)
		what = fillInserted
	case !f.stored: // an own write may have left an entry before f was sent, from where f had to wait
		t.remove(f.key)
	}
	if r.Err == nil {
		ks.pass(f)
	}
	t.note(s, f.key, what)
	f.answer(r)
	if !f.load {
		t.wg.Done()
	}

	l := ks.lane(f.load)
	next := l.next
	l.sent, l.next = nil, nil
	if next != nil && f.shared {
		next.answer(r)
	} else if next != nil {
		// Model: pubsub, a fill that failed does not send the waiting one
		// Model: pubsub, the waiting fill is sent by a reader, who may have left
		t.sent(s, ks, next)
		t.start(next)
	}
	s.release(f.key, ks)
}

// Share has all who ask for the key of a load under way get what it brings,
// until a write of this process or a message detaches it: for a load that could
// not ask Redis. Nobody would learn more by loading again.
func (t *Table[K, V]) Share(f *Flight[K, V]) {
	s := t.shard(f.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if ks := s.keys[f.key]; ks != nil && ks.loads.sent == f && !f.overtaken {
		f.shared = true
	}
}

// lookAgain decides what a detached flight answers. Another flight of this
// process may have shown a newer value than r already, and left it as the
// entry: that is the answer. Where there is none, an open write may be older
// than r, and must not enter after r was shown.
//
// REQUIRES: the key's shard locked.
func (t *Table[K, V]) lookAgain(ks *keyState[K, V], f *Flight[K, V], r Reply[V]) Reply[V] {
	if e := t.Entry(f.key, f.load); e != nil {
		return replyOf(e)
	}
	// Model: pubsub, a detached fill does not look again
	// Model: pubsub, looking again dooms no writes
	t.remove(f.key)
	ks.doom()
	return r
}

// REQUIRES: the key's shard locked.
func (t *Table[K, V]) insert(key K, r Reply[V]) {
	e := &tier.Entry[K, V]{Value: r.Value, Missing: r.Missing, NoSource: r.NoSource, Deadline: r.Deadline, Born: r.Born}
	t.tier.Store(key, e, r.Size, r.Born)
}

// REQUIRES: the key's shard locked.
func (t *Table[K, V]) remove(key K) (held bool) {
	return t.tier != nil && t.tier.Delete(key) != nil
}

// forget has what was set aside of key served no more.
func (t *Table[K, V]) forget(key K) {
	if a := t.aside.Load(); a != nil {
		a.Delete(key)
	}
}

// BeginWrite opens a write of key, before it is sent. nonce is the one that
// its message will carry, 0 if none is announced. load is the load whose value
// is written back, nil for all other writes: a write detaches every flight of
// its key but its own.
func (t *Table[K, V]) BeginWrite(key K, nonce uint64, load *Flight[K, V]) *Write[K, V] {
	w := &Write[K, V]{key: key, nonce: nonce, load: load}
	if t.asideFor > 0 {
		t.asideMu.RLock() // else a cut could set aside what is removed here
		defer t.asideMu.RUnlock()
	}
	s := t.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	// Model: pubsub, a write's beginning leaves the entry
	w.held = t.remove(key) // now: else it would be served while the reply is outstanding
	t.note(s, key, writeBegun)
	t.forget(key)
	ks := s.state(key)
	ks.fills.detach() // Model: pubsub, a write's beginning does not detach the fill
	if load == nil || ks.loads.sent != load {
		ks.loads.detach()
	} else {
		load.stored = true
	}
	ks.writes = append(ks.writes, w)
	// Model: pubsub, overlapping own writes do not doom each other
	if len(ks.writes) > 1 { // Redis may order them the other way round
		ks.doom()
	}
	if !s.live || s.clearing > 0 {
		w.doomed = true
	}
	if s.live && nonce != 0 { // a message that is not awaited counts as foreign
		if len(s.nonces) >= maxNonces {
			clear(s.nonces)
		}
		s.nonces[nonce] = pending
	}
	return w
}

// EndWrite ends a write. ok says that Redis has done it: then r enters the
// tier, if it asks to be kept and nothing happened meanwhile that it may not
// show. Anything else than a certain success is no success.
func (t *Table[K, V]) EndWrite(w *Write[K, V], ok bool, r Reply[V]) {
	s := t.shard(w.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	ks := s.keys[w.key]
	// Model: tracking, own write, two pushes allowed
	// Model: load, a detached load enters the tier
	what := writeDropped
	if ok && r.Keep && !w.doomed && w.pushes <= 1 && (w.load == nil || w.load.attached) {
		t.insert(w.key, r)
		what = writeInsert
	}
	t.note(s, w.key, what)
	if state, known := s.nonces[w.nonce]; known {
		// Model: pubsub, a write of unknown end keeps its nonce
		if ok && state == pending {
			s.nonces[w.nonce] = confirmed
		} else {
			delete(s.nonces, w.nonce)
		}
	}
	for i, o := range ks.writes {
		if o == w {
			ks.writes = append(ks.writes[:i], ks.writes[i+1:]...)
			break
		}
	}
	s.release(w.key, ks)
}

// Message tells that key was changed by a write that announced itself with
// nonce. own says that the write was this process's.
func (t *Table[K, V]) Message(key K, nonce uint64, own bool) {
	s := t.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if own {
		// Model: pubsub, own messages are ignored whatever their nonce
		// Model: pubsub, resent: a nonce is good for any number of echoes
		switch state, known := s.nonces[nonce]; {
		case known && state == pending:
			s.nonces[nonce] = seen
			t.note(s, key, ownEcho)
			return
		case known && state == confirmed:
			delete(s.nonces, nonce)
			t.note(s, key, ownEcho)
			return
		} // a second echo, or one of a write that failed: as foreign
	}
	t.remove(key)
	t.note(s, key, messageCame)
	t.forget(key)
	if ks := s.keys[key]; ks != nil {
		ks.detach() // Model: pubsub, a message does not detach the fill
		ks.doom()   // Model: pubsub, a message does not doom open writes
	}
}

// Push tells that Redis changed key, by whosever hand. A write that is kept has
// made Redis track its key before it: so one push at least comes before its
// last reply, and a second one is another's.
func (t *Table[K, V]) Push(key K) {
	s := t.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	t.remove(key)
	t.note(s, key, pushCame)
	t.forget(key)
	if ks := s.keys[key]; ks != nil {
		ks.detach() // Model: tracking, a fill enters whatever was pushed
		for _, w := range ks.writes {
			w.pushes++
		}
	}
}

// DropAll tells that any key may have changed.
func (t *Table[K, V]) DropAll() {
	t.each(allDropped, func(*shard[K, V]) {})
	t.aside.Store(nil)
}

// Cut tells that messages are no longer heard.
func (t *Table[K, V]) Cut() {
	t.asideMu.Lock()
	defer t.asideMu.Unlock()
	held := t.each(cut, func(s *shard[K, V]) { s.live = false })
	if t.asideFor > 0 && held != nil {
		now := t.clock.Exact()
		t.aside.Store(&aside[K, V]{held, now + min(t.asideFor, clock.Never-now)})
	}
}

// Resume tells that messages are heard from now on.
func (t *Table[K, V]) Resume() {
	if t.tier == nil {
		return
	}
	t.aside.Store(nil)
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		// Model: pubsub, resent: the resume forgets no nonces
		clear(s.nonces) // a write that a client sent twice would pass for ours the second time
		s.live = true
		t.noteAll(s, resumed)
		s.mu.Unlock()
	}
}

// BeginClear opens the removal of all keys of the cache, which takes many
// commands. EndClear ends it.
func (t *Table[K, V]) BeginClear() {
	t.asideMu.Lock()
	defer t.asideMu.Unlock()
	t.each(clearBegun, func(s *shard[K, V]) { s.clearing++ })
	t.aside.Store(nil)
}

// EndClear ends what BeginClear began.
func (t *Table[K, V]) EndClear() { t.each(clearEnded, func(s *shard[K, V]) { s.clearing-- }) }

// Close ends the table: nothing is kept, nothing more is sent, and nobody waits
// any more, for a loader that does not return neither. It waits for the fills
// under way.
func (t *Table[K, V]) Close() {
	t.each(allDropped, func(s *shard[K, V]) {
		s.live, s.closed = false, true
		for _, ks := range s.keys {
			for _, l := range []*lane[K, V]{&ks.fills, &ks.loads} {
				if l.next != nil {
					l.next.answer(Reply[V]{Err: ErrClosed})
					l.next = nil
				}
				if l.sent != nil && l.sent.load {
					l.sent.answer(Reply[V]{Err: ErrClosed})
				}
			}
		}
	})
	t.wg.Wait()
}

// each changes every shard, notes what that is, detaches and dooms all that is under
// way there, and then empties the tier, and returns what it held. A flight that
// begins in a shard already done is judged by the shard's new state.
func (t *Table[K, V]) each(what string, change func(*shard[K, V])) *tier.Taken[K, V] {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		change(s)
		t.noteAll(s, what)
		for _, ks := range s.keys {
			ks.detach() // Model: pubsub, cut: open fills go on
			ks.doom()   // Model: pubsub, cut: open writes go on
		}
		s.mu.Unlock()
	}
	if t.tier == nil {
		return nil
	}
	return t.tier.Take() // Model: pubsub, cut: the tier is not emptied
}

// A PanicError is the answer to all who waited for a flight whose loader or
// codec panicked.
type PanicError struct {
	Value any
	Stack []byte // where it panicked
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v\n\n%s", e.Value, e.Stack) }

// Unwrap returns the value of the panic if that was an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}
