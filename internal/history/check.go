package history

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"
	"time"
)

// Promise names what was broken, or why one value is no newer than another.
type Promise uint8

// What may be broken.
const (
	nothing      Promise = iota
	Clock                // a write takes effect between its call and its return
	Written              // what is read was written, and not refused
	OwnWrites            // a process reads its own writes
	NoStepBack           // the reads of one process never step back
	Lease                // nothing is older than the bound
	Acknowledged         // nothing is older than an acknowledged write that has returned
	AtRest               // when all is quiet every tier holds what Redis does
	Linearizable         // changes of a counter have an order
)

func (p Promise) String() string {
	return [...]string{"", "order by the clock", "only what was written", "own writes", "no step back", "lease", "acknowledged", "at rest", "linearizable"}[p]
}

// Rules are the promises of a mode beside those that all have: that what is read was
// written, and one's own writes.
type Rules struct {
	NoStepBack bool
	AtRest     bool
	Bound      time.Duration // no read is older; 0: no bound
	Running    bool          // the bound is not for a process that had been stopped
}

// A Violation is one broken promise.
type Violation struct {
	Key    int32
	Broken Promise
	Read   Op     // the read, in the order of returns, after which no order is left
	Why    string // the contradiction, a line a step
	HTML   string // path of its picture, where there is one
}

func (v Violation) String() string {
	return fmt.Sprintf("key %d: %v\n%s", v.Key, v.Broken, v.Why)
}

// perKey bounds the violations of one key that are looked for.
const perKey = 3

// Check returns the promises that the history of one register broke, at most a few of
// a kind. No value is set twice, there is at most one Delete, nothing was there at
// first, and ops are in the order of their calls.
func Check(ops []Op, rules Rules) []Violation {
	broken := append(unwritten(ops), unrested(ops, rules)...)
	reads := make([]int, 0, len(ops)) // in the order of their returns
	for i, o := range ops {
		if o.isRead() {
			reads = append(reads, i)
		}
	}
	slices.SortFunc(reads, func(a, b int) int { return cmp.Compare(ops[a].Return, ops[b].Return) })
	for range perKey {
		// Each read adds to what is known of the order, and takes nothing back.
		n := sort.Search(len(reads)+1, func(n int) bool {
			return newRegister(ops, reads[:n], rules).order().contradiction() != nil
		})
		if n > len(reads) {
			break
		}
		r := newRegister(ops, reads[:n], rules)
		o := r.order()
		v := Violation{Key: ops[0].Key}
		v.Broken, v.Why = r.explain(o.cycle(o.contradiction()))
		if n == 0 { // the writes alone: the clock went back
			return append(broken, v)
		}
		v.Read = ops[reads[n-1]]
		broken = append(broken, v)
		reads = slices.Delete(reads, n-1, n) // what else is there?
	}
	return broken
}

// unwritten returns the reads of what nobody had written by then.
func unwritten(ops []Op) (broken []Violation) {
	writes := make(map[int64]Op)
	for _, o := range ops {
		if o.Kind == Set {
			writes[o.Value] = o
		}
	}
	for _, o := range ops {
		if !o.isRead() || o.Kind == Missing {
			continue
		}
		w, found := writes[o.Value]
		why := ""
		switch {
		case !found:
			why = "nobody wrote this value"
		case w.Outcome == Refused:
			why = "its write was refused: " + w.String()
		case o.Return < w.Call:
			why = "its write came later: " + w.String()
		}
		if why != "" && len(broken) < perKey {
			broken = append(broken, Violation{Key: o.Key, Broken: Written, Read: o, Why: o.String() + "\n" + why})
		}
	}
	return broken
}

// unrested returns the tiers that are not as Redis is when all is quiet.
func unrested(ops []Op, rules Rules) (broken []Violation) {
	truth := slices.IndexFunc(ops, func(o Op) bool { return o.Quiet && o.Process == Redis })
	if truth < 0 || !rules.AtRest {
		return nil
	}
	t := ops[truth]
	for _, o := range ops {
		if o.Quiet && o.isRead() && o.Process != Redis && (o.Kind != t.Kind || o.Value != t.Value) && len(broken) < perKey {
			broken = append(broken, Violation{Key: o.Key, Broken: AtRest, Read: o, Why: o.String() + "\nRedis holds: " + t.String()})
		}
	}
	return broken
}

