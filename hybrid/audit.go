package hybrid

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"sync"
	"time"

	"github.com/redis/rueidis"
	"go.uber.org/zap"

	"github.com/flipcache/flipcache/internal/flights"
	"github.com/flipcache/flipcache/internal/tier"
)

// An auditor compares a share of a cache's local hits with what Redis holds.
//
// A hit is drawn, and its entry goes into a queue. In the background Redis is asked
// for the key. If it holds the entry's value, the hit was good. If not, that says
// nothing yet: the value may have been replaced after the hit, and its invalidation
// be under way. So the entry becomes a suspect, and is looked at again when grace is
// over. A hit is stale only if then
//
//   - Redis still holds another value than the entry's, and
//   - after its answer the tier would still serve that very entry.
//
// It counts as a hit of that moment. Its age is the time since Redis was first seen
// to hold another value: it is stale for that long at least, so that nobody is
// accused wrongly. What is drawn of an entry that is a suspect already finds the
// older age.
//
// Redis is asked by the connections that are not tracked, in every mode: on a
// tracked one a GET would have Redis tell this process of changes that it has no
// entry for, or has one for that Redis was not meant to track. No flight is made,
// nothing enters the tier, no access is counted for eviction, and the breaker is
// neither tried nor fed.
//
// All but sample runs on one goroutine: one pipeline is under way at a time.
type auditor[K Key, V any] struct {
	c     *Cache[K, V]
	share uint64 // of 1<<53
	grace time.Duration

	queue    chan *tier.Entry[K, V]
	counters auditCounters

	stop context.CancelFunc
	wg   sync.WaitGroup

	// Of run alone.
	later    []probe[K, V]                  // at most auditQueue
	suspects map[*tier.Entry[K, V]]*suspect // those in later, and found ones that the tier may hold
	quiet    int64                          // no line of the log before

	mu    sync.Mutex    // guards all below
	found []Offender[K] // at most maxOffenders
}

// A probe is a hit that is looked at, at the time due.
type probe[K Key, V any] struct {
	entry *tier.Entry[K, V]
	due   int64
}

// A suspect is an entry that Redis was seen to differ from.
type suspect struct {
	since int64 // when that was first known
	// events are those that were known of its key then, for what comes after may
	// push them out of the journal.
	events []flights.Event
	found  bool // stale hits of it were counted, and it was reported
}

const (
	// auditGrace is how long an invalidation may take. Messages take a thousandth of
	// it, where nothing fails.
	auditGrace = 100 * time.Millisecond
	// At most auditBatch hits are compared in each auditPause: 1,000 a second.
	auditBatch = 20
	auditPause = 20 * time.Millisecond
	// auditQueue bounds what waits to be compared, and what waits for its grace.
	auditQueue = 256
	// maxSuspects bounds what is remembered of entries: they are forgotten as soon as
	// they leave the tier.
	maxSuspects = 1024
	// maxOffenders is how many stale entries are kept for Offenders.
	maxOffenders = 16
	// logPause is the least time between two lines of the log.
	logPause = time.Second
)

func newAuditor[K Key, V any](c *Cache[K, V], share float64) *auditor[K, V] {
	return &auditor[K, V]{
		c: c, share: uint64(share * (1 << 53)), grace: c.store.auditGrace,
		queue:    make(chan *tier.Entry[K, V], auditQueue),
		suspects: make(map[*tier.Entry[K, V]]*suspect),
	}
}

// start has what is drawn looked at, until ctx ends or close is called.
func (a *auditor[K, V]) start(ctx context.Context) {
	ctx, a.stop = context.WithCancel(ctx)
	a.wg.Go(func() { a.run(ctx) })
}

// close waits for the end.
func (a *auditor[K, V]) close() {
	if a != nil {
		a.stop()
		a.wg.Wait()
	}
}

// sample draws a hit of e, or not. It never waits.
func (a *auditor[K, V]) sample(e *tier.Entry[K, V]) {
	if rand.Uint64()>>11 >= a.share {
		return
	}
	select {
	case a.queue <- e:
	default:
		a.counters.skipped.Add(1)
	}
}

func (a *auditor[K, V]) run(ctx context.Context) {
	for {
		batch := a.next(ctx)
		if ctx.Err() != nil {
			return
		}
		a.check(ctx, batch)
		a.forget()
		select {
		case <-ctx.Done():
			return
		case <-time.After(auditPause):
		}
	}
}

// next waits until there is something to look at, and returns it.
func (a *auditor[K, V]) next(ctx context.Context) (batch []probe[K, V]) {
	for {
		now := a.c.store.clock.Exact()
		wait := time.Duration(-1)
		rest := a.later[:0]
		for _, p := range a.later {
			switch {
			case p.due <= now && len(batch) < auditBatch:
				batch = append(batch, p)
				continue
			case wait < 0 || time.Duration(p.due-now) < wait:
				wait = time.Duration(p.due - now)
			}
			rest = append(rest, p)
		}
		clear(a.later[len(rest):])
		a.later = rest
		for len(batch) < auditBatch {
			select {
			case e := <-a.queue:
				batch = append(batch, probe[K, V]{entry: e})
				continue
			default:
			}
			break
		}
		if len(batch) > 0 {
			return batch
		}
		var due <-chan time.Time
		if wait >= 0 {
			due = time.After(wait)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-due:
		case e := <-a.queue:
			return append(batch, probe[K, V]{entry: e})
		}
	}
}

