package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/flipcache/flipcache/benchmarks/internal/report"
	"github.com/flipcache/flipcache/benchmarks/peers"
)

// figures are what was measured, and where.
type figures struct {
	*report.Results
	machine report.Machine
}

func (f figures) markdown(picture string, versions map[string]string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Peers: %s, %s cores\n\n", f.machine.CPU, f.machine.Cores)
	b.WriteString(f.machine.Markdown())
	fmt.Fprintf(&b, `
All sides of a table took turns, in short batches, in one process; a run's figure is its median batch.
A cell is the median of the runs with the lowest and the highest, then that by FlipCache's in the same run.

![all tables, on a logarithmic scale](%s)

## Numbers to reach

| what | figure | lowest to highest run | | |
|---|---|---|---|---|
`, picture)
	for _, t := range targets {
		if x, ok := t.figure(f); ok {
			b.WriteString(t.row(x))
		}
	}
	for _, t := range topics {
		f.section(&b, t)
	}
	f.about(&b, versions)
	return b.String()
}

// A line is a row of a topic's table: a figure for each column that has one.
type line struct {
	side    string
	columns []report.Figure
}

// lines returns the sides of t, the lowest first.
func (f figures) lines(t topic) (all []line) {
	for c, column := range t.columns {
		for _, x := range f.All {
			side, ok := strings.CutSuffix(x.Unit, "-"+t.unit)
			if !ok || x.Benchmark != column.benchmark {
				continue
			}
			i := slices.IndexFunc(all, func(l line) bool { return l.side == side })
			if i < 0 {
				i = len(all)
				all = append(all, line{side, make([]report.Figure, len(t.columns))})
			}
			all[i].columns[c] = x.Values
		}
	}
	slices.SortStableFunc(all, func(x, y line) int { return cmp.Compare(x.first(), y.first()) })
	return all
}

// first returns the median of the first column that l has.
func (l line) first() float64 {
	i := slices.IndexFunc(l.columns, func(f report.Figure) bool { return len(f) > 0 })
	return l.columns[i].Median()
}

// missing returns what would be shown and was not measured.
func (f figures) missing() (all []string) {
	for _, t := range topics {
		for _, c := range t.columns {
			if _, ok := f.Find(c.benchmark, t.base+"-"+t.unit); !ok {
				all = append(all, c.benchmark)
			}
		}
	}
	for _, t := range targets {
		if _, ok := t.figure(f); !ok {
			all = append(all, t.what)
		}
	}
	return all
}

func (f figures) section(b *strings.Builder, t topic) {
	lines := f.lines(t)
	if len(lines) == 0 {
		return
	}
	var base []report.Figure
	if i := slices.IndexFunc(lines, func(l line) bool { return l.side == t.base }); i >= 0 {
		base = lines[i].columns
	}
	fmt.Fprintf(b, "\n## %s\n\n%s\n\n| |", t.title, t.text)
	for _, c := range t.columns {
		fmt.Fprintf(b, " %s, %s | by %s |", c.head, show(t), t.base)
	}
	allocs := t.unit == nanoseconds
	if allocs {
		b.WriteString(" allocations |")
	}
	b.WriteString("\n|---|" + strings.Repeat("--:|--:|", len(t.columns)))
	if allocs {
		b.WriteString("--:|")
	}
	b.WriteByte('\n')
	for _, l := range lines {
		fmt.Fprintf(b, "| %s |", label(l.side))
		for c, x := range l.columns {
			if len(x) == 0 {
				b.WriteString(" | |")
				continue
			}
			fmt.Fprintf(b, " %s (%s to %s) |", short(x.Median()), short(x.Low()), short(x.High()))
			if base != nil && len(base[c]) > 0 {
				fmt.Fprintf(b, " %s |", report.Number(x.Over(base[c]).Median()))
			} else {
				b.WriteString(" |")
			}
		}
		if allocs {
			n := ""
			for _, c := range t.columns {
				if x, ok := f.Find(c.benchmark, l.side+"-allocs/op"); ok {
					n = report.Number(x.Median())
					break
				}
			}
			fmt.Fprintf(b, " %s |", n)
		}
		b.WriteByte('\n')
	}
}

// show returns the unit of t as a reader knows it.
func show(t topic) string {
	if t.unit == bytes {
		return "an entry"
	}
	return "ns"
}

// label returns how a row is called.
func label(side string) string {
	switch {
	case side == "clock":
		return "(one reading of the clock)"
	case ourOwn(side):
		return "**" + side + "**"
	}
	return side
}

// short formats a figure with three digits.
func short(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// about writes what the peers are.
func (f figures) about(b *strings.Builder, versions map[string]string) {
	b.WriteString("\n## The peers\n\nEach is set as its own documentation tells for speed: the comments of package peers say how.\n" +
		"Left out, for the Go module proxy does not have them: " + strings.Join(peers.Missing, ", ") + ".\n")
	yes := func(v bool) string {
		if v {
			return "yes"
		}
		return ""
	}
	version := func(module string) string {
		switch {
		case module == "":
			return "Go's own"
		case versions[module] == "" || module == "github.com/flipcache/flipcache":
			return module + ", this tree"
		}
		return module + " " + versions[module]
	}
	b.WriteString("\n| in one process | module | TTL | bound |\n|---|---|---|---|\n")
	for _, p := range peers.Locals() {
		fmt.Fprintf(b, "| %s | %s | %s | %s |\n", label(p.Name), version(p.Module), yes(p.Expiry), yes(p.Bound))
	}
	b.WriteString("\n| two tiers | module | how others hear of a write |\n|---|---|---|\n")
	for _, p := range peers.TwoTiers() {
		fmt.Fprintf(b, "| %s | %s | %s |\n", label(p.Name), version(p.Module), p.Hears)
	}
}
