package report

import (
	"bytes"
	"image/color"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// The colours of plots can be told apart by those who see no red or no green
// (Okabe, Ito). Red is FlipCache's.
var (
	Black  = color.RGBA{A: 255}
	Grey   = color.RGBA{130, 130, 130, 255}
	Red    = color.RGBA{213, 94, 0, 255}
	Shades = []color.Color{
		color.RGBA{86, 180, 233, 255}, color.RGBA{0, 158, 115, 255},
		color.RGBA{0, 114, 178, 255}, color.RGBA{204, 121, 167, 255},
		color.RGBA{230, 159, 0, 255}, Grey,
	}
)

// NewPlot returns an empty plot in the typeface of all plots.
func NewPlot() *plot.Plot {
	plot.DefaultFont = font.Font{Typeface: "Liberation", Variant: "Sans"}
	return plot.New()
}

// SVG draws rows of plots, each of the given size. All rows are of one length; a
// nil in them is an empty place.
func SVG(rows [][]*plot.Plot, width, height vg.Length) ([]byte, error) {
	cols := len(rows[0])
	c := vgsvg.New(width*vg.Length(cols), height*vg.Length(len(rows)))
	tiles := draw.Tiles{Rows: len(rows), Cols: cols, PadX: vg.Points(12), PadY: vg.Points(12), PadLeft: vg.Points(4), PadRight: vg.Points(6), PadTop: vg.Points(4)}
	for i, row := range plot.Align(rows, tiles, draw.New(c)) {
		for j, canvas := range row {
			if rows[i][j] != nil {
				rows[i][j].Draw(canvas)
			}
		}
	}
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		return nil, err
	}
	// Arial is as wide, where there is no Liberation.
	return bytes.ReplaceAll(b.Bytes(), []byte("font-family:Liberation Sans"), []byte("font-family:Liberation Sans,Arial,sans-serif")), nil
}
