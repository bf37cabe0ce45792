package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/flipcache/flipcache/benchmarks/internal/report"
)

// figures are what was simulated, and where.
type figures struct {
	plan
	machine report.Machine
	rows    []*row
}

// The numbers to reach in the 54 cells: means, and how far the worst cell may be
// below the better of the two libraries, in points. One cell may be as far as
// atMostOnce, as theirs vary.
const (
	leastMean, leastPlain, leastInvalidated = 54.4, 55.8, 53.0
	atMost, atMostOnce                      = 0.5, 1.0
)

// ours and the libraries that it is judged by, by name.
const ours = "FlipCache"

var libraries = []string{"otter", "theine"}

func (f *figures) policy(name string) int {
	for i, p := range f.policies {
		if p.Name == name {
			return i
		}
	}
	return -1
}

// where says whether a row takes part in a mean.
type where func(r *row) bool

func all(*row) bool           { return true }
func plain(r *row) bool       { return !r.invalidations }
func invalidated(r *row) bool { return r.invalidations }

// mean returns the mean of what of tells of the rows.
func (f *figures) mean(in where, of func(r *row) float64) float64 {
	sum, n := 0.0, 0
	for _, r := range f.rows {
		if in(r) {
			sum += of(r)
			n++
		}
	}
	return sum / float64(n)
}

func (f *figures) by(policy int) func(r *row) float64 {
	return func(r *row) float64 { return r.ratio[policy] }
}

// judged says whether ours and both libraries were run.
func (f *figures) judged() bool {
	return f.policy(ours) >= 0 && f.policy(libraries[0]) >= 0 && f.policy(libraries[1]) >= 0
}

// better is the better of the libraries in a row.
func (f *figures) better(r *row) float64 {
	return max(r.ratio[f.policy(libraries[0])], r.ratio[f.policy(libraries[1])])
}

// lead is how far ours is above the better of the libraries, in points.
func (f *figures) lead(r *row) float64 { return r.ratio[f.policy(ours)] - f.better(r) }

// byLead returns the rows, that of the smallest lead first.
func (f *figures) byLead() []*row {
	return slices.SortedStableFunc(slices.Values(f.rows), func(x, y *row) int {
		return cmp.Compare(f.lead(x), f.lead(y))
	})
}

func (r *row) name() string {
	name := fmt.Sprintf("%s/%d", r.trace, r.capacity)
	if r.invalidations {
		name = "i: " + name
	}
	return name
}

func (f *figures) markdown(picture string, versions map[string]string) string {
	var b strings.Builder
	title := "the 54 cells"
	if f.trace != "" {
		title = f.rows[0].trace
	}
	fmt.Fprintf(&b, "# Hit ratios: %s\n\n", title)
	if f.short {
		fmt.Fprintf(&b, "**A short run: the first %d accesses of each trace. The figures are others than those of whole traces.**\n\n", shortAccesses)
	}
	b.WriteString(f.machine.Markdown())
	fmt.Fprintf(&b, `
Get or insert: hits in percent of the accesses. i: before every 20th access its key is invalidated.
FlipCache is the container that a cache has by default, as it ships. otter runs its maintenance on the caller and is cleaned up after each Set;
theine is waited for after each write. All three seed their hashes at random: figures move by tenths from run to run, on small caches by more.

![hit ratios by cell, and FlipCache's lead](%s)
`, picture)
	if f.judged() {
		f.verdict(&b)
	}
	f.tables(&b)
	f.about(&b, versions)
	return b.String()
}

