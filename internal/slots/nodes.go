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
	// Leaving are the slots of this node that are on their way to another master,
	// which takes the writes of keys that are missing here.
	Leaving []Move

	served []served
}

// A Move is of a slot, to the master of an id.
type Move struct {
	Slot uint16
	To   string
}

// served are slots in a row, and the id of their master.
type served struct {
	first, last uint16
	id          string
}

// Owner returns the id of the master that serves slot; "" if none does.
func (v View) Owner(slot uint16) string {
	for _, s := range v.served {
		if s.first <= slot && slot <= s.last {
			return s.id
		}
	}
	return ""
}

// ToUnknown says whether slots of this node are on their way to one that serves none
// yet.
func (v View) ToUnknown() bool {
	return slices.ContainsFunc(v.Leaving, func(m Move) bool { return v.Masters[m.To] == "" })
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
		for _, r := range f[8:] { // "[93->-id]" leaves, "[93-<-id]" comes
			if slot, to, ok := strings.Cut(strings.Trim(r, "[]"), "->-"); ok {
				n, err := parseSlot(slot)
				if err != nil {
					return v, fmt.Errorf("CLUSTER NODES: %q: %w", line, err)
				}
				v.Leaving = append(v.Leaving, Move{n, to})
			}
		}
		ranges := slices.DeleteFunc(f[8:], func(r string) bool { return strings.HasPrefix(r, "[") })
		if len(ranges) == 0 {
			continue
		}
		for _, r := range ranges {
			from, to, many := strings.Cut(r, "-")
			first, err := parseSlot(from)
			last := first
			if many && err == nil {
				last, err = parseSlot(to)
			}
			if err != nil {
				return v, fmt.Errorf("CLUSTER NODES: %q: %w", line, err)
			}
			v.served = append(v.served, served{first, last, f[0]})
		}
		v.Masters[f[0]] = Tag(v.served[len(v.served)-len(ranges)].first)
		table = append(table, strings.Join(append([]string{f[0], f[6]}, ranges...), " "))
	}
	slices.Sort(table)
	v.Table = strings.Join(table, "\n")
	return v, nil
}

func parseSlot(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 14)
	return uint16(n), err
}
