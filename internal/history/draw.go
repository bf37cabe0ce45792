package history

import (
	"fmt"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// drawn bounds the operations of a picture.
const drawn = 150

// Draw writes a picture of a register's history about the read that broke a promise.
// It shows the order that porcupine finds for as much as it can, had the register no
// tiers; the read is marked.
func Draw(path string, ops []Op, broken Violation) error {
	at := slices.IndexFunc(ops, func(o Op) bool { return o.Call >= broken.Read.Call })
	if at < 0 {
		at = len(ops)
	}
	from, to := max(0, at-drawn*2/3), min(len(ops), at+drawn/3)
	const before = int64(-1) // what was there when the picture begins
	var history []porcupine.Operation
	for _, o := range ops[from:to] {
		end := o.Return
		if o.Outcome != Done && o.isWrite() {
			end = never
		}
		if o.Outcome == Refused || end == 0 {
			continue
		}
		history = append(history, porcupine.Operation{ClientId: client(o), Input: o, Call: o.Call, Output: o, Return: end})
	}
	model := porcupine.Model{
		Init: func() any { return before },
		Step: func(state, input, _ any) (bool, any) {
			o := input.(Op)
			switch {
			case o.Kind == Set:
				return true, o.Value
			case o.Kind == Delete:
				return true, int64(0)
			}
			return state == before || o.Value == state.(int64), o.Value
		},
		DescribeOperation: func(input, _ any) string {
			o := input.(Op)
			return fmt.Sprintf("%v %d", o.Kind, o.Value)
		},
	}
	_, info := porcupine.CheckOperationsVerbose(model, history, 100*time.Millisecond)
	info.AddAnnotations([]porcupine.Annotation{{
		ClientId: client(broken.Read), Start: broken.Read.Call, End: broken.Read.Return,
		Description: broken.Broken.String() + " is broken", Details: broken.Why, BackgroundColor: "#ff9191",
	}})
	return porcupine.VisualizePath(model, info, path)
}

// client numbers the clients of all processes; Redis' own reader is the first.
func client(o Op) int { return int(o.Process+1)*64 + int(o.Client) }