// check asks Redis for what the entries of batch stand for, and judges them.
func (a *auditor[K, V]) check(ctx context.Context, batch []probe[K, V]) {
	s := a.c.store
	if !s.connected.Load() || s.breaker.failing.Load() {
		a.counters.skipped.Add(uint64(len(batch)))
		return
	}
	b := s.client.B()
	commands := make([]rueidis.Completed, len(batch))
	for i, p := range batch {
		commands[i] = b.Get().Key(a.c.prefix + keyText(p.entry.Key())).Build()
	}
	if s.inCluster {
		commands = pinned(commands)
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	replies := s.client.DoMulti(ctx, commands...)
	now := s.clock.Exact()
	for i, p := range batch {
		data, err := replies[i].ToString()
		missing := rueidis.IsRedisNil(err)
		if err != nil && !missing {
			a.counters.skipped.Add(1)
			continue
		}
		same, err := a.c.sameAs(p.entry, data, missing)
		if err != nil { // a codec that fails says nothing
			a.counters.skipped.Add(1)
			continue
		}
		a.judge(p.entry, same, now)
	}
}

// judge decides on a hit of e of which Redis was known, at now, to hold the same
// value or not.
func (a *auditor[K, V]) judge(e *tier.Entry[K, V], same bool, now int64) {
	if same || !a.c.flights.Serves(e) {
		a.counters.checked.Add(1)
		delete(a.suspects, e)
		return
	}
	su := a.suspects[e]
	if su == nil {
		if len(a.suspects) >= maxSuspects {
			a.counters.skipped.Add(1)
			return
		}
		su = &suspect{since: now, events: a.c.flights.Events(e.Key())}
		a.suspects[e] = su
	}
	if due := su.since + int64(a.grace); now < due {
		if len(a.later) >= auditQueue {
			a.counters.skipped.Add(1)
			return
		}
		a.later = append(a.later, probe[K, V]{e, due})
		return
	}
	a.counters.checked.Add(1)
	age := time.Duration(now - su.since)
	a.counters.stale[bucket(age)].Add(1)
	a.counters.worst.Store(max(a.counters.worst.Load(), int64(age)))
	if !su.found {
		su.found = true
		a.offend(e, su, now)
	}
}

// forget drops the suspects that nobody will be served any more.
func (a *auditor[K, V]) forget() {
	for e := range a.suspects {
		if !a.c.flights.Serves(e) {
			delete(a.suspects, e)
		}
	}
}

// sameAs says whether data, or that there is none, is what e stands for. Bytes of
// another program may differ from those that the codec writes, and yet mean the
// same.
func (c *Cache[K, V]) sameAs(e *tier.Entry[K, V], data string, missing bool) (same bool, err error) {
	if missing || e.Missing {
		return missing == e.Missing, nil
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", ErrPanic, p)
		}
	}()
	local, err := c.bytes("", e.Value, nil)
	if err != nil || local == data {
		return err == nil, err
	}
	there, err := c.decodeValue(data)
	if errors.Is(err, ErrDecode) {
		return false, nil // it was no such bytes that e was made of
	}
	if err != nil {
		return false, err
	}
	again, err := c.bytes("", there, nil)
	return err == nil && again == local || reflect.DeepEqual(there, e.Value), nil
}

// An Offender is an entry that Options.Audit found stale, with what this process
// knows of how it came to that.
type Offender[K Key] struct {
	Key   K
	Found time.Time
	// How long ago its value had been replaced then, at least and at most: since
	// Redis was first seen to hold another value, and since it was asked for, or told,
	// the entry's.
	AtLeast, AtMost time.Duration
	// Events are the last ones that this process remembers of the key and of the whole
	// tier, oldest first.
	Events []Event
}

// An Event is a flight's beginning or end, an invalidation, a cut, a resume or a
// clear.
type Event struct {
	At   time.Time
	What string
}

// Offenders returns the entries that Options.Audit found stale, oldest first, at
// most the last 16. Each is in it once.
func (c *Cache[K, V]) Offenders() []Offender[K] {
	if c.audit == nil {
		return nil
	}
	c.audit.mu.Lock()
	defer c.audit.mu.Unlock()
	return append([]Offender[K](nil), c.audit.found...)
}

// offend keeps e for Offenders, and tells the log.
func (a *auditor[K, V]) offend(e *tier.Entry[K, V], su *suspect, now int64) {
	events := su.events
	for _, event := range a.c.flights.Events(e.Key()) {
		if event.At > su.since {
			events = append(events, event)
		}
	}
	wall := time.Now()
	o := Offender[K]{Key: e.Key(), Found: wall, AtLeast: time.Duration(now - su.since), AtMost: time.Duration(now - e.Born)}
	lines := make([]string, len(events))
	for i, event := range events {
		ago := time.Duration(now - event.At)
		o.Events = append(o.Events, Event{wall.Add(-ago), event.What})
		lines[i] = fmt.Sprintf("%v before: %s", ago.Round(time.Microsecond), event.What)
	}
	a.mu.Lock()
	if len(a.found) == maxOffenders {
		a.found = append(a.found[:0], a.found[1:]...)
	}
	a.found = append(a.found, o)
	a.mu.Unlock()
	if logger := a.c.store.logger; logger != nil && now >= a.quiet {
		a.quiet = now + int64(logPause)
		logger.Warn("the local tier serves what Redis has not", zap.String("cache", a.c.name), zap.String("key", keyText(o.Key)),
			zap.Duration("for at least", o.AtLeast), zap.Duration("for at most", o.AtMost), zap.Strings("events", lines))
	}
}