// verdict writes the means and the worst cell, and judges them if all cells were
// run whole.
func (f *figures) verdict(b *strings.Builder) {
	b.WriteString("\n## Numbers to reach\n\n| what | figure | | |\n|---|--:|---|---|\n")
	judge := f.trace == "" && !f.short
	line := func(what string, v float64, limit string, met bool) {
		verdict := "met"
		if !met {
			verdict = "**missed**"
		}
		if !judge {
			limit, verdict = "", ""
		}
		fmt.Fprintf(b, "| %s | %.2f | %s | %s |\n", what, v, limit, verdict)
	}
	mean := func(what string, in where, least float64) {
		v := f.mean(in, f.by(f.policy(ours)))
		line(what, v, fmt.Sprintf("at least %v", least), v >= least)
	}
	mean("mean of all cells", all, leastMean)
	mean("without invalidations", plain, leastPlain)
	mean("with them", invalidated, leastInvalidated)
	worst := f.byLead()
	behind := slices.DeleteFunc(slices.Clone(worst), func(r *row) bool { return f.lead(r) >= -atMost })
	line("the worst cell, by the better of otter and theine: "+worst[0].name(), f.lead(worst[0]),
		fmt.Sprintf("at least -%v, in one cell -%v", atMost, atMostOnce),
		len(behind) == 0 || len(behind) == 1 && f.lead(worst[0]) >= -atMostOnce)
	fmt.Fprintf(b, "| mean of the better of otter and theine | %.2f | | |\n", f.mean(all, f.better))
	if len(behind) > 0 {
		fmt.Fprintf(b, "\nMore than %v below the better of otter and theine:", atMost)
		for i, r := range behind {
			if i > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(b, " %s (%.2f)", r.name(), f.lead(r))
		}
		b.WriteString(".\n")
	}
}

// tables writes the cells, first those without invalidations.
func (f *figures) tables(b *strings.Builder) {
	for _, part := range []struct {
		title string
		in    where
	}{{"Without invalidations", plain}, {"With invalidations", invalidated}} {
		fmt.Fprintf(b, "\n## %s\n\n| trace/capacity |", part.title)
		for _, p := range f.policies {
			fmt.Fprintf(b, " %s |", p.Name)
		}
		if f.judged() {
			b.WriteString(" lead |")
		}
		b.WriteString("\n|---|" + strings.Repeat("--:|", len(f.policies)))
		if f.judged() {
			b.WriteString("--:|")
		}
		b.WriteByte('\n')
		for _, r := range f.rows {
			if !part.in(r) {
				continue
			}
			fmt.Fprintf(b, "| %s/%d |", r.trace, r.capacity)
			for _, v := range r.ratio {
				fmt.Fprintf(b, " %.2f |", v)
			}
			if f.judged() {
				fmt.Fprintf(b, " %+.2f |", f.lead(r))
			}
			b.WriteByte('\n')
		}
		f.means(b, part.in)
	}
	b.WriteString("\n## All cells\n\n| |")
	for _, p := range f.policies {
		fmt.Fprintf(b, " %s |", p.Name)
	}
	b.WriteString("\n|---|" + strings.Repeat("--:|", len(f.policies)) + "\n| **mean** |")
	for i := range f.policies {
		fmt.Fprintf(b, " %.2f |", f.mean(all, f.by(i)))
	}
	b.WriteByte('\n')
}

func (f *figures) means(b *strings.Builder, in where) {
	b.WriteString("| **mean** |")
	for i := range f.policies {
		fmt.Fprintf(b, " **%.2f** |", f.mean(in, f.by(i)))
	}
	if f.judged() {
		fmt.Fprintf(b, " %+.2f |", f.mean(in, f.lead))
	}
	b.WriteByte('\n')
}

// about says which versions were run.
func (f *figures) about(b *strings.Builder, versions map[string]string) {
	var named []string
	for _, p := range f.policies {
		switch {
		case p.Name == ours:
			named = append(named, "FlipCache of this tree")
		case p.Module != "":
			named = append(named, p.Module+" "+versions[p.Module])
		}
	}
	fmt.Fprintf(b, "\n%s. The others are plain simulations, with S3-FIFO's small queue at 10 %%.\n", strings.Join(named, ", "))
}
