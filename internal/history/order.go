package history

import (
	"cmp"
	"slices"
	"sort"
)

// order is what is known of the order of values: a graph whose edges say "not newer
// than". Its nodes are values and, between them, floors: a floor is as new as the
// newest of the values that lead to it. Two values on one cycle contradict.
type order struct {
	values int // nodes 0 to values-1 are values
	out    [][]edge
}

// An edge leads to a node; why is what it is there for, op the operation that says
// so, by its index.
type edge struct {
	to  int32
	why Promise
	op  int32
}

func newOrder(values int) *order { return &order{values, make([][]edge, values)} }

func (o *order) add(from, to int, why Promise, op int) {
	o.out[from] = append(o.out[from], edge{int32(to), why, int32(op)})
}

// A mark is a value at a time: of a floor, what is no newer than it from then on; of
// a bound, what is no older than the floor of just before.
type mark struct {
	at    int64
	value int
	why   Promise
	op    int
}

// bound says that each of bounded is no older than all of the floors whose time is
// before its own. Marks at the same time say nothing about each other.
func (o *order) bound(floors, bounded []mark) {
	slices.SortFunc(floors, func(a, b mark) int { return cmp.Compare(a.at, b.at) })
	first := len(o.out)
	for i, f := range floors {
		o.out = append(o.out, nil)
		o.add(f.value, first+i, f.why, f.op)
		if i > 0 {
			o.add(first+i-1, first+i, nothing, -1)
		}
	}
	for _, b := range bounded {
		if i := sort.Search(len(floors), func(i int) bool { return floors[i].at >= b.at }); i > 0 {
			o.add(first+i-1, b.value, b.why, b.op)
		}
	}
}

// contradiction returns the nodes of a strongly connected component that holds more
// than one value; nil: there is none. (Tarjan's algorithm, without recursion.)
func (o *order) contradiction() (component []int32) {
	n := len(o.out)
	index, low := make([]int32, n), make([]int32, n) // 0: not seen
	onStack := make([]bool, n)
	var stack []int32
	type frame struct{ node, next int32 }
	var path []frame
	var count int32
	visit := func(v int32) {
		count++
		index[v], low[v] = count, count
		stack, onStack[v] = append(stack, v), true
		path = append(path, frame{v, 0})
	}
	for root := range n {
		if index[root] != 0 {
			continue
		}
		visit(int32(root))
		for len(path) > 0 {
			f := &path[len(path)-1]
			v := f.node
			if int(f.next) < len(o.out[v]) {
				w := o.out[v][f.next].to
				f.next++
				if index[w] == 0 {
					visit(w)
				} else if onStack[w] {
					low[v] = min(low[v], index[w])
				}
				continue
			}
			path = path[:len(path)-1]
			if len(path) > 0 {
				p := path[len(path)-1].node
				low[p] = min(low[p], low[v])
			}
			if low[v] != index[v] {
				continue
			}
			at := slices.Index(stack, v)
			found := stack[at:]
			values := 0
			for _, w := range found {
				onStack[w] = false
				if int(w) < o.values {
					values++
				}
			}
			if values > 1 {
				return slices.Clone(found)
			}
			stack = stack[:at]
		}
	}
	return nil
}

// cycle returns the edges of a shortest cycle through two values of a component.
func (o *order) cycle(component []int32) (shortest []edge) {
	inside := make(map[int32]bool, len(component))
	for _, v := range component {
		inside[v] = true
	}
	// From a value back to it, having been at another: places are (node, has been).
	type place struct {
		node int32
		been bool
	}
	type step struct {
		from place
		by   edge
	}
	tries := 0
	for _, start := range component {
		if int(start) >= o.values {
			continue
		}
		if tries++; tries > 200 { // short enough by then
			break
		}
		goal := place{start, true}
		came := map[place]step{}
		for queue := []place{{start, false}}; len(queue) > 0; queue = queue[1:] {
			at := queue[0]
			for _, e := range o.out[at.node] {
				next := place{e.to, at.been || int(e.to) < o.values && e.to != start}
				if _, seen := came[next]; seen || !inside[e.to] {
					continue
				}
				came[next] = step{at, e}
				queue = append(queue, next)
			}
			if _, found := came[goal]; found {
				break
			}
		}
		if _, found := came[goal]; !found {
			continue
		}
		var back []edge
		for p := goal; len(back) == 0 || p != (place{start, false}); p = came[p].from {
			back = append(back, came[p].by)
		}
		if shortest == nil || len(back) < len(shortest) {
			slices.Reverse(back)
			shortest = back
		}
	}
	return shortest
}
