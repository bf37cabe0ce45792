package invalidate

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// A question says something of a write to those alone who hear it of the key's master,
// under the writer's table of slots.
func TestQuestionIsOfOneMasterAndOneTable(t *testing.T) {
	if homeOf("table", "a") == homeOf("table", "b") || homeOf("table", "a") == homeOf("other table", "a") {
		t.Error("a question is heard by those who were not asked")
	}
}

// Who is asked by way of several masters has answered when all answers are there, and
// never where no answer counts.
func TestAnswersOfAllMastersAreNeeded(t *testing.T) {
	s, by := newStream(Config{Mode: Tracking}), Sender{1}
	q := s.newQuestion(2)
	has := func(want bool, what string) {
		t.Helper()
		s.acks.mu.Lock()
		defer s.acks.mu.Unlock()
		if q.has(by.String()) != want {
			t.Errorf("%s: it counts: %t", what, !want)
		}
	}
	s.hearAnswer(by, q.ids[0])
	has(false, "one of two answers")
	s.hearAnswer(Sender{2}, q.ids[1])
	has(false, "the other one is another's")
	s.hearAnswer(by, q.ids[1])
	has(true, "both answers")
	q.void = true
	has(false, "an answer that says nothing")
}

// H16: a list may lack others for as long as a lease, once its slot has changed hands:
// from then on, however long it was where it was, and though it came back.
func TestH16_SlotThatChangedHandsIsNotSettledForALease(t *testing.T) {
	const slot, other = 5, 9000
	moved := strings.NewReplacer(" 0-8191", " 6-8191", " 8192-16383", " 0-5 8192-16383")
	later := strings.NewReplacer("0 0 3", "0 0 4")
	for name, tables := range map[string][]string{
		"it went":                   {moved.Replace(twoHalves)},
		"it went and came back":     {moved.Replace(twoHalves), twoHalves},
		"it went, then another did": {moved.Replace(twoHalves), later.Replace(moved.Replace(twoHalves))},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHalves(t)
			settled := func(slot uint16, want bool) {
				t.Helper()
				h.mu.Lock()
				defer h.mu.Unlock()
				if h.settled(slot) != want {
					t.Errorf("slot %d is settled: %t", slot, !want)
				}
			}
			h.begin(viewFrom(t, twoHalves), nil)
			settled(slot, true)
			h.now.Add(int64(time.Hour))
			for _, nodes := range tables {
				h.begin(viewFrom(t, nodes), nil)
			}
			settled(slot, false)
			settled(other, true)
			h.now.Add(patienceFor(MaxMaxStaleness) - 1)
			settled(slot, false)
			h.now.Add(1)
			settled(slot, true)
		})
	}
}

func TestWhoIsAskedAfterWritesInACluster(t *testing.T) {
	h := newHalves(t)
	h.session(t)
	ids := func(p *places) (all []string) {
		for _, m := range p.ask {
			all = append(all, m.id)
		}
		return slices.Sorted(slices.Values(all))
	}
	for name, test := range map[string]struct {
		written []uint16
		want    []string
	}{
		"of one slot":               {[]uint16{1}, []string{"a"}},
		"of two slots of a master":  {[]uint16{1, 2}, []string{"a"}},
		"of two slots of two":       {[]uint16{1, 9000}, []string{"a", "b"}},
		"of a Clear, so of any one": {nil, []string{"a", "b"}},
	} {
		p := h.placesOf(nameAt("b"), test.written)
		if got := ids(p); !slices.Equal(got, test.want) || p.list.id != "b" || p.lost || p.floor {
			t.Errorf("%s: %v are asked, want %v; list at %q, lost %t, floor %t", name, got, test.want, p.list.id, p.lost, p.floor)
		}
	}
	h.begin(viewFrom(t, strings.Replace(twoHalves, " 0-8191", " 10-8191", 1)), h.masters)
	if p := h.placesOf(nameAt("b"), []uint16{1, 9000}); !p.lost {
		t.Error("nobody is known to serve a slot, and all are asked who should be")
	}
	if p := h.placesOf(nameAt("b"), []uint16{9000}); p.lost {
		t.Error("the slot of another key voids the question")
	}
	h.begin(viewFrom(t, twoHalves), slices.DeleteFunc(slices.Clone(h.masters), func(m master) bool { return m.id == "a" }))
	if p := h.placesOf(nameAt("b"), []uint16{1}); !p.lost {
		t.Error("the session has not got the slot's master, and all are asked")
	}
	none := &cluster{t: &tracking{s: newStream(Config{})}}
	if p := none.placesOf("n", nil); !p.lost {
		t.Error("no master is known, and all are asked")
	}
}

