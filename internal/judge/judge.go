//go:build unix

// Package judge decides, exactly and for every read, whether several processes
// on one machine were served a stale value. They share a table in memory: for
// each key the newest version whose write has completed, and when the last ones
// did, by the clock that they have in common.
//
// A read is stale if it returned version v although the write of a later version
// had completed before the read began. Its age is how long before that the first
// such write had completed.
//
// Where Redis fails over it may lose writes that it had acknowledged. Who knows what
// Redis holds (a referee) tells the table of those: they are no later version to
// anybody. Reads are then judged when the referee has looked: see Referee.
package judge

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// ring is how many completed writes of a key are remembered with their time.
const ring = 256

// A slot is one key's. It lies in shared memory: all fields are atomics, and
// there are no pointers.
type slot struct {
	// state is the key's generation in the upper bits and the newest version
	// whose write has completed in the lower ones: both are read in one step.
	state atomic.Uint64
	// began is when the write that is under way began; 0: none is.
	began atomic.Uint64
	_     [6]uint64
	// done holds the version v at v % ring. at is written between two writes of
	// version, so that a reader knows when it was changed under its eyes.
	done [ring]struct{ version, at atomic.Uint64 }
}

const versionBits = 40

// lost is the version of an entry of the ring whose write Redis has lost. It is older
// than any that may be lost, so it counts as none: the first version is not lost.
const lost = 1

// head is what all keys have in common.
type head struct {
	looks, looked atomic.Uint64 // of the referee: begun, and the newest that is over
	_             [6]uint64
}

// Table is one process's view of the shared table. Safe for concurrent use; each
// key has one process, and there one goroutine, that writes it.
type Table struct {
	memory []byte
	head   *head
	slots  []slot
}

// Size returns the length of the file for n keys.
func Size(n int) int64 { return int64(unsafe.Sizeof(head{})) + int64(n)*int64(unsafe.Sizeof(slot{})) }

// Open maps f, which has the Size for n keys, is zero at first, and may be
// closed afterwards.
func Open(f *os.File, n int) (*Table, error) {
	if n < 1 {
		return nil, fmt.Errorf("judge: %d keys", n)
	}
	m, err := syscall.Mmap(int(f.Fd()), 0, int(Size(n)), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("judge: map the shared table: %w", err)
	}
	return &Table{
		memory: m,
		head:   (*head)(unsafe.Pointer(&m[0])),
		slots:  unsafe.Slice((*slot)(unsafe.Pointer(&m[unsafe.Sizeof(head{})])), n),
	}, nil
}

// Close unmaps the table. Nobody may use it then.
func (t *Table) Close() error {
	if t.memory == nil {
		return errors.New("judge: closed twice")
	}
	m := t.memory
	t.memory, t.head, t.slots = nil, nil, nil
	return syscall.Munmap(m)
}

// A Mark is what was known of a key before a read of it began.
type Mark struct {
	Generation uint64 // of the key: which name it has now
	Version    uint64 // the newest whose write has completed; 0: none
}

// Before returns the mark of key for a read that begins now.
func (t *Table) Before(key int) Mark {
	s := t.slots[key].state.Load()
	return Mark{Generation: s >> versionBits, Version: s & (1<<versionBits - 1)}
}

// Begin tells that a write of key begins, at the time at, and End that it is over, behind
// Completed if it completed.
func (t *Table) Begin(key int, at time.Duration) { t.slots[key].began.Store(uint64(at)) }

// End is Begin's.
func (t *Table) End(key int) { t.slots[key].began.Store(0) }

// UnderWay returns when the write of key began that is under way; 0: none is.
func (t *Table) UnderWay(key int) time.Duration { return time.Duration(t.slots[key].began.Load()) }

// Completed tells that the write of version, to the key's name of generation,
// completed at the time at. Versions of a key grow, over generations, too; those
// whose outcome is unknown are left out.
func (t *Table) Completed(key int, generation, version uint64, at time.Duration) {
	s := &t.slots[key]
	d := &s.done[version%ring]
	d.version.Store(0)
	d.at.Store(uint64(at))
	d.version.Store(version)
	s.state.Store(generation<<versionBits | version)
}

// A Verdict is the judgement of one read.
type Verdict struct {
	Stale bool
	Age   time.Duration // how long the value had been replaced when the read began
	// AtLeast says that Age is a lower bound: more writes have completed since
	// than the table remembers.
	AtLeast bool
}

// Judge judges a read of key that began at the time began, after mark was taken,
// and returned version.
func (t *Table) Judge(key int, mark Mark, began time.Duration, version uint64) Verdict {
	if version >= mark.Version {
		return Verdict{}
	}
	s := &t.slots[key]
	verdict := Verdict{Stale: true}
	for v := version + 1; v <= mark.Version; v++ {
		if v+ring <= mark.Version { // fallen off the ring
			verdict.AtLeast = true
			v = mark.Version - ring
			continue
		}
		d := &s.done[v%ring]
		tag := d.version.Load()
		at := time.Duration(d.at.Load())
		if tag == v && d.version.Load() == v {
			verdict.Age = began - at
			return verdict
		}
		if tag != 0 && tag < v { // its write never completed: it was no later version
			continue
		}
		verdict.AtLeast = true // overwritten meanwhile
	}
	if !verdict.AtLeast { // Redis has lost all that were later
		return Verdict{}
	}
	return verdict
}

// now is read off the runtime's monotonic clock, which is cheap, and moved to
// the origin of the system's, which processes have in common.
var (
	base   = time.Now()
	origin = calibrate()
)

// Now returns the time by the monotonic clock that all processes of the machine
// share.
func Now() time.Duration { return origin + time.Since(base) }

// calibrate takes the tightest of several pairs of readings.
func calibrate() time.Duration {
	var best, width time.Duration
	for i := range 100 {
		before := time.Since(base)
		system := monotonic()
		after := time.Since(base)
		if i == 0 || after-before < width {
			width, best = after-before, system-before-(after-before)/2
		}
	}
	return best
}
