package slots

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A View is what one node says of its cluster.
type View struct {
	Me string // its id, if it is a master; else ""
	// Table is all masters that serve slots, each with its epoch and its slots. Epochs
	// grow whenever slots change hands, so a slot that went and came back changes it.
	Table   string
	Masters map[string]string // the Tag of a slot of each of them, by its id
}

// ParseNodes reads the reply to CLUSTER NODES: a line a node, of
//
//	id address flags master-id ping pong epoch link slots...
func ParseNodes(reply string) (v View, err error) {
	v.Masters = make(map[string]string)
	var table []string
	for line := range strings.Lines(strings.TrimPrefix(reply, "txt:")) { // RESP3 says what kind of string it is
		f := strings.Fields(line)
		if len(f) < 8 {
			return v, fmt.Errorf("CLUSTER NODES: %q is no node", line)
		}
		flags := strings.Split(f[2], ",")
		if !slices.Contains(flags, "master") {
			continue
		}
		if slices.Contains(flags, "myself") {
			v.Me = f[0]
		}
		ranges := slices.DeleteFunc(f[8:], func(r string) bool { return strings.HasPrefix(r, "[") }) // about to move
		if len(ranges) == 0 {
			continue
		}
		first, _, _ := strings.Cut(ranges[0], "-")
		slot, err := strconv.ParseUint(first, 10, 14)
		if err != nil {
			return v, fmt.Errorf("CLUSTER NODES: %q: %w", line, err)
		}
		v.Masters[f[0]] = Tag(uint16(slot))
		table = append(table, strings.Join(append([]string{f[0], f[6]}, ranges...), " "))
	}
	slices.Sort(table)
	v.Table = strings.Join(table, "\n")
	return v, nil
}
