package sides

import "testing"

func TestQuantileInterpolates(t *testing.T) {
	for _, c := range []struct {
		xs      []float64
		q, want float64
	}{
		{[]float64{7}, 0.5, 7},
		{[]float64{3, 1, 2}, 0.5, 2},
		{[]float64{4, 1, 2, 3}, 0.5, 2.5},
		{[]float64{1, 2}, 1, 2},
		{[]float64{0, 100}, 0.99, 99},
	} {
		if got := Quantile(c.xs, c.q); got != c.want {
			t.Errorf("Quantile(%v, %v): got %v, want %v", c.xs, c.q, got, c.want)
		}
	}
}
