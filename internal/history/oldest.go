package history

import (
	"cmp"
	"slices"
	"sort"
	"time"
)

// Oldest returns for how long, at the call of a read, what it returned had been
// replaced for certain: the longest of all reads of one register.
func Oldest(ops []Op) (age time.Duration) {
	var reads []int
	for i, o := range ops {
		if o.isRead() {
			reads = append(reads, i)
		}
	}
	r := newRegister(ops, reads, Rules{})
	// By their calls, with the earliest end of what was called then or later.
	values := slices.Clone(r.values[1:])
	slices.SortFunc(values, func(a, b value) int { return cmp.Compare(a.lo, b.lo) })
	earliest := make([]int64, len(values)+1)
	earliest[len(values)] = never
	for i := len(values) - 1; i >= 0; i-- {
		earliest[i] = min(earliest[i+1], values[i].hi)
	}
	for _, i := range reads {
		v, sure := r.seen(ops[i])
		if !sure || r.values[v].hi == never {
			continue
		}
		later := sort.Search(len(values), func(n int) bool { return values[n].lo > r.values[v].hi })
		if replaced := earliest[later]; replaced < ops[i].Call {
			age = max(age, time.Duration(ops[i].Call-replaced))
		}
	}
	return age
}
