package history

import (
	"os"
	"strings"
	"testing"
	"time"
)

func incr(p int16, call, ret, delta, sum int64) Op {
	return Op{Kind: Incr, Outcome: Done, Process: p, Call: call, Return: ret, Delta: delta, Value: sum}
}

func update(p int16, call, ret, old, delta int64) Op {
	return Op{Kind: Update, Outcome: Done, Process: p, Call: call, Return: ret, Old: old, Delta: delta, Value: old + delta}
}

func fresh(p int16, call, ret, v int64) Op {
	return Op{Kind: Fresh, Outcome: Done, Process: p, Call: call, Return: ret, Value: v}
}

func TestCountersThatHaveAnOrderPass(t *testing.T) {
	for name, ops := range map[string][]Op{
		"one after the other": {incr(0, 1, 2, 1, 1), update(1, 3, 4, 1, 5), fresh(0, 5, 6, 6)},
		"at once":             {incr(0, 1, 10, 1, 6), update(1, 2, 9, 0, 5), fresh(2, 3, 8, 5), fresh(2, 11, 12, 6)},
		"unknown, happened":   {unknown(incr(0, 1, 2, 1, 0)), incr(0, 5, 6, 1, 2)},
		"unknown, late":       {unknown(incr(0, 1, 2, 5, 0)), incr(0, 3, 4, 1, 1), fresh(1, 8, 9, 6)},
		"unknown, never":      {unknown(incr(0, 1, 2, 5, 0)), incr(0, 3, 4, 1, 1), fresh(1, 8, 9, 1)},
		"an Update of unknown outcome that found something else": {incr(0, 1, 2, 1, 1), unknown(update(1, 3, 4, 1, 7)), incr(0, 5, 6, 1, 2), fresh(0, 7, 8, 2)},
		"an Update of unknown outcome that happened":             {unknown(update(1, 3, 4, 0, 7)), incr(0, 5, 6, 1, 8)},
		"refused": {refused(incr(0, 1, 2, 5, 0)), incr(0, 3, 4, 1, 1)},
	} {
		if broken, undecided, err := CheckCounter(ops, time.Minute, ""); len(broken) != 0 || undecided || err != nil {
			t.Errorf("%s: %v, %v, %v", name, broken, undecided, err)
		}
	}
}

func TestCountersWithoutAnOrderAreSeenAndDrawn(t *testing.T) {
	for name, ops := range map[string][]Op{
		"a lost update":                      {update(0, 1, 10, 0, 1), update(1, 2, 9, 0, 1)},
		"a lost addition":                    {incr(0, 1, 2, 1, 1), incr(1, 3, 4, 1, 1)},
		"an addition twice":                  {incr(0, 1, 2, 1, 1), fresh(1, 3, 4, 2)},
		"an old read":                        {incr(0, 1, 2, 1, 1), incr(0, 3, 4, 1, 2), fresh(1, 5, 6, 1)},
		"refused, and done":                  {refused(incr(0, 1, 2, 5, 0)), fresh(0, 3, 4, 5)},
		"unknown, and twice":                 {unknown(incr(0, 1, 2, 5, 0)), fresh(0, 3, 4, 10)},
		"unknown, and taken back":            {unknown(incr(0, 1, 2, 5, 0)), fresh(0, 3, 4, 5), fresh(0, 5, 6, 0)},
		"an Update over what it did not see": {incr(0, 1, 2, 1, 1), incr(0, 3, 4, 1, 2), update(1, 5, 6, 1, 7)},
	} {
		broken, undecided, err := CheckCounter(ops, time.Minute, t.TempDir())
		if len(broken) != 1 || broken[0].Broken != Linearizable || undecided || err != nil {
			t.Errorf("%s: %v, %v, %v", name, broken, undecided, err)
			continue
		}
		if html, err := os.ReadFile(broken[0].HTML); err != nil || !strings.Contains(string(html), "<html") {
			t.Errorf("%s: its picture: %v", name, err)
		}
	}
}

func TestReadsOfACounterAreJudged(t *testing.T) {
	for name, c := range map[string]struct {
		want  Promise // nothing: all is well
		rules Rules
		ops   []Op
	}{
		"told late":            {nothing, coherent, []Op{incr(0, 1, 2, 1, 1), get(1, 3, 4, 1), incr(0, 5, 6, 1, 2), get(1, 200, 201, 1), get(1, 202, 203, 2)}},
		"at once":              {nothing, leased, []Op{incr(0, 1, 9, 1, 1), missing(0, 2, 10), get(0, 10, 11, 1)}},
		"own":                  {OwnWrites, Rules{}, []Op{incr(0, 1, 2, 1, 1), missing(0, 3, 4)}},
		"own Update":           {OwnWrites, Rules{}, []Op{incr(0, 1, 2, 1, 1), update(0, 3, 4, 1, 1), get(0, 5, 6, 1)}},
		"step back":            {NoStepBack, coherent, []Op{incr(0, 1, 2, 1, 1), incr(0, 3, 4, 1, 2), get(1, 5, 6, 2), get(1, 7, 8, 1)}},
		"step back from Fresh": {NoStepBack, coherent, []Op{incr(0, 1, 2, 1, 1), incr(0, 3, 4, 1, 2), fresh(1, 5, 6, 2), get(1, 7, 8, 1)}},
		"lease":                {Lease, leased, []Op{incr(0, 1, 2, 1, 1), incr(0, 3, 4, 1, 2), get(1, 105, 106, 1)}},
		"within the lease":     {nothing, leased, []Op{incr(0, 1, 2, 1, 1), incr(0, 3, 4, 1, 2), get(1, 103, 106, 1)}},
		"Off, another's":       {nothing, Rules{}, []Op{incr(0, 1, 2, 1, 1), incr(0, 3, 4, 1, 2), get(1, 5, 6, 2), get(1, 7, 8, 1)}},
	} {
		broken := CheckReads(c.ops, c.rules)
		if c.want == nothing && len(broken) > 0 || c.want != nothing && (len(broken) != 1 || broken[0].Broken != c.want) {
			t.Errorf("%s: got %v, want %v", name, broken, c.want)
		}
	}
}
