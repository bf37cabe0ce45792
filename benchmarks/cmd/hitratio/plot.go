package main

import (
	"image/color"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/flipcache/flipcache/benchmarks/internal/report"
)

const panelWidth, panelHeight = 17 * vg.Centimeter, 10 * vg.Centimeter

// svg draws the cells without invalidations beside those with: the hit ratios of
// all policies, and below them FlipCache's lead over the better library.
func (f *figures) svg() ([]byte, error) {
	var ratios, leads []*plot.Plot
	for _, part := range []struct {
		title string
		in    where
	}{{"hit ratio, %", plain}, {"hit ratio, %, every 20th access invalidated before", invalidated}} {
		var rows []*row
		for _, r := range f.rows {
			if part.in(r) {
				rows = append(rows, r)
			}
		}
		p, err := f.ratios(part.title, rows)
		if err != nil {
			return nil, err
		}
		ratios = append(ratios, p)
		if !f.judged() {
			continue
		}
		if p, err = f.leads(rows); err != nil {
			return nil, err
		}
		leads = append(leads, p)
	}
	panels := [][]*plot.Plot{ratios}
	if len(leads) > 0 {
		panels = append(panels, leads)
	}
	return report.SVG(panels, panelWidth, panelHeight)
}

// cells makes the rows' names the X axis of p.
func cells(p *plot.Plot, rows []*row) {
	var names []string
	for _, r := range rows {
		plain := *r
		plain.invalidations = false
		names = append(names, plain.name())
	}
	p.NominalX(names...)
	p.X.Tick.Label.Rotation = math.Pi / 2
	p.X.Tick.Label.XAlign, p.X.Tick.Label.YAlign = text.XRight, text.YCenter
}

func (f *figures) ratios(title string, rows []*row) (*plot.Plot, error) {
	p := report.NewPlot()
	p.Title.Text = title
	cells(p, rows)
	p.Add(plotter.NewGrid())
	p.Y.Min, p.Y.Max = 0, 100
	p.Legend.Top = true
	// FlipCache comes last, over the others.
	for i := len(f.policies) - 1; i >= 0; i-- {
		var xy plotter.XYs
		for x, r := range rows {
			xy = append(xy, plotter.XY{X: float64(x), Y: r.ratio[i]})
		}
		dots, err := plotter.NewScatter(xy)
		if err != nil {
			return nil, err
		}
		dots.GlyphStyle = f.style(i)
		p.Add(dots)
	}
	p.X.Max += float64(len(rows)) / 5 // room for the legend
	for i, policy := range f.policies {
		dots := &plotter.Scatter{GlyphStyle: f.style(i)}
		p.Legend.Add(policy.Name, dots)
	}
	return p, nil
}

func (f *figures) style(policy int) draw.GlyphStyle {
	shapes := []draw.GlyphDrawer{draw.CircleGlyph{}, draw.TriangleGlyph{}, draw.SquareGlyph{}, draw.CrossGlyph{}, draw.PlusGlyph{}, draw.RingGlyph{}, draw.PyramidGlyph{}}
	s := draw.GlyphStyle{Color: report.Red, Radius: vg.Points(3.5), Shape: shapes[policy%len(shapes)]}
	if f.policies[policy].Name != ours {
		s.Color, s.Radius = report.Shades[policy%len(report.Shades)], vg.Points(2.5)
	}
	return s
}

func (f *figures) leads(rows []*row) (*plot.Plot, error) {
	p := report.NewPlot()
	p.Title.Text = "FlipCache above the better of otter and theine, points"
	cells(p, rows)
	p.Add(plotter.NewGrid())
	for _, side := range []struct {
		of    func(lead float64) float64
		color color.Color
	}{{func(v float64) float64 { return max(v, 0) }, report.Red}, {func(v float64) float64 { return min(v, 0) }, report.Black}} {
		var values plotter.Values
		for _, r := range rows {
			values = append(values, side.of(f.lead(r)))
		}
		bars, err := plotter.NewBarChart(values, panelWidth/vg.Length(2*len(rows)+4))
		if err != nil {
			return nil, err
		}
		bars.Color, bars.LineStyle.Width = side.color, 0
		p.Add(bars)
	}
	p.X.Max += float64(len(rows)) / 5 // as wide as the panel above
	return p, nil
}