// An answer counts where the master that was asked serves the key, by the table under
// which the question is heard, and its slot is not on the move.
func TestAnswersCountUnderTheWritersTableAlone(t *testing.T) {
	for name, test := range map[string]struct {
		written []uint16
		change  func(n *fakeNode)
		void    bool
	}{
		"all is well": {[]uint16{1}, func(*fakeNode) {}, false},
		"it sees another table": {[]uint16{1}, func(n *fakeNode) {
			n.nodes = said("a", strings.Replace(twoHalves, "0 0 2", "0 0 9", 1), "")
		}, true},
		"it is another node":                 {[]uint16{1}, func(n *fakeNode) { n.nodes = said("c", twoHalves, "") }, true},
		"it did not ask":                     {[]uint16{1}, func(n *fakeNode) { n.refuses = "PUBLISH" }, true},
		"it takes no writes":                 {[]uint16{1}, func(n *fakeNode) { n.refuses = "SET" }, true},
		"the slot is on its way":             {[]uint16{0, 1}, func(n *fakeNode) { n.nodes = said("a", twoHalves, "[1->-b]") }, true},
		"another slot is on its way":         {[]uint16{1}, func(n *fakeNode) { n.nodes = said("a", twoHalves, "[2->-b]") }, false},
		"any was written, one is on its way": {nil, func(n *fakeNode) { n.nodes = said("a", twoHalves, "[1->-b]") }, true},
	} {
		for _, list := range []string{"a", "b"} {
			t.Run(name+", the list at "+list, func(t *testing.T) {
				h := newHalves(t)
				h.session(t)
				p := h.placesOf(nameAt(list), test.written)
				h.a.says(test.change)
				q := h.s.newQuestion(len(p.ask))
				if _, _, err := p.askAll(t.Context(), q); err != nil || q.void != test.void {
					t.Errorf("void: %t, %v", q.void, err)
				}
			})
		}
	}
	h := newHalves(t)
	h.session(t)
	p := h.placesOf(nameAt("a"), []uint16{1})
	p.lost = true
	q := h.s.newQuestion(len(p.ask))
	if _, _, err := p.askAll(t.Context(), q); err != nil || !q.void {
		t.Errorf("not all were asked: void %t, %v", q.void, err)
	}
}

// H16: the list of who listens may lack some who have a lease: there is a floor.
func TestH16_ListOfAClusterThatMayLackOthers(t *testing.T) {
	const first = "uptime_in_seconds:100\r\nrole:master\r\nmaster_replid2:0000\r\n"
	promoted := strings.Replace(first, "replid2:0", "replid2:a", 1)
	young, old := time.Second, 2*MaxMaxStaleness
	member := Member{ID: "other", Mode: Tracking, Lease: time.Second, Where: "h/1"}
	for name, test := range map[string]struct {
		age    time.Duration // of the connection to the list's master
		change func(h *halves, n *fakeNode)
		floor  bool
	}{
		"an old connection, to whomever":        {old, func(_ *halves, n *fakeNode) { n.info = promoted }, false},
		"a young one, to a master of old":       {young, func(_ *halves, n *fakeNode) { n.info = first }, false},
		"a young one, to one that was promoted": {young, func(_ *halves, n *fakeNode) { n.info = promoted }, true},
		"one that was made while it was read": {old, func(h *halves, n *fakeNode) {
			n.on = func(command string) {
				if command == "ZRANGE" {
					h.dialed(n, 0)
				}
			}
		}, true},
		"the slot has changed hands": {old, func(h *halves, _ *fakeNode) {
			h.enter(viewFrom(t, strings.NewReplacer(" 0-8191", " 8192-16383", " 8192-16383", " 0-8191").Replace(twoHalves)))
			h.enter(h.view)
		}, true},
		"its master has it no more": {old, func(_ *halves, n *fakeNode) {
			n.nodes = said("a", strings.NewReplacer(" 0-8191", " 0", " 8192-16383", " 1-16383").Replace(twoHalves), "")
		}, true},
		"its master is not known": {old, func(h *halves, _ *fakeNode) {
			h.view = viewFrom(t, strings.Replace(twoHalves, " 0-8191", "", 1))
		}, true},
	} {
		for asked, slot := range map[string]uint16{"the list's master": 0, "another one": 9000} {
			t.Run(name+", asked is "+asked, func(t *testing.T) {
				h := newHalves(t)
				h.session(t)
				h.dialed(h.a, test.age)
				h.a.says(func(n *fakeNode) {
					n.members = []string{member.String(), "9999999999999"}
					test.change(h, n)
				})
				p := h.placesOf(nameAt("a"), []uint16{slot})
				members, floor, err := p.askAll(t.Context(), h.s.newQuestion(len(p.ask)))
				if err != nil || floor != test.floor || len(members) != 1 || members[0] != member {
					t.Errorf("%v, floor %t, %v; want %v, floor %t", members, floor, err, member, test.floor)
				}
			})
		}
	}
}
