//go:build unix

package main

import (
	"image/color"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/flipcache/flipcache/benchmarks/internal/report"
)

const panelWidth, panelHeight = 15 * vg.Centimeter, 11 * vg.Centimeter

// A panel shows one figure of every side on a logarithmic axis, from low to high
// with a mark; what is 0 has no place there, and is left out.
type panel struct {
	title, unit    string
	least          float64 // where the axis begins
	low, mark, top func(measure) float64
}

func panels() []panel {
	rate := func(m measure) float64 { return 100 * m.rate() }
	left := func(m measure) float64 { return float64(m.left) }
	quantile := func(q float64) func(measure) float64 {
		return func(m measure) float64 {
			if m.stale == 0 {
				return 0
			}
			return float64(m.age.ValueAtQuantile(q)) / 1000
		}
	}
	return []panel{
		{"stale reads (no mark: none)", "%", 1e-4, rate, rate, rate},
		{"age of stale reads: p50 to max, mark at p99", "ms", 1e-3, quantile(50), quantile(99), quantile(100)},
		{"entries left that Redis has not (no mark: none)", "entries", 0.5, left, left, left},
	}
}

// svg draws the panels side by side: a row a cache, FlipCache in red, rings
// without faults and full dots with.
func (f *figures) svg() ([]byte, error) {
	var row []*plot.Plot
	for _, p := range panels() {
		drawn, err := f.panel(p)
		if err != nil {
			return nil, err
		}
		row = append(row, drawn)
	}
	return report.SVG([][]*plot.Plot{row}, panelWidth, panelHeight)
}

func (f *figures) panel(p panel) (*plot.Plot, error) {
	drawn := report.NewPlot()
	drawn.Title.Text = p.title
	drawn.X.Label.Text = p.unit + ", logarithmic"
	drawn.X.Scale, drawn.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	names := make([]string, len(f.rows))
	for i, r := range f.rows {
		names[len(names)-1-i] = r.name
	}
	drawn.NominalY(names...)
	drawn.Add(plotter.NewGrid())
	for _, faults := range []bool{false, true} {
		var shown bool
		for i, r := range f.rows {
			m, y, shape := r.calm, float64(len(names)-1-i)+0.12, draw.GlyphDrawer(draw.RingGlyph{})
			if faults {
				m, y, shape = r.faults, y-0.24, draw.CircleGlyph{}
			}
			if p.top(m) == 0 {
				continue
			}
			style := draw.GlyphStyle{Color: color.Color(report.Black), Radius: vg.Points(3), Shape: shape}
			if r.ours {
				style.Color = report.Red
			}
			at := func(v float64) plotter.XY { return plotter.XY{X: max(p.least, v), Y: y} }
			line, err := plotter.NewLine(plotter.XYs{at(p.low(m)), at(p.top(m))})
			if err != nil {
				return nil, err
			}
			line.Color = style.Color
			mark, err := plotter.NewScatter(plotter.XYs{at(p.mark(m))})
			if err != nil {
				return nil, err
			}
			mark.GlyphStyle = style
			drawn.Add(line, mark)
			if !shown {
				shown = true
				drawn.Legend.Add(map[bool]string{false: "without faults", true: "with faults"}[faults], mark)
			}
		}
	}
	drawn.Legend.Top, drawn.Legend.Padding = true, vg.Points(2)
	drawn.X.Min, drawn.X.Max = p.least, max(10*p.least, 1.5*drawn.X.Max)
	drawn.Y.Min, drawn.Y.Max = -0.5, float64(len(names))+0.8 // room for the legend
	return drawn, nil
}
