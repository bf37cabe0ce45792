package hitratio

import (
	"math"
	"sort"
)

// random is splitmix64.
type random uint64

func (r *random) next() uint64 {
	*r += 0x9e3779b97f4a7c15
	z := uint64(*r)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// float returns a number in [0, 1).
func (r *random) float() float64 { return float64(r.next()>>11) / (1 << 53) }

// ranks is the cumulative distribution of ranks 0, 1, ...: rank r has the weight
// 1/(r+1)^s.
type ranks []float64

func zipfRanks(n int, s float64) ranks {
	cumulative := make(ranks, n)
	sum := 0.0
	for i := range cumulative {
		sum += 1 / math.Pow(float64(i+1), s)
		cumulative[i] = sum
	}
	for i := range cumulative {
		cumulative[i] /= sum
	}
	return cumulative
}

func (c ranks) draw(r *random) uint64 {
	return uint64(min(sort.SearchFloat64s(c, r.float()), len(c)-1))
}

// Zipf returns accesses to n keys, 0 the most frequent one: the key r comes with
// the weight 1/(r+1)^s.
func Zipf(n int, s float64, length int, seed uint64) []uint64 {
	c, r := zipfRanks(n, s), random(seed)
	out := make([]uint64, length)
	for i := range out {
		out[i] = c.draw(&r)
	}
	return out
}

// scan returns 60 rounds of 10,000 accesses by Zipf(0.9) to 50,000 keys, and then
// to 5,000 keys of a ring of 100,000 others, on from where the last round
// stopped.
func scan(seed uint64) (out []uint64) {
	c, r := zipfRanks(50_000, 0.9), random(seed)
	ring := uint64(0)
	for range 60 {
		for range 10_000 {
			out = append(out, c.draw(&r))
		}
		for range 5_000 {
			out = append(out, 1<<32+ring%100_000)
			ring++
		}
	}
	return out
}

// shift returns a million accesses by Zipf(0.9) to 10,000 ranks, whose keys are
// all new every 50,000 accesses.
func shift(seed uint64) []uint64 {
	c, r := zipfRanks(10_000, 0.9), random(seed)
	out := make([]uint64, 1_000_000)
	for i := range out {
		out[i] = uint64(i/50_000)<<32 + c.draw(&r)
	}
	return out
}

// drift returns a million accesses, of which each tenth brings a new key: the
// newer a key, the more often it comes, by Zipf(0.8) over the 5,000 newest.
func drift(seed uint64) []uint64 {
	c, r := zipfRanks(5_000, 0.8), random(seed)
	out := make([]uint64, 1_000_000)
	for i := range out {
		out[i] = 1<<40 + uint64(i/10) - c.draw(&r)
	}
	return out
}

// mix returns, twice, 100,000 accesses each of a drift over 2,000 ranks, of a loop
// over 1,200 keys, and of Zipf(0.9) over 50,000 keys.
func mix(seed uint64) (out []uint64) {
	newest, hot, r := zipfRanks(2_000, 0.8), zipfRanks(50_000, 0.9), random(seed)
	const phase = 100_000
	for round := range 2 {
		for i := range phase {
			out = append(out, 1<<40+uint64(round*phase/10+i/10)-newest.draw(&r))
		}
		for i := range phase {
			out = append(out, 1<<41+uint64(i%1_200))
		}
		for range phase {
			out = append(out, hot.draw(&r))
		}
	}
	return out
}
