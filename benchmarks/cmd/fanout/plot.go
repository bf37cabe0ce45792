package main

import (
	"image/color"
	"slices"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/flipcache/flipcache/benchmarks/internal/report"
)

const panel = 12 * vg.Centimeter

// svg draws the write with its messages by listeners, a panel for each number
// of writers.
func (f *figures) svg() ([]byte, error) {
	row := make([]*plot.Plot, 0, len(f.writers))
	low, high := 1e9, 0.0
	for _, writers := range f.writers {
		p, err := f.panel(writers)
		if err != nil {
			return nil, err
		}
		row, low, high = append(row, p), min(low, p.Y.Min), max(high, p.Y.Max)
	}
	for _, p := range row {
		p.Y.Min, p.Y.Max = low, high
	}
	return report.SVG([][]*plot.Plot{row}, panel, panel)
}

func (f *figures) panel(writers int) (*plot.Plot, error) {
	p := report.NewPlot()
	p.Title.Text = atATime(writers)
	p.X.Label.Text = "listeners"
	p.Y.Label.Text = "processor time of redis-server a write, µs"
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	p.Y.Tick.Marker = plot.LogTicks{Prec: -1}
	var ticks plot.ConstantTicks
	for _, n := range f.listeners {
		ticks = append(ticks, plot.Tick{Value: float64(n), Label: strconv.Itoa(n)})
	}
	p.X.Tick.Marker = ticks
	p.Legend.Top, p.Legend.Left = true, true
	p.Legend.Padding = vg.Points(2)
	p.Add(plotter.NewGrid())

	line := func(name string, c color.Color, dashes []vg.Length, at func(n int) setting) error {
		var xy plotter.XYs
		for _, n := range f.listeners {
			// A logarithm wants more than nothing.
			xy = append(xy, plotter.XY{X: float64(n), Y: max(0.1, f.all[point{at(n), writers}].write.Median())})
		}
		l, dots, err := plotter.NewLinePoints(xy)
		if err != nil {
			return err
		}
		l.Color, l.Width, l.Dashes = c, vg.Points(1.5), dashes
		dots.Color, dots.Shape = c, draw.CircleGlyph{}
		p.Add(l, dots)
		p.Legend.Add(name, l, dots)
		return nil
	}
	if err := line("PubSub", report.Red, nil, func(n int) setting { return setting{way: pubSub, listeners: n} }); err != nil {
		return nil, err
	}
	for i, share_ := range slices.Backward(f.shares) {
		err := line("Tracking, "+share(share_)+" of the keys", report.Shades[i%len(report.Shades)], nil,
			func(n int) setting { return setting{tracking, n, share_} })
		if err != nil {
			return nil, err
		}
	}
	err := line("SET that nobody hears", report.Black, []vg.Length{vg.Points(4), vg.Points(3)}, func(int) setting { return setting{way: set} })
	return p, err
}