// A register is one key's history with some of its reads.
type register struct {
	ops    []Op
	reads  []int
	rules  Rules
	values []value
	byID   map[int64]int // of what was set: index in values
	gone   int           // what Delete leaves: index in values; 0: there was none
}

// A value is what was there from some time in [lo, hi] on.
type value struct {
	lo, hi int64
	op     int // the write; -1: of what was there at first
}

const (
	atFirst = 0 // index of the value of a key that was not yet set
	ever    = math.MinInt64
	never   = math.MaxInt64
)

func newRegister(ops []Op, reads []int, rules Rules) *register {
	r := &register{ops: ops, reads: reads, rules: rules, byID: make(map[int64]int)}
	r.values = append(r.values, value{ever, ever, -1})
	for i, o := range ops {
		if !o.isWrite() || o.Outcome == Refused {
			continue
		}
		v := value{o.Call, never, i}
		if o.Outcome == Done {
			v.hi = o.Return
		}
		if o.Kind == Delete {
			r.gone = len(r.values)
		} else {
			r.byID[o.Value] = len(r.values)
		}
		r.values = append(r.values, v)
	}
	for _, i := range reads { // who reads a value knows that it has been there
		if v, sure := r.seen(ops[i]); sure {
			r.values[v].hi = min(r.values[v].hi, ops[i].Return)
		}
	}
	return r
}

// seen returns the value that o read, or the newest that it may have read. Not sure:
// that says nothing of what comes after o. What was never written is not judged here.
func (r *register) seen(o Op) (v int, sure bool) {
	if o.Kind == Missing {
		if r.gone > 0 && o.Return >= r.values[r.gone].lo {
			return r.gone, false
		}
		return atFirst, true
	}
	v, found := r.byID[o.Value]
	if !found || o.Return < r.values[v].lo {
		return len(r.values) - 1, false
	}
	return v, true
}

// order returns what is known of the order of the values.
func (r *register) order() *order {
	o := newOrder(len(r.values))
	var done, called []mark
	var promised, bounded []mark // to all processes
	for i, v := range r.values {
		if v.hi < never {
			done = append(done, mark{v.hi, i, Clock, v.op})
		}
		if v.op < 0 {
			continue
		}
		called = append(called, mark{v.lo, i, Clock, v.op})
		w := r.ops[v.op]
		if r.rules.Bound > 0 && v.hi < never {
			bounded = append(bounded, mark{v.hi + int64(r.rules.Bound), i, Lease, v.op})
		}
		if w.Acked && w.Outcome == Done {
			promised = append(promised, mark{w.Return, i, Acknowledged, v.op})
		}
	}
	o.bound(done, called)

	floors, reads := make(map[int16][]mark), make(map[int16][]mark)
	var all, running []mark
	for i, op := range r.ops {
		if op.isWrite() && op.Outcome == Done {
			floors[op.Process] = append(floors[op.Process], mark{op.Return, r.written(op), OwnWrites, i})
		}
	}
	for _, i := range r.reads {
		op := r.ops[i]
		v, sure := r.seen(op)
		if !sure && op.Kind != Missing {
			continue
		}
		b := mark{op.Call, v, nothing, i}
		all = append(all, b)
		if !op.Stopped || !r.rules.Running {
			running = append(running, b)
		}
		reads[op.Process] = append(reads[op.Process], b)
		if sure && r.rules.NoStepBack {
			floors[op.Process] = append(floors[op.Process], mark{op.Return, v, NoStepBack, i})
		}
	}
	for p, f := range floors {
		o.bound(f, reads[p])
	}
	o.bound(promised, all)
	o.bound(bounded, running)
	return o
}

func (r *register) written(o Op) int {
	if o.Kind == Delete {
		return r.gone
	}
	return r.byID[o.Value]
}

// explain tells a cycle, and which promise it is about.
func (r *register) explain(cycle []edge) (broken Promise, why string) {
	broken = Clock
	var lines []string
	for _, e := range cycle {
		if e.op < 0 {
			continue
		}
		op := r.ops[e.op]
		switch e.why {
		case Clock:
			if int(e.to) < len(r.values) {
				lines = append(lines, "  was called after that: "+op.String())
			} else {
				lines = append(lines, "  was there by the end of, or was read by then: "+op.String())
			}
		case nothing:
			lines = append(lines, "  is older, and was read: "+op.String())
		default:
			broken = e.why
			lines = append(lines, fmt.Sprintf("  from then on, by %q: %v", e.why, op))
		}
	}
	return broken, strings.Join(lines, "\n")
}
