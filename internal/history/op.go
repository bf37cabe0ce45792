// Package history judges what several processes did to one Redis, each operation
// with the time of its call and of its return by a clock that they have in common.
//
// Registers are keys that are set and read; each value is written once, so a read
// tells which write it saw. Check asks whether all that was read fits one order of
// the writes, in which a write takes effect between its call and its return, and
// under the promises of a mode: a process reads its own writes, its reads never step
// back, none is older than a lease, none that begins after an acknowledged write is
// older than that. Each of these says "what this read returned is that value or a
// newer one"; if they and the clock contradict each other, a promise was broken.
//
// Counters are keys that are changed by Update and Incr; CheckCounter asks
// porcupine whether there is an order at all.
package history

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Kind is what was done.
type Kind uint8

// The kinds. Get and Missing are reads of a register that returned, a value or that
// there is none.
const (
	None Kind = iota
	Get
	Missing
	Set
	Delete
	Incr   // of a counter, by Delta
	Update // of a counter that had Old, by Delta
	Fresh  // a read of a counter, past the local tier
	Stop   // the process was stopped from Call to Return
)

func (k Kind) String() string {
	return [...]string{"none", "get", "missing", "set", "delete", "incr", "update", "fresh", "stopped"}[k]
}

// Outcome is what is known of an operation.
type Outcome uint8

// The outcomes. An operation that never returned is Unknown, too.
const (
	Unknown Outcome = iota // it may have happened, may yet, or never
	Done
	Refused // it did not happen, and never will
)

// An Op is one operation. Times are nanoseconds.
type Op struct {
	Call, Return int64 // Return is 0 where the process died meanwhile
	Value        int64 // what was written or read; the sum, of a counter
	Old, Delta   int64
	Key          int32
	Process      int16
	Client       int16 // of the process
	Kind         Kind
	Outcome      Outcome
	Acked        bool // a write that was acknowledged
	Quiet        bool // a read when nothing had been written for a while
	Stopped      bool // a read of a process that had been stopped just before or meanwhile
}

// Redis is the Process of who asks it past all caches.
const Redis = -1

func (o Op) isRead() bool  { return (o.Kind == Get || o.Kind == Missing) && o.Outcome == Done }
func (o Op) isWrite() bool { return o.Kind == Set || o.Kind == Delete }

func (o Op) String() string {
	s := fmt.Sprintf("%v..%v process %d client %d: %v %d", time.Duration(o.Call), time.Duration(o.Return), o.Process, o.Client, o.Kind, o.Value)
	switch {
	case o.Outcome == Unknown:
		s += ", outcome unknown"
	case o.Outcome == Refused:
		s += ", refused"
	case o.Acked:
		s += ", acknowledged"
	}
	if o.Quiet {
		s += ", when all was quiet"
	}
	if o.Stopped {
		s += ", by a process that had been stopped"
	}
	return s
}

// ByKey returns the operations of each key, in the order of their calls, and marks
// the reads of processes that were stopped, or had been less than after before.
func ByKey(ops []Op, after time.Duration) map[int32][]Op {
	stops := make(map[int16][]Op)
	for _, o := range ops {
		if o.Kind == Stop {
			stops[o.Process] = append(stops[o.Process], o)
		}
	}
	all := make(map[int32][]Op)
	for _, o := range ops {
		if o.Kind == Stop {
			continue
		}
		o.Stopped = slices.ContainsFunc(stops[o.Process], func(s Op) bool {
			return s.Call <= o.Return && o.Call <= s.Return+int64(after)
		})
		all[o.Key] = append(all[o.Key], o)
	}
	for _, key := range all {
		slices.SortStableFunc(key, func(a, b Op) int { return cmp.Compare(a.Call, b.Call) })
	}
	return all
}
