package main

import (
	"image/color"
	"math"
	"slices"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/flipcache/flipcache/benchmarks/internal/report"
)

const (
	panelWidth, panelHeight = 13 * vg.Centimeter, 9 * vg.Centimeter
	panelsARow              = 2
)

// svg draws a panel for each topic that was measured: a row a side, the lowest
// on top, FlipCache in red.
func (f figures) svg() ([]byte, error) {
	var rows [][]*plot.Plot
	n := 0
	for _, t := range topics {
		lines := f.lines(t)
		if len(lines) == 0 {
			continue
		}
		p, err := panel(t, lines)
		if err != nil {
			return nil, err
		}
		if n%panelsARow == 0 {
			rows = append(rows, make([]*plot.Plot, panelsARow))
		}
		rows[len(rows)-1][n%panelsARow] = p
		n++
	}
	return report.SVG(rows, panelWidth, panelHeight)
}

func panel(t topic, lines []line) (*plot.Plot, error) {
	p := report.NewPlot()
	p.Title.Text = t.title
	p.X.Label.Text = "ns, logarithmic"
	if t.unit == bytes {
		p.X.Label.Text = "bytes, logarithmic"
	}
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, ticks{}
	lines = slices.Clone(lines)
	slices.Reverse(lines)
	names := make([]string, len(lines))
	for i, l := range lines {
		names[i] = l.side
	}
	p.NominalY(names...)
	p.Add(plotter.NewGrid())
	for c, column := range t.columns {
		for _, ours := range []bool{false, true} {
			var xy plotter.XYs
			for y, l := range lines {
				if ourOwn(l.side) == ours && len(l.columns[c]) > 0 {
					// A logarithm wants more than nothing.
					xy = append(xy, plotter.XY{X: max(0.1, l.columns[c].Median()), Y: float64(y)})
				}
			}
			if len(xy) == 0 {
				continue
			}
			dots, err := plotter.NewScatter(xy)
			if err != nil {
				return nil, err
			}
			dots.GlyphStyle = style(c, ours)
			p.Add(dots)
			if !ours && len(t.columns) > 1 {
				p.Legend.Add(column.head, dots)
			}
		}
	}
	p.Legend.Top, p.Legend.Padding = true, vg.Points(2)
	low, high := p.X.Min, p.X.Max
	p.X.Min, p.X.Max = low/1.3, high*1.3
	return p, nil
}

// style returns a full dot for the first column, a ring for the second.
func style(column int, ours bool) draw.GlyphStyle {
	s := draw.GlyphStyle{Color: color.Color(report.Black), Radius: vg.Points(3), Shape: draw.CircleGlyph{}}
	if column > 0 {
		s.Shape = draw.RingGlyph{}
	}
	if ours {
		s.Color = report.Red
	}
	return s
}

// ticks are at 1, 2 and 5 times the powers of ten.
type ticks struct{}

func (ticks) Ticks(low, high float64) (all []plot.Tick) {
	for e := math.Floor(math.Log10(low)); e <= math.Ceil(math.Log10(high)); e++ {
		for _, m := range []float64{1, 2, 5} {
			v := m * math.Pow(10, e)
			if v < low || v > high {
				continue
			}
			t := plot.Tick{Value: v}
			if m == 1 || high/low < 30 {
				t.Label = strconv.FormatFloat(v, 'f', -1, 64)
			}
			all = append(all, t)
		}
	}
	return all
}
