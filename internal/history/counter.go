package history

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// Piece is the most operations of one counter: what has an unknown outcome may have
// happened at any time after, which multiplies the orders to be tried.
const Piece = 200

// counter is the model of a key that is changed by Incr and Update and read past the
// local tiers. An operation of unknown outcome is one that returns at the end of
// time: that it never happened is the same as that it happens after all others.
var counter = porcupine.Model{
	Init: func() any { return int64(0) },
	Step: func(state, input, output any) (bool, any) {
		now, did, got := state.(int64), input.(Op), output.(Op)
		if got.Outcome == Unknown {
			if did.Kind == Update && got.Old != now {
				return true, state // it would have found another value, and changed nothing
			}
			return true, now + did.Delta
		}
		switch did.Kind {
		case Incr:
			return got.Value == now+did.Delta, now + did.Delta
		case Update:
			return got.Old == now && got.Value == now+did.Delta, now + did.Delta
		}
		return got.Value == now, state
	},
	DescribeOperation: func(input, output any) string {
		did, got := input.(Op), output.(Op)
		switch {
		case got.Outcome == Unknown:
			return fmt.Sprintf("%v %+d: unknown", did.Kind, did.Delta)
		case did.Kind == Update:
			return fmt.Sprintf("update %d: %d", got.Old, got.Value)
		case did.Kind == Incr:
			return fmt.Sprintf("incr %+d: %d", did.Delta, got.Value)
		}
		return fmt.Sprintf("fresh: %d", got.Value)
	},
}

// CheckReads returns the reads of one counter by way of the local tiers that broke a
// promise. It only grows, so sums tell their order: a read may not be less than what
// was there for certain by then.
func CheckReads(ops []Op, rules Rules) (broken []Violation) {
	type floor struct {
		at, sum int64
		op      Op
		why     Promise
	}
	var all []floor // of all processes, and of each
	own := make(map[int16][]floor)
	for _, o := range ops {
		if o.Outcome != Done {
			continue
		}
		switch o.Kind {
		case Incr, Update:
			own[o.Process] = append(own[o.Process], floor{o.Return, o.Value, o, OwnWrites})
			if rules.Bound > 0 {
				all = append(all, floor{o.Return + int64(rules.Bound), o.Value, o, Lease})
			}
		case Get, Fresh:
			if rules.NoStepBack {
				own[o.Process] = append(own[o.Process], floor{o.Return, o.Value, o, NoStepBack})
			}
		}
	}
	for _, o := range ops {
		if o.Kind == Missing {
			o.Value = 0
		}
		if !o.isRead() {
			continue
		}
		for _, f := range slices.Concat(own[o.Process], all) {
			if f.at < o.Call && f.sum > o.Value && !(f.why == Lease && o.Stopped && rules.Running) {
				why := fmt.Sprintf("  from then on, by %q: %v\n  is less, and was read: %v", f.why, f.op, o)
				broken = append(broken, Violation{Key: o.Key, Broken: f.why, Read: o, Why: why})
				break
			}
		}
		if len(broken) == perKey {
			break
		}
	}
	return broken
}

// CheckCounter says whether the changes of one counter, 0 at first, have an order, and
// draws a picture in dir if they have none. Undecided: that was not known in time.
func CheckCounter(ops []Op, limit time.Duration, dir string) (broken []Violation, undecided bool, err error) {
	var history []porcupine.Operation
	for _, o := range ops {
		if o.Outcome == Refused || o.Kind == Fresh && o.Outcome != Done || o.Kind != Fresh && o.Kind != Incr && o.Kind != Update {
			continue
		}
		end := o.Return
		if o.Outcome == Unknown {
			end = math.MaxInt64
		}
		history = append(history, porcupine.Operation{ClientId: client(o), Input: o, Call: o.Call, Output: o, Return: end})
	}
	result, info := porcupine.CheckOperationsVerbose(counter, history, limit)
	switch result {
	case porcupine.Ok:
		return nil, false, nil
	case porcupine.Unknown:
		return nil, true, nil
	}
	v := Violation{Key: ops[0].Key, Broken: Linearizable, Why: fmt.Sprintf("  its %d operations have no order", len(history))}
	if dir != "" {
		v.HTML = filepath.Join(dir, fmt.Sprintf("counter-%d.html", v.Key))
		err = porcupine.VisualizePath(counter, info, v.HTML)
	}
	return []Violation{v}, false, err
}
