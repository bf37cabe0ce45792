package main

import (
	"bytes"
	"image/color"
	"slices"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

const panel = 12 * vg.Centimeter

// The colours can be told apart by those who see no red or no green (Okabe, Ito).
var (
	black  = color.RGBA{A: 255}
	red    = color.RGBA{213, 94, 0, 255}
	shades = []color.Color{
		color.RGBA{86, 180, 233, 255}, color.RGBA{0, 158, 115, 255},
		color.RGBA{0, 114, 178, 255}, color.RGBA{204, 121, 167, 255},
	}
)

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
	c := vgsvg.New(panel*vg.Length(len(row)), panel)
	tiles := draw.Tiles{Rows: 1, Cols: len(row), PadX: vg.Points(12), PadRight: vg.Points(6), PadTop: vg.Points(4)}
	for i, canvases := range plot.Align([][]*plot.Plot{row}, tiles, draw.New(c))[0] {
		row[i].Draw(canvases)
	}
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		return nil, err
	}
	// Arial is as wide, where there is no Liberation.
	return bytes.ReplaceAll(b.Bytes(), []byte("font-family:Liberation Sans"), []byte("font-family:Liberation Sans,Arial,sans-serif")), nil
}

func (f *figures) panel(writers int) (*plot.Plot, error) {
	plot.DefaultFont = font.Font{Typeface: "Liberation", Variant: "Sans"}
	p := plot.New()
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
	if err := line("PubSub", red, nil, func(n int) setting { return setting{way: pubSub, listeners: n} }); err != nil {
		return nil, err
	}
	for i, share_ := range slices.Backward(f.shares) {
		err := line("Tracking, "+share(share_)+" of the keys", shades[i%len(shades)], nil,
			func(n int) setting { return setting{tracking, n, share_} })
		if err != nil {
			return nil, err
		}
	}
	err := line("SET that nobody hears", black, []vg.Length{vg.Points(4), vg.Points(3)}, func(int) setting { return setting{way: set} })
	return p, err
}
