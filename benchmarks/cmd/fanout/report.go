package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/flipcache/flipcache/benchmarks/internal/report"
)

// figures are what was measured, and where.
type figures struct {
	plan
	machine report.Machine
	all     map[point]*series
}

// A point is a setting with so many writers at once.
type point struct {
	setting
	writers int
}

// A series is what the runs measured at a point: microseconds a write, and
// messages a write.
type series struct{ write, reread, heard report.Figure }

func (f *figures) add(p point, m measure) {
	if f.all == nil {
		f.all = make(map[point]*series)
	}
	s := f.all[p]
	if s == nil {
		s = new(series)
		f.all[p] = s
	}
	s.write = append(s.write, float64(m.write)/1000)
	s.reread = append(s.reread, float64(m.reread)/1000)
	s.heard = append(s.heard, m.heard)
}

// The number to reach: at 1,024 listeners, each with 1 % of the keys, Tracking
// costs the server at most a fifth of PubSub a write.
const (
	targetListeners = 1024
	targetShare     = 0.01
	targetRatio     = 0.2
)

func (f *figures) markdown(picture string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Fan-out: %s, %s cores\n\n", f.machine.CPU, f.machine.Cores)
	b.WriteString(f.machine.Markdown())
	fmt.Fprintf(&b, `
Processor time of the redis-server a write, in microseconds, by INFO cpu: user and system, all threads.
%d keys, values of %d bytes. Each listener is a connection. In PubSub it subscribes to the channel;
in Tracking it has read a share of the keys, at random. A figure is the median of the runs, with the lowest and the highest.

![processor time a write, by listeners](%s)

## Number to reach

The ratios are taken in each run. Who held a key reads it again in either mode: so the re-reads stand above and below the line.

| Tracking by PubSub, %d listeners, %s of the keys | figure | lowest to highest run | at most | |
|---|---|---|---|---|
`, keyCount, valueSize, picture, targetListeners, share(targetShare))
	for _, writers := range f.writers {
		t, p := f.all[point{setting{tracking, targetListeners, targetShare}, writers}], f.all[point{setting{pubSub, targetListeners, 0}, writers}]
		if t == nil || p == nil {
			continue
		}
		ratio, verdict := t.write.Over(p.write), "met"
		if ratio.Median() > targetRatio {
			verdict = "**missed**"
		}
		fmt.Fprintf(&b, "| %s: the write with its messages | %s | %s to %s | %s | %s |\n", atATime(writers),
			digits(ratio.Median()), digits(ratio.Low()), digits(ratio.High()), digits(targetRatio), verdict)
		ratio = t.write.Plus(t.reread).Over(p.write.Plus(t.reread))
		fmt.Fprintf(&b, "| the same, with the re-reads | %s | %s to %s | | |\n", digits(ratio.Median()), digits(ratio.Low()), digits(ratio.High()))
	}

	for _, writers := range f.writers {
		f.section(&b, writers)
	}
	return b.String()
}

// section writes the tables of so many writers at once.
func (f *figures) section(b *strings.Builder, writers int) {
	at := func(s setting) *series { return f.all[point{s, writers}] }
	head := func(title string, columns ...string) {
		fmt.Fprintf(b, "\n%s\n\n| listeners | %s |\n|---|%s\n", title, strings.Join(columns, " | "), strings.Repeat("---|", len(columns)))
	}
	// rows writes a row for each number of listeners: first, if there is one, and a cell a share.
	rows := func(first func(n int) string, cell func(tracking, pubSub *series) string) {
		for _, n := range f.listeners {
			fmt.Fprintf(b, "| %d |", n)
			if first != nil {
				fmt.Fprintf(b, " %s |", first(n))
			}
			for _, share := range f.shares {
				fmt.Fprintf(b, " %s |", cell(at(setting{tracking, n, share}), at(setting{way: pubSub, listeners: n})))
			}
			b.WriteByte('\n')
		}
	}
	var shares []string
	for _, s := range f.shares {
		shares = append(shares, share(s))
	}
	bare := at(setting{way: set})

	fmt.Fprintf(b, "\n## %s\n", atATime(writers))
	fmt.Fprintf(b, "\nA write that nobody hears: %s %s, %s %s, %s %s.\n", set, spread(bare.write),
		pubSub, spread(at(setting{way: pubSub}).write), own, spread(at(setting{way: own}).write))
	fmt.Fprintln(b, "(The last is a write in Tracking, from a process that keeps what it writes: on its own connection, with its own message.)")

	head("The write and its messages. In Tracking the write is a bare SET, by a program that tracks nothing.",
		slices.Concat([]string{"PubSub"}, prefixed("Tracking, ", shares))...)
	rows(func(n int) string { return spread(at(setting{way: pubSub, listeners: n}).write) },
		func(t, _ *series) string { return spread(t.write) })

	head("The re-reads that follow it, one GET by each listener that had the key. In PubSub they are the same.", shares...)
	rows(nil, func(t, _ *series) string { return spread(t.reread) })

	head("Tracking with its re-reads.", shares...)
	rows(nil, func(t, _ *series) string { return spread(t.write.Plus(t.reread)) })

	head("Ratios. PubSub by a bare SET that nobody hears, then Tracking by PubSub: without the re-reads, and with them in both.",
		slices.Concat([]string{"PubSub by SET"}, prefixed("Tracking by PubSub, ", shares))...)
	rows(func(n int) string {
		return digits(at(setting{way: pubSub, listeners: n}).write.Over(bare.write).Median())
	}, func(t, p *series) string {
		return digits(t.write.Over(p.write).Median()) + "; " +
			digits(t.write.Plus(t.reread).Over(p.write.Plus(t.reread)).Median())
	})

	head("A message, in microseconds: what the write costs more than one that nobody hears, by the messages that it sends.",
		slices.Concat([]string{"PubSub"}, prefixed("Tracking, ", shares))...)
	lonely := at(setting{way: pubSub})
	rows(func(n int) string {
		p := at(setting{way: pubSub, listeners: n})
		return each(p.write, lonely.write, p.heard)
	}, func(t, _ *series) string { return each(t.write, bare.write, t.heard) })
}

// each returns what one message costs, or nothing where there are so few that
// the difference is noise.
func each(with, without, heard report.Figure) string {
	if heard.Median() < 10 {
		return ""
	}
	var f report.Figure
	for i := range with {
		f = append(f, (with[i]-without[i])/heard[i])
	}
	return digits(f.Median())
}

func prefixed(prefix string, all []string) (out []string) {
	for _, s := range all {
		out = append(out, prefix+s)
	}
	return out
}

func spread(f report.Figure) string {
	return fmt.Sprintf("%s (%s to %s)", digits(f.Median()), digits(f.Low()), digits(f.High()))
}

// digits formats v with at least two digits, and at most three behind the point.
func digits(v float64) string {
	switch {
	case v >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case v >= 0.1:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'f', 3, 64)
}

func share(s float64) string { return strconv.FormatFloat(100*s, 'g', 4, 64) + " %" }

func atATime(writers int) string {
	if writers == 1 {
		return "One write at a time"
	}
	return fmt.Sprintf("%d writers at once", writers)
}
