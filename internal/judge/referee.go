//go:build unix

package judge

import "time"

// The referee is one process that looks, again and again, at what Redis holds, and
// strikes from the table what Redis has lost. A verdict that was found before it has
// looked may be wrong: a read that returned an older version may have been answered by
// a Redis that has lost the newer one. So who judges reads asks for Looks when a read
// is over, and judges it when Looked is more than that.
//
// Whatever a read is judged by was in the table when it began, so a look that begins
// later than it ended has seen all of that.

// Looks returns the number of the newest look that has begun.
func (t *Table) Looks() uint64 { return t.head.looks.Load() }

// Looked returns the number of the newest look that is over.
func (t *Table) Looked() uint64 { return t.head.looked.Load() }

// BeginLook is called by the referee before it asks the table for anything.
func (t *Table) BeginLook() (look uint64) { return t.head.looks.Add(1) }

// EndLook is called when all that it found was struck.
func (t *Table) EndLook(look uint64) { t.head.looked.Store(look) }

// Strike takes the versions from from to to of key out: they count for nothing. It
// returns how many of them had completed, as far as the table remembers. The first
// version cannot be struck.
func (t *Table) Strike(key int, from, to uint64) (struck int) {
	s := &t.slots[key]
	for v := max(from, lost+1, to-min(to, ring-1)); v <= to; v++ {
		if s.done[v%ring].version.CompareAndSwap(v, lost) {
			struck++
		}
	}
	return struck
}

// CompletedAt returns when the write of version of key completed; false if it did not,
// was struck, or is not remembered.
func (t *Table) CompletedAt(key int, version uint64) (at time.Duration, ok bool) {
	d := &t.slots[key].done[version%ring]
	tag := d.version.Load()
	at = time.Duration(d.at.Load())
	return at, tag == version && d.version.Load() == version
}

// CompletedBefore returns the newest version of key below version whose write had
// completed before at, as far as the table remembers; 0 if none had.
func (t *Table) CompletedBefore(key int, version uint64, at time.Duration) uint64 {
	for v := version; v > 0 && version-v < ring; {
		v--
		if done, ok := t.CompletedAt(key, v); ok && done < at {
			return v
		}
	}
	return 0
}
