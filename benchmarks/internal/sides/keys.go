package sides

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// Keys returns n keys of equal length.
func Keys(n int) []string {
	ks := make([]string, n)
	for i := range ks {
		ks[i] = fmt.Sprintf("user:%06d", i)
	}
	return ks
}

// Shuffled returns ks times over, in an order that is the same in each run. The
// strings are copies: who looks them up has to compare the bytes.
func Shuffled(ks []string, times int) []string {
	order := make([]string, 0, len(ks)*times)
	for _, k := range ks {
		order = append(order, slices.Repeat([]string{strings.Clone(k)}, times)...)
	}
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	return order
}
