//go:build unix

package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/flipcache/flipcache/benchmarks/internal/report"
)

// figures are what was measured, and where.
type figures struct {
	plan
	machine report.Machine
	rows    []row
}

// A row is a side's.
type row struct {
	side
	calm, fast, faults measure
}

func (f *figures) markdown(picture string, versions map[string]string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Coherence: %s, %s cores\n\n", f.machine.CPU, f.machine.Cores)
	b.WriteString(f.machine.Markdown())
	fmt.Fprintf(&b, `
%d processes share a redis-server. Each reads %s times a second and writes %d times, %s keys by Zipf's law
(exponent 1.1), through a cache of its own, whose entries live %v. Every read is judged.

- stale: a newer write had completed, in whichever process, before the read began; its age is how long before.
- left: entries of the %s (each process', every key) that are not what Redis has, when all has been quiet for a second. They stay so until their life ends.
- local hit rate: reads for which Redis was not asked for a value, by its own count.
- reads a second: of all processes, of %s that are due; in brackets as fast as they can, without faults, with the judge's work in it.
- commands a read: all that Redis was sent meanwhile, by its own count; writes, messages and heartbeats included.
- failed: of reads and writes, those that returned an error. A cache that drops its entries with its connection, or with its lease, cannot answer
  a read before Redis can be reached again; one that keeps them answers with what it has. Where a write may have happened all the same,
  its key is given up for a fresh one.
- faults: links are cut, stalled in one way or both, delayed and throttled, all connections killed, processes and the server frozen,
  up to 2.5 s each and several at once; the same schedule (seed %d) for all. The last three seconds are calm. Timeouts are 1 s then.

`, f.workers, thousands(f.reads), f.writes, thousands(f.keys), f.localTTL, thousands(f.workers*f.keys), thousands(f.workers*f.reads), f.seed)
	fmt.Fprintf(&b, "![stale rate, age and entries left, by cache](%s)\n\n", picture)
	b.WriteString("| cache | hears of writes by | faults | stale rate | age p50 / p99 / max, ms | left | local hit rate | reads a second | commands a read | failed |\n")
	b.WriteString("|---|---|---|---|---|---|---|---|---|---|\n")
	for _, faults := range []bool{false, true} {
		for _, r := range f.rows {
			m, mark, fast := r.calm, "no", fmt.Sprintf(" (%s)", thousands(int(r.fast.perSecond)))
			if faults {
				m, mark, fast = r.faults, "yes", ""
			}
			left := thousands(m.left)
			if m.unreadable > 0 {
				left += fmt.Sprintf(", %s unreadable", thousands(m.unreadable))
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s | %s%s | %.2g | %s |\n", r.name, r.hears, mark,
				share(m.stale, m.reads), m.ages(), left, percent(m.hitRate), thousands(int(m.perSecond)), fast, m.commands, share(m.failed, m.calls))
		}
	}
	b.WriteString("\nVersions:")
	seen := make(map[string]bool)
	for _, r := range f.rows {
		if !r.ours && !seen[r.module] {
			seen[r.module] = true
			fmt.Fprintf(&b, " %s %s,", r.module, versions[r.module])
		}
	}
	fmt.Fprintf(&b, " and this tree. How each is set up, by which page of its documentation: benchmarks/peers.\n\nLeft out: %s.\n", missing)
	return b.String()
}

func (m measure) rate() float64 { return float64(m.stale) / float64(m.reads) }

// share formats n of all; a bare 0 stands for none at all.
func share(n, all uint64) string {
	if n == 0 {
		return "0"
	}
	return percent(float64(n) / float64(all))
}

func (m measure) ages() string {
	if m.stale == 0 {
		return "-"
	}
	return fmt.Sprintf("%s / %s / %s", ms(m.age.ValueAtQuantile(50)), ms(m.age.ValueAtQuantile(99)), ms(m.age.Max()))
}

// ms formats microseconds.
func ms(us int64) string { return strconv.FormatFloat(float64(us)/1000, 'g', 3, 64) }

func percent(f float64) string { return fmt.Sprintf("%.3g %%", 100*f) }

func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
