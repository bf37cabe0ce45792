//go:build unix

package main

import (
	"fmt"
	"image/color"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"

	"github.com/flipcache/flipcache/benchmarks/internal/report"
)

// soak is what was found, and where.
type soak struct {
	plan
	machine report.Machine
	rows    []row
}

func (s *soak) findings() (all []string) {
	for _, r := range s.rows {
		for _, f := range r.findings() {
			all = append(all, r.name+": "+f)
		}
	}
	return all
}

func (s *soak) markdown(picture string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Soak: %s, %s cores\n\n", s.machine.CPU, s.machine.Cores)
	b.WriteString(s.machine.Markdown())
	if findings := s.findings(); len(findings) == 0 {
		b.WriteString("\n**Nothing grew, and no promise was broken.**\n")
	} else {
		fmt.Fprintf(&b, "\n**%d findings:**\n\n", len(findings))
		for _, f := range findings {
			fmt.Fprintf(&b, "- %s\n", f)
		}
	}
	fmt.Fprintf(&b, `
%d processes share a redis-server; each reads %d times a second and writes %d times, %d keys by Zipf's law, through
a cache with MaxStaleness %v and room for half of them. All the while links are cut, stalled, delayed and throttled,
all connections killed, processes and the server frozen (seed %d); the last three seconds are calm. Acknowledged writes
are tried without faults: a writer whose connection is new waits for ten seconds and more, and here the next fault comes sooner.

- Each worker's memory, goroutines and files are sampled. A line is fitted through the samples after the first fifth of
  the run (its slope is the median of the slopes between all pairs); what it grows by may be no more than the bound. What
  leaks less than that is not seen.
- Every read is judged: none may return what was replaced longer ago than the lease, and behind acknowledged writes none
  anything that was replaced at all.
- In the end, a second after the last write, no entry of any worker may differ from Redis.
- The auditor (Options.Audit) compares %g %% of the local hits with Redis beside the judge.

![memory, goroutines and files by time](%s)

| mode | reads | local hits | writes | failed | stale reads | worst age | entries left | audited | stale by the auditor | nines |
|---|---|---|---|---|---|---|---|---|---|---|
`, s.workers, s.reads, s.writes, s.keys, s.lease, s.seed, 100*audited, picture)
	for _, r := range s.rows {
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d | %d | %v | %d | %d | %d | %.1f |\n", r.name, r.reads, r.hits, r.writes, r.failed,
			r.stale, r.worst, r.left, r.audit.Checked, r.audit.Stale(0), r.audit.Nines(0))
	}
	b.WriteString("\n| mode | gauge | worker | median | growth | bound | |\n|---|---|---|---|---|---|---|\n")
	for _, r := range s.rows {
		for _, g := range gauges {
			for i, samples := range r.samples {
				t := g.trendOf(samples, r.length)
				verdict := "flat"
				if !t.flat() {
					verdict = "**not flat**"
				}
				unit := g.unit
				if unit != "" {
					unit = " " + unit
				}
				fmt.Fprintf(&b, "| %s | %s | %d | %.2f%s | %+.2f | %.2f | %s |\n", r.name, g.name, i, t.median, unit, t.growth, t.bound, verdict)
			}
		}
	}
	return b.String()
}

const panelWidth, panelHeight = 10 * vg.Centimeter, 6 * vg.Centimeter

// svg draws a row of panels a mode, a line a worker.
func (s *soak) svg() ([]byte, error) {
	var rows [][]*plot.Plot
	for _, r := range s.rows {
		var drawn []*plot.Plot
		for _, g := range gauges {
			p := report.NewPlot()
			p.Title.Text = r.name + ": " + g.name
			p.X.Label.Text, p.Y.Label.Text = "minutes", g.unit
			p.Add(plotter.NewGrid())
			for i, samples := range r.samples {
				xy := make(plotter.XYs, len(samples))
				for j, x := range samples {
					xy[j] = plotter.XY{X: x.At.Minutes(), Y: g.of(x) / g.scale}
				}
				line, err := plotter.NewLine(xy)
				if err != nil {
					return nil, err
				}
				line.Color = append([]color.Color{report.Red, report.Black}, report.Shades...)[i%(2+len(report.Shades))]
				p.Add(line)
			}
			p.Y.Min, p.Y.Max = 0, 1.15*max(1, p.Y.Max)
			drawn = append(drawn, p)
		}
		rows = append(rows, drawn)
	}
	return report.SVG(rows, panelWidth, panelHeight)
}
