package invalidate

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// Status says whether a process hears the others' writes.
type Status uint8

const (
	// Disabled: invalidation is off, and nothing is listened to.
	Disabled Status = iota
	// Cut: nothing is heard, so nothing is served locally and every read asks
	// Redis. The stream is being set up again.
	Cut
	// Live: writes are heard and the local tiers serve.
	Live
	// Closed: the Store was closed.
	Closed
)

// String returns the status in lower case.
func (s Status) String() string {
	switch s {
	case Disabled:
		return "disabled"
	case Cut:
		return "cut"
	case Live:
		return "live"
	case Closed:
		return "closed"
	}
	return fmt.Sprintf("status(%d)", uint8(s))
}

// State is the stream's status with its cause.
type State struct {
	Status Status
	// Cause says why the status is Cut: the error of the connection, or of the
	// last attempt to set it up again. It is nil otherwise.
	Cause error
	// Since is when the status last changed, by the wall clock.
	Since time.Time
	// Cuts counts how often the status went from Live to Cut.
	Cuts uint64
	// LastCut is when that was last, and LastCause why; zero if never.
	LastCut   time.Time
	LastCause error
}

// String returns the state for a log line.
func (s State) String() string {
	if s.Cause != nil {
		return fmt.Sprintf("%v: %v", s.Status, s.Cause)
	}
	return s.Status.String()
}

// watchers calls user functions with each new state, in order, on a goroutine
// of its own, which ends when there is nothing to tell.
type watchers struct {
	mu      sync.Mutex // guards all below
	fns     map[int]func(State)
	nextID  int
	queue   []told
	running bool
	wg      sync.WaitGroup
}

// told is a state for those watchers that it concerns.
type told struct {
	state        State
	from, before int // their ids
}

// maxQueuedStates bounds what is kept for a slow watcher: it then misses the
// oldest states, never the newest.
const maxQueuedStates = 64

func (w *watchers) add(fn func(State)) (remove func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.addLocked(fn)
}

// addTold is add, and tells fn s.
func (w *watchers) addTold(fn func(State), s State) (remove func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	id := w.nextID
	remove = w.addLocked(fn)
	w.tellLocked(told{s, id, w.nextID})
	return remove
}

// REQUIRES: w.mu held.
func (w *watchers) addLocked(fn func(State)) (remove func()) {
	if w.fns == nil {
		w.fns = make(map[int]func(State))
	}
	id := w.nextID
	w.nextID++
	w.fns[id] = fn
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.fns, id)
	}
}

func (w *watchers) tell(s State) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.fns) > 0 {
		w.tellLocked(told{s, 0, w.nextID}) // those that were there when it began
	}
}

// REQUIRES: w.mu held.
func (w *watchers) tellLocked(s told) {
	if len(w.queue) >= maxQueuedStates {
		w.queue = w.queue[1:]
	}
	w.queue = append(w.queue, s)
	if !w.running {
		w.running = true
		w.wg.Go(w.run)
	}
}

func (w *watchers) run() {
	for {
		w.mu.Lock()
		if len(w.queue) == 0 {
			w.running = false
			w.mu.Unlock()
			return
		}
		s := w.queue[0]
		w.queue = w.queue[1:]
		ids := slices.Sorted(maps.Keys(w.fns))
		w.mu.Unlock()
		for _, id := range ids {
			w.mu.Lock()
			fn := w.fns[id] // nil where another watcher has removed it meanwhile
			w.mu.Unlock()
			if fn != nil && s.from <= id && id < s.before {
				fn(s.state)
			}
		}
	}
}
